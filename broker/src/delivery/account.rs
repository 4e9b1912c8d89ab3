//! Accounts: what an owner is kept in all sessions together, and what all owners may be kept.
//!
//! A mailbox belongs to an account. What it has to keep is charged there, and comes off again when it is delivered. Key
//! bundles, which replace each other, and messages of QoS 0, which are never on disk, are not charged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttd::protocol::QoS;

use crate::delivery::mailbox::Delivery;
use crate::journal::recovery::RecoveredMailbox;
use crate::protocol::message::Message;
use crate::protocol::outcome::Quota;

/// What an owner's sessions may hold together, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Whether they are an archiver's, who keeps mail but is never whom it is for.
    pub archive: bool,
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Message::size`] counts them.
    pub bytes: usize,
    /// Percent of it that one sender may fill to whom the owner has written.
    pub sender: usize,
    /// Percent of it that one sender may fill to whom the owner never wrote.
    pub stranger: usize,
    /// Into how many even parts it is divided where it matters which of the sessions fills it.
    pub parts: usize,
}

/// Who wants to put something into a mailbox.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The user's name.
    pub name: &'a str,
    /// Whether the mailbox's owner has written to them.
    pub known: bool,
}

/// What is held.
#[derive(Debug, Default)]
pub struct Held {
    messages: usize,
    bytes: usize,
    /// Of these, messages and bytes of each sender.
    senders: HashMap<Arc<str>, (usize, usize)>,
}

impl Held {
    fn add(&mut self, message: &Message) {
        let size = message.size();
        self.messages += 1;
        self.bytes += size;
        if let Some(sender) = &message.sender {
            let (messages, bytes) = self.senders.entry(Arc::clone(sender)).or_default();
            *messages += 1;
            *bytes += size;
        }
    }

    fn subtract(&mut self, message: &Message) {
        let size = message.size();
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        if let Some(sender) = &message.sender {
            self.subtract_of(sender, 1, size);
        }
    }

    fn subtract_of(&mut self, sender: &Arc<str>, fewer: usize, less: usize) {
        if let Some((messages, bytes)) = self.senders.get_mut(sender) {
            *messages = messages.saturating_sub(fewer);
            *bytes = bytes.saturating_sub(less);
            if *messages == 0 {
                self.senders.remove(sender);
            }
        }
    }

    /// What a mailbox holds that comes back from disk.
    #[must_use]
    pub fn recovered(mailbox: &mut RecoveredMailbox) -> Held {
        let senders = std::mem::take(&mut mailbox.senders).into_iter();
        Held {
            messages: mailbox.messages,
            bytes: mailbox.bytes,
            senders: senders.map(|(name, held)| (name.into(), held)).collect(),
        }
    }
}

/// What all users' mail is taken from.
///
/// Half of it is the owners' own, in even parts: an owner who holds less than that **floor** always has room, whatever
/// the others hold. The rest is common, and of it nobody takes more than they leave: so it never runs out at once, and those who
/// hold much are the first to be refused.
#[derive(Debug)]
pub struct Pool {
    total: usize,
    floor: usize,
    common: usize,
    held: AtomicUsize,
    /// What owners hold above their floors.
    above: AtomicUsize,
}

impl Pool {
    /// `total` bytes, for so many owners at most.
    #[must_use]
    pub fn new(total: usize, owners: usize) -> Pool {
        Pool {
            total,
            floor: total / 2 / owners.max(1),
            common: total - total / 2,
            held: AtomicUsize::new(0),
            above: AtomicUsize::new(0),
        }
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn above(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.floor)
    }

    fn change(&self, before: usize, after: usize) {
        let change = |counter: &AtomicUsize, before: usize, after: usize| {
            if after >= before {
                counter.fetch_add(after - before, Ordering::Relaxed);
            } else {
                counter.fetch_sub(before - after, Ordering::Relaxed);
            }
        };
        change(&self.held, before, after);
        change(&self.above, self.above(before), self.above(after));
    }
}

/// What one owner is kept. An open broker knows no owners; there each session has its own.
#[derive(Debug)]
pub struct Account {
    share: Share,
    /// None for an archiver's: its share is its own, for the operator has let it in.
    pool: Option<Arc<Pool>>,
    held: Mutex<Held>,
}

impl Account {
    /// An account that holds nothing yet.
    #[must_use]
    pub fn new(share: Share, pool: &Arc<Pool>) -> Account {
        Account {
            share,
            pool: (!share.archive).then(|| Arc::clone(pool)),
            held: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it may hold.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// Messages and bytes that it holds.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let held = self.lock();
        (held.messages, held.bytes)
    }

    /// Whether there is room for so many more messages with so many bytes in all, and for its sender's share of them.
    /// `taken`: what others take of what is common at the same time; what this one takes is added.
    ///
    /// # Errors
    /// The bound that keeps them out; of several the one that is the sender's.
    pub fn room(
        &self,
        messages: usize,
        bytes: usize,
        sender: Option<Sender<'_>>,
        taken: &mut usize,
    ) -> Result<(), Quota> {
        let held = self.lock();
        if let Some(Sender { name, known }) = sender {
            let percent = if known {
                self.share.sender
            } else {
                self.share.stranger
            };
            let (of_messages, of_bytes) = held.senders.get(name).copied().unwrap_or_default();
            // The first always fits a share, however small; and who may fill it all is not the one at fault when it is full.
            let fits = of_messages == 0
                || percent >= 100
                || (of_messages + messages <= self.share.messages.saturating_mul(percent) / 100
                    && of_bytes + bytes <= self.share.bytes.saturating_mul(percent) / 100);
            if !fits {
                return Err(match known {
                    _ if self.share.archive => Quota::ArchiveShare,
                    true => Quota::Share,
                    false => Quota::StrangersShare,
                });
            }
        }
        if held.messages + messages > self.share.messages || held.bytes + bytes > self.share.bytes {
            return Err(if self.share.archive {
                Quota::Archive
            } else {
                Quota::Mailbox
            });
        }
        let Some(pool) = &self.pool else {
            return Ok(());
        };
        let above = pool.above(held.bytes + bytes);
        let more = above - pool.above(held.bytes);
        let left = (pool.common + pool.above(held.bytes))
            .saturating_sub(pool.above.load(Ordering::Relaxed) + *taken + above);
        // An open broker has more sessions than owners were reckoned with, so the total is asked as well.
        if (above > 0 && above > left) || pool.held() + bytes > pool.total {
            return Err(Quota::AllMailboxes);
        }
        *taken += more;
        Ok(())
    }

    /// Whether it holds so much more than it may that nothing is let through any more, whichever session it is for.
    #[must_use]
    pub fn is_overdrawn(&self) -> bool {
        let held = self.lock();
        held.messages >= self.share.messages.saturating_mul(2)
            || held.bytes >= self.share.bytes.saturating_mul(2)
    }

    /// Whether what is held here is at least an even part of what its owner may hold.
    #[must_use]
    pub fn is_large(&self, held: &Held) -> bool {
        let parts = self.share.parts.max(1);
        held.messages >= self.share.messages / parts || held.bytes >= self.share.bytes / parts
    }

    /// Charges a delivery to the mailbox that it is in, and to the owner.
    pub fn charge(&self, mailbox: &mut Held, delivery: &Delivery) {
        if is_charged(delivery) {
            mailbox.add(&delivery.message);
            self.change(|held| held.add(&delivery.message));
        }
    }

    /// Takes a delivery off again.
    pub fn discharge(&self, mailbox: &mut Held, delivery: &Delivery) {
        if is_charged(delivery) {
            mailbox.subtract(&delivery.message);
            self.change(|held| held.subtract(&delivery.message));
        }
    }

    /// Charges what a mailbox holds that comes back from disk.
    pub fn charge_all(&self, mailbox: &Held) {
        self.change(|held| {
            held.messages += mailbox.messages;
            held.bytes += mailbox.bytes;
            for (sender, (messages, bytes)) in &mailbox.senders {
                let of_sender = held.senders.entry(Arc::clone(sender)).or_default();
                of_sender.0 += messages;
                of_sender.1 += bytes;
            }
        });
    }

    /// Takes off all that a mailbox holds, which has ended.
    pub fn discharge_all(&self, mailbox: &Held) {
        self.change(|held| {
            held.messages = held.messages.saturating_sub(mailbox.messages);
            held.bytes = held.bytes.saturating_sub(mailbox.bytes);
            for (sender, (messages, bytes)) in &mailbox.senders {
                held.subtract_of(sender, *messages, *bytes);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        let mut held = self.lock();
        let before = held.bytes;
        change(&mut held);
        if let Some(pool) = &self.pool {
            pool.change(before, held.bytes);
        }
    }
}

fn is_charged(delivery: &Delivery) -> bool {
    delivery.qos != QoS::AtMostOnce && !delivery.message.supersedes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::bench::SHARE;
    use crate::protocol::topic_name::TopicName;

    const OWNERS: usize = 1_000;
    const TOTAL: usize = 64 << 20;

    fn delivery(bytes: usize) -> Delivery {
        let message = Message {
            number: 1,
            topic: TopicName::parse(b"t").unwrap(),
            payload: vec![0; bytes].into(),
            properties: None,
            expires: None,
            sender: None,
            supersedes: false,
        };
        Delivery {
            message: Arc::new(message),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: Vec::new(),
        }
    }

    /// Adds to the account for as long as it has room. Returns the bytes that it took.
    fn fill(account: &Account, delivery: &Delivery) -> usize {
        let (mut mailbox, size) = (Held::default(), delivery.message.size());
        while account.room(1, size, None, &mut 0).is_ok() {
            account.charge(&mut mailbox, delivery);
        }
        mailbox.bytes
    }

    /// All but one of the users there can be are of one mind.
    #[test]
    fn however_many_users_collude_the_last_has_its_part_of_the_total() {
        let pool = Arc::new(Pool::new(TOTAL, OWNERS));
        let mut accounts = Vec::new();
        for _ in 1..OWNERS {
            let account = Account::new(SHARE, &pool);
            fill(&account, &delivery(10_000));
            fill(&account, &delivery(0));
            accounts.push(account);
        }
        // They come back for whatever there is.
        for account in &accounts {
            fill(account, &delivery(0));
        }
        let bob = Account::new(SHARE, &pool);
        let floor = TOTAL / 2 / OWNERS;
        let size = delivery(0).message.size();
        assert!(fill(&bob, &delivery(0)) > floor - size);
        assert!(pool.held() <= TOTAL);
    }

    #[test]
    fn a_few_who_take_all_they_can_leave_as_much_to_each_other_as_to_the_next() {
        let pool = Arc::new(Pool::new(TOTAL, OWNERS));
        let first = Account::new(SHARE, &pool);
        let taken = fill(&first, &delivery(10_000));
        assert!(
            taken > TOTAL / 5 && taken <= TOTAL / 4 + TOTAL / 2 / OWNERS,
            "{taken}"
        );
        let second = Account::new(SHARE, &pool);
        assert!(fill(&second, &delivery(10_000)) > TOTAL / 10);
    }

    #[test]
    fn what_comes_off_is_there_for_others() {
        let pool = Arc::new(Pool::new(TOTAL, OWNERS));
        let account = Account::new(SHARE, &pool);
        let mut mailbox = Held::default();
        for _ in 0..100 {
            account.charge(&mut mailbox, &delivery(10_000));
        }
        account.discharge(&mut mailbox, &delivery(10_000));
        assert_eq!(account.held().0, 99);
        account.discharge_all(&mailbox);
        assert_eq!((account.held(), pool.held()), ((0, 0), 0));
        assert_eq!(pool.above.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bundles_and_messages_of_qos_0_are_not_charged() {
        let pool = Arc::new(Pool::new(TOTAL, OWNERS));
        let (account, mut mailbox) = (Account::new(SHARE, &pool), Held::default());
        let mut bundle = delivery(10);
        Arc::get_mut(&mut bundle.message).unwrap().supersedes = true;
        let fleeting = Delivery {
            qos: QoS::AtMostOnce,
            ..delivery(10)
        };
        for delivery in [bundle, fleeting] {
            account.charge(&mut mailbox, &delivery);
        }
        assert_eq!((account.held(), mailbox.messages), ((0, 0), 0));
    }

    #[test]
    fn an_archivers_queue_takes_nothing_from_users() {
        let pool = Arc::new(Pool::new(1_000, OWNERS));
        let share = Share {
            archive: true,
            ..SHARE
        };
        let account = Account::new(share, &pool);
        account.charge(&mut Held::default(), &delivery(10_000));
        assert_eq!(pool.held(), 0);
        assert_eq!(account.room(1, 10_000, None, &mut 0), Ok(()));
    }
}
