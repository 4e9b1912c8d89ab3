//! The commands that read an archive: each is thin, what it does is in `sealpost-archive`.

pub mod export;
pub mod gaps;
pub mod merge;
mod plot;
pub mod prove;
pub mod query;
pub mod replay;
pub mod stats;
pub mod verify;

use std::io::{self, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, getrlimit, setrlimit};
use sealpost_archive::layout::LogName;
use sealpost_archive::storage::Directory;

use crate::cli::DirArgs;
use crate::exit::ProgramError;
use crate::settings::Settings;

/// The longest file that is read as a whole: proofs and notes are far shorter.
const MAX_SMALL_FILE: u64 = 4 << 20;

/// The archive that the flags say, which must be there.
fn archive(flags: &DirArgs) -> Result<Directory, ProgramError> {
    let settings = Settings::gather_for_dir(flags)?;
    let directory = Directory::existing(&settings.dir)
        .map_err(|_| ProgramError::NoArchive(settings.dir.clone()))?;
    allow_many_files();
    Ok(directory)
}

/// Whether there is anything of a log.
fn is_there(directory: &Directory, log: LogName) -> bool {
    let names = [
        log.active(),
        log.checkpoint(),
        log.checkpoint_key(),
        log.place("tile"),
    ];
    names
        .iter()
        .any(|name| directory.path().join(name).exists())
}

/// A reader keeps each segment open, of which there may be more than the soft limit of most systems (1,024) allows.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without more, an archive with few segments can still be read.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Reads a small file that somebody named.
fn read_small(path: &Path) -> Result<Vec<u8>, ProgramError> {
    let failed = |reason: String| ProgramError::Input {
        path: path.to_owned(),
        reason,
    };
    let length = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > MAX_SMALL_FILE {
        return Err(failed(format!("it is longer than {MAX_SMALL_FILE} bytes")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

/// A bar on stderr that shows how many of `bytes` were read; nothing where stderr is no terminal.
fn progress(bytes: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    // The template is right, or the default is shown.
    if let Ok(style) = ProgressStyle::with_template(
        "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
    ) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// A bar on stderr that shows how many of `lines` were read; nothing where stderr is no terminal.
fn progress_of_lines(lines: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(lines);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {per_sec} {eta} left")
    {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// The log that a checkpoint says it is of.
fn origin_of(path: &Path, note: &[u8]) -> Result<LogName, ProgramError> {
    note.split(|&byte| byte == b'\n')
        .next()
        .and_then(|origin| std::str::from_utf8(origin).ok())
        .and_then(LogName::of_origin)
        .ok_or_else(|| ProgramError::Input {
            path: path.to_owned(),
            reason: "it is no checkpoint of an archive's log".to_owned(),
        })
}

/// Prints text. Who closed the other end does not want it.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Text from others, as a terminal may have it: without control characters.
fn shown(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            control if control.is_control() => char::REPLACEMENT_CHARACTER,
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shown("größer — line 7"), "größer — line 7");
    }
}
