//! `evaluate_graphs(model, dataset, …)`: judges kept graphs on text of any dataset.
//!
//! On the dataset that a graph was made of, the examples it was not made of judge it; on another, all strongest examples
//! of the neuron do. Random text is judged beside them. Activations are measured by the neuron's greatest on the
//! dataset that the graph was made of.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;
use neuroql_graph::{Matcher, Semantics};
use neuroql_model::{CancelOnDrop, Model};
use neuroql_n2g::{Fired, LEAST_THRESHOLD, Method, Sample, Scores, score};
use neuroql_udfs::graphs::layout::GraphColumn;
use tokio::sync::mpsc::Sender;

use crate::Error;
use crate::activations::Origin;
use crate::build_graphs::{Corpus, EXAMPLES, Gathered, MOST_EXAMPLES, Reader, TOKENS};
use crate::dataset::{DEFAULT, Dataset};
use crate::graphs;
use crate::holdings::Holdings;
use crate::kept::supports_place;
use crate::predicate::{Predicate, Selection, check, select_neurons};
use crate::relation::{Parameter, Relation};

/// Share of a neuron's greatest activation from which it fires, if the query does not say.
const THRESHOLD: f64 = 0.5;

/// See the module.
#[derive(Debug)]
pub(crate) struct EvaluateGraphs;

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
    ]))
}

impl Relation for EvaluateGraphs {
    fn name(&self) -> &'static str {
        "evaluate_graphs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        let number = |name, default: i64| Parameter { name, data_type: DataType::Int64, default: Some(default.into()) };
        vec![
            Parameter { name: "model", data_type: DataType::Utf8, default: None },
            Parameter { name: "dataset", data_type: DataType::Utf8, default: Some(DEFAULT.into()) },
            number("examples", EXAMPLES),
            number("text_tokens", TOKENS),
            Parameter { name: "threshold", data_type: DataType::Float64, default: Some(THRESHOLD.into()) },
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        schema().fields().iter().map(|field| field.as_ref().clone()).collect()
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &[ScalarValue]) -> Result<LogicalPlan> {
        let invalid = |parameter: &str, reason: String| Error::InvalidParameter {
            relation: "evaluate_graphs",
            parameter: parameter.into(),
            reason,
        };
        let text = |value: &ScalarValue, name| {
            value.try_as_str().flatten().map(str::to_owned).ok_or_else(|| invalid(name, "is NULL".into()))
        };
        let number = |value: &ScalarValue, name, most: i64| match value {
            ScalarValue::Int64(Some(n)) if (2..=most).contains(n) => Ok(*n as usize),
            other => Err(invalid(name, format!("is {other}, expected 2 to {most}"))),
        };
        let threshold = match values[4] {
            ScalarValue::Float64(Some(x)) if x >= f64::from(LEAST_THRESHOLD) && x <= 1.0 => x as f32,
            ref other => {
                let reason = format!("is {other}, expected {LEAST_THRESHOLD} to 1");
                return Err(invalid("threshold", reason).into());
            }
        };
        let evaluation = Evaluation {
            holdings: Arc::clone(holdings),
            model: check(holdings.registry.get(&text(&values[0], "model")?))?,
            dataset: text(&values[1], "dataset")?,
            examples: number(&values[2], "examples", MOST_EXAMPLES)?,
            tokens: number(&values[3], "text_tokens", i64::from(u32::MAX))?,
            threshold,
        };
        LogicalPlanBuilder::scan(self.name(), provider_as_source(Arc::new(evaluation)), None)?.build()
    }
}

/// What is to be judged, and by what.
#[derive(Debug, Clone)]
struct Evaluation {
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    dataset: String,
    examples: usize,
    tokens: usize,
    threshold: f32,
}

#[async_trait]
impl TableProvider for Evaluation {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| supports_place(filter)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let dataset = Dataset::find(session, &self.dataset).await?;
        let selection = select_neurons(&self.model, &Predicate::compile(filters, &schema(), session)?)?;
        let origin = Origin::of(session, &self.dataset, dataset).await?;
        let stream = Arc::new(Evaluating { schema: schema(), evaluation: self.clone(), origin, selection });
        let exec = StreamingTableExec::try_new(schema(), vec![stream], projection, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Evaluating {
    schema: SchemaRef,
    evaluation: Evaluation,
    origin: Origin,
    selection: Selection,
}

impl fmt::Debug for Evaluating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evaluation { model, dataset, .. } = &self.evaluation;
        write!(f, "evaluate_graphs model={} dataset={dataset}", model.name())
    }
}

impl PartitionStream for Evaluating {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 1);
        let (sender, evaluation) = (builder.tx(), self.evaluation.clone());
        let (origin, selection) = (self.origin.clone(), self.selection.clone());
        builder.spawn(async move { evaluation.run(&origin, selection, &context, sender).await });
        builder.build()
    }
}

/// A kept graph.
struct Kept {
    neuron: u32,
    method: String,
    matcher: Matcher,
    greatest: f32,
    /// Whether it was made of the dataset that it is judged by.
    own: bool,
    /// Examples that judge it: if it was made of some of them, as many as then, for the same split.
    examples: usize,
}

impl Evaluation {
    async fn run(
        &self,
        origin: &Origin,
        selection: Selection,
        context: &Arc<TaskContext>,
        rows: Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        let mut kept = Vec::new();
        for (layer, neurons) in selection {
            let layer = layer as u32;
            let graphs = self.kept(layer, neurons.as_deref()).await?;
            if !graphs.is_empty() {
                kept.push((layer, graphs));
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let layers: Vec<u32> = kept.iter().map(|(layer, _)| *layer).collect();
        let corpus = Corpus::open(&self.holdings, &self.model, origin, &layers, self.tokens, context).await?;
        let groups = kept.into_iter().flat_map(|(layer, graphs)| {
            let mut groups: BTreeMap<usize, Vec<Kept>> = BTreeMap::new();
            graphs.into_iter().for_each(|graph| groups.entry(graph.examples).or_default().push(graph));
            groups.into_iter().map(move |(examples, graphs)| (layer, examples, graphs))
        });
        for (layer, examples, graphs) in groups {
            let guard = CancelOnDrop::default();
            let neurons: BTreeMap<u32, ()> = graphs.iter().map(|graph| (graph.neuron, ())).collect();
            let reader = Reader {
                holdings: Arc::clone(&self.holdings),
                model: Arc::clone(&self.model),
                layer,
                neurons: neurons.into_keys().collect(),
                cancel: guard.flag(),
            };
            let gathered = corpus.gather(&reader, &self.dataset, examples).await?;
            let scored = graphs.iter().filter_map(|graph| {
                let number = reader.neurons.binary_search(&graph.neuron).ok()?;
                Some((graph, self.score(graph, &gathered, number)))
            });
            let scored: Vec<(&Kept, Scores)> = scored.collect();
            if rows.send(batch(layer, &scored)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Evaluation {
    /// The kept graphs of some neurons of a layer; those whose making failed have none.
    async fn kept(&self, layer: u32, neurons: Option<&[u32]>) -> Result<Vec<Kept>> {
        let rows = self.holdings.graphs(&self.model, layer).await?;
        let rows = graphs::select(&rows, &graphs::schema())?;
        let column = |name| rows.column_by_name(name).ok_or_else(|| Error::Internal(format!("no column {name}")));
        let neuron = column("neuron")?.as_primitive::<Int32Type>();
        let (method, dataset) = (column("method")?.as_string::<i32>(), column("dataset")?.as_string::<i32>());
        let options = column("options")?.as_string::<i32>();
        let greatest = column("max_activation")?.as_primitive::<Float32Type>();
        let graphs = GraphColumn::try_new(column("graph")?)?;
        let mut kept = Vec::new();
        for i in 0..rows.num_rows() {
            let number = neuron.value(i) as u32;
            let asked = neurons.is_none_or(|neurons| neurons.binary_search(&number).is_ok());
            if !asked || graphs.is_null(i) {
                continue;
            }
            let failed = |error: neuroql_graph::Error| DataFusionError::External(Box::new(error));
            let semantics = method.value(i).parse::<Method>().map_or(Semantics::Longest, Method::semantics);
            let matcher = Matcher::new(graphs.view(i).map_err(failed)?, semantics).map_err(failed)?;
            let greatest = if greatest.is_valid(i) { greatest.value(i) } else { f32::NAN };
            let own = dataset.is_valid(i) && dataset.value(i) == self.dataset;
            let made_with = if options.is_valid(i) { options.value(i) } else { "" };
            let examples = if own { examples_of(made_with).unwrap_or(self.examples) } else { self.examples };
            kept.push(Kept { neuron: number, method: method.value(i).to_owned(), matcher, greatest, own, examples });
        }
        Ok(kept)
    }

    fn score(&self, graph: &Kept, gathered: &Gathered, number: usize) -> Scores {
        let task = &gathered.tasks[number];
        // What activations are measured by differs between the datasets.
        let scale = if graph.greatest > 0.0 { task.max_activation / graph.greatest } else { 1.0 };
        let rescaled = |sample: &Sample| Sample {
            activations: sample.activations.iter().map(|a| a * scale).collect(),
            ..sample.clone()
        };
        let unseen: Vec<Sample> = match graph.own {
            true => task.held_out.iter().map(rescaled).collect(),
            false => task.train.iter().chain(&task.held_out).map(rescaled).collect(),
        };
        let fired: Vec<Fired> = gathered.fired[number]
            .iter()
            .map(|fired| Fired { activation: fired.activation * scale, ..*fired })
            .collect();
        let seen: HashSet<i64> = match graph.own {
            true => task.train.iter().map(|sample| sample.document).collect(),
            false => HashSet::new(),
        };
        score(&graph.matcher, &unseen, &gathered.background, &fired, &seen, self.threshold)
    }
}

/// How many examples a graph was made with, by its options.
fn examples_of(options: &str) -> Option<usize> {
    let options: serde_json::Value = serde_json::from_str(options).ok()?;
    options.get("examples")?.as_u64().map(|examples| examples as usize)
}

fn batch(layer: u32, scored: &[(&Kept, Scores)]) -> Result<RecordBatch> {
    let real = |f: &dyn Fn(&Scores) -> Option<f32>| -> ArrayRef {
        Arc::new(scored.iter().map(|(_, scores)| f(scores)).collect::<Float32Array>())
    };
    let count = |f: &dyn Fn(&Scores) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(scored.iter().map(|(_, scores)| f(scores) as i64)))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_value(layer as i32, scored.len())),
        Arc::new(Int32Array::from_iter_values(scored.iter().map(|(graph, _)| graph.neuron as i32))),
        Arc::new(StringArray::from_iter_values(scored.iter().map(|(graph, _)| &graph.method))),
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
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
