//! History files: one message a line, oldest first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::line::{HistoryLine, LineError, MAX_LINE};
use crate::store::{HistoryRange, ImportedMessage, Store, StoreError};

/// How many messages are taken over in one transaction, and how many bytes of them: others wait for the store meanwhile.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where it was to go.
    #[error("cannot write the history: {0}")]
    Write(#[from] io::Error),
    /// It was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line that is no message of ours.
    #[error("line {number} of {path}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        number: u64,
        /// What is wrong with it.
        problem: LineError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imports {
    /// So many messages were new.
    pub fresh: u64,
    /// So many were there already.
    pub known: u64,
}

/// Writes a part of the history, edits and deletions by themselves, and nothing that is to disappear; returns how many messages it has.
pub fn export(
    store: &Store,
    history: HistoryLine<'_>,
    range: &HistoryRange,
    out: &mut dyn Write,
    is_stopped: &dyn Fn() -> bool,
) -> Result<u64, ExportError> {
    let mut written = 0;
    for place in store.history_rows(range, u32::MAX)?.into_iter().rev() {
        if is_stopped() {
            return Err(ExportError::Interrupted);
        }
        if let Some(entry) = store.history_row(place)? {
            out.write_all(history.write(&entry)?.as_bytes())?;
            out.write_all(b"\n")?;
            written += 1;
        }
    }
    out.flush()?;
    Ok(written)
}

/// Takes the messages of a file into the history. Nothing is taken when a line of it is wrong: it is read twice. Doing it
/// again changes nothing.
pub fn import(
    store: &mut Store,
    history: HistoryLine<'_>,
    path: &Path,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Imports, ImportError> {
    let read_error = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read_error)?;
    // What is not an ordinary file cannot be read twice.
    if !file.metadata().map_err(read_error)?.is_file() {
        return Err(read_error(io::ErrorKind::Unsupported.into()));
    }
    each_message(&file, path, history, is_stopped, &mut |_| Ok(()))?;
    file.rewind().map_err(read_error)?;

    let (mut fresh, mut total) = (0, 0);
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
    let mut take = |batch: &mut Vec<ImportedMessage>| -> Result<(), StoreError> {
        total += batch.len() as u64;
        fresh += store.import_history(batch)? as u64;
        batch.clear();
        Ok(())
    };
    each_message(&file, path, history, is_stopped, &mut |message| {
        bytes += message.body.len();
        batch.push(message);
        if batch.len() == BATCH || bytes > BATCH_BYTES {
            take(&mut batch)?;
            bytes = 0;
        }
        Ok(())
    })?;
    take(&mut batch)?;
    Ok(Imports {
        fresh,
        known: total - fresh,
    })
}

fn each_message(
    file: &File,
    path: &Path,
    history: HistoryLine<'_>,
    is_stopped: &dyn Fn() -> bool,
    take: &mut dyn FnMut(ImportedMessage) -> Result<(), StoreError>,
) -> Result<(), ImportError> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        if is_stopped() {
            return Err(ImportError::Interrupted);
        }
        line.clear();
        let read = file
            .by_ref()
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|source| ImportError::Read {
                path: path.to_owned(),
                source,
            })?;
        if read == 0 {
            break;
        }
        let wrong = |problem| ImportError::Line {
            path: path.to_owned(),
            number,
            problem,
        };
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > MAX_LINE {
            return Err(wrong(LineError::TooLong));
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong(LineError::NotText))?;
        take(history.read(text).map_err(wrong)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{at, store, user};
    use crate::store::{Incoming, Place};
    use sealpost_core::{MessageId, Realm, UserId};
    use zeroize::Zeroizing;

    struct House {
        folder: tempfile::TempDir,
        realm: Realm,
        me: UserId,
    }

    impl House {
        fn new() -> House {
            House {
                folder: tempfile::tempdir().unwrap(),
                realm: Realm::default(),
                me: user("bob"),
            }
        }

        fn line(&self) -> HistoryLine<'_> {
            HistoryLine {
                realm: &self.realm,
                me: &self.me,
            }
        }

        fn store(&self) -> Store {
            store(&self.folder)
        }

        fn export(&self) -> String {
            let mut out = Vec::new();
            let everything = HistoryRange::default();
            export(&self.store(), self.line(), &everything, &mut out, &|| false).unwrap();
            String::from_utf8(out).unwrap()
        }

        fn import(&self, text: impl AsRef<[u8]>) -> Result<Imports, ImportError> {
            let path = self.folder.path().join("history.jsonl");
            std::fs::write(&path, text).unwrap();
            import(&mut self.store(), self.line(), &path, &|| false)
        }
    }

    fn text(text: &str) -> String {
        format!(r#"{{"kind":"text","text":"{text}"}}"#)
    }

    /// Somebody with one message from alice and one to her.
    fn lived_in() -> House {
        let house = House::new();
        let mut store = house.store();
        let id = |ms| MessageId::new(at(ms), &mut rand::rng());
        let (alice, theirs, ours) = (user("alice"), id(1), id(2));
        let body = text("Hi");
        let message = Incoming {
            from: &alice,
            id: &theirs,
            prev: None,
            ts: at(1),
            body: body.as_bytes(),
            digest: [7; 32],
            signer: None,
        };
        store.accept(&message, at(100)).unwrap();
        let message = [(ours, Zeroizing::new(text("Hello")))];
        store.enqueue(&alice, &message, at(200)).unwrap();
        house
    }

    #[test]
    fn what_is_exported_is_imported_elsewhere_once_and_comes_out_the_same_but_for_the_mark() {
        let exported = lived_in().export();
        assert_eq!(exported.lines().count(), 2);
        let elsewhere = House::new();
        let counts = |fresh, known| Imports { fresh, known };
        assert_eq!(elsewhere.import(&exported).unwrap(), counts(2, 0));
        assert_eq!(elsewhere.import(&exported).unwrap(), counts(0, 2));
        let again = elsewhere.export();
        assert_eq!(again.replace(r#""imported":true,"#, ""), exported);
        // At home nothing of it is new.
        let house = lived_in();
        assert_eq!(house.import(house.export()).unwrap(), counts(0, 2));
    }

    #[test]
    fn a_wrong_line_is_named_and_nothing_is_taken() {
        let exported = lived_in().export();
        let mut bad_bytes = exported.clone().into_bytes();
        bad_bytes.extend(b"\xff\n");
        let long = format!("{exported}{}\n", "x".repeat(MAX_LINE + 1));
        for (file, problem) in [
            (format!("{exported}\n").into_bytes(), "line 3"),
            (format!("{exported}{{}}").into_bytes(), "line 3"),
            (bad_bytes, "line 3"),
            (long.into_bytes(), "line 3"),
            (exported.replace("received", "seen").into_bytes(), "line 1"),
        ] {
            let house = House::new();
            let refused = house.import(file).unwrap_err().to_string();
            assert!(refused.contains(problem), "{refused}");
            assert_eq!(house.export(), "");
        }
    }

    #[test]
    fn a_cut_export_lacks_lines_and_never_has_half_of_one() {
        let exported = lived_in().export();
        let first = exported.lines().next().unwrap();
        let house = House::new();
        house.import(first).unwrap();
        assert_eq!(house.export().lines().count(), 1);
        house.import(&first[..first.len() - 1]).unwrap_err();
    }

    #[test]
    fn more_than_a_batch_is_taken_in_order() {
        let house = House::new();
        let mut lines = String::new();
        for number in 0..BATCH + 10 {
            lines.push_str(&format!(
                r#"{{"v":1,"realm":"local","from":"alice","to":"bob","id":"0193f1a2-0000-7000-8000-{number:012x}","ts":1.5,"at":{number},"state":"received","content":{}}}"#,
                text(&number.to_string())
            ));
            lines.push('\n');
        }
        let imports = house.import(&lines).unwrap();
        assert_eq!(imports.fresh, BATCH as u64 + 10);
        let store = house.store();
        let newest = store.history(&HistoryRange::default(), 1).unwrap();
        let entry = store.history_entry(newest[0]).unwrap().unwrap();
        assert_eq!(
            entry.body.as_slice(),
            text(&(BATCH + 9).to_string()).as_bytes()
        );
        assert!(matches!(newest[..], [Place::Imported(_)]));
    }

    #[test]
    fn who_is_asked_to_stop_does() {
        let house = lived_in();
        let everything = HistoryRange::default();
        let mut out = Vec::new();
        let stopped = export(&house.store(), house.line(), &everything, &mut out, &|| {
            true
        });
        assert!(matches!(stopped, Err(ExportError::Interrupted)));
        let path = house.folder.path().join("file");
        std::fs::write(&path, house.export()).unwrap();
        let stopped = import(&mut house.store(), house.line(), &path, &|| true);
        assert!(matches!(stopped, Err(ImportError::Interrupted)));
    }
}
