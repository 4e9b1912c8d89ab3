//! `backup`: one file with all that a broker keeps.

use std::path::PathBuf;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use super::target::Target;
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
    let mut said = None;
    Target::find(global)?.ask(&Request::Backup { file: file.clone() }, |item| {
        if item.get("users").is_some() {
            said = Some(item);
        }
    })?;
    let count = |name| said.as_ref().and_then(|said| said.get(name)?.as_u64());
    println!(
        "{}: {} users, {} rows of the journal, {} bytes",
        file.display(),
        count("users").unwrap_or(0),
        count("rows").unwrap_or(0),
        count("bytes").unwrap_or(0),
    );
    Ok(())
}
