//! Full files become segments, and nobody can tell but by the names.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::layout::{self, LogName};
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogReader, Selection, manifests, read_manifest};
use sealpost_archive::manifest::Manifest;
use sealpost_archive::storage::{Directory, Storage};
use sealpost_archive::tree::{Tree, TreeHead};
use sealpost_archiver::committer::{Committer, Logs};
use sealpost_archiver::evidence::{Evidence, Synced};
use sealpost_archiver::health::Health;
use sealpost_archiver::keeper::{Event, Job, keep, unfinished};
use sealpost_archiver::room::Room;
use sealpost_archiver::rotation::Rotation;
use sealpost_archiver::sealer::{Sealer, SealerError};
use sealpost_archiver::work::{Inbox, Order, Work};
use sealpost_archiver::writer::{Full, FullFile, Writer};
use sealpost_core::Timestamp;
use tokio::sync::mpsc;

use crate::messages::{at, contents, message, messages};
use crate::simulated_disk::{SimulatedDisk, SimulatedFile};

const LOG: LogName = LogName::EncryptedLogs;

/// A log that is open, with those who look after it.
struct Open<S: Storage> {
    storage: S,
    writer: Writer<S::File>,
    evidence: Evidence<S>,
    sealer: Sealer<S>,
}

impl<S: Storage + Clone> Open<S> {
    fn new(storage: &S) -> Open<S> {
        let (writer, recovery) = Writer::open(storage, LOG, 10_000, None).unwrap();
        assert_eq!(recovery.tiles_lost, None);
        let text =
            CheckpointSigner::text_from_seed("sealpost/local/archiver/encrypted_logs", &[7; 32]);
        let signer = CheckpointSigner::parse(&text).unwrap();
        assert_eq!(unfinished(&recovery), []);
        let evidence = Evidence::new(storage.clone(), LOG, recovery.tree, signer, 0);
        let sealer = Sealer::new(storage.clone(), LOG, evidence.tiles(), recovery.sealed);
        Open {
            storage: storage.clone(),
            writer,
            evidence,
            sealer,
        }
    }

    fn archive(&mut self, numbers: std::ops::Range<u64>, now: Timestamp) -> u64 {
        let batch: Vec<_> = numbers.map(message).collect();
        let archived = self.writer.archive(&batch, now).unwrap();
        self.evidence.add(archived.leaves);
        archived.duplicates
    }

    fn rotate(&mut self) -> FullFile {
        let first = self.writer.rotate(&self.storage).unwrap().unwrap();
        let head = self.evidence.head();
        FullFile { first, head }
    }

    fn seal(&mut self) {
        let full = self.rotate();
        self.sealer.seal(&full).unwrap();
    }
}

/// Topic and payload of all messages of a log, over all its files.
fn kept<S: Storage>(storage: &S) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let reader = LogReader::open(storage, LOG).unwrap();
    let mut lines = reader.lines(Selection::default());
    let mut kept = Vec::new();
    while let Some(found) = lines.next_line().unwrap() {
        assert_eq!(found.seq, kept.len() as u64 + 1);
        let Body::Message(message) = Line::parse(found.bytes).unwrap().body else {
            panic!("line {} is no message", found.seq);
        };
        kept.push((
            message.topic.into_owned().into(),
            message.payload.into_owned().into(),
        ));
    }
    kept
}

fn manifests_of<S: Storage>(storage: &S) -> Vec<Manifest> {
    let paths = manifests(storage, LOG).unwrap();
    paths
        .iter()
        .map(|(_, path)| read_manifest(storage, path).unwrap().unwrap())
        .collect()
}

#[test]
fn what_comes_again_is_known_across_segments_and_restarts() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(parent.path()).unwrap();
    for life in 0..4 {
        let mut open = Open::new(&directory);
        // All of the earlier lives once more.
        assert_eq!(open.archive(0..life * 300, at()), life * 300);
        for batch in 0..3 {
            let from = life * 300 + batch * 100;
            open.archive(from..from + 100, at());
            open.evidence.publish().unwrap();
            if batch < 2 {
                open.seal();
            }
        }
    }
    assert_eq!(kept(&directory), contents(&messages(1200)));
    let manifests = manifests_of(&directory);
    assert_eq!(manifests.len(), 8);
    // A later one begins where the active file of the life before had begun.
    assert_eq!((manifests[2].first, manifests[2].last), (201, 400));
    let zst = parent
        .path()
        .join(layout::day(at()))
        .join(layout::segment(1, 0));
    let lines = zstd::stream::decode_all(std::fs::File::open(zst).unwrap()).unwrap();
    assert_eq!(lines.iter().filter(|&&byte| byte == b'\n').count(), 100);
}

#[test]
fn narrow_tiles_go_when_their_tile_is_full_and_the_tree_goes_on_without_them() {
    let disk = SimulatedDisk::default();
    let mut open = Open::new(&disk);
    for number in 0..60 {
        open.archive(number * 10..number * 10 + 10, at());
        open.evidence.publish().unwrap();
        if number == 20 {
            open.seal();
        }
    }
    let narrow: Vec<String> = disk
        .names()
        .into_iter()
        .filter(|name| name.starts_with("tile/0/") && name.contains(".p/"))
        .collect();
    assert!(!narrow.is_empty());
    assert!(
        narrow.iter().all(|name| name.starts_with("tile/0/002.p/")),
        "{narrow:?}"
    );
    // The segment ends within a tile that is full by now.
    let manifest = &manifests_of(&disk)[0];
    assert_eq!(manifest.last, 210);
    let head = TreeHead {
        size: 210,
        root: manifest.root,
    };
    assert_eq!(
        open.evidence.tiles().resume(head).unwrap().unwrap().head(),
        head
    );
}

#[test]
fn a_clock_that_is_set_back_changes_neither_order_nor_place() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(parent.path()).unwrap();
    let time = |text| Timestamp::parse(text).unwrap();
    let (late, early) = (time("1700006400.000"), time("1600000000.000"));
    let full = Full {
        bytes: u64::MAX,
        age: 1000,
    };
    let mut open = Open::new(&directory);
    open.archive(0..3, late);
    open.archive(3..6, early);
    assert!(
        !open.writer.is_full(full, early),
        "nothing is old before its time"
    );
    assert!(open.writer.is_full(full, time("1700006401.000")));
    open.seal();
    open.archive(6..9, early);
    open.seal();
    assert_eq!(kept(&directory), contents(&messages(9)));
    let manifests = manifests_of(&directory);
    assert_eq!((manifests[0].from, manifests[0].until), (early, late));
    // The day of the first line, whatever came then.
    for (first, day) in [(1, "2023/11/15"), (7, "2020/09/13")] {
        let path = parent.path().join(day).join(layout::segment(first, 0));
        assert!(path.exists(), "{}", path.display());
    }
    drop(open);
    let mut open = Open::new(&directory);
    assert_eq!(open.archive(0..9, late), 9);
}

#[test]
fn a_full_disk_leaves_the_plain_file_and_it_is_sealed_when_there_is_room() {
    let disk = SimulatedDisk::default();
    let mut open = Open::new(&disk);
    open.archive(0..30, at());
    let full = open.rotate();
    open.archive(30..40, at());
    let mut failures = 0;
    for operations in 0.. {
        disk.fail_after(operations, io::ErrorKind::StorageFull);
        let (jobs, to_do) = channel();
        jobs.send(Job::Seal(full)).unwrap();
        drop(jobs);
        let sealer = Sealer::new(disk.clone(), LOG, open.evidence.tiles(), Tree::new());
        let mut done = false;
        keep(
            sealer,
            Vec::new(),
            &to_do,
            Duration::ZERO,
            |event| match event {
                Event::Done(_) => done = true,
                Event::Failed(_, error) => {
                    assert!(error.is_full(), "{error}");
                    let names = disk.names();
                    assert!(
                        !names.iter().any(|name| name.ends_with(".part")),
                        "room is given back"
                    );
                }
            },
        );
        disk.kill();
        assert_eq!(kept(&disk), contents(&messages(40)));
        if done {
            break;
        }
        failures += 1;
    }
    assert!(failures > 5);
    assert_eq!(manifests_of(&disk).len(), 1);
    assert_eq!(disk.live(&LOG.sealing(1)), None);
}

#[test]
fn what_failed_is_tried_again_and_what_comes_after_it_waits() {
    let disk = SimulatedDisk::default();
    let mut open = Open::new(&disk);
    open.archive(0..30, at());
    let first = open.rotate();
    open.archive(30..60, at());
    let second = open.rotate();
    disk.fail_after(0, io::ErrorKind::StorageFull);
    let (jobs, to_do) = channel();
    jobs.send(Job::Seal(first)).unwrap();
    jobs.send(Job::Seal(second)).unwrap();
    let mut jobs = Some(jobs);
    let mut order = Vec::new();
    let (sealer, room) = (open.sealer, disk.clone());
    keep(
        sealer,
        Vec::new(),
        &to_do,
        Duration::from_millis(1),
        |event| match event {
            Event::Failed(job, _) => {
                order.push((*job, false));
                if order.len() == 3 {
                    room.kill();
                }
            }
            Event::Done(job) => {
                order.push((*job, true));
                if *job == Job::Seal(second) {
                    jobs.take();
                }
            }
        },
    );
    let (first, second) = (Job::Seal(first), Job::Seal(second));
    assert_eq!(
        order,
        [
            (first, false),
            (first, false),
            (first, false),
            (first, true),
            (second, true)
        ]
    );
    assert_eq!(kept(&disk), contents(&messages(60)));
}

#[test]
fn lines_that_the_disk_changed_are_not_sealed() {
    let disk = SimulatedDisk::default();
    let mut open = Open::new(&disk);
    open.archive(0..9, at());
    let full = open.rotate();
    let plain = LOG.sealing(1);
    let whole = disk.live(&plain).unwrap();
    let changed =
        String::from_utf8(whole.clone())
            .unwrap()
            .replacen("1700000000.123", "1600000000.123", 1);
    disk.put(&plain, changed.as_bytes());
    assert!(matches!(
        open.sealer.seal(&full),
        Err(SealerError::Changed { size: 9, .. })
    ));
    assert_eq!(disk.live(&plain).unwrap(), changed.as_bytes());
    assert_eq!(manifests_of(&disk), []);
    disk.put(&plain, &whole);
    open.sealer.seal(&full).unwrap();
}

#[test]
fn the_committer_rotates_between_batches_and_when_it_is_told_to() {
    let disk = SimulatedDisk::default();
    let writer = |log| {
        Writer::<SimulatedFile>::open(&disk, log, 1000, None)
            .unwrap()
            .0
    };
    let logs = Logs {
        messages: writer(LOG),
        keys: writer(LogName::KeyHistory),
    };
    let full = Full {
        bytes: 500,
        age: u64::MAX,
    };
    let room = Room::new(disk.clone(), 0, Duration::from_millis(1));
    let rotation = Rotation::new(disk.clone(), full);
    let mut committer = Committer::new(logs, room, rotation, None, Arc::new(Health::default()));
    let (work, inbox) = mpsc::unbounded_channel();
    for message in messages(30) {
        work.send(message.into()).unwrap();
        // It ends a batch, as a pause would.
        work.send(Work::Order(Order::SealFull)).unwrap();
    }
    work.send(Work::Order(Order::Seal)).unwrap();
    work.send(Work::Order(Order::Seal)).unwrap();
    drop(work);
    let (receipts, mut received) = mpsc::unbounded_channel();
    let mut told: Vec<Synced> = Vec::new();
    committer
        .commit_all(Inbox::new(inbox), &receipts, at, |log, synced| {
            assert_eq!(log, LOG);
            told.push(synced);
        })
        .unwrap();
    let mut receipts = 0;
    while received.try_recv().is_ok() {
        receipts += 1;
    }
    assert_eq!(receipts, 30);
    let mut lines = 0;
    let mut first = 1;
    let mut files = 0;
    for synced in &told {
        match synced {
            Synced::Lines(leaves) => lines += leaves.len() as u64,
            Synced::Full(begins) => {
                assert_eq!(*begins, first);
                assert!(disk.durable(&LOG.sealing(first)).is_some());
                first = lines + 1;
                files += 1;
            }
            Synced::Removal(removal) => panic!("{removal:?}"),
        }
    }
    assert!(files > 5);
    assert_eq!((lines, first), (30, 31), "the last order sealed the rest");
    assert_eq!(disk.durable(&LOG.active()).unwrap(), b"");
    assert_eq!(kept(&disk), contents(&messages(30)));
}
