//! The one place that turns errors into what a person is told: what went wrong, what to do, and the exit code.

use std::io;
use std::process::ExitCode;

use crate::access::registry::OpenError;
use crate::journal::store::StoreError;
use crate::server::ServeError;
use crate::settings::SettingsError;
use crate::transport::listeners::ListenError;

/// The exit codes. They are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Failed.
    Failed = 1,
    /// Wrong flags or settings, as for the other programs.
    Usage = 2,
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
}

impl Failure {
    /// A failure.
    #[must_use]
    pub fn new(code: Code, message: impl ToString, hint: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.to_string(),
            hint: hint.into(),
        }
    }

    /// With the flags that say which broker it is about in every command of this program that the hint names, so that it
    /// can be run as it stands. Such commands are between backquotes, with flags of their own last.
    #[must_use]
    pub fn repeating(mut self, flags: &str) -> Failure {
        let parts = self.hint.split('`').enumerate();
        let parts = parts.map(|(number, part)| {
            if number % 2 == 1 && part.starts_with("sealpost-broker ") {
                format!("{part}{flags}")
            } else {
                part.into()
            }
        });
        self.hint = parts.collect::<Vec<_>>().join("`");
        self
    }

    /// Says it on standard error, and returns the exit code.
    #[must_use]
    pub fn tell(&self) -> ExitCode {
        eprintln!("sealpost-broker: {}", self.message);
        if !self.hint.is_empty() {
            eprintln!("  {}", self.hint);
        }
        ExitCode::from(self.code as u8)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Failure {
        let hint = match &error {
            SettingsError::Unreadable(_) => "config/broker.toml lists every key with its default",
            SettingsError::BadValue { .. } => "config/broker.toml says what each key takes",
            SettingsError::PlainRemote(_) => {
                "listen on 127.0.0.1, or accept that with plain_remote = true in the settings"
            }
            SettingsError::MetricsRemote(_) => {
                "listen on 127.0.0.1 and let whatever asks come there, or accept that with remote = true in [metrics]"
            }
            SettingsError::Unknown(_) => "config/broker.toml lists every key with its default",
            SettingsError::File { why, .. } if why.kind() == io::ErrorKind::IsADirectory => {
                "name the file itself, such as /etc/sealpost/broker.toml; a data directory is named with --data"
            }
            SettingsError::File { .. } => "config/broker.toml is one to begin with",
            SettingsError::OpenRemote(_) => "use --open on 127.0.0.1 only",
        };
        Failure::new(Code::Usage, error, hint)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        let hint = match &error {
            ServeError::Registry(OpenError::InUse(_)) => {
                "stop the other broker, or give this one another directory with --data"
            }
            ServeError::Rules(_) => {
                "docs/access.md says what a rule file takes; without `rules` in the settings there is none"
            }
            ServeError::Audit { .. } => {
                "look at that path; [audit] in the settings chooses another, or turns the log off with file = \"\""
            }
            ServeError::Nonces(_) => {
                "look at that file; if it is damaged, wait two minutes, remove it and start again"
            }
            ServeError::Control(_) => "it is control.sock in the data directory",
            ServeError::Memory => "a password takes 19 MiB to check",
            ServeError::Registry(_) => {
                "look at that path; another directory can be chosen with --data"
            }
            ServeError::Journal(StoreError::InUse(_)) => {
                "stop the other broker, or give this one another directory with --data"
            }
            ServeError::Journal(StoreError::Failed(_)) => {
                "look at the disk and its room; what was acknowledged is kept, and is there when the broker starts again"
            }
            ServeError::Journal(StoreError::Format { .. }) => {
                "run the version of the broker that wrote it, or restore a backup"
            }
            ServeError::Journal(StoreError::Damaged { .. }) => {
                "nothing is guessed: restore a backup, or start with another directory"
            }
            ServeError::Thread(_) => "the system allows no more threads; see its limits",
            ServeError::Router(_) | ServeError::Dispatcher | ServeError::Wills => {
                "order and delivery could not be promised any longer; start the broker again, clients come back by themselves"
            }
        };
        Failure::new(Code::Failed, error, hint)
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Failure {
        let hint = match &error {
            ListenError::Bind { .. } => {
                "another program may listen there: choose another port with --listen, or 0 for a free one"
            }
            ListenError::Tls(_) => {
                "[tls] in the settings names the files; `sealpost-broker certificate` makes some for a home or a lab"
            }
        };
        Failure::new(Code::Failed, error, hint)
    }
}
