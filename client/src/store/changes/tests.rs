use rand::SeedableRng;
use sealpost_core::{Identity, Lifetime};

use super::super::tests::{at, store, user};
use super::super::{Acceptance, HistoryEntry, HistoryRange, Incoming};
use super::*;

/// Alice, who writes, and a store of whom she writes to.
struct World {
    _folder: tempfile::TempDir,
    store: Store,
    alice: UserId,
    signer: IdentityKey,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    World {
        store: store(&folder),
        _folder: folder,
        alice: user("alice"),
        signer: identity(1),
    }
}

fn identity(seed: u64) -> IdentityKey {
    Identity::generate(&mut rand::rngs::StdRng::seed_from_u64(seed)).key()
}

fn id() -> MessageId {
    MessageId::new(at(1), &mut rand::rng())
}

fn text(text: &str) -> Content {
    Content::Text { text: text.into() }
}

fn edit(of: MessageId, text: &str) -> Content {
    Content::Edit(Edit {
        text: text.into(),
        of,
    })
}

fn deletion(message: MessageId) -> Content {
    Deletion { message }.to_content()
}

impl World {
    fn takes(&mut self, id: MessageId, ts: u64, content: &Content) -> Acceptance {
        let (from, signer) = (self.alice.clone(), self.signer);
        self.takes_from(&from, signer, id, ts, content)
    }

    fn takes_from(
        &mut self,
        from: &UserId,
        signer: IdentityKey,
        id: MessageId,
        ts: u64,
        content: &Content,
    ) -> Acceptance {
        let body = content.to_json().unwrap();
        let message = Incoming {
            from,
            id: &id,
            prev: None,
            ts: at(ts),
            body: body.as_bytes(),
            digest: [7; 32],
            signer: Some(signer),
        };
        self.store.accept(&message, at(ts)).unwrap()
    }

    fn history(&self) -> Vec<HistoryEntry> {
        let places = self.store.history(&HistoryRange::default(), 100).unwrap();
        let entry = |place| self.store.history_entry(place).unwrap().unwrap();
        places.into_iter().rev().map(entry).collect()
    }

    fn texts(&self) -> Vec<String> {
        let words =
            |entry: HistoryEntry| crate::event::readable(&stored_content(&entry.body).unwrap());
        self.history().into_iter().map(words).collect()
    }

    fn rows(&self) -> u32 {
        let count = self
            .store
            .db
            .query_row("SELECT count(*) FROM messages", [], |row| row.get(0));
        count.unwrap()
    }
}

#[test]
fn the_latest_edit_counts_in_whatever_order_they_come() {
    let mut world = world();
    let message = id();
    world.takes(message, 10, &text("first"));
    world.takes(id(), 30, &edit(message, "third"));
    world.takes(id(), 20, &edit(message, "second"));
    assert_eq!(world.texts(), ["third"]);
    let entry = world.history().remove(0);
    let revised = entry.revised.unwrap();
    assert_eq!(revised.edits, 2);
    assert_eq!(stored_content(&revised.original), Some(text("first")));
}

#[test]
fn an_edit_that_comes_before_its_message_is_a_text_until_then() {
    let mut world = world();
    let message = id();
    world.takes(id(), 20, &edit(message, "second"));
    assert_eq!(world.texts(), ["second"]);
    world.takes(message, 10, &text("first"));
    assert_eq!(world.texts(), ["second"]);
    assert!(world.history()[0].revised.is_some());
}

#[test]
fn nobody_edits_or_deletes_what_another_signed() {
    let mut world = world();
    let (message, mallory) = (id(), user("mallory"));
    world.takes(message, 10, &text("mine"));
    // Another person.
    world.takes_from(&mallory, identity(2), id(), 20, &edit(message, "forged"));
    world.takes_from(&mallory, identity(2), id(), 21, &deletion(message));
    // A later identity of the same name.
    let alice = world.alice.clone();
    world.takes_from(&alice, identity(3), id(), 22, &edit(message, "rewritten"));
    let dropped = world.takes_from(&alice, identity(3), id(), 23, &deletion(message));
    assert_eq!(dropped, Acceptance::Quiet);
    assert_eq!(world.texts(), ["mine", "forged", "rewritten"]);
    assert!(world.history().iter().all(|entry| entry.revised.is_none()));
    // Nor before it came.
    let late = id();
    world.takes_from(&alice, identity(3), id(), 24, &edit(late, "too early"));
    world.takes_from(&alice, identity(3), id(), 25, &deletion(late));
    world.takes(late, 26, &text("still mine"));
    assert!(world.texts().contains(&"still mine".to_owned()));
    assert!(world.texts().contains(&"too early".to_owned()));
}

#[test]
fn ten_edits_count_and_a_flood_of_more_leaves_nothing() {
    let mut world = world();
    let message = id();
    world.takes(message, 10, &text("0"));
    for number in 1..=200 {
        let taken = world.takes(id(), 10 + number, &edit(message, &number.to_string()));
        let counts = number <= u64::from(MAX_EDITS);
        assert_eq!(taken == Acceptance::Stored, counts, "{number}");
    }
    assert_eq!(world.texts(), ["10"]);
    assert_eq!(world.rows(), 1 + MAX_EDITS);
}

#[test]
fn a_deleted_message_leaves_its_place_and_neither_its_text_nor_its_edits() {
    let mut world = world();
    let message = id();
    world.takes(message, 10, &text("first"));
    world.takes(id(), 20, &edit(message, "second"));
    assert_eq!(
        world.takes(id(), 30, &deletion(message)),
        Acceptance::Stored
    );
    assert_eq!(world.texts(), ["[deleted]"]);
    // Neither again nor back.
    assert_eq!(world.takes(id(), 40, &deletion(message)), Acceptance::Quiet);
    assert_eq!(
        world.takes(id(), 50, &edit(message, "x")),
        Acceptance::Quiet
    );
    assert_eq!(world.texts(), ["[deleted]"]);
    assert_eq!(world.rows(), 2);
    // What was not shown before is not shown: only that something was deleted.
    assert_eq!(world.store.unshown(0, 10).unwrap().len(), 1);
}

#[test]
fn a_deletion_that_comes_first_waits_for_its_message_and_a_flood_of_them_is_bounded() {
    let mut world = world();
    let message = id();
    for _ in 0..2 * MAX_EARLY {
        assert_eq!(world.takes(id(), 5, &deletion(id())), Acceptance::Quiet);
    }
    world.takes(id(), 6, &deletion(message));
    assert_eq!(i64::from(world.rows()), MAX_EARLY);
    assert_eq!(world.texts(), [""; 0]);
    assert_eq!(world.takes(message, 10, &text("first")), Acceptance::Quiet);
    assert_eq!(world.texts(), ["[deleted]"]);
    assert!(world.store.unshown(0, 10).unwrap().is_empty());
}

#[test]
fn what_was_shown_or_sent_disappears_after_its_time_and_leaves_nothing_on_the_disk() {
    let mut world = world();
    let alice = world.alice.clone();
    let hour = Lifetime::from_seconds(3_600);
    let setting = Expiry::after(None, hour, at(1));
    let now = crate::clock::now();
    world.takes(id(), 10, &setting.to_content());
    let (theirs, unshown) = (id(), id());
    world.takes(theirs, 20, &text("the lighthouse at nine"));
    world.takes(id(), 21, &edit(theirs, "the lighthouse at ten"));
    world.takes(unshown, 22, &text("never shown"));
    world.store.mark_shown(&alice, &theirs, false).unwrap();
    let (sent, unsent) = (id(), id());
    for id in [sent, unsent] {
        let body = Zeroizing::new(text("to the lighthouse").to_json().unwrap());
        world.store.enqueue(&alice, &[(id, body)], now).unwrap();
    }
    let number = world.store.due(now, 10).unwrap()[0].number;
    let taken = [(number, super::super::Attempt::Taken)];
    world.store.attempted(&taken, now).unwrap();
    let later = |seconds| now.saturating_add(std::time::Duration::from_secs(seconds));
    assert_eq!(world.store.expire(later(3_500)).unwrap(), 0);
    assert_eq!(world.store.expire(later(3_700)).unwrap(), 2);
    assert!(
        world
            .store
            .history_entry(super::super::Place::Received(2))
            .unwrap()
            .is_none()
    );
    let left = world.texts();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left[0].contains("disappear after 1h"), "{left:?}");
    // Seen for ever, as a copy of it would show.
    assert!(world.store.seen(&alice, &theirs).unwrap().contains);
    assert_eq!(world.rows(), 2, "its edit went with it");
    // Deleted pages are overwritten and the journal is emptied.
    let wal = world._folder.path().join("store.sqlite-wal");
    assert_eq!(std::fs::metadata(wal).map_or(0, |file| file.len()), 0);
}

#[test]
fn an_edit_does_not_outlive_its_message_nor_end_before_it() {
    let mut world = world();
    let alice = world.alice.clone();
    let message = id();
    world.takes(message, 10, &text("stays"));
    world.store.mark_shown(&alice, &message, false).unwrap();
    let setting = Expiry::after(None, Lifetime::from_seconds(5), at(11_000));
    world.takes(id(), 20, &setting.to_content());
    let change = id();
    world.takes(change, 30, &edit(message, "stays, too"));
    world.store.mark_shown(&alice, &change, false).unwrap();
    let later = crate::clock::now().saturating_add(std::time::Duration::from_secs(60));
    world.store.expire(later).unwrap();
    assert_eq!(world.texts()[0], "stays, too");
}

#[test]
fn ours_are_deleted_here_at_once_and_are_not_sent_again() {
    let mut world = world();
    let alice = world.alice.clone();
    let now = at(1_000);
    let send = |store: &mut Store, content: &Content| {
        crate::outgoing::enqueue(store, &alice, content, now).unwrap()
    };
    let sent = send(&mut world.store, &text("sent"));
    let number = world.store.due(now, 10).unwrap()[0].number;
    let taken = [(number, super::super::Attempt::Taken)];
    world.store.attempted(&taken, now).unwrap();
    let unsent = send(&mut world.store, &text("unsent"));
    send(&mut world.store, &edit(sent, "sent, edited"));
    assert_eq!(world.texts(), ["sent, edited", "unsent"]);
    for id in [sent, unsent] {
        send(&mut world.store, &deletion(id));
    }
    assert_eq!(world.texts(), ["[deleted]"]);
    let far = at(u32::MAX.into());
    let due: Vec<String> = world
        .store
        .due(far, 10)
        .unwrap()
        .iter()
        .map(|due| stored_content(&due.body).unwrap().kind().to_owned())
        .collect();
    assert_eq!(due, ["delete", "delete"]);
}

#[test]
fn a_message_that_answers_another_is_shown_with_it_as_it_reads_now() {
    let mut world = world();
    let bob = user("bob");
    world.store.belongs_to(&bob);
    let alice = world.alice.clone();
    let theirs = id();
    world.takes(theirs, 10, &text("a line\n\u{1b}[31mand more"));
    let name = |from: &UserId, id| sealpost_core::MessageRef {
        from: from.clone(),
        id,
    };
    let quote = |world: &World, name| world.store.quote(&alice, &name).unwrap();
    assert_eq!(
        quote(&world, name(&alice, theirs)),
        Some("a line and more".to_owned())
    );
    world.takes(id(), 11, &edit(theirs, &"x".repeat(60_000)));
    let long = quote(&world, name(&alice, theirs)).unwrap();
    assert_eq!(long.chars().count(), 49);
    let ours = crate::outgoing::enqueue(&mut world.store, &alice, &text("mine"), at(12)).unwrap();
    assert_eq!(quote(&world, name(&bob, ours)), Some("mine".to_owned()));
    // Of nobody else's conversation.
    assert_eq!(quote(&world, name(&user("carol"), ours)), None);
    assert_eq!(
        world
            .store
            .quote(&user("mallory"), &name(&bob, ours))
            .unwrap(),
        None
    );
}

#[test]
fn somebody_who_reads_for_long_holds_up_nothing_that_disappears() {
    let mut world = world();
    let alice = world.alice.clone();
    let setting = Expiry::after(None, Lifetime::from_seconds(5), at(1));
    world.takes(id(), 10, &setting.to_content());
    let message = id();
    world.takes(message, 20, &text("soon gone"));
    world.store.mark_shown(&alice, &message, false).unwrap();
    let reader = Connection::open(world._folder.path().join("store.sqlite")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |db: &Connection| -> u32 {
        db.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(&reader), 2);
    let before = std::time::Instant::now();
    let later = crate::clock::now().saturating_add(Duration::from_secs(60));
    assert_eq!(world.store.expire(later).unwrap(), 1);
    assert!(before.elapsed() < super::super::BUSY_TIME / 2);
    assert_eq!(world.rows(), 1);
}
