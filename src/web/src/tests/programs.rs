//! `/v1`.

use axum::http::StatusCode;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::Client;

const FIVE: &str =
    "SELECT value AS a, 'x' || value AS \"b\"\"c\", ARRAY[value, NULL] AS l FROM generate_series(1, 5) AS g(value)";

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_all_forms() {
    let client = Client::new().await;
    let answer = client.query(json!({ "sql": FIVE })).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    assert_eq!(body["columns"][0], json!({ "name": "a", "type": "bigint" }));
    assert_eq!(body["columns"][1]["name"], "b\"c");
    assert_eq!((&body["rows"][4], &body["complete"]), (&json!([5, "x5", [5, null]]), &json!(true)));

    let lines = client.query(json!({ "sql": FIVE, "format": "ndjson", "limit": 2 })).await;
    let lines: Vec<serde_json::Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [json!({ "a": 1, "b\"c": "x1", "l": [1, null] }), json!({ "a": 2, "b\"c": "x2", "l": [2, null] })]
    );

    let csv = client.query(json!({ "sql": FIVE, "format": "csv", "limit": 1 })).await;
    assert_eq!(csv.text(), "a,\"b\"\"c\",l\n1,x1,\"[1,null]\"\n");
    assert_eq!(csv.header("content-disposition"), "attachment; filename=\"neuroql.csv\"");

    let arrow = client.query(json!({ "sql": FIVE, "format": "arrow" })).await;
    let batches: Vec<_> = StreamReader::try_new(arrow.body.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 5);
    assert_eq!(batches[0].schema().field(1).name(), "b\"c");

    let parquet = client.query(json!({ "sql": FIVE, "format": "parquet" })).await;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(parquet.body)).unwrap().build().unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 5);

    let cut = client.query(json!({ "sql": FIVE, "limit": 3 })).await.json();
    assert_eq!((cut["rows"].as_array().unwrap().len(), &cut["complete"]), (3, &json!(false)));
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let none = client.query(json!({ "sql": format!("{FIVE} WHERE value > 9"), "format": format })).await;
        assert_eq!(none.status, StatusCode::OK, "{format}");
        let many = client.query(json!({ "sql": "SELECT g FROM generate_series(1, 100000) g", "format": format })).await;
        assert!(many.status == StatusCode::OK && many.body.len() > 50_000, "{format}: {}", many.body.len());
    }
    let twins = client.query(json!({ "sql": "SELECT 1 AS a, 2 AS a", "format": "parquet" })).await;
    assert_eq!(twins.status, StatusCode::BAD_REQUEST);
    assert_eq!(client.query(json!({ "sql": "SELECT 1 AS a, 2 AS a" })).await.json()["rows"], json!([[1, 2]]));
}

/// A result may have rows and no columns, as in Postgres.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_columns() {
    let client = Client::new().await;
    let rows = |format: &str| client.query(json!({ "sql": "SELECT FROM generate_series(1, 2)", "format": format }));
    let json = rows("json").await.json();
    assert_eq!((&json["columns"], &json["rows"]), (&json!([]), &json!([[], []])));
    assert_eq!(rows("ndjson").await.text(), "{}\n{}\n");
    assert_eq!(rows("csv").await.text(), "\n\n\n");
    let arrow = rows("arrow").await;
    let batches = StreamReader::try_new(arrow.body.as_slice(), None).unwrap().map(Result::unwrap);
    assert_eq!(batches.map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(rows("parquet").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_values() {
    let client = Client::new().await;
    let sql = "SELECT $1::text AS t, $2::int + 1 AS n, $3::real[] AS l, $4::boolean AS b, $5::text AS z";
    let given = json!(["'; DROP TABLE toy; --", 41, [1.5, null], true, null]);
    let answer = client.query(json!({ "sql": sql, "parameters": given })).await.json();
    assert_eq!(answer["rows"], json!([["'; DROP TABLE toy; --", 42, [1.5, null], true, null]]));
    let text = "SELECT token FROM toy.activations WHERE text = $1 AND layer = $2 AND neuron = $3 ORDER BY position";
    let answer = client.query(json!({ "sql": text, "parameters": ["import numpy", 1, 17] })).await.json();
    assert_eq!(answer["rows"][0], json!(["import"]));
    for (parameters, sqlstate) in
        [(json!([]), "08P01"), (json!(["a", 1, 2, 3]), "08P01"), (json!(["a", "x", 1]), "22P02")]
    {
        let answer = client.query(json!({ "sql": text, "parameters": parameters })).await;
        assert_eq!((answer.status, &answer.json()["error"]["sqlstate"]), (StatusCode::BAD_REQUEST, &json!(sqlstate)));
    }
    let object = client.query(json!({ "sql": "SELECT $1", "parameters": [{}] })).await;
    assert_eq!(object.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_rows_is_told() {
    let client = Client::new().await;
    // Batches of rows come before the one that fails.
    let sql = "SELECT 10 / (50000 - g) AS x FROM generate_series(1, 60000) g";
    let answer = client.query(json!({ "sql": sql })).await;
    let body = answer.json();
    if answer.status == StatusCode::OK {
        assert_eq!((&body["complete"], &body["error"]["sqlstate"]), (&json!(false), &json!("22012")));
    } else {
        assert_eq!(body["error"]["sqlstate"], "22012");
    }
    let position = client.query(json!({ "sql": "SELECT a FRO b" })).await.json();
    assert_eq!(position["error"]["position"], 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_site() {
    let client = Client::new().await;
    let models = client.get("/v1/models").await.json();
    let toy = models["models"].as_array().unwrap().iter().find(|model| model["model"] == "toy").unwrap();
    assert_eq!((&toy["layers"], &toy["neurons_per_layer"], &toy["is_network"]), (&json!(2), &json!(512), &json!(true)));
    assert_eq!(client.get("/v1/models/dd").await.json()["is_network"], false);

    let neuron = client.get("/v1/models/toy/neurons/1/480").await.json();
    assert!(neuron["statistics"][0]["kurtosis"].is_number() && neuron["graphs"][0]["graph"].is_string(), "{neuron}");
    assert_eq!(neuron["statistics"][0]["histogram"].as_array().unwrap().len(), 56);
    let examples = client.get("/v1/models/toy/neurons/1/480/examples").await.json();
    assert!(examples["examples"].as_array().unwrap().len() > 20 && examples["complete"] == true);
    let run = client.get("/v1/models/toy/neurons/1/17/activations?text=import%20numpy").await.json();
    assert_eq!(run["activations"][0]["token"], "import");
    assert!(run["activations"][0]["predicted"].is_number());
    let top = client.get("/v1/top-neurons?model=toy&text=import%20numpy%20as%20np&k=5").await.json();
    assert_eq!(top["neurons"].as_array().unwrap().len(), 5);
    let found = client.get("/v1/search?q=activating%3Aimport&limit=1").await.json();
    assert_eq!((found["neurons"].as_array().unwrap().len(), &found["complete"]), (1, &json!(false)));
    assert_eq!(client.get("/v1/openapi.json").await.json()["openapi"], "3.1.0");

    for (path, status) in [
        ("/v1/models/nobody", StatusCode::NOT_FOUND),
        ("/v1/models/toy/neurons/9/0", StatusCode::NOT_FOUND),
        ("/v1/models/dd/neurons/0/0/activations?text=x", StatusCode::NOT_FOUND),
        ("/v1/models/toy/neurons/0/0/activations", StatusCode::BAD_REQUEST),
        ("/v1/top-neurons?model=toy", StatusCode::BAD_REQUEST),
        ("/v1/top-neurons?model=toy&text=x&k=-1", StatusCode::BAD_REQUEST),
        ("/v1/search", StatusCode::BAD_REQUEST),
        ("/v1/search?q=(", StatusCode::BAD_REQUEST),
        ("/v1/nothing", StatusCode::NOT_FOUND),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
}
