//! Whether a line is written as lines are.

use sealpost_core::{Envelope, KeyBundle, Timestamp};

use super::finding::Fault;
use crate::layout::LogName;
use crate::line::{self, Body, Line, Message};

/// Checks that a line is written as lines are, and that what it keeps is fit for its log; gives from whom to whom it is, if it is an
/// envelope.
pub(super) fn check_form(
    log: LogName,
    parsed: &Line<'_>,
    raw: &[u8],
) -> Result<Option<(String, String)>, Fault> {
    let mut written = Vec::with_capacity(raw.len() + 1);
    write(&mut written, parsed.seq, parsed.archived_at, &parsed.body);
    if written.strip_suffix(b"\n") != Some(raw) {
        return Err(Fault::Form);
    }
    let Body::Message(Message {
        payload,
        error: None,
        ..
    }) = &parsed.body
    else {
        return Ok(None);
    };
    match log {
        LogName::EncryptedLogs => {
            let envelope =
                Envelope::parse(payload).map_err(|error| Fault::Message(error.to_string()))?;
            Ok(Some((
                envelope.from().as_str().to_owned(),
                envelope.to().as_str().to_owned(),
            )))
        }
        LogName::KeyHistory => KeyBundle::parse(payload)
            .map(|_| None)
            .map_err(|error| Fault::Message(error.to_string())),
    }
}

/// Writes a line anew.
fn write(out: &mut Vec<u8>, seq: u64, at: Timestamp, body: &Body<'_>) {
    match body {
        Body::Message(Message {
            topic,
            payload,
            verified,
            error,
        }) => match error {
            None => line::write_message(out, seq, at, *verified, payload),
            Some(error) => line::write_unfit(out, seq, at, topic, error, payload),
        },
        Body::Erasure { erased, reason } => line::write_erasure(out, seq, at, erased, reason),
        Body::Retirement {
            retires,
            root,
            reason,
        } => line::write_retirement(out, seq, at, *retires, *root, reason),
        Body::Tombstone { erased_by, leaf } => {
            line::write_tombstone(out, seq, at, *erased_by, *leaf);
        }
    }
}
