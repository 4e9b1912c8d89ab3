//! Runs the real program on a sample.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::layout::LogName;

use crate::sample::Sample;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, with nothing from the environment.
pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sealpost-archiver"));
    program
        .env_remove("SEALPOST_ARCHIVER_CONFIG")
        .env_remove("SEALPOST_ARCHIVER_DIR")
        .stdin(Stdio::null());
    program
}

/// Runs a command on the archive in `directory`.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Ended {
    ended(program().args(arguments).arg("--dir").arg(directory))
}

/// Runs a command that needs no archive.
pub(crate) fn run_plain(arguments: &[&str]) -> Ended {
    ended(program().args(arguments))
}

fn ended(program: &mut Command) -> Ended {
    let output = program.output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The usual sample, with the key that signs its checkpoints.
pub(crate) fn sample() -> Sample {
    let sample = Sample::new();
    let log = LogName::EncryptedLogs;
    let origin = "sealpost/local/archiver/encrypted_logs";
    let text = CheckpointSigner::text_from_seed(origin, &[7; 32]);
    let path = log.checkpoint_key();
    sample.write(&path, format!("{}\n", text.as_str()).as_bytes());
    std::fs::set_permissions(sample.path(&path), std::fs::Permissions::from_mode(0o600)).unwrap();
    sample
}
