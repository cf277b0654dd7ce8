//! ON CONFLICT of INSERT: the statement is two plans, the INSERT without it, and an UPDATE of the table from its rows as
//! `excluded`.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchemaRef, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::{
    DmlStatement, Expr, Extension, LogicalPlan, Prepare, Statement as PlanStatement, UserDefinedLogicalNodeCore,
};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{
    ConflictTarget, DataType, Ident, OnConflictAction, OnInsert, Statement, TableObject, Update, UpdateTableFromKind,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::catalog::keys::{self, held};
use crate::catalog::table_notes;
use crate::session::returning;
use crate::session::row_changes::{internal, is_in_memory};
use crate::sql::column_names::fold;
use crate::wire::error_response::SqlError;

/// The keys that an INSERT looks for conflicts in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub(super) enum Target {
    /// All keys.
    Any,
    /// Keys of these columns, in any order.
    Columns(Vec<String>),
    Constraint(String),
}

/// An INSERT with ON CONFLICT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
struct Upsert {
    insert: LogicalPlan,
    /// The update of rows that are there; `None` for DO NOTHING.
    update: Option<LogicalPlan>,
    target: Target,
}

impl UserDefinedLogicalNodeCore for Upsert {
    fn name(&self) -> &str {
        "Upsert"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.insert).chain(&self.update).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.insert.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Upsert")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut inputs = inputs.into_iter();
        match (inputs.next(), inputs.next(), self.update.is_some()) {
            (Some(insert), update, updates) if update.is_some() == updates => {
                Ok(Self { insert, update, target: self.target.clone() })
            }
            _ => plan_err!("ON CONFLICT has other inputs"),
        }
    }
}

/// The parts of an INSERT with ON CONFLICT.
pub(super) struct Parts<'a> {
    pub(super) insert: &'a DmlStatement,
    pub(super) update: Option<&'a DmlStatement>,
    pub(super) target: &'a Target,
}

/// Returns the parts of an INSERT with ON CONFLICT.
pub(super) fn parts(plan: &LogicalPlan) -> Option<Parts<'_>> {
    let LogicalPlan::Extension(Extension { node }) = plan else { return None };
    let Upsert { insert, update, target } = node.as_any().downcast_ref::<Upsert>()?;
    let LogicalPlan::Dml(insert) = insert else { return None };
    let update = match update {
        Some(LogicalPlan::Dml(update)) => Some(update),
        Some(_) => return None,
        None => None,
    };
    Some(Parts { insert, update, target })
}

/// Returns true for an INSERT with ON CONFLICT.
pub(crate) fn is_upsert(plan: &LogicalPlan) -> bool {
    parts(plan).is_some()
}

/// Returns the INSERT of one with ON CONFLICT.
pub(crate) fn inserted(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let LogicalPlan::Extension(Extension { node }) = plan else { return None };
    Some(&node.as_any().downcast_ref::<Upsert>()?.insert)
}

/// Settles the changes of an INSERT with ON CONFLICT; other plans stay as they are.
///
/// # Errors
/// Those of `settle`.
pub(crate) fn settled(
    plan: LogicalPlan,
    mut settle: impl FnMut(LogicalPlan) -> Result<LogicalPlan, SqlError>,
) -> Result<LogicalPlan, SqlError> {
    let LogicalPlan::Extension(Extension { node }) = &plan else { return Ok(plan) };
    let Some(upsert) = node.as_any().downcast_ref::<Upsert>() else { return Ok(plan) };
    let Upsert { insert, update, target } = upsert.clone();
    Ok(node_of(Upsert { insert: settle(insert)?, update: update.map(&mut settle).transpose()?, target }))
}

fn node_of(upsert: Upsert) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(upsert) })
}

/// ON CONFLICT of a statement, whose plans are to be made.
pub(crate) struct Conflict {
    target: Target,
    /// The UPDATE of DO UPDATE.
    pub(crate) update: Option<DFStatement>,
}

/// Takes ON CONFLICT out of an INSERT, and the alias of its table, which nothing else reads.
///
/// # Errors
/// 42601 for DO UPDATE without a key.
pub(crate) fn take(statement: &mut DFStatement) -> Result<Option<Conflict>, SqlError> {
    let DFStatement::Statement(inner) = statement else { return Ok(None) };
    let (change, prepare) = match inner.as_mut() {
        Statement::Prepare { name, data_types, statement } => {
            (statement.as_mut(), Some((name.clone(), data_types.clone())))
        }
        other => (other, None),
    };
    let Statement::Insert(insert) = change else { return Ok(None) };
    let alias = insert.table_alias.take().map(|alias| alias.alias);
    let conflict = match insert.on.take() {
        Some(OnInsert::OnConflict(conflict)) => conflict,
        other => {
            insert.on = other;
            return Ok(None);
        }
    };
    let TableObject::TableName(table) = &insert.table else { return Err(internal("an INSERT into no table")) };
    let target = match conflict.conflict_target {
        None => Target::Any,
        Some(ConflictTarget::Columns(columns)) => Target::Columns(columns.iter().map(fold).collect()),
        Some(ConflictTarget::OnConstraint(name)) => match name.0.as_slice() {
            [name] => Target::Constraint(name.as_ident().map(fold).unwrap_or_default()),
            _ => return Err(SqlError::error("42601", "syntax error at or near \".\"")),
        },
    };
    let update = match conflict.action {
        OnConflictAction::DoNothing => None,
        OnConflictAction::DoUpdate(_) if target == Target::Any => {
            let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            return Err(SqlError::error("42601", message).with_hint("For example, ON CONFLICT (column_name)."));
        }
        OnConflictAction::DoUpdate(update) => {
            let excluded = returning::named(table.clone(), Some(Ident::new("excluded")))?;
            let mut statement = template().ok_or_else(|| internal("there is no UPDATE of ON CONFLICT"))?;
            statement.table = returning::named(table.clone(), alias)?;
            statement.assignments = update.assignments;
            statement.from = Some(UpdateTableFromKind::AfterSet(vec![excluded]));
            statement.selection = update.selection;
            Some(wrapped(Statement::Update(statement), prepare))
        }
    };
    Ok(Some(Conflict { target, update }))
}

/// Puts a statement into a PREPARE.
fn wrapped(statement: Statement, prepare: Option<(Ident, Vec<DataType>)>) -> DFStatement {
    DFStatement::Statement(Box::new(match prepare {
        Some((name, data_types)) => Statement::Prepare { name, data_types, statement: Box::new(statement) },
        None => statement,
    }))
}

/// An UPDATE whose parts are replaced.
fn template() -> Option<Update> {
    static TEMPLATE: LazyLock<Option<Update>> = LazyLock::new(|| {
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, "UPDATE t SET a = 1 FROM t AS excluded WHERE true");
        match parsed.ok()?.pop()? {
            Statement::Update(update) => Some(update),
            _ => None,
        }
    });
    TEMPLATE.clone()
}

impl Conflict {
    /// Makes one plan of those of the INSERT and the UPDATE.
    ///
    /// # Errors
    /// Those of [`keys_of`], and 0A000 if the table is not in memory.
    pub(crate) fn combined(self, insert: LogicalPlan, update: Option<LogicalPlan>) -> Result<LogicalPlan, SqlError> {
        let update = update.map(|update| match update {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => Arc::unwrap_or_clone(prepare.input),
            other => other,
        });
        let insert = match insert {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => {
                let input = self.combined(Arc::unwrap_or_clone(prepare.input), update)?;
                let prepare = Prepare { input: Arc::new(input), ..prepare };
                return Ok(LogicalPlan::Statement(PlanStatement::Prepare(prepare)));
            }
            other => other,
        };
        let LogicalPlan::Dml(dml) = &insert else { return Err(internal("an INSERT has another plan")) };
        if !is_in_memory(dml) {
            return Err(SqlError::not_supported("ON CONFLICT of a table that is not in memory is not supported"));
        }
        let table = source_as_provider(&dml.target)?;
        keys_of(table.as_ref(), dml.table_name.table(), &self.target)?;
        Ok(node_of(Upsert { insert, update, target: self.target }))
    }
}

/// Returns the keys of a table, those that are unique indexes among them.
fn all_keys(table: &dyn TableProvider) -> Vec<Vec<usize>> {
    let mut found: Vec<_> = keys::columns_of(table).into_iter().map(|(_, columns)| columns).collect();
    let schema = table.schema();
    if let Some(notes) = table_notes::of(table) {
        let indexes = notes.indexes.iter().filter(|index| index.is_unique);
        found.extend(indexes.filter_map(|index| {
            index.keys.iter().map(|key| schema.index_of(&key.name).ok()).collect::<Option<Vec<_>>>()
        }));
    }
    found
}

/// Returns the keys of a table in which conflicts are looked for.
///
/// # Errors
/// 42703 for a column that is not there, 42P10 if there is no key of these columns, 42704 if there is no constraint of the name, 42809
/// if it is none of keys.
pub(super) fn keys_of(table: &dyn TableProvider, name: &str, target: &Target) -> Result<Vec<Vec<usize>>, SqlError> {
    let schema = table.schema();
    match target {
        Target::Any => Ok(all_keys(table)),
        Target::Columns(columns) => {
            let mut wanted = HashSet::new();
            for column in columns {
                let place = schema.index_of(column);
                let missing = || SqlError::error("42703", format!("column \"{column}\" does not exist"));
                wanted.insert(place.map_err(|_| missing())?);
            }
            let mut found = all_keys(table);
            found.retain(|columns| columns.iter().copied().collect::<HashSet<_>>() == wanted);
            if found.is_empty() {
                let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
                return Err(SqlError::error("42P10", message));
            }
            Ok(found)
        }
        Target::Constraint(constraint) => {
            let mut found = keys::columns_of(table);
            found.retain(|(is_primary, columns)| keys::name(table, name, columns, *is_primary) == *constraint);
            if let Some((_, columns)) = found.pop() {
                return Ok(vec![columns]);
            }
            let held = held::of(table).unwrap_or_default();
            let is_other = held.checks.iter().any(|check| check.name == *constraint)
                || held.foreign_keys.iter().any(|key| key.name == *constraint);
            match is_other {
                true => Err(SqlError::error("42809", "constraint in ON CONFLICT clause has no associated index")),
                false => {
                    let message = format!("constraint \"{constraint}\" for table \"{name}\" does not exist");
                    Err(SqlError::error("42704", message))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::{Constraint, Constraints};
    use datafusion::datasource::MemTable;
    use neuroql::PostgresDialect;

    use super::*;

    type Taken = Option<(Target, Option<String>)>;

    fn taken(text: &str) -> Result<(String, Taken), String> {
        let statement = Parser::parse_sql(&PostgresDialect, text).unwrap().remove(0);
        let mut statement = DFStatement::Statement(Box::new(statement));
        let conflict = take(&mut statement).map_err(|error| error.sqlstate.into_owned())?;
        let conflict = conflict.map(|found| (found.target, found.update.map(|update| update.to_string())));
        Ok((statement.to_string(), conflict))
    }

    #[test]
    fn statements_are_taken_apart() {
        let (insert, conflict) = taken("INSERT INTO t AS x VALUES (1) ON CONFLICT DO NOTHING").unwrap();
        assert_eq!((insert.as_str(), conflict), ("INSERT INTO t VALUES (1)", Some((Target::Any, None))));
        let (insert, conflict) =
            taken("INSERT INTO s.t VALUES (1) ON CONFLICT (A, \"B\") DO UPDATE SET c = excluded.c WHERE t.c > 1")
                .unwrap();
        assert_eq!(insert, "INSERT INTO s.t VALUES (1)");
        let (target, update) = conflict.unwrap();
        assert_eq!(target, Target::Columns(vec!["a".into(), "B".into()]));
        let expected = "UPDATE s.t SET c = excluded.c FROM s.t AS excluded WHERE t.c > 1";
        assert_eq!(update.as_deref(), Some(expected));
        let (_, conflict) =
            taken("INSERT INTO t AS x VALUES (1) ON CONFLICT ON CONSTRAINT k DO UPDATE SET c = x.c").unwrap();
        let expected = "UPDATE t AS x SET c = x.c FROM t AS excluded";
        assert_eq!(conflict, Some((Target::Constraint("k".into()), Some(expected.into()))));
        assert_eq!(taken("INSERT INTO t AS x VALUES (1)").unwrap(), ("INSERT INTO t VALUES (1)".into(), None));
        assert_eq!(taken("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1").unwrap_err(), "42601");
    }

    #[test]
    fn keys_are_inferred() {
        let fields = ["a", "b", "c"].map(|name| Field::new(name, DataType::Int32, true));
        let table = MemTable::try_new(Arc::new(Schema::new(fields.to_vec())), vec![Vec::new()]).unwrap();
        let constraints = vec![Constraint::PrimaryKey(vec![0]), Constraint::Unique(vec![2, 1])];
        let table = table.with_constraints(Constraints::new_unverified(constraints));
        let found = |target: Target| keys_of(&table, "t", &target).map_err(|error| error.sqlstate.into_owned());
        let columns = |names: &[&str]| Target::Columns(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(found(Target::Any).unwrap(), [vec![0], vec![2, 1]]);
        assert_eq!(found(columns(&["b", "c"])).unwrap(), [vec![2, 1]]);
        assert_eq!(found(columns(&["a", "a"])).unwrap(), [vec![0]]);
        assert_eq!(found(columns(&["b"])).unwrap_err(), "42P10");
        assert_eq!(found(columns(&["d"])).unwrap_err(), "42703");
        assert_eq!(found(Target::Constraint("t_pkey".into())).unwrap(), [vec![0]]);
        assert_eq!(found(Target::Constraint("t_c_b_key".into())).unwrap(), [vec![2, 1]]);
        assert_eq!(found(Target::Constraint("x".into())).unwrap_err(), "42704");
    }
}
