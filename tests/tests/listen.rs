//! `listen`: with a broker or before there is one, looking back, and by a command.

use std::path::Path;
use std::time::{Duration, Instant};

use sealpost_tests::{Broker, BrokerOptions, PATIENCE, Person};
use serde_json::Value;

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

fn pair(broker: &Broker) -> (Person, Person) {
    (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    )
}

fn send(from: &Person, text: &str) {
    let answer = from.run(&["send", "bob", text]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// Waits until a file has what is wanted.
fn wait_for(path: &Path, wanted: impl Fn(&str) -> bool) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < until, "{path:?}: {text:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(path: &Path, count: usize) -> Vec<String> {
    let text = wait_for(path, |text| text.lines().count() >= count);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn it_starts_before_the_broker_and_says_once_that_it_is_away() {
    let mut broker = broker();
    let offline = |name| {
        let person = Person::newcomer(name, &broker.url());
        let made = person.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
        assert_eq!(made.code, 0, "{made:?}");
        person
    };
    let (bob, carol) = (offline("bob"), offline("carol"));
    broker.process.kill();
    let listen = bob.start(&["listen"]);
    listen.expect_error("cannot reach the broker");
    let mut chat = carol.start(&["chat"]);
    chat.say("msg bob typed before the broker was there");
    chat.expect_error("cannot reach the broker");
    // Long enough for a second attempt.
    std::thread::sleep(Duration::from_secs(2));
    broker.restart();
    listen.expect("From carol: typed before the broker was there");
    let said = listen
        .stderr()
        .into_iter()
        .filter(|line| line.contains("cannot reach the broker"));
    assert_eq!(said.count(), 1);
    chat.hush();
    assert!(chat.wait().success());
}

#[test]
fn a_pipe_into_chat_ends_with_3_when_the_broker_stays_away_and_its_lines_are_kept() {
    let carol = Person::newcomer("carol", "mqtt://127.0.0.1:1");
    let made = carol.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    let config = carol.home().join("quick.toml");
    std::fs::write(&config, "timeout = \"1s\"\n").unwrap();
    let mut chat = carol.start(&["--config", config.to_str().unwrap(), "chat"]);
    chat.say("msg bob one");
    chat.say("msg bob two");
    chat.hush();
    assert_eq!(chat.wait().code(), Some(3));
    assert!(chat.stderr().concat().contains("2 messages are not sent"));
    let outbox = carol.run(&["--json", "outbox"]);
    assert_eq!(outbox.events().len(), 2, "{outbox:?}");
}

#[test]
fn since_looks_back_without_a_broker_and_changes_nothing() {
    let broker = broker();
    let (alice, mut bob) = pair(&broker);
    send(&alice, "one");
    send(&alice, "two");
    let shown = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(shown.stdout, "From alice: one");
    // The other one is stored and not shown.
    let held = bob.start(&["listen"]);
    held.expect("From alice: two");
    // It works beside one that runs, and knows no broker.
    bob.move_to("mqtt://127.0.0.1:1");
    for _ in 0..2 {
        let back = bob.run(&["listen", "--since", "1h"]);
        assert_eq!(back.code, 0, "{back:?}");
        assert_eq!(back.stdout, "From alice: one\nFrom alice: two");
        assert_eq!(back.stderr, "");
    }
    let back = bob.run(&["listen", "--since", "2h", "--count", "1"]);
    assert_eq!(back.stdout, "From alice: one");
    let back = bob.run(&["listen", "--since", "0s"]);
    assert_eq!((back.code, back.stdout.as_str()), (0, ""), "{back:?}");
    let wrong = bob.run(&["listen", "--since", "yesterday"]);
    assert_eq!(wrong.code, 2);
    let wrong = bob.run(&["listen", "--since", "1h", "--exec", "true"]);
    assert_eq!(wrong.code, 2);
}

#[test]
fn since_and_follow_show_every_message_once_while_mail_pours_in() {
    const EACH: usize = 40;
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let pour = |what: &str| {
        let mut send = alice.start(&["send", "bob", "--lines"]);
        for n in 0..EACH {
            send.say(&format!("{what} {n}"));
        }
        send.hush();
        send
    };
    assert!(pour("before").wait().success());
    // Half of it is shown, the rest is stored or at the broker.
    let half = (EACH / 2).to_string();
    let shown = bob.run(&["listen", "--count", &half, "--timeout", "30s"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let mut pouring = pour("during");
    let all = (2 * EACH).to_string();
    let follow = ["listen", "--since", "1h", "--follow"];
    let follow = [&follow[..], &["--count", &all, "--timeout", "30s"]].concat();
    let got = bob.run(&follow);
    assert!(pouring.wait().success());
    assert_eq!(got.code, 0, "{got:?}");
    let expected: Vec<String> = ["before", "during"]
        .iter()
        .flat_map(|what| (0..EACH).map(move |n| format!("From alice: {what} {n}")))
        .collect();
    assert_eq!(got.stdout.lines().collect::<Vec<_>>(), expected);
    let nothing = bob.run(&["listen", "--timeout", "1s"]);
    assert_eq!(nothing.stdout, "");
}

#[test]
fn a_command_gets_text_metadata_and_no_secrets() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let out = bob.home().join("out");
    let command = format!(
        "{{ cat; echo; env | grep ^SEALPOST_ | sort; }} >'{}'; echo done",
        out.display()
    );
    send(&alice, "$(touch pwned); \u{1b}[31mred");
    let ran = bob
        .command()
        .args(["listen", "--count", "1", "--timeout", "30s"])
        .args(["--exec", &command])
        .env("SEALPOST_PASSPHRASE_COMMAND", "echo secret")
        .env("SEALPOST_PASSPHRASE", "secret")
        .env("SEALPOST_INVITATION", "")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "done\n");
    let got = std::fs::read_to_string(&out).unwrap();
    let (text, variables) = got.split_once('\n').unwrap();
    assert_eq!(text, "$(touch pwned); \u{1b}[31mred");
    let names: Vec<&str> = variables
        .lines()
        .map(|line| line.split_once('=').unwrap().0)
        .collect();
    assert_eq!(
        names,
        [
            "SEALPOST_ATTEMPT",
            "SEALPOST_BROKER",
            "SEALPOST_EDITS",
            "SEALPOST_FINGERPRINT",
            "SEALPOST_FROM",
            "SEALPOST_HOME",
            "SEALPOST_ID",
            "SEALPOST_KIND",
            "SEALPOST_REALM",
            "SEALPOST_REPLY",
            "SEALPOST_TO",
            "SEALPOST_TRUST",
            "SEALPOST_TS",
            "SEALPOST_USER",
        ]
    );
    for expected in [
        "SEALPOST_ATTEMPT=1\n",
        "SEALPOST_FROM=alice\n",
        "SEALPOST_KIND=text\n",
        "SEALPOST_TO=bob\n",
        "SEALPOST_TRUST=known\n",
        "SEALPOST_FINGERPRINT=SHA256:",
    ] {
        assert!(variables.contains(expected), "{expected}: {variables}");
    }
    let nothing = bob.run(&["listen", "--timeout", "1s"]);
    assert_eq!(nothing.stdout, "");
}

#[test]
fn a_command_can_answer_with_send() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let program = sealpost_tests::program("sealpost");
    let echo = format!(
        "sed 's/^/echo: /' | '{}' send \"$SEALPOST_FROM\" -",
        program.display()
    );
    let bot = bob.start(&["listen", "--exec", &echo]);
    bot.expect_error("connected");
    send(&alice, "hello");
    let got = alice.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(got.stdout, "From bob: echo: hello", "{got:?}");
}

#[test]
fn a_command_that_fails_is_tried_again_and_the_message_is_never_lost() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    send(&alice, "bad");
    send(&alice, "good");
    let run = |command: &str, json: bool| {
        let mut arguments = vec!["listen", "--count", "2", "--timeout", "30s"];
        arguments.extend(["--exec", command, "--exec-tries", "2"]);
        if json {
            arguments.push("--json");
        }
        bob.run(&arguments)
    };
    // Fails for one message: the other one is dealt with all the same.
    let first = run("read -r text; echo out; test \"$text\" = good", true);
    assert_eq!(first.code, 1, "{first:?}");
    let events: Vec<(String, Value)> = first
        .events()
        .into_iter()
        .filter(|event| event["event"].as_str().unwrap().contains("handled"))
        .map(|event| (event["event"].as_str().unwrap().into(), event))
        .collect();
    let kinds: Vec<(&str, &Value)> = events
        .iter()
        .map(|(kind, event)| (kind.as_str(), &event["attempts"]))
        .collect();
    assert_eq!(
        kinds,
        [
            ("unhandled", &1.into()),
            ("unhandled", &2.into()),
            ("handled", &1.into())
        ],
        "{first:?}"
    );
    assert!(events[0].1["retry_in"].is_number());
    assert!(events[1].1["retry_in"].is_null());
    assert!(first.stderr.contains("out"), "{first:?}");
    // The next one begins with it; it succeeds at the second attempt.
    let mut arguments = vec!["listen", "--count", "1", "--timeout", "30s"];
    arguments.extend(["--exec", "cat; test $SEALPOST_ATTEMPT = 2"]);
    let second = bob.run(&arguments);
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(second.stdout, "badbad", "{second:?}");
    let nothing = bob.run(&["listen", "--timeout", "1s"]);
    assert_eq!(nothing.stdout, "");
}

#[test]
fn a_command_runs_once_at_a_time_in_order_and_ends_with_us() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    let log = bob.home().join("log");
    for n in 1..=3 {
        send(&alice, &n.to_string());
    }
    let command = format!(
        "read -r n; echo \"begin $n\" >>'{0}'; if [ \"$n\" = 3 ]; then echo $$ >'{0}.pid'; sleep 100; fi; echo \"end $n\" >>'{0}'",
        log.display()
    );
    let mut bot = bob.start(&["listen", "--exec", &command]);
    assert_eq!(
        lines(&log, 5),
        ["begin 1", "end 1", "begin 2", "end 2", "begin 3"]
    );
    let pid = wait_for(&bob.home().join("log.pid"), |text| text.ends_with('\n'));
    assert!(bot.terminate().success());
    let stat = Path::new("/proc").join(pid.trim());
    assert!(!stat.exists(), "its command goes on");
    // What it was at comes again.
    let again = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(again.stdout, "From alice: 3");
}

#[test]
fn a_command_that_hangs_is_ended_at_its_limit() {
    let broker = broker();
    let (alice, bob) = pair(&broker);
    send(&alice, "hello");
    let mut arguments = vec!["listen", "--count", "1", "--timeout", "30s"];
    arguments.extend(["--exec", "sleep 100", "--exec-timeout", "1s"]);
    arguments.extend(["--exec-tries", "1"]);
    let ran = bob.run(&arguments);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("it did not end within 1 s"), "{ran:?}");
}

#[test]
fn a_command_works_through_what_is_stored_while_the_broker_is_away() {
    let broker = broker();
    let (alice, mut bob) = pair(&broker);
    send(&alice, "one");
    send(&alice, "two");
    // Both come in, one is shown.
    let shown = bob.run(&["--json", "listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let held = bob.run(&[
        "listen",
        "--exec",
        "exit 1",
        "--exec-tries",
        "1",
        "--count",
        "1",
    ]);
    assert_eq!(held.code, 1, "{held:?}");
    bob.move_to("mqtt://127.0.0.1:1");
    let ran = bob.run(&["listen", "--exec", "cat", "--count", "1"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "two"), "{ran:?}");
}
