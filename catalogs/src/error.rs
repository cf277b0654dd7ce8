//! Errors of the tables.

use datafusion::error::DataFusionError;
use neuroql_schema::{Role, sql_error};

use crate::tables::graph_error::InvalidGraph;

/// A question that a table cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A dataset that is no table.
    #[error("dataset \"{0}\" does not exist: it is the name of a table with a text column")]
    UnknownDataset(String),
    /// A table that cannot be a dataset.
    #[error("table \"{0}\" is not a dataset: it has neither a column \"text\" nor exactly one text column")]
    NotADataset(String),
    /// Neither a text nor a dataset.
    #[error("activations of model \"{0}\" need a text or a dataset: add WHERE text = '…' or WHERE dataset = '…'")]
    NoText(String),
    /// Patterns of attention of no text.
    #[error("attention of model \"{0}\" needs a text: add WHERE text = '…' or WHERE text IN ('…', …)")]
    NoAttentionText(String),
    /// A table function that lacks a parameter.
    #[error("{function} needs {parameter}: {function}({parameter} => …) or WHERE {parameter} = …")]
    MissingParameter {
        /// Name of the table function.
        function: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
    },
    /// A parameter whose value makes no sense.
    #[error("{function}: {parameter} {reason}")]
    InvalidParameter {
        /// Name of the table function.
        function: &'static str,
        /// Name of the parameter.
        parameter: String,
        /// The fault.
        reason: String,
    },
    /// A name that belongs to neuroql.
    #[error("\"{0}\" is a system table and cannot be created, replaced or dropped")]
    SystemTable(String),
    /// Something that would be loaded for a session that may not.
    #[error("permission denied to load {0}")]
    MayNotLoad(String),
    /// A table function that would be read for a session that may not.
    #[error("permission denied for {function}(): only {} may read it", .role.and_above())]
    RoleRequired {
        /// Its name.
        function: &'static str,
        /// The least role that may read it.
        role: Role,
    },
    /// A name that a model cannot have.
    #[error("\"{name}\" cannot be the name of a model: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// Reason that the name is refused.
        reason: &'static str,
    },
    /// A name that is taken.
    #[error("relation \"{0}\" already exists")]
    Duplicate(String),
    /// A view that the store cannot keep as it is.
    #[error("the view \"{view}\" cannot be kept: its text {text:?} would lose quotes; write them as chr(39)")]
    ViewText {
        /// Name of the view.
        view: String,
        /// The text.
        text: String,
    },
    /// A graph that cannot be one of a model's.
    #[error("the graph of layer {layer}, neuron {neuron} cannot be kept: {reason}")]
    Graph {
        /// The layer it was given for.
        layer: u32,
        /// The neuron.
        neuron: u32,
        /// The fault.
        reason: Box<InvalidGraph>,
    },
    /// A published example that cannot be one of a model's.
    #[error("the example of layer {layer}, neuron {neuron} cannot be kept: {reason}")]
    Example {
        /// The layer it was given for.
        layer: u32,
        /// The neuron.
        neuron: u32,
        /// The fault.
        reason: String,
    },
    /// A DELETE that would take examples of an analysis.
    #[error(
        "examples of an analysis cannot be deleted, only those that were inserted: add source IS NOT NULL, or name the source"
    )]
    AnalysedExamples,
    /// A row to be inserted that lacks a required value.
    #[error("a row of {table} needs {value}")]
    MissingValue {
        /// Name of the table.
        table: &'static str,
        /// The missing thing, with its article.
        value: &'static str,
    },
    /// A column that rows need to be written as a folder of Neuron2Graph.
    #[error(
        "COPY … STORED AS N2G needs a column {0}: it takes layer, neuron, graph, and the scores of graphs if they are there"
    )]
    ExportColumn(&'static str),
    /// Two rows of one neuron, of which a folder of Neuron2Graph has one graph.
    #[error(
        "COPY … STORED AS N2G: there are two rows of layer {layer}, neuron {neuron}, and a folder has one graph of a neuron; \
         choose one by WHERE method = '…'"
    )]
    ExportTwice {
        /// The layer.
        layer: u32,
        /// The neuron.
        neuron: u32,
    },
    /// A folder that is there.
    #[error("COPY … STORED AS N2G: \"{0}\" has files already; name a new folder")]
    ExportExists(String),
    /// A file whose columns cannot be inferred.
    #[error(
        "the columns of \"{file}\" cannot be told: {reason}; declare them, as in CREATE EXTERNAL TABLE name (text VARCHAR) \
         STORED AS CSV …"
    )]
    Columns {
        /// The file.
        file: String,
        /// The fault.
        reason: String,
    },
    /// Files of one table that have different columns.
    #[error(
        "\"{file}\" has the columns {columns}, and \"{other}\" has {others}: columns of CSV files are told by their places, \
         which must be the same in all files of a table"
    )]
    OtherColumns {
        /// A file.
        file: String,
        /// Names of its columns.
        columns: String,
        /// Another file.
        other: String,
        /// Names of its columns.
        others: String,
    },
    /// An option of a table that makes no sense.
    #[error("option '{option}' cannot be '{value}': {reason}")]
    TableOption {
        /// Its name.
        option: &'static str,
        /// Its value.
        value: String,
        /// The fault.
        reason: String,
    },
    /// A table without columns, because it has no files.
    #[error("\"{location}\" has no file that ends in {ending}, and the columns of table {table} are not declared")]
    NoFiles {
        /// Location that was searched.
        location: String,
        /// Ending of the names that were searched for.
        ending: String,
        /// Name of the table.
        table: String,
    },
    /// Texts that would have to come from elsewhere in the query.
    #[error(
        "activations: which texts to run must be given by themselves, and {condition} takes them from elsewhere. Name the \
         table of the texts by dataset = '…', and conditions on text choose among its documents; or give the texts by \
         text = '…' or text IN ('…', …); or call activation(model, layer, neuron, text)"
    )]
    TextNotGiven {
        /// The condition.
        condition: String,
    },
    /// Published data that cannot be read.
    #[error(transparent)]
    Import(#[from] neuroql_formats::Error),
    /// A broken invariant.
    #[error("internal error (this is a bug in neuroql): {0}")]
    Internal(String),
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::UnknownDataset(_) => "42P01",
            Error::NotADataset(_) => "42809",
            Error::NoText(_) | Error::NoAttentionText(_) | Error::MissingParameter { .. } => "42601",
            Error::InvalidParameter { .. } => "22023",
            Error::SystemTable(_) | Error::MayNotLoad(_) | Error::RoleRequired { .. } => "42501",
            Error::InvalidName { .. } => "42602",
            Error::Duplicate(_) => "42P07",
            Error::Graph { reason, .. } => reason.sqlstate(),
            Error::Example { .. } => "22000",
            Error::AnalysedExamples => "0A000",
            Error::MissingValue { .. } => "23502",
            Error::ExportColumn(_) => "42703",
            Error::ExportTwice { .. } => "21000",
            Error::ExportExists(_) => "58P02",
            Error::Columns { .. } | Error::OtherColumns { .. } => "22P04",
            Error::TableOption { .. } => "22023",
            Error::NoFiles { .. } => "58P01",
            Error::TextNotGiven { .. } | Error::ViewText { .. } => "0A000",
            Error::Import(error) => error.sqlstate(),
            Error::Internal(_) => "XX000",
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        sql_error(error)
    }
}
