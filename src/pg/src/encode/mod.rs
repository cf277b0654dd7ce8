//! Encoding of Arrow values in Postgres' text and binary formats.

pub(crate) mod column;
pub(crate) mod copy;
pub(crate) mod datetime;
pub(crate) mod modifiers;
pub(crate) mod nested_array;
mod ranges;
pub(crate) mod record;
