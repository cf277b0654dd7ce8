//! One sequence: its options and its state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{BooleanArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{self, SequenceOptions, UnaryOperator, Value, ValueWithSpan};
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::sequences::generated::{self, Rows};
use crate::decode;
use crate::wire::error_response::SqlError;

/// The options of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// `smallint`, `integer` or `bigint`.
    pub(crate) kind: Type,
    pub(crate) increment: i64,
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) start: i64,
    pub(crate) cache: i64,
    pub(crate) cycles: bool,
}

impl Options {
    /// Reads the options of a statement.
    ///
    /// # Errors
    /// 22023 for options that contradict each other or the type, 22003 for a number that is no `bigint`.
    pub(crate) fn new(kind: Type, given: &[SequenceOptions]) -> Result<Self, SqlError> {
        let (least, most) = range(&kind);
        let (mut increment, mut min, mut max, mut start, mut cache, mut cycles) = (1, None, None, None, 1, false);
        for option in given {
            match option {
                SequenceOptions::IncrementBy(value, _) => increment = number(value)?,
                SequenceOptions::MinValue(value) => min = value.as_ref().map(number).transpose()?,
                SequenceOptions::MaxValue(value) => max = value.as_ref().map(number).transpose()?,
                SequenceOptions::StartWith(value, _) => start = Some(number(value)?),
                SequenceOptions::Cache(value) => cache = number(value)?,
                // The parser's flag is that of NO.
                SequenceOptions::Cycle(no) => cycles = !no,
            }
        }
        let rises = increment > 0;
        let max = max.unwrap_or(if rises { most } else { -1 });
        let min = min.unwrap_or(if rises { 1 } else { least });
        let start = start.unwrap_or(if rises { min } else { max });
        Self { kind, increment, min, max, start, cache, cycles }.checked()
    }
}

impl Options {
    /// Returns the options with others in their places.
    ///
    /// # Errors
    /// Those of [`Options::new`].
    fn altered(&self, kind: Option<Type>, given: &[SequenceOptions]) -> Result<Self, SqlError> {
        let (least, most) = range(&self.kind);
        // The bounds of a type are not those of another one.
        let (resets_min, resets_max) = (kind.is_some() && self.min == least, kind.is_some() && self.max == most);
        let kind = kind.unwrap_or_else(|| self.kind.clone());
        let (mut min, mut max) = ((!resets_min).then_some(self.min), (!resets_max).then_some(self.max));
        let (mut increment, mut start, mut cache, mut cycles) = (self.increment, self.start, self.cache, self.cycles);
        for option in given {
            match option {
                SequenceOptions::IncrementBy(value, _) => increment = number(value)?,
                SequenceOptions::MinValue(value) => min = value.as_ref().map(number).transpose()?,
                SequenceOptions::MaxValue(value) => max = value.as_ref().map(number).transpose()?,
                SequenceOptions::StartWith(value, _) => start = number(value)?,
                SequenceOptions::Cache(value) => cache = number(value)?,
                // The parser's flag is that of NO.
                SequenceOptions::Cycle(no) => cycles = !no,
            }
        }
        let (least, most) = range(&kind);
        let max = max.unwrap_or(if increment > 0 || resets_max { most } else { -1 });
        let min = min.unwrap_or(if increment < 0 || resets_min { least } else { 1 });
        Self { kind, increment, min, max, start, cache, cycles }.checked()
    }

    /// Checks that the options agree.
    fn checked(self) -> Result<Self, SqlError> {
        let refused = |message: String| Err(SqlError::error("22023", message));
        let Self { increment, min, max, start, cache, .. } = self;
        let (least, most) = range(&self.kind);
        if increment == 0 {
            return refused("INCREMENT must not be zero".into());
        }
        for (name, value) in [("MAXVALUE", max), ("MINVALUE", min)] {
            if !(least..=most).contains(&value) {
                let kind = decode::name(&self.kind);
                return refused(format!("{name} ({value}) is out of range for sequence data type {kind}"));
            }
        }
        if min >= max {
            return refused(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})"));
        }
        if start < min {
            return refused(format!("START value ({start}) cannot be less than MINVALUE ({min})"));
        }
        if start > max {
            return refused(format!("START value ({start}) cannot be greater than MAXVALUE ({max})"));
        }
        if cache < 1 {
            return refused(format!("CACHE ({cache}) must be greater than zero"));
        }
        Ok(self)
    }
}

/// Returns the type of a sequence from the name of a type.
pub(crate) fn kind(data_type: &ast::DataType) -> Option<Type> {
    use ast::DataType::{BigInt, Int, Int2, Int4, Int8, Integer, SmallInt};
    match data_type {
        SmallInt(None) | Int2(None) => Some(Type::INT2),
        Int(None) | Integer(None) | Int4(None) => Some(Type::INT4),
        BigInt(None) | Int8(None) => Some(Type::INT8),
        _ => None,
    }
}

fn range(kind: &Type) -> (i64, i64) {
    match *kind {
        Type::INT2 => (i16::MIN.into(), i16::MAX.into()),
        Type::INT4 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

fn number(value: &ast::Expr) -> Result<i64, SqlError> {
    let digits = match value {
        ast::Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.clone(),
        ast::Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{expr}"),
        ast::Expr::UnaryOp { op: UnaryOperator::Plus, expr } => expr.to_string(),
        other => return Err(SqlError::error("42601", format!("syntax error at or near \"{other}\""))),
    };
    digits.parse().map_err(|_| match digits.contains(['.', 'e', 'E']) {
        true => SqlError::error("42601", format!("syntax error at or near \"{digits}\"")),
        false => SqlError::error("22003", format!("value \"{digits}\" is out of range for type bigint")),
    })
}

/// The column that a sequence belongs to.
#[derive(Debug, Clone)]
pub(crate) struct OwningColumn {
    pub(crate) rows: Weak<Rows>,
    pub(crate) column: String,
    /// True if the column is an identity column.
    pub(crate) is_identity: bool,
}

#[derive(Debug, Clone, Copy)]
struct State {
    last_value: i64,
    is_called: bool,
}

/// A sequence. Its numbers are taken by all sessions, and not put back.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) options: Options,
    owner: Mutex<Option<OwningColumn>>,
    state: Arc<Mutex<State>>,
    /// Part that is the same in the sequence that ALTER SEQUENCE makes of it.
    identity: Arc<SequenceIdentity>,
}

/// That by which sessions know a sequence.
#[derive(Debug)]
pub(crate) struct SequenceIdentity;

impl Sequence {
    pub(crate) fn new(options: Options, owner: Option<OwningColumn>) -> Self {
        let state = Arc::new(Mutex::new(State { last_value: options.start, is_called: false }));
        Self { options, owner: Mutex::new(owner), state, identity: Arc::new(SequenceIdentity) }
    }

    /// Returns the sequence with other options, and its first number or another one next if `restart` says so. The two take the
    /// same numbers otherwise.
    ///
    /// # Errors
    /// 22023 for options that contradict each other or the type, 22003 for a number that is no `bigint`.
    pub(crate) fn altered(
        &self,
        kind: Option<Type>,
        given: &[SequenceOptions],
        restart: Option<Option<&ast::Expr>>,
    ) -> Result<Self, SqlError> {
        let options = self.options.altered(kind, given)?;
        let last_value = match restart {
            Some(Some(value)) => number(value)?,
            Some(None) => options.start,
            None => self.state().last_value,
        };
        let refused = |message: String| Err(SqlError::error("22023", message));
        if last_value < options.min {
            return refused(format!("RESTART value ({last_value}) cannot be less than MINVALUE ({})", options.min));
        }
        if last_value > options.max {
            return refused(format!("RESTART value ({last_value}) cannot be greater than MAXVALUE ({})", options.max));
        }
        let state = match restart {
            Some(_) => Arc::new(Mutex::new(State { last_value, is_called: false })),
            None => Arc::clone(&self.state),
        };
        Ok(Self { options, owner: Mutex::new(self.owner()), state, identity: Arc::clone(&self.identity) })
    }

    pub(crate) fn identity(&self) -> &Arc<SequenceIdentity> {
        &self.identity
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the column that the sequence goes with.
    pub(crate) fn owner(&self) -> Option<OwningColumn> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_owner(&self, owner: OwningColumn) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
    }

    /// Makes the sequence one of its own.
    pub(crate) fn remove_owner(&self) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns true if the sequence belongs to a column of the table with these rows.
    pub(crate) fn belongs_to(&self, rows: &Arc<Rows>, column: &str) -> bool {
        self.owner().is_some_and(|owner| owner.rows.as_ptr() == Arc::as_ptr(rows) && owner.column == column)
    }

    /// Takes the next number. `name` is that of the sequence.
    ///
    /// # Errors
    /// 2200H if there is none.
    pub(crate) fn next(&self, name: &str) -> Result<i64, SqlError> {
        let Options { increment, min, max, cycles, .. } = self.options;
        let mut state = self.state();
        let next = match state.is_called {
            false => state.last_value,
            true => match state.last_value.checked_add(increment).filter(|next| (min..=max).contains(next)) {
                Some(next) => next,
                None if cycles => {
                    if increment > 0 {
                        min
                    } else {
                        max
                    }
                }
                None => {
                    let (bound, value) = if increment > 0 { ("maximum", max) } else { ("minimum", min) };
                    let message = format!("nextval: reached {bound} value of sequence \"{name}\" ({value})");
                    return Err(SqlError::error("2200H", message));
                }
            },
        };
        *state = State { last_value: next, is_called: true };
        Ok(next)
    }

    /// Sets the number that was taken last, or the one that is taken next.
    ///
    /// # Errors
    /// 22003 if it is none of the sequence.
    pub(crate) fn set(&self, name: &str, value: i64, is_called: bool) -> Result<(), SqlError> {
        let Options { min, max, .. } = self.options;
        if !(min..=max).contains(&value) {
            let message = format!("setval: value {value} is out of bounds for sequence \"{name}\" ({min}..{max})");
            return Err(SqlError::error("22003", message));
        }
        *self.state() = State { last_value: value, is_called };
        Ok(())
    }

    /// Returns the number that was taken last, if one was.
    pub(crate) fn last(&self) -> Option<i64> {
        let state = *self.state();
        state.is_called.then_some(state.last_value)
    }
}

/// A sequence as a relation of the catalog: a table of one row.
#[derive(Debug)]
pub(crate) struct SequenceTable {
    sequence: Arc<Sequence>,
    schema: SchemaRef,
}

impl SequenceTable {
    pub(crate) fn new(sequence: Sequence) -> Self {
        generated::begin();
        let fields = [("last_value", DataType::Int64), ("log_cnt", DataType::Int64), ("is_called", DataType::Boolean)];
        let fields = fields.map(|(name, data_type)| Field::new(name, data_type, false));
        Self { sequence: Arc::new(sequence), schema: Arc::new(Schema::new(fields.to_vec())) }
    }

    pub(crate) fn sequence(&self) -> &Arc<Sequence> {
        &self.sequence
    }
}

/// Returns the sequence that a relation is.
pub(crate) fn of(table: &dyn TableProvider) -> Option<&Arc<Sequence>> {
    table.downcast_ref::<SequenceTable>().map(SequenceTable::sequence)
}

#[async_trait]
impl TableProvider for SequenceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// DROP TABLE and DROP VIEW look for other types.
    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let State { last_value, is_called } = *self.sequence.state();
        let row = RecordBatch::try_new(
            self.schema(),
            vec![
                Arc::new(Int64Array::from(vec![last_value])),
                Arc::new(Int64Array::from(vec![0])),
                Arc::new(BooleanArray::from(vec![is_called])),
            ],
        )?;
        MemTable::try_new(self.schema(), vec![vec![row]])?.scan(state, projection, filters, limit).await
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn options(text: &str, kind: Type) -> Result<Options, SqlError> {
        let statement = Parser::parse_sql(&PostgresDialect, &format!("CREATE SEQUENCE s {text}")).unwrap().remove(0);
        let Statement::CreateSequence { sequence_options, .. } = statement else { panic!("{statement}") };
        Options::new(kind, &sequence_options)
    }

    fn numbers(text: &str, count: usize) -> Vec<i64> {
        let sequence = Sequence::new(options(text, Type::INT8).unwrap(), None);
        let mut found = Vec::new();
        for _ in 0..count {
            match sequence.next("s") {
                Ok(next) => found.push(next),
                Err(error) => {
                    assert_eq!(error.sqlstate, "2200H");
                    break;
                }
            }
        }
        found
    }

    #[test]
    fn numbers_follow_the_options() {
        assert_eq!(numbers("", 3), [1, 2, 3]);
        assert_eq!(numbers("INCREMENT BY -1 MINVALUE -2", 5), [-1, -2]);
        assert_eq!(numbers("MAXVALUE 3 CYCLE", 5), [1, 2, 3, 1, 2]);
        assert_eq!(numbers("INCREMENT -2 MINVALUE -3 MAXVALUE 2 CYCLE", 5), [2, 0, -2, 2, 0]);
        assert_eq!(numbers("INCREMENT BY 5 START WITH 10", 3), [10, 15, 20]);
        assert_eq!(numbers("START WITH 9223372036854775806", 4), [i64::MAX - 1, i64::MAX]);
        assert_eq!(numbers("INCREMENT -9223372036854775808 START -1", 4), [-1]);
    }

    #[test]
    fn options_are_checked() {
        for (text, kind, sqlstate) in [
            ("INCREMENT BY 0", Type::INT8, "22023"),
            ("MINVALUE 5 MAXVALUE 4", Type::INT8, "22023"),
            ("MINVALUE 5 START WITH 4", Type::INT8, "22023"),
            ("MAXVALUE 5 START WITH 6", Type::INT8, "22023"),
            ("CACHE 0", Type::INT8, "22023"),
            ("MAXVALUE 100000", Type::INT2, "22023"),
            ("MINVALUE -100000", Type::INT2, "22023"),
            ("START 9223372036854775808", Type::INT8, "22003"),
        ] {
            assert_eq!(options(text, kind).unwrap_err().sqlstate, sqlstate, "{text}");
        }
        let found = options("NO MINVALUE NO MAXVALUE CACHE 5 NO CYCLE", Type::INT4).unwrap();
        assert_eq!((found.min, found.max, found.cache, found.cycles), (1, i32::MAX.into(), 5, false));
    }

    fn altered(sequence: &Sequence, text: &str, restart: Option<Option<&ast::Expr>>) -> Result<Sequence, String> {
        let statement = Parser::parse_sql(&PostgresDialect, &format!("CREATE SEQUENCE s {text}")).unwrap().remove(0);
        let Statement::CreateSequence { sequence_options, data_type, .. } = statement else { panic!("{statement}") };
        let kind = data_type.as_ref().map(|data_type| kind(data_type).unwrap());
        sequence.altered(kind, &sequence_options, restart).map_err(|error| error.message)
    }

    #[test]
    fn altered_sequences_go_on() {
        let sequence = Sequence::new(options("", Type::INT8).unwrap(), None);
        assert_eq!(sequence.next("s").unwrap(), 1);
        let by_five = altered(&sequence, "INCREMENT BY 5", None).unwrap();
        assert_eq!((by_five.next("s").unwrap(), sequence.next("s").unwrap()), (6, 7));
        let again = altered(&by_five, "", Some(None)).unwrap();
        assert_eq!((again.next("s").unwrap(), again.next("s").unwrap()), (1, 6));
        // The numbers of the one that was altered stay.
        assert_eq!(by_five.next("s").unwrap(), 12);
        let small = altered(&again, "AS smallint", None).unwrap();
        assert_eq!((small.options.min, small.options.max), (1, i16::MAX.into()));
        let large = altered(&small, "AS bigint", None).unwrap();
        assert_eq!(large.options.max, i64::MAX);
        for (text, message) in [
            ("MAXVALUE 5", "RESTART value (6) cannot be greater than MAXVALUE (5)"),
            ("MINVALUE 200", "START value (1) cannot be less than MINVALUE (200)"),
            ("INCREMENT BY 0", "INCREMENT must not be zero"),
        ] {
            assert_eq!(altered(&again, text, None).unwrap_err(), message);
        }
    }

    #[test]
    fn a_number_that_is_set_is_taken_or_comes_next() {
        let sequence = Sequence::new(options("MAXVALUE 9", Type::INT8).unwrap(), None);
        assert_eq!(sequence.last(), None);
        sequence.set("s", 4, true).unwrap();
        assert_eq!((sequence.last(), sequence.next("s").unwrap()), (Some(4), 5));
        sequence.set("s", 4, false).unwrap();
        assert_eq!((sequence.last(), sequence.next("s").unwrap()), (None, 4));
        assert_eq!(sequence.set("s", 10, true).unwrap_err().sqlstate, "22003");
    }
}
