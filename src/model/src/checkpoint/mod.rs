//! Checkpoints: weights, settings and a tokenizer, read from untrusted files.
//!
//! Every format is parsed against the length of its file before anything is allocated, so a truncated or malicious file
//! is an [`Error::Corrupt`] and nothing worse; a PyTorch pickle is read as data and never runs code. Files are mapped,
//! not read: the pages of a tensor are touched when it is read and released after that.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use crate::location::Files;
use crate::{Error, Result};

mod bos;
mod classes;
mod gguf;
mod gguf_vocabulary;
pub(crate) mod json;
mod mxfp4;
mod packed_experts;
mod pickle;
mod safetensors;
mod splitting;
mod tokenizer;
mod wordpiece;

pub use bos::Bos;
pub(crate) use packed_experts::has_packed_experts;

#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tokenizer_tests;

/// Greatest size of a JSON file (configuration, tokenizer) that is read, in bytes.
const MAX_JSON: u64 = 512 << 20;

/// Configuration in its own format.
#[derive(Debug)]
pub enum Settings {
    /// JSON of `config.json`.
    Json(serde_json::Value),
    /// Metadata of a GGUF file.
    Gguf(BTreeMap<String, gguf_file::Value>),
}

impl Settings {
    /// Tokens that end a text: `eos_token_id`, one or several. What is no token id is none.
    pub(crate) fn ends(&self) -> Vec<u32> {
        let id = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self {
            Self::Json(json) => {
                let of = |part: &serde_json::Value| match &part["eos_token_id"] {
                    serde_json::Value::Array(ids) => ids.iter().filter_map(id).collect(),
                    one => id(one).into_iter().collect::<Vec<_>>(),
                };
                [of(json), of(&json["text_config"])].concat()
            }
            Self::Gguf(metadata) => {
                let end = metadata.get("tokenizer.ggml.eos_token_id");
                end.and_then(|id| id.to_u32().ok()).into_iter().collect()
            }
        }
    }
}

/// Source of tensors by name, read on demand. Every method may be called from several threads at once.
pub trait TensorSource: Send + Sync {
    /// Names of all tensors, sorted.
    fn names(&self) -> Vec<String>;

    /// Shape of a tensor, outermost dimension first; `None` if there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Reads a tensor as contiguous f32 on the CPU, dequantised.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is no such tensor, [`Error::Unsupported`] if its type cannot become f32.
    fn read(&self, name: &str) -> Result<Tensor>;

    /// A tensor as its file has it; `None` if there is no such tensor, or if its file is not a safetensors file.
    fn stored(&self, name: &str) -> Option<Stored<'_>> {
        let _ = name;
        None
    }
}

/// A tensor as a safetensors file has it.
pub struct Stored<'a> {
    file: &'a Path,
    /// Number type, by its name in the file.
    dtype: String,
    /// Bytes of the file.
    bytes: &'a Bytes,
    /// Bytes of the tensor.
    range: Range<usize>,
}

impl Stored<'_> {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    /// Releases the pages of the tensor once it has been copied.
    fn release(&self) {
        self.bytes.release(&self.range);
    }
}

/// A checkpoint whose headers have been checked; tensors are read on demand.
///
/// The weight files stay mapped while this lives: they must not be truncated meanwhile.
pub struct Checkpoint {
    /// Configuration, not yet interpreted.
    pub settings: Settings,
    /// The weights.
    pub weights: Box<dyn TensorSource>,
    /// Tokenizer without truncation and padding.
    pub tokenizer: tokenizers::Tokenizer,
    /// The token that begins a sequence.
    pub bos: Bos,
    /// SHA-256 over the weight files in order, lower-case hex.
    pub sha256: String,
    /// SHA-256 of the tokenizer's file, lower-case hex: of `tokenizer.json` or `vocab.txt`, of `vocab.json` and
    /// `merges.txt` one after the other, or of the GGUF file that it is in.
    pub tokenizer_sha256: String,
    /// SHA-256 over those of `config.json`, `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`
    /// that exist, lower-case hex. `None` if none does, or for a checkpoint in the program.
    pub settings_sha256: Option<String>,
    /// Size of the weight files, in bytes.
    pub bytes: u64,
}

impl Checkpoint {
    /// Opens the files of a model and checks their headers.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file that is truncated, malformed or hostile, [`Error::Unsupported`] for a tensor
    /// type or tokenizer this crate lacks, [`Error::MissingFile`] without a configuration or tokenizer, and
    /// [`Error::Location`] for a file that cannot be read.
    pub fn open(files: &Files) -> Result<Self> {
        Self::open_checked(files, |_, _| Ok(()))
    }

    /// Does the same, and shows the configuration and the names and shapes of tensors to `check` before anything large is
    /// read.
    ///
    /// # Errors
    /// Errors of [`Checkpoint::open`] and of `check`.
    pub fn open_checked(files: &Files, check: impl FnOnce(&Settings, &dyn TensorSource) -> Result<()>) -> Result<Self> {
        let (settings, weights) = Self::parse(files)?;
        check(&settings, weights.as_ref())?;
        // The checksum reads every byte, so it runs beside the parsing of the tokenizer, and ends with it if that fails.
        let stop = AtomicBool::new(false);
        let (parsed, digest) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| digest_until(&files.weights, &stop));
            let parsed = Self::words(files, &settings)
                .and_then(|words| Ok((words, tokenizer_digest(files)?, settings_digest(files)?)));
            stop.store(parsed.is_err(), Ordering::Relaxed);
            (parsed, digest.join().unwrap_or_else(|_| Err(Error::Internal("hashing a file panicked".into()))))
        });
        let ((words, tokenizer_sha256, settings_sha256), (sha256, bytes)) = (parsed?, digest?);
        let tokenizer_sha256 = tokenizer_sha256.unwrap_or_else(|| sha256.clone());
        let tokenizer::Words { tokenizer, bos } = words;
        Ok(Self { settings, weights, tokenizer, bos, sha256, tokenizer_sha256, settings_sha256, bytes })
    }

    /// Opens a checkpoint that is compiled into the program: `config.json`, `model.safetensors`, `tokenizer.json`.
    ///
    /// # Errors
    /// Errors of [`Checkpoint::open`].
    pub fn from_bytes(config: &[u8], weights: &'static [u8], tokenizer: &[u8]) -> Result<Self> {
        let config = parse_json(Path::new("config.json"), config)?;
        let words = tokenizer::from_json(Path::new("tokenizer.json"), tokenizer, &config, &classes::Beside::default())?;
        let file = Path::new("model.safetensors");
        Ok(Self {
            settings: Settings::Json(config),
            weights: Box::new(safetensors::Safetensors::open(file, Bytes::Static(weights))?),
            tokenizer: words.tokenizer,
            bos: words.bos,
            sha256: hex(&Sha256::digest(weights)),
            tokenizer_sha256: hex(&Sha256::digest(tokenizer)),
            settings_sha256: None,
            bytes: weights.len() as u64,
        })
    }

    /// Parses the configuration and the headers of the weights.
    fn parse(files: &Files) -> Result<(Settings, Box<dyn TensorSource>)> {
        if let [file] = files.weights.as_slice()
            && extension(file) == "gguf"
        {
            let (metadata, weights) = gguf::Gguf::open(file, Bytes::map(file)?)?;
            return Ok((Settings::Gguf(metadata), Box::new(weights)));
        }
        let missing = |wanted: &str| Error::MissingFile { location: files.location.clone(), wanted: wanted.into() };
        let config = files.config.as_ref().ok_or_else(|| missing("config.json"))?;
        let config = read_json(config)?;
        if files.tokenizer.is_none() {
            return Err(missing(
                "tokenizer.json (or vocab.json with merges.txt, or vocab.txt); the option tokenizer names one elsewhere",
            ));
        }
        let mut sources = Vec::with_capacity(files.weights.len());
        for file in &files.weights {
            let bytes = Bytes::map(file)?;
            sources.push((
                file.as_path(),
                match extension(file).as_str() {
                    "safetensors" => Box::new(safetensors::Safetensors::open(file, bytes)?) as Box<dyn TensorSource>,
                    "bin" | "pth" | "pt" => Box::new(pickle::Pickle::open(file, bytes)?),
                    other => {
                        let supported = ".gguf (one file), .safetensors, .bin, .pth, .pt".into();
                        return Err(Error::Unsupported { what: "weight file", value: format!(".{other}"), supported });
                    }
                },
            ));
        }
        let mut weights = Shards::join(sources)?;
        if has_packed_experts(&config) {
            weights = Box::new(packed_experts::PackedExperts::open(weights)?);
        }
        Ok((Settings::Json(config), weights))
    }

    /// Reads the tokenizer.
    fn words(files: &Files, settings: &Settings) -> Result<tokenizer::Words> {
        match (settings, &files.tokenizer, files.weights.as_slice()) {
            (Settings::Json(config), Some(path), _) => tokenizer::from_files(path, config),
            (Settings::Gguf(_), Some(path), _) => tokenizer::from_files(path, &serde_json::Value::Null),
            (Settings::Gguf(metadata), None, [file]) => gguf_vocabulary::from_gguf(file, metadata),
            _ => Err(Error::Internal("a checkpoint without a tokenizer was parsed".into())),
        }
    }
}

/// Sharded weights: several files of one model.
struct Shards {
    sources: Vec<Box<dyn TensorSource>>,
    /// Index of the source of each tensor.
    index: BTreeMap<String, usize>,
}

impl Shards {
    fn join(mut files: Vec<(&Path, Box<dyn TensorSource>)>) -> Result<Box<dyn TensorSource>> {
        if files.len() == 1 {
            return Ok(files.remove(0).1);
        }
        let mut index = BTreeMap::new();
        for (number, (file, source)) in files.iter().enumerate() {
            for name in source.names() {
                if let Some(first) = index.insert(name.clone(), number) {
                    let reason = format!("tensor \"{name}\" is in {} too", files[first].0.display());
                    return Err(corrupt(file, "weights", reason));
                }
            }
        }
        Ok(Box::new(Self { sources: files.into_iter().map(|(_, source)| source).collect(), index }))
    }
}

impl TensorSource for Shards {
    fn names(&self) -> Vec<String> {
        self.index.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.sources[*self.index.get(name)?].shape(name)
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        self.sources[*self.index.get(name).ok_or_else(|| no_tensor(name))?].read(name)
    }

    fn stored(&self, name: &str) -> Option<Stored<'_>> {
        self.sources[*self.index.get(name)?].stored(name)
    }
}

/// Bytes of a file: mapped, or part of the program.
enum Bytes {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
}

impl Bytes {
    fn map(path: &Path) -> Result<Self> {
        // SAFETY: the mapping is private and read-only. Another process that truncates the file while a model loads
        // ends this one by SIGBUS; `Checkpoint` documents that, and every loader that maps weights shares it.
        let map = File::open(path).and_then(|file| unsafe { memmap2::Mmap::map(&file) });
        let map = map.map_err(|e| unreadable(path, e))?;
        refuse_pointer(path, &map)?;
        Ok(Self::Mapped(map))
    }

    /// Releases the pages of a range that has been copied, so that they no longer count as resident.
    fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            // SAFETY: dropping pages of a read-only file mapping loses nothing, the next access reads them again.
            // It is advice, so a refusal does not matter.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// Makes a tensor of f32 of little-endian numbers; the caller has checked that `bytes` has exactly `shape` of them.
fn floats(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?.to_dtype(DType::F32)?)
}

/// Number of elements of a tensor of this shape; `None` if the product overflows with 1 for dimensions of 0 (strides
/// are products of the other dimensions).
fn elements(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// Runs a third-party parser on untrusted bytes. As a last line of defence, a panic in it becomes [`Error::Corrupt`]
/// (its message still goes to the panic hook).
fn guarded<T>(file: &Path, format: &'static str, parse: impl FnOnce() -> Result<T>) -> Result<T> {
    // The closures own all that they change, so no broken invariant survives the panic.
    catch_unwind(AssertUnwindSafe(parse)).unwrap_or_else(|_| Err(corrupt(file, format, "its parser failed on it")))
}

fn corrupt(file: &Path, format: &'static str, reason: impl Display) -> Error {
    Error::Corrupt { file: file.to_owned(), format, reason: reason.to_string() }
}

fn unreadable(path: &Path, reason: impl Display) -> Error {
    Error::Location { location: path.display().to_string(), reason: reason.to_string() }
}

fn no_tensor(name: &str) -> Error {
    Error::Weights { tensor: name.into(), reason: "the checkpoint has no such tensor".into() }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|e| unreadable(path, e))?.len();
    if size > MAX_JSON {
        return Err(corrupt(path, "JSON", format!("it has {size} bytes, more than the {MAX_JSON} allowed")));
    }
    let bytes = std::fs::read(path).map_err(|e| unreadable(path, e))?;
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

/// Refuses a Git LFS pointer, which a clone without git-lfs has in place of a large file.
fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Ok(());
    }
    let reason = "it is a Git LFS pointer and not the file itself (git lfs pull fetches that)";
    Err(corrupt(path, "model", reason))
}

/// Reads a JSON file as Python would.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
    parse_json(path, &read_file(path)?)
}

fn parse_json(path: &Path, bytes: &[u8]) -> Result<serde_json::Value> {
    json::parse(bytes).map_err(|e| corrupt(path, "JSON", e))
}

/// SHA-256 over the files of the tokenizer; `None` if it is in the weight file.
fn tokenizer_digest(files: &Files) -> Result<Option<String>> {
    let Some(file) = &files.tokenizer else { return Ok(None) };
    let mut all = vec![file.clone()];
    if file.file_name().is_some_and(|name| name == "vocab.json") {
        all.push(file.with_file_name("merges.txt"));
    }
    Ok(Some(digest(&all)?.0))
}

/// SHA-256 over `config.json` and the files beside the tokenizer; `None` if there are none.
fn settings_digest(files: &Files) -> Result<Option<String>> {
    let beside = files.tokenizer.iter().flat_map(|tokenizer| {
        tokenizer::BESIDE.into_iter().map(|name| tokenizer.with_file_name(name)).filter(|path| path.is_file())
    });
    let all: Vec<_> = files.config.iter().cloned().chain(beside).collect();
    if all.is_empty() { Ok(None) } else { Ok(Some(digest(&all)?.0)) }
}

/// SHA-256 over the files in order, and their total size in bytes. Reads rather than maps: nothing stays resident.
pub(crate) fn digest(files: &[PathBuf]) -> Result<(String, u64)> {
    digest_until(files, &AtomicBool::new(false))
}

/// Does the same, and ends with [`Error::Cancelled`] once `stop` is true.
fn digest_until(files: &[PathBuf], stop: &AtomicBool) -> Result<(String, u64)> {
    let (mut hash, mut total, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    for path in files {
        let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) if stop.load(Ordering::Relaxed) => return Err(Error::Cancelled),
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    total += read as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(path, e)),
            }
        }
    }
    Ok((hex(&hash.finalize()), total))
}

/// Formats bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
