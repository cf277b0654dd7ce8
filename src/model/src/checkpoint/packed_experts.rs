//! Experts of gpt-oss in MXFP4, as Hugging Face stores them: `{name}_blocks` and `{name}_scales` in the place of `name`.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::{Stored, TensorSource, elements, mxfp4, no_tensor};
use crate::{Error, Result};

const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";
/// Endings of the names of the matrices that may be in MXFP4.
const MATRICES: [&str; 2] = [".mlp.experts.gate_up_proj", ".mlp.experts.down_proj"];

/// Returns true if a `config.json` says that experts are in MXFP4. Of the other keys of its `quantization_config`, none
/// changes a number: transformers dequantises what is packed, whatever `modules_to_not_convert` lists.
pub(crate) fn has_packed_experts(config: &Value) -> bool {
    let said = &config["quantization_config"];
    // transformers takes either flag as bitsandbytes, whatever the method.
    let other = ["load_in_4bit", "load_in_8bit"].iter().any(|key| said[*key] == true);
    config["model_type"] == "gpt_oss" && said["quant_method"] == "mxfp4" && !other
}

/// Weights of which the packed ones are dequantised when they are read, under the name that they have without
/// quantisation. What is not packed is read as it is.
pub(super) struct PackedExperts {
    source: Box<dyn TensorSource>,
    /// Shapes of the packed matrices, dequantised: `[experts, in, out]`.
    shapes: BTreeMap<String, Vec<usize>>,
}

impl PackedExperts {
    /// Pairs blocks with scales and checks types and shapes of both.
    ///
    /// # Errors
    /// [`Error::Weights`] for blocks without scales, scales without blocks, other types or shapes than those of MXFP4, and
    /// tensors that are packed and no matrices of experts.
    pub(super) fn open(source: Box<dyn TensorSource>) -> Result<Self> {
        let mut shapes = BTreeMap::<String, Vec<usize>>::new();
        for stored in source.names() {
            let name = [BLOCKS, SCALES].into_iter().find_map(|ending| stored.strip_suffix(ending));
            let Some(name) = name.filter(|name| !shapes.contains_key(*name)) else { continue };
            if !MATRICES.iter().any(|matrix| name.ends_with(matrix)) {
                let place = place(source.as_ref(), &stored);
                let reason = format!("is {place}; mxfp4 is expected of {} alone", MATRICES.join(" and "));
                return Err(Error::Weights { tensor: stored, reason });
            }
            let shape = checked(source.as_ref(), name)?;
            shapes.insert(name.to_owned(), shape);
        }
        Ok(Self { source, shapes })
    }
}

impl TensorSource for PackedExperts {
    fn names(&self) -> Vec<String> {
        let packed = |name: &String| {
            let base = [BLOCKS, SCALES].into_iter().find_map(|ending| name.strip_suffix(ending));
            base.is_some_and(|base| self.shapes.contains_key(base))
        };
        let mut names = self.source.names();
        names.retain(|name| !packed(name));
        names.extend(self.shapes.keys().cloned());
        names.sort_unstable();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.shapes.get(name).cloned().or_else(|| self.source.shape(name))
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let Some(shape) = self.shapes.get(name) else { return self.source.read(name) };
        let stored = |ending: &str| {
            let name = format!("{name}{ending}");
            self.source.stored(&name).ok_or_else(|| no_tensor(&name))
        };
        let (blocks, scales) = (stored(BLOCKS)?, stored(SCALES)?);
        let (rows, groups) = (shape[2], shape[1] / mxfp4::ELEMENTS);
        let values = mxfp4::transposed(blocks.bytes(), scales.bytes(), (rows, groups));
        [blocks, scales].iter().for_each(Stored::release);
        Ok(Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)
    }
}

/// Checks the blocks and scales of a matrix, of which at least one exists, and returns its shape.
fn checked(source: &dyn TensorSource, name: &str) -> Result<Vec<usize>> {
    let (blocks, scales) = (format!("{name}{BLOCKS}"), format!("{name}{SCALES}"));
    let wrong = |tensor: &str, reason: String| Err(Error::Weights { tensor: tensor.to_owned(), reason });
    let missing = |tensor: &str, shape: &str, other: &str| {
        wrong(
            tensor,
            format!("missing from the checkpoint; expected U8 {shape} beside {other} {}", found(source, other)),
        )
    };
    if source.shape(name).is_some() {
        return wrong(name, format!("is {} beside {blocks} or {scales}; expected one of them", place(source, name)));
    }
    match (source.shape(&blocks), source.shape(&scales)) {
        (None, _) => missing(&blocks, "[experts, rows, groups, 16]", &scales),
        (_, None) => missing(&scales, "[experts, rows, groups]", &blocks),
        (Some(of_blocks), Some(of_scales)) => {
            let &[experts, rows, groups, mxfp4::CODES] = of_blocks.as_slice() else {
                let reason = "blocks of mxfp4 are U8 [experts, rows, groups, 16]";
                return wrong(&blocks, format!("is {}; {reason}", found(source, &blocks)));
            };
            if !is_bytes(source, &blocks) {
                return wrong(&blocks, format!("is {}; blocks of mxfp4 are U8", found(source, &blocks)));
            }
            if of_scales != [experts, rows, groups] || !is_bytes(source, &scales) {
                let reason = format!("its blocks ask for U8 {:?}", [experts, rows, groups]);
                return wrong(&scales, format!("is {}; {reason}", found(source, &scales)));
            }
            // With a dimension of 0, blocks fit into a file whatever their other dimensions are.
            let shape = vec![experts, groups.saturating_mul(mxfp4::ELEMENTS), rows];
            match elements(&shape) {
                Some(_) => Ok(shape),
                None => wrong(&blocks, format!("is {}; that is impossible", found(source, &blocks))),
            }
        }
    }
}

fn is_bytes(source: &dyn TensorSource, name: &str) -> bool {
    source.stored(name).is_some_and(|stored| stored.dtype == "U8")
}

/// Type, shape and place of a tensor, for messages.
fn found(source: &dyn TensorSource, name: &str) -> String {
    let dtype = source.stored(name).map_or_else(|| "floats".to_owned(), |stored| stored.dtype);
    format!("{dtype} {:?} {}", source.shape(name).unwrap_or_default(), place(source, name))
}

/// Place of a tensor, for messages.
fn place(source: &dyn TensorSource, name: &str) -> String {
    match source.stored(name) {
        Some(stored) => format!("in {}", stored.file.display()),
        None => "in a file that is not safetensors".into(),
    }
}
