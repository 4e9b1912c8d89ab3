//! The command line, as clap sees it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::moment::When;
use crate::trust_policy::TrustPolicy;

const AFTER_HELP: &str = "\
A flag wins over the environment, the environment over the configuration file.

Exit codes:
  0 done, 1 failed, 2 wrong usage, 3 broker unreachable, 4 untrusted or changed key, 5 refused by the broker,
  6 not as far as --wait asked for, in time

Without a command, on a terminal: the chat over the whole screen, which asks for what it needs. From a pipe or under TERM=dumb: `chat`.

A first conversation, step by step:
  sealpost --user alice keys init
  sealpost --user alice send bob 'Hello Bob!'
  sealpost --user alice chat";

const LISTEN_HELP: &str = "\
With --since alone nothing is changed and no broker asked: it runs beside a chat, listen or daemon. With --follow as well, messages that
were not shown yet come whatever their age, each message comes once, and none is missed between what was stored and what arrives.

--exec CMD runs `/bin/sh -c CMD` with the text on standard input (the JSON of other kinds), and in the environment
  SEALPOST_ID, SEALPOST_FROM, SEALPOST_TO, SEALPOST_TS (the sender's clock), SEALPOST_KIND,
  SEALPOST_TRUST (verified, known, or changed: another identity waits for your decision), SEALPOST_FINGERPRINT,
  SEALPOST_ATTEMPT (from 1), SEALPOST_EDITS and SEALPOST_REPLY (the id of the message in whose place the text is, or that it answers; else
  empty), and SEALPOST_USER, SEALPOST_HOME, SEALPOST_REALM and SEALPOST_BROKER, so that
  `sealpost send \"$SEALPOST_FROM\" -` answers. SEALPOST_PASSPHRASE_COMMAND and SEALPOST_INVITATION are removed.
A message is dealt with when CMD ends with 0. Otherwise it is tried again, then reported and left for the next `listen`, which ends
this one with 1. Ctrl-C ends CMD and what it started; its message comes again. With --json its output goes to standard error.";

/// End-to-end-encrypted messages over MQTT.
#[derive(Debug, Parser)]
#[command(name = "sealpost", version = sealpost_version::SHORT, long_version = sealpost_version::LONG, about, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// Who is asking and where.
    #[command(flatten)]
    pub global: Global,
    /// What to do; without it, the chat: on a terminal over the whole screen, otherwise line by line.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Your user name: a-z, 0-9, _ and -, at most 64 characters [env: SEALPOST_USER]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// The broker: mqtts://HOST, wss://HOST, or without TLS mqtt:// and ws://; given more than once or with commas, they are
    /// tried in turn [default: mqtt://127.0.0.1:1883] [env: SEALPOST_BROKER]
    #[arg(long, short, global = true, value_name = "URL")]
    pub broker: Vec<String>,
    /// Trust only the authorities in this PEM file to certify the broker, instead of those that this machine trusts
    /// [env: SEALPOST_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Your certificate in PEM, for a broker that wants one [env: SEALPOST_CLIENT_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Its private key in PEM [env: SEALPOST_CLIENT_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Go through this proxy, http://HOST:PORT or socks5://HOST:PORT, or through `none` [default: what ALL_PROXY, HTTPS_PROXY
    /// and NO_PROXY say] [env: SEALPOST_PROXY]
    #[arg(long, global = true, value_name = "URL")]
    pub proxy: Option<String>,
    /// Where your keys and messages are [default: $XDG_DATA_HOME/sealpost/NAME] [env: SEALPOST_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The deployment's name, the same for all who talk [default: local] [env: SEALPOST_REALM]
    #[arg(long, global = true, value_name = "NAME")]
    pub realm: Option<String>,
    /// The configuration file [default: $XDG_CONFIG_HOME/sealpost/client.toml] [env: SEALPOST_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A shell command whose first line of output is the passphrase [env: SEALPOST_PASSPHRASE_COMMAND]
    #[arg(long, global = true, value_name = "CMD")]
    pub passphrase_command: Option<String>,
    /// A shell command whose first line of output is your password at the broker, for brokers that know no login by identity
    /// key [env: SEALPOST_BROKER_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "CMD")]
    pub broker_password_command: Option<String>,
    /// To whom may be sent [default: on-first-use] [env: SEALPOST_TRUST]
    #[arg(long, global = true, value_name = "POLICY", value_enum)]
    pub trust: Option<TrustPolicy>,
    /// The invitation that lets you claim your name, for the first command that connects where newcomers need one; in the
    /// environment no other user of this machine sees it [env: SEALPOST_INVITATION]
    #[arg(long, global = true, value_name = "INVITATION")]
    pub invitation: Option<String>,
    /// One JSON object a line on standard output, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Log what happens to standard error, never secrets or texts (RUST_LOG chooses more finely)
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Talk and listen in one: type `msg bob Hello Bob!`, `/who`, `/help`, `/quit`
    Chat,
    /// Write a message into the outbox, on disk, and send it
    Send(SendArguments),
    /// Send another text in place of one of yours; the other side sees that it was edited, and what it said before
    Edit(EditArguments),
    /// Ask the other side to delete a message of yours, and delete it here
    Delete(DeleteArguments),
    /// After how long the messages that you exchange with somebody from now on disappear, on both sides
    Expire(ExpireArguments),
    /// Print messages as they arrive, until stopped; the broker may come later
    #[command(after_help = LISTEN_HELP)]
    Listen(ListenArguments),
    /// Receive and send for programs that speak JSON-RPC with it over a Unix socket
    Daemon {
        /// Where to listen, in a folder of yours alone [default: daemon/daemon.sock in the home]
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Your own keys
    Keys {
        /// What to do with them.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print your contact link and its QR code: who gets it from you knows whose keys are yours, without asking a broker
    Invite,
    /// Add a contact by the link that they gave you: pinned and verified from the start
    Add {
        /// The link, sealpost:contact?…
        #[arg(value_name = "LINK")]
        link: String,
    },
    /// Hold the key of your keystore for a while, so that commands do not ask for the passphrase
    #[command(args_conflicts_with_subcommands = true)]
    Agent {
        /// For how long, such as 30m or 8h, at most 24h [default: 1h]
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        time: Option<Duration>,
        /// Stay in the foreground, for a service manager
        #[arg(long)]
        foreground: bool,
        /// What to do with the one that runs; without it, start one.
        #[command(subcommand)]
        command: Option<AgentCommand>,
    },
    /// Look whether everything is well: home, keys, clock, brokers, TLS, login, outbox, contacts, disk. Says what is not and
    /// what to do, changes nothing, and ends with 1 when something must be mended
    Doctor,
    /// What you sent and has not arrived
    Outbox {
        /// What to do; without it, the list.
        #[command(subcommand)]
        command: Option<OutboxCommand>,
    },
    /// Files that were offered to you and by you
    Files {
        /// What to do; without it, the list.
        #[command(subcommand)]
        command: Option<FilesCommand>,
    },
    /// What you received and sent, newest last, offline
    #[command(args_conflicts_with_subcommands = true)]
    History(HistoryArguments),
    /// Write your whole account into one file under a passphrase: keys, contacts, messages, what waits to be sent
    Backup {
        /// The new file, in the age format; `-` is standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// A shell command whose first line of output is the backup's passphrase, instead of asking on the terminal
        #[arg(long, value_name = "CMD")]
        backup_passphrase_command: Option<String>,
    },
    /// Make a home out of a backup, where none is yet
    Restore(RestoreArguments),
    /// Print what completes commands and options in your shell
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
    /// Write man pages, one for each command
    Man {
        /// Into this folder, which must be there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// The people you know, and whose keys they are
    Contacts {
        /// What to do; without it, the list.
        #[command(subcommand)]
        command: Option<ContactsCommand>,
    },
}

/// What needs no user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paper {
    /// A completion script on standard output.
    Completions(Shell),
    /// Man pages into a folder.
    Man(PathBuf),
}

impl Command {
    /// What can be done without knowing who is asking.
    #[must_use]
    pub fn paper(&self) -> Option<Paper> {
        match self {
            Command::Completions { shell } => Some(Paper::Completions(*shell)),
            Command::Man { dir } => Some(Paper::Man(dir.clone())),
            _ => None,
        }
    }
}

/// `sealpost listen …`
#[derive(Debug, Args)]
pub struct ListenArguments {
    /// Stop after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Stop after so long, such as 30s or 2m; with --count, fewer messages by then is a failure
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Print what was received here since then, and end: 90s, 30m, 2h or 7d ago, a date (2026-11-01) or a time
    /// (2026-11-01T08:30:00Z), in UTC where nothing else is said, or seconds since the epoch as events have them
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: Option<When>,
    /// After what --since asks for, go on with what arrives. Without --since, listen does so anyway
    #[arg(long, short)]
    pub follow: bool,
    /// Instead of printing, run this shell command for each message, one after the other; see below
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// How long it may take, before it counts as failed
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1m", requires = "exec")]
    pub exec_timeout: Duration,
    /// How often it is tried for one message, after waits of 1 s, 2 s, 4 s and so on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20), default_value_t = 5, requires = "exec")]
    pub exec_tries: u32,
}

/// `sealpost send …`
#[derive(Debug, Args)]
pub struct SendArguments {
    /// Who it is for
    #[arg(value_name = "USER")]
    pub to: String,
    /// The text; `-` or nothing reads standard input
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// It answers this message, by its id, or the `last` one of USER
    #[arg(long, value_name = "ID", conflicts_with_all = ["lines", "input"])]
    pub reply: Option<String>,
    /// How far to wait.
    #[command(flatten)]
    pub waiting: Waiting,
    /// Read standard input and send each line as a message, as it comes
    #[arg(long, conflicts_with = "text")]
    pub lines: bool,
    /// Offer this file, and send it while its recipient fetches it. It must stay where and as it is until they have it. Waits until they have it, as
    /// long as it moves, and is content if the offer is kept here
    #[arg(long, value_name = "PATH", conflicts_with_all = ["text", "lines", "input"])]
    pub file: Option<PathBuf>,
    /// What standard input has: text, or one JSON object with a `kind`
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Input::Text)]
    pub input: Input,
}

/// `sealpost edit …`
#[derive(Debug, Args)]
pub struct EditArguments {
    /// Which message, by its id; or a USER: your last one to them
    #[arg(value_name = "ID|USER")]
    pub which: String,
    /// The new text; `-` or nothing reads standard input
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// How far to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `sealpost delete …`
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// Which message, by its id; or a USER: your last one to them
    #[arg(value_name = "ID|USER")]
    pub which: String,
    /// Only from the history of this home, theirs too; nobody is told
    #[arg(long)]
    pub here: bool,
    /// The one that was exchanged with this user, should several have that id
    #[arg(long, value_name = "USER")]
    pub with: Option<String>,
    /// How far to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `sealpost expire …`
#[derive(Debug, Args)]
pub struct ExpireArguments {
    /// With whom
    #[arg(value_name = "USER")]
    pub with: String,
    /// 5s to 365d, such as 90s, 5m, 1h or 7d; or `off`. Without it, says how it is
    #[arg(value_name = "TIME|off")]
    pub time: Option<String>,
    /// How far to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// How far what is sent is waited for.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// Wait until the message has got so far, and fail with code 6 if it has not in time. Without this, send waits for the
    /// broker and is content if the message is kept here
    #[arg(long, value_name = "STATE", value_enum)]
    pub wait: Option<Wait>,
    /// How long to wait, such as 10s or 2m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// How far a message is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// On disk here; it goes with whatever connects next
    Queued,
    /// With the broker, on its disk
    Sent,
    /// Stored by the recipient, who says so in a sealed receipt
    Delivered,
    /// Shown to the recipient, if they tell
    Read,
}

/// What standard input has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// Text
    Text,
    /// The content of a message as JSON
    Json,
}

/// `sealpost outbox …`
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// What is queued, what the broker has and nobody receipted, and what failed
    List,
    /// Try a message again now, even one that failed
    Retry {
        /// Its id, or `all`
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Forget a message that has not arrived; the broker may have it already
    Drop {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// `sealpost files …`
#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// The last ones, and how far they are
    List,
    /// Save a file that somebody offers you, under a harmless name that nothing there has; fetch it first, if it is not here. Nothing is
    /// overwritten
    Save {
        /// Its number or the id of its message, from the list
        #[arg(value_name = "FILE")]
        file: String,
        /// Into this folder [default: `downloads`, or the current folder]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// How long to wait while nothing of it comes, such as 10s or 2m; it comes with whatever connects later, too [default: 10s]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Take an offer back, decline one, or throw away a file that is here and not saved. The other side is told
    Cancel {
        /// Its number or the id of its message, from the list
        #[arg(value_name = "FILE")]
        file: String,
    },
}

/// `sealpost history …`
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// Which part.
    #[command(flatten)]
    pub part: HistoryPart,
    /// The newest so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 100)]
    pub limit: u32,
    /// Only messages in which all these words occur, whatever their case, and "phrases in quotation marks"
    #[arg(long, value_name = "WORDS")]
    pub search: Option<String>,
    /// Read what was sent to you out of this archive of sealpost-archiver's instead, opened with the keys that you still have; nothing
    /// is stored
    #[arg(long, value_name = "DIR")]
    pub from_archive: Option<PathBuf>,
    /// What to do with it; without it, it is printed.
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
}

/// A part of the history.
#[derive(Debug, Args)]
pub struct HistoryPart {
    /// Only what was exchanged with this user
    #[arg(long, value_name = "USER")]
    pub with: Option<String>,
    /// Only what came or was written here since then: 90s, 30m, 2h or 7d ago, a date (2026-11-01) or a time
    /// (2026-11-01T08:30:00Z), in UTC where nothing else is said, or seconds since the epoch
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: Option<When>,
    /// Only what came or was written here before then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
}

/// `sealpost history …`
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Write it as JSON, one message a line, oldest first. It is readable to whoever reads it
    Export {
        /// Which part.
        #[command(flatten)]
        part: HistoryPart,
        /// Into this new file, for you alone (mode 0600), instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take over what an export of yours has and this home has not. It changes nothing but the history
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `sealpost restore …`
#[derive(Debug, Clone, Args)]
pub struct RestoreArguments {
    /// The backup; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A shell command whose first line of output is the backup's passphrase, instead of asking on the terminal
    #[arg(long, value_name = "CMD")]
    pub backup_passphrase_command: Option<String>,
    /// Leave the private keys unencrypted on disk, for a machine where nobody can type a passphrase
    #[arg(long)]
    pub no_passphrase: bool,
    /// Only read all of it and say whose it is and of when
    #[arg(long, conflicts_with = "no_passphrase")]
    pub check: bool,
}

/// `sealpost keys …`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make your keys: an Ed25519 identity and an RSA-3072 encryption key
    Init {
        /// Leave the private keys unencrypted on disk, for a machine where nobody can type a passphrase
        #[arg(long)]
        no_passphrase: bool,
        /// Do not connect: the keys are published by the next command that does
        #[arg(long)]
        no_publish: bool,
    },
    /// Show your fingerprint and what is published about you
    Show,
    /// Replace the RSA encryption key; the old one still opens messages under way for 45 days, then it is destroyed
    Rotate {
        /// Replace your identity as well: the old one signs over to the new one, and contacts are told
        #[arg(long)]
        identity: bool,
        /// Do not connect: the new key is published by the next command that does
        #[arg(long)]
        no_publish: bool,
    },
    /// Change the passphrase that protects your keys on this machine. Running commands must be started again
    Passphrase {
        /// A shell command whose first line of output is the new passphrase, instead of asking on the terminal
        #[arg(long, value_name = "CMD")]
        new_command: Option<String>,
        /// Leave the keys unencrypted on disk from now on
        #[arg(long, conflicts_with = "new_command")]
        remove: bool,
    },
    /// Withdraw your keys for good, as after the theft of a device: nobody can send to them any more
    Revoke {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `sealpost agent …`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Whether one holds the key, and until when
    Status,
    /// Make it forget the key, and go
    Lock,
    /// What a started agent does.
    #[command(hide = true)]
    Serve,
}

/// `sealpost contacts …`
#[derive(Debug, Subcommand)]
pub enum ContactsCommand {
    /// Everybody you have exchanged keys with
    List,
    /// Compare a contact's safety number with them, and mark them verified
    Verify {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
        /// The 60 digits they read to you, compared instead of asking
        #[arg(long, value_name = "DIGITS")]
        number: Option<String>,
        /// What the QR code on their screen says, compared instead of asking
        #[arg(long, value_name = "TEXT", conflicts_with = "number")]
        scan: Option<String>,
    },
    /// Who is new and asks to be let in, and what they wrote
    Requests,
    /// Let nothing of somebody in any more: what they send is dropped, and they learn nothing
    Block {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
    },
    /// Let somebody in again who was blocked
    Unblock {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
    },
    /// Alert nobody of somebody's messages: `chat` passes over them, and they wait for `listen` and `history`
    Mute {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
        /// For so long, such as 30m, 8h or 7d [default: until `unmute`]
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
    },
    /// Alert of somebody's messages again
    Unmute {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
    },
    /// What is different for one contact; without options, says how you deal with them
    Set {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
        /// What they are told of their messages
        #[arg(long, value_name = "WHAT", value_enum)]
        receipts: Option<ReceiptsOf>,
        /// What is said of their messages where somebody is alerted
        #[arg(long, value_name = "WHAT", value_enum)]
        notify: Option<NotifyOf>,
    },
    /// Let somebody in who is new, and let a contact know when their messages arrive, as if you had written to them
    Accept {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
    },
    /// Accept a contact's changed identity, or let a suspended contact speak again
    Trust {
        /// Whom
        #[arg(value_name = "USER")]
        contact: String,
        /// Accept only this fingerprint (SHA256:…), instead of asking
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<String>,
        /// Accept whatever is offered, without asking
        #[arg(long, conflicts_with = "fingerprint")]
        yes: bool,
    },
}

/// What a contact is told of their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReceiptsOf {
    /// As everybody
    Default,
    /// Nothing
    None,
    /// That they arrived
    Delivered,
    /// That they arrived, and that they were shown
    Read,
}

/// What is said of a contact's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NotifyOf {
    /// As of everybody's
    Default,
    /// Who wrote, and what
    Full,
    /// Who wrote
    Name,
    /// Nothing
    None,
}

/// `10`, `10s`, `500ms`, `2m`, `1h`: at most a day, so that nobody waits for ever by a slip of the finger.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(24 * 60 * 60);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| "write a time such as 10s, 500ms, 2m or 1h".to_owned())?;
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => return Err("write a time such as 10s, 500ms, 2m or 1h".to_owned()),
    };
    match duration {
        Some(duration) if duration.is_zero() => Err("a time of zero is no time".to_owned()),
        Some(duration) if duration <= MAX => Ok(duration),
        _ => Err("at most 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_and_man_pages_need_no_user() {
        let paper = |line| parse(line).unwrap().command.unwrap().paper();
        assert_eq!(
            paper("sealpost completions bash"),
            Some(Paper::Completions(Shell::Bash))
        );
        assert_eq!(paper("sealpost man /tmp"), Some(Paper::Man("/tmp".into())));
        assert_eq!(paper("sealpost chat"), None);
    }

    #[test]
    fn options_are_accepted_before_and_after_the_command() {
        for line in [
            "sealpost --user alice --broker mqtt://h:1 --home /h --realm r --json listen",
            "sealpost listen --user alice --broker mqtt://h:1 --home /h --realm r --json",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.global.user.as_deref(), Some("alice"));
            assert_eq!(cli.global.broker, ["mqtt://h:1"]);
            assert_eq!(cli.global.realm.as_deref(), Some("r"));
            assert!(cli.global.json);
            assert!(matches!(
                cli.command,
                Some(Command::Listen(ListenArguments {
                    count: None,
                    timeout: None,
                    ..
                }))
            ));
        }
    }

    #[test]
    fn send_takes_words_a_dash_or_nothing() {
        for (line, expected) in [
            ("sealpost send bob Hello Bob!", vec!["Hello", "Bob!"]),
            ("sealpost send bob -", vec!["-"]),
            ("sealpost send bob", vec![]),
        ] {
            match parse(line).unwrap().command {
                Some(Command::Send(SendArguments { to, text, .. })) => {
                    assert_eq!(to, "bob");
                    assert_eq!(text, expected);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_contact_named_on_the_command_line_is_not_taken_for_ourselves() {
        for line in [
            "sealpost --user alice contacts verify bob",
            "sealpost contacts trust bob --user alice",
            "sealpost --user alice send bob hi",
        ] {
            assert_eq!(parse(line).unwrap().global.user.as_deref(), Some("alice"));
        }
        assert_eq!(
            parse("sealpost contacts verify bob").unwrap().global.user,
            None
        );
    }

    #[test]
    fn contacts_alone_is_the_list() {
        assert!(matches!(
            parse("sealpost contacts").unwrap().command,
            Some(Command::Contacts { command: None })
        ));
        assert!(matches!(
            parse("sealpost contacts list").unwrap().command,
            Some(Command::Contacts {
                command: Some(ContactsCommand::List)
            })
        ));
    }

    #[test]
    fn without_a_command_it_is_the_chat() {
        let cli = parse("sealpost --user alice").unwrap();
        assert!(cli.command.is_none());
    }

    #[test]
    fn verify_never_takes_a_blanket_yes_and_no_passphrase_is_ever_a_flag_value() {
        for line in [
            "sealpost contacts verify bob --yes",
            "sealpost --passphrase secret chat",
            "sealpost keys init --no-passphrase=secret",
            "sealpost contacts trust bob --yes --fingerprint SHA256:x",
            "sealpost listen --count 0",
            "sealpost listen --since yesterday",
            "sealpost listen --exec-tries 3",
            "sealpost listen --exec true --exec-timeout 0",
            "sealpost send bob --wait failed",
            "sealpost send bob hi --lines",
            "sealpost frobnicate",
        ] {
            let refused = parse(line).expect_err(line);
            assert_eq!(refused.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn times_have_units_and_a_bound() {
        for (text, millis) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in [
            "",
            "s",
            "0",
            "-1",
            "1.5s",
            "10 s",
            "25h",
            "1d",
            "99999999999999999999",
        ] {
            parse_duration(text).expect_err(text);
        }
    }
}
