//! One client's connection: its CONNECT, then a reader and a writer that do not wait for each other.

mod aliases;
mod batch;
mod joining;
mod reading;
mod stream;
mod will;
mod writing;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::DisconnectReasonCode;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::access::admission::Principal;
use crate::access::audit::Source;
use crate::allowance::Pace;
use crate::broker::Broker;
use crate::clock;
use crate::delivery::session::{Attachment, Session};
use crate::delivery::wills::{Departed, Will};
use crate::delivery::wire::Goodbye;
use crate::metrics::meters::{Carrier, Connected};
use crate::order::router_link::RouterError;
use crate::protocol::packet::{Decoder, Incoming, IncomingConnect, PacketError, Version};

use aliases::Aliases;
use batch::Batch;
use joining::{Denial, connect_refusal, refuse};
pub use stream::{Origin, Stream};
use stream::{Reader, Writer};
pub use will::publish_due;

/// Bytes of the largest CONNECT: a client id, a user name and a login token fit many times over.
const MAX_CONNECT: usize = 8 * 1024;

/// How long a last word may take.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// Bytes of a client that are read to no effect after its end.
const HEARD_OUT: usize = 1024 * 1024;

/// Bytes asked for at first, on the stack, and of a client that has filled them.
const READ_AT_FIRST: usize = 16 * 1024;
const READ_AT_ONCE: usize = 64 * 1024;

/// Why a connection ended, for the log and for an MQTT 5 client.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Packet(#[from] PacketError),
    #[error("{}", .0.text)]
    Refused(Goodbye),
    #[error("the client disconnected")]
    Disconnected,
    #[error("the client closed the connection without a DISCONNECT")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("nothing was heard for one and a half times the keep-alive")]
    KeepAlive,
    #[error("the connection was ended by the broker")]
    Closed,
    #[error("{0}")]
    Router(#[from] RouterError),
}

impl End {
    fn goodbye(&self) -> Option<Goodbye> {
        use DisconnectReasonCode as Reason;
        let reason = match self {
            End::Packet(PacketError::TooLarge(_)) => Reason::PacketTooLarge,
            End::Packet(
                PacketError::ConnectOutOfPlace
                | PacketError::WrongType(_)
                | PacketError::Forbidden(_),
            ) => Reason::ProtocolError,
            End::Packet(PacketError::TopicAliasZero) => Reason::TopicAliasInvalid,
            End::Packet(_) => Reason::MalformedPacket,
            End::Refused(goodbye) => return Some(goodbye.clone()),
            End::KeepAlive => Reason::KeepAliveTimeout,
            End::Router(_) => Reason::UnspecifiedError,
            End::Disconnected | End::Eof | End::Io(_) | End::Closed => return None,
        };
        Some(Goodbye::new(reason, self.to_string()))
    }
}

/// A client that has sent its CONNECT and waits for the answer.
pub struct Greeting {
    input: Input,
    writer: Writer,
    origin: Origin,
    admitted: CancellationToken,
    is_websocket: bool,
    connect: IncomingConnect,
}

/// Waits for a client's CONNECT, for as long as the caller does; what comes instead gets the standards' answer, if they
/// have one.
pub async fn greet(stream: Stream) -> Option<Greeting> {
    let Stream {
        reader,
        mut writer,
        origin,
        admitted,
        is_websocket,
    } = stream;
    let mut input = Input {
        reader,
        buffer: BytesMut::new(),
        flows: false,
        decoder: Decoder::new(MAX_CONNECT),
    };
    match input.connect().await {
        Ok(connect) => Some(Greeting {
            input,
            writer,
            origin,
            admitted,
            is_websocket,
            connect,
        }),
        Err(end) => {
            tracing::debug!(peer = %origin.address, %end, "not a CONNECT");
            if let End::Packet(error) = &end
                && let Some((version, code)) = connect_refusal(error, input.decoder.version())
            {
                refuse(&mut writer, version, code, &error.to_string(), None).await;
            }
            None
        }
    }
}

impl Greeting {
    /// Lets the client in, or turns it away.
    pub async fn join(
        self,
        broker: Arc<Broker>,
        shutdown: CancellationToken,
    ) -> Option<Box<Connection>> {
        let Greeting {
            mut input,
            mut writer,
            origin:
                Origin {
                    address: peer,
                    channel,
                    ration,
                },
            admitted,
            is_websocket,
            connect,
        } = self;
        let version = connect.version;
        let carrier = match (channel.binding.is_empty(), is_websocket) {
            (true, false) => Carrier::Tcp,
            (false, false) => Carrier::Tls,
            (true, true) => Carrier::WebSocket,
            (false, true) => Carrier::SecureWebSocket,
        };
        let properties = connect.properties.as_ref();
        let max_packet = properties.and_then(|properties| properties.max_packet_size);
        match Joined::join(&broker, &channel, ration, connect, &shutdown).await {
            Ok(joined) => {
                admitted.cancel();
                input.decoder.set_max_packet(broker.settings.limits.packet);
                let Joined {
                    principal,
                    session,
                    attachment,
                    ..
                } = &joined;
                let wire = Arc::clone(&attachment.wire);
                tracing::info!(%peer, %principal, client = ?session.key().client_id, ?version, "connected");
                Some(Box::new(Connection {
                    writing: tokio::spawn(writing::write(writer, wire, Arc::clone(session))),
                    _connected: broker.entrance.connected(version, carrier),
                    joined,
                    input,
                    peer,
                }))
            }
            Err(Denial { code, text }) => {
                tracing::info!(%peer, reason = text, "not let in");
                refuse(&mut writer, version, code, &text, max_packet).await;
                None
            }
        }
    }
}

/// A connection whose client was let in.
pub struct Connection {
    joined: Joined,
    input: Input,
    peer: SocketAddr,
    writing: JoinHandle<()>,
    _connected: Connected,
}

impl Connection {
    /// Serves it to its end.
    pub async fn run(mut self: Box<Self>) {
        let mut batch = Batch::default();
        let ended = self.joined.read(&mut self.input, &mut batch).await;
        let end = ended.err().unwrap_or(End::Closed);
        // Boxed, as everything that is not for long: a connection that is only there takes little.
        Box::pin(self.part(batch, end)).await;
    }

    /// Says why it ends, if there is a way to say it, and lets go of the session.
    async fn part(self: Box<Self>, batch: Batch, end: End) {
        let Connection {
            mut joined,
            mut input,
            peer,
            writing,
            _connected,
        } = *self;
        let end = joined.finish(&mut input, batch, end).await;
        let wire = Arc::clone(&joined.attachment.wire);
        let going_down = || {
            let goodbye = Goodbye::new(
                DisconnectReasonCode::ServerShuttingDown,
                "the broker is shutting down",
            );
            joined.shutdown.is_cancelled().then_some(goodbye)
        };
        let goodbye = end.goodbye().or_else(going_down);
        let told =
            wire.version() == Version::V5 && (goodbye.is_some() || matches!(end, End::Closed));
        match goodbye {
            Some(goodbye) => wire.close(goodbye),
            None => wire.hang_up(),
        }
        let last_word = wire.goodbye();
        let why = match (&end, last_word) {
            (End::Closed, Some(goodbye)) => goodbye.text,
            _ => end.to_string(),
        };
        let _ = writing.await;
        tracing::info!(%peer, principal = %joined.principal, client = ?joined.session.key().client_id, why, "ended");
        let stays = told && !joined.shutdown.is_cancelled();
        // The session is free, and the will on its way.
        drop(joined);
        if stays {
            input.hear_out().await;
        }
    }
}

/// The reading side: bytes in, packets out.
struct Input {
    reader: Reader,
    buffer: BytesMut,
    /// The last read filled what it was given.
    flows: bool,
    decoder: Decoder,
}

impl Input {
    async fn connect(&mut self) -> Result<IncomingConnect, End> {
        loop {
            match self.decoder.decode(&mut self.buffer)? {
                Some(Incoming::Connect(connect)) => return Ok(*connect),
                Some(_) => return Err(PacketError::ConnectOutOfPlace.into()),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        match poll_fn(|cx| self.poll_read(cx)).await {
            Ok(0) => Err(End::Eof),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads into a buffer on the stack first: who says nothing has none. Who fills it is read from directly for as long
    /// as there is more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.flows {
            self.buffer.reserve(READ_AT_ONCE);
            if let Poll::Ready(read) =
                poll_read_buf(Pin::new(&mut self.reader), cx, &mut self.buffer)
            {
                return Poll::Ready(read);
            }
            self.flows = false;
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            return Poll::Pending;
        }
        let mut first = [MaybeUninit::uninit(); READ_AT_FIRST];
        let mut first = ReadBuf::uninit(&mut first);
        ready!(Pin::new(&mut self.reader).poll_read(cx, &mut first))?;
        self.flows = first.remaining() == 0;
        // What was in the old one may still be carried somewhere, and would hold it.
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.buffer.extend_from_slice(first.filled());
        Poll::Ready(Ok(first.filled().len()))
    }
}

impl Input {
    /// Reads what a client still says, to no effect, until it hangs up: a socket that is closed with bytes unread is
    /// reset, and the client may never see why it was disconnected.
    async fn hear_out(&mut self) {
        let heard = async {
            let mut left = HEARD_OUT;
            while left > 0 && self.read().await.is_ok() {
                left = left.saturating_sub(self.buffer.len());
                self.buffer.clear();
            }
        };
        let _ = timeout(GOODBYE_WAIT, heard).await;
    }
}

/// A connection that has its session. Leaves the board when it is dropped, also by a panic.
struct Joined {
    broker: Arc<Broker>,
    principal: Principal,
    session: Arc<Session>,
    attachment: Attachment,
    keep_alive: Option<Duration>,
    /// How long the session is kept, as CONNECT asked and the broker granted.
    granted: Duration,
    /// The same when DISCONNECT changed it.
    expiry: Option<Duration>,
    aliases: Aliases,
    /// Messages of QoS 2 that were not released when the client connected: they are not this connection's.
    carried: usize,
    /// Few have one.
    will: Option<Box<Will>>,
    pace: Pace,
    shutdown: CancellationToken,
    /// For the audit log.
    source: Source,
    refusals: u32,
    _present: TaskTrackerToken,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.attachment.wire.hang_up();
        let wills = &self.broker.wills;
        let held = self.will.take().map(|will| {
            let departed = Departed {
                principal: self.principal.clone(),
                will: *will,
                session: Arc::downgrade(&self.session),
                wire: Arc::clone(&self.attachment.wire),
            };
            wills.hold(self.session.key(), departed)
        });
        let board = &self.broker.board;
        let departure = board.leave(&self.session, &self.attachment, self.expiry, clock::now());
        if let Some(held) = held {
            wills.settle(held, departure, self.expiry.unwrap_or(self.granted));
        }
    }
}

#[cfg(test)]
mod tests;
