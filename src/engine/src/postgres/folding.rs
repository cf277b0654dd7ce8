//! Constants, computed when a statement is planned, as PostgreSQL does.
//!
//! A part that a constant decides about is not looked at: `CASE WHEN false THEN chr(0) END` is NULL, `coalesce(1, 1 / 0)` is 1. Every other
//! constant is computed whether or not a row needs it, so that `SELECT chr(0) FROM t WHERE false` is an error.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion, TreeNodeRewriter};
use datafusion::common::{DFSchema, not_impl_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{BinaryExpr, Case, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Volatility, binary_expr, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::create_physical_expr;
use datafusion::scalar::ScalarValue;

use super::PARTIAL;
use super::casts::item_of;
use super::rules::with_current_schemas;
use crate::sqlstate;

/// Functions that are computed beside the partial ones and those that stand for operators: their values depend on nothing but
/// their arguments, in PostgreSQL, too.
const COMPUTED: [&str; 59] = [
    "abs",
    "array_append",
    "array_cat",
    "array_length",
    "array_position",
    "array_prepend",
    "array_remove",
    "array_replace",
    "ascii",
    "bit_count",
    "bit_length",
    "btrim",
    "cardinality",
    "ceil",
    "character_length",
    "chr",
    "decode",
    "div",
    "encode",
    "factorial",
    "floor",
    "gcd",
    "get_byte",
    "greatest",
    "initcap",
    "is_normalized",
    "lcm",
    "least",
    "left",
    "lower",
    "ltrim",
    "make_array",
    "md5",
    "min_scale",
    "normalize",
    "nullif",
    "octet_length",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_count",
    "regexp_instr",
    "regexp_split_to_array",
    "regexp_substr",
    "replace",
    "reverse",
    "right",
    "round",
    "rtrim",
    "scale",
    "signum",
    "split_part",
    "strpos",
    "substr",
    "trunc",
    "translate",
    "unistr",
    "upper",
    "width_bucket",
];

/// Functions that make moments of numbers.
const MADE: [&str; 3] = ["make_date", "make_time", "make_timestamp"];

/// Computes the constants of a plan; to be run when types are coerced and operators have become functions.
#[derive(Debug)]
pub(super) struct FoldConstants;

impl AnalyzerRule for FoldConstants {
    fn name(&self) -> &str {
        "postgres_constants"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        check(&plan)?;
        let folded = plan.transform_up_with_subqueries(folded_node)?;
        if folded.transformed { with_current_schemas(folded.data) } else { Ok(folded.data) }
    }
}

/// Returns the names of all columns that a plan reads.
fn used_columns(plan: &LogicalPlan) -> Result<HashSet<String>> {
    let mut used = HashSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::Column(column) | Expr::OuterReferenceColumn(_, column) = part {
                    used.insert(column.name.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(used)
}

/// A subquery, and true if all of its outputs are read.
type Pending = Vec<(Arc<LogicalPlan>, bool)>;

/// Computes the constants of a plan for their errors. Outputs of its parts that nothing reads are left out.
fn check(plan: &LogicalPlan) -> Result<()> {
    let used = used_columns(plan)?;
    let mut subqueries = Pending::new();
    check_nodes(plan, true, &used, &mut subqueries)?;
    while let Some((subquery, all)) = subqueries.pop() {
        check_nodes(&subquery, all, &used, &mut subqueries)?;
    }
    Ok(())
}

fn check_nodes(plan: &LogicalPlan, all: bool, used: &HashSet<String>, subqueries: &mut Pending) -> Result<()> {
    let mut nodes = vec![(plan, all)];
    while let Some((node, mut all)) = nodes.pop() {
        let schema = merge_schema(&node.inputs());
        let mut raise = |expr: &Expr| check_expression(expr, &schema, subqueries);
        // The last outputs of a node are those of its expressions.
        let mut raise_last = |exprs: &[Expr]| {
            let names = node.schema().fields().iter().rev().map(|field| field.name());
            let mut read = exprs.iter().rev().zip(names).filter(|(_, name)| all || used.contains(*name));
            read.try_for_each(|(expr, _)| raise(expr))
        };
        match node {
            LogicalPlan::Projection(projection) => {
                raise_last(&projection.expr)?;
                all = false;
            }
            LogicalPlan::Aggregate(aggregate) => {
                raise_last(&aggregate.aggr_expr)?;
                aggregate.group_expr.iter().try_for_each(raise)?;
                all = false;
            }
            LogicalPlan::Window(window) => raise_last(&window.window_expr)?,
            // The rows of VALUES are computed where they are read, a prepared statement where it runs.
            LogicalPlan::Values(_) => {}
            LogicalPlan::Statement(_) => continue,
            LogicalPlan::Union(_) | LogicalPlan::Distinct(Distinct::All(_)) => all = true,
            other => {
                other.apply_expressions(|expr| raise(expr).map(|()| TreeNodeRecursion::Continue))?;
            }
        }
        nodes.extend(node.inputs().into_iter().map(|input| (input, all)));
    }
    Ok(())
}

fn check_expression(expr: &Expr, schema: &DFSchema, subqueries: &mut Pending) -> Result<()> {
    if !may_fold(expr) {
        return Ok(());
    }
    let folded = expr.clone().rewrite(&mut Folder { raises: true, schema })?.data;
    folded.apply(|part| {
        match part {
            Expr::ScalarSubquery(subquery) => subqueries.push((Arc::clone(&subquery.subquery), true)),
            Expr::InSubquery(within) => subqueries.push((Arc::clone(&within.subquery.subquery), true)),
            Expr::SetComparison(compared) => subqueries.push((Arc::clone(&compared.subquery.subquery), true)),
            Expr::Exists(exists) => subqueries.push((Arc::clone(&exists.subquery.subquery), false)),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Computes the constants of the expressions of a node, which keep their names and types. Those that fail stay.
fn folded_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(node, LogicalPlan::Values(_)) {
        return Ok(Transformed::no(node));
    }
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        if matches!(expr, Expr::GroupingSet(_)) || !may_decide(&expr) {
            return Ok(Transformed::no(expr));
        }
        let (name, planned) = (names.save(&expr), expr.get_type(&schema));
        let mut folded = expr.clone().rewrite(&mut Folder { raises: false, schema: &schema })?;
        match (planned, folded.data.get_type(&schema)) {
            _ if !folded.transformed => return Ok(folded),
            (Ok(planned), Ok(found)) if planned != found => folded.data = cast(folded.data, planned),
            (Ok(_), Ok(_)) => {}
            _ => return Ok(Transformed::no(expr)),
        }
        Ok(folded.update_data(|expr| name.restore(expr)))
    })?;
    if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
}

/// Returns true if an expression has more than columns, literals and names.
fn may_fold(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => false,
        Expr::Alias(alias) => may_fold(&alias.expr),
        _ => true,
    }
}

/// Returns true if an expression has parts that a constant may make needless.
fn may_decide(expr: &Expr) -> bool {
    let decides = |part: &Expr| {
        Ok(match part {
            Expr::Case(_) => true,
            Expr::ScalarFunction(call) => call.name() == "coalesce",
            Expr::BinaryExpr(binary) => matches!(binary.op, Operator::And | Operator::Or),
            _ => false,
        })
    };
    expr.exists(decides).unwrap_or(false)
}

/// Puts the values of constants in their place, and leaves out what they decide.
struct Folder<'a> {
    /// True if a constant that fails is an error, false if it stays as it is.
    raises: bool,
    schema: &'a DFSchema,
}

impl TreeNodeRewriter for Folder<'_> {
    type Node = Expr;

    fn f_down(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let (folded, changed) = match expr {
            Expr::Case(case) => self.case(case)?,
            Expr::ScalarFunction(call) if call.name() == "coalesce" => self.coalesce(call)?,
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => self.decided(binary)?,
            other => return Ok(Transformed::no(other)),
        };
        // Its parts are folded.
        Ok(Transformed::new(folded, changed, TreeNodeRecursion::Jump))
    }

    fn f_up(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        if !is_computed(&expr)? {
            return Ok(Transformed::no(expr));
        }
        match computed(&expr) {
            Ok(value) => Ok(Transformed::yes(Expr::Literal(value, None))),
            Err(error) if self.raises && is_of_value(&error) => Err(error),
            Err(_) => Ok(Transformed::no(expr)),
        }
    }
}

/// Returns the value that the planner compares with all elements of an array: it makes a CASE of that, whose conditions are
/// that the array is NULL, that it is empty, and that the value is NULL.
fn compared_with_all(case: &Case) -> Option<&Expr> {
    let [(null, _), (empty, _), (value, _), ..] = case.when_then_expr.as_slice() else { return None };
    let is_count = |part: &Expr| Ok(matches!(part, Expr::ScalarFunction(call) if call.name() == "cardinality"));
    match (null.as_ref(), value.as_ref()) {
        (Expr::IsNull(_), Expr::IsNull(value)) if empty.exists(is_count).unwrap_or(false) => Some(value),
        _ => None,
    }
}

impl Folder<'_> {
    fn fold(&mut self, expr: Expr, changed: &mut bool) -> Result<Expr> {
        let folded = expr.rewrite(self)?;
        *changed |= folded.transformed;
        Ok(folded.data)
    }

    /// Checks what is not computed. A text that stands in the statement is read as a value of its type nevertheless.
    fn leave_out<'e>(&self, mut exprs: impl Iterator<Item = &'e Expr>) -> Result<()> {
        if !self.raises {
            return Ok(());
        }
        exprs.try_for_each(|expr| {
            let check = |part: &Expr| match is_literal_cast(part) {
                true => computed(part).map(|_| TreeNodeRecursion::Continue),
                false => Ok(TreeNodeRecursion::Continue),
            };
            match expr.apply(check) {
                Err(error) if is_of_value(&error) => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Leaves out the branches of a CASE that are not taken.
    fn case(&mut self, case: Case) -> Result<(Expr, bool)> {
        let planned = case.when_then_expr.first().map(|(_, then)| then.get_type(self.schema));
        let mut changed = false;
        // Both sides of `x <> ALL (array)` are computed, whatever the array is.
        if self.raises
            && let Some(value) = compared_with_all(&case)
        {
            self.fold(value.clone(), &mut changed)?;
        }
        let base = case.expr.map(|base| self.fold(*base, &mut changed)).transpose()?;
        let (mut kept, mut otherwise, mut is_decided) = (Vec::new(), None, false);
        let mut branches = case.when_then_expr.into_iter();
        for (when, then) in branches.by_ref() {
            let when = self.fold(*when, &mut changed)?;
            let condition = match &base {
                Some(base @ Expr::Literal(..)) if matches!(when, Expr::Literal(..)) => {
                    Some(binary_expr(base.clone(), Operator::Eq, when.clone()).rewrite(self)?.data)
                }
                Some(_) => None,
                None => Some(when.clone()),
            };
            match condition.as_ref().and_then(truth) {
                Some(true) => {
                    (otherwise, is_decided, changed) = (Some(self.fold(*then, &mut changed)?), true, true);
                    break;
                }
                Some(false) => {
                    self.leave_out(std::iter::once(then.as_ref()))?;
                    changed = true;
                }
                None => kept.push((Box::new(when), Box::new(self.fold(*then, &mut changed)?))),
            }
        }
        if is_decided {
            let rest: Vec<_> = branches.flat_map(|(when, then)| [when, then]).chain(case.else_expr).collect();
            self.leave_out(rest.iter().map(AsRef::as_ref))?;
        } else {
            otherwise = case.else_expr.map(|otherwise| self.fold(*otherwise, &mut changed)).transpose()?;
        }
        if !kept.is_empty() {
            let case = Case { expr: base.map(Box::new), when_then_expr: kept, else_expr: otherwise.map(Box::new) };
            return Ok((Expr::Case(case), changed));
        }
        match (otherwise, planned) {
            (Some(otherwise), _) => Ok((otherwise, true)),
            (None, Some(planned)) => {
                let null = planned.map_or(Ok(ScalarValue::Null), |planned| ScalarValue::try_from(&planned));
                Ok((lit(null?), true))
            }
            (None, None) => not_impl_err!("a CASE without branches"),
        }
    }

    /// Leaves out the arguments of COALESCE behind a constant that is not NULL.
    fn coalesce(&mut self, call: ScalarFunction) -> Result<(Expr, bool)> {
        let mut changed = false;
        let mut args: Vec<Expr> = Vec::with_capacity(call.args.len());
        let mut rest = call.args.into_iter();
        for arg in rest.by_ref() {
            let arg = self.fold(arg, &mut changed)?;
            let is_last = matches!(&arg, Expr::Literal(value, _) if !value.is_null());
            args.push(arg);
            if is_last {
                break;
            }
        }
        changed |= rest.len() > 0;
        self.leave_out(rest.as_slice().iter())?;
        if let [Expr::Literal(value, _)] = &args[..]
            && !value.is_null()
            && let Some(only) = args.pop()
        {
            return Ok((only, true));
        }
        Ok((Expr::ScalarFunction(ScalarFunction { func: call.func, args }), changed))
    }

    /// Folds a row of ANDs or of ORs, from left to right, up to a constant that decides.
    fn decided(&mut self, binary: BinaryExpr) -> Result<(Expr, bool)> {
        let op = binary.op;
        let (mut rest, mut operands) = (vec![Expr::BinaryExpr(binary)], Vec::new());
        while let Some(next) = rest.pop() {
            match next {
                Expr::BinaryExpr(BinaryExpr { left, op: own, right }) if own == op => {
                    rest.extend([*right, *left]);
                }
                other => operands.push(other),
            }
        }
        let (mut changed, mut whole) = (false, None);
        let mut operands = operands.into_iter();
        while let Some(operand) = operands.next() {
            let operand = self.fold(operand, &mut changed)?;
            if matches!(&operand, Expr::Literal(ScalarValue::Boolean(Some(value)), _) if *value == (op == Operator::Or))
            {
                self.leave_out(operands.as_slice().iter())?;
                return Ok((operand, true));
            }
            whole = Some(match whole {
                Some(whole) => binary_expr(whole, op, operand),
                None => operand,
            });
        }
        whole.map_or_else(|| not_impl_err!("{op} of nothing"), |whole| Ok((whole, changed)))
    }
}

/// Returns true for an error of a value, or of one that is too large.
fn is_of_value(error: &DataFusionError) -> bool {
    let code = sqlstate(error);
    code == "54000" || code == "0A000" || code.starts_with("22")
}

/// Returns true if a text that stands in the statement is cast.
fn is_literal_cast(expr: &Expr) -> bool {
    let is_text = |expr: &Expr| matches!(expr, Expr::Literal(value, None) if value.data_type().is_string());
    match expr {
        Expr::Cast(cast) => is_text(&cast.expr),
        Expr::ScalarFunction(call) => call.name() == "pg_cast" && call.args.first().is_some_and(is_text),
        _ => false,
    }
}

/// Returns whether a constant condition is true; `None` if it is no constant.
fn truth(condition: &Expr) -> Option<bool> {
    match condition {
        Expr::Literal(ScalarValue::Boolean(value), _) => Some(value.unwrap_or(false)),
        Expr::Literal(ScalarValue::Null, _) => Some(false),
        _ => None,
    }
}

/// Returns true if an operator or function of constants is computed. Those of dates and times depend on settings in PostgreSQL.
fn is_computed(expr: &Expr) -> Result<bool> {
    let has_kind = match expr {
        Expr::ScalarFunction(call) => {
            let name = call.name();
            call.func.as_async().is_none()
                && call.func.signature().volatility == Volatility::Immutable
                && (name.starts_with("pg_")
                    || [&COMPUTED[..], &MADE, &PARTIAL].iter().any(|names| names.contains(&name)))
        }
        Expr::BinaryExpr(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Case(_)
        | Expr::Cast(_) => true,
        _ => false,
    };
    if !has_kind {
        return Ok(false);
    }
    let mut is_constant = true;
    expr.apply_children(|part| {
        is_constant &= matches!(part, Expr::Literal(value, None) if !is_moment(&value.data_type()));
        Ok(if is_constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    // What is made of numbers depends on no time zone.
    let is_made = matches!(expr, Expr::ScalarFunction(call) if MADE.contains(&call.name()));
    Ok(is_constant && (is_made || expr.get_type(&DFSchema::empty()).is_ok_and(|found| !is_moment(&found))))
}

fn is_moment(data_type: &DataType) -> bool {
    let item = item_of(data_type);
    item.is_temporal() || matches!(item, DataType::Interval(_)) || matches!(item, DataType::Struct(_))
}

/// Computes a constant.
fn computed(expr: &Expr) -> Result<ScalarValue> {
    let schema = DFSchema::empty();
    let value = create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    match value.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}
