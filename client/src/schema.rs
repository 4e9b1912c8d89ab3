//! JSON schemas (2020-12) of what is written for programs, made from the types that are written. Checked in under
//! `client/schema`; `make schema` writes them again.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::daemon::Written;
use crate::event::Event;
use crate::history::Remembered;

/// Every schema, with the name of its file.
#[must_use]
pub fn all() -> [(&'static str, Schema); 3] {
    [
        ("events.json", of::<Event>()),
        ("history.json", of::<Remembered>()),
        ("daemon.json", of::<Written<'_>>()),
    ]
}

/// Members may be added later: the schemas leave room for them.
fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}

/// As it is kept in a file.
///
/// # Errors
/// When it has no text, which does not happen.
pub fn text(schema: &Schema) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(schema)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_schemas_are_those_of_the_types() {
        for (name, schema) in all() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("schema")
                .join(name);
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                kept == text(&schema).unwrap(),
                "{name} is not what the types say: run `make schema`"
            );
        }
    }
}
