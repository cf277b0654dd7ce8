//! Things that several rooms share: Arrow types, the rights of a session's user, and the way errors reach SQL.
//!
//! - [`graph_column`]: a neuron graph as an Arrow column, read and written.
//! - [`tables`]: the schemas of the tables that a store keeps.
//! - [`private_config_extension!`]: implements an extension of a session's configuration.
//! - [`Rights`]: what the user of a session may do.
//! - [`sql_error`]: wraps an error of any room for DataFusion; front ends find it again by its type.

mod config_extension;
mod error;
pub mod graph_column;
mod rights;
mod sql_error;
pub mod tables;

pub use error::Error;
pub use graph_column::{GraphBuilder, GraphColumn, graph_type, node_fields};
pub use rights::{Rights, Role, SchemaUsage};
pub use sql_error::sql_error;
