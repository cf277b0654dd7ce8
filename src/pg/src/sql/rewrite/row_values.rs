//! Rows as values: `(a, b) = (c, d)`, `(a, b) IN ((1, 2))`, `(a, b) IN (SELECT x, y …)`, `(a, b) IS NULL`.
//!
//! DataFusion compares structures, for which NULL is a value like others, and its subqueries have one column. So comparisons of rows
//! become those of their columns, with PostgreSQL's three values of truth.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Delete, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Insert,
    OnConflictAction, OnInsert, Query, Select, SelectItem, SetExpr, Statement, TableAliasColumnDef, TableFactor,
    UnaryOperator, Update, Value, Visit, VisitMut, VisitorMut, helpers::attached_token::AttachedToken,
    visit_expressions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::sql::column_names::fold;
use crate::sql::rewrite::tuple_assignments;
use crate::wire::error_response::SqlError;

/// Greatest number of columns of a row that is looked for in a subquery outside of conditions.
const MOST_COLUMNS: u32 = 3;

/// Functions that may have another value at the next call in a row.
const VOLATILE: [&str; 6] = ["random", "nextval", "setval", "clock_timestamp", "gen_random_uuid", "uuid"];

/// Rewrites comparisons of rows.
///
/// # Errors
/// 42601 for rows of different lengths, 42883 for one beside another value, 0A000 for what is not supported of them.
pub(crate) fn rewrite(tree: &mut impl VisitMut) -> Result<(), SqlError> {
    match tree.visit(&mut CompareColumns { subqueries: 0 }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct CompareColumns {
    /// Number of subqueries that have an alias.
    subqueries: usize,
}

fn walk(found: Result<(), SqlError>) -> ControlFlow<SqlError> {
    found.map_or_else(ControlFlow::Break, ControlFlow::Continue)
}

impl VisitorMut for CompareColumns {
    type Break = SqlError;

    fn pre_visit_statement(&mut self, statement: &mut Statement) -> ControlFlow<SqlError> {
        let selection = match statement {
            Statement::Update(Update { selection, .. }) | Statement::Delete(Delete { selection, .. }) => selection,
            Statement::Insert(Insert { on: Some(OnInsert::OnConflict(conflict)), .. }) => match &mut conflict.action {
                OnConflictAction::DoUpdate(update) => &mut update.selection,
                OnConflictAction::DoNothing => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        walk(selection.as_mut().map_or(Ok(()), |selection| self.condition(selection, true)))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        let mut conditions = select.selection.iter_mut().chain(&mut select.having);
        walk(conditions.try_for_each(|condition| self.condition(condition, true)))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        walk(self.value(expr))
    }
}

impl CompareColumns {
    /// Rewrites a row in a subquery in a condition. `is_whole` is true if rows pass that it is true for, and no others.
    fn condition(&mut self, expr: &mut Expr, is_whole: bool) -> Result<(), SqlError> {
        quantified(expr)?;
        match expr {
            Expr::Nested(inner) => self.condition(inner, is_whole),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.condition(left, is_whole)?;
                self.condition(right, is_whole)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                self.condition(left, false)?;
                self.condition(right, false)
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => {
                if let (true, Expr::InSubquery { negated, .. }) = (is_whole, unnested(inner)) {
                    *negated = !*negated;
                    *expr = take(unnested(inner));
                    return self.condition(expr, true);
                }
                self.condition(inner, false)
            }
            Expr::InSubquery { expr: left, subquery, negated } => {
                let Some(row) = row(left) else { return Ok(()) };
                check(&row, subquery)?;
                let negated = *negated;
                let rows = self.rows(take_query(subquery)?, row.len())?;
                let equal = |rows: &Rows| rows.equal(&row);
                *expr = match (is_whole, negated) {
                    (true, false) => exists(rows.filtered(equal(&rows))),
                    (true, true) => {
                        not(exists(rows.filtered(nested(Expr::IsNotFalse(Box::new(nested(equal(&rows))))))))
                    }
                    (false, _) => {
                        let found = exists(rows.filtered(equal(&rows)));
                        let unknown = exists(rows.filtered(nested(Expr::IsNull(Box::new(nested(equal(&rows)))))));
                        let value = nested(case(vec![(found, boolean(true)), (unknown, null())], boolean(false)));
                        if negated { not(value) } else { value }
                    }
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Rewrites a comparison of rows anywhere.
    fn value(&mut self, expr: &mut Expr) -> Result<(), SqlError> {
        quantified(expr)?;
        match expr {
            Expr::BinaryOp { left, op, right } => {
                let (one, other) = match (row(left), row(right)) {
                    (Some(one), Some(other)) => (one, other),
                    (Some(one), None) => match of_subquery(right)? {
                        Some(other) => (one, other),
                        None => return Ok(()),
                    },
                    (None, Some(_)) if is_subquery(left) => {
                        return Err(SqlError::error("42601", "subquery must return only one column"));
                    }
                    (None, _) => return Ok(()),
                };
                if let Some(compared) = compared(&one, op, &other)? {
                    *expr = compared;
                }
            }
            Expr::IsDistinctFrom(left, right) => {
                let (Some(one), Some(other)) = (row(left), row(right)) else { return Ok(()) };
                *expr = pairs(&one, &other, BinaryOperator::Or, |left, right| {
                    nested(Expr::IsDistinctFrom(Box::new(left), Box::new(right)))
                })?;
            }
            Expr::IsNotDistinctFrom(left, right) => {
                let (Some(one), Some(other)) = (row(left), row(right)) else { return Ok(()) };
                *expr = pairs(&one, &other, BinaryOperator::And, |left, right| {
                    nested(Expr::IsNotDistinctFrom(Box::new(left), Box::new(right)))
                })?;
            }
            Expr::IsNull(inner) => {
                let Some(row) = row(inner) else { return Ok(()) };
                refuse_rows(&row)?;
                let parts = row.into_iter().map(|part| nested(Expr::IsNull(Box::new(part))));
                *expr = nested(joined(parts.collect(), &BinaryOperator::And));
            }
            Expr::IsNotNull(inner) => {
                let Some(row) = row(inner) else { return Ok(()) };
                refuse_rows(&row)?;
                let parts = row.into_iter().map(|part| nested(Expr::IsNotNull(Box::new(part))));
                *expr = nested(joined(parts.collect(), &BinaryOperator::And));
            }
            Expr::Between { expr: inner, negated, low, high } => {
                let (Some(value), Some(low), Some(high)) = (row(inner), row(low), row(high)) else { return Ok(()) };
                let low = compared(&value, &BinaryOperator::GtEq, &low)?;
                let high = compared(&value, &BinaryOperator::LtEq, &high)?;
                let within = nested(joined(low.into_iter().chain(high).collect(), &BinaryOperator::And));
                *expr = if *negated { not(within) } else { within };
            }
            Expr::InList { expr: inner, list, negated } => {
                let Some(value) = row(inner) else { return Ok(()) };
                refuse_volatile(&value)?;
                let mut found = Vec::with_capacity(list.len());
                for item in list.iter() {
                    let Some(item) = row(item) else {
                        let message = "operator does not exist: a row of several columns = another value";
                        return Err(SqlError::error("42883", message));
                    };
                    found.extend(compared(&value, &BinaryOperator::Eq, &item)?);
                }
                let found = nested(joined(found, &BinaryOperator::Or));
                *expr = if *negated { not(found) } else { found };
            }
            Expr::InSubquery { expr: inner, subquery, negated } => {
                let Some(row) = row(inner) else { return Ok(()) };
                check(&row, subquery)?;
                let negated = *negated;
                let rows = self.rows(take_query(subquery)?, row.len())?;
                let found = nested(in_rows(&row, &rows)?);
                *expr = if negated { not(found) } else { found };
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives the rows of a subquery and their columns names.
    fn rows(&mut self, query: Query, columns: usize) -> Result<Rows, SqlError> {
        self.subqueries += 1;
        let name = format!("neuroql_row_{}", self.subqueries);
        let template =
            TEMPLATE.clone().ok_or_else(|| SqlError::error("XX000", "internal error: there is no EXISTS"))?;
        let mut rows = Rows { name: name.clone(), query: template };
        if let SetExpr::Select(select) = rows.query.body.as_mut()
            && let Some(from) = select.from.first_mut()
            && let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut from.relation
        {
            **subquery = query;
            alias.name = Ident::new(name);
            let column = |place| TableAliasColumnDef { name: column(place), data_type: None };
            alias.columns = (0..columns).map(column).collect();
        }
        Ok(rows)
    }
}

/// Makes IN of `= ANY (SELECT …)` beside a row, and NOT IN of `<> ALL (SELECT …)`.
///
/// # Errors
/// 0A000 for other operators.
fn quantified(expr: &mut Expr) -> Result<(), SqlError> {
    let (left, op, right, is_any) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, true),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, false),
        _ => return Ok(()),
    };
    let (Some(_), Expr::Subquery(subquery)) = (row(left), right.as_mut()) else { return Ok(()) };
    let negated = match (&*op, is_any) {
        (BinaryOperator::Eq, true) => false,
        (BinaryOperator::NotEq, false) => true,
        _ => {
            let quantifier = if is_any { "ANY" } else { "ALL" };
            let message = format!("a row beside {op} {quantifier} (SELECT …) is not supported");
            return Err(SqlError::not_supported(message));
        }
    };
    let subquery = Box::new(take_query(subquery)?);
    *expr = Expr::InSubquery { expr: Box::new(take(left)), subquery, negated };
    Ok(())
}

fn is_subquery(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_subquery(inner),
        other => matches!(other, Expr::Subquery(_)),
    }
}

/// Returns the columns of a subquery that is compared with a row.
///
/// # Errors
/// 0A000 if they cannot be asked for one by one.
fn of_subquery(expr: &Expr) -> Result<Option<Vec<Expr>>, SqlError> {
    match expr {
        Expr::Nested(inner) => of_subquery(inner),
        Expr::Subquery(query) => match tuple_assignments::columns_of(query) {
            Some(columns) => Ok(Some(columns)),
            None => {
                let error = SqlError::not_supported("a row beside this subquery is not supported");
                Err(error.with_hint("Use IN, or compare each column with a subquery of its own."))
            }
        },
        _ => Ok(None),
    }
}

/// A query that looks for rows among those of a subquery.
static TEMPLATE: LazyLock<Option<Query>> = LazyLock::new(|| {
    let text = "SELECT 1 FROM (SELECT 1) AS neuroql_row (column_1) WHERE true";
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_query()).ok().map(|it| *it)
});

fn column(place: usize) -> Ident {
    Ident::new(format!("column_{}", place + 1))
}

/// The rows of a subquery, whose columns have names.
struct Rows {
    name: String,
    query: Query,
}

impl Rows {
    fn column(&self, place: usize) -> Expr {
        Expr::CompoundIdentifier(vec![Ident::new(self.name.as_str()), column(place)])
    }

    /// Returns the condition that their columns are equal to those of a row.
    fn equal(&self, row: &[Expr]) -> Expr {
        let parts = row.iter().enumerate().map(|(place, value)| equal(self.column(place), value.clone()));
        joined(parts.collect(), &BinaryOperator::And)
    }

    fn filtered(&self, condition: Expr) -> Query {
        let mut query = self.query.clone();
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.selection = Some(condition);
        }
        query
    }
}

/// Returns the value of `row IN (rows)`, of queries that look for equal columns: outside of conditions nothing else can be looked for.
/// It is NULL if there is no equal row, but one where each column is equal or NULL on either side.
fn in_rows(row: &[Expr], rows: &Rows) -> Result<Expr, SqlError> {
    let columns = u32::try_from(row.len()).unwrap_or(u32::MAX);
    if columns > MOST_COLUMNS {
        let message =
            format!("a row of more than {MOST_COLUMNS} columns in a subquery is not supported outside of conditions");
        return Err(SqlError::not_supported(message).with_hint("Put it into WHERE."));
    }
    let mut unknown = Vec::new();
    for choice in 1..3_usize.pow(columns) {
        let (mut within, mut beside) = (Vec::new(), Vec::new());
        let mut rest = choice;
        for (place, value) in row.iter().enumerate() {
            match rest % 3 {
                0 => within.push(equal(rows.column(place), value.clone())),
                1 => within.push(nested(Expr::IsNull(Box::new(rows.column(place))))),
                _ => beside.push(nested(Expr::IsNull(Box::new(value.clone())))),
            }
            rest /= 3;
        }
        let condition = if within.is_empty() { boolean(true) } else { joined(within, &BinaryOperator::And) };
        beside.push(exists(rows.filtered(condition)));
        unknown.push(nested(joined(beside, &BinaryOperator::And)));
    }
    let found = exists(rows.filtered(rows.equal(row)));
    let unknown = nested(joined(unknown, &BinaryOperator::Or));
    Ok(case(vec![(found, boolean(true)), (unknown, null())], boolean(false)))
}

/// Checks a row that is looked for in a subquery.
fn check(row: &[Expr], subquery: &Query) -> Result<(), SqlError> {
    refuse_rows(row)?;
    refuse_volatile(row)?;
    match width(&subquery.body) {
        Some(columns) if columns < row.len() => Err(SqlError::error("42601", "subquery has too few columns")),
        Some(columns) if columns > row.len() => Err(SqlError::error("42601", "subquery has too many columns")),
        _ => Ok(()),
    }
}

/// Returns the number of columns of a query, if it can be told.
fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) => {
            let is_one =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(is_one).then_some(select.projection.len())
        }
        SetExpr::Query(query) => width(&query.body),
        SetExpr::SetOperation { left, .. } => width(left),
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        _ => None,
    }
}

/// Refuses values that are not the same each time.
pub(super) fn refuse_volatile(row: &[Expr]) -> Result<(), SqlError> {
    let is_volatile = |part: &Expr| match part {
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            VOLATILE.contains(&name.as_str())
        }
        _ => false,
    };
    let found = row.iter().any(|value| has(value, is_volatile));
    match found {
        true => Err(SqlError::not_supported("a row with a function whose value changes is not supported here")),
        false => Ok(()),
    }
}

fn has(tree: &impl Visit, is_wanted: impl Fn(&Expr) -> bool) -> bool {
    let found = visit_expressions(tree, |part| match is_wanted(part) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Returns the columns of a row.
fn row(expr: &Expr) -> Option<Vec<Expr>> {
    let is_whole =
        |function: &Function| function.over.is_none() && function.filter.is_none() && function.within_group.is_empty();
    match expr {
        Expr::Nested(inner) => row(inner),
        Expr::Tuple(columns) => Some(columns.iter().cloned().map(grouped).collect()),
        Expr::Function(function) if is_whole(function) => {
            let [name] = function.name.0.as_slice() else { return None };
            let name = name.as_ident().filter(|name| name.quote_style.is_none() && fold(name) == "row");
            let FunctionArguments::List(list) = name.map(|_| &function.args)? else { return None };
            let columns = list.args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(grouped(value.clone())),
                _ => None,
            });
            columns.collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty())
        }
        _ => None,
    }
}

/// Puts a value that is more than a name or a constant into parentheses.
fn grouped(expr: Expr) -> Expr {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::Nested(_) | Expr::Function(_) => {
            expr
        }
        other => nested(other),
    }
}

/// Compares two rows; `None` for an operator that compares nothing.
fn compared(one: &[Expr], op: &BinaryOperator, other: &[Expr]) -> Result<Option<Expr>, SqlError> {
    let strict = match op {
        BinaryOperator::Eq => {
            return pairs(one, other, BinaryOperator::And, equal).map(Some);
        }
        BinaryOperator::NotEq => {
            let differ = |left, right| nested(binary(left, BinaryOperator::NotEq, right));
            return pairs(one, other, BinaryOperator::Or, differ).map(Some);
        }
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        BinaryOperator::Gt | BinaryOperator::GtEq => BinaryOperator::Gt,
        _ => return Ok(None),
    };
    check_lengths(one, other)?;
    refuse_volatile(one)?;
    refuse_volatile(other)?;
    let mut found: Option<Expr> = None;
    for (left, right) in one.iter().zip(other).rev() {
        found = Some(match found {
            None => nested(binary(left.clone(), op.clone(), right.clone())),
            Some(rest) => {
                let first = nested(binary(left.clone(), strict.clone(), right.clone()));
                let rest = nested(binary(equal(left.clone(), right.clone()), BinaryOperator::And, rest));
                nested(binary(first, BinaryOperator::Or, rest))
            }
        });
    }
    Ok(found)
}

/// Refuses rows in a row, which PostgreSQL compares otherwise.
fn refuse_rows(columns: &[Expr]) -> Result<(), SqlError> {
    match columns.iter().any(|column| row(column).is_some()) {
        true => Err(SqlError::not_supported("a row in a row is not supported")),
        false => Ok(()),
    }
}

fn check_lengths(one: &[Expr], other: &[Expr]) -> Result<(), SqlError> {
    refuse_rows(one)?;
    refuse_rows(other)?;
    match one.len() == other.len() {
        true => Ok(()),
        false => Err(SqlError::error("42601", "unequal number of entries in row expressions")),
    }
}

fn pairs(
    one: &[Expr],
    other: &[Expr],
    op: BinaryOperator,
    compare: impl Fn(Expr, Expr) -> Expr,
) -> Result<Expr, SqlError> {
    check_lengths(one, other)?;
    let parts = one.iter().zip(other).map(|(one, other)| compare(one.clone(), other.clone()));
    Ok(nested(joined(parts.collect(), &op)))
}

/// Joins conditions to a tree that is no deeper than it has to be.
pub(super) fn joined(mut parts: Vec<Expr>, op: &BinaryOperator) -> Expr {
    if parts.len() < 2 {
        return parts.pop().unwrap_or_else(|| boolean(*op == BinaryOperator::And));
    }
    let rest = parts.split_off(parts.len() / 2);
    let (left, right) = (joined(parts, op), joined(rest, op));
    let whole = |part: Expr| if matches!(part, Expr::BinaryOp { .. }) { nested(part) } else { part };
    binary(whole(left), op.clone(), whole(right))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Returns the comparison of two columns.
fn equal(left: Expr, right: Expr) -> Expr {
    nested(binary(left, BinaryOperator::Eq, right))
}

pub(super) fn nested(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(_) => expr,
        other => Expr::Nested(Box::new(other)),
    }
}

fn not(expr: Expr) -> Expr {
    nested(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(nested(expr)) })
}

fn exists(query: Query) -> Expr {
    Expr::Exists { subquery: Box::new(query), negated: false }
}

pub(super) fn boolean(value: bool) -> Expr {
    Expr::value(Value::Boolean(value))
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

fn case(conditions: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: conditions.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect(),
        else_result: Some(Box::new(otherwise)),
    }
}

fn unnested(expr: &mut Expr) -> &mut Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

fn take_query(query: &mut Query) -> Result<Query, SqlError> {
    let empty = TEMPLATE.clone().ok_or_else(|| SqlError::error("XX000", "internal error: there is no EXISTS"))?;
    Ok(std::mem::replace(query, empty))
}

#[cfg(test)]
mod tests {
    use neuroql::PostgresDialect;

    use super::*;

    fn rewritten(text: &str) -> Result<String, String> {
        let mut statement = Parser::parse_sql(&PostgresDialect, text).unwrap().remove(0);
        rewrite(&mut statement).map_err(|error| error.sqlstate.into_owned())?;
        let once = statement.to_string();
        // A view is kept as text, which is read again.
        let mut again = Parser::parse_sql(&PostgresDialect, &once).unwrap().remove(0);
        rewrite(&mut again).unwrap();
        assert_eq!(again.to_string(), once);
        Ok(once)
    }

    #[test]
    fn rows_are_compared_by_columns() {
        for (text, expected) in [
            ("(a, b) = (c, 1)", "((a = c) AND (b = 1))"),
            ("ROW(a, b) <> ROW(c, d)", "((a <> c) OR (b <> d))"),
            ("(a, b) < (c, d)", "((a < c) OR ((a = c) AND (b < d)))"),
            ("(a, b) >= (c, d)", "((a > c) OR ((a = c) AND (b >= d)))"),
            ("(a, b) IN ((1, 2), (3, 4))", "(((a = 1) AND (b = 2)) OR ((a = 3) AND (b = 4)))"),
            ("(a, b) NOT IN ((1, 2))", "(NOT ((a = 1) AND (b = 2)))"),
            ("(a, b) IS NULL", "((a IS NULL) AND (b IS NULL))"),
            ("(a, b) IS NOT NULL", "((a IS NOT NULL) AND (b IS NOT NULL))"),
            ("(a OR x, b) = (c, d)", "(((a OR x) = c) AND (b = d))"),
            ("(a) = (b)", "(a) = (b)"),
            ("a IN (1, 2)", "a IN (1, 2)"),
        ] {
            assert_eq!(rewritten(&format!("SELECT {text} FROM t")).unwrap(), format!("SELECT {expected} FROM t"));
        }
    }

    #[test]
    fn rows_are_distinct_by_columns() {
        let mut statement =
            Parser::parse_sql(&PostgresDialect, "SELECT (a, b) IS DISTINCT FROM (c, d)").unwrap().remove(0);
        rewrite(&mut statement).unwrap();
        let found = statement.to_string();
        assert!(found.contains("(a IS DISTINCT FROM c) OR (b IS DISTINCT FROM d)"), "{found}");
    }

    #[test]
    fn rows_are_looked_for_in_subqueries() {
        let found = rewritten("SELECT * FROM t WHERE (a, b) IN (SELECT x, y FROM u) AND c").unwrap();
        let expected = "SELECT * FROM t WHERE EXISTS (SELECT 1 FROM (SELECT x, y FROM u) AS neuroql_row_1 (column_1, column_2) \
                        WHERE (neuroql_row_1.column_1 = a) AND (neuroql_row_1.column_2 = b)) AND c";
        assert_eq!(found, expected);
        for text in ["(a, b) NOT IN (SELECT x, y FROM u)", "NOT (a, b) IN (SELECT x, y FROM u)"] {
            let found = rewritten(&format!("DELETE FROM t WHERE {text}")).unwrap();
            assert!(found.contains("(NOT (EXISTS (") && found.contains("IS NOT FALSE"), "{found}");
        }
        let found = rewritten("SELECT * FROM t WHERE c OR (a, b) IN (SELECT x, y FROM u)").unwrap();
        assert_eq!(found.matches("EXISTS (").count(), 2, "{found}");
        let expected = rewritten("SELECT * FROM t WHERE (a, b) NOT IN (SELECT x, y FROM u)").unwrap();
        assert_eq!(rewritten("SELECT * FROM t WHERE (a, b) <> ALL (SELECT x, y FROM u)").unwrap(), expected);
        let expected = rewritten("SELECT (a, b) IN (SELECT x, y FROM u)").unwrap();
        assert_eq!(rewritten("SELECT (a, b) = ANY (SELECT x, y FROM u)").unwrap(), expected);
        let found = rewritten("SELECT (a, b) = (SELECT x, y FROM u) FROM t").unwrap();
        assert_eq!(found, "SELECT ((a = (SELECT x FROM u)) AND (b = (SELECT y FROM u))) FROM t");
        let found = rewritten("SELECT (a, b) IN (SELECT x, y FROM u) FROM t").unwrap();
        assert_eq!(found.matches("EXISTS (").count(), 9, "{found}");
    }

    #[test]
    fn unlike_rows_are_refused() {
        for (text, sqlstate) in [
            ("(a, b) = (1, 2, 3)", "42601"),
            ("(a, b) IN ((1, 2), (1, 2, 3))", "42601"),
            ("(a, b) IN (1, 2)", "42883"),
            ("(a, b) IN (SELECT 1)", "42601"),
            ("(a, b) IN (VALUES (1, 2, 3))", "42601"),
            ("(a, b, c, d) IN (SELECT 1, 2, 3, 4)", "0A000"),
            ("(random(), b) < (1, 2)", "0A000"),
            ("((a, b), c) = ((1, 2), 3)", "0A000"),
            ("(a, b) < ANY (SELECT 1, 2)", "0A000"),
            ("(a, b) = (SELECT * FROM u)", "0A000"),
            ("(a, b) = (SELECT 1)", "42601"),
            ("(SELECT 1, 2) = (a, b)", "42601"),
        ] {
            assert_eq!(rewritten(&format!("SELECT {text} FROM t")).unwrap_err(), sqlstate, "{text}");
        }
    }
}
