//! Neurons that a predicate with parameters of a prepared statement selects, which have values while it runs.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::scalar::ScalarValue;
use neuroql_model::Model;
use neuroql_pipeline::Selection;

use crate::tables::predicate::{Predicate, select_neurons};

/// A predicate on `layer` and `neuron` of a model.
#[derive(Debug, Clone)]
pub(crate) struct DeferredPlaces {
    predicate: Predicate,
    /// Predicate that selects one neuron of each layer at most.
    one: Option<OneNeuron>,
}

/// A predicate with `neuron = …` in it: it is evaluated on a few places only.
#[derive(Debug, Clone)]
struct OneNeuron {
    /// Parts of the predicate, over the columns of places.
    parts: Vec<Arc<dyn PhysicalExpr>>,
    /// Expression that `neuron` is equal to.
    neuron: Arc<dyn PhysicalExpr>,
    /// Expression that `layer` is equal to, if the predicate says so.
    layer: Option<Arc<dyn PhysicalExpr>>,
    /// Some place, to evaluate expressions that read none.
    any: RecordBatch,
}

impl DeferredPlaces {
    pub fn new(predicate: Predicate) -> Result<Self> {
        let one = OneNeuron::of(&predicate)?;
        Ok(Self { predicate, one })
    }

    /// Returns the places, for the statement that runs now.
    pub fn select(&self, model: &Model) -> Result<Selection> {
        match &self.one {
            Some(one) => match one.select(model)? {
                Some(selection) => Ok(selection),
                None => select_neurons(model, &self.predicate),
            },
            None => select_neurons(model, &self.predicate),
        }
    }
}

impl OneNeuron {
    fn of(predicate: &Predicate) -> Result<Option<Self>> {
        let equal_to = |column: &str| predicate.parts().iter().find_map(|part| equal_to(part, column));
        let Some(neuron) = equal_to("neuron") else { return Ok(None) };
        let any = places(&[0], 0)?;
        let bind = |part: &Arc<dyn PhysicalExpr>| reassign_expr_columns(Arc::clone(part), any.schema_ref());
        let parts = predicate.parts().iter().map(bind).collect::<Result<_>>()?;
        Ok(Some(Self { parts, neuron, layer: equal_to("layer"), any }))
    }

    /// Returns the places; `None` if another way must be taken to find them.
    fn select(&self, model: &Model) -> Result<Option<Selection>> {
        let width = model.neurons_per_layer();
        let neuron = match self.value(&self.neuron) {
            Value::Number(neuron) => neuron,
            Value::Null => return Ok(Some(Selection::default())),
            Value::Unknown => return Ok(None),
        };
        let layers: Vec<i32> = match self.layer.as_ref().map(|layer| self.value(layer)) {
            Some(Value::Number(layer)) => i32::try_from(layer).into_iter().collect(),
            Some(Value::Null) => return Ok(Some(Selection::default())),
            Some(Value::Unknown) => return Ok(None),
            None => model.layers_read().map(|layer| layer as i32).collect(),
        };
        let (read, neuron) = (model.layers_read(), usize::try_from(neuron).ok().filter(|neuron| *neuron < width));
        let layers: Vec<i32> =
            layers.into_iter().filter(|l| usize::try_from(*l).is_ok_and(|l| read.contains(&l))).collect();
        let Some(neuron) = neuron.filter(|_| !layers.is_empty()) else { return Ok(Some(Selection::default())) };
        let batch = places(&layers, neuron as i32)?;
        let mut passes = vec![true; layers.len()];
        for part in &self.parts {
            let value = part.evaluate(&batch)?.into_array(layers.len())?;
            let value = value.as_boolean();
            for (row, passes) in passes.iter_mut().enumerate() {
                *passes &= value.is_valid(row) && value.value(row);
            }
        }
        let selected = layers.iter().zip(passes).filter(|(_, passes)| *passes);
        let all = |neuron: u32| if width == 1 { None } else { Some(vec![neuron]) };
        Ok(Some(selected.map(|(layer, _)| (*layer as usize, all(neuron as u32))).collect()))
    }

    /// Evaluates an expression that reads no column.
    fn value(&self, expr: &Arc<dyn PhysicalExpr>) -> Value {
        // An error may be one of places that are not selected.
        let Ok(ColumnarValue::Scalar(value)) = expr.evaluate(&self.any) else { return Value::Unknown };
        let number = match value {
            ScalarValue::Int8(number) => number.map(i64::from),
            ScalarValue::Int16(number) => number.map(i64::from),
            ScalarValue::Int32(number) => number.map(i64::from),
            ScalarValue::Int64(number) => number,
            _ => return Value::Unknown,
        };
        number.map_or(Value::Null, Value::Number)
    }
}

/// Expression that a column is equal to.
enum Value {
    Number(i64),
    Null,
    Unknown,
}

/// Makes a batch of the places of a neuron in some layers.
fn places(layers: &[i32], neuron: i32) -> Result<RecordBatch> {
    let field = |name: &str| Field::new(name, DataType::Int32, false);
    let schema = Arc::new(Schema::new(vec![field("layer"), field("neuron")]));
    let neurons: ArrayRef = Arc::new(Int32Array::from_value(neuron, layers.len()));
    Ok(RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(layers.to_vec())), neurons])?)
}

/// Returns what a part of a predicate says that a column is equal to, if it is an expression that reads no column.
fn equal_to(part: &Arc<dyn PhysicalExpr>, column: &str) -> Option<Arc<dyn PhysicalExpr>> {
    let equality = part.downcast_ref::<BinaryExpr>().filter(|binary| *binary.op() == Operator::Eq)?;
    let other = match (is_column(equality.left(), column), is_column(equality.right(), column)) {
        (true, false) => equality.right(),
        (false, true) => equality.left(),
        _ => return None,
    };
    collect_columns(other).is_empty().then(|| Arc::clone(other))
}

/// Returns true for a column, or a cast of it that keeps all its values.
fn is_column(expr: &Arc<dyn PhysicalExpr>, name: &str) -> bool {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return matches!(cast.cast_type(), DataType::Int32 | DataType::Int64) && is_column(cast.expr(), name);
    }
    expr.downcast_ref::<Column>().is_some_and(|column| column.name() == name)
}

#[cfg(test)]
mod tests {
    use datafusion::physical_expr::expressions::{cast, col, lit};
    use neuroql_model::Options;

    use super::*;

    #[test]
    fn the_same_places_as_of_all_neurons() {
        let toy = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/toy");
        let model = Model::load("toy", toy, &Options::default(), &()).unwrap();
        let schema = places(&[], 0).unwrap().schema();
        let compare = |left, op, right| Arc::new(BinaryExpr::new(left, op, right)) as Arc<dyn PhysicalExpr>;
        let column = |name: &str| col(name, &schema).unwrap();
        let wide = |name: &str| cast(column(name), &schema, DataType::Int64).unwrap();
        let is = |name: &str, value: Option<i32>| compare(column(name), Operator::Eq, lit(ScalarValue::Int32(value)));
        let is_wide = |name: &str, value: i64| compare(lit(value), Operator::Eq, wide(name));
        let sum = compare(column("layer"), Operator::Plus, column("neuron"));
        let predicates: Vec<(bool, Vec<Arc<dyn PhysicalExpr>>)> = vec![
            (true, vec![is("layer", Some(1)), is("neuron", Some(5))]),
            (true, vec![is("neuron", Some(511))]),
            (true, vec![is("neuron", Some(512))]),
            (true, vec![is("neuron", Some(-1)), is("layer", Some(0))]),
            (true, vec![is("neuron", Some(5)), is("layer", Some(2))]),
            (true, vec![is("neuron", None)]),
            (true, vec![is("neuron", Some(5)), is("layer", None)]),
            (true, vec![is("neuron", Some(5)), is("neuron", Some(6))]),
            (true, vec![is_wide("neuron", 7), is_wide("layer", 1)]),
            (true, vec![is_wide("neuron", 1 << 40)]),
            (true, vec![is_wide("neuron", 7), is_wide("layer", i64::MIN)]),
            (true, vec![is("neuron", Some(6)), compare(sum.clone(), Operator::Eq, lit(7))]),
            (false, vec![compare(sum, Operator::Eq, lit(7))]),
            (false, vec![is("layer", Some(1)), compare(column("neuron"), Operator::Lt, lit(3))]),
            (false, vec![compare(column("neuron"), Operator::Eq, column("layer"))]),
        ];
        for (is_one, parts) in predicates {
            let predicate = Predicate::new(parts);
            let places = DeferredPlaces::new(predicate.clone()).unwrap();
            assert_eq!(places.one.is_some(), is_one, "{predicate}");
            assert_eq!(places.select(&model).unwrap(), select_neurons(&model, &predicate).unwrap(), "{predicate}");
        }
    }
}
