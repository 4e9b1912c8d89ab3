//! What keys do.

use super::*;

impl State {
    pub(super) fn key(&mut self, key: &KeyEvent) -> Vec<Effect> {
        let action = self.preferences.keys.action(key);
        // These work everywhere.
        match action {
            Some(Action::Redraw) => return vec![Effect::Redraw],
            Some(Action::Suspend) => return vec![Effect::Suspend],
            Some(Action::Quit) => return self.quit(),
            _ => {}
        }
        if self.dialog.is_some() {
            return self.dialog_key(key);
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            if self.input().is_empty() {
                let quit = self.preferences.keys.first(Action::Quit);
                self.say(Level::Note, format!("To end: {quit} or /quit"));
            } else {
                self.input_mut().take();
            }
            return Vec::new();
        }
        match action {
            Some(action) => self.act(action),
            None => self.type_key(key),
        }
    }

    pub(super) fn dialog_key(&mut self, key: &KeyEvent) -> Vec<Effect> {
        let page = usize::from(self.size.1).saturating_sub(6).max(1);
        let Some(dialog) = &mut self.dialog else {
            return Vec::new();
        };
        let effects = match dialog.key(key, page) {
            Done::Stay(effects) => effects,
            Done::Close(effects) => {
                self.dialog = None;
                effects
            }
            Done::Goto(hit) => {
                self.dialog = None;
                let mut effects = vec![Effect::StopSearch];
                if self.open.as_ref() != Some(&hit.with) {
                    effects.extend(self.open(hit.with.clone()));
                }
                effects.push(Effect::LoadAround(hit.with, hit.mark));
                effects
            }
        };
        // What a dialog cannot know is put in here.
        let mut out = Vec::new();
        for effect in effects {
            match effect {
                Effect::Open(user) if user == self.me.user => {
                    self.say(Level::Problem, "That is you. Name somebody else.");
                }
                Effect::Open(user) => out.extend(self.open(user)),
                Effect::Search(_, with, words) => {
                    self.search += 1;
                    out.push(Effect::Search(self.search, with, words));
                }
                other => out.push(other),
            }
        }
        out
    }

    pub(super) fn quit(&mut self) -> Vec<Effect> {
        self.quitting = true;
        vec![Effect::Quit]
    }

    pub(super) fn act(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Send => self.enter(),
            Action::Newline => {
                if !self.is_blocked() {
                    self.input_mut().insert("\n");
                }
                Vec::new()
            }
            Action::Complete => self.complete(),
            Action::NextPerson => self.step(1),
            Action::PreviousPerson => self.step(-1),
            Action::NextUnread => {
                let next = self
                    .people
                    .iter()
                    .find(|person| person.unread > 0 && self.open.as_ref() != Some(&person.user));
                match next.map(|person| person.user.clone()) {
                    Some(user) => self.open(user),
                    None => Vec::new(),
                }
            }
            Action::People => {
                self.show_people = !self.show_people;
                self.fill_window()
            }
            Action::PageUp => self.scroll(-self.page()),
            Action::PageDown => self.scroll(self.page()),
            Action::Top => {
                let form = self.form();
                let lack = self
                    .transcript_mut()
                    .and_then(|transcript| transcript.to_first(&form));
                self.load(lack)
            }
            Action::Bottom => {
                let lacks = self.transcript_mut().is_some_and(Transcript::to_end);
                match (&self.open, lacks) {
                    (Some(user), true) => vec![Effect::Open(user.clone())],
                    _ => Vec::new(),
                }
            }
            Action::ChooseAbove => {
                let form = self.form();
                let lack = self
                    .transcript_mut()
                    .and_then(|transcript| transcript.choose_above(&form));
                self.load(lack)
            }
            Action::ChooseBelow => {
                let form = self.form();
                let lack = self
                    .transcript_mut()
                    .and_then(|transcript| transcript.choose_below(&form));
                self.load(lack)
            }
            Action::Reply => self.begin("/reply "),
            // What is being written is not thrown away.
            Action::Edit if !self.input().is_empty() => self.begin("/edit "),
            Action::Edit => self.command(Name::Edit, ""),
            Action::Help => self.command(Name::Help, ""),
            Action::Add => self.command(Name::Add, ""),
            Action::Verify => self.command(Name::Verify, ""),
            Action::Invite => self.command(Name::Invite, ""),
            Action::Search => self.command(Name::Search, ""),
            Action::Log => self.command(Name::Log, ""),
            // Above.
            Action::Redraw | Action::Suspend | Action::Quit => Vec::new(),
        }
    }

    fn page(&self) -> isize {
        isize::try_from(self.form().height.saturating_sub(1).max(1)).unwrap_or(1)
    }

    fn type_key(&mut self, key: &KeyEvent) -> Vec<Effect> {
        let room = usize::from(self.areas().input.width).max(1);
        match key.code {
            // What is chosen is moved on with the plain keys, while nothing is typed.
            KeyCode::Up if self.has_chosen() && self.input().is_empty() => {
                return self.act(Action::ChooseAbove);
            }
            KeyCode::Down if self.has_chosen() && self.input().is_empty() => {
                return self.act(Action::ChooseBelow);
            }
            KeyCode::Up => {
                if !self.input_mut().up(room) {
                    self.recall(1);
                }
            }
            KeyCode::Down => {
                if !self.input_mut().down(room) {
                    self.recall(-1);
                }
            }
            KeyCode::Esc => {
                if !self.choose_none() {
                    self.notice = None;
                }
            }
            KeyCode::Char(c)
                if self.is_blocked()
                    && self.input().is_empty()
                    && c != '/'
                    && !key
                        .modifiers
                        .intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) =>
            {
                self.say_blocked();
            }
            _ => {
                if edit(self.input_mut(), key) {
                    self.past_at = None;
                }
            }
        }
        Vec::new()
    }

    pub(super) fn say_blocked(&mut self) {
        let Some(person) = self.partner() else {
            return;
        };
        let name = person.user.clone();
        match person.trust {
            Trust::Asks => {
                self.say(
                    Level::Note,
                    format!("{name} asks to be let in: press Enter on the empty line to decide."),
                );
                return;
            }
            Trust::Blocked => {
                self.say(Level::Note, format!("You have blocked {name}. /unblock"));
                return;
            }
            _ => {}
        }
        self.say(
            Level::Problem,
            format!(
                "Nothing goes to {name} before you have decided: press Enter on the empty line."
            ),
        );
    }

    /// What was sent before, or later.
    fn recall(&mut self, back: isize) {
        let at = match (self.past_at, back) {
            // What is being written is not thrown away.
            (None, 1) if self.input().is_empty() => 0,
            (None, _) => return,
            (Some(at), 1) => at + 1,
            (Some(0), _) => {
                self.past_at = None;
                self.input_mut().take();
                return;
            }
            (Some(at), _) => at - 1,
        };
        if let Some(text) = self.past.get(at).cloned() {
            self.past_at = Some(at);
            self.input_mut().set(&text);
        }
    }

    fn has_chosen(&self) -> bool {
        self.transcript()
            .is_some_and(|transcript| transcript.chosen().is_some())
    }

    pub(super) fn choose_none(&mut self) -> bool {
        self.transcript_mut().is_some_and(Transcript::choose_none)
    }

    /// Puts a command before what is typed.
    pub(super) fn begin(&mut self, command: &str) -> Vec<Effect> {
        if self.is_blocked() {
            self.say_blocked();
        } else if !self.input().text().starts_with('/') {
            let text = format!("{command}{}", self.input().text());
            self.input_mut().set(&text);
        }
        Vec::new()
    }

    fn complete(&mut self) -> Vec<Effect> {
        let typed = self.input().before().to_owned();
        if typed.len() < self.input().text().len() {
            return Vec::new();
        }
        if let Line::Command(Name::File, _) = Line::parse(&typed)
            && let Some((command, path)) = typed.split_once(' ')
        {
            return vec![Effect::Paths(
                format!("{command} "),
                path.trim_start().to_owned(),
            )];
        }
        let people = self.people.iter().map(|person| &person.user);
        let texts: Vec<String> = completions(&typed, people)
            .into_iter()
            .map(|c| c.text)
            .collect();
        self.put_completion(&typed, &texts);
        Vec::new()
    }

    /// What the disk has, if that is still what is typed.
    pub(super) fn complete_path(&mut self, typed: &str, paths: Vec<String>) {
        if self.input().text() != typed {
            return;
        }
        if paths.is_empty() {
            self.say(Level::Note, "There is no such file.");
            return;
        }
        let common = common(&paths);
        if common.len() > typed.len() {
            self.input_mut().set(&common);
        }
        self.paths = (paths.len() > 1).then(|| (self.input().text().to_owned(), paths));
    }

    fn put_completion(&mut self, typed: &str, texts: &[String]) {
        let common = match texts {
            [] => return,
            [one] => one.clone(),
            several => common(several),
        };
        if common.len() > typed.len() {
            self.input_mut().set(&common);
        } else if let Some(first) = texts.first() {
            self.input_mut().set(first);
        }
    }

    pub(super) fn step(&mut self, by: isize) -> Vec<Effect> {
        let at = self
            .people
            .iter()
            .position(|person| self.open.as_ref() == Some(&person.user));
        let count = isize::try_from(self.people.len()).unwrap_or(0);
        let next = match at {
            None => 0,
            Some(at) => (isize::try_from(at).unwrap_or(0) + by).rem_euclid(count.max(1)),
        };
        let next = usize::try_from(next)
            .ok()
            .and_then(|at| self.people.get(at));
        match next.map(|person| person.user.clone()) {
            Some(user) => self.open(user),
            None => Vec::new(),
        }
    }
}

/// What several texts begin with.
fn common(texts: &[String]) -> String {
    let Some((first, others)) = texts.split_first() else {
        return String::new();
    };
    let mut end = first.len();
    for other in others {
        let same = first.chars().zip(other.chars()).take_while(|(a, b)| a == b);
        end = end.min(same.map(|(character, _)| character.len_utf8()).sum());
    }
    first.get(..end).unwrap_or_default().to_owned()
}
