//! Refuses the parts of a statement that DataFusion's planner passes over: no statement is answered as if a part of
//! it were not there.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement as DFStatement};
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, BinaryOperator, ColumnDef, ColumnOption, ConstraintCharacteristics, CreateTable,
    Expr, Function, FunctionArguments, Ident, Insert, JoinConstraint, JoinOperator, NullsDistinctOption, ObjectName,
    OnConflictAction, OnInsert, PrimaryKeyConstraint, Query, Select, SelectItem, Statement, TableAlias,
    TableConstraint, TableFactor, TypedString, UniqueConstraint, Value, ValueWithSpan, Visit, Visitor,
    visit_expressions,
};
use datafusion_postgres::pgwire::api::Type;

use crate::sql::bpchar_types;
use crate::sql::column_names::fold;
use crate::sql::range_values;
use crate::sql::rewrite::{generated_columns, is_named, json_sets, literal_casts, ordinality};
use crate::wire::error_response::SqlError;

/// Refuses a statement with a part that would be passed over.
///
/// # Errors
/// Returns the SQLSTATE of Postgres if the part is an error there, 0A000 otherwise.
pub(crate) fn check(statement: &DFStatement) -> Result<(), SqlError> {
    visit(statement, &mut PassedOver)
}

/// Refuses clauses of aggregate and window functions in calls of scalar functions, which `is_scalar` knows by name.
///
/// # Errors
/// 42809, as in Postgres.
pub(crate) fn check_calls(statement: &DFStatement, is_scalar: &dyn Fn(&str) -> bool) -> Result<(), SqlError> {
    visit(statement, &mut Calls { is_scalar })
}

fn visit<V: Visitor<Break = SqlError>>(statement: &DFStatement, visitor: &mut V) -> Result<(), SqlError> {
    let found = match statement {
        DFStatement::Statement(inner) => inner.visit(visitor),
        DFStatement::Explain(explain) => return visit(&explain.statement, visitor),
        DFStatement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(visitor),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct PassedOver;

/// Goes on after what is supported.
fn walk(found: Result<(), SqlError>) -> ControlFlow<SqlError> {
    found.map_or_else(ControlFlow::Break, ControlFlow::Continue)
}

fn refused(part: impl std::fmt::Display) -> Result<(), SqlError> {
    Err(SqlError::not_supported(format!("{part} is not supported")))
}

impl Visitor for PassedOver {
    type Break = SqlError;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<SqlError> {
        walk(match statement {
            Statement::CreateTable(table) => create_table(table),
            Statement::Update(update) => assigned_once(&update.assignments),
            Statement::Insert(Insert { on: Some(OnInsert::OnConflict(conflict)), .. }) => match &conflict.action {
                OnConflictAction::DoUpdate(update) => assigned_once(&update.assignments),
                OnConflictAction::DoNothing => Ok(()),
            },
            _ => Ok(()),
        })
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        walk(match query {
            Query { locks, .. } if !locks.is_empty() => {
                let message = "SELECT … FOR UPDATE and FOR SHARE are not supported: rows cannot be locked";
                Err(SqlError::not_supported(message))
            }
            Query { for_clause: Some(clause), .. } => refused(clause),
            Query { settings: Some(_), .. } => refused("SETTINGS"),
            Query { format_clause: Some(_), .. } => refused("FORMAT in a query"),
            _ => Ok(()),
        })
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
        walk(select.projection.iter().try_for_each(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => not_a_string(alias),
            _ => Ok(()),
        }))?;
        let joins = select.from.iter().flat_map(|tables| &tables.joins);
        walk(joins.map(|join| &join.join_operator).try_for_each(natural))
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<SqlError> {
        walk(table_factor(table).and_then(|()| json_arguments(table)))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        walk(match expr {
            Expr::Value(ValueWithSpan { value: Value::HexStringLiteral(digits), .. }) => {
                let hint = "Write '\\x1f'::bytea for bytes, and numbers as decimals.";
                let message = format!("the bit string X'{digits}' is not supported");
                Err(SqlError::not_supported(message).with_hint(hint))
            }
            Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => in_range(number),
            _ => Ok(()),
        })
    }
}

/// Refuses numbers such as `1e400`, which would be infinite as double precision, and `1e-400`, which would be 0.
fn in_range(number: &str) -> Result<(), SqlError> {
    let Ok(double) = number.parse::<f64>() else { return Ok(()) };
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    let is_zero = !mantissa.contains(|digit: char| matches!(digit, '1'..='9'));
    if double.is_infinite() || double == 0.0 && !is_zero {
        let message = format!("\"{number}\" is out of range for type double precision");
        return Err(SqlError::error("22003", message));
    }
    Ok(())
}

/// Refuses `SELECT 1 'a'`: an alias is a name.
fn not_a_string(alias: &Ident) -> Result<(), SqlError> {
    match alias.quote_style {
        Some('\'') => Err(SqlError::error("42601", format!("syntax error at or near \"'{}'\"", alias.value))),
        _ => Ok(()),
    }
}

/// Refuses NATURAL, whose columns are not known before the tables are.
fn natural(operator: &JoinOperator) -> Result<(), SqlError> {
    match crate::sql::rewrite::join_using::constraint(operator) {
        Some(JoinConstraint::Natural) => {
            Err(SqlError::not_supported("NATURAL JOIN is not supported").with_hint("Use JOIN … USING (columns)."))
        }
        _ => Ok(()),
    }
}

fn table_factor(table: &TableFactor) -> Result<(), SqlError> {
    let alias = match table {
        TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
            let hint = "Use WHERE random() < 0.1 for a tenth of the rows.";
            return Err(SqlError::not_supported("TABLESAMPLE is not supported").with_hint(hint));
        }
        TableFactor::Table { with_ordinality: true, .. }
        | TableFactor::Function { with_ordinality: true, .. }
        | TableFactor::UNNEST { with_ordinality: true, .. }
            if ordinality::numbered(table).is_none() && json_sets::table(table).is_none() =>
        {
            let message = "WITH ORDINALITY is not supported here";
            let hint = "It numbers the rows of unnest and generate_series, and several arrays need names of their columns. Number \
                        the rows of other functions with row_number() OVER ().";
            return Err(SqlError::not_supported(message).with_hint(hint));
        }
        TableFactor::Table { version: Some(version), .. } => return refused(version),
        TableFactor::Table { with_hints, index_hints, partitions, json_path, .. }
            if !with_hints.is_empty() || !index_hints.is_empty() || !partitions.is_empty() || json_path.is_some() =>
        {
            return refused(table);
        }
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. } => alias,
        _ => return Ok(()),
    };
    match alias {
        Some(TableAlias { columns, .. }) if columns.iter().any(|column| column.data_type.is_some()) => {
            let message = "a column definition list is only allowed for functions returning \"record\"";
            Err(SqlError::error("42601", message))
        }
        Some(TableAlias { name, at: None, .. }) => not_a_string(name),
        Some(_) => refused(table),
        None => Ok(()),
    }
}

/// Refuses `f('…'::json)` and `f('…'::char(2))` in FROM: functions there take the text, whatever it is.
fn json_arguments(table: &TableFactor) -> Result<(), SqlError> {
    if !literal_casts::is_function(table) {
        return Ok(());
    }
    let found = visit_expressions(table, |expr| match expr {
        Expr::Cast { data_type, .. } | Expr::TypedString(TypedString { data_type, .. }) => {
            match literal_casts::kind_of(data_type) {
                None if range_values::is_name(data_type) => ControlFlow::Break(Type::ANY_RANGE),
                None if bpchar_types::is_named(data_type) => ControlFlow::Break(Type::BPCHAR),
                Some(kind) if kind != Type::UUID => ControlFlow::Break(kind),
                _ => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(kind) => refused(format!("a value of type {kind} as an argument of a function in FROM")),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Refuses `SET a = 1, a = 2`.
fn assigned_once(assignments: &[Assignment]) -> Result<(), SqlError> {
    let columns = assignments.iter().flat_map(|assignment| match &assignment.target {
        AssignmentTarget::ColumnName(column) => std::slice::from_ref(column),
        AssignmentTarget::Tuple(columns) => columns,
    });
    let mut seen = HashSet::new();
    for column in columns {
        let name = column.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        if !seen.insert(name.clone()) {
            return Err(SqlError::error("42601", format!("multiple assignments to same column \"{name}\"")));
        }
    }
    Ok(())
}

fn create_table(table: &CreateTable) -> Result<(), SqlError> {
    // The values of the query would not be read as such.
    let is_read = |column: &&ColumnDef| {
        literal_casts::kind_of(&column.data_type).is_some()
            || bpchar_types::is_named(&column.data_type)
            || range_values::is_name(&column.data_type)
    };
    if table.query.is_some()
        && let Some(column) = table.columns.iter().find(is_read)
    {
        let message = format!("syntax error at or near \"{}\"", column.data_type.to_string().to_lowercase());
        return Err(SqlError::error("42601", message));
    }
    for column in &table.columns {
        column.options.iter().try_for_each(|option| column_option(&column.name, &option.option))?;
    }
    table.constraints.iter().try_for_each(|constraint| match constraint {
        TableConstraint::Unique(unique) => unique_constraint(unique),
        TableConstraint::PrimaryKey(key) => primary_key(key),
        TableConstraint::Check(_) | TableConstraint::ForeignKey(_) => Ok(()),
        other => refused(format!("the constraint {other}")),
    })
}

fn column_option(column: &Ident, option: &ColumnOption) -> Result<(), SqlError> {
    match option {
        ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Default(_) => Ok(()),
        ColumnOption::PrimaryKey(key) => primary_key(key),
        ColumnOption::Unique(unique) => unique_constraint(unique),
        ColumnOption::Collation(name) => collation(name),
        option if generated_columns::is_identity(option) => Ok(()),
        ColumnOption::Check(_) | ColumnOption::ForeignKey(_) => Ok(()),
        other => refused(format!("{other} of the column {column}")),
    }
}

/// Refuses collations other than that of bytes.
///
/// # Errors
/// 0A000 for another.
pub(crate) fn collation(name: &ObjectName) -> Result<(), SqlError> {
    let last = name.0.last().and_then(|part| part.as_ident());
    match last.map(|last| last.value.as_str()) {
        Some("C" | "POSIX" | "default" | "ucs_basic") => Ok(()),
        _ => {
            let hint = "Texts are compared by their bytes, which is the collation \"C\".";
            Err(SqlError::not_supported(format!("the collation {name} is not supported")).with_hint(hint))
        }
    }
}

/// Functions that tell letters from others, or upper case from lower.
const OF_LETTERS: [&str; 12] = [
    "initcap",
    "lower",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "regexp_substr",
    "upper",
];

/// Refuses the collation "C", which knows the letters of ASCII only, where letters count: those of Unicode do.
///
/// # Errors
/// 0A000.
pub(crate) fn letters_of_ascii(expr: &Expr) -> Result<(), SqlError> {
    let operands: Vec<&Expr> = match expr {
        Expr::ILike { expr, pattern, .. } | Expr::SimilarTo { expr, pattern, .. } => vec![expr, pattern],
        Expr::BinaryOp {
            left,
            op:
                BinaryOperator::PGRegexMatch
                | BinaryOperator::PGRegexIMatch
                | BinaryOperator::PGRegexNotMatch
                | BinaryOperator::PGRegexNotIMatch,
            right,
        } => vec![left, right],
        Expr::Function(function) if OF_LETTERS.iter().any(|name| is_named(function, name)) => vec![expr],
        _ => return Ok(()),
    };
    let is_ascii = |name: &ObjectName| {
        let last = name.0.last().and_then(|part| part.as_ident());
        last.is_some_and(|last| last.value != "default")
    };
    for operand in operands {
        let found = visit_expressions(operand, |part| match part {
            Expr::Collate { collation, .. } if is_ascii(collation) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        if found.is_break() {
            let message = "the collation \"C\" is not supported where letters and cases are told apart";
            return Err(SqlError::not_supported(message).with_hint("Letters are those of Unicode."));
        }
    }
    Ok(())
}

/// Refuses forms of UNIQUE that are not held.
///
/// # Errors
/// 0A000.
pub(crate) fn unique_constraint(unique: &UniqueConstraint) -> Result<(), SqlError> {
    if unique.nulls_distinct == NullsDistinctOption::NotDistinct {
        return refused("UNIQUE NULLS NOT DISTINCT");
    }
    if unique.index_type.is_some() || !unique.index_options.is_empty() {
        return refused(format!("the constraint {unique}"));
    }
    checked_at_once(unique.characteristics.as_ref())
}

/// Refuses forms of PRIMARY KEY that are not held.
///
/// # Errors
/// 0A000.
pub(crate) fn primary_key(key: &PrimaryKeyConstraint) -> Result<(), SqlError> {
    if key.index_type.is_some() || !key.index_options.is_empty() {
        return refused(format!("the constraint {key}"));
    }
    checked_at_once(key.characteristics.as_ref())
}

/// Refuses a constraint that is not checked after each statement.
///
/// # Errors
/// 0A000.
pub(super) fn checked_at_once(characteristics: Option<&ConstraintCharacteristics>) -> Result<(), SqlError> {
    match characteristics {
        None => Ok(()),
        Some(found) if found.deferrable != Some(true) && found.initially.is_none() && found.enforced != Some(false) => {
            Ok(())
        }
        Some(found) => refused(format!("a constraint that is {found}")),
    }
}

/// Calls of functions.
struct Calls<'a> {
    is_scalar: &'a dyn Fn(&str) -> bool,
}

impl Visitor for Calls<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::Function(function) => walk(self.call(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Calls<'_> {
    fn call(&self, function: &Function) -> Result<(), SqlError> {
        let clause = match function {
            Function { over: Some(_), .. } => "OVER",
            Function { filter: Some(_), .. } => "FILTER",
            Function { within_group, .. } if !within_group.is_empty() => "WITHIN GROUP",
            Function { null_treatment: Some(_), .. } => "IGNORE NULLS or RESPECT NULLS",
            Function { args: FunctionArguments::List(list), .. } => match list {
                _ if list.duplicate_treatment.is_some() => "DISTINCT or ALL",
                _ if !list.clauses.is_empty() => "ORDER BY",
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        let Some(name) = function.name.0.last().and_then(|part| part.as_ident()).map(fold) else { return Ok(()) };
        if !(self.is_scalar)(&name) {
            return Ok(());
        }
        let kind = match clause {
            "OVER" => "a window function nor an aggregate function",
            _ => "an aggregate function",
        };
        Err(SqlError::error("42809", format!("{clause} specified, but {name} is not {kind}")))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn refusal(sql: &str) -> Option<String> {
        let statement = Parser::parse_sql(&PostgresDialect, sql).unwrap().remove(0);
        let statement = DFStatement::Statement(Box::new(statement));
        let calls = || check_calls(&statement, &|name| matches!(name, "upper" | "abs"));
        check(&statement).and_then(|()| calls()).err().map(|error| error.sqlstate.into_owned())
    }

    #[test]
    fn parts_that_would_be_passed_over_are_refused() {
        for (sql, sqlstate) in [
            ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "0A000"),
            ("SELECT * FROM (SELECT 1) t TABLESAMPLE SYSTEM (10)", "0A000"),
            ("SELECT * FROM search('toy', 'x') WITH ORDINALITY", "0A000"),
            ("SELECT * FROM unnest(ARRAY[1], ARRAY[2]) WITH ORDINALITY", "0A000"),
            ("SELECT * FROM unnest(ARRAY[random()]) WITH ORDINALITY", "0A000"),
            ("SELECT * FROM generate_series(1, 2) AS g(x int)", "42601"),
            ("SELECT * FROM t WHERE a IN (SELECT a FROM u TABLESAMPLE SYSTEM (1))", "0A000"),
            ("SELECT * FROM a NATURAL JOIN b", "0A000"),
            ("SELECT * FROM a NATURAL LEFT JOIN b", "0A000"),
            ("SELECT a FROM t FOR UPDATE", "0A000"),
            ("SELECT a FROM t FOR SHARE OF t NOWAIT", "0A000"),
            ("SELECT X'1F'", "0A000"),
            ("SELECT a < 1e400 FROM t", "22003"),
            ("SELECT -1.5e-400", "22003"),
            ("SELECT 'a' 'b'", "42601"),
            ("SELECT 1 AS 'b'", "42601"),
            ("SELECT upper('a') OVER ()", "42809"),
            ("SELECT upper(DISTINCT 'a')", "42809"),
            ("SELECT upper('a' ORDER BY 1)", "42809"),
            ("SELECT 1 + abs(1) FILTER (WHERE false)", "42809"),
            ("UPDATE t SET a = 1, b = 2, a = 3", "42601"),
            ("CREATE TABLE t(a int, b int GENERATED ALWAYS AS (a * 2) STORED)", "0A000"),
            ("CREATE TABLE t(a text COLLATE \"en_US\")", "0A000"),
            ("CREATE TABLE t(a int, UNIQUE NULLS NOT DISTINCT (a))", "0A000"),
            ("CREATE TABLE t(a int, PRIMARY KEY (a) DEFERRABLE)", "0A000"),
            ("CREATE TABLE t(a jsonb) AS SELECT 'x'", "42601"),
            ("CREATE TABLE t(a char(2)) AS SELECT 'x'", "42601"),
            ("SELECT * FROM search('toy', 'x'::json)", "0A000"),
            ("SELECT * FROM search('toy', 'xy'::char(1))", "0A000"),
            ("CREATE TABLE t AS SELECT * FROM search('toy', jsonb 'x') AS s", "0A000"),
        ] {
            assert_eq!(refusal(sql).as_deref(), Some(sqlstate), "{sql}");
        }
    }

    #[test]
    fn what_is_planned_is_not_refused() {
        for sql in [
            "SELECT a AS b, count(DISTINCT a), sum(a) FILTER (WHERE a > 1) FROM t AS x(a, b) JOIN u USING (a)",
            "SELECT rank() OVER (ORDER BY a), string_agg(a, ',' ORDER BY a), upper(a) FROM t",
            "SELECT 'a'\n'b', INTERVAL '1 day', '1.5'::numeric, \"x\" FROM generate_series(1, 2) AS g(x)",
            "CREATE TABLE t(a int PRIMARY KEY, b text UNIQUE NOT NULL DEFAULT 'x' COLLATE \"C\", UNIQUE (a, b))",
            "UPDATE t SET a = 1, b = 2",
            "CREATE TABLE t(a int GENERATED ALWAYS AS IDENTITY, b serial)",
            "SELECT 1e308, 5e-324, 0e-400, 0.0E999",
            "INSERT INTO t VALUES (1) ",
        ] {
            assert_eq!(refusal(sql), None, "{sql}");
        }
    }
}
