//! Tables: models, datasets, and for each model its neurons, activations, vocabulary and weights.
//!
//! A model is a schema of tables; each of them also stands in the default schema with a leading `model` column, over
//! all models. [`Catalog`] lays both over a catalog of DataFusion's, so that what users create lives beside them.
//! [`ModelFactory`] makes `CREATE EXTERNAL TABLE … STORED AS MODEL` work, [`TableFunctionPlanner`] calls like
//! `top_neurons(model => …)`. The tables compute nothing themselves: they ask `neuroql-pipeline`. `registry.rs` lists
//! both.

mod async_method;
mod catalog;
mod create_statement;
mod documentation;
mod error;
mod factory;
mod imports;
mod parameter;
mod planner;
mod registry;
mod settings;
mod state;
mod table_functions;
mod tables;
mod view_definition;

pub use catalog::Catalog;
pub use create_statement::DdlRecordingFactory;
pub use documentation::{
    ParameterDocumentation, TableFunctionDocumentation, column_comment, table_comment, table_function_documentation,
};
pub use error::Error;
pub use factory::{ModelFactory, locations};
pub use imports::{ImportFactory, ImportFormat, N2gExport};
pub use planner::aggregate_pushdown::AggregatePushdown;
pub use planner::check_text_filters::CheckTextFilters;
pub use planner::guard_ambiguous_filters::GuardAmbiguousFilters;
pub use planner::reusable::ReusablePlan;
pub use planner::time_slices::TimeSlices;
pub use planner::top_k_pushdown::TopKPushdown;
pub use settings::{SessionDevice, Settings};
pub use state::EngineState;
pub use table_functions::api::{CheckParameterJoins, required_role};
pub use table_functions::call::TableFunctionPlanner;
pub use tables::bundled_corpus::bundled_corpus;
pub use tables::csv::CsvFactory;
pub use tables::delete::KeepDeleteFilter;
pub use tables::graph_error::InvalidGraph;
pub use tables::{ChangeRights, change_rights, locations_of, reads_activations, schema_of_scan, superuser_columns};
