//! How often somebody may guess.
//!
//! Wrong passwords are counted for each pair of user and address, for each address and for each user. Each count has some
//! failures free; from then on every further one doubles the wait until the next guess is looked at. So guessing is slow
//! from one address, over all users from one address, and at one user from many addresses; and whoever has signed in from
//! an address before is not locked out there by what others do elsewhere.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sealpost_core::UserId;

/// Counts are forgotten this long after the last failure.
const FORGET: Duration = Duration::from_secs(15 * 60);

/// Entries of each table, about 100 bytes each. One more takes the place of some other: guessing from very many addresses
/// at very many users is then bounded by what the password desk looks at in a second.
const ENTRIES: usize = 16 * 1024;

/// Failures that cost nothing, and the longest wait.
struct Leniency {
    free: u32,
    longest: Duration,
}

const PAIR: Leniency = Leniency {
    free: 5,
    longest: Duration::from_secs(5 * 60),
};
/// Many devices may share an address.
const ADDRESS: Leniency = Leniency {
    free: 20,
    longest: Duration::from_secs(60),
};
/// Shorter than for an address, so that nobody is locked out for long by others' guesses.
const USER: Leniency = Leniency {
    free: 50,
    longest: Duration::from_secs(30),
};

/// Where somebody comes from, as far as a guesser cannot choose it at will: the address, or the /64 network that one IPv6
/// subscriber has to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        Network(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(network.into())
            }
        })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Strikes {
    count: u32,
    last: Instant,
    /// Whether a guess from here was right before.
    trusted: bool,
}

#[derive(Debug)]
struct Table<K>(HashMap<K, Strikes>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Table(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn wait(&self, key: &K, leniency: &Leniency, now: Instant) -> Duration {
        let Some(strikes) = self.0.get(key) else {
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(strikes.last);
        if since >= FORGET || strikes.count < leniency.free {
            return Duration::ZERO;
        }
        // Beyond 2^16 seconds every wait is the longest.
        let doublings = (strikes.count - leniency.free).min(16);
        let wait = Duration::from_secs(1 << doublings).min(leniency.longest);
        wait.saturating_sub(since)
    }

    fn strike(&mut self, key: &K, now: Instant) {
        if !self.0.contains_key(key) && self.0.len() >= ENTRIES {
            self.make_room(now);
        }
        let strikes = self.0.entry(key.clone()).or_insert(Strikes {
            count: 0,
            last: now,
            trusted: false,
        });
        if now.saturating_duration_since(strikes.last) >= FORGET {
            strikes.count = 0;
        }
        strikes.count = strikes.count.saturating_add(1);
        strikes.last = now;
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, strikes| {
            strikes.trusted || now.saturating_duration_since(strikes.last) < FORGET
        });
        if self.0.len() >= ENTRIES {
            let some = self.0.keys().next().cloned();
            if let Some(some) = some {
                self.0.remove(&some);
            }
        }
    }

    fn take_back(&mut self, key: &K) {
        if let Some(strikes) = self.0.get_mut(key) {
            strikes.count = strikes.count.saturating_sub(1);
        }
    }

    fn is_trusted(&self, key: &K) -> bool {
        self.0.get(key).is_some_and(|strikes| strikes.trusted)
    }
}

#[derive(Debug, Default)]
struct Tables {
    pairs: Table<(UserId, Network)>,
    networks: Table<Network>,
    users: Table<UserId>,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Tables>);

/// A guess comes too soon after others that were wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSoon {
    /// How long to wait.
    pub wait: Duration,
}

impl Throttle {
    /// Before a guess is looked at. It counts as wrong from now on, so that many at once gain nothing; say
    /// [`Throttle::was_right`] if it was right.
    ///
    /// # Errors
    /// [`TooSoon`]; the guess is then not looked at, and not counted.
    pub fn may_guess(&self, user: &UserId, network: Network, now: Instant) -> Result<(), TooSoon> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (user.clone(), network);
        let mut wait = tables
            .pairs
            .wait(&pair, &PAIR, now)
            .max(tables.networks.wait(&network, &ADDRESS, now));
        if !tables.pairs.is_trusted(&pair) {
            wait = wait.max(tables.users.wait(user, &USER, now));
        }
        if !wait.is_zero() {
            return Err(TooSoon { wait });
        }
        tables.pairs.strike(&pair, now);
        tables.networks.strike(&network, now);
        tables.users.strike(user, now);
        Ok(())
    }

    /// The guess was right.
    pub fn was_right(&self, user: &UserId, network: Network) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.networks.take_back(&network);
        tables.users.take_back(user);
        if let Some(strikes) = tables.pairs.0.get_mut(&(user.clone(), network)) {
            strikes.count = 0;
            strikes.trusted = true;
        }
    }

    /// The guess was not looked at after all.
    pub fn was_not_checked(&self, user: &UserId, network: Network) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.pairs.take_back(&(user.clone(), network));
        tables.networks.take_back(&network);
        tables.users.take_back(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn network(last: u8) -> Network {
        Network::from(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn each_wrong_guess_after_the_fifth_doubles_the_wait() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let guess = |at: u64| {
            throttle.may_guess(&user("alice"), network(1), start + Duration::from_secs(at))
        };
        for _ in 0..5 {
            guess(0).unwrap();
        }
        assert_eq!(
            guess(0),
            Err(TooSoon {
                wait: Duration::from_secs(1)
            })
        );
        guess(1).unwrap();
        assert_eq!(
            guess(1),
            Err(TooSoon {
                wait: Duration::from_secs(2)
            })
        );
        guess(3).unwrap();
        assert!(guess(6).is_err());
        guess(7).unwrap();
        // Much later all is forgotten.
        for _ in 0..5 {
            guess(7 + 15 * 60).unwrap();
        }
    }

    #[test]
    fn a_right_guess_starts_anew() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..100 {
            throttle.may_guess(&user("alice"), network(1), now).unwrap();
            throttle.was_right(&user("alice"), network(1));
        }
    }

    #[test]
    fn guesses_at_one_user_from_many_addresses_are_slowed_but_not_where_the_user_was_before() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let alice = user("alice");
        throttle.may_guess(&alice, network(250), now).unwrap();
        throttle.was_right(&alice, network(250));
        let looked_at = (0..200)
            .filter(|last| throttle.may_guess(&alice, network(*last), now).is_ok())
            .count();
        assert_eq!(looked_at, 50);
        assert!(throttle.may_guess(&alice, network(251), now).is_err());
        throttle.may_guess(&alice, network(250), now).unwrap();
        throttle.may_guess(&user("bob"), network(251), now).unwrap();
    }

    #[test]
    fn guesses_at_many_users_from_one_address_are_slowed() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let looked_at = (0..100)
            .filter(|number| {
                throttle
                    .may_guess(&user(&format!("u{number}")), network(1), now)
                    .is_ok()
            })
            .count();
        assert_eq!(looked_at, 20);
    }

    #[test]
    fn an_ipv6_guesser_cannot_walk_through_a_network_of_their_own() {
        let (one, other): (IpAddr, IpAddr) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::ffff:1".parse().unwrap(),
        );
        assert_eq!(Network::from(one), Network::from(other));
        assert_eq!(Network::from(one).to_string(), "2001:db8::/64");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(Network::from(mapped), network(1));
    }

    #[test]
    fn the_tables_stay_bounded() {
        let mut table = Table::default();
        let now = Instant::now();
        for number in 0..ENTRIES + 100 {
            table.strike(&number, now);
        }
        assert!(table.0.len() <= ENTRIES);
    }
}
