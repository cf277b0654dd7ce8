//! Typed access to a configuration, from JSON or GGUF metadata.

use std::collections::BTreeMap;

use candle_core::quantized::gguf_file::Value as GgufValue;
use serde_json::{Map, Value};

use crate::checkpoint::json::not_finite;
use crate::{Activation, Error, Result};

/// Settings: keys and scalar values; a JSON `null` counts as absent.
#[derive(Clone, Default)]
pub(super) struct Settings(Map<String, Value>);

impl Settings {
    pub fn from_json(json: &Value) -> Result<Self> {
        match json {
            Value::Object(map) => Ok(Self(map.clone())),
            _ => Err(Error::Config("config.json is not an object".into())),
        }
    }

    /// Makes settings of the scalars of a GGUF; `llama.block_count` becomes `block_count`, for every architecture.
    pub fn from_gguf(metadata: &BTreeMap<String, GgufValue>) -> Result<Self> {
        let architecture = match metadata.get("general.architecture") {
            Some(GgufValue::String(name)) => name.as_str(),
            _ => return Err(Error::Config("the GGUF does not name its general.architecture".into())),
        };
        let mut map = Map::new();
        for (key, value) in metadata {
            let key = key.strip_prefix(architecture).and_then(|k| k.strip_prefix('.')).unwrap_or(key);
            let value = match value {
                GgufValue::U8(v) => (*v).into(),
                GgufValue::I8(v) => (*v).into(),
                GgufValue::U16(v) => (*v).into(),
                GgufValue::I16(v) => (*v).into(),
                GgufValue::U32(v) => (*v).into(),
                GgufValue::I32(v) => (*v).into(),
                GgufValue::U64(v) => (*v).into(),
                GgufValue::I64(v) => (*v).into(),
                GgufValue::F32(v) => f64::from(*v).into(),
                GgufValue::F64(v) => (*v).into(),
                GgufValue::Bool(v) => (*v).into(),
                GgufValue::String(v) => v.as_str().into(),
                GgufValue::Array(_) => continue,
            };
            map.insert(key.to_owned(), value);
        }
        Ok(Self(map))
    }

    /// Returns a nested object, empty if it is absent.
    pub fn object(&self, key: &str) -> Result<Option<Self>> {
        match self.get(key) {
            None => Ok(None),
            Some(value @ Value::Object(map)) if not_finite(value).is_none() => Ok(Some(Self(map.clone()))),
            Some(other) => Err(wrong(key, "an object", other)),
        }
    }

    /// Returns a list of strings; `None` if it is absent.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| wrong(key, "a list of strings", value))
    }

    /// Returns a list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        let value = self.get(key).ok_or_else(|| missing(key))?;
        let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers.ok_or_else(|| wrong(key, "a list of numbers", value))
    }

    /// Returns a list of whole numbers or of true and false; `None` if it is absent.
    pub fn sizes(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = |value: &Value| match value {
            Value::Bool(flag) => Some(usize::from(*flag)),
            other => other.as_u64().and_then(|n| usize::try_from(n).ok()),
        };
        let sizes = value.as_array().and_then(|list| list.iter().map(size).collect());
        sizes.map(Some).ok_or_else(|| wrong(key, "a list of whole numbers", value))
    }

    /// Returns any value; `None` if it is absent.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.get(key)
    }

    /// Keys, null ones too.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    pub fn remove(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.0.remove(*key)));
    }

    /// Sets the keys of another object.
    pub fn update(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a key that holds an object, if there is one.
    pub fn nested(&self) -> Option<&str> {
        self.0.iter().find(|(_, value)| value.is_object() && not_finite(value).is_none()).map(|(key, _)| key.as_str())
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns true if the key is there, even with `null`.
    pub fn names(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        self.size_of(key)?.ok_or_else(|| missing(key))
    }

    pub fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.size_of(key)?.unwrap_or(default))
    }

    pub fn number(&self, key: &str) -> Result<f64> {
        if self.has(key) { self.number_or(key, 0.0) } else { Err(missing(key)) }
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|x| x.is_finite()).ok_or_else(|| wrong(key, "a number", v)),
        }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| wrong(key, "true or false", v)),
        }
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        match self.get(key) {
            None => Err(missing(key)),
            Some(v) => v.as_str().ok_or_else(|| wrong(key, "a string", v)),
        }
    }

    pub fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str> {
        if self.has(key) { self.text(key) } else { Ok(default) }
    }

    /// Returns the activation function of a Hugging Face configuration; refuses those that are not elementwise.
    pub fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        let name = self.text_or(key, default)?;
        match name.parse()? {
            Activation::Solu | Activation::SoluLn | Activation::ClampedSwiglu { .. } => Err(Error::Unsupported {
                what: "activation function",
                value: name.into(),
                supported:
                    "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, quick_gelu, relu, silu (swish) in this architecture"
                        .into(),
            }),
            activation => Ok(activation),
        }
    }

    /// Refuses a key that changes the network in a way that the forward pass does not implement.
    pub fn refuse(&self, key: &str) -> Result<()> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(v) => Err(Error::Unsupported {
                what: "model configuration",
                value: format!("{key} = {v}"),
                supported: format!("models without {key}"),
            }),
        }
    }

    fn size_of(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(wrong(key, "a whole number", v)),
            },
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }
}

fn missing(key: &str) -> Error {
    Error::Config(format!("{key} is missing"))
}

fn wrong(key: &str, expected: &str, found: &Value) -> Error {
    let found = not_finite(found).map_or_else(|| found.to_string(), str::to_owned);
    Error::Config(format!("{key} is {found}, expected {expected}"))
}
