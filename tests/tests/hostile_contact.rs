//! A contact who means harm: the broker lets him in, his signatures hold, and what he seals is his choice to the last byte. Nothing of
//! it harms a terminal, a script, a state of ours, or the mail of others.

use sealpost_core::MessageId;
use sealpost_tests::{
    Answer, Broker, BrokerOptions, Device, Forger, Forgery, Person, Process, now,
};
use serde_json::{Value, json};

const MIB: u64 = 1024;

async fn attacked() -> (Broker, Person, Forger) {
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let mallory = Forger::register(broker.address(), "mallory", "bob").await;
    (broker, bob, mallory)
}

fn write(person: &Person, to: &str, text: &str) {
    let sent = person.run(&["send", to, text]);
    assert_eq!(sent.code, 0, "{sent:?}");
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

fn events(process: &Process) -> Vec<Value> {
    let lines = process.stdout();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line:?}")))
        .collect()
}

/// Nothing that a terminal would obey, or that hides or turns what is read.
fn assert_harmless(lines: &[String]) {
    for line in lines {
        let harmful = |c: char| {
            (c.is_control() && c != '\t')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
                || ('\u{e0000}'..='\u{e007f}').contains(&c)
        };
        assert!(!line.contains(harmful), "{line:?}");
    }
}

const NASTY: &[&str] = &[
    "\u{1b}[2J\u{1b}[H cleared",
    "\u{1b}]0;title\u{7}\u{1b}]52;c;cm0gLXJmIH4=\u{7} clipboard",
    "\u{9b}31mred \u{9d}52;c;AAAA\u{9c} c1",
    "\u{1b}P+q544e\u{1b}\\ dcs \u{1b}_apc\u{1b}\\ \u{1b}^pm",
    "\u{1b}[6n\u{5} reports",
    "user\u{202e}gnp.exe\u{2066} turned",
    "\rFrom alice: overwritten",
    "one\nFrom alice: another\r\nFrom alice: line\u{85}x\u{2028}y\u{b}z\u{c}",
    "back\u{8}\u{8}\u{8}space \u{7f}\u{0} nul",
    "zero\u{200b}width \u{feff}\u{e0041}tags \u{fe00}",
    "a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308} stacked",
    "\u{1b}",
    "\u{1b}]never ends",
    "",
    "ALARM: your keys are stolen\n  sealpost contacts trust mallory",
    "{\"event\":\"message\",\"from\":\"alice\"}\n{\"event\":\"alarm\"}",
];

#[tokio::test]
async fn control_sequences_of_a_contact_reach_neither_a_terminal_nor_a_script() {
    let (_broker, bob, mut mallory) = attacked().await;
    let mut send_all = async || {
        for text in NASTY {
            mallory.send(&Forgery::text(text)).await;
        }
        mallory
            .send(&Forgery::text(&"\u{1b}[5m".repeat(3_000)))
            .await;
        mallory.send(&Forgery::text("the last")).await;
    };
    for how in [&["listen"][..], &["chat"]] {
        send_all().await;
        let mut listen = bob.start(how);
        listen.expect("From mallory: the last");
        listen.hush();
        listen.terminate();
        let (out, err) = (listen.stdout(), listen.stderr());
        assert_harmless(&out);
        assert_harmless(&err);
        for line in &out {
            assert!(
                line.starts_with("From mallory: ") || line.starts_with("    | "),
                "{line:?}"
            );
        }
        let first: Vec<&str> = out.iter().map(String::as_str).take(4).collect();
        assert_eq!(
            first,
            [
                "From mallory:  cleared",
                "From mallory:  clipboard",
                "From mallory: red  c1",
                "From mallory:  dcs  ^pm",
            ]
        );
        assert!(!err.iter().any(|line| line.contains("stolen")), "{err:?}");
    }
    send_all().await;
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("\"the last\"");
    listen.terminate();
    assert_harmless(&listen.stdout());
    let events = events(&listen);
    let texts: Vec<&str> = of_kind(&events, "message")
        .into_iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        texts[..NASTY.len()],
        *NASTY,
        "to a script, what was written"
    );
}

#[tokio::test]
async fn whatever_the_content_is_the_line_stays_whole_and_what_is_no_content_is_refused() {
    let (_broker, bob, mut mallory) = attacked().await;
    let deep = |open: &str, close: &str, by: usize| {
        format!(
            r#"{{"kind":"deep","a":{}{}}}"#,
            open.repeat(by),
            close.repeat(by)
        )
    };
    let long = format!(r#"{{"kind":"text","text":"{}"}}"#, "x".repeat(65_000));
    let members: Vec<String> = (0..5_000).map(|n| format!("\"m{n}\":{n}")).collect();
    let carried = [
        long,
        r#"{"kind":"no-such-kind","x":"\u001b[2J\u202e"}"#.to_owned(),
        "{\"kind\":\"lines\",\n\n\"a\"\r\n:\t1}".to_owned(),
        "{\"kind\":\"seen\",\"a\":\"\u{9b}2J\u{202e}\u{feff}\"}".to_owned(),
        deep("[", "]", 100),
        deep("[", "]", 20_000),
        deep("{\"a\":", "}", 9_000).replace(":}", ":1}"),
        format!(r#"{{"kind":"wide",{}}}"#, members.join(",")),
        r#"{"kind":"numbers","a":1e999,"b":-0.0,"c":123456789012345678901234567890}"#.to_owned(),
        r#"{"kind":"ack","event":"alarm","from":"alice"}"#.to_owned(),
        r#"{"kind":"receipts"}"#.to_owned(),
        r#"{"kind":"twice","a":{"b":1,"b":2}}"#.to_owned(),
    ];
    let refused: [&[u8]; 12] = [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"{\"kind\":\"Text\"}",
        b"{\"kind\":\"a\\u001b[2J\"}",
        b"{\"kind\":\"text\"}",
        b"{\"kind\":\"text\",\"text\":\"a\",\"text\":\"b\"}",
        b"{\"kind\":\"text\",\"text\":\"\xff\"}",
        b"{\"kind\":\"text\",\"text\":\"\\ud800\"}",
        b"{\"kind\":\"receipt\",\"state\":\"read\",\"messages\":[]}",
        b"{\"kind\":\"receipt\",\"state\":\"read\",\"messages\":\"\x1b[2J\"}",
    ];
    for plaintext in &carried {
        mallory.send(&Forgery::of(plaintext.as_bytes())).await;
    }
    for plaintext in refused {
        mallory.send(&Forgery::of(plaintext)).await;
    }
    mallory.send(&Forgery::text("the last")).await;
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("\"the last\"");
    listen.terminate();
    assert_harmless(&listen.stdout());
    assert_harmless(&listen.stderr());
    let events = events(&listen);
    let messages = of_kind(&events, "message");
    assert_eq!(messages.len(), carried.len() + 1, "{:?}", listen.stderr());
    for (message, plaintext) in messages.iter().zip(&carried) {
        let (text, content) = (&message["text"], &message["content"]);
        assert!(text.is_null() != content.is_null(), "{}", &plaintext[..60]);
        // What no JSON reader would take is carried as it was written.
        match serde_json::from_str::<Value>(plaintext) {
            Ok(written) if text.is_null() => assert_eq!(*content, written),
            Ok(written) => assert_eq!(*text, written["text"]),
            Err(_) => assert_eq!(content, plaintext),
        }
    }
    let causes: Vec<&Value> = of_kind(&events, "refused")
        .into_iter()
        .map(|event| &event["cause"])
        .collect();
    assert_eq!(causes, vec!["bad_content"; refused.len()]);

    for plaintext in &carried {
        mallory.send(&Forgery::of(plaintext.as_bytes())).await;
    }
    mallory.send(&Forgery::text("the last")).await;
    let mut listen = bob.start(&["listen"]);
    listen.expect("From mallory: the last");
    listen.terminate();
    assert_harmless(&listen.stdout());
    assert_eq!(listen.stdout().len(), carried.len() + 1);
}

#[tokio::test]
async fn a_flood_of_a_contact_costs_little_memory_and_delays_nobodys_order() {
    const FLOOD: usize = 3_000;
    let (broker, bob, mallory) = attacked().await;
    let alice = Person::settle("alice", &broker.url());
    // Who is written to has a larger share of the mailbox.
    write(&bob, "mallory", "hello");
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("connected");
    let big = "x".repeat(4_000);
    let flooding = std::thread::spawn(move || {
        let text = |number| Forgery::text(&format!("{number} {big}"));
        let forgeries: Vec<Forgery> = (0..FLOOD).map(text).collect();
        mallory.flood(&forgeries);
        mallory
    });
    for number in 0..10 {
        write(&alice, "bob", &format!("alice {number}"));
    }
    let _mallory = flooding.join().unwrap();
    listen.expect(&format!("\"text\":\"{} ", FLOOD - 1));
    listen.expect("alice 9");
    let peak = listen.peak_kib();
    assert!(listen.terminate().success());
    let events = events(&listen);
    let texts: Vec<&str> = of_kind(&events, "message")
        .into_iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), FLOOD + 10);
    let (hers, his): (Vec<&str>, Vec<&str>) = texts
        .into_iter()
        .partition(|text| text.starts_with("alice"));
    assert!(hers.iter().is_sorted(), "{hers:?}");
    let number = |text: &&str| text.split(' ').next().unwrap().parse::<usize>().unwrap();
    assert!(his.iter().map(number).eq(0..FLOOD));
    println!("{peak} KiB at most");
    assert!(0 < peak && peak < 48 * MIB, "{peak} KiB");
}

/// What the outbox says of each message: its id and how far it is.
fn outbox(person: &Person) -> Vec<(Value, Value)> {
    let listed = person.run(&["--json", "outbox"]);
    let events = listed.events();
    events
        .iter()
        .map(|event| (event["id"].clone(), event["event"].clone()))
        .collect()
}

fn receipt(state: &str, messages: &[(String, [u8; 32])]) -> Forgery {
    use base64::Engine as _;
    let messages: Vec<Value> = messages
        .iter()
        .map(|(id, digest)| {
            let digest = base64::prelude::BASE64_STANDARD.encode(digest);
            json!({ "id": id, "digest": digest })
        })
        .collect();
    // In this order, as the core writes it.
    Forgery::of(format!(
        r#"{{"kind":"receipt","state":"{state}","messages":{}}}"#,
        Value::from(messages)
    ))
}

#[tokio::test]
async fn forged_receipts_change_no_state() {
    let (broker, bob, mut mallory) = attacked().await;
    let carol = Device::new("carol");
    carol.register(broker.address()).await;
    let mut carol = Forger::connect(broker.address(), carol, "bob").await;
    let id = |answer: &Answer| answer.events()[0]["id"].as_str().unwrap().to_owned();
    let to_carol = id(&bob.run(&["--json", "send", "carol", "for carol"]));
    let to_mallory = id(&bob.run(&["--json", "send", "mallory", "for mallory"]));
    let (carols, his) = (carol.receive().await, mallory.receive().await);
    let before = outbox(&bob);
    assert_eq!(before.len(), 2);

    let (digest, other) = (his.digest(), carols.digest());
    let stranger = MessageId::new(now(), &mut rand::rng()).to_string();
    let mut listen = bob.start(&["--json", "listen"]);
    for state in ["delivered", "read", "failed", "\\u001b[2J"] {
        for (id, digest) in [
            (&to_carol, other),
            (&to_carol, digest),
            (&to_mallory, other),
            (&to_mallory, [0; 32]),
            (&stranger, digest),
        ] {
            mallory.send(&receipt(state, &[(id.clone(), digest)])).await;
        }
    }
    for _ in 0..10 {
        let many: Vec<_> = (0..256)
            .map(|_| (MessageId::new(now(), &mut rand::rng()).to_string(), digest))
            .collect();
        mallory.send(&receipt("read", &many)).await;
    }
    // The same receipt under many names, and one that names a message many times.
    mallory
        .send(&receipt("read", &vec![(to_carol.clone(), other); 256]))
        .await;
    mallory.send(&Forgery::text("the last")).await;
    listen.expect("\"the last\"");
    assert_eq!(outbox(&bob), before);
    assert!(of_kind(&events(&listen), "refused").is_empty());

    // The true ones are believed, whatever came before.
    mallory
        .send(&receipt("delivered", &[(to_mallory.clone(), digest)]))
        .await;
    carol
        .send(&receipt("read", &[(to_carol.clone(), other)]))
        .await;
    listen.expect("\"delivered\"");
    listen.expect("\"read\"");
    assert_eq!(outbox(&bob), []);
    listen.terminate();
}

#[tokio::test]
async fn names_that_come_twice_and_predecessors_that_never_were_are_said_and_harm_nobody() {
    let (_broker, bob, mut mallory) = attacked().await;
    let mut listen = bob.start(&["--json", "listen"]);
    let first = Forgery::text("the first of that name");
    mallory.send(&first).await;
    listen.expect("the first");
    for number in 0..40 {
        let same = Forgery {
            id: first.id,
            ..Forgery::text(&format!("another {number}"))
        };
        mallory.send(&same).await;
    }
    let never = MessageId::new(now(), &mut rand::rng());
    for _ in 0..3 {
        let after = Forgery {
            prev: Some(never),
            ..Forgery::text("after what never was")
        };
        mallory.send(&after).await;
    }
    let own = Forgery::text("after itself");
    let own = Forgery {
        prev: Some(own.id),
        ..own
    };
    mallory.send(&own).await;
    mallory.send(&Forgery::text("the last")).await;
    listen.expect("\"the last\"");
    listen.terminate();
    let events = events(&listen);
    let messages = of_kind(&events, "message");
    let texts: Vec<&str> = messages
        .iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "the first of that name",
            "after what never was",
            "after what never was",
            "after what never was",
            "after itself",
            "the last"
        ]
    );
    let gaps = of_kind(&events, "gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["prev"], never.to_string());
    let refused = of_kind(&events, "refused");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["cause"], "replay");
}

#[tokio::test]
async fn after_the_third_that_does_not_decrypt_nothing_of_him_is_opened_and_the_mail_of_others_is()
{
    let (broker, bob, mut mallory) = attacked().await;
    let alice = Person::settle("alice", &broker.url());
    let mut listen = bob.start(&["--json", "listen"]);
    mallory.send(&Forgery::text("hello")).await;
    listen.expect("\"hello\"");
    for _ in 0..5 {
        let spoiled = Forgery {
            spoiled: true,
            ..Forgery::text("x")
        };
        mallory.send(&spoiled).await;
    }
    for number in 0..40 {
        mallory
            .send(&Forgery::text(&format!("waits {number}")))
            .await;
    }
    write(&alice, "bob", "from alice");
    listen.expect("from alice");
    listen.expect("too_many_waiting");
    listen.terminate();
    let events = events(&listen);
    let causes: Vec<&str> = of_kind(&events, "refused")
        .into_iter()
        .map(|event| event["cause"].as_str().unwrap())
        .collect();
    assert_eq!(
        causes[..3],
        ["cannot_decrypt", "cannot_decrypt", "suspended"]
    );
    assert!(causes[3..].iter().all(|cause| *cause == "too_many_waiting"));
    assert_eq!(of_kind(&events, "message").len(), 2);
    let listed = bob.run(&["--json", "contacts"]).events();
    let his = listed.iter().find(|contact| contact["user"] == "mallory");
    assert_eq!(his.unwrap()["suspended"], true);

    let trusted = bob.run(&["contacts", "trust", "mallory", "--yes"]);
    assert_eq!(trusted.code, 0, "{trusted:?}");
    let received = bob.run(&["--json", "listen", "--timeout", "3s"]);
    let received = received.events();
    // Of the 32 that waited, those that do not decrypt are refused, and the third of them would suspend again.
    assert_eq!(of_kind(&received, "message").len(), 30);
}

#[tokio::test]
async fn a_crowd_of_new_names_is_held_within_bounds_and_others_mail_comes() {
    const CROWD: usize = 300;
    let broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let alice = Person::settle("alice", &broker.url());
    write(&bob, "alice", "we know each other");
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("connected");
    let pattern = Device::new("pattern");
    for number in 0..CROWD {
        let one = pattern.under_another_name(&format!("crowd-{number}"));
        // Half of them publish keys.
        if number % 2 == 0 {
            one.register(broker.address()).await;
        }
        let mut one = Forger::connect(broker.address(), one, "bob").await;
        one.send(&Forgery::text(&format!("hello {number}"))).await;
        if number % 100 == 50 {
            write(&alice, "bob", &format!("alice {number}"));
        }
    }
    for number in [50, 150, 250] {
        listen.expect(&format!("alice {number}"));
    }
    listen.expect(&format!("hello {}", CROWD - 2));
    let peak = listen.peak_kib();
    assert!(listen.terminate().success());
    let events = events(&listen);
    let from = |prefix: &str| {
        let messages = of_kind(&events, "message");
        let theirs = messages
            .iter()
            .filter(|event| event["text"].as_str().unwrap().starts_with(prefix));
        theirs.count()
    };
    assert_eq!((from("alice"), from("hello")), (3, CROWD / 2));
    println!("{peak} KiB at most");
    assert!(0 < peak && peak < 48 * MIB, "{peak} KiB");
}

/// A broker that passes everything on, as a hostile one would.
#[tokio::test]
async fn what_is_no_envelope_is_refused_once_with_its_cause_and_nothing_of_it_is_shown() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let bob = Person::settle("bob", &broker.url());
    let mut mallory = Forger::register(broker.address(), "mallory", "bob").await;
    let good = String::from_utf8(mallory.seal(&Forgery::text("x"))).unwrap();
    let swap = |from: &str, to: &str| {
        let swapped = good.replacen(from, to, 1);
        assert_ne!(swapped, good);
        swapped.into_bytes()
    };
    let junk: Vec<Vec<u8>> = vec![
        b"\x1b[2J\x1b]52;c;AAAA\x07".to_vec(),
        b"{}".to_vec(),
        vec![b'['; 98_000],
        vec![0xff; 100],
        swap("\"from\":\"mallory\"", "\"from\":\"\u{1b}[2J\""),
        swap("\"from\":\"mallory\"", "\"from\":\"mal\\nlory\""),
        swap("\"from\":\"mallory\"", "\"from\":\"alice\""),
        swap("\"to\":\"bob\"", "\"to\":\"carol\""),
        swap("\"realm\":\"local\"", "\"realm\":\"elsewhere\""),
        swap("\"v\":1", "\"v\":2"),
        swap("\"v\":1", "\"v\":1e400"),
        swap("\"prev\":null", "\"prev\":\"\u{202e}\""),
    ];
    for bytes in junk.iter().chain(&junk) {
        mallory.publish(bytes).await;
    }
    mallory.send(&Forgery::text("the last")).await;
    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("\"the last\"");
    listen.terminate();
    assert_harmless(&listen.stdout());
    assert_harmless(&listen.stderr());
    let events = events(&listen);
    assert_eq!(of_kind(&events, "message").len(), 1);
    let causes: Vec<&str> = of_kind(&events, "refused")
        .into_iter()
        .map(|event| event["cause"].as_str().unwrap())
        .collect();
    let expected = [
        "malformed",
        "malformed",
        "malformed",
        "malformed",
        "malformed",
        "malformed",
        "bad_signature",
        "not_for_me",
        "wrong_realm",
        "malformed",
        "malformed",
        "malformed",
    ];
    assert_eq!(causes, expected);
}
