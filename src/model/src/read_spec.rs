//! Layers and neurons that a forward pass reads.

use std::sync::Arc;

use candle_core::Tensor;

use crate::weights::Linear;
use crate::{Error, Model, Result, Site};

/// Specification of the layers and neurons to read, with the deepest layer's columns gathered once for all batches.
#[derive(Debug, Clone)]
pub struct ReadSpec {
    layers: Vec<LayerReadSpec>,
    /// The deepest layer's MLP input matrix cut to the neurons to read, if they can be computed alone.
    pub(crate) deepest: Option<Linear>,
}

/// Neurons to read at one layer.
#[derive(Debug, Clone)]
pub struct LayerReadSpec {
    /// Index of the layer.
    pub layer: usize,
    /// Neurons in the order of the result's columns; `None` for all.
    pub neurons: Option<Arc<[u32]>>,
    pub(crate) columns: Option<Tensor>,
}

impl ReadSpec {
    /// Makes a specification of layers and their neurons; `None` stands for all neurons of a layer.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer or neuron the model does not have.
    pub fn new(model: &Model, layers: impl IntoIterator<Item = (usize, Option<Vec<u32>>)>) -> Result<Self> {
        let config = model.config();
        let mut specs = Vec::new();
        for (layer, neurons) in layers {
            model.layer(layer, neurons.as_deref().unwrap_or_default())?;
            let columns = match &neurons {
                Some(neurons) => Some(Tensor::from_slice(neurons, neurons.len(), model.device())?),
                None => None,
            };
            specs.push(LayerReadSpec { layer, neurons: neurons.map(Arc::from), columns });
        }
        specs.sort_by_key(|spec| spec.layer);
        if let Some(pair) = specs.windows(2).find(|pair| pair[0].layer == pair[1].layer) {
            return Err(Error::Internal(format!("layer {} is probed twice", pair[0].layer)));
        }
        let alone = match model.site() {
            Site::MlpPre => true,
            Site::MlpMid | Site::MlpPost => !config.activation.couples_neurons(),
            _ => false,
        };
        let deepest = match specs.last() {
            Some(LayerReadSpec { layer, neurons: Some(neurons), .. }) if alone => {
                // The activation function of a gated MLP reads the gate, whose columns come first.
                let gated = config.gated && model.site() != Site::MlpPre;
                Some(cut(&model.weights().layers[*layer].mlp_in, neurons, gated, config.d_mlp)?)
            }
            _ => None,
        };
        Ok(Self { layers: specs, deepest })
    }

    /// Layers to read, ascending: the order of [`Model::run`]'s result.
    pub fn layers(&self) -> &[LayerReadSpec] {
        &self.layers
    }

    /// Deepest layer to read, at which the forward pass stops.
    pub fn deepest_layer(&self) -> Option<usize> {
        self.layers.last().map(|spec| spec.layer)
    }
}

/// Cuts an MLP's input matrix to the columns of some neurons.
pub(crate) fn cut(linear: &Linear, neurons: &[u32], gated: bool, d_mlp: usize) -> Result<Linear> {
    let mut columns = neurons.to_vec();
    if gated {
        columns.extend(neurons.iter().map(|n| n + d_mlp as u32));
    }
    linear.columns(&columns)
}
