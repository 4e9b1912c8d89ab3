//! `archive`: the archiver beside a plain subscriber that writes to a file, each in turn on a fresh broker, with the same
//! envelopes. The one syncs before it acknowledges, the other never does.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use sealpost_core::{
    Content, DecryptionKey as _, Identity, KeyBundle, MessageId, NameError, Realm, SealError,
    Sealer, Topic, UserId,
};
use tempfile::TempDir;
use thiserror::Error;

use crate::archiver_process::{ArchiveDirectory, ArchiverError, ArchiverProcess};
use crate::broker_process::{BrokerError, BrokerProcess, Peer, find};
use crate::child_process::{ChildProcess, tail};
use crate::connection::{Connection, ConnectionError, Introduction, Limits};
use crate::decryption_key::{AwsDecryptionKey, NoKey, RsaBits};
use crate::loopback::LoopbackAddr;
use crate::packet::{Packet, Qos, put_publish};
use crate::party::{self, wall_clock};
use crate::process_stats::ProcessStats;
use crate::report::{Report, Spread, Unit};

/// How often a file is looked at for more lines.
const LOOK: Duration = Duration::from_millis(2);

/// How long the plain appending is measured.
const CEILING: Duration = Duration::from_secs(2);

/// How many lines the plain appending syncs at once: what an archiver finds waiting after a sync, at these rates.
const CEILING_BATCH: usize = 1_000;

/// Which envelopes, how many, and how often.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Archive {
    /// Envelopes in a run; they are sealed before, and are in memory
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    messages: u32,
    /// Characters of each text: 400 make an envelope of about 1.2 KB
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    size: u32,
    /// How often each of the two has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Envelopes that the sender may have unacknowledged
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// The broker between sender and file, as in `compare`
    #[arg(long, value_name = "PEER", default_value = "mosquitto")]
    through: Peer,
    /// mosquitto_sub's program [default: the installed one]
    #[arg(long)]
    mosquitto_sub: Option<PathBuf>,
    /// The archiver's program [default: the one beside this program]
    #[arg(long)]
    archiver_program: Option<PathBuf>,
}

/// Why nothing could be measured. What goes wrong later is a flaw in the report.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    /// The broker, or another program that is missing.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The archiver.
    #[error(transparent)]
    Archiver(#[from] ArchiverError),
    /// The sender.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A name of this program is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The recipient's RSA key.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The recipient's bundle.
    #[error("cannot make a key bundle: {0}")]
    Bundle(String),
    /// The sender cannot seal to the recipient.
    #[error("cannot seal to the recipient: {0}")]
    Seal(#[from] SealError),
    /// A file.
    #[error("cannot use a file: {0}")]
    File(#[from] io::Error),
    /// Nothing came.
    #[error("{who} kept nothing; it said: {log}")]
    Nothing {
        /// Who.
        who: &'static str,
        /// The last it said.
        log: String,
    },
}

/// An envelope, ready to be published, and its id.
type Ready = (String, Vec<u8>);

/// Whoever keeps what is sent.
enum Keeper {
    Archiver(ArchiverProcess),
    Subscriber {
        child: ChildProcess,
        directory: TempDir,
    },
}

/// What one turn came to.
struct Turn {
    per_second: f64,
    cpu_micros: f64,
    peak_mebibytes: f64,
    flaws: Vec<String>,
}

impl Archive {
    pub(crate) fn run(
        &self,
        deadline: Duration,
        patience: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<Report, ArchiveError> {
        let (topic, envelopes) = self.seal()?;
        let bytes: usize = envelopes.iter().map(|(_, envelope)| envelope.len()).sum();
        let mean = bytes / envelopes.len();
        tell(&format!(
            "sealed {} envelopes of {mean} bytes",
            envelopes.len()
        ));
        let ceiling = ceiling(&envelopes)?;
        let mut turns: [Vec<Turn>; 2] = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // Who is first in one round is second in the next.
            for place in [round % 2, 1 - round % 2] {
                let limits = Limits::from_now(deadline, patience);
                let archiver = place == 0;
                let turn = self.turn(archiver, &topic, &envelopes, limits)?;
                let who = if archiver {
                    "archiver"
                } else {
                    "mosquitto_sub"
                };
                tell(&format!("{who}: {:.0}/s", turn.per_second));
                if let Some(turns) = turns.get_mut(place as usize) {
                    turns.push(turn);
                }
            }
        }
        let [ours, theirs] = turns;
        let mut report = Report {
            work: format!(
                "archive: {} envelopes of {mean} bytes through {}, window {}, {} rounds, medians",
                envelopes.len(),
                self.through.name(),
                self.window,
                self.rounds
            ),
            ..Report::default()
        };
        let median = |values: Vec<f64>| Spread::of(values).map_or(0.0, |spread| spread.median);
        let of =
            |turns: &[Turn], value: fn(&Turn) -> f64| median(turns.iter().map(value).collect());
        report.add(
            "archiver",
            of(&ours, |turn| turn.per_second),
            Unit::PerSecond,
        );
        report.add(
            "mosquitto_sub",
            of(&theirs, |turn| turn.per_second),
            Unit::PerSecond,
        );
        let ratios = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| 100.0 * ours.per_second / theirs.per_second);
        report.add(
            "archiver, of mosquitto_sub",
            median(ratios.collect()),
            Unit::Percent,
        );
        report.add(
            "archiver cpu for a message",
            of(&ours, |turn| turn.cpu_micros),
            Unit::Micros,
        );
        report.add(
            "mosquitto_sub cpu for a message",
            of(&theirs, |turn| turn.cpu_micros),
            Unit::Micros,
        );
        report.add(
            "archiver peak memory",
            of(&ours, |turn| turn.peak_mebibytes),
            Unit::Mebibytes,
        );
        report.add("append and fdatasync alone", ceiling, Unit::PerSecond);
        for (who, turns) in [("archiver", ours), ("mosquitto_sub", theirs)] {
            let flaws = turns.into_iter().flat_map(|turn| turn.flaws);
            report
                .flaws
                .extend(flaws.map(|flaw| format!("{who}: {flaw}")));
        }
        Ok(report)
    }

    /// The inbox, and the envelopes for it with their ids.
    fn seal(&self) -> Result<(String, Vec<Ready>), ArchiveError> {
        let realm = Realm::default();
        let (from, to) = (
            UserId::parse("bench-sender")?,
            UserId::parse("bench-recipient")?,
        );
        let mut rng = rand::rng();
        let (sender, recipient) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
        let key = AwsDecryptionKey::generate(RsaBits::Rsa3072)?;
        let fields = party::bundle_fields(&realm, &to, vec![key.encryption_key().clone()]);
        let bundle = KeyBundle::sign(fields, &recipient)
            .map_err(|error| ArchiveError::Bundle(error.to_string()))?;
        let mut sealer = Sealer::burst(&sender, &from, &bundle)?;
        let text = "x".repeat(self.size as usize);
        let mut envelopes = Vec::with_capacity(self.messages as usize);
        let mut previous = None;
        for _ in 0..self.messages {
            let now = wall_clock();
            let id = MessageId::new(now, &mut rng);
            let content = Content::Text { text: text.clone() };
            let envelope = sealer.seal(&mut rng, now, id, previous, &content)?;
            previous = Some(id);
            envelopes.push((id.to_string(), envelope.as_bytes().to_vec()));
        }
        Ok((Topic::Inbox(to).to_string(), envelopes))
    }

    fn turn(
        &self,
        archiver: bool,
        topic: &str,
        envelopes: &[Ready],
        limits: Limits,
    ) -> Result<Turn, ArchiveError> {
        let broker = self.through.start()?;
        let mut keeper = if archiver {
            let program = find("sealpost-archiver", self.archiver_program.as_deref())?;
            Keeper::Archiver(ArchiveDirectory::new(&program)?.run(broker.addr())?)
        } else {
            let program = find("mosquitto_sub", self.mosquitto_sub.as_deref())?;
            Keeper::subscribe(&program, &broker)?
        };
        keeper.wait_until_it_keeps(broker.addr(), topic, limits)?;
        let from = keeper.kept_bytes();
        let before = ProcessStats::of(keeper.pid()).unwrap_or_default();
        let begun = Instant::now();
        let log = keeper.log_file();
        let (sent, kept) = thread::scope(|scope| {
            let sending = scope.spawn(|| self.send(broker.addr(), topic, envelopes, limits));
            let kept = follow(&log, from, envelopes.len(), limits);
            (sending.join(), kept)
        });
        let after = ProcessStats::of(keeper.pid()).unwrap_or_default();
        let mut flaws = Vec::new();
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => flaws.push(format!("sender: {error}")),
            Err(_) => flaws.push("sender: PANICKED".to_owned()),
        }
        let Kept { bytes, last } = kept?;
        let took = last.saturating_duration_since(begun);
        flaws.extend(missing(&bytes, envelopes));
        let count = envelopes.len() as f64;
        Ok(Turn {
            per_second: count / took.as_secs_f64(),
            cpu_micros: (after.cpu_seconds - before.cpu_seconds) * 1e6 / count,
            // Exact up to 2^53.
            peak_mebibytes: after.peak_memory as f64 / f64::from(1 << 20),
            flaws,
        })
    }

    /// Publishes all, as many at once as the window has, and waits for every PUBACK.
    fn send(
        &self,
        broker: LoopbackAddr,
        topic: &str,
        envelopes: &[Ready],
        limits: Limits,
    ) -> Result<(), ConnectionError> {
        let mut connection = connect(broker, limits)?;
        let window = usize::from(self.window);
        let mut asked = Instant::now();
        let (mut sent, mut acknowledged) = (0, 0);
        let mut out = Vec::new();
        while acknowledged < envelopes.len() {
            // A few large writes: half of the window is free before it is filled again.
            if sent - acknowledged <= window / 2 && sent < envelopes.len() {
                let until = (acknowledged + window).min(envelopes.len());
                out.clear();
                for (_, envelope) in envelopes.get(sent..until).unwrap_or_default() {
                    let id = u16::try_from(sent % window).unwrap_or(0) + 1;
                    put_publish(&mut out, topic, Qos::AtLeastOnce, false, id, envelope);
                    sent += 1;
                }
                connection.send(&out)?;
            }
            if connection.fill()? == 0 {
                if let Some(exceeded) = connection.limits().exceeded(asked) {
                    return Err(exceeded);
                }
                continue;
            }
            asked = Instant::now();
            while let Some(packet) = connection.next_packet()? {
                if !matches!(packet, Packet::PubAck { .. }) {
                    return Err(ConnectionError::Unexpected(format!("{packet:?}"), "PUBACK"));
                }
                acknowledged += 1;
            }
        }
        connection.close();
        Ok(())
    }
}

impl Keeper {
    /// A plain subscriber with a durable session, which writes a line for each message.
    fn subscribe(program: &Path, broker: &BrokerProcess) -> Result<Keeper, ArchiveError> {
        let directory = TempDir::new()?;
        let socket = broker.addr().socket();
        let mut command = Command::new(program);
        command
            .args([
                "-h",
                &socket.ip().to_string(),
                "-p",
                &socket.port().to_string(),
            ])
            .args(["-q", "1", "-c", "-i", "bench-subscriber", "-t", "inbox/+"])
            .args(["-F", "{\"at\":%U,\"topic\":\"%t\",\"payload\":%p}"])
            .stdout(File::create(directory.path().join("lines"))?);
        let child = ChildProcess::start(command, &directory.path().join("log"))?;
        Ok(Keeper::Subscriber { child, directory })
    }

    fn pid(&self) -> u32 {
        match self {
            Keeper::Archiver(archiver) => archiver.pid(),
            Keeper::Subscriber { child, .. } => child.id(),
        }
    }

    fn log_file(&self) -> PathBuf {
        match self {
            Keeper::Archiver(archiver) => archiver.log_file(),
            Keeper::Subscriber { directory, .. } => directory.path().join("lines"),
        }
    }

    fn kept_bytes(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len())
    }

    /// Publishes until something is kept: only then has it subscribed.
    fn wait_until_it_keeps(
        &mut self,
        broker: LoopbackAddr,
        topic: &str,
        limits: Limits,
    ) -> Result<(), ArchiveError> {
        let mut connection = connect(broker, limits)?;
        let asked = Instant::now();
        let mut number = 0_u32;
        let mut out = Vec::new();
        while self.kept_bytes() == 0 {
            if limits.exceeded(asked).is_some() {
                let (who, log) = match self {
                    Keeper::Archiver(archiver) => ("the archiver", archiver.last_words()),
                    Keeper::Subscriber { directory, .. } => {
                        ("mosquitto_sub", tail(&directory.path().join("log")))
                    }
                };
                return Err(ArchiveError::Nothing { who, log });
            }
            number += 1;
            out.clear();
            let payload = format!("\"is anybody there, {number}\"");
            put_publish(
                &mut out,
                topic,
                Qos::AtMostOnce,
                false,
                0,
                payload.as_bytes(),
            );
            connection.send(&out)?;
            thread::sleep(Duration::from_millis(50));
        }
        connection.close();
        // What is still on its way is there after this, and not counted.
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }
}

fn connect(broker: LoopbackAddr, limits: Limits) -> Result<Connection, ConnectionError> {
    let introduction = Introduction {
        client_id: "bench-sender",
        clean_session: true,
        credentials: None,
    };
    Connection::open(broker, &introduction, limits, 64 << 10)
}

/// What was kept, and when the last of it was seen.
struct Kept {
    bytes: Vec<u8>,
    last: Instant,
}

/// Reads a file from `from` on until it has so many more lines, or until nothing comes any more.
fn follow(log: &Path, from: u64, lines: usize, limits: Limits) -> Result<Kept, ArchiveError> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut kept = Kept {
        bytes: Vec::new(),
        last: Instant::now(),
    };
    let mut seen = 0;
    while seen < lines {
        let start = kept.bytes.len();
        if file.read_to_end(&mut kept.bytes)? == 0 {
            if limits.exceeded(kept.last).is_some() {
                break;
            }
            thread::sleep(LOOK);
            continue;
        }
        kept.last = Instant::now();
        let fresh = kept.bytes.get(start..).unwrap_or_default();
        seen += fresh.iter().filter(|&&byte| byte == b'\n').count();
    }
    Ok(kept)
}

/// What is wrong with what was kept.
fn missing(bytes: &[u8], envelopes: &[Ready]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut kept = HashSet::new();
    let mut duplicates = 0;
    for line in text.lines() {
        let id = line
            .split_once("\"id\":\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(id, _)| id);
        if let Some(id) = id {
            duplicates += u32::from(!kept.insert(id));
        }
    }
    let lost = envelopes
        .iter()
        .filter(|(id, _)| !kept.contains(id.as_str()))
        .count();
    let mut flaws = Vec::new();
    if lost > 0 {
        flaws.push(format!("{lost} of {} LOST", envelopes.len()));
    }
    if duplicates > 0 {
        flaws.push(format!("{duplicates} DUPLICATED"));
    }
    flaws
}

/// How many lines a second this disk takes when nothing is done but to append and to sync.
fn ceiling(envelopes: &[Ready]) -> Result<f64, ArchiveError> {
    let directory = TempDir::new()?;
    let mut file = File::create(directory.path().join("lines"))?;
    let mut batch = Vec::new();
    for (_, envelope) in envelopes.iter().cycle().take(CEILING_BATCH) {
        batch.extend_from_slice(envelope);
        batch.push(b'\n');
    }
    let begun = Instant::now();
    let mut lines = 0;
    while begun.elapsed() < CEILING {
        file.write_all(&batch)?;
        file.sync_data()?;
        lines += CEILING_BATCH;
    }
    Ok(lines as f64 / begun.elapsed().as_secs_f64())
}
