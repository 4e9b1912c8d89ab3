//! A log that ends in half a line, wherever the cut is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::ReadError;
use sealpost_archive::storage::Directory;
use sealpost_archiver::writer::{OpenError, Writer};

use crate::messages::{LOG_FILE, at, contents, messages, read_log};
use crate::simulated_disk::SimulatedDisk;

const WINDOW: u32 = 1000;

fn written(count: u64) -> Vec<u8> {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, WINDOW, None).unwrap();
    writer.archive(&messages(count), at()).unwrap();
    disk.durable(LOG_FILE).unwrap()
}

#[test]
fn a_torn_tail_is_set_aside_and_cut_at_every_byte() {
    let log = written(7);
    for length in 0..=log.len() {
        let cut = &log[..length];
        let whole = cut
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let lines = cut.iter().filter(|&&byte| byte == b'\n').count() as u64;

        let disk = SimulatedDisk::default();
        disk.put(LOG_FILE, cut);
        let (mut writer, recovery) =
            Writer::open(&disk, LogName::EncryptedLogs, WINDOW, None).unwrap();
        assert_eq!(recovery.last_seq, lines, "cut at {length}");
        assert_eq!(
            disk.durable(LOG_FILE).unwrap(),
            &log[..whole],
            "cut at {length}"
        );
        if whole == length {
            assert_eq!(recovery.torn, None);
            assert_eq!(disk.names(), [LOG_FILE]);
        } else {
            let torn = recovery.torn.unwrap();
            assert_eq!(
                (torn.offset, torn.bytes),
                (whole as u64, (length - whole) as u64)
            );
            assert_eq!(
                disk.durable(&torn.set_aside_in).unwrap(),
                &cut[whole..],
                "nothing is thrown away"
            );
        }

        // The broker sends everything again, and the log is as if nothing had happened.
        writer.archive(&messages(7), at()).unwrap();
        assert_eq!(disk.durable(LOG_FILE).unwrap(), log, "cut at {length}");
    }
}

#[test]
fn every_torn_tail_keeps_a_file_of_its_own() {
    let disk = SimulatedDisk::default();
    for (time, torn) in ["{\"seq\":1", "{\"se", "{"].iter().enumerate() {
        disk.put(LOG_FILE, torn.as_bytes());
        let (_, recovery) = Writer::open(&disk, LogName::EncryptedLogs, WINDOW, None).unwrap();
        assert_eq!(
            recovery.torn.unwrap().set_aside_in,
            format!("{LOG_FILE}.torn-{}", time + 1)
        );
    }
    assert_eq!(disk.live(&format!("{LOG_FILE}.torn-2")).unwrap(), b"{\"se");
}

#[test]
fn on_the_real_disk_the_files_are_for_their_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("archive");
    let directory = Directory::open(&path).unwrap();
    let (mut writer, _) = Writer::open(&directory, LogName::EncryptedLogs, WINDOW, None).unwrap();
    writer.archive(&messages(3), at()).unwrap();
    drop(writer);
    let log = fs::read(path.join(LOG_FILE)).unwrap();
    fs::write(path.join(LOG_FILE), &log[..log.len() - 1]).unwrap();

    let (mut writer, recovery) =
        Writer::open(&directory, LogName::EncryptedLogs, WINDOW, None).unwrap();
    assert_eq!(recovery.last_seq, 2);
    writer.archive(&messages(4), at()).unwrap();
    let log = fs::read(path.join(LOG_FILE)).unwrap();
    assert_eq!(read_log(&log), contents(&messages(4)));
    let torn = path.join(recovery.torn.unwrap().set_aside_in);
    for (path, mode) in [
        (&path, 0o700),
        (&path.join(LOG_FILE), 0o600),
        (&torn, 0o600),
    ] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            mode,
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_damaged_line_in_the_middle_is_refused_and_nothing_is_changed() {
    let log = written(7);
    let lines: Vec<&[u8]> = log.split_inclusive(|&byte| byte == b'\n').collect();
    let third = (lines[0].len() + lines[1].len()) as u64;

    // Any byte of the third line's JSON structure: a brace less, a hole of zeros, a line in two.
    for (name, damaged) in [
        (
            "no JSON",
            [lines[2].strip_suffix(b"}\n").unwrap(), b"\n"].concat(),
        ),
        (
            "a hole",
            [&lines[2][..30], &[0; 16], &lines[2][46..]].concat(),
        ),
        ("empty", b"\n".to_vec()),
        (
            "a line in two",
            [&lines[2][..40], b"\n", &lines[2][40..]].concat(),
        ),
    ] {
        let damaged = [lines[0], lines[1], &damaged, &lines[3..].concat()].concat();
        let disk = SimulatedDisk::default();
        disk.put(LOG_FILE, &damaged);
        let error = Writer::open(&disk, LogName::EncryptedLogs, WINDOW, None).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::DamagedLine { offset, .. } | OpenError::Read(ReadError::Head { offset, .. })
                    if offset == third
            ),
            "{name}: {error}"
        );
        assert_eq!(disk.live(LOG_FILE).unwrap(), damaged);
    }
}

#[test]
fn a_missing_doubled_or_swapped_line_is_refused() {
    let log = written(5);
    let lines: Vec<&[u8]> = log.split_inclusive(|&byte| byte == b'\n').collect();
    for (name, order, expected, found) in [
        ("the first is missing", vec![1, 2, 3, 4], 1, 2),
        ("one is missing", vec![0, 1, 3, 4], 3, 4),
        ("one is doubled", vec![0, 1, 1, 2], 3, 2),
        ("two are swapped", vec![0, 2, 1, 3], 2, 3),
    ] {
        let disk = SimulatedDisk::default();
        disk.put(
            LOG_FILE,
            &order
                .iter()
                .map(|&place: &usize| lines[place])
                .collect::<Vec<_>>()
                .concat(),
        );
        let error = Writer::open(&disk, LogName::EncryptedLogs, WINDOW, None).unwrap_err();
        let told = match error {
            OpenError::NoBeginning { found } => (1, found),
            OpenError::Read(ReadError::OutOfSequence {
                expected, found, ..
            }) => (expected, found),
            error => panic!("{name}: {error}"),
        };
        assert_eq!(told, (expected, found), "{name}");
    }
}
