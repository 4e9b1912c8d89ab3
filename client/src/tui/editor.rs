//! A text that somebody types, of one or several lines: by characters as readers see them, erased when it is dropped.

use unicode_segmentation::UnicodeSegmentation;
use zeroize::Zeroizing;

use super::text::{at_most, width};
use crate::terminal::clean_text;

/// The longest text in bytes, a little below what one message holds.
pub const MAX_TEXT: usize = 60_000;
/// Room for a passphrase from the start: a text that grows leaves copies behind.
const MAX_SECRET: usize = 1_024;

/// A text and a place in it.
#[derive(Debug, Clone, Default)]
pub struct Editor {
    text: Zeroizing<String>,
    /// A byte between two characters.
    cursor: usize,
    /// What was cut last, to be put back.
    cut: Zeroizing<String>,
    secret: bool,
}

/// A text in lines of a certain width, and where the cursor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The lines.
    pub lines: Vec<String>,
    /// The line of the cursor, from 0.
    pub row: usize,
    /// Its cell, from 0.
    pub column: usize,
}

impl Editor {
    /// With a text, and the cursor behind it.
    #[must_use]
    pub fn of(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.insert(text);
        editor
    }

    /// For a passphrase.
    #[must_use]
    pub fn secret() -> Editor {
        Editor {
            text: Zeroizing::new(String::with_capacity(MAX_SECRET)),
            secret: true,
            ..Editor::default()
        }
    }

    /// What was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is a passphrase, which is not shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// Whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text up to the cursor.
    #[must_use]
    pub fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    /// Puts another text in its place.
    pub fn set(&mut self, text: &str) {
        self.text.clear();
        self.cursor = 0;
        self.insert(text);
    }

    /// Empties it, and gives what was in it.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut *self.text)
    }

    /// Types something, without control characters; what does not fit is left out.
    pub fn insert(&mut self, text: &str) {
        let clean = Zeroizing::new(clean_text(text));
        let most = if self.secret { MAX_SECRET } else { MAX_TEXT };
        let room = most.saturating_sub(self.text.len());
        let fits = at_most(&clean, room);
        self.text.insert_str(self.cursor, fits);
        self.cursor += fits.len();
    }

    fn character_before(&self) -> usize {
        self.before()
            .graphemes(true)
            .next_back()
            .map_or(0, str::len)
    }

    fn character_after(&self) -> usize {
        self.after().graphemes(true).next().map_or(0, str::len)
    }

    /// How many bytes to the left the word begins.
    fn word_before(&self) -> usize {
        let before = self.before();
        let word = before.trim_end();
        let start = word.rfind(char::is_whitespace).map_or(0, |at| {
            at + word
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(0, char::len_utf8)
        });
        before.len() - start
    }

    fn word_after(&self) -> usize {
        let after = self.after();
        let skipped = after.len() - after.trim_start().len();
        let word = after.get(skipped..).unwrap_or_default();
        skipped + word.find(char::is_whitespace).unwrap_or(word.len())
    }

    /// One character to the left.
    pub fn left(&mut self) {
        self.cursor -= self.character_before();
    }

    /// One character to the right.
    pub fn right(&mut self) {
        self.cursor += self.character_after();
    }

    /// To the beginning of the word.
    pub fn word_left(&mut self) {
        self.cursor -= self.word_before();
    }

    /// Behind the word.
    pub fn word_right(&mut self) {
        self.cursor += self.word_after();
    }

    /// To the beginning of the line.
    pub fn home(&mut self) {
        self.cursor = self.before().rfind('\n').map_or(0, |at| at + 1);
    }

    /// To the end of the line.
    pub fn end(&mut self) {
        self.cursor += self.after().find('\n').unwrap_or(self.after().len());
    }

    /// Removes the character to the left.
    pub fn backspace(&mut self) {
        let length = self.character_before();
        self.remove_before(length);
    }

    /// Removes the character to the right.
    pub fn delete(&mut self) {
        let end = self.cursor + self.character_after();
        self.text.replace_range(self.cursor..end, "");
    }

    /// Cuts the word to the left.
    pub fn cut_word(&mut self) {
        let length = self.word_before();
        self.keep(self.cursor - length, self.cursor);
        self.remove_before(length);
    }

    /// Cuts from the beginning of the line.
    pub fn cut_line(&mut self) {
        let end = self.cursor;
        self.home();
        let start = self.cursor;
        self.keep(start, end);
        self.text.replace_range(start..end, "");
    }

    /// Cuts to the end of the line.
    pub fn cut_rest(&mut self) {
        let start = self.cursor;
        self.end();
        let end = self.cursor;
        self.cursor = start;
        self.keep(start, end);
        self.text.replace_range(start..end, "");
    }

    /// Puts back what was cut.
    pub fn put_back(&mut self) {
        let cut = self.cut.clone();
        self.insert(&cut);
    }

    fn keep(&mut self, start: usize, end: usize) {
        if !self.secret && start < end {
            let cut = self.text.get(start..end).unwrap_or_default().to_owned();
            self.cut = Zeroizing::new(cut);
        }
    }

    fn remove_before(&mut self, length: usize) {
        let start = self.cursor - length;
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// Every place between two characters: its byte, line and cell, in lines of `room` cells.
    fn places(&self, room: usize) -> Vec<(usize, usize, usize)> {
        let room = room.max(2);
        let (mut row, mut column, mut places) = (0, 0, Vec::new());
        for (at, character) in self.text.grapheme_indices(true) {
            let cells = cells_of(character);
            if character != "\n" && column + cells > room {
                (row, column) = (row + 1, 0);
            }
            places.push((at, row, column));
            match character {
                "\n" => (row, column) = (row + 1, 0),
                _ => column += cells,
            }
        }
        if column >= room {
            (row, column) = (row + 1, 0);
        }
        places.push((self.text.len(), row, column));
        places
    }

    /// As it is drawn, in lines of `room` cells.
    #[must_use]
    pub fn layout(&self, room: usize) -> Layout {
        let places = self.places(room);
        let (mut row, mut column) = (0, 0);
        let mut lines = vec![String::new()];
        let ends = places.iter().skip(1).map(|place| place.0);
        for (&(at, line, cell), end) in places.iter().zip(ends.chain([self.text.len()])) {
            while lines.len() <= line {
                lines.push(String::new());
            }
            if at == self.cursor {
                (row, column) = (line, cell);
            }
            let character = self.text.get(at..end).unwrap_or_default();
            if let Some(last) = lines.last_mut() {
                match character {
                    "\n" => {}
                    "\t" => last.push_str("    "),
                    _ => last.push_str(character),
                }
            }
        }
        Layout { lines, row, column }
    }

    /// One line up, as it is drawn; says whether there was one.
    pub fn up(&mut self, room: usize) -> bool {
        let layout = self.layout(room);
        layout.row > 0 && self.to(room, layout.row - 1, layout.column)
    }

    /// One line down.
    pub fn down(&mut self, room: usize) -> bool {
        let layout = self.layout(room);
        self.to(room, layout.row + 1, layout.column)
    }

    fn to(&mut self, room: usize, row: usize, column: usize) -> bool {
        let places = self.places(room);
        let there = places
            .iter()
            .rfind(|(_, line, cell)| *line == row && *cell <= column);
        match there {
            Some((at, ..)) => {
                self.cursor = *at;
                true
            }
            None => false,
        }
    }
}

fn cells_of(character: &str) -> usize {
    if character == "\t" {
        4
    } else {
        width(character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_what_readers_see() {
        let mut editor = Editor::of("a👨\u{200d}👩\u{200d}👧e\u{301}");
        editor.backspace();
        assert_eq!(editor.text(), "a👨\u{200d}👩\u{200d}👧");
        editor.left();
        editor.insert("b");
        assert_eq!(editor.text(), "ab👨\u{200d}👩\u{200d}👧");
        editor.delete();
        assert_eq!(editor.text(), "ab");
    }

    #[test]
    fn words_and_lines_are_cut_and_put_back() {
        let mut editor = Editor::of("one two  three");
        editor.cut_word();
        assert_eq!(editor.text(), "one two  ");
        editor.cut_word();
        assert_eq!(editor.text(), "one ");
        editor.put_back();
        assert_eq!(editor.text(), "one two  ");
        editor.set("first\nsecond");
        editor.cut_line();
        assert_eq!(editor.text(), "first\n");
        editor.put_back();
        editor.home();
        editor.word_right();
        assert_eq!(editor.before(), "first\nsecond");
        editor.word_left();
        editor.cut_rest();
        assert_eq!(editor.text(), "first\n");
    }

    #[test]
    fn the_cursor_is_where_the_text_is_drawn() {
        let mut editor = Editor::of("世界世界\nx");
        let layout = editor.layout(5);
        assert_eq!(layout.lines, ["世界", "世界", "x"]);
        assert_eq!((layout.row, layout.column), (2, 1));
        assert!(editor.up(5));
        assert_eq!((editor.layout(5).row, editor.layout(5).column), (1, 0));
        assert!(editor.up(5) && !editor.up(5));
        assert!(editor.down(5) && editor.down(5) && !editor.down(5));
    }

    #[test]
    fn what_is_pasted_has_no_control_characters_and_an_end() {
        let mut editor = Editor::of("a\u{1b}[31mb\rc\u{202e}d");
        assert_eq!(editor.text(), "ab\ncd");
        editor.insert(&"é".repeat(MAX_TEXT));
        assert!(editor.text().len() <= MAX_TEXT);
        editor.insert("x");
        assert!(editor.text().len() <= MAX_TEXT);
    }

    #[test]
    fn no_key_at_any_place_breaks_it() {
        let keys: [fn(&mut Editor); 12] = [
            Editor::left,
            Editor::right,
            Editor::word_left,
            Editor::word_right,
            Editor::home,
            Editor::end,
            Editor::backspace,
            Editor::delete,
            Editor::cut_word,
            Editor::cut_line,
            Editor::cut_rest,
            Editor::put_back,
        ];
        let mut editor = Editor::of("ab 世界\n\n  e\u{301} 🏳\u{fe0f}\u{200d}🌈 x");
        for round in 0..2_000_usize {
            let key = keys.get((round * 7 + round / 5) % keys.len()).unwrap();
            key(&mut editor);
            let _ = editor.layout(1 + round % 9);
            if editor.text().len() < 8 {
                editor.insert("é世 ");
            }
        }
    }
}
