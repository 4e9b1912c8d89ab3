//! Moments as people write them on a command line.

use std::str::FromStr;

use sealpost_core::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment: `2026-01-31` (its beginning, in UTC), `2026-01-31T12:00:00Z`, or seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

/// A text that is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time is a day (2026-01-31), a day and a time (2026-01-31T12:00:00Z), or seconds since 1970"
)]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Moment, NoMoment> {
        let seconds = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if seconds {
            let whole = if text.contains('.') {
                text.to_owned()
            } else {
                format!("{text}.000")
            };
            return Timestamp::parse(&whole).map(Moment).map_err(|_| NoMoment);
        }
        let whole = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ => text.to_owned(),
        };
        let at = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| NoMoment)?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000)
            .ok()
            .and_then(|millis| Timestamp::from_millis(millis).ok())
            .map(Moment)
            .ok_or(NoMoment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_days_times_and_seconds() {
        for (text, written) in [
            ("2023-11-14", "1699920000.000"),
            ("2023-11-14T22:13:20Z", "1700000000.000"),
            ("2023-11-14T23:13:20.5+01:00", "1700000000.500"),
            ("1700000000", "1700000000.000"),
            ("1700000000.123", "1700000000.123"),
        ] {
            let Moment(at) = text.parse().unwrap();
            assert_eq!(at.to_string(), written, "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2023-13-01",
            "1969-12-31",
            "2023-11-14T22:13:20",
            "1.1",
        ] {
            assert_eq!(bad.parse::<Moment>(), Err(NoMoment), "{bad}");
        }
    }
}
