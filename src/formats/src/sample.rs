//! Samples of published examples.

use std::ops::ControlFlow;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, index};

use crate::{Example, Item, LayerSelection, Place, Request, Result, Row, Source, Table};

/// Seed, so that a sample is always the same.
const SEED: u64 = 1;

/// A sample of the examples of a source, at most one of a neuron.
#[derive(Debug)]
pub struct Sample {
    places: std::vec::IntoIter<Place>,
    random: StdRng,
    left: usize,
}

impl Sample {
    /// Begins a sample of `count` examples of neurons in layers before `layers` and with numbers before `width`.
    ///
    /// # Errors
    /// Returns an error if the files of the source cannot be listed.
    pub fn new(source: &dyn Source, layers: usize, width: usize, count: usize) -> Result<Self> {
        let layers: Vec<u32> = source.layers()?.into_iter().filter(|layer| (*layer as usize) < layers).collect();
        let width = (source.width() as usize).min(width);
        let all = layers.len() * width;
        let mut random = StdRng::seed_from_u64(SEED);
        // There may be data of few neurons.
        let shuffled = index::sample(&mut random, all, all);
        let place = |number: usize| Place { layer: layers[number / width], neuron: (number % width) as u32 };
        let places: Vec<Place> = shuffled.into_iter().map(place).collect();
        Ok(Self { places: places.into_iter(), random, left: count })
    }

    /// Reads the next example; `None` if there is none, or if there are as many as were wanted. Blocks.
    ///
    /// # Errors
    /// Returns an error if nothing more can be read.
    pub fn next(&mut self, source: &dyn Source) -> Result<Option<Example>> {
        while self.left > 0
            && let Some(place) = self.places.next()
        {
            let mut examples = Vec::new();
            let mut sink = |item| {
                if let Item::Row(Row::Example(example)) = item {
                    examples.push(example);
                }
                ControlFlow::Continue(())
            };
            let selection = vec![LayerSelection { layer: place.layer, neurons: Some(Arc::from([place.neuron])) }];
            let columns = &["tokens", "activations", "bos"][..];
            source.scan(&Request { table: Table::Examples, selection, columns }, &mut sink)?;
            if let Some(example) = examples.choose(&mut self.random) {
                self.left -= 1;
                return Ok(Some(example.clone()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::neuroscope::Neuroscope;

    #[test]
    fn neurons_differ_and_a_sample_is_always_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/neuroscope");
        let source = Neuroscope::open(&folder).unwrap();
        let sample = |layers, width, count| {
            let mut sample = Sample::new(&source, layers, width, count).unwrap();
            let mut found = Vec::new();
            while let Some(example) = sample.next(&source).unwrap() {
                found.push(example);
            }
            found
        };
        let all = sample(100, 1000, 1000);
        assert!(all.len() > 1);
        let places: BTreeSet<Place> = all.iter().map(|example| example.place).collect();
        assert_eq!(places.len(), all.len());
        assert_eq!(sample(100, 1000, 1000), all);
        assert_eq!(sample(100, 1000, 1), all[..1]);
        assert!(sample(1, 1, 1000).iter().all(|example| example.place == Place { layer: 0, neuron: 0 }));
        assert!(sample(0, 100, 10).is_empty() && sample(10, 0, 10).is_empty() && sample(10, 10, 0).is_empty());
    }
}
