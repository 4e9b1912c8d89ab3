//! A mailbox: what a session has yet to be sent, in order, and whose acknowledgements wait for that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rumqttd::protocol::QoS;
use tokio::time::Instant;

use crate::delivery::message::Message;
use crate::delivery::receipt::Receipt;
use crate::protocol::topic_name::TopicName;

/// A message for one session.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The lower of the publisher's and the subscription's.
    pub qos: QoS,
    /// Whether it is marked as retained.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched (MQTT 5).
    pub subscription_ids: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    hold: Option<Hold>,
}

/// The publisher's acknowledgement, held until this entry has left.
#[derive(Debug)]
struct Hold {
    _receipt: Arc<Receipt>,
    since: Instant,
}

/// Messages in order. Those that a newer one on their topic replaces (key bundles) stand apart, one for each topic: they
/// are never more than the topics subscribed to, and leave first, for mail may need the keys that came before it.
#[derive(Debug, Default)]
pub struct Mailbox {
    newest: HashMap<TopicName, Delivery>,
    newest_order: VecDeque<TopicName>,
    queue: VecDeque<Entry>,
    bytes: usize,
    holds: usize,
}

impl Mailbox {
    /// Messages held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.newest.len() + self.queue.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, as [`Message::size`] counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message at the end. `receipt` is kept until the message has left.
    pub fn push(&mut self, delivery: Delivery, receipt: Option<Arc<Receipt>>) {
        self.bytes += delivery.message.size();
        let hold = receipt.map(|receipt| Hold {
            _receipt: receipt,
            since: Instant::now(),
        });
        self.holds += usize::from(hold.is_some());
        self.queue.push_back(Entry { delivery, hold });
    }

    /// Adds a message in place of an older one on its topic.
    pub fn supersede(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.size();
        let topic = delivery.message.topic.clone();
        match self.newest.insert(topic.clone(), delivery) {
            Some(old) => self.bytes -= old.message.size(),
            None => self.newest_order.push_back(topic),
        }
    }

    /// The QoS of the next message.
    #[must_use]
    pub fn next_qos(&self) -> Option<QoS> {
        match self.newest_order.front() {
            Some(topic) => self.newest.get(topic).map(|delivery| delivery.qos),
            None => self.queue.front().map(|entry| entry.delivery.qos),
        }
    }

    /// Takes the next message out; what its entry held is let go.
    pub fn pop(&mut self) -> Option<Delivery> {
        let newest = self.newest_order.pop_front();
        let delivery = match newest.and_then(|topic| self.newest.remove(&topic)) {
            Some(delivery) => delivery,
            None => {
                let Entry { delivery, hold } = self.queue.pop_front()?;
                self.holds -= usize::from(hold.is_some());
                delivery
            }
        };
        self.bytes -= delivery.message.size();
        Some(delivery)
    }

    /// Lets every held acknowledgement go.
    pub fn release_holds(&mut self) {
        if self.holds > 0 {
            self.queue.iter_mut().for_each(|entry| entry.hold = None);
            self.holds = 0;
        }
    }

    /// Since when the oldest held acknowledgement has been held.
    #[must_use]
    pub fn holds_since(&self) -> Option<Instant> {
        if self.holds == 0 {
            return None;
        }
        // Entries leave in order, so the first hold found is the oldest.
        let mut holds = self.queue.iter().filter_map(|entry| entry.hold.as_ref());
        holds.next().map(|hold| hold.since)
    }
}
