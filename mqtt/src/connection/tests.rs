use std::pin::pin;

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex, split};

use super::*;

fn hello() -> Hello {
    Hello {
        client_id: "c".into(),
        session_expiry: Some(100),
        receive_maximum: 10,
        max_packet: 1_000,
        keep_alive: Duration::from_secs(30),
        read_ahead: 1_024,
    }
}

/// Signs in with what answers in these pieces, and then with silence.
async fn answered(pieces: &[&[u8]]) -> Result<Welcome, ConnectionError> {
    let (ours, mut theirs) = duplex(4_096);
    let (reader, writer) = split(ours);
    let mut incoming = Incoming::new(reader, 1_000, 1_024);
    let mut outgoing = Outgoing::<tokio::io::WriteHalf<DuplexStream>>::new(writer);
    let hello = hello();
    let login = Login {
        user: "bob".into(),
        password: "secret".into(),
    };
    assert!(!format!("{login:?}").contains("secret"));
    let mut signing_in = pin!(sign_in(
        &mut incoming,
        &mut outgoing,
        Version::V5,
        &hello,
        login
    ));
    for piece in pieces {
        theirs.write_all(piece).await.unwrap();
        // Each piece is looked at by itself.
        tokio::select! {
            biased;
            done = &mut signing_in => return done,
            () = tokio::task::yield_now() => {}
        }
    }
    drop(theirs);
    signing_in.await
}

fn written(answer: ConnAck) -> BytesMut {
    let mut bytes = BytesMut::new();
    Packet::ConnAck(answer).write(&mut bytes, None).unwrap();
    bytes
}

#[tokio::test]
async fn what_the_broker_asks_for_is_kept_and_the_rest_is_the_standards() {
    let welcome = answered(&[b"\x20\x03\x01\x00\x00"]).await.unwrap();
    assert_eq!(
        welcome,
        Welcome {
            session_present: true,
            keep_alive: Duration::from_secs(30),
            session_expiry: None,
            receive_maximum: u16::MAX,
            max_packet: None,
            version: Version::V5,
        }
    );
    // Session expiry 60, receive maximum 7, maximum packet size 9000, server keep-alive 20.
    let asked = b"\x20\x13\x00\x00\x10\x11\0\0\0\x3c\x21\0\x07\x27\0\0\x23\x28\x13\0\x14";
    let welcome = answered(&[asked]).await.unwrap();
    assert_eq!(
        welcome,
        Welcome {
            session_present: false,
            keep_alive: Duration::from_secs(20),
            session_expiry: Some(Duration::from_secs(60)),
            receive_maximum: 7,
            max_packet: Some(9_000),
            version: Version::V5,
        }
    );
}

#[tokio::test]
async fn a_refusal_says_what_the_broker_said() {
    let refused = answered(&[b"\x20\x0b\x00\x87\x08\x1f\x00\x05bann\x1b"])
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the broker refused the login: bann\\u{1b}"
    );
    assert!(refused.is_final());
    let silent = written(ConnAck {
        session_present: false,
        code: ConnectReturnCode::ServerBusy,
        properties: None,
    });
    let busy = answered(&[&silent]).await.unwrap_err();
    assert_eq!(busy.to_string(), "the broker refused the login: it is busy");
    assert!(!busy.is_final());
}

#[tokio::test]
async fn what_speaks_something_else_is_recognised_in_any_pieces() {
    let alert: &[u8] = b"\x15\x03\x03\x00\x02\x02\x0a";
    let web: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    for (bytes, tls) in [(alert, true), (web, false)] {
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        for pieces in [&[bytes][..], &one_by_one] {
            match answered(pieces).await.unwrap_err() {
                ConnectionError::AnsweredInTls => assert!(tls),
                ConnectionError::AnsweredInHttp => assert!(!tls),
                other => panic!("{other}"),
            }
        }
    }
    assert!(matches!(
        answered(&[b""]).await,
        Err(ConnectionError::Ended)
    ));
    assert!(matches!(
        answered(&[b"\xd0\x00"]).await,
        Err(ConnectionError::Unexpected("PINGRESP"))
    ));
    assert!(matches!(
        answered(&[b"\xe0\x01\x8b"]).await,
        Err(ConnectionError::Closed { .. })
    ));
}
