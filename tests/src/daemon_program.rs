//! A program that asks a daemon.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{PATIENCE, Person};

/// A program that talks with a daemon.
#[derive(Debug)]
pub struct Program {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// What came while something else was waited for.
    earlier: Vec<Value>,
    number: u64,
}

impl Program {
    /// Where a person's daemon listens.
    #[must_use]
    pub fn socket(person: &Person) -> PathBuf {
        person.home().join("daemon/daemon.sock")
    }

    /// Connects to a person's daemon.
    #[must_use]
    pub fn of(person: &Person) -> Program {
        Program::connect(&Program::socket(person))
    }

    /// Connects to a socket.
    #[must_use]
    pub fn connect(socket: &Path) -> Program {
        let writer = UnixStream::connect(socket).unwrap();
        writer.set_read_timeout(Some(PATIENCE)).unwrap();
        Program {
            reader: BufReader::new(writer.try_clone().unwrap()),
            writer,
            earlier: Vec::new(),
            number: 0,
        }
    }

    /// The next line, whatever it is. None at the end.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        // Who is cut off with something unread sees an error instead of an end.
        let _ = self.reader.read_line(&mut line);
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Waits for a line that is wanted.
    pub fn expect(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.earlier.iter().position(&wanted) {
            return self.earlier.remove(at);
        }
        loop {
            let line = self.line().expect("a daemon that is there");
            if wanted(&line) {
                return line;
            }
            self.earlier.push(line);
        }
    }

    /// Waits for an event of that name.
    pub fn event(&mut self, name: &str) -> Value {
        self.expect(|line| line["params"]["event"] == name)["params"].clone()
    }

    /// Writes a line, perhaps to a daemon that has cut us off.
    pub fn say(&mut self, line: &str) {
        let _ = writeln!(self.writer, "{line}");
    }

    /// Asks, and waits for the answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let number = self.number;
        let request = json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": params });
        self.say(&request.to_string());
        self.expect(|line| line["id"] == number)
    }

    /// From now on events come.
    pub fn subscribe(&mut self, how: &str) {
        let answer = self.call("subscribe", json!({ "ack": how }));
        assert_eq!(answer["result"], json!({}), "{answer}");
    }

    /// Acknowledges a message.
    pub fn ack(&mut self, message: &Value) {
        let name = json!({ "from": message["from"], "id": message["id"] });
        let answer = self.call("ack", name);
        assert_eq!(answer["result"], json!({}), "{answer}");
    }
}
