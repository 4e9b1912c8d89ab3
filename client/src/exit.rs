//! The one place that turns errors of the library into an exit code and a hint: what to do next.

use std::process::ExitCode;

use sealpost_core::{BundleRefused, SealError};
use sealpost_mqtt::{RouteOptionsError, TlsFilesError, advice_on_files};

use crate::agent::HolderError;
use crate::archived::ArchiveError;
use crate::backup::{BackupError, RestoreError};
use crate::contact::Disbelieved;
use crate::conversation::ChangeError;
use crate::daemon::DoorError;
use crate::event::Event;
use crate::files::{FileError, SaveError, SourceError};
use crate::history::{ExportError, ImportError};
use crate::home::HomeError;
use crate::incoming::ReceiveError;
use crate::keystore::KeystoreError;
use crate::mqtt::{LoginRefusal, MqttError, PublishError, RefusalCode};
use crate::new_file::NewFileError;
use crate::outgoing::{EnqueueError, PermitError};
use crate::passphrase::{BrokerPasswordError, PassphraseError};
use crate::search::SearchError;
use crate::settings::{CHAT_KEYS, DEVICE_KEYS, KEYS, SettingsError};
use crate::store::{Problem, PushError, StoreError};
use crate::trust_policy::NotPermitted;

/// The exit codes. They are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage: flags, settings, names.
    Usage = 2,
    /// The broker cannot be reached.
    Unreachable = 3,
    /// A key is not trusted, or changed.
    Untrusted = 4,
    /// The broker said no.
    Refused = 5,
    /// Not as far as was asked for, in time. What was sent is kept and goes on by itself.
    Pending = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// A failed command: what went wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Whether it was said already, or nobody is there to hear it.
    pub silent: bool,
    /// Whether it is only that nobody reads the output any more. Commands that do nothing but print are done then.
    pub reader_gone: bool,
    /// Whether it passes by itself, or when somebody makes room: who runs for long tries again.
    pub passes: bool,
}

impl Failure {
    /// A failure.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            hint: hint.into(),
            silent: false,
            reader_gone: false,
            passes: false,
        }
    }

    /// Ended by a signal before it was done.
    #[must_use]
    pub fn interrupted() -> Failure {
        Failure::new(Code::Failed, "interrupted", "Nothing more was done.")
    }

    /// The same as an event.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::Error {
            code: self.code as u8,
            message: self.message.clone(),
            hint: self.hint.clone(),
        }
    }
}

/// Writing failed.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure {
            reader_gone: error.kind() == std::io::ErrorKind::BrokenPipe,
            ..Failure::new(
                Code::Failed,
                format!("cannot write: {error}"),
                "Where does the output go?",
            )
        }
    }
}

/// Standard input cannot be read.
#[must_use]
pub fn not_read(error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Failed,
        format!("cannot read standard input: {error}"),
        "Where does the input come from?",
    )
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Failure {
        let hint = match &error {
            SettingsError::NoUser => {
                "Say who you are: --user NAME, or SEALPOST_USER, or `user = \"NAME\"` in the configuration file."
                    .to_owned()
            }
            SettingsError::NoHome => "Say where your keys are: --home DIR, or SEALPOST_HOME.".to_owned(),
            SettingsError::Environment(_) => "Correct it, or unset it.".to_owned(),
            SettingsError::User { .. } => {
                "A user name has a-z, 0-9, _ and -, starts with a letter or digit, and is at most 64 long.".to_owned()
            }
            SettingsError::Realm { .. } => "A realm has a-z, 0-9, . and -, at most 64.".to_owned(),
            SettingsError::Route(error) => match error {
                RouteOptionsError::NoBroker
                | RouteOptionsError::Broker { .. }
                | RouteOptionsError::TooManyBrokers => {
                    "For example: --broker mqtts://broker.example, or --broker mqtt://127.0.0.1:1883 on this machine."
                }
                RouteOptionsError::HalfACertificate => "Give both, or neither.",
                RouteOptionsError::Proxy(_) => "For example: --proxy socks5://127.0.0.1:1080",
            }
            .to_owned(),
            SettingsError::Invitation(_) => "Copy it whole, as the operator's `sealpost-broker invite` printed it. A person's link (sealpost:contact…) goes to \
                                             `sealpost add`.".to_owned(),
            SettingsError::Age { .. } => "For example: rotate_keys_after = \"90d\", or \"never\"".to_owned(),
            SettingsError::Size { .. } => {
                "For example: max_file = \"1GiB\", fetch_files = \"0\"; at most 1TiB".to_owned()
            }
            SettingsError::Timeout { .. } => "For example: timeout = \"10s\"".to_owned(),
            SettingsError::Unreadable { .. } => "Check the name after --config or in SEALPOST_CONFIG.".to_owned(),
            SettingsError::Malformed { .. } => {
                "Compare it with the commented config/client.toml, or config/device.toml for a device.".to_owned()
            }
            SettingsError::UnknownKey { key, .. } if key == "passphrase" => {
                "A passphrase is never written down here; use passphrase_command.".to_owned()
            }
            SettingsError::UnknownVariable { nearest, .. } => match nearest {
                Some(nearest) => format!("Did you mean {nearest}? Correct it, or unset it."),
                None => "Correct it, or unset it.".to_owned(),
            },
            SettingsError::Device(_) => {
                "The commented config/device.toml explains it.".to_owned()
            }
            SettingsError::UnknownKey { key, nearest, .. } => match nearest {
                Some(nearest) => format!("Did you mean {nearest:?}?"),
                None if key.starts_with("chat.") => {
                    format!("The keys of [chat] are {}.", CHAT_KEYS.join(", "))
                }
                None if key.starts_with("device.") => {
                    format!("The keys of [device] are {}.", DEVICE_KEYS.join(", "))
                }
                None => format!("The keys are {}.", KEYS.join(", ")),
            },
        };
        Failure::new(Code::Usage, error.to_string(), hint)
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Failure {
        let hint = match &error {
            HomeError::Io { .. } => {
                "Check the folder after --home, its owner and the free space.".to_owned()
            }
            HomeError::LooseMode { path, .. } => {
                let mode = if path.is_dir() { "700" } else { "600" };
                format!(
                    "Make it yours alone: chmod {mode} '{}'. If it was open for long, think of making new keys.",
                    path.display()
                )
            }
            HomeError::AlreadyReceiving { .. } => {
                "Only one chat or listen can run for one home; send works beside it.".to_owned()
            }
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<KeystoreError> for Failure {
    fn from(error: KeystoreError) -> Failure {
        let hint = match error {
            KeystoreError::File(error) => return error.into(),
            KeystoreError::Passphrase(error) => return error.into(),
            KeystoreError::Missing(_) => "Make your keys first: sealpost keys init".to_owned(),
            KeystoreError::Exists(_) => {
                "Use them, or choose another --home. Deleting them would make you a stranger to your contacts."
                    .to_owned()
            }
            KeystoreError::Damaged { .. } => "Restore it from a backup, or move it away and make new keys.".to_owned(),
            KeystoreError::Version { .. } => "Use the version of sealpost that wrote it, or a later one.".to_owned(),
            KeystoreError::Owner { .. } => "Check --user, --realm and --home: they do not belong together.".to_owned(),
            KeystoreError::WrongPassphrase(_) => "Try again; there is no way around the passphrase.".to_owned(),
            KeystoreError::TooManyKeys(_) => "Wait until the oldest is past its grace period of 45 days.".to_owned(),
            KeystoreError::HandingOver => "Connect first: sealpost listen --timeout 5s".to_owned(),
            KeystoreError::Retired => {
                "They never come back. Begin anew: another name, or this one after the operator's `sealpost-broker users \
                 reset-identity`, with another --home."
                    .to_owned()
            }
            KeystoreError::Internal(_) => "Try again; if it stays, report it.".to_owned(),
        };
        let code = match error {
            KeystoreError::Retired => Code::Untrusted,
            _ => Code::Failed,
        };
        Failure::new(code, error.to_string(), hint)
    }
}

impl From<HolderError> for Failure {
    fn from(error: HolderError) -> Failure {
        Failure::new(
            Code::Failed,
            error.to_string(),
            "The folder must be yours alone: chmod 700. Is the home on a disk that can hold a socket?",
        )
    }
}

impl From<DoorError> for Failure {
    fn from(error: DoorError) -> Failure {
        let hint = match &error {
            DoorError::Io { .. } => {
                "The folder of the socket must be yours alone (chmod 700), on a disk that can hold a socket."
            }
            DoorError::Taken(_) => "Perhaps a daemon of another home. Choose another --socket.",
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<PassphraseError> for Failure {
    fn from(error: PassphraseError) -> Failure {
        let hint = match &error {
            PassphraseError::NoTerminal => {
                "Give --passphrase-command CMD. For keys without a passphrase: keys init --no-passphrase."
            }
            PassphraseError::Command(_) => {
                "Run the command by hand: its first line of output must be the passphrase."
            }
            PassphraseError::Empty => "For keys without a passphrase: keys init --no-passphrase.",
            PassphraseError::TooLong => "Choose a shorter one.",
            PassphraseError::Differ => "Try again.",
            PassphraseError::Terminal(_) => "Give --passphrase-command CMD instead.",
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<BrokerPasswordError> for Failure {
    fn from(error: BrokerPasswordError) -> Failure {
        let hint = "Run the command of --broker-password-command by hand: its first line of output must be the password. \
                    Sealpost's own broker needs none.";
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let passes = matches!(error, StoreError::DiskFull | StoreError::Busy);
        let hint = match error {
            StoreError::File(error) => return error.into(),
            StoreError::Database(_) => {
                "Check the disk under --home. Nothing was lost: what is not stored is not acknowledged, and comes again."
            }
            StoreError::DiskFull => {
                "Make room on the disk of --home. Nothing was lost: what comes in was not acknowledged, and comes again; what \
                 was to be sent was not taken over."
            }
            StoreError::Busy => {
                "Find out which, perhaps a backup, and try again. Nothing was lost: what is not stored is not acknowledged, \
                 and comes again."
            }
            StoreError::OutboxFull => {
                "Nothing was added. Let it empty while connected (sealpost listen), or look at what hinders it: sealpost outbox"
            }
            StoreError::Version(_) => "Use the version of sealpost that wrote it, or a later one.",
            StoreError::Damaged(_) => {
                "Restore the home from a backup, or move store.sqlite away; contacts are then pinned anew."
            }
            StoreError::WrongKey => {
                "Were the keys made anew in this home? Then move store.sqlite away."
            }
        };
        Failure {
            passes,
            ..Failure::new(Code::Failed, error.to_string(), hint)
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        let (code, hint) = match error {
            FileError::Store(error) => return error.into(),
            FileError::Source(error) => return error.into(),
            FileError::TooLarge { .. } => (
                Code::Failed,
                "Set max_file in the configuration file, or SEALPOST_MAX_FILE, and ask the recipient to do the same.",
            ),
            FileError::Unknown => (
                Code::Usage,
                "Give its number, or the id of its message, from: sealpost files",
            ),
            FileError::Ours => (Code::Usage, "It is where it was."),
            FileError::Over(_) => (Code::Failed, "See: sealpost files"),
            FileError::Save(SaveError::Damaged) => (
                Code::Failed,
                "Nothing was saved. Ask its sender for it again.",
            ),
            FileError::Save(_) => (
                Code::Failed,
                "It is kept. Name a folder that is there, is yours, and has room: --to DIR",
            ),
        };
        Failure::new(code, error.to_string(), hint)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Failure {
        let hint = match error {
            SourceError::Io { .. } | SourceError::NoName => "Check the path.",
            SourceError::NotRegular(_) => "Make an archive of it first, with tar for instance.",
            SourceError::Changed(_) => "Send it when nobody writes to it any more.",
            SourceError::TooLarge(_) => "Cut it into parts, with split for instance.",
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Failure {
        Failure::new(
            Code::Usage,
            error.to_string(),
            "For example: --search 'lighthouse \"at nine\"'. All words and phrases must occur.",
        )
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Failure {
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Write(error) => error.into(),
            ExportError::Interrupted => Failure::interrupted(),
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Failure {
        let hint = match &error {
            ArchiveError::Directory { .. } | ArchiveError::None(_) => {
                "Give the directory that sealpost-archiver keeps (its --dir), or a copy of it that you may read."
            }
            ArchiveError::Read(_) => "`sealpost-archiver verify` says what is wrong with it.",
            ArchiveError::Store(_) => "",
        };
        match error {
            ArchiveError::Store(error) => error.into(),
            error => Failure::new(Code::Failed, error.to_string(), hint),
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Failure {
        let hint = match &error {
            ImportError::Store(_) | ImportError::Interrupted => "",
            ImportError::Read { .. } => {
                "It must be an ordinary file, as `sealpost history export --output FILE` writes it."
            }
            ImportError::Line { .. } => {
                "Nothing was imported. It must be as `sealpost history export` of the same user and realm wrote it."
            }
        };
        match error {
            ImportError::Store(error) => error.into(),
            ImportError::Interrupted => Failure::interrupted(),
            error => Failure::new(Code::Failed, error.to_string(), hint),
        }
    }
}

impl From<NewFileError> for Failure {
    fn from(error: NewFileError) -> Failure {
        let hint = match &error {
            NewFileError::Exists(_) => "Choose another name: nothing is overwritten.",
            NewFileError::Io { .. } => {
                "Check the folder, its owner and the free space. Nothing of it is left."
            }
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Failure {
        let hint = match error {
            BackupError::Home(error) => return error.into(),
            BackupError::Keystore(error) => return error.into(),
            BackupError::Store(error) => return error.into(),
            BackupError::Write(error) => return error.into(),
            BackupError::Interrupted => return Failure::interrupted(),
            BackupError::TooLarge => "Copy the home itself, while nothing uses it.",
            BackupError::Internal(_) => "Try again; if it stays, report it.",
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Failure {
        let hint = match error {
            RestoreError::Keystore(error) => return error.into(),
            RestoreError::Store(error) => return error.into(),
            RestoreError::Home(error) => return error.into(),
            RestoreError::Interrupted => return Failure::interrupted(),
            RestoreError::Read(_) => "Check the file's name. `-` is standard input.",
            RestoreError::NotABackup(_) => {
                "Nothing was restored. Backups are made by: sealpost backup FILE"
            }
            RestoreError::TooMuchWork(_) => {
                "Nothing was restored. `sealpost backup` uses 2^18. If you trust it: age --decrypt, then age --passphrase again."
            }
            RestoreError::WrongPassphrase => {
                "Nothing was restored. Try again; there is no way around the passphrase."
            }
            RestoreError::Damaged => {
                "Nothing was restored. Copy it again from where it came, or use an older one."
            }
            RestoreError::Version(_) => {
                "Use the version of sealpost that wrote it, or a later one."
            }
            RestoreError::Exists(_) => {
                "Nothing is ever written over a home. Choose another --home, or move that one away."
            }
            RestoreError::Busy(_) => "Wait until it has ended.",
            RestoreError::Foreign(_) => "Restore into a folder that nobody else can write to.",
            RestoreError::Write { .. } => {
                "Check the folder, its owner and the free space. Nothing of it is left."
            }
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Failure {
        let hint = match &error {
            ChangeError::Store(_) => "",
            ChangeError::NotHere => {
                "The ids are those of: sealpost history --json. What was imported is not changed."
            }
            ChangeError::NotOurs(_) => {
                "Others change what they wrote. To remove it from this history alone: sealpost delete --here ID"
            }
            ChangeError::Ambiguous => "Say whose with --with USER.",
            ChangeError::NoText | ChangeError::Deleted | ChangeError::TooOften => {
                "Send another message."
            }
        };
        match error {
            ChangeError::Store(error) => error.into(),
            error => Failure::new(Code::Failed, error.to_string(), hint),
        }
    }
}

impl From<EnqueueError> for Failure {
    fn from(error: EnqueueError) -> Failure {
        match error {
            EnqueueError::Store(error) => error.into(),
            EnqueueError::KeyOfAnother => Failure::new(
                Code::Usage,
                error.to_string(),
                "Nothing was sent. Give each message a key of its own, and the same only to say the same again.",
            ),
            EnqueueError::Content(error) => Failure::new(
                Code::Failed,
                error.to_string(),
                "Nothing was sent. Send it in parts.",
            ),
        }
    }
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Problem {
        Problem {
            code: failure.code as u8,
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        }
    }
}

impl From<&Problem> for Failure {
    fn from(problem: &Problem) -> Failure {
        let code = match problem.code {
            3 => Code::Unreachable,
            4 => Code::Untrusted,
            5 => Code::Refused,
            _ => Code::Failed,
        };
        Failure::new(code, &problem.message, &problem.hint)
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Failure {
        match error {
            PushError::Store(error) => error.into(),
            PushError::Reading(error) => Failure::new(Code::Failed, error.to_string(), ""),
        }
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Failure {
        match error {
            ReceiveError::Store(error) => error.into(),
            ReceiveError::Keystore(error) => error.into(),
        }
    }
}

#[cfg(feature = "tui")]
impl From<crate::tui::settings::ChatSettingsError> for Failure {
    fn from(error: crate::tui::settings::ChatSettingsError) -> Failure {
        use crate::tui::keys::{KeysError, names};
        use crate::tui::settings::ChatSettingsError;
        use crate::tui::theme::ThemeName;
        let hint = match &error {
            ChatSettingsError::Theme(_) => {
                format!("The themes are {}.", ThemeName::NAMES.join(", "))
            }
            ChatSettingsError::Notify(_) => {
                "The ways are none, osc9 and osc777; or give notify_command.".to_owned()
            }
            ChatSettingsError::Keys(KeysError::Action(_)) => {
                format!("Under [chat.keys] there are {}.", names().join(", "))
            }
            ChatSettingsError::Keys(KeysError::Key { .. }) => {
                "Keys are written like ctrl-x, alt-up, f5, pageup.".to_owned()
            }
        };
        Failure::new(Code::Usage, error.to_string(), hint)
    }
}

impl From<TlsFilesError> for Failure {
    fn from(error: TlsFilesError) -> Failure {
        let hint = advice_on_files(&error);
        Failure::new(Code::Usage, error.to_string(), hint)
    }
}

impl From<MqttError> for Failure {
    fn from(error: MqttError) -> Failure {
        // A clock that is wrong may be set right.
        let passes = matches!(
            error,
            MqttError::LoginRefused {
                code: LoginRefusal::BadLogin | LoginRefusal::Later,
                ..
            }
        );
        let (code, hint) = match &error {
            MqttError::Unreachable {
                advice: Some(advice),
                ..
            } => (Code::Unreachable, advice.as_str()),
            MqttError::Unreachable { advice: None, .. } => (
                Code::Unreachable,
                "Is it running, and is --broker right? Start one with: sealpost-broker --listen 127.0.0.1:1883",
            ),
            MqttError::LoginRefused { code, .. } => (
                Code::Refused,
                match code {
                    LoginRefusal::BadLogin => {
                        "Check this machine's clock, --realm (the same as the broker's) and --user: a name belongs to the keys that \
                         claimed it."
                    }
                    LoginRefusal::NotAuthorized => {
                        "With an invitation from the broker's operator: --invitation, or SEALPOST_INVITATION. Otherwise ask them."
                    }
                    LoginRefusal::Later => "Try again in a moment.",
                    LoginRefusal::Other => "Ask the broker's operator.",
                },
            ),
            MqttError::Dismissed { .. } => (Code::Refused, "Ask the broker's operator."),
            MqttError::SubscriptionRefused { .. } => (
                Code::Refused,
                "You can read your own inbox and everybody's keys, nothing else. Is this a Sealpost broker?",
            ),
            MqttError::TakenOver => (
                Code::Failed,
                "The same home is in use elsewhere, perhaps a copy of it. Two copies of one home cannot both receive.",
            ),
            MqttError::Closed => (Code::Failed, "Try again."),
        };
        Failure {
            passes,
            ..Failure::new(code, error.to_string(), hint)
        }
    }
}

/// The broker was there, perhaps, and did not get as far as letting us work.
#[must_use]
pub fn not_connected(broker: &impl std::fmt::Display, waited: std::time::Duration) -> Failure {
    Failure::new(
        Code::Unreachable,
        format!(
            "the broker at {broker} did not answer within {} s",
            waited.as_secs_f32()
        ),
        "Nothing was done. Is --broker right? Try again, perhaps with a longer --timeout.",
    )
}

/// A message that did not go out.
#[must_use]
pub fn not_sent(to: &str, error: &PublishError) -> Failure {
    let (code, hint) = match error {
        PublishError::Ended(error) => return error.clone().into(),
        PublishError::NobodyThere => (
            Code::Failed,
            format!(
                "{to} must connect once, with `sealpost --user {to} listen`. The message waits and is tried again."
            ),
        ),
        PublishError::TooLarge { .. } => (Code::Refused, "Send it in parts.".to_owned()),
        PublishError::LostEachTime => (
            Code::Unreachable,
            "Look at the broker's log. The message is kept and tried again.".to_owned(),
        ),
        PublishError::Refused { code, .. } => (
            Code::Refused,
            match code {
                RefusalCode::NotAuthorized => {
                    format!("Is {to} a user of this broker? Otherwise ask its operator.")
                }
                RefusalCode::TopicNameInvalid => format!("Is {to} a user of this broker?"),
                RefusalCode::QuotaExceeded => {
                    format!(
                        "The mailbox of {to} is full, or your share of it, or the broker's disk. The message is kept and tried again when {to} has read \
                         their mail; if it lasts, ask the broker's operator."
                    )
                }
                RefusalCode::PayloadFormatInvalid => {
                    "Does the broker run another version of Sealpost, or for another --realm?"
                        .to_owned()
                }
                RefusalCode::Other => {
                    "The message is kept and tried again. If it lasts, ask the broker's operator."
                        .to_owned()
                }
            },
        ),
    };
    Failure::new(
        code,
        format!("the message to {to} was not accepted: {error}"),
        hint,
    )
}

/// Our own bundle did not get published.
#[must_use]
pub fn not_published(error: &PublishError) -> Failure {
    match error {
        PublishError::Ended(error) => error.clone().into(),
        error => Failure::new(
            Code::Refused,
            format!("your keys could not be published: {error}"),
            "Nobody can send to you before they are. The name may belong to other keys; ask the broker's operator.",
        ),
    }
}

/// A recipient whose bundle is not believed.
#[must_use]
pub fn not_trusted(to: &str, why: &Disbelieved) -> Failure {
    let (code, hint) = match why {
        Disbelieved::Refused(BundleRefused::IdentityChanged { .. }) => (
            Code::Untrusted,
            format!("Nothing was sent. If the new identity is really theirs: sealpost contacts trust {to}"),
        ),
        Disbelieved::Refused(BundleRefused::Expired { .. }) => (
            Code::Failed,
            format!("Nothing was sent. {to} must connect once, which publishes fresh keys."),
        ),
        Disbelieved::Refused(BundleRefused::FromTheFuture { .. }) => (
            Code::Failed,
            format!("Nothing was sent. Check this machine's clock, and ask {to} to check theirs."),
        ),
        Disbelieved::Refused(BundleRefused::WrongRealm) => (
            Code::Untrusted,
            "Nothing was sent. Check --realm: everybody who talks to each other needs the same one.".to_owned(),
        ),
        Disbelieved::Withdrawn => (
            Code::Untrusted,
            format!("Nothing was sent. Ask {to} in some other way how to reach them."),
        ),
        Disbelieved::Removed => (
            Code::Untrusted,
            format!("Nothing was sent. {to} must connect once, which publishes their keys again."),
        ),
        _ => (
            Code::Untrusted,
            format!("Nothing was sent. Talk to {to} in some other way, and to the broker's operator."),
        ),
    };
    let message = match why {
        Disbelieved::Refused(BundleRefused::IdentityChanged { .. }) => {
            format!("the identity of {to} has changed")
        }
        other => format!("cannot send to {to}: {other}"),
    };
    Failure::new(code, message, hint)
}

/// The trust policy does not permit sending.
impl From<PermitError> for Failure {
    fn from(error: PermitError) -> Failure {
        match error {
            PermitError::Retired(error) => error.into(),
            PermitError::Blocked(ref user) => {
                let hint = format!(
                    "Nothing was sent. To let them in again: sealpost contacts unblock {user}"
                );
                Failure::new(Code::Failed, error.to_string(), hint)
            }
            PermitError::Policy(error) => error.into(),
            PermitError::Store(error) => error.into(),
        }
    }
}

impl From<NotPermitted> for Failure {
    fn from(not: NotPermitted) -> Failure {
        let hint = match &not {
            NotPermitted::Stranger(user) => format!(
                "Nothing was sent. Ask {user} for their link (sealpost invite) and add it: sealpost add 'LINK'. Or send with \
                 --trust on-first-use."
            ),
            NotPermitted::NotVerified(user) => {
                format!("Nothing was sent. Compare with {user}: sealpost contacts verify {user}")
            }
        };
        Failure::new(Code::Untrusted, not.to_string(), hint)
    }
}

/// A message that could not be sealed.
#[must_use]
pub fn not_sealed(to: &str, error: &SealError) -> Failure {
    let hint = match error {
        SealError::NoEncryptionKey => format!(
            "{to} has withdrawn their keys, or uses only ones that this version does not know. Until {to} has others, nothing gets there."
        ),
        SealError::BundleNotValid(_) => {
            format!("{to} must connect once, which publishes fresh keys.")
        }
        SealError::Content(_) => "Send it in parts.".to_owned(),
        _ => "Try again; if it stays, report it.".to_owned(),
    };
    let code = match error {
        SealError::NoEncryptionKey => Code::Untrusted,
        _ => Code::Failed,
    };
    Failure::new(
        code,
        format!("the message to {to} cannot be sealed: {error}"),
        hint,
    )
}

/// A recipient who has not published keys.
#[must_use]
pub fn no_keys_yet(to: &str, waited: std::time::Duration) -> Failure {
    Failure::new(
        Code::Failed,
        format!(
            "{to} has not published keys yet (waited {} s)",
            waited.as_secs_f32()
        ),
        format!(
            "Check the name. {to} must run `sealpost --user {to} keys init` and connect once. The message waits."
        ),
    )
}

#[cfg(test)]
mod tests;
