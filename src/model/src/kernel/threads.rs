//! Number of threads that an operation uses.

use std::cell::Cell;

thread_local! {
    /// True while the work of this thread stays on it.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Number of threads that an operation may use.
pub(crate) fn threads() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Runs work whose operations use no other thread. Numbers do not depend on it.
pub(crate) fn on_one_thread<T>(work: impl FnOnce() -> T) -> T {
    /// Guard that restores the flag, after a panic too.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_inside_is_alone() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            assert_eq!(threads(), 3);
            assert_eq!(on_one_thread(|| (threads(), on_one_thread(threads), threads())), (1, 1, 1));
            let panicked = std::panic::catch_unwind(|| on_one_thread(|| panic!("as it should")));
            assert!(panicked.is_err());
            assert_eq!(threads(), 3);
        });
    }
}
