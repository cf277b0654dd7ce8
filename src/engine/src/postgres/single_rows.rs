//! Correlated subqueries that stand for one value: `SELECT (SELECT v FROM b WHERE b.k = a.k ORDER BY t LIMIT 1) FROM a`.
//!
//! DataFusion joins the query around such a subquery with groups of its rows, and needs an aggregate for that. One of its
//! rows is the first by an order; if they are not limited, a second row is an error where the value is read.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, internal_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Distinct, Expr, FetchType, LogicalPlan,
    LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SkipType, Subquery,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::refusal::refusal;
use super::rules::expressions_of_node;
use crate::plans::has_expression;

/// Makes correlated scalar subqueries aggregates.
#[derive(Debug)]
pub(super) struct SingleRows;

impl AnalyzerRule for SingleRows {
    fn name(&self) -> &str {
        "single_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_correlated = |part: &Expr, _: &LogicalPlan| matches!(part, Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty());
        if !has_expression(&plan, is_correlated)? {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            expressions_of_node(plan, &schema, |expr| match expr {
                Expr::ScalarSubquery(subquery) => Ok(match single_row(&subquery)? {
                    Some(value) => Transformed::yes(value),
                    None => Transformed::no(Expr::ScalarSubquery(subquery)),
                }),
                other => Ok(Transformed::no(other)),
            })
        })
        .data()
    }
}

/// Returns the value of a correlated subquery; `None` if DataFusion plans it itself, or has no plan.
fn single_row(subquery: &Subquery) -> Result<Option<Expr>> {
    let plan = subquery.subquery.as_ref();
    if subquery.outer_ref_columns.is_empty() || is_aggregate(plan) {
        return Ok(None);
    }
    let (is_first, rows) = match plan {
        LogicalPlan::Limit(limit) => match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (_, FetchType::Literal(Some(0))) => {
                let (_, field) = plan.schema().qualified_field(0);
                let value = ScalarValue::try_from(field.data_type())?;
                return Ok(Some(Expr::Literal(value, Some(field.metadata().clone().into()))));
            }
            (SkipType::Literal(0), FetchType::Literal(Some(1))) => (true, limit.input.as_ref()),
            // A second row is an error whatever the order.
            (SkipType::Literal(0), FetchType::Literal(None | Some(2..))) => (false, limit.input.as_ref()),
            _ => return Ok(None),
        },
        plan if plan.max_rows().is_some_and(|rows| rows <= 1) => return Ok(None),
        plan => (false, plan),
    };
    let Some(SortedRows { value, keys, rows }) = SortedRows::of(rows) else { return Ok(None) };
    let (rows, is_distinct) = match rows {
        LogicalPlan::Distinct(Distinct::All(input)) => (Arc::unwrap_or_clone(Arc::clone(input)), true),
        LogicalPlan::Distinct(_) => return Ok(None),
        rows => (rows.clone(), false),
    };
    let aggregate = if is_first {
        AggregateFunction::new_udf(first_value_udaf(), vec![value], false, None, keys, None)
    } else {
        let few = FewValues { is_distinct, signature: Signature::any(1, Volatility::Immutable) };
        AggregateFunction::new_udf(Arc::new(AggregateUDF::from(few)), vec![value], false, None, Vec::new(), None)
    };
    let value = Expr::AggregateFunction(aggregate).alias("__value");
    let plan = LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), [value])?.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let found =
        Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans.clone() });
    if is_first {
        return Ok(Some(found));
    }
    let only = ScalarUDF::from(OnlyValue { signature: Signature::any(1, Volatility::Immutable) });
    Ok(Some(only.call(vec![found])))
}

/// Returns true for an aggregate of all rows, which has one row itself.
fn is_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_aggregate(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregate(&alias.input),
        LogicalPlan::Filter(filter) => is_aggregate(&filter.input),
        LogicalPlan::Limit(limit) => is_aggregate(&limit.input),
        LogicalPlan::Sort(sort) => is_aggregate(&sort.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// Rows, the value of each, and the order they are in.
struct SortedRows<'a> {
    value: Expr,
    keys: Vec<Sort>,
    rows: &'a LogicalPlan,
}

impl<'a> SortedRows<'a> {
    fn of(plan: &'a LogicalPlan) -> Option<Self> {
        let output = |plan: &LogicalPlan| match plan.schema().fields().len() {
            1 => Some(Expr::Column(Column::from(plan.schema().qualified_field(0)))),
            _ => None,
        };
        match plan {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                Some(Self { value: output(plan)?, keys: sort.expr.clone(), rows: &sort.input })
            }
            LogicalPlan::Projection(projection) => match (projection.input.as_ref(), projection.expr.as_slice()) {
                // The planner adds keys to the rows that it sorts, and takes them off again.
                (LogicalPlan::Sort(sort), [value]) if sort.fetch.is_none() => {
                    Some(Self { value: value.clone().unalias(), keys: sort.expr.clone(), rows: &sort.input })
                }
                _ => Some(Self { value: output(plan)?, keys: Vec::new(), rows: plan }),
            },
            plan => Some(Self { value: output(plan)?, keys: Vec::new(), rows: plan }),
        }
    }
}

/// The first two values of rows, as a list: all of them, unless there are more.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FewValues {
    /// True if equal values count as one.
    is_distinct: bool,
    signature: Signature,
}

impl AggregateUDFImpl for FewValues {
    fn name(&self) -> &str {
        if self.is_distinct { "few_distinct_values" } else { "few_values" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the field of {} depends on that of its argument", self.name())
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::List(item(&fields[0])), true)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(args.name, DataType::List(item(&args.input_fields[0])), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let item = item(&args.expr_fields[0]);
        Ok(Box::new(FewValuesAccumulator { is_distinct: self.is_distinct, item, values: Vec::new() }))
    }
}

/// Returns the field of the list's items, which keeps what is known of a value beside its type.
fn item(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_name("item").with_nullable(true))
}

#[derive(Debug)]
struct FewValuesAccumulator {
    is_distinct: bool,
    item: FieldRef,
    values: Vec<ScalarValue>,
}

impl FewValuesAccumulator {
    fn take(&mut self, values: &ArrayRef) -> Result<()> {
        for row in 0..values.len() {
            if self.values.len() > 1 {
                break;
            }
            let value = ScalarValue::try_from_array(values, row)?;
            if !self.is_distinct || !self.values.contains(&value) {
                self.values.push(value.compacted());
            }
        }
        Ok(())
    }
}

impl Accumulator for FewValuesAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            self.take(&list)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = ScalarValue::new_list(&self.values, self.item.data_type(), true);
        let (_, offsets, values, nulls) = Arc::unwrap_or_clone(list).into_parts();
        let list = datafusion::arrow::array::ListArray::try_new(Arc::clone(&self.item), offsets, values, nulls)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + ScalarValue::size_of_vec(&self.values)
    }
}

/// The value of a list that has one; an error if it has two.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyValue {
    signature: Signature,
}

impl ScalarUDFImpl for OnlyValue {
    fn name(&self) -> &str {
        "only_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the field of {} depends on that of its argument", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields[0].data_type() {
            DataType::List(item) => Ok(Arc::new(Field::clone(item).with_name(self.name()).with_nullable(true))),
            other => internal_err!("{} of {other}", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let lists = lists.as_list::<i32>();
        let mut places = Vec::with_capacity(lists.len());
        for row in 0..lists.len() {
            let length = if lists.is_null(row) { 0 } else { lists.value_length(row) };
            places.push(match length {
                0 => None,
                1 => u32::try_from(lists.value_offsets()[row]).ok(),
                _ => return Err(refusal("21000", "more than one row returned by a subquery used as an expression")),
            });
        }
        let values = compute::take(lists.values(), &UInt32Array::from(places), None)?;
        Ok(ColumnarValue::Array(values))
    }
}
