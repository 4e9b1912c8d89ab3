//! What is delivered: our own bundle, those of others, and mail.

use sealpost_core::{BundleRefused, Content, Envelope, Topic, UserId};
use tokio::time::Instant;

use super::wanted::Mail;
use super::{Happening, Own, PATIENCE, Session, UNSHOWN_BATCH};
use crate::contact::Disbelieved;
use crate::exit::Failure;
use crate::incoming::{self, Cause, Message, Received, Refused};
use crate::mqtt::{Delivery, MqttEvent};
use crate::own_bundle::{self, OwnBundle};
use crate::settings::{Receipts, Strangers};
use crate::{clock, contact};

/// How many envelopes are written to the disk together: as many as the broker may have with us unacknowledged, and so few
/// that others who want to write wait for a moment only.
const MAX_GROUP: usize = 64;

impl Session {
    pub(super) fn delivered(&mut self, delivery: Delivery) -> Result<Happening, Failure> {
        let Delivery {
            topic,
            payload,
            duplicate,
            receipt,
        } = delivery;
        match Topic::parse(&topic) {
            Ok(Topic::Keys(user)) if user == *self.account.user() => {
                self.own_bundle(&payload)?;
                self.mqtt.acknowledge(receipt);
                Ok(Happening::Other)
            }
            // Nobody else's: a broker could have us pin whomever it likes, without end.
            Ok(Topic::Keys(user)) if self.is_wanted(&user)? => {
                self.bundle(&user, &payload)?;
                self.mqtt.acknowledge(receipt);
                if self.keys.contains_key(&user) {
                    self.keys_came(&user)?;
                }
                Ok(Happening::Keys(user))
            }
            Ok(Topic::Inbox(user)) if user == *self.account.user() => {
                let mail = Mail {
                    payload,
                    duplicate,
                    receipt,
                };
                let mails = self.with_what_follows(mail);
                Ok(if self.mail(mails)? {
                    Happening::Shown
                } else {
                    Happening::Other
                })
            }
            _ => {
                tracing::warn!("the broker delivered something that was not asked for");
                self.mqtt.acknowledge(receipt);
                Ok(Happening::Other)
            }
        }
    }

    /// An envelope, and those that came right behind it: they are written to the disk together.
    fn with_what_follows(&mut self, first: Mail) -> Vec<Mail> {
        let inbox = Topic::Inbox(self.account.user().clone()).to_string();
        let mut mails = vec![first];
        while mails.len() < MAX_GROUP {
            let next = self.backlog.pop_front();
            match next.or_else(|| self.events.try_recv().ok()) {
                Some(MqttEvent::Delivery(delivery)) if delivery.topic == inbox => {
                    let Delivery {
                        payload,
                        duplicate,
                        receipt,
                        ..
                    } = *delivery;
                    mails.push(Mail {
                        payload,
                        duplicate,
                        receipt,
                    });
                }
                Some(other) => {
                    self.backlog.push_front(other);
                    break;
                }
                None => break,
            }
        }
        mails
    }

    /// Receives envelopes; says whether a message was shown.
    pub(super) fn mail(&mut self, mails: Vec<Mail>) -> Result<bool, Failure> {
        let mails = self.without_strangers(mails)?;
        let received = incoming::receive_all(
            &mut self.store,
            &mut self.account,
            &mut self.cache,
            mails.iter().map(|mail| (&*mail.payload, mail.duplicate)),
            clock::now(),
        )?;
        // The senders' keys are asked for before an acknowledgement brings more of their mail.
        let mut outcomes = Vec::with_capacity(mails.len());
        for (mail, received) in mails.into_iter().zip(received) {
            match &received {
                Received::Waiting { from, .. } => self.want_keys_of_sender(from)?,
                Received::Refused(Refused {
                    from: Some(from),
                    cause: Cause::TooManyWaiting,
                    ..
                }) => {
                    self.want_keys_of_sender(from)?;
                    if self.wanted.has_patience(from) {
                        self.wanted.postpone(from.clone(), mail);
                        continue;
                    }
                }
                _ => {}
            }
            // They are on disk, or refused for good: only now may the broker forget them.
            self.mqtt.acknowledge(mail.receipt);
            outcomes.push(received);
        }
        let mut shown = false;
        for received in outcomes {
            shown |= self.received(received)?;
        }
        self.files_stirred()?;
        Ok(shown)
    }

    /// Drops mail of who is no contact, where nobody is there to meet strangers.
    fn without_strangers(&mut self, mails: Vec<Mail>) -> Result<Vec<Mail>, Failure> {
        if self.manner.strangers != Strangers::Refuse {
            return Ok(mails);
        }
        let mut of_contacts = Vec::with_capacity(mails.len());
        for mail in mails {
            match Envelope::parse(&mail.payload) {
                Ok(envelope) if self.store.contact(envelope.from())?.is_none() => {
                    tracing::info!(from = %envelope.from(), "mail of a stranger is dropped");
                    self.store.note_stranger_dropped()?;
                    self.mqtt.acknowledge(mail.receipt);
                }
                // What is no envelope is refused with the others.
                _ => of_contacts.push(mail),
            }
        }
        Ok(of_contacts)
    }

    /// Deals with what became of an envelope; says whether a message was shown.
    fn received(&mut self, received: Received) -> Result<bool, Failure> {
        match received {
            Received::Message(message) => {
                self.filing.stirred |= matches!(&message.content, Content::Other { .. });
                self.carrying.gather();
                self.show(&message)?;
                return Ok(true);
            }
            Received::File(news) => self.file_news(news)?,
            // Perhaps a copy, which is receipted again.
            Received::Nothing => self.carrying.gather(),
            Received::Asks(from) => self.say_request(&from)?,
            Received::Receipted(further) => {
                self.carrying.progress.extend(further);
                // What they overtook is due earlier now.
                self.carry()?;
            }
            Received::Waiting {
                from,
                id,
                reason,
                fresh,
            } => {
                if fresh {
                    let due = Instant::now() + PATIENCE;
                    self.unsaid.push_back((due, from, id, reason));
                }
            }
            Received::Refused(refused) => {
                self.printer.print(&incoming::refused_event(&refused))?;
                if let Some(alarm) = incoming::many_failures_event(&self.account, &refused) {
                    self.printer.print(&alarm)?;
                }
            }
        }
        Ok(false)
    }

    /// Says that a stranger waits to be let in: once.
    fn say_request(&mut self, from: &UserId) -> Result<(), Failure> {
        let Some(contact) = self.store.contact(from)? else {
            return Ok(());
        };
        self.alarm_once(from, contact::request_event(&contact))
    }

    /// Says of those who have asked before.
    fn say_requests(&mut self) -> Result<(), Failure> {
        for (from, _) in self.store.requests()? {
            self.say_request(&from)?;
        }
        Ok(())
    }

    /// Prints a message and remembers that it was. In this order: a crash in between shows it twice rather than never.
    fn show(&mut self, message: &Message) -> Result<(), Failure> {
        self.unsaid.retain(|(_, _, id, _)| *id != message.id);
        if self.shown >= self.manner.limit || self.passes_over(&message.from)? {
            return Ok(());
        }
        if let Some(gap) = incoming::gap_event(&self.store, message)? {
            self.printer.print(&gap)?;
        }
        self.printer
            .print(&incoming::event(&self.store, message)?)?;
        let receipt = self.manner.receipts == Receipts::Read;
        self.store
            .mark_printed(&message.from, &message.id, receipt)?;
        if receipt {
            self.carrying.gather();
        }
        self.shown += 1;
        Ok(())
    }

    /// What is to be seen to at the beginning.
    pub(super) fn show_unshown(&mut self) -> Result<(), Failure> {
        self.store
            .let_strangers_ask(self.manner.strangers == Strangers::Request);
        self.store.expire(clock::now())?;
        self.carrying.tend = Some(Instant::now() + self.manner.glance);
        self.show_all_unshown()?;
        self.say_requests()
    }

    pub(super) fn show_all_unshown(&mut self) -> Result<(), Failure> {
        let mut after = 0;
        while self.shown < self.manner.limit {
            let messages = incoming::unshown_after(&self.store, after, UNSHOWN_BATCH)?;
            let Some((last, _)) = messages.last() else {
                break;
            };
            after = *last;
            for (_, message) in messages {
                self.show(&message)?;
            }
        }
        Ok(())
    }

    /// Whether messages of somebody are left for another command.
    fn passes_over(&self, from: &UserId) -> Result<bool, Failure> {
        Ok(self.manner.passes_over_muted && self.store.conversation(from)?.is_muted(clock::now()))
    }

    fn bundle(&mut self, user: &UserId, payload: &[u8]) -> Result<(), Failure> {
        // Nothing there and nothing known: not an answer yet.
        if payload.is_empty() && !self.has_published(user)? {
            return Ok(());
        }
        let realm = self.account.realm().clone();
        let outcome = contact::consider(&mut self.store, &realm, user, payload, clock::now())?;
        match &outcome {
            Ok(believed) => {
                if let Some(event) = contact::believed_event(user, believed) {
                    self.printer.print(&event)?;
                }
            }
            Err(why) => self.alarm_once(user, contact::disbelieved_event(user, why))?,
        }
        let believed = outcome.is_ok();
        let outcome = match outcome {
            // Who brings back the past changes nothing.
            Err(
                past @ (Disbelieved::Removed
                | Disbelieved::Retired { .. }
                | Disbelieved::Refused(BundleRefused::RolledBack { .. })),
            ) => contact::believed_before(&self.store, user, clock::now())?.unwrap_or(Err(past)),
            other => other,
        };
        self.keys.insert(user.clone(), outcome);
        if believed {
            self.retry(user)?;
        }
        self.take_postponed(user)
    }

    /// The keys that were asked for did not come. Those that were seen before do not go away by themselves: an alarm, and
    /// what is known is kept to.
    pub fn no_keys_came(&mut self, user: &UserId) -> Result<(), Failure> {
        self.bundle(user, b"")
    }

    /// Whether somebody's keys were ever seen: those do not go away by themselves.
    fn has_published(&self, user: &UserId) -> Result<bool, Failure> {
        let contact = self.store.contact(user)?;
        Ok(contact.is_some_and(|contact| contact.has_published()))
    }

    pub(super) fn retry(&mut self, user: &UserId) -> Result<(), Failure> {
        let outcomes = incoming::retry(
            &mut self.store,
            &mut self.account,
            &mut self.cache,
            user,
            clock::now(),
        )?;
        for outcome in outcomes {
            self.received(outcome)?;
        }
        self.files_stirred()
    }

    fn own_bundle(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let mut look = own_bundle::look(&self.account, payload);
        if look != OwnBundle::Current {
            // Another process may have made it.
            self.account.reload()?;
            self.cache.clear();
            look = own_bundle::look(&self.account, payload);
        }
        match look {
            OwnBundle::Current => self.settled()?,
            OwnBundle::Publish => self.publish_own(),
            OwnBundle::Foreign(foreign) => {
                let user = self.account.user().clone();
                self.alarm_once(&user, own_bundle::alarm(&self.account, &foreign))?;
                self.own = Own::Settled;
            }
        }
        Ok(())
    }
}
