//! `sealpost chat`: talk and listen in one, line by line, from a terminal or a pipe.

use std::collections::{HashSet, VecDeque};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use sealpost_core::{Content, MessageId, Timestamp, UserId};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::{Start, parse_user, stdin_lines};
use crate::clock;
use crate::conversation::{self, ChangeError, DELETION_WARNING, LIFETIME_WARNING, parse_lifetime};
use crate::deadline::at;
use crate::event::{Event, Printer, lifetime_words};
use crate::exit::{Code, Failure};
use crate::files::{self, Saving, Source};
use crate::history::{Remembered, Trust};
use crate::outgoing::{enqueue, permit};
use crate::reaching::{Limits, Refusals, reach};
use crate::session::{Happening, Manner, Parts, Session};
use crate::settings::Strangers;
use crate::store::{HistoryRange, OutboxEntry, Store};
use crate::trust_policy::TrustPolicy;

/// How many messages may be on their way before the next line is read: a pipe with a million lines waits.
const MAX_OUTSTANDING: usize = 64;
/// Of how many messages the arrival is told at a terminal.
const MAX_TYPED: usize = 1_024;
/// How many files are listed, the last ones.
const LISTED_FILES: u32 = 100;
const HELP: &str = "\
msg USER TEXT           send a text
/reply WHICH TEXT       answer a message: the last one of a USER, or that with an id
/edit WHICH TEXT        put another text in place of your last one to a USER, or that with an id
/delete WHICH           ask to delete your last message to a USER, or that with an id; it is a request
/expire USER TIME|off   messages with USER disappear after a time, such as 1h or 7d
/file USER PATH         offer a file; it goes while they fetch it
/files                  files that were offered, and how far they are
/save FILE [DIR]        save one, by its number
/cancel FILE            take one back, or decline it
/history USER           the last messages with USER, with their ids
/requests               who is new and asks to be let in
/accept USER            let them in
/block USER, /unblock USER, /mute USER, /unmute USER
/who                    the people you know
/help                   this
/quit                   end (so does Ctrl-D)";
/// How many messages `/history` shows.
const RECALLED: u32 = 20;

/// One line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Message {
        to: String,
        text: String,
    },
    Reply {
        which: String,
        text: String,
    },
    Edit {
        which: String,
        text: String,
    },
    Delete {
        which: String,
    },
    Expire {
        with: String,
        time: String,
    },
    History {
        with: String,
    },
    Requests,
    Deal {
        how: Dealing,
        with: String,
    },
    File {
        to: String,
        path: PathBuf,
    },
    Files,
    Save {
        file: String,
        folder: Option<PathBuf>,
    },
    Cancel {
        file: String,
    },
    Who,
    Help,
    Quit,
    Empty,
    Unknown,
}

/// How somebody is to be dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dealing {
    Accept,
    Block,
    Unblock,
    Mute,
    Unmute,
}

impl Line {
    fn parse(line: &str) -> Line {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let two = || {
            let (one, other) = rest.split_once(char::is_whitespace)?;
            Some((one.to_owned(), other.trim().to_owned()))
        };
        let one =
            || (!rest.is_empty() && !rest.contains(char::is_whitespace)).then(|| rest.to_owned());
        let line = match word {
            "/reply" => two().map(|(which, text)| Line::Reply { which, text }),
            "/edit" => two().map(|(which, text)| Line::Edit { which, text }),
            "/delete" => one().map(|which| Line::Delete { which }),
            "/expire" => two().map(|(with, time)| Line::Expire { with, time }),
            "/history" => one().map(|with| Line::History { with }),
            "/requests" if rest.is_empty() => Some(Line::Requests),
            "/accept" | "/block" | "/unblock" | "/mute" | "/unmute" => {
                one().map(|with| Line::Deal {
                    how: match word {
                        "/accept" => Dealing::Accept,
                        "/block" => Dealing::Block,
                        "/unblock" => Dealing::Unblock,
                        "/mute" => Dealing::Mute,
                        _ => Dealing::Unmute,
                    },
                    with,
                })
            }
            _ => None,
        };
        if let Some(line) = line {
            return line;
        }
        match word {
            "" => Line::Empty,
            "/help" | "/?" | "help" => Line::Help,
            "/who" | "who" if rest.is_empty() => Line::Who,
            "/files" if rest.is_empty() => Line::Files,
            "/file" => match rest.trim_start().split_once(char::is_whitespace) {
                Some((to, path)) if !path.trim().is_empty() => Line::File {
                    to: to.to_owned(),
                    path: PathBuf::from(path.trim()),
                },
                _ => Line::Unknown,
            },
            "/save" if !rest.trim().is_empty() => {
                let (file, folder) = match rest.trim().split_once(char::is_whitespace) {
                    Some((file, folder)) => (file, Some(PathBuf::from(folder.trim()))),
                    None => (rest.trim(), None),
                };
                Line::Save {
                    file: file.to_owned(),
                    folder,
                }
            }
            "/cancel" if !rest.trim().is_empty() => Line::Cancel {
                file: rest.trim().to_owned(),
            },
            "/quit" | "/exit" | "quit" | "exit" if rest.is_empty() => Line::Quit,
            "msg" | "/msg" => match rest.trim_start().split_once(char::is_whitespace) {
                Some((to, text)) if !text.trim().is_empty() => Line::Message {
                    to: to.to_owned(),
                    text: text.trim().to_owned(),
                },
                _ => Line::Unknown,
            },
            _ => Line::Unknown,
        }
    }
}

struct Chat {
    /// Its own connection to the store: what is typed is kept before there is a session, and beside it.
    store: Store,
    printer: Printer,
    user: UserId,
    trust: TrustPolicy,
    /// Our keys are withdrawn: nothing can be sent.
    retired: bool,
    /// Whether somebody types.
    interactive: bool,
    timeout: Duration,
    /// When to stop waiting for what is outstanding, once there are no more lines.
    quitting: Option<Instant>,
    /// What was typed here and the broker does not have yet.
    outstanding: HashSet<MessageId>,
    /// Whose arrival is worth a word: what was typed here, the last so many.
    typed: VecDeque<MessageId>,
    /// The last line that failed.
    failed: Option<Code>,
    /// Files that are read, to be offered.
    reading: JoinSet<Result<(UserId, Source), Failure>>,
}

/// Lines as they come.
type Lines = mpsc::Receiver<Result<String, Failure>>;

pub(super) async fn run(start: Start, started: impl FnOnce() + Send) -> Result<(), Failure> {
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let _only_one = start.lock_receiving().await?;
    started();
    let interactive = std::io::stdin().is_terminal();
    let manner = start.manner();
    let manner = Manner {
        passes_over_muted: true,
        // Where somebody types, somebody is there to decide.
        strangers: match start.settings.strangers {
            None if interactive => Strangers::Request,
            _ => manner.strangers,
        },
        ..manner
    };
    let mut chat = Chat {
        store: start.open_store(&account)?,
        printer: start.another_printer(),
        user: account.user().clone(),
        trust: manner.trust,
        retired: account.is_retired(),
        interactive,
        timeout: start.settings.timeout,
        quitting: None,
        outstanding: HashSet::new(),
        typed: VecDeque::new(),
        failed: None,
        reading: JoinSet::new(),
    };
    let Start {
        settings,
        printer,
        stop,
        ..
    } = start;
    let parts = Parts {
        account,
        store,
        printer,
    };
    if chat.interactive {
        chat.printer.note(&format!(
            "You are {}. Type msg USER TEXT, /file USER PATH, /who, /help or /quit.",
            chat.user
        ))?;
    }
    let mut lines = stdin_lines::read(1);
    let limits = Limits {
        stop: stop.clone(),
        time: None,
        refusals: Refusals::End,
    };
    let reaching = reach(parts, &settings.broker, manner, limits);
    let reached = Box::pin(chat.meanwhile(&mut lines, reaching)).await?;
    if let Some(mut session) = reached {
        let ended = tokio::select! {
            ended = chat.talk(&mut session, &mut lines) => ended,
            () = stop.cancelled() => Ok(()),
        };
        let closed = session.close().await;
        ended.and(closed)?;
    }
    match chat.failed {
        // Somebody at a terminal has seen it. A script learns it from the exit code.
        Some(code) if !chat.interactive => Err(Failure {
            silent: true,
            ..Failure::new(code, "", "")
        }),
        _ => Ok(()),
    }
}

impl Chat {
    /// Takes lines while the broker is not reached: they go into the outbox.
    async fn meanwhile(
        &mut self,
        lines: &mut Lines,
        reaching: impl Future<Output = Result<Option<Session>, Failure>>,
    ) -> Result<Option<Session>, Failure> {
        let mut reaching = std::pin::pin!(reaching);
        loop {
            if self.is_done() {
                return Ok(None);
            }
            tokio::select! {
                reached = &mut reaching => return reached,
                line = lines.recv(), if self.has_room() => {
                    self.line(line)?;
                }
                Some(read) = self.reading.join_next() => self.offer(read)?,
                () = at(self.quitting) => return Err(self.give_up(false)),
            }
        }
    }

    async fn talk(&mut self, session: &mut Session, lines: &mut Lines) -> Result<(), Failure> {
        loop {
            if self.is_done() {
                return Ok(());
            }
            tokio::select! {
                line = lines.recv(), if self.has_room() => {
                    if self.line(line)? {
                        session.carry()?;
                    }
                }
                Some(read) = self.reading.join_next() => {
                    self.offer(read)?;
                    session.carry()?;
                }
                happening = session.next() => match happening {
                    Ok(Happening::Outgoing(entry)) => self.outgoing(&entry)?,
                    Ok(_) => {}
                    // Nobody reads any more: what comes stays unshown for the next run, and what is to go goes.
                    Err(failure) if failure.reader_gone => session.show_no_more(),
                    Err(failure) => return Err(failure),
                },
                () = at(self.quitting) => return Err(self.give_up(session.is_connected())),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.quitting.is_some() && self.outstanding.is_empty() && self.reading.is_empty()
    }

    fn has_room(&self) -> bool {
        self.quitting.is_none() && (self.interactive || self.outstanding.len() < MAX_OUTSTANDING)
    }

    /// Deals with a line, or with the end of them; whether there is something new to send.
    fn line(&mut self, line: Option<Result<String, Failure>>) -> Result<bool, Failure> {
        let before = self.outstanding.len();
        let quit = match line {
            Some(Ok(line)) => self.obey(&line)?,
            Some(Err(failure)) => {
                self.failed(&failure)?;
                false
            }
            None => true,
        };
        if quit {
            self.quitting = Some(Instant::now() + self.timeout);
        }
        Ok(self.outstanding.len() > before)
    }

    /// Writes a message into the outbox. When it returns, the message is on disk.
    fn post(&mut self, to: &UserId, content: &Content) -> Result<MessageId, Failure> {
        permit(&self.store, self.trust, self.retired, to)?;
        Ok(enqueue(&mut self.store, to, content, clock::now())?)
    }

    /// Does what a line says; whether it was to quit.
    fn obey(&mut self, line: &str) -> Result<bool, Failure> {
        match Line::parse(line) {
            Line::Empty => {}
            Line::Quit => return Ok(true),
            Line::Help => self.printer.note(HELP)?,
            Line::Who => {
                let contacts = self.store.contacts()?;
                if contacts.is_empty() {
                    self.printer.note("nobody yet: write to somebody")?;
                }
                for contact in &contacts {
                    self.printer.print(&crate::contact::listed(contact))?;
                }
                for conversation in &self.store.conversations()? {
                    if !conversation.is_ordinary(clock::now()) {
                        self.printer.print(&Event::conversation(conversation))?;
                    }
                }
            }
            Line::File { to, path } => {
                if let Err(failure) = self.read(&to, path) {
                    self.failed(&failure)?;
                }
            }
            Line::Files => {
                let entries = self.store.files(LISTED_FILES)?;
                if entries.is_empty() {
                    self.printer.note("no file was offered")?;
                }
                for entry in &entries {
                    self.printer.print(&Event::file(entry))?;
                }
            }
            Line::Save { file, folder } => {
                let folder =
                    super::files::folder(folder, self.store.file_rules().downloads.as_deref());
                let saving = files::find(&self.store, &file).and_then(|entry| {
                    let saving = files::save(&mut self.store, entry.number, &folder, clock::now())?;
                    Ok((entry.number, saving))
                });
                match saving {
                    Err(error) => self.failed(&error.into())?,
                    Ok((_, Saving::Fetching)) => {
                        self.printer.note("it is saved when all of it is here")?
                    }
                    Ok((number, Saving::Saved(_))) => self.say_file(number)?,
                }
            }
            Line::Cancel { file } => {
                let cancelled = files::find(&self.store, &file).and_then(|entry| {
                    files::cancel(&mut self.store, entry.number, clock::now())?;
                    Ok(entry.number)
                });
                match cancelled {
                    Err(error) => self.failed(&error.into())?,
                    Ok(number) => self.say_file(number)?,
                }
            }
            Line::Unknown => self.failed(&Failure::new(
                Code::Usage,
                "that is no command",
                "Type msg USER TEXT, or /help.",
            ))?,
            Line::Message { to, text } => match parse_user(&to) {
                Err(failure) => self.failed(&failure)?,
                Ok(to) if to == self.user => self.failed(&Failure::new(
                    Code::Usage,
                    format!("{to} is you"),
                    "Name somebody else.",
                ))?,
                Ok(to) => {
                    let posted = self.post(&to, &Content::Text { text });
                    self.unless_failed(posted)?;
                }
            },
            Line::Reply { which, text } => {
                let posted = self.reply(&which, text);
                self.unless_failed(posted)?;
            }
            Line::Edit { which, text } => {
                let posted = self.edit(&which, text);
                self.unless_failed(posted)?;
            }
            Line::Delete { which } => {
                let posted = self.delete(&which);
                self.unless_failed(posted)?;
            }
            Line::Expire { with, time } => {
                let posted = self.expire(&with, &time);
                self.unless_failed(posted)?;
            }
            Line::History { with } => {
                let shown = self.history(&with);
                self.unless_failed(shown)?;
            }
            Line::Requests => {
                let requests = crate::contact::requests(&self.store)?;
                if requests.is_empty() {
                    self.printer.note("nobody asks to be let in")?;
                }
                for request in &requests {
                    self.printer.print(request)?;
                }
            }
            Line::Deal { how, with } => {
                let dealt = self.deal(how, &with);
                self.unless_failed(dealt)?;
            }
        }
        Ok(false)
    }

    /// Keeps account of what is on its way, or says why nothing is.
    fn unless_failed(
        &mut self,
        posted: Result<impl Into<Option<MessageId>>, Failure>,
    ) -> Result<(), Failure> {
        let id = match posted {
            Ok(posted) => posted.into(),
            Err(failure) => return self.failed(&failure),
        };
        if let Some(id) = id {
            self.outstanding.insert(id);
            self.typed.push_back(id);
            if self.typed.len() > MAX_TYPED {
                self.typed.pop_front();
            }
        }
        Ok(())
    }

    fn reply(&mut self, which: &str, text: String) -> Result<MessageId, Failure> {
        let named = match MessageId::parse(which) {
            Ok(id) => conversation::by_id(&self.store, &id, None)?,
            Err(_) => conversation::last(&self.store, &self.other(which)?, false)?
                .ok_or(ChangeError::NotHere)?,
        };
        let content = conversation::answer(&self.user, &named, text);
        self.post(&named.partner, &content)
    }

    fn edit(&mut self, which: &str, text: String) -> Result<MessageId, Failure> {
        let named = super::change::which(&self.store, which, None)?;
        let content = conversation::edit(&self.store, &named, text)?;
        self.post(&named.partner, &content)
    }

    fn delete(&mut self, which: &str) -> Result<Option<MessageId>, Failure> {
        let named = super::change::which(&self.store, which, None)?;
        let Some(content) = conversation::delete(&mut self.store, &named)? else {
            self.printer.note("deleted before it left this machine")?;
            return Ok(None);
        };
        let id = self.post(&named.partner, &content)?;
        self.printer.note(&format!(
            "{} is asked to delete it. {DELETION_WARNING}",
            named.partner
        ))?;
        Ok(Some(id))
    }

    fn expire(&mut self, with: &str, time: &str) -> Result<MessageId, Failure> {
        let with = self.other(with)?;
        let lifetime = parse_lifetime(time)
            .map_err(|problem| Failure::new(Code::Usage, "that is no such time", problem))?;
        let content = conversation::set_lifetime(&self.store, &with, lifetime, clock::now())?;
        let id = self.post(&with, &content)?;
        self.printer.note(&match lifetime {
            Some(lifetime) => format!(
                "messages with {with} disappear from now on after {}. {LIFETIME_WARNING}",
                lifetime_words(lifetime)
            ),
            None => format!("messages with {with} stay from now on"),
        })?;
        Ok(id)
    }

    fn history(&mut self, with: &str) -> Result<Option<MessageId>, Failure> {
        let range = HistoryRange {
            with: Some(self.other(with)?),
            ..HistoryRange::default()
        };
        let trust = Trust::read(&self.store)?;
        for place in self.store.history(&range, RECALLED)?.into_iter().rev() {
            if let Some(entry) = self.store.history_entry(place)? {
                if !self.printer.is_json() {
                    self.printer.note(&format!("{}:", entry.id()))?;
                }
                self.printer
                    .recall(&Remembered::new(&self.store, &entry, &trust)?)?;
            }
        }
        Ok(None)
    }

    fn deal(&mut self, how: Dealing, with: &str) -> Result<Option<MessageId>, Failure> {
        let with = self.other(with)?;
        match how {
            Dealing::Accept => {
                if !self.store.accept_contact(&with)? {
                    return Err(Failure::new(
                        Code::Failed,
                        format!("{with} is not a contact yet"),
                        "Who asks: /requests",
                    ));
                }
                self.printer.note(&format!(
                    "{with} is let in, and learns when their messages arrive"
                ))?;
            }
            Dealing::Block => {
                self.store.block(&with)?;
                self.printer.note(&format!(
                    "{with} is blocked: what they send is dropped, and they are told nothing"
                ))?;
            }
            Dealing::Unblock => {
                self.store.unblock(&with)?;
            }
            Dealing::Mute => self.store.mute(&with, Some(Timestamp::MAX))?,
            Dealing::Unmute => self.store.mute(&with, None)?,
        }
        if !matches!(how, Dealing::Accept | Dealing::Block) {
            let how = Event::conversation(&self.store.conversation(&with)?);
            self.printer.print(&how)?;
        }
        Ok(None)
    }

    /// Somebody, who is not us.
    fn other(&self, name: &str) -> Result<UserId, Failure> {
        let user = parse_user(name)?;
        match user == self.user {
            true => Err(super::send::is_you(&user)),
            false => Ok(user),
        }
    }

    /// Begins to read a file, to offer it.
    fn read(&mut self, to: &str, path: PathBuf) -> Result<(), Failure> {
        let to = parse_user(to)?;
        if to == self.user {
            return Err(Failure::new(
                Code::Usage,
                format!("{to} is you"),
                "Name somebody else.",
            ));
        }
        permit(&self.store, self.trust, self.retired, &to)?;
        files::check_size(&self.store, Source::size(&path)?)?;
        self.reading
            .spawn_blocking(move || Ok((to, Source::look(&path, |_| {})?)));
        Ok(())
    }

    /// Offers a file that was read.
    fn offer(
        &mut self,
        read: Result<Result<(UserId, Source), Failure>, JoinError>,
    ) -> Result<(), Failure> {
        let failed = |error: JoinError| Err(Failure::new(Code::Failed, error.to_string(), ""));
        let offered = read.unwrap_or_else(failed).and_then(|(to, source)| {
            permit(&self.store, self.trust, self.retired, &to)?;
            Ok(files::offer(&mut self.store, &to, &source, clock::now())?)
        });
        match offered {
            Err(failure) => self.failed(&failure),
            Ok((number, id)) => {
                self.outstanding.insert(id);
                self.say_file(number)
            }
        }
    }

    fn say_file(&mut self, number: i64) -> Result<(), Failure> {
        if let Some(entry) = self.store.file(number)? {
            self.printer.print(&Event::file(&entry))?;
        }
        Ok(())
    }

    /// A message got further, or does not.
    fn outgoing(&mut self, entry: &OutboxEntry) -> Result<(), Failure> {
        let printer = &mut self.printer;
        if let Some(problem) = &entry.problem {
            if self.outstanding.remove(&entry.id) {
                self.failed(&problem.into())?;
            } else if printer.is_json() {
                printer.print(&Event::outbox(entry))?;
            }
            return Ok(());
        }
        self.outstanding.remove(&entry.id);
        if printer.is_json() || !self.interactive {
            printer.print(&Event::outbox(entry))?;
        } else if self.typed.contains(&entry.id) {
            // Somebody at a terminal wants to know that it went, not its number.
            printer.note(&format!("({} to {})", entry.state.as_str(), entry.to))?;
        }
        Ok(())
    }

    /// The end, with messages that the broker has not taken.
    fn give_up(&self, connected: bool) -> Failure {
        let (code, why) = match connected {
            true => (Code::Pending, "the broker has not taken them in time"),
            false => (Code::Unreachable, "the broker is not reached"),
        };
        Failure::new(
            code,
            format!("{} messages are not sent: {why}", self.outstanding.len()),
            "They are kept in the outbox and go with whatever connects next.",
        )
    }

    /// Says what went wrong with one line; the chat goes on.
    fn failed(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.failed = Some(failure.code);
        self.printer.print(&failure.event())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let message = |to: &str, text: &str| Line::Message {
            to: to.into(),
            text: text.into(),
        };
        for (line, expected) in [
            ("msg bob Hello Bob!", message("bob", "Hello Bob!")),
            ("  /msg   bob   two  spaces ", message("bob", "two  spaces")),
            ("msg bob /quit", message("bob", "/quit")),
            ("/who", Line::Who),
            ("/help", Line::Help),
            ("/quit", Line::Quit),
            ("\r", Line::Empty),
            ("", Line::Empty),
            (
                "/file bob a b.txt ",
                Line::File {
                    to: "bob".into(),
                    path: "a b.txt".into(),
                },
            ),
            ("/file bob", Line::Unknown),
            ("/files", Line::Files),
            (
                "/save 3",
                Line::Save {
                    file: "3".into(),
                    folder: None,
                },
            ),
            (
                "/save 3 my files",
                Line::Save {
                    file: "3".into(),
                    folder: Some("my files".into()),
                },
            ),
            ("/save", Line::Unknown),
            ("/cancel 3", Line::Cancel { file: "3".into() }),
            ("msg bob", Line::Unknown),
            ("msg", Line::Unknown),
            ("Hello", Line::Unknown),
            ("/quit now", Line::Unknown),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
