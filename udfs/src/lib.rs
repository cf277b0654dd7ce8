//! SQL functions over models and graphs: thin, typed wrappers that hold no algorithm.
//!
//! [`all`] lists them, bound to the [`Registry`] whose models they run; [`expr_fn`] has those that need no model as
//! expressions for `DataFrame`s. Every function returns NULL if an argument is NULL.

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use neuroql_model::Registry;

mod activation;
mod arguments;
mod async_calls;
mod bootstrap_interval;
mod detokenize;
mod error;
pub mod expr_fn;
mod function;
mod generate;
mod graphs;
mod interrupt;
#[cfg(test)]
mod testing;
mod tokenize;
mod tokens;
mod vectors;

use activation::activation_udf;
pub use async_calls::AsyncCalls;
use bootstrap_interval::bootstrap_interval_udaf;
use detokenize::detokenize_udf;
pub use error::Error;
use generate::generate_udf;
pub use interrupt::{check_interrupt, interruptible};
pub use tokenize::SECTION;
use tokenize::tokenize_udf;
use tokens::tokens_udf;

/// Every function of this crate, bound to a registry.
pub fn all(registry: &Arc<Registry>) -> Vec<ScalarUDF> {
    let of_models = vec![
        tokenize_udf(Arc::clone(registry)),
        tokens_udf(Arc::clone(registry)),
        detokenize_udf(Arc::clone(registry)),
        activation_udf(Arc::clone(registry)),
        generate_udf(Arc::clone(registry)),
    ];
    of_models.into_iter().chain(graphs::all()).chain(vectors::all()).collect()
}

/// Every aggregate of this crate.
pub fn aggregates() -> Vec<AggregateUDF> {
    vec![bootstrap_interval_udaf()]
}
