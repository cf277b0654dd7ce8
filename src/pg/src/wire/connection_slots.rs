//! Limits on connections: slots of sessions and of peers that have not logged in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neuroql_access::User;
use tokio::task::AbortHandle;

use crate::wire::error_response::SqlError;

/// Number of slots that only a superuser gets.
const RESERVED: usize = 3;

/// Greatest number of peers that start up at a time, cancel requests included.
const STARTING: usize = 256;

/// Slots of sessions.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    most: usize,
    most_of_user: usize,
    taken: Mutex<HashMap<String, usize>>,
}

impl ConnectionSlots {
    pub(crate) fn new(most: usize, most_of_user: Option<usize>) -> Arc<Self> {
        Arc::new(Self { most, most_of_user: most_of_user.unwrap_or(usize::MAX), taken: Mutex::default() })
    }

    /// Takes a slot for a session of this user, until it is dropped.
    pub(crate) fn take(self: &Arc<Self>, user: &User) -> Result<ConnectionSlot, SqlError> {
        let mut taken = lock(&self.taken);
        let all: usize = taken.values().sum();
        let reserved = RESERVED.min(self.most.saturating_sub(1));
        if all >= self.most {
            return Err(SqlError::fatal("53300", "sorry, too many clients already"));
        }
        if !user.is_superuser() && all >= self.most - reserved {
            let message = "remaining connection slots are reserved for superusers";
            return Err(SqlError::fatal("53300", message));
        }
        let own = taken.entry(user.name.clone()).or_default();
        let most_of_user = match user.limits.max_connections {
            Some(most) => most,
            None if user.is_superuser() => usize::MAX,
            None => self.most_of_user,
        };
        if *own >= most_of_user {
            return Err(SqlError::fatal("53300", format!("too many connections for role \"{}\"", user.name)));
        }
        *own += 1;
        Ok(ConnectionSlot { slots: Arc::clone(self), user: user.name.clone() })
    }
}

/// The slot of a session.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    user: String,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = lock(&self.slots.taken);
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
pub(crate) struct PendingConnections {
    all: Mutex<VecDeque<PendingConnection>>,
}

#[derive(Debug)]
struct PendingConnection {
    number: u64,
    address: IpAddr,
    /// True if a packet came from the peer.
    has_spoken: bool,
    task: AbortHandle,
}

impl PendingConnections {
    /// Makes room for one more peer.
    pub(crate) fn make_room(&self) {
        let mut all = lock(&self.all);
        all.retain(|peer| !peer.task.is_finished());
        if all.len() < STARTING {
            return;
        }
        let at = all.iter().position(|peer| !peer.has_spoken).unwrap_or_else(|| {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            all.iter().for_each(|peer| *counts.entry(peer.address).or_default() += 1);
            let crowded = counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
            all.iter().position(|peer| Some(peer.address) == crowded).unwrap_or(0)
        });
        if let Some(peer) = all.remove(at) {
            peer.task.abort();
        }
    }

    /// Starts the task of a peer, after which the task can remove it.
    pub(crate) fn add(&self, number: u64, address: IpAddr, start: impl FnOnce() -> AbortHandle) {
        let mut all = lock(&self.all);
        all.push_back(PendingConnection { number, address, has_spoken: false, task: start() });
    }

    pub(crate) fn spoke(&self, number: u64) {
        if let Some(peer) = lock(&self.all).iter_mut().find(|peer| peer.number == number) {
            peer.has_spoken = true;
        }
    }

    /// Removes a peer that has logged in or gone.
    pub(crate) fn remove(&self, number: u64) {
        lock(&self.all).retain(|peer| peer.number != number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn user(name: &str, superuser: bool) -> User {
        User::new(name, if superuser { neuroql::Role::Superuser } else { neuroql::Role::Reader })
    }

    #[test]
    fn places_are_kept_for_superusers() {
        let slots = ConnectionSlots::new(6, Some(2));
        let ada: Vec<_> = (0..2).map(|_| slots.take(&user("ada", false)).unwrap()).collect();
        assert!(slots.take(&user("ada", false)).unwrap_err().message.contains("for role \"ada\""));
        let bob = slots.take(&user("bob", false)).unwrap();
        assert!(slots.take(&user("eve", false)).unwrap_err().message.contains("reserved"));
        let root: Vec<_> = (0..3).map(|_| slots.take(&user("root", true)).unwrap()).collect();
        assert!(slots.take(&user("root", true)).unwrap_err().message.contains("too many clients"));
        drop((ada, root));
        assert!(slots.take(&user("ada", false)).is_ok());
        drop(bob);
        assert!(lock(&slots.taken).is_empty());
        // A single slot is for every user.
        let one = ConnectionSlots::new(1, None);
        let _slot = one.take(&user("ada", false)).unwrap();
        assert!(one.take(&user("root", true)).is_err());
    }

    #[tokio::test]
    async fn silent_strangers_go_first() {
        let starting = PendingConnections::default();
        let address = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
        let tasks: Vec<_> = (0..STARTING).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for (number, task) in (0..).zip(&tasks) {
            starting.make_room();
            starting.add(number, address(u8::from(number % 8 == 0)), || task.abort_handle());
        }
        assert_eq!(lock(&starting.all).len(), STARTING);
        for number in 0..STARTING as u64 {
            if number != 100 {
                starting.spoke(number);
            }
        }
        let numbers = || lock(&starting.all).iter().map(|peer| peer.number).collect::<Vec<_>>();
        starting.make_room();
        assert!(!numbers().contains(&100));
        starting.add(1000, address(2), || tasks[0].abort_handle());
        starting.spoke(1000);
        starting.make_room();
        // Address 1 has the most peers.
        assert!(numbers().contains(&0) && !numbers().contains(&1));
        starting.remove(0);
        assert_eq!(numbers().len(), STARTING - 2);
    }
}
