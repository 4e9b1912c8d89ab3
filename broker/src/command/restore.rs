//! `restore`: a data directory from a backup.

use std::path::PathBuf;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::backup::restoring::{RestoreError, restore};
use crate::settings::Settings;

/// What restoring takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct RestoreArguments {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Restores into the directory that `--data` names.
pub(super) fn run(global: GlobalArguments, arguments: RestoreArguments) -> Result<(), Failure> {
    let (config, overrides) = global.into_overrides();
    let settings = Settings::load(config, overrides)?;
    let taken = restore(&arguments.file, &settings.data, &settings.realm)?;
    println!(
        "{}: {} users, {} rows of the journal",
        settings.data.display(),
        taken.users,
        taken.rows
    );
    eprintln!(
        "Never run this broker beside the one that the backup is of. Mail that was delivered since the backup is delivered again."
    );
    Ok(())
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Failure {
        let hint = match &error {
            RestoreError::File { .. } | RestoreError::Unsound(_) => "take another backup",
            RestoreError::Realm { .. } => {
                "name the realm of the backup with --realm, or its settings with --config"
            }
            RestoreError::NotEmpty(_) => "nothing is overwritten: name a new directory with --data",
            RestoreError::CutShort(_) => "remove it and try again",
            RestoreError::Io { .. } => {
                "look at that path; the directory that --data names must not be a mount point"
            }
            RestoreError::Journal(_) => "look at the disk and its room",
        };
        Failure::new(Code::Failed, error, hint)
    }
}
