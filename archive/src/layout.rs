//! Where things lie in an archive's directory. One place knows their names.

use sealpost_core::Timestamp;
use time::OffsetDateTime;

/// The two logs of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogName {
    /// Envelopes, and whatever else came on `inbox/+`.
    EncryptedLogs,
    /// Key bundles, and whatever else came on `keys/+`.
    KeyHistory,
}

/// The lock's file, in the archive's directory.
pub const LOCK: &str = "archiver.lock";

impl LogName {
    /// Both.
    pub const ALL: [LogName; 2] = [LogName::EncryptedLogs, LogName::KeyHistory];

    /// Its name, as in manifests and tree heads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LogName::EncryptedLogs => "encrypted_logs",
            LogName::KeyHistory => "key_history",
        }
    }

    /// The log that a tree head's origin names: `sealpost/<realm>/<archiver's name>/<log>`.
    #[must_use]
    pub fn of_origin(origin: &str) -> Option<LogName> {
        let (_, name) = origin.rsplit_once('/')?;
        LogName::ALL.into_iter().find(|log| log.as_str() == name)
    }

    /// The active file.
    #[must_use]
    pub fn active(self) -> String {
        format!("{}.jsonl", self.as_str())
    }

    /// A full file on its way into the segment that begins with line `first`.
    #[must_use]
    pub fn sealing(self, first: u64) -> String {
        format!("{}.sealing-{first:020}.jsonl", self.as_str())
    }

    /// The first line of a file on its way into a segment, by the file's name; `None` for any other name.
    #[must_use]
    pub fn first_of_sealing(self, name: &str) -> Option<u64> {
        first_of(
            name.strip_prefix(self.as_str())?
                .strip_prefix(".sealing-")?,
            ".jsonl",
        )
    }

    /// A path below the folder of this log's segments, tiles and checkpoint.
    #[must_use]
    pub fn place(self, path: &str) -> String {
        match self {
            LogName::EncryptedLogs => path.to_owned(),
            LogName::KeyHistory => format!("{}/{path}", self.as_str()),
        }
    }

    /// The folder of its segments, tiles and checkpoint; `""` is the archive's own.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            LogName::EncryptedLogs => "",
            LogName::KeyHistory => self.as_str(),
        }
    }

    /// The newest signed tree head.
    #[must_use]
    pub fn checkpoint(self) -> String {
        self.place("checkpoint")
    }

    /// The key that signs tree heads.
    #[must_use]
    pub fn checkpoint_key(self) -> String {
        self.place("checkpoint.key")
    }
}

/// The day's folder of a segment whose first line was written at `at`: `YYYY/MM/DD`, in UTC.
#[must_use]
pub fn day(at: Timestamp) -> String {
    // A timestamp ends in the year 2286; time goes on until 9999.
    let date = i64::try_from(at.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}/{:02}/{:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

/// The file name of the segment that begins with line `first`, of whose lines so many are erased. Each erasure makes a new
/// file: the manifest, which is replaced at one stroke, says by its `erased` which one counts.
#[must_use]
pub fn segment(first: u64, erased: u64) -> String {
    if erased == 0 {
        format!("{first:020}.jsonl.zst")
    } else {
        format!("{first:020}.erased-{erased}.jsonl.zst")
    }
}

/// The first line of the segment that has this file name; `None` for any other name.
#[must_use]
pub fn first_of_segment(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".jsonl.zst")?;
    match stem.split_once(".erased-") {
        None => first_of(stem, ""),
        Some((digits, erased)) => {
            let counted = erased.bytes().all(|digit| digit.is_ascii_digit());
            first_of(digits, "").filter(|_| counted && !erased.is_empty())
        }
    }
}

/// The file name of its manifest.
#[must_use]
pub fn manifest(first: u64) -> String {
    format!("{first:020}.json")
}

/// The first line of the segment whose manifest has this file name; `None` for any other name.
#[must_use]
pub fn first_of_manifest(name: &str) -> Option<u64> {
    first_of(name, ".json")
}

/// The number in `<twenty digits><end>`.
fn first_of(name: &str, end: &str) -> Option<u64> {
    let digits = name.strip_suffix(end)?;
    if digits.len() != 20 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A tile (c2sp.org/tlog-tiles): `tile/<level>/<index>`, and `.p/<width>` when it is not full.
#[must_use]
pub fn tile(level: u8, index: u64, width: usize) -> String {
    let mut groups = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        groups = format!("x{:03}/{groups}", rest % 1000);
        rest /= 1000;
    }
    if width == crate::tree::TILE_WIDTH {
        format!("tile/{level}/{groups}")
    } else {
        format!("tile/{level}/{groups}.p/{width}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_format() {
        assert_eq!(LogName::EncryptedLogs.active(), "encrypted_logs.jsonl");
        assert_eq!(LogName::EncryptedLogs.checkpoint(), "checkpoint");
        assert_eq!(LogName::KeyHistory.checkpoint(), "key_history/checkpoint");
        let sealing = LogName::KeyHistory.sealing(17);
        assert_eq!(sealing, "key_history.sealing-00000000000000000017.jsonl");
        assert_eq!(LogName::KeyHistory.first_of_sealing(&sealing), Some(17));
        assert_eq!(LogName::EncryptedLogs.first_of_sealing(&sealing), None);
        assert_eq!(segment(17, 0), "00000000000000000017.jsonl.zst");
        assert_eq!(segment(17, 3), "00000000000000000017.erased-3.jsonl.zst");
        for erased in [0, 1, 20] {
            assert_eq!(first_of_segment(&segment(17, erased)), Some(17));
        }
        for other in [
            "17.jsonl.zst",
            "00000000000000000017.erased-.jsonl.zst",
            "00000000000000000017.json",
        ] {
            assert_eq!(first_of_segment(other), None, "{other}");
        }
        assert_eq!(first_of_manifest(&manifest(17)), Some(17));
        assert_eq!(first_of_manifest("17.json"), None);
        let origin = "sealpost/local/archiver/key_history";
        assert_eq!(LogName::of_origin(origin), Some(LogName::KeyHistory));
        assert_eq!(LogName::of_origin("key_history"), None);
        assert_eq!(first_of_manifest("+0000000000000000017.json"), None);
    }

    #[test]
    fn a_day_is_one_of_utc() {
        let day_at = |text| day(Timestamp::parse(text).unwrap());
        assert_eq!(day_at("0.000"), "1970/01/01");
        assert_eq!(day_at("951782399.999"), "2000/02/28");
        assert_eq!(day_at("951782400.000"), "2000/02/29");
        assert_eq!(day(Timestamp::MAX), "2286/11/20");
    }

    #[test]
    fn indexes_of_tiles_are_written_in_groups_of_three() {
        assert_eq!(tile(0, 0, 256), "tile/0/000");
        assert_eq!(tile(4, 1_234_067, 1), "tile/4/x001/x234/067.p/1");
        assert_eq!(tile(1, 1000, 256), "tile/1/x001/000");
    }
}
