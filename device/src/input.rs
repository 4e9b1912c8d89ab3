//! Standard input: a reading a line.

use std::io::{BufRead, BufReader, Read};

use sealpost::clock;
use sealpost::lines::skip_line;
use sealpost::settings::Lines;
use sealpost::store::{Fresh, LONGEST_READING};
use sealpost_core::{Reading, Timestamp};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// How many lines are read ahead.
const AHEAD: usize = 64;
/// How much is read from the pipe at once, in bytes.
const BUFFER: usize = 8 * 1_024;
/// How much the reading thread's stack takes, in bytes: it calls nothing deep.
const STACK: usize = 128 * 1_024;
/// How deep a reading may nest: as a content it is one level deeper, and 64 is what readers take (SPEC 8.1).
const MAX_DEPTH: usize = 62;

/// What standard input brought.
#[derive(Debug)]
pub enum Line {
    /// A reading.
    Reading(Fresh),
    /// Something that is none: which line it was since the start, from 1, and why.
    Refused(u64, Refusal),
    /// It cannot be read any more.
    Failed(std::io::Error),
}

/// Why a line is no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is long.
    #[error("it has more than {LONGEST_READING} bytes as JSON")]
    TooLong,
    /// It is no text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It is no JSON, and had to be.
    #[error("it is not JSON, or nests more than {MAX_DEPTH} deep")]
    NotJson,
}

/// Starts reading on a thread of its own, which may stay behind in a read when the program ends.
///
/// # Errors
/// When there is no thread to be had.
pub fn read(lines: Lines) -> std::io::Result<mpsc::Receiver<Line>> {
    let (tx, rx) = mpsc::channel(AHEAD);
    std::thread::Builder::new()
        .name("input".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let input = BufReader::with_capacity(BUFFER, std::io::stdin());
            read_from(input, lines, &tx);
        })?;
    Ok(rx)
}

fn read_from(mut input: impl BufRead, lines: Lines, tx: &mpsc::Sender<Line>) {
    let most = LONGEST_READING as u64 + 2;
    let mut number = 0;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_READING + 2));
    loop {
        bytes.clear();
        number += 1;
        let read = input.by_ref().take(most).read_until(b'\n', &mut bytes);
        let line = match read {
            Ok(0) => return,
            Ok(n) if n as u64 == most && bytes.last() != Some(&b'\n') => {
                match skip_line(&mut input) {
                    Ok(()) => Some(Line::Refused(number, Refusal::TooLong)),
                    Err(error) => Some(Line::Failed(error)),
                }
            }
            Ok(_) => match parse(&bytes, lines, clock::now()) {
                Ok(reading) => reading.map(Line::Reading),
                Err(why) => Some(Line::Refused(number, why)),
            },
            Err(error) => Some(Line::Failed(error)),
        };
        let Some(line) = line else {
            continue;
        };
        let over = matches!(line, Line::Failed(_));
        if tx.blocking_send(line).is_err() || over {
            return;
        }
    }
}

/// What a line says; nothing when it is empty.
fn parse(bytes: &[u8], lines: Lines, at: Timestamp) -> Result<Option<Fresh>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::NotText)?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.trim().is_empty() {
        return Ok(None);
    }
    let as_json = || is_json(text).then(|| Zeroizing::new(text.trim().to_owned()));
    let as_text = || serde_json::to_string(text).ok().map(Zeroizing::new);
    let value = match lines {
        Lines::Json => as_json(),
        Lines::Text => as_text(),
        Lines::Auto => as_json().or_else(as_text),
    };
    let value = value.ok_or(Refusal::NotJson)?;
    if value.len() > LONGEST_READING {
        return Err(Refusal::TooLong);
    }
    Ok(Some(Fresh { at, value }))
}

/// Whether it goes into a content as it is.
fn is_json(text: &str) -> bool {
    if depth(text) > MAX_DEPTH {
        return false;
    }
    let reading = Reading::new(1, Timestamp::MAX, text);
    reading.is_some_and(|reading| reading.to_content().is_ok())
}

/// How deep it nests at most. Brackets within strings do not count.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut within, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            b'[' | b'{' if !within => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !within => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, lines: Lines) -> Result<Option<String>, Refusal> {
        let fresh = parse(line.as_bytes(), lines, Timestamp::MAX)?;
        Ok(fresh.map(|fresh| fresh.value.to_string()))
    }

    #[test]
    fn a_line_is_the_json_that_it_is_or_a_text() {
        for (line, auto) in [
            ("21.5\n", "21.5"),
            ("{\"celsius\":21.5}\r\n", "{\"celsius\":21.5}"),
            ("  null ", "null"),
            ("door open\n", "\"door open\""),
            ("21,5", "\"21,5\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
        ] {
            assert_eq!(of(line, Lines::Auto), Ok(Some(auto.to_owned())), "{line}");
        }
        assert_eq!(of("21.5\n", Lines::Text), Ok(Some("\"21.5\"".to_owned())));
        assert_eq!(of("21.5\n", Lines::Json), Ok(Some("21.5".to_owned())));
        assert_eq!(of("21,5\n", Lines::Json), Err(Refusal::NotJson));
        for empty in ["", "\n", " \r\n"] {
            assert_eq!(of(empty, Lines::Auto), Ok(None));
        }
    }

    #[test]
    fn what_no_reader_would_take_is_not_json() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(is_json(&deep(MAX_DEPTH)));
        assert_eq!(of(&deep(MAX_DEPTH + 1), Lines::Json), Err(Refusal::NotJson));
        assert!(is_json("\"[[[[[[\\\"[[[\""));
        assert!(!is_json("1} x"));
    }

    #[test]
    fn lines_that_are_too_long_or_no_text_are_refused_and_the_next_is_read() {
        let mut bytes = vec![b'1'; LONGEST_READING + 1];
        bytes.extend_from_slice(b"\n7\n\xff\n");
        bytes.extend(std::iter::repeat_n(b'1', LONGEST_READING));
        bytes.extend_from_slice(b"\n9");
        let (tx, mut rx) = mpsc::channel(9);
        read_from(std::io::Cursor::new(bytes), Lines::Auto, &tx);
        drop(tx);
        let mut came = Vec::new();
        while let Ok(line) = rx.try_recv() {
            came.push(match line {
                Line::Reading(fresh) => fresh.value.len().to_string(),
                Line::Refused(line, why) => format!("{line}: {why:?}"),
                Line::Failed(error) => error.to_string(),
            });
        }
        assert_eq!(came, ["1: TooLong", "1", "3: NotText", "4096", "1"]);
    }
}
