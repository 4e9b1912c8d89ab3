//! The text that goes through the measured pipe: a stamp in hexadecimal, and words to fill it up.

use crate::stamp::{STAMP_LEN, Stamp};

/// What every text says, again and again. Base64 has no spaces, so none of this is ever in an archive by chance.
pub(crate) const SECRET: &str = "the text that was sealed ";

/// The shortest text: a stamp, and the secret once.
pub(crate) const MIN_TEXT: usize = 2 * STAMP_LEN + SECRET.len();

/// What follows the stamp in a text of `size` characters, at least [`MIN_TEXT`].
pub(crate) fn words(size: usize) -> String {
    let length = size.max(MIN_TEXT) - 2 * STAMP_LEN;
    SECRET.chars().cycle().take(length).collect()
}

/// The text of one message.
pub(crate) fn write(stamp: Stamp, words: &str) -> String {
    let Stamp {
        run,
        publisher,
        sequence,
        sent,
    } = stamp;
    format!("{run:08x}{publisher:08x}{sequence:016x}{sent:016x}{words}")
}

/// The stamp of a text, if it is followed by these words.
pub(crate) fn read(text: &str, words: &str) -> Option<Stamp> {
    let stamp = text
        .strip_suffix(words)
        .filter(|stamp| stamp.len() == 2 * STAMP_LEN)?;
    Some(Stamp {
        run: u32::from_str_radix(stamp.get(..8)?, 16).ok()?,
        publisher: u32::from_str_radix(stamp.get(8..16)?, 16).ok()?,
        sequence: u64::from_str_radix(stamp.get(16..32)?, 16).ok()?,
        sent: u64::from_str_radix(stamp.get(32..)?, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_back_as_it_was_written() {
        let stamp = Stamp {
            run: 1,
            publisher: u32::MAX,
            sequence: 3 << 50,
            sent: 4,
        };
        for size in [0, MIN_TEXT, 500] {
            let words = words(size);
            let text = write(stamp, &words);
            assert_eq!(text.len(), size.max(MIN_TEXT));
            assert!(text.contains(SECRET));
            assert_eq!(read(&text, &words), Some(stamp));
            assert_eq!(read(&text[1..], &words), None);
            assert_eq!(read(&text[..text.len() - 1], &words), None);
        }
    }
}
