//! The lines of a log, one after the other, over all its files.

use sealpost_core::Timestamp;

use super::Part;
use super::error::{ReadError, of_lines};
use super::selection::Selection;
use crate::line;
use crate::log_file::{self, Lines};
use crate::manifest::Manifest;
use crate::segment;
use crate::storage::StoredFile;

/// A line as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundLine<'a> {
    /// Its number.
    pub seq: u64,
    /// When it was written.
    pub archived_at: Timestamp,
    /// Its bytes, without the newline.
    pub bytes: &'a [u8],
    /// The file it is in, below the archive's directory.
    pub path: &'a str,
    /// Where it begins, in the file or, of a segment, in its lines.
    pub offset: u64,
}

/// Lines of a log, in order.
#[derive(Debug)]
pub struct LogLines<'a, F> {
    parts: std::slice::Iter<'a, Part<F>>,
    selection: Selection,
    current: Option<Current<'a, F>>,
    /// The number that comes next, if what comes next follows what came last.
    expected: Option<u64>,
}

#[derive(Debug)]
enum Current<'a, F> {
    Plain {
        path: &'a str,
        lines: Lines<'a, F>,
    },
    Sealed {
        part: &'a Part<F>,
        manifest: &'a Manifest,
        next_frame: usize,
        /// The lines of the frame that is being given.
        frame: Vec<u8>,
        consumed: usize,
        /// Where that frame's lines begin among all of the segment that were read.
        base: u64,
    },
}

/// What became of the search for the next line in the current part.
enum Step {
    /// Where the line is, in the buffer of the current part.
    Found {
        seq: u64,
        archived_at: Timestamp,
        offset: u64,
    },
    EndOfPart,
}

impl<'a, F: StoredFile> LogLines<'a, F> {
    /// The lines of `parts` that are wanted.
    pub(super) fn new(parts: &'a [Part<F>], selection: Selection) -> LogLines<'a, F> {
        LogLines {
            parts: parts.iter(),
            selection,
            current: None,
            expected: None,
        }
    }
}

impl<F: StoredFile> LogLines<'_, F> {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`]; nothing comes after it.
    pub fn next_line(&mut self) -> Result<Option<FoundLine<'_>>, ReadError> {
        loop {
            if self.current.is_none() && !self.next_part() {
                return Ok(None);
            }
            match self.step()? {
                Step::EndOfPart => self.current = None,
                Step::Found { seq, .. } if seq > *self.selection.numbers.end() => {
                    self.parts = [].iter();
                    self.current = None;
                    return Ok(None);
                }
                Step::Found { seq, .. } if seq < *self.selection.numbers.start() => {}
                Step::Found {
                    seq,
                    archived_at,
                    offset,
                } => {
                    // Asked for again here, for the borrow checker's sake: the step is done.
                    let (path, bytes): (&str, &[u8]) = match &self.current {
                        Some(Current::Plain { path, lines }) => (path, lines.last_line()),
                        Some(Current::Sealed {
                            part,
                            frame,
                            consumed,
                            ..
                        }) => (&part.path, last_of(frame, *consumed)),
                        None => ("", &[]),
                    };
                    return Ok(Some(FoundLine {
                        seq,
                        archived_at,
                        bytes,
                        path,
                        offset,
                    }));
                }
            }
        }
    }

    /// Goes on to the next part that may have wanted lines.
    fn next_part(&mut self) -> bool {
        for part in self.parts.by_ref() {
            match &part.manifest {
                None => {
                    self.current = Some(Current::Plain {
                        path: &part.path,
                        lines: log_file::lines(&part.file, 0..part.length),
                    });
                    return true;
                }
                Some(manifest) => {
                    let wanted = manifest.last >= *self.selection.numbers.start()
                        && manifest.first <= *self.selection.numbers.end()
                        && self.selection.may_have(manifest.from, manifest.until)
                        && self.selection.may_have_people(manifest);
                    if wanted {
                        self.current = Some(Current::Sealed {
                            part,
                            manifest,
                            next_frame: 0,
                            frame: Vec::new(),
                            consumed: 0,
                            base: 0,
                        });
                        return true;
                    }
                    // What follows does not follow what came last.
                    self.expected = Some(manifest.last + 1);
                }
            }
        }
        false
    }

    fn step(&mut self) -> Result<Step, ReadError> {
        let (path, offset, head) = match &mut self.current {
            None => return Ok(Step::EndOfPart),
            Some(Current::Plain { path, lines }) => {
                let raw = lines.next_line().map_err(|error| of_lines(path, error))?;
                let Some(raw) = raw else {
                    return Ok(Step::EndOfPart);
                };
                (*path, raw.offset, line::head_of(raw.bytes))
            }
            Some(Current::Sealed {
                part,
                manifest,
                next_frame,
                frame,
                consumed,
                base,
            }) => {
                while *consumed >= frame.len() {
                    let Some(next) = manifest.frames.get(*next_frame) else {
                        return Ok(Step::EndOfPart);
                    };
                    let place = *next_frame;
                    *next_frame += 1;
                    let after = manifest.frames.get(*next_frame);
                    let last = after.map_or(manifest.last, |after| after.first - 1);
                    let wanted = last >= *self.selection.numbers.start()
                        && next.first <= *self.selection.numbers.end()
                        && self.selection.may_have(next.from, next.until);
                    if !wanted {
                        self.expected = Some(last + 1);
                        continue;
                    }
                    *base += frame.len() as u64;
                    *frame =
                        segment::read_frame(&part.file, manifest, place).map_err(|source| {
                            ReadError::File {
                                path: part.path.clone(),
                                source,
                            }
                        })?;
                    *consumed = 0;
                }
                let offset = *base + *consumed as u64;
                let rest = frame.get(*consumed..).unwrap_or_default();
                // A frame ends with a newline, so there is one.
                let length = rest
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .unwrap_or(rest.len());
                *consumed += length + 1;
                let raw = rest.get(..length).unwrap_or_default();
                (part.path.as_str(), offset, line::head_of(raw))
            }
        };
        let (seq, archived_at) = head.ok_or_else(|| ReadError::Head {
            path: path.to_owned(),
            offset,
        })?;
        if let Some(expected) = self.expected
            && seq != expected
        {
            return Err(ReadError::OutOfSequence {
                path: path.to_owned(),
                expected,
                found: seq,
            });
        }
        self.expected = Some(seq + 1);
        Ok(Step::Found {
            seq,
            archived_at,
            offset,
        })
    }
}

/// The line that ends (with its newline) at `end`.
fn last_of(lines: &[u8], end: usize) -> &[u8] {
    let line = lines.get(..end.saturating_sub(1)).unwrap_or_default();
    let start = line
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |newline| newline + 1);
    line.get(start..).unwrap_or_default()
}
