//! Conversations with the programs as people have them at a shell, word for word: `tests/transcripts/*.md`. Each is run against a
//! broker of its own, and what is printed is compared with what is written there, standard error and exit codes included.
//!
//! `make transcripts` writes what is printed into them. Then read the difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;
use sealpost_tests::{Broker, BrokerOptions, program, root};

/// Set, it makes the tests write the transcripts instead of comparing them.
const OVERWRITE: &str = "SEALPOST_WRITE_TRANSCRIPTS";

/// What differs from run to run, and what stands for it. In this order.
const VARIABLE: [(&str, &str); 11] = [
    (r"mqtt://127\.0\.0\.1:\d+", "mqtt://BROKER"),
    (r"127\.0\.0\.1:\d+", "BROKER"),
    (r"/[^ ']*/\.tmp[A-Za-z0-9]+", "/somewhere"),
    (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:…"),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
        "ID",
    ),
    (r"\d{10}\.\d{3}", "TIME"),
    (r"\d{4}-\d{2}-\d{2}", "DATE"),
    (r"process \d+", "process N"),
    (r"(\d{5} ){5}\d{5}", "DIGITS"),
    (r"\d+ MiB are free", "N MiB are free"),
    (r"bundle       number \d+", "bundle       number N"),
];

struct Shell {
    broker: Broker,
    folder: tempfile::TempDir,
    variable: Vec<(Regex, &'static str)>,
}

impl Shell {
    fn new() -> Shell {
        let variable = VARIABLE.map(|(pattern, word)| (Regex::new(pattern).unwrap(), word));
        Shell {
            broker: Broker::start(BrokerOptions::default()),
            folder: tempfile::tempdir().unwrap(),
            variable: variable.into(),
        }
    }

    /// What is printed, and the exit code.
    fn run(&mut self, line: &str) -> (String, i32) {
        match line {
            "broker stop" => {
                self.broker.process.kill();
                return (String::new(), 0);
            }
            "broker start" => {
                self.broker.restart();
                return (String::new(), 0);
            }
            _ => {}
        }
        // Both streams into one pipe, so that their lines keep their order.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("bash");
        command
            .args(["-c", line])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.folder.path())
            .env("SEALPOST_BROKER", self.broker.url())
            .env("BROKER", self.broker.data())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut printed = String::new();
        std::io::Read::read_to_string(&mut reader, &mut printed).unwrap();
        let code = child.wait().unwrap().code().unwrap_or(-1);
        for (pattern, word) in &self.variable {
            printed = pattern.replace_all(&printed, *word).into_owned();
        }
        (printed, code)
    }
}

fn path() -> std::ffi::OsString {
    let ours = program("sealpost").parent().unwrap().to_owned();
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&theirs))).unwrap()
}

/// The same document with what is printed now, and the exit codes in it.
fn play(document: &str) -> (String, BTreeSet<i32>) {
    let mut shell = Shell::new();
    let mut played = String::new();
    let mut codes = BTreeSet::new();
    let mut inside = false;
    for line in document.lines() {
        match (inside, line.strip_prefix("$ ")) {
            (true, Some(command)) => {
                let (printed, code) = shell.run(command);
                codes.insert(code);
                writeln!(played, "{line}").unwrap();
                played.push_str(&printed);
                if !printed.is_empty() && !printed.ends_with('\n') {
                    played.push('\n');
                }
                if code != 0 {
                    writeln!(played, "[exit code {code}]").unwrap();
                }
            }
            // What was printed before.
            (true, None) if line != "```" => {}
            _ => {
                inside = line == "```console";
                writeln!(played, "{line}").unwrap();
            }
        }
    }
    (played, codes)
}

fn transcripts() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("tests/transcripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    paths
}

fn differences(path: &Path, played: &str, written: &str) -> Option<String> {
    if played == written {
        return None;
    }
    let mut told = format!("{}:\n", path.display());
    let (now, before): (Vec<&str>, Vec<&str>) =
        (played.lines().collect(), written.lines().collect());
    let same = now.iter().zip(&before).take_while(|(a, b)| a == b).count();
    for line in before.iter().skip(same).take(20) {
        writeln!(told, "- {line}").unwrap();
    }
    for line in now.iter().skip(same).take(20) {
        writeln!(told, "+ {line}").unwrap();
    }
    Some(told)
}

#[test]
fn what_the_programs_say_is_what_the_transcripts_have() {
    let overwrite = std::env::var_os(OVERWRITE).is_some();
    let mut codes = BTreeSet::new();
    let mut wrong = String::new();
    for path in transcripts() {
        let written = std::fs::read_to_string(&path).unwrap();
        let (played, seen) = play(&written);
        codes.extend(seen);
        if overwrite {
            std::fs::write(&path, played).unwrap();
        } else if let Some(told) = differences(&path, &played, &written) {
            wrong.push_str(&told);
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}If that is right: make transcripts"
    );
    // Every exit code that is documented occurs.
    assert!(codes.is_superset(&(0..=6).collect()), "{codes:?}");
}
