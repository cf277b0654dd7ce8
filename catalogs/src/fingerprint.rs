//! Which documents a dataset holds, told by a hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use sha2::{Digest, Sha256};

use crate::activations::{Documents, Origin};
use crate::contents::Contents;

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

/// Fingerprints of datasets, made when they are first needed and kept for as long as contents are the same.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    /// One a table; those of tables that are gone are cleared away when another comes.
    slots: Mutex<Vec<(Weak<dyn TableProvider>, Arc<Slot>)>>,
}

/// What is known of a table.
#[derive(Debug, Default)]
struct Slot {
    known: Mutex<Option<Known>>,
    /// Held by who reads the table, so that one does for all.
    reading: tokio::sync::Mutex<()>,
}

/// A fingerprint and what it was made of.
#[derive(Debug)]
struct Known {
    of: Reading,
    fingerprint: Arc<Fingerprint>,
}

/// What a fingerprint holds for.
#[derive(Debug)]
enum Reading {
    /// Whatever plan yields the same rows.
    Contents(Contents),
    /// One statement: what its plan will yield when it is read anew cannot be told.
    Statement(Weak<dyn ExecutionPlan>, Weak<TaskContext>),
}

impl Slot {
    fn keep(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    fn find(
        &self,
        contents: Option<&Contents>,
        plan: &Arc<dyn ExecutionPlan>,
        context: Option<&Arc<TaskContext>>,
    ) -> Option<Arc<Fingerprint>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { of, fingerprint } = known.as_ref()?;
        let same = match (of, contents, context) {
            (Reading::Contents(known), Some(contents), _) => known == contents,
            (Reading::Statement(of, during), None, Some(context)) => {
                std::ptr::addr_eq(of.as_ptr(), Arc::as_ptr(plan)) && std::ptr::eq(during.as_ptr(), Arc::as_ptr(context))
            }
            _ => false,
        };
        same.then(|| Arc::clone(fingerprint))
    }
}

impl Fingerprints {
    /// The fingerprint of a dataset; those who ask for it at the same time wait for one of them to read it. To be asked
    /// for when a query runs, never when it is planned: it may take a reading of the whole dataset.
    pub async fn of(&self, origin: &Origin, context: Arc<TaskContext>) -> Result<Option<Arc<Fingerprint>>> {
        let Origin::Dataset { table, plan, .. } = origin else { return Ok(None) };
        let slot = self.slot(table);
        let contents = Contents::of(plan);
        let find = || slot.find(contents.as_ref(), plan, Some(&context));
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
        let fingerprint = Arc::new(Fingerprint::read(origin, BTreeSet::new(), Arc::clone(&context)).await?);
        let of = match contents {
            Some(contents) => Reading::Contents(contents),
            None => Reading::Statement(Arc::downgrade(plan), Arc::downgrade(&context)),
        };
        slot.keep(Known { of, fingerprint: Arc::clone(&fingerprint) });
        Ok(Some(fingerprint))
    }

    /// Keeps a fingerprint that was made of a dataset for a reason of its own.
    pub fn keep(&self, origin: &Origin, fingerprint: Arc<Fingerprint>) {
        if let Origin::Dataset { table, plan, .. } = origin
            && let Some(contents) = Contents::of(plan)
        {
            self.slot(table).keep(Known { of: Reading::Contents(contents), fingerprint });
        }
    }

    /// The fingerprint of a dataset if it is known without reading anything.
    pub fn known(&self, origin: &Origin) -> Option<Arc<Fingerprint>> {
        let Origin::Dataset { table, plan, .. } = origin else { return None };
        self.slot(table).find(Some(&Contents::of(plan)?), plan, None)
    }

    fn slot(&self, table: &Arc<dyn TableProvider>) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &Weak<dyn TableProvider>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(table));
        if let Some((_, slot)) = slots.iter().find(|(known, _)| is_it(known)) {
            return Arc::clone(slot);
        }
        slots.retain(|(known, _)| known.strong_count() > 0);
        let slot = Arc::new(Slot::default());
        slots.push((Arc::downgrade(table), Arc::clone(&slot)));
        slot
    }
}
