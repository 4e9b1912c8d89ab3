//! Archiving, put together: the locked directory, the writer on its thread, and the subscription.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rand::Rng as _;
use sealpost_archive::log_file::AppendError;
use sealpost_core::{Identity, LoginToken};
use sealpost_mqtt::{BrokerPassword, BrokerPasswordError, ChannelBinding, Login, Route};
use sealpost_service::endpoint::Endpoint;
use sealpost_service::manager;
use tokio_util::sync::CancellationToken;

use crate::administration::retain_now_and_then;
use crate::control::socket::ControlSocket;
use crate::evidence::EvidenceError;
use crate::key::{self, KeyError};
use crate::live::timestamp;
use crate::lock::LockError;
use crate::observer::Observer;
use crate::open_archive::{OpenArchive, Running};
use crate::settings::Settings;
use crate::subscription::{OnSubscribed, SignIn, Subscription};
use crate::work;
use crate::writer::OpenError;

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
    /// The password at the broker cannot be read.
    #[error(transparent)]
    Password(#[from] BrokerPasswordError),
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
    /// The control socket cannot be made.
    #[error("cannot listen at the control socket: {0}")]
    Control(io::Error),
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
    let password = settings.password_file.as_deref();
    let password = password.map(BrokerPassword::read).transpose()?;
    let open = OpenArchive::open(&settings)?;
    let identity = key::load_or_create(&settings.dir)?;
    tracing::info!(key = %identity.key(), "opened the archive");
    let (directory, health, known) = (open.directory.clone(), Arc::clone(&open.health), open.known);
    let retention = settings.retention;
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
    let Running {
        work,
        receipts,
        outcome,
        administration,
        _lock,
    } = open.start()?;
    work::give_orders(&work).map_err(ArchiveError::Signal)?;
    let control = ControlSocket::bind(directory.path()).map_err(ArchiveError::Control)?;
    tokio::spawn(control.serve(Arc::clone(&administration), stop.clone()));
    tokio::spawn(retain_now_and_then(administration, retention, stop.clone()));

    let client_id = format!("sealpost-archiver-{}", settings.name);
    let sign_in = match password {
        Some(password) => sign_in_with(password, &settings),
        None => sign_in(identity, &settings, client_id.clone()),
    };
    let subscription = Subscription::new(
        broker,
        client_id,
        sign_in,
        on_subscribed,
        work,
        receipts,
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
    // On the thread that waits for the network: from any other, each packet would wake two.
    let ended = tokio::spawn(subscription.run(stop)).await;
    match (ended, outcome.await) {
        (_, Ok(result)) => Ok(result?),
        (_, Err(_)) => Err(ArchiveError::WriterDied),
    }
}

/// The same password for each connection.
fn sign_in_with(password: BrokerPassword, settings: &Settings) -> SignIn {
    let name = settings.name.clone();
    Box::new(move |_: &ChannelBinding| Login {
        user: name.to_string(),
        password: password.as_str().to_owned(),
    })
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
                timestamp(SystemTime::now()),
                nonce,
                binding.as_bytes(),
            ),
        }
    })
}
