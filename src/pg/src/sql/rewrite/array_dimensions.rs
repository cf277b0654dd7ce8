//! Constants such as `'{{a,b},{c,d}}'::text[]`: the planner's types say how many dimensions an array has, those of Postgres do not.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, Expr, Value, ValueWithSpan, VisitMut, visit_expressions_mut,
};

use crate::decode::is_space;
use crate::sql::rewrite::array_of;

/// Gives the types that constant texts of arrays are cast to the number of dimensions that the texts have.
pub(crate) fn give_dimensions(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        if let Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr: inner,
            data_type,
            array: false,
            format: None,
        } = expr
            && let Some(dimensions) = constant(inner).and_then(dimensions)
            && let Some((item, declared)) = item_of(data_type)
            && declared != dimensions
        {
            *data_type = (0..dimensions).fold(item.clone(), |item, _| array_of(item));
        }
        ControlFlow::<()>::Continue(())
    });
}

fn constant(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => constant(inner),
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text),
            ..
        }) => Some(text),
        _ => None,
    }
}

/// Returns the number of dimensions of the text of an array; `None` if it has no elements, or is none.
fn dimensions(text: &str) -> Option<usize> {
    let mut found = 0;
    for letter in text.chars().filter(|letter| !is_space(*letter)) {
        match letter {
            '{' => found += 1,
            '}' => return None,
            _ => break,
        }
    }
    (1..=6).contains(&found).then_some(found)
}

/// Returns the type of the elements of an array of any number of dimensions, with that number.
fn item_of(data_type: &DataType) -> Option<(&DataType, usize)> {
    let DataType::Array(ArrayElemTypeDef::SquareBracket(item, None)) = data_type else { return None };
    Some(item_of(item).map_or((item.as_ref(), 1), |(item, dimensions)| (item, dimensions + 1)))
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;

    use super::*;

    #[test]
    fn texts_have_their_dimensions() {
        for (written, read) in [
            ("SELECT '{{a,b},{c,d}}'::TEXT[]", "SELECT '{{a,b},{c,d}}'::TEXT[][]"),
            ("SELECT CAST(' { { {1}}}' AS INT[])", "SELECT CAST(' { { {1}}}' AS INT[][][])"),
            ("SELECT '{1,2}'::INT[][]", "SELECT '{1,2}'::INT[]"),
            ("SELECT '{1,2}'::INT[]", "SELECT '{1,2}'::INT[]"),
            ("SELECT '{}'::INT[][]", "SELECT '{}'::INT[][]"),
            ("SELECT '{\"{a}\"}'::TEXT[]", "SELECT '{\"{a}\"}'::TEXT[]"),
            ("SELECT a::INT[], '{{1}}'::TEXT", "SELECT a::INT[], '{{1}}'::TEXT"),
        ] {
            let mut statement = Parser::default().parse(written).unwrap().remove(0).statement;
            if let datafusion::sql::parser::Statement::Statement(inner) = &mut statement {
                give_dimensions(inner.as_mut());
            }
            assert_eq!(crate::sql::rewrite::without_names(&statement.to_string()), read);
        }
    }
}
