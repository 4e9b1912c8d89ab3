//! Files: offered, saved and cancelled. What reads or writes all of one does so in a thread of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use sealpost_core::UserId;

use super::super::attachment::Attachment;
use super::super::state::{Level, Msg};
use super::{Gone, Work, failed};
use crate::clock;
use crate::exit::{Code, Failure};
use crate::files::{self, Begun, SaveError, Source, SourceError};
use crate::outgoing::permit;
use crate::store::{FileEntry, StoreError};
use crate::terminal::clean_line;

/// How many files are read or written at once, for who asks for many.
const MAX_ERRANDS: usize = 4;
/// From this size on it is said that a file is read, which takes a moment; in bytes.
const SLOW: u64 = 64 * 1024 * 1024;
/// How many files are listed, the last ones.
const LISTED: u32 = 200;
/// How much of a folder is looked through for a name that is begun, and how much of that is shown.
const MAX_LOOKED: usize = 10_000;
const MAX_PATHS: usize = 50;

/// What came of an errand.
enum Errand {
    Read(UserId, Result<Source, SourceError>),
    Saved(i64, Result<Option<PathBuf>, SaveError>),
}

/// What is under way.
pub(super) struct Filing {
    done: Receiver<Errand>,
    tell: Sender<Errand>,
    count: usize,
    saving: BTreeSet<i64>,
}

impl Default for Filing {
    fn default() -> Filing {
        let (tell, done) = channel();
        Filing {
            done,
            tell,
            count: 0,
            saving: BTreeSet::new(),
        }
    }
}

impl Filing {
    fn send(&mut self, errand: impl FnOnce() -> Errand + Send + 'static) -> Result<(), Failure> {
        if self.count >= MAX_ERRANDS {
            return Err(Failure::new(
                Code::Failed,
                "other files are still being read or saved",
                "Wait a moment.",
            ));
        }
        self.count += 1;
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            // Where nobody is there to hear it any more, the interface has ended.
            let _ = tell.send(errand());
        });
        Ok(())
    }
}

impl Work {
    /// Reads a file, to offer it.
    pub(super) fn offer(&mut self, to: UserId, path: &str) -> Result<Option<Msg>, Failure> {
        let path = found(path);
        let desk = &self.desk;
        permit(&desk.store, desk.policy, desk.us.retired, &to)?;
        let size = Source::size(&path)?;
        files::check_size(&desk.store, size)?;
        let name = clean_line(&path.to_string_lossy());
        self.filing.send(move || {
            let read = Source::look(&path, |_| {});
            Errand::Read(to, read)
        })?;
        Ok((size >= SLOW).then(|| Msg::Said(Level::Note, format!("{name} is being read."))))
    }

    pub(super) fn save(&mut self, number: i64, folder: Option<String>) -> Result<Msg, Failure> {
        let downloads = self.desk.store.file_rules().downloads.clone();
        let folder = folder.map(|folder| found(&folder)).or(downloads);
        let folder = folder.unwrap_or_else(|| PathBuf::from("."));
        if self.filing.saving.contains(&number) {
            return Ok(Msg::Said(Level::Note, "It is being saved.".to_owned()));
        }
        let begun = files::begin_saving(&mut self.desk.store, number, &folder, clock::now())?;
        self.dirty = true;
        let words = match begun {
            Begun::Fetching => {
                self.desk.nudge.notify_one();
                let folder = std::path::absolute(&folder).unwrap_or(folder);
                let folder = clean_line(&folder.to_string_lossy());
                format!("It is fetched, and then saved in {folder}")
            }
            Begun::Here(order) => {
                self.filing
                    .send(move || Errand::Saved(number, files::work(&order)))?;
                self.filing.saving.insert(number);
                "It is being saved.".to_owned()
            }
        };
        Ok(Msg::Said(Level::Note, words))
    }

    pub(super) fn cancel(&mut self, number: i64) -> Result<Msg, Failure> {
        files::cancel(&mut self.desk.store, number, clock::now())?;
        self.dirty = true;
        self.desk.nudge.notify_one();
        let entry = self.desk.store.file(number)?;
        Ok(entry.map_or_else(
            || Msg::Said(Level::Note, "It is cancelled.".to_owned()),
            |entry| news(&entry),
        ))
    }

    pub(super) fn files(&self) -> Result<Msg, StoreError> {
        let entries = self.desk.store.files(LISTED)?;
        let lines = entries.iter().rev().map(|entry| {
            let file = Attachment::of(entry);
            let way = if file.ours { "to" } else { "from" };
            format!(
                "{:>4}  {way} {}: {}\n      {}",
                file.number,
                entry.peer,
                file.title(),
                file.how(false).0
            )
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        Ok(Msg::Files(match text.is_empty() {
            true => "No file was offered yet. /file PATH offers one.".to_owned(),
            false => text,
        }))
    }

    /// Goes on with what was read, and says what was saved.
    pub(super) fn finish_errands(&mut self) -> Result<(), Gone> {
        while let Ok(errand) = self.filing.done.try_recv() {
            self.filing.count = self.filing.count.saturating_sub(1);
            if let Err(failure) = self.finish(errand) {
                self.tell(failed(&failure))?;
            }
            self.dirty = true;
        }
        Ok(())
    }

    fn finish(&mut self, errand: Errand) -> Result<(), Failure> {
        let desk = &mut self.desk;
        let number = match errand {
            Errand::Read(to, read) => {
                permit(&desk.store, desk.policy, desk.us.retired, &to)?;
                let (number, _) = files::offer(&mut desk.store, &to, &read?, clock::now())?;
                desk.nudge.notify_one();
                number
            }
            Errand::Saved(number, worked) => {
                self.filing.saving.remove(&number);
                files::end_saving(&mut desk.store, number, worked, clock::now())?;
                number
            }
        };
        if let Some(entry) = self.desk.store.file(number)? {
            // Who is gone will be noticed by who tells next.
            let _ = self.tell(news(&entry));
        }
        Ok(())
    }
}

/// How far a file is.
#[must_use]
pub fn news(entry: &FileEntry) -> Msg {
    let file = Attachment::of(entry);
    Msg::File(entry.peer.clone(), entry.id.to_string(), file)
}

/// What somebody means by a path that no shell has read: `~`, and the quotes that a terminal puts around what is dropped on it.
fn found(typed: &str) -> PathBuf {
    let typed = typed.trim();
    if Path::new(typed).symlink_metadata().is_ok() {
        return PathBuf::from(typed);
    }
    let bare = ['\'', '"'].into_iter().find_map(|quote| {
        let inner = typed.strip_prefix(quote)?;
        inner.strip_suffix(quote)
    });
    let path = bare.map_or_else(|| typed.replace("\\ ", " "), str::to_owned);
    at_home(&path)
}

/// `~` is the home folder.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::home_dir()) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    }
}

/// How a path, typed behind a command, could go on: whole lines, folders with a slash at their ends.
pub(super) fn paths(command: &str, typed: &str) -> Msg {
    let (folder, begun) = match typed.rfind('/') {
        Some(at) => typed.split_at(at + 1),
        None => ("", typed),
    };
    let mut paths = Vec::new();
    let place = match folder {
        "" => PathBuf::from("."),
        folder => at_home(folder),
    };
    for entry in std::fs::read_dir(place)
        .into_iter()
        .flatten()
        .flatten()
        .take(MAX_LOOKED)
    {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let hidden = name.starts_with('.') && !begun.starts_with('.');
        // What cannot be shown as it is cannot be typed.
        if !name.starts_with(begun) || hidden || clean_line(&name) != name {
            continue;
        }
        let slash = if entry.path().is_dir() { "/" } else { "" };
        paths.push(format!("{command}{folder}{name}{slash}"));
    }
    paths.sort();
    paths.truncate(MAX_PATHS);
    Msg::Paths(format!("{command}{typed}"), paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_on_as_the_disk_has_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plan.pdf", "plans", ".plan", "plan\u{202e}x"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("pictures")).unwrap();
        let at = folder.path().display().to_string();
        let found = |typed: &str| match paths("/file ", &format!("{at}/{typed}")) {
            Msg::Paths(of, paths) => {
                assert_eq!(of, format!("/file {at}/{typed}"));
                let cut = paths
                    .iter()
                    .map(|path| path.replace(&format!("/file {at}/"), ""));
                cut.collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(found("p"), ["pictures/", "plan.pdf", "plans"]);
        assert_eq!(found("."), [".plan"]);
        assert_eq!(found("pi"), ["pictures/"]);
        assert!(found("q").is_empty());
    }

    #[test]
    fn what_a_terminal_puts_around_a_path_is_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my plan.pdf");
        std::fs::write(&path, "").unwrap();
        let plain = path.to_str().unwrap();
        for typed in [
            plain.to_owned(),
            format!("'{plain}'"),
            format!("\"{plain}\" "),
            plain.replace(' ', "\\ "),
        ] {
            assert_eq!(found(&typed), path, "{typed}");
        }
        let home = std::env::home_dir().unwrap();
        assert_eq!(found("~/x y"), home.join("x y"));
        assert_eq!(found("~"), home);
        assert_eq!(found("~other/x"), PathBuf::from("~other/x"));
    }
}
