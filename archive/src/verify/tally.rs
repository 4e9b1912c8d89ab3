//! What a manifest must say, told from the lines of its segment.

use std::collections::BTreeSet;
use std::fmt::Debug;

use sealpost_core::Timestamp;

use super::finding::Fault;
use crate::hash::Hash;
use crate::layout::LogName;
use crate::manifest::{Frame, MAX_NAMES, Manifest};

/// A line as a manifest counts it.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) seq: u64,
    pub(super) archived_at: Timestamp,
    /// From whom to whom, if it is an envelope.
    pub(super) names: Option<(String, String)>,
    pub(super) tombstone: bool,
}

/// Goes along with the lines of a segment.
#[derive(Debug, Default)]
pub(super) struct Tally {
    first: Option<(u64, Timestamp)>,
    last: u64,
    bytes: u64,
    erased: u64,
    frames: Vec<Frame>,
    /// Where the frame begins that has no line yet.
    frame_at: Option<u64>,
    senders: Names,
    recipients: Names,
}

/// Some names, or too many.
#[derive(Debug, Default)]
struct Names {
    names: BTreeSet<String>,
    too_many: bool,
}

impl Names {
    fn add(&mut self, name: String) {
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() < MAX_NAMES {
            self.names.insert(name);
        } else {
            self.too_many = true;
        }
    }

    fn listed(&self) -> Option<&BTreeSet<String>> {
        (!self.too_many).then_some(&self.names)
    }
}

impl Tally {
    pub(super) fn begin_frame(&mut self, offset: u64) {
        self.frame_at = Some(offset);
    }

    /// Counts a line that is `length` bytes long with its newline.
    pub(super) fn add(&mut self, line: Counted, length: usize) {
        let at = line.archived_at;
        self.first.get_or_insert((line.seq, at));
        self.last = line.seq;
        self.bytes += length as u64;
        self.erased += u64::from(line.tombstone);
        if let Some((from, to)) = line.names {
            self.senders.add(from);
            self.recipients.add(to);
        }
        if let Some(offset) = self.frame_at.take() {
            self.frames.push(Frame {
                offset,
                first: line.seq,
                from: at,
                until: at,
            });
        } else if let Some(frame) = self.frames.last_mut() {
            frame.from = frame.from.min(at);
            frame.until = frame.until.max(at);
        }
    }

    /// The first line: its number, and when it was written.
    pub(super) fn first(&self) -> Option<(u64, Timestamp)> {
        self.first
    }

    /// How many lines are tombstones.
    pub(super) fn erased(&self) -> u64 {
        self.erased
    }

    /// What a manifest says that is not so. `root` is that of the tree up to the last line, if it is known.
    pub(super) fn compare(
        &self,
        log: LogName,
        manifest: &Manifest,
        compressed_bytes: u64,
        root: Option<Hash>,
    ) -> Vec<Fault> {
        let mut wrong = Vec::new();
        let first = self.first.map_or(0, |(first, _)| first);
        let from = self.frames.iter().map(|frame| frame.from).min();
        let until = self.frames.iter().map(|frame| frame.until).max();
        check(&mut wrong, "log", &manifest.log, &log);
        check(&mut wrong, "first", &manifest.first, &first);
        check(&mut wrong, "last", &manifest.last, &self.last);
        check(&mut wrong, "from", &Some(manifest.from), &from);
        check(&mut wrong, "until", &Some(manifest.until), &until);
        check(&mut wrong, "bytes", &manifest.bytes, &self.bytes);
        check(
            &mut wrong,
            "compressed_bytes",
            &manifest.compressed_bytes,
            &compressed_bytes,
        );
        if let Some(root) = root {
            check(&mut wrong, "root", &manifest.root, &root);
        }
        check(&mut wrong, "erased", &manifest.erased, &self.erased);
        // These are long: that they differ says enough.
        for (member, same) in [
            ("frames", manifest.frames == self.frames),
            (
                "senders",
                manifest.senders.as_ref() == self.senders.listed(),
            ),
            (
                "recipients",
                manifest.recipients.as_ref() == self.recipients.listed(),
            ),
        ] {
            if !same {
                wrong.push(Fault::ManifestMember {
                    member,
                    stated: "one thing".to_owned(),
                    found: "another".to_owned(),
                });
            }
        }
        wrong
    }
}

fn check<T: PartialEq + Debug>(
    wrong: &mut Vec<Fault>,
    member: &'static str,
    stated: &T,
    found: &T,
) {
    if stated != found {
        wrong.push(Fault::ManifestMember {
            member,
            stated: format!("{stated:?}"),
            found: format!("{found:?}"),
        });
    }
}
