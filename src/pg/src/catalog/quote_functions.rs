//! `quote_ident` and `quote_literal`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

/// Registers both functions. The existing function quotes keywords.
pub(crate) fn register(context: &SessionContext) {
    if let Ok(known) = context.udf("quote_ident") {
        context.register_udf(ScalarUDF::new_from_impl(Quote { known: Some(known), signature: signature() }));
    }
    context.register_udf(ScalarUDF::new_from_impl(Quote { known: None, signature: signature() }));
}

fn signature() -> Signature {
    Signature::exact(vec![DataType::Utf8], Volatility::Immutable)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quote {
    /// The existing function of identifiers; `None` in the function of literals.
    known: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

/// Writes a text as a literal.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Quotes a name with anything but small letters, digits and underscores; `None` for other names, which may be
/// keywords.
fn identifier(name: &str) -> Option<String> {
    let mut bytes = name.bytes();
    let is_plain = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (!is_plain).then(|| format!("\"{}\"", name.replace('"', "\"\"")))
}

impl ScalarUDFImpl for Quote {
    fn name(&self) -> &str {
        if self.known.is_some() { "quote_ident" } else { "quote_literal" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?;
        let Some(known) = &self.known else {
            let quoted = texts.as_string::<i32>().iter().map(|text| text.map(literal));
            return Ok(ColumnarValue::Array(Arc::new(quoted.collect::<StringArray>())));
        };
        let rows = texts.len();
        let args = ScalarFunctionArgs { args: vec![ColumnarValue::Array(Arc::clone(&texts))], ..args };
        let keywords = cast(&known.invoke_with_args(args)?.into_array(rows)?, &DataType::Utf8)?;
        let pairs = texts.as_string::<i32>().iter().zip(keywords.as_string::<i32>().iter());
        let quoted = pairs.map(|(name, known)| name.and_then(|name| identifier(name).or(known.map(str::to_owned))));
        let quoted: ArrayRef = Arc::new(quoted.collect::<StringArray>());
        Ok(ColumnarValue::Array(quoted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks values as PostgreSQL 15 shows them.
    #[test]
    fn names_and_literals_are_quoted() {
        assert_eq!(identifier("A").as_deref(), Some("\"A\""));
        assert_eq!(identifier("é").as_deref(), Some("\"é\""));
        assert_eq!(identifier("a\"b").as_deref(), Some("\"a\"\"b\""));
        assert_eq!(identifier("1a").as_deref(), Some("\"1a\""));
        assert_eq!(identifier("a_1"), None);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'"), "E'a\\\\b'''");
    }
}
