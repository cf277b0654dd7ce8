//! A graph as columns of numbers, as tables keep it.

use crate::{Error, Result, Symbol, Token};

/// Validity bitmap of a column: 1 if not NULL, the least significant bit of each byte first, as in Arrow.
#[derive(Debug, Clone, Copy)]
pub struct Validity<'a> {
    /// The bits.
    pub bytes: &'a [u8],
    /// Number of bits before that of the first value.
    pub offset: usize,
}

impl Validity<'_> {
    fn is_valid(this: Option<Self>, index: usize) -> bool {
        this.is_none_or(|Validity { bytes, offset }| bytes[(offset + index) / 8] >> ((offset + index) % 8) & 1 == 1)
    }
}

/// Columns of the nodes of one graph, borrowed. Nodes may be in any order.
///
/// A row whose parent is −2 − n is no node but a further token of the node of row n, an [`Alternative`](crate::Alternative).
///
/// A token has an id and a text; the id alone is NULL in tokens that no vocabulary has given one yet, and they match
/// nothing. The text is NULL in wildcards: id NULL is any token, −1 the start of the text, and −(1 + n) a gap of up to
/// n ≥ 1 tokens.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Row of the node one token nearer to the activator; −1 at depth 0; −2 − n for a further token of row n.
    pub parents: &'a [i32],
    /// Token ids of nodes, which encode their symbols.
    pub token_ids: &'a [i32],
    /// Validity of the token ids; `None` if none is NULL.
    pub token_id_validity: Option<Validity<'a>>,
    /// Validity of the token texts, which themselves are not needed; `None` if none is NULL.
    pub token_validity: Option<Validity<'a>>,
    /// Predicted activations, at nodes where patterns end.
    pub ends: &'a [f32],
    /// Validity of the ends; `None` if none is NULL.
    pub ends_validity: Option<Validity<'a>>,
}

/// Role of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A node with this parent.
    Node(Option<u32>),
    /// A further token of the node of this row.
    Alternative(u32),
}

/// Step of matching that a node stands for, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum MatchStep {
    Token(u32),
    Start,
    Any,
    Gap(u16),
    /// A token without an id.
    Never,
}

impl From<&Symbol> for MatchStep {
    fn from(symbol: &Symbol) -> Self {
        match symbol {
            Symbol::Token(Token { id: Some(id), .. }) => Self::Token(*id),
            Symbol::Token(Token { id: None, .. }) => Self::Never,
            Symbol::Any => Self::Any,
            Symbol::Gap(most) => Self::Gap(*most),
            Symbol::Start => Self::Start,
        }
    }
}

impl View<'_> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bits = |validity: Option<Validity>| {
            validity.map_or(self.len(), |bits| (bits.bytes.len() * 8).saturating_sub(bits.offset).min(self.len()))
        };
        let columns = [
            ("token ids", self.token_ids.len()),
            ("ends", self.ends.len()),
            ("validity of token ids", bits(self.token_id_validity)),
            ("validity of tokens", bits(self.token_validity)),
            ("validity of ends", bits(self.ends_validity)),
        ];
        match columns.into_iter().find(|(_, found)| *found != self.len()) {
            Some((what, found)) => Err(Error::Shape { what, expected: self.len(), found }),
            None => Ok(()),
        }
    }

    pub(crate) fn role(&self, row: usize) -> Result<Role> {
        let rows = self.len();
        let within = |other: i64| usize::try_from(other).ok().filter(|other| *other < rows).map(|other| other as u32);
        let role = match i64::from(self.parents[row]) {
            -1 => Some(Role::Node(None)),
            parent @ 0.. => within(parent).map(|parent| Role::Node(Some(parent))),
            parent => within(-2 - parent).map(Role::Alternative),
        };
        role.ok_or(Error::Dangling { node: row, parent: self.parents[row].into(), nodes: rows })
    }

    pub(crate) fn step(&self, node: usize) -> Result<MatchStep> {
        let id = Validity::is_valid(self.token_id_validity, node).then(|| self.token_ids[node]);
        step(id, Validity::is_valid(self.token_validity, node))
    }

    pub(crate) fn end(&self, node: usize) -> Option<f32> {
        Validity::is_valid(self.ends_validity, node).then(|| self.ends[node])
    }
}

/// Encodes a symbol as the columns token id and token; see [`View`].
///
/// # Errors
/// [`Error::Malformed`] for ids above 2³¹ − 1, and for gaps of no token.
pub fn encode(symbol: &Symbol) -> Result<(Option<i32>, Option<&str>)> {
    match symbol {
        Symbol::Token(Token { id: None, text }) => Ok((None, Some(text))),
        Symbol::Token(Token { id: Some(id), text }) => match i32::try_from(*id) {
            Ok(id) => Ok((Some(id), Some(text))),
            Err(_) => Err(malformed(format!("token id {id} is too large"))),
        },
        Symbol::Any => Ok((None, None)),
        Symbol::Gap(0) => Err(malformed("a gap of no token".to_owned())),
        Symbol::Gap(most) => Ok((Some(-1 - i32::from(*most)), None)),
        Symbol::Start => Ok((Some(-1), None)),
    }
}

/// Decodes the symbol of the columns token id and token; see [`View`].
///
/// # Errors
/// [`Error::Malformed`] for a token without a text, and for one with a negative id.
pub fn decode(token_id: Option<i32>, token: Option<&str>) -> Result<Symbol> {
    Ok(match (step(token_id, token.is_some())?, token) {
        (MatchStep::Token(id), text) => Symbol::token(id, text.unwrap_or_default()),
        (MatchStep::Never, text) => Symbol::Token(Token { id: None, text: text.unwrap_or_default().into() }),
        (MatchStep::Start, _) => Symbol::Start,
        (MatchStep::Any, _) => Symbol::Any,
        (MatchStep::Gap(most), _) => Symbol::Gap(most),
    })
}

fn step(id: Option<i32>, has_text: bool) -> Result<MatchStep> {
    Ok(match (id, has_text) {
        (None, true) => MatchStep::Never,
        (None, false) => MatchStep::Any,
        (Some(-1), false) => MatchStep::Start,
        (Some(id @ 0..), true) => MatchStep::Token(id as u32),
        (Some(id), false) if (-1 - i32::from(u16::MAX)..0).contains(&id) => MatchStep::Gap((-1 - id) as u16),
        (Some(id), true) => return Err(malformed(format!("a token has the id {id}"))),
        (Some(id), false) => return Err(malformed(format!("the id {id} is of no token's, but there is no text"))),
    })
}

fn malformed(reason: String) -> Error {
    Error::Malformed { format: "columns", reason }
}
