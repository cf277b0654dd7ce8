//! Tables: models, datasets, and for each model its neurons, activations, vocabulary and weights.
//!
//! A model is a schema of tables; each of them also stands in the default schema with a leading `model` column, over all
//! models. [`Catalog`] lays both over a catalog of DataFusion's, so that what users create lives beside them.
//! [`ModelFactory`] makes `CREATE EXTERNAL TABLE … STORED AS MODEL` work, [`Relations`] calls like
//! `top_neurons(model => …)`. The tables compute nothing themselves: they ask `neuroql-pipeline`. `registry.rs` lists both.

mod activations;
mod analyze;
mod async_method;
mod build_graphs;
mod bundled;
mod calls;
mod catalog;
mod circuits;
mod contents;
mod csv;
mod dataset;
mod datasets;
mod definition;
mod error;
mod estimate;
mod evaluate_graphs;
mod examples;
mod factory;
mod given_texts;
mod graphs;
mod guest;
mod holdings;
mod kept;
mod model_table;
mod models;
mod neuron_graph;
mod neurons;
mod pairwise;
mod predicate;
mod registry;
mod relation;
mod search;
mod settings;
mod similar_neurons;
mod similar_pairs;
mod simulate_graphs;
mod top_neurons;
mod unambiguous;
mod unfit;
mod verify_model;
mod vocabulary;
mod weights;

pub use activations::{AggregateInScan, TopInScan};
pub use bundled::bundled_corpus;
pub use calls::Relations;
pub use catalog::Catalog;
pub use csv::CsvFiles;
pub use definition::Defining;
pub use error::Error;
pub use factory::ModelFactory;
pub use given_texts::GivenTexts;
pub use graphs::DeleteAsAsked;
pub use guest::Guest;
pub use holdings::Holdings;
pub use relation::{ValuesGiven, superuser_relation};
pub use settings::{SessionDevice, Settings};
pub use unambiguous::Unambiguous;
pub use unfit::Unfit;
