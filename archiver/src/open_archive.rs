//! An archive that is open: its lock, its writers, and the threads behind them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archive::log_reader::LogReader;
use sealpost_archive::storage::Directory;
use sealpost_archive::tree::Tree;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{broadcast, oneshot};

use crate::administration::{Administration, News};
use crate::archive::ArchiveError;
use crate::arrival::Receipt;
use crate::committer::{Committer, Logs};
use crate::evidence::{self, Evidence, Synced};
use crate::health::Health;
use crate::keeper::{self, Event, Job};
use crate::key;
use crate::live::timestamp;
use crate::lock::DirectoryLock;
use crate::room::{LOOK_AGAIN, Room};
use crate::rotation::Rotation;
use crate::sealer::Sealer;
use crate::settings::Settings;
use crate::signers::Signers;
use crate::work::{Inbox, Work};
use crate::writer::Writer;

/// News of keepers that may wait for whoever wants them: as many requests as are served at once, many times over.
const NEWS: usize = 64;

/// An archive that is open, and nothing runs yet but what looks after what is there.
pub(crate) struct OpenArchive {
    lock: DirectoryLock,
    pub(crate) directory: Directory,
    pub(crate) health: Arc<Health>,
    /// Whether there are messages in it.
    pub(crate) known: bool,
    committer: Committer<Directory>,
    witnesses: Witnesses,
    news: broadcast::Sender<News>,
}

/// An archive whose committer runs, until all who send it work are gone.
pub(crate) struct Running {
    pub(crate) work: UnboundedSender<Work>,
    pub(crate) receipts: UnboundedReceiver<Vec<Receipt>>,
    /// How it ended.
    pub(crate) outcome: oneshot::Receiver<Result<(), AppendError>>,
    pub(crate) administration: Arc<Administration>,
    pub(crate) _lock: DirectoryLock,
}

impl OpenArchive {
    /// Opens the archive that the settings name; makes it when it is not there.
    ///
    /// Blocks for as long as it takes to read what must be read.
    pub(crate) fn open(settings: &Settings) -> Result<OpenArchive, ArchiveError> {
        let path = settings.dir.clone();
        let directory = Directory::open(&path).map_err(|source| ArchiveError::Directory {
            path: path.clone(),
            source,
        })?;
        let lock = DirectoryLock::take(&path)?;
        let messages = open_log(&directory, settings, LogName::EncryptedLogs)?;
        let keys = open_log(&directory, settings, LogName::KeyHistory)?;
        let signers = if settings.check_signatures {
            let history = LogReader::open(&directory, LogName::KeyHistory)
                .map_err(|error| ArchiveError::Open(error.into()))?;
            let signers = Signers::of(settings.realm.clone(), &history);
            Some(signers.map_err(|error| ArchiveError::Open(error.into()))?)
        } else {
            None
        };
        let known = messages.lines > 0;
        let health = Arc::new(Health::default());
        let (news, _) = broadcast::channel(NEWS);
        let mut witnesses = Witnesses::default();
        let logs = Logs {
            messages: witnesses.watch(messages, &directory, &health, &news)?,
            keys: witnesses.watch(keys, &directory, &health, &news)?,
        };
        let room = Room::new(directory.clone(), settings.disk_reserve, LOOK_AGAIN);
        let rotation = Rotation::new(directory.clone(), settings.full);
        let committer = Committer::new(logs, room, rotation, signers, Arc::clone(&health));
        Ok(OpenArchive {
            lock,
            directory,
            health,
            known,
            committer,
            witnesses,
            news,
        })
    }

    /// Starts the committer.
    pub(crate) fn start(self) -> Result<Running, ArchiveError> {
        let OpenArchive {
            lock,
            directory,
            health,
            known: _,
            mut committer,
            witnesses,
            news,
        } = self;
        let (work, inbox) = mpsc::unbounded_channel();
        let (receipts, received) = mpsc::unbounded_channel();
        let (done, outcome) = oneshot::channel();
        thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                let now = || timestamp(std::time::SystemTime::now());
                let result =
                    committer.commit_all(Inbox::new(inbox), &receipts, now, |log, synced| {
                        witnesses.tell(log, synced);
                    });
                witnesses.end();
                // The result goes first: the closed receipts are what wakes the other side to ask for
                // it.
                let _ = done.send(result);
                drop(receipts);
            })
            .map_err(ArchiveError::Thread)?;
        let administration = Administration::new(directory, work.downgrade(), news, health);
        Ok(Running {
            work,
            receipts: received,
            outcome,
            administration: Arc::new(administration),
            _lock: lock,
        })
    }
}

/// The key that signs the checkpoints of a log; made when there is none. An archiver that is told its realm and name must be the one
/// that signed before.
fn signer(
    path: &Path,
    log: LogName,
    settings: &Settings,
) -> Result<CheckpointSigner, ArchiveError> {
    // Who only removes something is told neither.
    if settings.broker.is_none() {
        return Ok(key::stored_signer(path, log)?);
    }
    let origin = key::origin(&settings.realm, &settings.name, log);
    Ok(key::load_or_create_signer(path, log, &origin)?)
}

/// A log that is open for writing, and what was found in it.
struct OpenLog {
    log: LogName,
    writer: Writer<File>,
    tree: Tree,
    /// The tree over the lines that are sealed.
    sealed: Tree,
    /// What an earlier life left undone.
    unfinished: Vec<Job>,
    signer: CheckpointSigner,
    /// How many lines there are.
    lines: u64,
    /// How many of them are signed.
    signed: u64,
}

fn open_log(
    directory: &Directory,
    settings: &Settings,
    log: LogName,
) -> Result<OpenLog, ArchiveError> {
    let path = directory.path();
    tracing::info!("reading {}", path.join(log.active()).display());
    let signer = signer(path, log, settings)?;
    let signed = evidence::signed_head(directory, log, &signer)?;
    let (writer, recovery) = Writer::open(directory, log, settings.dedupe_window, signed)?;
    if let Some(torn) = &recovery.torn {
        tracing::warn!(
            log = log.as_str(),
            bytes = torn.bytes,
            "the log ended in half a line, which nobody was told was archived; it is set aside in {}",
            torn.set_aside_in
        );
    }
    if let Some(reason) = &recovery.tiles_lost {
        tracing::warn!(
            log = log.as_str(),
            "the tiles are made again from the lines: {reason}"
        );
    }
    tracing::info!(
        log = log.as_str(),
        last_seq = recovery.last_seq,
        lines_read = recovery.lines_read,
        "opened"
    );
    Ok(OpenLog {
        log,
        writer,
        unfinished: keeper::unfinished(&recovery),
        tree: recovery.tree,
        sealed: recovery.sealed,
        signer,
        lines: recovery.last_seq,
        signed: signed.map_or(0, |head| head.size),
    })
}

/// The threads that keep the evidence of the logs, and their full files.
#[derive(Default)]
struct Witnesses(Vec<Witness>);

struct Witness {
    log: LogName,
    synced: Sender<Synced>,
    evidence: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl Witnesses {
    /// Starts to keep the evidence of a log, which is then for the committer to write to.
    fn watch(
        &mut self,
        open: OpenLog,
        directory: &Directory,
        health: &Arc<Health>,
        news: &broadcast::Sender<News>,
    ) -> Result<Writer<File>, ArchiveError> {
        let log = open.log;
        let evidence = Evidence::new(directory.clone(), log, open.tree, open.signer, open.signed);
        let sealer = Sealer::new(directory.clone(), log, evidence.tiles(), open.sealed);
        let (jobs, to_do) = std::sync::mpsc::channel();
        let unfinished = open.unfinished;
        let news = news.clone();
        let keeper = thread::Builder::new()
            .name(format!("keeper-{}", log.as_str()))
            .spawn(move || {
                keeper::keep(sealer, unfinished, &to_do, keeper::AGAIN, |event| {
                    let (job, failed) = match event {
                        Event::Done(job) => (*job, None),
                        Event::Failed(job, error) => (*job, Some(error.to_string())),
                    };
                    // Nobody may be waiting for it.
                    let _ = news.send(News { log, job, failed });
                });
            })
            .map_err(ArchiveError::Thread)?;
        let health = Arc::clone(health);
        let (synced, told) = std::sync::mpsc::channel();
        let evidence = thread::Builder::new()
            .name(format!("evidence-{}", log.as_str()))
            .spawn(move || {
                evidence::publish_all(evidence, &told, |head| health.signed(log, head), &jobs);
            })
            .map_err(ArchiveError::Thread)?;
        self.0.push(Witness {
            log,
            synced,
            evidence,
            keeper,
        });
        Ok(open.writer)
    }

    /// Tells of what is on the medium.
    fn tell(&self, log: LogName, synced: Synced) {
        if let Some(witness) = self.0.iter().find(|witness| witness.log == log) {
            // It ends only when nobody can tell it anything any more.
            let _ = witness.synced.send(synced);
        }
    }

    /// Returns when all is signed, and what is being sealed is sealed.
    fn end(self) {
        for Witness {
            log,
            synced,
            evidence,
            keeper,
        } in self.0
        {
            drop(synced);
            for (thread, what) in [
                (evidence, "signs checkpoints"),
                (keeper, "seals full files"),
            ] {
                if thread.join().is_err() {
                    tracing::error!(
                        log = log.as_str(),
                        "the thread that {what} died; the lines are safe"
                    );
                }
            }
        }
    }
}
