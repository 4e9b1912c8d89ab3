//! A message as it arrived, judged: is it an envelope (or a key bundle) for the owner of its topic, and what is its
//! digest?

use bytes::Bytes;
use sealpost_archive::digest::Digest;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::Verified;
use sealpost_core::{KeyBundle, Topic, UserId};

use crate::known_signers::KnownSigners;

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
    /// The log that it belongs to.
    pub log: LogName,
    /// Why it is not an envelope (or bundle) for its topic's owner; `None` when it is one.
    pub fault: Option<String>,
    /// What is known of its signature, if signatures are checked.
    pub verified: Option<Verified>,
    /// Who waits for its acknowledgement.
    pub receipt: Receipt,
}

impl Arrival {
    /// Judges a message.
    #[must_use]
    pub fn new(topic: Bytes, payload: Bytes, connection: u64, packet_id: Option<u16>) -> Arrival {
        let nobody = &mut KnownSigners::default();
        Arrival::knowing(topic, payload, connection, packet_id, nobody)
    }

    /// As [`Arrival::new`], with what is known of the signers of others.
    #[must_use]
    pub fn knowing(
        topic: Bytes,
        payload: Bytes,
        connection: u64,
        packet_id: Option<u16>,
        signers: &mut KnownSigners,
    ) -> Arrival {
        let digest = Digest::of(&topic, &payload);
        let (log, fault) = judge(&topic, &payload, signers);
        let cost = topic.len() + payload.len() + OVERHEAD;
        Arrival {
            topic,
            payload,
            digest,
            log,
            fault,
            verified: None,
            receipt: Receipt {
                connection,
                packet_id,
                cost,
            },
        }
    }
}

/// The log that a message belongs to, and why its payload is not an envelope (or bundle) for the owner of its topic.
fn judge(topic: &[u8], payload: &[u8], signers: &mut KnownSigners) -> (LogName, Option<String>) {
    let messages = LogName::EncryptedLogs;
    let Ok(topic) = std::str::from_utf8(topic) else {
        return (messages, Some("the topic is not UTF-8".to_owned()));
    };
    let (log, fault) = match Topic::parse(topic) {
        Ok(Topic::Inbox(owner)) => (messages, envelope_fault(&owner, payload, signers)),
        Ok(Topic::Keys(owner)) => (LogName::KeyHistory, bundle_fault(&owner, payload)),
        Err(error) => (messages, Some(error.to_string())),
    };
    // A line must end at its own newline. The one encoding has no white space; this holds even
    // if that should change.
    let newline = fault.is_none() && payload.contains(&b'\n');
    (
        log,
        fault.or_else(|| newline.then(|| "the payload has a newline".to_owned())),
    )
}

fn envelope_fault(owner: &UserId, payload: &[u8], signers: &mut KnownSigners) -> Option<String> {
    match signers.read(payload) {
        Ok(envelope) if envelope.to() == owner => None,
        Ok(_) => Some("\"to\" is not the owner of the topic".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn bundle_fault(owner: &UserId, payload: &[u8]) -> Option<String> {
    match KeyBundle::parse(payload) {
        Ok(bundle) if bundle.user() == owner => None,
        Ok(_) => Some("\"user\" is not the owner of the topic".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
