//! The server: puts the broker together, accepts connections and ends them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sealpost_core::Topic;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::admission::Admission;
use crate::access::permission::Permission;
use crate::access::registry::{OpenError, Registry};
use crate::broker::Broker;
use crate::connection;
use crate::delivery::board::Board;
use crate::delivery::message::Message;
use crate::journal::MemoryJournal;
use crate::order::dispatcher;
use crate::order::router_link::{self, RouterError};
use crate::protocol::topic_name::TopicName;
use crate::settings::Settings;

/// How often sessions are looked over for expiry and for readers that hold others up.
const TIDY_EVERY: Duration = Duration::from_millis(500);

/// How often the log tells of dropped messages at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long connections may take to end at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Why the broker could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The registry could not be opened.
    #[error("{0}")]
    Registry(#[from] OpenError),
    /// The router could not be started, or has failed.
    #[error("{0}")]
    Router(#[from] RouterError),
    /// A task that the broker cannot do without has panicked; the panic is in the log.
    #[error("the dispatcher has failed")]
    Dispatcher,
}

/// Serves the listener until `shutdown`, which ends every connection with a word, or until something fails that the
/// broker cannot do without. Calls `ready` once it serves.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    let registry = Arc::new(Registry::open(
        &settings.data,
        settings.realm.clone(),
        settings.limits.users,
    )?);
    let board = Arc::new(Board::new(settings.bounds()));
    for (user, bundle) in registry.bundles() {
        if let Ok(topic) = TopicName::parse(Topic::Keys(user).to_string().as_bytes()) {
            board.restore(&Arc::new(Message {
                topic,
                payload: bundle.into(),
                properties: None,
                supersedes: true,
            }));
        }
    }
    let (inlet, outlet) = tokio::task::block_in_place(router_link::start)?;
    let mut dispatching = tokio::spawn(dispatcher::run(outlet, Arc::clone(&board), MemoryJournal));

    let admission = (!settings.open).then(|| {
        let archivers = settings.archivers.iter().cloned();
        Admission::new(
            settings.realm.clone(),
            Arc::clone(&registry),
            archivers,
            settings.open_registration,
        )
    });
    let permission = Permission::new(settings.realm.clone(), registry);
    let places = Arc::new(Semaphore::new(
        settings.limits.connections.min(Semaphore::MAX_PERMITS),
    ));
    let broker = Arc::new(Broker {
        settings,
        admission,
        permission,
        board,
        inlet,
    });

    ready();
    let connections = TaskTracker::new();
    let mut told = Instant::now();
    let ended = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            dispatched = &mut dispatching => break Err(match dispatched {
                Ok(Err(error)) => ServeError::Router(error),
                _ => ServeError::Dispatcher,
            }),
            () = tokio::time::sleep(TIDY_EVERY) => {
                broker.board.tidy();
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let dropped = broker.board.newly_dropped();
                    if dropped > 0 {
                        tracing::warn!(dropped, "messages of QoS 0 were dropped: their readers were slow or away");
                    }
                }
            }
            () = accept(&listener, &broker, &places, &connections, &shutdown) => {}
        }
    };
    connections.close();
    shutdown.cancel();
    if tokio::time::timeout(SHUTDOWN_WAIT, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
    ended
}

/// Accepts until it is dropped.
async fn accept(
    listener: &TcpListener,
    broker: &Arc<Broker>,
    places: &Arc<Semaphore>,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a connection that was gone before it was taken.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            tracing::warn!("as many connections as the broker takes; one was turned away");
            continue;
        };
        let (broker, shutdown) = (Arc::clone(broker), shutdown.clone());
        connections.spawn(async move {
            connection::serve(stream, broker, shutdown).await;
            drop(place);
        });
    }
}
