//! Records: the journal's tables as bytes. Keys are big-endian, so that they sort as numbers do; values are postcard.

use std::sync::Arc;

use bytes::Bytes;
use rumqttd::protocol::{PublishProperties, QoS};
use sealpost_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::store::{StoreError, Table};
use crate::protocol::message::Message;
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::{FilterName, TopicName};

/// The format that this program reads and writes.
pub const FORMAT: u8 = 1;

/// The key of the one record in [`Table::Format`].
pub const FORMAT_KEY: &[u8] = b"format";

/// A mailbox, that of a session or of a group that shares a subscription. A number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub u64);

impl MailboxId {
    /// The prefix of its keys.
    #[must_use]
    pub fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The key of one of its entries.
    #[must_use]
    pub fn entry_key(self, seq: u64) -> [u8; 16] {
        let mut key = [0; 16];
        let (mailbox, entry) = key.split_at_mut(8);
        mailbox.copy_from_slice(&self.0.to_be_bytes());
        entry.copy_from_slice(&seq.to_be_bytes());
        key
    }

    /// The key of a packet identifier received at QoS 2.
    #[must_use]
    pub fn received_key(self, pkid: u16) -> [u8; 10] {
        let mut key = [0; 10];
        let (mailbox, received) = key.split_at_mut(8);
        mailbox.copy_from_slice(&self.0.to_be_bytes());
        received.copy_from_slice(&pkid.to_be_bytes());
        key
    }

    /// The key of a subscription.
    #[must_use]
    pub fn filter_key(self, filter: &FilterName) -> Vec<u8> {
        [&self.key(), filter.as_str().as_bytes()].concat()
    }
}

/// The mailbox that a key begins with, and the rest of the key.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn split_key(table: Table, key: &[u8]) -> Result<(MailboxId, &[u8]), StoreError> {
    let split = key.split_first_chunk::<8>();
    let (mailbox, rest) = split.ok_or_else(|| damaged(table, "a key is too short"))?;
    Ok((MailboxId(u64::from_be_bytes(*mailbox)), rest))
}

/// A number that fills a key or its end.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn number(table: Table, key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key
        .try_into()
        .map_err(|_| damaged(table, "a key is not a number"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The error for a record that is not what was written.
pub fn damaged(table: Table, why: impl ToString) -> StoreError {
    StoreError::Damaged {
        table: table.name(),
        why: why.to_string(),
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Into a growing vector and with types that postcard writes all of, so it cannot fail.
    postcard::to_stdvec(value).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(table: Table, bytes: &'a [u8]) -> Result<T, StoreError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| damaged(table, error))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(damaged(table, "bytes follow the record"))
    }
}

fn qos(table: Table, byte: u8) -> Result<QoS, StoreError> {
    match byte {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(damaged(table, "a QoS above 2")),
    }
}

/// A durable session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Whose; empty on an open broker.
    pub owner: String,
    /// The client id.
    pub client_id: String,
    /// Seconds for which it is kept without a connection.
    pub expiry: u32,
    /// When its connection ended; none while there is one.
    pub detached: Option<u64>,
    /// The highest sequence number that was sent; meaningful while there is no connection.
    pub sent: u64,
}

impl SessionRecord {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn decode(bytes: &[u8]) -> Result<SessionRecord, StoreError> {
        decode(Table::Sessions, bytes)
    }
}

#[derive(Serialize, Deserialize)]
struct SubscriptionRecord {
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    id: Option<u32>,
    /// The group's mailbox, of a shared subscription.
    group: Option<u64>,
}

/// A subscription as bytes. `group`: the mailbox of those who share it.
#[must_use]
pub fn encode_subscription(subscription: &Subscription, group: Option<MailboxId>) -> Vec<u8> {
    encode(&SubscriptionRecord {
        qos: subscription.qos as u8,
        no_local: subscription.no_local,
        retain_as_published: subscription.retain_as_published,
        id: subscription.id.and_then(|id| u32::try_from(id).ok()),
        group: group.map(|group| group.0),
    })
}

/// A subscription from bytes.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_subscription(bytes: &[u8]) -> Result<(Subscription, Option<MailboxId>), StoreError> {
    let record: SubscriptionRecord = decode(Table::Subscriptions, bytes)?;
    let subscription = Subscription {
        qos: qos(Table::Subscriptions, record.qos)?,
        no_local: record.no_local,
        retain_as_published: record.retain_as_published,
        id: record.id.and_then(|id| usize::try_from(id).ok()),
    };
    Ok((subscription, record.group.map(MailboxId)))
}

/// What a mailbox notes of a message that it is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The message's number.
    pub message: u64,
    /// [`Message::size`] of it.
    pub size: u32,
    qos: u8,
    /// Whether it is delivered as retained.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<usize>,
    /// The message's sender, whose share of the mailbox it counts against.
    pub sender: Option<String>,
    /// Whether a newer message of its topic replaces it.
    pub supersedes: bool,
    /// Whether its receiver has it and only the release is due (QoS 2).
    pub released: bool,
}

impl Note {
    /// What a mailbox notes of a message.
    #[must_use]
    pub fn new(message: &Message, qos: QoS, retain: bool, subscription_ids: &[usize]) -> Note {
        Note {
            message: message.number,
            size: u32::try_from(message.size()).unwrap_or(u32::MAX),
            qos: qos as u8,
            retain,
            subscription_ids: subscription_ids.to_vec(),
            sender: message.sender.as_deref().map(str::to_owned),
            supersedes: message.supersedes,
            released: false,
        }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn decode(bytes: &[u8]) -> Result<Note, StoreError> {
        let note: Note = decode(Table::Queue, bytes)?;
        qos(Table::Queue, note.qos)?;
        Ok(note)
    }

    /// Its QoS.
    #[must_use]
    pub fn qos(&self) -> QoS {
        qos(Table::Queue, self.qos).unwrap_or(QoS::AtLeastOnce)
    }
}

#[derive(Serialize, Deserialize)]
struct MessageRecord<'a> {
    topic: &'a str,
    payload: &'a [u8],
    expires: Option<u64>,
    sender: Option<&'a str>,
    supersedes: bool,
    qos: u8,
    #[serde(borrow)]
    properties: Option<PropertiesRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PropertiesRecord<'a> {
    payload_format_indicator: Option<u8>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    #[serde(borrow)]
    user_properties: Vec<(&'a str, &'a str)>,
}

/// A message as bytes. `qos`: that of its publisher.
#[must_use]
pub fn encode_message(message: &Message, qos: QoS) -> Vec<u8> {
    let properties = message
        .properties
        .as_deref()
        .map(|properties| PropertiesRecord {
            payload_format_indicator: properties.payload_format_indicator,
            response_topic: properties.response_topic.as_deref(),
            correlation_data: properties.correlation_data.as_deref(),
            content_type: properties.content_type.as_deref(),
            user_properties: properties
                .user_properties
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
        });
    encode(&MessageRecord {
        topic: message.topic.as_str(),
        payload: &message.payload,
        expires: message.expires.map(Timestamp::millis),
        sender: message.sender.as_deref(),
        supersedes: message.supersedes,
        qos: qos as u8,
        properties,
    })
}

/// A message from bytes, with the number it is to have.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_message(
    table: Table,
    number: u64,
    bytes: &[u8],
) -> Result<(Message, QoS), StoreError> {
    let record: MessageRecord<'_> = decode(table, bytes)?;
    let expires = record
        .expires
        .map(Timestamp::from_millis)
        .transpose()
        .map_err(|error| damaged(table, error))?;
    let properties = record.properties.map(|properties| {
        Box::new(PublishProperties {
            payload_format_indicator: properties.payload_format_indicator,
            message_expiry_interval: None,
            topic_alias: None,
            response_topic: properties.response_topic.map(str::to_owned),
            correlation_data: properties.correlation_data.map(Bytes::copy_from_slice),
            user_properties: properties
                .user_properties
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            subscription_identifiers: Vec::new(),
            content_type: properties.content_type.map(str::to_owned),
        })
    });
    let message = Message {
        number,
        topic: TopicName::parse(record.topic.as_bytes()).map_err(|error| damaged(table, error))?,
        payload: Bytes::copy_from_slice(record.payload),
        properties,
        expires,
        sender: record.sender.map(Arc::from),
        supersedes: record.supersedes,
    };
    Ok((message, qos(table, record.qos)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(properties: Option<PublishProperties>) -> Message {
        Message {
            number: 7,
            topic: TopicName::parse("\u{e9}/x".as_bytes()).unwrap(),
            payload: Bytes::from_static(b"\x00\xff payload"),
            properties: properties.map(Box::new),
            expires: Some(Timestamp::from_millis(1_700_000_000_123).unwrap()),
            sender: Some("alice".into()),
            supersedes: false,
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_written() {
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            topic_alias: None,
            response_topic: Some("r".into()),
            correlation_data: Some(Bytes::from_static(b"\x00")),
            user_properties: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
            subscription_identifiers: Vec::new(),
            content_type: Some("c".into()),
        };
        for message in [message(None), message(Some(properties))] {
            let bytes = encode_message(&message, QoS::ExactlyOnce);
            let read = decode_message(Table::Messages, 7, &bytes).unwrap();
            assert_eq!(read, (message, QoS::ExactlyOnce));
        }
    }

    #[test]
    fn a_record_that_is_cut_short_or_longer_than_written_is_damaged() {
        let bytes = encode_message(&message(None), QoS::AtLeastOnce);
        for length in 0..bytes.len() {
            assert!(decode_message(Table::Messages, 7, &bytes[..length]).is_err());
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert!(decode_message(Table::Messages, 7, &longer).is_err());
    }

    #[test]
    fn keys_sort_as_numbers_do_and_belong_to_one_mailbox() {
        let keys = [(1, 2), (1, 255), (1, 256), (2, 0), (256, 0)]
            .map(|(mailbox, seq)| MailboxId(mailbox).entry_key(seq));
        assert!(keys.is_sorted());
        let (mailbox, rest) = split_key(Table::Queue, &keys[2]).unwrap();
        assert_eq!(
            (mailbox, number(Table::Queue, rest).unwrap()),
            (MailboxId(1), 256)
        );
    }
}
