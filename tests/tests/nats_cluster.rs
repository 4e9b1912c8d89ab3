//! A node of a NATS cluster dies in the middle: clients and archivers that know several URLs go on at another, and nothing is lost.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use sealpost_tests::{Archiver, NODES, Nats, Person, Process, program};
use serde_json::Value;

/// How long it may all take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn messages() -> usize {
    match std::env::var("SEALPOST_FAILOVER_MESSAGES") {
        Ok(messages) => messages
            .parse()
            .expect("SEALPOST_FAILOVER_MESSAGES is a number"),
        Err(_) => 1_000,
    }
}

fn newcomer(cluster: &Nats, name: &str, node: usize) -> Person {
    Person::newcomer(name, &cluster.urls_from(node))
        .with(&["--broker-password-command", &format!("echo {name}")])
}

fn texts(listen: &Process) -> Vec<String> {
    let lines = listen.stdout();
    let events = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until so many messages were shown.
fn await_all(listen: &Process, count: usize) {
    let until = Instant::now() + PATIENCE;
    while texts(listen).len() < count {
        assert!(
            Instant::now() < until,
            "{} of {count}: {:?} {:?}",
            texts(listen).len(),
            listen.stdout().last(),
            listen.stderr().last()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for a message, longer than a single line is waited for.
fn await_text(listen: &Process, text: &str) {
    let wanted = format!("\"text\":\"{text}\"");
    let until = Instant::now() + PATIENCE;
    while !listen.stdout().iter().any(|line| line.contains(&wanted)) {
        assert!(
            Instant::now() < until,
            "{text} never came: {:?} {:?}",
            listen.stdout().last(),
            listen.stderr().last()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every message came once. What the node that was killed had on its way comes again after NATS's `ack_wait` alone, behind what was
/// sent later: where that is so, the gap was told.
fn every_one_once(listen: &Process, count: usize) {
    let shown: Vec<usize> = texts(listen)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let missing: Vec<usize> = (0..count).filter(|n| !shown.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(shown.len(), count, "some came twice");
    let late = shown.windows(2).filter(|two| two[1] != two[0] + 1).count();
    let lines = listen.stdout();
    let gaps = lines
        .iter()
        .filter(|line| line.contains("\"event\":\"gap\""))
        .count();
    println!("out of order: {late}, gaps told: {gaps}");
    assert_eq!(late > 0, gaps > 0);
}

/// The ids of the envelopes in an archive, each once whatever was archived again.
fn archived(archiver: &Archiver) -> BTreeSet<String> {
    let lines = archiver.lines();
    lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| Some(line.get("id")?.as_str()?.to_owned()))
        .collect()
}

#[test]
fn a_node_is_killed_in_the_middle_and_everybody_goes_on_at_another_with_nothing_lost() {
    let people = ["alice", "bob", "carol"];
    let mut archivers = [Archiver::named("archiver-a"), Archiver::named("archiver-b")];
    let names = [
        archivers[0].name().to_owned(),
        archivers[1].name().to_owned(),
    ];
    let mut cluster = Nats::start(&people, &[&names[0], &names[1]]);
    let dir = tempfile::tempdir().unwrap();
    for (node, archiver) in archivers.iter_mut().enumerate() {
        let password = dir.path().join(archiver.name());
        std::fs::write(&password, archiver.name()).unwrap();
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&password, owner).unwrap();
        let url = cluster.urls_from(node);
        archiver.run_with(&url, &["--password-file", password.to_str().unwrap()]);
    }
    // One of them at each node.
    let (alice, bob) = (
        newcomer(&cluster, "alice", 0).settled(),
        newcomer(&cluster, "bob", 1).settled(),
    );
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let sent = from.run(&["send", "--timeout", "30s", to.name(), "hello"]);
        assert_eq!(sent.code, 0, "{sent:?}");
        let heard = to.run(&["listen", "--count", "1", "--timeout", "60s"]);
        assert_eq!(heard.code, 0, "{heard:?}");
    }

    let count = messages();
    let (mut hers, his) = (
        alice.start(&["--json", "listen"]),
        bob.start(&["--json", "listen"]),
    );
    his.expect("connected");
    let begun = Instant::now();
    for killed in 0..NODES {
        let from = count * killed / NODES;
        let to = count * (killed + 1) / NODES;
        let mut send = alice.start(&["send", "bob", "--lines", "--wait", "queued"]);
        for number in from..to {
            send.say(&number.to_string());
        }
        send.hush();
        assert!(send.wait().success(), "{:?}", send.stderr());
        await_text(&his, &((from + to) / 2).to_string());
        // Every node once, so whoever is connected where: each loses theirs.
        cluster.kill(killed);
        await_all(&his, to);
        cluster.restart(killed);
    }
    println!(
        "{count} messages while each of {NODES} nodes was killed: {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    every_one_once(&his, count);
    assert!(hers.terminate().success(), "{:?}", hers.stderr());

    // The archives have every message, and the same ones.
    let until = Instant::now() + PATIENCE;
    loop {
        let [a, b] = [archived(&archivers[0]), archived(&archivers[1])];
        if a == b && a.len() >= count + 2 {
            break;
        }
        assert!(Instant::now() < until, "{} and {}", a.len(), b.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    for archiver in &archivers {
        let verified = Command::new(program("sealpost-archiver"))
            .args(["verify", "--dir"])
            .arg(archiver.dir())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }

    // Retained keys are there for somebody who comes now, once the node that was last away has its part of the streams again.
    let carol = newcomer(&cluster, "carol", 2);
    let made = carol.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    for to in ["alice", "bob"] {
        loop {
            let sent = carol.run(&["send", "--wait", "sent", "--timeout", "30s", to, "new here"]);
            if sent.code == 0 {
                break;
            }
            assert!(Instant::now() < until, "{sent:?}");
        }
    }
}
