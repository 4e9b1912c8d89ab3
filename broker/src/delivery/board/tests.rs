use super::*;
use crate::delivery::bench::{
    Bench, DURABLE, SHARE, attachment, bounds, now, receipt, subscription,
};
use crate::delivery::topics::Post;
use crate::journal::simulated::SimulatedStore;
use crate::journal::store::Table;
use crate::protocol::message::Message;
use crate::protocol::outcome::{Outcome, Quota};

const QOS_1: QoS = QoS::AtLeastOnce;
const EVERY: RetainForwardRule = RetainForwardRule::OnEverySubscribe;

fn key() -> SessionKey {
    SessionKey {
        owner: "bob".into(),
        client_id: "b".into(),
    }
}

/// The old connection of a clean session ends while the next one with the same client id joins without clean start.
#[test]
fn a_session_that_was_joined_again_is_not_forgotten_by_the_end_of_the_old_connection() {
    let bench = Bench::new();
    let (board, filter) = (&bench.board, FilterName::parse("t").unwrap());
    for round in 0..5_000 {
        let old = attachment(None);
        let Joining { session, .. } = board
            .join(&key(), true, Duration::ZERO, SHARE, old.clone())
            .unwrap();
        let new = attachment(None);
        let start = std::sync::Barrier::new(2);
        let joined = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                board.leave(&session, &old, None, now());
            });
            start.wait();
            board
                .join(&key(), false, DURABLE, SHARE, new.clone())
                .unwrap()
                .session
        });
        board
            .subscribe(&joined, &filter, subscription(QOS_1), &EVERY, now())
            .unwrap();
        let client = bench.client("publisher", Duration::ZERO);
        let posted = bench.post(&client, "t", "x", QOS_1);
        assert!(
            matches!(posted, Posted::Delivered { readers: 1, .. }),
            "round {round}: subscribed with success, and gets nothing: {posted:?}"
        );
        board.leave(&joined, &new, Some(Duration::ZERO), now());
    }
}

#[test]
fn retained_messages_fill_no_mailbox_beyond_its_quota() {
    let share = Share {
        messages: 3,
        ..SHARE
    };
    let bench = Bench::new();
    let (board, filter) = (&bench.board, FilterName::parse("t").unwrap());
    let Joining { session, .. } = board
        .join(&key(), true, DURABLE, share, attachment(None))
        .unwrap();
    let client = bench.client("publisher", Duration::ZERO);
    board.post(&Post {
        retain: true,
        ..bench.a_post(&client, "t", "x", QOS_1)
    });
    for _ in 0..1_000 {
        let _ = board.subscribe(&session, &filter, subscription(QOS_1), &EVERY, now());
    }
    let (held, _) = session.mailbox().load_of();
    assert!(held <= 3, "{held} messages in a mailbox of 3");
}

#[test]
fn what_cannot_be_retained_is_refused_and_not_accepted() {
    let bench = Bench::over(
        SimulatedStore::default(),
        Bounds {
            retained: 1,
            ..bounds()
        },
    );
    let client = bench.client("a", Duration::ZERO);
    let retained = |topic| Post {
        retain: true,
        ..bench.a_post(&client, topic, "x", QOS_1)
    };
    assert!(matches!(
        bench.board.post(&retained("one")),
        Posted::Delivered { .. }
    ));
    let second = bench.board.post(&retained("two"));
    let full = Outcome::QuotaExceeded(Quota::Retained);
    assert_eq!(second, Posted::Refused(full));
}

#[tokio::test]
async fn a_durable_session_its_subscriptions_and_its_mail_survive_a_kill() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t/+", QOS_1);
    bench.leave(&bob);
    let alice = bench.client("a", Duration::ZERO);
    for text in ["one", "two", "three"] {
        bench.post(&alice, "t/x", text, QOS_1);
    }
    bench.synced().await;

    let bench = bench.lose_power(|| false);
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "t/y", "four", QOS_1);
    let bob = bench.client("b", DURABLE);
    assert!(bob.present);
    let expected = ["one", "two", "three", "four"].map(str::to_owned);
    let texts = bob.texts().await;
    assert_eq!(
        texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>(),
        expected
    );
}

#[tokio::test]
async fn what_was_acknowledged_by_the_reader_is_gone_from_the_disk() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    let alice = bench.client("a", Duration::ZERO);
    for text in ["one", "two"] {
        bench.post(&alice, "t", text, QOS_1);
    }
    bench.synced().await;
    assert_eq!(bench.store.len(Table::Messages), 2);
    for (pkid, _) in bob.texts().await {
        bob.session.acknowledge(bob.wire(), pkid);
    }
    bench.synced().await;
    assert_eq!(bench.store.len(Table::Messages), 0);
    assert_eq!(bench.store.len(Table::Queue), 0);
    assert_eq!(bench.board.load().kept_bytes, 0);
}

#[tokio::test]
async fn a_message_owed_to_many_is_stored_once_and_until_the_last_has_it() {
    let bench = Bench::new();
    let readers = ["b", "c", "d"].map(|id| bench.client(id, DURABLE));
    for reader in &readers {
        bench.subscribe(reader, "t", QOS_1);
    }
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "t", "one", QOS_1);
    bench.synced().await;
    for (left, reader) in (0..3).rev().zip(&readers) {
        assert_eq!(bench.store.len(Table::Messages), 1);
        let (pkid, _) = reader.texts().await[0].clone();
        reader.session.acknowledge(reader.wire(), pkid);
        bench.synced().await;
        assert_eq!(bench.store.len(Table::Queue), left);
    }
    assert_eq!(bench.store.len(Table::Messages), 0);
}

#[tokio::test]
async fn the_end_of_a_session_leaves_nothing_on_disk_however_much_it_was_owed() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    bench.leave(&bob);
    let alice = bench.client("a", Duration::ZERO);
    for _ in 0..3_000 {
        bench.post(&alice, "t", "x", QOS_1);
    }
    bench.synced().await;
    let bob = bench.client_with("b", Duration::ZERO, true, None);
    assert!(!bob.present);
    let store = bench.close();
    for table in [
        Table::Sessions,
        Table::Subscriptions,
        Table::Queue,
        Table::Messages,
    ] {
        assert_eq!(store.len(table), 0, "{table:?}");
    }
}

#[tokio::test]
async fn a_kill_while_a_large_session_ends_leaves_nothing_either() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    bench.leave(&bob);
    let alice = bench.client("a", Duration::ZERO);
    for _ in 0..3_000 {
        bench.post(&alice, "t", "x", QOS_1);
    }
    bench.synced().await;
    bench.client_with("b", Duration::ZERO, true, None);
    bench.synced().await;
    let store = bench.kill().close();
    assert_eq!(store.len(Table::Queue), 0);
    assert_eq!(store.len(Table::Messages), 0);
}

#[tokio::test]
async fn retained_messages_survive_and_those_removed_do_not_return() {
    let bench = Bench::new();
    let alice = bench.client("a", Duration::ZERO);
    let retained = |topic, text| Post {
        retain: true,
        ..bench.a_post(&alice, topic, text, QOS_1)
    };
    for (topic, text) in [
        ("kept", "old"),
        ("kept", "new"),
        ("gone", "x"),
        ("gone", ""),
    ] {
        bench.board.post(&retained(topic, text));
    }
    bench.synced().await;
    let bench = bench.lose_power(|| false);
    let bob = bench.client("b", Duration::ZERO);
    bench.subscribe(&bob, "#", QOS_1);
    assert_eq!(bob.texts().await, [(1, "new".into())]);
}

#[tokio::test]
async fn a_full_disk_refuses_what_must_be_kept_and_serves_readers() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    let clean = bench.client("c", Duration::ZERO);
    bench.subscribe(&clean, "live", QOS_1);
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "t", "before", QOS_1);
    bench.store.set_free(1);
    bench.synced().await;
    assert_eq!(
        bench.post(&alice, "t", "refused", QOS_1),
        Posted::Refused(Outcome::QuotaExceeded(Quota::Disk))
    );
    assert!(matches!(
        bench.post(&alice, "live", "taken", QOS_1),
        Posted::Delivered { .. }
    ));
    assert_eq!(bob.texts().await, [(1, "before".into())]);
    assert_eq!(clean.texts().await, [(1, "taken".into())]);
    bob.session.acknowledge(bob.wire(), 1);
    bench.store.set_free(1 << 30);
    bench.synced().await;
    bench.post(&alice, "t", "after", QOS_1);
    assert_eq!(bob.texts().await, [(2, "after".into())]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    bench.synced().await;
    bench.store.fail_in(0);
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "t", "x", QOS_1);
    let (called, waiting) = tokio::sync::oneshot::channel();
    bench
        .board
        .journal()
        .after(move || called.send(()).unwrap());
    bench.board.journal().failed().await;
    assert!(waiting.await.is_err(), "told that it is on disk");
}

/// Members take what the others leave, and what one was sent and did not acknowledge goes to another.
#[tokio::test]
async fn a_member_of_a_group_that_stops_acknowledging_loses_its_turn_and_not_the_groups_mail() {
    let bench = Bench::new();
    let stuck = bench.client_with("stuck", Duration::ZERO, false, Some(2));
    let busy = bench.client("busy", Duration::ZERO);
    for member in [&stuck, &busy] {
        bench.subscribe(member, "$share/g/t", QOS_1);
    }
    let alice = bench.client("a", Duration::ZERO);
    for number in 0..10 {
        bench.post(&alice, "t", &number.to_string(), QOS_1);
    }
    assert_eq!(stuck.sent().await.len(), 2, "its window");
    let mut texts = Vec::new();
    let mut serve = async || {
        for (pkid, text) in busy.texts().await {
            busy.session.acknowledge(busy.wire(), pkid);
            texts.push(text);
        }
    };
    serve().await;
    bench.leave(&stuck);
    serve().await;
    texts.sort();
    let expected = (0..10).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn a_groups_mail_survives_a_kill_while_a_durable_member_is_away() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "$share/g/t", QOS_1);
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "t", "sent, not acknowledged", QOS_1);
    assert_eq!(bob.sent().await.len(), 1);
    bench.leave(&bob);
    bench.post(&alice, "t", "waits", QOS_1);
    bench.synced().await;
    let bench = bench.lose_power(|| false);
    let bob = bench.client("b", DURABLE);
    let texts = bob.texts().await.into_iter().map(|(_, text)| text);
    assert_eq!(
        texts.collect::<Vec<_>>(),
        ["sent, not acknowledged", "waits"]
    );
}

#[tokio::test]
async fn a_group_ends_with_its_last_member() {
    let bench = Bench::new();
    let alice = bench.client("a", Duration::ZERO);
    let bob = bench.client("b", Duration::ZERO);
    bench.subscribe(&bob, "$share/g/t", QOS_1);
    bench.post(&alice, "t", "x", QOS_1);
    bench.leave(&bob);
    let posted = bench.post(&alice, "t", "x", QOS_1);
    assert!(matches!(posted, Posted::Delivered { readers: 0, .. }));
    assert_eq!(bench.close().len(Table::Queue), 0);
}

#[tokio::test]
async fn retained_messages_and_mail_that_have_expired_are_not_delivered() {
    let bench = Bench::new();
    let alice = bench.client("a", Duration::ZERO);
    let expiring = |retain, text| {
        let mut post = bench.a_post(&alice, "t", text, QOS_1);
        Arc::get_mut(&mut post.message).unwrap().expires =
            Some(now().saturating_add(Duration::from_secs(10)));
        Post { retain, ..post }
    };
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    bench.board.post(&expiring(false, "mail"));
    bench.board.post(&expiring(true, "retained"));
    let later = now().saturating_add(Duration::from_secs(10));
    let mut out = bytes::BytesMut::new();
    bob.session.fill(bob.wire(), &mut out, 1 << 20, later);
    assert!(out.is_empty());
    bench.board.tidy(later);
    let carol = bench.client("c", DURABLE);
    bench.subscribe(&carol, "t", QOS_1);
    assert_eq!(carol.texts().await, []);
    let load = bench.board.load();
    assert_eq!((load.retained, load.expired, load.kept_bytes), (0, 2, 0));
    assert_eq!(bench.close().len(Table::Retained), 0);
}

/// What a publisher at QoS 2 sends again after a crash is taken once, whichever moment the crash came at.
#[tokio::test]
async fn a_message_of_qos_2_is_taken_once_across_a_loss_of_power() {
    for synced in [false, true] {
        let bench = Bench::new();
        let alice = bench.client("a", DURABLE);
        let bob = bench.client("b", DURABLE);
        bench.subscribe(&bob, "t", QoS::ExactlyOnce);
        bench.synced().await;
        let publish = |bench: &Bench, alice: &crate::delivery::bench::Client| {
            let fresh = alice.session.receive(7, &receipt());
            if fresh {
                let post = bench.a_post(alice, "t", "once", QoS::ExactlyOnce);
                bench.board.post(&Post { pkid: 7, ..post });
            }
            fresh
        };
        assert!(publish(&bench, &alice));
        if synced {
            bench.synced().await;
        }
        let bench = bench.lose_power(|| false);
        let alice = bench.client("a", DURABLE);
        assert!(alice.present);
        publish(&bench, &alice);
        bench.synced().await;
        let bob = bench.client("b", DURABLE);
        let texts = bob.texts().await;
        assert_eq!(texts.len(), 1, "synced before: {synced}");
        alice.session.release(alice.wire(), 7);
        bench.synced().await;
        assert_eq!(alice.session.unreleased(), 0);
        assert_eq!(bench.store.len(Table::Received), 0);
    }
}

#[tokio::test]
async fn a_message_of_qos_2_is_delivered_only_after_the_commit_and_nothing_overtakes_it() {
    let bench = Bench::new();
    let alice = bench.client("a", DURABLE);
    let bob = bench.client("b", Duration::ZERO);
    bench.subscribe(&bob, "t", QoS::ExactlyOnce);
    bench.synced().await;
    let turn = bench.board.journal().turn();
    // Within this turn nothing is committed.
    assert!(alice.session.receive(1, &receipt()));
    drop(turn);
    let post = bench.a_post(&alice, "t", "first", QoS::ExactlyOnce);
    bench.board.post(&Post { pkid: 1, ..post });
    bench.post(&alice, "t", "second", QOS_1);
    bench.synced().await;
    let texts = bob.texts().await;
    assert_eq!(texts, [(1, "first".into()), (2, "second".into())]);
}

#[tokio::test]
async fn the_longest_filters_and_topics_end_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::journal::disk::DiskStore::open(dir.path()).unwrap();
    let (journal, committer, recovered) =
        crate::journal::recovery::open(Arc::new(store), 0).unwrap();
    let committing = committer.spawn().unwrap();
    let board = Board::new(bounds(), journal);
    board.recover(recovered, |_| SHARE, now());
    let Joining { session, .. } = board
        .join(&key(), true, DURABLE, SHARE, attachment(None))
        .unwrap();
    let subscribe = |length| {
        let filter = FilterName::parse(&"x".repeat(length)).unwrap();
        board.subscribe(&session, &filter, subscription(QOS_1), &EVERY, now())
    };
    assert_eq!(subscribe(65_535), Err(BoardError::FilterTooLong));
    assert_eq!(subscribe(65_527), Ok(()));
    let topic = "x".repeat(65_535);
    let message = Arc::new(Message {
        number: board.journal().next_message(),
        topic: crate::protocol::topic_name::TopicName::parse(topic.as_bytes()).unwrap(),
        payload: "x".into(),
        properties: None,
        expires: None,
        sender: None,
        supersedes: false,
    });
    board.post(&Post {
        message,
        qos: QOS_1,
        pkid: 0,
        retain: true,
        origin: None,
        receipt: None,
    });
    let (done, waiting) = tokio::sync::oneshot::channel();
    board.journal().after(move || done.send(()).unwrap());
    waiting.await.unwrap();
    board.journal().close();
    committing.join().unwrap();
}

/// One sender's mail leaves room for the others', also after a restart, and more of it once the owner has answered.
#[tokio::test]
async fn no_sender_fills_a_mailbox_for_the_others() {
    let share = Share {
        messages: 100,
        ..SHARE
    };
    let bench = Bench::new();
    let join = |bench: &Bench, owner: &str| {
        let key = SessionKey {
            owner: owner.into(),
            client_id: "c".into(),
        };
        let joined = bench
            .board
            .join(&key, false, DURABLE, share, attachment(None));
        joined.unwrap().session
    };
    let write = |bench: &Bench, from: &str, to: &str| {
        let origin = join(bench, from);
        let mut message = Message {
            number: bench.board.journal().next_message(),
            topic: crate::protocol::topic_name::TopicName::parse(format!("inbox/{to}").as_bytes())
                .unwrap(),
            payload: "x".into(),
            properties: None,
            expires: None,
            sender: None,
            supersedes: false,
        };
        message.sender = origin.user().cloned();
        let posted = bench.board.post(&Post {
            message: Arc::new(message),
            qos: QOS_1,
            pkid: 0,
            retain: false,
            origin: Some(origin),
            receipt: None,
        });
        matches!(posted, Posted::Delivered { .. })
    };
    let fill =
        |bench: &Bench, from: &str, to: &str| (0..200).filter(|_| write(bench, from, to)).count();
    let alice = join(&bench, "alice");
    let filter = FilterName::parse("inbox/alice").unwrap();
    bench
        .board
        .subscribe(&alice, &filter, subscription(QOS_1), &EVERY, now())
        .unwrap();
    assert_eq!(fill(&bench, "mallory", "alice"), 25);
    assert_eq!(fill(&bench, "bob", "alice"), 25);
    assert!(write(&bench, "alice", "bob"));
    bench.synced().await;

    let store = bench.close();
    let bench = Bench::over_with(store.after_power_loss(|| false), bounds(), share);
    assert_eq!(fill(&bench, "mallory", "alice"), 0);
    assert_eq!(fill(&bench, "bob", "alice"), 50, "75 for whom she wrote to");
    assert_eq!(fill(&bench, "carol", "alice"), 0, "full is full");
}

/// An archiver reads everybody's mail: whoever could fill its queue would stop everybody's.
#[tokio::test]
async fn no_sender_fills_an_archivers_queue_for_the_others() {
    for filter in ["inbox/+", "$share/g/inbox/+"] {
        let share = Share {
            archive: true,
            messages: 100,
            ..SHARE
        };
        let bench = Bench::new();
        let key = SessionKey {
            owner: "archiver:depot".into(),
            client_id: "c".into(),
        };
        let archiver = bench
            .board
            .join(&key, false, DURABLE, share, attachment(None))
            .unwrap()
            .session;
        let filter = FilterName::parse(filter).unwrap();
        bench
            .board
            .subscribe(&archiver, &filter, subscription(QOS_1), &EVERY, now())
            .unwrap();
        let origin = bench.client("origin", Duration::ZERO);
        let taken = |sender: &str| {
            let taken = (0..200).filter(|_| {
                let mut post = bench.a_post(&origin, "inbox/nobody", "x", QOS_1);
                Arc::get_mut(&mut post.message).unwrap().sender = Some(sender.into());
                matches!(bench.board.post(&post), Posted::Delivered { .. })
            });
            taken.count()
        };
        assert_eq!(taken("mallory"), 75);
        assert_eq!(taken("bob"), 25, "what is left");
    }
}

#[tokio::test]
async fn key_bundles_in_flight_at_a_crash_leave_the_newest_and_nothing_else() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "keys/+", QOS_1);
    let alice = bench.client("a", Duration::ZERO);
    for text in ["oldest", "older", "newest"] {
        let mut post = bench.a_post(&alice, "keys/alice", text, QOS_1);
        Arc::get_mut(&mut post.message).unwrap().supersedes = true;
        bench.board.post(&post);
        if text != "newest" {
            assert_eq!(bob.sent().await.len(), 1);
        }
    }
    bench.synced().await;
    let bench = bench.kill();
    let bob = bench.client("b", DURABLE);
    let texts = bob.texts().await;
    assert_eq!(texts, [(3, "newest".into())]);
    bob.session.acknowledge(bob.wire(), 3);
    bench.synced().await;
    assert_eq!(bench.board.load().kept_bytes, 0);
    assert_eq!(bench.store.len(Table::Queue), 0);
    assert_eq!(bench.store.len(Table::Messages), 0);
}

/// Refused publishes write nothing, so nothing but a look at the disk can tell that there is room again.
#[tokio::test]
async fn room_on_the_disk_is_noticed_although_all_that_comes_is_refused() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QOS_1);
    let alice = bench.client("a", Duration::ZERO);
    bench.store.set_free(1);
    bench.synced().await;
    let refused = Posted::Refused(Outcome::QuotaExceeded(Quota::Disk));
    assert_eq!(bench.post(&alice, "t", "x", QOS_1), refused);
    bench.store.set_free(1 << 30);
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while bench.post(&alice, "t", "x", QOS_1) == refused {
        assert!(std::time::Instant::now() < until, "refused for ever");
        bench.board.tidy(now());
        tokio::task::yield_now().await;
    }
}

/// The first to be woken has no room in its window, for mail of its own.
#[tokio::test]
async fn a_member_without_room_that_is_woken_passes_the_turn_on() {
    use futures_util::FutureExt;
    let bench = Bench::new();
    let stuck = bench.client_with("stuck", Duration::ZERO, false, Some(1));
    let idle = bench.client("idle", Duration::ZERO);
    bench.subscribe(&stuck, "own", QOS_1);
    for member in [&stuck, &idle] {
        bench.subscribe(member, "$share/g/t", QOS_1);
        member.wire().woken().await;
        assert_eq!(member.sent().await, []);
    }
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "own", "never acknowledged", QOS_1);
    assert_eq!(stuck.sent().await.len(), 1);
    let woken =
        |client: &crate::delivery::bench::Client| client.wire().woken().now_or_never().is_some();
    woken(&stuck);
    bench.post(&alice, "t", "for the group", QOS_1);
    if woken(&stuck) {
        assert_eq!(stuck.sent().await, []);
    }
    assert!(woken(&idle), "the message waits and nobody knows");
    assert_eq!(idle.sent().await.len(), 1);
}

/// A packet identifier that the receiver knows must not come back with another message after a crash.
#[tokio::test]
async fn a_will_of_qos_2_too_is_delivered_only_after_the_commit() {
    let bench = Bench::new();
    let bob = bench.client("b", DURABLE);
    bench.subscribe(&bob, "t", QoS::ExactlyOnce);
    bench.synced().await;
    let alice = bench.client("a", Duration::ZERO);
    let stalled = bench.store.stall();
    bench.post(&alice, "t", "will", QoS::ExactlyOnce);
    let mut out = bytes::BytesMut::new();
    bob.session.fill(bob.wire(), &mut out, 1 << 20, now());
    drop(stalled);
    assert!(
        out.is_empty(),
        "a crash now would forget what the client has"
    );
    bench.synced().await;
    assert_eq!(bob.texts().await, [(1, "will".into())]);
}

#[tokio::test]
async fn a_publish_of_a_session_that_has_ended_meanwhile_leaves_nothing_on_disk() {
    let bench = Bench::new();
    let alice = bench.client("a", DURABLE);
    bench.synced().await;
    assert!(alice.session.receive(7, &receipt()));
    let post = bench.a_post(&alice, "t", "x", QoS::ExactlyOnce);
    let (session, attachment) = (&alice.session, &alice.attachment);
    bench
        .board
        .leave(session, attachment, Some(Duration::ZERO), now());
    bench.synced().await;
    bench.board.post(&Post { pkid: 7, ..post });
    assert_eq!(bench.close().len(Table::Received), 0);
}

/// A row whose message is gone must not lead to a new one because numbers begin again.
#[tokio::test]
async fn nobody_gets_the_mail_of_others_whatever_two_losses_of_power_leave() {
    let bench = Bench::new();
    let [bob, carol] = ["b", "c"].map(|id| bench.client(id, DURABLE));
    bench.subscribe(&bob, "t", QOS_1);
    bench.subscribe(&carol, "+", QOS_1);
    let alice = bench.client("a", Duration::ZERO);
    bench.post(&alice, "t", "for both", QOS_1);
    bench.synced().await;
    for reader in [&bob, &carol] {
        let (pkid, _) = reader.texts().await[0].clone();
        let group = bench.board.journal().group();
        reader.session.acknowledge(reader.wire(), pkid);
        bench.board.journal().reached(group).await;
    }
    // Of these two changes the second survives: the message is gone, and the first row of it is not.
    let mut survives = [false, true].into_iter();
    let bench = bench.lose_power(|| survives.next().unwrap());
    let alice = bench.client("a", Duration::ZERO);
    let group = bench.board.journal().group();
    bench.post(&alice, "u", "for carol alone", QOS_1);
    bench.board.journal().reached(group).await;
    let mut first = true;
    let bench = bench.lose_power(|| !std::mem::take(&mut first));
    let bob = bench.client("b", DURABLE);
    assert_eq!(bob.texts().await, []);
}
