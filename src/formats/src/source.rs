//! The common interface of imports: their tables, and reading of rows.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::{Description, Item, Place, Result, Table};

/// Greatest number of layers of a model.
pub const MOST_LAYERS: u32 = 4096;

/// Greatest number of neurons of a layer.
pub const MOST_NEURONS: u32 = 1 << 20;

/// Neurons of one layer that a query asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSelection {
    /// The layer.
    pub layer: u32,
    /// Neurons in ascending order; `None` for all.
    pub neurons: Option<Arc<[u32]>>,
}

impl LayerSelection {
    /// Returns true if a neuron of the layer is asked for.
    pub fn has(&self, neuron: u32) -> bool {
        self.neurons.as_ref().is_none_or(|neurons| neurons.binary_search(&neuron).is_ok())
    }
}

/// A query's request to a source.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Table that is read.
    pub table: Table,
    /// Layers in ascending order, with their neurons.
    pub selection: Vec<LayerSelection>,
    /// Names of the columns that are read; others may be `None`.
    pub columns: &'a [&'a str],
}

impl Request<'_> {
    /// Returns true if one of these columns is read.
    pub fn reads(&self, columns: &[&str]) -> bool {
        self.columns.iter().any(|column| columns.contains(column))
    }
}

/// When a file or folder was last changed, and its length.
pub type Version = (Option<std::time::SystemTime>, u64);

/// Takes rows, and breaks when it wants no more.
pub type Sink<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

/// Published data about the neurons of one model.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Facts about the model.
    fn description(&self) -> &Description;

    /// Tables that it has data for.
    fn tables(&self) -> Vec<Table>;

    /// Layers that it may have data for, in ascending order.
    ///
    /// # Errors
    /// Returns an error if its files cannot be listed.
    fn layers(&self) -> Result<Vec<u32>>;

    /// Number that all neurons of its layers are less than.
    fn width(&self) -> u32;

    /// Version of the files that graphs are read from; it changes when they do.
    ///
    /// # Errors
    /// Returns an error if there are no such files.
    fn version(&self) -> Result<Version>;

    /// Reads the rows of a table in the order of layers and neurons, which are those asked for. A row that cannot be
    /// read is passed on as a [`Reject`](crate::Reject).
    ///
    /// # Errors
    /// Returns an error if nothing more can be read.
    fn scan(&self, request: &Request, sink: Sink) -> Result<()>;
}

/// Parses a neuron's name, such as `3_669`.
pub(crate) fn parse_place(name: &str) -> Option<Place> {
    let (layer, neuron) = name.split_once('_')?;
    Some(Place { layer: parse_index(layer, MOST_LAYERS)?, neuron: parse_index(neuron, MOST_NEURONS)? })
}

/// Parses an index in decimal digits, without leading zeros, less than `end`.
pub(crate) fn parse_index(digits: &str, end: u32) -> Option<u32> {
    let is_plain =
        digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    digits.parse().ok().filter(|index| is_plain && *index < end)
}
