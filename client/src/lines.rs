//! Lines that are read on a thread of their own.

use std::io::BufRead;

use tokio::sync::mpsc;

/// Reads up to the end of a line, without keeping it.
///
/// # Errors
/// When the input cannot be read.
pub fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&b| b == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        input.consume(n);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// The next lines, as many as are there, `most` at most; none at the end. Without any to come, waits for ever.
pub async fn next_lines<T>(lines: &mut Option<mpsc::Receiver<T>>, most: usize) -> Vec<T> {
    let mut some = Vec::new();
    match lines {
        Some(lines) => {
            lines.recv_many(&mut some, most).await;
        }
        None => std::future::pending().await,
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_line_is_skipped_without_being_kept() {
        let mut input = std::io::Cursor::new(b"rest of a long line\nnext\n".to_vec());
        skip_line(&mut input).unwrap();
        let mut next = String::new();
        input.read_line(&mut next).unwrap();
        assert_eq!(next, "next\n");
        skip_line(&mut input).unwrap();
    }
}
