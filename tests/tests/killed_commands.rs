//! `kill -9` in the middle of a command that changes the home: it opens again, is as before or as after, and works.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::{Answer, Broker, BrokerOptions, Person, root};
use serde_json::Value;

/// How often each command is killed.
const ROUNDS: usize = 12;

/// Kills it at some instant of so long, which is a little longer than it takes.
fn killed(person: &Person, arguments: &[&str], whole: Duration) {
    let mut command = person.start(arguments);
    std::thread::sleep(whole.mul_f64(rand::rng().random_range(0.0..1.2)));
    command.kill();
}

/// How long a command takes.
fn time(person: &Person, arguments: &[&str]) -> Duration {
    let begun = Instant::now();
    done(person.run(arguments));
    begun.elapsed()
}

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

fn keys(person: &Person) -> Value {
    done(person.run(&["--json", "keys", "show"]))
        .events()
        .remove(0)
}

fn cross(from: &Person, to: &Person, text: &str) {
    done(from.run(&[
        "send",
        "--wait",
        "sent",
        "--timeout",
        "30s",
        to.name(),
        text,
    ]));
    let received = done(to.run(&["listen", "--count", "1", "--timeout", "30s"]));
    assert_eq!(received.stdout, format!("From {}: {text}", from.name()));
}

/// A copy of a home, so that each round begins with the same.
fn copy(of: &Person, folder: &Path) -> Person {
    let status = Command::new("cp")
        .args(["-r", "-p"])
        .arg(of.home())
        .arg(folder)
        .status();
    assert!(status.unwrap().success());
    Person::newcomer(of.name(), "mqtt://127.0.0.1:1").living_at(folder.to_owned())
}

/// Nothing half-written lies about that anybody would read.
fn assert_whole(person: &Person) {
    for entry in std::fs::read_dir(person.home()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with("store.sqlite")
                || name.starts_with("keystore.")
                || name.starts_with("receiving."),
            "{name}"
        );
    }
}

#[test]
fn keys_that_were_killed_while_they_rotated_are_the_old_or_the_new_and_open_what_is_under_way() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    cross(&alice, &bob, "hello");
    cross(&bob, &alice, "hello");
    let before = keys(&alice);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut changed = 0;
    for round in 0..ROUNDS {
        let home = |name: &str| elsewhere.path().join(format!("{round} {name}"));
        let (whole, copy) = (copy(&alice, &home("whole")), copy(&alice, &home("killed")));
        let how = match round % 3 {
            0 => &["keys", "rotate", "--no-publish"][..],
            1 => &["keys", "rotate", "--identity", "--no-publish"],
            _ => &["keys", "passphrase", "--new-command", "echo secret"],
        };
        killed(&copy, how, time(&whole, how));
        assert_whole(&copy);
        let copy = copy.with(&["--passphrase-command", "echo secret"]);
        let after = keys(&copy);
        changed += usize::from(after != before);
        let more = after["encryption"].as_array().unwrap().len();
        match round % 3 {
            0 => assert!(after["fingerprint"] == before["fingerprint"] && more <= 2),
            1 => assert_eq!(after["fingerprint"] != before["fingerprint"], more == 2),
            _ => assert_eq!(after["seq"], before["seq"]),
        }
    }
    println!("{changed} of {ROUNDS} were done before the kill");

    done(bob.run(&["send", "alice", "under way"]));
    for how in [&["keys", "rotate"][..], &["keys", "rotate", "--identity"]] {
        killed(&alice, how, Duration::from_secs(1));
    }
    let received = done(alice.run(&["listen", "--count", "1", "--timeout", "30s"]));
    assert_eq!(received.stdout, "From bob: under way");
    cross(&alice, &bob, "after the kills");
    cross(&bob, &alice, "and back");
}

#[test]
fn a_contact_whose_acceptance_was_killed_is_accepted_or_not_and_can_be() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    cross(&alice, &bob, "hello");
    let whole = time(&bob, &["contacts"]);
    for _ in 0..ROUNDS {
        killed(&bob, &["contacts", "accept", "alice"], whole);
        assert_whole(&bob);
        assert_eq!(done(bob.run(&["--json", "contacts"])).events().len(), 1);
    }
    done(bob.run(&["contacts", "accept", "alice"]));
    done(bob.run(&["listen", "--timeout", "1s"]));
    done(alice.run(&["listen", "--timeout", "1s"]));
    assert_eq!(done(alice.run(&["outbox"])).stdout, "", "it was receipted");
}

/// A store of the first version, with so many rows that bringing it up takes a while; and the look at one.
const OLD_STORE: &str = r#"
import re, sqlite3, sys
schema = open(sys.argv[1]).read()
first = re.search(r'const FIRST: &str = "(.*?)";', schema, re.S).group(1)
db = sqlite3.connect(sys.argv[2])
db.execute("PRAGMA journal_mode=WAL")
db.executescript(first)
db.execute("INSERT INTO meta VALUES ('installation', '0123456789abcdef')")
rows = ((f"user{n % 500}", n.to_bytes(16, "big"), n, n, b"x" * 200, 1) for n in range(2000))
db.executemany("INSERT INTO messages (sender, id, ts, received_at, body, shown) VALUES (?, ?, ?, ?, ?, ?)", rows)
db.executemany("INSERT INTO seen (sender, id, ts) SELECT sender, id, ts FROM messages WHERE number = ?", ((n,) for n in range(1, 20001)))
db.execute("PRAGMA user_version = 1")
db.commit()
"#;
const LOOK: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
check = db.execute("PRAGMA integrity_check").fetchone()[0]
version = db.execute("PRAGMA user_version").fetchone()[0]
rows = db.execute("SELECT count(*), count(DISTINCT id) FROM messages").fetchone()
columns = {row[1] for row in db.execute("PRAGMA table_info(messages)")}
installation = db.execute("SELECT value FROM meta WHERE key = 'installation'").fetchone()[0]
print(check, version > 1, "digest" in columns, *rows, installation)
"#;

fn python(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("python3")
        .arg("-c")
        .arg(script)
        .args(arguments)
        .output();
    let output = output.expect("python3 is installed (`make test-tools`)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_store_whose_move_to_a_later_version_was_killed_is_of_one_version_or_the_other_and_moves_again()
{
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:1");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let store = alice.home().join("store.sqlite");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(alice.home().join(format!("store.sqlite{suffix}")));
    }
    let schema = root().join("client/src/store/schema.rs");
    python(OLD_STORE, &[&schema, &store]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&store, mode).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let whole = time(
        &copy(&alice, &elsewhere.path().join("whole")),
        &["contacts"],
    );
    let mut moved = 0;
    for round in 0..ROUNDS {
        let copy = copy(&alice, &elsewhere.path().join(round.to_string()));
        killed(&copy, &["contacts"], whole);
        let store = copy.home().join("store.sqlite");
        let seen = python(LOOK, &[&store]);
        let before = "ok False False 2000 2000 0123456789abcdef";
        let after = "ok True True 2000 2000 0123456789abcdef";
        assert!([before, after].contains(&seen.as_str()), "{seen}");
        moved += usize::from(seen == after);
        done(copy.run(&["contacts"]));
        assert_eq!(python(LOOK, &[&store]), after);
        done(copy.run(&["send", "--wait", "queued", "bob", "it works"]));
    }
    println!("{moved} of {ROUNDS} had moved before the kill");
}
