//! Functions and subqueries in FROM that compute from the row beside them and read no table: `FROM t, unnest(t.a) AS x`.
//!
//! DataFusion plans each as a join with a subquery, and has no way to run it. Its rows are those of the other side of the
//! join with more columns, and are planned so. Subqueries that read tables are left to DataFusion.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, NullHandling, Spans, UnnestOptions};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::greatest;
use datafusion::functions_nested::expr_fn::{array_length, range};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, Unnest, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor};

use super::rules::with_current_schemas;
use super::{functions, json, nodes};

/// Plans `LATERAL unnest(…)` as `unnest(…)`, which sees the tables to its left without the word.
#[derive(Debug)]
pub(super) struct LateralUnnest;

impl RelationPlanner for LateralUnnest {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Function { lateral: true, name, args, with_ordinality: false, alias } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let arrays = args.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(array)) => Some(array.clone()),
            _ => None,
        });
        let is_unnest = name.to_string().eq_ignore_ascii_case("unnest") && !args.is_empty();
        let Some(array_exprs) = arrays.collect::<Option<Vec<_>>>().filter(|_| is_unnest) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let alias = alias.clone();
        let plan = context.plan(TableFactor::UNNEST {
            alias: None,
            array_exprs,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        })?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Plans joins with what computes from the row beside it.
#[derive(Debug)]
pub(super) struct LateralRows;

impl AnalyzerRule for LateralRows {
    fn name(&self) -> &str {
        "postgres_lateral_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        // Arrays of series lose what tells that they are unnested.
        plan.apply_with_subqueries(|plan| nodes::check_series(plan).map(|()| TreeNodeRecursion::Continue))?;
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join) => joined(join),
            other => Ok(Transformed::no(other)),
        })?;
        let plan = if rewritten.transformed { with_current_schemas(rewritten.data)? } else { rewritten.data };
        let rewritten = plan.transform_up_with_subqueries(without_keys)?;
        if rewritten.transformed { with_current_schemas(rewritten.data) } else { Ok(rewritten.data) }
    }
}

/// Rewrites one join.
fn joined(join: Join) -> Result<Transformed<LogicalPlan>> {
    let keeps_all = match (join.join_type, &join.filter) {
        (JoinType::Inner, _) => false,
        (JoinType::Left, None | Some(Expr::Literal(ScalarValue::Boolean(Some(true)), _))) => true,
        _ => return Ok(Transformed::no(LogicalPlan::Join(join))),
    };
    let Some(subquery) = lateral(&join.right).filter(|_| join.on.is_empty()) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let mut rows = Rows { left: &join.left, keeps_all, is_unnested: false, names: 0 };
    let outputs = join.right.schema();
    let found = match rows.of(subquery)? {
        Some(Layer { plan, columns }) if columns.len() == outputs.fields().len() => {
            // A row without elements has nothing but NULLs beside it.
            let is_element = |column: &Computed| column.is_element;
            let is_whole = !keeps_all || !rows.is_unnested || columns.iter().all(is_element);
            is_whole.then_some((plan, columns))
        }
        _ => None,
    };
    let (plan, values) = match found {
        Some((plan, columns)) => {
            (plan, columns.into_iter().map(|column| Expr::Column(Column::from_name(column.name))).collect())
        }
        None if is_one_row(subquery) && reads_elements(subquery)? => {
            (LogicalPlan::clone(&join.left), values_of(subquery)?)
        }
        None => return Ok(Transformed::no(LogicalPlan::Join(join))),
    };
    let computed = values
        .into_iter()
        .zip(outputs.iter())
        .map(|(value, (qualifier, field)): (Expr, _)| value.alias_qualified(qualifier.cloned(), field.name()));
    let all = join.left.schema().columns().into_iter().map(Expr::Column).chain(computed).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(all, Arc::new(plan))?);
    Ok(Transformed::yes(match join.filter.filter(|_| !keeps_all) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?),
        None => plan,
    }))
}

/// Returns true if a subquery is an aggregate of all of its rows, which has one row whatever they are.
fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
        LogicalPlan::Subquery(subquery) => is_one_row(&subquery.subquery),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// Returns the values of the one row of a subquery, as a subquery for each.
fn values_of(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    let values = plan.schema().iter().map(|column| {
        let value = LogicalPlanBuilder::from(plan.clone()).project([Expr::from(column)])?.build()?;
        let outer_ref_columns = value.all_out_ref_exprs();
        let subquery = Subquery { subquery: Arc::new(value), outer_ref_columns, spans: Spans::new() };
        Ok(Expr::ScalarSubquery(subquery))
    });
    values.collect()
}

/// Returns true if a subquery reads elements of arrays of the query around it, which DataFusion plans nowhere.
pub(super) fn reads_elements(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|part| {
        Ok(matches!(part, LogicalPlan::Unnest(unnest) if !unnest.input.all_out_ref_exprs().is_empty())
            || matches!(part, LogicalPlan::Subquery(subquery) if reads_elements(&subquery.subquery)?))
    })
}

/// The rows of a query with the elements of their arrays beside them.
pub(super) struct Elements {
    /// The rows, each as often as its arrays have elements and at least once, with the columns of [`Self::columns`] and
    /// [`Self::position`].
    pub plan: LogicalPlan,
    /// A column for each of the `unnest`.
    pub columns: Vec<Column>,
    /// Positions of elements, from 1; NULL for a row without elements.
    pub position: Column,
}

/// Plans an `unnest` of a subquery, which computes its arrays from a row of the query around it, beside these rows; returns
/// `None` if it reads something else.
pub(super) fn elements_beside(left: &LogicalPlan, unnest: &Unnest) -> Result<Option<Elements>> {
    let mut rows = Rows { left, keeps_all: true, is_unnested: false, names: 0 };
    let position = "__position";
    Ok(rows.unnested(unnest, Some(position))?.map(|Layer { plan, columns }| Elements {
        plan,
        columns: columns.into_iter().map(|column| Column::from_name(column.name)).collect(),
        position: Column::from_name(position),
    }))
}

/// Returns the subquery that a side of a join is.
fn lateral(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
            _ => None,
        },
        _ => None,
    }
}

/// The rows that a subquery computes from.
struct Rows<'a> {
    left: &'a LogicalPlan,
    /// True if each row stays, with NULLs if the subquery has none for it.
    keeps_all: bool,
    /// True if there is an array among what was planned so far.
    is_unnested: bool,
    /// Number of columns that were named so far.
    names: usize,
}

/// The rows with the columns of a part of the subquery.
struct Layer {
    plan: LogicalPlan,
    columns: Vec<Computed>,
}

/// A column beside those of the rows.
#[derive(Clone)]
struct Computed {
    name: String,
    /// True if it holds the elements of an array, or what is NULL if they are.
    is_element: bool,
}

/// Returns true for an element of an array that is read as another type.
fn is_null_of_element(expr: &Expr, columns: &[Computed]) -> bool {
    match expr {
        Expr::Column(column) => columns.iter().any(|computed| computed.is_element && computed.name == column.name),
        Expr::Cast(cast) => is_null_of_element(&cast.expr, columns),
        Expr::ScalarFunction(call) => match call.args.as_slice() {
            [value] => json::is_read(call) && is_null_of_element(value, columns),
            _ => false,
        },
        _ => false,
    }
}

impl Rows<'_> {
    /// Plans a part of the subquery; returns `None` if it reads something else than these rows.
    fn of(&mut self, part: &LogicalPlan) -> Result<Option<Layer>> {
        match part {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row && empty.schema.fields().is_empty() => {
                Ok(Some(Layer { plan: self.left.clone(), columns: Vec::new() }))
            }
            LogicalPlan::Subquery(subquery) => self.of(&subquery.subquery),
            LogicalPlan::SubqueryAlias(alias) => self.of(&alias.input),
            LogicalPlan::Projection(projection) => self.projected(projection),
            LogicalPlan::Filter(filter) if !self.keeps_all => self.filtered(filter),
            LogicalPlan::Unnest(unnest) => self.unnested(unnest, None),
            _ => Ok(None),
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("__lateral_{}", self.names)
    }

    fn projected(&mut self, projection: &Projection) -> Result<Option<Layer>> {
        let Some(Layer { plan, columns }) = self.of(&projection.input)? else { return Ok(None) };
        let mut outputs = Vec::with_capacity(projection.expr.len());
        let mut all: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let known = all.len();
        for expr in &projection.expr {
            let expr = expr.clone().unalias_nested().data;
            let Some(expr) = self.inside(expr, projection.input.schema(), &columns)? else { return Ok(None) };
            let same = match &expr {
                Expr::Column(column) if column.relation.is_none() => columns.iter().find(|it| it.name == column.name),
                _ => None,
            };
            outputs.push(match same {
                Some(column) => column.clone(),
                None => {
                    let (name, is_element) = (self.name(), is_null_of_element(&expr, &columns));
                    all.push(expr.alias(name.as_str()));
                    Computed { name, is_element }
                }
            });
        }
        let plan = match all.len() == known {
            true => plan,
            false => LogicalPlan::Projection(Projection::try_new(all, Arc::new(plan))?),
        };
        Ok(Some(Layer { plan, columns: outputs }))
    }

    fn filtered(&mut self, filter: &Filter) -> Result<Option<Layer>> {
        let Some(Layer { plan, columns }) = self.of(&filter.input)? else { return Ok(None) };
        let condition = self.inside(filter.predicate.clone(), filter.input.schema(), &columns)?;
        let Some(condition) = condition else { return Ok(None) };
        let plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
        Ok(Some(Layer { plan, columns }))
    }

    /// Plans an `unnest`, with the positions of the elements as the column of this name, if there is one.
    fn unnested(&mut self, unnest: &Unnest, position: Option<&str>) -> Result<Option<Layer>> {
        let Some(Layer { plan, mut columns }) = self.of(&unnest.input)? else { return Ok(None) };
        let lists = &unnest.list_type_columns;
        let is_plain = unnest.exec_columns.len() == lists.len()
            && lists.iter().all(|(index, list)| list.depth == 1 && *index < columns.len())
            && unnest.dependency_indices.iter().copied().eq(0..columns.len());
        // Arrays one after the other would each keep a row that has no elements.
        if !is_plain || self.keeps_all && self.is_unnested {
            return Ok(None);
        }
        self.is_unnested = true;
        let mut all: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let (mut arrays, mut lengths) = (Vec::with_capacity(lists.len() + 1), Vec::with_capacity(lists.len()));
        for (index, _) in lists {
            let array = Expr::Column(Column::from_name(columns[*index].name.as_str()));
            lengths.push(cast(array_length(array.clone()), DataType::Int64));
            let name = self.name();
            all.push(array.alias(name.as_str()));
            arrays.push(Column::from_name(name.as_str()));
            columns[*index] = Computed { name, is_element: true };
        }
        if let Some(position) = position {
            all.push(range(lit(1i64), greatest(lengths) + lit(1i64), lit(1i64)).alias(position));
            arrays.push(Column::from_name(position));
        }
        let handling = if self.keeps_all { NullHandling::PreserveAndExpandEmpty } else { unnest.options.null_handling };
        let options = UnnestOptions::new().with_null_handling(handling);
        let plan = Projection::try_new(all, Arc::new(plan)).map(LogicalPlan::Projection)?;
        let plan = LogicalPlan::Unnest(Unnest::try_new(Arc::new(plan), arrays, options)?);
        Ok(Some(Layer { plan, columns }))
    }

    /// Returns an expression of the subquery as one of the rows and the columns beside them, if it is of nothing else.
    fn inside(&self, expr: Expr, schema: &DFSchema, columns: &[Computed]) -> Result<Option<Expr>> {
        let mut is_inside = true;
        let expr = expr.transform_up(|part| {
            Ok(match part {
                Expr::Column(column) => {
                    match schema.maybe_index_of_column(&column).and_then(|index| columns.get(index)) {
                        Some(computed) => Transformed::yes(Expr::Column(Column::from_name(computed.name.as_str()))),
                        None => {
                            is_inside = false;
                            Transformed::no(Expr::Column(column))
                        }
                    }
                }
                Expr::OuterReferenceColumn(_, column) if self.has(&column) => Transformed::yes(Expr::Column(column)),
                other @ (Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)) => {
                    is_inside = false;
                    Transformed::no(other)
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(is_inside.then_some(expr.data))
    }

    /// Returns true if a column is one of the rows; others are those of a query further out.
    fn has(&self, column: &Column) -> bool {
        let mut fields = self.left.schema().iter();
        fields.any(|(qualifier, field)| qualifier == column.relation.as_ref() && *field.name() == column.name)
    }
}

/// Takes the keys from rows whose arrays are unnested: each comes as often as its array has elements, and the optimizer
/// would go on to take it for one that comes once.
fn without_keys(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Unnest(unnest) = plan else { return Ok(Transformed::no(plan)) };
    let schema = unnest.input.schema();
    let dependencies = schema.functional_dependencies();
    let keys: HashSet<usize> = dependencies.iter().flat_map(|it| it.source_indices.iter().copied()).collect();
    if keys.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Unnest(unnest)));
    }
    let columns = schema.iter().enumerate().map(|(index, (qualifier, field))| {
        let column = Expr::from((qualifier, field));
        match keys.contains(&index) {
            true => functions::nullable(column).alias_qualified(qualifier.cloned(), field.name()),
            false => column,
        }
    });
    let input = Projection::try_new(columns.collect(), Arc::clone(&unnest.input)).map(LogicalPlan::Projection)?;
    let unnest = Unnest::try_new(Arc::new(input), unnest.exec_columns.clone(), unnest.options.clone())?;
    Ok(Transformed::yes(LogicalPlan::Unnest(unnest)))
}
