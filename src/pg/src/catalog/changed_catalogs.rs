//! A list of catalogs, one of which is another than in the list behind it.

use std::fmt::{self, Debug};
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList};

/// Makes the catalog of the list from the one behind it.
type Change = dyn Fn(Arc<dyn CatalogProvider>) -> Arc<dyn CatalogProvider> + Send + Sync;

/// The catalogs of another list, one of which is changed each time it is looked up.
pub(crate) struct ChangedCatalogs {
    inner: Arc<dyn CatalogProviderList>,
    /// Name of the catalog that is changed.
    catalog: String,
    change: Box<Change>,
}

impl ChangedCatalogs {
    pub(crate) fn new(
        inner: Arc<dyn CatalogProviderList>,
        catalog: &str,
        change: impl Fn(Arc<dyn CatalogProvider>) -> Arc<dyn CatalogProvider> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, catalog: catalog.to_owned(), change: Box::new(change) }
    }
}

// Tables of the changed catalog may hold the list.
impl Debug for ChangedCatalogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedCatalogs").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl CatalogProviderList for ChangedCatalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.inner.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.inner.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let inner = self.inner.catalog(name)?;
        Some(if name == self.catalog { (self.change)(inner) } else { inner })
    }
}
