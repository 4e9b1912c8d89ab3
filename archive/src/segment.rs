//! A sealed segment: lines compressed in frames, each of which can be read alone.

use std::collections::BTreeSet;
use std::io;

use sealpost_core::{Envelope, Timestamp};
use zstd::zstd_safe::CParameter;

use crate::hash::Hash;
use crate::layout::LogName;
use crate::line::{Body, Line, LineError, MAX_LINE};
use crate::manifest::{Frame, MAX_NAMES, Manifest, VERSION};
use crate::storage::{StoredFile, read_exact_at};

/// zstd's fastest ordinary level: ciphertext in base64 shrinks by about a third, whatever the level.
const LEVEL: i32 = 1;

/// How many bytes of lines make a frame: enough that the frames' own cost is nothing, little enough that one is read in a few
/// milliseconds.
const FRAME: usize = 4 << 20;

/// The longest frame, decompressed, in bytes: the last line of a frame may go beyond [`FRAME`].
pub(crate) const MAX_FRAME: usize = FRAME + MAX_LINE;

/// Why a segment cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// One of the lines is damaged.
    #[error("a line to be sealed is damaged: {0}")]
    Line(#[from] LineError),
    /// The numbers of the lines have a gap.
    #[error("line {found} came where {expected} was to come")]
    OutOfSequence {
        /// The number that was to come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// There are no lines.
    #[error("there is nothing to seal")]
    Empty,
}

/// Writes a segment, line by line. Whoever has one syncs the file.
pub struct SegmentWriter<F> {
    file: F,
    compressor: zstd::bulk::Compressor<'static>,
    /// Lines of the frame that is not written yet.
    pending: Vec<u8>,
    /// Where that frame will lie, and what is in it.
    frame: Option<Frame>,
    written: u64,
    bytes: u64,
    erased: u64,
    last: u64,
    frames: Vec<Frame>,
    senders: Option<BTreeSet<String>>,
    recipients: Option<BTreeSet<String>>,
}

impl<F: StoredFile> SegmentWriter<F> {
    /// Writes into `file`, which is empty.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(file: F) -> io::Result<SegmentWriter<F>> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(SegmentWriter {
            file,
            compressor,
            pending: Vec::new(),
            frame: None,
            written: 0,
            bytes: 0,
            erased: 0,
            last: 0,
            frames: Vec::new(),
            senders: Some(BTreeSet::new()),
            recipients: Some(BTreeSet::new()),
        })
    }

    /// Adds the next line, given without its newline.
    ///
    /// # Errors
    /// [`SealError`]; the segment is of no use then.
    pub fn push(&mut self, raw: &[u8]) -> Result<(), SealError> {
        let line = Line::parse(raw)?;
        if self.last != 0 && line.seq != self.last + 1 {
            return Err(SealError::OutOfSequence {
                expected: self.last + 1,
                found: line.seq,
            });
        }
        self.last = line.seq;
        match &line.body {
            Body::Message(message) if message.error.is_none() => {
                if let Ok(envelope) = Envelope::parse(&message.payload) {
                    note_name(&mut self.senders, envelope.from().as_str());
                    note_name(&mut self.recipients, envelope.to().as_str());
                }
            }
            Body::Tombstone { .. } => self.erased += 1,
            _ => {}
        }
        let frame = self.frame.get_or_insert(Frame {
            offset: self.written,
            first: line.seq,
            from: Timestamp::MAX,
            until: line.archived_at,
        });
        frame.from = frame.from.min(line.archived_at);
        frame.until = frame.until.max(line.archived_at);
        self.pending.extend_from_slice(raw);
        self.pending.push(b'\n');
        self.bytes += raw.len() as u64 + 1;
        if self.pending.len() >= FRAME {
            self.end_frame()?;
        }
        Ok(())
    }

    /// Ends the segment: the file, written but not synced, and the manifest. `root` is that of the tree up to the last line.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn finish(mut self, log: LogName, root: Hash) -> Result<(F, Manifest), SealError> {
        self.end_frame()?;
        let (Some(first), Some(from), Some(until)) = (
            self.frames.first().map(|frame| frame.first),
            self.frames.iter().map(|frame| frame.from).min(),
            self.frames.iter().map(|frame| frame.until).max(),
        ) else {
            return Err(SealError::Empty);
        };
        let manifest = Manifest {
            v: VERSION,
            log,
            first,
            last: self.last,
            count: self.last - first + 1,
            from,
            until,
            bytes: self.bytes,
            compressed_bytes: self.written,
            root,
            frames: self.frames,
            senders: self.senders,
            recipients: self.recipients,
            erased: self.erased,
        };
        Ok((self.file, manifest))
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let Some(frame) = self.frame.take() else {
            return Ok(());
        };
        let compressed = self.compressor.compress(&self.pending)?;
        self.file.append(&compressed)?;
        self.written += compressed.len() as u64;
        self.frames.push(frame);
        self.pending.clear();
        Ok(())
    }
}

/// Adds a name to a list, or gives the list up when it is full.
fn note_name(names: &mut Option<BTreeSet<String>>, name: &str) {
    if let Some(set) = names
        && !set.contains(name)
    {
        if set.len() < MAX_NAMES {
            set.insert(name.to_owned());
        } else {
            *names = None;
        }
    }
}

/// Reads the lines of the frame with number `place` (from 0) of a segment: whole lines, each with its newline.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if the frame is damaged; whatever the disk says.
pub fn read_frame<F: StoredFile>(
    file: &F,
    manifest: &Manifest,
    place: usize,
) -> io::Result<Vec<u8>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (offset, end) = manifest
        .extent(place)
        .ok_or_else(|| damaged("there is no such frame"))?;
    let length = usize::try_from(end - offset)
        .ok()
        .filter(|&length| length <= zstd::zstd_safe::compress_bound(MAX_FRAME))
        .ok_or_else(|| damaged("a frame is longer than any that is written"))?;
    let mut compressed = vec![0; length];
    read_exact_at(file, offset, &mut compressed)?;
    let lines = zstd::bulk::decompress(&compressed, MAX_FRAME)
        .map_err(|error| damaged(&format!("a frame is damaged: {error}")))?;
    if lines.last() != Some(&b'\n') {
        return Err(damaged("a frame does not end with a line"));
    }
    Ok(lines)
}
