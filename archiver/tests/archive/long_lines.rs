//! The longest message that an archiver takes becomes a line like any other: read back, sealed, and known again.

use bytes::Bytes;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::MAX_LINE;
use sealpost_archive::segment::SegmentWriter;
use sealpost_archive::storage::Storage as _;
use sealpost_archiver::arrival::Arrival;
use sealpost_archiver::writer::Writer;

use crate::messages::{LOG_FILE, at, message, read_log};
use crate::simulated_disk::SimulatedDisk;

const LOG: LogName = LogName::EncryptedLogs;

/// A packet of 1 MiB, the largest that is taken, with the longest topic of MQTT in it.
fn longest() -> Arrival {
    let topic = "/".repeat(65_535);
    let payload = vec![0xff; (1 << 20) - topic.len()];
    Arrival::new(topic.into(), payload.into(), 1, Some(1))
}

#[test]
fn the_longest_message_is_kept_read_back_and_known_again() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LOG, 1000, None).unwrap();
    let batch = [message(0), longest(), message(1)];
    assert_eq!(writer.archive(&batch, at()).unwrap().written, 3);
    let log = disk.durable(LOG_FILE).unwrap();
    let longest_line = log.split(|&byte| byte == b'\n').map(<[u8]>::len).max();
    assert!(longest_line.unwrap() < MAX_LINE, "{longest_line:?}");
    let kept = read_log(&log);
    assert_eq!(kept[1], (longest().topic, longest().payload));

    let (mut writer, recovery) = Writer::open(&disk, LOG, 1000, None).unwrap();
    assert_eq!(recovery.last_seq, 3);
    assert_eq!(writer.archive(&batch, at()).unwrap().duplicates, 3);
}

#[test]
fn the_longest_line_is_sealed_into_a_segment() {
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LOG, 1000, None).unwrap();
    for number in 0..10_u8 {
        let mut arrival = longest();
        let mut payload = arrival.payload.to_vec();
        payload[0] = number;
        arrival = Arrival::new(arrival.topic, Bytes::from(payload), 1, Some(1));
        writer.archive(&[arrival], at()).unwrap();
    }
    let log = disk.durable(LOG_FILE).unwrap();
    let mut segment = SegmentWriter::new(disk.create_new("segment").unwrap()).unwrap();
    for line in log.split(|&byte| byte == b'\n').take(10) {
        segment.push(line).unwrap();
    }
    let (file, manifest) = segment
        .finish(LOG, sealpost_archive::hash::Hash([0; 32]))
        .unwrap();
    let lines: Vec<u8> = (0..manifest.frames.len())
        .flat_map(|place| sealpost_archive::segment::read_frame(&file, &manifest, place).unwrap())
        .collect();
    assert!(manifest.frames.len() > 2);
    assert_eq!(lines, log);
}
