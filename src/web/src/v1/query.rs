//! `POST /v1/query`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::formats::{Format, Writer};
use crate::error::{Fault, JsonFault};
use crate::query::{Streamed, Visitor};
use crate::routes::Shared;

/// Greatest number of parameters of a statement.
const MOST_PARAMETERS: usize = 1000;

/// A statement, its parameters, and the form of its rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    sql: String,
    #[serde(default)]
    parameters: Vec<serde_json::Value>,
    #[serde(default)]
    format: Format,
    /// Greatest number of rows.
    limit: Option<usize>,
}

/// Runs one statement, and sends its rows as they come.
pub(crate) async fn query(
    State(site): State<Arc<Shared>>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, JsonFault> {
    let request = read(&headers, &body.map_err(|rejection| Fault::new(rejection.status(), rejection.body_text()))?)?;
    if request.parameters.len() > MOST_PARAMETERS {
        return Err(Fault::bad_request(format!("a statement may have {MOST_PARAMETERS} parameters")).into());
    }
    let values = request.parameters.iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
    let asker = site.statements.for_query(&visitor).await?;
    let mut streamed = asker.stream(&request.sql, &values).await?;
    // An error that comes before any row has a status of its own.
    let first = streamed.rows.next().await?;
    let types = streamed.rows.type_names();
    let mut writer = Writer::new(request.format, streamed.rows.schema(), &types, request.limit).map_err(Fault::from)?;
    let mut begun = writer.begin();
    let is_empty = first.is_none();
    if let Some(batch) = first {
        writer.write(&batch, &mut begun).map_err(Fault::from)?;
    }
    let state = (streamed, writer, Some(begun), is_empty);
    let chunks = futures::stream::unfold(Some(state), async |state| {
        let (mut streamed, mut writer, begun, is_over) = state?;
        if let Some(begun) = begun
            && !begun.is_empty()
        {
            return Some((Ok(Bytes::from(begun)), Some((streamed, writer, None, is_over))));
        }
        match next(&mut streamed, &mut writer, is_over).await {
            Ok((bytes, true)) => Some((Ok(bytes), None)),
            Ok((bytes, false)) => Some((Ok(bytes), Some((streamed, writer, None, false)))),
            Err(fault) => match writer.fail(&fault) {
                Some(bytes) => Some((Ok(Bytes::from(bytes)), None)),
                // The connection is cut, so that nobody takes a part for the whole.
                None => Some((Err(std::io::Error::other(fault.message)), None)),
            },
        }
    });
    let name = format!("attachment; filename=\"neuroql.{}\"", request.format.extension());
    let headers = [(header::CONTENT_TYPE, request.format.media_type().to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// Reads the body of a request. Only `application/json` will do: a form of another site cannot send that.
fn read(headers: &HeaderMap, body: &[u8]) -> Result<Request, Fault> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let message = "the body is JSON, with Content-Type: application/json";
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    serde_json::from_slice(body)
        .map_err(|error| Fault::bad_request(format!("the body is not as it should be: {error}")))
}

/// Takes and writes more rows; the flag is true at the end.
async fn next(streamed: &mut Streamed, writer: &mut Writer, is_over: bool) -> Result<(Bytes, bool), Fault> {
    let mut out = Vec::new();
    while !is_over && !writer.is_full() && out.is_empty() {
        let Some(batch) = streamed.rows.next().await? else { break };
        writer.write(&batch, &mut out)?;
    }
    let is_end = out.is_empty();
    if is_end {
        let has_more = !is_over && writer.is_full() && streamed.rows.next().await?.is_some();
        writer.finish(&mut out, has_more)?;
    }
    Ok((Bytes::from(out), is_end))
}

/// Returns a parameter in Postgres' text format.
fn parameter(value: &serde_json::Value) -> Result<Option<String>, Fault> {
    use serde_json::Value;
    Ok(match value {
        Value::Null => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(array(items)?),
        Value::Object(_) => {
            return Err(Fault::bad_request("a parameter is a number, a text, a boolean, null or an array"));
        }
    })
}

fn array(items: &[serde_json::Value]) -> Result<String, Fault> {
    use serde_json::Value;
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let items = items.iter().map(|item| match item {
        Value::Null => Ok("NULL".to_owned()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(quoted(text)),
        Value::Array(inner) => array(inner),
        Value::Object(_) => Err(Fault::bad_request("an array holds numbers, texts, booleans, nulls or arrays")),
    });
    Ok(format!("{{{}}}", items.collect::<Result<Vec<_>, _>>()?.join(",")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parameter;

    #[test]
    fn parameters_are_texts_of_postgres() {
        for (given, text) in [
            (json!(null), None),
            (json!(1.5), Some("1.5")),
            (json!("a'b"), Some("a'b")),
            (json!(true), Some("true")),
            (json!([1, null, 2]), Some("{1,NULL,2}")),
            (json!(["a\"b\\", "c"]), Some("{\"a\\\"b\\\\\",\"c\"}")),
        ] {
            assert_eq!(parameter(&given).unwrap().as_deref(), text);
        }
        assert!(parameter(&json!({})).is_err());
    }
}
