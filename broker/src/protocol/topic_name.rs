//! MQTT topic names and topic filters (MQTT 5.0, section 4.7), checked once, at the edge.
//!
//! Sealpost's own topics are [`sealpost_core::Topic`]; these types are what any MQTT client may say.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A topic name: UTF-8, 1 to 65,535 bytes, without wildcards and without NUL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// A topic filter: as a topic name, with `+` for one level and a last `#` for all that follow.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterName(Arc<str>);

/// Why bytes are not a topic name or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// No bytes at all.
    #[error("it is empty")]
    Empty,
    /// U+0000, which MQTT forbids.
    #[error("it has a NUL character")]
    Nul,
    /// A wildcard in a name to publish to.
    #[error("it has a wildcard")]
    Wildcard,
    /// A wildcard that does not fill its level, or a `#` that is not the last.
    #[error("it has a misplaced wildcard")]
    MisplacedWildcard,
    /// More levels than anybody needs; each is a step in the subscription tree.
    #[error("it has more than {} levels", MAX_LEVELS)]
    TooDeep,
    /// More wildcards than anybody needs; each doubles the ways through the subscription tree.
    #[error("it has more than {} levels that are +", MAX_SINGLE)]
    TooWild,
}

/// Levels of a topic or filter (the prefix of a shared subscription not counted): bounds the depth of the subscription tree.
pub const MAX_LEVELS: usize = 16;

/// Levels of a filter that are `+`. Each place where filters may have one or not is a fork in the subscription tree, and whoever
/// subscribes to all of them makes each publish walk them: with so many in 16 levels to 6,885 leaves, in 21,777 steps.
pub const MAX_SINGLE: usize = 5;

/// Orders and hashes as its text does.
impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TopicName {
    /// Parses what a PUBLISH names.
    ///
    /// # Errors
    /// See [`TopicNameError`].
    pub fn parse(bytes: &[u8]) -> Result<TopicName, TopicNameError> {
        let text = check(bytes)?;
        if text.contains(['+', '#']) {
            return Err(TopicNameError::Wildcard);
        }
        if text.split('/').count() > MAX_LEVELS {
            return Err(TopicNameError::TooDeep);
        }
        Ok(TopicName(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FilterName {
    /// Parses what a SUBSCRIBE or UNSUBSCRIBE names.
    ///
    /// # Errors
    /// See [`TopicNameError`].
    pub fn parse(text: &str) -> Result<FilterName, TopicNameError> {
        let text = check(text.as_bytes())?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let fine = match level {
                "#" => levels.peek().is_none(),
                "+" => true,
                level => !level.contains(['+', '#']),
            };
            if !fine {
                return Err(TopicNameError::MisplacedWildcard);
            }
        }
        let matched = match text
            .strip_prefix("$share/")
            .map(|rest| rest.split_once('/'))
        {
            Some(Some((_, matched))) => matched,
            _ => text,
        };
        if matched.split('/').count() > MAX_LEVELS {
            return Err(TopicNameError::TooDeep);
        }
        if matched.split('/').filter(|level| *level == "+").count() > MAX_SINGLE {
            return Err(TopicNameError::TooWild);
        }
        Ok(FilterName(text.into()))
    }

    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a shared subscription's (`$share/…`, MQTT 5.0 section 4.8.2).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.starts_with("$share/")
    }

    /// The group and the filter that it shares, of a shared subscription (MQTT 5.0, section 4.8.2). A group's name has no
    /// wildcard; parsing has seen to the rest.
    ///
    /// # Errors
    /// [`TopicNameError`] when it begins with `$share/` and is none.
    pub fn shared(&self) -> Result<Option<(&str, FilterName)>, TopicNameError> {
        let Some(rest) = self.0.strip_prefix("$share/") else {
            return Ok(None);
        };
        match rest.split_once('/') {
            None | Some(("", _)) => Err(TopicNameError::Empty),
            Some((group, _)) if group.contains(['+', '#']) => {
                Err(TopicNameError::MisplacedWildcard)
            }
            Some((group, filter)) => Ok(Some((group, FilterName::parse(filter)?))),
        }
    }

    /// Whether the topic matches (MQTT 5.0 section 4.7): a filter that begins with a wildcard matches no `$…`.
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        if topic.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.0.split('/');
        for filter in self.0.split('/') {
            match (filter, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (filter, Some(level)) if filter == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

fn check(bytes: &[u8]) -> Result<&str, TopicNameError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TopicNameError::NotUtf8)?;
    if text.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if text.contains('\0') {
        return Err(TopicNameError::Nul);
    }
    Ok(text)
}

// Debug and not Display: names come from others, and `Debug` escapes what a terminal would obey.
impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for FilterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_wildcards_nul_or_broken_utf8_are_refused() {
        assert_eq!(TopicName::parse(b""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::parse(b"a/+"), Err(TopicNameError::Wildcard));
        assert_eq!(TopicName::parse(b"a/#"), Err(TopicNameError::Wildcard));
        assert_eq!(TopicName::parse(b"a\0"), Err(TopicNameError::Nul));
        assert_eq!(TopicName::parse(b"\xff"), Err(TopicNameError::NotUtf8));
        assert_eq!(
            TopicName::parse("/".repeat(MAX_LEVELS).as_bytes()),
            Err(TopicNameError::TooDeep)
        );
        assert!(TopicName::parse("/".repeat(MAX_LEVELS - 1).as_bytes()).is_ok());
    }

    #[test]
    fn filters_that_are_deep_or_wild_are_refused_whoever_shares_them() {
        for prefix in ["", "$share/g/"] {
            let filter = |inner: &str| FilterName::parse(&format!("{prefix}{inner}"));
            let levels = |level: &str, count: usize| vec![level; count].join("/");
            assert!(filter(&levels("a", MAX_LEVELS)).is_ok());
            let deep = filter(&levels("a", MAX_LEVELS + 1));
            assert_eq!(deep, Err(TopicNameError::TooDeep));
            assert!(filter(&format!("{}/#", levels("+", MAX_SINGLE))).is_ok());
            let wild = filter(&levels("+", MAX_SINGLE + 1));
            assert_eq!(wild, Err(TopicNameError::TooWild));
        }
    }

    #[test]
    fn filters_with_misplaced_wildcards_are_refused() {
        for filter in ["a#", "#/a", "a/#/b", "a+", "a/+b", "++", "##"] {
            assert_eq!(
                FilterName::parse(filter),
                Err(TopicNameError::MisplacedWildcard),
                "{filter}"
            );
        }
        for filter in ["#", "+", "a/#", "a/+/b", "/", "+/+/#"] {
            assert!(FilterName::parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        let matches = |filter: &str, topic: &str| {
            FilterName::parse(filter)
                .unwrap()
                .matches(&TopicName::parse(topic.as_bytes()).unwrap())
        };
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/x"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("a/b", "a"),
            ("a", "a/b"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
}
