//! `pipe`: the whole way of a text, with the real broker and the real archiver: seal, route, archive, open.

use std::collections::HashSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use sealpost_core::{
    BurstCache, Content, DecryptionKey, IdentityKey, KeyBundle, MessageId, NameError, Realm,
    SealError, Sealer, Topic, UserId,
};
use thiserror::Error;

use crate::archive_reader::Archived;
use crate::archiver_process::{ARCHIVER, ArchiveDirectory, ArchiverError, ArchiverProcess};
use crate::broker_process::{BrokerError, BrokerProcess, find, start_sealpost};
use crate::connection::Limits;
use crate::decryption_key::{AwsDecryptionKey, NoKey, RsaBits};
use crate::ledger::{Ledger, MAX_MESSAGES, Tally};
use crate::opener::{Opener, SeenIds};
use crate::opening_subscriber::{Opened, OpeningSubscriber};
use crate::party::{Party, PartyError, wall_clock};
use crate::process_stats::ProcessStats;
use crate::publisher::{Final, Quota};
use crate::report::{Report, Spread, Unit, add_latencies};
use crate::sealed_text::{self, MIN_TEXT, SECRET};
use crate::sealing_publisher::{Sealed, SealingPublisher};
use crate::stamp::Clock;
use crate::throughput::{add_counts, per_second, seconds};

/// How long the bare private-key operation is measured.
const BARE: Duration = Duration::from_secs(1);

/// How often sealing and opening are measured alone.
const ALONE: usize = 300;

/// How many messages share an AES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// Each message has its own
    Each,
    /// A burst of messages has one
    Burst,
}

/// What is sealed, how, and how fast.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Pipe {
    /// Sizes of the recipient's RSA key, one measurement for each
    #[arg(long, value_delimiter = ',', default_values = ["2048", "3072"])]
    bits: Vec<RsaBits>,
    /// Whether each message has an AES key of its own or a burst shares one; one measurement for each
    #[arg(long, value_delimiter = ',', default_values = ["each", "burst"])]
    keys: Vec<Keys>,
    /// Characters of each text; 73 at least
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(MIN_TEXT as i64..=60_000))]
    size: u32,
    /// Seconds of sending at full speed
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Envelopes that the sender may have unacknowledged
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Threads that open [default: one for each core]
    #[arg(long)]
    openers: Option<usize>,
    /// Messages sent one by one to measure the latency of an idle pipe
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=MAX_MESSAGES))]
    latency_messages: u64,
    /// How many of those are sent in a second
    #[arg(long, default_value_t = 200.0)]
    latency_rate: f64,
    /// The broker's program [default: the one beside this program]
    #[arg(long)]
    broker_program: Option<PathBuf>,
    /// The archiver's program [default: the one beside this program]
    #[arg(long)]
    archiver_program: Option<PathBuf>,
}

/// Why a pipe could not be measured at all. What goes wrong later is a flaw in its report.
#[derive(Debug, Error)]
pub(crate) enum PipeError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The archiver.
    #[error(transparent)]
    Archiver(#[from] ArchiverError),
    /// The archiver got nothing.
    #[error("the archiver archived nothing of a first message ({problem}); it said: {log}")]
    NothingArchived {
        /// What was seen.
        problem: String,
        /// The last it said.
        log: String,
    },
    /// The first message did not come through.
    #[error("a first message did not come through: {0}")]
    NothingOpened(String),
    /// The sender or the recipient.
    #[error(transparent)]
    Party(#[from] PartyError),
    /// A name of this program is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The recipient's RSA key.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The sender cannot seal to the recipient.
    #[error("cannot seal to the recipient: {0}")]
    Seal(#[from] SealError),
    /// A thread ended in a way it never should.
    #[error("a thread of the generator panicked")]
    Panicked,
}

/// A pipe that is ready: everybody has an identity and knows the other's.
struct Stage {
    broker: BrokerProcess,
    archiver: ArchiverProcess,
    sender: Party,
    recipient: Party,
    key: AwsDecryptionKey,
    /// The recipient's bundle, as the sender fetched it.
    to: KeyBundle,
    /// The sender's identity, as the recipient pinned it.
    pinned: IdentityKey,
    openers: usize,
}

/// How one part of a measurement goes.
struct Phase {
    quota: Quota,
    interval: Option<Duration>,
    keys: Keys,
    window: u16,
    size: usize,
}

/// What came of it.
struct Passage {
    sealed: Sealed,
    opened: Opened,
    tally: Tally,
    archived: Archived,
    flaws: Vec<String>,
}

impl Pipe {
    /// Measures each combination of key size and key use, each with a fresh broker and archive.
    pub(crate) fn run(
        &self,
        deadline: Duration,
        patience: Duration,
        mut tell: impl FnMut(&Report),
    ) -> Result<Vec<Report>, PipeError> {
        let mut reports = Vec::new();
        for &bits in &self.bits {
            for &keys in &self.keys {
                let report = self.measure(bits, keys, Limits::from_now(deadline, patience))?;
                tell(&report);
                reports.push(report);
            }
        }
        Ok(reports)
    }

    fn measure(&self, bits: RsaBits, keys: Keys, limits: Limits) -> Result<Report, PipeError> {
        let stage = self.set_up(bits, limits)?;
        let phase = |quota, interval| Phase {
            quota,
            interval,
            keys,
            window: self.window,
            size: usize::try_from(self.size).unwrap_or(usize::MAX),
        };
        stage.warm_up(
            &phase(
                Quota {
                    messages: 1,
                    time: None,
                },
                None,
            ),
            limits,
        )?;
        let bare = stage.bare_unwraps()?;
        let (seal_alone, open_alone) = stage.alone(keys)?;

        let time = Some(Duration::from_secs_f64(self.seconds.clamp(0.0, 86_400.0)));
        let pids = [
            Some(std::process::id()),
            stage.broker.pid(),
            Some(stage.archiver.pid()),
        ];
        let stats = || pids.map(|pid| pid.and_then(ProcessStats::of));
        let before = stats();
        let full = stage.run(
            &phase(
                Quota {
                    messages: MAX_MESSAGES,
                    time,
                },
                None,
            ),
            limits,
        )?;
        let after = stats();
        let interval = Some(Duration::from_secs_f64(
            1.0 / self.latency_rate.clamp(0.1, 1e6),
        ));
        let idle = stage.run(
            &phase(
                Quota {
                    messages: self.latency_messages,
                    time: None,
                },
                interval,
            ),
            limits,
        )?;

        let shared = match keys {
            Keys::Each => "a key for each message",
            Keys::Burst => "a key for each burst",
        };
        let mut report = Report {
            work: format!(
                "pipe: RSA-{}, {shared}, texts of {} characters",
                bits.number(),
                self.size
            ),
            ..Report::default()
        };
        report.add(
            "acknowledged",
            per_second(full.sealed.acknowledged, full.sealed.last),
            Unit::PerSecond,
        );
        let opened = per_second(full.tally.received, full.opened.last);
        report.add("opened", opened, Unit::PerSecond);
        report.add(
            "archived",
            per_second(full.archived.ids.len() as u64, full.archived.last),
            Unit::PerSecond,
        );
        report.add("seal alone", seal_alone, Unit::Micros);
        report.add("open alone", open_alone, Unit::Micros);
        report.add("bare unwraps, all openers", bare, Unit::PerSecond);
        if keys == Keys::Each {
            report.add(
                "opened, of bare unwraps",
                100.0 * opened / bare,
                Unit::Percent,
            );
        }
        let end = full
            .opened
            .last
            .max(full.sealed.last)
            .max(full.archived.last);
        for ((name, before), after) in ["sender and recipient cpu", "broker cpu", "archiver cpu"]
            .into_iter()
            .zip(before)
            .zip(after)
        {
            if let (Some(before), Some(after)) = (before, after) {
                report.add(
                    name,
                    (after.cpu_seconds - before.cpu_seconds) / seconds(end),
                    Unit::Cores,
                );
            }
        }
        add_latencies(
            &mut report,
            ["idle p50", "idle p99", "idle p99.9", "idle max"],
            idle.opened.latencies,
        );
        let mut tally = full.tally;
        tally.add(&idle.tally);
        add_counts(&mut report, tally.expected, &tally);
        report.flaws.extend(
            full.flaws
                .into_iter()
                .map(|flaw| format!("at full speed: {flaw}")),
        );
        report
            .flaws
            .extend(idle.flaws.into_iter().map(|flaw| format!("idle: {flaw}")));
        Ok(report)
    }

    /// Starts broker and archiver, and lets sender and recipient publish their keys and fetch the other's.
    fn set_up(&self, bits: RsaBits, limits: Limits) -> Result<Stage, PipeError> {
        let archiver_program = find("sealpost-archiver", self.archiver_program.as_deref())?;
        let broker_program = find("sealpost-broker", self.broker_program.as_deref())?;
        let archive = ArchiveDirectory::new(&archiver_program)?;
        let archiver_key = format!("{ARCHIVER}={}", archive.key);
        let broker = start_sealpost(&broker_program, &["--archiver", &archiver_key])?;
        let archiver = archive.run(broker.addr())?;

        let realm = Realm::default();
        let sender = Party::new(UserId::parse("bench-sender")?, realm.clone(), broker.addr());
        let recipient = Party::new(UserId::parse("bench-recipient")?, realm, broker.addr());
        let key = AwsDecryptionKey::generate(bits)?;
        recipient.publish_bundle(vec![key.encryption_key().clone()], limits)?;
        let sender_key = AwsDecryptionKey::generate(bits)?;
        sender.publish_bundle(vec![sender_key.encryption_key().clone()], limits)?;
        let to = sender.fetch_bundle(&recipient.user, limits)?;
        let pinned = *recipient.fetch_bundle(&sender.user, limits)?.identity();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let openers = self.openers.unwrap_or(cores).clamp(1, 256);
        Ok(Stage {
            broker,
            archiver,
            sender,
            recipient,
            key,
            to,
            pinned,
            openers,
        })
    }
}

impl Stage {
    /// Sends messages until one is in the archive, because only then is everybody known to be there.
    fn warm_up(&self, phase: &Phase, limits: Limits) -> Result<(), PipeError> {
        let result = self.run(phase, limits)?;
        if let Some(flaw) = result.archived.error {
            return Err(PipeError::NothingArchived {
                problem: flaw,
                log: self.archiver.last_words(),
            });
        }
        match result.flaws.into_iter().next() {
            Some(flaw) => Err(PipeError::NothingOpened(flaw)),
            None => Ok(()),
        }
    }

    /// How many private-key operations a second all openers do when they do nothing else.
    fn bare_unwraps(&self) -> Result<f64, PipeError> {
        let wrapped = self
            .key
            .encryption_key()
            .wrap(&mut rand::rng(), &[0; 32])
            .map_err(|_| PipeError::Seal(SealError::Failed))?;
        let start = Instant::now();
        let count = || {
            let mut count = 0_u64;
            while start.elapsed() < BARE {
                count += u64::from(self.key.unwrap_key(&wrapped).is_ok());
            }
            count
        };
        let counts: Result<Vec<u64>, _> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.openers).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let count = counts.map_err(|_| PipeError::Panicked)?.iter().sum();
        Ok(per_second(
            count,
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        ))
    }

    fn sealer(&self, keys: Keys) -> Result<Sealer, SealError> {
        match keys {
            Keys::Each => Sealer::new(&self.sender.identity, &self.sender.user, &self.to),
            Keys::Burst => Sealer::burst(&self.sender.identity, &self.sender.user, &self.to),
        }
    }

    /// The recipient, of this identity.
    fn opener<'a>(&'a self, identity: &'a IdentityKey) -> Opener<'a> {
        Opener {
            realm: &self.recipient.realm,
            user: &self.recipient.user,
            identity,
            key: &self.key,
            pinned: &self.pinned,
        }
    }

    /// Microseconds that it takes to seal one short text, and to open it, with nothing else to do: medians.
    fn alone(&self, keys: Keys) -> Result<(f64, f64), PipeError> {
        let mut sealer = self.sealer(keys)?;
        let identity = self.recipient.identity.key();
        let opener = self.opener(&identity);
        let (seen, mut cache) = (SeenIds::default(), BurstCache::new());
        let content = Content::Text {
            text: SECRET.to_owned(),
        };
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ALONE {
            let mut rng = rand::rng();
            let now = wall_clock();
            let id = MessageId::new(now, &mut rng);
            let begun = Instant::now();
            let envelope = sealer.seal(&mut rng, now, id, None, &content)?;
            let sealed = Instant::now();
            opener
                .open(envelope.as_bytes(), &seen, &mut cache)
                .map_err(PipeError::NothingOpened)?;
            let [seal, open] = &mut times;
            seal.push((sealed - begun).as_secs_f64() * 1e6);
            open.push(sealed.elapsed().as_secs_f64() * 1e6);
        }
        let [seal, open] = times.map(|times| Spread::of(times).map_or(0.0, |spread| spread.median));
        Ok((seal, open))
    }

    /// Lets sender, recipient and a reader of the archive work together.
    fn run(&self, phase: &Phase, limits: Limits) -> Result<Passage, PipeError> {
        let run = rand::random();
        let words = sealed_text::words(phase.size);
        let sealer = self.sealer(phase.keys)?;
        let inbox = Topic::Inbox(self.recipient.user.clone());
        let identity = self.recipient.identity.key();
        let subscriber = OpeningSubscriber {
            connection: self.recipient.listen(&inbox, limits)?,
            opener: self.opener(&identity),
            threads: self.openers,
            ledger: Ledger::new(run, 0, 1),
            words: &words,
        };
        let publisher = SealingPublisher {
            connection: self.sender.connect(limits)?,
            sealer,
            topic: inbox.to_string(),
            run,
            words: words.clone(),
            window: phase.window,
            interval: phase.interval,
        };
        let log = self.archiver.log_file();
        let from = self.archiver.archived_bytes();
        let done = Final::unknown();
        let clock = Clock::start();
        let (sealed, opened, archived) = thread::scope(|scope| {
            let opening = scope.spawn(|| subscriber.run(clock, &done));
            let archiving =
                scope.spawn(|| Archived::follow(&log, from, SECRET, &done, clock, limits));
            let sealed = publisher.run(phase.quota, clock, &done);
            match (opening.join(), archiving.join()) {
                (Ok(opened), Ok(archived)) => Ok((sealed, opened, archived)),
                _ => Err(PipeError::Panicked),
            }
        })?;
        let tally = opened.ledger.close(&[sealed.acknowledged]);
        let flaws = flaws(&sealed, &opened, &tally, &archived);
        Ok(Passage {
            sealed,
            opened,
            tally,
            archived,
            flaws,
        })
    }
}

fn flaws(sealed: &Sealed, opened: &Opened, tally: &Tally, archived: &Archived) -> Vec<String> {
    let mut flaws: Vec<String> = tally
        .flaws()
        .into_iter()
        .map(|flaw| format!("recipient: {flaw}"))
        .collect();
    flaws.extend(
        sealed
            .error
            .as_ref()
            .map(|error| format!("sender: {error}")),
    );
    flaws.extend(
        opened
            .error
            .as_ref()
            .map(|error| format!("recipient: {error}")),
    );
    flaws.extend(
        opened
            .refused
            .iter()
            .map(|(reason, count)| format!("recipient: {count} NOT OPENED: {reason}")),
    );
    flaws.extend(
        archived
            .error
            .as_ref()
            .map(|error| format!("archive: {error}")),
    );
    let acknowledged = usize::try_from(sealed.acknowledged).unwrap_or(usize::MAX);
    let missing = sealed
        .ids
        .iter()
        .take(acknowledged)
        .filter(|id| !archived.ids.contains(*id))
        .count();
    let sent: HashSet<&[u8; 16]> = sealed.ids.iter().collect();
    let foreign = archived.ids.iter().filter(|id| !sent.contains(id)).count();
    let counts = [
        (missing as u64, "LOST"),
        (archived.duplicates, "DUPLICATED"),
        (foreign as u64 + archived.unreadable, "FOREIGN"),
        (archived.in_clear, "IN CLEAR"),
    ];
    flaws.extend(
        counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("archive: {count} of {acknowledged} {what}")),
    );
    flaws
}
