//! Lines as they are written: one function for each kind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealpost_core::Timestamp;

use super::{Erased, Verified};
use crate::hash::Hash;

/// Appends to `out` the line that keeps an envelope or a bundle, newline included.
///
/// `payload` is in its one encoding: it starts with `{"v":` and has no newline. Whoever takes it in makes sure.
pub fn write_message(
    out: &mut Vec<u8>,
    seq: u64,
    archived_at: Timestamp,
    verified: Option<Verified>,
    payload: &[u8],
) {
    write_head(out, seq, archived_at);
    if let Some(verified) = verified {
        out.extend_from_slice(b"\"verified\":");
        out.extend_from_slice(verified.as_json().as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(payload.get(1..).unwrap_or_default());
    out.push(b'\n');
}

/// Appends to `out` the line that keeps a payload which is no envelope for its topic, newline
/// included.
pub fn write_unfit(
    out: &mut Vec<u8>,
    seq: u64,
    archived_at: Timestamp,
    topic: &[u8],
    error: &str,
    payload: &[u8],
) {
    write_head(out, seq, archived_at);
    match std::str::from_utf8(topic) {
        Ok(topic) => {
            out.extend_from_slice(b"\"topic\":");
            write_json_string(out, topic);
        }
        Err(_) => {
            out.extend_from_slice(b"\"topic_raw\":\"");
            out.extend_from_slice(STANDARD.encode(topic).as_bytes());
            out.push(b'"');
        }
    }
    out.extend_from_slice(b",\"error\":");
    write_json_string(out, error);
    out.extend_from_slice(b",\"raw\":\"");
    out.extend_from_slice(STANDARD.encode(payload).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Appends to `out` the record that a line was erased, newline included.
pub fn write_erasure(
    out: &mut Vec<u8>,
    seq: u64,
    archived_at: Timestamp,
    erased: &Erased,
    reason: &str,
) {
    let Erased {
        seq: erases,
        archived_at: line_archived_at,
        digest,
        leaf,
    } = erased;
    let removed = format!(
        "\"erases\":{erases},\"line_archived_at\":{line_archived_at},\"digest\":\"{digest}\",\"leaf\":\"{leaf}\""
    );
    write_record(out, seq, archived_at, &removed, reason);
}

/// Appends to `out` the record that the lines 1 to `retires`, whose root is `root`, were removed, newline included.
pub fn write_retirement(
    out: &mut Vec<u8>,
    seq: u64,
    archived_at: Timestamp,
    retires: u64,
    root: Hash,
    reason: &str,
) {
    let removed = format!("\"retires\":{retires},\"root\":\"{root}\"");
    write_record(out, seq, archived_at, &removed, reason);
}

/// Appends to `out` what stands in the place of line `seq` after its erasure, newline included. `archived_at` is the line's own.
pub fn write_tombstone(
    out: &mut Vec<u8>,
    seq: u64,
    archived_at: Timestamp,
    erased_by: u64,
    leaf: Hash,
) {
    write_head(out, seq, archived_at);
    out.extend_from_slice(format!("\"erased_by\":{erased_by},\"leaf\":\"{leaf}\"}}\n").as_bytes());
}

/// A record of what was removed, by the members that say it.
fn write_record(out: &mut Vec<u8>, seq: u64, archived_at: Timestamp, removed: &str, reason: &str) {
    write_head(out, seq, archived_at);
    out.extend_from_slice(removed.as_bytes());
    out.extend_from_slice(b",\"reason\":");
    write_json_string(out, reason);
    out.extend_from_slice(b"}\n");
}

fn write_head(out: &mut Vec<u8>, seq: u64, archived_at: Timestamp) {
    out.extend_from_slice(format!("{{\"seq\":{seq},\"archived_at\":{archived_at},").as_bytes());
}

fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}
