//! The ways to a deployment, as a person writes them on a command line or into a file.

use std::path::PathBuf;

use crate::broker_url::{BrokerUrl, BrokerUrlError};
use crate::proxy::{Proxy, ProxyUrlError};
use crate::route::Route;
use crate::tls::{ClientCertificate, TlsFiles};

/// More brokers than this are a slip, and would make each round of attempts long.
const MOST_BROKERS: usize = 16;

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct RouteOptions {
    /// The brokers' URLs; each text may have several, with commas between them.
    pub brokers: Vec<String>,
    /// The file with the authorities that may certify the broker.
    pub ca: Option<PathBuf>,
    /// The file with our own certificate.
    pub client_cert: Option<PathBuf>,
    /// The file with its key.
    pub client_key: Option<PathBuf>,
    /// The proxy's URL or `none`; without it, what the environment says.
    pub proxy: Option<String>,
}

/// Why that is no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteOptionsError {
    /// No broker at all.
    #[error("no broker is given")]
    NoBroker,
    /// A broker's address is malformed.
    #[error("{url:?} is not a broker's address: {source}")]
    Broker {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: BrokerUrlError,
    },
    /// A list without end.
    #[error("more than {MOST_BROKERS} brokers are given")]
    TooManyBrokers,
    /// A certificate without its key, or the reverse.
    #[error("a client certificate needs both files: --client-cert and --client-key")]
    HalfACertificate,
    /// The proxy's URL is malformed. It is not repeated: there may be a password in it.
    #[error("that is not a proxy: {0}")]
    Proxy(#[from] ProxyUrlError),
}

impl RouteOptions {
    /// Reads what was written. No file is opened.
    ///
    /// # Errors
    /// See [`RouteOptionsError`].
    pub fn parse(self) -> Result<Route, RouteOptionsError> {
        let mut brokers = Vec::new();
        for url in self.brokers.iter().flat_map(|text| text.split(',')) {
            let url = url.trim();
            let broker: BrokerUrl = url.parse().map_err(|source| RouteOptionsError::Broker {
                url: url.to_owned(),
                source,
            })?;
            if !brokers.contains(&broker) {
                brokers.push(broker);
            }
        }
        if brokers.len() > MOST_BROKERS {
            return Err(RouteOptionsError::TooManyBrokers);
        }
        let client = match (self.client_cert, self.client_key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            _ => return Err(RouteOptionsError::HalfACertificate),
        };
        let proxy = match &self.proxy {
            Some(proxy) => Proxy::parse(proxy)?,
            None => Proxy::from_environment(),
        };
        let tls = TlsFiles {
            ca: self.ca,
            client,
        };
        // Last, so that who needs no broker is still told of the other mistakes.
        let mut brokers = brokers.into_iter();
        let first = brokers.next().ok_or(RouteOptionsError::NoBroker)?;
        Ok(Route::new(first, brokers.collect(), tls, proxy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(brokers: &[&str]) -> RouteOptions {
        RouteOptions {
            brokers: brokers.iter().map(|&url| url.to_owned()).collect(),
            ..RouteOptions::default()
        }
    }

    #[test]
    fn brokers_come_repeated_or_with_commas_and_each_once() {
        let route = options(&["mqtts://a, wss://b/x", "mqtts://a:8883"])
            .parse()
            .unwrap();
        assert_eq!(route.to_string(), "mqtts://a:8883,wss://b:443/x");
        assert_eq!(route.current().to_string(), "mqtts://a:8883");
        assert!(!route.is_exposed());
        assert!(
            options(&["mqtts://a", "mqtt://b"])
                .parse()
                .unwrap()
                .is_exposed()
        );
    }

    #[test]
    fn each_mistake_names_itself() {
        use RouteOptionsError::*;
        let error = |options: RouteOptions| options.parse().unwrap_err();
        assert_eq!(error(options(&[])), NoBroker);
        assert_eq!(
            error(options(&["mqtts://a,nowhere"])),
            Broker {
                url: "nowhere".into(),
                source: BrokerUrlError::NoScheme
            }
        );
        let many: Vec<String> = (0..=MOST_BROKERS)
            .map(|n| format!("mqtts://h{n}"))
            .collect();
        assert_eq!(error(options(&[&many.join(",")])), TooManyBrokers);
        assert_eq!(
            error(RouteOptions {
                client_cert: Some("client.pem".into()),
                ..options(&["mqtts://a"])
            }),
            HalfACertificate
        );
        let wrong = error(RouteOptions {
            proxy: Some("ftp://alice:secret@h".into()),
            ..options(&["mqtts://a"])
        });
        assert!(!wrong.to_string().contains("secret"));
    }
}
