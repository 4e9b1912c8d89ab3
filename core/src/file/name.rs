//! Under which name a file is saved: never the sender's word as it is.

use alloc::string::String;

/// The longest name under which a file is saved, in bytes of UTF-8: file systems take 255, and ` (1)` and the like have to fit.
pub const MAX_SAVED_NAME: usize = 200;
/// The longest ending that is kept when a name is cut, with its dot, in bytes.
const MAX_ENDING: usize = 16;
/// What a file is called that has no name left.
const NAMELESS: &str = "file";
/// Devices of Windows, in any case and with any ending.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The name under which a file of this name may be saved in a folder (SPEC 8.7): one part of a path, not hidden, without characters
/// that are not seen, turn what is read, or mean something to a file system; at most [`MAX_SAVED_NAME`] bytes.
///
/// It says nothing of what is there already: whoever saves must not overwrite.
#[must_use]
pub fn saved_name(name: &str) -> String {
    let last = name
        .rsplit(['/', '\\'])
        .find(|part| !part.chars().all(is_dropped_at_an_end))
        .unwrap_or_default();
    let kept: String = last
        .chars()
        .filter(|c| !is_unseen(*c))
        .map(|c| match c {
            '<' | '>' | ':' | '"' | '|' | '?' | '*' => '_',
            c if c.is_whitespace() => ' ',
            c => c,
        })
        .collect();
    let kept = cut(kept.trim_matches(is_dropped_at_an_end));
    let kept = kept.trim_end_matches(is_dropped_at_an_end);
    if kept.is_empty() {
        return NAMELESS.into();
    }
    let mut saved = String::with_capacity(kept.len() + 1);
    if is_reserved(kept) {
        saved.push('_');
    }
    saved.push_str(kept);
    saved
}

/// A dot in front hides a file and behind it is lost on some systems, as spaces are.
fn is_dropped_at_an_end(c: char) -> bool {
    c == '.' || c.is_whitespace() || is_unseen(c)
}

/// Control characters, those that turn the direction, and those that take no room.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is = |word: &str| stem.eq_ignore_ascii_case(word);
    let numbered = |word: &str| {
        stem.char_indices()
            .nth(3)
            .filter(|(at, _)| *at == 3)
            .is_some_and(|(_, digit)| {
                stem.chars().count() == 4
                    && matches!(digit, '0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}')
                    && stem
                        .get(..3)
                        .is_some_and(|stem| stem.eq_ignore_ascii_case(word))
            })
    };
    RESERVED.into_iter().any(is) || numbered("com") || numbered("lpt")
}

/// What fits of a name, its ending kept where that is short.
fn cut(name: &str) -> String {
    if name.len() <= MAX_SAVED_NAME {
        return name.into();
    }
    let ending = name
        .rfind('.')
        .and_then(|at| name.get(at..))
        .filter(|ending| ending.len() <= MAX_ENDING)
        .unwrap_or_default();
    let mut end = MAX_SAVED_NAME - ending.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut cut = String::with_capacity(MAX_SAVED_NAME);
    cut.push_str(name.get(..end).unwrap_or_default());
    cut.push_str(ending);
    cut
}
