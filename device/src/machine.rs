//! The work: readings into the ring, the ring to the broker, for as long as the machine runs.
//!
//! Readings are gathered for a moment and written together, so that a flash card is not worn by one write for each. The session has a
//! door of its own to the store; that there is something to carry it is told.

use std::time::Duration;

use sealpost::clock;
use sealpost::deadline::at;
use sealpost::event::{Event, Printer};
use sealpost::exit::{Code, Failure, not_read};
use sealpost::lines::next_lines;
use sealpost::reaching::{Limits, Pauses, Refusals, reach};
use sealpost::session::{Happening, Manner, Parts, Session};
use sealpost::settings::Strangers;
use sealpost::store::{Fresh, OutboxEntry, PushError, Ring, SendState, Store};
use sealpost::trust_policy::TrustPolicy;
use sealpost_core::{ReadingGap, UserId};
use sealpost_mqtt::Route;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::input::Line;

/// How many readings are gathered, and how many bytes of them, before they are written at once. Bounds the memory.
const MOST_GATHERED: usize = 256;
const MOST_GATHERED_BYTES: usize = 64 * 1_024;
/// How many lines are taken from standard input at once.
const LINES: usize = 64;
/// How many readings that have arrived are cleared away together when no new ones come.
const CLEAR: usize = 256;
/// How often at most it is said that readings were dropped.
const SAY_DROPPED: Duration = Duration::from_secs(60);
/// How long until a full disk is tried again: twice as long each time, up to the longest.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
const WRITE_AGAIN_MOST: Duration = Duration::from_secs(30);
/// How many messages the broker may have with us unacknowledged: receipts are what comes, and 8 envelopes are less than 1 MiB.
const RECEIVE_MAXIMUM: u16 = 8;
/// How often to look whether another process changed something, which on a device is seldom.
const GLANCE: Duration = Duration::from_secs(2);

/// What a machine is made of.
#[derive(Debug)]
pub struct Machine {
    /// The readings.
    pub ring: Ring,
    /// Its own door to the store.
    pub store: Store,
    /// What the session says.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Where things are said.
    pub log: Printer,
    /// Standard input, until it ends.
    pub lines: mpsc::Receiver<Line>,
    /// How long readings are gathered.
    pub gather: Duration,
    /// How long to go on sending when the input has ended.
    pub timeout: Duration,
    /// Cancelled when it is to end.
    pub stop: CancellationToken,
}

/// How a session is to behave on a device, whoever it is.
#[must_use]
pub fn manner() -> Manner {
    Manner {
        // The recipient is pinned by a link. When they change their identity and sign that with the old one, nobody is here to compare.
        trust: TrustPolicy::Known,
        gives_up: false,
        spares_disk: true,
        strangers: Strangers::Refuse,
        receive_maximum: RECEIVE_MAXIMUM,
        glance: GLANCE,
        ..Manner::default()
    }
}

impl Machine {
    /// Works until it is to stop, or the input has ended and everything has gone or the time for that is up.
    ///
    /// # Errors
    /// What does not pass by itself: a store that is damaged, keys that are gone.
    pub async fn run(self, parts: Parts, broker: &Route, manner: Manner) -> Result<(), Failure> {
        let mut work = Work {
            gathered: Vec::new(),
            bytes: 0,
            write_at: None,
            written: None,
            ended: None,
            lines: Some(self.lines),
            write_again: WRITE_AGAIN,
            disk_full: false,
            dropped: None,
            said_dropped: None,
            hindrance: None,
            ring: self.ring,
            store: self.store,
            events: self.events,
            log: self.log,
            gather: self.gather,
            timeout: self.timeout,
            stop: self.stop,
        };
        work.say_taken(0)?;
        let ended = Box::pin(work.carry_on(parts, broker, manner)).await;
        let finished = work.finish();
        ended.and(finished)
    }
}

struct Work {
    ring: Ring,
    store: Store,
    events: mpsc::UnboundedReceiver<Event>,
    log: Printer,
    lines: Option<mpsc::Receiver<Line>>,
    gather: Duration,
    timeout: Duration,
    stop: CancellationToken,
    /// What was read and is not written yet.
    gathered: Vec<Fresh>,
    bytes: usize,
    /// When to write it.
    write_at: Option<Instant>,
    /// When something was written last.
    written: Option<Instant>,
    /// When the input has ended: until when to go on.
    ended: Option<Instant>,
    write_again: Duration,
    disk_full: bool,
    /// What was dropped and not said yet.
    dropped: Option<ReadingGap>,
    said_dropped: Option<Instant>,
    /// What keeps readings from going on, as it was said last.
    hindrance: Option<String>,
}

impl Work {
    async fn carry_on(
        &mut self,
        parts: Parts,
        broker: &Route,
        manner: Manner,
    ) -> Result<(), Failure> {
        let mut parts = parts;
        let mut pauses = Pauses::default();
        loop {
            let limits = Limits {
                stop: self.stop.clone(),
                time: None,
                refusals: Refusals::AllMayPass,
            };
            let reaching = Box::pin(reach(parts, broker, manner, limits));
            // There is no session when it was stopped, or has nothing more to do.
            let Some(reached) = self.meanwhile(reaching).await? else {
                return Ok(());
            };
            let Some(mut session) = reached? else {
                return Ok(());
            };
            let since = Instant::now();
            let ended = self.serve(&mut session).await;
            let (left, closed) = session.leave().await;
            self.pass_on();
            let failure = match ended {
                Err(failure) if Refusals::AllMayPass.pass(&failure) => failure,
                ended => return ended.and(closed),
            };
            parts = left;
            let pause = pauses.after(since.elapsed());
            self.say(&Event::Status {
                state: "disconnected",
                broker: broker.current().to_string(),
                reason: Some(failure.message),
                hint: Some(failure.hint),
                retry_in: Some(pause.as_secs_f64()),
            });
            let stop = self.stop.clone();
            let waiting = async move {
                tokio::select! {
                    () = tokio::time::sleep(pause) => false,
                    () = stop.cancelled() => true,
                }
            };
            if self.meanwhile(Box::pin(waiting)).await?.unwrap_or(true) {
                return Ok(());
            }
        }
    }

    /// Takes readings while something else is waited for. `None` when there is nothing more to do.
    async fn meanwhile<T>(
        &mut self,
        mut what: impl Future<Output = T> + Unpin,
    ) -> Result<Option<T>, Failure> {
        loop {
            if self.is_done()? {
                return Ok(None);
            }
            let ended = self.ended;
            tokio::select! {
                done = &mut what => return Ok(Some(done)),
                wrote = self.step() => {
                    wrote?;
                }
                () = at(ended) => return Ok(None),
            }
        }
    }

    async fn serve(&mut self, session: &mut Session) -> Result<(), Failure> {
        session.carry()?;
        loop {
            self.pass_on();
            if self.is_done()? {
                return Ok(());
            }
            let (ended, stop) = (self.ended, self.stop.clone());
            tokio::select! {
                happening = session.next() => {
                    if let Happening::Outgoing(entry) = happening? {
                        self.outgoing(&entry)?;
                    }
                }
                wrote = self.step() => {
                    if wrote? {
                        session.carry()?;
                    }
                }
                () = at(ended) => return Ok(()),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Waits for the next thing to do that takes no broker, and does it. Says whether there is more to send.
    async fn step(&mut self) -> Result<bool, Failure> {
        let room = self.gathered.len() < MOST_GATHERED && self.bytes < MOST_GATHERED_BYTES;
        let write_at = self.write_at;
        let say_at = match (&self.dropped, self.said_dropped) {
            (Some(_), said) => said.map(|said| said + SAY_DROPPED).or(write_at),
            (None, _) => None,
        };
        tokio::select! {
            lines = next_lines(&mut self.lines, LINES), if room => {
                self.take(lines);
                Ok(false)
            }
            () = at(write_at), if write_at.is_some() => self.write(),
            () = at(say_at), if say_at.is_some() => {
                self.say_dropped();
                Ok(false)
            }
            Some(event) = self.events.recv() => {
                self.say(&event);
                Ok(false)
            }
        }
    }

    /// Whether the input has ended and nothing is left to send.
    fn is_done(&self) -> Result<bool, Failure> {
        let over = self.lines.is_none() && self.gathered.is_empty();
        Ok(over && self.store.queued()? == 0)
    }

    fn take(&mut self, lines: Vec<Line>) {
        let now = Instant::now();
        if lines.is_empty() {
            self.end_input(now);
        }
        for line in lines {
            match line {
                Line::Reading(fresh) => {
                    self.bytes += fresh.value.len();
                    self.gathered.push(fresh);
                }
                Line::Refused(number, why) => self.say(&Event::Error {
                    code: Code::Failed as u8,
                    message: format!("line {number} is not sent: {why}"),
                    hint: "The others are.".to_owned(),
                }),
                Line::Failed(error) => {
                    self.say(&not_read(&error).event());
                    self.end_input(now);
                }
            }
        }
        if self.gathered.is_empty() || self.disk_full {
            return;
        }
        let full = self.gathered.len() >= MOST_GATHERED || self.bytes >= MOST_GATHERED_BYTES;
        let due = match self.written {
            Some(written) if !full && self.lines.is_some() => now.max(written + self.gather),
            _ => now,
        };
        self.write_at = Some(self.write_at.map_or(due, |at| at.min(due)));
    }

    fn end_input(&mut self, now: Instant) {
        self.lines = None;
        self.ended = Some(now + self.timeout);
    }

    /// Writes what was gathered. Says whether it did: a full disk is waited for.
    fn write(&mut self) -> Result<bool, Failure> {
        self.write_at = None;
        if self.gathered.is_empty() {
            return Ok(false);
        }
        match self
            .ring
            .push(&mut self.store, &self.gathered, clock::now())
        {
            Ok(pushed) => {
                let count = self.gathered.len();
                self.gathered.clear();
                self.bytes = 0;
                self.written = Some(Instant::now());
                self.write_again = WRITE_AGAIN;
                self.disk_full = false;
                self.say_taken(count as u64)?;
                for gap in pushed.dropped {
                    self.note_dropped(gap);
                }
                Ok(true)
            }
            Err(error) => {
                let failure = passing(error)?;
                if !self.disk_full {
                    self.say(&failure.event());
                }
                self.disk_full = true;
                self.write_at = Some(Instant::now() + self.write_again);
                self.write_again = (self.write_again * 2).min(WRITE_AGAIN_MOST);
                Ok(false)
            }
        }
    }

    fn outgoing(&mut self, entry: &OutboxEntry) -> Result<(), Failure> {
        let arrived = entry.state >= SendState::Delivered && entry.state != SendState::Failed;
        if arrived && entry.to == *self.ring.to() {
            self.ring.has_arrived(entry.id);
            if self.ring.cleared_next() >= CLEAR
                && let Err(error) = self.ring.clear(&mut self.store)
            {
                // They are cleared away with what is written next.
                passing(error.into())?;
            }
        }
        // People want to know what keeps readings here, once; scripts everything.
        let problem = entry
            .problem
            .as_ref()
            .map(|problem| problem.message.clone());
        let news = problem.is_some() && problem != self.hindrance;
        if news || entry.state != SendState::Queued {
            self.hindrance = problem;
        }
        if news || self.log.is_json() {
            self.say(&Event::outbox(entry));
        }
        Ok(())
    }

    fn note_dropped(&mut self, gap: ReadingGap) {
        self.dropped = match self.dropped.take() {
            None => Some(gap),
            Some(before) => before.and(gap).or_else(|| {
                self.say(&Event::dropped(self.ring.to(), &before));
                Some(gap)
            }),
        };
        if self
            .said_dropped
            .is_none_or(|said| said.elapsed() >= SAY_DROPPED)
        {
            self.say_dropped();
        }
    }

    fn say_dropped(&mut self) {
        if let Some(gap) = self.dropped.take() {
            self.said_dropped = Some(Instant::now());
            self.say(&Event::dropped(self.ring.to(), &gap));
        }
    }

    /// For who feeds us: what is on disk need not be given again.
    fn say_taken(&mut self, count: u64) -> Result<(), Failure> {
        if self.log.is_json() {
            let event = Event::Taken {
                to: self.ring.to().to_string(),
                number: self.store.last_reading()?,
                count,
            };
            self.say(&event);
        }
        Ok(())
    }

    /// What the session said.
    fn pass_on(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.say(&event);
        }
    }

    /// Into the log, which may have no reader.
    fn say(&mut self, event: &Event) {
        let _ = self.log.print(event);
    }

    /// Writes what was read until now: at the end, what came in is on disk.
    fn finish(&mut self) -> Result<(), Failure> {
        let waiting: Vec<Line> = self
            .lines
            .as_mut()
            .map(|lines| std::iter::from_fn(|| lines.try_recv().ok()).collect())
            .unwrap_or_default();
        if !waiting.is_empty() {
            self.take(waiting);
        }
        self.pass_on();
        let lost = self.gathered.len();
        let written = self.write();
        self.say_dropped();
        if !self.gathered.is_empty() {
            return Err(Failure::new(
                Code::Failed,
                format!("{lost} readings could not be written and are lost"),
                "Make room on the disk of --home.",
            ));
        }
        written?;
        let cleared = self.ring.clear(&mut self.store).map_err(PushError::Store);
        if let Err(error) = cleared {
            passing(error)?;
        }
        let left = self.store.queued()?;
        if left > 0 {
            self.log.note(&format!(
                "sealpost-device: {left} messages are kept and go at the next start"
            ))?;
        }
        Ok(())
    }
}

/// What passes by itself; the rest is an error.
fn passing(error: PushError) -> Result<Failure, Failure> {
    let failure = Failure::from(error);
    match failure.passes {
        true => Ok(failure),
        false => Err(failure),
    }
}

/// Everything that a machine needs, out of a home: the session's parts, and the rest.
///
/// # Errors
/// When the store cannot be used.
pub fn parts_and_ring(
    session_store: Store,
    store: Store,
    account: sealpost::account::Account,
    to: &UserId,
    limits: sealpost::store::RingLimits,
) -> Result<(Parts, Ring, Store, mpsc::UnboundedReceiver<Event>), Failure> {
    let mut store = store;
    session_store.be_small()?;
    store.be_small()?;
    let ring = Ring::open(&mut store, to, limits)?;
    let (said, events) = mpsc::unbounded_channel();
    let parts = Parts {
        account,
        store: session_store,
        printer: Printer::to(said),
    };
    Ok((parts, ring, store, events))
}
