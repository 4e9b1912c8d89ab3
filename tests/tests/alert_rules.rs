//! The alerts in config/prometheus: Prometheus takes them, they are raised when they should be, and they ask for nothing that the
//! programs do not tell.

use std::net::SocketAddr;
use std::process::Command;

use regex::Regex;
use sealpost_tests::{Archiver, Broker, BrokerOptions, Process, get, root};

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(root().join("config/prometheus"))
        .output()
        .expect("promtool: `make test-tools` installs it");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn prometheus_takes_the_alerts_and_the_configuration() {
    promtool(&["check", "rules", "rules.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn alerts_are_raised_when_something_is_wrong_and_not_otherwise() {
    promtool(&["test", "rules", "rules_test.yml"]);
}

/// What a program tells of itself.
fn metrics(process: &Process) -> String {
    let line = process.expect("metrics on http://");
    let address: SocketAddr = line
        .trim_start_matches("metrics on http://")
        .trim_end_matches("/metrics")
        .parse()
        .unwrap();
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    text
}

#[test]
fn every_number_that_the_alerts_and_the_pages_name_is_there_from_the_start() {
    let mut archiver = Archiver::prepare();
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings: "[metrics]\nlisten = \"127.0.0.1:0\"\n".into(),
        ..BrokerOptions::default()
    });
    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(settings.path(), "metrics = \"127.0.0.1:0\"\n").unwrap();
    let options = ["--config", settings.path().to_str().unwrap()];
    archiver.run_with(&broker.url(), &options);
    let there = metrics(&broker.process) + &metrics(archiver.process());

    let name = Regex::new(r"\b(sealpost_[a-z_]+)(\{outcome=~?.([a-z|-]+).\})?").unwrap();
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let rules = read("config/prometheus/rules.yml");
    let pages = (read("docs/operations.md") + &read("docs/archive.md"))
        .replace("_LOG_", "_encrypted_logs_");
    let (mut asked, mut missing) = (0, Vec::new());
    for found in name.captures_iter(&(rules + &pages)) {
        let samples = match found.get(3) {
            Some(outcomes) => outcomes
                .as_str()
                .split('|')
                .map(|outcome| format!("{}{{outcome=\"{outcome}\"}} ", &found[1]))
                .collect(),
            None => vec![found[1].to_owned()],
        };
        for sample in samples {
            asked += 1;
            // A name ends where its labels or its value begin; a histogram has three ends.
            let is_it = |line: &str| {
                line.strip_prefix(&sample).is_some_and(|rest| {
                    sample.ends_with(' ')
                        || rest.starts_with(['{', ' '])
                        || rest.starts_with("_bucket{")
                })
            };
            if !there.lines().any(is_it) {
                missing.push(sample);
            }
        }
    }
    assert!(asked > 60, "{asked}");
    assert!(missing.is_empty(), "{missing:?} in\n{there}");
}
