//! What is removed leaves a record and a tree that still verifies; and what is under a hold stays.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealpost_archive::hash::Hash;
use sealpost_archive::layout::{self, LogName};
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogReader, Selection, manifests};
use sealpost_archive::storage::Directory;
use sealpost_archive::tree::Tree;
use sealpost_archive::verify::Verification;
use sealpost_archiver::archive;
use sealpost_archiver::arrival::Arrival;
use sealpost_archiver::cli::{BrokerArgs, DirArgs, RunArgs};
use sealpost_archiver::control::answer::Answer;
use sealpost_archiver::control::caller;
use sealpost_archiver::control::request::Request;
use sealpost_archiver::exit::ProgramError;
use sealpost_archiver::key;
use sealpost_archiver::operate::ask;
use sealpost_archiver::settings::Settings;
use sealpost_archiver::status::Status;
use sealpost_archiver::writer::Writer;
use sealpost_core::Timestamp;
use tokio_util::sync::CancellationToken;

const LOG: LogName = LogName::EncryptedLogs;

fn settings(dir: &Path) -> Settings {
    let flags = RunArgs {
        broker: BrokerArgs {
            broker: vec!["mqtt://127.0.0.1:1".to_owned()],
            ..BrokerArgs::default()
        },
        dir: DirArgs {
            dir: Some(dir.to_owned()),
            config: None,
        },
        ..RunArgs::default()
    };
    Settings::gather(&flags).unwrap()
}

/// The time of the `day`th segment's lines.
fn time(day: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + day * 86_400_000).unwrap()
}

/// The `number`th message. It is no envelope, which is kept as well and quickly made.
fn note(number: u64) -> Arrival {
    Arrival::new("inbox/bob".into(), format!("note {number}").into(), 1, None)
}

/// An archive of so many segments of ten messages each, each a day later, and ten messages in the active file.
fn archive_of(segments: u64) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("archive");
    let directory = Directory::open(&dir).unwrap();
    for log in LogName::ALL {
        let settings = settings(&dir);
        let origin = key::origin(&settings.realm, &settings.name, log);
        key::load_or_create_signer(&dir, log, &origin).unwrap();
    }
    for day in 0..=segments {
        let (mut writer, _) = Writer::open(&directory, LOG, 1000, None).unwrap();
        let batch: Vec<_> = (day * 10..day * 10 + 10).map(note).collect();
        writer.archive(&batch, time(day)).unwrap();
        drop(writer);
        if day < segments {
            ask(settings(&dir), Request::Seal {}).unwrap();
        }
    }
    (parent, dir)
}

fn erase(dir: &Path, seq: u64) -> Result<Answer, ProgramError> {
    let request = Request::Erase {
        log: LOG,
        seq,
        reason: "a court \"said\" so\n".to_owned(),
    };
    ask(settings(dir), request)
}

fn retire(dir: &Path, before: Timestamp) -> Answer {
    let request = Request::Retire {
        before,
        reason: "old".to_owned(),
    };
    ask(settings(dir), request).unwrap()
}

fn hold(dir: &Path, name: &str, users: &[&str], from: u64, until: u64) {
    let request = Request::HoldAdd {
        name: name.to_owned(),
        from: Some(time(from)),
        until: Some(time(until)),
        users: (!users.is_empty()).then(|| users.iter().map(|&user| user.to_owned()).collect()),
        reason: "a case".to_owned(),
    };
    assert_eq!(ask(settings(dir), request).unwrap(), Answer::Done {});
}

fn message_of(error: Result<Answer, ProgramError>) -> String {
    error.unwrap_err().to_string()
}

/// Each line's bytes and leaf.
fn lines(dir: &Path) -> Vec<(Vec<u8>, Hash)> {
    let directory = Directory::open(dir).unwrap();
    let reader = LogReader::open(&directory, LOG).unwrap();
    let mut lines = reader.lines(Selection::default());
    let mut all = Vec::new();
    while let Some(found) = lines.next_line().unwrap() {
        let leaf = Line::parse(found.bytes).unwrap().leaf(found.bytes);
        all.push((found.bytes.to_vec(), leaf));
    }
    all
}

/// An auditor finds nothing wrong.
fn verify(dir: &Path) {
    let directory = Directory::open(dir).unwrap();
    let verifier = key::stored_signer(dir, LOG).unwrap().verifier().unwrap();
    let verification = Verification::open(directory, LOG, &verifier, &[]).unwrap();
    let report = verification.run(|_| {});
    assert!(report.ok, "{report:?}");
}

/// All bytes of all files.
fn everything(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(everything(&path));
        } else if path.extension().is_some_and(|extension| extension == "zst") {
            let file = std::fs::File::open(path).unwrap();
            bytes.extend(zstd::stream::decode_all(file).unwrap());
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

#[test]
fn an_erased_line_is_gone_from_every_file_and_changes_no_hash() {
    let (_parent, dir) = archive_of(2);
    let before = lines(&dir);
    // In a segment, twice in the same one, and in the active file.
    for (number, seq) in [3, 7, 24].into_iter().enumerate() {
        let record = 31 + number as u64;
        assert_eq!(erase(&dir, seq).unwrap(), Answer::Erased { record });
        verify(&dir);
        let after = lines(&dir);
        assert_eq!(after.len() as u64, record);
        let line = Line::parse(&after[seq as usize - 1].0).unwrap();
        assert_eq!(
            line.body,
            Body::Tombstone {
                erased_by: record,
                leaf: before[seq as usize - 1].1
            }
        );
        for (place, (bytes, leaf)) in before.iter().enumerate() {
            assert_eq!(after[place].1, *leaf);
            if ![3, 7, 24].contains(&(place + 1)) {
                assert_eq!(after[place].0, *bytes);
            }
        }
        let text = before[seq as usize - 1].0.clone();
        let everything = everything(&dir);
        assert!(
            !everything.windows(text.len()).any(|window| window == text),
            "line {seq} is still somewhere"
        );
    }
    let day = dir.join(layout::day(time(0)));
    assert!(day.join(layout::segment(1, 2)).exists());
    assert!(!day.join(layout::segment(1, 0)).exists());

    assert!(message_of(erase(&dir, 3)).contains("erased already, by the record in line 31"));
    assert!(message_of(erase(&dir, 31)).contains("is a record"));
    assert!(message_of(erase(&dir, 999)).contains("there is no line 999"));
    // Nothing of that was recorded.
    assert_eq!(lines(&dir).len(), 33);
}

#[test]
fn the_oldest_segments_are_retired_and_the_log_goes_on() {
    let (_parent, dir) = archive_of(4);
    let all = lines(&dir);
    assert_eq!(
        retire(&dir, time(2)),
        Answer::Retired {
            segments: 2,
            until: Some(20),
            held: None,
            hold: None
        }
    );
    verify(&dir);
    let left = lines(&dir);
    assert_eq!(left.len(), 31, "thirty lines and the record");
    assert_eq!(left[0], all[20]);
    let mut tree = Tree::new();
    all[..20].iter().for_each(|(_, leaf)| tree.push(*leaf));
    let record = Line::parse(&left[30].0).unwrap();
    assert!(
        matches!(record.body, Body::Retirement { retires: 20, root, .. } if root == tree.root())
    );
    assert!(!dir.join(layout::day(time(0))).exists());
    assert_eq!(Status::of(&dir).unwrap().first, Some(21));

    // The newest segment stays whatever is asked for: the tree goes on from it.
    let answer = retire(&dir, Timestamp::MAX);
    assert!(
        matches!(answer, Answer::Retired { until: Some(until), .. } if until >= 30),
        "{answer:?}"
    );
    let directory = Directory::open(&dir).unwrap();
    assert_eq!(manifests(&directory, LOG).unwrap().len(), 1);
    let (mut writer, recovery) = Writer::open(&directory, LOG, 1000, None).unwrap();
    assert_eq!(recovery.tiles_lost, None);
    assert_eq!(recovery.last_seq, 52);
    writer.archive(&[note(99)], time(9)).unwrap();
    assert_eq!(
        retire(&dir, time(0)),
        Answer::Retired {
            segments: 0,
            until: None,
            held: None,
            hold: None
        }
    );
}

#[test]
fn what_is_under_a_hold_is_neither_erased_nor_retired() {
    let (_parent, dir) = archive_of(4);
    hold(&dir, "case 7", &[], 1, 1);
    let error = erase(&dir, 15).unwrap_err();
    assert!(error.to_string().contains("under the hold \"case 7\""));
    assert!(error.hint().unwrap().contains("hold release"));
    erase(&dir, 5).unwrap();
    let held = Answer::Retired {
        segments: 1,
        until: Some(10),
        held: Some(11),
        hold: Some("case 7".to_owned()),
    };
    assert_eq!(retire(&dir, Timestamp::MAX), held);

    let again = Request::HoldAdd {
        name: "case 7".to_owned(),
        from: None,
        until: None,
        users: None,
        reason: "x".to_owned(),
    };
    assert!(message_of(ask(settings(&dir), again)).contains("already"));
    let release = || Request::HoldRelease {
        name: "case 7".to_owned(),
    };
    ask(settings(&dir), release()).unwrap();
    assert!(message_of(ask(settings(&dir), release())).contains("there is no hold"));

    // Of one user's messages: what shows no sender is held to be theirs.
    hold(&dir, "bob", &["bob"], 0, 9);
    assert!(erase(&dir, 16).is_err());
    ask(
        settings(&dir),
        Request::HoldRelease {
            name: "bob".to_owned(),
        },
    )
    .unwrap();
    erase(&dir, 16).unwrap();

    // Holds that cannot be read hold everything.
    std::fs::write(dir.join("holds.json"), "{").unwrap();
    assert!(message_of(erase(&dir, 17)).contains("holds.json is damaged"));
}

#[test]
fn what_nobody_can_do_is_refused_and_nothing_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let nowhere = parent.path().join("nowhere");
    let error = ask(settings(&nowhere), Request::HoldList {}).unwrap_err();
    assert!(error.to_string().contains("there is no archive"), "{error}");
    assert!(!nowhere.exists());
    let (_parent, dir) = archive_of(1);
    for reason in [String::new(), "x".repeat(1_001)] {
        let request = Request::Erase {
            log: LOG,
            seq: 1,
            reason,
        };
        assert!(message_of(ask(settings(&dir), request)).contains("a reason has"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_archiver_does_what_it_is_asked_and_says_how_it_is() {
    let (parent, short) = tokio::task::spawn_blocking(|| archive_of(2)).await.unwrap();
    // Too long for a socket's name.
    let dir = parent.path().join("a".repeat(120));
    std::fs::rename(short, &dir).unwrap();
    let stop = CancellationToken::new();
    let broker = settings(&dir).broker().unwrap().clone();
    let running = tokio::spawn(archive::run(
        settings(&dir),
        broker,
        stop.clone(),
        None,
        Box::new(|| {}),
    ));
    let call = |request: Request| {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || caller::ask(&dir, &request).unwrap())
    };
    let live = loop {
        // Until it listens, and has tried to connect.
        match call(Request::Status {}).await.unwrap() {
            Some(Answer::Status(live)) if live.away_because.is_some() => break live,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        assert!(!running.is_finished());
    };
    assert_eq!(live.subscribed_since, None);
    let mode = std::fs::metadata(dir.join("control.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for (seq, record) in [(4, 31), (25, 32)] {
        let request = Request::Erase {
            log: LOG,
            seq,
            reason: "asked for".to_owned(),
        };
        let answer = call(request).await.unwrap();
        assert_eq!(answer, Some(Answer::Erased { record }));
        let line = lines(&dir)[seq as usize - 1].0.clone();
        assert!(matches!(
            Line::parse(&line).unwrap().body,
            Body::Tombstone { .. }
        ));
    }
    let request = Request::Retire {
        before: time(1),
        reason: "old".to_owned(),
    };
    assert!(matches!(
        call(request).await.unwrap(),
        Some(Answer::Retired {
            until: Some(10),
            ..
        })
    ));
    let status = tokio::task::spawn_blocking({
        let dir = dir.clone();
        move || Status::of(&dir).unwrap().with_live(&dir).unwrap()
    })
    .await
    .unwrap();
    assert!(status.running && status.live.is_some());
    assert_eq!((status.first, status.lines), (Some(11), 33));
    let text = status.to_string();
    assert!(text.contains("subscribed  no: "), "{text}");
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(!dir.join("control.sock").exists());
    assert_eq!(call(Request::Status {}).await.unwrap(), None);
}
