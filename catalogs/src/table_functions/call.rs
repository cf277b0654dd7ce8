//! Calls of table functions and tables.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, TableReference, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, Operator, binary_expr};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor};

use crate::registry::{find_table_function, model_table};
use crate::table_functions::api::Parameter;

/// Plans `function(name => value, …)` and `table(name => value, …)` for the tables of this crate.
#[derive(Debug)]
pub struct TableFunctionPlanner;

impl RelationPlanner for TableFunctionPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, args: Some(arguments), alias, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(callee) = context
            .object_name_to_table_reference(name.clone())
            .ok()
            .and_then(|name| CalledFunction::find(name, arguments.args.len()))
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let source = context.context_provider().get_table_source(callee.reference.clone())?;
        let schema = source.schema();
        let mut plan = LogicalPlanBuilder::scan(callee.reference.clone(), source, None)?;
        let mut given = HashSet::new();
        for (position, argument) in arguments.args.iter().enumerate() {
            let (name, value) = callee.argument(position, argument)?;
            let column = callee.column(&name);
            if !given.insert(column.clone()) {
                return plan_err!("{}(): argument name \"{name}\" used more than once", callee.reference);
            }
            let Ok(field) = schema.field_with_name(&column) else {
                return plan_err!("{}() has no parameter \"{name}\"", callee.reference);
            };
            let mut value = context.sql_to_expr(value, &DFSchema::empty())?;
            if let Expr::Placeholder(Placeholder { field: parameter, .. }) = &mut value {
                *parameter = Some(Arc::new(field.clone().with_nullable(true)));
            }
            let column = Expr::Column(Column::new(Some(callee.reference.clone()), column));
            plan = plan.filter(callee.gives(column, value))?;
        }
        let outputs = callee.outputs.unwrap_or_else(|| schema.fields().iter().map(|f| f.name().clone()).collect());
        let column = |name| Expr::Column(Column::new(Some(callee.reference.clone()), name));
        let outputs: Vec<Expr> = outputs.into_iter().map(column).collect();
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan.project(outputs)?.build()?, alias.clone()))))
    }
}

/// Table function or table that a call names.
struct CalledFunction {
    reference: TableReference,
    /// Names for arguments without one; empty for plain tables, which take none.
    positional: Vec<&'static str>,
    parameters: Vec<Parameter>,
    /// Columns of the result; `None` for all.
    outputs: Option<Vec<String>>,
}

impl CalledFunction {
    fn find(reference: TableReference, arguments: usize) -> Option<Self> {
        let (positional, parameters, outputs) = match find_table_function(reference.table()) {
            Some(function) => {
                let outputs = function.outputs().iter().map(|f| f.name().clone()).collect();
                (function.positional(arguments), function.parameters(), Some(outputs))
            }
            None => {
                model_table(reference.table())?;
                (Vec::new(), Vec::new(), None)
            }
        };
        Some(Self { reference, positional, parameters, outputs })
    }

    /// Returns the filter that gives a column its value. NULL can be the value of a parameter, and `=` is never true of
    /// it.
    fn gives(&self, column: Expr, value: Expr) -> Expr {
        let is_something = matches!(&value, Expr::Literal(value, _) if !value.is_null());
        let equal = if is_something || self.parameters.is_empty() { Operator::Eq } else { Operator::IsNotDistinctFrom };
        binary_expr(column, equal, value)
    }

    /// Returns the column of a parameter; a name that is no parameter's is taken for a column.
    fn column(&self, name: &str) -> String {
        self.parameters.iter().find(|p| p.name == name).map_or(name, |p| p.column).to_owned()
    }

    /// Returns name and value of an argument.
    fn argument(&self, position: usize, argument: &FunctionArg) -> Result<(String, ast::Expr)> {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => match self.positional.get(position) {
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
