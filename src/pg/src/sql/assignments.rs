//! Assignments: what INSERT and UPDATE put into a column becomes a value of the column's type, or is refused.
//!
//! The planner casts a value to its column's type wherever there is such a cast, and takes a parameter for a value of that
//! type whatever its own is. Postgres has fewer casts of this kind: a number fits any type of numbers, a value of any type
//! is written to a text, but a text is no number. So the values are [marked](mark) before the planner sees them, and get the
//! casts of Postgres once they are planned.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::{Cast, Placeholder, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, PlanType, Projection, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, ToStringifiedPlan, Values, Volatility, WriteOp,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::api::Type;
use neuroql::{DateStyle, Refusal, bpchar};

use crate::catalog::own_types;
use crate::decode::{self, date_order};
use crate::encode::column;
use crate::session::{returning, row_changes};
use crate::sql::assignment_casts::{NUMBERS, assigned, cast, check, is_assigned, kind, of_value};
use crate::sql::generated_values::{self, ColumnValues};
use crate::sql::parameters;
use crate::sql::range_values;
use crate::sql::rewrite::call;
use crate::sql::rewrite::parameter_casts::ParameterCasts;
use crate::sql::sequence_syntax::Overriding;
use crate::sql::text_types;
use crate::wire::error_response::{SqlError, external};

/// Name of the function that marks a value.
pub(super) const MARK: &str = "neuroql_assigned";

/// Marks the values of `INSERT … VALUES` and of UPDATE, among which the planner would hide its own casts; returns true for
/// such a statement. Plain constants are known without a mark.
pub(crate) fn mark(statement: &mut Statement) -> bool {
    match statement {
        Statement::Explain(explain) => mark(&mut explain.statement),
        Statement::Statement(inner) => match inner.as_mut() {
            ast::Statement::Insert(insert) => {
                let Some(source) = &mut insert.source else { return false };
                let ast::SetExpr::Values(values) = source.body.as_mut() else { return false };
                values.rows.iter_mut().flat_map(|row| row.content.iter_mut()).for_each(mark_value);
                true
            }
            ast::Statement::Update(update) => {
                update.assignments.iter_mut().map(|assignment| &mut assignment.value).for_each(mark_value);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn mark_value(value: &mut ast::Expr) {
    if !is_plain(value) {
        let inner = std::mem::replace(value, ast::Expr::value(ast::Value::Null));
        *value = call(MARK, vec![inner]);
    }
}

/// Marks the values of ON CONFLICT DO UPDATE; returns true if there are some.
pub(crate) fn mark_conflict(statement: &mut Statement) -> bool {
    let Statement::Statement(inner) = statement else { return false };
    let ast::Statement::Insert(ast::Insert { on: Some(ast::OnInsert::OnConflict(conflict)), .. }) = inner.as_mut()
    else {
        return false;
    };
    let ast::OnConflictAction::DoUpdate(update) = &mut conflict.action else { return false };
    update.assignments.iter_mut().map(|assignment| &mut assignment.value).for_each(mark_value);
    true
}

fn is_plain(value: &ast::Expr) -> bool {
    use ast::{UnaryOperator, Value, ValueWithSpan};
    match value {
        ast::Expr::Value(ValueWithSpan { value, .. }) => !matches!(value, Value::Placeholder(_)),
        ast::Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
            matches!(expr.as_ref(), ast::Expr::Value(ValueWithSpan { value: Value::Number(..), .. }))
        }
        _ => false,
    }
}

/// Registers the function that marks values, for the planning of one statement.
///
/// # Errors
/// If the state takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    state.register_udf(Arc::new(ScalarUDF::new_from_impl(Mark { signature: any(1) })))?;
    state.register_udf(Arc::new(generated_values::function()))?;
    Ok(())
}

fn any(count: usize) -> Signature {
    Signature::any(count, Volatility::Immutable)
}

/// The assignments of a statement.
pub(crate) struct Assignments<'a> {
    /// Types of parameters that the client gave.
    declared: &'a [Option<Type>],
    casts: &'a ParameterCasts,
    zone: &'a str,
    /// Time zone in which constants are read.
    zone_of_constants: &'a str,
    state: &'a SessionState,
    /// True if the values of the statement are marked.
    marked: bool,
    /// Types that parameters have from what they are compared with.
    compared: HashMap<usize, Type>,
    /// Types that parameters have from the columns they are assigned to.
    assigned: HashMap<usize, Type>,
    /// Fields of parameters that are assigned.
    fields: HashMap<String, FieldRef>,
    /// Defaults that columns take in the place of values.
    columns: ColumnValues,
}

impl<'a> Assignments<'a> {
    pub(crate) fn new(
        declared: &'a [Option<Type>],
        casts: &'a ParameterCasts,
        zone: &'a str,
        state: &'a SessionState,
        marked: bool,
    ) -> Self {
        let (compared, assigned, fields) = (HashMap::new(), HashMap::new(), HashMap::new());
        let columns = ColumnValues::default();
        let zone_of_constants = zone;
        Self { declared, casts, zone, zone_of_constants, state, marked, compared, assigned, fields, columns }
    }

    /// Says in which time zone constants are read.
    pub(crate) fn reading_in(mut self, zone: &'a str) -> Self {
        self.zone_of_constants = zone;
        self
    }

    /// Says which values the statement gives identity columns.
    pub(crate) fn overriding(mut self, overriding: Overriding) -> Self {
        self.columns.overriding = overriding;
        self
    }

    /// Gives the values that a plan assigns to columns the casts of Postgres, and parameters without a type that of the
    /// column that they are assigned to.
    ///
    /// # Errors
    /// 42804 if there is no cast in an assignment, 42P08 if a parameter is assigned to columns of several types, 0A000 for
    /// a cast that is not supported.
    pub(crate) fn settle(mut self, plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
        let is_change = matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        if !is_change && returning::parts(&plan).is_none() && !row_changes::is_upsert(&plan) {
            return Ok(plan);
        }
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    if let Expr::Placeholder(Placeholder { id, field: Some(field) }) = part
                        && let Ok(index) = parameters::number(id)
                        && let Some(kind) = kind(field).filter(|kind| *kind != Type::UNKNOWN)
                    {
                        self.compared.entry(index).or_insert(kind);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        let plan = self.statement(plan)?;
        if self.fields.is_empty() {
            return Ok(plan);
        }
        // A parameter is of one type wherever it stands.
        let typed = plan.transform_up_with_subqueries(|node| {
            let changed = node.map_expressions(|expr| {
                expr.transform_up(|part| {
                    Ok(match part {
                        Expr::Placeholder(Placeholder { id, .. }) if self.fields.contains_key(&id) => {
                            let field = self.fields.get(&id).cloned();
                            Transformed::yes(Expr::Placeholder(Placeholder { id, field }))
                        }
                        other => Transformed::no(other),
                    })
                })
            })?;
            if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
        })?;
        Ok(typed.data)
    }

    fn statement(&mut self, plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
        Ok(match plan {
            LogicalPlan::Explain(mut explain) => {
                let inner = self.statement(Arc::unwrap_or_clone(explain.plan))?;
                explain.stringified_plans = vec![inner.to_stringified(PlanType::InitialLogicalPlan)];
                explain.plan = Arc::new(inner);
                LogicalPlan::Explain(explain)
            }
            LogicalPlan::Analyze(mut analyze) => {
                analyze.input = Arc::new(self.statement(Arc::unwrap_or_clone(analyze.input))?);
                LogicalPlan::Analyze(analyze)
            }
            LogicalPlan::Dml(mut dml) => {
                self.columns.read(&dml.target);
                let (target, input) = (dml.target.schema(), Arc::unwrap_or_clone(dml.input));
                dml.input = Arc::new(match (&dml.op, input) {
                    (WriteOp::Insert(_), LogicalPlan::Projection(outputs)) => self.insert(&target, outputs)?,
                    (WriteOp::Update, LogicalPlan::Projection(outputs)) => self.update(&target, outputs)?,
                    (_, input) => input,
                });
                LogicalPlan::Dml(dml)
            }
            other if row_changes::is_upsert(&other) => row_changes::settled(other, |change| self.statement(change))?,
            other => returning::with_change(other, |change| self.statement(change))?,
        })
    }

    /// Settles an INSERT: a projection to the columns of its table, over rows.
    fn insert(&mut self, target: &SchemaRef, projection: Projection) -> Result<LogicalPlan, SqlError> {
        let Projection { expr: mut outputs, input: mut rows, .. } = projection;
        // Places of the columns in the rows; the others have their defaults.
        let places: Vec<_> = outputs.iter().map(|output| rows.schema().maybe_index_of_column(taken(output)?)).collect();
        if self.marked {
            let given = places.iter().zip(target.fields());
            let columns = given.filter_map(|(place, field)| Some(((*place)?, Arc::clone(field)))).collect();
            rows = Arc::new(self.values(Arc::unwrap_or_clone(rows), &columns)?);
        } else {
            let mut types = None;
            for ((output, place), field) in outputs.iter_mut().zip(places).zip(target.fields()) {
                let Some(place) = place else { continue };
                if let Some(default) = self.columns.inserted(field.name(), None)? {
                    *output = cast(default, field.data_type()).alias(field.name());
                    continue;
                }
                let value = match constant(&rows, place) {
                    // It has its own digits, or no type yet.
                    Some(constant) => self.value(constant.clone(), field, &DFSchema::empty(), None)?,
                    None => match self.column(&rows, place, field, &mut types)? {
                        Some(value) => value,
                        None => continue,
                    },
                };
                *output = value.alias(field.name());
            }
        }
        Ok(LogicalPlan::Projection(Projection::try_new(outputs, rows)?))
    }

    /// Settles the rows of `INSERT … VALUES`, by the columns that their values are assigned to.
    fn values(&mut self, rows: LogicalPlan, columns: &HashMap<usize, FieldRef>) -> Result<LogicalPlan> {
        let schema = DFSchema::empty();
        let settled = rows.transform_down(|node| {
            let LogicalPlan::Values(Values { schema: row, values }) = node else { return Ok(Transformed::no(node)) };
            let mut settle = |(place, cell): (usize, Expr)| {
                let cell = given(cell);
                let (Ok(found) | Err(found)) = &cell;
                let Some(field) = columns.get(&place) else { return Ok(found.clone()) };
                if let Some(default) = self.columns.inserted(field.name(), Some(found)).map_err(external)? {
                    return Ok(cast(default, field.data_type()));
                }
                match cell {
                    Ok(inner) => self.value(inner, field, &schema, None).map_err(external),
                    Err(cell @ Expr::Literal(..)) if text_types::is_read(field) => {
                        self.value(cell, field, &schema, None).map_err(external)
                    }
                    Err(cell) => Ok(cell),
                }
            };
            let values = values
                .into_iter()
                .map(|cells| cells.into_iter().enumerate().map(&mut settle).collect::<Result<Vec<_>>>())
                .collect::<Result<Vec<_>>>()?;
            let values = LogicalPlan::Values(Values { schema: row, values });
            Ok(Transformed::new(values, true, TreeNodeRecursion::Stop))
        })?;
        Ok(settled.data)
    }

    /// Returns the value of a column of rows, unless its cast is that of the planner. `types` are those of the rows after
    /// types are coerced, once they are needed.
    fn column(
        &self,
        rows: &Arc<LogicalPlan>,
        place: usize,
        field: &FieldRef,
        types: &mut Option<Vec<FieldRef>>,
    ) -> Result<Option<Expr>, SqlError> {
        let (Some(from), Some(to)) = (kind(rows.schema().field(place)), kind(field)) else { return Ok(None) };
        let from = match is_assigned(&from, &to) {
            true => from,
            false => {
                if types.is_none() {
                    *types = Some(self.coerced(LogicalPlan::clone(rows))?);
                }
                let coerced = types.as_ref().and_then(|types| kind(types.get(place)?)).unwrap_or(from);
                check(&coerced, &to, field)?;
                coerced
            }
        };
        let column = Expr::Column(Column::from(rows.schema().qualified_field(place)));
        if text_types::is_read(field) || bpchar::is_bpchar(field) {
            return Ok(Some(assigned(column, &from, field)?));
        }
        if rows.schema().field(place).data_type() == field.data_type() {
            // It may be another type once types are coerced.
            return Ok(Some(Expr::Cast(Cast::new(Box::new(column), field.data_type().clone()))));
        }
        Ok(Some(assigned(column, &from, field)?))
    }

    /// Settles an UPDATE: a projection of all columns, over the rows that are changed.
    fn update(&mut self, target: &SchemaRef, projection: Projection) -> Result<LogicalPlan, SqlError> {
        let Projection { expr: outputs, input: rows, .. } = projection;
        let mut settled = Vec::with_capacity(outputs.len());
        for output in outputs {
            settled.push(match output {
                Expr::Alias(mut alias) => {
                    let field = target.field_with_name(&alias.name).map_err(DataFusionError::from)?;
                    let field = Arc::new(field.clone());
                    let found = given(*alias.expr);
                    let value = match (self.columns.updated(field.name(), &found)?, found) {
                        (Some(default), _) => cast(default, field.data_type()),
                        (None, Ok(inner)) => self.value(inner, &field, rows.schema(), Some(&rows))?,
                        (None, Err(constant @ Expr::Literal(..))) if text_types::is_read(&field) => {
                            self.value(constant, &field, rows.schema(), Some(&rows))?
                        }
                        (None, Err(other)) => other,
                    };
                    alias.expr = Box::new(match (value, column::length_of(&field)) {
                        // A column that stays as it is.
                        (value @ Expr::Column(_), _) | (value, None) => value,
                        // INSERT has a rule of the analyzer for it.
                        (value, Some(length)) if bpchar::is_bpchar(&field) => bpchar::assigned(value, length),
                        (value, Some(length)) => apply(Fitted { length, signature: any(1) }, value),
                    });
                    Expr::Alias(alias)
                }
                other => other,
            });
        }
        Ok(LogicalPlan::Projection(Projection::try_new(settled, rows)?))
    }

    /// Returns a value as one of a column's type. `schema` has the columns that it reads, `rows` the rows of them.
    fn value(
        &mut self,
        value: Expr,
        field: &FieldRef,
        schema: &DFSchema,
        rows: Option<&Arc<LogicalPlan>>,
    ) -> Result<Expr, SqlError> {
        let to = field.data_type();
        match value {
            Expr::Literal(ScalarValue::Null, _) => Ok(Expr::Literal(ScalarValue::try_from(to)?, None)),
            Expr::Literal(literal, None) if text_types::is_read(field) && literal.try_as_str().is_some() => {
                self.text(literal, field)
            }
            Expr::Literal(literal, None) if literal.data_type() == *to => Ok(Expr::Literal(literal, None)),
            // A text without a type is one of the column's.
            Expr::Literal(literal, None) if literal.try_as_str().is_some() => self.text(literal, field),
            Expr::Placeholder(Placeholder { id, .. }) => self.parameter(id, field),
            value => {
                let from = of_value(&value, schema)?;
                let (Some(from), Some(wanted)) = (from, kind(field)) else { return Ok(cast(value, to)) };
                let from = match is_assigned(&from, &wanted) {
                    true => from,
                    // Its type may be another once types are coerced, as that of a CASE.
                    false => {
                        let rows = match rows {
                            Some(rows) => LogicalPlanBuilder::from(LogicalPlan::clone(rows)),
                            None => LogicalPlanBuilder::empty(true),
                        };
                        let alone = rows.project([value.clone().alias("value")])?.build()?;
                        let coerced = self.coerced(alone)?.first().and_then(kind).unwrap_or(from);
                        check(&coerced, &wanted, field)?;
                        coerced
                    }
                };
                assigned(value, &from, field)
            }
        }
    }

    /// Returns a text without a type as a value of a column's type. Instants are read later: a statement keeps the time zone
    /// of its constants.
    fn text(&self, literal: ScalarValue, field: &FieldRef) -> Result<Expr, SqlError> {
        let is_read = |kind: &Type| {
            use Type as T;
            let others = [T::BOOL, T::DATE, T::TIME, T::TIMESTAMP, T::INTERVAL, T::JSON, T::JSONB, T::UUID];
            let is_kept = text_types::is_own(kind) || range_values::is_range(kind) || own_types::is_of_labels(kind);
            NUMBERS.contains(kind) || others.contains(kind) || is_kept
        };
        if let (Some(Some(text)), Some(kind)) = (literal.try_as_str(), kind(field).filter(is_read)) {
            let text = date_order::ordered(&kind, text, DateStyle::of(self.state.config_options()).order)?;
            let value = decode::from_text(&kind, &text, self.zone_of_constants)?;
            return Ok(cast(Expr::Literal(value, None), field.data_type()));
        }
        Ok(cast(Expr::Literal(literal, None), field.data_type()))
    }

    /// Returns a parameter as a value of a column's type.
    fn parameter(&mut self, id: String, field: &FieldRef) -> Result<Expr, SqlError> {
        let index = parameters::number(&id)?;
        let wanted = kind(field);
        let declared = parameters::declared_type(index, self.declared, self.casts);
        let known = declared.or_else(|| self.compared.get(&index).cloned());
        let from = match (known, &wanted) {
            (Some(known), _) => known,
            (None, Some(wanted)) => {
                let first = self.assigned.entry(index).or_insert_with(|| wanted.clone());
                if *first != *wanted {
                    let message = format!("inconsistent types deduced for parameter ${index}");
                    let hint = format!("It is {} here and {} there.", decode::name(first), decode::name(wanted));
                    return Err(SqlError::error("42P08", message).with_hint(hint));
                }
                wanted.clone()
            }
            (None, None) => Type::UNKNOWN,
        };
        let Some(own) = decode::arrow_type(&from, self.zone).filter(|_| from != Type::UNKNOWN) else {
            // A type that has no values here is refused by its name later.
            let known = (from == Type::UNKNOWN).then(|| Arc::clone(field));
            return Ok(cast(Expr::Placeholder(Placeholder { id, field: known }), field.data_type()));
        };
        if let Some(wanted) = &wanted {
            check(&from, wanted, field)?;
        }
        let own = Arc::new(Field::new("", own, true).with_metadata(column::mark(&from)));
        self.fields.entry(id.clone()).or_insert_with(|| Arc::clone(&own));
        assigned(Expr::Placeholder(Placeholder { id, field: Some(own) }), &from, field)
    }

    /// Returns the columns of a plan after types are coerced.
    fn coerced(&self, plan: LogicalPlan) -> Result<Vec<FieldRef>, SqlError> {
        let plan = self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {})?;
        Ok(plan.schema().fields().iter().cloned().collect())
    }
}

/// Returns the error of a statement which the planner does not plan, since no value of the one type is of the other.
pub(crate) fn unassignable(message: &str) -> Option<SqlError> {
    let (from, to) = message.split_once("Cannot automatically convert ")?.1.split_once(" to ")?;
    let name = |text: &str| {
        let kind = text.parse::<DataType>().ok().and_then(|kind| column::pg_type(&kind));
        kind.map_or_else(|| text.to_owned(), |kind| decode::name(&kind))
    };
    let message = format!("a value of type {} cannot be assigned to type {}", name(from), name(to));
    Some(SqlError::error("42804", message).with_hint("You will need to rewrite or cast the expression."))
}

fn apply(function: impl ScalarUDFImpl + 'static, value: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), vec![value]))
}

/// Returns the column of its rows that an INSERT puts into a column of its table.
fn taken(output: &Expr) -> Option<&Column> {
    match output {
        Expr::Alias(alias) => taken(&alias.expr),
        Expr::Cast(cast) => taken(&cast.expr),
        // The blanks of a `character(n)` go before a cast.
        Expr::ScalarFunction(call) if bpchar::task_of(call).is_some() => call.args.first().and_then(taken),
        Expr::Column(column) => Some(column),
        _ => None,
    }
}

/// Returns the constant or parameter that a column of rows has in each row. In a DISTINCT, a set operation and a subquery it
/// has a type by itself.
fn constant(rows: &LogicalPlan, place: usize) -> Option<&Expr> {
    match rows {
        LogicalPlan::Projection(projection) => match plain(projection.expr.get(place)?) {
            Expr::Column(column) => {
                let place = projection.input.schema().maybe_index_of_column(column)?;
                constant(&projection.input, place)
            }
            value => is_constant(value).then_some(value),
        },
        LogicalPlan::Limit(limit) => constant(&limit.input, place),
        LogicalPlan::Sort(sort) => constant(&sort.input, place),
        _ => None,
    }
}

fn plain(value: &Expr) -> &Expr {
    match value {
        Expr::Alias(alias) => plain(&alias.expr),
        other => other,
    }
}

/// Returns true for a literal, a parameter, and a calculation with numbers.
fn is_constant(value: &Expr) -> bool {
    match value {
        Expr::Literal(..) | Expr::Placeholder(_) => true,
        Expr::Negative(inner) => is_number(inner),
        Expr::BinaryExpr(both) => is_number(&both.left) && is_number(&both.right),
        _ => false,
    }
}

fn is_number(value: &Expr) -> bool {
    match value {
        Expr::Literal(literal, None) => literal.data_type().is_numeric(),
        Expr::Placeholder(_) => false,
        other => is_constant(other),
    }
}

/// Takes the cast of the planner off a value, and the mark; a value that has none is of its column's type. Rules that change
/// the value keep the name it had.
fn given(value: Expr) -> Result<Expr, Expr> {
    let cast = match value.unalias() {
        Expr::Cast(cast) => cast,
        other => return Err(other),
    };
    match *cast.expr {
        Expr::ScalarFunction(mut function) if function.func.inner().downcast_ref::<Mark>().is_some() => {
            function.args.pop().ok_or(Expr::ScalarFunction(function))
        }
        other => Ok(other),
    }
}

/// The function that marks a value. It has no type, so that the planner casts it to that of any column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        MARK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Null)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{MARK} cannot be called")
    }
}

/// A text of a column `varchar(n)`; one that is longer is an error, unless only blanks are cut.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fitted {
    length: usize,
    signature: Signature,
}

impl ScalarUDFImpl for Fitted {
    fn name(&self) -> &str {
        "varchar"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let fitted = |text: &str| {
            let end = text.char_indices().nth(self.length).map_or(text.len(), |(end, _)| end);
            if text[end..].chars().all(|letter| letter == ' ') {
                return Ok(text[..end].to_owned());
            }
            Err(Refusal::error("22001", format!("value too long for type character varying({})", self.length)))
        };
        let texts = compute::cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter().map(|text| text.map(fitted).transpose());
        Ok(ColumnarValue::Array(Arc::new(texts.collect::<Result<StringArray>>()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_planner_name_types() {
        let error = unassignable("Error during planning: Cannot automatically convert List(Int32) to Decimal128(8, 4)");
        assert_eq!(error.unwrap().message, "a value of type integer[] cannot be assigned to type numeric");
        assert!(unassignable("table 'a' not found").is_none());
    }
}
