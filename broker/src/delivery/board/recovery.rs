//! What the board takes over from the journal when the broker starts.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sealpost_core::Timestamp;

use super::{Board, Group, Member, for_group};
use crate::delivery::account::{Account, Share};
use crate::delivery::mailbox::Mailbox;
use crate::delivery::session::{Session, SessionKey};
use crate::delivery::topics::Subscriber;
use crate::journal::Change;
use crate::journal::record::MailboxId;
use crate::journal::recovery::{Recovered, RecoveredMailbox, RecoveredSession};

impl Board {
    /// Takes over what the journal has kept. `share`: what sessions of an owner may hold. Call it once, before anything else.
    pub fn recover(&self, recovered: Recovered, share: impl Fn(&str) -> Share, now: Timestamp) {
        let Recovered {
            sessions,
            mut groups,
            retained,
            answered,
        } = recovered;
        for (user, other) in answered {
            self.correspondents.answer(&user, &other);
        }
        let mut members = self.members();
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for (message, qos) in retained {
            topics.retain(&message, qos);
        }
        for recovered in sessions {
            let owner = &recovered.record.owner;
            let account = self.account(&mut members, owner, share(owner));
            let RecoveredSession {
                id: session_id,
                record,
                subscriptions,
                received,
                mailbox,
            } = recovered;
            // Connected until the end, so nobody noted how much it had been sent: all of it, perhaps.
            let sent = record.detached.map(|_| record.sent);
            let mailbox = self.recovered_mailbox(session_id, &account, mailbox, sent);
            let expiry = Duration::from_secs(record.expiry.into());
            let detached = record
                .detached
                .and_then(|at| Timestamp::from_millis(at).ok());
            let away = detached.map_or(Duration::ZERO, |at| now.saturating_since(at));
            let key = SessionKey {
                owner: record.owner,
                client_id: record.client_id,
            };
            let session = Arc::new(Session::recovered(
                key.clone(),
                mailbox,
                self.journal.clone(),
                expiry,
                expiry.saturating_sub(away),
                &received,
            ));
            let mut filters = Vec::with_capacity(subscriptions.len());
            for (filter, subscription, group) in subscriptions {
                filters.push(filter.clone());
                match (group, filter.shared()) {
                    (Some(id), Ok(Some((_, inner)))) => {
                        let group = members.groups.entry(filter.clone()).or_insert_with(|| {
                            let mailbox = groups.remove(&id).unwrap_or_default();
                            let mailbox = self.recovered_mailbox(id, &account, mailbox, Some(0));
                            topics.subscribe(
                                &inner,
                                Subscriber::Group(Arc::clone(&mailbox)),
                                for_group(),
                            );
                            Group {
                                mailbox,
                                members: 0,
                            }
                        });
                        if group.mailbox.id() != Some(id) {
                            // A loss of power kept this, and not the end of the group before.
                            let group = group.mailbox.id();
                            self.journal.record(Change::Subscribe(
                                session_id,
                                filter.clone(),
                                subscription.clone(),
                                group,
                            ));
                        }
                        group.members += 1;
                        session.join_group(&filter, &group.mailbox, subscription);
                    }
                    _ => topics.subscribe(
                        &filter,
                        Subscriber::Session(Arc::clone(&session)),
                        subscription,
                    ),
                }
            }
            members.sessions.insert(key, Member { session, filters });
        }
        for id in groups.into_keys() {
            self.journal.record(Change::End(id));
        }
    }

    fn recovered_mailbox(
        &self,
        id: MailboxId,
        account: &Arc<Account>,
        mailbox: RecoveredMailbox,
        sent: Option<u64>,
    ) -> Arc<Mailbox> {
        let kept = (self.journal.clone(), id);
        let totals = Arc::clone(&self.totals);
        let account = Arc::clone(account);
        Arc::new(Mailbox::recovered(kept, account, totals, mailbox, sent))
    }
}
