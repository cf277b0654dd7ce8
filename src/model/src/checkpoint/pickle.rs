//! PyTorch checkpoints: a zip of raw storages and a pickle with the layout of tensors in them.
//!
//! The pickle is run as data by [`machine`]; the few calls that make tensors are recognised here and never made.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::{Bytes, TensorSource, corrupt, elements, floats, guarded, no_tensor};
use crate::Result;

mod machine;
use machine::{Id, Machine, Step, Value};

const FORMAT: &str = "PyTorch";
/// Keys under which training scripts keep the weights.
const STATE_DICTS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// One `.pth`, `.pt` or `.bin` file.
pub(super) struct Pickle {
    bytes: Bytes,
    tensors: BTreeMap<String, Info>,
}

struct Info {
    dtype: DType,
    shape: Vec<usize>,
    /// Strides: steps between neighbours along each dimension, in elements.
    strides: Vec<usize>,
    /// Bytes of the file from the first element of the tensor to the end of its storage.
    range: Range<usize>,
}

impl Pickle {
    /// Finds the float tensors of a state dict; buffers of other types (attention masks, position ids) are left out.
    pub(super) fn open(file: &Path, bytes: Bytes) -> Result<Self> {
        let archive = guarded(file, FORMAT, || Archive::open(file, &bytes))?;
        let pickle = &bytes[archive.pickle.clone()];
        let machine = Machine::run(pickle).map_err(|reason| corrupt(file, FORMAT, format!("data.pkl: {reason}")))?;
        let mut tensors = BTreeMap::new();
        for (name, value) in machine.state_dict() {
            let info = machine
                .tensor(value, &archive)
                .map_err(|reason| corrupt(file, FORMAT, format!("tensor \"{name}\": {reason}")))?;
            if let Some(info) = info
                && tensors.insert(name.to_owned(), info).is_some()
            {
                return Err(corrupt(file, FORMAT, format!("tensor \"{name}\" occurs twice")));
            }
        }
        if tensors.is_empty() {
            return Err(corrupt(file, FORMAT, "it holds no state dict of float tensors"));
        }
        Ok(Self { bytes, tensors })
    }
}

impl TensorSource for Pickle {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape.clone())
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.tensors.get(name).ok_or_else(|| no_tensor(name))?;
        let (storage, width) = (&self.bytes[info.range.clone()], info.dtype.size_in_bytes());
        let count = info.shape.iter().product::<usize>();
        let tensor = if contiguous(info) {
            floats(&storage[..count * width], info.dtype, &info.shape)
        } else {
            // A transposed or sliced view was saved: gather it, the last dimension running fastest.
            let (mut gathered, mut index) = (Vec::with_capacity(count * width), vec![0; info.shape.len()]);
            for _ in 0..count {
                let at = index.iter().zip(&info.strides).map(|(i, stride)| i * stride).sum::<usize>() * width;
                gathered.extend_from_slice(&storage[at..at + width]);
                for (i, &dim) in index.iter_mut().zip(&info.shape).rev() {
                    *i += 1;
                    if *i < dim {
                        break;
                    }
                    *i = 0;
                }
            }
            floats(&gathered, info.dtype, &info.shape)
        };
        self.bytes.release(&info.range);
        tensor
    }
}

/// Returns true if the elements are contiguous in the order of the shape; strides of dimensions of size 1 do not count.
fn contiguous(info: &Info) -> bool {
    let mut expected = 1;
    info.shape.contains(&0)
        || info.shape.iter().zip(&info.strides).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == expected;
            expected *= dim; // at most the number of elements, which was checked
            fits
        })
}

/// Ranges in the file of the parts of the zip.
struct Archive {
    pickle: Range<usize>,
    /// Raw storages by key.
    storages: HashMap<String, Range<usize>>,
}

impl Archive {
    fn open(file: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: String| corrupt(file, FORMAT, reason);
        if !bytes.starts_with(b"PK") {
            return Err(wrong(
                "it is no zip archive (files of torch before 1.6 must be saved again by a newer one)".into(),
            ));
        }
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| wrong(e.to_string()))?;
        if zip.has_duplicate_names() {
            return Err(wrong("two entries of the archive have one name".into()));
        }
        let (mut pickle, mut storages) = (None, HashMap::new());
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(|e| wrong(e.to_string()))?;
            let name = entry.name().map_err(|e| wrong(e.to_string()))?.into_owned();
            // torch names everything `<archive>/data.pkl`, `<archive>/data/<key>`, `<archive>/byteorder`, …
            let Some((_, name)) = name.split_once('/') else { continue };
            let key = name.strip_prefix("data/");
            if key.is_none() && !matches!(name, "data.pkl" | "byteorder") {
                continue;
            }
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                return Err(wrong(format!("entry {name} is compressed or encrypted, which torch never does")));
            }
            let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
            let range = start
                .zip(usize::try_from(entry.size()).ok())
                .and_then(|(start, size)| Some(start..start.checked_add(size).filter(|&end| end <= bytes.len())?));
            let range = range.ok_or_else(|| wrong(format!("entry {name} lies outside the file")))?;
            match key {
                Some(key) => drop(storages.insert(key.to_owned(), range)),
                None if name == "byteorder" && &bytes[range.clone()] != b"little" => {
                    return Err(wrong("its numbers are big-endian".into()));
                }
                None if name == "data.pkl" => pickle = Some(range),
                None => {}
            }
        }
        Ok(Self { pickle: pickle.ok_or_else(|| wrong("the archive has no data.pkl".into()))?, storages })
    }
}

/// Interpretation of the result of a pickle, as in torch.
impl<'a> Machine<'a> {
    /// Names and values of the state dict: the result itself, or a dict within it under a usual key.
    fn state_dict(&self) -> Vec<(&'a str, Id)> {
        let named = |id: Id| -> Vec<(&'a str, Id)> {
            let Value::Dict(items) = &self.values[id] else { return Vec::new() };
            let text = |&(key, value): &(Id, Id)| match self.values[key] {
                Value::Text(key) => Some((key, value)),
                _ => None,
            };
            items.iter().filter_map(text).collect()
        };
        let items = self.stack.last().map(|&id| named(id)).unwrap_or_default();
        let inner = STATE_DICTS.iter().find_map(|wanted| {
            let (_, id) = items.iter().find(|(key, _)| key == wanted)?;
            Some(named(*id)).filter(|items| !items.is_empty())
        });
        inner.unwrap_or(items)
    }

    /// Tensor of a value; `None` for other values and for tensors that are not floats.
    fn tensor(&self, mut id: Id, archive: &Archive) -> Step<Option<Info>> {
        // A parameter or a subclass wraps the call that makes the tensor; each iteration unwraps one.
        for _ in 0..4 {
            let Value::Call(callable, arguments) = self.values[id] else { return Ok(None) };
            let (Value::Global(module, name), Value::Tuple(arguments)) =
                (&self.values[callable], &self.values[arguments])
            else {
                return Ok(None);
            };
            match (*module, *name, arguments.as_slice()) {
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => id = *data,
                ("torch._tensor", "_rebuild_from_type_v2", [callable, _, inner, ..]) => {
                    return match (&self.values[*callable], &self.values[*inner]) {
                        (Value::Global("torch._utils", "_rebuild_tensor_v2"), Value::Tuple(inner)) => {
                            self.rebuild(inner, archive)
                        }
                        _ => Ok(None),
                    };
                }
                ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor", arguments) => {
                    return self.rebuild(arguments, archive);
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Reads the tensor of the arguments of a rebuilding call: storage, offset into it, size, stride, …
    fn rebuild(&self, arguments: &[Id], archive: &Archive) -> Step<Option<Info>> {
        let [storage, offset, size, stride, ..] = arguments else { return Err("it is made of too little".into()) };
        let Value::Persistent(storage) = self.values[*storage] else { return Err("it has no storage".into()) };
        // ("storage", type, key, device, number of elements)
        let Value::Tuple(storage) = &self.values[storage] else { return Err("its storage is no tuple".into()) };
        let [_, kind, key, ..] = storage.as_slice() else { return Err("its storage is too short".into()) };
        let (Value::Global(_, kind), Value::Text(key)) = (&self.values[*kind], &self.values[*key]) else {
            return Err("its storage has no type or key".into());
        };
        let dtype = match *kind {
            "FloatStorage" => DType::F32,
            "HalfStorage" => DType::F16,
            "BFloat16Storage" => DType::BF16,
            "DoubleStorage" => DType::F64,
            _ => return Ok(None),
        };
        let (shape, strides) = (self.sizes(*size)?, self.sizes(*stride)?);
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err("size and stride do not fit each other".into());
        }
        let range = archive.storages.get(*key).ok_or_else(|| format!("storage {key} is not in the archive"))?;
        let width = dtype.size_in_bytes();
        let start = self.size(*offset)?.checked_mul(width).and_then(|skip| range.start.checked_add(skip));
        let start = start.filter(|&start| start <= range.end).ok_or("it begins outside its storage")?;
        let available = (range.end - start) / width;
        let count = elements(&shape).filter(|&count| count <= available).ok_or("it is larger than its storage")?;
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(0usize, |last, (&dim, stride)| last.checked_add(dim.saturating_sub(1).checked_mul(*stride)?));
        if count > 0 && last.is_none_or(|last| last >= available) {
            return Err("it reaches beyond its storage".into());
        }
        Ok(Some(Info { dtype, shape, strides, range: start..range.end }))
    }

    fn sizes(&self, id: Id) -> Step<Vec<usize>> {
        match &self.values[id] {
            Value::Tuple(items) | Value::List(items) => items.iter().map(|&id| self.size(id)).collect(),
            _ => Err("a size is no tuple".into()),
        }
    }

    fn size(&self, id: Id) -> Step<usize> {
        match self.values[id] {
            Value::Integer(value) => usize::try_from(value).map_err(|_| format!("{value} is no size")),
            _ => Err("a size is no integer".into()),
        }
    }
}
