//! A clock that somebody sets, with the real broker: whose login is refused is told why, a used login stays used, and no mail is
//! lost but what had expired by then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sealpost_tests::packet::packet;
use sealpost_tests::raw::{Connect, publish5};
use sealpost_tests::{Broker, BrokerOptions, Clock, Device, PATIENCE, Raw, now};

/// Seconds by which the clock jumps.
const JUMP: i64 = 3_600;

fn with_clock(options: BrokerOptions) -> (Broker, Arc<Clock>) {
    let clock = Arc::new(Clock::new());
    let broker = Broker::start(BrokerOptions {
        clock: Some(Arc::clone(&clock)),
        ..options
    });
    (broker, clock)
}

/// Tries until it holds.
fn soon(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Logs in: the CONNACK's reason, and its words.
fn log_in(broker: &Broker, device: &Device, token: &str) -> (u8, String) {
    let mut raw = Raw::open(broker.address());
    let connect = Connect {
        login: Some((device.user.as_str(), token)),
        ..Connect::v5("c")
    };
    raw.send(&connect.packet());
    let (first, body) = raw.read().expect("a CONNACK");
    assert_eq!(first, 0x20);
    (body[1], String::from_utf8_lossy(&body[2..]).into_owned())
}

#[test]
fn logins_are_refused_with_the_difference_while_the_clock_is_wrong_and_accepted_again_after() {
    let (broker, clock) = with_clock(BrokerOptions::default());
    let alice = Device::new("alice");
    let try_now = || log_in(&broker, &alice, &alice.token("c"));
    assert_eq!(try_now().0, 0);
    for (offset, told) in [(JUMP, "s ago by"), (-JUMP, "s in the future by")] {
        clock.set(offset);
        soon("refused", || try_now().0 != 0);
        let (reason, text) = try_now();
        assert_eq!(reason, 0x86);
        assert!(
            text.contains(told) && text.contains("set the clock"),
            "{text}"
        );
        clock.set(0);
        soon("accepted again", || try_now().0 == 0);
    }
}

#[test]
fn a_login_token_stays_used_when_the_clock_jumps_forth_and_back() {
    let (broker, clock) = with_clock(BrokerOptions::default());
    let alice = Device::new("alice");
    let used = alice.token("c");
    assert_eq!(log_in(&broker, &alice, &used).0, 0);
    clock.set(JUMP);
    soon("accepted by the wrong clock", || {
        let then = now().saturating_add(Duration::from_secs(JUMP.unsigned_abs()));
        log_in(&broker, &alice, &alice.token_at("c", then)).0 == 0
    });
    clock.set(0);
    soon("accepted by the right clock", || {
        log_in(&broker, &alice, &alice.token("c")).0 == 0
    });
    let (reason, text) = log_in(&broker, &alice, &used);
    assert_ne!(reason, 0);
    assert!(text.contains("used before"), "{text}");
}

/// Publishes at QoS 1, with an expiry in seconds or without; it is taken.
fn publish(writer: &mut Raw, flags: u8, topic: &str, expiry: Option<u32>, text: &str) {
    let expiry = expiry.map(|seconds| [&[0x02][..], &seconds.to_be_bytes()].concat());
    let properties = expiry.unwrap_or_default();
    writer.send(&publish5(
        0b0010 | flags,
        topic,
        7,
        &properties,
        text.as_bytes(),
    ));
    let (first, body) = writer.read().expect("a PUBACK");
    assert_eq!(first, 0x40);
    assert!(matches!(body.get(2), None | Some(0 | 0x10)), "{body:x?}");
}

/// What a session that is kept for a day is owed: connects, acknowledges all of it, and goes.
fn collect(broker: &Broker, client_id: &str) -> Vec<String> {
    let (mut reader, present) = Raw::connect_present(broker.address(), &kept_for_a_day(client_id));
    assert!(present);
    let mut texts = Vec::new();
    // The last of all never expires.
    while texts.last().is_none_or(|text| text != "last") {
        let (first, body) = reader.read().expect("a message");
        assert_eq!(first >> 4, 3);
        let properties = usize::from(body[5]);
        let text = std::str::from_utf8(&body[6 + properties..]).unwrap();
        texts.push(text.to_owned());
        reader.send(&packet(0x40, &body[3..5]));
    }
    reader.disconnect();
    texts
}

fn kept_for_a_day(client_id: &str) -> Connect<'_> {
    Connect {
        clean: false,
        properties: b"\x11\x00\x01\x51\x80",
        ..Connect::v5(client_id)
    }
}

#[test]
fn a_jump_of_the_clock_costs_no_mail_but_what_had_expired_by_then() {
    let (mut broker, clock) = with_clock(BrokerOptions {
        open: true,
        ..BrokerOptions::default()
    });
    for reader in ["ahead", "behind", "killed", "right"] {
        let mut reader = Raw::connect(broker.address(), &kept_for_a_day(reader));
        reader.subscribe(5, "t", 1);
        reader.disconnect();
    }
    let mut writer = Raw::connect(broker.address(), &Connect::v5("writer"));
    publish(&mut writer, 0, "t", Some(1_800), "half an hour");
    publish(&mut writer, 0, "t", Some(7_200), "two hours");
    publish(&mut writer, 1, "r", None, "retained");
    publish(&mut writer, 0, "t", None, "last");
    // Forgotten as soon as the broker knows that it is an hour later.
    publish(&mut writer, 1, "probe", Some(60), "probe");
    let retained = |broker: &Broker, topic: &str| {
        let mut reader = Raw::connect(broker.address(), &Connect::v311("glance"));
        reader.subscribe(4, topic, 0);
        reader.send(b"\xc0\x00");
        reader.read().expect("a message or a PINGRESP").0 == 0x31
    };
    assert!(retained(&broker, "probe"));

    clock.set(JUMP);
    soon("the probe expires", || !retained(&broker, "probe"));
    assert_eq!(collect(&broker, "ahead"), ["two hours", "last"]);
    broker.kill();
    broker.restart();
    assert_eq!(collect(&broker, "killed"), ["two hours", "last"]);
    assert!(retained(&broker, "r"));

    clock.set(-JUMP);
    broker.kill();
    broker.restart();
    let all = ["half an hour", "two hours", "last"];
    assert_eq!(collect(&broker, "behind"), all);
    assert!(retained(&broker, "r"));
    clock.set(0);
    broker.kill();
    broker.restart();
    assert_eq!(collect(&broker, "right"), all);
}
