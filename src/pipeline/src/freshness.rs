//! The rule by which a stored analysis still holds.
//!
//! Results are of a model and of a text. A stored analysis has the version of the model that made it, the number of
//! rows of the dataset that it has seen, and the hash of those. Everyone who reads one asks here.

use std::collections::BTreeSet;

use neuroql_model::Model;
use neuroql_store::{Progress, holds_for};

use crate::fingerprint::Fingerprint;

/// The version of a model, which stored analyses are compared with.
#[derive(Debug, Clone)]
pub struct Freshness {
    model_version: String,
}

impl Freshness {
    /// Returns the version of a model as it is.
    pub fn of(model: &Model) -> Self {
        Self { model_version: model.version() }
    }

    /// Returns true if an analysis is of this model: of whatever text, and finished or not.
    pub fn is_of_model(&self, progress: &Progress) -> bool {
        holds_for(&progress.model_version, &self.model_version)
    }

    /// Returns true if an analysis is of this model and has seen a whole dataset, as it was then.
    pub fn is_complete(&self, progress: &Progress) -> bool {
        progress.complete && self.is_of_model(progress)
    }

    /// Returns true if an analysis is of this model and of the whole dataset with this hash.
    pub fn is_current(&self, progress: &Progress, sha256: &str) -> bool {
        self.is_complete(progress) && is_of_text(progress, sha256)
    }

    /// Returns true if an analysis is of this model and of the first rows of a dataset, so that it can go on with the
    /// others. The fingerprint must know the hash after [`rows_seen`].
    pub fn is_prefix(&self, progress: &Progress, fingerprint: &Fingerprint) -> bool {
        let sha256 = fingerprint.prefixes.get(&rows_seen(progress));
        self.is_of_model(progress) && sha256.is_some_and(|sha256| is_of_text(progress, sha256))
    }
}

/// Returns true if the rows that an analysis has seen have this hash.
pub fn is_of_text(progress: &Progress, sha256: &str) -> bool {
    progress.documents_sha256 == sha256
}

/// Number of rows of the dataset that an analysis has seen, and knows the hash of.
pub fn rows_seen(progress: &Progress) -> u64 {
    progress.documents + u64::from(progress.partial > 0)
}

/// Returns the numbers of rows after which hashes are needed to decide which analyses [can go
/// on](Freshness::is_prefix).
pub fn prefixes<'a>(stored: impl IntoIterator<Item = &'a Progress>) -> BTreeSet<u64> {
    stored.into_iter().map(rows_seen).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn progress(model_version: &str, documents: u64, partial: u64, sha256: &str, complete: bool) -> Progress {
        Progress {
            model_version: model_version.into(),
            k: 20,
            documents,
            partial,
            documents_sha256: sha256.into(),
            examples: 3 * documents,
            segments: vec!["one".into()],
            complete,
        }
    }

    #[test]
    fn an_analysis_is_of_a_model_and_of_a_text() {
        let freshness = Freshness { model_version: "m site=mlp.post tokenizer=t".into() };
        let whole = progress("m site=mlp.post tokenizer=t", 10, 0, "all", true);
        assert!(freshness.is_current(&whole, "all"));
        assert!(!freshness.is_current(&whole, "other") && freshness.is_complete(&whole));
        let part = progress("m site=mlp.post", 4, 2, "five", false);
        assert!(freshness.is_of_model(&part) && !freshness.is_complete(&part) && !freshness.is_current(&part, "five"));
        let other = progress("m site=mlp.mid", 10, 0, "all", true);
        assert!(!freshness.is_of_model(&other) && !freshness.is_current(&other, "all"));
    }

    #[test]
    fn an_analysis_goes_on_after_the_rows_that_it_has_seen() {
        let freshness = Freshness { model_version: "m".into() };
        let prefixes = BTreeMap::from([(5, "five".to_owned()), (10, "ten".to_owned())]);
        let fingerprint = Fingerprint { documents: 12, bytes: 99, sha256: "twelve".into(), prefixes };
        // Four documents and a part of the fifth.
        assert!(freshness.is_prefix(&progress("m", 4, 2, "five", false), &fingerprint));
        assert!(freshness.is_prefix(&progress("m", 5, 0, "five", false), &fingerprint));
        // The dataset has grown since.
        let whole = progress("m", 10, 0, "ten", true);
        assert!(freshness.is_prefix(&whole, &fingerprint) && !freshness.is_current(&whole, &fingerprint.sha256));
        assert!(!freshness.is_prefix(&progress("m", 5, 0, "changed", false), &fingerprint));
        assert!(!freshness.is_prefix(&progress("m", 6, 0, "five", false), &fingerprint));
        assert!(!freshness.is_prefix(&progress("n", 5, 0, "five", false), &fingerprint));
    }
}
