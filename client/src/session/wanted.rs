//! Whose keys were asked for, for how long, and the mail that is held up meanwhile.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use rand::seq::SliceRandom;
use sealpost_core::{TopicFilter, UserId};
use tokio::time::Instant;

use super::Session;
use crate::exit::Failure;
use crate::mqtt::{Answer, MqttError, Receipt};

/// After so long without an answer, somebody has no keys (SPEC 10.6).
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How much mail is held up at once. Below our Receive Maximum: the broker needs a free place to deliver keys.
const MAX_POSTPONED: usize = 60;
/// How many names one subscription holds.
const NAMES: usize = 100;
/// How many names are asked for at once. Below what a session may subscribe to at our broker, 1,000, with room for our
/// own two and for those who are asked for before others are let go.
const MAX_WATCHED: usize = 900;
/// Who has more contacts looks at so many others at each upkeep, in turn: at 1,500 contacts every one within a quarter of an
/// hour, and whoever is written to at once.
const TURN: usize = 10;

/// An envelope that was delivered and is not acknowledged.
pub(super) struct Mail {
    pub(super) payload: Bytes,
    pub(super) duplicate: bool,
    pub(super) receipt: Receipt,
}

/// Whose keys were asked for.
#[derive(Default)]
pub(super) struct Wanted {
    names: HashMap<UserId, Name>,
    /// The same, whoever was asked for longest ago first.
    order: VecDeque<UserId>,
    /// Contacts for whom there is no room, whose turn comes.
    unwatched: VecDeque<UserId>,
    answers: Vec<Answer<Result<(), MqttError>>>,
    /// Mail of somebody new that found the waiting room full. The broker keeps it too.
    postponed: VecDeque<(UserId, Mail)>,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    /// Until then mail is held up.
    patience: Option<Instant>,
    /// A contact, or somebody we want to write to: not given up by itself.
    kept: bool,
    subscribed: bool,
}

impl Wanted {
    fn insert(&mut self, user: &UserId, name: Name) {
        self.names.insert(user.clone(), name);
        self.order.push_back(user.clone());
    }

    pub(super) fn has_patience(&self, user: &UserId) -> bool {
        let name = self.names.get(user);
        name.is_some_and(|name| name.patience.is_some()) && self.postponed.len() < MAX_POSTPONED
    }

    pub(super) fn postpone(&mut self, user: UserId, mail: Mail) {
        self.postponed.push_back((user, mail));
    }

    /// When it ends for somebody.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.names.values().filter_map(|name| name.patience).min()
    }

    /// On a new connection everything comes again.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.postponed.clear();
        for patience in self.names.values_mut().filter_map(|n| n.patience.as_mut()) {
            *patience = now + PATIENCE;
        }
    }

    /// A subscription that was refused, when there is one.
    pub(super) async fn refused(&mut self) -> MqttError {
        poll_fn(|context| {
            let mut refused = None;
            self.answers
                .retain_mut(|answer| match Pin::new(answer).poll(context) {
                    Poll::Pending => true,
                    Poll::Ready(Ok(Err(error))) if refused.is_none() => {
                        refused = Some(error);
                        false
                    }
                    Poll::Ready(_) => false,
                });
            refused.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Session {
    /// Asks for somebody's bundle, which [`super::Happening::Keys`] announces when it comes.
    pub fn want_keys(&mut self, user: &UserId) {
        let name = self.wanted.names.get(user);
        if !name.is_some_and(|name| name.kept && name.subscribed) {
            self.want_keys_of(std::slice::from_ref(user));
        }
    }

    /// The keys that were asked for did not come in time.
    pub(super) fn give_up_keys(&mut self, user: &UserId) -> Result<(), Failure> {
        self.take_postponed(user)?;
        if !self.is_worth_watching(user)? {
            self.wanted.names.remove(user);
            self.wanted.order.retain(|other| other != user);
            self.unsubscribe(std::slice::from_ref(user));
        }
        Ok(())
    }

    /// Asks for the keys of all contacts, or of as many as there is room for; the others' turn comes.
    pub(super) fn watch(&mut self, mut contacts: Vec<UserId>) {
        if contacts.len() > MAX_WATCHED {
            // Who runs for a moment only looks at others each time.
            contacts.shuffle(&mut rand::rng());
            let later = contacts.split_off(MAX_WATCHED);
            // The broker has kept what an earlier run subscribed to.
            self.unsubscribe(&later);
            self.wanted.unwatched = later.into();
        }
        self.want_keys_of(&contacts);
    }

    /// Looks at the next contacts in turn, in place of those who were looked at longest ago.
    pub(super) fn take_turns(&mut self) {
        let next = self.wanted.unwatched.len().min(TURN);
        let mut next: Vec<UserId> = self.wanted.unwatched.drain(..next).collect();
        next.retain(|user| !self.wanted.names.contains_key(user));
        self.want_keys_of(&next);
    }

    /// Asks, even if it was asked before.
    pub(super) fn want_keys_of(&mut self, users: &[UserId]) {
        for user in users {
            let name = Name {
                patience: None,
                kept: true,
                subscribed: true,
            };
            match self.wanted.names.get_mut(user) {
                Some(name) => (name.kept, name.subscribed) = (true, true),
                None => self.wanted.insert(user, name),
            }
        }
        self.make_room();
        self.subscribe(users);
    }

    /// Lets go of those who were asked for longest ago and with whom nothing is going on.
    fn make_room(&mut self) {
        let surplus = self.wanted.names.len().saturating_sub(MAX_WATCHED);
        let (mut gone, mut stay) = (Vec::new(), Vec::new());
        while gone.len() < surplus
            && let Some(user) = self.wanted.order.pop_front()
        {
            let name = self.wanted.names.get(&user);
            let busy =
                name.is_some_and(|name| name.patience.is_some()) || self.carrying.is_asking(&user);
            match busy {
                true => stay.push(user),
                false => gone.push(user),
            }
        }
        for user in stay.into_iter().rev() {
            self.wanted.order.push_front(user);
        }
        for user in &gone {
            // What is known of them is looked at anew when it is needed.
            self.keys.remove(user);
            if let Some(name) = self.wanted.names.remove(user)
                && name.kept
                && !self.wanted.unwatched.contains(user)
            {
                self.wanted.unwatched.push_back(user.clone());
            }
        }
        self.unsubscribe(&gone);
    }

    /// Asks for the keys of somebody who wrote to us: once, for who has none could write again and again.
    pub(super) fn want_keys_of_sender(&mut self, user: &UserId) -> Result<(), Failure> {
        if self.keys.contains_key(user) || self.wanted.names.contains_key(user) {
            return Ok(());
        }
        let name = Name {
            patience: Some(Instant::now() + PATIENCE),
            kept: self.store.contact(user)?.is_some(),
            subscribed: true,
        };
        self.wanted.insert(user, name);
        self.make_room();
        self.subscribe(std::slice::from_ref(user));
        Ok(())
    }

    /// Keys came, or it is certain that they do not: nothing of this sender is held up any more.
    pub(super) fn take_postponed(&mut self, user: &UserId) -> Result<(), Failure> {
        if let Some(name) = self.wanted.names.get_mut(user) {
            name.patience = None;
        }
        let all = std::mem::take(&mut self.wanted.postponed);
        let (theirs, others) = all.into_iter().partition(|(from, _)| from == user);
        self.wanted.postponed = others;
        let theirs: Vec<Mail> = theirs.into_iter().map(|(_, mail)| mail).collect();
        if !theirs.is_empty() {
            self.mail(theirs)?;
        }
        Ok(())
    }

    pub(super) fn end_patience(&mut self, now: Instant) -> Result<(), Failure> {
        let names = self.wanted.names.iter();
        let over: Vec<UserId> = names
            .filter(|(_, name)| name.patience.is_some_and(|until| until <= now))
            .map(|(user, _)| user.clone())
            .collect();
        for user in over {
            self.take_postponed(&user)?;
            let watched = self.is_worth_watching(&user)?;
            if let Some(name) = self.wanted.names.get_mut(&user)
                && !name.kept
                && !watched
            {
                name.subscribed = false;
                self.unsubscribe(&[user]);
            }
        }
        Ok(())
    }

    /// The broker refused to deliver somebody's keys.
    pub(super) fn keys_refused(&mut self, error: MqttError) -> Result<(), Failure> {
        let failure = Failure::from(error);
        let me = self.account.user().clone();
        self.alarm_once(&me, failure.event())
    }

    /// Before we go: who is no contact is asked for again when there is a reason to.
    pub(super) fn leave_nothing_behind(&mut self) -> Result<(), Failure> {
        let mut names = Vec::new();
        for (user, name) in &self.wanted.names {
            if name.subscribed && self.store.contact(user)?.is_none() {
                names.push(user.clone());
            }
        }
        self.unsubscribe(&names);
        Ok(())
    }

    /// Whether somebody's keys were asked for, by this session or, for a contact, by an earlier one that the broker remembers.
    pub(super) fn is_wanted(&self, user: &UserId) -> Result<bool, Failure> {
        Ok(self.wanted.names.contains_key(user) || self.store.contact(user)?.is_some())
    }

    /// Whether this is a contact, or somebody whose mail waits.
    fn is_worth_watching(&self, user: &UserId) -> Result<bool, Failure> {
        Ok(self.store.contact(user)?.is_some() || self.store.held_senders()?.contains(user))
    }

    fn subscribe(&mut self, users: &[UserId]) {
        for users in users.chunks(NAMES) {
            let answer = self.mqtt.subscribe(&filters(users));
            self.wanted.answers.push(answer);
        }
    }

    fn unsubscribe(&self, users: &[UserId]) {
        for users in users.chunks(NAMES) {
            self.mqtt.unsubscribe(&filters(users));
        }
    }
}

fn filters(users: &[UserId]) -> Vec<TopicFilter> {
    users.iter().cloned().map(TopicFilter::Keys).collect()
}
