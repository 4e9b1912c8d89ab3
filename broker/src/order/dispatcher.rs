//! The dispatcher: takes every message out of the one order, posts it, and settles its receipt, at once or when the
//! journal has it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivery::board::{Board, Posted};
use crate::delivery::receipt::Receipt;
use crate::delivery::scribe::Gathered;
use crate::delivery::session::Session;
use crate::delivery::topics::Post;
use crate::delivery::wire::Wire;
use crate::journal::store::StoreError;
use crate::order::router_link::{Ordered, Outlet, RouterError};
use crate::protocol::message::Message;
use crate::protocol::outcome::Outcome;
use crate::protocol::topic_name::TopicName;
use rumqttd::protocol::{PublishProperties, QoS};
use sealpost_core::Timestamp;
use tokio::sync::{Mutex, Notify};

/// Messages that one commit covers at most, so that a flood cannot keep acknowledgements waiting.
const COMMIT_AT: usize = 1_024;

/// Their bytes, likewise; between two looks at whether the journal has room.
const COMMIT_AT_BYTES: usize = 4 * 1024 * 1024;

/// How long the thread of whoever submitted a message may stand still for the router, which takes some ten microseconds unless
/// the machine has more to do than it can.
const AT_ONCE: Duration = Duration::from_micros(200);

/// What stays outside the router while a message goes through it.
#[derive(Debug)]
pub struct Ticket {
    /// The topic's name.
    pub topic: TopicName,
    /// Its QoS.
    pub qos: QoS,
    /// Its packet identifier at QoS 2; 0 for a will, which nobody sends twice.
    pub pkid: u16,
    /// Whether to retain it.
    pub retain: bool,
    /// Whether it replaces an older one on its topic in every queue.
    pub supersedes: bool,
    /// MQTT 5 properties to pass on, less the expiry.
    pub properties: Option<Box<PublishProperties>>,
    /// When it is worth nothing any more.
    pub expires: Option<Timestamp>,
    /// The user who published it, where one did: whose share of a mailbox it takes. A will's outlives its session.
    pub sender: Option<Arc<str>>,
    /// The session that published it, if it lives.
    pub origin: Option<Arc<Session>>,
    /// The connection that published it.
    pub wire: Arc<Wire>,
    /// What the publisher waits for; none at QoS 0.
    pub receipt: Option<Arc<Receipt>>,
}

/// Why there is no going on.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The router has failed.
    #[error("{0}")]
    Router(#[from] RouterError),
    /// The journal has failed.
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] StoreError),
}

/// Takes everything out of the one order: a task of its own under load, and whoever puts a message into an order that is
/// empty, for themselves.
#[derive(Debug)]
pub struct Dispatcher {
    way_out: Mutex<WayOut>,
    board: Arc<Board>,
    /// There is something in the router that nobody takes out.
    call: Notify,
}

#[derive(Debug)]
struct WayOut {
    outlet: Outlet<Ticket>,
    /// What happened to somebody who took out for themselves: the task ends by it.
    failed: Option<RouterError>,
}

impl Dispatcher {
    /// Takes out of this outlet, for this board.
    #[must_use]
    pub fn new(outlet: Outlet<Ticket>, board: Arc<Board>) -> Dispatcher {
        Dispatcher {
            way_out: Mutex::new(WayOut {
                outlet,
                failed: None,
            }),
            board,
            call: Notify::new(),
        }
    }

    /// To be called when something went into the order.
    pub fn call(&self) {
        self.call.notify_one();
    }

    /// To be called in place of [`Dispatcher::call`] when nothing else is in the order: waits for the router with the
    /// thread of whoever asks, and writes to those whom it was for. That thread is awake already; to wake others takes longer
    /// than all the rest of a message's way.
    pub fn take_out(&self) {
        let mut woken = Gathered::default();
        if !self.take_out_by(Instant::now() + AT_ONCE, &mut woken) {
            self.call();
        }
        woken.write_now();
    }

    /// Returns whether the order is empty now.
    fn take_out_by(&self, deadline: Instant, woken: &mut Gathered) -> bool {
        let journal = self.board.journal();
        // Who takes out a message waits for the journal's room afterwards, if there is none, and that may be long.
        let Ok(mut way_out) = self.way_out.try_lock() else {
            return false;
        };
        if !journal.has_room() {
            return false;
        }
        let mut waiting = Vec::new();
        let mut emptied = false;
        for _ in 0..COMMIT_AT {
            match way_out.outlet.next_by(deadline) {
                Ok(Some(ordered)) => {
                    waiting.extend(woken.gather(|| dispatch(ordered, &self.board)));
                }
                Ok(None) => break,
                Err(error) => {
                    way_out.failed = Some(error);
                    break;
                }
            }
            emptied = way_out.outlet.is_empty();
            if emptied {
                break;
            }
        }
        if !waiting.is_empty() {
            journal.after(move || settle(waiting));
        }
        emptied
    }

    /// Runs until the router or the journal fails, which it returns: there is no going on without them.
    ///
    /// # Errors
    /// Always, and only, [`DispatchError`].
    pub async fn run(self: Arc<Self>) -> Result<Infallible, DispatchError> {
        let journal = self.board.journal().clone();
        let failed = journal.failed();
        tokio::pin!(failed);
        loop {
            tokio::select! {
                biased;
                error = &mut failed => return Err(error.into()),
                () = self.call.notified() => {}
            }
            let mut way_out = self.way_out.lock().await;
            let WayOut {
                outlet,
                failed: failure,
            } = &mut *way_out;
            if let Some(error) = failure.take() {
                return Err(error.into());
            }
            while !outlet.is_empty() {
                let mut next = tokio::select! {
                    biased;
                    error = &mut failed => return Err(error.into()),
                    next = outlet.next() => Some(next?),
                };
                let (mut taken, mut bytes) = (0, 0);
                let mut waiting = Vec::new();
                while let Some(ordered) = next {
                    taken += 1;
                    bytes += ordered.payload.len();
                    waiting.extend(dispatch(ordered, &self.board));
                    next = if taken < COMMIT_AT && bytes < COMMIT_AT_BYTES {
                        outlet.try_next()?
                    } else {
                        None
                    };
                }
                if !waiting.is_empty() {
                    journal.after(move || settle(waiting));
                }
                // The disk has its own speed, and what it has not taken yet is bounded.
                tokio::select! {
                    biased;
                    error = &mut failed => return Err(error.into()),
                    () = journal.room() => {}
                }
                // Under constant load `next` never waits; others on this worker thread get their turn here.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A receipt and how it is to be settled once the journal has what it is for.
pub(super) type Waiting = (Arc<Receipt>, Outcome);

pub(super) fn settle(receipts: Vec<Waiting>) {
    for (receipt, outcome) in receipts {
        receipt.settle(outcome);
    }
}

/// Posts a message. Returns its receipt if that waits for the journal: until then it is not settled, for a failed journal
/// lets go of it.
pub(super) fn dispatch(ordered: Ordered<Ticket>, board: &Board) -> Option<Waiting> {
    let Ordered {
        payload,
        rider:
            Ticket {
                topic,
                qos,
                pkid,
                retain,
                supersedes,
                properties,
                expires,
                sender,
                origin,
                wire,
                receipt,
            },
    } = ordered;
    let message = Arc::new(Message {
        number: board.journal().next_message(),
        topic,
        payload,
        properties,
        expires,
        sender,
        supersedes,
    });
    let post = Post {
        message,
        qos,
        pkid,
        retain,
        origin,
        receipt,
    };
    let posted = board.post(&post);
    wire.count_dispatched();
    let (outcome, waits) = match posted {
        Posted::Refused(outcome) => (outcome, false),
        // A key bundle has found its place without a reader.
        Posted::Delivered { readers, recorded } if readers == 0 && !supersedes => {
            (Outcome::NobodyThere, recorded)
        }
        Posted::Delivered { recorded, .. } => (Outcome::Accepted, recorded),
    };
    board.totals().publishes.count(outcome);
    let receipt = post.receipt?;
    if waits {
        return Some((receipt, outcome));
    }
    receipt.settle(outcome);
    None
}
