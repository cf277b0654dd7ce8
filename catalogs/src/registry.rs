//! The tables of models and the relations with parameters: the lists that a new one is added to.

use std::sync::Arc;

use crate::activations::Activations;
use crate::analyze::Analyze;
use crate::build_graphs::BuildGraphs;
use crate::circuits::{CONNECTIONS, INPUT_TOKENS, LOGIT_EFFECTS};
use crate::evaluate_graphs::EvaluateGraphs;
use crate::examples::Examples;
use crate::graphs::{GraphNodes, Graphs};
use crate::model_table::ModelTable;
use crate::neuron_graph::NeuronGraph;
use crate::neurons::Neurons;
use crate::pairwise::{Correlation, Firing, Paired};
use crate::relation::Relation;
use crate::search::Search;
use crate::similar_neurons::SimilarNeurons;
use crate::similar_pairs::SimilarPairs;
use crate::simulate_graphs::SimulateGraphs;
use crate::top_neurons::TopNeurons;
use crate::verify_model::VerifyModel;
use crate::vocabulary::Vocabulary;
use crate::weights::Weights;

/// All tables of a model.
pub(crate) fn model_tables() -> Vec<Arc<dyn ModelTable>> {
    vec![
        Arc::new(Neurons),
        Arc::new(Activations),
        Arc::new(Examples),
        Arc::new(Graphs),
        Arc::new(GraphNodes),
        Arc::new(Vocabulary),
        Arc::new(Weights),
    ]
}

/// The table of this name.
pub(crate) fn model_table(name: &str) -> Option<Arc<dyn ModelTable>> {
    model_tables().into_iter().find(|table| table.name() == name)
}

/// All relations.
pub(crate) fn relations() -> Vec<Arc<dyn Relation>> {
    vec![
        Arc::new(Analyze),
        Arc::new(BuildGraphs),
        Arc::new(Paired::<Firing>::new()),
        Arc::new(CONNECTIONS),
        Arc::new(Paired::<Correlation>::new()),
        Arc::new(EvaluateGraphs),
        Arc::new(INPUT_TOKENS),
        Arc::new(LOGIT_EFFECTS),
        Arc::new(NeuronGraph),
        Arc::new(Search),
        Arc::new(SimilarNeurons),
        Arc::new(SimilarPairs),
        Arc::new(SimulateGraphs),
        Arc::new(TopNeurons),
        Arc::new(VerifyModel),
    ]
}

/// The relation of this name.
pub(crate) fn find_relation(name: &str) -> Option<Arc<dyn Relation>> {
    relations().into_iter().find(|relation| relation.name() == name)
}
