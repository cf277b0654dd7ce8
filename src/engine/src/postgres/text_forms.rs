//! Functions that write texts: `format`, `quote_nullable`, `unistr`, `normalize` and their like.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringBuilder};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;

use super::formats::{self, Piece, Wrong, quoted_name, quoted_text};
use super::overloads::{Columns, Form, Kind, Overloaded};
use super::refusal::refusal;
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
    let mut found = StringBuilder::new();
    let mut text = String::new();
    for row in 0..args.rows {
        let Some(template) = args.text(0, row) else {
            found.append_null();
            continue;
        };
        let arguments: Vec<_> = (1..args.columns.len()).map(|place| args.text(place, row)).collect();
        text.clear();
        let emit = |piece: Piece<'_>| match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Blanks(count) => text.extend(std::iter::repeat_n(' ', count)),
        };
        formats::format(template, &arguments, emit).map_err(error)?;
        found.append_value(&text);
    }
    Ok(Arc::new(found.finish()))
}

fn quote_ident(args: &Columns) -> Result<ArrayRef> {
    args.strings(|row| Ok(quoted_name(args.texts(0).value(row))))
}

fn quote_literal(args: &Columns) -> Result<ArrayRef> {
    args.strings(|row| Ok(quoted_text(args.texts(0).value(row))))
}

fn quote_nullable(args: &Columns) -> Result<ArrayRef> {
    let mut found = StringBuilder::new();
    for row in 0..args.rows {
        found.append_value(args.text(0, row).map_or("NULL".to_owned(), quoted_text));
    }
    Ok(Arc::new(found.finish()))
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
