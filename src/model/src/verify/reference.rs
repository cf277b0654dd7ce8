//! Reference activations in a safetensors file.
//!
//! Its metadata has `texts`, a JSON list. For text `N` there are `N.ids`, its token ids with the BOS that the model
//! prepends, and `N.mlp_post.L` (or `N.mlp_mid.L`, by the site), the activations at layer `L`, a row a token. `neurons`
//! names the neurons of the columns if they are not all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Alone, greater};
use crate::location::Remotes;
use crate::{Error, Model, Result, Site};

const FORMAT: &str = "reference";

/// Reference activations of a file.
#[derive(Debug)]
pub struct Reference {
    file: PathBuf,
    bytes: Vec<u8>,
    texts: Vec<String>,
}

impl Reference {
    /// Reads a reference, given as a path, `file://…`, `hf://org/name/file` or any object-store URL. Blocks, and must
    /// not be called from an async task.
    ///
    /// # Errors
    /// [`Error::Location`] for a file that cannot be read, [`Error::Corrupt`] for one that is no reference.
    pub fn open(location: &str) -> Result<Self> {
        let file = Remotes::from_env().fetch_file(location, &())?;
        let bytes = std::fs::read(&file)
            .map_err(|error| Error::Location { location: location.into(), reason: error.to_string() })?;
        let mut reference = Self { file, bytes, texts: Vec::new() };
        let (_, header) = SafeTensors::read_metadata(&reference.bytes)
            .map_err(|error| reference.wrong(format!("safetensors: {error}")))?;
        let texts = header.metadata().as_ref().and_then(|about| about.get("texts"));
        let texts = texts.ok_or_else(|| reference.wrong("its metadata has no \"texts\", a JSON list".into()))?;
        reference.texts = serde_json::from_str(texts)
            .map_err(|error| reference.wrong(format!("\"texts\" of its metadata is no JSON list of texts: {error}")))?;
        if reference.texts.is_empty() {
            return Err(reference.wrong("\"texts\" of its metadata is an empty list".into()));
        }
        Ok(reference)
    }

    /// Texts of the reference.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    fn wrong(&self, reason: String) -> Error {
        Error::Corrupt { file: self.file.clone(), format: FORMAT, reason }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| self.wrong(format!("safetensors: {error}")))
    }

    /// Checks that its tokens are those that the model makes of its texts.
    pub(super) fn check(&self, model: &Model, texts: &[Vec<u32>]) -> Result<()> {
        let tensors = self.tensors()?;
        for (number, tokens) in texts.iter().enumerate() {
            let name = format!("{number}.ids");
            let ids = self.integers(&self.tensor(&tensors, &name)?, &name)?;
            let own: Vec<i64> = model.bos().iter().chain(tokens).map(|id| i64::from(*id)).collect();
            if ids != own {
                let place = ids.iter().zip(&own).take_while(|(a, b)| a == b).count();
                let said = |ids: &[i64]| ids.get(place).map_or_else(|| "none".to_owned(), i64::to_string);
                return Err(self.wrong(format!(
                    "\"{name}\" has {} tokens and \"{}\" makes {} of text {number}; at index {place}, BOS counted, they are {} and {}: \
                     tokenizer and option 'bos' must be those of the reference",
                    ids.len(),
                    model.name(),
                    own.len(),
                    said(&ids),
                    said(&own),
                )));
            }
            if tokens.len() > model.window() {
                let (length, window) = (tokens.len(), model.window());
                return Err(self.wrong(format!("text {number} has {length} tokens, more than the window of {window}")));
            }
        }
        Ok(())
    }

    /// Largest |difference| of each layer; `None` for layers that it lacks.
    pub(super) fn differences(&self, model: &Model, alone: &Alone) -> Result<Vec<Option<f32>>> {
        let (config, tensors, width) = (model.config(), self.tensors()?, model.neurons_per_layer());
        let neurons = self.neurons(model, &tensors)?;
        let mut differences = vec![None; config.layers];
        // Texts without tokens are no examples.
        let bos = usize::from(model.bos().is_some());
        for layer in self.layers(model, &tensors)? {
            let (mut largest, mut example) = (0.0, 0);
            for number in 0..self.texts.len() {
                let name = self.name(number, model.site(), layer);
                let values = self.floats(&self.tensor(&tensors, &name)?, &name)?;
                let ids = format!("{number}.ids");
                let rows = self.integers(&self.tensor(&tensors, &ids)?, &ids)?.len();
                let (columns, found) = (neurons.as_ref().map_or(model.neurons_per_layer(), Vec::len), values.dims());
                if found != [rows, columns] {
                    let expected =
                        format!("a row for each of {rows} tokens and a column for each of {columns} neurons");
                    return Err(self.wrong(format!("\"{name}\" has the shape {found:?}, expected {expected}")));
                }
                if rows == bos {
                    continue;
                }
                let values = values.narrow(0, bos, rows - bos)?.to_vec2::<f32>()?;
                let start = alone.starts[example];
                example += 1;
                for (row, values) in values.iter().enumerate() {
                    let own = &alone.layers[layer][(start + row) * width..][..width];
                    let own = |column: usize| own[neurons.as_ref().map_or(column, |neurons| neurons[column])];
                    for (column, value) in values.iter().enumerate() {
                        largest = greater(largest, (own(column) - value).abs());
                    }
                }
            }
            differences[layer] = Some(largest);
        }
        Ok(differences)
    }

    fn name(&self, text: usize, site: Site, layer: usize) -> String {
        format!("{text}.{}.{layer}", underscored(site))
    }

    /// Layers that it has activations of.
    fn layers(&self, model: &Model, tensors: &SafeTensors) -> Result<BTreeSet<usize>> {
        let wanted = underscored(model.site());
        let (mut layers, mut others) = (BTreeSet::new(), BTreeMap::new());
        for name in tensors.names() {
            let mut parts = name.split('.');
            let (Some(text), Some(site), Some(layer), None) = (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let (Ok(text), Ok(layer)) = (text.parse::<usize>(), layer.parse::<usize>()) else { continue };
            if site != wanted {
                others.insert(site, name);
            } else if layer >= model.config().layers || text >= self.texts.len() {
                return Err(self.wrong(format!(
                    "\"{name}\" is of text {text} and layer {layer}; there are texts 0 to {} and layers 0 to {}",
                    self.texts.len() - 1,
                    model.config().layers - 1
                )));
            } else {
                layers.insert(layer);
            }
        }
        if layers.is_empty() {
            let others: Vec<_> = others.into_values().map(|name| format!("\"{name}\"")).collect();
            let others = if others.is_empty() { "no activations".to_owned() } else { others.join(", ") };
            let example = self.name(0, model.site(), 0);
            return Err(
                self.wrong(format!("it has no tensors such as \"{example}\" of site {}, but {others}", model.site()))
            );
        }
        Ok(layers)
    }

    /// Neurons of its columns; `None` if they are all.
    fn neurons(&self, model: &Model, tensors: &SafeTensors) -> Result<Option<Vec<usize>>> {
        let Ok(neurons) = tensors.tensor("neurons") else { return Ok(None) };
        let limit = model.neurons_per_layer();
        let neuron = |n: i64| match usize::try_from(n) {
            Ok(n) if n < limit => Ok(n),
            _ => Err(self.wrong(format!("\"neurons\" names neuron {n}; the model has neurons 0 to {}", limit - 1))),
        };
        self.integers(&neurons, "neurons")?.into_iter().map(neuron).collect::<Result<_>>().map(Some)
    }

    fn tensor<'a>(&self, tensors: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>> {
        tensors.tensor(name).map_err(|_| self.wrong(format!("it has no tensor \"{name}\"")))
    }

    fn integers(&self, tensor: &TensorView, name: &str) -> Result<Vec<i64>> {
        let bytes = tensor.data();
        // Chunks have the length of the pattern.
        Ok(match tensor.dtype() {
            Dtype::I32 => bytes.as_chunks().0.iter().map(|four| i64::from(i32::from_le_bytes(*four))).collect(),
            Dtype::U32 => bytes.as_chunks().0.iter().map(|four| i64::from(u32::from_le_bytes(*four))).collect(),
            Dtype::I64 => bytes.as_chunks().0.iter().map(|eight| i64::from_le_bytes(*eight)).collect(),
            other => return Err(self.of_type(name, other, "I32, I64, U32")),
        })
    }

    fn floats(&self, tensor: &TensorView, name: &str) -> Result<Tensor> {
        let dtype = match tensor.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(self.of_type(name, other, "F64, F32, F16, BF16")),
        };
        Ok(Tensor::from_raw_buffer(tensor.data(), dtype, tensor.shape(), &Device::Cpu)?.to_dtype(DType::F32)?)
    }

    fn of_type(&self, name: &str, dtype: Dtype, supported: &str) -> Error {
        self.wrong(format!("\"{name}\" is of type {dtype:?}; supported are {supported}"))
    }
}

/// Name of a site in the names of tensors.
fn underscored(site: Site) -> String {
    site.to_string().replace('.', "_")
}
