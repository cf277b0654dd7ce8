//! Fingerprints of datasets: hashes that identify their contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use sha2::{Digest, Sha256};

use crate::documents::Documents;
use crate::source::{Contents, DocumentSource, Identity, Origin};

/// A running hash of documents, NULL ones included.
#[derive(Debug, Clone, Default)]
pub(crate) struct DocumentHasher {
    hash: Sha256,
    rows: u64,
    /// Numbers of rows after which to note the hash.
    wanted: BTreeSet<u64>,
    noted: BTreeMap<u64, String>,
}

impl DocumentHasher {
    /// Creates a hash that is noted after each of these numbers of rows.
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

    /// Returns the hash of all rows so far.
    pub fn current(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// Returns the fingerprint of all rows, whose texts have `bytes` bytes.
    pub fn finish(self, bytes: u64) -> Fingerprint {
        let sha256 = self.current();
        Fingerprint { documents: self.rows, bytes, sha256, prefixes: self.noted }
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

/// The size and hash of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Number of documents, NULL and empty ones included.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Hash of all documents.
    pub sha256: String,
    /// Hashes after some numbers of rows.
    pub prefixes: BTreeMap<u64, String>,
}

/// The identity of a table, and its slot.
type IdentifiedSlot = (Box<dyn Identity>, Arc<FingerprintSlot>);

/// Fingerprints of datasets, made when they are first needed and kept for as long as contents are the same.
#[derive(Debug, Default)]
pub struct Fingerprints {
    /// One slot per table; those of tables that no longer exist are removed when another is added.
    slots: Mutex<Vec<IdentifiedSlot>>,
}

/// The fingerprint of a table.
#[derive(Debug, Default)]
struct FingerprintSlot {
    known: Mutex<Option<KnownFingerprint>>,
    /// Held by the task that reads the table, so that one reads it for all.
    reading: tokio::sync::Mutex<()>,
}

/// A fingerprint and the reading that it was made of.
#[derive(Debug)]
struct KnownFingerprint {
    reading: FingerprintScope,
    fingerprint: Arc<Fingerprint>,
}

/// The readings that a fingerprint holds for.
#[derive(Debug)]
enum FingerprintScope {
    /// All readings that yield the same rows.
    Contents(Box<dyn Contents>),
    /// Readings of one statement: the rows that a later reading of the source yields are unknown.
    Statement(Weak<dyn DocumentSource>, Weak<TaskContext>),
}

impl FingerprintSlot {
    fn keep(&self, known: KnownFingerprint) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    fn find(
        &self,
        contents: Option<&dyn Contents>,
        source: &Arc<dyn DocumentSource>,
        context: Option<&Arc<TaskContext>>,
    ) -> Option<Arc<Fingerprint>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let KnownFingerprint { reading, fingerprint } = known.as_ref()?;
        let same = match (reading, contents, context) {
            (FingerprintScope::Contents(known), Some(contents), _) => known.is_same(contents),
            (FingerprintScope::Statement(of, during), None, Some(context)) => {
                std::ptr::addr_eq(of.as_ptr(), Arc::as_ptr(source))
                    && std::ptr::eq(during.as_ptr(), Arc::as_ptr(context))
            }
            _ => false,
        };
        same.then(|| Arc::clone(fingerprint))
    }
}

impl Fingerprints {
    /// Returns the fingerprint of a dataset, `None` for texts by themselves. Those who ask at the same time wait for
    /// one of them to read the dataset. Call it when a query runs, never when it is planned: it may read the whole
    /// dataset.
    ///
    /// # Errors
    /// Errors of reading the documents.
    pub async fn of(&self, origin: &Origin, context: &Arc<TaskContext>) -> Result<Option<Arc<Fingerprint>>> {
        let Origin::Dataset(source) = origin else { return Ok(None) };
        let slot = self.slot(source);
        let contents = source.contents();
        let find = || slot.find(contents.as_deref(), source, Some(context));
        if let Some(fingerprint) = find() {
            return Ok(Some(fingerprint));
        }
        let _reading = match &contents {
            Some(_) => Some(slot.reading.lock().await),
            None => None,
        };
        if let Some(fingerprint) = find() {
            return Ok(Some(fingerprint));
        }
        let fingerprint = Arc::new(Documents::fingerprint(origin, BTreeSet::new(), context).await?);
        let reading = match contents {
            Some(contents) => FingerprintScope::Contents(contents),
            None => FingerprintScope::Statement(Arc::downgrade(source), Arc::downgrade(context)),
        };
        slot.keep(KnownFingerprint { reading, fingerprint: Arc::clone(&fingerprint) });
        Ok(Some(fingerprint))
    }

    /// Keeps a fingerprint of a dataset that was made elsewhere.
    pub fn keep(&self, origin: &Origin, fingerprint: Arc<Fingerprint>) {
        if let Origin::Dataset(source) = origin
            && let Some(contents) = source.contents()
        {
            self.slot(source).keep(KnownFingerprint { reading: FingerprintScope::Contents(contents), fingerprint });
        }
    }

    /// Returns the fingerprint of a dataset if it is known without reading anything.
    pub fn known(&self, origin: &Origin) -> Option<Arc<Fingerprint>> {
        let Origin::Dataset(source) = origin else { return None };
        self.slot(source).find(Some(source.contents()?.as_ref()), source, None)
    }

    fn slot(&self, source: &Arc<dyn DocumentSource>) -> Arc<FingerprintSlot> {
        let table = source.table();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = slots.iter().find(|(known, _)| known.address() == table.address()) {
            return Arc::clone(slot);
        }
        slots.retain(|(known, _)| known.is_alive());
        let slot = Arc::new(FingerprintSlot::default());
        slots.push((table, Arc::clone(&slot)));
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::testing::{Texts, texts};

    #[tokio::test]
    async fn a_dataset_is_read_once_for_as_long_as_its_contents_are_the_same() {
        let (fingerprints, context, table) = (Fingerprints::default(), Arc::default(), Arc::new(1));
        let source = |contents| Texts::new(&texts(7), None).with_identity(&table, contents);
        let of = |source: &Arc<Texts>| Origin::Dataset(Arc::clone(source) as Arc<dyn DocumentSource>);
        let one = source(Some(1));
        assert_eq!(fingerprints.known(&of(&one)), None);
        let (a, b) = (of(&one), of(&one));
        let (a, b) = tokio::join!(fingerprints.of(&a, &context), fingerprints.of(&b, &context));
        assert_eq!(a.unwrap(), b.unwrap());
        assert_eq!(one.opened.load(Ordering::Relaxed), 1);
        // Another plan of the same rows.
        let same = source(Some(1));
        assert!(fingerprints.known(&of(&same)).is_some());
        // The table has changed.
        let changed = source(Some(2));
        assert_eq!(fingerprints.known(&of(&changed)), None);
        fingerprints.of(&of(&changed), &context).await.unwrap();
        assert_eq!(changed.opened.load(Ordering::Relaxed), 1);
        // The fingerprint of rows without identity holds within one statement only.
        let unknown = source(None);
        for _ in 0..2 {
            fingerprints.of(&of(&unknown), &context).await.unwrap();
        }
        assert_eq!(unknown.opened.load(Ordering::Relaxed), 1);
        assert_eq!(fingerprints.known(&of(&unknown)), None);
        fingerprints.of(&of(&unknown), &Arc::default()).await.unwrap();
        assert_eq!(unknown.opened.load(Ordering::Relaxed), 2);
    }
}
