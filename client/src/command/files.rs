//! `sealpost files`: what was offered, to us and by us; saved, or cancelled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Start, send};
use crate::cli::FilesCommand;
use crate::clock;
use crate::event::Event;
use crate::exit::Failure;
use crate::files::{self, Saving};

/// How many are listed at once, the last ones.
const LISTED: u32 = 1_000;

pub(super) async fn run(
    mut start: Start,
    command: Option<FilesCommand>,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    match command.unwrap_or(FilesCommand::List) {
        FilesCommand::List => {
            started();
            let entries = store.files(LISTED)?;
            if entries.is_empty() {
                start.printer.note("sealpost: no file was offered")?;
            }
            for entry in &entries {
                start.printer.print(&Event::file(entry))?;
            }
            Ok(())
        }
        FilesCommand::Save { file, to, timeout } => {
            let entry = files::find(&store, &file)?;
            let folder = folder(to, store.file_rules().downloads.as_deref());
            let timeout = timeout.unwrap_or(start.settings.timeout);
            match files::save(&mut store, entry.number, &folder, clock::now())? {
                Saving::Saved(_) => {
                    if let Some(entry) = store.file(entry.number)? {
                        start.printer.print(&Event::file(&entry))?;
                    }
                    Ok(())
                }
                Saving::Fetching => {
                    started();
                    let limit: Option<Duration> = Some(timeout);
                    send::follow(start, account, store, entry, limit).await
                }
            }
        }
        FilesCommand::Cancel { file } => {
            started();
            let entry = files::find(&store, &file)?;
            files::cancel(&mut store, entry.number, clock::now())?;
            if let Some(entry) = store.file(entry.number)? {
                start.printer.print(&Event::file(&entry))?;
            }
            Ok(())
        }
    }
}

/// Where to save: what was named, what the settings say, or here.
pub(super) fn folder(named: Option<PathBuf>, downloads: Option<&Path>) -> PathBuf {
    named
        .or_else(|| downloads.map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("."))
}
