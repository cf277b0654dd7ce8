//! Parser of queries.

use winnow::combinator::{alt, delimited, eof, not, opt, peek, preceded, repeat, terminated};
use winnow::error::{ErrMode, ParserError};
use winnow::prelude::*;
use winnow::stream::{AsChar, LocatingSlice, Location};
use winnow::token::{any, one_of, take_while};

use super::{Form, Query, Role, Term};
use crate::{Error, Result};

/// Greatest nesting of parentheses and NOTs.
const DEEPEST_QUERY: usize = 64;

/// Words that are operators unless they are in quotes or after a role.
pub(super) const KEYWORDS: [&str; 3] = ["AND", "OR", "NOT"];

const MISSING: &str = "a token, NOT or an opening parenthesis is missing";

type Input<'a> = LocatingSlice<&'a str>;
type Parsed<T> = ModalResult<T, SyntaxFailure>;

/// Failure of parsing: its place, in bytes, and the fault.
#[derive(Debug)]
struct SyntaxFailure {
    at: usize,
    problem: String,
}

impl ParserError<Input<'_>> for SyntaxFailure {
    type Inner = Self;

    fn from_input(input: &Input) -> Self {
        Self { at: input.current_token_start(), problem: MISSING.to_owned() }
    }

    fn into_inner(self) -> std::result::Result<Self, Self> {
        Ok(self)
    }
}

/// Fails without backtracking.
fn fail<T>(at: usize, problem: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(SyntaxFailure { at, problem: problem.into() }))
}

/// Parses a query.
pub(super) fn parse(text: &str) -> Result<Query> {
    let input = &mut LocatingSlice::new(text);
    whole(input).map_err(|error| {
        let failure = error.into_inner().unwrap_or_else(|_| SyntaxFailure::from_input(input));
        let position = text.get(..failure.at).map_or(0, |before| before.chars().count()) + 1;
        Error::Syntax { position, problem: failure.problem }
    })
}

fn whole(input: &mut Input) -> Parsed<Query> {
    space(input)?;
    if input.is_empty() {
        return fail(0, "the query is empty; it needs a token, such as import or activating:import");
    }
    let query = disjunction(0, input)?;
    match opt(eof).parse_next(input)? {
        Some(_) => Ok(query),
        None => fail(input.current_token_start(), "there is no parenthesis to close"),
    }
}

fn disjunction(depth: usize, input: &mut Input) -> Parsed<Query> {
    let mut parts = vec![conjunction(depth, input)?];
    while opt(keyword("OR")).parse_next(input)?.is_some() {
        parts.push(conjunction(depth, input)?);
    }
    Ok(joined(parts, Query::Or))
}

fn conjunction(depth: usize, input: &mut Input) -> Parsed<Query> {
    let mut parts = vec![negation(depth, input)?];
    let end = |input: &mut Input| peek(alt((eof.void(), ')'.void(), keyword("OR")))).parse_next(input);
    let operator = |input: &mut Input| alt((sign(','), keyword("AND"))).parse_next(input);
    // Terms without an operator between them are joined too.
    while opt(operator).parse_next(input)?.is_some() || opt(end).parse_next(input)?.is_none() {
        parts.push(negation(depth, input)?);
    }
    Ok(joined(parts, Query::And))
}

fn joined(mut parts: Vec<Query>, join: fn(Vec<Query>) -> Query) -> Query {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn negation(depth: usize, input: &mut Input) -> Parsed<Query> {
    let at = input.current_token_start();
    if depth > DEEPEST_QUERY {
        return fail(at, format!("more than {DEEPEST_QUERY} parentheses and NOTs are in each other"));
    }
    if opt(keyword("NOT")).parse_next(input)?.is_some() {
        return negation(depth + 1, input).map(|part| Query::Not(Box::new(part)));
    }
    if opt(sign('(')).parse_next(input)?.is_none() {
        return terminated(term, space).parse_next(input).map(Query::Term);
    }
    let query = disjunction(depth + 1, input)?;
    match opt(sign(')')).parse_next(input)? {
        Some(()) => Ok(query),
        None => fail(at, "the parenthesis is not closed"),
    }
}

/// Parses a term, and checks that a space, a comma, a closing parenthesis or the end follows.
fn term(input: &mut Input) -> Parsed<Term> {
    let at = input.current_token_start();
    let word = opt(bare).parse_next(input)?;
    let term = match (word, opt(':').parse_next(input)?) {
        (Some(word), Some(_)) => {
            let role = role(at, word)?;
            after_colon(at, word, role, input)?
        }
        (None, Some(_)) => return fail(at, "a role is missing before the colon; a token with a colon goes in quotes"),
        (Some(word), None) if KEYWORDS.contains(&word) => {
            return fail(at, format!("{MISSING} before {word}; to search for the token, put it in quotes"));
        }
        (Some("="), None) if input.starts_with('"') => exact(at, None, input)?,
        (Some(word), None) => of_word(at, None, word)?,
        (None, None) => in_quotes(at, None, input)?,
    };
    let next = peek(opt(any)).parse_next(input)?;
    if next.is_none_or(|c| c.is_whitespace() || matches!(c, ',' | ')')) {
        return Ok(term);
    }
    fail(input.current_token_start(), "a space, a comma or the end is missing; tokens with : \" ( ) or , go in quotes")
}

fn role(at: usize, name: &str) -> Parsed<Option<Role>> {
    let is_named = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    match Role::ALL.into_iter().find(|role| is_named(role.name())) {
        Some(role) => Ok(Some(role)),
        None if is_named("any") => Ok(None),
        None => fail(
            at,
            format!("there is no role {name}; it is activating, important or any; a token with a colon goes in quotes"),
        ),
    }
}

/// Parses the term after a role, where words are no operators and parentheses are tokens.
fn after_colon(at: usize, name: &str, role: Option<Role>, input: &mut Input) -> Parsed<Term> {
    let parenthesis = |c: char| matches!(c, '(' | ')');
    let token = (one_of(parenthesis), take_while(0.., move |c| is_bare(c) || parenthesis(c))).take();
    if let Some(word) = opt(token).parse_next(input)? {
        return of_word(at, role, word);
    }
    space(input)?;
    let start = input.current_token_start();
    match opt(bare).parse_next(input)? {
        Some("=") if input.starts_with('"') => exact(start, role, input),
        Some(word) => of_word(start, role, word),
        None if input.starts_with('"') => in_quotes(start, role, input),
        None => fail(start, format!("a token is missing after {name}:")),
    }
}

/// Makes a term of a word without quotes: a prefix if it ends in a star, unless it is nothing but stars.
fn of_word(at: usize, role: Option<Role>, word: &str) -> Parsed<Term> {
    match word.strip_suffix('*') {
        Some(prefix) if prefix.contains(|c| c != '*') => of_text(at, role, Form::Prefix, prefix),
        _ => of_text(at, role, Form::Normalized, word),
    }
}

fn in_quotes(at: usize, role: Option<Role>, input: &mut Input) -> Parsed<Term> {
    let text = quoted(input)?;
    let form = if opt('*').parse_next(input)?.is_some() { Form::Prefix } else { Form::Normalized };
    of_text(at, role, form, &text)
}

fn exact(at: usize, role: Option<Role>, input: &mut Input) -> Parsed<Term> {
    let text = quoted(input)?;
    match opt('*').parse_next(input)? {
        Some(_) => fail(at, "an exact token cannot be a prefix; leave out the = or the *"),
        None => of_text(at, role, Form::Exact, &text),
    }
}

fn of_text(at: usize, role: Option<Role>, form: Form, text: &str) -> Parsed<Term> {
    match Term::new(role, form, text) {
        Ok(term) => Ok(term),
        Err(Error::Syntax { problem, .. }) => fail(at, problem),
        Err(error) => fail(at, error.to_string()),
    }
}

/// Returns true if a character can be part of a token without quotes.
pub(super) fn is_bare(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, ',' | ':' | '"' | '(' | ')')
}

fn bare<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    take_while(1.., is_bare).parse_next(input)
}

fn keyword<'a>(word: &'static str) -> impl Parser<Input<'a>, (), ErrMode<SyntaxFailure>> {
    (word, not(one_of(|c| is_bare(c) || c == ':')), space).void()
}

fn sign<'a>(sign: char) -> impl Parser<Input<'a>, (), ErrMode<SyntaxFailure>> {
    (sign, space).void()
}

fn space(input: &mut Input) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn quoted(input: &mut Input) -> Parsed<String> {
    let at = input.current_token_start();
    '"'.parse_next(input)?;
    let plain = |input: &mut Input| {
        let text = take_while(1.., |c| !matches!(c, '"' | '\\')).parse_next(input)?;
        Ok(text.to_owned())
    };
    let text = repeat(0.., alt((plain, escape.map(String::from)))).fold(String::new, |text, piece| text + &piece);
    match (text, opt('"')).parse_next(input)? {
        (text, Some(_)) => Ok(text),
        (_, None) => fail(at, "the quote is not closed"),
    }
}

/// Parses an escape of a character, as in JSON and in Rust.
fn escape(input: &mut Input) -> Parsed<char> {
    let at = input.current_token_start();
    match preceded('\\', any).parse_next(input)? {
        c @ ('"' | '\\' | '/' | '*') => Ok(c),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'u' => match opt(code_point).parse_next(input)?.flatten() {
            Some(c) => Ok(c),
            None => fail(at, "\\u needs a character's number, as in \\u00e9 or \\u{1f600}"),
        },
        c => fail(at, format!("there is no escape \\{c}; there are \\\" \\\\ \\n \\r \\t \\u00e9 \\u{{1f600}}")),
    }
}

/// Parses the code point after `\u`, in braces or as one or two units of UTF-16; `None` if it is no character.
fn code_point(input: &mut Input) -> Parsed<Option<char>> {
    let hexadecimal = |least, most| {
        take_while(least..=most, AsChar::is_hex_digit).map(|digits| u32::from_str_radix(digits, 16).unwrap_or(u32::MAX))
    };
    if let Some(number) = opt(delimited('{', hexadecimal(1, 6), '}')).parse_next(input)? {
        return Ok(char::from_u32(number));
    }
    let first = hexadecimal(4, 4).parse_next(input)?;
    let is_half = (0xd800..0xdc00).contains(&first);
    let second = if is_half { opt(preceded("\\u", hexadecimal(4, 4))).parse_next(input)? } else { None };
    let units = [Some(first), second].into_iter().flatten().map(|unit| unit as u16);
    Ok(char::decode_utf16(units).next().and_then(std::result::Result::ok))
}
