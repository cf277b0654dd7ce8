//! Devices and number types of networks.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};

use crate::kernel::Instructions;
use crate::{Error, Result};

#[cfg(feature = "cuda")]
mod cuda;
mod memory;

pub(crate) use memory::{is_out_of_memory, room};

/// Name of a device: `cpu`, or `cuda:N` (`cuda` is `cuda:0`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number in the driver's order.
    Cuda(usize),
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let unknown = || Error::Unsupported {
            what: "device",
            value: s.into(),
            supported: "cpu, and cuda or cuda:N for the NVIDIA GPU of number N".into(),
        };
        match s.to_ascii_lowercase().as_str() {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            name => {
                let digits = name.strip_prefix("cuda:").ok_or_else(unknown)?;
                // `parse` alone would accept a sign.
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse().ok().filter(|_| plain).map(Self::Cuda).ok_or_else(unknown)
            }
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceName {
    /// Opens the device. A process has one candle device a GPU, and with it one stream: work that is queued there runs
    /// in the order in which it was queued.
    ///
    /// # Errors
    /// [`Error::Device`] if it is unavailable: no CUDA in this build, a library or the driver is missing, no such GPU.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::open(number),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(Error::Device {
                device: self.to_string(),
                reason: "this build has no CUDA; build neuroql with --features cuda (see tests/gpu/README.md), or use \
                         'cpu'"
                    .into(),
            }),
        }
    }
}

/// Number type of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NumberType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, the exponent of f32 and 8 bits of precision.
    Bf16,
    /// 16 bits, 11 bits of precision; at most ±65504.
    F16,
}

impl FromStr for NumberType {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s.to_ascii_lowercase().as_str() {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(Error::Unsupported { what: "dtype", value: s.into(), supported: "f32, bf16, f16".into() }),
        }
    }
}

impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype().as_str())
    }
}

impl NumberType {
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Device and number types of the tensors of a model.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub device: Device,
    /// Number type of matrices, embeddings included.
    pub weights: DType,
    /// Number type of activations, and of vectors that are added to them or multiplied with them element by element.
    ///
    /// On a processor these are f32, and matrices of 16 bits are widened as they are used, unless it has instructions for
    /// them. A GPU multiplies 16-bit numbers and adds up in f32, and results of products are rounded to 16 bits as in
    /// Hugging Face transformers.
    pub activations: DType,
    /// Instructions for products with matrices of bf16, which are kept in blocks for them; `None` to keep them as they are.
    pub blocks: Option<Instructions>,
}

impl Target {
    pub fn new(device: Device, numbers: NumberType) -> Self {
        let weights = numbers.dtype();
        let activations = if device.is_cpu() { DType::F32 } else { weights };
        let blocks = (device.is_cpu() && numbers == NumberType::Bf16).then(Instructions::detected).flatten();
        Self { device, weights, activations, blocks }
    }

    /// Returns true if tensors of both are on one device, in the same number types.
    pub fn is_same(&self, other: &Self) -> bool {
        let numbers = |target: &Self| (target.weights, target.activations, target.blocks);
        self.device.same_device(&other.device) && numbers(self) == numbers(other)
    }

    /// Converts a matrix to the number type of weights, on the device.
    pub fn matrix(&self, x: &Tensor) -> Result<Tensor> {
        // Narrowed before the copy, which halves the transfer to a GPU.
        Ok(x.to_dtype(self.weights)?.to_device(&self.device)?)
    }

    /// Converts a bias or gain, on the device: rounded as weights are, then to the number type of activations.
    pub fn vector(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_dtype(self.weights)?.to_dtype(self.activations)?.to_device(&self.device)?)
    }
}
