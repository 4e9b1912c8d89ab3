//! Proofs hold without the archive, and what is changed in one is noticed.

use sealpost_archive::checkpoint::CheckpointError;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::proof::{InclusionProof, ProofError, ProveError, consistency};
use sealpost_archive::tree::TreeHead;

use crate::sample::{self, ERASED, LAST, Sample};

fn prove(sample: &Sample, seq: u64) -> Result<InclusionProof, ProveError> {
    InclusionProof::make(&sample.storage(), sample.log, &sample.verifier(), seq)
}

#[test]
fn every_line_can_be_proved_and_a_proof_comes_back_from_its_file() {
    let sample = Sample::new();
    let verifier = sample.verifier();
    for size in [1, 2, 256, 257, 512, LAST] {
        let sample = Sample::build(sample.log, sample.lines[..size as usize].to_vec(), &[]);
        for seq in [1, 2, 255, 256, 257, 300, 301, 511, 512, 513, LAST] {
            if seq > size {
                continue;
            }
            let proof = prove(&sample, seq).unwrap();
            let read = InclusionProof::parse(&proof.to_bytes()).unwrap();
            assert_eq!(read, proof);
            let (line, head) = read.check(&verifier, None).unwrap();
            assert_eq!(line, sample.lines[seq as usize - 1]);
            assert_eq!(head, sample.head(size));
        }
    }
}

#[test]
fn a_proof_is_made_from_the_lines_where_tiles_are_missing_or_wrong() {
    let sample = Sample::new();
    let whole = prove(&sample, 301).unwrap();
    let (older, newer) = (sample.head(77), sample.head(LAST));
    let grown = consistency(&sample.storage(), sample.log, older, newer).unwrap();
    let mut tile = sample.read("tile/0/001");
    tile[300] ^= 1;
    sample.write("tile/0/001", &tile);
    assert_eq!(prove(&sample, 301).unwrap(), whole);
    std::fs::remove_dir_all(sample.path("tile")).unwrap();
    assert_eq!(prove(&sample, 301).unwrap(), whole);
    let again = consistency(&sample.storage(), sample.log, older, newer).unwrap();
    assert_eq!(again, grown);
}

#[test]
fn what_is_not_signed_or_not_as_it_was_cannot_be_proved() {
    let sample = Sample::new();
    sample.sign(400);
    assert!(prove(&sample, 400).is_ok());
    assert!(matches!(
        prove(&sample, 401),
        Err(ProveError::NotSigned {
            seq: 401,
            signed: 400
        })
    ));
    assert!(matches!(prove(&sample, 0), Err(ProveError::NoLine(0))));
    sample.sign(LAST);
    sample.change_active(|lines| {
        let end = lines[24].len();
        lines[24][end - 5] ^= 1;
    });
    assert!(matches!(prove(&sample, 545), Err(ProveError::OtherTree)));
    assert!(prove(&sample, 544).is_ok(), "the others still can");
    sample.remove(&sample.log.checkpoint());
    assert!(matches!(prove(&sample, 1), Err(ProveError::NoCheckpoint)));
}

#[test]
fn an_erased_line_is_proved_to_whoever_still_has_it() {
    let sample = Sample::new();
    let proof = prove(&sample, ERASED).unwrap();
    assert_eq!(proof.line, None);
    let verifier = sample.verifier();
    assert_eq!(proof.check(&verifier, None), Err(ProofError::NoLine));
    let original = sample::plain_line(ERASED);
    assert!(proof.check(&verifier, Some(&original)).is_ok());
    let other = sample::plain_line(ERASED + 1);
    assert_eq!(
        proof.check(&verifier, Some(&other)),
        Err(ProofError::OtherLine(ERASED))
    );
}

#[test]
fn a_changed_proof_proves_nothing() {
    let sample = Sample::new();
    let verifier = sample.verifier();
    let proof = prove(&sample, 301).unwrap();
    for place in 0..proof.hashes.len() {
        let mut changed = proof.clone();
        changed.hashes[place] = Hash([0; 32]);
        assert_eq!(changed.check(&verifier, None), Err(ProofError::NotInTree));
        let mut shorter = proof.clone();
        shorter.hashes.remove(place);
        assert_eq!(shorter.check(&verifier, None), Err(ProofError::NotInTree));
    }
    let mut other = proof.clone();
    other.line = Some(sample::plain_line(302));
    assert_eq!(
        other.check(&verifier, None),
        Err(ProofError::OtherLine(301))
    );
    other.seq = 302;
    assert_eq!(other.check(&verifier, None), Err(ProofError::NotInTree));
    let mut line = proof.clone();
    line.line.as_mut().unwrap()[100] ^= 1;
    assert_eq!(line.check(&verifier, None), Err(ProofError::NotInTree));
    let mut size = proof.clone();
    size.checkpoint = sample.note(400).bytes;
    assert_eq!(size.check(&verifier, None), Err(ProofError::NotInTree));
    let stranger = sample::signer(sample.log, 8).verifier().unwrap();
    assert!(matches!(
        proof.check(&stranger, None),
        Err(ProofError::Checkpoint(CheckpointError::NotSigned(_)))
    ));
    let other = sample::signer(LogName::KeyHistory, 7).verifier().unwrap();
    assert!(matches!(
        proof.check(&other, None),
        Err(ProofError::Checkpoint(CheckpointError::OtherLog { .. }))
    ));
}

#[test]
fn what_is_no_proof_is_refused() {
    let sample = Sample::new();
    let text = String::from_utf8(prove(&sample, 3).unwrap().to_bytes()).unwrap();
    for (from, to) in [
        ("tlog-proof@v1", "tlog-proof@v2"),
        ("extra ", "extra !"),
        ("index 2", "index 02"),
        ("index 2", "index -2"),
        ("index 2", "index 9007199254740992"),
        ("index 2\n", ""),
        ("index 2\n", "index 2\nAAAA\n"),
    ] {
        assert!(text.contains(from));
        let changed = text.replacen(from, to, 1);
        assert!(
            matches!(
                InclusionProof::parse(changed.as_bytes()),
                Err(ProofError::Form(_))
            ),
            "{to}"
        );
    }
    for text in [&b""[..], b"\n\n", b"\xff"] {
        assert!(InclusionProof::parse(text).is_err());
    }
}

#[test]
fn growth_is_shown_between_any_two_heads_and_only_between_those_of_one_log() {
    let sample = Sample::new();
    let storage = sample.storage();
    let sizes = [0, 1, 2, 3, 255, 256, 257, 300, 512, 513, LAST];
    for older in sizes {
        for newer in sizes.into_iter().filter(|newer| *newer >= older) {
            let (from, to) = (sample.head(older), sample.head(newer));
            assert!(
                consistency(&storage, sample.log, from, to).is_ok(),
                "{older} to {newer}"
            );
            let root = Hash([1; 32]);
            let other = TreeHead { size: older, root };
            assert!(matches!(
                consistency(&storage, sample.log, other, to),
                Err(ProveError::OtherTree)
            ));
        }
    }
    assert!(matches!(
        consistency(&storage, sample.log, sample.head(3), sample.head(2)),
        Err(ProveError::Shrunk { older: 3, newer: 2 })
    ));
    let beyond = TreeHead {
        size: LAST + 1,
        root: Hash([1; 32]),
    };
    assert!(consistency(&storage, sample.log, sample.head(3), beyond).is_err());
}
