//! The outbox: every message of ours from the moment it is on disk, and how far it has got. What arrived stays as our
//! half of the history.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};
use sealpost_core::{Lifetime, MessageId, ReceiptState, Receipted, Timestamp, UserId};
use zeroize::Zeroizing;

use super::changes::Nature;
use super::contacts::message_id;
use super::{Store, StoreError, from_sql, timestamp_from, to_sql, user_from};

/// How many messages may be queued: a script that goes wrong fills this and not the disk.
pub const MAX_QUEUED: u32 = 100_000;
/// And how many bytes of text they may have together.
pub const MAX_QUEUED_BYTES: u64 = 256 * 1024 * 1024;
/// How many versions of one message are remembered, each sealed after the recipient's keys had changed.
const MAX_VERSIONS: usize = 16;
/// When a message that the broker has and nobody receipted is sent again, a day; from then on after twice as long.
const SEND_AGAIN_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// The longest of these waits. What is to go later than after it was put off while the clock was ahead.
const SEND_AGAIN_MOST_MILLIS: i64 = SEND_AGAIN_MILLIS << SEND_AGAIN_DOUBLINGS;
const SEND_AGAIN_DOUBLINGS: u8 = 5;
/// How long after a receipt for a later message an earlier one is sent again that the broker took and nobody receipted: it was
/// probably lost, by a broker that does not keep all that it acknowledges. Long enough for receipts that are on their way, and
/// for brokers that deliver again by themselves.
const OVERTAKEN_MILLIS: i64 = 30_000;
/// The longest that a queued message is put off. What is to go later was put off while the clock was ahead, too.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// A message that has got nowhere after so long is given up, and reported. As long as mailboxes keep mail.
pub const GIVE_UP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The clock may be looked at so seldom, and no more seldom, that what it says has gone by counts for [`GIVE_UP`]: after
/// more we were not there to try, or it was set.
const UNWATCHED_MILLIS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// How often it is written down that the clock was looked at; and how far it may go back without having been set.
const WATCH_MILLIS: u64 = 60 * 60 * 1_000;

/// When what is not sent again is due, ms since the epoch.
pub(super) const NEVER: i64 = Timestamp::MAX.millis().cast_signed();

/// How far a message of ours has got. Later ones include the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendState {
    /// On disk here.
    Queued,
    /// With the broker, on its disk.
    Sent,
    /// Opened and stored by the recipient, by their sealed receipt.
    Delivered,
    /// Shown to the recipient, by their sealed receipt.
    Read,
    /// Given up. It is kept, and goes again when it is told to.
    Failed,
}

impl SendState {
    /// As scripts see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SendState::Queued => "queued",
            SendState::Sent => "sent",
            SendState::Delivered => "delivered",
            SendState::Read => "read",
            SendState::Failed => "failed",
        }
    }

    /// From [`SendState::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<SendState> {
        use SendState::{Delivered, Failed, Queued, Read, Sent};
        [Queued, Sent, Delivered, Read, Failed]
            .into_iter()
            .find(|state| state.as_str() == word)
    }

    pub(super) fn number(self) -> u8 {
        match self {
            SendState::Queued => 0,
            SendState::Sent => 1,
            SendState::Delivered => 2,
            SendState::Read => 3,
            SendState::Failed => 4,
        }
    }

    pub(super) fn read(number: u8) -> Result<SendState, StoreError> {
        Ok(match number {
            0 => SendState::Queued,
            1 => SendState::Sent,
            2 => SendState::Delivered,
            3 => SendState::Read,
            4 => SendState::Failed,
            _ => return Err(StoreError::Damaged("the state of a message is unknown")),
        })
    }
}

/// What keeps a message from going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The exit code that belongs to it.
    pub code: u8,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A message of ours, as it is shown.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Whom it is for.
    pub to: UserId,
    /// Its name.
    pub id: MessageId,
    /// When it was written.
    pub written: Timestamp,
    /// How far it has got.
    pub state: SendState,
    /// Since when.
    pub changed: Timestamp,
    /// What keeps it from going on.
    pub problem: Option<Problem>,
}

/// A message that is to go to the broker now.
#[derive(Debug)]
pub struct Due {
    /// Its place in the outbox.
    pub number: i64,
    /// Whom it is for.
    pub to: UserId,
    /// Its name.
    pub id: MessageId,
    /// When it was written.
    pub written: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// The envelope, when it was sealed before.
    pub envelope: Option<Vec<u8>>,
    /// Its content as JSON.
    pub body: Zeroizing<Vec<u8>>,
}

/// A message that was sealed, to be written down before it goes.
#[derive(Debug)]
pub struct Sealed<'a> {
    /// Its place in the outbox.
    pub number: i64,
    /// The envelope.
    pub envelope: &'a sealpost_core::Envelope,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// The broker has it on disk.
    Taken,
    /// Not yet: to be tried again at that time.
    Later(Timestamp, Problem),
    /// Not at all.
    Failed(Problem),
}

struct RawDue {
    number: i64,
    to: String,
    id: Vec<u8>,
    written: i64,
    attempts: u32,
    envelope: Option<Vec<u8>>,
    body: Vec<u8>,
}

pub(super) const ENTRY: &str =
    "recipient, id, written, state, changed, problem_code, problem, hint";

pub(super) type RawEntry = (
    String,
    Vec<u8>,
    i64,
    u8,
    i64,
    Option<u8>,
    Option<String>,
    Option<String>,
);

pub(super) fn raw_entry(row: &Row<'_>) -> rusqlite::Result<RawEntry> {
    row.try_into()
}

pub(super) fn entry(raw: RawEntry) -> Result<OutboxEntry, StoreError> {
    let (to, id, written, state, changed, code, problem, hint) = raw;
    Ok(OutboxEntry {
        to: user_from(&to)?,
        id: message_id(&id)?,
        written: timestamp_from(from_sql(written)?)?,
        state: SendState::read(state)?,
        changed: timestamp_from(from_sql(changed)?)?,
        problem: problem.map(|message| Problem {
            code: code.unwrap_or(1),
            message,
            hint: hint.unwrap_or_default(),
        }),
    })
}

impl Store {
    /// Takes messages over: when it returns they are on disk, all or none. `bodies` are their contents as JSON. Who is
    /// written to is accepted from now on: receipts go there.
    pub fn enqueue(
        &mut self,
        to: &UserId,
        messages: &[(MessageId, Zeroizing<String>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.group(|store| store.take_over(to, messages, now))
    }

    fn take_over(
        &mut self,
        to: &UserId,
        messages: &[(MessageId, Zeroizing<String>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = messages
            .iter()
            .map(|(id, body)| self.encrypt(&ours(to, id), body.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let tx = &self.db;
        let (count, bytes): (u32, i64) = tx.query_row(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox WHERE state = 0",
            [],
            |row| row.try_into(),
        )?;
        let more: u64 = sealed.iter().map(|body| body.len() as u64).sum();
        if count as usize + messages.len() > MAX_QUEUED as usize
            || from_sql(bytes)? + more > MAX_QUEUED_BYTES
        {
            return Err(StoreError::OutboxFull);
        }
        let lifetime = self.conversation(to)?.lifetime().map(Lifetime::seconds);
        let mut insert = tx.prepare_cached(
            "INSERT INTO outbox (recipient, id, written, body, changed, target, change, lifetime)
             VALUES (?1, ?2, ?3, ?4, ?3, ?5, ?6, ?7)",
        )?;
        for ((id, text), body) in messages.iter().zip(&sealed) {
            let nature = Nature::of(text.as_bytes());
            let mut lifetime = lifetime;
            match nature {
                Nature::Deletion(of) => drop(self.erase_ours(to, &of)?),
                Nature::Expiry(expiry) => {
                    self.take_expiry(to, expiry, now)?;
                    lifetime = None;
                }
                _ => {}
            }
            let (target, change) = nature.change();
            insert.execute(params![
                to.as_str(),
                id.as_bytes(),
                to_sql(now.millis()),
                body,
                target,
                change,
                lifetime
            ])?;
        }
        super::receipts::accept(tx, to)?;
        Ok(())
    }

    /// What is to go now, in the order it was written: queued messages, and those that nobody receipted for long. A
    /// message that waits keeps those behind it to the same recipient waiting, so that they arrive in order. Nothing waits
    /// because the clock was wrong when it was put off.
    pub fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT number, recipient, id, written, attempts, envelope, body FROM outbox AS this
             WHERE state = 0 AND NOT EXISTS (
                 SELECT 1 FROM outbox AS before
                 WHERE before.recipient = this.recipient AND before.state = 0
                 AND before.number <= this.number AND before.due > ?1 AND before.due <= ?3)
             UNION ALL
             SELECT number, recipient, id, written, attempts, envelope, body FROM outbox
             WHERE state = 1 AND (due <= ?1 OR (due > ?4 AND due < ?5))
             ORDER BY number LIMIT ?2",
        )?;
        let now = to_sql(now.millis());
        let bounds = params![
            now,
            to_sql(limit as u64),
            now.saturating_add(to_sql(millis(LONGEST_WAIT))),
            now.saturating_add(SEND_AGAIN_MOST_MILLIS),
            NEVER
        ];
        let rows = statement.query_map(bounds, |row| {
            Ok(RawDue {
                number: row.get(0)?,
                to: row.get(1)?,
                id: row.get(2)?,
                written: row.get(3)?,
                attempts: row.get(4)?,
                envelope: row.get(5)?,
                body: row.get(6)?,
            })
        })?;
        rows.map(|row| {
            let row = row?;
            let (to, id) = (user_from(&row.to)?, message_id(&row.id)?);
            let body = self.decrypt(&ours(&to, &id), &row.body)?;
            Ok(Due {
                number: row.number,
                written: timestamp_from(from_sql(row.written)?)?,
                attempts: row.attempts,
                envelope: row.envelope,
                to,
                id,
                body,
            })
        })
        .collect()
    }

    /// When something is due next, if anything waits.
    pub fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due: Option<i64> = self
            .db
            .prepare_cached("SELECT min(due) FROM outbox WHERE state IN (0, 1)")?
            .query_row([], |row| row.get(0))?;
        due.map(|due| timestamp_from(from_sql(due)?)).transpose()
    }

    /// The message to this recipient that was sealed last: what the next one names as its `prev`.
    pub fn last_sealed(&self, to: &UserId) -> Result<Option<MessageId>, StoreError> {
        let id: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT last_sent FROM contacts WHERE user = ?1")?
            .query_row([to.as_str()], |row| row.get(0))
            .optional()?
            .flatten();
        id.map(|id| message_id(&id)).transpose()
    }

    /// Writes down envelopes before they go, so that what is sent again is the same bytes.
    pub fn write_sealed(&mut self, sealed: &[Sealed<'_>]) -> Result<(), StoreError> {
        let tx = self.immediate()?;
        for Sealed { number, envelope } in sealed {
            let digests: Vec<u8> = tx
                .prepare_cached("SELECT digests FROM outbox WHERE number = ?1")?
                .query_row([number], |row| row.get(0))?;
            let mut digests: Vec<[u8; 32]> = digests.as_chunks().0.to_vec();
            let again = !digests.is_empty();
            digests.push(envelope.digest());
            let surplus = digests.len().saturating_sub(MAX_VERSIONS);
            tx.prepare_cached("UPDATE outbox SET envelope = ?2, digests = ?3 WHERE number = ?1")?
                .execute(params![
                    number,
                    envelope.as_bytes(),
                    digests.get(surplus..).unwrap_or_default().as_flattened()
                ])?;
            if !again {
                tx.prepare_cached("UPDATE contacts SET last_sent = ?2 WHERE user = ?1")?
                    .execute(params![envelope.to().as_str(), envelope.id().as_bytes()])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// Writes down what became of attempts.
    pub fn attempted(
        &mut self,
        attempts: &[(i64, Attempt)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let tx = self.immediate()?;
        for (number, attempt) in attempts {
            match attempt {
                Attempt::Taken => {
                    // What failed before the broker had it does not count: it goes again a day after that.
                    tx.prepare_cached(
                        "UPDATE outbox SET changed = iif(state = 0, ?2, changed), attempts = iif(state = 0, 1, attempts + 1),
                             due = min(?2 + (?3 << min(iif(state = 0, 0, attempts), ?5)), ?4),
                             expires = coalesce(expires, ?2 + lifetime * 1000),
                             state = max(state, 1), problem = NULL, hint = NULL, problem_code = NULL
                         WHERE number = ?1 AND state IN (0, 1)",
                    )?
                    .execute(params![
                        number,
                        to_sql(now.millis()),
                        SEND_AGAIN_MILLIS,
                        NEVER,
                        SEND_AGAIN_DOUBLINGS
                    ])?;
                }
                Attempt::Later(due, problem) => {
                    tx.prepare_cached(
                        "UPDATE outbox SET attempts = attempts + 1, due = ?2, problem_code = ?3, problem = ?4, hint = ?5
                         WHERE number = ?1 AND state IN (0, 1)",
                    )?
                    .execute(params![
                        number,
                        to_sql(due.millis()),
                        problem.code,
                        problem.message,
                        problem.hint
                    ])?;
                }
                Attempt::Failed(problem) => {
                    tx.prepare_cached(
                        "UPDATE outbox SET state = 4, changed = ?2, problem_code = ?3, problem = ?4, hint = ?5
                         WHERE number = ?1 AND state IN (0, 1)",
                    )?
                    .execute(params![
                        number,
                        to_sql(now.millis()),
                        problem.code,
                        problem.message,
                        problem.hint
                    ])?;
                }
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// Something changed about this recipient: what waits for them is due now.
    pub fn wake(&mut self, to: &UserId) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE outbox SET due = 0, attempts = 0 WHERE recipient = ?1 AND state = 0 AND due > 0",
            )?
            .execute([to.as_str()])?;
        Ok(())
    }

    /// What waits for a recipient waits until then, for this reason.
    pub fn hold_up(
        &mut self,
        to: &UserId,
        until: Timestamp,
        problem: &Problem,
    ) -> Result<Vec<MessageId>, StoreError> {
        self.put_off("recipient = ?1 AND state = 0", to, until, problem)
    }

    /// The first message that waits for a recipient waits until then, for this reason, and keeps those behind it waiting.
    pub fn hold_up_first(
        &mut self,
        to: &UserId,
        until: Timestamp,
        problem: &Problem,
    ) -> Result<Vec<MessageId>, StoreError> {
        let first = "number = (SELECT min(number) FROM outbox WHERE recipient = ?1 AND state = 0)";
        self.put_off(first, to, until, problem)
    }

    /// Puts off those of a recipient's messages that `which` names in SQL, and returns them.
    fn put_off(
        &mut self,
        which: &'static str,
        to: &UserId,
        until: Timestamp,
        problem: &Problem,
    ) -> Result<Vec<MessageId>, StoreError> {
        let mut statement = self.db.prepare_cached(&format!(
            "UPDATE outbox SET due = ?2, attempts = attempts + 1, problem_code = ?3, problem = ?4, hint = ?5
             WHERE {which} RETURNING id"
        ))?;
        let ids = statement.query_map(
            params![
                to.as_str(),
                to_sql(until.millis()),
                problem.code,
                problem.message,
                problem.hint
            ],
            |row| row.get::<_, Vec<u8>>(0),
        )?;
        ids.map(|id| message_id(&id?)).collect()
    }

    /// Gives up what has got nowhere for [`GIVE_UP`], and returns it. What nobody receipted for as long is not sent
    /// again. Time counts while this is called now and then: not what goes by while the machine is off for long, nor what a
    /// clock that is set passes over.
    pub fn give_up(&mut self, now: Timestamp) -> Result<Vec<OutboxEntry>, StoreError> {
        let long_ago = now.millis().saturating_sub(millis(GIVE_UP));
        if self.watched_since(now)? >= long_ago {
            return Ok(Vec::new());
        }
        let long_ago = to_sql(long_ago);
        let tx = self.immediate()?;
        tx.execute(
            "UPDATE outbox SET due = ?2 WHERE state = 1 AND due < ?2 AND written < ?1",
            params![long_ago, NEVER],
        )?;
        let given_up = tx
            .prepare_cached(&format!(
                "UPDATE outbox SET state = 4, changed = ?2, problem_code = coalesce(problem_code, 1),
                     problem = coalesce(problem || ' (for 30 days)', 'it could not be sent for 30 days'),
                     hint = coalesce(hint, 'Send it again: sealpost outbox retry')
                 WHERE state = 0 AND written < ?1 RETURNING {ENTRY}"
            ))?
            .query_map(params![long_ago, to_sql(now.millis())], raw_entry)?
            .collect::<Result<Vec<_>, _>>()?;
        tx.commit()?;
        given_up.into_iter().map(entry).collect()
    }

    /// Since when, in ms since the epoch, the clock has gone on as clocks do.
    pub(super) fn watched_since(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let now = now.millis();
        let before: Option<String> = self
            .db
            .prepare_cached("SELECT value FROM meta WHERE key = 'outbox watched'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let before = before
            .as_deref()
            .and_then(|times| times.split_once(' '))
            .and_then(|(since, last)| Some((since.parse().ok()?, last.parse().ok()?)));
        let (since, last): (u64, Option<u64>) = match before {
            Some((since, last)) if now < last => match last - now < WATCH_MILLIS {
                true => return Ok(since),
                false => (now, None),
            },
            Some((since, last)) if now - last <= UNWATCHED_MILLIS => (since, Some(last)),
            _ => (now, None),
        };
        if last.is_none_or(|last| now - last >= WATCH_MILLIS) {
            self.db.execute(
                "INSERT INTO meta (key, value) VALUES ('outbox watched', ?1)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [format!("{since} {now}")],
            )?;
        }
        Ok(since)
    }

    /// Believes a receipt of `from`, whose envelope has the name `receipt`: marks that as seen and returns what got
    /// further, in one transaction. Messages to others, and those of which another envelope is named, stay as they are.
    pub fn receipted(
        &mut self,
        from: &UserId,
        receipt: (&MessageId, Timestamp),
        state: ReceiptState,
        messages: &[Receipted],
        now: Timestamp,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let reached = match state {
            ReceiptState::Read => SendState::Read,
            _ => SendState::Delivered,
        };
        let tx = self.immediate()?;
        if !super::inbox::mark_seen(&tx, from, receipt.0, receipt.1, now)? {
            return Ok(Vec::new());
        }
        let mut further = Vec::new();
        let mut latest = 0;
        for Receipted { id, digest } in messages {
            let known: Option<(i64, Vec<u8>)> = tx
                .prepare_cached(
                    "SELECT number, digests FROM outbox WHERE id = ?1 AND recipient = ?2 AND state != ?3
                     AND (state < ?3 OR state = 4)",
                )?
                .query_row(
                    params![id.as_bytes(), from.as_str(), reached.number()],
                    |row| row.try_into(),
                )
                .optional()?;
            match known {
                Some((number, digests)) if digests.as_chunks().0.contains(digest) => {
                    latest = latest.max(number);
                }
                _ => continue,
            }
            // The envelope is of no use any more; the text stays as history.
            let row = tx
                .prepare_cached(&format!(
                    "UPDATE outbox SET state = ?2, changed = ?3, envelope = NULL, expires = coalesce(expires, ?3 + lifetime * 1000),
                         problem = NULL, hint = NULL, problem_code = NULL
                     WHERE id = ?1 RETURNING {ENTRY}"
                ))?
                .query_row(
                    params![id.as_bytes(), reached.number(), to_sql(now.millis())],
                    raw_entry,
                )?;
            further.push(entry(row)?);
        }
        hasten_overtaken(&tx, from, latest, now)?;
        tx.commit()?;
        Ok(further)
    }

    /// One message of ours.
    pub fn outbox_entry(&self, id: &MessageId) -> Result<Option<OutboxEntry>, StoreError> {
        self.db
            .prepare_cached(&format!("SELECT {ENTRY} FROM outbox WHERE id = ?1"))?
            .query_row([id.as_bytes()], raw_entry)
            .optional()?
            .map(entry)
            .transpose()
    }

    /// What has not arrived: queued, sent and failed, oldest first, at most `limit`.
    pub fn unfinished(&self, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        self.db
            .prepare_cached(&format!(
                "SELECT {ENTRY} FROM outbox WHERE state IN (0, 1, 4) ORDER BY number LIMIT ?1"
            ))?
            .query_map([limit], raw_entry)?
            .map(|row| entry(row?))
            .collect()
    }

    /// How many messages are queued.
    pub fn queued(&self) -> Result<u32, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT count(*) FROM outbox WHERE state = 0")?
            .query_row([], |row| row.get(0))?)
    }

    /// Tries a message again now, one that was given up too. Says whether there was one to try.
    pub fn retry_outgoing(&mut self, id: &MessageId, now: Timestamp) -> Result<bool, StoreError> {
        let changed = self.db.execute(
            "UPDATE outbox SET state = iif(state = 4, 0, state), due = 0, attempts = 0, written = iif(state = 4, ?2, written),
                 changed = iif(state = 4, ?2, changed), problem = NULL, hint = NULL, problem_code = NULL
             WHERE id = ?1 AND state IN (0, 1, 4)",
            params![id.as_bytes(), to_sql(now.millis())],
        )?;
        Ok(changed == 1)
    }

    /// Forgets a message that has not arrived. The broker may have it already. Says whether there was one.
    pub fn drop_outgoing(&mut self, id: &MessageId) -> Result<bool, StoreError> {
        let changed = self.db.execute(
            "DELETE FROM outbox WHERE id = ?1 AND state IN (0, 1, 4)",
            [id.as_bytes()],
        )?;
        Ok(changed == 1)
    }
}

/// What was sent once to this recipient, before the message that is known to have come, goes again soon: once, for nobody who
/// receipts one message and not another has it sent more often than by time.
fn hasten_overtaken(
    tx: &super::change::Change<'_>,
    to: &UserId,
    latest: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let soon = to_sql(now.millis()).saturating_add(OVERTAKEN_MILLIS);
    tx.prepare_cached(
        "UPDATE outbox SET due = ?3
         WHERE state = 1 AND due > ?3 AND due < ?4 AND attempts = 1 AND recipient = ?1 AND number < ?2",
    )?
    .execute(params![to.as_str(), latest, soon, NEVER])?;
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Binds the text of a message of ours to its place.
pub(super) fn ours(to: &UserId, id: &MessageId) -> Vec<u8> {
    format!("sealpost/1 sent message\n{to}\n{id}").into_bytes()
}

#[cfg(test)]
mod tests;
