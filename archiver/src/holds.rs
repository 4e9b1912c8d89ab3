//! Legal holds: what may be neither erased nor retired. They lie in `holds.json` (section 8 of the format).

use std::collections::BTreeSet;

use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{ReadError, read_whole};
use sealpost_archive::storage::{self, Storage};
use sealpost_core::{Envelope, Timestamp, Topic, UserId};
use serde::{Deserialize, Serialize};

use sealpost_service::seconds;

/// The file, in the archive's directory.
pub const FILE: &str = "holds.json";

/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// How many holds there may be: each line that is to be removed is held against all of them.
const MAX_HOLDS: usize = 1_000;

/// How many users a hold may name.
const MAX_USERS: usize = 10_000;

/// The longest name of a hold and the longest reason, in bytes.
pub const MAX_TEXT: usize = 1_000;

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// What it is called.
    pub name: String,
    /// It covers lines that were written then or later; `None` for no such limit.
    #[serde(with = "seconds::maybe")]
    pub from: Option<Timestamp>,
    /// It covers lines that were written then or before; `None` for no such limit.
    #[serde(with = "seconds::maybe")]
    pub until: Option<Timestamp>,
    /// It covers what these sent or got; `None` for everybody.
    pub users: Option<BTreeSet<String>>,
    /// When it was placed.
    #[serde(with = "seconds")]
    pub placed_at: Timestamp,
    /// Why.
    pub reason: String,
}

/// All holds of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    v: u64,
    /// In the order in which they were placed.
    pub holds: Vec<Hold>,
}

/// Why the holds are of no use, or cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not what is written there.
    #[error("{FILE} is damaged: {0}; nothing is removed until it is as it was")]
    Damaged(String),
    /// It could not be written.
    #[error("cannot write {FILE}: {0}")]
    Write(#[source] std::io::Error),
    /// There is one of that name.
    #[error("there is a hold {0:?} already")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no hold {0:?}")]
    Unknown(String),
    /// What it is to be makes no sense.
    #[error("a hold cannot be like that: {0}")]
    Invalid(&'static str),
}

impl Default for Holds {
    fn default() -> Holds {
        Holds {
            v: VERSION,
            holds: Vec::new(),
        }
    }
}

impl Holds {
    /// Reads the holds; without the file there are none.
    ///
    /// # Errors
    /// [`HoldError::Read`] and [`HoldError::Damaged`].
    pub fn read<S: Storage>(storage: &S) -> Result<Holds, HoldError> {
        let Some(bytes) = read_whole(storage, FILE, MAX_FILE)? else {
            return Ok(Holds::default());
        };
        let holds: Holds = serde_json::from_slice(&bytes)
            .map_err(|error| HoldError::Damaged(error.to_string()))?;
        if holds.v != VERSION {
            return Err(HoldError::Damaged(format!("it is of version {}", holds.v)));
        }
        Ok(holds)
    }

    /// Writes the holds, durably.
    ///
    /// # Errors
    /// [`HoldError::Write`]; what was there before is there then.
    pub fn write<S: Storage>(&self, storage: &S) -> Result<(), HoldError> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|error| HoldError::Damaged(error.to_string()))?;
        bytes.push(b'\n');
        storage::replace(storage, FILE, &bytes)
            .and_then(|()| storage.sync_directory(""))
            .map_err(HoldError::Write)
    }

    /// Adds a hold.
    ///
    /// # Errors
    /// [`HoldError::Exists`] and [`HoldError::Invalid`].
    pub fn add(&mut self, hold: Hold) -> Result<(), HoldError> {
        if self.holds.iter().any(|other| other.name == hold.name) {
            return Err(HoldError::Exists(hold.name));
        }
        if self.holds.len() >= MAX_HOLDS {
            return Err(HoldError::Invalid("there are too many"));
        }
        if hold.name.is_empty() || hold.name.len() > MAX_TEXT || hold.reason.len() > MAX_TEXT {
            return Err(HoldError::Invalid(
                "name and reason have at most 1,000 bytes, and the name at least one",
            ));
        }
        if hold
            .from
            .zip(hold.until)
            .is_some_and(|(from, until)| from > until)
        {
            return Err(HoldError::Invalid("it ends before it begins"));
        }
        if let Some(users) = &hold.users
            && (users.is_empty()
                || users.len() > MAX_USERS
                || users.iter().any(|user| UserId::parse(user).is_err()))
        {
            return Err(HoldError::Invalid("its users are no list of user names"));
        }
        self.holds.push(hold);
        Ok(())
    }

    /// Removes a hold.
    ///
    /// # Errors
    /// [`HoldError::Unknown`].
    pub fn release(&mut self, name: &str) -> Result<Hold, HoldError> {
        match self.holds.iter().position(|hold| hold.name == name) {
            Some(place) => Ok(self.holds.remove(place)),
            None => Err(HoldError::Unknown(name.to_owned())),
        }
    }

    /// The first hold that covers a line.
    #[must_use]
    pub fn covering(&self, line: &Line<'_>) -> Option<&Hold> {
        self.holds.iter().find(|hold| {
            hold.is_of_time(line.archived_at, line.archived_at) && hold.is_of_users(&line.body)
        })
    }

    /// Whether a hold may cover a line that was written between two times.
    #[must_use]
    pub fn any_between(&self, from: Timestamp, until: Timestamp) -> bool {
        self.holds.iter().any(|hold| hold.is_of_time(from, until))
    }
}

impl Hold {
    fn is_of_time(&self, from: Timestamp, until: Timestamp) -> bool {
        self.from.is_none_or(|begin| until >= begin) && self.until.is_none_or(|end| from <= end)
    }

    /// Whether what a line keeps is of one of the users. Where it does not show whose it is, it is.
    fn is_of_users(&self, body: &Body<'_>) -> bool {
        let Some(users) = &self.users else {
            return true;
        };
        let Body::Message(message) = body else {
            // A record is never removed alone, and of a tombstone there is nothing left to remove.
            return false;
        };
        let owner = std::str::from_utf8(&message.topic)
            .ok()
            .and_then(|topic| Topic::parse(topic).ok());
        match owner {
            Some(Topic::Inbox(owner)) => {
                let sender = Envelope::parse(&message.payload)
                    .ok()
                    .map(|envelope| envelope.from().to_string());
                users.contains(owner.as_str())
                    || sender.is_none_or(|sender| users.contains(&sender))
            }
            Some(Topic::Keys(owner)) => users.contains(owner.as_str()),
            _ => true,
        }
    }
}
