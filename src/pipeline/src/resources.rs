//! What runs share.

use std::sync::Arc;

use neuroql_model::Registry;
use neuroql_store::Store;

use crate::fingerprint::Fingerprints;

/// Models, the store of results about them, and what is known of datasets.
#[derive(Debug)]
pub struct Resources {
    /// The models that are loaded, and the threads that they run on.
    pub registry: Arc<Registry>,
    /// Statistics, examples, bounds and graphs.
    pub store: Arc<Store>,
    /// Hashes of datasets.
    pub fingerprints: Fingerprints,
}

impl Resources {
    /// Puts models and store together.
    pub fn new(registry: Arc<Registry>, store: Arc<Store>) -> Self {
        Self { registry, store, fingerprints: Fingerprints::default() }
    }
}
