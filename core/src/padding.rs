//! How long a plaintext is made, so that its length says little: 256 bytes, above that the next length of Padmé.
//!
//! Padmé (Nikitin and others, "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS
//! 2019) keeps only the upper bits of a length: above 256 bytes less than a sixteenth longer, and O(log log n) bits are
//! told.

/// The longest plaintext after padding, in bytes.
pub const MAX_PLAINTEXT: usize = 65_536;
/// The shortest plaintext after padding, in bytes: most of what people type is not told apart.
pub const MIN_PLAINTEXT: usize = 256;

/// The length to which a plaintext of `length` bytes is padded. Never less than `length`.
///
/// Meant for lengths up to [`MAX_PLAINTEXT`]; near the largest integers it saturates.
#[must_use]
pub const fn padded_length(length: usize) -> usize {
    if length <= MIN_PLAINTEXT {
        return MIN_PLAINTEXT;
    }
    // length has `exponent` bits after its first; that number itself takes `kept` bits to write, and as many of
    // length's bits are kept.
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_usize << (exponent - kept)) - 1;
    length.saturating_add(mask) & !mask
}

/// Whether a padded plaintext can have this length.
pub(crate) fn is_padded_length(length: usize) -> bool {
    length <= MAX_PLAINTEXT && padded_length(length) == length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_all_have_one_length() {
        for length in [0, 1, 255, 256] {
            assert_eq!(padded_length(length), 256);
        }
    }

    #[test]
    fn longer_texts_have_the_lengths_of_padme() {
        for (length, padded) in [
            (257, 272),
            (272, 272),
            (273, 288),
            (511, 512),
            (512, 512),
            (513, 544),
            (1_000, 1_024),
            (1_025, 1_088),
            (9_999, 10_240),
            (65_535, 65_536),
            (65_536, 65_536),
        ] {
            assert_eq!(padded_length(length), padded, "{length}");
        }
    }

    #[test]
    fn padding_adds_less_than_a_sixteenth_and_is_stable() {
        for length in MIN_PLAINTEXT..=MAX_PLAINTEXT {
            let padded = padded_length(length);
            assert!(
                padded >= length && (padded - length) * 16 < length,
                "{length}"
            );
            assert!(is_padded_length(padded), "{length}");
        }
        assert!(!is_padded_length(255));
        assert!(!is_padded_length(257));
        assert!(!is_padded_length(MAX_PLAINTEXT + 2_048));
        assert!(padded_length(usize::MAX) > MAX_PLAINTEXT);
    }
}
