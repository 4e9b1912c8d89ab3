//! The board: who subscribed to what, what is retained, and every session. Connections and the dispatcher meet here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rumqttd::protocol::{DisconnectReasonCode, QoS, RetainForwardRule};
use tokio::time::Instant;

use crate::delivery::message::Message;
use crate::delivery::session::{Attachment, Pushed, Session, Share, Totals};
use crate::delivery::topics::{Post, Subscriber, Subscription, Topics};
use crate::delivery::wills::Departure;
use crate::delivery::wire::Goodbye;
use crate::protocol::outcome::Outcome;
use crate::protocol::topic_name::FilterName;

/// A session belongs to a name and a client id: nobody takes over another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Who logged in; empty when the broker is open.
    pub owner: String,
    /// The client id.
    pub client_id: String,
}

/// Bounds on what the board keeps in memory.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes in all durable sessions' mailboxes together.
    pub mailbox_bytes: usize,
    /// Sessions of one name.
    pub sessions_per_owner: usize,
    /// Sessions in all.
    pub sessions: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_session: usize,
    /// Retained messages.
    pub retained: usize,
    /// Bytes of all retained messages.
    pub retained_bytes: usize,
    /// How long a clean session may hold the acknowledgements of those who write to it.
    pub hold: Duration,
}

/// Why a session or subscription was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// The owner has as many sessions as one may have.
    #[error("too many sessions of one user; end one, or let it expire")]
    SessionsOfOwner,
    /// The broker has as many sessions as it takes.
    #[error("the broker has as many sessions as it takes")]
    Sessions,
    /// The session has as many subscriptions as one may have.
    #[error("too many subscriptions in one session")]
    Subscriptions,
    /// The retained messages that the subscription would bring do not fit into the session's mailbox.
    #[error("the mailbox is too full for the retained messages")]
    Mailbox,
    /// The session is another connection's now.
    #[error("the session was taken over")]
    Gone,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    filters: Vec<FilterName>,
}

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// Delivered.
    Delivered {
        /// Durable sessions that took it.
        durable: usize,
        /// Sessions that it matched, archivers' not counted.
        readers: usize,
    },
    /// Nobody got it, for this reason.
    Refused(Outcome),
}

/// The board.
#[derive(Debug)]
pub struct Board {
    bounds: Bounds,
    totals: Arc<Totals>,
    dropped_told: AtomicU64,
    topics: RwLock<Topics>,
    members: Mutex<HashMap<SessionKey, Member>>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(bounds: Bounds) -> Board {
        Board {
            bounds,
            totals: Arc::default(),
            dropped_told: AtomicU64::new(0),
            topics: RwLock::new(Topics::new(bounds.retained, bounds.retained_bytes)),
            members: Mutex::default(),
        }
    }

    /// Joins a connection to its session, old or new. Returns the session and whether it was there before.
    ///
    /// # Errors
    /// [`BoardError`] when a new one would be too many.
    pub fn join(
        &self,
        key: &SessionKey,
        clean_start: bool,
        expiry: Duration,
        share: Share,
        attachment: Attachment,
    ) -> Result<(Arc<Session>, bool), BoardError> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        // A session without an expiry ends with the connection that is taken over (MQTT 5.0, section 3.1.4).
        let anew = clean_start
            || members
                .get(key)
                .is_some_and(|member| !member.session.is_durable());
        if anew && let Some(member) = members.remove(key) {
            member.session.disconnect(Goodbye::new(
                DisconnectReasonCode::SessionTakenOver,
                "another connection with this client id began a new session",
            ));
            self.forget(&member);
        }
        if !members.contains_key(key) {
            self.make_room(&mut members, key)?;
        }
        let (session, present) = match members.entry(key.clone()) {
            Entry::Occupied(member) => (Arc::clone(&member.get().session), true),
            Entry::Vacant(vacant) => {
                let session = Arc::new(Session::new(expiry, share, Arc::clone(&self.totals)));
                vacant.insert(Member {
                    session: Arc::clone(&session),
                    filters: Vec::new(),
                });
                (session, false)
            }
        };
        session.attach(attachment, expiry);
        Ok((session, present))
    }

    /// Makes room for another session of the key's owner, if need be by ending one that is not connected and holds
    /// nothing.
    fn make_room(
        &self,
        members: &mut HashMap<SessionKey, Member>,
        key: &SessionKey,
    ) -> Result<(), BoardError> {
        if members.len() >= self.bounds.sessions {
            return Err(BoardError::Sessions);
        }
        // An open broker has no owners to share between; its sessions are bounded together.
        let of_owner = members.iter().filter(|(other, _)| other.owner == key.owner);
        if key.owner.is_empty() || of_owner.clone().count() < self.bounds.sessions_per_owner {
            return Ok(());
        }
        let idle =
            of_owner.filter_map(|(other, member)| Some((member.session.idle_since()?, other)));
        let oldest = idle
            .min_by_key(|(since, _)| *since)
            .map(|(_, oldest)| oldest.clone());
        match oldest.and_then(|oldest| members.remove(&oldest)) {
            Some(member) => {
                self.forget(&member);
                Ok(())
            }
            None => Err(BoardError::SessionsOfOwner),
        }
    }

    /// A connection has ended; the session ends with it unless it is durable.
    pub fn leave(
        &self,
        key: &SessionKey,
        session: &Arc<Session>,
        attachment: &Attachment,
        expiry: Option<Duration>,
    ) -> Departure {
        // Before the session is let go: nobody may join it between its end and its removal.
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = members
            .get(key)
            .is_some_and(|member| Arc::ptr_eq(&member.session, session));
        if !lives {
            return Departure::Ended;
        }
        if !session.is_attached_to(&attachment.wire) {
            return Departure::TakenOver;
        }
        if !session.detach(&attachment.wire, expiry) {
            return Departure::Kept;
        }
        if let Some(member) = members.remove(key) {
            self.forget(&member);
        }
        Departure::Ended
    }

    /// Ends an owner's connections, all but that of the given session.
    pub fn disconnect_others(&self, owner: &str, except: &Arc<Session>, goodbye: &Goodbye) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, member) in members.iter() {
            if key.owner == owner && !Arc::ptr_eq(&member.session, except) {
                member.session.disconnect(goodbye.clone());
            }
        }
    }

    /// Ends sessions that nobody came back for, and disconnects clean sessions that hold others up for too long.
    pub fn tidy(&self) {
        let now = Instant::now();
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, member| {
            let expired = member.session.is_expired(now);
            if expired {
                self.forget(member);
            }
            !expired
        });
        for member in members.values() {
            let held = member
                .session
                .holds_since()
                .map(|since| now.saturating_duration_since(since));
            if held.is_some_and(|held| held >= self.bounds.hold) {
                member.session.disconnect(Goodbye::new(
                    DisconnectReasonCode::QuotaExceeded,
                    "this clean session read too slowly for too long; connect with a session that is kept, or read faster",
                ));
            }
        }
    }

    /// Messages of QoS 0 that were dropped since this was last asked.
    #[must_use]
    pub fn newly_dropped(&self) -> u64 {
        let dropped = self.totals.dropped.load(Ordering::Relaxed);
        dropped - self.dropped_told.swap(dropped, Ordering::Relaxed)
    }

    fn forget(&self, member: &Member) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for filter in &member.filters {
            topics.unsubscribe(filter, &member.session);
        }
    }

    /// Adds a subscription and queues the retained messages that match it, so that none is missed and none overtaken.
    ///
    /// # Errors
    /// [`BoardError::Subscriptions`] when the session has too many.
    pub fn subscribe(
        &self,
        key: &SessionKey,
        session: &Arc<Session>,
        filter: &FilterName,
        subscription: Subscription,
        rule: &RetainForwardRule,
    ) -> Result<(), BoardError> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(member) = members
            .get_mut(key)
            .filter(|member| Arc::ptr_eq(&member.session, session))
        else {
            return Err(BoardError::Gone);
        };
        let known = member.filters.contains(filter);
        if !known && member.filters.len() >= self.bounds.subscriptions_per_session {
            return Err(BoardError::Subscriptions);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let forward = match rule {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => !known,
            RetainForwardRule::Never => false,
        };
        let retained = if forward {
            topics.retained(filter, &subscription)
        } else {
            Vec::new()
        };
        // Key bundles replace each other in a mailbox; anything else has to fit, or nobody could bound what it holds.
        let others = || {
            retained
                .iter()
                .filter(|delivery| !delivery.message.supersedes)
        };
        if others().next().is_some() {
            let size = others().map(|delivery| delivery.message.size()).sum();
            if !session.has_room(size, self.bounds.mailbox_bytes)
                || session.waiting() > self.bounds.retained
            {
                return Err(BoardError::Mailbox);
            }
        }
        for delivery in retained {
            session.push(delivery, None);
        }
        if !known {
            member.filters.push(filter.clone());
        }
        topics.subscribe(filter, session, subscription);
        Ok(())
    }

    /// Removes a subscription. Returns whether it was there.
    pub fn unsubscribe(
        &self,
        key: &SessionKey,
        session: &Arc<Session>,
        filter: &FilterName,
    ) -> bool {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members
            .get_mut(key)
            .filter(|member| Arc::ptr_eq(&member.session, session))
        {
            member.filters.retain(|other| other != filter);
        }
        self.topics
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .unsubscribe(filter, session)
    }

    /// Delivers a post to all who subscribed, or to nobody. Called in the one order.
    pub fn post(&self, post: &Post) -> Posted {
        if !post.retain {
            return self.deliver(
                &self.topics.read().unwrap_or_else(PoisonError::into_inner),
                post,
            );
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if !topics.can_retain(&post.message) {
            return Posted::Refused(Outcome::QuotaExceeded);
        }
        let posted = self.deliver(&topics, post);
        if matches!(posted, Posted::Delivered { .. }) {
            topics.retain(&post.message, post.qos);
        }
        posted
    }

    fn deliver(&self, topics: &Topics, post: &Post) -> Posted {
        let deliveries = topics.deliveries(post);
        let size = post.message.size();
        // What supersedes takes no room for long and is never refused: one reader's full mailbox must not keep somebody
        // from changing their keys.
        let full = !post.message.supersedes
            && deliveries.iter().any(|(Subscriber(session), delivery)| {
                delivery.qos != QoS::AtMostOnce
                    && !session.has_room(size, self.bounds.mailbox_bytes)
            });
        if full {
            return Posted::Refused(Outcome::QuotaExceeded);
        }
        let (mut durable, mut readers) = (0, 0);
        for (Subscriber(session), delivery) in deliveries {
            readers += usize::from(!session.is_archive());
            let reliable = delivery.qos != QoS::AtMostOnce;
            let pushed = session.push(delivery, post.receipt.as_ref());
            durable += usize::from(reliable && pushed == Pushed::Queued && session.is_durable());
        }
        Posted::Delivered { durable, readers }
    }

    /// Puts a retained message in place without delivering it: what a restart brings back.
    pub fn restore(&self, message: &Arc<Message>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.retain(message, QoS::AtLeastOnce);
    }
}

#[cfg(test)]
mod tests;
