//! How much one address and one user may do: connections, and messages and bytes a second.
//!
//! Whoever is over the limit of messages or bytes is not refused anything: the broker reads on when the rate allows it, and
//! TCP tells the client to wait. Connections beyond the limit are turned away.

pub mod bucket;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::access::throttle::Network;
use bucket::{Bucket, Rate};

/// Addresses, and users, that are told apart; each takes some 250 bytes. Beyond that, newcomers share one allowance until
/// earlier ones are forgotten. Who is below every limit and not connected is forgotten.
const MAX_ENTRIES: usize = 64 * 1024;

/// Entries at which a table is looked over for the first time.
const LOOK_OVER_AT: usize = 1024;

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1024 * 1024;

/// Limits for one address; an IPv6 /64 network counts as one. 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AddressLimits {
    /// Connections at once.
    pub connections: usize,
    /// Connections a minute.
    pub connects: u32,
    /// Packets a second, acknowledgements not counted, of all connections together.
    pub messages: u32,
    /// Bytes a second of all connections together.
    pub bytes: u64,
    /// Whether loopback is limited too. Programs of this machine, and a proxy on it, share that address.
    pub loopback: bool,
}

impl Default for AddressLimits {
    fn default() -> Self {
        // A house or an office behind one address fits many times over.
        AddressLimits {
            connections: 1_000,
            connects: 600,
            messages: 100_000,
            bytes: 128 * MIB,
            loopback: false,
        }
    }
}

/// Limits for one user. 0 means no limit. (How many connections: as many as sessions.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserLimits {
    /// Logins a minute.
    pub connects: u32,
    /// Packets a second, acknowledgements not counted, of all connections together.
    pub messages: u32,
    /// Bytes a second of all connections together.
    pub bytes: u64,
}

impl Default for UserLimits {
    fn default() -> Self {
        // Several times what one machine can seal.
        UserLimits {
            connects: 600,
            messages: 50_000,
            bytes: 64 * MIB,
        }
    }
}

/// Why somebody may not connect now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// As many connections as one may have at once.
    #[error("too many connections at once")]
    Connections,
    /// As many as one may open in a minute.
    #[error("too many connections in the last minute; wait a little")]
    Connects,
}

#[derive(Debug, Clone, Copy)]
struct Rates {
    connections: usize,
    connects: Rate,
    messages: Rate,
    bytes: Rate,
}

/// The allowances of everybody.
#[derive(Debug)]
pub struct Allowances {
    loopback: bool,
    addresses: Table<Network>,
    users: Table<String>,
}

/// What one address or one user has left.
#[derive(Debug)]
struct Allowance {
    connections: AtomicUsize,
    left: Mutex<Left>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    connects: Bucket,
    messages: Bucket,
    bytes: Bucket,
}

impl Allowance {
    fn new(rates: &Rates, now: Instant) -> Allowance {
        Allowance {
            connections: AtomicUsize::new(0),
            left: Mutex::new(Left {
                connects: Bucket::full(rates.connects, now),
                messages: Bucket::full(rates.messages, now),
                bytes: Bucket::full(rates.bytes, now),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_untouched(&self, now: Instant) -> bool {
        let Left {
            connects,
            messages,
            bytes,
        } = *self.lock();
        self.connections.load(Ordering::Relaxed) == 0
            && [connects, messages, bytes]
                .iter()
                .all(|bucket| bucket.is_full(now))
    }
}

#[derive(Debug)]
struct Table<K> {
    rates: Rates,
    entries: Mutex<Entries<K>>,
}

#[derive(Debug)]
struct Entries<K> {
    known: HashMap<K, Arc<Allowance>>,
    look_over_at: usize,
    /// For all who find no place in a full table.
    others: Option<Arc<Allowance>>,
}

impl<K: Hash + Eq> Table<K> {
    fn new(rates: Rates) -> Table<K> {
        Table {
            rates,
            entries: Mutex::new(Entries {
                known: HashMap::new(),
                look_over_at: LOOK_OVER_AT,
                others: None,
            }),
        }
    }

    /// Counts a connection, if there is one left.
    fn connect<Q>(&self, key: &Q, now: Instant) -> Result<Ration, TooMany>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = self.find(&mut entries, key, now);
        // Still under the table's lock, so that nobody is forgotten in between.
        if self.rates.connections > 0
            && allowance.connections.load(Ordering::Relaxed) >= self.rates.connections
        {
            return Err(TooMany::Connections);
        }
        let mut left = allowance.lock();
        if !left.connects.is_ready(now) {
            return Err(TooMany::Connects);
        }
        left.connects.take(1, now);
        drop(left);
        allowance.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Ration(Some(allowance)))
    }

    fn find<Q>(&self, entries: &mut Entries<K>, key: &Q, now: Instant) -> Arc<Allowance>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(known) = entries.known.get(key) {
            return Arc::clone(known);
        }
        if entries.known.len() >= entries.look_over_at {
            entries
                .known
                .retain(|_, allowance| !allowance.is_untouched(now));
            // Half as many newcomers again before the next look, so that looking costs each little.
            let next = entries.known.len() + entries.known.len() / 2;
            entries.look_over_at = next.clamp(LOOK_OVER_AT, MAX_ENTRIES);
        }
        let new = || Arc::new(Allowance::new(&self.rates, now));
        if entries.known.len() >= MAX_ENTRIES {
            return Arc::clone(entries.others.get_or_insert_with(new));
        }
        let allowance = new();
        entries.known.insert(key.to_owned(), Arc::clone(&allowance));
        allowance
    }
}

/// A connection's part in an allowance. Dropping it ends the connection's count.
#[derive(Debug)]
pub struct Ration(Option<Arc<Allowance>>);

impl Ration {
    /// The part of somebody who has no limits.
    #[must_use]
    pub fn unlimited() -> Ration {
        Ration(None)
    }
}

impl Drop for Ration {
    fn drop(&mut self) {
        if let Some(allowance) = &self.0 {
            allowance.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Allowances {
    /// Nobody has taken anything yet.
    #[must_use]
    pub fn new(address: AddressLimits, user: UserLimits) -> Allowances {
        let rate = |units: u64, period| Rate { units, period };
        Allowances {
            loopback: address.loopback,
            addresses: Table::new(Rates {
                connections: address.connections,
                connects: rate(address.connects.into(), MINUTE),
                messages: rate(address.messages.into(), SECOND),
                bytes: rate(address.bytes, SECOND),
            }),
            users: Table::new(Rates {
                connections: 0,
                connects: rate(user.connects.into(), MINUTE),
                messages: rate(user.messages.into(), SECOND),
                bytes: rate(user.bytes, SECOND),
            }),
        }
    }

    /// A connection from an address.
    ///
    /// # Errors
    /// [`TooMany`] when it has to be turned away.
    pub fn arrive(&self, address: IpAddr) -> Result<Ration, TooMany> {
        if address.to_canonical().is_loopback() && !self.loopback {
            return Ok(Ration::unlimited());
        }
        let network = Network::from(address);
        self.addresses.connect(&network, Instant::now())
    }

    /// A login. `owner`: whose sessions the connection's are; nobody's on an open broker, which limits no users.
    ///
    /// # Errors
    /// [`TooMany::Connects`].
    pub fn log_in(&self, owner: &str) -> Result<Ration, TooMany> {
        if owner.is_empty() {
            return Ok(Ration::unlimited());
        }
        self.users.connect(owner, Instant::now())
    }
}

/// How fast one connection is read: as its address and its user allow.
#[derive(Debug)]
pub struct Pace {
    address: Ration,
    user: Ration,
}

impl Pace {
    /// The pace that both parts allow.
    #[must_use]
    pub fn new(address: Ration, user: Ration) -> Pace {
        Pace { address, user }
    }

    fn allowances(&self) -> impl Iterator<Item = &Allowance> {
        [&self.address, &self.user]
            .into_iter()
            .filter_map(|ration| ration.0.as_deref())
    }

    /// Counts bytes that were read.
    pub fn take_bytes(&self, bytes: usize) {
        for allowance in self.allowances() {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            allowance.lock().bytes.take(bytes, Instant::now());
        }
    }

    /// Counts packets.
    pub fn take_messages(&self, messages: usize) {
        for allowance in self.allowances() {
            let messages = u64::try_from(messages).unwrap_or(u64::MAX);
            allowance.lock().messages.take(messages, Instant::now());
        }
    }

    /// Until when nothing more is to be read; `None` when it may go on at once.
    #[must_use]
    pub fn pauses_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let ready = self.allowances().map(|allowance| {
            let left = *allowance.lock();
            left.messages.ready_at(now).max(left.bytes.ready_at(now))
        });
        ready.max().filter(|ready| *ready > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn limits(connections: usize, connects: u32) -> Allowances {
        let address = AddressLimits {
            connections,
            connects,
            messages: 10,
            bytes: 1_000,
            loopback: false,
        };
        let user = UserLimits {
            connects: 2,
            messages: 5,
            bytes: 0,
        };
        Allowances::new(address, user)
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_so_many_connections_and_no_other_is_held_up() {
        let limits = limits(2, 100);
        let first = limits.arrive(address(1)).unwrap();
        let _second = limits.arrive(address(1)).unwrap();
        assert_eq!(limits.arrive(address(1)).unwrap_err(), TooMany::Connections);
        let _other = limits.arrive(address(2)).unwrap();
        drop(first);
        limits.arrive(address(1)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_connects_so_often_in_a_minute() {
        let limits = limits(100, 3);
        for _ in 0..3 {
            limits.arrive(address(1)).unwrap();
        }
        assert_eq!(limits.arrive(address(1)).unwrap_err(), TooMany::Connects);
        advance(Duration::from_secs(20)).await;
        limits.arrive(address(1)).unwrap();
        assert!(limits.arrive(address(1)).is_err());
    }

    #[test]
    fn one_user_logs_in_so_often_and_an_open_broker_knows_no_users() {
        let limits = limits(0, 0);
        limits.log_in("alice").unwrap();
        limits.log_in("alice").unwrap();
        assert_eq!(limits.log_in("alice").unwrap_err(), TooMany::Connects);
        limits.log_in("bob").unwrap();
        for _ in 0..100 {
            limits.log_in("").unwrap();
        }
    }

    #[test]
    fn loopback_is_limited_only_if_the_settings_say_so() {
        let limits = limits(1, 1);
        for _ in 0..3 {
            for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
                limits.arrive(address.parse().unwrap()).unwrap();
            }
        }
        let strict = AddressLimits {
            connects: 1,
            loopback: true,
            ..AddressLimits::default()
        };
        let limits = Allowances::new(strict, UserLimits::default());
        limits.arrive("127.0.0.1".parse().unwrap()).unwrap();
        assert!(limits.arrive("127.0.0.1".parse().unwrap()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_one_user_share_what_is_left_and_go_on_when_there_is_more() {
        let limits = limits(0, 0);
        let pace = |last| {
            let address = limits.arrive(address(last)).unwrap();
            Pace::new(address, limits.log_in("alice").unwrap())
        };
        let (one, two) = (pace(1), pace(2));
        assert_eq!(one.pauses_until(), None);
        one.take_messages(3);
        two.take_messages(2);
        let until = one.pauses_until().unwrap();
        assert_eq!(Some(until), two.pauses_until());
        tokio::time::sleep_until(until).await;
        assert_eq!(one.pauses_until(), None);
        one.take_bytes(2_000);
        let until = one.pauses_until().unwrap();
        assert_eq!(until - Instant::now(), Duration::from_millis(1_001));
        assert_eq!(two.pauses_until(), None, "another address");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_forgotten_once_they_have_nothing_left_to_wait_for() {
        let limits = limits(10, 10);
        let known = || limits.addresses.entries.lock().unwrap().known.len();
        let visit = |number: u32| limits.arrive(IpAddr::from(number.to_be_bytes()));
        let _stays = visit(0x0a00_0000).unwrap();
        for number in 1..LOOK_OVER_AT as u32 {
            visit(0x0a00_0000 + number).unwrap();
        }
        assert_eq!(known(), LOOK_OVER_AT);
        advance(MINUTE).await;
        visit(0x0b00_0000).unwrap();
        assert_eq!(known(), 2, "the one that is connected, and the newcomer");
    }

    #[test]
    fn a_full_table_forgets_nobody_and_lets_newcomers_share() {
        let limits = limits(0, 2);
        for number in 0..MAX_ENTRIES as u32 {
            limits
                .arrive(IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
                .unwrap();
        }
        let newcomer = |last| limits.arrive(address(last));
        newcomer(1).unwrap();
        newcomer(2).unwrap();
        assert_eq!(newcomer(3).unwrap_err(), TooMany::Connects);
        let entries = limits.addresses.entries.lock().unwrap();
        assert_eq!(entries.known.len(), MAX_ENTRIES);
    }
}
