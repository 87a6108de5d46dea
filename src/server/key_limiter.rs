//! Rate limit for wrong API keys, by address.
//!
//! An address may send a burst of wrong keys; after that, one each second. If the address has recently sent the right key,
//! or is this machine, the right key is always accepted at once, and only the answers to wrong ones are delayed. For other
//! addresses over the limit, keys are not even compared, since any different answer would reveal the right one.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong keys that an address may send without delay: enough for typing errors.
const BURST: u32 = 10;
/// Interval of further wrong keys.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum delay of an answer.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// How long an address is trusted after it has sent the right key.
const TRUSTED_FOR: Duration = Duration::from_secs(3600);
/// Maximum number of addresses remembered, with wrong keys and with the right key each.
const MAX_ADDRESSES: usize = 4096;
/// Minimum interval between log lines for an address, unless its wrong keys are ten times as many.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Maximum number of log lines in this interval, for all addresses together.
const MAX_LOG_LINES: u32 = 60;

/// Keys received, by address.
#[derive(Default)]
pub(super) struct KeyLimiter(Mutex<KeyHistory>);

#[derive(Default)]
struct KeyHistory {
    wrong: HashMap<IpAddr, Failures>,
    right: HashMap<IpAddr, Instant>,
    lines: u32,
    lines_since: Option<Instant>,
}

/// The wrong keys of an address.
struct Failures {
    /// When the address is back to a full burst.
    due: Instant,
    count: u64,
    logged: Instant,
    logged_count: u64,
}

impl KeyLimiter {
    /// Checks whether a key from `address` may be compared. The error is the time until then.
    pub(super) fn check_address(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let (address, table) = (network(address), self.lock());
        let is_known = table.right.get(&address).is_some_and(|last| now.duration_since(*last) < TRUSTED_FOR);
        let Some(wrong) = table.wrong.get(&address).filter(|_| !is_known && !address.is_loopback()) else {
            return Ok(());
        };
        let wait = (wrong.due + INTERVAL).saturating_duration_since(now + INTERVAL * BURST);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Records the right key from `address`.
    pub(super) fn record_success(&self, address: IpAddr, now: Instant) {
        let mut table = self.lock();
        make_room(&mut table.right, |last| *last);
        table.right.insert(network(address), now);
    }

    /// Records a wrong key from `address`. Returns how long to delay the answer, and the number of wrong keys if it should
    /// be logged.
    pub(super) fn record_failure(&self, address: IpAddr, now: Instant) -> (Duration, Option<u64>) {
        let (address, mut table) = (network(address), self.lock());
        if !table.wrong.contains_key(&address) {
            make_room(&mut table.wrong, |wrong| wrong.due);
        }
        let wrong = table.wrong.entry(address).or_insert(Failures { due: now, count: 0, logged: now, logged_count: 0 });
        let free = now + INTERVAL * BURST;
        wrong.due = (wrong.due.max(now) + INTERVAL).min(free + MAX_DELAY);
        let wait = wrong.due.saturating_duration_since(free);
        (wait, table.count(address, now))
    }

    /// Records a key from `address` that was not compared. Returns the number of wrong keys if it should be logged.
    pub(super) fn record_blocked(&self, address: IpAddr, now: Instant) -> Option<u64> {
        self.lock().count(network(address), now)
    }

    fn lock(&self) -> MutexGuard<'_, KeyHistory> {
        self.0.lock()
    }
}

impl KeyHistory {
    /// Counts a wrong key. Returns the count if it should be logged.
    fn count(&mut self, address: IpAddr, now: Instant) -> Option<u64> {
        let wrong = self.wrong.get_mut(&address)?;
        wrong.count += 1;
        let is_due = wrong.count >= 10 * wrong.logged_count || now.duration_since(wrong.logged) >= LOG_EVERY;
        if self.lines_since.is_none_or(|since| now.duration_since(since) >= LOG_EVERY) {
            (self.lines, self.lines_since) = (0, Some(now));
        }
        if !is_due || self.lines >= MAX_LOG_LINES {
            return None;
        }
        self.lines += 1;
        (wrong.logged, wrong.logged_count) = (now, wrong.count);
        Some(wrong.count)
    }
}

/// Returns the address to count by: the /64 network for IPv6, since a client usually has all of its addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// Removes the oldest entry, according to `when`, if there are too many.
fn make_room<K: Copy + Eq + Hash, V>(entries: &mut HashMap<K, V>, when: impl Fn(&V) -> Instant) {
    if entries.len() >= MAX_ADDRESSES
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
        let (key_limiter, now) = (KeyLimiter::default(), Instant::now());
        let stranger: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..BURST {
            assert_eq!(key_limiter.check_address(stranger, now), Ok(()));
            assert_eq!(key_limiter.record_failure(stranger, now).0, Duration::ZERO);
        }
        assert_eq!(key_limiter.check_address(stranger, now), Err(SECOND));
        assert_eq!(key_limiter.check_address("192.0.2.2".parse().unwrap(), now), Ok(()), "another is spared");
        assert_eq!(key_limiter.check_address(stranger, now + SECOND), Ok(()));
        key_limiter.record_failure(stranger, now + SECOND);
        assert_eq!(key_limiter.check_address(stranger, now + SECOND), Err(SECOND));
        assert_eq!(key_limiter.check_address(stranger, now + 12 * SECOND), Ok(()));
    }

    #[test]
    fn from_this_machine_and_known_addresses_the_right_key_is_always_taken() {
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.1"].map(|it| it.parse().unwrap()) {
            let (key_limiter, now) = (KeyLimiter::default(), Instant::now());
            key_limiter.record_success(address, now);
            let waits: Vec<_> = (0..30).map(|_| key_limiter.record_failure(address, now).0.as_secs()).collect();
            assert_eq!((waits[9], waits[10], waits[15], waits[29]), (0, 1, 6, 10), "{address}");
            assert_eq!(key_limiter.check_address(address, now), Ok(()));
            let later = now + TRUSTED_FOR;
            for _ in 0..=BURST {
                key_limiter.record_failure(address, later);
            }
            assert_eq!(key_limiter.check_address(address, later).is_ok(), network(address).is_loopback(), "{address}");
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (key_limiter, now) = (KeyLimiter::default(), Instant::now());
        for host in 0..BURST {
            key_limiter.record_failure(format!("2001:db8::{host}").parse().unwrap(), now);
        }
        assert!(key_limiter.check_address("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert!(key_limiter.check_address("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn memory_and_log_have_a_bound() {
        let (key_limiter, now) = (KeyLimiter::default(), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let lines = (0..2 * u32::try_from(MAX_ADDRESSES).unwrap())
            .filter(|n| key_limiter.record_failure(address(*n), now).1.is_some());
        assert_eq!(lines.count(), MAX_LOG_LINES as usize);
        assert_eq!(key_limiter.lock().wrong.len(), MAX_ADDRESSES);

        let (key_limiter, stranger) = (KeyLimiter::default(), address(1));
        let logged: Vec<_> = (0..1000).filter_map(|_| key_limiter.record_failure(stranger, now).1).collect();
        assert_eq!(logged, [1, 10, 100, 1000]);
        assert_eq!(key_limiter.record_failure(stranger, now + LOG_EVERY).1, Some(1001));
        assert_eq!(key_limiter.record_blocked(stranger, now + 2 * LOG_EVERY), Some(1002));
    }
}
