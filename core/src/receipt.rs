//! Receipts: what a recipient tells a sender about messages that arrived.
//!
//! A receipt is the content of a sealed message like any other, so only the recipient can have made it and only the
//! sender reads it. It names each message by its id and by the digest of the envelope that arrived: the id alone would
//! let a recipient acknowledge what it never saw.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use crate::json::Object;
use crate::message_id::MessageId;

/// The most messages that one receipt covers: as JSON they stay below 32 KiB, half of what a message may have.
pub const MAX_RECEIPTED: usize = 256;

/// The kind of content that is a receipt.
pub(crate) const RECEIPT: &str = "receipt";

/// What became of messages at their recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReceiptState {
    /// Opened and stored.
    Delivered,
    /// Shown to the person, as far as the program knows.
    Read,
}

impl ReceiptState {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

/// One message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipted {
    /// Its name.
    pub id: MessageId,
    /// [`Envelope::digest`](crate::Envelope::digest) of the envelope that was opened.
    pub digest: [u8; 32],
}

/// Why messages cannot be put into one receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// None, or more than [`MAX_RECEIPTED`].
    #[error("a receipt covers 1 to {MAX_RECEIPTED} messages, not {0}")]
    Count(usize),
}

/// `{"kind":"receipt","state":…,"messages":[{"id":…,"digest":…},…]}`. Covers 1 to [`MAX_RECEIPTED`] messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    state: ReceiptState,
    messages: Vec<Receipted>,
}

impl Receipt {
    /// A receipt for these messages.
    ///
    /// # Errors
    /// [`ReceiptError::Count`].
    pub fn new(state: ReceiptState, messages: Vec<Receipted>) -> Result<Self, ReceiptError> {
        if !(1..=MAX_RECEIPTED).contains(&messages.len()) {
            return Err(ReceiptError::Count(messages.len()));
        }
        Ok(Self { state, messages })
    }

    /// What became of them.
    #[must_use]
    pub const fn state(&self) -> ReceiptState {
        self.state
    }

    /// Which ones.
    #[must_use]
    pub fn messages(&self) -> &[Receipted] {
        &self.messages
    }

    /// Reads the members beside `kind`; unknown ones are ignored. A state that is not known means at least that the
    /// messages were delivered, whatever a later version adds.
    pub(crate) fn read(object: &Object<'_>) -> Option<Self> {
        let state = match string(object, "state")?.as_str() {
            "read" => ReceiptState::Read,
            _ => ReceiptState::Delivered,
        };
        let elements: Vec<&RawValue> = serde_json::from_str(object.raw("messages")?).ok()?;
        let messages = elements
            .into_iter()
            .map(|element| receipted(element.get()))
            .collect::<Option<Vec<_>>>()?;
        Self::new(state, messages).ok()
    }

    pub(crate) fn to_json(&self) -> String {
        // A message takes 107 bytes.
        let mut json = String::with_capacity(64 + self.messages.len() * 112);
        let _ = write!(
            json,
            r#"{{"kind":"{RECEIPT}","state":"{}","messages":["#,
            self.state.as_str()
        );
        for (index, message) in self.messages.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let digest = BASE64_STANDARD.encode(message.digest);
            let _ = write!(
                json,
                r#"{comma}{{"id":"{}","digest":"{digest}"}}"#,
                message.id
            );
        }
        json.push_str("]}");
        json
    }
}

fn receipted(text: &str) -> Option<Receipted> {
    let object = Object::parse(text).ok()?;
    if object.has_duplicate() {
        return None;
    }
    let digest = BASE64_STANDARD.decode(string(&object, "digest")?).ok()?;
    Some(Receipted {
        id: MessageId::parse(&string(&object, "id")?).ok()?,
        digest: digest.try_into().ok()?,
    })
}

fn string(object: &Object<'_>, member: &str) -> Option<String> {
    serde_json::from_str(object.raw(member)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::testing::rng;
    use crate::timestamp::Timestamp;
    use alloc::vec;

    fn message(n: u8) -> Receipted {
        Receipted {
            id: MessageId::new(
                Timestamp::from_millis(u64::from(n)).unwrap(),
                &mut rng(n.into()),
            ),
            digest: [n; 32],
        }
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        for state in [ReceiptState::Delivered, ReceiptState::Read] {
            let receipt = Receipt::new(state, vec![message(1), message(2)]).unwrap();
            let content = Content::Receipt(receipt);
            assert_eq!(Content::parse(&content.to_json().unwrap()), Ok(content));
        }
    }

    #[test]
    fn the_largest_receipt_fits_a_message() {
        let receipt = Receipt::new(ReceiptState::Read, vec![message(1); MAX_RECEIPTED]).unwrap();
        assert!(receipt.to_json().len() < 32_768);
        for count in [0, MAX_RECEIPTED + 1] {
            assert_eq!(
                Receipt::new(ReceiptState::Read, vec![message(1); count]),
                Err(ReceiptError::Count(count))
            );
        }
    }
}
