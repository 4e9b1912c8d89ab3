//! Messages that are in the store already.

use tokio_util::sync::CancellationToken;

use crate::event::Printer;
use crate::exit::Failure;
use crate::incoming::{self, Stored};
use crate::store::{Store, StoreError, Wanted};

/// How many are read at once: with the longest texts 16 MiB.
const BATCH: u32 = 256;

/// Prints them, and changes nothing; says how many.
pub(super) fn look_back(
    store: &Store,
    printer: &mut Printer,
    wanted: Wanted,
    limit: u64,
    stop: &CancellationToken,
) -> Result<u64, Failure> {
    let mut after = 0;
    let mut printed = 0;
    while printed < limit {
        let batch = next(store, wanted, &mut after)?;
        if batch.is_empty() {
            break;
        }
        for Stored { message, .. } in batch {
            if printed == limit || stop.is_cancelled() {
                return Ok(printed);
            }
            printer.print(&incoming::event(store, &message)?)?;
            printed += 1;
        }
    }
    Ok(printed)
}

/// Shows them as a session would, those that were shown before included; says how many. `receipt`: the senders of those
/// that were not are to learn of it.
pub(super) fn show(
    store: &mut Store,
    printer: &mut Printer,
    wanted: Wanted,
    limit: u64,
    receipt: bool,
    stop: &CancellationToken,
) -> Result<u64, Failure> {
    let mut after = 0;
    let mut printed = 0;
    while printed < limit {
        let batch = next(store, wanted, &mut after)?;
        if batch.is_empty() {
            break;
        }
        for Stored { message, shown, .. } in batch {
            if printed == limit || stop.is_cancelled() {
                return Ok(printed);
            }
            if !shown && let Some(gap) = incoming::gap_event(store, &message)? {
                printer.print(&gap)?;
            }
            printer.print(&incoming::event(store, &message)?)?;
            if !shown {
                store.mark_shown(&message.from, &message.id, receipt)?;
            }
            printed += 1;
        }
    }
    Ok(printed)
}

fn next(store: &Store, wanted: Wanted, after: &mut i64) -> Result<Vec<Stored>, StoreError> {
    let batch = incoming::stored(store, wanted, *after, BATCH)?;
    if let Some(last) = batch.last() {
        *after = last.number;
    }
    Ok(batch)
}
