//! What happens to an archive besides messages: hostile ones, removals that are cut short, SIGHUP, and files that may not be used.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogReader, Selection};
use sealpost_archive::storage::Directory;
use sealpost_core::{Content, Envelope, MessageId};
use sealpost_tests::{Archiver, Broker, BrokerOptions, Device, Flood, PATIENCE, Process, program};

const LOG: LogName = LogName::EncryptedLogs;

fn archiver_command(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(program("sealpost-archiver"))
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .output()
        .unwrap()
}

fn assert_verifies(dir: &Path) -> serde_json::Value {
    let output = archiver_command(dir, &["verify", "--json"]);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What each line keeps, by number: the digest of a message, or what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    Message(Vec<u8>),
    Tombstone,
    Record,
}

fn kept(dir: &Path) -> BTreeMap<u64, Kept> {
    let directory = Directory::existing(dir).unwrap();
    let reader = LogReader::open(&directory, LOG).unwrap();
    let mut lines = reader.lines(Selection::default());
    let mut kept = BTreeMap::new();
    while let Some(found) = lines.next_line().unwrap() {
        let body = match Line::parse(found.bytes).unwrap().body {
            Body::Message(message) => Kept::Message(message.payload.into_owned()),
            Body::Tombstone { .. } => Kept::Tombstone,
            Body::Erasure { .. } | Body::Retirement { .. } => Kept::Record,
        };
        kept.insert(found.seq, body);
    }
    kept
}

/// When a line was written.
fn written(dir: &Path, seq: u64) -> String {
    let directory = Directory::existing(dir).unwrap();
    let reader = LogReader::open(&directory, LOG).unwrap();
    let mut lines = reader.lines(Selection::line(seq));
    let line = lines.next_line().unwrap().unwrap();
    line.archived_at.to_string()
}

/// How many segments there are, and the last line that is sealed.
fn sealed(dir: &Path) -> (usize, u64) {
    let directory = Directory::existing(dir).unwrap();
    let reader = LogReader::open(&directory, LOG).unwrap();
    let manifests = reader
        .parts()
        .iter()
        .filter_map(|part| part.manifest.as_ref());
    manifests.fold((0, 0), |(count, _), manifest| (count + 1, manifest.last))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sealed texts from Alice to Bob.
fn envelopes(alice: &Device, bob: &Device, texts: impl Iterator<Item = String>) -> Vec<Envelope> {
    let (mut rng, mut sealer) = (rand::rng(), alice.burst(bob));
    texts
        .map(|text| {
            let now = sealpost_tests::now();
            let id = MessageId::new(now, &mut rng);
            sealer
                .seal(&mut rng, now, id, None, &Content::Text { text })
                .unwrap()
        })
        .collect()
}

/// A broker that takes anything from anybody, and an archiver of what it takes.
fn open_broker() -> (Archiver, Broker) {
    let archiver = Archiver::prepare();
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    (archiver, broker)
}

fn flood(broker: &Broker, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let mut flood = Flood::connect(broker.address(), "anybody", "", "flood");
    for payload in payloads {
        flood.publish("inbox/bob", payload.as_ref());
    }
    flood.finish();
}

/// An envelope's JSON, as its members in order.
fn members(envelope: &Envelope) -> Vec<(String, String)> {
    let text = std::str::from_utf8(envelope.as_bytes()).unwrap();
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    // No string in an envelope has a comma.
    inner
        .split(',')
        .map(|member| {
            let (name, value) = member.split_once(':').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn joined(members: &[(String, String)]) -> Vec<u8> {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

#[test]
fn whatever_stands_in_any_field_of_an_envelope_is_kept_and_the_archive_verifies() {
    let (mut archiver, broker) = open_broker();
    archiver.run(&broker.url());
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    let honest = envelopes(&alice, &bob, ["honest".to_owned()].into_iter()).remove(0);
    let whole = members(&honest);
    assert!(whole.len() >= 14, "{whole:?}");
    let long = format!("\"{}\"", "x".repeat(80_000));
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let values = [
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "1700000000.1234",
        "99999999999999999999999999",
        "\"\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\n\"",
        "\"\u{202e}\"",
        "\"../../etc/passwd\"",
        "\"AAAA\"",
        "[]",
        "{}",
        "{\"seq\":1,\"archived_at\":1.000}",
        "\"a\",\"seq\":1",
        "\"a\",\"erased_by\":9",
        "",
        &long,
        &deep,
    ];
    let mut sent: BTreeSet<Vec<u8>> = BTreeSet::from([honest.as_bytes().to_vec()]);
    for place in 0..whole.len() {
        for value in values {
            let mut hostile = whole.clone();
            hostile[place].1 = value.to_owned();
            sent.insert(joined(&hostile));
        }
        let mut without = whole.clone();
        without.remove(place);
        sent.insert(joined(&without));
        let mut twice = whole.clone();
        twice.insert(place, whole[place].clone());
        sent.insert(joined(&twice));
        let mut renamed = whole.clone();
        for name in [
            "\"seq\"",
            "\"archived_at\"",
            "\"topic\"",
            "\"erases\"",
            "\"\"",
        ] {
            renamed[place].0 = name.to_owned();
            sent.insert(joined(&renamed));
        }
        let mut raw = joined(&whole);
        let at = raw.len() * place / whole.len();
        raw.insert(at, 0xff);
        sent.insert(raw.clone());
        raw.truncate(at);
        sent.insert(raw);
    }
    flood(&broker, &sent);
    archiver.expect_lines(sent.len());
    let kept: BTreeSet<Vec<u8>> = kept(archiver.dir())
        .into_values()
        .map(|kept| match kept {
            Kept::Message(payload) => payload,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(kept == sent, "each, byte for byte");
    assert!(!archiver.process().has_ended());
    wait_until("a checkpoint", || {
        archiver.dir().join("checkpoint").exists()
    });
    assert_verifies(archiver.dir());
    // Sealed, and through every reader.
    archiver.process().hang_up();
    wait_until("a segment", || {
        sealed(archiver.dir()).1 == sent.len() as u64
    });
    archiver.process().terminate();
    assert_verifies(archiver.dir());
    for command in [
        &["query", "--count"][..],
        &["query", "--json"],
        &["gaps"],
        &["stats"],
        &["export", "--format", "csv"],
    ] {
        let output = archiver_command(archiver.dir(), command);
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
}

#[test]
fn a_follower_sees_every_line_once_while_sighup_seals_under_it() {
    const ROUNDS: usize = 8;
    const EACH: usize = 25;
    let (mut archiver, broker) = open_broker();
    archiver.run(&broker.url());
    let follow = |limit: usize| {
        let mut command = Command::new(program("sealpost-archiver"));
        command.args([
            "query",
            "--follow",
            "--json",
            "--limit",
            &limit.to_string(),
            "--dir",
        ]);
        Process::spawn("follower", command.arg(archiver.dir()))
    };
    let total = ROUNDS * EACH;
    flood(&broker, ["first"]);
    archiver.expect_lines(1);
    let mut follower = follow(total + 1);
    follower.expect("\"seq\":1,");
    for round in 0..ROUNDS {
        flood(&broker, (0..EACH).map(|number| format!("{round}/{number}")));
        let last = (round + 1) * EACH + 1;
        // Not all is waited for, so that some of it is still to be read when the file goes out of the way.
        follower.expect(&format!("\"seq\":{},", last - EACH / 2));
        archiver.process().hang_up();
        wait_until("a segment", || sealed(archiver.dir()).0 > round);
    }
    assert!(follower.wait().success());
    let seen = follower.stdout();
    assert_eq!(seen.len(), total + 1);
    for (number, line) in seen.iter().enumerate() {
        assert!(
            line.starts_with(&format!("{{\"seq\":{},", number + 1)),
            "{line}"
        );
    }
    // Nothing to seal is no segment.
    wait_until("the rest is sealed", || {
        archiver.process().hang_up();
        sealed(archiver.dir()).1 == total as u64 + 1
    });
    let segments = sealed(archiver.dir()).0;
    archiver.process().hang_up();
    flood(&broker, ["last"]);
    archiver.expect_lines(1);
    assert_eq!(sealed(archiver.dir()).0, segments);
    archiver.process().terminate();
    assert_verifies(archiver.dir());
}

/// Kills the archiver while it erases and retires. What it said is done is done, what it was not asked for is not, and nothing else is
/// lost.
#[test]
fn kills_in_the_middle_of_removals_leave_what_was_asked_for_and_an_archive_that_verifies() {
    const MESSAGES: u64 = 3_000;
    const KILLS: u64 = 40;
    let (mut archiver, broker) = open_broker();
    let settings = archiver.dir().join("settings.toml");
    std::fs::write(&settings, "segment_bytes = 65536\n").unwrap();
    let options = ["--config".as_ref(), settings.as_os_str()];
    archiver.run_with(&broker.url(), &options);
    let text = "x".repeat(300);
    // In parts, for what comes at once is in one segment.
    for part in 0..10 {
        let each = MESSAGES / 10;
        let numbers = part * each..(part + 1) * each;
        flood(&broker, numbers.map(|number| format!("{number} {text}")));
        wait_until("all of them", || {
            kept(archiver.dir()).len() as u64 == (part + 1) * each
        });
    }
    wait_until("segments", || sealed(archiver.dir()).0 > 5);
    let before = kept(archiver.dir());
    let (mut asked, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut retired = 0;
    for kill in 0..KILLS {
        let mut command = Command::new(program("sealpost-archiver"));
        let erases = (kill % 10 != 9).then(|| rand::rng().random_range(1..=MESSAGES));
        match erases {
            Some(seq) => {
                command.args(["erase", "--seq", &seq.to_string()]);
                asked.insert(seq);
            }
            None => {
                retired = (kill + 1) * MESSAGES / KILLS / 2;
                command.args(["retire", "--before", &written(archiver.dir(), retired + 1)]);
            }
        }
        command
            .args(["--reason", "a test", "--dir"])
            .arg(archiver.dir());
        let mut caller = Process::spawn("caller", &mut command);
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..120)));
        archiver.process().kill();
        // Nobody answers it, or the archiver did before; it may also have done it itself.
        if caller.wait().success() {
            done.extend(erases);
        }
        assert_verifies(archiver.dir());
        archiver.run_with(&broker.url(), &options);
    }
    archiver.process().terminate();
    // What is left undone is done at a start, before the end at the latest.
    assert!(archiver_command(archiver.dir(), &["seal"]).status.success());
    let report = assert_verifies(archiver.dir());
    assert_eq!(report["logs"][0]["erasures_undone"], 0, "{report}");
    assert_eq!(report["logs"][0]["retired_left"], 0, "{report}");
    let after = kept(archiver.dir());
    let first = *after.keys().next().unwrap();
    assert!(first <= retired + 1, "more is gone than was asked for");
    assert!(retired < MESSAGES, "there is something left to look at");
    for (seq, what) in &before {
        match after.get(seq) {
            None => assert!(*seq < first),
            Some(Kept::Tombstone) => assert!(asked.contains(seq), "nobody asked for line {seq}"),
            Some(same) => {
                assert_eq!(same, what);
                assert!(!done.contains(seq), "line {seq} was said to be erased");
            }
        }
    }
    println!(
        "{KILLS} kills, {} erasures said to be done of {}, lines from {first} on",
        done.len(),
        asked.len()
    );
}

/// Files that whoever runs the archiver may not use.
struct Forbidden {
    /// A copy that this user may run.
    program: PathBuf,
    dir: PathBuf,
    user: Option<u32>,
    _parent: tempfile::TempDir,
}

impl Forbidden {
    /// An archive of somebody who is not root, for whom permissions do not count.
    fn of(archive: &Path) -> Forbidden {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("archive");
        let copied = Command::new("cp").arg("-a").args([archive, &dir]).status();
        assert!(copied.unwrap().success());
        let copy = parent.path().join("sealpost-archiver");
        std::fs::copy(program("sealpost-archiver"), &copy).unwrap();
        let user = rustix::process::geteuid().is_root().then_some(65_534);
        if let Some(user) = user {
            for path in walk(parent.path()) {
                chown(path, Some(user), Some(user)).unwrap();
            }
        }
        Forbidden {
            program: copy,
            dir,
            user,
            _parent: parent,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--dir").arg(&self.dir);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            found.extend(walk(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn a_file_that_may_not_be_used_is_named_with_a_code_and_nothing_is_changed() {
    let (mut archiver, broker) = open_broker();
    archiver.run(&broker.url());
    flood(&broker, ["one", "two"]);
    archiver.expect_lines(2);
    archiver.process().hang_up();
    wait_until("a segment", || sealed(archiver.dir()).1 == 2);
    flood(&broker, ["three"]);
    archiver.expect_lines(1);
    archiver.process().terminate();
    let forbidden = Forbidden::of(archiver.dir());
    let url = broker.url();
    let run = ["run", "--broker", &url, "--name", "archiver"];
    let mut told = Vec::new();
    for path in walk(&forbidden.dir) {
        let name = path.strip_prefix(&forbidden.dir).unwrap().to_owned();
        let before = std::fs::metadata(&path).unwrap().permissions();
        let contents: Vec<_> = walk(&forbidden.dir)
            .into_iter()
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        let mode = if path.is_dir() { 0o500 } else { 0o000 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut process = Process::spawn("archiver", &mut forbidden.command(&run));
        let until = Instant::now() + PATIENCE;
        let mut ended = false;
        // Either it ends, or it does without the file.
        while !ended
            && !process
                .stdout()
                .iter()
                .any(|line| line.contains("archiving inbox"))
        {
            ended = process.has_ended();
            assert!(Instant::now() < until, "{name:?}: {:?}", process.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
        let code = ended.then(|| process.wait().code().unwrap());
        process.terminate_if_running();
        let said = process.stderr().join("\n");
        std::fs::set_permissions(&path, before).unwrap();
        if let Some(code) = code {
            assert!([1, 12].contains(&code), "{name:?}: {code}: {said}");
            assert!(said.contains("ermission denied"), "{name:?}: {said}");
            let shown = path.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(shown), "{name:?}: {said}");
            for (path, bytes) in contents {
                assert!(
                    std::fs::read(&path).unwrap() == bytes,
                    "{path:?} was changed"
                );
            }
        }
        told.push((name, code));
    }
    for (name, code) in &told {
        println!("{name:?}: {code:?}");
    }
    let verified = forbidden.command(&["verify"]).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}
