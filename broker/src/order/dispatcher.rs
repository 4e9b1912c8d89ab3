//! The dispatcher: takes every message out of the one order, posts it, and lets the journal settle the receipts.

use std::sync::Arc;

use crate::delivery::board::{Board, Posted};
use crate::delivery::message::Message;
use crate::delivery::receipt::Receipt;
use crate::delivery::session::Session;
use crate::delivery::topics::Post;
use crate::delivery::wire::Wire;
use crate::journal::Journal;
use crate::order::router_link::{Ordered, Outlet, RouterError};
use crate::protocol::outcome::Outcome;
use crate::protocol::topic_name::TopicName;
use rumqttd::protocol::{PublishProperties, QoS};

/// Messages that one commit covers at most, so that a flood cannot keep acknowledgements waiting.
const COMMIT_AT: usize = 1_024;

/// What stays outside the router while a message goes through it.
#[derive(Debug)]
pub struct Ticket {
    /// The topic's name.
    pub topic: TopicName,
    /// Its QoS, 0 or 1.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// Whether it replaces an older one on its topic in every queue.
    pub supersedes: bool,
    /// MQTT 5 properties to pass on.
    pub properties: Option<Box<PublishProperties>>,
    /// The session that published it.
    pub origin: Arc<Session>,
    /// The connection that published it.
    pub wire: Arc<Wire>,
    /// What the publisher waits for; none at QoS 0.
    pub receipt: Option<Arc<Receipt>>,
}

/// Runs until the router fails, which it returns: there is no going on without it.
///
/// # Errors
/// Always, and only, [`RouterError`].
pub async fn run(
    mut outlet: Outlet<Ticket>,
    board: Arc<Board>,
    mut journal: impl Journal,
) -> Result<std::convert::Infallible, RouterError> {
    let mut receipts = Vec::new();
    loop {
        let mut next = Some(outlet.next().await?);
        let mut taken = 0;
        while let Some(ordered) = next {
            receipts.extend(dispatch(ordered, &board, &mut journal));
            taken += 1;
            next = if taken < COMMIT_AT {
                outlet.try_next()?
            } else {
                None
            };
        }
        journal.commit(std::mem::take(&mut receipts));
        // Under constant load `next` never waits; others on this worker thread get their turn here.
        tokio::task::yield_now().await;
    }
}

fn dispatch(
    ordered: Ordered<Ticket>,
    board: &Board,
    journal: &mut impl Journal,
) -> Option<Arc<Receipt>> {
    let Ordered {
        payload,
        rider:
            Ticket {
                topic,
                qos,
                retain,
                supersedes,
                properties,
                origin,
                wire,
                receipt,
            },
    } = ordered;
    let message = Arc::new(Message {
        topic,
        payload,
        properties,
        supersedes,
    });
    let post = Post {
        message,
        qos,
        retain,
        origin,
        receipt,
    };
    match board.post(&post) {
        Posted::Delivered { durable, readers } => {
            if durable > 0 {
                journal.append(&post.message, durable);
            }
            // A key bundle has found its place without a reader.
            if readers == 0
                && !supersedes
                && let Some(receipt) = &post.receipt
            {
                receipt.settle(Outcome::NobodyThere);
            }
        }
        Posted::Refused(outcome) => {
            if let Some(receipt) = &post.receipt {
                receipt.settle(outcome);
            }
        }
    }
    wire.count_dispatched();
    post.receipt
}
