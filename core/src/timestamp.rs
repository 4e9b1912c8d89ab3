//! Points in time, as the formats carry them.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// Why something is not a point in time that the formats can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text is not `seconds.millis`: one to ten digits without a leading zero, a dot, three digits.
    #[error("a time is written as seconds, a dot and three digits")]
    BadFormat,
    /// More than ten digits of seconds would be needed (the year 2286).
    #[error("the time is too far in the future to be written")]
    OutOfRange,
}

/// A point in time: milliseconds since the Unix epoch, without leap seconds.
///
/// Written as `seconds.millis`, always with three digits after the dot. It is read as an integer, never as a floating
/// point number, so what was read is what will be written.
///
/// ```
/// use sealpost_core::Timestamp;
/// let time = Timestamp::parse("1700000000.120")?;
/// assert_eq!(time.millis(), 1_700_000_000_120);
/// assert_eq!(time.to_string(), "1700000000.120");
/// # Ok::<(), sealpost_core::TimestampError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest time that can be written: ten digits of seconds, three of milliseconds.
    pub const MAX: Self = Self(9_999_999_999_999);

    /// From milliseconds since the epoch.
    ///
    /// # Errors
    /// [`TimestampError::OutOfRange`] beyond [`Timestamp::MAX`].
    pub const fn from_millis(millis: u64) -> Result<Self, TimestampError> {
        if millis > Self::MAX.0 {
            return Err(TimestampError::OutOfRange);
        }
        Ok(Self(millis))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// This time moved forward, at most to [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis)).min(Self::MAX)
    }

    /// How long ago `earlier` was; zero when it was not.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads `seconds.millis`.
    ///
    /// # Errors
    /// [`TimestampError::BadFormat`] for anything but what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let (seconds, millis) = text.split_once('.').ok_or(TimestampError::BadFormat)?;
        let leading_zero = seconds.len() > 1 && seconds.starts_with('0');
        if seconds.is_empty() || seconds.len() > 10 || leading_zero || millis.len() != 3 {
            return Err(TimestampError::BadFormat);
        }
        let mut total = 0_u64;
        for byte in seconds.bytes().chain(millis.bytes()) {
            if !byte.is_ascii_digit() {
                return Err(TimestampError::BadFormat);
            }
            // Thirteen digits at most: no overflow.
            total = total * 10 + u64::from(byte - b'0');
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn times_read_as_they_are_written() {
        for (text, millis) in [
            ("0.000", 0),
            ("0.001", 1),
            ("1.000", 1_000),
            ("1700000000.120", 1_700_000_000_120),
            ("9999999999.999", 9_999_999_999_999),
        ] {
            let time = Timestamp::parse(text).unwrap();
            assert_eq!(time.millis(), millis);
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn other_ways_to_write_a_time_are_refused() {
        for bad in [
            "",
            ".",
            "1",
            "1.",
            ".000",
            "1.00",
            "1.0000",
            "01.000",
            "00.000",
            "10000000000.000",
            "-1.000",
            "+1.000",
            "1e3.000",
            " 1.000",
            "1.000 ",
            "1,000",
            "1.00x",
            "x.000",
            "1.0.0",
            "\u{0661}.000",
            "1.\u{0661}0",
        ] {
            assert_eq!(
                Timestamp::parse(bad),
                Err(TimestampError::BadFormat),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn times_stay_in_range() {
        assert_eq!(
            Timestamp::from_millis(10_000_000_000_000),
            Err(TimestampError::OutOfRange)
        );
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        let one = Timestamp::from_millis(1_000).unwrap();
        assert_eq!(one.saturating_since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(
            Timestamp::MAX.saturating_since(one).as_millis(),
            9_999_999_998_999
        );
    }
}
