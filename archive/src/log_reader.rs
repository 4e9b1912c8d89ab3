//! A log as it is at one moment, over all its files: sealed segments, what is being sealed, and the active file. It reads beside an
//! archiver that writes, and disturbs it not.

mod error;
mod files;
mod lines;
mod selection;

use sealpost_core::Timestamp;

pub use error::ReadError;
pub use files::{days, manifests, read_manifest, read_whole, segment_beside, segments};
pub use lines::{FoundLine, LogLines};
pub use selection::Selection;

use crate::layout::LogName;
use crate::line;
use crate::log_file;
use crate::manifest::Manifest;
use crate::storage::{Storage, StoredFile};
use error::of_lines;
use files::{Names, open};

/// How often files are listed again when they change under the reader: an archiver seals a file in seconds, so that twice in a row
/// is rare.
const ATTEMPTS: u32 = 8;

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
        LogLines::new(&self.parts, selection)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::layout;
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
