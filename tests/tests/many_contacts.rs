//! Somebody who knows more people than one session may subscribe to.

use std::sync::Arc;

use sealpost_tests::{Broker, BrokerOptions, Device, Forger, Forgery, PATIENCE, Person};
use serde_json::Value;
use tokio::task::JoinSet;

const CONTACTS: usize = 1_500;
/// So many write at once.
const AT_ONCE: usize = 20;

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[tokio::test]
async fn with_1500_contacts_mail_comes_and_goes_also_after_the_broker_was_away() {
    let mut broker = Broker::start(BrokerOptions::default());
    let bob = Person::settle("bob", &broker.url());
    let count = CONTACTS.to_string();
    let mut listen = bob.start(&["--json", "listen", "--count", &count]);
    listen.expect("\"connected\"");
    let pattern = Arc::new(Device::new("pattern"));
    let address = broker.address();
    let mut writers = JoinSet::new();
    for first in 0..AT_ONCE {
        let pattern = Arc::clone(&pattern);
        writers.spawn(async move {
            for number in (first..CONTACTS).step_by(AT_ONCE) {
                let one = pattern.under_another_name(&format!("contact-{number}"));
                one.register(address).await;
                let mut one = Forger::connect(address, one, "bob").await;
                one.send(&Forgery::text(&format!("hello {number}"))).await;
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert!(listen.wait().success(), "{:?}", listen.stderr());
    assert_eq!(bob.run(&["--json", "contacts"]).events().len(), CONTACTS);

    let mut listen = bob.start(&["--json", "listen"]);
    listen.expect("\"connected\"");
    broker.kill();
    let (lost, _) = listen.expect_from(0, "\"disconnected\"");
    broker.restart();
    listen.expect_from(lost, "\"connected\"");
    for number in [0, 700, CONTACTS - 1] {
        let to = format!("contact-{number}");
        let sent = bob.run(&["send", "--wait", "sent", "--timeout", "60s", &to, "hi"]);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let late = pattern.under_another_name("late");
    late.register(address).await;
    let mut late = Forger::connect(address, late, "bob").await;
    late.send(&Forgery::text("hello, too")).await;
    listen.expect("hello, too");
    // Until the keys of all who fit have come there may be something to refuse.
    let until = std::time::Instant::now() + PATIENCE;
    while bob
        .run(&["--json", "outbox"])
        .events()
        .iter()
        .any(|e| e["event"] == "queued")
    {
        assert!(std::time::Instant::now() < until);
    }
    assert!(listen.terminate().success(), "{:?}", listen.stderr());
    let refused: Vec<Value> = listen
        .stdout()
        .iter()
        .map(|line| event(line))
        .filter(|event| {
            ["alarm", "error", "refused"]
                .iter()
                .any(|bad| event["event"] == *bad)
        })
        .collect();
    assert_eq!(refused, Vec::<Value>::new());
}
