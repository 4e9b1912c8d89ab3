//! Wills: what is to be published of clients that have gone, at once or after the delay that they asked for.
//!
//! A will lives with its connection. When that ends in any way but a normal DISCONNECT, the will comes here; it is due
//! when its delay has passed or its session has ended, whichever is first, and it is dropped when the client returns to
//! the session before that (MQTT 5.0, section 3.1.2.5 and 3.1.3.2.2).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use rumqttd::protocol::{PublishProperties, QoS};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::delivery::session::{Session, SessionKey};
use crate::delivery::wire::Wire;
use crate::protocol::topic_name::TopicName;

/// How often wills that wait are looked over for sessions that have ended early.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Wills handed out to be published together at most: as many publishes as one reader submits at once.
const AT_ONCE: usize = 256;

/// A will, as its client left it at CONNECT.
#[derive(Debug)]
pub struct Will {
    /// Where.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// At which QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// MQTT 5 properties that travel on.
    pub properties: Option<Box<PublishProperties>>,
    /// How long the broker waits for the client to come back.
    pub delay: Duration,
    /// One of the places that bound what wills hold in memory.
    pub place: Place,
}

/// A place for a will, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A will and whose it is. `P` is who the client was.
#[derive(Debug)]
pub struct Departed<P> {
    /// Who it was.
    pub principal: P,
    /// The will.
    pub will: Will,
    /// The session, for as long as it lives.
    pub session: Weak<Session>,
    /// The connection that ended.
    pub wire: Arc<Wire>,
}

/// How a connection's end leaves its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The session ended with it, or had ended before.
    Ended,
    /// The session waits for its client.
    Kept,
    /// The session is another connection's.
    TakenOver,
}

/// A will that was announced before it was known how its session fares: see [`Wills::hold`].
#[derive(Debug)]
pub struct Held(u64);

#[derive(Debug)]
struct Entry<P> {
    key: SessionKey,
    due: Option<Instant>,
    departed: Departed<P>,
}

#[derive(Debug)]
struct State<P> {
    next: u64,
    entries: HashMap<u64, Entry<P>>,
    of_session: HashMap<SessionKey, Vec<u64>>,
    due: BTreeSet<(Instant, u64)>,
    closed: bool,
}

/// All wills of clients that have gone.
#[derive(Debug)]
pub struct Wills<P> {
    places: Arc<Semaphore>,
    state: Mutex<State<P>>,
    changed: Notify,
}

impl<P> Wills<P> {
    /// Room for so many wills, of clients that are connected and of those that have gone.
    #[must_use]
    pub fn new(places: usize) -> Wills<P> {
        Wills {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            state: Mutex::new(State {
                next: 0,
                entries: HashMap::new(),
                of_session: HashMap::new(),
                due: BTreeSet::new(),
                closed: false,
            }),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for another will; `None` when there are as many as the broker takes.
    #[must_use]
    pub fn reserve(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    /// Announces the will of a connection that is about to leave its session. Called before it leaves, so that a client
    /// who returns in between finds it to call off; [`Wills::settle`] follows.
    #[must_use]
    pub fn hold(&self, key: &SessionKey, departed: Departed<P>) -> Held {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.of_session.entry(key.clone()).or_default().push(id);
        let entry = Entry {
            key: key.clone(),
            due: None,
            departed,
        };
        state.entries.insert(id, entry);
        Held(id)
    }

    /// Decides over a will that was announced. `expiry`: how long the session is kept.
    pub fn settle(&self, held: Held, departure: Departure, expiry: Duration) {
        let Held(id) = held;
        let now = Instant::now();
        let mut state = self.lock();
        let Some(entry) = state.entries.get(&id) else {
            return;
        };
        let delay = entry.departed.will.delay;
        let wait = match departure {
            Departure::Ended => Duration::ZERO,
            Departure::Kept => delay.min(expiry),
            // The client is back. A will without a delay did not wait for that.
            Departure::TakenOver if delay.is_zero() => Duration::ZERO,
            Departure::TakenOver => {
                state.remove(id);
                return;
            }
        };
        // The longest wait is 2^32 seconds, which an Instant holds.
        state.make_due(id, now + wait);
        drop(state);
        self.changed.notify_one();
    }

    /// A client has returned to its session: what waited for that is called off.
    pub fn call_off(&self, key: &SessionKey) {
        let mut state = self.lock();
        let ids = state.of_session.get(key).cloned().unwrap_or_default();
        for id in ids {
            let waits = state
                .entries
                .get(&id)
                .is_some_and(|entry| !entry.departed.will.delay.is_zero());
            if waits {
                state.remove(id);
            }
        }
    }

    /// Makes every will due: the broker ends, and nothing waits here for its next start.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let now = Instant::now();
        let ids = state.entries.keys().copied().collect::<Vec<_>>();
        for id in ids {
            state.make_due(id, now);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for wills that are due and takes them, in the order in which they became due. `None` after
    /// [`Wills::close`], when there are none left.
    pub async fn due(&self) -> Option<Vec<Departed<P>>> {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                state.find_orphans(now);
                let due = state.take_due(now);
                if !due.is_empty() {
                    return Some(due);
                }
                if state.closed {
                    return None;
                }
                state.due.first().map(|(at, _)| (*at).min(now + LOOK_EVERY))
            };
            match next {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }
}

impl<P> State<P> {
    fn make_due(&mut self, id: u64, at: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if let Some(before) = entry.due.replace(at) {
            self.due.remove(&(before, id));
        }
        self.due.insert((at, id));
    }

    fn remove(&mut self, id: u64) -> Option<Departed<P>> {
        let entry = self.entries.remove(&id)?;
        if let Some(at) = entry.due {
            self.due.remove(&(at, id));
        }
        if let Some(ids) = self.of_session.get_mut(&entry.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.of_session.remove(&entry.key);
            }
        }
        Some(entry.departed)
    }

    /// A session that has ended ends the wait for its client.
    fn find_orphans(&mut self, now: Instant) {
        let orphans = self.due.iter().filter(|(at, id)| {
            let entry = self.entries.get(id);
            *at > now && entry.is_none_or(|entry| entry.departed.session.strong_count() == 0)
        });
        for (_, id) in orphans.copied().collect::<Vec<_>>() {
            self.make_due(id, now);
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<Departed<P>> {
        let mut taken = Vec::new();
        while taken.len() < AT_ONCE
            && let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.due.remove(&(at, id));
            taken.extend(self.remove(id));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::account::{Account, Pool};
    use crate::delivery::bench::SHARE;
    use crate::delivery::mailbox::Mailbox;
    use crate::protocol::packet::Version;
    use tokio_util::sync::CancellationToken;

    fn key(client_id: &str) -> SessionKey {
        SessionKey {
            owner: String::new(),
            client_id: client_id.into(),
        }
    }

    fn session() -> Arc<Session> {
        let account = Arc::new(Account::new(SHARE, &Arc::new(Pool::new(0, 1))));
        let mailbox = Arc::new(Mailbox::new(None, account, Arc::default()));
        let expiry = Duration::from_secs(60);
        Arc::new(Session::new(key("a"), mailbox, None, expiry))
    }

    fn departed(
        wills: &Wills<&'static str>,
        who: &'static str,
        session: &Arc<Session>,
        delay: u64,
    ) -> Departed<&'static str> {
        let will = Will {
            topic: TopicName::parse(b"gone").unwrap(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: None,
            delay: Duration::from_secs(delay),
            place: wills.reserve().unwrap(),
        };
        let wire = Arc::new(Wire::new(Version::V5, CancellationToken::new()));
        Departed {
            principal: who,
            will,
            session: Arc::downgrade(session),
            wire,
        }
    }

    async fn names(wills: &Wills<&'static str>) -> Vec<&'static str> {
        let due = tokio::time::timeout(Duration::from_secs(3_600), wills.due()).await;
        let due = due.ok().flatten().unwrap_or_default();
        due.iter().map(|departed| departed.principal).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_will_is_due_after_its_delay_or_with_its_session_whichever_is_first() {
        let (wills, session) = (Wills::new(10), session());
        let start = Instant::now();
        for (who, delay, expiry) in [("slow", 50, 60), ("quick", 10, 60), ("short", 50, 20)] {
            let held = wills.hold(&key(who), departed(&wills, who, &session, delay));
            wills.settle(held, Departure::Kept, Duration::from_secs(expiry));
        }
        let mut came = Vec::new();
        while came.len() < 3 {
            let names = names(&wills).await;
            came.extend(
                names
                    .into_iter()
                    .map(|name| (name, start.elapsed().as_secs())),
            );
        }
        assert_eq!(came, [("quick", 10), ("short", 20), ("slow", 50)]);
        assert_eq!(wills.places.available_permits(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_early_ends_the_wait() {
        let (wills, session) = (Wills::new(10), session());
        let start = Instant::now();
        let held = wills.hold(&key("a"), departed(&wills, "a", &session, 1_000));
        wills.settle(held, Departure::Kept, Duration::from_secs(1_000));
        drop(session);
        assert_eq!(names(&wills).await, ["a"]);
        assert!(start.elapsed() <= LOOK_EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_returns_calls_its_delayed_will_off_and_no_other() {
        let (wills, session) = (Wills::new(10), session());
        for (who, delay) in [("back", 10), ("away", 10), ("at once", 0)] {
            let held = wills.hold(&key(who), departed(&wills, who, &session, delay));
            wills.settle(held, Departure::Kept, Duration::from_secs(60));
        }
        wills.call_off(&key("back"));
        wills.call_off(&key("at once"));
        assert_eq!(names(&wills).await, ["at once"]);
        assert_eq!(names(&wills).await, ["away"]);
        assert_eq!(names(&wills).await, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_returns_while_its_old_connection_leaves_calls_the_will_off() {
        let (wills, session) = (Wills::new(10), session());
        let early = wills.hold(&key("a"), departed(&wills, "early", &session, 10));
        wills.call_off(&key("a"));
        wills.settle(early, Departure::TakenOver, Duration::from_secs(60));
        let late = wills.hold(&key("a"), departed(&wills, "late", &session, 10));
        wills.settle(late, Departure::TakenOver, Duration::from_secs(60));
        assert_eq!(names(&wills).await, [""; 0]);
        assert_eq!(wills.places.available_permits(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_will_without_delay_is_published_although_the_session_was_taken_over() {
        let (wills, session) = (Wills::new(10), session());
        let held = wills.hold(&key("a"), departed(&wills, "a", &session, 0));
        wills.settle(held, Departure::TakenOver, Duration::from_secs(60));
        assert_eq!(names(&wills).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_brokers_end_makes_every_will_due() {
        let (wills, session) = (Wills::new(10), session());
        let held = wills.hold(&key("a"), departed(&wills, "a", &session, 1_000));
        wills.settle(held, Departure::Kept, Duration::from_secs(1_000));
        wills.close();
        assert_eq!(names(&wills).await, ["a"]);
        assert!(wills.due().await.is_none());
    }

    #[test]
    fn wills_are_bounded_in_number() {
        let wills = Wills::<()>::new(1);
        let place = wills.reserve();
        assert!(place.is_some() && wills.reserve().is_none());
        drop(place);
        assert!(wills.reserve().is_some());
    }
}
