//! What an archiver does beside writing lines: it keeps the keys, judges signatures, waits for room, shares the work, and says how it is.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_core::Envelope;
use sealpost_tests::{Archiver, Broker, BrokerOptions, Device, Link, PATIENCE, SmallDisk, get};
use serde_json::Value;

/// Publishes an envelope that nobody but archivers keep.
async fn send(link: &mut Link, envelope: &Envelope) {
    let topic = format!("inbox/{}", envelope.to());
    let reason = link.publish(&topic, false, envelope.as_bytes()).await;
    assert_eq!(reason, PubAckReason::NoMatchingSubscribers);
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn metrics_address(archiver: &mut Archiver) -> SocketAddr {
    let line = archiver.process().expect("metrics on http://");
    let address = line.trim_start_matches("metrics on http://");
    address.trim_end_matches("/metrics").parse().unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn keys_are_kept_beside_the_messages_and_lines_say_whose_signature_they_bear() {
    let mut archiver = Archiver::prepare();
    let broker = Broker::for_archiver(&archiver);
    let settings = archiver.dir().join("settings.toml");
    std::fs::write(&settings, "check_signatures = true\n").unwrap();
    let options = ["--config", settings.to_str().unwrap()];
    archiver.run_with(&broker.url(), &options);
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut link = alice.connect(broker.address(), "a").await;
    send(&mut link, &alice.seal(&bob, "before anybody knows alice")).await;
    archiver.expect_lines(1);
    alice.register(broker.address()).await;
    let history = archiver.dir().join("key_history.jsonl");
    let keys = || std::fs::read_to_string(&history).unwrap_or_default();
    wait_until("alice's bundle", || keys().lines().count() == 2);
    assert_eq!(json(keys().lines().next().unwrap())["user"], "bob");
    assert_eq!(json(keys().lines().nth(1).unwrap())["user"], "alice");
    send(&mut link, &alice.seal(&bob, "afterwards")).await;
    let lines = archiver.expect_lines(2);
    assert_eq!(json(&lines[0])["verified"], Value::Null);
    assert_eq!(json(&lines[1])["verified"], true);

    // Retained bundles come again with each subscription, and are there once.
    archiver.process().kill();
    archiver.run_with(&broker.url(), &options);
    send(&mut link, &alice.seal(&bob, "in a later life")).await;
    assert_eq!(json(&archiver.expect_lines(3)[2])["verified"], true);
    assert_eq!(keys().lines().count(), 2);
    for checkpoint in ["checkpoint", "key_history/checkpoint"] {
        assert!(archiver.dir().join(checkpoint).exists(), "{checkpoint}");
    }
}

#[tokio::test]
async fn archivers_that_share_have_each_message_once_between_them() {
    let (mut first, mut second) = (Archiver::named("archive-1"), Archiver::named("archive-2"));
    let broker = Broker::start(BrokerOptions {
        archivers: vec![first.credential(), second.credential()],
        ..BrokerOptions::default()
    });
    for archiver in [&mut first, &mut second] {
        archiver.run_with(&broker.url(), &["--share", "archivers"]);
    }
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut link = alice.connect(broker.address(), "a").await;
    let mut sent = HashSet::new();
    for number in 0..200 {
        let envelope = alice.seal(&bob, &number.to_string());
        sent.insert(envelope.id().to_string());
        send(&mut link, &envelope).await;
        if number == 100 {
            second.process().kill();
        }
    }
    second.run_with(&broker.url(), &["--share", "archivers"]);
    wait_until("all of them", || {
        first.lines().len() + second.lines().len() >= sent.len()
    });
    let ids = |archiver: &Archiver| {
        let lines = archiver.lines();
        let ids = lines
            .iter()
            .map(|line| json(line)["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let (left, right) = (ids(&first), ids(&second));
    assert!(!left.is_empty() && !right.is_empty(), "they take turns");
    let both: HashSet<String> = left.into_iter().chain(right).collect();
    assert_eq!(both, sent);
}

#[tokio::test]
async fn a_full_disk_stops_the_archiver_until_there_is_room_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(16) else {
        return;
    };
    let mut archiver = Archiver::living_in("archiver", disk.path().join("archive"));
    let broker = Broker::for_archiver(&archiver);
    let settings = disk.path().join("settings.toml");
    std::fs::write(
        &settings,
        "disk_reserve = 4194304\nmetrics = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    archiver.run_with(&broker.url(), &["--config", settings.to_str().unwrap()]);
    let metrics = metrics_address(&mut archiver);
    assert_eq!(get(metrics, "/readyz"), (200, "archiving\n".into()));
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut link = alice.connect(broker.address(), "a").await;
    send(&mut link, &alice.seal(&bob, "before")).await;
    archiver.expect_lines(1);

    for left in [1, 0] {
        let before = archiver.lines().len();
        disk.fill(left);
        for number in 0..20 {
            send(&mut link, &alice.seal(&bob, &number.to_string())).await;
        }
        archiver.process().expect_error("the disk is full");
        let (status, word) = get(metrics, "/readyz");
        assert_eq!(status, 503);
        assert!(word.starts_with("no room"), "{word}");
        assert_eq!(get(metrics, "/healthz").0, 200, "it lives");
        let (_, numbers) = get(metrics, "/metrics");
        assert!(
            numbers.contains("sealpost_archiver_disk_full 1"),
            "{numbers}"
        );
        assert_eq!(archiver.lines().len(), before);
        disk.empty();
        archiver.expect_lines(before + 20);
        archiver.process().expect_error("there is room again");
    }
    let (_, numbers) = get(metrics, "/metrics");
    assert!(
        numbers.contains("sealpost_archiver_encrypted_logs_written_total 41"),
        "{numbers}"
    );
}

#[test]
fn on_a_disk_that_cannot_be_written_the_archiver_says_so_and_the_archive_can_still_be_read() {
    let Some(disk) = SmallDisk::mount(16) else {
        return;
    };
    let mut archiver = Archiver::living_in("archiver", disk.path().join("archive"));
    let broker = Broker::for_archiver(&archiver);
    archiver.run(&broker.url());
    archiver.process().terminate();
    disk.make_read_only();
    let process = archiver.start::<&str>(&broker.url(), &[]);
    let status = process.wait();
    let said = process.stderr().join("\n");
    assert_eq!(status.code(), Some(12), "{said}");
    assert!(said.contains("Read-only"), "{said}");
    assert!(
        said.contains("check the disk and the permissions"),
        "{said}"
    );
    for command in ["status", "verify"] {
        let output = std::process::Command::new(sealpost_tests::program("sealpost-archiver"))
            .arg(command)
            .arg("--dir")
            .arg(archiver.dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}
