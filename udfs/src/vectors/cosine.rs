//! `cosine(real[], real[]) → double precision`

use datafusion::logical_expr::ScalarUDF;

use super::OfVectors;

/// The cosine of the angle between two vectors.
pub fn cosine_udf() -> ScalarUDF {
    let description = "The cosine of the angle between two vectors, -1 to 1; NULL if one of them is zero.";
    OfVectors { name: "cosine", description, kernel: neuroql_analysis::cosine }.udf()
}
