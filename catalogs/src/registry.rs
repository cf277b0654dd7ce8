//! The tables of models and the table functions: the lists that a new one is added to.

use std::sync::Arc;

use crate::table_functions::analyze::Analyze;
use crate::table_functions::api::TableFunction;
use crate::table_functions::build_graphs::BuildGraphs;
use crate::table_functions::circuits::{CONNECTIONS, INPUT_TOKENS, LOGIT_EFFECTS};
use crate::table_functions::evaluate_graphs::EvaluateGraphs;
use crate::table_functions::neuron_graph::NeuronGraph;
use crate::table_functions::pairwise::{Coactivation, Correlation, PairwiseFunction};
use crate::table_functions::predictions::{Ablate, LogitAttribution, Loss, NextTokens};
use crate::table_functions::search::Search;
use crate::table_functions::similar_neurons::SimilarNeurons;
use crate::table_functions::similar_pairs::SimilarPairs;
use crate::table_functions::simulate_graphs::SimulateGraphs;
use crate::table_functions::top_neurons::TopNeurons;
use crate::table_functions::verify_import::VerifyImport;
use crate::table_functions::verify_model::VerifyModel;
use crate::tables::activations::Activations;
use crate::tables::attention::Attention;
use crate::tables::examples::Examples;
use crate::tables::explanations::Explanations;
use crate::tables::graphs::{GraphNodes, Graphs};
use crate::tables::model_table::ModelTable;
use crate::tables::neurons::Neurons;
use crate::tables::vocabulary::Vocabulary;
use crate::tables::weights::Weights;

/// All tables of a model.
pub(crate) fn model_tables() -> Vec<Arc<dyn ModelTable>> {
    vec![
        Arc::new(Neurons),
        Arc::new(Activations),
        Arc::new(Attention),
        Arc::new(Examples),
        Arc::new(Graphs),
        Arc::new(GraphNodes),
        Arc::new(Explanations),
        Arc::new(Vocabulary),
        Arc::new(Weights),
    ]
}

/// The table of this name.
pub(crate) fn model_table(name: &str) -> Option<Arc<dyn ModelTable>> {
    model_tables().into_iter().find(|table| table.name() == name)
}

/// All table functions.
pub(crate) fn table_functions() -> Vec<Arc<dyn TableFunction>> {
    vec![
        Arc::new(Ablate),
        Arc::new(Analyze),
        Arc::new(BuildGraphs),
        Arc::new(PairwiseFunction::<Coactivation>::new()),
        Arc::new(CONNECTIONS),
        Arc::new(PairwiseFunction::<Correlation>::new()),
        Arc::new(EvaluateGraphs),
        Arc::new(INPUT_TOKENS),
        Arc::new(LogitAttribution),
        Arc::new(LOGIT_EFFECTS),
        Arc::new(Loss),
        Arc::new(NeuronGraph),
        Arc::new(NextTokens),
        Arc::new(Search),
        Arc::new(SimilarNeurons),
        Arc::new(SimilarPairs),
        Arc::new(SimulateGraphs),
        Arc::new(TopNeurons),
        Arc::new(VerifyImport),
        Arc::new(VerifyModel),
    ]
}

/// The table function of this name.
pub(crate) fn find_table_function(name: &str) -> Option<Arc<dyn TableFunction>> {
    table_functions().into_iter().find(|function| function.name() == name)
}
