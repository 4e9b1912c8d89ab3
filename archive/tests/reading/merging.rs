//! Several logs make one stream, and a log makes numbers.

use sealpost_archive::layout::LogName;
use sealpost_archive::line;
use sealpost_archive::log_reader::{LogReader, Selection};
use sealpost_archive::merge::{Merge, WINDOW};
use sealpost_archive::stats::{Amount, Stats};

use crate::sample::{LAST, Sample, at, envelope, id, people};

/// A log of these messages, each written at its own time and a little later.
fn log_of(messages: &[u64], late: u64) -> Sample {
    let lines = (1..)
        .zip(messages)
        .map(|(seq, &message)| {
            let (from, to) = people(message);
            let mut line = Vec::new();
            let payload = envelope(message, from, to, None);
            line::write_message(&mut line, seq, at(message + late), None, &payload);
            line.pop();
            line
        })
        .collect();
    Sample::build(LogName::EncryptedLogs, lines, &[3])
}

fn merged(logs: &[&Sample], window: usize) -> Vec<String> {
    let readers: Vec<_> = logs
        .iter()
        .map(|log| LogReader::open(&log.storage(), log.log).unwrap())
        .collect();
    let mut merge = Merge::new(&readers, &Selection::default(), window).unwrap();
    let mut ids = Vec::new();
    while let Some(line) = merge.next_line().unwrap() {
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        ids.push(line["id"].as_str().unwrap().to_owned());
    }
    ids
}

fn ids(messages: impl IntoIterator<Item = u64>) -> Vec<String> {
    messages.into_iter().map(id).collect()
}

#[test]
fn mirrors_make_one_stream_without_repetitions() {
    let whole: Vec<u64> = (1..=20).collect();
    let gappy: Vec<u64> = (1..=20).filter(|number| number % 5 != 0).collect();
    let first = log_of(&gappy, 0);
    let second = log_of(&whole, 3);
    let merged = merged(&[&first, &second], WINDOW);
    assert_eq!(merged.len(), 20);
    let mut sorted = merged.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ids(1..=20));
}

#[test]
fn archivers_that_take_turns_make_one_stream_in_order() {
    let odd: Vec<u64> = (1..=21).step_by(2).collect();
    let even: Vec<u64> = (2..=20).step_by(2).collect();
    let (odd, even) = (log_of(&odd, 0), log_of(&even, 0));
    assert_eq!(merged(&[&odd, &even], 1), ids(1..=21));
    assert_eq!(merged(&[&even, &odd], 1), ids(1..=21));
}

#[test]
fn a_message_is_known_again_within_the_window() {
    let log = log_of(&[1, 2, 3, 4], 0);
    let other = log_of(&[1, 2, 3, 4], 100);
    assert_eq!(merged(&[&log, &other], 4), ids(1..=4));
    // Beyond it, it is another one for all that is known.
    assert_eq!(merged(&[&log, &other], 3).len(), 8);
}

#[test]
fn a_log_in_numbers_adds_up() {
    let sample = Sample::new();
    let reader = LogReader::open(&sample.storage(), sample.log).unwrap();
    let mut stats = Stats::default();
    let mut lines = reader.lines(Selection::default());
    while let Some(line) = lines.next_line().unwrap() {
        stats.add(line.archived_at, line.bytes);
    }
    assert_eq!(stats.all.lines, LAST);
    assert_eq!((stats.erased.lines, stats.records.lines), (1, 1));
    assert_eq!((stats.bundles.lines, stats.damaged.lines), (0, 0));
    let kinds = [stats.envelopes, stats.unfit, stats.erased, stats.records];
    let of_kinds: u64 = kinds.iter().map(|amount| amount.bytes).sum();
    assert_eq!(of_kinds, stats.all.bytes);
    let sum = |amounts: &mut dyn Iterator<Item = &Amount>| -> u64 {
        amounts.map(|amount| amount.lines).sum()
    };
    assert_eq!(sum(&mut stats.days.values()), LAST);
    assert_eq!(sum(&mut stats.sizes.values()), LAST);
    assert_eq!(sum(&mut stats.senders.values()), stats.envelopes.lines);
    assert_eq!(sum(&mut stats.recipients.values()), stats.envelopes.lines);
    assert_eq!(stats.senders.len(), 3);
    assert_eq!(stats.days.keys().collect::<Vec<_>>(), ["2023-11-14"]);
}
