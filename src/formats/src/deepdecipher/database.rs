//! The SQLite file: its tables, and values by model, type, layer and neuron.

use std::cell::Cell;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use super::FORMAT;
use super::blob::MOST_BYTES;
use crate::source::LayerSelection;
use crate::{Error, Result};

/// First bytes of a SQLite file.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Instructions of SQLite's machine between two looks at how many there have been.
const STEP: i32 = 10_000;

/// Instructions that a statement may take for each byte of the file, which bounds those on pages that form a circle.
const PER_BYTE: u64 = 64;

/// Number of neurons of a layer up to which each is looked up by itself.
const BY_NEURON: usize = 1024;

/// A model in the database.
#[derive(Debug)]
pub(super) struct ModelRow {
    pub id: i64,
    pub name: String,
    pub layers: i64,
    pub neurons_per_layer: i64,
    pub activation_function: String,
    pub parameters: i64,
    pub dataset: String,
}

/// A kind of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Neuroscope,
    NeuronExplainer,
    Neuron2Graph,
    NeuronStore,
    /// One whose values cannot be read.
    Unreadable,
}

/// A data type of a model.
#[derive(Debug)]
pub(super) struct DataType {
    pub id: i64,
    pub name: String,
    pub kind: Kind,
    /// Name of the kind in the database.
    pub written_kind: String,
}

/// Takes the value of a neuron, or why it is none.
pub(super) type EachValue<'a> = &'a mut dyn FnMut(u32, Result<&[u8], String>) -> ControlFlow<()>;

/// An open database.
pub(super) struct Database {
    path: PathBuf,
    connection: Connection,
    /// `data_type`, or in old databases `data_object`.
    word: &'static str,
}

impl Database {
    pub fn open(path: &Path) -> Result<Self> {
        check_file(path)?;
        let error = |error: rusqlite::Error| database_error(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(uri(path)?, flags).map_err(error)?;
        let limits = [
            (Limit::SQLITE_LIMIT_LENGTH, MOST_BYTES as i32 + 1024),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ];
        for (limit, value) in limits {
            connection.set_limit(limit, value).map_err(error)?;
        }
        let length = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        let budget = Cell::new((length * PER_BYTE).max(10_000_000) / STEP as u64);
        let is_spent = move || {
            budget.set(budget.get().saturating_sub(1));
            budget.get() == 0
        };
        connection.progress_handler(STEP, Some(is_spent)).map_err(error)?;
        connection
            .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;")
            .map_err(error)?;
        let mut this = Self { path: path.into(), connection, word: "data_type" };
        let old = this.kind_of("data_type")?.is_none() && this.kind_of("data_object")?.is_some();
        this.word = if old { "data_object" } else { "data_type" };
        for table in ["model", this.word, &format!("model_{}", this.word), "neuron_data"] {
            this.check_table(table)?;
        }
        Ok(this)
    }

    /// Type of an entry of the schema, such as `table` or `view`.
    fn kind_of(&self, name: &str) -> Result<Option<String>> {
        let sql = "SELECT type FROM sqlite_schema WHERE name = ?1 AND type IN ('table', 'view')";
        self.rows(sql, [name], |row| row.get(0)).map(|kinds| kinds.into_iter().next())
    }

    /// Returns an error if there is no such table, or one whose values SQLite would compute.
    fn check_table(&self, name: &str) -> Result<()> {
        let refuse = |reason: String| Err(Error::not_in_format(&self.path, FORMAT, reason));
        match self.kind_of(name)?.as_deref() {
            Some("table") => {}
            Some(_) => return refuse(format!("its \"{name}\" is a view")),
            None => return refuse(format!("it has no table \"{name}\"")),
        }
        let sql = "SELECT name, type FROM pragma_table_list WHERE name = ?1 AND schema = 'main'";
        let kinds = self.rows(sql, [name], |row| row.get::<_, String>(1))?;
        if kinds.iter().any(|kind| kind != "table") {
            return refuse(format!("its table \"{name}\" is a virtual one"));
        }
        let computed = "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 0";
        match self.rows(computed, [name], |row| row.get::<_, String>(0))?.first() {
            Some(column) => refuse(format!("column \"{column}\" of its table \"{name}\" is computed")),
            None => Ok(()),
        }
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        row: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = || {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map(parameters, row)?.collect::<rusqlite::Result<Vec<T>>>()
        };
        rows().map_err(|error| database_error(&self.path, &error))
    }

    pub fn models(&self) -> Result<Vec<ModelRow>> {
        let sql = "SELECT id, name, num_layers, neurons_per_layer, activation_function, num_total_parameters, dataset \
                   FROM model ORDER BY id LIMIT 10000";
        self.rows(sql, [], |row| {
            Ok(ModelRow {
                id: row.get(0)?,
                name: row.get(1)?,
                layers: row.get(2)?,
                neurons_per_layer: row.get(3)?,
                activation_function: row.get(4)?,
                parameters: row.get(5)?,
                dataset: row.get(6)?,
            })
        })
    }

    /// Data types of a model.
    pub fn types(&self, model: i64) -> Result<Vec<DataType>> {
        let word = self.word;
        let sql = format!(
            "SELECT id, name, type FROM {word} WHERE id IN (SELECT {word}_id FROM model_{word} WHERE model_id = ?1) \
             ORDER BY id LIMIT 10000"
        );
        self.rows(&sql, [model], |row| {
            let written_kind: String = row.get(2)?;
            let kind = match written_kind.as_str() {
                "Neuroscope" => Kind::Neuroscope,
                "NeuronExplainer" => Kind::NeuronExplainer,
                "Neuron2Graph" => Kind::Neuron2Graph,
                "NeuronStore" => Kind::NeuronStore,
                _ => Kind::Unreadable,
            };
            Ok(DataType { id: row.get(0)?, name: row.get(1)?, kind, written_kind })
        })
    }

    /// Passes on the values of some neurons of a layer, in the order of neurons.
    pub fn values(
        &self,
        model: i64,
        data_type: i64,
        of_layer: &LayerSelection,
        each: EachValue,
    ) -> Result<ControlFlow<()>> {
        let word = self.word;
        let columns = format!(
            "neuron_index, length(data), CASE WHEN length(data) <= {MOST_BYTES} THEN data END FROM neuron_data \
             WHERE model_id = ?1 AND {word}_id = ?2 AND layer_index = ?3"
        );
        self.each_row(&columns, model, data_type, of_layer, &mut |neuron, row| {
            let value = match row.get_ref(2)? {
                ValueRef::Blob(bytes) => Ok(bytes),
                ValueRef::Null if row.get::<_, Option<i64>>(1)?.is_some_and(|length| length > MOST_BYTES as i64) => {
                    Err(format!("it is larger than {MOST_BYTES} bytes"))
                }
                other => Err(format!("it is {} and not a blob", other.data_type())),
            };
            Ok(each(neuron, value))
        })
    }

    /// Passes on the neurons of a layer that have a value.
    pub fn neurons(
        &self,
        model: i64,
        data_type: i64,
        of_layer: &LayerSelection,
        each: &mut dyn FnMut(u32),
    ) -> Result<()> {
        let word = self.word;
        let columns =
            format!("neuron_index FROM neuron_data WHERE model_id = ?1 AND {word}_id = ?2 AND layer_index = ?3");
        self.each_row(&columns, model, data_type, of_layer, &mut |neuron, _| {
            each(neuron);
            Ok(ControlFlow::Continue(()))
        })
        .map(|_| ())
    }

    fn each_row(
        &self,
        columns: &str,
        model: i64,
        data_type: i64,
        of_layer: &LayerSelection,
        each: &mut dyn FnMut(u32, &Row) -> rusqlite::Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let error = |error: rusqlite::Error| database_error(&self.path, &error);
        let few = of_layer.neurons.as_ref().filter(|neurons| neurons.len() <= BY_NEURON);
        let sql = match few {
            Some(_) => format!("SELECT {columns} AND neuron_index = ?4"),
            None => format!("SELECT {columns} AND neuron_index >= ?4 ORDER BY neuron_index"),
        };
        let mut statement = self.connection.prepare(&sql).map_err(error)?;
        let starts: &[u32] = few.map_or(&[0], |neurons| neurons);
        for start in starts {
            let mut rows = statement.query((model, data_type, of_layer.layer, start)).map_err(error)?;
            let mut last = None;
            while let Some(row) = rows.next().map_err(error)? {
                let index: i64 = row.get(0).map_err(error)?;
                // Neurons that the model does not have are counted by `outside`.
                let Ok(neuron) = u32::try_from(index) else { continue };
                if last.is_some_and(|last| last >= neuron) {
                    let reason = format!("layer {} has neuron {neuron} more than once", of_layer.layer);
                    return Err(Error::Database { location: self.path.display().to_string(), reason });
                }
                last = Some(neuron);
                if of_layer.has(neuron) && each(neuron, row).map_err(error)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Number of values of neurons that the model does not have.
    pub fn outside(&self, model: i64, data_type: i64, layers: u32, width: u32) -> Result<i64> {
        let word = self.word;
        let sql = format!(
            "SELECT count(*) FROM neuron_data WHERE model_id = ?1 AND {word}_id = ?2 \
             AND NOT (layer_index BETWEEN 0 AND ?3 - 1 AND neuron_index BETWEEN 0 AND ?4 - 1)"
        );
        self.rows(&sql, (model, data_type, layers, width), |row| row.get(0)).map(|counts| counts[0])
    }
}

/// Returns an error if a file is not SQLite's, or has changes that are in another file yet.
fn check_file(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::not_in_format(path, FORMAT, "it is not a file"));
    }
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
    if start != MAGIC {
        return Err(Error::not_in_format(path, FORMAT, "it is not a file of SQLite"));
    }
    for ending in ["-wal", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        if std::fs::metadata(&beside).is_ok_and(|metadata| metadata.len() > 0) {
            let beside = beside.display();
            let reason =
                format!("changes to it are in \"{beside}\": open and close it with SQLite's own program first");
            return Err(Error::not_in_format(path, FORMAT, reason));
        }
    }
    Ok(())
}

/// The URI by which SQLite opens a file without locks.
fn uri(path: &Path) -> Result<String> {
    let path = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
    let mut uri = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri += &format!("%{byte:02X}"),
        }
    }
    Ok(uri + "?mode=ro&immutable=1")
}

fn database_error(path: &Path, error: &rusqlite::Error) -> Error {
    Error::Database { location: path.display().to_string(), reason: error.to_string() }
}
