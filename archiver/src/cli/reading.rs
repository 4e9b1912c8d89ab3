//! The flags of the commands that read an archive.

use std::path::PathBuf;

use clap::Args;
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

/// Flags of `query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Where the archive is.
    #[command(flatten)]
    pub dir: DirArgs,
    /// Only envelopes of this sender.
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    pub from: Option<UserId>,
    /// Only envelopes to this recipient.
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    pub to: Option<UserId>,
    /// Only the message with this id.
    #[arg(long, value_name = "ID", value_parser = MessageId::parse)]
    pub id: Option<MessageId>,
    /// Only what was archived at this time or later: 2026-11-01, 2026-11-01T08:30:00Z, or seconds since the epoch.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Only what was archived before this time.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// In this log.
    #[arg(long, value_name = "LOG", default_value = "encrypted_logs")]
    pub log: Log,
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
