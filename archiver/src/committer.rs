//! Group commit: takes whatever has arrived since the last sync as one batch, has it written, and
//! only then hands the receipts back. It runs on a thread of its own, since writing and syncing
//! block.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archive::storage::Storage;
use sealpost_core::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use crate::arrival::{Arrival, Receipt};
use crate::evidence::Synced;
use crate::health::Health;
use crate::room::Room;
use crate::rotation::Rotation;
use crate::signers::Signers;
use crate::work::{Inbox, NewRecord, Order, Work};
use crate::writer::{Archived, Removal, Writer};

/// Where a batch is closed although more is there, in bytes held by its arrivals: large enough that
/// the sync is a small part of the time, small enough that acknowledgements keep flowing.
const MAX_BATCH: usize = 8 << 20;

/// How long a batch gathers when many arrive: a few times what a sync takes, and little beside what MQTT lets be on its way.
/// Syncs and wakings are then shared by more messages.
const GATHER: Duration = Duration::from_millis(2);

/// From how many arrivals in a batch on the next one gathers. Below, who waits for the acknowledgement of the last message would wait
/// for nothing.
const MANY: usize = 16;

/// Why a removal is not recorded.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("{0}")]
    NotNow(String),
    #[error(transparent)]
    Failed(#[from] AppendError),
}

/// The two logs of an archive, open for writing.
#[derive(Debug)]
pub struct Logs<F> {
    /// What came on `inbox/+`.
    pub messages: Writer<F>,
    /// What came on `keys/+`.
    pub keys: Writer<F>,
}

/// What the logs are committed with.
#[derive(Debug)]
pub struct Committer<S: Storage> {
    logs: Logs<S::File>,
    room: Room<S>,
    rotation: Rotation<S>,
    /// Whose signatures are known; `None` if they are not checked.
    signers: Option<Signers>,
    health: Arc<Health>,
    /// Whether messages that are no envelopes were spoken of.
    warned: bool,
}

impl<S: Storage> Committer<S> {
    /// Commits to `logs`. `signers` are there if signatures are to be checked.
    #[must_use]
    pub fn new(
        logs: Logs<S::File>,
        room: Room<S>,
        rotation: Rotation<S>,
        signers: Option<Signers>,
        health: Arc<Health>,
    ) -> Committer<S> {
        Committer {
            logs,
            room,
            rotation,
            signers,
            health,
            warned: false,
        }
    }

    /// Commits batches until the senders of arrivals are gone, or until the disk fails.
    ///
    /// Both channels are unbounded in themselves; [`crate::subscription`] bounds what is in flight
    /// between them. Receipts come back in the order of arrival, and those of a failed batch never. `on_synced` gets what is on the
    /// medium. While there is no room, nothing is committed, and so nothing more is read after a while.
    ///
    /// # Errors
    /// [`AppendError`] when the disk fails.
    pub fn commit_all(
        &mut self,
        mut inbox: Inbox,
        receipts: &UnboundedSender<Vec<Receipt>>,
        mut clock: impl FnMut() -> Timestamp,
        mut on_synced: impl FnMut(LogName, Synced),
    ) -> Result<(), AppendError> {
        let mut batch = Vec::new();
        let mut many = false;
        while let Some(first) = inbox.wait() {
            if many {
                thread::sleep(GATHER);
            }
            let mut held = 0;
            let mut next = Some(first);
            let order = loop {
                match next {
                    Some(Work::Arrival(arrival)) => {
                        held += arrival.receipt.cost;
                        batch.push(arrival);
                    }
                    Some(Work::Order(order)) => break Some(order),
                    None => break None,
                }
                if held >= MAX_BATCH {
                    break None;
                }
                next = inbox.next();
            };
            many = batch.len() >= MANY;
            if let Some(signers) = &mut self.signers {
                batch
                    .iter_mut()
                    .for_each(|arrival| signers.look_at(arrival));
            }
            if !batch.is_empty() && !self.commit(&batch, &mut inbox, &mut clock, &mut on_synced)? {
                tracing::warn!("stopping without room: the broker keeps what was not acknowledged");
                return Ok(());
            }
            // Nobody listens any more when the connection's side ended first; what is archived stays
            // archived.
            if !batch.is_empty() {
                let _ = receipts.send(batch.drain(..).map(|arrival| arrival.receipt).collect());
            }
            // After the receipts: nobody waits for the renaming of files.
            self.obey(order.unwrap_or(Order::SealFull), &mut clock, &mut on_synced)?;
        }
        Ok(())
    }

    /// Does what it is told to do beside archiving.
    fn obey(
        &mut self,
        order: Order,
        clock: &mut impl FnMut() -> Timestamp,
        on_synced: &mut impl FnMut(LogName, Synced),
    ) -> Result<(), AppendError> {
        if let Order::Record { log, record, reply } = order {
            let recorded = self.record(log, &record, clock(), on_synced);
            let (answer, done) = match recorded {
                Ok(removal) => (Ok(removal), Ok(())),
                Err(RecordError::NotNow(reason)) => (Err(reason), Ok(())),
                Err(RecordError::Failed(error)) => (Err(error.to_string()), Err(error)),
            };
            // Whoever asked may be gone; what is recorded is done all the same.
            let _ = reply.send(answer);
            return done;
        }
        for writer in [&mut self.logs.keys, &mut self.logs.messages] {
            let rotated = if matches!(order, Order::Seal) {
                self.rotation.rotate(writer)?
            } else {
                self.rotation.rotate_full(writer, clock())?
            };
            if let Some(full) = rotated {
                on_synced(writer.name(), full);
            }
        }
        Ok(())
    }

    /// Adds a record of a removal. A line in the active file is first put out of the way with it: only full files are changed.
    fn record(
        &mut self,
        log: LogName,
        record: &NewRecord,
        now: Timestamp,
        on_synced: &mut impl FnMut(LogName, Synced),
    ) -> Result<Removal, RecordError> {
        let writer = match log {
            LogName::EncryptedLogs => &mut self.logs.messages,
            LogName::KeyHistory => &mut self.logs.keys,
        };
        if let NewRecord::Erasure { erased, .. } = record
            && erased.seq >= writer.active_first()
        {
            match self.rotation.rotate(writer)? {
                Some(full) => on_synced(log, full),
                None => {
                    return Err(RecordError::NotNow(
                        "the file that the line is in cannot be put out of the way".to_owned(),
                    ));
                }
            }
        }
        match writer.record(record.borrowed(), now) {
            Ok((leaf, removal)) => {
                on_synced(log, Synced::Lines(vec![leaf]));
                on_synced(log, Synced::Removal(removal));
                Ok(removal)
            }
            Err(AppendError::Full(error)) => Err(RecordError::NotNow(format!(
                "there is no room for the record: {error}"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits a batch, as soon as there is room. `false` if it was told to stop before there was.
    fn commit(
        &mut self,
        batch: &[Arrival],
        inbox: &mut Inbox,
        clock: &mut impl FnMut() -> Timestamp,
        on_synced: &mut impl FnMut(LogName, Synced),
    ) -> Result<bool, AppendError> {
        loop {
            // A disk that cannot say how full it is will say the rest when it is written to.
            let missing = match self.room.is_missing().unwrap_or(None) {
                Some(reason) => reason,
                None => match self.try_commit_watched(batch, clock, on_synced) {
                    Err(AppendError::Full(error)) => error.to_string(),
                    done => {
                        done?;
                        if self.health.has_room() {
                            tracing::info!("there is room again: archiving goes on");
                        }
                        return Ok(true);
                    }
                },
            };
            if self.health.has_no_room(&missing) {
                tracing::error!(
                    "the disk is full: {missing}. Nothing is acknowledged until there is room; archiving then goes on by itself"
                );
            }
            if inbox.is_closed() {
                return Ok(false);
            }
            // They may be what makes room.
            while let Some(order) = inbox.next_order() {
                self.obey(order, clock, on_synced)?;
            }
            self.room.wait();
        }
    }

    /// As [`Committer::try_commit`], and tells since when it has been at it.
    fn try_commit_watched(
        &mut self,
        batch: &[Arrival],
        clock: &mut impl FnMut() -> Timestamp,
        on_synced: &mut impl FnMut(LogName, Synced),
    ) -> Result<(), AppendError> {
        self.health.busy();
        let done = self.try_commit(batch, clock, on_synced);
        self.health.idle();
        done
    }

    /// Writes a batch to both logs. The bundles come first: who has the log of messages then has the keys to it.
    fn try_commit(
        &mut self,
        batch: &[Arrival],
        clock: &mut impl FnMut() -> Timestamp,
        on_synced: &mut impl FnMut(LogName, Synced),
    ) -> Result<(), AppendError> {
        let now = clock();
        for (log, writer) in [
            (LogName::KeyHistory, &mut self.logs.keys),
            (LogName::EncryptedLogs, &mut self.logs.messages),
        ] {
            let Archived {
                written,
                unfit,
                duplicates,
                leaves,
            } = writer.archive(batch.iter().filter(|arrival| arrival.log == log), now)?;
            self.health.archived(log, written, unfit, duplicates);
            if leaves.is_empty() {
                continue;
            }
            tracing::debug!(
                log = log.as_str(),
                written,
                unfit,
                duplicates,
                last_seq = writer.next_seq() - 1,
                "archived"
            );
            on_synced(log, Synced::Lines(leaves));
            // Said once: whoever sends such messages should not fill the operator's disk with warnings.
            if unfit > 0 && !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    "keeping messages that are no envelopes for their topic; their lines have an \"error\""
                );
            }
        }
        Ok(())
    }
}
