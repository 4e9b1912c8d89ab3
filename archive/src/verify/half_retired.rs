//! What a crash leaves of a retirement: the files of segments that have no manifest any more, and so are none.

use super::snapshot::{PartFile, PartKind, Snapshot};
use crate::line::{Body, Line};
use crate::log_file;
use crate::storage::StoredFile;

/// Takes the files out that a retirement has left, and gives how many there are. The record of a retirement that is not finished is
/// in no segment yet (section 8 of the format), and it is held against the tree as every other.
pub(super) fn take_out<F: StoredFile>(snapshot: &mut Snapshot<F>) -> u64 {
    let without_manifest = |part: &PartFile<F>| match part.kind {
        PartKind::Sealed {
            first,
            manifest: None,
        } => Some(first),
        _ => None,
    };
    if !snapshot
        .parts
        .iter()
        .any(|part| without_manifest(part).is_some())
    {
        return 0;
    }
    let plain = snapshot.parts.iter();
    let plain = plain.filter(|part| !matches!(part.kind, PartKind::Sealed { .. }));
    let retired = plain.map(retired_by).max().unwrap_or(0);
    let before = snapshot.parts.len();
    snapshot
        .parts
        .retain(|part| without_manifest(part).is_none_or(|first| first > retired));
    (before - snapshot.parts.len()) as u64
}

/// The last line that a record in a plain file retires. What cannot be read is told of when all lines are.
fn retired_by<F: StoredFile>(part: &PartFile<F>) -> u64 {
    let mut retired = 0;
    let Ok(end) = log_file::end_of_whole_lines(&part.file, part.length) else {
        return 0;
    };
    let mut lines = log_file::lines(&part.file, 0..end);
    while let Ok(Some(raw)) = lines.next_line() {
        if let Ok(Line {
            body: Body::Retirement { retires, .. },
            ..
        }) = Line::parse(raw.bytes)
        {
            retired = retired.max(retires);
        }
    }
    retired
}
