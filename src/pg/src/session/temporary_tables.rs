//! Temporary tables: tables in memory that one session sees, and that go with it.
//!
//! They are in a schema `pg_temp` of their session, and a name without a schema means the one there before that of
//! other tables.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{self, ObjectName, Visit, visit_relations};
use futures::FutureExt;
use neuroql_access::TEMPORARY;

use crate::catalog;
use crate::catalog::changed_catalogs::ChangedCatalogs;
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::sql::column_names::fold;
use crate::sql::utility;
use crate::wire::error_response::SqlError;

/// The temporary tables of a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct TemporaryTables {
    tables: Arc<MemorySchemaProvider>,
    /// The schema of other tables that are named without one.
    default_schema: Arc<RwLock<String>>,
    /// `pg_catalog` with these tables in it.
    pg_catalog: Arc<OnceLock<Option<Arc<dyn SchemaProvider>>>>,
}

impl TemporaryTables {
    /// Returns the catalogs of a session with these tables in one of them.
    pub(crate) fn over(
        &self,
        server: Arc<dyn CatalogProviderList>,
        catalog: &str,
        default_schema: &str,
    ) -> Arc<dyn CatalogProviderList> {
        self.set_default_schema(default_schema);
        let temporary = self.clone();
        Arc::new_cyclic(|this: &Weak<ChangedCatalogs>| {
            let this = this.clone();
            ChangedCatalogs::new(server, catalog, move |server| {
                Arc::new(SessionCatalog { server, temporary: temporary.clone(), catalogs: this.clone() })
            })
        })
    }

    /// Sets the schema of other tables that are named without one.
    pub(crate) fn set_default_schema(&self, name: &str) {
        name.clone_into(&mut self.default_schema.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_default_schema(&self, name: &str) -> bool {
        *self.default_schema.read().unwrap_or_else(PoisonError::into_inner) == name
    }

    /// Drops all.
    ///
    /// # Errors
    /// None of a table in memory.
    pub(crate) fn clear(&self) -> Result<()> {
        self.tables.table_names().iter().try_for_each(|name| self.tables.deregister_table(name).map(drop))
    }

    /// Returns the table of a name.
    pub(super) fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        // Tables in memory are found at once.
        self.tables.table(name).now_or_never()?.ok()?
    }

    /// Drops a table.
    ///
    /// # Errors
    /// None of a table in memory.
    pub(super) fn drop_table(&self, name: &str) -> Result<()> {
        self.tables.deregister_table(name).map(drop)
    }

    fn is_empty(&self) -> bool {
        self.tables.table_names().is_empty()
    }

    /// Refuses a statement that would mean another table than it says.
    ///
    /// # Errors
    /// 0A000 for a table that a temporary one hides, named with its schema, and for a view over temporary tables that
    /// is none itself.
    pub(crate) fn check(&self, statement: &Statement) -> Result<(), SqlError> {
        if self.is_empty() {
            return Ok(());
        }
        match statement {
            Statement::Statement(inner) => {
                self.check_names(inner.as_ref())?;
                match inner.as_ref() {
                    ast::Statement::CreateView(view) if part(&view.name, 1).as_deref() != Some(TEMPORARY) => {
                        self.check_view(&view.query)
                    }
                    ast::Statement::CreateTable(table) if utility::is_materialized(table) => match &table.query {
                        Some(query) => self.check_view(query),
                        None => Ok(()),
                    },
                    ast::Statement::Drop { names, .. } => names.iter().try_for_each(|name| self.check_name(name)),
                    _ => Ok(()),
                }
            }
            Statement::Explain(explain) => self.check(&explain.statement),
            Statement::CopyTo(copy) => match &copy.source {
                CopyToSource::Query(query) => self.check_names(query.as_ref()),
                CopyToSource::Relation(name) => self.check_name(name),
            },
            _ => Ok(()),
        }
    }

    fn check_names(&self, syntax: &impl Visit) -> Result<(), SqlError> {
        let found = visit_relations(syntax, |name| match self.check_name(name) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        found.break_value().map_or(Ok(()), Err)
    }

    /// Refuses the name of a table that a temporary one hides.
    pub(super) fn check_name(&self, name: &ObjectName) -> Result<(), SqlError> {
        let is_hidden = part(name, 1).is_some_and(|schema| self.is_default_schema(&schema))
            && part(name, 0).is_some_and(|table| self.tables.table_exist(&table));
        match is_hidden {
            true => Err(SqlError::not_supported(format!("{name} is not supported: a temporary table hides it"))
                .with_hint("Drop the temporary table, or give it another name.")),
            false => Ok(()),
        }
    }

    /// Refuses the query of a view that reads temporary tables.
    pub(super) fn check_view(&self, query: &ast::Query) -> Result<(), SqlError> {
        let is_temporary = |name: &ObjectName| match part(name, 1) {
            Some(schema) => schema == TEMPORARY,
            None => part(name, 0).is_some_and(|table| self.tables.table_exist(&table)),
        };
        let found = visit_relations(query, |name| match is_temporary(name) {
            true => ControlFlow::Break(name.to_string()),
            false => ControlFlow::Continue(()),
        });
        match found {
            ControlFlow::Break(name) => {
                let message = format!("a view over the temporary table {name} is not supported");
                Err(SqlError::not_supported(message).with_hint("CREATE TEMPORARY VIEW makes one that goes with it."))
            }
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

/// Returns a part of a name, from its end, as the planner reads it.
fn part(name: &ObjectName, from_end: usize) -> Option<String> {
    name.0.iter().rev().nth(from_end)?.as_ident().map(fold)
}

/// The catalog with the temporary tables.
#[derive(Debug)]
struct SessionCatalog {
    server: Arc<dyn CatalogProvider>,
    temporary: TemporaryTables,
    /// The catalogs of the session, of which this is one.
    catalogs: Weak<ChangedCatalogs>,
}

impl CatalogProvider for SessionCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.server.schema_names();
        if !self.temporary.is_empty() {
            names.push(TEMPORARY.to_owned());
        }
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == TEMPORARY {
            return Some(Arc::clone(&self.temporary.tables) as _);
        }
        let schema = self.server.schema(name)?;
        if name == PG_CATALOG && !self.temporary.is_empty() {
            let over = || {
                let catalogs: Weak<dyn CatalogProviderList> = self.catalogs.clone();
                catalog::over(&schema, catalogs)
            };
            return self.temporary.pg_catalog.get_or_init(over).clone().or(Some(schema));
        }
        if self.temporary.is_empty() || !self.temporary.is_default_schema(name) {
            return Some(schema);
        }
        Some(Arc::new(DefaultSchema { schema, temporary: Arc::clone(&self.temporary.tables) }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.server.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.server.deregister_schema(name, cascade)
    }
}

/// The default schema, some of whose tables are hidden by temporary ones.
#[derive(Debug)]
struct DefaultSchema {
    schema: Arc<dyn SchemaProvider>,
    temporary: Arc<MemorySchemaProvider>,
}

#[async_trait]
impl SchemaProvider for DefaultSchema {
    fn table_names(&self) -> Vec<String> {
        self.schema.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.temporary.table(name).await? {
            Some(temporary) => Ok(Some(temporary)),
            None => self.schema.table(name).await,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.schema.table_type(name).await
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.schema.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.temporary.deregister_table(name)? {
            Some(temporary) => Ok(Some(temporary)),
            None => self.schema.deregister_table(name),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.temporary.table_exist(name) || self.schema.table_exist(name)
    }
}
