//! Settings: a flag wins over the environment, the environment over the file, the file over the default.

mod chat;
mod device;

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, ConfigError, FileFormat};
use sealpost_core::{Invitation, NameError, NotAnInvitation, Realm, UserId};
use sealpost_mqtt::{Route, RouteOptions, RouteOptionsError};
use serde::Deserialize;

use crate::cli::{Global, parse_duration};
use crate::store::FileRules;
use crate::trust_policy::TrustPolicy;

pub(crate) use self::chat::CHAT_KEYS;
pub use self::chat::ChatLayer;
pub(crate) use self::device::DEVICE_KEYS;
use self::device::DeviceLayer;
pub use self::device::{
    DEFAULT_GATHER, DEFAULT_RING_BYTES, DEFAULT_RING_READINGS, DeviceFlags, DeviceSettingError,
    DeviceSettings, Lines, Receiver, check_device_environment,
};

/// Where a broker is looked for when nobody says.
pub const DEFAULT_BROKER: &str = "mqtt://127.0.0.1:1883";
/// The deployment's name when nobody says.
pub const DEFAULT_REALM: &str = "local";
/// How long a command waits for a recipient's keys and for the broker's answer when nobody says.
pub const DEFAULT_TIMEOUT: &str = "10s";
/// How old an RSA key becomes when nobody says: who obtains it reads a quarter of a year and not more.
pub const DEFAULT_ROTATE_KEYS_AFTER: &str = "90d";
/// The largest file that is sent or fetched when nobody says.
pub const DEFAULT_MAX_FILE: &str = "1GiB";
/// The largest file that is fetched unasked from accepted contacts when nobody says.
pub const DEFAULT_FETCH_FILES: &str = "64MiB";
/// The oldest that may be asked for, in days: ten years, which is as good as `never`.
const MAX_AGE: u64 = 3_650;
/// A configuration file larger than this (bytes) is not one.
const MAX_FILE: u64 = 65_536;

/// Every key that the file knows.
pub(crate) const KEYS: [&str; 20] = [
    "user",
    "broker",
    "ca",
    "client_cert",
    "client_key",
    "proxy",
    "realm",
    "home",
    "passphrase_command",
    "broker_password_command",
    "timeout",
    "trust",
    "rotate_keys_after",
    "receipts",
    "strangers",
    "max_file",
    "fetch_files",
    "downloads",
    "chat",
    "device",
];

/// Every environment variable that is read, but HOME, which the others spare.
const VARIABLES: [&str; 21] = [
    "SEALPOST_CONFIG",
    "SEALPOST_USER",
    "SEALPOST_BROKER",
    "SEALPOST_CA",
    "SEALPOST_CLIENT_CERT",
    "SEALPOST_CLIENT_KEY",
    "SEALPOST_PROXY",
    "SEALPOST_REALM",
    "SEALPOST_HOME",
    "SEALPOST_PASSPHRASE_COMMAND",
    "SEALPOST_BROKER_PASSWORD_COMMAND",
    "SEALPOST_INVITATION",
    "SEALPOST_TRUST",
    "SEALPOST_ROTATE_KEYS_AFTER",
    "SEALPOST_RECEIPTS",
    "SEALPOST_STRANGERS",
    "SEALPOST_MAX_FILE",
    "SEALPOST_FETCH_FILES",
    "SEALPOST_DOWNLOADS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// What every command needs to know, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who is asking.
    pub user: UserId,
    /// The deployment.
    pub realm: Realm,
    /// The broker, and the ways to it.
    pub broker: Route,
    /// The user's folder.
    pub home: PathBuf,
    /// The configuration file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// A command that prints the passphrase.
    pub passphrase_command: Option<String>,
    /// A command that prints our password at the broker; without it, the identity key logs us in.
    pub broker_password_command: Option<String>,
    /// What lets us claim our name. It is not in the file: it is of use once.
    pub invitation: Option<Invitation>,
    /// How long to wait for keys and answers.
    pub timeout: Duration,
    /// To whom may be sent.
    pub trust: TrustPolicy,
    /// How old an RSA key becomes before it is replaced by itself; `None`: never.
    pub rotate_keys_after: Option<Duration>,
    /// What accepted senders are told of their messages.
    pub receipts: Receipts,
    /// What becomes of mail of who is new; `None`: what suits the command.
    pub strangers: Option<Strangers>,
    /// What is done with files that come, and how large those may be that go.
    pub files: FileRules,
    /// What the file says for the interface that `sealpost` alone opens.
    pub chat: ChatLayer,
    /// What the file says for `sealpost-device`.
    pub(crate) device: DeviceLayer,
}

/// What becomes of mail of somebody new: neither written to, nor verified, nor accepted, nor heard of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// It is shown.
    Accept,
    /// It is kept, and shown when they were let in: `contacts accept`.
    Request,
    /// It is dropped unopened.
    Refuse,
}

/// What senders that we accepted are told of their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receipts {
    /// Nothing. They send again for 30 days what they do not know to have arrived.
    None,
    /// That they arrived.
    Delivered,
    /// That they arrived, and that they were shown.
    Read,
}

impl Receipts {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Receipts::None => "none",
            Receipts::Delivered => "delivered",
            Receipts::Read => "read",
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nobody said who is asking.
    #[error("no user name given")]
    NoUser,
    /// Neither `--home` nor a place to put it by default.
    #[error("no home folder: neither HOME nor XDG_DATA_HOME is set")]
    NoHome,
    /// A variable that would be read is not text.
    #[error("the environment variable {0} is not UTF-8")]
    Environment(&'static str),
    /// The user name is malformed.
    #[error("{name:?} is not a user name: {source}")]
    User {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// The realm is malformed.
    #[error("{name:?} is not a realm: {source}")]
    Realm {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// What is said about the way to the broker makes no sense.
    #[error(transparent)]
    Route(#[from] RouteOptionsError),
    /// The timeout is malformed.
    #[error("{text:?} is not a timeout: {problem}")]
    Timeout {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The age at which keys are replaced is malformed.
    #[error("{text:?} is not an age of keys")]
    Age {
        /// What was given.
        text: String,
    },
    /// A size of files is malformed.
    #[error("{text:?} is not a size of files")]
    Size {
        /// What was given.
        text: String,
    },
    /// The invitation is none. What was given is not repeated: it may be nearly one.
    #[error("the invitation is malformed: {0}")]
    Invitation(#[from] NotAnInvitation),
    /// A named file is not there or cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("the configuration file {path} is wrong: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        problem: String,
    },
    /// The file has a key that nothing reads.
    #[error("the configuration file {path} has the unknown key {key:?}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A variable that nothing reads.
    #[error("the environment variable {name} is unknown")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// The known variable that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A setting of `sealpost-device`.
    #[error(transparent)]
    Device(#[from] DeviceSettingError),
}

/// The file, and after layering everything, all optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    user: Option<String>,
    broker: Option<OneOrMore>,
    ca: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    proxy: Option<String>,
    realm: Option<String>,
    home: Option<PathBuf>,
    passphrase_command: Option<String>,
    broker_password_command: Option<String>,
    timeout: Option<String>,
    trust: Option<TrustPolicy>,
    rotate_keys_after: Option<String>,
    receipts: Option<Receipts>,
    strangers: Option<Strangers>,
    max_file: Option<String>,
    fetch_files: Option<String>,
    downloads: Option<PathBuf>,
    chat: Option<ChatLayer>,
    device: Option<DeviceLayer>,
}

/// A text or an array of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

/// The environment, as a function, so that tests bring their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment; an empty variable counts as not set.
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Refuses an environment in which a setting is there and not text: to pass over it would mean another home.
pub fn check_environment() -> Result<(), SettingsError> {
    check_environment_of(&VARIABLES)
}

fn check_environment_of(variables: &[&'static str]) -> Result<(), SettingsError> {
    match variables
        .iter()
        .find(|name| matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_))))
    {
        Some(&name) => Err(SettingsError::Environment(name)),
        None => Ok(()),
    }
}

impl Settings {
    /// Puts the layers together. The file is read when it was named or exists at its default place.
    pub fn load(flags: &Global, environment: Environment<'_>) -> Result<Settings, SettingsError> {
        let named = flags
            .config
            .clone()
            .or_else(|| environment("SEALPOST_CONFIG").map(PathBuf::from));
        let file = match &named {
            Some(path) => Some((path.clone(), read(path)?)),
            None => match default_file(environment) {
                Some(path) if path.exists() => {
                    let text = read(&path)?;
                    Some((path, text))
                }
                _ => None,
            },
        };
        let file = file
            .as_ref()
            .map(|(path, text)| (path.as_path(), text.as_str()));
        Settings::layer(flags, environment, file)
    }

    fn layer(
        flags: &Global,
        environment: Environment<'_>,
        file: Option<(&Path, &str)>,
    ) -> Result<Settings, SettingsError> {
        if let Some((path, text)) = file {
            check_file(path, text)?;
        }
        let path = file.map_or_else(PathBuf::new, |(path, _)| path.to_owned());
        let flag_or_environment = |flag: Option<String>, name| flag.or_else(|| environment(name));
        let mut merged = Config::builder()
            .set_default("broker", DEFAULT_BROKER)
            .and_then(|b| b.set_default("realm", DEFAULT_REALM))
            .and_then(|b| b.set_default("timeout", DEFAULT_TIMEOUT))
            .map(|b| match file {
                Some((_, text)) => b.add_source(config::File::from_str(text, FileFormat::Toml)),
                None => b,
            })
            .and_then(|b| {
                b.set_override_option(
                    "user",
                    flag_or_environment(flags.user.clone(), "SEALPOST_USER"),
                )
            })
            .and_then(|b| {
                let flags = (!flags.broker.is_empty()).then(|| flags.broker.clone());
                let brokers = flags.or_else(|| environment("SEALPOST_BROKER").map(|url| vec![url]));
                b.set_override_option("broker", brokers)
            })
            .and_then(|b| {
                b.set_override_option(
                    "proxy",
                    flag_or_environment(flags.proxy.clone(), "SEALPOST_PROXY"),
                )
            })
            .and_then(|b| {
                b.set_override_option(
                    "realm",
                    flag_or_environment(flags.realm.clone(), "SEALPOST_REALM"),
                )
            })
            .and_then(|b| b.set_override_option("home", environment("SEALPOST_HOME")))
            .and_then(|b| {
                b.set_override_option(
                    "passphrase_command",
                    flag_or_environment(
                        flags.passphrase_command.clone(),
                        "SEALPOST_PASSPHRASE_COMMAND",
                    ),
                )
            })
            .and_then(|b| {
                b.set_override_option(
                    "broker_password_command",
                    flag_or_environment(
                        flags.broker_password_command.clone(),
                        "SEALPOST_BROKER_PASSWORD_COMMAND",
                    ),
                )
            })
            .and_then(|b| b.set_override_option("trust", environment("SEALPOST_TRUST")))
            .and_then(|b| {
                b.set_override_option(
                    "rotate_keys_after",
                    environment("SEALPOST_ROTATE_KEYS_AFTER"),
                )
            })
            .and_then(|b| b.set_override_option("receipts", environment("SEALPOST_RECEIPTS")))
            .and_then(|b| b.set_override_option("strangers", environment("SEALPOST_STRANGERS")))
            .and_then(|b| b.set_override_option("max_file", environment("SEALPOST_MAX_FILE")))
            .and_then(|b| b.set_override_option("fetch_files", environment("SEALPOST_FETCH_FILES")))
            .and_then(|b| b.build())
            .and_then(Config::try_deserialize::<Layer>)
            .map_err(|e| SettingsError::Malformed {
                path,
                problem: e.to_string(),
            })?;
        if flags.trust.is_some() {
            merged.trust = flags.trust;
        }
        // Past the layers, which are text: a path need not be UTF-8.
        if let Some(home) = &flags.home {
            merged.home = Some(home.clone());
        }
        // A path in the file lies beside the file.
        let folder = file
            .and_then(|(path, _)| path.parent())
            .unwrap_or(Path::new(""));
        let certificate = |flag: &Option<PathBuf>, name, in_file: Option<PathBuf>| {
            let here = flag
                .clone()
                .or_else(|| environment(name).map(PathBuf::from));
            here.or_else(|| in_file.map(|path| folder.join(path)))
        };
        merged.ca = certificate(&flags.ca, "SEALPOST_CA", merged.ca);
        merged.client_cert = certificate(
            &flags.client_cert,
            "SEALPOST_CLIENT_CERT",
            merged.client_cert,
        );
        merged.client_key =
            certificate(&flags.client_key, "SEALPOST_CLIENT_KEY", merged.client_key);
        let downloads = environment("SEALPOST_DOWNLOADS").map(PathBuf::from);
        merged.downloads = downloads.or_else(|| merged.downloads.map(|path| folder.join(path)));
        let invitation = flag_or_environment(flags.invitation.clone(), "SEALPOST_INVITATION");
        let invitation = invitation
            .map(|text| Invitation::parse(text.trim()))
            .transpose()?;
        Ok(Settings {
            invitation,
            file: file.map(|(path, _)| path.to_owned()),
            ..Settings::check(merged, environment)?
        })
    }

    fn check(layer: Layer, environment: Environment<'_>) -> Result<Settings, SettingsError> {
        let user = layer.user.ok_or(SettingsError::NoUser)?;
        let user = UserId::parse(&user).map_err(|source| SettingsError::User {
            name: user.clone(),
            source,
        })?;
        let realm = layer.realm.unwrap_or_else(|| DEFAULT_REALM.to_owned());
        let realm = Realm::parse(&realm).map_err(|source| SettingsError::Realm {
            name: realm.clone(),
            source,
        })?;
        let broker = RouteOptions {
            brokers: layer
                .broker
                .map_or_else(|| vec![DEFAULT_BROKER.to_owned()], OneOrMore::into_vec),
            ca: layer.ca,
            client_cert: layer.client_cert,
            client_key: layer.client_key,
            proxy: layer.proxy,
        }
        .parse()?;
        let timeout = layer.timeout.unwrap_or_else(|| DEFAULT_TIMEOUT.to_owned());
        let timeout = parse_duration(&timeout).map_err(|problem| SettingsError::Timeout {
            text: timeout.clone(),
            problem,
        })?;
        let age = layer
            .rotate_keys_after
            .unwrap_or_else(|| DEFAULT_ROTATE_KEYS_AFTER.to_owned());
        let rotate_keys_after =
            parse_age(&age).ok_or_else(|| SettingsError::Age { text: age.clone() })?;
        let home = match layer.home {
            Some(home) => home,
            None => xdg(environment, "XDG_DATA_HOME", ".local/share")
                .ok_or(SettingsError::NoHome)?
                .join("sealpost")
                .join(user.as_str()),
        };
        Ok(Settings {
            user,
            realm,
            broker,
            home,
            file: None,
            passphrase_command: layer.passphrase_command,
            broker_password_command: layer.broker_password_command,
            invitation: None,
            timeout,
            trust: layer.trust.unwrap_or_default(),
            rotate_keys_after,
            receipts: layer.receipts.unwrap_or(Receipts::Delivered),
            strangers: layer.strangers,
            files: FileRules {
                limit: size_of(layer.max_file, DEFAULT_MAX_FILE)?,
                fetch: size_of(layer.fetch_files, DEFAULT_FETCH_FILES)?,
                downloads: layer.downloads,
            },
            chat: layer.chat.unwrap_or_default(),
            device: layer.device.unwrap_or_default(),
        })
    }
}

fn size_of(text: Option<String>, default: &str) -> Result<u64, SettingsError> {
    let text = text.unwrap_or_else(|| default.to_owned());
    parse_size(&text).ok_or(SettingsError::Size { text })
}

/// `0`, `500kB`, `64MiB`, `1GiB`: whole numbers of bytes and of their multiples, at most what any file has.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let size = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (size <= sealpost_core::MAX_FILE).then_some(size)
}

/// `90d`, at least a day, or `never`: every day, the keys in their grace stay below what a keystore holds.
fn parse_age(text: &str) -> Option<Option<Duration>> {
    const DAY: u64 = 24 * 60 * 60;
    if text == "never" {
        return Some(None);
    }
    let days: u64 = text
        .strip_suffix('d')
        .filter(|days| days.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()?;
    (1..=MAX_AGE)
        .contains(&days)
        .then(|| Some(Duration::from_secs(days * DAY)))
}

fn read(path: &Path) -> Result<String, SettingsError> {
    use std::io::Read;
    let unreadable = |source| SettingsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(unreadable)?;
    Ok(text)
}

/// The file alone, so that an error names the file and the key rather than the merged settings.
fn check_file(path: &Path, text: &str) -> Result<(), SettingsError> {
    let malformed = |e: ConfigError| SettingsError::Malformed {
        path: path.to_owned(),
        problem: e.to_string(),
    };
    let parsed = Config::builder()
        .add_source(config::File::from_str(text, FileFormat::Toml))
        .build()
        .map_err(malformed)?;
    let table = parsed
        .clone()
        .try_deserialize::<std::collections::BTreeMap<String, config::Value>>()
        .map_err(malformed)?;
    let unknown = |key: String, known: &[&'static str], table: &str| SettingsError::UnknownKey {
        path: path.to_owned(),
        nearest: nearest_of(&key, known),
        key: format!("{table}{key}"),
    };
    for (key, value) in table {
        if !KEYS.contains(&key.as_str()) {
            return Err(unknown(key, &KEYS, ""));
        }
        let of_table: (&[&'static str], &str) = match key.as_str() {
            "chat" => (&CHAT_KEYS, "chat."),
            "device" => (&DEVICE_KEYS, "device."),
            _ => continue,
        };
        if let Ok(table) = value.into_table()
            && let Some(key) = table
                .into_keys()
                .find(|key| !of_table.0.contains(&key.as_str()))
        {
            return Err(unknown(key, of_table.0, of_table.1));
        }
    }
    parsed.try_deserialize::<Layer>().map_err(malformed)?;
    Ok(())
}

/// The known key within two single-character edits, for "did you mean".
fn nearest_of(key: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|&known| (edit_distance(key, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((y, diagonal), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or_default();
            next.push(
                (diagonal + usize::from(x != *y))
                    .min(left + 1)
                    .min(above + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

pub(crate) fn default_file(environment: Environment<'_>) -> Option<PathBuf> {
    Some(xdg(environment, "XDG_CONFIG_HOME", ".config")?.join("sealpost/client.toml"))
}

/// The XDG Base Directory Specification: a variable that holds an absolute path, or a place below HOME.
fn xdg(environment: Environment<'_>, variable: &str, below_home: &str) -> Option<PathBuf> {
    environment(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(below_home)))
}

#[cfg(test)]
mod tests;
