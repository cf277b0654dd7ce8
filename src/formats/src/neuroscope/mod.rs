//! Pages of Neuroscope, `{model}/{layer}/{neuron}.html`: the texts on which a neuron is strongest.
//!
//! A location is the folder of a model, or one that holds the folder of one model; or the address of the folder of a model
//! on a web server, such as `https://neuroscope.io/solu-1l/`, of which pages are read that a query names.

mod page;

use std::path::{Path, PathBuf};

use crate::files::{self, Folder, each_file, layer_folders, names, neuron_files};
use crate::{
    Description, Error, Example, LayerSelection, MOST_LAYERS, MOST_NEURONS, Neuron, Place, Request, Result, Row, Sink,
    Source, Table, Version, WebFolder,
};

const FORMAT: &str = "a folder of pages of Neuroscope";
const ENDING: &str = ".html";

/// Who has published the examples.
pub(crate) const SOURCE: &str = "neuroscope";

/// A folder of the pages of one model.
#[derive(Debug)]
pub struct Neuroscope {
    folder: Folder,
    description: Description,
}

impl Neuroscope {
    /// Opens a folder.
    ///
    /// # Errors
    /// [`Error::NotInFormat`], [`Error::Ambiguous`] if there are several models, [`Error::Io`].
    pub fn open(location: &Path) -> Result<Self> {
        if !std::fs::metadata(location).map_err(|e| Error::io(location, e))?.is_dir() {
            return Err(Error::not_in_format(location, FORMAT, "it is not a folder"));
        }
        let folder = if has_pages(location)? { location.to_owned() } else { model_folder(location)? };
        let name = std::path::absolute(&folder).map_err(|e| Error::io(&folder, e))?;
        let name = name.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let folder = Folder::Local(folder);
        let layers = folder.layers(&[""])?.and_then(|layers| layers.last().map(|last| last + 1));
        let neurons_per_layer = folder.width(&[("", ENDING)])?;
        Ok(Self { folder, description: Description { name, layers, neurons_per_layer, ..Description::default() } })
    }

    /// A folder of a web server, of a model with this many layers and neurons a layer, as far as they are known. Nothing is
    /// read yet.
    pub fn web(folder: WebFolder, layers: Option<u32>, neurons_per_layer: Option<u32>) -> Self {
        let description = Description { name: folder.name(), layers, neurons_per_layer, ..Description::default() };
        Self { folder: Folder::Web(folder), description }
    }
}

/// Returns true if a folder has pages in folders of layers.
fn has_pages(folder: &Path) -> Result<bool> {
    for layer in layer_folders(folder)? {
        let of_layer = LayerSelection { layer, neurons: None };
        if !neuron_files(&folder.join(layer.to_string()), ENDING, &of_layer)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folder of a model in another.
fn model_folder(location: &Path) -> Result<PathBuf> {
    let mut models = Vec::new();
    for name in names(location)? {
        let name = name?;
        let folder = location.join(&name);
        if folder.is_dir() && has_pages(&folder)? {
            models.push(name);
        }
    }
    models.sort_unstable();
    match models.as_slice() {
        [model] => Ok(location.join(model)),
        [] => Err(Error::not_in_format(location, FORMAT, "it has no pages {layer}/{neuron}.html")),
        _ => Err(Error::Ambiguous {
            location: location.display().to_string(),
            what: "models",
            found: models.join(", "),
            advice: "name the folder of one",
        }),
    }
}

impl Source for Neuroscope {
    fn description(&self) -> &Description {
        &self.description
    }

    fn tables(&self) -> Vec<Table> {
        vec![Table::Neurons, Table::Examples]
    }

    fn layers(&self) -> Result<Vec<u32>> {
        Ok(match self.folder.layers(&[""])? {
            Some(layers) => layers,
            None => (0..self.description.layers.unwrap_or(MOST_LAYERS)).collect(),
        })
    }

    fn width(&self) -> u32 {
        match self.folder {
            // Files may have been added since.
            Folder::Local(_) => MOST_NEURONS,
            Folder::Web(_) => self.description.neurons_per_layer.unwrap_or(MOST_NEURONS),
        }
    }

    fn version(&self) -> Result<Version> {
        self.folder.version()
    }

    fn scan(&self, request: &Request, sink: Sink) -> Result<()> {
        // Whether a web server has a page is known when it is read.
        let is_read = request.reads(&["max_activation"]) || matches!(self.folder, Folder::Web(_));
        match request.table {
            Table::Examples => each_file(&self.folder, ("", ENDING), request, sink, &mut page::examples).map(|_| ()),
            Table::Neurons if is_read => {
                let mut neuron = |place, bytes: &[u8]| {
                    let activation = |row: &Result<Row, String>| match row {
                        Ok(Row::Example(Example { activation, .. })) => Some(*activation),
                        _ => None,
                    };
                    let max_activation = page::examples(place, bytes)?.iter().filter_map(activation).reduce(f32::max);
                    Ok(vec![Ok(Row::Neuron(Neuron { place, max_activation, ..Neuron::default() }))])
                };
                each_file(&self.folder, ("", ENDING), request, sink, &mut neuron).map(|_| ())
            }
            Table::Neurons => self.list(request, sink),
            _ => Ok(()),
        }
    }
}

impl Neuroscope {
    /// Passes on the neurons that have a page.
    fn list(&self, request: &Request, sink: Sink) -> Result<()> {
        for of_layer in &request.selection {
            for neuron in self.folder.neurons(&of_layer.layer.to_string(), ENDING, of_layer)? {
                let path = format!("{}/{neuron}{ENDING}", of_layer.layer);
                let place = Place { layer: of_layer.layer, neuron };
                let row = Ok(vec![Ok(Row::Neuron(Neuron { place, ..Neuron::default() }))]);
                if self.folder.has_file(&path)?
                    && files::pass_on(row, Table::Neurons, place, &self.folder.location(&path), sink).is_break()
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
