//! Where a broker is: `mqtt://`, `mqtts://`, `ws://` or `wss://`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use rustls::pki_types::ServerName;

/// Where brokers serve MQTT over WebSocket when the URL does not say.
const DEFAULT_PATH: &str = "/mqtt";

/// How MQTT travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket over plain TCP.
    WebSocket,
    /// WebSocket in TLS.
    SecureWebSocket,
}

impl Transport {
    const ALL: [Transport; 4] = [
        Transport::Tcp,
        Transport::Tls,
        Transport::WebSocket,
        Transport::SecureWebSocket,
    ];

    /// What stands before `://`.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::WebSocket => "ws",
            Transport::SecureWebSocket => "wss",
        }
    }

    /// The port when the URL has none: what IANA registered for MQTT, and HTTP's for WebSocket.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Transport::Tcp => 1883,
            Transport::Tls => 8883,
            Transport::WebSocket => 80,
            Transport::SecureWebSocket => 443,
        }
    }

    /// Whether there is TLS.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::SecureWebSocket)
    }

    /// Whether there is WebSocket.
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        matches!(self, Transport::WebSocket | Transport::SecureWebSocket)
    }
}

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    transport: Transport,
    host: ServerName<'static>,
    port: u16,
    /// Empty without WebSocket.
    path: String,
}

/// Why a broker's address is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// No scheme.
    #[error("no scheme: write mqtts://HOST, wss://HOST, or mqtt://HOST on this machine")]
    NoScheme,
    /// Something else before `://`.
    #[error("unknown scheme {0}://: there are mqtt://, mqtts://, ws:// and wss://")]
    UnknownScheme(String),
    /// A user name or password in the address.
    #[error(
        "no user name or password belongs in the address: Sealpost signs in with an identity key"
    )]
    Credentials,
    /// A path without WebSocket, a query or a fragment.
    #[error("nothing may follow the port, but a path after ws:// and wss://")]
    Trailing,
    /// No host, or a text that is neither host name nor address.
    #[error("the host name is missing or malformed")]
    Host,
    /// Not 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(url: &str) -> Result<BrokerUrl, BrokerUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(BrokerUrlError::NoScheme)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(plain) {
            return Err(BrokerUrlError::NoScheme);
        }
        let scheme = scheme.to_ascii_lowercase();
        let transport = Transport::ALL
            .into_iter()
            .find(|transport| transport.scheme() == scheme)
            .ok_or(BrokerUrlError::UnknownScheme(scheme))?;
        if rest.contains(['?', '#']) {
            return Err(BrokerUrlError::Trailing);
        }
        let uri: Uri = url.parse().map_err(|_| BrokerUrlError::Host)?;
        let authority = uri.authority().ok_or(BrokerUrlError::Host)?;
        if authority.as_str().contains('@') {
            return Err(BrokerUrlError::Credentials);
        }
        let host = authority.host();
        let address = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or(BrokerUrlError::Host)?,
            None => host,
        };
        let name = ServerName::try_from(address.to_owned()).map_err(|_| BrokerUrlError::Host)?;
        if host.starts_with('[') != address.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(BrokerUrlError::Host);
        }
        let port = match authority.as_str().strip_prefix(host) {
            None | Some("") => transport.default_port(),
            Some(port) => port
                .strip_prefix(':')
                .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|port| port.parse().ok())
                .filter(|&port| port != 0)
                .ok_or(BrokerUrlError::Port)?,
        };
        // `Uri` says "/" for no path as well.
        let path = match rest.strip_prefix(authority.as_str()).unwrap_or_default() {
            "" if transport.is_websocket() => DEFAULT_PATH,
            path if transport.is_websocket() => path,
            "" | "/" => "",
            _ => return Err(BrokerUrlError::Trailing),
        };
        Ok(BrokerUrl {
            transport,
            host: name,
            port,
            path: path.to_owned(),
        })
    }
}

impl BrokerUrl {
    /// How MQTT travels there.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The name or address that the server's certificate has to be for.
    #[must_use]
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.to_str().into_owned()
    }

    /// Host and port, with an IPv6 address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        match IpAddr::from_str(&self.host.to_str()) {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host.to_str(), self.port),
        }
    }

    /// Whether the traffic stays on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.to_str();
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Whether others than this machine can read along and take the connection over after its login.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.transport.is_encrypted() && !self.is_loopback()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = (self.transport.scheme(), &self.path);
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_addresses_are_understood_and_written_whole() {
        for (url, shown, loopback, exposed) in [
            (
                "mqtt://127.0.0.1:2883",
                "mqtt://127.0.0.1:2883",
                true,
                false,
            ),
            ("mqtt://localhost", "mqtt://localhost:1883", true, false),
            ("MQTT://localhost/", "mqtt://localhost:1883", true, false),
            ("mqtt://[::1]:2883", "mqtt://[::1]:2883", true, false),
            (
                "mqtt://b.example:65535",
                "mqtt://b.example:65535",
                false,
                true,
            ),
            ("mqtts://b.example", "mqtts://b.example:8883", false, false),
            ("ws://b.example", "ws://b.example:80/mqtt", false, true),
            ("ws://b.example:80/", "ws://b.example:80/", false, true),
            (
                "wss://[2001:db8::1]",
                "wss://[2001:db8::1]:443/mqtt",
                false,
                false,
            ),
            (
                "wss://b.example/a/b",
                "wss://b.example:443/a/b",
                false,
                false,
            ),
        ] {
            let parsed: BrokerUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.is_loopback(), loopback, "{url}");
            assert_eq!(parsed.is_exposed(), exposed, "{url}");
            assert_eq!(
                shown.parse(),
                Ok(parsed),
                "what is written is read as the same"
            );
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        use BrokerUrlError::*;
        for (url, error) in [
            ("", NoScheme),
            ("localhost:1883", NoScheme),
            ("\u{1b}[2J://h", NoScheme),
            ("http://h", UnknownScheme("http".into())),
            ("mqtt://alice:pw@h", Credentials),
            ("wss://alice@h/mqtt", Credentials),
            ("mqtt://h:1883/topic", Trailing),
            ("mqtts://h?x=y", Trailing),
            ("wss://h/mqtt#x", Trailing),
            ("mqtt://", Host),
            ("mqtt://:1883", Host),
            ("mqtt://[::1", Host),
            ("mqtt://[::1]x", Port),
            ("mqtt://::1", Host),
            ("mqtt://[nonsense]:1", Host),
            ("mqtt://[127.0.0.1]:1", Host),
            ("mqtt://a b", Host),
            ("mqtt://h:", Port),
            ("mqtt://h:0", Port),
            ("mqtt://h:65536", Port),
            ("mqtt://h:+80", Port),
        ] {
            // Some of these the library of URLs refuses as a whole.
            let refused = url.parse::<BrokerUrl>().expect_err(url);
            assert!(refused == error || refused == Host, "{url}: {refused:?}");
            assert!(error == Port || refused == error, "{url}: {refused:?}");
        }
    }
}
