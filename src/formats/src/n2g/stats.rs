//! Scores of graphs, `stats.json`: by layer and neuron, those of the original or of the fork.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::source::parse_index;
use crate::{MOST_LAYERS, MOST_NEURONS, Place, Scores, Version, files, json};

/// Greatest size of the file, in bytes.
const MOST_BYTES: u64 = 512 << 20;

/// Scores by neuron: `None` where the graph could not be judged, an error where they cannot be read.
pub(super) type Stats = BTreeMap<Place, Result<Option<Scores>, String>>;

/// A file, which is read again only if it has changed.
#[derive(Debug)]
pub(super) struct StatsFile {
    path: PathBuf,
    read: Mutex<Option<(Version, Arc<Stats>)>>,
}

impl StatsFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn read(&self) -> Result<Arc<Stats>, String> {
        let version = files::version(&self.path).map_err(|error| error.to_string())?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, stats)) = &*read
            && *of == version
        {
            return Ok(Arc::clone(stats));
        }
        let bytes = files::read(&self.path, MOST_BYTES).map_err(|error| error.to_string())?;
        let stats = Arc::new(parse(&bytes.unwrap_or_default())?);
        *read = Some((version, Arc::clone(&stats)));
        Ok(stats)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Scores(Box<Written>),
    Other(serde::de::IgnoredAny),
}

/// Statistics that either program writes; keys of the original come first.
#[derive(Deserialize)]
struct Written {
    accuracy: Option<f32>,
    #[serde(rename = "0")]
    zero: Option<Class>,
    #[serde(rename = "1")]
    one: Option<Class>,
    correlation: Option<f32>,
    firing: Option<Class>,
    non_firing: Option<Class>,
}

#[derive(Deserialize, Clone, Copy)]
struct Class {
    precision: Option<f32>,
    recall: Option<f32>,
    #[serde(alias = "f1-score")]
    f1_score: Option<f32>,
    #[serde(alias = "support")]
    count: Option<f64>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Stats, String> {
    let file: HashMap<String, HashMap<String, Entry>> = json::parse(bytes)?;
    let mut stats = Stats::new();
    for (layer, neurons) in file {
        let layer = parse_index(&layer, MOST_LAYERS).ok_or_else(|| not_a("layer", &layer))?;
        for (neuron, entry) in neurons {
            let neuron = parse_index(&neuron, MOST_NEURONS).ok_or_else(|| not_a("neuron", &neuron))?;
            stats.insert(Place { layer, neuron }, scores(entry));
        }
    }
    Ok(stats)
}

fn not_a(what: &str, key: &str) -> String {
    format!("its key \"{}\" is not a {what}", key.escape_debug())
}

fn scores(entry: Entry) -> Result<Option<Scores>, String> {
    let Entry::Scores(written) = entry else { return Err("its scores are not those of a graph".into()) };
    let Written { accuracy, zero, one, correlation, firing, non_firing } = *written;
    if accuracy.is_none() && zero.or(one).or(firing).or(non_firing).is_none() {
        return Ok(None);
    }
    let fires = one.or(firing);
    Ok(Some(Scores {
        precision: fires.and_then(|class| class.precision),
        recall: fires.and_then(|class| class.recall),
        f1: fires.and_then(|class| class.f1_score),
        accuracy,
        r2: correlation,
        positives: fires.and_then(|class| class.count).filter(|count| count.abs() < 2e9).map(|count| count as i32),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_failures_and_faults() {
        let text = br#"{"0": {"1": {"0": {"precision": 1.0}, "1": {"precision": 0.5, "recall": 0.25, "f1-score": 0.3,
            "support": 8}, "accuracy": 0.9, "correlation": 0.6}, "2": {}, "3": [1]},
            "2": {"0": {"accuracy": 1.0, "non_firing": {"count": 3},
            "firing": {"precision": NaN, "recall": NaN, "f1_score": NaN, "count": 0}}}}"#;
        let stats = parse(text).unwrap();
        let at = |layer, neuron| stats[&Place { layer, neuron }].clone();
        let first = at(0, 1).unwrap().unwrap();
        assert_eq!((first.precision, first.recall, first.f1), (Some(0.5), Some(0.25), Some(0.3)));
        assert_eq!((first.accuracy, first.r2, first.positives), (Some(0.9), Some(0.6), Some(8)));
        assert_eq!(at(0, 2), Ok(None));
        assert!(at(0, 3).is_err());
        let fork = at(2, 0).unwrap().unwrap();
        assert_eq!((fork.precision, fork.accuracy, fork.positives), (None, Some(1.0), Some(0)));
        assert!(parse(br#"{"x": {}}"#).is_err());
    }
}
