//! `sealpost chat`: talk and listen in one, line by line, from a terminal or a pipe.

use std::collections::{HashSet, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use sealpost_core::{Content, MessageId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Start, parse_user, stdin_lines};
use crate::clock;
use crate::deadline::at;
use crate::event::{Event, Printer};
use crate::exit::{Code, Failure};
use crate::outgoing::{enqueue, permit};
use crate::reaching::{Limits, Refusals, reach};
use crate::session::{Happening, Parts, Session};
use crate::store::{OutboxEntry, Store};
use crate::trust_policy::TrustPolicy;

/// How many messages may be on their way before the next line is read: a pipe with a million lines waits.
const MAX_OUTSTANDING: usize = 64;
/// Of how many messages the arrival is told at a terminal.
const MAX_TYPED: usize = 1_024;
const HELP: &str = "\
msg USER TEXT   send a text
/who            the people you know
/help           this
/quit           end (so does Ctrl-D)";

/// One line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Message { to: String, text: String },
    Who,
    Help,
    Quit,
    Empty,
    Unknown,
}

impl Line {
    fn parse(line: &str) -> Line {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Line::Empty,
            "/help" | "/?" | "help" => Line::Help,
            "/who" | "who" if rest.is_empty() => Line::Who,
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
}

/// Lines as they come.
type Lines = mpsc::Receiver<Result<String, Failure>>;

pub(super) async fn run(start: Start, started: impl FnOnce() + Send) -> Result<(), Failure> {
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let _only_one = start.lock_receiving().await?;
    started();
    let manner = start.manner();
    let mut chat = Chat {
        store: start.open_store(&account)?,
        printer: start.another_printer(),
        user: account.user().clone(),
        trust: manner.trust,
        retired: account.is_retired(),
        interactive: std::io::stdin().is_terminal(),
        timeout: start.settings.timeout,
        quitting: None,
        outstanding: HashSet::new(),
        typed: VecDeque::new(),
        failed: None,
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
            "You are {}. Type msg USER TEXT, /who, /help or /quit.",
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
        self.quitting.is_some() && self.outstanding.is_empty()
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
                Ok(to) => match self.post(&to, &Content::Text { text }) {
                    Ok(id) => {
                        self.outstanding.insert(id);
                        self.typed.push_back(id);
                        if self.typed.len() > MAX_TYPED {
                            self.typed.pop_front();
                        }
                    }
                    Err(failure) => self.failed(&failure)?,
                },
            },
        }
        Ok(false)
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
            ("msg bob", Line::Unknown),
            ("msg", Line::Unknown),
            ("Hello", Line::Unknown),
            ("/quit now", Line::Unknown),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
