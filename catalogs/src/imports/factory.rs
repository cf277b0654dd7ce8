//! `CREATE EXTERNAL TABLE name STORED AS DEEPDECIPHER LOCATION '…' OPTIONS (…)`, and so for the other formats.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::CreateExternalTable;
use futures::future::BoxFuture;
use neuroql_formats::deepdecipher::DeepDecipher;
use neuroql_formats::n2g::N2g;
use neuroql_formats::neuroscope::Neuroscope;
use neuroql_formats::openai::OpenAi;
use neuroql_formats::{Source, WebFolder};
use neuroql_model::Model;
use neuroql_schema::{Rights, sql_error};

use super::{Import, Vocabulary};
use crate::Error;
use crate::async_method::async_method;
use crate::factory::{check_name, schema_and_location};
use crate::state::EngineState;

/// Time that a file of a web server may take to arrive, if no other is given.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A format of published data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// DeepDecipher's database.
    DeepDecipher,
    /// Neuron2Graph's results.
    N2g,
    /// OpenAI's neuron explainer.
    OpenAi,
    /// Pages of Neuroscope.
    Neuroscope,
}

impl ImportFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::DeepDecipher, Self::N2g, Self::OpenAi, Self::Neuroscope];

    /// File type after `STORED AS`.
    pub fn file_type(self) -> &'static str {
        match self {
            Self::DeepDecipher => "DEEPDECIPHER",
            Self::N2g => "N2G",
            Self::OpenAi => "OPENAI_NEURONS",
            Self::Neuroscope => "NEUROSCOPE",
        }
    }

    /// Names of its options.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::DeepDecipher => &["model", "source_model"],
            Self::N2g => &["layer", "model"],
            Self::OpenAi | Self::Neuroscope => &["model", "timeout"],
        }
    }

    /// Opens files of this machine, or of a web server where `address` is one.
    fn open(
        self,
        location: &str,
        options: &Given,
        model: Option<&Model>,
        vocabulary: Option<&Arc<Vocabulary>>,
    ) -> Result<Box<dyn Source>> {
        let text = |name: &str| options.get(name).map(String::as_str);
        if is_address(location) {
            let timeout = seconds(text("timeout"))?;
            let folder = WebFolder::new(location, timeout).map_err(Error::from)?;
            let layers = model.map(|model| model.config().layers as u32);
            let width = model.map(|model| model.neurons_per_layer() as u32);
            return Ok(match self {
                Self::Neuroscope => Box::new(Neuroscope::web(folder, layers, width)),
                _ => Box::new(OpenAi::web(folder, layers, width)),
            });
        }
        if let Some(value) = text("timeout") {
            let reason = "it is for web servers, and these are files of this machine".to_owned();
            return Err(Error::TableOption { option: "timeout", value: value.into(), reason }.into());
        }
        let location = Path::new(location);
        let source: Result<Box<dyn Source>, neuroql_formats::Error> = match self {
            Self::DeepDecipher => {
                DeepDecipher::open(location, text("source_model")).map(|source| Box::new(source) as Box<dyn Source>)
            }
            Self::N2g => {
                let layer = text("layer").map(|value| {
                    let reason = "it is not a number from 0".to_owned();
                    let invalid = || Error::TableOption { option: "layer", value: value.into(), reason };
                    value.parse::<u32>().map_err(|_| invalid())
                });
                let texts = vocabulary
                    .cloned()
                    .map(|vocabulary| Arc::new(move |id: u32| vocabulary.text(id)) as neuroql_formats::n2g::Vocabulary);
                N2g::open(location, layer.transpose()?, texts).map(|source| Box::new(source) as Box<dyn Source>)
            }
            Self::OpenAi => OpenAi::open(location).map(|source| Box::new(source) as Box<dyn Source>),
            Self::Neuroscope => Neuroscope::open(location).map(|source| Box::new(source) as Box<dyn Source>),
        };
        Ok(source.map_err(Error::from)?)
    }
}

/// Returns true if a location is an address.
fn is_address(location: &str) -> bool {
    location.contains("://")
}

/// Reads how long a file of a web server may take, in whole seconds.
fn seconds(given: Option<&str>) -> Result<Duration, Error> {
    let Some(value) = given else { return Ok(TIMEOUT) };
    let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    let reason = || "it is a number of seconds from 1 to 3600".to_owned();
    let seconds =
        seconds.ok_or_else(|| Error::TableOption { option: "timeout", value: value.into(), reason: reason() });
    seconds.map(Duration::from_secs)
}

/// Options by name.
type Given = BTreeMap<String, String>;

/// Opens published data of one format.
#[derive(Debug)]
pub struct ImportFactory {
    engine: Arc<EngineState>,
    format: ImportFormat,
}

impl ImportFactory {
    /// A factory for tables of a format.
    pub fn new(engine: Arc<EngineState>, format: ImportFormat) -> Self {
        Self { engine, format }
    }
}

impl TableProviderFactory for ImportFactory {
    async_method!(create => create_table);
}

impl ImportFactory {
    fn create_table<'a>(
        &'a self,
        session: &'a dyn Session,
        cmd: &'a CreateExternalTable,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>>> {
        Box::pin(async move {
            let what = format!("a table STORED AS {}", self.format.file_type());
            let (name, location) = schema_and_location(session, cmd, &what)?;
            if is_address(location) && !self.format.options().contains(&"timeout") {
                return plan_err!("{what} is read from files of this machine, not from {location}");
            }
            check_name(&name)?;
            if self.engine.registry.get(&name).is_ok() {
                return Err(Error::Duplicate(name).into());
            }
            let options = self.options(cmd)?;
            let rights = Rights::of(session.config_options());
            let model = |name: &String| -> Result<_> {
                rights.check_schema(name)?;
                self.engine.registry.get_among(name, |known| rights.may_use(known)).map_err(sql_error)
            };
            let model = options.get("model").map(model).transpose()?;
            let (format, location) = (self.format, location.to_owned());
            let definition = cmd.definition.clone();
            let open = move || -> Result<Arc<Import>> {
                let vocabulary = model.as_ref().map(|model| Arc::new(Vocabulary::new(model.tokenizer().texts())));
                let source = format.open(&location, &options, model.as_deref(), vocabulary.as_ref())?;
                Ok(Arc::new(Import { name, location, source, vocabulary, definition, index: Default::default() }))
            };
            let opened: Result<Arc<Import>> = tokio::task::spawn_blocking(open)
                .await
                .map_err(|e| Error::Internal(format!("opening published data failed: {e}")))?;
            Ok(Arc::new(opened?.as_table()) as Arc<dyn TableProvider>)
        })
    }

    fn options(&self, cmd: &CreateExternalTable) -> Result<Given> {
        let known = self.format.options();
        let mut given = Given::new();
        for (key, value) in &cmd.options {
            let name = key.strip_prefix("format.").unwrap_or(key).to_ascii_lowercase();
            if !known.contains(&name.as_str()) {
                let file_type = self.format.file_type();
                return plan_err!("a table STORED AS {file_type} has no option '{name}', only {}", known.join(", "));
            }
            given.insert(name, value.clone());
        }
        Ok(given)
    }
}
