//! Publishers and subscribers at work together: every role a thread, one start, one account at the end.

use std::ops::Range;
use std::thread;

use thiserror::Error;

use crate::connection::{Connection, ConnectionError, Introduction, Limits, READ_BUFFER};
use crate::ledger::Tally;
use crate::loopback::LoopbackAddr;
use crate::process_stats::ProcessStats;
use crate::publisher::{Final, Published, Publisher, Quota};
use crate::stamp::Clock;
use crate::subscriber::{Received, Subscriber};

/// Bytes of the read buffer of one of very many connections. It grows when something larger comes.
const SMALL_BUFFER: usize = 128;

/// Why a run could not be made at all. What goes wrong later is a flaw in its report.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// A connection could not be set up.
    #[error("{role}: {source}")]
    Connection {
        /// Whose.
        role: String,
        /// Why.
        source: ConnectionError,
    },
    /// A thread of the generator ended in a way it never should.
    #[error("a thread of the generator panicked")]
    Panicked,
}

/// Who is running, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The number in its stamps and client ids.
    pub(crate) number: u32,
    /// The broker.
    pub(crate) broker: LoopbackAddr,
    /// The broker's process, if it is known.
    pub(crate) pid: Option<u32>,
    /// When to give up.
    pub(crate) limits: Limits,
}

impl Run {
    /// A run with a number of its own.
    pub(crate) fn new(broker: LoopbackAddr, pid: Option<u32>, limits: Limits) -> Self {
        Self {
            number: rand::random(),
            broker,
            pid,
            limits,
        }
    }

    /// The client id of a role: 18 characters or so, fewer than the 23 that every broker has to accept.
    pub(crate) fn client_id(&self, role: &str) -> String {
        format!("bench-{:08x}-{role}", self.number)
    }

    /// A clean session for a role, with big reads.
    pub(crate) fn connect(&self, role: &str) -> Result<Connection, LoadError> {
        self.open(role, true)
    }

    /// A session for a role that the broker keeps.
    pub(crate) fn connect_durably(&self, role: &str) -> Result<Connection, LoadError> {
        self.open(role, false)
    }

    /// A session for one of very many, which reads little.
    pub(crate) fn connect_small(
        &self,
        role: &str,
        clean_session: bool,
    ) -> Result<Connection, LoadError> {
        self.open_small(role, clean_session)
            .map_err(|source| failed(role, source))
    }

    /// As [`Run::connect_small`], for threads that do not end a run.
    pub(crate) fn open_small(
        &self,
        role: &str,
        clean_session: bool,
    ) -> Result<Connection, ConnectionError> {
        self.introduce(role, clean_session, SMALL_BUFFER)
    }

    fn open(&self, role: &str, clean_session: bool) -> Result<Connection, LoadError> {
        self.introduce(role, clean_session, READ_BUFFER)
            .map_err(|source| failed(role, source))
    }

    fn introduce(
        &self,
        role: &str,
        clean_session: bool,
        read_buffer: usize,
    ) -> Result<Connection, ConnectionError> {
        let client_id = self.client_id(role);
        let introduction = Introduction {
            client_id: &client_id,
            clean_session,
            credentials: None,
        };
        Connection::open(self.broker, &introduction, self.limits, read_buffer)
    }
}

/// A role's failure to connect or to subscribe.
pub(crate) fn failed(role: &str, source: ConnectionError) -> LoadError {
    LoadError::Connection {
        role: role.to_owned(),
        source,
    }
}

/// A subscriber and the publishers whose messages it has to get.
pub(crate) struct Audience {
    /// What it is called in a report.
    pub(crate) role: String,
    /// The subscriber.
    pub(crate) subscriber: Subscriber,
    /// Its publishers.
    pub(crate) publishers: Range<usize>,
}

/// What came of a run.
pub(crate) struct Outcome {
    /// In the order of the publishers.
    pub(crate) published: Vec<Published>,
    /// In the order of the audiences.
    pub(crate) received: Vec<(Received, Tally)>,
    /// What went wrong.
    pub(crate) flaws: Vec<String>,
    /// Processor seconds of this process.
    pub(crate) own_cpu: Option<f64>,
    /// Processor seconds of the broker.
    pub(crate) broker_cpu: Option<f64>,
    /// The most memory the broker ever had, in bytes.
    pub(crate) broker_memory: Option<u64>,
}

/// Lets all run and waits for all.
pub(crate) fn run_load(
    run: &Run,
    clock: Clock,
    publishers: Vec<Publisher>,
    quota: Quota,
    audiences: Vec<Audience>,
) -> Result<Outcome, LoadError> {
    let own_before = ProcessStats::own();
    let broker_before = run.pid.and_then(ProcessStats::of);
    let finals: Vec<Final> = publishers.iter().map(|_| Final::unknown()).collect();
    let spans: Vec<(String, Range<usize>)> = audiences
        .iter()
        .map(|audience| (audience.role.clone(), audience.publishers.clone()))
        .collect();
    let (published, received) = thread::scope(|scope| {
        let finals = finals.as_slice();
        let receiving: Vec<_> = audiences
            .into_iter()
            .map(|audience| {
                let finals = finals.get(audience.publishers).unwrap_or_default();
                scope.spawn(move || audience.subscriber.run(clock, finals))
            })
            .collect();
        let publishing: Vec<_> = publishers
            .into_iter()
            .zip(finals)
            .map(|(publisher, done)| scope.spawn(move || publisher.run(quota, clock, done)))
            .collect();
        let published: Result<Vec<Published>, _> =
            publishing.into_iter().map(|thread| thread.join()).collect();
        let received: Result<Vec<Received>, _> =
            receiving.into_iter().map(|thread| thread.join()).collect();
        Ok((
            published.map_err(|_| LoadError::Panicked)?,
            received.map_err(|_| LoadError::Panicked)?,
        ))
    })?;
    let own_after = ProcessStats::own();
    let broker_after = run.pid.and_then(ProcessStats::of);

    let answered: Vec<u64> = published
        .iter()
        .map(|published| published.acknowledged)
        .collect();
    let mut flaws = Vec::new();
    for (number, published) in published.iter().enumerate() {
        flaws.extend(publisher_flaws(number, published));
    }
    let received = received
        .into_iter()
        .zip(spans)
        .map(|(received, (role, publishers))| {
            let tally = received
                .ledger
                .close(answered.get(publishers).unwrap_or_default());
            flaws.extend(
                tally
                    .flaws()
                    .into_iter()
                    .map(|flaw| format!("{role}: {flaw}")),
            );
            flaws.extend(
                received
                    .error
                    .as_ref()
                    .map(|error| format!("{role}: {error}")),
            );
            (received, tally)
        })
        .collect();
    Ok(Outcome {
        published,
        received,
        flaws,
        own_cpu: spent(own_before, own_after),
        broker_cpu: spent(broker_before, broker_after),
        broker_memory: broker_after.map(|stats| stats.peak_memory),
    })
}

fn publisher_flaws(number: usize, published: &Published) -> Vec<String> {
    let mut flaws = Vec::new();
    if published.acks_out_of_order > 0 {
        flaws.push(format!(
            "publisher {number}: {} PUBACKS OUT OF ORDER",
            published.acks_out_of_order
        ));
    }
    if published.acks_unexpected > 0 {
        flaws.push(format!(
            "publisher {number}: {} PUBACKS FOR NOTHING",
            published.acks_unexpected
        ));
    }
    if let Some(error) = &published.error {
        let (acknowledged, sent) = (published.acknowledged, published.sent);
        flaws.push(format!(
            "publisher {number}: {error} ({acknowledged} of {sent} messages acknowledged)"
        ));
    }
    flaws
}

fn spent(before: Option<ProcessStats>, after: Option<ProcessStats>) -> Option<f64> {
    Some(after?.cpu_seconds - before?.cpu_seconds)
}
