//! One changed byte, anywhere: it is found, or nobody who reads the archive can tell.

use proptest::prelude::*;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogReader, Selection};
use sealpost_archive::manifest::Manifest;

use crate::sample::{CUTS, Sample, sample_files};

/// All lines, as a reader has them.
fn lines(sample: &Sample) -> Vec<Vec<u8>> {
    let reader = LogReader::open(&sample.storage(), sample.log).unwrap();
    let mut lines = reader.lines(Selection::default());
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        all.push(line.bytes.to_vec());
    }
    all
}

/// All manifests, as a reader has them.
fn manifests(sample: &Sample) -> Vec<Manifest> {
    let firsts = [1, CUTS[0] + 1, CUTS[1] + 1];
    firsts
        .iter()
        .map(|&first| Manifest::parse(&sample.read(&sample.manifest(first))).unwrap())
        .collect()
}

/// Whether two lines differ in nothing but the time that a tombstone keeps, which no hash covers.
fn same_but_for_the_time_of_a_tombstone(changed: &[u8], original: &[u8]) -> bool {
    let (Ok(mut changed), Ok(original)) = (Line::parse(changed), Line::parse(original)) else {
        return false;
    };
    changed.archived_at = original.archived_at;
    changed == original && matches!(original.body, Body::Tombstone { .. })
}

#[test]
fn one_changed_byte_is_found_or_changes_nothing() {
    let sample = Sample::new();
    let files = sample_files(&sample);
    assert!(files.len() >= 3 + 3 + 4 + 2);
    let original = lines(&sample);
    let original_manifests = manifests(&sample);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(
            &(
                any::<prop::sample::Index>(),
                any::<prop::sample::Index>(),
                1..=255_u8,
            ),
            |(file, byte, change)| {
                // Each file as often as any other, however long it is.
                let path = &files[file.index(files.len())];
                let bytes = sample.read(path);
                let mut changed = bytes.clone();
                changed[byte.index(bytes.len())] ^= change;
                sample.write(path, &changed);
                let report = sample.verify(&[]);
                let harmless = !report.ok || {
                    let now = lines(&sample);
                    let same = now.len() == original.len()
                        && now.iter().zip(&original).all(|(now, original)| {
                            now == original || same_but_for_the_time_of_a_tombstone(now, original)
                        });
                    // A note may have the signatures of others below its own.
                    same && manifests(&sample) == original_manifests
                        && report.signed == Some(original.len() as u64)
                        && !path.starts_with("tile/")
                };
                sample.write(path, &bytes);
                prop_assert!(harmless, "{path}, byte {}", byte.index(bytes.len()));
                Ok(())
            },
        )
        .unwrap();
    assert!(sample.verify(&[]).ok);
}
