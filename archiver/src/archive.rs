//! Archiving, put together: the locked directory, the writer on its thread, and the subscription.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use sealpost_core::{Identity, LoginToken, Timestamp};
use sealpost_mqtt::{ChannelBinding, Login, Route};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::committer;
use crate::evidence::{self, Evidence, EvidenceError};
use crate::key::{self, KeyError};
use crate::lock::{DirectoryLock, LockError};
use crate::settings::Settings;
use crate::subscription::{OnSubscribed, SignIn, Subscription};
use crate::writer::{OpenError, Writer};
use sealpost_archive::layout::LogName;
use sealpost_archive::log_file::AppendError;
use sealpost_archive::storage::Directory;

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
    /// The writer's thread could not be started.
    #[error("cannot start the writer's thread: {0}")]
    Thread(io::Error),
    /// The writer's thread ended without a result.
    #[error("the writer's thread died")]
    WriterDied,
}

/// Archives what `broker` delivers until `stop` is cancelled or the disk fails. `on_subscribed` is called each time the
/// broker has granted the subscription.
///
/// Blocks for as long as it takes to open the log, before anything else runs.
pub async fn run(
    settings: Settings,
    broker: Route,
    stop: CancellationToken,
    on_subscribed: OnSubscribed,
) -> Result<(), ArchiveError> {
    let path = settings.dir.clone();
    let directory = Directory::open(&path).map_err(|source| ArchiveError::Directory {
        path: path.clone(),
        source,
    })?;
    let _lock = DirectoryLock::take(&path)?;
    let identity = key::load_or_create(&path)?;
    let log = LogName::EncryptedLogs;
    tracing::info!(
        "reading the last lines of {}",
        path.join(log.active()).display()
    );
    let origin = key::origin(&settings.realm, &settings.name, log);
    let signer = key::load_or_create_signer(&path, log, &origin)?;
    let signed = evidence::signed_head(&directory, log, &signer)?;
    let (mut writer, recovery) = Writer::open(&directory, log, settings.dedupe_window, signed)?;
    if let Some(torn) = &recovery.torn {
        tracing::warn!(
            bytes = torn.bytes,
            "the log ended in half a line, which nobody was told was archived; it is set aside in {}",
            torn.set_aside_in
        );
    }
    tracing::info!(
        last_seq = recovery.last_seq,
        lines_read = recovery.lines_read,
        key = %identity.key(),
        "opened the log"
    );
    if let Some(reason) = &recovery.tiles_lost {
        tracing::warn!("the tiles are made again from the lines: {reason}");
    }
    let (leaves, synced) = std::sync::mpsc::channel();
    let signed = signed.map_or(0, |head| head.size);
    let evidence = Evidence::new(directory, log, recovery.tree, signer, signed);
    let witness = thread::Builder::new()
        .name("evidence".to_owned())
        .spawn(move || evidence::publish_all(evidence, &synced))
        .map_err(ArchiveError::Thread)?;

    let (arrivals, arrived) = mpsc::unbounded_channel();
    let (receipts, received) = mpsc::unbounded_channel();
    let (done, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("committer".to_owned())
        .spawn(move || {
            let result = committer::commit_all(&mut writer, arrived, &receipts, now, |synced| {
                // The other side ends only when this one does.
                let _ = leaves.send(synced);
            });
            drop(leaves);
            if witness.join().is_err() {
                tracing::error!("the thread that signs checkpoints died; the lines are safe");
            }
            // The result goes first: the closed receipts are what wakes the other side to ask for
            // it.
            let _ = done.send(result);
            drop(receipts);
        })
        .map_err(ArchiveError::Thread)?;

    let known = recovery.last_seq > 0;
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
    );
    let ended = subscription.run(stop).await;
    match (ended, outcome.await) {
        (_, Ok(result)) => Ok(result?),
        (_, Err(_)) => Err(ArchiveError::WriterDied),
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
