//! `sealpost history`: what was received and sent, searched, exported and imported. Needs no connection.

use std::collections::VecDeque;
use std::io::{self, BufWriter};
use std::path::Path;

use super::{Start, parse_user};
use crate::account::Account;
use crate::archived::Archived;
use crate::cli::{HistoryArguments, HistoryCommand, HistoryPart};
use crate::clock;
use crate::event::{Event, counted};
use crate::exit::Failure;
use crate::history::{self, ExportError, HistoryLine, Remembered, Trust};
use crate::new_file::NewFile;
use crate::search::Search;
use crate::store::{HistoryEntry, HistoryRange, Place, Store, StoreError, stored_content};

pub(super) fn run(
    mut start: Start,
    arguments: HistoryArguments,
    started: impl FnOnce(),
) -> Result<(), Failure> {
    let HistoryArguments {
        part,
        limit,
        search,
        from_archive,
        command,
    } = arguments;
    // What is wrong with the words is said before a passphrase is asked for.
    let search = search.as_deref().map(Search::parse).transpose()?;
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    started();
    match command {
        None if from_archive.is_some() => {
            let archive = Archived::open(&from_archive.unwrap_or_default(), &account, &store)?;
            let range = range(&part)?;
            show_archived(&mut start, &archive, &store, &range, limit, search.as_ref())
        }
        None => show(&mut start, &store, &range(&part)?, limit, search.as_ref()),
        Some(HistoryCommand::Export { part, output }) => {
            let range = range(&part)?;
            export(&mut start, &account, &store, &range, output.as_deref())
        }
        Some(HistoryCommand::Import { file }) => import(&mut start, &account, store, &file),
    }
}

fn range(part: &HistoryPart) -> Result<HistoryRange, Failure> {
    let now = clock::now();
    Ok(HistoryRange {
        with: part.with.as_deref().map(parse_user).transpose()?,
        since: part.since.map(|when| when.at(now)),
        until: part.until.map(|when| when.at(now)),
    })
}

fn show(
    start: &mut Start,
    store: &Store,
    range: &HistoryRange,
    limit: u32,
    search: Option<&Search>,
) -> Result<(), Failure> {
    let places = match search {
        None => store.history(range, limit)?,
        Some(search) => found(start, store, range, limit, search)?,
    };
    if places.is_empty() {
        start.printer.note("sealpost: there is no such message")?;
    }
    let trust = Trust::read(store)?;
    for place in places.into_iter().rev() {
        if start.stop.is_cancelled() {
            return Err(Failure::interrupted());
        }
        if let Some(entry) = store.history_entry(place)? {
            start
                .printer
                .recall(&Remembered::new(store, &entry, &trust)?)?;
        }
    }
    Ok(())
}

/// The newest messages that an archive has of ours, and what could not be opened.
fn show_archived(
    start: &mut Start,
    archive: &Archived<'_>,
    store: &Store,
    range: &HistoryRange,
    limit: u32,
    search: Option<&Search>,
) -> Result<(), Failure> {
    let mut newest: VecDeque<HistoryEntry> = VecDeque::new();
    let mut stopped = false;
    let unopened = archive.each(range, |entry, content| {
        stopped = start.stop.is_cancelled();
        if search.is_none_or(|search| search.matches(content)) {
            if newest.len() >= limit as usize {
                newest.pop_front();
            }
            newest.push_back(entry);
        }
        !stopped
    })?;
    if stopped {
        return Err(Failure::interrupted());
    }
    let trust = Trust::read(store)?;
    for entry in &newest {
        start
            .printer
            .recall(&Remembered::new(store, entry, &trust)?)?;
    }
    if newest.is_empty() {
        start.printer.note("sealpost: there is no such message")?;
    }
    if unopened.count() > 0 {
        start.printer.print(&Event::Unopened {
            key_gone: unopened.key_gone,
            not_the_senders: unopened.not_the_senders,
            damaged: unopened.damaged,
        })?;
    }
    Ok(())
}

/// The newest messages that match. Texts lie encrypted on disk and so would an index of their words: each is decrypted
/// and looked at. Only their places are kept.
fn found(
    start: &Start,
    store: &Store,
    range: &HistoryRange,
    limit: u32,
    search: &Search,
) -> Result<Vec<Place>, Failure> {
    let mut found = Vec::new();
    for place in store.history(range, u32::MAX)? {
        if start.stop.is_cancelled() {
            return Err(Failure::interrupted());
        }
        let Some(entry) = store.history_entry(place)? else {
            continue;
        };
        let content = stored_content(&entry.body)
            .ok_or(StoreError::Damaged("a stored message is malformed"))?;
        if search.matches(&content) {
            found.push(place);
            if found.len() >= limit as usize {
                break;
            }
        }
    }
    Ok(found)
}

fn line(account: &Account) -> HistoryLine<'_> {
    HistoryLine {
        realm: account.realm(),
        me: account.user(),
    }
}

fn export(
    start: &mut Start,
    account: &Account,
    store: &Store,
    range: &HistoryRange,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let is_stopped = || start.stop.is_cancelled();
    let history = line(account);
    let Some(path) = output else {
        let mut out = BufWriter::new(io::stdout().lock());
        history::export(store, history, range, &mut out, &is_stopped)?;
        drop(out);
        return say_left_out(start, store, range);
    };
    let mut file = NewFile::create(path)?;
    let written = {
        let mut out = BufWriter::new(&mut file);
        history::export(store, history, range, &mut out, &is_stopped)
    };
    let written = match written {
        Err(ExportError::Write(source)) => return Err(file.failed(source).into()),
        written => written?,
    };
    file.finish()?;
    start.printer.note(&format!(
        "sealpost: {} written to {}, readable to whoever reads the file",
        counted(written),
        path.display()
    ))?;
    say_left_out(start, store, range)
}

/// Says what an export does not have.
fn say_left_out(start: &mut Start, store: &Store, range: &HistoryRange) -> Result<(), Failure> {
    match store.disappearing(range)? {
        0 => Ok(()),
        count => Ok(start.printer.note(&format!(
            "sealpost: {} left out: they disappear, and an export stays",
            counted(count)
        ))?),
    }
}

fn import(
    start: &mut Start,
    account: &Account,
    mut store: Store,
    file: &Path,
) -> Result<(), Failure> {
    let is_stopped = || start.stop.is_cancelled();
    let imports = history::import(&mut store, line(account), file, &is_stopped)?;
    start.printer.note(&format!(
        "sealpost: {} imported, {} there already",
        counted(imports.fresh),
        imports.known
    ))?;
    Ok(())
}
