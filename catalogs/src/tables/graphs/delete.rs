//! `DELETE FROM model.graphs WHERE …`
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
use neuroql_model::Model;
use neuroql_pipeline::RowFilter;
use neuroql_schema::sql_error;
use neuroql_store::GraphKey;

use super::{Graphs, schema, select};
use crate::async_method::async_method;
use crate::state::EngineState;
use crate::tables::model_table::{ModelTable, OfModel};
use crate::tables::predicate::{Predicate, can_evaluate};

/// Analyzer rule that keeps the condition of a `DELETE` on graphs as it was written.
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
            let doomed = Doomed { conditions: conditions(&delete.input)?, ..target };
            let source = provider_as_source(Arc::new(doomed));
            let (name, input) = (delete.table_name.clone(), Arc::clone(&delete.input));
            Ok(Transformed::yes(LogicalPlan::Dml(DmlStatement::new(name, source, WriteOp::Delete, input))))
        })?;
        Ok(plan.data)
    }
}

/// Returns the graphs that a statement deletes from; a plan may be analysed twice.
fn target(delete: &DmlStatement) -> Option<Doomed> {
    delete.target.downcast_ref::<DefaultTableSource>()?;
    let table = source_as_provider(&delete.target).ok()?;
    if let Some(table) = table.downcast_ref::<OfModel>() {
        let (model, engine) = (Arc::clone(&table.model), Arc::clone(&table.engine));
        return (table.table.name() == Graphs.name()).then_some(Doomed { model, engine, conditions: Vec::new() });
    }
    table.downcast_ref::<Doomed>().cloned()
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

/// A model's table `graphs` from which some graphs are to be deleted.
#[derive(Debug, Clone)]
struct Doomed {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    conditions: Vec<Expr>,
}

impl TableProvider for Doomed {
    fn schema(&self) -> SchemaRef {
        schema()
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

impl Doomed {
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
            let schema = schema();
            let predicate = Predicate::compile(&self.conditions, &schema, session)?;
            let (model, engine) = (Arc::clone(&self.model), Arc::clone(&self.engine));
            let sink = DeleteSink { model, engine, schema: Arc::clone(&schema), predicate };
            let plan = DataSinkExec::new(Arc::new(EmptyExec::new(schema)), Arc::new(sink), None);
            Ok(Arc::new(plan) as Arc<dyn ExecutionPlan>)
        })
    }
}

/// Sink that deletes the graphs when it is executed, whatever rows it is fed.
struct DeleteSink {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    schema: SchemaRef,
    predicate: Predicate,
}

impl fmt::Debug for DeleteSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeleteSink").field("model", &self.model.name()).finish_non_exhaustive()
    }
}

impl DisplayAs for DeleteSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "delete graphs of {}", self.model.name())?;
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
            let Self { model, engine, .. } = self;
            let whole = self.predicate.columns().contains("graph");
            let version = model.version();
            let mut doomed = Vec::new();
            for layer in 0..model.config().layers as u32 {
                // Graphs that are part of the program cannot be deleted.
                let stored = engine.store.stored_graphs(model.name(), &version, layer).await.map_err(sql_error)?;
                if stored.is_empty() {
                    continue;
                }
                let rows = match whole {
                    true => engine.resources.graphs(model, layer, None).await?,
                    false => engine.resources.graph_scores(model, layer).await?,
                };
                let rows = select(&rows, &self.schema)?;
                let matches = self.predicate.evaluate(&rows)?;
                let keys = GraphKey::of_rows(&rows).map_err(sql_error)?.into_iter().zip(matches.iter());
                doomed.extend(keys.filter_map(|(key, matches)| (matches? && stored.contains(&key)).then_some(key)));
            }
            engine.store.delete_graphs(model.name(), &doomed).await.map_err(sql_error)?;
            Ok(doomed.len() as u64)
        })
    }
}
