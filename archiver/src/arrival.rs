//! A message as it arrived, judged: is it an envelope for the owner of its topic, and what is its
//! digest?

use bytes::Bytes;
use sealpost_core::{Envelope, Topic};

use crate::digest_window::Digest;

/// What one arrival costs in memory beside topic and payload, in bytes: a round figure for its own
/// fields and its places in the queues.
const OVERHEAD: usize = 256;

/// Who waits for the acknowledgement of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Which connection it came over, counted from the start of the process. An acknowledgement
    /// belongs to its connection: on another one the same packet identifier is another message.
    pub connection: u64,
    /// MQTT's packet identifier; `None` for QoS 0, which is not acknowledged.
    pub packet_id: Option<u16>,
    /// What the arrival holds in memory, in bytes.
    pub cost: usize,
}

/// A message to be archived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Topic, as it came.
    pub topic: Bytes,
    /// Payload, as it came.
    pub payload: Bytes,
    /// What tells it from every other message.
    pub digest: Digest,
    /// Why it is not an envelope for its topic's owner; `None` when it is one.
    pub fault: Option<String>,
    /// Who waits for its acknowledgement.
    pub receipt: Receipt,
}

impl Arrival {
    /// Judges a message.
    #[must_use]
    pub fn new(topic: Bytes, payload: Bytes, connection: u64, packet_id: Option<u16>) -> Arrival {
        let digest = Digest::of(&topic, &payload);
        let fault = fault(&topic, &payload);
        let cost = topic.len() + payload.len() + OVERHEAD;
        Arrival {
            topic,
            payload,
            digest,
            fault,
            receipt: Receipt {
                connection,
                packet_id,
                cost,
            },
        }
    }
}

/// Why a payload is not an envelope for the owner of `topic`.
fn fault(topic: &[u8], payload: &[u8]) -> Option<String> {
    let Ok(topic) = std::str::from_utf8(topic) else {
        return Some("the topic is not UTF-8".to_owned());
    };
    let owner = match Topic::parse(topic) {
        Ok(Topic::Inbox(owner)) => owner,
        Ok(Topic::Keys(_)) => return Some("the topic is not an inbox".to_owned()),
        Err(error) => return Some(error.to_string()),
    };
    match Envelope::parse(payload) {
        Ok(envelope) if *envelope.to() != owner => {
            Some("\"to\" is not the owner of the topic".to_owned())
        }
        // A line must end at its own newline. The one encoding has no white space; this holds even
        // if that should change.
        Ok(_) if payload.contains(&b'\n') => Some("the payload has a newline".to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}
