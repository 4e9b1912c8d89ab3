//! Gives archived messages to their recipient once more: published verbatim, by an operator. The recipient's own protection holds:
//! what was read is not shown again, and what is older than the client remembers is refused.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::Rng as _;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PingReq, PubAck, PubAckReason, Publish};
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogLines, LogReader, ReadError, Selection};
use sealpost_archive::storage::StoredFile;
use sealpost_core::{Identity, LoginToken, Realm, Timestamp, Topic, UserId};
use sealpost_mqtt::{
    ChannelBinding, ConnectError, Connection, ConnectionError, Hello, KeepAlive, Login, Route,
    close, closed, unexpected,
};

/// How many publishes may be without an acknowledgement, if the broker allows as many: enough to keep a disk's group commit busy,
/// few enough to be sent again after a broken connection.
const WINDOW: u16 = 1_000;

/// The keep-alive asked for.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The largest packet taken: acknowledgements.
const MAX_PACKET: u32 = 64 << 10;

/// Room made before each read, in bytes.
const READ_AHEAD: usize = 16 << 10;

/// How many refused messages are told one by one.
const MAX_TOLD: usize = 20;

/// Which messages are given once more.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// To whom.
    pub to: UserId,
    /// Which lines.
    pub numbers: RangeInclusive<u64>,
    /// When they were archived.
    pub times: RangeInclusive<Timestamp>,
}

/// Who gives them: an operator, as the broker's settings list one.
#[derive(Debug)]
pub struct Operator {
    /// The operator's name.
    pub name: UserId,
    /// The operator's key.
    pub identity: Identity,
    /// The realm.
    pub realm: Realm,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Messages that the broker took.
    pub taken: u64,
    /// Of these, how many nobody keeps: the recipient has no session.
    pub kept_by_nobody: u64,
    /// Messages that the broker refused.
    pub refused: u64,
    /// The first of these: line and reason.
    pub reasons: Vec<(u64, String)>,
    /// The last line up to which all was answered; 0 if there was none.
    pub last_seq: u64,
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Connection(#[from] ConnectionError),
    /// The broker acknowledged what was not sent.
    #[error("the broker acknowledged packet {0}, which was not sent")]
    Unasked(u16),
}

/// A message on its way.
struct UnderWay {
    packet_id: u16,
    seq: u64,
    answer: Option<PubAck>,
}

/// Publishes what is wanted of the log, in order, each acknowledged before the next window goes out. What became of it is in
/// `replayed`, also when it ends early.
///
/// # Errors
/// [`ReplayError`]; what was not answered may or may not have arrived, and is harmless if it is sent again.
pub async fn replay<F: StoredFile>(
    log: &LogReader<F>,
    wanted: &Wanted,
    operator: &Operator,
    broker: &Route,
    now: fn() -> Timestamp,
    replayed: &mut Replayed,
) -> Result<(), ReplayError> {
    debug_assert_eq!(log.log(), LogName::EncryptedLogs);
    let client_id = format!("sealpost-replay-{}", operator.name);
    let hello = Hello {
        client_id: client_id.clone(),
        session_expiry: None,
        receive_maximum: 1,
        max_packet: MAX_PACKET,
        keep_alive: KEEP_ALIVE,
        read_ahead: READ_AHEAD,
    };
    let mut sign_in = |binding: &ChannelBinding| {
        let mut nonce = [0; 16];
        rand::rng().fill_bytes(&mut nonce);
        Login {
            user: operator.name.to_string(),
            password: LoginToken::mint(
                &operator.identity,
                &operator.realm,
                &operator.name,
                &client_id,
                now(),
                nonce,
                binding.as_bytes(),
            ),
        }
    };
    let Connection {
        mut incoming,
        mut outgoing,
        welcome,
        ..
    } = Box::pin(broker.connect(&hello, &mut sign_in)).await?;
    let window = usize::from(welcome.receive_maximum.min(WINDOW)).max(1);
    let mut keep_alive = KeepAlive::new(welcome.keep_alive, KEEP_ALIVE);
    let mut lines = log.lines(Selection {
        numbers: wanted.numbers.clone(),
        times: wanted.times.clone(),
        recipient: Some(wanted.to.clone()),
        ..Selection::default()
    });
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    let mut next_id: u16 = 1;
    let mut more = true;
    loop {
        while more && under_way.len() < window {
            let Some((seq, payload)) = next_wanted(&mut lines, wanted)? else {
                more = false;
                break;
            };
            let topic = Topic::Inbox(wanted.to.clone()).to_string();
            let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload, None);
            publish.pkid = next_id;
            outgoing.push(&Packet::Publish(publish))?;
            under_way.push_back(UnderWay {
                packet_id: next_id,
                seq,
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
                        .ok_or(ReplayError::Unasked(answer.pkid))?;
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
                replayed.note(sent.seq, &answer);
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

/// The next line that is wanted: its number and the envelope.
fn next_wanted<F: StoredFile>(
    lines: &mut LogLines<'_, F>,
    wanted: &Wanted,
) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
    let topic = Topic::Inbox(wanted.to.clone()).to_string();
    while let Some(found) = lines.next_line()? {
        if !wanted.times.contains(&found.archived_at) {
            continue;
        }
        // What is damaged is `verify`'s to tell; what was erased is gone.
        if let Ok(line) = Line::parse(found.bytes)
            && let Body::Message(message) = line.body
            && message.error.is_none()
            && *message.topic == *topic.as_bytes()
        {
            return Ok(Some((line.seq, message.payload.into_owned())));
        }
    }
    Ok(None)
}

impl Replayed {
    fn note(&mut self, seq: u64, answer: &PubAck) {
        self.last_seq = seq;
        match answer.reason {
            PubAckReason::Success => self.taken += 1,
            PubAckReason::NoMatchingSubscribers => {
                self.taken += 1;
                self.kept_by_nobody += 1;
            }
            code => {
                self.refused += 1;
                if self.reasons.len() < MAX_TOLD {
                    let said = answer
                        .properties
                        .as_ref()
                        .and_then(|properties| properties.reason_string.as_deref())
                        .and_then(sealpost_mqtt::Words::new)
                        .map_or_else(|| format!("{code:?}"), |words| words.to_string());
                    self.reasons.push((seq, said));
                }
            }
        }
    }
}
