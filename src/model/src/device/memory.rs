//! Free memory of devices, and errors of lacking memory.

use candle_core::Device;

/// Returns true if an operation failed because the device has no memory left for its result.
///
/// Codes of the driver and of cuBLAS are recognised by name, in all contexts that candle puts around them.
pub(crate) fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string();
    text.contains("CUDA_ERROR_OUT_OF_MEMORY") || text.contains("CUBLAS_STATUS_ALLOC_FAILED")
}

/// Bytes that are free on a GPU; `None` on the processor, or if the driver does not say.
pub(crate) fn room(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda::room(device),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lack_of_memory_is_lack_of_memory() {
        let error = |text: &str| candle_core::Error::Msg(text.into()).context("matmul");
        assert!(is_out_of_memory(&error("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")));
        assert!(is_out_of_memory(&error("CublasError(CUBLAS_STATUS_ALLOC_FAILED)")));
        assert!(!is_out_of_memory(&error("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access\")")));
        assert_eq!(room(&Device::Cpu), None);
    }
}
