//! What the interface knows and shows. No terminal, clock, store or connection: messages come in, effects go out.

use std::collections::{BTreeMap, VecDeque};

use jiff::tz::TimeZone;
use ratatui::crossterm::event::KeyEvent;
use sealpost_core::{Timestamp, UserId};

use super::attachment::Attachment;
use super::dialog::Dialog;
use super::editor::Editor;
use super::keys::Keys;
use super::layout::Areas;
use super::theme::{Ability, Theme, ThemeName};
use super::transcript::{Form, Item, Transcript};
use crate::store::{Edge, FileCause, FileState, Mark, Notify, SendState};

/// How many lines of what was said are kept.
const MAX_LOG: usize = 500;
/// How many conversations stay loaded, beside the open one.
const MAX_LOADED: usize = 8;

/// How far somebody is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing is known of their keys yet.
    New,
    /// Whose keys came first, or were accepted.
    Known,
    /// Compared, or from their own hand.
    Verified,
    /// Another identity waits for a decision.
    Changed,
    /// Nothing of theirs is opened.
    Suspended,
    /// They have written and wait to be let in.
    Asks,
    /// Nothing of theirs is let in.
    Blocked,
}

impl Trust {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Trust::New => "new, no keys seen yet",
            Trust::Known => "not verified",
            Trust::Verified => "verified",
            Trust::Changed => "IDENTITY CHANGED",
            Trust::Suspended => "SUSPENDED",
            Trust::Asks => "asks to be let in",
            Trust::Blocked => "blocked",
        }
    }

    /// Whether nothing goes to them until somebody decides.
    #[must_use]
    pub fn blocks(self) -> bool {
        !matches!(self, Trust::New | Trust::Known | Trust::Verified)
    }

    /// Whether that is a matter of their keys.
    #[must_use]
    pub fn is_in_doubt(self) -> bool {
        matches!(self, Trust::Changed | Trust::Suspended)
    }
}

/// Somebody one talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// How far they are trusted.
    pub trust: Trust,
    /// Whether the known identity was verified, also while another one waits.
    pub was_verified: bool,
    /// Of their known identity.
    pub fingerprint: Option<String>,
    /// Of the identity that waits for a decision.
    pub offered: Option<String>,
    /// How many of their messages were not shown.
    pub unread: u32,
    /// The beginning of what they wrote who ask to be let in.
    pub asks: Option<String>,
    /// Whether nobody is told when a message comes.
    pub muted: bool,
    /// What is told of one, where that is not as for everybody.
    pub notify: Option<Notify>,
    /// When something came or was written last.
    pub last: Option<Timestamp>,
}

impl Person {
    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn new(user: UserId) -> Person {
        Person {
            user,
            trust: Trust::New,
            was_verified: false,
            fingerprint: None,
            offered: None,
            unread: 0,
            asks: None,
            muted: false,
            notify: None,
            last: None,
        }
    }
}

/// Whose interface it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// Our name.
    pub user: UserId,
    /// Our deployment.
    pub realm: String,
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Not yet.
    Connecting,
    /// Up.
    Up,
    /// Away, why, and when it is tried again.
    Away {
        /// What happened.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// For good, until it is started again.
    Over {
        /// What happened.
        reason: String,
        /// What to do.
        hint: String,
    },
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Note,
    /// Something did not work.
    Problem,
    /// Perhaps an attack.
    Alarm,
}

/// Something that was said beside the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// The words.
    pub text: String,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// With whom.
    pub with: UserId,
    /// Where.
    pub mark: Mark,
    /// When.
    pub at: Timestamp,
    /// Whether it is ours.
    pub mine: bool,
    /// What it says.
    pub text: String,
}

/// What comes in.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key.
    Key(KeyEvent),
    /// Pasted text.
    Paste(String),
    /// The terminal's size, in columns and rows.
    Resize(u16, u16),
    /// Whether the terminal is looked at.
    Focus(bool),
    /// The wheel, so many rows; up is negative.
    Wheel(i16),
    /// A click, at a column and a row.
    Click(u16, u16),
    /// The clock.
    Tick(Timestamp),
    /// Everybody.
    People(Vec<Person>),
    /// The newest messages with somebody.
    Newest(UserId, Vec<Item>),
    /// An older or newer page.
    Page(UserId, Edge, Vec<Item>),
    /// What is around something that was found.
    Around(UserId, Mark, Vec<Item>),
    /// A message of ours got further.
    Progress(String, SendState, Option<(String, String)>),
    /// A file of somebody's, or of ours for them, got further; the message that offers it.
    File(UserId, String, Attachment),
    /// All files, to be read.
    Files(String),
    /// How a path, which stands behind this, could go on.
    Paths(String, Vec<String>),
    /// A message came.
    Arrived(UserId, String),
    /// The connection.
    Connection(Connection, String),
    /// Words.
    Said(Level, String),
    /// What was asked for did not work.
    Failed(String, String),
    /// What is to be compared with somebody.
    Compare {
        /// With whom.
        with: UserId,
        /// The sixty digits.
        number: String,
        /// The text of our QR code.
        code: String,
    },
    /// A comparison ended well, or did not.
    Compared(UserId, Result<(), (String, String)>),
    /// A decision was taken over, or not.
    Decided(UserId, Result<(), (String, String)>),
    /// Somebody was added; `true`: by their link.
    Added(UserId, bool),
    /// Our own link.
    OwnLink {
        /// The link.
        link: String,
        /// The fingerprint of our identity.
        fingerprint: String,
    },
    /// What was found so far, and whether that is all.
    Found(u64, Vec<Hit>, bool),
}

/// How somebody is to be dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dealing {
    /// They are let in, and told when their messages arrive.
    Accept,
    /// Nothing of theirs is let in.
    Block,
    /// It is again.
    Unblock,
    /// Nobody is told when their messages come.
    Mute,
    /// Somebody is again.
    Unmute,
}

/// A message of a conversation, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Whether it is ours.
    pub mine: bool,
    /// Its id.
    pub id: String,
}

/// What is to become of messages; where none is named, of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Answers one of theirs or ours.
    Reply(Option<Which>, String),
    /// Puts another text in place of one of ours.
    Edit(Option<Which>, String),
    /// Takes one of ours back.
    Delete(Option<Which>),
    /// Removes one, ours or theirs, from this history alone.
    Erase(Which),
    /// From now on they disappear after this time, or `off`.
    Expire(String),
}

/// What goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Reads the newest messages with somebody, who is looked at from now on.
    Open(UserId),
    /// Reads a page.
    Load(UserId, Edge),
    /// Reads what is around a place.
    LoadAround(UserId, Mark),
    /// Their messages up to here were seen.
    Shown(UserId, Mark),
    /// Sends a text.
    Send(UserId, String),
    /// Makes a comparison.
    Compare(UserId),
    /// They see the same: yes.
    SayVerified(UserId),
    /// What they see, as digits or as the text of their QR code.
    CheckTheirs(UserId, String),
    /// Accepts the identity that waits, of this fingerprint, or ends a suspension.
    Decide(UserId, Option<String>),
    /// Deals with somebody.
    Deal(UserId, Dealing),
    /// Answers, changes or takes back a message, or sets how long they stay.
    Change(UserId, Change),
    /// Offers them the file of this path, as it was typed.
    Offer(UserId, String),
    /// Saves a file, or fetches it first; into this folder, as it was typed.
    Save(i64, Option<String>),
    /// Takes a file back, declines it, or throws it away.
    Cancel(i64),
    /// Lists all files.
    Files,
    /// Says how a path could go on, which stands behind this.
    Paths(String, String),
    /// Adds somebody by link.
    Add(String),
    /// Shows our link.
    OwnLink,
    /// Looks for words, with one person or all, under this number.
    Search(u64, Option<UserId>, String),
    /// Ends the search.
    StopSearch,
    /// Tries what failed with somebody again.
    Retry(UserId),
    /// Forgets what failed with somebody.
    Drop(UserId),
    /// Rings, and tells the desktop: a title and words.
    Notify(String, String),
    /// Puts a text on the clipboard.
    Copy(String),
    /// Draws everything again.
    Redraw,
    /// To the shell.
    Suspend,
    /// The end.
    Quit,
}

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// Colours.
    pub theme: ThemeName,
    /// Whether the words of a message show in a notification.
    pub notify_text: bool,
    /// Keys.
    pub keys: Keys,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct State {
    /// Who we are.
    pub me: Me,
    /// What the terminal can do.
    pub ability: Ability,
    /// How things are drawn.
    pub theme: Theme,
    /// What is set.
    pub preferences: Preferences,
    /// Days and hours.
    pub zone: TimeZone,
    /// The clock, as it was last looked at.
    pub now: Timestamp,
    /// The terminal's columns and rows.
    pub size: (u16, u16),
    /// Whether it is looked at.
    pub focused: bool,
    /// Whether the list of people is shown where there is room, or in place of the conversation.
    pub show_people: bool,
    /// How the connection is.
    pub connection: Connection,
    /// The broker.
    pub broker: String,
    /// Everybody, in the order of the list.
    pub people: Vec<Person>,
    /// Whether the list was read.
    pub people_known: bool,
    /// Whose conversation is open.
    pub open: Option<UserId>,
    pub(super) transcripts: BTreeMap<UserId, Transcript>,
    recent: VecDeque<UserId>,
    pub(super) drafts: BTreeMap<UserId, Editor>,
    /// What is typed where no message can go.
    pub(super) command_line: Editor,
    /// What was sent, for the up key, and where in it we are.
    pub(super) past: VecDeque<String>,
    pub(super) past_at: Option<usize>,
    /// What was said.
    pub log: VecDeque<Said>,
    /// The last of it, until it was seen.
    pub notice: Option<Said>,
    /// What was typed, and what it could become: paths, of which only the disk knows.
    pub(super) paths: Option<(String, Vec<String>)>,
    /// How far files were when it was said last.
    pub(super) files: BTreeMap<i64, (FileState, Option<FileCause>)>,
    /// What is in front of everything.
    pub dialog: Option<Dialog>,
    pub(super) search: u64,
    pub(super) quitting: bool,
}

impl State {
    /// At the beginning.
    #[must_use]
    pub fn new(
        me: Me,
        preferences: Preferences,
        ability: Ability,
        zone: TimeZone,
        now: Timestamp,
    ) -> State {
        State {
            me,
            ability,
            theme: Theme::of(preferences.theme, ability),
            preferences,
            zone,
            now,
            size: (80, 24),
            focused: true,
            show_people: true,
            connection: Connection::Connecting,
            broker: String::new(),
            people: Vec::new(),
            people_known: false,
            open: None,
            transcripts: BTreeMap::new(),
            recent: VecDeque::new(),
            drafts: BTreeMap::new(),
            command_line: Editor::default(),
            past: VecDeque::new(),
            past_at: None,
            log: VecDeque::new(),
            notice: None,
            paths: None,
            files: BTreeMap::new(),
            dialog: None,
            search: 0,
            quitting: false,
        }
    }

    /// Somebody of the list.
    #[must_use]
    pub fn person(&self, user: &UserId) -> Option<&Person> {
        self.people.iter().find(|person| person.user == *user)
    }

    /// Who is talked to.
    #[must_use]
    pub fn partner(&self) -> Option<&Person> {
        self.person(self.open.as_ref()?)
    }

    /// Whether nothing can go to who is talked to until somebody decides.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.partner().is_some_and(|person| person.trust.blocks())
    }

    /// What is typed.
    #[must_use]
    pub fn input(&self) -> &Editor {
        match &self.open {
            Some(user) if !self.is_blocked() => self.drafts.get(user).unwrap_or(&self.command_line),
            _ => &self.command_line,
        }
    }

    pub(super) fn input_mut(&mut self) -> &mut Editor {
        match &self.open {
            Some(user) if !self.is_blocked() => self.drafts.entry(user.clone()).or_default(),
            _ => &mut self.command_line,
        }
    }

    /// The conversation that is open.
    #[must_use]
    pub fn transcript(&self) -> Option<&Transcript> {
        self.transcripts.get(self.open.as_ref()?)
    }

    pub(super) fn transcript_mut(&mut self) -> Option<&mut Transcript> {
        self.transcripts.get_mut(self.open.as_ref()?)
    }

    /// Where everything is.
    #[must_use]
    pub fn areas(&self) -> Areas {
        Areas::of(self)
    }

    /// In which form the conversation is drawn.
    #[must_use]
    pub fn form(&self) -> Form {
        let areas = self.areas();
        Form {
            room: usize::from(areas.text_width()),
            height: usize::from(areas.conversation.height),
            zone: self.zone.clone(),
            unicode: self.theme.unicode,
        }
    }

    /// How many messages were not shown, of everybody.
    #[must_use]
    pub fn unread(&self) -> u32 {
        self.people.iter().map(|person| person.unread).sum()
    }

    /// Says something.
    pub(super) fn say(&mut self, level: Level, text: impl Into<String>) {
        let said = Said {
            at: self.now,
            level,
            text: text.into(),
        };
        self.log.push_back(said.clone());
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
        }
        // An alarm is not pushed away by what matters less.
        let keeps = matches!(&self.notice, Some(there) if there.level == Level::Alarm && level != Level::Alarm);
        if !keeps {
            self.notice = Some(said);
        }
    }

    /// Opens a conversation.
    pub(super) fn open(&mut self, user: UserId) -> Vec<Effect> {
        if self.open.as_ref() == Some(&user) {
            return Vec::new();
        }
        if self.person(&user).is_none() {
            self.people.push(Person::new(user.clone()));
            self.sort();
        }
        if let Some(before) = self.open.replace(user.clone()) {
            if let Some(transcript) = self.transcripts.get_mut(&before) {
                transcript.forget_new();
            }
            self.recent.retain(|other| *other != before);
            self.recent.push_back(before);
        }
        self.recent.retain(|other| *other != user);
        while self.recent.len() > MAX_LOADED {
            if let Some(gone) = self.recent.pop_front() {
                self.transcripts.remove(&gone);
                if self.drafts.get(&gone).is_some_and(Editor::is_empty) {
                    self.drafts.remove(&gone);
                }
            }
        }
        self.past_at = None;
        // What came since it was looked at is read anew.
        self.transcripts.insert(user.clone(), Transcript::default());
        vec![Effect::Open(user)]
    }

    /// Who wrote last is first; then by name.
    pub(super) fn sort(&mut self) {
        self.people
            .sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.user.cmp(&b.user)));
    }
}
