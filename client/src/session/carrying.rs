//! The outbox on its way to the broker, and our receipts on theirs.
//!
//! What is to go is in the store. Here is only what is under way on this connection: losing it loses nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use rand::RngExt;
use sealpost_core::{
    Content, Envelope, MAX_RECEIPTED, MessageId, Receipt, ReceiptState, Receipted, Timestamp,
    Topic, UserId,
};
use tokio::time::Instant;

use super::Session;
use super::files::FileCargo;
use super::wanted::PATIENCE;
use crate::clock;
use crate::exit::{Failure, no_keys_yet, not_sealed, not_sent, not_trusted};
use crate::mqtt::{Answer, PublishError, RefusalCode};
use crate::outgoing::Sealers;
use crate::settings::Receipts;
use crate::store::{
    Attempt, Due, LONGEST_WAIT, OutboxEntry, Problem, Sealed, StoreError, stored_content,
};

/// How many messages are under way at once. More are read when these have been answered; the connection's own window is
/// smaller.
const MAX_UNDER_WAY: usize = 64;
/// For how long receipts are gathered before one is sent.
const GATHER: Duration = Duration::from_millis(200);
/// After a receipt was refused, none is tried for so long.
const RECEIPTS_PAUSE: Duration = Duration::from_secs(60);
/// The first wait after a problem, by its kind, and the longest. It doubles each time.
const AFTER_ERROR: Duration = Duration::from_secs(1);
const AFTER_QUOTA: Duration = Duration::from_secs(60);
const AFTER_NOBODY: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// What needs a decision is looked at again so often, in case nothing tells us that it was made.
const DECISION: Duration = LONGEST_WAIT;

/// What is under way.
#[derive(Default)]
pub(super) struct Carrying {
    flights: Vec<Flight>,
    messages: HashSet<i64>,
    sealers: Sealers,
    /// Whose keys were asked for, and until when we wait for them.
    asked: HashMap<UserId, Instant>,
    /// When to look at the outbox again.
    look: Option<Instant>,
    /// When to send receipts.
    receipts: Option<Instant>,
    receipts_paused: Option<Instant>,
    /// When to look again whether something disappears, or somebody was let in.
    pub(super) tend: Option<Instant>,
    /// The store as it was then: changes when another process, or another connection, changes something.
    version: u32,
    /// What got further and was not told yet.
    pub(super) progress: VecDeque<OutboxEntry>,
}

struct Flight {
    cargo: Cargo,
    answer: Answer<Result<(), PublishError>>,
}

enum Cargo {
    Message {
        number: i64,
        to: UserId,
        id: MessageId,
        attempts: u32,
    },
    Receipt {
        to: UserId,
        state: ReceiptState,
        messages: Vec<Receipted>,
    },
    File(FileCargo),
}

/// A flight that was answered.
pub(super) struct Landed {
    cargo: Cargo,
    result: Result<(), PublishError>,
}

impl Carrying {
    /// When there is something to do without anything happening.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let asked = self.asked.values().min().copied();
        [self.look, self.receipts, self.tend, asked]
            .into_iter()
            .flatten()
            .min()
    }

    /// Waits until something was answered; returns everything that was.
    pub(super) async fn landed(&mut self) -> Vec<Landed> {
        poll_fn(|context| {
            let mut landed = Vec::new();
            let mut at = 0;
            while let Some(flight) = self.flights.get_mut(at) {
                match Pin::new(&mut flight.answer).poll(context) {
                    Poll::Pending => at += 1,
                    Poll::Ready(answer) => {
                        let flight = self.flights.remove(at);
                        landed.push(Landed {
                            cargo: flight.cargo,
                            result: answer.unwrap_or(Err(crate::mqtt::MqttError::Closed.into())),
                        });
                    }
                }
            }
            if landed.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(landed)
            }
        })
        .await
    }

    /// Whether somebody's keys are waited for, to send something.
    pub(super) fn is_asking(&self, user: &UserId) -> bool {
        self.asked.contains_key(user)
    }

    fn is_receipting(&self, user: &UserId) -> bool {
        self.flights
            .iter()
            .any(|flight| matches!(&flight.cargo, Cargo::Receipt { to, .. } if to == user))
    }

    /// Receipts are to be sent soon.
    pub(super) fn gather(&mut self) {
        if self.receipts.is_none() {
            self.receipts = Some(Instant::now() + GATHER);
        }
    }

    /// Our own keys changed: nothing is sealed under what was made with the old ones.
    pub(super) fn forget_sealers(&mut self) {
        self.sealers.clear();
    }
}

impl Session {
    /// Sends what is due, as far as there is room for it. Call it when something was written into the outbox.
    pub fn carry(&mut self) -> Result<(), Failure> {
        self.carrying.look = None;
        if !self.connected || !self.is_own_bundle_settled() {
            return Ok(());
        }
        let room = MAX_UNDER_WAY.saturating_sub(self.carrying.messages.len());
        if room > 0 {
            let all = MAX_UNDER_WAY + self.carrying.messages.len();
            let due: Vec<Due> = self
                .store
                .due(clock::now(), all)?
                .into_iter()
                .filter(|due| !self.carrying.messages.contains(&due.number))
                .take(room)
                .collect();
            self.dispatch(due)?;
        }
        if self.carrying.messages.is_empty()
            && let Some(due) = self.store.next_due()?
        {
            let wait = Duration::from_millis(due.millis().saturating_sub(clock::now().millis()));
            self.carrying.look = Some(Instant::now() + wait.clamp(AFTER_ERROR, DECISION));
        }
        self.carry_files()
    }

    /// What is due by time.
    pub(super) fn carry_on(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if self.carrying.look.is_some_and(|at| at <= now) {
            self.carry()?;
        }
        if self.carrying.receipts.is_some_and(|at| at <= now) {
            self.send_receipts()?;
        }
        if self.carrying.tend.is_some_and(|at| at <= now) {
            self.tend()?;
        }
        let late: Vec<UserId> = self
            .carrying
            .asked
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(user, _)| user.clone())
            .collect();
        for user in late {
            self.carrying.asked.remove(&user);
            if self.connected && !self.keys.contains_key(&user) {
                // Keys that were there do not go away by themselves: that is an alarm, and what is known is kept to.
                self.no_keys_came(&user)?;
                if self.keys.contains_key(&user) {
                    self.keys_came(&user)?;
                } else {
                    let failure = no_keys_yet(user.as_str(), PATIENCE);
                    self.hold_up(&user, AFTER_NOBODY, &failure)?;
                    self.give_up_keys(&user)?;
                }
            }
        }
        Ok(())
    }

    /// Erases what has outlived its time, and shows what waited for somebody to be let in.
    fn tend(&mut self) -> Result<(), Failure> {
        self.carrying.tend = Some(Instant::now() + self.manner.glance);
        self.store.expire(clock::now())?;
        let version = self.store.data_version()?;
        if version != self.carrying.version {
            self.carrying.version = version;
            self.show_all_unshown()?;
        }
        Ok(())
    }

    /// Something is known now about somebody's keys.
    pub(super) fn keys_came(&mut self, user: &UserId) -> Result<(), Failure> {
        self.carrying.asked.remove(user);
        self.store.wake(user)?;
        self.carry()?;
        self.carrying.gather();
        Ok(())
    }

    /// Deals with answers of the broker.
    pub(super) fn answered(&mut self, landed: Vec<Landed>) -> Result<(), Failure> {
        let now = clock::now();
        let (mut attempts, mut told) = (Vec::new(), Vec::new());
        for Landed { cargo, result } in landed {
            match cargo {
                Cargo::Message {
                    number,
                    to,
                    id,
                    attempts: before,
                } => {
                    self.carrying.messages.remove(&number);
                    let result = match result {
                        // Signed by who we were, or over a connection of who we were.
                        Err(error) if self.is_of_another_identity(&error) => {
                            Err(PublishError::LostEachTime)
                        }
                        result => result,
                    };
                    let attempt = outcome(&to, result, before, now);
                    if let Some(attempt) = attempt.map(|attempt| self.unless_it_goes_on(attempt)) {
                        attempts.push((number, attempt));
                        told.push(id);
                    }
                }
                Cargo::Receipt {
                    to,
                    state,
                    messages,
                } => match result {
                    Ok(()) => {
                        self.store.receipts_sent(&to, state, &messages)?;
                        self.carrying.gather();
                    }
                    // Nobody there, no room, or not wanted: it is of no use to insist.
                    Err(error) => {
                        tracing::debug!(%to, %error, "a receipt was not taken");
                        self.carrying.receipts_paused = Some(Instant::now() + RECEIPTS_PAUSE);
                    }
                },
                Cargo::File(cargo) => self.file_answered(cargo, result, now)?,
            }
        }
        match self.manner.spares_disk {
            true => self
                .store
                .lightly(|store| store.attempted(&attempts, now))?,
            false => self.store.attempted(&attempts, now)?,
        }
        self.tell(&told)?;
        self.carry()
    }

    /// Says how far messages have got.
    fn tell(&mut self, ids: &[MessageId]) -> Result<(), StoreError> {
        for id in ids {
            if let Some(entry) = self.store.outbox_entry(id)? {
                self.carrying.progress.push_back(entry);
            }
        }
        Ok(())
    }

    /// Who never gives up tries again what others would.
    fn unless_it_goes_on(&self, attempt: Attempt) -> Attempt {
        match attempt {
            Attempt::Failed(problem) if !self.manner.gives_up => {
                Attempt::Later(clock::now().saturating_add(jitter(LONGEST)), problem)
            }
            attempt => attempt,
        }
    }

    /// Gives up what has got nowhere for very long.
    pub(super) fn give_up(&mut self) -> Result<(), StoreError> {
        if !self.manner.gives_up {
            return Ok(());
        }
        let given_up = self.store.give_up(clock::now())?;
        self.carrying.progress.extend(given_up);
        Ok(())
    }

    fn dispatch(&mut self, due: Vec<Due>) -> Result<(), Failure> {
        let now = clock::now();
        let mut blocked: HashSet<UserId> = HashSet::new();
        // What the next message to each names as its `prev`; whoever is here may be sent to.
        let mut last: HashMap<UserId, Option<MessageId>> = HashMap::new();
        let mut ready: Vec<(Due, Envelope)> = Vec::new();
        for due in due {
            if blocked.contains(&due.to) {
                continue;
            }
            let prev = match last.get(&due.to) {
                Some(prev) => *prev,
                None => {
                    // Before keys are asked for, which may pin somebody.
                    if let Err(failure) = self.permit(&due.to) {
                        self.hold_up(&due.to, DECISION, &failure)?;
                        blocked.insert(due.to);
                        continue;
                    }
                    let prev = self.store.last_sealed(&due.to)?;
                    last.insert(due.to.clone(), prev);
                    prev
                }
            };
            let sealed = match self.keys.get(&due.to) {
                None => {
                    self.ask_for_keys(&due.to)?;
                    blocked.insert(due.to);
                    continue;
                }
                Some(Err(why)) => Err(not_trusted(due.to.as_str(), why)),
                Some(Ok(believed)) => {
                    let content = stored_content(&due.body)
                        .ok_or(StoreError::Damaged("a message in the outbox is malformed"))?;
                    let before = due.envelope.as_deref().map(Envelope::parse).transpose();
                    let before = before.map_err(|_| {
                        StoreError::Damaged("an envelope in the outbox is malformed")
                    })?;
                    let sealers = &mut self.carrying.sealers;
                    let (account, to) = (&self.account, &believed.bundle);
                    match before {
                        None => sealers.seal(account, to, due.id, prev, &content, now),
                        Some(before) => sealers.seal_again(account, to, before, &content, now),
                    }
                    .map_err(|error| not_sealed(due.to.as_str(), &error))
                }
            };
            match sealed {
                Ok(envelope) => {
                    if due.envelope.is_none() {
                        last.insert(due.to.clone(), Some(due.id));
                    }
                    ready.push((due, envelope));
                }
                // Until somebody decides, or new keys come.
                Err(failure) => {
                    self.hold_up(&due.to, DECISION, &failure)?;
                    blocked.insert(due.to);
                }
            }
        }
        let changed: Vec<Sealed<'_>> = ready
            .iter()
            .filter(|(due, envelope)| due.envelope.as_deref() != Some(envelope.as_bytes()))
            .map(|(due, envelope)| Sealed {
                number: due.number,
                envelope,
            })
            .collect();
        if !changed.is_empty() {
            self.store.write_sealed(&changed)?;
        }
        for (due, envelope) in ready {
            self.carrying.messages.insert(due.number);
            let cargo = Cargo::Message {
                number: due.number,
                to: due.to,
                id: due.id,
                attempts: due.attempts,
            };
            self.fly(&envelope, cargo);
        }
        Ok(())
    }

    /// Gives an envelope to the connection.
    fn fly(&mut self, envelope: &Envelope, cargo: Cargo) {
        let topic = Topic::Inbox(envelope.to().clone());
        let bytes = envelope.as_bytes().to_vec();
        let answer = self.mqtt.publish(&topic, bytes, false);
        self.carrying.flights.push(Flight { cargo, answer });
    }

    /// Seals something that programs say to each other about a file, and gives it to the connection. Says whether it went.
    pub(super) fn fly_file(&mut self, to: &UserId, content: &Content, cargo: FileCargo) -> bool {
        let now = clock::now();
        let Some(Ok(believed)) = self.keys.get(to) else {
            return false;
        };
        let id = MessageId::new(now, &mut rand::rng());
        let (account, bundle) = (&self.account, &believed.bundle);
        let sealers = &mut self.carrying.sealers;
        let Ok(envelope) = sealers.seal(account, bundle, id, None, content, now) else {
            return false;
        };
        self.fly(&envelope, Cargo::File(cargo));
        true
    }

    fn ask_for_keys(&mut self, user: &UserId) -> Result<(), Failure> {
        if !self.carrying.asked.contains_key(user) {
            let until = Instant::now() + PATIENCE;
            self.carrying.asked.insert(user.clone(), until);
            self.want_keys(user);
        }
        Ok(())
    }

    /// Nothing goes to this recipient for now.
    fn hold_up(&mut self, to: &UserId, first: Duration, failure: &Failure) -> Result<(), Failure> {
        let wait = jitter(first);
        let until = clock::now().saturating_add(wait);
        let problem = failure.into();
        let ids = match self.manner.gives_up {
            true => self.store.hold_up(to, until, &problem)?,
            // The first keeps the others waiting; to write down of each of many thousands why would wear a small disk.
            false => self.store.hold_up_first(to, until, &problem)?,
        };
        self.tell(&ids)?;
        let look = Instant::now() + wait;
        self.carrying.look = Some(self.carrying.look.map_or(look, |at| at.min(look)));
        Ok(())
    }

    /// Sends receipts that were gathered, one envelope for each sender and state.
    pub(super) fn send_receipts(&mut self) -> Result<(), Failure> {
        self.carrying.receipts = None;
        let paused = self
            .carrying
            .receipts_paused
            .is_some_and(|until| until > Instant::now());
        if paused || !self.connected || !self.is_own_bundle_settled() {
            return Ok(());
        }
        for user in self.store.receipts_due()? {
            // Who is told nothing as a rule may be an exception.
            if self.manner.receipts == Receipts::None
                && self.store.conversation(&user)?.receipts.is_none()
            {
                continue;
            }
            if self.carrying.is_receipting(&user) {
                continue;
            }
            // Their keys come, for they are contacts; without any that are believed they get none.
            let believed = match self.keys.get(&user) {
                Some(Ok(believed)) => believed,
                Some(Err(_)) => continue,
                None => {
                    self.want_keys(&user);
                    continue;
                }
            };
            let Some((state, messages)) = self.store.receipts_for(&user, MAX_RECEIPTED)? else {
                continue;
            };
            let Ok(receipt) = Receipt::new(state, messages.clone()) else {
                continue;
            };
            let now = clock::now();
            let id = MessageId::new(now, &mut rand::rng());
            let (account, to) = (&self.account, &believed.bundle);
            let content = Content::Receipt(receipt);
            let sealers = &mut self.carrying.sealers;
            let Ok(envelope) = sealers.seal(account, to, id, None, &content, now) else {
                continue;
            };
            let cargo = Cargo::Receipt {
                to: user,
                state,
                messages,
            };
            self.fly(&envelope, cargo);
        }
        Ok(())
    }

    /// Before we go: receipts that are due, and their answers. What takes longer is left for the next time.
    pub(super) async fn finish_receipts(&mut self, patience: Duration) -> Result<(), Failure> {
        if !self.connected {
            return Ok(());
        }
        let until = Instant::now() + patience;
        self.send_receipts()?;
        let under_way = |flight: &Flight| matches!(flight.cargo, Cargo::Receipt { .. });
        while self.carrying.flights.iter().any(under_way) {
            match tokio::time::timeout_at(until, self.carrying.landed()).await {
                Ok(landed) => self.answered(landed)?,
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// What an answer means for a message; nothing when the connection ended before it.
fn outcome(
    to: &UserId,
    result: Result<(), PublishError>,
    attempts: u32,
    now: Timestamp,
) -> Option<Attempt> {
    let error = match result {
        Ok(()) => return Some(Attempt::Taken),
        Err(error) => error,
    };
    let first = match &error {
        PublishError::Ended(_) => return None,
        PublishError::NobodyThere => Some(AFTER_NOBODY),
        PublishError::LostEachTime => Some(AFTER_ERROR),
        PublishError::Refused { code, .. } => match code {
            RefusalCode::QuotaExceeded => Some(AFTER_QUOTA),
            RefusalCode::Other => Some(AFTER_ERROR),
            // SPEC 10.5: the same bytes are not repeated.
            _ => None,
        },
        PublishError::TooLarge { .. } => None,
    };
    let problem = Problem::from(&not_sent(to.as_str(), &error));
    Some(match first {
        Some(first) => {
            let wait = first.saturating_mul(1 << attempts.min(10)).min(LONGEST);
            Attempt::Later(now.saturating_add(jitter(wait)), problem)
        }
        None => Attempt::Failed(problem),
    })
}

/// Between three quarters and all of it, so that many do not come back in one instant.
fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.75..=1.0))
}
