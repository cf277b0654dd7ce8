//! Limits on what the statements of a user take together: their number at a time, and their memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use neuroql_access::{User, UserLimits};
use tokio::sync::Semaphore;

/// Resources that the sessions of a user share.
#[derive(Debug)]
pub(crate) struct UserResources {
    limits: UserLimits,
    /// Places of statements that run, if their number is limited.
    pub(crate) statements: Option<Arc<Semaphore>>,
    /// The engine's resources with the user's share of the memory, if it is limited.
    pub(crate) runtime: Option<Arc<RuntimeEnv>>,
}

/// The resources of all users who have sessions.
#[derive(Debug, Default)]
pub(crate) struct AllUserResources(Mutex<HashMap<String, Arc<UserResources>>>);

impl AllUserResources {
    /// Returns the resources of a user. Sessions that began with other limits keep theirs.
    pub(crate) fn of(&self, user: &User, runtime: &Arc<RuntimeEnv>) -> Result<Arc<UserResources>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, resources| Arc::strong_count(resources) > 1);
        if let Some(known) = all.get(&user.name).filter(|known| known.limits == user.limits) {
            return Ok(Arc::clone(known));
        }
        let limited = |limit| {
            let pool = UserPool { inner: Arc::clone(&runtime.memory_pool), limit, used: AtomicUsize::new(0) };
            RuntimeEnvBuilder::from_runtime_env(runtime).with_memory_pool(Arc::new(pool)).build_arc()
        };
        let resources = Arc::new(UserResources {
            statements: user
                .limits
                .max_statements
                .map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            runtime: user.limits.memory.map(limited).transpose()?,
            limits: user.limits.clone(),
        });
        all.insert(user.name.clone(), Arc::clone(&resources));
        Ok(resources)
    }
}

/// A share of another pool.
#[derive(Debug)]
struct UserPool {
    inner: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
}

impl fmt::Display for UserPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes of a user", self.reserved(), self.limit)
    }
}

impl MemoryPool for UserPool {
    fn name(&self) -> &str {
        "user"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let within = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.limit);
        if let Err(used) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "Failed to allocate {additional} bytes for {}: the statements of this user hold {used} of {} bytes",
                reservation.consumer().name(),
                self.limit
            )));
        }
        let grown = self.inner.try_grow(reservation, additional);
        if grown.is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use neuroql::Role;

    use super::*;

    #[test]
    fn sessions_of_a_user_share_what_the_user_may_have() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1000));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc().unwrap();
        let all = AllUserResources::default();
        let limited = |memory| User {
            limits: UserLimits { memory: Some(memory), max_statements: Some(2), ..UserLimits::default() },
            ..User::new("ann", Role::Analyst)
        };
        let one = all.of(&limited(100), &runtime).unwrap();
        let two = all.of(&limited(100), &runtime).unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.statements.as_ref().unwrap().available_permits(), 2);
        let reserve = |resources: &UserResources| {
            MemoryConsumer::new("test").register(&resources.runtime.as_ref().unwrap().memory_pool)
        };
        let (first, second) = (reserve(&one), reserve(&two));
        first.try_grow(60).unwrap();
        let error = second.try_grow(60).unwrap_err().to_string();
        assert!(error.contains("60 of 100 bytes"), "{error}");
        second.try_grow(40).unwrap();
        assert_eq!(pool.reserved(), 100);
        drop(first);
        assert_eq!(pool.reserved(), 40);
        second.try_grow(60).unwrap();
        // The engine's limit holds, too.
        let large = all.of(&limited(5000), &runtime).unwrap();
        assert!(reserve(&large).try_grow(2000).is_err());
        assert_eq!(large.runtime.as_ref().unwrap().memory_pool.reserved(), 0);
        let free = all.of(&User::new("bob", Role::Reader), &runtime).unwrap();
        assert!(free.runtime.is_none() && free.statements.is_none());
    }
}
