//! The manifest of a sealed segment: what is in it, and where in it.

use std::collections::BTreeSet;

use sealpost_core::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hash::Hash;
use crate::layout::LogName;

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// How many different senders (and recipients) a manifest lists; with more it lists none. At 64 bytes a name they make 512 KiB at
/// the most.
pub const MAX_NAMES: usize = 4_096;

/// The longest manifest that is read, in bytes: both lists of names at their longest, and the frames of a segment of 64 GiB.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The manifest of a sealed segment (section 5 of the format).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub v: u64,
    /// Whose segment it is.
    pub log: LogName,
    /// The number of the first line.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// How many lines: `last` - `first` + 1.
    pub count: u64,
    /// The least time at which a line was written.
    #[serde(with = "seconds")]
    pub from: Timestamp,
    /// The greatest.
    #[serde(with = "seconds")]
    pub until: Timestamp,
    /// How long the lines are, with their newlines.
    pub bytes: u64,
    /// How long the segment's file is.
    pub compressed_bytes: u64,
    /// The root of the tree of the lines 1 to `last`.
    pub root: Hash,
    /// Where the frames are, in order.
    pub frames: Vec<Frame>,
    /// Who sent what is in it; `None` if there are more than [`MAX_NAMES`].
    pub senders: Option<BTreeSet<String>>,
    /// To whom.
    pub recipients: Option<BTreeSet<String>>,
    /// How many of the lines are tombstones.
    pub erased: u64,
}

/// A zstd frame in a segment: some whole lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where in the file it begins.
    pub offset: u64,
    /// The number of its first line.
    pub first: u64,
    /// The least time at which a line in it was written.
    pub from: Timestamp,
    /// The greatest.
    pub until: Timestamp,
}

/// Why a manifest is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not the JSON of a manifest.
    #[error("it is not the JSON of a manifest: {0}")]
    Json(String),
    /// It is of a version that this program does not know.
    #[error("it is of version {0}; this program knows {VERSION}")]
    Version(u64),
    /// Its members contradict each other.
    #[error("its {0} cannot be")]
    Contradiction(&'static str),
}

impl Manifest {
    /// Reads a manifest, and checks that it does not contradict itself.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let json = |error: serde_json::Error| ManifestError::Json(error.to_string());
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }
        let Version { v } = serde_json::from_slice(bytes).map_err(json)?;
        if v != VERSION {
            return Err(ManifestError::Version(v));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let contradiction = ManifestError::Contradiction;
        if self.first == 0 || self.last < self.first || self.last > crate::line::MAX_SEQ {
            return Err(contradiction("\"first\" and \"last\""));
        }
        if self.count != self.last - self.first + 1 {
            return Err(contradiction("\"count\""));
        }
        if self.from > self.until {
            return Err(contradiction("\"from\" and \"until\""));
        }
        let starts = self
            .frames
            .first()
            .is_some_and(|frame| frame.offset == 0 && frame.first == self.first);
        let grows = self
            .frames
            .is_sorted_by(|frame, next| frame.offset < next.offset && frame.first < next.first);
        let ends = self
            .frames
            .last()
            .is_some_and(|frame| frame.offset < self.compressed_bytes && frame.first <= self.last);
        if !(starts && grows && ends) {
            return Err(contradiction("\"frames\""));
        }
        Ok(())
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Every member has a form in JSON.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Where the frame with number `place` (from 0) lies in the file: its offset and its end.
    #[must_use]
    pub fn extent(&self, place: usize) -> Option<(u64, u64)> {
        let frame = self.frames.get(place)?;
        let end = self
            .frames
            .get(place + 1)
            .map_or(self.compressed_bytes, |next| next.offset);
        Some((frame.offset, end))
    }
}

impl Serialize for LogName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for LogName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LogName, D::Error> {
        let name = String::deserialize(deserializer)?;
        LogName::ALL
            .into_iter()
            .find(|log| log.as_str() == name)
            .ok_or_else(|| de::Error::custom("there is no such log"))
    }
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let from = seconds::number(self.from);
        let until = seconds::number(self.until);
        (
            self.offset,
            self.first,
            from.map_err(serde::ser::Error::custom)?,
            until.map_err(serde::ser::Error::custom)?,
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Frame, D::Error> {
        let (offset, first, from, until) =
            <(u64, u64, Box<RawValue>, Box<RawValue>)>::deserialize(deserializer)?;
        let time = |raw: &RawValue| Timestamp::parse(raw.get()).map_err(de::Error::custom);
        Ok(Frame {
            offset,
            first,
            from: time(&from)?,
            until: time(&until)?,
        })
    }
}

use serde_json::value::RawValue;

/// A time as a JSON number with three decimals, the way lines have it.
mod seconds {
    use super::{Deserialize, Deserializer, RawValue, Serialize, Serializer, Timestamp, de};

    pub(super) fn number(at: Timestamp) -> Result<Box<RawValue>, serde_json::Error> {
        RawValue::from_string(at.to_string())
    }

    pub(super) fn serialize<S: Serializer>(
        at: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        number(*at)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Timestamp::parse(raw.get()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let at = |text| Timestamp::parse(text).unwrap();
        Manifest {
            v: 1,
            log: LogName::EncryptedLogs,
            first: 11,
            last: 20,
            count: 10,
            from: at("1700000000.120"),
            until: at("1700000009.000"),
            bytes: 12_000,
            compressed_bytes: 9_000,
            root: Hash::of_leaf(b"x"),
            frames: vec![
                Frame {
                    offset: 0,
                    first: 11,
                    from: at("1700000000.120"),
                    until: at("1700000005.000"),
                },
                Frame {
                    offset: 5_000,
                    first: 16,
                    from: at("1700000005.001"),
                    until: at("1700000009.000"),
                },
            ],
            senders: Some(["alice".to_owned()].into()),
            recipients: None,
            erased: 0,
        }
    }

    #[test]
    fn a_manifest_comes_back_from_its_bytes() {
        let bytes = manifest().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.contains(r#""from":1700000000.120,"until":1700000009.000"#),
            "{text}"
        );
        assert!(
            text.contains(r#""frames":[[0,11,1700000000.120,1700000005.000],"#),
            "{text}"
        );
        assert_eq!(Manifest::parse(&bytes).unwrap(), manifest());
        assert_eq!(manifest().extent(0), Some((0, 5_000)));
        assert_eq!(manifest().extent(1), Some((5_000, 9_000)));
        assert_eq!(manifest().extent(2), None);
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let changes: [fn(&mut Manifest); 8] = [
            |manifest| manifest.first = 0,
            |manifest| manifest.last = 10,
            |manifest| manifest.count = 9,
            |manifest| std::mem::swap(&mut manifest.from, &mut manifest.until),
            |manifest| manifest.frames.clear(),
            |manifest| manifest.frames.swap(0, 1),
            |manifest| manifest.frames[0].first = 12,
            |manifest| manifest.compressed_bytes = 5_000,
        ];
        for change in changes {
            let mut manifest = manifest();
            change(&mut manifest);
            assert!(matches!(
                Manifest::parse(&manifest.to_bytes()),
                Err(ManifestError::Contradiction(_))
            ));
        }
        let text = String::from_utf8(manifest().to_bytes()).unwrap();
        let newer = text.replacen("\"v\":1", "\"v\":2", 1);
        assert_eq!(
            Manifest::parse(newer.as_bytes()),
            Err(ManifestError::Version(2))
        );
        let more = text.replacen("\"v\":1", "\"v\":1,\"w\":1", 1);
        assert!(matches!(
            Manifest::parse(more.as_bytes()),
            Err(ManifestError::Json(_))
        ));
    }
}
