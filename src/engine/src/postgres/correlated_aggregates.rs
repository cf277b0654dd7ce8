//! Correlated subqueries that stand for an aggregate and do not compare by `=` alone: `SELECT (SELECT count(*) FROM b WHERE b.k > a.k)
//! FROM a`.
//!
//! DataFusion groups the rows of such a subquery by what is compared, which needs an `=`. Here each row of the query is joined with
//! those rows of the subquery that it has, and the pairs are grouped by the row: as many comparisons as Postgres makes. A subquery
//! of the elements of an array of the query, `(SELECT max(x) FROM unnest(a.xs) x)`, is joined with them in the same way.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, TableReference, internal_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::first_value;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, Unnest, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::laterals::elements_beside;
use super::rules::{expressions_of_node, with_current_schemas};
use crate::plans::{has_expression, subquery_of};

/// Aggregates whose values depend on the order of rows.
const IN_ORDER: [&str; 4] = ["array_agg", "string_agg", "first_value", "last_value"];

/// Joins queries with the rows of their subqueries.
#[derive(Debug)]
pub(super) struct CorrelatedAggregates;

impl AnalyzerRule for CorrelatedAggregates {
    fn name(&self) -> &str {
        "correlated_aggregates"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_correlated = |part: &Expr, _: &LogicalPlan| matches!(part, Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty());
        if !has_expression(&plan, is_correlated)? {
            return Ok(plan);
        }
        let made = Cell::new(0);
        let rewritten = plan.transform_up_with_subqueries(|plan| joined(plan, &made))?;
        if rewritten.transformed { with_current_schemas(rewritten.data) } else { Ok(rewritten.data) }
    }
}

/// Rewrites the subqueries of one node, one after the other.
fn joined(plan: LogicalPlan, made: &Cell<usize>) -> Result<Transformed<LogicalPlan>> {
    let keeps_columns = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => false,
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Window(_) => true,
        _ => return Ok(Transformed::no(plan)),
    };
    let outputs: Vec<Expr> = plan.schema().iter().map(Expr::from).collect();
    let (mut plan, mut changed) = (plan, false);
    while let [input] = plan.inputs()[..]
        && let Some((subquery, matched)) = first_of(&plan, input)?
    {
        made.set(made.get() + 1);
        let value = format!("__value_{}", made.get());
        let input = matched.beside(input.clone(), made.get(), &value)?;
        let schema = Arc::clone(input.schema());
        let expressions = plan.expressions();
        let node = plan.with_new_exprs(expressions, vec![input])?;
        let value = Expr::Column(Column::from_name(value));
        let node = expressions_of_node(node, &schema, |expr| match expr {
            Expr::ScalarSubquery(found) if found == subquery => Ok(Transformed::yes(value.clone())),
            other => Ok(Transformed::no(other)),
        })?;
        (plan, changed) = (node.data, true);
    }
    if changed && keeps_columns {
        // The rows have the values of the subqueries now, too.
        plan = LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(plan))?);
    }
    Ok(Transformed::new_transformed(plan, changed))
}

/// Returns the first subquery of a node's expressions that is to be rewritten.
fn first_of(plan: &LogicalPlan, input: &LogicalPlan) -> Result<Option<(Subquery, MatchedRows)>> {
    // DataFusion has no plan for a correlated subquery in others.
    let all = matches!(plan, LogicalPlan::Sort(_) | LogicalPlan::Window(_));
    let mut first = None;
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            if let Expr::ScalarSubquery(subquery) = part
                && let Some(matched) = MatchedRows::of(subquery, input, all)?
            {
                first = Some((subquery.clone(), matched));
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(first)
}

/// A subquery of an aggregate, taken apart.
struct MatchedRows {
    source: Source,
    /// Conditions that a row of the query and one of these meet.
    conditions: Vec<Expr>,
    aggregates: Vec<Expr>,
    /// The value of the subquery, over the columns of [`Self::name`].
    value: Expr,
}

/// What a subquery reads.
enum Source {
    /// Rows that depend on none of the query around them.
    Rows(LogicalPlan),
    /// Elements of arrays of the row around it.
    Elements(Unnest),
}

impl MatchedRows {
    /// Takes a subquery apart if it can be; one that compares by `=` alone only if `all` are.
    fn of(subquery: &Subquery, input: &LogicalPlan, all: bool) -> Result<Option<Self>> {
        let parts = Self::parts(subquery, input.schema(), all);
        if let Some(Self { source: Source::Elements(unnest), .. }) = &parts
            && elements_beside(input, unnest)?.is_none()
        {
            return Ok(None);
        }
        Ok(parts)
    }

    fn parts(subquery: &Subquery, schema: &DFSchema, all: bool) -> Option<Self> {
        let is_beside =
            |outer: &Expr| matches!(outer, Expr::OuterReferenceColumn(_, column) if schema.has_column(column));
        if subquery.outer_ref_columns.is_empty() || !subquery.outer_ref_columns.iter().all(is_beside) {
            return None;
        }
        let mut above = Vec::new();
        let mut plan = subquery.subquery.as_ref();
        while let LogicalPlan::Projection(projection) = plan {
            above.push(projection);
            plan = projection.input.as_ref();
        }
        let LogicalPlan::Aggregate(aggregate) = plan else { return None };
        if !aggregate.group_expr.is_empty() {
            return None;
        }
        let mut aggregates: Vec<Expr> = aggregate.aggr_expr.iter().map(|expr| expr.clone().unalias()).collect();
        let (mut conditions, mut rows, mut elements) = (Vec::new(), aggregate.input.as_ref(), None);
        while elements.is_none() && !rows.all_out_ref_exprs().is_empty() {
            rows = match rows {
                LogicalPlan::Filter(filter) => {
                    conditions.extend(split_conjunction(&filter.predicate).into_iter().cloned());
                    filter.input.as_ref()
                }
                LogicalPlan::Projection(projection) => {
                    let computed = columns_of(projection);
                    for expr in aggregates.iter_mut().chain(&mut conditions) {
                        *expr = with_columns(std::mem::take(expr), &computed)?;
                    }
                    projection.input.as_ref()
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let names = alias.schema.iter().map(Column::from);
                    let computed = names.zip(alias.input.schema().iter().map(Expr::from)).collect();
                    for expr in aggregates.iter_mut().chain(&mut conditions) {
                        *expr = with_columns(std::mem::take(expr), &computed)?;
                    }
                    alias.input.as_ref()
                }
                LogicalPlan::Subquery(subquery) => subquery.subquery.as_ref(),
                LogicalPlan::Unnest(unnest) => {
                    elements = Some(unnest.clone());
                    rows
                }
                _ => return None,
            };
        }
        let are_near = |expr: &Expr| !expr.exists(|part| Ok(subquery_of(part).is_some())).unwrap_or(true);
        let is_planned = elements.is_none()
            && conditions.iter().all(|condition| !condition.contains_outer() || is_equality(condition))
            && !aggregates.iter().any(Expr::contains_outer);
        let is_told = aggregates.iter().all(|aggregate| matches!(aggregate, Expr::AggregateFunction(_)));
        // The columns of both are side by side.
        let is_clear = elements.is_some()
            || schema.iter().all(|(qualifier, field)| {
                let is_other = |(other, column): (Option<&TableReference>, &FieldRef)| {
                    other != qualifier || qualifier.is_none() && column.name() != field.name()
                };
                rows.schema().iter().all(is_other)
            });
        if !all && is_planned || !is_told || !is_clear || !conditions.iter().chain(&aggregates).all(are_near) {
            return None;
        }
        let names = aggregate.schema.iter().enumerate();
        let mut computed: HashMap<Column, Expr> =
            names.map(|(index, field)| (Column::from(field), Expr::Column(Self::name(index)))).collect();
        let mut value = computed.get(&Column::from(aggregate.schema.qualified_field(0))).cloned()?;
        for projection in above.into_iter().rev() {
            let mut outputs = HashMap::new();
            for (name, expr) in columns_of(projection) {
                outputs.insert(name, with_columns(expr, &computed)?);
            }
            value = outputs.get(&Column::from(projection.schema.qualified_field(0))).cloned()?;
            computed = outputs;
        }
        if !are_near(&value) {
            return None;
        }
        let source = elements.map_or_else(|| Source::Rows(rows.clone()), Source::Elements);
        Some(Self { source, conditions, aggregates, value })
    }

    /// Returns the column of an aggregate.
    fn name(index: usize) -> Column {
        Column::from_name(format!("__aggregate_{index}"))
    }

    /// Returns the rows of the query around the subquery with its value of each, as the last column.
    fn beside(self, input: LogicalPlan, number: usize, value: &str) -> Result<LogicalPlan> {
        let (row, found) = (format!("__row_{number}"), format!("__found_{number}"));
        let schema = Arc::clone(input.schema());
        let left = LogicalPlanBuilder::from(input).window([row_number().alias(&row)])?.build()?;
        let (mut keys, mut aggregates) = (vec![Expr::Column(Column::from_name(&row))], Vec::new());
        let mut outputs = Vec::with_capacity(schema.fields().len() + 1);
        for (index, (qualifier, field)) in schema.iter().enumerate() {
            let column = Expr::from((qualifier, field));
            // Keys have no zero with a sign.
            if field.data_type().is_floating() || field.data_type().is_nested() {
                let name = format!("__column_{index}");
                outputs.push(Expr::Column(Column::from_name(&name)).alias_qualified(qualifier.cloned(), field.name()));
                aggregates.push(first_value(column, Vec::new()).alias(name));
            } else {
                outputs.push(column.clone());
                keys.push(column);
            }
        }
        let is_found = Expr::Column(Column::from_name(&found)).is_true();
        let (pairs, calls) = match self.source {
            Source::Rows(rows) => {
                let columns = rows.schema().iter().map(Expr::from).chain([lit(true).alias(&found)]).collect::<Vec<_>>();
                let right = LogicalPlanBuilder::from(rows).project(columns)?.build()?;
                let condition = conjunction(self.conditions.into_iter().map(near).collect::<Result<Vec<_>>>()?);
                let pairs = LogicalPlanBuilder::from(left).join_on(right, JoinType::Left, condition)?;
                let calls = self.aggregates.into_iter().map(|expr| Ok(of_found(near(expr)?, &is_found)));
                (pairs, calls.collect::<Result<Vec<_>>>()?)
            }
            Source::Elements(unnest) => {
                let Some(elements) = elements_beside(&left, &unnest)? else {
                    return internal_err!("{} is not planned beside its rows", unnest.schema);
                };
                let names = unnest.schema.iter().map(Column::from);
                let computed = names.zip(elements.columns.into_iter().map(Expr::Column)).collect();
                let beside = |expr: Expr| match with_columns(expr, &computed) {
                    Some(expr) => near(expr),
                    None => internal_err!("a column is none of {}", unnest.schema),
                };
                let conditions = self.conditions.into_iter().map(beside).collect::<Result<Vec<_>>>()?;
                let is_element = Expr::Column(elements.position.clone()).is_not_null();
                let meets = conjunction(conditions).unwrap_or_else(|| lit(true));
                let is_pair = when(is_element, meets).otherwise(lit(false))?.alias(&found);
                let mut columns: Vec<Expr> = elements.plan.schema().columns().into_iter().map(Expr::Column).collect();
                columns.push(is_pair);
                let pairs = LogicalPlanBuilder::from(elements.plan).project(columns)?;
                let calls = self.aggregates.into_iter().map(|expr| {
                    let call = of_found(lazily(beside(expr)?, &is_found)?, &is_found);
                    Ok(in_order(call, &elements.position))
                });
                (pairs, calls.collect::<Result<Vec<_>>>()?)
            }
        };
        aggregates.extend(calls.into_iter().enumerate().map(|(index, call)| call.alias(Self::name(index).name)));
        outputs.push(near(self.value)?.alias(value));
        pairs.aggregate(keys, aggregates)?.project(outputs)?.build()
    }
}

/// Returns an aggregate of the pairs that were found.
fn of_found(mut aggregate: Expr, is_found: &Expr) -> Expr {
    if let Expr::AggregateFunction(call) = &mut aggregate {
        let others = call.params.filter.take();
        let filter = others.map_or_else(|| is_found.clone(), |others| is_found.clone().and(*others));
        call.params.filter = Some(Box::new(filter));
    }
    aggregate
}

/// Returns an aggregate that computes from pairs that were found alone: what it computes from others may fail.
fn lazily(mut aggregate: Expr, is_found: &Expr) -> Result<Expr> {
    let guarded = |expr: &mut Expr| -> Result<()> {
        if !matches!(expr, Expr::Column(_) | Expr::Literal(..)) {
            *expr = when(is_found.clone(), std::mem::take(expr)).end()?;
        }
        Ok(())
    };
    if let Expr::AggregateFunction(call) = &mut aggregate {
        call.params.args.iter_mut().try_for_each(guarded)?;
        call.params.order_by.iter_mut().map(|key| &mut key.expr).try_for_each(guarded)?;
        call.params.filter.iter_mut().map(AsMut::as_mut).try_for_each(guarded)?;
    }
    Ok(aggregate)
}

/// Returns an aggregate whose value depends on the order of rows as one in the order of the elements, if it has no other.
fn in_order(mut aggregate: Expr, position: &Column) -> Expr {
    if let Expr::AggregateFunction(call) = &mut aggregate
        && call.params.order_by.is_empty()
        && !call.params.distinct
        && IN_ORDER.contains(&call.func.name())
    {
        call.params.order_by = vec![Expr::Column(position.clone()).sort(true, false)];
    }
    aggregate
}

/// Returns true for a condition by which DataFusion groups the rows of a subquery.
pub(super) fn is_equality(condition: &Expr) -> bool {
    let Expr::BinaryExpr(both) = condition else { return false };
    let is_apart =
        |one: &Expr, other: &Expr| one.contains_outer() && one.column_refs().is_empty() && !other.contains_outer();
    both.op == Operator::Eq && (is_apart(&both.left, &both.right) || is_apart(&both.right, &both.left))
}

/// Returns the columns of a projection and what each is.
pub(super) fn columns_of(projection: &Projection) -> HashMap<Column, Expr> {
    let names = projection.schema.iter().map(Column::from);
    names.zip(projection.expr.iter().map(|expr| expr.clone().unalias())).collect()
}

/// Puts what columns are in their place; `None` if that is not known of one.
pub(super) fn with_columns(expr: Expr, columns: &HashMap<Column, Expr>) -> Option<Expr> {
    let is_known = expr.column_refs().into_iter().all(|column| columns.contains_key(column));
    let replaced = expr.transform_up(|part| {
        Ok(match &part {
            Expr::Column(column) if let Some(known) = columns.get(column) => Transformed::yes(known.clone()),
            _ => Transformed::no(part),
        })
    });
    replaced.ok().map(|replaced| replaced.data).filter(|_| is_known)
}

/// Returns an expression of a subquery as one of rows that have the columns of the query around it, too.
fn near(expr: Expr) -> Result<Expr> {
    expr.transform_up(|part| {
        Ok(match part {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    })
    .data()
}
