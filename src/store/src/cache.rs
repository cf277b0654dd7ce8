//! Caches that hold no more than so many bytes.

use std::hash::Hash;
use std::sync::Arc;

use moka::future::Cache;

/// Bytes that the caches of a store take at most where nobody says how many they may.
pub const CACHE_BYTES: u64 = Shares::ALL.rows + Shares::ALL.graphs + TABLES * Shares::ALL.of_table();

/// Tables of a store.
const TABLES: u64 = 8;

/// How many bytes each cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Rows and indices of analyses.
    pub rows: u64,
    /// Rows of graphs.
    pub graphs: u64,
    /// What is known of opened files, of each table.
    pub opened: u64,
    /// The files of partitions, of each table.
    pub listed: u64,
    /// What files say of themselves, of each table.
    pub metadata: u64,
    /// Statistics of files, of each table.
    pub statistics: u64,
}

impl Shares {
    /// Those of a store without a limit.
    pub const ALL: Self = Self {
        rows: 256 << 20,
        graphs: 128 << 20,
        opened: 64 << 20,
        listed: 8 << 20,
        metadata: 50 << 20,
        statistics: 20 << 20,
    };

    /// Those of a store whose caches may have so many bytes together.
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

/// A cache of so many bytes; `size` says how many an entry takes.
pub fn bounded<K, V>(bytes: u64, size: impl Fn(&K, &V) -> usize + Send + Sync + 'static) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let weigh = move |key: &K, value: &V| weight(size(key, value));
    Cache::builder().max_capacity(bytes >> UNIT).weigher(weigh).build()
}

/// Gives the value of a key, loaded if the cache does not hold it; those who ask meanwhile wait for the same load.
///
/// The cache is back within its bytes when this returns. moka by itself drops what is too much only when it is used the next
/// time, and until then holds values that are larger than all of it.
///
/// # Errors
/// That of `load`, which is shared by those who wait for it, but not kept.
pub async fn get_or_load<K, V, E>(
    cache: &Cache<K, V>,
    key: K,
    load: impl Future<Output = Result<V, E>>,
) -> Result<V, Arc<E>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let entry = cache.entry(key).or_try_insert_with(load).await?;
    if entry.is_fresh() {
        cache.run_pending_tasks().await;
    }
    Ok(entry.into_value())
}

/// Entries are weighed in units of so many bits, 1 KiB: bytes of one above 4 GiB would be more than a weight can say.
const UNIT: u32 = 10;

/// Rounded up, so that many small entries do not weigh nothing.
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
        assert_eq!(Shares::of(CACHE_BYTES), Shares::ALL);
        assert_eq!(Shares::of(u64::MAX), Shares::ALL);
        for bytes in [0, 1 << 20, 64 << 20, 1 << 30] {
            let shares = Shares::of(bytes);
            let together = shares.rows + shares.graphs + TABLES * shares.of_table();
            assert!(together <= bytes && together + 1024 > bytes.min(CACHE_BYTES), "{bytes}: {shares:?}");
        }
    }

    #[tokio::test]
    async fn a_cache_holds_no_more_than_it_may() {
        let cache = bounded(64 << 10, |_: &u32, value: &Vec<u8>| value.len());
        for key in 0..100 {
            cache.insert(key, vec![0; 10_000]).await;
        }
        // What is larger than all of it is not kept.
        cache.insert(100, vec![0; 100_000]).await;
        cache.run_pending_tasks().await;
        assert!(cache.get(&100).await.is_none());
        assert!((1..=6).contains(&cache.entry_count()), "{}", cache.entry_count());
    }

    #[tokio::test]
    async fn what_is_loaded_and_not_kept_is_not_held() {
        let cache = bounded(64 << 10, |_: &u32, value: &Arc<Vec<u8>>| value.len());
        for (key, length, is_kept) in [(1, 10_000, true), (2, 100_000, false), (1, 1, true)] {
            let load = async { Ok::<_, ()>(Arc::new(vec![0; length])) };
            let value = get_or_load(&cache, key, load).await.unwrap();
            assert_eq!(Arc::strong_count(&value), if is_kept { 2 } else { 1 }, "{key}");
        }
        assert_eq!(get_or_load(&cache, 1, async { Err("not asked") }).await.unwrap().len(), 10_000);
        assert_eq!(get_or_load(&cache, 3, async { Err("no") }).await, Err(Arc::new("no")));
    }
}
