//! MQTT over WebSocket (RFC 6455; MQTT 5.0, section 6): the handshake, and a stream of MQTT's bytes out of frames, whose
//! borders mean nothing to MQTT. tungstenite does the protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::broker_url::BrokerUrl;
use crate::dial::{BoxStream, DialError, io_words};

/// The subprotocol's name (MQTT 5.0, section 6.0).
const SUBPROTOCOL: &str = "mqtt";

/// Bytes of the largest frame and message taken. Brokers may put all that waits into one.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Bytes of the largest frame sent.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// Bytes asked of the network at once.
const READ_BUFFER: usize = 16 * 1024;

/// Why there is no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketProblem {
    /// A web server that does not do WebSocket here.
    #[error("a web server answers there, and not with WebSocket (HTTP status {0})")]
    NotUpgraded(u16),
    /// A WebSocket that is not MQTT's.
    #[error("its WebSocket is not one for MQTT")]
    OtherProtocol,
    /// It does not speak HTTP.
    #[error("what answers there does not speak HTTP")]
    NotHttp,
    /// It closed the connection.
    #[error("it closed the connection in the WebSocket handshake")]
    Closed,
    /// The network failed.
    #[error("the connection broke in the WebSocket handshake: {0}")]
    Io(String),
    /// Something else.
    #[error("WebSocket failed: {0}")]
    Other(String),
}

/// Puts WebSocket on a stream.
pub(crate) async fn handshake(
    broker: &BrokerUrl,
    stream: BoxStream,
) -> Result<BoxStream, DialError> {
    let mut request = broker
        .to_string()
        .into_client_request()
        .map_err(|error| DialError::WebSocket(problem(error)))?;
    let mqtt = HeaderValue::from_static(SUBPROTOCOL);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, mqtt);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Each message goes out at once; a second one waits until it has.
        .write_buffer_size(0)
        .max_write_buffer_size(2 * WRITE_AT_ONCE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
        .await
        .map_err(|error| DialError::WebSocket(problem(error)))?;
    Ok(Box::new(WebSocketBytes {
        socket,
        unread: Bytes::new(),
    }))
}

fn problem(error: Error) -> WebSocketProblem {
    match error {
        Error::Http(response) => WebSocketProblem::NotUpgraded(response.status().as_u16()),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            WebSocketProblem::OtherProtocol
        }
        Error::Protocol(ProtocolError::HandshakeIncomplete) => WebSocketProblem::Closed,
        Error::Protocol(ProtocolError::HttparseError(_)) | Error::HttpFormat(_) => {
            WebSocketProblem::NotHttp
        }
        Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => WebSocketProblem::Closed,
            _ => WebSocketProblem::Io(io_words(&error)),
        },
        other => WebSocketProblem::Other(other.to_string()),
    }
}

/// A WebSocket, as the stream of MQTT bytes that its binary frames carry.
struct WebSocketBytes {
    socket: WebSocketStream<BoxStream>,
    unread: Bytes,
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

impl AsyncRead for WebSocketBytes {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An empty frame says nothing, and is not the end.
        while this.unread.is_empty() {
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                // MQTT 5.0, section 6.0: anything but a binary frame closes the connection.
                Some(Ok(Message::Text(_))) => {
                    let text = "a text frame, and MQTT comes in binary ones";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                // A broker that says goodbye and does not hang up is gone all the same.
                Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                // tungstenite answers them.
                Some(Ok(_)) => {}
            }
        }
        let length = this.unread.len().min(buf.remaining());
        buf.put_slice(this.unread.get(..length).unwrap_or_default());
        this.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketBytes {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &mut self.get_mut().socket;
        ready!(Pin::new(&mut *socket).poll_ready(cx)).map_err(into_io)?;
        let part = buf.get(..WRITE_AT_ONCE).unwrap_or(buf);
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(socket).start_send(message).map_err(into_io)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket)
            .poll_flush(cx)
            .map_err(into_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The close frame; the broker answers it and closes the connection.
        Pin::new(&mut self.get_mut().socket)
            .poll_close(cx)
            .map_err(into_io)
    }
}

#[cfg(test)]
mod tests;
