//! The bytes of a connection, whatever carries them.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::access::admission::Channel;
use crate::allowance::Ration;

/// Both directions of a connection, in MQTT's bytes: TCP, TLS and WebSocket lie behind it.
pub struct Stream {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) origin: Origin,
    pub(super) admitted: CancellationToken,
    pub(super) is_websocket: bool,
}

/// Where a stream comes from.
#[derive(Debug)]
pub struct Origin {
    /// The address at the other end.
    pub address: SocketAddr,
    /// What admission asks of the way.
    pub channel: Channel,
    /// The connection's part in what its address may do.
    pub ration: Ration,
}

impl Origin {
    /// Where a stream comes from whose address has no limits.
    #[must_use]
    pub fn new(address: SocketAddr, channel: Channel) -> Origin {
        Origin {
            address,
            channel,
            ration: Ration::unlimited(),
        }
    }
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
            is_websocket: false,
        }
    }

    /// The same, carried by a WebSocket.
    #[must_use]
    pub fn over_websocket(self) -> Stream {
        Stream {
            is_websocket: true,
            ..self
        }
    }

    /// The same, with a token that is cancelled once the client is let in, for a transport that gives strangers less
    /// than others.
    #[must_use]
    pub fn telling(self, admitted: CancellationToken) -> Stream {
        Stream { admitted, ..self }
    }
}
