//! `DELETE FROM model.table WHERE …`, for tables of the store.
//!
//! DataFusion hands a table the filters that are left of a query after it was optimised: of a subquery or of a
//! condition that is never true, none, which reads as an order to delete everything. [`KeepDeleteFilter`] therefore
//! takes down the condition before.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, not_impl_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::{DefaultTableSource, provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, TableType, WriteOp};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::future::BoxFuture;

use crate::async_method::async_method;
use crate::tables::model_table::ModelTableProvider;
use crate::tables::predicate::{Predicate, can_evaluate};

/// Analyzer rule that keeps the condition of a `DELETE` as it was written.
#[derive(Debug)]
pub struct KeepDeleteFilter;

impl AnalyzerRule for KeepDeleteFilter {
    fn name(&self) -> &str {
        "delete_as_asked"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_down(|plan| {
            let LogicalPlan::Dml(delete) = &plan else { return Ok(Transformed::no(plan)) };
            let (WriteOp::Delete, Some(target)) = (&delete.op, target(delete)) else {
                return Ok(Transformed::no(plan));
            };
            let deleted = DeleteTarget { conditions: conditions(&delete.input)?, ..target };
            let source = provider_as_source(Arc::new(deleted));
            let (name, input) = (delete.table_name.clone(), Arc::clone(&delete.input));
            Ok(Transformed::yes(LogicalPlan::Dml(DmlStatement::new(name, source, WriteOp::Delete, input))))
        })?;
        Ok(plan.data)
    }
}

/// Returns the table that a statement deletes from; a plan may be analysed twice.
fn target(delete: &DmlStatement) -> Option<DeleteTarget> {
    delete.target.downcast_ref::<DefaultTableSource>()?;
    let table = source_as_provider(&delete.target).ok()?;
    if let Some(table) = table.downcast_ref::<ModelTableProvider>() {
        let table = Arc::new(table.clone());
        return table.table.supports_delete().then_some(DeleteTarget { table, conditions: Vec::new() });
    }
    table.downcast_ref::<DeleteTarget>().cloned()
}

/// The conditions on the rows that a plan reads of one table.
fn conditions(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let mut all = conditions(&filter.input)?;
            for condition in split_conjunction_owned(filter.predicate.clone()) {
                if !can_evaluate(&condition) {
                    return not_impl_err!("DELETE with a subquery is not supported: {condition}");
                }
                let unqualified = condition.transform(|expr| match expr {
                    Expr::Column(column) => Ok(Transformed::yes(Expr::from(Column::new_unqualified(column.name())))),
                    other => Ok(Transformed::no(other)),
                })?;
                all.push(unqualified.data);
            }
            Ok(all)
        }
        LogicalPlan::TableScan(scan) => Ok(scan.filters.clone()),
        LogicalPlan::SubqueryAlias(alias) => conditions(&alias.input),
        LogicalPlan::Projection(projection) => conditions(&projection.input),
        other => plan_err!("DELETE does not take {}", other.display()),
    }
}

/// A table of which some rows are to be deleted.
#[derive(Debug, Clone)]
struct DeleteTarget {
    table: Arc<ModelTableProvider>,
    conditions: Vec<Expr>,
}

impl TableProvider for DeleteTarget {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async_method!(scan => plan);

    async_method!(delete_from => plan_delete<'a>(
        session: &'a dyn Session,
        filters: Vec<Expr>,
    ) -> Arc<dyn ExecutionPlan>);
}

impl DeleteTarget {
    fn plan<'a>(
        &'a self,
        _: &'a dyn Session,
        _: Option<&'a Vec<usize>>,
        _: &'a [Expr],
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move { not_impl_err!("this table can only be deleted from") })
    }

    fn plan_delete<'a>(
        &'a self,
        session: &'a dyn Session,
        _: Vec<Expr>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let schema = self.schema();
            let predicate = Predicate::compile(&self.conditions, &schema, session)?;
            let sink = DeleteSink { table: Arc::clone(&self.table), schema: Arc::clone(&schema), predicate };
            let plan = DataSinkExec::new(Arc::new(EmptyExec::new(schema)), Arc::new(sink), None);
            Ok(Arc::new(plan) as Arc<dyn ExecutionPlan>)
        })
    }
}

/// Sink that deletes the rows when it is executed, whatever rows it is fed.
#[derive(Debug)]
struct DeleteSink {
    table: Arc<ModelTableProvider>,
    schema: SchemaRef,
    predicate: Predicate,
}

impl DisplayAs for DeleteSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let ModelTableProvider { table, model, .. } = &*self.table;
        write!(f, "delete {} of {}", table.name(), model.name())?;
        if !self.predicate.is_empty() {
            write!(f, " where {}", self.predicate)?;
        }
        Ok(())
    }
}

impl DataSink for DeleteSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async_method!(write_all => write<'a>(data: SendableRecordBatchStream, context: &'a Arc<TaskContext>) -> u64);
}

impl DeleteSink {
    fn write<'a>(&'a self, _: SendableRecordBatchStream, _: &'a Arc<TaskContext>) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let ModelTableProvider { table, model, engine } = &*self.table;
            table.delete(model, engine, &self.predicate).await
        })
    }
}
