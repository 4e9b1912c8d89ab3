//! Archiving, put together: the locked directory, the writer on its thread, and the subscription.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archive::log_reader::LogReader;
use sealpost_archive::storage::Directory;
use sealpost_archive::tree::Tree;
use sealpost_core::{Identity, LoginToken, Timestamp};
use sealpost_mqtt::{ChannelBinding, Login, Route};
use sealpost_service::endpoint::Endpoint;
use sealpost_service::manager;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::committer::{Committer, Logs};
use crate::evidence::{self, Evidence, EvidenceError, Synced};
use crate::health::Health;
use crate::keeper::{self, Event, Job};
use crate::key::{self, KeyError};
use crate::lock::{DirectoryLock, LockError};
use crate::observer::Observer;
use crate::room::{LOOK_AGAIN, Room};
use crate::rotation::Rotation;
use crate::sealer::Sealer;
use crate::settings::Settings;
use crate::signers::Signers;
use crate::subscription::{OnSubscribed, SignIn, Subscription};
use crate::work::{self, Inbox};
use crate::writer::{OpenError, Writer};

/// Why archiving ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The directory could not be made or read.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory's lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no usable key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The log does not go with its checkpoint.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The log cannot be continued.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk failed while archiving.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// SIGHUP cannot be listened for.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(io::Error),
    /// The writer's thread could not be started.
    #[error("cannot start the writer's thread: {0}")]
    Thread(io::Error),
    /// The writer's thread ended without a result.
    #[error("the writer's thread died")]
    WriterDied,
}

/// Archives what `broker` delivers until `stop` is cancelled or the disk fails; meanwhile `endpoint` tells how it goes. `on_subscribed` is called each time the
/// broker has granted the subscription.
///
/// Blocks for as long as it takes to open the log, before anything else runs.
pub async fn run(
    settings: Settings,
    broker: Route,
    stop: CancellationToken,
    endpoint: Option<Endpoint>,
    on_subscribed: OnSubscribed,
) -> Result<(), ArchiveError> {
    let path = settings.dir.clone();
    let directory = Directory::open(&path).map_err(|source| ArchiveError::Directory {
        path: path.clone(),
        source,
    })?;
    let _lock = DirectoryLock::take(&path)?;
    let identity = key::load_or_create(&path)?;
    let messages = open_log(&directory, &settings, LogName::EncryptedLogs)?;
    let keys = open_log(&directory, &settings, LogName::KeyHistory)?;
    let signers = if settings.check_signatures {
        let history = LogReader::open(&directory, LogName::KeyHistory)
            .map_err(|error| ArchiveError::Open(error.into()))?;
        let signers = Signers::of(settings.realm.clone(), &history);
        Some(signers.map_err(|error| ArchiveError::Open(error.into()))?)
    } else {
        None
    };
    let known = messages.lines > 0;
    tracing::info!(key = %identity.key(), "opened the archive");

    let health = Arc::new(Health::default());
    let mut witnesses = Witnesses::default();
    let logs = Logs {
        messages: witnesses.watch(messages, &directory, &health)?,
        keys: witnesses.watch(keys, &directory, &health)?,
    };
    let rotation = Rotation::new(directory.clone(), settings.full);
    let observer = Arc::new(Observer::new(
        Arc::clone(&health),
        directory.clone(),
        settings.disk_reserve,
    ));
    // Answers from here to the very end.
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    if let Some(endpoint) = endpoint {
        tokio::spawn(endpoint.serve(Arc::clone(&observer), over.clone()));
    }
    tokio::spawn(async move {
        tokio::select! {
            () = manager::watch(observer) => {}
            () = over.cancelled() => {}
        }
    });
    let room = Room::new(directory, settings.disk_reserve, LOOK_AGAIN);
    let mut committer = Committer::new(logs, room, rotation, signers, Arc::clone(&health));

    let (arrivals, arrived) = mpsc::unbounded_channel();
    work::give_orders(&arrivals).map_err(ArchiveError::Signal)?;
    let (receipts, received) = mpsc::unbounded_channel();
    let (done, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("committer".to_owned())
        .spawn(move || {
            let inbox = Inbox::new(arrived);
            let result = committer.commit_all(inbox, &receipts, now, |log, synced| {
                witnesses.tell(log, synced);
            });
            witnesses.end();
            // The result goes first: the closed receipts are what wakes the other side to ask for
            // it.
            let _ = done.send(result);
            drop(receipts);
        })
        .map_err(ArchiveError::Thread)?;

    let client_id = format!("sealpost-archiver-{}", settings.name);
    let sign_in = sign_in(identity, &settings, client_id.clone());
    let subscription = Subscription::new(
        broker,
        client_id,
        sign_in,
        on_subscribed,
        arrivals,
        received,
        known,
    )
    .sharing(settings.share.as_ref())
    .telling(health);
    // The broker may come later: whoever waits for this has an archiver that waits for it.
    manager::ready();
    let stopping = stop.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        manager::stopping();
    });
    let ended = subscription.run(stop).await;
    match (ended, outcome.await) {
        (_, Ok(result)) => Ok(result?),
        (_, Err(_)) => Err(ArchiveError::WriterDied),
    }
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
    let origin = key::origin(&settings.realm, &settings.name, log);
    let signer = key::load_or_create_signer(path, log, &origin)?;
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
    ) -> Result<Writer<File>, ArchiveError> {
        let log = open.log;
        let evidence = Evidence::new(directory.clone(), log, open.tree, open.signer, open.signed);
        let sealer = Sealer::new(directory.clone(), log, evidence.tiles(), open.sealed);
        let (jobs, to_do) = std::sync::mpsc::channel();
        let unfinished = open.unfinished;
        let keeper = thread::Builder::new()
            .name(format!("keeper-{}", log.as_str()))
            .spawn(move || {
                keeper::keep(
                    sealer,
                    unfinished,
                    &to_do,
                    keeper::AGAIN,
                    |event| match event {
                        Event::Done(_) | Event::Failed(..) => {}
                    },
                );
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

/// Makes a fresh login for each connection, bound to its TLS channel: a token is good for one minute and for one use.
fn sign_in(identity: Identity, settings: &Settings, client_id: String) -> SignIn {
    let (realm, name) = (settings.realm.clone(), settings.name.clone());
    Box::new(move |binding: &ChannelBinding| {
        let mut nonce = [0; 16];
        rand::rng().fill_bytes(&mut nonce);
        Login {
            user: name.to_string(),
            password: LoginToken::mint(
                &identity,
                &realm,
                &name,
                &client_id,
                now(),
                nonce,
                binding.as_bytes(),
            ),
        }
    })
}

/// The system's clock. A clock outside of what a timestamp can say is cut to it: the order of the
/// lines is their number's matter.
fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    u64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millis(millis).ok())
        .unwrap_or(Timestamp::MAX)
}
