//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sealpost_archive::layout::LogName;

use crate::moment::Moment;

pub mod reading;

use reading::{
    CheckProofArgs, ConsistencyArgs, ExportArgs, GapsArgs, MergeArgs, ProveArgs, QueryArgs,
    StatsArgs,
};

/// Printed below the help.
const AFTER_HELP: &str = "\
Exit codes: 0 stopped cleanly, 1 failed, 2 wrong usage or settings, 10 another archiver writes in
the directory, 11 the archive is damaged or does not verify, 12 the disk failed, 13 the disk is full.";

/// Keeps every inbox's ciphertext, and can read none of it.
#[derive(Debug, Parser)]
#[command(name = "sealpost-archiver", version = sealpost_version::SHORT, long_version = sealpost_version::LONG, about, max_term_width = 100)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Archive until told to stop (SIGTERM or Ctrl-C).
    Run(RunArgs),
    /// Print the archiver's public key, which the broker must know; make the key if there is none.
    Key(KeyArgs),
    /// Say what is in the archive and whether somebody writes to it.
    Status(StatusArgs),
    /// Read the whole archive again and hold it against what was signed: exit code 0 only if all holds, 11 if not.
    Verify(VerifyArgs),
    /// Give archived messages to their recipient once more, verbatim, signed in as an operator of the broker.
    Replay(ReplayArgs),
    /// Put a tombstone in the place of a line: what was in it is gone, and the tree still verifies.
    Erase(EraseArgs),
    /// Remove the oldest segments of messages, with a record of it.
    Retire(RetireArgs),
    /// Say what may be neither erased nor retired.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Seal the active files into segments now, as SIGHUP does.
    Seal(DirArgs),
    /// Print a proof that a line is in the archive, which holds without it (c2sp.org/tlog-proof).
    Prove(ProveArgs),
    /// Check a proof that `prove` made: exit code 0 only if it holds, 11 if not.
    CheckProof(CheckProofArgs),
    /// Show that one checkpoint grew into another: exit code 0 only if it did, 11 if not.
    Consistency(ConsistencyArgs),
    /// List the messages that senders sent and the archive never saw.
    Gaps(GapsArgs),
    /// Find lines by sender, recipient, id and time.
    Query(QueryArgs),
    /// Write what is found as JSON lines or CSV.
    Export(ExportArgs),
    /// Say how much there is: by day, sender, recipient and length.
    Stats(StatsArgs),
    /// Print the messages of several archives as one stream, each once, in the order in which they were archived.
    Merge(MergeArgs),
}

/// Flags of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// The number of the line ("seq").
    #[arg(long, value_name = "N")]
    pub seq: u64,
    /// The log that it is in.
    #[arg(long, value_name = "LOG", default_value = "encrypted_logs")]
    pub log: Log,
    /// Why; it stands in the log for ever.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Flags of `retire`.
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// Segments whose lines were all written before this: a day (2026-01-31), a time (2026-01-31T12:00:00Z) or seconds since 1970.
    #[arg(long, value_name = "WHEN")]
    pub before: Moment,
    /// Why; it stands in the log for ever.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// What to do with holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Place a hold.
    Add {
        /// Where the archive is.
        #[command(flatten)]
        dir: DirArgs,
        /// What it is called.
        name: String,
        /// It covers lines written then or later; all if not given.
        #[arg(long, value_name = "WHEN")]
        from: Option<Moment>,
        /// It covers lines written then or before; all if not given.
        #[arg(long, value_name = "WHEN")]
        until: Option<Moment>,
        /// It covers what this user sent or got; may be given more than once. Everybody if not given.
        #[arg(long, value_name = "USER")]
        user: Vec<String>,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the holds.
    List {
        /// Where the archive is.
        #[command(flatten)]
        dir: DirArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Release a hold.
    Release {
        /// Where the archive is.
        #[command(flatten)]
        dir: DirArgs,
        /// What it is called.
        name: String,
    },
}

impl HoldCommand {
    /// Where the archive is.
    #[must_use]
    pub fn dir(&self) -> &DirArgs {
        match self {
            HoldCommand::Add { dir, .. }
            | HoldCommand::List { dir, .. }
            | HoldCommand::Release { dir, .. } => dir,
        }
    }
}

/// Flags that say where the broker is, and how to get there.
#[derive(Debug, Clone, Args, Default)]
pub struct BrokerArgs {
    /// The broker: mqtts://HOST, wss://HOST, or without TLS mqtt:// and ws://; given more than once
    /// or with commas, they are tried in turn [env: SEALPOST_ARCHIVER_BROKER]
    #[arg(long, value_name = "URL")]
    pub broker: Vec<String>,
    /// Trust only the authorities in this PEM file to certify the broker, instead of those that
    /// this machine trusts [env: SEALPOST_ARCHIVER_CA]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The archiver's certificate in PEM, for a broker that wants one [env:
    /// SEALPOST_ARCHIVER_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Its private key in PEM [env: SEALPOST_ARCHIVER_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// A file whose first line is the archiver's password at the broker, for brokers that know no login
    /// by identity key [env: SEALPOST_ARCHIVER_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Go through this proxy, http://HOST:PORT or socks5://HOST:PORT, or through `none` [env:
    /// SEALPOST_ARCHIVER_PROXY] [default: what ALL_PROXY, HTTPS_PROXY and NO_PROXY say]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// The realm, as the broker has it [env: SEALPOST_ARCHIVER_REALM] [default: local]
    #[arg(long, value_name = "REALM")]
    pub realm: Option<String>,
}

/// Flags of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Whose mail is given once more
    #[arg(long, value_name = "USER")]
    pub to: String,
    /// Only what was archived then or later: a day (2026-01-31), a time (2026-01-31T12:00:00Z) or seconds since 1970
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Only what was archived then or before
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// Only lines from this number on: where an earlier replay broke off
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub from_seq: u64,
    /// The name of an operator of the broker's
    #[arg(long, value_name = "NAME", default_value = "replay")]
    pub operator: String,
    /// The operator's key: 32 bytes as base64, as `sealpost-archiver key` makes one in another directory
    #[arg(long, value_name = "FILE")]
    pub operator_key: PathBuf,
    /// The broker, and the way to it.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
}

/// Flags of `run`. Each one that is missing comes from the environment, the file or the default, in
/// this order.
#[derive(Debug, Args, Default)]
pub struct RunArgs {
    /// The broker, and the way to it.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The name under which the broker knows this archiver [env: SEALPOST_ARCHIVER_NAME] [default:
    /// archiver]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Share the inboxes with the other archivers of this group, each with a part of the messages, instead of keeping all
    /// [env: SEALPOST_ARCHIVER_SHARE]
    #[arg(long, value_name = "GROUP")]
    pub share: Option<String>,
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
}

/// Flags that say where the archive is.
#[derive(Debug, Clone, Args, Default)]
pub struct DirArgs {
    /// The archive's directory [env: SEALPOST_ARCHIVER_DIR]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A file with settings (TOML) [env: SEALPOST_ARCHIVER_CONFIG]
    #[arg(
        long,
        value_name = "FILE",
        env = "SEALPOST_ARCHIVER_CONFIG",
        hide_env = true
    )]
    pub config: Option<PathBuf>,
}

/// Flags of `key`.
#[derive(Debug, Args, Default)]
pub struct KeyArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// Print the keys that verify the archive's checkpoints instead, one for each log; make them if there are none.
    #[arg(long)]
    pub checkpoint: bool,
}

/// Flags of `verify`.
#[derive(Debug, Args, Default)]
pub struct VerifyArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// A checkpoint that was kept elsewhere: the archive must have grown out of it. May be given more than once.
    #[arg(long, value_name = "NOTE-FILE")]
    pub checkpoint: Vec<PathBuf>,
    /// The key that checkpoints must be signed with, as `key --checkpoint` printed it; one for each log. Without it the archive's own
    /// is taken, which proves only that the archive agrees with itself.
    #[arg(long, value_name = "VERIFIER-KEY")]
    pub key: Vec<String>,
    /// Verify only this log.
    #[arg(long, value_name = "LOG")]
    pub log: Option<Log>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A log of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Log {
    /// Messages.
    EncryptedLogs,
    /// Key bundles.
    KeyHistory,
}

impl From<Log> for LogName {
    fn from(log: Log) -> LogName {
        match log {
            Log::EncryptedLogs => LogName::EncryptedLogs,
            Log::KeyHistory => LogName::KeyHistory,
        }
    }
}

/// Flags of `status`.
#[derive(Debug, Args, Default)]
pub struct StatusArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
