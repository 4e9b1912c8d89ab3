//! Which payloads are kept as envelopes and which as base64, over the test vectors; and that either way they come back.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sealpost_archive::layout::LogName;
use sealpost_archiver::arrival::Arrival;
use sealpost_archiver::writer::Writer;
use serde_json::Value;

use crate::messages::{LOG_FILE, at, contents, read_log};
use crate::simulated_disk::SimulatedDisk;

struct Case {
    name: String,
    well_formed: bool,
    payload: Bytes,
}

impl Case {
    /// The inbox that it is for, if it says so.
    fn topic(&self) -> String {
        let to = serde_json::from_slice::<Value>(&self.payload)
            .ok()
            .and_then(|json| Some(json["to"].as_str()?.to_owned()));
        format!("inbox/{}", to.unwrap_or_else(|| "bob".to_owned()))
    }
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/envelopes.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let case = |case: &Value| {
        let bytes = &case["envelope"];
        let mut payload = match (bytes["text"].as_str(), bytes["base64"].as_str()) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(base64)) => STANDARD.decode(base64).unwrap(),
            _ => panic!("neither text nor base64: {case}"),
        };
        payload.extend(std::iter::repeat_n(
            b' ',
            bytes["spaces"].as_u64().unwrap_or(0) as usize,
        ));
        Case {
            name: case["name"].as_str().unwrap().to_owned(),
            well_formed: case["expect"] == "ok",
            payload: payload.into(),
        }
    };
    file["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn envelopes_are_kept_as_they_are_and_all_else_with_a_reason() {
    let (mut good, mut bad) = (0, 0);
    for case in cases() {
        let arrival = Arrival::new(case.topic().into(), case.payload.clone(), 1, Some(1));
        assert_eq!(
            arrival.fault.is_none(),
            case.well_formed,
            "{}: {:?}",
            case.name,
            arrival.fault
        );
        if case.well_formed {
            good += 1
        } else {
            bad += 1
        }
    }
    assert!(
        good > 10 && bad > 50,
        "the vectors are there: {good} good, {bad} bad"
    );
}

#[test]
fn an_envelope_in_a_wrong_place_is_kept_with_the_reason() {
    let envelope = cases().into_iter().find(|case| case.well_formed).unwrap();
    for topic in [
        "inbox/carol",
        "keys/bob",
        "inbox/Bob",
        "inbox/",
        "inbox/bob/x",
        "somewhere",
        "",
        "inbox/\u{0}",
    ] {
        let arrival = Arrival::new(topic.into(), envelope.payload.clone(), 1, Some(1));
        assert!(arrival.fault.is_some(), "{topic:?}");
    }
    let arrival = Arrival::new(
        Bytes::from_static(b"inbox/\xff"),
        envelope.payload,
        1,
        Some(1),
    );
    assert_eq!(arrival.fault.as_deref(), Some("the topic is not UTF-8"));
}

#[test]
fn every_vector_is_a_line_of_the_log_and_comes_back_from_it() {
    let mut arrivals = Vec::new();
    for case in cases() {
        for topic in [
            case.topic().into(),
            Bytes::from_static(b"inbox/carol"),
            Bytes::from_static(b"inbox/\xff\"\n"),
        ] {
            let arrival = Arrival::new(topic, case.payload.clone(), 1, Some(1));
            if !arrivals
                .iter()
                .any(|earlier: &Arrival| earlier.digest == arrival.digest)
            {
                arrivals.push(arrival);
            }
        }
    }
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 10_000, None).unwrap();
    writer.archive(&arrivals, at()).unwrap();
    assert_eq!(
        read_log(&disk.durable(LOG_FILE).unwrap()),
        contents(&arrivals)
    );

    let (mut writer, recovery) = Writer::open(&disk, LogName::EncryptedLogs, 10_000, None).unwrap();
    assert_eq!(recovery.last_seq, arrivals.len() as u64);
    assert_eq!(
        writer.archive(&arrivals, at()).unwrap().duplicates,
        arrivals.len() as u64
    );
}

#[test]
fn the_fields_of_an_envelope_are_members_of_its_line() {
    let envelope = cases().into_iter().find(|case| case.well_formed).unwrap();
    let disk = SimulatedDisk::default();
    let (mut writer, _) = Writer::open(&disk, LogName::EncryptedLogs, 10, None).unwrap();
    writer
        .archive(
            &[Arrival::new(
                envelope.topic().into(),
                envelope.payload.clone(),
                1,
                None,
            )],
            at(),
        )
        .unwrap();
    let log = disk.durable(LOG_FILE).unwrap();
    let line: Value = serde_json::from_slice(&log).unwrap();
    let original: Value = serde_json::from_slice(&envelope.payload).unwrap();
    for member in ["ts", "from", "to", "enc_key", "nonce", "ciphertext"] {
        assert!(!line[member].is_null(), "{member}");
        assert_eq!(line[member], original[member]);
    }
    assert!(log.ends_with(&[&envelope.payload[1..], b"\n"].concat()));
}
