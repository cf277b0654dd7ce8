//! `CREATE EXTERNAL TABLE name STORED AS MODEL LOCATION '…' OPTIONS (…)`

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{SchemaReference, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::CreateExternalTable;
use futures::future::BoxFuture;
use neuroql_model::{Model, Options, Progress};
use neuroql_schema::sql_error;
use neuroql_store::Registration;

use crate::Error;
use crate::async_method::async_method;
use crate::catalog::model_as_table;
use crate::create_statement::absolute;
use crate::settings::{SessionDevice, Settings};
use crate::state::EngineState;

/// Names that are schemas already.
const RESERVED: [&str; 3] = ["public", "information_schema", "pg_catalog"];

/// Loads models for a registry.
#[derive(Clone)]
pub struct ModelFactory {
    engine: Arc<EngineState>,
    progress: Arc<dyn Progress>,
}

impl std::fmt::Debug for ModelFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFactory").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl ModelFactory {
    /// File type after `STORED AS`.
    pub const FILE_TYPE: &str = "MODEL";

    /// A factory that reports downloads to `progress`.
    pub fn new(engine: Arc<EngineState>, progress: Arc<dyn Progress>) -> Self {
        Self { engine, progress }
    }

    /// Loads the models that the store remembers and that are not there yet. One that cannot be loaded is left out,
    /// with a warning: its files may come back.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub async fn restore(&self) -> Result<()> {
        for known in self.engine.store.registrations().await.map_err(sql_error)? {
            if self.engine.registry.get(&known.model).is_ok() {
                continue;
            }
            let loaded = match parse(&known.options.into_iter().collect()) {
                Ok(options) => self.load(&known.model, &known.location, options).await,
                Err(error) => Err(error),
            };
            match loaded {
                Ok(model) if model.sha256() != known.sha256 => {
                    tracing::warn!(model = known.model, "its files have changed since it was registered");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(model = known.model, %error, "cannot be loaded"),
            }
        }
        Ok(())
    }

    /// Loads a model and registers it.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::Duplicate`], or an error of [`Model::load`].
    pub async fn load(&self, name: &str, location: &str, options: Options) -> Result<Arc<Model>> {
        check_name(name)?;
        if let Ok(model) = self.engine.registry.get(name) {
            return Err(Error::Duplicate(model.name().into()).into());
        }
        if self.engine.imports.get(name).is_some() {
            return Err(Error::Duplicate(name.into()).into());
        }
        let (name, location) = (name.to_owned(), location.to_owned());
        let progress = Arc::clone(&self.progress);
        // Loading blocks; if the client gives up meanwhile the result is dropped unregistered.
        let others = self.engine.registry.list();
        let load = tokio::task::spawn_blocking(move || {
            Model::load_beside(&others, &name, &location, &options, progress.as_ref())
        });
        let loaded = load.await.map_err(|e| Error::Internal(format!("loading a model failed: {e}")))?;
        let model = Arc::new(loaded.map_err(sql_error)?);
        self.engine.registry.insert(Arc::clone(&model)).map_err(sql_error)?;
        tracing::info!(model = model.name(), location = model.location(), "registered");
        Ok(model)
    }
}

/// Options named as in SQL, with or without the prefix `format.` that DataFusion puts before them.
fn parse(options: &HashMap<String, String>) -> Result<Options> {
    let pairs = options.iter().map(|(key, value)| (key.strip_prefix("format.").unwrap_or(key), value));
    Options::parse(pairs).map_err(sql_error)
}

/// Returns the locations that a statement has read: that of the table, and that of a model's tokenizer.
pub fn locations(cmd: &CreateExternalTable) -> Vec<&str> {
    let is_model = cmd.file_type.eq_ignore_ascii_case(ModelFactory::FILE_TYPE);
    let is_tokenizer =
        |key: &str| is_model && key.strip_prefix("format.").unwrap_or(key).eq_ignore_ascii_case("tokenizer");
    let tokenizers = cmd.options.iter().filter(|(key, _)| is_tokenizer(key)).map(|(_, value)| value);
    cmd.locations.iter().chain(tokenizers).map(String::as_str).collect()
}

/// Returns the location of local files as an absolute path; any other location stays as it is.
fn lasting(location: &str) -> String {
    if std::path::Path::new(location).exists() { absolute(location) } else { location.into() }
}

/// Returns an error if a name cannot be that of a model, which is also the name of a schema and of a table.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let invalid = |reason| Err(Error::InvalidName { name: name.into(), reason });
    if name.is_empty() {
        return invalid("it is empty");
    }
    if name.contains(['.', '"', '\0']) {
        return invalid("it contains a dot, a quote or a NUL");
    }
    if RESERVED.contains(&name) {
        return invalid("it is the name of a schema");
    }
    Ok(())
}

/// Reads the name and the location of a table that is a schema with tables of its own; `what` names it in errors.
///
/// # Errors
/// If it is created in a schema, or has a column list, or not one location.
pub(crate) fn schema_and_location<'a>(
    session: &dyn Session,
    cmd: &'a CreateExternalTable,
    what: &str,
) -> Result<(String, &'a str)> {
    let defaults = &session.config_options().catalog;
    let table = cmd.name.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
    if *table.schema != *defaults.default_schema || *table.catalog != *defaults.default_catalog {
        let schema = SchemaReference::Bare { schema: table.schema };
        return plan_err!("{what} is a schema itself and cannot be created in schema {schema}");
    }
    if !cmd.schema.fields().is_empty() {
        return plan_err!("the columns of {what} are given: leave out the column list of {}", cmd.name);
    }
    let [location] = cmd.locations.as_slice() else {
        return plan_err!("{what} has one LOCATION");
    };
    Ok((table.table.to_string(), location))
}

impl TableProviderFactory for ModelFactory {
    async_method!(create => create_table);
}

impl ModelFactory {
    fn create_table<'a>(
        &'a self,
        session: &'a dyn Session,
        cmd: &'a CreateExternalTable,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>>> {
        Box::pin(async move {
            let (name, location) = schema_and_location(session, cmd, "a model")?;
            let option = |(key, value): (&String, &String)| {
                (key.strip_prefix("format.").unwrap_or(key).to_owned(), value.clone())
            };
            let mut options: HashMap<String, String> = cmd.options.iter().map(option).collect();
            if let Some(Settings { device }) = session.config_options().extensions.get()
                && *device != SessionDevice::default()
                && !options.keys().any(|name| name.eq_ignore_ascii_case("device"))
            {
                options.insert("device".into(), device.to_string());
            }
            let model = self.load(&name, location, parse(&options)?).await?;
            let registration = Registration {
                model: name.clone(),
                location: lasting(location),
                options: options.into_iter().collect(),
                sha256: model.sha256().to_owned(),
            };
            if let Err(error) = self.engine.store.register(&registration).await {
                self.engine.registry.remove(&name);
                return Err(sql_error(error));
            }
            Ok(model_as_table(model, Arc::clone(&self.engine)))
        })
    }
}
