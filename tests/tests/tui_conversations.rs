//! What a conversation needs, in the chat over the whole terminal: files, answers, edits, deletions, messages that disappear, and
//! people who are new.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use sealpost_tests::{Broker, BrokerOptions, Pane, Person};
use sha2::{Digest, Sha256};

fn in_chat(pane: &Pane) {
    pane.expect("● connected");
}

/// Two who have written to each other, each in the chat with the other.
fn talking(broker: &Broker) -> ((Person, Pane), (Person, Pane)) {
    let (alice, bob) = (
        Person::settle("alice", &broker.url()),
        Person::settle("bob", &broker.url()),
    );
    for (from, to) in [(&alice, "bob"), (&bob, "alice")] {
        let sent = from.run(&["send", to, "hello"]);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let (hers, his) = (Pane::open(80, 24), Pane::open(80, 24));
    hers.chat_as(&alice);
    his.chat_as(&bob);
    for (pane, other) in [(&hers, "bob"), (&his, "alice")] {
        in_chat(pane);
        pane.enter(&format!("/to {other}"));
        pane.expect(&format!("{other}: not verified"));
        pane.wait_for("both greetings", |screen| {
            screen.contains("alice  hello") && screen.contains("bob    hello")
        });
    }
    ((alice, hers), (bob, his))
}

/// A file of so many bytes that do not repeat.
fn file(folder: &Path, name: &str, size: usize) -> PathBuf {
    let mut bytes = vec![0; size];
    rand::fill(&mut bytes[..]);
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn sha256(path: &Path) -> [u8; 32] {
    Sha256::digest(std::fs::read(path).unwrap()).into()
}

#[test]
fn a_file_is_offered_seen_saved_where_it_was_asked_for_and_overwrites_nothing() {
    let broker = Broker::start(BrokerOptions::default());
    let ((_alice, hers), (_bob, his)) = talking(&broker);
    let (plans, other) = (
        file(hers.home(), "plans.pdf", 3_000_000),
        file(hers.home(), "plants.txt", 10),
    );
    // The shell of her pane is in her home.
    hers.type_text("/file ~/pl");
    hers.press(&["Tab"]);
    let screen = hers.expect("plants.txt");
    assert!(screen.contains("> /file ~/plan"), "{screen}");
    hers.type_text("s");
    hers.press(&["Tab"]);
    hers.expect("> /file ~/plans.pdf");
    hers.press(&["Enter"]);
    his.expect("[file plans.pdf (3.00 MB)]");
    his.expect("is here: /save 1");
    hers.expect("they have it");
    let folder = his.home().join("in");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("plans.pdf"), "his own").unwrap();
    // What she says in between is not what he saves.
    hers.enter("Look at page three");
    his.expect("Look at page three");
    his.enter("/save ~/in");
    his.expect("saved as");
    let saved = folder.join("plans (1).pdf");
    assert_eq!(sha256(&saved), sha256(&plans));
    assert_eq!(std::fs::read(folder.join("plans.pdf")).unwrap(), b"his own");
    his.enter("/save");
    his.expect("Which file?");
    // The other way, and chosen with the keys.
    let answer = file(his.home(), "answer.bin", 200_000);
    his.enter(&format!("/file {}", answer.display()));
    hers.expect("answer.bin (200.00 kB)");
    hers.expect("is here: /save 2");
    hers.enter("Thank you");
    his.expect("Thank you");
    hers.press(&["C-Up", "Up"]);
    hers.expect("▌[file answer.bin");
    hers.enter(&format!("/save {}", hers.home().display()));
    hers.expect("saved as");
    // Her own is not taken for his.
    assert_eq!(sha256(&hers.home().join("answer.bin")), sha256(&answer));
    hers.enter("/files");
    let screen = hers.expect("from bob: answer.bin");
    assert!(screen.contains("to bob: plans.pdf"), "{screen}");
    hers.press(&["Escape"]);
    // For who is away, and taken back before it went.
    hers.enter("/to carol");
    hers.expect("carol: new");
    hers.enter(&format!("/file {}", other.display()));
    hers.expect("[file plants.txt");
    hers.expect("waits for them to fetch it");
    hers.enter("/cancel");
    hers.expect_no("waits for them to fetch it");
    hers.expect("cancelled");
    hers.enter("/file /no/such/file");
    hers.expect("cannot read /no/such/file");
}

#[test]
fn messages_are_answered_edited_deleted_and_disappear_on_both_screens() {
    let broker = Broker::start(BrokerOptions::default());
    let ((alice, hers), (bob, his)) = talking(&broker);
    hers.enter("Shall we meet at one?");
    his.expect("Shall we meet at one?");
    hers.enter("Or at too?");
    his.expect("Or at too?");
    // The last one, with the text there is to begin with.
    hers.press(&["M-e"]);
    hers.expect("> /edit Or at too?");
    hers.press(&["BSpace", "BSpace", "BSpace", "BSpace"]);
    hers.enter("two?");
    his.expect("Or at two?");
    his.expect("(edited)");
    // An edit is read with what it edits.
    his.look();
    his.expect_no("1 new");
    // Not the last one, which is chosen with the keys.
    his.press(&["C-Up", "Up"]);
    his.expect("▌Shall we meet at one?");
    his.type_text("Gladly");
    his.press(&["M-r", "Enter"]);
    hers.expect("> Shall we meet at one?");
    hers.expect("Gladly");
    his.expect_no("▌");
    // Hers, taken back; his, removed here alone.
    hers.press(&["C-Up", "Up"]);
    hers.expect("▌Or at two?");
    hers.enter("/delete");
    hers.expect("asked to delete it");
    his.expect_no("Or at two?");
    hers.expect_no("Or at two?");
    hers.press(&["C-Up"]);
    hers.expect("▌> Shall we");
    hers.enter("/delete");
    hers.expect("/delete here");
    hers.enter("/delete here");
    hers.expect_no("Gladly");
    assert!(his.screen().contains("Gladly"));
    hers.enter("/expire 5s");
    hers.expect("archive keeps the ciphertext");
    his.expect("messages disappear after");
    hers.enter("soon gone");
    his.expect("soon gone");
    his.expect_no("soon gone");
    hers.expect_no("soon gone");
    hers.enter("/expire off");
    his.expect("messages stay");
    hers.enter("this stays");
    his.expect("this stays");
    for pane in [&hers, &his] {
        pane.enter("/quit");
        pane.expect("ready>");
    }
    // What was seen is what is kept.
    for person in [&alice, &bob] {
        let history = person.run(&["history"]).stdout;
        assert!(history.contains("this stays"), "{history}");
        for gone in ["at two?", "at too?", "soon gone"] {
            assert!(!history.contains(gone), "{history}");
        }
    }
}

#[test]
fn who_is_new_waits_for_a_yes_in_the_chat_without_a_setting() {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let people = ["alice", "carol"].map(|name| Person::settle(name, &broker.url()));
    let pane = Pane::open(80, 24);
    pane.chat_as(&bob);
    in_chat(&pane);
    for person in &people {
        let sent = person.run(&["send", "bob", &format!("Hello from {}", person.name())]);
        assert_eq!(sent.code, 0, "{sent:?}");
        pane.expect(&format!("* {}", person.name()));
    }
    pane.enter("/to alice");
    pane.expect("ASKS TO BE LET IN");
    pane.expect("Hello from alice");
    pane.type_text("no word to a stranger");
    pane.press(&["Enter"]);
    pane.expect("alice asks to be let in ─");
    pane.enter("yes");
    pane.expect("alice: not verified");
    pane.expect("alice  Hello from alice");
    pane.enter("Hello Alice");
    let came = people[0].run(&["listen", "--count", "1", "--timeout", "30s"]);
    assert_eq!(came.stdout, "From bob: Hello Alice");
    pane.enter("/to carol");
    pane.expect("ASKS TO BE LET IN");
    pane.press(&["Enter"]);
    pane.expect("Hello from carol");
    pane.press(&["Escape"]);
    pane.expect("ASKS TO BE LET IN");
    pane.press(&["Enter"]);
    pane.expect("Type yes, or block");
    pane.enter("block");
    pane.expect("You have blocked carol");
    let sent = people[1].run(&["send", "bob", "Why?"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    pane.enter("/to alice");
    pane.expect("Hello Alice");
    assert!(!pane.screen().contains("Why?"));
    pane.press(&["C-q"]);
    pane.expect("ready>");
    // The commands that scripts use let in whom they are told to; what was decided stays.
    let listed = bob.run(&["contacts"]);
    assert!(listed.stdout.contains("carol  BLOCKED"), "{listed:?}");
}

#[test]
fn after_a_fault_of_our_own_the_terminal_is_as_it_was_and_says_what_happened() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let pane = Pane::open(80, 24);
    let before = pane.settings();
    pane.chat_as(&alice);
    in_chat(&pane);
    let pid = Pid::from_raw(pane.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::USR1).unwrap();
    pane.wait_for("the shell", |screen| screen.trim_end().ends_with("ready>"));
    assert!(pane.screen().contains("SIGUSR1"), "{}", pane.screen());
    assert_eq!(pane.settings(), before);
    assert_eq!(
        (pane.ask("alternate_on"), pane.ask("cursor_flag")),
        ("0".into(), "1".into())
    );
    // And it begins again.
    pane.chat_as(&alice);
    in_chat(&pane);
}

#[test]
fn a_terminal_that_changes_its_size_all_the_time_shows_all_that_comes_meanwhile() {
    let broker = Broker::start(BrokerOptions::default());
    let ((_alice, hers), (_bob, his)) = talking(&broker);
    let sizes = [(40, 10), (120, 40), (59, 12), (60, 6), (30, 3), (200, 50)];
    for (number, (columns, rows)) in (1..).zip(sizes) {
        hers.resize(columns, rows);
        his.enter(&format!("message {number}"));
        his.expect(&format!("message {number}"));
        hers.type_text("a");
    }
    hers.resize(80, 24);
    let screen = hers.wait_for("everything", |screen| {
        (1..=sizes.len()).all(|number| screen.contains(&format!("message {number}")))
            && screen.contains("> aaaaaa")
    });
    assert_eq!(screen.lines().count(), 24, "{screen}");
    hers.press(&["Enter"]);
    his.expect("aaaaaa");
}
