use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use rumqttc::v5::mqttbytes::v5::PingReq;

async fn read(bytes: &[u8]) -> Result<Packet, ConnectionError> {
    Incoming::new(bytes, 1_000, 16).packet().await
}

#[tokio::test]
async fn a_disconnect_may_be_short() {
    for (bytes, reason) in [
        (&[0xE0, 0][..], DisconnectReasonCode::NormalDisconnection),
        (&[0xE0, 1, 0x8E], DisconnectReasonCode::SessionTakenOver),
        (&[0xE0, 1, 0x77], DisconnectReasonCode::UnspecifiedError),
        (
            &[0xE0, 2, 0x8B, 0],
            DisconnectReasonCode::ServerShuttingDown,
        ),
    ] {
        match read(bytes).await.unwrap() {
            Packet::Disconnect(goodbye) => assert_eq!(goodbye.reason_code, reason, "{bytes:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_packet_is_told_from_what_is_none_yet() {
    for bytes in [&[0xE0][..], &[0xE0, 1], &[0x20, 3, 0], &[]] {
        let error = read(bytes).await.unwrap_err();
        assert!(
            matches!(error, ConnectionError::Ended),
            "{bytes:?}: {error}"
        );
    }
    // A reserved type; a length of five bytes; a packet over the limit; a PUBLISH whose topic is longer than itself.
    for bytes in [
        &[0xF0, 2, 0, 0][..],
        &[0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x30, 0xFF, 0x7F],
        &[0x30, 5, 0, 99, b'a', 0, 0],
    ] {
        let error = read(bytes).await.unwrap_err();
        assert!(
            matches!(error, ConnectionError::Malformed(_)),
            "{bytes:?}: {error}"
        );
    }
}

/// Takes all at once, and is busy when it is to be flushed the first time, as TLS may be.
#[derive(Default)]
struct Lazy {
    taken: Vec<u8>,
    flushes: u32,
}

impl AsyncWrite for Lazy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.taken.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.flushes += 1;
        match self.flushes {
            1 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flush_that_was_cancelled_is_made_up_for_and_nothing_is_sent_twice() {
    let mut outgoing = Outgoing::new(Lazy::default());
    outgoing.push(&Packet::PingReq(PingReq)).unwrap();
    tokio::select! {
        biased;
        sent = outgoing.send_some() => panic!("{sent:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(!outgoing.is_empty());
    outgoing.send_all().await.unwrap();
    assert!(outgoing.is_empty());
    assert_eq!(outgoing.stream.taken, [0xC0, 0]);
    assert_eq!(outgoing.stream.flushes, 2);
}
