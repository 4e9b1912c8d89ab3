//! A session: what one client is owed, whether it is connected or not, and what is under way to and from it.
//!
//! A **durable** session (clean session 0, or a session expiry above 0) has a kept mailbox: it never holds anybody, it
//! falls behind. A **clean** one lives with its connection; when it falls behind, the acknowledgements of those who
//! write to it are held until it catches up, and if that takes too long it is disconnected, never skipped.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttd::protocol::{DisconnectReasonCode, Packet, PubRel, PubRelReason, QoS};
use sealpost_core::Timestamp;
use tokio::time::Instant;

use crate::delivery::account::Share;
use crate::delivery::mailbox::{Entry, Mailbox};
use crate::delivery::wire::{Goodbye, Wire};
use crate::journal::record::{MailboxId, SessionRecord};
use crate::journal::{Change, Journal};
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::FilterName;

mod reception;
mod sending;

use reception::Reception;

/// A session belongs to a name and a client id: nobody takes over another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Who logged in; empty when the broker is open.
    pub owner: String,
    /// The client id.
    pub client_id: String,
}

/// Which connection a session is attached to, and what that client takes.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The connection.
    pub wire: Arc<Wire>,
    /// Unacknowledged deliveries it takes (Receive Maximum; MQTT 3.1.1 has none).
    pub receive_maximum: Option<u16>,
    /// Bytes of the largest packet it takes (MQTT 5).
    pub max_packet: Option<u32>,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    key: SessionKey,
    user: Option<Arc<str>>,
    mailbox: Arc<Mailbox>,
    kept: Option<(Journal, MailboxId)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Nothing of it is recorded any more.
    ended: bool,
    expiry: Duration,
    detached: Option<Detached>,
    attachment: Option<Attachment>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    pkids: HashSet<u16>,
    last_shared_pkid: u16,
    /// Releases (QoS 2) to be sent once the journal's group is committed.
    releases: VecDeque<(u16, u64)>,
    received: HashMap<u16, Reception>,
    groups: Vec<Membership>,
    next_group: usize,
}

#[derive(Debug, Clone, Copy)]
struct Detached {
    since: Instant,
    /// How long it is kept from then on.
    left: Duration,
}

#[derive(Debug)]
struct InFlight {
    pkid: u16,
    /// The mailbox of the group that it comes from, or none for the session's own.
    group: Option<Arc<Mailbox>>,
    entry: Entry,
}

/// A share in a group's mailbox.
#[derive(Debug)]
struct Membership {
    filter: FilterName,
    mailbox: Arc<Mailbox>,
    subscription: Subscription,
}

/// What a connection's writer found.
#[derive(Debug)]
pub enum Filled {
    /// There may be more.
    More,
    /// All that can be sent now is written.
    Idle,
    /// What comes next in this mailbox has to be loaded from disk.
    Load(Arc<Mailbox>),
    /// The session belongs to another connection now, or has ended.
    Gone,
}

impl Session {
    /// A session without a connection. It is durable if its mailbox is kept.
    #[must_use]
    pub fn new(
        key: SessionKey,
        mailbox: Arc<Mailbox>,
        journal: Option<Journal>,
        expiry: Duration,
    ) -> Session {
        let kept = journal.and_then(|journal| Some((journal, mailbox.id()?)));
        // Owners of other kinds have a colon; an open broker has none.
        let is_user = !key.owner.is_empty() && !key.owner.contains(':');
        Session {
            user: is_user.then(|| key.owner.as_str().into()),
            key,
            mailbox,
            kept,
            state: Mutex::new(State {
                ended: false,
                expiry,
                detached: Some(Detached {
                    since: Instant::now(),
                    left: expiry,
                }),
                attachment: None,
                in_flight: VecDeque::new(),
                in_flight_bytes: 0,
                pkids: HashSet::new(),
                last_shared_pkid: 0,
                releases: VecDeque::new(),
                received: HashMap::new(),
                groups: Vec::new(),
                next_group: 0,
            }),
        }
    }

    /// As [`Session::new`], with what was left when the process ended: packet identifiers of messages received at QoS 2,
    /// and how long the session is still kept.
    #[must_use]
    pub fn recovered(
        key: SessionKey,
        mailbox: Arc<Mailbox>,
        journal: Journal,
        expiry: Duration,
        left: Duration,
        received: &[u16],
    ) -> Session {
        let session = Session::new(key, mailbox, Some(journal), expiry);
        let mut state = session.lock();
        if let Some(detached) = &mut state.detached {
            detached.left = left;
        }
        let taken = received.iter().map(|pkid| (*pkid, Reception::Taken));
        state.received.extend(taken);
        drop(state);
        session
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose it is.
    #[must_use]
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The user whose it is; none for archivers, operators and on an open broker.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// What it is owed.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Its number in the journal, if it is durable.
    #[must_use]
    pub fn id(&self) -> Option<MailboxId> {
        self.kept.as_ref().map(|(_, id)| *id)
    }

    /// Whether it ends when its connection does: a durable one, too, that its client came back to without an expiry.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        self.lock().expiry.is_zero()
    }

    /// Whether it is in the journal.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.kept.is_some()
    }

    /// What it may hold, and whether it is an archiver's.
    #[must_use]
    pub fn share(&self) -> Share {
        self.mailbox.share()
    }

    /// Gives the session to a connection. What was unacknowledged is sent again, in order, with the packet identifiers it
    /// had. A connection that had the session is told that it was taken over.
    pub fn attach(&self, attachment: Attachment, expiry: Duration) {
        let mut state = self.lock();
        self.let_go(&mut state);
        if let Some(old) = state.attachment.replace(attachment) {
            old.wire.close(Goodbye::new(
                DisconnectReasonCode::SessionTakenOver,
                "another connection with this client id took the session over",
            ));
        }
        state.expiry = expiry;
        state.detached = None;
        self.mailbox.enter();
        for group in &state.groups {
            group.mailbox.enter();
        }
        self.note(&state, None);
    }

    /// Takes the session from a connection that has ended. `expiry` when its DISCONNECT changed it.
    /// Returns whether the session ends with it.
    pub fn detach(&self, wire: &Arc<Wire>, expiry: Option<Duration>, now: Timestamp) -> bool {
        let mut state = self.lock();
        if !state.is_attached_to(wire) {
            return false;
        }
        // MQTT 5.0, section 3.14.2.2.2: an expiry of 0 at CONNECT must not become another.
        if let Some(expiry) = expiry.filter(|_| !state.expiry.is_zero()) {
            state.expiry = expiry;
        }
        self.let_go(&mut state);
        state.attachment = None;
        state.detached = Some(Detached {
            since: Instant::now(),
            left: state.expiry,
        });
        // Nobody waits for a connection that is gone.
        self.mailbox.release_holds();
        if state.expiry.is_zero() {
            return true;
        }
        self.note(&state, Some(now));
        false
    }

    /// Puts what is in flight back to where it came from.
    fn let_go(&self, state: &mut State) {
        let Some(attachment) = &state.attachment else {
            return;
        };
        let wire = Arc::clone(&attachment.wire);
        let mut own = Vec::new();
        let mut shared = state
            .groups
            .iter()
            .map(|group| (Arc::clone(&group.mailbox), Vec::new()))
            .collect::<Vec<_>>();
        for InFlight { group, entry, .. } in state.in_flight.drain(..) {
            match group {
                None => own.push(entry),
                Some(mailbox) => {
                    match shared
                        .iter_mut()
                        .find(|(other, _)| Arc::ptr_eq(other, &mailbox))
                    {
                        Some((_, entries)) => entries.push(entry),
                        None => mailbox.done(&entry),
                    }
                }
            }
        }
        state.in_flight_bytes = 0;
        state.pkids.clear();
        state.releases.clear();
        self.mailbox.rewind(own);
        for (mailbox, entries) in shared {
            mailbox.give_back(&wire, entries);
        }
    }

    /// Notes in the journal whether it is connected.
    fn note(&self, state: &State, detached: Option<Timestamp>) {
        if let Some((journal, id)) = &self.kept {
            journal.record(Change::Session(
                *id,
                SessionRecord {
                    owner: self.key.owner.clone(),
                    client_id: self.key.client_id.clone(),
                    expiry: u32::try_from(state.expiry.as_secs()).unwrap_or(u32::MAX),
                    detached: detached.map(Timestamp::millis),
                    sent: self.mailbox.sent(),
                },
            ));
        }
    }

    /// Whether it is this connection's.
    #[must_use]
    pub fn is_attached_to(&self, wire: &Arc<Wire>) -> bool {
        self.lock().is_attached_to(wire)
    }

    /// The session is over: nothing of it is kept.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.received.clear();
        self.mailbox.end();
    }

    /// Whether nobody has come back for it in time.
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        let detached = self.lock().detached;
        detached
            .is_some_and(|Detached { since, left }| now.saturating_duration_since(since) >= left)
    }

    /// Whether a connection has it.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().attachment.is_some()
    }

    /// Ends the connection that holds the session, if there is one. Returns whether there was one that was not about to
    /// end.
    pub fn disconnect(&self, goodbye: Goodbye) -> bool {
        let state = self.lock();
        let Some(attachment) = &state.attachment else {
            return false;
        };
        let lived = !attachment.wire.is_closed();
        attachment.wire.close(goodbye);
        lived
    }

    /// Since when nobody has been connected, if it also is owed nothing: it can go without a loss.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let detached = self.lock().detached?;
        self.mailbox.is_empty().then_some(detached.since)
    }

    /// Joins a group that shares a subscription, or replaces what it asks of it.
    pub fn join_group(
        &self,
        filter: &FilterName,
        mailbox: &Arc<Mailbox>,
        subscription: Subscription,
    ) {
        let mut state = self.lock();
        if let Some(group) = state
            .groups
            .iter_mut()
            .find(|group| group.filter == *filter)
        {
            group.subscription = subscription;
            return;
        }
        state.groups.push(Membership {
            filter: filter.clone(),
            mailbox: Arc::clone(mailbox),
            subscription,
        });
        if let Some(attachment) = &state.attachment {
            mailbox.enter();
            attachment.wire.wake();
        }
    }

    /// Leaves a group; what it was sent and has not acknowledged goes to the others.
    pub fn leave_group(&self, filter: &FilterName) {
        let mut state = self.lock();
        let Some(at) = state
            .groups
            .iter()
            .position(|group| group.filter == *filter)
        else {
            return;
        };
        let mailbox = state.groups.swap_remove(at).mailbox;
        let Some(wire) = state
            .attachment
            .as_ref()
            .map(|attachment| Arc::clone(&attachment.wire))
        else {
            return;
        };
        let mut unfinished = Vec::new();
        let mut rest = VecDeque::new();
        for in_flight in std::mem::take(&mut state.in_flight) {
            match &in_flight.group {
                Some(group) if Arc::ptr_eq(group, &mailbox) => {
                    state.pkids.remove(&in_flight.pkid);
                    state.in_flight_bytes -= in_flight.entry.delivery.message.size();
                    unfinished.push(in_flight.entry);
                }
                _ => rest.push_back(in_flight),
            }
        }
        state.in_flight = rest;
        mailbox.give_back(&wire, unfinished);
    }

    /// The client has acknowledged a delivery of QoS 1 (PUBACK).
    pub fn acknowledge(&self, wire: &Arc<Wire>, pkid: u16) {
        self.finish(wire, pkid, |entry| entry.delivery.qos != QoS::ExactlyOnce);
    }

    /// The client refuses a message of QoS 2 (PUBREC with a reason), which ends its delivery.
    pub fn refused(&self, wire: &Arc<Wire>, pkid: u16) {
        self.finish(wire, pkid, |entry| !entry.released);
    }

    /// The client has a message of QoS 2 (PUBREC).
    pub fn received(&self, wire: &Arc<Wire>, pkid: u16) {
        // What is recorded is in the group that is waited for.
        let _turn = self.kept.as_ref().map(|(journal, _)| journal.turn());
        let mut state = self.lock();
        if !state.is_attached_to(wire) {
            return;
        }
        let State {
            in_flight,
            releases,
            ..
        } = &mut *state;
        let found = in_flight
            .iter_mut()
            .find(|in_flight| in_flight.pkid == pkid);
        let Some(InFlight { entry, group, .. }) =
            found.filter(|in_flight| in_flight.entry.delivery.qos == QoS::ExactlyOnce)
        else {
            drop(state);
            wire.answer(release(pkid, PubRelReason::PacketIdentifierNotFound));
            return;
        };
        let group = if entry.released {
            0
        } else {
            group.as_ref().unwrap_or(&self.mailbox).release(entry)
        };
        // One that says it again and again and reads nothing is owed one release, not a queue without end.
        if releases.iter().any(|(waiting, _)| *waiting == pkid) {
            return;
        }
        releases.push_back((pkid, group));
        drop(state);
        match &self.kept {
            // The release may leave when a restart would not deliver the message again.
            Some((journal, _)) if group > 0 => {
                let wire = Arc::clone(wire);
                journal.after(move || wire.wake());
            }
            _ => wire.wake(),
        }
    }

    /// The client has completed a message of QoS 2 (PUBCOMP).
    pub fn complete(&self, wire: &Arc<Wire>, pkid: u16) {
        self.finish(wire, pkid, |entry| entry.released);
    }

    fn finish(&self, wire: &Arc<Wire>, pkid: u16, fits: impl Fn(&Entry) -> bool) {
        let mut state = self.lock();
        if !state.is_attached_to(wire) {
            return;
        }
        let position = state
            .in_flight
            .iter()
            .position(|in_flight| in_flight.pkid == pkid && fits(&in_flight.entry));
        let Some(InFlight { entry, group, .. }) =
            position.and_then(|position| state.in_flight.remove(position))
        else {
            return;
        };
        state.pkids.remove(&pkid);
        state.in_flight_bytes -= entry.delivery.message.size();
        group.as_ref().unwrap_or(&self.mailbox).done(&entry);
        wire.wake();
    }
}

impl State {
    fn is_attached_to(&self, wire: &Arc<Wire>) -> bool {
        self.attachment
            .as_ref()
            .is_some_and(|attachment| Arc::ptr_eq(&attachment.wire, wire))
    }
}

fn release(pkid: u16, reason: PubRelReason) -> Packet {
    Packet::PubRel(PubRel { pkid, reason }, None)
}

#[cfg(test)]
mod tests;
