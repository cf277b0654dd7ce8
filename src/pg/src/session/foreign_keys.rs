//! Foreign keys of tables in memory: the tables that a change concerns, which it holds, and the check of its rows.
//!
//! A change of rows with a foreign key holds the referenced table too, and one of referenced rows the tables that
//! reference them: of two sessions, one that adds a row and one that deletes the row it references, one waits.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::kernels::cmp::not_distinct;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::TableProvider;
use datafusion::common::ResolvedTableReference;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::WriteOp;
use datafusion::prelude::SessionContext;

use crate::catalog::keys::held::{self, Action, ForeignKey, Rows as TableRows};
use crate::catalog::memory_rows::address;
use crate::session::Session;
use crate::session::constraints::without_signed_zeros;
use crate::session::transaction::partitions;
use crate::wire::error_response::SqlError;

/// Kind of a change of the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RowChange {
    Insert,
    Delete,
    Update,
}

impl RowChange {
    pub(super) fn of(op: &WriteOp) -> Option<Self> {
        match op {
            WriteOp::Insert(_) => Some(Self::Insert),
            WriteOp::Delete | WriteOp::Truncate => Some(Self::Delete),
            WriteOp::Update => Some(Self::Update),
            _ => None,
        }
    }

    /// Returns what a foreign key does to the rows that reference changed ones, and the change of them that this is.
    pub(super) fn action(self, key: &ForeignKey) -> (Action, Option<Self>) {
        let action = if self == Self::Delete { key.on_delete } else { key.on_update };
        let change = match action {
            Action::NoAction | Action::Restrict => None,
            Action::Cascade if self == Self::Delete => Some(Self::Delete),
            Action::Cascade | Action::SetNull => Some(Self::Update),
        };
        (action, change)
    }
}

/// A table that a change concerns.
#[derive(Debug, Clone)]
pub(super) struct RelatedTable {
    pub(super) table: Arc<dyn TableProvider>,
    pub(super) name: ResolvedTableReference,
    /// True if actions of foreign keys may change its rows.
    pub(super) may_change: bool,
}

/// The tables that a change of rows concerns, by the addresses of their rows. None if the table that is changed has no
/// foreign keys and is not referenced.
#[derive(Debug, Clone, Default)]
pub(super) struct Related(HashMap<usize, RelatedTable>);

impl Related {
    /// Finds the tables that a change of the rows of a table concerns.
    pub(super) async fn find(
        context: &SessionContext,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        change: RowChange,
    ) -> Result<Self, SqlError> {
        let Some(first) = address(table.as_ref()) else { return Ok(Self::default()) };
        let has_keys = held::of(table.as_ref()).is_some_and(|held| !held.foreign_keys.is_empty());
        if !has_keys && held::references(table.as_ref()).is_empty() {
            return Ok(Self::default());
        }
        let mut related = HashMap::new();
        let changed = RelatedTable { table: Arc::clone(table), name: name.clone(), may_change: false };
        related.insert(first, changed);
        let (mut queue, mut seen) = (vec![(first, change)], HashSet::new());
        while let Some((at, change)) = queue.pop() {
            if !seen.insert((at, change)) {
                continue;
            }
            let Some(changed) = related.get(&at).map(|changed| Arc::clone(&changed.table)) else { continue };
            if change != RowChange::Delete
                && let Some(held) = held::of(changed.as_ref())
            {
                for key in &held.foreign_keys {
                    if let Some((at, parent)) = find_table(context, &key.parent, &key.rows).await? {
                        related.entry(at).or_insert(parent);
                    }
                }
            }
            if change == RowChange::Insert {
                continue;
            }
            for reference in held::references(changed.as_ref()) {
                let Some((at, child)) = find_table(context, &reference.child, &reference.rows).await? else { continue };
                let child = related.entry(at).or_insert(child);
                if let (_, Some(change)) = change.action(&reference.key) {
                    child.may_change = true;
                    queue.push((at, change));
                }
            }
        }
        Ok(Self(related))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &RelatedTable> {
        self.0.values()
    }

    pub(super) fn get(&self, address: usize) -> Option<&RelatedTable> {
        self.0.get(&address)
    }

    /// Returns the foreign keys that reference a table, with the addresses of the tables that have them.
    pub(super) fn references(&self, table: &dyn TableProvider) -> Vec<(usize, Arc<ForeignKey>)> {
        let references = held::references(table).into_iter();
        let found = references.map(|reference| (reference.rows.as_ptr().addr(), reference.key));
        found.filter(|(at, _)| self.0.contains_key(at)).collect()
    }
}

/// Returns the table of a name if it has these rows.
async fn find_table(
    context: &SessionContext,
    name: &ResolvedTableReference,
    rows: &Weak<TableRows>,
) -> Result<Option<(usize, RelatedTable)>, SqlError> {
    if !context.table_exist(name.clone()).unwrap_or(false) {
        return Ok(None);
    }
    let table = context.table_provider(name.clone()).await?;
    let found = held::has_rows(table.as_ref(), rows).then(|| {
        let related = RelatedTable { table, name: name.clone(), may_change: false };
        (rows.as_ptr().addr(), related)
    });
    Ok(found)
}

impl Session {
    /// Holds the tables that a change of a table's rows concerns, and returns them.
    ///
    /// # Errors
    /// 40P01 if their holders wait for this session.
    pub(super) async fn hold_related(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        change: RowChange,
    ) -> Result<Related, SqlError> {
        loop {
            let related = Related::find(&self.context, table, name, change).await?;
            let tables: Vec<_> = related.tables().map(|related| Arc::clone(&related.table)).collect();
            // Others may have changed the constraints until the tables are held.
            if self.transaction.hold_all(&tables).await? {
                return Ok(related);
            }
        }
    }

    /// Refuses to empty a table that others reference.
    ///
    /// # Errors
    /// 0A000, as in PostgreSQL.
    pub(super) fn check_truncate(related: &Related, table: &dyn TableProvider) -> Result<(), SqlError> {
        let own = address(table);
        let other = related.references(table).into_iter().find(|(at, _)| Some(*at) != own);
        match other.and_then(|(at, _)| related.get(at)) {
            Some(child) => {
                let message = "cannot truncate a table referenced in a foreign key constraint";
                let hint = format!("Table \"{}\" references it.", child.name.table);
                Err(SqlError::not_supported(message).with_hint(hint))
            }
            None => Ok(()),
        }
    }
}

/// The keys of the rows of a batch.
pub(super) struct BatchKeys {
    pub(super) keys: Rows,
    /// False for the rows with a NULL in their key.
    pub(super) complete: Vec<bool>,
    /// True for keys with a value that the type of the referenced column does not have.
    pub(super) foreign: Vec<bool>,
}

/// Makes keys of rows that can be compared: those of foreign keys are of the types of the columns that they reference.
pub(super) struct KeyReader {
    converter: RowConverter,
    kinds: Vec<DataType>,
}

impl KeyReader {
    /// Returns a reader of the keys that these columns of a table are.
    pub(super) fn new(table: &dyn TableProvider, columns: &[usize]) -> Result<Self, SqlError> {
        let schema = table.schema();
        let kinds: Vec<_> = columns.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        let fields = kinds.iter().map(|kind| SortField::new(kind.clone())).collect();
        Ok(Self { converter: RowConverter::new(fields).map_err(failed)?, kinds })
    }

    pub(super) fn read(&self, batch: &RecordBatch, columns: &[usize]) -> Result<BatchKeys, SqlError> {
        let rows = batch.num_rows();
        let (mut complete, mut foreign) = (vec![true; rows], vec![false; rows]);
        let mut values = Vec::with_capacity(columns.len());
        for (column, kind) in columns.iter().zip(&self.kinds) {
            let column = batch.column(*column);
            let (value, is_exact) = as_kind(column, kind).map_err(failed)?;
            for (row, (complete, foreign)) in complete.iter_mut().zip(&mut foreign).enumerate() {
                *complete &= column.is_valid(row);
                *foreign |= column.is_valid(row) && !is_exact(row);
            }
            values.push(without_signed_zeros(&value));
        }
        Ok(BatchKeys { keys: self.converter.convert_columns(&values).map_err(failed)?, complete, foreign })
    }

    pub(super) fn read_all(&self, batches: &[RecordBatch], columns: &[usize]) -> Result<Vec<BatchKeys>, SqlError> {
        batches.iter().map(|batch| self.read(batch, columns)).collect()
    }
}

pub(super) fn failed(error: ArrowError) -> SqlError {
    DataFusionError::from(error).into()
}

/// Says whether another type has the value of a row.
type IsExact = Box<dyn Fn(usize) -> bool>;

/// Returns values as another type has them, and which of them it has.
fn as_kind(column: &ArrayRef, kind: &DataType) -> Result<(ArrayRef, IsExact), ArrowError> {
    if column.data_type() == kind {
        return Ok((Arc::clone(column), Box::new(|_| true)));
    }
    let lenient = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(column, kind, &lenient)?;
    // Integers are compared with floating-point numbers as such.
    if kind.is_floating() && !column.data_type().is_floating() {
        let valid = cast.clone();
        return Ok((cast, Box::new(move |row| valid.is_valid(row))));
    }
    let back = cast_with_options(&cast, column.data_type(), &lenient)?;
    let same = not_distinct(&back, column)?;
    Ok((cast, Box::new(move |row| same.value(row))))
}

/// Checks that rows of a table reference rows that are there.
///
/// # Errors
/// 23503 for the first foreign key that one of them violates.
pub(super) fn check_parents(
    related: &Related,
    table: &dyn TableProvider,
    name: &str,
    rows: &[RecordBatch],
) -> Result<(), SqlError> {
    let Some(held) = held::of(table) else { return Ok(()) };
    let mut keys = held.foreign_keys.clone();
    keys.sort_by_key(|key| key.number);
    keys.iter().try_for_each(|key| check_parent(related, table, name, rows, key))
}

/// Checks that rows of a table reference by a foreign key rows that are there. A foreign key whose table is gone holds no
/// longer.
///
/// # Errors
/// 23503.
pub(super) fn check_parent(
    related: &Related,
    table: &dyn TableProvider,
    name: &str,
    rows: &[RecordBatch],
    key: &ForeignKey,
) -> Result<(), SqlError> {
    let Some(parent) = related.get(key.rows.as_ptr().addr()) else { return Ok(()) };
    let reader = KeyReader::new(parent.table.as_ref(), &key.referenced)?;
    let read = reader.read_all(rows, &key.columns)?;
    // The keys that have not been found, with the first row of each.
    let mut wanted: HashMap<&[u8], (usize, usize)> = HashMap::new();
    for (batch, keys) in read.iter().enumerate() {
        for row in (0..keys.complete.len()).filter(|row| keys.complete[*row]) {
            if keys.foreign[row] {
                return Err(not_present(table, name, key, &parent.name, &rows[batch], row));
            }
            wanted.entry(keys.keys.row(row).data()).or_insert((batch, row));
        }
    }
    for batch in partitions(parent.table.as_ref()).iter().flatten() {
        if wanted.is_empty() {
            return Ok(());
        }
        let found = reader.read(batch, &key.referenced)?;
        for row in (0..found.complete.len()).filter(|row| found.complete[*row]) {
            wanted.remove(found.keys.row(row).data());
        }
    }
    match wanted.values().min() {
        Some((batch, row)) => Err(not_present(table, name, key, &parent.name, &rows[*batch], *row)),
        None => Ok(()),
    }
}

fn not_present(
    table: &dyn TableProvider,
    name: &str,
    key: &ForeignKey,
    parent: &ResolvedTableReference,
    batch: &RecordBatch,
    row: usize,
) -> SqlError {
    let message = format!("insert or update on table \"{name}\" violates foreign key constraint \"{}\"", key.name);
    let key = key_text(table, &key.columns, batch, row);
    SqlError::error("23503", message).with_hint(format!("Key {key} is not present in table \"{}\".", parent.table))
}

/// Returns the error of a change of a row that another one references.
pub(super) fn still_referenced(
    parent: &RelatedTable,
    child: &RelatedTable,
    key: &ForeignKey,
    batch: &RecordBatch,
    row: usize,
) -> SqlError {
    let (changed, from) = (&parent.name.table, &child.name.table);
    let message = format!(
        "update or delete on table \"{changed}\" violates foreign key constraint \"{}\" on table \"{from}\"",
        key.name
    );
    let key = key_text(parent.table.as_ref(), &key.referenced, batch, row);
    SqlError::error("23503", message).with_hint(format!("Key {key} is still referenced from table \"{from}\"."))
}

/// Returns the columns of a key and its values, as in `(a, b)=(1, x)`.
fn key_text(table: &dyn TableProvider, columns: &[usize], batch: &RecordBatch, row: usize) -> String {
    let schema = table.schema();
    let names: Vec<_> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
    let value = |column: &usize| {
        let column = batch.column(*column);
        let texts = neuroql::uuid_texts(column);
        array_value_to_string(texts.as_ref().unwrap_or(column), row).unwrap_or_default()
    };
    let values: Vec<_> = columns.iter().map(value).collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray};
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::datasource::MemTable;

    use super::*;

    /// Returns which values are among the keys of a column of another type; `None` for NULL.
    fn found(values: ArrayRef, keys: ArrayRef) -> Vec<Option<bool>> {
        let batch = |column: ArrayRef| RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("a", keys.data_type().clone(), true)]));
        let table = MemTable::try_new(schema, vec![vec![batch(keys)]]).unwrap();
        let reader = KeyReader::new(&table, &[0]).unwrap();
        let known = reader.read_all(&partitions(&table).concat(), &[0]).unwrap();
        let known: HashSet<_> = known.iter().flat_map(|batch| batch.keys.iter()).collect();
        let read = reader.read(&batch(values), &[0]).unwrap();
        let is_known = |row: usize| !read.foreign[row] && known.contains(&read.keys.row(row));
        (0..read.complete.len()).map(|row| read.complete[row].then(|| is_known(row))).collect()
    }

    #[test]
    fn keys_of_other_types_are_compared_as_values() {
        let decimals = |values: &[i128], scale| -> ArrayRef {
            Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(10, scale).unwrap())
        };
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1 << 40), None, Some(3)]));
        let expected = [Some(true), Some(false), None, Some(false)];
        assert_eq!(found(Arc::clone(&wide), Arc::new(Int32Array::from(vec![1, 2]))), expected);
        assert_eq!(found(Arc::clone(&wide), decimals(&[100, 200], 2)), expected);
        assert_eq!(found(wide, Arc::new(Float64Array::from(vec![1.0, 2.0]))), expected);
        assert_eq!(found(decimals(&[125, 130], 2), decimals(&[13], 1)), [Some(false), Some(true)]);
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, f64::NAN]));
        assert_eq!(found(zeros, Arc::new(Float64Array::from(vec![0.0]))), [Some(true), Some(false)]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("é"), None, Some("")]));
        let views: ArrayRef = Arc::new(datafusion::arrow::array::StringViewArray::from(vec!["é", "x"]));
        assert_eq!(found(texts, views), [Some(true), None, Some(false)]);
    }
}
