//! A message as the edge keeps it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttd::protocol::PublishProperties;
use sealpost_core::Timestamp;

use crate::protocol::topic_name::TopicName;

/// What was published; shared by all who receive it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Tells messages apart in the journal; never used twice.
    pub number: u64,
    /// Where.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// MQTT 5 properties that travel on to MQTT 5 subscribers, less the expiry.
    pub properties: Option<Box<PublishProperties>>,
    /// When it is worth nothing any more (MQTT 5.0, section 3.3.2.3.3).
    pub expires: Option<Timestamp>,
    /// The user who published it, where mailboxes are shared out between senders.
    pub sender: Option<Arc<str>>,
    /// Whether a reader is served with the newest message of the topic alone: key bundles.
    pub supersedes: bool,
}

/// Takes the expiry interval out of a publish's properties (MQTT 5.0, section 3.3.2.3.3): what is left travels on, and the
/// time at which the message is worth nothing any more.
#[must_use]
pub fn split_expiry(
    properties: Option<Box<PublishProperties>>,
    now: Timestamp,
) -> (Option<Box<PublishProperties>>, Option<Timestamp>) {
    let mut properties = properties;
    let interval = properties
        .as_mut()
        .and_then(|properties| properties.message_expiry_interval.take());
    let lifetime = interval.map(|seconds| Duration::from_secs(seconds.into()));
    (
        properties,
        lifetime.map(|lifetime| now.saturating_add(lifetime)),
    )
}

/// Bytes that a publish's properties carry. A packet may be made of nothing else, so whatever counts publishes counts them.
#[must_use]
pub fn carried(properties: &PublishProperties) -> usize {
    // Two strings and their allocations.
    const PAIR: usize = 64;
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let pairs = properties.user_properties.iter();
    let pairs = pairs.map(|(name, value)| PAIR + name.len() + value.len());
    text(&properties.response_topic)
        + text(&properties.content_type)
        + properties.correlation_data.as_ref().map_or(0, Bytes::len)
        + pairs.sum::<usize>()
}

impl Message {
    /// Bytes that a queue counts for it.
    #[must_use]
    pub fn size(&self) -> usize {
        // The struct, its reference counts and a queue's entry; close enough to bound memory by.
        const OVERHEAD: usize = 192;
        OVERHEAD
            + self.topic.as_str().len()
            + self.payload.len()
            + self.properties.as_deref().map_or(0, carried)
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The properties of this message for a subscriber now: the expiry interval is what is left of it, in whole seconds,
    /// rounded up.
    #[must_use]
    pub fn properties_now(&self, now: Timestamp) -> Option<PublishProperties> {
        let mut properties = self.properties.as_deref().cloned();
        if let Some(expires) = self.expires {
            let left = expires.saturating_since(now) + Duration::from_millis(999);
            properties
                .get_or_insert_with(PublishProperties::default)
                .message_expiry_interval = Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX));
        }
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is bounded is bounded by this size; a megabyte in a property is a megabyte.
    #[test]
    fn what_a_message_carries_in_its_properties_counts_as_its_payload_does() {
        let message = |properties: Option<PublishProperties>| Message {
            number: 1,
            topic: TopicName::parse(b"t").unwrap(),
            payload: Bytes::new(),
            properties: properties.map(Box::new),
            expires: None,
            sender: None,
            supersedes: false,
        };
        let bare = message(None).size();
        assert_eq!(message(Some(PublishProperties::default())).size(), bare);
        let long = || "x".repeat(10_000);
        let all = PublishProperties {
            response_topic: Some(long()),
            content_type: Some(long()),
            correlation_data: Some(long().into()),
            user_properties: vec![(long(), long()), (String::new(), String::new())],
            ..PublishProperties::default()
        };
        assert!(message(Some(all)).size() > bare + 50_000 + 2 * size_of::<(String, String)>());
    }
}
