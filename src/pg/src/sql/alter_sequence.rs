//! ALTER SEQUENCE, which sqlparser does not read.

use datafusion::sql::sqlparser::ast::{DataType, Expr, ObjectName, SequenceOptions, UnaryOperator};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Changes of a sequence by a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlterSequence {
    pub(crate) if_exists: bool,
    pub(crate) name: ObjectName,
    pub(crate) data_type: Option<DataType>,
    pub(crate) options: Vec<SequenceOptions>,
    /// The number that RESTART names, if it names one.
    pub(crate) restart: Option<Option<Expr>>,
    /// The column of OWNED BY, or NONE.
    pub(crate) owned_by: Option<ObjectName>,
    /// The first words of a form that is not supported.
    pub(crate) refused: Option<&'static str>,
}

/// Returns true if the next word is the wanted one, and reads it.
fn word(parser: &mut Parser, wanted: &str) -> bool {
    let found = is_word(parser.peek_token_ref(), wanted);
    if found {
        parser.next_token();
    }
    found
}

fn is_word(token: &TokenWithSpan, wanted: &str) -> bool {
    match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

/// Reads a statement behind ALTER.
///
/// # Errors
/// A syntax error.
pub(crate) fn parse(parser: &mut Parser) -> Result<AlterSequence, ParserError> {
    parser.expect_keyword_is(Keyword::SEQUENCE)?;
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = parser.parse_object_name(false)?;
    let mut alter = AlterSequence {
        if_exists,
        name,
        data_type: None,
        options: Vec::new(),
        restart: None,
        owned_by: None,
        refused: None,
    };
    for (first, text) in [
        ("OWNER", "ALTER SEQUENCE … OWNER TO"),
        ("RENAME", "ALTER SEQUENCE … RENAME TO"),
        ("SET", "ALTER SEQUENCE … SET"),
    ] {
        if word(parser, first) {
            while parser.peek_token_ref().token != Token::EOF {
                parser.next_token();
            }
            alter.refused = Some(text);
            return Ok(alter);
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    loop {
        let found = option(parser, &mut alter)?;
        if seen.contains(&found) {
            return Err(ParserError::ParserError("conflicting or redundant options".into()));
        }
        seen.push(found);
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(alter);
        }
    }
}

/// Reads an option, and returns its name.
fn option(parser: &mut Parser, alter: &mut AlterSequence) -> Result<&'static str, ParserError> {
    if word(parser, "AS") {
        alter.data_type = Some(parser.parse_data_type()?);
        return Ok("AS");
    }
    if word(parser, "RESTART") {
        let with = word(parser, "WITH");
        let is_number = matches!(parser.peek_token_ref().token, Token::Number(..) | Token::Minus | Token::Plus);
        alter.restart = Some(if with || is_number { Some(number(parser)?) } else { None });
        return Ok("RESTART");
    }
    if word(parser, "OWNED") {
        parser.expect_keyword_is(Keyword::BY)?;
        alter.owned_by = Some(parser.parse_object_name(false)?);
        return Ok("OWNED");
    }
    let (option, name) = if word(parser, "INCREMENT") {
        let by = word(parser, "BY");
        (SequenceOptions::IncrementBy(number(parser)?, by), "INCREMENT")
    } else if word(parser, "MINVALUE") {
        (SequenceOptions::MinValue(Some(number(parser)?)), "MINVALUE")
    } else if word(parser, "MAXVALUE") {
        (SequenceOptions::MaxValue(Some(number(parser)?)), "MAXVALUE")
    } else if word(parser, "START") {
        let with = word(parser, "WITH");
        (SequenceOptions::StartWith(number(parser)?, with), "START")
    } else if word(parser, "CACHE") {
        (SequenceOptions::Cache(number(parser)?), "CACHE")
    } else if word(parser, "CYCLE") {
        // The flag is that of NO.
        (SequenceOptions::Cycle(false), "CYCLE")
    } else if word(parser, "NO") {
        if word(parser, "MINVALUE") {
            (SequenceOptions::MinValue(None), "MINVALUE")
        } else if word(parser, "MAXVALUE") {
            (SequenceOptions::MaxValue(None), "MAXVALUE")
        } else if word(parser, "CYCLE") {
            (SequenceOptions::Cycle(true), "CYCLE")
        } else {
            return parser.expected_ref("MINVALUE, MAXVALUE or CYCLE", parser.peek_token_ref());
        }
    } else {
        return parser.expected_ref("an option of a sequence", parser.peek_token_ref());
    };
    alter.options.push(option);
    Ok(name)
}

/// Reads a number with its sign.
fn number(parser: &mut Parser) -> Result<Expr, ParserError> {
    let op = match parser.peek_token_ref().token {
        Token::Minus => Some(UnaryOperator::Minus),
        Token::Plus => Some(UnaryOperator::Plus),
        _ => None,
    };
    if op.is_some() {
        parser.next_token();
    }
    let digits = Expr::Value(parser.parse_number_value()?);
    Ok(match op {
        Some(op) => Expr::UnaryOp { op, expr: Box::new(digits) },
        None => digits,
    })
}

#[cfg(test)]
mod tests {
    use neuroql::PostgresDialect;

    use super::*;

    fn read(text: &str) -> Result<AlterSequence, ParserError> {
        let mut parser = Parser::new(&PostgresDialect).try_with_sql(text).unwrap();
        parser.next_token();
        let found = parse(&mut parser)?;
        parser.expect_token(&Token::EOF)?;
        Ok(found)
    }

    #[test]
    fn options_come_in_any_order() {
        let found =
            read("ALTER SEQUENCE IF EXISTS s.q RESTART INCREMENT BY -2 NO MAXVALUE CYCLE OWNED BY t.a AS int").unwrap();
        assert!(found.if_exists && found.name.to_string() == "s.q" && found.restart == Some(None));
        assert_eq!(found.options.len(), 3);
        assert_eq!(found.owned_by.unwrap().to_string(), "t.a");
        assert!(found.data_type.is_some());
        assert!(matches!(read("ALTER SEQUENCE s RESTART -5").unwrap().restart, Some(Some(_))));
        assert!(matches!(read("ALTER SEQUENCE s RESTART WITH 5").unwrap().restart, Some(Some(_))));
        assert!(read("ALTER SEQUENCE s RENAME TO t").unwrap().refused.is_some());
        for text in [
            "ALTER SEQUENCE s",
            "ALTER SEQUENCE s RESTART RESTART",
            "ALTER SEQUENCE s RESTART WITH",
            "ALTER SEQUENCE s NO CACHE",
            "ALTER SEQUENCE s bogus",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
