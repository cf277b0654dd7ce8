//! NULLs among the elements of an array, and comparisons with all of them.

use std::sync::Arc;

use datafusion::arrow::array::make_comparator;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, binary_expr,
};
use datafusion::scalar::ScalarValue;

/// Rewrites `x < ANY (array)` as DataFusion plans it, `CASE WHEN array_max(array) IS NOT NULL THEN … WHEN array IS NOT
/// NULL THEN false ELSE NULL END`, with NULL in the place of false where the array has one.
pub(super) fn minding(case: &Case) -> Option<Expr> {
    let Case { expr: None, when_then_expr, else_expr: Some(otherwise) } = case else { return None };
    let [(found, compared), (given, nothing)] = &when_then_expr[..] else { return None };
    let (Expr::IsNotNull(bound), Expr::IsNotNull(array)) = (&**found, &**given) else { return None };
    let is_bound = |function: &str| matches!(function, "array_max" | "array_min");
    if !matches!(&**bound, Expr::ScalarFunction(function) if is_bound(function.name()) && function.args.first() == Some(&**array))
        || !matches!(&**nothing, Expr::Literal(ScalarValue::Boolean(Some(false)), _))
        || !matches!(&**otherwise, Expr::Literal(ScalarValue::Boolean(None), _))
    {
        return None;
    }
    let unknown = ScalarUDF::from(NullIfContainsNull { signature: Signature::any(1, Volatility::Immutable) })
        .call(vec![(**array).clone()]);
    let compared = binary_expr((**compared).clone(), Operator::Or, unknown.clone());
    Some(Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(found.clone(), Box::new(compared)), (given.clone(), Box::new(unknown))],
        else_expr: Some(otherwise.clone()),
    }))
}

/// NULL where an array has a NULL, else false.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NullIfContainsNull {
    signature: Signature,
}

impl ScalarUDFImpl for NullIfContainsNull {
    fn name(&self) -> &str {
        "pg_null_among"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let lists = args.args[0].to_array(if is_scalar { 1 } else { args.number_rows })?;
        let answer = |row: usize| match lists.as_list_opt::<i32>() {
            Some(lists) if lists.is_valid(row) && lists.value(row).null_count() == 0 => Some(false),
            _ => None,
        };
        let answers: ArrayRef = Arc::new((0..lists.len()).map(answer).collect::<BooleanArray>());
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?)
        } else {
            ColumnarValue::Array(answers)
        })
    }
}

/// Returns `(a, b) < (c, d)`: the first values that differ decide.
pub(super) fn rows_compared(operator: Operator, left: &[Expr], right: &[Expr]) -> Option<Expr> {
    let strict = match operator {
        Operator::Lt | Operator::LtEq => Operator::Lt,
        Operator::Gt | Operator::GtEq => Operator::Gt,
        _ => return None,
    };
    let mut pairs = left.iter().zip(right).rev();
    let (left, right) = pairs.next()?;
    let last = binary_expr(left.clone(), operator, right.clone());
    Some(pairs.fold(last, |rest, (left, right)| {
        let differ = binary_expr(left.clone(), strict, right.clone());
        let equal = binary_expr(left.clone(), Operator::Eq, right.clone());
        differ.or(equal.and(rest))
    }))
}

/// Returns `a < b` of arrays, of which a NULL is the greatest element.
pub(super) fn arrays_compared(binary: &BinaryExpr) -> Option<Expr> {
    if !matches!(binary.op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return None;
    }
    let compared = ArrayComparison { operator: binary.op, signature: Signature::any(2, Volatility::Immutable) };
    Some(ScalarUDF::from(compared).call(vec![*binary.left.clone(), *binary.right.clone()]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayComparison {
    operator: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for ArrayComparison {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Lt => "pg_array_lt",
            Operator::LtEq => "pg_array_le",
            Operator::Gt => "pg_array_gt",
            _ => "pg_array_ge",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let (left, right) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let last = SortOptions { descending: false, nulls_first: false };
        let comparator = make_comparator(&left, &right, last)?;
        let answer = |row: usize| {
            (left.is_valid(row) && right.is_valid(row)).then(|| match self.operator {
                Operator::Lt => comparator(row, row).is_lt(),
                Operator::LtEq => comparator(row, row).is_le(),
                Operator::Gt => comparator(row, row).is_gt(),
                _ => comparator(row, row).is_ge(),
            })
        };
        let answers: ArrayRef = Arc::new((0..rows).map(answer).collect::<BooleanArray>());
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?)
        } else {
            ColumnarValue::Array(answers)
        })
    }
}
