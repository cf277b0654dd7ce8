//! Search for all pairs of similar graphs.

use std::ops::{ControlFlow, Range};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::build::transposed;
use super::{PatternIndex, Probe, SLACK, range};
use crate::{Error, Result};

/// Greatest number of pairs that a sink gets at once.
const CHUNK: usize = 4096;

/// Target number of pairs of classes found between two calls of the sink: results are held in memory until then.
const WAITING: Range<usize> = 1 << 18..1 << 20;

/// Two graphs that are similar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Key of the first graph; within one index, the lesser key.
    pub a: u64,
    /// Key of the second graph.
    pub b: u64,
    /// Their similarity: [`Signature::similarity`](crate::Signature::similarity).
    pub similarity: f64,
}

/// Two similar classes, of the probing and of the probed index, and their similarity.
type ClassPair = (u32, u32, f64);

impl PatternIndex {
    /// Finds all pairs of two graphs in it with a similarity of at least `threshold`, each once. The sink gets up to
    /// 4,096 at a time, in an order that depends on the index and threshold only, and now and then none, so that it can
    /// end a long search; when it breaks, so does this. Uses the current rayon thread pool.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the threshold is not over 0 and at most 1.
    pub fn pairs(&self, threshold: f64, sink: impl FnMut(&[Pair]) -> ControlFlow<()>) -> Result<ControlFlow<()>> {
        check(threshold)?;
        // Each class is compared with those before it only, whose totals are not greater than its own.
        let prefixes = Prefixes::new(self, 2.0 * threshold / (1.0 + threshold));
        let search = |class: u32| {
            let probe = Probe::new(self.class(class).collect(), self.totals[class as usize]);
            self.similar(&probe, threshold, &prefixes, class)
        };
        let mut output = PairBuffer::new(sink);
        Ok(probe_all(self, search, |found| match found {
            SearchEvent::Class(class) => {
                let keys = self.keys_of(class);
                (0..keys.len())
                    .try_for_each(|at| keys[at + 1..].iter().try_for_each(|other| output.push(keys[at], *other, 1.0)))
            }
            SearchEvent::Pair((one, other, similarity)) => self.keys_of(one).iter().try_for_each(|one| {
                let mut others = self.keys_of(other).iter();
                others.try_for_each(|other| output.push(*one.min(other), *one.max(other), similarity))
            }),
            SearchEvent::Batch => output.flush(),
        }))
    }

    /// Finds the pairs of a graph in this index, `a`, and one in another, `b`, as [`Self::pairs`] does.
    ///
    /// # Errors
    /// Errors of [`Self::pairs`].
    pub fn pairs_with(
        &self,
        other: &Self,
        threshold: f64,
        sink: impl FnMut(&[Pair]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        check(threshold)?;
        let prefixes = Prefixes::new(other, threshold);
        let numbers = translated(&self.hashes, &other.hashes);
        let search = |class: u32| {
            let known = |(pattern, weight): (u32, f32)| Some((numbers[pattern as usize]?, weight));
            let probe = Probe::new(self.class(class).filter_map(known).collect(), self.totals[class as usize]);
            let end = other.totals.partition_point(|total| *total <= probe.total / threshold * (1.0 + SLACK));
            other.similar(&probe, threshold, &prefixes, end as u32)
        };
        let mut output = PairBuffer::new(sink);
        Ok(probe_all(self, search, |found| match found {
            SearchEvent::Class(_) => ControlFlow::Continue(()),
            SearchEvent::Pair((one, class, similarity)) => self.keys_of(one).iter().try_for_each(|one| {
                other.keys_of(class).iter().try_for_each(|other| output.push(*one, *other, similarity))
            }),
            SearchEvent::Batch => output.flush(),
        }))
    }

    /// Classes before `end` with a similarity to a probe of at least `threshold`, ascending, with the similarity.
    fn similar(&self, probe: &Probe, threshold: f64, prefixes: &Prefixes, end: u32) -> Vec<(u32, f64)> {
        let needed = threshold * probe.total * (1.0 - SLACK);
        if probe.known < needed {
            return Vec::new();
        }
        let start = self.totals.partition_point(|total| *total < needed) as u32;
        let mut candidates: Vec<u32> = Vec::new();
        for pattern in self.prefix(&probe.patterns, needed) {
            let classes = prefixes.classes_with(pattern);
            let classes = &classes[classes.partition_point(|class| *class < start)..];
            candidates.extend_from_slice(&classes[..classes.partition_point(|class| *class < end)]);
        }
        candidates.sort_unstable();
        candidates.dedup();
        let similar = |class| Some((class, self.compare(probe, class, threshold)?));
        candidates.into_iter().filter_map(similar).filter(|(_, similarity)| *similarity >= threshold).collect()
    }
}

fn check(threshold: f64) -> Result<()> {
    if threshold > 0.0 && threshold <= 1.0 {
        return Ok(());
    }
    Err(Error::OutOfRange { what: "the threshold", value: threshold.to_string(), allowed: "over 0 and at most 1" })
}

/// Inverted index of the prefixes of classes, by pattern: see [`PatternIndex::prefix`].
struct Prefixes {
    starts: Vec<u32>,
    classes: Vec<u32>,
}

impl Prefixes {
    /// Makes the prefixes of classes that must share at least `part` of their total.
    fn new(index: &PatternIndex, part: f64) -> Self {
        let classes = 0..index.totals.len() as u32;
        let prefix = |class: u32| {
            let patterns: Vec<_> = index.class(class).collect();
            let needed = part * index.totals[class as usize] * (1.0 - SLACK);
            index.prefix(&patterns, needed).map(|pattern| (pattern, class)).collect::<Vec<_>>()
        };
        let entries: Vec<(u32, u32)> = classes.into_par_iter().flat_map_iter(prefix).collect();
        let (starts, classes) = transposed(index.hashes.len(), || entries.iter().copied());
        Self { starts, classes }
    }

    fn classes_with(&self, pattern: u32) -> &[u32] {
        &self.classes[range(&self.starts, pattern)]
    }
}

/// Place of each hash in `others`; both ascend.
fn translated(hashes: &[u64], others: &[u64]) -> Vec<Option<u32>> {
    let mut at = 0;
    let place = |hash: &u64| {
        while others.get(at).is_some_and(|other| other < hash) {
            at += 1;
        }
        (others.get(at) == Some(hash)).then_some(at as u32)
    };
    hashes.iter().map(place).collect()
}

/// Events of a search.
enum SearchEvent {
    /// A class of the probing index; its pairs follow.
    Class(u32),
    Pair(ClassPair),
    Batch,
}

/// Probes with all classes, many in parallel, and passes the results to `tell` in the order of classes.
fn probe_all(
    index: &PatternIndex,
    search: impl Fn(u32) -> Vec<(u32, f64)> + Sync,
    mut tell: impl FnMut(SearchEvent) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let classes = index.totals.len() as u32;
    let (mut next, mut batch) = (0, 256);
    while next < classes {
        let probed = next..classes.min(next.saturating_add(batch));
        let found: Vec<Vec<(u32, f64)>> = probed.clone().into_par_iter().map(&search).collect();
        let count: usize = found.iter().map(Vec::len).sum();
        for (class, found) in probed.clone().zip(found) {
            tell(SearchEvent::Class(class))?;
            found
                .into_iter()
                .try_for_each(|(other, similarity)| tell(SearchEvent::Pair((class, other, similarity))))?;
        }
        tell(SearchEvent::Batch)?;
        next = probed.end;
        if count < WAITING.start {
            batch = (batch * 2).min(1 << 14);
        } else if count > WAITING.end {
            batch = (batch / 2).max(1);
        }
    }
    ControlFlow::Continue(())
}

/// Buffer of the pairs for a sink.
struct PairBuffer<S> {
    sink: S,
    pairs: Vec<Pair>,
}

impl<S: FnMut(&[Pair]) -> ControlFlow<()>> PairBuffer<S> {
    fn new(sink: S) -> Self {
        Self { sink, pairs: Vec::with_capacity(CHUNK) }
    }

    fn push(&mut self, a: u64, b: u64, similarity: f64) -> ControlFlow<()> {
        self.pairs.push(Pair { a, b, similarity });
        if self.pairs.len() == CHUNK { self.flush() } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let result = (self.sink)(&self.pairs);
        self.pairs.clear();
        result
    }
}
