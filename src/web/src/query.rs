//! Statements of a request: sessions that only read, with limits on their number, time and rows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use datafusion::arrow::error::ArrowError;
use neuroql_pg::{Reader, Readers, Rows};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Fault;

/// Greatest number of rows that a page is made of.
const MOST_ROWS: usize = 20_000;

/// Who asks, as the guard has found.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// Name of the user.
    pub user: String,
    pub address: SocketAddr,
    /// True if the request comes from a page of this site, or from no page at all.
    pub is_from_here: bool,
    /// True if the user has logged in, and may log out.
    pub has_session: bool,
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // The guard lets no request through without one.
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// Limits on statements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time of a page's statement, and of one that was typed.
    pub page: Duration,
    pub query: Duration,
    /// Requests that run statements at a time: all, and typed ones of a user.
    pub requests: usize,
    pub queries_of_user: usize,
}

/// Sessions for requests.
#[derive(Debug)]
pub(crate) struct Statements {
    readers: Readers,
    limits: Limits,
    all: Arc<Semaphore>,
    of_users: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Statements {
    pub fn new(readers: Readers, limits: Limits) -> Self {
        let all = Arc::new(Semaphore::new(limits.requests));
        Self { readers, limits, all, of_users: Mutex::default() }
    }

    /// Starts a session for the statements of a page, once there is room for it.
    ///
    /// # Errors
    /// 503 if there is none in time.
    pub async fn for_page(&self, visitor: &Visitor) -> Result<Asker, Fault> {
        self.begin(visitor, self.limits.page, None).await
    }

    /// Starts a session for a statement that was typed or sent by a program.
    ///
    /// # Errors
    /// 429 if the user runs too many of them.
    pub async fn for_query(&self, visitor: &Visitor) -> Result<Asker, Fault> {
        let own = {
            let mut users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
            users.retain(|_, slots| {
                Arc::strong_count(slots) > 1 || slots.available_permits() < self.limits.queries_of_user
            });
            let slots = users.entry(visitor.user.clone());
            Arc::clone(slots.or_insert_with(|| Arc::new(Semaphore::new(self.limits.queries_of_user))))
        };
        let most = self.limits.queries_of_user;
        let slot = own.try_acquire_owned().map_err(|_| {
            let message = format!("{most} queries of this user are running; wait for one of them, or cancel it");
            Fault::new(StatusCode::TOO_MANY_REQUESTS, message)
        })?;
        self.begin(visitor, self.limits.query, Some(slot)).await
    }

    async fn begin(
        &self,
        visitor: &Visitor,
        time: Duration,
        own: Option<OwnedSemaphorePermit>,
    ) -> Result<Asker, Fault> {
        let busy = || Fault::new(StatusCode::SERVICE_UNAVAILABLE, "too many statements are running; try again later");
        let slot = tokio::time::timeout(self.limits.page, Arc::clone(&self.all).acquire_owned());
        let slot = slot.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let reader = self.readers.session_again(&visitor.user, visitor.address, "neuroql explorer", time).await?;
        Ok(Asker { reader, slots: Slots { _all: slot, _own: own } })
    }

    /// Keeps the session of a page, with the plans of its statements, for another one. All of its statements must be the
    /// page's own.
    pub fn keep(&self, asker: Asker) {
        self.readers.park(asker.reader);
    }
}

/// A session of a request.
pub(crate) struct Asker {
    reader: Reader,
    slots: Slots,
}

/// Places among the statements that run.
struct Slots {
    _all: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Asker {
    /// Runs a statement and returns its rows, at most [`MOST_ROWS`].
    ///
    /// # Errors
    /// Those of the statement.
    pub async fn ask(&mut self, sql: impl Into<String>) -> Result<Answer, Fault> {
        self.ask_up_to(sql, MOST_ROWS).await
    }

    /// Runs a statement and returns its first rows.
    ///
    /// # Errors
    /// Those of the statement.
    pub async fn ask_up_to(&mut self, sql: impl Into<String>, most: usize) -> Result<Answer, Fault> {
        let sql = sql.into();
        let rows = self.reader.query(&sql, &[]).await?;
        Self::collect(rows, sql, most).await
    }

    /// Runs a statement with whole numbers as its parameters, whose plan is kept for the next time. `shown` is the
    /// statement with the numbers in their places.
    ///
    /// # Errors
    /// Those of the statement.
    pub async fn ask_prepared(&mut self, sql: &str, numbers: &[i64], shown: String) -> Result<Answer, Fault> {
        let values: Vec<_> = numbers.iter().map(|number| Some(number.to_string())).collect();
        let rows = self.reader.query_prepared(sql, &values).await?;
        Self::collect(rows, shown, MOST_ROWS).await
    }

    /// Takes the first rows of a statement.
    async fn collect(mut rows: Rows, sql: String, most: usize) -> Result<Answer, Fault> {
        let mut batches = Vec::new();
        let (mut count, mut is_whole) = (0, true);
        while let Some(batch) = rows.next().await? {
            let room = most - count;
            if batch.num_rows() > room {
                is_whole = false;
                batches.push(batch.slice(0, room));
                break;
            }
            count += batch.num_rows();
            batches.push(batch);
        }
        let batch = concat_batches(rows.schema(), &batches).map_err(Fault::internal)?;
        Answer::new(sql, batch, is_whole)
    }

    /// Runs a statement whose rows are taken as they come. Dropped, they end it.
    ///
    /// # Errors
    /// Those of the statement.
    pub async fn stream(mut self, sql: &str, values: &[Option<String>]) -> Result<Streamed, Fault> {
        let rows = self.reader.query(sql, values).await?;
        Ok(Streamed { rows, _slots: self.slots })
    }
}

/// Rows that come, with their place among the statements that run.
pub(crate) struct Streamed {
    pub rows: Rows,
    _slots: Slots,
}

/// The rows of a statement.
pub(crate) struct Answer {
    pub sql: String,
    /// Rows as they are.
    pub raw: RecordBatch,
    /// False if there are more rows.
    pub is_whole: bool,
    /// Rows with integers, floating point numbers and texts of one width each.
    batch: RecordBatch,
}

impl Answer {
    fn new(sql: String, raw: RecordBatch, is_whole: bool) -> Result<Self, Fault> {
        let batch = widened(&raw).map_err(Fault::internal)?;
        Ok(Self { sql, raw, is_whole, batch })
    }

    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn rows(&self) -> std::ops::Range<usize> {
        0..self.len()
    }

    fn valid(&self, row: usize, column: &str) -> Option<&ArrayRef> {
        self.batch.column_by_name(column).filter(|array| row < array.len() && array.is_valid(row))
    }

    pub fn text(&self, row: usize, column: &str) -> Option<&str> {
        Some(self.valid(row, column)?.as_string_opt::<i32>()?.value(row))
    }

    pub fn integer(&self, row: usize, column: &str) -> Option<i64> {
        Some(self.valid(row, column)?.as_primitive_opt::<Int64Type>()?.value(row))
    }

    /// Returns a number of any type.
    pub fn number(&self, row: usize, column: &str) -> Option<f64> {
        let array = self.valid(row, column)?;
        match array.as_primitive_opt::<Float64Type>() {
            Some(numbers) => Some(numbers.value(row)),
            None => Some(array.as_primitive_opt::<Int64Type>()?.value(row) as f64),
        }
    }

    /// Returns a `real` as it is.
    pub fn real(&self, row: usize, column: &str) -> Option<f32> {
        self.number(row, column).map(|value| value as f32)
    }

    pub fn flag(&self, row: usize, column: &str) -> Option<bool> {
        Some(self.valid(row, column)?.as_boolean_opt()?.value(row))
    }

    /// Returns an array of texts; NULLs in it are empty.
    pub fn texts(&self, row: usize, column: &str) -> Vec<String> {
        let Some(list) = self.valid(row, column).and_then(|array| array.as_list_opt::<i32>()) else {
            return Vec::new();
        };
        let items = list.value(row);
        let Some(items) = items.as_string_opt::<i32>() else { return Vec::new() };
        items.iter().map(|item| item.unwrap_or_default().to_owned()).collect()
    }

    /// Returns an array of numbers; NULLs in it are NaN.
    pub fn numbers(&self, row: usize, column: &str) -> Vec<f32> {
        let Some(list) = self.valid(row, column).and_then(|array| array.as_list_opt::<i32>()) else {
            return Vec::new();
        };
        let items = list.value(row);
        let Some(items) = items.as_primitive_opt::<Float64Type>() else { return Vec::new() };
        items.iter().map(|item| item.map_or(f32::NAN, |item| item as f32)).collect()
    }
}

/// Casts columns to the types that [`Answer`] reads; others stay.
fn widened(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let column = match wide(column.data_type()) {
            Some(wanted) => cast(column, &wanted)?,
            None => Arc::clone(column),
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn wide(given: &DataType) -> Option<DataType> {
    match given {
        given if given.is_integer() => Some(DataType::Int64),
        given if given.is_floating() => Some(DataType::Float64),
        DataType::Decimal128(..) => Some(DataType::Float64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Timestamp(..) | DataType::Date32 => {
            Some(DataType::Utf8)
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let wanted = match item.data_type() {
                given if given.is_numeric() => DataType::Float64,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
                _ => return None,
            };
            Some(DataType::List(Arc::new(Field::new("item", wanted, true))))
        }
        _ => None,
    }
}
