//! Searching what messages say: words and phrases, whatever their case, composition or width.
//!
//! Texts are compared by Unicode's compatibility caseless matching (The Unicode Standard, 3.13, D146), composed at the end
//! so that `cafe` does not occur in `café`. What is searched is what is shown: without control sequences and without
//! characters that are not seen, which would let a sender hide a word from a search.

use caseless::Caseless;
use sealpost_core::Content;
use unicode_normalization::UnicodeNormalization;

use crate::terminal::clean_line;

/// The longest search, in bytes: nobody types more, and each word is looked for in each message.
const MAX_LEN: usize = 1_024;

/// What is searched for: all of it must occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    terms: Vec<String>,
}

/// Why nothing can be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No word.
    #[error("there is nothing to search for")]
    Empty,
    /// A phrase without its end.
    #[error("a quotation mark is missing")]
    Unclosed,
    /// Too much of it.
    #[error("the search is longer than {MAX_LEN} bytes")]
    TooLong,
}

impl Search {
    /// Reads words, and phrases in `"quotation marks"`.
    pub fn parse(text: &str) -> Result<Search, SearchError> {
        if text.len() > MAX_LEN {
            return Err(SearchError::TooLong);
        }
        let parts: Vec<&str> = text.split('"').collect();
        if parts.len().is_multiple_of(2) {
            return Err(SearchError::Unclosed);
        }
        let mut terms = Vec::new();
        for (at, part) in parts.into_iter().enumerate() {
            match at % 2 {
                0 => terms.extend(part.split_whitespace().map(fold)),
                _ => terms.push(fold(part)),
            }
        }
        terms.retain(|term| !term.is_empty());
        if terms.is_empty() {
            return Err(SearchError::Empty);
        }
        Ok(Search { terms })
    }

    /// Whether every word and phrase occurs, also within longer words. Of kinds other than text the JSON is searched.
    #[must_use]
    pub fn matches(&self, content: &Content) -> bool {
        let folded = match content {
            Content::Other { json, .. } => fold(json),
            content => match content.text() {
                Some(text) => fold(text),
                None => return false,
            },
        };
        self.terms.iter().all(|term| folded.contains(term))
    }
}

/// The form in which texts are compared: every run of white space is one space.
fn fold(text: &str) -> String {
    // Most texts. In these nothing is to be cleaned, and lower case is all there is to fold.
    let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(plain) {
        let mut words = text.split_ascii_whitespace();
        let mut folded = String::with_capacity(text.len());
        folded.extend(words.next());
        for word in words {
            folded.push(' ');
            folded.push_str(word);
        }
        folded.make_ascii_lowercase();
        return folded;
    }
    let clean = clean_line(text);
    let words: Vec<&str> = clean.split_whitespace().collect();
    let text = words.join(" ");
    text.nfd()
        .default_case_fold()
        .nfkd()
        .default_case_fold()
        .nfkc()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(search: &str, text: &str) -> bool {
        let text = text.to_owned();
        Search::parse(search)
            .unwrap()
            .matches(&Content::Text { text })
    }

    #[test]
    fn case_composition_and_width_do_not_matter() {
        for (search, text) in [
            ("hello", "Hello Bob!"),
            ("STRASSE", "die Straße"),
            ("straße", "DIE STRASSE"),
            ("café", "CAFE\u{301}"),
            ("ﬁnd", "to FIND"),
            ("привет", "ПРИВЕТ"),
            ("ςοφός", "ΣΟΦΌΣ"),
            ("abc", "ＡＢＣ"),
            ("世界", "你好世界!"),
            ("house", "lighthouse"),
        ] {
            assert!(found(search, text), "{search} in {text}");
        }
        assert!(!found("cafe", "café"), "an accent makes another letter");
    }

    #[test]
    fn every_word_must_occur_and_a_phrase_as_it_is() {
        let text = "Meet me at the\n  lighthouse at nine";
        for search in [
            "lighthouse meet",
            "\"the lighthouse\"",
            "nine \"meet me\"",
            "\"  At  The \"",
        ] {
            assert!(found(search, text), "{search}");
        }
        for search in ["lighthouse ten", "\"lighthouse the\"", "\"me meet\""] {
            assert!(!found(search, text), "{search}");
        }
    }

    #[test]
    fn what_is_not_seen_hides_nothing() {
        assert!(found("lighthouse", "light\u{200b}hou\u{ad}se"));
        assert!(found("lighthouse", "light\u{1b}[31mhouse"));
        assert!(!found("31m", "light\u{1b}[31mhouse"));
    }

    #[test]
    fn readings_are_searched_too() {
        let reading =
            Content::parse(r#"{"kind":"reading","celsius":21.5,"room":"Kitchen"}"#).unwrap();
        assert!(Search::parse("kitchen 21.5").unwrap().matches(&reading));
        assert!(!Search::parse("cellar").unwrap().matches(&reading));
    }

    #[test]
    fn a_search_for_nothing_is_an_error() {
        for (text, error) in [
            ("", SearchError::Empty),
            (" \t", SearchError::Empty),
            ("\"\"", SearchError::Empty),
            ("\u{200b}", SearchError::Empty),
            ("\"half", SearchError::Unclosed),
            ("a \"b\" \"c", SearchError::Unclosed),
        ] {
            assert_eq!(Search::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Search::parse(&"x".repeat(1_025)), Err(SearchError::TooLong));
        Search::parse(&"x".repeat(1_024)).unwrap();
    }
}
