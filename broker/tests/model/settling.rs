//! What clients do with what they get: they read all of it, and answer some.

use crate::client::packet;
use crate::world::Answer;
use crate::{Conversation, OBSERVER};

/// Rounds of questions after which a group's message must have come to somebody: each passes it on at least once.
const ROUNDS: usize = 50;

impl Conversation {
    /// Answers a delivery. Returns whether there was one.
    async fn answer(&mut self, name: &'static str) -> bool {
        let complete = self.chance(50);
        let Some(answer) = self.world.answer(name, complete) else {
            return false;
        };
        let level = self.connected.get(name).expect("a client").level;
        match answer {
            Answer::Acknowledged(pkid) => self.tell(name, 0x40, pkid).await,
            Answer::Complete(pkid) => self.tell(name, 0x70, pkid).await,
            Answer::Received(pkid) if level == 5 && self.chance(5) => {
                self.say(format!("{name} refuses {pkid}"));
                let connected = self.connected.get_mut(name).expect("a client");
                let [high, low] = pkid.to_be_bytes();
                let refusal = packet(0x50, &[high, low, 0x83]);
                connected.client.send(&refusal).await;
                self.world.refuse(name, pkid);
            }
            Answer::Received(pkid) => self.tell(name, 0x50, pkid).await,
        }
        true
    }

    /// Reads until every PUBREC of a client is answered.
    async fn await_releases(&mut self, name: &'static str) {
        while self.world.awaits_release(name) {
            let connected = self.connected.get_mut(name).expect("a client");
            let packet = connected.client.read().await.expect("a PUBREL");
            self.take(name, &packet);
        }
    }

    /// Groups' messages go from one member to the next until one takes them.
    async fn settle_groups(&mut self) {
        for _ in 0..ROUNDS {
            if self.world.stuck().is_none() {
                return;
            }
            for name in self.connected.keys().copied().collect::<Vec<_>>() {
                let connected = self.connected.get_mut(name).expect("a client");
                for packet in connected.client.settle().await {
                    self.take(name, &packet);
                }
            }
        }
        if let Some(why) = self.world.stuck() {
            panic!("{why}");
        }
    }

    pub(crate) async fn settle(&mut self) {
        for name in self.connected.keys().copied().collect::<Vec<_>>() {
            loop {
                let connected = self.connected.get_mut(name).expect("a client");
                for packet in connected.client.settle().await {
                    self.take(name, &packet);
                }
                if let Err(why) = self.world.settled(name) {
                    panic!("{name}: {why}");
                }
                if name != OBSERVER && !self.chance(60) {
                    break;
                }
                // What is acknowledged makes room for more.
                let all = name == OBSERVER || self.chance(70);
                let mut acknowledged = 0;
                while self.answer(name).await {
                    acknowledged += 1;
                    if !all {
                        break;
                    }
                }
                if name == OBSERVER || self.chance(70) {
                    self.await_releases(name).await;
                }
                if acknowledged == 0 {
                    break;
                }
            }
        }
        self.settle_groups().await;
    }
}
