//! `evaluate_graphs(model, dataset, …)`: judges kept graphs on text of any dataset.
//!
//! On the dataset that a graph was made of, or one with the same documents, it is judged by the examples that it was
//! not made of, if they are known; on another, by all strongest examples of the neuron. Random text is judged beside
//! them. Activations are measured by the neuron's greatest on the dataset that the graph was made of.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Array, Float32Builder, Int32Array, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_n2g::{Calibration, LEAST_THRESHOLD, PopulationScores, Scores};
use neuroql_pipeline::Consumer;
use neuroql_pipeline::graphs::{EvaluatedGraph, Evaluation, GraphScores, MOST_EXAMPLES, MOST_TOKENS};

use crate::planner::estimate::Estimate;
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};
use crate::table_functions::build_graphs::{EXAMPLES, ExampleWorkload, TOKENS, searched};
use crate::tables::dataset::{DEFAULT, Dataset};
use crate::tables::neuron_rows::supports_place;
use crate::tables::predicate::{Predicate, allowed_strings, select_neurons};
use neuroql_schema::Role;

/// Default of the parameter `threshold`: share of a neuron's greatest activation from which it fires.
const THRESHOLD: f64 = 0.5;

/// Reason why the scores on examples are NULL.
const NO_EXAMPLES: &str = "there is no example to judge the graph by: the neuron is not positive on any";

/// Table function `evaluate_graphs`.
#[derive(Debug)]
pub(crate) struct EvaluateGraphs;

fn reals() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)))
}

fn counts() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let real = |name: &str| field(name, DataType::Float32);
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("method", DataType::Utf8),
        real("precision"),
        real("recall"),
        real("f1"),
        real("accuracy"),
        real("r2"),
        real("pearson"),
        real("random_precision"),
        real("random_recall"),
        field("positives", DataType::Int64),
        field("tokens", DataType::Int64),
        field("random_positives", DataType::Int64),
        field("random_tokens", DataType::Int64),
        field("reason", DataType::Utf8),
        field("random_predictions", DataType::Int64),
        real("corpus_f1"),
        real("corpus_f1_low"),
        real("corpus_f1_high"),
        real("corpus_iou"),
        real("corpus_precision"),
        real("corpus_recall"),
        real("corpus_pearson"),
        real("corpus_auprc"),
        field("calibration", reals()),
        field("calibration_tokens", counts()),
        field("random_calibration", reals()),
        field("random_calibration_tokens", counts()),
    ]))
}

impl TableFunction for EvaluateGraphs {
    fn name(&self) -> &'static str {
        "evaluate_graphs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::with_default("dataset", DEFAULT),
            Parameter::with_default("examples", EXAMPLES),
            Parameter::with_default("text_tokens", TOKENS),
            Parameter::with_default("threshold", THRESHOLD),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        schema().fields().iter().map(|field| field.as_ref().clone()).collect()
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let call = EvaluateCall {
            engine: Arc::clone(engine),
            model: values.model(engine)?,
            dataset: values.text("dataset")?.to_owned(),
            examples: values.number("examples", 2..=MOST_EXAMPLES)? as usize,
            tokens: values.number("text_tokens", 2..=MOST_TOKENS)? as usize,
            threshold: values.real("threshold", LEAST_THRESHOLD.into()..=1.0)? as f32,
        };
        streaming_plan(self.name(), call)
    }
}

/// Arguments of a call of `evaluate_graphs`.
#[derive(Debug)]
struct EvaluateCall {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    dataset: String,
    examples: usize,
    tokens: usize,
    threshold: f32,
}

impl StreamingTableFunction for EvaluateCall {
    type Producer = EvaluateProducer;

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn supports(&self, filter: &Expr) -> TableProviderFilterPushDown {
        match allowed_strings(filter, "method") {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => supports_place(filter),
        }
    }

    fn producer<'a>(
        &'a self,
        session: &'a dyn Session,
        scan: ScanOptions<'a>,
    ) -> BoxFuture<'a, Result<EvaluateProducer>> {
        Box::pin(async move {
            let name = Dataset::kept_as(session, &self.dataset);
            let dataset = Dataset::find(session, &self.dataset).await?;
            let methods = scan.filters.iter().filter_map(|filter| allowed_strings(filter, "method"));
            let of_place: Vec<Expr> =
                scan.filters.iter().filter(|filter| allowed_strings(filter, "method").is_none()).cloned().collect();
            let (engine, model) = (&self.engine, &self.model);
            let selection = select_neurons(model, &Predicate::compile(&of_place, &schema(), session)?)?;
            let origin = dataset.documents(session, &name).await?;
            let width = model.neurons_per_layer();
            let neurons = selection.iter().map(|(layer, n)| (*layer as u32, n.as_ref().map_or(width, Vec::len)));
            let work = ExampleWorkload {
                model,
                pool: engine.registry.pool(),
                layers: searched(engine, model, &origin, self.tokens, neurons).await?,
                examples: self.examples,
                effort: 1.0,
            };
            // Neurons without a graph are not judged.
            let estimate = work.estimate().at_most();
            let evaluation = Evaluation {
                resources: Arc::clone(&engine.resources),
                model: Arc::clone(model),
                dataset: name,
                origin,
                selection,
                methods: methods.collect(),
                examples: self.examples,
                tokens: self.tokens,
                threshold: self.threshold,
            };
            Ok(EvaluateProducer { evaluation, estimate })
        })
    }
}

/// An evaluation to be run, and its cost.
struct EvaluateProducer {
    evaluation: Evaluation,
    estimate: Estimate,
}

impl fmt::Display for EvaluateProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evaluation { model, dataset, .. } = &self.evaluation;
        write!(f, "evaluate_graphs model={} dataset={dataset}, {}", model.name(), self.estimate)
    }
}

impl RowProducer for EvaluateProducer {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.evaluation.run(context, rows).await })
    }
}

impl Consumer<Vec<EvaluatedGraph>> for RowSender {
    async fn take(&self, evaluated: Vec<EvaluatedGraph>) -> Result<bool> {
        Ok(self.send(batch(&evaluated)?).await)
    }
}

fn reason(scores: &Result<GraphScores, &'static str>) -> Option<&'static str> {
    match scores {
        Ok(scores) => (scores.sampled.tokens == 0).then_some(NO_EXAMPLES),
        Err(reason) => Some(reason),
    }
}

fn batch(evaluated: &[EvaluatedGraph]) -> Result<RecordBatch> {
    let judged = || evaluated.iter().map(|graph| graph.scores.as_ref().ok());
    let scores = || judged().map(|scores| scores.map(|scores| &scores.sampled));
    let corpus = |f: &dyn Fn(&PopulationScores) -> Option<f32>| -> ArrayRef {
        let population = judged().map(|scores| scores.and_then(|scores| scores.population.as_ref()));
        Arc::new(population.map(|scores| scores.and_then(f)).collect::<Float32Array>())
    };
    let calibration = |f: &dyn Fn(&Scores) -> &Calibration| -> (ArrayRef, ArrayRef) {
        let mut activations = ListBuilder::new(Float32Builder::new());
        let mut tokens = ListBuilder::new(Int64Builder::new());
        for scores in scores() {
            if let Some(calibration) = scores.map(f) {
                activations.values().extend(calibration.activations());
                tokens.values().extend(calibration.tokens.map(|tokens| Some(tokens as i64)));
            }
            activations.append(scores.is_some());
            tokens.append(scores.is_some());
        }
        (Arc::new(activations.finish()), Arc::new(tokens.finish()))
    };
    let (real_activations, calibrated) = calibration(&|s| &s.calibration);
    let (random_activations, random_calibrated) = calibration(&|s| &s.random_calibration);
    let real = |f: &dyn Fn(&Scores) -> Option<f32>| -> ArrayRef {
        Arc::new(scores().map(|scores| scores.and_then(f)).collect::<Float32Array>())
    };
    let count = |f: &dyn Fn(&Scores) -> u64| -> ArrayRef {
        Arc::new(scores().map(|scores| scores.map(|scores| f(scores) as i64)).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(evaluated.iter().map(|graph| graph.layer as i32))),
        Arc::new(Int32Array::from_iter_values(evaluated.iter().map(|graph| graph.neuron as i32))),
        Arc::new(StringArray::from_iter_values(evaluated.iter().map(|graph| &graph.method))),
        real(&|s| s.precision),
        real(&|s| s.recall),
        real(&|s| s.f1),
        real(&|s| s.accuracy),
        real(&|s| s.r2),
        real(&|s| s.pearson),
        real(&|s| s.random_precision),
        real(&|s| s.random_recall),
        count(&|s| s.positives),
        count(&|s| s.tokens),
        count(&|s| s.random_positives),
        count(&|s| s.random_tokens),
        Arc::new(evaluated.iter().map(|graph| reason(&graph.scores)).collect::<StringArray>()),
        count(&|s| s.random_predictions),
        corpus(&|s| s.f1),
        corpus(&|s| s.f1_interval.map(|(low, _)| low)),
        corpus(&|s| s.f1_interval.map(|(_, high)| high)),
        corpus(&|s| s.iou),
        corpus(&|s| s.precision),
        corpus(&|s| s.recall),
        corpus(&|s| s.pearson),
        corpus(&|s| s.auprc),
        real_activations,
        calibrated,
        random_activations,
        random_calibrated,
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
