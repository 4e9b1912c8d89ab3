//! MQTT over WebSocket (RFC 6455; MQTT 5.0, section 6): the handshake, and a stream of MQTT's bytes out of frames.
//!
//! tungstenite does the protocol. This module decides who may open it, bounds what it holds, and takes frames for what they
//! are: borders that mean nothing to MQTT.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::http::header::{
    HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::origin::Origins;
use crate::allowance::bucket::{Bucket, Rate};

/// Bytes of the largest frame and of the largest message in fragments. Browsers' clients put all that waits into one.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Bytes taken from a client that has not logged in: the handshake's headers and a CONNECT fit many times over. What comes
/// beyond waits in the network.
const STRANGERS_BYTES: usize = 64 * 1024;

/// Bytes asked of the network at once. Small, because each connection keeps the buffer.
const READ_BUFFER: usize = 4 * 1024;

/// Bytes of the largest frame sent.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// Pings and pongs that a client may send: they are read and answered beside MQTT's own limits. A client that keeps its
/// connection alive sends one in many seconds.
const CONTROL_FRAMES: Rate = Rate {
    units: 600,
    period: Duration::from_secs(60),
};

/// Where MQTT is served; the rest is not ours.
const PATHS: [&str; 2] = ["/mqtt", "/"];

/// The subprotocol's name (MQTT 5.0, section 6.0).
const SUBPROTOCOL: &str = "mqtt";

/// A WebSocket, as the stream of MQTT bytes that its binary frames carry.
pub struct WebSocketBytes<S> {
    socket: WebSocketStream<Gate<S>>,
    unread: Bytes,
    control_frames: Bucket,
}

/// Answers a WebSocket handshake. Cancelling the token ends the restraint that strangers are under.
///
/// # Errors
/// When it is no handshake, or is refused; the client has been told in HTTP.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    origins: &Origins,
    encrypted: bool,
    largest_packet: usize,
) -> io::Result<(WebSocketBytes<S>, CancellationToken)> {
    let admitted = CancellationToken::new();
    let socket = Gate {
        inner: socket,
        left: STRANGERS_BYTES,
        opened: Box::pin(admitted.clone().cancelled_owned()),
    };
    // One packet and its fixed header always fit.
    let largest = Some(MAX_MESSAGE.max(largest_packet + 5));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Each message goes out at once; a second one waits until it has.
        .write_buffer_size(0)
        .max_write_buffer_size(2 * WRITE_AT_ONCE)
        .max_message_size(largest)
        .max_frame_size(largest);
    let doorkeeper = Doorkeeper { origins, encrypted };
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(socket, doorkeeper, Some(config)).await;
    let socket = WebSocketBytes {
        socket: socket.map_err(into_io)?,
        unread: Bytes::new(),
        control_frames: Bucket::full(CONTROL_FRAMES, Instant::now()),
    };
    Ok((socket, admitted))
}

/// Looks at the request of a handshake.
struct Doorkeeper<'a> {
    origins: &'a Origins,
    encrypted: bool,
}

impl Callback for Doorkeeper<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if !PATHS.contains(&request.uri().path()) {
            return Err(refusal(StatusCode::NOT_FOUND, "MQTT is served at /mqtt\n"));
        }
        let headers = request.headers();
        let (Ok(origin), Ok(host)) = (single(headers, &ORIGIN), single(headers, &HOST)) else {
            return Err(refusal(
                StatusCode::BAD_REQUEST,
                "one Origin and one Host at most, in ASCII\n",
            ));
        };
        if !self.origins.admit(origin, host, self.encrypted) {
            return Err(refusal(
                StatusCode::FORBIDDEN,
                "pages of this origin may not connect; the broker's `origins` setting lists those that may\n",
            ));
        }
        if !offers_mqtt(headers) {
            return Err(refusal(
                StatusCode::BAD_REQUEST,
                "Sec-WebSocket-Protocol has to offer \"mqtt\"\n",
            ));
        }
        response.headers_mut().insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        Ok(response)
    }
}

/// A header's value; an error when there are several, or it is not ASCII.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().map_err(drop));
    if values.next().is_some() {
        return Err(());
    }
    value.transpose()
}

fn offers_mqtt(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    offers
        .filter_map(|offers| offers.to_str().ok())
        .flat_map(|offers| offers.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL)
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.into()));
    *response.status_mut() = status;
    response
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketBytes<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An empty frame says nothing, and is not the end.
        while this.unread.is_empty() {
            let message = match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(message) => message.map_err(into_io)?,
            };
            match message {
                Message::Binary(bytes) => this.unread = bytes,
                Message::Text(_) => {
                    // MQTT 5.0, section 6.0: anything but a binary frame closes the connection.
                    return Poll::Ready(Err(invalid("a text frame; MQTT comes in binary ones")));
                }
                // tungstenite has answered it.
                Message::Ping(_) | Message::Pong(_) => {
                    let now = Instant::now();
                    if !this.control_frames.is_ready(now) {
                        return Poll::Ready(Err(invalid(
                            "more pings and pongs than anybody needs",
                        )));
                    }
                    this.control_frames.take(1, now);
                }
                Message::Close(_) | Message::Frame(_) => {}
            }
        }
        let length = this.unread.len().min(buf.remaining());
        buf.put_slice(this.unread.get(..length).unwrap_or_default());
        this.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketBytes<S> {
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
        let socket = &mut self.get_mut().socket;
        ready!(Pin::new(&mut *socket).poll_close(cx)).map_err(into_io)?;
        Pin::new(socket.get_mut()).poll_shutdown(cx)
    }
}

/// Lets so many bytes in, and the rest once it is opened.
struct Gate<S> {
    inner: S,
    left: usize,
    opened: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == 0 {
            ready!(this.opened.as_mut().poll(cx));
            this.left = usize::MAX;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        // One read more than asked for is at most a buffer more.
        this.left = this.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
