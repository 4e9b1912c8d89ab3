//! The ways to a deployment: one broker's URL or several, tried in turn.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::broker_url::BrokerUrl;
use crate::connection::{self, ConnectionError, Hello, Login, Welcome};
use crate::dial::{BoxStream, ChannelBinding, DialError, Dialled, Dialler, Network};
use crate::packets::{Incoming, Outgoing};
use crate::proxy::Proxy;
use crate::tls::{TlsFiles, TlsFilesError};
use crate::version::Version;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;

/// How long a broker may take to answer a CONNECT.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The brokers of a deployment and how to reach them. Clones share which one worked last, and that one is tried first.
#[derive(Clone)]
pub struct Route {
    first: BrokerUrl,
    others: Arc<[BrokerUrl]>,
    /// Which worked last; 0 is the first.
    worked: Arc<AtomicUsize>,
    /// Which of them speak no MQTT 5, as far as is known.
    older: Arc<[AtomicBool]>,
    dialler: Arc<dyn Dialler>,
    tls: TlsFiles,
}

/// A connection that stands.
#[derive(Debug)]
pub struct Connection {
    /// To which broker.
    pub broker: BrokerUrl,
    /// What comes in.
    pub incoming: Incoming<ReadHalf<BoxStream>>,
    /// What goes out.
    pub outgoing: Outgoing<WriteHalf<BoxStream>>,
    /// What the broker said.
    pub welcome: Welcome,
}

/// One broker that did not work.
#[derive(Debug)]
pub struct Attempt {
    /// Which.
    pub broker: BrokerUrl,
    /// Why.
    pub error: ConnectionError,
}

/// Why there is no connection: what came of each broker that was tried.
#[derive(Debug)]
pub struct ConnectError {
    /// The last attempt; the decisive one when a broker has answered.
    pub last: Attempt,
    /// Those before it.
    pub before: Vec<Attempt>,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.before.is_empty() || self.last.error.is_final() {
            return write!(f, "{}", self.last.error);
        }
        for Attempt { broker, error } in &self.before {
            write!(f, "{broker}: {error}; ")?;
        }
        write!(f, "{}: {}", self.last.broker, self.last.error)
    }
}

impl std::error::Error for ConnectError {}

impl Route {
    /// To `first` or one of `others`, over the network.
    #[must_use]
    pub fn new(first: BrokerUrl, others: Vec<BrokerUrl>, tls: TlsFiles, proxy: Proxy) -> Route {
        let network = Network {
            tls: tls.clone(),
            proxy,
        };
        Route {
            tls,
            ..Route::over(first, others, Arc::new(network))
        }
    }

    /// Over something else that opens streams.
    #[must_use]
    pub fn over(first: BrokerUrl, others: Vec<BrokerUrl>, dialler: Arc<dyn Dialler>) -> Route {
        Route {
            older: older(1 + others.len()),
            first,
            others: others.into(),
            worked: Arc::default(),
            dialler,
            tls: TlsFiles::default(),
        }
    }

    /// Checks the files that TLS will need, if it is needed at all.
    ///
    /// # Errors
    /// See [`TlsFilesError`].
    pub fn check(&self) -> Result<(), TlsFilesError> {
        let mut brokers = self.brokers();
        if brokers.any(|broker| broker.transport().is_encrypted()) {
            self.tls.load()?;
        }
        Ok(())
    }

    /// The files that decide whom TLS trusts and who we are.
    #[must_use]
    pub fn tls_files(&self) -> &TlsFiles {
        &self.tls
    }

    /// All brokers.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerUrl> {
        std::iter::once(&self.first).chain(self.others.iter())
    }

    /// The same way to one broker alone.
    #[must_use]
    pub fn only(&self, broker: &BrokerUrl) -> Route {
        Route {
            first: broker.clone(),
            others: Arc::default(),
            worked: Arc::default(),
            older: older(1),
            dialler: Arc::clone(&self.dialler),
            tls: self.tls.clone(),
        }
    }

    /// Opens a stream to the current broker, and says nothing on it.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self) -> Result<Dialled, DialError> {
        self.dialler.dial(self.current()).await
    }

    /// The broker that worked last, or the first.
    #[must_use]
    pub fn current(&self) -> &BrokerUrl {
        let worked = self.worked.load(Ordering::Relaxed);
        self.brokers().nth(worked).unwrap_or(&self.first)
    }

    /// Whether any of the ways is open to others: no TLS, and not this machine.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.brokers().any(BrokerUrl::is_exposed)
    }

    /// Tries each broker once, the one that worked last first. `login` is asked for each stream that opens.
    ///
    /// # Errors
    /// When none works, or one refuses in a way that asking another would not change.
    pub async fn connect(
        &self,
        hello: &Hello,
        login: &mut (dyn FnMut(&ChannelBinding) -> Login + Send),
    ) -> Result<Connection, ConnectError> {
        let start = self.worked.load(Ordering::Relaxed);
        let order = self.brokers().enumerate().skip(start);
        let order = order.chain(self.brokers().enumerate().take(start));
        let mut before: Vec<Attempt> = Vec::new();
        for (place, broker) in order {
            let error = match self.connect_at(place, broker, hello, login).await {
                Ok(connection) => {
                    self.worked.store(place, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => error,
            };
            tracing::debug!(%broker, %error, "no connection");
            let attempt = Attempt {
                broker: broker.clone(),
                error,
            };
            let last = attempt.error.is_final() || before.len() == self.others.len();
            if last {
                return Err(ConnectError {
                    last: attempt,
                    before,
                });
            }
            before.push(attempt);
        }
        // There is at least one broker, and the last one returns above.
        Err(ConnectError {
            last: Attempt {
                broker: self.first.clone(),
                error: ConnectionError::Ended,
            },
            before,
        })
    }

    /// In MQTT 5, and in MQTT 3.1.1 with who says that they do not speak it.
    async fn connect_at(
        &self,
        place: usize,
        broker: &BrokerUrl,
        hello: &Hello,
        login: &mut (dyn FnMut(&ChannelBinding) -> Login + Send),
    ) -> Result<Connection, ConnectionError> {
        let older = self.older.get(place);
        if !older.is_some_and(|older| older.load(Ordering::Relaxed)) {
            match self.connect_to(broker, Version::V5, hello, login).await {
                Err(ConnectionError::Refused {
                    code:
                        ConnectReturnCode::RefusedProtocolVersion
                        | ConnectReturnCode::UnsupportedProtocolVersion,
                    ..
                }) => tracing::debug!(%broker, "speaks no MQTT 5"),
                other => return other,
            }
        }
        let connected = self.connect_to(broker, Version::V311, hello, login).await;
        if let Some(older) = older {
            // A broker that is away may come back as another one.
            older.store(connected.is_ok(), Ordering::Relaxed);
        }
        connected
    }

    async fn connect_to(
        &self,
        broker: &BrokerUrl,
        version: Version,
        hello: &Hello,
        login: &mut (dyn FnMut(&ChannelBinding) -> Login + Send),
    ) -> Result<Connection, ConnectionError> {
        let Dialled {
            stream, binding, ..
        } = self.dialler.dial(broker).await?;
        let (reader, writer) = tokio::io::split(stream);
        let mut incoming = Incoming::new(reader, hello.max_packet, hello.read_ahead);
        let mut outgoing = Outgoing::new(writer);
        let login = login(&binding);
        let signing_in = connection::sign_in(&mut incoming, &mut outgoing, version, hello, login);
        let welcome = timeout(ANSWER_TIME, signing_in)
            .await
            .unwrap_or(Err(ConnectionError::TimedOut("CONNECT")))?;
        Ok(Connection {
            broker: broker.clone(),
            incoming,
            outgoing,
            welcome,
        })
    }
}

fn older(brokers: usize) -> Arc<[AtomicBool]> {
    (0..brokers).map(|_| AtomicBool::new(false)).collect()
}

/// All brokers, with commas between them.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.others
            .iter()
            .try_for_each(|other| write!(f, ",{other}"))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({self})")
    }
}

#[cfg(test)]
mod tests;
