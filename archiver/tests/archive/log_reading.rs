//! Reading lines back, near the sizes at which reads are cut in pieces.

use std::io::Write as _;

use sealpost_archive::log_file::{LogFile, ReadError, last_whole_lines};
use sealpost_archive::storage::{Directory, Storage as _};

const CHUNK: usize = 1 << 20;

fn lines_of(directory: &Directory, count: u64) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let file = directory.open("log").unwrap();
    let length = file.metadata().unwrap().len();
    let mut lines = last_whole_lines(&file, length, count)?;
    let mut all = Vec::new();
    while let Some(line) = lines.next_line()? {
        all.push((line.offset, line.bytes.to_vec()));
    }
    Ok(all)
}

#[test]
fn the_last_lines_are_found_across_the_borders_of_reads() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(parent.path()).unwrap();
    let mut expected = Vec::new();
    let mut offset = 0;
    let mut file = directory.open("log").unwrap();
    for (place, length) in [0, 5, CHUNK - 8, CHUNK - 1, CHUNK, CHUNK + 1, 0, 3]
        .into_iter()
        .enumerate()
    {
        let line = vec![b'a' + place as u8; length];
        file.write_all(&line).unwrap();
        file.write_all(b"\n").unwrap();
        expected.push((offset, line));
        offset += length as u64 + 1;
    }
    for count in 0..=expected.len() + 1 {
        let from = expected.len().saturating_sub(count);
        assert!(
            lines_of(&directory, count as u64).unwrap() == expected[from..],
            "the last {count}"
        );
    }
    // Half a line behind them is no line.
    file.write_all(b"half").unwrap();
    assert!(lines_of(&directory, 2).unwrap() == expected[expected.len() - 2..]);
}

#[test]
fn a_line_without_end_is_not_read_into_memory() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(parent.path()).unwrap();
    let mut file = directory.open("log").unwrap();
    file.write_all(b"one\n").unwrap();
    file.write_all(&vec![0; 5 * CHUNK]).unwrap();
    file.write_all(b"\n").unwrap();
    assert!(matches!(
        lines_of(&directory, 9),
        Err(ReadError::LineTooLong { offset: 4 })
    ));
}

#[test]
fn a_torn_tail_larger_than_one_read_is_set_aside_whole() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(parent.path()).unwrap();
    let torn: Vec<u8> = (0..3 * CHUNK + 17)
        .map(|place| (place % 251) as u8)
        .filter(|&byte| byte != b'\n')
        .collect();
    let mut file = directory.open("log").unwrap();
    file.write_all(b"one\n").unwrap();
    file.write_all(&torn).unwrap();
    let (log, tail) = LogFile::open(&directory, "log").unwrap();
    assert_eq!(log.length(), 4);
    assert!(std::fs::read(parent.path().join(tail.unwrap().set_aside_in)).unwrap() == torn);
    assert_eq!(std::fs::read(parent.path().join("log")).unwrap(), b"one\n");
}
