//! Publishes on their way to the broker, in order: waiting, written, acknowledged. No sockets here.

use std::collections::{BTreeMap, VecDeque};

/// How many unacknowledged publishes are with the broker at once. Small enough to stay below every broker's receive
/// maximum, so that the MQTT library's own limits never close the way for acknowledgements.
const MAX_IN_FLIGHT: usize = 16;
/// After so many lost connections with one publish in flight, it is given up: it may be what loses them.
const MAX_ATTEMPTS: u32 = 3;

/// The order in which things were published.
type Order = u64;

/// Entries of type `P`, identified by packet id while they are in flight.
#[derive(Debug)]
pub(super) struct Window<P> {
    next_order: Order,
    limit: usize,
    waiting: VecDeque<Entry<P>>,
    /// Handed to the MQTT library, which has not said under which packet id it wrote them.
    handed_over: VecDeque<Entry<P>>,
    in_flight: BTreeMap<u16, Entry<P>>,
}

#[derive(Debug)]
struct Entry<P> {
    order: Order,
    attempts: u32,
    publish: P,
}

impl<P: Clone> Window<P> {
    pub(super) fn new() -> Window<P> {
        Window {
            next_order: 0,
            limit: MAX_IN_FLIGHT,
            waiting: VecDeque::new(),
            handed_over: VecDeque::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// What the broker said at connecting: never more in flight than that.
    pub(super) fn set_receive_maximum(&mut self, maximum: Option<u16>) {
        self.limit = maximum.map_or(MAX_IN_FLIGHT, |maximum| {
            usize::from(maximum.max(1)).min(MAX_IN_FLIGHT)
        });
    }

    pub(super) fn push(&mut self, publish: P) {
        let order = self.next_order;
        self.next_order += 1;
        self.waiting.push_back(Entry {
            order,
            attempts: 0,
            publish,
        });
    }

    /// The next one to hand to the library, if the broker may have one more.
    pub(super) fn hand_over(&mut self) -> Option<P> {
        if self.handed_over.len() + self.in_flight.len() >= self.limit {
            return None;
        }
        let mut entry = self.waiting.pop_front()?;
        entry.attempts += 1;
        let publish = entry.publish.clone();
        self.handed_over.push_back(entry);
        Some(publish)
    }

    /// The one handed over last does not go after all.
    pub(super) fn take_back(&mut self) {
        self.handed_over.pop_back();
    }

    /// The library wrote the oldest handed-over one under this packet id.
    pub(super) fn written(&mut self, packet_id: u16) {
        if let Some(entry) = self.handed_over.pop_front() {
            self.in_flight.insert(packet_id, entry);
        }
    }

    /// The broker answered.
    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<P> {
        self.in_flight.remove(&packet_id).map(|entry| entry.publish)
    }

    /// The connection is gone: everything unanswered waits again, in its order. Returns what is given up.
    pub(super) fn lost(&mut self) -> Vec<P> {
        let mut back: Vec<Entry<P>> = std::mem::take(&mut self.in_flight)
            .into_values()
            .chain(self.handed_over.drain(..))
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
        self.waiting.is_empty() && self.handed_over.is_empty() && self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(n: u32) -> Window<u32> {
        let mut window = Window::new();
        (0..n).for_each(|i| window.push(i));
        window
    }

    fn drain(window: &mut Window<u32>) -> Vec<u32> {
        std::iter::from_fn(|| window.hand_over()).collect()
    }

    #[test]
    fn no_more_is_in_flight_than_the_broker_takes() {
        let mut window = window(40);
        assert_eq!(drain(&mut window).len(), MAX_IN_FLIGHT);
        window.written(1);
        assert_eq!(window.hand_over(), None);
        assert_eq!(window.acknowledged(1), Some(0));
        assert_eq!(window.hand_over(), Some(16));

        let mut small = super::tests::window(5);
        small.set_receive_maximum(Some(2));
        assert_eq!(drain(&mut small), [0, 1]);
        small.set_receive_maximum(Some(0));
        assert_eq!(drain(&mut small), [0_u32; 0]);
    }

    #[test]
    fn after_a_lost_connection_everything_unanswered_goes_again_in_order() {
        let mut window = window(5);
        window.set_receive_maximum(Some(3));
        assert_eq!(drain(&mut window), [0, 1, 2]);
        window.written(7);
        window.written(8);
        // The second was answered before the first, the third not even written.
        assert_eq!(window.acknowledged(8), Some(1));
        assert_eq!(window.lost(), [0_u32; 0]);
        window.set_receive_maximum(None);
        assert_eq!(drain(&mut window), [0, 2, 3, 4]);
    }

    #[test]
    fn a_publish_that_loses_every_connection_is_given_up() {
        let mut window = window(2);
        window.set_receive_maximum(Some(1));
        for _ in 0..MAX_ATTEMPTS - 1 {
            assert_eq!(drain(&mut window), [0]);
            assert_eq!(window.lost(), [0_u32; 0]);
        }
        assert_eq!(drain(&mut window), [0]);
        assert_eq!(window.lost(), [0]);
        assert_eq!(drain(&mut window), [1]);
    }

    #[test]
    fn an_acknowledgement_of_nothing_is_ignored() {
        let mut window = window(1);
        assert_eq!(window.acknowledged(3), None);
        window.written(3);
        assert_eq!(window.acknowledged(3), None);
        assert!(!window.is_empty());
        window.hand_over();
        window.written(3);
        assert_eq!(window.acknowledged(3), Some(0));
        assert!(window.is_empty());
    }
}
