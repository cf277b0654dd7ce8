//! Locations: resolves the text after LOCATION to local files.
//!
//! A location is a weight file or a folder, given as a path, `file://…`, `hf://org/name[@revision][/file]` or any URL
//! that object_store understands. Remote files are kept in a cache and checked against a checksum before every use;
//! everything after this module reads local files only.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::checkpoint::read_json;
use crate::{Error, Result};

mod hub;
mod objects;
mod revision;

pub use revision::Revision;

/// Files of a model on this machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// The location as the user wrote it.
    pub location: String,
    /// Weights: one GGUF file, or one or more files of another format, sorted by name.
    pub weights: Vec<PathBuf>,
    /// Configuration: `config.json`, if there is one.
    pub config: Option<PathBuf>,
    /// Tokenizer: `tokenizer.json`, or `vocab.json` or `vocab.txt` with its companions beside it. `None` for a GGUF
    /// file that has its own.
    pub tokenizer: Option<PathBuf>,
    /// Revision of the hub's repository that they are of.
    pub revision: Option<Revision>,
}

/// Progress of downloads. One file is reported at a time.
pub trait Progress: Send + Sync {
    /// Begins a file; `bytes` is its size if known.
    fn begin(&self, what: &str, bytes: Option<u64>);
    /// Reports a number of further bytes.
    fn advance(&self, bytes: u64);
    /// Completes the file.
    fn finish(&self);
}

/// Ignores progress.
impl Progress for () {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

/// Fetches the files of a model, with endpoints, credentials and caches from the environment.
///
/// `tokenizer` is the location of a tokenizer (a file, or a folder that holds one) that replaces the model's own.
/// Blocks, and must not be called from an async task.
///
/// # Errors
/// [`Error::Location`] if it does not exist or cannot be read, [`Error::MissingFile`] for a folder without a file that
/// a model needs.
pub fn fetch(location: &str, tokenizer: Option<&str>, progress: &dyn Progress) -> Result<Files> {
    Remotes::from_env().fetch(location, tokenizer, progress)
}

/// Sources and caches of remote files.
#[derive(Clone)]
pub struct Remotes {
    /// Endpoint of the hub behind `hf://`: HF_ENDPOINT, or `https://huggingface.co`.
    pub hub_endpoint: String,
    /// Cache of the hub, `$HF_HOME/hub`; shared with other programs.
    pub hub_cache: PathBuf,
    /// Access token of the hub: HF_TOKEN, or that stored by `hf auth login`.
    pub hub_token: Option<String>,
    /// Folder for files from object stores: NEUROQL_CACHE, or `neuroql` in the user's cache folder.
    pub cache: PathBuf,
    /// Options of object stores by their environment names, such as AWS_ENDPOINT.
    pub options: Vec<(String, String)>,
}

impl Remotes {
    /// Settings from the environment.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| var(name)?.into_string().ok();
        let user = var("XDG_CACHE_HOME").map(PathBuf::from);
        let user = user.or_else(|| Some(std::env::home_dir()?.join(".cache"))).unwrap_or_else(std::env::temp_dir);
        let hub_cache = var("HF_HOME").map_or_else(|| user.join("huggingface"), PathBuf::from).join("hub");
        Self {
            hub_endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            hub_token: text("HF_TOKEN").or_else(|| hf_hub::Cache::new(hub_cache.clone()).token()),
            hub_cache,
            cache: var("NEUROQL_CACHE").map_or_else(|| user.join("neuroql"), PathBuf::from),
            options: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix)))
                .collect(),
        }
    }

    /// Fetches the files of a model as [`fetch`] does, with these settings.
    ///
    /// # Errors
    /// Errors of [`fetch`].
    pub fn fetch(&self, location: &str, tokenizer: Option<&str>, progress: &dyn Progress) -> Result<Files> {
        self.fetch_checked(location, tokenizer, progress, &|_| Ok(()))
    }

    /// Does the same, and shows `config.json` to `check` before it fetches weights.
    ///
    /// # Errors
    /// Errors of [`fetch`] and of `check`.
    pub(crate) fn fetch_checked(
        &self,
        location: &str,
        tokenizer: Option<&str>,
        progress: &dyn Progress,
        check: &dyn Fn(&serde_json::Value) -> Result<()>,
    ) -> Result<Files> {
        let (mut folder, file) = self.open(location, progress)?;
        let mut files = Files { location: location.into(), revision: folder.revision(), ..Files::default() };
        files.tokenizer = tokenizer.map(|tokenizer| self.tokenizer(tokenizer, progress)).transpose()?;
        // Small files first: faults in them show before gigabytes are downloaded.
        let gguf = file.as_deref().is_some_and(|file| extension(file) == "gguf");
        if !gguf {
            files.config = folder.get("config.json")?;
            if files.tokenizer.is_none() {
                files.tokenizer = tokenizer_in(&mut *folder)?;
            }
        }
        files.weights = match &file {
            Some(file) if is_weights(file) => vec![folder.get(file)?.ok_or_else(|| nothing(location))?],
            Some(file) => {
                return Err(Error::Location {
                    location: location.into(),
                    reason: format!("{file} is no weight file: .gguf, .safetensors, .pth, .pt or .bin"),
                });
            }
            None => {
                let config = files.config.as_deref().map(read_json).transpose()?.unwrap_or_default();
                // A GGUF file has a configuration of its own, and an adapter is refused as one.
                let other = |name: &String| extension(name) == "gguf" || name == "adapter_config.json";
                if files.config.is_some() && !folder.names().is_some_and(|names| names.iter().any(other)) {
                    check(&config)?;
                }
                weights_in(&mut *folder, location, config["transformers_weights"].as_str())?
            }
        };
        let gguf = files.weights.iter().any(|file| extension(&file.to_string_lossy()) == "gguf");
        if gguf && file.is_none() && tokenizer.is_none() {
            files.tokenizer = None;
        }
        if !gguf && files.config.is_none() {
            return Err(Error::MissingFile { location: location.into(), wanted: "config.json".into() });
        }
        // The HookedTransformer repositories of the hub have no tokenizer and name the repository of theirs.
        if !gguf
            && files.tokenizer.is_none()
            && location.starts_with("hf://")
            && let Some(config) = files.config.as_deref().and_then(|config| read_json(config).ok())
            && let Some(name) = config["tokenizer_name"].as_str()
        {
            files.tokenizer = Some(self.tokenizer(&format!("hf://{name}"), progress)?);
        }
        if !gguf
            && files.tokenizer.is_none()
            && let Some(error) = other_tokenizer(&mut *folder)
        {
            return Err(error);
        }
        Ok(files)
    }

    /// Fetches one file of any kind.
    ///
    /// # Errors
    /// [`Error::Location`] if it does not exist, cannot be read or is a folder.
    pub fn fetch_file(&self, location: &str, progress: &dyn Progress) -> Result<PathBuf> {
        let (mut folder, file) = self.open(location, progress)?;
        let is_folder = || Error::Location { location: location.into(), reason: "it is a folder, not a file".into() };
        folder.get(&file.ok_or_else(is_folder)?)?.ok_or_else(|| nothing(location))
    }

    fn tokenizer(&self, location: &str, progress: &dyn Progress) -> Result<PathBuf> {
        let (mut folder, file) = self.open(location, progress)?;
        match file.as_deref() {
            None => match tokenizer_in(&mut *folder)? {
                Some(path) => Ok(path),
                None => Err(other_tokenizer(&mut *folder)
                    .unwrap_or_else(|| Error::MissingFile { location: location.into(), wanted: TOKENIZERS.into() })),
            },
            Some(file) => {
                let path = folder.get(file)?.ok_or_else(|| nothing(location))?;
                for companion in companions(file) {
                    folder.get(companion)?;
                }
                Ok(path)
            }
        }
    }

    /// Opens the folder that a location is or is in, and returns the name of the file if it is one.
    fn open<'a>(
        &'a self,
        location: &'a str,
        progress: &'a dyn Progress,
    ) -> Result<(Box<dyn Folder + 'a>, Option<String>)> {
        if let Some(rest) = location.strip_prefix("hf://") {
            return hub::open(self, location, rest, progress);
        }
        if !location.contains("://") {
            return Local::open(location, Path::new(location));
        }
        let failed = |reason: String| Error::Location { location: location.into(), reason };
        let url = Url::parse(location).map_err(|e| failed(e.to_string()))?;
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| failed("it names another host".into()))?;
            return Local::open(location, &path);
        }
        objects::open(self, location, &url, progress)
    }
}

/// A local or remote folder of files. Names are relative to it.
trait Folder {
    /// Names of the files directly in it; `None` if it cannot be listed.
    fn names(&self) -> Option<&[String]>;

    /// Fetches a file; `None` if there is none of this name.
    fn get(&mut self, name: &str) -> Result<Option<PathBuf>>;

    /// Revision of the hub's repository that it is of.
    fn revision(&self) -> Option<Revision> {
        None
    }
}

/// A local folder.
struct Local {
    path: PathBuf,
    names: Vec<String>,
}

impl Local {
    fn open<'a>(location: &str, path: &Path) -> Result<(Box<dyn Folder + 'a>, Option<String>)> {
        let failed = |reason: std::io::Error| Error::Location { location: location.into(), reason: reason.to_string() };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let (folder, file) = match path.file_name() {
            Some(name) if metadata.is_file() => {
                // A bare file name is in the current folder, whose path is "." and not empty.
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")), Some(name.to_string_lossy().into_owned()))
            }
            _ => (path, None),
        };
        let mut names = Vec::new();
        if file.is_none() {
            for entry in std::fs::read_dir(folder).map_err(failed)? {
                names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
            }
        }
        Ok((Box::new(Self { path: folder.to_owned(), names }), file))
    }
}

impl Folder for Local {
    fn names(&self) -> Option<&[String]> {
        Some(&self.names)
    }

    fn get(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.path.join(name);
        Ok(path.is_file().then_some(path))
    }
}

const TOKENIZERS: &str = "tokenizer.json, vocab.json with merges.txt, or vocab.txt";

/// Files of unsupported tokenizers, which are refused by name.
const OTHER_TOKENIZERS: [&str; 6] = [
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "tokenizer.tiktoken",
    "tiktoken.model",
];

/// Finds the tokenizer in a folder.
fn tokenizer_in(folder: &mut dyn Folder) -> Result<Option<PathBuf>> {
    for name in ["tokenizer.json", "vocab.json", "vocab.txt"] {
        if let Some(path) = folder.get(name)? {
            for companion in companions(name) {
                folder.get(companion)?;
            }
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Error of a folder with a tokenizer that this crate does not read, if it has one.
fn other_tokenizer(folder: &mut dyn Folder) -> Option<Error> {
    let name = OTHER_TOKENIZERS.into_iter().find(|name| matches!(folder.get(name), Ok(Some(_))))?;
    let supported = format!(
        "{TOKENIZERS} (saving it with transformers' AutoTokenizer makes a tokenizer.json; \
         the option tokenizer names one elsewhere)"
    );
    Some(Error::Unsupported { what: "tokenizer", value: name.into(), supported })
}

/// Names of files that belong to a tokenizer and must be beside it, if they exist.
fn companions(tokenizer: &str) -> &'static [&'static str] {
    match tokenizer {
        "vocab.json" => &["merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
        "tokenizer.json" => &["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
        _ => &["tokenizer_config.json"],
    }
}

/// Finds the weights in a folder: files that transformers would take, then other safetensors, TransformerLens, then
/// GGUF. `explicit` is the file that config.json names.
fn weights_in(folder: &mut dyn Folder, location: &str, explicit: Option<&str>) -> Result<Vec<PathBuf>> {
    let ending = |folder: &dyn Folder, ending: &str| -> Vec<String> {
        let mut names: Vec<_> = folder.names().unwrap_or_default().to_vec();
        names.retain(|name| name.ends_with(ending) && plain(name));
        names.sort();
        names
    };
    if folder.names().is_some_and(|names| names.iter().any(|name| name == "adapter_config.json")) {
        return Err(adapter("adapter_config.json"));
    }
    // A file wins over an index, which may be left over from an earlier save.
    let explicit = explicit.map(|name| if name.ends_with(".index.json") { ("", name) } else { (name, "") });
    let usual =
        [("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];
    for (single, index) in explicit.into_iter().chain(usual) {
        if plain(single)
            && let Some(path) = folder.get(single)?
        {
            return Ok(vec![path]);
        }
        if plain(index)
            && let Some(path) = folder.get(index)?
        {
            let missing = |shard: &str| Error::MissingFile {
                location: location.into(),
                wanted: format!("{shard}, which {index} names"),
            };
            return shards(&path)?.iter().map(|shard| folder.get(shard)?.ok_or_else(|| missing(shard))).collect();
        }
    }
    let others = ending(folder, ".safetensors");
    if !others.is_empty() {
        return safetensors_of(&others, location)?.iter().filter_map(|name| folder.get(name).transpose()).collect();
    }
    let hooked = ["model_final.pth".to_owned()].into_iter().chain(ending(folder, "final.pth"));
    for name in hooked.collect::<Vec<_>>() {
        if let Some(path) = folder.get(&name)? {
            return Ok(vec![path]);
        }
    }
    match ending(folder, ".gguf").as_slice() {
        [] => {}
        [name] => return Ok(folder.get(name)?.into_iter().collect()),
        several => {
            let reason = format!("it holds several GGUF files; name one of {}", several.join(", "));
            return Err(Error::Location { location: location.into(), reason });
        }
    }
    let wanted = "model.safetensors, model.safetensors.index.json, pytorch_model.bin, model_final.pth or .gguf file";
    Err(Error::MissingFile { location: location.into(), wanted: wanted.into() })
}

/// Finds the model in the safetensors files of a folder, none of which is named as in transformers: one alone, or all
/// parts of one.
fn safetensors_of(names: &[String], location: &str) -> Result<Vec<String>> {
    // `name-00001-of-00003.safetensors`
    let part = |name: &str| -> Option<(String, u32, u32)> {
        let (front, total) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (stem, number) = front.rsplit_once('-')?;
        Some((stem.to_owned(), number.parse().ok()?, total.parse().ok()?))
    };
    match names {
        [name] if name.starts_with("adapter") => return Err(adapter(name)),
        [name] if part(name).is_none() => return Ok(names.to_vec()),
        _ => {}
    }
    let parts: Option<Vec<_>> = names.iter().map(|name| part(name)).collect();
    match parts.as_deref() {
        Some(parts @ [(stem, _, total), ..]) if parts.iter().all(|(s, _, t)| s == stem && t == total) => {
            match (1..=*total).find(|number| parts.iter().all(|(_, n, _)| n != number)) {
                None => Ok(names.to_vec()),
                Some(number) => Err(Error::MissingFile {
                    location: location.into(),
                    wanted: format!("part {number} of {total} of {stem} (safetensors)"),
                }),
            }
        }
        _ => {
            let reason = format!(
                "it holds safetensors files of which none is called model.safetensors; name one of {}",
                names.join(", ")
            );
            Err(Error::Location { location: location.into(), reason })
        }
    }
}

/// Error of a folder with an adapter, which is a part of a model.
fn adapter(name: &str) -> Error {
    Error::Unsupported {
        what: "adapter",
        value: format!("{name} (PEFT)"),
        supported: "whole models: merge the adapter into its model (merge_and_unload) and save that".into(),
    }
}

/// Reads the names of the files in an index of shards, sorted.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let wrong = |reason: String| Error::Corrupt { file: index.to_owned(), format: "JSON", reason };
    let said = read_json(index)?;
    let map = said["weight_map"].as_object().filter(|map| !map.is_empty());
    map.ok_or_else(|| wrong("it has no weight_map".into()))?
        .values()
        .map(|name| match name.as_str() {
            Some(name) if plain(name) && is_weights(name) => Ok(name.to_owned()),
            _ => Err(wrong(format!("{name} is no name of a weight file"))),
        })
        .collect()
}

/// Returns true if an untrusted name is a plain file name, so that it stays in its folder.
fn plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

fn is_weights(name: &str) -> bool {
    matches!(extension(name).as_str(), "gguf" | "safetensors" | "pth" | "pt" | "bin")
}

fn extension(name: &str) -> String {
    Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn nothing(location: &str) -> Error {
    Error::Location { location: location.into(), reason: "there is no such file".into() }
}
