//! Estimated cost of a query before it runs: from the sizes of its inputs, which are not read, and from the speed of
//! the model so far.

use std::fmt::{self, Display};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::union::UnionExec;
use neuroql_model::{Model, Speed};
use neuroql_pipeline::Origin;

use crate::tables::dataset::plan_of;

/// Bytes of a query's own texts up to which they are tokenized for an estimate.
const SMALL_TEXT: usize = 16 << 10;

/// Bytes of a dataset in memory that are tokenized to see how many make a token.
const SAMPLE_BYTES: usize = 64 << 10;

/// Documents that such a sample is taken from, evenly over the dataset.
const SAMPLED_DOCUMENTS: usize = 32;

/// Certainty of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Certainty {
    Exact,
    About,
    /// The number may turn out to be much less.
    AtMost,
}

/// A number of tokens, BOS counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenCount {
    pub count: f64,
    /// Approximate number of examples that hold them.
    pub examples: f64,
    /// Number of documents, if known.
    documents: Option<f64>,
    pub certainty: Certainty,
}

impl TokenCount {
    /// No tokens.
    pub const NONE: Self = Self { count: 0.0, examples: 0.0, documents: Some(0.0), certainty: Certainty::Exact };

    /// Returns approximately `count` tokens, in no documents.
    pub fn about_so_many(count: f64) -> Self {
        Self { count, examples: 0.0, documents: None, certainty: Certainty::About }
    }

    /// Estimates all tokens of an origin; `None` if its size is not known before it is read.
    pub fn of(origin: &Origin, model: &Model, bytes_per_token: f64) -> Option<Self> {
        match origin {
            Origin::Nothing => Some(Self::NONE),
            Origin::Texts(texts) => {
                let bytes: usize = texts.iter().map(|text| text.len()).sum();
                let lengths: Option<Vec<usize>> = match bytes <= SMALL_TEXT {
                    true => texts.iter().map(|text| model.tokenizer().encode(text).ok().map(|ids| ids.len())).collect(),
                    false => None,
                };
                Some(match lengths {
                    Some(lengths) => {
                        let examples: usize = lengths.iter().map(|tokens| tokens.div_ceil(model.window())).sum();
                        let tokens = lengths.iter().sum::<usize>() + examples * usize::from(model.bos().is_some());
                        let (count, examples) = (tokens as f64, examples as f64);
                        Self { count, examples, documents: None, certainty: Certainty::Exact }
                    }
                    None => Self::about(bytes as f64, Some(texts.len() as f64), model, bytes_per_token),
                })
            }
            Origin::Dataset(source) => {
                let size = size(plan_of(source.as_ref())?, model)?;
                let bytes_per_token = size.bytes_per_token.unwrap_or(bytes_per_token);
                let about = Self::about(size.bytes, size.documents, model, bytes_per_token);
                Some(if size.is_bound { about.at_most() } else { about })
            }
        }
    }

    fn about(bytes: f64, documents: Option<f64>, model: &Model, bytes_per_token: f64) -> Self {
        let tokens = bytes / bytes_per_token;
        // The last example of each document is half a window on average, but there are no more than tokens.
        let examples = (tokens / model.window() as f64 + documents.unwrap_or(1.0) / 2.0).min(tokens).ceil();
        let bos = if model.bos().is_some() { examples } else { 0.0 };
        Self { count: tokens + bos, examples, documents, certainty: Certainty::About }
    }

    /// Returns the tokens of the first `documents` documents, of all if `None`.
    pub fn of_first(self, documents: Option<u64>) -> Self {
        match (documents.map(|first| first as f64), self.documents) {
            (Some(first), Some(all)) if first < all => {
                let share = first / all;
                let (count, examples) = (self.count * share, (self.examples * share).ceil());
                Self { count, examples, documents: Some(first), certainty: self.certainty.max(Certainty::About) }
            }
            (Some(_), None) => self.at_most(),
            _ => self,
        }
    }

    /// Marks the number as an upper bound.
    pub fn at_most(self) -> Self {
        Self { certainty: Certainty::AtMost, ..self }
    }

    /// Returns no more than `count` tokens.
    pub fn limited(self, count: f64) -> Self {
        if self.count <= count { self } else { Self { count, certainty: self.certainty.max(Certainty::About), ..self } }
    }
}

/// The size of a column of texts.
#[derive(Debug, Clone, Copy)]
struct TextSize {
    bytes: f64,
    /// Number of rows, if known.
    documents: Option<f64>,
    /// True if it is an upper bound, because rows may be dropped.
    is_bound: bool,
    /// Bytes of text per token, if texts could be sampled.
    bytes_per_token: Option<f64>,
}

/// Returns the size of the first column of a plan, which is one of texts; `None` if it is known only by running the
/// plan.
fn size(plan: &Arc<dyn ExecutionPlan>, model: &Model) -> Option<TextSize> {
    size_of_column(plan, plan.schema().field(0).name(), model)
}

fn size_of_column(plan: &Arc<dyn ExecutionPlan>, name: &str, model: &Model) -> Option<TextSize> {
    match (plan.children()[..].as_ref(), plan.cardinality_effect()) {
        ([], _) => size_of_leaf(plan, name, model),
        ([child], CardinalityEffect::Equal) => size_of_column(child, name, model),
        ([child], CardinalityEffect::LowerEqual) => {
            Some(TextSize { is_bound: true, ..size_of_column(child, name, model)? })
        }
        (children, _) if plan.is::<UnionExec>() => {
            let sizes = children.iter().map(|child| size_of_column(child, name, model));
            let sizes = sizes.collect::<Option<Vec<_>>>()?;
            let tokens = |size: &TextSize| Some(size.bytes / size.bytes_per_token?);
            let bytes = sizes.iter().map(|size| size.bytes).sum();
            Some(TextSize {
                bytes,
                documents: sizes.iter().map(|size| size.documents).sum(),
                is_bound: sizes.iter().any(|size| size.is_bound),
                bytes_per_token: sizes.iter().map(tokens).sum::<Option<f64>>().map(|tokens| bytes / tokens),
            })
        }
        _ => None,
    }
}

fn size_of_leaf(plan: &Arc<dyn ExecutionPlan>, name: &str, model: &Model) -> Option<TextSize> {
    let index = plan.schema().index_of(name).ok()?;
    let source = plan.downcast_ref::<DataSourceExec>().map(|exec| exec.data_source().as_ref());
    if let Some(memory) = source.and_then(|source| source.downcast_ref::<MemorySourceConfig>()) {
        let batches = || memory.partitions().iter().flatten();
        let bytes: usize = batches().filter_map(|batch| batch.column_by_name(name)).map(text_bytes).sum();
        let documents = batches().map(|batch| batch.num_rows()).sum::<usize>();
        return Some(TextSize {
            bytes: bytes as f64,
            documents: Some(documents as f64),
            is_bound: false,
            bytes_per_token: sampled_bytes_per_token(memory, name, model),
        });
    }
    let known = |precision: &Precision<usize>| precision.get_value().map(|value| *value as f64);
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok();
    let documents = statistics.as_ref().and_then(|statistics| known(&statistics.num_rows));
    let of_column = statistics.as_ref().and_then(|s| known(&s.column_statistics.get(index)?.byte_size));
    let of_files = || {
        let files = source?.downcast_ref::<FileScanConfig>()?;
        let files = files.file_groups.iter().flat_map(|group| group.files());
        Some(files.map(|file| file.object_meta.size as f64).sum())
    };
    let of_rows = || statistics.as_ref().and_then(|statistics| known(&statistics.total_byte_size));
    let bytes = of_column.or_else(of_files).or_else(of_rows)?;
    Some(TextSize { bytes, documents, is_bound: false, bytes_per_token: None })
}

/// Bytes of text a token in a sample of the texts; `None` if there are none, or they are not plain text.
fn sampled_bytes_per_token(memory: &MemorySourceConfig, name: &str, model: &Model) -> Option<f64> {
    let batches = || memory.partitions().iter().flatten();
    let rows: usize = batches().map(|batch| batch.num_rows()).sum();
    let step = rows.div_ceil(SAMPLED_DOCUMENTS).max(1);
    let (mut bytes, mut tokens, mut first) = (0, 0, 0_usize);
    for batch in batches() {
        let column = batch.column_by_name(name)?;
        // The next multiple of the step at or after the first row of this batch.
        for row in (first.div_ceil(step) * step - first..batch.num_rows()).step_by(step) {
            let Some(text) = text_at(column, row) else { continue };
            let text = &text[..text.floor_char_boundary(SAMPLE_BYTES / SAMPLED_DOCUMENTS)];
            tokens += model.tokenizer().encode(text).ok()?.len();
            bytes += text.len();
        }
        first += batch.num_rows();
    }
    (tokens > 0).then(|| bytes as f64 / tokens as f64)
}

fn text_at(column: &ArrayRef, row: usize) -> Option<&str> {
    match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        _ => None,
    }
}

/// Bytes of a column's texts, from their offsets or views alone.
fn text_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8 => {
            let offsets = column.as_string::<i32>().offsets();
            (offsets[offsets.len() - 1] - offsets[0]) as usize
        }
        DataType::LargeUtf8 => {
            let offsets = column.as_string::<i64>().offsets();
            (offsets[offsets.len() - 1] - offsets[0]) as usize
        }
        // The lower half of a view is the length of its text.
        DataType::Utf8View => column.as_string_view().views().iter().map(|view| *view as u32 as usize).sum(),
        _ => 0,
    }
}

/// Estimated cost of running some tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// Number of tokens; `None` if unknown.
    pub tokens: Option<TokenCount>,
    pub forward_passes: f64,
    pub seconds: f64,
    /// Bytes of memory that are held at once.
    pub bytes: f64,
    pub is_measured: bool,
}

/// Conditions under which tokens are run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunConditions {
    pub speed: Speed,
    /// Layers that a token goes through on average.
    pub layers: f64,
    /// Tokens of a batch.
    pub batch: usize,
    /// Batches that run at once, each on a thread; one alone has all threads.
    pub lanes: usize,
    pub threads: usize,
}

impl RunConditions {
    /// Estimates the cost of running tokens while `held` batches are held at once: `bytes` is memory that does not
    /// depend on tokens, `per_token` memory for each token of the batches held.
    pub fn estimate(&self, tokens: Option<TokenCount>, held: usize, bytes: f64, per_token: f64) -> Estimate {
        let count = tokens.map_or(f64::INFINITY, |tokens| tokens.count);
        let batch = self.batch.max(1) as f64;
        let forward_passes = (count / batch).ceil();
        let threads =
            if self.lanes == 1 { self.threads } else { self.lanes.min(self.threads).min(forward_passes as usize) };
        Estimate {
            tokens,
            forward_passes,
            seconds: self.speed.seconds(count, self.layers, threads),
            bytes: bytes + per_token * count.min(batch * held as f64),
            is_measured: self.speed.is_measured,
        }
    }
}

impl Estimate {
    /// Marks the number of tokens as an upper bound.
    pub fn at_most(self) -> Self {
        Self { tokens: self.tokens.map(TokenCount::at_most), ..self }
    }
}

impl Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, forward_passes, seconds, bytes, is_measured } = self;
        let Some(tokens) = tokens else {
            return write!(
                f,
                "estimate: unknown, as the size of the dataset is before it is read; memory≈{}",
                Bytes(*bytes)
            );
        };
        let (exact, other) = match tokens.certainty {
            Certainty::Exact => ("=", "≈"),
            Certainty::About => ("≈", "≈"),
            Certainty::AtMost => ("≤", "≤"),
        };
        let count = tokens.count.round();
        write!(f, "estimate: tokens{exact}{count} forward_passes{exact}{forward_passes} ")?;
        write!(f, "seconds{other}{} memory{other}{}", Digits(*seconds), Bytes(*bytes))?;
        if *is_measured { Ok(()) } else { f.write_str(" (speed assumed)") }
    }
}

/// A number that is shown with two significant digits.
struct Digits(f64);

impl Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals =
            if self.0 >= 10.0 || self.0 <= 0.0 { 0 } else { (1.0 - self.0.log10().floor()).min(6.0) as usize };
        write!(f, "{:.decimals$}", self.0)
    }
}

struct Bytes(f64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            bytes if bytes >= 1e9 => (1e9, "GB"),
            bytes if bytes >= 1e6 => (1e6, "MB"),
            _ => (1e3, "kB"),
        };
        write!(f, "{} {name}", Digits(self.0 / unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let said = [0.0, 0.0000034, 0.0123, 0.56, 3.44, 12.7, 98_765.4].map(|x| Digits(x).to_string());
        assert_eq!(said, ["0", "0.000003", "0.012", "0.56", "3.4", "13", "98765"]);
        let said = [0.0, 1234.0, 5_600_000.0, 2.3e10].map(|x| Bytes(x).to_string());
        assert_eq!(said, ["0 kB", "1.2 kB", "5.6 MB", "23 GB"]);
    }

    #[test]
    fn fewer_documents_have_fewer_tokens() {
        let all = TokenCount { count: 1000.0, examples: 20.0, documents: Some(10.0), certainty: Certainty::About };
        assert_eq!(all.of_first(None), all);
        assert_eq!(all.of_first(Some(10)), all);
        assert_eq!(all.of_first(Some(3)), TokenCount { count: 300.0, examples: 6.0, documents: Some(3.0), ..all });
        let unknown = TokenCount { documents: None, ..all };
        assert_eq!(unknown.of_first(Some(3)), unknown.at_most());
        assert_eq!(all.limited(500.0).count, 500.0);
        assert_eq!(all.limited(5000.0), all);
    }
}
