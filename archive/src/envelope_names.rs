//! What a reader asks of an envelope's line without taking the envelope apart: its names.

use std::borrow::Cow;

use sealpost_core::MessageId;
use serde::Deserialize;

/// The names in the line of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeNames<'a> {
    /// The message's.
    pub id: MessageId,
    /// That of the sender's message before it, to the same recipient.
    pub prev: Option<MessageId>,
    /// Who sent it.
    pub from: Cow<'a, str>,
    /// To whom.
    pub to: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    prev: Option<Cow<'a, str>>,
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
}

impl<'a> EnvelopeNames<'a> {
    /// The names in a line, given without its newline; `None` if it is not that of an envelope.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<EnvelopeNames<'a>> {
        let members: Members<'a> = serde_json::from_slice(line).ok()?;
        let prev = match members.prev {
            None => None,
            Some(prev) => Some(MessageId::parse(&prev).ok()?),
        };
        Some(EnvelopeNames {
            id: MessageId::parse(&members.id).ok()?,
            prev,
            from: members.from,
            to: members.to,
        })
    }
}
