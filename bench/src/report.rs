//! What a run measured, in figures that can be printed, compared and written as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The unit of a figure: how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Messages a second.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Seconds.
    Seconds,
    /// Processor cores kept busy.
    Cores,
    /// Kibibytes.
    Kibibytes,
    /// Mebibytes.
    Mebibytes,
    /// Parts of a hundred.
    Percent,
    /// A count.
    Count,
}

impl Unit {
    /// A value with its unit.
    pub(crate) fn format(self, value: f64) -> String {
        let number = self.number(value);
        match self {
            Self::PerSecond => format!("{number}/s"),
            Self::Micros => format!("{number} µs"),
            Self::Seconds => format!("{number} s"),
            Self::Cores => format!("{number} cores"),
            Self::Kibibytes => format!("{number} KiB"),
            Self::Mebibytes => format!("{number} MiB"),
            Self::Percent => format!("{number} %"),
            Self::Count => number,
        }
    }

    /// A value without its unit.
    pub(crate) fn number(self, value: f64) -> String {
        match self {
            Self::PerSecond | Self::Micros | Self::Percent | Self::Count => grouped(value),
            Self::Seconds | Self::Cores => format!("{value:.2}"),
            Self::Kibibytes | Self::Mebibytes => format!("{value:.1}"),
        }
    }

    /// Its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Micros => "us",
            Self::Seconds => "s",
            Self::Cores => "cores",
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
            Self::Count => "1",
        }
    }
}

/// One thing measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// What.
    pub(crate) name: &'static str,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: Unit,
}

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// What was done, in words.
    pub(crate) work: String,
    /// What was measured.
    pub(crate) figures: Vec<Figure>,
    /// What went wrong, in capitals: losses, stalls. Empty is what every run should be.
    pub(crate) flaws: Vec<String>,
}

impl Report {
    /// Adds a figure.
    pub(crate) fn add(&mut self, name: &'static str, value: f64, unit: Unit) {
        self.figures.push(Figure { name, value, unit });
    }

    /// As text of several lines.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.work);
        let width = self
            .figures
            .iter()
            .map(|figure| figure.name.len())
            .max()
            .unwrap_or(0);
        for figure in &self.figures {
            let _ = writeln!(
                text,
                "  {:width$}  {:>14}",
                figure.name,
                figure.unit.format(figure.value)
            );
        }
        for flaw in &self.flaws {
            let _ = writeln!(text, "  {flaw}");
        }
        if self.flaws.is_empty() {
            text.push_str("  nothing lost, duplicated, out of order or damaged\n");
        }
        text
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|figure| {
                (
                    figure.name.to_owned(),
                    json!({ "value": figure.value, "unit": figure.unit.name() }),
                )
            })
            .collect();
        json!({ "work": self.work, "figures": figures, "flaws": self.flaws })
    }
}

/// A whole number with commas between thousands.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < -0.5 {
        format!("-{text}")
    } else {
        text
    }
}

/// The middle, the smallest and the largest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min,
            max,
        })
    }
}

/// The value below or at which `share` (0 to 1) of some sorted values lie, by the nearest rank.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Adds the quantiles that tell latencies apart, from nanoseconds.
pub(crate) fn add_latencies(
    report: &mut Report,
    names: [&'static str; 4],
    mut nanoseconds: Vec<u64>,
) {
    nanoseconds.sort_unstable();
    for (name, share) in names.into_iter().zip([0.5, 0.99, 0.999, 1.0]) {
        if let Some(value) = percentile(&nanoseconds, share) {
            #[allow(clippy::cast_precision_loss)]
            report.add(name, value as f64 / 1000.0, Unit::Micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u64> = (1..=1000).collect();
        for (share, value) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000), (0.0, 1)] {
            assert_eq!(percentile(&sorted, share), Some(value), "{share}");
        }
        assert_eq!(percentile(&[7], 0.99), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_spread_has_middle_and_ends() {
        assert_eq!(
            Spread::of(vec![3.0, 1.0, 2.0]),
            Some(Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            })
        );
        assert_eq!(
            Spread::of(vec![4.0, 1.0]),
            Some(Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            })
        );
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(grouped(-1234.0), "-1,234");
    }

    #[test]
    fn flaws_are_told_and_so_is_their_absence() {
        let mut report = Report {
            work: "work".into(),
            ..Report::default()
        };
        report.add("rate", 1000.0, Unit::PerSecond);
        assert!(report.text().contains("nothing lost"));
        report.flaws.push("1 of 2 LOST".into());
        assert!(!report.text().contains("nothing lost") && report.text().contains("1 of 2 LOST"));
        assert_eq!(report.json()["figures"]["rate"]["value"], 1000.0);
    }
}
