//! Safetensors files: a JSON header, then the tensors back to back.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{Bytes, Stored, TensorSource, corrupt, elements, floats, guarded, no_tensor};
use crate::{Error, Result};

const FORMAT: &str = "safetensors";

/// One safetensors file.
pub(super) struct Safetensors {
    file: PathBuf,
    bytes: Bytes,
    tensors: BTreeMap<String, Info>,
}

struct Info {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Safetensors {
    /// Checks the header against the length of the file.
    pub(super) fn open(file: &Path, bytes: Bytes) -> Result<Self> {
        let tensors = guarded(file, FORMAT, || {
            // The crate checks that the tensors fill the file exactly and that no size overflows.
            let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| corrupt(file, FORMAT, e))?;
            let data = header + 8;
            unique_keys(&bytes[8..data]).map_err(|e| corrupt(file, FORMAT, e))?;
            let mut tensors = BTreeMap::new();
            for (name, info) in metadata.tensors() {
                let (start, end) = info.data_offsets;
                if elements(&info.shape).is_none() {
                    return Err(corrupt(file, FORMAT, format!("tensor \"{name}\" has an impossible shape")));
                }
                tensors.insert(
                    name,
                    Info { dtype: info.dtype, shape: info.shape.clone(), range: data + start..data + end },
                );
            }
            Ok(tensors)
        })?;
        Ok(Self { file: file.to_owned(), bytes, tensors })
    }
}

impl TensorSource for Safetensors {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape.clone())
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.tensors.get(name).ok_or_else(|| no_tensor(name))?;
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            other => {
                return Err(Error::Unsupported {
                    what: "tensor type",
                    value: format!("{other:?} (tensor {name} of {})", self.file.display()),
                    supported: "F64, F32, F16, BF16".into(),
                });
            }
        };
        let tensor = floats(&self.bytes[info.range.clone()], dtype, &info.shape);
        self.bytes.release(&info.range);
        tensor
    }

    fn stored(&self, name: &str) -> Option<Stored<'_>> {
        let info = self.tensors.get(name)?;
        Some(Stored {
            file: &self.file,
            dtype: format!("{:?}", info.dtype),
            bytes: &self.bytes,
            range: info.range.clone(),
        })
    }
}

/// Refuses a header that names a tensor twice, which readers resolve differently.
fn unique_keys(header: &[u8]) -> Result<(), serde_json::Error> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a map of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                if let Some(twice) = seen.replace(key) {
                    return Err(A::Error::custom(format!("tensor \"{twice}\" occurs twice")));
                }
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_slice(header).deserialize_map(Keys)
}
