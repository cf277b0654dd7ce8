//! SQL over the neurons of language models: the crate people add.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> datafusion::error::Result<()> {
//! let engine = neuroql::Engine::builder().build()?;
//! let session = engine.session();
//! let sql = "SELECT position, token, activation FROM toy.activations
//!            WHERE text = 'The President of the United States' AND layer = 1 AND neuron = 17
//!            ORDER BY position";
//! let rows = session.sql(sql).await?.collect().await?;
//! assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 6);
//! # Ok(()) }
//! ```
//!
//! [`Engine`] owns models, catalog and memory, and hands out sessions. A program that has a
//! [`SessionContext`](datafusion::prelude::SessionContext) of its own calls [`EngineBuilder::register`] with it, or
//! [`register_all`] for all defaults. [`expr_fn`] has functions for `DataFrame`s, [`GraphColumn`] reads the graphs of a
//! column, and [`datafusion`] is the version that all this is built on.

mod aggregates_from_statistics;
mod cancellable_rule;
mod changed_rows;
mod dialect;
mod distinct_limits;
mod engine;
mod nullable_inputs;
mod plans;
mod postgres;
mod register;
mod sqlstate;

pub use datafusion;
pub use dialect::PostgresDialect;
pub use engine::{Engine, EngineBuilder};
pub use neuroql_catalogs::{
    ChangeRights, Error as TableError, ParameterDocumentation, ReusablePlan, TableFunctionDocumentation, change_rights,
    column_comment, locations, locations_of, required_role, schema_of_scan, superuser_columns, table_comment,
    table_function_documentation,
};
pub use neuroql_graph::{Error as GraphError, Graph};
pub use neuroql_model::{
    CancelOnDrop, DeviceName, Error as ModelError, Model, NumberType, Options, Progress, Registry, Site,
};
pub use neuroql_schema::graph_column::{GraphBuilder, GraphColumn};
pub use neuroql_schema::{Rights, Role, SchemaUsage};
pub use neuroql_store::{Error as StoreError, Store};
pub use neuroql_udfs::{Error as FunctionError, SECTION as FUNCTION_SECTION, expr_fn, interruptible};
pub use plans::has_expression;
pub use postgres::{
    ARRAY_OF_ROWS, DateForm, DateOrder, DateStyle, IntervalFields, IntervalParts, IntervalUnit, MomentTypes,
    PostgresTypes, Refusal, UUID, ZonedTime, array_texts, bpchar, cast_case_results, floats, in_zone, is_ambiguous,
    is_uuid, json, local_constants, ordered_constant, ranges, read_date, read_instant, read_interval, read_time,
    read_timestamp, read_uuid, uuid_text, uuid_texts,
};
pub use register::register_all;
pub use sqlstate::{Diagnosis, diagnose, sqlstate};

pub use postgres::read_bytea;
