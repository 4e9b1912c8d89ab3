//! What people, programs and the archive are promised, whatever the broker: each promise is kept with ours, with mosquitto, and with
//! three nodes of NATS.

use std::process::Command;
use std::time::{Duration, Instant};

use sealpost_tests::{Archiver, Deployment, Kind, Person, Process, Program, events_of, program};
use serde_json::{Value, json};

/// Makes a test of each promise for each broker.
macro_rules! with_each_broker {
    ($($promise:ident),* $(,)?) => {
        mod sealpost { $(#[test] fn $promise() { super::$promise(super::Kind::Sealpost); })* }
        mod mosquitto { $(#[test] fn $promise() { super::$promise(super::Kind::Mosquitto); })* }
        mod nats { $(#[test] fn $promise() { super::$promise(super::Kind::Nats); })* }
    };
}

with_each_broker!(
    people_talk_and_the_archive_has_every_envelope,
    mail_waits_for_who_is_away_and_its_sender_learns_that_it_came,
    what_crosses_while_the_broker_goes_and_comes_back_arrives_once_and_in_order,
    keys_and_mail_are_there_after_the_broker_came_back,
    a_wrong_password_is_told_and_nothing_is_lost,
    nobody_writes_anothers_keys_or_reads_anothers_mail,
    a_second_broker_connection_of_the_same_home_takes_over_its_session,
    a_daemon_sends_and_receives_for_programs,
    a_device_reports_over_a_broker_that_goes_and_comes_back,
);

fn world(kind: Kind) -> (Deployment, Archiver, Person, Person) {
    let mut archiver = Archiver::prepare();
    let deployment = Deployment::start(kind, &["alice", "bob", "mallory", "thermo"], &archiver);
    deployment.run(&mut archiver);
    let (alice, bob) = (deployment.settle("alice"), deployment.settle("bob"));
    (deployment, archiver, alice, bob)
}

fn send(from: &Person, to: &str, text: &str) {
    let answer = from.run(&["send", "--timeout", "30s", to, text]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn hear(person: &Person, count: usize) -> Vec<String> {
    let answer = person.run(&[
        "--json",
        "listen",
        "--count",
        &count.to_string(),
        "--timeout",
        "60s",
    ]);
    assert_eq!(answer.code, 0, "{answer:?}");
    texts(answer.events())
}

fn texts(events: Vec<Value>) -> Vec<String> {
    events
        .into_iter()
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

fn acquainted(alice: &Person, bob: &Person) {
    for (from, to) in [(alice, bob), (bob, alice)] {
        send(from, to.name(), "hello");
        assert_eq!(hear(to, 1), ["hello"]);
    }
}

fn verified(archiver: &Archiver) {
    let output = Command::new(program("sealpost-archiver"))
        .args(["verify", "--dir"])
        .arg(archiver.dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn people_talk_and_the_archive_has_every_envelope(kind: Kind) {
    let (_deployment, archiver, alice, bob) = world(kind);
    send(&alice, "bob", "Hello Bob!");
    assert_eq!(hear(&bob, 1), ["Hello Bob!"]);
    send(&bob, "alice", "Hello Alice!");
    assert_eq!(hear(&alice, 1), ["Hello Alice!"]);
    // The two messages, and the receipts that accepted senders get.
    let lines = archiver.expect_lines(2);
    let from = |name: &str| {
        lines
            .iter()
            .any(|line| line.contains(&format!("\"from\":\"{name}\"")))
    };
    assert!(from("alice") && from("bob"), "{lines:#?}");
    verified(&archiver);
    // NATS knows no MQTT 5, and whoever looks for a reason of something is told.
    let version = match kind {
        Kind::Nats => "MQTT 3.1.1",
        Kind::Sealpost | Kind::Mosquitto => "MQTT 5",
    };
    let doctor = alice.run(&["doctor"]);
    let login = format!("lets alice in, and speaks {version}");
    assert!(doctor.stdout.contains(&login), "{doctor:?}");
}

fn mail_waits_for_who_is_away_and_its_sender_learns_that_it_came(kind: Kind) {
    let (_deployment, _archiver, alice, bob) = world(kind);
    acquainted(&alice, &bob);
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let mut lines = alice.start(&["send", "bob", "--lines", "--timeout", "60s"]);
    for line in &expected {
        lines.say(line);
    }
    lines.hush();
    assert!(lines.wait().success(), "{:?}", lines.stderr());
    let (mut hers, mut his) = (
        alice.start(&["--json", "listen"]),
        bob.start(&["--json", "listen"]),
    );
    his.expect("\"text\":\"49\"");
    assert_eq!(said(&his), expected);
    let mut next = 0;
    for _ in &expected {
        next = hers.expect_from(next, "\"event\":\"delivered\"").0 + 1;
    }
    for process in [&mut hers, &mut his] {
        assert!(process.terminate().success(), "{:?}", process.stderr());
    }
    let outbox = alice.run(&["--json", "outbox"]).events();
    assert!(outbox.is_empty(), "{outbox:?}");
}

fn what_crosses_while_the_broker_goes_and_comes_back_arrives_once_and_in_order(kind: Kind) {
    const MESSAGES: usize = 300;
    let (mut deployment, archiver, alice, bob) = world(kind);
    acquainted(&alice, &bob);
    let mut send = alice.start(&["send", "bob", "--lines", "--wait", "queued"]);
    let (mut hers, his) = (
        alice.start(&["--json", "listen"]),
        bob.start(&["--json", "listen"]),
    );
    his.expect("connected");
    for number in 0..MESSAGES {
        send.say(&number.to_string());
        if number == MESSAGES / 2 {
            his.expect("\"text\":\"10\"");
            deployment.lose_and_return();
        }
    }
    send.hush();
    assert!(send.wait().success(), "{:?}", send.stderr());
    let mut next = 0;
    for _ in 0..MESSAGES {
        next = his.expect_from(next, "\"event\":\"message\"").0 + 1;
    }
    let mut shown: Vec<usize> = said(&his)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    if !deployment.keeps_the_order_over_a_loss() && !shown.is_sorted() {
        his.expect("\"event\":\"gap\"");
        shown.sort_unstable();
    }
    assert_eq!(shown, (0..MESSAGES).collect::<Vec<_>>());
    hers.terminate();
    let lines = archiver.expect_lines(MESSAGES);
    assert!(lines.len() >= MESSAGES);
    verified(&archiver);
}

/// The texts that a listener printed.
fn said(listen: &Process) -> Vec<String> {
    let lines = listen.stdout();
    texts(
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn keys_and_mail_are_there_after_the_broker_came_back(kind: Kind) {
    let (mut deployment, _archiver, alice, bob) = world(kind);
    send(&alice, "bob", "before");
    deployment.lose_and_return();
    assert_eq!(hear(&bob, 1), ["before"]);
    // Alice's keys are still there for somebody new.
    let mallory = deployment.settle("mallory");
    send(&mallory, "alice", "after");
    assert_eq!(hear(&alice, 1), ["after"]);
}

fn a_wrong_password_is_told_and_nothing_is_lost(kind: Kind) {
    let (deployment, _archiver, alice, bob) = world(kind);
    let wrong = ["--broker-password-command", "echo wrong"];
    let mut command = alice.command();
    command.args(wrong).args(["send", "bob", "kept"]);
    let refused = command.output();
    // A flag twice is an error, so the wrong one goes in place of the right one.
    let refused = match kind {
        Kind::Sealpost => refused.unwrap(),
        _ => {
            let stranger = Person::newcomer("alice", &deployment.url())
                .living_at(alice.home().to_owned())
                .with(&wrong);
            stranger
                .command()
                .args(["send", "bob", "kept"])
                .output()
                .unwrap()
        }
    };
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("login"), "{said}");
    let heard = alice.run(&["listen", "--timeout", "2s"]);
    assert_eq!(heard.code, 0, "{heard:?}");
    assert_eq!(hear(&bob, 1), ["kept"]);
}

fn nobody_writes_anothers_keys_or_reads_anothers_mail(kind: Kind) {
    let (deployment, _archiver, alice, bob) = world(kind);
    let url = deployment.url();
    let port = url
        .split(',')
        .next()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    let tool = |name: &str, arguments: &[&str]| {
        Command::new(name)
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-u",
                "mallory",
                "-P",
                "mallory",
                "-q",
                "1",
            ])
            .args([
                "-V",
                if kind == Kind::Nats {
                    "mqttv311"
                } else {
                    "mqttv5"
                },
            ])
            .args(arguments)
            .output()
            .unwrap()
    };
    let forged = tool("mosquitto_pub", &["-r", "-t", "keys/bob", "-m", "forged"]);
    // Ours wants a login by identity key of who has no password there: such a tool cannot even begin. tests/permission.rs has
    // those who can.
    if kind == Kind::Sealpost {
        assert!(!forged.status.success(), "{forged:?}");
        return;
    }
    let told = String::from_utf8_lossy(&forged.stderr).contains("Not authorized");
    // mosquitto_pub itself warns and ends with 0.
    assert_eq!(told, deployment.tells_of_refused_publishes(), "{forged:?}");
    let mut peeking = Process::spawn(
        "mallory",
        Command::new("mosquitto_sub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-u",
                "mallory",
                "-P",
                "mallory",
            ])
            .args([
                "-V",
                "mqttv311",
                "-q",
                "1",
                "-t",
                "inbox/bob",
                "-W",
                "3",
                "-v",
            ]),
    );
    send(&alice, "bob", "for bob alone");
    assert_eq!(hear(&bob, 1), ["for bob alone"]);
    peeking.wait();
    assert!(peeking.stdout().is_empty(), "{:?}", peeking.stdout());
}

fn a_second_broker_connection_of_the_same_home_takes_over_its_session(kind: Kind) {
    let (_deployment, _archiver, alice, bob) = world(kind);
    acquainted(&alice, &bob);
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("connected");
    // As after a network that is gone without a word.
    listen.kill();
    send(&alice, "bob", "next");
    assert_eq!(hear(&bob, 1), ["next"]);
}

fn a_daemon_sends_and_receives_for_programs(kind: Kind) {
    let (mut deployment, _archiver, alice, bob) = world(kind);
    acquainted(&alice, &bob);
    let mut daemon = alice.start(&["daemon"]);
    daemon.expect_error("listening at ");
    let mut bot = Program::of(&alice);
    bot.subscribe("manual");
    let sent = bot.call("send", json!({ "to": "bob", "text": "by the daemon" }));
    assert!(sent["result"]["id"].is_string(), "{sent}");
    assert_eq!(hear(&bob, 1), ["by the daemon"]);
    deployment.lose_and_return();
    send(&bob, "alice", "to the daemon");
    assert_eq!(bot.event("message")["text"], "to the daemon");
    let begun = Instant::now();
    assert_eq!(daemon.terminate().code(), Some(0), "{:?}", daemon.stderr());
    assert!(begun.elapsed() < Duration::from_secs(30));
}

fn a_device_reports_over_a_broker_that_goes_and_comes_back(kind: Kind) {
    const READINGS: usize = 60;
    let (mut deployment, _archiver, alice, _bob) = world(kind);
    let device = deployment.sensor("thermo").reporting_to(&alice);
    let added = alice.run(&["add", &device.link()]);
    assert_eq!(added.code, 0, "{added:?}");
    let reader = alice.start(&["--json", "listen"]);
    let mut readings = device.start();
    for number in 1..=READINGS {
        readings.say(&format!("{{\"n\":{number}}}"));
        if number == READINGS / 2 {
            reader.expect("\"kind\":\"reading\"");
            deployment.lose_and_return();
        }
    }
    // What a broker has acknowledged and lost is sent again when a later reading has its receipt, as long as the device runs.
    for number in 1..=READINGS {
        reader.expect(&format!("\"number\":{number},"));
    }
    readings.hush();
    assert!(readings.wait().success(), "{:?}", readings.stderr());
    let mut numbers: Vec<u64> = events_of(&reader, "message")
        .iter()
        .map(|event| event["reading"]["number"].as_u64().unwrap())
        .collect();
    if !deployment.keeps_the_order_over_a_loss() {
        numbers.sort_unstable();
    }
    assert_eq!(numbers, (1..=READINGS as u64).collect::<Vec<_>>());
}
