//! Takes full files out of the writer's way, between two batches.

use std::time::{Duration, Instant};

use sealpost_archive::log_file::{AppendError, RotateError};
use sealpost_archive::storage::Storage;
use sealpost_core::Timestamp;

use crate::evidence::Synced;
use crate::writer::{Full, Writer};

/// How long a file that could not be renamed is written on before it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// When and where files are taken out of the way.
#[derive(Debug)]
pub struct Rotation<S> {
    storage: S,
    full: Full,
    /// Not before this; set when it failed.
    not_before: Option<Instant>,
}

impl<S: Storage> Rotation<S> {
    /// Of files in `storage`, as soon as they are `full`.
    #[must_use]
    pub fn new(storage: S, full: Full) -> Rotation<S> {
        Rotation {
            storage,
            full,
            not_before: None,
        }
    }

    /// Takes the active file out of the way if it is full, and says what the evidence is to be told then.
    ///
    /// # Errors
    /// [`AppendError`] when the writer takes no more. A file that cannot be renamed is written on.
    pub fn rotate_full(
        &mut self,
        writer: &mut Writer<S::File>,
        now: Timestamp,
    ) -> Result<Option<Synced>, AppendError> {
        if !writer.is_full(self.full, now) {
            return Ok(None);
        }
        if self
            .not_before
            .is_some_and(|not_before| Instant::now() < not_before)
        {
            return Ok(None);
        }
        self.rotate(writer)
    }

    /// Takes the active file out of the way if there is anything in it.
    ///
    /// # Errors
    /// As [`Rotation::rotate_full`].
    pub fn rotate(&mut self, writer: &mut Writer<S::File>) -> Result<Option<Synced>, AppendError> {
        match writer.rotate(&self.storage) {
            Ok(first) => {
                self.not_before = None;
                Ok(first.map(Synced::Full))
            }
            Err(RotateError::Failed(error)) => Err(error),
            Err(RotateError::Refused(error)) => {
                tracing::error!(
                    log = writer.name().as_str(),
                    "cannot begin a new file: {error}; the full one is written on, and it is tried again"
                );
                self.not_before = Some(Instant::now() + AGAIN);
                Ok(None)
            }
        }
    }
}
