//! `datasets`: the tables of the default schema that have a column of text.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, cast, ident, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;

use crate::async_method::async_method;
use crate::tables::bundled_corpus::BundledTable;
use crate::tables::dataset::Dataset;

/// Table `datasets`. Views are datasets too but are not listed: counting their rows may run a model.
#[derive(Debug)]
pub(crate) struct Datasets {
    /// The users' tables, without the system's.
    pub schema: Arc<dyn SchemaProvider>,
}

impl Datasets {
    /// Plans the row of one dataset; documents are counted only if their number is read.
    fn row(name: &str, dataset: &Dataset) -> Result<LogicalPlan> {
        let schema = dataset.table.schema();
        let text_column = schema.field(dataset.text).name();
        let location = match dataset.table.downcast_ref::<ListingTable>() {
            Some(listing) => {
                let paths: Vec<String> = listing.table_paths().iter().map(ToString::to_string).collect();
                Some(paths.join(", "))
            }
            None if dataset.table.is::<BundledTable>() => Some("bundled".to_owned()),
            None => None,
        };
        let source = provider_as_source(Arc::clone(&dataset.table));
        LogicalPlanBuilder::scan(name, source, None)?
            .aggregate(Vec::<Expr>::new(), [count(lit(1i64)).alias("documents")])?
            .project([
                lit(name).alias("dataset"),
                cast(ident("documents"), DataType::Int64).alias("documents"),
                lit(text_column.as_str()).alias("text_column"),
                lit(ScalarValue::Utf8(location)).alias("location"),
            ])?
            .build()
    }
}

/// Columns of `datasets`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("dataset", DataType::Utf8, true),
        Field::new("documents", DataType::Int64, true),
        Field::new("text_column", DataType::Utf8, true),
        Field::new("location", DataType::Utf8, true),
    ]))
}

impl TableProvider for Datasets {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async_method!(scan => plan);
}

impl Datasets {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        _: &'a [Expr],
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let schema = self.schema();
            let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
            let mut plan: Option<LogicalPlan> = None;
            for name in self.schema.table_names() {
                if self.schema.table_type(&name).await? != Some(TableType::Base) {
                    continue;
                }
                let Some(dataset) = self.schema.table(&name).await?.and_then(Dataset::of) else { continue };
                let row = Self::row(&name, &dataset)?;
                plan = Some(match plan {
                    None => row,
                    Some(plan) => LogicalPlanBuilder::from(plan).union(row)?.build()?,
                });
            }
            let Some(plan) = plan else {
                return Ok(Arc::new(EmptyExec::new(Arc::new(schema.project(&columns)?))) as Arc<dyn ExecutionPlan>);
            };
            let outputs = columns.iter().map(|c| ident(schema.field(*c).name()));
            let plan = LogicalPlanBuilder::from(plan).project(outputs)?.build()?;
            session.create_physical_plan(&session.optimize(&plan)?).await
        })
    }
}
