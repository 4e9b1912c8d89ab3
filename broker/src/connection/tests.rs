//! Connections without a network: the stream is a pipe in memory, and its ends misbehave.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;

use super::*;
use crate::access::admission::Channel;
use crate::server::assemble;
use crate::settings::{Overrides, Settings};

/// Far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// CONNECT at MQTT 3.1.1 with client id `a`, clean session off.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01a";
const SUBSCRIBE: &[u8] = b"\x82\x06\x00\x01\x00\x01t\x01";

struct Bench {
    broker: Arc<Broker>,
    _data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let data = tempfile::tempdir().unwrap();
        let flags = Overrides {
            open: true,
            data: Some(data.path().into()),
            ..Overrides::default()
        };
        let assembled = assemble(Settings::load(None, flags).unwrap()).unwrap();
        let broker = assembled.broker;
        Bench {
            broker,
            _data: data,
        }
    }

    /// Serves a stream as a task, as the listeners do.
    fn serve(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> JoinHandle<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let channel = Channel::plain(address.ip());
        let stream = Stream::new(reader, writer, Origin::new(address, channel));
        let broker = Arc::clone(&self.broker);
        tokio::spawn(async move {
            let greeting = greet(stream).await.unwrap();
            let connection = greeting.join(broker, CancellationToken::new()).await;
            if let Some(connection) = connection {
                connection.run().await;
            }
        })
    }
}

/// A pipe whose reading or writing end panics once the byte `!` passes.
struct Trap<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Trap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        assert!(!buf.filled().contains(&b'!'), "the reader fell into a trap");
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Trap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!buf.contains(&b'!'), "the writer fell into a trap");
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn expect(client: &mut DuplexStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut got))
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(got, bytes);
}

/// Joins the session, then does what springs the trap; returns once the connection has ended.
async fn fall_into_the_trap(bench: &Bench, publish: &[u8], reading: bool) {
    let (mut client, server) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(server);
    let served = if reading {
        bench.serve(Trap(reader), writer)
    } else {
        bench.serve(reader, Trap(writer))
    };
    client.write_all(CONNECT).await.unwrap();
    expect(&mut client, b"\x20\x02\x00\x00").await;
    client.write_all(SUBSCRIBE).await.unwrap();
    expect(&mut client, b"\x90\x03\x00\x01\x01").await;
    client.write_all(publish).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, served)
        .await
        .expect("the connection ends");
    assert_eq!(ended.is_err(), reading, "a reader's panic ends its task");
}

/// The session is there with its subscription, and what it missed.
async fn come_back(bench: &Bench, other: &mut DuplexStream) {
    other.write_all(b"\x30\x04\x00\x01tx").await.unwrap();
    let (mut client, server) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(server);
    bench.serve(reader, writer);
    client.write_all(CONNECT).await.unwrap();
    expect(&mut client, b"\x20\x02\x01\x00").await;
    other
        .write_all(b"\x32\x06\x00\x01t\x00\x07y")
        .await
        .unwrap();
    expect(other, b"\x40\x02\x00\x07").await;
    let mut publish = [0; 8];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut publish))
        .await
        .expect("what is published to the session")
        .unwrap();
    assert_eq!(publish[0] & 0xf0, 0x30);
}

async fn bystander(bench: &Bench) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(server);
    bench.serve(reader, writer);
    client
        .write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01b")
        .await
        .unwrap();
    expect(&mut client, b"\x20\x02\x00\x00").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_connections_reader_ends_that_connection_alone_and_its_session_survives() {
    let bench = Bench::new();
    let mut other = bystander(&bench).await;
    fall_into_the_trap(&bench, b"!", true).await;
    come_back(&bench, &mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_connections_writer_ends_that_connection_alone_and_its_session_survives() {
    let bench = Bench::new();
    let mut other = bystander(&bench).await;
    // At QoS 0, so that nothing waits to be sent again.
    fall_into_the_trap(&bench, b"\x30\x04\x00\x01t!", false).await;
    come_back(&bench, &mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_while_the_broker_closes_is_told_that_it_is_unavailable() {
    let bench = Bench::new();
    bench.broker.life.advance(crate::lifetime::Phase::Closing);
    const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01b";
    for (connect, code) in [(CONNECT, 3), (CONNECT_5, 0x88)] {
        let (mut client, server) = tokio::io::duplex(4_096);
        let (reader, writer) = tokio::io::split(server);
        let served = bench.serve(reader, writer);
        client.write_all(connect).await.unwrap();
        let mut answer = Vec::new();
        let read = client.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!((answer[0], answer[3]), (0x20, code), "{answer:?}");
        served.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_somebody_elses_writer_does_not_end_the_publisher() {
    let bench = Bench::new();
    let mut other = bystander(&bench).await;
    let (mut client, server) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(server);
    let served = bench.serve(reader, Trap(writer));
    client.write_all(CONNECT).await.unwrap();
    expect(&mut client, b"\x20\x02\x00\x00").await;
    client.write_all(SUBSCRIBE).await.unwrap();
    expect(&mut client, b"\x90\x03\x00\x01\x01").await;
    other.write_all(b"\x30\x04\x00\x01t!").await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, served).await;
    ended.expect("the connection ends").unwrap();
    other.write_all(b"\xc0\x00").await.unwrap();
    expect(&mut other, b"\xd0\x00").await;
}

/// Whoever publishes writes to the reader too, as far as it goes; the rest is the reader's own task's.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_gets_everything_once_and_in_order_whoever_writes_to_it() {
    const MESSAGES: u16 = 500;
    let bench = Bench::new();
    let mut other = bystander(&bench).await;
    // Less than a packet fits.
    let (mut client, server) = tokio::io::duplex(7);
    let (reader, writer) = tokio::io::split(server);
    bench.serve(reader, writer);
    client.write_all(CONNECT).await.unwrap();
    expect(&mut client, b"\x20\x02\x00\x00").await;
    client.write_all(SUBSCRIBE).await.unwrap();
    expect(&mut client, b"\x90\x03\x00\x01\x01").await;
    let publishing = tokio::spawn(async move {
        for number in 1..=MESSAGES {
            let [high, low] = number.to_be_bytes();
            let publish = [0x32, 7, 0, 1, b't', high, low, high, low];
            other.write_all(&publish).await.unwrap();
            expect(&mut other, &[0x40, 2, high, low]).await;
        }
    });
    for number in 1..=MESSAGES {
        let [high, low] = number.to_be_bytes();
        // Packet identifiers ascend, too.
        expect(&mut client, &[0x32, 7, 0, 1, b't', high, low, high, low]).await;
        client.write_all(&[0x40, 2, high, low]).await.unwrap();
    }
    publishing.await.unwrap();
}
