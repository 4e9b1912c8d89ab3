//! A machine that nobody attends: `sealpost-device` with a home of its own.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Answer, Clock, Person, Process, Schema, program};

/// The program that is tested in place of the one beside the tests, where somebody names it: `make device` does.
pub const DEVICE_PROGRAM: &str = "SEALPOST_TEST_DEVICE";

/// A device.
#[derive(Debug)]
pub struct Sensor {
    name: String,
    broker: String,
    home: PathBuf,
    _dir: TempDir,
    options: Vec<OsString>,
    clock: Option<Arc<Clock>>,
}

impl Sensor {
    /// A device without keys, that gathers for a moment only.
    #[must_use]
    pub fn new(name: &str, broker_url: &str) -> Sensor {
        let dir = tempfile::tempdir().unwrap();
        Sensor {
            name: name.into(),
            broker: broker_url.into(),
            home: dir.path().join("home"),
            _dir: dir,
            options: Vec::new(),
            clock: None,
        }
    }

    /// The same device with a home there.
    #[must_use]
    pub fn living_at(self, home: PathBuf) -> Sensor {
        Sensor { home, ..self }
    }

    /// The same device with options for every start.
    #[must_use]
    pub fn with<S: AsRef<OsStr>>(mut self, options: &[S]) -> Sensor {
        let options = options.iter().map(|option| option.as_ref().to_owned());
        self.options.extend(options);
        self
    }

    /// The same device, which sends to this person.
    #[must_use]
    pub fn reporting_to(self, reader: &Person) -> Sensor {
        let link = reader.run(&["invite"]);
        assert_eq!(link.code, 0, "{link:?}");
        self.with(&["--to", &link.stdout])
    }

    /// The same device with another clock.
    #[must_use]
    pub fn living_by(mut self, clock: &Arc<Clock>) -> Sensor {
        self.clock = Some(Arc::clone(clock));
        self
    }

    /// From now on the device uses another broker.
    pub fn move_to(&mut self, broker_url: &str) {
        self.broker = broker_url.into();
    }

    /// Where it keeps things.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The same home in the hands of somebody with the client.
    #[must_use]
    pub fn opened(&self) -> Person {
        Person::newcomer(&self.name, &self.broker).living_at(self.home.clone())
    }

    /// The program with its options, `--json` among them.
    #[must_use]
    pub fn command(&self) -> Command {
        let program = std::env::var_os(DEVICE_PROGRAM)
            .map_or_else(|| program("sealpost-device"), PathBuf::from);
        let mut command = Command::new(program);
        command
            .args(["--json", "--user", &self.name, "--broker", &self.broker])
            .arg("--home")
            .arg(&self.home)
            .args(&self.options);
        for (name, _) in std::env::vars() {
            if name.starts_with("SEALPOST_") {
                command.env_remove(name);
            }
        }
        command.env("SEALPOST_DEVICE_GATHER", "20ms");
        if let Some(clock) = &self.clock {
            clock.put_on(&mut command);
        }
        command
    }

    /// Starts it.
    #[must_use]
    pub fn start(&self) -> Process {
        Process::spawn(&self.name, &mut self.command())
    }

    /// Runs it over these lines to its end, with more arguments.
    #[must_use]
    pub fn run(&self, arguments: &[&str], lines: &[&str]) -> Answer {
        let mut process = Process::spawn(&self.name, self.command().args(arguments));
        for line in lines {
            process.try_say(line);
        }
        process.hush();
        let status = process.wait();
        Answer {
            code: status.code().unwrap_or(-1),
            stdout: process.stdout().join("\n"),
            stderr: process.stderr().join("\n"),
        }
    }

    /// The link that the reader adds.
    #[must_use]
    pub fn link(&self) -> String {
        let answer = self.run(&["link"], &[]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.events()[0]["link"].as_str().unwrap().to_owned()
    }
}

/// What a device or a reader printed so far that is this event, each as the schema has it.
#[must_use]
pub fn events_of(process: &Process, event: &str) -> Vec<Value> {
    let lines = process.stdout();
    let events = lines.iter().map(|line| {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        Schema::Events.assert_fits(&event);
        event
    });
    events.filter(|line| line["event"] == event).collect()
}
