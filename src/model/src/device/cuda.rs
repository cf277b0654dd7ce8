//! NVIDIA GPUs: loads the libraries, opens a GPU, reads its free memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda::cudarc::driver::CudaContext;
use candle_core::cuda::cudarc::driver::result::device::get_default_mem_pool;
use candle_core::cuda::cudarc::driver::result::mem_pool;
use candle_core::cuda::cudarc::driver::sys::{self, CUDA_VERSION, CUmemPool_attribute_enum as Attribute};
use candle_core::{CudaDevice, Device};

use super::DeviceName;
use crate::{Error, Result};

/// Opened GPUs by number.
static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

pub(super) fn open(number: usize) -> Result<Device> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let refuse = |reason: String| Error::Device { device: DeviceName::Cuda(number).to_string(), reason };
    libraries().map_err(refuse)?;
    let gpus = CudaContext::device_count()
        .map_err(|e| refuse(format!("the NVIDIA driver finds no GPU ({e}); nvidia-smi should list one")))?;
    if number >= gpus.max(0) as usize {
        return Err(refuse(match gpus {
            0 => "the NVIDIA driver finds no GPU; nvidia-smi should list one".into(),
            1 => "the only GPU is cuda:0".into(),
            _ => format!("there are cuda:0 to cuda:{}", gpus - 1),
        }));
    }
    let device = Device::new_cuda_with_stream(number).map_err(|e| refuse(e.to_string()))?;
    if let Device::Cuda(device) = &device {
        // SAFETY: events order the uses of a tensor by several streams. This map holds the only candle device of a GPU,
        // candle gives it one stream, and nothing here makes another.
        unsafe { device.disable_event_tracking() };
        // A GPU without pools, or a driver that refuses, is slower but works.
        if let Some(pool) = Pool::of(device) {
            pool.keep();
        }
    }
    // Sums in f32 and full f32 products, set again in case another user of candle in this process changed it.
    let tf32 = std::env::var("NEUROQL_TF32").is_ok_and(|value| value == "1");
    candle_core::cuda::set_gemm_reduced_precision_f32(tf32);
    candle_core::cuda::set_gemm_reduced_precision_f16(false);
    candle_core::cuda::set_gemm_reduced_precision_bf16(false);
    open.insert(number, device.clone());
    Ok(device)
}

pub(super) fn room(device: &CudaDevice) -> Option<usize> {
    let stream = device.cuda_stream();
    let (free, _) = stream.context().mem_get_info().ok()?;
    Some(free + Pool::of(device).map_or(0, |pool| pool.idle()))
}

/// Memory pool of the driver for tensors of a GPU.
struct Pool(sys::CUmemoryPool);

impl Pool {
    fn of(device: &CudaDevice) -> Option<Self> {
        let stream = device.cuda_stream();
        // SAFETY: the number is that of the device of a context that lives as long as the stream.
        unsafe { get_default_mem_pool(stream.context().cu_device()) }.ok().map(Self)
    }

    /// Keeps freed memory for the next tensors. By default it goes back to the system whenever the host waits for the
    /// GPU, which is after each pass, and must be mapped again for the next.
    fn keep(&self) {
        let mut all = u64::MAX;
        // SAFETY: this attribute is a cuuint64_t, which the call reads.
        let done =
            unsafe { mem_pool::set_attribute(self.0, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, pointer(&mut all)) };
        if let Err(error) = done {
            tracing::debug!("memory of a GPU is given back between passes: {error}");
        }
    }

    /// Bytes that the pool keeps and no tensor uses.
    fn idle(&self) -> usize {
        let read = |attribute| {
            let mut bytes = 0_u64;
            // SAFETY: both attributes below are a cuuint64_t, which the call writes.
            unsafe { mem_pool::get_attribute(self.0, attribute, pointer(&mut bytes)) }.ok().map(|_| bytes)
        };
        let reserved = read(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
        let used = read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
        reserved.zip(used).map_or(0, |(reserved, used)| reserved.saturating_sub(used) as usize)
    }
}

fn pointer(number: &mut u64) -> *mut std::ffi::c_void {
    std::ptr::from_mut(number).cast()
}

/// Finds, loads and keeps the libraries that candle calls. Later look-ups by name find them loaded.
fn libraries() -> Result<(), String> {
    let major = CUDA_VERSION / 1000;
    load(&["libcuda.so.1"], "the NVIDIA driver")?;
    let toolkit = format!("CUDA {major}");
    // The second depends on the first.
    load(&[&format!("libcublasLt.so.{major}"), &format!("libcublas.so.{major}")], &toolkit)?;
    load(&["libcurand.so.10"], &toolkit)
}

fn load(names: &[&str], source: &str) -> Result<(), String> {
    for name in names {
        let candidates = std::iter::once(PathBuf::from(name)).chain(folders().into_iter().map(|dir| dir.join(name)));
        // SAFETY: these are NVIDIA's libraries under their own names; their initialisers only set up themselves.
        let found = candidates.map(|path| unsafe { global(&path) }).find_map(Result::ok);
        match found {
            // Never unloaded: candle's symbols point into it.
            Some(library) => std::mem::forget(library),
            None => {
                return Err(format!(
                    "{name} is missing, which comes with {source}; it is looked for on LD_LIBRARY_PATH, in \
                     $CUDA_HOME/lib64, /usr/local/cuda/lib64 and among the Python packages of $VIRTUAL_ENV"
                ));
            }
        }
    }
    Ok(())
}

/// # Safety
/// Requirements of [`libloading::Library::new`].
#[cfg(unix)]
unsafe fn global(path: &std::path::Path) -> Result<libloading::os::unix::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the caller upholds it.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
}

/// # Safety
/// Requirements of [`libloading::Library::new`].
#[cfg(not(unix))]
unsafe fn global(path: &std::path::Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller upholds it.
    unsafe { libloading::Library::new(path) }
}

/// Folders of CUDA libraries beside the linker's own: toolkits, and NVIDIA's Python packages.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let roots = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    for root in roots.chain([PathBuf::from("/usr/local/cuda")]) {
        folders.push(root.join("lib64"));
        folders.push(root.join("lib"));
    }
    if let Some(environment) = std::env::var_os("VIRTUAL_ENV") {
        for python in entries(PathBuf::from(environment).join("lib")) {
            for package in entries(python.join("site-packages/nvidia")) {
                folders.push(package.join("lib"));
            }
        }
    }
    folders
}

fn entries(folder: PathBuf) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries
}
