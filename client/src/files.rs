//! Files: offered to others, fetched from them, saved where somebody asked.
//!
//! This is what a command, a daemon or a user interface does with files; a [`Session`](crate::session::Session) moves them by itself while it
//! runs, and says how far they are ([`Happening::File`](crate::session::Happening::File)).
//!
//! - Offer: [`Source::look`] reads a file once (call it where blocking does no harm; it reports progress), [`offer`] writes the offer
//!   into the outbox. From then on the file at that path is read when its recipient asks for it, and has to stay as it was.
//! - See: [`Store::files`], [`Store::file`].
//! - Fetch and save: [`save`]. What is here is saved at once (blocking); what is not is asked for, and saved by the session when
//!   it came.
//! - Cancel, from either side: [`cancel`].
//!
//! Nothing here needs a connection. After any of it a running session of this or another process goes on within a moment.

mod part;
mod saving;
mod source;

use std::path::{Path, PathBuf};

use sealpost_core::{FileKey, FileOffer, FileOutcome, MAX_CHUNK, MessageId, Timestamp, UserId};
use zeroize::Zeroizing;

use crate::store::{FileCause, FileEntry, FileState, Store, StoreError};

pub(crate) use part::{Parts, clear_away, remove};
pub use saving::SaveError;
pub(crate) use saving::{Order, work};
pub(crate) use source::Opened;
pub use source::{Source, SourceError};

/// Why a file was not offered, fetched or saved.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is larger than the settings allow.
    #[error("the file has {size} bytes, and max_file allows {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The setting, in bytes.
        limit: u64,
    },
    /// There is no such file.
    #[error("there is no such file")]
    Unknown,
    /// It is ours: it is where it was.
    #[error("that file is your own offer")]
    Ours,
    /// It is over: nothing is there to be saved, or cancelled.
    #[error("that file goes no further: {0}")]
    Over(&'static str),
    /// It could not be saved.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What [`save`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saving {
    /// It is there.
    Saved(PathBuf),
    /// It is not here yet: it is fetched, and then saved.
    Fetching,
}

/// Offers a file: when this returns, the offer is in the outbox, on disk. Returns its number here and the name of its message.
///
/// # Errors
/// [`FileError`]; nothing was offered then.
pub fn offer(
    store: &mut Store,
    to: &UserId,
    source: &Source,
    now: Timestamp,
) -> Result<(i64, MessageId), FileError> {
    check_size(store, source.chunking().size())?;
    let key = FileKey::generate(&mut rand::rng());
    let offer = FileOffer::new(source.name(), source.chunking(), *source.sha256(), key)
        .ok_or(SourceError::NoName)?;
    let json = offer
        .to_content()
        .and_then(|content| content.to_json())
        .map_err(|_| SourceError::NoName)?;
    let id = MessageId::new(now, &mut rand::rng());
    let message = (id, Zeroizing::new(json));
    let place = (source.path(), source.sums());
    let number = store.offer_file(to, message, source.chunking(), place, now)?;
    Ok((number, id))
}

/// Whether a file of this size may be sent.
///
/// # Errors
/// When it may not.
pub fn check_size(store: &Store, size: u64) -> Result<(), FileError> {
    let limit = store.file_rules().limit.min(sealpost_core::MAX_FILE);
    match size > limit {
        true => Err(FileError::TooLarge { size, limit }),
        false => Ok(()),
    }
}

/// Saves a file into a folder, under a harmless name that nothing has there; one that is not here yet is fetched first. Reads, checks and
/// writes all of it.
///
/// # Errors
/// [`FileError`]; a file that is here stays here then, unless its digest is wrong.
pub fn save(
    store: &mut Store,
    number: i64,
    folder: &Path,
    now: Timestamp,
) -> Result<Saving, FileError> {
    match begin_saving(store, number, folder, now)? {
        Begun::Fetching => Ok(Saving::Fetching),
        Begun::Here(order) => {
            let worked = work(&order);
            end_saving(store, number, worked, now).map(Saving::Saved)
        }
    }
}

/// What [`begin_saving`] found.
pub(crate) enum Begun {
    /// It is not here yet: it is fetched, and then saved.
    Fetching,
    /// It is here: [`work`] does what is to be done, which needs no store and takes as long as the file is large.
    Here(Order),
}

/// The first half of [`save`].
pub(crate) fn begin_saving(
    store: &mut Store,
    number: i64,
    folder: &Path,
    now: Timestamp,
) -> Result<Begun, FileError> {
    let entry = theirs(store, number)?;
    // Another process that saves it has another working directory.
    let folder = std::path::absolute(folder).map_err(|source| SaveError::Io {
        path: folder.to_owned(),
        source,
    })?;
    match entry.state {
        FileState::Offered | FileState::Moving | FileState::Checking => {
            let size = entry.chunking.size();
            check_size(store, size)?;
            saving::check_folder(&folder)?;
            store.ask_for_file(number, Some(&folder), now)?;
            Ok(Begun::Fetching)
        }
        FileState::Arrived => {
            let order = Order::new(store, &entry, Some(folder))?;
            order.map(Begun::Here).ok_or(FileError::Unknown)
        }
        FileState::Saved => Err(FileError::Over("it was saved")),
        FileState::Ended => Err(over(&entry)),
    }
}

/// The second half: what came of the work is written down.
pub(crate) fn end_saving(
    store: &mut Store,
    number: i64,
    worked: Result<Option<PathBuf>, SaveError>,
    now: Timestamp,
) -> Result<PathBuf, FileError> {
    match worked {
        Ok(saved) => {
            let path = saved.unwrap_or_default();
            store.file_arrived(number, Some(&path), None, now)?;
            remove(store, number);
            Ok(path)
        }
        Err(error) => {
            if matches!(error, SaveError::Damaged) {
                let say = Some(FileOutcome::Damaged);
                store.end_file(number, FileCause::Damaged, say, now)?;
                remove(store, number);
            }
            Err(error.into())
        }
    }
}

/// Cancels a file, ours or theirs, whatever of it has moved; the other side is told, unless nobody there knows of us. One that is here and not
/// saved is thrown away.
///
/// # Errors
/// [`FileError::Unknown`], [`FileError::Over`], or the store's.
pub fn cancel(store: &mut Store, number: i64, now: Timestamp) -> Result<(), FileError> {
    let entry = store.file(number)?.ok_or(FileError::Unknown)?;
    let say = match (entry.ours, entry.state) {
        (true, FileState::Arrived) => return Err(FileError::Over("its recipient has it")),
        (_, FileState::Saved) => return Err(FileError::Over("it was saved")),
        (_, FileState::Ended) => return Err(over(&entry)),
        (true, _) => Some(FileOutcome::Withdrawn),
        (false, FileState::Arrived) => None,
        (false, _) => store
            .is_accepted(&entry.peer)?
            .then_some(FileOutcome::Declined),
    };
    store.end_file(number, FileCause::Cancelled, say, now)?;
    if !entry.ours {
        remove(store, number);
    }
    Ok(())
}

/// The file that somebody means: its number here, or the name of its message.
///
/// # Errors
/// [`FileError::Unknown`], or the store's.
pub fn find(store: &Store, which: &str) -> Result<FileEntry, FileError> {
    let found = match (which.parse(), MessageId::parse(which)) {
        (Ok(number), _) => store.file(number)?,
        (_, Ok(id)) => store.file_of_message(&id)?,
        _ => None,
    };
    found.ok_or(FileError::Unknown)
}

fn theirs(store: &Store, number: i64) -> Result<FileEntry, FileError> {
    let entry = store.file(number)?.ok_or(FileError::Unknown)?;
    match entry.ours {
        true => Err(FileError::Ours),
        false => Ok(entry),
    }
}

fn over(entry: &FileEntry) -> FileError {
    FileError::Over(entry.cause.map_or("it has ended", FileCause::words))
}

/// How large the chunks of our files are.
const CHUNK: u32 = MAX_CHUNK;

#[cfg(test)]
mod tests;
