//! DeepDecipher's database `data.db`: pages of Neuroscope, explanations, graphs and similar neurons of a model.
//!
//! It is opened for each scan, read-only and as one that does not change. Old databases, whose types are called data
//! objects, are read too. Values of the type `Json` cannot be read by anyone, and are rejected.

mod blob;
mod database;
mod graph;
mod values;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use database::{Database, Kind};

use crate::source::{LayerSelection, MOST_NEURONS};
use crate::{Description, Error, Item, Place, Reject, Request, Result, Sink, Source, Table, Version, files};

const FORMAT: &str = "a database of DeepDecipher";

/// One model of a database.
#[derive(Debug)]
pub struct DeepDecipher {
    path: PathBuf,
    description: Description,
    layers: u32,
    width: u32,
    model_id: i64,
    types: Vec<database::DataType>,
}

impl DeepDecipher {
    /// Opens the database in a file; `model` names one of its models, and may be left out if it has one only.
    ///
    /// # Errors
    /// [`Error::NotInFormat`], [`Error::Ambiguous`] if a model has to be named, [`Error::InvalidOption`] if there is none
    /// of this name, [`Error::Io`], [`Error::Database`].
    pub fn open(path: &Path, model: Option<&str>) -> Result<Self> {
        let database = Database::open(path)?;
        let models = database.models()?;
        let names = || models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = match model {
            Some(name) => models.iter().find(|model| model.name == name).ok_or_else(|| Error::InvalidOption {
                option: "source_model",
                value: name.into(),
                reason: format!("\"{}\" has {}", path.display(), names()),
            })?,
            None => match models.as_slice() {
                [one] => one,
                [] => return Err(Error::not_in_format(path, FORMAT, "it has no model")),
                _ => {
                    return Err(Error::Ambiguous {
                        location: path.display().to_string(),
                        what: "models",
                        found: names(),
                        advice: "name one by OPTIONS ('source_model' '…')",
                    });
                }
            },
        };
        let number = |value: i64, most: u32, what: &str| {
            let number = u32::try_from(value).ok().filter(|number| *number <= most);
            let reason = || format!("model {} has {value} {what}, at most {most} are supported", found.name);
            number.ok_or_else(|| Error::not_in_format(path, FORMAT, reason()))
        };
        let layers = number(found.layers, crate::MOST_LAYERS, "layers")?;
        let width = number(found.neurons_per_layer, MOST_NEURONS, "neurons a layer")?;
        let description = Description {
            name: Some(found.name.clone()),
            layers: Some(layers),
            neurons_per_layer: Some(width),
            activation_function: Some(found.activation_function.clone()),
            parameters: Some(found.parameters),
            dataset: Some(found.dataset.clone()),
        };
        let types = database.types(found.id)?;
        Ok(Self { path: path.into(), description, layers, width, model_id: found.id, types })
    }

    /// Kinds of values that make the rows of a table.
    fn kinds(table: Table) -> &'static [Kind] {
        match table {
            Table::Neurons => &[Kind::Neuroscope, Kind::NeuronExplainer, Kind::Neuron2Graph, Kind::NeuronStore],
            Table::Examples => &[Kind::Neuroscope],
            Table::Explanations => &[Kind::NeuronExplainer],
            Table::Graphs => &[Kind::Neuron2Graph],
            Table::Similar => &[Kind::NeuronStore],
            Table::ExplanationScores | Table::RelatedTokens | Table::RelatedNeurons => &[],
        }
    }

    fn location(&self, data_type: &str, place: Place) -> String {
        format!("{}: {data_type} of layer {}, neuron {}", self.path.display(), place.layer, place.neuron)
    }

    /// Reads values of one type, and passes on what is made of them.
    fn scan_type(
        &self,
        database: &Database,
        data_type: &database::DataType,
        request: &Request,
        sink: Sink,
    ) -> Result<ControlFlow<()>> {
        for of_layer in &request.selection {
            let flow = database.values(self.model_id, data_type.id, of_layer, &mut |neuron, value| {
                let place = Place { layer: of_layer.layer, neuron };
                let items = value.and_then(|value| values::rows(request.table, data_type, place, value));
                match items {
                    Ok(rows) => rows.into_iter().try_for_each(|row| {
                        sink(match row {
                            Ok(row) => Item::Row(row),
                            Err(reason) => self.reject(request.table, data_type, place, reason),
                        })
                    }),
                    Err(reason) => sink(self.reject(request.table, data_type, place, reason)),
                }
            })?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn reject(&self, table: Table, data_type: &database::DataType, place: Place, reason: String) -> Item {
        Item::Reject(Reject { table, place: Some(place), location: self.location(&data_type.name, place), reason })
    }

    /// Reads the neurons that there is anything of.
    fn scan_neurons(&self, database: &Database, request: &Request, sink: Sink) -> Result<()> {
        let types: Vec<_> = self.types.iter().filter(|t| Self::kinds(Table::Neurons).contains(&t.kind)).collect();
        for of_layer in &request.selection {
            let mut neurons = std::collections::BTreeMap::new();
            for data_type in &types {
                let (table, is_read) = match data_type.kind {
                    Kind::Neuroscope => (Table::Examples, request.reads(&["max_activation"])),
                    Kind::Neuron2Graph => (Table::Graphs, request.reads(&["nodes"])),
                    _ => (Table::Neurons, false),
                };
                if !is_read {
                    database.neurons(self.model_id, data_type.id, of_layer, &mut |neuron| {
                        neurons.entry(neuron).or_insert_with(|| values::empty(of_layer.layer, neuron));
                    })?;
                    continue;
                }
                let alone = Request { table, selection: vec![of_layer.clone()], columns: &[] };
                // What cannot be read is rejected by the table that it belongs to.
                let mut add = |item| {
                    values::summarise(&mut neurons, &item);
                    ControlFlow::Continue(())
                };
                let _ = self.scan_type(database, data_type, &alone, &mut add)?;
            }
            if neurons.into_values().try_for_each(|neuron| sink(Item::Row(crate::Row::Neuron(neuron)))).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Rejects the values that no query can reach: those of types that cannot be read, or outside of the model.
    fn scan_unreachable(&self, database: &Database, request: &Request, sink: Sink) -> Result<()> {
        for data_type in &self.types {
            let (table, reason) = match data_type.kind {
                Kind::Unreadable if request.table == Table::Neurons => {
                    (Table::Neurons, format!("values of the type {} cannot be read back", data_type.written_kind))
                }
                kind if request.table != Table::Neurons && Self::kinds(request.table).contains(&kind) => {
                    match database.outside(self.model_id, data_type.id, self.layers, self.width)? {
                        0 => continue,
                        count => (request.table, format!("{count} values are of neurons that the model does not have")),
                    }
                }
                _ => continue,
            };
            let location = format!("{}: {}", self.path.display(), data_type.name);
            if sink(Item::Reject(Reject { table, place: None, location, reason })).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Source for DeepDecipher {
    fn description(&self) -> &Description {
        &self.description
    }

    fn tables(&self) -> Vec<Table> {
        let all = [Table::Examples, Table::Graphs, Table::Explanations, Table::Similar];
        let has = |table: &Table| self.types.iter().any(|t| Self::kinds(*table).contains(&t.kind));
        [Table::Neurons].into_iter().chain(all.into_iter().filter(has)).collect()
    }

    fn layers(&self) -> Result<Vec<u32>> {
        Ok((0..self.layers).collect())
    }

    fn width(&self) -> u32 {
        self.width
    }

    fn version(&self) -> Result<Version> {
        files::version(&self.path)
    }

    fn scan(&self, request: &Request, sink: Sink) -> Result<()> {
        let database = Database::open(&self.path)?;
        if request.table == Table::Neurons {
            self.scan_neurons(&database, request, sink)?;
        } else {
            for data_type in self.types.iter().filter(|t| Self::kinds(request.table).contains(&t.kind)) {
                if self.scan_type(&database, data_type, request, sink)?.is_break() {
                    return Ok(());
                }
            }
        }
        let is_whole = request.selection.len() == self.layers as usize
            && request.selection.iter().all(|LayerSelection { neurons, .. }| neurons.is_none());
        if is_whole { self.scan_unreachable(&database, request, sink) } else { Ok(()) }
    }
}
