//! The daemon: programs receive and send by it, and nothing is lost whoever dies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealpost_tests::{Broker, BrokerOptions, Person, Process, Program, program};
use serde_json::json;

fn start(person: &Person) -> Process {
    let daemon = person.start(&["daemon"]);
    daemon.expect_error("listening at ");
    daemon
}

fn write(person: &Person, to: &str, text: &str) {
    let sent = person.run(&["send", "--wait", "sent", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

fn pair() -> (Broker, Person, Person) {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    (broker, alice, bob)
}

#[test]
fn programs_send_and_receive_by_a_daemon_and_send_works_beside_it() {
    let (_broker, alice, bob) = pair();
    let mut daemon = start(&alice);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&Program::socket(&alice)), 0o600);
    assert_eq!(mode(&alice.home().join("daemon")), 0o700);

    let mut program = Program::of(&alice);
    program.subscribe("auto");
    let sent = program.call("send", json!({ "to": "bob", "text": "by the daemon" }));
    let id = sent["result"]["id"].clone();
    assert_eq!(program.event("sent")["id"], id);
    write(&alice, "bob", "beside it");
    let received = bob.run(&["listen", "--count", "2", "--timeout", "30s"]);
    assert_eq!(
        received.stdout, "From alice: by the daemon\nFrom alice: beside it",
        "{received:?}"
    );
    assert_eq!(bob.run(&["send", "alice", "an answer"]).code, 0);
    assert_eq!(program.event("message")["text"], "an answer");
    let contacts = program.call("contacts", json!({}));
    assert_eq!(contacts["result"][0]["user"], "bob", "{contacts}");
    let status = program.call("status", json!({}));
    assert_eq!(status["result"]["state"], "connected", "{status}");
    assert_eq!(status["result"]["user"], "alice", "{status}");

    let second = alice.run(&["listen", "--timeout", "1s"]);
    assert_eq!(second.code, 1, "one receives: {second:?}");
    assert_eq!(daemon.terminate().code(), Some(0), "{:?}", daemon.stderr());
    assert!(!Program::socket(&alice).exists());
    while program.line().is_some() {}
}

#[test]
fn a_message_between_the_daemons_death_and_its_acknowledgement_comes_again() {
    let (_broker, alice, bob) = pair();
    let mut daemon = start(&bob);
    write(&alice, "bob", "one");
    write(&alice, "bob", "two");
    let mut program = Program::of(&bob);
    program.subscribe("manual");
    let one = program.event("message");
    let two = program.event("message");
    assert_eq!((&one["text"], &two["text"]), (&json!("one"), &json!("two")));
    program.ack(&one);
    daemon.kill();

    let mut daemon = start(&bob);
    let mut program = Program::of(&bob);
    program.subscribe("manual");
    let again = program.event("message");
    assert_eq!(again["id"], two["id"], "one was acknowledged");
    drop(program);
    let mut program = Program::of(&bob);
    program.subscribe("manual");
    let again = program.event("message");
    assert_eq!(again["id"], two["id"], "the next subscriber");
    program.ack(&again);
    assert_eq!(daemon.terminate().code(), Some(0));
    let left = bob.run(&["listen", "--timeout", "1s"]);
    assert_eq!(left.stdout, "", "{left:?}");
}

#[test]
fn what_a_program_asks_for_again_with_the_same_key_is_sent_once_also_over_a_crash() {
    let (_broker, alice, bob) = pair();
    let mut daemon = start(&alice);
    let mut program = Program::of(&alice);
    let alert = json!({ "to": "bob", "text": "disk full on db1", "key": "db1-42" });
    let first = program.call("send", alert.clone())["result"]["id"].clone();
    assert!(first.is_string());
    assert_eq!(program.call("send", alert.clone())["result"]["id"], first);
    daemon.kill();
    let mut daemon = start(&alice);
    let mut program = Program::of(&alice);
    assert_eq!(program.call("send", alert.clone())["result"]["id"], first);
    let mut other = alert;
    other["text"] = json!("something else");
    let refused = program.call("send", other);
    assert_eq!(refused["error"]["data"]["code"], 2, "{refused}");
    let last = program.call(
        "send",
        json!({ "to": "bob", "text": "all is well", "key": "x" }),
    );
    assert!(last["result"]["id"].is_string(), "{last}");
    let received = bob.run(&["listen", "--count", "2", "--timeout", "30s"]);
    assert_eq!(
        received.stdout,
        "From alice: disk full on db1\nFrom alice: all is well"
    );
    assert!(daemon.terminate().success());
}

#[test]
fn a_daemon_starts_without_a_broker_and_outlives_its_restarts() {
    let (mut broker, alice, bob) = pair();
    broker.kill();
    let _daemon = start(&alice);
    let mut program = Program::of(&alice);
    program.subscribe("auto");
    let status = program.call("status", json!({}));
    assert_eq!(status["result"]["state"], "disconnected", "{status}");
    let sent = program.call("send", json!({ "to": "bob", "text": "early" }));
    let early = sent["result"]["id"].clone();
    let outbox = program.call("outbox", json!({}));
    assert_eq!(outbox["result"][0]["id"], early, "{outbox}");
    broker.restart();
    assert_eq!(program.event("sent")["id"], early);
    broker.kill();
    program.expect(|line| line["params"]["state"] == "disconnected");
    let sent = program.call("send", json!({ "to": "bob", "text": "late" }));
    broker.restart();
    assert_eq!(program.event("sent")["id"], sent["result"]["id"]);
    let received = bob.run(&["listen", "--count", "2", "--timeout", "30s"]);
    assert_eq!(received.stdout, "From alice: early\nFrom alice: late");
}

/// Somebody with keys and no broker.
fn offline() -> Person {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:1");
    let made = alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    alice
}

#[test]
fn junk_is_answered_and_a_line_without_end_ends_its_connection_alone() {
    let alice = offline();
    let elsewhere = tempfile::tempdir().unwrap();
    let loose = elsewhere.path();
    std::fs::set_permissions(loose, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = alice.run(&["daemon", "--socket", loose.join("s").to_str().unwrap()]);
    assert_eq!(refused.code, 1, "others can reach it: {refused:?}");
    let path = loose.join("own/s");
    let daemon = alice.start(&["daemon", "--socket", path.to_str().unwrap()]);
    daemon.expect_error("listening at ");
    let mut program = Program::connect(&path);
    for (junk, code) in [
        ("junk", -32700),
        ("[]", -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#, -32601),
    ] {
        program.say(junk);
        let answer = program.line().unwrap();
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer["error"]["data"]["code"], 2, "{answer}");
    }
    let mut endless = Program::connect(&path);
    // It may be cut off before all is written.
    endless.say(&"x".repeat(1 << 20));
    let answer = endless.line().unwrap();
    assert_eq!(answer["error"]["code"], -32600, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("longer than 394240 bytes"), "{answer}");
    assert!(endless.line().is_none());
    let status = program.call("status", json!({}));
    assert_eq!(status["result"]["queued"], 0, "{status}");
}

#[test]
fn more_clients_than_there_may_be_are_told_so() {
    let alice = offline();
    let _daemon = start(&alice);
    let path = Program::socket(&alice);
    let mut others: Vec<Program> = (0..16).map(|_| Program::connect(&path)).collect();
    for other in &mut others {
        other.call("status", json!({}));
    }
    let mut too_many = Program::connect(&path);
    let refused = too_many.line().unwrap();
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("many")
    );
    assert!(too_many.line().is_none());
}

fn example(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    folder.join(name)
}

#[test]
fn the_python_example_answers_and_acknowledges() {
    let (_broker, alice, bob) = pair();
    let _daemon = start(&bob);
    let mut command = Command::new("python3");
    let _bot = Process::spawn(
        "bot",
        command
            .arg(example("echo_bot.py"))
            .arg(Program::socket(&bob)),
    );
    write(&alice, "bob", "¿hello?");
    let answer = alice.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(answer.stdout, "From bob: ¿hello?", "{answer:?}");
}

#[test]
fn the_shell_example_answers() {
    let (_broker, alice, bob) = pair();
    let folder = program("sealpost");
    let folder = folder.parent().unwrap();
    let mut command = bob.command();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let path = std::env::var("PATH").unwrap();
    command = Command::new("sh");
    command
        .arg(example("uptime_bot.sh"))
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("SEALPOST_USER", &arguments[1])
        .env("SEALPOST_BROKER", &arguments[3])
        .env("SEALPOST_HOME", bob.home());
    let _bot = Process::spawn("bot", &mut command);
    write(&alice, "bob", "what can you do?");
    let answer = alice.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(
        answer.stdout, "From bob: I know one word: uptime",
        "{answer:?}"
    );
}
