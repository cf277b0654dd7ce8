//! The layout of a folder of graphs.

use std::path::{Path, PathBuf};

use super::FORMAT;
use crate::files::names;
use crate::source::parse_place;
use crate::{Error, Place, Result};

/// Folders below a location that are searched for graphs.
const DEEPEST: usize = 4;

/// File format of a folder's graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A folder `{layer}_{neuron}` for each neuron.
    Folders,
    /// A file for each neuron.
    Files,
    /// One file with the graphs of a layer.
    List { layer: u32 },
}

/// A set of graphs.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub kind: Kind,
    /// Folder of the graphs, or the file of a list.
    pub folder: PathBuf,
    /// File of the scores, if there is one.
    pub stats: Option<PathBuf>,
    /// Name of the model, if a folder has it.
    pub model: Option<String>,
}

/// Endings of files with one graph.
const ENDINGS: [&str; 5] = ["", ".dot", ".gv", ".json", ".bin"];

/// The part of a name that says which neuron it is of.
pub(super) fn stem(name: &str, kind: Kind) -> Option<&str> {
    match kind {
        Kind::Files => Some(ENDINGS[1..].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)),
        Kind::Folders => Some(name),
        Kind::List { .. } => None,
    }
}

impl Layout {
    /// Finds the graphs of one model at or below a location: one folder of them, or several folders of the original.
    pub fn find(location: &Path, layer: u32) -> Result<Vec<Self>> {
        if std::fs::metadata(location).map_err(|e| Error::io(location, e))?.is_file() {
            let (kind, folder) = (Kind::List { layer }, location.to_owned());
            return Ok(vec![Self { kind, folder, stats: None, model: None }]);
        }
        let mut found = Vec::new();
        search(location, DEEPEST, &mut found)?;
        found.sort();
        match found.as_slice() {
            [(folder, kind)] => Ok(vec![Self::new(folder, *kind)]),
            [] => {
                let reason = "it has no graphs {layer}_{neuron} and no folders with them";
                Err(Error::not_in_format(location, FORMAT, reason))
            }
            [(first, _), ..]
                if found.iter().all(|(f, kind)| *kind == Kind::Folders && f.parent() == first.parent()) =>
            {
                Ok(found.iter().map(|(folder, kind)| Self::new(folder, *kind)).collect())
            }
            _ => {
                let folders: Vec<String> =
                    found.iter().map(|(folder, _)| format!("\"{}\"", folder.display())).collect();
                Err(Error::Ambiguous {
                    location: location.display().to_string(),
                    what: "folders of graphs",
                    found: folders.join(", "),
                    advice: "name one",
                })
            }
        }
    }

    fn new(folder: &Path, kind: Kind) -> Self {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        let parent = absolute.parent();
        // The original has the scores beside the graphs' folders, the fork beside the folder of the graphs.
        let own = folder.join("stats.json");
        let above = parent.map(|parent| parent.join("stats.json")).filter(|_| kind == Kind::Files);
        let stats = [Some(own), above].into_iter().flatten().find(|path| path.is_file());
        let model = parent.and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned);
        Self { kind, folder: folder.into(), stats, model }
    }

    /// Files that may have the graph of a neuron.
    pub fn paths(&self, place: Place) -> Vec<PathBuf> {
        let name = format!("{}_{}", place.layer, place.neuron);
        match self.kind {
            Kind::Folders => vec![self.folder.join(name).join("graph")],
            Kind::Files => ENDINGS.iter().map(|ending| self.folder.join(format!("{name}{ending}"))).collect(),
            Kind::List { .. } => Vec::new(),
        }
    }
}

/// Adds the folders of graphs at or below a folder.
fn search(folder: &Path, deeper: usize, found: &mut Vec<(PathBuf, Kind)>) -> Result<()> {
    let mut below = Vec::new();
    for name in names(folder)? {
        let name = name?;
        let path = folder.join(&name);
        if parse_place(&name).is_some() && path.is_dir() {
            found.push((folder.into(), Kind::Folders));
            return Ok(());
        }
        let is_graph = stem(&name, Kind::Files).and_then(parse_place).is_some();
        if is_graph && path.is_file() {
            found.push((folder.into(), Kind::Files));
            return Ok(());
        }
        below.push(path);
    }
    for path in below {
        // Links could lead round in circles.
        if deeper > 0 && path.is_dir() && !path.is_symlink() {
            search(&path, deeper - 1, found)?;
        }
    }
    Ok(())
}
