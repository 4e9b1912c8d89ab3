//! A publisher's window: as many ready-made PUBLISH packets as may be unacknowledged, one behind the other.
//!
//! A packet's id is its place in the ring, so only the stamp changes when a place is used again, and a run of places
//! goes out in one write without a copy.

use crate::packet::{Qos, put_publish};
use crate::stamp::{STAMP_LEN, Stamp, filler};

/// The most messages in flight: MQTT has 65,535 packet ids.
pub(crate) const MAX_WINDOW: usize = 65_535;

/// The most bytes that one ring may take, so that a large window of large messages does not fill the memory.
pub(crate) const MAX_RING: usize = 64 * 1024 * 1024;

/// The ring.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    frame_len: usize,
    stamp_at: usize,
    window: usize,
}

impl Frames {
    /// `window` packets (1 to [`MAX_WINDOW`], fewer if they took more than [`MAX_RING`]) of `size` bytes of payload,
    /// at least a stamp.
    pub(crate) fn new(topic: &str, qos: Qos, size: usize, window: usize) -> Self {
        let mut payload = vec![0; STAMP_LEN];
        payload.extend_from_slice(&filler(size));
        let mut bytes = Vec::new();
        let stamp_at = put_publish(&mut bytes, topic, qos, false, 1, &payload);
        let frame_len = bytes.len();
        let window = window
            .clamp(1, MAX_WINDOW)
            .min((MAX_RING / frame_len).max(1));
        bytes.reserve_exact(frame_len * (window - 1));
        for id in (2..=u16::MAX).take(window - 1) {
            put_publish(&mut bytes, topic, qos, false, id, &payload);
        }
        Self {
            bytes,
            frame_len,
            stamp_at,
            window,
        }
    }

    /// How many packets there are.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// The place of a packet id.
    pub(crate) fn place(&self, id: u16) -> Option<usize> {
        usize::from(id)
            .checked_sub(1)
            .filter(|&place| place < self.window)
    }

    /// Writes a stamp into the packet at `place`.
    pub(crate) fn stamp(&mut self, place: usize, stamp: &Stamp) {
        let at = place * self.frame_len + self.stamp_at;
        if let Some(bytes) = self.bytes.get_mut(at..at + STAMP_LEN) {
            bytes.copy_from_slice(&stamp.to_bytes());
        }
    }

    /// The bytes of `count` packets from `place` on.
    pub(crate) fn bytes(&self, place: usize, count: usize) -> &[u8] {
        self.bytes
            .get(place * self.frame_len..(place + count) * self.frame_len)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, decode};

    #[test]
    fn every_place_is_a_publish_of_its_own_id_and_stamp() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let mut frames = Frames::new("a/b", qos, 100, 3);
            for place in 0..3 {
                frames.stamp(
                    place,
                    &Stamp {
                        run: 1,
                        publisher: 2,
                        sequence: place as u64,
                        sent: 3,
                    },
                );
            }
            let mut bytes = frames.bytes(0, 3);
            for place in 0..3_u16 {
                let (packet, length) = decode(bytes).unwrap().unwrap();
                let Packet::Publish {
                    topic: b"a/b",
                    id,
                    payload,
                } = packet
                else {
                    panic!("{packet:?}")
                };
                assert_eq!(id, (qos == Qos::AtLeastOnce).then_some(place + 1));
                let (stamp, rest) = Stamp::split(payload).unwrap();
                assert_eq!(
                    stamp,
                    Stamp {
                        run: 1,
                        publisher: 2,
                        sequence: u64::from(place),
                        sent: 3
                    }
                );
                assert_eq!(rest, filler(100));
                assert_eq!(frames.place(place + 1), Some(usize::from(place)));
                bytes = &bytes[length..];
            }
            assert!(bytes.is_empty());
            assert_eq!((frames.place(0), frames.place(4)), (None, None));
        }
    }

    #[test]
    fn a_window_never_takes_more_memory_than_allowed() {
        let frames = Frames::new("a/b", Qos::AtLeastOnce, 1024 * 1024, MAX_WINDOW);
        assert!(frames.window() <= 63 && frames.bytes.len() <= MAX_RING);
    }
}
