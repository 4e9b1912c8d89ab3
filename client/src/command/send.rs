//! `sealpost send`: into the outbox, and as far as was asked for.
//!
//! Once the messages are on disk, either another process of this home carries them (`chat`, `listen`, `daemon`) and we
//! watch the outbox, or we carry them ourselves until somebody wants the lock.

mod followed;

use std::collections::HashMap;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use sealpost_core::{Content, MAX_PLAINTEXT, MessageId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::followed::{Followed, bar};
use super::{Start, parse_user, stdin_lines};
use crate::account::Account;
use crate::cli::{Input, SendArguments, Wait, Waiting};
use crate::clock;
use crate::conversation::{self, ChangeError};
use crate::deadline::at;
use crate::event::{Event, Printer};
use crate::exit::{Code, Failure, not_connected, not_read};
use crate::files::{self, Source};
use crate::home::{Home, HomeError};
use crate::lines::next_lines;
use crate::outgoing::{enqueue_all, permit};
use crate::session::{Happening, Manner, Parts, Session};
use crate::store::{FileEntry, OutboxEntry, SendState, Store};
use sealpost_mqtt::Route;

/// How often the outbox is looked at while another process carries it, and how often we look whether we are to give
/// way.
const GLANCE: Duration = Duration::from_millis(50);
/// How long until a broker that is not there is tried again, when that was asked for.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// How many lines are read ahead, and written in one go.
const LINES: usize = 256;
/// How many messages of `--lines` may be on their way before more are read.
const MAX_OUTSTANDING: usize = 1_024;

pub(super) async fn run(
    mut start: Start,
    arguments: SendArguments,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let to = parse_user(&arguments.to)?;
    if to == start.settings.user {
        return Err(is_you(&to));
    }
    let account = start.unlock()?;
    let content = match arguments.lines || arguments.file.is_some() {
        true => None,
        false => Some(content(
            &arguments.text,
            arguments.input,
            &mut start.printer,
        )?),
    };
    let store = start.open_store(&account)?;
    let content = match (arguments.reply.as_deref(), content) {
        (Some(which), Some(Content::Text { text })) => {
            let which = match which {
                "last" => conversation::last(&store, &to, false)?.ok_or(ChangeError::NotHere)?,
                id => conversation::by_id(&store, &super::change::parse_id(id)?, Some(&to))?,
            };
            Some(conversation::answer(account.user(), &which, text))
        }
        (_, content) => content,
    };
    let parcel = Parcel {
        to,
        content,
        file: arguments.file,
        input: arguments.input,
        waiting: arguments.waiting,
    };
    carry_out(start, account, store, parcel, started).await
}

/// What is to be sent.
pub(super) struct Parcel {
    pub(super) to: UserId,
    /// `None`: a file, or lines of standard input.
    pub(super) content: Option<Content>,
    pub(super) file: Option<PathBuf>,
    pub(super) input: Input,
    pub(super) waiting: Waiting,
}

/// Sends it, as far as was asked for.
pub(super) async fn carry_out(
    start: Start,
    account: Account,
    store: Store,
    parcel: Parcel,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let Parcel {
        to,
        content,
        file,
        input,
        waiting,
    } = parcel;
    if to == start.settings.user {
        return Err(is_you(&to));
    }
    permit(&store, start.settings.trust, account.is_retired(), &to)?;
    // Before anything is kept, which would go once more when the command is given again as it should have been.
    start.settings.broker.check()?;
    // Read while a signal still ends us at once.
    let source = match &file {
        None => None,
        Some(path) => {
            let size = Source::size(path)?;
            files::check_size(&store, size)?;
            let bar = bar(&start.printer, size, "reading");
            let source = Source::look(path, |read| {
                if let Some(bar) = &bar {
                    bar.set_position(read);
                }
            });
            bar.inspect(|bar| bar.finish_and_clear());
            Some(source?)
        }
    };
    started();
    let reach = match waiting.wait {
        None | Some(Wait::Sent) => SendState::Sent,
        Some(Wait::Queued) => SendState::Queued,
        Some(Wait::Delivered) => SendState::Delivered,
        Some(Wait::Read) => SendState::Read,
    };
    let timeout = waiting.timeout.unwrap_or(start.settings.timeout);
    let mut errand = Errand {
        to,
        reach,
        demanded: waiting.wait.is_some(),
        timeout,
        deadline: None,
        lines: None,
        input,
        outstanding: HashMap::new(),
        failed: None,
        file: None,
        manner: quietly(&start),
        broker: start.settings.broker.clone(),
        disconnected: false,
        unreachable: None,
    };
    let mut parts = Parts {
        account,
        store,
        printer: start.printer,
    };
    match (content, source) {
        (Some(content), _) => {
            errand.enqueue(&mut parts.store, &mut parts.printer, &[content])?;
            errand.deadline = Some(Instant::now() + timeout);
        }
        (None, Some(source)) => {
            errand.offer(&mut parts.store, &mut parts.printer, &source, waiting.wait)?;
            errand.deadline = Some(Instant::now() + timeout);
        }
        (None, None) => errand.lines = Some(stdin_lines::read(LINES)),
    }
    errand.finish(&start.home, parts, &start.stop).await
}

/// What comes meanwhile is kept for who reads it.
fn quietly(start: &Start) -> Manner {
    Manner {
        limit: 0,
        quiet: true,
        ..start.manner()
    }
}

/// Waits until a file is here, or nothing of it comes for so long.
pub(super) async fn follow(
    start: Start,
    account: Account,
    store: Store,
    entry: FileEntry,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let timeout = timeout.unwrap_or(start.settings.timeout);
    let mut errand = Errand {
        to: entry.peer.clone(),
        reach: SendState::Sent,
        demanded: false,
        timeout,
        deadline: Some(Instant::now() + timeout),
        lines: None,
        input: Input::Text,
        outstanding: HashMap::new(),
        failed: None,
        file: Some(Followed::new(&entry, &start.printer)),
        manner: quietly(&start),
        broker: start.settings.broker.clone(),
        disconnected: false,
        unreachable: None,
    };
    let parts = Parts {
        account,
        store,
        printer: start.printer,
    };
    errand.finish(&start.home, parts, &start.stop).await
}

const KEPT_FILE: &str =
    "It is kept and goes on with whatever connects; to look at it or cancel it: sealpost files";
const KEPT: &str = "The message is kept and goes by itself with whatever connects; to look at it or forget it: sealpost outbox";

struct Errand {
    to: UserId,
    reach: SendState,
    /// Whether `--wait` was given: then not to get there is a failure.
    demanded: bool,
    timeout: Duration,
    /// None while more is to be read.
    deadline: Option<Instant>,
    lines: Option<mpsc::Receiver<Result<String, Failure>>>,
    input: Input,
    /// What has not got there, and what hinders it.
    outstanding: HashMap<MessageId, Option<Failure>>,
    /// Of messages that do not get there.
    failed: Option<Failure>,
    /// A file that is waited for, too.
    file: Option<Followed>,
    manner: Manner,
    broker: Route,
    disconnected: bool,
    unreachable: Option<Failure>,
}

/// Why carrying, or watching, paused.
#[derive(Debug)]
enum Pause {
    /// Everything is where it was to get.
    Done,
    /// Look again who carries.
    Again,
    /// The broker is not there.
    Unreachable(Failure),
    TimeIsUp,
}

impl Errand {
    async fn finish(
        &mut self,
        home: &Home,
        parts: Parts,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let ended = tokio::select! {
            ended = self.run(home, parts) => ended,
            () = stop.cancelled() => Err(Failure::interrupted()),
        };
        match ended {
            Err(failure) if self.is_kept() => Err(Failure {
                hint: format!("{}\n  {}", failure.hint, self.kept())
                    .trim_start()
                    .to_owned(),
                ..failure
            }),
            ended => ended,
        }
    }

    /// What becomes of it.
    fn kept(&self) -> &'static str {
        match &self.file {
            Some(_) => KEPT_FILE,
            None => KEPT,
        }
    }

    async fn run(&mut self, home: &Home, parts: Parts) -> Result<(), Failure> {
        let mut parts = parts;
        loop {
            // Being queued is all that was asked for: nothing is waited for, not even a broker.
            if self.is_over() {
                return self.verdict(&mut parts.printer);
            }
            // Who waits for the lock comes first.
            let lock = match home.is_wanted()? {
                true => None,
                false => match home.lock_errand() {
                    Ok(lock) => Some(lock),
                    Err(HomeError::AlreadyReceiving { .. }) => None,
                    Err(error) => return Err(error.into()),
                },
            };
            let pause = match lock {
                Some(_lock) => {
                    let pause;
                    (parts, pause) = Box::pin(self.carry(home, parts)).await;
                    pause?
                }
                None => self.watch(&mut parts).await?,
            };
            match pause {
                Pause::Again => {}
                Pause::Done | Pause::TimeIsUp => return self.verdict(&mut parts.printer),
                // That a broker is away is no failure of ours: the message is safe.
                Pause::Unreachable(failure) if !self.demanded && self.lines.is_none() => {
                    return Ok(self.remark(&mut parts.printer, &failure)?);
                }
                Pause::Unreachable(failure) => {
                    self.unreachable = Some(failure);
                    tokio::select! {
                        () = tokio::time::sleep(CONNECT_AGAIN) => {}
                        () = at(self.deadline) => return self.verdict(&mut parts.printer),
                    }
                }
            }
        }
    }

    /// Whether something is left in the outbox that was to get further.
    fn is_kept(&self) -> bool {
        !self.outstanding.is_empty() || self.file.as_ref().is_some_and(|file| !file.is_over())
    }

    fn is_over(&self) -> bool {
        self.lines.is_none() && !self.is_kept()
    }

    /// Sends by ourselves.
    async fn carry(&mut self, home: &Home, parts: Parts) -> (Parts, Result<Pause, Failure>) {
        let (timeout, deadline) = (self.timeout, self.deadline);
        let broker = self.broker.clone();
        let until = async {
            tokio::select! {
                () = wanted(home) => gave_way(),
                () = at(deadline) => not_connected(&broker, timeout),
            }
        };
        let connecting = Session::connect(parts, self.broker.clone(), self.manner, until);
        let mut session = match Box::pin(connecting).await {
            Ok(session) => session,
            Err(not) => {
                let pause = match not.failure.code {
                    _ if not.failure == gave_way() => Ok(Pause::Again),
                    Code::Unreachable => Ok(Pause::Unreachable(not.failure)),
                    _ => Err(not.failure),
                };
                return (not.parts, pause);
            }
        };
        self.unreachable = None;
        let pause = self.serve(&mut session, home).await;
        let (parts, left) = session.leave().await;
        (parts, pause.and_then(|pause| left.map(|()| pause)))
    }

    async fn serve(&mut self, session: &mut Session, home: &Home) -> Result<Pause, Failure> {
        session.carry()?;
        let mut wanted = std::pin::pin!(wanted(home));
        loop {
            if self.is_over() {
                return Ok(Pause::Done);
            }
            tokio::select! {
                happening = session.next() => {
                    match happening? {
                        Happening::Outgoing(entry) => self.got(&entry, &mut session.printer)?,
                        Happening::File(entry) => self.moved(&entry, &mut session.printer)?,
                        _ => {}
                    }
                    self.disconnected = !session.is_connected();
                }
                lines = next_lines(&mut self.lines, LINES), if self.outstanding.len() < MAX_OUTSTANDING => {
                    let contents = self.read(lines)?;
                    let Session { store, printer, .. } = &mut *session;
                    self.enqueue(store, printer, &contents)?;
                    session.carry()?;
                }
                () = &mut wanted => return Ok(Pause::Again),
                () = at(self.deadline) => return Ok(Pause::TimeIsUp),
            }
        }
    }

    /// Watches while another process sends.
    async fn watch(&mut self, parts: &mut Parts) -> Result<Pause, Failure> {
        let Parts { store, printer, .. } = parts;
        let asked: Vec<MessageId> = self.outstanding.keys().copied().collect();
        for id in asked {
            match store.outbox_entry(&id)? {
                Some(entry) => self.got(&entry, printer)?,
                // Dropped meanwhile.
                None => drop(self.outstanding.remove(&id)),
            }
        }
        if let Some(number) = self.file.as_ref().map(|file| file.number)
            && let Some(entry) = store.file(number)?
        {
            self.moved(&entry, printer)?;
        }
        if self.is_over() {
            return Ok(Pause::Done);
        }
        tokio::select! {
            lines = next_lines(&mut self.lines, LINES), if self.outstanding.len() < MAX_OUTSTANDING => {
                let contents = self.read(lines)?;
                self.enqueue(store, printer, &contents)?;
                Ok(Pause::Again)
            }
            () = tokio::time::sleep(GLANCE) => Ok(Pause::Again),
            () = at(self.deadline) => Ok(Pause::TimeIsUp),
        }
    }

    /// Offers a file.
    fn offer(
        &mut self,
        store: &mut Store,
        printer: &mut Printer,
        source: &Source,
        wait: Option<Wait>,
    ) -> Result<(), Failure> {
        let now = clock::now();
        let (number, id) = files::offer(store, &self.to, source, now)?;
        if let Some(entry) = store.outbox_entry(&id)?
            && (printer.is_json() || self.reach == SendState::Queued)
        {
            printer.print(&Event::outbox(&entry))?;
        }
        if self.reach == SendState::Queued {
            return Ok(());
        }
        self.outstanding.insert(id, None);
        if wait != Some(Wait::Sent)
            && let Some(entry) = store.file(number)?
        {
            self.file = Some(Followed::new(&entry, printer));
        }
        Ok(())
    }

    /// A file got further, or does not. As long as it moves there is time.
    fn moved(&mut self, entry: &FileEntry, printer: &mut Printer) -> Result<(), Failure> {
        if let Some(file) = &mut self.file
            && file.moved(entry, printer)?
        {
            self.deadline = Some(Instant::now() + self.timeout);
        }
        Ok(())
    }

    fn enqueue(
        &mut self,
        store: &mut Store,
        printer: &mut Printer,
        contents: &[Content],
    ) -> Result<(), Failure> {
        if contents.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        for id in enqueue_all(store, &self.to, contents, now)? {
            if printer.is_json() || self.reach == SendState::Queued {
                let entry = OutboxEntry {
                    to: self.to.clone(),
                    id,
                    written: now,
                    state: SendState::Queued,
                    changed: now,
                    problem: None,
                };
                printer.print(&Event::outbox(&entry))?;
            }
            if self.reach != SendState::Queued {
                self.outstanding.insert(id, None);
            }
        }
        Ok(())
    }

    /// Lines that came, as contents; the end of the input starts the clock.
    fn read(&mut self, lines: Vec<Result<String, Failure>>) -> Result<Vec<Content>, Failure> {
        if lines.is_empty() {
            self.lines = None;
            self.deadline = Some(Instant::now() + self.timeout);
        }
        let mut contents = Vec::with_capacity(lines.len());
        for line in lines {
            let line = line?;
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                contents.push(parse(line, self.input)?);
            }
        }
        Ok(contents)
    }

    /// A message got further, or does not.
    fn got(&mut self, entry: &OutboxEntry, printer: &mut Printer) -> Result<(), Failure> {
        let Some(problem) = self.outstanding.get_mut(&entry.id) else {
            return Ok(());
        };
        let failure = entry.problem.as_ref().map(Failure::from);
        if entry.state == SendState::Failed {
            self.failed = failure;
            self.outstanding.remove(&entry.id);
            return Ok(());
        }
        if entry.state >= self.reach {
            self.outstanding.remove(&entry.id);
            printer.print(&Event::outbox(entry))?;
            return Ok(());
        }
        // Where only a person can help there is nothing to wait for; and who did not ask to wait is told at once.
        if let Some(failure) = &failure
            && (failure.code == Code::Untrusted || !self.demanded)
        {
            return Err(failure.clone());
        }
        if printer.is_json() && *problem != failure {
            printer.print(&Event::outbox(entry))?;
        }
        *problem = failure;
        Ok(())
    }

    /// Time is up, or everything is answered.
    fn verdict(&mut self, printer: &mut Printer) -> Result<(), Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        if !self.is_kept() {
            return Ok(());
        }
        let hindered = self.outstanding.values().flatten().next().cloned();
        let failure = match hindered.or(self.unreachable.take()) {
            Some(failure) => failure,
            None if self.disconnected => Failure::new(
                Code::Unreachable,
                format!("the connection to {} was lost", self.broker),
                "",
            ),
            None if self.outstanding.is_empty() => match &mut self.file {
                Some(file) => file.verdict(),
                None => return Ok(()),
            },
            None => Failure::new(
                Code::Pending,
                format!(
                    "not {} within {} s",
                    self.reach.as_str(),
                    self.timeout.as_secs_f32()
                ),
                "",
            ),
        };
        if self.demanded {
            let code = match failure.code {
                Code::Unreachable => Code::Unreachable,
                _ => Code::Pending,
            };
            return Err(Failure { code, ..failure });
        }
        Ok(self.remark(printer, &failure)?)
    }

    /// Not a failure: the message is safe.
    fn remark(&self, printer: &mut Printer, failure: &Failure) -> std::io::Result<()> {
        printer.note(&format!("sealpost: {}\n  {}", failure.message, self.kept()))
    }
}

pub(super) fn is_you(user: &UserId) -> Failure {
    Failure::new(Code::Usage, format!("{user} is you"), "Name somebody else.")
}

/// Until somebody waits for the lock.
async fn wanted(home: &Home) {
    // A lock that cannot be looked at is not wanted; the one that we hold says more when it is taken again.
    while !home.is_wanted().unwrap_or(false) {
        tokio::time::sleep(GLANCE).await;
    }
}

fn gave_way() -> Failure {
    Failure::new(Code::Pending, "gave way", "")
}

fn parse(text: &str, input: Input) -> Result<Content, Failure> {
    match input {
        Input::Text => Ok(Content::Text {
            text: text.to_owned(),
        }),
        Input::Json => {
            let refused = |problem: String| {
                Failure::new(
                    Code::Usage,
                    problem,
                    "Give one JSON object a message, such as {\"kind\":\"reading\",\"celsius\":21.5}.",
                )
            };
            match Content::parse(text) {
                // Receipts are made by the program, for what it received.
                Ok(Content::Receipt(_)) => {
                    Err(refused("a receipt cannot be sent by hand".to_owned()))
                }
                Ok(content) => Ok(content),
                Err(error) => Err(refused(error.to_string())),
            }
        }
    }
}

/// What is to be sent: the words given, or standard input.
pub(super) fn content(
    words: &[String],
    input: Input,
    printer: &mut Printer,
) -> Result<Content, Failure> {
    if !words.is_empty() && *words != ["-"] {
        return parse(&words.join(" "), input);
    }
    parse(&standard_input(printer)?, input)
}

fn standard_input(printer: &mut Printer) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let _ = printer.note("sealpost: type the message; Ctrl-D on a line of its own ends it");
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PLAINTEXT + 1));
    stdin
        .lock()
        .take(MAX_PLAINTEXT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| not_read(&error))?;
    if bytes.len() > MAX_PLAINTEXT {
        return Err(Failure::new(
            Code::Failed,
            format!("standard input has more than {MAX_PLAINTEXT} bytes"),
            "Send it in parts.",
        ));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::new(
            Code::Failed,
            "standard input is not UTF-8 text",
            "Convert it first, for instance with base64.",
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "there is nothing to send",
            "Give the text after the name, or on standard input.",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
