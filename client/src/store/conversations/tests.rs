use sealpost_core::MessageId;

use super::super::tests::{at, store, user};
use super::super::{Acceptance, HistoryRange, Incoming};
use super::*;

fn write(store: &mut Store, from: &str, now: u64) -> (MessageId, Acceptance) {
    let (from, id) = (user(from), MessageId::new(at(now), &mut rand::rng()));
    let message = Incoming {
        from: &from,
        id: &id,
        prev: None,
        ts: at(now),
        body: br#"{"kind":"text","text":"let me in\nplease"}"#,
        digest: [7; 32],
        signer: None,
    };
    let taken = store.accept(&message, at(now)).unwrap();
    (id, taken)
}

fn pin(store: &mut Store, name: &str) {
    use rand::SeedableRng;
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let pin = sealpost_core::Pin {
        identity: sealpost_core::Identity::generate(&mut rng).key(),
        seq: 1,
        digest: [0; 32],
        verified: false,
    };
    store
        .change_contact(&user(name), at(1), |_| {
            (super::super::ContactChange::Pin(pin, vec![1]), ())
        })
        .unwrap();
}

#[test]
fn who_is_new_asks_and_nothing_of_theirs_is_shown_until_they_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    store.let_strangers_ask(true);
    pin(&mut store, "mallory");
    for now in 1..=2 {
        assert_eq!(write(&mut store, "mallory", now).1, Acceptance::Asks);
    }
    assert_eq!(store.requests().unwrap(), [(user("mallory"), 2)]);
    assert!(store.unshown(0, 10).unwrap().is_empty());
    assert!(
        store
            .history(&HistoryRange::default(), 10)
            .unwrap()
            .is_empty()
    );
    assert!(store.receipts_due().unwrap().is_empty());
    let beginning = store.requested_beginning(&user("mallory")).unwrap();
    assert_eq!(beginning.as_deref(), Some("let me in please"));
    store.accept_contact(&user("mallory")).unwrap();
    assert_eq!(store.unshown(0, 10).unwrap().len(), 2);
    assert!(store.requests().unwrap().is_empty());
    assert_eq!(store.receipts_due().unwrap(), [user("mallory")]);
    assert_eq!(write(&mut store, "mallory", 3).1, Acceptance::Stored);
}

#[test]
fn who_was_here_before_need_not_ask() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    write(&mut store, "sensor", 1);
    pin(&mut store, "friend");
    store.accept_contact(&user("friend")).unwrap();
    store.let_strangers_ask(true);
    assert_eq!(write(&mut store, "sensor", 2).1, Acceptance::Stored);
    assert_eq!(write(&mut store, "friend", 3).1, Acceptance::Stored);
}

#[test]
fn what_strangers_leave_is_bounded_for_each_and_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    store.let_strangers_ask(true);
    for now in 0..MAX_REQUESTED + 5 {
        let (_, taken) = write(&mut store, "mallory", u64::from(now) + 1);
        let expected = match now < MAX_REQUESTED {
            true => Acceptance::Asks,
            false => Acceptance::AsksTooMuch,
        };
        assert_eq!(taken, expected);
    }
    for number in 1..MAX_REQUESTS {
        let (_, taken) = write(&mut store, &format!("m{number}"), 1);
        assert_eq!(taken, Acceptance::Asks);
    }
    assert_eq!(write(&mut store, "one-more", 1).1, Acceptance::AsksTooMuch);
}

#[test]
fn who_is_blocked_leaves_nothing_new_and_what_was_shown_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let mallory = user("mallory");
    pin(&mut store, "mallory");
    store.accept_contact(&mallory).unwrap();
    let (shown, _) = write(&mut store, "mallory", 1);
    store.mark_shown(&mallory, &shown, true).unwrap();
    write(&mut store, "mallory", 2);
    store.block(&mallory).unwrap();
    assert!(store.is_blocked(&mallory).unwrap());
    assert!(store.unshown(0, 10).unwrap().is_empty());
    assert!(store.receipts_due().unwrap().is_empty());
    assert!(!store.is_accepted(&mallory).unwrap());
    assert_eq!(
        store.history(&HistoryRange::default(), 10).unwrap().len(),
        1
    );
    store.note_dropped(&mallory).unwrap();
    assert_eq!(store.conversation(&mallory).unwrap().dropped, 1);
    assert!(store.unblock(&mallory).unwrap());
    assert!(!store.unblock(&mallory).unwrap());
}

#[test]
fn what_is_set_for_one_is_for_that_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    let (alice, bob) = (user("alice"), user("bob"));
    store.mute(&alice, Some(at(100))).unwrap();
    store.set_receipts(&alice, Some(Receipts::Read)).unwrap();
    store.set_notify(&alice, Some(Notify::None)).unwrap();
    let how = store.conversation(&alice).unwrap();
    assert!(how.is_muted(at(99)) && !how.is_muted(at(100)));
    assert_eq!(
        (how.receipts, how.notify),
        (Some(Receipts::Read), Some(Notify::None))
    );
    assert!(!how.is_ordinary(at(99)));
    assert!(store.conversation(&bob).unwrap().is_ordinary(at(99)));
    store.mute(&alice, None).unwrap();
    store.set_receipts(&alice, None).unwrap();
    store.set_notify(&alice, None).unwrap();
    assert!(store.conversation(&alice).unwrap().is_ordinary(at(1)));
}

#[test]
fn receipts_are_as_they_were_set_for_the_sender() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&folder);
    for name in ["none", "read"] {
        pin(&mut store, name);
        store.accept_contact(&user(name)).unwrap();
    }
    store
        .set_receipts(&user("none"), Some(Receipts::None))
        .unwrap();
    store
        .set_receipts(&user("read"), Some(Receipts::Read))
        .unwrap();
    for name in ["none", "read"] {
        let (id, _) = write(&mut store, name, 1);
        store.mark_shown(&user(name), &id, false).unwrap();
    }
    assert_eq!(store.receipts_due().unwrap(), [user("read")]);
}
