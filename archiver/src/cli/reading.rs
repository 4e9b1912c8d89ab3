//! The flags of the commands that read an archive.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sealpost_archive::query::Query;
use sealpost_core::{MessageId, UserId};

use super::{DirArgs, Log};
use crate::moment::Moment;

/// Flags of `prove`.
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// The number of the line.
    #[arg(long, value_name = "N", required_unless_present = "id")]
    pub seq: Option<u64>,
    /// The id of the message in the line.
    #[arg(long, value_name = "ID", value_parser = MessageId::parse, conflicts_with = "seq")]
    pub id: Option<MessageId>,
    /// The log that it is in.
    #[arg(long, value_name = "LOG", default_value = "encrypted_logs")]
    pub log: Log,
    /// The key that the checkpoint is signed with; the archive's own without it.
    #[arg(long, value_name = "VERIFIER-KEY")]
    pub key: Option<String>,
    /// Write the proof to this file instead of printing it; by custom it ends in .tlog-proof.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Flags of `check-proof`.
#[derive(Debug, Args)]
pub struct CheckProofArgs {
    /// The proof.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The key that the archive's checkpoints are signed with, as `key --checkpoint` printed it.
    #[arg(long, value_name = "VERIFIER-KEY")]
    pub key: String,
    /// The line, from elsewhere: needed for a line that was erased.
    #[arg(long, value_name = "FILE")]
    pub line: Option<PathBuf>,
    /// Print the line that is proved.
    #[arg(long)]
    pub print: bool,
}

/// Flags of `consistency`.
#[derive(Debug, Args)]
pub struct ConsistencyArgs {
    /// The older checkpoint.
    #[arg(value_name = "OLD-NOTE")]
    pub old: PathBuf,
    /// The newer checkpoint.
    #[arg(value_name = "NEW-NOTE")]
    pub new: PathBuf,
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// The key that both are signed with; the archive's own without it.
    #[arg(long, value_name = "VERIFIER-KEY")]
    pub key: Option<String>,
    /// Print one JSON object, with the hashes that prove it (RFC 6962 section 2.1.2).
    #[arg(long)]
    pub json: bool,
}

/// Flags of `gaps`.
#[derive(Debug, Args)]
pub struct GapsArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What is looked for.
#[derive(Debug, Args)]
pub struct Conditions {
    /// Only envelopes of this sender.
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    pub from: Option<UserId>,
    /// Only envelopes to this recipient.
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    pub to: Option<UserId>,
    /// Only the message with this id.
    #[arg(long, value_name = "ID", value_parser = MessageId::parse)]
    pub id: Option<MessageId>,
    /// Only what was archived then or later: 2026-11-01, 2026-11-01T08:30:00Z, or seconds since 1970.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Only what was archived before.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// In this log.
    #[arg(long, value_name = "LOG", default_value = "encrypted_logs")]
    pub log: Log,
}

impl Conditions {
    /// The query that they make.
    #[must_use]
    pub fn query(&self) -> Query {
        Query {
            from: self.from.clone(),
            to: self.to.clone(),
            id: self.id,
            since: self.since.map(|Moment(at)| at),
            until: self.until.map(|Moment(at)| at),
        }
    }
}

/// Flags of `query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// What is looked for.
    #[command(flatten)]
    pub what: Conditions,
    /// Print the lines themselves, which are JSON.
    #[arg(long)]
    pub json: bool,
    /// Print only how many there are.
    #[arg(long, conflicts_with_all = ["json", "follow"])]
    pub count: bool,
    /// Go on with new lines as they come.
    #[arg(long)]
    pub follow: bool,
    /// Stop after so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// What is looked for.
    #[command(flatten)]
    pub what: Conditions,
    /// The lines themselves, or a table of their names.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub format: ExportFormat,
    /// Write to this file, which must not be there yet, instead of printing.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What an export is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The lines themselves.
    Jsonl,
    /// A row for each line, with a header (RFC 4180): seq, archived_at, kind, from, to, id, prev, verified, bytes.
    Csv,
}

/// Flags of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// Only what was archived then or later.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Only what was archived before.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// Of this log.
    #[arg(long, value_name = "LOG", default_value = "encrypted_logs")]
    pub log: Log,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Draw the days into this file, too.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// Flags of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The directories of the archives.
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Only what was archived then or later.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Only what was archived before.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// These logs.
    #[arg(long, value_name = "LOG", default_value = "encrypted_logs")]
    pub log: Log,
    /// Say at the end, on stderr, how many there were.
    #[arg(long)]
    pub count: bool,
}
