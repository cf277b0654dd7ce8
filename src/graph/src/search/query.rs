//! Search queries.

use std::fmt;
use std::str::FromStr;

use super::{Role, normalize, syntax};
use crate::draw::quoted;
use crate::{Error, Result};

/// Greatest number of terms of a query.
pub const MOST_TERMS: usize = 256;

/// Greatest number of characters of a term.
pub const LONGEST_TERM: usize = 256;

/// A query over the tokens of graphs; [the module](super) describes its language.
///
/// Its text parses to the same query if its conjunctions and disjunctions have two parts or more, as parsed ones have.
///
/// ```
/// use neuroql_graph::search::Query;
///
/// let query: Query = "activating:from,important:import".parse()?;
/// assert_eq!(query, "activating:from AND important:import".parse()?);
/// assert_eq!(query.to_string(), "activating:from AND important:import");
///
/// let error = "activating:from AND (import OR".parse::<Query>().unwrap_err();
/// assert_eq!(error.to_string(), "search query, character 31: a token, NOT or an opening parenthesis is missing");
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Query {
    /// A token or a phrase.
    Term(Term),
    /// Conjunction of all parts; without parts, every graph matches.
    And(Vec<Query>),
    /// Disjunction of the parts: at least one matches.
    Or(Vec<Query>),
    /// Negation of a part.
    Not(Box<Query>),
}

/// A token, or a phrase of several, in a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    role: Option<Role>,
    form: Form,
    text: String,
    key: String,
}

/// Form of a term: the rule by which its text matches those of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Equality of the [normalised](normalize) texts.
    Normalized,
    /// Prefix: the normalised text of the token begins with that of the term.
    Prefix,
    /// Equality of the texts.
    Exact,
}

impl Term {
    /// Makes a term; without a role, it matches any role.
    ///
    /// # Errors
    /// [`Error::Syntax`] if there is no text, [`Error::QueryTooLarge`] for more than [`LONGEST_TERM`] characters.
    pub fn new(role: Option<Role>, form: Form, text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match text.chars().count() {
            0 => Err(Error::Syntax { position: 1, problem: "the token is empty".to_owned() }),
            1..=LONGEST_TERM => Ok(Self { role, form, key: normalize(&text), text }),
            count => Err(Error::QueryTooLarge { what: "characters in a term", count, limit: LONGEST_TERM }),
        }
    }

    /// Role that tokens must have, if any.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Form of the term.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Its text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its [normalised](normalize) text.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns true if it has several words, which tokens next to each other may spell.
    pub fn is_phrase(&self) -> bool {
        self.text.trim().contains(char::is_whitespace)
    }

    /// Returns true if the term matches a role.
    pub(super) fn takes_role(&self, role: Role) -> bool {
        self.role.is_none_or(|wanted| wanted == role)
    }

    /// Returns true if it can be written without quotes.
    fn is_bare(&self) -> bool {
        let is_keyword = syntax::KEYWORDS.contains(&self.text.as_str());
        let is_plain = self.text.chars().all(|c| syntax::is_bare(c) && !matches!(c, '*' | '=' | '\\'));
        self.form != Form::Exact && is_plain && !is_keyword && quoted(&self.text).len() == self.text.len() + 2
    }
}

impl Query {
    /// Number of terms.
    pub fn terms(&self) -> usize {
        match self {
            Self::Term(_) => 1,
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::terms).sum(),
            Self::Not(part) => part.terms(),
        }
    }
}

impl FromStr for Query {
    type Err = Error;

    /// # Errors
    /// [`Error::Syntax`] with the position and the fault, [`Error::QueryTooLarge`].
    fn from_str(text: &str) -> Result<Self> {
        let query = syntax::parse(text)?;
        match query.terms() {
            ..=MOST_TERMS => Ok(query),
            count => Err(Error::QueryTooLarge { what: "terms", count, limit: MOST_TERMS }),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(role) = self.role {
            write!(f, "{}:", role.name())?;
        }
        if self.form == Form::Exact {
            f.write_str("=")?;
        }
        if self.is_bare() {
            f.write_str(&self.text)?;
        } else {
            f.write_str(&quoted(&self.text))?;
        }
        f.write_str(if self.form == Form::Prefix { "*" } else { "" })
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, operator) = match self {
            Self::Term(term) => return term.fmt(f),
            Self::Not(part) => {
                f.write_str("NOT ")?;
                return part.fmt_inside(f, matches!(**part, Self::And(_) | Self::Or(_)));
            }
            Self::And(parts) => (parts, " AND "),
            Self::Or(parts) => (parts, " OR "),
        };
        for (i, part) in parts.iter().enumerate() {
            f.write_str(if i > 0 { operator } else { "" })?;
            let binds_less = matches!(part, Self::Or(_)) || matches!((self, part), (Self::And(_), Self::And(_)));
            part.fmt_inside(f, binds_less)?;
        }
        Ok(())
    }
}

impl Query {
    fn fmt_inside(&self, f: &mut fmt::Formatter<'_>, in_parentheses: bool) -> fmt::Result {
        if in_parentheses { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}
