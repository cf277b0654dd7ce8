//! Functions whose answers differ from those of Postgres.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::refusal;
use super::uuids;

/// `array_has`, as which `x = ANY (array)` is planned: NULL where `x` may be one of the array's NULLs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayHas {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl ArrayHas {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

/// Returns true if this function is [`ArrayHas`].
pub(super) fn is_array_has(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<ArrayHas>().is_some()
}

impl ScalarUDFImpl for ArrayHas {
    delegate!(name, aliases, return_type, return_field_from_args, documentation);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match uuids::array_and_item(types) {
            Some(types) => Ok(types),
            None => uuids::coerced(&self.function, types),
        }
    }

    // Not even NULL is in an empty array.
    fn is_strict(&self) -> bool {
        false
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match args.get(1) {
            Some(Expr::Literal(value, _)) if value.is_null() => Ok(ExprSimplifyResult::Original(args)),
            _ => self.function.simplify(args, info),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let lists = args.args[0].clone();
        let may_be_null = match &args.args[1] {
            ColumnarValue::Scalar(value) => value.is_null(),
            ColumnarValue::Array(values) => values.null_count() > 0,
        };
        let found = self.function.invoke_with_args(args)?;
        let DataType::List(_) = lists.data_type() else { return Ok(found) };
        let is_scalar = matches!((&lists, &found), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { rows };
        let lists = lists.into_array(rows)?;
        let lists = lists.as_list::<i32>();
        if lists.values().null_count() == 0 && !may_be_null {
            return Ok(found);
        }
        let found = found.into_array(rows)?;
        let minded = found.as_boolean().iter().enumerate().map(|(row, found)| match found {
            Some(false) if lists.value(row).null_count() > 0 => None,
            None if lists.is_valid(row) && lists.value_length(row) == 0 => Some(false),
            other => other,
        });
        let minded: ArrayRef = Arc::new(minded.collect::<BooleanArray>());
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&minded, 0)?)
        } else {
            ColumnarValue::Array(minded)
        })
    }
}

/// Greatest number of characters that `levenshtein` compares, as in Postgres: its time is the product of both lengths, and
/// nothing ends it within a value.
const LONGEST_COMPARED: usize = 255;

/// `levenshtein` of texts that are not long.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Levenshtein {
    function: Arc<ScalarUDF>,
}

impl Levenshtein {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for Levenshtein {
    delegate!(scalar);

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args.iter().map(|argument| match argument {
            ColumnarValue::Array(texts) => Ok((arrow_cast(texts, &DataType::Utf8View)?, false)),
            ColumnarValue::Scalar(text) => Ok((arrow_cast(&text.to_array()?, &DataType::Utf8View)?, true)),
        });
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let rows = if texts.iter().all(|(_, is_scalar)| *is_scalar) { 1 } else { args.number_rows };
        let is_long = |text: &str| text.len() > LONGEST_COMPARED && text.chars().count() > LONGEST_COMPARED;
        for row in 0..rows {
            let mut of_row = texts.iter().map(|(texts, is_scalar)| {
                let (texts, row) = (texts.as_string_view(), if *is_scalar { 0 } else { row });
                texts.is_valid(row).then(|| texts.value(row))
            });
            // With a NULL nothing is compared.
            if of_row.clone().all(|text| text.is_some()) && of_row.any(|text| text.is_some_and(is_long)) {
                let message = "levenshtein argument exceeds maximum length of 255 characters";
                return Err(refusal("22023", message));
            }
        }
        self.function.invoke_with_args(args)
    }
}

/// A function of floating-point numbers that fails where its answer would be no number.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FiniteFunction {
    function: Arc<ScalarUDF>,
}

impl FiniteFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for FiniteFunction {
    delegate!(scalar);

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (values, rows) = (args.args.clone(), args.number_rows);
        let found = self.function.invoke_with_args(args)?;
        let Some(row) = first_not_finite(&found, rows)? else { return Ok(found) };
        // Slow from here on: some answer is infinite or no number, and it is to be found out whether an argument is, too.
        let answers = found.clone().into_array(rows)?;
        let arguments = values.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        for row in row..answers.len() {
            if is_finite(&answers, row) || arguments.iter().any(|argument| !is_finite(argument, row)) {
                continue;
            }
            let last = arguments.last().and_then(|argument| number(argument, row)).unwrap_or(f64::NAN);
            return Err(match self.name() {
                "ln" | "log" | "log2" | "log10" if last == 0.0 => refusal("2201E", "cannot take logarithm of zero"),
                "ln" | "log" | "log2" | "log10" => refusal("2201E", "cannot take logarithm of a negative number"),
                "sqrt" => refusal("2201F", "cannot take square root of a negative number"),
                "power" if number(&arguments[0], row) == Some(0.0) => {
                    refusal("2201F", "zero raised to a negative power is undefined")
                }
                "power" if number(&answers, row).is_some_and(f64::is_nan) => {
                    refusal("2201F", "a negative number raised to a non-integer power yields a complex result")
                }
                "acos" | "asin" | "acosh" | "atanh" => refusal("22003", "input is out of range"),
                _ => refusal("22003", "value out of range: overflow"),
            });
        }
        Ok(found)
    }
}

fn first_not_finite(found: &ColumnarValue, rows: usize) -> Result<Option<usize>> {
    Ok(match found {
        ColumnarValue::Scalar(scalar) => (!is_finite(&scalar.to_array()?, 0)).then_some(0).filter(|_| rows > 0),
        ColumnarValue::Array(array) => match array.data_type() {
            DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().position(|it| !it.is_finite()),
            DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().position(|it| !it.is_finite()),
            _ => None,
        },
    })
}

fn number(array: &ArrayRef, row: usize) -> Option<f64> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Float32 => Some(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => Some(array.as_primitive::<Float64Type>().value(row)),
        _ => None,
    }
}

/// Returns true if a value is a finite number or none at all.
fn is_finite(array: &ArrayRef, row: usize) -> bool {
    number(array, row).is_none_or(f64::is_finite)
}

/// A function under another name.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RenamedFunction {
    function: Arc<ScalarUDF>,
    name: &'static str,
    aliases: Vec<String>,
}

impl RenamedFunction {
    /// Returns the function in the place of another.
    pub(super) fn of(function: Arc<ScalarUDF>, name: &'static str, instead_of: &ScalarUDF) -> ScalarUDF {
        ScalarUDF::from(Self { function, name, aliases: instead_of.aliases().to_vec() })
    }
}

impl ScalarUDFImpl for RenamedFunction {
    delegate!(signature, return_type, return_field_from_args, coerce_types, documentation);

    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.function.invoke_with_args(args)
    }
}

/// Returns the field of a function's values, which are of its `return_type` and may be NULL.
pub(super) fn nullable_field(function: &dyn ScalarUDFImpl, args: &ReturnFieldArgs) -> Result<FieldRef> {
    let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
    Ok(Arc::new(Field::new(function.name(), function.return_type(&types)?, true)))
}

/// Returns the same value as one that may be NULL.
pub(super) fn nullable(value: Expr) -> Expr {
    ScalarUDF::from(Nullable { signature: Signature::any(1, Volatility::Immutable) }).call(vec![value])
}

/// Returns the same value as one that may be NULL, and that the optimizer does not compute: a constant is not NULL to it.
pub(super) fn nullable_constant(value: Expr) -> Expr {
    ScalarUDF::from(Nullable { signature: Signature::any(1, Volatility::Volatile) }).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Nullable {
    signature: Signature,
}

impl ScalarUDFImpl for Nullable {
    fn name(&self) -> &str {
        "pg_nullable"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::clone(&args.arg_fields[0]).with_nullable(true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(args.args[0].clone())
    }
}
