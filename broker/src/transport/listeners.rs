//! The listeners: sockets in, connections handed on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::Certificates;
use super::lobby::{Lobby, Seat};
use super::tls::{self, TlsError};
use super::websocket;
use crate::access::admission::Channel;
use crate::allowance::Ration;
use crate::allowance::bucket::{Bucket, Rate};
use crate::broker::Broker;
use crate::connection::{self, Connection, Greeting, Origin, Stream};
use crate::settings::{Limits, Settings};

/// When TCP begins to ask whether a silent peer is still there, and how often it asks.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// The first byte of an HTTP request that may become a WebSocket: the `G` of `GET`. MQTT begins with 0x10.
const GET: u8 = b'G';

/// The first byte of TLS (RFC 8446, section 5.1: a record of handshake type).
const TLS_HANDSHAKE: u8 = 0x16;

/// Why the broker cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or is not one of this machine's.
    #[error("cannot listen on {address}: {why}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: io::Error,
    },
    /// The certificates are of no use.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
}

/// Why there was no CONNECT.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("{0} took too long")]
    Stalled(&'static str),
    #[error("{step}: {why}")]
    Failed { step: &'static str, why: io::Error },
    #[error("it was closed without a word")]
    Silent,
    #[error("TLS on the port for plain connections")]
    TlsOnPlain,
    #[error("the TLS connection has no exporter: {0}")]
    NoExporter(rustls::Error),
}

/// Where the broker listens: plain MQTT and WebSocket on one port, both inside TLS on another.
#[derive(Debug)]
pub struct Listeners {
    plain: Port,
    tls: Option<(Port, Arc<Certificates>)>,
}

#[derive(Debug)]
struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Port {
    async fn bind(address: SocketAddr) -> Result<Port, ListenError> {
        let cannot = |why| ListenError::Bind { address, why };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        // With port 0 the system has chosen one.
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Port { listener, address })
    }
}

impl Listeners {
    /// Binds what the settings name, and loads the certificates.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(settings: &Settings) -> Result<Listeners, ListenError> {
        let tls = match &settings.tls {
            None => None,
            Some(tls) => {
                let certificates = Certificates::load(tls.files.clone())?;
                Some((Port::bind(tls.listen).await?, Arc::new(certificates)))
            }
        };
        Ok(Listeners {
            plain: Port::bind(settings.listen).await?,
            tls,
        })
    }

    /// Where plain connections are served.
    #[must_use]
    pub fn plain_address(&self) -> SocketAddr {
        self.plain.address
    }

    /// The certificates in use, where TLS is served.
    #[must_use]
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.tls
            .as_ref()
            .map(|(_, certificates)| Arc::clone(certificates))
    }

    /// Where TLS is served, if it is.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|(port, _)| port.address)
    }

    /// Accepts until it is dropped. Connections become tasks of `connections`; those that have not sent their CONNECT by
    /// `shutdown` end then.
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
            told: Arc::new(Mutex::new(Bucket::full(TELL, Instant::now()))),
        };
        let tls = async {
            let Some((port, certificates)) = &self.tls else {
                return std::future::pending().await;
            };
            tokio::join!(
                entrance.accept(&port.listener, Some(certificates)),
                certificates.renew(),
            );
        };
        tokio::join!(entrance.accept(&self.plain.listener, None), tls);
    }
}

/// A connection that has been accepted.
struct Arrival {
    socket: TcpStream,
    address: SocketAddr,
    ration: Ration,
}

/// Lines in the log about connections that were not taken.
const TELL: Rate = Rate {
    units: 6,
    period: Duration::from_secs(60),
};

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
    told: Arc<Mutex<Bucket>>,
}

impl Entrance {
    async fn accept(&self, listener: &TcpListener, tls: Option<&Arc<Certificates>>) {
        loop {
            let (socket, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that was gone before it was taken.
                    self.tell(|| tracing::warn!(%error, "no connection could be accepted"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let ration = match self.broker.allowances.arrive(address.ip()) {
                Ok(ration) => ration,
                Err(why) => {
                    self.turn_away(address, &why);
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.turn_away(address, &"the broker has as many connections as it takes");
                continue;
            };
            let seat = self.lobby.enter().await;
            let acceptor = tls.map(|certificates| TlsAcceptor::from(certificates.current()));
            let arrival = Arrival {
                socket,
                address,
                ration,
            };
            // Boxed, because it is large, and a connection lasts long after it.
            let letting_in = Box::pin(self.clone().let_in(arrival, acceptor, seat));
            self.connections.spawn(async move {
                if let Some(connection) = letting_in.await {
                    connection.run().await;
                }
                drop(place);
            });
        }
    }

    /// Says something, unless enough was said lately: who floods the broker is not to flood its log too.
    fn tell(&self, tell: impl FnOnce()) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_ready(now) {
            told.take(1, now);
            drop(told);
            tell();
        }
    }

    fn turn_away(&self, address: SocketAddr, why: &dyn std::fmt::Display) {
        self.broker.entrance.turned_away_at_the_door();
        self.tell(|| tracing::warn!(peer = %address, %why, "turned away"));
    }

    /// From the first byte to the CONNACK.
    async fn let_in(
        self,
        arrival: Arrival,
        tls: Option<TlsAcceptor>,
        seat: Seat,
    ) -> Option<Box<Connection>> {
        let address = arrival.address;
        let greeting = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            () = seat.evicted() => {
                tracing::debug!(peer = %address, "stalled before CONNECT, and its place was needed");
                return None;
            }
            greeting = self.greet(arrival, tls) => greeting,
        };
        drop(seat);
        match greeting {
            Ok(greeting) => {
                let goodbye = self.broker.life.goodbye().clone();
                greeting?.join(self.broker, goodbye).await
            }
            Err(why) => {
                tracing::debug!(peer = %address, %why, "no CONNECT");
                None
            }
        }
    }

    /// From the first byte to the CONNECT.
    async fn greet(
        &self,
        arrival: Arrival,
        tls: Option<TlsAcceptor>,
    ) -> Result<Option<Greeting>, HandshakeError> {
        let Arrival {
            socket,
            address,
            ration,
        } = arrival;
        let failed = |step| move |why| HandshakeError::Failed { step, why };
        prepare(&socket).map_err(failed("the socket"))?;
        let stream = match tls {
            None => {
                let mut first = [0];
                let peeked = self.in_time("the first byte", socket.peek(&mut first));
                let peeked = peeked.await?;
                let first = first.get(..peeked).and_then(<[u8]>::first);
                let channel = Channel::plain(address.ip());
                let origin = Origin {
                    address,
                    channel,
                    ration,
                };
                match first {
                    None => return Err(HandshakeError::Silent),
                    Some(&TLS_HANDSHAKE) => return Err(HandshakeError::TlsOnPlain),
                    Some(&GET) => self.websocket(socket, origin, false).await?,
                    Some(_) => {
                        // Halves that do not wait for each other.
                        let (reader, writer) = socket.into_split();
                        Stream::new(reader, writer, origin)
                    }
                }
            }
            Some(acceptor) => {
                let accepted = self.in_time("the TLS handshake", acceptor.accept(socket));
                // Some KiB, moved several times from here on.
                let mut socket = Box::new(accepted.await?);
                let mut channel = tls::channel(address.ip(), socket.get_ref().1)
                    .map_err(HandshakeError::NoExporter)?;
                let settings = self.broker.settings.tls.as_ref();
                channel.unbound = settings.is_some_and(|tls| tls.unbound_logins);
                let origin = Origin {
                    address,
                    channel,
                    ration,
                };
                let first = self.in_time("the first byte", socket.fill_buf()).await?;
                match first.first() {
                    None => return Err(HandshakeError::Silent),
                    Some(&GET) => self.websocket(socket, origin, true).await?,
                    Some(_) => {
                        let (reader, writer) = tokio::io::split(socket);
                        Stream::new(reader, writer, origin)
                    }
                }
            }
        };
        let greeted = timeout(self.handshake, connection::greet(stream)).await;
        greeted.map_err(|_| HandshakeError::Stalled("the CONNECT"))
    }

    async fn websocket(
        &self,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        origin: Origin,
        encrypted: bool,
    ) -> Result<Stream, HandshakeError> {
        let settings = &self.broker.settings;
        let (origins, packet) = (&settings.origins, settings.limits.packet);
        let accepted = websocket::accept(socket, origins, encrypted, packet);
        let (socket, admitted) = self.in_time("the WebSocket handshake", accepted).await?;
        let (reader, writer) = tokio::io::split(socket);
        let stream = Stream::new(reader, writer, origin).over_websocket();
        Ok(stream.telling(admitted))
    }

    async fn in_time<T>(
        &self,
        step: &'static str,
        future: impl Future<Output = io::Result<T>>,
    ) -> Result<T, HandshakeError> {
        match timeout(self.handshake, future).await {
            Ok(done) => done.map_err(|why| HandshakeError::Failed { step, why }),
            Err(_) => Err(HandshakeError::Stalled(step)),
        }
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // A peer that vanished without a word is noticed even if it promised no keep-alive of its own.
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}
