//! Which documents a dataset holds, told by a hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use sha2::{Digest, Sha256};

use crate::activations::{Documents, Origin};

/// A running hash of documents, NULL ones included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digests {
    hash: Sha256,
    rows: u64,
    /// Numbers of rows after which the hash is to be noted.
    wanted: BTreeSet<u64>,
    noted: BTreeMap<u64, String>,
}

impl Digests {
    /// Notes the hash after each of these numbers of rows.
    pub fn at(wanted: BTreeSet<u64>) -> Self {
        let mut digests = Self { wanted, ..Self::default() };
        digests.note();
        digests
    }

    /// Adds the next row.
    pub fn add(&mut self, number: Option<i64>, text: Option<&str>) {
        // Lengths and marks keep different rows from looking alike.
        match number {
            Some(number) => self.hash.update(number.to_le_bytes()),
            None => self.hash.update([0]),
        }
        match text {
            Some(text) => {
                self.hash.update((text.len() as u64).to_le_bytes());
                self.hash.update(text);
            }
            None => self.hash.update([1]),
        }
        self.rows += 1;
        self.note();
    }

    fn note(&mut self) {
        if self.wanted.contains(&self.rows) {
            let hash = self.current();
            self.noted.insert(self.rows, hash);
        }
    }

    /// The hash of all rows so far.
    pub fn current(&self) -> String {
        hex(&self.hash.clone().finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What was read of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Documents, NULL and empty ones included.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Hash of all documents.
    pub sha256: String,
    /// Hashes after some of them.
    pub prefixes: BTreeMap<u64, String>,
}

impl Fingerprint {
    /// Reads a dataset.
    pub async fn read(origin: &Origin, prefixes: BTreeSet<u64>, context: Arc<TaskContext>) -> Result<Self> {
        let mut documents = Documents::all(origin, 0, Digests::at(prefixes), context)?;
        let mut bytes = 0;
        while let Some(document) = documents.next().await? {
            bytes += document.text.len() as u64;
        }
        let digests = documents.digests();
        Ok(Self { documents: digests.rows, bytes, sha256: digests.current(), prefixes: digests.noted.clone() })
    }
}

/// Fingerprints of datasets whose files have not changed since they were read.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    known: Mutex<BTreeMap<String, Known>>,
}

/// A fingerprint and the files it was made of.
type Known = (Vec<String>, Arc<Fingerprint>);

impl Fingerprints {
    /// The fingerprint of a dataset, from memory if it is made of files and these are as they were.
    pub async fn of(&self, origin: &Origin, context: Arc<TaskContext>) -> Result<Option<Arc<Fingerprint>>> {
        let Origin::Dataset { name, plan, bundled, .. } = origin else { return Ok(None) };
        let files = if *bundled { Some(Vec::new()) } else { files(plan) };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name.as_ref()).cloned();
        if let (Some(files), Some((before, fingerprint))) = (&files, known)
            && *files == before
        {
            return Ok(Some(fingerprint));
        }
        let fingerprint = Arc::new(Fingerprint::read(origin, BTreeSet::new(), context).await?);
        if let Some(files) = files {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(name.to_string(), (files, Arc::clone(&fingerprint)));
        }
        Ok(Some(fingerprint))
    }
}

/// What tells a scan of files apart from other scans and from one of later versions of the files; `None` if it reads
/// anything else.
fn files(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<String>> {
    let source = plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    let files = source.file_groups.iter().flat_map(|group| group.files());
    let mut seen: Vec<String> = files
        .map(|file| {
            let meta = &file.object_meta;
            let range = file.range.as_ref().map(|range| (range.start, range.end));
            format!(
                "{}{} {} {} {:?} {:?} {range:?}",
                source.object_store_url, meta.location, meta.size, meta.last_modified, meta.e_tag, meta.version
            )
        })
        .collect();
    seen.sort();
    // Views of the same files may read other columns, or fewer rows.
    seen.push(displayable(plan.as_ref()).indent(true).to_string());
    Some(seen)
}
