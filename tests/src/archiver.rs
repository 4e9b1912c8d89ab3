//! An archiver under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Clock, PATIENCE, Process, program};

/// An archiver and its directory.
#[derive(Debug)]
pub struct Archiver {
    name: String,
    dir: PathBuf,
    /// Removed with the archiver.
    _owned: Option<TempDir>,
    key: String,
    process: Option<Process>,
    clock: Option<Arc<Clock>>,
}

impl Archiver {
    /// Makes a directory and a key; nothing runs yet.
    #[must_use]
    pub fn prepare() -> Archiver {
        Archiver::named("archiver")
    }

    /// As [`Archiver::prepare`], under another name.
    #[must_use]
    pub fn named(name: &str) -> Archiver {
        let owned = tempfile::tempdir().unwrap();
        let mut archiver = Archiver::living_in(name, owned.path().to_owned());
        archiver._owned = Some(owned);
        archiver
    }

    /// As [`Archiver::named`], in a directory of the test's.
    #[must_use]
    pub fn living_in(name: &str, dir: PathBuf) -> Archiver {
        let output = Command::new(program("sealpost-archiver"))
            .arg("key")
            .arg("--dir")
            .arg(&dir)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Archiver {
            name: name.to_owned(),
            dir,
            _owned: None,
            key,
            process: None,
            clock: None,
        }
    }

    /// From now on its programs see this clock.
    pub fn live_by(&mut self, clock: &Arc<Clock>) {
        self.clock = Some(Arc::clone(clock));
    }

    /// Runs another of its commands on its directory, which has to succeed. Returns what it printed.
    #[must_use]
    pub fn administer(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("sealpost-archiver"));
        command.args(arguments).arg("--dir").arg(&self.dir);
        if let Some(clock) = &self.clock {
            clock.put_on(&mut command);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the broker's `--archiver` takes.
    #[must_use]
    pub fn credential(&self) -> String {
        format!("{}={}", self.name, self.key)
    }

    /// Starts it and waits until it has subscribed.
    pub fn run(&mut self, broker_url: &str) -> &mut Process {
        self.run_with::<&str>(broker_url, &[])
    }

    /// As [`Archiver::run`], with more options.
    pub fn run_with<S: AsRef<OsStr>>(&mut self, broker_url: &str, options: &[S]) -> &mut Process {
        let process = self.start(broker_url, options);
        process.expect("archiving inbox/+");
        process
    }

    /// Starts it and does not wait.
    pub fn start<S: AsRef<OsStr>>(&mut self, broker_url: &str, options: &[S]) -> &mut Process {
        let mut command = Command::new(program("sealpost-archiver"));
        command
            .args(["run", "--broker", broker_url, "--name", &self.name])
            .args(options)
            .arg("--dir")
            .arg(&self.dir);
        if let Some(clock) = &self.clock {
            clock.put_on(&mut command);
        }
        self.process
            .insert(Process::spawn("archiver", &mut command))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running archiver")
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("encrypted_logs.jsonl")
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The whole lines of its log.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(str::to_owned).collect()
    }

    /// Waits until its log has so many lines.
    pub fn expect_lines(&self, count: usize) -> Vec<String> {
        self.expect_lines_within(count, PATIENCE)
    }

    /// As [`Archiver::expect_lines`], with more patience.
    pub fn expect_lines_within(&self, count: usize, patience: Duration) -> Vec<String> {
        let until = Instant::now() + patience;
        loop {
            // A file has no event to wait for that is the same everywhere.
            let lines = self.lines();
            if lines.len() >= count {
                return lines;
            }
            assert!(
                Instant::now() < until,
                "the archive has {} lines instead of {count}",
                lines.len()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
