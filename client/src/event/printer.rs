//! Where events are written.

use std::collections::HashSet;
use std::io::{self, Write};

use tokio::sync::mpsc;

use super::{ContactChangeKind, Event};
use crate::history::Remembered;

/// Writes events, as JSON or in words.
pub struct Printer {
    json: bool,
    /// Whether remarks that cannot be written are let go.
    lenient: bool,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Where they go instead, when a program of ours takes them.
    taker: Option<mpsc::UnboundedSender<Event>>,
    /// What was said already and is said once.
    said: HashSet<&'static str>,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Printer {
    /// To standard output and standard error.
    #[must_use]
    pub fn standard(json: bool) -> Printer {
        Printer::new(json, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// To anything.
    #[must_use]
    pub fn new(json: bool, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Printer {
        Printer {
            json,
            lenient: false,
            out,
            err,
            taker: None,
            said: HashSet::new(),
        }
    }

    /// To somebody who takes them after every step of a session, which says a bounded number of things.
    #[must_use]
    pub fn to(taker: mpsc::UnboundedSender<Event>) -> Printer {
        Printer {
            taker: Some(taker),
            ..Printer::new(true, Box::new(io::sink()), Box::new(io::sink()))
        }
    }

    /// For commands whose work is not the printing: what cannot be written does not stop them. Only a message that came
    /// must be written, for it counts as shown from then on.
    pub fn let_remarks_go(&mut self) {
        self.lenient = true;
    }

    /// Whether scripts listen.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Says it, and flushes. Fails when the reader has gone away.
    pub fn print(&mut self, event: &Event) -> io::Result<()> {
        if let Some(taker) = &self.taker {
            let gone = |_| io::ErrorKind::BrokenPipe.into();
            return taker.send(event.clone()).map_err(gone);
        }
        let written = self.write(event);
        if self.lenient && !matches!(event, Event::Message { .. }) {
            return Ok(());
        }
        written
    }

    /// Prints a message of the history, and flushes.
    pub fn recall(&mut self, message: &Remembered) -> io::Result<()> {
        match self.json {
            true => writeln!(self.out, "{}", json(message)?)?,
            false => writeln!(self.out, "{}", message.human())?,
        }
        self.out.flush()
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        if self.json {
            self.out.write_all(json(event)?.as_bytes())?;
            self.out.write_all(b"\n")?;
            return self.out.flush();
        }
        match event {
            Event::Message { .. }
            | Event::Queued { .. }
            | Event::Sent { .. }
            | Event::Delivered { .. }
            | Event::Read { .. }
            | Event::Keys { .. }
            | Event::SafetyNumber { .. }
            | Event::Conversation { .. }
            | Event::ContactLink { .. }
            | Event::Agent { .. }
            | Event::Finding { .. }
            | Event::File { .. } => {
                writeln!(self.out, "{}", event.human())?;
                self.out.flush()
            }
            Event::Contact {
                change: ContactChangeKind::Known,
                ..
            } => {
                writeln!(self.out, "{}", event.human())?;
                self.out.flush()
            }
            _ => {
                writeln!(self.err, "sealpost: {}", event.human())?;
                self.err.flush()
            }
        }
    }

    /// A question for a person: the answer is typed behind it.
    pub fn ask(&mut self, question: &str) -> io::Result<()> {
        write!(self.err, "{question}")?;
        self.err.flush()
    }

    /// A note for a person, never in JSON.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let written = writeln!(self.err, "{text}").and_then(|()| self.err.flush());
        if self.lenient { Ok(()) } else { written }
    }

    /// A note that is worth saying once, however often there is reason to.
    pub fn note_once(&mut self, text: &'static str) -> io::Result<()> {
        match self.said.insert(text) {
            true => self.note(text),
            false => Ok(()),
        }
    }
}

/// Anything as a line of JSON, without a line end.
pub fn json(what: &impl serde::Serialize) -> io::Result<String> {
    // serde_json escapes C0 controls and leaves the rest to its reader; the others that a terminal might act upon are
    // escaped here, so that `sealpost --json | less` is safe too.
    let line = serde_json::to_string(what).map_err(io::Error::other)?;
    Ok(escape_for_terminals(&line))
}

/// `\u` escapes for DEL, C1 controls and characters that change direction or are not seen. Inside a JSON string they
/// mean the same; outside strings our JSON has none of them.
fn escape_for_terminals(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if crate::terminal::is_hidden(c) {
            // Beyond U+FFFF: as JSON has it, two escapes.
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}
