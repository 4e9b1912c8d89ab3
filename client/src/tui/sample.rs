//! States for tests.

use jiff::tz::TimeZone;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use sealpost_core::{Timestamp, UserId};

use super::attachment::Attachment;
use super::keys::{Key, Keys};
use super::state::{Connection, Effect, Me, Msg, Person, Preferences, State, Trust};
use super::theme::{Ability, ThemeName};
use super::transcript::Item;
use crate::store::{FileState, Mark, SendState};

/// 2023-11-14 22:13:20 UTC.
pub(super) const NOON: i64 = 1_700_000_000_000;

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis.try_into().unwrap()).unwrap()
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn person(name: &str, trust: Trust, unread: u32, last: i64) -> Person {
    Person {
        trust,
        was_verified: trust == Trust::Verified,
        fingerprint: (trust != Trust::New)
            .then(|| "SHA256:LtgQVnQIdFfnSowoIA/fen1rHK0Pz7vB4GmM3yM8aQE".to_owned()),
        offered: (trust == Trust::Changed)
            .then(|| "SHA256:QorkGxuhjpaHdfO0W8dnsU4fE8R1DlKkZ0n0cS9aHbc".to_owned()),
        unread,
        last: Some(at(NOON + last)),
        ..Person::new(user(name))
    }
}

/// A message of theirs, or of ours that has got so far.
pub(super) fn item(number: i64, state: Option<SendState>, text: &str) -> Item {
    let moment = NOON + number * 60_000;
    Item {
        mark: Mark {
            at: moment,
            kind: if state.is_some() { 2 } else { 1 },
            number,
        },
        id: number.to_string(),
        state,
        problem: None,
        at: at(moment),
        text: text.to_owned(),
        imported: false,
        quote: None,
        edits: 0,
        expires: None,
        file: None,
    }
}

/// A file of 200 kB.
pub(super) fn attachment(number: i64, ours: bool, state: FileState) -> Attachment {
    Attachment {
        number,
        ours,
        name: if ours { "tickets.pdf" } else { "plans.pdf" }.to_owned(),
        size: 200_000,
        done: 0,
        state,
        cause: None,
        asked: false,
        place: None,
    }
}

pub(super) fn state() -> State {
    let me = Me {
        user: user("alice"),
        realm: "local".to_owned(),
    };
    let preferences = Preferences {
        theme: ThemeName::Mono,
        notify_text: false,
        keys: Keys::default(),
    };
    let ability = Ability {
        colour: false,
        unicode: true,
    };
    let mut state = State::new(me, preferences, ability, TimeZone::UTC, at(NOON));
    state.update(Msg::Connection(
        Connection::Up,
        "mqtt://127.0.0.1:1883".to_owned(),
    ));
    state
}

/// With people, of whom one is talked to.
pub(super) fn talking(with: Trust) -> State {
    let mut state = state();
    state.update(Msg::People(vec![
        person("bob", with, 0, 0),
        person("carol", Trust::Verified, 3, -1_000),
        person("dave", Trust::Known, 0, -2_000),
    ]));
    state.notice = None;
    press(&mut state, "enter");
    state
}

pub(super) fn press(state: &mut State, name: &str) -> Vec<Effect> {
    let key = match name {
        "esc" => KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE),
        _ => event(Key::parse(name).unwrap_or_else(|| panic!("{name}"))),
    };
    state.update(Msg::Key(key))
}

fn event(key: Key) -> KeyEvent {
    let (code, modifiers) = key.parts();
    KeyEvent::new(code, modifiers)
}

/// Types and presses Enter.
pub(super) fn line(state: &mut State, text: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    for c in text.chars() {
        let key = KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        effects.extend(state.update(Msg::Key(key)));
    }
    effects.extend(press(state, "enter"));
    effects
}
