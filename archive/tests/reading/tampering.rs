//! Whoever tampers with an archive is found, and the first bad line is named.

use sealpost_archive::checkpoint::CheckpointError;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{self, Erased};
use sealpost_archive::manifest::Manifest;
use sealpost_archive::verify::{Fault, Finding, Report};

use crate::sample::{self, CUTS, ERASED, LAST, RECORD, Sample, at, leaf, plain_line, root};

/// The first thing that is wrong.
fn first(report: &Report) -> &Finding {
    assert!(!report.ok);
    &report.findings[0]
}

fn renumbered(line: &[u8], seq: u64) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    let (_, rest) = text.split_once(",\"archived_at\"").unwrap();
    format!("{{\"seq\":{seq},\"archived_at\"{rest}").into_bytes()
}

#[test]
fn a_whole_archive_verifies() {
    let sample = Sample::new();
    let report = sample.verify(&[sample.note(17), sample.note(LAST)]);
    assert_eq!(report.findings, []);
    assert!(report.ok);
    assert_eq!((report.first, report.last), (Some(1), LAST));
    assert_eq!((report.segments, report.signed), (3, Some(LAST)));
    assert_eq!((report.tombstones, report.erasures_undone), (1, 0));
    assert_eq!((report.missing_tiles, report.retired), (0, 0));
    let grew: Vec<u64> = report.grew_from.iter().map(|grown| grown.lines).collect();
    assert_eq!(grew, [17, LAST]);
}

#[test]
fn an_empty_log_verifies() {
    let sample = Sample::build(LogName::EncryptedLogs, Vec::new(), &[]);
    let report = sample.verify(&[]);
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!((report.first, report.last), (None, 0));
}

#[test]
fn a_key_history_verifies() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/bundles.json")).unwrap();
    let bundle = vectors["cases"][0]["bundle"]["text"].as_str().unwrap();
    let lines: Vec<Vec<u8>> = (1..=20)
        .map(|seq| {
            let mut line = Vec::new();
            line::write_message(&mut line, seq, at(seq), None, bundle.as_bytes());
            line.pop();
            line
        })
        .collect();
    let sample = Sample::build(LogName::KeyHistory, lines, &[12]);
    let report = sample.verify(&[]);
    assert!(report.ok, "{:?}", report.findings);
    // An envelope among key bundles is out of place, whoever signed it.
    let mut lines = sample.lines.clone();
    lines[14] = plain_line(15);
    let report = Sample::build(LogName::KeyHistory, lines, &[12]).verify(&[]);
    assert!(matches!(&first(&report).fault, Fault::Message(_)));
    assert_eq!(first(&report).place.seq, Some(15));
}

#[test]
fn lines_beyond_the_checkpoint_are_no_fault() {
    let sample = Sample::new();
    for size in [0, 1, 300, 301, 511, 512, 513] {
        sample.sign(size);
        let report = sample.verify(&[]);
        assert!(report.ok, "{size}: {:?}", report.findings);
        assert_eq!((report.signed, report.last), (Some(size), LAST));
    }
}

#[test]
fn a_file_between_the_steps_of_sealing_is_no_fault() {
    let sample = Sample::new();
    let log = sample.log;
    // Sealed, and not removed yet.
    let sealed = sample::joined(&sample.lines[500..520]);
    sample.write(&log.sealing(501), &sealed);
    assert!(sample.verify(&[]).ok);
    // What a segment was before, or was to be after, an erasure that a crash cut short.
    let other = sample.segment(501).replace(".jsonl", ".erased-3.jsonl");
    sample.write(&other, &sample.read(&sample.segment(301)));
    assert!(sample.verify(&[]).ok);
    // The manifest is not there yet.
    sample.remove(&sample.manifest(501));
    let report = sample.verify(&[]);
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!(report.segments, 2);
    // Half a line that is being written.
    let mut active = sample.read(&log.active());
    active.extend_from_slice(b"{\"seq\":5");
    sample.write(&log.active(), &active);
    assert!(sample.verify(&[]).ok);
    // A full file never ends in half a line.
    let mut sealing = sealed;
    sealing.extend_from_slice(b"{\"seq\":5");
    sample.write(&log.sealing(501), &sealing);
    assert_eq!(first(&sample.verify(&[])).fault, Fault::HalfALine);
}

#[test]
fn a_changed_line_in_the_active_file_is_named() {
    let sample = Sample::new();
    let mut offset = 0;
    sample.change_active(|lines| {
        offset = lines[..24].iter().map(Vec::len).sum();
        // Another time, which makes a line as good as any.
        let at = lines[24]
            .windows(10)
            .position(|part| part == b"1700000054")
            .unwrap();
        lines[24][at + 9] = b'5';
    });
    let report = sample.verify(&[sample.note(540)]);
    let finding = first(&report);
    assert_eq!(finding.fault, Fault::NotSigned);
    assert_eq!(finding.place.seq, Some(545));
    assert_eq!(finding.place.path, "encrypted_logs.jsonl");
    assert_eq!(finding.place.offset, Some(offset as u64));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.signed, None);
    // What was signed before it holds.
    assert_eq!(report.grew_from.len(), 1);
}

#[test]
fn a_changed_line_in_a_segment_that_was_written_anew_is_named() {
    let sample = Sample::new();
    let mut lines = sample.lines.clone();
    lines[403] = renumbered(&lines[407], 404);
    let forged = Sample::build(sample.log, lines, &CUTS);
    sample.take_from(&forged, &[sample.segment(301), sample.manifest(301)]);
    let report = sample.verify(&[]);
    let finding = first(&report);
    // The manifest was made for the forged line, so that it betrays nothing but its root.
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.fault == Fault::NotSigned
                && finding.place.seq == Some(404)
                && finding.place.path == sample.segment(301))
    );
    assert_eq!(finding.fault, Fault::NotSigned, "{:?}", report.findings);
}

#[test]
fn whoever_writes_lines_tiles_and_manifests_anew_is_betrayed_by_the_signature() {
    let sample = Sample::new();
    let mut lines = sample.lines.clone();
    lines[403] = renumbered(&lines[407], 404);
    let forged = Sample::build(sample.log, lines, &CUTS);
    forged.take_from(&sample, &[sample.log.checkpoint()]);
    let report = forged.verify(&[sample.note(350), sample.note(450)]);
    // The kept checkpoints bound where.
    let (from, until, note) = (351, 450, "kept-450".to_owned());
    assert_eq!(first(&report).fault, Fault::Root { from, until, note });
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.grew_from.len(), 1);
    // Even whoever has the key cannot make the kept ones fit.
    forged.sign(LAST);
    assert!(forged.verify(&[]).ok);
    assert!(!forged.verify(&[sample.note(450)]).ok);
}

#[test]
fn a_cut_tail_is_found() {
    let sample = Sample::new();
    let active = sample.read(&sample.log.active());
    for cut in [1, 2, 700, active.len()] {
        sample.write(&sample.log.active(), &active[..active.len() - cut]);
        let report = sample.verify(&[]);
        let note = "checkpoint".to_owned();
        let (last, signed) = (report.last, LAST);
        assert!(last < LAST);
        let fault = Fault::Cut { last, signed, note };
        assert!(report.findings.iter().any(|finding| finding.fault == fault));
    }
    // A checkpoint that is as short as the log betrays itself by one that somebody kept.
    let cut = Sample::build(sample.log, sample.lines[..530].to_vec(), &CUTS);
    let report = cut.verify(&[sample.note(LAST)]);
    assert!(matches!(
        first(&report).fault,
        Fault::SetBack {
            own: 530,
            kept: LAST,
            ..
        }
    ));
}

#[test]
fn a_missing_line_is_found_and_the_others_still_verify() {
    let sample = Sample::new();
    sample.change_active(|lines| {
        lines.remove(9);
    });
    let report = sample.verify(&[]);
    let (from, until) = (530, 530);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.fault == Fault::Missing { from, until }
                && finding.place.seq == Some(531))
    );
    // Its leaf is in the tiles, so the rest is known to be as it was signed.
    assert_eq!(report.signed, Some(LAST));

    let sample = Sample::new();
    sample.remove(&sample.segment(301));
    let report = sample.verify(&[]);
    let (from, until) = (301, 500);
    assert_eq!(first(&report).fault, Fault::Missing { from, until });
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.fault == Fault::NoSegment)
    );
    sample.remove(&sample.manifest(301));
    assert_eq!(
        first(&sample.verify(&[])).fault,
        Fault::Missing { from, until }
    );
}

#[test]
fn an_inserted_line_is_found() {
    let sample = Sample::new();
    sample.change_active(|lines| lines.insert(9, lines[3].clone()));
    let report = sample.verify(&[]);
    assert_eq!(first(&report).fault, Fault::Stray { after: 529 });
    assert_eq!(first(&report).place.seq, Some(524));
    assert_eq!(report.findings.len(), 1);

    // One that all later numbers make room for.
    let sample = Sample::new();
    sample.change_active(|lines| {
        lines.insert(9, renumbered(&lines[3], 530));
        for (place, line) in lines.iter_mut().enumerate().skip(10) {
            *line = renumbered(line, 521 + place as u64);
        }
    });
    let report = sample.verify(&[]);
    let finding = report
        .findings
        .iter()
        .find(|finding| finding.fault == Fault::NotSigned);
    assert_eq!(finding.unwrap().place.seq, Some(530));
}

#[test]
fn swapped_lines_are_found() {
    let sample = Sample::new();
    sample.change_active(|lines| lines.swap(13, 14));
    let report = sample.verify(&[]);
    let (from, until) = (534, 534);
    assert_eq!(first(&report).fault, Fault::Missing { from, until });

    let sample = Sample::new();
    sample.change_active(|lines| {
        lines.swap(13, 14);
        lines[13] = renumbered(&lines[13], 534);
        lines[14] = renumbered(&lines[14], 535);
    });
    let report = sample.verify(&[]);
    assert_eq!(first(&report).fault, Fault::NotSigned);
    assert_eq!(first(&report).place.seq, Some(534));
    assert_eq!(report.findings.len(), 2);
}

#[test]
fn a_line_that_is_written_otherwise_is_found_even_beyond_the_checkpoint() {
    let sample = Sample::new();
    sample.sign(520);
    let original = sample.read(&sample.log.active());
    let changes: [(&str, &str); 6] = [
        ("{\"seq\":533,", "{\"seq\": 533,"),
        ("\"inbox/bob\"", "\"inbox\\/bob\""),
        ("\"error\":\"it is", "\"error\" : \"it is"),
        ("\"reason\":\"asked for\"", "\"reason\":\"asked for\" "),
        ("\"v\":1,", "\"v\":2,"),
        ("\"sig\":\"", "\"sag\":\""),
    ];
    for (from, to) in changes {
        let text = String::from_utf8(original.clone()).unwrap();
        assert!(text.contains(from), "{from}");
        sample.write(&sample.log.active(), text.replacen(from, to, 1).as_bytes());
        let report = sample.verify(&[]);
        assert!(
            matches!(
                first(&report).fault,
                Fault::Form | Fault::Line(_) | Fault::Message(_)
            ),
            "{from}: {:?}",
            report.findings
        );
    }
}

#[test]
fn a_damaged_segment_is_found_and_what_follows_still_verifies() {
    let sample = Sample::new();
    let whole = sample.read(&sample.segment(301));
    for cut in [whole.len() - 1, whole.len() / 2, 3, 0] {
        sample.write(&sample.segment(301), &whole[..cut]);
        let report = sample.verify(&[]);
        assert!(!report.ok, "{cut}");
        assert_eq!(first(&report).place.seq, Some(301));
        assert_eq!(report.last, LAST);
    }
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    sample.write(&sample.segment(301), &changed);
    let report = sample.verify(&[]);
    assert!(matches!(first(&report).fault, Fault::Unreadable(_)));
    assert_eq!(report.signed, Some(LAST));
    // Bytes after the last frame.
    let mut longer = whole;
    longer.extend_from_slice(&[0; 9]);
    sample.write(&sample.segment(301), &longer);
    assert!(!sample.verify(&[]).ok);
}

#[test]
fn a_manifest_that_says_something_else_than_the_lines_is_found() {
    let sample = Sample::new();
    let path = sample.manifest(501);
    let manifest = Manifest::parse(&sample.read(&path)).unwrap();
    assert!(manifest.frames.len() > 1);
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 10] = [
        ("from", |manifest| manifest.from = at(1)),
        ("until", |manifest| manifest.until = at(999)),
        ("bytes", |manifest| manifest.bytes += 1),
        ("compressed_bytes", |manifest| {
            manifest.compressed_bytes += 1
        }),
        ("root", |manifest| manifest.root = Hash([0; 32])),
        ("frames", |manifest| manifest.frames[1].first += 1),
        ("frames", |manifest| manifest.frames[1].offset += 1),
        ("senders", |manifest| {
            manifest.senders = Some(["mallory".to_owned()].into());
        }),
        ("recipients", |manifest| manifest.recipients = None),
        ("erased", |manifest| manifest.erased = 1),
    ];
    for (member, change) in changes {
        let mut changed = manifest.clone();
        change(&mut changed);
        sample.write(&path, &changed.to_bytes());
        let report = sample.verify(&[]);
        assert!(
            matches!(&first(&report).fault, Fault::ManifestMember { member: found, .. } if *found == member),
            "{member}: {:?}",
            report.findings
        );
        assert_eq!(first(&report).place.path, path);
    }
    let mut changed = manifest.clone();
    changed.last -= 1;
    changed.count -= 1;
    sample.write(&path, &changed.to_bytes());
    assert!(!sample.verify(&[]).ok);
    sample.write(&path, b"{}");
    assert!(matches!(
        first(&sample.verify(&[])).fault,
        Fault::Manifest(_)
    ));
    sample.remove(&path);
    assert_eq!(first(&sample.verify(&[])).fault, Fault::NoManifest);
}

#[test]
fn a_segment_in_another_place_is_found() {
    let sample = Sample::new();
    for path in [sample.segment(301), sample.manifest(301)] {
        sample.write(
            &path.replace("2023/11/14", "2023/11/15"),
            &sample.read(&path),
        );
        sample.remove(&path);
    }
    let report = sample.verify(&[]);
    assert_eq!(first(&report).fault, Fault::Misplaced(sample.segment(301)));
}

#[test]
fn a_tile_that_disagrees_with_the_lines_is_found() {
    let tiles = [
        ("tile/0/000", 7, 1, 1),
        ("tile/0/001", 8191, 512, 512),
        ("tile/0/002.p/48", 32, 514, 514),
        ("tile/1/000.p/2", 40, 257, 512),
    ];
    for (tile, byte, from, until) in tiles {
        let sample = Sample::new();
        let mut bytes = sample.read(tile);
        bytes[byte] ^= 1;
        sample.write(tile, &bytes);
        let report = sample.verify(&[]);
        assert_eq!(report.findings.len(), 1, "{tile}: {:?}", report.findings);
        assert_eq!(first(&report).fault, Fault::Tile { from, until });
        assert_eq!(first(&report).place.path, tile);
        // The lines are still known to be those that were signed.
        assert_eq!(report.signed, Some(LAST));
        // What a crash cut short is as good as none, and tiles can be made again.
        bytes[byte] ^= 1;
        bytes.pop();
        sample.write(tile, &bytes);
        assert_eq!(sample.verify(&[]).missing_tiles, 1, "{tile}");
        sample.remove(tile);
        let report = sample.verify(&[]);
        assert!(report.ok, "{:?}", report.findings);
        assert_eq!(report.missing_tiles, 1);
    }
}

#[test]
fn a_checkpoint_that_does_not_count_is_found() {
    let sample = Sample::new();
    let path = sample.log.checkpoint();
    let forged = sample::signer(sample.log, 8)
        .sign(sample.head(LAST))
        .unwrap();
    sample.write(&path, &forged);
    let report = sample.verify(&[]);
    assert!(matches!(
        first(&report).fault,
        Fault::Checkpoint(CheckpointError::NotSigned(_))
    ));
    let foreign = sample::signer(LogName::KeyHistory, 7)
        .sign(sample.head(LAST))
        .unwrap();
    sample.write(&path, &foreign);
    let report = sample.verify(&[]);
    assert!(matches!(
        first(&report).fault,
        Fault::Checkpoint(CheckpointError::OtherLog { .. })
    ));
    sample.write(&path, b"hello\n");
    let report = sample.verify(&[]);
    assert_eq!(
        first(&report).fault,
        Fault::Checkpoint(CheckpointError::NotANote)
    );
    sample.remove(&path);
    assert_eq!(first(&sample.verify(&[])).fault, Fault::NoCheckpoint);
}

#[test]
fn a_checkpoint_that_was_set_back_is_found_by_one_that_was_kept() {
    let sample = Sample::new();
    sample.sign(400);
    assert!(sample.verify(&[sample.note(400)]).ok);
    let report = sample.verify(&[sample.note(LAST)]);
    let (own, kept, note) = (400, LAST, format!("kept-{LAST}"));
    assert_eq!(first(&report).fault, Fault::SetBack { own, kept, note });
    let mut forged = sample.note(100);
    forged.bytes[60] ^= 1;
    let report = sample.verify(&[forged]);
    assert!(matches!(first(&report).fault, Fault::Checkpoint(_)));
    assert_eq!(first(&report).place.path, "kept-100");
}

#[test]
fn a_tombstone_without_its_record_is_found() {
    let log = LogName::EncryptedLogs;
    let whole = sample::lines();
    let erased = leaf(&whole[ERASED as usize - 1]);
    let build = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        Sample::build(log, lines, &CUTS).verify(&[])
    };
    let record = |erased: &Erased| {
        let mut line = Vec::new();
        line::write_erasure(&mut line, RECORD, at(RECORD), erased, "why");
        line.pop();
        line
    };
    let tombstone = |seq, erased_by| {
        let mut line = Vec::new();
        line::write_tombstone(&mut line, seq, at(seq), erased_by, erased);
        line.pop();
        line
    };
    let erased_by = RECORD;

    let report = build(&|lines| lines[RECORD as usize - 1] = plain_line(RECORD));
    assert_eq!(first(&report).fault, Fault::NoErasure { erased_by });
    assert_eq!(first(&report).place.seq, Some(ERASED));
    assert_eq!(first(&report).place.path, Sample::new().segment(301));

    let report = build(&|lines| lines.truncate(RECORD as usize - 1));
    assert_eq!(first(&report).fault, Fault::NoErasure { erased_by });

    for (erases, leaf) in [(ERASED + 1, erased), (ERASED, Hash([0; 32]))] {
        let other = Erased {
            seq: erases,
            leaf,
            ..sample::erasure()
        };
        let report = build(&|lines| lines[RECORD as usize - 1] = record(&other));
        assert_eq!(
            first(&report).fault,
            Fault::OtherErasure { erased_by, erases }
        );
    }

    // No leaf covers the time of a tombstone; its record does.
    let archived_at = at(ERASED + 1);
    let other = Erased {
        archived_at,
        ..sample::erasure()
    };
    let report = build(&|lines| lines[RECORD as usize - 1] = record(&other));
    assert_eq!(
        first(&report).fault,
        Fault::OtherTime {
            erased_by,
            archived_at
        }
    );
    assert_eq!(first(&report).place.seq, Some(ERASED));

    let report = build(&|lines| lines[RECORD as usize] = tombstone(RECORD + 1, RECORD));
    assert_eq!(first(&report).fault, Fault::ErasedBefore { erased_by });

    let report = build(&|lines| lines[ERASED as usize] = tombstone(ERASED + 1, RECORD));
    let erases = ERASED;
    assert_eq!(
        first(&report).fault,
        Fault::OtherErasure { erased_by, erases }
    );
    assert_eq!(first(&report).place.seq, Some(ERASED + 1));

    let itself = Erased {
        seq: RECORD,
        ..sample::erasure()
    };
    let report = build(&|lines| lines[RECORD as usize - 1] = record(&itself));
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.fault == Fault::OfLater(RECORD))
    );

    // Recorded, and not done yet.
    let report = build(&|lines| lines[ERASED as usize - 1] = plain_line(ERASED));
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!(report.erasures_undone, 1);

    // A line that is a tombstone, whose leaf was changed.
    let sample = Sample::new();
    let mut lines = sample.lines.clone();
    let mut changed = Vec::new();
    line::write_tombstone(&mut changed, ERASED, at(ERASED), RECORD, Hash([1; 32]));
    changed.pop();
    lines[ERASED as usize - 1] = changed;
    let forged = Sample::build(log, lines, &CUTS);
    sample.take_from(&forged, &[sample.segment(301), sample.manifest(301)]);
    assert!(
        sample
            .verify(&[])
            .findings
            .iter()
            .any(|finding| finding.fault == Fault::NotSigned)
    );
}

/// A sample whose line 540 retires the first segment, or says that it retires others.
fn retiring(retires: u64, root: Hash) -> Sample {
    let mut lines = sample::lines();
    let mut record = Vec::new();
    line::write_retirement(&mut record, 540, at(540), retires, root, "old");
    record.pop();
    lines[539] = record;
    Sample::build(LogName::EncryptedLogs, lines, &CUTS)
}

#[test]
fn retired_lines_may_be_missing() {
    let right = root(&sample::lines()[..300]);
    let sample = retiring(300, right);
    let report = sample.verify(&[]);
    assert!(report.ok, "not removed yet: {:?}", report.findings);
    assert_eq!((report.first, report.retired), (Some(1), 300));
    // What a crash in the middle leaves: the archiver removes it when it starts, and lines of the log it is no more.
    let manifest = sample.read(&sample.manifest(1));
    sample.remove(&sample.manifest(1));
    let report = sample.verify(&[sample.note(200)]);
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!((report.first, report.retired_left), (Some(301), 1));
    sample.write(&sample.manifest(1), &manifest);
    sample.remove(&sample.segment(1));
    let report = sample.verify(&[sample.note(200)]);
    assert!(
        report.ok,
        "its manifest is still there: {:?}",
        report.findings
    );
    assert_eq!(report.retired_left, 0);
    sample.remove(&sample.manifest(1));
    let report = sample.verify(&[sample.note(200)]);
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!((report.first, report.retired), (Some(301), 300));
    assert_eq!(report.grew_from.len(), 1);
    // The leaves are all that is left of them.
    let tile = sample.read("tile/0/000");
    let mut changed = tile.clone();
    changed[5] ^= 1;
    sample.write("tile/0/000", &changed);
    assert!(!sample.verify(&[]).ok);
    sample.remove("tile/0/000");
    let report = sample.verify(&[]);
    assert_eq!(
        first(&report).fault,
        Fault::TileMissing,
        "{:?}",
        report.findings
    );
}

#[test]
fn missing_lines_that_no_record_retires_are_found() {
    let right = root(&sample::lines()[..300]);
    for (retires, root) in [
        (299, root(&sample::lines()[..299])),
        (300, Hash([0; 32])),
        (100, right),
    ] {
        let sample = retiring(retires, root);
        sample.remove(&sample.segment(1));
        sample.remove(&sample.manifest(1));
        let report = sample.verify(&[]);
        assert_eq!(first(&report).fault, Fault::NotRetired(300), "{retires}");
    }
    let sample = Sample::new();
    sample.remove(&sample.segment(1));
    sample.remove(&sample.manifest(1));
    assert_eq!(first(&sample.verify(&[])).fault, Fault::NotRetired(300));
    // A segment whose manifest somebody removed is none that was retired.
    let sample = Sample::new();
    sample.remove(&sample.manifest(1));
    let report = sample.verify(&[]);
    assert_eq!(first(&report).fault, Fault::NoManifest);
    assert_eq!((report.first, report.retired_left), (Some(1), 0));
    let sample = retiring(300, right);
    sample.remove(&sample.manifest(301));
    assert_eq!(first(&sample.verify(&[])).fault, Fault::NoManifest);
    // A record that is right about fewer lines than are missing.
    let sample = retiring(300, right);
    for first in [1, 301] {
        sample.remove(&sample.segment(first));
        sample.remove(&sample.manifest(first));
    }
    assert_eq!(first(&sample.verify(&[])).fault, Fault::NotRetired(500));
    let sample = retiring(550, right);
    let report = sample.verify(&[]);
    assert_eq!(first(&report).fault, Fault::OfLater(550));
}
