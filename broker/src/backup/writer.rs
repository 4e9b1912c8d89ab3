//! Writes the file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{END, MAGIC, VERSION};
use crate::files::{PRIVATE, create_new};

/// Bytes written at once.
const BUFFER: usize = 256 * 1024;

pub(super) struct Writer {
    out: BufWriter<File>,
    hash: Sha256,
    records: u64,
    bytes: u64,
}

impl Writer {
    /// A new file that only its owner reads.
    pub(super) fn create(path: &Path) -> io::Result<Writer> {
        let mut writer = Writer {
            out: BufWriter::with_capacity(BUFFER, create_new(path, PRIVATE)?),
            hash: Sha256::new(),
            records: 0,
            bytes: 0,
        };
        writer.put(MAGIC)?;
        writer.put(&[VERSION])?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }

    pub(super) fn record(&mut self, kind: u8, name: &[u8], value: &[u8]) -> io::Result<()> {
        self.put(&[kind])?;
        self.field(name)?;
        self.field(value)?;
        self.records += 1;
        Ok(())
    }

    /// Writes the end and the digest; the file is on the medium when this returns. Returns records and bytes.
    pub(super) fn finish(mut self) -> io::Result<(u64, u64)> {
        let records = self.records;
        self.record(END, &[], &records.to_be_bytes())?;
        let digest = self.hash.clone().finalize();
        self.put(&digest)?;
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((records, self.bytes))
    }
}
