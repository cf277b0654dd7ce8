//! Names of the functions that stand for operators, in schemas.
//!
//! DataFusion asks for the name of an expression at each of its levels, and each asks for those below: written out, the
//! names of a sum of a thousand terms take a thousand million characters. The names of results are kept apart from them
//! ([`NamePreserver`](datafusion::logical_expr::expr_rewriter::NamePreserver)), so these need only tell expressions apart.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use datafusion::common::exec_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Operator};

/// Nodes of an expression up to which its name is written out.
const WRITTEN: usize = 32;

/// Returns `written`, or for large arguments a name of the function and a hash of the nodes next to it.
pub(super) fn name(function: &str, args: &[Expr], written: impl FnOnce(&[Expr]) -> String) -> String {
    let (mut hasher, mut nodes) = (DefaultHasher::new(), 0);
    // Level by level: in a long sum the last terms are next to the function.
    let mut level: VecDeque<&Expr> = args.iter().collect();
    while let Some(node) = level.pop_front().filter(|_| nodes <= WRITTEN) {
        nodes += 1;
        match node {
            Expr::Column(_) | Expr::Literal(..) => node.hash(&mut hasher),
            Expr::ScalarFunction(function) => function.name().hash(&mut hasher),
            other => discriminant(other).hash(&mut hasher),
        }
        let visited = node.apply_children(|child| {
            level.push_back(child);
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(visited.is_ok());
    }
    if nodes > WRITTEN { format!("{function}(#{:016x})", hasher.finish()) } else { written(args) }
}

/// Returns the name of a function that stands for an operator of two operands.
///
/// # Errors
/// If there are not two.
pub(super) fn operation(function: &str, operator: Operator, args: &[Expr]) -> Result<String> {
    let [left, right] = args else { return exec_err!("{function} takes two arguments") };
    let written = |_: &[Expr]| format!("{} {operator} {}", left.schema_name(), right.schema_name());
    Ok(name(function, args, written))
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn large_expressions_have_short_names_that_differ() {
        let written = |args: &[Expr]| format!("{} + 1", args[0].schema_name());
        let sum = |terms: i64| (0..terms).fold(col("a"), |sum, term| sum + lit(term));
        assert_eq!(name("plus", &[sum(1)], written), "a + Int64(0) + 1");
        let [one, other] = [1000, 1001].map(|terms| name("plus", &[sum(terms)], written));
        assert!(one.len() < 30 && one != other, "{one} {other}");
        assert_ne!(one, name("minus", &[sum(1000)], written));
    }
}
