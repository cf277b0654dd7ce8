//! Table functions of what a network predicts on a text, and of what its neurons do to that.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::future::BoxFuture;
use neuroql_model::{Cancel, CancelOnDrop, Model, Placement};
use neuroql_schema::sql_error;

use crate::state::EngineState;
use crate::table_functions::api::{ParameterValues, RowProducer, RowSender};

mod ablate;
mod logit_attribution;
mod loss;
mod next_tokens;

pub(crate) use ablate::Ablate;
pub(crate) use logit_attribution::LogitAttribution;
pub(crate) use loss::Loss;
pub(crate) use next_tokens::NextTokens;

/// Computes the columns of a function's rows on the text of a call.
trait OnText: Send + Sync + 'static {
    /// Name of the function.
    const NAME: &'static str;

    /// Computes the columns, on a thread of the pool.
    fn columns(&self, model: &Model, text: &str, cancel: &Cancel) -> neuroql_model::Result<Vec<ArrayRef>>;

    /// Returns the call with what it reads of kept results.
    fn prepared<'a>(&'a self, _: &'a EngineState, _: &'a Model) -> BoxFuture<'a, Result<Option<Arc<Self>>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// A call on a text.
struct TextProducer<F> {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    text: Arc<str>,
    function: Arc<F>,
}

impl<F: OnText> TextProducer<F> {
    fn new(engine: &Arc<EngineState>, values: &ParameterValues, function: F) -> Result<Self> {
        let (model, text) = (values.model(engine)?, values.text("text")?.into());
        Ok(Self { engine: Arc::clone(engine), model, text, function: Arc::new(function) })
    }
}

impl<F: OnText> fmt::Display for TextProducer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} model={} text of {} bytes", F::NAME, self.model.name(), self.text.len())
    }
}

impl<F: OnText> RowProducer for TextProducer<F> {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let held = MemoryConsumer::new(F::NAME).register(context.memory_pool());
            held.try_grow(self.model.tokenizer().encoding_bytes(&self.text).map_err(sql_error)?)?;
            let prepared = self.function.prepared(&self.engine, &self.model).await?;
            let function = prepared.unwrap_or_else(|| Arc::clone(&self.function));
            let guard = CancelOnDrop::default();
            let (model, text, cancel) = (Arc::clone(&self.model), Arc::clone(&self.text), guard.flag());
            let job = move || function.columns(&model, &text, &cancel);
            let pool = self.engine.registry.pool();
            let columns = pool.run(Placement::AllThreads.of(&self.model), job).await.map_err(sql_error)?;
            rows.send(rows.batch(columns)?).await;
            Ok(())
        })
    }
}

/// Texts of tokens; NULL for those that the tokenizer does not have, and for none.
fn token_texts(model: &Model, tokens: impl IntoIterator<Item = Option<u32>>) -> ArrayRef {
    let texts = model.tokenizer().texts();
    let text = |token: Option<u32>| token.and_then(|token| texts.get(token as usize)).map(String::as_str);
    Arc::new(tokens.into_iter().map(text).collect::<StringArray>())
}
