//! A conversation as far as it is loaded, and which part of it is seen. Only what is near is wrapped and counted, so that its length
//! does not matter.

mod choosing;

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use sealpost_core::Timestamp;

use super::attachment::Attachment;
use super::text;
use crate::store::{Mark, SendState};

/// How many messages are read from the store at once.
pub const PAGE: u32 = 200;
/// When fewer than so many lie beyond the window in the direction of scrolling, more are loaded.
const NEAR: usize = 60;
/// How many are kept loaded, and how many bytes of them: what scrolling leaves behind is let go.
const MAX_ITEMS: usize = 4_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// So many lines of one message are shown; the others only where somebody asks for them.
pub const MAX_ROWS: usize = 120;

/// A message, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its place.
    pub mark: Mark,
    /// Its name.
    pub id: String,
    /// How far it has got; `None` for theirs.
    pub state: Option<SendState>,
    /// What keeps it, in words, and what to do.
    pub problem: Option<(String, String)>,
    /// When, by our clock.
    pub at: Timestamp,
    /// What it says, clean.
    pub text: String,
    /// Whether it came from a file.
    pub imported: bool,
    /// What it answers, on one line.
    pub quote: Option<String>,
    /// How often it was edited.
    pub edits: u32,
    /// When it disappears, if that time runs.
    pub expires: Option<Timestamp>,
    /// The file that it offers.
    pub file: Option<Attachment>,
}

/// A line of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A new day.
    Day(String),
    /// From here on, it is new.
    New,
    /// A line of a message.
    Text {
        /// At its first line: when, and how far it has got or `None` for theirs.
        head: Option<(String, Option<SendState>)>,
        /// Whose.
        mine: bool,
        /// What it says.
        text: String,
        /// What kind of words these are.
        words: Words,
        /// Whether the message is the chosen one.
        chosen: bool,
    },
}

/// What words of a message are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// What it says.
    Text,
    /// What it answers.
    Quote,
    /// Ours, about it.
    Remark,
    /// Ours, about what can be done with it.
    Action,
    /// Ours, about what is wrong with it.
    Problem,
}

/// In which form rows are made.
#[derive(Debug, Clone)]
pub struct Form {
    /// Cells for the text of a message.
    pub room: usize,
    /// Rows that are seen at once.
    pub height: usize,
    /// In which days and hours.
    pub zone: TimeZone,
    /// Whether there are characters beyond ASCII.
    pub unicode: bool,
}

/// What is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// The end, whatever comes.
    End,
    /// This message is the lowest, and so many of its rows are below.
    At(Mark, usize),
}

/// A conversation.
#[derive(Debug, Clone)]
pub struct Transcript {
    items: VecDeque<Item>,
    bytes: usize,
    /// Nothing is before the first one.
    at_start: bool,
    /// Nothing is behind the last one.
    at_end: bool,
    /// A page is asked for.
    loading: bool,
    view: View,
    /// Where new messages began when it was opened.
    new_from: Option<Mark>,
    /// The message that a command is about.
    chosen: Option<Mark>,
}

/// What is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// What is before.
    Before(Mark),
    /// What is behind.
    After(Mark),
}

impl Default for Transcript {
    fn default() -> Transcript {
        Transcript {
            items: VecDeque::new(),
            bytes: 0,
            at_start: false,
            at_end: true,
            loading: true,
            view: View::End,
            new_from: None,
            chosen: None,
        }
    }
}

impl Transcript {
    /// Whether nothing was loaded yet.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.loading && self.items.is_empty()
    }

    /// What is loaded, oldest first.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = &Item> {
        self.items.iter()
    }

    /// Whether its end is seen.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.view == View::End
    }

    /// How many messages below are not seen, as far as they are loaded.
    #[must_use]
    pub fn below(&self) -> usize {
        match self.view {
            View::End => 0,
            View::At(mark, _) => self.items.len().saturating_sub(self.place(mark) + 1),
        }
    }

    /// The mark of the newest one of theirs.
    #[must_use]
    pub fn newest_of_theirs(&self) -> Option<Mark> {
        self.items
            .iter()
            .rev()
            .find(|item| item.state.is_none())
            .map(|item| item.mark)
    }

    /// The newest end, after something changed. `unread`: how many of theirs were not shown before.
    pub fn newest(&mut self, items: Vec<Item>, unread: u32) {
        let first_time = self.items.is_empty();
        self.loading = false;
        let complete = items.len() < PAGE as usize;
        let Some(first) = items.first().map(|item| item.mark) else {
            // Nothing, or no more.
            self.items.clear();
            self.bytes = 0;
            (self.at_start, self.at_end) = (true, true);
            return;
        };
        let connected = self.items.back().is_some_and(|last| last.mark >= first) || complete;
        match (connected && self.at_end, self.view) {
            // What was loaded and is now otherwise, or gone, is that.
            (true, _) => {
                while self.items.back().is_some_and(|last| last.mark >= first) {
                    self.items.pop_back();
                }
                if complete {
                    self.items.clear();
                    self.at_start = true;
                }
                self.items.extend(items);
                self.at_end = true;
            }
            (false, View::End) => {
                self.items = items.into();
                (self.at_start, self.at_end) = (complete, true);
            }
            // Somebody looks at what is older: it stays.
            (false, View::At(..)) => self.at_end = false,
        }
        if first_time && unread > 0 {
            let mut theirs = self.items.iter().rev().filter(|item| item.state.is_none());
            let first = theirs.nth(unread as usize - 1);
            self.new_from = first.or(self.items.front()).map(|item| item.mark);
        }
        self.count();
        self.trim(View::End == self.view);
    }

    /// An older page.
    pub fn older(&mut self, before: Mark, items: Vec<Item>) {
        self.loading = false;
        if self.items.front().is_none_or(|first| first.mark != before) {
            return;
        }
        self.at_start = items.len() < PAGE as usize;
        for item in items.into_iter().rev() {
            self.items.push_front(item);
        }
        self.count();
        self.trim(false);
    }

    /// A newer page.
    pub fn newer(&mut self, after: Mark, items: Vec<Item>) {
        self.loading = false;
        if self.items.back().is_none_or(|last| last.mark != after) {
            return;
        }
        self.at_end = items.len() < PAGE as usize;
        self.items.extend(items);
        self.count();
        self.trim(true);
    }

    /// A message of ours got further.
    pub fn progress(&mut self, id: &str, state: SendState, problem: Option<(String, String)>) {
        if let Some(item) = self.items.iter_mut().rev().find(|item| item.id == id)
            && item.state.is_some()
        {
            (item.state, item.problem) = (Some(state), problem);
        }
    }

    /// A file got further.
    pub fn file(&mut self, id: &str, file: &Attachment) {
        let offers = |item: &&mut Item| item.id == id && item.state.is_some() == file.ours;
        if let Some(item) = self.items.iter_mut().rev().find(offers) {
            item.file = Some(file.clone());
        }
    }

    fn count(&mut self) {
        self.bytes = self.items.iter().map(|item| item.text.len()).sum();
    }

    /// Lets go of what is too much, at the end that is farther from what is seen.
    fn trim(&mut self, oldest: bool) {
        while self.items.len() > MAX_ITEMS || self.bytes > MAX_BYTES && self.items.len() > 1 {
            let gone = if oldest {
                self.at_start = false;
                self.items.pop_front()
            } else {
                self.at_end = false;
                self.items.pop_back()
            };
            self.bytes -= gone.map_or(0, |item| item.text.len());
        }
    }

    /// What has been read to its end is not new any more.
    pub fn forget_new(&mut self) {
        self.new_from = None;
    }

    /// To the end. Says whether it has to be loaded.
    #[must_use]
    pub fn to_end(&mut self) -> bool {
        self.view = View::End;
        let lacks = !self.at_end;
        if lacks {
            *self = Transcript::default();
        }
        lacks
    }

    /// To a place, which is loaded.
    pub fn to_mark(&mut self, mark: Mark) {
        self.view = View::At(mark, 0);
    }

    /// What somebody found, with what is around it.
    #[must_use]
    pub fn around(items: Vec<Item>, mark: Mark) -> Transcript {
        let mut this = Transcript {
            items: items.into(),
            at_end: false,
            loading: false,
            view: View::At(mark, 0),
            // It stands out among those around it.
            chosen: Some(mark),
            ..Transcript::default()
        };
        this.count();
        this
    }

    fn place(&self, mark: Mark) -> usize {
        let at = self.items.partition_point(|item| item.mark < mark);
        at.min(self.items.len().saturating_sub(1))
    }

    /// The lowest message that is seen, and how many of its rows are below.
    fn lowest(&self, form: &Form) -> (usize, usize) {
        match self.view {
            View::End => (self.items.len().saturating_sub(1), 0),
            View::At(mark, below) => {
                let at = self.place(mark);
                // After a resize it may have fewer.
                (at, below.min(self.rows(at, form).len().saturating_sub(1)))
            }
        }
    }

    /// The rows of a message, with what is between it and the one before.
    fn rows(&self, at: usize, form: &Form) -> Vec<Row> {
        let Some(item) = self.items.get(at) else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        let day = day(item.at, &form.zone);
        let before = at.checked_sub(1).and_then(|at| self.items.get(at));
        if before.is_none_or(|before| self::day(before.at, &form.zone) != day) {
            rows.push(Row::Day(day));
        }
        if self.new_from == Some(item.mark) {
            rows.push(Row::New);
        }
        let mine = item.state.is_some();
        let chosen = self.chosen == Some(item.mark);
        let mut head = Some((time(item.at, &form.zone), item.state));
        let mut push = |text: String, words: Words| {
            rows.push(Row::Text {
                head: head.take(),
                mine,
                text,
                words,
                chosen,
            });
        };
        if let Some(quote) = &item.quote {
            push(text::cut(&format!("> {quote}"), form.room), Words::Quote);
        }
        let lines = text::wrap(item.text.trim_end_matches('\n'), form.room);
        let all = lines.len();
        for text in lines.into_iter().take(MAX_ROWS) {
            push(text, Words::Text);
        }
        let mut remarks = Vec::new();
        if all > MAX_ROWS {
            remarks.push((
                format!("({} more lines: /view)", all - MAX_ROWS),
                Words::Remark,
            ));
        }
        if let Some(file) = &item.file {
            remarks.push(file.how(form.unicode));
        }
        if item.edits > 0 {
            remarks.push(("(edited)".to_owned(), Words::Remark));
        }
        if let Some(expires) = item.expires {
            let (day, time) = (self::day(expires, &form.zone), time(expires, &form.zone));
            remarks.push((format!("(disappears {day} {time})"), Words::Remark));
        }
        if item.imported {
            remarks.push(("(imported from a file)".to_owned(), Words::Remark));
        }
        if let Some((problem, hint)) = &item.problem {
            remarks.push((problem.clone(), Words::Problem));
            remarks.push((hint.clone(), Words::Problem));
        }
        for (remark, words) in remarks {
            for text in text::wrap(&remark, form.room) {
                push(text, words);
            }
        }
        rows
    }

    /// What is seen, from above.
    #[must_use]
    pub fn seen(&self, form: &Form) -> Vec<Row> {
        if self.items.is_empty() {
            return Vec::new();
        }
        let (mut at, below) = self.lowest(form);
        let mut seen: VecDeque<Row> = VecDeque::new();
        let mut rows = self.rows(at, form);
        rows.truncate(rows.len() - below.min(rows.len()));
        loop {
            for row in rows.into_iter().rev() {
                seen.push_front(row);
            }
            if seen.len() >= form.height || at == 0 {
                break;
            }
            at -= 1;
            rows = self.rows(at, form);
        }
        while seen.len() > form.height {
            seen.pop_front();
        }
        seen.into()
    }

    /// So many rows back; what is to be loaded for that.
    pub fn back(&mut self, by: usize, form: &Form) -> Option<Lack> {
        if self.items.is_empty() {
            return None;
        }
        let (mut at, mut below) = self.lowest(form);
        below += by;
        loop {
            let rows = self.rows(at, form).len();
            if below < rows {
                break;
            }
            if at == 0 {
                below = rows.saturating_sub(1);
                break;
            }
            below -= rows;
            at -= 1;
        }
        self.set_view(at, below);
        // Not beyond the first row.
        if self.seen(form).len() < form.height {
            return self.to_first(form);
        }
        self.lack_before(at)
    }

    /// So many rows on; what is to be loaded for that.
    pub fn on(&mut self, by: usize, form: &Form) -> Option<Lack> {
        if self.items.is_empty() {
            return None;
        }
        let (mut at, mut below) = self.lowest(form);
        let mut by = by;
        while by > below {
            by -= below + 1;
            at += 1;
            if at >= self.items.len() {
                if self.at_end {
                    self.view = View::End;
                    return None;
                }
                self.set_view(self.items.len().saturating_sub(1), 0);
                return self.lack_after(self.items.len());
            }
            below = self.rows(at, form).len().saturating_sub(1);
        }
        self.set_view(at, below - by);
        if at + 1 == self.items.len() && below == by && self.at_end {
            self.view = View::End;
        }
        self.lack_after(at)
    }

    /// To the first row that is loaded.
    pub fn to_first(&mut self, form: &Form) -> Option<Lack> {
        let mut height = 0;
        for at in 0..self.items.len() {
            let rows = self.rows(at, form).len();
            if height + rows >= form.height {
                self.set_view(at, height + rows - form.height);
                return self.lack_before(0);
            }
            height += rows;
        }
        self.view = View::End;
        self.lack_before(0)
    }

    fn set_view(&mut self, at: usize, below: usize) {
        if let Some(item) = self.items.get(at) {
            self.view = View::At(item.mark, below);
        }
    }

    fn lack_before(&mut self, at: usize) -> Option<Lack> {
        if self.at_start || self.loading || at > NEAR {
            return None;
        }
        let first = self.items.front()?.mark;
        self.loading = true;
        Some(Lack::Before(first))
    }

    fn lack_after(&mut self, at: usize) -> Option<Lack> {
        if self.at_end || self.loading || at + NEAR < self.items.len() {
            return None;
        }
        let last = self.items.back()?.mark;
        self.loading = true;
        Some(Lack::After(last))
    }

    /// A window that is higher than what is loaded: what is to be loaded for that.
    pub fn lack_for_window(&mut self, form: &Form) -> Option<Lack> {
        if self.seen(form).len() < form.height {
            return self.lack_before(0);
        }
        None
    }
}

fn zoned(at: Timestamp, zone: &TimeZone) -> Option<jiff::Zoned> {
    let millis = i64::try_from(at.millis()).ok()?;
    let at = jiff::Timestamp::from_millisecond(millis).ok()?;
    Some(at.to_zoned(zone.clone()))
}

/// `Wed 2026-11-25`.
#[must_use]
pub fn day(at: Timestamp, zone: &TimeZone) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let Some(at) = zoned(at, zone) else {
        return String::new();
    };
    let weekday = usize::try_from(at.weekday().to_monday_zero_offset()).unwrap_or(0);
    let name = DAYS.get(weekday).copied().unwrap_or_default();
    format!("{name} {:04}-{:02}-{:02}", at.year(), at.month(), at.day())
}

/// `14:05`.
#[must_use]
pub fn time(at: Timestamp, zone: &TimeZone) -> String {
    zoned(at, zone).map_or_else(String::new, |at| {
        format!("{:02}:{:02}", at.hour(), at.minute())
    })
}

#[cfg(test)]
mod tests;
