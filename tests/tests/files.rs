//! Files between people: they arrive whole whoever is killed, nothing is fetched or saved that nobody asked for, and a contact who means
//! harm gets nothing out of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sealpost_core::{FileEnd, FileOutcome, FileRequest, MessageId};
use sealpost_tests::{
    Broker, BrokerOptions, ForgedFile, Forger, Forgery, PATIENCE, Person, Process, Program,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MIB: u64 = 1024;

/// Two who have accepted each other.
fn friends(broker: &Broker) -> (Person, Person) {
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    write(&alice, "bob", "hello");
    write(&bob, "alice", "hello");
    (alice, bob)
}

fn write(person: &Person, to: &str, text: &str) {
    let sent = person.run(&["send", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

/// A file of so many bytes that do not repeat, in the person's home.
fn file(person: &Person, name: &str, size: usize) -> PathBuf {
    let mut bytes = vec![0; size];
    rand::fill(&mut bytes[..]);
    let path = person.home().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Offers it, and leaves it to another process to bring it there.
fn offer(person: &Person, to: &str, path: &Path) {
    let sent = person.run(&["send", "--file", text(path), to, "--wait", "queued"]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

fn listen(person: &Person) -> Process {
    let process = person.start(&["--json", "listen"]);
    process.expect("\"connected\"");
    process
}

/// What `files` says of each.
fn files(person: &Person) -> Vec<Value> {
    let answer = person.run(&["--json", "files"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.events()
}

/// Waits until so much of a file is here, unsaved. There is nothing to await but the file.
fn await_part(person: &Person, bytes: u64) {
    let part = person.home().join("files/1.part");
    let until = Instant::now() + PATIENCE;
    while part.metadata().map_or(0, |part| part.len()) < bytes {
        assert!(Instant::now() < until, "the file does not go on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn assert_same(one: &Path, other: &Path) {
    let same = std::fs::read(one).unwrap() == std::fs::read(other).unwrap();
    assert!(same, "{one:?} and {other:?} differ");
}

#[test]
fn a_file_arrives_whole_while_sender_recipient_and_broker_are_killed_and_takes_little_memory() {
    const SIZE: usize = 50 * 1024 * 1024;
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let path = file(&alice, "fifty.bin", SIZE);
    offer(&alice, "bob", &path);
    let (mut sending, mut receiving) = (listen(&alice), listen(&bob));
    for round in 0..6 {
        await_part(&bob, (round + 1) * 7 * 1024 * 1024);
        match round % 3 {
            0 => {
                receiving.kill();
                receiving = bob.start(&["--json", "listen"]);
            }
            1 => {
                sending.kill();
                sending = alice.start(&["--json", "listen"]);
            }
            _ => {
                broker.kill();
                broker.restart();
            }
        }
    }
    receiving.expect("\"state\":\"arrived\"");
    sending.expect("\"state\":\"arrived\"");
    let peaks = (sending.peak_kib(), receiving.peak_kib());
    println!("{peaks:?} KiB at most");
    assert!(peaks.0 < 64 * MIB && peaks.1 < 64 * MIB, "{peaks:?} KiB");
    let folder = tempfile::tempdir().unwrap();
    let saved = bob.run(&["files", "save", "1", "--to", text(folder.path())]);
    assert_eq!(saved.code, 0, "{saved:?}");
    assert_same(&folder.path().join("fifty.bin"), &path);
    assert_eq!(
        std::fs::read_dir(bob.home().join("files")).unwrap().count(),
        0
    );
}

#[test]
fn send_stays_until_the_file_is_there_and_what_is_saved_overwrites_nothing() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let path = file(&alice, "report.pdf", 300_000);
    let receiving = listen(&bob);
    let sent = alice.run(&["--json", "send", "--file", text(&path), "bob"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let last = sent.events().pop().unwrap();
    assert_eq!(
        (&last["state"], &last["done"]),
        (&json!("arrived"), &json!(300_000))
    );
    receiving.expect("\"state\":\"arrived\"");
    let empty = file(&alice, "empty", 0);
    let sent = alice.run(&["send", "--file", text(&empty), "bob"]);
    assert_eq!(sent.code, 0, "{sent:?}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.pdf"), "mine").unwrap();
    // A link to nowhere is something, too.
    std::os::unix::fs::symlink("/nowhere", folder.path().join("report (1).pdf")).unwrap();
    let to = text(folder.path());
    let saved = bob.run(&["--json", "files", "save", "1", "--to", to]);
    assert_eq!(saved.code, 0, "{saved:?}");
    let there = folder.path().join("report (2).pdf");
    assert_eq!(saved.events()[0]["path"], text(&there));
    assert_same(&there, &path);
    assert_eq!(
        std::fs::read(folder.path().join("report.pdf")).unwrap(),
        b"mine"
    );
    let again = bob.run(&["files", "save", "1", "--to", to]);
    assert_eq!(again.code, 1, "{again:?}");
    let nowhere = bob.run(&["files", "save", "2", "--to", "/no/such/folder"]);
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
    let saved = bob.run(&["files", "save", "2", "--to", to]);
    assert_eq!(saved.code, 0, "{saved:?}");
    assert_eq!(std::fs::read(folder.path().join("empty")).unwrap(), b"");
    let history = bob.run(&["history"]);
    assert!(
        history.stdout.contains("[file report.pdf (300.00 kB)"),
        "{history:?}"
    );
}

#[test]
fn a_file_for_somebody_away_waits_at_its_sender_and_comes_when_it_is_asked_for() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let path = file(&alice, "later.bin", 3_000_000);
    let sent = alice.run(&["send", "--file", text(&path), "bob", "--timeout", "1s"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.stderr.contains("0 of 3000000 bytes"), "{sent:?}");
    let waited = [
        "send",
        "--file",
        text(&path),
        "bob",
        "--timeout",
        "500ms",
        "--wait",
        "delivered",
    ];
    let waited = alice.run(&waited);
    assert_eq!(waited.code, 6, "{waited:?}");
    // Bob wants none unasked; then he asks, while alice is there.
    let bob = Person::newcomer("bob", &broker.url()).living_at(bob.home().to_owned());
    let config = bob.home().join("client.toml");
    std::fs::write(&config, "fetch_files = \"0\"\n").unwrap();
    let bob = bob.with(&["--config", text(&config)]);
    let seen = bob.run(&["--json", "listen", "--count", "3", "--timeout", "20s"]);
    assert_eq!(seen.code, 0, "{seen:?}");
    let listed = files(&bob);
    assert_eq!(listed.len(), 2);
    assert!(
        listed.iter().all(|file| file["cause"] == "not_asked"),
        "{listed:?}"
    );
    let _sending = listen(&alice);
    let folder = tempfile::tempdir().unwrap();
    let saved = bob.run(&["files", "save", "1", "--to", text(folder.path())]);
    assert_eq!(saved.code, 0, "{saved:?}");
    assert_same(&folder.path().join("later.bin"), &path);
}

#[test]
fn downloads_are_saved_by_themselves_and_a_command_is_given_the_path() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let (folder, config) = (bob.home().join("in"), bob.home().join("client.toml"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&config, "downloads = \"in\"\n").unwrap();
    let home = bob.home().to_owned();
    let bob = Person::newcomer("bob", &broker.url())
        .living_at(home.clone())
        .with(&["--config", text(&config)]);
    let out = home.join("out");
    let command = format!("echo \"$SEALPOST_KIND $SEALPOST_FILE\" >>{}", text(&out));
    let handling = bob.start(&["--json", "listen", "--exec", &command]);
    handling.expect("\"connected\"");
    let path = file(&alice, "a b.bin", 2_000_000);
    let sent = alice.run(&["send", "--file", text(&path), "bob"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    write(&alice, "bob", "after it");
    handling.expect("\"state\":\"saved\"");
    let mut from = 0;
    for _ in 0..3 {
        from = handling.expect_from(from, "\"handled\"").0;
    }
    assert_same(&folder.join("a b.bin"), &path);
    let said = std::fs::read_to_string(&out).unwrap();
    let wanted = format!("file {}", text(&folder.join("a b.bin")));
    assert!(said.lines().any(|line| line == wanted), "{said}");
}

#[test]
fn programs_offer_save_and_cancel_by_the_daemon() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let daemon = alice.start(&["daemon"]);
    daemon.expect_error("listening at ");
    let other = bob.start(&["daemon"]);
    other.expect_error("listening at ");
    let (mut hers, mut his) = (Program::of(&alice), Program::of(&bob));
    hers.subscribe("auto");
    his.subscribe("auto");
    let path = file(&alice, "d.bin", 1_000_000);
    let offered = hers.call("send_file", json!({ "to": "bob", "path": text(&path) }));
    let number = &offered["result"]["number"];
    assert_eq!(number, 1, "{offered}");
    his.expect(|line| line["params"]["event"] == "file" && line["params"]["state"] == "arrived");
    hers.expect(|line| line["params"]["event"] == "file" && line["params"]["state"] == "arrived");
    let folder = tempfile::tempdir().unwrap();
    let params = json!({ "file": offered["result"]["id"], "folder": text(folder.path()) });
    let saved = his.call("save_file", params);
    assert_eq!(saved["result"]["state"], "saved", "{saved}");
    assert_same(&folder.path().join("d.bin"), &path);
    for (method, params) in [
        ("send_file", json!({ "to": "bob", "path": "d.bin" })),
        ("send_file", json!({ "to": "bob", "path": "/no/such/file" })),
        ("send_file", json!({ "to": "bob", "path": "/dev/zero" })),
        ("send_file", json!({ "to": "alice", "path": text(&path) })),
        ("save_file", json!({ "file": 7, "folder": "/tmp" })),
        ("cancel_file", json!({ "file": 1 })),
    ] {
        let refused = hers.call(method, params);
        assert!(refused["error"].is_object(), "{method}: {refused}");
    }
    let listed = hers.call("files", json!({}));
    assert_eq!(listed["result"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn either_side_cancels_and_what_changed_under_its_sender_is_never_sent() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let path = file(&alice, "c.bin", 100_000);
    let receiving = listen(&bob);
    for _ in 0..3 {
        offer(&alice, "bob", &path);
    }
    let taken = alice.run(&["--json", "files", "cancel", "1"]);
    assert_eq!(taken.events()[0]["cause"], "cancelled", "{taken:?}");
    // The second goes while the third waits for its turn.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let sending = listen(&alice);
    let mut from = 0;
    for _ in 0..2 {
        from = sending.expect_from(from, "\"cause\":\"changed\"").0;
    }
    let mut from = 0;
    for _ in 0..3 {
        from = receiving.expect_from(from, "\"cause\":\"withdrawn\"").0;
    }
    assert!(
        !receiving
            .stdout()
            .iter()
            .any(|line| line.contains("\"arrived\""))
    );

    // Too large to be fetched unasked, so that it waits.
    drop(receiving);
    let whole = file(&alice, "d.bin", 10);
    offer(&alice, "bob", &whole);
    let number = bob.run(&["--json", "listen", "--count", "10", "--timeout", "2s"]);
    assert_ne!(number.code, 2, "{number:?}");
    let here = files(&bob).pop().unwrap();
    let thrown = bob.run(&["--json", "files", "cancel", &here["number"].to_string()]);
    assert_eq!(thrown.events()[0]["cause"], "cancelled", "{thrown:?}");
    assert!(files(&bob).iter().all(|file| file["state"] == "ended"));
    let left = std::fs::read_dir(bob.home().join("files")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stranger_nothing_is_fetched_and_chunks_that_nobody_asked_for_are_dropped() {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let mut mallory = Forger::register(broker.address(), "mallory", "bob").await;
    let content = vec![1; 10_000];
    let offered = ForgedFile::new("x", &content, Sha256::digest(&content).into());
    let receiving = listen(&bob);
    mallory.send(&offered.offer).await;
    receiving.expect("\"cause\":\"not_asked\"");
    mallory.send(&offered.chunk(&content)).await;
    let other = ForgedFile::new("y", &content, Sha256::digest(&content).into());
    mallory.send(&other.chunk(&content)).await;
    let asked = FileRequest::new(offered.offer.id, 0, 0, 64).unwrap();
    mallory
        .send(&Forgery::of(asked.to_content().unwrap().to_json().unwrap()))
        .await;
    let end = FileEnd {
        file: MessageId::new(sealpost_tests::now(), &mut rand::rng()),
        outcome: FileOutcome::Withdrawn,
    };
    mallory
        .send(&Forgery::of(end.to_content().unwrap().to_json().unwrap()))
        .await;
    mallory.send(&Forgery::text("the last")).await;
    receiving.expect("the last");
    drop(receiving);
    let listed = files(&bob);
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["state"], &listed[0]["done"]),
        (&json!("offered"), &json!(0))
    );
    assert!(!bob.home().join("files").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn traversing_names_stay_in_their_folder_and_wrong_digests_and_lying_sizes_save_nothing() {
    let broker = Broker::start(BrokerOptions::default());
    let home = tempfile::tempdir().unwrap();
    let (folder, config) = (home.path().join("in"), home.path().join("client.toml"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&config, "downloads = \"in\"\n").unwrap();
    let bob = Person::newcomer("bob", &broker.url())
        .living_at(home.path().join("bob"))
        .with(&["--config", text(&config)])
        .settled();
    let mut mallory = Forger::register(broker.address(), "mallory", "bob").await;
    write(&bob, "mallory", "hello");
    let receiving = listen(&bob);
    let content = b"harm".to_vec();
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let names = [
        "../../../escaped",
        "/tmp/escaped",
        "..\\..\\escaped",
        "..",
        ".profile",
        "a\u{1b}[2Jb\u{202e}c",
        "nul",
        "\u{0}",
    ];
    let mut seen = 0;
    let mut fetch = async |offered: &ForgedFile, sent: &[u8], state: &str| {
        mallory.send(&offered.offer).await;
        // Nobody needs to read a request to answer it.
        loop {
            mallory.receive().await;
            mallory.send(&offered.chunk(sent)).await;
            let lines = receiving.stdout();
            let found = lines
                .iter()
                .skip(seen)
                .position(|line| line.contains(state));
            if let Some(at) = found {
                seen += at + 1;
                break;
            }
            let (next, _) = receiving.expect_from(seen, "\"event\":\"file\"");
            if receiving.stdout()[next - 1].contains(state) {
                seen = next;
                break;
            }
        }
    };
    for name in names {
        fetch(
            &ForgedFile::new(name, &content, digest),
            &content,
            "\"saved\"",
        )
        .await;
    }
    fetch(
        &ForgedFile::new("lie", &content, [9; 32]),
        &content,
        "\"damaged\"",
    )
    .await;
    let mut saved: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    saved.sort();
    assert_eq!(
        saved,
        [
            "_nul",
            "a[2Jbc",
            "escaped",
            "escaped (1)",
            "escaped (2)",
            "file",
            "file (1)",
            "profile"
        ]
    );
    for name in &saved {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), content);
    }
    // A chunk of another length than the offer says is none of it.
    let offered = ForgedFile::new("short", &[1; 1_000], digest);
    let small = offered.cut_to(4);
    mallory.send(&offered.offer).await;
    mallory.receive().await;
    mallory.send(&small.chunk(&content)).await;
    mallory.send(&Forgery::text("the last")).await;
    receiving.expect("the last");
    drop(receiving);
    let last = files(&bob).pop().unwrap();
    assert_eq!(
        (&last["state"], &last["done"]),
        (&json!("moving"), &json!(0)),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_ten_thousand_offers_takes_little_memory_and_fetches_nothing_beyond_its_share() {
    const FLOOD: usize = 10_000;
    let broker = Broker::start(BrokerOptions {
        settings: "[limits]\nmailbox_messages = 100000\nmailbox_bytes = 1000000000\n".into(),
        ..BrokerOptions::default()
    });
    let bob = Person::settle("bob", &broker.url());
    let mallory = Forger::register(broker.address(), "mallory", "bob").await;
    write(&bob, "mallory", "hello");
    let receiving = listen(&bob);
    let forgeries: Vec<Forgery> = (0..FLOOD)
        .map(|number| ForgedFile::new(&format!("f{number}"), &[0; 47_000], [0; 32]).offer)
        .collect();
    tokio::task::spawn_blocking(move || mallory.flood(&forgeries))
        .await
        .unwrap();
    receiving.expect(&format!("\"name\":\"f{}\"", FLOOD - 1));
    let peak = receiving.peak_kib();
    println!("{peak} KiB at most");
    assert!(0 < peak && peak < 64 * MIB, "{peak} KiB");
    drop(receiving);
    let listed = files(&bob);
    assert_eq!(listed.len(), 64);
    assert_eq!(
        std::fs::read_dir(bob.home().join("files")).map_or(0, Iterator::count),
        0
    );
}

#[test]
fn in_a_chat_files_are_offered_listed_and_saved() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = friends(&broker);
    let path = file(&alice, "chat.bin", 200_000);
    let folder = tempfile::tempdir().unwrap();
    let (mut hers, mut his) = (alice.start(&["chat"]), bob.start(&["chat"]));
    hers.expect_error("connected");
    his.expect_error("connected");
    hers.say(&format!("/file bob {}", text(&path)));
    his.expect("[file chat.bin (200.00 kB)");
    his.expect("is here");
    hers.expect("is there");
    his.say(&format!("/save 1 {}", text(folder.path())));
    his.expect("saved as ");
    assert_same(&folder.path().join("chat.bin"), &path);
    his.say("/files");
    his.expect("file 1 from alice, chat.bin (200.00 kB): saved as ");
    his.say("/cancel 1");
    his.expect_error("it was saved");
    hers.say("/file bob /no/such/file");
    hers.expect_error("cannot read /no/such/file");
}
