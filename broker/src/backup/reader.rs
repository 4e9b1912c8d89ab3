//! Reads the file, and believes nothing in it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{ABOUT, DIGEST, END, MAGIC, MAX_NAME, MAX_VALUE, ROW, USER, VERSION, table};
use crate::journal::store::Table;

/// Why a file is not a whole backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("{0}")]
    Io(io::Error),
    /// It is something else.
    #[error("it is not a backup of sealpost-broker")]
    Foreign,
    /// Another version of the program made it.
    #[error("it has format {0}, and this program reads format {VERSION}")]
    Version(u8),
    /// It ends too early.
    #[error("it is cut short")]
    CutShort,
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::CutShort,
            _ => ReadError::Io(error),
        }
    }
}

/// What the file has.
pub(super) enum Item {
    About(String, String),
    User(String, Vec<u8>),
    Row(Table, Vec<u8>, Vec<u8>),
}

pub(super) struct Reader {
    input: BufReader<File>,
    hash: Sha256,
    records: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, ReadError> {
        let mut reader = Reader {
            input: BufReader::with_capacity(256 * 1024, File::open(path)?),
            hash: Sha256::new(),
            records: 0,
        };
        let mut magic = [0; MAGIC.len()];
        match reader.take(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) | Err(ReadError::CutShort) => return Err(ReadError::Foreign),
            Err(error) => return Err(error),
        }
        match reader.byte()? {
            VERSION => Ok(reader),
            other => Err(ReadError::Version(other)),
        }
    }

    fn take(&mut self, into: &mut [u8]) -> Result<(), ReadError> {
        self.input.read_exact(into)?;
        self.hash.update(into);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, ReadError> {
        let mut byte = [0];
        self.take(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    fn field(&mut self, most: usize) -> Result<Vec<u8>, ReadError> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > most {
            return Err(ReadError::Damaged("a length is too great"));
        }
        let mut bytes = vec![0; length];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    /// The next item; none after the last, and only if all that came before is what was written.
    pub(super) fn next(&mut self) -> Result<Option<Item>, ReadError> {
        let kind = self.byte()?;
        let name = self.field(MAX_NAME)?;
        let value = self.field(MAX_VALUE)?;
        let text = |bytes| String::from_utf8(bytes).map_err(|_| ReadError::Damaged("not a text"));
        let item = match kind {
            END => return self.end(&value).map(|()| None),
            ABOUT => Item::About(text(name)?, text(value)?),
            USER => Item::User(text(name)?, value),
            ROW => {
                let first = name.split_first();
                let (number, key) = first.ok_or(ReadError::Damaged("a row without a table"))?;
                let table = table(*number).ok_or(ReadError::Damaged("a row of no table"))?;
                Item::Row(table, key.to_vec(), value)
            }
            _ => return Err(ReadError::Damaged("a record of no known kind")),
        };
        self.records += 1;
        Ok(Some(item))
    }

    fn end(&mut self, count: &[u8]) -> Result<(), ReadError> {
        let expected = self.hash.clone().finalize();
        let mut digest = [0; DIGEST];
        self.input.read_exact(&mut digest)?;
        if digest[..] != expected[..] {
            return Err(ReadError::Damaged("the digest at its end is another"));
        }
        if count != self.records.to_be_bytes() {
            return Err(ReadError::Damaged("it has another number of records"));
        }
        if self.input.read(&mut [0])? > 0 {
            return Err(ReadError::Damaged("something follows its end"));
        }
        Ok(())
    }
}
