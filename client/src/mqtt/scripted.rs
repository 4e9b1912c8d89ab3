//! A connection whose broker is a test.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Delivery, Mqtt, MqttError, MqttEvent, PublishError, Receipt, Request};

/// The broker's side.
pub(crate) struct Script {
    requests: mpsc::UnboundedReceiver<Request>,
    events: mpsc::Sender<MqttEvent>,
    delivered: u16,
}

/// What the client asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    Publish {
        topic: String,
        payload: Bytes,
        retain: bool,
        answer: oneshot::Sender<Result<(), PublishError>>,
    },
    Subscribe {
        filters: Vec<String>,
        answer: oneshot::Sender<Result<(), MqttError>>,
    },
    Unsubscribe {
        filters: Vec<String>,
    },
    /// The number that [`Script::deliver`] gave.
    Acknowledge(u16),
    Disconnect,
}

impl Script {
    pub(crate) fn new() -> (Mqtt, mpsc::Receiver<MqttEvent>, Script) {
        let (requests, requests_rx) = mpsc::unbounded_channel();
        let (events, events_rx) = mpsc::channel(1_024);
        let script = Script {
            requests: requests_rx,
            events,
            delivered: 0,
        };
        (Mqtt { requests }, events_rx, script)
    }

    /// The next request; waits for it.
    pub(crate) async fn asked(&mut self) -> Asked {
        let request = self.requests.recv().await.expect("the client went away");
        Script::read(request)
    }

    /// A request that is there already.
    pub(crate) fn asked_now(&mut self) -> Option<Asked> {
        self.requests.try_recv().ok().map(Script::read)
    }

    fn read(request: Request) -> Asked {
        match request {
            Request::Publish(outbound, answer) => Asked::Publish {
                topic: outbound.topic,
                payload: outbound.payload,
                retain: outbound.retain,
                answer,
            },
            Request::Subscribe(filters, answer) => Asked::Subscribe { filters, answer },
            Request::Unsubscribe(filters) => Asked::Unsubscribe { filters },
            Request::Acknowledge(receipt) => Asked::Acknowledge(receipt.packet_id.unwrap_or(0)),
            Request::Disconnect(done) => {
                let _ = done.send(());
                Asked::Disconnect
            }
        }
    }

    /// Delivers a message; returns the number of its acknowledgement.
    pub(crate) async fn deliver(&mut self, topic: &str, payload: &[u8]) -> u16 {
        self.delivered += 1;
        let delivery = Delivery {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            duplicate: false,
            receipt: Receipt {
                connection: 1,
                packet_id: Some(self.delivered),
            },
        };
        self.event(MqttEvent::Delivery(Box::new(delivery))).await;
        self.delivered
    }

    pub(crate) async fn event(&mut self, event: MqttEvent) {
        self.events.send(event).await.expect("the client went away");
    }
}
