//! `evaluate_graphs(model, dataset, …)`: judges kept graphs on text of any dataset.
//!
//! On the dataset that a graph was made of, or one with the same documents, the examples it was not made of judge it, if
//! it can be told which they are; on another, all strongest examples of the neuron do. Random text is judged beside them.
//! Activations are measured by the neuron's greatest on the dataset that the graph was made of.

use neuroql_schema::sql_error;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use futures::future::BoxFuture;
use futures::future::try_join_all;
use neuroql_graph::{Matcher, Semantics};
use neuroql_model::{CancelOnDrop, Model, Width};
use neuroql_n2g::{Fired, LEAST_THRESHOLD, Method, Sample, Scores, score};
use neuroql_schema::graph_column::GraphColumn;

use crate::Error;
use crate::activations::Origin;
use crate::build_graphs::{
    Corpora, Corpus, EXAMPLES, Gathered, MOST_EXAMPLES, MOST_TOKENS, OnExamples, Reader, Searched, TOKENS, Text,
    searched,
};
use crate::dataset::{DEFAULT, Dataset};
use crate::estimate::Estimate;
use crate::graphs;
use crate::holdings::Holdings;
use crate::kept::supports_place;
use crate::predicate::{Predicate, Selection, allowed_strings, select_neurons};
use crate::relation::{Asked, Call, Parameter, Relation, Rows, Values, Work, computed};

/// Share of a neuron's greatest activation from which it fires, if the query does not say.
const THRESHOLD: f64 = 0.5;

/// Reasons why a graph of the dataset cannot be judged by it.
const CHANGED: &str = "the dataset is not what it was when the graph was made";
const GONE: &str = "the analysis that the graph's examples are from is not there any more";
const UNKNOWN: &str = "nothing says which examples of the dataset the graph was made of";

/// Reason why the scores on examples are NULL.
const NO_EXAMPLES: &str = "there is no example to judge the graph by: the neuron is not positive on any";

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
        field("reason", DataType::Utf8),
    ]))
}

impl Relation for EvaluateGraphs {
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

    fn requires_superuser(&self) -> bool {
        false
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &Values) -> Result<LogicalPlan> {
        let call = EvaluateCall {
            holdings: Arc::clone(holdings),
            model: values.model(holdings)?,
            dataset: values.text("dataset")?.to_owned(),
            examples: values.number("examples", 2..=MOST_EXAMPLES)? as usize,
            tokens: values.number("text_tokens", 2..=MOST_TOKENS)? as usize,
            threshold: values.real("threshold", LEAST_THRESHOLD.into()..=1.0)? as f32,
        };
        computed(self.name(), call)
    }
}

/// What is to be judged, and by what.
#[derive(Debug, Clone)]
struct EvaluateCall {
    holdings: Arc<Holdings>,
    model: Arc<Model>,
    dataset: String,
    examples: usize,
    tokens: usize,
    threshold: f32,
}

impl Call for EvaluateCall {
    type Work = Evaluation;

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn supports(&self, filter: &Expr) -> TableProviderFilterPushDown {
        match allowed_strings(filter, "method") {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => supports_place(filter),
        }
    }

    fn work<'a>(&'a self, session: &'a dyn Session, asked: Asked<'a>) -> BoxFuture<'a, Result<Evaluation>> {
        Box::pin(async move {
            let name = Dataset::kept_as(session, &self.dataset);
            let dataset = Dataset::find(session, &self.dataset).await?;
            let methods = asked.filters.iter().filter_map(|filter| allowed_strings(filter, "method"));
            let of_place: Vec<Expr> =
                asked.filters.iter().filter(|filter| allowed_strings(filter, "method").is_none()).cloned().collect();
            let (holdings, model) = (&self.holdings, &self.model);
            let selection = select_neurons(model, &Predicate::compile(&of_place, &schema(), session)?)?;
            let origin = Origin::of(session, &name, dataset).await?;
            let width = model.config().d_mlp;
            let neurons = selection.iter().map(|(layer, n)| (*layer as u32, n.as_ref().map_or(width, Vec::len)));
            let work = OnExamples {
                model,
                pool: holdings.registry.pool(),
                layers: searched(holdings, model, &origin, self.tokens, neurons).await?,
                examples: self.examples,
                effort: 1.0,
            };
            Ok(Evaluation {
                selection,
                methods: methods.collect(),
                origin,
                // Neurons without a graph are not judged.
                estimate: work.estimate().at_most(),
                call: Self { dataset: name, ..self.clone() },
            })
        })
    }
}

/// An evaluation to be run.
struct Evaluation {
    call: EvaluateCall,
    origin: Origin,
    selection: Selection,
    /// Each names methods that a graph's must be among.
    methods: Vec<Vec<String>>,
    /// What it will cost.
    estimate: Estimate,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EvaluateCall { model, dataset, .. } = &self.call;
        write!(f, "evaluate_graphs model={} dataset={dataset}, {}", model.name(), self.estimate)
    }
}

/// A kept graph.
struct Kept {
    neuron: u32,
    method: String,
    matcher: Matcher,
    greatest: f32,
    made_of: MadeOf,
}

/// What a graph was made of.
#[derive(Debug, Clone, PartialEq)]
enum MadeOf {
    /// Nothing of the dataset that it is judged by.
    Others,
    /// This text of it.
    Own(Text),
    /// Nobody knows what of it.
    Unknown,
}

/// A graph with its scores, or the reason why it has none.
type Judged = (Kept, Result<Scores, &'static str>);

impl Work for Evaluation {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let call = &self.call;
            let corpora = Corpora::new(&call.holdings, &call.model, &self.origin, context);
            let sha256 = corpora.sha256().await?;
            for (layer, neurons) in &self.selection {
                let layer = *layer as u32;
                let graphs = call.kept(layer, neurons.as_deref(), &self.methods, &sha256).await?;
                if graphs.is_empty() {
                    continue;
                }
                let best = (call.examples, corpora.best(layer, call.tokens).await?);
                let (groups, mut hopeless) = grouped(graphs, best, &sha256);
                for ((examples, searched), mut graphs) in groups {
                    let Some(corpus) = corpora.of_layer(layer, searched).await? else {
                        hopeless.extend(graphs.into_iter().map(|graph| (graph, Err(GONE))));
                        continue;
                    };
                    let together = corpus.most_neurons(examples);
                    while !graphs.is_empty() {
                        let rest = graphs.split_off(together.min(graphs.len()));
                        let judged = call.judge(&corpus, layer, examples, std::mem::replace(&mut graphs, rest)).await?;
                        if !rows.send(batch(layer, &judged)?).await {
                            return Ok(());
                        }
                    }
                }
                if !hopeless.is_empty() && !rows.send(batch(layer, &hopeless)?).await {
                    return Ok(());
                }
            }
            Ok(())
        })
    }
}

/// Graphs by how many examples of which text judge them.
type Groups = BTreeMap<(usize, Searched), Vec<Kept>>;

/// Graphs by how many examples of which text are to be looked for: of another dataset `best`, of their own as many of the
/// same text as then, for the same split; and those that cannot be judged.
fn grouped(graphs: Vec<Kept>, best: (usize, Searched), sha256: &str) -> (Groups, Vec<Judged>) {
    let (mut groups, mut hopeless) = (Groups::new(), Vec::new());
    for graph in graphs {
        match &graph.made_of {
            MadeOf::Others => groups.entry(best).or_default().push(graph),
            MadeOf::Own(text) if text.is_of(sha256) => {
                groups.entry((text.examples, text.searched)).or_default().push(graph);
            }
            MadeOf::Own(_) => hopeless.push((graph, Err(CHANGED))),
            MadeOf::Unknown => hopeless.push((graph, Err(UNKNOWN))),
        }
    }
    (groups, hopeless)
}

impl EvaluateCall {
    /// The kept graphs of some neurons of a layer; those whose making failed have none.
    async fn kept(
        &self,
        layer: u32,
        neurons: Option<&[u32]>,
        methods: &[Vec<String>],
        sha256: &str,
    ) -> Result<Vec<Kept>> {
        let rows = self.holdings.graphs(&self.model, layer, neurons).await?;
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
            let asked = neurons.is_none_or(|neurons| neurons.binary_search(&number).is_ok())
                && methods.iter().all(|methods| methods.iter().any(|asked| asked == method.value(i)));
            if !asked || graphs.is_null(i) {
                continue;
            }
            let semantics = method.value(i).parse::<Method>().map_or(Semantics::Longest, Method::semantics);
            let matcher = Matcher::new(graphs.view(i).map_err(sql_error)?, semantics).map_err(sql_error)?;
            let greatest = if greatest.is_valid(i) { greatest.value(i) } else { f32::NAN };
            let own = dataset.is_valid(i) && dataset.value(i) == self.dataset;
            let text = Text::of_options(if options.is_valid(i) { options.value(i) } else { "" });
            let made_of = match text {
                // The same documents under another name are no others.
                Some(text) if own || text.is_of(sha256) => MadeOf::Own(text),
                None if own => MadeOf::Unknown,
                _ => MadeOf::Others,
            };
            kept.push(Kept { neuron: number, method: method.value(i).to_owned(), matcher, greatest, made_of });
        }
        Ok(kept)
    }

    /// Scores of graphs of a layer that are judged by so many examples.
    async fn judge(&self, corpus: &Corpus, layer: u32, examples: usize, graphs: Vec<Kept>) -> Result<Vec<Judged>> {
        let guard = CancelOnDrop::default();
        // What each neuron's activations are measured by, at the least.
        let mut neurons: BTreeMap<u32, f32> = BTreeMap::new();
        for graph in &graphs {
            let measure = if graph.greatest > 0.0 { graph.greatest } else { f32::INFINITY };
            let least = neurons.entry(graph.neuron).or_insert(f32::INFINITY);
            *least = least.min(measure);
        }
        let (neurons, measures) = neurons.into_iter().unzip();
        let reader = Reader {
            holdings: Arc::clone(&self.holdings),
            model: Arc::clone(&self.model),
            layer,
            neurons,
            measures: Some(measures),
            cancel: guard.flag(),
        };
        let gathered = Arc::new(corpus.gather(&reader, &self.dataset, examples).await?);
        let (pool, threshold) = (self.holdings.registry.pool(), self.threshold);
        let scores = graphs.into_iter().map(|graph| {
            // Every graph's neuron is among those that were read.
            let number = reader.neurons.partition_point(|neuron| *neuron < graph.neuron);
            let gathered = Arc::clone(&gathered);
            pool.run(Width::Lane, move || {
                let scores = graph.score(&gathered, number, threshold);
                Ok((graph, Ok(scores)))
            })
        });
        try_join_all(scores).await.map_err(sql_error)
    }
}

impl Kept {
    /// Its scores by what its neuron does, which was gathered under this number.
    fn score(&self, gathered: &Gathered, number: usize, threshold: f32) -> Scores {
        let task = &gathered.tasks[number];
        // What activations are measured by differs between the datasets.
        let scale = if self.greatest > 0.0 { task.max_activation / self.greatest } else { 1.0 };
        let own = self.made_of != MadeOf::Others;
        let unseen: Vec<Sample> = match own {
            true => task.held_out.iter().map(|sample| sample.scaled(scale)).collect(),
            false => task.train.iter().chain(&task.held_out).map(|sample| sample.scaled(scale)).collect(),
        };
        let fired: Vec<Fired> = gathered.fired[number].iter().map(|fired| fired.scaled(scale)).collect();
        let seen: HashSet<i64> = match own {
            true => task.train.iter().map(|sample| sample.document).collect(),
            false => HashSet::new(),
        };
        score(&self.matcher, &unseen, &gathered.background, &fired, &seen, threshold)
    }
}

fn reason(scores: &Result<Scores, &'static str>) -> Option<&'static str> {
    match scores {
        Ok(scores) => (scores.tokens == 0).then_some(NO_EXAMPLES),
        Err(reason) => Some(reason),
    }
}

fn batch(layer: u32, judged: &[Judged]) -> Result<RecordBatch> {
    let scores = || judged.iter().map(|(_, scores)| scores.as_ref().ok());
    let real = |f: &dyn Fn(&Scores) -> Option<f32>| -> ArrayRef {
        Arc::new(scores().map(|scores| scores.and_then(f)).collect::<Float32Array>())
    };
    let count = |f: &dyn Fn(&Scores) -> u64| -> ArrayRef {
        Arc::new(scores().map(|scores| scores.map(|scores| f(scores) as i64)).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_value(layer as i32, judged.len())),
        Arc::new(Int32Array::from_iter_values(judged.iter().map(|(graph, _)| graph.neuron as i32))),
        Arc::new(StringArray::from_iter_values(judged.iter().map(|(graph, _)| &graph.method))),
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
        Arc::new(judged.iter().map(|(_, scores)| reason(scores)).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
