//! Follows an archive as it grows, and notes the id of every line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sealpost_core::MessageId;

use crate::connection::Limits;
use crate::publisher::Final;
use crate::stamp::Clock;

/// How often it looks for more.
const LOOK: Duration = Duration::from_millis(2);

/// What an archive got.
#[derive(Debug, Default)]
pub(crate) struct Archived {
    /// The ids of its lines.
    pub(crate) ids: HashSet<[u8; 16]>,
    /// Lines with an id that an earlier line had.
    pub(crate) duplicates: u64,
    /// Lines without an id.
    pub(crate) unreadable: u64,
    /// Lines that hold the text that was sealed.
    pub(crate) in_clear: u64,
    /// When the last line was seen, in nanoseconds of the run's clock.
    pub(crate) last: u64,
    /// Why it was not read to its end.
    pub(crate) error: Option<String>,
}

impl Archived {
    /// Follows `log` from byte `from` until it has as many lines as `done` says. No line may hold `secret`.
    pub(crate) fn follow(
        log: &Path,
        from: u64,
        secret: &str,
        done: &Final,
        clock: Clock,
        limits: Limits,
    ) -> Self {
        let mut archived = Self::default();
        archived.error = archived.read(log, from, secret, done, clock, limits).err();
        archived
    }

    fn read(
        &mut self,
        log: &Path,
        from: u64,
        secret: &str,
        done: &Final,
        clock: Clock,
        limits: Limits,
    ) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot read the archive: {error}");
        let mut file = None;
        let mut unread = Vec::new();
        let mut moved = Instant::now();
        loop {
            if file.is_none() && log.exists() {
                let mut opened = File::open(log).map_err(failed)?;
                opened.seek(SeekFrom::Start(from)).map_err(failed)?;
                file = Some(opened);
            }
            let read = match &mut file {
                Some(file) => file.read_to_end(&mut unread).map_err(failed)?,
                None => 0,
            };
            if read > 0 {
                moved = Instant::now();
                if self.take_lines(&mut unread, secret) {
                    self.last = clock.now();
                }
            }
            match done.get() {
                Some(messages) if self.lines() >= messages => return Ok(()),
                Some(_) => {
                    if let Some(exceeded) = limits.exceeded(moved) {
                        return Err(exceeded.to_string());
                    }
                }
                None => moved = Instant::now(),
            }
            if Instant::now() >= limits.deadline {
                return Err("STALLED: the run's deadline came first".to_owned());
            }
            thread::sleep(LOOK);
        }
    }

    fn lines(&self) -> u64 {
        self.ids.len() as u64 + self.duplicates + self.unreadable
    }

    /// Takes whole lines out of `unread`; whether there was one.
    fn take_lines(&mut self, unread: &mut Vec<u8>, secret: &str) -> bool {
        let Some(end) = unread.iter().rposition(|&byte| byte == b'\n') else {
            return false;
        };
        let rest = unread.split_off(end + 1);
        for line in String::from_utf8_lossy(unread).lines() {
            match id_of(line) {
                Some(id) if self.ids.insert(*id.as_bytes()) => {}
                Some(_) => self.duplicates += 1,
                None => self.unreadable += 1,
            }
            self.in_clear += u64::from(line.contains(secret));
        }
        *unread = rest;
        true
    }
}

/// The first member of that name: what comes before it in a line are numbers and the head of the envelope.
fn id_of(line: &str) -> Option<MessageId> {
    let (_, rest) = line.split_once(r#""id":""#)?;
    let (id, _) = rest.split_once('"')?;
    MessageId::parse(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const FIRST: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
    const SECOND: &str = "01890a5d-ac97-7ccb-8ddf-0a0e0a9f5e1c";

    fn follow(lines: &[String], from: u64, messages: u64) -> Archived {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        File::create(&log)
            .unwrap()
            .write_all(lines.concat().as_bytes())
            .unwrap();
        let done = Final::unknown();
        done.set(messages);
        let limits = Limits::from_now(Duration::from_secs(20), Duration::from_millis(100));
        Archived::follow(&log, from, "the secret", &done, Clock::start(), limits)
    }

    fn line(id: &str) -> String {
        format!(
            "{{\"seq\":1,\"archived_at\":1.000,\"v\":1,\"suite\":\"s\",\"id\":\"{id}\",\"prev\":null}}\n"
        )
    }

    #[test]
    fn every_line_is_noted() {
        let lines = [
            line(FIRST),
            line(SECOND),
            line(FIRST),
            "{}\n".to_owned(),
            "the secret\n".to_owned(),
        ];
        let archived = follow(&lines, 0, 5);
        assert_eq!(
            (
                archived.ids.len(),
                archived.duplicates,
                archived.unreadable,
                archived.in_clear
            ),
            (2, 1, 2, 1)
        );
        assert_eq!(archived.error, None);
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let lines = [line(FIRST), line(SECOND)];
        let archived = follow(&lines, lines[0].len() as u64, 1);
        assert!(
            archived
                .ids
                .contains(MessageId::parse(SECOND).unwrap().as_bytes())
        );
        assert_eq!(archived.ids.len(), 1);
    }

    #[test]
    fn lines_that_never_come_are_a_stall() {
        let archived = follow(&[line(FIRST), line(SECOND).replace('\n', "")], 0, 2);
        assert!(archived.error.unwrap().contains("STALLED"));
        assert_eq!(archived.ids.len(), 1);
    }
}
