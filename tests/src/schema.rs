//! What the programs write for others, judged by the schemas that are checked in.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::root;

/// A checked-in schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// What a command with `--json` writes.
    Events,
    /// What `history --json` writes: events with more members.
    History,
    /// What the daemon writes to its clients.
    Daemon,
}

impl Schema {
    /// Panics when a line does not fit. Members that the schema does not name do not fit either, though readers are to
    /// ignore them: here they are ones that were forgotten.
    pub fn assert_fits(self, line: &Value) {
        let problems: Vec<String> = self
            .validator()
            .iter_errors(line)
            .map(|error| error.to_string())
            .collect();
        assert!(problems.is_empty(), "{self:?}: {line}: {problems:?}");
    }

    fn validator(self) -> &'static Validator {
        static EVENTS: OnceLock<Validator> = OnceLock::new();
        static HISTORY: OnceLock<Validator> = OnceLock::new();
        static DAEMON: OnceLock<Validator> = OnceLock::new();
        let (cell, name) = match self {
            Schema::Events => (&EVENTS, "events.json"),
            Schema::History => (&HISTORY, "history.json"),
            Schema::Daemon => (&DAEMON, "daemon.json"),
        };
        cell.get_or_init(|| {
            let path = root().join("client/schema").join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            let mut schema: Value = serde_json::from_str(&text).unwrap();
            // Those are made of two parts, neither of which knows the other's members.
            if self != Schema::History {
                close(&mut schema);
            }
            jsonschema::validator_for(&schema).unwrap()
        })
    }
}

/// Leaves no room for other members.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if is_object(members) {
                members.insert("additionalProperties".into(), false.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

fn is_object(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object")
}
