//! A broker under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use tempfile::TempDir;

use crate::{Answer, Archiver, Clock, PATIENCE, Process, free_port, program};

/// How to start a broker.
#[derive(Debug, Default, Clone)]
pub struct BrokerOptions {
    /// Archivers' keys, as `NAME=KEY`.
    pub archivers: Vec<String>,
    /// Operators' keys, as `NAME=KEY`.
    pub operators: Vec<String>,
    /// Without login and checks.
    pub open: bool,
    /// Settings in TOML.
    pub settings: String,
    /// The data directory, when it has to be somewhere in particular.
    pub data: Option<PathBuf>,
    /// The time that it sees, when that is not this machine's.
    pub clock: Option<Arc<Clock>>,
}

impl BrokerOptions {
    fn data(&self, dir: &Path) -> PathBuf {
        self.data.clone().unwrap_or_else(|| dir.join("data"))
    }
}

/// A broker on a port of its own.
#[derive(Debug)]
pub struct Broker {
    /// Its process.
    pub process: Process,
    address: SocketAddr,
    options: BrokerOptions,
    dir: TempDir,
}

impl Broker {
    /// Starts a broker on a free port, with an empty data directory.
    #[must_use]
    pub fn start(options: BrokerOptions) -> Broker {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("broker.toml"), &options.settings).unwrap();
        // Not port 0: it has to be free still when the broker comes back.
        let address = format!("127.0.0.1:{}", free_port());
        let process = launch(&options, dir.path().into(), &address);
        let line = process.expect("listening on ");
        let address = line.trim_start_matches("listening on ").parse().unwrap();
        Broker {
            process,
            address,
            options,
            dir,
        }
    }

    /// Starts a broker that lets the given archiver in.
    #[must_use]
    pub fn for_archiver(archiver: &Archiver) -> Broker {
        Broker::start(BrokerOptions {
            archivers: vec![archiver.credential()],
            ..BrokerOptions::default()
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens with TLS.
    #[must_use]
    pub fn tls_address(&self) -> SocketAddr {
        let line = self.process.expect(" with TLS");
        let address = line.trim_start_matches("listening on ");
        address.trim_end_matches(" with TLS").parse().unwrap()
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.options.data(self.dir.path())
    }

    /// Runs a command of the operator's on its data directory, with this on standard input.
    #[must_use]
    pub fn administer_with(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = Command::new(program("sealpost-broker"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.dir.path().join("broker.toml"))
            .arg("--data")
            .arg(self.data());
        let mut process = Process::spawn("administration", &mut command);
        if !input.is_empty() {
            process.say(input);
        }
        process.hush();
        let status = process.wait();
        Answer {
            code: status.code().unwrap_or(-1),
            stdout: process.stdout().join("\n"),
            stderr: process.stderr().join("\n"),
        }
    }

    /// As [`Broker::administer_with`], and it has to succeed. Returns what it printed.
    pub fn administer(&self, arguments: &[&str]) -> String {
        let answer = self.administer_with(arguments, "");
        assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
        answer.stdout
    }

    /// The audit log so far.
    #[must_use]
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.data().join("audit.jsonl")).unwrap_or_default();
        // The last line may be in the middle of being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for a line of the audit log.
    pub async fn await_audit(&self, wanted: impl Fn(&serde_json::Value) -> bool) {
        let until = std::time::Instant::now() + PATIENCE;
        // Written a moment after the answer that it is about; there is nothing to await but the file.
        while !self.audit().iter().any(&wanted) {
            assert!(
                std::time::Instant::now() < until,
                "no such line: {:#?}",
                self.audit()
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it as an operator would (SIGTERM).
    pub fn stop(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.process = launch(
            &self.options,
            self.dir.path().into(),
            &self.address.to_string(),
        );
        self.process.expect("listening on ");
    }
}

fn launch(options: &BrokerOptions, dir: PathBuf, listen: &str) -> Process {
    let mut command = Command::new(program("sealpost-broker"));
    command.arg("--config").arg(dir.join("broker.toml"));
    command
        .args(["--listen", listen])
        .arg("--data")
        .arg(options.data(&dir));
    for archiver in &options.archivers {
        command.args(["--archiver", archiver]);
    }
    for operator in &options.operators {
        command.args(["--operator", operator]);
    }
    if options.open {
        command.arg("--open");
    }
    if let Some(clock) = &options.clock {
        clock.put_on(&mut command);
    }
    Process::spawn("broker", &mut command)
}
