//! QR codes (ISO/IEC 18004) for a terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Black on white, whatever the terminal's colours are (ECMA-48 SGR): many readers do not know inverted codes.
const BLACK_ON_WHITE: &str = "\x1b[30;107m";
const AS_BEFORE: &str = "\x1b[0m";

/// The code of a text, in lines of half blocks, without colours, with a quiet zone of so many modules. `None` as below.
#[must_use]
pub fn blocks(text: &str, quiet: usize) -> Option<Vec<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (colors, width) = (code.to_colors(), code.width());
    let dark = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(quiet).filter(|at| *at < width);
        let (Some(row), Some(column)) = (inside(row), inside(column)) else {
            return false;
        };
        let color = colors.get(row * width + column);
        color.is_some_and(|color| *color == qrcode::Color::Dark)
    };
    let whole = width + 2 * quiet;
    let line = |row: usize| {
        let cells = (0..whole).map(|column| match (dark(row, column), dark(row + 1, column)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        cells.collect()
    };
    Some((0..whole).step_by(2).map(line).collect())
}

/// The code of a text, in lines, its quiet zone included. `None` when the text is longer than a code can be.
#[must_use]
pub fn code(text: &str) -> Option<String> {
    // The lowest level of correction makes the smallest code; on a screen nothing is scratched.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    // Half blocks, two rows a line: dark modules are drawn, light ones are the background.
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Dark)
        .light_color(Dense1x2::Light)
        .quiet_zone(true)
        .build();
    let lines = drawn
        .lines()
        .map(|line| format!("{BLACK_ON_WHITE}{line}{AS_BEFORE}\n"));
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_same_code_without_its_colours() {
        let drawn = code("sealpost:contact?user=alice").unwrap();
        let plain = drawn.lines().map(|line| {
            let line = line.strip_prefix(BLACK_ON_WHITE).unwrap();
            line.strip_suffix(AS_BEFORE).unwrap()
        });
        let blocks = blocks("sealpost:contact?user=alice", 4).unwrap();
        assert!(plain.eq(blocks.iter()));
    }

    #[test]
    fn the_longest_uri_fits_and_more_than_a_code_holds_does_not() {
        let longest = "x".repeat(sealpost_core::MAX_URI);
        let drawn = code(&longest).unwrap();
        assert!(drawn.lines().count() < 70, "{}", drawn.lines().count());
        assert!(
            drawn
                .lines()
                .all(|line| line.starts_with(BLACK_ON_WHITE) && line.ends_with(AS_BEFORE))
        );
        assert_eq!(code(&"x".repeat(3_000)), None);
    }
}
