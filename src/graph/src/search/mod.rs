//! Search for graphs by their tokens.
//!
//! # Queries
//!
//! | query | graphs that have |
//! |---|---|
//! | `import` | the token, with any case and spaces: `import`, ` Import` |
//! | `activating:import` | a neuron that fires on it |
//! | `important:import` | it as context that matters for the activation on a later token |
//! | `any:import` | it in any role |
//! | `from import`, `from AND import`, `from,import` | both |
//! | `from OR import` | one or both |
//! | `NOT from`, `import NOT from` | not the token; `import` but not `from` |
//! | `(from OR use) import` | as parentheses say; without, NOT binds more than AND, and AND more than OR |
//! | `imp*` | tokens that start so |
//! | `"a:b"`, `"imp*"`, `"OR"`, `"\n"` | a token with characters or a name that mean something |
//! | `=" import"`, `activating:="Import"` | exactly this token, with its case and spaces |
//! | `"United States"` | tokens next to each other that spell this, however words are split into tokens |
//! | `"United Sta"*`, `=" United States"` | as above, its beginning or exactly |
//!
//! Operators are in capitals; they and stars are tokens when they are in quotes, and words are also tokens directly
//! after a role: `any:AND`. So is a parenthesis there, with all up to the next space or comma, as in `any:(`, and a
//! token of stars only. Each query of [DeepDecipher](https://github.com/apartresearch/deepdecipher)
//! (`activating:from,important:import`) is one that means the same, save that case and spaces do not count, that a star
//! at the end stands for more, and that quotes around tokens are none of theirs. Escapes in quotes are those of JSON
//! and Rust: `\"`, `\\`, `\n`, `\r`, `\t`, `\u00e9`, `\u{1f600}`.
//!
//! Case and spaces are left out by [`normalize`]. A text in quotes with spaces between its words is a phrase: a run of
//! tokens without wildcards between them on the way from a node to its activator, read from left to right, whose texts
//! together are the phrase. Its role is that of its last token: `activating:"United States"` fires on ` States`.
//!
//! # Two ways
//!
//! [`Query::find`] looks at one graph; [`Query::search`] reads an [`Index`] of the [`postings`] of all graphs. Both
//! give the same answers, best first by [`Score`].

mod best;
mod find;
mod index;
mod memory;
mod normalize;
mod phrase;
mod plan;
mod posting;
mod query;
mod score;
mod syntax;

pub use find::{Evidence, Hit};
pub use index::{Index, PostingList};
pub use memory::MemoryIndex;
pub use normalize::normalize;
pub use plan::SearchResult;
pub use posting::{Posting, postings};
pub use query::{Form, LONGEST_TERM, MOST_TERMS, Query, Term};
pub use score::{Role, Score};
