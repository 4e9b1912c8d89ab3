//! A broker under test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use crate::{Archiver, Process, program};

/// How to start a broker.
#[derive(Debug, Default, Clone)]
pub struct BrokerOptions {
    /// Archivers' keys, as `NAME=KEY`.
    pub archivers: Vec<String>,
    /// Without login and checks.
    pub open: bool,
    /// Settings in TOML.
    pub settings: String,
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
        let process = launch(&options, dir.path().into(), "127.0.0.1:0");
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
        self.dir.path().join("data")
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
        .arg(dir.join("data"));
    for archiver in &options.archivers {
        command.args(["--archiver", archiver]);
    }
    if options.open {
        command.arg("--open");
    }
    Process::spawn("broker", &mut command)
}
