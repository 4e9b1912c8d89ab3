//! Standard input, line by line, read on a thread of its own.

use std::io::{BufRead, Read};

use sealpost_core::MAX_PLAINTEXT;
use tokio::sync::mpsc;

use crate::exit::{Code, Failure, not_read};
use crate::lines::skip_line;

/// The longest line, in bytes: a message of the greatest size and its `msg NAME`.
const MAX_LINE: u64 = MAX_PLAINTEXT as u64 + 128;

/// Starts reading, at most so many lines ahead. The thread may stay behind in a read when the program ends.
pub(super) fn read(ahead: usize) -> mpsc::Receiver<Result<String, Failure>> {
    let (tx, rx) = mpsc::channel(ahead);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut bytes = Vec::new();
            let line = match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(n) if n as u64 >= MAX_LINE && bytes.last() != Some(&b'\n') => {
                    if skip_line(&mut input).is_err() {
                        return;
                    }
                    Err(Failure::new(
                        Code::Failed,
                        format!("a line has more than {MAX_LINE} bytes"),
                        "Send it in parts.",
                    ))
                }
                Ok(_) => String::from_utf8(bytes).map_err(|_| {
                    Failure::new(
                        Code::Failed,
                        "a line is not UTF-8 text",
                        "Convert it first.",
                    )
                }),
                Err(error) => {
                    let _ = tx.blocking_send(Err(not_read(&error)));
                    return;
                }
            };
            if tx.blocking_send(line).is_err() {
                return;
            }
        }
    });
    rx
}
