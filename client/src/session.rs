//! A connected command: publishes and watches our own bundle, believes or disbelieves those of others, receives, sends
//! what is in the outbox, and says what happens. `send`, `listen` and `chat` are what they ask of it.
//!
//! There is one session for each home at a time, and it does all of this whatever the command: the lock that its caller
//! holds makes it the one (see [`crate::home`]).

mod carrying;
mod delivery;
mod files;
mod handover;
mod opening;
mod parts;
mod wanted;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use sealpost_core::{
    BundleRefused, BurstCache, Content, Identity, IdentityKey, KeyBundle, MessageId, Topic,
    TopicFilter, UserId,
};
use sealpost_mqtt::{BrokerUrl, Route};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::carrying::Carrying;
use self::files::Filing;
pub(crate) use self::handover::hand_over;
pub(crate) use self::opening::credentials;
use self::opening::{receiving_client_id, start};
pub use self::parts::{Manner, NotConnected, Parts};
use self::wanted::Wanted;
use crate::account::{Account, Upkeep};
use crate::contact::{Believed, Disbelieved};
use crate::deadline::at;
use crate::event::{Event, Printer};
use crate::exit::{Failure, not_published};
use crate::keystore::KeystoreError;
use crate::mqtt::{Answer, Mqtt, MqttEvent, PublishError, RefusalCode};
use crate::store::{FileEntry, OutboxEntry, Store, WaitingFor};
use crate::{clock, incoming, own_bundle};

/// How long after subscribing to our own bundle we conclude that the broker has none. Brokers send retained messages
/// right after the answer to the subscription.
const NO_RETAINED: Duration = Duration::from_millis(500);
/// How long after a refusal our own bundle is published again: twice as long each time, up to the longest.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);
const PUBLISH_AGAIN_QUOTA: Duration = Duration::from_secs(60);
const PUBLISH_AGAIN_MOST: Duration = Duration::from_secs(5 * 60);
/// How often what waits is tried again and keys are looked after.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long a message may wait for its sender's keys before that is worth a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long until we ask again for a passphrase that another process has changed: an agent may hold its key by then.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long a goodbye waits for receipts to be taken.
const LAST_RECEIPTS: Duration = Duration::from_secs(2);
/// How many alarms are remembered as said.
const MAX_SAID: usize = 256;
/// How many events are kept until the first subscription is answered: more than a broker may have with us unacknowledged.
const MAX_BACKLOG: usize = 256;
/// How many unshown messages are read from the store at once.
const UNSHOWN_BATCH: u32 = 256;

/// What a command may want to know of what happened.
#[derive(Debug)]
pub enum Happening {
    /// A message was shown.
    Shown,
    /// Something is known now about this user's keys.
    Keys(UserId),
    /// A message of ours got further, or does not.
    Outgoing(OutboxEntry),
    /// A file got further, or does not. Between its states it is told twice a second at most.
    File(FileEntry),
    /// Nothing that a command acts upon.
    Other,
}

/// A connected command.
pub struct Session {
    /// Our keys.
    pub account: Account,
    /// Contacts and messages.
    pub store: Store,
    /// Where to say things.
    pub printer: Printer,
    broker: Route,
    /// As whom the next connection is made.
    identity: watch::Sender<Identity>,
    /// As whom this one was made.
    connected_as: IdentityKey,
    manner: Manner,
    mqtt: Mqtt,
    events: mpsc::Receiver<MqttEvent>,
    /// Events that came before the first subscription was answered, [`MAX_BACKLOG`] at most.
    backlog: VecDeque<MqttEvent>,
    cache: BurstCache,
    keys: HashMap<UserId, Result<Believed, Disbelieved>>,
    wanted: Wanted,
    /// Alarms that were said, so that a reconnect does not repeat them.
    said: VecDeque<(UserId, String)>,
    own: Own,
    publish_again: Duration,
    upkeep: Instant,
    /// Messages that began to wait: said only when they still do after a moment, for keys usually follow at once.
    unsaid: VecDeque<(Instant, UserId, MessageId, WaitingFor)>,
    connected: bool,
    shown: u64,
    carrying: Carrying,
    filing: Filing,
    /// When to try again to read our own keys, whose passphrase another process has changed.
    ask_again: Option<Instant>,
    /// As last seen, to notice what other processes do.
    data_version: u32,
    glance: Instant,
}

/// Where we are with our own bundle.
enum Own {
    /// Waiting for what the broker has; none when nothing came by then.
    Looking(Instant),
    /// Published, waiting for the broker's answer.
    Publishing(Answer<Result<(), PublishError>>),
    /// The broker has the current one, or we have alarmed.
    Settled,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("account", &self.account)
            .field("manner", &self.manner)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and subscribes. Fails when the first attempt does, or when `until` ends before, with its word. The
    /// caller holds the lock of the one that receives.
    pub async fn connect(
        parts: Parts,
        broker: Route,
        manner: Manner,
        until: impl Future<Output = Failure>,
    ) -> Result<Session, Box<NotConnected>> {
        let (mut parts, mut until) = (parts, std::pin::pin!(until));
        let reached = tokio::select! {
            reached = Session::reach(&mut parts, &broker, manner.receive_maximum) => reached,
            failure = &mut until => Err(failure),
        };
        let (mqtt, events, identity) = match reached {
            Ok(connection) => connection,
            Err(failure) => return Err(Box::new(NotConnected { parts, failure })),
        };
        let mut session = Session {
            manner,
            identity,
            ..Session::over(parts, broker, mqtt, events)
        };
        let begun = tokio::select! {
            begun = session.begin() => begun,
            failure = until => Err(failure),
        };
        match begun {
            Ok(()) => Ok(session),
            Err(failure) => Err(Box::new(NotConnected {
                parts: session.leave().await.0,
                failure,
            })),
        }
    }

    async fn reach(
        parts: &mut Parts,
        broker: &Route,
        receive_maximum: u16,
    ) -> Result<(Mqtt, mpsc::Receiver<MqttEvent>, watch::Sender<Identity>), Failure> {
        if broker.is_exposed() {
            parts.printer.note_once(
                "sealpost: this connection is not encrypted: what you write stays sealed, but who talks to whom shows, \
                 and it can be taken over. Use mqtts:// or wss://.",
            )?;
        }
        hand_over(&mut parts.account, broker).await?;
        let client_id = receiving_client_id(&parts.store)?;
        let (identity, now) = watch::channel(parts.account.identity().clone());
        let (mqtt, events) = start(&parts.account, broker, client_id, now, receive_maximum).await?;
        Ok((mqtt, events, identity))
    }

    /// Over a connection that is there.
    fn over(parts: Parts, broker: Route, mqtt: Mqtt, events: mpsc::Receiver<MqttEvent>) -> Session {
        let Parts {
            account,
            store,
            printer,
        } = parts;
        let (identity, _) = watch::channel(account.identity().clone());
        Session {
            connected_as: account.identity_key(),
            account,
            identity,
            store,
            printer,
            broker,
            manner: Manner::default(),
            mqtt,
            events,
            backlog: VecDeque::new(),
            cache: BurstCache::new(),
            keys: HashMap::new(),
            wanted: Wanted::default(),
            said: VecDeque::new(),
            own: Own::Settled,
            publish_again: Duration::ZERO,
            upkeep: Instant::now() + UPKEEP,
            unsaid: VecDeque::new(),
            connected: true,
            shown: 0,
            carrying: Carrying::default(),
            filing: Filing::default(),
            ask_again: None,
            data_version: 0,
            glance: Instant::now() + Manner::default().glance,
        }
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.say_status(None)?;
        let me = self.account.user().clone();
        let filters = [TopicFilter::Keys(me.clone()), TopicFilter::Inbox(me)];
        let mut answer = self.mqtt.subscribe(&filters);
        // A mailbox full of mail may arrive before the answer: it is dealt with after it.
        loop {
            tokio::select! {
                answer = &mut answer => {
                    answer.map_err(|_| closed())??;
                    break;
                }
                event = self.events.recv() => match event {
                    Some(MqttEvent::Ended(error)) => return Err(error.into()),
                    // The broker may go away right now: said at once, for the answer comes only when it is back, and what
                    // came before comes again.
                    Some(event @ (MqttEvent::Connected { .. } | MqttEvent::Disconnected { .. })) => {
                        self.backlog.clear();
                        self.happened(event)?;
                    }
                    // A broker that sends more than it may is not heard: what it wants acknowledged comes again.
                    Some(_) if self.backlog.len() >= MAX_BACKLOG => {}
                    Some(event) => self.backlog.push_back(event),
                    None => return Err(closed()),
                },
            }
        }
        self.own = Own::Looking(Instant::now() + NO_RETAINED);
        self.data_version = self.store.data_version()?;
        self.show_unshown()?;
        // A change of a contact's keys is noticed while we are here, not only when we write to them.
        let contacts: Vec<UserId> = self
            .store
            .contacts()?
            .into_iter()
            .map(|contact| contact.user)
            .collect();
        self.watch(contacts);
        for user in self.store.held_senders()? {
            self.want_keys_of_sender(&user)?;
            self.retry(&user)?;
        }
        self.carrying.gather();
        self.begin_files()
    }

    /// Waits for the next thing to happen and deals with it. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Happening, Failure> {
        loop {
            // Most of what we do by ourselves is nothing to a command.
            if let Some(happening) = self.next_or_nothing().await? {
                return Ok(happening);
            }
        }
    }

    async fn next_or_nothing(&mut self) -> Result<Option<Happening>, Failure> {
        if let Some(entry) = self.carrying.progress.pop_front() {
            return Ok(Some(Happening::Outgoing(entry)));
        }
        if let Some(entry) = self.filing.told.pop_front() {
            return Ok(Some(Happening::File(entry)));
        }
        if let Some(event) = self.backlog.pop_front() {
            return self.happened(event).map(Some);
        }
        let looking = match self.own {
            Own::Looking(until) => Some(until),
            _ => None,
        };
        let upkeep = self.upkeep;
        let unsaid = self.unsaid.front().map(|(due, ..)| *due);
        let patience = self.wanted.patience();
        let (carry, glance) = (self.carrying.wake_at(), self.glance);
        tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => self.happened(event).map(Some),
                None => Err(closed()),
            },
            () = at(looking), if looking.is_some() && self.connected => {
                self.publish_own();
                Ok(Some(Happening::Other))
            }
            answer = published(&mut self.own) => {
                self.own = Own::Settled;
                match answer {
                    Ok(Ok(())) => {
                        self.settled()?;
                        Ok(Some(Happening::Other))
                    }
                    Ok(Err(error)) => {
                        self.publish_later(&error)?;
                        Ok(Some(Happening::Other))
                    }
                    Err(_) => Err(closed()),
                }
            }
            refused = self.wanted.refused() => {
                self.keys_refused(refused)?;
                Ok(Some(Happening::Other))
            }
            () = at(patience), if patience.is_some() && self.connected => {
                self.end_patience(Instant::now())?;
                Ok(Some(Happening::Other))
            }
            () = at(unsaid), if unsaid.is_some() => {
                self.say_unsaid(Instant::now())?;
                Ok(Some(Happening::Other))
            }
            landed = self.carrying.landed() => {
                self.answered(landed)?;
                Ok(None)
            }
            worked = self.filing.worked() => {
                self.file_worked(worked)?;
                Ok(None)
            }
            () = at(carry), if carry.is_some() => {
                self.carry_on()?;
                Ok(None)
            }
            () = tokio::time::sleep_until(glance) => {
                self.glance = Instant::now() + self.manner.glance;
                self.look_around()?;
                Ok(None)
            }
            () = tokio::time::sleep_until(upkeep) => {
                self.upkeep = Instant::now() + UPKEEP;
                self.look_after()?;
                Ok(Some(Happening::Other))
            }
        }
    }

    /// Whether the broker has our current bundle, as far as we know.
    #[must_use]
    pub fn is_own_bundle_settled(&self) -> bool {
        matches!(self.own, Own::Settled)
    }

    /// How many messages were shown.
    #[must_use]
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// Messages that come from now on are kept for the next run.
    pub fn show_no_more(&mut self) {
        self.manner.limit = self.shown;
    }

    /// Whether the connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The broker that we are connected to, or were last.
    #[must_use]
    pub fn broker(&self) -> &BrokerUrl {
        self.broker.current()
    }

    /// What is known about somebody's keys in this session.
    #[must_use]
    pub fn keys(&self, user: &UserId) -> Option<Result<&KeyBundle, &Disbelieved>> {
        self.keys.get(user).map(|known| match known {
            Ok(believed) => Ok(&believed.bundle),
            Err(why) => Err(why),
        })
    }

    /// As in a new session.
    #[cfg(test)]
    pub(crate) fn forget_keys(&mut self) {
        self.keys.clear();
    }

    /// Whether the policy lets us send to somebody. Ask before their keys are asked for, which may pin them.
    pub fn permit(&self, to: &UserId) -> Result<(), Failure> {
        let (policy, retired) = (self.manner.trust, self.account.is_retired());
        Ok(crate::outgoing::permit(&self.store, policy, retired, to)?)
    }

    /// Writes a message into the outbox and starts it on its way. When it returns, the message is on disk.
    pub fn post(&mut self, to: &UserId, content: &Content) -> Result<MessageId, Failure> {
        self.permit(to)?;
        let id = crate::outgoing::enqueue(&mut self.store, to, content, clock::now())?;
        self.carry()?;
        Ok(id)
    }

    /// Says goodbye to the broker.
    pub async fn close(self) -> Result<(), Failure> {
        self.leave().await.1
    }

    /// Says goodbye to the broker, and gives back what a session is made of.
    pub async fn leave(mut self) -> (Parts, Result<(), Failure>) {
        let ended = self.say_goodbye().await;
        let parts = Parts {
            account: self.account,
            store: self.store,
            printer: self.printer,
        };
        (parts, ended)
    }

    async fn say_goodbye(&mut self) -> Result<(), Failure> {
        let finished = match self.leave_nothing_behind() {
            Ok(()) => self.finish_receipts(LAST_RECEIPTS).await,
            failed => failed,
        };
        self.mqtt.disconnect().await;
        finished?;
        let all = Instant::now() + PATIENCE;
        self.say_unsaid(all)
    }

    fn say_unsaid(&mut self, until: Instant) -> Result<(), Failure> {
        while self.unsaid.front().is_some_and(|(due, ..)| *due <= until) {
            if let Some((_, from, id, reason)) = self.unsaid.pop_front() {
                self.printer
                    .print(&incoming::waiting_event(&from, &id, reason))?;
            }
        }
        Ok(())
    }

    fn happened(&mut self, event: MqttEvent) -> Result<Happening, Failure> {
        match event {
            MqttEvent::Connected { .. } => {
                self.connected = true;
                self.connected_as = self.identity.borrow().key();
                self.wanted.begin_again(Instant::now());
                self.own = Own::Looking(Instant::now() + NO_RETAINED);
                self.say_status(None)?;
                Ok(Happening::Other)
            }
            MqttEvent::Disconnected { problem, retry_in } => {
                self.connected = false;
                self.say_status(Some((problem, retry_in)))?;
                Ok(Happening::Other)
            }
            MqttEvent::Ended(error) => Err(error.into()),
            MqttEvent::Delivery(delivery) => self.delivered(*delivery),
        }
    }

    /// The broker has our current bundle: others can know us, so that what we seal can be read.
    fn settled(&mut self) -> Result<(), Failure> {
        self.own = Own::Settled;
        if self.account.handing_over().is_some() {
            self.account.handed_over()?;
        }
        let digest = self.account.bundle().digest();
        self.store
            .set_published(&self.broker.to_string(), &digest)?;
        self.carry()?;
        self.carrying.gather();
        Ok(())
    }

    /// Whether another process wrote something.
    fn look_around(&mut self) -> Result<(), Failure> {
        if self.account.changed_on_disk() {
            self.follow_keys()?;
        }
        // Whoever read the keystore again, and for whatever reason.
        if self.identity.borrow().key() != self.account.identity_key() {
            let identity = self.account.identity().clone();
            self.identity.send_replace(identity);
        }
        let version = self.store.data_version()?;
        if version != self.data_version {
            self.data_version = version;
            self.forget_settled()?;
            self.admit_files()?;
            self.carry()?;
            self.carrying.gather();
        }
        Ok(())
    }

    /// Takes over what another process has done to our keys. When it has changed their passphrase, and nobody tells us the
    /// new one, we go on with the keys that we have.
    fn follow_keys(&mut self) -> Result<(), Failure> {
        match self.account.reload() {
            Ok(()) => {}
            Err(KeystoreError::WrongPassphrase(_)) => {
                self.account.overlook_change();
                self.ask_again = Some(Instant::now() + ASK_AGAIN);
                let me = self.account.user().clone();
                return self.alarm_once(&me, own_bundle::locked(&self.account));
            }
            Err(error) => return Err(error.into()),
        }
        self.ask_again = None;
        self.cache.clear();
        self.carrying.forget_sealers();
        if self.connected {
            self.publish_own();
        }
        Ok(())
    }

    fn publish_own(&mut self) {
        let topic = Topic::Keys(self.account.user().clone());
        let bundle = self.account.bundle().as_bytes().to_vec();
        self.own = Own::Publishing(self.mqtt.publish(&topic, bundle, true));
    }

    /// Our keys were refused. Who receives goes on and tries again, where time may help (SPEC 10.5).
    fn publish_later(&mut self, error: &PublishError) -> Result<(), Failure> {
        let failure = not_published(error);
        if self.is_of_another_identity(error) {
            self.own = Own::Looking(Instant::now() + PUBLISH_AGAIN);
            return Ok(());
        }
        let first = match error {
            PublishError::Refused { code, .. } => match code {
                RefusalCode::QuotaExceeded => PUBLISH_AGAIN_QUOTA,
                RefusalCode::Other => PUBLISH_AGAIN,
                _ => return Err(failure),
            },
            _ => return Err(failure),
        };
        let wait = self.publish_again.max(first);
        self.publish_again = (wait * 2).min(PUBLISH_AGAIN_MOST);
        let wait = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.own = Own::Looking(Instant::now() + wait);
        let me = self.account.user().clone();
        self.alarm_once(&me, failure.event())
    }

    /// Whether the broker may have refused this because another process has changed our identity since we connected: it
    /// is about to end this connection, and on the next one we are who we are.
    fn is_of_another_identity(&self, error: &PublishError) -> bool {
        let refused = matches!(
            error,
            PublishError::Refused {
                code: RefusalCode::NotAuthorized,
                ..
            }
        );
        let changed = self.connected_as != self.account.identity_key();
        refused && (changed || self.account.changed_on_disk())
    }

    fn look_after(&mut self) -> Result<(), Failure> {
        if self.ask_again.is_some_and(|at| at <= Instant::now()) {
            self.follow_keys()?;
        }
        let upkeep = match self.account.upkeep(clock::now()) {
            // It was said.
            Err(KeystoreError::WrongPassphrase(_)) if self.ask_again.is_some() => Upkeep::default(),
            done => done?,
        };
        if upkeep.destroyed > 0 {
            self.cache.clear();
        }
        self.give_up()?;
        self.look_after_files()?;
        if upkeep.renewed && self.connected {
            self.publish_own();
        }
        for user in self.store.held_senders()? {
            self.retry(&user)?;
        }
        self.take_turns();
        Ok(())
    }

    /// A changed identity that was accepted meanwhile, by `contacts trust` in another terminal, is looked at again.
    fn forget_settled(&mut self) -> Result<(), Failure> {
        let mut settled = Vec::new();
        for (user, known) in &self.keys {
            if let Err(Disbelieved::Refused(BundleRefused::IdentityChanged { pinned, .. })) = known
                && let Some(contact) = self.store.contact(user)?
                && contact.pin.identity != *pinned
            {
                settled.push(user.clone());
            }
        }
        for user in settled {
            self.keys.remove(&user);
            self.want_keys_of(&[user]);
        }
        Ok(())
    }

    fn alarm_once(&mut self, user: &UserId, alarm: Event) -> Result<(), Failure> {
        let name = format!("{alarm:?}");
        if !self
            .said
            .iter()
            .any(|(who, what)| who == user && *what == name)
        {
            self.printer.print(&alarm)?;
            self.said.push_back((user.clone(), name));
            if self.said.len() > MAX_SAID {
                self.said.pop_front();
            }
        }
        Ok(())
    }

    fn say_status(&mut self, lost: Option<(String, Duration)>) -> Result<(), Failure> {
        // `send` is over before anybody could read it, unless it is in trouble.
        if self.manner.quiet && lost.is_none() {
            return Ok(());
        }
        let (reason, retry_in) = lost.unzip();
        self.printer.print(&Event::Status {
            state: if reason.is_none() {
                "connected"
            } else {
                "disconnected"
            },
            broker: self.broker.current().to_string(),
            reason,
            hint: None,
            retry_in: retry_in.map(|retry| (retry.as_secs_f64() * 1_000.0).round() / 1_000.0),
        })?;
        Ok(())
    }
}

fn closed() -> Failure {
    crate::mqtt::MqttError::Closed.into()
}

async fn published(
    own: &mut Own,
) -> Result<Result<(), PublishError>, tokio::sync::oneshot::error::RecvError> {
    match own {
        Own::Publishing(answer) => answer.await,
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
pub(crate) mod tests;
