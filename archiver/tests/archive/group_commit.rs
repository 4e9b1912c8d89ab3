//! The committer: no receipt before its sync, all in the order of arrival, none after a failure.

use std::io;
use std::thread;

use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archiver::arrival::Receipt;
use sealpost_archiver::committer::commit_all;
use sealpost_archiver::writer::Writer;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use crate::messages::{LOG_FILE, at, contents, message, messages, read_log};
use crate::simulated_disk::SimulatedDisk;

struct Committer {
    arrivals: UnboundedSender<sealpost_archiver::arrival::Arrival>,
    receipts: UnboundedReceiver<Vec<Receipt>>,
    thread: thread::JoinHandle<Result<(), AppendError>>,
}

fn start(disk: &SimulatedDisk) -> Committer {
    let (mut writer, _) = Writer::open(disk, LogName::EncryptedLogs, 1000, None).unwrap();
    let (arrivals, arrived) = mpsc::unbounded_channel();
    let (sender, receipts) = mpsc::unbounded_channel();
    let thread = thread::spawn(move || commit_all(&mut writer, arrived, &sender, at, |_| {}));
    Committer {
        arrivals,
        receipts,
        thread,
    }
}

#[test]
fn no_receipt_comes_before_its_sync() {
    let disk = SimulatedDisk::default();
    let mut committer = start(&disk);
    for number in 0..20 {
        disk.hold_syncs();
        committer.arrivals.send(message(number)).unwrap();
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
    committer.arrivals.send(message(0)).unwrap();
    disk.wait_for_a_held_sync();
    for number in 1..500 {
        committer.arrivals.send(message(number)).unwrap();
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
        committer.arrivals.send(arrival).unwrap();
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
        committer.arrivals.send(message(0)).unwrap();
        assert_eq!(committer.receipts.blocking_recv().unwrap().len(), 1);
        disk.fail_after(operations, io::ErrorKind::Other);
        committer.arrivals.send(message(1)).unwrap();
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
        committer.arrivals.send(message(number)).unwrap();
    }
    drop(committer.arrivals);
    committer.thread.join().unwrap().unwrap();
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(100))
    );
}
