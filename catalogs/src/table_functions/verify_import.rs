//! `verify_import(import, model, sample)`: published activations beside those of a registered model. A row for each text
//! of a sample; see [`Model::compare_published`].

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float32Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_formats::{Example, Sample, Table};
use neuroql_model::{CancelOnDrop, Model, Placement, PublishedComparison, PublishedText};
use neuroql_schema::{Role, sql_error};

use crate::Error;
use crate::imports::{Import, Vocabulary};
use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, RowProducer, RowSender, TableFunction, unfiltered_plan};

/// Default number of texts.
const SAMPLE: i64 = 100;

/// Table function `verify_import`.
#[derive(Debug)]
pub(crate) struct VerifyImport;

impl TableFunction for VerifyImport {
    fn requires(&self) -> Role {
        // It reads what the tables of the import show, and runs a model, as a query for activations does.
        Role::Reader
    }

    fn name(&self) -> &'static str {
        "verify_import"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("import", DataType::Utf8),
            Parameter::required("model", DataType::Utf8),
            Parameter::with_default("sample", SAMPLE),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        let int = |name: &str| Field::new(name, DataType::Int32, true);
        let real = |name: &str| Field::new(name, DataType::Float32, true);
        vec![
            int("layer"),
            int("neuron"),
            int("rank"),
            Field::new("bos", DataType::Boolean, true),
            int("tokens"),
            real("published"),
            real("recomputed"),
            real("difference"),
            real("scale"),
            Field::new("reason", DataType::Utf8, true),
        ]
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let name = values.text("import")?;
        let import = values
            .import_named(engine, name)?
            .ok_or_else(|| values.invalid("import", format!("is \"{name}\", which is no schema of published data")))?;
        if !import.has_table(Table::Examples) {
            return Err(values.invalid("import", format!("is \"{name}\", which has no examples to recompute")).into());
        }
        let sample = values.number("sample", 1..=1_000_000)? as usize;
        let verification = Verification { engine: Arc::clone(engine), import, model: values.model(engine)?, sample };
        unfiltered_plan(self, verification)
    }
}

/// Arguments of a call.
#[derive(Debug, Clone)]
struct Verification {
    engine: Arc<EngineState>,
    import: Arc<Import>,
    model: Arc<Model>,
    sample: usize,
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verify_import import={} model={} sample={}", self.import.name, self.model.name(), self.sample)
    }
}

impl RowProducer for Verification {
    fn run<'a>(&'a self, _: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (import, model) = (Arc::clone(&self.import), Arc::clone(&self.model));
            let (layers, width) = (model.config().layers, model.neurons_per_layer());
            let mut sample = Sample::new(&*import.source, layers, width, self.sample).map_err(Error::from)?;
            let vocabulary = Arc::new(Vocabulary::new(model.tokenizer().texts()));
            let guard = CancelOnDrop::default();
            while rows.is_wanted() {
                let import = Arc::clone(&import);
                let next = move || (sample.next(&*import.source), sample);
                let next = SpawnedTask::spawn_blocking(next).await;
                let (next, rest) = next.map_err(|error| Error::Internal(format!("reading failed: {error}")))?;
                sample = rest;
                let Some(example) = next.map_err(Error::from)? else { break };
                let (model, cancel) = (Arc::clone(&model), guard.flag());
                let text = published(&example, &vocabulary);
                let job = move || model.compare_published(&text, &cancel);
                let placement = Placement::AllThreads.of(&self.model);
                let compared = self.engine.registry.pool().run(placement, job).await.map_err(sql_error)?;
                if !rows.send(rows.batch(columns(&example, &compared))?).await {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn published(example: &Example, vocabulary: &Vocabulary) -> PublishedText {
    PublishedText {
        layer: example.place.layer as usize,
        neuron: example.place.neuron,
        tokens: example.tokens.iter().map(|token| vocabulary.id(token)).collect(),
        activations: example.activations.clone(),
        has_bos: example.has_bos,
    }
}

fn columns(example: &Example, compared: &PublishedComparison) -> Vec<ArrayRef> {
    let int = |value: Option<i32>| -> ArrayRef { Arc::new(Int32Array::from(vec![value])) };
    let real = |value: Option<f32>| -> ArrayRef { Arc::new(Float32Array::from(vec![value])) };
    vec![
        int(Some(example.place.layer as i32)),
        int(Some(example.place.neuron as i32)),
        int(example.rank.map(|rank| rank as i32)),
        Arc::new(BooleanArray::from(vec![example.has_bos])),
        int(Some(compared.compared as i32)),
        real(compared.published),
        real(compared.recomputed),
        real(compared.difference),
        real(compared.scale),
        Arc::new(StringArray::from(vec![compared.reason.clone()])),
    ]
}
