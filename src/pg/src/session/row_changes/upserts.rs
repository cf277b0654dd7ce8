//! INSERT with ON CONFLICT into tables in memory.
//!
//! The proposed rows are inserted into an empty table of the same columns, which makes values of their columns' types of them. What
//! DO UPDATE makes of the rows that they meet is one query over pairs of rows. Then the rows are looked at one after the other, as in
//! PostgreSQL: one may meet a row that an earlier one has left, or added.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::{concat_batches, interleave, interleave_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, WriteOp};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;

use crate::session::Session;
use crate::session::checks;
use crate::session::constraints;
use crate::session::foreign_keys::{BatchKeys, KeyReader, failed};
use crate::session::result_stream::{executed, isolated};
use crate::session::row_changes::conflicts::{Parts, keys_of, parts};
use crate::session::row_changes::queries::with_first;
use crate::session::row_changes::rows::{Partitions, ROW, replaced};
use crate::session::row_changes::{ChangedRows, internal, of_schema};
use crate::session::transaction::{of_partitions, partitions};
use crate::wire::error_response::{Failure, SqlError};

impl Session {
    /// Runs an INSERT with ON CONFLICT. `returns` says if the rows that it inserts and updates are asked for.
    ///
    /// # Errors
    /// 21000 if a row would be updated twice, those of the values, and those of constraints.
    pub(in crate::session) async fn upsert(
        &mut self,
        plan: &LogicalPlan,
        returns: bool,
    ) -> Result<ChangedRows, Failure> {
        let Parts { insert, update, target } = parts(plan).ok_or_else(|| internal("no ON CONFLICT"))?;
        let in_block = self.status != TransactionStatus::Idle;
        let table = source_as_provider(&insert.target)?;
        // Rows that change concern the tables that reference them, too.
        let op = if update.is_some() { WriteOp::Update } else { insert.op.clone() };
        let change =
            DmlStatement::new(insert.table_name.clone(), Arc::clone(&insert.target), op, Arc::clone(&insert.input));
        let changed = self.begin_change(table, &change, in_block).await?;
        let (table, name) = (Arc::clone(changed.table()), changed.name().to_owned());
        let keys = keys_of(table.as_ref(), &name, target)?;
        let proposed = self.proposed(insert, &table, &name).await?;
        let before = partitions(table.as_ref());
        let schema = table.schema();
        let existing = whole(&schema, before.iter().flatten())?;
        let search = {
            let (table, existing, proposed) = (Arc::clone(&table), existing.clone(), proposed.clone());
            let finds_pairs = update.is_some();
            isolated(async move { Search::new(table.as_ref(), &keys, &existing, &proposed, finds_pairs) }).await?
        };
        let updated = match update {
            Some(update) => {
                let query = update_query(update, &existing, &proposed, &search.pairs)?;
                let found = executed(&self.context, self.transaction.visible(query)?).await?;
                Some(found)
            }
            None => None,
        };
        let work = async move {
            let outcome = search.run(table.as_ref(), proposed.num_rows(), updated.as_deref())?;
            outcome.applied(&schema, &name, &before, &proposed, returns)
        };
        let (after, done) = isolated(work).await?;
        let mut after = after.into_iter();
        of_partitions(changed.table().as_ref(), |batches| *batches = after.next().unwrap_or_default());
        self.end_change(changed, Ok(Vec::new())).await?;
        Ok(done)
    }

    /// Returns the rows that an INSERT proposes, which satisfy the constraints of single rows.
    async fn proposed(
        &self,
        insert: &DmlStatement,
        table: &Arc<dyn TableProvider>,
        name: &str,
    ) -> Result<RecordBatch, SqlError> {
        let constraints = table.constraints().cloned().unwrap_or_default();
        let rows = MemTable::try_new(table.schema(), vec![Vec::new()])?.with_constraints(constraints);
        let rows: Arc<dyn TableProvider> = Arc::new(rows);
        let target = provider_as_source(Arc::clone(&rows));
        let input = Arc::clone(&insert.input);
        let insert = DmlStatement::new(insert.table_name.clone(), target, insert.op.clone(), input);
        let plan = self.transaction.visible(LogicalPlan::Dml(insert))?;
        let done = executed(&self.context, plan).await;
        done.map_err(|error| constraints::named(error, table.as_ref(), name))?;
        constraints::check_types(rows.as_ref(), &[0])?;
        constraints::check_primary(rows.as_ref(), name)?;
        let batches = partitions(rows.as_ref()).concat();
        checks::check_rows(&self.context, table, name, &batches).await?;
        whole(&table.schema(), batches.iter())
    }
}

/// Makes one batch of batches of a table.
fn whole<'a>(schema: &SchemaRef, batches: impl Iterator<Item = &'a RecordBatch>) -> Result<RecordBatch, SqlError> {
    let batches = batches.map(|batch| of_schema(batch, schema)).collect::<datafusion::error::Result<Vec<_>>>()?;
    concat_batches(schema, &batches).map_err(failed)
}

/// Returns the query of DO UPDATE over pairs of a row of the table and a proposed one: the numbers of the pairs that are updated, and
/// the new rows.
fn update_query(
    update: &DmlStatement,
    existing: &RecordBatch,
    proposed: &RecordBatch,
    pairs: &[(usize, usize)],
) -> Result<LogicalPlan, SqlError> {
    let LogicalPlan::Projection(values) = update.input.as_ref() else {
        return Err(internal("DO UPDATE has another plan"));
    };
    let is_join = |plan: &LogicalPlan| matches!(plan, LogicalPlan::Join(_));
    let mut join = values.input.as_ref();
    while let LogicalPlan::Filter(filter) = join {
        join = &filter.input;
    }
    if !is_join(join) || join.schema().fields().len() != existing.num_columns() + proposed.num_columns() {
        return Err(internal("DO UPDATE reads other tables"));
    }
    let sides = |side: fn(&(usize, usize)) -> usize, rows: &RecordBatch| {
        let places: Vec<_> = pairs.iter().map(|pair| (0, side(pair))).collect();
        interleave_record_batch(&[rows], &places).map_err(failed)
    };
    let (own, others) = (sides(|pair| pair.0, existing)?, sides(|pair| pair.1, proposed)?);
    let count = i64::try_from(pairs.len()).map_err(|_| internal("too many pairs"))?;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let columns: Vec<_> = own.columns().iter().chain(others.columns()).cloned().chain([numbers]).collect();
    let fields = join.schema().fields().iter().zip(&columns).enumerate().map(|(place, (field, column))| {
        let field = Field::clone(field).with_name(format!("column_{place}"));
        Arc::new(field.with_data_type(column.data_type().clone()).with_nullable(true))
    });
    let number = Arc::new(Field::new(ROW, DataType::Int64, false));
    let schema: SchemaRef = Arc::new(Schema::new(fields.chain([number]).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?;
    let rows = MemTable::try_new(schema, vec![vec![batch]])?;
    let rows = LogicalPlanBuilder::scan("conflicts", provider_as_source(Arc::new(rows)), None)?.build()?;
    let names = join.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.name().clone()));
    let names = names.chain([(None, ROW.to_owned())]);
    let columns = rows.schema().columns().into_iter().zip(names);
    let columns: Vec<_> =
        columns.map(|(column, (qualifier, name))| Expr::Column(column).alias_qualified(qualifier, name)).collect();
    let rows = LogicalPlanBuilder::from(rows).project(columns)?.build()?;
    let source = with_first(&values.input, rows, |plan| matches!(plan, LogicalPlan::Join(_)))?;
    let mut outputs = vec![Expr::Column(Column::from_name(ROW)).alias("number")];
    let new = values.expr.iter().enumerate();
    outputs.extend(new.map(|(place, value)| value.clone().unalias().alias(format!("new_{place}"))));
    Ok(LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(source))?))
}

/// A row of the table: one that is there, or a proposed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Existing(usize),
    Proposed(usize),
}

/// A key, and who has its values.
struct Key {
    reader: KeyReader,
    columns: Vec<usize>,
    proposed: BatchKeys,
    existing: BatchKeys,
    rows: HashMap<Box<[u8]>, Row>,
}

fn values(keys: &BatchKeys, row: usize) -> Option<&[u8]> {
    keys.complete[row].then(|| keys.keys.row(row).data())
}

/// The search for conflicts.
struct Search {
    keys: Vec<Key>,
    /// Rows that are there, and proposed rows that have a key of them.
    pairs: Vec<(usize, usize)>,
}

impl Search {
    fn new(
        table: &dyn TableProvider,
        keys: &[Vec<usize>],
        existing: &RecordBatch,
        proposed: &RecordBatch,
        finds_pairs: bool,
    ) -> Result<Self, SqlError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut pairs = Vec::new();
        for columns in keys {
            let reader = KeyReader::new(table, columns)?;
            let (of_existing, of_proposed) = (reader.read(existing, columns)?, reader.read(proposed, columns)?);
            let rows = (0..existing.num_rows())
                .filter_map(|row| Some((values(&of_existing, row)?.into(), Row::Existing(row))));
            let rows: HashMap<Box<[u8]>, Row> = rows.collect();
            for row in (0..proposed.num_rows()).filter(|_| finds_pairs) {
                if let Some(Row::Existing(other)) = values(&of_proposed, row).and_then(|key| rows.get(key)) {
                    pairs.push((*other, row));
                }
            }
            found.push(Key { reader, columns: columns.clone(), proposed: of_proposed, existing: of_existing, rows });
        }
        pairs.sort_unstable_by_key(|(existing, proposed)| (*proposed, *existing));
        pairs.dedup();
        Ok(Self { keys: found, pairs })
    }

    /// Looks at this many proposed rows, one after the other. `updated` are the rows of the query of DO UPDATE.
    fn run(
        mut self,
        table: &dyn TableProvider,
        proposed: usize,
        updated: Option<&[RecordBatch]>,
    ) -> Result<Outcome, SqlError> {
        let new = match updated {
            Some(found) => Some(New::read(table, found)?),
            None => None,
        };
        // The keys of the new rows.
        let new_keys = match &new {
            Some(new) => self
                .keys
                .iter()
                .map(|key| key.reader.read(&new.rows, &key.columns))
                .collect::<Result<Vec<_>, SqlError>>()?,
            None => Vec::new(),
        };
        let pairs: HashMap<_, _> = self.pairs.iter().copied().zip(0_i64..).collect();
        let mut outcome = Outcome { changes: Vec::new(), new: new.as_ref().map(|new| new.rows.clone()) };
        let mut touched = HashSet::new();
        for row in 0..proposed {
            let met = self.keys.iter().find_map(|key| key.rows.get(values(&key.proposed, row)?)).copied();
            let (met, Some(new)) = (met, &new) else {
                if met.is_none() {
                    self.add(row);
                    outcome.changes.push(Change::Inserted(row));
                }
                continue;
            };
            let other = match met {
                None => {
                    self.add(row);
                    outcome.changes.push(Change::Inserted(row));
                    continue;
                }
                Some(Row::Existing(other)) if !touched.contains(&other) => other,
                Some(_) => return Err(twice()),
            };
            let pair = pairs.get(&(other, row)).ok_or_else(|| internal("a conflict was not found"))?;
            let Some(place) = new.places.get(pair).copied() else { continue };
            touched.insert(other);
            for (key, new_keys) in self.keys.iter_mut().zip(&new_keys) {
                if let Some(old) = values(&key.existing, other) {
                    key.rows.remove(old);
                }
                if let Some(new) = values(new_keys, place) {
                    key.rows.insert(new.into(), Row::Existing(other));
                }
            }
            outcome.changes.push(Change::Updated { row: other, place });
        }
        Ok(outcome)
    }

    /// Notes the keys of a proposed row that is inserted.
    fn add(&mut self, row: usize) {
        for key in &mut self.keys {
            if let Some(found) = values(&key.proposed, row) {
                key.rows.insert(found.into(), Row::Proposed(row));
            }
        }
    }
}

fn twice() -> SqlError {
    let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
    let hint = "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.";
    SqlError::error("21000", message).with_hint(hint)
}

/// The rows that DO UPDATE makes.
struct New {
    rows: RecordBatch,
    /// Their places, by the numbers of their pairs.
    places: HashMap<i64, usize>,
}

impl New {
    fn read(table: &dyn TableProvider, found: &[RecordBatch]) -> Result<Self, SqlError> {
        let fields = table
            .schema()
            .fields()
            .iter()
            .map(|field| Arc::new(Field::clone(field).with_nullable(true)))
            .collect::<Vec<_>>();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let Some(first) = found.first() else {
            return Ok(Self { rows: RecordBatch::new_empty(schema), places: HashMap::new() });
        };
        let found = concat_batches(first.schema_ref(), found).map_err(failed)?;
        let places = found.column(0).as_primitive::<Int64Type>().values().iter().copied().zip(0..).collect();
        let rest: Vec<usize> = (1..found.num_columns()).collect();
        let rows = of_schema(&found.project(&rest).map_err(failed)?, &schema)?;
        Ok(Self { rows, places })
    }
}

/// Change of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Inserted(usize),
    /// The row that was there, and the place of the new one.
    Updated {
        row: usize,
        place: usize,
    },
}

struct Outcome {
    changes: Vec<Change>,
    /// The rows that DO UPDATE makes.
    new: Option<RecordBatch>,
}

impl Outcome {
    /// Returns the rows of the table after the changes, and those that have changed.
    fn applied(
        self,
        schema: &SchemaRef,
        name: &str,
        before: &[Vec<RecordBatch>],
        proposed: &RecordBatch,
        returns: bool,
    ) -> Result<(Partitions, ChangedRows), SqlError> {
        let mut places = Vec::new();
        let mut added = Vec::new();
        for change in &self.changes {
            match change {
                Change::Inserted(row) => added.push((0, *row)),
                Change::Updated { row, place } => {
                    places.push((i64::try_from(*row).map_err(|_| internal("too many rows"))?, *place));
                }
            }
        }
        places.sort_unstable();
        let mut after = match &self.new {
            Some(new) => replaced(schema, name, before, new, &places)?,
            None => before.to_vec(),
        };
        if !added.is_empty() {
            let rows = interleave_record_batch(&[proposed], &added).map_err(failed)?;
            let last = after.last_mut().ok_or_else(|| internal("a table without partitions"))?;
            last.push(rows);
        }
        let mut done = ChangedRows { count: self.changes.len(), rows: None };
        if returns {
            let sources: Vec<_> = self
                .changes
                .iter()
                .map(|change| match change {
                    Change::Inserted(row) => (0, *row),
                    Change::Updated { place, .. } => (1, *place),
                })
                .collect();
            let columns = proposed.columns().iter().enumerate().map(|(column, own)| {
                let own: &dyn Array = own.as_ref();
                let new: &dyn Array = self.new.as_ref().map_or(own, |new| new.column(column).as_ref());
                interleave(&[own, new], &sources).map_err(failed)
            });
            let fields = schema.fields().iter().map(|field| Arc::new(Field::clone(field).with_nullable(true)));
            let nullable: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let columns = columns.collect::<Result<Vec<_>, SqlError>>()?;
            done.rows = Some(RecordBatch::try_new(nullable, columns).map_err(failed)?);
        }
        Ok((after, done))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int32Array;

    use super::*;

    fn rows(values: &[Pair]) -> RecordBatch {
        let columns: [(&str, ArrayRef, bool); 2] = [
            ("a", Arc::new(Int32Array::from_iter(values.iter().map(|(a, _)| *a))), true),
            ("b", Arc::new(Int32Array::from_iter_values(values.iter().map(|(_, b)| *b))), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    type Pair = (Option<i32>, i32);

    /// Makes a new row of one that is there and a proposed one.
    type Updated<'a> = &'a dyn Fn(Pair, Pair) -> Option<Pair>;

    /// Returns what becomes of proposed rows.
    fn outcome(existing: &[Pair], proposed: &[Pair], updated: Option<Updated<'_>>) -> Result<Vec<Pair>, String> {
        let (of_table, of_insert) = (rows(existing), rows(proposed));
        let schema = of_table.schema();
        let table = MemTable::try_new(Arc::clone(&schema), vec![vec![of_table.clone()]]).unwrap();
        let search = Search::new(&table, &[vec![0]], &of_table, &of_insert, updated.is_some()).unwrap();
        let found = updated.map(|updated| {
            let new = search
                .pairs
                .iter()
                .zip(0_i64..)
                .filter_map(|((own, other), number)| Some((number, updated(existing[*own], proposed[*other])?)));
            let (numbers, new): (Vec<_>, Vec<_>) = new.unzip();
            let batch = rows(&new);
            let columns = [("n", Arc::new(Int64Array::from(numbers)) as ArrayRef, false)];
            let own = [("a", batch.column(0).clone(), true), ("b", batch.column(1).clone(), true)];
            vec![RecordBatch::try_from_iter_with_nullable(columns.into_iter().chain(own)).unwrap()]
        });
        let run = search.run(&table, of_insert.num_rows(), found.as_deref());
        let outcome = run.map_err(|error| error.sqlstate.into_owned())?;
        let (after, done) = outcome.applied(&schema, "t", &[vec![of_table]], &of_insert, true).unwrap();
        assert_eq!(done.rows.unwrap().num_rows(), done.count);
        let after = whole(&schema, after.iter().flatten()).unwrap();
        let (a, b) = (after.column(0).as_primitive::<datafusion::arrow::datatypes::Int32Type>(), after.column(1));
        let b = b.as_primitive::<datafusion::arrow::datatypes::Int32Type>();
        Ok(a.iter().zip(b.values().iter().copied()).collect())
    }

    #[test]
    fn rows_with_conflicts_are_left_out() {
        let existing = [(Some(1), 10), (None, 11)];
        let proposed = [(Some(2), 20), (Some(1), 21), (Some(2), 22), (None, 23)];
        let after = outcome(&existing, &proposed, None).unwrap();
        assert_eq!(after, [(Some(1), 10), (None, 11), (Some(2), 20), (None, 23)]);
        assert_eq!(outcome(&[], &[], None).unwrap(), []);
    }

    #[test]
    fn rows_with_conflicts_are_updated_once() {
        let sum = |own: Pair, other: Pair| Some((own.0, own.1 + other.1));
        let existing = [(Some(1), 10), (Some(2), 20)];
        assert_eq!(
            outcome(&existing, &[(Some(2), 1), (Some(3), 2)], Some(&sum)).unwrap(),
            [(Some(1), 10), (Some(2), 21), (Some(3), 2)]
        );
        assert_eq!(outcome(&existing, &[(Some(2), 1), (Some(2), 2)], Some(&sum)).unwrap_err(), "21000");
        assert_eq!(outcome(&[], &[(Some(2), 1), (Some(2), 2)], Some(&sum)).unwrap_err(), "21000");
        // The condition of the update is false for the first.
        let large = |own: Pair, other: Pair| (other.1 > 1).then_some((own.0, other.1));
        let after = outcome(&existing, &[(Some(2), 1), (Some(2), 2)], Some(&large)).unwrap();
        assert_eq!(after, [(Some(1), 10), (Some(2), 2)]);
        // The first leaves its key to the second.
        let moved = |own: Pair, _: Pair| Some((own.0.map(|key| key + 5), own.1));
        let after = outcome(&existing, &[(Some(2), 1), (Some(2), 2)], Some(&moved)).unwrap();
        assert_eq!(after, [(Some(1), 10), (Some(7), 20), (Some(2), 2)]);
        assert_eq!(outcome(&existing, &[(Some(2), 1), (Some(7), 2)], Some(&moved)).unwrap_err(), "21000");
    }
}
