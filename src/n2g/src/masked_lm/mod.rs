//! Masked language models, which predict the words of a gap.
//!
//! Neuron2Graph substitutes important words by predictions of DistilBERT (paper §3.3). BERT and DistilBERT run on
//! candle-transformers' BERT; everything is in f32 on the CPU.

mod weights;

use std::fmt;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Module, VarBuilder};
use candle_transformers::models::bert::{BertLMPredictionHead, BertModel};
use futures::future::try_join_all;
use neuroql_model::checkpoint::{Checkpoint, Settings};
use neuroql_model::{Cancel, Error, Placement, Pool, Progress, Result, location};

/// Greatest number of tokens of a forward pass, padding included. Gaps need little room each, and logits of a pass take
/// `gaps · vocabulary` numbers.
const TOKENS: usize = 1024;

/// A gap in a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Gap {
    /// Text before the gap.
    pub before: String,
    /// Original word of the gap, which is not proposed; empty if there was none.
    pub word: String,
    /// Text after the gap.
    pub after: String,
}

/// Filler: a token that fits into a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Filler {
    /// Text in the vocabulary; one that begins with `##` continues the word before the gap.
    pub text: String,
    /// Probability among all tokens.
    pub probability: f32,
}

/// A masked language model of the BERT or DistilBERT architecture.
pub struct MaskedLm {
    location: String,
    encoder: BertModel,
    head: BertLMPredictionHead,
    tokenizer: tokenizers::Tokenizer,
    /// Text of each token of the vocabulary.
    texts: Vec<String>,
    /// Ids of the tokens around a text, of the gap and of padding.
    cls: u32,
    sep: u32,
    mask: u32,
    pad: u32,
    longest: usize,
}

impl fmt::Debug for MaskedLm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedLm").field("location", &self.location).finish_non_exhaustive()
    }
}

impl MaskedLm {
    /// Loads a model from a folder, `hf://org/name[@revision]` or an object-store URL: `config.json`, weights in
    /// safetensors or PyTorch's format, `tokenizer.json` or `vocab.txt`. Blocks, and must not be called from an async
    /// task.
    ///
    /// # Errors
    /// Errors of [`Model::load`](neuroql_model::Model::load).
    pub fn load(location: &str, progress: &dyn Progress) -> Result<Self> {
        Self::from_checkpoint(location, Checkpoint::open(&location::fetch(location, None, progress)?)?)
    }

    /// Builds a model from an opened checkpoint.
    ///
    /// # Errors
    /// Errors of [`MaskedLm::load`].
    pub fn from_checkpoint(location: &str, checkpoint: Checkpoint) -> Result<Self> {
        let Settings::Json(json) = &checkpoint.settings else {
            let supported = "safetensors or PyTorch weights with config.json".into();
            return Err(Error::Unsupported { what: "masked language model", value: "GGUF".into(), supported });
        };
        let (family, config) = weights::config(json)?;
        let tied = json["tie_word_embeddings"].as_bool().unwrap_or(true);
        let tensors = weights::read(checkpoint.weights.as_ref(), (family, &config), tied)?;
        let variables = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let tokenizer = checkpoint.tokenizer;
        let known = tokenizer.get_vocab_size(true);
        if known > config.vocab_size {
            let reason = format!("its tokenizer has {known} tokens, its embedding {}", config.vocab_size);
            return Err(Error::Config(reason));
        }
        let special = |name: &str| {
            tokenizer.token_to_id(name).ok_or_else(|| Error::Tokenizer(format!("the vocabulary has no {name}")))
        };
        Ok(Self {
            location: location.into(),
            encoder: BertModel::load(variables.clone(), &config)?,
            head: BertLMPredictionHead::load(variables.pp("predictions"), &config)?,
            texts: (0..config.vocab_size as u32).map(|id| tokenizer.id_to_token(id).unwrap_or_default()).collect(),
            cls: special("[CLS]")?,
            sep: special("[SEP]")?,
            mask: special("[MASK]")?,
            pad: special("[PAD]")?,
            tokenizer,
            longest: config.max_position_embeddings,
        })
    }

    /// Location from which it was loaded.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Fills gaps: returns the most probable tokens of each, the most probable first, of equal ones that of the lower
    /// id; at most `most`, none less probable than `least`, no special ones or ones without a letter, and not the
    /// original word.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Cancelled`].
    pub async fn fill(
        self: &Arc<Self>,
        pool: &Pool,
        gaps: &[Gap],
        most: usize,
        least: f32,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Filler>>> {
        let inputs = gaps.iter().map(|gap| self.input(gap)).collect::<Result<Vec<_>>>()?;
        // Gaps of similar length together, for little padding.
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|i| inputs[*i].ids.len());
        let mut passes: Vec<Vec<usize>> = Vec::new();
        for i in order {
            let length = inputs[i].ids.len();
            match passes.last_mut() {
                Some(pass) if (pass.len() + 1) * length <= TOKENS => pass.push(i),
                _ => passes.push(vec![i]),
            }
        }
        let runs = passes.iter().map(|pass| {
            let (lm, cancel) = (Arc::clone(self), cancel.clone());
            let inputs: Vec<GapInput> = pass.iter().map(|i| inputs[*i].clone()).collect();
            pool.run(Placement::OneThread, move || {
                cancel.check()?;
                let probabilities = candle_nn::ops::softmax(&lm.run(&inputs)?, D::Minus1)?.to_vec2::<f32>()?;
                let fillers = probabilities.iter().zip(&inputs).map(|(row, input)| lm.likely(row, input, most, least));
                Ok(fillers.collect::<Vec<_>>())
            })
        });
        let mut fillers = vec![Vec::new(); gaps.len()];
        for (pass, found) in passes.iter().zip(try_join_all(runs).await?) {
            pass.iter().zip(found).for_each(|(i, found)| fillers[*i] = found);
        }
        Ok(fillers)
    }

    /// Computes the logits of the vocabulary in each gap, `[gaps, vocabulary]`, in one forward pass.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn logits(&self, gaps: &[Gap]) -> Result<Tensor> {
        if gaps.is_empty() {
            return Ok(Tensor::zeros((0, self.texts.len()), DType::F32, &Device::Cpu)?);
        }
        self.run(&gaps.iter().map(|gap| self.input(gap)).collect::<Result<Vec<_>>>()?)
    }

    fn run(&self, inputs: &[GapInput]) -> Result<Tensor> {
        let length = inputs.iter().map(|input| input.ids.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(inputs.len() * length);
        let mut seen = Vec::with_capacity(inputs.len() * length);
        for input in inputs {
            ids.extend_from_slice(&input.ids);
            seen.resize(ids.len(), 1u32);
            ids.resize(ids.len() + length - input.ids.len(), self.pad);
            seen.resize(ids.len(), 0);
        }
        let shape = (inputs.len(), length);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let seen = Tensor::from_vec(seen, shape, &Device::Cpu)?;
        let hidden = self.encoder.forward(&ids, &ids.zeros_like()?, Some(&seen))?;
        // Logits are computed for the gaps only: the head is the larger part of a small network.
        let rows: Vec<u32> = inputs.iter().enumerate().map(|(i, input)| (i * length + input.at) as u32).collect();
        let rows = Tensor::from_vec(rows, inputs.len(), &Device::Cpu)?;
        Ok(self.head.forward(&hidden.flatten_to(1)?.index_select(&rows, 0)?)?)
    }

    /// Input of a gap: `[CLS]` before `[MASK]` after `[SEP]`; of too long a text, the tokens nearest to the gap.
    fn input(&self, gap: &Gap) -> Result<GapInput> {
        let encode = |text: &str| match self.tokenizer.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(Error::Tokenizer(e.to_string())),
        };
        let (before, after, word) = (encode(&gap.before)?, encode(&gap.after)?, bare(&gap.word));
        let room = self.longest.saturating_sub(3);
        let kept_after = after.len().min((room / 2).max(room.saturating_sub(before.len())));
        let kept_before = before.len().min(room - kept_after);
        let mut ids = vec![self.cls];
        ids.extend_from_slice(&before[before.len() - kept_before..]);
        ids.push(self.mask);
        let at = ids.len() - 1;
        ids.extend_from_slice(&after[..kept_after]);
        ids.push(self.sep);
        Ok(GapInput { ids, at, word })
    }

    fn likely(&self, probabilities: &[f32], input: &GapInput, most: usize, least: f32) -> Vec<Filler> {
        let fits = |id: &usize| {
            let text = &self.texts[*id];
            let special = text.starts_with('[') && text.ends_with(']');
            probabilities[*id] >= least && !special && text.contains(char::is_alphabetic) && bare(text) != input.word
        };
        let mut ids: Vec<usize> = (0..probabilities.len()).filter(fits).collect();
        ids.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]).then(a.cmp(b)));
        ids.truncate(most);
        let filler = |id: usize| Filler { text: self.texts[id].clone(), probability: probabilities[id] };
        ids.into_iter().map(filler).collect()
    }
}

/// Input of the network for a gap.
#[derive(Debug, Clone)]
struct GapInput {
    ids: Vec<u32>,
    /// Index of the gap in the ids.
    at: usize,
    word: String,
}

/// Normalises a word as Neuron2Graph does to compare: lower case, without spaces and punctuation around it.
pub(crate) fn bare(word: &str) -> String {
    word.trim_matches(|c: char| c == ' ' || c.is_ascii_punctuation()).to_lowercase()
}
