//! Times in what a daemon writes for programs, and reads from them: the number of seconds since the epoch, with three
//! decimals, as envelopes and the archive have them. For serde's `with`.

use sealpost_core::Timestamp;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Writes JSON. A float would drop zeros at the end.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    let number = RawValue::from_string(at.to_string()).map_err(S::Error::custom)?;
    number.serialize(to)
}

/// A time that there may not be.
pub mod maybe {
    use super::{Deserializer, Serialize, Serializer, Timestamp};

    /// The time, or null.
    ///
    /// # Errors
    /// As without `maybe`.
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, to),
            None => None::<()>.serialize(to),
        }
    }

    /// The time, or null.
    ///
    /// # Errors
    /// As without `maybe`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let seconds: Option<f64> = serde::Deserialize::deserialize(from)?;
        seconds.map(super::from_float).transpose()
    }
}

/// Reads JSON, with as many decimals as there are.
///
/// # Errors
/// When it is no number, or no time that can be told.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    from_float(f64::deserialize(from)?)
}

fn from_float<E: serde::de::Error>(seconds: f64) -> Result<Timestamp, E> {
    // Below 2^53, and so exact: every time that can be told has at most thirteen digits.
    let millis = (seconds * 1_000.0).round();
    if !(0.0..=Timestamp::MAX.millis() as f64).contains(&millis) {
        return Err(E::custom("not a time in seconds since the epoch"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Timestamp::from_millis(millis as u64).map_err(E::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        #[serde(with = "super")]
        at: Timestamp,
        #[serde(with = "super::maybe")]
        until: Option<Timestamp>,
    }

    #[test]
    fn times_are_numbers_with_three_decimals_and_read_back_exactly() {
        for (millis, written) in [
            (0, "0.000"),
            (1_700_000_000_120, "1700000000.120"),
            (1_700_000_000_123, "1700000000.123"),
            (Timestamp::MAX.millis(), "9999999999.999"),
        ] {
            let at = Timestamp::from_millis(millis).unwrap();
            for (until, text) in [(None, "null"), (Some(at), written)] {
                let line = Line { at, until };
                let json = serde_json::to_string(&line).unwrap();
                assert_eq!(json, format!("{{\"at\":{written},\"until\":{text}}}"));
                assert_eq!(serde_json::from_str::<Line>(&json).unwrap(), line);
            }
        }
        for bad in ["-1", "1e10", "\"1.000\"", "1e400"] {
            let json = format!("{{\"at\":{bad},\"until\":null}}");
            assert!(serde_json::from_str::<Line>(&json).is_err(), "{bad}");
        }
    }
}
