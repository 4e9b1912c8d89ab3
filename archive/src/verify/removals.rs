//! What was removed from a log, and whether records say so.

use std::collections::HashMap;

use super::finding::{Fault, Place};
use crate::hash::Hash;
use crate::line::Body;

/// An erased line whose record has not come yet.
#[derive(Debug)]
struct Erased {
    seq: u64,
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
    waiting: HashMap<u64, Vec<Erased>>,
    retirements: Vec<Retirement>,
    /// How many tombstones there are.
    pub(super) tombstones: u64,
    /// How many records there are of erasures whose line has no tombstone of theirs.
    pub(super) undone: u64,
}

impl Removals {
    /// Takes in the next line, and gives what is wrong: with it, or with an earlier one.
    pub(super) fn take(&mut self, seq: u64, body: &Body<'_>, place: &Place) -> Vec<(Place, Fault)> {
        let mut wrong = Vec::new();
        let waiting = self.waiting.remove(&seq).unwrap_or_default();
        if waiting.is_empty() && matches!(body, Body::Erasure { .. }) {
            self.undone += 1;
        }
        for erased in waiting {
            match body {
                Body::Erasure { erases, leaf, .. }
                    if (erased.seq, erased.leaf) == (*erases, *leaf) => {}
                Body::Erasure { erases, .. } => {
                    let (erased_by, erases) = (seq, *erases);
                    wrong.push((erased.place, Fault::OtherErasure { erased_by, erases }));
                }
                _ => wrong.push((erased.place, Fault::NoErasure { erased_by: seq })),
            }
        }
        match body {
            Body::Erasure { erases, .. } if *erases >= seq || *erases == 0 => {
                wrong.push((place.clone(), Fault::OfLater(*erases)));
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
                    self.waiting.entry(erased_by).or_default().push(Erased {
                        seq,
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
                    .map(move |erased| (erased.place, Fault::NoErasure { erased_by }))
            })
            .collect()
    }
}
