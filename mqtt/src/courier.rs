//! Publishes a row of messages over a connection that is there for nothing else, as many at once as the broker takes, and says what
//! became of each, in their order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PingReq, PubAck, PubAckReason, Publish};

use crate::connection::{ConnectionError, Hello, close, closed, unexpected};
use crate::keep_alive::KeepAlive;
use crate::route::Connection;
use crate::words::Words;

/// How many publishes may be without an acknowledgement, if the broker allows as many: enough to keep a disk's group commit busy,
/// few enough to be sent again after a broken connection.
const WINDOW: u16 = 1_000;

/// The keep-alive asked for.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The largest packet taken: acknowledgements.
const MAX_PACKET: u32 = 64 << 10;

/// Room made before each read, in bytes.
const READ_AHEAD: usize = 16 << 10;

/// A message to be published, and what whoever sends it calls it.
#[derive(Debug)]
pub struct Parcel<N> {
    /// Its name to the sender.
    pub name: N,
    /// Its topic.
    pub topic: String,
    /// Whether the broker is to retain it.
    pub retain: bool,
    /// Its bytes.
    pub payload: Bytes,
}

/// What the broker says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// It has it.
    Taken,
    /// It has it, and nobody is there for whom to keep it.
    KeptByNobody,
    /// It refused it, for this reason.
    Refused(String),
}

/// Why not all was published.
#[derive(Debug, thiserror::Error)]
pub enum CourierError<E> {
    /// There is no next message.
    #[error(transparent)]
    Source(E),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Connection(#[from] ConnectionError),
    /// The broker acknowledged what was not sent.
    #[error("the broker acknowledged packet {0}, which was not sent")]
    Unasked(u16),
}

struct UnderWay<N> {
    packet_id: u16,
    name: N,
    answer: Option<PubAck>,
}

/// What to say when connecting for this.
#[must_use]
pub fn courier_hello(client_id: String) -> Hello {
    Hello {
        client_id,
        session_expiry: None,
        receive_maximum: 1,
        max_packet: MAX_PACKET,
        keep_alive: KEEP_ALIVE,
        read_ahead: READ_AHEAD,
    }
}

/// Publishes all that `next` gives at QoS 1, and tells `note` of each answer, in the order of the messages. At the end says goodbye.
///
/// # Errors
/// [`CourierError`]. What was not noted by then may or may not have arrived.
pub async fn publish_all<N, E>(
    connection: Connection,
    mut next: impl FnMut() -> Result<Option<Parcel<N>>, E>,
    mut note: impl FnMut(N, Delivered),
) -> Result<(), CourierError<E>> {
    let Connection {
        mut incoming,
        mut outgoing,
        welcome,
        ..
    } = connection;
    let window = usize::from(welcome.receive_maximum.min(WINDOW)).max(1);
    let mut keep_alive = KeepAlive::new(welcome.keep_alive, KEEP_ALIVE);
    let mut under_way: VecDeque<UnderWay<N>> = VecDeque::new();
    let mut next_id: u16 = 1;
    let mut more = true;
    loop {
        while more && under_way.len() < window {
            let Some(parcel) = next().map_err(CourierError::Source)? else {
                more = false;
                break;
            };
            let mut publish = Publish::new(parcel.topic, QoS::AtLeastOnce, parcel.payload, None);
            publish.retain = parcel.retain;
            publish.pkid = next_id;
            outgoing.push(&Packet::Publish(publish))?;
            under_way.push_back(UnderWay {
                packet_id: next_id,
                name: parcel.name,
                answer: None,
            });
            // Never 0, and free again long before it comes around: the window is far smaller.
            next_id = next_id.checked_add(1).unwrap_or(1);
        }
        if !more && under_way.is_empty() {
            close(&mut incoming, &mut outgoing).await?;
            return Ok(());
        }
        while let Some(packet) = incoming.next_packet()? {
            match packet {
                Packet::PubAck(answer) => {
                    let asked = under_way
                        .iter_mut()
                        .find(|sent| sent.packet_id == answer.pkid)
                        .ok_or(CourierError::Unasked(answer.pkid))?;
                    asked.answer = Some(answer);
                }
                Packet::PingResp(_) => {}
                Packet::Disconnect(goodbye) => return Err(closed(goodbye).into()),
                other => return Err(unexpected(&other).into()),
            }
        }
        let mut answered = false;
        while let Some(answer) = under_way.front_mut().and_then(|sent| sent.answer.take()) {
            if let Some(sent) = under_way.pop_front() {
                note(sent.name, delivered(&answer));
            }
            answered = true;
        }
        if answered {
            continue;
        }
        tokio::select! {
            biased;
            () = keep_alive.due() => {
                keep_alive.ping(true)?;
                outgoing.push(&Packet::PingReq(PingReq))?;
            }
            sent = outgoing.send_some(), if !outgoing.is_empty() => sent?,
            filled = incoming.fill() => {
                filled?;
                keep_alive.heard();
            }
        }
    }
}

fn delivered(answer: &PubAck) -> Delivered {
    match answer.reason {
        PubAckReason::Success => Delivered::Taken,
        PubAckReason::NoMatchingSubscribers => Delivered::KeptByNobody,
        code => Delivered::Refused(
            answer
                .properties
                .as_ref()
                .and_then(|properties| properties.reason_string.as_deref())
                .and_then(Words::new)
                .map_or_else(|| format!("{code:?}"), |words| words.to_string()),
        ),
    }
}
