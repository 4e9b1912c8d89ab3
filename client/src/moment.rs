//! Moments as people write them on a command line.

use std::time::Duration;

use sealpost_core::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::date;

/// A moment: so long ago, or one that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long before now.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

/// From so many digits on, a bare number is a time and no number of seconds ago: 100,000,000 is in 1973.
const DIGITS_OF_A_TIME: usize = 9;

impl When {
    /// Reads `90s`, `30m`, `2h`, `7d`; `2026-11-01`; RFC 3339 (`2026-11-01T08:30:00Z`, the seconds may be missing and then UTC
    /// is meant); or seconds since the epoch with up to three decimals.
    ///
    /// # Errors
    /// In words, what can be written.
    pub fn parse(text: &str) -> Result<When, String> {
        ago(text)
            .or_else(|| since_the_epoch(text))
            .or_else(|| date_and_time(text))
            .ok_or_else(|| {
                "write how long ago (90s, 30m, 2h, 7d), a date (2026-11-01) or a time (2026-11-01T08:30:00Z)"
                    .to_owned()
            })
    }

    /// The moment, seen from now.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(then) => then,
            When::Ago(ago) => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_millis(now.millis().saturating_sub(ago)).unwrap_or(now)
            }
        }
    }
}

/// `2026-11-25 14:05:03Z`: in UTC, and as [`When::parse`] reads it.
#[must_use]
pub fn shown(at: Timestamp) -> String {
    let seconds = at.millis() / 1_000 % 86_400;
    let (hour, minute) = (seconds / 3_600, seconds / 60 % 60);
    format!("{} {hour:02}:{minute:02}:{:02}Z", date(at), seconds % 60)
}

fn ago(text: &str) -> Option<When> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    // `parse` would take a sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(When::Ago(Duration::from_secs(number.checked_mul(seconds)?)))
}

fn since_the_epoch(text: &str) -> Option<When> {
    let (seconds, millis) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.len() < DIGITS_OF_A_TIME || !digits(seconds) || !digits(millis) || millis.len() > 3 {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let millis: u64 = format!("{millis:0<3}").parse().ok()?;
    let millis = seconds.checked_mul(1_000)?.checked_add(millis)?;
    Timestamp::from_millis(millis).ok().map(When::At)
}

fn date_and_time(text: &str) -> Option<When> {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    // RFC 3339 lets people write a space.
    let then = OffsetDateTime::parse(&full.replacen(' ', "T", 1), &Rfc3339).ok()?;
    let millis = u64::try_from(then.unix_timestamp_nanos() / 1_000_000).ok()?;
    Timestamp::from_millis(millis).ok().map(When::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let now = Timestamp::from_millis(1_800_000_000_000).unwrap();
        When::parse(text).unwrap().at(now).millis()
    }

    #[test]
    fn people_and_programs_can_name_a_moment() {
        for (text, millis) in [
            ("0s", 1_800_000_000_000),
            ("90s", 1_799_999_910_000),
            ("2h", 1_799_992_800_000),
            ("7d", 1_799_395_200_000),
            ("99999999d", 0),
            ("2026-11-01", 1_793_491_200_000),
            ("2026-11-01T08:30", 1_793_521_800_000),
            ("2026-11-01 08:30:00", 1_793_521_800_000),
            ("2026-11-01T08:30:00Z", 1_793_521_800_000),
            ("2026-11-01T08:30:00+01:00", 1_793_518_200_000),
            ("1793521800", 1_793_521_800_000),
            ("1793521800.12", 1_793_521_800_120),
            ("1793521800.123", 1_793_521_800_123),
        ] {
            assert_eq!(at(text), millis, "{text}");
        }
    }

    #[test]
    fn a_moment_is_shown_as_it_can_be_typed() {
        for text in [
            "2026-11-25 14:05:03Z",
            "1970-01-01 00:00:00Z",
            "2100-02-28 23:59:59Z",
        ] {
            let then = Timestamp::from_millis(at(text)).unwrap();
            assert_eq!(shown(then), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "yesterday",
            "2",
            "-2h",
            "+2h",
            "2w",
            "h",
            "2026-13-01",
            "2026-02-30",
            "1969-01-01",
            "1793521800.1234",
            "99999999999999999999d",
            "17935218001793521800",
            "é",
        ] {
            When::parse(text).expect_err(text);
        }
    }
}
