//! The archiver of a measured pipe, started here and stopped whatever happens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use thiserror::Error;

use crate::child_process::{ChildProcess, tail};
use crate::loopback::LoopbackAddr;

/// The name by which the broker knows the archiver.
pub(crate) const ARCHIVER: &str = "archiver";

/// Why there is no archiver.
#[derive(Debug, Error)]
pub(crate) enum ArchiverError {
    /// Its program could not be run.
    #[error("cannot run {}: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It printed no key.
    #[error("{} made no key: {log}", program.display())]
    NoKey {
        /// The program.
        program: PathBuf,
        /// What it wrote to its standard error.
        log: String,
    },
}

/// An archive's directory and key: what the broker has to know before the archiver can run.
pub(crate) struct ArchiveDirectory {
    program: PathBuf,
    directory: TempDir,
    /// The archiver's public key, as base64.
    pub(crate) key: String,
}

impl ArchiveDirectory {
    /// An empty archive with a new key.
    pub(crate) fn new(program: &Path) -> Result<Self, ArchiverError> {
        let failed = |source| ArchiverError::Run {
            program: program.to_owned(),
            source,
        };
        let directory = TempDir::new().map_err(failed)?;
        let output = Command::new(program)
            .args(["key", "--dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .output()
            .map_err(failed)?;
        let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || key.is_empty() {
            let log = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ArchiverError::NoKey {
                program: program.to_owned(),
                log,
            });
        }
        Ok(Self {
            program: program.to_owned(),
            directory,
            key,
        })
    }

    /// Runs the archiver. It may not have subscribed yet when this returns.
    pub(crate) fn run(self, broker: LoopbackAddr) -> Result<ArchiverProcess, ArchiverError> {
        let mut command = Command::new(&self.program);
        command.args([
            "run",
            "--name",
            ARCHIVER,
            "--broker",
            &format!("mqtt://{broker}"),
            "--dir",
        ]);
        command.arg(self.directory.path()).stdout(Stdio::null());
        // All lines of a run are looked for in one file: it is full at 64 GiB.
        command.env(
            "SEALPOST_ARCHIVER_SEGMENT_BYTES",
            (64_u64 << 30).to_string(),
        );
        let child =
            ChildProcess::start(command, &self.directory.path().join("log")).map_err(|source| {
                ArchiverError::Run {
                    program: self.program,
                    source,
                }
            })?;
        Ok(ArchiverProcess {
            child,
            directory: self.directory,
        })
    }
}

/// A running archiver.
pub(crate) struct ArchiverProcess {
    child: ChildProcess,
    directory: TempDir,
}

impl ArchiverProcess {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that it appends to.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.directory.path().join("encrypted_logs.jsonl")
    }

    /// How many bytes it has archived.
    pub(crate) fn archived_bytes(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len())
    }

    /// The last it said.
    pub(crate) fn last_words(&self) -> String {
        tail(&self.directory.path().join("log"))
    }
}
