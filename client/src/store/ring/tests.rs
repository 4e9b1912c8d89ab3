use super::super::tests::{at, store, user};
use super::super::{Attempt, Sealed};
use super::*;
use crate::account::tests::{account, start};
use crate::outgoing::Sealers;

const LIMITS: RingLimits = RingLimits {
    readings: 10,
    bytes: MOST_BYTES,
};

fn fresh(range: std::ops::RangeInclusive<u64>) -> Vec<Fresh> {
    range
        .map(|n| Fresh {
            at: at(n * 1_000),
            value: Zeroizing::new(n.to_string()),
        })
        .collect()
}

fn push(ring: &mut Ring, store: &mut Store, range: std::ops::RangeInclusive<u64>) -> Pushed {
    ring.push(store, &fresh(range), at(1)).unwrap()
}

/// What is in the outbox, in order: numbers of readings, and gaps.
fn kept(store: &Store) -> Vec<String> {
    let due = store.due(at(2), 1_000).unwrap();
    due.iter()
        .map(|due| {
            let content = stored_content(&due.body).unwrap();
            match (Reading::read(&content), ReadingGap::read(&content)) {
                (Some(reading), _) => reading.number().to_string(),
                (_, Some(gap)) => format!("{}-{}", gap.first(), gap.last()),
                _ => content.kind().to_owned(),
            }
        })
        .collect()
}

fn gap(first: u64, last: u64) -> (u64, u64, Timestamp, Timestamp) {
    (first, last, at(first * 1_000), at(last * 1_000))
}

fn said(pushed: &Pushed) -> Vec<(u64, u64, Timestamp, Timestamp)> {
    let gaps = pushed.dropped.iter();
    gaps.map(|gap| (gap.first(), gap.last(), gap.first_at(), gap.last_at()))
        .collect()
}

#[test]
fn a_full_ring_keeps_the_newest_and_says_in_its_place_what_went() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let bob = user("bob");
    let mut ring = Ring::open(&mut store, &bob, LIMITS).unwrap();
    assert_eq!(push(&mut ring, &mut store, 1..=10).dropped, []);
    assert_eq!(ring.len(), 10);
    let pushed = push(&mut ring, &mut store, 11..=11);
    assert_eq!(said(&pushed), [gap(1, 2)], "the gap takes a place, too");
    assert_eq!(
        kept(&store),
        ["1-2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]
    );
    assert_eq!(said(&push(&mut ring, &mut store, 12..=14)), [gap(3, 5)]);
    assert_eq!(kept(&store)[..3], ["1-5", "6", "7"]);
    let pushed = push(&mut ring, &mut store, 15..=50);
    assert_eq!(said(&pushed), [gap(6, 41)]);
    assert_eq!(pushed.last, 50);
    assert_eq!(
        kept(&store),
        ["1-41", "42", "43", "44", "45", "46", "47", "48", "49", "50"]
    );
    let again = Ring::open(&mut store, &bob, LIMITS).unwrap();
    assert_eq!(
        (again.len(), again.held.bytes),
        (ring.len(), ring.held.bytes)
    );
}

#[test]
fn bytes_are_bounded_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let limits = RingLimits {
        readings: MOST_READINGS,
        bytes: 40_000,
    };
    let mut ring = Ring::open(&mut store, &user("bob"), limits).unwrap();
    for n in 1..=40 {
        let readings = [Fresh {
            at: at(n),
            value: Zeroizing::new(format!("\"{}\"", "x".repeat(4_000))),
        }];
        ring.push(&mut store, &readings, at(1)).unwrap();
        assert!(ring.held.bytes <= limits.bytes);
    }
    assert_eq!(kept(&store), ["1-37", "38", "39", "40"]);
}

#[test]
fn what_is_under_way_is_not_dropped_and_what_the_broker_has_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, bob) = (account(&folder, "alice"), account(&folder, "bob"));
    let mut store = store(&folder);
    let mut ring = Ring::open(&mut store, &user("bob"), LIMITS).unwrap();
    push(&mut ring, &mut store, 1..=10);
    // 1 to 4 are sealed, 1 and 2 are with the broker.
    let mut sealers = Sealers::default();
    let due = store.due(at(2), 4).unwrap();
    let envelopes: Vec<_> = due
        .iter()
        .map(|due| {
            let content = stored_content(&due.body).unwrap();
            sealers
                .seal(&alice, bob.bundle(), due.id, None, &content, start())
                .unwrap()
        })
        .collect();
    let sealed: Vec<_> = due
        .iter()
        .zip(&envelopes)
        .map(|(due, envelope)| Sealed {
            number: due.number,
            envelope,
        })
        .collect();
    store.write_sealed(&sealed).unwrap();
    let taken: Vec<_> = due[..2]
        .iter()
        .map(|due| (due.number, Attempt::Taken))
        .collect();
    store.attempted(&taken, at(3)).unwrap();
    assert_eq!(push(&mut ring, &mut store, 11..=12).dropped, []);
    assert_eq!(kept(&store)[..3], ["3", "4", "5"]);
    assert_eq!(said(&push(&mut ring, &mut store, 13..=13)), [gap(5, 6)]);
    assert_eq!(kept(&store)[..4], ["3", "4", "5-6", "7"]);
    assert_eq!(ring.len(), 10);
}

#[test]
fn what_is_sent_by_hand_is_not_dropped_and_parts_two_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let bob = user("bob");
    let limits = RingLimits {
        readings: 4,
        ..LIMITS
    };
    let mut ring = Ring::open(&mut store, &bob, limits).unwrap();
    push(&mut ring, &mut store, 1..=2);
    let text = Content::Text { text: "hi".into() };
    crate::outgoing::enqueue(&mut store, &bob, &text, at(1)).unwrap();
    let mut ring = Ring::open(&mut store, &bob, limits).unwrap();
    push(&mut ring, &mut store, 3..=8);
    assert_eq!(kept(&store), ["1-6", "text", "7", "8"]);
    let odd = store.due(at(2), 3).unwrap().remove(2);
    store.drop_outgoing(&odd.id).unwrap();
    let mut ring = Ring::open(&mut store, &bob, limits).unwrap();
    push(&mut ring, &mut store, 9..=12);
    assert_eq!(kept(&store), ["1-6", "text", "8-11", "12"]);
}

#[test]
fn numbers_go_on_and_what_arrived_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let bob = user("bob");
    let mut ring = Ring::open(&mut store, &bob, LIMITS).unwrap();
    assert_eq!(store.last_reading().unwrap(), 0);
    assert_eq!(push(&mut ring, &mut store, 1..=3).last, 3);
    let first = store.due(at(2), 1).unwrap().remove(0);
    ring.has_arrived(first.id);
    ring.clear(&mut store).unwrap();
    assert_eq!(ring.len(), 3, "nobody receipted it");
    store
        .db
        .execute(
            "UPDATE outbox SET state = 2 WHERE number = ?1",
            [first.number],
        )
        .unwrap();
    ring.has_arrived(first.id);
    assert_eq!(push(&mut ring, &mut store, 4..=4).last, 4);
    assert_eq!(ring.len(), 3);
    assert_eq!(kept(&store), ["2", "3", "4"]);
    assert_eq!(store.last_reading().unwrap(), 4);
}

#[test]
fn of_readings_that_cannot_be_written_none_is_taken_and_no_number_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let mut ring = Ring::open(&mut store, &user("bob"), LIMITS).unwrap();
    let mut bad = fresh(1..=2);
    bad[1].value = Zeroizing::new("not JSON".into());
    assert!(matches!(
        ring.push(&mut store, &bad, at(1)),
        Err(PushError::Reading(_))
    ));
    assert_eq!((ring.len(), store.queued().unwrap()), (0, 0));
    assert_eq!(push(&mut ring, &mut store, 1..=1).last, 1);
    store.refuse_writes();
    assert!(matches!(
        ring.push(&mut store, &fresh(2..=2), at(1)),
        Err(PushError::Store(_))
    ));
    assert_eq!((ring.len(), store.last_reading().unwrap()), (1, 1));
}
