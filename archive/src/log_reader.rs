//! A log as it is at one moment, over all its files: sealed segments, what is being sealed, and the active file. It reads beside an
//! archiver that writes, and disturbs it not.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;

use sealpost_core::{Timestamp, UserId};

use crate::layout::{self, LogName};
use crate::line::{self, MAX_SEQ};
use crate::log_file::{self, Lines};
use crate::manifest::{MAX_MANIFEST, Manifest, ManifestError};
use crate::segment;
use crate::storage::{Storage, StoredFile, read_exact_at};

/// How often files are listed again when they change under the reader: an archiver seals a file in seconds, so that twice in a row
/// is rare.
const ATTEMPTS: u32 = 8;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The directory could not be listed.
    #[error("cannot list the archive: {0}")]
    List(#[source] io::Error),
    /// A file could not be read, or is damaged.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file, below the archive's directory.
        path: String,
        /// What is wrong.
        source: io::Error,
    },
    /// A manifest is damaged.
    #[error("the manifest {path} is of no use: {reason}")]
    Manifest {
        /// The file, below the archive's directory.
        path: String,
        /// What is wrong.
        reason: ManifestError,
    },
    /// A line is longer than any that the archiver writes.
    #[error("{path}: the line at byte {offset} has no end")]
    EndlessLine {
        /// The file, below the archive's directory.
        path: String,
        /// Where the line begins, in the file or, of a segment, in its lines.
        offset: u64,
    },
    /// A line does not begin as a line does.
    #[error("{path}: the line at byte {offset} does not begin with \"seq\" and \"archived_at\"")]
    Head {
        /// The file, below the archive's directory.
        path: String,
        /// Where the line begins, in the file or, of a segment, in its lines.
        offset: u64,
    },
    /// Numbers are missing, or come twice.
    #[error("{path}: line {found} is where line {expected} was to come")]
    OutOfSequence {
        /// The file, below the archive's directory.
        path: String,
        /// The number that belongs there.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// The files changed each time they were listed.
    #[error("the files of the archive change all the time")]
    Restless,
}

/// A part of a log: some lines in a row, in one file.
#[derive(Debug)]
pub struct Part<F> {
    /// The file, below the archive's directory.
    pub path: String,
    /// Its manifest, if it is a sealed segment.
    pub manifest: Option<Manifest>,
    /// The number of its first line.
    pub first: u64,
    file: F,
    /// How long a plain file was when it was opened, up to its last newline.
    length: u64,
}

/// A log at one moment. It keeps its files open, so that it stays whole when they are sealed or removed.
#[derive(Debug)]
pub struct LogReader<F> {
    log: LogName,
    parts: Vec<Part<F>>,
    /// Bytes after the last newline of the active file.
    unfinished: u64,
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Their numbers.
    pub numbers: RangeInclusive<u64>,
    /// When they were written. Frames that have none of that time are not read; of the others, all lines are given.
    pub times: RangeInclusive<Timestamp>,
    /// Whose envelopes are wanted. Segments that have none of this sender are not read; of the others, all lines are given.
    pub sender: Option<UserId>,
    /// To whom; likewise.
    pub recipient: Option<UserId>,
}

impl Default for Selection {
    /// All.
    fn default() -> Selection {
        Selection {
            numbers: 1..=MAX_SEQ,
            times: Timestamp::from_millis(0).unwrap_or(Timestamp::MAX)..=Timestamp::MAX,
            sender: None,
            recipient: None,
        }
    }
}

impl Selection {
    /// One line.
    #[must_use]
    pub fn line(number: u64) -> Selection {
        Selection {
            numbers: number..=number,
            ..Selection::default()
        }
    }

    fn may_have(&self, from: Timestamp, until: Timestamp) -> bool {
        from <= *self.times.end() && until >= *self.times.start()
    }

    /// Whether a segment may have envelopes of those who are wanted.
    fn may_have_people(&self, manifest: &Manifest) -> bool {
        let lists =
            |names: &Option<BTreeSet<String>>, wanted: &Option<UserId>| match (names, wanted) {
                (Some(names), Some(wanted)) => names.contains(wanted.as_str()),
                _ => true,
            };
        lists(&manifest.senders, &self.sender) && lists(&manifest.recipients, &self.recipient)
    }
}

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

impl<F: StoredFile> LogReader<F> {
    /// Opens the log as it is now. A log of which there is nothing has no parts.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open<S: Storage<File = F>>(
        storage: &S,
        log: LogName,
    ) -> Result<LogReader<F>, ReadError> {
        for _ in 0..ATTEMPTS {
            let names = Names::list(storage, log)?;
            if let Some(reader) = LogReader::open_names(storage, log, &names)?
                && Names::list(storage, log)? == names
            {
                return Ok(reader);
            }
        }
        Err(ReadError::Restless)
    }

    /// Opens what was listed; `None` if it is not there any more.
    fn open_names<S: Storage<File = F>>(
        storage: &S,
        log: LogName,
        names: &Names,
    ) -> Result<Option<LogReader<F>>, ReadError> {
        let mut parts: Vec<Part<F>> = Vec::new();
        for path in &names.manifests {
            let Some(manifest) = read_manifest(storage, path)? else {
                return Ok(None);
            };
            let segment = segment_beside(path, &manifest);
            match open(storage, &segment)? {
                Some(file) => parts.push(Part {
                    path: segment,
                    first: manifest.first,
                    length: 0,
                    manifest: Some(manifest),
                    file,
                }),
                None => return Ok(None),
            }
        }
        let mut unfinished = 0;
        for path in names.sealing.iter().chain([&log.active()]) {
            let Some(file) = open(storage, path)? else {
                // Between two files there is no active one for an instant; the listing will have changed.
                continue;
            };
            let failed = |source| ReadError::File {
                path: path.clone(),
                source,
            };
            let end = file.length().map_err(failed)?;
            let length = log_file::end_of_whole_lines(&file, end).map_err(failed)?;
            unfinished = end - length;
            let mut lines = log_file::lines(&file, 0..length);
            let first = match lines.next_line().map_err(|error| of_lines(path, error))? {
                None => continue,
                Some(raw) => {
                    line::head_of(raw.bytes)
                        .ok_or_else(|| ReadError::Head {
                            path: path.clone(),
                            offset: 0,
                        })?
                        .0
                }
            };
            // A file that is sealed already, and not removed yet.
            let sealed = parts
                .last()
                .and_then(|part| part.manifest.as_ref())
                .is_some_and(|manifest| manifest.last >= first);
            if !sealed {
                parts.push(Part {
                    path: path.clone(),
                    manifest: None,
                    first,
                    length,
                    file,
                });
            }
        }
        Ok(Some(LogReader {
            log,
            parts,
            unfinished,
        }))
    }

    /// Which log it is.
    #[must_use]
    pub fn log(&self) -> LogName {
        self.log
    }

    /// Its parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part<F>] {
        &self.parts
    }

    /// The number of the oldest line that is there; `None` for an empty log.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.parts.first().map(|part| part.first)
    }

    /// How long its files are, in bytes: of segments, as they are compressed; of the others, up to the last newline.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts
            .iter()
            .map(|part| {
                part.manifest
                    .as_ref()
                    .map_or(part.length, |manifest| manifest.compressed_bytes)
            })
            .sum()
    }

    /// How many bytes follow the last newline: a line that is being written, or one that a crash cut.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// The lines that are wanted, in order.
    #[must_use]
    pub fn lines(&self, selection: Selection) -> LogLines<'_, F> {
        LogLines {
            parts: self.parts.iter(),
            selection,
            current: None,
            expected: None,
        }
    }

    /// The number of the last line, and when it was written; `None` for an empty log.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn last(&self) -> Result<Option<(u64, Timestamp)>, ReadError> {
        let Some(part) = self.parts.last() else {
            return Ok(None);
        };
        if let Some(manifest) = &part.manifest {
            let mut lines = self.lines(Selection::line(manifest.last));
            return Ok(lines.next_line()?.map(|line| (line.seq, line.archived_at)));
        }
        let failed = |source| ReadError::File {
            path: part.path.clone(),
            source,
        };
        let mut lines = log_file::last_whole_lines(&part.file, part.length, 1).map_err(failed)?;
        let offset = lines.offset();
        match lines
            .next_line()
            .map_err(|error| of_lines(&part.path, error))?
        {
            None => Ok(None),
            Some(raw) => line::head_of(raw.bytes)
                .map(Some)
                .ok_or_else(|| ReadError::Head {
                    path: part.path.clone(),
                    offset,
                }),
        }
    }
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

/// The files of a log, by name.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    /// Paths of manifests, by number.
    manifests: Vec<String>,
    /// Paths of files on their way into segments, by number.
    sealing: Vec<String>,
}

impl Names {
    fn list<S: Storage>(storage: &S, log: LogName) -> Result<Names, ReadError> {
        let manifests = manifests(storage, log)
            .map_err(ReadError::List)?
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let mut sealing: Vec<String> = storage
            .list("")
            .map_err(ReadError::List)?
            .into_iter()
            .filter(|name| log.first_of_sealing(name).is_some())
            .collect();
        // Twenty digits: the order of names is that of numbers.
        sealing.sort_unstable();
        Ok(Names { manifests, sealing })
    }
}

/// The manifests of a log: the number of each one's first line and its path, in order.
///
/// # Errors
/// Whatever the disk says.
pub fn manifests<S: Storage>(storage: &S, log: LogName) -> io::Result<Vec<(u64, String)>> {
    files_of_days(storage, log, layout::first_of_manifest)
}

/// The files of segments of a log, also those without a manifest: the number of each one's first line and its path, in order.
///
/// # Errors
/// Whatever the disk says.
pub fn segments<S: Storage>(storage: &S, log: LogName) -> io::Result<Vec<(u64, String)>> {
    files_of_days(storage, log, layout::first_of_segment)
}

/// The files in the folders of days that `first_of` knows by their names.
fn files_of_days<S: Storage>(
    storage: &S,
    log: LogName,
    first_of: fn(&str) -> Option<u64>,
) -> io::Result<Vec<(u64, String)>> {
    let digits = |name: &String, count| {
        name.len() == count && name.bytes().all(|digit| digit.is_ascii_digit())
    };
    let mut found = Vec::new();
    let years = storage.list(log.folder())?;
    for year in years.into_iter().filter(|name| digits(name, 4)) {
        for month in storage
            .list(&log.place(&year))?
            .into_iter()
            .filter(|name| digits(name, 2))
        {
            let month = log.place(&format!("{year}/{month}"));
            for day in storage
                .list(&month)?
                .into_iter()
                .filter(|name| digits(name, 2))
            {
                for name in storage.list(&format!("{month}/{day}"))? {
                    if let Some(first) = first_of(&name) {
                        found.push((first, format!("{month}/{day}/{name}")));
                    }
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The path of the segment whose manifest lies at `path`.
#[must_use]
pub fn segment_beside(path: &str, manifest: &Manifest) -> String {
    let name = layout::segment(manifest.first, manifest.erased);
    match path.rsplit_once('/') {
        None => name,
        Some((day, _)) => format!("{day}/{name}"),
    }
}

/// Reads the manifest at `path`; `None` if there is none.
///
/// # Errors
/// [`ReadError::File`] and [`ReadError::Manifest`].
pub fn read_manifest<S: Storage>(storage: &S, path: &str) -> Result<Option<Manifest>, ReadError> {
    let Some(bytes) = read_whole(storage, path, MAX_MANIFEST)? else {
        return Ok(None);
    };
    let manifest = Manifest::parse(&bytes).map_err(|reason| ReadError::Manifest {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Some(manifest))
}

/// Reads a whole small file; `None` if there is none.
///
/// # Errors
/// [`ReadError::File`], also if it is longer than `limit`.
pub fn read_whole<S: Storage>(
    storage: &S,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(file) = open(storage, path)? else {
        return Ok(None);
    };
    let read = || {
        let length = file.length()?;
        if length > limit {
            let reason = format!("it is longer than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        read_exact_at(&file, 0, &mut bytes)?;
        Ok(bytes)
    };
    read().map(Some).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })
}

/// Opens a file; `None` if it is not there.
fn open<S: Storage>(storage: &S, path: &str) -> Result<Option<S::File>, ReadError> {
    match storage.open_existing(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn of_lines(path: &str, error: log_file::ReadError) -> ReadError {
    let path = path.to_owned();
    match error {
        log_file::ReadError::Io(source) => ReadError::File { path, source },
        log_file::ReadError::LineTooLong { offset } => ReadError::EndlessLine { path, offset },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::segment::SegmentWriter;
    use crate::storage::Directory;

    fn at(seq: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seq * 1000).unwrap()
    }

    fn line(seq: u64, size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        line::write_unfit(&mut out, seq, at(seq), b"inbox/bob", "why", &vec![7; size]);
        out
    }

    fn plain(directory: &Directory, name: &str, numbers: std::ops::Range<u64>, size: usize) {
        let mut file = directory.create_new(name).unwrap();
        for seq in numbers {
            file.append(&line(seq, size)).unwrap();
        }
    }

    fn sealed(directory: &Directory, log: LogName, numbers: std::ops::Range<u64>, size: usize) {
        let day = log.place(&layout::day(at(numbers.start)));
        directory.make_directory(&day).unwrap();
        let file = directory
            .create_new(&format!("{day}/{}", layout::segment(numbers.start, 0)))
            .unwrap();
        let mut writer = SegmentWriter::new(file).unwrap();
        for seq in numbers.clone() {
            let line = line(seq, size);
            writer.push(&line[..line.len() - 1]).unwrap();
        }
        let (_, manifest) = writer.finish(log, Hash([0; 32])).unwrap();
        directory
            .create_new(&format!("{day}/{}", layout::manifest(numbers.start)))
            .unwrap()
            .append(&manifest.to_bytes())
            .unwrap();
    }

    fn numbers(reader: &LogReader<std::fs::File>, selection: Selection, size: usize) -> Vec<u64> {
        let mut lines = reader.lines(selection);
        let mut numbers = Vec::new();
        while let Some(found) = lines.next_line().unwrap() {
            let whole = line(found.seq, size);
            assert_eq!(found.bytes, &whole[..whole.len() - 1]);
            assert_eq!(found.archived_at, at(found.seq));
            numbers.push(found.seq);
        }
        numbers
    }

    #[test]
    fn lines_come_in_order_over_segments_what_is_being_sealed_and_the_active_file() {
        for log in LogName::ALL {
            let parent = tempfile::tempdir().unwrap();
            let directory = Directory::open(parent.path()).unwrap();
            let empty = LogReader::open(&directory, log).unwrap();
            assert_eq!((empty.first(), empty.last().unwrap()), (None, None));
            // Lines of 400 KiB, so that a segment has several frames.
            let size = 300_000;
            sealed(&directory, log, 1..31, size);
            sealed(&directory, log, 31..41, size);
            plain(&directory, &log.sealing(41), 41..44, size);
            plain(&directory, &log.active(), 44..46, size);
            let reader = LogReader::open(&directory, log).unwrap();
            assert_eq!(reader.parts().len(), 4);
            assert!(reader.parts()[0].manifest.as_ref().unwrap().frames.len() > 2);
            assert_eq!(
                (reader.first(), reader.last().unwrap()),
                (Some(1), Some((45, at(45))))
            );
            let all: Vec<u64> = (1..46).collect();
            assert_eq!(numbers(&reader, Selection::default(), size), all);
            for (from, until) in [(1, 1), (14, 15), (30, 31), (29, 44), (44, 44), (45, 99)] {
                let wanted: Vec<u64> = (from..=until.min(45)).collect();
                let selection = Selection {
                    numbers: from..=until,
                    ..Selection::default()
                };
                assert_eq!(numbers(&reader, selection, size), wanted);
            }
        }
    }

    #[test]
    fn frames_without_lines_of_the_wanted_time_are_not_read() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        sealed(&directory, LogName::EncryptedLogs, 1..61, 300_000);
        let reader = LogReader::open(&directory, LogName::EncryptedLogs).unwrap();
        let selection = Selection {
            times: at(30)..=at(31),
            ..Selection::default()
        };
        let found = numbers(&reader, selection, 300_000);
        assert!(found.contains(&30) && found.contains(&31), "{found:?}");
        assert!(found.len() < 30, "{found:?}");
    }

    #[test]
    fn a_file_that_is_sealed_and_not_removed_yet_is_not_read_twice() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        let log = LogName::EncryptedLogs;
        sealed(&directory, log, 1..5, 10);
        plain(&directory, &log.sealing(1), 1..5, 10);
        plain(&directory, &log.active(), 5..7, 10);
        let reader = LogReader::open(&directory, log).unwrap();
        assert_eq!(
            numbers(&reader, Selection::default(), 10),
            [1, 2, 3, 4, 5, 6]
        );
    }

    #[test]
    fn a_line_that_is_missing_between_two_files_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        let log = LogName::EncryptedLogs;
        sealed(&directory, log, 1..5, 10);
        plain(&directory, &log.active(), 6..7, 10);
        let reader = LogReader::open(&directory, log).unwrap();
        let mut lines = reader.lines(Selection::default());
        for _ in 1..5 {
            lines.next_line().unwrap().unwrap();
        }
        assert!(matches!(
            lines.next_line(),
            Err(ReadError::OutOfSequence {
                expected: 5,
                found: 6,
                ..
            })
        ));
    }

    #[test]
    fn a_changed_byte_in_a_segment_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        let log = LogName::EncryptedLogs;
        sealed(&directory, log, 1..5, 1000);
        let path = parent
            .path()
            .join(layout::day(at(1)))
            .join(layout::segment(1, 0));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let reader = LogReader::open(&directory, log).unwrap();
        let mut lines = reader.lines(Selection::default());
        assert!(matches!(lines.next_line(), Err(ReadError::File { .. })));
    }

    #[test]
    fn half_a_line_at_the_end_is_not_given() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        let log = LogName::EncryptedLogs;
        plain(&directory, &log.active(), 1..3, 10);
        directory
            .open(&log.active())
            .unwrap()
            .append(b"{\"seq\":3")
            .unwrap();
        let reader = LogReader::open(&directory, log).unwrap();
        assert_eq!(reader.unfinished(), 8);
        assert_eq!(numbers(&reader, Selection::default(), 10), [1, 2]);
    }
}
