//! One way through all lines of a log.

use std::collections::BTreeMap;

use super::compact_range::CompactRange;
use super::finding::{Fault, Finding, MAX_FINDINGS, Place};
use super::form::check_form;
use super::removals::Removals;
use super::segment_frames::SegmentFrames;
use super::snapshot::{PartFile, PartKind, StoredManifest};
use super::stored_tiles::StoredTiles;
use super::tally::{Counted, Tally};
use crate::hash::Hash;
use crate::layout::{self, LogName};
use crate::line::{self, Body, Line};
use crate::log_file;
use crate::storage::{Storage, StoredFile};
use crate::tree::TreeHead;

/// How many bytes are read between two reports of progress.
const STRIDE: u64 = 1 << 20;

/// A signed tree head to hold the lines against.
#[derive(Debug)]
pub(super) struct KnownHead {
    /// What it is called: the file of the checkpoint.
    pub(super) note: String,
    pub(super) head: TreeHead,
    /// The roots that were found at its size; nothing if the tree did not come there.
    found: Option<FoundRoots>,
}

#[derive(Debug)]
struct FoundRoots {
    /// Of the lines.
    lines: Hash,
    /// Of the stored leaves, if they differ from the lines.
    stored: Option<Hash>,
}

impl KnownHead {
    pub(super) fn new(note: String, head: TreeHead) -> KnownHead {
        KnownHead {
            note,
            head,
            found: None,
        }
    }

    /// Whether the lines are what it signs.
    pub(super) fn holds(&self) -> bool {
        self.found
            .as_ref()
            .is_some_and(|found| found.lines == self.head.root)
    }
}

/// A line that is not the one whose leaf is stored.
#[derive(Debug)]
struct Differing {
    seq: u64,
    place: Place,
    tile: String,
}

/// What is known on the way.
pub(super) struct Walk<'a, S> {
    log: LogName,
    progress: &'a mut dyn FnMut(u64),
    /// How many bytes were read, and were when progress was last told.
    read: u64,
    told: u64,
    tiles: StoredTiles<'a, S>,
    /// The tree of the lines, and that of the stored leaves from where they differ.
    lines: CompactRange,
    stored: Option<CompactRange>,
    /// Whether the tree has all lines so far: not so if some are missing, and no tile has their leaves.
    whole: bool,
    /// The number that comes next.
    next: u64,
    /// By size.
    pub(super) heads: Vec<KnownHead>,
    /// The roots at the ends of segments.
    roots: BTreeMap<u64, Hash>,
    differing: Vec<Differing>,
    pub(super) removals: Removals,
    /// With the number of the line that was next then, for their order.
    findings: Vec<(u64, Finding)>,
    more: u64,
}

impl<'a, S: Storage> Walk<'a, S> {
    /// Begins at line 1. `signed` is the size of the largest of `heads`.
    pub(super) fn new(
        storage: &'a S,
        log: LogName,
        mut heads: Vec<KnownHead>,
        progress: &'a mut dyn FnMut(u64),
    ) -> Walk<'a, S> {
        heads.sort_by_key(|known| known.head.size);
        let signed = heads.last().map_or(0, |known| known.head.size);
        let mut walk = Walk {
            log,
            progress,
            read: 0,
            told: 0,
            tiles: StoredTiles::new(storage, log, signed),
            lines: CompactRange::default(),
            stored: None,
            whole: true,
            next: 1,
            heads,
            roots: BTreeMap::new(),
            differing: Vec::new(),
            removals: Removals::default(),
            findings: Vec::new(),
            more: 0,
        };
        walk.look_at_heads();
        walk
    }

    /// The number of the last line so far.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Notes something that is wrong.
    pub(super) fn find(&mut self, place: Place, fault: Fault) {
        let order = self.next;
        self.find_at(order, place, fault);
    }

    fn find_at(&mut self, order: u64, place: Place, fault: Fault) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push((order, Finding { place, fault }));
        } else {
            self.more += 1;
        }
    }

    /// Goes over the leaves of the lines 1 to `last`, which are not there, in the tiles.
    pub(super) fn removed(&mut self, last: u64) {
        self.removals.removed = last;
        self.tiles.removed(last);
        if !self.fill(last + 1) {
            let place = Place::line(self.next, self.log.place("tile"));
            self.find(place, Fault::TileMissing);
            self.next = last + 1;
        } else if self.whole {
            self.roots.insert(last, self.lines.root());
        }
    }

    /// Takes the stored leaves of missing lines, up to the line before `until`; `false` if they are not stored.
    fn fill(&mut self, until: u64) -> bool {
        while self.next < until {
            match self.tiles.leaf(self.next) {
                Some((leaf, _)) if self.whole => self.take_leaf(leaf, None),
                _ => {
                    self.whole = false;
                    return false;
                }
            }
        }
        true
    }

    /// Goes over the lines of a file.
    pub(super) fn part<F: StoredFile>(&mut self, part: &PartFile<F>) {
        let begun = self.read;
        match &part.kind {
            PartKind::Sealed { first, manifest } => self.sealed(part, *first, manifest.as_ref()),
            PartKind::Sealing | PartKind::Active => self.plain(part),
        }
        self.read_until(begun + part.length);
    }

    fn read_until(&mut self, read: u64) {
        self.read = read;
        if self.read >= self.told + STRIDE {
            self.told = self.read;
            (self.progress)(self.read);
        }
    }

    fn plain<F: StoredFile>(&mut self, part: &PartFile<F>) {
        let begun = self.read;
        let unreadable = |error: &dyn std::fmt::Display| Fault::Unreadable(error.to_string());
        let end = match log_file::end_of_whole_lines(&part.file, part.length) {
            Ok(end) => end,
            Err(error) => {
                let place = Place::line(self.next, &part.path);
                return self.find(place, unreadable(&error));
            }
        };
        let mut lines = log_file::lines(&part.file, 0..end);
        loop {
            let offset = lines.offset();
            match lines.next_line() {
                Ok(None) => break,
                Ok(Some(raw)) => {
                    self.line(raw.bytes, &part.path, offset);
                }
                Err(error) => {
                    let mut place = Place::line(self.next, &part.path);
                    place.offset = Some(offset);
                    return self.find(place, unreadable(&error));
                }
            }
            self.read_until(begun + offset);
        }
        if end < part.length && matches!(part.kind, PartKind::Sealing) {
            let mut place = Place::line(self.next, &part.path);
            place.offset = Some(end);
            self.find(place, Fault::HalfALine);
        }
    }

    fn sealed<F: StoredFile>(
        &mut self,
        part: &PartFile<F>,
        first: u64,
        stored: Option<&StoredManifest>,
    ) {
        let begun = self.read;
        let mut manifest = None;
        match stored {
            None => self.find(Place::line(first, &part.path), Fault::NoManifest),
            Some(stored) => match &stored.content {
                Ok(content) => manifest = Some((&stored.path, content)),
                Err(reason) => {
                    let place = Place::line(first, &stored.path);
                    self.find(place, Fault::Manifest(reason.clone()));
                }
            },
        }
        let mut tally = Tally::default();
        let mut in_order = true;
        let mut frames = match SegmentFrames::new(&part.file, part.length) {
            Ok(frames) => frames,
            Err(error) => {
                let place = Place::file(&part.path);
                return self.find(place, Fault::Unreadable(error.to_string()));
            }
        };
        let mut lines = Vec::new();
        let mut offset = 0;
        loop {
            match frames.next_frame(&mut lines) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let place = Place::line(self.next, &part.path);
                    if !frame.checksum {
                        self.find(place.clone(), Fault::NoChecksum(frame.offset));
                    }
                    if lines.last() != Some(&b'\n') {
                        self.find(place, Fault::SplitLine(frame.offset));
                    }
                    tally.begin_frame(frame.offset);
                    for whole in lines.split_inclusive(|&byte| byte == b'\n') {
                        let raw = whole.strip_suffix(b"\n").unwrap_or(whole);
                        match self.line(raw, &part.path, offset) {
                            Some(counted) => tally.add(counted, whole.len()),
                            None => in_order = false,
                        }
                        offset += whole.len() as u64;
                    }
                }
                Err(error) => {
                    let mut place = Place::line(self.next, &part.path);
                    place.offset = Some(offset);
                    self.find(place, Fault::Unreadable(error.to_string()));
                    if let Some((_, manifest)) = manifest {
                        // The rest is known to be missing.
                        self.fill(manifest.last.saturating_add(1));
                        self.next = self.next.max(manifest.last.saturating_add(1));
                    }
                    return;
                }
            }
            self.read_until(begun + frames.position());
        }
        let root = self.whole.then(|| self.lines.root());
        if let Some(root) = root {
            self.roots.insert(self.last(), root);
        }
        if !in_order {
            // Told already; whatever the manifest says of such lines is no news.
            return;
        }
        if let Some((path, manifest)) = manifest {
            for fault in tally.compare(self.log, manifest, part.length, root) {
                self.find_at(first, Place::line(first, path), fault);
            }
        }
        self.placed(part, first, &tally);
    }

    /// Looks whether a segment is where its first line says.
    fn placed<F>(&mut self, part: &PartFile<F>, first: u64, tally: &Tally) {
        if let Some((seq, archived_at)) = tally.first() {
            let folder = self.log.place(&layout::day(archived_at));
            let expected = format!("{folder}/{}", layout::segment(seq, tally.erased()));
            if expected != part.path {
                self.find_at(
                    first,
                    Place::line(seq, &part.path),
                    Fault::Misplaced(expected),
                );
            }
        }
    }

    /// Takes in a line; `None` if it does not belong where it is, or is none.
    fn line(&mut self, raw: &[u8], path: &str, offset: u64) -> Option<Counted> {
        let head = line::head_of(raw);
        let seq = head.map_or(self.next, |(seq, _)| seq);
        let place = Place {
            seq: Some(seq),
            path: path.to_owned(),
            offset: Some(offset),
        };
        if seq < self.next {
            let after = self.last();
            self.find(place, Fault::Stray { after });
            return None;
        }
        let in_order = seq == self.next;
        if !in_order {
            let from = self.next;
            let until = seq - 1;
            self.find(place.clone(), Fault::Missing { from, until });
            self.fill(seq);
            self.next = seq;
        }
        let order = self.next;
        let counted = match Line::parse(raw) {
            Err(error) => {
                self.find(place.clone(), Fault::Line(error));
                self.take_leaf(Hash::of_leaf(raw), Some(&place));
                None
            }
            Ok(parsed) => {
                let names = match check_form(self.log, &parsed, raw) {
                    Ok(names) => names,
                    Err(fault) => {
                        self.find(place.clone(), fault);
                        None
                    }
                };
                for (place, fault) in self.removals.take(&parsed, &place) {
                    let order = place.seq.unwrap_or(order);
                    self.find_at(order, place, fault);
                }
                self.take_leaf(parsed.leaf(raw), Some(&place));
                Some(Counted {
                    seq,
                    archived_at: parsed.archived_at,
                    names,
                    tombstone: matches!(parsed.body, Body::Tombstone { .. }),
                })
            }
        };
        counted.filter(|_| in_order)
    }

    /// Takes in the leaf of the next line.
    fn take_leaf(&mut self, leaf: Hash, place: Option<&Place>) {
        let seq = self.next;
        self.next += 1;
        if !self.whole {
            return;
        }
        let stored = self.tiles.leaf(seq);
        let stored_leaf = stored.map_or(leaf, |(leaf, _)| leaf);
        if let Some((_, tile)) = stored
            && stored_leaf != leaf
            && let Some(place) = place
        {
            if self.differing.len() < MAX_FINDINGS {
                self.differing.push(Differing {
                    seq,
                    place: place.clone(),
                    tile: tile.to_owned(),
                });
            } else {
                self.more += 1;
            }
            self.stored.get_or_insert_with(|| self.lines.clone());
            self.tiles.leaf_differs();
        }
        if let Some(range) = &mut self.stored {
            range.push(stored_leaf, |_, _| {});
        }
        let Walk { lines, tiles, .. } = self;
        lines.push(leaf, |level, hash| tiles.take(level, hash));
        self.look_at_heads();
    }

    /// Compares the tree with the heads of its size.
    fn look_at_heads(&mut self) {
        let size = self.lines.size();
        for known in self
            .heads
            .iter_mut()
            .filter(|known| known.head.size == size)
        {
            known.found = Some(FoundRoots {
                lines: self.lines.root(),
                stored: self.stored.as_ref().map(CompactRange::root),
            });
        }
    }

    /// At the end of the log. `removed` lines are missing at its beginning.
    pub(super) fn finish(mut self, removed: u64) -> Outcome {
        self.judge_differing();
        self.judge_heads();
        for (place, fault) in self.removals.without_record() {
            let order = place.seq.unwrap_or(self.next);
            self.find_at(order, place, fault);
        }
        let retired = self.judge_retirements(removed);
        let (wrong, missing_tiles) = self.tiles.finish();
        let mut findings = self.findings;
        for (place, fault) in wrong {
            findings.push((place.seq.unwrap_or(self.next), Finding { place, fault }));
        }
        // Those of one line stay in the order in which they were found.
        findings.sort_by_key(|(order, _)| *order);
        Outcome {
            last: self.next - 1,
            findings: findings.into_iter().map(|(_, finding)| finding).collect(),
            more: self.more,
            retired,
            missing_tiles,
            heads: self.heads,
            tombstones: self.removals.tombstones,
            undone: self.removals.undone,
        }
    }

    /// Says of each line that is not the one of its stored leaf, which of the two is wrong.
    fn judge_differing(&mut self) {
        for Differing { seq, place, tile } in std::mem::take(&mut self.differing) {
            let head = self
                .heads
                .iter()
                .find(|known| known.head.size >= seq && known.found.is_some());
            let signed = head.map(|known| known.head.root);
            let found = head.and_then(|known| known.found.as_ref());
            let (place, fault) = match found {
                Some(found) if Some(found.lines) == signed => {
                    let fault = Fault::Tile {
                        from: seq,
                        until: seq,
                    };
                    (Place::line(seq, tile), fault)
                }
                Some(found) if found.stored == signed => (place, Fault::NotSigned),
                _ => (place, Fault::NotItsLeaf(tile)),
            };
            self.find_at(seq, place, fault);
        }
    }

    /// Looks whether the lines are those that were signed.
    fn judge_heads(&mut self) {
        let last = self.last();
        // Up to here, the lines are what was signed.
        let mut good = 0;
        let mut told = false;
        for known in std::mem::take(&mut self.heads) {
            let TreeHead { size, root } = known.head;
            let note = known.note.clone();
            match &known.found {
                Some(found) if found.lines == root => good = size,
                // The lines that differ are named already.
                Some(found) if found.stored == Some(root) => {}
                Some(_) if !told => {
                    told = true;
                    let from = good + 1;
                    let place = Place::line(from, self.log.active());
                    let fault = Fault::Root {
                        from,
                        until: size,
                        note,
                    };
                    self.find_at(from, place, fault);
                }
                Some(_) => {}
                None if size > last => {
                    let place = Place::line(last + 1, self.log.active());
                    let fault = Fault::Cut {
                        last,
                        signed: size,
                        note,
                    };
                    self.find_at(last + 1, place, fault);
                }
                // Lines are missing before it, which is told.
                None => {}
            }
            self.heads.push(known);
        }
    }

    /// Holds the records of retirements against the tree, and gives how many lines one retires that is right.
    fn judge_retirements(&mut self, removed: u64) -> u64 {
        let mut retired = 0;
        let mut wrong = Vec::new();
        for record in self.removals.retirements() {
            let known = self.roots.get(&record.retires).copied();
            match known.or_else(|| self.tiles.root(record.retires)) {
                Some(root) if root == record.root => retired = retired.max(record.retires),
                Some(found) => {
                    let fault = Fault::RetiredRoot {
                        retires: record.retires,
                        stated: record.root,
                        found,
                    };
                    wrong.push((record.place.clone(), fault));
                }
                None => {}
            }
        }
        for (place, fault) in wrong {
            self.find_at(place.seq.unwrap_or(self.next), place, fault);
        }
        if removed > retired {
            let place = Place::line(1, self.log.active());
            self.find_at(1, place, Fault::NotRetired(removed));
        }
        retired
    }
}

/// What came out.
pub(super) struct Outcome {
    pub(super) last: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) more: u64,
    pub(super) retired: u64,
    pub(super) missing_tiles: u64,
    pub(super) heads: Vec<KnownHead>,
    pub(super) tombstones: u64,
    pub(super) undone: u64,
}
