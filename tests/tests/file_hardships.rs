//! Files when the machine does not play along: a recipient who is away half-way, a disk that is full, a save that is killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::{Broker, BrokerOptions, PATIENCE, Person, Process, SmallDisk, get};
use serde_json::Value;

/// How many chunks of a file are asked for and not there, as `docs/files.md` promises.
const WINDOW: f64 = 32.0;

fn friends(alice: &Person, bob: &Person) {
    for (from, to) in [(alice, "bob"), (bob, "alice")] {
        let sent = from.run(&["send", to, "hello"]);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
}

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

fn offer(person: &Person, to: &str, path: &Path) {
    let sent = person.run(&["send", "--file", text(path), to, "--wait", "queued"]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

fn listen(person: &Person) -> Process {
    let process = person.start(&["--json", "listen"]);
    process.expect("\"connected\"");
    process
}

/// Waits until so many bytes of the first file are here.
fn await_part(person: &Person, bytes: u64) {
    let part = person.home().join("files/1.part");
    let until = Instant::now() + PATIENCE;
    while part.metadata().map_or(0, |part| part.len()) < bytes {
        assert!(Instant::now() < until, "the file does not go on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn owed(metrics: SocketAddr) -> f64 {
    let (_, text) = get(metrics, "/metrics");
    let line = text
        .lines()
        .find(|line| line.starts_with("sealpost_queue_messages "));
    let number = line.and_then(|line| line.split(' ').nth(1)).unwrap();
    number.parse().unwrap()
}

#[test]
fn no_more_than_a_window_of_a_file_waits_in_the_mailbox_of_who_went_away() {
    let broker = Broker::start(BrokerOptions {
        settings: "[metrics]\nlisten = \"127.0.0.1:0\"\n".into(),
        ..BrokerOptions::default()
    });
    let line = broker.process.expect("metrics on ");
    let metrics = line.trim_start_matches("metrics on http://");
    let metrics: SocketAddr = metrics.trim_end_matches("/metrics").parse().unwrap();
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    friends(&alice, &bob);
    let path = file(&alice, "large.bin", 40 * 1024 * 1024);
    let (mut sending, mut receiving) = (listen(&alice), listen(&bob));
    offer(&alice, "bob", &path);
    await_part(&bob, 4 * 1024 * 1024);
    receiving.kill();
    // All that he has asked for comes; then a message, behind which nothing of the file does.
    let mut most: f64 = 0.0;
    let mut before = -1.0;
    let until = Instant::now() + PATIENCE;
    loop {
        let now = owed(metrics);
        most = most.max(now);
        if now > 0.0 && now == before {
            break;
        }
        before = now;
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("{most} messages were owed at most");
    // Beside them perhaps a receipt.
    assert!(0.0 < most && most <= WINDOW + 2.0, "{most}");
    let receiving = listen(&bob);
    receiving.expect("\"state\":\"arrived\"");
    sending.expect("\"state\":\"arrived\"");
    assert!(sending.terminate().success());
}

#[test]
fn a_disk_that_gets_full_under_a_file_is_said_loses_nothing_and_the_file_goes_on_when_there_is_room()
 {
    let Some(disk) = SmallDisk::mount(32) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::newcomer("bob", &broker.url())
        .living_at(disk.path().join("bob"))
        .settled();
    friends(&alice, &bob);
    let path = file(&alice, "large.bin", 8_000_000);
    let mut sending = listen(&alice);
    disk.fill(4);
    // It goes on by itself whatever happens.
    let mut daemon = bob.start(&["daemon"]);
    daemon.expect_error("listening at ");
    offer(&alice, "bob", &path);
    let full = daemon.expect_error("disk is full");
    println!("{full}");
    let sent = alice.run(&["send", "bob", "meanwhile"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    disk.empty();
    sending.expect("\"state\":\"arrived\"");
    assert!(sending.terminate().success());
    assert!(daemon.terminate().success());
    let came = bob.run(&["--json", "listen", "--timeout", "2s"]);
    let texts: Vec<Value> = came.events();
    let meanwhile = texts.iter().filter(|event| event["text"] == "meanwhile");
    assert_eq!(meanwhile.count(), 1, "{texts:?}");
    let folder = tempfile::tempdir().unwrap();
    let saved = bob.run(&["files", "save", "1", "--to", text(folder.path())]);
    assert_eq!(saved.code, 0, "{saved:?}");
    let same =
        std::fs::read(folder.path().join("large.bin")).unwrap() == std::fs::read(&path).unwrap();
    assert!(same);
}

#[test]
fn a_save_that_finds_no_room_says_so_and_leaves_nothing_and_the_file_stays_here() {
    let Some(disk) = SmallDisk::mount(4) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    friends(&alice, &bob);
    let path = file(&alice, "large.bin", 3_000_000);
    let receiving = listen(&bob);
    let sent = alice.run(&["send", "--file", text(&path), "bob"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    receiving.expect("\"state\":\"arrived\"");
    disk.fill(1);
    let to = text(disk.path());
    let saved = bob.run(&["files", "save", "1", "--to", to]);
    assert_eq!(saved.code, 1, "{saved:?}");
    assert!(saved.stderr.contains("No space left"), "{saved:?}");
    let left = std::fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(left, 1, "what fills it");
    disk.empty();
    let saved = bob.run(&["files", "save", "1", "--to", to]);
    assert_eq!(saved.code, 0, "{saved:?}");
}

#[test]
fn a_save_that_is_killed_leaves_all_of_the_file_or_nothing_and_can_be_done_again() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    friends(&alice, &bob);
    let path = file(&alice, "large.bin", 30_000_000);
    let receiving = listen(&bob);
    let sent = alice.run(&["send", "--file", text(&path), "bob", "--timeout", "60s"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    receiving.expect("\"state\":\"arrived\"");
    drop(receiving);
    let folder = tempfile::tempdir().unwrap();
    let to = text(folder.path());
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    let whole = std::fs::read(&path).unwrap();
    let mut rounds = 0;
    for _ in 0..12 {
        let mut save = bob.start(&["files", "save", "1", "--to", to]);
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(5..150)));
        save.kill();
        for name in names() {
            assert!(name.starts_with("large"), "{name}");
            assert!(std::fs::read(folder.path().join(name)).unwrap() == whole);
        }
        rounds += 1;
        // Killed behind the end of its work, it is done.
        if !names().is_empty() {
            break;
        }
    }
    println!("killed {rounds} times");
    let again = bob.run(&["--json", "files"]).events();
    if again[0]["state"] != "saved" {
        let saved = bob.run(&["files", "save", "1", "--to", to]);
        assert_eq!(saved.code, 0, "{saved:?}");
    }
    assert!(!names().is_empty());
}
