//! Any number of crashes, at any operation, also while recovering from the last one: what was acknowledged is in the log, once, in
//! the order of arrival.

use std::io;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archiver::writer::{OpenError, Writer};

use crate::messages::{LOG_FILE, at, contents, message, messages, read_log};
use crate::simulated_disk::SimulatedDisk;

/// One life of the archiver: how many operations the disk lets through, how many messages are in a batch, and how it
/// ends.
#[derive(Debug, Clone)]
struct Life {
    operations: u64,
    batch: u64,
    end: End,
}

#[derive(Debug, Clone)]
enum End {
    Killed,
    PowerCut { seed: u64 },
}

fn life() -> impl Strategy<Value = Life> {
    let end = prop_oneof![
        Just(End::Killed),
        any::<u64>().prop_map(|seed| End::PowerCut { seed })
    ];
    (0..12_u64, 1..6_u64, end).prop_map(|(operations, batch, end)| Life {
        operations,
        batch,
        end,
    })
}

/// A broker with messages 0 to `total`, which sends again from the first that is not acknowledged.
fn live(
    disk: &SimulatedDisk,
    acknowledged: &mut u64,
    total: u64,
    batch: u64,
) -> Result<(), OpenError> {
    let (mut writer, _) = Writer::open(disk, LogName::EncryptedLogs, 1000, None)?;
    while *acknowledged < total {
        let end = (*acknowledged + batch).min(total);
        let arrivals: Vec<_> = (*acknowledged..end).map(message).collect();
        if writer.archive(&arrivals, at()).is_err() {
            return Ok(());
        }
        *acknowledged = end;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_was_acknowledged_survives_every_crash(lives in proptest::collection::vec(life(), 1..12)) {
        let disk = SimulatedDisk::default();
        let total = 20;
        let mut acknowledged = 0;
        for life in lives {
            disk.fail_after(life.operations, io::ErrorKind::Other);
            match live(&disk, &mut acknowledged, total, life.batch) {
                Ok(()) | Err(OpenError::Io(_) | OpenError::File { .. }) => {}
                Err(error) => return Err(TestCaseError::fail(format!("a crash never damages the log: {error}"))),
            }
            match life.end {
                End::Killed => disk.kill(),
                End::PowerCut { seed } => disk.cut_power(&mut StdRng::seed_from_u64(seed)),
            }
            let whole: Vec<u8> = disk.live(LOG_FILE).unwrap_or_default();
            let whole = whole.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &whole[..=end]);
            prop_assert!(read_log(whole).len() as u64 >= acknowledged);
        }
        live(&disk, &mut acknowledged, total, 3).unwrap();
        prop_assert_eq!(acknowledged, total);
        prop_assert_eq!(read_log(&disk.durable(LOG_FILE).unwrap()), contents(&messages(total)));
    }
}

#[test]
fn a_batch_whose_sync_failed_is_cut_off_again() {
    // What a failed sync leaves in the cache would be read, and taken for durable, by the next life.
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    writer.archive(&messages(2), at()).unwrap();
    disk.fail_next_sync();
    assert!(matches!(
        writer.archive(&messages(5), at()),
        Err(AppendError::Sync(_))
    ));
    assert_eq!(read_log(&disk.live(LOG_FILE).unwrap()).len(), 2);
}

#[test]
fn a_full_disk_leaves_whole_lines_and_takes_the_batch_when_there_is_room() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    writer.archive(&messages(2), at()).unwrap();
    disk.fail_after(0, io::ErrorKind::StorageFull);
    for _ in 0..3 {
        let error = writer.archive(&messages(5), at()).unwrap_err();
        assert!(
            matches!(&error, AppendError::Full(error) if error.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert_eq!(read_log(&disk.live(LOG_FILE).unwrap()).len(), 2);
    }
    disk.kill();
    // The batch that was refused is not taken for archived.
    let archived = writer.archive(&messages(5), at()).unwrap();
    assert_eq!((archived.written, archived.duplicates), (3, 2));
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(5))
    );
}

#[test]
fn after_any_other_failure_the_writer_takes_no_more() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    writer.archive(&messages(2), at()).unwrap();
    disk.fail_after(0, io::ErrorKind::Other);
    assert!(matches!(
        writer.archive(&messages(5), at()),
        Err(AppendError::Write(_))
    ));
    disk.kill();
    assert!(matches!(
        writer.archive(&messages(5), at()),
        Err(AppendError::FailedBefore)
    ));
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 1000, None).unwrap();
    writer.archive(&messages(5), at()).unwrap();
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&messages(5))
    );
}
