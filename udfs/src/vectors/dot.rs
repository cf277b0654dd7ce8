//! `dot(real[], real[]) → double precision`

use datafusion::logical_expr::ScalarUDF;

use super::OfVectors;

/// The inner product of two vectors.
pub fn dot_udf() -> ScalarUDF {
    let description = "The inner product of two vectors; sums are double precision.";
    OfVectors { name: "dot", description, kernel: |a, b| neuroql_analysis::dot(a, b).map(Some) }.udf()
}
