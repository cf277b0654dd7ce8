//! GGUF: typed metadata, a table of tensors, then aligned tensor data.
//!
//! The header is parsed here and not by candle, whose parser panics on an alignment of 0 and on overflowing shapes,
//! keeps the last of two tensors of one name, and reports an unknown tensor type by number only. Blocks are
//! dequantised by candle, those of MXFP4 by [`mxfp4`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::{Bytes, TensorSource, corrupt, elements, floats, guarded, mxfp4, no_tensor};
use crate::{Error, Result};

const FORMAT: &str = "GGUF";
/// Greatest number of metadata values with array elements: one takes 32 bytes in memory and as little as 1 in the file.
const MAX_VALUES: usize = 1 << 24;
/// Greatest nesting of arrays; real files have none.
const MAX_DEPTH: usize = 4;
const MAX_DIMS: usize = 4;

/// Metadata of a GGUF file by key.
pub(super) type Metadata = BTreeMap<String, Value>;

/// One GGUF file.
pub(super) struct Gguf {
    file: PathBuf,
    bytes: Bytes,
    tensors: BTreeMap<String, Info>,
}

struct Info {
    storage: Storage,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// The format of a tensor's numbers.
#[derive(Clone, Copy)]
enum Storage {
    /// In a type that candle reads.
    Candle(GgmlDType),
    Mxfp4,
}

impl Storage {
    /// Number of elements of a block.
    fn block_size(self) -> usize {
        match self {
            Self::Candle(dtype) => dtype.block_size(),
            Self::Mxfp4 => mxfp4::ELEMENTS,
        }
    }

    /// Number of bytes of a block.
    fn type_size(self) -> usize {
        match self {
            Self::Candle(dtype) => dtype.type_size(),
            Self::Mxfp4 => mxfp4::BYTES,
        }
    }
}

impl Gguf {
    /// Parses the header and checks it against the length of the file.
    pub(super) fn open(file: &Path, bytes: Bytes) -> Result<(Metadata, Self)> {
        let mut reader = Reader { file, bytes: &bytes, at: 0, wide: true, values: 0 };
        let (metadata, tensors) = reader.header()?;
        if let Some(count) = metadata.get("split.count").and_then(integer).filter(|&count| count > 1) {
            return Err(Error::Unsupported {
                what: "GGUF file",
                value: format!("part of {count}"),
                supported: "a single file (merge the parts with llama-gguf-split --merge)".into(),
            });
        }
        Ok((metadata, Self { file: file.to_owned(), bytes, tensors }))
    }
}

impl TensorSource for Gguf {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape.clone())
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.tensors.get(name).ok_or_else(|| no_tensor(name))?;
        let bytes = &self.bytes[info.range.clone()];
        let tensor = match info.storage {
            Storage::Mxfp4 => Ok(Tensor::from_vec(mxfp4::dequantised(bytes), info.shape.as_slice(), &Device::Cpu)?),
            Storage::Candle(GgmlDType::F32) => floats(bytes, DType::F32, &info.shape),
            Storage::Candle(GgmlDType::F16) => floats(bytes, DType::F16, &info.shape),
            Storage::Candle(GgmlDType::BF16) => floats(bytes, DType::BF16, &info.shape),
            // `from_data` wants blocks aligned to at most 4 bytes: a mapping starts on a page and tensors are
            // aligned to at least 8 within it.
            Storage::Candle(quantised) => guarded(&self.file, FORMAT, || {
                let blocks = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, quantised)?;
                Ok(QTensor::new(blocks, info.shape.as_slice())?.dequantize(&Device::Cpu)?)
            }),
        };
        self.bytes.release(&info.range);
        tensor
    }
}

/// Returns an integer of any width.
pub(super) fn integer(value: &Value) -> Option<u64> {
    match *value {
        Value::U8(v) => Some(v.into()),
        Value::U16(v) => Some(v.into()),
        Value::U32(v) => Some(v.into()),
        Value::U64(v) => Some(v),
        Value::I8(v) => v.try_into().ok(),
        Value::I16(v) => v.try_into().ok(),
        Value::I32(v) => v.try_into().ok(),
        Value::I64(v) => v.try_into().ok(),
        _ => None,
    }
}

/// Reader of a file; every read is checked against its end.
struct Reader<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    at: usize,
    /// True if lengths take 8 bytes, as in all versions but the first.
    wide: bool,
    /// Number of metadata values read so far.
    values: usize,
}

impl<'a> Reader<'a> {
    fn header(&mut self) -> Result<(Metadata, BTreeMap<String, Info>)> {
        if self.take(4)? != b"GGUF" {
            return Err(self.wrong("it does not begin with GGUF"));
        }
        let version = self.u32()?;
        self.wide = match version {
            1 => false,
            2 | 3 => true,
            _ => return Err(self.wrong(format!("version {version} is none of 1, 2, 3"))),
        };
        let (tensor_count, value_count) = (self.length()?, self.length()?);
        let mut metadata = Metadata::new();
        for _ in 0..value_count {
            let (key, kind) = (self.string()?, self.u32()?);
            let value = self.value(kind, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.wrong(format!("metadata key \"{key}\" occurs twice")));
            }
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, info) = self.tensor()?;
            if tensors.contains_key(&name) {
                return Err(self.wrong(format!("tensor \"{name}\" occurs twice")));
            }
            tensors.insert(name, info);
        }
        self.place(&metadata, &mut tensors)?;
        Ok((metadata, tensors))
    }

    /// Turns offsets into ranges of the file, once it is known where the data begins.
    fn place(&self, metadata: &Metadata, tensors: &mut BTreeMap<String, Info>) -> Result<()> {
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(value) => match integer(value).and_then(|value| usize::try_from(value).ok()) {
                Some(alignment) if alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment) => alignment,
                _ => return Err(self.wrong(format!("general.alignment is {value:?}"))),
            },
        };
        let data = self.at.next_multiple_of(alignment);
        for (name, info) in tensors.iter_mut() {
            let range = info.range.start.checked_add(data).zip(info.range.end.checked_add(data));
            match range {
                Some((start, end)) if end <= self.bytes.len() && info.range.start.is_multiple_of(alignment) => {
                    info.range = start..end;
                }
                _ => return Err(self.wrong(format!("tensor \"{name}\" lies outside the file"))),
            }
        }
        let mut ranges: Vec<_> = tensors.iter().map(|(name, info)| (info.range.start, info.range.end, name)).collect();
        ranges.sort_unstable();
        match ranges.array_windows().find(|[a, b]| a.1 > b.0) {
            Some([a, b]) => Err(self.wrong(format!("tensors \"{}\" and \"{}\" overlap", a.2, b.2))),
            None => Ok(()),
        }
    }

    /// Reads a row of the tensor table; its range is still relative to the tensor data.
    fn tensor(&mut self) -> Result<(String, Info)> {
        let (name, dims) = (self.string()?, self.u32()? as usize);
        if dims > MAX_DIMS {
            return Err(self.wrong(format!("tensor \"{name}\" has {dims} dimensions, more than {MAX_DIMS}")));
        }
        let mut shape = Vec::with_capacity(dims);
        for _ in 0..dims {
            let dim = if self.wide { self.u64()? } else { self.u32()?.into() };
            shape.push(usize::try_from(dim).map_err(|_| self.wrong(format!("tensor \"{name}\" is too large")))?);
        }
        shape.reverse(); // the file lists the innermost dimension first
        let storage = self.u32()?;
        let storage = storage_of(storage).map_err(|value| Error::Unsupported {
            what: "tensor type",
            value: format!("{value} (tensor {name} of {})", self.file.display()),
            supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K, MXFP4"
                .into(),
        })?;
        let offset = self.u64()?;
        let range = || {
            // Rows are whole blocks.
            let row = shape.last().copied().unwrap_or(1);
            let blocks = row.is_multiple_of(storage.block_size()).then(|| elements(&shape))?? / storage.block_size();
            let (start, size) = (usize::try_from(offset).ok()?, blocks.checked_mul(storage.type_size())?);
            Some(start..start.checked_add(size)?)
        };
        let range = range().ok_or_else(|| self.wrong(format!("tensor \"{name}\" has an impossible size")))?;
        Ok((name, Info { storage, shape, range }))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(format!("more than {MAX_VALUES} metadata values")));
        }
        Ok(match kind {
            0 => Value::U8(self.take(1)?[0]),
            1 => Value::I8(self.take(1)?[0] as i8),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.take(1)?[0] != 0),
            8 => Value::String(self.string()?),
            9 if depth < MAX_DEPTH => {
                let (kind, length) = (self.u32()?, self.length()?);
                // No capacity is reserved by the length in the file: a false one fails at the end of the file.
                let mut values = Vec::new();
                for _ in 0..length {
                    values.push(self.value(kind, depth + 1)?);
                }
                Value::Array(values)
            }
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            9 => return Err(self.wrong("arrays are nested too deeply")),
            _ => return Err(self.wrong(format!("metadata type {kind} is unknown"))),
        })
    }

    fn string(&mut self) -> Result<String> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        // Writers that end strings with NUL or cut characters in half occur, so neither is refused.
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn length(&mut self) -> Result<usize> {
        let length = if self.wide { self.u64()? } else { self.u32()?.into() };
        usize::try_from(length).map_err(|_| self.wrong(format!("a length of {length}")))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.wrong(format!("it ends at byte {}, within its header", self.bytes.len())))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> Error {
        corrupt(self.file, FORMAT, reason)
    }
}

/// Storage of a tensor by the number of its type in ggml's table, or the name of a type that is not read.
fn storage_of(code: u32) -> Result<Storage, String> {
    Ok(Storage::Candle(match code {
        39 => return Ok(Storage::Mxfp4),
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => {
            const OTHERS: [(u32, &str); 18] = [
                (16, "IQ2_XXS"),
                (17, "IQ2_XS"),
                (18, "IQ3_XXS"),
                (19, "IQ1_S"),
                (20, "IQ4_NL"),
                (21, "IQ3_S"),
                (22, "IQ2_S"),
                (23, "IQ4_XS"),
                (24, "I8"),
                (25, "I16"),
                (26, "I32"),
                (27, "I64"),
                (28, "F64"),
                (29, "IQ1_M"),
                (34, "TQ1_0"),
                (35, "TQ2_0"),
                (40, "NVFP4"),
                (41, "Q1_0"),
            ];
            let name = OTHERS.iter().find(|(number, _)| *number == code);
            return Err(name.map_or_else(|| format!("number {code}"), |(_, name)| name.to_string()));
        }
    }))
}
