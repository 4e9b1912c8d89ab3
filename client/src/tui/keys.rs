//! Keys: what they do, what they are called, and how the configuration file changes them.

use std::collections::BTreeMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key can be bound to. Keys that move and edit in a line are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Shows keys and commands.
    Help,
    /// Sends what was typed.
    Send,
    /// Begins a new line in it.
    Newline,
    /// Completes a command or a name.
    Complete,
    /// The next person of the list.
    NextPerson,
    /// The one before.
    PreviousPerson,
    /// The next person with unread messages.
    NextUnread,
    /// Shows or hides the list.
    People,
    /// Adds somebody.
    Add,
    /// Verifies whom one talks to.
    Verify,
    /// Shows one's own link.
    Invite,
    /// Looks for words.
    Search,
    /// A page back in the conversation.
    PageUp,
    /// A page on.
    PageDown,
    /// To its beginning, as far as it is loaded.
    Top,
    /// To its end.
    Bottom,
    /// Chooses the message above, for the commands about one.
    ChooseAbove,
    /// Chooses the message below.
    ChooseBelow,
    /// Answers the chosen message.
    Reply,
    /// Edits the chosen message.
    Edit,
    /// What was said beside the messages.
    Log,
    /// Draws everything again.
    Redraw,
    /// Goes to the shell.
    Suspend,
    /// Ends the program.
    Quit,
}

/// An action, its name in the configuration file, its keys by default, and what it does in a few words.
pub const ACTIONS: [(Action, &str, &[&str], &str); 24] = [
    (Action::Send, "send", &["enter"], "send"),
    (
        Action::Newline,
        "newline",
        &["alt-enter", "shift-enter", "ctrl-j"],
        "a new line",
    ),
    (
        Action::Complete,
        "complete",
        &["tab"],
        "complete a /command or a name",
    ),
    (
        Action::NextPerson,
        "next_person",
        &["alt-down", "ctrl-n"],
        "the next conversation",
    ),
    (
        Action::PreviousPerson,
        "previous_person",
        &["alt-up", "ctrl-p"],
        "the one before",
    ),
    (
        Action::NextUnread,
        "next_unread",
        &["alt-a", "ctrl-g"],
        "the next with something new",
    ),
    (
        Action::PageUp,
        "page_up",
        &["pageup"],
        "back in the conversation",
    ),
    (Action::PageDown, "page_down", &["pagedown"], "on in it"),
    (Action::Top, "top", &["ctrl-home"], "to its beginning"),
    (Action::Bottom, "bottom", &["ctrl-end"], "to its end"),
    (
        Action::ChooseAbove,
        "choose_above",
        &["ctrl-up", "alt-k"],
        "choose a message; then Up and Down",
    ),
    (
        Action::ChooseBelow,
        "choose_below",
        &["ctrl-down", "alt-j"],
        "the one below; Esc: none",
    ),
    (
        Action::Reply,
        "reply",
        &["alt-r"],
        "answer the chosen, or their last",
    ),
    (
        Action::Edit,
        "edit",
        &["alt-e"],
        "edit the chosen, or your last",
    ),
    (Action::Search, "search", &["ctrl-f"], "search"),
    (Action::Help, "help", &["f1"], "this help"),
    (
        Action::People,
        "people",
        &["f2"],
        "show or hide the list of people",
    ),
    (Action::Add, "add", &["f3"], "add somebody by link or name"),
    (Action::Verify, "verify", &["f4"], "verify whom you talk to"),
    (
        Action::Invite,
        "invite",
        &["f5"],
        "your own link and its QR code",
    ),
    (
        Action::Log,
        "log",
        &["f6"],
        "what was said beside the messages",
    ),
    (
        Action::Redraw,
        "redraw",
        &["ctrl-l"],
        "draw everything again",
    ),
    (
        Action::Suspend,
        "suspend",
        &["ctrl-z"],
        "to the shell; fg comes back",
    ),
    (Action::Quit, "quit", &["ctrl-q"], "end"),
];

/// The names of all actions.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ACTIONS.iter().map(|(_, name, ..)| *name).collect()
}

/// A key with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

impl Key {
    /// As a terminal reports it.
    #[must_use]
    pub fn of(event: &KeyEvent) -> Key {
        let mut key = Key {
            code: event.code,
            modifiers: event.modifiers
                & (KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT),
        };
        // Shift is in the letter already, and in the tab that goes back.
        if matches!(key.code, KeyCode::Char(_) | KeyCode::BackTab) {
            key.modifiers -= KeyModifiers::SHIFT;
        }
        if let KeyCode::Char(c) = key.code
            && key.modifiers.contains(KeyModifiers::CONTROL)
        {
            key.code = KeyCode::Char(c.to_ascii_lowercase());
        }
        key
    }

    /// Reads `ctrl-x`, `alt-up`, `f1`, `pageup`, `alt-enter`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Key> {
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text.trim();
        // The key may be a hyphen itself.
        while let Some((word, after)) = rest.split_once('-').filter(|(_, after)| !after.is_empty())
        {
            modifiers |= match word.to_ascii_lowercase().as_str() {
                "ctrl" | "c" => KeyModifiers::CONTROL,
                "alt" | "meta" | "m" => KeyModifiers::ALT,
                "shift" | "s" => KeyModifiers::SHIFT,
                _ => return None,
            };
            rest = after;
        }
        let code = match rest.to_ascii_lowercase().as_str() {
            "enter" => KeyCode::Enter,
            "tab" => KeyCode::Tab,
            "esc" => KeyCode::Esc,
            "space" => KeyCode::Char(' '),
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "pageup" => KeyCode::PageUp,
            "pagedown" => KeyCode::PageDown,
            "insert" => KeyCode::Insert,
            "delete" => KeyCode::Delete,
            "backspace" => KeyCode::Backspace,
            name => match name
                .strip_prefix('f')
                .and_then(|number| number.parse::<u8>().ok())
            {
                Some(number @ 1..=24) => KeyCode::F(number),
                Some(_) => return None,
                None => {
                    let mut characters = rest.chars();
                    let character = characters.next().filter(|c| !c.is_control())?;
                    if characters.next().is_some() {
                        return None;
                    }
                    // A letter alone would never reach the text.
                    if !modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
                        return None;
                    }
                    KeyCode::Char(character.to_ascii_lowercase())
                }
            },
        };
        Some(Key { code, modifiers })
    }

    /// As a terminal would report it.
    #[cfg(test)]
    pub(super) fn parts(self) -> (KeyCode, KeyModifiers) {
        (self.code, self.modifiers)
    }

    /// As [`Key::parse`] reads it.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = String::new();
        for (modifier, word) in [
            (KeyModifiers::CONTROL, "ctrl-"),
            (KeyModifiers::ALT, "alt-"),
            (KeyModifiers::SHIFT, "shift-"),
        ] {
            if self.modifiers.contains(modifier) {
                name.push_str(word);
            }
        }
        match self.code {
            KeyCode::Char(' ') => name.push_str("space"),
            KeyCode::Char(c) => name.push(c),
            KeyCode::F(number) => name.push_str(&format!("f{number}")),
            other => name.push_str(&format!("{other:?}").to_ascii_lowercase()),
        }
        name
    }

    /// For people: `Ctrl-N`, `F1`, `PageUp`.
    #[must_use]
    pub fn shown(&self) -> String {
        let name = match self.code {
            KeyCode::PageUp => "PageUp".to_owned(),
            KeyCode::PageDown => "PageDown".to_owned(),
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(c) => c.to_uppercase().to_string(),
            KeyCode::F(number) => format!("F{number}"),
            other => format!("{other:?}"),
        };
        let modifiers = [
            (KeyModifiers::CONTROL, "Ctrl-"),
            (KeyModifiers::ALT, "Alt-"),
            (KeyModifiers::SHIFT, "Shift-"),
        ];
        let held = modifiers
            .into_iter()
            .filter(|(modifier, _)| self.modifiers.contains(*modifier));
        held.map(|(_, word)| word).chain([name.as_str()]).collect()
    }
}

/// Which key does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<(Key, Action)>);

/// Why keys cannot be bound like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// There is no such action.
    #[error("there is nothing called {0:?} to bind a key to")]
    Action(String),
    /// There is no such key.
    #[error("{key:?}, for {action}, is no key, or one that is needed for typing")]
    Key {
        /// What it was to do.
        action: String,
        /// What was given.
        key: String,
    },
}

impl Default for Keys {
    fn default() -> Keys {
        let mut keys = Vec::new();
        for (action, _, defaults, _) in ACTIONS {
            keys.extend(
                defaults
                    .iter()
                    .filter_map(|name| Some((Key::parse(name)?, action))),
            );
        }
        Keys(keys)
    }
}

impl Keys {
    /// The defaults, changed by the file: the keys of an action that it names replace all of its default ones, and are taken from others.
    ///
    /// # Errors
    /// When it names an action or a key that there is not.
    pub fn with(changes: &BTreeMap<String, Vec<String>>) -> Result<Keys, KeysError> {
        let mut keys = Keys::default();
        for (name, wanted) in changes {
            let action = ACTIONS
                .iter()
                .find(|(_, known, ..)| known == name)
                .map(|(action, ..)| *action)
                .ok_or_else(|| KeysError::Action(name.clone()))?;
            keys.0.retain(|(_, bound)| *bound != action);
            for text in wanted {
                let key = Key::parse(text).ok_or_else(|| KeysError::Key {
                    action: name.clone(),
                    key: text.clone(),
                })?;
                keys.0.retain(|(bound, _)| *bound != key);
                keys.0.push((key, action));
            }
        }
        Ok(keys)
    }

    /// What a key does.
    #[must_use]
    pub fn action(&self, event: &KeyEvent) -> Option<Action> {
        let key = Key::of(event);
        self.0
            .iter()
            .find(|(bound, _)| *bound == key)
            .map(|(_, action)| *action)
    }

    /// The keys that do something, for people.
    #[must_use]
    pub fn of(&self, action: Action) -> Vec<String> {
        let bound = self.0.iter().filter(|(_, bound)| *bound == action);
        bound.map(|(key, _)| key.shown()).collect()
    }

    /// The first of them; empty when there is none.
    #[must_use]
    pub fn first(&self, action: Action) -> String {
        self.of(action).into_iter().next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_key_is_one_and_bound_once() {
        let named: usize = ACTIONS.iter().map(|(_, _, keys, _)| keys.len()).sum();
        let keys = Keys::default();
        assert_eq!(keys.0.len(), named);
        for (at, (key, _)) in keys.0.iter().enumerate() {
            assert!(
                keys.0.iter().skip(at + 1).all(|(other, _)| other != key),
                "{}",
                key.name()
            );
            assert_eq!(Key::parse(&key.name()), Some(*key));
            assert_eq!(
                Key::parse(&key.shown()),
                Some(*key),
                "as people would write it after the help"
            );
        }
    }

    #[test]
    fn the_file_rebinds_and_takes_a_key_from_others() {
        let changes = BTreeMap::from([(
            "quit".to_owned(),
            vec!["F1".to_owned(), "Ctrl-X".to_owned()],
        )]);
        let keys = Keys::with(&changes).unwrap();
        assert_eq!(keys.of(Action::Quit), ["F1", "Ctrl-X"]);
        assert!(keys.of(Action::Help).is_empty());
        let event = KeyEvent::new(KeyCode::Char('X'), KeyModifiers::CONTROL);
        assert_eq!(keys.action(&event), Some(Action::Quit));
    }

    #[test]
    fn a_slip_in_the_file_is_an_error() {
        let with = |action: &str, key: &str| {
            Keys::with(&BTreeMap::from([(action.to_owned(), vec![key.to_owned()])]))
        };
        assert!(matches!(with("quitt", "f1"), Err(KeysError::Action(_))));
        for key in ["q", "hyper-q", "f99", "", "ctrl-", "ctrl-xy"] {
            assert!(
                matches!(with("quit", key), Err(KeysError::Key { .. })),
                "{key}"
            );
        }
    }
}
