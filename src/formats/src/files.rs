//! Files and folders: bounded reads, and the neurons that a folder has files for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use crate::source::{LayerSelection, MOST_NEURONS, Version, parse_index};
use crate::web::{self, WebFolder};
use crate::{Error, Item, Place, Reject, Request, Result, Row, Sink, Table};

/// Greatest size of the file of one neuron, in bytes.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// Number of neurons up to which their files are opened by name, without listing the folder.
const BY_NAME: usize = 1024;

/// Reads a file of at most `most` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let error = |source| Error::io(path, source);
    // A pipe or device would never end.
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(error(std::io::Error::other("it is not a file"))),
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(error)?.take(most + 1);
    file.read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > most {
        return Err(error(std::io::Error::other(format!("it is larger than {most} bytes"))));
    }
    Ok(Some(bytes))
}

/// Version of a file or folder.
pub(crate) fn version(path: &Path) -> Result<Version> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    Ok((metadata.modified().ok(), metadata.len()))
}

/// Names of the entries of a folder that are text, in the order of the system; empty if there is no such folder.
pub(crate) fn names(folder: &Path) -> Result<impl Iterator<Item = Result<String>>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io(folder, e)),
    };
    let folder = folder.to_owned();
    let name = move |entry: std::io::Result<std::fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().into_string().ok().map(Ok),
        Err(e) => Some(Err(Error::io(&folder, e))),
    };
    Ok(entries.into_iter().flatten().filter_map(name))
}

/// Folders of layers: entries that are numbers, in ascending order.
pub(crate) fn layer_folders(folder: &Path) -> Result<Vec<u32>> {
    let mut layers = Vec::new();
    for name in names(folder)? {
        layers.extend(parse_index(&name?, crate::MOST_LAYERS));
    }
    layers.sort_unstable();
    Ok(layers)
}

/// Neurons asked for of which there may be a file `{neuron}{ending}` in a folder, in ascending order.
pub(crate) fn neuron_files(folder: &Path, ending: &str, selection: &LayerSelection) -> Result<Vec<u32>> {
    if let Some(neurons) = selection.neurons.as_ref().filter(|neurons| neurons.len() <= BY_NAME) {
        return Ok(neurons.to_vec());
    }
    let mut neurons = Vec::new();
    for name in names(folder)? {
        let name = name?;
        let neuron = name.strip_suffix(ending).and_then(|name| parse_index(name, MOST_NEURONS));
        neurons.extend(neuron.filter(|neuron| selection.has(*neuron)));
    }
    neurons.sort_unstable();
    Ok(neurons)
}

/// A folder with files of neurons, `{name}/{layer}/{neuron}{ending}`: of this machine, or of a web server.
#[derive(Debug, Clone)]
pub(crate) enum Folder {
    /// A folder of this machine.
    Local(PathBuf),
    /// A folder of a web server.
    Web(WebFolder),
}

impl Folder {
    /// Location of a file, as errors name it.
    pub fn location(&self, path: &str) -> String {
        match self {
            Self::Local(folder) => folder.join(path).display().to_string(),
            Self::Web(folder) => folder.address(path),
        }
    }

    /// Returns true if it may have files under a name; those of a web server are known when they are asked for.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Local(folder) => folder.join(name).is_dir(),
            Self::Web(_) => true,
        }
    }

    /// Returns true if there is a file.
    ///
    /// # Errors
    /// Returns an error if no file can be read.
    pub fn has_file(&self, path: &str) -> Result<bool> {
        Ok(match self {
            Self::Local(folder) => folder.join(path).is_file(),
            Self::Web(folder) => matches!(folder.read(path)?, Ok(Some(_))),
        })
    }

    /// Version of the folder; that of a web server has none.
    pub fn version(&self) -> Result<Version> {
        match self {
            Self::Local(folder) => version(folder),
            Self::Web(_) => Ok((None, 0)),
        }
    }

    /// Number of files that are read at once.
    pub fn at_once(&self) -> usize {
        match self {
            Self::Local(_) => 1,
            Self::Web(_) => web::AT_ONCE,
        }
    }

    /// Neurons asked for of which there may be a file, in ascending order.
    pub fn neurons(&self, name: &str, ending: &str, selection: &LayerSelection) -> Result<Vec<u32>> {
        match self {
            Self::Local(folder) => neuron_files(&folder.join(name), ending, selection),
            Self::Web(_) => Ok(selection.neurons.as_deref().unwrap_or_default().to_vec()),
        }
    }

    /// Layers with a folder in one of these, in ascending order; `None` if they are not listed.
    pub fn layers(&self, names: &[&str]) -> Result<Option<Vec<u32>>> {
        let Self::Local(folder) = self else { return Ok(None) };
        let mut layers = BTreeSet::new();
        for name in names {
            layers.extend(layer_folders(&folder.join(name))?);
        }
        Ok(Some(layers.into_iter().collect()))
    }

    /// Number that all neurons with a file in one of these folders are less than; `None` if they are not listed.
    pub fn width(&self, names: &[(&str, &str)]) -> Result<Option<u32>> {
        let Self::Local(folder) = self else { return Ok(None) };
        let mut width = 0;
        for (name, ending) in names {
            for layer in layer_folders(&folder.join(name))? {
                let all = LayerSelection { layer, neurons: None };
                let neurons = neuron_files(&folder.join(name).join(layer.to_string()), ending, &all)?;
                width = width.max(neurons.last().map_or(0, |last| last + 1));
            }
        }
        Ok(Some(width))
    }

    /// Checks that a request names files, where they are not listed.
    ///
    /// # Errors
    /// [`Error::NotListed`].
    pub fn check(&self, request: &Request) -> Result<()> {
        let Self::Web(folder) = self else { return Ok(()) };
        let all = |of_layer: &LayerSelection| of_layer.neurons.as_ref().map(|neurons| neurons.len());
        let asked = request.selection.iter().map(all).sum::<Option<usize>>();
        match asked {
            Some(asked) if asked <= BY_NAME => Ok(()),
            asked => Err(Error::NotListed { location: folder.address(""), asked, most: BY_NAME }),
        }
    }

    /// Reads some files, at most as many as [`Folder::at_once`] says. Of each, `None` if there is none; of a web server
    /// that is a fault of the file, as it was asked for by name.
    ///
    /// # Errors
    /// Returns an error if no other file can be read either.
    pub fn read(&self, paths: &[String]) -> Result<Vec<Result<Option<Vec<u8>>, String>>> {
        match self {
            Self::Local(folder) => {
                let each = |path: &String| read(&folder.join(path), MOST_BYTES).map_err(|error| error.to_string());
                Ok(paths.iter().map(each).collect())
            }
            Self::Web(folder) => {
                let answers = match paths {
                    [one] => vec![folder.read(one)],
                    _ => std::thread::scope(|scope| {
                        let asked: Vec<_> = paths.iter().map(|path| scope.spawn(|| folder.read(path))).collect();
                        // A thread that reads a file does not panic; if one does, so does this.
                        asked.into_iter().map(|asked| asked.join().unwrap_or_else(|e| resume_unwind(e))).collect()
                    }),
                };
                let missing = || "the server has no such file".to_owned();
                answers
                    .into_iter()
                    .map(|answer| Ok(answer?.and_then(|file| file.ok_or_else(missing).map(Some))))
                    .collect()
            }
        }
    }
}

/// Result of parsing a file: its rows, or why it is none.
pub(crate) type Parsed = Result<Vec<Result<Row, String>>, String>;

/// Reads one file for each neuron that is asked for, `{name}/{layer}/{neuron}{ending}`, and passes on its rows.
pub(crate) fn each_file(
    folder: &Folder,
    (name, ending): (&str, &str),
    request: &Request,
    sink: Sink,
    parse: &mut dyn FnMut(Place, &[u8]) -> Parsed,
) -> Result<ControlFlow<()>> {
    folder.check(request)?;
    for of_layer in &request.selection {
        let name = match name {
            "" => of_layer.layer.to_string(),
            name => format!("{name}/{}", of_layer.layer),
        };
        for neurons in folder.neurons(&name, ending, of_layer)?.chunks(folder.at_once()) {
            let paths: Vec<String> = neurons.iter().map(|neuron| format!("{name}/{neuron}{ending}")).collect();
            for ((neuron, path), bytes) in neurons.iter().zip(&paths).zip(folder.read(&paths)?) {
                let place = Place { layer: of_layer.layer, neuron: *neuron };
                let parsed = match bytes {
                    Ok(Some(bytes)) => parse(place, &bytes),
                    Ok(None) => continue,
                    Err(reason) => Err(reason),
                };
                if pass_on(parsed, request.table, place, &folder.location(path), sink).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Passes on what a parser made of a file.
pub(crate) fn pass_on(parsed: Parsed, table: Table, place: Place, location: &str, sink: Sink) -> ControlFlow<()> {
    let reject = |reason| Item::Reject(Reject { table, place: Some(place), location: location.to_owned(), reason });
    match parsed {
        Ok(rows) => rows.into_iter().try_for_each(|row| sink(row.map_or_else(reject, Item::Row))),
        Err(reason) => sink(reject(reason)),
    }
}
