//! `query` and `gaps`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use crate::command::{program, run, sample};
use crate::sample::{LAST, id, plain_line};

#[test]
fn a_query_prints_what_it_finds() {
    let sample = sample();
    let directory = sample.directory.path();
    let all = run(directory, &["query", "--count"]);
    assert_eq!((all.code, all.stdout.as_str()), (0, "560\n"), "{all:?}");
    let one = run(directory, &["query", "--id", &id(402), "--json"]);
    assert_eq!(one.stdout.trim_end().as_bytes(), plain_line(402));
    let text = run(
        directory,
        &["query", "--from", "carol", "--to", "bob", "--limit", "2"],
    );
    assert_eq!(text.stdout.lines().count(), 2, "{text:?}");
    assert!(text.stdout.contains("  carol > bob  "), "{text:?}");
    // Line 531 was written at 1700000053.100.
    let since = [
        "query",
        "--since",
        "2023-11-14T22:14:13.1Z",
        "--until",
        "1700000053.300",
    ];
    let times = run(directory, &since);
    let numbers: Vec<&str> = times
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(numbers, ["531", "532"], "{times:?}");
    let special = run(
        directory,
        &[
            "query",
            "--since",
            "1700000053",
            "--until",
            "1700000053.100",
        ],
    );
    assert!(
        special.stdout.contains("line 310 was erased: asked for"),
        "{special:?}"
    );
    assert_eq!(run(directory, &["query", "--from", "Carol"]).code, 2);
    assert_eq!(run(directory, &["query", "--since", "yesterday"]).code, 2);
    assert_eq!(run(&directory.join("nowhere"), &["query"]).code, 1);
}

#[test]
fn a_query_follows_the_log() {
    let sample = sample();
    let mut child = program()
        .args([
            "query",
            "--json",
            "--follow",
            "--since",
            "1700000055.800",
            "--limit",
            "5",
        ])
        .arg("--dir")
        .arg(sample.directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for seq in [558, 559, LAST] {
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.as_bytes(), plain_line(seq));
    }
    let mut active = std::fs::OpenOptions::new()
        .append(true)
        .open(sample.path(&sample.log.active()))
        .unwrap();
    for seq in [LAST + 1, LAST + 2] {
        let mut line = plain_line(seq);
        line.push(b'\n');
        active.write_all(&line).unwrap();
        let found = lines.next().unwrap().unwrap();
        assert_eq!(found.as_bytes(), plain_line(seq));
    }
    assert!(child.wait().unwrap().success(), "it ends at the limit");
}

#[test]
fn gaps_are_told() {
    let sample = sample();
    let directory = sample.directory.path();
    let text = run(directory, &["gaps"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(
        text.stdout.starts_with("0 messages are missing"),
        "{text:?}"
    );
    assert!(text.stdout.contains("1 lines were erased"), "{text:?}");
    let json = run(directory, &["gaps", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["gaps"].as_array().unwrap().len(), 0);
    assert_eq!(json["erased"], 1);
}
