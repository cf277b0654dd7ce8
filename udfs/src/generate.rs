//! `generate(model, text, tokens [, temperature [, seed]]) → text`

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use neuroql_model::{Model, Placement, Registry, Sampling};
use neuroql_schema::sql_error;

use crate::Error;
use crate::arguments::Models;
use crate::interrupt::{self, Interrupt};
use crate::tokenize::SECTION;

/// Time after which a call that waits looks whether its statement was cancelled.
const BETWEEN_CHECKS: Duration = Duration::from_millis(50);

/// Function `generate`: a text, and what a model writes after it.
pub(crate) fn generate_udf(registry: Arc<Registry>) -> ScalarUDF {
    let three = vec![DataType::Utf8, DataType::Utf8, DataType::Int64];
    let four = [three.clone(), vec![DataType::Float64]].concat();
    let five = [four.clone(), vec![DataType::Int64]].concat();
    let signature = Signature::one_of([three, four, five].map(TypeSignature::Exact).into(), Volatility::Stable);
    ScalarUDF::from(Generate { models: Models(registry), signature, documentation: documentation() })
}

fn documentation() -> Documentation {
    let description = "A text, and what a model writes after it: at most so many tokens, fewer if it ends the text. With \
                       a temperature of 0, the default, each is the most probable one; else it is drawn by \
                       softmax(logits / temperature), the same ones for the same seed. Text and tokens must fit the \
                       model's window. A call whose arguments are constants runs once, when the statement is planned, so \
                       WHERE text = generate(…) gives the activations of what the model writes.";
    Documentation::builder(SECTION, description, "generate(model, text, tokens [, temperature [, seed]])")
        .with_argument("model", "Name of a registered model")
        .with_argument("text", "Any text")
        .with_argument("tokens", "Greatest number of tokens to write")
        .with_argument("temperature", "0 for the most probable tokens; 1 draws them as the model holds them probable")
        .with_argument("seed", "Seed of the draws, by default 0")
        .with_sql_example("SELECT generate('toy', 'The President of the', 5)")
        .build()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Generate {
    models: Models,
    signature: Signature,
    documentation: Documentation,
}

impl ScalarUDFImpl for Generate {
    fn name(&self) -> &str {
        "generate"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (models, texts) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
        let counts = arrays[2].as_primitive::<Int64Type>();
        let temperatures = arrays.get(3).map(|array| array.as_primitive::<Float64Type>());
        let seeds = arrays.get(4).map(|array| array.as_primitive::<Int64Type>());
        let rows = arrays[0].len();
        interrupt::run(&args.config_options, |interrupt| {
            let mut lookup = self.models.lookup(&args.config_options);
            let mut written = StringBuilder::new();
            for row in 0..rows {
                if arrays.iter().any(|array| array.is_null(row)) {
                    written.append_null();
                    continue;
                }
                let model = lookup(models.value(row))?;
                let sampling = Sampling {
                    temperature: temperatures.map_or(0.0, |temperatures| temperatures.value(row)),
                    seed: seeds.map_or(0, |seeds| seeds.value(row) as u64),
                };
                written.append_value(self.write(&model, texts.value(row), (counts.value(row), sampling), interrupt)?);
            }
            Ok(ColumnarValue::Array(Arc::new(written.finish())))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

impl Generate {
    fn write(
        &self,
        model: &Arc<Model>,
        text: &str,
        (count, sampling): (i64, Sampling),
        interrupt: &Interrupt,
    ) -> Result<String> {
        let count = usize::try_from(count).map_err(|_| Error::Tokens(count))?;
        let (runs, cancel) = (Arc::clone(model), interrupt.flag());
        let held = interrupt.reservation("generate");
        held.try_grow(model.tokenizer().encoding_bytes(text).map_err(sql_error)?)?;
        let tokens = model.tokenizer().encode_cancellable(text, &cancel).map_err(sql_error)?;
        drop(held);
        let job = move || {
            let written = runs.generate(&tokens, count, sampling, &cancel)?;
            // Spaces between tokens depend on the token before.
            let own = runs.tokenizer().decode(&tokens)?;
            let whole = runs.tokenizer().decode(&[tokens, written].concat())?;
            Ok((own, whole))
        };
        let (own, whole) = self.on_pool(model, job, interrupt)?;
        // A tokenizer may change the text itself.
        Ok(whole.strip_prefix(&own).map(|rest| format!("{text}{rest}")).unwrap_or(whole))
    }

    /// Runs a job on the pool's threads and waits for it, unless the statement is cancelled.
    fn on_pool<T: Send + 'static>(
        &self,
        model: &Model,
        job: impl FnOnce() -> neuroql_model::Result<T> + Send + 'static,
        interrupt: &Interrupt,
    ) -> Result<T> {
        let (sender, receiver) = channel();
        let job = move || {
            // Nobody receives what a cancelled statement asked for.
            let _ = sender.send(job());
            Ok(())
        };
        // A job whose future is dropped does not begin.
        let _queued = self.models.0.pool().run(Placement::AllThreads.of(model), job);
        loop {
            match receiver.recv_timeout(BETWEEN_CHECKS) {
                Ok(done) => return done.map_err(sql_error),
                Err(RecvTimeoutError::Timeout) => interrupt.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("a text that was being written was lost".into()).into());
                }
            }
        }
    }
}
