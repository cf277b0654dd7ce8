//! Mixtures of experts: a router picks the MLPs that a token runs through, and only these run.

use candle_core::{DType, Device, Tensor};

use super::tap::{Edit, Tap};
use crate::ops::{self, elements};
use crate::weights::{Layer, Linear};
use crate::{Config, Error, Experts, Model, Result, Site};

/// Activations of the experts that tokens were routed to.
pub(crate) struct Routed {
    rows: usize,
    parts: Vec<Part>,
}

/// Activations of one expert.
struct Part {
    expert: usize,
    /// Rows that are routed to it, ascending.
    rows: Vec<u32>,
    /// Weight of its output for each of the rows.
    weights: Vec<f32>,
    /// Activations of its neurons, `[rows, width]`.
    values: Tensor,
}

impl Model {
    fn experts(&self) -> Result<&Experts> {
        self.config().experts.as_ref().ok_or_else(|| Error::Internal("a router without experts".into()))
    }

    /// Runs the experts of each row of `h`, `[rows, d_model]`, up to their neurons.
    pub(super) fn routed(&self, layer: &Layer, router: &Linear, h: &Tensor, tap: &mut Tap) -> Result<Routed> {
        let (config, experts) = (self.config(), self.experts()?);
        let (mut parts, mut inputs) = (Vec::new(), Vec::new());
        for (expert, (rows, weights)) in self.routes(router, h)?.into_iter().enumerate() {
            if rows.is_empty() {
                continue;
            }
            let ids = Tensor::from_slice(&rows, rows.len(), self.device())?;
            let h = h.index_select(&ids, 0)?;
            let first = expert * experts.width;
            let firsts = if config.gated { vec![first, config.d_mlp + first] } else { vec![first] };
            let bias = match &layer.mlp_in.bias {
                Some(bias) => {
                    let parts = firsts.iter().map(|first| bias.narrow(0, *first, experts.width));
                    Some(Tensor::cat(&parts.collect::<Result<Vec<_>, _>>()?, 0)?)
                }
                None => None,
            };
            let mut pre = ops::matmul_columns(&h, &layer.mlp_in, &firsts, experts.width)?;
            let mut bias = bias.as_ref();
            if tap.is_at(Site::MlpPre) {
                if let Some(bias) = bias.take() {
                    pre = pre.broadcast_add(bias)?;
                }
                pre = edited(pre, tap.edit_at(Site::MlpPre), (expert, experts.width))?;
                inputs.push(Part {
                    expert,
                    rows: rows.clone(),
                    weights: Vec::new(),
                    values: pre.narrow(1, 0, experts.width)?.contiguous()?.copy()?,
                });
            }
            let values = ops::activate(pre, config, bias)?;
            let values = edited(values, tap.edit_at(Site::MlpPost), (expert, experts.width))?;
            parts.push(Part { expert, rows, weights, values });
        }
        let routed = Routed { rows: h.dim(0)?, parts };
        if tap.reads(Site::MlpPre) {
            let inputs = Routed { rows: routed.rows, parts: inputs };
            tap.give(inputs.values(config, tap.neurons(), self.device())?)?;
        }
        if tap.reads(Site::MlpPost) {
            tap.give(routed.values(config, tap.neurons(), self.device())?)?;
        }
        Ok(routed)
    }

    /// Replaces values of neurons by 0 where a row is not routed to their expert; `[rows, neurons]`.
    pub(crate) fn where_routed(&self, values: Tensor, neurons: &[u32], router: &Linear, h: &Tensor) -> Result<Tensor> {
        let width = self.experts()?.width;
        let routes = self.routes(router, h)?;
        let mut mask = vec![0.0f32; h.dim(0)? * neurons.len()];
        for (column, neuron) in neurons.iter().enumerate() {
            // Neurons beyond the last expert are those that only a wider dense layer has.
            let Some((rows, _)) = routes.get(*neuron as usize / width) else { continue };
            rows.iter().for_each(|row| mask[*row as usize * neurons.len() + column] = 1.0);
        }
        let mask = Tensor::from_vec(mask, values.dims2()?, &Device::Cpu)?.to_dtype(values.dtype())?;
        // Not by a product, which would make not-a-number of 0·∞.
        let zeros = values.zeros_like()?;
        Ok(mask.to_device(self.device())?.ne(0.0)?.where_cond(&values, &zeros)?)
    }

    /// Rows of each expert, ascending, and the weights of its output for them.
    fn routes(&self, router: &Linear, h: &Tensor) -> Result<Vec<(Vec<u32>, Vec<f32>)>> {
        let experts = self.experts()?;
        let logits = ops::matmul(h, router)?.to_dtype(DType::F32)?;
        let logits = match &router.bias {
            Some(bias) => logits.broadcast_add(&bias.to_dtype(DType::F32)?)?,
            None => logits,
        };
        let mut routes = vec![(Vec::new(), Vec::new()); experts.count];
        let mut order: Vec<usize> = Vec::with_capacity(experts.count);
        for (row, logits) in elements(&logits)?.chunks_exact(experts.count).enumerate() {
            order.clear();
            order.extend(0..experts.count);
            // A stable sort: of equal logits the lower expert comes first.
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            let chosen = &order[..experts.active];
            let top = logits[order[0]];
            let exp = |expert: &usize| (logits[*expert] - top).exp();
            let sum: f32 = if experts.normalised { chosen } else { &order[..] }.iter().map(exp).sum();
            for expert in chosen {
                routes[*expert].0.push(row as u32);
                routes[*expert].1.push(exp(expert) / sum);
            }
        }
        Ok(routes)
    }
}

/// Replaces activations of an expert's neurons, of `width` neurons, on the rows that are routed to it.
fn edited(values: Tensor, edit: Option<&Edit>, (expert, width): (usize, usize)) -> Result<Tensor> {
    let Some(edit) = edit else { return Ok(values) };
    let own: Vec<(usize, f32)> = edit
        .values
        .iter()
        .filter(|(neuron, _)| *neuron as usize / width == expert)
        .map(|(neuron, value)| (*neuron as usize % width, *value))
        .collect();
    if own.is_empty() {
        return Ok(values);
    }
    let (rows, columns) = values.dims2()?;
    let mut all = elements(&values)?;
    for row in all.chunks_exact_mut(columns) {
        own.iter().for_each(|(column, value)| row[*column] = *value);
    }
    Ok(Tensor::from_vec(all, (rows, columns), &Device::Cpu)?.to_dtype(values.dtype())?.to_device(values.device())?)
}

impl Routed {
    /// Multiplies activations by the weights of their experts' outputs, f32 `[rows, neurons]`.
    pub fn weighted(&self, config: &Config, device: &Device) -> Result<Tensor> {
        let weigh = |part: &Part| -> Result<Part> {
            let weights = Tensor::from_slice(&part.weights, (part.weights.len(), 1), part.values.device())?;
            let values = part.values.to_dtype(DType::F32)?.broadcast_mul(&weights)?;
            Ok(Part { expert: part.expert, rows: part.rows.clone(), weights: Vec::new(), values })
        };
        let parts = self.parts.iter().map(weigh).collect::<Result<_>>()?;
        Self { rows: self.rows, parts }.values(config, None, device)
    }

    /// Computes the weighted sums of the experts' outputs, `[rows, d_model]`.
    pub fn written(&self, layer: &Layer, dtype: DType) -> Result<Tensor> {
        let w_out = layer.mlp_out.matrix()?;
        let (_, d_model) = w_out.dims2()?;
        let mut sums = vec![0.0f32; self.rows * d_model];
        for Part { expert, rows, weights, values } in &self.parts {
            let width = values.dim(1)?;
            let weight = w_out.narrow(0, expert * width, width)?;
            let outputs = elements(&ops::matmul(values, &Linear::new(weight, None))?)?;
            let bias = layer.extras.expert_bias.as_ref().map(|bias| elements(&bias.get(*expert)?)).transpose()?;
            for ((row, weight), output) in rows.iter().zip(weights).zip(outputs.chunks_exact(d_model)) {
                let sums = &mut sums[*row as usize * d_model..][..d_model];
                match &bias {
                    Some(bias) => {
                        sums.iter_mut().zip(output).zip(bias).for_each(|((sum, x), b)| *sum += (x + b) * weight);
                    }
                    None => sums.iter_mut().zip(output).for_each(|(sum, x)| *sum += x * weight),
                }
            }
        }
        let sums = Tensor::from_vec(sums, (self.rows, d_model), &Device::Cpu)?.to_dtype(dtype)?;
        Ok(sums.to_device(w_out.device())?)
    }

    /// Activations of some neurons, or of all, f32: `[rows, neurons]`; 0 where a row is not routed to their expert.
    pub fn values(&self, config: &Config, neurons: Option<&[u32]>, device: &Device) -> Result<Tensor> {
        let columns = neurons.map_or(config.d_mlp, <[u32]>::len);
        let mut all = vec![0.0f32; self.rows * columns];
        for Part { expert, rows, values, .. } in &self.parts {
            let width = values.dim(1)?;
            let first = expert * width;
            // Columns of the result and of the expert.
            let pairs: Vec<(usize, usize)> = match neurons {
                None => (0..width).map(|j| (first + j, j)).collect(),
                Some(neurons) => {
                    let own = neurons.iter().map(|neuron| *neuron as usize).enumerate();
                    own.filter(|(_, n)| (first..first + width).contains(n)).map(|(to, n)| (to, n - first)).collect()
                }
            };
            if pairs.is_empty() {
                continue;
            }
            for (row, values) in rows.iter().zip(elements(values)?.chunks_exact(width)) {
                let all = &mut all[*row as usize * columns..][..columns];
                pairs.iter().for_each(|(to, from)| all[*to] = values[*from]);
            }
        }
        Ok(Tensor::from_vec(all, (self.rows, columns), &Device::Cpu)?.to_device(device)?)
    }
}
