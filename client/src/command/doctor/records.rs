//! What is in the store: messages that do not get on, contacts that wait for a decision.

use std::time::Duration;

use super::Doctor;
use crate::contact::offered_identity;
use crate::event::{Check, date};
use crate::exit::Failure;
use crate::store::{SendState, Store};

/// How many messages are looked at, the oldest.
const LOOKED_AT: u32 = 100_000;
/// A message that has waited so long for the broker is worth a word.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

impl Doctor {
    /// The outbox.
    pub(super) fn outbox(&mut self, store: &Store) -> Result<(), Failure> {
        let entries = match store.unfinished(LOOKED_AT) {
            Ok(entries) => entries,
            Err(error) => return self.failed(Check::Outbox, &error.into()),
        };
        let count = |state| entries.iter().filter(|entry| entry.state == state).count();
        let (queued, sent, failed) = (
            count(SendState::Queued),
            count(SendState::Sent),
            count(SendState::Failed),
        );
        if failed > 0 {
            let why = entries
                .iter()
                .filter(|entry| entry.state == SendState::Failed)
                .find_map(|entry| entry.problem.as_ref())
                .map_or_else(String::new, |problem| format!(": {}", problem.message));
            self.problem(
                Check::Outbox,
                format!("{failed} messages were given up{why}"),
                "See sealpost outbox, then sealpost outbox retry ID or drop ID.",
            )?;
        }
        let stuck = entries
            .iter()
            .find(|entry| entry.state == SendState::Queued && entry.problem.is_some());
        if let Some((entry, problem)) =
            stuck.and_then(|entry| Some((entry, entry.problem.as_ref()?)))
        {
            let message = format!(
                "a message to {} of {} does not get on: {}",
                entry.to,
                date(entry.written),
                problem.message
            );
            self.problem(Check::Outbox, message, &problem.hint)?;
        }
        let oldest = entries
            .iter()
            .find(|entry| entry.state == SendState::Queued)
            .map(|entry| entry.written);
        if let Some(oldest) = oldest.filter(|oldest| self.now.saturating_since(*oldest) > LONG) {
            self.problem(
                Check::Outbox,
                format!(
                    "{queued} messages wait for the broker, the oldest since {}",
                    date(oldest)
                ),
                "They go with whatever connects: sealpost listen --timeout 30s",
            )?;
        } else {
            self.good(
                Check::Outbox,
                format!("{queued} messages queued, {sent} sent and not known to have arrived"),
            )?;
        }
        Ok(())
    }

    /// The contacts.
    pub(super) fn contacts(&mut self, store: &Store) -> Result<(), Failure> {
        let contacts = match store.contacts() {
            Ok(contacts) => contacts,
            Err(error) => return self.failed(Check::Contacts, &error.into()),
        };
        for contact in &contacts {
            let user = &contact.user;
            if let Some(offered) = offered_identity(contact) {
                self.problem(
                    Check::Contacts,
                    format!(
                        "the identity of {user} has changed to {}: nothing goes to {user} until you decide",
                        offered.fingerprint()
                    ),
                    &format!("Ask {user} in some other way, then: sealpost contacts trust {user}"),
                )?;
            }
            if contact.is_suspended() {
                self.problem(
                    Check::Contacts,
                    format!(
                        "nothing of {user} is opened any more: too much of theirs did not decrypt"
                    ),
                    &format!("Talk to {user}, then: sealpost contacts trust {user}"),
                )?;
            }
        }
        let verified = contacts.iter().filter(|contact| contact.pin.verified);
        let message = format!("{} contacts, {} verified", contacts.len(), verified.count());
        self.good(Check::Contacts, message)
    }
}
