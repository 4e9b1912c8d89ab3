//! What holds whatever clients say and when they go: nothing panics, and an honest client is served afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sealpost_broker::access::admission::Channel;
use sealpost_broker::broker::Broker;
use sealpost_broker::connection::{self, Origin, Stream, greet};
use sealpost_broker::server::assemble;
use sealpost_broker::settings::{Overrides, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the honest client waits for its message. Far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients of one conversation.
const CLIENTS: usize = 4;

/// Packets that chance would not find; a conversation names them by number.
const PHRASES: [&[u8]; 16] = [
    b"\x82\x06\x00\x01\x00\x01#\x02",
    b"\x82\x07\x00\x01\x00\x00\x01#\x01",
    b"\x82\x06\x00\x01\x00\x01t\x00",
    b"\x82\x0f\x00\x01\x00\x00\x09$share/g/t\x01",
    b"\xa2\x05\x00\x02\x00\x01t",
    b"\x30\x04\x00\x01tx",
    b"\x31\x05\x00\x01t\x00x",
    b"\x32\x06\x00\x01t\x00\x01x",
    b"\x32\x07\x00\x01t\x00\x01\x00x",
    b"\x34\x06\x00\x01t\x00\x02x",
    b"\x62\x02\x00\x02",
    b"\x40\x02\x00\x01",
    b"\x50\x02\x00\x01",
    b"\x70\x02\x00\x01",
    b"\xc0\x00",
    b"\xe0\x00",
];

/// A broker that conversations are held with.
pub struct Stage {
    runtime: Runtime,
    broker: Arc<Broker>,
    _data: tempfile::TempDir,
}

struct Actor {
    pipe: DuplexStream,
    task: JoinHandle<()>,
}

impl Stage {
    /// A broker in this process, without a network.
    pub fn new() -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let data = tempfile::tempdir().expect("a directory");
        let flags = Overrides {
            open: true,
            data: Some(data.path().into()),
            ..Overrides::default()
        };
        let settings = Settings::load(None, flags).expect("settings");
        let broker = runtime.block_on(async {
            let assembled = tokio::spawn(async { assemble(settings) }).await;
            let broker = assembled.expect("no panic").expect("a broker").broker;
            tokio::spawn(connection::publish_due(Arc::clone(&broker)));
            broker
        });
        Stage {
            runtime,
            broker,
            _data: data,
        }
    }

    /// Holds the conversation that the bytes describe. Each step is a byte that says who does what, and what it needs.
    pub fn play(&self, data: &[u8]) {
        self.runtime.block_on(async {
            let mut actors: [Option<Actor>; CLIENTS] = [const { None }; CLIENTS];
            let mut ended = Vec::new();
            let mut rest = data;
            while let Some((&step, after)) = rest.split_first() {
                rest = after;
                let slot = &mut actors[usize::from(step) % CLIENTS];
                match step >> 2 & 0b111 {
                    // Connects, by a name of its own or another's, in either version, with or without a will.
                    0 => {
                        ended.extend(slot.take());
                        let mut actor = self.enter();
                        actor
                            .say(&connect(step >> 5, usize::from(step) % CLIENTS))
                            .await;
                        *slot = Some(actor);
                    }
                    // Says bytes that come with the conversation.
                    1 | 2 => {
                        let count = rest.first().map_or(0, |count| usize::from(*count));
                        let said = rest.get(1..).unwrap_or_default();
                        let (said, after) = said.split_at(count.min(said.len()));
                        rest = after;
                        if let Some(actor) = slot {
                            actor.say(said).await;
                        }
                    }
                    3..=5 => {
                        let number = rest.first().map_or(0, |number| usize::from(*number));
                        rest = rest.get(1..).unwrap_or_default();
                        if let Some(actor) = slot {
                            actor.say(PHRASES[number % PHRASES.len()]).await;
                        }
                    }
                    6 => {
                        if let Some(actor) = slot {
                            actor.listen().await;
                        }
                    }
                    _ => ended.extend(slot.take()),
                }
            }
            ended.extend(actors.into_iter().flatten());
            for Actor { pipe, task } in ended {
                drop(pipe);
                let ended = timeout(PATIENCE, task).await;
                ended.expect("an end in time").expect("no panic");
            }
            self.serves_the_honest().await;
        });
    }

    fn enter(&self) -> Actor {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = split(far);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let channel = Channel::plain(address.ip());
        let stream = Stream::new(reader, writer, Origin::new(address, channel));
        let broker = Arc::clone(&self.broker);
        let task = tokio::spawn(async move {
            if let Some(greeting) = greet(stream).await {
                let connection = greeting.join(broker, CancellationToken::new()).await;
                if let Some(connection) = connection {
                    connection.run().await;
                }
            }
        });
        Actor { pipe: near, task }
    }

    async fn serves_the_honest(&self) {
        let mut honest = self.enter();
        let said =
            b"\x10\x12\x00\x04MQTT\x04\x02\x00\x00\x00\x06honest\x82\x0a\x00\x01\x00\x05$fine\x00";
        honest.say(said).await;
        honest.say(b"\x30\x08\x00\x05$finex").await;
        let expected = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x08\x00\x05$finex";
        let mut came = vec![0; expected.len()];
        let read = timeout(PATIENCE, honest.pipe.read_exact(&mut came)).await;
        read.expect("an answer in time").expect("an answer");
        assert_eq!(came, expected);
        drop(honest.pipe);
        honest.task.await.expect("no panic");
    }
}

impl Actor {
    async fn say(&mut self, said: &[u8]) {
        // A broker that does not read for a while is waited for; one that has hung up is no error.
        let _ = timeout(Duration::from_millis(50), self.pipe.write_all(said)).await;
    }

    async fn listen(&mut self) {
        let mut heard = [0; 4096];
        let _ = timeout(Duration::from_millis(1), self.pipe.read(&mut heard)).await;
    }
}

fn connect(how: u8, who: usize) -> Vec<u8> {
    let five = how & 1 != 0;
    let clean = how & 2 != 0;
    let will = how & 4 != 0;
    let flags = if clean { 0x02 } else { 0 } | if will { 0x0e } else { 0 };
    let mut body = [
        &b"\x00\x04MQTT"[..],
        &[if five { 5 } else { 4 }, flags, 0, 0],
    ]
    .concat();
    if five {
        body.extend(b"\x05\x11\x00\x00\x00\x0a");
    }
    body.extend([0, 1, b'a' + u8::try_from(who).unwrap_or(0)]);
    if will {
        body.extend(if five { &b"\x00"[..] } else { b"" });
        body.extend(b"\x00\x01t\x00\x01w");
    }
    [&[0x10, u8::try_from(body.len()).unwrap_or(0)], &body[..]].concat()
}
