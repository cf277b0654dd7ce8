//! The catalogs of the engine as the sessions of one server see them: with a schema `pg_catalog` of its own.
//!
//! Several servers and programs may use one engine, each with its users and connections. What `pg_catalog` says of these is not
//! the engine's, and numbers of objects hold in the `pg_catalog` that gave them.

use std::fmt::{self, Debug};
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use datafusion::error::Result;

use crate::catalog::changed_catalogs::ChangedCatalogs;

/// Name of the schema.
pub(crate) const PG_CATALOG: &str = "pg_catalog";

type OwnSchema = Arc<RwLock<Option<Arc<dyn SchemaProvider>>>>;

/// Returns the engine's catalogs, one of which has no `pg_catalog` until that of this server is registered in it.
pub(super) fn with_own_schema(engine: Arc<dyn CatalogProviderList>, catalog: &str) -> ChangedCatalogs {
    let own = OwnSchema::default();
    ChangedCatalogs::new(engine, catalog, move |engine| Arc::new(ServerCatalog { engine, own: Arc::clone(&own) }))
}

/// The catalog with the schema.
struct ServerCatalog {
    engine: Arc<dyn CatalogProvider>,
    own: OwnSchema,
}

impl ServerCatalog {
    fn own(&self) -> Option<Arc<dyn SchemaProvider>> {
        self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, schema: Option<Arc<dyn SchemaProvider>>) -> Option<Arc<dyn SchemaProvider>> {
        std::mem::replace(&mut *self.own.write().unwrap_or_else(PoisonError::into_inner), schema)
    }
}

// Tables of the schema may hold the catalog.
impl Debug for ServerCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCatalog").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl CatalogProvider for ServerCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.engine.schema_names();
        names.retain(|name| name != PG_CATALOG);
        names.extend(self.own().map(|_| PG_CATALOG.to_owned()));
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == PG_CATALOG { self.own() } else { self.engine.schema(name) }
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if name == PG_CATALOG { Ok(self.replace(Some(schema))) } else { self.engine.register_schema(name, schema) }
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if name == PG_CATALOG { Ok(self.replace(None)) } else { self.engine.deregister_schema(name, cascade) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int32Type;
    use neuroql::Engine;

    use crate::client::Readers;

    /// Numbers of objects as a client of this server sees them.
    async fn numbers(readers: &Readers) -> Vec<i32> {
        let client = ([127, 0, 0, 1], 9).into();
        let mut reader = readers.session("ada", client, "test", Duration::from_secs(60)).await.unwrap();
        // Functions of a schema by its number, which two tables read.
        let sql = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'toy' \
            UNION ALL SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public' \
            ORDER BY oid";
        let mut rows = reader.query(sql, &[]).await.unwrap();
        let mut found = Vec::new();
        while let Some(batch) = rows.next().await.unwrap() {
            found.extend(batch.column(0).as_primitive::<Int32Type>().values().to_vec());
        }
        found
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn servers_over_one_engine_have_one_each() {
        let engine = Engine::builder().build().unwrap();
        let first = Readers::new(&engine).unwrap();
        let expected = numbers(&first).await;
        assert!(expected.len() > 40, "{expected:?}");
        let others = async {
            for _ in 0..5 {
                let other = Readers::new(&engine).unwrap();
                assert_eq!(numbers(&other).await.len(), expected.len());
            }
        };
        let same = async {
            for _ in 0..5 {
                assert_eq!(numbers(&first).await, expected);
            }
        };
        tokio::join!(others, same);
        let session = engine.session();
        let names = session.catalog(&session.catalog_names()[0]).unwrap().schema_names();
        assert!(!names.iter().any(|name| name == super::PG_CATALOG), "{names:?}");
    }
}
