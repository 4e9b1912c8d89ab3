//! A process that ends when its owner lets go of it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running program. Dropping it kills it and waits for its end.
pub(crate) struct ChildProcess(Child);

impl ChildProcess {
    /// Starts it with no input, and its standard error in the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .map(Self)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Its standard output, if it was piped; once.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is no more to be done.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(5)..)
        .unwrap_or_default()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_stats::ProcessStats;

    #[test]
    fn a_dropped_process_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut child = ChildProcess::start(command, &directory.path().join("log")).unwrap();
        assert!(!child.has_ended());
        let pid = child.id();
        drop(child);
        assert_eq!(ProcessStats::of(pid), None);
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "1\n2\n3\n4\n5\n6\n").unwrap();
        assert_eq!(tail(&log), "2; 3; 4; 5; 6");
    }
}
