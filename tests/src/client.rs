//! A person at the `sealpost` command line.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Clock, Process, Schema, program};

/// A person with a home directory and a broker to talk to.
#[derive(Debug)]
pub struct Person {
    name: String,
    broker: String,
    home: PathBuf,
    /// Where the home is in, if it is to go with the person.
    _dir: Option<TempDir>,
    options: Vec<OsString>,
    clock: Option<Arc<Clock>>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// The objects printed by `--json`, each as the schema has it.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                let event: Value =
                    serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                match event.get("imported") {
                    Some(_) => Schema::History.assert_fits(&event),
                    None => Schema::Events.assert_fits(&event),
                }
                event
            })
            .collect()
    }
}

impl Person {
    /// A person without keys.
    #[must_use]
    pub fn newcomer(name: &str, broker_url: &str) -> Person {
        let dir = tempfile::tempdir().unwrap();
        Person {
            name: name.into(),
            broker: broker_url.into(),
            home: dir.path().to_owned(),
            _dir: Some(dir),
            options: Vec::new(),
            clock: None,
        }
    }

    /// The same person with a home there, which stays when the person is gone.
    #[must_use]
    pub fn living_at(self, home: PathBuf) -> Person {
        Person {
            home,
            _dir: None,
            ..self
        }
    }

    /// A person with keys that lie unencrypted at rest, published at the broker.
    #[must_use]
    pub fn settle(name: &str, broker_url: &str) -> Person {
        Person::newcomer(name, broker_url).settled()
    }

    /// The same person with options for every command.
    #[must_use]
    pub fn with<S: AsRef<OsStr>>(mut self, options: &[S]) -> Person {
        let options = options.iter().map(|option| option.as_ref().to_owned());
        self.options.extend(options);
        self
    }

    /// The same person with keys, as [`Person::settle`] makes them.
    #[must_use]
    pub fn settled(self) -> Person {
        let person = self;
        let answer = person.run(&["keys", "init", "--no-passphrase"]);
        assert_eq!(answer.code, 0, "{answer:?}");
        person
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on the person uses another broker.
    pub fn move_to(&mut self, broker_url: &str) {
        self.broker = broker_url.into();
    }

    /// From now on the person's programs see this clock.
    pub fn live_by(&mut self, clock: &Arc<Clock>) {
        self.clock = Some(Arc::clone(clock));
    }

    /// Where the person keeps things.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The command line, ready for arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("sealpost"));
        command
            .args(["--user", &self.name, "--broker", &self.broker])
            .arg("--home")
            .arg(&self.home)
            .args(&self.options);
        for variable in [
            "SEALPOST_USER",
            "SEALPOST_BROKER",
            "SEALPOST_CA",
            "SEALPOST_CLIENT_CERT",
            "SEALPOST_CLIENT_KEY",
            "SEALPOST_PROXY",
            "SEALPOST_HOME",
            "SEALPOST_REALM",
        ] {
            command.env_remove(variable);
        }
        if let Some(clock) = &self.clock {
            clock.put_on(&mut command);
        }
        command
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let mut process = self.start(arguments);
        process.hush();
        let status = process.wait();
        Answer {
            code: status.code().unwrap_or(-1),
            stdout: process.stdout().join("\n"),
            stderr: process.stderr().join("\n"),
        }
    }

    /// Starts a command that goes on.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::spawn(&self.name, self.command().args(arguments))
    }
}
