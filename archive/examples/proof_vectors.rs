//! Prints the vectors of proofs, `archive/tests/vectors/inclusion_proofs.json`: proofs as c2sp.org/tlog-proof has them, good and bad, each
//! with what a checker must say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/reading/sample.rs"]
mod sample;

use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::proof::InclusionProof;
use serde_json::{Value, json};

use sample::{ERASED, Sample, plain_line};

fn main() {
    let sample = Sample::new();
    let key = sample.signer.verifier_key();
    let other = sample::signer(LogName::EncryptedLogs, 8);
    let prove =
        |seq| InclusionProof::make(&sample.storage(), sample.log, &sample.verifier(), seq).unwrap();
    let whole = prove(301);
    let erased = prove(ERASED);
    let mut cases = Vec::new();
    let mut case =
        |name: &str, expect: &str, key: &str, proof: &InclusionProof, line: Option<Vec<u8>>| {
            let text = String::from_utf8(proof.to_bytes()).unwrap();
            let line = line.map(|line| String::from_utf8(line).unwrap());
            let mut case = json!({"name": name, "expect": expect, "key": key, "proof": text});
            if let (Some(line), Value::Object(members)) = (line, &mut case) {
                members.insert("line".to_owned(), line.into());
            }
            cases.push(case);
        };
    case("a line", "ok", key, &whole, None);
    case(
        "a line that was erased, and that somebody kept",
        "ok",
        key,
        &erased,
        Some(plain_line(ERASED)),
    );
    case("a line that was erased", "no line", key, &erased, None);
    case(
        "another line than was erased",
        "another line",
        key,
        &erased,
        Some(plain_line(ERASED + 1)),
    );
    let mut changed = whole.clone();
    changed.hashes[3] = Hash([0; 32]);
    case("another hash", "not in the tree", key, &changed, None);
    let mut changed = whole.clone();
    changed.hashes.swap(0, 1);
    case(
        "hashes in another order",
        "not in the tree",
        key,
        &changed,
        None,
    );
    let mut changed = whole.clone();
    changed.hashes.pop();
    case("a hash less", "not in the tree", key, &changed, None);
    let mut changed = whole.clone();
    changed.line.as_mut().unwrap()[60] ^= 1;
    case("a changed line", "not in the tree", key, &changed, None);
    let mut changed = whole.clone();
    changed.line = prove(302).line;
    case("another line", "another line", key, &changed, None);
    let mut changed = whole.clone();
    changed.checkpoint = sample.note(400).bytes;
    case(
        "the checkpoint of another size",
        "not in the tree",
        key,
        &changed,
        None,
    );
    let mut changed = whole.clone();
    changed.checkpoint = other.sign(sample.head(sample::LAST)).unwrap();
    case(
        "a checkpoint that another key signed",
        "checkpoint",
        key,
        &changed,
        None,
    );
    case(
        "the key of another archive",
        "checkpoint",
        other.verifier_key(),
        &whole,
        None,
    );
    let about = "Proofs that a line is in an archive (c2sp.org/tlog-proof): they hold, or why not.";
    let vectors = json!({"about": about, "cases": cases});
    println!("{}", serde_json::to_string_pretty(&vectors).unwrap());
}
