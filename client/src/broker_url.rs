//! Where the broker is: `mqtt://host:port`.

use std::fmt;

/// The port that IANA registered for MQTT over TCP.
pub const DEFAULT_PORT: u16 = 1883;

/// A broker's address. Only plain TCP (`mqtt://`) so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
}

/// Why a broker's address is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// No scheme.
    #[error("no scheme: write mqtt://HOST:PORT")]
    NoScheme,
    /// TLS and WebSocket are not there yet.
    #[error(
        "{0}:// is not supported by this version: use mqtt://, over loopback or through a tunnel (ssh -L, stunnel, WireGuard)"
    )]
    NotYet(String),
    /// Something else before `://`.
    #[error("unknown scheme {0}://: write mqtt://HOST:PORT")]
    UnknownScheme(String),
    /// A user name or password in the address.
    #[error(
        "no user name or password belongs in the address: Sealpost signs in with your identity key"
    )]
    Credentials,
    /// A path, query or fragment.
    #[error("nothing may follow the port: write mqtt://HOST:PORT")]
    Trailing,
    /// No host, or a character that no host name or address has.
    #[error("the host name is missing or malformed: write mqtt://HOST:PORT")]
    Host,
    /// Not 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl BrokerUrl {
    /// Parses `mqtt://host`, `mqtt://host:port`, `mqtt://[::1]:port`.
    pub fn parse(url: &str) -> Result<BrokerUrl, BrokerUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(BrokerUrlError::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => {}
            known @ ("mqtts" | "ws" | "wss") => {
                return Err(BrokerUrlError::NotYet(known.to_owned()));
            }
            _ => {
                return Err(BrokerUrlError::UnknownScheme(crate::terminal::clean_line(
                    scheme,
                )));
            }
        }
        if rest.contains('@') {
            return Err(BrokerUrlError::Credentials);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(BrokerUrlError::Trailing);
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (address, after) = v6.split_once(']').ok_or(BrokerUrlError::Host)?;
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| BrokerUrlError::Host)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(BrokerUrlError::Host),
                };
                (format!("[{address}]"), port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (rest.to_owned(), None),
            },
        };
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(valid) {
            return Err(BrokerUrlError::Host);
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or(BrokerUrlError::Port)?,
            Some(_) => return Err(BrokerUrlError::Port),
        };
        Ok(BrokerUrl { host, port })
    }

    /// The host name or address; an IPv6 address stands in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the traffic stays on this machine. Anywhere else, plain TCP can be taken over after the login.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        if self.host == "localhost" {
            return true;
        }
        self.host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_addresses_are_understood() {
        for (url, shown, loopback) in [
            ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883", true),
            ("mqtt://localhost", "mqtt://localhost:1883", true),
            ("MQTT://localhost/", "mqtt://localhost:1883", true),
            ("mqtt://[::1]:2883", "mqtt://[::1]:2883", true),
            (
                "mqtt://broker.example.org:65535",
                "mqtt://broker.example.org:65535",
                false,
            ),
        ] {
            let parsed = BrokerUrl::parse(url).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.is_loopback(), loopback, "{url}");
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        use BrokerUrlError::*;
        for (url, error) in [
            ("localhost:1883", NoScheme),
            ("mqtts://h", NotYet("mqtts".into())),
            ("wss://h/mqtt", NotYet("wss".into())),
            ("http://h", UnknownScheme("http".into())),
            ("mqtt://alice:pw@h", Credentials),
            ("mqtt://h:1883/topic", Trailing),
            ("mqtt://h?x=y", Trailing),
            ("mqtt://", Host),
            ("mqtt://:1883", Host),
            ("mqtt://[::1", Host),
            ("mqtt://[nonsense]:1", Host),
            ("mqtt://a b", Host),
            ("mqtt://h:", Port),
            ("mqtt://h:0", Port),
            ("mqtt://h:65536", Port),
            ("mqtt://h:+80", Port),
        ] {
            assert_eq!(BrokerUrl::parse(url), Err(error), "{url}");
        }
    }
}
