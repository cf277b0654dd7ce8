//! Passes of GPUs, run on the processor: the composed pass of every architecture and that with fused attention, in f32
//! against the kernels and in 16 bits against f32; and batches that do not fit.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::device::Target;
use crate::ops::tests::composed;
#[cfg(not(feature = "cuda"))]
use crate::ops::tests::fused;
use crate::{Batch, Cancel, Error, Model, Options, ReadSpec, Result, Site, location};

thread_local! {
    /// Greatest number of tokens of a batch that this thread has memory for.
    static MEMORY: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub(super) fn lack_memory(batch: &Batch) -> Result<()> {
    match batch.tokens() > MEMORY.get() {
        true => Err(candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into()).into()),
        false => Ok(()),
    }
}

pub(super) fn fixtures() -> Vec<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let named = ["gpt2", "gpt_neox", "llama"].map(|name| models.join(name));
    let variants = std::fs::read_dir(models.join("variants")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = variants.filter(|path| path.join("config.json").exists()).collect();
    folders.sort();
    folders.extend(named);
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/toy"));
    folders
}

/// Networks of every other architecture.
pub(super) fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/families");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// Loads a fixture with these number types, as on another device.
pub(super) fn load(folder: &Path, weights: DType, activations: DType, site: Option<Site>) -> Model {
    let own = folder.join("tokenizer.json").exists() || folder.join("vocab.json").exists();
    let shared = folder.parent().unwrap().join("tokenizer.json");
    let tokenizer = (!own).then(|| shared.to_str().unwrap().to_owned());
    let options = Options { bos: Some(false), tokenizer: tokenizer.clone(), site, ..Options::default() };
    let files = location::fetch(folder.to_str().unwrap(), tokenizer.as_deref(), &()).unwrap();
    let target = Target { device: Device::Cpu, weights, activations, blocks: None };
    Model::at(target, ("fixture", ""), Checkpoint::open(&files).unwrap(), &options, &[]).unwrap()
}

/// Examples of different lengths, some of which begin alike.
fn examples(model: &Model) -> Vec<Vec<u32>> {
    let (vocabulary, window) = (model.config().vocabulary as u32, model.window());
    let long: Vec<u32> = (0..40.min(window) as u32).map(|i| (i * i * 7 + 11 * i + 3) % vocabulary).collect();
    let mut branch = long[..long.len() / 2].to_vec();
    branch.extend([1, 5, 2].map(|t| t % vocabulary));
    let lengths = [1, 7, 12, 7].map(|n| long[long.len() - n..].to_vec());
    [vec![long, branch], lengths.into()].concat()
}

fn batches(model: &Model) -> [Batch; 2] {
    let examples = examples(model);
    let plain = Batch::new(examples.iter().map(Vec::as_slice), None);
    let mut sharing = Batch::sharing(None);
    examples.iter().for_each(|example| sharing.push(example));
    [plain, sharing]
}

/// All outputs of a pass: every layer, some neurons of the deepest, logits.
fn outputs(model: &Model) -> Vec<Tensor> {
    let layers = model.config().layers;
    let cancel = Cancel::default();
    let mut outputs = Vec::new();
    for batch in batches(model) {
        let all = ReadSpec::new(model, (0..layers).map(|l| (l, None))).unwrap();
        outputs.extend(model.run(&batch, &all, &cancel).unwrap());
        let some = ReadSpec::new(model, [(layers - 1, Some(vec![3, 0, 5]))]).unwrap();
        outputs.extend(model.run(&batch, &some, &cancel).unwrap());
        outputs.push(model.logits(&batch, &cancel).unwrap());
    }
    outputs
}

fn largest(x: &Tensor) -> f32 {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().fold(0.0, |most, x| x.abs().max(most))
}

/// The greatest difference of two outputs, as a share of the greatest number.
fn difference(got: &Tensor, wanted: &Tensor) -> f32 {
    assert_eq!((got.dtype(), got.dims()), (DType::F32, wanted.dims()));
    largest(&(got - wanted).unwrap()) / largest(wanted).max(1e-6)
}

fn sites(folder: &Path) -> Vec<Option<Site>> {
    let solu = load(folder, DType::F32, DType::F32, None).site() == Site::MlpMid;
    if solu { vec![Some(Site::MlpMid), Some(Site::MlpPost)] } else { vec![None] }
}

#[test]
fn compositions_agree_with_kernels() {
    for folder in [fixtures(), families()].concat() {
        for site in sites(&folder) {
            let model = load(&folder, DType::F32, DType::F32, site);
            let wanted = outputs(&model);
            let agree = |outputs: Vec<Tensor>| {
                for (got, wanted) in outputs.iter().zip(&wanted) {
                    let difference = difference(got, wanted);
                    assert!(difference <= 1e-5, "{}: {difference}", folder.display());
                }
            };
            agree(composed(|| outputs(&model)));
            #[cfg(not(feature = "cuda"))]
            agree(fused(|| outputs(&model)));
        }
    }
}

#[test]
fn sixteen_bits_agree_with_f32() {
    // Somewhat above the worst of some twenty networks of random weights; most are at a third of it.
    for (dtype, bound) in [(DType::BF16, 1.5e-1), (DType::F16, 2e-2)] {
        for folder in fixtures() {
            // Without norms and with scores in the hundreds, rounding decides which token is attended to.
            let bound = if folder.ends_with("hooked_shortformer") { 8.0 * bound } else { bound };
            for site in sites(&folder) {
                let wanted = outputs(&load(&folder, DType::F32, DType::F32, site));
                let got = outputs(&load(&folder, dtype, dtype, site));
                let worst = got.iter().zip(&wanted).map(|(got, wanted)| difference(got, wanted)).fold(0.0, f32::max);
                assert!(worst <= bound, "{} {}: {worst}", folder.display(), dtype.as_str());
            }
        }
    }
}

#[test]
fn long_sequences_are_cut() {
    // More than one piece a sequence, and groups of several shapes.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/toy");
    let model = load(&folder, DType::F32, DType::F32, None);
    let vocabulary = model.config().vocabulary as u32;
    let examples: Vec<Vec<u32>> = [model.window(), model.window() - 1, 30, 1]
        .map(|n| (0..n as u32).map(|i| (i * 31 + n as u32) % vocabulary).collect())
        .into();
    let mut batch = Batch::sharing(None);
    examples.iter().for_each(|example| batch.push(example));
    let spec = ReadSpec::new(&model, [(model.config().layers - 1, None)]).unwrap();
    let run = || model.run(&batch, &spec, &Cancel::default()).unwrap().remove(0);
    assert!(difference(&composed(run), &run()) <= 1e-5);
    #[cfg(not(feature = "cuda"))]
    assert!(difference(&fused(run), &run()) <= 1e-5);
}

#[test]
fn what_does_not_fit_is_run_in_parts() {
    let folder = fixtures().pop().unwrap();
    let model = load(&folder, DType::F32, DType::F32, None);
    let spec = ReadSpec::new(&model, [(0, None), (model.config().layers - 1, Some(vec![1, 2]))]).unwrap();
    for batch in batches(&model) {
        let run = |memory| {
            MEMORY.set(memory);
            let mut rows = 0;
            let mut parts = 0;
            let layers = model.run(&batch, &spec, &Cancel::default());
            let mut examples = 0;
            let done = model.run_parts(&batch, &spec, &Cancel::default(), |part, layers| {
                assert_eq!((part.rows.start, layers[0].dim(0).unwrap()), (rows, part.rows.len()));
                assert_eq!(part.examples.start, examples);
                (rows, examples, parts) = (part.rows.end, part.examples.end, parts + 1);
                Ok(())
            });
            MEMORY.set(usize::MAX);
            assert!(done.is_err() || examples == 6);
            done.and(layers).map(|layers| (layers, rows, parts))
        };
        let (wanted, rows, parts) = run(usize::MAX).unwrap();
        assert_eq!((rows, parts), (batch.rows(), 1));
        let (got, rows, parts) = run(50).unwrap();
        assert_eq!(rows, batch.rows());
        assert!(parts > 1);
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!(difference(got, wanted) <= 1e-5);
        }
        // Its longest example has 40 tokens, the last of which needs all.
        assert!(matches!(run(39), Err(Error::OutOfMemory { .. })));
    }
}
