//! A message on the board: to all who subscribed, or to nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use rumqttd::protocol::QoS;
use sealpost_core::Topic;

use super::Board;
use crate::delivery::account::{Account, Sender};
use crate::delivery::mailbox::{Delivery, Pushed};
use crate::delivery::session::Session;
use crate::delivery::topics::{Post, Subscriber, Topics};
use crate::journal::Change;
use crate::protocol::message::Message;
use crate::protocol::outcome::{Outcome, Quota};

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// Delivered.
    Delivered {
        /// Whether something of it is in the journal, and its publisher's acknowledgement has to wait for that.
        recorded: bool,
        /// Sessions that it matched, archivers' not counted.
        readers: usize,
    },
    /// Nobody got it, for this reason.
    Refused(Outcome),
}

impl Board {
    /// Delivers a post to all who subscribed, or to nobody. Called in the one order.
    pub fn post(&self, post: &Post) -> Posted {
        let _turn = self.journal.turn();
        let posted = loop {
            let posted = if post.retain {
                let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
                self.post_retained(&mut topics, post)
            } else {
                let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
                self.deliver(&topics, post)
            };
            match posted {
                Ok(posted) => break posted,
                Err(Obstacle::Refusal(outcome)) => break Posted::Refused(outcome),
                // Each time there are fewer.
                Err(Obstacle::Sessions(full)) => self.part_with(&full),
            }
        };
        if let Some(origin) = exactly_once(post) {
            let taken = matches!(posted, Posted::Delivered { .. });
            for receipt in origin.settle_reception(post.pkid, taken) {
                // They wait for the same as the first.
                match posted {
                    Posted::Refused(outcome) => receipt.settle(outcome),
                    Posted::Delivered { .. } => self
                        .journal
                        .after(move || receipt.settle(Outcome::Accepted)),
                }
            }
            if let Posted::Delivered { readers, recorded } = posted {
                return Posted::Delivered {
                    readers,
                    recorded: recorded || origin.is_durable(),
                };
            }
        }
        posted
    }

    fn post_retained(&self, topics: &mut Topics, post: &Post) -> Result<Posted, Obstacle> {
        let message = &post.message;
        let keeps = !message.payload.is_empty() && !message.supersedes;
        if !topics.can_retain(message) {
            return Err(Obstacle::Refusal(Outcome::QuotaExceeded(Quota::Retained)));
        }
        if keeps && self.journal.is_full() {
            return Err(Obstacle::Refusal(Outcome::QuotaExceeded(Quota::Disk)));
        }
        let posted = self.deliver(topics, post)?;
        let Posted::Delivered { readers, .. } = posted else {
            return Ok(posted);
        };
        topics.retain(message, post.qos);
        if message.supersedes {
            // Key bundles are kept with their users.
            return Ok(posted);
        }
        self.journal.record(if message.payload.is_empty() {
            Change::Forget(message.topic.clone())
        } else {
            Change::Retain(Arc::clone(message), post.qos)
        });
        Ok(Posted::Delivered {
            recorded: true,
            readers,
        })
    }

    fn deliver(&self, topics: &Topics, post: &Post) -> Result<Posted, Obstacle> {
        let deliveries = topics.deliveries(post);
        self.find_room(post, &deliveries)?;
        let recorded = deliveries.iter().any(is_kept);
        // At QoS 2 nobody may see it before it is certain that it is not taken twice, and that its packet identifier does not
        // come back with another message after a restart.
        let waits = (post.qos == QoS::ExactlyOnce && recorded)
            || exactly_once(post).is_some_and(|origin| origin.is_durable());
        let after = waits.then(Arc::<AtomicBool>::default);
        let mut waiting = Vec::new();
        let mut readers = 0;
        if let Some(sender) = &post.message.sender
            && let Ok(Topic::Inbox(other)) = Topic::parse(post.message.topic.as_str())
            && self.correspondents.answer(sender, other.as_str())
        {
            let other = other.to_string();
            self.journal
                .record(Change::Answered(Arc::clone(sender), other));
        }
        for (subscriber, delivery) in deliveries {
            let mailbox = subscriber.mailbox();
            readers += usize::from(!mailbox.share().archive);
            let pushed = mailbox.push(delivery, post.receipt.as_ref(), after.as_ref());
            if let (Pushed::Overflowing, Subscriber::Session(session)) = (pushed, subscriber) {
                // It lives with its connection, which ends, and lets everybody go now.
                self.disconnect_slow(session);
                mailbox.end();
            }
            if waits {
                waiting.push(Arc::clone(mailbox));
            }
        }
        if let Some(after) = after {
            self.journal.after(move || {
                after.store(true, Ordering::Release);
                waiting.iter().for_each(|mailbox| mailbox.wake());
            });
        }
        Ok(Posted::Delivered { recorded, readers })
    }

    /// Looks whether there is room for the post wherever it has to be kept.
    fn find_room(
        &self,
        post: &Post,
        deliveries: &[(&Subscriber, Delivery)],
    ) -> Result<(), Obstacle> {
        // What supersedes takes no room for long and is never refused: one reader's full mailbox must not keep somebody
        // from changing their keys.
        if post.message.supersedes {
            return Ok(());
        }
        let kept = deliveries.iter().filter(|delivery| is_kept(delivery));
        let mut kept = kept.map(|(subscriber, _)| *subscriber).collect::<Vec<_>>();
        if !kept.is_empty() && self.journal.is_full() {
            return Err(Obstacle::Refusal(Outcome::QuotaExceeded(Quota::Disk)));
        }
        let account = |subscriber: &Subscriber| Arc::as_ptr(subscriber.mailbox().account());
        kept.sort_by_key(|subscriber| account(subscriber));
        let is_mail = Topic::parse(post.message.topic.as_str()).is_ok();
        let (mut taken, mut full) = (0, Vec::new());
        for of_owner in kept.chunk_by(|one, other| account(one) == account(other)) {
            let Some(first) = of_owner.first() else {
                continue;
            };
            let owner = first.mailbox().account();
            let bytes = post.message.size() * of_owner.len();
            // Shares are for mail; who publishes to a topic that many read is the topic's publisher, and no stranger.
            let sender = self.sender(post, first).filter(|_| is_mail);
            match owner.room(of_owner.len(), bytes, sender, &mut taken) {
                Ok(()) => {}
                Err(Quota::Mailbox | Quota::Archive) if self.parts_with(owner, is_mail) => {
                    let large = of_owner.iter().filter(|one| one.mailbox().is_large());
                    let before = full.len();
                    full.extend(large.copied().cloned());
                    if full.len() == before && owner.is_overdrawn() {
                        full.extend(of_owner.iter().copied().cloned());
                    }
                }
                Err(quota) => return Err(Obstacle::Refusal(Outcome::QuotaExceeded(quota))),
            }
        }
        if full.is_empty() {
            Ok(())
        } else {
            Err(Obstacle::Sessions(full))
        }
    }

    /// Whether an owner's full sessions are ended, and nothing is refused for them. A user's own mailbox refuses mail.
    fn parts_with(&self, owner: &Account, is_mail: bool) -> bool {
        if owner.share().archive {
            self.bounds.part_with_archivers
        } else {
            !is_mail
        }
    }

    /// Whose share of a subscriber's mailbox a post takes.
    fn sender<'a>(&self, post: &'a Post, subscriber: &Subscriber) -> Option<Sender<'a>> {
        let name = post.message.sender.as_deref()?;
        if subscriber.mailbox().share().archive {
            return Some(Sender { name, known: true });
        }
        let Subscriber::Session(session) = subscriber else {
            return None;
        };
        let owner = session.user()?;
        let known = **owner == *name || self.correspondents.has_answered(owner, name);
        Some(Sender { name, known })
    }

    /// Tells what the broker says of itself: at QoS 0 to whoever subscribed, and retained for those who come later. It
    /// has no place in the one order, and none in the journal.
    pub fn announce(&self, message: &Arc<Message>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let post = Post {
            message: Arc::clone(message),
            qos: QoS::AtMostOnce,
            pkid: 0,
            retain: true,
            origin: None,
            receipt: None,
        };
        for (subscriber, delivery) in topics.deliveries(&post) {
            subscriber.mailbox().push(delivery, None, None);
        }
        topics.retain(message, QoS::AtMostOnce);
    }

    /// Puts a retained message in place without delivering it: what a restart brings back.
    pub fn restore(&self, message: &Arc<Message>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.retain(message, QoS::AtLeastOnce);
    }
}

/// Why a post cannot be delivered as it is.
enum Obstacle {
    /// It is refused.
    Refusal(Outcome),
    /// These are full, and must not hold the others up.
    Sessions(Vec<Subscriber>),
}

/// Whether it has to be kept.
fn is_kept((subscriber, delivery): &(&Subscriber, Delivery)) -> bool {
    delivery.qos != QoS::AtMostOnce && subscriber.mailbox().is_kept()
}

/// The session whose client sends the message again until it knows that it is taken, and must not be taken twice.
fn exactly_once(post: &Post) -> Option<&Arc<Session>> {
    let origin = post.origin.as_ref();
    origin.filter(|_| post.qos == QoS::ExactlyOnce && post.pkid != 0)
}
