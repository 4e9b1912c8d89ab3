//! Topics: who subscribed to what, and what is retained where.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use rumqttd::protocol::QoS;
use sealpost_core::Timestamp;

use crate::delivery::mailbox::{Delivery, Mailbox};
use crate::delivery::receipt::Receipt;
use crate::delivery::session::Session;
use crate::delivery::subscriptions::Subscriptions;
use crate::protocol::message::Message;
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::{FilterName, TopicName};

/// A publish as it comes out of the one order.
#[derive(Debug)]
pub struct Post {
    /// The message.
    pub message: Arc<Message>,
    /// Its QoS.
    pub qos: QoS,
    /// Its packet identifier at QoS 2; 0 for a will, which nobody sends twice.
    pub pkid: u16,
    /// Whether to retain it.
    pub retain: bool,
    /// The session that published it, for subscriptions without its own messages.
    pub origin: Option<Arc<Session>>,
    /// What the publisher waits for.
    pub receipt: Option<Arc<Receipt>>,
}

/// Who subscribes: a session, or a group that shares a subscription.
#[derive(Debug, Clone)]
pub enum Subscriber {
    /// A session.
    Session(Arc<Session>),
    /// A group, by its mailbox.
    Group(Arc<Mailbox>),
}

impl Subscriber {
    /// Where its mail goes.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        match self {
            Subscriber::Session(session) => session.mailbox(),
            Subscriber::Group(mailbox) => mailbox,
        }
    }
}

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.mailbox(), other.mailbox())
    }
}

#[derive(Debug, Clone)]
struct Retained {
    message: Arc<Message>,
    qos: QoS,
}

/// Subscriptions and retained messages.
#[derive(Debug)]
pub struct Topics {
    subscriptions: Subscriptions<Subscriber, Subscription>,
    /// By name, so that a filter with wildcards looks only at what begins as it does: not at everybody's key bundles.
    retained: BTreeMap<TopicName, Retained>,
    /// Of these, what clients have put there, and its bytes.
    retained_messages: usize,
    retained_bytes: usize,
    max_retained: usize,
    max_retained_bytes: usize,
}

impl Topics {
    /// No topics. At most so many messages are retained, of so many bytes in all; key bundles are not counted among them,
    /// for those are bounded by the users, nor what the broker tells of itself.
    #[must_use]
    pub fn new(max_retained: usize, max_retained_bytes: usize) -> Topics {
        Topics {
            subscriptions: Subscriptions::default(),
            retained: BTreeMap::new(),
            retained_messages: 0,
            retained_bytes: 0,
            max_retained,
            max_retained_bytes,
        }
    }

    /// Adds or replaces a subscription.
    pub fn subscribe(
        &mut self,
        filter: &FilterName,
        subscriber: Subscriber,
        subscription: Subscription,
    ) {
        self.subscriptions.insert(filter, subscriber, subscription);
    }

    /// Removes a subscription. Returns whether it was there.
    pub fn unsubscribe(&mut self, filter: &FilterName, subscriber: &Subscriber) -> bool {
        self.subscriptions.remove(filter, subscriber).is_some()
    }

    /// What a post is for each session that subscribed to it, once for each.
    #[must_use]
    pub fn deliveries(&self, post: &Post) -> Vec<(&Subscriber, Delivery)> {
        let mut deliveries = Vec::<(&Subscriber, Delivery)>::new();
        self.subscriptions
            .for_each_match(&post.message.topic, |subscriber, subscription| {
                let is_own = || {
                    let origin = post.origin.as_ref();
                    origin.is_some_and(|own| Arc::ptr_eq(subscriber.mailbox(), own.mailbox()))
                };
                if subscription.no_local && is_own() {
                    return;
                }
                let delivery = Delivery {
                    message: Arc::clone(&post.message),
                    qos: lower(post.qos, subscription.qos),
                    retain: post.retain && subscription.retain_as_published,
                    subscription_ids: subscription.id.into_iter().collect(),
                };
                deliveries.push((subscriber, delivery));
            });
        if deliveries.len() > 1 {
            // A session with several subscriptions that match gets the message once, at the highest of their QoS.
            deliveries.sort_by_key(|(subscriber, _)| Arc::as_ptr(subscriber.mailbox()));
            deliveries.dedup_by(|(later, more), (kept, delivery)| {
                if later != kept {
                    return false;
                }
                delivery.qos = higher(delivery.qos, more.qos);
                delivery.retain |= more.retain;
                delivery.subscription_ids.append(&mut more.subscription_ids);
                true
            });
        }
        deliveries
    }

    /// The retained messages that a subscription brings now.
    #[must_use]
    pub fn retained(
        &self,
        filter: &FilterName,
        subscription: &Subscription,
        now: Timestamp,
    ) -> Vec<Delivery> {
        let deliver = |kept: &Retained| Delivery {
            message: Arc::clone(&kept.message),
            qos: lower(kept.qos, subscription.qos),
            retain: true,
            subscription_ids: subscription.id.into_iter().collect(),
        };
        match TopicName::parse(filter.as_str().as_bytes()) {
            Ok(topic) => {
                let kept = self.retained.get(&topic);
                let kept = kept.filter(|kept| !kept.message.is_expired(now));
                kept.map(deliver).into_iter().collect()
            }
            Err(_) => {
                // `a/#` matches `a` too.
                let (stem, _) = filter.as_str().split_once(['+', '#']).unwrap_or_default();
                let stem = stem.strip_suffix('/').unwrap_or(stem);
                let matching = self
                    .retained
                    .range::<str, _>((Bound::Included(stem), Bound::Unbounded))
                    .take_while(|(topic, _)| topic.as_str().starts_with(stem))
                    .filter(|(topic, kept)| filter.matches(topic) && !kept.message.is_expired(now));
                matching.map(|(_, kept)| deliver(kept)).collect()
            }
        }
    }

    /// Whether there is room to retain the message.
    #[must_use]
    pub fn can_retain(&self, message: &Message) -> bool {
        let (old_messages, old_bytes) = self.counted(&message.topic);
        !is_counted(message)
            || message.payload.is_empty()
            || (self.retained_bytes - old_bytes + message.size() <= self.max_retained_bytes
                && self.retained_messages - old_messages < self.max_retained)
    }

    /// Keeps the message as its topic's retained one; an empty payload removes it.
    pub fn retain(&mut self, message: &Arc<Message>, qos: QoS) {
        self.forget(&message.topic);
        if message.payload.is_empty() {
            return;
        }
        let kept = Retained {
            message: Arc::clone(message),
            qos,
        };
        self.retained.insert(message.topic.clone(), kept);
        let (messages, bytes) = self.counted(&message.topic);
        self.retained_messages += messages;
        self.retained_bytes += bytes;
    }

    /// Retained messages that count, and their bytes.
    #[must_use]
    pub fn retained_load(&self) -> (usize, usize) {
        (self.retained_messages, self.retained_bytes)
    }

    /// Topics whose retained message has expired.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<TopicName> {
        let expired = self
            .retained
            .iter()
            .filter(|(_, kept)| kept.message.is_expired(now));
        expired.map(|(topic, _)| topic.clone()).collect()
    }

    /// Removes a topic's retained message.
    pub fn forget(&mut self, topic: &TopicName) {
        let (messages, bytes) = self.counted(topic);
        self.retained_messages -= messages;
        self.retained_bytes -= bytes;
        self.retained.remove(topic);
    }

    /// Messages (one, or none) and bytes that count of what is retained there.
    fn counted(&self, topic: &TopicName) -> (usize, usize) {
        let kept = self.retained.get(topic);
        let kept = kept.filter(|kept| is_counted(&kept.message));
        kept.map_or((0, 0), |kept| (1, kept.message.size()))
    }
}

/// Whether a retained message takes room that clients share. Key bundles are bounded by the users, and what the broker tells of
/// itself by itself.
fn is_counted(message: &Message) -> bool {
    !message.supersedes && !message.topic.as_str().starts_with("$SYS/")
}

/// The lower of two.
#[must_use]
pub fn lower(one: QoS, other: QoS) -> QoS {
    if (one as u8) < (other as u8) {
        one
    } else {
        other
    }
}

fn higher(one: QoS, other: QoS) -> QoS {
    if (one as u8) < (other as u8) {
        other
    } else {
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::bench::{now, subscription};
    use bytes::Bytes;

    #[test]
    fn bundles_and_what_the_broker_tells_take_no_retained_messages_place() {
        let mut topics = Topics::new(1, 1 << 20);
        let message = |topic: &str, supersedes| {
            Arc::new(Message {
                number: 1,
                topic: TopicName::parse(topic.as_bytes()).unwrap(),
                payload: Bytes::from_static(b"x"),
                properties: None,
                expires: None,
                sender: None,
                supersedes,
            })
        };
        for message in [
            message("keys/alice", true),
            message("$SYS/broker/load", false),
        ] {
            assert!(topics.can_retain(&message));
            topics.retain(&message, QoS::AtLeastOnce);
        }
        assert_eq!(topics.retained_load(), (0, 0));
        let (one, other) = (message("one", false), message("other", false));
        assert!(topics.can_retain(&one));
        topics.retain(&one, QoS::AtLeastOnce);
        assert!(topics.can_retain(&one), "in its own place");
        assert!(!topics.can_retain(&other));
        topics.forget(&one.topic);
        assert!(topics.can_retain(&other));
    }

    #[test]
    fn a_filter_finds_exactly_the_retained_messages_that_it_matches() {
        let names = [
            "a", "a/", "a/b", "a/b/c", "a0", "ab/b", "b", "/", "/a", "$SYS/a", "$SYS/b/c",
        ];
        let mut topics = Topics::new(100, 1 << 20);
        for name in names {
            let message = Message {
                number: 1,
                topic: TopicName::parse(name.as_bytes()).unwrap(),
                payload: Bytes::from_static(b"x"),
                properties: None,
                expires: None,
                sender: None,
                supersedes: false,
            };
            topics.retain(&Arc::new(message), QoS::AtLeastOnce);
        }
        let filters = [
            "a", "a/#", "a/+", "a/b/#", "a/+/c", "+", "+/b", "#", "/#", "/+", "+/#", "$SYS/#",
            "$SYS/+", "c/#", "a/b/+", "ab/#",
        ];
        for filter in filters {
            let filter = FilterName::parse(filter).unwrap();
            let found = topics.retained(&filter, &subscription(QoS::AtLeastOnce), now());
            let mut found = found
                .iter()
                .map(|delivery| delivery.message.topic.as_str())
                .collect::<Vec<_>>();
            found.sort_unstable();
            let mut expected = names.to_vec();
            expected.retain(|name| filter.matches(&TopicName::parse(name.as_bytes()).unwrap()));
            expected.sort_unstable();
            assert_eq!(found, expected, "{filter:?}");
        }
    }
}
