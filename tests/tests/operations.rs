//! What operators rely on: metrics, health, an orderly end, logs without content, settings that are checked, and backups.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_tests::raw::Connect;
use sealpost_tests::{Broker, BrokerOptions, Device, Link, PATIENCE, Process, Raw, get, program};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

fn start(open: bool, settings: &str) -> Broker {
    Broker::start(BrokerOptions {
        open,
        settings: settings.into(),
        ..BrokerOptions::default()
    })
}

fn metrics_address(broker: &Broker) -> SocketAddr {
    let line = broker.process.expect("metrics on ");
    let address = line.trim_start_matches("metrics on http://");
    address.trim_end_matches("/metrics").parse().unwrap()
}

/// The status and the body.
/// The value of a sample, by its whole name with labels.
fn sample(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.parse().unwrap()
}

/// Asks again until it is so, for what a connection causes a moment after its client knows.
fn wait_for(address: SocketAddr, name: &str, value: f64) -> String {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, text) = get(address, "/metrics");
        assert_eq!(status, 200, "{text}");
        #[expect(clippy::float_cmp)]
        if sample(&text, name) == value {
            return text;
        }
        assert!(std::time::Instant::now() < until, "{name}:\n{text}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[tokio::test]
async fn metrics_tell_logins_connections_publishes_and_queues_and_name_nobody() {
    let broker = start(false, METRICS);
    let metrics = metrics_address(&broker);
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let token = bob.token("b");
    let login = Some(("bob", token.as_str()));
    let mut inbox = Link::connect_to_session(broker.address(), "b", login, false, 600)
        .await
        .unwrap();
    inbox.subscribe("inbox/bob").await;
    inbox.disconnect().await;
    let again = Link::connect_to_session(broker.address(), "b", login, false, 600).await;
    assert!(again.is_err(), "a token opens one connection");

    let mut sender = alice.connect(broker.address(), "a").await;
    for _ in 0..3 {
        let envelope = alice.seal(&bob, "hello");
        let sent = sender
            .publish("inbox/bob", false, envelope.as_bytes())
            .await;
        assert_eq!(sent, PubAckReason::Success);
    }
    let refused = sender.publish("inbox/bob", false, b"junk").await;
    assert_eq!(refused, PubAckReason::PayloadFormatInvalid);

    let connected = "sealpost_connections{version=\"5\",transport=\"tcp\"}";
    let text = wait_for(metrics, connected, 1.0);
    for (name, value) in [
        (
            "sealpost_publishes_total{outcome=\"payload-format-invalid\"}",
            1.0,
        ),
        ("sealpost_queue_messages", 3.0),
        ("sealpost_users", 2.0),
        ("sealpost_logins_total{outcome=\"replayed\"}", 1.0),
        ("sealpost_journal_full", 0.0),
        ("sealpost_ready", 1.0),
    ] {
        let got = sample(&text, name);
        assert!((got - value).abs() < f64::EPSILON, "{name} {got}\n{text}");
    }
    for name in [
        "sealpost_publishes_total{outcome=\"accepted\"}",
        "sealpost_queue_bytes",
        "sealpost_queue_oldest_seconds",
        "sealpost_journal_commit_seconds_count",
        "sealpost_journal_group_changes_count",
        "sealpost_disk_free_bytes",
        "sealpost_logins_total{outcome=\"accepted\"}",
        "process_resident_memory_bytes",
    ] {
        assert!(sample(&text, name) > 0.0, "{name}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    for name in ["alice", "bob", "inbox"] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }

    let token = bob.token("b");
    let mut inbox =
        Link::connect_to_session(broker.address(), "b", Some(("bob", &token)), false, 600)
            .await
            .unwrap();
    for _ in 0..3 {
        inbox.receive().await;
    }
    let text = wait_for(metrics, "sealpost_queue_messages", 0.0);
    assert!(sample(&text, "sealpost_deliveries_total") >= 3.0, "{text}");
    assert!(
        sample(&text, "sealpost_queue_oldest_seconds") == 0.0,
        "{text}"
    );
}

#[test]
fn the_endpoint_answers_what_it_knows_and_outlives_who_stalls() {
    let broker = start(false, METRICS);
    let metrics = metrics_address(&broker);
    // More than are served at once say half a word.
    let stalled = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(metrics).unwrap();
            stream.write_all(b"GET /metr").unwrap();
            stream
        })
        .collect::<Vec<_>>();
    assert_eq!(get(metrics, "/healthz"), (200, "alive\n".into()));
    drop(stalled);
    assert_eq!(get(metrics, "/readyz"), (200, "ready\n".into()));
    assert_eq!(get(metrics, "/users").0, 404);
}

#[test]
fn a_drain_is_announced_then_newcomers_are_refused_and_clients_told_why() {
    let settings = format!("{METRICS}[shutdown]\nnotice = 600\n");
    let mut broker = start(true, &settings);
    let metrics = metrics_address(&broker);
    let mut old = Raw::connect(broker.address(), &Connect::v5("old"));
    let (code, said) = run_on(&broker, "drain", &["--no-wait"]);
    assert_eq!(code, Some(0), "{said}");
    broker.process.expect_error("draining");
    // Whoever waits is told what for, and in the end that it was in vain.
    let (code, said) = run_on(&broker, "drain", &["--timeout", "1s"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("10 minutes") && said.contains("still runs"),
        "{said}"
    );
    // It still serves, and says that it will not for long.
    assert_eq!(get(metrics, "/readyz"), (503, "draining\n".into()));
    assert_eq!(get(metrics, "/healthz").0, 200);
    old.ping();
    drop(Raw::connect(broker.address(), &Connect::v311("new")));
    // Whoever asks a second time does not want to wait for the notice.
    let status = broker.stop();
    assert!(status.success(), "{status}");
    let (first, body) = old.read().unwrap();
    assert_eq!(first, 0xe0, "DISCONNECT");
    assert_eq!(body[0], 0x8b, "Server shutting down");
    assert!(old.read().is_none());
}

#[test]
fn drain_returns_when_the_broker_has_ended() {
    let mut broker = start(true, "");
    let client = Raw::connect(broker.address(), &Connect::v311("a"));
    let (code, said) = run_on(&broker, "drain", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the broker has ended"), "{said}");
    // It has let go of all that it had.
    let (code, said) = run_on(&broker, "check", &[]);
    assert_eq!(code, Some(0), "{said}");
    let status = broker.process.wait();
    assert!(status.success(), "{status}");
    drop(client);
    let (code, said) = run_on(&broker, "drain", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no broker runs"), "{said}");
}

#[tokio::test]
async fn the_log_is_json_and_has_no_content_at_its_most_talkative() {
    let mut broker = start(false, "log = \"trace\"\nlog_format = \"json\"\n");
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let token = alice.token("a");
    let login = Some(("alice", token.as_str()));
    let mut sender = Link::connect_to_session(broker.address(), "a", login, true, 0)
        .await
        .unwrap();
    let mut inbox = bob.connect(broker.address(), "b").await;
    inbox.subscribe("inbox/bob").await;
    let envelope = alice.seal(&bob, "hello");
    let sent = sender
        .publish("inbox/bob", false, envelope.as_bytes())
        .await;
    assert_eq!(sent, PubAckReason::Success);
    inbox.receive().await;
    let junk = b"a-secret-that-was-not-sealed";
    let refused = sender.publish("inbox/bob", false, junk).await;
    assert_eq!(refused, PubAckReason::PayloadFormatInvalid);
    let login = Some(("alice", "correct-horse-battery"));
    let wrong = Link::connect_to_session(broker.address(), "x", login, true, 0).await;
    assert!(wrong.is_err());
    let replayed = Some(("alice", token.as_str()));
    let replayed = Link::connect_to_session(broker.address(), "a", replayed, true, 0).await;
    assert!(replayed.is_err());
    assert!(broker.stop().success());

    let lines = broker.process.stderr();
    assert!(lines.len() > 5, "{lines:?}");
    let sealed = String::from_utf8_lossy(envelope.as_bytes()).into_owned();
    let ciphertext = sealed.split("\"ciphertext\":\"").nth(1).unwrap();
    let password = "correct-horse-battery";
    for line in lines {
        let parsed = serde_json::from_str::<serde_json::Value>(&line);
        assert!(parsed.is_ok_and(|line| line["level"].is_string()), "{line}");
        for secret in [&token[..40], &ciphertext[..40], "a-secret-that", password] {
            assert!(!line.contains(secret), "{secret} in {line}");
        }
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("sealpost-broker"));
    command.args(arguments).output().unwrap()
}

/// Reads until the line comes.
fn expect_notice(socket: &UnixDatagram, wanted: &str) {
    let mut datagram = [0; 4_096];
    loop {
        let length = socket.recv(&mut datagram).expect(wanted);
        let text = String::from_utf8_lossy(&datagram[..length]);
        if text.lines().any(|line| line == wanted) {
            return;
        }
    }
}

#[test]
fn the_service_manager_is_told_of_start_life_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(program("sealpost-broker"));
    command
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let mut broker = Process::spawn("broker", &mut command);
    expect_notice(&socket, "READY=1");
    expect_notice(&socket, "WATCHDOG=1");
    expect_notice(&socket, "WATCHDOG=1");
    assert!(broker.terminate().success());
    expect_notice(&socket, "STOPPING=1");
}

#[test]
fn a_service_manager_that_cannot_be_told_is_said_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("sealpost-broker"));
    command
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .env("NOTIFY_SOCKET", dir.path().join("nobody"))
        .env_remove("RUST_LOG");
    let broker = Process::spawn("broker", &mut command);
    broker.expect_error("the service manager could not be told");
}

/// Every file in a folder of settings.
fn samples(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(folder);
    let files = std::fs::read_dir(folder).unwrap();
    let mut files = files.map(|file| file.unwrap().path()).collect::<Vec<_>>();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    files
}

#[test]
fn good_settings_are_accepted_and_bad_ones_refused_with_what_is_wrong() {
    // Those that name certificates find some, in a folder of ours in place of theirs.
    let dir = tempfile::tempdir().unwrap();
    let certificates = dir.path().join("tls");
    let made = run(&[
        "certificate",
        "--dir",
        certificates.to_str().unwrap(),
        "home",
    ]);
    assert!(made.status.success(), "{made:?}");
    for file in samples("good") {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("/etc/sealpost", certificates.to_str().unwrap());
        let copy = dir.path().join("broker.toml");
        std::fs::write(&copy, text).unwrap();
        let output = run(&["check-config", copy.to_str().unwrap()]);
        assert!(output.status.success(), "{file:?}: {output:?}");
    }
    for file in samples("bad") {
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = text.lines().next().unwrap().strip_prefix("# error: ");
        let expected = expected.unwrap_or_else(|| panic!("{file:?} says no error"));
        let output = run(&["check-config", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{file:?}: {said}");
        assert!(said.contains(expected), "{file:?}: {said}");
    }
}

#[test]
fn a_mistyped_variable_and_a_directory_in_place_of_a_file_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("sealpost-broker"));
    command.args(["check", "--data"]).arg(dir.path());
    let output = command.env("SEALPOST_BROKER_LIMTS__HOLD", "3").output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("did you mean SEALPOST_BROKER_LIMITS__HOLD?"),
        "{said}"
    );
    let output = run(&["--config", dir.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("directory") && said.contains("broker.toml"),
        "{said}"
    );
}

/// Wherever the broker is started.
#[test]
fn what_the_settings_name_lies_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let (home, elsewhere) = (dir.path().join("home"), dir.path().join("elsewhere"));
    for folder in [&home, &elsewhere] {
        std::fs::create_dir(folder).unwrap();
    }
    let file = home.join("broker.toml");
    std::fs::write(&file, "data = \"data\"\n").unwrap();
    let mut command = Command::new(program("sealpost-broker"));
    command
        .args(["--listen", "127.0.0.1:0", "--config"])
        .arg(&file);
    let mut broker = Process::spawn("broker", command.current_dir(&elsewhere));
    broker.expect("listening on ");
    assert!(home.join("data/control.sock").exists());
    assert!(broker.terminate().success());
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

fn run_on(broker: &Broker, command: &str, more: &[&str]) -> (Option<i32>, String) {
    let data = broker.data();
    let output = run(&[&[command, "--data", data.to_str().unwrap()], more].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into())
}

#[tokio::test]
async fn a_backup_of_a_running_broker_brings_users_sessions_and_mail_back() {
    let mut broker = start(false, "");
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let session = async |address| {
        let token = bob.token("b");
        let login = Some(("bob", token.as_str()));
        Link::connect_to_session(address, "b", login, false, 600)
            .await
            .unwrap()
    };
    let mut inbox = session(broker.address()).await;
    inbox.subscribe("inbox/bob").await;
    inbox.disconnect().await;
    let mut sender = alice.connect(broker.address(), "a").await;
    let envelopes = ["one", "two", "three"].map(|text| alice.seal(&bob, text));
    for envelope in &envelopes {
        let sent = sender
            .publish("inbox/bob", false, envelope.as_bytes())
            .await;
        assert_eq!(sent, PubAckReason::Success);
    }

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let file_name = file.to_str().unwrap();
    let (code, said) = run_on(&broker, "backup", &[file_name]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 users"), "{said}");
    let (code, said) = run_on(&broker, "backup", &[file_name]);
    assert_eq!(code, Some(1), "nothing is overwritten: {said}");
    assert!(said.contains("exists"), "{said}");
    let (code, said) = run_on(&broker, "check", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a broker runs"), "{said}");

    broker.kill();
    let (code, said) = run_on(&broker, "check", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("all is well"), "{said}");
    let (code, said) = run_on(&broker, "restore", &[file_name]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not empty"), "{said}");

    std::fs::remove_dir_all(broker.data()).unwrap();
    let (code, said) = run_on(&broker, "restore", &[file_name]);
    assert_eq!(code, Some(0), "{said}");
    broker.restart();
    let mut inbox = session(broker.address()).await;
    assert!(inbox.session_present);
    for envelope in &envelopes {
        assert_eq!(&inbox.receive().await.payload[..], envelope.as_bytes());
    }
}

#[test]
fn a_backup_that_is_damaged_anywhere_is_refused_and_leaves_nothing() {
    let mut broker = start(true, "");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let mut client = Raw::connect(broker.address(), &Connect::v311("a"));
    client.send(b"\x33\x06\x00\x01t\x00\x01x");
    client.expect(b"\x40\x02\x00\x01");
    assert!(broker.stop().success());
    // From the files of a broker that does not run.
    let (code, said) = run_on(&broker, "backup", &[file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let whole = std::fs::read(&file).unwrap();
    let copy = dir.path().join("copy");
    let data = dir.path().join("restored");
    let restore = |bytes: &[u8]| {
        std::fs::write(&copy, bytes).unwrap();
        let (copy, data) = (copy.to_str().unwrap(), data.to_str().unwrap());
        run(&["restore", "--data", data, copy])
    };
    let step = whole.len() / 20;
    for at in (0..whole.len()).step_by(step) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        for bytes in [&damaged[..], &whole[..at]] {
            let output = restore(bytes);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{at}: {said}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "{at}");
    }
    let longer = restore(&[&whole[..], b"x"].concat());
    assert_eq!(longer.status.code(), Some(1), "{longer:?}");
    assert!(restore(&whole).status.success());
}

#[test]
fn check_says_what_is_wrong() {
    let mut broker = start(true, "");
    assert!(broker.stop().success());
    std::fs::write(broker.data().join("users/mallory.json"), "{}").unwrap();
    let (code, said) = run_on(&broker, "check", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("mallory.json") && said.contains("damaged"),
        "{said}"
    );
}

/// What the settings name is read too: a file that `serve` would refuse cannot be used.
#[test]
fn check_config_reads_the_files_that_the_settings_name() {
    let dir = tempfile::tempdir().unwrap();
    for settings in [
        "rules = \"gone.toml\"",
        "[tls]\ncertificate = \"gone.pem\"\nkey = \"gone.key\"",
    ] {
        let file = dir.path().join("broker.toml");
        std::fs::write(&file, settings).unwrap();
        let checked = std::process::Command::new(sealpost_tests::program("sealpost-broker"))
            .current_dir(dir.path())
            .arg("check-config")
            .arg(&file)
            .output()
            .unwrap();
        assert!(!checked.status.success(), "{settings}");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(said.contains("gone"), "{said}");
    }
}
