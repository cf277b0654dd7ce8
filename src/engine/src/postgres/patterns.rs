//! Patterns of `SIMILAR TO`, `LIKE … ESCAPE` and `~`, translated to regular expressions and patterns of DataFusion.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use regex_syntax::hir::{Hir, HirKind};

use super::casts::arrow_cast;
use super::names;
use super::refusal::refusal;

/// A pattern in another language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Language {
    /// `SIMILAR TO`, with its escape character.
    Similar(Option<char>),
    /// `LIKE` with an escape character other than `\`.
    Like(char),
    /// A regular expression of Postgres.
    Regular,
    /// A regular expression whose matched text matters, not only that it matches.
    Found,
}

/// Returns the regular expression with the matches of `SIMILAR TO pattern`.
pub(super) fn similar(pattern: Expr, escape: Option<char>) -> Expr {
    translated(Language::Similar(escape), pattern)
}

/// Returns a pattern of `LIKE` with `\` for its escape character.
pub(super) fn like(pattern: Expr, escape: char) -> Expr {
    translated(Language::Like(escape), pattern)
}

/// Returns a regular expression of Postgres as one of the regex crate.
pub(super) fn regular(pattern: Expr) -> Expr {
    translated(Language::Regular, pattern)
}

/// Returns the same as [`regular`] for an expression whose matched text matters, not only that it matches.
pub(super) fn found(pattern: Expr) -> Expr {
    translated(Language::Found, pattern)
}

/// Returns true if this is such a pattern already.
pub(super) fn is_translated(pattern: &Expr) -> bool {
    matches!(pattern, Expr::ScalarFunction(function) if function.func.inner().downcast_ref::<Translation>().is_some())
}

fn translated(language: Language, pattern: Expr) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Translation { language, signature }).call(vec![pattern])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Translation {
    language: Language,
    signature: Signature,
}

impl ScalarUDFImpl for Translation {
    fn name(&self) -> &str {
        match self.language {
            Language::Similar(_) => "similar_to_escape",
            Language::Like(_) => "like_escape",
            Language::Regular => "pg_regular_expression",
            Language::Found => "pg_regular_match",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(names::name(self.name(), args, |args| args[0].schema_name().to_string()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let translate = |pattern: &str| match self.language {
            Language::Similar(escape) => from_similar(pattern, escape),
            Language::Like(escape) => from_like(pattern, escape),
            Language::Regular => from_regular(pattern),
            Language::Found => {
                let found = from_regular(pattern)?;
                check_lengths(&found).map(|()| found)
            }
        };
        match &args.args[0] {
            ColumnarValue::Scalar(pattern) => match pattern.try_as_str() {
                Some(pattern) => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(pattern.map(translate).transpose()?))),
                None if pattern.is_null() => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
                None => exec_err!("a pattern is text, not {}", pattern.data_type()),
            },
            ColumnarValue::Array(patterns) => {
                let patterns = arrow_cast(patterns, &DataType::Utf8)?;
                let patterns = patterns.as_string::<i32>().iter().map(|it| it.map(translate).transpose());
                Ok(ColumnarValue::Array(Arc::new(patterns.collect::<Result<StringArray>>()?)))
            }
        }
    }
}

/// Returns true for the characters that mean something in a regular expression.
fn is_special(letter: char) -> bool {
    matches!(
        letter,
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '#' | '&' | '-' | '~'
    )
}

fn literal(letter: char, pattern: &mut String) {
    if is_special(letter) {
        pattern.push('\\');
    }
    pattern.push(letter);
}

fn invalid(what: &str) -> datafusion::error::DataFusionError {
    refusal("2201B", format!("invalid regular expression: {what}"))
}

pub(super) fn no_escape() -> datafusion::error::DataFusionError {
    refusal("22025", "LIKE pattern must not end with escape character")
}

/// Beginning of every translated pattern. No pattern of Postgres begins with it, so that one is known when it comes
/// again: a plan may be analysed twice.
const TRANSLATED: &str = "(?s-x)";

/// Translates `a_%` to `(?s-x)^(?:a..*)$`.
fn from_similar(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut found = format!("{TRANSLATED}^(?:");
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if Some(letter) == escape {
            // Postgres lets an escape at the end stand for itself.
            let Some(next) = letters.next() else { return Err(invalid("invalid escape \\ sequence")) };
            if next == '"' {
                return Err(refusal(
                    "0A000",
                    "SIMILAR TO patterns with escape-double-quote separators are not supported",
                ));
            }
            literal(next, &mut found);
            continue;
        }
        match letter {
            '%' => found.push_str(".*"),
            '_' => found.push('.'),
            // Groups do not capture: a `?` after `(` would change what it means.
            '(' => found.push_str("(?:"),
            ')' | '|' | '*' | '+' | '?' => found.push(letter),
            '{' => bounds(&mut letters, &mut found)?,
            '[' => bracket(&mut letters, &mut found, escape)?,
            letter => literal(letter, &mut found),
        }
    }
    found.push_str(")$");
    Ok(found)
}

/// Translates `{m}`, `{m,}` or `{m,n}`, after its first character.
fn bounds(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, found: &mut String) -> Result<()> {
    let inside: String = letters.by_ref().take_while(|letter| *letter != '}').collect();
    let (least, most) = inside.split_once(',').map_or((inside.as_str(), None), |(least, most)| (least, Some(most)));
    let number =
        |text: &str| text.bytes().all(|digit| digit.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|n| n <= 255);
    if !number(least) || most.is_some_and(|most| !most.is_empty() && !number(most)) {
        return Err(invalid("invalid repetition count(s)"));
    }
    found.push('{');
    found.push_str(&inside);
    found.push('}');
    Ok(())
}

/// Translates `[…]`, after its first character: only characters that are special in Postgres stay so.
fn bracket(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    found: &mut String,
    escape: Option<char>,
) -> Result<()> {
    let unbalanced = || invalid("brackets [] not balanced");
    found.push('[');
    if letters.next_if_eq(&'^').is_some() {
        found.push('^');
    }
    let mut first = true;
    loop {
        let letter = letters.next().ok_or_else(unbalanced)?;
        match letter {
            ']' if !first => break,
            '[' if letters.peek() == Some(&':') => {
                letters.next();
                let mut name = String::new();
                loop {
                    match letters.next().ok_or_else(unbalanced)? {
                        ':' if letters.next_if_eq(&']').is_some() => break,
                        letter => name.push(letter),
                    }
                }
                found.push_str(class(&name)?);
            }
            '[' if matches!(letters.peek(), Some('.' | '=')) => {
                return Err(refusal("0A000", "collating elements in regular expressions are not supported"));
            }
            letter if Some(letter) == escape => match letters.next().ok_or_else(unbalanced)? {
                // In a regular expression classes may stand in brackets.
                's' if letter == '\\' => found.push_str(SPACES),
                class @ ('d' | 'w') if letter == '\\' => {
                    found.push('\\');
                    found.push(class);
                }
                next => found.push_str(&character(next)?),
            },
            // Between two characters it makes a range, at either end it stands for itself.
            '-' if !first && letters.peek().is_some_and(|next| *next != ']') => found.push('-'),
            letter => literal(letter, found),
        }
        first = false;
    }
    found.push(']');
    Ok(())
}

/// The characters of `[[:space:]]` in PostgreSQL, which are those of the C library: a space that breaks no line is none.
const SPACES: &str = "\\t-\\r\\x20\\x{1680}\\x{2000}-\\x{2006}\\x{2008}-\\x{200A}\\x{2028}\\x{2029}\\x{205F}\\x{3000}";

/// Returns a class of all of Unicode by its POSIX name.
fn class(name: &str) -> Result<&'static str> {
    Ok(match name {
        "alpha" => "\\p{Alphabetic}",
        "digit" => "\\d",
        "alnum" => "\\p{Alphabetic}\\d",
        "upper" => "\\p{Uppercase}",
        "lower" => "\\p{Lowercase}",
        "space" => SPACES,
        "blank" => " \\t",
        "punct" => "[:punct:]",
        "cntrl" => "\\p{Cc}",
        "xdigit" => "[:xdigit:]",
        "print" | "graph" => {
            return Err(refusal("0A000", format!("the character class [:{name}:] is not supported")));
        }
        _ => return Err(invalid("invalid character class")),
    })
}

/// Returns the character that an escape in a regular expression stands for.
fn character(letter: char) -> Result<String> {
    Ok(match letter {
        'a' => "\\x07".into(),
        'b' => "\\x08".into(),
        'B' => "\\\\".into(),
        'e' => "\\x1B".into(),
        'f' => "\\x0C".into(),
        'n' => "\\n".into(),
        'r' => "\\r".into(),
        't' => "\\t".into(),
        'v' => "\\x0B".into(),
        letter if letter.is_alphanumeric() => {
            return Err(refusal("0A000", format!("\\{letter} in a regular expression is not supported")));
        }
        letter => {
            let mut found = String::new();
            literal(letter, &mut found);
            found
        }
    })
}

/// Translates a pattern of `LIKE` to one with `\` as its escape character.
fn from_like(pattern: &str, escape: char) -> Result<String> {
    let mut found = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter == escape => {
                let next = letters.next().ok_or_else(no_escape)?;
                found.push('\\');
                found.push(next);
            }
            // If it is not the escape character itself.
            '\\' => found.push_str("\\\\"),
            letter => found.push(letter),
        }
    }
    Ok(found)
}

/// Translates an advanced regular expression of Postgres.
fn from_regular(pattern: &str) -> Result<String> {
    if pattern.starts_with(TRANSLATED) {
        return Ok(pattern.to_owned());
    }
    if pattern.starts_with("***") {
        return Err(refusal("0A000", "*** at the start of a regular expression is not supported"));
    }
    let mut found = String::from(TRANSLATED);
    let mut letters = pattern.chars().peekable();
    let mut start = true;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next().ok_or_else(|| invalid("invalid escape \\ sequence"))? {
                's' => found.extend(["[", SPACES, "]"]),
                'S' => found.extend(["[^", SPACES, "]"]),
                class @ ('d' | 'w' | 'D' | 'W' | 'A') => {
                    found.push('\\');
                    found.push(class);
                }
                'm' => found.push_str("\\b{start}"),
                'M' => found.push_str("\\b{end}"),
                'y' => found.push_str("\\b"),
                'Y' => found.push_str("\\B"),
                'Z' => found.push_str("\\z"),
                '0'..='9' => {
                    return Err(refusal("0A000", "back references in regular expressions are not supported"));
                }
                letter => found.push_str(&character(letter)?),
            },
            '[' => bracket(&mut letters, &mut found, Some('\\'))?,
            '{' => match letters.peek() {
                Some(digit) if digit.is_ascii_digit() => bounds(&mut letters, &mut found)?,
                // Where no number follows, it stands for itself.
                _ => found.push_str("\\{"),
            },
            '}' => found.push_str("\\}"),
            '(' if letters.peek() == Some(&'?') => {
                letters.next();
                match letters.next() {
                    Some(':') => found.push_str("(?:"),
                    Some('=' | '!' | '<') => {
                        return Err(refusal("0A000", "lookaround in regular expressions is not supported"));
                    }
                    Some(option) if start => {
                        let options: String =
                            std::iter::once(option).chain(letters.by_ref().take_while(|it| *it != ')')).collect();
                        for option in options.chars() {
                            match option {
                                'i' => found.push_str("(?i)"),
                                'c' => found.push_str("(?-i)"),
                                's' => {}
                                'n' | 'm' => found.push_str("(?m-s)"),
                                _ => {
                                    let message =
                                        format!("the option {option} of regular expressions is not supported");
                                    return Err(refusal("0A000", message));
                                }
                            }
                        }
                    }
                    _ => return Err(invalid("quantifier operand invalid")),
                }
            }
            // The other special characters mean the same; these mean nothing in Postgres.
            letter @ ('#' | '&' | '~' | '-') => literal(letter, &mut found),
            letter => found.push(letter),
        }
        start = false;
    }
    Ok(found)
}

/// Checks that a regular expression matches the same as in Postgres, which takes the longest of its alternatives: those
/// of one length, and not both greedy and others.
fn check_lengths(pattern: &str) -> Result<()> {
    // What cannot be read is refused where it is compiled.
    let Ok(tree) = regex_syntax::Parser::new().parse(pattern) else { return Ok(()) };
    let (mut greedy, mut lazy) = (false, false);
    let mut rest = vec![&tree];
    while let Some(part) = rest.pop() {
        match part.kind() {
            HirKind::Alternation(branches) => {
                let length = |branch: &Hir| (branch.properties().minimum_len(), branch.properties().maximum_len());
                let first = branches.first().map(length);
                let is_one = first.is_some_and(|(least, most)| least == most && most.is_some());
                if !is_one || branches.iter().any(|branch| Some(length(branch)) != first) {
                    let message = "alternatives of different lengths in a regular expression are not supported where it \
                                   matters which one matches; put them apart, or test with ~";
                    return Err(refusal("0A000", message));
                }
                rest.extend(branches);
            }
            HirKind::Repetition(repetition) => {
                let is_open = repetition.max != Some(repetition.min);
                greedy |= is_open && repetition.greedy;
                lazy |= is_open && !repetition.greedy;
                rest.push(&repetition.sub);
            }
            HirKind::Capture(group) => rest.push(&group.sub),
            HirKind::Concat(parts) => rest.extend(parts),
            _ => {}
        }
    }
    if greedy && lazy {
        let message = "greedy and non-greedy quantifiers in one regular expression are not supported";
        return Err(refusal("0A000", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_have_one_length() {
        let check = |pattern: &str| check_lengths(&from_regular(pattern).unwrap());
        for pattern in ["a|b", "(ab|cd)+x?", "a+b*", "a+?b*?", "[0-9]{2}"] {
            assert!(check(pattern).is_ok(), "{pattern}");
        }
        for pattern in ["fo|foo", "(a|bc)d", "a|", "a+?b*"] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn similar_patterns_are_anchored() {
        assert_eq!(from_similar("a_%", Some('\\')).unwrap(), "(?s-x)^(?:a..*)$");
        assert_eq!(from_similar("(a|b){2,3}.", Some('\\')).unwrap(), "(?s-x)^(?:(?:a|b){2,3}\\.)$");
        assert_eq!(from_similar("\\%[^]a-c[:digit:]-]", Some('\\')).unwrap(), "(?s-x)^(?:%[^\\]a-c\\d\\-])$");
        assert_eq!(from_similar("#%", Some('#')).unwrap(), "(?s-x)^(?:%)$");
        assert!(from_similar("[a", None).is_err());
    }

    #[test]
    fn escapes_of_like_are_translated() {
        assert_eq!(from_like("a#%\\_", '#').unwrap(), "a\\%\\\\_");
        assert!(from_like("a#", '#').is_err());
    }

    #[test]
    fn regular_expressions_are_translated() {
        assert_eq!(from_regular("\\mfoo\\M[[]&").unwrap(), "(?s-x)\\b{start}foo\\b{end}[\\[]\\&");
        assert_eq!(from_regular("(?i)a\\.b").unwrap(), "(?s-x)(?i)a\\.b");
        for pattern in ["(a)\\1", "a(?=b)", "\\", "[a", "***=a"] {
            assert!(from_regular(pattern).is_err(), "{pattern}");
        }
    }
}
