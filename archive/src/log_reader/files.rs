//! The files that a log lies in.

use std::io;

use super::error::ReadError;
use crate::layout::{self, LogName};
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::storage::{Storage, StoredFile, read_exact_at};

/// The files of a log, by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// Paths of manifests, by number.
    pub(super) manifests: Vec<String>,
    /// Paths of files on their way into segments, by number.
    pub(super) sealing: Vec<String>,
}

impl Names {
    pub(super) fn list<S: Storage>(storage: &S, log: LogName) -> Result<Names, ReadError> {
        let manifests = manifests(storage, log)
            .map_err(ReadError::List)?
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let mut sealing: Vec<String> = storage
            .list("")
            .map_err(ReadError::List)?
            .into_iter()
            .filter(|name| log.first_of_sealing(name).is_some())
            .collect();
        // Twenty digits: the order of names is that of numbers.
        sealing.sort_unstable();
        Ok(Names { manifests, sealing })
    }
}

/// The manifests of a log: the number of each one's first line and its path, in order.
///
/// # Errors
/// Whatever the disk says.
pub fn manifests<S: Storage>(storage: &S, log: LogName) -> io::Result<Vec<(u64, String)>> {
    files_of_days(storage, log, layout::first_of_manifest)
}

/// The files of segments of a log, also those without a manifest: the number of each one's first line and its path, in order.
///
/// # Errors
/// Whatever the disk says.
pub fn segments<S: Storage>(storage: &S, log: LogName) -> io::Result<Vec<(u64, String)>> {
    files_of_days(storage, log, layout::first_of_segment)
}

/// The files in the folders of days that `first_of` knows by their names.
fn files_of_days<S: Storage>(
    storage: &S,
    log: LogName,
    first_of: fn(&str) -> Option<u64>,
) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for day in days(storage, log)? {
        for name in storage.list(&day)? {
            if let Some(first) = first_of(&name) {
                found.push((first, format!("{day}/{name}")));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The folders of days of a log, also those in which there is nothing.
///
/// # Errors
/// Whatever the disk says.
pub fn days<S: Storage>(storage: &S, log: LogName) -> io::Result<Vec<String>> {
    let mut folders = vec![log.folder().to_owned()];
    // Year, month, day.
    for digits in [4, 2, 2] {
        let mut below = Vec::new();
        for folder in folders {
            let names = storage.list(&folder)?.into_iter();
            let numbers = names.filter(|name| {
                name.len() == digits && name.bytes().all(|digit| digit.is_ascii_digit())
            });
            below.extend(numbers.map(|name| match folder.as_str() {
                "" => name,
                _ => format!("{folder}/{name}"),
            }));
        }
        folders = below;
    }
    Ok(folders)
}

/// The path of the segment whose manifest lies at `path`.
#[must_use]
pub fn segment_beside(path: &str, manifest: &Manifest) -> String {
    let name = layout::segment(manifest.first, manifest.erased);
    match path.rsplit_once('/') {
        None => name,
        Some((day, _)) => format!("{day}/{name}"),
    }
}

/// Reads the manifest at `path`; `None` if there is none.
///
/// # Errors
/// [`ReadError::File`] and [`ReadError::Manifest`].
pub fn read_manifest<S: Storage>(storage: &S, path: &str) -> Result<Option<Manifest>, ReadError> {
    let Some(bytes) = read_whole(storage, path, MAX_MANIFEST)? else {
        return Ok(None);
    };
    let manifest = Manifest::parse(&bytes).map_err(|reason| ReadError::Manifest {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Some(manifest))
}

/// Reads a whole small file; `None` if there is none.
///
/// # Errors
/// [`ReadError::File`], also if it is longer than `limit`.
pub fn read_whole<S: Storage>(
    storage: &S,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(file) = open(storage, path)? else {
        return Ok(None);
    };
    let read = || {
        let length = file.length()?;
        if length > limit {
            let reason = format!("it is longer than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        read_exact_at(&file, 0, &mut bytes)?;
        Ok(bytes)
    };
    read().map(Some).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })
}

/// Opens a file; `None` if it is not there.
pub(super) fn open<S: Storage>(storage: &S, path: &str) -> Result<Option<S::File>, ReadError> {
    match storage.open_existing(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::File {
            path: path.to_owned(),
            source,
        }),
    }
}
