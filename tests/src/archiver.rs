//! An archiver under test.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{PATIENCE, Process, program};

/// An archiver and its directory.
#[derive(Debug)]
pub struct Archiver {
    dir: TempDir,
    key: String,
    process: Option<Process>,
}

impl Archiver {
    /// Makes a directory and a key; nothing runs yet.
    #[must_use]
    pub fn prepare() -> Archiver {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(program("sealpost-archiver"))
            .arg("key")
            .arg("--dir")
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Archiver {
            dir,
            key,
            process: None,
        }
    }

    /// What the broker's `--archiver` takes.
    #[must_use]
    pub fn credential(&self) -> String {
        format!("archiver={}", self.key)
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
            .args(["run", "--broker", broker_url])
            .args(options)
            .arg("--dir")
            .arg(self.dir.path());
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
        self.dir.path().join("encrypted_logs.jsonl")
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
