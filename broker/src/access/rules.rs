//! The rule file: who may use topics that are not Sealpost's own.
//!
//! Rules only ever add, and never to `keys/`, `inbox/` and `$…`, whatever they say: those have the permission table.

use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat};
use sealpost_core::UserId;
use serde::Deserialize;

use crate::protocol::topic_name::{FilterName, TopicNameError};

/// Bytes of the largest rule file, and rules and patterns in it: far above what a person writes, and a bound on what every
/// publish to a topic of theirs is compared with.
const MAX_FILE: u64 = 1024 * 1024;
const MAX_RULES: usize = 1_000;
const MAX_PATTERNS: usize = 100;

/// What stands for the user's name in a topic.
const USER: &str = "%u";

/// The rules. None by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    users: Vec<UserPattern>,
    publish: Vec<TopicPattern>,
    subscribe: Vec<TopicPattern>,
    retain: bool,
}

/// A name, or what names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum UserPattern {
    Name(UserId),
    Prefix(String),
}

/// A filter in whose levels `%u` may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicPattern(String);

/// Why a rule file is not used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("{path:?}: {why}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// It is too large.
    #[error(
        "{0:?} has more than {MAX_FILE} bytes, {MAX_RULES} rules, or {MAX_PATTERNS} patterns in a list"
    )]
    TooLarge(PathBuf),
    /// It is not TOML, or has keys that nothing reads.
    #[error("{path:?}: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A pattern that is none, or that rules cannot give.
    #[error("{path:?}: rule {rule}: {pattern:?}: {why}")]
    BadPattern {
        /// Which file.
        path: PathBuf,
        /// Which rule, counted from 1.
        rule: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: PatternError,
    },
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a name, and not the beginning of one with a `*` behind it.
    #[error("users are named as in \"alice\", \"sensor-*\" or \"*\"")]
    BadUser,
    /// Not a topic filter.
    #[error("as a topic filter {0}")]
    BadFilter(#[from] TopicNameError),
    /// It would reach into Sealpost's own topics.
    #[error(
        "rules give nothing in keys/, inbox/ and $…, so the first level is written out and none of these"
    )]
    Ours,
    /// A `%` that is not `%u`.
    #[error("only %u is replaced")]
    BadPlaceholder,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    #[serde(default)]
    rules: Vec<SpelledRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpelledRule {
    users: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    retain: bool,
}

impl Rules {
    /// Reads a rule file.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn read(path: &Path) -> Result<Rules, RulesError> {
        let io = |why| RulesError::Io {
            path: path.to_owned(),
            why,
        };
        let too_large = || RulesError::TooLarge(path.to_owned());
        if std::fs::metadata(path).map_err(io)?.len() > MAX_FILE {
            return Err(too_large());
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let malformed = |why: config::ConfigError| RulesError::Malformed {
            path: path.to_owned(),
            why: why.to_string().trim_end().to_owned(),
        };
        let spelled: Spelled = Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build()
            .map_err(malformed)?
            .try_deserialize()
            .map_err(malformed)?;
        if spelled.rules.len() > MAX_RULES {
            return Err(too_large());
        }
        let mut rules = Vec::with_capacity(spelled.rules.len());
        for (index, spelled) in spelled.rules.into_iter().enumerate() {
            let lists = [&spelled.users, &spelled.publish, &spelled.subscribe];
            if lists.iter().any(|list| list.len() > MAX_PATTERNS) {
                return Err(too_large());
            }
            rules.push(
                spelled
                    .check()
                    .map_err(|(pattern, why)| RulesError::BadPattern {
                        path: path.to_owned(),
                        rule: index + 1,
                        pattern,
                        why,
                    })?,
            );
        }
        Ok(Rules(rules))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the user may publish to the topic, and with RETAIN if that is asked for.
    #[must_use]
    pub fn permit_publish(&self, user: &UserId, topic: &str, retain: bool) -> bool {
        let rule = |rule: &Rule| {
            (rule.retain || !retain) && rule.is_for(user) && covered(&rule.publish, user, topic)
        };
        !is_ours(topic) && self.0.iter().any(rule)
    }

    /// Whether the user may subscribe to the filter (without a `$share/` prefix): everything it matches is given.
    #[must_use]
    pub fn permit_subscribe(&self, user: &UserId, filter: &str) -> bool {
        let rule = |rule: &Rule| rule.is_for(user) && covered(&rule.subscribe, user, filter);
        !is_ours(filter) && self.0.iter().any(rule)
    }
}

/// Whether a topic or filter reaches into what has the permission table.
fn is_ours(topic: &str) -> bool {
    let first = topic.split('/').next().unwrap_or_default();
    matches!(first, "keys" | "inbox" | "+" | "#") || first.starts_with('$')
}

fn covered(patterns: &[TopicPattern], user: &UserId, filter: &str) -> bool {
    patterns.iter().any(|pattern| pattern.covers(user, filter))
}

impl Rule {
    fn is_for(&self, user: &UserId) -> bool {
        self.users.iter().any(|pattern| match pattern {
            UserPattern::Name(name) => name == user,
            UserPattern::Prefix(prefix) => user.as_str().starts_with(prefix),
        })
    }
}

impl TopicPattern {
    /// Whether the pattern gives everything that the filter matches.
    fn covers(&self, user: &UserId, filter: &str) -> bool {
        let mut asked = filter.split('/');
        for given in self.0.split('/') {
            match (given, asked.next()) {
                // MQTT 5.0, section 4.7.1.2: the parent level too.
                ("#", _) => return true,
                ("+", Some(level)) if level != "#" => {}
                (given, Some(level)) if given.replace(USER, user.as_str()) == level => {}
                _ => return false,
            }
        }
        asked.next().is_none()
    }
}

impl SpelledRule {
    fn check(self) -> Result<Rule, (String, PatternError)> {
        let users = self.users.into_iter().map(|pattern| {
            let parsed = match pattern.strip_suffix('*') {
                // What follows a valid beginning can be anything; so nothing at all is one.
                Some(prefix) if prefix.is_empty() || UserId::parse(prefix).is_ok() => {
                    Some(UserPattern::Prefix(prefix.to_owned()))
                }
                Some(_) => None,
                None => UserId::parse(&pattern).ok().map(UserPattern::Name),
            };
            parsed.ok_or((pattern, PatternError::BadUser))
        });
        let topics = |patterns: Vec<String>| {
            let parsed = patterns.into_iter().map(|pattern| {
                check_topic(&pattern).map_err(|why| (pattern.clone(), why))?;
                Ok(TopicPattern(pattern))
            });
            parsed.collect::<Result<Vec<_>, _>>()
        };
        Ok(Rule {
            users: users.collect::<Result<_, _>>()?,
            publish: topics(self.publish)?,
            subscribe: topics(self.subscribe)?,
            retain: self.retain,
        })
    }
}

fn check_topic(pattern: &str) -> Result<(), PatternError> {
    FilterName::parse(pattern)?;
    if pattern.replace(USER, "").contains('%') {
        return Err(PatternError::BadPlaceholder);
    }
    if is_ours(pattern) {
        return Err(PatternError::Ours);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn rules(text: &str) -> Result<Rules, RulesError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules.toml");
        std::fs::write(&path, text).unwrap();
        Rules::read(&path)
    }

    const SENSORS: &str = r#"
        [[rules]]
        users = ["sensor-*", "boiler"]
        publish = ["home/%u/#"]
        subscribe = ["home/%u/set/+"]
        retain = true

        [[rules]]
        users = ["*"]
        publish = ["board"]
        subscribe = ["home/+/temperature", "board"]
    "#;

    #[test]
    fn a_rule_gives_its_users_its_topics_and_no_more() {
        let rules = rules(SENSORS).unwrap();
        let publish = |name: &str, topic: &str| rules.permit_publish(&user(name), topic, false);
        assert!(publish("sensor-1", "home/sensor-1/temperature"));
        assert!(publish("sensor-1", "home/sensor-1"));
        assert!(publish("boiler", "home/boiler/a/b/c"));
        assert!(publish("alice", "board"));
        assert!(!publish("sensor-1", "home/sensor-2/temperature"));
        assert!(!publish("sensor-1", "home"));
        assert!(!publish("alice", "home/alice/temperature"));
        assert!(!publish("alice", "elsewhere"));
        assert!(rules.permit_publish(&user("boiler"), "home/boiler/x", true));
        assert!(!rules.permit_publish(&user("boiler"), "board", true));
    }

    #[test]
    fn a_subscription_is_given_only_if_everything_it_matches_is() {
        let rules = rules(SENSORS).unwrap();
        let subscribe = |name: &str, filter: &str| rules.permit_subscribe(&user(name), filter);
        assert!(subscribe("boiler", "home/boiler/set/valve"));
        assert!(subscribe("boiler", "home/boiler/set/+"));
        assert!(!subscribe("boiler", "home/boiler/set/#"));
        assert!(!subscribe("boiler", "home/boiler/+/valve"));
        assert!(subscribe("alice", "home/+/temperature"));
        assert!(subscribe("alice", "home/x/temperature"));
        assert!(!subscribe("alice", "home/+/+"));
        assert!(!subscribe("alice", "home/#"));
        assert!(!subscribe("alice", "+/x/temperature"));
        assert!(!subscribe("alice", "#"));
    }

    #[test]
    fn no_rule_reaches_into_what_the_permission_table_is_for() {
        let pattern = |pattern: &str| {
            let text = format!("[[rules]]\nusers = [\"*\"]\nsubscribe = [\"{pattern}\"]");
            match rules(&text) {
                Err(RulesError::BadPattern { why, .. }) => Some(why),
                Err(error) => panic!("{error}"),
                Ok(_) => None,
            }
        };
        for ours in [
            "#",
            "+/x",
            "+",
            "keys/%u",
            "inbox/#",
            "inbox",
            "$SYS/#",
            "$share/g/home/x",
        ] {
            assert_eq!(pattern(ours), Some(PatternError::Ours), "{ours}");
        }
        assert_eq!(pattern("home/%c"), Some(PatternError::BadPlaceholder));
        assert_eq!(
            pattern("home/a#"),
            Some(PatternError::BadFilter(TopicNameError::MisplacedWildcard))
        );
        // Not even through the name of a user.
        assert_eq!(pattern("%u/#"), None);
        let text = "[[rules]]\nusers = [\"*\"]\npublish = [\"%u/#\"]\nsubscribe = [\"%u/#\"]";
        let rules = rules(text).unwrap();
        assert!(rules.permit_publish(&user("alice"), "alice/x", false));
        for name in ["keys", "inbox"] {
            assert!(!rules.permit_publish(&user(name), &format!("{name}/x"), false));
            assert!(!rules.permit_subscribe(&user(name), &format!("{name}/#")));
        }
    }

    #[test]
    fn the_sample_file_is_one() {
        let rules = rules(include_str!("../../../config/rules.toml")).unwrap();
        assert!(rules.permit_publish(&user("sensor-1"), "home/sensor-1/celsius", true));
        assert!(rules.permit_subscribe(&user("alice"), "home/#"));
    }

    #[test]
    fn a_bad_file_is_refused_with_what_is_wrong() {
        for (text, named) in [
            ("[[rules]]\nusers = [\"a\"]\npublsh = []", "publsh"),
            ("[[rule]]\nusers = [\"a\"]", "rule"),
            ("[[rules]]\npublish = [\"x\"]", "users"),
            ("[[rules]]\nusers = [\"Alice\"]", "Alice"),
            ("[[rules]]\nusers = [\"a*b\"]", "a*b"),
            ("rules = 7", "rules"),
            ("[[rules", "rules.toml"),
        ] {
            let error = rules(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(rules("").unwrap().is_empty());
        assert!(matches!(
            Rules::read(Path::new("/nonexistent/rules.toml")),
            Err(RulesError::Io { .. })
        ));
    }
}
