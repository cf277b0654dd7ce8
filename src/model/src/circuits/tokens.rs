//! The tokens that drive a neuron, through the embedding.

use super::BLOCK;
use super::elements;
use super::strongest::Strongest;
use crate::ops;
use crate::weights::Linear;
use crate::{Activation, Cancel, Model, Result, Site, read_spec};

/// Activation of a neuron on the embedding of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputToken {
    /// Token id.
    pub token: u32,
    /// Activation of the neuron.
    pub activation: f32,
    /// Input of the activation function; in a gated MLP, the product with `W_gate`.
    pub pre_activation: f32,
    /// Product with `W_in` by which the activated gate of a gated MLP is multiplied.
    pub up: Option<f32>,
}

impl Model {
    /// Input tokens: the `k` whose embeddings alone make each neuron fire most, greatest activation first.
    ///
    /// The activation is the one that the forward pass would read at the model's site if the residual stream before the
    /// layer's MLP held the token's row of the embedding, as it enters the network, and nothing else: no position, no
    /// attention, no earlier MLP; in a mixture of experts, 0 where that row is not routed to the neuron's expert.
    /// That is `h = norm(W_E[t])`, the layer's own norm with its ε, gain and bias, then `act(h·w_in + b_in)`, or
    /// `act(h·w_gate + b_gate)·(h·w_in + b_in)` in a gated MLP; SoLU takes the whole layer into account, and so does
    /// the LayerNorm after it for neurons read at `mlp.post`. Nothing is left out, so the numbers are in the units of
    /// activations.
    ///
    /// Tokens of equal activation come in the order of their ids.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for a layer or neuron the model does not have,
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    ///
    /// ```no_run
    /// # use neuroql_model::{Cancel, Model, Options};
    /// # fn main() -> neuroql_model::Result<()> {
    /// let model = Model::load("gpt2", "hf://openai-community/gpt2", &Options::default(), &())?;
    /// let strongest = model.input_tokens(0, &[17], 1, &Cancel::default())?[0][0];
    /// assert!(strongest.activation >= 0.0 || strongest.pre_activation < 0.0);
    /// # Ok(()) }
    /// ```
    pub fn input_tokens(
        &self,
        layer: usize,
        neurons: &[u32],
        k: usize,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<InputToken>>> {
        self.check_neuron_weights()?;
        let layer = self.layer(layer, neurons)?;
        let config = self.config();
        let mut strongest: Vec<Strongest<InputToken>> = neurons.iter().map(|_| Strongest::new(k)).collect();
        if neurons.is_empty() {
            return Ok(Vec::new());
        }
        // Columns of the products: all neurons if they depend on each other, else the given ones.
        let alone = !config.activation.couples_neurons();
        let input: Linear = if alone {
            read_spec::cut(&layer.mlp_in, neurons, config.gated, config.d_mlp)?
        } else {
            layer.mlp_in.clone()
        };
        let width = if alone { neurons.len() } else { config.d_mlp };
        let columns: Vec<usize> =
            if alone { (0..width).collect() } else { neurons.iter().map(|n| *n as usize).collect() };
        let (_, products) = input.shape()?;
        let rows = (BLOCK / products.max(config.d_model)).max(1);
        for first in (0..config.vocabulary).step_by(rows) {
            cancel.check()?;
            let embeddings = self.weights().embed.narrow(0, first, rows.min(config.vocabulary - first))?;
            let h = self.normalised(&self.embedded(embeddings)?, &layer.norm2)?;
            let mut pre = ops::matmul(&h, &input)?;
            if let Some(bias) = &input.bias {
                pre = pre.broadcast_add(bias)?;
            }
            // Activation functions work in place.
            let mut values = match self.site() {
                Site::MlpPre => pre.narrow(1, 0, width)?.contiguous()?,
                _ => ops::activate(pre.copy()?, config, None)?,
            };
            if let Some(router) = &layer.extras.router {
                values = self.where_routed(values, neurons, router, &h)?;
            }
            if config.activation == Activation::SoluLn && self.site() == Site::MlpPost {
                values = ops::norm(values, config.mlp_norm(), &layer.mlp_norm)?;
            }
            let (pre, values) = (elements(&pre)?, elements(&values)?);
            for (token, (pre, values)) in
                (first as u32..).zip(pre.chunks_exact(products).zip(values.chunks_exact(width)))
            {
                for (strongest, column) in strongest.iter_mut().zip(&columns) {
                    let activation = values[*column];
                    strongest.offer(activation, || InputToken {
                        token,
                        activation,
                        pre_activation: pre[*column],
                        up: config.gated.then(|| pre[width + column]),
                    });
                }
            }
        }
        Ok(strongest.into_iter().map(Strongest::into_items).collect())
    }
}
