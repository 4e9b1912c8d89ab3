//! Whole lives of a log on a disk that fails at any operation and forgets what was not synced: archiving, signing, rotating, sealing,
//! erasing and retiring, cut off anywhere, also while recovering. What was acknowledged is in the log, once, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Erased, Line};
use sealpost_archive::log_file::{AppendError, RotateError};
use sealpost_archive::log_reader::{
    LogReader, Selection, manifests, read_manifest, segment_beside,
};
use sealpost_archive::tree::Tree;
use sealpost_archive::verify::{Fault, Verification};
use sealpost_archiver::evidence::{Evidence, signed_head};
use sealpost_archiver::keeper::{Job, unfinished};
use sealpost_archiver::sealer::Sealer;
use sealpost_archiver::writer::{FullFile, OpenError, Record, Removal, Writer};
use sealpost_core::Timestamp;

use crate::messages::{at, message};
use crate::simulated_disk::{SimulatedDisk, SimulatedFile};

const LOG: LogName = LogName::EncryptedLogs;

fn signer() -> CheckpointSigner {
    let text = CheckpointSigner::text_from_seed("sealpost/local/archiver/encrypted_logs", &[7; 32]);
    CheckpointSigner::parse(&text).unwrap()
}

/// What a line was when it was last read.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Which message, if it is one.
    message: Option<u64>,
    archived_at: Timestamp,
    leaf: Hash,
}

/// The disk, and what must be on it.
struct World {
    disk: SimulatedDisk,
    random: StdRng,
    /// What the clock says.
    now: Timestamp,
    seen: BTreeMap<u64, Seen>,
    /// How many messages there are to archive.
    messages: u64,
    /// How many messages were acknowledged.
    acknowledged: u64,
    /// The last line that was synced.
    synced: u64,
    /// Lines of whose erasure a record may be there.
    erasing: BTreeSet<u64>,
    /// Lines whose erasure is done.
    erased: BTreeSet<u64>,
    /// How many of the oldest lines may be gone.
    retiring: u64,
}

/// A log that is open.
struct Life {
    writer: Writer<SimulatedFile>,
    evidence: Evidence<SimulatedDisk>,
    sealer: Sealer<SimulatedDisk>,
    jobs: VecDeque<Job>,
}

/// Why a life ended.
struct Over;

impl World {
    fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        World {
            disk: SimulatedDisk::default(),
            // Some logs begin so long that their first tile becomes full.
            messages: if random.random_bool(0.2) { 300 } else { 60 },
            random,
            now: at(),
            seen: BTreeMap::new(),
            acknowledged: 0,
            synced: 0,
            erasing: BTreeSet::new(),
            erased: BTreeSet::new(),
            retiring: 0,
        }
    }

    fn open(&mut self) -> Result<Life, Over> {
        let signed = signed_head(&self.disk, LOG, &signer()).expect("the checkpoint counts");
        let (writer, recovery) = match Writer::open(&self.disk, LOG, 1000, signed) {
            Ok(opened) => opened,
            Err(OpenError::Io(_) | OpenError::File { .. }) if self.disk.fails() => {
                return Err(Over);
            }
            Err(error) => panic!("a crash never damages the log: {error}"),
        };
        assert_eq!(recovery.tiles_lost, None);
        assert!(recovery.last_seq >= self.synced, "a synced line is gone");
        self.synced = recovery.last_seq;
        self.check();
        self.verify();
        let jobs = unfinished(&recovery).into();
        let signed = signed.map_or(0, |head| head.size);
        let evidence = Evidence::new(self.disk.clone(), LOG, recovery.tree, signer(), signed);
        let sealer = Sealer::new(self.disk.clone(), LOG, evidence.tiles(), recovery.sealed);
        if let Err(error) = sealer.tidy() {
            assert!(self.disk.fails(), "{error}");
        }
        Ok(Life {
            writer,
            evidence,
            sealer,
            jobs,
        })
    }

    /// Reads all that is there, as any reader would, and holds it against what must be there.
    fn check(&mut self) {
        let reader = LogReader::open(&self.disk, LOG).expect("the log can be read");
        let first = reader.first().unwrap_or(1);
        assert!(
            first <= self.retiring + 1,
            "lines before {first} are gone that were not retired"
        );
        let mut lines = reader.lines(Selection::default());
        let mut next_message = (1..first)
            .filter_map(|seq| self.seen[&seq].message)
            .next_back()
            .map_or(0, |message| message + 1);
        let mut last = first - 1;
        while let Some(found) = lines.next_line().expect("each line can be read") {
            last += 1;
            assert_eq!(found.seq, last);
            let line = Line::parse(found.bytes).expect("each line is whole");
            let leaf = line.leaf(found.bytes);
            let message = match line.body {
                Body::Message(kept) => {
                    assert!(!self.erased.contains(&last), "an erased line is back");
                    let expected = message(next_message);
                    assert_eq!(kept.topic, &expected.topic[..], "line {last}");
                    assert_eq!(kept.payload, &expected.payload[..], "line {last}");
                    Some(next_message)
                }
                Body::Tombstone { .. } => {
                    assert!(self.erasing.contains(&last), "nobody erased line {last}");
                    self.seen[&last].message
                }
                Body::Erasure { .. } | Body::Retirement { .. } => None,
            };
            if let Some(seen) = self.seen.get(&last).filter(|_| last <= self.synced) {
                assert_eq!(seen.leaf, leaf, "line {last} is not what it was");
                assert_eq!(seen.archived_at, line.archived_at);
                assert_eq!(seen.message, message);
            }
            next_message += u64::from(message.is_some());
            let archived_at = line.archived_at;
            self.seen.insert(
                last,
                Seen {
                    message,
                    archived_at,
                    leaf,
                },
            );
        }
        assert!(last >= self.synced, "line {} is gone", self.synced);
        self.seen.split_off(&(last + 1));
        assert!(
            next_message >= self.acknowledged,
            "message {next_message} was acknowledged and is gone"
        );
        let signed = signed_head(&self.disk, LOG, &signer()).expect("the checkpoint counts");
        if let Some(signed) = signed {
            let mut tree = Tree::new();
            (1..=signed.size).for_each(|seq| tree.push(self.seen[&seq].leaf));
            assert_eq!(tree.head(), signed);
        }
    }

    /// An auditor finds nothing wrong, but that the messages here only look like envelopes.
    fn verify(&self) {
        let verifier = signer().verifier().unwrap();
        let opened = Verification::open(self.disk.clone(), LOG, &verifier, &[]);
        let report = opened.expect("it can be verified").run(|_| {});
        let wrong: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| !matches!(finding.fault, Fault::Message(_)))
            .collect();
        assert!(wrong.is_empty() || report.signed.is_none(), "{wrong:?}");
    }

    /// Does something; an error when the process would end.
    fn act(&mut self, life: &mut Life) -> Result<(), Over> {
        match self.random.random_range(0..20) {
            0..8 => self.archive(life),
            8..11 => {
                let _ = life.evidence.publish();
                Ok(())
            }
            11..13 => self.rotate(life),
            13..17 => {
                self.work(life);
                Ok(())
            }
            17..19 => self.erase(life),
            _ => self.retire(life),
        }
    }

    fn archive(&mut self, life: &mut Life) -> Result<(), Over> {
        let again = self.random.random_range(0..4);
        let from = self.acknowledged.saturating_sub(again);
        let until = match self.messages {
            300 if self.acknowledged == 0 => 240,
            messages => messages.min(self.acknowledged + self.random.random_range(1..7)),
        };
        // What comes again is what was not acknowledged, or just so. Of what was retired the log knows nothing any more; of what was
        // erased it does.
        let retired: BTreeSet<u64> = self
            .seen
            .range(..=self.retiring)
            .filter_map(|(_, seen)| seen.message)
            .collect();
        let erased = self.erased.iter().filter_map(|seq| self.seen[seq].message);
        let again: Vec<u64> = erased.filter(|_| self.random.random_bool(0.2)).collect();
        let batch: Vec<_> = (again.into_iter().chain(from..until))
            .filter(|number| !retired.contains(number))
            .map(message)
            .collect();
        let now = self.time();
        match life.writer.archive(&batch, now) {
            Ok(archived) => {
                life.evidence.add(archived.leaves);
                self.acknowledged = self.acknowledged.max(until);
                self.now_synced(life);
                Ok(())
            }
            Err(AppendError::Full(_)) => Ok(()),
            Err(_) => Err(Over),
        }
    }

    /// What the clock says. Now and then a day or two have gone by, or it was set back.
    fn time(&mut self) -> Timestamp {
        let hour = 3_600_000;
        let by = match self.random.random_range(0..20) {
            0 => self.random.random_range(-hour..0),
            1 => self.random.random_range(0..48 * hour),
            _ => self.random.random_range(0..60_000),
        };
        self.now = Timestamp::from_millis(self.now.millis().saturating_add_signed(by)).unwrap();
        self.now
    }

    fn now_synced(&mut self, life: &Life) {
        self.synced = life.writer.next_seq() - 1;
        // A reader beside the writer, now and then.
        if self.random.random_bool(0.1) {
            self.check();
        }
    }

    fn rotate(&mut self, life: &mut Life) -> Result<(), Over> {
        match life.writer.rotate(&self.disk) {
            Ok(None) | Err(RotateError::Refused(_)) => Ok(()),
            Ok(Some(first)) => {
                let head = life.evidence.head();
                life.jobs.push_back(Job::Seal(FullFile { first, head }));
                Ok(())
            }
            Err(RotateError::Failed(_)) => Err(Over),
        }
    }

    fn work(&mut self, life: &mut Life) {
        let Some(job) = life.jobs.front().copied() else {
            return;
        };
        match life.sealer.perform(&job) {
            Err(error) => assert!(self.disk.fails(), "{error}"),
            Ok(()) => {
                life.jobs.pop_front();
                if let Job::Remove(Removal::Erasure { erases, .. }) = job {
                    self.erased.insert(erases);
                }
            }
        }
    }

    fn erase(&mut self, life: &mut Life) -> Result<(), Over> {
        let candidates: Vec<Erased> = self
            .seen
            .range(self.retiring + 1..=self.synced)
            .filter(|(seq, _)| !self.erasing.contains(*seq))
            .filter_map(|(&seq, seen)| {
                Some(Erased {
                    seq,
                    archived_at: seen.archived_at,
                    digest: message(seen.message?).digest,
                    leaf: seen.leaf,
                })
            })
            .collect();
        if candidates.is_empty() || self.erasing.len() > 12 {
            return Ok(());
        }
        let erased = candidates[self.random.random_range(0..candidates.len())];
        if erased.seq >= life.writer.active_first() {
            self.rotate(life)?;
            if erased.seq >= life.writer.active_first() {
                return Ok(());
            }
        }
        self.erasing.insert(erased.seq);
        let reason = "asked for";
        self.record(life, Record::Erasure { erased, reason })
    }

    fn retire(&mut self, life: &mut Life) -> Result<(), Over> {
        let manifests = manifests(&self.disk, LOG).unwrap();
        if manifests.len() < 2 {
            return Ok(());
        }
        let (_, path) = &manifests[self.random.random_range(0..manifests.len() - 1)];
        let manifest = read_manifest(&self.disk, path).unwrap().unwrap();
        // Later it cannot be known any more which messages these were.
        self.check();
        self.retiring = self.retiring.max(manifest.last);
        let record = Record::Retirement {
            retires: manifest.last,
            root: manifest.root,
            reason: "old",
        };
        self.record(life, record)
    }

    fn record(&mut self, life: &mut Life, record: Record<'_>) -> Result<(), Over> {
        let now = self.time();
        match life.writer.record(record, now) {
            Ok((leaf, removal)) => {
                life.evidence.add([leaf]);
                life.jobs.push_back(Job::Remove(removal));
                self.now_synced(life);
                Ok(())
            }
            Err(AppendError::Full(_)) => Ok(()),
            Err(_) => Err(Over),
        }
    }

    /// A life that ends at any operation.
    fn live_and_die(&mut self) {
        // Often it ends while it recovers.
        let most = if self.random.random_bool(0.3) { 8 } else { 250 };
        let operations = self.random.random_range(0..most);
        let failure = if self.random.random_bool(0.2) {
            io::ErrorKind::StorageFull
        } else {
            io::ErrorKind::Other
        };
        self.disk.fail_after(operations, failure);
        if let Ok(mut life) = self.open() {
            for _ in 0..self.random.random_range(0..40) {
                if self.act(&mut life).is_err() {
                    break;
                }
            }
        }
        if self.random.random_bool(0.4) {
            self.disk.kill();
        } else {
            self.disk.cut_power(&mut self.random);
        }
    }

    /// Does all there is to do, as far as the disk lets it.
    fn settle(&mut self, life: &mut Life) -> Result<(), Over> {
        while !life.jobs.is_empty() {
            let before = life.jobs.len();
            self.work(life);
            if life.jobs.len() == before {
                return Err(Over);
            }
        }
        Ok(())
    }

    /// Some of everything, always the same.
    fn act_as_written(&mut self) -> Result<(), Over> {
        let mut life = self.open()?;
        for _ in 0..2 {
            self.archive(&mut life)?;
            let _ = life.evidence.publish();
            self.rotate(&mut life)?;
            self.settle(&mut life)?;
            self.check();
            self.erase(&mut life)?;
            self.settle(&mut life)?;
        }
        self.retire(&mut life)?;
        self.settle(&mut life)
    }

    /// A life in which nothing fails and all is done.
    fn live_to_the_end(&mut self) {
        let mut life = self.open().unwrap_or_else(|Over| panic!("nothing fails"));
        while self.acknowledged < self.messages {
            self.archive(&mut life)
                .unwrap_or_else(|Over| panic!("nothing fails"));
        }
        self.settle(&mut life)
            .unwrap_or_else(|Over| panic!("nothing fails"));
        self.rotate(&mut life)
            .unwrap_or_else(|Over| panic!("nothing fails"));
        self.settle(&mut life)
            .unwrap_or_else(|Over| panic!("nothing fails"));
        life.evidence.publish().unwrap();
        self.check();
        self.verify();
        assert!(
            self.seen
                .values()
                .filter(|seen| seen.message.is_some())
                .count() as u64
                == self.messages
        );
        self.check_files();
        self.disk.cut_power(&mut self.random);
        drop(self.open().unwrap_or_else(|Over| panic!("nothing fails")));
        self.check_files();
    }

    /// There is nothing left that does not belong there.
    fn check_files(&self) {
        let mut expected = BTreeSet::from([LOG.active(), "checkpoint".to_owned()]);
        for (_, path) in manifests(&self.disk, LOG).unwrap() {
            let manifest = read_manifest(&self.disk, &path).unwrap().unwrap();
            expected.insert(segment_beside(&path, &manifest));
            expected.insert(path);
        }
        for name in self.disk.names() {
            let known = expected.contains(&name)
                || name.starts_with("tile/")
                || name.contains(".torn-")
                || name == "checkpoint.new";
            assert!(known, "{name} is left");
        }
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..world.random.random_range(1..12) {
        world.live_and_die();
    }
    world.live_to_the_end();
}

#[test]
fn a_power_cut_while_a_kill_is_recovered_from_loses_nothing() {
    let first: u64 = rand::random::<u32>().into();
    for killed in 0..90 {
        for cut in 0..10 {
            let seed = first + killed * 10 + cut;
            let died = std::panic::catch_unwind(|| {
                let mut world = World::new(seed);
                world.messages = 60;
                world.disk.fail_after(killed, io::ErrorKind::Other);
                let _ = world.act_as_written();
                world.disk.kill();
                world.disk.fail_after(cut, io::ErrorKind::Other);
                if let Ok(mut life) = world.open() {
                    let _ = world.settle(&mut life);
                }
                world.disk.cut_power(&mut world.random);
                world.live_to_the_end();
            });
            if let Err(panic) = died {
                eprintln!("seed {seed}: killed after {killed} operations, cut off after {cut}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_every_crash_in_the_life_of_a_log() {
    let number = |variable| {
        let value = std::env::var(variable).ok()?;
        Some(value.parse::<u64>().expect("a number"))
    };
    let (first, count) = match number("SEALPOST_SEED") {
        Some(seed) => (seed, 1),
        None => (
            rand::random::<u32>().into(),
            number("SEALPOST_SCHEDULES").unwrap_or(1000),
        ),
    };
    for seed in first..first + count {
        if let Err(panic) = std::panic::catch_unwind(|| live(seed)) {
            eprintln!("SEALPOST_SEED={seed} does it again");
            std::panic::resume_unwind(panic);
        }
    }
}
