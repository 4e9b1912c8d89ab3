//! What is in front of everything: a text to read, a question, a form. One at a time.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use sealpost_core::UserId;

use super::editor::Editor;
use super::state::{Dealing, Effect, Hit};

/// A dialog.
#[derive(Debug, Clone)]
pub enum Dialog {
    /// A text to read.
    Text(Reader),
    /// Adding somebody.
    Add {
        /// A link or a name.
        field: Editor,
        /// What was wrong with it.
        problem: Option<String>,
    },
    /// Looking for words.
    Search(Finder),
    /// Comparing keys.
    Verify {
        /// With whom.
        with: UserId,
        /// The sixty digits.
        number: String,
        /// The text of our QR code.
        code: String,
        /// `yes`, `no`, or what they see.
        field: Editor,
        /// Whether the QR code is shown instead.
        show_code: bool,
        /// What was wrong.
        problem: Option<(String, String)>,
    },
    /// Deciding about a changed identity, or a suspension.
    Trust {
        /// Of whom.
        with: UserId,
        /// The fingerprint that is known.
        known: String,
        /// The one that is offered; `None` when it is about a suspension.
        offered: Option<String>,
        /// Whether the known one was verified.
        was_verified: bool,
        /// `yes` or `no`.
        field: Editor,
        /// What was wrong.
        problem: Option<String>,
    },
    /// Letting somebody in who is new.
    Request {
        /// Whom.
        with: UserId,
        /// The fingerprint of their keys.
        fingerprint: String,
        /// The beginning of what they wrote.
        asks: String,
        /// `yes` or `block`.
        field: Editor,
        /// What was wrong.
        problem: Option<String>,
    },
    /// Our own link.
    Link {
        /// The link.
        link: String,
        /// Our fingerprint.
        fingerprint: String,
        /// Whether the QR code is shown instead.
        show_code: bool,
    },
}

/// A text to read, a page at a time.
#[derive(Debug, Clone)]
pub struct Reader {
    /// What it is.
    pub title: String,
    /// The text.
    pub text: String,
    /// The first line that is seen.
    pub from: usize,
}

/// A search and what it found.
#[derive(Debug, Clone)]
pub struct Finder {
    /// The words.
    pub field: Editor,
    /// With whom; `None`: everybody.
    pub with: Option<UserId>,
    /// What was found, newest first.
    pub hits: Vec<Hit>,
    /// Which one is chosen.
    pub chosen: usize,
    /// Whether there may be more.
    pub running: bool,
    /// Words that were searched for; empty: not yet.
    pub searched: String,
}

/// What a key did in a dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It stays.
    Stay(Vec<Effect>),
    /// It is over.
    Close(Vec<Effect>),
    /// It is over, and a place is gone to.
    Goto(Hit),
}

/// The keys of a field of one line. Says whether it was one.
pub fn edit(field: &mut Editor, key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char('a') if control => field.home(),
        KeyCode::Char('e') if control => field.end(),
        KeyCode::Char('u') if control => field.cut_line(),
        KeyCode::Char('k') if control => field.cut_rest(),
        KeyCode::Char('w') if control => field.cut_word(),
        KeyCode::Char('y') if control => field.put_back(),
        KeyCode::Char('h') if control => field.backspace(),
        KeyCode::Char('d') if control => field.delete(),
        KeyCode::Char('b') if alt => field.word_left(),
        KeyCode::Char('f') if alt => field.word_right(),
        KeyCode::Left if control || alt => field.word_left(),
        KeyCode::Right if control || alt => field.word_right(),
        KeyCode::Backspace if control || alt => field.cut_word(),
        KeyCode::Char(c) if !control && !alt => field.insert(c.encode_utf8(&mut [0; 4])),
        KeyCode::Left => field.left(),
        KeyCode::Right => field.right(),
        KeyCode::Home => field.home(),
        KeyCode::End => field.end(),
        KeyCode::Backspace => field.backspace(),
        KeyCode::Delete => field.delete(),
        _ => return false,
    }
    true
}

impl Dialog {
    /// A text to read.
    #[must_use]
    pub fn text(title: &str, text: String) -> Dialog {
        Dialog::Text(Reader {
            title: title.to_owned(),
            text,
            from: 0,
        })
    }

    /// What can be typed into.
    fn field_mut(&mut self) -> Option<&mut Editor> {
        match self {
            Dialog::Add { field, .. }
            | Dialog::Verify { field, .. }
            | Dialog::Trust { field, .. }
            | Dialog::Request { field, .. }
            | Dialog::Search(Finder { field, .. }) => Some(field),
            Dialog::Text(_) | Dialog::Link { .. } => None,
        }
    }

    /// Pasted text.
    pub fn paste(&mut self, text: &str) {
        match self {
            Dialog::Add { problem, .. }
            | Dialog::Trust { problem, .. }
            | Dialog::Request { problem, .. } => *problem = None,
            Dialog::Verify { problem, .. } => *problem = None,
            _ => {}
        }
        if let Some(field) = self.field_mut() {
            field.insert(text.trim());
        }
    }

    /// A key, while `page` lines are seen at once.
    pub fn key(&mut self, key: &KeyEvent, page: usize) -> Done {
        if key.code == KeyCode::Esc {
            let search = matches!(self, Dialog::Search(_));
            return Done::Close(if search {
                vec![Effect::StopSearch]
            } else {
                Vec::new()
            });
        }
        match self {
            Dialog::Text(reader) => reader.key(key, page),
            Dialog::Add { field, problem } => match key.code {
                KeyCode::Enter => Self::add(field, problem),
                _ => {
                    if edit(field, key) {
                        *problem = None;
                    }
                    Done::Stay(Vec::new())
                }
            },
            Dialog::Search(finder) => finder.key(key),
            Dialog::Verify {
                with,
                field,
                show_code,
                problem,
                code,
                ..
            } => match key.code {
                KeyCode::Enter => {
                    // What is typed from now on is the next answer, whenever this one is judged.
                    let typed = field.take().trim().to_owned();
                    let effects = match typed.to_lowercase().as_str() {
                        "" => Vec::new(),
                        "y" | "yes" => vec![Effect::SayVerified(with.clone())],
                        _ => vec![Effect::CheckTheirs(with.clone(), typed)],
                    };
                    Done::Stay(effects)
                }
                KeyCode::Tab => {
                    *show_code = !*show_code;
                    Done::Stay(Vec::new())
                }
                KeyCode::F(8) => Done::Stay(vec![Effect::Copy(code.clone())]),
                _ => {
                    if edit(field, key) {
                        *problem = None;
                    }
                    Done::Stay(Vec::new())
                }
            },
            Dialog::Trust {
                with,
                offered,
                field,
                problem,
                ..
            } => match key.code {
                KeyCode::Enter => match field.text().trim().to_lowercase().as_str() {
                    "" => Done::Stay(Vec::new()),
                    "yes" => Done::Stay(vec![Effect::Decide(with.clone(), offered.clone())]),
                    "no" | "n" => Done::Close(Vec::new()),
                    _ => {
                        *problem = Some("Type yes, in full, or no.".to_owned());
                        Done::Stay(Vec::new())
                    }
                },
                _ => {
                    if edit(field, key) {
                        *problem = None;
                    }
                    Done::Stay(Vec::new())
                }
            },
            Dialog::Request {
                with,
                field,
                problem,
                ..
            } => match key.code {
                KeyCode::Enter => {
                    let deal = |how| Done::Close(vec![Effect::Deal(with.clone(), how)]);
                    match field.text().trim().to_lowercase().as_str() {
                        "" => Done::Stay(Vec::new()),
                        "y" | "yes" => deal(Dealing::Accept),
                        "block" => deal(Dealing::Block),
                        "n" | "no" => Done::Close(Vec::new()),
                        _ => {
                            *problem = Some("Type yes, block, or no: not now.".to_owned());
                            Done::Stay(Vec::new())
                        }
                    }
                }
                _ => {
                    if edit(field, key) {
                        *problem = None;
                    }
                    Done::Stay(Vec::new())
                }
            },
            Dialog::Link {
                link, show_code, ..
            } => match key.code {
                KeyCode::Tab => {
                    *show_code = !*show_code;
                    Done::Stay(Vec::new())
                }
                KeyCode::Char('c') => Done::Stay(vec![Effect::Copy(link.clone())]),
                KeyCode::Enter => Done::Close(Vec::new()),
                _ => Done::Stay(Vec::new()),
            },
        }
    }

    fn add(field: &Editor, problem: &mut Option<String>) -> Done {
        let typed = field.text().trim();
        if typed.is_empty() {
            return Done::Stay(Vec::new());
        }
        // A name has no colon, and a link has one; an operator's invitation is told apart where links are read.
        if !typed.contains(':') && !typed.starts_with("sealpost-invitation-") {
            return match UserId::parse(typed) {
                Ok(user) => Done::Close(vec![Effect::Open(user)]),
                Err(error) => {
                    *problem = Some(format!("that is neither a link nor a name: {error}"));
                    Done::Stay(Vec::new())
                }
            };
        }
        Done::Stay(vec![Effect::Add(typed.to_owned())])
    }
}

impl Reader {
    fn key(&mut self, key: &KeyEvent, page: usize) -> Done {
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.from = self.from.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.from += 1,
            KeyCode::PageUp | KeyCode::Char('b') => self.from = self.from.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.from += page,
            KeyCode::Home | KeyCode::Char('g') => self.from = 0,
            KeyCode::End | KeyCode::Char('G') => self.from = usize::MAX / 2,
            KeyCode::Enter | KeyCode::Char('q') => return Done::Close(Vec::new()),
            _ => {}
        }
        Done::Stay(Vec::new())
    }
}

impl Finder {
    /// With words to begin with.
    #[must_use]
    pub fn new(with: Option<UserId>, words: &str) -> Finder {
        Finder {
            field: Editor::of(words),
            with,
            hits: Vec::new(),
            chosen: 0,
            running: false,
            searched: String::new(),
        }
    }

    fn key(&mut self, key: &KeyEvent) -> Done {
        match key.code {
            KeyCode::Enter if self.field.text() == self.searched => {
                match self.hits.get(self.chosen) {
                    Some(hit) => return Done::Goto(hit.clone()),
                    None => return Done::Stay(Vec::new()),
                }
            }
            KeyCode::Enter => {
                self.searched = self.field.text().to_owned();
                self.hits.clear();
                self.chosen = 0;
                self.running = true;
                return Done::Stay(vec![Effect::Search(
                    0,
                    self.with.clone(),
                    self.searched.clone(),
                )]);
            }
            KeyCode::Up => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down => {
                self.chosen = (self.chosen + 1).min(self.hits.len().saturating_sub(1));
            }
            _ => {
                edit(&mut self.field, key);
            }
        }
        Done::Stay(Vec::new())
    }
}
