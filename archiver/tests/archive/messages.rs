//! Messages to archive, and the archive's lines as a reader sees them.

use bytes::Bytes;
use sealpost_archive::digest::Digest;
use sealpost_archive::line::{Body, Line};
use sealpost_archiver::arrival::{Arrival, Receipt};
use sealpost_core::Timestamp;

/// The log's active file.
pub(crate) const LOG_FILE: &str = "encrypted_logs.jsonl";

/// The time at which everything is archived here.
pub(crate) fn at() -> Timestamp {
    Timestamp::parse("1700000000.123").unwrap()
}

/// The `number`th message: every third is no envelope for its topic, with bytes that would break a line. The others
/// only look like one, which is enough for whoever comes after the judging.
pub(crate) fn message(number: u64) -> Arrival {
    let (topic, payload, fault) = if number % 3 == 2 {
        (
            format!("inbox/b\u{f6}b{number}"),
            format!("\n\"}}{number}\0\n").into_bytes(),
            Some("why not".to_owned()),
        )
    } else {
        let payload = format!(
            "{{\"v\":1,\"id\":{number},\"to\":\"bob\",\"ciphertext\":\"{}\"}}",
            "x".repeat(number as usize % 40)
        );
        ("inbox/bob".to_owned(), payload.into_bytes(), None)
    };
    Arrival {
        digest: Digest::of(topic.as_bytes(), &payload),
        topic: topic.into(),
        payload: payload.into(),
        log: sealpost_archive::layout::LogName::EncryptedLogs,
        fault,
        verified: None,
        receipt: Receipt {
            connection: 1,
            packet_id: u16::try_from(number + 1).ok(),
            cost: 1,
        },
    }
}

/// The first `count` messages.
pub(crate) fn messages(count: u64) -> Vec<Arrival> {
    (0..count).map(message).collect()
}

/// Topic and payload of each.
pub(crate) fn contents(arrivals: &[Arrival]) -> Vec<(Bytes, Bytes)> {
    arrivals
        .iter()
        .map(|arrival| (arrival.topic.clone(), arrival.payload.clone()))
        .collect()
}

/// Reads a whole log as any reader would: every line whole and valid, numbers from 1 without a gap.
pub(crate) fn read_log(log: &[u8]) -> Vec<(Bytes, Bytes)> {
    assert!(
        log.is_empty() || log.ends_with(b"\n"),
        "the log ends in half a line"
    );
    let lines = log.split_inclusive(|&byte| byte == b'\n');
    lines
        .enumerate()
        .map(|(place, line)| {
            let json: serde_json::Value = serde_json::from_slice(line).expect("every line is JSON");
            assert_eq!(json["seq"], place as u64 + 1);
            let line = Line::parse(&line[..line.len() - 1]).unwrap();
            let Body::Message(message) = line.body else {
                panic!("line {} is no message", line.seq);
            };
            (
                Bytes::from(message.topic.into_owned()),
                Bytes::from(message.payload.into_owned()),
            )
        })
        .collect()
}
