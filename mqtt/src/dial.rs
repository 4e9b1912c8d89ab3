//! A stream to a broker, over whatever its URL asks for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::broker_url::BrokerUrl;
use crate::proxy::{Proxy, ProxyError, connect_tcp};
use crate::tls::{self, Certificate, TlsFiles, TlsFilesError, TlsProblem};
use crate::websocket::{self, WebSocketProblem};

/// How long each step may take: TCP with a proxy if there is one, TLS, WebSocket.
const STEP_TIME: Duration = Duration::from_secs(10);

/// Anything that bytes go in and out of.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A stream of some kind.
pub type BoxStream = Box<dyn Stream>;

impl std::fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

/// What both ends of a TLS connection know and nobody else does: the exporter of RFC 9266. Empty without TLS.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChannelBinding(Vec<u8>);

impl ChannelBinding {
    /// The exporter's bytes.
    #[must_use]
    pub fn new(exporter: Vec<u8>) -> ChannelBinding {
        ChannelBinding(exporter)
    }

    /// For a login token.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelBinding({} bytes)", self.0.len())
    }
}

/// A stream that is open, before any MQTT.
pub struct Dialled {
    /// The stream.
    pub stream: BoxStream,
    /// What a login over it has to be bound to.
    pub binding: ChannelBinding,
    /// What the broker proved itself by, its own certificate first. Empty without TLS.
    pub certificates: Vec<Certificate>,
}

impl std::fmt::Debug for Dialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialled")
            .field("binding", &self.binding)
            .finish_non_exhaustive()
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is no such host.
    #[error("no address is known for {host}: {why}")]
    NoSuchHost {
        /// Which.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// The host does not take the connection.
    #[error("{}", io_words(.0))]
    Tcp(io::Error),
    /// A step took too long.
    #[error("{step} took longer than {} s", STEP_TIME.as_secs(), step = .0)]
    TimedOut(&'static str),
    /// The proxy does not do it.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The files for TLS are of no use.
    #[error(transparent)]
    Files(#[from] TlsFilesError),
    /// No TLS.
    #[error("{0}")]
    Tls(TlsProblem),
    /// No WebSocket.
    #[error("{0}")]
    WebSocket(WebSocketProblem),
}

/// The operating system's words without its number.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// Dialling, under way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Dialled, DialError>> + Send + 'a>>;

/// What opens streams: the network, or a test.
pub trait Dialler: Send + Sync {
    /// Opens a stream to this broker.
    fn dial<'a>(&'a self, broker: &'a BrokerUrl) -> Dialling<'a>;
}

/// The real one.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) tls: TlsFiles,
    pub(crate) proxy: Proxy,
}

impl Dialler for Network {
    fn dial<'a>(&'a self, broker: &'a BrokerUrl) -> Dialling<'a> {
        Box::pin(async move {
            let tcp = within("connecting", connect_tcp(broker, &self.proxy)).await?;
            let mut dialled = Dialled {
                stream: Box::new(tcp),
                binding: ChannelBinding::default(),
                certificates: Vec::new(),
            };
            if broker.transport().is_encrypted() {
                let handshake = tls::handshake(&self.tls, broker, dialled.stream);
                dialled = within("the TLS handshake", handshake).await?;
            }
            if broker.transport().is_websocket() {
                let handshake = websocket::handshake(broker, dialled.stream);
                dialled.stream = within("the WebSocket handshake", handshake).await?;
            }
            Ok(dialled)
        })
    }
}

async fn within<T>(
    step: &'static str,
    future: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout(STEP_TIME, future)
        .await
        .unwrap_or(Err(DialError::TimedOut(step)))
}
