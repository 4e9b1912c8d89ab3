//! A mailbox: what a session, or a group that shares a subscription, has yet to be sent, in order.
//!
//! A **kept** mailbox is in the journal: every entry of QoS 1 and 2 is recorded there when it comes and when it is done
//! with. Of these a mailbox has only the next few in memory, and none while nobody reads it; from some sequence number
//! on they are on disk alone (it is **behind**), and are loaded again as the reader gets there. It has a quota and never
//! holds anybody. A mailbox that is not kept lives with its connection, in memory; when it grows long, the
//! acknowledgements of those who write to it are held.
//!
//! Messages that a newer one on their topic replaces (key bundles) stand apart, one for each topic: they are never more
//! than the topics subscribed to, and leave first, for mail may need the keys that came before it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttd::protocol::QoS;
use sealpost_core::Timestamp;
use tokio::time::Instant;

use crate::delivery::account::{Account, Held, Share};
use crate::delivery::receipt::Receipt;
use crate::delivery::wire::Wire;
use crate::journal::record::{MailboxId, Note};
use crate::journal::{Change, Journal};
use crate::protocol::message::Message;
use crate::protocol::topic_name::TopicName;

mod loading;
mod totals;

pub use totals::Totals;

/// Messages in the memory of a mailbox from which on a kept one is behind, and the acknowledgements of those who write
/// to another are held.
pub const LIVE_MESSAGES: usize = 1_000;

/// Bytes, likewise; for a mailbox that is not kept, those that its reader has not acknowledged count too.
pub const LIVE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes whose publishers' acknowledgements a mailbox that is not kept may hold. Far more than a reader who keeps up ever leaves,
/// also with thousands of publishers at their windows; above it, nobody waits for the reader any longer.
pub const HELD_BYTES: usize = 64 * 1024 * 1024;

/// A message for one reader.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The lower of the publisher's and the subscription's.
    pub qos: QoS,
    /// Whether it is marked as retained.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched (MQTT 5).
    pub subscription_ids: Vec<usize>,
}

/// A place in a mailbox.
#[derive(Debug)]
pub struct Entry {
    /// Its number in the mailbox, ascending.
    pub seq: u64,
    /// What is to be sent.
    pub delivery: Delivery,
    /// Whether it may have been sent before.
    pub again: bool,
    /// Whether its receiver has it and only the release is due (QoS 2).
    pub released: bool,
    /// Set once it may be sent (QoS 2).
    after: Option<Arc<AtomicBool>>,
    hold: Option<Hold>,
}

/// The publisher's acknowledgement, held until this entry has left.
#[derive(Debug)]
struct Hold {
    _receipt: Arc<Receipt>,
    since: Instant,
}

/// What became of a message for a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the mailbox.
    Queued,
    /// It is in the mailbox, which is so long that the publisher's acknowledgement is held.
    Held,
    /// Likewise, and it holds more than any may: its reader is to be disconnected.
    Overflowing,
    /// It was QoS 0 and there was no room, or nobody connected.
    Dropped,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Next {
    /// The next entry, taken out. It counts against the quota until [`Mailbox::done`].
    Entry(Entry),
    /// The next entries are on disk: [`Mailbox::load`] them.
    Load,
    /// The next entry must wait, for the reader's window or for the journal.
    Wait,
    /// There is nothing; the reader is woken when there is.
    Empty,
}

/// A mailbox.
#[derive(Debug)]
pub struct Mailbox {
    kept: Option<(Journal, MailboxId)>,
    account: Arc<Account>,
    totals: Arc<Totals>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_seq: u64,
    newest: HashMap<TopicName, Entry>,
    newest_order: VecDeque<TopicName>,
    queue: VecDeque<Entry>,
    queue_bytes: usize,
    /// From here on, entries are on disk alone.
    behind: Option<u64>,
    /// The last entry that is on disk alone.
    last_behind: u64,
    loading: bool,
    /// The highest sequence number that was sent.
    sent: u64,
    /// The journal's group with this mailbox's latest change.
    group: u64,
    /// What it is owed, sent and unacknowledged too.
    messages: usize,
    bytes: usize,
    /// Of these, what is charged to the owner, in a kept mailbox.
    charged: Held,
    /// An entry that it is still owed, and when it came: the newest at the time when it was chosen, so that
    /// looking is cheap. The oldest has waited for at least as long.
    waiting: Option<(u64, Instant)>,
    holds: usize,
    held_bytes: usize,
    readers: usize,
    hungry: VecDeque<Arc<Wire>>,
    ended: bool,
}

impl Mailbox {
    /// An empty mailbox, kept in the journal under a number or not at all.
    #[must_use]
    pub fn new(
        kept: Option<(Journal, MailboxId)>,
        account: Arc<Account>,
        totals: Arc<Totals>,
    ) -> Mailbox {
        Mailbox {
            kept,
            account,
            totals,
            state: Mutex::new(State {
                next_seq: 1,
                ..State::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number in the journal, if it is kept.
    #[must_use]
    pub fn id(&self) -> Option<MailboxId> {
        self.kept.as_ref().map(|(_, id)| *id)
    }

    /// Whether it outlives the process.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// What its owner may hold.
    #[must_use]
    pub fn share(&self) -> Share {
        self.account.share()
    }

    /// Whom it is charged to.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether it is charged with an even part of what its owner may hold, or more.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.account.is_large(&self.lock().charged)
    }

    /// Messages owed, and their bytes, those sent and not acknowledged too.
    #[must_use]
    pub fn load_of(&self) -> (usize, usize) {
        let state = self.lock();
        (state.messages, state.bytes)
    }

    /// How long the entry that has waited longest has waited at least, those sent and not acknowledged too. After a restart it
    /// counts from there.
    #[must_use]
    pub fn waits_for(&self, now: Instant) -> Duration {
        let waiting = self.lock().waiting;
        waiting.map_or(Duration::ZERO, |(_, since)| {
            now.saturating_duration_since(since)
        })
    }

    /// The highest sequence number that was sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// Adds a message. `receipt`: what its publisher waits for. `after_commit`: set once it may be sent, if that
    /// is not at once.
    pub fn push(
        &self,
        delivery: Delivery,
        receipt: Option<&Arc<Receipt>>,
        after_commit: Option<&Arc<AtomicBool>>,
    ) -> Pushed {
        let mut state = self.lock();
        let size = delivery.message.size();
        let reliable = delivery.qos != QoS::AtMostOnce;
        let long = state.behind.is_some()
            || state.queue.len() >= LIVE_MESSAGES
            || state.queue_bytes >= LIVE_BYTES
            || (self.kept.is_none() && state.bytes >= LIVE_BYTES);
        if state.ended || (!reliable && (long || state.readers == 0)) {
            self.totals.dropped.fetch_add(1, Ordering::Relaxed);
            return Pushed::Dropped;
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        state.messages += 1;
        state.bytes += size;
        if self.kept.is_some() {
            self.totals.kept_bytes.fetch_add(size, Ordering::Relaxed);
            self.account.charge(&mut state.charged, &delivery);
        }
        if state.waiting.is_none() {
            state.waiting = Some((seq, Instant::now()));
        }
        if reliable {
            let note = |delivery: &Delivery| {
                Note::new(
                    &delivery.message,
                    delivery.qos,
                    delivery.retain,
                    &delivery.subscription_ids,
                )
            };
            state.record(self, |mailbox| Change::Owe {
                mailbox,
                seq,
                note: note(&delivery),
                message: Arc::clone(&delivery.message),
            });
        }
        let mut entry = Entry {
            seq,
            delivery,
            again: false,
            released: false,
            after: after_commit.cloned(),
            hold: None,
        };
        let mut pushed = Pushed::Queued;
        if entry.delivery.message.supersedes {
            if let Some(old) = state.supersede(entry) {
                state.done(self, &old);
            }
        } else if self.kept.is_some() && reliable && (long || state.readers == 0) {
            state.behind.get_or_insert(seq);
            state.last_behind = seq;
        } else {
            if let Some(receipt) = receipt.filter(|_| long && self.kept.is_none()) {
                state.holds += 1;
                state.held_bytes += size;
                pushed = if state.held_bytes > HELD_BYTES {
                    Pushed::Overflowing
                } else {
                    Pushed::Held
                };
                entry.hold = Some(Hold {
                    _receipt: Arc::clone(receipt),
                    since: Instant::now(),
                });
            }
            state.queue_bytes += size;
            state.queue.push_back(entry);
        }
        state.wake_one();
        pushed
    }

    /// The next entry for a reader. `may`: whether the reader's window and packet identifiers allow the entry with this
    /// QoS and sequence number.
    pub fn next(&self, reader: &Arc<Wire>, now: Timestamp, may: impl Fn(QoS, u64) -> bool) -> Next {
        let mut state = self.lock();
        loop {
            let newest = state
                .newest_order
                .front()
                .and_then(|topic| state.newest.get(topic));
            let is_newest = newest.is_some();
            let Some(entry) = newest.or_else(|| state.queue.front()) else {
                if state.behind.is_some() && !state.loading {
                    return Next::Load;
                }
                state.wait(reader);
                return Next::Empty;
            };
            let after = entry.after.as_ref();
            let committed = after.is_none_or(|committed| committed.load(Ordering::Acquire));
            let expired = !entry.released && entry.delivery.message.is_expired(now);
            if !expired && !committed {
                state.wait(reader);
                return Next::Wait;
            }
            if !expired && !may(entry.delivery.qos, entry.seq) {
                // If it was this reader's turn, it is another's now.
                state.hungry.retain(|other| !Arc::ptr_eq(other, reader));
                state.wake_one();
                return Next::Wait;
            }
            let entry = if is_newest {
                let topic = state.newest_order.pop_front();
                topic.and_then(|topic| state.newest.remove(&topic))
            } else {
                state.queue.pop_front()
            };
            let Some(mut entry) = entry else {
                return Next::Empty;
            };
            if !is_newest {
                state.queue_bytes -= entry.delivery.message.size();
            }
            if entry.hold.take().is_some() {
                state.holds -= 1;
                state.held_bytes -= entry.delivery.message.size();
            }
            if expired {
                self.totals.expired.fetch_add(1, Ordering::Relaxed);
                state.done(self, &entry);
                continue;
            }
            if entry.delivery.qos != QoS::AtMostOnce {
                state.sent = state.sent.max(entry.seq);
            }
            return Next::Entry(entry);
        }
    }

    /// An entry needs no more care: it was acknowledged, or cannot be sent.
    pub fn done(&self, entry: &Entry) {
        self.lock().done(self, entry);
    }

    /// The receiver of an entry has it (QoS 2). Returns the journal's group to wait for before its release may be sent.
    pub fn release(&self, entry: &mut Entry) -> u64 {
        entry.released = true;
        let mut note = Note::new(
            &entry.delivery.message,
            entry.delivery.qos,
            entry.delivery.retain,
            &entry.delivery.subscription_ids,
        );
        note.released = true;
        let mut state = self.lock();
        state.record(self, |mailbox| Change::Released {
            mailbox,
            seq: entry.seq,
            note,
        });
        if self.kept.is_some() { state.group } else { 0 }
    }

    /// A reader has come.
    pub fn enter(&self) {
        self.lock().readers += 1;
    }

    /// The one reader has left; `unfinished` is what it had been sent. The next reader begins with that.
    pub fn rewind(&self, unfinished: Vec<Entry>) {
        let mut state = self.lock();
        state.readers = 0;
        state.hungry.clear();
        let mut first = state
            .queue
            .iter()
            .find(|entry| entry.delivery.qos != QoS::AtMostOnce)
            .map(|entry| entry.seq);
        // The latest first: of what replaces each other, that one stays.
        for mut entry in unfinished.into_iter().rev() {
            entry.again = true;
            if !entry.delivery.message.supersedes {
                first = Some(first.map_or(entry.seq, |first| first.min(entry.seq)));
            } else if state.newest.contains_key(&entry.delivery.message.topic) {
                state.done(self, &entry);
            } else {
                state
                    .newest_order
                    .push_front(entry.delivery.message.topic.clone());
                state
                    .newest
                    .insert(entry.delivery.message.topic.clone(), entry);
            }
        }
        let queue = std::mem::take(&mut state.queue);
        for entry in &queue {
            if entry.delivery.qos == QoS::AtMostOnce {
                self.totals.dropped.fetch_add(1, Ordering::Relaxed);
                state.done(self, entry);
            } else {
                state.last_behind = state.last_behind.max(entry.seq);
            }
        }
        state.queue_bytes = 0;
        state.holds = 0;
        state.held_bytes = 0;
        if let Some(first) = first {
            // What was sent is on disk and nowhere else now.
            state.last_behind = state.last_behind.max(state.sent);
            state.behind = Some(state.behind.map_or(first, |behind| behind.min(first)));
        }
    }

    /// One of several readers has left; `unfinished` is what it had been sent and goes to the others.
    pub fn give_back(&self, reader: &Arc<Wire>, unfinished: Vec<Entry>) {
        let mut state = self.lock();
        state.readers = state.readers.saturating_sub(1);
        state.hungry.retain(|other| !Arc::ptr_eq(other, reader));
        for entry in unfinished {
            state.queue_bytes += entry.delivery.message.size();
            state.queue.push_back(entry);
        }
        state.queue.make_contiguous().sort_by_key(|entry| entry.seq);
        // It may have been this reader's turn.
        state.wake_one();
    }

    /// Counts a publish that was written to a client.
    pub fn count_sent(&self) {
        self.totals.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the other readers if there is something left, and nobody for nothing: whoever is woken and finds nothing
    /// goes to the end of the line.
    pub fn pass_on(&self) {
        let mut state = self.lock();
        if !state.queue.is_empty() || state.behind.is_some() {
            state.wake_all();
        }
    }

    /// Wakes whoever waits for something to read: what had to wait for the journal need not any more.
    pub fn wake(&self) {
        self.lock().wake_all();
    }

    /// Ends the mailbox: it is owed nothing any more.
    pub fn end(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        if let Some((journal, id)) = &self.kept {
            journal.record(Change::End(*id));
            self.totals
                .kept_bytes
                .fetch_sub(state.bytes, Ordering::Relaxed);
            self.account.discharge_all(&state.charged);
        }
        *state = State {
            ended: true,
            ..State::default()
        };
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().messages == 0
    }

    /// Lets every held acknowledgement go.
    pub fn release_holds(&self) {
        let mut state = self.lock();
        if state.holds > 0 {
            state.queue.iter_mut().for_each(|entry| entry.hold = None);
            state.holds = 0;
            state.held_bytes = 0;
        }
    }

    /// Since when the oldest held acknowledgement has been held.
    #[must_use]
    pub fn holds_since(&self) -> Option<Instant> {
        let state = self.lock();
        if state.holds == 0 {
            return None;
        }
        // Entries leave in order, so the first hold found is the oldest.
        let mut holds = state.queue.iter().filter_map(|entry| entry.hold.as_ref());
        holds.next().map(|hold| hold.since)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.kept.is_some() {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.totals
                .kept_bytes
                .fetch_sub(state.bytes, Ordering::Relaxed);
            self.account.discharge_all(&state.charged);
        }
    }
}

impl State {
    fn record(&mut self, mailbox: &Mailbox, change: impl FnOnce(MailboxId) -> Change) {
        if let Some((journal, id)) = &mailbox.kept
            && !self.ended
        {
            self.group = journal.record(change(*id));
        }
    }

    fn done(&mut self, mailbox: &Mailbox, entry: &Entry) {
        if self.ended {
            return;
        }
        let size = entry.delivery.message.size();
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        if self.waiting.is_none_or(|(seq, _)| entry.seq >= seq) {
            let newest = (self.next_seq.saturating_sub(1), Instant::now());
            self.waiting = (self.messages > 0).then_some(newest);
        }
        if mailbox.kept.is_some() {
            mailbox.totals.kept_bytes.fetch_sub(size, Ordering::Relaxed);
            mailbox
                .account
                .discharge(&mut self.charged, &entry.delivery);
        }
        if entry.delivery.qos != QoS::AtMostOnce {
            self.record(mailbox, |mailbox| Change::Done {
                mailbox,
                seq: entry.seq,
                message: entry.delivery.message.number,
            });
        }
    }

    /// Puts an entry in place of an older one on its topic, which it returns.
    fn supersede(&mut self, entry: Entry) -> Option<Entry> {
        let topic = entry.delivery.message.topic.clone();
        let old = self.newest.insert(topic.clone(), entry);
        if old.is_none() {
            self.newest_order.push_back(topic);
        }
        old
    }

    fn wait(&mut self, reader: &Arc<Wire>) {
        if !self.hungry.iter().any(|other| Arc::ptr_eq(other, reader)) {
            self.hungry.push_back(Arc::clone(reader));
        }
    }

    fn wake_one(&mut self) {
        if let Some(reader) = self.hungry.pop_front() {
            reader.wake();
        }
    }

    fn wake_all(&mut self) {
        for reader in self.hungry.drain(..) {
            reader.wake();
        }
    }
}
