use super::sending::PKIDS;
use super::*;
use crate::delivery::account::{Account, Pool};
use crate::delivery::bench::{Bench, Client, DURABLE, Sent, attachment, now, read, receipt};
use crate::delivery::mailbox::Delivery;
use crate::delivery::mailbox::{LIVE_MESSAGES, Pushed, Totals};
use crate::delivery::receipt::Receipt;
use crate::protocol::message::Message;
use crate::protocol::outcome::{Outcome, Quota};
use crate::protocol::topic_name::TopicName;
use bytes::BytesMut;

const SHARE: Share = Share {
    archive: false,
    messages: 10,
    bytes: 1 << 20,
    sender: 100,
    stranger: 100,
    parts: 16,
};

/// A session of its own, without a board.
struct Alone {
    bench: Bench,
    totals: Arc<Totals>,
    pool: Arc<Pool>,
}

impl Alone {
    fn new() -> Alone {
        Alone {
            bench: Bench::new(),
            totals: Arc::default(),
            pool: Arc::new(Pool::new(1 << 32, 10)),
        }
    }

    fn session(&self, expiry: Duration) -> Session {
        self.session_with(expiry, SHARE)
    }

    fn session_with(&self, expiry: Duration, share: Share) -> Session {
        let journal = self.bench.board.journal().clone();
        let durable = !expiry.is_zero();
        let kept = durable.then(|| (journal.clone(), journal.next_mailbox()));
        let account = Arc::new(Account::new(share, &self.pool));
        let mailbox = Arc::new(Mailbox::new(kept, account, Arc::clone(&self.totals)));
        let key = SessionKey {
            owner: "bob".into(),
            client_id: "b".into(),
        };
        Session::new(key, mailbox, durable.then_some(journal), expiry)
    }

    fn kept_bytes(&self) -> usize {
        self.totals
            .kept_bytes
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn attach(session: &Arc<Session>, expiry: Duration, receive_maximum: Option<u16>) -> Client {
    let attachment = attachment(receive_maximum);
    session.attach(attachment.clone(), expiry);
    Client {
        session: Arc::clone(session),
        attachment,
        present: true,
    }
}

fn delivery(text: &str, qos: QoS) -> Delivery {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let topic = TopicName::parse(b"t").unwrap();
    let message = Arc::new(Message {
        number: NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        topic,
        payload: text.to_owned().into(),
        properties: None,
        expires: None,
        sender: None,
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
    push_at(session, text, QoS::AtLeastOnce)
}

fn push_at(session: &Session, text: &str, qos: QoS) -> Pushed {
    session
        .mailbox()
        .push(delivery(text, qos), Some(&receipt()), None)
}

#[tokio::test]
async fn a_durable_session_keeps_its_mail_while_nobody_is_connected() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    push(&session, "one");
    push(&session, "two");
    let client = attach(&session, DURABLE, None);
    assert_eq!(client.texts().await, [(1, "one".into()), (2, "two".into())]);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_first_marked_and_with_its_identifier() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    for text in ["one", "two", "three"] {
        push(&session, text);
    }
    let client = attach(&session, DURABLE, Some(2));
    assert_eq!(client.texts().await, [(1, "one".into()), (2, "two".into())]);
    session.acknowledge(client.wire(), 1);
    assert!(!session.detach(client.wire(), None, now()));
    let client = attach(&session, DURABLE, Some(2));
    let message = |pkid, dup, text: &str| Sent::Message {
        pkid,
        dup,
        text: text.into(),
    };
    let expected = [message(2, true, "two"), message(3, false, "three")];
    assert_eq!(client.sent().await, expected);
}

#[tokio::test]
async fn the_window_of_the_client_is_kept() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let client = attach(&session, DURABLE, Some(1));
    push(&session, "one");
    push(&session, "two");
    assert_eq!(client.texts().await, [(1, "one".into())]);
    assert_eq!(client.texts().await, []);
    session.acknowledge(client.wire(), 1);
    assert_eq!(client.texts().await, [(2, "two".into())]);
}

#[tokio::test]
async fn a_connection_that_was_taken_over_is_told_and_gets_nothing_more() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let old = attach(&session, DURABLE, None);
    let new = attach(&session, DURABLE, None);
    push(&session, "one");
    assert_eq!(
        old.wire().goodbye().unwrap().reason,
        DisconnectReasonCode::SessionTakenOver
    );
    let filled = session.fill(old.wire(), &mut BytesMut::new(), 100, now());
    assert!(matches!(filled, Filled::Gone));
    assert_eq!(new.sent().await.len(), 1);
    assert!(
        !session.detach(old.wire(), None, now()),
        "the old connection's end does not end the session"
    );
    assert!(!session.is_expired(Instant::now() + DURABLE));
}

#[tokio::test]
async fn a_full_mailbox_has_no_room_until_something_is_acknowledged() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let account = Arc::clone(session.mailbox().account());
    let room = || account.room(1, 200, None, &mut 0);
    for text in ["x"; 10] {
        assert_eq!(room(), Ok(()));
        push(&session, text);
    }
    assert_eq!(room(), Err(Quota::Mailbox));
    let client = attach(&session, DURABLE, None);
    client.sent().await;
    assert_eq!(room(), Err(Quota::Mailbox), "in flight still counts");
    session.acknowledge(client.wire(), 1);
    assert_eq!(room(), Ok(()));
    drop((client, session));
    assert_eq!((alone.kept_bytes(), alone.pool.held()), (0, 0));
}

/// More than a mailbox has in memory: it falls behind, and comes back from disk in order and whole.
#[tokio::test]
async fn a_reader_however_slow_gets_everything_in_order_while_more_comes() {
    let alone = Alone::new();
    let share = Share {
        messages: 100_000,
        bytes: 1 << 30,
        ..SHARE
    };
    let session = Arc::new(alone.session_with(DURABLE, share));
    let client = attach(&session, DURABLE, Some(10));
    let (mut pushed, mut seen) = (0_u32, Vec::new());
    while seen.len() < 8_000 {
        // At first far more comes than is read.
        for _ in 0..if pushed < 7_000 { 50 } else { 5 } {
            push(&session, &pushed.to_string());
            pushed += 1;
        }
        for (pkid, text) in client.texts().await {
            session.acknowledge(client.wire(), pkid);
            seen.push(text);
        }
    }
    for (number, text) in seen.iter().enumerate() {
        assert_eq!(*text, number.to_string());
    }
}

#[tokio::test]
async fn what_comes_while_a_reader_catches_up_from_disk_is_neither_lost_nor_twice_there() {
    let alone = Alone::new();
    let share = Share {
        messages: 100_000,
        bytes: 1 << 30,
        ..SHARE
    };
    let session = Arc::new(alone.session_with(DURABLE, share));
    let writer = std::thread::spawn({
        let session = Arc::clone(&session);
        move || {
            for number in 0..20_000 {
                push(&session, &number.to_string());
            }
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 20_000 {
        let client = attach(&session, DURABLE, None);
        for (pkid, text) in client.texts().await {
            session.acknowledge(client.wire(), pkid);
            seen.push(text);
        }
        session.detach(client.wire(), None, now());
        tokio::task::yield_now().await;
    }
    writer.join().unwrap();
    for (number, text) in seen.iter().enumerate() {
        assert_eq!(*text, number.to_string());
    }
}

#[tokio::test]
async fn a_clean_session_that_falls_behind_holds_acknowledgements_until_it_has_caught_up() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(Duration::ZERO));
    let client = attach(&session, Duration::ZERO, None);
    for _ in 0..LIVE_MESSAGES {
        assert_eq!(push(&session, "x"), Pushed::Queued);
    }
    let publisher = attachment(None).wire;
    let slot = publisher.expect(QoS::AtLeastOnce, 1, 1);
    let receipt = Arc::new(Receipt::new(Arc::clone(&publisher), slot));
    let held = session
        .mailbox()
        .push(delivery("held", QoS::AtLeastOnce), Some(&receipt), None);
    assert_eq!(held, Pushed::Held);
    receipt.settle(Outcome::Accepted);
    drop(receipt);
    let acknowledged = || {
        let mut out = BytesMut::new();
        publisher.write_due(&mut out);
        !out.is_empty()
    };
    assert!(!acknowledged());
    assert!(session.mailbox().holds_since().is_some());
    assert_eq!(client.sent().await.len(), LIVE_MESSAGES + 1);
    assert!(acknowledged());
    assert!(session.mailbox().holds_since().is_none());
    assert_eq!(alone.kept_bytes(), 0);
}

#[test]
fn the_end_of_a_slow_clean_session_releases_what_it_held() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(Duration::ZERO));
    let client = attach(&session, Duration::ZERO, None);
    for _ in 0..LIVE_MESSAGES + 1 {
        push(&session, "x");
    }
    assert!(session.detach(client.wire(), None, now()));
    assert!(session.mailbox().holds_since().is_none());
}

#[tokio::test]
async fn qos_0_is_dropped_when_nobody_is_connected_or_the_reader_is_slow() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    assert_eq!(push_at(&session, "x", QoS::AtMostOnce), Pushed::Dropped);
    let client = attach(&session, DURABLE, None);
    assert_eq!(push_at(&session, "y", QoS::AtMostOnce), Pushed::Queued);
    assert_eq!(client.texts().await, [(0, "y".into())]);
    assert_eq!(alone.kept_bytes(), 0);
}

#[tokio::test]
async fn identifiers_go_round_and_never_meet_one_in_use() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let client = attach(&session, DURABLE, None);
    push(&session, "first");
    assert_eq!(client.texts().await, [(1, "first".into())]);
    for sent_so_far in 1..PKIDS {
        push(&session, "x");
        let pkid = client.texts().await[0].0;
        assert_eq!(u64::from(pkid), sent_so_far + 1);
        session.acknowledge(client.wire(), pkid);
    }
    push(&session, "waits");
    assert_eq!(client.texts().await, [], "1 is still in use");
    session.acknowledge(client.wire(), 1);
    assert_eq!(client.texts().await, [(1, "waits".into())]);
}

#[tokio::test]
async fn what_is_sent_again_keeps_to_the_window_of_the_new_connection() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    for text in ["one", "two", "three"] {
        push(&session, text);
    }
    let client = attach(&session, DURABLE, Some(3));
    assert_eq!(client.sent().await.len(), 3);
    session.detach(client.wire(), None, now());
    let client = attach(&session, DURABLE, Some(1));
    assert_eq!(client.texts().await, [(1, "one".into())]);
}

#[tokio::test]
async fn what_is_too_large_to_be_sent_again_does_not_block_the_window() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    push(&session, &"x".repeat(1000));
    let client = attach(&session, DURABLE, Some(1));
    assert_eq!(client.sent().await.len(), 1);
    session.detach(client.wire(), None, now());

    push(&session, "small");
    let attachment = Attachment {
        max_packet: Some(100),
        ..attachment(Some(1))
    };
    session.attach(attachment.clone(), DURABLE);
    let client = Client {
        session: Arc::clone(&session),
        attachment,
        present: true,
    };
    assert_eq!(client.texts().await, [(2, "small".into())]);
    session.acknowledge(client.wire(), 2);
    assert_eq!(alone.kept_bytes(), 0);
}

#[tokio::test]
async fn a_clean_session_that_never_acknowledges_is_bounded_in_bytes_too() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(Duration::ZERO));
    let client = attach(&session, Duration::ZERO, None);
    let text = "x".repeat(64 * 1024);
    let mut held = false;
    for _ in 0..1_000 {
        held |= push(&session, &text) == Pushed::Held;
        let mut out = BytesMut::new();
        session.fill(client.wire(), &mut out, 1 << 20, now());
    }
    let (_, bytes) = session.mailbox().load_of();
    assert!(
        held,
        "{bytes} bytes are kept for it and nobody is slowed down"
    );
}

#[tokio::test]
async fn a_newer_key_bundle_replaces_the_older_one_that_waits() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let bundle = |text: &str| {
        let mut delivery = delivery(text, QoS::AtLeastOnce);
        let message = Arc::get_mut(&mut delivery.message).unwrap();
        message.supersedes = true;
        session.mailbox().push(delivery, None, None);
    };
    push(&session, "mail");
    bundle("an older and longer one");
    bundle("newer");
    assert_eq!(session.mailbox().load_of().0, 2);
    let client = attach(&session, DURABLE, None);
    assert_eq!(
        client.texts().await,
        [(3, "newer".into()), (1, "mail".into())]
    );
    // Sent and not acknowledged, it gives way to a newer one all the same.
    bundle("newest");
    session.detach(client.wire(), None, now());
    let client = attach(&session, DURABLE, None);
    assert_eq!(
        client.texts().await,
        [(4, "newest".into()), (1, "mail".into())]
    );
    session.acknowledge(client.wire(), 4);
    session.acknowledge(client.wire(), 1);
    assert_eq!(alone.kept_bytes(), 0);
}

/// Both are in flight when the reader leaves: it comes back to the newer one.
#[tokio::test]
async fn of_two_key_bundles_in_flight_the_newer_one_is_sent_again() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let client = attach(&session, DURABLE, None);
    for text in ["older", "newer"] {
        let mut delivery = delivery(text, QoS::AtLeastOnce);
        Arc::get_mut(&mut delivery.message).unwrap().supersedes = true;
        session.mailbox().push(delivery, None, None);
        assert_eq!(client.texts().await.len(), 1);
    }
    session.detach(client.wire(), None, now());
    let client = attach(&session, DURABLE, None);
    assert_eq!(client.texts().await, [(2, "newer".into())]);
    session.acknowledge(client.wire(), 2);
    assert_eq!(alone.kept_bytes(), 0);
}

/// A client that reads nothing and sends PUBREC without end makes the broker hold nothing for it.
#[tokio::test]
async fn a_message_of_qos_2_received_again_and_again_has_one_release_waiting() {
    let alone = Alone::new();
    for expiry in [Duration::ZERO, DURABLE] {
        let session = Arc::new(alone.session(expiry));
        let client = attach(&session, expiry, None);
        push_at(&session, "x", QoS::ExactlyOnce);
        assert_eq!(client.texts().await.len(), 1);
        for _ in 0..1_000 {
            session.received(client.wire(), 1);
        }
        alone.bench.synced().await;
        assert_eq!(client.sent().await, [Sent::Release(1)]);
        // One that got lost is sent again.
        session.received(client.wire(), 1);
        assert_eq!(client.sent().await, [Sent::Release(1)]);
        session.complete(client.wire(), 1);
    }
}

#[tokio::test]
async fn a_message_of_qos_2_is_released_when_a_restart_would_not_send_it_again() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let client = attach(&session, DURABLE, None);
    push_at(&session, "one", QoS::ExactlyOnce);
    assert_eq!(client.texts().await, [(1, "one".into())]);
    session.received(client.wire(), 1);
    alone.bench.synced().await;
    assert_eq!(client.sent().await, [Sent::Release(1)]);
    // On the next connection, the release comes again, and the message does not.
    session.detach(client.wire(), None, now());
    let client = attach(&session, DURABLE, None);
    assert_eq!(client.sent().await, [Sent::Release(1)]);
    session.complete(client.wire(), 1);
    assert_eq!(alone.kept_bytes(), 0);
    assert_eq!(client.sent().await, []);
}

#[tokio::test]
async fn an_acknowledgement_of_another_kind_or_of_nothing_changes_nothing() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let client = attach(&session, DURABLE, None);
    push_at(&session, "two", QoS::ExactlyOnce);
    client.sent().await;
    session.complete(client.wire(), 1);
    session.acknowledge(client.wire(), 9);
    assert_eq!(session.mailbox().load_of().0, 1);
    session.received(client.wire(), 9);
    let mut out = BytesMut::new();
    client.wire().write_due(&mut out);
    assert_eq!(&out[..], b"\x62\x04\x00\x09\x92\x00", "no such message");
    assert_eq!(read(BytesMut::new()), []);
}

#[tokio::test]
async fn a_message_of_qos_2_sent_again_before_it_has_its_place_waits_for_that_too() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let publisher = attachment(None).wire;
    let slot = |pkid| publisher.expect(QoS::ExactlyOnce, pkid, 1);
    let first = Arc::new(Receipt::new(Arc::clone(&publisher), slot(5)));
    let again = Arc::new(Receipt::new(Arc::clone(&publisher), slot(5)));
    assert!(session.receive(5, &first));
    assert!(!session.receive(5, &again));
    drop((first, again));
    let mut out = BytesMut::new();
    publisher.write_due(&mut out);
    assert!(out.is_empty());
    let waiting = session.settle_reception(5, true);
    assert_eq!(waiting.len(), 1);
    // Released, the identifier is free.
    session.release(&publisher, 5);
    assert!(session.receive(5, &receipt()));
}

/// Or a crash in between brings the identifier back, and the client's next message under it is taken for the old one.
#[tokio::test]
async fn a_release_sent_again_is_answered_only_when_the_first_is_on_disk() {
    let alone = Alone::new();
    let session = Arc::new(alone.session(DURABLE));
    let publisher = attachment(None).wire;
    assert!(session.receive(7, &receipt()));
    session.settle_reception(7, true);
    let answers = || {
        let mut out = BytesMut::new();
        publisher.write_due(&mut out);
        out.len()
    };
    // Nothing is committed within a turn.
    let turn = alone.bench.board.journal().turn();
    session.release(&publisher, 7);
    session.release(&publisher, 7);
    assert_eq!(answers(), 0);
    drop(turn);
    alone.bench.synced().await;
    assert!(answers() > 0);
}
