//! What owners may hold, and that nobody's is used up by others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, PubAckReason};
use sealpost_tests::{Broker, BrokerOptions, Device, Link};

/// Writes to one's own inbox until that is refused. Returns how many messages were taken.
async fn hoard(link: &mut Link, device: &Device) -> usize {
    let topic = format!("inbox/{}", device.user);
    let junk = device.seal(device, &"x".repeat(20_000));
    let mut taken = 0;
    while link.publish(&topic, false, junk.as_bytes()).await == PubAckReason::Success {
        taken += 1;
    }
    taken
}

/// Seven of the ten users that there can be fill one session after the other with mail to themselves. The rest have what
/// is theirs.
#[tokio::test]
async fn users_who_collude_do_not_use_up_what_is_others() {
    const TOTAL: usize = 4 << 20;
    let broker = Broker::start(BrokerOptions {
        settings: format!(
            "[limits]\nusers = 10\ntotal_mailbox_bytes = {TOTAL}\nmailbox_bytes = {TOTAL}\nstranger_share = 100\nsender_share = 100"
        ),
        ..BrokerOptions::default()
    });
    let honest = ["alice", "bob"].map(Device::new);
    for device in &honest {
        device.register(broker.address()).await;
        let mut link = device.connect_kept(broker.address(), "home").await;
        link.subscribe(&format!("inbox/{}", device.user)).await;
        link.disconnect().await;
    }
    for number in 0..7 {
        let mallory = Device::new(&format!("mallory-{number}"));
        mallory.register(broker.address()).await;
        for session in 0..4 {
            let mut link = mallory
                .connect_kept(broker.address(), &format!("s{session}"))
                .await;
            let inbox = format!("inbox/{}", mallory.user);
            link.subscribe(&inbox).await;
            let mut writer = mallory.connect(broker.address(), "w").await;
            hoard(&mut writer, &mallory).await;
            link.disconnect().await;
        }
    }
    let [alice, bob] = &honest;
    let mut writer = alice.connect(broker.address(), "w").await;
    let (letter, mut bytes) = (alice.seal(bob, &"x".repeat(20_000)), 0);
    while writer.publish("inbox/bob", false, letter.as_bytes()).await == PubAckReason::Success {
        bytes += letter.as_bytes().len();
    }
    let floor = TOTAL / 2 / 10;
    assert!(
        bytes + 2 * letter.as_bytes().len() > floor,
        "{bytes} of {floor}"
    );
    // And alice still has hers.
    let letter = alice.seal(alice, "hello");
    let answer = writer
        .publish("inbox/alice", false, letter.as_bytes())
        .await;
    assert_eq!(answer, PubAckReason::Success);
}

fn metrics_address(broker: &Broker) -> SocketAddr {
    let line = broker.process.expect("metrics on ");
    let address = line.trim_start_matches("metrics on http://");
    address.trim_end_matches("/metrics").parse().unwrap()
}

fn metrics(address: SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_full_archiver_refuses_mail_unless_the_operator_would_rather_part_with_it() {
    for (choice, parts) in [("refuse", false), ("part", true)] {
        let archiver = Device::new("depot");
        let broker = Broker::start(BrokerOptions {
            archivers: vec![format!("depot={}", archiver.identity.key().to_base64())],
            settings: format!(
                "[metrics]\nlisten = \"127.0.0.1:0\"\n[limits]\narchiver_messages = 5\narchiver_full = \"{choice}\"\nsender_share = 100\nstranger_share = 100"
            ),
            ..BrokerOptions::default()
        });
        let address = metrics_address(&broker);
        let bob = Device::new("bob");
        bob.register(broker.address()).await;
        let mut depot = archiver.connect_kept(broker.address(), "depot").await;
        depot.subscribe("inbox/+").await;
        let mut reader = bob.connect_kept(broker.address(), "r").await;
        reader.subscribe("inbox/bob").await;
        depot.disconnect().await;
        let mut writer = bob.connect(broker.address(), "w").await;
        for number in 0..8 {
            let letter = bob.seal(&bob, "hello");
            let answer = writer.publish("inbox/bob", false, letter.as_bytes()).await;
            let refused = answer == PubAckReason::QuotaExceeded;
            assert_eq!(
                refused,
                !parts && number >= 5,
                "{choice} {number} {answer:?}"
            );
            if !refused {
                assert_eq!(&reader.receive().await.payload[..], letter.as_bytes());
            }
        }
        let counted = format!("sealpost_archivers_parted_total {}\n", u8::from(parts));
        let text = metrics(address);
        assert!(text.contains(&counted), "{text}");
        if parts {
            broker.process.expect_error("parted with an archiver");
            broker
                .await_audit(|line| {
                    line["event"] == "session-ended"
                        && line["user"] == "archiver:depot"
                        && line["client"] == "depot"
                        && line["messages"] == 5
                })
                .await;
        }
    }
}

/// A topic that everybody may use, and a session that never acknowledges what it gets there.
#[tokio::test]
async fn a_durable_reader_that_never_reads_does_not_stop_a_topic() {
    let broker = Broker::start(BrokerOptions {
        open: true,
        settings: "[limits]\narchiver_messages = 50".into(),
        ..BrokerOptions::default()
    });
    let address = broker.address();
    let session = async |id: &str| {
        let mut link = Link::connect_to_session(address, id, None, false, 600)
            .await
            .unwrap();
        link.subscribe("news").await;
        link
    };
    let mut stuck = TcpStream::connect(address).unwrap();
    // MQTT 5, session expiry 600, Receive Maximum 10: it acknowledges nothing.
    stuck
        .write_all(b"\x10\x1a\x00\x04MQTT\x05\x00\x00\x00\x08\x11\x00\x00\x02\x58\x21\x00\x0a\x00\x05stuck\x82\x0a\x00\x01\x00\x00\x04news\x01")
        .unwrap();
    broker.process.expect_error("stuck");
    session("away").await.disconnect().await;
    let mut reader = session("reader").await;
    let mut writer = Link::connect(address, "w", None).await.unwrap();
    for number in 0..120_u8 {
        let answer = writer.publish("news", false, &[number]).await;
        assert_eq!(answer, PubAckReason::Success, "{number}");
        assert_eq!(&reader.receive().await.payload[..], &[number]);
    }
    let mut told = Vec::new();
    let _ = stuck.read_to_end(&mut told);
    // The DISCONNECT is the last packet: its type, its length, its reason.
    let quota_exceeded = DisconnectReasonCode::QuotaExceeded as u8;
    assert_eq!(quota_exceeded, 0x97);
    assert!(
        told.windows(3)
            .any(|bytes| bytes[0] == 0xe0 && bytes[2] == 0x97),
        "{told:x?}"
    );
    broker
        .process
        .expect_error("ended a session that read too little");
}
