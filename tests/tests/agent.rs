//! Keys at rest: a passphrase, another one, and an agent that spares people from typing it, for a bounded time.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use sealpost_tests::{Answer, Broker, BrokerOptions, PATIENCE, Person};

const PASSPHRASE: &str = "echo correct horse battery";

/// A person whose keys are protected.
fn careful() -> Person {
    let alice = Person::newcomer("alice", "mqtt://127.0.0.1:1");
    let made = with(&alice, PASSPHRASE, &["keys", "init", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    alice
}

/// Runs a command that is given the passphrase.
fn with(person: &Person, passphrase: &str, arguments: &[&str]) -> Answer {
    person.run(&[&["--passphrase-command", passphrase], arguments].concat())
}

/// Starts an agent that is gone in a minute whatever becomes of the test.
fn start_agent(person: &Person) {
    let started = with(person, PASSPHRASE, &["agent", "--for", "1m"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert!(started.stdout.contains("min"), "{started:?}");
}

/// Whether a command goes without a passphrase: there is no terminal to ask on.
fn goes_unasked(person: &Person) -> bool {
    let shown = person.run(&["keys", "show"]);
    if shown.code != 0 {
        assert!(shown.stderr.contains("no terminal"), "{shown:?}");
    }
    shown.code == 0
}

fn until(person: &Person) -> Option<f64> {
    let status = person.run(&["--json", "agent", "status"]);
    assert_eq!(status.code, 0, "{status:?}");
    status.events()[0]["until"].as_f64()
}

#[test]
fn commands_do_not_ask_while_an_agent_holds_the_key_and_ask_again_when_it_is_locked() {
    let alice = careful();
    assert!(!goes_unasked(&alice));
    assert_eq!(until(&alice), None);
    start_agent(&alice);
    assert!(goes_unasked(&alice));
    assert!(until(&alice).is_some());

    let folder = alice.home().join("agent");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("agent.sock")), 0o600);

    // A key that changes the file leaves it readable to the agent's key.
    assert_eq!(alice.run(&["keys", "rotate", "--no-publish"]).code, 0);
    assert!(goes_unasked(&alice));
    // A second agent takes the place of the first.
    start_agent(&alice);
    assert!(goes_unasked(&alice));

    assert_eq!(alice.run(&["agent", "lock"]).code, 0);
    assert!(!goes_unasked(&alice));
    assert_eq!(until(&alice), None);
    assert_eq!(alice.run(&["agent", "lock"]).code, 0, "again");
}

#[test]
fn an_agent_needs_the_passphrase_and_forgets_when_its_time_is_over() {
    let alice = careful();
    let wrong = with(&alice, "echo wrong", &["agent", "--for", "1m"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(until(&alice), None);

    let started = with(&alice, PASSPHRASE, &["agent", "--for", "2s"]);
    assert_eq!(started.code, 0, "{started:?}");
    let patience = Instant::now() + PATIENCE;
    while goes_unasked(&alice) {
        assert!(Instant::now() < patience, "it holds the key for ever");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(until(&alice), None);
    assert!(!alice.home().join("agent/agent.sock").exists());
}

#[test]
fn an_agent_in_the_foreground_ends_with_a_signal() {
    let alice = careful();
    let mut agent = alice.start(&[
        "--passphrase-command",
        PASSPHRASE,
        "agent",
        "--foreground",
        "--for",
        "1m",
    ]);
    agent.expect("min");
    assert!(goes_unasked(&alice));
    assert_eq!(agent.terminate().code(), Some(0), "{:?}", agent.stderr());
    assert!(!goes_unasked(&alice));
}

#[test]
fn an_agents_folder_that_others_can_reach_is_not_used() {
    let alice = careful();
    start_agent(&alice);
    let folder = alice.home().join("agent");
    let set = |mode| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o755);
    assert!(!goes_unasked(&alice), "whose agent might that be?");
    let refused = with(&alice, PASSPHRASE, &["agent", "--for", "1m"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    set(0o700);
    assert!(goes_unasked(&alice));
    assert_eq!(alice.run(&["agent", "lock"]).code, 0);
}

#[test]
fn another_passphrase_takes_the_place_of_the_first_and_of_what_an_agent_holds() {
    const ANOTHER: &str = "echo another long passphrase";
    let alice = careful();
    start_agent(&alice);
    let change = |old: &str, how: &[&str]| {
        with(
            &alice,
            old,
            &[&["--json", "keys", "passphrase"], how].concat(),
        )
    };
    // Whoever has only the agent cannot change it.
    let unasked = alice.run(&["keys", "passphrase", "--new-command", ANOTHER]);
    assert_eq!(unasked.code, 1, "{unasked:?}");
    assert_eq!(change("echo wrong", &["--new-command", ANOTHER]).code, 1);
    assert!(goes_unasked(&alice), "nothing has changed");

    let changed = change(PASSPHRASE, &["--new-command", ANOTHER]);
    assert_eq!(changed.code, 0, "{changed:?}");
    assert!(!goes_unasked(&alice));
    assert_eq!(with(&alice, PASSPHRASE, &["keys", "show"]).code, 1);
    assert_eq!(with(&alice, ANOTHER, &["keys", "show"]).code, 0);

    let removed = change(ANOTHER, &["--remove"]);
    assert_eq!(removed.events()[0]["passphrase"], false, "{removed:?}");
    assert!(goes_unasked(&alice));
    let nothing = alice.run(&["agent"]);
    assert_eq!(nothing.code, 2, "there is nothing to hold: {nothing:?}");
    assert_eq!(change("true", &["--new-command", PASSPHRASE]).code, 0);
    assert!(!goes_unasked(&alice));
}

#[test]
fn people_talk_with_nobody_to_type_a_passphrase() {
    let broker = Broker::start(BrokerOptions::default());
    let mut alice = careful();
    alice.move_to(&broker.url());
    let bob = Person::settle("bob", &broker.url());
    start_agent(&alice);
    let sent = alice.run(&["send", "bob", "unattended"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let received = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(received.stdout, "From alice: unattended", "{received:?}");
    assert_eq!(alice.run(&["agent", "lock"]).code, 0);
}

#[test]
fn whoever_is_connected_goes_on_after_the_passphrase_was_changed_and_takes_the_new_one_from_its_command()
 {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let alice = Person::newcomer("alice", &broker.url());
    let secret = alice.home().with_extension("secret");
    let command = format!("cat {}", secret.display());
    let write = |text: &str| std::fs::write(&secret, text).unwrap();
    write("the first\n");
    let made = with(&alice, &command, &["keys", "init"]);
    assert_eq!(made.code, 0, "{made:?}");
    let mut listen = alice.start(&["--passphrase-command", &command, "--json", "listen"]);
    listen.expect("\"connected\"");
    let receive = |listen: &sealpost_tests::Process, text: &str| {
        let sent = bob.run(&["send", "--wait", "sent", "alice", text]);
        assert_eq!(sent.code, 0, "{sent:?}");
        listen.expect(text);
    };
    receive(&listen, "under the first");

    let change = |old: &str, new: &str| {
        let changed = with(&alice, old, &["keys", "passphrase", "--new-command", new]);
        assert_eq!(changed.code, 0, "{changed:?}");
    };
    change("echo the first", "echo the second");
    listen.expect("own_keys_locked");
    receive(&listen, "under the second, which it does not know");

    write("the third\n");
    change("echo the second", "echo the third");
    // What is made under the third it can follow.
    let rotated = with(&alice, "echo the third", &["keys", "rotate", "--identity"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    receive(&listen, "to the new identity");
    let removed = with(
        &alice,
        "echo the third",
        &["keys", "passphrase", "--remove"],
    );
    assert_eq!(removed.code, 0, "{removed:?}");
    let rotated = alice.run(&["keys", "rotate"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    receive(&listen, "without any");
    assert!(listen.terminate().success(), "{:?}", listen.stderr());
    std::fs::remove_file(secret).unwrap();
}
