use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::*;

/// Far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

const PIPE: usize = 64 * 1024;

type Accepted = io::Result<(WebSocketBytes<DuplexStream>, CancellationToken)>;

fn server(origins: Origins) -> (DuplexStream, JoinHandle<Accepted>) {
    let (client, server) = duplex(PIPE);
    let accepted = tokio::spawn(async move { accept(server, &origins, false, 1024).await });
    (client, accepted)
}

fn request() -> Request {
    let mut request = "ws://127.0.0.1:1883/mqtt".into_client_request().unwrap();
    let mqtt = HeaderValue::from_static("mqtt");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, mqtt);
    request
}

/// Both ends of a WebSocket.
async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketBytes<DuplexStream>) {
    let (client, accepted) = server(Origins::default());
    let (client, response) = tokio_tungstenite::client_async(request(), client)
        .await
        .unwrap();
    assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "mqtt");
    let (server, admitted) = accepted.await.unwrap().unwrap();
    admitted.cancel();
    (client, server)
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("an end in time")
}

/// The status of the answer to a handshake.
async fn status(request: Request, origins: Origins) -> u16 {
    let (client, accepted) = server(origins);
    let answer = within(tokio_tungstenite::client_async(request, client)).await;
    drop(within(accepted).await);
    match answer {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn mqtts_subprotocol_path_and_the_pages_origin_decide_who_may_open_a_websocket() {
    assert_eq!(status(request(), Origins::default()).await, 101);

    let mut elsewhere = request();
    *elsewhere.uri_mut() = "ws://127.0.0.1:1883/admin".parse().unwrap();
    assert_eq!(status(elsewhere, Origins::default()).await, 404);
    let mut root = request();
    *root.uri_mut() = "ws://127.0.0.1:1883/?x=1".parse().unwrap();
    assert_eq!(status(root, Origins::default()).await, 101);

    for (protocol, expected) in [("chat, mqtt", 101), ("mqttv3.1", 400), ("MQTT", 400)] {
        let mut offering = request();
        let protocol_value = HeaderValue::from_static(protocol);
        let headers = offering.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol_value);
        let (client, accepted) = server(Origins::default());
        let _ = tokio_tungstenite::client_async(offering, client).await;
        assert_eq!(
            accepted.await.unwrap().is_ok(),
            expected == 101,
            "{protocol}"
        );
    }

    let mut page = request();
    let origin = HeaderValue::from_static("https://page.example");
    page.headers_mut().insert(ORIGIN, origin.clone());
    assert_eq!(status(page.clone(), Origins::default()).await, 403);
    assert_eq!(status(page.clone(), Origins::Any).await, 101);
    page.headers_mut().append(ORIGIN, origin);
    assert_eq!(status(page, Origins::Any).await, 400);
}

#[tokio::test]
async fn a_text_frame_is_refused() {
    let (mut client, mut server) = pair().await;
    client.send(Message::text("\u{10}")).await.unwrap();
    let error = within(server.read(&mut [0; 16])).await.unwrap_err();
    assert!(error.to_string().contains("text frame"), "{error}");
}

#[tokio::test]
async fn a_ping_is_answered_and_no_part_of_the_stream() {
    let (mut client, mut server) = pair().await;
    client
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    client.send(Message::Binary("x".into())).await.unwrap();
    let mut byte = [0];
    within(server.read_exact(&mut byte)).await.unwrap();
    assert_eq!(byte, *b"x");
    let answer = within(client.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong("are you there".into()));
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let (mut client, mut server) = pair().await;
    tokio::spawn(async move { while client.send(Message::Ping(Bytes::new())).await.is_ok() {} });
    let error = within(server.read(&mut [0; 16])).await.unwrap_err();
    assert!(error.to_string().contains("pings"), "{error}");
}

#[tokio::test]
async fn a_frame_or_a_message_above_the_limit_is_refused_before_it_is_held() {
    let (mut client, mut server) = pair().await;
    let sending = tokio::spawn(async move {
        let _ = client
            .send(Message::Binary(vec![0; MAX_MESSAGE + 1].into()))
            .await;
    });
    assert!(within(server.read(&mut [0; 16])).await.is_err());
    drop(server);
    sending.await.unwrap();

    let (mut client, mut server) = pair().await;
    let sending = tokio::spawn(async move {
        let part = Bytes::from(vec![0; MAX_MESSAGE / 4]);
        let mut opcode = Data::Binary;
        loop {
            let fragment = Frame::message(part.clone(), OpCode::Data(opcode), false);
            if client.send(Message::Frame(fragment)).await.is_err() {
                break;
            }
            opcode = Data::Continue;
        }
    });
    assert!(within(server.read(&mut [0; 16])).await.is_err());
    drop(server);
    sending.await.unwrap();
}

/// Time stands still here and moves on only when nobody has anything left to do.
#[tokio::test(start_paused = true)]
async fn a_stranger_is_read_no_further_than_a_login_needs() {
    const SENT: usize = 512 * 1024;
    let (client, accepted) = server(Origins::default());
    let (mut client, _) = tokio_tungstenite::client_async(request(), client)
        .await
        .unwrap();
    let (mut server, admitted) = accepted.await.unwrap().unwrap();
    let sending = tokio::spawn(async move {
        for _ in 0..SENT / 8192 {
            let part = Message::Binary(vec![7; 8192].into());
            client.send(part).await.unwrap();
        }
        client
    });
    let (mut read, mut buffer) = (0, vec![0; 8192]);
    while let Ok(length) = tokio::time::timeout(PATIENCE, server.read(&mut buffer)).await {
        read += length.unwrap();
    }
    assert!(
        (STRANGERS_BYTES / 2..=STRANGERS_BYTES + READ_BUFFER).contains(&read),
        "{read}"
    );
    assert!(!sending.is_finished(), "the rest waits in the network");
    admitted.cancel();
    while read < SENT {
        read += within(server.read(&mut buffer)).await.unwrap();
    }
    drop(within(sending).await.unwrap());
}

#[tokio::test]
async fn what_is_written_arrives_in_binary_frames_and_the_end_is_said() {
    let (mut client, mut server) = pair().await;
    let bytes = (0..300_000_u32)
        .map(|n| (n % 251) as u8)
        .collect::<Vec<_>>();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        server.write_all(&sent).await.unwrap();
        server.flush().await.unwrap();
        server.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    loop {
        match within(client.next()).await.unwrap().unwrap() {
            Message::Binary(part) => {
                assert!(part.len() <= WRITE_AT_ONCE);
                got.extend_from_slice(&part);
            }
            Message::Close(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, bytes);
    sending.await.unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames, fragments, pings between them and the size of reads mean nothing to the bytes.
    #[test]
    fn bytes_survive_every_way_of_cutting_them_into_frames(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        cuts in prop::collection::vec((0..200_usize, any::<bool>(), any::<bool>()), 1..40),
        read in 1..300_usize,
    ) {
        runtime().block_on(async move {
            let (mut client, mut server) = pair().await;
            let mut rest = Bytes::from(bytes.clone());
            let sending = tokio::spawn(async move {
                let mut inside = false;
                for (length, last, ping) in cuts {
                    if ping {
                        client.send(Message::Ping(Bytes::new())).await.unwrap();
                    }
                    let part = rest.split_to(length.min(rest.len()));
                    let opcode = if inside { Data::Continue } else { Data::Binary };
                    let frame = Frame::message(part, OpCode::Data(opcode), last);
                    client.send(Message::Frame(frame)).await.unwrap();
                    inside = !last;
                }
                let opcode = if inside { Data::Continue } else { Data::Binary };
                let frame = Frame::message(rest, OpCode::Data(opcode), true);
                client.send(Message::Frame(frame)).await.unwrap();
                client.close(None).await.unwrap();
                client
            });
            let (mut got, mut buffer) = (Vec::new(), vec![0; read]);
            loop {
                match within(server.read(&mut buffer)).await.unwrap() {
                    0 => break,
                    length => got.extend_from_slice(&buffer[..length]),
                }
            }
            assert_eq!(got, bytes);
            drop(sending.await.unwrap());
        });
    }

    /// After a good handshake, whatever comes ends in bytes, an error or the end, and never in a panic.
    #[test]
    fn no_bytes_after_the_handshake_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        first in prop::sample::select(vec![None, Some(0x82_u8), Some(0x02), Some(0x80), Some(0x89), Some(0x88), Some(0x81), Some(0xf2)]),
        split in 1..64_usize,
    ) {
        runtime().block_on(async move {
            let (client, mut server) = pair().await;
            let mut raw = client.into_inner();
            let mut stream = first.map(|first| vec![first]).unwrap_or_default();
            stream.extend(bytes);
            let sending = tokio::spawn(async move {
                for part in stream.chunks(split) {
                    if raw.write_all(part).await.is_err() {
                        break;
                    }
                }
            });
            let mut buffer = [0; 64];
            while let Ok(1..) = within(server.read(&mut buffer)).await {}
            drop(server);
            sending.await.unwrap();
        });
    }

    /// Whatever comes instead of a handshake is refused, in any pieces.
    #[test]
    fn no_handshake_makes_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        lines in prop::collection::vec("[ -~]{0,80}", 0..20),
        split in 1..200_usize,
    ) {
        runtime().block_on(async move {
            let (mut client, accepted) = server(Origins::default());
            let mut stream = b"GET /mqtt HTTP/1.1\r\n".to_vec();
            for line in lines {
                stream.extend(line.bytes());
                stream.extend(b"\r\n");
            }
            stream.extend(bytes);
            stream.extend(b"\r\n\r\n");
            let sending = tokio::spawn(async move {
                for part in stream.chunks(split) {
                    if client.write_all(part).await.is_err() {
                        break;
                    }
                }
            });
            assert!(within(accepted).await.unwrap().is_err());
            sending.await.unwrap();
        });
    }
}
