//! States of an aggregate by neuron, from activations, from the store, or from bounds.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, UInt64Array,
    new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, SchemaRef};
use datafusion::error::Result;
use neuroql_analysis::{ValueRange, counts, maxima, minima, second_moments, sums};
use neuroql_pipeline::bounds::Aggregate;

use crate::Error;
use crate::tables::neuron_rows::batch;

/// A partial aggregate by neuron.
#[derive(Debug, Clone)]
pub(crate) struct PartialAggregate {
    pub outputs: Vec<StateColumn>,
    /// Schema of the aggregate it stands for.
    pub schema: SchemaRef,
}

/// A column of the states.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StateColumn {
    pub statistic: Statistic,
    /// The activations that count.
    pub condition: ValueRange,
}

impl StateColumn {
    /// Returns the statistic of all activations.
    pub fn always(statistic: Statistic) -> Self {
        Self { statistic, condition: ValueRange::ALWAYS }
    }

    /// Returns the aggregate that bounds may decide; `None` for layer, neuron, and statistics that bounds do not
    /// decide.
    pub fn aggregate(&self) -> Option<(Aggregate, ValueRange)> {
        let aggregate = match self.statistic {
            Statistic::Max => Aggregate::Max,
            Statistic::Min => Aggregate::Min,
            Statistic::Count => Aggregate::Count,
            _ => return None,
        };
        Some((aggregate, self.condition))
    }
}

/// Content of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Layer,
    Neuron,
    Max,
    Min,
    Sum,
    Count,
    CountUnsigned,
    Mean,
    /// Sum of squared deviations from the mean.
    M2,
}

impl Statistic {
    pub fn data_type(self) -> &'static DataType {
        match self {
            Self::Layer | Self::Neuron => &DataType::Int32,
            Self::Max | Self::Min => &DataType::Float32,
            Self::Sum | Self::Mean | Self::M2 => &DataType::Float64,
            Self::Count => &DataType::Int64,
            Self::CountUnsigned => &DataType::UInt64,
        }
    }
}

impl PartialAggregate {
    /// Names its statistics, for EXPLAIN.
    pub fn describe(&self) -> String {
        let states = self.outputs.iter().filter(|o| !matches!(o.statistic, Statistic::Layer | Statistic::Neuron));
        let describe = |output: &StateColumn| {
            let name = format!("{:?}", output.statistic).to_lowercase();
            if output.condition == ValueRange::ALWAYS { name } else { format!("{name} of some") }
        };
        states.map(describe).collect::<Vec<_>>().join(", ")
    }

    /// Returns true if it is of all activations, as the statistics in the store are.
    pub fn is_of_all(&self) -> bool {
        self.outputs.iter().all(|output| output.condition == ValueRange::ALWAYS)
    }

    /// Returns true if bounds can decide the contribution of an example, or that it contributes nothing.
    pub fn is_decidable(&self) -> bool {
        self.outputs.iter().all(|StateColumn { statistic, condition }| match statistic {
            Statistic::Layer | Statistic::Neuron | Statistic::Count => true,
            Statistic::Max => condition.greatest == f32::INFINITY,
            Statistic::Min => condition.least == f32::NEG_INFINITY,
            _ => false,
        })
    }

    /// Reduces one layer of a batch to states; `values` is `[tokens, neurons]`.
    pub fn reduce(&self, layer: usize, neurons: &[u32], values: &[f32]) -> Result<RecordBatch> {
        let width = neurons.len();
        self.batch(layer, neurons, |StateColumn { statistic, condition }| {
            let some = || counts(values, width, condition);
            let real = |values: Vec<f32>| -> ArrayRef {
                let values = values.into_iter().zip(some()).map(|(value, count)| (count > 0).then_some(value));
                Arc::new(values.collect::<Float32Array>())
            };
            match statistic {
                Statistic::Max => real(maxima(values, width, condition)),
                Statistic::Min => real(minima(values, width, condition)),
                Statistic::Sum => {
                    let sums = sums(values, width, condition).into_iter().zip(some());
                    Arc::new(sums.map(|(sum, count)| (count > 0).then_some(sum)).collect::<Float64Array>())
                }
                Statistic::Count => Arc::new(Int64Array::from_iter_values(some().into_iter().map(|n| n as i64))),
                Statistic::CountUnsigned => Arc::new(UInt64Array::from(some())),
                Statistic::Mean => {
                    let moments = second_moments(values, width, condition);
                    Arc::new(Float64Array::from_iter_values(moments.iter().map(|moments| moments.mean)))
                }
                Statistic::M2 => {
                    let moments = second_moments(values, width, condition);
                    Arc::new(Float64Array::from_iter_values(moments.iter().map(|moments| moments.m2)))
                }
                // The caller fills these in.
                Statistic::Layer | Statistic::Neuron => new_null_array(&DataType::Int32, width),
            }
        })
    }

    /// Makes states of some neurons of a layer over a whole dataset from rows of the store.
    pub fn stored(&self, layer: usize, neurons: &[u32], kept: &RecordBatch) -> Result<RecordBatch> {
        let column = |name: &str| {
            kept.column_by_name(name).ok_or_else(|| Error::Internal(format!("the store has no column {name}")))
        };
        let tokens = column("tokens")?.as_primitive::<Int64Type>().clone();
        let mean = column("mean")?.as_primitive::<Float64Type>().clone();
        let m2 = column("m2")?.as_primitive::<Float64Type>().clone();
        let max = column("max_activation")?.as_primitive::<Float32Type>().clone();
        let min = column("min_activation")?.as_primitive::<Float32Type>().clone();
        self.batch(layer, neurons, |output| match output.statistic {
            Statistic::Max => Arc::new(max.clone()),
            Statistic::Min => Arc::new(min.clone()),
            Statistic::Sum => {
                let sums =
                    mean.iter().zip(tokens.values()).map(|(mean, tokens)| mean.map(|mean| mean * *tokens as f64));
                Arc::new(sums.collect::<Float64Array>())
            }
            Statistic::Count => Arc::new(tokens.clone()),
            Statistic::CountUnsigned => {
                Arc::new(UInt64Array::from_iter_values(tokens.values().iter().map(|n| *n as u64)))
            }
            Statistic::Mean => Arc::new(mean.iter().map(|mean| Some(mean.unwrap_or(0.0))).collect::<Float64Array>()),
            Statistic::M2 => Arc::new(m2.clone()),
            Statistic::Layer | Statistic::Neuron => new_null_array(&DataType::Int32, neurons.len()),
        })
    }

    /// Makes states that hold nothing but counts: `decided` has a list of them for each output.
    pub fn counted(&self, layer: usize, neurons: &[u32], decided: &[Vec<u64>]) -> Result<RecordBatch> {
        let mut decided = decided.iter();
        if decided.len() != self.outputs.len() || !self.is_decidable() {
            return Err(Error::Internal("states other than counts cannot be told from bounds".into()).into());
        }
        self.batch(layer, neurons, |output| match (output.statistic, decided.next()) {
            (Statistic::Count, Some(counts)) => {
                Arc::new(Int64Array::from_iter_values(counts.iter().map(|count| *count as i64)))
            }
            // The caller fills in layer and neuron.
            (other, _) => new_null_array(other.data_type(), neurons.len()),
        })
    }

    fn batch(
        &self,
        layer: usize,
        neurons: &[u32],
        mut make: impl FnMut(StateColumn) -> ArrayRef,
    ) -> Result<RecordBatch> {
        let columns = self.outputs.iter().map(|output| {
            let made = make(*output);
            match output.statistic {
                Statistic::Layer => Arc::new(Int32Array::from_value(layer as i32, neurons.len())) as ArrayRef,
                Statistic::Neuron => Arc::new(Int32Array::from_iter_values(neurons.iter().map(|n| *n as i32))),
                _ => made,
            }
        });
        let columns: Vec<ArrayRef> = columns.collect();
        debug_assert!(columns.iter().all(|column| column.len() == neurons.len()));
        batch(&self.schema, columns, neurons.len())
    }
}
