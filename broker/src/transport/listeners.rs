//! The listeners: sockets in, connections handed on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lobby::{Lobby, Seat};
use crate::access::admission::Channel;
use crate::broker::Broker;
use crate::connection::{self, Greeting, Origin, Stream};
use crate::settings::{Limits, Settings};

/// When TCP begins to ask whether a silent peer is still there, and how often it asks.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Why the broker cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or is not one of this machine's.
    #[error("cannot listen on {address}: {why}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: std::io::Error,
    },
}

/// Where the broker listens.
#[derive(Debug)]
pub struct Listeners {
    plain: TcpListener,
    plain_address: SocketAddr,
}

impl Listeners {
    /// Binds what the settings name.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(settings: &Settings) -> Result<Listeners, ListenError> {
        let (plain, plain_address) = bind(settings.listen).await?;
        Ok(Listeners {
            plain,
            plain_address,
        })
    }

    /// Where plain TCP is served.
    #[must_use]
    pub fn plain_address(&self) -> SocketAddr {
        self.plain_address
    }

    /// Accepts until it is dropped. Connections become tasks of `connections`.
    pub async fn accept(
        self,
        broker: Arc<Broker>,
        connections: TaskTracker,
        shutdown: CancellationToken,
    ) {
        let Limits {
            connections: places,
            handshakes,
            handshake,
            ..
        } = broker.settings.limits;
        let entrance = Entrance {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            lobby: Lobby::new(handshakes),
            handshake: Duration::from_secs(handshake.into()),
            broker,
            connections,
            shutdown,
        };
        entrance.accept(&self.plain).await;
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let cannot = |why| ListenError::Bind { address, why };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    // With port 0 the system has chosen one.
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address))
}

/// What every listener leads through.
#[derive(Clone)]
struct Entrance {
    broker: Arc<Broker>,
    places: Arc<Semaphore>,
    lobby: Arc<Lobby>,
    /// How long each step of the handshake may take.
    handshake: Duration,
    connections: TaskTracker,
    shutdown: CancellationToken,
}

impl Entrance {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let (socket, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that was gone before it was taken.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                tracing::warn!("as many connections as the broker takes; one was turned away");
                continue;
            };
            let seat = self.lobby.enter().await;
            let entrance = self.clone();
            self.connections.spawn(async move {
                entrance.serve(socket, address, seat).await;
                drop(place);
            });
        }
    }

    async fn serve(self, socket: TcpStream, address: SocketAddr, seat: Seat) {
        let greeting = tokio::select! {
            () = self.shutdown.cancelled() => return,
            () = seat.evicted() => {
                tracing::debug!(peer = %address, "stalled before CONNECT, and its place was needed");
                return;
            }
            greeting = self.greet(socket, address) => greeting,
        };
        drop(seat);
        if let Some(greeting) = greeting {
            greeting.serve(self.broker, self.shutdown).await;
        }
    }

    /// From the first byte to the CONNECT.
    async fn greet(&self, socket: TcpStream, address: SocketAddr) -> Option<Greeting> {
        if let Err(error) = prepare(&socket) {
            tracing::debug!(peer = %address, %error, "a connection that is gone already");
            return None;
        }
        let channel = Channel::plain(address.ip());
        let (reader, writer) = socket.into_split();
        let stream = Stream::new(reader, writer, Origin { address, channel });
        let Ok(greeting) = timeout(self.handshake, connection::greet(stream)).await else {
            tracing::debug!(peer = %address, "no CONNECT in time");
            return None;
        };
        greeting
    }
}

fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    // A peer that vanished without a word is noticed even if it promised no keep-alive of its own.
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}
