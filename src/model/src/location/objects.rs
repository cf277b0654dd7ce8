//! Object stores and web servers, with a checked copy of each file in the cache.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, RetryConfig};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;
use url::Url;

use super::{Folder, Progress, Remotes, extension, is_weights, nothing, plain};
use crate::checkpoint::{digest, hex};
use crate::{Error, Result};

/// A folder of an object store.
struct Objects<'a> {
    location: &'a str,
    store: Box<dyn ObjectStore>,
    prefix: Path,
    names: Option<Vec<String>>,
    /// Folder of the cache for its files.
    cache: PathBuf,
    runtime: Runtime,
    progress: &'a dyn Progress,
}

/// State of a cached file when it was downloaded, stored beside it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Origin {
    url: String,
    etag: Option<String>,
    modified: String,
    size: u64,
    sha256: String,
}

/// Opens a URL: a file if it ends as a weight file or a tokenizer, else a folder.
pub(super) fn open<'a>(
    remotes: &Remotes,
    location: &'a str,
    url: &Url,
    progress: &'a dyn Progress,
) -> Result<(Box<dyn Folder + 'a>, Option<String>)> {
    let failed = |reason: String| Error::Location { location: location.into(), reason };
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|e| failed(e.to_string()))?;
    let store = connect(&scheme, url, &remotes.options).map_err(|e| failed(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| failed(e.to_string()))?;
    let mut parts: Vec<_> = path.parts().collect();
    let file = match parts.last().map(|last| last.as_ref().to_owned()) {
        Some(last) if is_weights(&last) || extension(&last) == "json" => {
            parts.pop();
            Some(last)
        }
        _ => None,
    };
    let prefix: Path = parts.into_iter().collect();
    let names = match (&scheme, &file) {
        // A web server has no list, and one file needs none.
        (ObjectStoreScheme::Http, _) | (_, Some(_)) => None,
        _ => {
            let list = runtime.block_on(store.list_with_delimiter(Some(&prefix)));
            let list = list.map_err(|e| failed(e.to_string()))?.objects;
            if list.is_empty() {
                return Err(nothing(location));
            }
            Some(list.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
        }
    };
    // Files of one folder share a cache.
    let place = format!("{}|{prefix}", &url[..url::Position::BeforePath]);
    let cache = remotes.cache.join("objects").join(hex(&Sha256::digest(place)));
    Ok((Box::new(Objects { location, store, prefix, names, cache, runtime, progress }), file))
}

/// Connects as `object_store::parse_url_opts` does, but retries for a shorter time, which it has no option for.
fn connect(
    scheme: &ObjectStoreScheme,
    url: &Url,
    options: &[(String, String)],
) -> object_store::Result<Box<dyn ObjectStore>> {
    let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
    macro_rules! store {
        ($builder:ty, $url:expr) => {{
            let builder = <$builder>::new().with_url($url).with_retry(retry);
            let known = options.iter().filter_map(|(key, value)| Some((key.to_lowercase().parse().ok()?, value)));
            Box::new(known.fold(builder, |builder, (key, value)| builder.with_config(key, value)).build()?)
        }};
    }
    Ok(match scheme {
        ObjectStoreScheme::AmazonS3 => store!(AmazonS3Builder, url.as_str()),
        ObjectStoreScheme::GoogleCloudStorage => store!(GoogleCloudStorageBuilder, url.as_str()),
        ObjectStoreScheme::MicrosoftAzure => store!(MicrosoftAzureBuilder, url.as_str()),
        ObjectStoreScheme::Http => {
            let client = object_store::ClientOptions::new().with_allow_http(url.scheme() == "http");
            let server = &url[..url::Position::BeforePath];
            Box::new(HttpBuilder::new().with_url(server).with_client_options(client).with_retry(retry).build()?)
        }
        other => {
            let source = format!("{other:?} locations are not supported").into();
            return Err(object_store::Error::Generic { store: "URL", source });
        }
    })
}

impl Folder for Objects<'_> {
    fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    fn get(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let failed = |reason: String| Error::Location { location: self.location.into(), reason };
        if !plain(name) {
            return Err(failed(format!("\"{name}\" is no file name")));
        }
        let path: Path = self.prefix.parts().chain([name.into()]).collect();
        let object = match self.runtime.block_on(self.store.head(&path)) {
            Ok(object) => object,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(failed(e.to_string())),
        };
        let copy = self.cache.join(name);
        let origin = self.cache.join(format!("{name}.origin.json"));
        let recorded = std::fs::read(&origin).ok().and_then(|text| serde_json::from_slice::<Origin>(&text).ok());
        if let Some(recorded) = recorded
            && recorded.etag == object.e_tag
            && recorded.size == object.size
            && recorded.modified == object.last_modified.to_string()
        {
            match digest(std::slice::from_ref(&copy)) {
                Ok((sha256, _)) if sha256 == recorded.sha256 => return Ok(Some(copy)),
                Ok(_) => tracing::warn!(file = %copy.display(), "the cached copy is damaged, downloading it again"),
                Err(_) => {}
            }
        }
        let sha256 = self.download(&object, &copy).map_err(failed)?;
        let record = Origin {
            url: self.location.into(),
            etag: object.e_tag,
            modified: object.last_modified.to_string(),
            size: object.size,
            sha256,
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|e| failed(e.to_string()))?;
        replace(&origin, |file| file.write_all(&text)).map_err(|e| failed(e.to_string()))?;
        Ok(Some(copy))
    }
}

impl Objects<'_> {
    /// Downloads an object to `copy` and returns its SHA-256.
    fn download(&self, object: &ObjectMeta, copy: &std::path::Path) -> Result<String, String> {
        std::fs::create_dir_all(&self.cache).map_err(|e| format!("{}: {e}", self.cache.display()))?;
        let mut hash = Sha256::new();
        self.progress.begin(object.location.filename().unwrap_or_default(), Some(object.size));
        let mut received = 0;
        let arrived = replace(copy, |file| {
            self.runtime.block_on(async {
                let mut stream = self.store.get(&object.location).await?.into_stream();
                while let Some(chunk) = stream.try_next().await? {
                    file.write_all(&chunk)?;
                    hash.update(&chunk);
                    received += chunk.len() as u64;
                    self.progress.advance(chunk.len() as u64);
                }
                if received != object.size {
                    let reason = format!("{} ended after {received} of {} bytes", object.location, object.size);
                    return Err(std::io::Error::other(reason));
                }
                Ok(())
            })
        });
        self.progress.finish();
        arrived.map_err(|e| e.to_string())?;
        Ok(hex(&hash.finalize()))
    }
}

/// Replaces a file atomically: writes it under another name and then renames it.
fn replace(
    path: &std::path::Path,
    write: impl FnOnce(&mut NamedTempFile) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(std::path::Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    write(&mut file)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
