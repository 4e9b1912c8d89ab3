//! Checkpoints: they sign what is on the medium and nothing else, and a log that does not go with its checkpoint is not written to.

use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::tree::TreeHead;
use sealpost_archiver::evidence::{Evidence, EvidenceError, Synced, publish_all, signed_head};
use sealpost_archiver::writer::{OpenError, Writer};

use crate::messages::{LOG_FILE, at, message, messages};
use crate::simulated_disk::SimulatedDisk;

const LOG: LogName = LogName::EncryptedLogs;

pub(crate) fn signer() -> CheckpointSigner {
    let text = CheckpointSigner::text_from_seed("sealpost/local/archiver/encrypted_logs", &[7; 32]);
    CheckpointSigner::parse(&text).unwrap()
}

/// A life of an archiver: what was there, and `count` messages more. Gives the head that was signed at its end.
fn live(disk: &SimulatedDisk, count: u64) -> Result<TreeHead, OpenError> {
    let signed = signed_head(disk, LOG, &signer())?;
    let (mut writer, recovery) = Writer::open(disk, LOG, 1000, signed)?;
    let mut evidence = Evidence::new(disk.clone(), LOG, recovery.tree, signer(), 0);
    let first = recovery.last_seq;
    let batch: Vec<_> = (first..first + count).map(message).collect();
    evidence.add(writer.archive(&batch, at()).unwrap().leaves);
    Ok(evidence.publish().unwrap())
}

#[test]
fn a_checkpoint_signs_the_lines_of_all_lives() {
    let disk = SimulatedDisk::default();
    for (count, size) in [(3, 3), (0, 3), (300, 303), (1, 304)] {
        let head = live(&disk, count).unwrap();
        assert_eq!(head.size, size);
        assert_eq!(signed_head(&disk, LOG, &signer()).unwrap(), Some(head));
    }
    let log = disk.live(LOG_FILE).unwrap();
    let lines: Vec<&[u8]> = log.split(|&byte| byte == b'\n').take(304).collect();
    let first_tile: Vec<u8> = lines[..256]
        .iter()
        .flat_map(|line| Hash::of_leaf(line).0)
        .collect();
    assert_eq!(disk.live("tile/0/000").unwrap(), first_tile);
    assert_eq!(disk.live("tile/0/001.p/48").unwrap().len(), 48 * 32);
    assert_eq!(disk.live("tile/1/000.p/1").unwrap().len(), 32);
}

#[test]
fn a_log_that_is_shorter_than_its_checkpoint_or_another_is_not_written_to() {
    let disk = SimulatedDisk::default();
    live(&disk, 5).unwrap();
    let log = disk.live(LOG_FILE).unwrap();
    let lines: Vec<&[u8]> = log.split_inclusive(|&byte| byte == b'\n').collect();

    disk.put(LOG_FILE, &lines[..4].concat());
    assert!(matches!(
        live(&disk, 1),
        Err(OpenError::Evidence(EvidenceError::Shorter {
            lines: 4,
            signed: 5
        }))
    ));

    // One time changed, which makes a line as good as any other.
    let changed =
        String::from_utf8(log.clone())
            .unwrap()
            .replacen(&at().to_string(), "1600000000.000", 1);
    disk.put(LOG_FILE, changed.as_bytes());
    assert!(matches!(
        live(&disk, 1),
        Err(OpenError::Evidence(EvidenceError::Changed {
            signed: 5,
            ..
        }))
    ));

    disk.put(LOG_FILE, &log);
    assert_eq!(live(&disk, 1).unwrap().size, 6);
}

#[test]
fn what_is_synced_is_signed_at_the_latest_when_the_archiver_stops() {
    let disk = SimulatedDisk::default();
    let (mut writer, recovery) = Writer::open(&disk, LOG, 1000, None).unwrap();
    let evidence = Evidence::new(disk.clone(), LOG, recovery.tree, signer(), 0);
    let (leaves, synced) = std::sync::mpsc::channel();
    let (jobs, _to_do) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || publish_all(evidence, &synced, |_| {}, &jobs));
    for batch in messages(50).chunks(7) {
        leaves
            .send(Synced::Lines(writer.archive(batch, at()).unwrap().leaves))
            .unwrap();
    }
    drop(leaves);
    thread.join().unwrap();
    let head = signed_head(&disk, LOG, &signer()).unwrap().unwrap();
    assert_eq!(head.size, 50);
}

#[test]
fn a_full_disk_delays_the_checkpoint_and_loses_no_tile() {
    let disk = SimulatedDisk::default();
    let (mut writer, recovery) = Writer::open(&disk, LOG, 10_000, None).unwrap();
    let mut evidence = Evidence::new(disk.clone(), LOG, recovery.tree, signer(), 0);
    evidence.add(writer.archive(&messages(1000), at()).unwrap().leaves);
    for operations in 0..12 {
        disk.fail_after(operations, std::io::ErrorKind::StorageFull);
        let _ = evidence.publish();
        disk.kill();
    }
    evidence.publish().unwrap();
    assert!(!evidence.is_behind());
    for tile in ["tile/0/000", "tile/0/001", "tile/0/002"] {
        assert_eq!(disk.live(tile).unwrap().len(), 8192, "{tile}");
    }
}
