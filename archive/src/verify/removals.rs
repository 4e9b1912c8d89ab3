//! What was removed from a log, and whether records say so.

use std::collections::HashMap;

use sealpost_core::Timestamp;

use super::finding::{Fault, Place};
use crate::hash::Hash;
use crate::line::{Body, Line};

/// A tombstone whose record has not come yet.
#[derive(Debug)]
struct Waiting {
    seq: u64,
    archived_at: Timestamp,
    leaf: Hash,
    place: Place,
}

/// A record of a retirement.
#[derive(Debug)]
pub(super) struct Retirement {
    /// How many lines it retires.
    pub(super) retires: u64,
    /// Their root, as it says.
    pub(super) root: Hash,
    /// Where it is.
    pub(super) place: Place,
}

/// Goes along with the lines, in order. Memory grows with the number of tombstones whose record is not there yet, by about 150
/// bytes each, and with the number of retirements.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// By the number of the record.
    waiting: HashMap<u64, Vec<Waiting>>,
    retirements: Vec<Retirement>,
    /// How many tombstones there are.
    pub(super) tombstones: u64,
    /// How many records there are of erasures whose line is there and no tombstone of theirs.
    pub(super) undone: u64,
    /// How many lines are missing at the beginning.
    pub(super) removed: u64,
}

impl Removals {
    /// Takes in the next line, and gives what is wrong: with it, or with an earlier one.
    pub(super) fn take(&mut self, line: &Line<'_>, place: &Place) -> Vec<(Place, Fault)> {
        let Line {
            seq,
            archived_at,
            ref body,
        } = *line;
        let mut wrong = Vec::new();
        let waiting = self.waiting.remove(&seq).unwrap_or_default();
        if let Body::Erasure { erased, .. } = body
            && waiting.is_empty()
            && erased.seq > self.removed
        {
            self.undone += 1;
        }
        let erased_by = seq;
        for tombstone in waiting {
            let fault = match body {
                Body::Erasure { erased, .. }
                    if (tombstone.seq, tombstone.leaf) != (erased.seq, erased.leaf) =>
                {
                    let erases = erased.seq;
                    Fault::OtherErasure { erased_by, erases }
                }
                Body::Erasure { erased, .. } if tombstone.archived_at != erased.archived_at => {
                    let archived_at = erased.archived_at;
                    Fault::OtherTime {
                        erased_by,
                        archived_at,
                    }
                }
                Body::Erasure { .. } => continue,
                _ => Fault::NoErasure { erased_by },
            };
            wrong.push((tombstone.place, fault));
        }
        match body {
            Body::Erasure { erased, .. } if erased.seq >= seq || erased.seq == 0 => {
                wrong.push((place.clone(), Fault::OfLater(erased.seq)));
            }
            Body::Retirement { retires, .. } if *retires >= seq || *retires == 0 => {
                wrong.push((place.clone(), Fault::OfLater(*retires)));
            }
            Body::Retirement { retires, root, .. } => self.retirements.push(Retirement {
                retires: *retires,
                root: *root,
                place: place.clone(),
            }),
            Body::Tombstone { erased_by, leaf } => {
                self.tombstones += 1;
                let erased_by = *erased_by;
                if erased_by <= seq {
                    wrong.push((place.clone(), Fault::ErasedBefore { erased_by }));
                } else {
                    self.waiting.entry(erased_by).or_default().push(Waiting {
                        seq,
                        archived_at,
                        leaf: *leaf,
                        place: place.clone(),
                    });
                }
            }
            Body::Erasure { .. } | Body::Message(_) => {}
        }
        wrong
    }

    /// The records of retirements.
    pub(super) fn retirements(&self) -> &[Retirement] {
        &self.retirements
    }

    /// At the end of the log: the tombstones whose record never came.
    pub(super) fn without_record(&mut self) -> Vec<(Place, Fault)> {
        self.waiting
            .drain()
            .flat_map(|(erased_by, waiting)| {
                waiting
                    .into_iter()
                    .map(move |tombstone| (tombstone.place, Fault::NoErasure { erased_by }))
            })
            .collect()
    }
}
