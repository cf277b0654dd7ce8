//! Statements that create views again, as the store keeps them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{ValueWithSpan, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Returns a text of a view that its definition does not have: sqlparser writes two quotes that follow each other as
/// one. Front ends that write the definition themselves lose none.
///
/// # Errors
/// If the plan cannot be walked.
pub(crate) fn lost_text(view: &ViewTable) -> Result<Option<String>> {
    let quoted = quoted_texts(view.logical_plan())?;
    if quoted.is_empty() {
        return Ok(None);
    }
    let written = view.get_table_definition().map(texts_of).unwrap_or_default();
    Ok(quoted.difference(&written).next().cloned())
}

/// Returns the texts of a plan that have quotes in them.
fn quoted_texts(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::Literal(
                    ScalarValue::Utf8(Some(text))
                    | ScalarValue::LargeUtf8(Some(text))
                    | ScalarValue::Utf8View(Some(text)),
                    _,
                ) = part
                    && text.contains('\'')
                {
                    found.insert(text.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Returns the texts of a statement.
fn texts_of(sql: &str) -> BTreeSet<String> {
    #[derive(Default)]
    struct Texts(BTreeSet<String>);

    impl Visitor for Texts {
        type Break = ();

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
            self.0.extend(value.value.clone().into_string());
            ControlFlow::Continue(())
        }
    }

    let mut texts = Texts::default();
    if let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, sql) {
        let _ = statements.visit(&mut texts);
    }
    texts.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::prelude::SessionContext;

    use super::*;

    async fn lost(sql: &str) -> Option<String> {
        let context = SessionContext::new();
        context.sql(sql).await.unwrap();
        let view: Arc<dyn TableProvider> = context.table_provider("v").await.unwrap();
        lost_text(view.downcast_ref::<ViewTable>().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn texts_that_are_written_otherwise_are_found() {
        assert_eq!(lost("CREATE VIEW v AS SELECT 'a', 'it''s', 'b' || 'c'").await, None);
        assert_eq!(lost("CREATE VIEW v AS SELECT 'a''''b'").await.as_deref(), Some("a''b"));
        let hidden = "CREATE VIEW v AS SELECT 1 WHERE EXISTS (SELECT 1 WHERE concat('x', 'y''''') = 'z')";
        assert_eq!(lost(hidden).await.as_deref(), Some("y''"));
    }
}
