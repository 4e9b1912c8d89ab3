//! Keeps one subscription to every inbox and every key bundle alive over as many connections as it takes, hands what
//! arrives to the committer, and acknowledges what comes back from there.
//!
//! One task owns the connection and its acknowledgements, so an acknowledgement can never be sent
//! over another connection than its message came by: receipts of an earlier connection are dropped,
//! and the broker, which sends those messages again, has its acknowledgement when they turn out to
//! be archived already. Receipts come in the order of arrival, and are sent in that order.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Filter, Packet, PingReq, Publish, Subscribe,
};
use sealpost_core::TopicFilter;
use sealpost_mqtt::{
    Attempt, Backoff, ChannelBinding, ConnectError, Connection, ConnectionError, Hello, Incoming,
    KeepAlive, Login, Outgoing, Route, Welcome, check_granted, close, closed, unexpected,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::arrival::{Arrival, Receipt};
use crate::health::Health;
use crate::known_signers::KnownSigners;
use crate::share_name::ShareName;
use crate::work::Work;

/// The largest packet taken, in bytes. An envelope with its topic needs a tenth of it; a broker
/// that allows more than Sealpost's own would drop larger messages for this subscriber without a
/// word (MQTT 5, section 3.1.2.11.4), so this is generous.
const MAX_PACKET: u32 = 1 << 20;

/// How many messages the broker may send ahead of acknowledgements: all that MQTT allows, since a
/// consumer that acknowledges after a sync gets no more than this many a sync.
const RECEIVE_MAXIMUM: u16 = u16::MAX;

/// The session and what waits in it are to stay however long the archiver is away (MQTT 5, section
/// 3.1.2.11.2). The broker may set its own limit.
const SESSION_NEVER_EXPIRES: u32 = u32::MAX;

/// The keep-alive asked for.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Room made before each read, in bytes.
const READ_AHEAD: usize = 256 << 10;

/// The packet identifier of the one SUBSCRIBE of a connection.
const SUBSCRIBE_ID: u16 = 1;

/// How long the broker may take to answer the SUBSCRIBE.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a stop waits for the disk and the broker before it gives the rest up. What is not
/// acknowledged by then comes again.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// How much may be between the network and the disk, in bytes. Past it the archiver stops reading,
/// and the broker keeps the rest.
const MAX_IN_FLIGHT: usize = 64 << 20;

/// Makes the login of one connection, for the TLS channel that it has.
pub type SignIn = Box<dyn FnMut(&ChannelBinding) -> Login + Send>;

/// Called each time the broker has granted the subscription.
pub type OnSubscribed = Box<dyn FnMut() + Send>;

/// The committer ended before it was told to: the disk failed. It has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the committer ended")]
pub struct CommitterGone;

/// One subscription to every inbox.
pub struct Subscription {
    broker: Route,
    client_id: String,
    filters: Vec<String>,
    sign_in: SignIn,
    on_subscribed: OnSubscribed,
    arrivals: UnboundedSender<Work>,
    receipts: UnboundedReceiver<Vec<Receipt>>,
    health: Arc<Health>,
    signers: KnownSigners,
    /// Bytes held by arrivals whose receipt has not come back.
    in_flight: usize,
    /// The number of the current connection.
    connection: u64,
    /// Whether this archive has been subscribed before, so that the broker should have a session
    /// for it.
    known: bool,
    backoff: Backoff,
}

/// Why serving a connection ended without an error.
enum Ended {
    Stopped,
    CommitterGone,
}

impl Subscription {
    /// A subscription at `broker`, in the session named `client_id`. `known` says whether the archive was subscribed there in an
    /// earlier life.
    #[must_use]
    pub fn new(
        broker: Route,
        client_id: String,
        sign_in: SignIn,
        on_subscribed: OnSubscribed,
        arrivals: UnboundedSender<Work>,
        receipts: UnboundedReceiver<Vec<Receipt>>,
        known: bool,
    ) -> Subscription {
        Subscription {
            broker,
            client_id,
            filters: filters(None),
            sign_in,
            on_subscribed,
            arrivals,
            receipts,
            health: Arc::default(),
            signers: KnownSigners::default(),
            in_flight: 0,
            connection: 0,
            known,
            backoff: Backoff::default(),
        }
    }

    /// Takes its part of the inboxes in the shared subscription `group` (MQTT 5, section 4.8.2), instead of all of them.
    #[must_use]
    pub fn sharing(mut self, group: Option<&ShareName>) -> Subscription {
        self.filters = filters(group);
        self
    }

    /// Tells `health` how it goes.
    #[must_use]
    pub fn telling(mut self, health: Arc<Health>) -> Subscription {
        self.health = health;
        self
    }

    /// Changes the waits between attempts to connect.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Subscription {
        self.backoff = backoff;
        self
    }

    /// Runs until `stop` is cancelled, connecting again for ever. Then it lets the committer finish
    /// what has arrived, acknowledges that, and disconnects.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), CommitterGone> {
        loop {
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = stop.cancelled() => return self.drain().await,
            };
            let error = match connected {
                Err(error) => error,
                Ok(Connection {
                    broker,
                    mut incoming,
                    mut outgoing,
                    welcome,
                }) => match self
                    .serve(&mut incoming, &mut outgoing, &welcome, &stop)
                    .await
                {
                    Ok(Ended::Stopped) => return self.finish(incoming, outgoing).await,
                    Ok(Ended::CommitterGone) => return Err(CommitterGone),
                    Err(error) => ConnectError {
                        last: Attempt { broker, error },
                        before: Vec::new(),
                    },
                },
            };
            self.health.away(&error.to_string());
            let wait = self.wait_after(&error.last.error);
            tracing::warn!(
                broker = %error.last.broker,
                "{error}; connecting again in {:.1} s{}",
                wait.as_secs_f64(),
                advice(&error).map_or_else(String::new, |advice| format!("; {advice}"))
            );
            let again_at = Instant::now() + wait;
            loop {
                tokio::select! {
                    () = sleep_until(again_at) => break,
                    () = stop.cancelled() => return self.drain().await,
                    receipts = self.receipts.recv() => match receipts {
                        Some(receipts) => self.release(&receipts),
                        None => return Err(CommitterGone),
                    },
                }
            }
        }
    }

    fn wait_after(&mut self, error: &ConnectionError) -> Duration {
        if let ConnectionError::Closed {
            code: DisconnectReasonCode::SessionTakenOver,
            ..
        } = error
        {
            // Two who connect again at once would take the session from each other without end.
            self.backoff.jump_to_longest();
        }
        self.backoff.next_wait()
    }

    async fn connect(&mut self) -> Result<Connection, ConnectError> {
        let hello = Hello {
            client_id: self.client_id.clone(),
            session_expiry: Some(SESSION_NEVER_EXPIRES),
            receive_maximum: RECEIVE_MAXIMUM,
            max_packet: MAX_PACKET,
            keep_alive: KEEP_ALIVE,
            read_ahead: READ_AHEAD,
        };
        let connecting = self.broker.connect(&hello, &mut *self.sign_in);
        let connection = Box::pin(connecting).await?;
        tracing::info!(broker = %connection.broker, version = %connection.welcome.version, "connected");
        self.connection += 1;
        Ok(connection)
    }

    /// Serves one connection until it fails or `stop` is cancelled.
    async fn serve<R, W>(
        &mut self,
        incoming: &mut Incoming<R>,
        outgoing: &mut Outgoing<W>,
        welcome: &Welcome,
        stop: &CancellationToken,
    ) -> Result<Ended, ConnectionError>
    where
        R: tokio::io::AsyncRead + Unpin,
        W: tokio::io::AsyncWrite + Unpin,
    {
        if self.known && !welcome.session_present {
            tracing::warn!(
                "the broker has no session for this archive: what was sent while it was away may be missing"
            );
        }
        if let Some(expiry) = welcome.session_expiry {
            tracing::info!(
                "the broker keeps mail for an absent archiver for {} s at most",
                expiry.as_secs()
            );
        }
        let filters: Vec<Filter> = self
            .filters
            .iter()
            .map(|filter| Filter::new(filter.clone(), QoS::AtLeastOnce))
            .collect();
        let mut subscribe = Subscribe::new_many(filters, None);
        subscribe.pkid = SUBSCRIBE_ID;
        outgoing.push(&Packet::Subscribe(subscribe))?;
        let mut subscribed = false;
        let subscribed_by = sleep(SUBSCRIBE_PATIENCE);
        tokio::pin!(subscribed_by);

        let mut keep_alive = KeepAlive::new(welcome.keep_alive, KEEP_ALIVE);

        loop {
            while self.has_room() {
                let Some(packet) = incoming.next_packet()? else {
                    break;
                };
                match packet {
                    Packet::Publish(publish) => self.take_in(publish)?,
                    Packet::SubAck(answer) => {
                        check_granted(answer, SUBSCRIBE_ID, self.filters.len())?;
                        subscribed = true;
                        self.known = true;
                        self.backoff.reset();
                        self.health.subscribed();
                        (self.on_subscribed)();
                    }
                    Packet::PingResp(_) => {}
                    Packet::Disconnect(goodbye) => return Err(closed(goodbye)),
                    other => return Err(unexpected(&other)),
                }
            }
            let reading = self.has_room();
            tokio::select! {
                // In this order, so that acknowledgements leave before more is taken in, and
                // nothing can starve a stop or a ping.
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = keep_alive.due() => {
                    keep_alive.ping(reading)?;
                    outgoing.push(&Packet::PingReq(PingReq))?;
                }
                () = &mut subscribed_by, if !subscribed => return Err(ConnectionError::TimedOut("SUBSCRIBE")),
                receipts = self.receipts.recv() => match receipts {
                    Some(receipts) => self.acknowledge(&receipts, outgoing)?,
                    None => return Ok(Ended::CommitterGone),
                },
                sent = outgoing.send_some(), if !outgoing.is_empty() => sent?,
                filled = incoming.fill(), if reading => {
                    filled?;
                    keep_alive.heard();
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT
    }

    fn take_in(&mut self, publish: Publish) -> Result<(), ConnectionError> {
        let packet_id = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(publish.pkid),
            // Nothing above the QoS 1 that was asked for may come (MQTT 5, section 3.8.4).
            QoS::ExactlyOnce => return Err(ConnectionError::Unexpected("PUBLISH with QoS 2")),
        };
        let arrival = Arrival::knowing(
            publish.topic,
            publish.payload,
            self.connection,
            packet_id,
            &mut self.signers,
        );
        self.in_flight += arrival.receipt.cost;
        // A committer that is gone closes the receipts too, and that is where it is noticed.
        let _ = self.arrivals.send(arrival.into());
        Ok(())
    }

    fn acknowledge<W>(
        &mut self,
        receipts: &[Receipt],
        outgoing: &mut Outgoing<W>,
    ) -> Result<(), ConnectionError>
    where
        W: tokio::io::AsyncWrite + Unpin,
    {
        self.release(receipts);
        let here = receipts
            .iter()
            .filter(|receipt| receipt.connection == self.connection);
        for packet_id in here.filter_map(|receipt| receipt.packet_id) {
            outgoing.acknowledge(packet_id)?;
        }
        Ok(())
    }

    fn release(&mut self, receipts: &[Receipt]) {
        let cost: usize = receipts.iter().map(|receipt| receipt.cost).sum();
        self.in_flight = self.in_flight.saturating_sub(cost);
    }

    /// Stops with a connection: what has arrived is archived and acknowledged.
    async fn finish<R, W>(
        mut self,
        mut incoming: Incoming<R>,
        mut outgoing: Outgoing<W>,
    ) -> Result<(), CommitterGone>
    where
        R: tokio::io::AsyncRead + Unpin,
        W: tokio::io::AsyncWrite + Unpin,
    {
        // The committer ends when it has done what is in the channel, and the receipts end with it.
        let (closed, _) = tokio::sync::mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.arrivals, closed));
        let goodbye = async {
            loop {
                tokio::select! {
                    biased;
                    receipts = self.receipts.recv() => match receipts {
                        Some(receipts) => self.acknowledge(&receipts, &mut outgoing)?,
                        None => return close(&mut incoming, &mut outgoing).await,
                    },
                    sent = outgoing.send_some(), if !outgoing.is_empty() => sent?,
                }
            }
        };
        match timeout(STOP_PATIENCE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                "{error} while disconnecting; the broker will send again what it has no acknowledgement for"
            ),
            Err(_) => tracing::warn!(
                "no end within {} s; the broker will send again what it has no acknowledgement for",
                STOP_PATIENCE.as_secs()
            ),
        }
        Ok(())
    }

    /// Stops without a connection: what has arrived is archived, and comes again.
    async fn drain(self) -> Result<(), CommitterGone> {
        let Subscription {
            arrivals,
            mut receipts,
            ..
        } = self;
        drop(arrivals);
        let _ = timeout(STOP_PATIENCE, async {
            while receipts.recv().await.is_some() {}
        })
        .await;
        Ok(())
    }
}

/// Every inbox, or a part of them in turn with others, and every key bundle. Bundles are never shared: each archive must be able to
/// prove whose its signatures are.
fn filters(group: Option<&ShareName>) -> Vec<String> {
    let inboxes = match group {
        None => TopicFilter::EveryInbox.to_string(),
        Some(group) => format!("$share/{group}/{}", TopicFilter::EveryInbox),
    };
    vec![inboxes, TopicFilter::EveryKeys.to_string()]
}

/// What the operator can do about an error, where that is not plain.
fn advice(error: &ConnectError) -> Option<String> {
    let ours = match &error.last.error {
        ConnectionError::Refused {
            code:
                ConnectReturnCode::BadUserNamePassword
                | ConnectReturnCode::NotAuthorized
                | ConnectReturnCode::Banned,
            ..
        } => Some(
            "does the broker know this archiver? `sealpost-archiver key` prints what its --archiver NAME=KEY needs",
        ),
        ConnectionError::Closed {
            code: DisconnectReasonCode::SessionTakenOver,
            ..
        } => Some("another archiver runs under the same name; give one of them another --name"),
        ConnectionError::NotGranted { .. } => {
            Some("does the broker list this archiver (--archiver NAME=KEY)?")
        }
        _ => None,
    };
    ours.map_or_else(
        || sealpost_mqtt::advice(error),
        |ours| Some(ours.to_owned()),
    )
}
