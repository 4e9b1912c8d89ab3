//! Which web pages may connect. Browsers send the page's origin with every WebSocket handshake, and let any page try.

use std::fmt;
use std::net::IpAddr;

use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::http::uri::Authority;

/// Bytes of the longest origin in the settings: a host name has at most 253.
const MAX_ORIGIN: usize = 300;

/// The pages that may connect, besides the broker's own origin and clients that are no browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any page.
    Any,
    /// Pages of these origins, each `scheme://host[:port]` in lower case.
    Listed(Vec<String>),
}

impl Default for Origins {
    fn default() -> Self {
        Origins::Listed(Vec::new())
    }
}

/// Why the settings' origin is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOrigin;

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not an origin such as https://chat.example or http://localhost:8000, nor \"*\" for any")
    }
}

impl Origins {
    /// Reads the settings' list. `*` stands for any page.
    ///
    /// # Errors
    /// [`NotAnOrigin`], with the entry that is none.
    pub fn parse(list: &[String]) -> Result<Origins, (String, NotAnOrigin)> {
        if list.iter().any(|origin| origin == "*") {
            return Ok(Origins::Any);
        }
        let origins = list.iter().map(|entry| {
            let origin = entry.to_ascii_lowercase();
            let parsed = origin.parse::<Uri>();
            match parsed {
                Ok(uri)
                    if origin.len() <= MAX_ORIGIN
                        && uri.scheme().is_some()
                        && uri.authority().is_some()
                        && uri.path() == "/"
                        && !origin.ends_with('/') =>
                {
                    Ok(origin)
                }
                _ => Err((entry.clone(), NotAnOrigin)),
            }
        });
        origins.collect::<Result<_, _>>().map(Origins::Listed)
    }

    /// Whether a handshake with these headers may go on.
    ///
    /// A client that is no browser sends no origin, or that of the server it connects to. The latter is taken on trust over
    /// TLS, where the certificate proves the name. Without TLS a page can point its own name at our address ("DNS
    /// rebinding"), so there only addresses and `localhost` count as the broker's own.
    #[must_use]
    pub fn admit(&self, origin: Option<&str>, host: Option<&str>, encrypted: bool) -> bool {
        let Some(origin) = origin.map(str::to_ascii_lowercase) else {
            return true;
        };
        match self {
            Origins::Any => return true,
            Origins::Listed(listed) if listed.contains(&origin) => return true,
            Origins::Listed(_) => {}
        }
        let scheme = if encrypted { "https://" } else { "http://" };
        let Some(host) = host.map(str::to_ascii_lowercase) else {
            return false;
        };
        origin.strip_prefix(scheme) == Some(host.as_str()) && (encrypted || is_own_address(&host))
    }
}

/// Whether no name server can make this mean something else.
fn is_own_address(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(origins: &[&str]) -> Origins {
        Origins::parse(&origins.iter().map(|&o| o.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_client_that_is_no_browser_sends_no_origin_and_may_connect() {
        assert!(Origins::default().admit(None, Some("broker.example"), false));
    }

    #[test]
    fn a_page_of_somebody_else_is_refused_unless_it_is_listed() {
        let page = Some("https://chat.example");
        let host = Some("broker.example:8883");
        assert!(!Origins::default().admit(page, host, true));
        assert!(listed(&["https://chat.example"]).admit(page, host, true));
        assert!(listed(&["https://CHAT.example"]).admit(Some("https://Chat.Example"), host, true));
        assert!(!listed(&["https://chat.example:444"]).admit(page, host, true));
        assert!(listed(&["*"]).admit(page, host, true));
        for origin in [
            "null",
            "",
            "file://",
            "https://chat.example.evil",
            "http://chat.example",
        ] {
            assert!(
                !listed(&["https://chat.example"]).admit(Some(origin), host, true),
                "{origin}"
            );
        }
    }

    #[test]
    fn the_brokers_own_origin_is_trusted_where_no_name_server_can_forge_it() {
        let own = Origins::default();
        for host in [
            "127.0.0.1:1883",
            "[::1]:1883",
            "localhost:1883",
            "localhost",
        ] {
            assert!(
                own.admit(Some(&format!("http://{host}")), Some(host), false),
                "{host}"
            );
        }
        let host = "broker.example:1883";
        assert!(!own.admit(Some("http://broker.example:1883"), Some(host), false));
        assert!(own.admit(Some("https://broker.example:1883"), Some(host), true));
        assert!(!own.admit(Some("http://broker.example:1883"), Some(host), true));
        assert!(!own.admit(Some("http://127.0.0.1:1883"), None, false));
        assert!(!own.admit(Some("http://127.0.0.1:8000"), Some("127.0.0.1:1883"), false));
    }

    #[test]
    fn what_is_no_origin_is_refused_in_the_settings() {
        for entry in [
            "chat.example",
            "https://",
            "https://a/b",
            "https://a/",
            "",
            "https://a b",
        ] {
            assert!(Origins::parse(&[entry.to_owned()]).is_err(), "{entry}");
        }
    }
}
