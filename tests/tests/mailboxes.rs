//! Mailboxes on a real disk: one that is full, and one reader that is away for long.

use sealpost_tests::packet::packet;
use sealpost_tests::raw::{Connect, publish, publish5};
use sealpost_tests::{Broker, BrokerOptions, Flood, Raw, SmallDisk};

/// Session expiry of an hour.
const KEPT: &[u8] = b"\x11\x00\x00\x0e\x10";
const QUOTA_EXCEEDED: u8 = 0x97;
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;

fn kept(client_id: &str) -> Connect<'_> {
    Connect {
        clean: false,
        properties: KEPT,
        ..Connect::v5(client_id)
    }
}

/// Publishes at QoS 1 in MQTT 5 and returns the PUBACK's reason.
fn reason(writer: &mut Raw, flags: u8, topic: &str, payload: &str) -> u8 {
    writer.send(&publish5(0b0010 | flags, topic, 7, b"", payload.as_bytes()));
    let (first, body) = writer.read().expect("a PUBACK");
    assert_eq!((first, &body[..2]), (0x40, &b"\x00\x07"[..]));
    body.get(2).copied().unwrap_or(0)
}

/// The next message must be this one at QoS 1; acknowledges it.
fn receive(reader: &mut Raw, topic: &str, payload: &str) {
    let (first, body) = reader.read().expect("a message");
    let at = 2 + topic.len();
    assert_eq!(first >> 1 & 0b11, 1);
    assert_eq!(std::str::from_utf8(&body[at + 3..]).unwrap(), payload);
    reader.send(&packet(0x40, &body[at..at + 2]));
}

/// Which bound it was, and what can be done.
#[test]
fn a_refusal_for_want_of_room_says_of_what_and_what_to_do() {
    let settings = "[limits]\narchiver_messages = 2\nsender_share = 50\nretained_messages = 1";
    let broker = Broker::start(BrokerOptions {
        open: true,
        settings: settings.into(),
        ..BrokerOptions::default()
    });
    let mut reader = Raw::connect(broker.address(), &kept("reader"));
    reader.subscribe(5, "inbox/t", 1);
    let mut writer = Raw::connect(broker.address(), &Connect::v5("writer"));
    let mut refused = |flags: u8, topic, packet_id: u8| {
        writer.send(&publish5(
            0b0010 | flags,
            topic,
            packet_id.into(),
            b"",
            b"x",
        ));
        let (_, body) = writer.read().expect("a PUBACK");
        // Taken, also when nobody was there to read it.
        if body.len() < 4 || body[2] == NO_MATCHING_SUBSCRIBERS {
            return String::new();
        }
        assert_eq!(body[2], QUOTA_EXCEEDED);
        String::from_utf8_lossy(&body[3..]).into_owned()
    };
    assert_eq!(refused(0, "inbox/t", 1), "");
    assert_eq!(refused(0, "inbox/t", 2), "");
    let said = refused(0, "inbox/t", 3);
    assert!(said.contains("mailbox of a recipient is full"), "{said}");
    // What the broker tells of itself is retained too, and takes nobody's place.
    assert_eq!(refused(1, "one", 4), "");
    let said = refused(1, "two", 5);
    assert!(said.contains("limits.retained_messages"), "{said}");
}

#[test]
fn a_full_disk_refuses_mail_with_a_reason_serves_readers_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(128) else {
        return;
    };
    let mut broker = Broker::start(BrokerOptions {
        open: true,
        settings: format!("[limits]\ndisk_reserve = {}", 48 * 1024 * 1024),
        data: Some(disk.path().join("data")),
        ..BrokerOptions::default()
    });
    let mut reader = Raw::connect(broker.address(), &kept("reader"));
    reader.subscribe(5, "t", 1);
    reader.disconnect();
    let mut clean = Raw::connect(broker.address(), &Connect::v5("clean"));
    clean.subscribe(5, "c", 1);
    let mut writer = Raw::connect(broker.address(), &Connect::v5("writer"));
    assert_eq!(reason(&mut writer, 0, "t", "0"), 0);

    disk.fill(32);
    // The disk is looked at with every group that is written, so the first may still pass.
    let mut taken = 1;
    while reason(&mut writer, 0, "t", &taken.to_string()) == 0 {
        taken += 1;
        assert!(taken < 100, "the disk is full");
    }
    broker.process.expect_error("the disk is almost full");
    assert_eq!(reason(&mut writer, 0, "t", "refused"), QUOTA_EXCEEDED);
    assert_eq!(reason(&mut writer, 1, "r", "refused"), QUOTA_EXCEEDED);
    let mut old = Raw::connect(broker.address(), &Connect::v311("old"));
    old.send(&publish(0b0010, "t", 7, b"refused"));
    assert_eq!(old.read_to_end(), [], "no PUBACK, and the end");
    assert_eq!(reason(&mut writer, 0, "c", "not kept"), 0);
    receive(&mut clean, "c", "not kept");
    let mut reader = Raw::connect(broker.address(), &kept("reader"));
    for number in 0..taken {
        receive(&mut reader, "t", &number.to_string());
    }
    reader.disconnect();

    disk.empty();
    broker
        .process
        .expect_error("there is room on the disk again");
    assert_eq!(reason(&mut writer, 0, "t", "taken again"), 0);
    broker.kill();
    broker.restart();
    let mut reader = Raw::connect(broker.address(), &kept("reader"));
    receive(&mut reader, "t", "taken again");
    reader.disconnect();
}

#[test]
fn the_mail_of_an_absent_reader_costs_disk_and_no_memory_and_outlives_kill_9_in_order() {
    const MESSAGES: usize = 20_000;
    // More than may be in memory, so that whoever kept the mail there would be found.
    const BYTES: usize = 16 * 1024;
    // What docs/durability.md comes to for a few connections, most of it the store's newest writes.
    const MOST_KIB: u64 = 300 * 1024;
    let mut broker = Broker::start(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    let mut reader = Raw::connect(broker.address(), &kept("reader"));
    reader.subscribe(5, "t", 1);
    reader.disconnect();
    let text = |number: usize| format!("{number:0>BYTES$}");
    let mut flood = Flood::connect(broker.address(), "", "", "writer");
    for number in 0..MESSAGES {
        flood.publish("t", text(number).as_bytes());
    }
    flood.finish();
    let peak = broker.process.peak_kib();
    assert!(0 < peak && peak < MOST_KIB, "{peak} KiB to take it");

    broker.kill();
    broker.restart();
    let mut reader = Raw::connect(broker.address(), &kept("reader"));
    for number in 0..MESSAGES {
        receive(&mut reader, "t", &text(number));
    }
    reader.disconnect();
    let restarted = broker.process.peak_kib();
    assert!(
        0 < restarted && restarted < MOST_KIB,
        "{restarted} KiB to give it"
    );
    println!("at most {peak} KiB to take it, {restarted} KiB to give it");
}
