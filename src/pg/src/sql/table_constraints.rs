//! CHECK and FOREIGN KEY in the syntax of CREATE TABLE and ALTER TABLE. DataFusion's planner knows neither: they are taken
//! out of a statement before it is planned.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{
    AlterTableOperation, CheckConstraint, ColumnOption, ConstraintReferenceMatchKind, Expr, ForeignKeyConstraint,
    Function, FunctionArguments, Ident, ObjectName, ReferentialAction, Statement, TableConstraint, Value,
    ValueWithSpan, visit_expressions,
};

use crate::sql::column_names::fold;
use crate::sql::unsupported::checked_at_once;
use crate::wire::error_response::SqlError;

/// Action of a foreign key on the rows that reference a key that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::enum_variant_names, reason = "NO ACTION is what SQL calls it")]
pub(crate) enum Action {
    NoAction,
    Restrict,
    Cascade,
    SetNull,
}

/// A CHECK constraint that a statement adds.
#[derive(Debug, Clone)]
pub(crate) struct NewCheck {
    pub(crate) name: Option<String>,
    pub(crate) condition: Expr,
}

/// A foreign key that a statement adds.
#[derive(Debug, Clone)]
pub(crate) struct NewForeignKey {
    pub(crate) name: Option<String>,
    pub(crate) columns: Vec<String>,
    pub(crate) table: ObjectName,
    /// The referenced columns; none for those of the primary key.
    pub(crate) referenced: Vec<String>,
    pub(crate) on_delete: Action,
    pub(crate) on_update: Action,
}

/// The constraints that a statement adds to a table, but for its keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewConstraints {
    pub(crate) checks: Vec<NewCheck>,
    pub(crate) foreign_keys: Vec<NewForeignKey>,
}

/// Takes the CHECK constraints and foreign keys out of a CREATE TABLE, and the conditions of CHECK constraints out of an
/// ALTER TABLE; `None` if there are none.
///
/// # Errors
/// 0A000 for what cannot be held.
pub(crate) fn take(statement: &mut DFStatement) -> Result<Option<Arc<NewConstraints>>, SqlError> {
    let DFStatement::Statement(inner) = statement else { return Ok(None) };
    let mut new = NewConstraints::default();
    let create = match inner.as_mut() {
        Statement::CreateTable(create) => create,
        Statement::AlterTable(alter) => {
            for operation in &mut alter.operations {
                if let AlterTableOperation::AddConstraint { constraint: TableConstraint::Check(check), .. } = operation
                {
                    new.checks.push(new_check(check.name.as_ref(), check)?);
                    *check.expr = Expr::value(Value::Null);
                }
            }
            return Ok(Some(Arc::new(new)));
        }
        _ => return Ok(None),
    };
    for column in &mut create.columns {
        let mut kept = Vec::with_capacity(column.options.len());
        for option in column.options.drain(..) {
            match &option.option {
                ColumnOption::Check(check) => new.checks.push(new_check(option.name.as_ref(), check)?),
                ColumnOption::ForeignKey(key) => {
                    let columns = std::slice::from_ref(&column.name);
                    new.foreign_keys.push(new_foreign_key(option.name.as_ref(), columns, key)?);
                }
                _ => kept.push(option),
            }
        }
        column.options = kept;
    }
    let mut kept = Vec::with_capacity(create.constraints.len());
    for constraint in create.constraints.drain(..) {
        match &constraint {
            TableConstraint::Check(check) => new.checks.push(new_check(check.name.as_ref(), check)?),
            TableConstraint::ForeignKey(key) => {
                new.foreign_keys.push(new_foreign_key(key.name.as_ref(), &key.columns, key)?);
            }
            _ => kept.push(constraint),
        }
    }
    create.constraints = kept;
    if new.checks.is_empty() && new.foreign_keys.is_empty() {
        return Ok(None);
    }
    if create.query.is_some() {
        return Err(SqlError::not_supported("constraints of a CREATE TABLE AS are not supported"));
    }
    Ok(Some(Arc::new(new)))
}

/// Reads a CHECK constraint.
///
/// # Errors
/// 0A000 if it is not to be enforced.
fn new_check(name: Option<&Ident>, check: &CheckConstraint) -> Result<NewCheck, SqlError> {
    if check.enforced == Some(false) {
        return Err(SqlError::not_supported("CHECK … NOT ENFORCED is not supported"));
    }
    Ok(NewCheck { name: name.map(fold), condition: check.expr.as_ref().clone() })
}

/// Reads a foreign key of these columns.
///
/// # Errors
/// 0A000 for what cannot be held.
pub(crate) fn new_foreign_key(
    name: Option<&Ident>,
    columns: &[Ident],
    key: &ForeignKeyConstraint,
) -> Result<NewForeignKey, SqlError> {
    checked_at_once(key.characteristics.as_ref())?;
    match &key.match_kind {
        None | Some(ConstraintReferenceMatchKind::Simple) => {}
        Some(kind) => return Err(SqlError::not_supported(format!("{kind} of a foreign key is not supported"))),
    }
    let action = |action: Option<ReferentialAction>| match action {
        None | Some(ReferentialAction::NoAction) => Ok(Action::NoAction),
        Some(ReferentialAction::Restrict) => Ok(Action::Restrict),
        Some(ReferentialAction::Cascade) => Ok(Action::Cascade),
        Some(ReferentialAction::SetNull) => Ok(Action::SetNull),
        Some(ReferentialAction::SetDefault) => {
            Err(SqlError::not_supported("SET DEFAULT of a foreign key is not supported"))
        }
    };
    Ok(NewForeignKey {
        name: name.map(fold),
        columns: columns.iter().map(fold).collect(),
        table: key.foreign_table.clone(),
        referenced: key.referred_columns.iter().map(fold).collect(),
        on_delete: action(key.on_delete)?,
        on_update: action(key.on_update)?,
    })
}

/// Refuses a condition with parts that a CHECK constraint may not have. `is_aggregate` knows functions by their names.
///
/// # Errors
/// The SQLSTATE of Postgres for the part.
pub(crate) fn check_condition(condition: &Expr, is_aggregate: &dyn Fn(&str) -> bool) -> Result<(), SqlError> {
    let found = visit_expressions(condition, |part| {
        let refused = match part {
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => Some(subquery()),
            Expr::Function(function) => refused_call(function, is_aggregate),
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => {
                Some(SqlError::error("42P02", format!("there is no parameter {name}")))
            }
            _ => None,
        };
        refused.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn subquery() -> SqlError {
    SqlError::not_supported("cannot use subquery in check constraint")
}

fn refused_call(function: &Function, is_aggregate: &dyn Fn(&str) -> bool) -> Option<SqlError> {
    if matches!(function.args, FunctionArguments::Subquery(_)) {
        return Some(subquery());
    }
    if function.over.is_some() {
        return Some(SqlError::error("42P20", "window functions are not allowed in check constraints"));
    }
    let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold)?;
    if is_aggregate(&name) {
        return Some(SqlError::error("42803", "aggregate functions are not allowed in check constraints"));
    }
    matches!(name.as_str(), "generate_series" | "generate_subscripts" | "unnest" | "regexp_matches")
        .then(|| SqlError::not_supported("set-returning functions are not allowed in check constraints"))
}

/// The longest name of an object, in bytes.
const LONGEST_NAME: usize = 63;

/// Returns the name that PostgreSQL gives to a constraint without one: that of its table, of its columns, and what it is,
/// with a number behind if the name is taken.
pub(crate) fn chosen_name(table: &str, columns: &[&str], label: &str, is_taken: &dyn Fn(&str) -> bool) -> String {
    let mut all = columns.join("_");
    all.truncate(all.floor_char_boundary(LONGEST_NAME));
    let mut numbers = 0_u32..;
    loop {
        let label = match numbers.next() {
            None | Some(0) => label.to_owned(),
            Some(number) => format!("{label}{number}"),
        };
        let name = object_name(table, &all, &label);
        if !is_taken(&name) {
            return name;
        }
    }
}

/// Joins the parts of a name, of which the longer ones are cut if it is too long.
fn object_name(table: &str, columns: &str, label: &str) -> String {
    let between = usize::from(!columns.is_empty()) + 1;
    let room = LONGEST_NAME.saturating_sub(between + label.len());
    let (mut first, mut second) = (table.len(), columns.len());
    while first + second > room {
        if first > second { first -= 1 } else { second -= 1 }
    }
    let table = &table[..table.floor_char_boundary(first)];
    match columns.is_empty() {
        true => format!("{table}_{label}"),
        false => format!("{table}_{}_{label}", &columns[..columns.floor_char_boundary(second)]),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn parsed(sql: &str) -> DFStatement {
        DFStatement::Statement(Box::new(Parser::parse_sql(&PostgresDialect, sql).unwrap().remove(0)))
    }

    #[test]
    fn constraints_are_taken_out_of_a_statement() {
        let mut statement = parsed(
            "CREATE TABLE t(a int CONSTRAINT \"X\" CHECK (a > 0) NOT NULL, B int REFERENCES p ON DELETE CASCADE, \
             CHECK (a < b), UNIQUE (a), CONSTRAINT f FOREIGN KEY (a, B) REFERENCES s.p (x, y) ON UPDATE SET NULL)",
        );
        let new = take(&mut statement).unwrap().unwrap();
        assert_eq!(statement.to_string(), "CREATE TABLE t (a INT NOT NULL, B INT, UNIQUE (a))");
        let checks: Vec<_> =
            new.checks.iter().map(|check| (check.name.as_deref(), check.condition.to_string())).collect();
        assert_eq!(checks, [(Some("X"), "a > 0".to_owned()), (None, "a < b".to_owned())]);
        let [one, two] = new.foreign_keys.as_slice() else { panic!("{new:?}") };
        assert_eq!((one.columns.join(","), one.referenced.len(), one.on_delete), ("b".into(), 0, Action::Cascade));
        assert_eq!(
            (two.columns.join(","), two.referenced.join(","), two.on_update),
            ("a,b".into(), "x,y".into(), Action::SetNull)
        );
        assert_eq!((two.name.as_deref(), two.on_delete), (Some("f"), Action::NoAction));
        assert!(take(&mut parsed("CREATE TABLE t(a int PRIMARY KEY)")).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        for sql in [
            "CREATE TABLE t(a int REFERENCES p MATCH FULL)",
            "CREATE TABLE t(a int REFERENCES p ON DELETE SET DEFAULT)",
            "CREATE TABLE t(a int REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TABLE t(a int, FOREIGN KEY (a) REFERENCES p DEFERRABLE)",
            "CREATE TABLE t(a int CHECK (a > 0) NOT ENFORCED)",
        ] {
            assert_eq!(take(&mut parsed(sql)).unwrap_err().sqlstate, "0A000", "{sql}");
        }
    }

    #[test]
    fn conditions_are_of_one_row() {
        for (condition, sqlstate) in [
            ("a > (SELECT 1)", Some("0A000")),
            ("a IN (SELECT 1)", Some("0A000")),
            ("EXISTS (SELECT 1)", Some("0A000")),
            ("sum(a) > 1", Some("42803")),
            ("row_number() OVER () > 1", Some("42P20")),
            ("generate_series(1, 2) > 1", Some("0A000")),
            ("a > $1", Some("42P02")),
            ("a > 1 AND lower(b) = b", None),
        ] {
            let mut parser = Parser::new(&PostgresDialect).try_with_sql(condition).unwrap();
            let found = check_condition(&parser.parse_expr().unwrap(), &|name| name == "sum");
            assert_eq!(found.err().map(|error| error.sqlstate.into_owned()).as_deref(), sqlstate, "{condition}");
        }
    }

    #[test]
    fn names_are_those_of_postgres() {
        let free = |_: &str| false;
        assert_eq!(chosen_name("t", &["a"], "check", &free), "t_a_check");
        assert_eq!(chosen_name("t", &[], "check", &|name| name == "t_check"), "t_check1");
        assert_eq!(chosen_name("t", &["a", "b"], "fkey", &free), "t_a_b_fkey");
        let long = "x".repeat(60);
        assert_eq!(chosen_name(&long, &["abc"], "check", &free), format!("{}_abc_check", "x".repeat(53)));
        assert_eq!(chosen_name(&long, &[&long], "fkey", &free), format!("{}_{}_fkey", "x".repeat(29), "x".repeat(28)));
    }
}
