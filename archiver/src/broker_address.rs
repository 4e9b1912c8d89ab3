//! Where the broker is: `mqtt://HOST[:PORT]`.

use std::fmt;
use std::str::FromStr;

/// MQTT's port without TLS.
const DEFAULT_PORT: u16 = 1883;

/// A broker's host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    host: String,
    port: u16,
}

/// Why a text is not a broker's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerAddressError {
    /// It does not begin with `mqtt://`.
    #[error("a broker's address is mqtt://HOST[:PORT]")]
    Scheme,
    /// TLS was asked for.
    #[error("connections over TLS are not there yet; use mqtt:// on loopback or inside a tunnel")]
    Tls,
    /// There is no host, or it has characters that no host has.
    #[error("a broker's address needs a host and nothing after the port: mqtt://HOST[:PORT]")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl BrokerAddress {
    /// Host name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for BrokerAddress {
    type Err = BrokerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("mqtts://") {
            return Err(BrokerAddressError::Tls);
        }
        let authority = text
            .strip_prefix("mqtt://")
            .ok_or(BrokerAddressError::Scheme)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            Some((address, "")) => (address, None),
            Some((address, rest)) => (
                address,
                Some(rest.strip_prefix(':').ok_or(BrokerAddressError::Host)?),
            ),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let in_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || !host.bytes().all(in_a_host) {
            return Err(BrokerAddressError::Host);
        }
        let port = match port.map(str::parse) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return Err(BrokerAddressError::Port),
        };
        Ok(BrokerAddress {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "mqtt://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "mqtt://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port, written) in [
            (
                "mqtt://127.0.0.1:2000",
                "127.0.0.1",
                2000,
                "mqtt://127.0.0.1:2000",
            ),
            (
                "mqtt://broker.example",
                "broker.example",
                1883,
                "mqtt://broker.example:1883",
            ),
            (
                "mqtt://broker.example/",
                "broker.example",
                1883,
                "mqtt://broker.example:1883",
            ),
            ("mqtt://[::1]", "::1", 1883, "mqtt://[::1]:1883"),
            ("mqtt://[::1]:7", "::1", 7, "mqtt://[::1]:7"),
        ] {
            let address: BrokerAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        use BrokerAddressError::*;
        for (text, expected) in [
            ("", Scheme),
            ("localhost:1883", Scheme),
            ("http://localhost", Scheme),
            ("mqtts://localhost", Tls),
            ("mqtt://", Host),
            ("mqtt://:1883", Host),
            ("mqtt://user@host", Host),
            ("mqtt://host/path", Host),
            ("mqtt://host:", Port),
            ("mqtt://host:0", Port),
            ("mqtt://host:65536", Port),
            ("mqtt://[::1]x", Host),
        ] {
            assert_eq!(text.parse::<BrokerAddress>(), Err(expected), "{text}");
        }
    }
}
