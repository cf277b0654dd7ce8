//! Functions whose values are larger than their arguments: their sizes are computed first. A value has no more than a
//! gigabyte, as in Postgres, and the values of a batch are accounted for while they are computed, and many of them as long
//! as they are there: operators that pass a batch on do not count it, and as many statements may do so at a time as there are.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::prelude::SessionContext;

use super::casts::arrow_cast;
use super::formats;
use super::refusal::refusal;

/// The largest value of Postgres.
const LARGEST: u64 = (1 << 30) - 1;

/// Bytes of the values of a batch from which on they are accounted for as long as they are there.
const MANY: usize = 16 << 20;

/// Bytes that tokens take for each byte of their text.
const TOKENS: u64 = 16;

const GROWING: [&str; 12] = [
    "repeat",
    "lpad",
    "rpad",
    "replace",
    "regexp_replace",
    "range",
    "generate_series",
    "array_repeat",
    "array_resize",
    "tokenize",
    "format",
    "array_fill",
];

/// Bounds the values of the functions of a session that make values larger than their arguments.
///
/// # Errors
/// If a function is not there.
pub(crate) fn register(context: &SessionContext) -> Result<()> {
    let found = context.state();
    for name in GROWING {
        let (function, pool) = (found.udf(name)?, Arc::clone(&context.runtime_env().memory_pool));
        context.register_udf(ScalarUDF::from(SizeCheckedFunction { function, pool: PtrEq::from(pool) }));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SizeCheckedFunction {
    function: Arc<ScalarUDF>,
    pool: PtrEq<Arc<dyn MemoryPool>>,
}

impl ScalarUDFImpl for SizeCheckedFunction {
    delegate!(scalar);

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => 1,
            false => args.number_rows,
        };
        let columns = args.args.iter().map(Argument::of).collect::<Result<Vec<_>>>()?;
        let mut all = 0_u64;
        for row in 0..rows {
            let size = size(self.name(), &columns, row);
            if size > LARGEST {
                return Err(refusal("54000", "requested length too large"));
            }
            all += size;
        }
        let reservation = MemoryConsumer::new(self.name()).register(&self.pool);
        reservation.try_grow(usize::try_from(all).unwrap_or(usize::MAX))?;
        match self.function.invoke_with_args(args)? {
            ColumnarValue::Array(array) if array.get_array_memory_size() >= MANY => {
                reservation.resize(array.get_array_memory_size());
                Ok(ColumnarValue::Array(with_reservation(&array, reservation)?))
            }
            value => Ok(value),
        }
    }
}

/// A buffer that is accounted for as long as it is there.
struct ReservedBuffer {
    buffer: Buffer,
    _reservation: MemoryReservation,
}

impl AsRef<[u8]> for ReservedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

/// Returns an array whose largest buffer holds a reservation.
fn with_reservation(array: &ArrayRef, reservation: MemoryReservation) -> Result<ArrayRef> {
    let mut reservation = Some(reservation);
    let data = array.to_data();
    let largest = largest_buffer(&data);
    Ok(make_array(reserved(data, largest, &mut reservation)?))
}

fn largest_buffer(data: &ArrayData) -> usize {
    let own = data.buffers().iter().map(Buffer::len);
    own.chain(data.child_data().iter().map(largest_buffer)).max().unwrap_or(0)
}

/// Gives the reservation to the first buffer of a length.
fn reserved(data: ArrayData, length: usize, reservation: &mut Option<MemoryReservation>) -> Result<ArrayData> {
    let mut buffers = data.buffers().to_vec();
    for buffer in buffers.iter_mut().filter(|buffer| buffer.len() == length) {
        if let Some(_reservation) = reservation.take() {
            *buffer = Bytes::from_owner(ReservedBuffer { buffer: buffer.clone(), _reservation }).into();
        }
    }
    let mut children = Vec::with_capacity(data.child_data().len());
    for child in data.child_data() {
        children.push(match reservation {
            Some(_) => reserved(child.clone(), length, reservation)?,
            None => child.clone(),
        });
    }
    Ok(data.into_builder().buffers(buffers).child_data(children).build()?)
}

/// An argument of a function: the parts that decide how large the values are.
struct Argument {
    values: ArrayRef,
    /// The argument as whole numbers, if it is a number or a moment in time.
    numbers: Option<ArrayRef>,
    is_scalar: bool,
}

impl Argument {
    fn of(argument: &ColumnarValue) -> Result<Self> {
        let (values, is_scalar) = match argument {
            ColumnarValue::Array(values) => (Arc::clone(values), false),
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
        };
        let numbers = match values.data_type() {
            kind if kind.is_integer() => Some(arrow_cast(&values, &DataType::Int64)?),
            DataType::Date32 => Some(arrow_cast(&arrow_cast(&values, &DataType::Int32)?, &DataType::Int64)?),
            DataType::Timestamp(_, zone) => {
                let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
                let cast = arrow_cast(&values, &nanoseconds).and_then(|moments| arrow_cast(&moments, &DataType::Int64));
                cast.ok()
            }
            _ => None,
        };
        Ok(Self { values, numbers, is_scalar })
    }

    fn at(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    fn number(&self, row: usize) -> Option<i64> {
        let numbers = self.numbers.as_ref()?.as_primitive::<Int64Type>();
        let row = self.at(row);
        numbers.is_valid(row).then(|| numbers.value(row))
    }

    /// Returns the first integer of an array.
    fn first(&self, row: usize) -> u64 {
        let Some(lists) = self.values.as_list_opt::<i32>().filter(|lists| lists.is_valid(self.at(row))) else {
            return 0;
        };
        let items = lists.value(self.at(row));
        let first = items.as_primitive_opt::<Int32Type>().and_then(|items| items.iter().next().flatten());
        first.and_then(|first| u64::try_from(first).ok()).unwrap_or(0)
    }

    /// Returns a text; `None` if it is none, or NULL.
    fn text(&self, row: usize) -> Option<&str> {
        let row = self.at(row);
        match self.values.data_type() {
            _ if self.values.is_null(row) => None,
            DataType::Utf8 => Some(self.values.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(self.values.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(self.values.as_string_view().value(row)),
            _ => None,
        }
    }

    /// Returns a number of repetitions, which is not negative.
    fn times(&self, row: usize) -> u64 {
        self.number(row).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
    }

    /// Returns the bytes of a value; of one that is no text, those that numbers have.
    fn bytes(&self, row: usize) -> u64 {
        let row = self.at(row);
        let bytes = match self.values.data_type() {
            _ if self.values.is_null(row) => 0,
            DataType::Utf8 => self.values.as_string::<i32>().value(row).len(),
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(row).len(),
            DataType::Utf8View => self.values.as_string_view().value(row).len(),
            DataType::Binary => self.values.as_binary::<i32>().value(row).len(),
            DataType::List(_) => self.values.as_list::<i32>().value(row).get_array_memory_size(),
            _ => 8,
        };
        bytes as u64
    }
}

/// Returns an upper bound of the bytes of a function's value.
fn size(function: &str, arguments: &[Argument], row: usize) -> u64 {
    match (function, arguments) {
        ("repeat", [text, times, ..]) => text.bytes(row).saturating_mul(times.times(row)),
        // A character has four bytes at most.
        ("lpad" | "rpad", [_, length, ..]) => length.times(row).saturating_mul(4),
        ("replace", [text, from, to, ..]) => {
            let (text, from, to) = (text.bytes(row), from.bytes(row).max(1), to.bytes(row));
            text.saturating_add((text / from).saturating_mul(to))
        }
        // It may be found at each character, and name what was found again and again.
        ("regexp_replace", [text, _, to, ..]) => {
            let (text, to) = (text.bytes(row), to.bytes(row));
            if to <= 16 { text.saturating_mul(2) } else { text.saturating_add(text.saturating_mul(to) / 8) }
        }
        ("range" | "generate_series", [start, end, rest @ ..]) => {
            let step = rest.first().map_or(Some(1), |step| step.number(row).or_else(|| span(step, row)));
            match (start.number(row), end.number(row), step) {
                (Some(start), Some(end), Some(step)) if step != 0 => {
                    let steps = (i128::from(end) - i128::from(start)) / i128::from(step);
                    u64::try_from(steps.max(0)).unwrap_or(u64::MAX).saturating_mul(8)
                }
                _ => 0,
            }
        }
        ("range", [end]) => end.times(row).saturating_mul(8),
        ("array_repeat", [value, times]) => value.bytes(row).max(1).saturating_mul(times.times(row)),
        ("array_fill", [value, lengths]) => value.bytes(row).max(8).saturating_mul(lengths.first(row)),
        ("array_resize", [_, length, rest @ ..]) => {
            let bytes = rest.first().map_or(8, |value| value.bytes(row).max(8));
            bytes.saturating_mul(length.times(row))
        }
        ("format", [template, rest @ ..]) => {
            let rest: Vec<_> = rest.iter().map(|argument| argument.text(row)).collect();
            template.text(row).map_or(0, |template| formats::length(template, &rest))
        }
        ("tokenize", [_, text, ..]) => text.bytes(row).saturating_mul(TOKENS),
        _ => 0,
    }
}

/// Estimates the nanoseconds of an interval.
fn span(argument: &Argument, row: usize) -> Option<i64> {
    const DAY: i64 = 86_400_000_000_000;
    if *argument.values.data_type() != DataType::Interval(IntervalUnit::MonthDayNano) {
        return None;
    }
    let spans = argument.values.as_primitive::<IntervalMonthDayNanoType>();
    let row = argument.at(row);
    let span = spans.is_valid(row).then(|| spans.value(row))?;
    let days = i64::from(span.months) * 30 + i64::from(span.days);
    Some(days.saturating_mul(DAY).saturating_add(span.nanoseconds))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::SessionConfig;

    use crate::Engine;

    use super::*;

    #[tokio::test]
    async fn many_values_are_accounted_for_while_they_are_there() {
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(200_000_000)));
        let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime.build_arc().unwrap());
        Engine::builder().register(&context).unwrap();
        let pool = Arc::clone(&context.runtime_env().memory_pool);
        for (sql, bytes) in [
            ("SELECT repeat(a, 30000000) AS v FROM (VALUES ('a'), (NULL), ('bc')) AS t(a)", 90_000_000),
            ("SELECT range(a, 3000000) AS v FROM (VALUES (1), (NULL), (1000000)) AS t(a)", 40_000_000),
        ] {
            let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
            assert!((bytes..2 * bytes).contains(&pool.reserved()), "{sql}: {}", pool.reserved());
            let column = batches[0].column(0).slice(1, 1);
            assert!(column.is_null(0));
            drop(batches);
            assert!(pool.reserved() > 0, "{sql}");
            drop(column);
            assert_eq!(pool.reserved(), 0, "{sql}");
        }
        let lengths = "SELECT length(repeat(a, 30000000)) FROM (VALUES ('a'), ('bc')) AS t(a)";
        let lengths = context.sql(lengths).await.unwrap().collect().await.unwrap();
        let shown = datafusion::arrow::util::pretty::pretty_format_batches(&lengths).unwrap().to_string();
        assert!(shown.contains("30000000") && shown.contains("60000000"), "{shown}");
        assert_eq!(pool.reserved(), 0);
    }

    #[tokio::test]
    async fn values_that_are_too_large_are_refused() {
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(10_000_000)));
        let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime.build_arc().unwrap());
        Engine::builder().register(&context).unwrap();
        for (sql, code) in [
            ("SELECT repeat('ab', 1000000000)", "54000"),
            ("SELECT length(repeat(a, 9000000)) FROM (VALUES ('a'), ('b')) AS t(a)", "53200"),
            ("SELECT lpad('x', 2000000000)", "54000"),
            ("SELECT format('%2000000000s', 'x')", "54000"),
            ("SELECT format('%8000000s%-8000000s', 'x', 'y')", "53200"),
            ("SELECT rpad('x', 8000000)", "53200"),
            ("SELECT replace(repeat('x', 100000), 'x', repeat('y', 1000))", "53200"),
            ("SELECT range(1, 1000000000)", "54000"),
            ("SELECT array_fill(1, array[5000000])", "53200"),
            ("SELECT range(1, 5000000)", "53200"),
            ("SELECT array_repeat('abcdefgh', 100000000)", "53200"),
            ("SELECT range(TIMESTAMP '2020-01-01', TIMESTAMP '2021-01-01', INTERVAL '1 second')", "53200"),
            ("SELECT tokenize('toy', repeat('a ', 1000000))", "53200"),
        ] {
            let done = match context.sql(sql).await {
                Ok(frame) => frame.collect().await.map(drop),
                Err(error) => Err(error),
            };
            assert_eq!(done.map_err(|error| crate::sqlstate(&error).to_owned()), Err(code.to_owned()), "{sql}");
        }
        for sql in [
            "SELECT repeat('ab', 1000), repeat(NULL, 5), repeat('a', -1)",
            "SELECT lpad('x', 10), rpad('x', -5), replace('aaa', '', 'b')",
            "SELECT range(5), range(1, 10, 2), range(10, 1, -1), array_repeat(1, 3)",
        ] {
            context.sql(sql).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}
