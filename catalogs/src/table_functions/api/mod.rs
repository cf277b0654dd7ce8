//! Table functions with parameters.
//!
//! A parameter is a *key column*: `top_neurons(model => 'toy', text => $1)` is short for
//! `top_neurons WHERE model = 'toy' AND text = $1`, so bind parameters, EXPLAIN and every client work. A table function
//! is defined by a logical plan over other tables, which DataFusion optimises like any query.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;
use neuroql_schema::{Rights, Role};

use crate::Error;
use crate::async_method::async_method;
use crate::state::EngineState;
use crate::tables::predicate::can_evaluate;

mod parameter_joins;
mod parameters;
mod ranges;
mod streaming;

pub use parameter_joins::CheckParameterJoins;
use parameters::given;
pub(crate) use parameters::{Parameter, ParameterValues};
pub(crate) use ranges::Ranges;
pub(crate) use streaming::{
    RowProducer, RowSender, ScanOptions, StreamingTableFunction, producer_plan, streaming_plan, unfiltered_plan,
};

/// A table function.
pub(crate) trait TableFunction: Debug + Send + Sync {
    /// Its name in the default schema.
    fn name(&self) -> &'static str;

    /// Its parameters, in the order of a call without names.
    fn parameters(&self) -> Vec<Parameter>;

    /// Names of its parameters, in the order of a call with `_arguments` arguments without names.
    fn positional(&self, _arguments: usize) -> Vec<&'static str> {
        self.parameters().into_iter().map(|parameter| parameter.name).collect()
    }

    /// The columns of a call, in order. A column with the name of a parameter's column has the value that the plan
    /// gives it.
    fn outputs(&self) -> Vec<Field>;

    /// Returns the least role that may read it: a superuser's unless it says otherwise, an analyst's where reading keeps
    /// results, a reader's where it changes nothing and reads no file that its caller names.
    fn requires(&self) -> Role {
        Role::Superuser
    }

    /// The plan that yields [`TableFunction::outputs`], given a value for each parameter.
    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan>;
}

impl dyn TableFunction {
    /// Returns it as a table: parameters first.
    pub fn table(self: Arc<Self>, engine: Arc<EngineState>) -> Arc<dyn TableProvider> {
        Arc::new(TableFunctionProvider { function: self, engine })
    }
}

/// A table function as a table.
#[derive(Debug)]
pub(crate) struct TableFunctionProvider {
    function: Arc<dyn TableFunction>,
    engine: Arc<EngineState>,
}

impl TableFunctionProvider {
    pub(crate) fn name(&self) -> &'static str {
        self.function.name()
    }

    fn is_parameter(&self, filter: &Expr) -> bool {
        self.function.parameters().iter().any(|p| given(filter, p.column).is_some())
    }

    /// Returns an error if the filter reads a parameter that no filter gives a value: a parameter takes one value, and
    /// comparing its default would leave out rows that were asked for.
    fn check_filter(&self, filter: &Expr, filters: &[Expr]) -> Result<()> {
        let (function, outputs) = (self.function.name(), self.function.outputs());
        let columns = filter.column_refs();
        let lacks_value = |parameter: &Parameter| {
            let column = parameter.column;
            // NULL leaves nothing out, and the column then has the values of the plan.
            let is_output = outputs.iter().any(|field| field.name() == column);
            let is_all = parameter.default.as_ref().is_some_and(ScalarValue::is_null);
            columns.iter().any(|about| about.name == column)
                && !(is_output && is_all)
                && !filters.iter().any(|filter| given(filter, column).is_some())
        };
        match self.function.parameters().into_iter().find(lacks_value) {
            Some(Parameter { name, .. }) => {
                let reason = format!("takes one value, as in \"{function}({name} => …)\", and gets none by {filter}");
                Err(Error::InvalidParameter { function, parameter: name.into(), reason }.into())
            }
            None => Ok(()),
        }
    }

    /// Replaces parameters in a filter by their values, except those that are columns of the plan too.
    fn with_values(&self, filter: &Expr, values: &ParameterValues) -> Result<Expr> {
        let outputs = self.function.outputs();
        let is_output = |name: &str| outputs.iter().any(|field| field.name() == name);
        let replaced = filter.clone().transform(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            Ok(Transformed::yes(match values.in_column(&column.name) {
                Some(value) if !is_output(&column.name) => lit(value.clone()),
                _ => ident(&column.name),
            }))
        });
        replaced.map(|replaced| replaced.data)
    }
}

impl TableProvider for TableFunctionProvider {
    fn schema(&self) -> SchemaRef {
        let parameters = self.function.parameters();
        let outputs = self.function.outputs().into_iter();
        let outputs: Vec<Field> = outputs.filter(|f| !parameters.iter().any(|p| p.column == f.name())).collect();
        let parameters = parameters.into_iter().map(|p| Field::new(p.column, p.data_type, true));
        Arc::new(Schema::new(parameters.chain(outputs).collect::<Vec<_>>()))
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            // Filters on other columns are applied inside, where the plan may use them.
            if self.is_parameter(filter) || can_evaluate(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async_method!(scan => plan);
}

impl TableFunctionProvider {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let rights = Rights::of(session.config_options());
            let (function, role) = (self.function.name(), self.function.requires());
            if !rights.has(role) {
                return Err(Error::RoleRequired { function, role }.into());
            }
            let values = ParameterValues::of(function, self.function.parameters(), filters)?.with_rights(rights);
            let plan = self.function.plan(&self.engine, &values)?;
            let schema = self.schema();
            let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
            let own: Vec<Field> = self.function.outputs();
            let outputs = columns.iter().map(|c| {
                let name = schema.field(*c).name();
                match values.in_column(name) {
                    Some(value) if !own.iter().any(|field| field.name() == name) => lit(value.clone()).alias(name),
                    _ => ident(name),
                }
            });
            let mut plan = LogicalPlanBuilder::from(plan);
            for filter in filters.iter().filter(|filter| !self.is_parameter(filter)) {
                self.check_filter(filter, filters)?;
                plan = plan.filter(self.with_values(filter, &values)?)?;
            }
            let plan = plan.project(outputs)?.limit(0, limit)?.build()?;
            session.create_physical_plan(&session.optimize(&plan)?).await
        })
    }
}

/// Returns the name of the table function that a plan's node reads, and the least role that may read it.
pub fn required_role(node: &LogicalPlan) -> Option<(&'static str, Role)> {
    let LogicalPlan::TableScan(scan) = node else { return None };
    let provider = source_as_provider(&scan.source).ok()?;
    let TableFunctionProvider { function, .. } = provider.downcast_ref::<TableFunctionProvider>()?;
    Some((function.name(), function.requires()))
}
