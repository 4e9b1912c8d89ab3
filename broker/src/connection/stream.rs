//! The bytes of a connection, whatever carries them.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::access::admission::Channel;

/// Both directions of a connection, in MQTT's bytes: TCP, TLS and WebSocket lie behind it.
pub struct Stream {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) origin: Origin,
    pub(super) admitted: CancellationToken,
}

/// Where a stream comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The address at the other end.
    pub address: SocketAddr,
    /// What admission asks of the way.
    pub channel: Channel,
}

pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Stream {
    /// A stream of two halves.
    #[must_use]
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        origin: Origin,
    ) -> Stream {
        Stream {
            reader: Box::new(reader),
            writer: Box::new(writer),
            origin,
            admitted: CancellationToken::new(),
        }
    }

    /// The same, with a token that is cancelled once the client is let in, for a transport that gives strangers less
    /// than others.
    #[must_use]
    pub fn telling(self, admitted: CancellationToken) -> Stream {
        Stream { admitted, ..self }
    }
}
