//! Speed of networks on this machine: measured in their passes, assumed before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Model;

/// Assumed floating-point operations a second of a thread, and of a GPU.
const ASSUMED: [f64; 2] = [5e10, 1e13];

/// Assumed bytes of text a token, before any text was encoded.
const ASSUMED_BYTES: f64 = 4.0;

/// Least number of tokens of a measured pass: smaller passes say little about large ones.
const TELLING_TOKENS: usize = 64;

/// Sums over the passes that have run; relaxed, as they only serve estimates.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Number of tokens times the layers that they went through.
    token_layers: AtomicU64,
    /// Total time of all threads.
    nanoseconds: AtomicU64,
}

impl Measured {
    /// Records a pass of tokens through layers that took `elapsed` on `threads` threads.
    pub fn note(&self, tokens: usize, layers: usize, threads: usize, elapsed: Duration) {
        if tokens >= TELLING_TOKENS && layers > 0 {
            self.token_layers.fetch_add((tokens * layers) as u64, Ordering::Relaxed);
            let nanoseconds = elapsed.as_nanos() as u64 * threads as u64;
            self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Seconds of one thread that a token takes at a layer.
    fn seconds(&self) -> Option<f64> {
        let count = self.token_layers.load(Ordering::Relaxed);
        (count > 0).then(|| self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9 / count as f64)
    }
}

/// Sums of the bytes and tokens that were encoded.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    bytes: AtomicU64,
    tokens: AtomicU64,
}

impl Encoded {
    pub fn note(&self, bytes: usize, tokens: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Mean bytes of text a token.
    pub fn bytes_per_token(&self) -> f64 {
        match self.tokens.load(Ordering::Relaxed) {
            0 => ASSUMED_BYTES,
            tokens => self.bytes.load(Ordering::Relaxed) as f64 / tokens as f64,
        }
    }
}

/// Speed of the passes of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Seconds of one thread for a token and a layer.
    seconds: f64,
    /// True if it was measured in this process; else it is estimated from the number of parameters and an assumed
    /// 5·10¹⁰ operations a second of a thread (10¹³ of a GPU).
    pub is_measured: bool,
}

impl Speed {
    /// Seconds that `tokens` tokens take through `layers` layers on `threads` threads.
    pub fn seconds(&self, tokens: f64, layers: f64, threads: usize) -> f64 {
        self.seconds * tokens * layers / threads.max(1) as f64
    }
}

impl Model {
    /// Speed of passes, measured so far or assumed.
    pub fn speed(&self) -> Speed {
        let gpu = usize::from(!self.device().is_cpu());
        let assumed = || self.operations() / ASSUMED[gpu];
        let measured = self.measured().seconds();
        Speed { seconds: measured.unwrap_or_else(assumed), is_measured: measured.is_some() }
    }

    /// Number of floating-point operations of a token at a layer.
    pub(crate) fn operations(&self) -> f64 {
        let config = self.config();
        let attention = 2 * (config.heads + config.kv_heads) * config.d_head;
        let mlp = if config.gated { 3 } else { 2 } * config.active_width();
        2.0 * config.d_model as f64 * (attention + mlp) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_run_counts_by_its_tokens() {
        let measured = Measured::default();
        assert_eq!(measured.seconds(), None);
        measured.note(10, 3, 1, Duration::from_secs(100));
        assert_eq!(measured.seconds(), None, "a pass of few tokens");
        measured.note(100, 3, 2, Duration::from_secs(3));
        measured.note(300, 1, 1, Duration::from_secs(6));
        assert_eq!(measured.seconds(), Some(12.0 / 600.0));
        let speed = Speed { seconds: 0.02, is_measured: true };
        assert!((speed.seconds(1000.0, 3.0, 2) - 30.0).abs() < 1e-9);

        let encoded = Encoded::default();
        assert_eq!(encoded.bytes_per_token(), 4.0);
        encoded.note(30, 10);
        assert_eq!(encoded.bytes_per_token(), 3.0);
    }
}
