//! A program under test: its output line by line, its end, and its certain death.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

/// What a program has written to one stream so far.
#[derive(Debug, Default)]
struct Lines {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    fn read(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let lines = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { break };
                lines
                    .lines
                    .lock()
                    .unwrap()
                    .0
                    .push(String::from_utf8_lossy(&line).into_owned());
                lines.more.notify_all();
            }
            lines.lines.lock().unwrap().1 = true;
            lines.more.notify_all();
        });
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().0.clone()
    }

    /// Waits for the first line from `start` on that is wanted.
    fn wait_for(&self, start: usize, wanted: impl Fn(&str) -> bool) -> Option<(usize, String)> {
        let until = Instant::now() + PATIENCE;
        let mut next = start;
        let mut lines = self.lines.lock().unwrap();
        loop {
            while let Some(line) = lines.0.get(next) {
                if wanted(line) {
                    return Some((next, line.clone()));
                }
                next += 1;
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                return None;
            }
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn wait_for_end(&self) {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        while !lines.1 {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "a stream stayed open after its program had ended"
            );
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Process {
    /// Starts a program. `name` is for messages.
    #[must_use]
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let (stdout, stderr) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        stdout.read(child.stdout.take().unwrap());
        stderr.read(child.stderr.take().unwrap());
        Process {
            name: name.into(),
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for a line on standard output that contains `text`, and returns it.
    pub fn expect(&self, text: &str) -> String {
        self.expect_from(0, text).1
    }

    /// As [`Process::expect`], from the line numbered `start` on; returns its number too.
    pub fn expect_from(&self, start: usize, text: &str) -> (usize, String) {
        self.stdout
            .wait_for(start, |line| line.contains(text))
            .unwrap_or_else(|| panic!("{} never printed {text:?}{}", self.name, self.seen()))
    }

    /// Waits for a line on standard error that contains `text`, and returns it.
    pub fn expect_error(&self, text: &str) -> String {
        self.expect_error_from(0, text).1
    }

    /// As [`Process::expect_error`], from the line numbered `start` on; returns its number too.
    pub fn expect_error_from(&self, start: usize, text: &str) -> (usize, String) {
        self.stderr
            .wait_for(start, |line| line.contains(text))
            .unwrap_or_else(|| panic!("{} never complained of {text:?}{}", self.name, self.seen()))
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open standard input");
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Types a line; says whether somebody was there to read it.
    pub fn try_say(&mut self, line: &str) -> bool {
        let stdin = self.stdin.as_mut().expect("an open standard input");
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .is_ok()
    }

    /// Closes standard input.
    pub fn hush(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            // There is no wait with a time limit in the standard library; a poll of a few milliseconds is near enough.
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => {
                    panic!("{} did not end{}", self.name, self.seen())
                }
                None => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        status
    }

    /// Its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// Its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// As [`Process::terminate`], if it has not ended by itself.
    pub fn terminate_if_running(&mut self) {
        if !self.has_ended() {
            self.terminate();
        }
    }

    /// SIGSTOP: it stands still until [`Process::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Its resident memory in KiB, as the kernel counts it.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        kib(self.pid(), "VmRSS:").unwrap_or(0)
    }

    /// The most resident memory that it ever had, in KiB.
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        kib(self.pid(), "VmHWM:").unwrap_or(0)
    }

    fn seen(&self) -> String {
        let part = |name: &str, lines: Vec<String>| {
            let from = lines.len().saturating_sub(40);
            format!("\n--- {name} (last lines)\n{}", lines[from..].join("\n"))
        };
        part("stdout", self.stdout()) + &part("stderr", self.stderr())
    }
}

/// The resident memory of a process that runs, in KiB, as the kernel counts it.
#[must_use]
pub fn resident_kib(pid: u32) -> u64 {
    kib(pid, "VmRSS:").expect("a process that runs")
}

fn kib(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
