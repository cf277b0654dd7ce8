//! Models of the Rust port of Neuron2Graph: `{louds, tokens}`, in JSON or in postcard's binary form.
//!
//! The shape of the trie is a bit string (LOUDS): `10`, then for each node in level order, the one above the activators
//! first, as many ones as it has children and a zero. With it come tables that make it faster to search, which are not
//! trusted when read. `tokens` has two placeholders, then the nodes in the same order. Any token is id 2³² − 1 and
//! comes after its siblings, which are in the order of their ids.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{count_support, estimate_activations, malformed};
use neuroql_graph::{Error, Graph, Node, Result, Symbol, Token};

const FORMAT: &str = "n2g-rs model";
const ANY: u32 = u32::MAX;

#[derive(Serialize, Deserialize)]
struct Model {
    louds: Louds,
    tokens: Vec<StoredToken>,
}

#[derive(Serialize, Deserialize)]
struct Louds {
    lbs: Bits,
}

#[derive(Serialize, Deserialize)]
struct Bits {
    /// Bits, the most significant of each byte first.
    byte_vec: Vec<u8>,
    bit_len: u64,
    chunks: Chunks,
    table: Table,
}

#[derive(Serialize, Deserialize)]
struct Chunks {
    chunks: Vec<Chunk>,
    chunks_cnt: u64,
}

#[derive(Serialize, Deserialize)]
struct Chunk {
    /// Number of ones up to the end of the chunk.
    value: u64,
    blocks: Blocks,
}

#[derive(Serialize, Deserialize)]
struct Blocks {
    blocks: Vec<Block>,
    blocks_cnt: u16,
}

#[derive(Serialize, Deserialize)]
struct Block {
    /// Number of ones in its chunk up to the end of the block.
    value: u16,
    /// Length in bits.
    length: u8,
}

/// Number of ones in each number of `bit_length` bits.
#[derive(Serialize, Deserialize)]
struct Table {
    bit_length: u8,
    table: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct StoredToken {
    token: Id,
    end_node: Option<f32>,
    /// Importance; NaN, in JSON null, in the two placeholders. In nodes, NaN is read as 0.
    importance: f32,
}

#[derive(Serialize, Deserialize)]
struct Id {
    token: u32,
}

/// The needed fields of a JSON file, whose tables may be missing.
#[derive(Deserialize)]
struct JsonModel {
    louds: JsonLouds,
    tokens: Vec<JsonToken>,
}

#[derive(Deserialize)]
struct JsonLouds {
    lbs: JsonBits,
}

#[derive(Deserialize)]
struct JsonBits {
    byte_vec: Vec<u8>,
    bit_len: u64,
}

#[derive(Deserialize)]
struct JsonToken {
    token: Id,
    end_node: Option<f32>,
    importance: Option<f32>,
}

/// Parses the graph of a JSON file; `text` gives the text of each token id.
///
/// # Errors
/// [`Error::Malformed`], and those of [`Graph::new`].
pub fn parse_json(json: &str, text: impl Fn(u32) -> Arc<str>) -> Result<Graph> {
    let JsonModel { louds, tokens } = serde_json::from_str(json).map_err(|error| malformed(FORMAT, error))?;
    let written = |JsonToken { token, end_node, importance }| StoredToken {
        token,
        end_node,
        importance: importance.unwrap_or(f32::NAN),
    };
    graph(&louds.lbs.byte_vec, louds.lbs.bit_len, tokens.into_iter().map(written), text)
}

/// Parses the graph of a binary file; `text` gives the text of each token id.
///
/// # Errors
/// Errors of [`parse_json`].
pub fn parse_binary(bytes: &[u8], text: impl Fn(u32) -> Arc<str>) -> Result<Graph> {
    let model: Model = whole(bytes)?;
    graph(&model.louds.lbs.byte_vec, model.louds.lbs.bit_len, model.tokens, text)
}

/// Parses the graphs of a binary file of many (`all_models.bin`), `None` for neurons without one.
///
/// # Errors
/// Errors of [`parse_json`].
pub fn parse_binary_list(bytes: &[u8], text: impl Fn(u32) -> Arc<str>) -> Result<Vec<Option<Graph>>> {
    let models: Vec<Option<Model>> = whole(bytes)?;
    let one = |model: Model| graph(&model.louds.lbs.byte_vec, model.louds.lbs.bit_len, model.tokens, &text);
    models.into_iter().map(|model| model.map(one).transpose()).collect()
}

/// Reads a value of all of the bytes.
fn whole<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(malformed(FORMAT, format!("there are {} bytes after its end", rest.len()))),
        Err(error) => Err(malformed(FORMAT, error)),
    }
}

fn graph(
    bytes: &[u8],
    bit_len: u64,
    tokens: impl IntoIterator<Item = StoredToken>,
    text: impl Fn(u32) -> Arc<str>,
) -> Result<Graph> {
    let too_short = || malformed(FORMAT, "the bit string is too short");
    let bit_len = usize::try_from(bit_len).ok().filter(|bits| *bits <= bytes.len() * 8).ok_or_else(too_short)?;
    let mut bits = (0..bit_len).map(|i| bytes[i / 8] >> (7 - i % 8) & 1 == 1);
    if (bits.next(), bits.next()) != (Some(true), Some(false)) {
        return Err(malformed(FORMAT, "the bit string does not start with 10"));
    }
    // The first two are placeholders. `parent` is the node whose children come next, `None` above the activators.
    let mut tokens = tokens.into_iter().skip(2);
    let mut nodes = Vec::new();
    let mut parent = None;
    for bit in &mut bits {
        if !bit {
            // The next node in level order; after the last node the string must end.
            parent = Some(parent.map_or(0, |parent: u32| parent + 1));
            continue;
        }
        let Some(written) = tokens.next() else { return Err(malformed(FORMAT, "there are fewer tokens than nodes")) };
        if parent.is_some_and(|parent| parent as usize >= nodes.len()) {
            return Err(malformed(FORMAT, "the bit string has children of a node that it does not have"));
        }
        nodes.push(written.into_node(parent, &text));
    }
    if parent.map_or(0, |closed| closed as usize + 1) != nodes.len() + 1 {
        return Err(malformed(FORMAT, "the bit string closes more or fewer nodes than it has"));
    }
    if tokens.next().is_some() {
        return Err(malformed(FORMAT, "there are more tokens than nodes"));
    }
    count_support(&mut nodes);
    estimate_activations(&mut nodes);
    Graph::new(nodes)
}

impl StoredToken {
    fn into_node(self, parent: Option<u32>, text: impl Fn(u32) -> Arc<str>) -> Node {
        let symbol = match self.token.token {
            ANY => Symbol::Any,
            id => Symbol::token(id, text(id)),
        };
        let importance = if self.importance.is_nan() { 0.0 } else { self.importance };
        Node { parent, symbol, importance, activation: 0.0, ends: self.end_node, support: 0 }
    }

    fn nothing() -> Self {
        Self { token: Id { token: ANY }, end_node: None, importance: f32::NAN }
    }
}

/// Writes a graph as JSON.
///
/// # Errors
/// [`Error::Inexpressible`] if it has gaps, the start of a text, or tokens without ids.
pub fn print_json(graph: &Graph) -> Result<String> {
    serde_json::to_string(&model(graph)?).map_err(|error| malformed(FORMAT, error))
}

/// Writes a graph in the binary form.
///
/// # Errors
/// Errors of [`print_json`].
pub fn print_binary(graph: &Graph) -> Result<Vec<u8>> {
    postcard::to_allocvec(&model(graph)?).map_err(|error| malformed(FORMAT, error))
}

/// Writes the graphs of many neurons in the binary form, `None` for neurons without one.
///
/// # Errors
/// Errors of [`print_json`].
pub fn print_binary_list<'a>(graphs: impl IntoIterator<Item = Option<&'a Graph>>) -> Result<Vec<u8>> {
    let models = graphs.into_iter().map(|graph| graph.map(model).transpose()).collect::<Result<Vec<_>>>()?;
    postcard::to_allocvec(&models).map_err(|error| malformed(FORMAT, error))
}

fn model(graph: &Graph) -> Result<Model> {
    let graph = graph.expanded();
    let mut children: Vec<Vec<(u32, u32)>> = vec![Vec::new(); graph.nodes().len() + 1];
    for (i, node) in graph.nodes().iter().enumerate() {
        let inexpressible = |what| Err(Error::Inexpressible { format: FORMAT, what });
        let id = match &node.symbol {
            Symbol::Token(Token { id: Some(id), .. }) if *id != ANY => *id,
            Symbol::Token(_) => return inexpressible("tokens without an id"),
            Symbol::Any => ANY,
            Symbol::Gap(_) => return inexpressible("gaps"),
            Symbol::Start => return inexpressible("start of the text"),
        };
        children[node.parent.map_or(0, |parent| parent as usize + 1)].push((id, i as u32));
    }
    let mut bits = vec![true, false];
    let mut tokens = vec![StoredToken::nothing(), StoredToken::nothing()];
    let mut order = std::collections::VecDeque::from([0]);
    while let Some(node) = order.pop_front() {
        let below = &mut children[node];
        below.sort_unstable();
        bits.extend(below.iter().map(|_| true).chain([false]));
        for (id, child) in below {
            let Node { importance, ends, .. } = graph.nodes()[*child as usize];
            tokens.push(StoredToken { token: Id { token: *id }, end_node: ends, importance });
            order.push_back(*child as usize + 1);
        }
    }
    Ok(Model { louds: Louds { lbs: Bits::new(&bits) }, tokens })
}

impl Bits {
    fn new(bits: &[bool]) -> Self {
        let logarithm = bits.len().ilog2() as usize;
        let block_length = (logarithm / 2).max(1);
        let ones = |bits: &[bool]| bits.iter().filter(|bit| **bit).count();
        let mut total = 0;
        let chunks: Vec<_> = bits
            .chunks((logarithm * logarithm).max(1))
            .map(|chunk| {
                let mut inside = 0;
                let blocks: Vec<_> = chunk
                    .chunks(block_length)
                    .map(|block| {
                        inside += ones(block) as u16;
                        Block { value: inside, length: block.len() as u8 }
                    })
                    .collect();
                total += ones(chunk) as u64;
                Chunk { value: total, blocks: Blocks { blocks_cnt: blocks.len() as u16, blocks } }
            })
            .collect();
        let byte = |byte: &[bool]| byte.iter().zip(0..).fold(0, |sum, (bit, i)| sum | u8::from(*bit) << (7 - i));
        Self {
            byte_vec: bits.chunks(8).map(byte).collect(),
            bit_len: bits.len() as u64,
            chunks: Chunks { chunks_cnt: chunks.len() as u64, chunks },
            table: Table {
                bit_length: block_length as u8,
                table: (0..1u32 << block_length).map(|number| number.count_ones() as u8).collect(),
            },
        }
    }
}
