//! Model: a network that is ready to run.

use candle_core::{DType, Device, Tensor};

use crate::architecture::Plan;
use crate::checkpoint::Checkpoint;
use crate::device::Target;
use crate::kernel::Rotation;
use crate::location::{self, Progress};
use crate::ops::{Rotary, elements};
use crate::speed::Measured;
use crate::weights::{Layer, Weights};
use crate::{Config, DeviceName, Error, Options, Positions, Result, Site, Tokenizer};

/// Default window, in tokens, unless the context is shorter.
const DEFAULT_WINDOW: usize = 1024;

/// A model: the weights, tokenizer and configuration of a registered network.
#[derive(Debug)]
pub struct Model {
    name: String,
    location: String,
    config: Config,
    weights: Weights,
    rotary: Option<Rotary>,
    tokenizer: Tokenizer,
    device: DeviceName,
    device_name: String,
    target: Target,
    site: Site,
    window: usize,
    bos: Option<u32>,
    sha256: String,
    tokenizer_sha256: String,
    settings_sha256: Option<String>,
    parameters: usize,
    measured: Measured,
}

/// Weights of one neuron.
#[derive(Debug, Clone, PartialEq)]
pub struct NeuronWeights {
    /// Weights by which it reads the residual stream: `[d_model]`.
    pub w_in: Vec<f32>,
    /// Bias of its input.
    pub b_in: Option<f32>,
    /// Weights by which its gate reads the residual stream, in gated MLPs: `[d_model]`.
    pub w_gate: Option<Vec<f32>>,
    /// Vector that it writes to the residual stream: `[d_model]`.
    pub w_out: Vec<f32>,
}

impl Model {
    /// Loads a network from a file, a folder, `hf://org/name[@revision]` or an object-store URL. Blocks.
    ///
    /// # Errors
    /// Errors of [`Error`] about the location, the files or the options.
    pub fn load(name: &str, location: &str, options: &Options, progress: &dyn Progress) -> Result<Self> {
        // A missing device fails before anything is downloaded.
        options.device.unwrap_or_default().open()?;
        let files = location::fetch(location, options.tokenizer.as_deref(), progress)?;
        Self::from_checkpoint(name, location, Checkpoint::open(&files)?, options)
    }

    /// Builds a network from an opened checkpoint.
    ///
    /// # Errors
    /// Errors of [`Model::load`].
    pub fn from_checkpoint(name: &str, location: &str, checkpoint: Checkpoint, options: &Options) -> Result<Self> {
        let device = options.device.unwrap_or_default();
        let target = Target::new(device.open()?, options.dtype.unwrap_or_default());
        Self::at(target, name, location, checkpoint, options)
    }

    pub(crate) fn at(
        target: Target,
        name: &str,
        location: &str,
        checkpoint: Checkpoint,
        options: &Options,
    ) -> Result<Self> {
        let device = options.device.unwrap_or_default();
        let plan = Plan::new(&checkpoint)?;
        let config = plan.config.clone();
        let site = options.site.unwrap_or_else(|| config.default_site());
        config.check_site(site)?;
        let bos = checkpoint.bos.resolve(options.bos)?;
        if let Some(bos) = bos.filter(|bos| *bos as usize >= config.vocabulary) {
            let reason = format!("BOS is token {bos}, and the embedding has {} tokens; use 'false'", config.vocabulary);
            return Err(Error::InvalidOption { option: "bos".into(), reason });
        }
        let room = config.context - usize::from(bos.is_some());
        if room == 0 {
            return Err(Error::Config("the context has room for BOS only".into()));
        }
        let window = match options.window {
            Some(window) if window > room => {
                let reason = format!("{window} tokens do not fit: the model reads {room} beside BOS");
                return Err(Error::InvalidOption { option: "window".into(), reason });
            }
            Some(window) => window,
            None => room.min(DEFAULT_WINDOW),
        };
        let weights = plan.weights(&checkpoint, &target)?;
        let rotary = rotation(&config, window + usize::from(bos.is_some())).map(Rotary::new);
        Ok(Self {
            name: name.into(),
            location: location.into(),
            parameters: weights.parameters(),
            tokenizer: Tokenizer::new(checkpoint.tokenizer, config.vocabulary),
            sha256: checkpoint.sha256,
            tokenizer_sha256: checkpoint.tokenizer_sha256,
            settings_sha256: checkpoint.settings_sha256,
            device,
            device_name: device.to_string(),
            target,
            config,
            weights,
            rotary,
            site,
            window,
            bos,
            measured: Measured::default(),
        })
    }

    /// Name under which it is registered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Location from which it was loaded, as the user wrote it.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Configuration of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokenizer of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Device of its weights.
    pub fn device(&self) -> &Device {
        &self.target.device
    }

    /// Name of its device.
    pub fn placed(&self) -> DeviceName {
        self.device
    }

    /// Name of the device as text, as in the option: `cpu`, `cuda:0`.
    pub fn device_name(&self) -> &str {
        &self.device_name
    }

    /// Number type of weights. Activations are always given in f32.
    pub fn dtype(&self) -> DType {
        self.target.weights
    }

    /// Number type of activations within the network.
    pub(crate) fn activation_dtype(&self) -> DType {
        self.target.activations
    }

    /// Greatest dependence of an activation on its batch, as a share of the layer's greatest: products of matrices of
    /// different shapes add up in different orders, and results of products are rounded.
    pub fn rounding(&self) -> f32 {
        match self.target.activations {
            DType::BF16 => 1e-1,
            DType::F16 => 1e-2,
            _ => 1e-5,
        }
    }

    /// Site at which its neurons are read.
    pub fn site(&self) -> Site {
        self.site
    }

    /// Window: greatest number of tokens of an example, BOS not counted.
    pub fn window(&self) -> usize {
        self.window
    }

    /// BOS: the token prepended to every example, if any.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// SHA-256 of the weight files, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// SHA-256 of the tokenizer's file, lower-case hex: of `tokenizer.json` or `vocab.txt`, of `vocab.json` and
    /// `merges.txt` one after the other, or of the GGUF file that it is in.
    pub fn tokenizer_sha256(&self) -> &str {
        &self.tokenizer_sha256
    }

    /// Version of the model: all that its activations depend on beside the text, to tell if results of an earlier
    /// registration still hold. The hash of the tokenizer comes last, and after a `+` that of the files of settings;
    /// versions of neuroql before it was named ended before it.
    pub fn version(&self) -> String {
        let Self { sha256, tokenizer_sha256, site, window, .. } = self;
        let bos = self.bos.map_or_else(|| "none".to_owned(), |bos| bos.to_string());
        // GPUs round differently from processors, all GPUs within the same bounds.
        let kind = if self.device == DeviceName::Cpu { "" } else { " device=cuda" };
        let dtype = self.dtype().as_str();
        let settings = self.settings_sha256.iter().map(|settings| format!("+{settings}")).collect::<String>();
        format!("{sha256} {site} window={window} bos={bos} dtype={dtype}{kind} tokenizer={tokenizer_sha256}{settings}")
    }

    /// Number of weights, a tied unembedding counted once.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Cuts the tokens of a document into examples of at most [`Model::window`] tokens.
    pub fn examples<'a>(&self, tokens: &'a [u32]) -> std::slice::Chunks<'a, u32> {
        tokens.chunks(self.window)
    }

    /// Weights of some neurons of a layer.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn neuron_weights(&self, layer: usize, neurons: &[u32]) -> Result<Vec<NeuronWeights>> {
        let weights = self.layer(layer, neurons)?;
        let d_mlp = self.config.d_mlp;
        // A gated layer's input matrix holds the gate first.
        let offset = if self.config.gated { d_mlp as u32 } else { 0 };
        let columns = |offset: u32| -> Result<Vec<Vec<f32>>> {
            let ids: Vec<u32> = neurons.iter().map(|n| n + offset).collect();
            let ids = Tensor::from_slice(&ids, ids.len(), self.device())?;
            Ok(weights.mlp_in.weight.index_select(&ids, 1)?.to_dtype(DType::F32)?.t()?.to_vec2()?)
        };
        let ids = Tensor::from_slice(neurons, neurons.len(), self.device())?;
        let w_out: Vec<Vec<f32>> = weights.mlp_out.weight.index_select(&ids, 0)?.to_dtype(DType::F32)?.to_vec2()?;
        let mut w_gate = if self.config.gated { Some(columns(0)?.into_iter()) } else { None };
        let bias = weights.mlp_in.bias.as_ref().map(elements).transpose()?;
        let bias_of = |n: u32| bias.as_ref().map(|bias| bias[(n + offset) as usize]);
        let w_in = columns(offset)?;
        Ok(neurons
            .iter()
            .zip(w_in)
            .zip(w_out)
            .map(|((n, w_in), w_out)| NeuronWeights {
                w_in,
                b_in: bias_of(*n),
                w_gate: w_gate.as_mut().and_then(Iterator::next),
                w_out,
            })
            .collect())
    }

    pub(crate) fn measured(&self) -> &Measured {
        &self.measured
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Returns a layer, if it and these neurons of it exist.
    pub(crate) fn layer(&self, layer: usize, neurons: &[u32]) -> Result<&Layer> {
        let out_of_range = |what, index: usize, limit| Error::OutOfRange {
            what,
            index: index as i64,
            limit,
            model: self.name.clone(),
        };
        let (layers, d_mlp) = (self.config.layers, self.config.d_mlp);
        let found = self.weights.layers.get(layer).ok_or_else(|| out_of_range("layer", layer, layers))?;
        match neurons.iter().find(|n| **n as usize >= d_mlp) {
            Some(neuron) => Err(out_of_range("neuron", *neuron as usize, d_mlp)),
            None => Ok(found),
        }
    }

    pub(crate) fn rotary(&self) -> Option<&Rotary> {
        self.rotary.as_ref()
    }

    /// Length of the longest sequence, BOS included.
    pub(crate) fn longest(&self) -> usize {
        self.window + usize::from(self.bos.is_some())
    }
}

/// Computes rotary tables for positions 0 to `positions - 1`.
fn rotation(config: &Config, positions: usize) -> Option<Rotation> {
    let Positions::Rotary(rope) = &config.positions else { return None };
    let (frequencies, factor) = rope.frequencies();
    let table = |f: fn(f64) -> f64| {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |w| p as f64 * w));
        angles.map(|angle| (f(angle) * factor) as f32).collect()
    };
    Some(Rotation {
        cos: table(f64::cos),
        sin: table(f64::sin),
        dims: 2 * rope.pairs(),
        adjacent_pairs: rope.adjacent_pairs,
    })
}
