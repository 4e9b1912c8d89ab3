//! The frames of a segment, found in the file itself: the manifest is not asked where they are, so that it can be checked.

use std::io;

use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};
use zstd::zstd_safe::DParameter;

use crate::segment::MAX_FRAME;
use crate::storage::StoredFile;

/// How much of the file is read at once, in bytes.
const CHUNK: u64 = 256 << 10;

/// How much is decompressed at once, in bytes.
const STEP: usize = 128 << 10;

/// The largest window that a frame may ask for, as a power of two: the first above the longest frame.
const WINDOW_LOG: u32 = 23;

/// The bit of a frame's descriptor that says that a checksum follows (RFC 8878 section 3.1.1.1.1).
const CHECKSUM: u8 = 0x04;

/// Reads a segment frame by frame.
pub(super) struct SegmentFrames<'a, F> {
    file: &'a F,
    length: u64,
    /// Where in the file the next read goes.
    position: u64,
    input: Vec<u8>,
    consumed: usize,
    decoder: Decoder<'static>,
}

/// A frame that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenFrame {
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// Whether it has a checksum (which was right, then).
    pub(super) checksum: bool,
}

impl<'a, F: StoredFile> SegmentFrames<'a, F> {
    /// Reads `file`, which is `length` bytes long.
    pub(super) fn new(file: &'a F, length: u64) -> io::Result<SegmentFrames<'a, F>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(SegmentFrames {
            file,
            length,
            position: 0,
            input: Vec::new(),
            consumed: 0,
            decoder,
        })
    }

    /// Puts the next frame's lines into `lines`; `None` at the end of the file.
    pub(super) fn next_frame(&mut self, lines: &mut Vec<u8>) -> io::Result<Option<SeenFrame>> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        lines.clear();
        if self.consumed >= self.input.len() && !self.fill()? {
            return Ok(None);
        }
        let offset = self.position - (self.input.len() - self.consumed) as u64;
        self.decoder.reinit()?;
        let mut descriptor = [0; 5];
        crate::storage::read_exact_at(self.file, offset, &mut descriptor)?;
        let checksum = descriptor.last().is_some_and(|byte| byte & CHECKSUM != 0);
        let mut room = Vec::with_capacity(STEP);
        loop {
            room.clear();
            let rest = self.input.get(self.consumed..).unwrap_or_default();
            let mut input = InBuffer::around(rest);
            let mut output = OutBuffer::around(&mut room);
            let more = self.decoder.run(&mut input, &mut output)?;
            self.consumed += input.pos();
            let stuck = input.pos() == 0 && output.pos() == 0;
            lines.extend_from_slice(&room);
            if lines.len() > MAX_FRAME {
                return Err(damaged("a frame is longer than any that is written"));
            }
            if more == 0 {
                return Ok(Some(SeenFrame { offset, checksum }));
            }
            if self.consumed >= self.input.len() {
                if !self.fill()? {
                    return Err(damaged("the last frame is not whole"));
                }
            } else if stuck {
                return Err(damaged("a frame does not go on"));
            }
        }
    }

    /// How many bytes of the file were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads on; `false` at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        let wanted = (self.length - self.position).min(CHUNK);
        self.input.resize(usize::try_from(wanted).unwrap_or(0), 0);
        self.consumed = 0;
        if wanted == 0 {
            return Ok(false);
        }
        let read = self.file.read_at(self.position, &mut self.input)?;
        self.input.truncate(read);
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(true)
    }
}
