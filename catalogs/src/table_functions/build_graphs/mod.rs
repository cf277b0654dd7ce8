//! `build_graphs(model, layer, neuron, layers, neurons, method, …)`: makes the graphs of neurons and judges them.
//!
//! A row is returned for each neuron as soon as it is done, with its graph or the reason why it has none. Its columns
//! are those of `graphs`, so `INSERT INTO model.graphs SELECT * FROM build_graphs(…)` keeps them. A graph that was kept
//! before is returned as it is if everything that it depends on is the same, so what was interrupted goes on;
//! `rebuild => true` makes it again.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use futures::future::BoxFuture;
use neuroql_graph::MOST_NODES;
use neuroql_model::Model;
use neuroql_n2g::{Method, Options, Substitutes};
use neuroql_pipeline::Consumer;
use neuroql_pipeline::Selection;
use neuroql_pipeline::graphs::{Build, LayerGraphs, MOST_EXAMPLES, MOST_TOKENS};
use neuroql_schema::{Rights, Role, sql_error};

use crate::Error;
use crate::planner::estimate::Estimate;
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};
use crate::tables::dataset::{DEFAULT, Dataset};
use crate::tables::graphs;
use crate::tables::neuron_rows::supports_place;
use crate::tables::predicate::{Predicate, select_neurons};

mod estimate;
mod rows;

pub(crate) use estimate::ExampleWorkload;
use estimate::effort;
pub(crate) use estimate::searched;

/// Default of the parameter `examples`: number of examples of a neuron, half of them to learn from.
pub(crate) const EXAMPLES: i64 = 40;

/// Default number of tokens that are searched for examples if the dataset was not analysed.
pub(crate) const TOKENS: i64 = 100_000;

/// Table function `build_graphs`.
#[derive(Debug)]
pub(crate) struct BuildGraphs;

impl TableFunction for BuildGraphs {
    fn name(&self) -> &'static str {
        "build_graphs"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::optional_text("layers"),
            Parameter::optional_text("neurons"),
            Parameter::with_default("method", Method::default().name()),
            Parameter::with_default("dataset", DEFAULT),
            Parameter::with_default("examples", EXAMPLES),
            Parameter::with_default("tokens", TOKENS),
            Parameter::optional_text("options"),
            Parameter::with_default("rebuild", false),
            Parameter::optional_number("max_nodes"),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        graphs::schema().fields().iter().map(|field| field.as_ref().clone()).collect()
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let method: Method = values.text("method")?.parse().map_err(sql_error)?;
        let options = match values.optional_text("options") {
            Some(changes) => Options::parse(method, changes).map_err(sql_error)?,
            None => Options::of(method),
        };
        let most = values.optional_number("max_nodes", 0..=MOST_NODES as i64)?;
        let options = match most {
            Some(most) => options.with_max_nodes(method, most as usize).map_err(sql_error)?,
            None => options,
        };
        if options.masking_token.is_some_and(|token| token as usize >= model.config().vocabulary) {
            let last = model.config().vocabulary - 1;
            let reason = format!("has a masking_token that is not one of 0 to {last}");
            return Err(values.invalid("options", reason).into());
        }
        let call = BuildCall {
            engine: Arc::clone(engine),
            layers: values.layers("layers", &model)?,
            neurons: values.neurons(&model)?,
            dataset: values.text("dataset")?.to_owned(),
            examples: values.number("examples", 2..=MOST_EXAMPLES)? as usize,
            tokens: values.number("tokens", 2..=MOST_TOKENS)? as usize,
            rebuild: values.flag("rebuild"),
            model,
            method,
            options,
        };
        streaming_plan(self.name(), call)
    }
}

/// The graphs that a call would build.
#[derive(Debug)]
struct BuildCall {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    dataset: String,
    layers: Vec<u32>,
    neurons: Vec<u32>,
    method: Method,
    examples: usize,
    tokens: usize,
    options: Options,
    rebuild: bool,
}

impl BuildCall {
    /// Returns the neurons chosen by ranges and by filters on the columns `layer` and `neuron`.
    fn selection(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<(u32, Vec<u32>)>> {
        let predicate = Predicate::compile(filters, &self.schema(), session)?;
        let by_filters: Selection = select_neurons(&self.model, &predicate)?;
        let of_layer = |neurons: Option<Vec<u32>>| match neurons {
            None => self.neurons.clone(),
            Some(neurons) => neurons.into_iter().filter(|n| self.neurons.binary_search(n).is_ok()).collect(),
        };
        let layers = by_filters.into_iter().map(|(layer, neurons)| (layer as u32, of_layer(neurons)));
        Ok(layers.filter(|(layer, neurons)| self.layers.contains(layer) && !neurons.is_empty()).collect())
    }
}

impl StreamingTableFunction for BuildCall {
    type Producer = BuildProducer;

    fn schema(&self) -> SchemaRef {
        graphs::schema()
    }

    fn supports(&self, filter: &Expr) -> TableProviderFilterPushDown {
        supports_place(filter)
    }

    fn producer<'a>(&'a self, session: &'a dyn Session, scan: ScanOptions<'a>) -> BoxFuture<'a, Result<BuildProducer>> {
        Box::pin(async move {
            let is_trusted = Rights::of(session.config_options()).has(Role::Superuser);
            if self.options.substitutes == Substitutes::MaskedLm && !is_trusted {
                return Err(Error::MayNotLoad("a masked language model".into()).into());
            }
            let name = Dataset::kept_as(session, &self.dataset);
            let dataset = Dataset::find(session, &self.dataset).await?;
            let (engine, model) = (&self.engine, &self.model);
            let origin = dataset.documents(session, &name).await?;
            let selection = self.selection(session, scan.filters)?;
            let neurons = selection.iter().map(|(layer, neurons)| (*layer, neurons.len()));
            let work = ExampleWorkload {
                model,
                pool: engine.registry.pool(),
                layers: searched(engine, model, &origin, self.tokens, neurons).await?,
                examples: self.examples,
                effort: effort(self.method),
            };
            let estimate = work.estimate();
            // Graphs that the store has are not built again.
            let estimate = if self.rebuild { estimate } else { estimate.at_most() };
            let build = Build {
                resources: Arc::clone(&engine.resources),
                model: Arc::clone(model),
                origin,
                dataset: name,
                selection,
                method: self.method,
                examples: self.examples,
                tokens: self.tokens,
                options: self.options.clone(),
                rebuild: self.rebuild,
            };
            Ok(BuildProducer { build, estimate })
        })
    }
}

/// Graphs to be built, and the cost.
struct BuildProducer {
    build: Build,
    estimate: Estimate,
}

impl fmt::Display for BuildProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { build: Build { model, dataset, method, selection, .. }, estimate } = self;
        let neurons: usize = selection.iter().map(|(_, neurons)| neurons.len()).sum();
        write!(f, "build_graphs model={} dataset={dataset} method={method} neurons={neurons}, {estimate}", model.name())
    }
}

impl RowProducer for BuildProducer {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.build.run(context, &GraphRowSender { build: &self.build, rows }).await })
    }
}

/// Sends graphs as rows of `graphs`.
struct GraphRowSender<'a> {
    build: &'a Build,
    rows: &'a RowSender,
}

impl Consumer<LayerGraphs> for GraphRowSender<'_> {
    async fn take(&self, graphs: LayerGraphs) -> Result<bool> {
        let rows = match graphs {
            LayerGraphs::Stored(row) => graphs::select(&row, &graphs::schema())?,
            LayerGraphs::Built { layer, graphs, greatest, time, made_with } => {
                let Build { method, dataset, .. } = self.build;
                let (method, seconds) = (method.name(), time.as_secs_f32());
                let common = rows::BatchValues { layer, method, dataset, seconds, options: &made_with };
                rows::batch(&common, &graphs, &greatest)?
            }
        };
        Ok(self.rows.send(rows).await)
    }
}
