//! The name of a group of archivers that share the inboxes among them.

use std::fmt;

/// The longest name, in bytes; the standard has no bound of its own, and nobody reads longer ones.
const MAX: usize = 64;

/// A ShareName (MQTT 5, section 4.8.2): printable ASCII without `/`, `+` and `#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareName(String);

/// A text that is no ShareName.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be 1 to {MAX} printable ASCII characters without \"/\", \"+\", \"#\" and spaces")]
pub struct NotAShareName;

impl ShareName {
    /// Reads a ShareName.
    ///
    /// # Errors
    /// [`NotAShareName`].
    pub fn parse(text: &str) -> Result<ShareName, NotAShareName> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"/+#".contains(&byte);
        if text.is_empty() || text.len() > MAX || !text.bytes().all(fits) {
            return Err(NotAShareName);
        }
        Ok(ShareName(text.to_owned()))
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_name_is_what_the_standard_allows() {
        assert_eq!(
            ShareName::parse("archivers").unwrap().to_string(),
            "archivers"
        );
        for bad in ["", "a/b", "a+", "#", "a b", "\u{e9}", &"a".repeat(65)] {
            assert_eq!(ShareName::parse(bad), Err(NotAShareName), "{bad}");
        }
    }
}
