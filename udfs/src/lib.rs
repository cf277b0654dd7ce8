//! SQL functions over models and graphs: thin, typed wrappers that hold no algorithm.
//!
//! One function a file, each with a constructor that takes the [`Registry`] its first argument names a model of;
//! [`all`] lists them. Every function returns NULL if an argument is NULL.

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use neuroql_model::Registry;

mod activation;
mod arguments;
mod async_calls;
mod bootstrap_interval;
mod detokenize;
mod error;
mod function;
pub mod graphs;
mod interrupt;
mod tokenize;
mod tokens;
pub mod vectors;

pub use activation::activation_udf;
pub use async_calls::AsyncCalls;
pub use bootstrap_interval::bootstrap_interval_udaf;
pub use detokenize::detokenize_udf;
pub use error::Error;
pub use interrupt::interruptible;
pub use tokenize::tokenize_udf;
pub use tokens::tokens_udf;

/// Every function of this crate, bound to a registry.
pub fn all(registry: &Arc<Registry>) -> Vec<ScalarUDF> {
    let of_models = vec![
        tokenize_udf(Arc::clone(registry)),
        tokens_udf(Arc::clone(registry)),
        detokenize_udf(Arc::clone(registry)),
        activation_udf(Arc::clone(registry)),
    ];
    of_models.into_iter().chain(graphs::all()).chain(vectors::all()).collect()
}

/// Every aggregate of this crate.
pub fn aggregates() -> Vec<AggregateUDF> {
    vec![bootstrap_interval_udaf()]
}
