//! MQTT comes in over TCP, TLS and WebSocket; certificates change without a word; nobody who stalls or sends rubbish keeps
//! others out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_tests::packet::{packet, prefixed};
use sealpost_tests::{
    Broker, BrokerOptions, Device, Lab, Link, PATIENCE, Process, assert_round_trip, client_program,
    exporter,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// An open broker with TLS.
fn open_broker(lab: &Lab, limits: &str) -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        settings: format!("{}\n[limits]\n{limits}", lab.settings()),
        ..BrokerOptions::default()
    })
}

async fn assert_serving(broker: &Broker) {
    let mut link = Link::connect(broker.address(), "witness", None)
        .await
        .unwrap();
    link.subscribe("witness").await;
    let reason = link.publish("witness", false, b"still here").await;
    assert_eq!(reason, PubAckReason::Success);
    assert_eq!(&link.receive().await.payload[..], b"still here");
    link.disconnect().await;
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("an end in time")
}

/// CONNECT at MQTT 3.1.1 with keep-alive off.
fn connect_packet(client_id: &str, login: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.push(if login.is_some() { 0xc2 } else { 0x02 });
    body.extend(b"\x00\x00");
    body.extend(prefixed(client_id));
    if let Some((user, password)) = login {
        body.extend(prefixed(user));
        body.extend(prefixed(password));
    }
    packet(0x10, &body)
}

/// Says CONNECT and returns the CONNACK's code.
async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    client_id: &str,
    login: Option<(&str, &str)>,
) -> u8 {
    let connect = connect_packet(client_id, login);
    stream.write_all(&connect).await.unwrap();
    let mut connack = [0; 4];
    within(stream.read_exact(&mut connack)).await.unwrap();
    assert_eq!(connack[..2], *b"\x20\x02");
    connack[3]
}

/// A PINGREQ is answered.
async fn assert_alive(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"\xc0\x00").await.unwrap();
    let mut pingresp = [0; 2];
    within(stream.read_exact(&mut pingresp)).await.unwrap();
    assert_eq!(pingresp, *b"\xd0\x00");
}

#[tokio::test]
async fn a_login_over_tls_is_bound_to_its_connection() {
    let lab = Lab::new();
    let broker = Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let alice = Device::new("alice");
    let connect = async || lab.connect(broker.tls_address(), None).await.unwrap();

    let mut mine = connect().await;
    let token = alice.bound_token("a", &exporter(mine.get_ref().1));
    // Whoever has seen the token, a proxy say, cannot use it on a connection of its own.
    let mut theirs = connect().await;
    assert_eq!(log_in(&mut theirs, "a", Some(("alice", &token))).await, 4);
    assert_eq!(log_in(&mut mine, "a", Some(("alice", &token))).await, 0);
    assert_alive(&mut mine).await;

    let mut unbound = connect().await;
    let token = alice.token("b");
    assert_eq!(log_in(&mut unbound, "b", Some(("alice", &token))).await, 4);
    // A token for TLS is worth nothing without, and on plain loopback there is nothing to bind to.
    let mut plain = tokio::net::TcpStream::connect(broker.address())
        .await
        .unwrap();
    let token = alice.bound_token("c", &[7; 32]);
    assert_eq!(log_in(&mut plain, "c", Some(("alice", &token))).await, 4);
    let mut plain = tokio::net::TcpStream::connect(broker.address())
        .await
        .unwrap();
    let token = alice.token("d");
    assert_eq!(log_in(&mut plain, "d", Some(("alice", &token))).await, 0);
}

#[tokio::test]
async fn a_client_certificate_logs_in_the_registered_user_that_it_names_without_a_password() {
    let lab = Lab::new();
    let broker = Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let connect = async |user| lab.connect(broker.tls_address(), user).await.unwrap();
    let mut newcomer = connect(Some("bob")).await;
    assert_eq!(log_in(&mut newcomer, "a", None).await, 5, "not registered");

    Device::new("bob").register(broker.address()).await;
    let mut bob = connect(Some("bob")).await;
    assert_eq!(log_in(&mut bob, "a", None).await, 0);
    let mut nobody = connect(None).await;
    assert_eq!(log_in(&mut nobody, "a", None).await, 5);

    // A library that knows nothing of us.
    let mut command = client_program("paho");
    command.args(["--connect-only", "--user", "bob"]);
    command.args(["--port", &broker.tls_address().port().to_string()]);
    for (flag, file) in [
        ("--ca", "ca.pem"),
        ("--certificate", "client-bob.pem"),
        ("--key", "client-bob.key"),
    ] {
        command.arg(flag).arg(lab.file(file));
    }
    assert_round_trip("paho", command);
}

#[tokio::test]
async fn a_websocket_inside_tls_is_bound_to_the_same_connection() {
    let lab = Lab::new();
    let broker = Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let alice = Device::new("alice");
    let stream = lab.connect(broker.tls_address(), None).await.unwrap();
    let token = alice.bound_token("a", &exporter(stream.get_ref().1));
    let request = websocket_request("wss", broker.tls_address());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    let connect = connect_packet("a", Some(("alice", &token)));
    socket.send(Message::Binary(connect.into())).await.unwrap();
    let connack = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(connack, Message::Binary(b"\x20\x02\x00\x00"[..].into()));
}

fn websocket_request(
    scheme: &str,
    address: SocketAddr,
) -> tokio_tungstenite::tungstenite::http::Request<()> {
    let mut request = format!("{scheme}://{address}/mqtt")
        .into_client_request()
        .unwrap();
    let mqtt = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", mqtt);
    request
}

#[tokio::test]
async fn certificates_are_renewed_at_sighup_and_on_change_without_ending_a_connection() {
    let (lab, next, last) = (Lab::new(), Lab::new(), Lab::new());
    let broker = open_broker(&lab, "");
    let address = broker.tls_address();
    let mut old = lab.connect(address, None).await.unwrap();
    assert_eq!(log_in(&mut old, "old", None).await, 0);

    let uses = async |lab: &Lab| lab.connect(address, None).await.is_ok();
    lab.renew_from(&next);
    broker.process.hang_up();
    broker
        .process
        .expect_error("TLS uses the files as they are now");
    assert!(uses(&next).await && !uses(&lab).await);

    // Half of a pair: the key is still missing.
    std::fs::write(lab.file("server.key"), "").unwrap();
    broker.process.hang_up();
    let log = broker
        .process
        .expect_error("TLS goes on with the certificate that it has");
    assert!(log.contains("server.key"), "{log}");
    assert!(uses(&next).await);

    // Nobody has to say anything.
    lab.renew_from(&last);
    within(async {
        while !uses(&last).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(!uses(&next).await);
    assert_alive(&mut old).await;
}

/// The bytes of a stream until its end, or until it breaks.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let (mut rest, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = within(stream.read(&mut buffer)).await {
        rest.extend_from_slice(&buffer[..length]);
    }
    rest
}

#[tokio::test]
async fn a_broker_that_stops_says_so_on_every_transport() {
    const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01h";
    let lab = Lab::new();
    let mut broker = open_broker(&lab, "");
    let mut tls = lab.connect(broker.tls_address(), None).await.unwrap();
    tls.write_all(CONNECT_5).await.unwrap();
    within(tls.read_u8()).await.unwrap();
    let stream = tokio::net::TcpStream::connect(broker.address()).await;
    let request = websocket_request("ws", broker.address());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream.unwrap())
        .await
        .unwrap();
    let connect = [&CONNECT_5[..CONNECT_5.len() - 1], b"w"].concat();
    socket.send(Message::Binary(connect.into())).await.unwrap();
    within(socket.next()).await.unwrap().unwrap();

    assert!(
        tokio::task::spawn_blocking(move || broker.stop())
            .await
            .unwrap()
            .success()
    );
    // DISCONNECT with reason 0x8B, server shutting down.
    let said = rest(&mut tls).await;
    assert!(
        said.windows(3)
            .any(|window| window[0] == 0xe0 && window[2] == 0x8b)
    );
    let said = within(socket.next()).await.unwrap().unwrap().into_data();
    assert_eq!((said[0], said[2]), (0xe0, 0x8b));
    assert!(within(socket.next()).await.unwrap().unwrap().is_close());
}

#[test]
fn sighup_without_tls_ends_nothing() {
    let mut broker = Broker::start(BrokerOptions::default());
    broker.process.hang_up();
    assert!(broker.stop().success());
}

/// Opens connections that go no further than each step.
fn stall(broker: &Broker, count: usize) -> Vec<TcpStream> {
    let steps: [(SocketAddr, &[u8]); 6] = [
        (broker.address(), b""),
        (broker.address(), b"\x10\x20\x00\x04MQ"),
        (broker.address(), b"GET /mqtt HTTP/1.1\r\nHost: x\r\n"),
        (broker.tls_address(), b""),
        (broker.tls_address(), b"\x16\x03\x01\x02\x00\x01\x00"),
        (broker.tls_address(), b"\x16\x03"),
    ];
    let open = |(address, bytes): (SocketAddr, &[u8])| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    };
    steps.into_iter().cycle().take(count).map(open).collect()
}

#[tokio::test]
async fn a_stalled_tls_or_websocket_handshake_blocks_nobody() {
    let lab = Lab::new();
    let broker = open_broker(&lab, "");
    let stalled = stall(&broker, 120);
    assert_serving(&broker).await;
    let mut link = lab.connect(broker.tls_address(), None).await.unwrap();
    assert_eq!(log_in(&mut link, "a", None).await, 0);
    drop(stalled);
}

#[tokio::test]
async fn whoever_stalls_makes_room_when_the_lobby_is_full() {
    let lab = Lab::new();
    let broker = open_broker(&lab, "handshakes = 6\nhandshake = 3600");
    let stalled = stall(&broker, 12);
    let plain = tokio::net::TcpStream::connect(broker.address()).await;
    assert_eq!(log_in(&mut plain.unwrap(), "p", None).await, 0);
    let mut link = lab.connect(broker.tls_address(), None).await.unwrap();
    assert_eq!(log_in(&mut link, "a", None).await, 0);
    drop(stalled);
}

#[test]
fn every_step_before_the_connect_has_a_time_limit() {
    let lab = Lab::new();
    let broker = open_broker(&lab, "handshake = 1");
    for mut socket in stall(&broker, 6) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        match socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[tokio::test]
async fn packets_in_any_pieces_of_any_frames_are_the_same_packets() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..20 {
        let stream = tokio::net::TcpStream::connect(broker.address())
            .await
            .unwrap();
        let request = websocket_request("ws", broker.address());
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        let marker = 0xa5;
        let payload = vec![marker; rng.random_range(0..3_000)];
        let publish = [&prefixed("t")[..], b"\x00\x02", &payload].concat();
        let mut bytes = connect_packet("pieces", None);
        bytes.extend(packet(0x82, b"\x00\x01\x00\x01t\x01"));
        bytes.extend(packet(0x32, &publish));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let longest = 1 << rng.random_range(0..12);
            let length = rng.random_range(0..=rest.len().min(longest));
            let (part, after) = rest.split_at(length);
            socket
                .send(Message::Binary(part.to_vec().into()))
                .await
                .unwrap();
            if rng.random_ratio(1, 4) {
                socket
                    .send(Message::Ping(part[..length.min(100)].to_vec().into()))
                    .await
                    .unwrap();
            }
            rest = after;
        }
        // CONNACK, SUBACK, PUBACK and the PUBLISH, all but the first in any order.
        let (mut got, length) = (Vec::new(), 4 + 5 + 4 + packet(0x32, &publish).len());
        while got.len() < length {
            match within(socket.next()).await.unwrap().unwrap() {
                Message::Binary(part) => got.extend_from_slice(&part),
                Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let count = got.iter().filter(|&&byte| byte == marker).count();
        assert!(count >= payload.len(), "{count} of {} bytes", payload.len());
        assert!(got.starts_with(b"\x20\x02\x00\x00"));
        assert!(
            got.windows(5)
                .any(|window| window == b"\x90\x03\x00\x01\x01")
        );
        socket.close(None).await.unwrap();
    }
}

/// The answer's first line to a handshake in raw HTTP.
fn handshake(address: SocketAddr, lines: &[&str]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{}\r\n\r\n", lines.join("\r\n"));
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while socket.read(&mut byte).is_ok_and(|length| length == 1) && byte != *b"\r" {
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn pages_of_other_origins_may_not_connect_unless_the_settings_list_them() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        settings: "origins = [\"https://chat.example\"]".into(),
        ..BrokerOptions::default()
    });
    let host = format!("Host: {}", broker.address());
    let own = format!("Origin: http://{}", broker.address());
    let status = |host: &str, origin: &str| {
        let mut lines = vec![
            "GET /mqtt HTTP/1.1",
            host,
            "Upgrade: websocket",
            "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: mqtt",
        ];
        lines.extend(Some(origin).filter(|origin| !origin.is_empty()));
        handshake(broker.address(), &lines)
    };
    assert!(status(&host, "").contains("101"));
    assert!(status(&host, &own).contains("101"));
    assert!(status(&host, "Origin: https://chat.example").contains("101"));
    assert!(status(&host, "Origin: https://evil.example").contains("403"));
    assert!(status(&host, "Origin: null").contains("403"));
    // A page whose name was pointed at our address.
    assert!(status("Host: evil.example", "Origin: http://evil.example").contains("403"));
}

#[tokio::test]
async fn hostile_bytes_in_tls_and_websocket_leave_the_broker_serving() {
    let lab = Lab::new();
    let broker = open_broker(&lab, "");
    let upgrade = format!(
        "GET /mqtt HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        broker.address()
    );
    for seed in 0..150 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut bytes = vec![0; rng.random_range(0..2_000)];
        rng.fill_bytes(&mut bytes);
        let (address, start): (_, &[u8]) = match seed % 6 {
            0 => (broker.tls_address(), b""),
            // A record that says it is a ClientHello.
            1 => (
                broker.tls_address(),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            ),
            2 => (broker.address(), b"GET "),
            3 => (broker.address(), upgrade.as_bytes()),
            // A binary frame of 64-bit length, and one of 125 bytes that are no MQTT.
            4 => (broker.address(), b"GET /mqtt"),
            _ => (broker.address(), upgrade.as_bytes()),
        };
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let _ = socket.write_all(start).await;
        if start == upgrade.as_bytes() {
            let mut answer = [0; 512];
            let length = within(socket.read(&mut answer)).await.unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 101"));
            let opcode = *[0x82_u8, 0x02, 0x80, 0x81, 0x88, 0x89, 0x8a, 0xf2]
                .get(seed as usize / 6 % 8)
                .unwrap();
            let length = *[0xfd_u8, 0xfe, 0xff, 0x80, 0x7f]
                .get(seed as usize % 5)
                .unwrap();
            let _ = socket.write_all(&[opcode, length]).await;
        }
        for part in bytes.chunks(rng.random_range(1..500)) {
            if socket.write_all(part).await.is_err() {
                break;
            }
        }
        let _ = socket.shutdown().await;
        let mut rest = Vec::new();
        let _ = within(socket.read_to_end(&mut rest)).await;
        if seed % 25 == 0 {
            assert_serving(&broker).await;
        }
    }
    assert_serving(&broker).await;
    let panics = broker.process.stderr().into_iter();
    let panics = panics
        .filter(|line| line.contains("panicked"))
        .collect::<Vec<_>>();
    assert_eq!(panics, Vec::<String>::new());
}

#[test]
fn a_broker_without_its_certificate_says_which_file_is_missing() {
    let lab = Lab::new();
    std::fs::remove_file(lab.file("server.key")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.toml");
    std::fs::write(
        &file,
        format!("listen = \"127.0.0.1:0\"\n{}", lab.settings()),
    )
    .unwrap();
    let mut command = Command::new(sealpost_tests::program("sealpost-broker"));
    command
        .arg("--config")
        .arg(&file)
        .arg("--data")
        .arg(dir.path());
    let mut broker = Process::spawn("broker", &mut command);
    assert_eq!(broker.wait().code(), Some(1));
    let error = broker.stderr().join("\n");
    assert!(
        error.contains("server.key") && error.contains("certificate"),
        "{error}"
    );
}
