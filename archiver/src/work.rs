//! What the committer is given to do: arrivals, and orders between them.

use std::collections::VecDeque;
use std::time::Duration;

use sealpost_archive::layout::LogName;
use sealpost_archive::line::Erased;
use sealpost_archive::tree::TreeHead;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender};

use tokio::sync::oneshot;

use crate::arrival::Arrival;
use crate::writer::{Record, Removal};

/// How often it is looked whether an active file has become too old.
const LOOK_AT_AGE: Duration = Duration::from_secs(10);

/// Something for the committer.
#[derive(Debug)]
pub enum Work {
    /// A message to be archived.
    Arrival(Arrival),
    /// Something else to be done.
    Order(Order),
}

/// What the committer is told to do beside archiving.
#[derive(Debug)]
pub enum Order {
    /// Have the active files sealed, as far as there is anything in them.
    Seal,
    /// Have the active files sealed that are full.
    SealFull,
    /// Record a removal, and have it done.
    Record {
        /// In this log.
        log: LogName,
        /// What is removed.
        record: NewRecord,
        /// What is to be removed now, or why it is not recorded.
        reply: oneshot::Sender<Result<Removal, String>>,
    },
}

/// A record that is to be added.
#[derive(Debug)]
pub enum NewRecord {
    /// A line is erased.
    Erasure {
        /// The line.
        erased: Erased,
        /// Why.
        reason: String,
    },
    /// The oldest lines are retired.
    Retirement {
        /// How many, and the tree over them.
        head: TreeHead,
        /// Why.
        reason: String,
    },
}

impl NewRecord {
    /// As the writer takes it.
    #[must_use]
    pub fn borrowed(&self) -> Record<'_> {
        match self {
            NewRecord::Erasure { erased, reason } => Record::Erasure {
                erased: *erased,
                reason,
            },
            NewRecord::Retirement { head, reason } => Record::Retirement {
                retires: head.size,
                root: head.root,
                reason,
            },
        }
    }
}

impl From<Arrival> for Work {
    fn from(arrival: Arrival) -> Work {
        Work::Arrival(arrival)
    }
}

/// What is to be done, in order. Orders may overtake arrivals, never the other way round.
#[derive(Debug)]
pub struct Inbox {
    work: UnboundedReceiver<Work>,
    /// Arrivals that were overtaken.
    overtaken: VecDeque<Arrival>,
}

impl Inbox {
    /// Takes what comes over `work`.
    #[must_use]
    pub fn new(work: UnboundedReceiver<Work>) -> Inbox {
        Inbox {
            work,
            overtaken: VecDeque::new(),
        }
    }

    /// Waits for what comes next; `None` when nothing comes any more.
    pub(crate) fn wait(&mut self) -> Option<Work> {
        match self.overtaken.pop_front() {
            Some(arrival) => Some(Work::Arrival(arrival)),
            None => self.work.blocking_recv(),
        }
    }

    /// What comes next, if it is there.
    pub(crate) fn next(&mut self) -> Option<Work> {
        match self.overtaken.pop_front() {
            Some(arrival) => Some(Work::Arrival(arrival)),
            None => self.work.try_recv().ok(),
        }
    }

    /// The next order, before all arrivals.
    pub(crate) fn next_order(&mut self) -> Option<Order> {
        while let Ok(work) = self.work.try_recv() {
            match work {
                Work::Arrival(arrival) => self.overtaken.push_back(arrival),
                Work::Order(order) => return Some(order),
            }
        }
        None
    }

    /// Whether nobody sends any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.work.is_closed()
    }
}

/// Gives the orders that nobody asks for: to seal what has become old, and to seal all at SIGHUP. Ends with the last of those who
/// send arrivals.
pub fn give_orders(work: &UnboundedSender<Work>) -> std::io::Result<()> {
    let hangups = signal(SignalKind::hangup())?;
    tokio::spawn(orders(work.downgrade(), hangups));
    Ok(())
}

async fn orders(work: WeakUnboundedSender<Work>, mut hangups: Signal) {
    let mut look = tokio::time::interval(LOOK_AT_AGE);
    loop {
        let order = tokio::select! {
            _ = look.tick() => Order::SealFull,
            hangup = hangups.recv() => match hangup {
                Some(()) => {
                    tracing::info!("SIGHUP: the active files are sealed");
                    Order::Seal
                }
                None => return,
            },
        };
        let Some(work) = work.upgrade() else { return };
        let _ = work.send(Work::Order(order));
    }
}
