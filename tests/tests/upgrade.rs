//! What an earlier format's programs wrote is read and carried on by today's. `tests/fixtures` keeps it for ever.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sealpost_tests::{Answer, Archiver, Broker, BrokerOptions, Clock, Person, root};
use serde_json::{Value, json};

/// So long ago a fixture is written, in seconds: ten years, so that it is opened today as it will be then.
const AGO: i64 = 3_650 * 86_400;
/// So long after it was written a fixture is opened, in seconds.
const LATER: i64 = 3_600;

fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

/// Their numbers, the oldest first.
fn generations() -> Vec<u32> {
    let files = std::fs::read_dir(fixtures()).unwrap();
    let mut numbers: Vec<u32> = files
        .filter_map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".tar.gz")?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

/// The texts of a history, the oldest first.
fn history(person: &Person) -> Vec<Value> {
    let events = done(person.run(&["--json", "history"])).events();
    events.iter().map(|event| event["text"].clone()).collect()
}

/// Each whom the broker knows, with what must not change.
fn users(broker: &Broker) -> Vec<Value> {
    let listed = broker.administer(&["users", "list", "--json"]);
    let mut users: Vec<Value> = listed
        .lines()
        .map(|line| {
            let user: Value = serde_json::from_str(line).unwrap();
            let [name, standing] = ["user", "standing"].map(|key| user[key].as_str().unwrap());
            json!({ "name": name, "standing": standing, "identity": user["identity"], "password": user["password"] })
        })
        .collect();
    users.sort_by_key(|user| user["name"].to_string());
    users
}

/// The numbers of all messages' lines, without where they are from.
fn archived(archiver: &Archiver) -> Vec<Value> {
    let lines = archiver.administer(&["query", "--json"]);
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect()
}

/// SQLite keeps `user_version` there: section 1.3 of its file format.
fn store_version(home: &Path) -> u32 {
    let bytes = std::fs::read(home.join("store.sqlite")).unwrap();
    u32::from_be_bytes(bytes[60..64].try_into().unwrap())
}

fn tar(arguments: &[&str]) {
    let status = Command::new("tar").args(arguments).status().unwrap();
    assert!(status.success(), "tar {arguments:?}");
}

/// Those who are in a fixture: a broker, alice, bob and an archiver, each in a folder of its name.
struct Scene {
    broker: Broker,
    alice: Person,
    bob: Person,
    archiver: Archiver,
}

impl Scene {
    fn open(dir: &Path, clock: &Arc<Clock>) -> Scene {
        let mut archiver = Archiver::living_in("archiver", dir.join("archive"));
        let broker = Broker::start(BrokerOptions {
            archivers: vec![archiver.credential()],
            data: Some(dir.join("broker")),
            clock: Some(Arc::clone(clock)),
            ..BrokerOptions::default()
        });
        let [alice, bob] = ["alice", "bob"].map(|name| {
            let mut person = Person::newcomer(name, &broker.url()).living_at(dir.join(name));
            person.live_by(clock);
            person
        });
        archiver.live_by(clock);
        archiver.run(&broker.url());
        Scene {
            broker,
            alice,
            bob,
            archiver,
        }
    }
}

/// What `make fixtures` keeps.
fn write(number: &str) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Clock::new());
    clock.set(-AGO);
    let mut scene = Scene::open(dir.path(), &clock);
    let Scene {
        broker,
        alice,
        bob,
        archiver,
    } = &mut scene;
    for person in [&*alice, &*bob] {
        done(person.run(&["keys", "init", "--no-passphrase"]));
    }
    assert_eq!(
        broker
            .administer_with(&["passwd", "add", "meter"], "a password")
            .code,
        0
    );
    broker.administer(&["users", "disable", "meter"]);

    // In a segment, with a tombstone; under a key of Bob's that he replaces.
    for text in ["This one is erased.", "Shall we meet at the lighthouse?"] {
        done(alice.run(&["send", "bob", text]));
        done(bob.run(&["listen", "--count", "1", "--timeout", "30s"]));
    }
    done(alice.run(&["listen", "--timeout", "1s"]));
    archiver.expect_lines(2);
    let _ = archiver.administer(&["seal"]);
    let _ = archiver.administer(&["erase", "--seq", "1", "--reason", "an example"]);
    done(bob.run(&["keys", "rotate"]));

    // In the active file, and answered.
    done(bob.run(&["send", "alice", "Gern. Straße oder Schiff?"]));
    done(alice.run(&["listen", "--count", "1", "--timeout", "30s"]));
    done(bob.run(&["listen", "--timeout", "1s"]));
    // At the broker, and in the outbox.
    let (waits, outbox) = ("This waits at the broker.", "This waits in the outbox.");
    done(alice.run(&["send", "--wait", "sent", "bob", waits]));
    archiver.process().terminate();
    let known = users(broker);
    broker.stop();
    let kept = alice.run(&["send", "--wait", "queued", "bob", outbox]);
    assert_eq!(kept.code, 0, "{kept:?}");

    let expected = json!({
        "written": now() - AGO,
        "users": known,
        "history": { "alice": history(alice), "bob": history(bob) },
        "waits": [waits, outbox],
        "archived": archived(archiver),
    });
    let text = serde_json::to_string_pretty(&expected).unwrap();
    std::fs::write(dir.path().join("expected.json"), text + "\n").unwrap();
    let file = fixtures().join(format!("{number}.tar.gz"));
    assert!(
        !file.exists(),
        "{file:?} is kept for ever: take the next number"
    );
    std::fs::create_dir_all(fixtures()).unwrap();
    let (file, from) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    // Journals are mostly holes. Sockets of programs that have ended are nothing.
    tar(&[
        "--sparse",
        "--exclude=*.sock",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-C",
        from,
        "-czf",
        file,
        ".",
    ]);
}

/// Opens a copy with today's programs, and looks for everything.
fn open_and_go_on(number: u32) {
    let dir = tempfile::tempdir().unwrap();
    let file = fixtures().join(format!("{number}.tar.gz"));
    tar(&[
        "--no-same-owner",
        "-C",
        dir.path().to_str().unwrap(),
        "-xpzf",
        file.to_str().unwrap(),
    ]);
    let text = std::fs::read_to_string(dir.path().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let version = store_version(&dir.path().join("alice"));

    // Keys are valid for 180 days and mail waits for 30: the clock is of the fixture's time, whenever this runs.
    let clock = Arc::new(Clock::new());
    clock.set(expected["written"].as_i64().unwrap() + LATER - now());
    let offline = Archiver::living_in("archiver", dir.path().join("archive"));
    let verified = offline.administer(&["verify"]);
    assert_eq!(
        json!(archived(&offline)),
        expected["archived"],
        "{verified}"
    );
    let mut scene = Scene::open(dir.path(), &clock);
    let Scene {
        broker,
        alice,
        bob,
        archiver,
    } = &mut scene;

    assert_eq!(json!(users(broker)), expected["users"]);
    for person in [&*alice, &*bob] {
        assert_eq!(json!(history(person)), expected["history"][person.name()]);
    }
    // What waited in the outbox leaves it as soon as she is there; what waited at the broker comes before it.
    let answered = alice.run(&[
        "send",
        "--wait",
        "sent",
        "--timeout",
        "30s",
        "bob",
        "And this is new.",
    ]);
    done(answered);
    let mut waits = expected["waits"].as_array().unwrap().clone();
    waits.push(json!("And this is new."));
    let count = waits.len().to_string();
    let received = done(bob.run(&["--json", "listen", "--count", &count, "--timeout", "30s"]));
    let received = received.events();
    let messages = received.iter().filter(|event| event["event"] == "message");
    let texts: Vec<Value> = messages.map(|event| event["text"].clone()).collect();
    assert_eq!(texts, waits);
    let before = expected["history"]["bob"].as_array().unwrap();
    assert_eq!(history(bob), [before.as_slice(), &waits].concat());
    done(bob.run(&[
        "send",
        "--wait",
        "sent",
        "--timeout",
        "30s",
        "alice",
        "Read it all.",
    ]));
    done(alice.run(&["listen", "--count", "1", "--timeout", "30s"]));

    // The archive went on where it was, and nothing in it has changed.
    broker.stop();
    archiver.process().terminate();
    let all = archived(archiver);
    let before = expected["archived"].as_array().unwrap();
    assert!(all.starts_with(before), "{all:?}");
    assert!(all.len() >= before.len() + 3, "{all:?}");
    let _ = archiver.administer(&["verify"]);
    let checked = broker.administer(&["check"]);
    assert!(!checked.is_empty());

    if Some(&number) == generations().last() {
        let today = store_version(alice.home());
        assert_eq!(
            version,
            today,
            "the format of the store has changed: `make fixtures VERSION={}`",
            number + 1
        );
    }
}

#[test]
fn what_the_programs_of_every_earlier_format_wrote_is_there_and_goes_on() {
    if let Ok(number) = std::env::var("SEALPOST_WRITE_FIXTURE") {
        write(&number);
    }
    let generations = generations();
    assert!(!generations.is_empty());
    for number in generations {
        open_and_go_on(number);
    }
}
