//! Files: the offer of one, what its recipient asks for, its chunks, and how it ended.
//!
//! All four are kinds of content that no reader has to know. An offer is a message like any other; the rest is between programs:
//! nothing is sent but what the recipient asks for, so an older client, which never asks, sees the offer and no chunk.
//!
//! The chunks of a file are encrypted under a key of its own, by STREAM ([`FileKey`]), inside the envelopes that carry them.

mod key;
mod name;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::content::{Content, ContentError};
use crate::envelope::TAG_LEN;
use crate::json::Object;
use crate::message_id::MessageId;

pub use key::{ChunkRefused, FileKey};
pub use name::{MAX_SAVED_NAME, saved_name};

/// The kind of a [`FileOffer`].
const FILE: &str = "file";
/// The kind of a [`FileRequest`].
const FILE_REQUEST: &str = "file-request";
/// The kind of a [`FileChunk`].
const FILE_CHUNK: &str = "file-chunk";
/// The kind of a [`FileEnd`].
const FILE_END: &str = "file-end";

/// The largest file, in bytes: 2^40. Its chunks can be counted in 32 bits whatever their size.
pub const MAX_FILE: u64 = 1 << 40;
/// The smallest chunk, in bytes: smaller ones are nearly all envelope. A file that is smaller has one chunk all the same.
pub const MIN_CHUNK: u32 = 1_024;
/// The largest chunk, in bytes: with its tag, as base64 and with the members around it, it fits into one envelope.
pub const MAX_CHUNK: u32 = 48_000;
/// The longest name of a file in an offer, in bytes of UTF-8.
pub const MAX_FILE_NAME: usize = 255;
/// The most chunks that one request asks for: 3 MB, 6 MB as envelopes, which a mailbox has room for.
pub const MAX_REQUESTED: u32 = 64;

/// How a file is cut: its size, and that of its chunks. All but the last are full; an empty file has one empty chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunking {
    size: u64,
    chunk: u32,
}

impl Chunking {
    /// `size` in bytes, at most [`MAX_FILE`]; `chunk` in bytes, [`MIN_CHUNK`] to [`MAX_CHUNK`]. `None` when they are not.
    #[must_use]
    pub const fn new(size: u64, chunk: u32) -> Option<Self> {
        if size <= MAX_FILE && MIN_CHUNK <= chunk && chunk <= MAX_CHUNK {
            Some(Self { size, chunk })
        } else {
            None
        }
    }

    /// Bytes of the whole file.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Bytes of a full chunk.
    #[must_use]
    pub const fn chunk(self) -> u32 {
        self.chunk
    }

    /// How many chunks there are: 1 or more.
    #[must_use]
    pub const fn count(self) -> u32 {
        let count = self.size.div_ceil(self.chunk as u64);
        // At most 2^30, by the bounds of both.
        if count == 0 { 1 } else { count as u32 }
    }

    /// Where a chunk begins, in bytes from the beginning of the file.
    #[must_use]
    pub const fn begin(self, index: u32) -> u64 {
        index as u64 * self.chunk as u64
    }

    /// How many bytes this chunk has; `None` when there is no such chunk.
    #[must_use]
    pub const fn length(self, index: u32) -> Option<usize> {
        if index >= self.count() {
            return None;
        }
        let left = self.size - self.begin(index);
        Some(if left < self.chunk as u64 {
            left as usize
        } else {
            self.chunk as usize
        })
    }

    /// Whether it is the last one.
    #[must_use]
    pub const fn is_last(self, index: u32) -> bool {
        index + 1 == self.count()
    }
}

/// `{"kind":"file","name":…,"size":…,"sha256":…,"chunk":…,"key":…}`: a file that its sender has for us. The name of the message that
/// carries it is the name of the file in all that follows. `Debug` shows neither name nor key.
#[derive(Clone, PartialEq, Eq)]
pub struct FileOffer {
    name: String,
    chunking: Chunking,
    sha256: [u8; 32],
    key: FileKey,
}

impl FileOffer {
    /// An offer. `name` has 1 to [`MAX_FILE_NAME`] bytes, `sha256` is over the whole file; `key` was never used for another file.
    ///
    /// `None` when the name has another length.
    #[must_use]
    pub fn new(name: &str, chunking: Chunking, sha256: [u8; 32], key: FileKey) -> Option<Self> {
        is_name(name).then(|| Self {
            name: name.into(),
            chunking,
            sha256,
            key,
        })
    }

    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, FILE)?;
        let name: String = serde_json::from_str(object.raw("name")?).ok()?;
        let chunk = u32::try_from(number(&object, "chunk")?).ok()?;
        let chunking = Chunking::new(number(&object, "size")?, chunk)?;
        let key = FileKey::from_bytes(binary(&object, "key")?.try_into().ok()?);
        let sha256 = binary(&object, "sha256")?.try_into().ok()?;
        Self::new(&name, chunking, sha256, key)
    }

    /// As its sender calls it: his choice to the last character. To save it, ask [`saved_name`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is cut.
    #[must_use]
    pub const fn chunking(&self) -> Chunking {
        self.chunking
    }

    /// SHA-256 over the whole file.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// What encrypts its chunks.
    #[must_use]
    pub const fn key(&self) -> &FileKey {
        &self.key
    }

    /// As the content of a message.
    ///
    /// # Errors
    /// None that a name can bring about; as of [`Content::parse`].
    pub fn to_content(&self) -> Result<Content, ContentError> {
        let name = serde_json::to_string(&self.name).map_err(|_| ContentError::BadText)?;
        let (size, chunk) = (self.chunking.size, self.chunking.chunk);
        let sha256 = BASE64_STANDARD.encode(self.sha256);
        let key = BASE64_STANDARD.encode(self.key.as_bytes());
        Content::parse(&format!(
            r#"{{"kind":"{FILE}","name":{name},"size":{size},"sha256":"{sha256}","chunk":{chunk},"key":"{key}"}}"#
        ))
    }
}

impl fmt::Debug for FileOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileOffer({} bytes, redacted)", self.chunking.size)
    }
}

/// `{"kind":"file-request","file":…,"have":…,"first":…,"until":…}`: the recipient of an offer asks for chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRequest {
    file: MessageId,
    have: u32,
    first: u32,
    until: u32,
}

impl FileRequest {
    /// Of `file` all chunks below `have` are stored; `first` up to but not including `until` are asked for, 1 to [`MAX_REQUESTED`] of
    /// them, none of which is below `have`. `None` when that does not hold.
    #[must_use]
    pub const fn new(file: MessageId, have: u32, first: u32, until: u32) -> Option<Self> {
        if have <= first && first < until && until - first <= MAX_REQUESTED {
            Some(Self {
                file,
                have,
                first,
                until,
            })
        } else {
            None
        }
    }

    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, FILE_REQUEST)?;
        let count = |member| u32::try_from(number(&object, member)?).ok();
        Self::new(
            file(&object)?,
            count("have")?,
            count("first")?,
            count("until")?,
        )
    }

    /// Which file.
    #[must_use]
    pub const fn file(&self) -> &MessageId {
        &self.file
    }

    /// The recipient has all chunks below this one.
    #[must_use]
    pub const fn have(&self) -> u32 {
        self.have
    }

    /// The first chunk that is asked for.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// The one behind the last that is asked for.
    #[must_use]
    pub const fn until(&self) -> u32 {
        self.until
    }

    /// As the content of an envelope.
    ///
    /// # Errors
    /// As of [`Content::parse`]: none.
    pub fn to_content(&self) -> Result<Content, ContentError> {
        let Self {
            file,
            have,
            first,
            until,
        } = self;
        Content::parse(&format!(
            r#"{{"kind":"{FILE_REQUEST}","file":"{file}","have":{have},"first":{first},"until":{until}}}"#
        ))
    }
}

/// `{"kind":"file-chunk","file":…,"index":…,"data":…}`: a chunk that was asked for. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct FileChunk {
    file: MessageId,
    index: u32,
    data: Vec<u8>,
}

impl FileChunk {
    /// A chunk of `file`, counted from 0; `data` as [`FileKey::encrypt`] made it. `None` when that has less than a tag, or more than a
    /// chunk can.
    #[must_use]
    pub fn new(file: MessageId, index: u32, data: Vec<u8>) -> Option<Self> {
        let most = MAX_CHUNK as usize + TAG_LEN;
        (TAG_LEN..=most)
            .contains(&data.len())
            .then_some(Self { file, index, data })
    }

    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, FILE_CHUNK)?;
        let index = u32::try_from(number(&object, "index")?).ok()?;
        Self::new(file(&object)?, index, binary(&object, "data")?)
    }

    /// Which file.
    #[must_use]
    pub const fn file(&self) -> &MessageId {
        &self.file
    }

    /// Which chunk, from 0.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Encrypted under the file's key, the tag at its end.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// As the content of an envelope.
    ///
    /// # Errors
    /// As of [`Content::parse`]: none.
    pub fn to_content(&self) -> Result<Content, ContentError> {
        let Self { file, index, data } = self;
        let data = BASE64_STANDARD.encode(data);
        Content::parse(&format!(
            r#"{{"kind":"{FILE_CHUNK}","file":"{file}","index":{index},"data":"{data}"}}"#
        ))
    }
}

impl fmt::Debug for FileChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileChunk({} of {}, redacted)", self.index, self.file)
    }
}

/// How the way of a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileOutcome {
    /// Of its recipient: all of it is there, and its SHA-256 is that of the offer.
    Received,
    /// Of its recipient: it is not wanted.
    Declined,
    /// Of its recipient: all of it came, and its SHA-256 is not that of the offer.
    Damaged,
    /// Of its sender: it is not to be had any more.
    Withdrawn,
    /// A word of a later version: it goes no further.
    Other,
}

impl FileOutcome {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Declined => "declined",
            Self::Damaged => "damaged",
            Self::Withdrawn => "withdrawn",
            Self::Other => "other",
        }
    }
}

/// `{"kind":"file-end","file":…,"state":…}`: a file goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEnd {
    /// Which file.
    pub file: MessageId,
    /// Why.
    pub outcome: FileOutcome,
}

impl FileEnd {
    /// Reads a content; `None` when it is none of this kind and form.
    #[must_use]
    pub fn read(content: &Content) -> Option<Self> {
        let object = of_kind(content, FILE_END)?;
        let state: String = serde_json::from_str(object.raw("state")?).ok()?;
        Some(Self {
            file: file(&object)?,
            outcome: match state.as_str() {
                "received" => FileOutcome::Received,
                "declined" => FileOutcome::Declined,
                "damaged" => FileOutcome::Damaged,
                "withdrawn" => FileOutcome::Withdrawn,
                _ => FileOutcome::Other,
            },
        })
    }

    /// As the content of an envelope.
    ///
    /// # Errors
    /// As of [`Content::parse`]: none.
    pub fn to_content(&self) -> Result<Content, ContentError> {
        let (file, state) = (&self.file, self.outcome.as_str());
        Content::parse(&format!(
            r#"{{"kind":"{FILE_END}","file":"{file}","state":"{state}"}}"#
        ))
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_FILE_NAME).contains(&name.len())
}

/// The members of a content of this kind.
fn of_kind<'a>(content: &'a Content, kind: &str) -> Option<Object<'a>> {
    match content {
        Content::Other { kind: stated, json } if stated == kind => Object::parse(json).ok(),
        _ => None,
    }
}

/// A whole number as JSON and as it is written here: digits, without a zero before them.
fn number(object: &Object<'_>, member: &str) -> Option<u64> {
    let raw = object.raw(member)?;
    let number: u64 = raw
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| raw.parse().ok())??;
    Some(number)
}

fn file(object: &Object<'_>) -> Option<MessageId> {
    let id: String = serde_json::from_str(object.raw("file")?).ok()?;
    MessageId::parse(&id).ok()
}

/// Standard base64 with padding. Long, so without a copy where nothing is escaped.
fn binary(object: &Object<'_>, member: &str) -> Option<Vec<u8>> {
    let raw = object.raw(member)?.strip_prefix('"')?.strip_suffix('"')?;
    BASE64_STANDARD.decode(raw).ok()
}

#[cfg(test)]
mod tests;
