//! Model: a network that is ready to run.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

use crate::architecture::{Plan, config_of};
use crate::checkpoint::Checkpoint;
use crate::device::Target;
use crate::kernel::Rotation;
use crate::location::{self, Progress, Revision};
use crate::ops::{Rotary, elements};
use crate::speed::Measured;
use crate::weights::{Layer, Weights};
use crate::{Activation, Config, DeviceName, Error, Options, Positions, Result, Rope, Site, SiteName, Tokenizer};

/// Default window, in tokens, unless the context is shorter.
const DEFAULT_WINDOW: usize = 1024;

/// A model: the weights, tokenizer and configuration of a registered network.
#[derive(Debug)]
pub struct Model {
    name: String,
    location: String,
    config: Config,
    weights: Weights,
    rotaries: Arc<[Rotary]>,
    /// Addends to attention scores, `[heads, positions]`, with ALiBi.
    alibi: Option<Vec<f32>>,
    tokenizer: Arc<Tokenizer>,
    device: DeviceName,
    device_name: String,
    target: Target,
    site: Site,
    /// Layers that are read.
    layers: Range<usize>,
    window: usize,
    bos: Option<u32>,
    /// Tokens that end a text.
    ends: Vec<u32>,
    sha256: String,
    tokenizer_sha256: String,
    settings_sha256: Option<String>,
    revision: Option<Revision>,
    parameters: usize,
    measured: Measured,
    /// The version, once it was asked for.
    version: OnceLock<String>,
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
        Self::load_beside(&[], name, location, options, progress)
    }

    /// Loads a network as [`Model::load`] does, and shares the weights in memory of one of `others` that was loaded from the
    /// same files to the same device in the same number type.
    ///
    /// # Errors
    /// Errors of [`Model::load`].
    pub fn load_beside(
        others: &[Arc<Self>],
        name: &str,
        location: &str,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self> {
        // A missing device fails before anything is downloaded.
        let device = options.device.unwrap_or_default().open()?;
        let check = |json: &serde_json::Value| {
            let config = config_of(json)?;
            config.check_site(options.site.unwrap_or_else(|| config.default_site()))
        };
        let remotes = location::Remotes::from_env();
        let files = remotes.fetch_checked(location, options.tokenizer.as_deref(), progress, &check)?;
        let target = Target::new(device, options.dtype.unwrap_or_default());
        let checkpoint = Checkpoint::open_checked(&files, |settings, weights| {
            let plan = Plan::new(settings, weights)?;
            plan.config.check_site(options.site.unwrap_or_else(|| plan.config.default_site()))?;
            plan.check(weights)
        })?;
        let model = Self::at(target, (name, location), checkpoint, options, others)?;
        Ok(Self { revision: files.revision, ..model })
    }

    /// Builds a network from an opened checkpoint.
    ///
    /// # Errors
    /// Errors of [`Model::load`].
    pub fn from_checkpoint(name: &str, location: &str, checkpoint: Checkpoint, options: &Options) -> Result<Self> {
        let device = options.device.unwrap_or_default();
        let target = Target::new(device.open()?, options.dtype.unwrap_or_default());
        Self::at(target, (name, location), checkpoint, options, &[])
    }

    pub(crate) fn at(
        target: Target,
        (name, location): (&str, &str),
        checkpoint: Checkpoint,
        options: &Options,
        others: &[Arc<Self>],
    ) -> Result<Self> {
        let device = options.device.unwrap_or_default();
        let plan = Plan::new(&checkpoint.settings, checkpoint.weights.as_ref())?;
        let config = plan.config.clone();
        let site = options.site.unwrap_or_else(|| config.default_site());
        config.check_site(site)?;
        let layers = match options.layer {
            None => 0..config.layers,
            Some(layer) if layer < config.layers => layer..layer + 1,
            Some(layer) => {
                let reason = format!("there is no layer {layer}: the model has layers 0 to {}", config.layers - 1);
                return Err(Error::InvalidOption { option: "site".into(), reason });
            }
        };
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
        let same = |other: &&Arc<Self>| {
            other.sha256 == checkpoint.sha256
                && other.settings_sha256 == checkpoint.settings_sha256
                && other.config == config
                && other.target.is_same(&target)
        };
        let mut ends = checkpoint.settings.ends();
        if ends.is_empty() {
            ends.extend(bos);
        }
        let weights = match others.iter().find(same) {
            Some(other) => other.weights.clone(),
            None => plan.weights(&checkpoint, &target)?,
        };
        let longest = window + usize::from(bos.is_some());
        let rotaries = config.ropes().into_iter().map(|rope| Rotary::new(rotation(rope, longest))).collect();
        let alibi = match &config.positions {
            Positions::Alibi(alibi) => Some(alibi.table(longest)),
            _ => None,
        };
        Ok(Self {
            name: name.into(),
            location: location.into(),
            parameters: weights.parameters(),
            tokenizer: Arc::new(Tokenizer::new(checkpoint.tokenizer, config.vocabulary)),
            sha256: checkpoint.sha256,
            tokenizer_sha256: checkpoint.tokenizer_sha256,
            settings_sha256: checkpoint.settings_sha256,
            revision: None,
            device,
            device_name: device.to_string(),
            target,
            config,
            weights,
            rotaries,
            alibi,
            site,
            layers,
            window,
            bos,
            ends,
            measured: Measured::default(),
            version: OnceLock::new(),
        })
    }

    /// Returns the same network with another activation function in its MLPs; it shares weights and tokenizer.
    pub(crate) fn with_activation(&self, activation: Activation) -> Self {
        Self {
            name: self.name.clone(),
            location: self.location.clone(),
            config: Config { activation, ..self.config.clone() },
            weights: self.weights.clone(),
            rotaries: Arc::clone(&self.rotaries),
            alibi: self.alibi.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            device: self.device,
            device_name: self.device_name.clone(),
            target: self.target.clone(),
            site: self.site,
            layers: self.layers.clone(),
            window: self.window,
            bos: self.bos,
            ends: self.ends.clone(),
            sha256: self.sha256.clone(),
            tokenizer_sha256: self.tokenizer_sha256.clone(),
            settings_sha256: self.settings_sha256.clone(),
            revision: self.revision.clone(),
            parameters: self.parameters,
            measured: Measured::default(),
            version: OnceLock::new(),
        }
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
            // Differences of the last bits of an f32 decide which bf16 it is rounded to.
            _ if self.target.blocks.is_some() => 1e-2,
            DType::BF16 => 1e-1,
            DType::F16 => 1e-2,
            _ => 1e-5,
        }
    }

    /// Site at which its neurons are read.
    pub fn site(&self) -> Site {
        self.site
    }

    /// Name of the site in TransformerLens: a full hook name, `blocks.3.hook_resid_post`, if one layer alone is read.
    pub fn site_name(&self) -> String {
        let whole = self.layers.len() == self.config.layers;
        SiteName { site: self.site, layer: (!whole).then_some(self.layers.start) }.to_string()
    }

    /// Layers that are read: all, or the one that a full hook name as its site has.
    pub fn layers_read(&self) -> Range<usize> {
        self.layers.clone()
    }

    /// Number of layers that run to read one: the layers up to it, without itself if it is read before its attention.
    pub fn layers_to_run(&self, layer: usize) -> usize {
        layer + usize::from(self.site != Site::ResidPre)
    }

    /// Number of neurons of a layer at the site: the width of activations.
    pub fn neurons_per_layer(&self) -> usize {
        self.config.neurons_at(self.site)
    }

    /// Returns true if neurons are of experts, at some layer at least.
    pub fn has_experts(&self) -> bool {
        self.config.experts.is_some() && self.site.is_of_mlp_neurons()
    }

    /// Expert that a neuron of a layer is of; `None` for a dense layer, and at sites whose neurons are no experts'.
    pub fn expert_of(&self, layer: usize, neuron: u32) -> Option<usize> {
        let experts = self.config.experts.as_ref()?;
        let expert = neuron as usize / experts.width;
        (self.has_experts() && self.config.is_mixture(layer) && expert < experts.count).then_some(expert)
    }

    /// Window: greatest number of tokens of an example, BOS not counted.
    pub fn window(&self) -> usize {
        self.window
    }

    /// BOS: the token prepended to every example, if any.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Tokens that end a text: those of its configuration, else BOS, with which another begins.
    pub(crate) fn ends(&self) -> &[u32] {
        &self.ends
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

    /// Revision of the hub's repository that it was loaded from; `None` from elsewhere.
    pub fn revision(&self) -> Option<&Revision> {
        self.revision.as_ref()
    }

    /// Version of the model: all that its activations depend on beside the text, to tell if results of an earlier
    /// registration still hold. The hash of the tokenizer comes last, and after a `+` that of the files of settings;
    /// versions of neuroql before it was named ended before it.
    pub fn version(&self) -> String {
        self.version.get_or_init(|| self.spelt_version()).clone()
    }

    fn spelt_version(&self) -> String {
        let Self { sha256, tokenizer_sha256, site, window, .. } = self;
        let bos = self.bos.map_or_else(|| "none".to_owned(), |bos| bos.to_string());
        // GPUs round differently from processors, all GPUs within the same bounds.
        let kind = match (self.device, self.target.blocks) {
            (DeviceName::Cpu, None) => "",
            // Other processors multiply with activations that are not rounded.
            (DeviceName::Cpu, Some(_)) => " products=bf16",
            _ => " device=cuda",
        };
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
    /// [`Error::OutOfRange`], and [`Error::Unsupported`] at a site whose neurons are no hidden units of an MLP.
    pub fn neuron_weights(&self, layer: usize, neurons: &[u32]) -> Result<Vec<NeuronWeights>> {
        self.check_neuron_weights()?;
        let weights = self.layer(layer, neurons)?;
        let d_mlp = self.config.d_mlp;
        // A gated layer's input matrix holds the gate first.
        let offset = if self.config.gated { d_mlp as u32 } else { 0 };
        let (mlp_in, mlp_out) = (weights.mlp_in.matrix()?, weights.mlp_out.matrix()?);
        let columns = |offset: u32| -> Result<Vec<Vec<f32>>> {
            let ids: Vec<u32> = neurons.iter().map(|n| n + offset).collect();
            let ids = Tensor::from_slice(&ids, ids.len(), self.device())?;
            Ok(mlp_in.index_select(&ids, 1)?.to_dtype(DType::F32)?.t()?.to_vec2()?)
        };
        let ids = Tensor::from_slice(neurons, neurons.len(), self.device())?;
        let w_out: Vec<Vec<f32>> = mlp_out.index_select(&ids, 0)?.to_dtype(DType::F32)?.to_vec2()?;
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

    /// Refuses sites whose neurons have no weights of their own.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_neuron_weights(&self) -> Result<()> {
        if self.site.is_of_mlp_neurons() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: "site",
            value: self.site.to_string(),
            supported: format!(
                "for weights of neurons mlp.pre, mlp.mid and mlp.post; register \"{}\" at one of these under another \
                 name, which shares its weights",
                self.location
            ),
        })
    }

    pub(crate) fn measured(&self) -> &Measured {
        &self.measured
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    #[cfg(test)]
    pub(crate) fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    /// Returns a layer, if it and these neurons of it exist.
    pub(crate) fn layer(&self, layer: usize, neurons: &[u32]) -> Result<&Layer> {
        let out_of_range = |what, index: usize, limit| Error::OutOfRange {
            what,
            index: index as i64,
            limit,
            model: self.name.clone(),
        };
        let (layers, width) = (self.config.layers, self.neurons_per_layer());
        let found = self.weights.layers.get(layer).ok_or_else(|| out_of_range("layer", layer, layers))?;
        match neurons.iter().find(|n| **n as usize >= width) {
            Some(neuron) => Err(out_of_range("neuron", *neuron as usize, width)),
            None => Ok(found),
        }
    }

    pub(crate) fn rotaries(&self) -> &[Rotary] {
        &self.rotaries
    }

    pub(crate) fn alibi(&self) -> Option<&[f32]> {
        self.alibi.as_deref()
    }

    /// Length of the longest sequence, BOS included.
    pub(crate) fn longest(&self) -> usize {
        self.window + usize::from(self.bos.is_some())
    }
}

/// Computes rotary tables for positions 0 to `positions - 1`.
fn rotation(rope: &Rope, positions: usize) -> Rotation {
    let (frequencies, factor) = rope.frequencies();
    let table = |f: fn(f64) -> f64| {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |w| p as f64 * w));
        angles.map(|angle| (f(angle) * factor) as f32).collect()
    };
    Rotation { cos: table(f64::cos), sin: table(f64::sin), dims: 2 * rope.pairs(), adjacent_pairs: rope.adjacent_pairs }
}
