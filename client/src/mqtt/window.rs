//! Publishes on their way to the broker, in order: waiting, written, acknowledged. No sockets here.

use std::collections::{BTreeMap, VecDeque};

/// How many unacknowledged publishes are with the broker at once. Few, so that little is sent again after a loss, and
/// enough for a burst to fill the way to a broker that syncs its disk before it answers.
const MAX_IN_FLIGHT: u16 = 16;
/// After so many lost connections with one publish in flight, it is given up: it may be what loses them.
const MAX_ATTEMPTS: u32 = 3;

/// The order in which things were published.
type Order = u64;

/// Entries of type `P`, identified by packet id while they are in flight.
#[derive(Debug)]
pub(super) struct Window<P> {
    next_order: Order,
    limit: u16,
    waiting: VecDeque<Entry<P>>,
    in_flight: BTreeMap<u16, Entry<P>>,
}

#[derive(Debug)]
struct Entry<P> {
    order: Order,
    attempts: u32,
    publish: P,
    /// Under which packet id it was written before, in the session that goes on.
    written_as: Option<u16>,
}

/// A publish to be written now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write<P> {
    pub(super) packet_id: u16,
    /// Whether the broker may have it already (DUP).
    pub(super) duplicate: bool,
    pub(super) publish: P,
}

impl<P: Clone> Window<P> {
    pub(super) fn new() -> Window<P> {
        Window {
            next_order: 0,
            limit: MAX_IN_FLIGHT,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// Connected, to a broker that takes so many unacknowledged publishes. If it has lost the session, what was written
    /// before is new to it; otherwise it goes again under its packet id and marked as such (MQTT 5, section 4.4).
    pub(super) fn connected(&mut self, receive_maximum: u16, session_present: bool) {
        self.limit = receive_maximum.clamp(1, MAX_IN_FLIGHT);
        if !session_present {
            for entry in &mut self.waiting {
                entry.written_as = None;
            }
        }
    }

    pub(super) fn push(&mut self, publish: P) {
        let order = self.next_order;
        self.next_order += 1;
        self.waiting.push_back(Entry {
            order,
            attempts: 0,
            publish,
            written_as: None,
        });
    }

    /// The next one to write, if the broker may have one more.
    pub(super) fn next(&mut self) -> Option<Write<P>> {
        if self.in_flight.len() >= usize::from(self.limit) {
            return None;
        }
        let mut entry = self.waiting.pop_front()?;
        let duplicate = entry.written_as.is_some();
        // What went out before the loss goes first, so its ids are free; others take what those leave.
        let packet_id = entry.written_as.or_else(|| self.free_id())?;
        entry.attempts += 1;
        entry.written_as = Some(packet_id);
        let publish = entry.publish.clone();
        self.in_flight.insert(packet_id, entry);
        Some(Write {
            packet_id,
            duplicate,
            publish,
        })
    }

    fn free_id(&self) -> Option<u16> {
        let taken = |id: &u16| {
            self.in_flight.contains_key(id)
                || self
                    .waiting
                    .iter()
                    .any(|entry| entry.written_as == Some(*id))
        };
        // A waiting entry has an id only after a loss, and those are no more than were in flight.
        (1..=2 * MAX_IN_FLIGHT + 1).find(|id| !taken(id))
    }

    /// The broker answered, or it does not go after all.
    pub(super) fn done(&mut self, packet_id: u16) -> Option<P> {
        self.in_flight.remove(&packet_id).map(|entry| entry.publish)
    }

    /// The connection is gone: everything unanswered waits again, in its order. Returns what is given up.
    pub(super) fn lost(&mut self) -> Vec<P> {
        let mut back: Vec<Entry<P>> = std::mem::take(&mut self.in_flight)
            .into_values()
            .chain(self.waiting.drain(..))
            .collect();
        back.sort_by_key(|entry| entry.order);
        let (given_up, waiting): (Vec<_>, Vec<_>) = back
            .into_iter()
            .partition(|entry| entry.attempts >= MAX_ATTEMPTS);
        self.waiting = waiting.into();
        given_up.into_iter().map(|entry| entry.publish).collect()
    }

    /// Whether the broker has answered everything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}

/// The packet ids of everything that is not a publish begin here, so that the two never meet.
pub(super) const FIRST_OTHER_ID: u16 = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;

    fn window(n: u32) -> Window<u32> {
        let mut window = Window::new();
        (0..n).for_each(|i| window.push(i));
        window
    }

    fn drain(window: &mut Window<u32>) -> Vec<(u16, bool, u32)> {
        std::iter::from_fn(|| window.next())
            .map(|write| (write.packet_id, write.duplicate, write.publish))
            .collect()
    }

    fn published(writes: &[(u16, bool, u32)]) -> Vec<u32> {
        writes.iter().map(|write| write.2).collect()
    }

    #[test]
    fn no_more_is_in_flight_than_the_broker_takes() {
        let mut window = window(40);
        window.connected(u16::MAX, false);
        let first = drain(&mut window);
        assert_eq!(first.len(), usize::from(MAX_IN_FLIGHT));
        assert_eq!(first[0], (1, false, 0));
        assert_eq!(window.next(), None);
        assert_eq!(window.done(1), Some(0));
        assert_eq!(drain(&mut window), [(1, false, 16)]);

        let mut small = super::tests::window(5);
        small.connected(2, false);
        assert_eq!(published(&drain(&mut small)), [0, 1]);
    }

    #[test]
    fn in_the_same_session_what_is_unanswered_goes_again_as_what_it_was() {
        let mut window = window(5);
        window.connected(3, false);
        assert_eq!(
            drain(&mut window),
            [(1, false, 0), (2, false, 1), (3, false, 2)]
        );
        assert_eq!(window.done(2), Some(1));
        assert_eq!(window.lost(), [0_u32; 0]);
        window.connected(u16::MAX, true);
        assert_eq!(
            drain(&mut window),
            [(1, true, 0), (3, true, 2), (2, false, 3), (4, false, 4)]
        );
    }

    #[test]
    fn in_a_new_session_nothing_is_a_duplicate() {
        let mut window = window(3);
        window.connected(2, false);
        assert_eq!(published(&drain(&mut window)), [0, 1]);
        assert_eq!(window.done(1), Some(0));
        assert_eq!(window.lost(), [0_u32; 0]);
        window.connected(2, false);
        assert_eq!(drain(&mut window), [(1, false, 1), (2, false, 2)]);
    }

    #[test]
    fn a_publish_that_loses_every_connection_is_given_up() {
        let mut window = window(2);
        for _ in 0..MAX_ATTEMPTS - 1 {
            window.connected(1, true);
            assert_eq!(published(&drain(&mut window)), [0]);
            assert_eq!(window.lost(), [0_u32; 0]);
        }
        window.connected(1, true);
        assert_eq!(published(&drain(&mut window)), [0]);
        assert_eq!(window.lost(), [0]);
        assert_eq!(published(&drain(&mut window)), [1]);
    }

    #[test]
    fn an_acknowledgement_of_nothing_is_ignored() {
        let mut window = window(1);
        assert_eq!(window.done(3), None);
        assert!(!window.is_empty());
        let write = window.next().unwrap();
        assert_eq!(window.done(write.packet_id), Some(0));
        assert_eq!(window.done(write.packet_id), None);
        assert!(window.is_empty());
    }

    #[test]
    fn packet_ids_never_meet_those_of_subscriptions() {
        let mut window = window(10_000);
        let mut most = 0;
        for round in 0..200 {
            window.connected(u16::MAX, round % 3 == 0);
            let writes = drain(&mut window);
            most = most.max(writes.iter().map(|write| write.0).max().unwrap_or(0));
            for write in writes.iter().step_by(2) {
                window.done(write.0).unwrap();
            }
            window.lost();
        }
        assert!(most < FIRST_OTHER_ID, "{most}");
    }
}
