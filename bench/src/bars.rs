//! A picture of figures that belong together: a bar for each, and the line from its smallest to its largest value.

use std::error::Error;

use plotters::prelude::*;

/// How wide the picture is, and how high each of its bars with the space around it, in pixels.
const WIDTH: u32 = 720;
const BAR: u32 = 48;

/// How high everything else is together.
const REST: u32 = 70;

/// How wide the names are.
const NAMES: u32 = 190;

/// One of them.
pub(crate) struct Bar {
    /// Whose.
    pub(crate) name: String,
    /// The middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// An SVG with a bar for each, the first at the top.
///
/// # Errors
/// What the plotting library says; nothing in practice, since it draws into memory.
pub(crate) fn svg(caption: &str, bars: &[Bar]) -> Result<String, Box<dyn Error>> {
    let count = u32::try_from(bars.len())?;
    let most = bars
        .iter()
        .map(|bar| bar.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut text = String::new();
    {
        let size = (WIDTH, count * BAR + REST);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_right(30)
            .x_label_area_size(45)
            .y_label_area_size(NAMES)
            .build_cartesian_2d(
                0.0..most * 1.05,
                (0..count.saturating_sub(1)).into_segmented(),
            )?;
        // Position from the bottom to the top, so that the first is on top.
        let named = |place: &SegmentValue<u32>| match place {
            SegmentValue::CenterOf(place) => count
                .checked_sub(place + 1)
                .and_then(|place| bars.get(usize::try_from(place).ok()?))
                .map_or_else(String::new, |bar| bar.name.clone()),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc(caption)
            .x_label_formatter(&|value| crate::report::grouped(*value))
            .y_label_formatter(&named)
            .draw()?;
        for (place, bar) in (0..count).rev().zip(bars) {
            let color = Palette99::pick(usize::try_from(place)?).filled();
            let (low, high) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
            let mut rectangle = Rectangle::new([(0.0, low), (bar.median, high)], color);
            rectangle.set_margin(8, 8, 0, 0);
            chart.draw_series([rectangle])?;
            let middle = SegmentValue::CenterOf(place);
            let ends = [(bar.min, middle.clone()), (bar.max, middle)];
            chart.draw_series([PathElement::new(ends.to_vec(), BLACK.stroke_width(2))])?;
        }
        area.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_a_bar_for_each_with_its_name() {
        let bar = |name: &str, median: f64| Bar {
            name: name.to_owned(),
            median,
            min: median * 0.9,
            max: median * 1.1,
        };
        let svg = svg("messages", &[bar("mosquitto", 10.0), bar("sealpost", 60.0)]).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        assert!(
            svg.contains("mosquitto") && svg.contains("sealpost"),
            "{svg}"
        );
        assert!(super::svg("nothing", &[]).is_ok());
    }
}
