//! `sealpost-device`: what it took over arrives exactly once and in order, or both sides are told which readings were dropped.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use sealpost_tests::{
    Broker, BrokerOptions, Clock, DEVICE_PROGRAM, PATIENCE, Person, Process, Sensor, SmallDisk,
    events_of, root,
};
use serde_json::Value;

/// The most resident memory of the program that `make device` builds, in KiB: what docs/devices.md says.
const MOST_KIB: u64 = 10 * 1_024;
/// The same for the ordinary build, which is not made to be small.
const MOST_KIB_ORDINARY: u64 = 16 * 1_024;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// Waits until something holds. There is nothing to await but what the other process prints.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number of the last reading that the device has on disk.
fn taken(device: &Process) -> u64 {
    let last = events_of(device, "taken").pop();
    last.map_or(0, |event| number(&event["number"]))
}

/// What became of each number at a reader: read so often, or dropped. Panics when they do not come in order.
fn account_for(reader: &Process) -> BTreeMap<u64, &'static str> {
    let mut came = BTreeMap::new();
    for message in events_of(reader, "message") {
        let (range, what) = match message["kind"].as_str().unwrap() {
            "reading" => {
                let reading = &message["reading"];
                let number = number(&reading["number"]);
                assert_eq!(reading["value"]["n"], number, "{message}");
                (number..=number, "read")
            }
            "reading-gap" => {
                let gap = &message["reading_gap"];
                (number(&gap["first"])..=number(&gap["last"]), "dropped")
            }
            other => panic!("{other}: {message}"),
        };
        for number in range {
            if let Some((&last, _)) = came.last_key_value() {
                assert_eq!(number, last + 1, "in order, once: {message}");
            } else {
                assert_eq!(number, 1, "{message}");
            }
            came.insert(number, what);
        }
    }
    assert_eq!(events_of(reader, "gap"), Vec::<Value>::new());
    came
}

fn listen(reader: &Person) -> Process {
    let process = reader.start(&["--json", "listen"]);
    process.expect("\"connected\"");
    process
}

/// A reader and a device that know each other by their links.
fn pair(broker_url: &str) -> (Person, Sensor) {
    let alice = Person::settle("alice", broker_url);
    let device = Sensor::new("thermo", broker_url).reporting_to(&alice);
    let added = alice.run(&["add", &device.link()]);
    assert_eq!(added.code, 0, "{added:?}");
    (alice, device)
}

#[test]
fn a_device_claims_its_invitation_at_the_first_start_and_its_readings_arrive_in_order() {
    let broker = Broker::start(BrokerOptions {
        settings: "registration = \"closed\"\n".into(),
        ..BrokerOptions::default()
    });
    let invitation = |name: &str| broker.administer(&["invite", name]);
    let alice = Person::newcomer("alice", &broker.url())
        .with(&["--invitation", &invitation("alice")])
        .settled();
    let device = Sensor::new("thermo", &broker.url())
        .reporting_to(&alice)
        .with(&["--invitation", &invitation("thermo")]);
    let mut process = device.start();
    for n in 1..=20 {
        process.say(&format!("{{\"n\":{n}}}"));
    }
    // It printed its link when it made its keys; whoever comes later asks for it.
    let link = process.expect("contact_link");
    assert!(link.contains(&device.link()), "{link}");
    assert_eq!(alice.run(&["add", &device.link()]).code, 0);
    let reader = listen(&alice);
    reader.expect("\"number\":20,");
    assert_eq!(account_for(&reader).len(), 20);
    // Receipts come, for alice has added the device: nothing is left of the readings there.
    until("all are receipted", || {
        events_of(&process, "delivered").len() == 20
    });
    process.hush();
    assert_eq!(process.wait().code(), Some(0), "{:?}", process.stderr());
    assert_eq!(taken(&process), 20);
    assert_eq!(device.opened().run(&["outbox"]).stdout, "");
    assert_eq!(device.opened().run(&["history"]).stdout, "");

    let history = alice.run(&["history", "--limit", "1"]);
    assert!(
        history
            .stdout
            .contains("From thermo (verified): reading 20 of ")
            && history.stdout.ends_with(": {\"n\":20}"),
        "{history:?}"
    );
}

#[test]
fn a_device_that_is_run_for_each_reading_sends_it_or_keeps_it_for_the_next_time() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    let sent = device.run(&[], &["{\"n\":1}"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    broker.kill();
    let kept = device.run(&["--timeout", "100ms"], &["{\"n\":2}", "", "{\"n\":3}"]);
    assert_eq!(kept.code, 0, "it is kept: {kept:?}");
    assert!(kept.stdout.contains("\"disconnected\""), "{kept:?}");
    broker.restart();
    assert_eq!(device.run(&[], &[]).code, 0);
    let reader = listen(&alice);
    reader.expect("\"number\":3,");
    assert_eq!(account_for(&reader).len(), 3);
}

#[test]
fn what_was_taken_over_arrives_once_and_in_order_whoever_is_killed() {
    const READINGS: u64 = 1_500;
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    let reader = listen(&alice);
    let mut rng = rand::rng();
    let mut kills = 0;
    let mut process = device.start();
    process.expect("\"taken\"");
    let mut fed = taken(&process);
    while taken(&process) < READINGS {
        // Who feeds a device goes on where it says that it is.
        let lines = rng.random_range(1..=40).min(READINGS - fed);
        for _ in 0..lines {
            fed += 1;
            assert!(process.try_say(&format!("{{\"n\":{fed}}}")));
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..40)));
        match rng.random_range(0..12) {
            0 => {
                process.kill();
                process = device.start();
                process.expect("\"taken\"");
                fed = taken(&process);
                kills += 1;
            }
            1 => {
                broker.kill();
                std::thread::sleep(Duration::from_millis(rng.random_range(0..100)));
                broker.restart();
                kills += 1;
            }
            _ => {}
        }
    }
    reader.expect(&format!("\"number\":{READINGS},"));
    let came = account_for(&reader);
    assert_eq!(came.len() as u64, READINGS);
    assert!(came.values().all(|what| *what == "read"));
    println!("{kills} kills");
}

#[test]
fn a_full_ring_keeps_the_newest_and_tells_both_sides_what_went() {
    const READINGS: u64 = 2_000;
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    let device = device.with(&["--ring-readings", "256"]);
    let mut process = device.start();
    process.expect("\"connected\"");
    process.say("{\"n\":1}");
    process.expect("\"sent\"");
    broker.kill();
    process.expect("\"disconnected\"");
    for n in 2..=READINGS {
        process.say(&format!("{{\"n\":{n}}}"));
    }
    until("all are taken over", || taken(&process) == READINGS);
    process.expect("\"dropped\"");
    broker.restart();
    let reader = listen(&alice);
    reader.expect(&format!("\"number\":{READINGS},"));
    let came = account_for(&reader);
    assert_eq!(came.len() as u64, READINGS);
    let read = came.values().filter(|what| **what == "read").count();
    assert!((200..=257).contains(&read), "{read}");
    process.hush();
    assert_eq!(process.wait().code(), Some(0));
    let dropped: u64 = events_of(&process, "dropped")
        .iter()
        .map(|gap| number(&gap["count"]))
        .sum();
    assert_eq!(dropped, READINGS - read as u64);
    let history = alice.run(&["history", "--limit", "1000"]);
    assert!(
        history
            .stdout
            .contains("dropped there for want of room, numbers "),
        "{history:?}"
    );
}

#[test]
fn a_device_stays_small_with_a_full_ring_and_while_it_sends() {
    const READINGS: u64 = 10_500;
    let (name, most) = match std::env::var_os(DEVICE_PROGRAM) {
        Some(_) => ("the small build", MOST_KIB),
        None => ("the ordinary build", MOST_KIB_ORDINARY),
    };
    let mut broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    let mut process = device.start();
    process.expect("\"connected\"");
    broker.kill();
    for n in 1..=READINGS {
        process.say(&format!(
            "{{\"n\":{n},\"celsius\":21.5,\"humidity\":40.25}}"
        ));
    }
    until("all are taken over", || taken(&process) == READINGS);
    process.expect("\"dropped\"");
    let full = process.resident_kib();
    broker.restart();
    let reader = listen(&alice);
    let sending = Instant::now();
    reader.expect(&format!("\"number\":{READINGS},"));
    let peak = process.peak_kib();
    println!(
        "{name}: {full} KiB with a full ring, {peak} KiB at most; 10,000 readings sent in {:.1} s",
        sending.elapsed().as_secs_f64()
    );
    assert!(peak <= most, "{name}: {peak} KiB");
}

#[test]
fn a_device_that_wakes_up_in_1970_sends_when_its_clock_is_set() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let clock = Arc::new(Clock::new());
    let now = std::time::SystemTime::now();
    let since_1970 = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    clock.set(60 - i64::try_from(since_1970).unwrap());
    let device = Sensor::new("thermo", &broker.url())
        .reporting_to(&alice)
        .living_by(&clock);
    let mut process = device.start();
    process.say("{\"n\":1}");
    process.expect("\"disconnected\"");
    process.say("{\"n\":2}");
    until("they are taken over", || taken(&process) == 2);
    clock.set(0);
    process.say("{\"n\":3}");
    assert_eq!(alice.run(&["add", &device.link()]).code, 0);
    let reader = listen(&alice);
    reader.expect("\"number\":3,");
    assert_eq!(account_for(&reader).len(), 3);
    let messages = events_of(&reader, "message");
    assert!(messages[0]["reading"]["at"].as_f64().unwrap() < 1_000.0);
}

#[test]
fn on_a_full_disk_nothing_is_taken_over_and_nothing_that_was_read_is_lost() {
    let Some(disk) = SmallDisk::mount(8) else {
        return;
    };
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let device = Sensor::new("thermo", &broker.url())
        .living_at(disk.path().join("thermo"))
        .reporting_to(&alice);
    assert_eq!(alice.run(&["add", &device.link()]).code, 0);
    let mut process = device.start();
    process.say("{\"n\":1}");
    until("it is taken over", || taken(&process) == 1);
    disk.fill(0);
    for n in 2..=400 {
        process.say(&format!("{{\"n\":{n}}}"));
    }
    process.expect("the disk is full");
    disk.empty();
    let reader = listen(&alice);
    reader.expect("\"number\":400,");
    assert_eq!(account_for(&reader).len(), 400);
    assert!(!process.has_ended());
}

#[test]
fn a_device_follows_its_readers_new_identity_and_refuses_another_that_a_link_names() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    assert_eq!(device.run(&[], &["{\"n\":1}"]).code, 0);
    assert_eq!(alice.run(&["keys", "rotate", "--identity"]).code, 0);
    for n in 2..=3 {
        let sent = device.run(&[], &[&format!("{{\"n\":{n}}}")]);
        assert_eq!(sent.code, 0, "{sent:?}");
        assert!(sent.stdout.contains("\"sent\""), "{sent:?}");
    }
    let reader = listen(&alice);
    reader.expect("\"number\":3,");
    assert_eq!(account_for(&reader).len(), 3);
    drop(reader);

    let stranger = Person::newcomer("alice", &broker.url());
    let made = stranger.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0);
    let refused = device.reporting_to(&stranger).run(&[], &["{\"n\":4}"]);
    assert_eq!(refused.code, 2, "two recipients: {refused:?}");
}

#[test]
fn a_link_that_contradicts_what_is_known_ends_it_with_its_own_code() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let other = Person::newcomer("alice", &broker.url());
    let made = other.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0);
    let device = Sensor::new("thermo", &broker.url());
    let link = |person: &Person| person.run(&["invite"]).stdout;
    assert_eq!(device.run(&["--to", &link(&alice)], &["1"]).code, 0);
    let refused = device.run(&["--to", &link(&other)], &["2"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stdout.contains("link_contradicts"), "{refused:?}");
    assert_eq!(device.run(&["--to", "alice"], &["2"]).code, 0);
    assert_eq!(device.run(&["--to", "carol"], &["2"]).code, 4);
    assert_eq!(device.run(&[], &["2"]).code, 2, "to nobody");
}

#[test]
fn strangers_leave_nothing_on_a_device_and_its_reader_can_tell_it_something() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    let mallory = Person::settle("mallory", &broker.url());
    let mut process = device.start();
    process.say("{\"n\":1}");
    process.expect("\"sent\"");
    assert_eq!(mallory.run(&["send", "thermo", "let me in"]).code, 0);
    assert_eq!(alice.run(&["send", "thermo", "well done"]).code, 0);
    let message = process.expect("\"message\"");
    assert!(message.contains("well done"), "{message}");
    process.hush();
    assert_eq!(process.wait().code(), Some(0));
    let known = device.opened().run(&["--json", "contacts"]).events();
    assert_eq!(known.len(), 1, "{known:?}");
    assert!(!process.stdout().join("").contains("mallory"));
}

#[test]
fn slips_in_settings_are_refused_by_name_and_the_client_reads_the_same_file() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("device.toml");
    let device =
        Sensor::new("thermo", &broker.url()).with(&["--config".as_ref(), file.as_os_str()]);
    let refused = |text: &str, environment: Option<(&str, &str)>| {
        // A flag or the environment would win over the file.
        std::fs::write(&file, text).unwrap();
        let mut command = device.command();
        command
            .env_remove("SEALPOST_DEVICE_GATHER")
            .envs(environment);
        let mut process = Process::spawn("thermo", &mut command);
        process.hush();
        assert_eq!(
            process.wait().code(),
            Some(2),
            "{text}: {:?}",
            process.stdout()
        );
        process.stderr().join("\n")
    };
    for (text, environment, word) in [
        (
            "[device]\nring_reading = 300\n",
            None,
            "Did you mean \"ring_readings\"?",
        ),
        (
            "[devices]\nto = \"alice\"\n",
            None,
            "Did you mean \"device\"?",
        ),
        (
            "[device]\nring_readings = \"many\"\n",
            None,
            "ring_readings",
        ),
        (
            "[device]\nring_readings = 7\n",
            None,
            "a number from 256 to 100000",
        ),
        ("[device]\ngather = \"2m\"\n", None, "from 10ms to 60s"),
        (
            "[device]\ninput = \"yaml\"\n",
            None,
            "\"auto\", \"text\" or \"json\"",
        ),
        (
            "[device]\ninvitation = \"sealpost-invitation-x\"\n",
            None,
            "the invitation is malformed",
        ),
        (
            "",
            Some(("SEALPOST_DEVICE_RING_READING", "300")),
            "Did you mean SEALPOST_DEVICE_RING_READINGS?",
        ),
        ("", Some(("SEALPOST_DEVICE_GATHER", "soon")), "gather"),
        ("", None, "nobody said to whom"),
    ] {
        let said = refused(text, environment);
        assert!(said.contains(word), "{text:?} {environment:?}: {said}");
    }
    let link = alice.run(&["invite"]).stdout;
    let sample = std::fs::read_to_string(root().join("config/device.toml")).unwrap();
    let sample = sample.replace("to = \"sealpost:contact?…\"", &format!("to = \"{link}\""));
    assert!(sample.contains(&link), "the sample has a place for it");
    std::fs::write(&file, sample).unwrap();
    let sent = device.run(&[], &["21.5"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let config = ["--config", file.to_str().unwrap(), "doctor"];
    let doctor = device.opened().run(&config);
    assert_eq!(doctor.code, 0, "{doctor:?}");
}

#[test]
fn the_example_of_a_sensor_sends() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, device) = pair(&broker.url());
    let mut sensor = Command::new(root().join("examples/sensor.sh"))
        .arg("0.05")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut device = device.command();
    device
        .stdin(sensor.stdout.take().unwrap())
        .stdout(Stdio::null());
    let mut device = device.spawn().unwrap();
    let reader = listen(&alice);
    reader.expect("\"number\":3,");
    let message = events_of(&reader, "message").remove(0);
    assert!(
        message["reading"]["value"]["free_kib"].is_u64(),
        "{message}"
    );
    sensor.kill().unwrap();
    sensor.wait().unwrap();
    assert!(device.wait().unwrap().success());
}
