//! Cursors that move backward: `DECLARE … SCROLL CURSOR`.
//!
//! The rows that were fetched are kept, counted to the memory limit, and given again.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::sql::sqlparser::ast::{FetchDirection, ValueWithSpan};
use std::sync::Arc;

use crate::session::result_stream::ResultRows;
use crate::wire::error_response::SqlError;

/// Movement of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Movement {
    /// The next rows, so many.
    Forward(usize),
    /// The rows before, from the last one on.
    Backward(usize),
    /// A row by its number, from 1; from the end if it is negative; 0 is before the first.
    Absolute(i64),
    /// A row by its distance to the present one.
    Relative(i64),
}

impl Movement {
    /// Reads the direction of a FETCH.
    ///
    /// # Errors
    /// 42601 if a count is not a whole number.
    pub(crate) fn of(direction: &FetchDirection) -> Result<Self, SqlError> {
        let number = |limit: &ValueWithSpan| {
            let text = limit.to_string();
            text.parse::<i64>().map_err(|_| SqlError::error("42601", format!("syntax error at or near \"{text}\"")))
        };
        let count = |number: i64| usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
        let forward =
            |number: i64| if number < 0 { Self::Backward(count(number)) } else { Self::Forward(count(number)) };
        let backward =
            |number: i64| if number < 0 { Self::Forward(count(number)) } else { Self::Backward(count(number)) };
        Ok(match direction {
            FetchDirection::Next | FetchDirection::Forward { limit: None } => Self::Forward(1),
            FetchDirection::Prior | FetchDirection::Backward { limit: None } => Self::Backward(1),
            FetchDirection::First => Self::Absolute(1),
            FetchDirection::Last => Self::Absolute(-1),
            FetchDirection::All | FetchDirection::ForwardAll => Self::Forward(usize::MAX),
            FetchDirection::BackwardAll => Self::Backward(usize::MAX),
            FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => forward(number(limit)?),
            FetchDirection::Backward { limit: Some(limit) } => backward(number(limit)?),
            FetchDirection::Absolute { limit } => Self::Absolute(number(limit)?),
            FetchDirection::Relative { limit } => Self::Relative(number(limit)?),
        })
    }
}

/// Rows of a scroll cursor.
pub(crate) struct ScrollRows {
    rest: ResultRows,
    kept: Vec<RecordBatch>,
    /// Number of the first row of each batch that is kept, from 0.
    starts: Vec<usize>,
    /// Number of rows that are kept.
    count: usize,
    /// Number of the present row, from 1: 0 is before the first, `count + 1` after the last.
    position: usize,
    ended: bool,
    schema: SchemaRef,
    reservation: MemoryReservation,
}

impl ScrollRows {
    /// Returns a cursor before the first of the rows.
    pub(crate) fn new(rest: ResultRows, schema: SchemaRef, pool: &Arc<dyn MemoryPool>) -> Self {
        let reservation = MemoryConsumer::new("rows of a scroll cursor").register(pool);
        Self { rest, kept: Vec::new(), starts: Vec::new(), count: 0, position: 0, ended: false, schema, reservation }
    }

    /// Moves the cursor and returns the rows on its way.
    ///
    /// # Errors
    /// Those of the statement, and 53200 if the rows do not fit into memory.
    pub(crate) async fn fetch(&mut self, movement: Movement) -> Result<RecordBatch, SqlError> {
        let rows: Vec<usize> = match movement {
            // The present row again.
            Movement::Forward(0) | Movement::Backward(0) | Movement::Relative(0) => {
                self.present().into_iter().collect()
            }
            Movement::Forward(count) => {
                let last = self.position.saturating_add(count);
                self.read(last).await?;
                let first = self.position + 1;
                self.position = last.min(self.count + 1);
                (first..=last.min(self.count)).collect()
            }
            Movement::Backward(count) => {
                let last = self.position.saturating_sub(count);
                let first = self.position;
                self.position = last;
                (last.max(1)..first).rev().collect()
            }
            Movement::Absolute(number) if number < 0 => {
                self.read(usize::MAX).await?;
                let from_end = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
                self.position = (self.count + 1).saturating_sub(from_end);
                self.present().into_iter().collect()
            }
            Movement::Absolute(number) => self.go_to(usize::try_from(number).unwrap_or(usize::MAX)).await?,
            Movement::Relative(distance) => {
                let position = i64::try_from(self.position).unwrap_or(i64::MAX).saturating_add(distance);
                self.go_to(usize::try_from(position).unwrap_or(0)).await?
            }
        };
        self.gather(&rows)
    }

    /// Goes to a row, and returns its number if there is one.
    async fn go_to(&mut self, position: usize) -> Result<Vec<usize>, SqlError> {
        self.read(position).await?;
        self.position = position.min(self.count + 1);
        Ok(self.present().into_iter().collect())
    }

    fn present(&self) -> Option<usize> {
        (1..=self.count).contains(&self.position).then_some(self.position)
    }

    /// Reads rows until there are so many, or to the end.
    async fn read(&mut self, count: usize) -> Result<(), SqlError> {
        while self.count < count && !self.ended {
            match self.rest.next(usize::MAX).await? {
                Some(batch) => {
                    self.reservation.try_grow(batch.get_array_memory_size())?;
                    self.starts.push(self.count);
                    self.count += batch.num_rows();
                    self.kept.push(batch);
                }
                None => self.ended = true,
            }
        }
        Ok(())
    }

    /// Returns rows by their numbers.
    fn gather(&self, rows: &[usize]) -> Result<RecordBatch, SqlError> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
        }
        let place = |row: &usize| {
            let batch = self.starts.partition_point(|start| *start < *row) - 1;
            (batch, row - 1 - self.starts[batch])
        };
        let places: Vec<_> = rows.iter().map(place).collect();
        let batches: Vec<_> = self.kept.iter().collect();
        Ok(interleave_record_batch(&batches, &places).map_err(DataFusionError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array};
    use datafusion::arrow::datatypes::Int32Type;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};

    use super::*;

    fn cursor(pool: Arc<dyn MemoryPool>) -> ScrollRows {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(1..=5));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let schema = batch.schema();
        ScrollRows::new(ResultRows::of(batch), schema, &pool)
    }

    #[tokio::test]
    async fn a_cursor_moves_as_in_postgres() {
        let mut cursor = cursor(Arc::new(UnboundedMemoryPool::default()));
        // What PostgreSQL 15 gives for each of these, one after the other.
        for (movement, expected) in [
            (Movement::Backward(1), vec![]),
            (Movement::Forward(2), vec![1, 2]),
            (Movement::Forward(0), vec![2]),
            (Movement::Backward(1), vec![1]),
            (Movement::Backward(1), vec![]),
            (Movement::Absolute(4), vec![4]),
            (Movement::Relative(-2), vec![2]),
            (Movement::Absolute(-1), vec![5]),
            (Movement::Forward(1), vec![]),
            (Movement::Forward(1), vec![]),
            (Movement::Backward(2), vec![5, 4]),
            (Movement::Absolute(0), vec![]),
            (Movement::Forward(usize::MAX), vec![1, 2, 3, 4, 5]),
            (Movement::Backward(usize::MAX), vec![5, 4, 3, 2, 1]),
            (Movement::Relative(3), vec![3]),
            (Movement::Relative(9), vec![]),
            (Movement::Absolute(-5), vec![1]),
            (Movement::Absolute(-6), vec![]),
            (Movement::Relative(1), vec![1]),
        ] {
            let found = cursor.fetch(movement).await.unwrap();
            let found: Vec<_> = found.column(0).as_primitive::<Int32Type>().values().to_vec();
            assert_eq!(found, expected, "{movement:?}");
        }
    }

    #[tokio::test]
    async fn rows_that_do_not_fit_are_refused() {
        let mut cursor = cursor(Arc::new(GreedyMemoryPool::new(8)));
        assert_eq!(cursor.fetch(Movement::Forward(1)).await.unwrap_err().sqlstate, "53200");
    }
}
