//! How the archiver is: what those who look after it may ask at any moment.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sealpost_archive::layout::LogName;
use sealpost_archive::tree::TreeHead;

/// How an archiver is. Shared by the threads that know, and those that tell.
#[derive(Debug, Default)]
pub struct Health(Mutex<Facts>);

/// How it is at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Since when it is subscribed; `None` while it is not.
    pub subscribed_since: Option<SystemTime>,
    /// Why it is not subscribed, if it was tried.
    pub away_because: Option<String>,
    /// Since when there is no room, and why; `None` while there is.
    pub no_room: Option<(SystemTime, String)>,
    /// Since when a batch is on its way to the disk; `None` between two, and while there is no room.
    pub busy_since: Option<SystemTime>,
    /// Of the log of messages.
    pub messages: Counts,
    /// Of the key history.
    pub keys: Counts,
}

/// What was done with a log since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines written.
    pub written: u64,
    /// Of these, what was no envelope (or bundle) for its topic.
    pub unfit: u64,
    /// What came again, and was there already.
    pub duplicates: u64,
    /// The newest tree head that was signed, and when.
    pub signed: Option<(SystemTime, u64)>,
}

impl Facts {
    /// What was done with `log`.
    #[must_use]
    pub fn of(&self, log: LogName) -> &Counts {
        match log {
            LogName::EncryptedLogs => &self.messages,
            LogName::KeyHistory => &self.keys,
        }
    }
}

impl Health {
    /// How it is now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.with(|facts| facts.clone())
    }

    /// The broker has granted the subscription.
    pub fn subscribed(&self) {
        self.with(|facts| {
            facts.subscribed_since = Some(SystemTime::now());
            facts.away_because = None;
        });
    }

    /// The connection is gone, or did not come about.
    pub fn away(&self, because: &str) {
        self.with(|facts| {
            facts.subscribed_since = None;
            facts.away_because = Some(because.to_owned());
        });
    }

    /// A batch goes to the disk.
    pub fn busy(&self) {
        self.with(|facts| facts.busy_since = Some(SystemTime::now()));
    }

    /// It is there, or there is no room for it.
    pub fn idle(&self) {
        self.with(|facts| facts.busy_since = None);
    }

    /// A batch is on the medium.
    pub fn archived(&self, log: LogName, written: u64, unfit: u64, duplicates: u64) {
        self.with(|facts| {
            let counts = counts(facts, log);
            counts.written += written;
            counts.unfit += unfit;
            counts.duplicates += duplicates;
        });
    }

    /// A tree head is signed.
    pub fn signed(&self, log: LogName, head: TreeHead) {
        self.with(|facts| counts(facts, log).signed = Some((SystemTime::now(), head.size)));
    }

    /// There is no room. `true` if there was until now.
    pub fn has_no_room(&self, because: &str) -> bool {
        self.with(|facts| {
            let since = facts.no_room.as_ref().map(|(since, _)| *since);
            let now = since.unwrap_or_else(SystemTime::now);
            facts.no_room = Some((now, because.to_owned()));
            since.is_none()
        })
    }

    /// There is room. `true` if there was none until now.
    pub fn has_room(&self) -> bool {
        self.with(|facts| facts.no_room.take().is_some())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        // Each change is a whole one, so what a panic left behind is as good as before.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn counts(facts: &mut Facts, log: LogName) -> &mut Counts {
    match log {
        LogName::EncryptedLogs => &mut facts.messages,
        LogName::KeyHistory => &mut facts.keys,
    }
}
