//! A file, as it is shown with the message that offers it.

use indicatif::DecimalBytes;

use super::transcript::Words;
use crate::store::{FileCause, FileEntry, FileState};
use crate::terminal::clean_line;

/// The cells of a bar that shows how far a file is.
const BAR: u64 = 20;

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What it is called here: `/save 3`.
    pub number: i64,
    /// Whether we offer it.
    pub ours: bool,
    /// Its name, clean.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// How many of them its recipient has.
    pub done: u64,
    /// How far it is.
    pub state: FileState,
    /// Why no further.
    pub cause: Option<FileCause>,
    /// Theirs: whether somebody asked for it.
    pub asked: bool,
    /// Where it was saved, clean.
    pub place: Option<String>,
}

impl Attachment {
    /// Of the store.
    #[must_use]
    pub fn of(entry: &FileEntry) -> Attachment {
        let place = entry.place.as_ref();
        Attachment {
            number: entry.number,
            ours: entry.ours,
            name: clean_line(&sealpost_core::saved_name(&entry.name)),
            size: entry.chunking.size(),
            done: entry.done,
            state: entry.state,
            cause: entry.cause,
            asked: entry.asked,
            place: place.map(|path| clean_line(&path.to_string_lossy())),
        }
    }

    /// Whether somebody can save it, now or when it has come.
    #[must_use]
    pub fn can_be_saved(&self) -> bool {
        !self.ours && self.state <= FileState::Arrived
    }

    /// Whether somebody can take it back, decline it, or throw it away.
    #[must_use]
    pub fn can_be_cancelled(&self) -> bool {
        match self.ours {
            true => self.state < FileState::Arrived,
            false => self.state <= FileState::Arrived,
        }
    }

    /// Name and size.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} ({})", self.name, DecimalBytes(self.size))
    }

    /// How far it is, in words.
    #[must_use]
    pub fn how(&self, unicode: bool) -> (String, Words) {
        let number = self.number;
        let cause = self.cause.map(FileCause::words);
        let but = cause.map_or_else(String::new, |cause| format!(", but {cause}"));
        match (self.state, self.ours) {
            (FileState::Offered, true) => match cause {
                None => ("waits for them to fetch it".to_owned(), Words::Remark),
                Some(cause) => (format!("waits: {cause}"), Words::Problem),
            },
            (FileState::Offered, false) if self.asked => match cause {
                None => ("is asked for".to_owned(), Words::Remark),
                Some(_) => (format!("is asked for{but}"), Words::Problem),
            },
            (FileState::Offered, false) => match self.cause {
                None | Some(FileCause::NotAsked) => {
                    (format!("/save {number} fetches it"), Words::Action)
                }
                // It is not fetched whoever asks.
                Some(FileCause::TooLarge) => {
                    (FileCause::TooLarge.words().to_owned(), Words::Problem)
                }
                Some(cause) => (
                    format!("{}: /save {number} fetches it", cause.words()),
                    Words::Action,
                ),
            },
            (FileState::Moving | FileState::Checking, _) => {
                let words = match self.cause {
                    None => Words::Remark,
                    Some(_) => Words::Problem,
                };
                (format!("{}{but}", self.bar(unicode)), words)
            }
            (FileState::Arrived, true) => ("they have it".to_owned(), Words::Remark),
            (FileState::Arrived, false) => match cause {
                None => (format!("is here: /save {number}"), Words::Action),
                Some(cause) => (
                    format!("is here, but {cause}: /save {number} FOLDER"),
                    Words::Problem,
                ),
            },
            (FileState::Saved, _) => {
                let place = self.place.as_deref().unwrap_or_default();
                (format!("saved as {place}"), Words::Remark)
            }
            (FileState::Ended, _) => {
                let words = match self.cause {
                    Some(FileCause::Cancelled | FileCause::Declined | FileCause::Withdrawn) => {
                        Words::Remark
                    }
                    _ => Words::Problem,
                };
                (cause.unwrap_or("it has ended").to_owned(), words)
            }
        }
    }

    /// What is told when it gets this far; nothing where the conversation is enough.
    #[must_use]
    pub fn news(&self, with: &str) -> Option<String> {
        let title = self.title();
        match (self.state, self.ours, self.cause) {
            (FileState::Arrived, true, _) => Some(format!("{with} has {title}.")),
            (FileState::Arrived, false, None) => {
                Some(format!("{title} of {with} is here: /save {}", self.number))
            }
            (FileState::Saved, ..) => {
                let place = self.place.as_deref().unwrap_or_default();
                Some(format!("{title} of {with} is saved as {place}"))
            }
            (FileState::Ended, _, Some(FileCause::Cancelled)) => {
                Some(format!("{title}: cancelled."))
            }
            (FileState::Moving | FileState::Ended | FileState::Arrived, _, Some(cause)) => {
                Some(format!("{title}, {with}: {}", cause.words()))
            }
            _ => None,
        }
    }

    fn bar(&self, unicode: bool) -> String {
        let share = |of: u64| match self.size {
            0 => of,
            size => {
                let share = u128::from(self.done.min(size)) * u128::from(of) / u128::from(size);
                u64::try_from(share).unwrap_or(of)
            }
        };
        let (full, empty) = if unicode { ("█", "░") } else { ("#", ".") };
        let filled = usize::try_from(share(BAR)).unwrap_or(0);
        let rest = usize::try_from(BAR).unwrap_or(0).saturating_sub(filled);
        format!(
            "{}{} {} % of {}",
            full.repeat(filled),
            empty.repeat(rest),
            share(100),
            DecimalBytes(self.size)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ours: bool, state: FileState, done: u64) -> Attachment {
        Attachment {
            number: 3,
            ours,
            name: "plans.pdf".into(),
            size: 200_000,
            done,
            state,
            cause: None,
            asked: false,
            place: None,
        }
    }

    #[test]
    fn it_says_how_far_it_is_and_what_can_be_done() {
        let how = |file: &Attachment| file.how(false).0;
        let moving = file(true, FileState::Moving, 100_000);
        assert_eq!(how(&moving), "##########.......... 50 % of 200.00 kB");
        let mut held = file(false, FileState::Moving, 0);
        held.cause = Some(FileCause::DiskFull);
        assert_eq!(
            held.how(false),
            (
                format!("{} 0 % of 200.00 kB, but the disk is full", ".".repeat(20)),
                Words::Problem
            )
        );
        assert_eq!(
            how(&file(false, FileState::Arrived, 200_000)),
            "is here: /save 3"
        );
        assert_eq!(
            how(&file(false, FileState::Offered, 0)),
            "/save 3 fetches it"
        );
        let empty = Attachment {
            size: 0,
            ..file(true, FileState::Moving, 0)
        };
        assert!(how(&empty).contains("100 %"));
    }

    #[test]
    fn what_is_over_is_neither_saved_nor_cancelled() {
        for (ours, state, saved, cancelled) in [
            (false, FileState::Offered, true, true),
            (false, FileState::Arrived, true, true),
            (false, FileState::Saved, false, false),
            (false, FileState::Ended, false, false),
            (true, FileState::Offered, false, true),
            (true, FileState::Moving, false, true),
            (true, FileState::Arrived, false, false),
        ] {
            let file = file(ours, state, 0);
            assert_eq!(
                (file.can_be_saved(), file.can_be_cancelled()),
                (saved, cancelled)
            );
        }
    }
}
