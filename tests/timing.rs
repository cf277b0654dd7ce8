//! Times of trials, and a list of those that take longest.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};

static TAKEN: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Number of trials that [`print_slowest`] names.
const SLOWEST: usize = 10;

/// Creates a trial whose time is recorded.
pub fn test(name: impl Into<String>, runner: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let name = name.into();
    Trial::test(name.clone(), move || timed(name, runner))
}

/// Creates a trial that may be ignored because something is missing, whose time is recorded.
pub fn ignorable_test(
    name: impl Into<String>,
    runner: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
) -> Trial {
    let name = name.into();
    Trial::ignorable_test(name.clone(), move || timed(name, runner))
}

fn timed<T>(name: String, runner: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = runner();
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push((name, start.elapsed()));
    result
}

/// Prints the trials that took longest, unless there were only a few.
#[expect(clippy::print_stderr, reason = "who reads a run wants to know")]
pub fn print_slowest() {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.len() <= SLOWEST {
        return;
    }
    taken.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    eprintln!("slowest trials, of {}:", taken.len());
    for (name, time) in taken.iter().take(SLOWEST) {
        eprintln!("{:>8.1} s  {name}", time.as_secs_f64());
    }
}
