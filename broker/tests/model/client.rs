//! A client over a pipe in memory, in packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sealpost_broker::access::admission::Channel;
use sealpost_broker::broker::Broker;
use sealpost_broker::connection::{Origin, Stream, greet};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A packet: its first byte, and what follows its length.
pub(crate) type Packet = (u8, Vec<u8>);

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pipe: DuplexStream,
    task: JoinHandle<()>,
}

impl Client {
    /// Opens a connection and sends its CONNECT.
    pub(crate) async fn open(broker: &Arc<Broker>, connect: &[u8]) -> Client {
        let (near, far) = tokio::io::duplex(1024 * 1024);
        let (reader, writer) = split(far);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let channel = Channel::plain(address.ip());
        let stream = Stream::new(reader, writer, Origin::new(address, channel));
        let broker = Arc::clone(broker);
        let task = tokio::spawn(async move {
            if let Some(greeting) = greet(stream).await {
                let connection = greeting.join(broker, CancellationToken::new()).await;
                if let Some(connection) = connection {
                    connection.run().await;
                }
            }
        });
        let mut client = Client { pipe: near, task };
        client.send(connect).await;
        client
    }

    /// Sends bytes; the broker may have hung up halfway.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.pipe.write_all(bytes).await;
    }

    /// The next packet; `None` at the end.
    pub(crate) async fn read(&mut self) -> Option<Packet> {
        let read = async {
            let first = self.pipe.read_u8().await.ok()?;
            let mut length = 0;
            for shift in [0, 7, 14, 21] {
                let byte = self.pipe.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.pipe.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        timeout(PATIENCE, read).await.expect("an answer in time")
    }

    /// All that is due to the client by now. The first PINGRESP may overtake deliveries, the second cannot.
    pub(crate) async fn settle(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        for _ in 0..2 {
            self.send(b"\xc0\x00").await;
            loop {
                match self.read().await.expect("a PINGRESP") {
                    (0xd0, _) => break,
                    packet => packets.push(packet),
                }
            }
        }
        packets
    }

    /// Reads to the end of the connection.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = self.read().await {
            packets.push(packet);
        }
        packets
    }

    /// Hangs up, and waits until the broker has dealt with it.
    pub(crate) async fn hang_up(self) {
        drop(self.pipe);
        let ended = timeout(PATIENCE, self.task).await;
        ended.expect("an end in time").expect("no panic");
    }
}

/// A length in front of bytes.
pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A packet below 128 bytes.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    assert!(length < 128);
    [&[first, length], body].concat()
}
