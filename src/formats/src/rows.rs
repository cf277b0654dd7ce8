//! The rows that imports have, one type a table.

use neuroql_graph::Graph;

/// Facts about the model whose neurons were published.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    /// Name of the model, as its publisher writes it.
    pub name: Option<String>,
    /// Number of layers.
    pub layers: Option<u32>,
    /// Number of neurons of each layer.
    pub neurons_per_layer: Option<u32>,
    /// Name of the activation function.
    pub activation_function: Option<String>,
    /// Number of parameters.
    pub parameters: Option<i64>,
    /// Dataset of the examples.
    pub dataset: Option<String>,
}

/// A table of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Neurons with statistics of their activations and of their graphs.
    Neurons,
    /// Texts with activations.
    Examples,
    /// Neuron graphs.
    Graphs,
    /// Explanations in words, with a score.
    Explanations,
    /// All scores of the explanations, by the same rows.
    ExplanationScores,
    /// Pairs of similar neurons.
    Similar,
    /// Tokens with which a neuron is connected or on which it fires.
    RelatedTokens,
    /// Neurons with which a neuron is connected.
    RelatedNeurons,
}

impl Table {
    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Table::Neurons => "neurons",
            Table::Examples => "examples",
            Table::Graphs => "graphs",
            Table::Explanations => "explanations",
            Table::ExplanationScores => "explanation_scores",
            Table::Similar => "similar",
            Table::RelatedTokens => "related_tokens",
            Table::RelatedNeurons => "related_neurons",
        }
    }
}

/// A neuron: its layer and its index in the layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Layer, from 0.
    pub layer: u32,
    /// Index in the layer, from 0.
    pub neuron: u32,
}

/// A row of `neurons`. Moments are of raw activations; `kurtosis` is that of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Neuron {
    pub place: Place,
    pub mean: Option<f64>,
    pub variance: Option<f64>,
    pub skewness: Option<f64>,
    pub kurtosis: Option<f64>,
    /// Greatest activation of the published examples.
    pub max_activation: Option<f32>,
    /// Number of nodes of its graph.
    pub nodes: Option<u32>,
    pub scores: Scores,
}

/// Scores of a graph on texts that it was not made of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Scores {
    pub precision: Option<f32>,
    pub recall: Option<f32>,
    pub f1: Option<f32>,
    pub accuracy: Option<f32>,
    pub r2: Option<f32>,
    /// Number of tokens that fire the neuron.
    pub positives: Option<i32>,
}

/// A row of `examples`: a text with the activation of each of its tokens, in raw units.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// The neuron.
    pub place: Place,
    /// Who has published it.
    pub source: &'static str,
    /// Place among its strongest examples, from 1; `None` in those drawn at random.
    pub rank: Option<u32>,
    /// Share of examples that are weaker, of those drawn at random from a quantile.
    pub quantile: Option<f32>,
    /// Index of the document in its dataset.
    pub document: Option<u64>,
    /// Index in `tokens` of the activation that the example was chosen for.
    pub position: u32,
    /// The activation there.
    pub activation: f32,
    /// Texts of the tokens, as they are in the file.
    pub tokens: Vec<String>,
    /// Activation of each token.
    pub activations: Vec<f32>,
    /// True if the first token is that of the beginning of a text.
    pub has_bos: bool,
    /// Extremes that its publisher gives for the whole text.
    pub extremes: Option<Extremes>,
}

/// Extremes of the activations of a text, and of the scale that they are drawn with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Extremes {
    pub min_activation: f32,
    pub max_activation: f32,
    pub min_range: f32,
    pub max_range: f32,
}

/// A row of `graphs`.
#[derive(Debug, Clone, PartialEq)]
pub struct NeuronGraph {
    /// The neuron.
    pub place: Place,
    /// Its graph; `None` if its publisher could not make one.
    pub graph: Option<Graph>,
    /// Reason that there is none.
    pub reason: Option<String>,
    /// Scores of the graph.
    pub scores: Scores,
    /// Method by which the graph was made and written.
    pub method: &'static str,
}

/// A row of `explanations`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation {
    /// The neuron.
    pub place: Place,
    /// Who explains it.
    pub source: String,
    /// The explanation, as it is in the file.
    pub text: String,
    /// Its score: the correlation of simulated and true activations.
    pub score: Option<f64>,
    /// Score by the share of the second moment that the simulation explains.
    pub rsquared: Option<f64>,
    /// Score by the share of the absolute deviation that the simulation explains.
    pub absolute_dev_explained: Option<f64>,
}

/// A row of `similar`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similar {
    /// The neuron.
    pub place: Place,
    /// The neuron that is similar.
    pub other: Place,
    /// Their similarity, from 0 to 1.
    pub similarity: f32,
}

/// A row of `related_tokens`.
#[derive(Debug, Clone, PartialEq)]
pub struct RelatedToken {
    /// The neuron.
    pub place: Place,
    /// Name of the list that the token is in.
    pub relation: &'static str,
    /// Its place in the list, from 1.
    pub rank: u32,
    /// Text of the token.
    pub token: String,
    /// Connection weight or average activation; `None` if the file has none.
    pub value: Option<f64>,
}

/// A row of `related_neurons`.
#[derive(Debug, Clone, PartialEq)]
pub struct RelatedNeuron {
    /// The neuron.
    pub place: Place,
    /// Name of the list that the other is in.
    pub relation: &'static str,
    /// Its place in the list, from 1.
    pub rank: u32,
    /// The other neuron.
    pub other: Place,
    /// Weight of the connection; `None` if the file has none.
    pub weight: Option<f64>,
}

/// A row of any table.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Row {
    Neuron(Neuron),
    Example(Example),
    Graph(NeuronGraph),
    Explanation(Explanation),
    Similar(Similar),
    RelatedToken(RelatedToken),
    RelatedNeuron(RelatedNeuron),
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Table that it would be in.
    pub table: Table,
    /// Its neuron, as far as that is known.
    pub place: Option<Place>,
    /// File that it is in, and where in the file.
    pub location: String,
    /// The fault.
    pub reason: String,
}

/// A row, or one that cannot be read.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Item {
    Row(Row),
    Reject(Reject),
}
