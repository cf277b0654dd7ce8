//! Options of registering a model.

use std::collections::BTreeMap;

use crate::{DeviceName, Error, NumberType, Result, Site, SiteName};

/// Options of a model; each has a default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Device: `cpu`, `cuda`, `cuda:N`.
    pub device: Option<DeviceName>,
    /// Number type of weights: `f32`, `bf16`, `f16`.
    pub dtype: Option<NumberType>,
    /// Site at which neurons are read.
    pub site: Option<Site>,
    /// The only layer to read; `None` for all. The option `site` says it by a full hook name.
    pub layer: Option<usize>,
    /// Greatest number of tokens of an example, BOS not counted.
    pub window: Option<usize>,
    /// Location of a tokenizer to use instead of the checkpoint's.
    pub tokenizer: Option<String>,
    /// True if BOS is prepended to every example.
    pub bos: Option<bool>,
}

impl Options {
    /// Names of all options.
    pub const NAMES: [&str; 6] = ["device", "dtype", "site", "window", "tokenizer", "bos"];

    /// Parses options by name; names are case-insensitive.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an unknown name or a value that does not parse, [`Error::Unsupported`] for an
    /// unknown device or number type.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self> {
        let pairs: BTreeMap<String, String> =
            pairs.into_iter().map(|(k, v)| (k.as_ref().to_ascii_lowercase(), v.as_ref().to_owned())).collect();
        let mut options = Self::default();
        for (name, value) in pairs {
            let invalid = |reason: String| Error::InvalidOption { option: name.clone(), reason };
            match name.as_str() {
                "device" => options.device = Some(value.parse()?),
                "dtype" => options.dtype = Some(value.parse()?),
                "site" => {
                    let name: SiteName = value.parse()?;
                    (options.site, options.layer) = (Some(name.site), name.layer);
                }
                "window" => match value.parse() {
                    Ok(window) if window > 0 => options.window = Some(window),
                    _ => return Err(invalid(format!("\"{value}\" is not a positive whole number of tokens"))),
                },
                "tokenizer" => options.tokenizer = Some(value),
                "bos" => match value.to_ascii_lowercase().as_str() {
                    "true" | "on" | "yes" | "1" => options.bos = Some(true),
                    "false" | "off" | "no" | "0" => options.bos = Some(false),
                    _ => return Err(invalid(format!("\"{value}\" is neither true nor false"))),
                },
                _ => return Err(invalid(format!("unknown; options of a model are {}", Self::NAMES.join(", ")))),
            }
        }
        Ok(options)
    }
}
