//! The keeper of a log's full files: seals them, and removes what is to be removed, on a thread of its own. Archiving never waits
//! for it.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use sealpost_archive::storage::Storage;

use crate::sealer::{Sealer, SealerError};
use crate::writer::{FullFile, Recovery, Removal};

/// How long it waits before it tries again what failed.
pub const AGAIN: Duration = Duration::from_secs(30);

/// Something to be done. One waits for the other: the record of a removal is not sealed before the removal is done, so that what
/// is not done can be known from the lines that are not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// To seal a full file.
    Seal(FullFile),
    /// To do what a record says was done.
    Remove(Removal),
}

/// What the keeper did.
#[derive(Debug)]
pub enum Event<'a> {
    /// It is done.
    Done(&'a Job),
    /// It is not done, and will be tried again.
    Failed(&'a Job, &'a SealerError),
}

/// What was left undone when the log was last closed, in order.
#[must_use]
pub fn unfinished(recovery: &Recovery) -> Vec<Job> {
    let removals = recovery.removals.iter().copied().map(Job::Remove);
    removals
        .chain(recovery.full.iter().copied().map(Job::Seal))
        .collect()
}

/// Does what is `unfinished` and what comes over `jobs`, one after the other, until nobody sends any more. What fails is tried again
/// after `again`; what comes after it waits. What is not done at the end is done after the next start.
pub fn keep<S: Storage>(
    mut sealer: Sealer<S>,
    unfinished: Vec<Job>,
    jobs: &Receiver<Job>,
    again: Duration,
    mut on_event: impl FnMut(Event<'_>),
) {
    let mut waiting = VecDeque::from(unfinished);
    let mut failing = false;
    if let Err(error) = sealer.tidy() {
        tracing::warn!(
            log = sealer.log().as_str(),
            "cannot remove what an earlier run left unfinished: {error}"
        );
    }
    loop {
        let came = match waiting.front() {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) if failing => jobs.recv_timeout(again),
            Some(_) => jobs.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
        };
        match came {
            Ok(job) => {
                waiting.push_back(job);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) if waiting.is_empty() || failing => return,
            Err(_) => {}
        }
        let Some(job) = waiting.front().copied() else {
            continue;
        };
        match sealer.perform(&job) {
            Ok(()) => {
                waiting.pop_front();
                if std::mem::take(&mut failing) {
                    tracing::info!(log = sealer.log().as_str(), "full files are sealed again");
                }
                on_event(Event::Done(&job));
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tell(sealer.log().as_str(), &job, &error);
                }
                on_event(Event::Failed(&job, &error));
            }
        }
    }
}

fn tell(log: &str, job: &Job, error: &SealerError) {
    let room = if error.is_full() {
        " for want of room"
    } else {
        ""
    };
    match job {
        Job::Seal(full) => tracing::error!(
            log,
            first = full.first,
            "a full file cannot be sealed{room}: {error}. It stays as it is, nothing is lost, and it is tried again"
        ),
        Job::Remove(removal) => tracing::error!(
            log,
            ?removal,
            "what is to be removed is still there{room}: {error}. It is tried again"
        ),
    }
}

impl<S: Storage> Sealer<S> {
    /// Does a job. What was done of it already is not done again.
    ///
    /// # Errors
    /// [`SealerError`]; it may be tried again.
    pub fn perform(&mut self, job: &Job) -> Result<(), SealerError> {
        match job {
            Job::Seal(full) => {
                self.seal(full)?;
                tracing::info!(
                    log = self.log().as_str(),
                    first = full.first,
                    last = full.head.size,
                    "sealed"
                );
                Ok(())
            }
            Job::Remove(Removal::Erasure {
                erases,
                leaf,
                record,
            }) => self.erase(*erases, *leaf, *record),
            Job::Remove(Removal::Retirement { retires }) => self.retire(*retires),
        }
    }
}
