//! The table `[chat]`, checked.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::keys::{Keys, KeysError};
use super::state::Preferences;
use super::theme::{Ability, ThemeName};
use crate::settings::{ChatLayer, Environment};

/// How the desktop is told through the terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desktop {
    /// Not.
    #[default]
    None,
    /// As iTerm2, kitty, WezTerm, foot, ghostty and Windows Terminal have it.
    Osc9,
    /// As rxvt-unicode, foot, kitty, ghostty and VTE have it.
    Osc777,
}

/// What is set.
#[derive(Debug, Clone)]
pub struct ChatSettings {
    /// What the state has to know.
    pub preferences: Preferences,
    /// Whether a message rings.
    pub bell: bool,
    /// How the desktop is told.
    pub desktop: Desktop,
    /// A shell command that tells it instead.
    pub notify_command: Option<String>,
    /// Whether the mouse is taken.
    pub mouse: bool,
}

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatSettingsError {
    /// No such theme.
    #[error("{0:?} is no theme")]
    Theme(String),
    /// No such way.
    #[error("{0:?} is no way to notify")]
    Notify(String),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl ChatSettings {
    /// Out of the file.
    ///
    /// # Errors
    /// When something in it is not what it must be.
    pub fn of(layer: &ChatLayer) -> Result<ChatSettings, ChatSettingsError> {
        let theme = layer.theme.as_deref().unwrap_or("auto");
        let theme =
            ThemeName::parse(theme).ok_or_else(|| ChatSettingsError::Theme(theme.to_owned()))?;
        let desktop = match layer.notify.as_deref() {
            None | Some("none") => Desktop::None,
            Some("osc9") => Desktop::Osc9,
            Some("osc777") => Desktop::Osc777,
            Some(other) => return Err(ChatSettingsError::Notify(other.to_owned())),
        };
        let keys: BTreeMap<String, Vec<String>> = layer.keys.clone().unwrap_or_default();
        Ok(ChatSettings {
            preferences: Preferences {
                theme,
                notify_text: layer.notify_text.unwrap_or(false),
                keys: Keys::with(&keys)?,
            },
            bell: layer.bell.unwrap_or(true),
            desktop,
            notify_command: layer.notify_command.clone(),
            mouse: layer.mouse.unwrap_or(false),
        })
    }
}

/// What the terminal can do, by what the environment says.
#[must_use]
pub fn ability(environment: Environment<'_>) -> Ability {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(environment);
    // Where nothing is said, as in many containers, terminals today do.
    let unicode = locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8") || locale == "c" || locale == "posix"
    });
    let colour = environment("NO_COLOR").is_none()
        && !environment("TERM").is_some_and(|term| term.starts_with("vt"));
    Ability {
        colour,
        unicode: unicode && environment("TERM").as_deref() != Some("linux"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_the_file_is_said() {
        let theme = ChatLayer {
            theme: Some("pink".into()),
            ..ChatLayer::default()
        };
        assert_eq!(
            ChatSettings::of(&theme).unwrap_err(),
            ChatSettingsError::Theme("pink".into())
        );
        let notify = ChatLayer {
            notify: Some("smoke".into()),
            ..ChatLayer::default()
        };
        assert_eq!(
            ChatSettings::of(&notify).unwrap_err(),
            ChatSettingsError::Notify("smoke".into())
        );
        assert!(ChatSettings::of(&ChatLayer::default()).unwrap().bell);
    }

    #[test]
    fn the_environment_tells_what_the_terminal_can_do() {
        let of = |pairs: &'static [(&str, &str)]| {
            ability(&|name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(
            of(&[("LANG", "de_DE.UTF-8")]),
            Ability {
                colour: true,
                unicode: true
            }
        );
        assert!(!of(&[("LANG", "de_DE.ISO-8859-1")]).unicode);
        assert!(!of(&[("NO_COLOR", "1")]).colour);
        assert!(!of(&[("TERM", "vt220")]).colour);
    }
}
