//! HTTP for those who look after a daemon: `/metrics`, `/healthz`, `/readyz`. hyper speaks it; this is three answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Observed;
use crate::pen::CONTENT_TYPE as OPEN_METRICS;

/// Connections at once: a few scrapers and probes. The next one waits.
const AT_ONCE: usize = 16;

/// How long a request may take to arrive.
const REQUEST_WAIT: Duration = Duration::from_secs(5);

/// How long one connection may take altogether; a daemon says within 10 s whether it lives.
const CONNECTION_WAIT: Duration = Duration::from_secs(20);

/// Bytes of the largest request that is read; scrapers send a few hundred.
const MAX_REQUEST: usize = 16 * 1024;

async fn answer<O: Observed>(
    observed: &Arc<O>,
    request: &Request<hyper::body::Incoming>,
) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    match request.uri().path() {
        "/healthz" => match observed.feel().await {
            Ok(()) => Answer::text(StatusCode::OK, "alive"),
            Err(sick) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, &sick),
        },
        "/readyz" => match observed.is_ready() {
            (true, word) => Answer::text(StatusCode::OK, &word),
            (false, word) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, &word),
        },
        "/metrics" => {
            let observed = Arc::clone(observed);
            // May look at very much.
            let written = tokio::task::spawn_blocking(move || observed.metrics());
            match written.await {
                Ok(Some(text)) => Answer {
                    status: StatusCode::OK,
                    content_type: OPEN_METRICS,
                    text,
                },
                _ => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            }
        }
        _ => Answer::text(StatusCode::NOT_FOUND, "/metrics, /healthz, /readyz"),
    }
}

struct Answer {
    status: StatusCode,
    content_type: &'static str,
    text: String,
}

impl Answer {
    fn text(status: StatusCode, text: &str) -> Answer {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            text: format!("{text}\n"),
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Where all this is served.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken, or not one of this machine's.
    pub async fn bind(address: SocketAddr) -> io::Result<Endpoint> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Endpoint { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end`.
    pub async fn serve<O: Observed>(self, observed: Arc<O>, end: CancellationToken) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = end.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "accepting for metrics");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let observed = Arc::clone(&observed);
            tokio::spawn(async move {
                if timeout(CONNECTION_WAIT, converse(socket, observed))
                    .await
                    .is_err()
                {
                    tracing::debug!("a connection for metrics took too long");
                }
                drop(place);
            });
        }
    }
}

async fn converse<O: Observed>(socket: TcpStream, observed: Arc<O>) {
    let service = service_fn(move |request| {
        let observed = Arc::clone(&observed);
        async move { Ok::<_, Infallible>(answer(&observed, &request).await.into_response()) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WAIT)
        // One request each: a place is not kept by whoever has nothing to ask.
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a request for metrics");
    }
}
