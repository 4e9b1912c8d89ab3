//! The task behind a connection: one rumqttc event loop after the other.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rumqttc::NetworkOptions;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, DisconnectReasonCode, Filter, Packet, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use sealpost_core::MAX_ENVELOPE;
use tokio::sync::{mpsc, oneshot};

use super::backoff::Backoff;
use super::error::{granted, io_problem, login_reason, publish_result};
use super::window::Window;
use super::{
    Connect, Credentials, Delivery, EVENTS, GOODBYE, MqttError, MqttEvent, Outbound, PublishError,
    Receipt, Request,
};

/// The largest packet we take, in bytes: an envelope and generous room for topic and properties. The broker is told.
const MAX_PACKET: u32 = MAX_ENVELOPE as u32 + 32_768;
/// What topic and MQTT header take of a packet at most, in bytes: names have at most 64.
const PACKET_OVERHEAD: usize = 256;
/// How many messages the broker may have with us unacknowledged.
const RECEIVE_MAXIMUM: u16 = 64;
/// rumqttc's in-flight limit, above our window's.
const INFLIGHT_LIMIT: u16 = 128;
/// rumqttc's queue: more than window, acknowledgements and a subscribe together can ever need.
const QUEUE: usize = 1_024;
/// How often an idle connection is checked, so that a dead one is noticed within a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long connecting may take, the broker's answer included, in seconds.
const CONNECT_SECONDS: u64 = 10;
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
    max_packet: Option<u32>,
}

/// A subscribe under way; one at a time is with the broker.
struct Subscribing {
    filters: Vec<String>,
    answer: Option<oneshot::Sender<Result<(), MqttError>>>,
    /// When it was handed to the broker.
    sent: Option<Instant>,
    packet_id: Option<u16>,
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

/// One live connection: rumqttc's client and the task that polls its event loop.
struct Live {
    client: AsyncClient,
    packets: mpsc::Receiver<Result<Event, ConnectionError>>,
    poller: tokio::task::JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.poller.abort();
    }
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
            max_packet: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut ever_connected = false;
        let ending = loop {
            let problem = match self.open().await {
                Ok(mut live) => {
                    ever_connected = true;
                    let since = Instant::now();
                    let stop = self.serve(&mut live).await;
                    backoff.connected_for(since.elapsed());
                    match stop {
                        Stop::Lost(problem) => problem,
                        Stop::Ended(error) => break error,
                        Stop::Goodbye => return,
                    }
                }
                Err(Stop::Lost(problem)) if ever_connected => problem,
                Err(Stop::Lost(problem)) => {
                    break MqttError::Unreachable {
                        broker: self.connect.broker.to_string(),
                        problem,
                    };
                }
                Err(Stop::Ended(error)) => break error,
                Err(Stop::Goodbye) => return,
            };
            self.after_loss();
            let retry_in = backoff.wait(&mut rand::rng());
            tracing::info!(%problem, ?retry_in, "disconnected");
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
    async fn open(&mut self) -> Result<Live, Stop> {
        let (user, password) = (self.credentials)();
        let broker = &self.connect.broker;
        let mut options =
            MqttOptions::new(self.connect.client_id.clone(), broker.host(), broker.port());
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = self.connect.durable.then_some(SESSION_EXPIRY);
        properties.receive_maximum = Some(RECEIVE_MAXIMUM);
        properties.max_packet_size = Some(MAX_PACKET);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_credentials(user, password)
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(!self.connect.durable)
            .set_connection_timeout(CONNECT_SECONDS)
            .set_connect_properties(properties)
            .set_outgoing_inflight_upper_limit(INFLIGHT_LIMIT)
            .set_manual_acks(true)
            .set_network_options(network);
        let (client, event_loop) = AsyncClient::new(options, QUEUE);
        let (tx, packets) = mpsc::channel(EVENTS);
        let poller = tokio::spawn(poll(event_loop, tx));
        let mut live = Live {
            client,
            packets,
            poller,
        };
        loop {
            match live.packets.recv().await {
                Some(Ok(Event::Incoming(Packet::ConnAck(answer)))) => {
                    self.connected(&answer);
                    return Ok(live);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.classify(error)),
                None => return Err(Stop::Lost("the broker's answer makes no sense".to_owned())),
            }
        }
    }

    fn connected(&mut self, answer: &ConnAck) {
        tracing::info!(session_present = answer.session_present, "connected");
        self.connection += 1;
        let properties = answer.properties.as_ref();
        self.window
            .set_receive_maximum(properties.and_then(|p| p.receive_max));
        self.max_packet = properties.and_then(|p| p.max_packet_size);
        if !self.subscribed.is_empty() {
            self.subscribing.push_front(Subscribing {
                filters: self.subscribed.clone(),
                answer: None,
                sent: None,
                packet_id: None,
            });
        }
    }

    async fn serve(&mut self, live: &mut Live) -> Stop {
        if self.events.send(MqttEvent::Connected).await.is_err() {
            return Stop::Goodbye;
        }
        let mut goodbye: Option<oneshot::Sender<()>> = None;
        loop {
            if goodbye.is_none()
                && let Err(problem) = self.write(&live.client)
            {
                return Stop::Lost(problem);
            }
            let unanswered = self.subscribing.front().and_then(|next| next.sent);
            tokio::select! {
                biased;
                packet = live.packets.recv() => match packet {
                    Some(Ok(event)) => if let Err(stop) = self.read(event).await {
                        return stop;
                    },
                    Some(Err(error)) => {
                        return match goodbye {
                            Some(done) => {
                                let _ = done.send(());
                                Stop::Goodbye
                            }
                            None => self.classify(error),
                        };
                    }
                    None => return Stop::Lost("the broker sent something that makes no sense".to_owned()),
                },
                request = self.requests.recv(), if goodbye.is_none() => match request {
                    Some(Request::Disconnect(done)) => {
                        if live.client.try_disconnect().is_err() {
                            return Stop::Goodbye;
                        }
                        goodbye = Some(done);
                    }
                    Some(request) => self.request(request, Some(&live.client)),
                    None => return Stop::Goodbye,
                },
                () = overdue(unanswered), if goodbye.is_none() => {
                    return Stop::Lost(format!("no answer to a subscription within {} s", SUBSCRIBE_TIME.as_secs()));
                }
                () = tokio::time::sleep(GOODBYE), if goodbye.is_some() => return Stop::Goodbye,
            }
        }
    }

    /// Takes a request; what it asks for is written by [`Driver::write`] when the way is free.
    fn request(&mut self, request: Request, client: Option<&AsyncClient>) {
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
                    packet_id: None,
                });
            }
            Request::Unsubscribe(filters) => self.unsubscribe(filters),
            Request::Acknowledge(receipt) => {
                if let Some(client) = client
                    && receipt.connection == self.connection
                    && client.try_ack(&receipt.publish).is_err()
                {
                    // It will be delivered again on the next connection, and recognised.
                    tracing::warn!("an acknowledgement could not be queued");
                }
            }
            Request::Disconnect(done) => {
                let _ = done.send(());
            }
        }
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

    /// Hands to rumqttc what may go now.
    fn write(&mut self, client: &AsyncClient) -> Result<(), String> {
        const FULL: &str = "the MQTT library's queue is full";
        for filter in std::mem::take(&mut self.unsubscribing) {
            client
                .try_unsubscribe(filter)
                .map_err(|_| FULL.to_owned())?;
        }
        if let Some(next) = self.subscribing.front_mut()
            && next.sent.is_none()
        {
            let filters = next
                .filters
                .iter()
                .map(|filter| Filter::new(filter, QoS::AtLeastOnce));
            client
                .try_subscribe_many(filters)
                .map_err(|_| FULL.to_owned())?;
            next.sent = Some(Instant::now());
        }
        while let Some((ticket, outbound)) = self.window.hand_over() {
            let size = outbound.payload.len() + PACKET_OVERHEAD;
            if let Some(max) = self.max_packet
                && size > max as usize
            {
                // Its place in the window is taken back at once.
                self.window.take_back();
                self.answer(ticket, Err(PublishError::TooLarge { max }));
                continue;
            }
            client
                .try_publish(
                    &outbound.topic,
                    QoS::AtLeastOnce,
                    outbound.retain,
                    outbound.payload,
                )
                .map_err(|_| FULL.to_owned())?;
        }
        Ok(())
    }

    async fn read(&mut self, event: Event) -> Result<(), Stop> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.window.written(packet_id),
            Event::Outgoing(Outgoing::Subscribe(packet_id)) => {
                if let Some(next) = self.subscribing.front_mut() {
                    next.packet_id = Some(packet_id);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some((ticket, outbound)) = self.window.acknowledged(ack.pkid) {
                    let words = ack.properties.and_then(|p| p.reason_string);
                    self.answer(ticket, publish_result(ack.reason, words, outbound.retain));
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let ours = self
                    .subscribing
                    .front()
                    .is_some_and(|s| s.packet_id == Some(ack.pkid));
                if let Some(done) = ours.then(|| self.subscribing.pop_front()).flatten() {
                    self.subscribed_now(done, &ack.return_codes)?;
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                let delivery = Delivery {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.clone(),
                    duplicate: publish.dup,
                    receipt: Receipt {
                        connection: self.connection,
                        publish,
                    },
                };
                let since = Instant::now();
                let event = MqttEvent::Delivery(Box::new(delivery));
                if self.events.send(event).await.is_err() {
                    return Err(Stop::Goodbye);
                }
                // While our own side is busy, an answer may lie unread: that is not the broker's delay.
                if let Some(sent) = self
                    .subscribing
                    .front_mut()
                    .and_then(|next| next.sent.as_mut())
                {
                    *sent += since.elapsed();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn subscribed_now(
        &mut self,
        done: Subscribing,
        codes: &[SubscribeReasonCode],
    ) -> Result<(), Stop> {
        let result = granted(&done.filters, codes);
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
            subscribing.packet_id = None;
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
                    Some(request) => self.request(request, None),
                    None => return true,
                },
            }
        }
    }

    fn classify(&self, error: ConnectionError) -> Stop {
        let broker = self.connect.broker.to_string();
        match error {
            ConnectionError::ConnectionRefused(code) => match login_reason(code) {
                (reason, true) => Stop::Ended(MqttError::LoginRefused { broker, reason }),
                (reason, false) if self.connection == 0 => {
                    Stop::Ended(MqttError::LoginRefused { broker, reason })
                }
                (reason, false) => Stop::Lost(reason.to_owned()),
            },
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code,
                reason_string,
            }) => {
                let words = reason_string.map(|words| crate::terminal::clean_line(&words));
                let reason = words.unwrap_or_else(|| format!("{reason_code:?}"));
                match reason_code {
                    DisconnectReasonCode::SessionTakenOver => Stop::Ended(MqttError::TakenOver),
                    DisconnectReasonCode::NotAuthorized
                    | DisconnectReasonCode::AdministrativeAction
                    | DisconnectReasonCode::RetainNotSupported
                    | DisconnectReasonCode::QoSNotSupported => {
                        Stop::Ended(MqttError::Dismissed { broker, reason })
                    }
                    _ => Stop::Lost(reason),
                }
            }
            ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
                Stop::Lost(io_problem(&error))
            }
            ConnectionError::Timeout(_) => {
                Stop::Lost(format!("no answer within {CONNECT_SECONDS} s"))
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                Stop::Lost("it closed the connection".to_owned())
            }
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                Stop::Lost("it no longer answers".to_owned())
            }
            ConnectionError::MqttState(StateError::Deserialization(error)) => {
                Stop::Lost(format!("it does not speak MQTT 5 as we do: {error}"))
            }
            other => Stop::Lost(other.to_string()),
        }
    }
}

/// Waits until a subscription sent at that time should have been answered; for ever when there is none.
async fn overdue(sent: Option<Instant>) {
    match sent {
        Some(sent) => tokio::time::sleep_until((sent + SUBSCRIBE_TIME).into()).await,
        None => std::future::pending().await,
    }
}

/// Polls until the first error. On its own, because rumqttc's `poll` loses packets when it is cancelled.
async fn poll(mut event_loop: EventLoop, packets: mpsc::Sender<Result<Event, ConnectionError>>) {
    loop {
        let packet = event_loop.poll().await;
        let over = packet.is_err();
        if packets.send(packet).await.is_err() || over {
            return;
        }
    }
}
