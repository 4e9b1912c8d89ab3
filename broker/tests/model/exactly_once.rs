//! What clients send at QoS 2: late, twice, and on one connection after another.

use std::ops::RangeInclusive;

use rand::RngExt;

use crate::world::Publish;
use crate::{Conversation, OBSERVER};

/// Packet identifiers that clients use at QoS 2.
const EXACTLY_ONCE: RangeInclusive<u16> = 0x20..=0x24;

/// A message of QoS 2 that a client has sent and does not know to be complete.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    publish: Publish,
    /// Whether the client has seen PUBREC.
    received: bool,
    /// Whether the client has sent PUBREL.
    released: bool,
}

impl Conversation {
    /// What a client had under way at QoS 2 goes on where it stood.
    pub(crate) async fn resume(&mut self, name: &'static str) {
        let unfinished = self.unfinished.get(name).cloned().unwrap_or_default();
        for (pkid, Unfinished { received, .. }) in unfinished {
            if !received {
                self.send_again(name, pkid).await;
            } else if self.chance(50) {
                self.release(name, pkid).await;
            }
        }
    }

    /// Sends a PUBLISH again that the broker has: nobody gets it again.
    async fn send_again(&mut self, name: &'static str, pkid: u16) {
        let unfinished = self.unfinished.get_mut(name);
        let unfinished = unfinished.and_then(|all| all.get_mut(&pkid)).expect("one");
        unfinished.received = true;
        let publish = unfinished.publish.clone();
        self.say(format!("{name} publishes {pkid} again"));
        for _ in 0..self.rng.random_range(1..3) {
            self.send_publish(name, &publish, pkid, true).await;
            self.await_acknowledgement(name, 0x50, pkid).await;
        }
    }

    /// Releases a message, or releases it again.
    async fn release(&mut self, name: &'static str, pkid: u16) {
        self.say(format!("{name} releases {pkid}"));
        let mine = self.unfinished.get_mut(name);
        let unfinished = mine.and_then(|all| all.remove(&pkid)).expect("one");
        self.tell(name, 0x62, pkid).await;
        let reason = self.await_acknowledgement(name, 0x70, pkid).await;
        // Whoever released it before may have done so in vain.
        assert!(reason == 0 || unfinished.released && reason == 0x92);
    }

    /// The connection breaks before its client has read what came last.
    async fn vanish_unread(&mut self, name: &'static str) {
        self.say(format!("{name} vanishes at once"));
        self.world.unread(name);
        let old = self.connected.remove(name).expect("a client");
        self.end(name, old, None, false).await;
        self.pass_the_barrier(OBSERVER).await;
    }

    pub(crate) async fn publish_exactly_once(&mut self, name: &'static str, publish: Publish) {
        let unfinished = self.unfinished.entry(name).or_default();
        let Some(pkid) = EXACTLY_ONCE
            .into_iter()
            .find(|it| !unfinished.contains_key(it))
        else {
            return self.finish_one(name).await;
        };
        unfinished.insert(
            pkid,
            Unfinished {
                publish: publish.clone(),
                received: false,
                released: false,
            },
        );
        self.say(format!("{name} publishes {pkid}: {publish:?}"));
        self.send_publish(name, &publish, pkid, false).await;
        self.world.publish(Some(name), &publish);
        if self.chance(15) {
            return self.vanish_unread(name).await;
        }
        self.await_acknowledgement(name, 0x50, pkid).await;
        // Else as if it had not been seen.
        if self.chance(85) {
            let mine = self.unfinished.get_mut(name);
            mine.and_then(|all| all.get_mut(&pkid))
                .expect("one")
                .received = true;
            if self.chance(50) {
                self.release(name, pkid).await;
            }
        }
        self.pass_the_barrier(name).await;
    }

    /// Goes on with one of the messages that are not complete, or with one that never was.
    pub(crate) async fn finish_one(&mut self, name: &'static str) {
        let mine = self.unfinished.entry(name).or_default();
        let pkids = mine.keys().copied().collect::<Vec<_>>();
        let level = self.connected.get(name).expect("a client").level;
        if pkids.is_empty() || self.chance(15) {
            self.say(format!("{name} releases and receives what is not there"));
            let unknown = if level == 5 { 0x92 } else { 0 };
            self.tell(name, 0x62, 0x77).await;
            assert_eq!(self.await_acknowledgement(name, 0x70, 0x77).await, unknown);
            self.tell(name, 0x50, 0x7777).await;
            assert_eq!(
                self.await_acknowledgement(name, 0x62, 0x7777).await,
                unknown
            );
            return;
        }
        let pkid = self.pick(&pkids);
        let mine = self.unfinished.get_mut(name);
        let unfinished = mine.and_then(|all| all.get_mut(&pkid)).expect("one");
        if !unfinished.received {
            return self.send_again(name, pkid).await;
        }
        if self.rng.random_range(0..100) < 80 {
            return self.release(name, pkid).await;
        }
        unfinished.released = true;
        self.say(format!("{name} releases {pkid}, and"));
        self.tell(name, 0x62, pkid).await;
        self.vanish_unread(name).await;
    }
}
