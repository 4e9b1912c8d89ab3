//! An archiver that seals all the time and is killed at any moment, under load: nothing is lost, doubled or torn.

use std::process::Command;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogReader, ReadError, Selection};
use sealpost_archive::storage::Directory;
use sealpost_core::{Content, Envelope, MessageId};
use sealpost_tests::{Archiver, Broker, BrokerOptions, Device, program};

/// How many messages are published meanwhile, unless `SEALPOST_KILL_MESSAGES` says more.
const MESSAGES: usize = 20_000;

fn messages() -> usize {
    let told = std::env::var("SEALPOST_KILL_MESSAGES").ok();
    told.map_or(MESSAGES, |told| told.parse().expect("a number"))
}

/// The ids of all messages in the archive, in order, and in how many segments they are. None while segments are made faster than
/// they can be listed.
fn kept(archiver: &Archiver) -> Option<(Vec<MessageId>, usize)> {
    let directory = Directory::existing(archiver.dir()).unwrap();
    let reader = match LogReader::open(&directory, LogName::EncryptedLogs) {
        Err(ReadError::Restless) => return None,
        reader => reader.unwrap(),
    };
    let segments = reader
        .parts()
        .iter()
        .filter(|part| part.manifest.is_some())
        .count();
    let mut lines = reader.lines(Selection::default());
    let mut ids = Vec::new();
    while let Some(found) = lines.next_line().unwrap() {
        assert_eq!(found.seq, ids.len() as u64 + 1);
        let Body::Message(message) = Line::parse(found.bytes).unwrap().body else {
            panic!("line {} is no message", found.seq);
        };
        assert_eq!(message.error, None);
        ids.push(*Envelope::parse(&message.payload).unwrap().id());
    }
    Some((ids, segments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archiver_that_seals_and_is_killed_all_the_time_has_every_message_once() {
    let mut archiver = Archiver::prepare();
    // The queue of an archiver that is hardly ever there takes all of it.
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings: "[limits]\narchiver_bytes = 4294967296\n".to_owned(),
        ..BrokerOptions::default()
    });
    let settings = archiver.dir().join("settings.toml");
    // Each batch is more than a segment. With more messages than usual there are not more segments: who reads must keep up too.
    let segment_bytes = 50_000 * messages().div_ceil(MESSAGES);
    std::fs::write(&settings, format!("segment_bytes = {segment_bytes}\n")).unwrap();
    let options = ["--config".as_ref(), settings.as_os_str()];
    archiver.run_with(&broker.url(), &options);
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;

    let token = alice.token("a");
    let address = broker.address();
    // Sealed before, so that the rate is not that of one who seals.
    let (mut rng, mut sealer) = (rand::rng(), alice.burst(&bob));
    let text = "x".repeat(400);
    let (mut sent, mut envelopes) = (Vec::new(), Vec::new());
    for number in 0..messages() {
        let now = sealpost_tests::now();
        let id = MessageId::new(now, &mut rng);
        let text = format!("{number} {text}");
        let content = Content::Text { text };
        let envelope = sealer
            .seal(&mut rng, now, id, sent.last().copied(), &content)
            .unwrap();
        envelopes.push(envelope);
        sent.push(id);
    }
    let begun = Instant::now();
    let flood = std::thread::spawn(move || {
        let mut flood = sealpost_tests::Flood::connect(address, "alice", &token, "a");
        for envelope in envelopes {
            flood.publish("inbox/bob", envelope.as_bytes());
        }
        flood.finish();
        begun.elapsed()
    });
    let (mut kills, mut under_load) = (0, 0);
    while kills < 25 || !flood.is_finished() {
        let life = rand::rng().random_range(0..400);
        tokio::time::sleep(Duration::from_millis(life)).await;
        archiver.process().kill();
        archiver.start(&broker.url(), &options);
        kills += 1;
        under_load += u32::from(!flood.is_finished());
    }
    let published = flood.join().unwrap();

    let until = Instant::now() + Duration::from_secs(240);
    let (ids, segments) = loop {
        let (ids, segments) = kept(&archiver).unwrap_or_default();
        if ids.len() >= sent.len() {
            break (ids, segments);
        }
        assert!(
            Instant::now() < until,
            "{} of {} are kept",
            ids.len(),
            sent.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(ids == sent, "all, once, in order");
    let rate = |took: Duration| sent.len() as f64 / took.as_secs_f64();
    println!(
        "killed {kills} times, {under_load} of them under load; {:.0} messages/s published, {:.0}/s archived; {segments} segments",
        rate(published),
        rate(begun.elapsed())
    );
    assert!(segments >= 5, "{segments}");

    archiver.process().terminate();
    let verified = Command::new(program("sealpost-archiver"))
        .args(["verify", "--dir"])
        .arg(archiver.dir())
        .output()
        .unwrap();
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
    let left: Vec<_> = std::fs::read_dir(archiver.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".sealing-") || name.ends_with(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(kept(&archiver).unwrap().0.len(), sent.len());
}
