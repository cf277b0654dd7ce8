//! Location of a store.

use std::sync::Arc;

use deltalake::logstore::logstore_factories;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;

use crate::{Error, Result};

/// The folder that holds the tables.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    url: Url,
    objects: Option<Arc<dyn ObjectStore>>,
    /// True if the store ends with the process.
    fleeting: bool,
}

impl Root {
    /// Returns the root of a store that ends with the process.
    pub fn in_memory() -> Self {
        Self { fleeting: true, ..Self::over(Arc::new(InMemory::new())) }
    }

    /// Returns the root of a store over objects that somebody else opened.
    pub fn over(objects: Arc<dyn ObjectStore>) -> Self {
        // This is a constant that parses.
        let url = Url::parse("memory:///").unwrap_or_else(|_| unreachable!());
        Self { url, objects: Some(objects), fleeting: false }
    }

    /// Parses a folder, made if it is not there, or a URL that object_store knows; credentials come from the
    /// environment, as `AWS_ACCESS_KEY_ID` and the like.
    pub fn parse(location: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Location { location: location.into(), reason };
        match Url::parse(location) {
            // A single letter is a drive, not a scheme.
            Ok(url) if url.scheme().len() > 1 && url.scheme() != "file" => {
                let options = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
                let (objects, _) =
                    object_store::parse_url_opts(&url, options).map_err(|error| wrong(error.to_string()))?;
                know_scheme(url.scheme());
                let mut url = url;
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                Ok(Self { url, objects: Some(objects.into()), fleeting: false })
            }
            parsed => {
                let folder = match parsed.ok().filter(|url| url.scheme() == "file") {
                    Some(url) => url.to_file_path().map_err(|()| wrong("it is no local path".into()))?,
                    None => location.into(),
                };
                std::fs::create_dir_all(&folder).map_err(|error| wrong(error.to_string()))?;
                let folder = folder.canonicalize().map_err(|error| wrong(error.to_string()))?;
                let url = Url::from_directory_path(&folder).map_err(|()| wrong("it is no absolute path".into()))?;
                Ok(Self { url, objects: None, fleeting: false })
            }
        }
    }

    /// Returns the folder of a table, never the root itself.
    pub fn table(&self, name: &str) -> Result<Url> {
        let wrong = |reason: String| Error::Location { location: self.url.to_string(), reason };
        let url = self.url.join(name).map_err(|error| wrong(format!("has no place for table {name}: {error}")))?;
        if !(url.path().starts_with(self.url.path()) && url.path().len() > self.url.path().len()) {
            return Err(wrong(format!("has no place for table {name}: it would be at {url}")));
        }
        if self.objects.is_none() {
            // A local folder must exist before delta-rs opens it; if it cannot be made, opening it will say why.
            let _ = url.to_file_path().map(std::fs::create_dir_all);
        }
        Ok(url)
    }

    /// Returns the object store; `None` for the local file system.
    pub fn objects(&self) -> Option<Arc<dyn ObjectStore>> {
        self.objects.clone()
    }

    /// Returns true if the store ends with the process.
    pub fn is_fleeting(&self) -> bool {
        self.fleeting
    }

    /// Returns the location, for people.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Makes delta-rs take tables at URLs of a scheme, which it does of its own accord only for files and memory. The log
/// is written there too by writes that fail where a file already exists, which all of object_store's stores can do.
fn know_scheme(scheme: &str) {
    let factories = logstore_factories();
    let of = |scheme: &str| Url::parse(&format!("{scheme}://")).ok();
    let known = of("memory").and_then(|memory| factories.get(&memory).map(|factory| Arc::clone(factory.value())));
    if let (Some(factory), Some(scheme)) = (known, of(scheme)) {
        factories.entry(scheme).or_insert(factory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_folder_of_its_own() {
        let root = |url: &str| Root {
            url: Url::parse(url).unwrap(),
            objects: Some(Arc::new(InMemory::new())),
            fleeting: true,
        };
        assert_eq!(root("s3://bucket/results/").table("neurons").unwrap().as_str(), "s3://bucket/results/neurons");
        // Roots that cannot have folders, and names that would put a table in the place of another or outside the
        // store.
        for (url, name) in [
            ("data:results", "neurons"),
            ("memory:///", ""),
            ("s3://bucket/results", "neurons/.."),
            ("memory:///a/", "../b"),
        ] {
            let error = root(url).table(name).unwrap_err();
            assert!(matches!(&error, Error::Location { location, .. } if location == url), "{url} {name}: {error}");
        }
    }
}
