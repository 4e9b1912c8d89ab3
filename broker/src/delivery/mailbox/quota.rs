//! What a mailbox may hold: in all, together with the others, and of one sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Mailbox, State};
use crate::metrics::meters::PublishMeter;
use crate::protocol::message::Message;
use crate::protocol::outcome::Quota;

/// What a mailbox may hold, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Whether it is an archiver's, who keeps mail but is never whom it is for.
    pub archive: bool,
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Message::size`] counts them.
    pub bytes: usize,
    /// Percent of it that one sender may fill to whom the owner has written.
    pub sender: usize,
    /// Percent of it that one sender may fill to whom the owner never wrote.
    pub stranger: usize,
}

/// Who wants to put something into a mailbox.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The user's name.
    pub name: &'a str,
    /// Whether the mailbox's owner has written to them.
    pub known: bool,
}

/// What all mailboxes are counted in.
#[derive(Debug, Default)]
pub struct Totals {
    /// Bytes that kept mailboxes are owed, in memory or on disk.
    pub kept_bytes: AtomicUsize,
    /// Messages of QoS 0 that were dropped because a reader was too slow or away.
    pub dropped: AtomicU64,
    /// Messages that expired before they were delivered.
    pub expired: AtomicU64,
    /// Publishes that were written to clients.
    pub sent: AtomicU64,
    /// Publishes, by how they ended.
    pub publishes: PublishMeter,
}

impl Mailbox {
    /// Finds room in a kept mailbox for another message of this size, all of them together not having more than
    /// `all` bytes, and its sender not more than their share, so that nobody keeps others' mail out. A mailbox that is not
    /// kept always has.
    ///
    /// # Errors
    /// The bound that keeps it out.
    pub fn find_room(
        &self,
        size: usize,
        all: usize,
        sender: Option<Sender<'_>>,
    ) -> Result<(), Quota> {
        if self.kept.is_none() {
            return Ok(());
        }
        let state = self.lock();
        let of_sender = sender.is_none_or(|Sender { name, known }| {
            let percent = if known {
                self.share.sender
            } else {
                self.share.stranger
            };
            let (messages, bytes) = state.senders.get(name).copied().unwrap_or_default();
            // The first always fits a share, however small.
            messages == 0
                || (messages < self.share.messages.saturating_mul(percent) / 100
                    && bytes + size <= self.share.bytes.saturating_mul(percent) / 100)
        });
        let archive = self.share.archive;
        if state.messages >= self.share.messages || state.bytes + size > self.share.bytes {
            return Err(if archive {
                Quota::Archive
            } else {
                Quota::Mailbox
            });
        }
        if !of_sender {
            return Err(match sender {
                _ if archive => Quota::ArchiveShare,
                Some(Sender { known: true, .. }) => Quota::Share,
                _ => Quota::StrangersShare,
            });
        }
        if self.totals.kept_bytes.load(Ordering::Relaxed) + size > all {
            return Err(Quota::AllMailboxes);
        }
        Ok(())
    }
}

impl State {
    pub(super) fn add(&mut self, message: &Message, by_sender: bool) {
        let size = message.size();
        self.messages += 1;
        self.bytes += size;
        if let Some(sender) = message.sender.as_ref().filter(|_| by_sender) {
            let (messages, bytes) = self.senders.entry(Arc::clone(sender)).or_default();
            *messages += 1;
            *bytes += size;
        }
    }

    pub(super) fn subtract(&mut self, message: &Message) {
        let size = message.size();
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        if let Some(sender) = &message.sender
            && let Some((messages, bytes)) = self.senders.get_mut(sender)
        {
            *messages = messages.saturating_sub(1);
            *bytes = bytes.saturating_sub(size);
            if *messages == 0 {
                self.senders.remove(sender);
            }
        }
    }
}
