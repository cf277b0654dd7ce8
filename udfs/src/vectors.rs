//! Functions of two vectors, `dot`, `cosine` and `l2`: lists of numbers, such as the columns of `weights`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float32Array, Float64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_schema::sql_error;

use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;

/// Every function over vectors.
pub(crate) fn all() -> Vec<ScalarUDF> {
    vec![dot_udf(), cosine_udf(), l2_udf()]
}

/// The inner product of two vectors.
pub(crate) fn dot_udf() -> ScalarUDF {
    let description = "The inner product of two vectors; sums are double precision.";
    VectorFunction { name: "dot", description, kernel: |a, b| neuroql_analysis::dot(a, b).map(Some) }.udf()
}

/// The cosine of the angle between two vectors.
pub(crate) fn cosine_udf() -> ScalarUDF {
    let description = "The cosine of the angle between two vectors, -1 to 1; NULL if one of them is zero.";
    VectorFunction { name: "cosine", description, kernel: neuroql_analysis::cosine }.udf()
}

/// The Euclidean distance between two vectors.
pub(crate) fn l2_udf() -> ScalarUDF {
    let description = "The Euclidean distance between two vectors.";
    VectorFunction { name: "l2", description, kernel: |a, b| neuroql_analysis::l2(a, b).map(Some) }.udf()
}

/// A function of two vectors of the same length. NULL if one of them is NULL or holds a NULL.
struct VectorFunction {
    name: &'static str,
    description: &'static str,
    kernel: fn(&[f32], &[f32]) -> neuroql_analysis::Result<Option<f64>>,
}

impl VectorFunction {
    fn udf(self) -> ScalarUDF {
        let documentation = Documentation::builder(SECTION, self.description, format!("{}(a, b)", self.name))
            .with_argument("a", "An array of numbers")
            .with_argument("b", "An array of as many")
            .with_sql_example(format!("SELECT {}(ARRAY[1.0, 2.0], ARRAY[3.0, 4.0])", self.name))
            .build();
        function(self.name, documentation, self)
    }
}

impl Kernel for VectorFunction {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let vector = |given: &DataType| match given {
            DataType::Null => true,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                item.data_type().is_numeric() || item.data_type().is_null()
            }
            _ => false,
        };
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
        (types.len() == 2 && types.iter().all(vector)).then(|| vec![list; 2])
    }

    fn return_type(&self) -> DataType {
        DataType::Float64
    }

    fn invoke(&self, args: ScalarFunctionArgs, _: &Interrupt) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        // A literal is read once and not repeated for every row.
        let (a, b) = (VectorArgument::try_new(&args.args[0])?, VectorArgument::try_new(&args.args[1])?);
        let value = |row| match (a.get(row), b.get(row)) {
            (Some(a), Some(b)) => (self.kernel)(a, b).map_err(sql_error),
            _ => Ok(None),
        };
        Ok(ColumnarValue::Array(Arc::new((0..rows).map(value).collect::<Result<Float64Array>>()?)))
    }
}

/// An argument, its values borrowed.
struct VectorArgument {
    lists: ListArray,
    values: Float32Array,
    scalar: bool,
}

impl VectorArgument {
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
