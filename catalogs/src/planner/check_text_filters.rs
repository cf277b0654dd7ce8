//! Conditions that compare the text of activations with values from elsewhere in the query.
//!
//! `activations` runs the texts that `text = '…'` or `text IN (…)` give, or the documents of `dataset = '…'`; where a
//! query says neither, those of the corpus. A join on `text`, `text IN (SELECT …)` or `text LIKE …` gives no texts: it
//! would be applied to the corpus, which has hardly one of them, and the answer would be no rows. [`CheckTextFilters`]
//! refuses such a query and says how to ask. Conditions among texts of the corpus stay possible, as of two scans of it.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use crate::Error;
use crate::async_method::async_method;
use crate::tables::bundled_corpus::BundledTable;
use crate::tables::dataset::DEFAULT;
use crate::tables::model_table::{AllModelsTableProvider, ModelTableProvider};
use crate::tables::predicate::allowed_strings;

/// Query planner that checks the conditions on texts before another planner plans the query.
#[derive(Debug)]
pub struct CheckTextFilters(
    /// The planner that plans it.
    pub Arc<dyn QueryPlanner + Send + Sync>,
);

impl QueryPlanner for CheckTextFilters {
    async_method!(create_physical_plan => plan<'plan, 'session>(
        plan: &'plan LogicalPlan,
        session: &'session dyn Session,
    ) -> Arc<dyn ExecutionPlan>);
}

impl CheckTextFilters {
    fn plan<'a>(
        &'a self,
        plan: &'a LogicalPlan,
        session: &'a dyn Session,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            origins(plan)?;
            self.0.create_physical_plan(plan, session).await
        })
    }
}

/// Origin of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TextOrigin {
    Elsewhere,
    /// Texts of the corpus.
    Corpus,
    /// Texts of activations in a query that names neither texts nor a dataset: of the corpus, too, but hardly on
    /// purpose if it compares them with others.
    UnfilteredCorpus,
}

/// Returns the origin of each column of a plan.
///
/// # Errors
/// [`Error::TextNotGiven`] if a condition compares texts that are [`TextOrigin::UnfilteredCorpus`] with anything that
/// is from elsewhere.
fn origins(plan: &LogicalPlan) -> Result<Vec<TextOrigin>> {
    plan.apply_subqueries(|subquery| origins(subquery).map(|_| TreeNodeRecursion::Continue))?;
    let inputs = plan.inputs().into_iter().map(origins).collect::<Result<Vec<_>>>()?;
    let all: Vec<TextOrigin> = inputs.concat();
    let schema = plan.schema();
    Ok(match plan {
        LogicalPlan::TableScan(scan) => scanned(scan)?,
        LogicalPlan::Filter(filter) => {
            check(&filter.predicate, filter.input.schema(), &all)?;
            all
        }
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().map(|expr| of_expr(expr, projection.input.schema(), &all)).collect()
        }
        LogicalPlan::Join(join) => {
            let both = join.left.schema().join(join.right.schema())?;
            for (left, right) in &join.on {
                check(&left.clone().eq(right.clone()), &both, &all)?;
            }
            if let Some(filter) = &join.filter {
                check(filter, &both, &all)?;
            }
            // A semi-join has the columns of one side.
            schema
                .iter()
                .map(|(table, field)| of_column(&Column::new(table.cloned(), field.name()), &both, &all))
                .collect()
        }
        LogicalPlan::Aggregate(aggregate) => {
            let mut columns = vec![TextOrigin::Elsewhere; schema.fields().len()];
            // With grouping sets there are more columns, and these come first all the same.
            for (column, expr) in columns.iter_mut().zip(&aggregate.group_expr) {
                *column = of_expr(expr, aggregate.input.schema(), &all);
            }
            columns
        }
        LogicalPlan::Union(_) => {
            let of = |i: usize| inputs.iter().filter_map(|input| input.get(i)).max().copied();
            (0..schema.fields().len()).map(|i| of(i).unwrap_or(TextOrigin::Elsewhere)).collect()
        }
        // Windows come after the columns of the input; the others have its columns, or columns by the same names.
        LogicalPlan::Window(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Subquery(_) => {
            let mut columns = all;
            columns.resize(schema.fields().len(), TextOrigin::Elsewhere);
            columns
        }
        other => {
            let named = |name: &str| {
                let inputs = other.inputs();
                let columns = inputs.iter().flat_map(|input| input.schema().fields().iter());
                columns
                    .zip(&all)
                    .find(|(field, _)| field.name() == name)
                    .map_or(TextOrigin::Elsewhere, |(_, from)| *from)
            };
            schema.fields().iter().map(|field| named(field.name())).collect()
        }
    })
}

/// Returns the origin of each column of a scanned table.
fn scanned(scan: &TableScan) -> Result<Vec<TextOrigin>> {
    let fields = scan.projected_schema.fields();
    let elsewhere = || vec![TextOrigin::Elsewhere; fields.len()];
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(elsewhere()) };
    let of_model = || provider.downcast_ref::<ModelTableProvider>().map(|table| table.table.name());
    let of_all = || provider.downcast_ref::<AllModelsTableProvider>().map(|table| table.table.name());
    let from = if provider.is::<BundledTable>() {
        TextOrigin::Corpus
    } else if of_model().or_else(of_all) == Some("activations") {
        let given = |column| scan.filters.iter().find_map(|filter| allowed_strings(filter, column));
        match given("dataset") {
            Some(datasets) if datasets == [DEFAULT] => TextOrigin::Corpus,
            Some(_) => return Ok(elsewhere()),
            None if given("text").is_some() => return Ok(elsewhere()),
            None => TextOrigin::UnfilteredCorpus,
        }
    } else {
        return Ok(elsewhere());
    };
    let of = |name: &str| if name == "text" { from } else { TextOrigin::Elsewhere };
    let columns: Vec<TextOrigin> = scan.source.schema().fields().iter().map(|field| of(field.name())).collect();
    let whole = DFSchema::try_from(scan.source.schema())?;
    for filter in &scan.filters {
        if from == TextOrigin::UnfilteredCorpus {
            check(filter, &whole, &columns)?;
        }
    }
    Ok(fields.iter().map(|field| of(field.name())).collect())
}

/// Returns an error if a condition compares [`TextOrigin::UnfilteredCorpus`] texts with anything but texts of the
/// corpus.
fn check(condition: &Expr, schema: &DFSchema, columns: &[TextOrigin]) -> Result<()> {
    for part in datafusion::logical_expr::utils::split_conjunction(condition) {
        let of: Vec<TextOrigin> =
            part.column_refs().into_iter().map(|column| of_column(column, schema, columns)).collect();
        let among_others = of.contains(&TextOrigin::Elsewhere) || of.len() == 1 || has_subquery(part);
        if of.contains(&TextOrigin::UnfilteredCorpus) && among_others {
            return Err(Error::TextNotGiven { condition: part.human_display().to_string() }.into());
        }
    }
    Ok(())
}

fn has_subquery(expr: &Expr) -> bool {
    let is = |expr: &Expr| {
        matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..))
    };
    expr.exists(|expr| Ok(is(expr))).unwrap_or(true)
}

/// Returns the origin of the values of an expression: the least deliberate one of its columns.
fn of_expr(expr: &Expr, schema: &DFSchema, columns: &[TextOrigin]) -> TextOrigin {
    let of = expr.column_refs().into_iter().map(|column| of_column(column, schema, columns)).max();
    of.unwrap_or(TextOrigin::Elsewhere)
}

fn of_column(column: &Column, schema: &DFSchema, columns: &[TextOrigin]) -> TextOrigin {
    let index = schema.maybe_index_of_column(column).or_else(|| schema.index_of_column_by_name(None, &column.name));
    index.and_then(|index| columns.get(index)).copied().unwrap_or(TextOrigin::Elsewhere)
}
