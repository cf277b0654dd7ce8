//! UPDATE and DELETE of rows of tables in memory.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, interleave, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, WriteOp};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;

use crate::session::Session;
use crate::session::constraints;
use crate::session::foreign_keys::failed;
use crate::session::result_stream::{executed, isolated};
use crate::session::row_changes::queries::{target, with_first};
use crate::session::row_changes::{ChangedRows, internal, of_schema};
use crate::session::transaction::{of_partitions, partitions};
use crate::wire::error_response::{Failure, SqlError};

/// The name of the column that numbers rows.
pub(super) const ROW: &str = "neuroql_row_number";

/// The batches of each partition of a table.
pub(super) type Partitions = Vec<Vec<RecordBatch>>;

impl Session {
    /// Updates or deletes rows of a table in memory. `returns` says if they are asked for.
    ///
    /// # Errors
    /// Those of the values and conditions, and of constraints.
    pub(in crate::session) async fn change_rows(
        &mut self,
        dml: &DmlStatement,
        returns: bool,
    ) -> Result<ChangedRows, Failure> {
        let in_block = self.status != TransactionStatus::Idle;
        let table = source_as_provider(&dml.target)?;
        let changed = self.begin_change(table, dml, in_block).await?;
        let (table, name) = (Arc::clone(changed.table()), changed.name().to_owned());
        let before = partitions(table.as_ref());
        let is_update = matches!(dml.op, WriteOp::Update);
        let (after, done) = if !is_update && !returns && matches!(dml.input.as_ref(), LogicalPlan::TableScan(_)) {
            let count = before.iter().flatten().map(RecordBatch::num_rows).sum();
            (vec![Vec::new(); before.len()], ChangedRows { count, rows: None })
        } else {
            let query = query(dml, numbered(table.as_ref(), &before)?, returns)?;
            let query = self.transaction.visible(query)?;
            let found = executed(&self.context, query).await?;
            isolated(async move { applied(&table, &name, &before, &found, is_update, returns) }).await?
        };
        let mut after = after.into_iter();
        of_partitions(changed.table().as_ref(), |batches| *batches = after.next().unwrap_or_default());
        self.end_change(changed, Ok(Vec::new())).await?;
        Ok(done)
    }
}

/// Returns the rows of a table with their numbers.
fn numbered(table: &dyn TableProvider, partitions: &[Vec<RecordBatch>]) -> Result<MemTable, SqlError> {
    let schema = table.schema();
    let number = Arc::new(Field::new(ROW, DataType::Int64, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([number]).collect();
    let with_numbers: SchemaRef = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let mut next = 0_i64;
    let batches = partitions.iter().flatten().map(|batch| {
        let batch = of_schema(batch, &schema)?;
        let first = next;
        next += i64::try_from(batch.num_rows()).map_err(|_| internal("a batch is too long"))?;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..next));
        let columns = batch.columns().iter().cloned().chain([numbers]).collect();
        RecordBatch::try_new(Arc::clone(&with_numbers), columns).map_err(failed)
    });
    let batches = batches.collect::<Result<Vec<_>, SqlError>>()?;
    Ok(MemTable::try_new(with_numbers, vec![batches])?)
}

/// Returns the query of a change: the numbers of rows, their new values if it is an UPDATE, and if they are returned the columns
/// of the tables that they are joined with, for a DELETE after their own.
fn query(dml: &DmlStatement, rows: MemTable, returns: bool) -> Result<LogicalPlan, SqlError> {
    let (values, source) = match (&dml.op, dml.input.as_ref()) {
        (WriteOp::Update, LogicalPlan::Projection(projection)) => (projection.expr.as_slice(), &projection.input),
        (WriteOp::Delete, _) => (&[][..], &dml.input),
        _ => return Err(internal("a change has another plan")),
    };
    let columns = dml.target.schema().fields().len();
    let scan = target(source).ok_or_else(|| internal("a change reads no table"))?;
    let first = LogicalPlanBuilder::scan(scan.table_name.clone(), provider_as_source(Arc::new(rows)), None)?.build()?;
    let source = with_first(source, first, |plan| matches!(plan, LogicalPlan::TableScan(_)))?;
    let column = |place: usize| Expr::Column(Column::from(source.schema().qualified_field(place)));
    let mut outputs = vec![column(columns).alias("number")];
    outputs
        .extend(values.iter().enumerate().map(|(place, value)| value.clone().unalias().alias(format!("new_{place}"))));
    if returns {
        let own = if values.is_empty() { 0 } else { columns };
        let others = (own..source.schema().fields().len()).filter(|place| *place != columns);
        outputs.extend(others.map(|place| column(place).alias(format!("old_{place}"))));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(source))?))
}

/// Returns the rows of a table after a change, and those that it has changed. `found` are the rows of its query.
fn applied(
    table: &Arc<dyn TableProvider>,
    name: &str,
    before: &[Vec<RecordBatch>],
    found: &[RecordBatch],
    is_update: bool,
    returns: bool,
) -> Result<(Partitions, ChangedRows), SqlError> {
    let Some(first) = found.first() else { return Ok((before.to_vec(), ChangedRows::default())) };
    let found = chosen(&concat_batches(first.schema_ref(), found).map_err(failed)?)?;
    let numbers = found.column(0).as_primitive::<Int64Type>().values().to_vec();
    let schema = table.schema();
    let rest: Vec<usize> = (1..found.num_columns()).collect();
    let rest = found.project(&rest).map_err(failed)?;
    let after = if is_update {
        let own: Vec<usize> = (0..schema.fields().len()).collect();
        let new = rest.project(&own).map_err(failed)?;
        let places: Vec<_> = numbers.iter().copied().zip(0..).collect();
        replaced(&schema, name, before, &new, &places)?
    } else {
        removed(before, &numbers)?
    };
    Ok((after, ChangedRows { count: numbers.len(), rows: returns.then_some(rest) }))
}

/// Returns the rows of a query in the order of their numbers, the first column: one of each. Which one does not depend on the order
/// of the query's rows.
fn chosen(found: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let numbers = found.column(0).as_primitive::<Int64Type>().values();
    let mut order: Vec<usize> = (0..found.num_rows()).collect();
    order.sort_by_key(|row| numbers[*row]);
    let has_twins = order.windows(2).any(|pair| numbers[pair[0]] == numbers[pair[1]]);
    if has_twins {
        let fields: Vec<_> =
            found.columns().iter().skip(1).map(|column| SortField::new(column.data_type().clone())).collect();
        if !fields.is_empty() && RowConverter::supports_fields(&fields) {
            let converter = RowConverter::new(fields).map_err(failed)?;
            let rows = converter.convert_columns(&found.columns()[1..]).map_err(failed)?;
            order.sort_by(|one, other| {
                let by_number = numbers[*one].cmp(&numbers[*other]);
                by_number.then_with(|| rows.row(*one).cmp(&rows.row(*other)))
            });
        }
        order.dedup_by_key(|row| numbers[*row]);
    }
    let order = UInt64Array::from_iter_values(order.into_iter().map(|row| row as u64));
    take_record_batch(found, &order).map_err(failed)
}

/// Returns the numbers of the rows of a batch that come next.
fn numbers_of(batch: &RecordBatch, next: &mut i64) -> Result<Range<i64>, SqlError> {
    let first = *next;
    *next += i64::try_from(batch.num_rows()).map_err(|_| internal("a batch is too long"))?;
    Ok(first..*next)
}

/// Returns the rows of a table after some have become others: `places` are the numbers of rows, in their order, and the places of
/// those that they become.
///
/// # Errors
/// 23502 for a NULL where none may be.
pub(super) fn replaced(
    schema: &SchemaRef,
    name: &str,
    before: &[Vec<RecordBatch>],
    new: &RecordBatch,
    places: &[(i64, usize)],
) -> Result<Partitions, SqlError> {
    let nulls = schema
        .fields()
        .iter()
        .zip(new.columns())
        .find(|(field, column)| !field.is_nullable() && places.iter().any(|(_, place)| column.is_null(*place)));
    if let Some((field, _)) = nulls {
        return Err(constraints::not_null(field.name(), name));
    }
    let nullable: Vec<_> =
        schema.fields().iter().map(|field| Arc::new(Field::clone(field).with_nullable(true))).collect();
    let new = of_schema(new, &Arc::new(Schema::new(nullable)))?;
    let mut next = 0;
    let mut places = places.iter().peekable();
    let mut of_batch = |batch: &RecordBatch| -> Result<RecordBatch, SqlError> {
        let numbers = numbers_of(batch, &mut next)?;
        if places.peek().is_none_or(|(number, _)| !numbers.contains(number)) {
            return Ok(batch.clone());
        }
        let sources: Vec<(usize, usize)> = numbers
            .enumerate()
            .map(|(row, number)| match places.next_if(|(found, _)| *found == number) {
                Some((_, place)) => (1, *place),
                None => (0, row),
            })
            .collect();
        let old = of_schema(batch, schema)?;
        let columns = old.columns().iter().zip(new.columns());
        let columns = columns.map(|(old, new)| interleave(&[old.as_ref(), new.as_ref()], &sources).map_err(failed));
        RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?).map_err(failed)
    };
    before.iter().map(|batches| batches.iter().map(&mut of_batch).collect()).collect()
}

/// Returns the rows of a table without those of these numbers, which are in their order.
fn removed(before: &[Vec<RecordBatch>], numbers: &[i64]) -> Result<Partitions, SqlError> {
    let mut next = 0;
    let mut gone = numbers.iter().peekable();
    let mut of_batch = |batch: &RecordBatch| -> Result<RecordBatch, SqlError> {
        let numbers = numbers_of(batch, &mut next)?;
        if gone.peek().is_none_or(|number| !numbers.contains(number)) {
            return Ok(batch.clone());
        }
        let kept: BooleanArray =
            numbers.map(|number| Some(gone.next_if(|found| **found == number).is_none())).collect();
        filter_record_batch(batch, &kept).map_err(failed)
    };
    let each = before.iter().map(|batches| {
        let kept = batches.iter().map(&mut of_batch).collect::<Result<Vec<_>, SqlError>>()?;
        Ok::<Vec<RecordBatch>, SqlError>(kept.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;

    use super::*;

    fn batch(values: &[Option<&str>]) -> RecordBatch {
        let column: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap()
    }

    fn texts(partitions: &[Vec<RecordBatch>]) -> Vec<Vec<Option<String>>> {
        let of_batch = |batch: &RecordBatch| {
            batch.column(0).as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
        };
        partitions.iter().map(|batches| batches.iter().flat_map(of_batch).collect()).collect()
    }

    fn owned(values: &[Option<&str>]) -> Vec<Option<String>> {
        values.iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn rows_are_found_by_their_numbers() {
        let before = vec![vec![batch(&[Some("a"), None]), batch(&[])], vec![batch(&[Some("c")]), batch(&[Some("d")])]];
        let new = batch(&[Some("x"), None]);
        let after = replaced(&new.schema(), "t", &before, &new, &[(1, 0), (3, 1)]).unwrap();
        assert_eq!(texts(&after), [owned(&[Some("a"), Some("x")]), owned(&[Some("c"), None])]);
        let after = replaced(&new.schema(), "t", &before, &new, &[]).unwrap();
        assert_eq!(texts(&after), texts(&before));
        let after = removed(&before, &[0, 3]).unwrap();
        assert_eq!(texts(&after), [owned(&[None]), owned(&[Some("c")])]);
        assert_eq!(after[1].len(), 1);
        assert_eq!(texts(&removed(&before, &[0, 1, 2, 3]).unwrap()), [owned(&[]), owned(&[])]);
    }

    #[test]
    fn nulls_are_refused_where_none_may_be() {
        let required: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, false)]));
        let before = vec![vec![batch(&[Some("a"), Some("b")])]];
        let new = batch(&[None, Some("x")]);
        assert_eq!(replaced(&required, "t", &before, &new, &[(0, 0)]).unwrap_err().sqlstate, "23502");
        let after = replaced(&required, "t", &before, &new, &[(0, 1)]).unwrap();
        assert_eq!(texts(&after), [owned(&[Some("x"), Some("b")])]);
    }

    #[test]
    fn one_of_several_rows_is_chosen() {
        let found = |order: &[usize]| {
            let rows = [(4, Some("b")), (0, Some("z")), (4, Some("a")), (4, None)];
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(order.iter().map(|row| rows[*row].0)));
            let texts: Vec<_> = order.iter().map(|row| rows[*row].1).collect();
            let columns = [("n", numbers, false), ("a", Arc::new(StringArray::from(texts)) as ArrayRef, true)];
            let found = chosen(&RecordBatch::try_from_iter_with_nullable(columns).unwrap()).unwrap();
            let numbers = found.column(0).as_primitive::<Int64Type>().values().to_vec();
            (numbers, owned(&found.column(1).as_string::<i32>().iter().collect::<Vec<_>>()))
        };
        let expected = (vec![0, 4], owned(&[Some("z"), None]));
        assert_eq!(found(&[0, 1, 2, 3]), expected);
        assert_eq!(found(&[3, 2, 1, 0]), expected);
    }
}
