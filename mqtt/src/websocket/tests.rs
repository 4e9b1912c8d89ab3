use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::*;

fn broker() -> BrokerUrl {
    "ws://b.example/mqtt".parse().unwrap()
}

/// Both ends of a WebSocket, whose server offers this subprotocol, or answers with an error.
async fn open(
    protocol: Result<&'static str, StatusCode>,
) -> (
    Result<BoxStream, DialError>,
    Option<WebSocketStream<DuplexStream>>,
) {
    let (ours, theirs) = duplex(64 * 1_024);
    // The type of the answer is tungstenite's.
    #[allow(clippy::result_large_err)]
    let answer = move |request: &Request, mut response: Response| {
        assert_eq!(request.uri().path(), "/mqtt");
        assert_eq!(request.headers()["host"], "b.example:80");
        assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "mqtt");
        match protocol {
            Ok(protocol) => {
                let value = HeaderValue::from_static(protocol);
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
                Ok(response)
            }
            Err(status) => {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = status;
                Err(refusal)
            }
        }
    };
    let url = broker();
    let (client, server) = tokio::join!(
        handshake(&url, Box::new(ours)),
        accept_hdr_async(theirs, answer)
    );
    (client, server.ok())
}

fn problem_of(client: Result<BoxStream, DialError>) -> WebSocketProblem {
    match client {
        Err(DialError::WebSocket(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_are_a_stream_of_bytes_both_ways() {
    let (client, server) = open(Ok("mqtt")).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    // Borders mean nothing; empty frames and pings are not the end.
    for message in [
        Message::Binary(Bytes::from_static(b"ab")),
        Message::Binary(Bytes::new()),
        Message::Ping(Bytes::from_static(b"there?")),
        Message::Binary(Bytes::from_static(b"cdef")),
    ] {
        server.send(message).await.unwrap();
    }
    let mut bytes = [0; 6];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"abcdef");
    let pong = server.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(Bytes::from_static(b"there?")));

    // What does not fit into one frame goes in several.
    let sent = vec![7; WRITE_AT_ONCE * 3 + 1];
    let receiving = async {
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.extend(server.next().await.unwrap().unwrap().into_data());
        }
        received
    };
    let sending = async {
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
    };
    let (received, ()) = tokio::join!(receiving, sending);
    assert_eq!(received, sent);

    server.close(None).await.unwrap();
    assert_eq!(client.read(&mut bytes).await.unwrap(), 0, "the end");
}

#[tokio::test]
async fn a_text_frame_ends_the_connection() {
    let (client, server) = open(Ok("mqtt")).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    server.send(Message::text("hello")).await.unwrap();
    let error = client.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_an_end() {
    let (client, server) = open(Ok("mqtt")).await;
    let mut client = client.unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn another_protocol_and_a_refusal_are_told_apart() {
    let (client, _) = open(Ok("chat")).await;
    assert_eq!(problem_of(client), WebSocketProblem::OtherProtocol);
    let (client, _) = open(Err(StatusCode::FORBIDDEN)).await;
    assert_eq!(problem_of(client), WebSocketProblem::NotUpgraded(403));
}
