//! Long random conversations of several clients, in MQTT 3.1.1 and 5, held against a model of what MQTT promises.
//!
//! Every seed is one conversation: it connects, takes over, subscribes, shares subscriptions, publishes at every QoS,
//! acknowledges late, comes back in the middle of a handshake, breaks the protocol and vanishes, and after each step every
//! client must have got what the model says it is owed. `SEALPOST_MODEL_SEEDS`
//! (`FROM..TO`) and `SEALPOST_MODEL_STEPS` make it long; a failure names its seed, and its last steps.

// A panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing)]

mod client;
mod exactly_once;
mod settling;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sealpost_broker::broker::Broker;
use sealpost_broker::connection;
use sealpost_broker::server::{Assembled, assemble};
use sealpost_broker::settings::{Overrides, Settings};

use client::{Client, Packet, packet, prefixed};
use exactly_once::Unfinished;
use world::{Asked, Got, Publish, World};

const CLIENTS: [&str; 4] = ["ann", "ben", "cat", "dan"];
const TOPICS: [&str; 7] = ["a", "a/b", "a/b/c", "b", "/", "\u{e9}/b", "$dollar/b"];
const FILTERS: [&str; 17] = [
    "a",
    "a/b",
    "a/+",
    "a/#",
    "#",
    "+",
    "+/b",
    "+/+/c",
    "/",
    "/+",
    "$dollar/#",
    "will/#",
    "$share/g/a/#",
    "$share/g/b",
    "$share/g/\u{e9}/#",
    "$share/g/$dollar/+",
    "$share/g/will/#",
];

/// Who sees every will, and never leaves.
const OBSERVER: &str = "observer";

/// A topic that nobody subscribes to: what is acknowledged there has everything before it delivered.
const BARRIER: &str = "$barrier";

/// Packets that end a connection, for 3.1.1 or 5 or both, and the reason that MQTT 5 is given.
const INVALID: [(&[u8], &[u8], u8); 16] = [
    (
        &[4, 5],
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x",
        0x82,
    ),
    (&[4, 5], b"\x20\x02\x00\x00", 0x82),
    (&[4, 5], b"\xb0\x03\x00\x01\x00", 0x82),
    (&[4, 5], b"\xf0\x00", 0x82),
    (&[4, 5], b"\x36\x05\x00\x01a\x00\x01", 0x81),
    (&[4, 5], b"\xc1\x00", 0x81),
    (&[4, 5], b"\xa0\x05\x00\x01\x00\x01a", 0x81),
    (&[4, 5], b"\x30\x03\x00\x02\xff", 0x81),
    (&[4, 5], b"\x60\x02\x00\x01", 0x81),
    (&[4, 5], b"\x52\x02\x00\x01", 0x81),
    (&[4], b"\x32\x05\x00\x01a\x00\x00", 0x81),
    (&[4], b"\x82\x02\x00\x01", 0x82),
    (&[5], b"\x82\x03\x00\x01\x00", 0x82),
    (&[5], b"\x30\x04\x00\x01#\x00", 0x90),
    (&[5], b"\x30\x07\x00\x01a\x03\x23\x00\x00", 0x94),
    (&[5], b"\x82\x07\x00\x01\x00\x00\x01a\x30", 0x82),
];

struct Will {
    publish: Publish,
}

struct Connected {
    client: Client,
    level: u8,
    will: Option<Will>,
}

struct Conversation {
    broker: Arc<Broker>,
    rng: SmallRng,
    world: World,
    connected: BTreeMap<&'static str, Connected>,
    unfinished: BTreeMap<&'static str, BTreeMap<u16, Unfinished>>,
    counter: u32,
    history: Rc<RefCell<Vec<String>>>,
}

impl Conversation {
    fn say(&mut self, what: String) {
        self.history.borrow_mut().push(what);
    }

    fn next_payload(&mut self) -> String {
        self.counter += 1;
        format!("m{}", self.counter)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.rng).unwrap()
    }

    async fn connect(&mut self, name: &'static str) {
        let level = if name == OBSERVER {
            5
        } else {
            self.pick(&[4, 5])
        };
        let (clean, kept) = match level {
            5 => (self.chance(30), self.chance(60)),
            _ => {
                let clean = self.chance(40);
                (clean, !clean)
            }
        };
        // The observer's session is durable, so that its PUBREC waits for the disk.
        let kept = kept || name == OBSERVER;
        let window = match level {
            5 => self.rng.random_range(2..12),
            _ => 100,
        };
        let will = (name != OBSERVER && self.chance(40)).then(|| Will {
            publish: Publish {
                topic: format!("will/{name}"),
                payload: self.next_payload(),
                qos: self.rng.random_range(0..3),
                retain: self.chance(20),
            },
        });
        self.say(format!(
            "{name} connects: MQTT {level}, clean {clean}, kept {kept}, window {window}, will {:?}",
            will.as_ref().map(|will| &will.publish)
        ));
        let mut flags = if clean { 0x02 } else { 0 };
        if let Some(Will { publish }) = &will {
            flags |= 0x04 | publish.qos << 3 | u8::from(publish.retain) << 5;
        }
        let mut body = [&b"\x00\x04MQTT"[..], &[level, flags, 0, 0]].concat();
        if level == 5 {
            let expiry: u32 = if kept { 3_600 } else { 0 };
            body.extend(b"\x08\x11");
            body.extend(expiry.to_be_bytes());
            body.push(0x21);
            body.extend(u16::try_from(window).unwrap().to_be_bytes());
        }
        body.extend(prefixed(name.as_bytes()));
        if let Some(Will { publish }) = &will {
            if level == 5 {
                body.push(0);
            }
            body.extend(prefixed(publish.topic.as_bytes()));
            body.extend(prefixed(publish.payload.as_bytes()));
        }
        let mut client = Client::open(&self.broker, &packet(0x10, &body)).await;
        let (first, connack) = client.read().await.expect("a CONNACK");
        assert_eq!((first, connack[1]), (0x20, 0), "CONNACK");

        // A connection that had the session is told, and leaves its will.
        if let Some(old) = self.connected.remove(name) {
            let replaced = clean || !self.world.keeps(name);
            self.end(name, old, Some(0x8e), replaced).await;
        }
        let present = self.world.connect(name, clean, kept, window);
        assert_eq!(connack[0] == 1, present, "session present");
        let connected = Connected {
            client,
            level,
            will,
        };
        self.connected.insert(name, connected);
        if !present {
            self.unfinished.remove(name);
        }
        self.resume(name).await;
    }

    async fn tell(&mut self, name: &'static str, first: u8, pkid: u16) {
        let connected = self.connected.get_mut(name).expect("a client");
        let packet = packet(first, &pkid.to_be_bytes());
        connected.client.send(&packet).await;
    }

    /// A connection that is over on its client's side or the broker's. `reason`: what an MQTT 5 client must be told.
    /// `replaced`: its session ended by a clean start.
    async fn end(
        &mut self,
        name: &'static str,
        old: Connected,
        reason: Option<u8>,
        replaced: bool,
    ) {
        let Connected {
            mut client,
            level,
            will,
        } = old;
        if let Some(reason) = reason {
            let mut last = client.read_to_end().await;
            last.retain(|(first, _)| *first != 0x62);
            let last = last
                .last()
                .map(|(first, body)| (*first, body.first().copied()));
            match level {
                5 => assert_eq!(last, Some((0xe0, Some(reason))), "the last word"),
                _ => assert_eq!(last, None, "MQTT 3.1.1 is told nothing"),
            }
        }
        client.hang_up().await;
        let taken_over = reason == Some(0x8e);
        let ended = if taken_over {
            replaced
        } else {
            self.world.leave(name)
        };
        if let Some(Will { publish }) = will {
            if taken_over && ended {
                self.world.forget(name);
            }
            let origin = Some(name).filter(|_| !ended);
            self.will_is_due(origin, publish).await;
        }
    }

    /// Waits until the observer has the will, and then until everybody has it.
    async fn will_is_due(&mut self, origin: Option<&str>, publish: Publish) {
        self.say(format!("will: {publish:?}"));
        self.world.publish(origin, &publish);
        if let Some(origin) = origin {
            self.world.excuse(origin);
        }
        loop {
            let observer = self.connected.get_mut(OBSERVER).expect("the observer");
            let packet = observer.client.read().await.expect("a will");
            let got = self.take(OBSERVER, &packet);
            if got.is_some_and(|got| got.payload == publish.payload) {
                break;
            }
        }
        self.pass_the_barrier(OBSERVER).await;
    }

    /// Waits until all that was published so far is in the mailboxes of those who subscribed.
    async fn pass_the_barrier(&mut self, name: &'static str) {
        let barrier = Publish {
            topic: BARRIER.into(),
            payload: String::new(),
            // What others did may not be on disk yet, and is not to be seen before.
            qos: if name == OBSERVER { 2 } else { 1 },
            retain: false,
        };
        self.send_publish(name, &barrier, 0x0c, false).await;
        if name == OBSERVER {
            self.await_acknowledgement(name, 0x50, 0x0c).await;
            self.tell(name, 0x62, 0x0c).await;
            self.await_acknowledgement(name, 0x70, 0x0c).await;
        } else {
            self.await_acknowledgement(name, 0x40, 0x0c).await;
        }
    }

    /// A PUBLISH or PUBREL that a client got, held against the model. Acknowledgements are made later.
    fn take(&mut self, name: &'static str, packet: &Packet) -> Option<Got> {
        if let (0x62, body) = packet {
            assert!(body.get(2).is_none_or(|reason| *reason == 0), "{body:x?}");
            let pkid = u16::from_be_bytes([body[0], body[1]]);
            if let Err(why) = self.world.accept_release(name, pkid) {
                panic!("{name} got a PUBREL of {pkid}: {why}");
            }
            return None;
        }
        let level = self
            .connected
            .get(name)
            .map_or(5, |connected| connected.level);
        let got = parse(level, packet);
        if let Err(why) = self.world.accept(name, &got) {
            panic!("{name} got {got:?}: {why}");
        }
        Some(got)
    }

    /// No topic is in two shared filters of one client: it could not tell which of them a message came by.
    fn pick_filter(&mut self, name: &str) -> &'static str {
        match self.pick(&FILTERS) {
            "$share/g/a/#" if matches!(name, "cat" | "dan") => "$share/h/a/#",
            filter => filter,
        }
    }

    async fn subscribe(&mut self, name: &'static str) {
        let filter = self.pick_filter(name);
        let five = self.connected.get(name).is_some_and(|it| it.level == 5);
        let asked = Asked {
            qos: self.rng.random_range(0..3),
            // A shared subscription cannot have it.
            no_local: five && self.chance(30) && !filter.starts_with("$share/"),
            as_published: five && self.chance(30),
            id: (five && self.chance(50)).then(|| self.rng.random_range(1..100)),
        };
        let forward = if five {
            self.rng.random_range(0..3u8)
        } else {
            0
        };
        self.subscribe_to(name, filter, asked, forward).await;
    }

    async fn subscribe_to(&mut self, name: &'static str, filter: &str, asked: Asked, forward: u8) {
        self.say(format!(
            "{name} subscribes to {filter}: {asked:?}, {forward}"
        ));
        let connected = self.connected.get_mut(name).expect("a client");
        let mut body = b"\x00\x09".to_vec();
        if connected.level == 5 {
            match asked.id {
                Some(id) => body.extend([2, 0x0b, u8::try_from(id).unwrap()]),
                None => body.push(0),
            }
        }
        body.extend(prefixed(filter.as_bytes()));
        let options = asked.qos
            | u8::from(asked.no_local) << 2
            | u8::from(asked.as_published) << 3
            | forward << 4;
        body.push(options);
        connected.client.send(&packet(0x82, &body)).await;
        let granted = [
            &b"\x00\x09"[..],
            if connected.level == 5 { b"\0" } else { b"" },
            &[asked
                .qos
                .min(if filter.starts_with("$share/") { 1 } else { 2 })],
        ];
        let granted = (0x90, granted.concat());
        self.await_answer(name, &granted).await;
        self.world.subscribe(name, filter, asked, forward);
    }

    async fn unsubscribe(&mut self, name: &'static str) {
        let filter = self.pick_filter(name);
        self.say(format!("{name} unsubscribes from {filter}"));
        let connected = self.connected.get_mut(name).expect("a client");
        let five = connected.level == 5;
        let body = [
            &b"\x00\x0a"[..],
            if five { b"\0" } else { b"" },
            &prefixed(filter.as_bytes()),
        ];
        connected.client.send(&packet(0xa2, &body.concat())).await;
        let known = self.world.unsubscribe(name, filter);
        let reason = [0, if known { 0 } else { 0x11 }];
        let answer = [&b"\x00\x0a"[..], if five { &reason } else { b"" }].concat();
        self.await_answer(name, &(0xb0, answer)).await;
    }

    /// Reads until the answer, and holds what comes before it against the model.
    async fn await_answer(&mut self, name: &'static str, answer: &Packet) {
        loop {
            let connected = self.connected.get_mut(name).expect("a client");
            let packet = connected.client.read().await.expect("an answer");
            if packet.0 >> 4 != 3 && packet.0 != 0x62 {
                assert_eq!(&packet, answer);
                break;
            }
            self.take(name, &packet);
        }
    }

    async fn publish(&mut self, name: &'static str) {
        let publish = Publish {
            topic: self.pick(&TOPICS).into(),
            payload: if self.chance(10) {
                String::new()
            } else {
                self.next_payload()
            },
            qos: self.rng.random_range(0..3),
            retain: self.chance(25),
        };
        if publish.qos == 2 {
            return self.publish_exactly_once(name, publish).await;
        }
        self.say(format!("{name} publishes {publish:?}"));
        self.send_publish(name, &publish, 0x0b, false).await;
        self.world.publish(Some(name), &publish);
        if publish.qos > 0 {
            self.await_acknowledgement(name, 0x40, 0x0b).await;
        }
        self.pass_the_barrier(name).await;
    }

    async fn send_publish(&mut self, name: &'static str, publish: &Publish, pkid: u16, dup: bool) {
        let connected = self.connected.get_mut(name).expect("a client");
        let mut body = prefixed(publish.topic.as_bytes());
        if publish.qos > 0 {
            body.extend(pkid.to_be_bytes());
        }
        if connected.level == 5 {
            body.push(0);
        }
        body.extend(publish.payload.as_bytes());
        let first = 0x30 | publish.qos << 1 | u8::from(publish.retain) | u8::from(dup) << 3;
        connected.client.send(&packet(first, &body)).await;
    }

    /// Reads until the acknowledgement, whose reason it returns.
    async fn await_acknowledgement(&mut self, name: &'static str, first: u8, pkid: u16) -> u8 {
        loop {
            let connected = self.connected.get_mut(name).expect("a client");
            let packet = connected.client.read().await.expect("an acknowledgement");
            // A PUBREL may be one of those that are due besides.
            if packet.0 == first && (first != 0x62 || packet.1[..2] == pkid.to_be_bytes()) {
                assert_eq!(packet.1[..2], pkid.to_be_bytes(), "acknowledged in order");
                let reason = packet.1.get(2).copied().unwrap_or(0);
                assert!(reason < 0x80 || matches!(first, 0x62 | 0x70), "{packet:x?}");
                return reason;
            }
            self.take(name, &packet);
        }
    }

    async fn step(&mut self) {
        let name = self.pick(&CLIENTS);
        let dice = self.rng.random_range(0..100);
        if !self.connected.contains_key(name) || dice < 5 {
            return self.connect(name).await;
        }
        match dice {
            5..25 => self.subscribe(name).await,
            25..32 => self.unsubscribe(name).await,
            32..72 => self.publish(name).await,
            72..80 => self.finish_one(name).await,
            80..86 => {
                self.say(format!("{name} disconnects"));
                let mut old = self.connected.remove(name).expect("a client");
                old.will = None;
                old.client.send(b"\xe0\x00").await;
                let mut last = old.client.read_to_end().await;
                last.retain(|(first, _)| *first != 0x62);
                assert_eq!(last, []);
                self.end(name, old, None, false).await;
            }
            86..93 => {
                self.say(format!("{name} vanishes"));
                let old = self.connected.remove(name).expect("a client");
                self.end(name, old, None, false).await;
            }
            _ => {
                let mut old = self.connected.remove(name).expect("a client");
                let fit = INVALID
                    .iter()
                    .filter(|(levels, ..)| levels.contains(&old.level));
                let (_, bytes, reason) = self.pick(&fit.collect::<Vec<_>>());
                self.say(format!("{name} breaks the protocol: {bytes:x?}"));
                old.client.send(bytes).await;
                self.end(name, old, Some(*reason), false).await;
            }
        }
    }
}

fn parse(level: u8, (first, body): &Packet) -> Got {
    assert_eq!(first >> 4, 3, "a PUBLISH and not {first:#x} {body:x?}");
    let take = |at: &mut usize, count: usize| {
        let taken = body[*at..*at + count].to_vec();
        *at += count;
        taken
    };
    let mut at = 0;
    let number = |bytes: Vec<u8>| {
        bytes
            .iter()
            .fold(0usize, |value, byte| value << 8 | usize::from(*byte))
    };
    let length = number(take(&mut at, 2));
    let topic = String::from_utf8(take(&mut at, length)).unwrap();
    let qos = first >> 1 & 3;
    let pkid = if qos > 0 { number(take(&mut at, 2)) } else { 0 };
    let mut ids = BTreeSet::new();
    if level == 5 {
        let length = number(take(&mut at, 1));
        let end = at + length;
        while at < end {
            // Only subscription identifiers below 128 are asked for, and no other property is sent.
            assert_eq!(take(&mut at, 1), [0x0b]);
            ids.insert(number(take(&mut at, 1)));
        }
    }
    Got {
        topic,
        payload: String::from_utf8(body[at..].to_vec()).unwrap(),
        qos,
        retain: first & 1 == 1,
        ids: (level == 5).then_some(ids),
        dup: first & 8 == 8,
        pkid: u16::try_from(pkid).unwrap(),
    }
}

async fn converse(seed: u64, steps: usize) {
    let data = tempfile::tempdir().unwrap();
    let flags = Overrides {
        open: true,
        data: Some(data.path().into()),
        ..Overrides::default()
    };
    let Assembled {
        broker,
        dispatching,
        ..
    } = assemble(Settings::load(None, flags).unwrap()).unwrap();
    let wills = tokio::spawn(connection::publish_due(Arc::clone(&broker)));
    let mut conversation = Conversation {
        broker,
        rng: SmallRng::seed_from_u64(seed),
        world: World::default(),
        connected: BTreeMap::new(),
        unfinished: BTreeMap::new(),
        counter: 0,
        history: Rc::default(),
    };
    let _told = Told {
        seed,
        history: Rc::clone(&conversation.history),
    };
    conversation.connect(OBSERVER).await;
    let all = Asked {
        qos: 2,
        ..Asked::default()
    };
    conversation.subscribe_to(OBSERVER, "will/#", all, 0).await;
    for _ in 0..steps {
        conversation.step().await;
        conversation.settle().await;
    }
    dispatching.abort();
    wills.abort();
}

/// Tells what led to a failure.
struct Told {
    seed: u64,
    history: Rc<RefCell<Vec<String>>>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let history = self.history.borrow();
            eprintln!("seed {}, {} steps; the last:", self.seed, history.len());
            for step in history.iter().rev().take(40).rev() {
                eprintln!("  {step}");
            }
        }
    }
}

fn seeds() -> Range<u64> {
    let Ok(spelled) = std::env::var("SEALPOST_MODEL_SEEDS") else {
        return 0..20;
    };
    let (from, to) = spelled.split_once("..").expect("FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

fn steps() -> usize {
    std::env::var("SEALPOST_MODEL_STEPS").map_or(200, |steps| steps.parse().unwrap())
}

#[test]
fn whatever_clients_do_each_gets_what_mqtt_promises() {
    for seed in seeds() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(converse(seed, steps()));
    }
}
