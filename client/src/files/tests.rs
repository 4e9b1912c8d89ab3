use std::os::unix::fs::PermissionsExt as _;

use sealpost_core::{Content, FileChunk, FileRequest};

use super::*;
use crate::store::tests::{at, store, user};
use crate::store::{Attempt, ChunkTaken, FileRules, Incoming, WINDOW};

const RULES: FileRules = FileRules {
    limit: 1 << 30,
    fetch: 1 << 20,
    downloads: None,
};

fn id(ms: u64) -> MessageId {
    MessageId::new(at(ms), &mut rand::rng())
}

/// A home in which files are fetched.
fn home() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).with_file_rules(RULES);
    (folder, store)
}

/// Alice offers it to us; its key, and the message that offers it.
fn offered(store: &mut Store, size: u64, ms: u64) -> (FileOffer, MessageId) {
    let chunking = sealpost_core::Chunking::new(size, 1_024).unwrap();
    let key = FileKey::from_bytes([3; 32]);
    let content = vec![5; usize::try_from(size).unwrap()];
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&content).into();
    let offer = FileOffer::new("../a.txt", chunking, digest, key).unwrap();
    let (alice, id) = (user("alice"), id(ms));
    let body = offer.to_content().unwrap().to_json().unwrap();
    let message = Incoming {
        from: &alice,
        id: &id,
        prev: None,
        ts: at(ms),
        body: body.as_bytes(),
        digest: [0; 32],
        signer: None,
    };
    store.accept(&message, at(ms)).unwrap();
    store.file_offered(&alice, &id, &offer, at(ms)).unwrap();
    (offer, id)
}

fn chunk(offer: &FileOffer, id: MessageId, index: u32) -> FileChunk {
    let length = offer.chunking().length(index).unwrap();
    let data = offer
        .key()
        .encrypt(offer.chunking(), index, &vec![5; length])
        .unwrap();
    FileChunk::new(id, index, data).unwrap()
}

fn ask(store: &mut Store, ms: u64) -> Vec<FileRequest> {
    let asks = store.chunks_to_ask(at(ms)).unwrap();
    for ask in &asks {
        store.chunks_asked_for(ask, at(ms)).unwrap();
    }
    asks.into_iter().map(|ask| ask.request).collect()
}

#[test]
fn chunks_are_taken_in_order_when_they_were_asked_for_and_asked_for_again_when_none_comes() {
    let (_folder, mut store) = home();
    let (offer, id) = offered(&mut store, 50_000, 1);
    let alice = user("alice");
    let take = |store: &mut Store, index| {
        let taken = store.take_chunk(&alice, &chunk(&offer, id, index), at(10));
        store.sync_parts().unwrap();
        taken.unwrap()
    };
    assert_eq!(take(&mut store, 0), ChunkTaken::Dropped, "not asked for");
    assert!(store.ask_for_file(1, None, at(2)).unwrap());
    assert_eq!(store.admit_files(at(2)).unwrap(), [1]);
    assert_eq!(
        ask(&mut store, 3),
        [FileRequest::new(id, 0, 0, WINDOW).unwrap()]
    );
    assert_eq!(ask(&mut store, 4), []);
    assert_eq!(take(&mut store, 1), ChunkTaken::Dropped, "not the next");
    assert_eq!(take(&mut store, 0), ChunkTaken::Stored(1));
    assert_eq!(take(&mut store, 0), ChunkTaken::Dropped, "once");
    let foreign = store.take_chunk(&user("bob"), &chunk(&offer, id, 1), at(10));
    assert_eq!(foreign.unwrap(), ChunkTaken::Dropped);
    // 30 s after the last that came, then a minute, and so on.
    assert_eq!(ask(&mut store, 30_000), []);
    let again = [FileRequest::new(id, 1, 1, 1 + WINDOW).unwrap()];
    assert_eq!(ask(&mut store, 30_011), again);
    assert_eq!(ask(&mut store, 60_010), []);
    assert_eq!(ask(&mut store, 60_012), again);
    assert_eq!(ask(&mut store, 120_011), []);
    for index in 1..17 {
        assert_eq!(take(&mut store, index), ChunkTaken::Stored(1));
    }
    let more = ask(&mut store, 11);
    assert_eq!(more, [FileRequest::new(id, 17, 33, 49).unwrap()]);
    for index in 17..48 {
        assert_eq!(take(&mut store, index), ChunkTaken::Stored(1));
    }
    assert_eq!(take(&mut store, 48), ChunkTaken::Whole(1));
}

#[test]
fn what_a_disk_lost_of_a_file_is_asked_for_again_and_what_a_crash_left_behind_is_cut_off() {
    let (folder, mut store) = home();
    let (offer, id) = offered(&mut store, 5_000, 1);
    let alice = user("alice");
    store.ask_for_file(1, None, at(2)).unwrap();
    store.admit_files(at(2)).unwrap();
    ask(&mut store, 3);
    for index in 0..2 {
        store
            .take_chunk(&alice, &chunk(&offer, id, index), at(4))
            .unwrap();
    }
    store.sync_parts().unwrap();
    let part = folder.path().join("files/1.part");
    assert_eq!(part.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut torn = std::fs::read(&part).unwrap();
    torn.extend_from_slice(&[0; 700]);
    std::fs::write(&part, &torn).unwrap();
    let taken = store.take_chunk(&alice, &chunk(&offer, id, 2), at(4));
    assert_eq!(taken.unwrap(), ChunkTaken::Stored(1));
    store.sync_parts().unwrap();
    assert_eq!(part.metadata().unwrap().len(), 3 * (1_024 + 16));
    // As after a backup, which has none of it.
    std::fs::remove_file(&part).unwrap();
    let taken = store.take_chunk(&alice, &chunk(&offer, id, 3), at(4));
    assert_eq!(taken.unwrap(), ChunkTaken::Dropped);
    assert_eq!(ask(&mut store, 5), [FileRequest::new(id, 0, 0, 5).unwrap()]);
    for index in 0..5 {
        store
            .take_chunk(&alice, &chunk(&offer, id, index), at(4))
            .unwrap();
    }
    store.sync_parts().unwrap();
    let entry = store.file(1).unwrap().unwrap();
    assert_eq!((entry.state, entry.done), (FileState::Checking, 5_000));
    let order = Order::new(&store, &entry, Some(folder.path().to_owned()));
    let saved = work(&order.unwrap().unwrap()).unwrap().unwrap();
    assert_eq!(saved, folder.path().join("a.txt"));
    assert_eq!(std::fs::read(saved).unwrap(), vec![5; 5_000]);
    clear_away(&store).unwrap();
    assert!(part.exists());
    store
        .end_file(1, FileCause::Cancelled, None, at(6))
        .unwrap();
    clear_away(&store).unwrap();
    assert!(!part.exists());
}

#[test]
fn of_one_sender_so_many_offers_are_open_and_of_what_is_not_asked_for_nothing_is_fetched() {
    let (_folder, mut store) = home();
    for ms in 1..=100 {
        offered(&mut store, 10, ms);
    }
    assert_eq!(store.files(1_000).unwrap().len(), 64);
    store.admit_files(at(200)).unwrap();
    assert_eq!(ask(&mut store, 201), []);
    let causes = store.files(1_000).unwrap();
    assert!(
        causes
            .iter()
            .all(|entry| entry.cause == Some(FileCause::NotAsked))
    );
}

#[test]
fn offers_that_do_not_move_for_thirty_days_are_given_up() {
    let (_folder, mut store) = home();
    offered(&mut store, 10, 1);
    let day = 24 * 60 * 60 * 1_000;
    for at_day in 0..30 {
        assert!(store.expire_files(at(at_day * day + 1)).unwrap().is_empty());
    }
    assert_eq!(store.expire_files(at(30 * day + 2)).unwrap(), [1]);
    let entry = store.file(1).unwrap().unwrap();
    assert_eq!(entry.cause, Some(FileCause::Expired));
    assert!(
        store.file_words().unwrap().is_empty(),
        "its sender does the same"
    );
}

#[test]
fn a_file_that_was_changed_is_not_encrypted_once_more() {
    let (folder, mut store) = home();
    let path = folder.path().join("source");
    std::fs::write(&path, vec![1; 100_000]).unwrap();
    let mut read = 0;
    let source = Source::look(&path, |bytes| read = bytes).unwrap();
    assert_eq!((read, source.chunking().count()), (100_000, 3));
    let (number, id) = offer(&mut store, &user("bob"), &source, at(1)).unwrap();
    let bob = user("bob");
    let open = |store: &Store| {
        let offer = store.file_offer(&bob, &id, true).unwrap().unwrap();
        Opened::open(number, &path, offer).unwrap()
    };
    let mut opened = open(&store);
    let first = opened.chunk(&store, id, 2).unwrap().unwrap();
    assert_eq!(opened.chunk(&store, id, 2).unwrap().unwrap(), first);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[99_999] = 2;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        open(&store).chunk(&store, id, 2).unwrap(),
        Err(SourceError::Changed(_))
    ));
    assert!(open(&store).chunk(&store, id, 1).unwrap().is_ok());
    std::fs::write(&path, "short").unwrap();
    assert!(matches!(
        open(&store).chunk(&store, id, 1).unwrap(),
        Err(SourceError::Changed(_))
    ));
}

#[test]
fn requests_add_up_or_take_each_others_place_and_do_not_go_on_for_ever() {
    let (folder, mut store) = home();
    let path = folder.path().join("source");
    std::fs::write(&path, vec![1; 48_000 * 40]).unwrap();
    let source = Source::look(&path, |_| {}).unwrap();
    let bob = user("bob");
    let (number, file) = offer(&mut store, &bob, &source, at(1)).unwrap();
    let ask = |store: &mut Store, have, first, until| {
        let request = FileRequest::new(file, have, first, until).unwrap();
        let name = id(2);
        store
            .chunks_requested(&bob, (&name, at(2)), &request, at(2))
            .unwrap()
    };
    let asked = |store: &Store| {
        let asked = store.chunks_asked().unwrap();
        asked.first().map(|asked| (asked.from, asked.until))
    };
    assert_eq!(ask(&mut store, 0, 0, 32), Some((number, false)));
    for index in 0..20 {
        store.chunk_sent(number, index).unwrap();
    }
    assert_eq!(ask(&mut store, 16, 32, 40), Some((number, false)), "more");
    assert_eq!(asked(&store), Some((20, 40)));
    assert_eq!(ask(&mut store, 18, 18, 40), Some((number, true)), "again");
    assert_eq!(asked(&store), Some((18, 40)));
    store.chunk_sent(number, 20).unwrap();
    assert_eq!(asked(&store), Some((18, 40)), "of the time before");
    assert_eq!(ask(&mut store, 0, 0, 41), None, "beyond the end");
    let other = FileRequest::new(id(9), 0, 0, 1).unwrap();
    let name = id(3);
    let foreign = store.chunks_requested(&bob, (&name, at(3)), &other, at(3));
    assert_eq!(foreign.unwrap(), None);
    for _ in 0..4 * 40 + 1_024 {
        store.chunk_sent(number, 39).unwrap();
    }
    ask(&mut store, 0, 0, 32);
    let entry = store.file(number).unwrap().unwrap();
    assert_eq!(entry.cause, Some(FileCause::AskedTooOften));
    let words = |store: &Store| store.file_words().unwrap().len();
    assert_eq!(words(&store), 0, "not before the offer itself");
    let due = store.due(at(3), 10).unwrap().pop().unwrap();
    store
        .attempted(&[(due.number, Attempt::Taken)], at(3))
        .unwrap();
    assert_eq!(words(&store), 1);
    // What was on its way to the broker then does not change why it is over.
    store.chunk_sent(number, 39).unwrap();
    store.hinder_file(number, FileCause::Unreadable).unwrap();
    let entry = store.file(number).unwrap().unwrap();
    assert_eq!(entry.cause, Some(FileCause::AskedTooOften));
}

#[test]
fn an_offer_is_a_message_and_neither_pipes_nor_folders_nor_what_is_too_large_are_offered() {
    let (folder, store) = home();
    let mut store = store.with_file_rules(FileRules { limit: 10, ..RULES });
    let path = folder.path().join("s");
    std::fs::write(&path, "more than ten").unwrap();
    let source = Source::look(&path, |_| {}).unwrap();
    assert!(matches!(
        offer(&mut store, &user("bob"), &source, at(1)),
        Err(FileError::TooLarge {
            size: 13,
            limit: 10
        })
    ));
    assert_eq!(store.queued().unwrap(), 0);
    for no_file in [folder.path(), Path::new("/dev/null")] {
        assert!(matches!(
            Source::look(no_file, |_| {}),
            Err(SourceError::NotRegular(_))
        ));
    }
    std::fs::write(&path, "ten or so").unwrap();
    let source = Source::look(&path, |_| {}).unwrap();
    let (number, id) = offer(&mut store, &user("bob"), &source, at(1)).unwrap();
    let due = store.due(at(2), 10).unwrap().pop().unwrap();
    let content = Content::parse(std::str::from_utf8(&due.body).unwrap()).unwrap();
    assert_eq!(due.id, id);
    assert_eq!(FileOffer::read(&content).unwrap().name(), "s");
    assert_eq!(find(&store, &number.to_string()).unwrap().id, id);
    assert_eq!(find(&store, &id.to_string()).unwrap().number, number);
    assert!(matches!(find(&store, "x"), Err(FileError::Unknown)));
    cancel(&mut store, number, at(3)).unwrap();
    assert!(matches!(
        cancel(&mut store, number, at(3)),
        Err(FileError::Over(_))
    ));
}
