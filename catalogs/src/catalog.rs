//! The catalog: models as schemas, system tables in the default schema, and what users create beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::error::Result;
use futures::future::BoxFuture;
use neuroql_model::Model;

use crate::Error;
use crate::async_method::async_method;
use crate::imports::{Import, ImportTable};
use crate::registry::{find_table_function, model_table, model_tables, table_functions};
use crate::state::EngineState;
use crate::tables::datasets::Datasets;
use crate::tables::model_table::{AllModelsTableProvider, ModelTableProvider};
use crate::tables::models::Models;
use crate::view_definition::lost_text;

/// Lays models and system tables over another catalog.
#[derive(Debug)]
pub struct Catalog {
    inner: Arc<dyn CatalogProvider>,
    engine: Arc<EngineState>,
    /// Name of the schema that holds the system tables.
    default_schema: String,
}

impl Catalog {
    /// Wraps a catalog; `default_schema` is where unqualified names are looked up, `public` in the engine.
    pub fn new(inner: Arc<dyn CatalogProvider>, engine: Arc<EngineState>, default_schema: &str) -> Self {
        Self { inner, engine, default_schema: default_schema.into() }
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        let models = self.engine.registry.list().into_iter().map(|model| model.name().to_owned());
        let imports = self.engine.imports.names();
        let names: BTreeSet<String> = self.inner.schema_names().into_iter().chain(models).chain(imports).collect();
        names.into_iter().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == self.default_schema {
            let inner = self.inner.schema(name)?;
            return Some(Arc::new(DefaultSchema { inner, engine: Arc::clone(&self.engine) }));
        }
        if let Ok(model) = self.engine.registry.get(name) {
            return Some(Arc::new(ModelSchema { model, engine: Arc::clone(&self.engine) }));
        }
        if let Some(import) = self.engine.imports.get(name) {
            return Some(Arc::new(ImportSchema(import)));
        }
        self.inner.schema(name)
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if self.engine.is_schema(name) {
            return Err(Error::Duplicate(name.into()).into());
        }
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if name == self.default_schema || self.engine.is_schema(name) {
            return Err(Error::SystemTable(name.into()).into());
        }
        self.inner.deregister_schema(name, cascade)
    }
}

/// The default schema: system tables, a table of neurons for each model, and the users' tables.
#[derive(Debug)]
struct DefaultSchema {
    inner: Arc<dyn SchemaProvider>,
    engine: Arc<EngineState>,
}

impl DefaultSchema {
    fn system_names() -> Vec<String> {
        let tables = model_tables().into_iter().map(|table| table.name().to_owned());
        let table_functions = table_functions().into_iter().map(|function| function.name().to_owned());
        ["models".to_owned(), "datasets".to_owned()].into_iter().chain(tables).chain(table_functions).collect()
    }

    fn is_system(name: &str) -> bool {
        Self::system_names().iter().any(|system| system == name)
    }

    fn system_table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let engine = Arc::clone(&self.engine);
        Some(match name {
            "models" => Arc::new(Models { engine }),
            "datasets" => Arc::new(Datasets { schema: Arc::clone(&self.inner) }),
            _ => match (model_table(name), find_table_function(name)) {
                (Some(table), _) => Arc::new(AllModelsTableProvider { table, engine }),
                (None, Some(function)) => function.table(engine),
                (None, None) => return None,
            },
        })
    }
}

impl SchemaProvider for DefaultSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.inner.table_names().into_iter().collect();
        names.extend(Self::system_names());
        names.extend(self.engine.registry.list().into_iter().map(|model| model.name().to_owned()));
        names.extend(self.engine.imports.names());
        names.into_iter().collect()
    }

    async_method!(table => find_table<'a>(name: &'a str) -> Option<Arc<dyn TableProvider>>);

    async_method!(table_type => find_table_type<'a>(name: &'a str) -> Option<TableType>);

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        if Self::is_system(&name) {
            return Err(Error::SystemTable(name).into());
        }
        // The factory has put a model into the registry already; the table made of it comes from there.
        if table.downcast_ref::<ModelTableProvider>().is_some_and(|table| table.model.name() == name) {
            return Ok(None);
        }
        if self.engine.registry.get(&name).is_ok() {
            return Err(Error::Duplicate(name).into());
        }
        if let Some(table) = table.downcast_ref::<ImportTable>().filter(|table| table.import.name == name) {
            let replaced = self.engine.imports.insert(Arc::clone(&table.import));
            self.engine.define(&name, table.get_table_definition());
            return Ok(replaced.map(|import| Arc::new(import.as_table()) as Arc<dyn TableProvider>));
        }
        if let Some(view) = table.downcast_ref::<ViewTable>().filter(|_| self.engine.keeps_definitions())
            && let Some(text) = lost_text(view)?
        {
            return Err(Error::ViewText { view: name, text }.into());
        }
        let replaced = self.inner.register_table(name.clone(), Arc::clone(&table))?;
        self.engine.define(&name, table.get_table_definition());
        Ok(replaced)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if Self::is_system(name) {
            return Err(Error::SystemTable(name.into()).into());
        }
        if let Some(import) = self.engine.imports.remove(name) {
            self.engine.define(name, None);
            return Ok(Some(Arc::new(import.as_table())));
        }
        match self.engine.registry.remove(name) {
            Some(model) => {
                self.engine.forget(name);
                Ok(Some(model_as_table(model, Arc::clone(&self.engine))))
            }
            None => {
                let table = self.inner.deregister_table(name)?;
                self.engine.define(name, None);
                Ok(table)
            }
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        Self::is_system(name) || self.engine.is_schema(name) || self.inner.table_exist(name)
    }
}

impl DefaultSchema {
    fn find_table<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>>> {
        Box::pin(async move {
            if let Some(table) = self.system_table(name) {
                return Ok(Some(table));
            }
            if let Ok(model) = self.engine.registry.get(name) {
                return Ok(Some(model_as_table(model, Arc::clone(&self.engine))));
            }
            if let Some(import) = self.engine.imports.get(name) {
                return Ok(Some(Arc::new(import.as_table())));
            }
            self.inner.table(name).await
        })
    }

    fn find_table_type<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TableType>>> {
        Box::pin(async move {
            if Self::is_system(name) || self.engine.is_schema(name) {
                return Ok(Some(TableType::Base));
            }
            self.inner.table_type(name).await
        })
    }
}

/// The schema of one model.
#[derive(Debug)]
struct ModelSchema {
    model: Arc<Model>,
    engine: Arc<EngineState>,
}

impl SchemaProvider for ModelSchema {
    fn table_names(&self) -> Vec<String> {
        model_tables().into_iter().map(|table| table.name().to_owned()).collect()
    }

    async_method!(table => find_table<'a>(name: &'a str) -> Option<Arc<dyn TableProvider>>);

    async_method!(table_type => find_table_type<'a>(name: &'a str) -> Option<TableType>);

    fn register_table(&self, name: String, _: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        Err(Error::SystemTable(format!("{}.{name}", self.model.name())).into())
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Err(Error::SystemTable(format!("{}.{name}", self.model.name())).into())
    }

    fn table_exist(&self, name: &str) -> bool {
        model_table(name).is_some()
    }
}

impl ModelSchema {
    fn find_table<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>>> {
        Box::pin(async move {
            let (model, engine) = (Arc::clone(&self.model), Arc::clone(&self.engine));
            Ok(model_table(name).map(|table| Arc::new(ModelTableProvider { table, model, engine }) as _))
        })
    }

    fn find_table_type<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TableType>>> {
        Box::pin(async move { Ok(model_table(name).map(|_| TableType::Base)) })
    }
}

/// The schema of published data.
#[derive(Debug)]
struct ImportSchema(Arc<Import>);

impl SchemaProvider for ImportSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async_method!(table => find_table<'a>(name: &'a str) -> Option<Arc<dyn TableProvider>>);

    async_method!(table_type => find_table_type<'a>(name: &'a str) -> Option<TableType>);

    fn register_table(&self, name: String, _: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        Err(Error::SystemTable(format!("{}.{name}", self.0.name)).into())
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Err(Error::SystemTable(format!("{}.{name}", self.0.name)).into())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table(name).is_some()
    }
}

impl ImportSchema {
    fn find_table<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>>> {
        Box::pin(async move { Ok(self.0.table(name).map(|table| Arc::new(table) as _)) })
    }

    fn find_table_type<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<TableType>>> {
        Box::pin(async move { Ok(self.0.table(name).map(|_| TableType::Base)) })
    }
}

/// A model as a table: its neurons.
pub(crate) fn model_as_table(model: Arc<Model>, engine: Arc<EngineState>) -> Arc<dyn TableProvider> {
    Arc::new(ModelTableProvider { table: Arc::new(crate::tables::neurons::Neurons), model, engine })
}
