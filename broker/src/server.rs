//! The server: puts the broker together, accepts connections and ends them.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealpost_core::Topic;
use sealpost_service::endpoint::Endpoint;
use sealpost_service::manager;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::admission::{Admission, Roles};
use crate::access::audit::{Audit, Entry, Source};
use crate::access::nonces::Nonces;
use crate::access::password::PasswordDesk;
use crate::access::permission::Permission;
use crate::access::registry::{OpenError, Registry};
use crate::access::rules::{Rules, RulesError};
use crate::allowance::Allowances;
use crate::broker::Broker;
use crate::clock;
use crate::connection;
use crate::control::administration::Administration;
use crate::control::request::Request;
use crate::control::socket::ControlSocket;
use crate::delivery::board::{Board, Parting};
use crate::delivery::wills::Wills;
use crate::journal::disk::DiskStore;
use crate::journal::recovery;
use crate::journal::store::StoreError;
use crate::lifetime::{Lifetime, Phase};
use crate::metrics::meters::EntranceMeter;
use crate::metrics::observer::Observer;
use crate::order::Order;
use crate::order::dispatcher::{DispatchError, Dispatcher};
use crate::order::router_link::{self, RouterError};
use crate::protocol::message::Message;
use crate::protocol::topic_name::TopicName;
use crate::settings::Settings;
use crate::sys::{self, Traffic};
use crate::transport::listeners::Listeners;

/// How often sessions are looked over for expiry and for readers that hold others up.
const TIDY_EVERY: Duration = Duration::from_millis(500);

/// How often the log tells of dropped messages at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long connections that have not sent their CONNECT may take to end at shutdown, and how long the wills of the last
/// clients.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Wills of clients that have gone and may come back, besides one for each connection. A CONNECT has room for 8 KiB.
const WAITING_WILLS: usize = 10_000;

/// Why the broker could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The registry could not be opened.
    #[error("{0}")]
    Registry(#[from] OpenError),
    /// The rule file cannot be used.
    #[error("{0}")]
    Rules(#[from] RulesError),
    /// The audit log could not be opened.
    #[error("the audit log {path:?}: {why}")]
    Audit {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// What remembers the use of login tokens could not be opened.
    #[error("the file of used login tokens, `nonces` in the data directory: {0}")]
    Nonces(io::Error),
    /// There is no memory to check passwords with.
    #[error("there is not enough memory to check a password")]
    Memory,
    /// Commands could not be listened to.
    #[error("the control socket: {0}")]
    Control(io::Error),
    /// The router could not be started, or has failed.
    #[error("{0}")]
    Router(#[from] RouterError),
    /// The journal could not be opened, or not be written any more.
    #[error("journal: {0}")]
    Journal(#[from] StoreError),
    /// The system gave the broker no thread.
    #[error("no thread for the journal: {0}")]
    Thread(#[source] std::io::Error),
    /// A task that the broker cannot do without has panicked; the panic is in the log.
    #[error("the dispatcher has failed")]
    Dispatcher,
    /// As [`ServeError::Dispatcher`].
    #[error("the publisher of wills has failed")]
    Wills,
}

/// What may end the broker, and who watches it live.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Asks it to drain: to say that it is not ready any more, to go on for as long as the settings say, and to end.
    pub drain: CancellationToken,
    /// Asks it not to go on for so long.
    pub hurry: CancellationToken,
}

/// Serves the listeners until it is asked to drain, at the end of which it ends every connection with a word, or until
/// something fails that the broker cannot do without. Calls `ready` once it serves.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(
    listeners: Listeners,
    endpoint: Option<Endpoint>,
    settings: Settings,
    ends: Ends,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    let life = Arc::new(Lifetime::new(ends.drain));
    let observer = Arc::new(Observer::new(Arc::clone(&life)));
    // Answers from here to the very end.
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    if let Some(endpoint) = endpoint {
        tokio::spawn(endpoint.serve(Arc::clone(&observer), over));
    }
    let Assembled {
        broker,
        mut dispatching,
        committing,
    } = put_together(settings, Arc::clone(&life))?;
    observer.observe(&broker);
    // What ends with the listeners: connections without a CONNECT, and the control socket.
    let shutdown = CancellationToken::new();
    let mut publishing = tokio::spawn(connection::publish_due(Arc::clone(&broker)));

    let telling = tokio::spawn(sys::tell(Arc::clone(&broker)));

    let connections = TaskTracker::new();
    let control = ControlSocket::bind(&broker.settings.data).map_err(ServeError::Control)?;
    let administration = Arc::new(Administration::of_broker(
        Arc::clone(&broker),
        listeners.certificates(),
    ));
    let mut controlling =
        tokio::spawn(control.serve(Arc::clone(&administration), shutdown.clone()));
    let mut hangup = signal(SignalKind::hangup()).map_err(ServeError::Control)?;

    life.advance(Phase::Ready);
    ready();
    manager::ready();
    let watching = manager::watch(Arc::clone(&observer));
    tokio::pin!(watching);
    let accepting = listeners.accept(Arc::clone(&broker), connections.clone(), shutdown.clone());
    tokio::pin!(accepting);
    let mut told = Instant::now();
    let notice = async {
        life.drained().await;
        life.advance(Phase::Draining);
        manager::stopping();
        let notice = Duration::from_secs(broker.settings.shutdown.notice.into());
        tracing::info!(notice = notice.as_secs(), "draining");
        tokio::select! {
            () = tokio::time::sleep(notice) => {}
            () = ends.hurry.cancelled() => {}
        }
    };
    tokio::pin!(notice);
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut notice => break Ok(()),
            dispatched = &mut dispatching => break Err(match dispatched {
                Ok(Err(DispatchError::Router(error))) => ServeError::Router(error),
                Ok(Err(DispatchError::Journal(error))) => {
                    // At once: nobody may be told anything that is not so.
                    tracing::error!(%error, "the journal cannot be written; nothing is acknowledged any more");
                    return Err(ServeError::Journal(error));
                }
                _ => ServeError::Dispatcher,
            }),
            published = &mut publishing => break Err(match published {
                Ok(Err(error)) => ServeError::Router(error),
                _ => ServeError::Wills,
            }),
            () = tokio::time::sleep(TIDY_EVERY) => {
                broker.board.tidy(clock::now());
                record_partings(&broker);
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let dropped = broker.board.newly_dropped();
                    if dropped > 0 {
                        tracing::warn!(dropped, "messages of QoS 0 were dropped: their readers were slow or away");
                    }
                }
            }
            () = &mut accepting => {}
            () = &mut watching => {}
            _ = &mut controlling => {
                break Err(ServeError::Control(io::Error::other("its task has failed")));
            }
            _ = hangup.recv() => {
                let administration = Arc::clone(&administration);
                // Files may lie on a network; nobody waits for them here.
                tokio::spawn(async move {
                    // It says itself what could not be reloaded, and that what was before stays.
                    let (items, _) = mpsc::channel(1);
                    let _ = administration.perform(Request::Reload {}, items).await;
                });
            }
        }
    };
    telling.abort();
    let wait = Duration::from_secs(broker.settings.shutdown.wait.into());
    let all_gone = tokio::select! {
        all_gone = life.close(wait) => all_gone,
        // Newcomers are told why they are refused.
        () = &mut accepting => false,
        () = &mut watching => false,
    };
    if !all_gone {
        tracing::warn!("some clients did not go in time");
    }
    connections.close();
    shutdown.cancel();
    if tokio::time::timeout(SHUTDOWN_WAIT, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
    broker.wills.close();
    if !publishing.is_finished()
        && tokio::time::timeout(SHUTDOWN_WAIT, publishing)
            .await
            .is_err()
    {
        tracing::warn!("some wills were not published in time");
    }
    record_partings(&broker);
    broker.board.journal().close();
    if tokio::task::spawn_blocking(move || committing.join())
        .await
        .is_err()
    {
        tracing::error!("the journal's thread could not be waited for");
    }
    ended
}

/// Leaves a line in the audit log for each session that the board parted with.
fn record_partings(broker: &Broker) {
    for Parting { key, messages, .. } in broker.board.take_partings() {
        let entry = Entry::SessionEnded {
            user: &key.owner,
            client: &key.client_id,
            messages,
        };
        broker.audit.record(Source::Broker, entry);
    }
}

/// The broker and what runs beside its connections.
#[derive(Debug)]
pub struct Assembled {
    /// What connections share.
    pub broker: Arc<Broker>,
    /// The dispatcher.
    pub dispatching: Dispatching,
    /// The journal's thread, which ends when the journal is closed.
    pub committing: std::thread::JoinHandle<()>,
}

/// The dispatcher's task, which ends only when the broker must.
pub type Dispatching = JoinHandle<Result<Infallible, DispatchError>>;

/// Puts together what connections share, without listeners: what [`run`] serves. Needs a runtime of several threads.
///
/// # Errors
/// See [`ServeError`].
pub fn assemble(settings: Settings) -> Result<Assembled, ServeError> {
    put_together(settings, Arc::new(Lifetime::new(CancellationToken::new())))
}

fn put_together(settings: Settings, life: Arc<Lifetime>) -> Result<Assembled, ServeError> {
    let registry = Arc::new(Registry::open(
        &settings.data,
        settings.realm.clone(),
        settings.limits.users,
    )?);
    let store = Arc::new(DiskStore::open(&settings.data.join("journal"))?);
    let (journal, committer, recovered) = recovery::open(store, settings.limits.disk_reserve)?;
    let board = Arc::new(Board::new(settings.bounds(), journal));
    board.recover(recovered, |owner| settings.share(owner), clock::now());
    for (user, bundle) in registry.bundles() {
        if let Ok(topic) = TopicName::parse(Topic::Keys(user).to_string().as_bytes()) {
            board.restore(&Arc::new(Message {
                number: board.journal().next_message(),
                topic,
                payload: bundle.into(),
                properties: None,
                expires: None,
                sender: None,
                supersedes: true,
            }));
        }
    }
    let (inlet, outlet) = tokio::task::block_in_place(router_link::start)?;
    let committing = committer.spawn().map_err(ServeError::Thread)?;
    let dispatcher = Arc::new(Dispatcher::new(outlet, Arc::clone(&board)));
    let dispatching = tokio::spawn(Arc::clone(&dispatcher).run());

    let audit = match &settings.audit {
        Some(file) => Audit::open(file.clone()).map_err(|why| ServeError::Audit {
            path: file.path.clone(),
            why,
        })?,
        None => Audit::off(),
    };
    let audit = Arc::new(audit);
    let admission = if settings.open {
        None
    } else {
        let nonces = Nonces::open(&settings.data, clock::now()).map_err(ServeError::Nonces)?;
        let desk = tokio::task::block_in_place(PasswordDesk::open);
        let roles = Roles {
            archivers: settings.archivers.iter().cloned().collect(),
            operators: settings.operators.iter().cloned().collect(),
        };
        Some(Admission::new(
            settings.realm.clone(),
            Arc::clone(&registry),
            roles,
            settings.open_registration,
            nonces,
            desk.map_err(|_| ServeError::Memory)?,
            Arc::clone(&audit),
        ))
    };
    let rules = settings.rules.as_deref().map(Rules::read).transpose()?;
    let permission = Permission::new(
        settings.realm.clone(),
        Arc::clone(&registry),
        rules.unwrap_or_default(),
    );
    let wills = Wills::new(settings.limits.connections.saturating_add(WAITING_WILLS));
    let allowances = Allowances::new(settings.limits.address, settings.limits.user);
    let broker = Arc::new(Broker {
        allowances,
        settings,
        registry,
        admission,
        permission,
        audit,
        life,
        entrance: EntranceMeter::default(),
        board,
        wills,
        traffic: Traffic::default(),
        order: Order::new(inlet, dispatcher),
    });
    broker.review_subscriptions();
    Ok(Assembled {
        broker,
        dispatching,
        committing,
    })
}
