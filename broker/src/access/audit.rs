//! The audit log: who was let in and who was not, who was registered, and what the operator did. JSON lines, without any
//! content.
//!
//! It never holds anybody up: lines go through a bounded queue to a thread of their own, and what does not fit is counted
//! and told in the next line. It cannot fill the disk: files are rotated and the oldest removed. A source that floods has
//! some lines a minute, and what is left out is counted in its next one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sealpost_core::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::access::throttle::Network;
use crate::clock;
use crate::files::append_private;
use sealpost_service::seconds;

/// Lines that wait for the disk, of about 200 bytes each.
const QUEUE: usize = 4_096;

/// Lines of one source in quick succession, and how soon it has another.
const BURST: u32 = 60;
const ANOTHER: Duration = Duration::from_secs(1);

/// Sources that are told apart; others share what one has.
const SOURCES: usize = 8 * 1024;

/// Characters of what a client says about itself that a line repeats.
const SAID: usize = 64;

/// How often the log tells at most that the audit log cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where the lines go, and how much of them is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFile {
    /// The file; older ones have `.1` and so on behind the name.
    pub path: PathBuf,
    /// Bytes at which a new file is begun.
    pub bytes: u64,
    /// Older files that are kept.
    pub older: u32,
}

/// Who caused a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Somebody who connected from there.
    Address(IpAddr),
    /// Whoever is at the broker's own command line.
    Operator,
    /// The broker itself.
    Broker,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Entry<'a> {
    /// Somebody was let in.
    Login {
        /// As whom.
        user: &'a str,
        /// In which role.
        role: &'a str,
        /// By what proof.
        by: &'a str,
        /// With which client id.
        client: &'a str,
    },
    /// Somebody was not let in.
    LoginRefused {
        /// Whom they said they were.
        user: &'a str,
        /// With which client id.
        client: &'a str,
        /// Why not.
        why: &'a str,
    },
    /// A name was bound to an identity.
    Registered {
        /// Which.
        user: &'a str,
        /// The identity's fingerprint.
        identity: &'a str,
        /// By what right.
        by: &'a str,
    },
    /// A name was bound to another identity, which the old one had signed over to.
    IdentityChanged {
        /// Whose.
        user: &'a str,
    },
    /// A publish or a subscription was refused.
    Refused {
        /// Whom.
        user: &'a str,
        /// `publish` or `subscribe`.
        what: &'a str,
        /// The topic or filter.
        topic: &'a str,
        /// Why.
        why: &'a str,
    },
    /// A session was ended with what it was owed, because its owner held all that it may.
    SessionEnded {
        /// Whose.
        user: &'a str,
        /// Its client id.
        client: &'a str,
        /// Messages that it was owed.
        messages: usize,
    },
    /// The operator did something.
    Administration {
        /// What.
        what: &'a str,
        /// To whom; may be empty.
        #[serde(skip_serializing_if = "str::is_empty")]
        user: &'a str,
        /// `done`, or why not.
        outcome: &'a str,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(with = "seconds")]
    ts: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    #[serde(flatten)]
    entry: Entry<'a>,
    /// Lines of this source that were left out before this one.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
    /// Lines of anybody that were lost before this one, because the disk was too slow or failed.
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

enum Request {
    Line(Vec<u8>),
    /// Answered when the file is open, or cannot be opened.
    Reopen(oneshot::Sender<io::Result<()>>),
    /// Answered when everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    /// None when the log is turned off.
    requests: Option<SyncSender<Request>>,
    /// `None`: what all share for whom there was no place.
    budgets: Mutex<HashMap<Option<Network>, Budget>>,
    lost: std::sync::Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    lines: u32,
    since: Instant,
    left_out: u64,
}

impl Audit {
    /// A log that keeps nothing.
    #[must_use]
    pub fn off() -> Audit {
        Audit {
            requests: None,
            budgets: Mutex::default(),
            lost: std::sync::Arc::default(),
        }
    }

    /// Opens the log.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(file: AuditFile) -> io::Result<Audit> {
        let mut writer = Writer::open(file)?;
        let (requests, lines) = sync_channel(QUEUE);
        let lost = std::sync::Arc::new(AtomicU64::new(0));
        let failed = std::sync::Arc::clone(&lost);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&lines, &failed))?;
        Ok(Audit {
            requests: Some(requests),
            budgets: Mutex::default(),
            lost,
        })
    }

    /// Adds a line. Never waits.
    pub fn record(&self, source: Source, entry: Entry<'_>) {
        let Some(requests) = &self.requests else {
            return;
        };
        let from = match source {
            Source::Address(address) => Some(address),
            Source::Operator | Source::Broker => None,
        };
        let left_out = match from {
            Some(address) => self.take(Network::from(address), Instant::now()),
            // What the operator and the broker do is never left out, whoever floods and however much it is.
            None => Some(0),
        };
        let Some(left_out) = left_out else {
            return;
        };
        let line = Line {
            ts: clock::now(),
            from,
            entry: entry.shortened(),
            left_out,
            lost: self.lost.swap(0, Ordering::Relaxed),
        };
        let lost = line.lost;
        let Ok(mut bytes) = serde_json::to_vec(&line) else {
            return;
        };
        bytes.push(b'\n');
        if requests.try_send(Request::Line(bytes)).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }

    /// Opens the file again, which somebody has moved away.
    ///
    /// # Errors
    /// When it cannot be opened; it is tried again with the next line.
    pub async fn reopen(&self) -> io::Result<()> {
        let Some(requests) = &self.requests else {
            return Ok(());
        };
        let (done, reopened) = oneshot::channel();
        if requests.try_send(Request::Reopen(done)).is_err() {
            return Err(io::Error::other(
                "it is too busy to be opened again; ask once more",
            ));
        }
        reopened
            .await
            .unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))
    }

    /// Waits until what was recorded before is written.
    pub async fn flush(&self) {
        if let Some(requests) = &self.requests {
            let (done, flushed) = oneshot::channel();
            if requests.try_send(Request::Flush(done)).is_ok() {
                let _ = flushed.await;
            }
        }
    }

    /// Whether the source may have another line, and how many it did not have before this one.
    fn take(&self, network: Network, now: Instant) -> Option<u64> {
        let network = Some(network);
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if !budgets.contains_key(&network) && budgets.len() >= SOURCES {
            // Whoever has all lines again is as good as unknown.
            budgets.retain(|_, budget| {
                let refilled = now.saturating_duration_since(budget.since).as_secs();
                u64::from(budget.lines) + refilled < u64::from(BURST) || budget.left_out > 0
            });
        }
        let key = if budgets.contains_key(&network) || budgets.len() < SOURCES {
            network
        } else {
            None
        };
        let budget = budgets.entry(key).or_insert(Budget {
            lines: BURST,
            since: now,
            left_out: 0,
        });
        let refilled = now.saturating_duration_since(budget.since).as_secs() / ANOTHER.as_secs();
        if refilled > 0 {
            let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
            budget.lines = budget.lines.saturating_add(refilled).min(BURST);
            budget.since = now;
        }
        if budget.lines == 0 {
            budget.left_out += 1;
            return None;
        }
        budget.lines -= 1;
        Some(std::mem::take(&mut budget.left_out))
    }
}

impl<'a> Entry<'a> {
    /// With what clients say of themselves cut to a bearable length.
    fn shortened(mut self) -> Entry<'a> {
        let said: [&mut &'a str; 2] = match &mut self {
            Entry::Login { user, client, .. } | Entry::LoginRefused { user, client, .. } => {
                [user, client]
            }
            Entry::SessionEnded { user, client, .. } => [user, client],
            Entry::Refused { user, topic, .. } => [user, topic],
            Entry::Registered { .. }
            | Entry::IdentityChanged { .. }
            | Entry::Administration { .. } => return self,
        };
        for text in said {
            if let Some((end, _)) = text.char_indices().nth(SAID) {
                *text = text.get(..end).unwrap_or_default();
            }
        }
        self
    }
}

#[derive(Debug)]
struct Writer {
    to: AuditFile,
    file: Option<File>,
    size: u64,
    complained: Option<Instant>,
}

impl Writer {
    fn open(to: AuditFile) -> io::Result<Writer> {
        let mut writer = Writer {
            to,
            file: None,
            size: 0,
            complained: None,
        };
        writer.reopen()?;
        Ok(writer)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let file = append_private(&self.to.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Until nobody can record any more.
    fn run(&mut self, requests: &Receiver<Request>, lost: &AtomicU64) {
        loop {
            let request = match requests.recv_timeout(COMPLAIN_EVERY) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let done = match request {
                Request::Line(line) => {
                    let written = self.write(&line);
                    if written.is_err() {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                    written
                }
                Request::Reopen(done) => {
                    let reopened = self.reopen();
                    let told = reopened.as_ref().map(drop);
                    let _ = done.send(
                        told.map_err(|error| io::Error::new(error.kind(), error.to_string())),
                    );
                    reopened
                }
                Request::Flush(done) => {
                    let _ = done.send(());
                    Ok(())
                }
            };
            if let Err(error) = done
                && self
                    .complained
                    .is_none_or(|when| when.elapsed() >= COMPLAIN_EVERY)
            {
                self.complained = Some(Instant::now());
                tracing::error!(%error, path = ?self.to.path, "the audit log cannot be written; lines are lost");
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > self.to.bytes {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the file is not open"));
        };
        // One write for each line: a line is whole or cut short, never mixed with another.
        let written = file.write_all(line);
        match &written {
            Ok(()) => self.size = self.size.saturating_add(length),
            // A line that was cut short must not run into the next.
            Err(_) => self.file = None,
        }
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = |number: u32| {
            let mut name = self.to.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..=self.to.older).rev() {
            let from = match number {
                1 => self.to.path.clone(),
                _ => older(number - 1),
            };
            move_if_there(&from, &older(number))?;
        }
        if self.to.older == 0 {
            fs::remove_file(&self.to.path)?;
        }
        self.reopen()
    }
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, bytes: u64, older: u32) -> AuditFile {
        AuditFile {
            path: dir.join("audit.jsonl"),
            bytes,
            older,
        }
    }

    fn done(what: &str) -> Entry<'_> {
        Entry::Administration {
            what,
            user: "alice",
            outcome: "done",
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_line_says_who_what_and_from_where() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(file(dir.path(), 10_000, 1)).unwrap();
        let long = "x\u{1b}".repeat(100);
        audit.record(
            Source::Address(IpAddr::from([192, 0, 2, 1])),
            Entry::LoginRefused {
                user: "alice",
                client: &long,
                why: "no",
            },
        );
        audit.record(Source::Operator, done("disable"));
        audit.flush().await;
        let path = dir.path().join("audit.jsonl");
        let lines = lines(&path);
        assert_eq!(lines[0]["event"], "login-refused");
        assert_eq!(lines[0]["from"], "192.0.2.1");
        let text = fs::read_to_string(&path).unwrap();
        let ts = text.strip_prefix("{\"ts\":").unwrap().split(',').next();
        assert_eq!(ts.unwrap().len(), "1700000000.123".len(), "{text}");
        assert_eq!(lines[0]["client"].as_str().unwrap().chars().count(), SAID);
        assert_eq!(lines[1]["what"], "disable");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_flood_from_one_source_is_counted_and_does_not_drown_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(file(dir.path(), 1_000_000, 1)).unwrap();
        let flooder = Network::from(IpAddr::from([192, 0, 2, 1]));
        let now = Instant::now();
        let taken = (0..1_000)
            .filter(|_| audit.take(flooder, now).is_some())
            .count();
        assert_eq!(taken, 60);
        let other = Network::from(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(audit.take(other, now), Some(0));
        assert_eq!(audit.take(flooder, now + ANOTHER), Some(940));
        assert_eq!(audit.take(flooder, now + ANOTHER), None);
    }

    /// A script that adds a thousand users, while more sources flood than are told apart.
    #[tokio::test]
    async fn what_the_operator_does_is_never_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(file(dir.path(), 1_000_000, 1)).unwrap();
        let now = Instant::now();
        for source in 0..2 * SOURCES as u32 {
            audit.take(
                Network::from(IpAddr::from((0x0a00_0000 + source).to_be_bytes())),
                now,
            );
        }
        for number in 0..1_000 {
            audit.record(Source::Operator, done(&number.to_string()));
        }
        audit.flush().await;
        assert_eq!(lines(&dir.path().join("audit.jsonl")).len(), 1_000);
    }

    #[tokio::test]
    async fn files_are_rotated_and_the_oldest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(file(dir.path(), 300, 2)).unwrap();
        for number in 0..20 {
            audit.record(Source::Operator, done(&number.to_string()));
        }
        audit.flush().await;
        let names = ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"];
        let all = names
            .iter()
            .rev()
            .flat_map(|name| lines(&dir.path().join(name)))
            .collect::<Vec<_>>();
        assert_eq!(all.last().unwrap()["what"], "19");
        assert!(all.len() < 20);
        for name in names {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 300);
        }
        assert!(!dir.path().join("audit.jsonl.3").exists());
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_opened_again_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(file(dir.path(), 10_000, 1)).unwrap();
        audit.record(Source::Operator, done("one"));
        audit.flush().await;
        let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("moved"));
        fs::rename(&path, &moved).unwrap();
        audit.reopen().await.unwrap();
        audit.record(Source::Operator, done("two"));
        audit.flush().await;
        assert_eq!(lines(&moved)[0]["what"], "one");
        assert_eq!(lines(&path)[0]["what"], "two");
    }

    #[tokio::test]
    async fn lines_that_the_disk_did_not_take_are_counted_and_nobody_waits_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut to = file(dir.path(), 10_000, 1);
        to.path = dir.path().join("gone").join("audit.jsonl");
        fs::create_dir(dir.path().join("gone")).unwrap();
        let audit = Audit::open(to).unwrap();
        fs::remove_dir_all(dir.path().join("gone")).unwrap();
        assert!(audit.reopen().await.is_err());
        audit.record(Source::Operator, done("lost"));
        audit.flush().await;
        fs::create_dir(dir.path().join("gone")).unwrap();
        audit.record(Source::Operator, done("kept"));
        audit.flush().await;
        let kept = lines(&dir.path().join("gone").join("audit.jsonl"));
        assert_eq!((kept.len(), &kept[0]["lost"]), (1, &1.into()));
    }
}
