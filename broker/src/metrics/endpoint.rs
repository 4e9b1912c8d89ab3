//! HTTP for those who look after the broker: `/metrics`, `/healthz`, `/readyz`. hyper speaks it; this is three answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
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

use super::exposition::{self, Exposition};
use super::pulse::Pulse;
use crate::broker::Broker;
use crate::lifetime::{Lifetime, Phase};

/// Connections at once: a few scrapers and probes. The next one waits.
const AT_ONCE: usize = 16;

/// How long a request may take to arrive.
const REQUEST_WAIT: Duration = Duration::from_secs(5);

/// How long one connection may take altogether; [`Pulse`] answers within 10 s.
const CONNECTION_WAIT: Duration = Duration::from_secs(20);

/// Bytes of the largest request that is read; scrapers send a few hundred.
const MAX_REQUEST: usize = 16 * 1024;

/// What is told, and of whom.
#[derive(Debug)]
pub struct Observer {
    life: Arc<Lifetime>,
    running: OnceLock<(Exposition, Pulse)>,
}

impl Observer {
    /// Of a broker that starts.
    #[must_use]
    pub fn new(life: Arc<Lifetime>) -> Observer {
        Observer {
            life,
            running: OnceLock::new(),
        }
    }

    /// From now on there is something to tell.
    pub fn observe(&self, broker: &Arc<Broker>) {
        let _ = self
            .running
            .set((Exposition::of(broker), Pulse::of(Arc::clone(broker))));
    }

    /// Whether router and journal work; what is still starting is not sick.
    ///
    /// # Errors
    /// [`super::pulse::Sick`].
    pub async fn feel(&self) -> Result<(), super::pulse::Sick> {
        match self.running.get() {
            Some((_, pulse)) => pulse.feel().await,
            None => Ok(()),
        }
    }

    async fn answer(self: &Arc<Observer>, request: &Request<hyper::body::Incoming>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match request.uri().path() {
            "/healthz" => match self.feel().await {
                Ok(()) => Answer::text(StatusCode::OK, "alive"),
                Err(sick) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, &sick.to_string()),
            },
            "/readyz" => {
                let phase = self.life.phase();
                let status = match phase {
                    Phase::Ready => StatusCode::OK,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                Answer::text(status, phase.word())
            }
            "/metrics" => {
                let observer = Arc::clone(self);
                // Looks at every session.
                let written = tokio::task::spawn_blocking(move || {
                    let (exposition, _) = observer.running.get()?;
                    exposition.text().ok()
                });
                match written.await {
                    Ok(Some(text)) => Answer {
                        status: StatusCode::OK,
                        content_type: exposition::CONTENT_TYPE,
                        text,
                    },
                    _ => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
                }
            }
            _ => Answer::text(StatusCode::NOT_FOUND, "/metrics, /healthz, /readyz"),
        }
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
    pub async fn serve(self, observer: Arc<Observer>, end: CancellationToken) {
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
            let observer = Arc::clone(&observer);
            tokio::spawn(async move {
                if timeout(CONNECTION_WAIT, converse(socket, observer))
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

async fn converse(socket: TcpStream, observer: Arc<Observer>) {
    let service = service_fn(move |request| {
        let observer = Arc::clone(&observer);
        async move { Ok::<_, Infallible>(observer.answer(&request).await.into_response()) }
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
