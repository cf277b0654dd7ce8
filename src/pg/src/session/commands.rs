//! Statements about the session rather than about data: transactions, prepared statements, cursors; SET and SHOW
//! are in `set_show`.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::ArrayRef;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{
    CloseCursor, DataType, DollarQuotedString, Expr, FetchDirection, Ident, ObjectType, Set, Statement,
    TransactionAccessMode, TransactionMode, UnaryOperator, Value, ValueWithSpan,
};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql::bpchar;

use crate::decode::date_order;
use crate::encode::column::Columns;
use crate::session::alter_table;
use crate::session::grants;
use crate::session::objects;
use crate::session::result_stream::{ResultRows, executed};
use crate::session::scroll::{Movement, ScrollRows};
use crate::session::sequences;
use crate::session::set_show;
use crate::session::statement::PlanVersion;
use crate::session::two_phase;
use crate::session::user_types;
use crate::session::{CommandTag, Outcome, Portal, PreparedStatement, Session};
use crate::sql::column_names::fold;
use crate::sql::execute_values;
use crate::sql::mark_checks;
use crate::sql::marks;
use crate::sql::own_types;
use crate::sql::parameters::{self, Parameter};
use crate::sql::parse::ParsedStatement;
use crate::sql::rewrite::catalog_queries;
use crate::sql::rewrite::parameter_casts;
use crate::sql::utility::Utility;
use crate::wire::activity::now;
use crate::wire::error_response::{Failure, SqlError, warning};

/// Returns true if this module runs the statement.
pub(crate) fn is_about_session(statement: &Statement) -> bool {
    use Statement::*;
    if objects::runs(statement) {
        return true;
    }
    matches!(
        statement,
        Set(_)
            | ShowVariable { .. }
            | Reset(_)
            | StartTransaction { .. }
            | Commit { .. }
            | Rollback { .. }
            | Savepoint { .. }
            | ReleaseSavepoint { .. }
            | Discard { .. }
            | Prepare { .. }
            | Execute { .. }
            | Deallocate { .. }
            | Declare { .. }
            | Fetch { .. }
            | Close { .. }
            | LISTEN { .. }
            | UNLISTEN { .. }
            | NOTIFY { .. }
            | Grant(_)
            | Revoke(_)
            | CreateSequence { .. }
            | Drop { object_type: ObjectType::Sequence | ObjectType::Type, .. }
            | CreateType { .. }
            | AlterType(_)
            | AlterTable(_)
    )
}

/// Returns true if the statement is allowed in a failed transaction.
pub(crate) fn ends_transaction(statement: &Statement) -> bool {
    matches!(statement, Statement::Commit { .. } | Statement::Rollback { .. })
}

/// Checks a statement as far as that is possible without running it, and finds the columns of its result.
pub(crate) async fn prepare(
    session: &Session,
    parsed: ParsedStatement,
    declared: &[Option<Type>],
    version: PlanVersion,
) -> Result<PreparedStatement, SqlError> {
    let DFStatement::Statement(statement) = &parsed.statement else {
        return Err(SqlError::error("XX000", "internal error: not a statement of the session"));
    };
    let columns = match statement.as_ref() {
        statement if objects::runs(statement) => {
            objects::check_prepared(session, statement).await?;
            None
        }
        Statement::Declare { stmts } => {
            let query = match stmts.as_slice() {
                [one] if one.names.len() == 1 => one.for_query.clone(),
                _ => None,
            };
            let Some(query) = query else {
                return Err(SqlError::error("42601", "syntax error: expected DECLARE name CURSOR FOR query"));
            };
            let query = DFStatement::Statement(Box::new(Statement::Query(query)));
            let mut prepared = session.prepare_statement(query, parsed, declared, version).await?;
            // FETCH has the rows.
            prepared.columns = None;
            return Ok(prepared);
        }
        Statement::ShowVariable { variable } => Some(Arc::new(set_show::columns(session, variable)?)),
        Statement::Fetch { .. } if parsed.moves => None,
        Statement::Fetch { name, .. } => {
            let portal = cursor(session, name)?;
            portal.prepared.plan.as_ref().map(|plan| columns_of(plan, &portal.prepared))
        }
        Statement::Execute { name: Some(name), .. } => prepared_named(session, &name.to_string())?.columns.clone(),
        _ => None,
    };
    session.prepare_without_plan(parsed, columns, version)
}

/// Runs a statement of this module.
pub(crate) async fn run(
    session: &mut Session,
    statement: &Statement,
    prepared: &Arc<PreparedStatement>,
    values: &[ScalarValue],
) -> Result<Outcome, Failure> {
    if let Some(two_phase) = &prepared.parsed.two_phase {
        return Ok(two_phase::run(session, two_phase)?);
    }
    match statement {
        _ if objects::runs(statement) => objects::run(session, statement, prepared).await,
        Statement::Set(set) => {
            let outcome = set_show::set(session, set).await?;
            if let Set::SetTransaction { session: of_session, .. } = set {
                set_deferrable(session, prepared, *of_session)?;
            }
            Ok(outcome)
        }
        Statement::ShowVariable { variable } => Ok(set_show::show(session, variable)?),
        Statement::Reset(reset) => set_show::reset(session, &reset.reset).await,
        Statement::StartTransaction { modes, begin, .. } => {
            start_transaction(session, modes);
            set_deferrable(session, prepared, false)?;
            Ok(Outcome::done(if *begin { "BEGIN" } else { "START TRANSACTION" }))
        }
        Statement::Commit { chain, .. } => Ok(end_transaction(session, true, *chain)),
        Statement::Rollback { chain, savepoint: None } => Ok(end_transaction(session, false, *chain)),
        Statement::Rollback { savepoint: Some(name), .. } => {
            refuse_outside_of_block(session)?;
            let name = fold(name);
            if !session.transaction.roll_back_to(&name) {
                return Err(no_such_savepoint(&name).into());
            }
            session.base.catalog_changed();
            session.status = TransactionStatus::Transaction;
            Ok(Outcome::done("ROLLBACK"))
        }
        Statement::Savepoint { name } => {
            if session.status == TransactionStatus::Idle {
                return Err(SqlError::error("25P01", "SAVEPOINT can only be used in transaction blocks").into());
            }
            session.transaction.set_savepoint(fold(name));
            Ok(Outcome::done("SAVEPOINT"))
        }
        Statement::ReleaseSavepoint { name } => {
            refuse_outside_of_block(session)?;
            let name = fold(name);
            if !session.transaction.release_savepoint(&name) {
                return Err(no_such_savepoint(&name).into());
            }
            Ok(Outcome::done("RELEASE"))
        }
        Statement::Discard { object_type } => set_show::discard(session, object_type).await,
        Statement::Prepare { name, data_types, statement } => {
            let name = fold(name);
            if session.prepared.contains_key(&name) {
                return Err(SqlError::error("42P05", format!("prepared statement \"{name}\" already exists")).into());
            }
            let mut target = plan_prepare(session, prepared, statement, data_types).await?;
            target.from_sql = true;
            session.prepared.insert(name, Arc::new(target));
            Ok(Outcome::done("PREPARE"))
        }
        Statement::Execute { name: Some(name), parameters, .. } => {
            let target = prepared_named(session, &name.to_string())?;
            let values = arguments(session, parameters, &target).await?;
            // One statement of a session runs another one.
            Box::pin(session.run(&target, &values)).await
        }
        Statement::Deallocate { name, .. } => {
            if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") {
                session.prepared.clear();
                return Ok(Outcome::done("DEALLOCATE ALL"));
            }
            let name = fold(name);
            match session.prepared.remove(&name) {
                Some(_) => Ok(Outcome::done("DEALLOCATE")),
                None => Err(no_such_statement(&name).into()),
            }
        }
        Statement::Declare { stmts } => {
            let Some(declared) = stmts.first() else {
                return Err(SqlError::error("42601", "syntax error: DECLARE declares nothing").into());
            };
            let name = declared.names.first().map(fold).unwrap_or_default();
            let (held, scrolls) = (declared.hold == Some(true), declared.scroll == Some(true));
            declare(session, name, held, scrolls, prepared, values)
        }
        Statement::Fetch { name, direction, .. } => {
            let mut rows = fetch(session, name, direction).await?;
            if !prepared.parsed.moves {
                return Ok(Outcome::Rows(rows, CommandTag::FETCH));
            }
            let mut count = 0;
            while let Some(batch) = rows.next(usize::MAX).await? {
                count += batch.num_rows();
            }
            Ok(Outcome::Done(format!("MOVE {count}")))
        }
        Statement::Close { cursor: CloseCursor::All } => {
            session.portals.clear();
            Ok(Outcome::done("CLOSE CURSOR ALL"))
        }
        Statement::Close { cursor: CloseCursor::Specific { name } } => {
            cursor(session, name)?;
            session.portals.remove(&fold(name));
            Ok(Outcome::done("CLOSE CURSOR"))
        }
        Statement::Grant(grant) => grants::grant(session, grant).await,
        Statement::Revoke(revoke) => grants::revoke(session, revoke).await,
        Statement::LISTEN { channel } => {
            session.transaction.notifications.listen(&fold(channel))?;
            Ok(Outcome::done("LISTEN"))
        }
        Statement::UNLISTEN { channel } => {
            match channel.quote_style {
                None if channel.value == "*" => session.transaction.notifications.unlisten_all()?,
                _ => session.transaction.notifications.unlisten(&fold(channel))?,
            }
            Ok(Outcome::done("UNLISTEN"))
        }
        Statement::NOTIFY { channel, payload } => {
            session.transaction.notifications.notify(&fold(channel), payload.as_deref().unwrap_or_default())?;
            Ok(Outcome::done("NOTIFY"))
        }
        Statement::CreateSequence { .. } => sequences::create(session, statement).await,
        Statement::CreateType { .. }
        | Statement::AlterType(_)
        | Statement::Drop { object_type: ObjectType::Type, .. } => user_types::run(session, statement).await,
        Statement::Drop { .. } => sequences::drop(session, statement).await,
        Statement::AlterTable(alter) => {
            alter_table::alter(session, alter, prepared.parsed.constraints.as_deref()).await
        }
        other => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default();
            Err(SqlError::not_supported(format!("{verb} is not supported")).into())
        }
    }
}

// Transactions; see `transaction` for what ROLLBACK undoes.

fn start_transaction(session: &mut Session, modes: &[TransactionMode]) {
    if session.status == TransactionStatus::Idle {
        session.status = TransactionStatus::Transaction;
        session.began = Some(Instant::now());
        session.wrote = false;
        session.settings().begin();
    } else {
        session.notices.push(warning("25001", "there is already a transaction in progress"));
    }
    for (name, value) in transaction_modes(modes) {
        session.settings().transaction_mode(name, value);
    }
}

/// Sets whether the transaction, or those of the session, are deferrable, which changes nothing else.
fn set_deferrable(session: &Session, prepared: &PreparedStatement, of_session: bool) -> Result<(), SqlError> {
    let Some(Utility::Deferrable(deferrable)) = prepared.parsed.utility else { return Ok(()) };
    let value = if deferrable { "on" } else { "off" };
    match of_session {
        true => session.settings().set("default_transaction_deferrable", Some(value), false)?,
        false => session.settings().transaction_mode("transaction_deferrable", value),
    }
    Ok(())
}

/// Returns settings of a transaction, and their values.
pub(crate) fn transaction_modes(
    modes: &[TransactionMode],
) -> impl Iterator<Item = (&'static str, &'static str)> + use<'_> {
    use datafusion::sql::sqlparser::ast::TransactionIsolationLevel as Level;
    modes.iter().map(|mode| match mode {
        TransactionMode::AccessMode(TransactionAccessMode::ReadOnly) => ("transaction_read_only", "on"),
        TransactionMode::AccessMode(TransactionAccessMode::ReadWrite) => ("transaction_read_only", "off"),
        TransactionMode::IsolationLevel(level) => (
            "transaction_isolation",
            match level {
                Level::ReadUncommitted => "read uncommitted",
                Level::RepeatableRead => "repeatable read",
                Level::Serializable => "serializable",
                _ => "read committed",
            },
        ),
    })
}

pub(super) fn end_transaction(session: &mut Session, commit: bool, chain: bool) -> Outcome {
    let status = session.status;
    if status == TransactionStatus::Idle {
        session.notices.push(warning("25P01", "there is no transaction in progress"));
    }
    // A failed transaction cannot be committed.
    let commit = commit && status != TransactionStatus::Error;
    if commit {
        session.settings().commit();
        session.commit();
    } else {
        session.settings().roll_back();
        if session.transaction.roll_back() {
            session.base.catalog_changed();
        }
        if status != TransactionStatus::Idle && session.wrote {
            session.notices.push(warning("0A000", "changes made in this transaction are not undone"));
        }
    }
    session.status = TransactionStatus::Idle;
    session.began = None;
    session.wrote = false;
    session.close_portals();
    if chain && status != TransactionStatus::Idle {
        start_transaction(session, &[]);
    }
    Outcome::done(if commit { "COMMIT" } else { "ROLLBACK" })
}

fn refuse_outside_of_block(session: &Session) -> Result<(), SqlError> {
    match session.status {
        TransactionStatus::Idle => Err(SqlError::error("25P01", "savepoints can only be used in transaction blocks")),
        _ => Ok(()),
    }
}

fn no_such_savepoint(name: &str) -> SqlError {
    SqlError::error("3B001", format!("savepoint \"{name}\" does not exist"))
}

// Prepared statements. SQL and the protocol share their names, as in Postgres.

/// Plans the statement inside a PREPARE, with the types that it declares.
async fn plan_prepare(
    session: &Session,
    prepared: &PreparedStatement,
    statement: &Statement,
    data_types: &[DataType],
) -> Result<PreparedStatement, SqlError> {
    if is_about_session(statement) {
        return Err(SqlError::error("42601", "only queries and data changes can be prepared"));
    }
    let data_types = own_types::resolve_types(data_types, &session.context).await?;
    let declared = data_types.iter().map(|data_type| match parameter_casts::declared(data_type) {
        Some(known) => Ok(Some(known)),
        None => Err(SqlError::not_supported(format!("parameters of type {data_type} are not supported"))),
    });
    let declared = declared.collect::<Result<Vec<_>, _>>()?;
    let inner = DFStatement::Statement(Box::new(statement.clone()));
    let parsed = ParsedStatement { statement: inner.clone(), ..prepared.parsed.clone() };
    session.prepare_statement(inner, parsed, &declared, session.version()).await
}

fn prepared_named(session: &Session, name: &str) -> Result<Arc<PreparedStatement>, SqlError> {
    let name = set_show::unquoted(name);
    session.prepared.get(&name).cloned().ok_or_else(|| no_such_statement(&name))
}

pub(crate) fn no_such_statement(name: &str) -> SqlError {
    SqlError::error("26000", format!("prepared statement \"{name}\" does not exist"))
}

/// Computes the values of the expressions in `EXECUTE p(…)`.
async fn arguments(
    session: &Session,
    given: &[Expr],
    target: &PreparedStatement,
) -> Result<Vec<ScalarValue>, SqlError> {
    let wanted = target.parameters.len();
    if given.len() != wanted {
        return Err(SqlError::error(
            "42601",
            format!("wrong number of parameters for prepared statement: {} given, {wanted} expected", given.len()),
        ));
    }
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let (zone, order) = (session.zone(), session.settings().date_style().order);
    let mut values = Vec::with_capacity(wanted);
    // Literals have the type of their parameter, other expressions have their own.
    let mut computed = Vec::new();
    for (expr, parameter) in given.iter().zip(&target.parameters) {
        values.push(match expr {
            Expr::Value(ValueWithSpan { value: Value::Null, .. }) => {
                Some(execute_values::of_literal(None, parameter, &zone)?)
            }
            Expr::Value(ValueWithSpan {
                value:
                    Value::SingleQuotedString(text)
                    | Value::EscapedStringLiteral(text)
                    | Value::UnicodeStringLiteral(text)
                    | Value::DollarQuotedString(DollarQuotedString { value: text, .. }),
                ..
            }) => {
                let text = date_order::ordered(parameter.read_as(), text, order)?;
                Some(execute_values::of_literal(Some(&text), parameter, &zone)?)
            }
            _ => match number(expr).and_then(|text| execute_values::of_number(&text, parameter, &zone)) {
                Some(value) => Some(value?),
                None => {
                    computed.push((expr.clone(), parameter));
                    None
                }
            },
        });
    }
    let mut computed = compute(session, computed, &zone).await?.into_iter();
    let missing = || SqlError::error("XX000", "internal error: no value");
    values.into_iter().map(|value| value.or_else(|| computed.next()).ok_or_else(missing)).collect()
}

/// Returns a number as it is written, with its sign.
fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(text, false), .. }) => Some(text.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Some(format!("-{}", number(expr)?)),
        _ => None,
    }
}

/// Computes the values of expressions, each cast to the type of its parameter.
async fn compute(session: &Session, given: Vec<(Expr, &Parameter)>, zone: &str) -> Result<Vec<ScalarValue>, SqlError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let (expressions, parameters): (Vec<_>, Vec<&Parameter>) = given.into_iter().unzip();
    let query = Statement::Query(Box::new(catalog_queries::select(expressions)));
    let plan = session.plan(ParsedStatement::new(DFStatement::Statement(Box::new(query)))?.statement).await?;
    if marks::has_marks(&plan)? {
        mark_checks::check(&plan)?;
    }
    let casts: Vec<_> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(plan.schema().fields())
        .zip(&parameters)
        .map(|((column, field), parameter)| {
            let column = datafusion::logical_expr::Expr::Column(column);
            let column = match bpchar::is_bpchar(field) && *parameter.read_as() != Type::BPCHAR {
                true => bpchar::without_blanks(column),
                false => column,
            };
            match execute_values::target(parameter, field.data_type(), zone) {
                Some(wanted) => datafusion::logical_expr::cast(column, wanted),
                None => column,
            }
        })
        .enumerate()
        .map(|(index, expr)| expr.alias(format!("value {index}")))
        .collect();
    let plan = session.transaction.visible(LogicalPlanBuilder::from(plan).project(casts)?.build()?)?;
    let batches = executed(&session.context, plan).await?;
    let batch = batches.first().ok_or_else(|| SqlError::error("XX000", "internal error: no values"))?;
    let order = session.settings().date_style().order;
    let value = |(column, parameter): (&ArrayRef, &&Parameter)| {
        let value = ScalarValue::try_from_array(column, 0)?;
        let value = match value.try_as_str().flatten() {
            Some(text) => date_order::ordered(parameter.read_as(), text, order)?.into_owned().into(),
            None => value,
        };
        execute_values::of_computed(value, parameter, zone)
    };
    batch.columns().iter().zip(&parameters).map(value).collect()
}

// Cursors are portals with a name in SQL.

fn declare(
    session: &mut Session,
    name: String,
    held: bool,
    scrolls: bool,
    prepared: &Arc<PreparedStatement>,
    values: &[ScalarValue],
) -> Result<Outcome, Failure> {
    if session.status == TransactionStatus::Idle && !held {
        return Err(SqlError::error("25P01", "DECLARE CURSOR can only be used in transaction blocks").into());
    }
    if session.portals.contains_key(&name) {
        return Err(SqlError::error("42P03", format!("cursor \"{name}\" already exists")).into());
    }
    let Some(plan) = &prepared.plan else {
        return Err(SqlError::error("XX000", "internal error: a cursor without a plan").into());
    };
    let bound = parameters::bind(plan.clone(), &prepared.parameters, values)?;
    let schema = Arc::clone(bound.schema().inner());
    let rows = ResultRows::start(&session.context, session.transaction.visible(bound)?);
    let pool = &session.context.runtime_env().memory_pool;
    let scroll = scrolls.then(|| ScrollRows::new(rows.clone(), schema, pool));
    let portal = Portal {
        prepared: Arc::clone(prepared),
        values: Vec::new(),
        format: Format::UnifiedText,
        running: Some((rows, CommandTag::FETCH)),
        scroll,
        held,
        made: now(),
        failed: false,
        zone: prepared.zone.clone(),
        _memory: Some(session.reserve("a cursor", PORTAL)?),
    };
    session.portals.insert(name, portal);
    Ok(Outcome::done("DECLARE CURSOR"))
}

/// Returns the rows that a cursor moves over.
async fn fetch(session: &mut Session, name: &Ident, direction: &FetchDirection) -> Result<ResultRows, Failure> {
    let movement = Movement::of(direction)?;
    let cursor = fold(name);
    let portal = session.portals.get(&cursor).ok_or_else(|| no_such_cursor(&cursor))?;
    portal.check(&cursor)?;
    let prepared = Arc::clone(&portal.prepared);
    session.check_zone(&prepared, &prepared.zone).await?;
    let portal = session.portals.get_mut(&cursor).ok_or_else(|| no_such_cursor(&cursor))?;
    if let Some(rows) = &mut portal.scroll {
        return Ok(ResultRows::of(rows.fetch(movement).await?));
    }
    let Movement::Forward(count @ 1..) = movement else {
        let hint = "Declare it with SCROLL option to enable backward scan.";
        return Err(SqlError::error("55000", "cursor can only scan forward").with_hint(hint).into());
    };
    if let Some((rows, _)) = &portal.running {
        return Ok(rows.first(count));
    }
    // A portal of the protocol, none of whose rows has been taken yet.
    let no_cursor = || SqlError::error("55000", format!("\"{}\" is not a cursor", name.value));
    if portal.prepared.described().is_none() {
        return Err(no_cursor().into());
    }
    let (prepared, values) = (Arc::clone(&portal.prepared), portal.values.clone());
    let Outcome::Rows(rows, tag) = Box::pin(session.run(&prepared, &values)).await? else {
        return Err(no_cursor().into());
    };
    let taken = rows.first(count);
    if let Some(portal) = session.portals.get_mut(&cursor) {
        portal.running = Some((rows, tag));
    }
    Ok(taken)
}

/// Returns the columns of a cursor's rows: its statement itself has none.
pub(crate) fn columns_of(plan: &LogicalPlan, prepared: &PreparedStatement) -> Arc<Columns> {
    Arc::new(Columns::new(plan.schema().as_arrow(), &prepared.parsed.names).with_modifiers(plan))
}

fn cursor<'a>(session: &'a Session, name: &Ident) -> Result<&'a Portal, SqlError> {
    let name = fold(name);
    session.portals.get(&name).ok_or_else(|| no_such_cursor(&name))
}

fn no_such_cursor(name: &str) -> SqlError {
    SqlError::error("34000", format!("cursor \"{name}\" does not exist"))
}

/// Bytes of a portal or cursor without its values, about.
pub(crate) const PORTAL: usize = 1 << 10;
