//! Key bundles are kept with the same care as messages, in a log of their own; and what they say of signatures.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::group_commit::NEVER_FULL;
use bytes::Bytes;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line, Verified};
use sealpost_archive::log_reader::LogReader;
use sealpost_archiver::arrival::Arrival;
use sealpost_archiver::committer::{Committer, Logs};
use sealpost_archiver::health::Health;
use sealpost_archiver::room::Room;
use sealpost_archiver::rotation::Rotation;
use sealpost_archiver::signers::Signers;
use sealpost_archiver::work::Inbox;
use sealpost_archiver::writer::Writer;
use sealpost_core::{BundleFields, Identity, KeyBundle, Realm, UserId};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::messages::{LOG_FILE, at};
use crate::simulated_disk::SimulatedDisk;

/// A bundle of the alice who is in all test vectors.
fn bundle() -> Arrival {
    let fields = BundleFields {
        realm: Realm::default(),
        user: UserId::parse("alice").unwrap(),
        seq: 1,
        created: at(),
        expires: at().saturating_add(Duration::from_secs(86_400)),
        encryption: Vec::new(),
        links: Vec::new(),
    };
    let bundle = KeyBundle::sign(fields, &Identity::from_seed(&[1; 32])).unwrap();
    let payload = Bytes::copy_from_slice(bundle.as_bytes());
    Arrival::new("keys/alice".into(), payload, 1, Some(1))
}

fn envelope() -> Arrival {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/openings.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = file["cases"][0]["envelope"]["text"].as_str().unwrap();
    let payload = Bytes::from(text.to_owned());
    Arrival::new("inbox/bob".into(), payload, 1, Some(2))
}

/// The same envelope with another signature.
fn forged() -> Arrival {
    let payload = String::from_utf8(envelope().payload.to_vec()).unwrap();
    let (head, _) = payload.split_once("\"sig\":\"").unwrap();
    let payload = format!("{head}\"sig\":\"{}==\"}}", "A".repeat(86));
    Arrival::new("inbox/bob".into(), payload.into(), 1, Some(3))
}

/// Archives in one batch, with signatures checked; gives the lines of both logs.
fn archive(disk: &SimulatedDisk, arrivals: Vec<Arrival>) -> [Vec<String>; 2] {
    let open = |log| Writer::open(disk, log, 1000, None).unwrap().0;
    let logs = Logs {
        messages: open(LogName::EncryptedLogs),
        keys: open(LogName::KeyHistory),
    };
    let history = LogReader::open(disk, LogName::KeyHistory).unwrap();
    let signers = Signers::of(Realm::default(), &history).unwrap();
    let room = Room::new(disk.clone(), 0, Duration::ZERO);
    let rotation = Rotation::new(disk.clone(), NEVER_FULL);
    let mut committer = Committer::new(
        logs,
        room,
        rotation,
        Some(signers),
        Arc::new(Health::default()),
    );
    let (sender, arrived) = mpsc::unbounded_channel();
    let (receipts, mut received) = mpsc::unbounded_channel();
    let expected: Vec<_> = arrivals.iter().map(|arrival| arrival.receipt).collect();
    for arrival in arrivals {
        sender.send(arrival.into()).unwrap();
    }
    drop(sender);
    committer
        .commit_all(Inbox::new(arrived), &receipts, at, |_, _| {})
        .unwrap();
    assert_eq!(
        received.try_recv().unwrap(),
        expected,
        "in order of arrival"
    );
    [LOG_FILE, "key_history.jsonl"].map(|name| {
        let log = String::from_utf8(disk.durable(name).unwrap()).unwrap();
        log.lines().map(str::to_owned).collect()
    })
}

fn verified(line: &str) -> Option<Verified> {
    match Line::parse(line.as_bytes()).unwrap().body {
        Body::Message(message) => message.verified,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bundles_go_to_the_key_history_and_envelopes_to_the_log_of_messages() {
    let disk = SimulatedDisk::default();
    let [messages, keys] = archive(&disk, vec![envelope(), bundle(), bundle(), envelope()]);
    assert_eq!((messages.len(), keys.len()), (1, 1));
    let Body::Message(message) = Line::parse(keys[0].as_bytes()).unwrap().body else {
        panic!("no message");
    };
    assert_eq!(&*message.topic, b"keys/alice");
    assert_eq!(&*message.payload, &bundle().payload[..]);
    assert_eq!(message.error, None);

    // And once, over any number of lives: a retained bundle comes again with every subscription.
    for _ in 0..3 {
        let [messages, keys] = archive(&disk, vec![bundle(), envelope()]);
        assert_eq!((messages.len(), keys.len()), (1, 1));
    }
}

#[test]
fn what_is_no_bundle_of_its_owner_is_kept_with_the_reason() {
    let disk = SimulatedDisk::default();
    let of_another = Arrival::new("keys/bob".into(), bundle().payload, 1, Some(1));
    let cleared = Arrival::new("keys/alice".into(), Bytes::new(), 1, Some(2));
    let [messages, keys] = archive(&disk, vec![of_another, cleared]);
    assert!(messages.is_empty());
    assert!(
        keys[0].contains(r#""topic":"keys/bob","error":"\"user\" is not the owner"#),
        "{}",
        keys[0]
    );
    assert!(
        keys[1].contains(r#""topic":"keys/alice","error":"#),
        "{}",
        keys[1]
    );
}

#[test]
fn a_line_says_whether_the_signature_is_its_senders_and_nothing_is_dropped_for_it() {
    let disk = SimulatedDisk::default();
    let [messages, _] = archive(&disk, vec![envelope(), forged()]);
    assert_eq!(
        verified(&messages[0]),
        Some(Verified::Unknown),
        "nobody said whose it is"
    );
    assert_eq!(verified(&messages[1]), Some(Verified::False));

    let disk = SimulatedDisk::default();
    let [messages, _] = archive(&disk, vec![bundle(), envelope()]);
    assert_eq!(verified(&messages[0]), Some(Verified::True));

    let disk = SimulatedDisk::default();
    archive(&disk, vec![bundle()]);
    let [messages, _] = archive(&disk, vec![envelope()]);
    assert_eq!(
        verified(&messages[0]),
        Some(Verified::True),
        "also in a later life"
    );
}
