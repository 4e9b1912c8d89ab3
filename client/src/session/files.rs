//! Files on their way: ours when they are asked for, theirs by asking for them.
//!
//! What is to be done is in the store. Here is what is under way on this connection: losing it loses nothing.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use sealpost_core::{Content, FileOutcome, Timestamp, UserId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Session;
use crate::clock;
use crate::event::Event;
use crate::exit::Failure;
use crate::files::{self, Opened, Order, SaveError, SourceError};
use crate::incoming::{FileEvent, FileNews};
use crate::mqtt::{PublishError, RefusalCode};
use crate::store::{Asked, FileCause, FileEntry, FileState, ToAsk};

/// How many chunks are on their way to the broker at once, of all files: what else is said waits behind no more than these.
const MAX_CHUNKS: usize = 16;
/// How many of our files are open at once.
const MAX_OPEN: usize = 16;
/// After a chunk was refused, none of its file goes for so long, by the kind of refusal.
const AFTER_QUOTA: Duration = Duration::from_secs(60);
const AFTER_REFUSAL: Duration = Duration::from_secs(15 * 60);
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// How often it is said how far a file is.
const TELL: Duration = Duration::from_millis(500);

/// Something about a file that is on its way to the broker.
#[derive(Debug)]
pub(super) enum FileCargo {
    Chunk { number: i64, index: u32 },
    Request { number: i64 },
    Word { number: i64 },
}

/// What is under way.
#[derive(Default)]
pub(super) struct Filing {
    /// Of our files, what goes next, by their numbers.
    cursors: HashMap<i64, u32>,
    chunks: usize,
    opened: HashMap<i64, Opened>,
    paused: HashMap<i64, Instant>,
    /// Whose end is being told.
    words: Vec<i64>,
    works: JoinSet<(i64, Result<Option<PathBuf>, SaveError>)>,
    /// When it was said last how far a file is.
    said: HashMap<i64, Instant>,
    /// Whether something came about files.
    pub(super) stirred: bool,
    /// What got further and was not told yet.
    pub(super) told: VecDeque<FileEntry>,
}

/// A file that was checked, and perhaps saved.
pub(super) type Worked = (i64, Result<Option<PathBuf>, SaveError>);

impl Filing {
    /// Waits until a file was checked.
    pub(super) async fn worked(&mut self) -> Worked {
        loop {
            match self.works.join_next().await {
                Some(Ok(worked)) => return worked,
                // It is done again after the next start.
                Some(Err(error)) => tracing::error!(%error, "a file could not be checked"),
                None => std::future::pending().await,
            }
        }
    }

    fn is_paused(&mut self, number: i64) -> bool {
        match self.paused.get(&number) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                self.paused.remove(&number);
                false
            }
            None => false,
        }
    }

    fn pause(&mut self, number: i64, time: Duration) {
        self.cursors.remove(&number);
        self.paused.insert(number, Instant::now() + time);
    }

    fn forget(&mut self, number: i64) {
        self.cursors.remove(&number);
        self.opened.remove(&number);
        self.paused.remove(&number);
        self.said.remove(&number);
    }
}

impl Session {
    /// At the start: what a crash left undone.
    pub(super) fn begin_files(&mut self) -> Result<(), Failure> {
        self.forget_files()?;
        files::clear_away(&self.store)?;
        for number in self.store.files_to_check()? {
            self.finish_file(number)?;
        }
        self.admit_files()
    }

    /// Now and then.
    pub(super) fn look_after_files(&mut self) -> Result<(), Failure> {
        self.forget_files()?;
        for number in self.store.expire_files(clock::now())? {
            files::remove(&self.store, number);
            self.filing.forget(number);
            self.say_file(number, true)?;
        }
        self.admit_files()?;
        self.carry_files()
    }

    /// A file whose message is gone is gone with it.
    fn forget_files(&mut self) -> Result<(), Failure> {
        for (number, ours) in self.store.files_forgotten()? {
            let say = ours.then_some(FileOutcome::Withdrawn);
            self.store
                .end_file(number, FileCause::Cancelled, say, clock::now())?;
            self.filing.forget(number);
            if !ours {
                files::remove(&self.store, number);
            }
            self.say_file(number, true)?;
        }
        Ok(())
    }

    /// After mail: what came of files leads to the next step.
    pub(super) fn files_stirred(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.filing.stirred) {
            true => {
                self.admit_files()?;
                self.carry_files()
            }
            false => Ok(()),
        }
    }

    pub(super) fn admit_files(&mut self) -> Result<(), Failure> {
        for number in self.store.admit_files(clock::now())? {
            self.say_file(number, true)?;
        }
        Ok(())
    }

    /// Says, asks for and sends what is to be said, asked for and sent.
    pub(super) fn carry_files(&mut self) -> Result<(), Failure> {
        if !self.connected || !self.is_own_bundle_settled() {
            return Ok(());
        }
        for (number, peer, end) in self.store.file_words()? {
            if self.filing.words.contains(&number) || !self.may_go_to(&peer) {
                continue;
            }
            if let Ok(content) = end.to_content()
                && self.fly_file(&peer, &content, FileCargo::Word { number })
            {
                self.filing.words.push(number);
            }
        }
        let now = clock::now();
        for ask in self.store.chunks_to_ask(now)? {
            self.ask_for_chunks(&ask, now)?;
        }
        for asked in self.store.chunks_asked()? {
            if self.filing.chunks >= MAX_CHUNKS {
                break;
            }
            if !self.filing.is_paused(asked.number) && self.may_go_to(&asked.peer) {
                self.send_chunks(&asked, now)?;
            }
        }
        Ok(())
    }

    /// Whether somebody's keys are there, and may be sealed to; where they are only not here yet, they are asked for.
    fn may_go_to(&mut self, peer: &UserId) -> bool {
        if self.permit(peer).is_err() {
            return false;
        }
        match self.keys.get(peer) {
            Some(Ok(_)) => true,
            Some(Err(_)) => false,
            None => {
                self.want_keys(peer);
                false
            }
        }
    }

    fn ask_for_chunks(&mut self, ask: &ToAsk, now: Timestamp) -> Result<(), Failure> {
        if !self.may_go_to(&ask.peer) {
            return Ok(());
        }
        let Ok(content) = ask.request.to_content() else {
            return Ok(());
        };
        // Before it goes: lost, it is asked for again in a while.
        self.store
            .lightly(|store| store.chunks_asked_for(ask, now))?;
        let number = ask.number;
        self.fly_file(&ask.peer, &content, FileCargo::Request { number });
        Ok(())
    }

    fn send_chunks(&mut self, asked: &Asked, now: Timestamp) -> Result<(), Failure> {
        let number = asked.number;
        while self.filing.chunks < MAX_CHUNKS {
            let index = *self.filing.cursors.entry(number).or_insert(asked.from);
            if index >= asked.until {
                break;
            }
            let content = match self.read_chunk(asked, index)? {
                Ok(content) => content,
                Err(SourceError::Changed(_)) => {
                    let say = Some(FileOutcome::Withdrawn);
                    self.store.end_file(number, FileCause::Changed, say, now)?;
                    self.filing.forget(number);
                    self.say_file(number, true)?;
                    return self.carry_files();
                }
                // A disk that is not mounted, a file that is moved away for a while.
                Err(error) => {
                    tracing::warn!(%error, "a file that is offered cannot be read");
                    self.filing.opened.remove(&number);
                    self.filing.pause(number, AFTER_QUOTA);
                    self.store.hinder_file(number, FileCause::Unreadable)?;
                    return self.say_file(number, true);
                }
            };
            if !self.fly_file(&asked.peer, &content, FileCargo::Chunk { number, index }) {
                break;
            }
            self.filing.chunks += 1;
            self.filing.cursors.insert(number, index + 1);
        }
        Ok(())
    }

    fn read_chunk(
        &mut self,
        asked: &Asked,
        index: u32,
    ) -> Result<Result<Content, SourceError>, Failure> {
        let number = asked.number;
        if !self.filing.opened.contains_key(&number) {
            if self.filing.opened.len() >= MAX_OPEN {
                self.filing.opened.clear();
            }
            let entry = self.store.file(number)?;
            let offer = self.store.file_offer(&asked.peer, &asked.id, true)?;
            let (Some(path), Some(offer)) = (entry.and_then(|entry| entry.place), offer) else {
                return Ok(Err(SourceError::NoName));
            };
            match Opened::open(number, &path, offer) {
                Ok(opened) => drop(self.filing.opened.insert(number, opened)),
                Err(error) => return Ok(Err(error)),
            }
        }
        let Some(opened) = self.filing.opened.get_mut(&number) else {
            return Ok(Err(SourceError::NoName));
        };
        let chunk = opened.chunk(&self.store, asked.id, index)?;
        Ok(chunk.and_then(|chunk| chunk.to_content().map_err(|_| SourceError::NoName)))
    }

    /// The broker has answered.
    pub(super) fn file_answered(
        &mut self,
        cargo: FileCargo,
        result: Result<(), PublishError>,
        _now: Timestamp,
    ) -> Result<(), Failure> {
        match (cargo, result) {
            (FileCargo::Chunk { number, index }, result) => {
                self.filing.chunks = self.filing.chunks.saturating_sub(1);
                match result {
                    Ok(()) => {
                        self.store.chunk_sent(number, index)?;
                        self.say_file(number, false)?;
                    }
                    Err(PublishError::Ended(_)) => {}
                    Err(error) => {
                        tracing::debug!(%error, number, index, "a chunk was not taken");
                        self.filing.pause(number, after(&error));
                    }
                }
            }
            (FileCargo::Word { number }, result) => {
                self.filing.words.retain(|word| *word != number);
                match result {
                    Err(PublishError::Ended(_)) => {}
                    // Where nobody is to hear it, or it is not wanted, it is of no use to insist.
                    _ => self.store.file_word_said(number)?,
                }
            }
            // It is asked for again when nothing comes.
            (FileCargo::Request { number }, result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, number, "a request for chunks was not taken");
                }
            }
        }
        Ok(())
    }

    /// Something came about a file.
    pub(super) fn file_news(&mut self, news: FileNews) -> Result<(), Failure> {
        let FileNews { number, what } = news;
        self.filing.stirred = true;
        match what {
            FileEvent::Chunk => self.say_file(number, false)?,
            FileEvent::Held => self.say_file(number, true)?,
            FileEvent::Whole => self.finish_file(number)?,
            FileEvent::More => self.say_file(number, false)?,
            FileEvent::Again => {
                self.filing.cursors.remove(&number);
                self.filing.paused.remove(&number);
                self.say_file(number, false)?;
            }
            FileEvent::Ended => {
                self.filing.forget(number);
                files::remove(&self.store, number);
                self.say_file(number, true)?;
            }
        }
        Ok(())
    }

    /// All of a file is here: it is checked, and saved where it is to be, without anything waiting for it.
    fn finish_file(&mut self, number: i64) -> Result<(), Failure> {
        let Some(entry) = self.store.file(number)? else {
            return Ok(());
        };
        let rules = self.store.file_rules();
        let folder = entry.place.clone().or_else(|| rules.downloads.clone());
        let Some(order) = Order::new(&self.store, &entry, folder)? else {
            self.store
                .end_file(number, FileCause::Cancelled, None, clock::now())?;
            files::remove(&self.store, number);
            return Ok(());
        };
        self.filing
            .works
            .spawn_blocking(move || (number, files::work(&order)));
        Ok(())
    }

    /// A file was checked.
    pub(super) fn file_worked(&mut self, (number, result): Worked) -> Result<(), Failure> {
        let now = clock::now();
        match result {
            Ok(saved) => {
                self.store
                    .file_arrived(number, saved.as_deref(), None, now)?;
                if saved.is_some() {
                    files::remove(&self.store, number);
                }
            }
            Err(SaveError::Damaged) => {
                let say = Some(FileOutcome::Damaged);
                self.store.end_file(number, FileCause::Damaged, say, now)?;
                files::remove(&self.store, number);
            }
            // It is here, whatever is wrong with that folder: whoever saves it later learns what.
            Err(error) => {
                tracing::warn!(%error, "a file could not be saved");
                self.store
                    .file_arrived(number, None, Some(FileCause::NotSaved), now)?;
            }
        }
        self.say_file(number, true)?;
        self.carry_files()
    }

    /// Says how far a file is. `must`: whenever it was said before.
    fn say_file(&mut self, number: i64, must: bool) -> Result<(), Failure> {
        let now = Instant::now();
        let recently = self
            .filing
            .said
            .get(&number)
            .is_some_and(|at| now.duration_since(*at) < TELL);
        if recently && !must {
            return Ok(());
        }
        let Some(entry) = self.store.file(number)? else {
            return Ok(());
        };
        if entry.state >= FileState::Arrived {
            self.filing.said.remove(&number);
        } else {
            self.filing.said.insert(number, now);
        }
        if !self.manner.quiet && (must || self.printer.is_json()) {
            self.printer.print(&Event::file(&entry))?;
        }
        self.filing.told.push_back(entry);
        Ok(())
    }
}

fn after(error: &PublishError) -> Duration {
    match error {
        PublishError::NobodyThere => AFTER_QUOTA,
        PublishError::Refused { code, .. } => match code {
            RefusalCode::QuotaExceeded => AFTER_QUOTA,
            RefusalCode::Other => AFTER_ERROR,
            _ => AFTER_REFUSAL,
        },
        _ => AFTER_ERROR,
    }
}
