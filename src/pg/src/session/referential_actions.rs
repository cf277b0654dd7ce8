//! Actions of foreign keys when rows that are referenced have changed: NO ACTION, RESTRICT, CASCADE and SET NULL.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options, concat, filter_record_batch, interleave, nullif};
use datafusion::arrow::datatypes::{Field, Schema};

use crate::catalog::keys::held::{Action, ForeignKey};
use crate::session::constraints;
use crate::session::foreign_keys::{BatchKeys, KeyReader, Related, RelatedTable, RowChange, failed, still_referenced};
use crate::session::result_stream::isolated;
use crate::session::transaction::{of_partitions, partitions};
use crate::wire::error_response::SqlError;

/// A change of the rows of a table.
struct Changed {
    /// The address of the table's rows.
    table: usize,
    change: RowChange,
    old: Vec<RecordBatch>,
    new: Vec<RecordBatch>,
}

/// A change whose foreign keys are looked at, one after the other.
struct Frame {
    changed: Arc<Changed>,
    references: Vec<(usize, Arc<ForeignKey>)>,
    next: usize,
}

impl Frame {
    /// Returns the frame of a change from `old` to the rows that a table has.
    fn new(related: &Related, table: usize, change: RowChange, old: &[Vec<RecordBatch>]) -> Option<Self> {
        let found = related.get(table)?;
        let new = partitions(found.table.as_ref()).concat();
        let changed = Arc::new(Changed { table, change, old: old.concat(), new });
        Some(Self { changed, references: related.references(found.table.as_ref()), next: 0 })
    }
}

/// Does what the foreign keys do that reference a table whose rows have changed from `old` to those that it has. As in
/// PostgreSQL they come in the order in which they were made, each with all that follows from it. Returns the addresses of
/// the tables in which rows were updated. Rows are changed where this future runs: nothing changes once it is dropped.
///
/// # Errors
/// 23503 if a changed row is referenced that may not be, 23502 for a NULL where none may be.
pub(super) async fn follow(
    related: &Arc<Related>,
    table: usize,
    change: RowChange,
    old: Vec<Vec<RecordBatch>>,
) -> Result<HashSet<usize>, SqlError> {
    let mut updated = HashSet::new();
    let mut stack: Vec<Frame> = Frame::new(related, table, change, &old).into_iter().collect();
    while let Some(top) = stack.last_mut() {
        let Some((at, key)) = top.references.get(top.next).cloned() else {
            stack.pop();
            continue;
        };
        top.next += 1;
        let (all, changed) = (Arc::clone(related), Arc::clone(&top.changed));
        let done = isolated(async move { apply(&all, &changed, at, &key) }).await?;
        let (Some((change, after)), Some(child)) = (done, related.get(at)) else { continue };
        if change == RowChange::Update {
            updated.insert(at);
        }
        let before = partitions(child.table.as_ref());
        let mut after = after.into_iter();
        of_partitions(child.table.as_ref(), |batches| *batches = after.next().unwrap_or_default());
        stack.extend(Frame::new(related, at, change, &before));
    }
    Ok(updated)
}

/// The batches of each partition of a table.
type Partitions = Vec<Vec<RecordBatch>>;

/// Returns the change of a table that one of its foreign keys makes, and the rows after it; `None` if there is none.
fn apply(
    related: &Related,
    changed: &Changed,
    child: usize,
    key: &ForeignKey,
) -> Result<Option<(RowChange, Partitions)>, SqlError> {
    let (Some(parent), Some(child)) = (related.get(changed.table), related.get(child)) else { return Ok(None) };
    let reader = KeyReader::new(parent.table.as_ref(), &key.referenced)?;
    let old = reader.read_all(&changed.old, &key.referenced)?;
    let new = reader.read_all(&changed.new, &key.referenced)?;
    let gone = gone(&old, &new, changed.change);
    if gone.is_empty() {
        return Ok(None);
    }
    let rows = partitions(child.table.as_ref());
    let mut matches = Vec::with_capacity(rows.len());
    for batches in &rows {
        let of_batch = |batch: &RecordBatch| {
            let read = reader.read(batch, &key.columns)?;
            let rows = (0..batch.num_rows()).map(|row| {
                let is_key = read.complete[row] && !read.foreign[row];
                gone.get(read.keys.row(row).data()).copied().filter(|_| is_key)
            });
            Ok::<_, SqlError>(rows.collect::<Vec<_>>())
        };
        matches.push(batches.iter().map(of_batch).collect::<Result<Vec<_>, _>>()?);
    }
    let mut matched = matches.iter().flatten().flatten().flatten();
    let Some(first) = matched.next() else { return Ok(None) };
    let (action, change) = changed.change.action(key);
    let Some(change) = change else {
        let refused = match action {
            Action::Restrict => Some(first),
            _ => {
                // Another row may have the key.
                let now = reader.read_all(&partitions(parent.table.as_ref()).concat(), &key.referenced)?;
                let now: HashSet<&[u8]> = valid(&now).map(|(_, _, key)| key).collect();
                let is_gone = |found: &&Gone| !now.contains(old[found.batch].keys.row(found.row).data());
                std::iter::once(first).chain(matched).find(is_gone)
            }
        };
        return match refused {
            Some(found) => Err(still_referenced(parent, child, key, &changed.old[found.batch], found.row)),
            None => Ok(None),
        };
    };
    let after: Vec<Vec<RecordBatch>> = match (action, change) {
        (_, RowChange::Delete) => {
            let keep = |batch: &RecordBatch, found: &[Option<Gone>]| {
                let mask: BooleanArray = found.iter().map(|found| Some(found.is_none())).collect();
                filter_record_batch(batch, &mask).map_err(failed)
            };
            each(&rows, &matches, keep)?
        }
        (Action::Cascade, _) => {
            let replacement = Replacement::new(&changed.new, key)?;
            each(&rows, &matches, |batch, found| replacement.replace(batch, found, key))?
        }
        _ => {
            check_nullable(child, key)?;
            each(&rows, &matches, |batch, found| set_null(batch, found, key))?
        }
    };
    Ok(Some((change, after)))
}

/// A key that is gone: the row that had it, and for an update the place of that row among the new ones.
#[derive(Debug, Clone, Copy)]
struct Gone {
    batch: usize,
    row: usize,
    place: usize,
}

/// Returns the rows of keys without NULL: their batch, their row in it, and the key.
fn valid(keys: &[BatchKeys]) -> impl Iterator<Item = (usize, usize, &[u8])> {
    keys.iter().enumerate().flat_map(|(batch, keys)| {
        let rows = (0..keys.complete.len()).filter(|row| keys.complete[*row]);
        rows.map(move |row| (batch, row, keys.keys.row(row).data()))
    })
}

/// Returns the keys that rows no longer have. An update leaves rows in their order.
fn gone<'a>(old: &'a [BatchKeys], new: &'a [BatchKeys], change: RowChange) -> HashMap<&'a [u8], Gone> {
    if change != RowChange::Update {
        let left: HashSet<&[u8]> = valid(new).map(|(_, _, key)| key).collect();
        let lost = valid(old).filter(|(_, _, key)| !left.contains(key));
        return lost.map(|(batch, row, key)| (key, Gone { batch, row, place: 0 })).collect();
    }
    let all = |keys: &'a [BatchKeys]| {
        keys.iter().enumerate().flat_map(|(batch, keys)| (0..keys.complete.len()).map(move |row| (batch, row)))
    };
    let mut found = HashMap::new();
    for (place, ((batch, row), (new_batch, new_row))) in all(old).zip(all(new)).enumerate() {
        let (was, is) = (&old[batch], &new[new_batch]);
        let key = was.keys.row(row).data();
        let is_same = is.complete[new_row] && is.keys.row(new_row).data() == key;
        if was.complete[row] && !is_same {
            found.insert(key, Gone { batch, row, place });
        }
    }
    found
}

/// Makes batches of batches.
fn each(
    rows: &[Vec<RecordBatch>],
    matches: &[Vec<Vec<Option<Gone>>>],
    change: impl Fn(&RecordBatch, &[Option<Gone>]) -> Result<RecordBatch, SqlError>,
) -> Result<Vec<Vec<RecordBatch>>, SqlError> {
    let of_partition = |(batches, matches): (&Vec<RecordBatch>, &Vec<Vec<Option<Gone>>>)| {
        batches
            .iter()
            .zip(matches)
            .map(|(batch, found)| match found.iter().any(Option::is_some) {
                true => change(batch, found),
                false => Ok(batch.clone()),
            })
            .collect()
    };
    rows.iter().zip(matches).map(of_partition).collect()
}

/// Checks that columns of a foreign key may be NULL.
fn check_nullable(child: &RelatedTable, key: &ForeignKey) -> Result<(), SqlError> {
    let schema = child.table.schema();
    let required = key.columns.iter().map(|column| schema.field(*column)).find(|field| !field.is_nullable());
    required.map_or(Ok(()), |field| Err(constraints::not_null(field.name(), &child.name.table)))
}

fn set_null(batch: &RecordBatch, found: &[Option<Gone>], key: &ForeignKey) -> Result<RecordBatch, SqlError> {
    let mask: BooleanArray = found.iter().map(|found| Some(found.is_some())).collect();
    let mut columns = batch.columns().to_vec();
    for column in &key.columns {
        columns[*column] = nullif(&columns[*column], &mask).map_err(failed)?;
    }
    rebuilt(batch, columns, key)
}

/// New keys that take the place of old ones.
struct Replacement {
    /// The values of each column of the key, in all new rows.
    values: Vec<ArrayRef>,
}

impl Replacement {
    fn new(rows: &[RecordBatch], key: &ForeignKey) -> Result<Self, SqlError> {
        let values = key.referenced.iter().map(|column| {
            let parts: Vec<_> = rows.iter().map(|batch| batch.column(*column).as_ref()).collect();
            concat(&parts).map_err(failed)
        });
        Ok(Self { values: values.collect::<Result<_, _>>()? })
    }

    fn replace(&self, batch: &RecordBatch, found: &[Option<Gone>], key: &ForeignKey) -> Result<RecordBatch, SqlError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        // Only the new keys that are used need to be of the type of the column.
        let used: Vec<_> = found.iter().flatten().map(|found| (0, found.place)).collect();
        let mut next = 0..;
        let places = found.iter().enumerate().map(|(row, found)| match found {
            Some(_) => (1, next.next().unwrap_or_default()),
            None => (0, row),
        });
        let places: Vec<(usize, usize)> = places.collect();
        let mut columns = batch.columns().to_vec();
        for (column, values) in key.columns.iter().zip(&self.values) {
            let taken = interleave(&[values.as_ref()], &used).map_err(failed)?;
            let taken = cast_with_options(&taken, columns[*column].data_type(), &strict).map_err(failed)?;
            columns[*column] = interleave(&[columns[*column].as_ref(), taken.as_ref()], &places).map_err(failed)?;
        }
        rebuilt(batch, columns, key)
    }
}

/// Returns a batch with other columns, of which those of a key may be NULL.
fn rebuilt(batch: &RecordBatch, columns: Vec<ArrayRef>, key: &ForeignKey) -> Result<RecordBatch, SqlError> {
    let schema = batch.schema();
    let fields = schema.fields().iter().enumerate().map(|(place, field)| match key.columns.contains(&place) {
        true => Arc::new(Field::clone(field).with_nullable(true)),
        false => Arc::clone(field),
    });
    let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(failed)
}
