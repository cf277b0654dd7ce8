//! Caches with a limit in bytes.

use std::fmt;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::future::Cache;

/// Default limit of all caches of a store, in bytes.
pub const CACHE_BYTES: u64 = CacheLimits::ALL.rows + CacheLimits::ALL.graphs + TABLES * CacheLimits::ALL.of_table();

/// Number of tables of a store.
const TABLES: u64 = 9;

/// Limit of each cache, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheLimits {
    /// Rows and indices of analyses.
    pub rows: u64,
    /// Rows of graphs.
    pub graphs: u64,
    /// Metadata of opened files, of each table.
    pub opened: u64,
    /// The files of partitions, of each table.
    pub listed: u64,
    /// Footers of files, of each table.
    pub metadata: u64,
    /// Statistics of files, of each table.
    pub statistics: u64,
}

impl CacheLimits {
    /// Shares of a store with the default limit.
    pub const ALL: Self = Self {
        rows: 256 << 20,
        graphs: 128 << 20,
        opened: 64 << 20,
        listed: 8 << 20,
        metadata: 50 << 20,
        statistics: 20 << 20,
    };

    /// Shares of a store whose caches may have `bytes` bytes together.
    pub fn of(bytes: u64) -> Self {
        let share = |all: u64| (u128::from(all) * u128::from(bytes.min(CACHE_BYTES)) / u128::from(CACHE_BYTES)) as u64;
        let Self { rows, graphs, opened, listed, metadata, statistics } = Self::ALL;
        Self {
            rows: share(rows),
            graphs: share(graphs),
            opened: share(opened),
            listed: share(listed),
            metadata: share(metadata),
            statistics: share(statistics),
        }
    }

    const fn of_table(&self) -> u64 {
        self.opened + self.listed + self.metadata + self.statistics
    }
}

/// A cache with a limit in bytes.
pub struct BoundedCache<K, V> {
    entries: Cache<K, CacheSlot<V>>,
}

impl<K, V> Clone for BoundedCache<K, V> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<K, V> fmt::Debug for BoundedCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedCache").finish_non_exhaustive()
    }
}

/// The value of an entry. moka frees an entry some time after it has dropped it; its value is freed at once.
#[derive(Debug)]
struct CacheSlot<V>(Arc<Mutex<Option<V>>>);

impl<V> Clone for CacheSlot<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Clone> CacheSlot<V> {
    fn new(value: V) -> Self {
        Self(Arc::new(Mutex::new(Some(value))))
    }

    fn value(&self) -> MutexGuard<'_, Option<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> BoundedCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a cache of `bytes`; `size` gives the bytes of an entry.
    pub fn new(bytes: u64, size: impl Fn(&K, &V) -> usize + Send + Sync + 'static) -> Self {
        let weigh =
            move |key: &K, slot: &CacheSlot<V>| slot.value().as_ref().map_or(1, |value| weight(size(key, value)));
        let builder = Cache::builder().max_capacity(bytes >> UNIT).weigher(weigh);
        let dropped = |_: Arc<K>, slot: CacheSlot<V>, _| drop(slot.value().take());
        Self { entries: builder.eviction_listener(dropped).build() }
    }

    /// Returns the value of a key, if the cache holds it.
    pub async fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).await.and_then(|slot| slot.value().clone())
    }

    /// Returns true if the cache holds a value for a key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Gives a key this value.
    pub async fn insert(&self, key: K, value: V) {
        self.entries.insert(key, CacheSlot::new(value)).await;
        self.entries.run_pending_tasks().await;
    }

    /// Returns the value of a key, loaded if the cache does not hold it; those who ask meanwhile wait for the same
    /// load.
    ///
    /// The cache is back within its bytes when this returns. moka by itself drops what is too much only when it is used
    /// the next time, and until then holds values that are larger than all of it.
    ///
    /// # Errors
    /// The error of `load`, which is shared by those who wait for it, but not kept.
    pub async fn get_or_load<E>(&self, key: K, load: impl Future<Output = Result<V, E>>) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
    {
        let (mut load, mut loaded) = (pin!(load), None);
        let make = async { Ok(CacheSlot::new(loaded.insert(load.as_mut().await?).clone())) };
        let entry = self.entries.entry(key).or_try_insert_with(make).await?;
        if let Some(loaded) = loaded {
            self.entries.run_pending_tasks().await;
            return Ok(loaded);
        }
        let value = entry.value().value().clone();
        match value {
            Some(value) => Ok(value),
            // The value was loaded by another, and dropped before it could be read here.
            None => load.await.map_err(Arc::new),
        }
    }
}

/// Binary logarithm of the unit of weights, 1 KiB: the bytes of an entry above 4 GiB would not fit in a weight.
const UNIT: u32 = 10;

/// Returns the weight of an entry, rounded up so that many small entries do not weigh nothing.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << UNIT).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_tell_sizes_apart() {
        assert_eq!([0, 1, 1024, 1025].map(weight), [1, 1, 1, 2]);
        assert_eq!([4 << 30, 5 << 30, 100 << 30].map(weight), [4 << 20, 5 << 20, 100 << 20]);
        assert_eq!(weight(usize::MAX), u32::MAX);
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(CacheLimits::of(CACHE_BYTES), CacheLimits::ALL);
        assert_eq!(CacheLimits::of(u64::MAX), CacheLimits::ALL);
        for bytes in [0, 1 << 20, 64 << 20, 1 << 30] {
            let shares = CacheLimits::of(bytes);
            let together = shares.rows + shares.graphs + TABLES * shares.of_table();
            assert!(together <= bytes && together + 1024 > bytes.min(CACHE_BYTES), "{bytes}: {shares:?}");
        }
    }

    #[tokio::test]
    async fn a_cache_holds_no_more_than_it_may() {
        let cache = BoundedCache::new(64 << 10, |_: &u32, value: &Arc<Vec<u8>>| value.len());
        let values: Vec<_> = (0..100).map(|_| Arc::new(vec![0; 10_000])).collect();
        for (key, value) in (0..).zip(&values) {
            cache.insert(key, Arc::clone(value)).await;
        }
        let held = values.iter().filter(|value| Arc::strong_count(value) > 1).count();
        assert!((1..=6).contains(&held), "{held}");
    }

    #[tokio::test]
    async fn what_is_loaded_and_not_kept_is_not_held() {
        let cache = BoundedCache::new(64 << 10, |_: &u32, value: &Arc<Vec<u8>>| value.len());
        for (key, length, is_kept) in [(1, 10_000, true), (2, 100_000, false), (1, 1, true)] {
            let load = async { Ok::<_, ()>(Arc::new(vec![0; length])) };
            let value = cache.get_or_load(key, load).await.unwrap();
            assert_eq!(Arc::strong_count(&value), if is_kept { 2 } else { 1 }, "{key}");
        }
        assert_eq!(cache.get_or_load(1, async { Err("not asked") }).await.unwrap().len(), 10_000);
        assert_eq!(cache.get_or_load(3, async { Err("no") }).await, Err(Arc::new("no")));
        assert!(cache.get(&1).await.is_some() && cache.get(&2).await.is_none() && cache.contains_key(&1));
    }

    /// Checks that many who ask at once for a value too large to be kept load it once, and all get it.
    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_wait_get_what_is_not_kept() {
        let cache = BoundedCache::new(64 << 10, |_: &u32, value: &Arc<Vec<u8>>| value.len());
        let asked = (0..50).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let load = async {
                    tokio::task::yield_now().await;
                    Ok::<_, ()>(Arc::new(vec![0; 100_000]))
                };
                cache.get_or_load(1, load).await.unwrap().len()
            })
        });
        for length in asked.collect::<Vec<_>>() {
            assert_eq!(length.await.unwrap(), 100_000);
        }
    }
}
