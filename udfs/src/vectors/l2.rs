//! `l2(real[], real[]) → double precision`

use datafusion::logical_expr::ScalarUDF;

use super::OfVectors;

/// The Euclidean distance between two vectors.
pub fn l2_udf() -> ScalarUDF {
    let description = "The Euclidean distance between two vectors.";
    OfVectors { name: "l2", description, kernel: |a, b| neuroql_analysis::l2(a, b).map(Some) }.udf()
}
