//! A file that came in full: checked against its digest, and saved under a name that nothing has.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sealpost_core::{FileOffer, TAG_LEN, saved_name};
use sha2::{Digest, Sha256};

use super::part;
use crate::new_file::{NewFile, NewFileError};
use crate::store::{FileEntry, Store, StoreError};

/// So many names are tried: `a.txt`, `a (1).txt`, and so on.
const MOST_NAMES: u32 = 10_000;

/// Why a file was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// What came is not what was offered.
    #[error("what came is not what was offered: its SHA-256 differs")]
    Damaged,
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Nothing free is left of its names.
    #[error("there are too many files of that name in {0}")]
    NoName(PathBuf),
}

/// What is to be checked, and saved where there is a folder. Needs no store.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    part: PathBuf,
    offer: FileOffer,
    folder: Option<PathBuf>,
}

impl Order {
    /// Nothing when the message that offers it is gone.
    pub(crate) fn new(
        store: &Store,
        entry: &FileEntry,
        folder: Option<PathBuf>,
    ) -> Result<Option<Order>, StoreError> {
        let offer = store.file_offer(&entry.peer, &entry.id, entry.ours)?;
        Ok(offer.map(|offer| Order {
            part: part::path(store, entry.number),
            offer,
            folder,
        }))
    }
}

/// Whether files can be saved there.
pub(super) fn check_folder(folder: &Path) -> Result<(), SaveError> {
    let io = |source| SaveError::Io {
        path: folder.to_owned(),
        source,
    };
    match std::fs::metadata(folder).map_err(io)?.is_dir() {
        true => Ok(()),
        false => Err(io(io::ErrorKind::NotADirectory.into())),
    }
}

/// Does it; returns where it was saved. Blocks: it reads all of the file.
pub(crate) fn work(order: &Order) -> Result<Option<PathBuf>, SaveError> {
    let Some(folder) = &order.folder else {
        copy(order, &mut io::sink(), Path::new(""))?;
        return Ok(None);
    };
    let name = saved_name(order.offer.name());
    let mut file: Option<NewFile> = None;
    // It is written once, under the first name that is free now; what takes that meanwhile has it moved to the next.
    for number in 0..MOST_NAMES {
        let path = folder.join(numbered(&name, number));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        let written = match file.take() {
            Some(written) => written,
            None => {
                let mut new = NewFile::create(&path).map_err(not_saved)?;
                copy(order, &mut new, &path)?;
                new
            }
        };
        match written.finish_as(&path) {
            Ok(()) => return Ok(Some(path)),
            Err((again, NewFileError::Exists(_))) => file = again,
            Err((_, error)) => return Err(not_saved(error)),
        }
    }
    Err(SaveError::NoName(folder.clone()))
}

fn not_saved(error: NewFileError) -> SaveError {
    match error {
        NewFileError::Exists(path) => SaveError::NoName(path),
        NewFileError::Io { path, source } => SaveError::Io { path, source },
    }
}

/// Decrypts a part into `out`, and holds it against the offer's digest.
fn copy(order: &Order, out: &mut impl Write, path: &Path) -> Result<(), SaveError> {
    let Order { part, offer, .. } = order;
    let unreadable = |source| SaveError::Io {
        path: part.clone(),
        source,
    };
    let file = File::open(part).map_err(unreadable)?;
    let chunking = offer.chunking();
    let mut digest = Sha256::new();
    let mut data = Vec::new();
    for index in 0..chunking.count() {
        data.resize(chunking.length(index).unwrap_or_default() + TAG_LEN, 0);
        match file.read_exact_at(&mut data, part::place(chunking, index)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(SaveError::Damaged);
            }
            read => read.map_err(unreadable)?,
        }
        let chunk = offer.key().decrypt(chunking, index, &data);
        let chunk = chunk.map_err(|_| SaveError::Damaged)?;
        digest.update(&chunk);
        out.write_all(&chunk).map_err(|source| SaveError::Io {
            path: path.to_owned(),
            source,
        })?;
    }
    match <[u8; 32]>::from(digest.finalize()) == *offer.sha256() {
        true => Ok(()),
        false => Err(SaveError::Damaged),
    }
}

/// `a.tar.gz`, `a (1).tar.gz`: before the endings, as file managers do.
fn numbered(name: &str, number: u32) -> String {
    if number == 0 {
        return name.to_owned();
    }
    let dot = name
        .find('.')
        .filter(|at| *at > 0 && name.len() - at <= 16)
        .or_else(|| {
            name.rfind('.')
                .filter(|at| *at > 0 && name.len() - at <= 16)
        });
    match dot.and_then(|at| name.split_at_checked(at)) {
        Some((stem, ending)) => format!("{stem} ({number}){ending}"),
        None => format!("{name} ({number})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_keeps_the_ending() {
        for (name, second) in [
            ("a.txt", "a (1).txt"),
            ("a.tar.gz", "a (1).tar.gz"),
            ("a", "a (1)"),
            (
                "v1.2 of a long thing with dots.pdf",
                "v1.2 of a long thing with dots (1).pdf",
            ),
        ] {
            assert_eq!(numbered(name, 1), second);
        }
    }
}
