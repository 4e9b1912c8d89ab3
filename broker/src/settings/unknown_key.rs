//! What an operator is told of keys that there are not: where they are, and which one was meant.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::layers::PREFIX;
use super::{
    Limits, Shutdown, Spelled, SpelledAudit, SpelledKeyHolder, SpelledMetrics, SpelledTls,
};
use crate::allowance::{AddressLimits, UserLimits};

/// Keys that there are not: all that were found, those of a file in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(pub Vec<UnknownKey>);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, key) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{key}")?;
        }
        Ok(())
    }
}

/// A key that there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownKey {
    /// In a file.
    InFile {
        /// Which file.
        file: PathBuf,
        /// In which line, from 1 on.
        line: usize,
        /// The table that it was in; empty at the top.
        table: String,
        /// The key.
        key: String,
        /// What was meant, perhaps.
        meant: Option<Meant>,
    },
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: String,
        /// What was meant, perhaps.
        meant: Option<MeantVariable>,
    },
}

/// What was meant, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// A key of the same table that is spelled much alike.
    Key(String),
    /// The key of the same name in that table (empty: at the top).
    Table(String),
}

/// What was meant by a variable, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeantVariable {
    /// Another one.
    Variable(String),
    /// What the environment cannot say.
    FileOnly,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnknownKey::InFile {
                file,
                line,
                table,
                key,
                meant,
            } => {
                write!(f, "{}:{line}: there is no key {key:?}", file.display())?;
                if !table.is_empty() {
                    write!(f, " in {table}")?;
                }
                match meant {
                    Some(Meant::Key(key)) => write!(f, ": did you mean {key:?}?"),
                    Some(Meant::Table(table)) if table.is_empty() => {
                        write!(f, ": it belongs at the top, before the first [table]")
                    }
                    Some(Meant::Table(table)) if LISTS.contains(&table.as_str()) => {
                        write!(f, ": it belongs in [[{table}]]")
                    }
                    Some(Meant::Table(table)) => write!(f, ": it belongs in [{table}]"),
                    None => Ok(()),
                }
            }
            UnknownKey::Variable { name, meant } => {
                write!(f, "{name} in the environment is no setting")?;
                match meant {
                    Some(MeantVariable::Variable(meant)) => write!(f, ": did you mean {meant}?"),
                    Some(MeantVariable::FileOnly) => {
                        write!(f, ": this can be set only in the file")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// The keys in a file that there are not, in its order. None of a file that is not TOML, which is complained of elsewhere.
pub(super) fn in_file(file: &Path, text: &str) -> Vec<UnknownKey> {
    let Ok(document) = DeTable::parse(text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    look(document.get_ref(), "", &tables(), &mut found);
    found.sort_by_key(|found| found.at);
    let found = found.into_iter().map(
        |Found {
             at,
             table,
             key,
             meant,
         }| {
            let before = text.get(..at).unwrap_or_default();
            UnknownKey::InFile {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                table,
                key,
                meant,
            }
        },
    );
    found.collect()
}

struct Found {
    /// Bytes before it.
    at: usize,
    table: String,
    key: String,
    meant: Option<Meant>,
}

/// Goes down as far as there are tables that are known; the parser bounds how deep they lie.
fn look(
    document: &DeTable<'_>,
    table: &str,
    tables: &[(&str, Vec<String>)],
    found: &mut Vec<Found>,
) {
    let Some((_, known)) = tables.iter().find(|(name, _)| *name == table) else {
        return;
    };
    for (key, value) in document.iter() {
        let name = key.get_ref().as_ref();
        if !known.iter().any(|known| known == name) {
            found.push(Found {
                at: key.span().start,
                table: table.into(),
                key: name.into(),
                meant: meant(name, known, tables),
            });
            continue;
        }
        let inner = match table {
            "" => name.to_owned(),
            table => format!("{table}.{name}"),
        };
        match value.get_ref() {
            DeValue::Table(value) => look(value, &inner, tables, found),
            DeValue::Array(values) => {
                for value in values.iter() {
                    if let DeValue::Table(value) = value.get_ref() {
                        look(value, &inner, tables, found);
                    }
                }
            }
            _ => {}
        }
    }
}

fn meant(key: &str, known: &[String], tables: &[(&str, Vec<String>)]) -> Option<Meant> {
    let elsewhere = tables
        .iter()
        .find(|(_, keys)| keys.iter().any(|known| known == key))
        .map(|(table, _)| Meant::Table((*table).into()));
    let near = || {
        // Two slips in a short key, more in a long one; beyond that it is a guess.
        nearest(key, known, (key.len() / 3).max(2)).map(|near| Meant::Key(near.clone()))
    };
    elsewhere.or_else(near)
}

fn nearest<'a>(word: &str, among: &'a [String], slips: usize) -> Option<&'a String> {
    let near = among
        .iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .min()?;
    (near.0 <= slips).then_some(near.1)
}

/// What variables are called behind the prefix.
pub(super) fn variables() -> Vec<String> {
    let tables = tables();
    let spelled = tables.iter().filter(|(table, _)| !LISTS.contains(table));
    let variables = spelled.flat_map(|(table, keys)| {
        let scalars = keys.iter().filter(|key| {
            let inner = match *table {
                "" => key.as_str().to_owned(),
                table => format!("{table}.{key}"),
            };
            inner != ORIGINS && !tables.iter().any(|(table, _)| *table == inner)
        });
        scalars.map(|key| match *table {
            "" => key.to_uppercase(),
            table => format!("{table}.{key}").replace('.', "__").to_uppercase(),
        })
    });
    variables.collect()
}

/// A variable that is not one of those: none if it is somebody else's. An orchestrator sets `SEALPOST_BROKER_PORT`,
/// `…_PORT_1883_TCP` and `…_SERVICE_HOST` for a service of that name.
pub(super) fn in_environment(key: &str, known: &[String]) -> Option<UnknownKey> {
    if key == "PORT" || key.starts_with("PORT_") || key.starts_with("SERVICE_") {
        return None;
    }
    let lower = key.to_lowercase();
    let file_only = keys::<Spelled>()
        .contains(&lower)
        .then_some(MeantVariable::FileOnly);
    let last = |known: &&String| known.rsplit("__").next() == Some(key);
    let near = || {
        let plain = key.replace("__", "_");
        let mut near = known
            .iter()
            .map(|known| {
                (
                    strsim::damerau_levenshtein(&plain, &known.replace("__", "_")),
                    known,
                )
            })
            .collect::<Vec<_>>();
        near.sort();
        // Whoever means another program's by it is not to be kept from starting.
        let (slips, near) = *near.first()?;
        (slips <= (key.len() / 4).max(1)).then_some(near)
    };
    let meant = file_only.or_else(|| {
        let meant = known.iter().find(last).or_else(near)?;
        Some(MeantVariable::Variable(format!("{PREFIX}{meant}")))
    });
    // Nobody else's have two underscores.
    (meant.is_some() || key.contains("__")).then(|| UnknownKey::Variable {
        name: format!("{PREFIX}{key}"),
        meant,
    })
}

/// Tables of which there may be several.
const LISTS: [&str; 2] = ["archivers", "operators"];

/// A list of words, which a variable cannot hold.
const ORIGINS: &str = "origins";

/// Every table and its keys, as serde knows them.
fn tables() -> [(&'static str, Vec<String>); 10] {
    [
        ("", keys::<Spelled>()),
        ("limits", keys::<Limits>()),
        ("limits.address", keys::<AddressLimits>()),
        ("limits.user", keys::<UserLimits>()),
        ("tls", keys::<SpelledTls>()),
        ("audit", keys::<SpelledAudit>()),
        ("metrics", keys::<SpelledMetrics>()),
        ("shutdown", keys::<Shutdown>()),
        ("archivers", keys::<SpelledKeyHolder>()),
        ("operators", keys::<SpelledKeyHolder>()),
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

/// Words between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_lists_its_keys() {
        for (table, keys) in tables() {
            assert!(keys.len() > 1, "{table}: {keys:?}");
        }
        assert!(keys::<Limits>().contains(&"hold".to_owned()));
        assert_eq!(keys::<SpelledKeyHolder>(), ["name", "key"]);
    }

    #[test]
    fn every_setting_but_lists_and_tables_has_its_variable() {
        let variables = variables();
        for name in [
            "REALM",
            "DATA",
            "LIMITS__HOLD",
            "LIMITS__USER__BYTES",
            "TLS__KEY",
        ] {
            assert!(variables.iter().any(|known| known == name), "{name}");
        }
        for name in [
            "LIMITS",
            "ORIGINS",
            "ARCHIVERS",
            "ARCHIVERS__NAME",
            "LIMITS__USER",
        ] {
            assert!(!variables.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn all_are_told_at_once_in_the_order_of_the_file_with_their_lines() {
        let text = "\
relam = \"x\"   # a slip

[tls]
certifcate = \"c\"
key = \"k\"
[[archivers]]
name = \"a\"
kye = \"k\"
[limits]
realm = \"y\"
address.conects = 3
hold = 3
[limits.user]
brew_coffee = true
[limts]
hold = 3
";
        let found = Unknown(in_file(Path::new("b.toml"), text));
        assert_eq!(
            found.to_string(),
            "b.toml:1: there is no key \"relam\": did you mean \"realm\"?\n\
             b.toml:4: there is no key \"certifcate\" in tls: did you mean \"certificate\"?\n\
             b.toml:8: there is no key \"kye\" in archivers: did you mean \"key\"?\n\
             b.toml:10: there is no key \"realm\" in limits: it belongs at the top, before the first [table]\n\
             b.toml:11: there is no key \"conects\" in limits.address: did you mean \"connects\"?\n\
             b.toml:14: there is no key \"brew_coffee\" in limits.user\n\
             b.toml:15: there is no key \"limts\": did you mean \"limits\"?"
        );
    }
}
