//! Sending: sealing a message to a believed bundle.

use sealpost_core::{Content, Envelope, KeyBundle, MessageId, SealError, Sealer, Timestamp};

use crate::account::Account;

/// Seals one message.
pub fn seal(
    account: &Account,
    to: &KeyBundle,
    prev: Option<MessageId>,
    content: &Content,
    now: Timestamp,
) -> Result<Envelope, SealError> {
    let mut rng = rand::rng();
    let id = MessageId::new(now, &mut rng);
    Sealer::new(account.identity(), account.user(), to)?.seal(&mut rng, now, id, prev, content)
}
