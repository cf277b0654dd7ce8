//! Identity of symbols in two graphs, whose models may have different vocabularies.

use twox_hash::XxHash3_64;

use crate::{Graph, Symbol, Token};

/// Seed of all hashes. Hashes may be stored: changing it, or the hashed bytes, is a change of format.
const SEED: u64 = 0x6e65_7572_6f71_6c00;

/// Identity by which symbols are compared: of tokens, the text, or the id if the text is incomplete, because the
/// token's bytes are no UTF-8 by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SymbolIdentity<'a> {
    Text(&'a str),
    Id(u32),
    Any,
    Gap(u16),
    Start,
}

impl<'a> From<&'a Token> for SymbolIdentity<'a> {
    fn from(token: &'a Token) -> Self {
        match token.id {
            Some(id) if token.text.contains(char::REPLACEMENT_CHARACTER) => Self::Id(id),
            _ => Self::Text(&token.text),
        }
    }
}

impl<'a> From<&'a Symbol> for SymbolIdentity<'a> {
    fn from(symbol: &'a Symbol) -> Self {
        match symbol {
            Symbol::Token(token) => token.into(),
            Symbol::Any => Self::Any,
            Symbol::Gap(most) => Self::Gap(*most),
            Symbol::Start => Self::Start,
        }
    }
}

impl SymbolIdentity<'_> {
    /// Appends bytes that no other identity has.
    fn write(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                bytes.push(0);
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::Id(id) => {
                bytes.push(1);
                bytes.extend_from_slice(&id.to_le_bytes());
            }
            Self::Any => bytes.push(2),
            Self::Gap(most) => {
                bytes.push(3);
                bytes.extend_from_slice(&most.to_le_bytes());
            }
            Self::Start => bytes.push(4),
        }
    }
}

/// Hash of the path from the activator to each node of an expanded graph: XXH3 with 64 bits of its parent's hash and its own identity, so
/// the same on all machines.
pub(crate) fn path_hashes(graph: &Graph) -> Vec<u64> {
    let mut hashes: Vec<u64> = Vec::with_capacity(graph.nodes().len());
    let mut bytes = Vec::new();
    for node in graph.nodes() {
        let above = node.parent.map_or(0, |parent| hashes[parent as usize]);
        bytes.clear();
        bytes.extend_from_slice(&above.to_le_bytes());
        SymbolIdentity::from(&node.symbol).write(&mut bytes);
        hashes.push(XxHash3_64::oneshot_with_seed(SEED, &bytes));
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;

    fn hashes(symbols: &[Symbol]) -> Vec<u64> {
        let node = |(depth, symbol): (u32, &Symbol)| Node {
            parent: depth.checked_sub(1),
            symbol: symbol.clone(),
            importance: 1.0,
            activation: 1.0,
            ends: None,
            support: 1,
        };
        path_hashes(&Graph::new((0..).zip(symbols).map(node).collect()).unwrap())
    }

    #[test]
    fn tokens_are_compared_by_text() {
        assert_eq!(hashes(&[Symbol::token(1, " dog")]), hashes(&[Symbol::token(2, " dog")]));
        assert_ne!(hashes(&[Symbol::token(1, " dog")]), hashes(&[Symbol::token(1, " Dog")]));
        // Halves of a character: equal texts of such tokens mean nothing.
        assert_ne!(hashes(&[Symbol::token(1, "\u{FFFD}")]), hashes(&[Symbol::token(2, "\u{FFFD}")]));
        let unbound = |text: &str| Symbol::Token(Token { id: None, text: text.into() });
        assert_eq!(hashes(&[unbound("\u{FFFD}")]), hashes(&[unbound("\u{FFFD}")]));
        assert_eq!(hashes(&[unbound(" dog")]), hashes(&[Symbol::token(7, " dog")]));
    }

    #[test]
    fn hashes_are_those_that_were_stored() {
        // HASHES are from the reference implementation: xxhash.xxh3_64_intdigest of the parent's digest and the bytes.
        let way = [Symbol::token(1, " dog"), Symbol::Any, Symbol::Gap(3), Symbol::token(9, "\u{FFFD}"), Symbol::Start];
        assert_eq!(hashes(&way), HASHES);
    }

    const HASHES: [u64; 5] = [
        0xc42e_1b82_83f8_6cf8,
        0x2397_c300_f866_63ff,
        0x47c4_b3be_6643_e0e2,
        0xf3ad_220b_9af6_1f13,
        0x751b_845f_83ff_946f,
    ];
}
