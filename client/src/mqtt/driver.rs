//! The task behind a connection: one MQTT 5 connection after the other.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Filter, Packet, PingReq, Publish, Subscribe,
    SubscribeReasonCode, Unsubscribe,
};
use sealpost_core::MAX_ENVELOPE;
use sealpost_mqtt::{
    Backoff, ConnectError, Connection, ConnectionError, Hello, KeepAlive, Login, Outgoing, Words,
    advice, close, closed, goodbye_words, login_words, unexpected,
};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::error::{granted, publish_result, shown};
use super::window::{FIRST_OTHER_ID, Window, Write};
use super::{
    Connect, Credentials, Delivery, GOODBYE, MqttError, MqttEvent, Outbound, PublishError, Receipt,
    Request,
};

/// The largest packet we take, in bytes: an envelope and generous room for topic and properties. The broker is told.
const MAX_PACKET: u32 = MAX_ENVELOPE as u32 + 32_768;
/// What topic and MQTT header take of a packet at most, in bytes: names have at most 64.
const PACKET_OVERHEAD: usize = 256;
/// Room made before each read, in bytes: small, since a device has little.
const READ_AHEAD: usize = 16 * 1_024;
/// How much may wait to be written, in bytes, before more is written into it: beyond that the broker is slow.
const MOST_UNSENT: usize = 256 * 1_024;
/// How many subscriptions one packet ends: with the longest names 7 KB, which every broker takes.
const MOST_FILTERS: usize = 100;
/// How often an idle connection is checked, so that a dead one is noticed within a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long the answer to a subscription may take.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(10);
/// How long the broker keeps a durable session and its mail while we are away, in seconds.
const SESSION_EXPIRY: u32 = 30 * 24 * 60 * 60;

/// What the task knows.
pub(super) struct Driver {
    connect: Connect,
    credentials: Credentials,
    requests: mpsc::UnboundedReceiver<Request>,
    events: mpsc::Sender<MqttEvent>,
    /// Counts connections, so that a message is not acknowledged on another one than it came on.
    connection: u64,
    window: Window<(u64, Outbound)>,
    answers: HashMap<u64, oneshot::Sender<Result<(), PublishError>>>,
    next_ticket: u64,
    subscribed: Vec<String>,
    subscribing: VecDeque<Subscribing>,
    /// What the broker is to be told as soon as there is a connection.
    unsubscribing: Vec<String>,
    /// The packet id of the last thing that was not a publish.
    last_id: u16,
    max_packet: Option<u32>,
}

/// A subscribe under way; one at a time is with the broker.
struct Subscribing {
    filters: Vec<String>,
    answer: Option<oneshot::Sender<Result<(), MqttError>>>,
    /// When it was handed to the broker, and under which packet id.
    sent: Option<(Instant, u16)>,
}

/// A connection that is being served.
struct Live {
    connection: Connection,
    keep_alive: KeepAlive,
    /// What the other side of `events` has no room for yet. Nothing is read meanwhile.
    held: Option<MqttEvent>,
}

/// Why serving a connection stopped.
enum Stop {
    /// The connection was lost; connect again.
    Lost(String),
    /// There is no point in connecting again.
    Ended(MqttError),
    /// We were asked to stop.
    Goodbye,
}

impl Driver {
    pub(super) fn new(
        connect: Connect,
        credentials: Credentials,
        requests: mpsc::UnboundedReceiver<Request>,
        events: mpsc::Sender<MqttEvent>,
    ) -> Driver {
        Driver {
            connect,
            credentials,
            requests,
            events,
            connection: 0,
            window: Window::new(),
            answers: HashMap::new(),
            next_ticket: 0,
            subscribed: Vec::new(),
            subscribing: VecDeque::new(),
            unsubscribing: Vec::new(),
            last_id: FIRST_OTHER_ID,
            max_packet: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let ending = loop {
            let stop = match self.open().await {
                Ok(connection) => {
                    let since = Instant::now();
                    let stop = self.serve(connection).await;
                    backoff.connected_for(since.elapsed());
                    stop
                }
                Err(stop) => stop,
            };
            let problem = match stop {
                Stop::Lost(problem) => problem,
                Stop::Ended(error) => break error,
                Stop::Goodbye => return,
            };
            self.after_loss();
            let retry_in = backoff.next_wait();
            tracing::info!(?problem, ?retry_in, "disconnected");
            let event = MqttEvent::Disconnected { problem, retry_in };
            if self.events.send(event).await.is_err() {
                return;
            }
            if self.pause(retry_in).await {
                return;
            }
        };
        for (_, answer) in self.answers.drain() {
            let _ = answer.send(Err(ending.clone().into()));
        }
        for subscribing in self.subscribing.drain(..) {
            if let Some(answer) = subscribing.answer {
                let _ = answer.send(Err(ending.clone()));
            }
        }
        let _ = self.events.send(MqttEvent::Ended(ending)).await;
    }

    /// Connects and waits for the broker's answer. Requests wait meanwhile.
    async fn open(&mut self) -> Result<Connection, Stop> {
        let hello = Hello {
            client_id: self.connect.client_id.clone(),
            session_expiry: self.connect.durable.then_some(SESSION_EXPIRY),
            receive_maximum: self.connect.receive_maximum,
            max_packet: MAX_PACKET,
            keep_alive: KEEP_ALIVE,
            read_ahead: READ_AHEAD,
        };
        let credentials = &mut self.credentials;
        let mut login = |binding: &_| {
            let (user, password) = credentials(binding);
            Login { user, password }
        };
        let connecting = self.connect.route.connect(&hello, &mut login);
        let connection = match Box::pin(connecting).await {
            Ok(connection) => connection,
            Err(error) => return Err(self.not_connected(&error)),
        };
        let welcome = &connection.welcome;
        tracing::info!(broker = %connection.broker, version = %welcome.version, session_present = welcome.session_present, "connected");
        self.connection += 1;
        self.window
            .connected(welcome.receive_maximum, welcome.session_present);
        self.max_packet = welcome.max_packet;
        if !self.subscribed.is_empty() {
            self.subscribing.push_front(Subscribing {
                filters: self.subscribed.clone(),
                answer: None,
                sent: None,
            });
        }
        Ok(connection)
    }

    /// The first attempt says at once what is wrong; later ones go on, unless the broker has refused us. That a login does
    /// not hold which did before may pass: a clock was set wrong and will be set right, or our identity has just changed.
    fn not_connected(&self, error: &ConnectError) -> Stop {
        let broker = error.last.broker.to_string();
        let first = self.connection == 0;
        match &error.last.error {
            ConnectionError::Refused { code, reason }
                if first
                    || (error.last.error.is_final()
                        && *code != ConnectReturnCode::BadUserNamePassword) =>
            {
                Stop::Ended(MqttError::LoginRefused {
                    broker,
                    reason: shown(reason.as_ref(), &login_words(*code)),
                    code: (*code).into(),
                })
            }
            _ if first => {
                let broker = match error.before.is_empty() {
                    true => broker,
                    false => self.connect.route.to_string(),
                };
                Stop::Ended(MqttError::Unreachable {
                    broker,
                    problem: crate::terminal::clean_line(&error.to_string()),
                    advice: advice(error),
                })
            }
            _ => Stop::Lost(crate::terminal::clean_line(&error.to_string())),
        }
    }

    async fn serve(&mut self, connection: Connection) -> Stop {
        let broker = connection.broker.clone();
        let mut live = Live {
            keep_alive: KeepAlive::new(connection.welcome.keep_alive, KEEP_ALIVE),
            held: Some(MqttEvent::Connected {
                version: connection.welcome.version,
            }),
            connection,
        };
        loop {
            match self.step(&mut live).await {
                Ok(()) => {}
                Err(Interruption::Stop(stop)) => return stop,
                Err(Interruption::Connection(error)) => return interrupted(&broker, &error),
            }
        }
    }

    /// Deals with what there is, and waits for the next thing to happen.
    async fn step(&mut self, live: &mut Live) -> Result<(), Interruption> {
        let Live {
            connection: Connection {
                incoming, outgoing, ..
            },
            keep_alive,
            held,
        } = live;
        while held.is_none()
            && let Some(packet) = incoming.next_packet()?
        {
            *held = self.read(packet)?;
        }
        // After reading: an answer makes room for what waits, and nothing else would wake us for it.
        self.write(outgoing)?;
        let reading = held.is_none();
        let unanswered = self.subscribing.front().and_then(|next| next.sent);
        tokio::select! {
            // Acknowledgements leave before more is taken in, and nothing starves a ping.
            biased;
            () = keep_alive.due() => {
                keep_alive.ping(reading)?;
                outgoing.push(&Packet::PingReq(PingReq))?;
            }
            request = self.requests.recv(), if outgoing.unsent() < MOST_UNSENT => match request {
                Some(Request::Disconnect(done)) => {
                    self.write(outgoing)?;
                    // Whether it is heard or not: we leave.
                    let _ = timeout(GOODBYE, close(incoming, outgoing)).await;
                    let _ = done.send(());
                    return Err(Interruption::Stop(Stop::Goodbye));
                }
                Some(request) => self.request(request, Some(outgoing))?,
                None => return Err(Interruption::Stop(Stop::Goodbye)),
            },
            sent = outgoing.send_some(), if !outgoing.is_empty() => sent?,
            permit = self.events.clone().reserve_owned(), if !reading => match (permit, held.take()) {
                (Ok(permit), Some(event)) => drop(permit.send(event)),
                (Ok(_), None) => {}
                (Err(_), _) => return Err(Interruption::Stop(Stop::Goodbye)),
            },
            filled = incoming.fill(), if reading => {
                filled?;
                keep_alive.heard();
            }
            // While our own side is busy, an answer may lie unread: that is not the broker's delay.
            () = overdue(unanswered), if reading => {
                return Err(Interruption::Stop(Stop::Lost(format!(
                    "no answer to a subscription within {} s",
                    SUBSCRIBE_TIME.as_secs()
                ))));
            }
        }
        Ok(())
    }

    /// Takes a request; what it asks for is written by [`Driver::write`] when the way is free.
    fn request<W: AsyncWrite + Unpin>(
        &mut self,
        request: Request,
        outgoing: Option<&mut Outgoing<W>>,
    ) -> Result<(), ConnectionError> {
        match request {
            Request::Publish(outbound, answer) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.answers.insert(ticket, answer);
                self.window.push((ticket, outbound));
            }
            Request::Subscribe(filters, answer) => {
                self.unsubscribing
                    .retain(|filter| !filters.contains(filter));
                self.subscribing.push_back(Subscribing {
                    filters,
                    answer: Some(answer),
                    sent: None,
                });
            }
            Request::Unsubscribe(filters) => self.unsubscribe(filters),
            Request::Acknowledge(receipt) => {
                if let (Some(outgoing), Some(packet_id)) = (outgoing, receipt.packet_id)
                    && receipt.connection == self.connection
                {
                    outgoing.acknowledge(packet_id)?;
                }
            }
            Request::Disconnect(done) => {
                let _ = done.send(());
            }
        }
        Ok(())
    }

    fn unsubscribe(&mut self, filters: Vec<String>) {
        self.subscribed.retain(|filter| !filters.contains(filter));
        for asked in self
            .subscribing
            .iter_mut()
            .filter(|asked| asked.sent.is_none())
        {
            asked.filters.retain(|filter| !filters.contains(filter));
        }
        self.subscribing.retain(|asked| !asked.filters.is_empty());
        self.unsubscribing.extend(filters);
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(FIRST_OTHER_ID);
        self.last_id
    }

    /// Writes what may go now.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        outgoing: &mut Outgoing<W>,
    ) -> Result<(), ConnectionError> {
        let filters = std::mem::take(&mut self.unsubscribing);
        for filters in filters.chunks(MOST_FILTERS) {
            let pkid = self.next_id();
            outgoing.push(&Packet::Unsubscribe(Unsubscribe {
                pkid,
                filters: filters.to_vec(),
                properties: None,
            }))?;
        }
        let packet_id = self.next_id();
        if let Some(next) = self.subscribing.front_mut()
            && next.sent.is_none()
        {
            let filters = next
                .filters
                .iter()
                .map(|filter| Filter::new(filter, QoS::AtLeastOnce));
            let mut subscribe = Subscribe::new_many(filters, None);
            subscribe.pkid = packet_id;
            outgoing.push(&Packet::Subscribe(subscribe))?;
            next.sent = Some((Instant::now(), packet_id));
        }
        while outgoing.unsent() < MOST_UNSENT
            && let Some(write) = self.window.next()
        {
            let Write {
                packet_id,
                duplicate,
                publish: (ticket, outbound),
            } = write;
            let size = outbound.payload.len() + PACKET_OVERHEAD;
            if let Some(max) = self.max_packet
                && size > max as usize
            {
                // Its place in the window is taken back at once.
                self.window.done(packet_id);
                self.answer(ticket, Err(PublishError::TooLarge { max }));
                continue;
            }
            let mut publish =
                Publish::new(outbound.topic, QoS::AtLeastOnce, outbound.payload, None);
            publish.pkid = packet_id;
            publish.dup = duplicate;
            publish.retain = outbound.retain;
            outgoing.push(&Packet::Publish(publish))?;
        }
        Ok(())
    }

    /// Takes a packet. What comes back is for the other side.
    fn read(&mut self, packet: Packet) -> Result<Option<MqttEvent>, Interruption> {
        match packet {
            Packet::PubAck(ack) => {
                if let Some((ticket, outbound)) = self.window.done(ack.pkid) {
                    let words = ack.properties.and_then(|p| p.reason_string);
                    self.answer(ticket, publish_result(ack.reason, words, outbound.retain));
                }
            }
            Packet::SubAck(ack) => {
                let ours = self
                    .subscribing
                    .front()
                    .and_then(|subscribing| subscribing.sent)
                    .is_some_and(|(_, packet_id)| packet_id == ack.pkid);
                if let Some(done) = ours.then(|| self.subscribing.pop_front()).flatten() {
                    let words = ack.properties.and_then(|p| p.reason_string);
                    self.subscribed_now(done, &ack.return_codes, words)
                        .map_err(Interruption::Stop)?;
                }
            }
            Packet::Publish(publish) => {
                let packet_id = match publish.qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => Some(publish.pkid),
                    // Nothing above the QoS 1 that was asked for may come (MQTT 5, section 3.8.4).
                    QoS::ExactlyOnce => {
                        return Err(ConnectionError::Unexpected("PUBLISH with QoS 2").into());
                    }
                };
                return Ok(Some(MqttEvent::Delivery(Box::new(Delivery {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload,
                    duplicate: publish.dup,
                    receipt: Receipt {
                        connection: self.connection,
                        packet_id,
                    },
                }))));
            }
            Packet::PingResp(_) | Packet::UnsubAck(_) => {}
            Packet::Disconnect(goodbye) => return Err(closed(goodbye).into()),
            other => return Err(unexpected(&other).into()),
        }
        Ok(None)
    }

    fn subscribed_now(
        &mut self,
        done: Subscribing,
        codes: &[SubscribeReasonCode],
        words: Option<String>,
    ) -> Result<(), Stop> {
        let words = words.and_then(|words| Words::new(&words));
        let result = granted(&done.filters, codes, words.as_ref());
        for (filter, code) in done.filters.into_iter().zip(codes) {
            if matches!(code, SubscribeReasonCode::Success(_)) && !self.subscribed.contains(&filter)
            {
                self.subscribed.push(filter);
            }
        }
        match (done.answer, result) {
            (Some(answer), result) => {
                let _ = answer.send(result);
                Ok(())
            }
            // After a reconnect nobody waits for the answer: without the subscription there is no point in staying.
            (None, Err(error)) => Err(Stop::Ended(error)),
            (None, Ok(())) => Ok(()),
        }
    }

    fn answer(&mut self, ticket: u64, result: Result<(), PublishError>) {
        if let Some(answer) = self.answers.remove(&ticket) {
            let _ = answer.send(result);
        }
    }

    fn after_loss(&mut self) {
        for (ticket, _) in self.window.lost() {
            self.answer(ticket, Err(PublishError::LostEachTime));
        }
        // The subscribe of a reconnect is made anew; those with somebody waiting go again.
        self.subscribing
            .retain(|subscribing| subscribing.answer.is_some());
        for subscribing in &mut self.subscribing {
            subscribing.sent = None;
        }
    }

    /// Waits before the next attempt, still taking requests. Says whether we were asked to stop.
    async fn pause(&mut self, duration: Duration) -> bool {
        let over = tokio::time::sleep(duration);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return false,
                request = self.requests.recv() => match request {
                    Some(Request::Disconnect(done)) => {
                        let _ = done.send(());
                        return true;
                    }
                    // Without a connection nothing is written, so nothing can fail.
                    Some(request) => drop(self.request::<tokio::io::Sink>(request, None)),
                    None => return true,
                },
            }
        }
    }
}

/// What ends a round of serving.
enum Interruption {
    Stop(Stop),
    Connection(ConnectionError),
}

impl From<ConnectionError> for Interruption {
    fn from(error: ConnectionError) -> Self {
        Interruption::Connection(error)
    }
}

/// Whether an error of a connection that stood is the end.
fn interrupted(broker: &sealpost_mqtt::BrokerUrl, error: &ConnectionError) -> Stop {
    let ConnectionError::Closed { code, reason } = error else {
        return Stop::Lost(crate::terminal::clean_line(&error.to_string()));
    };
    match code {
        DisconnectReasonCode::SessionTakenOver => Stop::Ended(MqttError::TakenOver),
        // `NotAuthorized` among the others: whether we are let in again, perhaps as who we are now, the next login tells.
        DisconnectReasonCode::AdministrativeAction
        | DisconnectReasonCode::RetainNotSupported
        | DisconnectReasonCode::QoSNotSupported => Stop::Ended(MqttError::Dismissed {
            broker: broker.to_string(),
            reason: shown(reason.as_ref(), &goodbye_words(*code)),
        }),
        _ => Stop::Lost(crate::terminal::clean_line(&error.to_string())),
    }
}

/// Waits until a subscription sent at that time should have been answered; for ever when there is none.
async fn overdue(sent: Option<(Instant, u16)>) {
    match sent {
        Some((sent, _)) => tokio::time::sleep_until(sent + SUBSCRIBE_TIME).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
