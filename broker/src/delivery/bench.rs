//! For tests: a board over a simulated store, and clients in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{QoS, RetainForwardRule};
use sealpost_core::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::delivery::account::Share;
use crate::delivery::board::{Board, Bounds, Joining, Posted};
use crate::delivery::receipt::Receipt;
use crate::delivery::session::{Attachment, Filled, Session, SessionKey};
use crate::delivery::topics::Post;
use crate::delivery::wire::Wire;
use crate::journal::recovery;
use crate::journal::simulated::SimulatedStore;
use crate::protocol::message::Message;
use crate::protocol::packet::{Decoder, Incoming, IncomingPublish, Version};
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::{FilterName, TopicName};

pub(crate) const DURABLE: Duration = Duration::from_secs(600);
pub(crate) const SHARE: Share = Share {
    archive: false,
    messages: 100_000,
    bytes: 1 << 30,
    sender: 75,
    stranger: 25,
    parts: 16,
};

/// The time of tests that do not care.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).unwrap()
}

pub(crate) fn bounds() -> Bounds {
    Bounds {
        mailbox_bytes: 1 << 32,
        users: 1_000,
        part_with_archivers: false,
        sessions_per_owner: 16,
        sessions: 100,
        subscriptions_per_session: 100,
        retained: 10,
        retained_bytes: 1 << 20,
        hold: Duration::from_secs(5),
    }
}

/// A broker without connections: a board, and its journal in a simulated store.
pub(crate) struct Bench {
    pub(crate) board: Board,
    pub(crate) store: Arc<SimulatedStore>,
    committer: std::thread::JoinHandle<()>,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::over(SimulatedStore::default(), bounds())
    }

    pub(crate) fn over(store: SimulatedStore, bounds: Bounds) -> Bench {
        Bench::over_with(store, bounds, SHARE)
    }

    pub(crate) fn over_with(store: SimulatedStore, bounds: Bounds, share: Share) -> Bench {
        let store = Arc::new(store);
        let (journal, committer, recovered) =
            recovery::open(Arc::clone(&store) as Arc<_>, 1 << 20).unwrap();
        let committer = committer.spawn().unwrap();
        let board = Board::new(bounds, journal);
        board.recover(recovered, |_| share, now());
        Bench {
            board,
            store,
            committer,
        }
    }

    /// The broker after a loss of power.
    pub(crate) fn lose_power(self, survives: impl FnMut() -> bool) -> Bench {
        let store = self.store.after_power_loss(survives);
        self.close();
        Bench::over(store, bounds())
    }

    /// The broker after a kill: what was written is there.
    pub(crate) fn kill(self) -> Bench {
        self.lose_power(|| true)
    }

    pub(crate) fn close(self) -> Arc<SimulatedStore> {
        self.board.journal().close();
        self.committer.join().unwrap();
        self.store
    }

    /// Waits until all that was recorded is on the medium.
    pub(crate) async fn synced(&self) {
        let (done, waiting) = tokio::sync::oneshot::channel();
        self.board.journal().after(move || done.send(()).unwrap());
        waiting.await.unwrap();
    }

    pub(crate) fn client(&self, client_id: &str, expiry: Duration) -> Client {
        self.client_with(client_id, expiry, false, None)
    }

    pub(crate) fn client_with(
        &self,
        client_id: &str,
        expiry: Duration,
        clean_start: bool,
        receive_maximum: Option<u16>,
    ) -> Client {
        let key = SessionKey {
            owner: "bob".into(),
            client_id: client_id.into(),
        };
        let attachment = attachment(receive_maximum);
        let Joining {
            session, present, ..
        } = self
            .board
            .join(&key, clean_start, expiry, SHARE, attachment.clone())
            .unwrap();
        Client {
            session,
            attachment,
            present,
        }
    }

    pub(crate) fn subscribe(&self, client: &Client, filter: &str, qos: QoS) {
        let rule = RetainForwardRule::OnEverySubscribe;
        let filter = FilterName::parse(filter).unwrap();
        let subscription = subscription(qos);
        self.board
            .subscribe(&client.session, &filter, subscription, &rule, now())
            .unwrap();
    }

    pub(crate) fn leave(&self, client: &Client) {
        self.board
            .leave(&client.session, &client.attachment, None, now());
    }

    pub(crate) fn post(&self, origin: &Client, topic: &str, text: &str, qos: QoS) -> Posted {
        self.board.post(&self.a_post(origin, topic, text, qos))
    }

    pub(crate) fn a_post(&self, origin: &Client, topic: &str, text: &str, qos: QoS) -> Post {
        Post {
            message: Arc::new(Message {
                number: self.board.journal().next_message(),
                topic: TopicName::parse(topic.as_bytes()).unwrap(),
                payload: text.to_owned().into(),
                properties: None,
                expires: None,
                sender: None,
                supersedes: false,
            }),
            qos,
            pkid: 0,
            retain: false,
            origin: Some(Arc::clone(&origin.session)),
            receipt: None,
        }
    }
}

pub(crate) fn subscription(qos: QoS) -> Subscription {
    Subscription {
        qos,
        no_local: false,
        retain_as_published: false,
        id: None,
    }
}

pub(crate) fn attachment(receive_maximum: Option<u16>) -> Attachment {
    Attachment {
        wire: Arc::new(Wire::new(Version::V5, CancellationToken::new())),
        receive_maximum,
        max_packet: None,
    }
}

pub(crate) fn receipt() -> Arc<Receipt> {
    let publisher = Arc::new(Wire::new(Version::V5, CancellationToken::new()));
    Arc::new(Receipt::new(publisher, 0))
}

/// A client that is connected.
pub(crate) struct Client {
    pub(crate) session: Arc<Session>,
    pub(crate) attachment: Attachment,
    pub(crate) present: bool,
}

/// What a client was sent: a message, or the release of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    Message { pkid: u16, dup: bool, text: String },
    Release(u16),
}

impl Client {
    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.attachment.wire
    }

    /// All that it can be sent now.
    pub(crate) async fn sent(&self) -> Vec<Sent> {
        let mut bytes = BytesMut::new();
        loop {
            match self.session.fill(self.wire(), &mut bytes, 1 << 24, now()) {
                Filled::More => {}
                Filled::Load(mailbox) => mailbox.load().await,
                Filled::Idle | Filled::Gone => break,
            }
        }
        read(bytes)
    }

    pub(crate) async fn texts(&self) -> Vec<(u16, String)> {
        let sent = self.sent().await.into_iter();
        sent.map(|sent| match sent {
            Sent::Message { pkid, text, .. } => (pkid, text),
            Sent::Release(pkid) => (pkid, "release".into()),
        })
        .collect()
    }
}

/// What a broker sent, read with the codec that reads what clients send.
pub(crate) fn read(mut bytes: BytesMut) -> Vec<Sent> {
    let mut decoder = Decoder::new(1 << 20);
    decoder
        .decode(&mut BytesMut::from(
            &b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"[..],
        ))
        .unwrap();
    let mut sent = Vec::new();
    loop {
        let dup = bytes.first().is_some_and(|first| first & 0x08 != 0);
        sent.push(match decoder.decode(&mut bytes).unwrap() {
            None => return sent,
            Some(Incoming::Publish(IncomingPublish { pkid, payload, .. })) => Sent::Message {
                pkid,
                dup,
                text: String::from_utf8(payload.to_vec()).unwrap(),
            },
            Some(Incoming::PubRel(pkid)) => Sent::Release(pkid),
            Some(other) => panic!("{other:?}"),
        });
    }
}
