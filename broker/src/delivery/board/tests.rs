use super::*;
use crate::delivery::topics::Subscription;
use crate::delivery::wire::Wire;
use crate::protocol::packet::Version;
use crate::protocol::topic_name::TopicName;
use tokio_util::sync::CancellationToken;

fn board() -> Board {
    Board::new(Bounds {
        mailbox_bytes: 1 << 30,
        sessions_per_owner: 16,
        sessions: 100,
        subscriptions_per_session: 100,
        retained: 1,
        retained_bytes: 1 << 20,
        hold: Duration::from_secs(5),
    })
}

fn attachment() -> Attachment {
    Attachment {
        wire: Arc::new(Wire::new(Version::V5, CancellationToken::new())),
        receive_maximum: None,
        max_packet: None,
    }
}

fn key() -> SessionKey {
    SessionKey {
        owner: "bob".into(),
        client_id: "b".into(),
    }
}

const SHARE: Share = Share {
    archive: false,
    messages: 3,
    bytes: 1 << 20,
};

fn post(topic: &str, retain: bool, origin: &Arc<Session>) -> Post {
    Post {
        message: Arc::new(Message {
            topic: TopicName::parse(topic.as_bytes()).unwrap(),
            payload: "x".into(),
            properties: None,
            supersedes: false,
        }),
        qos: QoS::AtLeastOnce,
        retain,
        origin: Arc::clone(origin),
        receipt: None,
    }
}

fn at_qos_1() -> Subscription {
    Subscription {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        id: None,
    }
}

/// The old connection of a clean session ends while the next one with the same client id joins without clean start.
#[test]
fn a_session_that_was_joined_again_is_not_forgotten_by_the_end_of_the_old_connection() {
    let (board, filter) = (board(), FilterName::parse("t").unwrap());
    for round in 0..50_000 {
        let old = attachment();
        let (session, _) = board
            .join(&key(), true, Duration::ZERO, SHARE, old.clone())
            .unwrap();
        let new = attachment();
        let start = std::sync::Barrier::new(2);
        let joined = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                board.leave(&key(), &session, &old, None);
            });
            start.wait();
            let expiry = Duration::from_secs(600);
            board
                .join(&key(), false, expiry, SHARE, new.clone())
                .unwrap()
                .0
        });
        board
            .subscribe(
                &key(),
                &joined,
                &filter,
                at_qos_1(),
                &RetainForwardRule::Never,
            )
            .unwrap();
        let posted = board.post(&post("t", false, &joined));
        assert!(
            matches!(posted, Posted::Delivered { durable: 1, .. }),
            "round {round}: subscribed with success, and gets nothing: {posted:?}"
        );
        board.leave(&key(), &joined, &new, Some(Duration::ZERO));
    }
}

#[test]
fn retained_messages_fill_no_mailbox_beyond_its_quota() {
    let (board, filter) = (board(), FilterName::parse("t").unwrap());
    let (session, _) = board
        .join(&key(), true, Duration::from_secs(600), SHARE, attachment())
        .unwrap();
    board.post(&post("t", true, &session));
    let rule = RetainForwardRule::OnEverySubscribe;
    for _ in 0..1_000 {
        let _ = board.subscribe(&key(), &session, &filter, at_qos_1(), &rule);
    }
    let held = board
        .totals
        .durable_bytes
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        held <= SHARE.messages * 130,
        "{held} bytes in a mailbox of 3 messages"
    );
}

#[test]
fn what_cannot_be_retained_is_refused_and_not_accepted() {
    let board = board();
    let (session, _) = board
        .join(&key(), true, Duration::ZERO, SHARE, attachment())
        .unwrap();
    assert!(matches!(
        board.post(&post("one", true, &session)),
        Posted::Delivered { .. }
    ));
    let second = board.post(&post("two", true, &session));
    assert_eq!(second, Posted::Refused(Outcome::QuotaExceeded));
}
