//! A tester of scalar functions: the same answer however an argument comes, and NULL where one is NULL.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ScalarUDF, lit};
use datafusion::prelude::{SessionContext, col};

/// Types of strings in the data of other programs.
fn string_types() -> [DataType; 4] {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary]
}

/// Calls a function on a table with the columns `columns`. Arguments whose indices are in `literal` are literals
/// instead.
async fn call(function: &ScalarUDF, columns: &[ArrayRef], literal: &[usize]) -> datafusion::error::Result<ArrayRef> {
    let fields = columns.iter().enumerate();
    let fields: Vec<_> = fields.map(|(i, c)| Field::new(format!("a{i}"), c.data_type().clone(), true)).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec())?;
    let argument = |(i, column): (usize, &ArrayRef)| -> datafusion::error::Result<Expr> {
        Ok(match literal.contains(&i) {
            true => lit(ScalarValue::try_from_array(column, 0)?),
            false => col(format!("a{i}")),
        })
    };
    let arguments = columns.iter().enumerate().map(argument).collect::<datafusion::error::Result<_>>()?;
    let frame = SessionContext::new().read_batch(batch)?.select(vec![function.call(arguments).alias("answer")])?;
    let batches = frame.collect().await?;
    let answers: Vec<_> = batches.iter().map(|batch| batch.column(0).as_ref()).collect();
    Ok(concat(&answers)?)
}

/// Checks a function on arguments for which its answer is not NULL.
pub(crate) async fn check(function: &ScalarUDF, arguments: &[ScalarValue]) {
    let name = function.name();
    let column = |value: &ScalarValue, rows: usize| value.to_array_of_size(rows).unwrap();
    let columns: Vec<_> = arguments.iter().map(|argument| column(argument, 3)).collect();
    let expected = call(function, &columns, &[]).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((expected.len(), expected.null_count()), (3, 0), "{name}");

    // All literals, and each of them.
    let all: Vec<_> = (0..arguments.len()).collect();
    for literal in all.iter().map(|i| vec![*i]).chain([all.clone()]) {
        let found = call(function, &columns, &literal).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&found, &expected, "{name} with literals {literal:?}");
    }
    for at in 0..arguments.len() {
        // NULL in the middle, and a NULL without a type.
        let null = ScalarValue::try_new_null(&arguments[at].data_type()).unwrap();
        let (value, none) = (column(&arguments[at], 1), column(&null, 1));
        let mut holed = columns.clone();
        holed[at] = concat(&[value.as_ref(), none.as_ref(), value.as_ref()]).unwrap();
        let found = call(function, &holed, &[]).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(found.is_valid(0) && found.is_null(1) && found.is_valid(2), "{name} with NULL as argument {at}");
        assert_eq!(found.slice(0, 1).as_ref(), expected.slice(0, 1).as_ref(), "{name}");
        let mut untyped = columns.clone();
        untyped[at] = column(&ScalarValue::Null, 3);
        let found = call(function, &untyped, &[]).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.logical_null_count(), 3, "{name} with an untyped NULL as argument {at}");

        if arguments[at].data_type().is_string() {
            for string in string_types() {
                let mut other = columns.clone();
                other[at] = cast(&columns[at], &string).unwrap();
                let found =
                    call(function, &other, &[]).await.unwrap_or_else(|error| panic!("{name}, {string}: {error}"));
                assert_eq!(&found, &expected, "{name} of {string}");
            }
        }
    }

    // No rows.
    let empty: Vec<_> = columns.iter().map(|column| column.slice(0, 0)).collect();
    assert_eq!(call(function, &empty, &[]).await.map_or(0, |answers| answers.len()), 0, "{name}");
}

mod tests {
    use datafusion::arrow::array::{Float32Array, Int32Array, ListArray};
    use datafusion::arrow::buffer::OffsetBuffer;
    use neuroql_graph::formats::json;
    use neuroql_schema::graph_column::GraphBuilder;

    use super::*;
    use crate::{graphs, vectors};

    fn list(values: ArrayRef) -> ScalarValue {
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        ScalarValue::List(Arc::new(ListArray::new(field, offsets, values, None)))
    }

    const GRAPH: &str = r#"{"version": 1, "nodes": [
        {"parent": null, "kind": "token", "id": 265, "token": " the", "importance": 1, "activation": 1, "ends": null,
         "support": 1},
        {"parent": 0, "kind": "token", "id": 287, "token": " of", "importance": 0.5, "activation": 0, "ends": 0.9,
         "support": 1}]}"#;

    fn graph() -> ScalarValue {
        let mut builder = GraphBuilder::default();
        builder.append(Some(&json::parse(GRAPH).unwrap())).unwrap();
        let column: ArrayRef = Arc::new(builder.finish().unwrap());
        ScalarValue::try_from_array(&column, 0).unwrap()
    }

    #[tokio::test]
    async fn functions_of_graphs() {
        let text = |text: &str| ScalarValue::Utf8(Some(text.into()));
        let ids = || list(Arc::new(Int32Array::from(vec![287, 265])));
        for function in graphs::all() {
            let samples: Vec<Vec<ScalarValue>> = match function.name() {
                "simulate" => vec![vec![graph(), ids()], vec![graph(), ids(), text("max")]],
                "graph_similarity" => vec![
                    vec![graph(), graph()],
                    vec![graph(), graph(), text("tokens")],
                    vec![graph(), graph(), text("behaviour"), ids()],
                ],
                "graph_contains" | "graph_union" | "graph_intersection" | "graph_difference" => {
                    vec![vec![graph(), graph()]]
                }
                "graph_from_json" => vec![vec![text(GRAPH)]],
                "graph_simplify" => vec![vec![graph(), 2i64.into()], vec![graph(), 1i64.into()]],
                "graph_embedding" => vec![vec![graph()], vec![graph(), 8i64.into()]],
                "graph_svg" => vec![
                    vec![graph()],
                    vec![graph(), text("a title"), text("dark"), text("/search?q="), ScalarValue::Int64(Some(5))],
                ],
                "graph_dot" | "graph_mermaid" => vec![vec![graph()], vec![graph(), text("a title")]],
                _ => vec![vec![graph()]],
            };
            for arguments in samples {
                check(&function, &arguments).await;
            }
        }
    }

    #[tokio::test]
    async fn functions_of_vectors() {
        for function in vectors::all() {
            let vector = |values: Vec<f32>| list(Arc::new(Float32Array::from(values)));
            check(&function, &[vector(vec![1.0, 2.0]), vector(vec![3.0, -4.0])]).await;
        }
    }
}
