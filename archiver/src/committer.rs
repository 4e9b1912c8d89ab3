//! Group commit: takes whatever has arrived since the last sync as one batch, has it written, and
//! only then hands the receipts back. It runs on a thread of its own, since writing and syncing
//! block.

use sealpost_archive::hash::Hash;
use sealpost_core::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::arrival::{Arrival, Receipt};
use crate::writer::{Archived, Writer};
use sealpost_archive::log_file::AppendError;
use sealpost_archive::storage::StoredFile;

/// Where a batch is closed although more is there, in bytes held by its arrivals: large enough that
/// the sync is a small part of the time, small enough that acknowledgements keep flowing.
const MAX_BATCH: usize = 8 << 20;

/// Commits batches until the senders of arrivals are gone, or until the disk fails.
///
/// Both channels are unbounded in themselves; [`crate::subscription`] bounds what is in flight
/// between them. Receipts come back in the order of arrival, and those of a failed batch never. `on_synced` gets the leaves
/// of the lines that are on the medium.
pub fn commit_all<F: StoredFile>(
    writer: &mut Writer<F>,
    mut arrivals: UnboundedReceiver<Arrival>,
    receipts: &UnboundedSender<Vec<Receipt>>,
    mut clock: impl FnMut() -> Timestamp,
    mut on_synced: impl FnMut(Vec<Hash>),
) -> Result<(), AppendError> {
    let mut batch = Vec::new();
    let mut warned = false;
    while let Some(first) = arrivals.blocking_recv() {
        let mut held = first.receipt.cost;
        batch.push(first);
        while held < MAX_BATCH {
            let Ok(next) = arrivals.try_recv() else { break };
            held += next.receipt.cost;
            batch.push(next);
        }
        let Archived {
            written,
            unfit,
            duplicates,
            leaves,
        } = writer.archive(&batch, clock())?;
        tracing::debug!(
            written,
            unfit,
            duplicates,
            last_seq = writer.next_seq() - 1,
            "archived"
        );
        if !leaves.is_empty() {
            on_synced(leaves);
        }
        // Said once: whoever sends such messages should not fill the operator's disk with warnings.
        if unfit > 0 && !std::mem::replace(&mut warned, true) {
            tracing::warn!(
                "keeping messages that are no envelopes for their topic; their lines have an \"error\""
            );
        }
        // Nobody listens any more when the connection's side ended first; what is archived stays
        // archived.
        let _ = receipts.send(batch.drain(..).map(|arrival| arrival.receipt).collect());
    }
    Ok(())
}
