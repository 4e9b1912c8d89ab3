//! A picture of an archive: how many lines were written on each day.

use std::error::Error;

use plotters::prelude::*;
use sealpost_archive::layout;
use sealpost_archive::stats::Stats;
use sealpost_core::Timestamp;

use crate::moment::Moment;

/// How large the picture is, in pixels.
const SIZE: (u32, u32) = (1_000, 400);

/// How many milliseconds a day has.
const DAY: u64 = 86_400_000;

/// An SVG with a bar for each day, also for those on which nothing was written.
///
/// # Errors
/// What the plotting library says; nothing in practice, since it draws into memory.
pub(super) fn svg(stats: &Stats) -> Result<String, Box<dyn Error>> {
    let mut bars = Vec::new();
    for (day, amount) in &stats.days {
        let Moment(at) = day.parse()?;
        bars.push((at.millis() / DAY, amount.lines));
    }
    let first = bars.first().map_or(0, |(day, _)| *day);
    let last = bars.last().map_or(first, |(day, _)| *day);
    let most = bars.iter().map(|(_, lines)| *lines).max().unwrap_or(0);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(15)
            .x_label_area_size(35)
            .y_label_area_size(90)
            .build_cartesian_2d(first..last + 1, 0..most.max(1))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(10)
            .x_label_formatter(&|day| name_of(*day))
            .y_desc("lines a day")
            .draw()?;
        chart
            .draw_series(bars.iter().map(|(day, lines)| {
                Rectangle::new([(*day, 0), (*day + 1, *lines)], BLUE.filled())
            }))?;
        area.present()?;
    }
    Ok(text)
}

/// The date of a day that is so many days after 1970-01-01.
fn name_of(day: u64) -> String {
    let at = Timestamp::from_millis(day.saturating_mul(DAY)).unwrap_or(Timestamp::MAX);
    layout::day(at).replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_a_bar_for_each_day() {
        let mut stats = Stats::default();
        for at in ["1700000000.000", "1700000001.000", "1700300000.000"] {
            stats.add(Timestamp::parse(at).unwrap(), b"{}");
        }
        let svg = svg(&stats).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        assert!(
            svg.contains("2023-11-14") && svg.contains("2023-11-17"),
            "{svg}"
        );
        assert_eq!(svg.matches("#0000FF").count(), 2, "{svg}");
        assert!(super::svg(&Stats::default()).is_ok());
    }
}
