//! What an operator is told of a key that there is not: which one was meant.

use std::fmt;

use serde::de::DeserializeOwned;

use super::{Limits, Shutdown, Spelled, SpelledAudit, SpelledMetrics, SpelledTls};
use crate::allowance::{AddressLimits, UserLimits};

/// A key that there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The table that it was in; empty at the top.
    pub table: String,
    /// The key.
    pub key: String,
    /// What was meant, perhaps.
    pub meant: Option<Meant>,
}

/// What was meant, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// A key of the same table that is spelled much alike.
    Key(String),
    /// The key of the same name in that table (empty: at the top).
    Table(String),
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table.as_str() {
            "" => write!(f, "there is no key {:?}", self.key)?,
            table => write!(f, "there is no key {:?} in {table}", self.key)?,
        }
        match &self.meant {
            Some(Meant::Key(key)) => write!(f, ": did you mean {key:?}?"),
            Some(Meant::Table(table)) if table.is_empty() => {
                write!(f, ": it belongs at the top, before the first [table]")
            }
            Some(Meant::Table(table)) => write!(f, ": it belongs in [{table}]"),
            None => Ok(()),
        }
    }
}

impl UnknownKey {
    /// Reads what serde says of a field that it does not know: the field, and those it does.
    pub(super) fn found_in(text: &str) -> Option<UnknownKey> {
        let (_, rest) = text.split_once("unknown field `")?;
        let (key, rest) = rest.split_once('`')?;
        let (known, place) = match rest.split_once(" for key `") {
            Some((known, place)) => (known, place.split('`').next().unwrap_or_default()),
            None => (rest, ""),
        };
        let known = quoted(known);
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(key, known), known))
            .min();
        // Two slips in a short key, more in a long one; beyond that it is a guess.
        let near = nearest.filter(|(slips, _)| *slips <= (key.len() / 3).max(2));
        let elsewhere = || {
            let mut tables = tables().into_iter();
            tables.find_map(|(table, keys)| keys.iter().any(|known| known == key).then_some(table))
        };
        let meant = elsewhere()
            .map(|table| Meant::Table(table.into()))
            .or_else(|| near.map(|(_, nearest)| Meant::Key(nearest.clone())));
        Some(UnknownKey {
            table: place.into(),
            key: key.into(),
            meant,
        })
    }
}

/// Words between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Every table and its keys, as serde knows them.
fn tables() -> [(&'static str, Vec<String>); 8] {
    [
        ("", keys::<Spelled>()),
        ("limits", keys::<Limits>()),
        ("limits.address", keys::<AddressLimits>()),
        ("limits.user", keys::<UserLimits>()),
        ("tls", keys::<SpelledTls>()),
        ("audit", keys::<SpelledAudit>()),
        ("metrics", keys::<SpelledMetrics>()),
        ("shutdown", keys::<Shutdown>()),
    ]
}

/// The keys of a table: serde lists them when it meets one that it does not know.
fn keys<T: DeserializeOwned>() -> Vec<String> {
    let strange = config::Config::builder().set_override("-", true);
    let read = strange
        .and_then(|strange| strange.build())
        .map(config::Config::try_deserialize::<T>);
    match read {
        Ok(Err(error)) => {
            let text = error.to_string();
            let (_, known) = text.split_once("expected").unwrap_or_default();
            quoted(known)
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SpelledKeyHolder;
    use super::*;

    #[test]
    fn every_table_lists_its_keys() {
        for (table, keys) in tables() {
            assert!(keys.len() > 1, "{table}: {keys:?}");
        }
        assert!(keys::<Limits>().contains(&"hold".to_owned()));
        assert_eq!(keys::<SpelledKeyHolder>(), ["name", "key"]);
    }
}
