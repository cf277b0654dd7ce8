//! Functions of texts, which PostgreSQL does not call with other values.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::expr::ScalarFunction;

use super::refusal::{refusal, type_name};

/// Those of them that take bytea.
const OF_BYTES: [&str; 3] = ["bit_length", "character_length", "octet_length"];

/// Functions whose first argument is a text, which DataFusion makes of numbers and bytes, too.
const OF_TEXT: [&str; 17] = [
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "repeat",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "upper",
];

/// Checks that a function of texts is not called with another value.
pub(super) fn check_text_function(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let Some(first) = call.args.first().filter(|_| OF_TEXT.contains(&call.name())) else { return Ok(()) };
    let is_other = |found: &DataType| match found {
        DataType::Boolean => true,
        found if found.is_binary() => !OF_BYTES.contains(&call.name()),
        found => found.is_numeric() || found.is_temporal(),
    };
    match first.get_type(schema) {
        Ok(found) if is_other(&found) => {
            let types = call.args.iter().map(|arg| arg.get_type(schema).map(|found| type_name(&found)));
            let types = types.collect::<Result<Vec<_>>>()?.join(", ");
            let name = if call.name() == "character_length" { "length" } else { call.name() };
            Err(refusal("42883", format!("function {name}({types}) does not exist")))
        }
        _ => Ok(()),
    }
}
