//! The one order in which everything published is delivered: into rumqttd's router, and out of it.

#[cfg(test)]
mod crashes;
pub mod dispatcher;
pub mod router_link;

use std::sync::Arc;

use dispatcher::{Dispatcher, Ticket};
use router_link::{Inlet, RouterError, Submission};

/// Messages of a batch that whoever put them in takes out again, if nothing else is in the order: one who sends many at once
/// goes on reading meanwhile.
const FEW: usize = 4;

/// The order, as those see it who put something into it.
#[derive(Debug)]
pub struct Order {
    inlet: Inlet<Ticket>,
    dispatcher: Arc<Dispatcher>,
}

impl Order {
    /// What goes in here comes out there.
    #[must_use]
    pub fn new(inlet: Inlet<Ticket>, dispatcher: Arc<Dispatcher>) -> Order {
        Order { inlet, dispatcher }
    }

    /// Puts a batch into the order, in its own order and next to each other. Waits while too much is inside.
    ///
    /// # Errors
    /// See [`Inlet::submit`].
    pub async fn submit(&self, batch: Vec<Submission<Ticket>>) -> Result<(), RouterError> {
        let few = batch.len() <= FEW;
        let submitted = self.inlet.submit(batch, || self.dispatcher.call()).await;
        if few && matches!(submitted, Ok(true)) {
            self.dispatcher.take_out();
        } else {
            // Also when it failed: the dispatcher finds out, and nobody goes on without the router.
            self.dispatcher.call();
        }
        submitted.map(|_| ())
    }

    /// Bytes that went in and have not come out yet.
    #[must_use]
    pub fn outstanding_bytes(&self) -> usize {
        self.inlet.outstanding_bytes()
    }

    /// The number of the message that has been inside for longest, if there is one.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.inlet.oldest()
    }
}
