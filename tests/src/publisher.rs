//! A publisher that numbers its messages, keeps its session, and after each reconnection goes on with what it had not
//! finished, as the standard asks.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::packet::packet;
use crate::raw::{Connect, publish, publish5};
use crate::weather::Weather;

/// Session expiry of an hour.
const KEPT: &[u8] = b"\x11\x00\x00\x0e\x10";

/// What MQTT 5 says when there is no room.
const QUOTA_EXCEEDED: u8 = 0x97;

/// How long a publisher leaves the broker alone that refused its message, or that hung up on it: MQTT 3.1.1 has no word for a
/// refusal. Connections in their thousands would use up this machine's ports.
const BREATH: Duration = Duration::from_millis(20);

/// Who publishes, and how.
#[derive(Debug)]
pub struct Publisher {
    /// Its client id; its topic is `load/NAME`, unless its messages are retained: then it is NAME.
    pub name: &'static str,
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.
    pub level: u8,
    /// 1 or 2.
    pub qos: u8,
    /// Unfinished messages at most.
    pub window: usize,
    /// Whether its messages are retained.
    pub retain: bool,
    /// The highest number that the broker has answered for: PUBACK, at QoS 2 PUBREC.
    pub answered: AtomicU64,
    /// How often it sent a message, or a PUBREL, again.
    pub repeated: AtomicU64,
    /// Numbers that the broker refused: nobody may get these.
    pub refused: Mutex<BTreeSet<u64>>,
}

/// What an answer was.
enum Answered {
    /// The end of its message.
    Finished,
    /// At QoS 2 the first half: this has to be sent.
    Release(Vec<u8>),
    /// The message is refused, which may have been the last.
    Refused(bool),
}

/// A message that is under way.
#[derive(Debug)]
struct Unfinished {
    pkid: u16,
    number: u64,
    last: bool,
    /// QoS 2: PUBREC has come.
    received: bool,
}

impl Publisher {
    /// A publisher that has not begun. Retained messages are for [`Publisher::retaining`].
    #[must_use]
    pub fn new(name: &'static str, level: u8, qos: u8, window: usize) -> Publisher {
        Publisher {
            name,
            level,
            qos,
            window,
            retain: false,
            answered: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }

    /// One whose messages are retained, one after the other.
    #[must_use]
    pub fn retaining(name: &'static str) -> Publisher {
        Publisher {
            retain: true,
            ..Publisher::new(name, 5, 1, 1)
        }
    }

    /// Publishes until the end, and then one that says `end`; before that, only while it `may`. Returns when everything is
    /// finished, with how many it were.
    ///
    /// # Panics
    /// When the broker answers what was not asked, refuses for another reason than that it has no room, answers out of order,
    /// or has forgotten the session.
    pub fn run(&self, weather: &Weather, may: impl Fn() -> bool) -> u64 {
        let connect = Connect {
            level: self.level,
            clean: false,
            properties: if self.level == 5 { KEPT } else { b"" },
            ..Connect::v311(self.name)
        };
        let mut unfinished = VecDeque::<Unfinished>::new();
        let (mut count, mut ended) = (0, false);
        loop {
            let (mut raw, present) = weather.connect(&connect);
            assert!(
                present || self.answered.load(Ordering::SeqCst) == 0,
                "{}: the session is gone",
                self.name
            );
            for message in &unfinished {
                raw.send(&if message.received {
                    packet(0x62, &message.pkid.to_be_bytes())
                } else {
                    self.publish(message, true)
                });
                self.repeated.fetch_add(1, Ordering::SeqCst);
            }
            loop {
                while unfinished.len() < self.window && !ended {
                    ended = weather.ending();
                    if !ended && !may() {
                        break;
                    }
                    count += 1;
                    let message = Unfinished {
                        pkid: u16::try_from(count % 60_000 + 1).unwrap(),
                        number: count,
                        last: ended,
                        received: false,
                    };
                    raw.send(&self.publish(&message, false));
                    unfinished.push_back(message);
                }
                if unfinished.is_empty() && ended {
                    return count;
                }
                if unfinished.is_empty() {
                    std::thread::sleep(BREATH);
                    continue;
                }
                let Some((first, body)) = raw.read() else {
                    if weather.is_up() {
                        std::thread::sleep(BREATH);
                    }
                    break;
                };
                match self.answer(first, &body, &mut unfinished) {
                    Answered::Finished => {}
                    Answered::Release(release) => raw.send(&release),
                    Answered::Refused(last) => {
                        ended &= !last;
                        std::thread::sleep(BREATH);
                    }
                }
            }
        }
    }

    fn publish(&self, message: &Unfinished, again: bool) -> Vec<u8> {
        let flags = u8::from(again) << 3 | self.qos << 1 | u8::from(self.retain);
        let topic = match self.retain {
            true => self.name.into(),
            false => format!("load/{}", self.name),
        };
        let end = if message.last { " end" } else { "" };
        let payload = format!("{}{end}", message.number);
        match self.level {
            5 => publish5(flags, &topic, message.pkid, b"", payload.as_bytes()),
            _ => publish(flags, &topic, message.pkid, payload.as_bytes()),
        }
    }

    fn answer(&self, first: u8, body: &[u8], unfinished: &mut VecDeque<Unfinished>) -> Answered {
        let name = self.name;
        let pkid = u16::from_be_bytes([body[0], body[1]]);
        let reason = body.get(2).copied().unwrap_or(0);
        let place = unfinished.iter().position(|message| message.pkid == pkid);
        let place = place.unwrap_or_else(|| panic!("{name}: an answer {first:x} to {pkid}"));
        if reason == QUOTA_EXCEEDED {
            assert!(matches!((first, self.qos), (0x40, 1) | (0x50, 2)), "{name}");
            let message = unfinished.remove(place).unwrap();
            assert!(!message.received, "{name}: refused what was taken");
            self.refused.lock().unwrap().insert(message.number);
            return Answered::Refused(message.last);
        }
        match (first, self.qos) {
            // The retained topic has no reader most of the time, which MQTT 5 may say.
            (0x40, 1) => {
                assert!(
                    reason == 0 || self.retain && reason == 0x10,
                    "{name}: {reason:x}"
                );
                assert_eq!(place, 0, "{name}: PUBACKs come in order");
                let number = unfinished.remove(place).unwrap().number;
                self.answered.fetch_max(number, Ordering::SeqCst);
                Answered::Finished
            }
            (0x50, 2) => {
                assert_eq!(reason, 0, "{name}");
                let message = &mut unfinished[place];
                message.received = true;
                self.answered.fetch_max(message.number, Ordering::SeqCst);
                Answered::Release(packet(0x62, &pkid.to_be_bytes()))
            }
            // 0x92: the broker had finished, and its PUBCOMP was lost.
            (0x70, 2) => {
                assert!(reason == 0 || reason == 0x92, "{name}: {reason:x}");
                assert!(unfinished[place].received, "{name}: PUBCOMP before PUBREC");
                unfinished.remove(place);
                Answered::Finished
            }
            _ => panic!("{name}: {first:x} {body:x?}"),
        }
    }
}
