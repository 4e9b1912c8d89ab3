//! Settings: a flag wins over the environment, the environment over the file, the file over the
//! default.

use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Environment, File, FileFormat};
use sealpost_core::{Realm, UserId};
use serde::Deserialize;

use crate::broker_address::BrokerAddress;
use crate::cli::{DirArgs, RunArgs};

/// What the environment's variables begin with.
const PREFIX: &str = "SEALPOST_ARCHIVER";

/// The variable that names the settings file. It is not itself a setting.
const CONFIG_VARIABLE: &str = "config";

/// Every setting there is.
const KNOWN: [&str; 6] = ["broker", "dir", "realm", "name", "dedupe_window", "log"];

/// The fewest messages to remember: as many as can be on the way without an acknowledgement, for
/// those come again.
const MIN_DEDUPE_WINDOW: u32 = 65_535;

/// The most messages to remember: 32 bytes each and the index make about 5 GB.
const MAX_DEDUPE_WINDOW: u32 = 100_000_000;

/// Settings of an archiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The archive's directory.
    pub dir: PathBuf,
    /// The broker; needed by `run` alone.
    pub broker: Option<BrokerAddress>,
    /// The realm that logins are made for.
    pub realm: Realm,
    /// The name under which the broker knows this archiver.
    pub name: UserId,
    /// How many of the last messages are known again when they come twice.
    pub dedupe_window: u32,
    /// What to log: a filter such as `info` or `sealpost_archiver=debug`.
    pub log: String,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A source could not be read, or a value has the wrong type.
    #[error("{0}")]
    Source(#[from] ConfigError),
    /// There is no such setting.
    #[error("there is no setting {setting:?} ({source_name})")]
    Unknown {
        /// What was set.
        setting: String,
        /// Where.
        source_name: String,
    },
    /// A setting without default was not given.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A value makes no sense.
    #[error("{setting} cannot be used: {reason}")]
    Invalid {
        /// Which setting.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl SettingsError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            SettingsError::Unknown { .. } => format!("the settings are {}", KNOWN.join(", ")),
            SettingsError::Missing(setting) => {
                format!(
                    "give --{setting}, or set {PREFIX}_{} or {setting} in the settings file",
                    setting.to_uppercase()
                )
            }
            SettingsError::Source(_) | SettingsError::Invalid { .. } => {
                "`sealpost-archiver run --help` and config/archiver.toml describe the settings"
                    .to_owned()
            }
        }
    }
}

#[derive(Deserialize)]
struct Values {
    dir: Option<PathBuf>,
    broker: Option<String>,
    realm: String,
    name: String,
    dedupe_window: u32,
    log: String,
}

impl Settings {
    /// Gathers the settings from flags, the process's environment, the file that `flags` names, and
    /// the defaults.
    pub fn gather(flags: &RunArgs) -> Result<Settings, SettingsError> {
        Settings::gather_from(flags, Environment::with_prefix(PREFIX))
    }

    /// As [`Settings::gather`], for commands that only need the directory.
    pub fn gather_for_dir(flags: &DirArgs) -> Result<Settings, SettingsError> {
        let DirArgs { dir, config } = flags;
        Settings::gather(&RunArgs {
            dir: DirArgs {
                dir: dir.clone(),
                config: config.clone(),
            },
            ..RunArgs::default()
        })
    }

    fn gather_from(flags: &RunArgs, environment: Environment) -> Result<Settings, SettingsError> {
        let mut builder = Config::builder()
            .set_default("realm", Realm::default().as_str())?
            .set_default("name", "archiver")?
            .set_default("dedupe_window", 1_000_000)?
            .set_default("log", "info")?;
        if let Some(path) = &flags.dir.config {
            let file = File::from(path.as_path()).format(FileFormat::Toml);
            refuse_unknown(
                Config::builder().add_source(file.clone()).build()?,
                &path.display().to_string(),
                &[],
            )?;
            builder = builder.add_source(file);
        }
        let environment = environment.prefix_separator("_").try_parsing(true);
        let in_environment = Config::builder().add_source(environment.clone()).build()?;
        refuse_unknown(
            in_environment,
            &format!("{PREFIX}_… in the environment"),
            &[CONFIG_VARIABLE],
        )?;
        let values: Values = builder
            .add_source(environment)
            .set_override_option("dir", flags.dir.dir.as_deref().map(path_text).transpose()?)?
            .set_override_option("broker", flags.broker.clone())?
            .set_override_option("realm", flags.realm.clone())?
            .set_override_option("name", flags.name.clone())?
            .build()?
            .try_deserialize()?;
        values.check()
    }

    /// The broker, which `run` cannot do without.
    pub fn broker(&self) -> Result<&BrokerAddress, SettingsError> {
        self.broker.as_ref().ok_or(SettingsError::Missing("broker"))
    }
}

impl Values {
    fn check(self) -> Result<Settings, SettingsError> {
        let dir = self
            .dir
            .filter(|dir| !dir.as_os_str().is_empty())
            .ok_or(SettingsError::Missing("dir"))?;
        let broker = self.broker.map(|broker| broker.parse()).transpose();
        if !(MIN_DEDUPE_WINDOW..=MAX_DEDUPE_WINDOW).contains(&self.dedupe_window) {
            let reason = format!("it must be from {MIN_DEDUPE_WINDOW} to {MAX_DEDUPE_WINDOW}");
            return Err(SettingsError::Invalid {
                setting: "dedupe_window",
                reason,
            });
        }
        Ok(Settings {
            dir,
            broker: broker.map_err(|error| invalid("broker", &error))?,
            realm: Realm::parse(&self.realm).map_err(|error| invalid("realm", &error))?,
            name: UserId::parse(&self.name).map_err(|error| invalid("name", &error))?,
            dedupe_window: self.dedupe_window,
            log: self.log,
        })
    }
}

fn invalid(setting: &'static str, reason: &dyn std::fmt::Display) -> SettingsError {
    SettingsError::Invalid {
        setting,
        reason: reason.to_string(),
    }
}

fn path_text(path: &Path) -> Result<&str, SettingsError> {
    path.to_str().ok_or(SettingsError::Invalid {
        setting: "dir",
        reason: "it is not UTF-8".to_owned(),
    })
}

fn refuse_unknown(
    source: Config,
    source_name: &str,
    also_known: &[&str],
) -> Result<(), SettingsError> {
    let table = source.cache.into_table()?;
    match table
        .into_keys()
        .find(|key| !KNOWN.contains(&key.as_str()) && !also_known.contains(&key.as_str()))
    {
        None => Ok(()),
        Some(setting) => Err(SettingsError::Unknown {
            setting,
            source_name: source_name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Environment::with_prefix(PREFIX).source(Some(variables.collect::<HashMap<_, _>>()))
    }

    fn flags(dir: Option<&str>, config: Option<&Path>) -> RunArgs {
        let dir = DirArgs {
            dir: dir.map(PathBuf::from),
            config: config.map(Path::to_owned),
        };
        RunArgs {
            dir,
            ..RunArgs::default()
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("archiver.toml");
        fs::write(
            &file,
            "dir = \"from-file\"\nrealm = \"file\"\nname = \"file\"\ndedupe_window = 70000\n",
        )
        .unwrap();
        let environment = environment(&[
            ("SEALPOST_ARCHIVER_REALM", "environment"),
            ("SEALPOST_ARCHIVER_NAME", "environment"),
            ("SEALPOST_ARCHIVER_CONFIG", "not looked at here"),
            ("UNRELATED", "x"),
        ]);
        let mut flags = flags(None, Some(&file));
        flags.name = Some("flag".to_owned());
        let settings = Settings::gather_from(&flags, environment).unwrap();
        assert_eq!(settings.name.as_str(), "flag");
        assert_eq!(settings.realm.as_str(), "environment");
        assert_eq!(settings.dir, Path::new("from-file"));
        assert_eq!(settings.dedupe_window, 70_000);
        assert_eq!(settings.log, "info");
        assert!(matches!(
            settings.broker(),
            Err(SettingsError::Missing("broker"))
        ));
    }

    #[test]
    fn unknown_settings_are_refused_wherever_they_stand() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("archiver.toml");
        fs::write(&file, "brokr = \"mqtt://localhost\"\n").unwrap();
        let error =
            Settings::gather_from(&flags(Some("d"), Some(&file)), environment(&[])).unwrap_err();
        assert!(
            matches!(&error, SettingsError::Unknown { setting, .. } if setting == "brokr"),
            "{error}"
        );
        assert!(error.hint().contains("broker, dir"));

        let environment = environment(&[("SEALPOST_ARCHIVER_BROKR", "x")]);
        let error = Settings::gather_from(&flags(Some("d"), None), environment).unwrap_err();
        assert!(
            matches!(&error, SettingsError::Unknown { setting, .. } if setting == "brokr"),
            "{error}"
        );
    }

    #[test]
    fn values_without_sense_are_refused_by_name() {
        for (variable, value, expected) in [
            ("SEALPOST_ARCHIVER_BROKER", "localhost", "broker"),
            ("SEALPOST_ARCHIVER_REALM", "Not A Realm", "realm"),
            ("SEALPOST_ARCHIVER_NAME", "Archiver", "name"),
            ("SEALPOST_ARCHIVER_DEDUPE_WINDOW", "1", "dedupe_window"),
        ] {
            let error =
                Settings::gather_from(&flags(Some("d"), None), environment(&[(variable, value)]))
                    .unwrap_err();
            assert!(
                matches!(error, SettingsError::Invalid { setting, .. } if setting == expected),
                "{variable}: {error}"
            );
        }
        let error = Settings::gather_from(&flags(None, None), environment(&[])).unwrap_err();
        assert!(matches!(error, SettingsError::Missing("dir")));
    }

    #[test]
    fn the_shipped_file_is_accepted_and_changes_nothing() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/archiver.toml");
        let with =
            Settings::gather_from(&flags(Some("d"), Some(&shipped)), environment(&[])).unwrap();
        let without = Settings::gather_from(&flags(Some("d"), None), environment(&[])).unwrap();
        assert_eq!(with, without);
        let text = fs::read_to_string(&shipped).unwrap();
        for setting in KNOWN {
            assert!(
                text.contains(&format!("{setting} = ")),
                "{setting} is not described"
            );
        }
    }
}
