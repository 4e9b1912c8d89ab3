//! The board: who subscribed to what, what is retained, and every session. Connections and the dispatcher meet here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use rumqttd::protocol::{DisconnectReasonCode, QoS, RetainForwardRule};
use sealpost_core::Timestamp;
use tokio::time::Instant;

use crate::delivery::account::{Account, Pool, Share};
use crate::delivery::correspondents::Correspondents;
use crate::delivery::mailbox::{Mailbox, Totals};
use crate::delivery::session::{Attachment, Session, SessionKey};
use crate::delivery::topics::{Subscriber, Topics};
use crate::delivery::wills::Departure;
use crate::delivery::wire::Goodbye;
use crate::journal::{Change, Journal};
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::FilterName;

mod parting;
mod posting;
mod recovery;

pub use parting::Parting;
pub use posting::Posted;

/// Bounds on what the board keeps in memory.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of mail that all users are kept together.
    pub mailbox_bytes: usize,
    /// Users that there can be; half of these bytes is theirs in even parts.
    pub users: usize,
    /// Whether an archiver whose queue is full is parted with; otherwise mail is refused.
    pub part_with_archivers: bool,
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

/// Bytes of the longest filter that a session which is kept may subscribe to: with the mailbox's number it is a key in the
/// journal, and the store takes keys of 65,535 bytes. (A topic fits by itself.)
const MAX_KEPT_FILTER: usize = 65_535 - 8;

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
    /// The filter of a shared subscription is none.
    #[error("a shared subscription is $share/GROUP/FILTER")]
    Filter,
    /// The filter does not fit into the journal.
    #[error("the filter of a session that is kept has at most {MAX_KEPT_FILTER} bytes")]
    FilterTooLong,
    /// The session is another connection's now.
    #[error("the session was taken over")]
    Gone,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    filters: Vec<FilterName>,
}

/// Those who share a subscription.
#[derive(Debug)]
struct Group {
    mailbox: Arc<Mailbox>,
    members: usize,
}

#[derive(Debug, Default)]
struct Members {
    sessions: HashMap<SessionKey, Member>,
    /// By the whole filter, `$share/…`.
    groups: HashMap<FilterName, Group>,
    /// By owner, for as long as one of its mailboxes lives.
    accounts: HashMap<String, Weak<Account>>,
    /// The journal's group with the latest beginning or end of a durable session.
    unsettled: u64,
}

/// A connection and its session.
#[derive(Debug)]
pub struct Joining {
    /// The session.
    pub session: Arc<Session>,
    /// Whether it was there before.
    pub present: bool,
    /// Whether its beginning, or the end of one before it, may not be on disk yet. The client is not told before that: if a
    /// crash brought the old session back, each side would take the other's packet identifiers for those of a
    /// conversation that is over.
    pub recorded: bool,
}

/// What the board holds, for those who look after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Those that are connected.
    pub connected: usize,
    /// Messages that all mailboxes are owed.
    pub messages: usize,
    /// Bytes that kept mailboxes are owed.
    pub kept_bytes: usize,
    /// Of these, what counts against the bound on all users' mail.
    pub mail_bytes: usize,
    /// How long the message that has waited longest has waited at least.
    pub oldest: Duration,
    /// Messages that the owner whose mailboxes are fullest is kept, per thousand of what may be.
    pub fullest: usize,
    /// Retained messages that are no key bundles.
    pub retained: usize,
    /// Messages of QoS 0 dropped since the start.
    pub dropped: u64,
    /// Messages that expired undelivered since the start.
    pub expired: u64,
    /// Publishes written to clients since the start.
    pub sent: u64,
}

/// The board.
#[derive(Debug)]
pub struct Board {
    bounds: Bounds,
    journal: Journal,
    totals: Arc<Totals>,
    pool: Arc<Pool>,
    partings: Mutex<Vec<Parting>>,
    dropped_told: AtomicU64,
    correspondents: Correspondents,
    topics: RwLock<Topics>,
    members: Mutex<Members>,
}

impl Board {
    /// An empty board that keeps what it must in the journal.
    #[must_use]
    pub fn new(bounds: Bounds, journal: Journal) -> Board {
        Board {
            bounds,
            journal,
            totals: Arc::default(),
            pool: Arc::new(Pool::new(bounds.mailbox_bytes, bounds.users)),
            partings: Mutex::default(),
            dropped_told: AtomicU64::new(0),
            correspondents: Correspondents::default(),
            topics: RwLock::new(Topics::new(bounds.retained, bounds.retained_bytes)),
            members: Mutex::default(),
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account of an owner.
    fn account(&self, members: &mut Members, owner: &str, share: Share) -> Arc<Account> {
        let known = members.accounts.get(owner).and_then(Weak::upgrade);
        if let Some(account) = known {
            return account;
        }
        let account = Arc::new(Account::new(share, &self.pool));
        // An open broker has no owners.
        if !owner.is_empty() {
            members
                .accounts
                .insert(owner.into(), Arc::downgrade(&account));
        }
        account
    }

    /// Where it keeps what outlives the process.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Joins a connection to its session, old or new.
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
    ) -> Result<Joining, BoardError> {
        let _turn = self.journal.turn();
        let mut members = self.members();
        let anew = members
            .sessions
            .get(key)
            // A session without an expiry ends with the connection that is taken over (MQTT 5.0, section 3.1.4).
            .is_some_and(|member| clean_start || member.session.ends_with_connection());
        if anew && let Some(member) = members.sessions.remove(key) {
            member.session.disconnect(Goodbye::new(
                DisconnectReasonCode::SessionTakenOver,
                "another connection with this client id began a new session",
            ));
            self.forget(&mut members, &member);
        }
        if !members.sessions.contains_key(key) {
            self.make_room(&mut members, key)?;
        }
        let known = members.sessions.get(key);
        let present = known.is_some();
        let session = match known {
            Some(member) => Arc::clone(&member.session),
            None => {
                let journal = (!expiry.is_zero()).then(|| self.journal.clone());
                let kept = journal
                    .clone()
                    .map(|journal| (journal.clone(), journal.next_mailbox()));
                let account = self.account(&mut members, &key.owner, share);
                let mailbox = Arc::new(Mailbox::new(kept, account, Arc::clone(&self.totals)));
                let session = Arc::new(Session::new(key.clone(), mailbox, journal, expiry));
                let member = Member {
                    session: Arc::clone(&session),
                    filters: Vec::new(),
                };
                members.sessions.insert(key.clone(), member);
                session
            }
        };
        session.attach(attachment, expiry);
        if !present && session.is_durable() {
            self.unsettle(&mut members);
        }
        Ok(Joining {
            session,
            present,
            recorded: self.journal.committed() < members.unsettled,
        })
    }

    /// Makes room for another session of the key's owner, if need be by ending one that is not connected and holds
    /// nothing.
    fn make_room(&self, members: &mut Members, key: &SessionKey) -> Result<(), BoardError> {
        if members.sessions.len() >= self.bounds.sessions {
            return Err(BoardError::Sessions);
        }
        // An open broker has no owners to share between; its sessions are bounded together.
        let of_owner = members
            .sessions
            .iter()
            .filter(|(other, _)| other.owner == key.owner);
        if key.owner.is_empty() || of_owner.clone().count() < self.bounds.sessions_per_owner {
            return Ok(());
        }
        let idle =
            of_owner.filter_map(|(other, member)| Some((member.session.idle_since()?, other)));
        let oldest = idle
            .min_by_key(|(since, _)| *since)
            .map(|(_, oldest)| oldest.clone());
        match oldest.and_then(|oldest| members.sessions.remove(&oldest)) {
            Some(member) => {
                self.forget(members, &member);
                Ok(())
            }
            None => Err(BoardError::SessionsOfOwner),
        }
    }

    /// A connection has ended; the session ends with it unless it is durable.
    pub fn leave(
        &self,
        session: &Arc<Session>,
        attachment: &Attachment,
        expiry: Option<Duration>,
        now: Timestamp,
    ) -> Departure {
        let _turn = self.journal.turn();
        // Before the session is let go: nobody may join it between its end and its removal.
        let mut members = self.members();
        let lives = members
            .sessions
            .get(session.key())
            .is_some_and(|member| Arc::ptr_eq(&member.session, session));
        if !lives {
            return Departure::Ended;
        }
        if !session.is_attached_to(&attachment.wire) {
            return Departure::TakenOver;
        }
        if !session.detach(&attachment.wire, expiry, now) {
            return Departure::Kept;
        }
        if let Some(member) = members.sessions.remove(session.key()) {
            self.forget(&mut members, &member);
        }
        Departure::Ended
    }

    /// Ends an owner's connections, all but that of the given session.
    pub fn disconnect_others(&self, owner: &str, except: &Arc<Session>, goodbye: &Goodbye) {
        for (key, member) in &self.members().sessions {
            if key.owner == owner && !Arc::ptr_eq(&member.session, except) {
                member.session.disconnect(goodbye.clone());
            }
        }
    }

    /// Ends all connections of an owner.
    pub fn disconnect_owner(&self, owner: &str, goodbye: &Goodbye) {
        for (key, member) in &self.members().sessions {
            if key.owner == owner {
                member.session.disconnect(goodbye.clone());
            }
        }
    }

    /// Ends all sessions of an owner, connected or not, with the mail that waits in them.
    pub fn end_owner(&self, owner: &str, goodbye: &Goodbye) {
        let mut members = self.members();
        let keys = members.sessions.keys();
        let keys = keys.filter(|key| key.owner == owner).cloned();
        for key in keys.collect::<Vec<_>>() {
            if let Some(member) = members.sessions.remove(&key) {
                member.session.disconnect(goodbye.clone());
                self.forget(&mut members, &member);
            }
        }
    }

    /// Ends the subscriptions that are not permitted any longer. Returns how many.
    pub fn review(&self, permitted: impl Fn(&SessionKey, &FilterName) -> bool) -> usize {
        let members = self.members();
        let subscriptions = members.sessions.iter().flat_map(|(key, member)| {
            let filters = member.filters.iter();
            let refused = filters.filter(|filter| !permitted(key, filter));
            refused.map(|filter| (Arc::clone(&member.session), filter.clone()))
        });
        let refused = subscriptions.collect::<Vec<_>>();
        drop(members);
        for (session, filter) in &refused {
            self.unsubscribe(session, filter);
        }
        refused.len()
    }

    /// Ends sessions that nobody came back for, forgets retained messages that have expired, and disconnects clean
    /// sessions that hold others up for too long.
    pub fn tidy(&self, now: Timestamp) {
        let instant = Instant::now();
        let turn = self.journal.turn();
        let mut members = self.members();
        let expired = members
            .sessions
            .iter()
            .filter(|(_, member)| member.session.is_expired(instant))
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>();
        for key in expired {
            if let Some(member) = members.sessions.remove(&key) {
                self.forget(&mut members, &member);
            }
        }
        for member in members.sessions.values() {
            let since = member.session.mailbox().holds_since();
            let held = since.map(|since| instant.saturating_duration_since(since));
            if held.is_some_and(|held| held >= self.bounds.hold) {
                self.disconnect_slow(&member.session);
            }
        }
        members
            .accounts
            .retain(|_, account| account.strong_count() > 0);
        drop(members);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for topic in topics.expired(now) {
            topics.forget(&topic);
            self.journal.record(Change::Forget(topic));
        }
        drop(turn);
        if self.journal.is_full() {
            // While all is refused nothing is written, and it is with each write that the journal looks at the disk.
            self.journal.after(|| ());
        }
    }

    /// What is counted of its mailboxes and of the messages that go through it.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What it holds.
    #[must_use]
    pub fn load(&self) -> Load {
        let members = self.members();
        let sessions = members.sessions.values().map(|member| &member.session);
        let accounts = members.accounts.values().filter_map(Weak::upgrade);
        let unowned = sessions
            .clone()
            .filter(|session| session.key().owner.is_empty());
        let unowned = unowned.map(|session| Arc::clone(session.mailbox().account()));
        let fullest = accounts.chain(unowned).map(|account| {
            let (messages, _) = account.held();
            messages * 1_000 / account.share().messages.max(1)
        });
        let now = Instant::now();
        let groups = members.groups.values().map(|group| &group.mailbox);
        let mailboxes = sessions
            .clone()
            .map(|session| session.mailbox())
            .chain(groups);
        let mut messages = 0;
        let mut oldest = Duration::ZERO;
        for mailbox in mailboxes {
            messages += mailbox.load_of().0;
            oldest = oldest.max(mailbox.waits_for(now));
        }
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        Load {
            messages,
            oldest,
            sessions: members.sessions.len(),
            connected: sessions
                .clone()
                .filter(|session| session.is_connected())
                .count(),
            kept_bytes: self.totals.kept_bytes.load(Ordering::Relaxed),
            mail_bytes: self.pool.held(),
            fullest: fullest.max().unwrap_or(0),
            retained: topics.retained_load().0,
            dropped: self.totals.dropped.load(Ordering::Relaxed),
            expired: self.totals.expired.load(Ordering::Relaxed),
            sent: self.totals.sent.load(Ordering::Relaxed),
        }
    }

    /// Messages of QoS 0 that were dropped since this was last asked.
    #[must_use]
    pub fn newly_dropped(&self) -> u64 {
        let dropped = self.totals.dropped.load(Ordering::Relaxed);
        dropped - self.dropped_told.swap(dropped, Ordering::Relaxed)
    }

    fn forget(&self, members: &mut Members, member: &Member) {
        for filter in &member.filters {
            self.remove(members, &member.session, filter);
        }
        member.session.end();
        if member.session.is_durable() {
            self.unsettle(members);
        }
    }

    /// A durable session begins or ends in this turn of the journal, which is synced for whoever connects next.
    fn unsettle(&self, members: &mut Members) {
        members.unsettled = self.journal.group();
        self.journal.after(|| ());
    }

    /// Removes a subscription from the topics, and a group with its last member.
    fn remove(&self, members: &mut Members, session: &Arc<Session>, filter: &FilterName) -> bool {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Ok(Some((_, inner))) = filter.shared() else {
            return topics.unsubscribe(filter, &Subscriber::Session(Arc::clone(session)));
        };
        let Some(group) = members.groups.get_mut(filter) else {
            return false;
        };
        session.leave_group(filter);
        group.members -= 1;
        if group.members == 0
            && let Some(group) = members.groups.remove(filter)
        {
            topics.unsubscribe(&inner, &Subscriber::Group(Arc::clone(&group.mailbox)));
            group.mailbox.end();
        }
        true
    }

    /// Adds a subscription and queues the retained messages that match it, so that none is missed and none overtaken.
    /// What it records for a durable session is in the journal's present group.
    ///
    /// # Errors
    /// See [`BoardError`].
    pub fn subscribe(
        &self,
        session: &Arc<Session>,
        filter: &FilterName,
        subscription: Subscription,
        rule: &RetainForwardRule,
        now: Timestamp,
    ) -> Result<(), BoardError> {
        let _turn = self.journal.turn();
        let mut members = self.members();
        let Members {
            sessions, groups, ..
        } = &mut *members;
        let Some(member) = sessions
            .get_mut(session.key())
            .filter(|member| Arc::ptr_eq(&member.session, session))
        else {
            return Err(BoardError::Gone);
        };
        let known = member.filters.contains(filter);
        if !known && member.filters.len() >= self.bounds.subscriptions_per_session {
            return Err(BoardError::Subscriptions);
        }
        if session.is_durable() && filter.as_str().len() > MAX_KEPT_FILTER {
            return Err(BoardError::FilterTooLong);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let shared = filter.shared().map_err(|_| BoardError::Filter)?;
        let group = shared.map(|(_, inner)| {
            let group = groups.entry(filter.clone()).or_insert_with(|| {
                let kept = Some((self.journal.clone(), self.journal.next_mailbox()));
                let totals = Arc::clone(&self.totals);
                let mailbox = Arc::new(Mailbox::new(
                    kept,
                    Arc::clone(session.mailbox().account()),
                    totals,
                ));
                let subscriber = Subscriber::Group(Arc::clone(&mailbox));
                topics.subscribe(&inner, subscriber, for_group());
                Group {
                    mailbox,
                    members: 0,
                }
            });
            group.members += usize::from(!known);
            session.join_group(filter, &group.mailbox, subscription.clone());
            Arc::clone(&group.mailbox)
        });
        if group.is_none() {
            self.push_retained(&topics, session, filter, &subscription, rule, known, now)?;
            let subscriber = Subscriber::Session(Arc::clone(session));
            topics.subscribe(filter, subscriber, subscription.clone());
        }
        if !known {
            if member.filters.is_empty() {
                // Most sessions have one or two.
                member.filters.reserve_exact(1);
            }
            member.filters.push(filter.clone());
        }
        if let Some(id) = session.id() {
            let group = group.and_then(|mailbox| mailbox.id());
            self.journal
                .record(Change::Subscribe(id, filter.clone(), subscription, group));
        }
        Ok(())
    }

    /// Queues what is retained; a shared subscription gets nothing of it (MQTT 5.0, section 4.8.2).
    #[expect(clippy::too_many_arguments)]
    fn push_retained(
        &self,
        topics: &Topics,
        session: &Arc<Session>,
        filter: &FilterName,
        subscription: &Subscription,
        rule: &RetainForwardRule,
        known: bool,
        now: Timestamp,
    ) -> Result<(), BoardError> {
        let forward = match rule {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => !known,
            RetainForwardRule::Never => false,
        };
        if !forward {
            return Ok(());
        }
        let retained = topics.retained(filter, subscription, now);
        // Key bundles replace each other in a mailbox; anything else has to fit, or nobody could bound what it holds.
        let others = || {
            retained
                .iter()
                .filter(|delivery| !delivery.message.supersedes)
        };
        if others().next().is_some() {
            let size = others().map(|delivery| delivery.message.size()).sum();
            let mailbox = session.mailbox();
            let room = mailbox.account().room(others().count(), size, None, &mut 0);
            if (mailbox.is_kept() && room.is_err()) || mailbox.load_of().0 > self.bounds.retained {
                return Err(BoardError::Mailbox);
            }
        }
        for delivery in retained {
            session.mailbox().push(delivery, None, None);
        }
        Ok(())
    }

    /// Removes a subscription. Returns whether it was there.
    pub fn unsubscribe(&self, session: &Arc<Session>, filter: &FilterName) -> bool {
        let _turn = self.journal.turn();
        let mut members = self.members();
        let member = members.sessions.get_mut(session.key());
        let Some(member) = member.filter(|member| Arc::ptr_eq(&member.session, session)) else {
            return false;
        };
        let Some(at) = member.filters.iter().position(|other| other == filter) else {
            return false;
        };
        member.filters.swap_remove(at);
        if let Some(id) = session.id() {
            self.journal.record(Change::Unsubscribe(id, filter.clone()));
        }
        self.remove(&mut members, session, filter)
    }
}

/// What a group's place in the tree asks for: its members each have their own wishes.
fn for_group() -> Subscription {
    Subscription {
        // Which member had a message of QoS 2 would have to be remembered; they are granted 1.
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        id: None,
    }
}

#[cfg(test)]
mod tests;
