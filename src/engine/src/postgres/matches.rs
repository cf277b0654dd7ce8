//! `regexp_match`, whose groups that take no part are NULL.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;
use regex::Regex;

use super::casts::arrow_cast;
use super::refusal::refusal;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Match {
    function: Arc<ScalarUDF>,
}

impl Match {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

fn compiled(pattern: &str, flags: &str) -> Result<Regex> {
    let mut options = String::new();
    for flag in flags.chars() {
        match flag {
            'i' => options = "(?i)".into(),
            'c' => options.clear(),
            's' => {}
            'g' => return Err(refusal("22023", "regexp_match() does not support the \"global\" option")),
            other => return Err(refusal("0A000", format!("the option {other} of regexp_match is not supported"))),
        }
    }
    Regex::new(&format!("{options}{pattern}"))
        .map_err(|error| refusal("2201B", format!("invalid regular expression: {error}")))
}

impl ScalarUDFImpl for Match {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn is_strict(&self) -> bool {
        self.function.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let texts = args
            .args
            .iter()
            .map(|argument| arrow_cast(&argument.to_array(rows)?, &DataType::Utf8))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let text = |place: usize, row: usize| {
            let texts = texts.get(place)?.as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row))
        };
        let mut known: HashMap<(String, String), Regex> = HashMap::new();
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in 0..rows {
            let flags = if texts.len() > 2 { text(2, row) } else { Some("") };
            let (Some(subject), Some(pattern), Some(flags)) = (text(0, row), text(1, row), flags) else {
                lists.append_null();
                continue;
            };
            let key = (pattern.to_owned(), flags.to_owned());
            if !known.contains_key(&key) {
                known.insert(key.clone(), compiled(pattern, flags)?);
            }
            match known.get(&key).and_then(|regex| regex.captures(subject)) {
                Some(found) => {
                    let groups = found.iter().skip(usize::from(found.len() > 1));
                    groups.for_each(|group| lists.values().append_option(group.map(|group| group.as_str())));
                    lists.append(true);
                }
                None => lists.append_null(),
            }
        }
        let found: ArrayRef = arrow_cast(&(Arc::new(lists.finish()) as ArrayRef), args.return_field.data_type())?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}
