//! `backup`: one file with all that a broker keeps.

use std::path::PathBuf;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use super::target::Target;
use crate::control::answer::Item;
use crate::control::request::Request;

/// What a backup takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct BackupArguments {
    /// The file to write; there must be none of that name. The broker must be able to write there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Has it written, by the running broker or from the files of one that does not run.
pub(super) fn run(global: GlobalArguments, arguments: BackupArguments) -> Result<(), Failure> {
    let file = std::path::absolute(&arguments.file)
        .map_err(|error| Failure::new(Code::Failed, error, ""))?;
    let mut said = String::new();
    Target::find(global)?.ask(&Request::Backup { file: file.clone() }, |item| {
        if let Item::Written { users, rows, bytes } = item {
            said = format!("{users} users, {rows} rows of the journal, {bytes} bytes");
        }
    })?;
    println!("{}: {said}", file.display());
    Ok(())
}
