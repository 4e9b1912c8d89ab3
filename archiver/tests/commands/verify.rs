//! `verify` and `key --checkpoint`.

use serde_json::Value;

use crate::command::{run, sample};
use crate::sample::LAST;

#[test]
fn verify_succeeds_only_when_all_holds() {
    let sample = sample();
    let directory = sample.directory.path();
    let whole = run(directory, &["verify"]);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(
        whole.stdout.contains("lines 1 to 560, 3 segments"),
        "{whole:?}"
    );
    assert!(whole.stdout.contains("agrees with itself"), "{whole:?}");
    assert_eq!(whole.stderr, "", "no bars where there is no terminal");

    let kept = sample.note(400);
    sample.write("kept", &kept.bytes);
    let kept = sample.path("kept");
    let kept = kept.to_str().unwrap();
    let key = sample.signer.verifier_key();
    let proved = run(directory, &["verify", "--checkpoint", kept, "--key", key]);
    assert_eq!(proved.code, 0, "{proved:?}");
    assert!(
        proved.stdout.contains("which signs 400 lines"),
        "{proved:?}"
    );
    assert!(!proved.stdout.contains("agrees with itself"), "{proved:?}");

    sample.change_active(|lines| {
        let end = lines[24].len();
        lines[24][end - 5] ^= 1;
    });
    let damaged = run(directory, &["verify", "--checkpoint", kept]);
    assert_eq!(damaged.code, 11);
    assert!(
        damaged
            .stdout
            .contains("FIRST BAD  line 545, encrypted_logs.jsonl, byte "),
        "{damaged:?}"
    );
    assert!(damaged.stdout.contains("NOT VERIFIED"));
    assert!(damaged.stderr.contains("does not verify"), "{damaged:?}");
    let json = run(directory, &["verify", "--json", "--log", "encrypted_logs"]);
    assert_eq!(json.code, 11);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    let log = &json["logs"][0];
    assert_eq!(log["log"], "encrypted_logs");
    assert_eq!(log["key_given"], false);
    assert_eq!(log["last"], LAST);
    assert_eq!(log["findings"][0]["line"], 545);
    assert_eq!(log["findings"][0]["file"], "encrypted_logs.jsonl");
    assert!(log["findings"][0]["offset"].is_u64());
    assert!(log["findings"][0]["fault"].is_string());
}

#[test]
fn verify_needs_an_archive_and_what_it_is_told_to_use() {
    let sample = sample();
    let directory = sample.directory.path();
    let nowhere = directory.join("nowhere");
    assert_eq!(run(&nowhere, &["verify"]).code, 1);
    assert!(!nowhere.exists(), "it only reads");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(run(empty.path(), &["verify"]).code, 1);
    assert_eq!(run(directory, &["verify", "--log", "key_history"]).code, 1);
    sample.write("noise", b"hello\n");
    let noise = sample.path("noise");
    let noise = noise.to_str().unwrap();
    assert_eq!(run(directory, &["verify", "--checkpoint", noise]).code, 2);
    assert_eq!(
        run(directory, &["verify", "--checkpoint", "/no/such"]).code,
        2
    );
    assert_eq!(run(directory, &["verify", "--key", "hello"]).code, 2);
    // A checkpoint of a log that is not there: the log is gone.
    let other = crate::sample::signer(sealpost_archive::layout::LogName::KeyHistory, 7);
    let note = other.sign(sample.head(3)).unwrap();
    sample.write("other", &note);
    let path = sample.path("other");
    let key = other.verifier_key();
    let gone = run(
        directory,
        &[
            "verify",
            "--checkpoint",
            path.to_str().unwrap(),
            "--key",
            key,
        ],
    );
    assert_eq!(gone.code, 11, "{gone:?}");
    // The key of another archive.
    let stranger = crate::sample::signer(sample.log, 9);
    let strange = run(directory, &["verify", "--key", stranger.verifier_key()]);
    assert_eq!(strange.code, 11, "{strange:?}");
}

#[test]
fn the_verifier_keys_are_printed_and_stay() {
    let directory = tempfile::tempdir().unwrap();
    let first = run(directory.path(), &["key", "--checkpoint"]);
    assert_eq!(first.code, 0, "{first:?}");
    let keys: Vec<&str> = first.stdout.lines().collect();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].starts_with("sealpost/local/archiver/encrypted_logs+"));
    assert!(keys[1].starts_with("sealpost/local/archiver/key_history+"));
    assert_eq!(
        run(directory.path(), &["key", "--checkpoint"]).stdout,
        first.stdout
    );
    let empty = run(directory.path(), &["verify"]);
    assert_eq!(empty.code, 0, "{empty:?}");
    assert!(empty.stdout.contains("nothing yet"), "{empty:?}");
    let sample = sample();
    let printed = run(sample.directory.path(), &["key", "--checkpoint"]).stdout;
    assert_eq!(
        printed.lines().next().unwrap(),
        sample.signer.verifier_key()
    );
}
