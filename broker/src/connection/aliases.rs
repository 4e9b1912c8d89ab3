//! Topic aliases: numbers that a client uses in place of topics, for one connection (MQTT 5.0, section 3.3.2.3.4).

use std::collections::HashMap;

use crate::protocol::topic_name::{TopicName, TopicNameError};

/// Aliases that one client may have. Each can hold a topic of 65,535 bytes for as long as the connection.
pub(super) const TOPIC_ALIAS_MAXIMUM: u16 = 10;

/// One connection's aliases.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<u16, TopicName>);

/// Why a PUBLISH names no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AliasError {
    /// 0, or above what the client was told.
    #[error("a topic alias is 1 to {TOPIC_ALIAS_MAXIMUM}")]
    OutOfRange,
    /// Used before it was given a topic.
    #[error("the topic alias stands for no topic")]
    Unknown,
    /// The topic is not one.
    #[error("topic: {0}")]
    Topic(#[from] TopicNameError),
}

impl Aliases {
    /// The topic of a PUBLISH, and what its alias stands for from now on.
    pub(super) fn resolve(
        &mut self,
        topic: &[u8],
        alias: Option<u16>,
    ) -> Result<TopicName, AliasError> {
        let Some(alias) = alias else {
            return Ok(TopicName::parse(topic)?);
        };
        if alias == 0 || alias > TOPIC_ALIAS_MAXIMUM {
            return Err(AliasError::OutOfRange);
        }
        if topic.is_empty() {
            return self.0.get(&alias).cloned().ok_or(AliasError::Unknown);
        }
        let topic = TopicName::parse(topic)?;
        self.0.insert(alias, topic.clone());
        Ok(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_the_topic_it_was_last_given() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.resolve(b"", Some(1)), Err(AliasError::Unknown));
        for topic in ["a", "b"] {
            let named = aliases.resolve(topic.as_bytes(), Some(1)).unwrap();
            assert_eq!(named.as_str(), topic);
            assert_eq!(aliases.resolve(b"", Some(1)), Ok(named));
        }
        assert_eq!(aliases.resolve(b"", Some(2)), Err(AliasError::Unknown));
    }

    #[test]
    fn aliases_are_bounded_in_number() {
        let mut aliases = Aliases::default();
        for alias in [0, TOPIC_ALIAS_MAXIMUM + 1, u16::MAX] {
            assert_eq!(
                aliases.resolve(b"a", Some(alias)),
                Err(AliasError::OutOfRange)
            );
        }
        assert!(aliases.resolve(b"a", Some(TOPIC_ALIAS_MAXIMUM)).is_ok());
    }

    #[test]
    fn a_refused_topic_leaves_the_alias_as_it_was() {
        let mut aliases = Aliases::default();
        aliases.resolve(b"a", Some(1)).unwrap();
        assert!(matches!(
            aliases.resolve(b"a/#", Some(1)),
            Err(AliasError::Topic(_))
        ));
        assert_eq!(aliases.resolve(b"", Some(1)).unwrap().as_str(), "a");
    }
}
