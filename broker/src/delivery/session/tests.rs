use super::*;
use crate::delivery::message::Message;
use crate::protocol::outcome::Outcome;
use crate::protocol::packet::{Decoder, Incoming, IncomingPublish};
use crate::protocol::topic_name::TopicName;
use tokio_util::sync::CancellationToken;

const DURABLE: Duration = Duration::from_secs(60);
const SHARE: Share = Share {
    archive: false,
    messages: 10,
    bytes: 1 << 20,
};

fn session(expiry: Duration) -> (Session, Arc<Totals>) {
    let shared = Arc::new(Totals::default());
    (Session::new(expiry, SHARE, Arc::clone(&shared)), shared)
}

fn attach(session: &Session, expiry: Duration, receive_maximum: Option<u16>) -> Arc<Wire> {
    let wire = Arc::new(Wire::new(Version::V5, CancellationToken::new()));
    session.attach(
        Attachment {
            wire: Arc::clone(&wire),
            receive_maximum,
            max_packet: None,
        },
        expiry,
    );
    wire
}

fn delivery(text: &str, qos: QoS) -> Delivery {
    let topic = TopicName::parse(b"t").unwrap();
    let message = Arc::new(Message {
        topic,
        payload: text.to_owned().into(),
        properties: None,
        supersedes: false,
    });
    Delivery {
        message,
        qos,
        retain: false,
        subscription_ids: Vec::new(),
    }
}

fn push(session: &Session, text: &str) -> Pushed {
    let publisher = Arc::new(Wire::new(Version::V5, CancellationToken::new()));
    let receipt = Arc::new(Receipt::new(publisher, 0));
    session.push(delivery(text, QoS::AtLeastOnce), Some(&receipt))
}

fn sent(session: &Session, wire: &Arc<Wire>) -> Vec<(u16, String)> {
    let mut bytes = BytesMut::new();
    while session.fill(wire, &mut bytes, 1 << 20) == Filled::More {}
    let mut decoder = Decoder::new(1 << 20);
    decoder
        .decode(&mut BytesMut::from(
            &b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"[..],
        ))
        .unwrap();
    let mut sent = Vec::new();
    while let Some(packet) = decoder.decode(&mut bytes).unwrap() {
        let Incoming::Publish(IncomingPublish { pkid, payload, .. }) = packet else {
            panic!()
        };
        sent.push((pkid, String::from_utf8(payload.to_vec()).unwrap()));
    }
    sent
}

#[test]
fn a_durable_session_keeps_its_mail_while_nobody_is_connected() {
    let (session, _) = session(DURABLE);
    push(&session, "one");
    push(&session, "two");
    let wire = attach(&session, DURABLE, None);
    assert_eq!(
        sent(&session, &wire),
        [(1, "one".into()), (2, "two".into())]
    );
}

#[test]
fn what_was_not_acknowledged_comes_again_first_and_with_its_identifier() {
    let (session, _) = session(DURABLE);
    for text in ["one", "two", "three"] {
        push(&session, text);
    }
    let wire = attach(&session, DURABLE, Some(2));
    assert_eq!(
        sent(&session, &wire),
        [(1, "one".into()), (2, "two".into())]
    );
    session.acknowledge(&wire, 1);
    assert!(!session.detach(&wire, None));
    let wire = attach(&session, DURABLE, Some(2));
    assert_eq!(
        sent(&session, &wire),
        [(2, "two".into()), (3, "three".into())]
    );
}

#[test]
fn an_acknowledgement_between_reconnect_and_resend_skips_nothing() {
    let (session, _) = session(DURABLE);
    for text in ["one", "two", "three"] {
        push(&session, text);
    }
    let wire = attach(&session, DURABLE, None);
    sent(&session, &wire);
    session.detach(&wire, None);
    let wire = attach(&session, DURABLE, None);
    session.acknowledge(&wire, 2);
    assert_eq!(
        sent(&session, &wire),
        [(1, "one".into()), (3, "three".into())]
    );
}

#[test]
fn the_window_of_the_client_is_kept() {
    let (session, _) = session(DURABLE);
    let wire = attach(&session, DURABLE, Some(1));
    push(&session, "one");
    push(&session, "two");
    assert_eq!(sent(&session, &wire), [(1, "one".into())]);
    assert_eq!(sent(&session, &wire), []);
    session.acknowledge(&wire, 1);
    assert_eq!(sent(&session, &wire), [(2, "two".into())]);
}

#[test]
fn a_connection_that_was_taken_over_is_told_and_gets_nothing_more() {
    let (session, _) = session(DURABLE);
    let old = attach(&session, DURABLE, None);
    let new = attach(&session, DURABLE, None);
    push(&session, "one");
    assert_eq!(
        old.goodbye().unwrap().reason,
        DisconnectReasonCode::SessionTakenOver
    );
    assert_eq!(session.fill(&old, &mut BytesMut::new(), 100), Filled::Gone);
    assert_eq!(sent(&session, &new).len(), 1);
    assert!(
        !session.detach(&old, None),
        "the old connection's end does not end the session"
    );
    assert!(!session.is_expired(Instant::now() + DURABLE));
}

#[test]
fn a_full_mailbox_has_no_room_until_something_is_acknowledged() {
    let (session, shared) = session(DURABLE);
    for text in ["x"; 10] {
        assert!(session.has_room(129, usize::MAX));
        push(&session, text);
    }
    assert!(!session.has_room(129, usize::MAX));
    let wire = attach(&session, DURABLE, None);
    sent(&session, &wire);
    assert!(!session.has_room(129, usize::MAX), "in flight still counts");
    session.acknowledge(&wire, 1);
    assert!(session.has_room(130, usize::MAX));
    assert!(
        !session.has_room(130, shared.durable_bytes.load(Ordering::Relaxed)),
        "the bound over all mailboxes holds too"
    );
    drop(session);
    assert_eq!(shared.durable_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_clean_session_that_falls_behind_holds_acknowledgements_until_it_has_caught_up() {
    let (session, shared) = session(Duration::ZERO);
    let wire = attach(&session, Duration::ZERO, None);
    for _ in 0..LIVE_MESSAGES {
        assert_eq!(push(&session, "x"), Pushed::Queued);
    }
    let publisher = Arc::new(Wire::new(Version::V311, CancellationToken::new()));
    let receipt = Arc::new(Receipt::new(Arc::clone(&publisher), publisher.expect(1, 1)));
    assert_eq!(
        session.push(delivery("held", QoS::AtLeastOnce), Some(&receipt)),
        Pushed::Held
    );
    receipt.settle(Outcome::Accepted);
    drop(receipt);
    let acknowledged = || {
        let mut out = BytesMut::new();
        publisher.write_due(&mut out);
        !out.is_empty()
    };
    assert!(!acknowledged());
    assert!(session.holds_since().is_some());
    assert_eq!(sent(&session, &wire).len(), LIVE_MESSAGES + 1);
    assert!(acknowledged());
    assert!(session.holds_since().is_none());
    assert_eq!(shared.durable_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn the_end_of_a_slow_clean_session_releases_what_it_held() {
    let (session, _) = session(Duration::ZERO);
    let wire = attach(&session, Duration::ZERO, None);
    for _ in 0..LIVE_MESSAGES + 1 {
        push(&session, "x");
    }
    assert!(session.detach(&wire, None));
    assert!(session.holds_since().is_none());
}

#[test]
fn qos_0_is_dropped_when_nobody_is_connected_or_the_reader_is_slow() {
    let (session, _) = session(DURABLE);
    assert_eq!(
        session.push(delivery("x", QoS::AtMostOnce), None),
        Pushed::Dropped
    );
    let wire = attach(&session, DURABLE, None);
    assert_eq!(
        session.push(delivery("y", QoS::AtMostOnce), None),
        Pushed::Queued
    );
    assert_eq!(sent(&session, &wire), [(0, "y".into())]);
}

#[test]
fn identifiers_go_round_and_never_meet_one_in_use() {
    let (session, _) = session(DURABLE);
    let wire = attach(&session, DURABLE, None);
    push(&session, "first");
    assert_eq!(sent(&session, &wire), [(1, "first".into())]);
    for sent_so_far in 1..PKIDS {
        push(&session, "x");
        let pkid = sent(&session, &wire)[0].0;
        assert_eq!(u64::from(pkid), sent_so_far + 1);
        session.acknowledge(&wire, pkid);
    }
    push(&session, "waits");
    assert_eq!(sent(&session, &wire), [], "1 is still in use");
    session.acknowledge(&wire, 1);
    assert_eq!(sent(&session, &wire), [(1, "waits".into())]);
}

#[test]
fn what_is_sent_again_keeps_to_the_window_of_the_new_connection() {
    let (session, _) = session(DURABLE);
    for text in ["one", "two", "three"] {
        push(&session, text);
    }
    let wire = attach(&session, DURABLE, Some(3));
    assert_eq!(sent(&session, &wire).len(), 3);
    session.detach(&wire, None);
    let wire = attach(&session, DURABLE, Some(1));
    assert_eq!(sent(&session, &wire), [(1, "one".into())]);
}

#[test]
fn what_is_too_large_to_be_sent_again_does_not_block_the_window() {
    let (session, shared) = session(DURABLE);
    push(&session, &"x".repeat(1000));
    let wire = attach(&session, DURABLE, Some(1));
    assert_eq!(sent(&session, &wire).len(), 1);
    session.detach(&wire, None);

    push(&session, "small");
    let wire = Arc::new(Wire::new(Version::V5, CancellationToken::new()));
    session.attach(
        Attachment {
            wire: Arc::clone(&wire),
            receive_maximum: Some(1),
            max_packet: Some(100),
        },
        DURABLE,
    );
    assert_eq!(sent(&session, &wire), [(2, "small".into())]);
    session.acknowledge(&wire, 2);
    assert_eq!(shared.durable_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_clean_session_that_never_acknowledges_is_bounded_in_bytes_too() {
    let (session, _) = session(Duration::ZERO);
    let wire = attach(&session, Duration::ZERO, None);
    let text = "x".repeat(64 * 1024);
    let mut held = false;
    for _ in 0..1_000 {
        held |= push(&session, &text) == Pushed::Held;
        let mut out = BytesMut::new();
        session.fill(&wire, &mut out, 1 << 20);
    }
    let bytes = session.lock().bytes();
    assert!(
        held,
        "{bytes} bytes are kept for it and nobody is slowed down"
    );
}

#[test]
fn a_clean_session_that_becomes_durable_holds_nobody_any_more() {
    let (session, _) = session(Duration::ZERO);
    attach(&session, Duration::ZERO, None);
    for _ in 0..LIVE_MESSAGES + 1 {
        push(&session, "x");
    }
    assert!(session.holds_since().is_some());
    // MQTT 5: taken over without clean start, with an expiry.
    attach(&session, DURABLE, None);
    assert!(session.holds_since().is_none());
}

#[test]
fn a_newer_key_bundle_replaces_the_older_one_that_waits() {
    let (session, shared) = session(DURABLE);
    let bundle = |text: &str| {
        let mut delivery = delivery(text, QoS::AtLeastOnce);
        let message = Arc::get_mut(&mut delivery.message).unwrap();
        message.supersedes = true;
        delivery
    };
    push(&session, "mail");
    session.push(bundle("an older and longer one"), None);
    session.push(bundle("newer"), None);
    assert_eq!(session.waiting(), 2);
    let wire = attach(&session, DURABLE, None);
    assert_eq!(
        sent(&session, &wire),
        [(1, "newer".into()), (2, "mail".into())]
    );
    session.acknowledge(&wire, 1);
    session.acknowledge(&wire, 2);
    assert_eq!(shared.durable_bytes.load(Ordering::Relaxed), 0);
}
