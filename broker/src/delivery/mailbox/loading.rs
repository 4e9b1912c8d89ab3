//! What comes back from disk: a mailbox at the broker's start, and the next entries of one that is behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::{Account, Delivery, Entry, Held, Mailbox, State, Totals};
use crate::journal::record::MailboxId;
use crate::journal::recovery::RecoveredMailbox;
use crate::journal::{Journal, Kept};

/// Messages loaded from disk at once, and bytes at which that ends.
const LOAD_MESSAGES: usize = 256;
const LOAD_BYTES: usize = 1024 * 1024;

impl Mailbox {
    /// A kept mailbox as it was left. `sent`: the highest sequence number that was sent, or none where nobody knows.
    #[must_use]
    pub fn recovered(
        kept: (Journal, MailboxId),
        account: Arc<Account>,
        totals: Arc<Totals>,
        mut recovered: RecoveredMailbox,
        sent: Option<u64>,
    ) -> Mailbox {
        let last = recovered.last.unwrap_or(0);
        let state = State {
            next_seq: last.max(sent.unwrap_or(0)) + 1,
            behind: recovered.first,
            last_behind: last,
            sent: sent.unwrap_or(last),
            messages: recovered.messages,
            bytes: recovered.bytes,
            charged: Held::recovered(&mut recovered),
            ..State::default()
        };
        account.charge_all(&state.charged);
        totals.kept_bytes.fetch_add(state.bytes, Ordering::Relaxed);
        let mailbox = Mailbox {
            kept: Some(kept),
            account,
            totals,
            state: Mutex::new(state),
        };
        let mut state = mailbox.lock();
        for Kept { seq, note, message } in recovered.newest {
            let again = seq <= state.sent;
            let size = message.size();
            state.messages += 1;
            state.bytes += size;
            mailbox.totals.kept_bytes.fetch_add(size, Ordering::Relaxed);
            let old = state.supersede(Entry {
                seq,
                delivery: Delivery {
                    qos: note.qos(),
                    retain: note.retain,
                    subscription_ids: note.subscription_ids,
                    message,
                },
                again,
                released: note.released,
                after: None,
                hold: None,
            });
            // It was in flight when the process ended.
            if let Some(old) = old {
                state.done(&mailbox, &old);
            }
        }
        state.waiting = (state.messages > 0).then(|| (state.next_seq - 1, Instant::now()));
        drop(state);
        mailbox
    }

    /// Loads the next entries from disk. Ends the journal when they cannot be read.
    pub async fn load(&self) {
        let Some((journal, id)) = &self.kept else {
            return;
        };
        let (from, last, group) = {
            let mut state = self.lock();
            let Some(from) = state.behind.filter(|_| !state.loading) else {
                return;
            };
            state.loading = true;
            (from, state.last_behind, state.group)
        };
        // The connection that this is done for may end before it is done.
        let loading = Loading(self);
        // What is recorded and not yet written cannot be read.
        journal.reached(group).await;
        let loaded = journal.load(*id, from, LOAD_MESSAGES, LOAD_BYTES).await;
        let mut state = self.lock();
        let loaded = match loaded {
            // Since then, somebody came or left: they begin again.
            _ if state.behind != Some(from) => {
                drop(state);
                drop(loading);
                return;
            }
            Ok(loaded) => loaded,
            Err(error) => {
                drop(state);
                journal.fail(error);
                return;
            }
        };
        for Kept { seq, note, message } in loaded.entries {
            state.queue_bytes += message.size();
            let again = seq <= state.sent;
            state.queue.push_back(Entry {
                seq,
                again,
                released: note.released,
                after: None,
                hold: None,
                delivery: Delivery {
                    qos: note.qos(),
                    retain: note.retain,
                    subscription_ids: note.subscription_ids,
                    message,
                },
            });
        }
        // All that was on disk alone when the reading began has been read, and nothing has come since.
        let caught_up = (loaded.exhausted || loaded.next > last) && state.last_behind == last;
        state.behind = (!caught_up).then_some(loaded.next);
        drop(state);
        drop(loading);
    }
}

/// A load from disk; its end, however it comes, lets the next one begin.
struct Loading<'a>(&'a Mailbox);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.loading = false;
        state.wake_all();
    }
}
