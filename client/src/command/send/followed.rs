//! A file that a command waits for, and its progress on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::event::{Event, Printer};
use crate::exit::{Code, Failure};
use crate::store::{FileEntry, FileState};

/// A bar on a terminal, nothing elsewhere.
pub(super) fn bar(printer: &Printer, size: u64, what: &str) -> Option<ProgressBar> {
    if printer.is_json() || !std::io::stderr().is_terminal() {
        return None;
    }
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(size).with_style(style);
    bar.set_message(what.to_owned());
    Some(bar)
}

/// It.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) number: i64,
    ours: bool,
    size: u64,
    state: FileState,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Followed {
    pub(super) fn new(entry: &FileEntry, printer: &Printer) -> Followed {
        let what = match entry.ours {
            true => "sending",
            false => "fetching",
        };
        Followed {
            number: entry.number,
            ours: entry.ours,
            size: entry.chunking.size(),
            state: entry.state,
            done: entry.done,
            bar: bar(printer, entry.chunking.size(), what),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// It got so far; says whether that is further than before.
    pub(super) fn moved(
        &mut self,
        entry: &FileEntry,
        printer: &mut Printer,
    ) -> Result<bool, Failure> {
        if entry.number != self.number || (entry.state, entry.done) == (self.state, self.done) {
            return Ok(false);
        }
        (self.state, self.done) = (entry.state, entry.done);
        if let Some(bar) = &self.bar {
            bar.set_position(entry.done);
            if entry.state.is_over() {
                bar.finish_and_clear();
            }
        }
        if printer.is_json() || entry.state.is_over() {
            printer.print(&Event::file(entry))?;
        }
        match (entry.state, entry.cause) {
            (FileState::Ended, Some(cause)) => Err(Failure::new(
                Code::Failed,
                format!("the file goes no further: {}", cause.words()),
                "",
            )),
            // It is here, and not where it was to be.
            (FileState::Arrived, Some(cause)) if !self.ours => Err(Failure::new(
                Code::Failed,
                cause.words().to_owned(),
                format!(
                    "Try another folder: sealpost files save {} --to DIR",
                    self.number
                ),
            )),
            _ => Ok(true),
        }
    }

    /// Nothing moves any more.
    pub(super) fn verdict(&mut self) -> Failure {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let (done, size, number) = (self.done, self.size, self.number);
        let who = match self.ours {
            true => "its recipient has",
            false => "here are",
        };
        Failure::new(
            Code::Pending,
            format!("{who} {done} of {size} bytes of file {number}"),
            "",
        )
    }
}
