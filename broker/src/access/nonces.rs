//! The nonces of login tokens that were used: each opens one connection, also over a crash.
//!
//! A token is worth something for two minutes at most, and a broker can be killed and be back within one. Refusing all
//! tokens from before the start would not do: a client whose clock is ahead makes tokens that look new, and one whose clock
//! is behind would be shut out of a broker that just came back. So a nonce is on disk before its token lets anybody in.
//! Nonces that come together share one sync.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sealpost_core::{IdentityKey, LOGIN_WINDOW, LoginToken, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::files::{create_private, sync_dir};

/// Logins of one identity in two minutes (20 a second, far above what scripts need): their nonces are remembered for that
/// long, and at this many further ones wait rather than make room for a replay. Others are not held up.
const PER_IDENTITY: usize = 2_400;

/// How long a nonce is remembered at least, by a clock that nobody sets: as long as a token is worth something. When the
/// broker's clock is put forward and back, tokens of before are new again.
const REMEMBERED: Duration = Duration::from_secs(2 * LOGIN_WINDOW.as_secs() + 1);

/// A nonce on disk: until when (milliseconds, big-endian), whose, and itself.
const ENTRY: usize = 8 + 32 + 16;

/// Bytes at which the file is looked through for nonces that have expired.
const COMPACT_AT: usize = 1024 * 1024;

/// Nonces that wait for one sync at most, and that may wait for the next.
const AT_ONCE: usize = 1_024;

/// Why a token does not open a connection.
#[derive(Debug, thiserror::Error)]
pub enum NonceError {
    /// It was used before.
    #[error("used before")]
    Replayed,
    /// Its owner has used too many lately.
    #[error("too many in two minutes")]
    TooOften,
    /// That it is used could not be written down.
    #[error("{0}")]
    Disk(io::Error),
}

/// Nonces that were used, for as long as their tokens are valid: for each identity its own, so that nobody can use up
/// another's, or lock another out.
#[derive(Debug)]
pub struct Nonces {
    used: Mutex<Used>,
    writing: mpsc::Sender<Writing>,
}

#[derive(Debug, Default)]
struct Used {
    by_identity: HashMap<IdentityKey, HashMap<[u8; 16], Use>>,
    swept: Option<Instant>,
}

/// The use of a nonce: when, and until when its token is worth something.
#[derive(Debug, Clone, Copy)]
struct Use {
    at: Instant,
    until: Timestamp,
}

impl Use {
    fn counts(&self, now: Timestamp, instant: Instant) -> bool {
        self.until >= now || instant.saturating_duration_since(self.at) < REMEMBERED
    }
}

#[derive(Debug)]
struct Writing {
    entry: [u8; ENTRY],
    done: oneshot::Sender<io::Result<()>>,
}

impl Nonces {
    /// Reads what an earlier run has left in `dir`, and goes on writing there.
    ///
    /// # Errors
    /// When the file there cannot be read or written.
    pub fn open(dir: &Path, now: Timestamp) -> io::Result<Nonces> {
        let mut file = NonceFile::open(dir, now)?;
        let mut used = Used::default();
        let at = Instant::now();
        for entry in &file.live {
            if let Some((key, nonce, until)) = parse(entry) {
                let nonces = used.by_identity.entry(key).or_default();
                nonces.insert(nonce, Use { at, until });
            }
        }
        file.live = Vec::new();
        let (writing, requests) = mpsc::channel(AT_ONCE);
        std::thread::Builder::new()
            .name("nonces".into())
            .spawn(move || write_down(file, requests))?;
        Ok(Nonces {
            used: Mutex::new(used),
            writing,
        })
    }

    /// Uses a token up. It is on disk when this returns.
    ///
    /// # Errors
    /// See [`NonceError`].
    pub async fn use_up(&self, token: &LoginToken, now: Timestamp) -> Result<(), NonceError> {
        let (key, nonce) = (*token.key(), *token.nonce());
        // A second more, so that no rounding opens a gap.
        let until = token
            .issued()
            .saturating_add(LOGIN_WINDOW + Duration::from_secs(1));
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, nonce, until, now, Instant::now())?;
        let (done, written) = oneshot::channel();
        let gone = || NonceError::Disk(io::Error::other("the writer of nonces has ended"));
        let entry = entry(&key, &nonce, until);
        let request = Writing { entry, done };
        self.writing.send(request).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?.map_err(NonceError::Disk)
    }
}

impl Used {
    fn insert(
        &mut self,
        key: IdentityKey,
        nonce: [u8; 16],
        until: Timestamp,
        now: Timestamp,
        instant: Instant,
    ) -> Result<(), NonceError> {
        if self
            .swept
            .is_none_or(|swept| instant.saturating_duration_since(swept) >= LOGIN_WINDOW)
        {
            self.swept = Some(instant);
            self.by_identity.retain(|_, used| {
                used.retain(|_, it| it.counts(now, instant));
                !used.is_empty()
            });
        }
        let used = self.by_identity.entry(key).or_default();
        if used.len() >= PER_IDENTITY {
            used.retain(|_, it| it.counts(now, instant));
        }
        if used.contains_key(&nonce) {
            return Err(NonceError::Replayed);
        }
        if used.len() >= PER_IDENTITY {
            return Err(NonceError::TooOften);
        }
        used.insert(nonce, Use { at: instant, until });
        Ok(())
    }
}

fn entry(key: &IdentityKey, nonce: &[u8; 16], until: Timestamp) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let until = until.millis().to_be_bytes();
    let parts = until.iter().chain(key.as_bytes()).chain(nonce);
    for (byte, value) in entry.iter_mut().zip(parts) {
        *byte = *value;
    }
    entry
}

fn parse(entry: &[u8; ENTRY]) -> Option<(IdentityKey, [u8; 16], Timestamp)> {
    let (until, rest) = entry.split_first_chunk::<8>()?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let until = Timestamp::from_millis(u64::from_be_bytes(*until)).ok()?;
    Some((IdentityKey::parse(key).ok()?, rest.try_into().ok()?, until))
}

#[derive(Debug)]
struct NonceFile {
    dir: PathBuf,
    file: File,
    size: usize,
    compact_at: usize,
    /// What was found at the start.
    live: Vec<[u8; ENTRY]>,
}

impl NonceFile {
    /// Opens the file with what is still of use in it. A tail that a crash cut short is of a login that was not let in.
    fn open(dir: &Path, now: Timestamp) -> io::Result<NonceFile> {
        let path = dir.join("nonces");
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (entries, _cut_short) = bytes.as_chunks::<ENTRY>();
        let mut live = entries.to_vec();
        live.retain(|entry| parse(entry).is_some_and(|(_, _, until)| until >= now));

        let new = dir.join("nonces.new");
        let mut file = create_private(&new)?;
        file.write_all(live.as_flattened())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_dir(dir)?;
        let size = live.len() * ENTRY;
        Ok(NonceFile {
            dir: dir.to_owned(),
            file,
            size,
            compact_at: COMPACT_AT.max(size * 2),
            live,
        })
    }

    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        if self.size >= self.compact_at {
            *self = NonceFile::open(&self.dir, clock::now())?;
            self.live = Vec::new();
        }
        self.file.write_all(entries)?;
        self.size += entries.len();
        self.file.sync_data()
    }
}

/// The thread that writes. After a failure the file is made anew before anything is promised again.
fn write_down(mut file: NonceFile, mut requests: mpsc::Receiver<Writing>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while requests.blocking_recv_many(&mut batch, AT_ONCE) > 0 {
        let entries = batch.iter().map(|writing| writing.entry);
        let written = file.append(entries.collect::<Vec<_>>().as_flattened());
        if written.is_err() {
            file.size = usize::MAX;
        }
        for writing in batch.drain(..) {
            let told = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            // Whoever asked may be gone.
            let _ = writing.done.send(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_core::{Identity, Realm, UserId};

    const NOW: u64 = 1_700_000_000_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn token(seed: u8, nonce: [u8; 16]) -> LoginToken {
        let text = LoginToken::mint(
            &Identity::from_seed(&[seed; 32]),
            &Realm::default(),
            &UserId::parse("alice").unwrap(),
            "a",
            at(NOW),
            nonce,
            &[],
        );
        LoginToken::parse(&text).unwrap()
    }

    #[test]
    fn one_users_logins_do_not_lock_the_others_out() {
        let (eager, other) = (
            Identity::from_seed(&[1; 32]).key(),
            Identity::from_seed(&[2; 32]).key(),
        );
        let mut used = Used::default();
        let (until, instant) = (at(NOW + 61_000), Instant::now());
        for number in 0..PER_IDENTITY as u128 {
            used.insert(eager, number.to_be_bytes(), until, at(NOW), instant)
                .unwrap();
        }
        assert!(matches!(
            used.insert(eager, [0xff; 16], until, at(NOW), instant),
            Err(NonceError::TooOften)
        ));
        used.insert(other, [0xff; 16], until, at(NOW), instant)
            .unwrap();
        let (later, instant) = (at(NOW + 122_000), instant + REMEMBERED);
        used.insert(eager, [0xff; 16], at(NOW + 183_000), later, instant)
            .unwrap();
    }

    #[test]
    fn a_clock_that_is_put_forward_and_back_makes_no_used_token_new() {
        const HOUR: u64 = 3_600_000;
        let key = Identity::from_seed(&[1; 32]).key();
        let mut used = Used::default();
        let (until, start) = (at(NOW + 61_000), Instant::now());
        used.insert(key, [1; 16], until, at(NOW), start).unwrap();
        // Late enough to look for nonces that are worth nothing any more.
        let (ahead, then) = (at(NOW + HOUR), start + LOGIN_WINDOW);
        used.insert(key, [2; 16], at(NOW + HOUR + 61_000), ahead, then)
            .unwrap();
        assert!(matches!(
            used.insert(key, [1; 16], until, at(NOW + 60_000), then),
            Err(NonceError::Replayed)
        ));
    }

    #[tokio::test]
    async fn a_used_token_stays_used_over_a_restart_and_is_forgotten_when_it_is_worth_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let nonces = Nonces::open(dir.path(), at(NOW)).unwrap();
        nonces.use_up(&token(1, [1; 16]), at(NOW)).await.unwrap();
        drop(nonces);
        // A crash in the middle of the next one.
        let path = dir.path().join("nonces");
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), ENTRY);
        bytes.extend_from_slice(&[7; ENTRY - 1]);
        fs::write(&path, bytes).unwrap();

        let nonces = Nonces::open(dir.path(), at(NOW + 1)).unwrap();
        assert!(matches!(
            nonces.use_up(&token(1, [1; 16]), at(NOW + 1)).await,
            Err(NonceError::Replayed)
        ));
        nonces
            .use_up(&token(2, [1; 16]), at(NOW + 1))
            .await
            .unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 2 * ENTRY);
        drop(nonces);
        let _later = Nonces::open(dir.path(), at(NOW + 61_001)).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 0);
    }

    #[test]
    fn the_file_is_made_anew_when_it_has_grown_and_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let key = Identity::from_seed(&[1; 32]).key();
        let mut file = NonceFile::open(dir.path(), at(NOW)).unwrap();
        // Long expired by the clock that compaction goes by.
        file.append(&entry(&key, &[1; 16], at(NOW))).unwrap();
        file.size = usize::MAX;
        file.append(&entry(&key, &[2; 16], Timestamp::MAX)).unwrap();
        let bytes = fs::read(dir.path().join("nonces")).unwrap();
        assert_eq!(bytes, entry(&key, &[2; 16], Timestamp::MAX));
    }
}
