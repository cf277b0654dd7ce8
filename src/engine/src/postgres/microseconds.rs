//! The types `timestamp` and `timestamptz`, which have microseconds as in Postgres. Files may have moments with nanoseconds: a
//! cast cuts them off.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, cast, col,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

use super::casts::{arrow_cast, unit};
use super::refusal::refusal;

/// Functions of DataFusion whose moments have nanoseconds.
pub(super) const FUNCTIONS: [&str; 4] = ["now", "to_timestamp", "generate_series", "range"];

/// Functions whose rows have.
pub(super) const TABLE_FUNCTIONS: [&str; 2] = ["generate_series", "range"];

/// First moment of Postgres: the beginning of the 24th of November 4714 BC, in microseconds since 1970.
const FIRST: i64 = -210_866_803_200_000_000;

/// The day of the first moment, counted from 1970.
pub(super) const FIRST_DAY: i64 = FIRST / 86_400_000_000;

/// Returns true if Postgres has a moment, given in microseconds.
pub(super) fn is_in_range(micros: i64) -> bool {
    micros >= FIRST
}

/// Returns the unit of a value that is a moment of one unit and of microseconds.
pub(super) fn at_least_micros(of: TimeUnit) -> TimeUnit {
    if of == TimeUnit::Nanosecond { of } else { TimeUnit::Microsecond }
}

type ZoneOfSession = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Plans `timestamp` and `timestamptz` with microseconds.
#[derive(Clone)]
pub struct MomentTypes {
    next: Option<Arc<dyn TypePlanner>>,
    zone: Arc<OnceLock<ZoneOfSession>>,
}

impl fmt::Debug for MomentTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MomentTypes").field("next", &self.next).finish_non_exhaustive()
    }
}

impl MomentTypes {
    /// Creates a planner that leaves other types to the next one.
    pub fn before(next: Option<Arc<dyn TypePlanner>>) -> Self {
        Self { next, zone: Arc::default() }
    }

    /// Gives instants the time zone of a session, whichever it is when they are planned.
    pub fn follow(&self, context: &SessionContext) {
        let state = context.state_weak_ref();
        let zone = move || state.upgrade()?.read().config_options().execution.time_zone.clone();
        // It is the first session that counts.
        let _ = self.zone.set(Box::new(zone));
    }
}

impl TypePlanner for MomentTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let (of, has_zone) = match sql_type {
            SqlType::Timestamp(precision, zone) => {
                let of = match precision {
                    Some(0) => TimeUnit::Second,
                    Some(3) => TimeUnit::Millisecond,
                    None | Some(6..) => TimeUnit::Microsecond,
                    Some(digits) => {
                        return Err(refusal("0A000", format!("type timestamp({digits}) is not supported")));
                    }
                };
                (of, matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone))
            }
            other => return self.next.as_ref().map_or(Ok(None), |next| next.plan_type_field(other)),
        };
        let zone = has_zone.then(|| self.zone.get().and_then(|zone| zone()).unwrap_or_else(|| "UTC".into()));
        Ok(Some(Arc::new(Field::new("", DataType::Timestamp(of, zone.map(Into::into)), true))))
    }
}

/// Returns moments with nanoseconds without what is finer than a microsecond.
pub(super) fn cut(moments: &ArrayRef) -> ArrayRef {
    let DataType::Timestamp(TimeUnit::Nanosecond, zone) = moments.data_type() else { return Arc::clone(moments) };
    let moments = moments.as_primitive::<TimestampNanosecondType>();
    let micros = moments.unary::<_, TimestampMicrosecondType>(|nanoseconds| nanoseconds.div_euclid(1000));
    Arc::new(micros.with_timezone_opt(zone.clone()))
}

/// Returns moments in microseconds.
///
/// # Errors
/// 22008 if one is out of range.
pub(super) fn in_micros(moments: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(of, zone) = moments.data_type() else { return Ok(Arc::clone(moments)) };
    match of {
        TimeUnit::Nanosecond => Ok(cut(moments)),
        TimeUnit::Microsecond => Ok(Arc::clone(moments)),
        _ => {
            let parts = unit(TimeUnit::Microsecond) / unit(*of);
            let numbers = arrow_cast(moments, &DataType::Int64)?;
            let micros: PrimitiveArray<Int64Type> = numbers.as_primitive::<Int64Type>().try_unary(|number| {
                number.checked_mul(parts).ok_or_else(|| refusal("22008", "timestamp out of range"))
            })?;
            let micros: ArrayRef = Arc::new(micros);
            arrow_cast(&micros, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
    }
}

/// Returns dates or moments with nanoseconds, as a file has them that they stand beside.
///
/// # Errors
/// 0A000 if one is not of the years that nanoseconds can count.
pub(super) fn in_nanos(moments: &ArrayRef, zone: Option<&Arc<str>>) -> Result<ArrayRef> {
    let target = DataType::Timestamp(TimeUnit::Nanosecond, zone.cloned());
    let moments = match moments.data_type() {
        DataType::Timestamp(..) => in_micros(moments)?,
        _ => arrow_cast(moments, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
    };
    let numbers = arrow_cast(&moments, &DataType::Int64)?;
    let nanos: PrimitiveArray<Int64Type> = numbers.as_primitive::<Int64Type>().try_unary(|micros| {
        micros.checked_mul(1000).ok_or_else(|| {
            let message = "moments before 1677 or after 2262 are not supported beside those of a file with nanoseconds";
            refusal("0A000", message)
        })
    })?;
    arrow_cast(&(Arc::new(nanos) as ArrayRef), &target)
}

/// Returns a type with microseconds in the place of nanoseconds.
fn with_micros(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(item) => {
            let inner = with_micros(item.data_type());
            DataType::List(Arc::new(Field::clone(item).with_data_type(inner)))
        }
        other => other.clone(),
    }
}

fn all_cut(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let inner = all_cut(lists.values())?;
            let DataType::List(item) = with_micros(values.data_type()) else { return Ok(Arc::clone(values)) };
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Ok(Arc::new(datafusion::arrow::array::ListArray::try_new(item, offsets, inner, nulls)?))
        }
        _ => Ok(cut(values)),
    }
}

fn scalar_cut(value: &ScalarValue) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&all_cut(&value.to_array()?)?, 0)
}

/// A function whose moments have nanoseconds, with microseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CutFunction {
    function: Arc<ScalarUDF>,
}

impl CutFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for CutFunction {
    delegate!(name, aliases, signature, coerce_types, documentation, is_strict);

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(with_micros(&self.function.return_type(arguments)?))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.function.return_field_from_args(args)?;
        let data_type = with_micros(field.data_type());
        Ok(Arc::new(Field::clone(&field).with_data_type(data_type)))
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let updated = self.function.inner().with_updated_config(config)?;
        Some(Self::of(Arc::new(updated)))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.function.simplify(args, info)? {
            ExprSimplifyResult::Simplified(Expr::Literal(value, metadata)) => {
                ExprSimplifyResult::Simplified(Expr::Literal(scalar_cut(&value)?, metadata))
            }
            other => other,
        })
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        for (value, field) in args.args.iter_mut().zip(&mut args.arg_fields) {
            let DataType::Timestamp(of, zone) = value.data_type() else { continue };
            if of == TimeUnit::Nanosecond {
                continue;
            }
            // The function would make NULL of what nanoseconds cannot count.
            *value = match value {
                ColumnarValue::Array(array) => ColumnarValue::Array(in_nanos(array, zone.as_ref())?),
                ColumnarValue::Scalar(scalar) => {
                    let fine = in_nanos(&scalar.to_array()?, zone.as_ref())?;
                    ColumnarValue::Scalar(ScalarValue::try_from_array(&fine, 0)?)
                }
            };
            *field = Arc::new(Field::clone(field).with_data_type(value.data_type()));
        }
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        if let Ok(of_function) = self.function.return_type(&types) {
            args.return_field = Arc::new(Field::clone(&args.return_field).with_data_type(of_function));
        }
        Ok(match self.function.invoke_with_args(args)? {
            ColumnarValue::Array(array) => ColumnarValue::Array(all_cut(&array)?),
            ColumnarValue::Scalar(value) => ColumnarValue::Scalar(scalar_cut(&value)?),
        })
    }
}

/// A function whose rows are moments with nanoseconds, with microseconds.
#[derive(Debug)]
pub(super) struct CutRows(pub(super) Arc<dyn TableFunctionImpl>);

impl TableFunctionImpl for CutRows {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        // Days begin in the time zone of the session.
        let zone = args.session().config_options().execution.time_zone.clone().unwrap_or_else(|| "UTC".into());
        let instants = DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.into()));
        let fine = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Date32(Some(days)), metadata) => {
                let midnight =
                    ScalarValue::Date32(Some(*days)).cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None))?;
                Ok(Expr::Literal(midnight.cast_to(&instants)?, metadata.clone()))
            }
            Expr::Literal(value, metadata) if matches!(value.data_type(), DataType::Timestamp(..)) => {
                let DataType::Timestamp(_, zone) = value.data_type() else { return Ok(expr.clone()) };
                let fine = in_nanos(&value.to_array()?, zone.as_ref())?;
                Ok(Expr::Literal(ScalarValue::try_from_array(&fine, 0)?, metadata.clone()))
            }
            other => Ok(other.clone()),
        };
        let exprs = args.exprs().iter().map(fine).collect::<Result<Vec<_>>>()?;
        let rows = self.0.call_with_args(TableFunctionArgs::new(&exprs, args.session()))?;
        let schema = rows.schema();
        let [field] = &schema.fields()[..] else { return Ok(rows) };
        let cut = with_micros(field.data_type());
        if cut == *field.data_type() {
            return Ok(rows);
        }
        let column = cast(col(field.name()), cut).alias(field.name());
        let plan = LogicalPlanBuilder::scan("series", provider_as_source(rows), None)?.project([column])?.build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{TimestampNanosecondArray, TimestampSecondArray};

    use super::*;

    #[test]
    fn finer_parts_are_cut_off() {
        let moments: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_999), Some(-1), None]));
        let cut = in_micros(&moments).unwrap();
        let cut: Vec<_> = cut.as_primitive::<TimestampMicrosecondType>().iter().collect();
        assert_eq!(cut, [Some(1), Some(-1), None]);
    }

    #[test]
    fn nanoseconds_cannot_count_all_years() {
        let year = |seconds| Arc::new(TimestampSecondArray::from(vec![Some(seconds), None])) as ArrayRef;
        assert!(in_nanos(&year(1_700_000_000), None).is_ok());
        assert!(in_nanos(&year(-62_135_596_800), None).is_err());
        assert!(in_micros(&year(i64::MAX)).is_err());
    }

    #[test]
    fn the_calendar_has_a_first_day() {
        let first = chrono::NaiveDate::from_ymd_opt(-4713, 11, 24).unwrap().and_time(chrono::NaiveTime::MIN);
        assert_eq!(first.and_utc().timestamp_micros(), FIRST);
    }
}
