//! People talk: at once, later, across restarts and new keys, and from scripts.

use sealpost_tests::{Broker, BrokerOptions, Device, Person, Process};

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

fn pair(broker: &Broker) -> (Person, Person) {
    (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    )
}

fn send(from: &Person, to: &str, text: &str) {
    let answer = from.run(&["send", to, text]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// The texts of the messages that `listen --json` prints.
fn texts(person: &Person, count: usize) -> Vec<String> {
    let answer = person.run(&[
        "--json",
        "listen",
        "--count",
        &count.to_string(),
        "--timeout",
        "30s",
    ]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let messages = answer
        .events()
        .into_iter()
        .filter(|event| event["event"] == "message");
    messages
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn alice_writes_to_bob_and_bob_writes_back() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    send(&alice, "bob", "Hello Bob!");
    let answer = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(
        (answer.code, answer.stdout.as_str()),
        (0, "From alice: Hello Bob!"),
        "{answer:?}"
    );
    send(&bob, "alice", "Hello Alice!");
    assert_eq!(texts(&alice, 1), ["Hello Alice!"]);
}

#[test]
fn a_chat_sends_receives_and_leaves() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let mut alices = alice.start(&["chat"]);
    let mut bobs = bob.start(&["chat"]);
    alices.say("msg bob Hello Bob!");
    bobs.expect("From alice: Hello Bob!");
    bobs.say("msg alice Hello Alice!");
    alices.expect("From bob: Hello Alice!");
    alices.say("/help");
    alices.say("/who");
    for process in [&mut alices, &mut bobs] {
        process.say("/quit");
        let status = process.wait();
        assert!(status.success(), "{status} {:?}", process.stderr());
    }
}

#[test]
fn mail_waits_for_bob_who_was_away_and_comes_in_order_and_once() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    for text in ["one", "two", "three"] {
        send(&alice, "bob", text);
    }
    assert_eq!(texts(&bob, 3), ["one", "two", "three"]);
    send(&alice, "bob", "four");
    assert_eq!(texts(&bob, 1), ["four"]);
}

#[test]
fn a_hundred_messages_of_somebody_new_are_all_shown() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let mut chat = alice.start(&["chat"]);
    for n in 0..100 {
        chat.say(&format!("msg bob number {n}"));
    }
    chat.hush();
    assert!(chat.wait().success());
    // The broker has alice's keys: nothing needs to wait for anything.
    let listen = bob.run(&["--json", "listen", "--count", "100", "--timeout", "30s"]);
    let events = listen.events();
    let count = |kind: &str| events.iter().filter(|e| e["event"] == kind).count();
    assert_eq!(
        (count("message"), count("refused")),
        (100, 0),
        "what is refused was acknowledged: it is lost"
    );
}

#[test]
fn names_that_nobody_has_do_not_use_up_the_sessions_subscriptions() {
    let broker = Broker::start(BrokerOptions {
        settings: "[limits]\nsubscriptions_per_session = 8\n".into(),
        ..BrokerOptions::default()
    });
    let alice = Person::settle("alice", &broker.url());
    let _bob = Person::settle("bob", &broker.url());
    std::fs::write(alice.home().join("quick.toml"), "timeout = \"1s\"\n").unwrap();
    let config = alice.home().join("quick.toml");
    let config = config.to_str().unwrap();
    let mut chat = alice.start(&["--config", config, "chat"]);
    for n in 0..4 {
        chat.say(&format!("msg nobody{n} hello"));
    }
    chat.hush();
    chat.wait();
    // Days later.
    let mut chat = alice.start(&["--json", "chat"]);
    chat.expect("connected");
    chat.say("msg bob hello");
    chat.hush();
    let status = chat.wait();
    assert!(status.success(), "{status}: {:?}", chat.stdout());
}

#[test]
fn a_key_rotated_midway_opens_what_was_under_way_and_what_comes() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    send(&alice, "bob", "to the old key");
    let answer = bob.run(&["keys", "rotate"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    send(&alice, "bob", "to the new key");
    assert_eq!(texts(&bob, 2), ["to the old key", "to the new key"]);
}

#[test]
fn a_listener_that_is_killed_again_and_again_loses_nothing() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let mut seen = Vec::new();
    let mut sent = Vec::new();
    for round in 0..4 {
        let mut listener = bob.start(&["--json", "listen"]);
        for number in 0..5 {
            sent.push(format!("{round} {number}"));
            send(&alice, "bob", sent.last().unwrap());
        }
        // Killed at some moment of its work; what it has printed by then is seen.
        listener.expect("\"message\"");
        listener.kill();
        seen.extend(printed(&listener));
    }
    send(&alice, "bob", "the last");
    sent.push("the last".into());
    let mut listener = bob.start(&["--json", "listen"]);
    listener.expect("the last");
    assert!(listener.terminate().success());
    seen.extend(printed(&listener));
    // Killed between printing and remembering that it was printed, it prints that one again: at least once, in order.
    seen.dedup();
    assert_eq!(seen, sent);
}

fn printed(listener: &Process) -> Vec<String> {
    let lines = listener.stdout();
    let events = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let messages = events.filter(|event| event["event"] == "message");
    messages
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_listener_goes_on_by_itself_when_the_broker_was_killed_and_came_back() {
    let mut broker = broker();
    let (alice, bob) = pair(&broker);
    let listener = bob.start(&["--json", "listen"]);
    listener.expect("\"connected\"");
    broker.kill();
    listener.expect("\"disconnected\"");
    let lines = listener.stdout().len();
    broker.restart();
    listener.expect_from(lines, "\"connected\"");
    send(&alice, "bob", "are you there?");
    listener.expect("are you there?");
}

#[test]
fn scripts_write_from_standard_input_and_read_events() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let mut process = alice.start(&["--json", "send", "bob", "-"]);
    process.say("two\nlines");
    process.hush();
    assert!(process.wait().success());
    let sent: serde_json::Value = serde_json::from_str(process.stdout().last().unwrap()).unwrap();
    assert_eq!(
        (&sent["event"], &sent["to"]),
        (&"sent".into(), &"bob".into())
    );

    let answer = bob.run(&["--json", "listen", "--count", "1", "--timeout", "30s"]);
    let events = answer.events();
    let message = events
        .iter()
        .find(|event| event["event"] == "message")
        .unwrap();
    assert_eq!(message["id"], sent["id"]);
    assert_eq!(message["from"], "alice");
    assert_eq!(message["kind"], "text");
    assert_eq!(message["text"].as_str().unwrap().trim_end(), "two\nlines");
    assert!(message["ts"].as_f64().unwrap() > 1.7e9);
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    assert_eq!(alice.run(&["frobnicate"]).code, 2);
    assert_eq!(alice.run(&["send", "BOB", "x"]).code, 2);
    assert_eq!(alice.run(&["send", "nobody", "x"]).code, 1);

    let unreachable = Person::newcomer("alice", "mqtt://127.0.0.1:1");
    assert_eq!(
        unreachable
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    // The message is kept, and that is what was asked for; otherwise not.
    let send = |wait: &[&str]| {
        unreachable
            .run(&[&["send", "bob", "x", "--timeout", "1s"], wait].concat())
            .code
    };
    assert_eq!(send(&[]), 0);
    assert_eq!(send(&["--wait", "queued"]), 0);
    assert_eq!(send(&["--wait", "sent"]), 3);
    assert_eq!(unreachable.run(&["listen", "--timeout", "1s"]).code, 3);
    let bob = Person::settle("bob", &broker.url());
    let send = |wait| alice.run(&["send", "bob", "x", "--timeout", "1s", "--wait", wait]);
    assert_eq!(send("sent").code, 0);
    assert_eq!(send("delivered").code, 6);
    drop(bob);

    // Somebody else who says she is alice.
    let impostor = Person::newcomer("alice", &broker.url());
    let answer = impostor.run(&["keys", "init", "--no-passphrase"]);
    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.stderr.contains("refused the login"), "{answer:?}");
}

#[test]
fn keys_lie_encrypted_and_a_wrong_passphrase_says_so() {
    let broker = broker();
    let carol = Person::newcomer("carol", &broker.url());
    let with = |passphrase: &str, arguments: &[&str]| {
        let command = format!("echo {passphrase}");
        carol.run(&[&["--passphrase-command", &command], arguments].concat())
    };
    let answer = with("right", &["keys", "init"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let _bob = Person::settle("bob", &broker.url());
    let answer = with("wrong", &["send", "bob", "x"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("passphrase"), "{answer:?}");
    assert_eq!(with("right", &["send", "bob", "x"]).code, 0);
    for entry in std::fs::read_dir(carol.home()).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).unwrap().permissions(),
        );
        assert_eq!(mode & 0o077, 0, "{path:?} can be read by others");
    }
}

#[tokio::test]
async fn what_others_write_cannot_move_the_cursor_or_turn_the_line_round() {
    let broker = broker();
    let bob = Person::settle("bob", &broker.url());
    let mallory = Device::new("mallory");
    mallory.register(broker.address()).await;
    // Bob's real keys, from his real bundle.
    let mut link = mallory.connect(broker.address(), "m").await;
    link.subscribe("keys/bob").await;
    let bundle = sealpost_core::KeyBundle::parse(&link.receive().await.payload).unwrap();
    let mut sealer = sealpost_core::Sealer::new(&mallory.identity, &mallory.user, &bundle).unwrap();
    let mut rng = rand::rng();
    let now = sealpost_tests::now();
    let text =
        "\u{1b}[2J\u{1b}]0;title\u{7}\rFrom alice: pay\u{202e}yap\u{9b}31m\u{2066}end".to_owned();
    let id = sealpost_core::MessageId::new(now, &mut rng);
    let envelope = sealer
        .seal(
            &mut rng,
            now,
            id,
            None,
            &sealpost_core::Content::Text { text },
        )
        .unwrap();
    link.publish("inbox/bob", false, envelope.as_bytes()).await;

    let answer = tokio::task::spawn_blocking(move || {
        bob.run(&["listen", "--count", "1", "--timeout", "30s"])
    })
    .await
    .unwrap();
    assert!(answer.stdout.starts_with("From mallory: "), "{answer:?}");
    let hostile = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!answer.stdout.contains(hostile), "{answer:?}");
}
