//! Text in cells: how wide it is, where it breaks, where it is cut. What one character is to a reader, and how many cells it
//! takes, is what ratatui thinks too (UAX #29, UAX #11), so that nothing is drawn beside its place.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What a tab is drawn as.
const TAB: &str = "    ";

/// How many cells a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text in lines of at most `room` cells, broken at spaces where there are any. There is always a line.
#[must_use]
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        wrap_line(line, room.max(1), &mut lines);
    }
    lines
}

fn wrap_line(line: &str, room: usize, lines: &mut Vec<String>) {
    let (mut current, mut used) = (String::new(), 0);
    // Where the line may be broken: the byte behind a space, and the cells up to it.
    let mut space: Option<(usize, usize)> = None;
    for character in line.graphemes(true) {
        let character = if character == "\t" { TAB } else { character };
        let cells = width(character);
        // The space at which a line breaks is on neither.
        if character == " " && used + cells > room && !current.is_empty() {
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            (used, space) = (0, None);
            continue;
        }
        while used + cells > room && !current.is_empty() {
            match space.take() {
                Some((at, upto)) => {
                    let rest = current.split_off(at);
                    lines.push(current.trim_end().to_owned());
                    (current, used) = (rest, used - upto);
                }
                None => {
                    lines.push(std::mem::take(&mut current));
                    used = 0;
                }
            }
        }
        current.push_str(character);
        used += cells;
        if character == " " {
            space = Some((current.len(), used));
        }
    }
    lines.push(current);
}

/// At most so many bytes of a text, up to a whole character.
#[must_use]
pub fn at_most(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// At most `room` cells of one line, with an ellipsis where something is missing.
#[must_use]
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for character in text.graphemes(true) {
        let cells = width(character);
        if used + cells > room {
            break;
        }
        used += cells;
        out.push_str(character);
    }
    if room > 0 {
        out.push('…');
    }
    out
}

/// One line of exactly `room` cells.
#[must_use]
pub fn fit(text: &str, room: usize) -> String {
    let mut out = cut(text, room);
    let missing = room.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        for (text, room, lines) in [
            ("one two three", 8, vec!["one two", "three"]),
            ("one two three", 7, vec!["one two", "three"]),
            ("abcdefgh", 3, vec!["abc", "def", "gh"]),
            ("a\n\nb", 5, vec!["a", "", "b"]),
            ("", 5, vec![""]),
            ("a\tb", 9, vec!["a    b"]),
        ] {
            assert_eq!(wrap(text, room), lines, "{text:?} in {room}");
        }
    }

    #[test]
    fn what_readers_see_as_one_character_is_never_torn() {
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(
            wrap(&family.repeat(3), 5),
            [family.repeat(2), family.to_owned()]
        );
        assert_eq!(
            wrap("e\u{301}e\u{301}e\u{301}", 2),
            ["e\u{301}e\u{301}", "e\u{301}"]
        );
        assert_eq!(wrap("世界世界", 5), ["世界", "世界"]);
        assert_eq!(
            wrap("世", 1),
            ["世"],
            "wider than the room: drawn as far as it goes"
        );
    }

    #[test]
    fn no_line_is_wider_than_its_room() {
        let text = "Grüße aus 東京 🏳\u{fe0f}\u{200d}🌈 und שלום עולם, a_very_long_word_without_any_space_in_it ende";
        for room in 2..40 {
            for line in wrap(text, room) {
                assert!(width(&line) <= room, "{line:?} in {room}");
            }
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("世界世界", 4), "世…");
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("x", 0), "");
        assert_eq!(fit("世界", 3), "世…");
        assert_eq!(fit("ab", 4), "ab  ");
    }
}
