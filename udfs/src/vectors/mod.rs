//! Functions of two vectors: lists of numbers, such as the columns of `weights`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float32Array, Float64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::analysis_error;
use crate::tokenize::SECTION;

mod cosine;
mod dot;
mod l2;

pub use cosine::cosine_udf;
pub use dot::dot_udf;
pub use l2::l2_udf;

/// Every function over vectors.
pub(crate) fn all() -> Vec<ScalarUDF> {
    vec![dot_udf(), cosine_udf(), l2_udf()]
}

/// A function of two vectors of the same length. NULL if one of them is NULL or holds a NULL.
struct OfVectors {
    name: &'static str,
    description: &'static str,
    kernel: fn(&[f32], &[f32]) -> neuroql_analysis::Result<Option<f64>>,
}

impl OfVectors {
    fn udf(self) -> ScalarUDF {
        let names = ["a", "b"].map(String::from);
        let signature =
            Signature { parameter_names: Some(names.into()), ..Signature::user_defined(Volatility::Immutable) };
        let documentation = Documentation::builder(SECTION, self.description, format!("{}(a, b)", self.name))
            .with_argument("a", "An array of numbers")
            .with_argument("b", "An array of as many")
            .with_sql_example(format!("SELECT {}(ARRAY[1.0, 2.0], ARRAY[3.0, 4.0])", self.name))
            .build();
        ScalarUDF::from(Function { of: self, signature, documentation })
    }
}

struct Function {
    of: OfVectors,
    signature: Signature,
    documentation: Documentation,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.of.name).finish_non_exhaustive()
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.of.name == other.of.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.of.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let vector = |given: &DataType| match given {
            DataType::Null => true,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                item.data_type().is_numeric() || item.data_type().is_null()
            }
            _ => false,
        };
        match types {
            [a, b] if vector(a) && vector(b) => {
                Ok(vec![DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))); 2])
            }
            _ => plan_err!("function {}(real[], real[]) does not take {types:?}", self.of.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        // A literal is read once and not repeated for every row.
        let sides = [&args.args[0], &args.args[1]].map(Side::try_new);
        let [a, b] = sides;
        let (a, b) = (a?, b?);
        let value = |row| match (a.get(row), b.get(row)) {
            (Some(a), Some(b)) => (self.of.kernel)(a, b).map_err(analysis_error),
            _ => Ok(None),
        };
        Ok(ColumnarValue::Array(Arc::new((0..rows).map(value).collect::<Result<Float64Array>>()?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// An argument, its values borrowed.
struct Side {
    lists: ListArray,
    values: Float32Array,
    scalar: bool,
}

impl Side {
    fn try_new(argument: &ColumnarValue) -> Result<Self> {
        let scalar = matches!(argument, ColumnarValue::Scalar(_));
        let lists = argument.to_array(1)?.as_list::<i32>().clone();
        let values = lists.values().as_primitive::<Float32Type>().clone();
        Ok(Self { lists, values, scalar })
    }

    fn get(&self, row: usize) -> Option<&[f32]> {
        let row = if self.scalar { 0 } else { row };
        let range = self.lists.value_offsets()[row] as usize..self.lists.value_offsets()[row + 1] as usize;
        let holds_null = self.values.null_count() > 0 && range.clone().any(|i| self.values.is_null(i));
        (self.lists.is_valid(row) && !holds_null).then(|| &self.values.values()[range])
    }
}
