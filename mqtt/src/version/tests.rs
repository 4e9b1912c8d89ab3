use rumqttc::v5::mqttbytes::v5::{Filter, Subscribe, Unsubscribe};

use super::*;

fn written(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    write(packet, &mut bytes).unwrap();
    bytes.to_vec()
}

fn read_all(bytes: &[u8]) -> Result<Option<Packet>, ConnectionError> {
    read(&mut BytesMut::from(bytes))
}

#[test]
fn what_is_written_is_the_older_standards_without_properties() {
    let mut publish = Publish::new("keys/bob", QoS::AtLeastOnce, &b"x"[..], None);
    (publish.pkid, publish.retain, publish.dup) = (7, true, true);
    assert_eq!(
        written(&Packet::Publish(publish)),
        b"\x3b\x0d\0\x08keys/bob\0\x07x"
    );
    let filter = Filter::new("keys/+", QoS::AtLeastOnce);
    let mut subscribe = Subscribe::new(filter, None);
    subscribe.pkid = 8;
    assert_eq!(
        written(&Packet::Subscribe(subscribe)),
        b"\x82\x0b\0\x08\0\x06keys/+\x01"
    );
    let mut unsubscribe = Unsubscribe::new("keys/+", None);
    unsubscribe.pkid = 9;
    assert_eq!(
        written(&Packet::Unsubscribe(unsubscribe)),
        b"\xa2\x0a\0\x09\0\x06keys/+"
    );
    assert_eq!(
        written(&Packet::PubAck(PubAck::new(10, None))),
        b"\x40\x02\0\x0a"
    );
    assert_eq!(written(&Packet::PingReq(PingReq)), b"\xc0\0");
    let goodbye = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
    assert_eq!(written(&Packet::Disconnect(goodbye)), b"\xe0\0");
}

#[test]
fn what_is_read_means_what_the_older_standard_says() {
    match read_all(b"\x3b\x0d\0\x08keys/bob\0\x07x").unwrap() {
        Some(Packet::Publish(publish)) => {
            assert_eq!((&publish.topic[..], publish.pkid), (&b"keys/bob"[..], 7));
            assert_eq!((publish.retain, publish.dup), (true, true));
            assert_eq!(publish.payload, &b"x"[..]);
        }
        other => panic!("{other:?}"),
    }
    match read_all(b"\x90\x04\0\x08\x01\x80").unwrap() {
        Some(Packet::SubAck(answer)) => assert_eq!(
            answer.return_codes,
            [
                SubscribeReasonCode::Success(QoS::AtLeastOnce),
                SubscribeReasonCode::Failure
            ]
        ),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        read_all(b"\x40\x02\0\x0a").unwrap(),
        Some(Packet::PubAck(PubAck {
            pkid: 10,
            reason: PubAckReason::Success,
            ..
        }))
    ));
    assert!(matches!(
        read_all(b"\xb0\x02\0\x09").unwrap(),
        Some(Packet::UnsubAck(UnsubAck { pkid: 9, .. }))
    ));
    assert!(matches!(
        read_all(b"\xd0\0").unwrap(),
        Some(Packet::PingResp(_))
    ));
    for (code, meaning) in [
        (0, ConnectReturnCode::Success),
        (1, ConnectReturnCode::RefusedProtocolVersion),
        (2, ConnectReturnCode::BadClientId),
        (3, ConnectReturnCode::ServiceUnavailable),
        (4, ConnectReturnCode::BadUserNamePassword),
        (5, ConnectReturnCode::NotAuthorized),
    ] {
        match read_all(&[0x20, 2, 1, code]).unwrap() {
            Some(Packet::ConnAck(answer)) => {
                assert_eq!((answer.code, answer.session_present), (meaning, true));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_no_packet_is_told_from_what_is_none_yet() {
    for bytes in [&[][..], &[0x30], &[0x30, 5, 0], &[0x40, 2, 0]] {
        assert!(matches!(read_all(bytes), Ok(None)), "{bytes:?}");
    }
    for bytes in [
        &[0xF0, 2, 0, 0][..],
        // Longer than the most that is taken.
        &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        // A topic longer than its packet, and one that is no text.
        &[0x30, 5, 0, 99, b'a', 0, 0],
        &[0x30, 4, 0, 1, 0xFF, 0],
        // Codes that do not exist.
        &[0x20, 2, 0, 9],
        &[0x90, 3, 0, 1, 7],
        // What a broker never sends, and QoS 2, which is not asked for.
        &[0x50, 2, 0, 1],
        &[0x82, 6, 0, 1, 0, 1, b'a', 1],
    ] {
        assert!(read_all(bytes).is_err(), "{bytes:?}");
    }
}
