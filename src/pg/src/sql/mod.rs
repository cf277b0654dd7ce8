//! Preparation of the text of a query for DataFusion's planner: parsing, rewriting, names of columns, parameters.

mod assignment_casts;
pub(crate) mod assignments;
pub(crate) mod column_names;
pub(crate) mod deparse;
mod enum_functions;
pub(crate) mod error_positions;
mod generated_values;
pub(crate) mod json_values;
pub(crate) mod limits;
pub(crate) mod literals;
pub(crate) mod marks;
pub(crate) mod own_types;
pub(crate) mod own_values;
pub(crate) mod parameters;
pub(crate) mod parse;
pub(crate) mod positions;
pub(crate) mod rewrite;
pub(crate) mod sequence_syntax;
pub(crate) mod table_constraints;
pub(crate) mod two_phase;
pub(crate) mod unsupported;
pub(crate) mod utility;
