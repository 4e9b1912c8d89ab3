//! What people do with messages after they were written, with real processes: answers, edits, deletions, messages that disappear; who is
//! let in, and who is not.

use std::time::{Duration, Instant};

use sealpost_core::MessageId;
use sealpost_tests::{Answer, Broker, BrokerOptions, Forger, Forgery, Person, Program};
use serde_json::{Value, json};

fn two(broker: &Broker) -> (Person, Person) {
    let people = ["alice", "bob"].map(|name| Person::settle(name, &broker.url()));
    let [alice, bob] = people;
    (alice, bob)
}

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn send(person: &Person, words: &[&str]) -> String {
    let answer = done(person.run(&[&["--json"], words].concat()));
    let sent = answer.events();
    sent[0]["id"].as_str().unwrap().to_owned()
}

/// The events of so many messages that come.
fn listen(person: &Person, count: usize) -> Vec<Value> {
    let count = count.to_string();
    let answer = done(person.run(&["--json", "listen", "--count", &count, "--timeout", "20s"]));
    let mut events = answer.events();
    events.retain(|event| event["event"] == "message");
    events
}

fn history(person: &Person) -> Vec<Value> {
    done(person.run(&["--json", "history"])).events()
}

/// Waits for what a history is to be.
fn until(person: &Person, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let history = history(person);
        if wanted(&history) {
            return history;
        }
        assert!(Instant::now() < patience, "{history:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn content(content: Value) -> Forgery {
    Forgery::of(content.to_string().into_bytes())
}

#[test]
fn what_is_edited_answered_and_deleted_is_so_on_both_sides_and_in_every_export() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = two(&broker);
    let first = send(&alice, &["send", "bob", "Helo Bob!"]);
    send(&alice, &["edit", "bob", "Hello Bob!"]);
    let came = listen(&bob, 2);
    assert_eq!(
        (&came[0]["text"], came[0].get("edits")),
        (&json!("Helo Bob!"), None)
    );
    assert_eq!(
        (&came[1]["text"], &came[1]["edits"]),
        (&json!("Hello Bob!"), &json!(first))
    );
    let answer = send(&bob, &["send", "alice", "--reply", "last", "Hi Alice"]);
    let came = listen(&alice, 1);
    assert_eq!(
        came[0]["reply"],
        json!({ "from": "alice", "id": first, "quote": "Hello Bob!" })
    );
    for person in [&alice, &bob] {
        let history = history(person);
        assert_eq!(history.len(), 2, "{history:?}");
        assert_eq!(
            (
                &history[0]["text"],
                &history[0]["original"],
                &history[0]["edits_made"]
            ),
            (&json!("Hello Bob!"), &json!("Helo Bob!"), &json!(1))
        );
        assert_eq!(history[1]["id"], answer.as_str());
        assert_eq!(history[1]["reply"]["quote"], "Hello Bob!");
    }
    let search = done(bob.run(&["history", "--search", "helo"]));
    assert_eq!(search.stdout, "", "what it says now is searched");

    // A history that was exported and imported reads alike.
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("history.jsonl");
    let path = path.to_str().unwrap();
    done(bob.run(&["history", "export", "--output", path]));
    let later = Person::newcomer("bob", &broker.url());
    done(later.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    done(later.run(&["history", "import", path]));
    let imported = history(&later);
    let text = |history: &[Value]| {
        history
            .iter()
            .map(|line| (line["text"].clone(), line["edits_made"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&imported), text(&history(&bob)));

    // Only one's own is changed, and only what is here.
    let not_his = bob.run(&["edit", &first, "mine now"]);
    assert_eq!(not_his.code, 1, "{not_his:?}");
    assert!(not_his.stderr.contains("alice's"), "{not_his:?}");
    let nothing = alice.run(&["edit", "018bcfe5-6800-7abc-8def-0123456789ab", "x"]);
    assert_eq!(nothing.code, 1, "{nothing:?}");

    let deleted = done(alice.run(&["delete", &first]));
    assert!(
        deleted.stderr.contains("archive keeps the ciphertext"),
        "{deleted:?}"
    );
    let came = listen(&bob, 1);
    assert_eq!(came[0]["deletes"], first.as_str());
    for person in [&alice, &bob] {
        let history = history(person);
        assert_eq!(history[0]["deleted"], true, "{history:?}");
        let all = history.iter().map(Value::to_string).collect::<String>();
        assert!(
            !all.contains("Hello Bob") && !all.contains("Helo Bob"),
            "{all}"
        );
    }
    assert_eq!(alice.run(&["edit", &first, "x"]).code, 1);
    // Theirs is removed here alone.
    done(bob.run(&["delete", &answer, "--here"]));
    assert_eq!(history(&bob)[1]["deleted"], true);
    assert_eq!(history(&alice)[1]["text"], "Hi Alice");
}

#[test]
fn messages_disappear_on_both_sides_after_their_time_and_not_before_they_were_read() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = two(&broker);
    let set = done(alice.run(&["expire", "bob", "5s"]));
    assert!(set.stderr.contains("archive"), "{set:?}");
    send(&alice, &["send", "bob", "soon gone"]);
    let gone = until(&alice, |history| history.len() == 1);
    assert_eq!(gone[0]["expiry"]["seconds"], 5);
    // Bob has read nothing of it so far.
    let came = listen(&bob, 2);
    assert_eq!(came[1]["text"], "soon gone");
    assert_eq!(history(&bob).len(), 2);
    until(&bob, |history| history.len() == 1);
    let export = done(bob.run(&["history", "export"]));
    assert!(!export.stdout.contains("soon gone"));
    assert!(!export.stderr.contains("left out"), "{export:?}");
    done(alice.run(&["expire", "bob", "1h"]));
    send(&alice, &["send", "bob", "in an hour"]);
    listen(&bob, 2);
    let export = done(bob.run(&["history", "export"]));
    assert!(!export.stdout.contains("in an hour"));
    assert!(export.stderr.contains("1 message left out: "), "{export:?}");
    // Either side sets it.
    send(&bob, &["expire", "alice", "off"]);
    listen(&alice, 1);
    send(&alice, &["send", "bob", "stays"]);
    let how = done(alice.run(&["--json", "expire", "bob"])).events();
    assert_eq!(how[0].get("expiry"), None, "{how:?}");
    for wrong in ["4s", "1", "366d", "x", "h"] {
        assert_eq!(alice.run(&["expire", "bob", wrong]).code, 2, "{wrong}");
    }
}

#[test]
fn a_chat_answers_edits_deletes_and_lets_people_in_line_by_line() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = two(&broker);
    let bob = bob.with(&["--config", "/dev/null"]);
    let mut his = bob.start(&["chat"]);
    let mut hers = alice.start(&["chat"]);
    hers.say("msg bob Helo");
    his.expect("From alice: Helo");
    hers.say("/edit bob Hello");
    his.expect("From alice, edited: Hello");
    his.say("/reply alice Hi");
    hers.expect("From bob, to \"Hello\": Hi");
    his.say("/history alice");
    his.expect("From alice (known), edited (first \"Helo\"): Hello");
    hers.say("/expire bob 1h");
    hers.expect_error("archive keeps the ciphertext");
    his.expect("From alice: [from now on messages disappear after 1h]");
    hers.say("/delete bob");
    his.expect("alice has deleted a message");
    his.say("/mute alice");
    his.expect("alice  muted; messages disappear after 1h");
    hers.say("msg bob not now");
    until(&bob, |history| {
        history.iter().any(|line| line["text"] == "not now")
    });
    assert!(
        !his.stdout()
            .iter()
            .any(|line| line == "From alice: not now")
    );
    his.say("/edit alice nothing is left to edit but this");
    his.say("/nonsense");
    his.expect_error("that is no command");
    hers.hush();
    his.hush();
    hers.wait();
    his.wait();
    // What was passed over waits.
    let came = listen(&bob, 1);
    assert_eq!(came[0]["text"], "not now");
}

#[tokio::test]
async fn a_hostile_contact_neither_changes_what_others_wrote_nor_fills_the_store_with_edits() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = two(&broker);
    let hers = send(&alice, &["send", "bob", "from alice"]);
    listen(&bob, 1);
    let his = send(&bob, &["send", "alice", "from bob"]);
    let mut mallory = Forger::register(broker.address(), "mallory", "bob").await;
    // Who is written to has a larger share of the mailbox.
    done(bob.run(&["send", "mallory", "hello"]));
    for id in [&hers, &his] {
        let edit = json!({ "kind": "text", "text": "forged", "edits": id });
        mallory.send(&content(edit)).await;
        mallory
            .send(&content(json!({ "kind": "delete", "message": id })))
            .await;
        let answer =
            json!({ "kind": "text", "text": "quoted", "reply": { "from": "alice", "id": id } });
        mallory.send(&content(answer)).await;
    }
    let own = Forgery::text("mine");
    mallory.send(&own).await;
    let edits: Vec<Forgery> = (0..2_000)
        .map(|number| {
            let text = format!("{number} {}", "x".repeat(1_000));
            content(json!({ "kind": "text", "text": text, "edits": own.id.to_string() }))
        })
        .collect();
    mallory.flood(&edits);
    let strays: Vec<Forgery> = (0..2_000)
        .map(|_| {
            let id = MessageId::new(sealpost_tests::now(), &mut rand::rng());
            content(json!({ "kind": "delete", "message": id.to_string() }))
        })
        .collect();
    mallory.flood(&strays);
    for seconds in [0_u64, 5] {
        let seq = 9_007_199_254_740_991_u64;
        mallory
            .send(&content(
                json!({ "kind": "expiry", "seconds": seconds, "seq": seq }),
            ))
            .await;
    }
    mallory.send(&Forgery::text("the last")).await;
    let mut listening = bob.start(&["--json", "listen"]);
    listening.expect("\"the last\"");
    assert!(listening.terminate().success());
    let history = history(&bob);
    let texts: Vec<&str> = history
        .iter()
        .filter_map(|line| line["text"].as_str())
        .collect();
    assert!(
        texts.contains(&"from alice") && texts.contains(&"from bob"),
        "{texts:?}"
    );
    assert!(
        history.iter().all(|line| line.get("deleted").is_none()),
        "{texts:?}"
    );
    let edited: Vec<&Value> = history
        .iter()
        .filter(|line| line.get("edits_made").is_some())
        .collect();
    assert_eq!(edited.len(), 1);
    assert_eq!(
        (&edited[0]["from"], &edited[0]["edits_made"]),
        (&json!("mallory"), &json!(10))
    );
    // Nobody puts the words of others into a conversation that they were not in.
    for line in &history {
        assert_eq!(line["reply"].get("quote"), None, "{line}");
    }
    // Nor sets for ever how long messages stay.
    let how = done(bob.run(&["--json", "expire", "mallory"])).events();
    assert_eq!(how[0].get("expiry"), None, "{how:?}");
    let store = std::fs::metadata(bob.home().join("store.sqlite"))
        .unwrap()
        .len();
    println!("{store} bytes");
    assert!(store < 2 * 1024 * 1024, "{store} bytes");
}

#[tokio::test]
async fn who_is_new_waits_for_a_yes_and_who_is_blocked_is_not_heard_of() {
    let broker = Broker::start(BrokerOptions::default());
    let mut bob = Person::settle("bob", &broker.url());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("client.toml");
    std::fs::write(&config, "strangers = \"request\"\n").unwrap();
    bob = bob.with(&["--config", config.to_str().unwrap()]);
    let alice = Person::settle("alice", &broker.url());
    send(&alice, &["send", "bob", "let me in"]);
    let mut listening = bob.start(&["listen"]);
    let asked = listening.expect_error("alice is new");
    assert!(!asked.contains("let me in"));
    send(&alice, &["send", "bob", "please"]);
    let requests = || done(bob.run(&["--json", "contacts", "requests"])).events();
    let patience = Instant::now() + Duration::from_secs(20);
    while requests()[0]["messages"] != 2 {
        assert!(Instant::now() < patience, "{:?}", requests());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(requests()[0]["text"], "let me in");
    assert!(history(&bob).is_empty());
    let receipted = alice.run(&[
        "send",
        "bob",
        "here?",
        "--wait",
        "delivered",
        "--timeout",
        "2s",
    ]);
    assert_eq!(receipted.code, 6, "{receipted:?}");
    done(bob.run(&["contacts", "accept", "alice"]));
    for text in ["let me in", "please", "here?"] {
        listening.expect(&format!("From alice: {text}"));
    }
    send(
        &alice,
        &[
            "send",
            "bob",
            "thanks",
            "--wait",
            "delivered",
            "--timeout",
            "20s",
        ],
    );
    listening.expect("From alice: thanks");
    done(bob.run(&["contacts", "block", "alice"]));
    send(&alice, &["send", "bob", "why?"]);
    let patience = Instant::now() + Duration::from_secs(20);
    let blocked = || {
        let listed = done(bob.run(&["--json", "contacts"])).events();
        listed
            .into_iter()
            .find(|event| event["event"] == "conversation")
    };
    while blocked().is_none_or(|how| how["dropped"] == 0) {
        assert!(Instant::now() < patience, "{:?}", blocked());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!listening.stdout().iter().any(|line| line.contains("why?")));
    assert_eq!(bob.run(&["send", "alice", "x"]).code, 1);
    done(bob.run(&["contacts", "unblock", "alice"]));
    send(&alice, &["send", "bob", "again"]);
    listening.expect("From alice: again");
    assert!(listening.terminate().success());
}

#[test]
fn programs_do_all_of_it_over_the_daemon() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = two(&broker);
    let mut daemon = bob.start(&["daemon"]);
    daemon.expect_error("listening at");
    let mut bot = Program::of(&bob);
    bot.subscribe("auto");
    let first = send(&alice, &["send", "bob", "Helo"]);
    bot.event("message");
    let reply = bot.call(
        "send",
        json!({ "to": "alice", "text": "Hi", "reply": first }),
    );
    let reply = reply["result"]["id"].as_str().unwrap().to_owned();
    let edited = bot.call("edit", json!({ "id": reply, "text": "Hi!" }));
    assert!(edited["result"]["id"].is_string(), "{edited}");
    let came = listen(&alice, 2);
    assert_eq!(came[0]["reply"]["quote"], "Helo");
    assert_eq!(came[1]["edits"], reply.as_str());
    send(&alice, &["delete", &first]);
    let deleted = bot.expect(|line| line["params"]["deletes"].is_string());
    assert_eq!(deleted["params"]["deletes"], first.as_str());
    bot.call("delete", json!({ "id": reply }));
    bot.call("expire", json!({ "with": "alice", "seconds": 3600 }));
    let came = listen(&alice, 2);
    assert_eq!(came[0]["deletes"], reply.as_str());
    assert_eq!(came[1]["expiry"]["seconds"], 3_600);
    bot.call("mute", json!({ "user": "alice", "seconds": 60 }));
    bot.call(
        "set",
        json!({ "user": "alice", "receipts": "read", "notify": "name" }),
    );
    let all = bot.call("conversations", json!({}));
    assert_eq!(
        (&all["result"][0]["receipts"], &all["result"][0]["notify"]),
        (&json!("read"), &json!("name"))
    );
    bot.call("block", json!({ "user": "alice" }));
    let refused = bot.call("send", json!({ "to": "alice", "text": "x" }));
    assert_eq!(refused["error"]["data"]["code"], 1, "{refused}");
    bot.call("unblock", json!({ "user": "alice" }));
    let not_ours = bot.call("edit", json!({ "id": first, "text": "x" }));
    assert!(not_ours["error"]["message"].is_string(), "{not_ours}");
    assert!(daemon.terminate().success());
}
