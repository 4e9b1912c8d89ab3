//! No bytes from the network take the broker down: whatever comes in at the port, others are served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_tests::{Broker, BrokerOptions, Device, Link};

const CONNECT_311: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01h";
const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01h";

/// Streams that brokers have died of, hung on or leaked at, and the standard's own forbidden ones.
fn malformed() -> Vec<Vec<u8>> {
    let mut streams: Vec<Vec<u8>> = [
        // Before a CONNECT.
        &b""[..],
        b"\x00",
        b"\x10",
        b"\x10\xff\xff\xff\xff",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x00",
        b"\x10\x02\x00\x04",
        b"\x10\x0d\x00\x04MQTT\x04\xff\x00\x00\x00\x01h",
        b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x00\x00\x01h",
        b"\x10\x0d\x00\xffMQTT\x04\x02\x00\x00\x00\x01h",
        b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\xff\x00\x01h",
        b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x01\x7f\x00\x01h",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xff",
        b"\xc0\x00",
        b"\x30\x05\x00\x03a/bx",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();

    // After a CONNECT, in both versions.
    let after: [&[u8]; 48] = [
        b"\x20\x02\x00\x00",                 // CONNACK from a client
        b"\xb0\x02\x00\x01",                 // UNSUBACK from a client
        b"\x90\x03\x00\x01\x00",             // SUBACK from a client
        b"\xd0\x00",                         // PINGRESP from a client
        b"\xf0\x00",                         // AUTH
        b"\x00\x00",                         // type 0
        b"\x30\x00",                         // an empty PUBLISH
        b"\x30\x02\x00\x00",                 // no topic
        b"\x30\x04\x00\x02\xff\xfe",         // a topic that is not UTF-8
        b"\x30\x05\x00\x02\xc3\xa9x",        // a topic that begins with two bytes of one character
        b"\x31\x05\x00\x02\xc3\xa9x",        // the same, retained
        b"\x30\x06\x00\x04\xf0\x9f\x93\xae", // four bytes of one character
        b"\x30\x05\x00\x03a/#",              // wildcards in a name
        b"\x30\x05\x00\x03a/+",
        b"\x30\x03\x00\x01\x00", // NUL
        b"\x30\x07\x00\x05$SYS/",
        b"\x30\x02\x00\xff",           // a length beyond the packet
        b"\x32\x03\x00\x01a",          // QoS 1 without an identifier
        b"\x32\x05\x00\x01a\x00\x00",  // identifier 0
        b"\x34\x06\x00\x01a\x00\x01x", // QoS 2
        b"\x34\x06\x00\x01a\x00\x01x\x34\x06\x00\x01a\x00\x01x",
        b"\x36\x06\x00\x01a\x00\x01x", // QoS 3
        b"\x40\x02\x00\x00",           // PUBACK 0
        b"\x40\x02\xff\xff",           // PUBACK of nothing
        b"\x40\x01\x00",
        b"\x50\x02\x00\x01",                 // PUBREC of nothing
        b"\x62\x02\x00\x02\x62\x02\x00\x01", // PUBREL out of order
        b"\x70\x02\x00\x01",                 // PUBCOMP of nothing
        b"\x82\x02\x00\x01",                 // SUBSCRIBE to nothing
        b"\x82\x06\x00\x01\x00\x01#\x03",    // QoS 3
        b"\x82\x08\x00\x01\x00\x03a/#\x00",
        b"\x82\x0a\x00\x01\x00\x05a/#/b\x00", // # in the middle
        b"\x82\x0e\x00\x01\x00\x09$share/g/\x00", // a shared subscription to nothing
        b"\x82\x0b\x00\x01\x00\x06$share\x00",
        b"\x82\x06\x00\x00\x00\x01a\x00", // identifier 0
        b"\x80\x06\x00\x01\x00\x01a\x00", // reserved flags
        b"\x82\x05\x00\x01\x00\x00\x00",  // an empty filter
        b"\x82\x04\x00\x01\x00\xff",
        b"\xa2\x02\x00\x01",           // UNSUBSCRIBE from nothing
        b"\xa2\x06\x00\x01\x00\x02zz", // from what was never subscribed to
        b"\xa2\x04\x00\x01\xff\xff",
        b"\xc0\x01\x00", // PINGREQ with a body
        b"\xe0\x05\x00\x01\x02\x03\x04",
        b"\xe1\x00",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01h", // a second CONNECT
        b"\x32\xff\xff\xff\x7f\x00\x01a",                 // the largest length there is
        b"\x33\x80\x80\x80\x80\x01",                      // a length of five bytes
        b"\x30\x7f\x00\x01a",                             // a PUBLISH that never comes whole
    ];
    for connect in [CONNECT_311, CONNECT_5] {
        streams.extend(after.iter().map(|rest| [connect, rest].concat()));
    }
    streams
}

/// Chance does not know what a good packet looks like.
fn random(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|seed| {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut stream = match seed % 3 {
            0 => Vec::new(),
            1 => CONNECT_311.to_vec(),
            _ => CONNECT_5.to_vec(),
        };
        for _ in 0..rng.random_range(1..8) {
            let mut body = vec![0; rng.random_range(0..100)];
            rng.fill_bytes(&mut body);
            stream.push(rng.random());
            stream.push(u8::try_from(body.len()).unwrap());
            stream.extend(body);
        }
        stream
    })
}

/// Sends a stream, reads what comes until the broker closes or has nothing more to say, and hangs up.
fn throw(broker: SocketAddr, stream: &[u8]) {
    let mut socket = TcpStream::connect(broker).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let _ = socket.write_all(stream);
    let _ = socket.read(&mut [0; 4096]);
}

async fn assert_serving(broker: &Broker) {
    let mut link = Link::connect(broker.address(), "witness", None)
        .await
        .unwrap();
    link.subscribe("witness").await;
    assert_eq!(
        link.publish("witness", false, b"still here").await,
        PubAckReason::Success
    );
    assert_eq!(&link.receive().await.payload[..], b"still here");
    link.disconnect().await;
}

#[tokio::test]
async fn two_hundred_malformed_and_hostile_streams_leave_an_open_broker_serving() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let streams = malformed()
        .into_iter()
        .chain(random(120))
        .collect::<Vec<_>>();
    assert!(streams.len() >= 200, "{}", streams.len());
    for (number, stream) in streams.iter().enumerate() {
        throw(broker.address(), stream);
        if number % 20 == 0 {
            assert_serving(&broker).await;
        }
    }
    assert_serving(&broker).await;
    let panics = broker
        .process
        .stderr()
        .into_iter()
        .filter(|line| line.contains("panicked"))
        .collect::<Vec<_>>();
    assert_eq!(panics, Vec::<String>::new());
}

#[tokio::test]
async fn the_same_streams_leave_a_closed_broker_serving() {
    let broker = Broker::start(BrokerOptions::default());
    for stream in malformed().into_iter().chain(random(120)) {
        throw(broker.address(), &stream);
    }
    let (alice, bob) = (Device::new("alice"), Device::new("bob"));
    bob.register(broker.address()).await;
    let mut inbox = bob.connect(broker.address(), "b").await;
    inbox.subscribe("inbox/bob").await;
    let envelope = alice.seal(&bob, "still here");
    alice
        .connect(broker.address(), "a")
        .await
        .publish("inbox/bob", false, envelope.as_bytes())
        .await;
    assert_eq!(&inbox.receive().await.payload[..], envelope.as_bytes());
}

#[tokio::test]
async fn clients_that_only_connect_and_fall_silent_keep_nobody_out() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let silent = (0..300)
        .map(|_| TcpStream::connect(broker.address()).unwrap())
        .collect::<Vec<_>>();
    let half = (0..100).map(|_| {
        let mut socket = TcpStream::connect(broker.address()).unwrap();
        socket.write_all(&CONNECT_5[..9]).unwrap();
        socket
    });
    let half = half.collect::<Vec<_>>();
    assert_serving(&broker).await;
    drop((silent, half));
}
