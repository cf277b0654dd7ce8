//! Checks that values of types that are kept as text do not lose their types, and that their texts answer as the values do.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Distinct, DmlStatement, Expr, ExprSchemable, LogicalPlan, Operator, Union, Values, WriteOp,
};
use datafusion_postgres::pgwire::api::Type;
use neuroql::{ARRAY_OF_ROWS, bpchar};
use postgres_types::Kind;

use crate::catalog::own_types;
use crate::encode::modifiers;
use crate::session::{returning, row_changes};
use crate::sql::assignments;
use crate::sql::bpchar_values;
use crate::sql::enum_functions;
use crate::sql::json_values;
use crate::sql::marks::{has_equality, is_array, is_comparison, is_ordered, kind_of, lost, of_field};
use crate::sql::network;
use crate::sql::own_values;
use crate::sql::range_values;
use crate::sql::rewrite::parameter_casts;
use crate::wire::error_response::{SqlError, external};

/// Refuses values where their type would be lost, or their text answers otherwise.
///
/// # Errors
/// 0A000 if there are such values.
pub(crate) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    let own_rows = inserted_rows(plan);
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        check_node(node, &schema, own_rows).map_err(external)?;
        node.apply_expressions(|expr| {
            expr.apply(|part| match check_part(part, &schema) {
                Ok(()) => Ok(TreeNodeRecursion::Continue),
                Err(error) => Err(external(error)),
            })
        })
    })?;
    Ok(())
}

/// Returns the rows of `INSERT … VALUES`, which have the types of the table's columns.
fn inserted_rows(plan: &LogicalPlan) -> Option<&Values> {
    match plan {
        LogicalPlan::Explain(explain) => inserted_rows(&explain.plan),
        LogicalPlan::Analyze(analyze) => inserted_rows(&analyze.input),
        LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), input, .. }) => match input.as_ref() {
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Values(values) => Some(values),
                _ => None,
            },
            _ => None,
        },
        other => match row_changes::inserted(other) {
            Some(insert) => inserted_rows(insert),
            None => inserted_rows(returning::parts(other)?.0),
        },
    }
}

/// Checks the values that a node takes and returns.
fn check_node(node: &LogicalPlan, schema: &DFSchema, own_rows: Option<&Values>) -> Result<(), SqlError> {
    let kind = |expr: &Expr| kind_of(expr, schema);
    match node {
        LogicalPlan::Projection(projection) => {
            let mut outputs = projection.expr.iter().zip(projection.schema.fields());
            outputs.try_for_each(|(expr, field)| kept(kind(expr), field, "an output"))
        }
        LogicalPlan::Values(values) => {
            let is_own = own_rows.is_some_and(|own| std::ptr::eq(own, values));
            let cells = values.values.iter().flat_map(|row| row.iter().zip(values.schema.fields()));
            for (cell, field) in cells {
                // A column of texts takes the text of any value.
                if !(is_own && field.data_type().is_string()) {
                    kept(kind(cell), field, "VALUES")?;
                }
            }
            Ok(())
        }
        LogicalPlan::Union(union) => check_union(union),
        LogicalPlan::RecursiveQuery(query) => {
            let (one, other) = (query.static_term.schema().fields(), query.recursive_term.schema().fields());
            for (one, other) in one.iter().zip(other) {
                kept(of_field(one), other, "a recursive query")?;
                kept(of_field(other), one, "a recursive query")?;
                if query.is_distinct {
                    grouped(of_field(one))?;
                }
            }
            Ok(())
        }
        LogicalPlan::Join(join) => join.on.iter().try_for_each(|(left, right)| {
            if bpchar_values::have_one_length((left, join.left.schema()), (right, join.right.schema())) {
                return Ok(());
            }
            let (of_left, of_right) = (join.left.schema().as_ref(), join.right.schema().as_ref());
            if let Some(error) = own_values::no_operator((left, of_left), "=", (right, of_right)) {
                return Err(error);
            }
            let kinds = (kind_of(left, of_left), kind_of(right, of_right));
            alike(kinds.0, kinds.1, false)
        }),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let modifiers = modifiers::of_plan(input);
            input.schema().fields().iter().zip(modifiers).try_for_each(|(field, modifier)| match of_field(field) {
                // Those of one length are equal if their texts are.
                Some(Type::BPCHAR) if modifier != modifiers::NONE => Ok(()),
                kind => grouped(kind),
            })
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            distinct.on_expr.iter().try_for_each(|key| grouped(kind(key)))?;
            distinct.sort_expr.iter().flatten().try_for_each(|key| sorted(kind(&key.expr)))
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.iter().try_for_each(|key| match kind(key) {
            Some(Type::BPCHAR) if bpchar_values::has_length(key, &aggregate.input) => Ok(()),
            // The planner adds the columns of a table to its primary key.
            Some(_) if is_determined(key, aggregate) => Ok(()),
            kind => grouped(kind),
        }),
        LogicalPlan::Sort(sort) => sort.expr.iter().try_for_each(|key| match kind(&key.expr) {
            Some(kind @ Type::JSON) => Err(json_values::no_order("ordering", &kind)),
            kind => sorted(kind),
        }),
        // A column of texts takes the text of any value; other columns have casts.
        LogicalPlan::Dml(dml) => {
            let mut found = dml.input.schema().fields().iter().filter_map(|field| of_field(field));
            let has_columns = |kind: &Type| range_values::is_range(kind) || own_types::is_of_labels(kind);
            let is_refused = |kind: &Type| is_array(kind) && !has_columns(kind);
            found.find(is_refused).map_or(Ok(()), |found| Err(lost(&found, "columns of tables")))
        }
        LogicalPlan::Ddl(ddl) => json_values::check_ddl(ddl),
        LogicalPlan::Copy(_) => {
            let mut fields = node.inputs().into_iter().flat_map(|input| input.schema().fields().iter());
            match fields.find_map(|field| of_field(field)) {
                Some(found) => Err(lost(&found, "columns of files")),
                None => Ok(()),
            }
        }
        other => {
            let mut found = None;
            // The closure returns no error.
            let _ = other.apply_expressions(|expr| {
                found = found.take().or_else(|| kind(expr));
                Ok(TreeNodeRecursion::Continue)
            });
            match found {
                Some(found) => Err(lost(&found, "conditions, limits and tables of functions")),
                None => Ok(()),
            }
        }
    }
}

/// Checks that a column of a set operation has one type.
fn check_union(union: &Union) -> Result<(), SqlError> {
    for (index, field) in union.schema.fields().iter().enumerate() {
        let columns = || union.inputs.iter().filter_map(move |input| input.schema().fields().get(index));
        let Some(found) = columns().find_map(|column| of_field(column)) else { continue };
        // NULL is a value of any type.
        let is_alike = |column: &FieldRef| column.data_type().is_null() || of_field(column).as_ref() == Some(&found);
        if !columns().all(is_alike) {
            return Err(lost(&found, "a UNION with another type"));
        }
        kept(Some(found), field, "a UNION")?;
    }
    Ok(())
}

/// Checks the values that an expression takes.
fn check_part(part: &Expr, schema: &DFSchema) -> Result<(), SqlError> {
    let kind = |expr: &Expr| kind_of(expr, schema);
    match part {
        Expr::Alias(_) => Ok(()),
        // A composite value is NULL if its fields are.
        Expr::IsNull(value) | Expr::IsNotNull(value) => match kind(value) {
            Some(found) if own_types::is_composite(&found) => Err(lost(&found, "IS NULL")),
            _ => Ok(()),
        },
        Expr::Cast(cast) => match kind(&cast.expr) {
            Some(found) if of_field(&cast.field).is_some() || !is_text_of(&found, cast.field.data_type()) => {
                Err(lost(&found, "casts to other types"))
            }
            _ => Ok(()),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => joined(left, right, schema),
        Expr::BinaryExpr(both) if bpchar_values::is_of_one_length(both, schema) => Ok(()),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            let operator = match op {
                Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => "=".to_owned(),
                Operator::NotEq => "<>".to_owned(),
                op => op.to_string(),
            };
            if let Some(error) = own_values::no_operator((left.as_ref(), schema), &operator, (right.as_ref(), schema)) {
                return Err(error);
            }
            if has_order(*op) {
                check_order(kind(left).or_else(|| kind(right)))?;
            }
            compared(left, right, schema)
        }
        Expr::Between(between) => {
            let both = [(between.low.as_ref(), ">="), (between.high.as_ref(), "<=")];
            let refused = |(bound, operator): (&Expr, &str)| {
                own_values::no_operator((between.expr.as_ref(), schema), operator, (bound, schema))
            };
            if let Some(error) = both.into_iter().find_map(refused) {
                return Err(error);
            }
            [&between.expr, &between.low, &between.high].into_iter().try_for_each(|expr| check_order(kind(expr)))?;
            compared(&between.expr, &between.low, schema)?;
            compared(&between.expr, &between.high, schema)
        }
        Expr::InList(within) => within.list.iter().try_for_each(|item| {
            match own_values::no_operator((within.expr.as_ref(), schema), "=", (item, schema)) {
                Some(error) => Err(error),
                None => compared(&within.expr, item, schema),
            }
        }),
        Expr::SetComparison(SetComparison { expr, .. })
            if kind(expr).is_some_and(|kind| range_values::is_range(&kind)) =>
        {
            Err(SqlError::not_supported("comparisons of ranges with ANY and ALL of a subquery are not supported"))
        }
        Expr::SetComparison(SetComparison { expr, op, .. }) if has_order(*op) && check_order(kind(expr)).is_err() => {
            check_order(kind(expr))
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. })
        | Expr::SetComparison(SetComparison { expr, subquery, .. }) => {
            if let Some(error) = own_values::no_operator_of_subquery(expr, &subquery.subquery, schema) {
                return Err(error);
            }
            let column = subquery.subquery.schema().fields().first().and_then(|field| of_field(field));
            alike(kind(expr), column, is_null(expr))
        }
        Expr::GroupingSet(set) => set.distinct_expr().into_iter().try_for_each(|key| grouped(kind(key))),
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            check_arguments(func.name(), &params.args, params.distinct, schema)?;
            params.order_by.iter().try_for_each(|key| sorted(kind(&key.expr)))
        }
        Expr::WindowFunction(call) => {
            let params = &call.params;
            check_arguments(call.fun.name(), &params.args, params.distinct, schema)?;
            params.partition_by.iter().try_for_each(|key| grouped(kind(key)))?;
            params.order_by.iter().try_for_each(|key| sorted(kind(&key.expr)))
        }
        Expr::ScalarFunction(call) => check_call(call, schema),
        Expr::TryCast(cast) if of_field(&cast.field).is_some() => Err(match of_field(&cast.field) {
            Some(found) => lost(&found, "TRY_CAST"),
            None => SqlError::not_supported("TRY_CAST to this type is not supported"),
        }),
        Expr::Case(case) => json_values::check_case(case, schema),
        other => {
            let mut found = None;
            // The closure returns no error.
            let _ = other.apply_children(|child| {
                found = found.take().or_else(|| kind(child));
                Ok(TreeNodeRecursion::Continue)
            });
            let place = match other {
                Expr::Like(_) | Expr::SimilarTo(_) => "LIKE",
                _ => "this operator",
            };
            match found {
                Some(found) => Err(lost(&found, place)),
                None => Ok(()),
            }
        }
    }
}

/// Returns true if rows with equal keys have one value, as those of a primary key have.
fn is_determined(key: &Expr, aggregate: &Aggregate) -> bool {
    let schema = aggregate.input.schema();
    let index = |key: &Expr| schema.maybe_index_of_column(key.try_as_col()?);
    let keys: Vec<usize> = aggregate.group_expr.iter().filter_map(index).collect();
    index(key).is_some_and(|place| {
        schema.functional_dependencies().iter().any(|dependence| {
            !dependence.nullable
                && !dependence.source_indices.contains(&place)
                && dependence.target_indices.contains(&place)
                && dependence.source_indices.iter().all(|source| keys.contains(source))
        })
    })
}

/// Checks the arguments of an aggregate or a window function: any value is counted.
fn check_arguments(function: &str, args: &[Expr], distinct: bool, schema: &DFSchema) -> Result<(), SqlError> {
    args.iter().filter_map(|arg| kind_of(arg, schema)).try_for_each(|found| match function {
        "count" if distinct => grouped(Some(found)),
        "count" => Ok(()),
        name if enum_functions::is_extreme(name) => Ok(()),
        _ => Err(lost(&found, &format!("the function {function}"))),
    })
}

/// Checks the arguments of a function, which takes them for texts.
fn check_call(call: &ScalarFunction, schema: &DFSchema) -> Result<(), SqlError> {
    let checked = json_values::check_call(call, schema).or_else(|| range_values::check_call(call, schema));
    let checked = checked.or_else(|| network::check_call(call, schema));
    if let Some(checked) = checked.or_else(|| own_values::check_call(call, schema)) {
        return checked;
    }
    if bpchar::task_of(call).is_some() {
        return Ok(());
    }
    let kinds: Vec<Option<Type>> = call.args.iter().map(|arg| kind_of(arg, schema)).collect();
    let Some(found) = kinds.iter().flatten().next() else { return Ok(()) };
    let is_right = match (call.name(), kinds.as_slice()) {
        ("pg_typeof" | assignments::MARK, _) => true,
        ("coalesce", _) => return json_values::check_alike(call.args.iter(), "the function coalesce", schema),
        ("concat" | "concat_ws", _) if kinds.iter().flatten().any(range_values::is_of_moments) => false,
        ("concat", _) => !kinds.iter().flatten().any(is_array),
        ("concat_ws", [separator, ..]) => separator.is_none() && !kinds.iter().flatten().any(is_array),
        ("cardinality" | "array_length" | "array_ndims" | "array_upper" | "array_lower", [Some(array), ..]) => {
            is_array(array)
        }
        (ARRAY_OF_ROWS, [Some(array)]) => is_array(array),
        ("array_min" | "array_max", [Some(array)]) => *array == Type::UUID_ARRAY,
        ("array_has" | "array_position", [Some(array), Some(item), ..]) => {
            has_equality(item) && parameter_casts::array_of(item).as_ref() == Some(array)
        }
        ("array_position", [Some(array), None, ..]) => {
            matches!(*array, Type::UUID_ARRAY | Type::BPCHAR_ARRAY) && call.args.get(1).is_some_and(is_null)
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(lost(found, &format!("the function {}", call.name()))) }
}

/// Checks `left || right`, which is a text if one of the two is.
fn joined(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<(), SqlError> {
    let is_text = |expr: &Expr| ExprSchemable::get_type(expr, schema).is_ok_and(|found| found.is_string());
    // A text beside `jsonb` is read as such in Postgres.
    let has_text = |kind: &Type| {
        matches!(*kind, Type::UUID | Type::JSON | Type::TIMETZ | Type::CIDR | Type::MACADDR) || own_types::is_enum(kind)
    };
    match (kind_of(left, schema), kind_of(right, schema)) {
        (None, None) => Ok(()),
        (Some(kind), None) if has_text(&kind) && is_text(right) => Ok(()),
        (None, Some(kind)) if has_text(&kind) && is_text(left) => Ok(()),
        (Some(kind), _) | (None, Some(kind)) => Err(lost(&kind, "this operator")),
    }
}

/// Checks a comparison.
fn compared(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<(), SqlError> {
    alike(kind_of(left, schema), kind_of(right, schema), is_null(left) || is_null(right))
}

fn alike(left: Option<Type>, right: Option<Type>, has_null: bool) -> Result<(), SqlError> {
    match (left, right) {
        (None, None) => Ok(()),
        (Some(Type::JSON), other) => Err(json_values::no_equality(Some(&Type::JSON), other.as_ref())),
        (other, Some(Type::JSON)) => Err(json_values::no_equality(other.as_ref(), Some(&Type::JSON))),
        (Some(kind), None) | (None, Some(kind)) if has_null => grouped(Some(kind)),
        (Some(left), Some(right)) if left == right => grouped(Some(left)),
        (Some(kind), _) | (None, Some(kind)) => Err(lost(&kind, "comparisons with other types")),
    }
}

/// Checks that values may be compared for equality, and grouped.
fn grouped(kind: Option<Type>) -> Result<(), SqlError> {
    match kind {
        Some(kind @ Type::JSON) => Err(json_values::no_order("equality", &kind)),
        Some(kind) if !has_equality(&kind) => Err(lost(&kind, "comparisons, groups and orders")),
        _ => Ok(()),
    }
}

/// Checks that values may be sorted.
fn sorted(kind: Option<Type>) -> Result<(), SqlError> {
    check_order(kind.clone())?;
    grouped(kind)
}

/// Refuses a column of a key whose texts do not tell which values are equal.
///
/// # Errors
/// 0A000.
pub(crate) fn check_key(column: &Field) -> Result<(), SqlError> {
    match of_field(column) {
        Some(Type::BPCHAR) => bpchar_values::check_key(column),
        Some(kind) if own_types::is_of_labels(&kind) && is_array(&kind) => Err(lost(&kind, "keys")),
        Some(kind) if range_values::is_range(&kind) || !has_equality(&kind) => Err(lost(&kind, "keys")),
        _ => Ok(()),
    }
}

/// Refuses to sort texts that are equal where the values are, but have another order.
fn check_order(kind: Option<Type>) -> Result<(), SqlError> {
    match kind {
        Some(kind) if has_equality(&kind) && !is_ordered(&kind) => Err(lost(&kind, "orders")),
        _ => Ok(()),
    }
}

fn has_order(op: Operator) -> bool {
    matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Checks that a field has the type of its values.
fn kept(found: Option<Type>, field: &Field, place: &str) -> Result<(), SqlError> {
    match found {
        Some(found) if of_field(field).as_ref() != Some(&found) => Err(lost(&found, place)),
        _ => Ok(()),
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// Returns true if values are cast to text, or arrays to arrays of texts.
fn is_text_of(kind: &Type, to: &DataType) -> bool {
    match (kind.kind(), to) {
        (Kind::Array(_), DataType::List(item)) => item.data_type().is_string(),
        (_, to) => to.is_string(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::sql::literals;
    use crate::sql::marks::settle;

    /// Plans a query over `u`, a uuid, `j`, a jsonb, and `t`, a text; returns the code of the error, if there is one.
    async fn outcome(query: &str) -> String {
        let mut state = SessionContext::new().state();
        literals::register(&mut state).unwrap();
        let query = format!(
            "WITH v AS (SELECT neuroql_literal_uuid('A0EEBC999C0B4EF8BB6D6BB9BD380A11') AS u, \
             neuroql_literal_jsonb('{{}}') AS j, 'a' AS t) {query}"
        );
        let plan = state.create_logical_plan(&query).await.unwrap();
        let checked = settle(plan).map_err(SqlError::from).and_then(|plan| check(&plan));
        checked.map_or_else(|error| error.sqlstate.into_owned(), |()| "fine".into())
    }

    #[tokio::test]
    async fn values_keep_their_types() {
        for query in [
            "SELECT u, j, t FROM v",
            "SELECT u FROM v WHERE u = u AND u < neuroql_literal_uuid(NULL) AND u IS NOT NULL AND j IS NULL",
            "SELECT u FROM v WHERE u IN (NULL, u)",
            "SELECT u FROM v WHERE u BETWEEN u AND u AND u IN (SELECT u FROM v)",
            "SELECT DISTINCT u FROM v ORDER BY u",
            "SELECT u, count(j), count(DISTINCT u) FROM v GROUP BY u",
            "SELECT row_number() OVER (PARTITION BY u ORDER BY u) FROM v",
            "SELECT u FROM v UNION SELECT NULL UNION ALL SELECT u FROM v",
            "SELECT x.u FROM v x JOIN v y ON x.u = y.u",
            "SELECT j::text, concat(t, j), (SELECT u FROM v) FROM v",
            "SELECT u FROM v INTERSECT SELECT u FROM v",
            "SELECT x FROM (VALUES (neuroql_literal_uuid(NULL))) t(x) WHERE x = x",
            "SELECT CASE WHEN u = u THEN t END, upper(j::text) FROM v",
            "SELECT u FROM v x WHERE EXISTS (SELECT 1 FROM v y WHERE y.u = x.u)",
            "SELECT u FROM v WHERE j = j AND j <> '1' AND j IN ('1', NULL) AND j IS DISTINCT FROM '{}'",
            "SELECT CASE WHEN u = u THEN j ELSE '{}' END, coalesce(j, NULL, '1') FROM v",
            "SELECT x.c FROM (SELECT CASE WHEN true THEN j END AS c FROM v) x UNION ALL SELECT j FROM v",
            "SELECT (SELECT x.c) FROM (SELECT coalesce(j, j) AS c FROM v) x",
        ] {
            assert_eq!(outcome(query).await, "fine", "{query}");
        }
    }

    #[tokio::test]
    async fn values_that_would_be_texts_are_refused() {
        for query in [
            "SELECT upper(j), md5(t) FROM v",
            "SELECT max(j) FROM v",
            "SELECT array_agg(j) FROM v",
            "SELECT lag(j) OVER (ORDER BY t) FROM v",
            "SELECT make_array(j) FROM v",
            "SELECT named_struct('a', j) FROM v",
            "SELECT j LIKE 'a%' FROM v",
            "SELECT u FROM v WHERE t IN (SELECT j FROM v)",
            "SELECT j || j FROM v",
            "SELECT 'x' UNION ALL SELECT j FROM v",
            "SELECT x.u FROM v x JOIN v y ON x.j = y.t",
            "SELECT u FROM v x WHERE EXISTS (SELECT 1 FROM v y WHERE y.t = x.j)",
            "SELECT u FROM v WHERE j < j",
            "SELECT u FROM v WHERE j = t",
            "SELECT CASE j WHEN '1' THEN 1 END FROM v",
            "SELECT max(coalesce(j, j)) FROM v",
            "SELECT j || 'x' FROM v",
            "SELECT u FROM v UNION ALL SELECT j FROM v",
            "SELECT DISTINCT j FROM v",
            "SELECT j FROM v UNION SELECT j FROM v",
            "SELECT j FROM v GROUP BY j",
            "SELECT t FROM v ORDER BY j",
            "SELECT count(DISTINCT j) FROM v",
        ] {
            assert_eq!(outcome(query).await, "0A000", "{query}");
        }
    }
}
