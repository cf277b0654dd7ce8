//! Connections of neurons through the residual stream.

use std::fmt;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::strongest::Strongest;
use super::{BLOCK, centred, elements, gained, lengths};
use crate::weights::Layer;
use crate::{Cancel, Model, NormKind, Result, ops};

/// The matrix through which a neuron reads the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// `W_in` of a plain MLP.
    In,
    /// `W_gate` of a gated MLP.
    Gate,
    /// `W_in` of a gated MLP, by which the activated gate is multiplied (`up_proj`).
    Up,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Via::In => "in",
            Via::Gate => "gate",
            Via::Up => "up",
        })
    }
}

/// Connection of a neuron to another one, of another layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connection {
    /// Layer of the other neuron.
    pub layer: usize,
    /// Index of the other neuron in its layer.
    pub neuron: u32,
    /// Matrix through which the reader, the neuron of the later layer, reads; of a gated MLP's two the one with the
    /// greater |weight|, the gate if they are equal.
    pub via: Via,
    /// `read·write`: change of the reader's input by a unit of the writer's activation, up to the factor 1/σ of the
    /// norm between them.
    pub weight: f32,
    /// Cosine: the weight over the lengths of both vectors; `None` if one of them is zero.
    pub cosine: Option<f32>,
}

/// The strongest connections of one neuron.
#[derive(Debug, Clone, PartialEq)]
pub struct Connections {
    /// Neurons of earlier layers that feed it, greatest |weight| first.
    pub from: Vec<Connection>,
    /// Neurons of later layers that it feeds, greatest |weight| first.
    pub to: Vec<Connection>,
}

impl Model {
    /// Strongest connections of a neuron: `k` from neurons of earlier layers and `k` to neurons of later ones.
    ///
    /// `weight = (g ⊙ w_in(reader))ᵀ·C·write(writer)`, `g` being the gain of the norm before the reader's MLP, `C`
    /// subtracting the mean if that norm is a LayerNorm, and `write` being `w_out`, with the LayerNorm of a solu_ln MLP
    /// folded in for neurons read at `mlp.mid`. These are entries of `W_out @ W_in` in TransformerLens after `fold_ln`
    /// and `center_writing_weights`. A layer reads before it writes and the MLP of a parallel block does not see its
    /// own attention either, so in every architecture exactly the strictly later layers are fed.
    ///
    /// Neurons of equal |weight| come in the order of their layers and numbers.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for a layer or neuron the model does not have,
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Unsupported`](crate::Error::Unsupported) for a network that
    /// normalises its residual stream itself.
    ///
    /// ```no_run
    /// # use neuroql_model::{Cancel, Model, Options};
    /// # fn main() -> neuroql_model::Result<()> {
    /// let model = Model::load("gpt2", "hf://openai-community/gpt2", &Options::default(), &())?;
    /// for fed in model.connections(5, 17, 10, &Cancel::default())?.to {
    ///     println!("{}.{} via {}: {:+.3} (cosine {:?})", fed.layer, fed.neuron, fed.via, fed.weight, fed.cosine);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn connections(&self, layer: usize, neuron: u32, k: usize, cancel: &Cancel) -> Result<Connections> {
        let own = self.layer(layer, &[neuron])?;
        self.check_paths()?;
        Ok(Connections {
            from: self.feeding(layer, own, neuron, k, cancel)?,
            to: self.fed(layer, own, neuron, k, cancel)?,
        })
    }

    /// The `k` strongest connections of each neuron of a layer to neurons of another, greatest |weight| first; none
    /// unless that layer is later. Weights and order are those of [`Model::connections`].
    ///
    /// # Errors
    /// Errors of [`Model::connections`].
    pub fn strongest_connections(
        &self,
        from_layer: usize,
        to_layer: usize,
        k: usize,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Connection>>> {
        let (from, to) = (self.layer(from_layer, &[])?, self.layer(to_layer, &[])?);
        self.check_paths()?;
        let d_mlp = self.config().d_mlp;
        if from_layer >= to_layer || k == 0 {
            return Ok(vec![Vec::new(); d_mlp]);
        }
        let neurons: Vec<u32> = (0..d_mlp as u32).collect();
        let read_lengths = self.read_lengths(to)?;
        let width = read_lengths.len();
        let mut strongest = Vec::with_capacity(d_mlp);
        for neurons in neurons.chunks((BLOCK / width).max(1)) {
            cancel.check()?;
            let written = centred(self.written(from, neurons)?, self.config().norm)?;
            let write_lengths = lengths(&written)?;
            let weights = elements(&ops::matmul(&gained(written, &to.norm2)?, &to.mlp_in)?)?;
            let rows = weights.par_chunks_exact(width).zip(&write_lengths);
            strongest.par_extend(rows.map(|(weights, write)| {
                let mut strongest = Strongest::new(k);
                offer(&mut strongest, to_layer, weights, d_mlp, |column| write * read_lengths[column]);
                strongest.into_items()
            }));
        }
        Ok(strongest)
    }

    fn fed(&self, layer: usize, own: &Layer, neuron: u32, k: usize, cancel: &Cancel) -> Result<Vec<Connection>> {
        let written = centred(self.written(own, &[neuron])?, self.config().norm)?;
        let write = lengths(&written)?[0];
        let d_mlp = self.config().d_mlp;
        let mut strongest = Strongest::new(k);
        for (later, weights) in self.weights().layers.iter().enumerate().skip(layer + 1) {
            cancel.check()?;
            let products = elements(&ops::matmul(&gained(written.clone(), &weights.norm2)?, &weights.mlp_in)?)?;
            offer(&mut strongest, later, &products, d_mlp, |_| write);
        }
        // So far the cosine lacks the length of the reader, which is computed for these few only.
        let mut connections = strongest.into_items();
        for connection in &mut connections {
            let column = connection.neuron as usize + if connection.via == Via::Up { d_mlp } else { 0 };
            let read = self.read(&self.weights().layers[connection.layer], &[column as u32])?;
            connection.cosine = cosine(connection.weight, write * lengths(&read)?[0]);
        }
        Ok(connections)
    }

    fn feeding(&self, layer: usize, own: &Layer, neuron: u32, k: usize, cancel: &Cancel) -> Result<Vec<Connection>> {
        let d_mlp = self.config().d_mlp;
        let columns = if self.config().gated { vec![neuron, neuron + d_mlp as u32] } else { vec![neuron] };
        let read = self.read(own, &columns)?;
        let read_lengths = lengths(&read)?;
        let mut strongest = Strongest::new(k);
        for (earlier, weights) in self.weights().layers.iter().enumerate().take(layer) {
            cancel.check()?;
            let products = elements(&self.received(weights, &read)?)?;
            offer(&mut strongest, earlier, &products, d_mlp, |_| 1.0);
        }
        let mut connections = strongest.into_items();
        for connection in &mut connections {
            let written = self.written(&self.weights().layers[connection.layer], &[connection.neuron])?;
            let write = lengths(&centred(written, self.config().norm)?)?[0];
            let read = read_lengths[usize::from(connection.via == Via::Up)];
            connection.cosine = cosine(connection.weight, write * read);
        }
        Ok(connections)
    }

    /// Computes `C·read` of some columns of a layer's input matrix: `[columns, d_model]`.
    fn read(&self, layer: &Layer, columns: &[u32]) -> Result<Tensor> {
        let ids = Tensor::from_slice(columns, columns.len(), self.device())?;
        let rows = layer.mlp_in.matrix()?.index_select(&ids, 1)?.to_dtype(DType::F32)?.t()?.contiguous()?;
        centred(gained(rows, &layer.norm2)?, self.config().norm)
    }

    /// Lengths of `C·read` of all columns of a layer's input matrix.
    fn read_lengths(&self, layer: &Layer) -> Result<Vec<f64>> {
        let weights = elements(&layer.mlp_in.matrix()?)?;
        let gain = layer.norm2.weight.as_ref().map(elements).transpose()?;
        let (d_model, columns) = layer.mlp_in.shape()?;
        let (mut sums, mut squares) = (vec![0.0_f64; columns], vec![0.0_f64; columns]);
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            let gain = gain.as_ref().map_or(1.0, |gain| f64::from(gain[row]));
            for ((sum, square), weight) in sums.iter_mut().zip(&mut squares).zip(weights) {
                let weight = f64::from(*weight) * gain;
                *sum += weight;
                *square += weight * weight;
            }
        }
        let centre = if self.config().norm.kind == NormKind::Layer { 1.0 / d_model as f64 } else { 0.0 };
        Ok(squares.iter().zip(sums).map(|(square, sum)| (square - sum * sum * centre).max(0.0).sqrt()).collect())
    }
}

/// Offers all neurons of a layer; `weights` are `[1 or 2, d_mlp]`, the gate first if there are two, and `length` gives
/// the product of the lengths of a column's vectors.
fn offer(
    strongest: &mut Strongest<Connection>,
    layer: usize,
    weights: &[f32],
    d_mlp: usize,
    length: impl Fn(usize) -> f64,
) {
    let (first, up) = weights.split_at(d_mlp);
    for (neuron, weight) in first.iter().enumerate() {
        let (via, column) = match up.get(neuron) {
            None => (Via::In, neuron),
            Some(up) if up.abs() > weight.abs() => (Via::Up, neuron + d_mlp),
            Some(_) => (Via::Gate, neuron),
        };
        let weight = weights[column];
        strongest.offer(weight.abs(), || Connection {
            layer,
            neuron: neuron as u32,
            via,
            weight,
            cosine: cosine(weight, length(column)),
        });
    }
}

/// Cosine: a product over the lengths of its factors.
fn cosine(weight: f32, length: f64) -> Option<f32> {
    (length > 0.0).then(|| (f64::from(weight) / length).clamp(-1.0, 1.0) as f32)
}
