use super::*;
use sealpost_core::Identity;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// What was written, to look at.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at(millis: u64) -> Time {
    Time(Timestamp::from_millis(millis).unwrap())
}

fn json(event: &Event) -> String {
    let out = Written::default();
    Printer::new(true, Box::new(out.clone()), Box::new(Written::default()))
        .print(event)
        .unwrap();
    out.text()
}

fn text_message(text: &str) -> Event {
    Event::Message {
        from: "alice".into(),
        id: "0199aa00-0000-7000-8000-000000000000".into(),
        ts: at(1_700_000_000_123),
        kind: "text".into(),
        text: Some(text.into()),
        content: None,
        reading: None,
        reading_gap: None,
        relation: Box::default(),
        file: None,
    }
}

#[test]
fn the_json_of_every_event_is_stable() {
    let fingerprint = "SHA256:x".to_owned();
    let cases = [
        (
            text_message("Hello Bob!"),
            r#"{"event":"message","from":"alice","id":"0199aa00-0000-7000-8000-000000000000","ts":1700000000.123,"kind":"text","text":"Hello Bob!"}"#,
        ),
        (
            Event::Message {
                from: "meter".into(),
                id: "i".into(),
                ts: at(1_700_000_000_000),
                kind: "reading".into(),
                text: None,
                content: serde_json::from_str(r#"{"kind":"reading","value":21.5}"#).ok(),
                reading: None,
                reading_gap: None,
                relation: Box::default(),
                file: None,
            },
            r#"{"event":"message","from":"meter","id":"i","ts":1700000000.000,"kind":"reading","content":{"kind":"reading","value":21.5}}"#,
        ),
        (
            Event::Sent {
                to: "bob".into(),
                id: "i".into(),
                ts: at(1),
            },
            r#"{"event":"sent","to":"bob","id":"i","ts":0.001}"#,
        ),
        (
            Event::Status {
                state: "connected",
                broker: "mqtt://h:1".into(),
                reason: None,
                hint: None,
                retry_in: None,
            },
            r#"{"event":"status","state":"connected","broker":"mqtt://h:1"}"#,
        ),
        (
            Event::Status {
                state: "disconnected",
                broker: "mqtt://h:1".into(),
                reason: Some("r".into()),
                hint: None,
                retry_in: Some(0.5),
            },
            r#"{"event":"status","state":"disconnected","broker":"mqtt://h:1","reason":"r","retry_in":0.5}"#,
        ),
        (
            Event::Contact {
                user: "bob".into(),
                change: ContactChangeKind::Pinned,
                fingerprint: fingerprint.clone(),
                verified: false,
                previous: None,
                offered: None,
                suspended: false,
                withdrawn: false,
            },
            r#"{"event":"contact","user":"bob","change":"pinned","fingerprint":"SHA256:x","verified":false,"suspended":false,"withdrawn":false}"#,
        ),
        (
            Event::SafetyNumber {
                user: "bob".into(),
                number: "12345 67890".into(),
                fingerprint: fingerprint.clone(),
                code: "sealpost:verify?v=1".into(),
            },
            r#"{"event":"safety_number","user":"bob","number":"12345 67890","fingerprint":"SHA256:x","code":"sealpost:verify?v=1"}"#,
        ),
        (
            Event::ContactLink {
                user: "alice".into(),
                realm: "local".into(),
                broker: "mqtt://h:1".into(),
                fingerprint: fingerprint.clone(),
                link: "sealpost:contact?v=1".into(),
            },
            r#"{"event":"contact_link","user":"alice","realm":"local","broker":"mqtt://h:1","fingerprint":"SHA256:x","link":"sealpost:contact?v=1"}"#,
        ),
        (
            Event::Gap {
                from: "alice".into(),
                id: "i".into(),
                prev: "p".into(),
            },
            r#"{"event":"gap","from":"alice","id":"i","prev":"p"}"#,
        ),
        (
            Event::Waiting {
                from: "carol".into(),
                id: "i".into(),
                reason: "bundle",
                hint: "h".into(),
            },
            r#"{"event":"waiting","from":"carol","id":"i","reason":"bundle","hint":"h"}"#,
        ),
        (
            Event::Refused {
                from: None,
                id: None,
                cause: "malformed",
                message: "m".into(),
                hint: "h".into(),
            },
            r#"{"event":"refused","from":null,"id":null,"cause":"malformed","message":"m","hint":"h"}"#,
        ),
        (
            Event::Alarm {
                cause: "identity_changed",
                user: "bob".into(),
                pinned: Some("SHA256:x".into()),
                offered: Some("SHA256:y".into()),
                message: "m".into(),
                hint: "h".into(),
            },
            r#"{"event":"alarm","cause":"identity_changed","user":"bob","pinned":"SHA256:x","offered":"SHA256:y","message":"m","hint":"h"}"#,
        ),
        (
            Event::Keys {
                user: "alice".into(),
                realm: "local".into(),
                fingerprint,
                identity: "AAAA".into(),
                seq: 7,
                expires: at(2_000),
                encryption: vec![
                    KeyInfo {
                        created: at(1_000),
                        replaced: None,
                        destroyed: None,
                    },
                    KeyInfo {
                        created: at(0),
                        replaced: Some(at(1_000)),
                        destroyed: Some(at(5_000)),
                    },
                ],
                passphrase: true,
                revoked: false,
                published: Some(true),
            },
            r#"{"event":"keys","user":"alice","realm":"local","fingerprint":"SHA256:x","identity":"AAAA","seq":7,"expires":2.000,"encryption":[{"created":1.000},{"created":0.000,"replaced":1.000,"destroyed":5.000}],"passphrase":true,"revoked":false,"published":true}"#,
        ),
        (
            Event::Agent {
                until: Some(at(3_000)),
            },
            r#"{"event":"agent","until":3.000}"#,
        ),
        (
            Event::Error {
                code: 3,
                message: "m".into(),
                hint: "h".into(),
            },
            r#"{"event":"error","code":3,"message":"m","hint":"h"}"#,
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(json(&event), format!("{expected}\n"));
    }
}

#[test]
fn hostile_text_is_escaped_in_json_and_comes_back_unchanged() {
    let hostile = "\u{1b}[31m\u{9b}0m\u{202e}\u{200b}\u{7f}\n\"quoted\"";
    let line = json(&text_message(hostile));
    assert_eq!(line.lines().count(), 1);
    assert!(
        line.trim_end()
            .chars()
            .all(|c| !c.is_control() && c.is_ascii()),
        "{line:?}"
    );
    let back: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(back["text"], hostile);
}

#[test]
fn people_see_the_message_on_standard_output_and_the_rest_on_standard_error() {
    let (out, err) = (Written::default(), Written::default());
    let mut printer = Printer::new(false, Box::new(out.clone()), Box::new(err.clone()));
    printer.print(&text_message("Hello Bob!")).unwrap();
    printer
        .print(&Event::Error {
            code: 1,
            message: "broken".into(),
            hint: "mend it".into(),
        })
        .unwrap();
    assert_eq!(out.text(), "From alice: Hello Bob!\n");
    assert_eq!(err.text(), "sealpost: broken\n  mend it\n");
}

#[test]
fn people_never_see_a_control_sequence_of_others() {
    let events = [
        text_message("\u{1b}]0;title\u{7}hi\u{202e}"),
        Event::Message {
            from: "m".into(),
            id: "i".into(),
            ts: at(1),
            kind: "reading".into(),
            text: None,
            content: serde_json::from_str(r#"{"x":"\u001b[2J\u202e"}"#).ok(),
            reading: None,
            reading_gap: None,
            relation: Box::default(),
            file: None,
        },
        Event::Status {
            state: "disconnected",
            broker: "b".into(),
            reason: Some("\u{1b}[2J".into()),
            hint: None,
            retry_in: Some(1.0),
        },
        Event::Refused {
            from: Some("\u{1b}[2J".into()),
            id: None,
            cause: "malformed",
            message: "\u{9b}2J".into(),
            hint: String::new(),
        },
    ];
    for event in events {
        let shown = event.human();
        assert!(
            !shown
                .chars()
                .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{shown:?}"
        );
    }
}

#[test]
fn a_changed_identity_is_loud_and_names_both_fingerprints_and_both_explanations() {
    let (old, new) = (
        Identity::from_seed(&[1; 32]).key().fingerprint(),
        Identity::from_seed(&[2; 32]).key().fingerprint(),
    );
    let banner = Event::Alarm {
        cause: "identity_changed",
        user: "bob".into(),
        pinned: Some(old.clone()),
        offered: Some(new.clone()),
        message: String::new(),
        hint: String::new(),
    }
    .human();
    for part in [
        "WARNING: THE IDENTITY OF BOB HAS CHANGED",
        &old,
        &new,
        "new keys",
        "stands in for bob",
        "sealpost contacts trust bob",
    ] {
        assert!(banner.contains(part), "{part}: {banner}");
    }
}

#[test]
fn dates_are_right_over_leap_years() {
    for (millis, expected) in [
        (0, "1970-01-01"),
        (951_782_400_000, "2000-02-29"),
        (1_709_164_800_000, "2024-02-29"),
        (1_798_761_599_000, "2026-12-31"),
        (4_107_542_400_000, "2100-03-01"),
    ] {
        assert_eq!(date(at(millis).0), expected);
    }
}

#[test]
fn json_and_people_agree_on_what_is_hidden() {
    for hidden in [
        '\u{ad}',
        '\u{180e}',
        '\u{200d}',
        '\u{3164}',
        '\u{fff9}',
        '\u{e0041}',
        '\u{fe01}',
    ] {
        let text = format!("pay{hidden}pal");
        let line = json(&text_message(&text));
        assert!(!line.contains(hidden), "U+{:04X}", u32::from(hidden));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["text"], text);
    }
}
