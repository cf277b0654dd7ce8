//! Databases that are made to do harm.

#![allow(clippy::unwrap_used)]

mod whole_source;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use neuroql_formats::deepdecipher::DeepDecipher;
use neuroql_formats::{LayerSelection, Request, Source, Table};

use crate::whole_source::read_all;

/// Longest time that the reading of one database may take; whole ones take less than a hundredth of it.
const MOST_TIME: Duration = Duration::from_secs(10);

fn soon<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < MOST_TIME, "it took {:?}", start.elapsed());
    result
}

/// Tables that SQLite would have to compute, and values that are none.
#[test]
fn hostile_databases() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/deepdecipher/data.db");
    let with = |sql: &str| {
        std::fs::copy(&sample, &path).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        DeepDecipher::open(&path, None)
    };
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1 AS model_id, 1 AS data_type_id, \
                   0 AS layer_index, i AS neuron_index, x'' AS data FROM n";
    let error = soon(|| with(&format!("DROP TABLE neuron_data; CREATE VIEW neuron_data AS {endless}"))).unwrap_err();
    assert!(error.to_string().contains("its \"neuron_data\" is a view"), "{error}");
    let computed = "DROP TABLE neuron_data; CREATE TABLE neuron_data (model_id, data_type_id, layer_index, neuron_index, \
                    data AS (zeroblob(1000000000)))";
    let error = soon(|| with(computed)).unwrap_err();
    assert!(error.to_string().contains("column \"data\" of its table \"neuron_data\" is computed"), "{error}");
    let several = "INSERT INTO model VALUES (2, 'other', 1, 1, 'relu', 1, '')";
    let error = with(several).unwrap_err();
    assert!(error.to_string().contains("tiny-gpt2, other"), "{error}");
    let error = with("UPDATE model SET num_layers = 1000000000").unwrap_err();
    assert!(error.to_string().contains("1000000000 layers"), "{error}");

    let odd = "UPDATE neuron_data SET data = zeroblob(100) WHERE layer_index = 0 AND neuron_index = 0; \
               UPDATE neuron_data SET data = zeroblob(70000000) WHERE layer_index = 0 AND neuron_index = 1; \
               INSERT INTO neuron_data VALUES (1, 2, 7, 0, x'')";
    let source = with(odd).unwrap();
    let layers = (0..2).map(|layer| LayerSelection { layer, neurons: None }).collect();
    let mut reasons = Vec::new();
    let mut rows = 0;
    let mut sink = |item| {
        match item {
            neuroql_formats::Item::Reject(reject) => reasons.push(reject.reason),
            neuroql_formats::Item::Row(_) => rows += 1,
        }
        ControlFlow::Continue(())
    };
    source.scan(&Request { table: Table::Explanations, selection: layers, columns: &[] }, &mut sink).unwrap();
    assert_eq!((rows, reasons.len()), (4, 3), "{reasons:?}");
    assert!(reasons[1].contains("larger than"), "{reasons:?}");
    assert!(reasons[2].contains("1 values are of neurons that the model does not have"), "{reasons:?}");

    // The names of an old database.
    let old = "ALTER TABLE data_type RENAME TO data_object; ALTER TABLE model_data_type RENAME TO model_data_object; \
               ALTER TABLE model_data_object RENAME COLUMN data_type_id TO data_object_id; \
               ALTER TABLE neuron_data RENAME COLUMN data_type_id TO data_object_id";
    assert_eq!(read_all(with(old)), read_all(DeepDecipher::open(&sample, None)));
}
