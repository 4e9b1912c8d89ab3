//! What a message changes, and what is to be done about it.

mod command;
mod keys;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use sealpost_core::UserId;

use super::commands::{Line, Name, completions};
use super::dialog::{Dialog, Done, Finder, edit};
use super::help::help;
use super::keys::Action;
use super::state::{
    Change, Connection, Dealing, Effect, Level, Msg, Person, Said, State, Trust, Which,
};
use super::text::at_most;
use super::theme::{Theme, ThemeName};
use super::transcript::{Item, Lack, MAX_ROWS, Transcript, day, time};
use crate::store::{Edge, FileState, Notify};
use crate::terminal::clean_line;

/// How many sent texts the up key brings back.
const MAX_PAST: usize = 100;
/// How long something said stays in sight, in milliseconds. An alarm stays until the log was opened.
const NOTICE_MILLIS: u64 = 12_000;
/// Of how many files it is remembered what was said of them last.
const MAX_FILES: usize = 1_000;
/// How much of a message a notification has, in bytes.
const MAX_NOTIFIED: usize = 200;

impl State {
    /// Takes a message in.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        let mut effects = match msg {
            Msg::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
            Msg::Key(key) => self.key(&key),
            Msg::Paste(text) => self.paste(&text),
            Msg::Resize(columns, rows) => {
                self.size = (columns, rows);
                self.fill_window()
            }
            Msg::Focus(focused) => {
                self.focused = focused;
                Vec::new()
            }
            Msg::Wheel(rows) => self.scroll(isize::from(rows)),
            Msg::Click(column, row) => self.click(column, row),
            Msg::Tick(now) => {
                self.now = now;
                let over = |said: &Said| {
                    said.level != Level::Alarm
                        && now.millis().saturating_sub(said.at.millis()) > NOTICE_MILLIS
                };
                if self.notice.as_ref().is_some_and(over) {
                    self.notice = None;
                }
                Vec::new()
            }
            Msg::People(people) => self.people(people),
            Msg::Newest(with, items) => {
                let unread = self.person(&with).map_or(0, |person| person.unread);
                if let Some(transcript) = self.transcripts.get_mut(&with) {
                    transcript.newest(items, unread);
                }
                self.fill_window()
            }
            Msg::Page(with, edge, items) => {
                if let Some(transcript) = self.transcripts.get_mut(&with) {
                    match edge {
                        Edge::Before(mark) => transcript.older(mark, items),
                        Edge::After(mark) => transcript.newer(mark, items),
                        Edge::End => {}
                    }
                }
                self.fill_window()
            }
            Msg::Around(with, mark, items) => {
                self.transcripts
                    .insert(with, Transcript::around(items, mark));
                self.fill_window()
            }
            Msg::Progress(id, state, problem) => {
                for transcript in self.transcripts.values_mut() {
                    transcript.progress(&id, state, problem.clone());
                }
                Vec::new()
            }
            Msg::File(with, id, file) => {
                if let Some(transcript) = self.transcripts.get_mut(&with) {
                    transcript.file(&id, &file);
                }
                let how = (file.state, file.cause);
                // That it is here, or there, is seen in a conversation that is looked at.
                let seen = file.state == FileState::Arrived
                    && file.cause.is_none()
                    && self.open.as_ref() == Some(&with)
                    && self.transcript().is_some_and(Transcript::is_at_end);
                if self.files.insert(file.number, how) != Some(how)
                    && let Some(news) = file.news(with.as_str()).filter(|_| !seen)
                {
                    self.say(Level::Note, news);
                }
                while self.files.len() > MAX_FILES {
                    self.files.pop_first();
                }
                Vec::new()
            }
            Msg::Files(text) => {
                self.dialog = Some(Dialog::text("Files", text));
                Vec::new()
            }
            Msg::Paths(typed, paths) => {
                self.complete_path(&typed, paths);
                Vec::new()
            }
            Msg::Arrived(from, text) => self.arrived(&from, &text),
            Msg::Connection(connection, broker) => {
                if let Connection::Over { reason, hint } = &connection
                    && self.connection != connection
                {
                    self.say(Level::Problem, format!("{reason} {hint}"));
                }
                (self.connection, self.broker) = (connection, broker);
                Vec::new()
            }
            Msg::Said(level, text) => {
                self.say(level, text);
                Vec::new()
            }
            Msg::Failed(message, hint) => {
                match &mut self.dialog {
                    Some(Dialog::Add { problem, .. }) => {
                        *problem = Some(format!("{message}. {hint}"))
                    }
                    _ => self.say(Level::Problem, format!("{message}. {hint}")),
                }
                Vec::new()
            }
            Msg::Compare { with, number, code } => {
                self.dialog = Some(Dialog::Verify {
                    with,
                    number,
                    code,
                    field: super::editor::Editor::default(),
                    show_code: false,
                    problem: None,
                });
                Vec::new()
            }
            Msg::Compared(with, outcome) => {
                match (outcome, &mut self.dialog) {
                    (Ok(()), _) => {
                        self.dialog = None;
                        self.say(
                            Level::Note,
                            format!("{with} is verified: it is their keys that you write to."),
                        );
                    }
                    (Err(why), Some(Dialog::Verify { problem, .. })) => *problem = Some(why),
                    (Err((message, hint)), _) => {
                        self.say(Level::Problem, format!("{message}. {hint}"))
                    }
                }
                Vec::new()
            }
            Msg::Decided(with, outcome) => {
                match (outcome, &mut self.dialog) {
                    (Ok(()), _) => {
                        self.dialog = None;
                        let verify = self.preferences.keys.first(Action::Verify);
                        self.say(
                            Level::Note,
                            format!("The new identity of {with} is accepted, and not verified. To be sure: {verify}"),
                        );
                    }
                    (Err((message, hint)), Some(Dialog::Trust { problem, .. })) => {
                        *problem = Some(format!("{message}. {hint}"));
                    }
                    (Err((message, hint)), _) => {
                        self.say(Level::Problem, format!("{message}. {hint}"))
                    }
                }
                Vec::new()
            }
            Msg::Added(user, by_link) => {
                if matches!(self.dialog, Some(Dialog::Add { .. })) {
                    self.dialog = None;
                }
                if by_link {
                    self.say(Level::Note, format!("{user} is added and verified, as sure as the way by which the link came."));
                }
                self.open(user)
            }
            Msg::OwnLink { link, fingerprint } => {
                self.dialog = Some(Dialog::Link {
                    link,
                    fingerprint,
                    show_code: false,
                });
                Vec::new()
            }
            Msg::Found(number, hits, done) => {
                if let Some(Dialog::Search(finder)) = &mut self.dialog
                    && number == self.search
                {
                    finder.hits.extend(hits);
                    finder.running = !done;
                }
                Vec::new()
            }
        };
        effects.extend(self.seen());
        effects
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_quitting(&self) -> bool {
        self.quitting
    }

    /// What of theirs is before the eyes counts as shown.
    fn seen(&mut self) -> Option<Effect> {
        if !self.focused || self.dialog.is_some() || self.areas().conversation.height == 0 {
            return None;
        }
        let open = self.open.clone()?;
        let transcript = self.transcripts.get(&open)?;
        let newest = transcript
            .newest_of_theirs()
            .filter(|_| transcript.is_at_end())?;
        let person = self.people.iter_mut().find(|person| person.user == open)?;
        if person.unread == 0 {
            return None;
        }
        person.unread = 0;
        Some(Effect::Shown(open, newest))
    }

    fn people(&mut self, people: Vec<Person>) -> Vec<Effect> {
        // Whom somebody has opened and not written to yet stays.
        let strangers: Vec<Person> = self
            .people
            .iter()
            .filter(|person| {
                (self.open.as_ref() == Some(&person.user)
                    || self
                        .drafts
                        .get(&person.user)
                        .is_some_and(|draft| !draft.is_empty()))
                    && people.iter().all(|known| known.user != person.user)
            })
            .map(|person| Person::new(person.user.clone()))
            .collect();
        let mut effects = Vec::new();
        for person in &people {
            let before = self.person(&person.user).map(|before| before.trust);
            if person.trust == Trust::Asks && before != Some(Trust::Asks) {
                self.say(
                    Level::Note,
                    format!(
                        "{} is new and asks to be let in. Open the conversation to decide.",
                        person.user
                    ),
                );
                // Who has asked before the start was told of then.
                if self.people_known {
                    effects.push(Effect::Notify(
                        person.user.to_string(),
                        "is new and asks to be let in".to_owned(),
                    ));
                }
            }
            if person.trust.is_in_doubt() && before.is_none_or(|before| !before.is_in_doubt()) {
                let what = match person.trust {
                    Trust::Suspended => {
                        "three messages did not decrypt; nothing of theirs is opened"
                    }
                    _ => "their identity has CHANGED",
                };
                self.say(
                    Level::Alarm,
                    format!("{}: {what}. Open the conversation to decide.", person.user),
                );
            }
        }
        self.people = people;
        self.people.extend(strangers);
        self.sort();
        self.people_known = true;
        // What a dialog asks about may have been settled elsewhere, or become another question.
        if let Some(Dialog::Trust { with, offered, .. }) = &self.dialog {
            let now = self.person(with);
            if now.is_none_or(|person| !person.trust.is_in_doubt() || person.offered != *offered) {
                self.dialog = None;
            }
        }
        if let Some(Dialog::Request { with, .. }) = &self.dialog
            && self
                .person(with)
                .is_none_or(|person| person.trust != Trust::Asks)
        {
            self.dialog = None;
        }
        effects
    }

    fn arrived(&mut self, from: &UserId, text: &str) -> Vec<Effect> {
        if self.person(from).is_some_and(|person| person.muted) {
            return Vec::new();
        }
        let before_eyes = self.focused
            && self.open.as_ref() == Some(from)
            && self.transcript().is_some_and(Transcript::is_at_end);
        if before_eyes {
            return Vec::new();
        }
        let wanted = self.person(from).and_then(|person| person.notify);
        let whole = wanted.map_or(self.preferences.notify_text, |wanted| {
            wanted == Notify::Full
        });
        let words = if whole {
            at_most(&clean_line(text), MAX_NOTIFIED).to_owned()
        } else {
            "a new message".to_owned()
        };
        vec![Effect::Notify(from.to_string(), words)]
    }

    fn paste(&mut self, text: &str) -> Vec<Effect> {
        if let Some(dialog) = &mut self.dialog {
            dialog.paste(text);
        } else if self.is_blocked() && !text.starts_with('/') {
            self.say_blocked();
        } else {
            self.input_mut().insert(text);
        }
        Vec::new()
    }

    fn scroll(&mut self, rows: isize) -> Vec<Effect> {
        if let Some(Dialog::Text(reader)) = &mut self.dialog {
            reader.from = reader.from.saturating_add_signed(rows);
            return Vec::new();
        }
        let form = self.form();
        let by = rows.unsigned_abs();
        let lack = self.transcript_mut().and_then(|transcript| match rows < 0 {
            true => transcript.back(by, &form),
            false => transcript.on(by, &form),
        });
        self.load(lack)
    }

    fn load(&self, lack: Option<Lack>) -> Vec<Effect> {
        let (Some(user), Some(lack)) = (&self.open, lack) else {
            return Vec::new();
        };
        let edge = match lack {
            Lack::Before(mark) => Edge::Before(mark),
            Lack::After(mark) => Edge::After(mark),
        };
        vec![Effect::Load(user.clone(), edge)]
    }

    fn fill_window(&mut self) -> Vec<Effect> {
        let form = self.form();
        let lack = self
            .transcript_mut()
            .and_then(|transcript| transcript.lack_for_window(&form));
        self.load(lack)
    }

    fn click(&mut self, column: u16, row: u16) -> Vec<Effect> {
        let list = self.areas().people;
        if self.dialog.is_some() || !list.contains((column, row).into()) {
            return Vec::new();
        }
        let first = super::draw::first_person(self, usize::from(list.height));
        let person = self.people.get(first + usize::from(row - list.y));
        match person.map(|person| person.user.clone()) {
            Some(user) => self.open(user),
            None => Vec::new(),
        }
    }

    fn enter(&mut self) -> Vec<Effect> {
        let line = Line::parse(self.input().text());
        if self.is_blocked() && matches!(line, Line::Empty | Line::Message(_)) {
            let trust = self.partner().map(|person| person.trust);
            return match trust {
                Some(Trust::Asks) => self.ask_about_request(),
                Some(trust) if trust.is_in_doubt() => self.command(Name::Trust, ""),
                _ => {
                    self.say_blocked();
                    Vec::new()
                }
            };
        }
        let text = match line {
            // On a narrow terminal without a conversation, the first of the list.
            Line::Empty if self.open.is_none() => return self.step(0),
            Line::Empty => return Vec::new(),
            Line::Unknown(word) => {
                self.say(
                    Level::Problem,
                    format!(
                        "There is no /{word}. /help shows all; // begins a message with a slash."
                    ),
                );
                return Vec::new();
            }
            Line::Message(_) if self.open.is_none() => {
                let add = self.preferences.keys.first(Action::Add);
                self.say(
                    Level::Problem,
                    format!(
                        "To whom? Open a conversation first: /to NAME, or {add} to add somebody."
                    ),
                );
                return Vec::new();
            }
            Line::Command(name, rest) => {
                self.remember();
                return self.command(name, &rest);
            }
            Line::Message(text) => text,
        };
        let Some(user) = self.open.clone() else {
            return Vec::new();
        };
        self.remember();
        self.choose_none();
        let mut effects = vec![Effect::Send(user, text)];
        effects.extend(self.act(Action::Bottom));
        effects
    }

    /// Empties the input, and keeps what was in it for the up key.
    fn remember(&mut self) {
        let text = self.input_mut().take();
        self.past_at = None;
        if self.past.front() != Some(&text) {
            self.past.push_front(text);
            self.past.truncate(MAX_PAST);
        }
    }
}

#[cfg(test)]
mod tests;
