//! A message as the edge keeps it.

use bytes::Bytes;
use rumqttd::protocol::PublishProperties;

use crate::protocol::topic_name::TopicName;

/// What was published; shared by all who receive it.
#[derive(Debug)]
pub struct Message {
    /// Where.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// MQTT 5 properties that travel on to MQTT 5 subscribers.
    pub properties: Option<Box<PublishProperties>>,
    /// Whether a reader is served with the newest message of the topic alone: key bundles.
    pub supersedes: bool,
}

impl Message {
    /// Bytes that a queue counts for it.
    #[must_use]
    pub fn size(&self) -> usize {
        // The struct, its reference counts and a queue's entry; close enough to bound memory by.
        const OVERHEAD: usize = 128;
        OVERHEAD + self.topic.as_str().len() + self.payload.len()
    }
}
