//! How messages of ours get further, in a store of their own.

use super::*;
use crate::account::tests::{account, start};
use crate::outgoing::enqueue_all;
use crate::outgoing::tests::seal;
use crate::store::tests::{at, store, user};
use sealpost_core::Content;

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn write(store: &mut Store, to: &str, texts: &[&str], now: u64) -> Vec<MessageId> {
    let contents: Vec<Content> = texts
        .iter()
        .map(|&text| Content::Text { text: text.into() })
        .collect();
    enqueue_all(store, &user(to), &contents, at(now)).unwrap()
}

fn due(store: &Store, now: u64) -> Vec<MessageId> {
    let due = store.due(at(now), 100).unwrap();
    due.into_iter().map(|due| due.id).collect()
}

fn number(store: &Store, id: &MessageId) -> i64 {
    let due = store.due(at(9_000_000_000_000), 100).unwrap();
    due.into_iter().find(|due| due.id == *id).unwrap().number
}

fn problem() -> Problem {
    Problem {
        code: 5,
        message: "full".into(),
        hint: "wait".into(),
    }
}

#[test]
fn what_was_taken_over_is_there_after_a_crash_in_its_order_and_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let ids = write(&mut store(&folder), "bob", &["a secret", "two", "three"], 1);
    let store = store(&folder);
    assert_eq!(due(&store, 1), ids);
    let body = &store.due(at(1), 1).unwrap()[0].body;
    assert_eq!(&***body, br#"{"kind":"text","text":"a secret"}"#);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a secret"));
    }
}

#[test]
fn a_message_that_waits_keeps_those_behind_it_to_the_same_recipient_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let bob = write(&mut store, "bob", &["one", "two"], 1);
    let carol = write(&mut store, "carol", &["three"], 1);
    let first = number(&store, &bob[0]);
    store
        .attempted(&[(first, Attempt::Later(at(100), problem()))], at(2))
        .unwrap();
    assert_eq!(due(&store, 99), carol);
    assert_eq!(store.next_due().unwrap(), Some(at(0)));
    assert_eq!(due(&store, 100), [bob[0], bob[1], carol[0]]);
    let entry = store.outbox_entry(&bob[0]).unwrap().unwrap();
    assert_eq!(entry.problem, Some(problem()));
    store.wake(&user("bob")).unwrap();
    assert_eq!(due(&store, 2).len(), 3);
}

#[test]
fn a_sent_message_goes_again_until_it_is_receipted_less_and_less_often() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let id = write(&mut store, "bob", &["hi"], 0)[0];
    let number = number(&store, &id);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..4 {
        store
            .attempted(&[(number, Attempt::Taken)], at(now))
            .unwrap();
        let entry = store.outbox_entry(&id).unwrap().unwrap();
        assert_eq!((entry.state, entry.changed), (SendState::Sent, at(0)));
        let next = store.next_due().unwrap().unwrap().millis();
        assert!(due(&store, next - 1).is_empty());
        assert_eq!(due(&store, next), [id]);
        waits.push((next - now) / DAY);
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    for day in 0..=31 {
        store.give_up(at(day * DAY)).unwrap();
    }
    assert!(due(&store, 1_000 * DAY).is_empty());
    let entry = store.outbox_entry(&id).unwrap().unwrap();
    assert_eq!(entry.state, SendState::Sent);
}

#[test]
fn a_message_that_a_receipted_one_overtook_goes_again_soon_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, bob) = (account(&folder, "alice"), account(&folder, "bob"));
    let mut store = store(&folder);
    let ids = write(&mut store, "bob", &["one", "two", "three"], 0);
    let carols = write(&mut store, "carol", &["to another"], 0);
    let numbers: Vec<i64> = ids
        .iter()
        .chain(&carols)
        .map(|id| number(&store, id))
        .collect();
    let sealed = seal(
        &alice,
        bob.bundle(),
        None,
        &Content::Text { text: "two".into() },
        start(),
    );
    let sealed = sealed.unwrap();
    store
        .write_sealed(&[Sealed {
            number: numbers[1],
            envelope: &sealed,
        }])
        .unwrap();
    let taken: Vec<_> = numbers.iter().map(|&n| (n, Attempt::Taken)).collect();
    store.attempted(&taken, at(0)).unwrap();
    let receipted = Receipted {
        id: ids[1],
        digest: sealed.digest(),
    };
    let name = MessageId::new(at(1), &mut rand::rng());
    let further = store
        .receipted(
            &user("bob"),
            (&name, at(1)),
            ReceiptState::Delivered,
            &[receipted],
            at(10),
        )
        .unwrap();
    assert_eq!(further.len(), 1);
    // Not what came after it, nor what went to somebody else.
    assert!(due(&store, 30_009).is_empty());
    assert_eq!(due(&store, 30_010), [ids[0]]);
    store
        .attempted(&[(numbers[0], Attempt::Taken)], at(30_010))
        .unwrap();
    assert!(due(&store, DAY - 1).is_empty());
    // The next time only as what nobody receipts is.
    assert_eq!(due(&store, 30_010 + 2 * DAY).len(), 3);
}

#[test]
fn failed_attempts_before_the_broker_has_it_do_not_put_off_the_first_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let id = write(&mut store, "bob", &["hi"], 0)[0];
    let number = number(&store, &id);
    for _ in 0..5 {
        store
            .attempted(&[(number, Attempt::Later(at(1), problem()))], at(1))
            .unwrap();
    }
    store.attempted(&[(number, Attempt::Taken)], at(0)).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(DAY)));
}

#[test]
fn what_gets_nowhere_for_a_month_is_given_up_and_reported_and_can_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let id = write(&mut store, "bob", &["hi"], 0)[0];
    for day in 0..=30 {
        assert!(store.give_up(at(day * DAY)).unwrap().is_empty());
    }
    let given_up = store.give_up(at(30 * DAY + 1)).unwrap();
    assert_eq!(given_up[0].id, id);
    assert_eq!(given_up[0].state, SendState::Failed);
    assert!(given_up[0].problem.is_some());
    assert!(due(&store, 31 * DAY).is_empty());
    assert_eq!(store.unfinished(10).unwrap().len(), 1);
    assert!(store.retry_outgoing(&id, at(31 * DAY)).unwrap());
    assert_eq!(due(&store, 31 * DAY), [id]);
    assert!(store.drop_outgoing(&id).unwrap());
    assert!(!store.drop_outgoing(&id).unwrap());
    assert!(store.unfinished(10).unwrap().is_empty());
}

#[test]
fn what_was_written_before_the_clock_was_set_right_is_not_given_up_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    // A device wakes up in 1970, or with the time of its last shutdown.
    let ids = write(&mut store, "bob", &["hi"], 5);
    assert!(store.give_up(at(6)).unwrap().is_empty());
    let today = 20_000 * DAY;
    for day in 0..=30 {
        assert!(store.give_up(at(today + day * DAY)).unwrap().is_empty());
        assert_eq!(due(&store, today + day * DAY), ids);
    }
    assert_eq!(store.give_up(at(today + 30 * DAY + 1)).unwrap().len(), 1);
}

#[test]
fn a_clock_that_goes_back_starts_the_month_again_unless_by_little() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    write(&mut store, "bob", &["hi"], 0);
    let future = 20_000 * DAY;
    assert!(store.give_up(at(future)).unwrap().is_empty());
    for day in 0..=30 {
        assert!(store.give_up(at(day * DAY + 1)).unwrap().is_empty());
        assert!(store.give_up(at(day * DAY)).unwrap().is_empty());
    }
    assert_eq!(store.give_up(at(30 * DAY + 2)).unwrap().len(), 1);
}

#[test]
fn what_was_put_off_while_the_clock_was_ahead_does_not_wait_for_that_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let sent = write(&mut store, "carol", &["hi"], 1)[0];
    let queued = write(&mut store, "bob", &["one", "two"], 1);
    let (ahead, now) = (100 * DAY, 2 * DAY);
    let attempts = [
        (number(&store, &sent), Attempt::Taken),
        (
            number(&store, &queued[0]),
            Attempt::Later(at(ahead), problem()),
        ),
    ];
    store.attempted(&attempts, at(ahead)).unwrap();
    assert_eq!(due(&store, now), [sent, queued[0], queued[1]]);
    // What is put off as it may be does wait.
    let longest = now + 60 * 60 * 1_000;
    let attempts = [
        (number(&store, &sent), Attempt::Taken),
        (
            number(&store, &queued[0]),
            Attempt::Later(at(longest), problem()),
        ),
    ];
    store.attempted(&attempts, at(now)).unwrap();
    assert_eq!(due(&store, now), []);
}

#[test]
fn more_than_the_outbox_holds_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let messages = |count| -> Vec<_> {
        (0..count)
            .map(|n| {
                let id = MessageId::new(at(n), &mut rand::rng());
                (id, Zeroizing::new("{}".to_owned()))
            })
            .collect()
    };
    let many = messages(u64::from(MAX_QUEUED) - 1);
    store.enqueue(&user("bob"), &many, at(1)).unwrap();
    let refused = store.enqueue(&user("bob"), &messages(2), at(1));
    assert!(matches!(refused, Err(StoreError::OutboxFull)));
    assert_eq!(store.queued().unwrap() as usize, many.len());
}

#[test]
fn a_full_disk_takes_nothing_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    store.refuse_writes();
    let messages = [(
        MessageId::new(at(1), &mut rand::rng()),
        Zeroizing::new("{}".into()),
    )];
    assert!(matches!(
        store.enqueue(&user("bob"), &messages, at(1)),
        Err(StoreError::Database(_))
    ));
}

#[test]
fn a_store_of_the_first_version_is_brought_up_with_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    {
        let db = rusqlite::Connection::open(folder.path().join("store.sqlite")).unwrap();
        db.execute_batch(crate::store::schema::FIRST).unwrap();
        db.execute_batch(
            "INSERT INTO meta VALUES ('installation', '0011223344556677'); PRAGMA user_version = 1;",
        )
        .unwrap();
    }
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("store.sqlite");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut store = store(&folder);
    assert_eq!(store.installation().unwrap(), "0011223344556677");
    write(&mut store, "bob", &["hi"], 1);
}
