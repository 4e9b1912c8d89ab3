//! TCP to a broker: direct, or through an HTTP (CONNECT) or SOCKS5 proxy.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::broker_url::BrokerUrl;
use crate::dial::{DialError, io_words};

/// How long the addresses of a host may take together. IPv6 and IPv4 are tried beside each other (RFC 8305).
const ADDRESSES_TIME: Duration = Duration::from_secs(9);

/// The port of a proxy whose URL has none, as curl has it.
const DEFAULT_PORT: u16 = 1080;

/// Which proxy to go through.
#[derive(Clone)]
pub struct Proxy(Choice);

#[derive(Clone)]
enum Choice {
    Direct,
    /// One for all brokers.
    Always(Arc<Matcher>),
    /// Those of the environment, with its exceptions.
    Environment(Arc<Matcher>),
}

/// Why a proxy's URL is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a proxy is http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before the host if it wants a login, or `none`"
)]
pub struct ProxyUrlError;

/// Why a proxy did not let us through.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It cannot be reached.
    #[error("cannot reach the proxy {proxy}: {why}")]
    Unreachable {
        /// Host and port.
        proxy: String,
        /// What the operating system said.
        why: String,
    },
    /// It wants to know who we are, or does not believe it.
    #[error("the proxy {proxy} wants another login")]
    Login {
        /// Host and port.
        proxy: String,
    },
    /// It does not connect us.
    #[error("the proxy {proxy} does not connect to {broker}: {why}")]
    Refused {
        /// Host and port.
        proxy: String,
        /// The broker's host and port.
        broker: String,
        /// What it said.
        why: String,
    },
    /// The environment names a proxy of a kind that is not known here.
    #[error("the proxy {proxy} is of a kind that is not supported: {scheme}")]
    Kind {
        /// Host and port.
        proxy: String,
        /// Its URL's scheme.
        scheme: String,
    },
}

impl Proxy {
    /// None, whatever the environment says.
    #[must_use]
    pub fn direct() -> Proxy {
        Proxy(Choice::Direct)
    }

    /// What `ALL_PROXY` and `HTTPS_PROXY` say, less what `NO_PROXY` excepts, as for curl. This machine's own brokers are
    /// always reached directly.
    #[must_use]
    pub fn from_environment() -> Proxy {
        Proxy(Choice::Environment(Arc::new(Matcher::from_env())))
    }

    /// One proxy for all brokers, or `none`.
    ///
    /// # Errors
    /// When the text is not a proxy's URL.
    pub fn parse(text: &str) -> Result<Proxy, ProxyUrlError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("none") {
            return Ok(Proxy::direct());
        }
        let matcher = Matcher::builder().all(text.to_owned()).build();
        let proxy = matcher.intercept(&target("broker.invalid:443").ok_or(ProxyUrlError)?);
        let proxy = proxy.ok_or(ProxyUrlError)?;
        match (proxy.uri().scheme_str(), proxy.uri().host()) {
            (Some("http" | "socks5" | "socks5h"), Some(host)) if !host.is_empty() => {
                Ok(Proxy(Choice::Always(Arc::new(matcher))))
            }
            _ => Err(ProxyUrlError),
        }
    }

    fn to(&self, broker: &BrokerUrl, target: &Uri) -> Option<Intercept> {
        match &self.0 {
            Choice::Direct => None,
            Choice::Environment(_) if broker.is_loopback() => None,
            Choice::Always(matcher) | Choice::Environment(matcher) => matcher.intercept(target),
        }
    }
}

/// Without the login that its URL may have.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Choice::Direct => "Direct",
            Choice::Always(_) => "Always(…)",
            Choice::Environment(_) => "Environment(…)",
        })
    }
}

/// What HTTP's libraries want to be given: the broker as if it were a web server.
fn target(authority: &str) -> Option<Uri> {
    Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query(PathAndQuery::from_static("/"))
        .build()
        .ok()
}

/// Opens TCP.
pub(crate) async fn connect_tcp(broker: &BrokerUrl, proxy: &Proxy) -> Result<TcpStream, DialError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(ADDRESSES_TIME));
    let authority = broker.authority();
    let no_uri = || DialError::NoSuchHost {
        host: broker.host(),
        why: "it is not the name of a host".to_owned(),
    };
    let target = target(&authority).ok_or_else(no_uri)?;
    let Some(proxy) = proxy.to(broker, &target) else {
        return call(&mut connector, target)
            .await
            .map_err(|error| of_tcp(broker, &error));
    };
    let address = proxy_authority(proxy.uri());
    let scheme = proxy.uri().scheme_str().unwrap_or_default().to_owned();
    tracing::debug!(proxy = %address, %broker, "going through a proxy");
    let through = self::target(&address).ok_or_else(no_uri)?;
    match scheme.as_str() {
        "http" => {
            let mut tunnel = Tunnel::new(through, connector);
            if let Some(login) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(login.clone());
            }
            let tunnelled = call(&mut tunnel, target).await;
            tunnelled.map_err(|error| of_tunnel(&error, address, authority))
        }
        "socks5" | "socks5h" => {
            // The proxy resolves the broker's name: our resolver may not know it.
            let mut socks = SocksV5::new(through, connector);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            let connected = call(&mut socks, target).await;
            connected.map_err(|error| of_socks(&error, address, authority))
        }
        _ => Err(DialError::Proxy(ProxyError::Kind {
            proxy: address,
            scheme,
        })),
    }
}

async fn call<S>(service: &mut S, uri: Uri) -> Result<TcpStream, S::Error>
where
    S: Service<Uri, Response = TokioIo<TcpStream>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(uri).await.map(TokioIo::into_inner)
}

fn proxy_authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
    format!("{host}:{port}")
}

/// The innermost error, which is the operating system's.
fn root_cause<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

fn cause_words(error: &(dyn std::error::Error + 'static)) -> String {
    match root_cause(error).downcast_ref::<io::Error>() {
        Some(error) => io_words(error),
        None => root_cause(error).to_string(),
    }
}

fn of_tcp(broker: &BrokerUrl, error: &(dyn std::error::Error + 'static)) -> DialError {
    // hyper's connector says which step it was in words only.
    if error.to_string() == "dns error" {
        return DialError::NoSuchHost {
            host: broker.host(),
            why: cause_words(error),
        };
    }
    DialError::Tcp(match root_cause(error).downcast_ref::<io::Error>() {
        Some(cause) => match cause.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(cause.kind(), cause.to_string()),
        },
        None => io::Error::other(error.to_string()),
    })
}

fn of_tunnel<E: std::error::Error + 'static>(
    error: &E,
    proxy: String,
    broker: String,
) -> DialError {
    // Its kinds are not named outside hyper; what it says is all there is.
    DialError::Proxy(match error.to_string().as_str() {
        "tunnel error: proxy authorization required" => ProxyError::Login { proxy },
        "tunnel error: failed to create underlying connection" => ProxyError::Unreachable {
            proxy,
            why: cause_words(error),
        },
        said => ProxyError::Refused {
            proxy,
            broker,
            why: match error.source() {
                Some(_) => cause_words(error),
                None if said.ends_with("unsuccessful") => "it answered with an error".to_owned(),
                None => said.trim_start_matches("tunnel error: ").to_owned(),
            },
        },
    })
}

fn of_socks<E: std::error::Error + 'static>(error: &E, proxy: String, broker: String) -> DialError {
    let said = error.to_string();
    DialError::Proxy(
        if said.contains("credentials") || said.contains("authentication") {
            ProxyError::Login { proxy }
        } else if said.contains("underlying connection") {
            ProxyError::Unreachable {
                proxy,
                why: cause_words(error),
            }
        } else {
            ProxyError::Refused {
                proxy,
                broker,
                why: said,
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_http_or_socks5_and_its_login_is_never_shown() {
        for url in [
            "http://proxy.example:3128",
            "proxy.example:3128",
            "socks5://alice:secret@[::1]:1080",
            "socks5h://proxy.example",
        ] {
            let proxy = Proxy::parse(url).unwrap();
            assert!(matches!(proxy.0, Choice::Always(_)), "{url}");
            assert!(!format!("{proxy:?}").contains("secret"));
        }
        assert!(matches!(Proxy::parse("none").unwrap().0, Choice::Direct));
        for url in [
            "",
            "https://proxy.example",
            "socks4://proxy.example:1",
            "ftp://x",
            "http://",
        ] {
            assert_eq!(Proxy::parse(url).unwrap_err(), ProxyUrlError, "{url}");
        }
    }

    #[test]
    fn a_named_proxy_is_for_every_broker_and_the_environments_never_for_our_own() {
        let matcher = Arc::new(Matcher::builder().all("http://proxy.example:3128").build());
        let through = |choice: Choice, url: &str| {
            let broker: BrokerUrl = url.parse().unwrap();
            let proxy = Proxy(choice).to(&broker, &target(&broker.authority()).unwrap());
            proxy.is_some()
        };
        for url in [
            "mqtt://b.example",
            "wss://b.example",
            "mqtts://[2001:db8::1]",
        ] {
            assert!(through(Choice::Always(Arc::clone(&matcher)), url), "{url}");
            assert!(
                through(Choice::Environment(Arc::clone(&matcher)), url),
                "{url}"
            );
        }
        for url in ["mqtt://localhost", "ws://127.0.0.1", "mqtts://[::1]"] {
            assert!(through(Choice::Always(Arc::clone(&matcher)), url), "{url}");
            assert!(
                !through(Choice::Environment(Arc::clone(&matcher)), url),
                "{url}"
            );
        }
    }
}
