//! What a broker says in words.

use std::fmt;

/// A broker's reason string. Longer ones than this (in characters) are cut: they go to a terminal and into a log.
const MOST: usize = 300;

/// A broker's words. Shown with everything escaped that could command a terminal.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(String);

impl Words {
    /// Takes what the broker said; nothing when it said nothing.
    #[must_use]
    pub fn new(text: &str) -> Option<Words> {
        let text = text.trim();
        (!text.is_empty()).then(|| Words(text.chars().take(MOST).collect()))
    }

    /// As the broker said it: not fit for a terminal.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quotes and apostrophes are harmless, and escaping them is ugly.
        for c in self.0.chars() {
            match c {
                '\'' | '"' => fmt::Write::write_char(f, c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_command_a_terminal_and_have_an_end() {
        assert_eq!(Words::new(" \n"), None);
        let words = Words::new("bob's box\u{1b}[2J\nis\u{202e} full").unwrap();
        assert_eq!(words.to_string(), "bob's box\\u{1b}[2J\\nis\\u{202e} full");
        assert_eq!(Words::new(&"x".repeat(10_000)).unwrap().raw().len(), MOST);
    }
}
