//! `prove`, `check-proof` and `consistency`.

use crate::command::{run, run_plain, sample};
use crate::sample::{LAST, id, plain_line, signer};

#[test]
fn a_proof_is_checked_without_the_archive() {
    let sample = sample();
    let directory = sample.directory.path();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("line.tlog-proof");
    let file = file.to_str().unwrap();
    let made = run(directory, &["prove", "--id", &id(402), "--out", file]);
    assert_eq!(made.code, 0, "{made:?}");
    let printed = run(directory, &["prove", "--seq", "402"]);
    assert_eq!(printed.stdout, std::fs::read_to_string(file).unwrap());
    assert!(printed.stdout.starts_with("c2sp.org/tlog-proof@v1\n"));

    let key = sample.signer.verifier_key();
    // An auditor may not read the archive's own key, and need not.
    sample.remove(&sample.log.checkpoint_key());
    assert_eq!(run(directory, &["prove", "--seq", "402"]).code, 1);
    let audited = run(directory, &["prove", "--seq", "402", "--key", key]);
    assert_eq!(audited.stdout, printed.stdout);
    let checked = run_plain(&["check-proof", file, "--key", key]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(
        checked
            .stdout
            .starts_with("line 402 is among the 560 lines"),
        "{checked:?}"
    );
    let checked = run_plain(&["check-proof", file, "--key", key, "--print"]);
    assert_eq!(checked.stdout.trim_end().as_bytes(), plain_line(402));

    let stranger = signer(sample.log, 9);
    let refused = run_plain(&["check-proof", file, "--key", stranger.verifier_key()]);
    assert_eq!(refused.code, 11, "{refused:?}");
    let text = printed.stdout.replacen("index 401", "index 402", 1);
    std::fs::write(file, text).unwrap();
    let refused = run_plain(&["check-proof", file, "--key", key]);
    assert_eq!(refused.code, 11, "{refused:?}");
    assert!(refused.stderr.contains("does not hold"), "{refused:?}");
    assert_eq!(
        run_plain(&["check-proof", "/no/such", "--key", key]).code,
        2
    );

    let nowhere = run(directory, &["prove", "--id", &id(999), "--key", key]);
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
    let beyond = run(directory, &["prove", "--seq", "561", "--key", key]);
    assert_eq!(beyond.code, 1, "{beyond:?}");
    assert_eq!(run(directory, &["prove"]).code, 2);
}

#[test]
fn growth_is_shown() {
    let sample = sample();
    let directory = sample.directory.path();
    let path = |name: &str| sample.path(name).to_str().unwrap().to_owned();
    sample.write("old", &sample.note(77).bytes);
    sample.write("new", &sample.note(LAST).bytes);
    let grown = run(directory, &["consistency", &path("old"), &path("new")]);
    assert_eq!(grown.code, 0, "{grown:?}");
    assert!(grown.stdout.starts_with("the 560 lines of "), "{grown:?}");
    let json = run(
        directory,
        &["consistency", &path("old"), &path("new"), "--json"],
    );
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (json["old"]["lines"].as_u64(), json["new"]["lines"].as_u64()),
        (Some(77), Some(LAST))
    );
    assert!(json["proof"].as_array().unwrap().len() > 1);

    let shrunk = run(directory, &["consistency", &path("new"), &path("old")]);
    assert_eq!(shrunk.code, 11, "{shrunk:?}");
    let mut head = sample.head(77);
    head.root = sample.head(78).root;
    sample.write("other", &sample.signer.sign(head).unwrap());
    let other = run(directory, &["consistency", &path("other"), &path("new")]);
    assert_eq!(other.code, 11, "{other:?}");
}
