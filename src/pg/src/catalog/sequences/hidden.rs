//! The catalogs without sequences and types, which `information_schema` does not count among the tables.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result;

use crate::catalog::own_types;
use crate::catalog::sequences::sequence;

/// Returns the catalogs without sequences and types. Their names are still listed.
pub(crate) fn without_sequences(catalogs: Arc<dyn CatalogProviderList>) -> Arc<dyn CatalogProviderList> {
    Arc::new(Catalogs(catalogs))
}

#[derive(Debug)]
struct Catalogs(Arc<dyn CatalogProviderList>);

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.0.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.0.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        Some(Arc::new(Catalog(self.0.catalog(name)?)))
    }
}

#[derive(Debug)]
struct Catalog(Arc<dyn CatalogProvider>);

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.0.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(Schema(self.0.schema(name)?)))
    }
}

#[derive(Debug)]
struct Schema(Arc<dyn SchemaProvider>);

impl Schema {
    async fn is_sequence(&self, name: &str) -> Result<bool> {
        // Only tables of this type may be one.
        if self.0.table_type(name).await? != Some(TableType::Temporary) {
            return Ok(false);
        }
        let is_hidden = |table: &dyn TableProvider| sequence::of(table).is_some() || own_types::of(table).is_some();
        Ok(self.0.table(name).await?.is_some_and(|table| is_hidden(table.as_ref())))
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = self.0.table(name).await?;
        Ok(table.filter(|table| sequence::of(table.as_ref()).is_none() && own_types::of(table.as_ref()).is_none()))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if self.is_sequence(name).await? { Ok(None) } else { self.0.table_type(name).await }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}
