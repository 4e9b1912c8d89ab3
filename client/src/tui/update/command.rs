//! What commands do.

use super::super::attachment::Attachment;
use super::*;

impl State {
    /// Whom a command is about: who is named, or who is talked to.
    pub(super) fn about(&mut self, name: &str) -> Option<UserId> {
        if name.is_empty() {
            if self.open.is_none() {
                self.say(
                    Level::Problem,
                    "With whom? Name somebody, or open a conversation first.",
                );
            }
            return self.open.clone();
        }
        match UserId::parse(name) {
            Ok(user) if user == self.me.user => {
                self.say(Level::Problem, "That is you. Name somebody else.");
                None
            }
            Ok(user) => Some(user),
            Err(error) => {
                self.say(
                    Level::Problem,
                    format!("{} is no user name: {error}", clean_line(name)),
                );
                None
            }
        }
    }

    pub(super) fn deal(&mut self, name: &str, how: Dealing) -> Vec<Effect> {
        let about = self.about(name);
        about
            .map(|user| Effect::Deal(user, how))
            .into_iter()
            .collect()
    }

    /// The dialog about who asks to be let in.
    pub(super) fn ask_about_request(&mut self) -> Vec<Effect> {
        if let Some(person) = self.partner() {
            self.dialog = Some(Dialog::Request {
                with: person.user.clone(),
                fingerprint: person.fingerprint.clone().unwrap_or_default(),
                asks: person.asks.clone().unwrap_or_default(),
                field: super::super::editor::Editor::default(),
                problem: None,
            });
        }
        Vec::new()
    }

    fn chosen(&self) -> Option<&Item> {
        self.transcript()?.chosen()
    }

    fn which(&self) -> Option<Which> {
        self.chosen().map(|item| Which {
            mine: item.state.is_some(),
            id: item.id.clone(),
        })
    }

    /// The chosen message, if it is ours or there is none: `Err`, and why not.
    fn own(&mut self) -> Result<Option<Which>, ()> {
        match self.which() {
            Some(which) if !which.mine => {
                let who = self.open.as_ref().map_or("them", |user| user.as_str());
                let words = format!("That message is of {who}, and only its author changes it.");
                self.say(Level::Problem, words);
                Err(())
            }
            which => Ok(which),
        }
    }

    /// Another text for a message of ours; without one, the text there is to begin with.
    fn edit(&mut self, text: &str) -> Vec<Effect> {
        let Ok(which) = self.own() else {
            return Vec::new();
        };
        if text.is_empty() {
            let last = self.transcript().and_then(|transcript| {
                let mut all = transcript.items().rev();
                all.find(|item| item.state.is_some() && item.file.is_none())
            });
            let begun = self.chosen().or(last).map(|item| item.text.clone());
            return match begun {
                Some(text) => {
                    self.input_mut().set("");
                    self.begin(&format!("/edit {text}"))
                }
                None => {
                    self.say(Level::Problem, "There is no message of yours here.");
                    Vec::new()
                }
            };
        }
        self.change(text, Change::Edit(which, text.to_owned()))
    }

    fn delete(&mut self, rest: &str) -> Vec<Effect> {
        let change = match (rest, self.which()) {
            ("here", Some(which)) => Change::Erase(which),
            ("here", None) => {
                let key = self.preferences.keys.first(Action::ChooseAbove);
                self.say(Level::Problem, format!("Which one? {key} chooses it."));
                return Vec::new();
            }
            ("", Some(which)) if !which.mine => {
                self.say(
                    Level::Problem,
                    "That message is not yours. /delete here removes it from this history alone.",
                );
                return Vec::new();
            }
            ("", which) => Change::Delete(which),
            _ => {
                self.say(Level::Problem, "It is /delete, or /delete here.");
                return Vec::new();
            }
        };
        self.change("-", change)
    }

    /// Which file a command is about, and what else stands behind it: a number, the chosen one, or the last one that can be meant.
    fn file<'a>(
        &mut self,
        rest: &'a str,
        can: impl Fn(&Attachment) -> bool,
    ) -> Option<(i64, &'a str)> {
        let (first, others) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if let Ok(number) = first.parse() {
            return Some((number, others.trim()));
        }
        let chosen = self.chosen().map(|item| item.file.as_ref());
        let number = match chosen {
            Some(file) => file.map(|file| file.number),
            None => self.transcript().and_then(|transcript| {
                let mut files = transcript
                    .items()
                    .rev()
                    .filter_map(|item| item.file.as_ref());
                files.find(|file| can(file)).map(|file| file.number)
            }),
        };
        if number.is_none() {
            self.say(
                Level::Problem,
                "Which file? /files lists them, with their numbers.",
            );
        }
        Some((number?, rest))
    }

    fn change(&mut self, words: &str, change: Change) -> Vec<Effect> {
        let Some(user) = self.about("") else {
            return Vec::new();
        };
        if self.is_blocked() {
            self.say_blocked();
            return Vec::new();
        }
        if words.is_empty() {
            self.say(
                Level::Problem,
                "Something must stand behind it: /help has what.",
            );
            return Vec::new();
        }
        self.choose_none();
        vec![Effect::Change(user, change)]
    }

    pub(super) fn command(&mut self, name: Name, rest: &str) -> Vec<Effect> {
        match name {
            Name::Help => {
                self.dialog = Some(Dialog::text(
                    "Help",
                    help(&self.preferences.keys, &self.theme),
                ))
            }
            Name::To => {
                let (who, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let Some(user) = self.about(who) else {
                    return Vec::new();
                };
                let mut effects = self.open(user.clone());
                if !text.trim().is_empty() {
                    if self.is_blocked() {
                        self.say_blocked();
                    } else {
                        effects.push(Effect::Send(user, text.trim().to_owned()));
                    }
                }
                return effects;
            }
            Name::Add => {
                self.dialog = Some(Dialog::Add {
                    field: super::super::editor::Editor::of(rest),
                    problem: None,
                });
                if !rest.is_empty() {
                    let enter = KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE);
                    return self.dialog_key(&enter);
                }
            }
            Name::Verify => {
                let Some(user) = self.about(rest) else {
                    return Vec::new();
                };
                return match self.person(&user) {
                    Some(person) if person.trust.is_in_doubt() => self.command(Name::Trust, rest),
                    _ => vec![Effect::Compare(user)],
                };
            }
            Name::Trust => {
                let Some(user) = self.about(rest) else {
                    return Vec::new();
                };
                let person = self
                    .person(&user)
                    .filter(|person| person.trust.is_in_doubt());
                let Some(person) = person else {
                    self.say(
                        Level::Note,
                        format!("Nothing to decide: {user} is who they were."),
                    );
                    return Vec::new();
                };
                self.dialog = Some(Dialog::Trust {
                    with: user,
                    known: person.fingerprint.clone().unwrap_or_default(),
                    offered: person.offered.clone(),
                    was_verified: person.was_verified,
                    field: super::super::editor::Editor::default(),
                    problem: None,
                });
            }
            Name::Invite => return vec![Effect::OwnLink],
            Name::Search | Name::SearchAll => {
                let with = match name {
                    Name::Search => self.open.clone(),
                    _ => None,
                };
                self.dialog = Some(Dialog::Search(Finder::new(with, rest)));
                if !rest.is_empty() {
                    let enter = KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE);
                    return self.dialog_key(&enter);
                }
            }
            Name::View => {
                let room = self.form().room;
                let long = self.chosen().or_else(|| {
                    let transcript = self.transcript()?;
                    let mut long = transcript.items().rev();
                    long.find(|item| super::super::text::wrap(&item.text, room).len() > MAX_ROWS)
                });
                match long {
                    Some(item) => {
                        let title =
                            format!("{} {}", day(item.at, &self.zone), time(item.at, &self.zone));
                        self.dialog = Some(Dialog::text(&title, item.text.clone()));
                    }
                    None => self.say(Level::Note, "No message here is too long to be shown."),
                }
            }
            Name::Copy => {
                let last = self.transcript().and_then(|transcript| {
                    transcript.items().rev().find(|item| item.state.is_none())
                });
                let copied = self.chosen().or(last).map(|item| item.text.clone());
                self.choose_none();
                return copied.map(Effect::Copy).into_iter().collect();
            }
            Name::Accept => return self.deal(rest, Dealing::Accept),
            Name::Block => return self.deal(rest, Dealing::Block),
            Name::Unblock => return self.deal(rest, Dealing::Unblock),
            Name::Mute => return self.deal(rest, Dealing::Mute),
            Name::Unmute => return self.deal(rest, Dealing::Unmute),
            Name::Reply => {
                let change = Change::Reply(self.which(), rest.to_owned());
                return self.change(rest, change);
            }
            Name::Edit => return self.edit(rest),
            Name::Delete => return self.delete(rest),
            Name::File => {
                let Some(user) = self.about("") else {
                    return Vec::new();
                };
                if self.is_blocked() {
                    self.say_blocked();
                } else if rest.is_empty() {
                    self.say(Level::Problem, "Which one? /file PATH; Tab completes it.");
                } else {
                    return vec![Effect::Offer(user, rest.to_owned())];
                }
            }
            Name::Save => {
                if let Some((number, rest)) = self.file(rest, Attachment::can_be_saved) {
                    self.choose_none();
                    let folder = (!rest.is_empty()).then(|| rest.to_owned());
                    return vec![Effect::Save(number, folder)];
                }
            }
            Name::Cancel => {
                if let Some((number, rest)) = self.file(rest, Attachment::can_be_cancelled) {
                    if rest.is_empty() {
                        self.choose_none();
                        return vec![Effect::Cancel(number)];
                    }
                    self.say(Level::Problem, "It is /cancel, or /cancel NUMBER.");
                }
            }
            Name::Files => return vec![Effect::Files],
            Name::Expire => return self.change(rest, Change::Expire(rest.to_owned())),
            Name::Retry => return self.about("").map(Effect::Retry).into_iter().collect(),
            Name::Drop => return self.about("").map(Effect::Drop).into_iter().collect(),
            Name::Log => {
                let lines = self.log.iter().rev().map(|said| {
                    let mark = match said.level {
                        Level::Note => "",
                        Level::Problem => "! ",
                        Level::Alarm => "ALARM: ",
                    };
                    format!(
                        "{} {}  {mark}{}",
                        day(said.at, &self.zone),
                        time(said.at, &self.zone),
                        said.text
                    )
                });
                let mut text = lines.collect::<Vec<_>>().join("\n");
                if text.is_empty() {
                    text = "Nothing was said yet.".to_owned();
                }
                self.notice = None;
                self.dialog = Some(Dialog::text("What was said, newest first", text));
            }
            Name::People => return self.act(Action::People),
            Name::Theme => match ThemeName::parse(rest) {
                Some(theme) => {
                    self.preferences.theme = theme;
                    self.theme = Theme::of(theme, self.ability);
                }
                None => self.say(
                    Level::Problem,
                    format!("The themes are {}.", ThemeName::NAMES.join(", ")),
                ),
            },
            Name::Quit => return self.quit(),
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
