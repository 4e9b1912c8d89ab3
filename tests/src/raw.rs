//! A client in raw bytes: it says what no library would, and sees every byte that comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;
use crate::packet::{packet, prefixed};

/// A connection.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
}

/// A CONNECT to be said.
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.
    pub level: u8,
    /// The client id.
    pub client_id: &'a str,
    /// Clean session, or clean start.
    pub clean: bool,
    /// MQTT 5 properties, without their length.
    pub properties: &'a [u8],
    /// The will.
    pub will: Option<Will<'a>>,
    /// User name and password.
    pub login: Option<(&'a str, &'a str)>,
}

/// A will to be said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Will<'a> {
    /// Where.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// At which QoS.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// MQTT 5 properties, without their length.
    pub properties: &'a [u8],
}

impl<'a> Connect<'a> {
    /// A clean session in MQTT 3.1.1.
    #[must_use]
    pub fn v311(client_id: &'a str) -> Connect<'a> {
        Connect {
            level: 4,
            client_id,
            clean: true,
            properties: b"",
            will: None,
            login: None,
        }
    }

    /// A clean start in MQTT 5.
    #[must_use]
    pub fn v5(client_id: &'a str) -> Connect<'a> {
        Connect {
            level: 5,
            ..Connect::v311(client_id)
        }
    }

    /// As a packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut flags = if self.clean { 0x02 } else { 0 };
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        if self.login.is_some() {
            flags |= 0xc0;
        }
        let mut body = [&b"\x00\x04MQTT"[..], &[self.level, flags, 0, 0]].concat();
        if self.level == 5 {
            body.extend(properties(self.properties));
        }
        body.extend(prefixed(self.client_id));
        if let Some(will) = &self.will {
            if self.level == 5 {
                body.extend(properties(will.properties));
            }
            body.extend(prefixed(will.topic));
            body.extend(u16::try_from(will.payload.len()).unwrap().to_be_bytes());
            body.extend(will.payload);
        }
        if let Some((name, password)) = self.login {
            body.extend([prefixed(name), prefixed(password)].concat());
        }
        packet(0x10, &body)
    }
}

/// Properties with their length, which is below 128.
#[must_use]
pub fn properties(properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    assert!(length < 128);
    [&[length], properties].concat()
}

/// A PUBLISH of MQTT 3.1.1; `flags` as in its first byte.
#[must_use]
pub fn publish(flags: u8, topic: &str, pkid: u16, payload: &[u8]) -> Vec<u8> {
    publish_with(flags, topic, pkid, None, payload)
}

/// A PUBLISH of MQTT 5.
#[must_use]
pub fn publish5(flags: u8, topic: &str, pkid: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    publish_with(flags, topic, pkid, Some(properties), payload)
}

fn publish_with(
    flags: u8,
    topic: &str,
    pkid: u16,
    props: Option<&[u8]>,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = prefixed(topic);
    if flags & 0b0110 != 0 {
        body.extend(pkid.to_be_bytes());
    }
    body.extend(props.map(properties).unwrap_or_default());
    body.extend(payload);
    packet(0x30 | flags, &body)
}

impl Raw {
    /// Opens a connection and says nothing.
    #[must_use]
    pub fn open(broker: SocketAddr) -> Raw {
        Raw::over(TcpStream::connect(broker).unwrap())
    }

    fn over(socket: TcpStream) -> Raw {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Raw { socket }
    }

    /// Connects; the CONNACK must say that it worked.
    #[must_use]
    pub fn connect(broker: SocketAddr, connect: &Connect<'_>) -> Raw {
        Raw::connect_present(broker, connect).0
    }

    /// As [`Raw::connect`], with whether the session was there.
    #[must_use]
    pub fn connect_present(broker: SocketAddr, connect: &Connect<'_>) -> (Raw, bool) {
        let mut raw = Raw::open(broker);
        raw.send(&connect.packet());
        let (first, body) = raw.read().expect("a CONNACK");
        assert_eq!((first, body[1]), (0x20, 0), "{body:x?}");
        let present = body[0] == 1;
        (raw, present)
    }

    /// As [`Raw::connect_present`] to a broker that may end at any time. `None` when there is none, or it ended.
    #[must_use]
    pub fn try_connect(broker: SocketAddr, connect: &Connect<'_>) -> Option<(Raw, bool)> {
        let mut raw = Raw::over(TcpStream::connect(broker).ok()?);
        raw.send(&connect.packet());
        let (first, body) = raw.read()?;
        assert_eq!((first, body[1]), (0x20, 0), "{body:x?}");
        Some((raw, body[0] == 1))
    }

    /// Sends bytes. That the broker has hung up is no error: it may do that halfway.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The next packet: its first byte, and what follows its length. `None` at the end.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.byte()?;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).ok()?;
        Some((first, body))
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.socket.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next packet must be this one.
    pub fn expect(&mut self, expected: &[u8]) {
        let (first, body) = self
            .read()
            .unwrap_or_else(|| panic!("the end came instead of {expected:x?}"));
        assert_eq!(packet(first, &body), expected);
    }

    /// Subscribes at the QoS, in either version, and waits for the SUBACK.
    pub fn subscribe(&mut self, level: u8, filter: &str, qos: u8) {
        let no_properties: &[u8] = if level == 5 { b"\x00" } else { b"" };
        let body = [b"\x00\x09", no_properties, &prefixed(filter), &[qos]].concat();
        self.send(&packet(0x82, &body));
        let granted = [b"\x00\x09", no_properties, &[qos]].concat();
        self.expect(&packet(0x90, &granted));
    }

    /// The connection must end; returns the packets that came before.
    pub fn read_to_end(&mut self) -> Vec<(u8, Vec<u8>)> {
        std::iter::from_fn(|| self.read()).collect()
    }

    /// Whatever was sent before has been dealt with when this returns; nothing else must come.
    pub fn ping(&mut self) {
        self.send(b"\xc0\x00");
        self.expect(b"\xd0\x00");
    }

    /// Closes the connection without a DISCONNECT.
    pub fn hang_up(self) {
        drop(self);
    }

    /// Says DISCONNECT and waits for the broker to close.
    pub fn disconnect(mut self) {
        self.send(b"\xe0\x00");
        assert_eq!(self.read_to_end(), []);
    }
}
