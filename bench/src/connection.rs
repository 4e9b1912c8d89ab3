//! One MQTT connection on a blocking socket: big reads and writes, and every wait bounded.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::loopback::LoopbackAddr;
use crate::packet::{self, Credentials, DISCONNECT, MAX_PACKET, Packet, PacketError, Qos};

/// How long one blocking read or write lasts before its thread looks at the time again.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Bytes of a read buffer at first: enough for 250 messages of 1 KiB in one system call.
pub(crate) const READ_BUFFER: usize = 256 * 1024;

/// When a run gives up waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The end of the whole run, come what may.
    pub(crate) deadline: Instant,
    /// How long nothing may happen before that is a stall.
    pub(crate) patience: Duration,
}

impl Limits {
    /// A run of `whole` from now that bears a silence of `patience`.
    pub(crate) fn from_now(whole: Duration, patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + whole,
            patience,
        }
    }

    /// Whether a wait since `since` has become too long.
    pub(crate) fn exceeded(&self, since: Instant) -> Option<ConnectionError> {
        let now = Instant::now();
        if now >= self.deadline {
            return Some(ConnectionError::Deadline);
        }
        let silent = now.saturating_duration_since(since);
        (silent >= self.patience).then_some(ConnectionError::Stalled(silent))
    }
}

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// Nobody answers there.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The address.
        addr: LoopbackAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The broker refused the CONNECT.
    #[error("the broker refused the connection of {client_id:?} with CONNACK code {code}")]
    Refused {
        /// Who asked.
        client_id: String,
        /// The return code of section 3.2.2.3.
        code: u8,
    },
    /// The broker refused a filter.
    #[error("the broker refused the subscription to {0:?}")]
    FilterRefused(String),
    /// The broker sent something that has no place here.
    #[error("the broker answered with {0} where {1} had to come")]
    Unexpected(String, &'static str),
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// Nothing moved for too long.
    #[error("STALLED: nothing moved for {:.1} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The whole run took too long.
    #[error("STALLED: the run's deadline came first")]
    Deadline,
    /// The broker's bytes are not MQTT.
    #[error("the broker sent {0}")]
    Packet(#[from] PacketError),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// How to introduce a connection to the broker.
pub(crate) struct Introduction<'a> {
    /// The client id.
    pub(crate) client_id: &'a str,
    /// Whether the broker forgets the session with the connection.
    pub(crate) clean_session: bool,
    /// User name and password, if the broker asks for them.
    pub(crate) credentials: Option<&'a Credentials>,
}

/// A connection whose CONNECT was accepted.
pub(crate) struct Connection {
    stream: TcpStream,
    limits: Limits,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    end: usize,
}

impl Connection {
    /// Connects and waits for the CONNACK. `read_buffer` is how many bytes one read takes at most.
    pub(crate) fn open(
        addr: LoopbackAddr,
        introduction: &Introduction<'_>,
        limits: Limits,
        read_buffer: usize,
    ) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect_timeout(&addr.socket(), limits.patience)
            .map_err(|source| ConnectionError::Connect { addr, source })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
        let mut connection = Self {
            stream,
            limits,
            buffer: vec![0; read_buffer],
            start: 0,
            end: 0,
        };
        let mut connect = Vec::with_capacity(512);
        packet::put_connect(
            &mut connect,
            introduction.client_id,
            introduction.clean_session,
            introduction.credentials,
        );
        connection.send(&connect)?;
        match connection.wait_for_packet()? {
            Packet::ConnAck { code: 0 } => Ok(connection),
            Packet::ConnAck { code } => Err(ConnectionError::Refused {
                client_id: introduction.client_id.to_owned(),
                code,
            }),
            other => Err(ConnectionError::Unexpected(format!("{other:?}"), "CONNACK")),
        }
    }

    /// Subscribes to one filter and waits for the SUBACK. To be called before any message can come.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: Qos) -> Result<(), ConnectionError> {
        let mut subscribe = Vec::with_capacity(filter.len() + 16);
        packet::put_subscribe(&mut subscribe, 1, filter, qos);
        self.send(&subscribe)?;
        match self.wait_for_packet()? {
            Packet::SubAck { id: 1, code } if code == qos.bits() => Ok(()),
            Packet::SubAck { .. } => Err(ConnectionError::FilterRefused(filter.to_owned())),
            other => Err(ConnectionError::Unexpected(format!("{other:?}"), "SUBACK")),
        }
    }

    /// Writes all of `bytes`, within the limits.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        let mut moved = Instant::now();
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    moved = Instant::now();
                }
                Err(error) if is_pause(&error) => match self.limits.exceeded(moved) {
                    Some(exceeded) => return Err(exceeded),
                    None => continue,
                },
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(())
    }

    /// One read: how many bytes came, 0 when none did for a [`TICK`].
    pub(crate) fn fill(&mut self) -> Result<usize, ConnectionError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let longer = (2 * self.buffer.len()).clamp(1024, 2 * MAX_PACKET);
            self.buffer.resize(longer, 0);
        }
        match self
            .stream
            .read(self.buffer.get_mut(self.end..).unwrap_or_default())
        {
            Ok(0) => Err(ConnectionError::Closed),
            Ok(read) => {
                self.end += read;
                Ok(read)
            }
            Err(error) if is_pause(&error) => Ok(0),
            Err(error) => Err(lost(error)),
        }
    }

    /// One read that does not wait: how many bytes came, 0 when there are none.
    pub(crate) fn fill_now(&mut self) -> Result<usize, ConnectionError> {
        self.stream.set_nonblocking(true)?;
        let filled = self.fill();
        self.stream.set_nonblocking(false)?;
        filled
    }

    /// The next packet that has come whole.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet<'_>>, ConnectionError> {
        match packet::decode(self.buffer.get(self.start..self.end).unwrap_or_default())? {
            Some((packet, length)) => {
                self.start += length;
                Ok(Some(packet))
            }
            None => Ok(None),
        }
    }

    /// The next packet, waited for within the limits.
    fn wait_for_packet(&mut self) -> Result<Packet<'_>, ConnectionError> {
        let asked = Instant::now();
        while packet::decode(self.buffer.get(self.start..self.end).unwrap_or_default())?.is_none() {
            if self.fill()? == 0
                && let Some(exceeded) = self.limits.exceeded(asked)
            {
                return Err(exceeded);
            }
        }
        self.next_packet()?.ok_or(ConnectionError::Closed)
    }

    /// Waits within the limits for a packet that is wanted; others are passed over.
    pub(crate) fn wait_for<T>(
        &mut self,
        wanted: impl Fn(&Packet<'_>) -> Option<T>,
    ) -> Result<T, ConnectionError> {
        let asked = Instant::now();
        loop {
            while let Some(packet) = self.next_packet()? {
                if let Some(found) = wanted(&packet) {
                    return Ok(found);
                }
            }
            if self.fill()? == 0
                && let Some(exceeded) = self.limits.exceeded(asked)
            {
                return Err(exceeded);
            }
        }
    }

    /// The limits this connection keeps.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Says goodbye.
    pub(crate) fn close(mut self) {
        // Whoever closes has all it wants: a broker that has gone already is no news.
        let _ = self.send(&DISCONNECT);
    }
}

/// Whether an error only says that a [`TICK`] passed.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// A broker that goes away may do so with a reset.
fn lost(error: io::Error) -> ConnectionError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            ConnectionError::Closed
        }
        _ => ConnectionError::Io(error),
    }
}
