//! A file that we offer: read once to know what it is, and again, chunk by chunk, when it is asked for.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sealpost_core::{Chunking, FileChunk, FileOffer, MAX_FILE, MAX_FILE_NAME, MessageId};
use sha2::{Digest, Sha256};

use super::CHUNK;
use crate::store::{ChunkSum, SUMS_IN_A_ROW, Store, StoreError};

/// Why a file cannot be offered, or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is a folder, a device, a pipe.
    #[error("{0} is no regular file")]
    NotRegular(PathBuf),
    /// It has no name.
    #[error("the file has no name")]
    NoName,
    /// It is not what it was.
    #[error("{0} was changed meanwhile")]
    Changed(PathBuf),
    /// It is larger than any file that can be sent.
    #[error("the file has {0} bytes, more than can be sent")]
    TooLarge(u64),
}

/// A file that was read and can be offered.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    name: String,
    chunking: Chunking,
    sha256: [u8; 32],
    sums: Vec<ChunkSum>,
}

impl Source {
    /// Opens a regular file and says how many bytes it has, which is what a limit is held against before all of it is read.
    ///
    /// # Errors
    /// When it cannot be opened, or is no regular file.
    pub fn size(path: &Path) -> Result<u64, SourceError> {
        Ok(open(path)?.1)
    }

    /// Reads all of it. `progress` is told how many bytes were read, after each 48,000.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, or is changed meanwhile.
    pub fn look(path: &Path, mut progress: impl FnMut(u64)) -> Result<Source, SourceError> {
        let io = |source| SourceError::Io {
            path: path.to_owned(),
            source,
        };
        let path_of = std::fs::canonicalize(path).map_err(io)?;
        let (mut file, size) = open(path)?;
        let chunking =
            Chunking::new(size, CHUNK).ok_or(SourceError::TooLarge(size.max(MAX_FILE)))?;
        let (mut whole, mut sums) = (Sha256::new(), Vec::new());
        let mut buffer = vec![0; CHUNK as usize];
        for index in 0..chunking.count() {
            let chunk = buffer
                .get_mut(..chunking.length(index).unwrap_or_default())
                .unwrap_or_default();
            file.read_exact(chunk).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SourceError::Changed(path.to_owned()),
                _ => io(error),
            })?;
            whole.update(&*chunk);
            sums.push(sum(chunk));
            progress(chunking.begin(index) + chunk.len() as u64);
        }
        if file.read(&mut [0]).map_err(io)? != 0 {
            return Err(SourceError::Changed(path.to_owned()));
        }
        Ok(Source {
            name: name_of(path)?,
            path: path_of,
            chunking,
            sha256: whole.finalize().into(),
            sums,
        })
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is cut.
    #[must_use]
    pub fn chunking(&self) -> Chunking {
        self.chunking
    }

    /// The digest of all of it.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(super) fn sums(&self) -> &[ChunkSum] {
        &self.sums
    }
}

fn open(path: &Path) -> Result<(File, u64), SourceError> {
    let io = |source| SourceError::Io {
        path: path.to_owned(),
        source,
    };
    // To open a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(SourceError::NotRegular(path.to_owned()));
    }
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(SourceError::NotRegular(path.to_owned())),
    }
}

/// The last part of the path, as text, as long as an offer takes.
fn name_of(path: &Path) -> Result<String, SourceError> {
    let name = path.file_name().ok_or(SourceError::NoName)?;
    let mut name = name.to_string_lossy().into_owned();
    while name.len() > MAX_FILE_NAME {
        name.pop();
    }
    Ok(name)
}

fn sum(chunk: &[u8]) -> ChunkSum {
    let digest: [u8; 32] = Sha256::digest(chunk).into();
    let mut sum = [0; 16];
    sum.copy_from_slice(&digest[..16]);
    sum
}

/// A file of ours of which chunks are sent.
#[derive(Debug)]
pub(crate) struct Opened {
    number: i64,
    file: File,
    path: PathBuf,
    offer: FileOffer,
    /// The digests of the chunks around the last one, and where they begin.
    sums: (u32, Vec<ChunkSum>),
}

impl Opened {
    pub(crate) fn open(number: i64, path: &Path, offer: FileOffer) -> Result<Opened, SourceError> {
        let (file, _) = open(path)?;
        Ok(Opened {
            number,
            file,
            path: path.to_owned(),
            offer,
            sums: (u32::MAX, Vec::new()),
        })
    }

    /// A chunk, encrypted. What is not as it was is never encrypted: it would be another content under the same nonce.
    pub(crate) fn chunk(
        &mut self,
        store: &Store,
        id: MessageId,
        index: u32,
    ) -> Result<Result<FileChunk, SourceError>, StoreError> {
        let chunking = self.offer.chunking();
        let mut chunk = vec![0; chunking.length(index).unwrap_or_default()];
        let changed = || Ok(Err(SourceError::Changed(self.path.clone())));
        match self.file.read_exact_at(&mut chunk, chunking.begin(index)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return changed(),
            Err(source) => {
                let path = self.path.clone();
                return Ok(Err(SourceError::Io { path, source }));
            }
        }
        let in_a_row = u32::try_from(SUMS_IN_A_ROW).unwrap_or(u32::MAX);
        if self.sums.0 != index / in_a_row {
            let part = index / in_a_row;
            self.sums = (part, store.file_sums(self.number, part)?);
        }
        let changed = || Ok(Err(SourceError::Changed(self.path.clone())));
        if self.sums.1.get((index % in_a_row) as usize) != Some(&sum(&chunk)) {
            return changed();
        }
        let sealed = self.offer.key().encrypt(chunking, index, &chunk).ok();
        match sealed.and_then(|data| FileChunk::new(id, index, data)) {
            Some(chunk) => Ok(Ok(chunk)),
            None => changed(),
        }
    }
}
