//! How long each trial takes, and which take longest.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};

static TAKEN: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Trials that [`print_slowest`] names.
const SLOWEST: usize = 10;

/// A trial whose time is remembered.
pub fn test(name: impl Into<String>, runner: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let name = name.into();
    Trial::test(name.clone(), move || timed(name, runner))
}

/// A trial that may find that it lacks something, whose time is remembered.
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
