//! Verification: whether a model's activations depend on other texts of a batch, and their difference from a reference.
//!
//! Attention is causal and nothing is padded, so up to rounding a text has the same activations alone, beside others,
//! in another order and with a prefix shared with another sequence. [`Model::verify`] runs it in all these ways.

use candle_core::Device;

use crate::{Batch, Cancel, Error, Model, ReadSpec, Result};

mod published;
mod reference;

pub use published::{PublishedComparison, PublishedText};
pub use reference::Reference;

/// Default texts, which are also run beside given ones.
const TEXTS: [&str; 8] = [
    "The President of the United States said that",
    "import numpy as np\n\ndef main():\n    return None\n",
    "Call me Ishmael. Some years ago—never mind how long precisely",
    "x",
    "café naïve 日本語 🦀",
    "the the the the the the",
    "The President of the Republic of France",
    "\n\n\t  spaces   and\ttabs\n",
];

/// Largest differences at a layer, each a share of [`LayerDifferences::largest`] (absolute where that is 0).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDifferences {
    /// Index of the layer.
    pub layer: usize,
    /// Difference between a text alone and together with others.
    pub batched: f32,
    /// Difference between a text alone and together with others in the opposite order.
    pub reordered: f32,
    /// Difference between a text alone and behind a whole window, or with a prefix that runs once for several.
    pub moved: f32,
    /// Difference between a text alone and the reference, if this has the layer.
    pub reference: Option<f32>,
    /// Largest absolute activation, each text run alone.
    pub largest: f32,
}

impl Model {
    /// Verifies the model: runs texts, or those of the reference, alone and with others, and compares all activations.
    ///
    /// # Errors
    /// Errors of [`Model::run`]; [`Error::InvalidOption`] without any token, [`Error::Corrupt`] for a reference that is
    /// not of this model's tokens, layers or neurons.
    pub fn verify(
        &self,
        texts: Option<&[String]>,
        reference: Option<&Reference>,
        cancel: &Cancel,
    ) -> Result<Vec<LayerDifferences>> {
        let texts = self.verified(texts, reference)?;
        if let Some(reference) = reference {
            reference.check(self, &texts)?;
        }
        let company = self.company()?;
        let alone = Alone::run(self, &texts, cancel)?;
        let batched = self.beside(&alone, &company);
        let reordered = Sequence { examples: batched.examples.iter().rev().copied().collect(), ..batched };
        let batched = alone.compare(self, &batched, cancel)?;
        let reordered = alone.compare(self, &reordered, cancel)?;
        let filler: Vec<u32> = company.iter().flatten().copied().cycle().take(self.window()).collect();
        let mut moved = alone.compare(self, &self.behind(&alone, &filler), cancel)?;
        let shared = alone.compare(self, &self.sharing(&alone), cancel)?;
        moved.iter_mut().zip(shared).for_each(|(moved, shared)| *moved = greater(*moved, shared));
        let layers = self.config().layers;
        let references = match reference {
            Some(reference) => reference.differences(self, &alone)?,
            None => vec![None; layers],
        };
        let of_layer = |layer: usize| {
            let largest = alone.layers[layer].iter().fold(0.0, |most, value: &f32| greater(most, value.abs()));
            let share = |difference: f32| if largest == 0.0 { difference } else { difference / largest };
            LayerDifferences {
                layer,
                batched: share(batched[layer]),
                reordered: share(reordered[layer]),
                moved: share(moved[layer]),
                reference: references[layer].map(share),
                largest,
            }
        };
        Ok((0..layers).map(of_layer).collect())
    }

    /// Estimated bytes that [`Model::verify`] holds at once: activations of texts alone, and of a batch to compare.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn verify_bytes(&self, texts: Option<&[String]>, reference: Option<&Reference>) -> Result<usize> {
        let tokens: usize = self.verified(texts, reference)?.iter().map(Vec::len).sum();
        let values = self.config().layers * self.neurons_per_layer();
        let batch = self.batch_tokens(values).max(3 * self.window().min(tokens)) + self.window();
        Ok(size_of::<f32>() * values * (tokens + batch))
    }

    /// Tokens of the texts to compare.
    fn verified(&self, texts: Option<&[String]>, reference: Option<&Reference>) -> Result<Vec<Vec<u32>>> {
        match reference.map(Reference::texts).or(texts) {
            Some(texts) => texts.iter().map(|text| self.tokenizer().encode(text)).collect(),
            None => self.company(),
        }
    }

    fn company(&self) -> Result<Vec<Vec<u32>>> {
        TEXTS.iter().map(|text| self.tokenizer().encode(text)).collect()
    }

    /// Sequence of each example with another one before it.
    fn beside<'a>(&self, alone: &'a Alone, company: &'a [Vec<u32>]) -> Sequence<'a> {
        let company =
            company.iter().filter(|tokens| !tokens.is_empty()).flat_map(|tokens| self.examples(tokens)).cycle();
        let pairs = alone.examples.iter().enumerate().zip(company);
        let examples = pairs.flat_map(|((number, example), other)| {
            [Placed { tokens: other, is: None }, Placed { tokens: example, is: Some(number) }]
        });
        Sequence { examples: examples.collect(), shares: false }
    }

    /// Sequence of all examples behind a whole window.
    fn behind<'a>(&self, alone: &'a Alone, filler: &'a [u32]) -> Sequence<'a> {
        let first = Placed { tokens: filler, is: None };
        let examples = alone.examples.iter().enumerate();
        let examples = examples.map(|(number, example)| Placed { tokens: example, is: Some(number) });
        Sequence { examples: std::iter::once(first).chain(examples).collect(), shares: false }
    }

    /// Sequence of each example after its own first half, which the two share.
    fn sharing<'a>(&self, alone: &'a Alone) -> Sequence<'a> {
        let examples = alone.examples.iter().enumerate().flat_map(|(number, example)| {
            let half = Placed { tokens: &example[..example.len().div_ceil(2)], is: None };
            [half, Placed { tokens: example, is: Some(number) }]
        });
        Sequence { examples: examples.collect(), shares: true }
    }
}

/// An example in a batch.
#[derive(Debug, Clone, Copy)]
struct Placed<'a> {
    tokens: &'a [u32],
    /// Index in [`Alone::examples`]; `None` for an example that is not compared.
    is: Option<usize>,
}

/// Sequence of examples to run together, as many at once as a forward pass takes.
#[derive(Debug)]
struct Sequence<'a> {
    examples: Vec<Placed<'a>>,
    /// True if equal prefixes run once.
    shares: bool,
}

/// Examples, and their activations when each is run alone.
struct Alone {
    spec: ReadSpec,
    examples: Vec<Vec<u32>>,
    /// Number of rows before each example.
    starts: Vec<usize>,
    /// Activations of each layer, all rows end to end.
    layers: Vec<Vec<f32>>,
}

impl Alone {
    fn run(model: &Model, texts: &[Vec<u32>], cancel: &Cancel) -> Result<Self> {
        let layers = model.config().layers;
        let spec = ReadSpec::new(model, (0..layers).map(|layer| (layer, None)))?;
        let examples: Vec<Vec<u32>> = texts.iter().flat_map(|text| model.examples(text)).map(<[u32]>::to_vec).collect();
        if examples.is_empty() {
            let reason = "no text has a token, so there is nothing to compare".to_owned();
            return Err(Error::InvalidOption { option: "texts".into(), reason });
        }
        let mut alone = Self { spec, examples, starts: Vec::new(), layers: vec![Vec::new(); layers] };
        let mut rows = 0;
        for example in &alone.examples {
            alone.starts.push(rows);
            rows += example.len();
            let batch = Batch::new([example.as_slice()], model.bos());
            for (all, values) in alone.layers.iter_mut().zip(model.run(&batch, &alone.spec, cancel)?) {
                all.extend(values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(alone)
    }

    /// Largest difference of each layer between a sequence and the examples alone.
    fn compare(&self, model: &Model, sequence: &Sequence, cancel: &Cancel) -> Result<Vec<f32>> {
        let width = model.neurons_per_layer();
        let limit = model.batch_tokens(width * self.layers.len());
        let mut differences = vec![0.0; self.layers.len()];
        let mut rest = sequence.examples.as_slice();
        while !rest.is_empty() {
            let mut batch = if sequence.shares { Batch::sharing(model.bos()) } else { Batch::new([], model.bos()) };
            // At least three, so that none is alone.
            let mut count = 0;
            while let Some(next) =
                rest.get(count).filter(|next| count < 3 || batch.tokens() + next.tokens.len() <= limit)
            {
                batch.push(next.tokens);
                count += 1;
            }
            let values = model.run(&batch, &self.spec, cancel)?;
            for ((difference, alone), values) in differences.iter_mut().zip(&self.layers).zip(values) {
                let values: Vec<f32> = values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
                let mut at = 0;
                for Placed { tokens, is } in &rest[..count] {
                    let cells = tokens.len() * width;
                    if let Some(number) = is {
                        let start = self.starts[*number] * width;
                        let found = largest_difference(&values[at..at + cells], &alone[start..start + cells]);
                        *difference = greater(*difference, found);
                    }
                    at += cells;
                }
            }
            rest = &rest[count..];
        }
        Ok(differences)
    }
}

/// Larger of two numbers; NaN if one is.
fn greater(a: f32, b: f32) -> f32 {
    if a.is_nan() || b <= a { a } else { b }
}

/// Largest |a − b| of two lists of the same length; NaN if one is.
fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |most, (a, b)| greater(most, (a - b).abs()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Options;

    fn gpt2() -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/gpt2");
        Model::load("gpt2", folder.to_str().unwrap(), &Options::default(), &()).unwrap()
    }

    #[test]
    fn every_way_of_running_notices_a_value_that_differs() {
        let (model, cancel) = (gpt2(), Cancel::default());
        let texts: Vec<Vec<u32>> = TEXTS.iter().map(|text| model.tokenizer().encode(text).unwrap()).collect();
        let mut alone = Alone::run(&model, &texts, &cancel).unwrap();
        let ways = |alone: &Alone| -> Vec<Vec<f32>> {
            let beside = model.beside(alone, &texts);
            let reordered = Sequence { examples: beside.examples.iter().rev().copied().collect(), shares: false };
            let filler: Vec<u32> = (0..model.window() as u32).collect();
            let all = [beside, reordered, model.behind(alone, &filler), model.sharing(alone)];
            all.iter().map(|way| alone.compare(&model, way, &cancel).unwrap()).collect()
        };
        assert!(ways(&alone).iter().flatten().all(|difference| *difference < 1e-4), "{:?}", ways(&alone));
        // The last value of all, at layer 1.
        *alone.layers[1].last_mut().unwrap() += 3.0;
        for differences in ways(&alone) {
            assert!((differences[1] - 3.0).abs() < 1e-3, "{differences:?}");
            assert!(differences[0] < 1e-4 && differences[2] < 1e-4, "{differences:?}");
        }
        alone.layers[1][0] = f32::NAN;
        assert!(ways(&alone).iter().all(|differences| differences[1].is_nan() && differences[0] < 1e-4));
    }

    #[test]
    fn texts_are_cut_into_windows_and_must_have_tokens() {
        let (model, cancel) = (gpt2(), Cancel::default());
        let long = ["word ".repeat(100), String::new()];
        let differences = model.verify(Some(&long), None, &cancel).unwrap();
        assert_eq!(differences.len(), 3);
        for LayerDifferences { batched, reordered, moved, reference, largest, .. } in differences {
            assert!(batched < 1e-5 && reordered < 1e-5 && moved < 1e-5 && largest > 0.0);
            assert_eq!(reference, None);
        }
        let nothing = model.verify(Some(&[String::new()]), None, &cancel);
        assert!(matches!(nothing, Err(Error::InvalidOption { .. })), "{nothing:?}");
    }

    #[test]
    fn what_is_no_number_is_not_lost() {
        assert!(largest_difference(&[1.0, f32::NAN, 5.0], &[1.0, 2.0, 3.0]).is_nan());
        assert!(largest_difference(&[f32::INFINITY], &[f32::INFINITY]).is_nan());
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.5, 1.0]), 1.0);
    }
}
