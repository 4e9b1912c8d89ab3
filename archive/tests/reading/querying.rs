//! Queries find what is there, and read no more than they must.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use sealpost_archive::envelope_names::EnvelopeNames;
use sealpost_archive::follow::Follower;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{self, Line};
use sealpost_archive::log_reader::LogReader;
use sealpost_archive::manifest::Manifest;
use sealpost_archive::query::Query;
use sealpost_archive::storage::{Directory, Storage, StoredFile};
use sealpost_core::{MessageId, UserId};

use crate::sample::{CUTS, LAST, Sample, at, id, joined, plain_line};

fn user(name: &str) -> Option<UserId> {
    Some(UserId::parse(name).unwrap())
}

fn found<S: Storage>(storage: &S, sample: &Sample, query: &Query) -> Vec<u64> {
    let reader = LogReader::open(storage, sample.log).unwrap();
    let mut found = Vec::new();
    query
        .run(&reader, 1)
        .for_each(|line| {
            assert_eq!(line.bytes, sample.lines[line.seq as usize - 1]);
            found.push(line.seq);
            true
        })
        .unwrap();
    found
}

#[test]
fn a_query_finds_the_lines_that_meet_all_its_conditions() {
    let sample = Sample::new();
    let storage = sample.storage();
    let queries = [
        Query::default(),
        Query {
            from: user("alice"),
            ..Query::default()
        },
        Query {
            to: user("bob"),
            from: user("carol"),
            ..Query::default()
        },
        Query {
            from: user("nobody"),
            ..Query::default()
        },
        Query {
            since: Some(at(299)),
            until: Some(at(305)),
            ..Query::default()
        },
        Query {
            since: Some(at(510)),
            to: user("alice"),
            ..Query::default()
        },
        Query {
            id: Some(MessageId::parse(&id(402)).unwrap()),
            ..Query::default()
        },
    ];
    for query in queries {
        let expected: Vec<u64> = (1..=LAST)
            .filter(|&seq| {
                let line = &sample.lines[seq as usize - 1];
                let names = EnvelopeNames::of(line);
                let is = |wanted: &Option<UserId>, name: Option<&str>| {
                    wanted
                        .as_ref()
                        .is_none_or(|wanted| name == Some(wanted.as_str()))
                };
                let time = Line::parse(line).unwrap().archived_at;
                is(&query.from, names.as_ref().map(|names| &*names.from))
                    && is(&query.to, names.as_ref().map(|names| &*names.to))
                    && query
                        .id
                        .is_none_or(|id| names.as_ref().is_some_and(|names| names.id == id))
                    && query.since.is_none_or(|since| time >= since)
                    && query.until.is_none_or(|until| time < until)
            })
            .collect();
        assert_eq!(found(&storage, &sample, &query), expected, "{query:?}");
    }
}

/// A directory that counts what is read of each file.
#[derive(Clone)]
struct Counting {
    directory: Directory,
    read: Arc<Mutex<BTreeMap<String, u64>>>,
}

struct CountedFile {
    file: File,
    name: String,
    read: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Storage for Counting {
    type File = CountedFile;

    fn open(&self, name: &str) -> io::Result<CountedFile> {
        panic!("a reader makes {name}")
    }

    fn create_new(&self, name: &str) -> io::Result<CountedFile> {
        panic!("a reader makes {name}")
    }

    fn open_existing(&self, name: &str) -> io::Result<CountedFile> {
        Ok(CountedFile {
            file: self.directory.open_existing(name)?,
            name: name.to_owned(),
            read: Arc::clone(&self.read),
        })
    }

    fn rename(&self, from: &str, _to: &str) -> io::Result<()> {
        panic!("a reader renames {from}")
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        panic!("a reader removes {name}")
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        panic!("a reader removes {path}")
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.directory.list(path)
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        panic!("a reader makes {path}")
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        panic!("a reader syncs {path}")
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.directory.free_bytes()
    }
}

impl StoredFile for CountedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = StoredFile::read_at(&self.file, offset, buffer)?;
        *self
            .read
            .lock()
            .unwrap()
            .entry(self.name.clone())
            .or_default() += read as u64;
        Ok(read)
    }

    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        panic!("a reader writes")
    }

    fn truncate(&mut self, _length: u64) -> io::Result<()> {
        panic!("a reader cuts")
    }

    fn sync(&mut self) -> io::Result<()> {
        panic!("a reader syncs")
    }
}

/// How much is read of each segment.
fn read_of_segments(sample: &Sample, query: &Query) -> [u64; 3] {
    let storage = Counting {
        directory: sample.storage(),
        read: Arc::default(),
    };
    found(&storage, sample, query);
    let read = storage.read.lock().unwrap();
    [1, CUTS[0] + 1, CUTS[1] + 1].map(|first| {
        let read = read.get(&sample.segment(first));
        read.copied().unwrap_or_default()
    })
}

#[test]
fn only_the_frames_that_may_have_what_is_looked_for_are_read() {
    let sample = Sample::new();
    let whole = |first| sample.read(&sample.segment(first)).len() as u64;
    let all = read_of_segments(&sample, &Query::default());
    assert_eq!(all, [whole(1), whole(301), whole(501)]);

    // The last lines of the third segment are in its second frame.
    let manifest = Manifest::parse(&sample.read(&sample.manifest(501))).unwrap();
    assert_eq!(manifest.frames.len(), 2);
    let (begin, end) = manifest.extent(1).unwrap();
    let query = Query {
        since: Some(at(516)),
        until: Some(at(518)),
        ..Query::default()
    };
    assert_eq!(read_of_segments(&sample, &query), [0, 0, end - begin]);
    assert_eq!(found(&sample.storage(), &sample, &query), [516, 517]);

    // Nobody of that name is in any segment.
    let query = Query {
        from: user("nobody"),
        ..Query::default()
    };
    assert_eq!(read_of_segments(&sample, &query), [0, 0, 0]);

    // No time is before the first line.
    let query = Query {
        until: Some(at(0)),
        ..Query::default()
    };
    assert_eq!(read_of_segments(&sample, &query), [0, 0, 0]);
}

#[test]
fn a_follower_sees_that_the_active_file_is_another_one_though_it_is_just_as_long() {
    let note = |seq| {
        let mut line = Vec::new();
        line::write_unfit(&mut line, seq, at(seq), b"inbox/bob", "why", b"note");
        line.pop();
        line
    };
    let lines: Vec<Vec<u8>> = (10..30).map(note).collect();
    let sample = Sample::build(LogName::EncryptedLogs, Vec::new(), &[]);
    let (active, sealing) = (sample.log.active(), sample.log.sealing(10));
    let mut follower = Follower::new(sample.storage(), sample.log, 10);
    let mut poll = || {
        let mut seen = Vec::new();
        follower.poll(|line| seen.push(line.seq)).unwrap();
        seen
    };
    sample.write(&active, &joined(&lines[..10]));
    assert_eq!(poll(), Vec::from_iter(10..20));
    std::fs::rename(sample.path(&active), sample.path(&sealing)).unwrap();
    sample.write(&active, &joined(&lines[10..]));
    assert_eq!(poll(), Vec::from_iter(20..30));
    assert_eq!(poll(), Vec::<u64>::new());
}

#[test]
fn a_follower_gets_every_line_once_over_rotation() {
    // A whole one to take sealed files from, and one that grows.
    let lines: Vec<Vec<u8>> = (1..=60).map(plain_line).collect();
    let sealed = Sample::build(
        sealpost_archive::layout::LogName::EncryptedLogs,
        lines.clone(),
        &[40],
    );
    let growing = Sample::build(sealed.log, lines[..10].to_vec(), &[]);
    let log = growing.log;
    let active = log.active();
    let mut follower = Follower::new(growing.storage(), log, 1);
    let mut seen = Vec::new();
    let mut poll = |expected: u64| {
        follower
            .poll(|line| {
                assert_eq!(line.bytes, lines[line.seq as usize - 1]);
                seen.push(line.seq);
            })
            .unwrap();
        let all: Vec<u64> = (1..=expected).collect();
        assert_eq!(seen, all);
    };
    poll(10);
    poll(10);
    growing.write(&active, &joined(&lines[..30]));
    poll(30);
    // Half a line is none yet.
    let mut half = joined(&lines[..40]);
    let end = half.len() - 9;
    half.truncate(end);
    growing.write(&active, &half);
    poll(39);
    growing.write(&active, &joined(&lines[..40]));
    // Rotated before the follower has looked.
    let (from, to) = (growing.path(&active), growing.path(&log.sealing(1)));
    std::fs::rename(from, to).unwrap();
    poll(40);
    growing.write(&active, b"");
    poll(40);
    growing.write(&active, &joined(&lines[40..45]));
    poll(45);
    growing.take_from(&sealed, &[sealed.segment(1), sealed.manifest(1)]);
    growing.remove(&log.sealing(1));
    poll(45);
    growing.write(&active, &joined(&lines[40..60]));
    poll(60);
    // One who comes later begins where he wants.
    let mut late = Follower::new(growing.storage(), log, 38);
    let mut seen = Vec::new();
    late.poll(|line| seen.push(line.seq)).unwrap();
    assert_eq!(seen, (38..=60).collect::<Vec<u64>>());
}
