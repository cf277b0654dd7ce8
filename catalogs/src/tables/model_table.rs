//! The tables each model has, in its own schema and, with a `model` column, over all models.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::not_impl_err;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_pipeline::RowFilter;
use neuroql_schema::{Rights, Role};

use crate::async_method::async_method;
use crate::state::EngineState;
use crate::tables::predicate::{Predicate, can_evaluate_on};

/// A table that can be made of any model.
pub(crate) trait ModelTable: Debug + Send + Sync {
    /// Its name in a model's schema.
    fn name(&self) -> &'static str;

    /// Its columns, for one model or for all together.
    fn schema(&self, model: Option<&Model>) -> SchemaRef;

    /// Filter pushdown of [`ModelTable::scan`].
    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown;

    /// Returns true if the plan of a scan holds nothing that it read when it was made.
    fn is_read_at_execution(&self) -> bool {
        false
    }

    /// The plan that reads it. `projection` indexes the schema for this model.
    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>>;

    /// The plan that inserts the rows of another; most tables only show what is there.
    fn insert(
        &self,
        _: &Arc<Model>,
        _: &Arc<EngineState>,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("INSERT is not supported for the table {}", self.name())
    }

    /// Returns the least role that may insert rows into the table of a model that it may use.
    fn insert_requires(&self) -> Role {
        Role::Superuser
    }

    /// Returns true if rows can be deleted.
    fn supports_delete(&self) -> bool {
        false
    }

    /// Deletes the rows of a model that a predicate lets pass, and returns their number.
    fn delete<'a>(
        &'a self,
        _: &'a Arc<Model>,
        _: &'a Arc<EngineState>,
        _: &'a Predicate,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { not_impl_err!("DELETE is not supported for the table {}", self.name()) })
    }
}

/// The arguments of a scan.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub session: &'a dyn Session,
    pub engine: &'a Arc<EngineState>,
    pub projection: Option<&'a Vec<usize>>,
    pub filters: &'a [Expr],
    pub limit: Option<usize>,
}

/// A table of one model.
#[derive(Debug, Clone)]
pub(crate) struct ModelTableProvider {
    pub table: Arc<dyn ModelTable>,
    pub model: Arc<Model>,
    pub engine: Arc<EngineState>,
}

impl TableProvider for ModelTableProvider {
    fn schema(&self) -> SchemaRef {
        self.table.schema(Some(&self.model))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| self.table.supports_filter(filter)).collect())
    }

    async_method!(scan => plan);

    async_method!(insert_into => plan_insert<'a>(
        session: &'a dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Arc<dyn ExecutionPlan>);
}

impl ModelTableProvider {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            Rights::of(session.config_options()).check_schema(self.model.name())?;
            self.table.scan(&self.model, Scan { session, engine: &self.engine, projection, filters, limit }).await
        })
    }

    fn plan_insert<'a>(
        &'a self,
        session: &'a dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            Rights::of(session.config_options()).check_schema(self.model.name())?;
            self.table.insert(&self.model, &self.engine, input, op)
        })
    }
}

/// A table over all models, with a leading column `model`.
#[derive(Debug)]
pub(crate) struct AllModelsTableProvider {
    pub table: Arc<dyn ModelTable>,
    pub engine: Arc<EngineState>,
}

impl AllModelsTableProvider {
    fn on_model(filter: &Expr) -> bool {
        can_evaluate_on(filter, &["model"])
    }

    fn mentions_model(filter: &Expr) -> bool {
        filter.column_refs().iter().any(|column| column.name == "model")
    }

    /// The models that pass the filters on `model` and that the user may use.
    fn models(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<Model>>> {
        let rights = Rights::of(session.config_options());
        let models = self.engine.registry.list();
        let models: Vec<_> = models.into_iter().filter(|model| rights.may_use(model.name())).collect();
        let filters: Vec<Expr> = filters.iter().filter(|f| Self::on_model(f)).cloned().collect();
        let schema = Arc::new(Schema::new(vec![Field::new("model", DataType::Utf8, false)]));
        let predicate = Predicate::compile(&filters, &schema, session)?;
        let names = StringArray::from_iter_values(models.iter().map(|model| model.name()));
        let mask = predicate.evaluate(&RecordBatch::try_new(schema, vec![Arc::new(names)])?)?;
        Ok(models.into_iter().zip(mask.iter()).filter_map(|(model, keep)| keep?.then_some(model)).collect())
    }
}

impl TableProvider for AllModelsTableProvider {
    fn schema(&self) -> SchemaRef {
        let schema = self.table.schema(None);
        let model = Arc::new(Field::new("model", DataType::Utf8, false));
        Arc::new(Schema::new([model].into_iter().chain(schema.fields().iter().cloned()).collect::<Vec<_>>()))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match *filter {
            filter if Self::on_model(filter) => TableProviderFilterPushDown::Exact,
            filter if Self::mentions_model(filter) => TableProviderFilterPushDown::Unsupported,
            filter => self.table.supports_filter(filter),
        };
        Ok(filters.iter().map(support).collect())
    }

    async_method!(scan => plan);
}

impl AllModelsTableProvider {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let schema = self.schema();
            let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
            let rest: Vec<Expr> = filters.iter().filter(|f| !Self::mentions_model(f)).cloned().collect();
            let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
            for model in self.models(session, filters)? {
                let own = self.table.schema(Some(&model));
                // A column that this model lacks (w_gate) is NULL for it.
                let wanted: Vec<usize> =
                    columns.iter().filter_map(|c| own.index_of(schema.field(*c).name()).ok()).collect();
                let scan = Scan { session, engine: &self.engine, projection: Some(&wanted), filters: &rest, limit };
                let plan = self.table.scan(&model, scan).await?;
                let outputs = columns.iter().map(|c| {
                    let field = schema.field(*c);
                    let expr: Arc<dyn PhysicalExpr> = if *c == 0 {
                        Arc::new(Literal::new(ScalarValue::from(model.name())))
                    } else {
                        match plan.schema().index_of(field.name()) {
                            Ok(index) => Arc::new(Column::new(field.name(), index)),
                            Err(_) => Arc::new(Literal::new(ScalarValue::try_new_null(field.data_type())?)),
                        }
                    };
                    Ok((expr, field.name().clone()))
                });
                plans.push(Arc::new(ProjectionExec::try_new(outputs.collect::<Result<Vec<_>>>()?, plan)?) as _);
            }
            match plans.len() {
                0 => Ok(Arc::new(EmptyExec::new(Arc::new(schema.project(&columns)?))) as Arc<dyn ExecutionPlan>),
                1 => Ok(plans.remove(0)),
                _ => UnionExec::try_new(plans),
            }
        })
    }
}

/// A scan of a table over all models, to build table functions on.
pub(crate) fn scan_all(table: Arc<dyn ModelTable>, engine: &Arc<EngineState>) -> Result<LogicalPlanBuilder> {
    let name = table.name();
    LogicalPlanBuilder::scan(
        name,
        provider_as_source(Arc::new(AllModelsTableProvider { table, engine: Arc::clone(engine) })),
        None,
    )
}
