//! Gives archived messages to their recipient once more: published verbatim, by an operator. The recipient's own protection holds:
//! what was read is not shown again, and what is older than the client remembers is refused.

use std::ops::RangeInclusive;

use rand::Rng as _;
use sealpost_archive::layout::LogName;
use sealpost_archive::line::{Body, Line};
use sealpost_archive::log_reader::{LogLines, LogReader, ReadError, Selection};
use sealpost_archive::storage::StoredFile;
use sealpost_core::{Identity, LoginToken, Realm, Timestamp, Topic, UserId};
use sealpost_mqtt::{
    ChannelBinding, ConnectError, CourierError, Delivered, Login, Parcel, Route, courier_hello,
    publish_all,
};

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
    /// Not all was published.
    #[error(transparent)]
    Courier(CourierError<ReadError>),
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
    let hello = courier_hello(client_id.clone());
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
    let connection = Box::pin(broker.connect(&hello, &mut sign_in)).await?;
    let mut lines = log.lines(Selection {
        numbers: wanted.numbers.clone(),
        times: wanted.times.clone(),
        recipient: Some(wanted.to.clone()),
        ..Selection::default()
    });
    let next = || {
        let found = next_wanted(&mut lines, wanted)?;
        Ok(found.map(|(seq, payload)| Parcel {
            name: seq,
            topic: Topic::Inbox(wanted.to.clone()).to_string(),
            retain: false,
            payload: payload.into(),
        }))
    };
    let publishing = publish_all(connection, next, |seq, answer| replayed.note(seq, answer));
    publishing.await.map_err(|error| match error {
        CourierError::Source(error) => ReplayError::Read(error),
        error => ReplayError::Courier(error),
    })
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
    fn note(&mut self, seq: u64, answer: Delivered) {
        self.last_seq = seq;
        match answer {
            Delivered::Taken => self.taken += 1,
            Delivered::KeptByNobody => {
                self.taken += 1;
                self.kept_by_nobody += 1;
            }
            Delivered::Refused(reason) => {
                self.refused += 1;
                if self.reasons.len() < MAX_TOLD {
                    self.reasons.push((seq, reason));
                }
            }
        }
    }
}
