//! What senders sent and the archive never saw.

use sealpost_archive::gaps::{Gaps, find};
use sealpost_archive::layout::LogName;
use sealpost_archive::line;
use sealpost_archive::log_reader::LogReader;

use crate::sample::{Sample, at, envelope, id, plain_line};

/// The gaps in a log of envelopes: who sends to whom, which message, and which one he says was before it.
fn gaps(envelopes: &[(&str, &str, u64, Option<u64>)]) -> Gaps {
    let mut lines = Vec::new();
    for (seq, &(from, to, message, prev)) in (1..).zip(envelopes) {
        let mut line = Vec::new();
        let prev = prev.map(id);
        let payload = envelope(message, from, to, prev.as_deref());
        line::write_message(&mut line, seq, at(seq), None, &payload);
        line.pop();
        lines.push(line);
    }
    let cut = lines.len() as u64 / 2;
    let sample = Sample::build(LogName::EncryptedLogs, lines, &[cut]);
    let reader = LogReader::open(&sample.storage(), sample.log).unwrap();
    find(&reader, |_| {}).unwrap()
}

#[test]
fn what_nobody_saw_is_listed() {
    let gaps = gaps(&[
        ("alice", "bob", 101, None),
        ("alice", "carol", 201, None),
        ("alice", "bob", 102, Some(101)),
        // 103 never came.
        ("alice", "bob", 104, Some(103)),
        ("alice", "carol", 202, Some(201)),
        // The first that the archive saw of a conversation that is older.
        ("bob", "alice", 302, Some(301)),
    ]);
    let missing: Vec<(u64, &str, String)> = gaps
        .gaps
        .iter()
        .map(|gap| (gap.before_line, gap.from.as_str(), gap.missing.clone()))
        .collect();
    assert_eq!(missing, [(4, "alice", id(103)), (6, "bob", id(301))]);
    assert_eq!(gaps.gaps[0].next, id(104));
    assert_eq!((gaps.envelopes, gaps.incomplete), (6, false));
}

#[test]
fn what_came_in_another_order_is_no_gap() {
    let gaps = gaps(&[
        ("alice", "bob", 101, None),
        ("alice", "bob", 104, Some(103)),
        ("alice", "bob", 102, Some(101)),
        ("alice", "bob", 103, Some(102)),
        // Sent again, as it was.
        ("alice", "bob", 102, Some(101)),
        ("alice", "bob", 105, Some(104)),
    ]);
    assert_eq!(gaps.gaps, []);
}

#[test]
fn an_id_that_somebody_else_uses_fills_no_gap() {
    let gaps = gaps(&[
        ("mallory", "bob", 103, None),
        ("alice", "bob", 104, Some(103)),
    ]);
    assert_eq!(gaps.gaps.len(), 1);
}

#[test]
fn erased_and_retired_lines_are_told_of() {
    let sample = Sample::new();
    let reader = LogReader::open(&sample.storage(), sample.log).unwrap();
    let gaps = find(&reader, |_| {}).unwrap();
    assert_eq!((gaps.erased, gaps.retired), (1, 0));
    sample.remove(&sample.segment(1));
    sample.remove(&sample.manifest(1));
    let reader = LogReader::open(&sample.storage(), sample.log).unwrap();
    assert_eq!(find(&reader, |_| {}).unwrap().retired, 300);
    let empty = Sample::build(sample.log, vec![plain_line(1)], &[]);
    let reader = LogReader::open(&empty.storage(), empty.log).unwrap();
    assert_eq!(find(&reader, |_| {}).unwrap().gaps, []);
}
