//! What is in front of everything.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::widgets::{Clear, Widget};

use super::super::dialog::{Dialog, Finder};
use super::super::editor::Editor;
use super::super::keys::Action;
use super::super::state::State;
use super::super::text::{cut, fit, width, wrap};
use super::super::theme::Theme;
use super::super::transcript::{day, time};
use super::{line, put};
use crate::qr;

/// The light modules around a QR code: four by the standard, and two are enough for every reader we know, where rows are scarce.
const QUIET: [usize; 3] = [4, 2, 1];

/// Draws a dialog, and gives the place of the cursor.
pub(super) fn draw(state: &State, dialog: &Dialog, buffer: &mut Buffer) -> Option<Position> {
    let theme = &state.theme;
    match dialog {
        Dialog::Text(reader) => {
            let area = frame(theme, buffer, &reader.title, u16::MAX, u16::MAX);
            let lines = wrap(&reader.text, usize::from(area.width).max(1));
            let page = usize::from(area.height.saturating_sub(1)).max(1);
            let from = reader.from.min(lines.len().saturating_sub(page));
            for (row, text) in (0..u16::try_from(page).unwrap_or(0)).zip(lines.iter().skip(from)) {
                line(buffer, area, row, 0, text, theme.text);
            }
            let end = (from + page).min(lines.len());
            let foot = format!(
                "{end} of {} lines. PageUp, PageDown; Esc closes",
                lines.len()
            );
            foot_line(theme, buffer, area, &foot);
            None
        }
        Dialog::Add { field, problem } => {
            let area = frame(theme, buffer, "Add somebody", 72, 12);
            let mut page = Page::new(theme, buffer, area);
            page.words(
                "Paste the link that they gave you: then they are verified from the start. Or type a name: then whose keys the broker \
                 gives out first are taken for theirs, and you can compare later.",
                theme.text,
            );
            page.gap();
            let cursor = page.field(field, "Link or name: ");
            if let Some(problem) = problem {
                page.words(problem, theme.bad);
            }
            foot_line(theme, buffer, area, "Enter adds; Esc closes");
            cursor
        }
        Dialog::Search(finder) => search(state, finder, buffer),
        Dialog::Verify {
            with,
            number,
            code,
            field,
            show_code,
            problem,
        } => {
            if *show_code {
                drawn(
                    theme,
                    buffer,
                    &format!("For {with} to scan"),
                    code,
                    "Tab: back; F8 copies its text",
                );
                return None;
            }
            let area = frame(theme, buffer, &format!("Verify {with}"), 76, 22);
            let mut page = Page::new(theme, buffer, area);
            page.words(
                &format!(
                    "1. Call {with}, or meet. Not here: who reads along here would answer for them.\n\
                     2. On their screen: /verify {}\n\
                     3. Both of you must see this number:",
                    state.me.user
                ),
                theme.text,
            );
            page.gap();
            // Three lines of twenty digits.
            let groups: Vec<&str> = number.split_whitespace().collect();
            for groups in groups.chunks(4) {
                page.words(&format!("    {}", groups.join("  ")), theme.attention);
            }
            page.gap();
            page.words(
                "All sixty digits the same? Type yes, or no. Or paste what they see: the digits, or the text of their QR code.",
                theme.text,
            );
            let cursor = page.field(field, "> ");
            if let Some((message, hint)) = problem {
                page.words(message, theme.bad);
                page.words(hint, theme.text);
            }
            foot_line(
                theme,
                buffer,
                area,
                "Enter answers; Tab shows a QR code for them to scan; Esc: later",
            );
            cursor
        }
        Dialog::Trust {
            with,
            known,
            offered,
            was_verified,
            field,
            problem,
        } => {
            let area = frame(theme, buffer, &format!("! Decide about {with}"), 76, 22);
            let mut page = Page::new(theme, buffer, area);
            match offered {
                Some(offered) => {
                    page.words(&format!("The identity of {with} has changed."), theme.bad);
                    page.words(
                        &format!(
                            "Either {with} has new keys, after a new device or a lost one, or somebody stands in for {with}: the \
                             broker's operator, or who has taken it over. Nothing is sent before you have decided.",
                        ),
                        theme.text,
                    );
                    page.gap();
                    let verified = if *was_verified { "  (you had verified it)" } else { "" };
                    page.words(&format!("Known:   {known}{verified}"), theme.text);
                    page.words(&format!("Offered: {offered}"), theme.attention);
                    page.gap();
                    page.words(
                        &format!(
                            "Ask {with} for their fingerprint, by phone or face to face, not here. They see it with F5.\n\
                             Did {with} give you the offered fingerprint? Type yes to accept it, no to leave it blocked."
                        ),
                        theme.text,
                    );
                }
                None => page.words(
                    &format!(
                        "Three messages signed by {with} did not decrypt. Who sends such messages may be probing your key, so nothing \
                         of {with} is opened any more.\n\nOpen messages of {with} again? Type yes or no."
                    ),
                    theme.text,
                ),
            }
            let cursor = page.field(field, "> ");
            if let Some(problem) = problem {
                page.words(problem, theme.bad);
            }
            foot_line(theme, buffer, area, "Enter answers; Esc leaves it blocked");
            cursor
        }
        Dialog::Request {
            with,
            fingerprint,
            asks,
            field,
            problem,
        } => {
            let area = frame(theme, buffer, &format!("{with} asks to be let in"), 76, 20);
            let mut page = Page::new(theme, buffer, area);
            page.words(
                &format!("{with} is new and has written to you:"),
                theme.text,
            );
            page.gap();
            page.words(asks, theme.attention);
            page.gap();
            page.words(&format!("Keys: {fingerprint}"), theme.dim);
            page.gap();
            page.words(
                &format!(
                    "{with} learns nothing of it so far. Let in, {with} learns that messages arrive; their keys are then known and not \
                     verified ({}). Blocked, what {with} sends is dropped.

Let {with} in? Type yes, or block, or no: not now.",
                    state.preferences.keys.first(Action::Verify)
                ),
                theme.text,
            );
            let cursor = page.field(field, "> ");
            if let Some(problem) = problem {
                page.words(problem, theme.bad);
            }
            foot_line(theme, buffer, area, "Enter answers; Esc: later");
            cursor
        }
        Dialog::Link {
            link,
            fingerprint,
            show_code,
        } => {
            if *show_code {
                drawn(
                    theme,
                    buffer,
                    "Your contact link",
                    link,
                    "Tab: back; c copies it; Esc closes",
                );
                return None;
            }
            let area = frame(theme, buffer, "Your contact link", 76, 18);
            let mut page = Page::new(theme, buffer, area);
            page.words(
                "Who gets this from you and adds it knows whose keys are yours, without asking the broker. It is no secret. Give it \
                 over a way on which nobody can put another one in its place.",
                theme.text,
            );
            page.gap();
            page.words(link, theme.attention);
            page.gap();
            page.words(&format!("Your fingerprint: {fingerprint}"), theme.text);
            foot_line(
                theme,
                buffer,
                area,
                "c copies it; Tab shows it as a QR code; Esc closes",
            );
            None
        }
    }
}

fn search(state: &State, finder: &Finder, buffer: &mut Buffer) -> Option<Position> {
    let theme = &state.theme;
    let title = match &finder.with {
        Some(user) => format!("Search with {user}"),
        None => "Search".to_owned(),
    };
    let area = frame(theme, buffer, &title, u16::MAX, u16::MAX);
    let mut page = Page::new(theme, buffer, area);
    let cursor = page.field(&finder.field, "Words: ");
    let top = page.row + 1;
    let rows = area.height.saturating_sub(top + 1);
    let first = (finder.chosen + 1).saturating_sub(usize::from(rows));
    for (row, (at, hit)) in (top..top + rows).zip(finder.hits.iter().enumerate().skip(first)) {
        let who = if hit.mine {
            state.me.user.as_str()
        } else {
            hit.with.as_str()
        };
        let with = match (&finder.with, hit.mine) {
            (None, true) => format!("{who} to {}", hit.with),
            _ => who.to_owned(),
        };
        let when = format!("{} {}", day(hit.at, &state.zone), time(hit.at, &state.zone));
        let text = format!("{when}  {with}: {}", hit.text.replace('\n', " "));
        let style = if at == finder.chosen {
            theme.chosen
        } else {
            theme.text
        };
        line(
            buffer,
            area,
            row,
            0,
            &fit(&text, usize::from(area.width)),
            style,
        );
    }
    let foot = match (
        finder.searched.is_empty(),
        finder.running,
        finder.hits.len(),
    ) {
        (true, ..) => "Enter searches; \"quoted words\" as they are; Esc closes".to_owned(),
        (_, true, count) => format!("{count} so far, searching"),
        (_, false, 0) => "Nothing found. Esc closes".to_owned(),
        (_, false, count) => {
            format!("{count} found, newest first. Up, Down; Enter goes there; Esc closes")
        }
    };
    foot_line(theme, buffer, area, &foot);
    cursor
}

/// A box in the middle with a title, emptied; gives what is in it.
pub(in super::super) fn frame(
    theme: &Theme,
    buffer: &mut Buffer,
    title: &str,
    columns: u16,
    rows: u16,
) -> Rect {
    let whole = buffer.area;
    let (columns, rows) = (columns.min(whole.width), rows.min(whole.height));
    let area = Rect {
        x: (whole.width - columns) / 2,
        y: (whole.height - rows) / 2,
        width: columns,
        height: rows,
    };
    Clear.render(area, buffer);
    // A border costs four columns and a row, which a small terminal has not.
    if columns < 24 || rows < 8 {
        line(
            buffer,
            area,
            0,
            0,
            &fit(title, usize::from(columns)),
            theme.bar,
        );
        let inner = rows.saturating_sub(1);
        return Rect {
            y: area.y + 1.min(rows),
            height: inner,
            ..area
        };
    }
    let (across, down) = (theme.sign("─", "-"), theme.sign("│", "|"));
    let corners = match theme.unicode {
        true => ["┌", "┐", "└", "┘"],
        false => ["+", "+", "+", "+"],
    };
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    for x in area.x..=right {
        put(buffer, x, area.y, across, theme.line);
        put(buffer, x, bottom, across, theme.line);
    }
    for y in area.y..=bottom {
        put(buffer, area.x, y, down, theme.line);
        put(buffer, right, y, down, theme.line);
    }
    for ((x, y), corner) in [
        (area.x, area.y),
        (right, area.y),
        (area.x, bottom),
        (right, bottom),
    ]
    .into_iter()
    .zip(corners)
    {
        put(buffer, x, y, corner, theme.line);
    }
    let title = cut(title, usize::from(columns.saturating_sub(6)));
    put(
        buffer,
        area.x + 2,
        area.y,
        &format!(" {title} "),
        theme.attention,
    );
    Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: columns - 4,
        height: rows - 2,
    }
}

fn foot_line(theme: &Theme, buffer: &mut Buffer, area: Rect, words: &str) {
    if area.height > 2 {
        line(
            buffer,
            area,
            area.height - 1,
            0,
            &fit(words, usize::from(area.width)),
            theme.dim,
        );
    }
}

/// A QR code on a screen of its own; where it does not fit, the words that say so.
fn drawn(theme: &Theme, buffer: &mut Buffer, title: &str, text: &str, foot: &str) {
    let whole = buffer.area;
    Clear.render(whole, buffer);
    line(
        buffer,
        whole,
        0,
        0,
        &fit(&format!(" {title}. {foot}"), usize::from(whole.width)),
        theme.bar,
    );
    let area = Rect {
        y: 1.min(whole.height),
        height: whole.height.saturating_sub(1),
        ..whole
    };
    let codes = QUIET
        .into_iter()
        .filter_map(|quiet| qr::blocks(text, quiet));
    let fits = |code: &Vec<String>| {
        code.len() <= usize::from(area.height)
            && code
                .first()
                .is_some_and(|row| width(row) <= usize::from(area.width))
    };
    let mut smallest = 0;
    for code in codes {
        smallest = code.len();
        if fits(&code) {
            let across = code.first().map_or(0, |row| width(row));
            let left = (usize::from(area.width) - across) / 2;
            for (row, text) in (0..).zip(&code) {
                line(
                    buffer,
                    area,
                    row,
                    u16::try_from(left).unwrap_or(0),
                    text,
                    theme.code,
                );
            }
            return;
        }
    }
    let words = format!(
        "The QR code needs {} rows and {} columns, and this terminal has {} and {}. Make it larger, or its letters smaller (Ctrl and \
         minus in most); the code appears by itself. Or do without: the text of it, and the digits, say the same.",
        smallest + 1,
        smallest * 2,
        whole.height,
        whole.width
    );
    for (row, text) in (1..).zip(wrap(&words, usize::from(area.width).max(1))) {
        line(buffer, area, row, 0, &text, theme.text);
    }
}

/// Lines one below the other.
pub(in super::super) struct Page<'a> {
    theme: &'a Theme,
    buffer: &'a mut Buffer,
    area: Rect,
    pub(in super::super) row: u16,
}

impl<'a> Page<'a> {
    pub(in super::super) fn new(theme: &'a Theme, buffer: &'a mut Buffer, area: Rect) -> Page<'a> {
        Page {
            theme,
            buffer,
            area,
            row: 0,
        }
    }

    pub(in super::super) fn gap(&mut self) {
        // A small terminal has no room for what is only pleasant.
        if self.area.height >= 16 {
            self.row += 1;
        }
    }

    pub(in super::super) fn words(&mut self, words: &str, style: Style) {
        for text in wrap(words, usize::from(self.area.width).max(1)) {
            line(self.buffer, self.area, self.row, 0, &text, style);
            self.row += 1;
        }
    }

    /// A field of one line, of which the part around the cursor is seen.
    pub(in super::super) fn field(&mut self, field: &Editor, label: &str) -> Option<Position> {
        let at = line(self.buffer, self.area, self.row, 0, label, self.theme.text);
        let room = usize::from(self.area.width.saturating_sub(at))
            .saturating_sub(1)
            .max(1);
        let masked = |text: &str| match field.is_secret() {
            true => "*".repeat(text.chars().count()),
            false => text.replace(['\n', '\t'], " "),
        };
        let (before, all) = (masked(field.before()), masked(field.text()));
        // From the left, characters are let go until the cursor fits.
        let mut skipped = 0;
        let mut seen = before.as_str();
        while width(seen) > room {
            let first = seen.chars().next().map_or(1, char::len_utf8);
            skipped += first;
            seen = seen.get(first..).unwrap_or_default();
        }
        let text = cut(all.get(skipped..).unwrap_or_default(), room + 1);
        let text = fit(&text, room + 1);
        line(
            self.buffer,
            self.area,
            self.row,
            at,
            &text,
            self.theme.text.patch(self.theme.mine),
        );
        let column = at + u16::try_from(width(seen)).unwrap_or(0);
        let place = Position::new(
            self.area.x + column.min(self.area.width.saturating_sub(1)),
            self.area.y + self.row,
        );
        let visible = self.row < self.area.height;
        self.row += 1;
        visible.then_some(place)
    }
}
