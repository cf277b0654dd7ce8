//! Rows of any table about neurons, as DeepDecipher's services of JSON have whatever was put into its database.

use serde_json::{Map, Value, json};

use super::Index;
use crate::arrow_json::write_value;
use crate::error::Fault;
use crate::facts::{Facts, Place};
use crate::pages::neuron::sql;
use crate::parameters::Parameters;
use crate::query::{Answer, Asker};
use crate::sql_text::visible;

/// Tables that have rows about neurons; activations and attention are of texts.
const TABLES: [&str; 11] = [
    "examples",
    "explanation_scores",
    "explanations",
    "graph_nodes",
    "graphs",
    "neurons",
    "related_neurons",
    "related_tokens",
    "similar",
    "weights",
    "rejects",
];

/// Greatest number of rows of an answer.
const MOST: usize = 10_000;

/// Returns the table that a service is, if the model has it.
pub(super) fn table(facts: &Facts, service: &str) -> Option<&'static str> {
    TABLES.into_iter().find(|table| *table == service && facts.has(table))
}

/// Reads the rows of a model, a layer or a neuron; `get` picks a row by its index, or a column by its name.
///
/// # Errors
/// 400 for another parameter and for too many rows, 404 for a row or column that is not there.
pub(super) async fn data(
    asker: &mut Asker,
    facts: &Facts,
    table: &str,
    index: Index,
    parameters: &Parameters,
) -> Result<Value, Fault> {
    if let Some(name) = parameters.names().find(|name| *name != "get") {
        let shown = visible(&name.chars().take(40).collect::<String>());
        return Err(Fault::bad_request(format!("the service {table} has the parameter get only, and not \"{shown}\"")));
    }
    let statement = match index {
        Index::Neuron(place) => sql::rows(facts, table, place),
        Index::Layer(layer) => {
            // The statement of a neuron, for all of the layer.
            let of_neuron = sql::rows(facts, table, Place { layer, neuron: 0 });
            of_neuron.replace(" AND neuron = 0", " ORDER BY neuron")
        }
        Index::Model => {
            let of_neuron = sql::rows(facts, table, Place { layer: 0, neuron: 0 });
            of_neuron.replace(" WHERE layer = 0 AND neuron = 0", " ORDER BY layer, neuron")
        }
    };
    let answer = asker.ask_up_to(statement, MOST).await?;
    if !answer.is_whole {
        return Err(Fault::bad_request(format!(
            "there are more than {MOST} rows; ask for those of a layer or a neuron, or query them by /v1/query"
        )));
    }
    let Some(wanted) = parameters.get("get") else {
        return answer.rows().map(|row| object(&answer, row)).collect();
    };
    let shown = visible(&wanted.chars().take(40).collect::<String>());
    if !wanted.is_empty() && wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        let row = wanted.parse::<usize>().ok().filter(|row| *row < answer.len());
        let missing =
            || Fault::not_found(format!("there is no row {shown}: there are {}, counted from 0", answer.len()));
        return object(&answer, row.ok_or_else(missing)?);
    }
    if answer.raw.schema_ref().index_of(wanted).is_err() {
        return Err(Fault::not_found(format!("{table} has no column \"{shown}\"")));
    }
    answer.rows().map(|row| Ok(object(&answer, row)?[wanted].take())).collect()
}

fn object(answer: &Answer, row: usize) -> Result<Value, Fault> {
    let mut object = Map::new();
    for (field, column) in answer.raw.schema_ref().fields().iter().zip(answer.raw.columns()) {
        let mut text = String::new();
        write_value(&mut text, column, row).map_err(Fault::internal)?;
        let value = serde_json::from_str(&text).map_err(Fault::internal)?;
        object.insert(field.name().clone(), value);
    }
    Ok(json!(object))
}
