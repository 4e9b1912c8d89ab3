//! Topics: who subscribed to what, and what is retained where.

use std::collections::HashMap;
use std::sync::Arc;

use rumqttd::protocol::QoS;

use crate::delivery::mailbox::Delivery;
use crate::delivery::message::Message;
use crate::delivery::receipt::Receipt;
use crate::delivery::session::Session;
use crate::delivery::subscriptions::Subscriptions;
use crate::protocol::topic_name::{FilterName, TopicName};

/// What a subscription asks for.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The highest QoS to deliver at.
    pub qos: QoS,
    /// Whether the client's own publishes are left out (MQTT 5).
    pub no_local: bool,
    /// Whether the retain flag is passed on as published (MQTT 5).
    pub retain_as_published: bool,
    /// Its identifier (MQTT 5).
    pub id: Option<usize>,
}

/// A publish as it comes out of the one order.
#[derive(Debug)]
pub struct Post {
    /// The message.
    pub message: Arc<Message>,
    /// Its QoS, 0 or 1.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// The session that published it, for subscriptions without its own messages.
    pub origin: Arc<Session>,
    /// What the publisher waits for.
    pub receipt: Option<Arc<Receipt>>,
}

/// A session as subscribers are told apart: by identity.
#[derive(Debug, Clone)]
pub struct Subscriber(pub Arc<Session>);

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
    retained: HashMap<TopicName, Retained>,
    retained_bytes: usize,
    max_retained: usize,
    max_retained_bytes: usize,
}

impl Topics {
    /// No topics. At most so many messages are retained, of so many bytes in all; key bundles are not counted among them,
    /// for those are bounded by the users.
    #[must_use]
    pub fn new(max_retained: usize, max_retained_bytes: usize) -> Topics {
        Topics {
            subscriptions: Subscriptions::default(),
            retained: HashMap::new(),
            retained_bytes: 0,
            max_retained,
            max_retained_bytes,
        }
    }

    /// Adds or replaces a subscription.
    pub fn subscribe(
        &mut self,
        filter: &FilterName,
        session: &Arc<Session>,
        subscription: Subscription,
    ) {
        self.subscriptions
            .insert(filter, Subscriber(Arc::clone(session)), subscription);
    }

    /// Removes a subscription. Returns whether it was there.
    pub fn unsubscribe(&mut self, filter: &FilterName, session: &Arc<Session>) -> bool {
        self.subscriptions
            .remove(filter, &Subscriber(Arc::clone(session)))
            .is_some()
    }

    /// What a post is for each session that subscribed to it, once for each.
    #[must_use]
    pub fn deliveries(&self, post: &Post) -> Vec<(&Subscriber, Delivery)> {
        let mut deliveries = Vec::<(&Subscriber, Delivery)>::new();
        self.subscriptions
            .for_each_match(&post.message.topic, |subscriber, subscription| {
                if subscription.no_local && Arc::ptr_eq(&subscriber.0, &post.origin) {
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
            deliveries.sort_by_key(|(subscriber, _)| Arc::as_ptr(&subscriber.0));
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

    /// The retained messages that a subscription brings.
    #[must_use]
    pub fn retained(&self, filter: &FilterName, subscription: &Subscription) -> Vec<Delivery> {
        let deliver = |kept: &Retained| Delivery {
            message: Arc::clone(&kept.message),
            qos: lower(kept.qos, subscription.qos),
            retain: true,
            subscription_ids: subscription.id.into_iter().collect(),
        };
        match TopicName::parse(filter.as_str().as_bytes()) {
            Ok(topic) => self.retained.get(&topic).map(deliver).into_iter().collect(),
            Err(_) => {
                let matching = self
                    .retained
                    .iter()
                    .filter(|(topic, _)| filter.matches(topic));
                matching.map(|(_, kept)| deliver(kept)).collect()
            }
        }
    }

    /// Whether there is room to retain the message.
    #[must_use]
    pub fn can_retain(&self, message: &Message) -> bool {
        let old = self.retained_size(&message.topic);
        message.supersedes
            || message.payload.is_empty()
            || (self.retained_bytes - old + message.size() <= self.max_retained_bytes
                && (old > 0 || self.retained.len() < self.max_retained))
    }

    /// Keeps the message as its topic's retained one; an empty payload removes it.
    pub fn retain(&mut self, message: &Arc<Message>, qos: QoS) {
        self.retained_bytes -= self.retained_size(&message.topic);
        if message.payload.is_empty() {
            self.retained.remove(&message.topic);
            return;
        }
        let kept = Retained {
            message: Arc::clone(message),
            qos,
        };
        self.retained.insert(message.topic.clone(), kept);
        self.retained_bytes += self.retained_size(&message.topic);
    }

    fn retained_size(&self, topic: &TopicName) -> usize {
        let kept = self
            .retained
            .get(topic)
            .filter(|kept| !kept.message.supersedes);
        kept.map_or(0, |kept| kept.message.size())
    }
}

fn lower(one: QoS, other: QoS) -> QoS {
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
