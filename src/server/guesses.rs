//! Wrong keys, by the address that they come from: they are counted, logged, and slowed down.
//!
//! An address may send some wrong keys; further ones count by the second. From an address that has shown the right key of
//! late, and from this machine, the right key is taken at once whatever else comes from there, and only the answers to
//! wrong ones are held back. From any other address, keys beyond those are not even compared: an answer to the right one
//! would tell it as well as the lack of one does.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many wrong keys an address may send at once. Who mistypes a key needs no more.
const FREE: u32 = 10;
/// How often it may send one after those.
const EACH: Duration = Duration::from_secs(1);
/// How long the answer to one is held back at most.
const LONGEST: Duration = Duration::from_secs(10);
/// How long an address is known for one that has the right key.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// How many addresses of either kind are remembered.
const MOST: usize = 4096;
/// How often an address is logged again, unless it is ten times as many keys.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How many lines of log there are in such a time, from however many addresses.
const MOST_LINES: u32 = 60;

/// What came from where.
#[derive(Default)]
pub(super) struct Guesses(Mutex<Table>);

#[derive(Default)]
struct Table {
    wrong: HashMap<IpAddr, Wrong>,
    right: HashMap<IpAddr, Instant>,
    lines: u32,
    lines_since: Option<Instant>,
}

/// The wrong keys of an address.
struct Wrong {
    /// By then all of them have used up their time.
    due: Instant,
    count: u64,
    logged: Instant,
    logged_count: u64,
}

impl Guesses {
    /// Whether a key from `address` is to be compared at all. If not: how long until one is.
    pub(super) fn may_try(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let (address, table) = (network(address), self.lock());
        let is_known = table.right.get(&address).is_some_and(|last| now.duration_since(*last) < KNOWN_FOR);
        let Some(wrong) = table.wrong.get(&address).filter(|_| !is_known && !address.is_loopback()) else {
            return Ok(());
        };
        let wait = (wrong.due + EACH).saturating_duration_since(now + EACH * FREE);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// The right key has come from `address`.
    pub(super) fn was_right(&self, address: IpAddr, now: Instant) {
        let mut table = self.lock();
        make_room(&mut table.right, |last| *last);
        table.right.insert(network(address), now);
    }

    /// A wrong key has come from `address`. How long to hold its answer back, and how many came from there where that is
    /// to be logged.
    pub(super) fn was_wrong(&self, address: IpAddr, now: Instant) -> (Duration, Option<u64>) {
        let (address, mut table) = (network(address), self.lock());
        if !table.wrong.contains_key(&address) {
            make_room(&mut table.wrong, |wrong| wrong.due);
        }
        let wrong = table.wrong.entry(address).or_insert(Wrong { due: now, count: 0, logged: now, logged_count: 0 });
        let free = now + EACH * FREE;
        wrong.due = (wrong.due.max(now) + EACH).min(free + LONGEST);
        let wait = wrong.due.saturating_duration_since(free);
        (wait, table.count(address, now))
    }

    /// A key from `address` was not compared. How many were refused where that is to be logged.
    pub(super) fn was_not_tried(&self, address: IpAddr, now: Instant) -> Option<u64> {
        self.lock().count(network(address), now)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock()
    }
}

impl Table {
    /// Counts one more. How many there are where that is to be logged.
    fn count(&mut self, address: IpAddr, now: Instant) -> Option<u64> {
        let wrong = self.wrong.get_mut(&address)?;
        wrong.count += 1;
        let is_due = wrong.count >= 10 * wrong.logged_count || now.duration_since(wrong.logged) >= LOG_EVERY;
        if self.lines_since.is_none_or(|since| now.duration_since(since) >= LOG_EVERY) {
            (self.lines, self.lines_since) = (0, Some(now));
        }
        if !is_due || self.lines >= MOST_LINES {
            return None;
        }
        self.lines += 1;
        (wrong.logged, wrong.logged_count) = (now, wrong.count);
        Some(wrong.count)
    }
}

/// The address under which a key counts: who has one IPv6 address has 2^64 of them as a rule.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// Forgets the entry that is oldest by `when`, where there are too many.
fn make_room<K: Copy + Eq + Hash, V>(entries: &mut HashMap<K, V>, when: impl Fn(&V) -> Instant) {
    if entries.len() >= MOST
        && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| when(entry)).map(|(key, _)| *key)
    {
        entries.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stranger_may_send_ten_wrong_keys_and_then_one_a_second() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let stranger: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..FREE {
            assert_eq!(guesses.may_try(stranger, now), Ok(()));
            assert_eq!(guesses.was_wrong(stranger, now).0, Duration::ZERO);
        }
        assert_eq!(guesses.may_try(stranger, now), Err(SECOND));
        assert_eq!(guesses.may_try("192.0.2.2".parse().unwrap(), now), Ok(()), "another is spared");
        assert_eq!(guesses.may_try(stranger, now + SECOND), Ok(()));
        guesses.was_wrong(stranger, now + SECOND);
        assert_eq!(guesses.may_try(stranger, now + SECOND), Err(SECOND));
        assert_eq!(guesses.may_try(stranger, now + 12 * SECOND), Ok(()));
    }

    #[test]
    fn from_this_machine_and_known_addresses_the_right_key_is_always_taken() {
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.1"].map(|it| it.parse().unwrap()) {
            let (guesses, now) = (Guesses::default(), Instant::now());
            guesses.was_right(address, now);
            let waits: Vec<_> = (0..30).map(|_| guesses.was_wrong(address, now).0.as_secs()).collect();
            assert_eq!((waits[9], waits[10], waits[15], waits[29]), (0, 1, 6, 10), "{address}");
            assert_eq!(guesses.may_try(address, now), Ok(()));
            let later = now + KNOWN_FOR;
            for _ in 0..=FREE {
                guesses.was_wrong(address, later);
            }
            assert_eq!(guesses.may_try(address, later).is_ok(), network(address).is_loopback(), "{address}");
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for host in 0..FREE {
            guesses.was_wrong(format!("2001:db8::{host}").parse().unwrap(), now);
        }
        assert!(guesses.may_try("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert!(guesses.may_try("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn memory_and_log_have_a_bound() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let lines = (0..2 * u32::try_from(MOST).unwrap()).filter(|n| guesses.was_wrong(address(*n), now).1.is_some());
        assert_eq!(lines.count(), MOST_LINES as usize);
        assert_eq!(guesses.lock().wrong.len(), MOST);

        let (guesses, stranger) = (Guesses::default(), address(1));
        let logged: Vec<_> = (0..1000).filter_map(|_| guesses.was_wrong(stranger, now).1).collect();
        assert_eq!(logged, [1, 10, 100, 1000]);
        assert_eq!(guesses.was_wrong(stranger, now + LOG_EVERY).1, Some(1001));
        assert_eq!(guesses.was_not_tried(stranger, now + 2 * LOG_EVERY), Some(1002));
    }
}
