//! MQTT behind one door: connect, subscribe, publish, acknowledge, reconnect. MQTT 5, or 3.1.1 where a broker speaks no
//! other, over whatever way the broker's URL names.
//!
//! A task of its own owns the connection. What it promises:
//! - a publish is answered once, over as many connections as it takes; in a session that goes on it goes again under its
//!   packet id, marked as a duplicate;
//! - a packet over the broker's maximum would end the connection, so it is refused here first;
//! - a message is acknowledged on the connection that it came on, or not at all: then it comes again;
//! - who is slow to take events is sent no more by the broker, and is not thought dead.

mod driver;
mod error;
mod window;

use std::time::Duration;

use bytes::Bytes;
use sealpost_core::{Topic, TopicFilter};
use sealpost_mqtt::{ChannelBinding, Route, Version};
use tokio::sync::{mpsc, oneshot};

use self::driver::Driver;

pub use self::error::{LoginRefusal, MqttError, PublishError, RefusalCode};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How many events wait for a busy consumer before reading from the network pauses.
const EVENTS: usize = 64;

/// How many messages the broker may have with us unacknowledged, where nothing speaks for fewer.
pub const RECEIVE_MAXIMUM: u16 = 64;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Where, and how to get there.
    pub route: Route,
    /// Under which client id.
    pub client_id: String,
    /// Whether the broker keeps subscriptions and mail while we are away.
    pub durable: bool,
    /// How many messages the broker may have with us unacknowledged: each has up to 96 KiB.
    pub receive_maximum: u16,
}

/// MQTT user name and password, made anew for each connection and bound to its TLS channel if it has one.
pub type Credentials = Box<dyn FnMut(&ChannelBinding) -> (String, String) + Send>;

/// A message from the broker.
#[derive(Debug)]
pub struct Delivery {
    /// Its topic, not checked.
    pub topic: String,
    /// Its payload, not checked.
    pub payload: Bytes,
    /// The broker says that it may have delivered it before.
    pub duplicate: bool,
    /// To acknowledge it with.
    pub receipt: Receipt,
}

/// What it takes to acknowledge a message, once.
#[derive(Debug)]
pub struct Receipt {
    connection: u64,
    /// None at QoS 0, which takes no acknowledgement.
    packet_id: Option<u16>,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum MqttEvent {
    /// Connected, and subscribed again to everything.
    Connected {
        /// What the broker speaks.
        version: Version,
    },
    /// Disconnected; another attempt follows.
    Disconnected {
        /// What happened.
        problem: String,
        /// When the next attempt starts.
        retry_in: Duration,
    },
    /// A message. It comes again after a reconnect unless it is acknowledged.
    Delivery(Box<Delivery>),
    /// The end.
    Ended(MqttError),
}

/// The answer to a request, later.
pub type Answer<T> = oneshot::Receiver<T>;

/// A handle on a connection. Dropping all handles closes it.
#[derive(Debug, Clone)]
pub struct Mqtt {
    requests: mpsc::UnboundedSender<Request>,
}

enum Request {
    Publish(Outbound, oneshot::Sender<Result<(), PublishError>>),
    Subscribe(Vec<String>, oneshot::Sender<Result<(), MqttError>>),
    Unsubscribe(Vec<String>),
    Acknowledge(Receipt),
    Disconnect(oneshot::Sender<()>),
}

#[derive(Debug, Clone)]
struct Outbound {
    topic: String,
    payload: Bytes,
    retain: bool,
}

impl Mqtt {
    /// Starts connecting. Events come out of the receiver, in order; the first one says how connecting went.
    #[must_use]
    pub fn start(connect: Connect, credentials: Credentials) -> (Mqtt, mpsc::Receiver<MqttEvent>) {
        // Requests are few: whoever makes them awaits their answers.
        let (requests, requests_rx) = mpsc::unbounded_channel();
        let (events, events_rx) = mpsc::channel(EVENTS);
        tokio::spawn(Driver::new(connect, credentials, requests_rx, events).run());
        (Mqtt { requests }, events_rx)
    }

    /// Publishes at QoS 1. The answer comes when the broker's does, over reconnects if need be.
    #[must_use]
    pub fn publish(
        &self,
        topic: &Topic,
        payload: impl Into<Bytes>,
        retain: bool,
    ) -> Answer<Result<(), PublishError>> {
        let (tx, rx) = oneshot::channel();
        let outbound = Outbound {
            topic: topic.to_string(),
            payload: payload.into(),
            retain,
        };
        // A connection that has ended drops the answer's sender, which the receiver sees.
        let _ = self.requests.send(Request::Publish(outbound, tx));
        rx
    }

    /// Subscribes at QoS 1, now and after every reconnect.
    #[must_use]
    pub fn subscribe(&self, filters: &[TopicFilter]) -> Answer<Result<(), MqttError>> {
        let (tx, rx) = oneshot::channel();
        let filters = filters.iter().map(ToString::to_string).collect();
        let _ = self.requests.send(Request::Subscribe(filters, tx));
        rx
    }

    /// Ends subscriptions. Nobody waits for the answer.
    pub fn unsubscribe(&self, filters: &[TopicFilter]) {
        let filters = filters.iter().map(ToString::to_string).collect();
        let _ = self.requests.send(Request::Unsubscribe(filters));
    }

    /// Tells the broker that a message is safe with us.
    pub fn acknowledge(&self, receipt: Receipt) {
        let _ = self.requests.send(Request::Acknowledge(receipt));
    }

    /// Says goodbye, after everything asked for before, and waits a moment for it to be said.
    pub async fn disconnect(&self) {
        let (tx, rx) = oneshot::channel();
        let _ = self.requests.send(Request::Disconnect(tx));
        let _ = tokio::time::timeout(GOODBYE * 2, rx).await;
    }
}

#[cfg(test)]
pub(crate) mod scripted;
