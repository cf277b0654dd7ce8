//! Functions that write texts: `format`, `quote_nullable`, `unistr`, `normalize` and their like.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;

use super::formats::{self, Piece, Wrong, quoted_name, quoted_text};
use super::overloads::{Columns, Form, Kind, Overloaded, texts_of};
use super::refusal::{out_of_range, refusal};
use super::unicode;

/// Returns the functions.
pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Boolean, Shown, Text};
    const FORMAT: &[Form] = &[
        Form { takes: &[Text], gives: Text, compute: format },
        Form { takes: &[Text, Shown], gives: Text, compute: format },
    ];
    const QUOTE_IDENT: &[Form] = &[Form { takes: &[Text], gives: Text, compute: quote_ident }];
    const QUOTE_LITERAL: &[Form] = &[Form { takes: &[Shown], gives: Text, compute: quote_literal }];
    const QUOTE_NULLABLE: &[Form] = &[Form { takes: &[Shown], gives: Text, compute: quote_nullable }];
    const UNISTR: &[Form] = &[Form { takes: &[Text], gives: Text, compute: unistr }];
    const NORMALIZE: &[Form] = &[
        Form { takes: &[Text], gives: Text, compute: normalize },
        Form { takes: &[Text, Text], gives: Text, compute: normalize },
    ];
    const IS_NORMALIZED: &[Form] = &[
        Form { takes: &[Text], gives: Boolean, compute: is_normalized },
        Form { takes: &[Text, Text], gives: Boolean, compute: is_normalized },
    ];
    vec![
        Overloaded::variadic("format", FORMAT),
        Overloaded::strict("quote_ident", QUOTE_IDENT),
        Overloaded::strict("quote_literal", QUOTE_LITERAL),
        Overloaded::lenient("quote_nullable", QUOTE_NULLABLE),
        Overloaded::strict("unistr", UNISTR),
        Overloaded::strict("normalize", NORMALIZE),
        Overloaded::strict("is_normalized", IS_NORMALIZED),
    ]
}

fn error((code, message): Wrong) -> DataFusionError {
    refusal(code, message)
}

fn format(args: &Columns) -> Result<ArrayRef> {
    let each = |row: usize| {
        let Some(template) = args.text(0, row) else { return Ok(None) };
        let arguments: Vec<_> = (1..args.columns.len()).map(|place| args.text(place, row)).collect();
        let mut text = String::new();
        let emit = |piece: Piece<'_>| match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Blanks(count) => text.extend(std::iter::repeat_n(' ', count)),
        };
        formats::format(template, &arguments, emit).map_err(error)?;
        Ok(Some(text))
    };
    texts_of((0..args.rows).map(each).collect::<Result<_>>()?)
}

fn quote_ident(args: &Columns) -> Result<ArrayRef> {
    args.strings(|row| Ok(quoted_name(args.texts(0).value(row))))
}

fn quote_literal(args: &Columns) -> Result<ArrayRef> {
    args.strings(|row| Ok(quoted_text(args.texts(0).value(row))))
}

fn quote_nullable(args: &Columns) -> Result<ArrayRef> {
    let each = |row: usize| Some(args.text(0, row).map_or("NULL".to_owned(), quoted_text));
    texts_of((0..args.rows).map(each).collect())
}

/// Returns `overlay`, as which the planner's function of this name is computed.
pub(super) fn overlay() -> ScalarUDF {
    use Kind::{Integer, Text};
    const OVERLAY: &[Form] = &[
        Form { takes: &[Text, Text, Integer], gives: Text, compute: overlaid },
        Form { takes: &[Text, Text, Integer, Integer], gives: Text, compute: overlaid },
    ];
    Overloaded::strict("pg_overlay", OVERLAY)
}

fn overlaid(args: &Columns) -> Result<ArrayRef> {
    let integer = |place: usize, row: usize| args.primitive::<Int32Type>(place).value(row);
    args.strings(|row| {
        let (text, new, start) = (args.texts(0).value(row), args.texts(1).value(row), integer(2, row));
        let length = match args.columns.len() {
            4 => integer(3, row),
            _ => i32::try_from(new.chars().count()).map_err(|_| out_of_range(&DataType::Int32))?,
        };
        let before = usize::try_from(start).ok().and_then(|start| start.checked_sub(1));
        let before = before.ok_or_else(|| refusal("22011", "negative substring length not allowed"))?;
        let end = start.checked_add(length).ok_or_else(|| out_of_range(&DataType::Int32))?;
        // Letters from the end on; from the first one if the end is before it.
        let behind = usize::try_from(end).map_or(0, |end| end.saturating_sub(1));
        let place = |letter: usize| text.char_indices().nth(letter).map_or(text.len(), |(place, _)| place);
        Ok([&text[..place(before)], new, &text[place(behind)..]].concat())
    })
}

fn unistr(args: &Columns) -> Result<ArrayRef> {
    args.strings(|row| unicode::unescaped(args.texts(0).value(row)).map_err(error))
}

fn form(args: &Columns, row: usize) -> Result<unicode::Form> {
    match args.columns.len() {
        1 => Ok(unicode::Form::Nfc),
        _ => unicode::Form::named(args.texts(1).value(row)).map_err(error),
    }
}

fn normalize(args: &Columns) -> Result<ArrayRef> {
    args.strings(|row| Ok(form(args, row)?.of(args.texts(0).value(row))))
}

fn is_normalized(args: &Columns) -> Result<ArrayRef> {
    args.truths(|row| Ok(form(args, row)?.is_of(args.texts(0).value(row))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{AsArray, Int32Array, StringArray};

    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn texts_are_overlaid() {
        let of = |text: &str, new: &str, numbers: &[i32]| {
            let column = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
            let mut columns = vec![column(text), column(new)];
            columns.extend(numbers.iter().map(|number| Arc::new(Int32Array::from(vec![*number])) as ArrayRef));
            let found = overlaid(&Columns { columns, rows: 1 }).ok()?;
            Some(found.as_string::<i32>().value(0).to_owned())
        };
        assert_eq!(of("abcdef", "Z", &[3]).as_deref(), Some("abZdef"));
        assert_eq!(of("abcdef", "ZZ", &[10, 2]).as_deref(), Some("abcdefZZ"));
        assert_eq!(of("abcdef", "XX", &[2, 0]).as_deref(), Some("aXXbcdef"));
        assert_eq!(of("abcdef", "XX", &[2, -1]).as_deref(), Some("aXXabcdef"));
        assert_eq!(of("äbcdef", "é", &[2, 10]).as_deref(), Some("äé"));
        assert_eq!(of("abc", "x", &[2, -5]).as_deref(), Some("axabc"));
        assert_eq!(of("abc", "x", &[0]), None);
        assert_eq!(of("abc", "x", &[i32::MAX, i32::MAX]), None);
    }
}
