//! Settings: a flag wins over the environment, the environment over the file, the file over the
//! default.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Environment, File, FileFormat};
use sealpost_core::{Realm, UserId};
use sealpost_mqtt::{Route, RouteOptions, RouteOptionsError};
use serde::Deserialize;

use crate::administration::Retention;
use crate::cli::{BrokerArgs, DirArgs, RunArgs};
use crate::share_name::ShareName;
use crate::writer::Full;

/// What the environment's variables begin with.
const PREFIX: &str = "SEALPOST_ARCHIVER";

/// The variable that names the settings file. It is not itself a setting.
const CONFIG_VARIABLE: &str = "config";

/// Every setting there is.
const KNOWN: [&str; 21] = [
    "broker",
    "ca",
    "client_cert",
    "client_key",
    "password_file",
    "proxy",
    "dir",
    "realm",
    "name",
    "share",
    "check_signatures",
    "dedupe_window",
    "disk_reserve",
    "segment_bytes",
    "segment_age",
    "keep_days",
    "keep_bytes",
    "metrics",
    "metrics_remote",
    "log",
    "log_format",
];

/// The fewest messages to remember: as many as can be on the way without an acknowledgement, for
/// those come again.
const MIN_DEDUPE_WINDOW: u32 = 65_535;

/// The most messages to remember: 32 bytes each and the index make about 5 GB.
const MAX_DEDUPE_WINDOW: u32 = 100_000_000;

/// How much of the disk stays free, in bytes: as with the broker. What is on the way (64 MiB), tiles and checkpoints fit in it.
const DEFAULT_DISK_RESERVE: u64 = 256 << 20;

/// How long the active file becomes, in bytes: 200,000 lines or so, which take two seconds to seal.
const DEFAULT_SEGMENT_BYTES: u64 = 256 << 20;

/// Shorter segments than of 1 KiB are nothing but names.
const MIN_SEGMENT_BYTES: u64 = 1 << 10;

/// The manifest of a longer one would have too many frames.
const MAX_SEGMENT_BYTES: u64 = 64 << 30;

/// How old the active file becomes, in seconds: a day.
const DEFAULT_SEGMENT_AGE: u64 = 86_400;

/// Age is looked at every ten seconds.
const MIN_SEGMENT_AGE: u64 = 60;

/// Ten years.
const MAX_SEGMENT_AGE: u64 = 3_652 * 86_400;

/// A century.
const MAX_KEEP_DAYS: u64 = 36_525;

/// Settings of an archiver.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The archive's directory.
    pub dir: PathBuf,
    /// The broker, and the ways to it; needed by `run` alone.
    pub broker: Option<Route>,
    /// The file with the password at the broker; without it, the identity key logs in.
    pub password_file: Option<PathBuf>,
    /// The realm that logins are made for.
    pub realm: Realm,
    /// The name under which the broker knows this archiver.
    pub name: UserId,
    /// The group of archivers that share the inboxes; `None` to have them all.
    pub share: Option<ShareName>,
    /// Whether each envelope's signature is checked against the key history.
    pub check_signatures: bool,
    /// How many of the last messages are known again when they come twice.
    pub dedupe_window: u32,
    /// How many bytes of the disk are to stay free.
    pub disk_reserve: u64,
    /// When an active file is sealed.
    pub full: Full,
    /// How long messages are kept.
    pub retention: Retention,
    /// Where metrics and health are served, if at all.
    pub metrics: Option<SocketAddr>,
    /// What to log: a filter such as `info` or `sealpost_archiver=debug`.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
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

/// A text or an array of texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
struct Values {
    dir: Option<PathBuf>,
    broker: Option<OneOrMore>,
    ca: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    password_file: Option<PathBuf>,
    proxy: Option<String>,
    realm: String,
    name: String,
    share: Option<String>,
    check_signatures: bool,
    dedupe_window: u32,
    disk_reserve: u64,
    segment_bytes: u64,
    segment_age: u64,
    keep_days: Option<u64>,
    keep_bytes: Option<u64>,
    metrics: Option<String>,
    metrics_remote: bool,
    log: String,
    log_format: LogFormat,
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

    /// As [`Settings::gather`], for commands that need the directory and the broker.
    pub fn gather_for_broker(
        dir: &DirArgs,
        broker: &BrokerArgs,
    ) -> Result<Settings, SettingsError> {
        Settings::gather(&RunArgs {
            dir: dir.clone(),
            broker: broker.clone(),
            ..RunArgs::default()
        })
    }

    fn gather_from(flags: &RunArgs, environment: Environment) -> Result<Settings, SettingsError> {
        let mut builder = Config::builder()
            .set_default("realm", Realm::default().as_str())?
            .set_default("name", "archiver")?
            .set_default("check_signatures", false)?
            .set_default("dedupe_window", 1_000_000)?
            .set_default("disk_reserve", DEFAULT_DISK_RESERVE)?
            .set_default("segment_bytes", DEFAULT_SEGMENT_BYTES)?
            .set_default("segment_age", DEFAULT_SEGMENT_AGE)?
            .set_default("metrics_remote", false)?
            .set_default("log", "info")?
            .set_default("log_format", "text")?;
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
            in_environment.clone(),
            &format!("{PREFIX}_… in the environment"),
            &[CONFIG_VARIABLE],
        )?;
        let brokers = (!flags.broker.broker.is_empty()).then(|| flags.broker.broker.clone());
        let mut values: Values = builder
            .add_source(environment)
            .set_override_option("dir", flags.dir.dir.as_deref().map(path_text).transpose()?)?
            .set_override_option("broker", brokers)?
            .set_override_option("proxy", flags.broker.proxy.clone())?
            .set_override_option("realm", flags.broker.realm.clone())?
            .set_override_option("name", flags.name.clone())?
            .set_override_option("share", flags.share.clone())?
            .build()?
            .try_deserialize()?;
        // A path in the file lies beside the file.
        let folder = flags.dir.config.as_deref().and_then(Path::parent);
        let certificate = |setting, flag: &Option<PathBuf>, value: &mut Option<PathBuf>| {
            if flag.is_some() {
                value.clone_from(flag);
            } else if in_environment.get_string(setting).is_err()
                && let (Some(folder), Some(path)) = (folder, value)
            {
                *path = folder.join(&path);
            }
        };
        certificate("ca", &flags.broker.ca, &mut values.ca);
        certificate(
            "client_cert",
            &flags.broker.client_cert,
            &mut values.client_cert,
        );
        certificate(
            "client_key",
            &flags.broker.client_key,
            &mut values.client_key,
        );
        certificate(
            "password_file",
            &flags.broker.password_file,
            &mut values.password_file,
        );
        values.check()
    }

    /// The broker, which `run` cannot do without.
    pub fn broker(&self) -> Result<&Route, SettingsError> {
        self.broker.as_ref().ok_or(SettingsError::Missing("broker"))
    }
}

impl Values {
    fn check(self) -> Result<Settings, SettingsError> {
        let dir = self
            .dir
            .filter(|dir| !dir.as_os_str().is_empty())
            .ok_or(SettingsError::Missing("dir"))?;
        let options = RouteOptions {
            brokers: match self.broker {
                None => Vec::new(),
                Some(OneOrMore::One(text)) => vec![text],
                Some(OneOrMore::More(texts)) => texts,
            },
            ca: self.ca,
            client_cert: self.client_cert,
            client_key: self.client_key,
            proxy: self.proxy,
        };
        let broker = match options.parse() {
            Ok(route) => Some(route),
            Err(RouteOptionsError::NoBroker) => None,
            Err(error) => {
                let setting = match &error {
                    RouteOptionsError::Proxy(_) => "proxy",
                    RouteOptionsError::HalfACertificate => "client_cert",
                    _ => "broker",
                };
                return Err(invalid(setting, &error));
            }
        };
        if !(MIN_DEDUPE_WINDOW..=MAX_DEDUPE_WINDOW).contains(&self.dedupe_window) {
            let reason = format!("it must be from {MIN_DEDUPE_WINDOW} to {MAX_DEDUPE_WINDOW}");
            return Err(SettingsError::Invalid {
                setting: "dedupe_window",
                reason,
            });
        }
        within(
            "segment_bytes",
            self.segment_bytes,
            MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES,
        )?;
        within(
            "segment_age",
            self.segment_age,
            MIN_SEGMENT_AGE..=MAX_SEGMENT_AGE,
        )?;
        if let Some(days) = self.keep_days {
            within("keep_days", days, 1..=MAX_KEEP_DAYS)?;
        }
        Ok(Settings {
            dir,
            broker,
            password_file: self.password_file,
            realm: Realm::parse(&self.realm).map_err(|error| invalid("realm", &error))?,
            name: UserId::parse(&self.name).map_err(|error| invalid("name", &error))?,
            share: self
                .share
                .map(|name| ShareName::parse(&name).map_err(|error| invalid("share", &error)))
                .transpose()?,
            check_signatures: self.check_signatures,
            dedupe_window: self.dedupe_window,
            disk_reserve: self.disk_reserve,
            full: Full {
                bytes: self.segment_bytes,
                age: self.segment_age * 1000,
            },
            retention: Retention {
                days: self.keep_days,
                bytes: self.keep_bytes,
            },
            metrics: metrics_address(self.metrics.as_deref(), self.metrics_remote)?,
            log: self.log,
            log_format: self.log_format,
        })
    }
}

fn within(
    setting: &'static str,
    value: u64,
    range: RangeInclusive<u64>,
) -> Result<(), SettingsError> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("it must be from {} to {}", range.start(), range.end());
    Err(SettingsError::Invalid { setting, reason })
}

/// Where metrics are served. Beyond this machine only if that is asked for: they ask nobody who they are.
fn metrics_address(text: Option<&str>, remote: bool) -> Result<Option<SocketAddr>, SettingsError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let address: SocketAddr = text.parse().map_err(|_| {
        invalid(
            "metrics",
            &"it must be an address and a port, as 127.0.0.1:9465",
        )
    })?;
    if !address.ip().is_loopback() && !remote {
        let reason = "it can be reached from other machines, and metrics ask nobody who they are; set metrics_remote = true if that is meant";
        return Err(invalid("metrics", &reason));
    }
    Ok(Some(address))
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
    fn the_ways_to_the_broker_come_from_flags_the_environment_and_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("archiver.toml");
        fs::write(
            &file,
            "broker = [\"mqtts://a\", \"wss://b\"]\nca = \"ca.pem\"\nclient_cert = \"c.pem\"\nclient_key = \"c.key\"\n",
        )
        .unwrap();
        let gather = |flags: &RunArgs, variables: &[(&str, &str)]| {
            Settings::gather_from(flags, environment(variables)).unwrap()
        };
        let mut flags = flags(Some("d"), Some(&file));
        let settings = gather(&flags, &[("SEALPOST_ARCHIVER_CLIENT_KEY", "e.key")]);
        let route = settings.broker().unwrap();
        assert_eq!(route.to_string(), "mqtts://a:8883,wss://b:443/mqtt");
        let tls = route.tls_files();
        assert_eq!(
            tls.ca,
            Some(directory.path().join("ca.pem")),
            "beside the file"
        );
        assert_eq!(tls.client.as_ref().unwrap().key, Path::new("e.key"));

        flags.broker.broker = vec!["mqtts://c".to_owned(), "mqtts://d".to_owned()];
        flags.broker.ca = Some("f.pem".into());
        let settings = gather(&flags, &[("SEALPOST_ARCHIVER_BROKER", "mqtts://e")]);
        let route = settings.broker().unwrap();
        assert_eq!(route.to_string(), "mqtts://c:8883,mqtts://d:8883");
        assert_eq!(route.tls_files().ca, Some("f.pem".into()));
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
        assert!(error.hint().contains("broker, ca"));

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
            ("SEALPOST_ARCHIVER_PROXY", "ftp://h", "proxy"),
            ("SEALPOST_ARCHIVER_REALM", "Not A Realm", "realm"),
            ("SEALPOST_ARCHIVER_NAME", "Archiver", "name"),
            ("SEALPOST_ARCHIVER_DEDUPE_WINDOW", "1", "dedupe_window"),
            ("SEALPOST_ARCHIVER_SEGMENT_BYTES", "1023", "segment_bytes"),
            ("SEALPOST_ARCHIVER_SEGMENT_AGE", "59", "segment_age"),
            ("SEALPOST_ARCHIVER_KEEP_DAYS", "0", "keep_days"),
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
        assert_eq!(format!("{with:?}"), format!("{without:?}"));
        let text = fs::read_to_string(&shipped).unwrap();
        for setting in KNOWN {
            assert!(
                text.contains(&format!("{setting} = ")),
                "{setting} is not described"
            );
        }
    }
}
