//! Backup and restore between real processes: a home that is lost comes back, nothing comes twice, and whatever happens in
//! between leaves a whole home or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::RngExt;
use sealpost_tests::{Answer, Broker, BrokerOptions, Person, program};
use serde_json::Value;

/// The backup's passphrase, as a command.
const PASSPHRASE: [&str; 2] = ["--backup-passphrase-command", "echo 'correct horse'"];

fn done(answer: Answer) -> Answer {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

/// A folder for backups and new homes.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Shelf {
        Shelf(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn backup(&self, of: &Person) -> PathBuf {
        let file = self.path("backup.age");
        let answer = of.run(&[
            "backup",
            file.to_str().unwrap(),
            PASSPHRASE[0],
            PASSPHRASE[1],
        ]);
        done(answer);
        file
    }
}

fn restore_to(person: &Person, file: &Path) -> Answer {
    let file = file.to_str().unwrap();
    person.run(&[
        "--json",
        "restore",
        file,
        PASSPHRASE[0],
        PASSPHRASE[1],
        "--no-passphrase",
    ])
}

/// Alice's command line with another home.
fn at_home(home: &Path) -> Command {
    let mut command = Command::new(program("sealpost"));
    command.args(["--user", "alice", "--home"]).arg(home);
    command
}

fn exchange(from: &Person, to: &Person, text: &str) {
    done(from.run(&["send", to.name(), text]));
    done(to.run(&["listen", "--count", "1", "--timeout", "30s"]));
}

fn acquainted(broker: &Broker) -> (Person, Person) {
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    exchange(&alice, &bob, "hello");
    exchange(&bob, &alice, "hello too");
    (alice, bob)
}

fn texts(answer: &Answer) -> Vec<String> {
    answer
        .events()
        .iter()
        .filter(|event| event["text"].is_string())
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_lost_home_comes_back_and_gets_what_waited_and_sends_what_waited_once() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = acquainted(&broker);
    let fingerprint =
        done(alice.run(&["--json", "keys", "show"])).events()[0]["fingerprint"].clone();
    done(alice.run(&["send", "bob", "waits in the outbox", "--wait", "queued"]));
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    // She sends it after the backup: the restored home does not know that.
    done(alice.run(&["listen", "--timeout", "2s"]));
    drop(alice);
    for text in ["one", "two"] {
        done(bob.run(&["send", "alice", text]));
    }

    let alice = Person::newcomer("alice", &broker.url());
    let restored = done(restore_to(&alice, &file)).events();
    assert_eq!(restored[0]["event"], "restored");
    assert_eq!(restored[0]["fingerprint"], fingerprint);
    assert_eq!(restored[0]["messages"], 3);
    let received = done(alice.run(&["--json", "listen", "--count", "2", "--timeout", "30s"]));
    assert_eq!(texts(&received), ["one", "two"]);
    let nothing = done(alice.run(&["--json", "listen", "--timeout", "2s"]));
    assert!(texts(&nothing).is_empty(), "{nothing:?}");

    let history = done(alice.run(&["--json", "history"]));
    assert_eq!(
        texts(&history),
        ["hello", "hello too", "waits in the outbox", "one", "two"]
    );
    let found = done(alice.run(&["--json", "history", "--search", "OUTBOX"]));
    assert_eq!(texts(&found), ["waits in the outbox"]);
    let his = done(bob.run(&["--json", "listen", "--timeout", "3s"]));
    assert_eq!(texts(&his), ["waits in the outbox"], "once");
    let contacts = done(alice.run(&["--json", "contacts"])).events();
    assert_eq!(
        (contacts.len(), &contacts[0]["user"]),
        (1, &Value::from("bob"))
    );
    // And on from there.
    exchange(&alice, &bob, "back again");
}

#[test]
fn a_backup_beside_a_listen_that_receives_is_of_one_moment() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, bob) = acquainted(&broker);
    let mut listen = alice.start(&["--json", "listen"]);
    listen.expect("connected");
    let mut send = bob.start(&["send", "alice", "--lines", "--wait", "queued"]);
    for number in 0..200 {
        send.say(&number.to_string());
    }
    send.hush();
    send.wait();
    let mut his = bob.start(&["--json", "listen"]);
    listen.expect(r#""text":"5""#);
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    listen.expect(r#""text":"199""#);
    listen.terminate();
    his.terminate();

    let checked = done(alice.run(&[
        "--json",
        "restore",
        file.to_str().unwrap(),
        PASSPHRASE[0],
        PASSPHRASE[1],
        "--check",
    ]));
    let restored = Person::newcomer("alice", &broker.url());
    done(restore_to(&restored, &file));
    let history = done(restored.run(&["--json", "history", "--limit", "1000"]));
    let texts = texts(&history);
    let numbers: Vec<String> = (0..texts.len() - 2)
        .map(|number| number.to_string())
        .collect();
    assert_eq!(texts[2..], numbers, "in order and without a hole");
    assert!(numbers.len() > 5);
    assert_eq!(checked.events()[0]["messages"], texts.len());
}

#[test]
fn two_homes_of_one_user_find_each_other_out() {
    let broker = Broker::start(BrokerOptions::default());
    let (alice, _bob) = acquainted(&broker);
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    let twin = Person::newcomer("alice", &broker.url());
    let restored = done(restore_to(&twin, &file));
    drop(restored);
    let mut first = alice.start(&["--json", "listen"]);
    first.expect("connected");
    let mut second = twin.start(&["--json", "listen"]);
    second.expect("connected");
    let ended = first.wait();
    assert_eq!(ended.code(), Some(1));
    assert!(
        first.stderr().join("\n").contains("in use elsewhere"),
        "{:?}",
        first.stderr()
    );
    second.terminate();
    let alarmed = alice.run(&["--json", "listen", "--timeout", "3s"]);
    let events = alarmed.events();
    let alarm = events.iter().find(|event| event["event"] == "alarm");
    assert_eq!(
        alarm.expect("an alarm")["cause"],
        "own_keys_copied",
        "{alarmed:?}"
    );
}

#[test]
fn a_wrong_passphrase_a_cut_and_a_changed_file_each_say_so_and_leave_nothing() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    let whole = fs::read(&file).unwrap();
    let home = shelf.path("home");
    let restore = |passphrase: &str| {
        let mut command = at_home(&home);
        command.arg("restore").arg(&file);
        command.args([PASSPHRASE[0], passphrase, "--no-passphrase"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(shelf.names(), ["backup.age"]);
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(restore("echo wrong").contains("wrong passphrase for the backup"));
    fs::write(&file, &whole[..whole.len() - 1_000]).unwrap();
    assert!(restore(PASSPHRASE[1]).contains("cut short or changed"));
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    fs::write(&file, changed).unwrap();
    assert!(restore(PASSPHRASE[1]).contains("cut short or changed"));
    fs::write(&file, "hello").unwrap();
    assert!(restore(PASSPHRASE[1]).contains("no backup"));
}

#[test]
fn neither_a_home_nor_a_backup_is_ever_written_over() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    let before = fs::read(&file).unwrap();
    let again = alice.run(&[
        "backup",
        file.to_str().unwrap(),
        PASSPHRASE[0],
        "echo other",
    ]);
    assert_eq!(again.code, 1, "{again:?}");
    assert_eq!(fs::read(&file).unwrap(), before);
    let keys = fs::read(alice.home().join("keystore.json")).unwrap();
    let refused = restore_to(&alice, &file);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("is there already"), "{refused:?}");
    assert_eq!(fs::read(alice.home().join("keystore.json")).unwrap(), keys);
    let bob = Person::newcomer("bob", "mqtt://127.0.0.1:9");
    let refused = restore_to(&bob, &file);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn the_keys_get_a_passphrase_of_their_own_and_the_settings_come_along() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    let daily = |command: &'static str| ["--passphrase-command", command];
    let with = |person: &Person, passphrase: &'static str, rest: &[&str]| {
        let mut arguments = daily(passphrase).to_vec();
        arguments.extend(rest);
        person.run(&arguments)
    };
    done(with(&alice, "echo old", &["keys", "init", "--no-publish"]));
    let shelf = Shelf::new();
    let settings = shelf.path("client.toml");
    fs::write(&settings, "trust = \"verified\"\n").unwrap();
    let file = shelf.path("backup.age");
    done(with(
        &alice,
        "echo old",
        &[
            "--config",
            settings.to_str().unwrap(),
            "backup",
            file.to_str().unwrap(),
            PASSPHRASE[0],
            PASSPHRASE[1],
        ],
    ));
    let new = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(with(
        &new,
        "echo new",
        &[
            "restore",
            file.to_str().unwrap(),
            PASSPHRASE[0],
            PASSPHRASE[1],
        ],
    ));
    assert_eq!(
        fs::read_to_string(new.home().join("client.toml")).unwrap(),
        "trust = \"verified\"\n"
    );
    done(with(&new, "echo new", &["keys", "show"]));
    assert_eq!(with(&new, "echo old", &["keys", "show"]).code, 1);
}

#[test]
fn a_restore_that_is_killed_at_any_instant_leaves_a_whole_home_or_none() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    done(alice.run(&["send", "bob", "kept", "--wait", "queued"]));
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    let home = shelf.path("home");
    let restore = || {
        let mut command = at_home(&home);
        command.arg("restore").arg(&file);
        command.args([PASSPHRASE[0], PASSPHRASE[1], "--no-passphrase"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // How long one takes here, so that kills fall into all of it.
    let begun = std::time::Instant::now();
    assert!(restore().status().unwrap().success());
    let all = begun.elapsed().as_millis() as u64;
    fs::remove_dir_all(&home).unwrap();
    for _ in 0..12 {
        let mut child = restore().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(
            rand::rng().random_range(all / 2..all + 20),
        ));
        let _ = child.kill();
        child.wait().unwrap();
        if home.exists() {
            let shown = at_home(&home).arg("history").output().unwrap();
            assert!(shown.status.success(), "{shown:?}");
            assert!(
                String::from_utf8_lossy(&shown.stdout).contains("kept"),
                "{shown:?}"
            );
            fs::remove_dir_all(&home).unwrap();
        }
    }
    // What they left is cleared by the next one.
    assert!(restore().status().unwrap().success());
    assert_eq!(shelf.names(), ["backup.age", "home"]);
}

#[test]
fn where_there_is_no_room_there_is_neither_a_backup_nor_a_home() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    done(alice.run(&["send", "bob", "kept", "--wait", "queued"]));
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    let home = shelf.path("home");
    // A limit on the size of files is the same to a program as a full disk. Units of 512 bytes.
    let run = |command: Command, arguments: &[&str]| {
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\""]);
        limited.arg(command.get_program()).args(command.get_args());
        let output = limited.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(
        at_home(&home),
        &[
            "restore",
            file.to_str().unwrap(),
            PASSPHRASE[0],
            PASSPHRASE[1],
            "--no-passphrase",
        ],
    );
    assert!(said.contains("cannot write"), "{said}");
    let other = shelf.path("other.age");
    run(
        alice.command(),
        &[
            "backup",
            other.to_str().unwrap(),
            PASSPHRASE[0],
            PASSPHRASE[1],
        ],
    );
    assert_eq!(shelf.names(), ["backup.age"]);
    let mut left: Vec<_> = fs::read_dir(alice.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.retain(|name| name.to_string_lossy().contains("snapshot"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn standard_age_and_tar_open_a_backup() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let shelf = Shelf::new();
    let file = shelf.backup(&alice);
    // age takes passphrases from a terminal alone: script(1) is one.
    let mut age = Command::new("script");
    age.args([
        "--quiet",
        "--return",
        "--command",
        "age --decrypt --output backup.tar backup.age",
        "/dev/null",
    ]);
    let mut age = age
        .current_dir(shelf.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script, age: see the Makefile's test-tools");
    let mut stdin = age.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"correct horse\n").unwrap();
    assert!(age.wait().unwrap().success());
    drop(stdin);
    assert!(file.exists());
    let home = shelf.path("unpacked");
    fs::create_dir(&home).unwrap();
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(shelf.path("backup.tar"))
        .arg("-C")
        .arg(&home)
        .status()
        .unwrap();
    assert!(unpacked.success());
    // It is a home as it is.
    let shown = at_home(&home).args(["keys", "show"]).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
}

#[test]
fn a_backup_goes_through_pipes() {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    done(alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]));
    let mut make = alice.command();
    make.args(["backup", "-", PASSPHRASE[0], PASSPHRASE[1]])
        .stdout(Stdio::piped());
    let mut make = make.spawn().unwrap();
    let new = Person::newcomer("alice", "mqtt://127.0.0.1:9");
    let mut take = new.command();
    take.args([
        "restore",
        "-",
        PASSPHRASE[0],
        PASSPHRASE[1],
        "--no-passphrase",
    ]);
    let taken = take.stdin(make.stdout.take().unwrap()).output().unwrap();
    assert!(make.wait().unwrap().success());
    assert!(taken.status.success(), "{taken:?}");
    done(new.run(&["keys", "show"]));
}
