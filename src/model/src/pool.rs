//! Thread pool for forward passes, apart from the threads that serve clients.
//!
//! It has three parts: *lanes*, each a single thread that runs one pass after another, so that many batches run in
//! parallel without waiting for each other inside a pass; one *wide* pool, which spreads a lone pass over all threads
//! when there is no other work; and a lane for each GPU, which runs passes of all queries in the order in which they
//! were queued: a query queues a few passes there, not all that it has, so that queries take turns. Numbers do not
//! depend on the thread that runs a pass.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

use crate::{DeviceName, Error, Model, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Pool of threads; dropping it ends them after their current job.
#[derive(Debug)]
pub struct Pool {
    lanes: Lanes,
    wide: rayon::ThreadPool,
    /// Lanes of the GPUs that were used, by their numbers.
    gpus: Mutex<BTreeMap<usize, Lanes>>,
    threads: usize,
}

/// Number of threads of a GPU's lane: while one waits for the GPU, the other prepares its next work.
const GPU_THREADS: usize = 2;

/// Placement of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// One thread, beside other jobs on other threads.
    OneThread,
    /// All threads.
    AllThreads,
    /// The lane of the GPU of this number.
    Gpu(usize),
}

impl Placement {
    /// Placement of jobs of a model: this one on a processor, its lane on a GPU.
    pub fn of(self, model: &Model) -> Self {
        match model.placed() {
            DeviceName::Cpu => self,
            DeviceName::Cuda(number) => Self::Gpu(number),
        }
    }
}

impl Pool {
    /// Makes a pool of `threads` threads, at least one.
    ///
    /// # Errors
    /// [`Error::Internal`] if they cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = threads.max(1);
        Ok(Self { lanes: Lanes::new("lane", threads)?, wide: start("wide", threads)?, gpus: Mutex::default(), threads })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Queues a job at once; the future waits for it. Dropping the future does not stop a job that has begun.
    ///
    /// # Errors
    /// Error of the job; [`Error::Internal`] if it panics or no thread can be started.
    pub fn run<T, F>(&self, placement: Placement, job: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let queued = self.queue(placement, move || {
            if sender.is_canceled() {
                return;
            }
            let result = caught(job);
            // The receiver is gone if the query was cancelled meanwhile.
            let _ = sender.send(result);
        });
        async move {
            queued?;
            receiver.await.unwrap_or_else(|_| Err(Error::Internal("a forward pass was lost".into())))
        }
    }

    fn queue(&self, placement: Placement, job: impl FnOnce() + Send + 'static) -> Result<()> {
        match placement {
            Placement::OneThread => self.lanes.queue.push(Box::new(job)),
            Placement::AllThreads => self.wide.spawn_fifo(job),
            Placement::Gpu(number) => {
                let mut gpus = self.gpus.lock().unwrap_or_else(PoisonError::into_inner);
                let lanes = match gpus.entry(number) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(Lanes::new("GPU", GPU_THREADS)?),
                };
                lanes.queue.push(Box::new(job));
            }
        }
        Ok(())
    }
}

/// Runs a job; a panic in it is an error.
pub(crate) fn caught<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))
        .unwrap_or_else(|_| Err(Error::Internal("a forward pass panicked".into())))
}

/// Lanes: single threads that take jobs from one queue; dropping them ends them after their current job.
#[derive(Debug)]
struct Lanes {
    queue: Arc<Queue>,
    // Dropped after the queue is closed, which ends the loops inside.
    _threads: Vec<rayon::ThreadPool>,
}

impl Lanes {
    fn new(name: &'static str, count: usize) -> Result<Self> {
        let queue = Arc::new(Queue::default());
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let lane = start(name, 1)?;
            let queue = Arc::clone(&queue);
            // The loop runs on the lane's own worker, so rayon tasks of a job stay on this thread.
            lane.spawn(move || {
                while let Some(job) = queue.pop() {
                    job();
                }
            });
            threads.push(lane);
        }
        Ok(Self { queue, _threads: threads })
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn start(name: &'static str, threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |i| format!("neuroql-{name}-{i}"))
        // Deep models recurse nowhere, but candle's debug builds put large frames on the stack.
        .stack_size(8 << 20)
        .build()
        .map_err(|e| Error::Internal(format!("cannot start threads: {e}")))
}

#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.lock().0.len()).finish()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Job>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        self.lock().0.push_back(job);
        self.ready.notify_one();
    }

    /// Waits for the next job; returns `None` once the queue is closed.
    fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.1 {
                return None;
            }
            if let Some(job) = state.0.pop_front() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().1 = true;
        self.ready.notify_all();
    }
}
