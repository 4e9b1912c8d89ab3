//! The vectors of proofs, each with what a checker must say.

use sealpost_archive::checkpoint::CheckpointVerifier;
use sealpost_archive::proof::{InclusionProof, ProofError};
use serde_json::Value;

#[test]
fn every_vector_is_judged_as_it_says() {
    let vectors: Value =
        serde_json::from_str(include_str!("../vectors/inclusion_proofs.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 12);
    for case in cases {
        let text = |member: &str| case[member].as_str();
        let verifier = CheckpointVerifier::parse(text("key").unwrap()).unwrap();
        let proof = InclusionProof::parse(text("proof").unwrap().as_bytes()).unwrap();
        let judged = match proof.check(&verifier, text("line").map(str::as_bytes)) {
            Ok(_) => "ok",
            Err(ProofError::NoLine) => "no line",
            Err(ProofError::OtherLine(_)) => "another line",
            Err(ProofError::NotInTree) => "not in the tree",
            Err(ProofError::Checkpoint(_)) => "checkpoint",
            Err(ProofError::Form(_)) => "form",
        };
        assert_eq!(Some(judged), text("expect"), "{:?}", text("name"));
    }
}
