//! Trust that does not begin with the broker: contact links, QR codes, and whom a policy lets one write to.

use sealpost_tests::{Answer, Broker, BrokerOptions, Person};

const RECEIVE: [&str; 5] = ["listen", "--count", "1", "--timeout", "30s"];

fn people() -> (Broker, Person, Person) {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    (broker, alice, bob)
}

fn member(answer: &Answer, event: &str, name: &str) -> String {
    let events = answer.events();
    let event = events
        .iter()
        .find(|each| each["event"] == event)
        .unwrap_or_else(|| panic!("{answer:?}"));
    event[name].as_str().unwrap().to_owned()
}

fn link(person: &Person) -> String {
    let printed = person.run(&["invite"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let link = member(&person.run(&["--json", "invite"]), "contact_link", "link");
    assert_eq!(
        printed.stdout, link,
        "a person gets the link and nothing else"
    );
    link
}

fn is_verified(person: &Person, contact: &str) -> bool {
    let listed = person.run(&["--json", "contacts"]).events();
    let contact = listed.iter().find(|event| event["user"] == contact);
    contact.is_some_and(|event| event["verified"] == true)
}

#[test]
fn whoever_was_added_by_their_link_is_verified_before_and_after_their_keys_come() {
    let (broker, alice, bob) = people();
    let added = alice.run(&["add", &link(&bob)]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(is_verified(&alice, "bob"));
    let sent = alice.run(&["--trust", "verified", "send", "bob", "hello"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(
        is_verified(&alice, "bob"),
        "the first bundle changes nothing"
    );
    assert_eq!(bob.run(&RECEIVE).stdout, "From alice: hello");

    // Carol's link comes before her keys.
    let carol = Person::newcomer("carol", &broker.url());
    assert_eq!(
        carol
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_eq!(alice.run(&["add", &link(&carol)]).code, 0);
    let early = alice.run(&["send", "--timeout", "1s", "carol", "hello"]);
    assert!(
        !early.stderr.contains("removed"),
        "nothing was published yet, so nothing is missing: {early:?}"
    );
}

#[test]
fn a_broker_that_gives_out_other_keys_than_the_links_is_found_at_once() {
    let (_broker, mut alice, _bob) = people();
    let honest = Broker::start(BrokerOptions::default());
    let true_bob = Person::settle("bob", &honest.url());
    assert_eq!(alice.run(&["add", &link(&true_bob)]).code, 0);
    let blocked = alice.run(&["send", "bob", "a secret"]);
    assert_eq!(blocked.code, 4, "{blocked:?}");
    assert!(blocked.stderr.contains("HAS CHANGED"), "{blocked:?}");
    assert!(is_verified(&alice, "bob"), "who is pinned stays");

    // At the honest broker all is well.
    alice.move_to(&honest.url());
    let sent = alice.run(&["send", "bob", "a secret"]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

#[test]
fn a_link_that_contradicts_what_is_known_changes_nothing() {
    let (_broker, alice, _bob) = people();
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    let elsewhere = Broker::start(BrokerOptions::default());
    let other_bob = Person::settle("bob", &elsewhere.url());
    let contradicted = alice.run(&["add", &link(&other_bob)]);
    assert_eq!(contradicted.code, 4, "{contradicted:?}");
    assert!(contradicted.stderr.matches("SHA256:").count() >= 2);
    assert!(!is_verified(&alice, "bob"));
    assert_eq!(alice.run(&["send", "bob", "still"]).code, 0);
}

#[test]
fn what_is_no_contact_link_is_said_to_be_what_it_is() {
    let (_broker, alice, bob) = people();
    let good = link(&bob);
    let invitation = format!("sealpost-invitation-{}", "A".repeat(43));
    let cases = [
        (invitation.as_str(), "--invitation"),
        ("https://example.org", "contact link"),
        (&good.replace("v=1", "v=2"), "version"),
        (&good.replace("realm=local", "realm=elsewhere"), "realm"),
        (&link(&alice), "your own"),
    ];
    for (text, said) in cases {
        let refused = alice.run(&["add", text]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    let wrong = alice.run(&["--invitation", &good, "keys", "show"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("sealpost add"), "{wrong:?}");
}

#[test]
fn the_policy_decides_to_whom_may_be_sent_and_the_attempt_pins_nobody() {
    let (_broker, alice, bob) = people();
    for policy in ["known", "verified"] {
        for _ in 0..2 {
            let refused = alice.run(&["--trust", policy, "send", "bob", "hello"]);
            assert_eq!(refused.code, 4, "{refused:?}");
            assert!(refused.stderr.contains("sealpost add"), "{refused:?}");
        }
    }
    // A message of bob's makes him known, not verified.
    assert_eq!(bob.run(&["send", "alice", "hello"]).code, 0);
    assert_eq!(alice.run(&RECEIVE).code, 0);
    assert_eq!(
        alice.run(&["--trust", "known", "send", "bob", "hi"]).code,
        0
    );
    let refused = alice.run(&["--trust", "verified", "send", "bob", "hi"]);
    assert_eq!(refused.code, 4);
    assert!(
        refused.stderr.contains("contacts verify bob"),
        "{refused:?}"
    );
    assert_eq!(
        alice.run(&["--trust", "nobody", "send", "bob", "hi"]).code,
        2
    );

    // In a chat too.
    let mut chat = alice.start(&["--trust", "verified", "chat"]);
    chat.say("msg bob hi");
    chat.hush();
    let code = chat.wait().code();
    assert_eq!(code, Some(4), "{:?}", chat.stderr());
}

#[test]
fn one_scan_of_the_others_screen_verifies_and_a_wrong_one_says_whose_key_is_wrong() {
    let (_broker, alice, bob) = people();
    assert_eq!(bob.run(&["send", "alice", "hello"]).code, 0);
    assert_eq!(alice.run(&RECEIVE).code, 0);
    let shown = |person: &Person, contact: &str| {
        let answer = person.run(&["--json", "contacts", "verify", contact]);
        assert_eq!(answer.code, 2, "nobody is there to ask: {answer:?}");
        member(&answer, "safety_number", "code")
    };
    let (alices, bobs) = (shown(&alice, "bob"), shown(&bob, "alice"));
    let scan = |text: &str| alice.run(&["contacts", "verify", "bob", "--scan", text]);

    let own = scan(&alices);
    assert_eq!(own.code, 2, "her own screen: {own:?}");
    // A broker in between gave each of the two another key for the other.
    let elsewhere = Broker::start(BrokerOptions::default());
    let mallory = Person::settle("bob", &elsewhere.url());
    let key = |text: &str, name: &str| {
        let (_, behind) = text.split_once(&format!("&{name}=")).unwrap();
        behind.split('&').next().unwrap().to_owned()
    };
    let other = key(&link(&mallory), "identity");
    for (member, said) in [("identity", "you know"), ("sees", "yours is")] {
        let wrong = scan(&bobs.replace(&key(&bobs, member), &other));
        assert_eq!(wrong.code, 4, "{wrong:?}");
        assert!(wrong.stderr.contains(said), "{said}: {wrong:?}");
        assert!(!is_verified(&alice, "bob"));
    }
    let right = scan(&bobs);
    assert_eq!(right.code, 0, "{right:?}");
    assert!(is_verified(&alice, "bob"));
    assert!(!is_verified(&bob, "alice"), "he has scanned nothing");
}
