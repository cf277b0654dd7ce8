//! Backpressure: limits the work that a host queues ahead on a device.
//!
//! A GPU is given its work in advance, so a pass whose layers were all queued cannot be stopped any more. Waiting after
//! each layer would leave the GPU idle between two. So the host waits once in a while, often enough that queued work
//! takes only a fraction of the time in which a cancelled query must have ended.

use candle_core::{DType, Device};

use crate::{Cancel, Model, Result};

/// Floating-point operations queued between two waits: some 50 ms of a slow GPU.
const AHEAD_F32: f64 = 1e12;
const AHEAD_16_BITS: f64 = 5e12;

/// Stops a cancelled pass between layers, for which it waits for the device from time to time.
pub(crate) struct Pace<'a> {
    /// Device to wait for; `None` if operations are done when they return.
    device: Option<&'a Device>,
    layer: f64,
    ahead: f64,
    queued: f64,
}

impl<'a> Pace<'a> {
    pub fn new(model: &'a Model, tokens: usize) -> Self {
        Self {
            device: (!model.device().is_cpu()).then(|| model.device()),
            layer: tokens as f64 * model.operations(),
            ahead: if model.activation_dtype() == DType::F32 { AHEAD_F32 } else { AHEAD_16_BITS },
            queued: 0.0,
        }
    }

    /// Checks for cancellation before a layer, and waits for the device if too much is queued.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn step(&mut self, cancel: &Cancel) -> Result<()> {
        cancel.check()?;
        if let Some(device) = self.device {
            if self.queued > self.ahead {
                device.synchronize()?;
                self.queued = 0.0;
                cancel.check()?;
            }
            self.queued += self.layer;
        }
        Ok(())
    }
}
