//! The committer: no receipt before its sync, all in the order of arrival, none after a failure.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archiver::arrival::Receipt;
use sealpost_archiver::committer::{self, Logs};
use sealpost_archiver::health::Health;
use sealpost_archiver::room::Room;
use sealpost_archiver::rotation::Rotation;
use sealpost_archiver::work::{Inbox, Work};
use sealpost_archiver::writer::{Full, Writer};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use crate::messages::{LOG_FILE, at, contents, message, messages, read_log};
use crate::simulated_disk::SimulatedDisk;

struct Committer {
    arrivals: UnboundedSender<Work>,
    receipts: UnboundedReceiver<Vec<Receipt>>,
    thread: thread::JoinHandle<Result<(), AppendError>>,
    health: Arc<Health>,
}

/// No file is ever full.
pub(crate) const NEVER_FULL: Full = Full {
    bytes: u64::MAX,
    age: u64::MAX,
};

/// What is to stay free on the simulated disk.
const RESERVE: u64 = 1000;

fn start(disk: &SimulatedDisk) -> Committer {
    let open = |log| Writer::open(disk, log, 1000, None).unwrap().0;
    let logs = Logs {
        messages: open(LogName::EncryptedLogs),
        keys: open(LogName::KeyHistory),
    };
    let health = Arc::new(Health::default());
    let room = Room::new(disk.clone(), RESERVE, Duration::from_millis(1));
    let rotation = Rotation::new(disk.clone(), NEVER_FULL);
    let mut committer = committer::Committer::new(logs, room, rotation, None, Arc::clone(&health));
    let (arrivals, arrived) = mpsc::unbounded_channel();
    let (sender, receipts) = mpsc::unbounded_channel();
    let thread =
        thread::spawn(move || committer.commit_all(Inbox::new(arrived), &sender, at, |_, _| {}));
    Committer {
        arrivals,
        receipts,
        thread,
        health,
    }
}

#[test]
fn no_receipt_comes_before_its_sync() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    for number in 0..20 {
        disk.hold_syncs();
        committer.arrivals.send(message(number).into()).unwrap();
        disk.wait_for_a_held_sync();
        assert_eq!(
            read_log(&disk.live(LOG_FILE).unwrap()).len() as u64,
            number + 1,
            "written"
        );
        assert_eq!(
            committer.receipts.try_recv(),
            Err(TryRecvError::Empty),
            "and not acknowledged"
        );
        disk.release_syncs();
        assert_eq!(
            committer.receipts.blocking_recv().unwrap(),
            [message(number).receipt]
        );
        assert_eq!(
            read_log(&disk.durable(LOG_FILE).unwrap()).len() as u64,
            number + 1
        );
    }
}

#[test]
fn what_arrives_during_a_sync_is_committed_together_in_order() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    disk.hold_syncs();
    committer.arrivals.send(message(0).into()).unwrap();
    disk.wait_for_a_held_sync();
    for number in 1..500 {
        committer.arrivals.send(message(number).into()).unwrap();
    }
    let before = disk.operations();
    disk.release_syncs();
    assert_eq!(committer.receipts.blocking_recv().unwrap().len(), 1);
    let expected: Vec<_> = (1..500).map(|number| message(number).receipt).collect();
    assert_eq!(committer.receipts.blocking_recv().unwrap(), expected);
    assert_eq!(
        disk.operations() - before,
        3,
        "the first sync, then one write and one sync for all the others"
    );
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(500))
    );
}

#[test]
fn a_duplicate_gets_its_receipt_in_its_turn() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    let mut again = message(0);
    again.receipt.packet_id = Some(77);
    for arrival in [message(0), again.clone()] {
        committer.arrivals.send(arrival.into()).unwrap();
    }
    drop(committer.arrivals);
    let mut receipts = Vec::new();
    while let Some(more) = committer.receipts.blocking_recv() {
        receipts.extend(more);
    }
    assert_eq!(receipts, [message(0).receipt, again.receipt]);
    committer.thread.join().unwrap().unwrap();
}

#[test]
fn a_failing_disk_ends_the_committer_without_a_receipt() {
    for operations in [0, 1] {
        let disk = SimulatedDisk::default();
        let mut committer = start(&disk);
        committer.arrivals.send(message(0).into()).unwrap();
        assert_eq!(committer.receipts.blocking_recv().unwrap().len(), 1);
        disk.fail_after(operations, io::ErrorKind::Other);
        committer.arrivals.send(message(1).into()).unwrap();
        assert_eq!(committer.receipts.blocking_recv(), None);
        let error = committer.thread.join().unwrap().unwrap_err();
        let expected = if operations == 0 {
            "cannot write"
        } else {
            "cannot sync"
        };
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn the_end_of_arrivals_ends_the_committer_when_all_is_archived() {
    let disk = SimulatedDisk::default();
    let committer = start(&disk);
    for number in 0..100 {
        committer.arrivals.send(message(number).into()).unwrap();
    }
    drop(committer.arrivals);
    committer.thread.join().unwrap().unwrap();
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(100))
    );
}

#[test]
fn without_room_nothing_is_acknowledged_and_with_room_it_goes_on_by_itself() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    committer.arrivals.send(message(0).into()).unwrap();
    assert_eq!(committer.receipts.blocking_recv().unwrap().len(), 1);
    disk.leave_free(RESERVE - 1);
    for number in 1..4 {
        committer.arrivals.send(message(number).into()).unwrap();
    }
    wait_until(|| committer.health.facts().no_room.is_some());
    assert_eq!(committer.receipts.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(read_log(&disk.live(LOG_FILE).unwrap()).len(), 1);
    disk.leave_free(RESERVE);
    let mut acknowledged = 0;
    while acknowledged < 3 {
        acknowledged += committer.receipts.blocking_recv().unwrap().len();
    }
    assert_eq!(committer.health.facts().no_room, None);
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(4))
    );
}

#[test]
fn a_disk_that_is_fuller_than_it_says_is_waited_for_too() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    disk.fail_after(0, io::ErrorKind::StorageFull);
    committer.arrivals.send(message(0).into()).unwrap();
    wait_until(|| committer.health.facts().no_room.is_some());
    assert_eq!(committer.receipts.try_recv(), Err(TryRecvError::Empty));
    disk.kill();
    assert_eq!(committer.receipts.blocking_recv().unwrap().len(), 1);
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(1))
    );
}

#[test]
fn an_archiver_without_room_can_be_stopped_and_acknowledges_nothing() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    disk.leave_free(0);
    committer.arrivals.send(message(0).into()).unwrap();
    wait_until(|| committer.health.facts().no_room.is_some());
    drop(committer.arrivals);
    assert_eq!(committer.receipts.blocking_recv(), None);
    committer.thread.join().unwrap().unwrap();
    assert_eq!(disk.durable(LOG_FILE).unwrap(), b"");
}

fn wait_until(holds: impl Fn() -> bool) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < patience, "it never came");
        thread::yield_now();
    }
}
