//! Relations with parameters.
//!
//! A parameter is a *key column*: `top_neurons(model => 'toy', text => $1)` is short for
//! `top_neurons WHERE model = 'toy' AND text = $1`, so bind parameters, EXPLAIN and every client work. A relation is
//! defined by a logical plan over other tables, which DataFusion optimises like any query.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor};

use crate::Error;
use crate::analyze::Analyze;
use crate::build_graphs::BuildGraphs;
use crate::evaluate_graphs::EvaluateGraphs;
use crate::holdings::Holdings;
use crate::model_table::{OfAll, model_table};
use crate::predicate::{can_evaluate, equal_to};
use crate::simulate_graphs::SimulateGraphs;
use crate::top_neurons::TopNeurons;

/// A relation with parameters.
pub(crate) trait Relation: Debug + Send + Sync {
    /// Its name in the default schema.
    fn name(&self) -> &'static str;

    /// Its parameters, in the order of a call without names.
    fn parameters(&self) -> Vec<Parameter>;

    /// The columns of a call, in order. They may have the names of parameters: what the plan says of them counts.
    fn outputs(&self) -> Vec<Field>;

    /// The plan that yields [`Relation::outputs`], given a value for each parameter.
    fn plan(&self, holdings: &Arc<Holdings>, values: &[ScalarValue]) -> Result<LogicalPlan>;
}

/// A parameter of a relation.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub name: &'static str,
    pub data_type: DataType,
    /// Taken if the query does not say.
    pub default: Option<ScalarValue>,
}

/// All relations.
pub(crate) fn relations() -> Vec<Arc<dyn Relation>> {
    vec![
        Arc::new(Analyze),
        Arc::new(BuildGraphs),
        Arc::new(EvaluateGraphs),
        Arc::new(SimulateGraphs),
        Arc::new(TopNeurons),
    ]
}

/// The relation of this name.
pub(crate) fn find_relation(name: &str) -> Option<Arc<dyn Relation>> {
    relations().into_iter().find(|relation| relation.name() == name)
}

impl dyn Relation {
    /// It as a table: parameters first.
    pub fn table(self: Arc<Self>, holdings: Arc<Holdings>) -> Arc<dyn TableProvider> {
        Arc::new(RelationTable { relation: self, holdings })
    }
}

#[derive(Debug)]
struct RelationTable {
    relation: Arc<dyn Relation>,
    holdings: Arc<Holdings>,
}

impl RelationTable {
    fn is_parameter(&self, filter: &Expr) -> bool {
        self.relation.parameters().iter().any(|p| given(filter, p.name).is_some())
    }

    /// A filter with the values of parameters in their place, but of those that are columns of the plan too.
    fn with_values(&self, filter: &Expr, values: &[ScalarValue]) -> Result<Expr> {
        let (parameters, outputs) = (self.relation.parameters(), self.relation.outputs());
        let is_output = |name: &str| outputs.iter().any(|field| field.name() == name);
        let replaced = filter.clone().transform(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            let value = parameters.iter().zip(values).find(|(p, _)| p.name == column.name && !is_output(p.name));
            Ok(Transformed::yes(match value {
                Some((_, value)) => lit(value.clone()),
                None => ident(&column.name),
            }))
        });
        replaced.map(|replaced| replaced.data)
    }

    /// The value each parameter has.
    fn values(&self, filters: &[Expr]) -> Result<Vec<ScalarValue>> {
        let relation = self.relation.name();
        let value = |parameter: Parameter| {
            let mut given = filters.iter().filter_map(|filter| given(filter, parameter.name));
            match (given.next(), given.next(), parameter.default) {
                (Some(a), Some(b), _) if a != b => {
                    let reason = format!("is asked to be both {a} and {b}");
                    Err(Error::InvalidParameter { relation, parameter: parameter.name.into(), reason }.into())
                }
                (Some(value), ..) => value.cast_to(&parameter.data_type),
                (None, _, Some(default)) => Ok(default),
                (None, _, None) => Err(Error::MissingParameter { relation, parameter: parameter.name }.into()),
            }
        };
        self.relation.parameters().into_iter().map(value).collect()
    }
}

/// The value that a filter gives to a parameter. The optimizer makes `p = true` of a boolean to `p`.
fn given(filter: &Expr, parameter: &str) -> Option<ScalarValue> {
    let is_parameter = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == parameter);
    match filter {
        Expr::Not(inner) if is_parameter(inner) => Some(false.into()),
        filter if is_parameter(filter) => Some(true.into()),
        filter => equal_to(filter, parameter).cloned(),
    }
}

#[async_trait]
impl TableProvider for RelationTable {
    fn schema(&self) -> SchemaRef {
        let parameters = self.relation.parameters();
        let outputs = self.relation.outputs().into_iter();
        let outputs: Vec<Field> = outputs.filter(|f| !parameters.iter().any(|p| p.name == f.name())).collect();
        let parameters = parameters.into_iter().map(|p| Field::new(p.name, p.data_type, true));
        Arc::new(Schema::new(parameters.chain(outputs).collect::<Vec<_>>()))
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            // Others are applied inside, where the plan may make use of them.
            if self.is_parameter(filter) || can_evaluate(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let values = self.values(filters)?;
        let plan = self.relation.plan(&self.holdings, &values)?;
        let schema = self.schema();
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let own: Vec<Field> = self.relation.outputs();
        let outputs = columns.iter().map(|c| {
            let name = schema.field(*c).name();
            match values.get(*c) {
                Some(value) if !own.iter().any(|field| field.name() == name) => lit(value.clone()).alias(name),
                _ => ident(name),
            }
        });
        let mut plan = LogicalPlanBuilder::from(plan);
        for filter in filters.iter().filter(|filter| !self.is_parameter(filter)) {
            plan = plan.filter(self.with_values(filter, &values)?)?;
        }
        let plan = plan.project(outputs)?.limit(0, limit)?.build()?;
        session.create_physical_plan(&session.optimize(&plan)?).await
    }
}

/// Plans `relation(name => value, …)` and `table(name => value, …)` for the tables of this crate.
#[derive(Debug)]
pub struct Relations;

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, args: Some(arguments), alias, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(callee) = context.object_name_to_table_reference(name.clone()).ok().and_then(Callee::find) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let source = context.context_provider().get_table_source(callee.reference.clone())?;
        let schema = source.schema();
        let mut plan = LogicalPlanBuilder::scan(callee.reference.clone(), source, None)?;
        for (position, argument) in arguments.args.iter().enumerate() {
            let (name, value) = callee.argument(position, argument)?;
            let Ok(field) = schema.field_with_name(&name) else {
                return plan_err!("{}() has no parameter \"{name}\"", callee.reference);
            };
            let mut value = context.sql_to_expr(value, &DFSchema::empty())?;
            if let Expr::Placeholder(Placeholder { field: parameter, .. }) = &mut value {
                *parameter = Some(Arc::new(field.clone().with_nullable(true)));
            }
            let column = Expr::Column(Column::new(Some(callee.reference.clone()), name));
            plan = plan.filter(column.eq(value))?;
        }
        let outputs = callee.outputs.unwrap_or_else(|| schema.fields().iter().map(|f| f.name().clone()).collect());
        let column = |name| Expr::Column(Column::new(Some(callee.reference.clone()), name));
        let outputs: Vec<Expr> = outputs.into_iter().map(column).collect();
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan.project(outputs)?.build()?, alias.clone()))))
    }
}

/// What a call names.
struct Callee {
    reference: TableReference,
    /// Names for arguments without one; none may be left unnamed for plain tables.
    parameters: Vec<&'static str>,
    /// Its columns; `None` is all that there are.
    outputs: Option<Vec<String>>,
}

impl Callee {
    fn find(reference: TableReference) -> Option<Self> {
        let (parameters, outputs) = match find_relation(reference.table()) {
            Some(relation) => {
                let outputs = relation.outputs().iter().map(|f| f.name().clone()).collect();
                (relation.parameters().into_iter().map(|p| p.name).collect(), Some(outputs))
            }
            None => {
                model_table(reference.table())?;
                (Vec::new(), None)
            }
        };
        Some(Self { reference, parameters, outputs })
    }

    /// Name and value of an argument.
    fn argument(&self, position: usize, argument: &FunctionArg) -> Result<(String, ast::Expr)> {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => match self.parameters.get(position) {
                Some(name) => Ok(((*name).to_owned(), value.clone())),
                None => plan_err!("{}() has no parameter {}: name => value", self.reference, position + 1),
            },
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }
            | FunctionArg::ExprNamed { name: ast::Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                Ok((name.value.to_lowercase(), value.clone()))
            }
            other => plan_err!("{}() does not take the argument {other}", self.reference),
        }
    }
}

/// A scan of a table over all models, to build relations on.
pub(crate) fn scan_all(table: &str, holdings: &Arc<Holdings>) -> Result<LogicalPlanBuilder> {
    let table = model_table(table).ok_or_else(|| Error::Internal(format!("there is no table {table}")))?;
    let name = table.name();
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(OfAll { table, holdings: Arc::clone(holdings) })), None)
}
