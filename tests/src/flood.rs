//! A publisher that does nothing but publish, at MQTT 3.1.1 and QoS 1, with a window as wide as the socket.

use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::PATIENCE;
use crate::packet::{packet, prefixed};

/// Unacknowledged publishes at most; packet identifiers are not used twice in this many.
const WINDOW: usize = 500;

/// A connection that floods.
#[derive(Debug)]
pub struct Flood {
    socket: BufWriter<TcpStream>,
    acknowledged: Receiver<u16>,
    sent: usize,
    answered: usize,
}

impl Flood {
    /// Logs in.
    #[must_use]
    pub fn connect(broker: SocketAddr, user: &str, password: &str, client_id: &str) -> Flood {
        let mut socket = TcpStream::connect(broker).unwrap();
        let connect = [
            &b"\x00\x04MQTT\x04\xc2\x00\x00"[..],
            &prefixed(client_id),
            &prefixed(user),
            &prefixed(password),
        ]
        .concat();
        socket.write_all(&packet(0x10, &connect)).unwrap();
        let mut connack = [0; 4];
        socket.read_exact(&mut connack).unwrap();
        assert_eq!(connack, *b"\x20\x02\x00\x00");
        socket.set_write_timeout(Some(PATIENCE)).unwrap();

        let mut reader = socket.try_clone().unwrap();
        let (sender, acknowledged) = sync_channel(WINDOW);
        std::thread::spawn(move || {
            let mut puback = [0; 4];
            while reader.read_exact(&mut puback).is_ok() {
                assert_eq!(
                    puback[..2],
                    *b"\x40\x02",
                    "only PUBACKs come to a publisher"
                );
                if sender
                    .send(u16::from_be_bytes([puback[2], puback[3]]))
                    .is_err()
                {
                    break;
                }
            }
        });
        Flood {
            socket: BufWriter::new(socket),
            acknowledged,
            sent: 0,
            answered: 0,
        }
    }

    fn pkid(count: usize) -> u16 {
        u16::try_from(count % 60_000 + 1).unwrap()
    }

    /// Publishes; waits only when the window is full.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        while self.sent - self.answered >= WINDOW {
            self.socket.flush().unwrap();
            self.await_one();
        }
        let body = [
            &prefixed(topic),
            &Self::pkid(self.sent).to_be_bytes()[..],
            payload,
        ]
        .concat();
        self.socket.write_all(&packet(0x32, &body)).unwrap();
        self.sent += 1;
    }

    fn await_one(&mut self) {
        let pkid = self
            .acknowledged
            .recv_timeout(PATIENCE)
            .expect("a PUBACK in time");
        assert_eq!(pkid, Self::pkid(self.answered), "in order");
        self.answered += 1;
    }

    /// Waits until everything is acknowledged.
    pub fn finish(mut self) {
        self.socket.flush().unwrap();
        while self.answered < self.sent {
            self.await_one();
        }
    }
}
