//! Colours and signs. Nothing is said by colour alone.

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use super::state::Trust;
use crate::store::SendState;

/// Which colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeName {
    /// The sixteen of the terminal, or none under NO_COLOR.
    #[default]
    Auto,
    /// The terminal's own sixteen, which its owner has chosen to be readable.
    Ansi,
    /// 256 colours on a dark ground.
    Dark,
    /// 256 colours on a light ground.
    Light,
    /// Bold, reverse and underline alone.
    Mono,
}

impl ThemeName {
    /// All, as they are written.
    pub const NAMES: [&str; 5] = ["auto", "ansi", "dark", "light", "mono"];

    /// As it is written in the file.
    #[must_use]
    pub fn parse(text: &str) -> Option<ThemeName> {
        Some(match text {
            "auto" => ThemeName::Auto,
            "ansi" => ThemeName::Ansi,
            "dark" => ThemeName::Dark,
            "light" => ThemeName::Light,
            "mono" => ThemeName::Mono,
            _ => return None,
        })
    }
}

/// What a terminal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ability {
    /// Whether colours are wanted (NO_COLOR).
    pub colour: bool,
    /// Whether it draws characters beyond ASCII.
    pub unicode: bool,
}

/// How things are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Ordinary words.
    pub text: Style,
    /// What matters less.
    pub dim: Style,
    /// Our name.
    pub mine: Style,
    /// Theirs.
    pub theirs: Style,
    /// Lines between parts.
    pub line: Style,
    /// The bar at the bottom.
    pub bar: Style,
    /// What is well.
    pub good: Style,
    /// What wants attention.
    pub attention: Style,
    /// What is wrong.
    pub bad: Style,
    /// A warning that must not be overlooked.
    pub alarm: Style,
    /// What is chosen.
    pub chosen: Style,
    /// A QR code, black on white.
    pub code: Style,
    /// Whether signs beyond ASCII are drawn.
    pub unicode: bool,
}

impl Theme {
    /// The theme of this name on this terminal.
    #[must_use]
    pub fn of(name: ThemeName, ability: Ability) -> Theme {
        let name = match name {
            ThemeName::Auto if ability.colour => ThemeName::Ansi,
            ThemeName::Auto => ThemeName::Mono,
            other => other,
        };
        let fg = |color| Style::new().fg(color);
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let reversed = plain.add_modifier(Modifier::REVERSED);
        let theme = match name {
            ThemeName::Mono => Theme {
                text: plain,
                dim: plain.add_modifier(Modifier::DIM),
                mine: plain,
                theirs: bold,
                line: plain.add_modifier(Modifier::DIM),
                bar: reversed,
                good: plain,
                attention: bold,
                bad: bold.add_modifier(Modifier::UNDERLINED),
                alarm: bold.add_modifier(Modifier::REVERSED),
                chosen: reversed,
                code: plain,
                unicode: true,
            },
            ThemeName::Auto | ThemeName::Ansi => Theme {
                text: plain,
                dim: fg(Color::DarkGray),
                mine: fg(Color::Cyan),
                theirs: fg(Color::Magenta).add_modifier(Modifier::BOLD),
                line: fg(Color::DarkGray),
                bar: reversed,
                good: fg(Color::Green),
                attention: fg(Color::Yellow).add_modifier(Modifier::BOLD),
                bad: fg(Color::Red).add_modifier(Modifier::BOLD),
                alarm: plain
                    .fg(Color::White)
                    .bg(Color::Red)
                    .add_modifier(Modifier::BOLD),
                chosen: reversed,
                code: plain.fg(Color::Black).bg(Color::White),
                unicode: true,
            },
            ThemeName::Dark => Theme {
                text: fg(Color::Indexed(252)),
                dim: fg(Color::Indexed(244)),
                mine: fg(Color::Indexed(80)),
                theirs: fg(Color::Indexed(176)).add_modifier(Modifier::BOLD),
                line: fg(Color::Indexed(238)),
                bar: fg(Color::Indexed(252)).bg(Color::Indexed(236)),
                good: fg(Color::Indexed(114)),
                attention: fg(Color::Indexed(221)).add_modifier(Modifier::BOLD),
                bad: fg(Color::Indexed(203)).add_modifier(Modifier::BOLD),
                alarm: fg(Color::Indexed(231))
                    .bg(Color::Indexed(160))
                    .add_modifier(Modifier::BOLD),
                chosen: fg(Color::Indexed(231)).bg(Color::Indexed(24)),
                code: fg(Color::Indexed(16)).bg(Color::Indexed(231)),
                unicode: true,
            },
            ThemeName::Light => Theme {
                text: fg(Color::Indexed(235)),
                dim: fg(Color::Indexed(243)),
                mine: fg(Color::Indexed(25)),
                theirs: fg(Color::Indexed(90)).add_modifier(Modifier::BOLD),
                line: fg(Color::Indexed(250)),
                bar: fg(Color::Indexed(235)).bg(Color::Indexed(252)),
                good: fg(Color::Indexed(28)),
                attention: fg(Color::Indexed(130)).add_modifier(Modifier::BOLD),
                bad: fg(Color::Indexed(160)).add_modifier(Modifier::BOLD),
                alarm: fg(Color::Indexed(231))
                    .bg(Color::Indexed(160))
                    .add_modifier(Modifier::BOLD),
                chosen: fg(Color::Indexed(231)).bg(Color::Indexed(25)),
                code: fg(Color::Indexed(16)).bg(Color::Indexed(231)),
                unicode: true,
            },
        };
        Theme {
            unicode: ability.unicode,
            ..theme
        }
    }

    /// One of two signs.
    #[must_use]
    pub fn sign(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// The mark of trust: one cell, and its style.
    #[must_use]
    pub fn trust(&self, trust: Trust) -> (&'static str, Style) {
        match trust {
            Trust::Verified => (self.sign("✓", "v"), self.good),
            Trust::Known => ("?", self.dim),
            Trust::New => ("+", self.dim),
            Trust::Asks => ("*", self.attention),
            Trust::Blocked => ("-", self.dim),
            Trust::Changed | Trust::Suspended => ("!", self.alarm),
        }
    }

    /// How far a message of ours has got: two cells, and their style.
    #[must_use]
    pub fn state(&self, state: SendState) -> (&'static str, Style) {
        match state {
            SendState::Queued => (self.sign("··", ".."), self.dim),
            SendState::Sent => (self.sign("✓ ", "> "), self.dim),
            SendState::Delivered => (self.sign("✓✓", ">>"), self.text),
            SendState::Read => (
                self.sign("✔✔", "RR"),
                self.good.add_modifier(Modifier::BOLD),
            ),
            SendState::Failed => (self.sign("✗ ", "x "), self.bad),
        }
    }
}
