//! Functions of texts, which PostgreSQL does not call with other values.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::expr::ScalarFunction;

use super::refusal::{refusal, type_name};

/// Functions whose first argument is a text (or a bytea), which DataFusion makes of numbers, too.
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
    match first.get_type(schema) {
        Ok(found) if found.is_numeric() || found.is_temporal() || found == DataType::Boolean => {
            let types = call.args.iter().map(|arg| arg.get_type(schema).map(|found| type_name(&found)));
            let types = types.collect::<Result<Vec<_>>>()?.join(", ");
            let name = if call.name() == "character_length" { "length" } else { call.name() };
            Err(refusal("42883", format!("function {name}({types}) does not exist")))
        }
        _ => Ok(()),
    }
}
