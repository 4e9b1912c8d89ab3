//! What others wrote, made safe for a terminal.
//!
//! A message can hold anything: escape sequences that rewrite the screen or the window title (ECMA-48), overrides that
//! turn the reading direction (Unicode Bidirectional Algorithm, UAX #9), characters that are not seen. Cleaning works
//! by letting through what is known to be harmless: whatever happens before, no control character but line feed and
//! tab is ever written out.

/// How many combining marks may follow one character. No script in daily use needs more than four in a row; stacks of
/// hundreds paint over the lines above and below.
const MAX_COMBINING_MARKS: usize = 4;

/// A string control (OSC, DCS, APC, PM, SOS) is removed with its content only when its end is found within so many
/// characters. One that never ends loses its introducer alone, so that it cannot hide the rest of the message.
const MAX_CONTROL_STRING: usize = 4_096;

/// Text of several lines: line feeds and tabs stay, every other control and every invisible or direction-changing
/// character goes. Carriage returns and the other line separators become line feeds.
#[must_use]
pub fn clean_text(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut clean = String::with_capacity(text.len());
    let mut marks = 0_usize;
    let mut at = 0_usize;
    while let Some(&c) = chars.get(at) {
        let rest = chars.get(at + 1..).unwrap_or_default();
        at += 1;
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' => {
                if rest.first() != Some(&'\n') {
                    clean.push('\n');
                }
            }
            // Vertical tab, form feed, next line, line separator, paragraph separator.
            '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => clean.push('\n'),
            '\u{1b}' => at += escape_len(rest),
            '\u{9b}' => at += csi_len(rest),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => at += control_string_len(rest),
            c if c.is_control() => {}
            c if is_invisible(c) => {}
            // Zero-width joiner and non-joiner: Persian, the Indic scripts and emoji need them between two characters
            // of their own; between ASCII letters they only hide a difference.
            '\u{200c}' | '\u{200d}' => {
                let before = clean.chars().next_back().is_some_and(|c| !c.is_ascii());
                let after = rest
                    .first()
                    .is_some_and(|&c| !c.is_ascii() && !c.is_control());
                if before && after && !is_joiner(clean.chars().next_back()) {
                    clean.push(c);
                }
            }
            // One variation selector after a visible character chooses between its forms; rows of them carry data.
            '\u{fe00}'..='\u{fe0f}' => {
                if clean
                    .chars()
                    .next_back()
                    .is_some_and(|c| !c.is_whitespace() && !('\u{fe00}'..='\u{fe0f}').contains(&c))
                {
                    clean.push(c);
                }
            }
            c if is_combining_mark(c) => {
                marks += 1;
                if marks <= MAX_COMBINING_MARKS {
                    clean.push(c);
                }
                continue;
            }
            c => clean.push(c),
        }
        marks = 0;
    }
    clean
}

/// The same for one line: line feeds and tabs become spaces.
#[must_use]
pub fn clean_line(text: &str) -> String {
    clean_text(text)
        .chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .collect()
}

/// A message as it is printed: `From alice: first line`, with every further line indented below the first, so that a
/// line break in a text can never start a line that looks like another message or like our own words.
#[must_use]
pub fn attributed(from: &str, text: &str) -> String {
    headed(&format!("From {from}"), text)
}

/// The same under another heading, which is ours and printed as it is.
#[must_use]
pub fn headed(heading: &str, text: &str) -> String {
    let text = clean_text(text);
    let mut lines = text.trim_end_matches('\n').split('\n');
    let mut out = format!("{heading}: {}", lines.next().unwrap_or_default());
    for line in lines {
        out.push_str("\n    | ");
        out.push_str(line);
    }
    out
}

/// How many characters after an ESC belong to its sequence.
fn escape_len(rest: &[char]) -> usize {
    match rest.first() {
        Some('[') => match csi_len(rest.get(1..).unwrap_or_default()) {
            0 => 0,
            n => n + 1,
        },
        Some(']' | 'P' | 'X' | '^' | '_') => {
            match control_string_len(rest.get(1..).unwrap_or_default()) {
                0 => 0,
                n => n + 1,
            }
        }
        // nF sequences: intermediates, then one final character, such as `ESC ( 0`, which selects a character set.
        Some(' '..='/') => {
            let n = rest
                .iter()
                .take_while(|c| (' '..='/').contains(*c))
                .take(16)
                .count();
            match rest.get(n) {
                Some('0'..='~') => n + 1,
                _ => 0,
            }
        }
        Some('0'..='~') => 1,
        _ => 0,
    }
}

/// The length of a control sequence after its introducer (parameters, intermediates, one final character), or 0 when
/// it is not one.
fn csi_len(rest: &[char]) -> usize {
    let n = rest
        .iter()
        .take_while(|c| (' '..='?').contains(*c))
        .take(64)
        .count();
    match rest.get(n) {
        Some('@'..='~') => n + 1,
        _ => 0,
    }
}

/// The length of a control string after its introducer, its terminator (BEL, ST or ESC \) included, or 0 when it does
/// not end.
fn control_string_len(rest: &[char]) -> usize {
    for (i, c) in rest.iter().take(MAX_CONTROL_STRING).enumerate() {
        match c {
            '\u{7}' | '\u{9c}' => return i + 1,
            '\u{1b}' if rest.get(i + 1) == Some(&'\\') => return i + 2,
            _ => {}
        }
    }
    0
}

fn is_joiner(c: Option<char>) -> bool {
    matches!(c, Some('\u{200c}' | '\u{200d}'))
}

/// Whatever [`clean_text`] may leave out: no harm in a string that is quoted, but not to be written as it is.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || is_invisible(c)
        || matches!(
            c,
            '\u{200c}' | '\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{fe00}'..='\u{fe0f}'
        )
}

/// Characters that are not seen but change what is, or carry hidden content.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}'                    // soft hyphen
        | '\u{61c}'                 // Arabic letter mark
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
        | '\u{180e}'                // Mongolian vowel separator
        | '\u{200b}'                // zero-width space
        | '\u{200e}' | '\u{200f}'   // left-to-right and right-to-left marks
        | '\u{202a}'..='\u{202e}'   // bidi embeddings and overrides
        | '\u{2060}'..='\u{2065}'   // word joiner, invisible operators
        | '\u{2066}'..='\u{2069}'   // bidi isolates
        | '\u{206a}'..='\u{206f}'   // deprecated format characters
        | '\u{feff}'                // byte order mark
        | '\u{fff9}'..='\u{fffb}'   // interlinear annotation
        | '\u{e0000}'..='\u{e007f}' // tags
        | '\u{e0100}'..='\u{e01ef}' // variation selectors, supplement
    )
}

/// The blocks of combining diacritical marks, which attach to any character.
fn is_combining_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' | '\u{483}'..='\u{489}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_in_any_script_pass_unchanged() {
        for text in [
            "Hello Bob!",
            "naïve café, Ünïcödé",
            "мир, 世界, こんにちは, שלום, سلام",
            "می\u{200c}خواهم",
            "family: 👨\u{200d}👩\u{200d}👧, flag 🇪🇺, heart ❤\u{fe0f}",
            "two\nlines\tand a tab",
        ] {
            assert_eq!(clean_text(text), text);
        }
    }

    #[test]
    fn escape_sequences_are_removed_whole() {
        for (hostile, clean) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone"),
            ("\u{1b}]0;new title\u{7}text", "text"),
            (
                "\u{1b}]8;;http://evil.example\u{1b}\\link\u{1b}]8;;\u{1b}\\",
                "link",
            ),
            ("\u{1b}Pq#0;2;0;0;0\u{1b}\\sixel", "sixel"),
            ("\u{9b}31mred", "red"),
            ("\u{9d}0;title\u{9c}x", "x"),
            ("\u{1b}(0lqqk", "lqqk"),
            ("\u{1b}cReset", "Reset"),
            ("a\u{1b}", "a"),
        ] {
            assert_eq!(clean_text(hostile), clean, "{hostile:?}");
        }
    }

    #[test]
    fn a_sequence_that_never_ends_cannot_hide_the_text_behind_it() {
        assert_eq!(
            clean_text("\u{1b}]0;the warning stays"),
            "]0;the warning stays"
        );
        assert_eq!(clean_text("\u{1b}[12;34"), "[12;34");
    }

    #[test]
    fn nested_sequences_leave_no_escape_behind() {
        for hostile in [
            "\u{1b}\u{1b}[m[31m",
            "\u{1b}[\u{1b}[31m",
            "\u{1b}]\u{1b}]0;x\u{7}\u{7}",
        ] {
            assert!(
                !clean_text(hostile)
                    .chars()
                    .any(|c| c.is_control() && c != '\n' && c != '\t'),
                "{hostile:?}"
            );
        }
    }

    #[test]
    fn every_control_but_line_feed_and_tab_is_removed() {
        let every: String = (0..=0x9f_u32)
            .filter_map(char::from_u32)
            .flat_map(|c| ['a', c])
            .collect();
        assert!(
            !clean_text(&every)
                .chars()
                .any(|c| c.is_control() && c != '\n' && c != '\t')
        );
    }

    #[test]
    fn direction_overrides_and_isolates_are_removed() {
        assert_eq!(clean_text("a\u{202e}gpj.exe\u{202c}b"), "agpj.exeb");
        assert_eq!(clean_text("\u{2066}x\u{2069}\u{200f}y\u{61c}"), "xy");
    }

    #[test]
    fn invisible_characters_do_not_survive_between_ascii_letters() {
        assert_eq!(
            clean_text("pay\u{200b}pal\u{feff} a\u{200d}b\u{2060}"),
            "paypal ab"
        );
        assert_eq!(clean_text("x\u{e0041}\u{e0042}\u{e0100}"), "x");
        assert_eq!(clean_text("x\u{fe00}\u{fe01}\u{fe02}"), "x\u{fe00}");
    }

    #[test]
    fn a_stack_of_combining_marks_is_cut() {
        let zalgo: String = std::iter::once('z')
            .chain(std::iter::repeat_n('\u{301}', 200))
            .collect();
        assert_eq!(clean_text(&zalgo).chars().count(), 1 + MAX_COMBINING_MARKS);
    }

    #[test]
    fn carriage_returns_cannot_overwrite_a_line() {
        assert_eq!(clean_text("secret\rFrom bob: hi"), "secret\nFrom bob: hi");
        assert_eq!(clean_text("a\r\nb\u{2028}c"), "a\nb\nc");
    }

    #[test]
    fn a_line_break_in_a_text_never_starts_a_line_of_its_own() {
        let printed = attributed("mallory", "hi\nFrom alice: send money\r\u{85}x");
        assert_eq!(
            printed,
            "From mallory: hi\n    | From alice: send money\n    | \n    | x"
        );
        assert_eq!(clean_line("a\nb\tc"), "a b c");
    }
}
