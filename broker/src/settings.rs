//! What an operator can set. Precedence: flag, environment (`SEALPOST_BROKER_…`), file, default.

mod layers;
mod limits;
mod unknown_key;

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use sealpost_core::{IdentityKey, MAX_ENVELOPE, Realm, UserId};
use serde::Deserialize;

use crate::access::audit::AuditFile;
use crate::delivery::account::Share;
use crate::delivery::board::Bounds;
use crate::transport::origin::Origins;
use crate::transport::tls::CertificateFiles;

pub use limits::{ArchiverFull, Limits};
pub use unknown_key::{Unknown, UnknownKey};

/// The settings as a file spells them. Unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Spelled {
    realm: String,
    listen: String,
    data: PathBuf,
    registration: String,
    plain_remote: bool,
    open: bool,
    tls: Option<SpelledTls>,
    origins: Vec<String>,
    archivers: Vec<SpelledKeyHolder>,
    operators: Vec<SpelledKeyHolder>,
    rules: Option<PathBuf>,
    audit: SpelledAudit,
    log: String,
    log_format: String,
    metrics: SpelledMetrics,
    shutdown: Shutdown,
    limits: Limits,
}

/// How much the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// What keeps the broker from doing its work.
    Error,
    /// What an operator should look into, besides.
    Warn,
    /// Connections, refusals and administration, besides.
    #[default]
    Info,
    /// Why connections ended before they began, besides.
    Debug,
    /// All there is.
    Trace,
}

impl Level {
    const ALL: [Level; 5] = [
        Level::Error,
        Level::Warn,
        Level::Info,
        Level::Debug,
        Level::Trace,
    ];

    /// As the filter of the log spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Where metrics and health are served.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpelledMetrics {
    listen: Option<String>,
    remote: bool,
}

/// How the broker ends. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// For how long it says that it is not ready any more, and goes on serving.
    pub notice: u16,
    /// How long clients may take to go once they are told to.
    pub wait: u16,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { notice: 0, wait: 5 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpelledTls {
    #[serde(default = "tls_listen")]
    listen: String,
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    #[serde(default)]
    unbound_logins: bool,
}

/// MQTT's port inside TLS, on every address of the machine.
fn tls_listen() -> String {
    "0.0.0.0:8883".into()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpelledKeyHolder {
    name: String,
    key: String,
}

impl Default for Spelled {
    fn default() -> Self {
        Spelled {
            realm: Realm::default().to_string(),
            listen: "127.0.0.1:1883".into(),
            data: "sealpost-broker".into(),
            registration: "auto".into(),
            plain_remote: false,
            open: false,
            archivers: Vec::new(),
            tls: None,
            origins: Vec::new(),
            operators: Vec::new(),
            rules: None,
            audit: SpelledAudit::default(),
            log: Level::default().word().into(),
            log_format: "text".into(),
            metrics: SpelledMetrics::default(),
            shutdown: Shutdown::default(),
            limits: Limits::default(),
        }
    }
}

/// Who may claim a name that nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Anybody, at the first login, on loopback; elsewhere nobody without an invitation.
    Auto,
    /// Anybody, at the first login.
    Open,
    /// Nobody: only names that are registered already may log in, and those who have an invitation.
    Closed,
}

/// Bytes of the smallest audit file: a few hundred lines, so that rotation does not become all there is to do.
const MIN_AUDIT_BYTES: u64 = 64 * 1024;
/// Older audit files at most: each rotation renames them all.
const MAX_AUDIT_FILES: u32 = 1_000;

/// The audit log: where it is and how much of it is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpelledAudit {
    /// A relative path is in the data directory. Empty: no audit log.
    file: PathBuf,
    bytes: u64,
    older: u32,
}

impl Default for SpelledAudit {
    fn default() -> Self {
        SpelledAudit {
            file: "audit.jsonl".into(),
            bytes: 16 * 1024 * 1024,
            older: 8,
        }
    }
}

/// Where and how TLS is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Where to listen; port 0 asks the system for one.
    pub listen: SocketAddr,
    /// Certificates and the key.
    pub files: CertificateFiles,
    /// Whether login tokens are taken that are not bound to their TLS connection.
    pub unbound_logins: bool,
}

/// Settings that make sense together.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The deployment's name, part of every signature.
    pub realm: Realm,
    /// Where to listen for plain connections; port 0 asks the system for one.
    pub listen: SocketAddr,
    /// Where and how to serve TLS, if at all.
    pub tls: Option<Tls>,
    /// Web pages that may connect.
    pub origins: Origins,
    /// The data directory.
    pub data: PathBuf,
    /// Whether the first login claims a free name.
    pub open_registration: bool,
    /// No login, no checks, any topic: for conformance suites and load tools, on loopback only.
    pub open: bool,
    /// Archivers and their identity keys.
    pub archivers: Vec<(UserId, IdentityKey)>,
    /// Operators and their identity keys.
    pub operators: Vec<(UserId, IdentityKey)>,
    /// The rule file for topics that are not Sealpost's own.
    pub rules: Option<PathBuf>,
    /// The audit log; none if it is turned off.
    pub audit: Option<AuditFile>,
    /// How much the log tells.
    pub log: Level,
    /// How its lines look.
    pub log_format: LogFormat,
    /// Where metrics and health are served, if at all.
    pub metrics: Option<SocketAddr>,
    /// How the broker ends.
    pub shutdown: Shutdown,
    /// Bounds.
    pub limits: Limits,
}

/// Flags, which win over everything else.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// `--realm`.
    pub realm: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--open`.
    pub open: bool,
    /// `--archiver NAME=KEY`, each.
    pub archivers: Vec<String>,
    /// `--operator NAME=KEY`, each.
    pub operators: Vec<String>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file, the environment or a flag does not say what it should.
    #[error("{0}")]
    Unreadable(#[from] config::ConfigError),
    /// A value that is not what its key takes.
    #[error("{key}: {value:?}: {why}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Plain TCP to other machines must be asked for.
    #[error(
        "{0} can be reached from other machines, and connections are not encrypted: whoever is on the way can take one over after its login"
    )]
    PlainRemote(SocketAddr),
    /// An open broker must not be reachable.
    #[error(
        "{0} can be reached from other machines, and an open broker lets anybody read and write everything"
    )]
    OpenRemote(SocketAddr),
    /// Metrics for other machines must be asked for.
    #[error(
        "{0} can be reached from other machines, and metrics ask nobody who they are and are not encrypted"
    )]
    MetricsRemote(SocketAddr),
    /// The file cannot be read.
    #[error("the settings in {path:?} cannot be read: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Keys that there are not.
    #[error("{0}")]
    Unknown(Unknown),
}

impl Settings {
    /// Reads the file (if one is named), the environment and the flags.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn load(file: Option<PathBuf>, flags: Overrides) -> Result<Settings, SettingsError> {
        let mut spelled: Spelled = layers::read(file.as_deref())?;
        spelled.realm = flags.realm.unwrap_or(spelled.realm);
        spelled.listen = flags.listen.unwrap_or(spelled.listen);
        spelled.data = flags.data.unwrap_or(spelled.data);
        spelled.open |= flags.open;
        for (flag, given, holders) in [
            ("archiver", flags.archivers, &mut spelled.archivers),
            ("operator", flags.operators, &mut spelled.operators),
        ] {
            for holder in given {
                let Some((name, key)) = holder.split_once('=') else {
                    return Err(bad(flag, &holder, "is not NAME=KEY"));
                };
                holders.push(SpelledKeyHolder {
                    name: name.into(),
                    key: key.into(),
                });
            }
        }
        spelled.check()
    }

    /// What the board may hold.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let limits = &self.limits;
        Bounds {
            mailbox_bytes: limits.total_mailbox_bytes,
            users: limits.users,
            part_with_archivers: limits.archiver_full == ArchiverFull::Part,
            sessions_per_owner: limits.sessions_per_user,
            // Durable sessions outlive connections; each connection may have a clean one besides.
            sessions: limits
                .connections
                .saturating_add(limits.users.saturating_mul(limits.sessions_per_user)),
            subscriptions_per_session: limits.subscriptions_per_session,
            retained: limits.retained_messages,
            retained_bytes: limits.retained_bytes,
            hold: Duration::from_secs(limits.hold.into()),
        }
    }

    /// What a session may hold, by its owner's name ([`crate::access::admission::Principal::owner`]): a user's mailbox, or
    /// the queue of an archiver, or of anybody when the broker is open.
    #[must_use]
    pub fn share(&self, owner: &str) -> Share {
        let archive = owner.starts_with("archiver:");
        if archive || owner.is_empty() {
            Share {
                archive,
                messages: self.limits.archiver_messages,
                bytes: self.limits.archiver_bytes,
                // Whoever fills an archiver's queue keeps everybody's mail out.
                sender: self.limits.sender_share,
                stranger: self.limits.sender_share,
                parts: self.limits.sessions_per_user,
            }
        } else {
            Share {
                archive,
                messages: self.limits.mailbox_messages,
                bytes: self.limits.mailbox_bytes,
                sender: self.limits.sender_share,
                stranger: self.limits.stranger_share,
                parts: self.limits.sessions_per_user,
            }
        }
    }
}

/// `ADDRESS:PORT`, or `NAME:PORT` with the first address that the name has.
fn resolve(key: &'static str, listen: &str) -> Result<SocketAddr, SettingsError> {
    let parsed = listen.parse().ok();
    parsed
        .or_else(|| listen.to_socket_addrs().ok()?.next())
        .ok_or_else(|| bad(key, listen, "is not ADDRESS:PORT, as in 127.0.0.1:1883"))
}

fn key_holders(
    spelled: &[SpelledKeyHolder],
    name_key: &'static str,
    key_key: &'static str,
) -> Result<Vec<(UserId, IdentityKey)>, SettingsError> {
    let holders = spelled.iter().map(|holder| {
        let name = UserId::parse(&holder.name).map_err(|why| bad(name_key, &holder.name, why))?;
        let key =
            IdentityKey::from_base64(&holder.key).map_err(|why| bad(key_key, &holder.key, why))?;
        Ok((name, key))
    });
    holders.collect()
}

fn bad(key: &'static str, value: &str, why: impl ToString) -> SettingsError {
    SettingsError::BadValue {
        key,
        value: value.into(),
        why: why.to_string(),
    }
}

impl SpelledTls {
    fn check(self) -> Result<Tls, SettingsError> {
        Ok(Tls {
            listen: resolve("tls.listen", &self.listen)?,
            files: CertificateFiles {
                certificate: self.certificate,
                key: self.key,
                client_ca: self.client_ca,
            },
            unbound_logins: self.unbound_logins,
        })
    }
}

impl Spelled {
    fn check(self) -> Result<Settings, SettingsError> {
        let realm = Realm::parse(&self.realm).map_err(|why| bad("realm", &self.realm, why))?;
        let listen = resolve("listen", &self.listen)?;
        let tls = self.tls.map(SpelledTls::check).transpose()?;
        let addresses = [Some(listen), tls.as_ref().map(|tls| tls.listen)];
        let remote = addresses
            .into_iter()
            .flatten()
            .find(|address| !address.ip().is_loopback());
        if let Some(remote) = remote.filter(|_| self.open) {
            return Err(SettingsError::OpenRemote(remote));
        }
        if !listen.ip().is_loopback() && !self.plain_remote {
            return Err(SettingsError::PlainRemote(listen));
        }
        let origins =
            Origins::parse(&self.origins).map_err(|(origin, why)| bad("origins", &origin, why))?;
        let archivers = key_holders(&self.archivers, "archivers.name", "archivers.key")?;
        let operators = key_holders(&self.operators, "operators.name", "operators.key")?;
        let mut names = HashSet::new();
        for (name, _) in archivers.iter().chain(&operators) {
            if !names.insert(name) {
                let why = "is listed twice: one name has one key and one role";
                return Err(bad("archivers, operators", name.as_str(), why));
            }
        }
        let SpelledAudit { file, bytes, older } = self.audit;
        if bytes < MIN_AUDIT_BYTES {
            let why = format!("is less than {MIN_AUDIT_BYTES}");
            return Err(bad("audit.bytes", &bytes.to_string(), why));
        }
        if older > MAX_AUDIT_FILES {
            let why = format!("is more than {MAX_AUDIT_FILES}");
            return Err(bad("audit.older", &older.to_string(), why));
        }
        let audit = (!file.as_os_str().is_empty()).then(|| AuditFile {
            path: self.data.join(file),
            bytes,
            older,
        });
        let mut levels = Level::ALL.into_iter();
        let log = levels
            .find(|level| level.word() == self.log)
            .ok_or_else(|| bad("log", &self.log, "is not error, warn, info, debug or trace"))?;
        let registration = match self.registration.as_str() {
            "auto" => Registration::Auto,
            "open" => Registration::Open,
            "closed" => Registration::Closed,
            other => return Err(bad("registration", other, "is not auto, open or closed")),
        };
        let log_format = match self.log_format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(bad("log_format", other, "is not text or json")),
        };
        let metrics = self.metrics.listen.as_deref();
        let metrics = metrics
            .map(|listen| resolve("metrics.listen", listen))
            .transpose()?;
        if let Some(address) = metrics.filter(|address| !address.ip().is_loopback())
            && !self.metrics.remote
        {
            return Err(SettingsError::MetricsRemote(address));
        }
        let limits = self.limits;
        if limits.packet < MAX_ENVELOPE + 1024
            || limits.packet > crate::order::router_link::MAX_MESSAGE
        {
            let why = format!(
                "is not between {} (an envelope and its topic) and {}",
                MAX_ENVELOPE + 1024,
                crate::order::router_link::MAX_MESSAGE
            );
            return Err(bad("limits.packet", &limits.packet.to_string(), why));
        }
        if limits.receive_maximum == 0 {
            let why = "is not 1 to 65535";
            return Err(bad("limits.receive_maximum", "0", why));
        }
        Ok(Settings {
            realm,
            listen,
            tls,
            origins,
            data: self.data,
            open_registration: match registration {
                Registration::Auto => remote.is_none(),
                Registration::Open => true,
                Registration::Closed => false,
            },
            open: self.open,
            archivers,
            operators,
            rules: self.rules,
            audit,
            log,
            log_format,
            metrics,
            shutdown: self.shutdown,
            limits,
        })
    }
}

#[cfg(test)]
mod tests;
