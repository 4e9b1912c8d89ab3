//! The address of a broker on this machine: a load generator is pointed at nothing else.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use thiserror::Error;

/// A TCP address of the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoopbackAddr(SocketAddr);

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LoopbackAddrError {
    /// It does not name an address and a port.
    #[error("{0:?} is not an address such as 127.0.0.1:1883")]
    Malformed(String),
    /// It names another machine, or may.
    #[error("{given:?} is {found}, not a loopback address: load is sent to this machine only")]
    NotLoopback {
        /// What was given.
        given: String,
        /// What it stands for.
        found: SocketAddr,
    },
}

impl LoopbackAddr {
    /// `port` on 127.0.0.1.
    pub(crate) fn localhost(port: u16) -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The socket address.
    pub(crate) fn socket(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for LoopbackAddr {
    type Err = LoopbackAddrError;

    fn from_str(given: &str) -> Result<Self, LoopbackAddrError> {
        let malformed = || LoopbackAddrError::Malformed(given.to_owned());
        let addresses: Vec<SocketAddr> =
            given.to_socket_addrs().map_err(|_| malformed())?.collect();
        // One name can stand for several addresses: all of them must be here.
        if let Some(&found) = addresses.iter().find(|address| !address.ip().is_loopback()) {
            return Err(LoopbackAddrError::NotLoopback {
                given: given.to_owned(),
                found,
            });
        }
        addresses.first().copied().map(Self).ok_or_else(malformed)
    }
}

impl fmt::Display for LoopbackAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_sent_to_this_machine_only() {
        for given in ["127.0.0.1:1883", "127.9.9.9:1", "[::1]:1883"] {
            assert!(given.parse::<LoopbackAddr>().is_ok(), "{given}");
        }
        for given in ["192.0.2.1:1883", "0.0.0.0:1883", "[2001:db8::1]:1883"] {
            assert!(
                matches!(
                    given.parse::<LoopbackAddr>(),
                    Err(LoopbackAddrError::NotLoopback { .. })
                ),
                "{given}"
            );
        }
        for given in ["", "127.0.0.1", "1883", "127.0.0.1:99999"] {
            assert!(
                matches!(
                    given.parse::<LoopbackAddr>(),
                    Err(LoopbackAddrError::Malformed(_))
                ),
                "{given}"
            );
        }
    }
}
