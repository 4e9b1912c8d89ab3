use super::*;
use bytes::BytesMut;

use crate::protocol::packet::{Decoder, Incoming, IncomingDisconnect};

const CONNECT_311: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";

#[derive(Debug, PartialEq)]
enum Verdict {
    Fine,
    Malformed,
    Forbidden,
    AliasZero,
}

fn verdict(result: Result<Option<Incoming>, PacketError>) -> Verdict {
    match result {
        Ok(Some(_)) => Verdict::Fine,
        Err(PacketError::Malformed(_)) => Verdict::Malformed,
        Err(PacketError::Forbidden(_)) => Verdict::Forbidden,
        Err(PacketError::TopicAliasZero) => Verdict::AliasZero,
        other => panic!("{other:?}"),
    }
}

fn frame(first: u8, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::from(&[first, u8::try_from(body.len()).unwrap()][..]);
    assert!(body.len() < 128);
    frame.extend_from_slice(body);
    frame
}

/// The verdict on a packet after a CONNECT.
fn after(connect: &[u8], first: u8, body: &[u8]) -> Verdict {
    let mut decoder = Decoder::new(1024);
    decoder.decode(&mut connect.into()).unwrap();
    verdict(decoder.decode(&mut frame(first, body)))
}

fn five(first: u8, body: &[u8]) -> Verdict {
    after(CONNECT_5, first, body)
}

fn old(first: u8, body: &[u8]) -> Verdict {
    after(CONNECT_311, first, body)
}

/// A CONNECT of MQTT 5 with these flags, properties and payload after the client id.
fn connect5(flags: u8, properties: &[u8], rest: &[u8]) -> Verdict {
    let length = u8::try_from(properties.len()).unwrap();
    let head = [&b"\x00\x04MQTT\x05"[..], &[flags, 0, 60, length]].concat();
    let body = [&head, properties, b"\x00\x01a", rest].concat();
    verdict(Decoder::new(1024).decode(&mut frame(0x10, &body)))
}

fn connect311(flags: u8, rest: &[u8]) -> Verdict {
    let body = [b"\x00\x04MQTT\x04", &[flags, 0, 60][..], b"\x00\x01a", rest].concat();
    verdict(Decoder::new(1024).decode(&mut frame(0x10, &body)))
}

#[test]
fn connect_flags_that_cannot_be_are_malformed() {
    for flags in [0x03, 0x08, 0x10, 0x20, 0x38] {
        assert_eq!(connect311(flags, b""), Verdict::Malformed, "{flags:#x}");
        assert_eq!(connect5(flags, b"", b""), Verdict::Malformed, "{flags:#x}");
    }
    let will = b"\x00\x01w\x00\x00";
    assert_eq!(connect311(0x1e, will), Verdict::Malformed, "will QoS 3");
    for flags in [0x06, 0x0e, 0x16, 0x26] {
        assert_eq!(connect311(flags, will), Verdict::Fine, "{flags:#x}");
    }
}

#[test]
fn a_password_without_a_user_name_is_for_mqtt_5_alone() {
    assert_eq!(connect311(0x42, b"\x00\x01p"), Verdict::Malformed);
    assert_eq!(connect5(0x42, b"", b"\x00\x01p"), Verdict::Fine);
    assert_eq!(connect311(0xc2, b"\x00\x01u\x00\x01p"), Verdict::Fine);
}

#[test]
fn a_password_that_is_not_text_is_told_from_a_malformed_packet() {
    let body = [
        b"\x00\x04MQTT\x04",
        &[0xc2, 0, 60][..],
        b"\x00\x01a\x00\x01u\x00\x01\xff",
    ];
    let result = Decoder::new(1024).decode(&mut frame(0x10, &body.concat()));
    assert_eq!(result, Err(PacketError::PasswordNotText));
}

#[test]
fn fields_that_flags_announce_are_there_and_no_others() {
    assert_eq!(connect311(0x82, b""), Verdict::Malformed);
    assert_eq!(connect311(0x02, b"\x00\x01u"), Verdict::Malformed);
    assert_eq!(connect311(0x06, b"\x00\x01w"), Verdict::Malformed);
    assert_eq!(connect5(0x06, b"", b"\x00\x00\x01w\x00\x00"), Verdict::Fine);
    assert_eq!(
        connect5(0x06, b"", b"\x00\x01w\x00\x00"),
        Verdict::Malformed
    );
}

#[test]
fn properties_of_a_connect_appear_once_with_values_they_may_have() {
    for (properties, expected) in [
        (&b"\x11\x00\x00\x00\x05\x21\x00\x0a"[..], Verdict::Fine),
        (
            b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01v",
            Verdict::Fine,
        ),
        (
            b"\x11\x00\x00\x00\x05\x11\x00\x00\x00\x05",
            Verdict::Forbidden,
        ),
        (b"\x21\x00\x00", Verdict::Forbidden),
        (b"\x27\x00\x00\x00\x00", Verdict::Forbidden),
        (b"\x17\x02", Verdict::Forbidden),
        (b"\x19\x02", Verdict::Forbidden),
        (b"\x16\x00\x01x", Verdict::Forbidden),
        (b"\x15\x00\x01m\x16\x00\x01x", Verdict::Fine),
        (b"\x23\x00\x01", Verdict::Malformed),
        (b"\x24\x01", Verdict::Malformed),
        (b"\x7f", Verdict::Malformed),
        (b"\x11\x00\x00", Verdict::Malformed),
        (b"\x26\x00\x01k\x00\x02v\xff", Verdict::Malformed),
    ] {
        assert_eq!(connect5(0x02, properties, b""), expected, "{properties:x?}");
    }
}

#[test]
fn a_wills_properties_are_a_publishs_and_the_delay() {
    let will = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        connect5(
            0x06,
            b"",
            &[&[length], properties, b"\x00\x01w\x00\x00"].concat(),
        )
    };
    assert_eq!(
        will(b"\x18\x00\x00\x00\x05\x01\x01\x03\x00\x01t"),
        Verdict::Fine
    );
    assert_eq!(
        will(b"\x18\x00\x00\x00\x05\x18\x00\x00\x00\x05"),
        Verdict::Forbidden
    );
    assert_eq!(will(b"\x23\x00\x01"), Verdict::Malformed);
}

#[test]
fn a_publish_has_a_topic_or_an_alias_of_its_own_kind() {
    assert_eq!(old(0x30, b"\x00\x01ax"), Verdict::Fine);
    assert_eq!(old(0x30, b"\x00\x00x"), Verdict::Forbidden);
    assert_eq!(five(0x30, b"\x00\x00\x00x"), Verdict::Forbidden);
    assert_eq!(five(0x30, b"\x00\x00\x03\x23\x00\x01x"), Verdict::Fine);
    assert_eq!(
        five(0x30, b"\x00\x01a\x03\x23\x00\x00x"),
        Verdict::AliasZero
    );
    assert_eq!(five(0x30, b"\x00\x01a\x02\x0b\x01x"), Verdict::Forbidden);
    assert_eq!(five(0x30, b"\x00\x01a\x02\x01\x02x"), Verdict::Forbidden);
    assert_eq!(
        five(0x30, b"\x00\x01a\x06\x08\x00\x03a/#"),
        Verdict::Forbidden
    );
    assert_eq!(
        five(0x30, b"\x00\x01a\x05\x18\x00\x00\x00\x05"),
        Verdict::Malformed
    );
    assert_eq!(
        five(0x30, b"\x00\x01a\x80\x00x"),
        Verdict::Malformed,
        "two bytes for 0"
    );
}

#[test]
fn topics_and_filters_are_utf8_without_nul() {
    for bad in [
        &b"\x00\x01\x00"[..],
        b"\x00\x01\xff",
        b"\x00\x03\xed\xa0\x80",
    ] {
        assert_eq!(old(0x30, bad), Verdict::Malformed, "{bad:x?}");
        assert_eq!(five(0x30, &[bad, b"\x00"].concat()), Verdict::Malformed);
        let subscribe = [&b"\x00\x01"[..], bad, b"\x00"].concat();
        assert_eq!(old(0x82, &subscribe), Verdict::Malformed);
        assert_eq!(old(0xa2, &[b"\x00\x01", bad].concat()), Verdict::Malformed);
    }
}

#[test]
fn a_duplicate_at_qos_0_and_packet_identifier_0_are_malformed() {
    assert_eq!(old(0x38, b"\x00\x01a"), Verdict::Malformed);
    assert_eq!(old(0x32, b"\x00\x01a\x00\x00"), Verdict::Malformed);
    assert_eq!(old(0x3a, b"\x00\x01a\x00\x01"), Verdict::Fine);
    for first in [0x40, 0x50, 0x62, 0x70] {
        assert_eq!(old(first, b"\x00\x00"), Verdict::Malformed);
        assert_eq!(five(first, b"\x00\x00"), Verdict::Malformed);
    }
}

#[test]
fn acknowledgements_have_the_reasons_of_their_kind() {
    assert_eq!(old(0x40, b"\x00\x01\x00"), Verdict::Malformed);
    assert_eq!(five(0x40, b"\x00\x01\x10"), Verdict::Fine);
    assert_eq!(five(0x40, b"\x00\x01\x92"), Verdict::Malformed);
    assert_eq!(five(0x62, b"\x00\x01\x92\x00"), Verdict::Fine);
    assert_eq!(five(0x62, b"\x00\x01\x80"), Verdict::Malformed);
    assert_eq!(five(0x40, b"\x00\x01\x00\x04\x1f\x00\x01x"), Verdict::Fine);
    assert_eq!(
        five(0x40, b"\x00\x01\x00\x03\x23\x00\x01"),
        Verdict::Malformed
    );
    assert_eq!(five(0x40, b"\x00\x01\x00\x00\x00"), Verdict::Malformed);
}

#[test]
fn subscription_options_mean_something() {
    let one = |options: u8| [&b"\x00\x01\x00\x00\x01a"[..], &[options]].concat();
    for (options, expected) in [
        (0x2e, Verdict::Fine),
        (0x03, Verdict::Forbidden),
        (0x30, Verdict::Forbidden),
        (0x40, Verdict::Malformed),
        (0x80, Verdict::Malformed),
    ] {
        assert_eq!(five(0x82, &one(options)), expected, "{options:#x}");
    }
    assert_eq!(old(0x82, b"\x00\x01\x00\x01a\x02"), Verdict::Fine);
    assert_eq!(old(0x82, b"\x00\x01\x00\x01a\x04"), Verdict::Malformed);
    assert_eq!(
        five(0x82, b"\x00\x01\x00\x00\x0a$share/g/a\x04"),
        Verdict::Forbidden
    );
    assert_eq!(
        five(0x82, b"\x00\x01\x02\x0b\x00\x00\x01a\x00"),
        Verdict::Forbidden
    );
    assert_eq!(five(0x82, b"\x00\x01\x00"), Verdict::Forbidden, "no filter");
    assert_eq!(five(0xa2, b"\x00\x01\x00"), Verdict::Forbidden, "no filter");
    assert_eq!(
        old(0x82, b"\x00\x01\x00\x00\x00"),
        Verdict::Forbidden,
        "an empty filter"
    );
}

#[test]
fn pings_and_old_disconnects_have_no_content() {
    assert_eq!(five(0xc0, b"\x00"), Verdict::Malformed);
    assert_eq!(old(0xe0, b"\x00"), Verdict::Malformed);
    assert_eq!(old(0xe0, b""), Verdict::Fine);
}

#[test]
fn a_disconnect_says_what_becomes_of_the_will_and_the_session() {
    let decoded = |body: &[u8]| {
        let mut decoder = Decoder::new(1024);
        decoder.decode(&mut CONNECT_5.into()).unwrap();
        match decoder.decode(&mut frame(0xe0, body)) {
            Ok(Some(Incoming::Disconnect(disconnect))) => disconnect,
            other => panic!("{other:?}"),
        }
    };
    let normal = IncomingDisconnect {
        with_will: false,
        expiry: None,
    };
    for (body, with_will) in [
        (&b""[..], false),
        (b"\x00", false),
        (b"\x04", true),
        (b"\x80\x00", true),
    ] {
        assert_eq!(
            decoded(body),
            IncomingDisconnect {
                with_will,
                ..normal
            },
            "{body:x?}"
        );
    }
    let kept = decoded(b"\x00\x05\x11\x00\x00\x00\x07");
    assert_eq!(
        kept,
        IncomingDisconnect {
            expiry: Some(7),
            ..normal
        }
    );
}

#[test]
fn a_client_gives_no_reason_that_is_a_servers() {
    for reason in [0x01, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x9c] {
        assert_eq!(five(0xe0, &[reason]), Verdict::Forbidden, "{reason:#x}");
    }
    assert_eq!(
        five(0xe0, b"\x00\x04\x1c\x00\x01x"),
        Verdict::Malformed,
        "a server reference"
    );
}
