//! What a new life of the archiver knows of the earlier ones.

use sealpost_archive::layout::LogName;
use sealpost_archiver::writer::Writer;

use crate::messages::{LOG_FILE, at, contents, message, messages, read_log};
use crate::simulated_disk::SimulatedDisk;

#[test]
fn what_comes_again_after_a_restart_is_not_written_again() {
    let disk = SimulatedDisk::default();
    for life in 1..=10 {
        let (mut writer, recovery) =
            Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
        assert_eq!(recovery.last_seq, (life - 1) * 4);
        let archived = writer.archive(&messages(life * 4), at()).unwrap();
        assert_eq!(archived.written, 4);
        assert_eq!(archived.duplicates, (life - 1) * 4);
        assert_eq!(writer.next_seq(), life * 4 + 1);
    }
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(40))
    );
}

#[test]
fn a_duplicate_within_a_batch_is_written_once() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    let archived = writer
        .archive(&[message(0), message(1), message(0), message(1)], at())
        .unwrap();
    assert_eq!((archived.written, archived.duplicates), (2, 2));
    assert_eq!(archived.leaves.len(), 2);
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(2))
    );
}

#[test]
fn the_same_payload_for_another_inbox_is_another_message() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    let mut other = message(2);
    other.topic = "inbox/carol".into();
    other.digest = sealpost_archive::digest::Digest::of(&other.topic, &other.payload);
    assert_eq!(
        writer.archive(&[message(2), other], at()).unwrap().written,
        2
    );
}

#[test]
fn a_window_smaller_than_the_log_remembers_its_end() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 5, None).unwrap();
    writer.archive(&messages(20), at()).unwrap();
    drop(writer);

    let (mut writer, recovery) = Writer::open(&disk, LogName::EncryptedLogs, 5, None).unwrap();
    assert_eq!((recovery.last_seq, recovery.lines_read), (20, 5));
    let last_five: Vec<_> = (15..20).map(message).collect();
    assert_eq!(writer.archive(&last_five, at()).unwrap().duplicates, 5);
    assert_eq!(writer.archive(&[message(3)], at()).unwrap().written, 1);
    assert_eq!(writer.next_seq(), 22);
}

#[test]
fn lines_that_were_written_and_not_synced_are_durable_before_they_count() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    // The write goes through, the sync does not, and neither does the cut after it.
    disk.fail_after(1, std::io::ErrorKind::Other);
    writer.archive(&messages(3), at()).unwrap_err();
    disk.kill();
    assert_eq!(read_log(&disk.live(LOG_FILE).unwrap()).len(), 3);
    assert_eq!(disk.durable(LOG_FILE).unwrap(), b"");

    let (mut writer, recovery) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    assert_eq!(recovery.last_seq, 3);
    assert_eq!(read_log(&disk.durable(LOG_FILE).unwrap()).len(), 3);
    assert_eq!(writer.archive(&messages(3), at()).unwrap().duplicates, 3);
}
