//! How the program ends: every error with its exit code and what to do next. Nothing else knows of
//! either.

use std::path::PathBuf;
use std::process::ExitCode;

use sealpost_mqtt::{TlsFilesError, advice_on_files};

use crate::archive::ArchiveError;
use crate::control::caller::CallError;
use crate::evidence::EvidenceError;
use crate::key::KeyError;
use crate::lock::LockError;
use crate::replay::ReplayError;
use crate::settings::SettingsError;
use crate::status::StatusError;
use crate::writer::OpenError;
use sealpost_archive::checkpoint::CheckpointError;
use sealpost_archive::log_file::AppendError;
use sealpost_archive::log_reader::ReadError;
use sealpost_archive::proof::{ProofError, ProveError};

/// Something failed that has no code of its own.
pub const FAILED: u8 = 1;
/// The command line or a setting is wrong.
pub const USAGE: u8 = 2;
/// Another archiver writes in the directory.
pub const LOCKED: u8 = 10;
/// The log is damaged; nothing was changed.
pub const DAMAGED: u8 = 11;
/// Writing or syncing failed; nothing was acknowledged that is not on the disk.
pub const DISK_FAILED: u8 = 12;
/// The disk is full; nothing was acknowledged that is not on the disk.
pub const DISK_FULL: u8 = 13;

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Wrong settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file that TLS needs is of no use.
    #[error(transparent)]
    Tls(#[from] TlsFilesError),
    /// No usable key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Archiving ended.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The status could not be told.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// There is no archive.
    #[error("there is no archive in {0}")]
    NoArchive(PathBuf),
    /// The archive could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file that was given is of no use.
    #[error("cannot use {path}: {reason}")]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A verifier key that was given is of no use.
    #[error("{0:?} is of no use: {1}")]
    VerifierKey(String, String),
    /// The archive does not verify.
    #[error("the archive does not verify: {0} findings")]
    NotVerified(u64),
    /// The archiver that runs could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A replay broke off.
    #[error("the replay broke off: {source}")]
    Replay {
        /// Why.
        source: Box<ReplayError>,
        /// The first line that may not have arrived.
        next: u64,
    },
    /// The broker refused some of a replay.
    #[error("the broker refused {0} of the messages")]
    NotTaken(u64),
    /// What was asked for is not done.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// Nothing can be proved.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// A proof proves nothing.
    #[error("the proof does not hold: {0}")]
    Unproved(#[from] ProofError),
    /// A checkpoint that was given does not count.
    #[error("the checkpoint {path} does not count: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: CheckpointError,
    },
    /// What was asked for is not there.
    #[error("there is no such line")]
    NotFound,
    /// Several lines are what was asked for.
    #[error("that is in line {0} and in line {1}: say which with --seq")]
    Several(u64, u64),
    /// The program could not be set up.
    #[error("cannot {0}: {1}")]
    Setup(&'static str, String),
}

impl ProgramError {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            ProgramError::Settings(_)
            | ProgramError::Archive(ArchiveError::Password(_))
            | ProgramError::Tls(_)
            | ProgramError::Input { .. }
            | ProgramError::VerifierKey(..) => USAGE,
            ProgramError::NotVerified(_)
            | ProgramError::Unproved(_)
            | ProgramError::Checkpoint { .. }
            | ProgramError::Prove(
                ProveError::OtherTree | ProveError::Shrunk { .. } | ProveError::Checkpoint(_),
            ) => DAMAGED,
            ProgramError::Archive(ArchiveError::Lock(LockError::Taken(_))) => LOCKED,
            ProgramError::Archive(
                ArchiveError::Lock(LockError::Io { .. }) | ArchiveError::Directory { .. },
            ) => DISK_FAILED,
            ProgramError::Archive(ArchiveError::Open(
                OpenError::Io(error) | OpenError::File { source: error, .. },
            )) => {
                if is_full(error) {
                    DISK_FULL
                } else {
                    DISK_FAILED
                }
            }
            // A file that cannot be read is not one that is damaged.
            ProgramError::Archive(ArchiveError::Evidence(EvidenceError::Read(
                ReadError::File { source, .. } | ReadError::List(source),
            ))) if source.kind() != std::io::ErrorKind::InvalidData => DISK_FAILED,
            ProgramError::Archive(ArchiveError::Open(_) | ArchiveError::Evidence(_)) => DAMAGED,
            ProgramError::Archive(ArchiveError::Append(
                AppendError::Write(error) | AppendError::Sync(error),
            )) if is_full(error) => DISK_FULL,
            ProgramError::Archive(ArchiveError::Append(_)) => DISK_FAILED,
            _ => FAILED,
        }
    }

    /// What to do next, where the message alone does not say it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            ProgramError::Settings(error) => Some(error.hint()),
            ProgramError::Refused { hint, .. } => (!hint.is_empty()).then(|| hint.clone()),
            ProgramError::Tls(error) => Some(advice_on_files(error).to_owned()),
            ProgramError::Key(error) | ProgramError::Archive(ArchiveError::Key(error)) => {
                key_hint(error)
            }
            ProgramError::Archive(ArchiveError::Password(error)) => Some(error.hint()),
            ProgramError::Archive(ArchiveError::Lock(LockError::Taken(_))) => Some(
                "stop the other one first, or give this one a directory and a name of its own"
                    .to_owned(),
            ),
            ProgramError::Unproved(_)
            | ProgramError::Checkpoint { .. }
            | ProgramError::Prove(_) => None,
            ProgramError::Replay { next, .. } => Some(format!(
                "go on with --from-seq {next}: a message that comes twice is shown once"
            )),
            ProgramError::NotTaken(_) => Some(
                "an operator may give envelopes only whose sender still has the identity that signed them, to \
                 registered users with room for them"
                    .to_owned(),
            ),
            ProgramError::NotVerified(_) => Some(
                "nothing was changed. Keep a copy as it is; compare it with a mirror or a backup"
                    .to_owned(),
            ),
            _ => disk_hint(self.code()).map(str::to_owned),
        }
    }
}

fn disk_hint(code: u8) -> Option<&'static str> {
    match code {
        DAMAGED => Some(
            "nothing was changed. Compare the log with a copy; to go on without it, move \
             encrypted_logs.jsonl away: a new one is begun at 1",
        ),
        DISK_FULL => Some(
            "make room and start again: nothing is lost, the broker keeps what was not acknowledged",
        ),
        DISK_FAILED => Some(
            "check the disk and the permissions: nothing is lost, the broker keeps what was not \
             acknowledged",
        ),
        _ => None,
    }
}

fn key_hint(error: &KeyError) -> Option<String> {
    match error {
        KeyError::Exposed { path, .. } => Some(format!(
            "chmod 600 {}; if others may have read it, make a new key",
            path.display()
        )),
        KeyError::Malformed(path) => Some(format!(
            "restore it from a copy; or remove {} and give the broker the new key that \
             `sealpost-archiver key` makes",
            path.display()
        )),
        KeyError::NotASigner(path) => Some(format!(
            "restore {} from a copy: checkpoints signed with another key prove nothing to those who have this one",
            path.display()
        )),
        KeyError::OtherLog { .. } => Some(
            "set realm and name as they were, or give this archiver a directory of its own"
                .to_owned(),
        ),
        KeyError::Missing(_) | KeyError::Io { .. } | KeyError::Random(_) => None,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
