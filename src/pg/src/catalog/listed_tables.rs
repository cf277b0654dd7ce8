//! The tables that the catalogs list, with the numbers that they have in `pg_class`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::{CatalogProviderList, TableProvider};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::PgCatalogTable;
use futures::TryStreamExt;

use crate::catalog::batches::{numbers, texts};
use crate::catalog::own_types;
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::catalog::{PgCatalog, TypedCatalogList};

/// A table, view or sequence as the catalogs list it.
#[derive(Debug)]
pub(super) struct ListedTable {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) provider: Arc<dyn TableProvider>,
    /// Number of tables of the same schema and name that other catalogs list before it.
    before: usize,
}

/// Returns the tables of all catalogs, but for those of `pg_catalog` and `information_schema`. Types of users are none.
///
/// # Errors
/// Those of the catalogs.
pub(super) async fn listed_tables(catalogs: &dyn CatalogProviderList) -> Result<Vec<ListedTable>> {
    let mut found = Vec::new();
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    for catalog_name in catalogs.catalog_names() {
        let Some(catalog) = catalogs.catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names() {
            if matches!(schema_name.as_str(), PG_CATALOG | "information_schema") {
                continue;
            }
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for name in schema.table_names() {
                let Some(provider) = schema.table(&name).await? else { continue };
                if own_types::of(provider.as_ref()).is_some() {
                    continue;
                }
                let seen = seen.entry((schema_name.clone(), name.clone())).or_default();
                let before = *seen;
                *seen += 1;
                let (catalog, schema) = (catalog_name.clone(), schema_name.clone());
                found.push(ListedTable { catalog, schema, name, provider, before });
            }
        }
    }
    Ok(found)
}

/// Reads which tables there are, and their numbers.
#[derive(Debug, Clone)]
pub(super) struct ClassReader {
    catalogs: TypedCatalogList,
    classes: Arc<dyn PartitionStream>,
    pub(super) namespaces: Arc<dyn PartitionStream>,
}

impl PgCatalog {
    /// Returns a reader of tables and their numbers.
    pub(super) fn class_reader(&self) -> Result<ClassReader> {
        let stream = |name: &str| -> Result<Arc<dyn PartitionStream>> {
            match self.inner.build_table_by_name(name)? {
                Some(PgCatalogTable::Dynamic(stream)) => Ok(stream),
                _ => Err(exec_datafusion_err!("{name} has no rows that change")),
            }
        };
        let (classes, namespaces) = (stream("pg_class")?, stream("pg_namespace")?);
        Ok(ClassReader { catalogs: self.catalogs.clone(), classes, namespaces })
    }
}

impl ClassReader {
    /// Returns the tables of all catalogs.
    pub(super) async fn tables(&self) -> Result<Vec<ListedTable>> {
        listed_tables(self.catalogs.catalogs().as_ref()).await
    }

    /// Reads the numbers. `classes` are the rows of `pg_class`, which are read if they are not given.
    pub(super) async fn read(
        &self,
        classes: Option<&[RecordBatch]>,
        context: Arc<TaskContext>,
    ) -> Result<ClassNumbers> {
        let mut read = Vec::new();
        if classes.is_none() {
            read = self.classes.execute(Arc::clone(&context)).try_collect().await?;
        }
        let classes = classes.unwrap_or(&read);
        let namespaces: Vec<RecordBatch> = self.namespaces.execute(context).try_collect().await?;
        let mut schemas = HashMap::new();
        for batch in &namespaces {
            let names = texts(batch, "nspname")?.iter().flatten();
            schemas.extend(numbers(batch, "oid")?.values().iter().copied().zip(names));
        }
        let mut found = ClassNumbers::default();
        for batch in classes {
            let (oids, places) = (numbers(batch, "oid")?, numbers(batch, "relnamespace")?);
            let placed = oids.values().iter().copied().zip(places.values().iter().copied());
            for ((oid, namespace), name) in placed.zip(texts(batch, "relname")?.iter().flatten()) {
                if let Some(schema) = schemas.get(&namespace) {
                    let tables = found.0.entry((*schema).to_owned()).or_default();
                    tables.entry(name.to_owned()).or_default().push((oid, namespace));
                }
            }
        }
        Ok(found)
    }
}

/// Numbers of tables and of their schemas, by schema and name. pg-catalog numbers those of a name in the order in which the
/// catalogs list them.
#[derive(Debug, Default)]
pub(super) struct ClassNumbers(HashMap<String, HashMap<String, Vec<(i32, i32)>>>);

impl ClassNumbers {
    /// Returns the number of a table, and that of its schema.
    pub(super) fn of(&self, table: &ListedTable) -> Option<(i32, i32)> {
        self.0.get(&table.schema)?.get(&table.name)?.get(table.before).copied()
    }

    /// Returns the number of a table of `pg_catalog`, 0 if there is none of this name.
    pub(super) fn of_catalog(&self, name: &str) -> i32 {
        let found = self.0.get(PG_CATALOG).and_then(|tables| tables.get(name)?.first());
        found.map(|(oid, _)| *oid).unwrap_or_default()
    }
}
