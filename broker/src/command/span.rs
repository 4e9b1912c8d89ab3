//! A length of time as flags take it: a number and a unit.

use std::time::Duration;

/// Reads `90s`, `30m`, `12h` or `7d`; at least a second.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let told = || "write a time such as 90s, 30m, 12h or 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| told())?;
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(told()),
    };
    match number.checked_mul(seconds) {
        None => Err("that is too long".into()),
        Some(0) => Err("no time at all is not enough".into()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// Says it in words, in the largest unit of which there are two and that it is a multiple of.
pub(super) fn tell(span: Duration) -> String {
    let seconds = span.as_secs();
    for (unit, name) in [(24 * 60 * 60, "days"), (60 * 60, "hours"), (60, "minutes")] {
        if seconds >= 2 * unit && seconds.is_multiple_of(unit) {
            return format!("{} {name}", seconds / unit);
        }
    }
    match seconds {
        1 => "1 second".into(),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_are_told_in_words() {
        for (text, seconds, told) in [
            ("1s", 1, "1 second"),
            ("90s", 90, "90 seconds"),
            ("30m", 1_800, "30 minutes"),
            ("12h", 43_200, "12 hours"),
            ("7d", 604_800, "7 days"),
        ] {
            let span = parse(text).unwrap();
            assert_eq!(span, Duration::from_secs(seconds));
            assert_eq!(tell(span), told);
        }
        for bad in [
            "",
            "d",
            "0d",
            "7",
            "7w",
            "-1d",
            "1.5d",
            "99999999999999999999d",
            "300000000000000d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
