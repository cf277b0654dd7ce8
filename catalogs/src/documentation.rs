//! Descriptions of tables, columns and table functions, as clients show them.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::TableProvider;
use datafusion::scalar::ScalarValue;

use crate::imports::ImportTable;
use crate::registry::table_functions;
use crate::table_functions::api::TableFunctionProvider;
use crate::tables::datasets::Datasets;
use crate::tables::model_table::{AllModelsTableProvider, ModelTableProvider};
use crate::tables::models::Models;

/// A table and its columns.
struct TableComment {
    table: &'static str,
    comment: &'static str,
    columns: &'static [(&'static str, &'static str)],
}

/// Columns that mean the same in every table that has them.
const COMMON: &[(&str, &str)] = &[
    ("model", "name of the model"),
    ("layer", "layer, from 0"),
    ("neuron", "number of the neuron in its layer, from 0"),
    ("dataset", "name of the dataset that was read"),
    ("document", "number of the document in its dataset, from 0, or its column document"),
    ("example", "number of the window of the document, from 0"),
    ("position", "number of the token in its example, from 0"),
    ("token_id", "number of the token in the model's vocabulary"),
    ("token", "text of the token"),
    ("location", "file, folder or URL; NULL for users who may not see it"),
];

const TABLES: &[TableComment] = &[
    TableComment {
        table: "models",
        comment: "Registered models and the properties that their activations depend on",
        columns: &[
            ("architecture", "architecture of the network, as its configuration names it"),
            ("layers", "number of layers"),
            ("neurons_per_layer", "number of neurons of a layer"),
            ("d_model", "width of the residual stream"),
            ("activation_function", "activation function of the MLPs"),
            (
                "site",
                "where activations are read, by TransformerLens' name; a full hook name if one layer alone is read",
            ),
            ("parameters", "number of weights"),
            ("vocabulary", "number of tokens of the vocabulary"),
            ("context", "number of tokens that the network can read at once"),
            ("sha256", "SHA-256 of the weights"),
            ("dtype", "type of numbers that the forward pass computes in"),
            ("device", "device that the model runs on"),
            ("bos", "true if each example begins with the BOS token"),
            ("window", "number of tokens of an example at most"),
            ("tokenizer_sha256", "SHA-256 of the tokenizer's file"),
            ("revision", "revision of the hub's repository, such as main or step1000; NULL for models from elsewhere"),
            ("commit_sha", "commit that the revision was when the model was loaded"),
            ("step", "training step that the name of the revision has"),
        ],
    },
    TableComment {
        table: "datasets",
        comment: "Tables with a column of text, whose rows are documents",
        columns: &[
            ("documents", "number of documents, NULL if it is not known without reading them"),
            ("text_column", "column with the text of a document"),
        ],
    },
    TableComment {
        table: "activations",
        comment: "Activation of each neuron on each token of a text or dataset; a scan runs the model as far as the query needs",
        columns: &[
            ("text", "text of the document; a filter text = '…' gives the model a text"),
            ("activation", "value of the neuron at the model's site"),
        ],
    },
    TableComment {
        table: "attention",
        comment: "How much each token of a text attends to each; a scan runs the model as far as the layers asked for",
        columns: &[
            ("text", "the text, which a filter text = '…' gives"),
            ("head", "query head of the layer, from 0"),
            ("query", "position of the token that attends, from 0"),
            ("key", "position of the token that it attends to, from 0; -1 for BOS"),
            ("weight", "weight of the key for the query, from 0 to 1"),
        ],
    },
    TableComment {
        table: "neurons",
        comment: "Statistics of each neuron over each analysed dataset, and scores of its graph",
        columns: &[
            ("tokens", "number of tokens analysed"),
            ("mean", "mean activation"),
            ("variance", "variance of the activation"),
            ("skewness", "skewness of the activation"),
            ("kurtosis", "kurtosis of the activation, 3 for a normal distribution"),
            ("max_activation", "greatest activation"),
            ("min_activation", "least activation"),
            ("density", "share of tokens with an activation above 0"),
            ("histogram", "share of tokens in each of 56 bins: edges at 0, ±2^k and ±1.5·2^k from 2^-6 to 2^7"),
            ("nodes", "number of nodes of the neuron's graph"),
            ("precision", "precision of the graph on held-out examples"),
            ("recall", "recall of the graph on held-out examples"),
            ("f1", "F1 of the graph on held-out examples"),
            ("expert", "expert of a mixture that the neuron is of, NULL in a dense layer"),
        ],
    },
    TableComment {
        table: "examples",
        comment: "Examples on which each neuron is strongest (rank), and one at random of each octave of strength (quantile); \
                  published examples, which have a source",
        columns: &[
            ("rank", "1 for the strongest example, NULL for those drawn at random"),
            ("position", "number of the strongest token in its example, from 0; of published examples, in tokens"),
            ("activation", "activation at that token"),
            (
                "tokens",
                "texts of the tokens around it, 15 before and 4 after; of published examples, all that there are",
            ),
            ("activations", "activations of these tokens"),
            ("quantile", "share of examples that are weaker, NULL for the strongest examples"),
            ("source", "who has published the example, NULL for those of an analysis"),
            ("bos", "true if the first of the tokens is that of the beginning of a text"),
            ("token_ids", "ids of the tokens; NULL where a published text is not that of exactly one token"),
            ("max_activation", "greatest activation of the text, as published"),
            ("min_activation", "least activation of the text, as published"),
            ("max_range", "upper end of the scale that the text is drawn with, as published"),
            ("min_range", "lower end of the scale that the text is drawn with, as published"),
        ],
    },
    TableComment {
        table: "graphs",
        comment: "Neuron graphs: tries of the token patterns that fire each neuron, with their scores",
        columns: &[
            ("dataset", "name of the dataset whose examples the graph was built from"),
            ("graph", "the graph, for simulate, graph_text, graph_svg and other functions"),
            ("nodes", "number of nodes"),
            ("patterns", "number of patterns"),
            ("max_activation", "greatest activation of the neuron on the examples, to which importances are scaled"),
            ("precision", "share of tokens predicted to fire that do, on held-out examples"),
            ("recall", "share of tokens that fire which are predicted, on held-out examples"),
            ("f1", "harmonic mean of precision and recall"),
            ("accuracy", "share of held-out tokens predicted rightly"),
            ("r2", "coefficient of determination of predicted activations"),
            ("pearson", "correlation of predicted and real activations"),
            (
                "random_precision",
                "precision on random text, NULL if nothing is predicted to fire there; averages leave NULL out: \
                 coalesce(random_precision, 0) counts it as 0",
            ),
            ("random_recall", "recall on random text, NULL if nothing fires"),
            ("method", "method that built the graph: neuroql, n2g or another"),
            ("seconds", "time that building it took"),
            ("built_at", "time at which it was built"),
            ("reason", "reason why there is no graph, NULL if there is one"),
            ("options", "options it was built with, as JSON"),
            ("positives", "number of held-out tokens that fire the neuron"),
            (
                "random_positives",
                "number of tokens of random text that fire the neuron; NULL of graphs kept before it was",
            ),
            ("random_predictions", "number of tokens of random text that are predicted to fire; NULL as before"),
            ("named_tokens", "number of distinct tokens that the nodes name; NULL as before"),
            ("description_length", "bits that describe the graph, see graph_simplify; NULL as before"),
        ],
    },
    TableComment {
        table: "explanations",
        comment: "Explanations of neurons in words, with scores",
        columns: &[
            ("source", "who explains the neuron"),
            ("explanation", "the explanation"),
            ("score", "score that the source gives, of OpenAI's the correlation of simulated and true activations"),
        ],
    },
    TableComment {
        table: "graph_nodes",
        comment: "Nodes of the graphs, a row each",
        columns: &[
            ("node", "number of the node in its graph, from 0, parents before children"),
            (
                "parent",
                "number of the node one token nearer to the activating token, -1 for that itself, -2 - n for a further token of node n",
            ),
            ("depth", "number of nodes between it and the activating token, 0 for that itself"),
            ("kind", "activator, context or wildcard"),
            (
                "token_id",
                "number of the token; -1 for the start of the text, -1 - n for a gap of up to n tokens, NULL for any token",
            ),
            ("token", "text of the token, NULL for what is no token"),
            ("importance", "share of the activation that is lost when the token is masked"),
            ("activation", "activation of the neuron on the token, as a share of max_activation"),
            ("ends", "activation predicted if a pattern ends here, as a share of max_activation; NULL if none does"),
            ("support", "number of patterns that it was learned from"),
            ("method", "method that built the graph"),
        ],
    },
    TableComment { table: "vocabulary", comment: "Tokens of the model's tokenizer", columns: &[] },
    TableComment {
        table: "weights",
        comment: "Weights of each neuron",
        columns: &[
            ("w_in", "weights by which it reads the residual stream"),
            ("b_in", "its bias"),
            ("w_out", "weights by which it writes to the residual stream"),
            ("w_gate", "weights of its gate, NULL where the MLP has none"),
            ("expert", "expert of a mixture that the neuron is of, NULL in a dense layer"),
        ],
    },
];

/// Table functions by name.
const TABLE_FUNCTIONS: &[(&str, &str)] = &[
    ("ablate", "What a model predicts on a text with neurons set to a value, beside what it predicts as it is"),
    ("analyze", "Runs a model over a dataset once and keeps statistics, examples and bounds of its neurons"),
    ("build_graphs", "Builds graphs of neurons from examples of a dataset, a row each as it is done"),
    ("coactivations", "Neurons that fire on most of the same tokens of a dataset: Jaccard index, lift and counts"),
    ("connections", "Neurons that feed a neuron and that it feeds most, by weights through the residual stream"),
    ("correlations", "Neurons whose activations correlate most over a dataset"),
    ("evaluate_graphs", "Scores of kept graphs on text of any dataset"),
    ("input_tokens", "Tokens whose embeddings alone make a neuron fire most"),
    ("logit_attribution", "Direct effect of each neuron and head on the logit of the token after a text"),
    ("logit_effects", "Tokens that a neuron promotes and suppresses most, by its weights through the unembedding"),
    ("loss", "How little a model expected each token of a text: minus the logarithm of its probability"),
    ("neuron_graph", "Components, neighbours and PageRank of neurons connected by similarity, coactivation or weights"),
    ("next_tokens", "Tokens that a model holds most probable after a text"),
    ("search", "Neurons whose graphs have tokens of a query, best first"),
    ("similar_neurons", "Neurons whose graphs have the most patterns in common with that of a neuron"),
    ("similar_pairs", "All pairs of neurons whose graphs are at least so similar"),
    ("simulate_graphs", "Predictions of all graphs of layers for a text, a row for each that is not 0"),
    ("top_neurons", "Neurons that fire most on a text, each at its strongest token"),
    (
        "verify_import",
        "Published activations beside those of a registered model, for a sample of texts, and why they differ if it is known",
    ),
    ("verify_model", "Differences between activations of texts run alone and in other ways, by layer"),
];

/// Returns what a table of this crate holds; `None` for other tables.
pub fn table_comment(table: &dyn TableProvider) -> Option<&'static str> {
    match table.downcast_ref::<TableFunctionProvider>() {
        Some(function) => function_comment(function.name()),
        None => comment_of(table).map(|comment| comment.comment),
    }
}

/// Returns what a column of a table of this crate holds; `None` for other tables and for columns of table functions.
pub fn column_comment(table: &dyn TableProvider, column: &str) -> Option<&'static str> {
    let own = comment_of(table)?.columns;
    own.iter().chain(COMMON).find(|(name, _)| *name == column).map(|(_, comment)| *comment)
}

fn comment_of(table: &dyn TableProvider) -> Option<&'static TableComment> {
    let name = if let Some(of_model) = table.downcast_ref::<ModelTableProvider>() {
        of_model.table.name()
    } else if let Some(of_all) = table.downcast_ref::<AllModelsTableProvider>() {
        of_all.table.name()
    } else if let Some(import) = table.downcast_ref::<ImportTable>() {
        return IMPORTS
            .iter()
            .find(|comment| comment.table == import.kind.name())
            .or_else(|| TABLES.iter().find(|comment| comment.table == import.kind.name()));
    } else if table.is::<Models>() {
        "models"
    } else if table.is::<Datasets>() {
        "datasets"
    } else {
        return None;
    };
    TABLES.iter().find(|comment| comment.table == name)
}

/// Tables that published data have and models do not, and those that have further columns.
const IMPORTS: &[TableComment] = &[
    TableComment {
        table: "examples",
        comment: "Published texts with the activation of each token: the strongest have a rank, others were drawn at random",
        columns: &[
            ("rank", "place among the neuron's strongest examples, from 1; NULL if drawn at random"),
            (
                "position",
                "index in tokens of the activation that the example was chosen for; it counts the BOS token, if there is one",
            ),
            ("activation", "activation there, in the units of the file"),
            ("tokens", "texts of the tokens, as they are in the file"),
            ("activations", "activation of each token"),
            ("quantile", "share of texts that are weaker, of an example drawn from a quantile"),
            ("source", "who has published the example"),
            (
                "token_ids",
                "ids in the vocabulary of the model that was named; NULL where not exactly one token has the text",
            ),
            ("bos", "true if the first of the tokens is that of the beginning of a text"),
            ("max_activation", "greatest activation of the text, as published"),
            ("min_activation", "least activation of the text, as published"),
            ("max_range", "upper end of the scale that the text is drawn with"),
            ("min_range", "lower end of the scale that the text is drawn with"),
        ],
    },
    TableComment {
        table: "explanation_scores",
        comment: "Explanations of neurons in words, with all scores of their simulations",
        columns: &[
            ("source", "who explains the neuron"),
            ("explanation", "the explanation"),
            ("score", "correlation of the activations that are simulated from the explanation with the true ones"),
            (
                "rsquared",
                "1 minus the mean squared error of the simulation, by the mean square of the true activations",
            ),
            (
                "absolute_dev_explained",
                "1 minus the mean absolute error of the simulation, by the mean absolute true activation",
            ),
        ],
    },
    TableComment {
        table: "similar",
        comment: "Pairs of neurons that were published as similar",
        columns: &[
            ("other_layer", "layer of the similar neuron"),
            ("other_neuron", "number of the similar neuron in its layer"),
            ("similarity", "their similarity, from 0 to 1"),
        ],
    },
    TableComment {
        table: "related_tokens",
        comment: "Tokens that each neuron is connected with most, and those on which it fires most",
        columns: &[
            (
                "relation",
                "list that the token is in: input_positive, input_negative, output_positive, output_negative, average_activation",
            ),
            ("rank", "place in the list, from 1"),
            ("value", "weight of the connection, or mean activation"),
        ],
    },
    TableComment {
        table: "related_neurons",
        comment: "Neurons that each neuron is connected with most",
        columns: &[
            (
                "relation",
                "list that the other neuron is in: input_positive, input_negative, output_positive, output_negative",
            ),
            ("rank", "place in the list, from 1"),
            ("other_layer", "layer of the other neuron"),
            ("other_neuron", "number of the other neuron in its layer"),
            ("weight", "weight of the connection"),
        ],
    },
    TableComment {
        table: "rejects",
        comment: "Rows of all tables of published data that cannot be read; reading them reads all files",
        columns: &[("table_name", "table that the row would be in"), ("reason", "fault of the row")],
    },
];

fn function_comment(name: &str) -> Option<&'static str> {
    TABLE_FUNCTIONS.iter().find(|(function, _)| *function == name).map(|(_, comment)| *comment)
}

/// A table function as users call it.
#[derive(Debug, Clone)]
pub struct TableFunctionDocumentation {
    /// Its name.
    pub name: &'static str,
    /// Description of its rows.
    pub description: &'static str,
    /// Its parameters, in the order of a call without names.
    pub parameters: Vec<ParameterDocumentation>,
    /// Its columns, besides the parameters.
    pub columns: Vec<Field>,
}

/// A parameter of a table function.
#[derive(Debug, Clone)]
pub struct ParameterDocumentation {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub data_type: DataType,
    /// Its value if a call gives none; `None` if every call must.
    pub default: Option<ScalarValue>,
}

/// Returns the table functions, by name.
pub fn table_function_documentation() -> Vec<TableFunctionDocumentation> {
    let documentation = table_functions().into_iter().map(|function| TableFunctionDocumentation {
        name: function.name(),
        description: function_comment(function.name()).unwrap_or_default(),
        parameters: function
            .parameters()
            .into_iter()
            .map(|parameter| ParameterDocumentation {
                name: parameter.name,
                data_type: parameter.data_type,
                default: parameter.default,
            })
            .collect(),
        columns: function.outputs(),
    });
    let mut documentation: Vec<_> = documentation.collect();
    documentation.sort_by_key(|function| function.name);
    documentation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::model_tables;
    use crate::tables::{datasets, models};

    #[test]
    fn every_column_is_described_and_nothing_else() {
        let of_models = model_tables().into_iter().map(|table| (table.name(), table.schema(None)));
        let lists = [("models", models::schema()), ("datasets", datasets::schema())];
        for (table, schema) in of_models.chain(lists) {
            let comment = TABLES.iter().find(|comment| comment.table == table).unwrap_or_else(|| panic!("{table}"));
            for field in schema.fields() {
                let known = comment.columns.iter().chain(COMMON).any(|(name, _)| name == field.name());
                assert!(known, "{table}.{}", field.name());
            }
            for (column, _) in comment.columns {
                assert!(schema.field_with_name(column).is_ok(), "{table} has no column {column}");
            }
        }
        for comment in IMPORTS {
            let schema = crate::imports::schema_of(comment.table);
            for field in schema.fields() {
                let known = comment.columns.iter().chain(COMMON).any(|(name, _)| name == field.name());
                assert!(known, "{}.{}", comment.table, field.name());
            }
            for (column, _) in comment.columns {
                assert!(schema.field_with_name(column).is_ok(), "{} has no column {column}", comment.table);
            }
        }
        for function in table_function_documentation() {
            assert!(!function.description.is_empty(), "{}", function.name);
        }
        assert_eq!(TABLE_FUNCTIONS.len(), table_functions().len());
    }
}
