//! The table `[chat]` of the file, as it is written. What it means is checked where it is used, by the interface that `sealpost` alone
//! opens: programs without it read the same file.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Every key of the table.
pub(crate) const CHAT_KEYS: [&str; 7] = [
    "theme",
    "bell",
    "notify",
    "notify_command",
    "notify_text",
    "mouse",
    "keys",
];

/// The table `[chat]`, all optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatLayer {
    /// Which colours.
    pub theme: Option<String>,
    /// Whether a message rings.
    pub bell: Option<bool>,
    /// How the desktop is told: `none`, `osc9`, `osc777`.
    pub notify: Option<String>,
    /// A shell command that tells it.
    pub notify_command: Option<String>,
    /// Whether it is told what a message says.
    pub notify_text: Option<bool>,
    /// Whether the mouse is taken.
    pub mouse: Option<bool>,
    /// Keys, by what they do.
    pub keys: Option<BTreeMap<String, Vec<String>>>,
}
