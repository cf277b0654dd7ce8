//! Constant texts that are read by the clocks of the session.
//!
//! Postgres reads a constant when it reads the statement: `timestamptz '2024-01-01'` in a prepared statement or a view is the
//! instant that it was in the time zone of that moment. Here texts are read when a statement runs, so that one that is kept
//! is given the name of the zone, once it is known which of its texts are instants.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::cast_styles::read_in_order;
use super::casts::{ReadByClocks, read_by_clocks};
use super::refusal::refusal;

/// Returns the constant texts that an analyzed plan reads as instants and that name no zone.
///
/// # Errors
/// 0A000 if the zone cannot be written behind such a text, or if the same text is something else, too.
pub fn local_constants(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let (mut all, mut found) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, usize>::new());
    let mut is_array = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                match part {
                    Expr::Literal(text, _) => {
                        if let Some(Some(text)) = text.try_as_str() {
                            *all.entry(text.to_owned()).or_default() += 1;
                        }
                    }
                    Expr::ScalarFunction(call) => match read_by_clocks(call) {
                        Some(ReadByClocks::Instant(text)) => *found.entry(text.to_owned()).or_default() += 1,
                        Some(ReadByClocks::Array) => is_array = true,
                        None => {}
                    },
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let other = found.iter().find(|(text, count)| all.get(*text) != Some(*count)).map(|(text, _)| text.as_str());
    if let Some(text) = other.or(is_array.then_some("{…}")) {
        let message = format!("the constant '{text}' is read in the time zone of the session here; write its zone");
        return Err(refusal("0A000", message));
    }
    Ok(found.into_keys().collect())
}

/// Returns a constant date or moment of an analyzed plan whose order is that of the session's `DateStyle`, such as `01/02/2000`, if
/// there is one.
///
/// # Errors
/// If the plan cannot be walked.
pub fn ordered_constant(plan: &LogicalPlan) -> Result<Option<String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(call) = part {
                    found = found.take().or_else(|| read_in_order(call).map(str::to_owned));
                }
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(found)
}
