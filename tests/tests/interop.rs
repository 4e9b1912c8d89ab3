//! The devices of `examples/`, one in each language, and the `sealpost` command exchange sealed messages: every one with every
//! other, over a broker that is killed, and through their own deaths. Each message arrives once, and in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sealpost_tests::{Broker, BrokerOptions, Lab, Person, Process, program, root};
use serde_json::Value;
use tempfile::TempDir;

/// What `sealpost` and the devices are told to send: this many lines from each to each other.
const LINES: usize = 60;
/// Enough to be killed in the middle of.
const MANY: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Language {
    Python,
    Node,
    C,
    Rust,
}

use Language::{C, Node, Python, Rust};

const LANGUAGES: [Language; 4] = [Python, Node, C, Rust];

fn examples() -> PathBuf {
    root().join("examples")
}

/// Installs and builds them, once.
fn ready() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let done = Command::new(examples().join("ready")).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    });
}

/// A program and its first arguments.
fn command_line(language: Language) -> Vec<PathBuf> {
    ready();
    let here = examples();
    match language {
        Python => vec![
            here.join("python/.venv/bin/python"),
            here.join("python/sensor.py"),
        ],
        Node => vec![
            "node".into(),
            "--no-warnings".into(),
            here.join("node/sensor.js"),
        ],
        C => vec![here.join("c/build/sensor")],
        Rust => vec![program("sealpost-sensor")],
    }
}

/// A device with a home.
struct Device {
    language: Language,
    name: String,
    broker: String,
    home: TempDir,
    /// What comes before its own arguments, and before its program.
    options: Vec<PathBuf>,
    under: Vec<&'static str>,
}

impl Device {
    fn new(language: Language, name: &str, broker: &str) -> Device {
        Device {
            language,
            name: name.into(),
            broker: broker.into(),
            home: tempfile::tempdir().unwrap(),
            options: Vec::new(),
            under: Vec::new(),
        }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let mut line: Vec<PathBuf> = self.under.iter().map(PathBuf::from).collect();
        line.extend(command_line(self.language));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(&self.options);
        command.args(["--broker", &self.broker, "--user", &self.name]);
        command.arg("--home").arg(self.home.path());
        Process::spawn(&self.name, command.args(arguments))
    }

    /// A listener whose mailbox is open.
    fn listen(&self) -> Process {
        let listen = self.start(&["listen"]);
        listen.expect_error("connected");
        listen
    }

    /// What lies in its mail, and not what it printed.
    fn received(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.home.path().join("received.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Somebody who sends and receives.
enum Party {
    Device(Device),
    Person(Person),
}

impl Party {
    fn name(&self) -> &str {
        match self {
            Party::Device(device) => &device.name,
            Party::Person(person) => person.name(),
        }
    }

    fn listen(&self) -> Process {
        match self {
            Party::Device(device) => device.listen(),
            Party::Person(person) => {
                let listen = person.start(&["--json", "listen"]);
                listen.expect("\"connected\"");
                listen
            }
        }
    }

    fn send(&self, to: &str) -> Process {
        match self {
            Party::Device(device) => device.start(&["send", to]),
            Party::Person(person) => person.start(&["send", to, "--lines", "--timeout", "60s"]),
        }
    }
}

/// Sender and number of a message that was printed, if it is one; the number is the content's own, and the line that was given.
fn number(line: &str) -> Option<(String, usize)> {
    let said: Value = serde_json::from_str(line).ok()?;
    let from = said.get("from")?.as_str()?.to_owned();
    let content = said.get("content");
    let number = match content {
        Some(content) if content["kind"] == "reading" => {
            assert_eq!(content["reading"], content["number"], "{line}");
            content["number"].as_u64().map(|number| number as usize)
        }
        Some(content) => content["text"].as_str().and_then(|text| text.parse().ok()),
        None => said.get("text")?.as_str()?.parse().ok(),
    };
    Some((from, number?))
}

/// What came from each, in order.
fn numbers<'a>(lines: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, Vec<usize>> {
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (from, number) in lines.into_iter().filter_map(|line| number(line)) {
        found.entry(from).or_default().push(number);
    }
    found
}

/// Waits until a message with this number from this sender was printed.
fn await_number(listen: &Process, from: &str, wanted: usize) {
    let mut start = 0;
    loop {
        let (at, line) = listen.expect_from(start, &format!("\"{from}\""));
        if number(&line).is_some_and(|(by, number)| by == from && number == wanted) {
            return;
        }
        start = at + 1;
    }
}

fn say(process: &mut Process, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        process.say(&number.to_string());
    }
}

#[test]
fn every_language_and_every_other_exchange_each_message_once_and_in_order_over_a_broker_that_is_killed()
 {
    let mut broker = Broker::start(BrokerOptions::default());
    let mut parties: Vec<Party> = LANGUAGES
        .map(|language| {
            let name = format!("{language:?}").to_lowercase();
            Party::Device(Device::new(language, &name, &broker.url()))
        })
        .into();
    parties.push(Party::Person(Person::settle("person", &broker.url())));
    // All at once: making keys takes time.
    let listeners: Vec<Process> = std::thread::scope(|scope| {
        let started: Vec<_> = parties
            .iter()
            .map(|party| scope.spawn(|| party.listen()))
            .collect();
        started
            .into_iter()
            .map(|listen| listen.join().unwrap())
            .collect()
    });

    let count = parties.len();
    for distance in 1..count {
        let pairs: Vec<(usize, usize)> = (0..count)
            .map(|from| (from, (from + distance) % count))
            .collect();
        let mut senders: Vec<Process> = pairs
            .iter()
            .map(|(from, to)| parties[*from].send(parties[*to].name()))
            .collect();
        for send in &mut senders {
            say(send, 1..=LINES / 2);
        }
        // Some are under way, or have not even begun.
        await_number(&listeners[pairs[0].1], parties[0].name(), LINES / 3);
        broker.kill();
        for send in &mut senders {
            say(send, LINES / 2 + 1..=LINES);
        }
        broker.restart();
        for send in &mut senders {
            send.hush();
            let status = send.wait();
            assert!(status.success(), "{:?}", send.stderr());
        }
        for (from, to) in pairs {
            await_number(&listeners[to], parties[from].name(), LINES);
        }
    }

    let wanted: Vec<usize> = (1..=LINES).collect();
    for (to, listen) in listeners.iter().enumerate() {
        let found = numbers(&listen.stdout());
        for from in (0..count).filter(|from| *from != to) {
            let (from, to) = (parties[from].name(), parties[to].name());
            assert_eq!(
                found.get(from),
                Some(&wanted),
                "from {from} to {to}: {:?}",
                listen.stderr()
            );
        }
    }
}

#[test]
fn a_device_that_is_killed_while_it_listens_has_each_message_once_and_in_order() {
    let broker = Broker::start(BrokerOptions::default());
    for language in LANGUAGES {
        let name = format!("{language:?}").to_lowercase();
        let device = Device::new(language, &name, &broker.url());
        let sensor = Device::new(C, &format!("sensor-of-{name}"), &broker.url());
        let mut listen = device.listen();
        let mut send = sensor.start(&["send", &device.name]);
        for part in 0..4 {
            let last = (part + 1) * MANY / 4;
            say(&mut send, part * MANY / 4 + 1..=last);
            if part < 3 {
                await_number(&listen, &sensor.name, last - MANY / 8);
                listen.kill();
                listen = device.listen();
            }
        }
        send.hush();
        assert!(send.wait().success(), "{:?}", send.stderr());
        // Of each message either the old listener has printed it, or the new one does.
        await_number_in_mail(&device, &listen, MANY);
        let lines: Vec<String> = device.received().iter().map(Value::to_string).collect();
        let wanted: Vec<usize> = (1..=MANY).collect();
        assert_eq!(
            numbers(&lines).get(&sensor.name),
            Some(&wanted),
            "{language:?}"
        );
    }
}

/// The last one may have been stored by a listener that was killed before it could print.
fn await_number_in_mail(device: &Device, listen: &Process, wanted: usize) {
    let stored = device.received();
    let last = stored.last().and_then(|line| number(&line.to_string()));
    if last.is_none_or(|(_, number)| number != wanted) {
        listen.expect(&format!("\"number\":{}", spaced(device.language, wanted)));
    }
}

/// Python's JSON has a space behind the colon.
fn spaced(language: Language, number: usize) -> String {
    match language {
        Python => format!(" {number}"),
        _ => number.to_string(),
    }
}

#[test]
fn a_device_that_is_killed_while_it_sends_sends_what_it_had_taken_over_and_nothing_twice() {
    let broker = Broker::start(BrokerOptions::default());
    let collector = Device::new(Node, "collector", &broker.url());
    let listen = collector.listen();
    for language in LANGUAGES {
        let name = format!("{language:?}").to_lowercase();
        let device = Device::new(language, &name, &broker.url());
        let mut send = device.start(&["send", "collector"]);
        say(&mut send, 1..=MANY);
        await_number(&listen, &name, MANY / 4);
        send.kill();
        // It goes on where its outbox ends; a line that it had read and not stored is missing, and its number with it or not at all.
        let mut send = device.start(&["send", "collector"]);
        say(&mut send, [0]);
        send.hush();
        assert!(send.wait().success(), "{:?}", send.stderr());
        listen.expect_from(0, &format!("\"{name}\""));
        let (mut start, mut found) = (0, Vec::new());
        loop {
            let (at, line) = listen.expect_from(start, &format!("\"{name}\""));
            let said: Value = serde_json::from_str(&line).unwrap();
            let content = &said["content"];
            found.push((
                content["number"].as_u64().unwrap(),
                content["reading"].as_u64().unwrap(),
            ));
            if content["reading"] == 0 {
                break;
            }
            start = at + 1;
        }
        let (after, before) = found.split_last().unwrap();
        assert!(before.len() >= MANY / 4, "{found:?}");
        for (index, (number, reading)) in before.iter().enumerate() {
            assert_eq!((*number, *reading), (index as u64 + 1, index as u64 + 1));
        }
        let next = before.len() as u64 + 1;
        assert!(after.0 == next || after.0 == next + 1, "{found:?}");
    }
}

#[test]
fn the_device_in_c_is_clean_under_valgrind() {
    const VALGRIND: [&str; 5] = [
        "valgrind",
        "--quiet",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect,possible",
        "--error-exitcode=99",
    ];
    let broker = Broker::start(BrokerOptions::default());
    let mut device = Device::new(C, "device", &broker.url());
    // Its keys are made without: that takes a minute under valgrind.
    device.listen().kill();
    device.under = VALGRIND.into();
    let other = Device::new(Rust, "other", &broker.url());
    let mut others = other.listen();

    let mut listen = device.listen();
    let mut send = device.start(&["send", "other"]);
    say(&mut send, 1..=20);
    send.hush();
    let status = send.wait();
    assert!(status.success(), "{status}: {:?}", send.stderr());
    await_number(&others, "device", 20);
    let mut send = other.start(&["send", "device"]);
    say(&mut send, 1..=20);
    send.hush();
    assert!(send.wait().success(), "{:?}", send.stderr());
    await_number(&listen, "other", 20);
    let status = listen.terminate();
    assert!(status.success(), "{status}: {:?}", listen.stderr());
    others.kill();

    let mut command = Command::new(VALGRIND[0]);
    command
        .args(&VALGRIND[1..])
        .arg(examples().join("c/build/vectors"));
    command.arg(root().join("tests/vectors"));
    let mut vectors = Process::spawn("vectors", &mut command);
    let status = vectors.wait();
    assert!(status.success(), "{status}: {:?}", vectors.stderr());
}

#[test]
fn devices_sign_in_over_tls_with_a_password_or_a_token_where_the_broker_takes_one_without_a_binding()
 {
    let lab = Lab::new();
    let broker = Broker::start(BrokerOptions {
        settings: lab
            .settings()
            .replace("[tls]", "[tls]\nunbound_logins = true"),
        ..BrokerOptions::default()
    });
    let url = format!("mqtts://localhost:{}", broker.tls_address().port());
    for language in [Python, Node, C] {
        let name = format!("{language:?}").to_lowercase();
        let mut device = Device::new(language, &name, &url);
        device.options = vec!["--ca".into(), lab.file("ca.pem")];
        // The first login claims the name for the identity key.
        device.listen().kill();
        let password = broker.administer(&["passwd", "add", &name, "--generate"]);
        let file = device.home.path().join("password");
        std::fs::write(&file, password.lines().last().unwrap()).unwrap();
        device
            .options
            .extend(["--password-file".into(), file.clone()]);
        let mut listen = device.listen();
        let mut send = device.start(&["send", &name]);
        say(&mut send, [1]);
        send.hush();
        assert!(send.wait().success(), "{:?}", send.stderr());
        await_number(&listen, &name, 1);
        listen.kill();
        let by: Vec<Value> = broker
            .audit()
            .into_iter()
            .filter(|line| line["event"] == "login" && line["user"] == *name)
            .map(|line| line["by"].clone())
            .collect();
        assert_eq!(by, ["token", "password", "password"], "{language:?}");

        std::fs::write(&file, "another password").unwrap();
        let mut refused = device.start(&["listen"]);
        assert_eq!(refused.wait().code(), Some(1), "{:?}", refused.stderr());
    }
}

/// The commands between two comments of the examples' page.
fn commands(name: &str) -> Vec<String> {
    let page = std::fs::read_to_string(examples().join("README.md")).unwrap();
    let (_, block) = page
        .split_once(&format!("<!-- {name} -->\n```sh\n"))
        .unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

/// A command of that page, with homes of its own and the broker's address.
fn shell(line: &str, home: &Path, broker: Option<&str>) -> Process {
    ready();
    let programs = program("sealpost-sensor");
    let line = line
        .replace("tour/", &format!("{}/", home.display()))
        .replace(
            "../target/debug/sealpost-sensor",
            &programs.to_string_lossy(),
        );
    let line = match broker {
        Some(url) => line.replace("--user", &format!("--broker {url} --user")),
        None => line,
    };
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(examples());
    Process::spawn(&line, &mut command)
}

#[test]
fn the_commands_of_the_examples_page_do_what_it_says() {
    let broker = Broker::start(BrokerOptions::default());
    let homes = tempfile::tempdir().unwrap();
    let listener = commands("listen").pop().unwrap();
    let listen = shell(
        &format!("exec {listener}"),
        homes.path(),
        Some(&broker.url()),
    );
    listen.expect_error("connected");
    for (line, (user, celsius)) in commands("send").iter().zip([
        ("attic", 21.5),
        ("cellar", 19.0),
        ("kitchen", 20.5),
        ("roof", 18.5),
    ]) {
        let mut send = shell(line, homes.path(), Some(&broker.url()));
        assert!(send.wait().success(), "{line}: {:?}", send.stderr());
        let said: Value = serde_json::from_str(&listen.expect(&format!("\"{user}\""))).unwrap();
        assert_eq!(said["content"]["reading"]["celsius"], celsius, "{line}");
    }
}

#[test]
fn every_language_agrees_with_the_vectors_good_and_bad() {
    for line in commands("vectors") {
        let mut vectors = shell(&line, Path::new("."), None);
        let status = vectors.wait();
        let last = vectors.stdout().pop().unwrap_or_default();
        assert!(status.success(), "{line}: {last}: {:?}", vectors.stderr());
        let passed: usize = last.split(' ').next().unwrap().parse().unwrap();
        // Not by leaving nearly all of them out.
        assert!(passed > 600 && last.contains(" 0 failed"), "{line}: {last}");
        println!("{line}: {last}");
    }
}

#[test]
fn a_name_that_belongs_to_another_identity_is_told_and_is_the_end() {
    let broker = Broker::start(BrokerOptions::default());
    let owner = Device::new(C, "taken", &broker.url());
    owner.listen().kill();
    for language in LANGUAGES {
        let other = Device::new(language, "taken", &broker.url());
        let mut listen = other.start(&["listen"]);
        assert_eq!(listen.wait().code(), Some(1), "{language:?}");
        let said = listen.stderr().join("\n");
        assert!(
            said.contains("login") || said.contains("another identity"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn mosquittos_clients_carry_envelopes_with_a_password_over_tcp_and_tls_in_both_versions() {
    let lab = Lab::new();
    let broker = Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let alice = sealpost_tests::Device::new("alice");
    let bob = alice.under_another_name("bob");
    let mut passwords = BTreeMap::new();
    for person in [&alice, &bob] {
        person.register(broker.address()).await;
        let name = person.user.as_str();
        let said = broker.administer(&["passwd", "add", name, "--generate"]);
        passwords.insert(name, said.lines().last().unwrap().to_owned());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    for (version, tls) in [
        ("mqttv311", false),
        ("mqttv311", true),
        ("mqttv5", false),
        ("mqttv5", true),
    ] {
        let address = if tls {
            broker.tls_address()
        } else {
            broker.address()
        };
        let run = |program: &str, name: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(["-h", "localhost", "-p", &address.port().to_string()]);
            command.args(["-V", version, "-q", "1", "-t", "inbox/bob"]);
            command
                .args(["-u", name, "-P", &passwords[name]])
                .args(arguments);
            if tls {
                command.arg("--cafile").arg(lab.file("ca.pem"));
            }
            let mut process = Process::spawn(program, &mut command);
            assert!(process.wait().success(), "{:?}", process.stderr());
            process.stdout().join("\n")
        };
        let mut kept = vec!["-c", "-i", "kept"];
        if version == "mqttv5" {
            kept.extend(["-x", "600"]);
        }
        run("mosquitto_sub", "bob", &[&kept[..], &["-E"]].concat());
        let envelope = alice.seal(&bob, version);
        std::fs::write(file.path(), envelope.as_bytes()).unwrap();
        run(
            "mosquitto_pub",
            "alice",
            &["-f", &file.path().to_string_lossy()],
        );
        let came = run(
            "mosquitto_sub",
            "bob",
            &[&kept[..], &["-C", "1", "-W", "30"]].concat(),
        );
        assert_eq!(came.as_bytes(), envelope.as_bytes(), "{version} {tls}");
    }
}
