//! One client's connection: its CONNECT, then a reader and a writer that do not wait for each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, Packet,
    PingResp, QoS, SubAck, SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admission::Principal;
use crate::board::{BoardError, SessionKey, Subscription};
use crate::broker::Broker;
use crate::clock;
use crate::dispatcher::Ticket;
use crate::message::{Outcome, Receipt};
use crate::packet::{
    Decoder, Incoming, IncomingConnect, IncomingPublish, PacketError, Version, encode,
};
use crate::permission::{Permitted, Refused};
use crate::router_link::{RouterError, Submission};
use crate::session::{Attachment, Filled, Session};
use crate::topic_name::{FilterName, TopicName};
use crate::wire::{Goodbye, RECEIVE_MAXIMUM, Wire};

/// How long a client may take to say CONNECT, so that half-open connections do not pile up.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Bytes of the largest CONNECT: a client id, a user name and a login token fit many times over.
const MAX_CONNECT: usize = 8 * 1024;

/// Bytes of the longest client id. It is kept for as long as the session.
const MAX_CLIENT_ID: usize = 256;

/// How long one write to a client may take. A client that reads nothing for so long is gone or stuck; if its session is
/// durable it finds its mail when it comes back.
const WRITE_WAIT: Duration = Duration::from_secs(30);

/// How long a last word may take.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// Bytes gathered for one write.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// Bytes asked for at first, and of a client that has filled them.
const READ_AT_FIRST: usize = 2 * 1024;
const READ_AT_ONCE: usize = 64 * 1024;

/// Publishes that go into the one order together at most.
const BATCH: usize = 256;

/// Why a connection ended, for the log and for an MQTT 5 client.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Packet(#[from] PacketError),
    #[error("{}", .0.text)]
    Refused(Goodbye),
    #[error("the client disconnected")]
    Disconnected,
    #[error("the client closed the connection without a DISCONNECT")]
    Eof,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("nothing was heard for one and a half times the keep-alive")]
    KeepAlive,
    #[error("the connection was ended by the broker")]
    Closed,
    #[error("{0}")]
    Router(#[from] RouterError),
}

impl End {
    fn goodbye(&self) -> Option<Goodbye> {
        use DisconnectReasonCode as Reason;
        let reason = match self {
            End::Packet(PacketError::TooLarge(_)) => Reason::PacketTooLarge,
            End::Packet(PacketError::ConnectOutOfPlace | PacketError::WrongType(_)) => {
                Reason::ProtocolError
            }
            End::Packet(_) => Reason::MalformedPacket,
            End::Refused(goodbye) => return Some(goodbye.clone()),
            End::KeepAlive => Reason::KeepAliveTimeout,
            End::Router(_) => Reason::UnspecifiedError,
            End::Disconnected | End::Eof | End::Io(_) | End::Closed => return None,
        };
        Some(Goodbye::new(reason, self.to_string()))
    }
}

/// Serves a connection to its end.
pub async fn serve(stream: TcpStream, broker: Arc<Broker>, shutdown: CancellationToken) {
    let peer = stream
        .peer_addr()
        .map(|peer| peer.to_string())
        .unwrap_or_default();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(peer, %error, "a connection that is gone already");
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut input = Input {
        reader,
        buffer: BytesMut::new(),
        decoder: Decoder::new(MAX_CONNECT),
    };

    let connect = tokio::select! {
        () = shutdown.cancelled() => return,
        connect = timeout(CONNECT_WAIT, input.connect()) => connect,
    };
    let connect = match connect {
        Ok(Ok(connect)) => connect,
        Ok(Err(end)) => {
            tracing::debug!(peer, %end, "not a CONNECT");
            if let End::Packet(PacketError::UnsupportedVersion(_)) = end {
                // MQTT 3.1.1, section 3.1.2.2: the one answer that clients of any version read.
                refuse(
                    &mut writer,
                    Version::V311,
                    ConnectReturnCode::RefusedProtocolVersion,
                    "",
                )
                .await;
            }
            return;
        }
        Err(_) => {
            tracing::debug!(peer, "no CONNECT in time");
            return;
        }
    };
    let version = connect.version;
    match Joined::join(&broker, connect, &shutdown).await {
        Ok(joined) => {
            input.decoder.set_max_packet(broker.settings.limits.packet);
            joined.run(input, writer, &peer).await;
        }
        Err(Denial { code, text }) => {
            tracing::info!(peer, reason = text, "not let in");
            refuse(&mut writer, version, code, &text).await;
        }
    }
}

/// A CONNECT that was turned away.
struct Denial {
    code: ConnectReturnCode,
    text: String,
}

fn deny<T>(code: ConnectReturnCode, text: impl Into<String>) -> Result<T, Denial> {
    Err(Denial {
        code,
        text: text.into(),
    })
}

async fn refuse(
    writer: &mut (impl AsyncWrite + Unpin),
    version: Version,
    code: ConnectReturnCode,
    text: &str,
) {
    let code = match (version, code) {
        (Version::V5, code) => code,
        // MQTT 3.1.1 knows five codes; the codec writes no other.
        (
            Version::V311,
            ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized,
        ) => code,
        (
            Version::V311,
            ConnectReturnCode::ServerUnavailable | ConnectReturnCode::QuotaExceeded,
        ) => ConnectReturnCode::ServiceUnavailable,
        (Version::V311, _) => ConnectReturnCode::NotAuthorized,
    };
    let properties = ConnAckProperties {
        reason_string: Some(text.to_owned()).filter(|text| !text.is_empty()),
        ..ConnAckProperties::default()
    };
    let mut out = BytesMut::new();
    if encode(
        version,
        Packet::ConnAck(
            ConnAck {
                session_present: false,
                code,
            },
            Some(properties),
        ),
        &mut out,
    )
    .is_ok()
    {
        let _ = timeout(GOODBYE_WAIT, async {
            writer.write_all(&out).await?;
            writer.shutdown().await
        })
        .await;
    }
}

/// The reading side: bytes in, packets out.
struct Input {
    reader: OwnedReadHalf,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Input {
    async fn connect(&mut self) -> Result<IncomingConnect, End> {
        loop {
            match self.decoder.decode(&mut self.buffer)? {
                Some(Incoming::Connect(connect)) => return Ok(*connect),
                Some(_) => return Err(PacketError::ConnectOutOfPlace.into()),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        // Little for an idle client, more for one that has more to say.
        let room = if self.buffer.len() >= READ_AT_FIRST {
            READ_AT_ONCE
        } else {
            READ_AT_FIRST
        };
        self.buffer.reserve(room);
        if self.reader.read_buf(&mut self.buffer).await? == 0 {
            Err(End::Eof)
        } else {
            Ok(())
        }
    }
}

/// A connection that has its session. Leaves the board when it is dropped, also by a panic.
struct Joined {
    broker: Arc<Broker>,
    principal: Principal,
    key: SessionKey,
    session: Arc<Session>,
    attachment: Attachment,
    keep_alive: Option<Duration>,
    expiry: Option<Duration>,
    shutdown: CancellationToken,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.attachment.wire.hang_up();
        self.broker
            .board
            .leave(&self.key, &self.session, &self.attachment, self.expiry);
    }
}

impl Joined {
    async fn join(
        broker: &Arc<Broker>,
        connect: IncomingConnect,
        shutdown: &CancellationToken,
    ) -> Result<Joined, Denial> {
        let IncomingConnect {
            version,
            connect,
            properties,
            will,
            login,
        } = connect;
        if connect.client_id.len() > MAX_CLIENT_ID || connect.client_id.contains('\0') {
            return deny(
                ConnectReturnCode::ClientIdentifierNotValid,
                format!("a client id has at most {MAX_CLIENT_ID} bytes and no NUL"),
            );
        }
        let principal = match &broker.admission {
            None => Principal::Anyone,
            Some(admission) => match admission
                .admit(login.as_ref(), &connect.client_id, clock::now())
                .await
            {
                Ok(principal) => principal,
                Err(denied) => return deny(denied.code(), denied.to_string()),
            },
        };
        if let Some(LastWill { .. }) = will {
            return deny(
                ConnectReturnCode::ImplementationSpecificError,
                "wills are not served yet; connect without one",
            );
        }
        let assigned = connect
            .client_id
            .is_empty()
            .then(|| format!("auto-{}", broker.next_client_number()));
        if assigned.is_some() && version == Version::V311 && !connect.clean_session {
            return deny(
                ConnectReturnCode::ClientIdentifierNotValid,
                "a session that is kept needs a client id",
            );
        }

        let longest = broker.settings.limits.session_expiry;
        let asked = properties
            .as_ref()
            .and_then(|properties| properties.session_expiry_interval);
        let granted = match version {
            Version::V5 => asked.unwrap_or(0).min(longest),
            Version::V311 if connect.clean_session => 0,
            Version::V311 => longest,
        };
        let wire = Arc::new(Wire::new(version, shutdown.child_token()));
        let attachment = Attachment {
            wire: Arc::clone(&wire),
            receive_maximum: properties
                .as_ref()
                .and_then(|properties| properties.receive_maximum),
            max_packet: properties
                .as_ref()
                .and_then(|properties| properties.max_packet_size),
        };
        if attachment.receive_maximum == Some(0) || attachment.max_packet == Some(0) {
            return deny(
                ConnectReturnCode::ProtocolError,
                "Receive Maximum and Maximum Packet Size are not 0",
            );
        }
        let key = SessionKey {
            owner: principal.owner(),
            client_id: assigned.clone().unwrap_or(connect.client_id),
        };
        let quota = match principal {
            Principal::User(_) => broker.settings.mailbox(),
            Principal::Archiver(_) | Principal::Anyone => broker.settings.archiver_queue(),
        };
        let expiry = Duration::from_secs(granted.into());
        let joined = broker.board.join(
            &key,
            connect.clean_session,
            expiry,
            quota,
            attachment.clone(),
        );
        let (session, session_present) = match joined {
            Ok(joined) => joined,
            Err(error) => return deny(ConnectReturnCode::QuotaExceeded, error.to_string()),
        };

        let properties = ConnAckProperties {
            session_expiry_interval: (asked.is_some_and(|asked| asked != granted))
                .then_some(granted),
            receive_max: Some(RECEIVE_MAXIMUM),
            max_qos: Some(1),
            max_packet_size: u32::try_from(broker.settings.limits.packet).ok(),
            assigned_client_identifier: assigned,
            shared_subscription_available: Some(0),
            ..ConnAckProperties::default()
        };
        let connack = ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
        };
        wire.answer(Packet::ConnAck(connack, Some(properties)));
        // One and a half times what the client promised; 0 turns the check off (MQTT 5.0, section 3.1.2.10).
        let keep_alive = Some(connect.keep_alive).filter(|seconds| *seconds > 0);
        let keep_alive =
            keep_alive.map(|seconds| Duration::from_millis(u64::from(seconds) * 1_500));
        Ok(Joined {
            broker: Arc::clone(broker),
            principal,
            key,
            session,
            attachment,
            keep_alive,
            expiry: None,
            shutdown: shutdown.clone(),
        })
    }

    async fn run(mut self, mut input: Input, writer: OwnedWriteHalf, peer: &str) {
        let wire = Arc::clone(&self.attachment.wire);
        tracing::info!(peer, principal = ?self.principal, client = ?self.key.client_id, version = ?wire.version(), "connected");
        let writing = tokio::spawn(write(writer, Arc::clone(&wire), Arc::clone(&self.session)));
        let end = self.read(&mut input).await.err().unwrap_or(End::Closed);
        let going_down = || {
            let goodbye = Goodbye::new(
                DisconnectReasonCode::ServerShuttingDown,
                "the broker is shutting down",
            );
            self.shutdown.is_cancelled().then_some(goodbye)
        };
        match end.goodbye().or_else(going_down) {
            Some(goodbye) => wire.close(goodbye),
            None => wire.hang_up(),
        }
        let why = match (&end, wire.goodbye()) {
            (End::Closed, Some(goodbye)) => goodbye.text,
            _ => end.to_string(),
        };
        let _ = writing.await;
        tracing::info!(peer, principal = ?self.principal, client = ?self.key.client_id, why, "ended");
    }

    /// Reads until the end, which it returns as the error.
    async fn read(&mut self, input: &mut Input) -> Result<std::convert::Infallible, End> {
        let wire = Arc::clone(&self.attachment.wire);
        let mut batch = Vec::new();
        loop {
            loop {
                if !wire.has_room() {
                    self.submit(&mut batch).await?;
                    self.wait(|wire| wire.has_room()).await?;
                }
                let Some(packet) = input.decoder.decode(&mut input.buffer)? else {
                    break;
                };
                match packet {
                    Incoming::Publish(publish) => {
                        self.publish(publish, &mut batch).await?;
                        if batch.len() >= BATCH {
                            self.submit(&mut batch).await?;
                        }
                    }
                    Incoming::PubAck(pkid) => self.session.acknowledge(&wire, pkid),
                    Incoming::Subscribe { pkid, filters, id } => {
                        self.submit(&mut batch).await?;
                        self.wait(|wire| wire.all_dispatched()).await?;
                        let return_codes = filters
                            .iter()
                            .map(|filter| self.subscribe(filter, id))
                            .collect();
                        wire.answer(Packet::SubAck(SubAck { pkid, return_codes }, None));
                    }
                    Incoming::Unsubscribe { pkid, filters } => {
                        let reasons = filters
                            .iter()
                            .map(|filter| self.unsubscribe(filter))
                            .collect();
                        wire.answer(Packet::UnsubAck(UnsubAck { pkid, reasons }, None));
                    }
                    Incoming::PingReq => wire.answer(Packet::PingResp(PingResp)),
                    Incoming::Disconnect(expiry) => {
                        self.submit(&mut batch).await?;
                        let longest = self.broker.settings.limits.session_expiry;
                        self.expiry =
                            expiry.map(|expiry| Duration::from_secs(expiry.min(longest).into()));
                        return Err(End::Disconnected);
                    }
                    Incoming::QoS2 => {
                        return Err(End::Refused(Goodbye::new(
                            DisconnectReasonCode::ProtocolError,
                            "no QoS 2 message is under way",
                        )));
                    }
                    Incoming::Connect(_) => return Err(PacketError::ConnectOutOfPlace.into()),
                }
            }
            self.submit(&mut batch).await?;
            let keep_alive = self.keep_alive.unwrap_or(Duration::MAX);
            tokio::select! {
                biased;
                () = wire.closed() => return Err(End::Closed),
                read = timeout(keep_alive, input.read()) => read.map_err(|_| End::KeepAlive)??,
            }
        }
    }

    async fn wait(&self, until: impl Fn(&Wire) -> bool) -> Result<(), End> {
        let wire = &self.attachment.wire;
        while !until(wire) {
            tokio::select! {
                () = wire.closed() => return Err(End::Closed),
                () = wire.room.notified() => {}
            }
        }
        Ok(())
    }

    async fn submit(&self, batch: &mut Vec<Submission<Ticket>>) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.broker.inlet.submit(std::mem::take(batch)).await?)
    }

    async fn publish(
        &self,
        publish: IncomingPublish,
        batch: &mut Vec<Submission<Ticket>>,
    ) -> Result<(), End> {
        let IncomingPublish {
            qos,
            retain,
            pkid,
            topic,
            payload,
            properties,
        } = publish;
        let refuse = |reason, text: &str| Err(End::Refused(Goodbye::new(reason, text)));
        if qos == QoS::ExactlyOnce {
            return refuse(
                DisconnectReasonCode::QoSNotSupported,
                "QoS 2 is not served yet; publish at QoS 1",
            );
        }
        if let Some(properties) = &properties {
            if properties.topic_alias.is_some() {
                return refuse(
                    DisconnectReasonCode::TopicAliasInvalid,
                    "topic aliases are not served",
                );
            }
            if !properties.subscription_identifiers.is_empty() {
                return refuse(
                    DisconnectReasonCode::ProtocolError,
                    "a client's PUBLISH has no subscription identifier",
                );
            }
        }
        let topic = match TopicName::parse(&topic) {
            Ok(topic) => topic,
            Err(error) => {
                return refuse(
                    DisconnectReasonCode::TopicNameInvalid,
                    &format!("topic: {error}"),
                );
            }
        };
        let wire = &self.attachment.wire;
        let slot = (qos == QoS::AtLeastOnce).then(|| wire.expect(pkid, payload.len()));
        let now = clock::now();
        let permitted = self
            .broker
            .permission
            .publish(&self.principal, &topic, &payload, retain, properties, now)
            .await;
        match permitted {
            Ok(Permitted {
                route,
                properties,
                turn,
            }) => {
                let receipt = slot.map(|slot| Arc::new(Receipt::new(Arc::clone(wire), slot)));
                let (origin, wire) = (Arc::clone(&self.session), Arc::clone(wire));
                wire.count_submitted();
                let rider = Ticket {
                    topic,
                    qos,
                    retain,
                    properties,
                    origin,
                    wire,
                    receipt,
                };
                batch.push(Submission {
                    route,
                    payload,
                    rider,
                });
                if turn.is_some() {
                    self.submit(batch).await?;
                }
            }
            Err(Refused { outcome, text }) => {
                tracing::info!(principal = ?self.principal, ?topic, ?outcome, text, "publish refused");
                match slot {
                    Some(slot) => wire.complete_with(slot, outcome, Some(text)),
                    // QoS 0 has no acknowledgement to say it in; 3.1.1 has no other word than the end.
                    None if wire.version() == Version::V311 => {
                        return refuse(refusal(outcome), &text);
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn subscribe(&self, asked: &Filter, id: Option<usize>) -> SubscribeReasonCode {
        let code = self.try_subscribe(asked, id);
        if !matches!(code, SubscribeReasonCode::Success(_)) {
            tracing::info!(principal = ?self.principal, filter = ?asked.path, ?code, "subscription refused");
            if self.attachment.wire.version() == Version::V311 {
                return SubscribeReasonCode::Failure;
            }
        }
        code
    }

    fn try_subscribe(&self, asked: &Filter, id: Option<usize>) -> SubscribeReasonCode {
        let Ok(filter) = FilterName::parse(&asked.path) else {
            return SubscribeReasonCode::TopicFilterInvalid;
        };
        let qos = match self
            .broker
            .permission
            .subscribe(&self.principal, &filter, asked.qos)
        {
            Ok(qos) => qos,
            Err(code) => return code,
        };
        let subscription = Subscription {
            qos,
            no_local: asked.nolocal,
            retain_as_published: asked.preserve_retain,
            id,
        };
        let rule = &asked.retain_forward_rule;
        match self
            .broker
            .board
            .subscribe(&self.key, &self.session, &filter, subscription, rule)
        {
            Ok(()) => SubscribeReasonCode::Success(qos),
            Err(BoardError::Subscriptions | BoardError::Sessions | BoardError::SessionsOfOwner) => {
                SubscribeReasonCode::QuotaExceeded
            }
        }
    }

    fn unsubscribe(&self, filter: &str) -> UnsubAckReason {
        match FilterName::parse(filter) {
            Ok(filter)
                if self
                    .broker
                    .board
                    .unsubscribe(&self.key, &self.session, &filter) =>
            {
                UnsubAckReason::Success
            }
            Ok(_) => UnsubAckReason::NoSubscriptionExisted,
            Err(_) => UnsubAckReason::TopicFilterInvalid,
        }
    }
}

fn refusal(outcome: Outcome) -> DisconnectReasonCode {
    match outcome {
        Outcome::Accepted => DisconnectReasonCode::NormalDisconnection,
        Outcome::NotAuthorized => DisconnectReasonCode::NotAuthorized,
        Outcome::TopicNameInvalid => DisconnectReasonCode::TopicNameInvalid,
        Outcome::QuotaExceeded => DisconnectReasonCode::QuotaExceeded,
        Outcome::PayloadFormatInvalid => DisconnectReasonCode::PayloadFormatInvalid,
    }
}

/// Writes whatever is due until the connection is closed.
async fn write(mut writer: OwnedWriteHalf, wire: Arc<Wire>, session: Arc<Session>) {
    let mut out = BytesMut::new();
    loop {
        wire.write_due(&mut out);
        let filled = if wire.is_closed() {
            Filled::Gone
        } else {
            session.fill(&wire, &mut out, WRITE_AT_ONCE)
        };
        if filled == Filled::Gone || wire.is_closed() {
            wire.write_goodbye(&mut out);
            let _ = timeout(GOODBYE_WAIT, async {
                writer.write_all(&out).await?;
                writer.shutdown().await
            })
            .await;
            break;
        }
        if out.is_empty() {
            wire.wake.notified().await;
            continue;
        }
        let written = tokio::select! {
            written = timeout(WRITE_WAIT, writer.write_all(&out)) => matches!(written, Ok(Ok(()))),
            // Whoever ends the connection does not wait for a client that does not read.
            () = async { wire.closed().await; tokio::time::sleep(GOODBYE_WAIT).await } => false,
        };
        if !written {
            break;
        }
        // An idle connection keeps no buffer.
        if filled == Filled::Idle {
            out = BytesMut::new()
        } else {
            out.clear()
        }
    }
    wire.hang_up();
}
