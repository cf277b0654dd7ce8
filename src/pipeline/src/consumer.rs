//! Consumers of the results of a run.

use datafusion::error::Result;

/// Takes the results of a run as they come.
pub trait Consumer<T>: Sync {
    /// Takes a result, waiting until there is room for it. Returns false if no more are wanted: the run should end.
    fn take(&self, result: T) -> impl Future<Output = Result<bool>> + Send;
}
