//! Calls of functions of sequences, and the queries of clients about sequences, defaults and identity columns.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query,
    SelectItem, SetExpr, TableFactor, Value, VisitMut, visit_expressions, visit_expressions_mut,
};

use crate::catalog::object_functions::IDENTITY;
use crate::catalog::sequences::functions::OF_SEQUENCES;
use crate::sql::column_names::fold;
use crate::sql::rewrite::{call, cast, is_named};

/// Takes the cast off the name in `nextval('s'::regclass)`, which the function looks up itself.
pub(crate) fn take_casts(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        if let Expr::Function(function) = expr
            && OF_SEQUENCES.iter().any(|name| is_named(function, name))
            && let FunctionArguments::List(list) = &mut function.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.first_mut()
        {
            while let Expr::Cast { expr: inner, data_type, format: None, array: false, .. } = argument
                && is_regclass_or_text(data_type)
                && matches!(inner.as_ref(), Expr::Value(_) | Expr::Cast { .. })
            {
                let inner = std::mem::replace(inner.as_mut(), Expr::value(Value::Null));
                *argument = inner;
            }
        }
        ControlFlow::<()>::Continue(())
    });
}

fn is_regclass_or_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Regclass | DataType::Text => true,
        DataType::Custom(name, modifiers) => {
            modifiers.is_empty()
                && name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| fold(name) == "regclass")
        }
        _ => false,
    }
}

/// Returns a call for the options of an identity column, if that is what a subquery of `pg_sequence` looks up, as SQLAlchemy does.
pub(super) fn identity(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [table] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, .. } = &table.relation else { return None };
    let [
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. },
    ] = select.projection.as_slice()
    else {
        return None;
    };
    let is_of_sequences = name.0.last()?.as_ident().is_some_and(|name| fold(name) == "pg_sequence");
    if !is_of_sequences || !is_named(function, "json_build_object") {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let kind = list.args.iter().find_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Eq, .. })) => {
            match left.as_ref() {
                Expr::CompoundIdentifier(parts) => {
                    parts.last().is_some_and(|column| fold(column) == "attidentity").then_some(parts)
                }
                _ => None,
            }
        }
        _ => None,
    })?;
    let column = |name: &str| {
        let mut parts = kind.clone();
        if let Some(last) = parts.last_mut() {
            *last = Ident::new(name);
        }
        Expr::CompoundIdentifier(parts)
    };
    let options = call(IDENTITY, vec![column("attrelid"), column("attnum")]);
    Some(cast(options, DataType::JSON))
}

/// Takes the conditions out of a query that are about the query around it, such as `a.atthasdef`. The planner makes a join of an
/// aggregate of rows, which has no place for them.
pub(super) fn outer_condition(query: &mut Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let mut own = HashSet::new();
    for table in select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)))
    {
        let TableFactor::Table { name, alias, .. } = table else { return None };
        own.insert(match alias {
            Some(alias) => fold(&alias.name),
            None => fold(name.0.last()?.as_ident()?),
        });
    }
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    conjuncts(select.selection.take()?, &mut |condition| match is_outer(&condition, &own) {
        true => outer.push(condition),
        false => inner.push(condition),
    });
    let and = |left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) };
    select.selection = inner.into_iter().reduce(and);
    outer.into_iter().reduce(and)
}

fn conjuncts(condition: Expr, take: &mut dyn FnMut(Expr)) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(*left, take);
            conjuncts(*right, take);
        }
        other => take(other),
    }
}

/// Returns true if a condition reads columns of other tables only.
fn is_outer(condition: &Expr, own: &HashSet<String>) -> bool {
    let mut reads = false;
    let found = visit_expressions(condition, |part| match part {
        Expr::CompoundIdentifier(parts) => {
            let table = parts.len().checked_sub(2).and_then(|place| parts.get(place));
            reads = true;
            match table {
                Some(table) if !own.contains(&fold(table)) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        }
        Expr::Identifier(_) | Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    reads && found.is_continue()
}

/// Returns the value of an expression where a condition holds, else NULL.
pub(super) fn only_if(condition: Expr, value: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: value }],
        else_result: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::rewrite::rewritten;

    #[test]
    fn sequences_are_named() {
        assert_eq!(rewritten("SELECT nextval('s'::regclass)"), "SELECT nextval('s')");
        assert_eq!(rewritten("SELECT setval('s'::text::pg_catalog.regclass, 4)"), "SELECT setval('s', 4)");
        assert_eq!(rewritten("SELECT nextval(16384::regclass)"), "SELECT nextval(16384)");
    }

    #[test]
    fn defaults_are_looked_up() {
        let query = "SELECT a.attname, (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d \
                     WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef) FROM pg_attribute a";
        let found = rewritten(query);
        assert!(found.contains("CASE WHEN a.atthasdef THEN (SELECT min(pg_get_expr("), "{found}");
        assert!(found.contains("WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END"), "{found}");
    }

    #[test]
    fn options_of_identity_columns_are_looked_up() {
        let query = "SELECT (SELECT json_build_object('always', a.attidentity = 'a', 'start', s.seqstart) FROM pg_sequence s \
                     WHERE a.attidentity != '' AND s.seqrelid = 7) AS identity_options FROM pg_attribute a";
        let found = rewritten(query);
        assert!(found.contains("CAST(neuroql_identity(a.attrelid, a.attnum) AS JSON) AS identity_options"), "{found}");
    }
}
