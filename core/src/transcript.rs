//! What signatures and associated data cover: never JSON text, always this.
//!
//! T(label, f…) = lp(label) ‖ lp(f)…, where lp(x) is the length of x as a 32-bit big-endian integer and then x. Every
//! field is length-prefixed, so no two lists of fields give the same bytes; every use has a label of its own, so a
//! signature made for one use says nothing in another.

use alloc::vec::Vec;

/// A transcript in the making. Fields go in the order in which the methods are called.
#[derive(Clone, Debug)]
pub(crate) struct Transcript(Vec<u8>);

impl Transcript {
    /// Starts with the label, which is `sealpost/1 ` and the use.
    pub(crate) fn new(label: &'static str) -> Self {
        Self(Vec::with_capacity(256)).bytes(label.as_bytes())
    }

    /// Adds bytes, or text as its UTF-8 bytes.
    pub(crate) fn bytes(mut self, field: &[u8]) -> Self {
        // Nothing that is signed comes near 4 GiB: envelopes, bundles and MQTT strings are all bounded far below.
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Adds a version: one byte.
    pub(crate) fn version(self, version: u8) -> Self {
        self.bytes(&[version])
    }

    /// Adds a time in milliseconds or a sequence number: 64-bit big-endian.
    pub(crate) fn integer(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Adds the number of elements that follow: 32-bit big-endian.
    pub(crate) fn count(self, elements: usize) -> Self {
        self.bytes(&u32::try_from(elements).unwrap_or(u32::MAX).to_be_bytes())
    }

    /// Adds bytes that may be absent, which is a field of length zero.
    pub(crate) fn optional(self, field: Option<&[u8]>) -> Self {
        self.bytes(field.unwrap_or_default())
    }

    /// The bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_length_prefixed_in_big_endian() {
        let transcript = Transcript::new("L")
            .bytes(b"ab")
            .version(1)
            .integer(258)
            .count(2)
            .optional(None)
            .finish();
        assert_eq!(
            transcript,
            b"\0\0\0\x01L\0\0\0\x02ab\0\0\0\x01\x01\0\0\0\x08\0\0\0\0\0\0\x01\x02\0\0\0\x04\0\0\0\x02\0\0\0\0"
        );
    }

    #[test]
    fn moving_bytes_between_fields_changes_the_transcript() {
        let one = Transcript::new("L").bytes(b"ab").bytes(b"c").finish();
        let other = Transcript::new("L").bytes(b"a").bytes(b"bc").finish();
        assert_ne!(one, other);
    }
}
