//! A broker for tests: forwards what it gets, or makes exactly the mistake it is told to make.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::connection::Limits;
use crate::loopback::LoopbackAddr;
use crate::packet::{Packet, Qos, decode, put_puback, put_publish};

/// What goes wrong at one message of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It is acknowledged and forgotten.
    Loses,
    /// It is delivered twice.
    Repeats,
    /// The next one is delivered before it.
    Swaps,
    /// Its last byte changes.
    Damages,
    /// From it on nothing is answered.
    Stops,
    /// It is answered by the end of the connection.
    Closes,
}

/// Which message it happens to, counted from 1.
const AT: u64 = 50;

#[derive(Default)]
struct Routes {
    subscribers: Vec<(String, TcpStream)>,
    messages: u64,
    id: u16,
    held: Option<(String, Vec<u8>)>,
}

/// Starts one; it lasts as long as the test.
pub(crate) fn start(fault: Fault) -> LoopbackAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let routes = Arc::new(Mutex::new(Routes::default()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, routes) = (stream.unwrap(), Arc::clone(&routes));
            thread::spawn(move || serve(stream, fault, &routes));
        }
    });
    LoopbackAddr::localhost(port)
}

/// Limits that a faulty broker reaches soon and a good one never.
pub(crate) fn limits() -> Limits {
    Limits::from_now(Duration::from_secs(60), Duration::from_secs(2))
}

/// Serves one connection to its end; `None` is its end.
fn serve(mut stream: TcpStream, fault: Fault, routes: &Mutex<Routes>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 65_536];
        let read = stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
        buffer.extend_from_slice(&chunk[..read]);
        let mut answers = Vec::new();
        while let Some((packet, length)) = decode(&buffer).unwrap() {
            match packet {
                Packet::Other(1) => answers.extend_from_slice(&[0x20, 2, 0, 0]),
                Packet::Other(8) => {
                    // All our packets here are shorter than 128 bytes: the filter's length is at byte 4.
                    let filter = String::from_utf8(buffer[6..length - 1].to_vec()).unwrap();
                    answers.extend_from_slice(&[0x90, 3, buffer[2], buffer[3], buffer[length - 1]]);
                    routes
                        .lock()
                        .unwrap()
                        .subscribers
                        .push((filter, stream.try_clone().unwrap()));
                }
                Packet::Publish { topic, id, payload } => {
                    let topic = std::str::from_utf8(topic).unwrap();
                    routes.lock().unwrap().route(topic, payload, fault)?;
                    if let Some(id) = id {
                        put_puback(&mut answers, id);
                    }
                }
                Packet::PubAck { .. } => {}
                _ => return None,
            }
            buffer.drain(..length);
        }
        stream.write_all(&answers).ok()?;
    }
}

impl Routes {
    fn route(&mut self, topic: &str, payload: &[u8], fault: Fault) -> Option<()> {
        self.messages += 1;
        let now = self.messages == AT;
        match fault {
            Fault::Loses if now => {}
            Fault::Swaps if now => self.held = Some((topic.to_owned(), payload.to_vec())),
            Fault::Damages if now => {
                let mut damaged = payload.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                self.deliver(topic, &damaged);
            }
            Fault::Repeats if now => {
                self.deliver(topic, payload);
                self.deliver(topic, payload);
            }
            Fault::Stops if now => loop {
                thread::park();
            },
            Fault::Closes if now => return None,
            _ => self.deliver(topic, payload),
        }
        if !now && let Some((topic, payload)) = self.held.take() {
            self.deliver(&topic, &payload);
        }
        Some(())
    }

    fn deliver(&mut self, topic: &str, payload: &[u8]) {
        self.id = self.id.checked_add(1).unwrap_or(1);
        let mut bytes = Vec::new();
        put_publish(&mut bytes, topic, Qos::AtLeastOnce, false, self.id, payload);
        for (filter, stream) in &mut self.subscribers {
            if filter == topic
                || filter
                    .strip_suffix('+')
                    .is_some_and(|prefix| topic.starts_with(prefix))
            {
                let _ = stream.write_all(&bytes);
            }
        }
    }
}
