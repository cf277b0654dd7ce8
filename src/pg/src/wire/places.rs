//! Limits on connections: places of sessions, of peers that have not logged in, and failed logins.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use neuroql_access::Role;
use tokio::task::AbortHandle;

use crate::wire::error_response::SqlError;

/// Number of places that only a superuser gets.
const RESERVED: usize = 3;

/// Greatest number of peers that start up at a time, cancel requests included.
const STARTING: usize = 256;

/// The longest wait after a wrong password.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Time that a wrong password is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// Greatest number of addresses whose wrong passwords are remembered.
const ADDRESSES: usize = 10_000;

/// Places of sessions.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    most_of_user: usize,
    taken: Mutex<HashMap<String, usize>>,
}

impl Places {
    pub(crate) fn new(most: usize, most_of_user: Option<usize>) -> Arc<Self> {
        Arc::new(Self { most, most_of_user: most_of_user.unwrap_or(usize::MAX), taken: Mutex::default() })
    }

    /// Takes a place for a session of this user, until it is dropped.
    pub(crate) fn take(self: &Arc<Self>, role: &Role) -> Result<Place, SqlError> {
        let mut taken = lock(&self.taken);
        let all: usize = taken.values().sum();
        let reserved = RESERVED.min(self.most.saturating_sub(1));
        if all >= self.most {
            return Err(SqlError::fatal("53300", "sorry, too many clients already"));
        }
        if !role.superuser && all >= self.most - reserved {
            let message = "remaining connection slots are reserved for superusers";
            return Err(SqlError::fatal("53300", message));
        }
        let own = taken.entry(role.name.clone()).or_default();
        if !role.superuser && *own >= self.most_of_user {
            return Err(SqlError::fatal("53300", format!("too many connections for role \"{}\"", role.name)));
        }
        *own += 1;
        Ok(Place { places: Arc::clone(self), user: role.name.clone() })
    }
}

/// The place of a session.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    user: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(own) = taken.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

/// Peers that are starting up. There is always room for another: a peer that has sent nothing is dropped first, then
/// one that shares an address with most others.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    all: Mutex<VecDeque<Stranger>>,
}

#[derive(Debug)]
struct Stranger {
    number: u64,
    address: IpAddr,
    /// True if a packet came from the peer.
    has_spoken: bool,
    task: AbortHandle,
}

impl Strangers {
    /// Makes room for one more peer.
    pub(crate) fn make_room(&self) {
        let mut all = lock(&self.all);
        all.retain(|stranger| !stranger.task.is_finished());
        if all.len() < STARTING {
            return;
        }
        let at = all.iter().position(|stranger| !stranger.has_spoken).unwrap_or_else(|| {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            all.iter().for_each(|stranger| *counts.entry(stranger.address).or_default() += 1);
            let crowded = counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
            all.iter().position(|stranger| Some(stranger.address) == crowded).unwrap_or(0)
        });
        if let Some(stranger) = all.remove(at) {
            stranger.task.abort();
        }
    }

    /// Starts the task of a peer, after which the task can remove it.
    pub(crate) fn add(&self, number: u64, address: IpAddr, start: impl FnOnce() -> AbortHandle) {
        let mut all = lock(&self.all);
        all.push_back(Stranger { number, address, has_spoken: false, task: start() });
    }

    pub(crate) fn spoke(&self, number: u64) {
        if let Some(stranger) = lock(&self.all).iter_mut().find(|stranger| stranger.number == number) {
            stranger.has_spoken = true;
        }
    }

    /// Removes a peer that has logged in or gone.
    pub(crate) fn remove(&self, number: u64) {
        lock(&self.all).retain(|stranger| stranger.number != number);
    }
}

/// Numbers of wrong passwords, by the address that they came from.
#[derive(Debug, Default)]
pub(crate) struct FailedLogins {
    known: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl FailedLogins {
    /// Records a wrong password; returns the time that the answer to it should wait.
    pub(crate) fn add(&self, address: IpAddr) -> Duration {
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
    pub(crate) fn forget(&self, address: IpAddr) {
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

    fn role(name: &str, superuser: bool) -> Role {
        Role { name: name.into(), superuser }
    }

    #[test]
    fn places_are_kept_for_superusers() {
        let places = Places::new(6, Some(2));
        let ada: Vec<_> = (0..2).map(|_| places.take(&role("ada", false)).unwrap()).collect();
        assert!(places.take(&role("ada", false)).unwrap_err().message.contains("for role \"ada\""));
        let bob = places.take(&role("bob", false)).unwrap();
        assert!(places.take(&role("eve", false)).unwrap_err().message.contains("reserved"));
        let root: Vec<_> = (0..3).map(|_| places.take(&role("root", true)).unwrap()).collect();
        assert!(places.take(&role("root", true)).unwrap_err().message.contains("too many clients"));
        drop((ada, root));
        assert!(places.take(&role("ada", false)).is_ok());
        drop(bob);
        assert!(lock(&places.taken).is_empty());
        // A single place is for every user.
        let one = Places::new(1, None);
        let _place = one.take(&role("ada", false)).unwrap();
        assert!(one.take(&role("root", true)).is_err());
    }

    #[tokio::test]
    async fn silent_strangers_go_first() {
        let strangers = Strangers::default();
        let address = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
        let tasks: Vec<_> = (0..STARTING).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for (number, task) in (0..).zip(&tasks) {
            strangers.make_room();
            strangers.add(number, address(u8::from(number % 8 == 0)), || task.abort_handle());
        }
        assert_eq!(lock(&strangers.all).len(), STARTING);
        for number in 0..STARTING as u64 {
            if number != 100 {
                strangers.spoke(number);
            }
        }
        let numbers = || lock(&strangers.all).iter().map(|stranger| stranger.number).collect::<Vec<_>>();
        strangers.make_room();
        assert!(!numbers().contains(&100));
        strangers.add(1000, address(2), || tasks[0].abort_handle());
        strangers.spoke(1000);
        strangers.make_room();
        // Address 1 has the most peers.
        assert!(numbers().contains(&0) && !numbers().contains(&1));
        strangers.remove(0);
        assert_eq!(numbers().len(), STARTING - 2);
    }

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
