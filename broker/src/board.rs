//! The board: who subscribed to what, what is retained, and every session. Connections and the dispatcher meet here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rumqttd::protocol::{DisconnectReasonCode, QoS, RetainForwardRule};
use tokio::time::Instant;

use crate::message::{Message, Outcome, Receipt};
use crate::session::{Attachment, Delivery, Pushed, Session, Share};
use crate::subscriptions::Subscriptions;
use crate::topic_name::{FilterName, TopicName};
use crate::wire::Goodbye;

/// A session belongs to a name and a client id: nobody takes over another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Who logged in; empty when the broker is open.
    pub owner: String,
    /// The client id.
    pub client_id: String,
}

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

/// Bounds on what the board keeps in memory.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes in all durable sessions' mailboxes together.
    pub mailbox_bytes: usize,
    /// Sessions of one name.
    pub sessions_per_owner: usize,
    /// Sessions in all.
    pub sessions: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_session: usize,
    /// Retained messages.
    pub retained: usize,
    /// Bytes of all retained messages.
    pub retained_bytes: usize,
    /// How long a clean session may hold the acknowledgements of those who write to it.
    pub hold: Duration,
}

/// Why a session or subscription was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// The owner has as many sessions as one may have.
    #[error("too many sessions of one user; end one, or let it expire")]
    SessionsOfOwner,
    /// The broker has as many sessions as it takes.
    #[error("the broker has as many sessions as it takes")]
    Sessions,
    /// The session has as many subscriptions as one may have.
    #[error("too many subscriptions in one session")]
    Subscriptions,
}

/// A session as subscribers are told apart: by identity.
#[derive(Debug, Clone)]
struct Subscriber {
    session: Arc<Session>,
}

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.session, &other.session)
    }
}

#[derive(Debug, Default)]
struct Topics {
    subscriptions: Subscriptions<Subscriber, Subscription>,
    retained: HashMap<TopicName, Retained>,
    retained_bytes: usize,
}

#[derive(Debug, Clone)]
struct Retained {
    message: Arc<Message>,
    qos: QoS,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    filters: Vec<FilterName>,
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

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// Delivered.
    Delivered {
        /// Durable sessions that took it.
        durable: usize,
        /// Sessions that it matched, archivers' not counted.
        readers: usize,
    },
    /// Nobody got it, for this reason.
    Refused(Outcome),
}

/// The board.
#[derive(Debug)]
pub struct Board {
    bounds: Bounds,
    shared_bytes: Arc<AtomicUsize>,
    topics: RwLock<Topics>,
    members: Mutex<HashMap<SessionKey, Member>>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(bounds: Bounds) -> Board {
        Board {
            bounds,
            shared_bytes: Arc::default(),
            topics: RwLock::default(),
            members: Mutex::default(),
        }
    }

    /// Joins a connection to its session, old or new. Returns the session and whether it was there before.
    ///
    /// # Errors
    /// [`BoardError`] when a new one would be too many.
    pub fn join(
        &self,
        key: &SessionKey,
        clean_start: bool,
        expiry: Duration,
        share: Share,
        attachment: Attachment,
    ) -> Result<(Arc<Session>, bool), BoardError> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if clean_start && let Some(member) = members.remove(key) {
            member.session.disconnect(Goodbye::new(
                DisconnectReasonCode::SessionTakenOver,
                "another connection with this client id began a new session",
            ));
            self.forget(&member);
        }
        if !members.contains_key(key) {
            if members.len() >= self.bounds.sessions {
                return Err(BoardError::Sessions);
            }
            // An open broker has no owners to share between; its sessions are bounded together.
            let of_owner = || {
                members
                    .keys()
                    .filter(|other| other.owner == key.owner)
                    .count()
            };
            if !key.owner.is_empty() && of_owner() >= self.bounds.sessions_per_owner {
                return Err(BoardError::SessionsOfOwner);
            }
        }
        let (session, present) = match members.entry(key.clone()) {
            Entry::Occupied(member) => (Arc::clone(&member.get().session), true),
            Entry::Vacant(vacant) => {
                let session = Arc::new(Session::new(expiry, share, Arc::clone(&self.shared_bytes)));
                vacant.insert(Member {
                    session: Arc::clone(&session),
                    filters: Vec::new(),
                });
                (session, false)
            }
        };
        session.attach(attachment, expiry);
        Ok((session, present))
    }

    /// A connection has ended; the session ends with it unless it is durable.
    pub fn leave(
        &self,
        key: &SessionKey,
        session: &Arc<Session>,
        attachment: &Attachment,
        expiry: Option<Duration>,
    ) {
        if !session.detach(&attachment.wire, expiry) {
            return;
        }
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if members
            .get(key)
            .is_some_and(|member| Arc::ptr_eq(&member.session, session))
            && let Some(member) = members.remove(key)
        {
            self.forget(&member);
        }
    }

    /// Ends sessions that nobody came back for, and disconnects clean sessions that hold others up for too long.
    pub fn tidy(&self) {
        let now = Instant::now();
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, member| {
            let expired = member.session.is_expired(now);
            if expired {
                self.forget(member);
            }
            !expired
        });
        for member in members.values() {
            let held = member
                .session
                .holds_since()
                .map(|since| now.saturating_duration_since(since));
            if held.is_some_and(|held| held >= self.bounds.hold) {
                member.session.disconnect(Goodbye::new(
                    DisconnectReasonCode::QuotaExceeded,
                    "this clean session read too slowly for too long; connect with a session that is kept, or read faster",
                ));
            }
        }
    }

    fn forget(&self, member: &Member) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let subscriber = Subscriber {
            session: Arc::clone(&member.session),
        };
        for filter in &member.filters {
            topics.subscriptions.remove(filter, &subscriber);
        }
    }

    /// Adds a subscription and queues the retained messages that match it, so that none is missed and none overtaken.
    ///
    /// # Errors
    /// [`BoardError::Subscriptions`] when the session has too many.
    pub fn subscribe(
        &self,
        key: &SessionKey,
        session: &Arc<Session>,
        filter: &FilterName,
        subscription: Subscription,
        rule: &RetainForwardRule,
    ) -> Result<(), BoardError> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(member) = members
            .get_mut(key)
            .filter(|member| Arc::ptr_eq(&member.session, session))
        else {
            // Taken over in between; its connection is ending.
            return Ok(());
        };
        let known = member.filters.contains(filter);
        if !known {
            if member.filters.len() >= self.bounds.subscriptions_per_session {
                return Err(BoardError::Subscriptions);
            }
            member.filters.push(filter.clone());
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let forward = match rule {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => !known,
            RetainForwardRule::Never => false,
        };
        if forward {
            let exact = TopicName::parse(filter.as_str().as_bytes()).ok();
            let matching: Box<dyn Iterator<Item = &Retained>> = match &exact {
                Some(topic) => Box::new(topics.retained.get(topic).into_iter()),
                None => Box::new(
                    topics
                        .retained
                        .iter()
                        .filter(|(topic, _)| filter.matches(topic))
                        .map(|(_, kept)| kept),
                ),
            };
            for kept in matching {
                let delivery = Delivery {
                    message: Arc::clone(&kept.message),
                    qos: lower(kept.qos, subscription.qos),
                    retain: true,
                    subscription_ids: subscription.id.into_iter().collect(),
                };
                session.push(delivery, None);
            }
        }
        topics.subscriptions.insert(
            filter,
            Subscriber {
                session: Arc::clone(session),
            },
            subscription,
        );
        Ok(())
    }

    /// Removes a subscription. Returns whether it was there.
    pub fn unsubscribe(
        &self,
        key: &SessionKey,
        session: &Arc<Session>,
        filter: &FilterName,
    ) -> bool {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members
            .get_mut(key)
            .filter(|member| Arc::ptr_eq(&member.session, session))
        {
            member.filters.retain(|other| other != filter);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics
            .subscriptions
            .remove(
                filter,
                &Subscriber {
                    session: Arc::clone(session),
                },
            )
            .is_some()
    }

    /// Delivers a post to all who subscribed, or to nobody. Called in the one order.
    pub fn post(&self, post: &Post) -> Posted {
        if post.retain {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            let posted = self.deliver(&topics, post);
            if matches!(posted, Posted::Delivered { .. })
                && !topics.retain(&post.message, post.qos, self.bounds)
            {
                tracing::warn!(
                    "the bound on retained messages is reached; one was delivered and not retained"
                );
            }
            posted
        } else {
            self.deliver(
                &self.topics.read().unwrap_or_else(PoisonError::into_inner),
                post,
            )
        }
    }

    fn deliver(&self, topics: &Topics, post: &Post) -> Posted {
        let mut matches = Vec::<(&Subscriber, Delivery)>::new();
        topics
            .subscriptions
            .for_each_match(&post.message.topic, |subscriber, subscription| {
                if subscription.no_local && Arc::ptr_eq(&subscriber.session, &post.origin) {
                    return;
                }
                let qos = lower(post.qos, subscription.qos);
                let retain = post.retain && subscription.retain_as_published;
                // A session with several subscriptions that match gets the message once, at the highest of their QoS.
                match matches.iter_mut().find(|(other, _)| *other == subscriber) {
                    Some((_, delivery)) => {
                        if subscription.qos as u8 > delivery.qos as u8 {
                            delivery.qos = qos;
                        }
                        delivery.retain |= retain;
                        delivery.subscription_ids.extend(subscription.id);
                    }
                    None => {
                        let message = Arc::clone(&post.message);
                        let subscription_ids = subscription.id.into_iter().collect();
                        matches.push((
                            subscriber,
                            Delivery {
                                message,
                                qos,
                                retain,
                                subscription_ids,
                            },
                        ));
                    }
                }
            });
        let size = post.message.size();
        let full = matches.iter().any(|(subscriber, delivery)| {
            delivery.qos != QoS::AtMostOnce
                && !subscriber.session.has_room(size, self.bounds.mailbox_bytes)
        });
        if full {
            return Posted::Refused(Outcome::QuotaExceeded);
        }
        let (mut durable, mut readers) = (0, 0);
        for (subscriber, delivery) in matches {
            readers += usize::from(!subscriber.session.is_archive());
            let reliable = delivery.qos != QoS::AtMostOnce;
            let pushed = subscriber.session.push(delivery, post.receipt.as_ref());
            durable += usize::from(
                reliable && pushed == Pushed::Queued && subscriber.session.is_durable(),
            );
        }
        Posted::Delivered { durable, readers }
    }

    /// Puts a retained message in place without delivering it: what a restart brings back.
    pub fn restore(&self, message: Arc<Message>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.retain(&message, QoS::AtLeastOnce, self.bounds);
    }

    /// Sessions, subscriptions and retained messages held, for the log.
    #[must_use]
    pub fn census(&self) -> (usize, usize, usize) {
        let members = self
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        (members, topics.subscriptions.len(), topics.retained.len())
    }
}

impl Topics {
    /// Keeps the message as its topic's retained one; an empty payload removes it. False when there is no room.
    fn retain(&mut self, message: &Arc<Message>, qos: QoS, bounds: Bounds) -> bool {
        let old = self
            .retained
            .get(&message.topic)
            .map_or(0, |old| old.message.size());
        if message.payload.is_empty() {
            self.retained.remove(&message.topic);
            self.retained_bytes -= old;
            return true;
        }
        let bytes = self.retained_bytes - old + message.size();
        if bytes > bounds.retained_bytes || (old == 0 && self.retained.len() >= bounds.retained) {
            return false;
        }
        self.retained.insert(
            message.topic.clone(),
            Retained {
                message: Arc::clone(message),
                qos,
            },
        );
        self.retained_bytes = bytes;
        true
    }
}

fn lower(one: QoS, other: QoS) -> QoS {
    if (one as u8) < (other as u8) {
        one
    } else {
        other
    }
}
