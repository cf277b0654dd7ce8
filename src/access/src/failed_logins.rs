//! Wrong passwords, and the time that answers to them wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait after a wrong password.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Time that a wrong password is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// Greatest number of addresses whose wrong passwords are remembered.
const ADDRESSES: usize = 10_000;

/// Numbers of wrong passwords, by the address that they came from.
#[derive(Debug, Default)]
pub struct FailedLogins {
    known: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl FailedLogins {
    /// Records a wrong password; returns the time that the answer to it should wait.
    pub fn add(&self, address: IpAddr) -> Duration {
        let mut known = lock(&self.known);
        if known.len() >= ADDRESSES {
            known.retain(|_, (_, last)| last.elapsed() < MEMORY);
        }
        if known.len() >= ADDRESSES && !known.contains_key(&address) {
            return LONGEST_WAIT;
        }
        let (count, last) = known.entry(address).or_insert((0, Instant::now()));
        *count = if last.elapsed() < MEMORY { count.saturating_add(1) } else { 1 };
        *last = Instant::now();
        // The first wrong password may be a slip, and does not wait.
        match *count {
            1 => Duration::ZERO,
            count => Duration::from_millis(100).saturating_mul(1 << (count - 2).min(10)).min(LONGEST_WAIT),
        }
    }

    /// Forgets the wrong passwords of an address whose user has logged in.
    pub fn forget(&self, address: IpAddr) {
        lock(&self.known).remove(&address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn wrong_passwords_take_longer_and_longer() {
        let failed = FailedLogins::default();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let waits: Vec<_> = (0..20).map(|_| failed.add(address)).collect();
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[1..].is_sorted() && waits[1] > Duration::ZERO && waits[19] == LONGEST_WAIT);
        failed.forget(address);
        assert_eq!(failed.add(address), Duration::ZERO);
    }
}
