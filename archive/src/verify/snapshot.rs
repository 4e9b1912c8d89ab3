//! The files of a log at one moment, opened, whatever state they are in.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::layout::{self, LogName};
use crate::log_reader::{ReadError, read_whole};
use crate::manifest::{MAX_MANIFEST, Manifest, ManifestError};
use crate::storage::{Storage, StoredFile};

/// How often files are looked at when they change under the reader.
const ATTEMPTS: u32 = 8;

/// A file with lines.
#[derive(Debug)]
pub(super) struct PartFile<F> {
    /// Below the archive's directory.
    pub(super) path: String,
    pub(super) kind: PartKind,
    pub(super) file: F,
    pub(super) length: u64,
}

#[derive(Debug)]
pub(super) enum PartKind {
    /// A segment, the number in its name, and its manifest.
    Sealed {
        first: u64,
        manifest: Option<StoredManifest>,
    },
    /// A full file on its way into a segment.
    Sealing,
    /// The active file.
    Active,
}

/// A manifest as it was found.
#[derive(Debug)]
pub(super) struct StoredManifest {
    pub(super) path: String,
    pub(super) content: Result<Box<Manifest>, ManifestError>,
}

/// The files of a log. They stay open, so that it stays whole when they are sealed, written anew or removed.
#[derive(Debug)]
pub(super) struct Snapshot<F> {
    pub(super) parts: Vec<PartFile<F>>,
    /// Manifests without a segment.
    pub(super) alone: Vec<StoredManifest>,
}

impl<F: StoredFile> Snapshot<F> {
    pub(super) fn take<S: Storage<File = F>>(
        storage: &S,
        log: LogName,
    ) -> Result<Snapshot<F>, ReadError> {
        for _ in 0..ATTEMPTS {
            let names = Names::list(storage, log)?;
            if let Some(snapshot) = open(storage, log, &names)?
                && Names::list(storage, log)? == names
            {
                return Ok(snapshot);
            }
        }
        Err(ReadError::Restless)
    }
}

/// What is in the folders of a log, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// By number and folder.
    sealed: BTreeMap<(u64, String), SealedNames>,
    /// The numbers of files on their way into segments, in order.
    sealing: Vec<u64>,
}

/// The files of one segment, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct SealedNames {
    /// Its lines, also as they were before some were erased, in order.
    segments: BTreeSet<String>,
    manifest: bool,
}

impl Names {
    fn list<S: Storage>(storage: &S, log: LogName) -> Result<Names, ReadError> {
        let mut names = Names::default();
        let list = |path: &str| storage.list(path).map_err(ReadError::List);
        let folders = |path: &str, digits: usize| -> Result<Vec<String>, ReadError> {
            let is_number = |name: &String| {
                name.len() == digits && name.bytes().all(|digit| digit.is_ascii_digit())
            };
            let below = |name: String| match path {
                "" => name,
                _ => format!("{path}/{name}"),
            };
            Ok(list(path)?
                .into_iter()
                .filter(is_number)
                .map(below)
                .collect())
        };
        for year in folders(log.folder(), 4)? {
            for month in folders(&year, 2)? {
                for day in folders(&month, 2)? {
                    for name in list(&day)? {
                        let segment = layout::first_of_segment(&name);
                        let Some(first) = segment.or(layout::first_of_manifest(&name)) else {
                            continue;
                        };
                        let sealed = names.sealed.entry((first, day.clone())).or_default();
                        if segment.is_some() {
                            sealed.segments.insert(name);
                        } else {
                            sealed.manifest = true;
                        }
                    }
                }
            }
        }
        names.sealing = list("")?
            .iter()
            .filter_map(|name| log.first_of_sealing(name))
            .collect();
        names.sealing.sort_unstable();
        Ok(names)
    }
}

/// Opens what was listed: segments first and the active file last, so that the record of whatever is gone from a segment is there.
/// `None` if something is not there any more.
fn open<S: Storage>(
    storage: &S,
    log: LogName,
    names: &Names,
) -> Result<Option<Snapshot<S::File>>, ReadError> {
    let mut snapshot = Snapshot {
        parts: Vec::new(),
        alone: Vec::new(),
    };
    let mut sealed_until = 0;
    for ((first, folder), sealed) in &names.sealed {
        let manifest = if sealed.manifest {
            let path = format!("{folder}/{}", layout::manifest(*first));
            match read_whole(storage, &path, MAX_MANIFEST)? {
                None => return Ok(None),
                Some(bytes) => Some(StoredManifest {
                    path,
                    content: Manifest::parse(&bytes).map(Box::new),
                }),
            }
        } else if names.sealing.contains(first) {
            // A segment that is not finished: its lines are in the file that is being sealed.
            continue;
        } else {
            None
        };
        // The manifest says which file counts. If it is wrong about that, there is still one to look at.
        let content = manifest
            .as_ref()
            .and_then(|manifest| manifest.content.as_ref().ok());
        let Some(segment) = content
            .map(|manifest| layout::segment(*first, manifest.erased))
            .filter(|name| sealed.segments.contains(name))
            .or_else(|| sealed.segments.last().cloned())
        else {
            snapshot.alone.extend(manifest);
            continue;
        };
        if let Some(Ok(manifest)) = manifest.as_ref().map(|manifest| &manifest.content) {
            sealed_until = sealed_until.max(manifest.last);
        }
        let path = format!("{folder}/{segment}");
        let kind = PartKind::Sealed {
            first: *first,
            manifest,
        };
        match part(storage, path, kind)? {
            Some(part) => snapshot.parts.push(part),
            None => return Ok(None),
        }
    }
    for &first in &names.sealing {
        // One that is sealed already is only not removed yet.
        if first > sealed_until
            && let Some(part) = part(storage, log.sealing(first), PartKind::Sealing)?
        {
            snapshot.parts.push(part);
        }
    }
    if let Some(part) = part(storage, log.active(), PartKind::Active)? {
        snapshot.parts.push(part);
    }
    Ok(Some(snapshot))
}

/// Opens a file; `None` if it is not there.
fn part<S: Storage>(
    storage: &S,
    path: String,
    kind: PartKind,
) -> Result<Option<PartFile<S::File>>, ReadError> {
    let opened = storage.open_existing(&path).and_then(|file| {
        let length = file.length()?;
        Ok((file, length))
    });
    match opened {
        Ok((file, length)) => Ok(Some(PartFile {
            path,
            kind,
            file,
            length,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::File { path, source }),
    }
}
