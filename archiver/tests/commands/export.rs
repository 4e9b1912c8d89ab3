//! `export`, `stats` and `merge`.

use crate::command::{run, run_plain, sample};
use crate::sample::{LAST, id, joined};

#[test]
fn an_export_has_every_line_that_is_found() {
    let sample = sample();
    let directory = sample.directory.path();
    let lines = run(directory, &["export"]);
    assert_eq!(lines.code, 0, "{lines:?}");
    assert_eq!(lines.stdout.as_bytes(), joined(&sample.lines));

    let file = sample.path("export.csv");
    let path = file.to_str().unwrap();
    let arguments = ["export", "--format", "csv", "--to", "bob", "--out", path];
    assert_eq!(run(directory, &arguments).code, 0);
    let csv = std::fs::read_to_string(&file).unwrap();
    let mut rows = csv.lines();
    assert_eq!(
        rows.next().unwrap(),
        "seq,archived_at,kind,from,to,id,prev,verified,bytes"
    );
    let rows: Vec<&str> = rows.collect();
    let count = run(directory, &["query", "--to", "bob", "--count"]).stdout;
    assert_eq!(rows.len().to_string(), count.trim_end());
    let wanted = format!("4,1700000000.400,message,alice,bob,{},,true,", id(4));
    assert!(rows[1].starts_with(&wanted), "{}", rows[1]);
    // What is there is not written over.
    assert_eq!(run(directory, &arguments).code, 2);
}

#[test]
fn the_numbers_are_told_and_drawn() {
    let sample = sample();
    let directory = sample.directory.path();
    let text = run(directory, &["stats"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.stdout.contains("2023-11-14  "), "{text:?}");
    assert!(text.stdout.contains("alice  "), "{text:?}");
    let picture = sample.path("days.svg");
    let json = run(
        directory,
        &["stats", "--json", "--plot", picture.to_str().unwrap()],
    );
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["all"]["lines"], LAST);
    assert!(json["senders"]["carol"]["bytes"].is_u64());
    assert!(
        std::fs::read_to_string(picture)
            .unwrap()
            .starts_with("<svg")
    );
}

#[test]
fn mirrors_are_merged() {
    let (first, second) = (sample(), sample());
    let paths =
        [&first, &second].map(|sample| sample.directory.path().to_str().unwrap().to_owned());
    let merged = run_plain(&["merge", &paths[0], &paths[1], "--count"]);
    assert_eq!(merged.code, 0, "{merged:?}");
    let alone = run_plain(&["merge", &paths[0]]);
    assert_eq!(merged.stdout, alone.stdout);
    assert!(merged.stdout.lines().count() > 400);
    assert!(
        merged.stderr.contains(" repetitions left out"),
        "{merged:?}"
    );
    assert!(!merged.stdout.contains("erased_by"), "{merged:?}");
    assert_eq!(run_plain(&["merge", "/no/such"]).code, 1);
}
