//! `sealpost` alone, on a terminal: a newcomer gets to talk, people verify each other, a changed identity is not overlooked, and
//! whatever happens the terminal is as it was.

use std::path::Path;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use rustix::process::{Pid, Signal, kill_process};
use sealpost_tests::{
    Broker, BrokerOptions, ForgedFile, Forger, Forgery, Pane, Person, Process, resident_kib,
};
use serde_json::json;
use sha2::{Digest, Sha256};

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

fn signal(pane: &Pane, signal: Signal) {
    let pid = Pid::from_raw(pane.pid().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// In the chat: connected, and the line to type in is there.
fn in_chat(pane: &Pane) -> String {
    pane.expect("● connected")
}

/// Bob in the chat, and one who means harm and may write to him.
async fn bob_and_mallory() -> (Broker, Person, Forger, Pane) {
    let broker = broker();
    let bob = Person::settle("bob", &broker.url());
    let mallory = Forger::register(broker.address(), "mallory", "bob").await;
    // Who is written to need not ask to be let in.
    let sent = bob.run(&["send", "mallory", "hello"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let pane = Pane::open(80, 24);
    pane.chat_as(&bob);
    in_chat(&pane);
    (broker, bob, mallory, pane)
}

/// Back in the shell, with the terminal as it was.
fn assert_given_back(pane: &Pane, before: &str) {
    pane.wait_for("the shell", |screen| screen.trim_end().ends_with("ready>"));
    assert_eq!(pane.settings(), before, "raw mode is over");
    for (what, off) in [
        ("alternate_on", "0"),
        ("cursor_flag", "1"),
        ("mouse_any_flag", "0"),
        ("bracket_paste_flag", "0"),
    ] {
        // Older versions of tmux do not know every flag; bash turns bracketed paste on by itself.
        if what != "bracket_paste_flag" {
            assert_eq!(pane.ask(what), off, "{what}");
        }
    }
}

#[test]
fn a_newcomer_talks_within_a_minute_and_finds_everything_again() {
    let broker = broker();
    let bob = Person::settle("bob", &broker.url());
    let pane = Pane::open(80, 24);
    let before = pane.settings();
    let begun = Instant::now();
    pane.enter("sealpost");
    pane.expect("Welcome to Sealpost");
    pane.enter("alice");
    pane.press(&["C-u"]);
    pane.enter(&broker.url());
    pane.press(&["Enter"]);
    pane.enter("correct horse battery");
    pane.enter("correct horse battery");
    pane.expect("whose keys are they?");
    pane.press(&["Enter"]);
    in_chat(&pane);
    // From now on who is new asks first, whatever runs.
    let settings = pane.home().join(".config/sealpost/client.toml");
    let settings = std::fs::read_to_string(settings).unwrap();
    assert!(
        settings.contains("\nstrangers = \"request\"\n"),
        "{settings}"
    );
    pane.press(&["F3"]);
    pane.expect("Add somebody");
    let link = bob.run(&["invite"]).stdout;
    pane.paste(&link);
    pane.press(&["Enter"]);
    pane.expect("bob: verified");
    pane.enter("Hello Bob!");
    pane.expect("✓  alice");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    println!("from the first key to the first message with the broker: {took:?}");

    // Bob answers; until he does, he tells nothing about what arrived.
    let answer = bob.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(answer.stdout, "From alice: Hello Bob!");
    assert_eq!(
        bob.run(&["send", "alice", "Hello Alice! 東京 👨\u{200d}👩\u{200d}👧"])
            .code,
        0
    );
    pane.expect("Hello Alice! 東京");
    pane.press(&["C-q"]);
    assert_given_back(&pane, &before);

    // The second time it asks for the passphrase alone, and a slip is not the end.
    pane.enter("clear; sealpost");
    pane.expect("Passphrase of alice's keys");
    pane.enter("wrong");
    pane.expect("wrong");
    pane.wait_for("the question again", |screen| {
        screen.matches("Passphrase of alice's keys").count() == 2
    });
    pane.enter("correct horse battery");
    in_chat(&pane);
    pane.press(&["Enter"]);
    pane.expect("Hello Alice!");
    pane.press(&["C-q"]);
    assert_given_back(&pane, &before);
}

#[test]
fn two_people_talk_and_see_how_far_their_messages_got() {
    let broker = broker();
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    let (hers, his) = (Pane::open(80, 24), Pane::open(80, 24));
    hers.chat_as(&alice);
    his.chat_as(&bob);
    in_chat(&hers);
    in_chat(&his);
    hers.enter("/to bob");
    hers.expect("bob: new");
    hers.enter("Are you there?");
    hers.expect("✓  alice");
    // She is new to him, and waits for his yes.
    his.expect("* alice");
    his.press(&["Enter"]);
    his.expect("ASKS TO BE LET IN");
    his.press(&["Enter"]);
    his.expect("Are you there?");
    his.enter("yes");
    his.expect("alice  Are you there?");
    his.enter("Yes.");
    hers.expect("Yes.");
    hers.enter("Good.");
    his.expect("Good.");
    hers.expect("✓✓ alice  Good.");
    // Lines that are pasted are one message, and nothing goes before Enter.
    hers.paste("one\ntwo\nthree");
    hers.expect("> one");
    assert!(!his.screen().contains("three"));
    hers.press(&["Enter"]);
    his.expect("three");
    // The other way: words are found again.
    his.press(&["C-f"]);
    his.expect("Search with alice");
    his.enter("there");
    his.expect("1 found");
    his.press(&["Enter"]);
    his.expect("alice: not verified");
    // Somebody in the line mode of the same broker is no other.
    for pane in [&hers, &his] {
        pane.enter("/quit");
        pane.expect("ready>");
    }
}

/// The number that the command shows, in groups.
fn number(person: &Person, other: &str) -> String {
    let answer = person.run(&["--json", "contacts", "verify", other]);
    let events = answer.events();
    let shown = events
        .iter()
        .find(|event| event["event"] == "safety_number");
    shown.unwrap_or_else(|| panic!("{answer:?}"))["number"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn verifying_is_guided_and_another_number_is_told() {
    let broker = broker();
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    assert_eq!(
        bob.run(&["listen", "--count", "1", "--timeout", "30s"])
            .code,
        0
    );
    let theirs = number(&bob, "alice");
    let pane = Pane::open(80, 24);
    pane.chat_as(&alice);
    in_chat(&pane);
    pane.press(&["Enter"]);
    pane.expect("bob: not verified");
    pane.press(&["F4"]);
    let screen = pane.expect("Verify bob");
    for group in theirs.split_whitespace() {
        assert!(screen.contains(group), "{group}:\n{screen}");
    }
    pane.enter("no");
    pane.expect("the safety numbers differ");
    pane.paste(&theirs.replace(|digit: char| digit.is_ascii_digit(), "0"));
    pane.press(&["Enter"]);
    pane.wait_for("another number told", |screen| {
        screen.contains("differ") || screen.contains("not a safety number")
    });
    pane.paste(&theirs);
    pane.press(&["Enter"]);
    pane.expect("bob: verified");
    pane.press(&["C-q"]);
    pane.expect("ready>");
    let listed = alice.run(&["--json", "contacts"]).events();
    assert_eq!(listed[0]["verified"], true, "{listed:?}");
}

#[test]
fn a_changed_identity_stops_the_conversation_until_it_is_decided() {
    let first = broker();
    let mut alice = Person::settle("alice", &first.url());
    let _bob = Person::settle("bob", &first.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    let second = broker();
    let other = Person::settle("bob", &second.url());
    alice.move_to(&second.url());
    let pane = Pane::open(80, 24);
    pane.chat_as(&alice);
    in_chat(&pane);
    pane.press(&["Enter"]);
    pane.expect("THE IDENTITY OF bob HAS CHANGED");
    assert!(pane.screen().lines().last().is_some(), "{}", pane.screen());
    pane.type_text("a secret");
    pane.press(&["F2"]);
    pane.expect_no("! bob  ");
    let screen = pane.expect("THE IDENTITY OF bob HAS CHANGED");
    assert!(!screen.contains("a secret"), "{screen}");
    pane.press(&["F2", "Enter"]);
    let screen = pane.expect("Decide about bob");
    let fingerprint = other.run(&["keys", "show"]).stdout;
    let fingerprint = fingerprint
        .split_whitespace()
        .find(|word| word.starts_with("SHA256:"))
        .unwrap();
    assert!(screen.contains(fingerprint), "{screen}");
    pane.enter("no");
    pane.expect("THE IDENTITY OF bob HAS CHANGED");
    pane.press(&["Enter"]);
    pane.expect("Decide about bob");
    pane.enter("yes");
    pane.expect("bob: not verified");
    pane.enter("a secret");
    let answer = other.run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert!(
        answer.stdout.contains("a secret") || answer.stdout.contains("hello"),
        "{answer:?}"
    );
}

#[test]
fn any_size_is_drawn_and_a_larger_one_shows_all_again() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let _bob = Person::settle("bob", &broker.url());
    let pane = Pane::open(80, 24);
    pane.chat_as(&alice);
    in_chat(&pane);
    pane.enter("/to bob");
    pane.expect("bob: new");
    pane.enter("Hello in every size");
    pane.expect("✓  alice");
    for (columns, rows) in [(20, 6), (10, 2), (4, 1), (200, 50), (50, 10)] {
        pane.resize(columns, rows);
    }
    pane.resize(100, 30);
    let screen = pane.wait_for("the whole", |screen| {
        screen.contains("Hello in every size") && screen.contains("F1 help")
    });
    assert_eq!(screen.lines().count(), 30);
    assert!(
        screen.lines().last().unwrap().contains("● connected"),
        "{screen}"
    );
}

#[test]
fn the_terminal_is_as_it_was_after_a_signal_and_nothing_is_lost_by_a_kill() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let pane = Pane::open(80, 24);
    let before = pane.settings();
    for end in [Signal::TERM, Signal::HUP, Signal::INT] {
        pane.chat_as(&alice);
        in_chat(&pane);
        assert_eq!(pane.ask("alternate_on"), "1");
        signal(&pane, end);
        assert_given_back(&pane, &before);
    }
    // To the shell and back.
    pane.chat_as(&alice);
    in_chat(&pane);
    pane.press(&["C-z"]);
    pane.expect("Stopped");
    assert_eq!(pane.ask("alternate_on"), "0");
    pane.enter("clear; fg");
    in_chat(&pane);
    pane.enter("/to carol");
    pane.expect("carol: new");
    pane.enter("before the kill");
    pane.expect("·· alice  before the kill");
    signal(&pane, Signal::KILL);
    pane.expect("Killed");
    // Nobody can give a terminal back after that but its owner.
    pane.press(&["C-u"]);
    pane.enter("reset; stty sane; clear");
    pane.chat_as(&alice);
    in_chat(&pane);
    pane.press(&["Enter"]);
    pane.expect("before the kill");
    pane.press(&["C-q"]);
}

#[test]
fn without_a_terminal_that_can_move_its_cursor_it_is_the_line_mode() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let pane = Pane::open_with(80, 24, &[("TERM", "dumb")]);
    pane.chat_as(&alice);
    pane.expect("Type msg USER TEXT");
    // Somebody is there to decide, as in the other chat.
    let carol = Person::settle("carol", &broker.url());
    assert_eq!(carol.run(&["send", "alice", "let me in"]).code, 0);
    let screen = pane.expect("carol is new");
    assert!(!screen.contains("let me in"), "{screen}");
    pane.enter("/accept carol");
    pane.expect("From carol: let me in");
    pane.enter("/quit");
    pane.expect("ready>");
    let mut piped: Process = alice.start(&[]);
    piped.hush();
    assert!(piped.wait().success());
}

const NASTY: &[&str] = &[
    "\u{1b}[2J\u{1b}[H cleared",
    "\u{1b}]0;title\u{7}\u{1b}]52;c;cm0gLXJmIH4=\u{7} clipboard",
    "\u{9b}31mred \u{9d}52;c;AAAA\u{9c} c1",
    "\u{1b}P+q544e\u{1b}\\ dcs \u{1b}_apc\u{1b}\\ \u{1b}^pm",
    "\u{1b}[?1049l\u{1b}[?25l\u{1b}c screens",
    "user\u{202e}gnp.exe\u{2066} turned",
    "\r14:05 ✓✓ bob  overwritten",
    "a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308} stacked",
    "",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_contact_changes_nothing_but_their_own_lines() {
    let (_broker, _bob, mut mallory, pane) = bob_and_mallory().await;
    let title = pane.ask("pane_title");
    for text in NASTY {
        mallory.send(&Forgery::text(text)).await;
    }
    mallory.send(&Forgery::text(&"x".repeat(60_000))).await;
    mallory.send(&Forgery::text(&"\n".repeat(30_000))).await;
    mallory.send(&Forgery::text("the last")).await;
    pane.wait_for("mallory in the list", |screen| screen.contains("mallory"));
    pane.press(&["Enter"]);
    pane.expect("the last");
    assert_eq!(pane.ask("pane_title"), title);
    assert_eq!(pane.clipboard(), "");
    assert_eq!(pane.ask("alternate_on"), "1");
    // Back through all of it, to the first.
    let mut steps = 0;
    while !pane.screen().contains("cleared") {
        pane.press(&["PageUp"]);
        steps += 1;
        assert!(steps < 200, "{}", pane.screen());
    }
    let screen = pane.screen();
    assert!(screen.contains("usergnp.exe turned"), "{screen}");
    for line in screen.lines().filter(|line| line.contains("overwritten")) {
        assert!(
            line.find("mallory") < line.find("14:05 ✓✓ bob") || !line.contains("mallory"),
            "{line}"
        );
    }
    assert!(
        screen.lines().last().unwrap().contains("● connected"),
        "{screen}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_files_are_no_paths_and_turn_nothing_and_a_flood_of_edits_and_offers_stops_no_key()
{
    let (_broker, _bob, mut mallory, pane) = bob_and_mallory().await;
    let folder = pane.home().join("in/deep");
    std::fs::create_dir_all(&folder).unwrap();
    pane.press(&["Enter"]);
    pane.expect("mallory: not verified");
    let content = b"harm".to_vec();
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let names = [
        ("../../.bashrc", "bashrc"),
        ("plan\u{202e}fdp.exe", "planfdp.exe"),
        ("a\u{1b}[2Jb\nc", "a[2Jbc"),
        ("/etc/passwd", "passwd"),
    ];
    for (number, (name, shown)) in (1..).zip(names) {
        let file = ForgedFile::new(name, &content, digest);
        mallory.send(&file.offer).await;
        // What comes back is the request, or a receipt; the chunk is taken when it was asked for.
        pane.expect(&format!("[file {shown} (4 B)"));
        let here = format!("is here: /save {number}");
        while !pane.screen().contains(&here) {
            mallory.receive().await;
            mallory.send(&file.chunk(&content)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pane.enter("/save ~/in/deep");
        pane.expect(&format!("in/deep/{shown}"));
        assert_eq!(std::fs::read(folder.join(shown)).unwrap(), content);
    }
    let count = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!(count(&folder), names.len());
    assert_eq!(count(&pane.home().join("in")), 1);
    assert!(!pane.home().join(".bashrc").exists());
    let own = Forgery::text("mine");
    mallory.send(&own).await;
    let content = |content: serde_json::Value| Forgery::of(content.to_string().into_bytes());
    let mut flood: Vec<Forgery> = (0..1_500)
        .map(|number| {
            let text = format!("edit {number} \u{202e}{}", "x".repeat(500));
            content(json!({ "kind": "text", "text": text, "edits": own.id.to_string() }))
        })
        .collect();
    flood.extend(
        (0..200).map(|number| ForgedFile::new(&format!("f{number}"), &[0; 4_000], [0; 32]).offer),
    );
    mallory.flood(&flood);
    // In the middle of it, keys work.
    pane.press(&["F1"]);
    pane.expect("KEYS");
    pane.press(&["Escape"]);
    pane.expect_no("KEYS");
    let next = Forgery::text("the last");
    let sealed = mallory.seal(&next);
    while mallory.publish(&sealed).await == PubAckReason::QuotaExceeded {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pane.expect("the last");
    pane.enter("/files");
    let screen = pane.expect("from mallory: f");
    // Two lines each: those that were saved, and no more open ones than are kept of one sender.
    let lines = (names.len() + 64) * 2;
    assert!(screen.contains(&format!("of {lines} lines")), "{screen}");
    pane.press(&["Escape"]);
    pane.press(&["C-q"]);
    pane.expect("ready>");
}

#[test]
fn a_line_of_a_mebibyte_is_pasted_in_no_time_and_cut_to_what_a_message_can_have() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let pane = Pane::open(80, 24);
    pane.chat_as(&alice);
    in_chat(&pane);
    pane.enter("/to bob");
    pane.expect("bob: new");
    let path = pane.home().join("line");
    std::fs::write(&path, "x".repeat(1024 * 1024)).unwrap();
    pane.paste_file(&path);
    pane.expect("xxxxxxxxxx");
    pane.press(&["C-u"]);
    pane.expect_no("xxxxxxxxxx");
    pane.enter("and on");
    pane.expect("alice  and on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_takes_a_bounded_amount_of_memory_and_stops_no_key() {
    let (_broker, _bob, mut mallory, pane) = bob_and_mallory().await;
    mallory.send(&Forgery::text("the first")).await;
    pane.wait_for("mallory", |screen| screen.contains("mallory"));
    pane.press(&["Enter"]);
    pane.expect("the first");
    let before = resident_kib(pane.pid());
    for n in 0..400 {
        let text = format!("{n} {}", "flood ".repeat(8_000));
        let sealed = mallory.seal(&Forgery::text(&text));
        // The broker holds up who floods a mailbox: as fast as he may.
        while mallory.publish(&sealed).await == PubAckReason::QuotaExceeded {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if n == 200 {
            // In the middle of it, keys work.
            pane.press(&["F1"]);
            pane.expect("KEYS");
            pane.press(&["Escape"]);
            pane.expect_no("KEYS");
        }
    }
    mallory.send(&Forgery::text("the last")).await;
    pane.expect("the last");
    let grown = resident_kib(pane.pid()).saturating_sub(before);
    println!("19 MB of messages, and {grown} KiB more memory");
    assert!(grown < 128 * 1024, "{grown} KiB");
}
