use std::io::Write;
use std::path::PathBuf;

use candle_core::quantized::{GgmlDType, QTensor};
use proptest::prelude::*;
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::gguf::Gguf;
use super::packed_experts::PackedExperts;
use super::pickle::Pickle;
use super::safetensors::Safetensors;
use super::*;

pub(super) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Maps bytes as a file, which is how the parsers get them.
pub(super) fn mapped(bytes: &[u8]) -> Bytes {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Bytes::map(file.path()).unwrap()
}

fn values(source: &dyn TensorSource, name: &str) -> Vec<f32> {
    source.read(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Reads all tensors of a source: each accepted one must be readable or refused by name.
fn drain(source: &dyn TensorSource) {
    for name in source.names() {
        let shape = source.shape(&name).unwrap();
        match source.read(&name) {
            Ok(tensor) => assert_eq!(tensor.dims(), shape),
            Err(Error::Unsupported { .. } | Error::Corrupt { .. }) => {}
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

fn is_corrupt<T>(result: Result<T>, words: &str) {
    match result {
        Err(Error::Corrupt { reason, .. }) if reason.contains(words) => {}
        Err(other) => panic!("expected \"{words}\", got {other}"),
        Ok(_) => panic!("expected \"{words}\", got success"),
    }
}

// Builders of small valid files.

fn safetensors_file(header: &serde_json::Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn small_safetensors() -> Vec<u8> {
    let floats: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let halves: Vec<u8> = [0x3c00u16, 0xc000].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let header = json!({
        "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "h": {"dtype": "F16", "shape": [2], "data_offsets": [24, 28]},
        "i": {"dtype": "I32", "shape": [1], "data_offsets": [28, 32]},
    });
    safetensors_file(&header, &[floats, halves, vec![7, 0, 0, 0]].concat())
}

/// Files of the blocks and the scales of two experts, of three rows and two groups each, and a bias beside the scales.
fn packed_files() -> [Vec<u8>; 2] {
    let name = "model.layers.0.mlp.experts.down_proj";
    let [blocks, scales, bias] = ["blocks", "scales", "bias"].map(|part| format!("{name}_{part}"));
    let header = json!({blocks.as_str(): {"dtype": "U8", "shape": [2, 3, 2, 16], "data_offsets": [0, 192]}});
    let blocks = safetensors_file(&header, &(0..192u8).map(|at| at.wrapping_mul(7)).collect::<Vec<_>>());
    let header = json!({
        scales.as_str(): {"dtype": "U8", "shape": [2, 3, 2], "data_offsets": [0, 12]},
        bias.as_str(): {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
    });
    let scales: Vec<u8> = (120..132).chain([0; 4]).collect();
    [blocks, safetensors_file(&header, &scales)]
}

/// GGUF writer that can write false headers.
struct Writer(Vec<u8>);

impl Writer {
    fn new(tensors: u64, values: u64) -> Self {
        Self([b"GGUF", &3u32.to_le_bytes()[..], &tensors.to_le_bytes(), &values.to_le_bytes()].concat())
    }

    fn text(mut self, text: &str) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn tensor(self, name: &str, dims: &[u64], dtype: u32, offset: u64) -> Self {
        let start = self.text(name).u32(dims.len() as u32);
        dims.iter().fold(start, |writer, &dim| writer.u64(dim)).u32(dtype).u64(offset)
    }

    /// Pads to the alignment and adds tensor data.
    fn data(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 1);
        self
    }

    fn open(&self) -> Result<Gguf> {
        Gguf::open(Path::new("x.gguf"), mapped(&self.0)).map(|(_, gguf)| gguf)
    }
}

pub(super) fn small_gguf() -> Vec<u8> {
    let tokens = ["<s>", "a", "b", "ab"].map(|token| gguf_file::Value::String(token.into()));
    let metadata = [
        ("general.architecture", gguf_file::Value::String("llama".into())),
        ("llama.block_count", gguf_file::Value::U32(1)),
        ("tokenizer.ggml.model", gguf_file::Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", gguf_file::Value::String("smollm".into())),
        ("tokenizer.ggml.tokens", gguf_file::Value::Array(tokens.to_vec())),
        ("tokenizer.ggml.merges", gguf_file::Value::Array(vec![gguf_file::Value::String("a b".into())])),
        ("tokenizer.ggml.bos_token_id", gguf_file::Value::U32(0)),
    ];
    let weight = Tensor::arange(0f32, 64., &Device::Cpu).unwrap().reshape((2, 32)).unwrap();
    let quantised = QTensor::quantize(&weight, GgmlDType::Q8_0).unwrap();
    let plain = QTensor::quantize(&weight, GgmlDType::F32).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    gguf_file::write(&mut file, &metadata, &[("q", &quantised), ("f", &plain)]).unwrap();
    file.into_inner()
}

fn pth(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", storage)] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Pickle of `{"w": <tensor of this storage offset, size and stride over FloatStorage 0>}`, as torch writes it.
fn tensor_pickle(offset: u8, size: &[i32], stride: &[i32]) -> Vec<u8> {
    let mut out = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK");
    out.push(offset);
    for list in [size, stride] {
        out.push(b'(');
        list.iter().for_each(|item| {
            out.push(b'J');
            out.extend(item.to_le_bytes());
        });
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    out
}

fn six_floats() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn open_pickle(bytes: &[u8]) -> Result<Pickle> {
    Pickle::open(Path::new("x.pth"), mapped(bytes))
}

fn open_safetensors(bytes: &[u8]) -> Result<Safetensors> {
    Safetensors::open(Path::new("x.safetensors"), mapped(bytes))
}

// Valid files.

#[test]
fn safetensors_are_read() {
    let source = open_safetensors(&small_safetensors()).unwrap();
    assert_eq!(source.names(), ["h", "i", "w"]);
    assert_eq!(source.shape("w"), Some(vec![2, 3]));
    assert_eq!(values(&source, "w"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(values(&source, "h"), [1., -2.]);
    assert!(matches!(source.read("i"), Err(Error::Unsupported { value, .. }) if value.starts_with("I32 (tensor i")));
    assert!(matches!(source.read("x"), Err(Error::Weights { .. })));
}

#[test]
fn gguf_is_read() {
    let file = Path::new("x.gguf");
    let (metadata, source) = Gguf::open(file, mapped(&small_gguf())).unwrap();
    assert_eq!(source.names(), ["f", "q"]);
    assert_eq!(source.shape("q"), Some(vec![2, 32]));
    let expected: Vec<f32> = (0..64).map(|i| i as f32).collect();
    assert_eq!(values(&source, "f"), expected);
    assert!(values(&source, "q").iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.3));
    let words = gguf_vocabulary::from_gguf(file, &metadata).unwrap();
    assert_eq!(words.tokenizer.encode("ab", false).unwrap().get_ids(), [3]);
    assert_eq!((words.bos.id, words.bos.prepended), (Some(0), false));
}

#[test]
fn every_quantisation_is_dequantised() {
    let weight = Tensor::arange(0f32, 1024., &Device::Cpu).unwrap().affine(0.001, -0.5).unwrap();
    let weight = weight.reshape((2, 512)).unwrap();
    let expected: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
    use GgmlDType::*;
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2K, Q3K, Q4K, Q5K, Q6K, Q8K] {
        let tensor = QTensor::quantize(&weight, dtype).unwrap();
        let mut file = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut file, &[], &[("w", &tensor)]).unwrap();
        let source = Gguf::open(Path::new("x.gguf"), mapped(&file.into_inner())).unwrap().1;
        let error = values(&source, "w").iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
        assert!(error < 0.1, "{dtype:?} is off by {error}");
    }
}

/// Reads a file of torch 2.15: f32, half, bf16, double, views, a parameter, and buffers of other types.
#[test]
fn torch_files_are_read() {
    let file = data("torch.pth");
    let source = Pickle::open(&file, Bytes::map(&file).unwrap()).unwrap();
    let names = ["bf16", "double", "expanded1", "half", "parameter", "plain", "scalar", "slice", "tied", "transposed"];
    assert_eq!(source.names(), names);
    let plain: Vec<f32> = (0..12).map(|i| i as f32).collect();
    for same in ["plain", "half", "bf16", "tied"] {
        assert_eq!(values(&source, same), plain);
        assert_eq!(source.shape(same), Some(vec![3, 4]));
    }
    assert_eq!(values(&source, "double"), plain.iter().map(|x| x / 3.).collect::<Vec<_>>());
    assert_eq!(source.shape("transposed"), Some(vec![4, 3]));
    assert_eq!(values(&source, "transposed"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    assert_eq!(values(&source, "slice"), [5., 6., 9., 10.]);
    assert_eq!(values(&source, "expanded1"), [0., 1., 2., 3.]);
    assert_eq!(values(&source, "parameter"), [0., 1., 2., 3.]);
    assert_eq!((values(&source, "scalar"), source.shape("scalar")), (vec![2.5], Some(vec![])));

    let file = data("torch-nested.pth");
    let nested = Pickle::open(&file, Bytes::map(&file).unwrap()).unwrap();
    assert_eq!(nested.names(), ["bias", "weight"]);
    assert_eq!(nested.shape("weight"), Some(vec![3, 4]));
}

#[test]
fn a_pickle_by_hand_is_read() {
    let source = open_pickle(&pth(&tensor_pickle(1, &[2, 2], &[2, 1]), &six_floats())).unwrap();
    assert_eq!(values(&source, "w"), [1., 2., 3., 4.]);
}

// Hostile files.

#[test]
fn hostile_safetensors() {
    is_corrupt(open_safetensors(&[]), "header");
    is_corrupt(open_safetensors(&u64::MAX.to_le_bytes()), "header");
    let two =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    let bytes = [&(two.len() as u64).to_le_bytes()[..], two.as_bytes(), &[0]].concat();
    is_corrupt(open_safetensors(&bytes), "twice");
    for (shape, end) in [
        (json!([u64::MAX, u64::MAX]), 4),
        (json!([3]), 4),
        (json!([1]), 1u64 << 60),
        (json!([0, u64::MAX, u64::MAX]), 0),
    ] {
        let header = json!({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}});
        is_corrupt(open_safetensors(&safetensors_file(&header, &[0; 4])[..]), "");
    }
}

#[test]
fn hostile_gguf() {
    is_corrupt(Writer(b"GGML".to_vec()).open(), "begin with GGUF");
    is_corrupt(Writer(b"GGUF\x00\x00\x00\x03".to_vec()).open(), "version");
    is_corrupt(Writer::new(u64::MAX, 0).open(), "within its header");
    is_corrupt(Writer::new(0, u64::MAX).open(), "within its header");
    is_corrupt(Writer::new(0, 1).u64(1 << 60).open(), "within its header"); // a key of 2^60 bytes
    is_corrupt(Writer::new(0, 1).text("k").u32(8).u64(1 << 60).open(), "within its header");
    is_corrupt(Writer::new(0, 1).text("k").u32(9).u32(0).u64(1 << 60).open(), "within its header");
    is_corrupt(Writer::new(0, 1).text("k").u32(99).open(), "type 99");
    let nested = (0..9).fold(Writer::new(0, 1).text("k").u32(9), |writer, _| writer.u32(9).u64(1));
    is_corrupt(nested.open(), "nested");
    let alignment = |value| Writer::new(0, 1).text("general.alignment").u32(4).u32(value).data(0).open();
    is_corrupt(alignment(0), "alignment");
    is_corrupt(alignment(u32::MAX), "alignment");
    is_corrupt(Writer::new(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).open(), "twice");

    let one = |dims: &[u64], dtype, offset| Writer::new(1, 0).tensor("w", dims, dtype, offset).data(64).open();
    assert!(one(&[16], 0, 0).is_ok());
    assert!(one(&[0], 0, 0).is_ok());
    is_corrupt(one(&[17], 0, 0), "outside");
    is_corrupt(one(&[8], 0, 33), "outside"); // not aligned
    is_corrupt(one(&[1], 0, u64::MAX), "impossible");
    is_corrupt(one(&[1], 0, u64::MAX - 64), "outside");
    is_corrupt(one(&[1 << 32, 1 << 32], 0, 0), "impossible");
    is_corrupt(one(&[u64::MAX], 0, 0), "impossible");
    is_corrupt(one(&[0, u64::MAX, u64::MAX], 0, 0), "impossible");
    is_corrupt(one(&[16], 8, 0), "impossible"); // half a block
    is_corrupt(one(&[1, 1, 1, 1, 1], 0, 0), "dimensions");
    let twice = Writer::new(2, 0).tensor("w", &[8], 0, 0).tensor("w", &[8], 0, 32).data(64);
    is_corrupt(twice.open(), "twice");
    let overlap = Writer::new(2, 0).tensor("v", &[16], 0, 0).tensor("w", &[8], 0, 32).data(64);
    is_corrupt(overlap.open(), "overlap");
    match one(&[32], 23, 0) {
        Err(Error::Unsupported { value, supported, .. }) => {
            assert!(value.starts_with("IQ4_XS (tensor w") && supported.contains("Q4_K"), "{value} {supported}");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn hostile_pickles() {
    let pickle = |bytes: &[u8]| open_pickle(&pth(bytes, &six_floats()));
    is_corrupt(open_pickle(b""), "zip");
    is_corrupt(open_pickle(b"\x80\x02}q\0."), "zip"); // torch before 1.6
    is_corrupt(open_pickle(b"PK\x03\x04"), "");
    is_corrupt(pickle(b""), "truncated");
    is_corrupt(pickle(b"."), "without a result");
    is_corrupt(pickle(b"X\xff\xff\xff\xff"), "truncated");
    is_corrupt(pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "truncated");
    is_corrupt(pickle(b"\x8a\xff."), "truncated");
    is_corrupt(pickle(b"h\x05."), "memo");
    is_corrupt(pickle(b"(0."), "empty");
    is_corrupt(pickle(b"cos\nsystem\nX\x02\0\0\0ls\x85R."), "no state dict"); // never called
    is_corrupt(pickle(b"ios\nsystem\n(."), "no place");
    is_corrupt(pickle(b"}q\0X\x01\0\0\0ah\0s."), "no state dict"); // a dict that holds itself

    // A tuple in a tuple, and so on: no recursion on any of them.
    let mut deep = b")".to_vec();
    deep.resize(1_000_000, 0x85);
    deep.push(b'.');
    is_corrupt(pickle(&deep), "no state dict");
    // Each tuple holds the last one twice: 2^10000 leaves if copied.
    let bomb = [b"]q\0".to_vec(), b"h\0h\0\x86q\x000".repeat(10_000), b"h\0.".to_vec()].concat();
    is_corrupt(pickle(&bomb), "no state dict");
    // One-byte instructions that each make a value, a mark or a memo.
    for instruction in [b")".as_slice(), b"(", b"N"] {
        is_corrupt(pickle(&instruction.repeat(5 << 20)), "more than");
    }
    is_corrupt(pickle(&[b")".to_vec(), vec![0x94; 5 << 20]].concat()), "more than");

    for (offset, size, stride) in [
        (0, vec![7], vec![1]),
        (7, vec![1], vec![1]),
        (3, vec![4], vec![1]),
        (0, vec![2], vec![6]),
        (0, vec![-1], vec![1]),
        (0, vec![i32::MAX; 4], vec![0; 4]), // a view of one element repeated 2^124 times
        (0, vec![0, i32::MAX, i32::MAX, i32::MAX], vec![1; 4]),
        (0, vec![2, 2], vec![1]),
        (0, vec![2], vec![i32::MAX]),
        (0, vec![1; 9], vec![1; 9]),
    ] {
        is_corrupt(pickle(&tensor_pickle(offset, &size, &stride)), "tensor \"w\"");
    }
    let twice = tensor_pickle(0, &[1], &[1]);
    let body = &twice[3..twice.len() - 1];
    is_corrupt(pickle(&[b"\x80\x02}", body, body, b"."].concat()), "twice");
}

#[test]
fn shards_are_joined_and_must_not_repeat_a_tensor() {
    let a = safetensors_file(&json!({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}), &[0]);
    let b = safetensors_file(&json!({"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}), &[0; 4]);
    let source = |bytes: &[u8]| Box::new(open_safetensors(bytes).unwrap()) as Box<dyn TensorSource>;
    let joined = Shards::join(vec![(Path::new("1"), source(&a)), (Path::new("2"), source(&b))]).unwrap();
    assert_eq!(joined.names(), ["a", "b"]);
    assert_eq!(values(&*joined, "b"), [0.]);
    is_corrupt(Shards::join(vec![(Path::new("1"), source(&a)), (Path::new("2"), source(&a))]), "is in 1 too");
}

/// Blocks and scales of a matrix may be in different files.
#[test]
fn packed_experts_of_two_files() {
    let source = |bytes: &[u8]| Box::new(open_safetensors(bytes).unwrap()) as Box<dyn TensorSource>;
    let [blocks, scales] = packed_files();
    let files = vec![(Path::new("1"), source(&blocks)), (Path::new("2"), source(&scales))];
    let packed = PackedExperts::open(Shards::join(files).unwrap()).unwrap();
    let name = "model.layers.0.mlp.experts.down_proj";
    assert_eq!(packed.names(), [name.to_owned(), format!("{name}_bias")]);
    assert_eq!(packed.shape(name), Some(vec![2, 64, 3]));
    assert_eq!(values(&packed, &format!("{name}_bias")), [0.]);
    let got = values(&packed, name);
    let table = [0., 0.5, 1., 1.5, 2., 3., 4., 6.];
    for (expert, row, column) in (0..2).flat_map(|e| (0..3).flat_map(move |r| (0..64).map(move |c| (e, r, c)))) {
        let block = (expert * 3 + row) * 2 + column / 32;
        let byte = (block * 16 + column % 32 / 2) * 7 % 256;
        let code = if column % 2 == 0 { byte % 16 } else { byte / 16 };
        let value: f32 = if code < 8 { table[code] } else { -table[code - 8] };
        let wanted = value * 2f32.powi(block as i32 - 7);
        assert_eq!(got[(expert * 64 + column) * 3 + row], wanted, "expert {expert}, row {row}, column {column}");
    }
    let alone = PackedExperts::open(source(&blocks)).map(drop).unwrap_err();
    assert!(matches!(alone, Error::Weights { tensor, .. } if tensor == format!("{name}_scales")));
}

// Fuzzing: any bytes give a result and no panic. `guarded` would hide one in third-party code, so panics of any thread
// are counted.

static PANICS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[derive(Clone, Debug)]
enum Damage {
    Truncate(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
    /// Overwrites eight bytes by a number such as a length or an offset.
    Number(prop::sample::Index, u64),
    Random(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number =
        prop_oneof![Just(0), Just(u64::MAX), Just(1 << 63), Just(1 << 60), Just(u64::from(u32::MAX)), any::<u64>()];
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Truncate),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8).prop_map(Damage::Flip),
        (any::<prop::sample::Index>(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        prop::collection::vec(any::<u8>(), 0..512).prop_map(Damage::Random),
    ]
}

impl Damage {
    fn apply(&self, file: &[u8]) -> Vec<u8> {
        let mut bytes = file.to_vec();
        match self {
            Self::Truncate(at) => bytes.truncate(at.index(file.len())),
            Self::Flip(flips) => flips.iter().for_each(|(at, byte)| bytes[at.index(file.len())] = *byte),
            Self::Number(at, number) => {
                let at = at.index(file.len().saturating_sub(8).max(1));
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            // The magic stays, so that random bytes get past it.
            Self::Random(random) => {
                bytes.truncate(4);
                bytes.extend(random);
            }
        }
        bytes
    }
}

fn count_panics() {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = info.location().is_some_and(|at| !at.file().contains("tests.rs"));
            PANICS.fetch_add(usize::from(ours), std::sync::atomic::Ordering::Relaxed);
            before(info);
        }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fuzzed_safetensors(damage in damage()) {
        count_panics();
        if let Ok(source) = open_safetensors(&damage.apply(&small_safetensors())) {
            drain(&source);
        }
        prop_assert_eq!(PANICS.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[test]
    fn fuzzed_packed_experts(damage in damage(), which in 0..2usize) {
        count_panics();
        let mut files = packed_files();
        files[which] = damage.apply(&files[which]);
        let opened = files.iter().map(|file| open_safetensors(file)).collect::<Result<Vec<_>>>();
        let sources = |opened: Vec<Safetensors>| {
            let boxed = |source: Safetensors| (Path::new("x"), Box::new(source) as Box<dyn TensorSource>);
            Shards::join(opened.into_iter().map(boxed).collect())
        };
        if let Ok(packed) = opened.and_then(sources).and_then(PackedExperts::open) {
            drain(&packed);
        }
        prop_assert_eq!(PANICS.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[test]
    fn fuzzed_gguf(damage in damage()) {
        count_panics();
        let file = Path::new("x.gguf");
        if let Ok((metadata, source)) = Gguf::open(file, mapped(&damage.apply(&small_gguf()))) {
            drain(&source);
            let _ = gguf_vocabulary::from_gguf(file, &metadata);
        }
        prop_assert_eq!(PANICS.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[test]
    fn fuzzed_pickle(damage in damage(), inside in any::<bool>()) {
        count_panics();
        // Damage within the pickle leaves the zip around it whole.
        let pickle = tensor_pickle(1, &[2, 2], &[1, 2]);
        let bytes = if inside { pth(&damage.apply(&pickle), &six_floats()) } else { damage.apply(&pth(&pickle, &six_floats())) };
        if let Ok(source) = open_pickle(&bytes) {
            drain(&source);
        }
        prop_assert_eq!(PANICS.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

// Tokenizers.

/// Weights are read only once their names and shapes were checked.
#[test]
fn checks_come_before_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let toy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/toy");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(toy.join(name), folder.path().join(name)).unwrap();
    }
    let files = crate::location::fetch(folder.path().to_str().unwrap(), None, &()).unwrap();
    let refused = super::Checkpoint::open_checked(&files, |_, weights| {
        assert_eq!(weights.shape("embed.W_E"), Some(vec![4096, 128]));
        Err(Error::Config("no".into()))
    });
    assert!(matches!(refused, Err(Error::Config(_))));
    // A file that is gone after the check cannot have been read before it.
    let gone = super::Checkpoint::open_checked(&files, |_, _| {
        std::fs::remove_file(&files.weights[0]).unwrap();
        Ok(())
    });
    assert!(matches!(gone, Err(Error::Location { .. })));
}
