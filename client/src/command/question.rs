//! Questions for a person at the terminal.

use std::io::{BufRead, IsTerminal};

use super::Start;
use crate::exit::{Code, Failure};

/// How often a person is asked again who has said neither yes nor no.
const ASKED: u32 = 3;

/// What an answer means; anything but yes and no is no answer, for each of them has consequences.
fn answered(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// Asks a person.
pub(super) fn ask(start: &mut Start, question: &str, without: &str) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if start.printer.is_json() || !stdin.is_terminal() {
        return Err(Failure::new(Code::Usage, "there is nobody to ask", without));
    }
    start.printer.ask(question)?;
    for _ in 0..ASKED {
        let mut answer = String::new();
        if stdin.lock().read_line(&mut answer)? == 0 {
            break;
        }
        match answered(&answer) {
            Some(answer) => return Ok(answer),
            None => start.printer.ask("Please type yes or no: ")?,
        }
    }
    Err(Failure::new(
        Code::Failed,
        "that was neither yes nor no",
        "Nothing was changed. Ask again when you know.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_or_no_is_an_answer() {
        for yes in ["yes\n", "y", " YES "] {
            assert_eq!(answered(yes), Some(true));
        }
        for no in ["no\n", "N"] {
            assert_eq!(answered(no), Some(false));
        }
        for neither in ["", "\n", "yep", "ja", "1"] {
            assert_eq!(answered(neither), None);
        }
    }
}
