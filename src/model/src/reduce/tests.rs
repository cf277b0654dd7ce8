//! Reductions against those of `neuroql-analysis` for the same values.

use candle_core::{Device, Tensor};
use neuroql_analysis::{
    BatchSummary, Columns, Example, HISTOGRAM_BINS, LayerSummary, Moments, ValueRange, histogram_edges, kept_tokens,
};
use proptest::prelude::*;

use super::*;

/// Strategy for examples: the width, lengths of examples, and values.
fn corpus() -> impl Strategy<Value = (usize, Vec<usize>, Vec<f32>)> {
    let value = prop_oneof![
        12 => (-300_i16..300).prop_map(|v| f32::from(v) / 16.0),
        2 => -200.0_f32..200.0,
        1 => prop_oneof![Just(-0.0), Just(0.0), Just(1.5), Just(-1.5), Just(128.0), Just(f32::MIN_POSITIVE)],
        1 => any::<f32>(),
    ];
    (1_usize..20, proptest::collection::vec(0_usize..9, 0..8)).prop_flat_map(move |(width, lengths)| {
        let count = width * lengths.iter().sum::<usize>();
        (Just(width), Just(lengths), proptest::collection::vec(value.clone(), count))
    })
}

fn magnitudes() -> Vec<f32> {
    histogram_edges().into_iter().filter(|edge| *edge > 0.0).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    // All NaN are equal.
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

proptest! {
    #[test]
    fn as_analysis((width, lengths, values) in corpus(), k in 1_usize..5) {
        let tensor = Tensor::from_slice(&values, (values.len() / width, width), &Device::Cpu).unwrap();
        let got = summarise(&tensor, &lengths, &magnitudes()).unwrap();
        let tokens = [0; 16];
        let examples: Vec<Example> =
            lengths.iter().enumerate().map(|(i, n)| Example { document: i as i64, example: 0, tokens: &tokens[..*n] }).collect();
        let batch = BatchSummary::new(&examples, &values, width);
        let mut layer = LayerSummary::new(0, width, k);
        let wanted = Columns::gather(layer.wanted(&batch, &examples), &examples, &values, width);
        layer.merge(&batch, &examples, &wanted, 0);
        prop_assert_eq!(bits(&got.peaks), bits(batch.peaks()));
        prop_assert_eq!(bits(&got.troughs), bits(batch.troughs()));
        let strongest = strongest(&tensor, &lengths, &got.peaks, kept_tokens(k)).unwrap();
        for (n, state) in layer.state().iter().enumerate() {
            prop_assert_eq!(u64::from(got.positive[n]), state.positive);
            let bins: Vec<u64> = got.histogram[n * HISTOGRAM_BINS..(n + 1) * HISTOGRAM_BINS].iter().map(|c| u64::from(*c)).collect();
            prop_assert_eq!(&bins, &state.histogram);
            let rows = lengths.iter().sum::<usize>() as u64;
            let (moments, wanted) = (Moments::of_powers(rows, 0.0, got.powers[n]), &state.moments);
            let most = values.iter().skip(n).step_by(width).fold(0.0, |most, x| f64::from(x.abs()).max(most));
            let finite = values.iter().skip(n).step_by(width).all(|x| x.is_finite());
            let close = |a: f64, b: f64, power: i32| {
                (a - b).abs() <= 1e-12 * moments.count as f64 * most.powi(power) || !finite || !most.powi(4).is_finite()
            };
            prop_assert!(close(moments.mean, wanted.mean, 1));
            prop_assert!(close(moments.m2, wanted.m2, 2));
            prop_assert!(close(moments.m3, wanted.m3, 3));
            prop_assert!(close(moments.m4, wanted.m4, 4));
            // Rows instead of the examples and positions of analysis.
            let ends: Vec<usize> = lengths.iter().scan(0, |end, n| { *end += n; Some(*end) }).collect();
            let rows: Vec<(u32, u32)> = state.strongest.iter().map(|token| {
                let first = ends[token.example as usize] - lengths[token.example as usize];
                (first as u32 + token.position, token.activation.to_bits())
            }).collect();
            let found: Vec<(u32, u32)> = strongest[n].iter().map(|(row, value)| (*row, value.to_bits())).collect();
            prop_assert_eq!(found, rows);
        }
        for (n, count) in counts(&tensor, -1.5, 2.0).unwrap().into_iter().enumerate() {
            let condition = ValueRange { least: -1.5, greatest: 2.0, nan: false };
            prop_assert_eq!(count, neuroql_analysis::counts(&values, width, condition)[n]);
        }
    }

    #[test]
    fn columns_are_those_of_loops((width, lengths, values) in corpus(), seed in any::<u32>()) {
        let tensor = Tensor::from_slice(&values, (values.len() / width, width), &Device::Cpu).unwrap();
        let pairs: Vec<(u32, u32)> =
            (0..lengths.len() as u32).map(|e| (e, (seed ^ e.wrapping_mul(77)) % width as u32)).collect();
        let got = columns(&tensor, &lengths, &pairs).unwrap();
        let mut wanted: Vec<f32> = Vec::new();
        for (example, neuron) in pairs {
            let first: usize = lengths[..example as usize].iter().sum();
            wanted.extend((first..first + lengths[example as usize]).map(|row| values[row * width + neuron as usize]));
        }
        prop_assert_eq!(bits(&got), bits(&wanted));
    }
}

#[test]
fn shapes_that_do_not_agree() {
    let values = Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap();
    assert!(summarise(&values, &[2], &[1.0]).is_err());
    assert!(summarise(&values, &[3], &[1.0; 32]).is_err());
    assert!(summarise(&values.to_dtype(DType::F16).unwrap(), &[3], &[1.0]).is_err());
    assert!(columns(&values, &[3], &[(1, 0)]).is_err());
    assert!(columns(&values, &[3], &[(0, 2)]).is_err());
    assert_eq!(columns(&values, &[3], &[]).unwrap(), Vec::<f32>::new());
}
