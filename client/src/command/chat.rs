//! `sealpost chat`: talk and listen in one, line by line, from a terminal or a pipe.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, IsTerminal, Read};
use std::time::Duration;

use sealpost_core::{Content, MAX_PLAINTEXT, MessageId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::send::{book, no_keys};
use super::{Start, contacts, parse_user};
use crate::exit::{Code, Failure, not_read, not_trusted};
use crate::session::{Happening, Outgoing, Purpose, Session};

/// How many messages may be on their way before the next line is read: a pipe with a million lines waits.
const MAX_OUTSTANDING: usize = 64;
/// The longest line, in bytes: a message of the greatest size and its `msg NAME`.
const MAX_LINE: u64 = MAX_PLAINTEXT as u64 + 128;

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

/// A text whose recipient's keys are not there yet.
struct Waiting {
    text: String,
    deadline: Instant,
}

struct Chat {
    session: Session,
    /// Whether somebody types.
    interactive: bool,
    timeout: Duration,
    waiting: HashMap<UserId, VecDeque<Waiting>>,
    in_flight: VecDeque<Outgoing>,
    /// The last message handed to the connection, for each recipient: what `prev` of the next one names.
    last: HashMap<UserId, MessageId>,
    /// The last line that failed.
    failed: Option<Code>,
}

pub(super) async fn run(start: Start, started: impl FnOnce() + Send) -> Result<(), Failure> {
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let _only_one = start.lock_receiving().await?;
    started();
    let Start {
        settings,
        printer,
        stop,
        ..
    } = start;
    let interactive = std::io::stdin().is_terminal();
    let mut session = tokio::select! {
        session = Session::connect(account, store, printer, settings.broker, Purpose::Receive, None) => session?,
        () = stop.cancelled() => return Ok(()),
    };
    session.trust = settings.trust;
    let mut chat = Chat {
        session,
        interactive,
        timeout: settings.timeout,
        waiting: HashMap::new(),
        in_flight: VecDeque::new(),
        last: HashMap::new(),
        failed: None,
    };
    if interactive {
        chat.session.printer.note(&format!(
            "You are {}. Type msg USER TEXT, /who, /help or /quit.",
            chat.session.account.user()
        ))?;
    }
    let ended = tokio::select! {
        ended = chat.talk(read_lines()) => ended,
        () = stop.cancelled() => Ok(()),
    };
    let Chat {
        session, failed, ..
    } = chat;
    let closed = session.close().await;
    ended.and(closed)?;
    match failed {
        // Somebody at a terminal has seen it. A script learns it from the exit code.
        Some(code) if !interactive => Err(Failure {
            silent: true,
            ..Failure::new(code, "", "")
        }),
        _ => Ok(()),
    }
}

impl Chat {
    async fn talk(
        &mut self,
        mut lines: mpsc::Receiver<Result<String, Failure>>,
    ) -> Result<(), Failure> {
        let mut quitting: Option<Instant> = None;
        loop {
            if quitting.is_some() && self.outstanding() == 0 {
                return Ok(());
            }
            let next_deadline = self
                .waiting
                .values()
                .filter_map(|queue| queue.front().map(|waiting| waiting.deadline))
                .chain(quitting)
                .min();
            tokio::select! {
                line = lines.recv(), if quitting.is_none() && self.outstanding() < MAX_OUTSTANDING => {
                    let quit = match line {
                        Some(Ok(line)) => self.line(&line)?,
                        Some(Err(failure)) => {
                            self.failed(&failure)?;
                            false
                        }
                        None => true,
                    };
                    if quit {
                        quitting = Some(Instant::now() + self.timeout);
                    }
                }
                happening = self.session.next() => match happening {
                    Ok(Happening::Keys(user)) => self.flush(&user)?,
                    Ok(_) => {}
                    // Nobody reads any more: what comes stays unshown for the next run, and what is to go goes.
                    Err(failure) if failure.reader_gone => self.session.show_no_more(),
                    Err(failure) => return Err(failure),
                },
                answer = front(&mut self.in_flight) => if let Some(outgoing) = self.in_flight.pop_front() {
                    self.answered(&outgoing, answer)?;
                },
                () = at(next_deadline) => {
                    self.expire()?;
                    let over = quitting.is_some_and(|deadline| deadline <= Instant::now());
                    if over && self.outstanding() > 0 {
                        return self.give_up();
                    }
                }
            }
        }
    }

    fn outstanding(&self) -> usize {
        self.in_flight.len() + self.waiting.values().map(VecDeque::len).sum::<usize>()
    }

    /// Does what a line says; whether it was to quit.
    fn line(&mut self, line: &str) -> Result<bool, Failure> {
        match Line::parse(line) {
            Line::Empty => {}
            Line::Quit => return Ok(true),
            Line::Help => self.session.printer.note(HELP)?,
            Line::Who => {
                let contacts = self.session.store.contacts()?;
                if contacts.is_empty() {
                    self.session.printer.note("nobody yet: write to somebody")?;
                }
                for contact in &contacts {
                    self.session.printer.print(&contacts::listed(contact))?;
                }
            }
            Line::Unknown => self.failed(&Failure::new(
                Code::Usage,
                "that is no command",
                "Type msg USER TEXT, or /help.",
            ))?,
            Line::Message { to, text } => match parse_user(&to) {
                Err(failure) => self.failed(&failure)?,
                Ok(to) if to == *self.session.account.user() => self.failed(&Failure::new(
                    Code::Usage,
                    format!("{to} is you"),
                    "Name somebody else.",
                ))?,
                Ok(to) => {
                    if let Err(failure) = self.session.permit(&to) {
                        self.failed(&failure)?;
                        return Ok(false);
                    }
                    let deadline = Instant::now() + self.timeout;
                    if self.session.keys(&to).is_none() {
                        self.session.want_keys(&to);
                    }
                    self.waiting
                        .entry(to.clone())
                        .or_default()
                        .push_back(Waiting { text, deadline });
                    self.flush(&to)?;
                }
            },
        }
        Ok(false)
    }

    /// Sends, or refuses, what waits for this user's keys, if those are known now.
    fn flush(&mut self, to: &UserId) -> Result<(), Failure> {
        while self.session.keys(to).is_some() {
            let Some(waiting) = self.waiting.get_mut(to).and_then(VecDeque::pop_front) else {
                break;
            };
            let why_not = match self.session.keys(to) {
                Some(Err(why)) => Some(not_trusted(to.as_str(), why)),
                _ => None,
            };
            let sent = match why_not {
                Some(failure) => Err(failure),
                None => self.send(to, waiting.text),
            };
            if let Err(failure) = sent {
                self.failed(&failure)?;
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        Ok(())
    }

    fn send(&mut self, to: &UserId, text: String) -> Result<(), Failure> {
        let prev = match self.last.get(to) {
            Some(id) => Some(*id),
            None => self.session.store.last_sent(to)?,
        };
        let outgoing = self.session.send(to, prev, &Content::Text { text })?;
        self.last.insert(to.clone(), outgoing.id);
        self.in_flight.push_back(outgoing);
        Ok(())
    }

    fn answered(
        &mut self,
        outgoing: &Outgoing,
        answer: Result<
            Result<(), crate::mqtt::PublishError>,
            tokio::sync::oneshot::error::RecvError,
        >,
    ) -> Result<(), Failure> {
        match book(&mut self.session, outgoing, answer) {
            // Somebody at a terminal wants to know that it went, not its number.
            Ok(_) if self.interactive && !self.session.printer.is_json() => self
                .session
                .printer
                .note(&format!("(sent to {})", outgoing.to))?,
            Ok(sent) => self.session.printer.print(&sent)?,
            Err(failure) => {
                // The next message follows the last one that arrived.
                self.last.remove(&outgoing.to);
                self.failed(&failure)?;
            }
        }
        Ok(())
    }

    fn expire(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut late = Vec::new();
        for (user, queue) in &mut self.waiting {
            while queue.front().is_some_and(|waiting| waiting.deadline <= now) {
                queue.pop_front();
                late.push(user.clone());
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        for user in late {
            self.session.give_up_keys(&user)?;
            let failure = no_keys(&self.session, &user, self.timeout)?;
            self.failed(&failure)?;
        }
        Ok(())
    }

    /// The end, with messages that the broker never answered for.
    fn give_up(&mut self) -> Result<(), Failure> {
        let code = if self.session.is_connected() {
            Code::Failed
        } else {
            Code::Unreachable
        };
        Err(Failure::new(
            code,
            format!(
                "{} messages were not confirmed by the broker",
                self.outstanding()
            ),
            "Whether they went out is not known. Send them again: the recipient sees them twice at worst.",
        ))
    }

    /// Says what went wrong with one line; the chat goes on.
    fn failed(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.failed = Some(failure.code);
        self.session.printer.print(&failure.event())?;
        Ok(())
    }
}

/// The broker's answer to the oldest message under way.
async fn front(
    in_flight: &mut VecDeque<Outgoing>,
) -> Result<Result<(), crate::mqtt::PublishError>, tokio::sync::oneshot::error::RecvError> {
    match in_flight.front_mut() {
        Some(outgoing) => (&mut outgoing.answer).await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Reads standard input on a thread of its own, which may stay behind in a read when the program ends.
fn read_lines() -> mpsc::Receiver<Result<String, Failure>> {
    let (tx, rx) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut bytes = Vec::new();
            let line = match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(n) if n as u64 >= MAX_LINE && bytes.last() != Some(&b'\n') => {
                    if skip_line(&mut input).is_err() {
                        return;
                    }
                    Err(Failure::new(
                        Code::Failed,
                        format!("a line has more than {MAX_LINE} bytes"),
                        "Send it in parts.",
                    ))
                }
                Ok(_) => String::from_utf8(bytes).map_err(|_| {
                    Failure::new(
                        Code::Failed,
                        "a line is not UTF-8 text",
                        "Convert it first.",
                    )
                }),
                Err(error) => {
                    let _ = tx.blocking_send(Err(not_read(&error)));
                    return;
                }
            };
            if tx.blocking_send(line).is_err() {
                return;
            }
        }
    });
    rx
}

/// Reads up to the end of a line that is too long, without keeping it.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&b| b == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        input.consume(n);
        if end.is_some() {
            return Ok(());
        }
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

    #[test]
    fn an_endless_line_is_skipped_without_being_kept() {
        let mut input = std::io::Cursor::new(b"rest of a long line\nnext\n".to_vec());
        skip_line(&mut input).unwrap();
        let mut next = String::new();
        input.read_line(&mut next).unwrap();
        assert_eq!(next, "next\n");
        skip_line(&mut input).unwrap();
    }
}
