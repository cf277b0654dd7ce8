//! Reductions of a batch, computed where it ran, so that nothing else is copied from a GPU.

use std::ops::Range;

use neuroql_analysis::{BatchSummary, Columns, Example, LayerSummary, Moments, histogram_edges};
use neuroql_model::{Cancel, Error, Model, ReadSpec, Result, reduce};
use tokio::sync::RwLock;

use crate::batcher::ExampleBatch;

/// The reductions of some examples of a batch, those that ran together.
pub(super) struct ReducedExamples {
    /// Range of the examples in the batch.
    pub examples: Range<usize>,
    /// Summary of these examples alone, and the values that the layer's summary needs, of each layer.
    pub layers: Vec<(BatchSummary, Columns)>,
}

/// Runs and reduces a batch. `summaries` are those of the layers so far; other batches may be merged into them
/// meanwhile.
pub(super) fn reduce_batch(
    model: &Model,
    packed: &ExampleBatch,
    spec: &ReadSpec,
    cancel: &Cancel,
    summaries: &RwLock<Vec<LayerSummary>>,
) -> Result<Vec<ReducedExamples>> {
    let examples = examples(packed);
    let mut all = Vec::new();
    model.run_parts(&packed.batch, spec, cancel, |part, tensors| {
        let of_part = &examples[part.examples.clone()];
        let mut layers = Vec::with_capacity(tensors.len());
        for (l, values) in tensors.iter().enumerate() {
            let wanted = |batch: &BatchSummary| summaries.blocking_read()[l].wanted(batch, of_part);
            layers.push(match values.device().is_cpu() {
                true => {
                    let width = values.dim(1)?;
                    let values = reduce::in_place(values)?;
                    let batch = BatchSummary::new(of_part, &values, width);
                    let columns = Columns::gather(wanted(&batch), of_part, &values, width);
                    (batch, columns)
                }
                false => {
                    let lengths: Vec<usize> = of_part.iter().map(|example| example.tokens.len()).collect();
                    let batch = from_device(reduce::summarise(values, &lengths, &magnitudes())?, part.rows.len())?;
                    let pairs = wanted(&batch);
                    let fetched = reduce::columns(values, &lengths, &pairs)?;
                    (batch, Columns::new(pairs, of_part, fetched).map_err(internal)?)
                }
            });
        }
        all.push(ReducedExamples { examples: part.examples, layers });
        Ok(())
    })?;
    Ok(all)
}

/// The examples of a batch.
pub(super) fn examples(packed: &ExampleBatch) -> Vec<Example<'_>> {
    let examples = packed.examples.iter();
    examples.map(|e| Example { document: e.document.number, example: e.example, tokens: &e.tokens }).collect()
}

/// The positive edges of the histogram's bins.
fn magnitudes() -> Vec<f32> {
    histogram_edges().into_iter().filter(|edge| *edge > 0.0).collect()
}

fn from_device(summary: reduce::Summary, rows: usize) -> Result<BatchSummary> {
    let reduce::Summary { powers, positive, histogram, peaks, troughs } = summary;
    let moments = powers.into_iter().map(|powers| Moments::of_powers(rows as u64, 0.0, powers)).collect();
    BatchSummary::from_parts(moments, positive, histogram, peaks, troughs).map_err(internal)
}

fn internal(error: neuroql_analysis::Error) -> Error {
    Error::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// Checks that the reductions for GPUs, which run on processors too, give the same numbers.
    #[test]
    fn gpu_reductions_are_those_of_a_processor() {
        let tokens: Vec<u32> = (0..7).collect();
        let example = |document, range: Range<usize>| Example { document, example: 0, tokens: &tokens[range] };
        let examples = [example(0, 0..3), example(1, 3..3), example(2, 3..7)];
        let lengths = [3, 0, 4];
        let values: Vec<f32> = (0..14).map(|i| (i * 37 % 19) as f32 / 4.0 - 2.0).collect();
        let tensor = Tensor::from_slice(&values, (7, 2), &Device::Cpu).unwrap();
        let one = BatchSummary::new(&examples, &values, 2);
        let other = from_device(reduce::summarise(&tensor, &lengths, &magnitudes()).unwrap(), 7).unwrap();
        let (mut a, mut b) = (LayerSummary::new(0, 2, 2), LayerSummary::new(0, 2, 2));
        let pairs = a.wanted(&one, &examples);
        assert_eq!(pairs, b.wanted(&other, &examples));
        let columns = Columns::gather(pairs.clone(), &examples, &values, 2);
        a.merge(&one, &examples, &columns, 0);
        let fetched = reduce::columns(&tensor, &lengths, &pairs).unwrap();
        b.merge(&other, &examples, &Columns::new(pairs, &examples, fetched).unwrap(), 0);
        for (a, b) in a.state().iter().zip(b.state()) {
            assert_eq!(
                (&a.histogram, &a.peaks, &a.selected, &a.strongest),
                (&b.histogram, &b.peaks, &b.selected, &b.strongest)
            );
            assert_eq!((a.max, a.min, a.positive, a.moments.count), (b.max, b.min, b.positive, b.moments.count));
            assert!((a.moments.m4 - b.moments.m4).abs() < 1e-9 && (a.moments.mean - b.moments.mean).abs() < 1e-12);
        }
    }
}
