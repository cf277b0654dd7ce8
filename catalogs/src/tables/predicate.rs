//! Filters that a scan applies itself, to avoid computing rows that they drop.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, Int32Array, RecordBatch};
use datafusion::arrow::compute::{and, cast, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::scalar::ScalarValue;
use neuroql_model::Model;
use neuroql_pipeline::{RowFilter, Selection};

use crate::parameter::is_parameter;
use crate::tables::deferred_places::DeferredPlaces;

/// Returns true if a scan may evaluate this filter on batches of these columns alone.
pub(crate) fn can_evaluate_on(filter: &Expr, columns: &[&str]) -> bool {
    filter.column_refs().iter().all(|column| columns.contains(&column.name.as_str())) && can_evaluate(filter)
}

/// Pushes down filters that read no other columns than these.
pub(crate) fn supports_columns(filter: &Expr, columns: &[&str]) -> TableProviderFilterPushDown {
    match can_evaluate_on(filter, columns) {
        true => TableProviderFilterPushDown::Exact,
        false => TableProviderFilterPushDown::Unsupported,
    }
}

/// Returns true if a scan may evaluate this filter on its own batches.
pub(crate) fn can_evaluate(filter: &Expr) -> bool {
    let mut fine = true;
    let walked = filter.apply(|expr| {
        fine &= match expr {
            // An async function cannot be evaluated inside a scan. A parameter of a plan that is kept has one value.
            Expr::ScalarFunction(ScalarFunction { func, .. }) => {
                let is_volatile = func.signature().volatility == Volatility::Volatile;
                func.as_async().is_none() && (!is_volatile || is_parameter(func))
            }
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..) => false,
            other => !other.is_volatile_node(),
        };
        Ok(if fine { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    fine && walked.is_ok()
}

/// Returns the values that `column = 'a'`, `column IN ('a', 'b')` or a chain of them by OR allows, in order; `None` for
/// any other filter.
pub(crate) fn allowed_strings(filter: &Expr, column: &str) -> Option<Vec<String>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(c) if c.name == column);
    let string = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let other = if is_column(&binary.left) {
                &binary.right
            } else if is_column(&binary.right) {
                &binary.left
            } else {
                return None;
            };
            Some(vec![string(other)?])
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let mut values = allowed_strings(&binary.left, column)?;
            values.extend(allowed_strings(&binary.right, column)?);
            Some(values)
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => list.list.iter().map(string).collect(),
        // `column = ANY(ARRAY[…])`
        Expr::ScalarFunction(function) if function.name() == "array_has" => match function.args.as_slice() {
            [Expr::Literal(ScalarValue::List(list), _), other] if is_column(other) && list.len() == 1 => {
                let values = list.is_valid(0).then(|| cast(&list.value(0), &DataType::Utf8)).transpose().ok()?;
                Some(values.map_or_else(Vec::new, |values| {
                    values.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
                }))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A conjunction ready to evaluate on batches that hold the columns it names.
#[derive(Debug, Clone)]
pub(crate) struct Predicate {
    parts: Vec<Arc<dyn PhysicalExpr>>,
    columns: BTreeSet<String>,
}

impl Predicate {
    /// Compiles filters over a table of this schema.
    pub fn compile(filters: &[Expr], schema: &SchemaRef, session: &dyn Session) -> Result<Self> {
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        let parts =
            filters.iter().map(|f| session.create_physical_expr(f.clone(), &df_schema)).collect::<Result<Vec<_>>>()?;
        Ok(Self::new(parts))
    }

    /// A conjunction of physical expressions; their columns are found by name.
    pub fn new(parts: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        let columns = parts.iter().flat_map(collect_columns).map(|c| c.name().to_owned()).collect();
        Self { parts, columns }
    }

    /// Returns the conjunction of both.
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self.columns.extend(other.columns);
        self
    }

    /// Parts of the conjunction.
    pub fn parts(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.parts
    }

    /// Returns true if it lets everything pass.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns it as a filter of the pipeline; `None` if it lets everything pass.
    pub fn filter(&self) -> Option<Arc<dyn RowFilter>> {
        (!self.is_empty()).then(|| Arc::new(self.clone()) as Arc<dyn RowFilter>)
    }
}

impl RowFilter for Predicate {
    fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut mask: Option<BooleanArray> = None;
        for part in &self.parts {
            let part = reassign_expr_columns(Arc::clone(part), batch.schema_ref())?;
            let value = part.evaluate(batch)?.into_array(batch.num_rows())?;
            let value = value.as_boolean();
            let value = if value.null_count() > 0 { prep_null_mask_filter(value) } else { value.clone() };
            mask = Some(match mask {
                Some(mask) => and(&mask, &value)?,
                None => value,
            });
        }
        Ok(mask.unwrap_or_else(|| BooleanArray::from(vec![true; batch.num_rows()])))
    }
}

impl std::fmt::Display for Predicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { "" } else { " AND " })?;
        }
        Ok(())
    }
}

/// Layers and neurons of a model, as a predicate selects them.
#[derive(Debug, Clone)]
pub(crate) enum NeuronSelection {
    Known(Selection),
    /// A predicate with parameters of a prepared statement, which have values while it runs.
    Deferred(DeferredPlaces),
}

impl NeuronSelection {
    pub fn new(model: &Model, predicate: Predicate) -> Result<Self> {
        match predicate.parts.iter().any(is_volatile) {
            true => DeferredPlaces::new(predicate).map(Self::Deferred),
            false => select_neurons(model, &predicate).map(Self::Known),
        }
    }

    /// The places, for the statement that runs now.
    pub fn select(&self, model: &Model) -> Result<Selection> {
        match self {
            Self::Known(selection) => Ok(selection.clone()),
            Self::Deferred(places) => places.select(model),
        }
    }

    /// Number of layers, if it is known before the statement runs.
    pub fn layers(&self) -> Option<usize> {
        match self {
            Self::Known(selection) => Some(selection.len()),
            Self::Deferred(_) => None,
        }
    }
}

/// Applies a predicate on `layer` and `neuron` to a model's neurons.
pub(crate) fn select_neurons(model: &Model, predicate: &Predicate) -> Result<Selection> {
    let (layers, width, read) = (model.config().layers, model.neurons_per_layer(), model.layers_read());
    let is_of_layer =
        |part: &Arc<dyn PhysicalExpr>| collect_columns(part).iter().all(|column| column.name() == "layer");
    let (of_layers, others): (Vec<_>, Vec<_>) = predicate.parts.iter().cloned().partition(is_of_layer);
    let (of_layers, others) = (Predicate::new(of_layers), Predicate::new(others));
    let field = |name: &str| Field::new(name, DataType::Int32, false);
    let schema = Arc::new(Schema::new(vec![field("layer")]));
    let numbers = Arc::new(Int32Array::from_iter_values(0..layers as i32));
    let mask = of_layers.evaluate(&RecordBatch::try_new(schema, vec![numbers])?)?;
    let layers = mask.values().set_indices().filter(|layer| read.contains(layer));
    if others.is_empty() {
        return Ok(layers.map(|layer| (layer, None)).collect());
    }
    let schema = Arc::new(Schema::new(vec![field("layer"), field("neuron")]));
    let neurons = Arc::new(Int32Array::from_iter_values(0..width as i32));
    let mut selection = Vec::new();
    for layer in layers {
        let layers = Arc::new(Int32Array::from_value(layer as i32, width));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![layers, Arc::clone(&neurons) as _])?;
        let mask = others.evaluate(&batch)?;
        match mask.true_count() {
            0 => {}
            count if count == mask.len() => selection.push((layer, None)),
            _ => selection.push((layer, Some(mask.values().set_indices().map(|n| n as u32).collect()))),
        }
    }
    Ok(selection)
}

/// Keeps of a selection what another predicate lets pass too.
pub(crate) fn restrict(model: &Model, selection: Selection, predicate: &Predicate) -> Result<Selection> {
    let others = select_neurons(model, predicate)?;
    let both = selection.into_iter().filter_map(|(layer, neurons)| {
        let (_, other) = others.iter().find(|(l, _)| *l == layer)?;
        let neurons = match (neurons, other) {
            (neurons, None) => neurons,
            (None, Some(other)) => Some(other.clone()),
            (Some(mut neurons), Some(other)) => {
                neurons.retain(|n| other.binary_search(n).is_ok());
                Some(neurons)
            }
        };
        neurons.as_ref().is_none_or(|n| !n.is_empty()).then_some((layer, neurons))
    });
    Ok(both.collect())
}
