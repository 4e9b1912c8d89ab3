//! A connected command: publishes and watches our own bundle, believes or disbelieves those of others, receives, and
//! says what happens. `send`, `listen` and `chat` are what they ask of it.

mod delivery;
mod handover;
mod opening;
mod wanted;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use sealpost_core::{
    BundleRefused, BurstCache, Content, KeyBundle, MessageId, Timestamp, Topic, TopicFilter, UserId,
};
use sealpost_mqtt::{BrokerUrl, Route};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use self::handover::hand_over;
pub(crate) use self::opening::MAILBOX_TIME;
use self::opening::{open_mailbox, receiving_client_id, start};
use self::wanted::Wanted;
use crate::account::Account;
use crate::contact::{Believed, Disbelieved};
use crate::event::{Event, Printer};
use crate::exit::{Code, Failure, not_published, not_sealed};
use crate::incoming;
use crate::keystore::KeystoreError;
use crate::mqtt::{Answer, Mqtt, MqttEvent, PublishError, RefusalCode};
use crate::store::{Store, WaitingFor};
use crate::trust_policy::TrustPolicy;
use crate::{clock, outgoing};

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
/// How many alarms are remembered as said.
const MAX_SAID: usize = 256;
/// How many unshown messages are read from the store at once.
const UNSHOWN_BATCH: u32 = 256;

/// What a command may want to know of what happened.
#[derive(Debug)]
pub enum Happening {
    /// A message was shown.
    Shown,
    /// Something is known now about this user's keys.
    Keys(UserId),
    /// Nothing that a command acts upon.
    Other,
}

/// A message that was sealed and handed to the connection.
#[derive(Debug)]
pub struct Outgoing {
    /// Whom it is for.
    pub to: UserId,
    /// Its name.
    pub id: MessageId,
    /// When it was sealed.
    pub ts: Timestamp,
    /// The broker's answer.
    pub answer: Answer<Result<(), PublishError>>,
}

/// What the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To send, and go: a clean session, with a client id of its own.
    Send,
    /// To receive: a durable session with a client id that stays.
    Receive,
}

/// A connected command.
pub struct Session {
    /// Our keys.
    pub account: Account,
    /// Contacts and messages.
    pub store: Store,
    /// Where to say things.
    pub printer: Printer,
    /// To whom may be sent.
    pub trust: TrustPolicy,
    broker: Route,
    purpose: Purpose,
    mqtt: Mqtt,
    events: mpsc::Receiver<MqttEvent>,
    /// Events that came before the first subscription was answered. Bounded by what a broker may send unacknowledged.
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
    /// No more than so many are shown; the others stay for the next run.
    limit: u64,
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
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and subscribes to what the purpose needs; shows at most `limit` messages. Fails when the first attempt
    /// does.
    pub async fn connect(
        account: Account,
        store: Store,
        mut printer: Printer,
        broker: Route,
        purpose: Purpose,
        limit: Option<u64>,
    ) -> Result<Session, Failure> {
        let client_id = match purpose {
            Purpose::Receive => receiving_client_id(&store)?,
            Purpose::Send => format!("sealpost-send-{:016x}", rand::rng().random::<u64>()),
        };
        if broker.is_exposed() {
            printer.note(
                "sealpost: this connection is not encrypted: what you write stays sealed, but who talks to whom shows, \
                 and it can be taken over. Use mqtts:// or wss://.",
            )?;
        }
        let (mut account, mut store) = (account, store);
        hand_over(&mut account, &broker).await?;
        if purpose == Purpose::Send {
            open_mailbox(&account, &mut store, &broker).await?;
        }
        let (mqtt, events) = start(&account, &broker, client_id, purpose).await?;
        let mut session = Session {
            purpose,
            limit: limit.unwrap_or(u64::MAX),
            ..Session::over(account, store, printer, broker, mqtt, events)
        };
        session.begin().await?;
        Ok(session)
    }

    /// Over a connection that is there.
    fn over(
        account: Account,
        store: Store,
        printer: Printer,
        broker: Route,
        mqtt: Mqtt,
        events: mpsc::Receiver<MqttEvent>,
    ) -> Session {
        Session {
            account,
            store,
            printer,
            trust: TrustPolicy::default(),
            broker,
            purpose: Purpose::Receive,
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
            limit: u64::MAX,
        }
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.say_status(None)?;
        let me = self.account.user().clone();
        let mut filters = vec![TopicFilter::Keys(me.clone())];
        if self.purpose == Purpose::Receive {
            filters.push(TopicFilter::Inbox(me));
        }
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
                    // The broker may go away right now: said at once, for the answer comes only when it is back.
                    Some(event @ (MqttEvent::Connected | MqttEvent::Disconnected { .. })) => drop(self.happened(event)?),
                    Some(event) => self.backlog.push_back(event),
                    None => return Err(closed()),
                },
            }
        }
        if self.purpose == Purpose::Receive {
            let broker = self.broker.to_string();
            self.store.set_mailbox_opened(&broker, clock::now())?;
        }
        self.own = Own::Looking(Instant::now() + NO_RETAINED);
        if self.purpose == Purpose::Receive {
            self.show_unshown()?;
            // A change of a contact's keys is noticed while we are here, not only when we write to them.
            let contacts: Vec<UserId> = self
                .store
                .contacts()?
                .into_iter()
                .map(|contact| contact.user)
                .collect();
            self.want_keys_of(&contacts);
            for user in self.store.held_senders()? {
                self.want_keys_of_sender(&user)?;
                self.retry(&user)?;
            }
        }
        Ok(())
    }

    /// Waits for the next thing to happen and deals with it. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Happening, Failure> {
        if let Some(event) = self.backlog.pop_front() {
            return self.happened(event);
        }
        let looking = match self.own {
            Own::Looking(until) => Some(until),
            _ => None,
        };
        let upkeep = self.upkeep;
        let unsaid = self.unsaid.front().map(|(due, ..)| *due);
        let patience = self.wanted.patience();
        tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => self.happened(event),
                None => Err(closed()),
            },
            () = at(looking), if looking.is_some() && self.connected => {
                self.publish_own();
                Ok(Happening::Other)
            }
            answer = published(&mut self.own) => {
                self.own = Own::Settled;
                match answer {
                    Ok(Ok(())) => Ok(Happening::Other),
                    Ok(Err(error)) => {
                        self.publish_later(&error)?;
                        Ok(Happening::Other)
                    }
                    Err(_) => Err(closed()),
                }
            }
            refused = self.wanted.refused() => {
                self.keys_refused(refused)?;
                Ok(Happening::Other)
            }
            () = at(patience), if patience.is_some() && self.connected => {
                self.end_patience(Instant::now())?;
                Ok(Happening::Other)
            }
            () = at(unsaid), if unsaid.is_some() => {
                self.say_unsaid(Instant::now())?;
                Ok(Happening::Other)
            }
            () = tokio::time::sleep_until(upkeep) => {
                self.upkeep = Instant::now() + UPKEEP;
                self.look_after()?;
                Ok(Happening::Other)
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
        self.limit = self.shown;
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
        if self.account.is_retired() {
            return Err(KeystoreError::Retired.into());
        }
        Ok(self.trust.permit(to, self.store.contact(to)?.as_ref())?)
    }

    /// Seals a message to a bundle that [`Session::keys`] gave, and publishes it.
    pub fn send(
        &mut self,
        to: &UserId,
        prev: Option<MessageId>,
        content: &Content,
    ) -> Result<Outgoing, Failure> {
        let Some(Ok(believed)) = self.keys.get(to) else {
            return Err(Failure::new(
                Code::Failed,
                format!("the keys of {to} are not known"),
                "Try again.",
            ));
        };
        self.permit(to)?;
        let now = clock::now();
        let envelope = outgoing::seal(&self.account, &believed.bundle, prev, content, now)
            .map_err(|error| not_sealed(to.as_str(), &error))?;
        let topic = Topic::Inbox(to.clone());
        Ok(Outgoing {
            to: to.clone(),
            id: *envelope.id(),
            ts: now,
            answer: self
                .mqtt
                .publish(&topic, envelope.as_bytes().to_vec(), false),
        })
    }

    /// Says goodbye to the broker.
    pub async fn close(mut self) -> Result<(), Failure> {
        self.leave_nothing_behind()?;
        self.mqtt.disconnect().await;
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
            MqttEvent::Connected => {
                self.connected = true;
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

    fn publish_own(&mut self) {
        let topic = Topic::Keys(self.account.user().clone());
        let bundle = self.account.bundle().as_bytes().to_vec();
        self.own = Own::Publishing(self.mqtt.publish(&topic, bundle, true));
    }

    /// Our keys were refused. Who receives goes on and tries again, where time may help (SPEC 10.5).
    fn publish_later(&mut self, error: &PublishError) -> Result<(), Failure> {
        let failure = not_published(error);
        let first = match error {
            PublishError::Refused { code, .. } => match code {
                RefusalCode::QuotaExceeded => PUBLISH_AGAIN_QUOTA,
                RefusalCode::Other => PUBLISH_AGAIN,
                _ => return Err(failure),
            },
            _ => return Err(failure),
        };
        if self.purpose == Purpose::Send {
            return Err(failure);
        }
        let wait = self.publish_again.max(first);
        self.publish_again = (wait * 2).min(PUBLISH_AGAIN_MOST);
        let wait = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.own = Own::Looking(Instant::now() + wait);
        let me = self.account.user().clone();
        self.alarm_once(&me, failure.event())
    }

    fn look_after(&mut self) -> Result<(), Failure> {
        let upkeep = self.account.upkeep(clock::now())?;
        if upkeep.destroyed > 0 {
            self.cache.clear();
        }
        if upkeep.renewed && self.connected {
            self.publish_own();
        }
        self.forget_settled()?;
        if self.purpose == Purpose::Receive {
            for user in self.store.held_senders()? {
                self.retry(&user)?;
            }
        }
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
        if self.purpose == Purpose::Send && lost.is_none() {
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
            retry_in: retry_in.map(|retry| (retry.as_secs_f64() * 1_000.0).round() / 1_000.0),
        })?;
        Ok(())
    }
}

fn closed() -> Failure {
    crate::mqtt::MqttError::Closed.into()
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
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
