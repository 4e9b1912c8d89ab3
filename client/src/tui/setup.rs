//! The first run: asks for what is needed, and says what verifying means. No terminal and no files here.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use sealpost_core::{Invitation, UserId};
use sealpost_mqtt::BrokerUrl;
use zeroize::Zeroizing;

use super::dialog::edit;
use super::draw::{DialogPage, dialog_frame};
use super::editor::Editor;
use super::help::VERIFYING;
use super::theme::Theme;

/// A passphrase with fewer characters is quickly guessed once the file is stolen.
const ADVISED_LEN: usize = 12;

/// Which field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Broker,
    Invitation,
    Passphrase,
    Again,
}

const FIELDS: [Field; 5] = [
    Field::Name,
    Field::Broker,
    Field::Invitation,
    Field::Passphrase,
    Field::Again,
];

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The form.
    Form,
    /// Keys are being made.
    Making,
    /// They are made; what verifying means.
    Explaining,
}

/// What was given.
#[derive(Clone)]
pub struct Given {
    /// The name.
    pub user: String,
    /// The brokers, with commas.
    pub broker: String,
    /// An operator's invitation.
    pub invitation: Option<String>,
    /// `None`: the keys lie unencrypted.
    pub passphrase: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given")
            .field("user", &self.user)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Wish {
    /// Nothing yet.
    Nothing,
    /// Make keys.
    Make(Given),
    /// The chat.
    GoOn,
    /// The end.
    Quit,
}

/// The form and what became of it.
#[derive(Debug)]
pub struct Setup {
    name: Editor,
    broker: Editor,
    invitation: Editor,
    passphrase: Editor,
    again: Editor,
    at: usize,
    /// Whether it was said that an empty passphrase leaves the keys unencrypted.
    warned_empty: bool,
    /// Whether it was said that a short one is quickly guessed.
    warned_short: bool,
    problem: Option<String>,
    /// How far it is.
    pub step: Step,
    theme: Theme,
    /// Whether a command gives the passphrase: then it is not asked for.
    passphrase_given: bool,
}

impl Setup {
    /// With what is known already.
    #[must_use]
    pub fn new(user: &str, broker: &str, passphrase_given: bool, theme: Theme) -> Setup {
        Setup {
            name: Editor::of(user),
            broker: Editor::of(broker),
            invitation: Editor::default(),
            passphrase: Editor::secret(),
            again: Editor::secret(),
            at: 0,
            warned_empty: false,
            warned_short: false,
            problem: None,
            step: Step::Form,
            theme,
            passphrase_given,
        }
    }

    /// It did not work: back to the form.
    pub fn failed(&mut self, why: String) {
        self.step = Step::Form;
        self.problem = Some(why);
    }

    fn fields(&self) -> usize {
        if self.passphrase_given {
            3
        } else {
            FIELDS.len()
        }
    }

    fn field(&self) -> Field {
        FIELDS.get(self.at).copied().unwrap_or(Field::Name)
    }

    fn editor(&mut self) -> &mut Editor {
        match self.field() {
            Field::Name => &mut self.name,
            Field::Broker => &mut self.broker,
            Field::Invitation => &mut self.invitation,
            Field::Passphrase => &mut self.passphrase,
            Field::Again => &mut self.again,
        }
    }

    /// Pasted text.
    pub fn paste(&mut self, text: &str) {
        if self.step == Step::Form {
            self.editor().insert(text.trim());
        }
    }

    /// A key.
    pub fn key(&mut self, key: &KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'q')) {
            return Wish::Quit;
        }
        match self.step {
            Step::Making => Wish::Nothing,
            Step::Explaining => match key.code {
                KeyCode::Enter => Wish::GoOn,
                _ => Wish::Nothing,
            },
            Step::Form => self.form_key(key),
        }
    }

    fn form_key(&mut self, key: &KeyEvent) -> Wish {
        match key.code {
            KeyCode::Esc => return Wish::Quit,
            KeyCode::Tab | KeyCode::Down => self.at = (self.at + 1) % self.fields(),
            KeyCode::BackTab | KeyCode::Up => {
                self.at = (self.at + self.fields() - 1) % self.fields();
            }
            KeyCode::Enter => {
                if let Err(problem) = self.check(self.field()) {
                    self.problem = Some(problem);
                    return Wish::Nothing;
                }
                self.problem = None;
                if self.at + 1 < self.fields() {
                    self.at += 1;
                    return Wish::Nothing;
                }
                return self.finish();
            }
            _ => {
                if edit(self.editor(), key) {
                    self.problem = None;
                }
            }
        }
        Wish::Nothing
    }

    fn finish(&mut self) -> Wish {
        for at in 0..self.fields() {
            let field = FIELDS.get(at).copied().unwrap_or(Field::Name);
            if let Err(problem) = self.check(field) {
                self.at = at;
                self.problem = Some(problem);
                return Wish::Nothing;
            }
        }
        self.step = Step::Making;
        let text = |editor: &Editor| editor.text().trim().to_owned();
        let passphrase = self.passphrase.text();
        Wish::Make(Given {
            user: text(&self.name),
            broker: text(&self.broker),
            invitation: Some(text(&self.invitation)).filter(|text| !text.is_empty()),
            passphrase: (!passphrase.is_empty()).then(|| Zeroizing::new(passphrase.to_owned())),
        })
    }

    fn check(&mut self, field: Field) -> Result<(), String> {
        match field {
            Field::Name => match UserId::parse(self.name.text().trim()) {
                Ok(user) if user.is_reserved() => Err("That name is reserved. Choose another one.".to_owned()),
                Ok(_) => Ok(()),
                Err(_) => Err(
                    "A name has a-z, 0-9, _ and -, starts with a letter or digit, and is at most 64 long.".to_owned(),
                ),
            },
            Field::Broker => {
                for url in self.broker.text().split(',') {
                    url.trim().parse::<BrokerUrl>().map_err(|error| {
                        format!("{error}. An address looks like mqtts://chat.example or mqtt://127.0.0.1:1883.")
                    })?;
                }
                Ok(())
            }
            Field::Invitation => match self.invitation.text().trim() {
                "" => Ok(()),
                text => Invitation::parse(text)
                    .map(|_| ())
                    .map_err(|error| format!("That is no invitation: {error}. Leave it empty if you have none.")),
            },
            Field::Passphrase => {
                let length = self.passphrase.text().chars().count();
                if length == 0 && !self.warned_empty {
                    self.warned_empty = true;
                    return Err(
                        "Without a passphrase, whoever can read your disk is you. Enter once more if you want that.".to_owned(),
                    );
                }
                if (1..ADVISED_LEN).contains(&length) && !self.warned_short {
                    self.warned_short = true;
                    return Err(format!(
                        "Under {ADVISED_LEN} characters it is quickly guessed once the file is stolen; four or five random words are \
                         better. Enter once more to keep it."
                    ));
                }
                Ok(())
            }
            Field::Again if self.again.text() != self.passphrase.text() => {
                self.again = Editor::secret();
                Err("The two passphrases differ.".to_owned())
            }
            Field::Again => Ok(()),
        }
    }

    /// Draws it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let theme = &self.theme;
        let buffer = frame.buffer_mut();
        let title = match self.step {
            Step::Form => "Welcome to Sealpost",
            Step::Making => "Making your keys",
            Step::Explaining => "One thing before you write",
        };
        let area = dialog_frame(theme, buffer, title, 78, 24);
        let mut page = DialogPage::new(theme, buffer, area);
        match self.step {
            Step::Making => {
                page.words("An identity and an encryption key are being made. They never leave this machine.", theme.text);
            }
            Step::Explaining => {
                page.words(VERIFYING, theme.text);
                page.gap();
                page.words("Enter: to the chat", theme.attention);
            }
            Step::Form => {
                page.words("Messages that only you and the other side can read. This asks once for what it needs.", theme.text);
                page.gap();
                let mut cursor = None;
                let rows: [(Field, &Editor, &str, &str); 5] = [
                    (
                        Field::Name,
                        &self.name,
                        "Your name:        ",
                        "By which others find you: a-z, 0-9, _ and -.",
                    ),
                    (
                        Field::Broker,
                        &self.broker,
                        "Broker:           ",
                        "Whose operator told you: mqtts://HOST. The default is one on this machine.",
                    ),
                    (
                        Field::Invitation,
                        &self.invitation,
                        "Invitation:       ",
                        "Only where the operator gave you one, sealpost-invitation-…; otherwise empty.",
                    ),
                    (
                        Field::Passphrase,
                        &self.passphrase,
                        "Passphrase:       ",
                        "It encrypts your keys on this disk. Nobody can reset it: write it down.",
                    ),
                    (Field::Again, &self.again, "The same again:   ", ""),
                ];
                for (field, editor, label, about) in rows.into_iter().take(self.fields()) {
                    let place = page.field(editor, label);
                    if field == self.field() {
                        cursor = place;
                    }
                    if field == self.field() && !about.is_empty() {
                        page.words(&format!("                  {about}"), theme.dim);
                    }
                }
                page.gap();
                if let Some(problem) = &self.problem {
                    page.words(problem, theme.bad);
                } else {
                    page.words(
                        "Enter goes on; Tab and the arrows move; Esc ends",
                        theme.dim,
                    );
                }
                if let Some(cursor) = cursor {
                    frame.set_cursor_position(cursor);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{Ability, ThemeName};

    fn setup() -> Setup {
        let ability = Ability {
            colour: false,
            unicode: true,
        };
        Setup::new(
            "",
            "mqtt://127.0.0.1:1883",
            false,
            Theme::of(ThemeName::Mono, ability),
        )
    }

    fn typed(setup: &mut Setup, text: &str) -> Wish {
        setup.paste(text);
        setup.key(&KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE))
    }

    #[test]
    fn the_form_asks_for_each_thing_and_makes_keys_at_its_end() {
        let mut setup = setup();
        typed(&mut setup, "alice");
        typed(&mut setup, "");
        typed(&mut setup, "");
        typed(&mut setup, "correct horse battery");
        let Wish::Make(given) = typed(&mut setup, "correct horse battery") else {
            panic!("{setup:?}");
        };
        assert_eq!(
            (given.user.as_str(), given.broker.as_str()),
            ("alice", "mqtt://127.0.0.1:1883")
        );
        assert_eq!(given.passphrase.unwrap().as_str(), "correct horse battery");
        assert_eq!(setup.step, Step::Making);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is_typed() {
        let mut setup = setup();
        typed(&mut setup, "Alice Smith");
        assert!(setup.problem.is_some() && setup.field() == Field::Name);
        setup.name = Editor::default();
        typed(&mut setup, "alice");
        setup.broker = Editor::default();
        typed(&mut setup, "http://example");
        assert!(setup.problem.is_some() && setup.field() == Field::Broker);
        setup.broker = Editor::of("mqtts://example");
        typed(&mut setup, "");
        typed(&mut setup, "not one");
        assert!(setup.problem.is_some() && setup.field() == Field::Invitation);
        setup.invitation = Editor::default();
        typed(&mut setup, "");
        typed(&mut setup, "");
        assert!(setup.problem.as_deref().unwrap().contains("once more"));
        typed(&mut setup, "");
        assert!(matches!(
            typed(&mut setup, ""),
            Wish::Make(Given {
                passphrase: None,
                ..
            })
        ));
    }

    #[test]
    fn two_different_passphrases_are_not_taken() {
        let mut setup = setup();
        for text in ["alice", "", "", "correct horse battery"] {
            typed(&mut setup, text);
        }
        assert!(matches!(
            typed(&mut setup, "correct horse batterie"),
            Wish::Nothing
        ));
        assert!(matches!(
            typed(&mut setup, "correct horse battery"),
            Wish::Make(_)
        ));
    }
}
