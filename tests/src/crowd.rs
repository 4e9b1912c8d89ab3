//! A crowd that comes all at once, goes all at once, and comes again: thousands of clients with sessions that are kept, in one
//! process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::packet::{packet, prefixed};
use crate::raw::{Connect, publish5};
use crate::{Raw, Weather};

/// What all of them subscribe to, at QoS 1.
const ROLL: &str = "roll";

/// Session expiry of an hour.
const KEPT: &[u8] = b"\x11\x00\x00\x0e\x10";

/// Of a hundred, how many lose patience: they hang up before their CONNACK, and come again.
const IMPATIENT: u32 = 20;

/// Addresses of loopback that they come from, in turn. Each has some 28,000 ports, which rest for a minute after use.
const ADDRESSES: usize = 200;

/// A crowd.
#[derive(Debug)]
pub struct Crowd {
    broker: SocketAddr,
    members: usize,
    calls: u64,
    runtime: tokio::runtime::Runtime,
}

/// How a member comes and goes.
#[derive(Debug, Clone, Copy)]
struct Way {
    impatient: bool,
    /// With a DISCONNECT, or without a word.
    polite: bool,
    /// By a reset, or by closing.
    reset: bool,
}

impl Crowd {
    /// A crowd of so many, each with a session that is kept and one subscription.
    ///
    /// # Panics
    /// When this system does not allow as many open files.
    #[must_use]
    pub fn enrol(broker: SocketAddr, members: usize) -> Crowd {
        let wanted = members as u64 + 500;
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(wanted);
            setrlimit(Resource::Nofile, limit)
                .expect("a crowd needs as many open files: ulimit -Hn is too low");
        }
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let mut crowd = Crowd {
            broker,
            members,
            calls: 0,
            runtime: runtime.enable_all().build().unwrap(),
        };
        crowd.rush(true);
        crowd
    }

    /// Calls the roll while nobody is there. Then all come at once, and each finds its session, and in it
    /// every call that it has not acknowledged, in order, up to this one. Then all go at once.
    ///
    /// # Panics
    /// When one does not.
    pub fn storm(&mut self, weather: &Weather) {
        self.calls += 1;
        let connect = Connect::v5("usher");
        let (mut usher, _) = weather.connect(&connect);
        // While the disk is full it is refused, and reaches nobody.
        loop {
            let call = self.calls.to_string();
            usher.send(&publish5(0b0010, ROLL, 7, b"", call.as_bytes()));
            let (first, body) = usher.read().expect("a PUBACK");
            assert_eq!(first, 0x40);
            match body.get(2) {
                None | Some(0) => break,
                Some(0x97) => std::thread::sleep(Duration::from_millis(20)),
                reason => panic!("the roll: {reason:x?}"),
            }
        }
        Raw::disconnect(usher);
        self.rush(false);
    }

    /// How often the roll was called.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls
    }

    fn rush(&mut self, first: bool) {
        let (broker, call) = (self.broker, self.calls);
        let all_here = Arc::new(Barrier::new(self.members));
        self.runtime.block_on(async {
            let mut members = JoinSet::new();
            for number in 0..self.members {
                let mut rng = rand::rng();
                let member = Member {
                    broker,
                    from: Ipv4Addr::new(127, 0, 1, address(number + self.members * call as usize)),
                    level: if number % 2 == 0 { 5 } else { 4 },
                    number,
                };
                let way = Way {
                    impatient: !first && rng.random_ratio(IMPATIENT, 100),
                    polite: first || rng.random(),
                    reset: rng.random(),
                };
                let all_here = Arc::clone(&all_here);
                members.spawn(async move {
                    let visit = member.visit(way, call, first, &all_here);
                    let visit = tokio::time::timeout(PATIENCE, visit).await;
                    visit.unwrap_or_else(|_| panic!("member {number}: nothing came"));
                });
            }
            while let Some(visit) = members.join_next().await {
                visit.unwrap();
            }
        });
    }
}

fn address(turn: usize) -> u8 {
    u8::try_from(turn % ADDRESSES + 1).unwrap()
}

#[derive(Debug, Clone, Copy)]
struct Member {
    broker: SocketAddr,
    from: Ipv4Addr,
    level: u8,
    number: usize,
}

impl Member {
    async fn connect(&self, first: bool) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.from, 0).into()).unwrap();
        let mut stream = socket.connect(self.broker).await.unwrap();
        let client_id = format!("member-{}", self.number);
        let connect = Connect {
            level: self.level,
            // A clean session of MQTT 3.1.1 is not kept.
            clean: first && self.level == 5,
            properties: if self.level == 5 { KEPT } else { b"" },
            ..Connect::v311(&client_id)
        };
        let _ = stream.write_all(&connect.packet()).await;
        stream
    }

    async fn visit(self, way: Way, call: u64, first: bool, all_here: &Barrier) {
        if way.impatient {
            drop(self.connect(first).await);
        }
        let mut stream = loop {
            let mut stream = self.connect(first).await;
            let here = match first {
                true => self.sign_up(&mut stream).await,
                false => self.answer_the_roll(&mut stream, call).await,
            };
            // The connection that was given up may reach the broker late, and takes the session over.
            match here {
                Some(()) => break stream,
                None => assert!(way.impatient, "{self:?}: cut off"),
            }
        };
        all_here.wait().await;
        if way.polite {
            let _ = stream.write_all(b"\xe0\x00").await;
        } else if way.reset {
            stream.set_zero_linger().unwrap();
        }
    }

    /// The CONNACK, and the subscription. `None` at the end of the connection.
    async fn sign_up(&self, stream: &mut TcpStream) -> Option<()> {
        let (kind, body) = self.read(stream).await?;
        assert_eq!((kind, &body[..2]), (0x20, &[0, 0][..]), "{self:?}");
        let no_properties: &[u8] = if self.level == 5 { b"\x00" } else { b"" };
        let body = [b"\x00\x09", no_properties, &prefixed(ROLL), &[1]].concat();
        stream.write_all(&packet(0x82, &body)).await.ok()?;
        let (kind, body) = self.read(stream).await?;
        assert_eq!((kind, body.last()), (0x90, Some(&1)), "{self:?}");
        Some(())
    }

    /// The CONNACK, and all that comes until this call, which is acknowledged. `None` at the end of the connection.
    async fn answer_the_roll(&self, stream: &mut TcpStream, call: u64) -> Option<()> {
        let (kind, body) = self.read(stream).await?;
        assert_eq!((kind, &body[..2]), (0x20, &[1, 0][..]), "{self:?}");
        let mut last = None;
        while last != Some(call) {
            let (kind, body) = self.read(stream).await?;
            assert_eq!(kind & !0b1000, 0x32, "{self:?}: {kind:x} {body:x?}");
            let at = 2 + ROLL.len();
            let skip = if self.level == 5 { 3 } else { 2 };
            let number = std::str::from_utf8(&body[at + skip..]).unwrap();
            let number = number.parse::<u64>().unwrap();
            // Acknowledgements of earlier visits may have been lost with their connections.
            assert!(
                last.is_none_or(|last| number == last + 1) && number <= call,
                "{self:?}: {number} came after {last:?}, and {call} was called"
            );
            let puback = packet(0x40, &body[at..at + 2]);
            stream.write_all(&puback).await.ok()?;
            last = Some(number);
        }
        Some(())
    }

    /// The next packet; `None` at the end, which the broker may announce.
    async fn read(&self, stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
        let kind = stream.read_u8().await.ok()?;
        // All that comes to it is below 128 bytes, less the explanation of a DISCONNECT.
        let length = stream.read_u8().await.ok()?;
        if kind == 0xe0 {
            return None;
        }
        assert!(length < 128, "{self:?}");
        let mut body = vec![0; length.into()];
        stream.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }
}
