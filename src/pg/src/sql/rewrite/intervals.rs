//! Literals of intervals, which the planner reads otherwise than Postgres: each is written in months, days and microseconds.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Interval, ObjectName, TableFactor,
    TableFunctionArgs, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use neuroql::{IntervalFields, IntervalParts, IntervalUnit, read_interval};

use crate::sql::rewrite::from_functions;
use crate::wire::error_response::SqlError;

/// Rewrites `INTERVAL '1 day 2:00'`, `INTERVAL '1-2' YEAR TO MONTH`, `INTERVAL '1.234' SECOND(2)`.
///
/// # Errors
/// As Postgres if a text is no interval.
pub(crate) fn rewrite(tree: &mut impl VisitMut) -> Result<(), SqlError> {
    match tree.visit(&mut ReadIntervals) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct ReadIntervals;

impl VisitorMut for ReadIntervals {
    type Break = SqlError;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let read = match expr {
            Expr::Interval(interval) => normalize(interval),
            // The planner would put a minus before the text, which is that of its first unit only.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: operand } if matches!(**operand, Expr::Interval(_)) => {
                let interval = std::mem::replace(operand.as_mut(), Expr::value(Value::Null));
                **operand = Expr::Nested(Box::new(interval));
                Ok(())
            }
            Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) => step(name, &mut list.args),
            _ => Ok(()),
        };
        read.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<SqlError> {
        let read = match table {
            TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), .. }
            | TableFactor::Function { name, args, .. } => step(name, args),
            _ => Ok(()),
        };
        read.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }
}

/// Makes an interval of the text without a type that is the step of `generate_series(a, b, '1 day')`.
fn step(name: &ObjectName, arguments: &mut [FunctionArg]) -> Result<(), SqlError> {
    let is_series = from_functions::name_of(name).is_some_and(|name| name == "generate_series");
    let [_, _, FunctionArg::Unnamed(FunctionArgExpr::Expr(step))] = arguments else { return Ok(()) };
    if !is_series || !matches!(step, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. })) {
        return Ok(());
    }
    let mut interval = Interval {
        value: Box::new(std::mem::replace(step, Expr::value(Value::Null))),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    };
    normalize(&mut interval)?;
    *step = Expr::Interval(interval);
    Ok(())
}

fn normalize(interval: &mut Interval) -> Result<(), SqlError> {
    let Expr::Value(ValueWithSpan { value, .. }) = interval.value.as_mut() else { return Ok(()) };
    let Some(text) = value.clone().into_string() else { return Ok(()) };
    let Some(of) = fields(interval.leading_field.as_ref(), interval.last_field.as_ref())? else { return Ok(()) };
    let digits = match interval.leading_field {
        Some(DateTimeField::Second) if interval.fractional_seconds_precision.is_none() => interval.leading_precision,
        _ if interval.leading_precision.is_some() => return Ok(()),
        _ => interval.fractional_seconds_precision,
    };
    let digits = digits.map(|digits| u32::try_from(digits).unwrap_or(u32::MAX));
    let parts = read_interval(&text, of, digits)?;
    if of.is_none() && digits.is_none() && is_plain(&text) {
        return Ok(());
    }
    *value = Value::SingleQuotedString(written(parts));
    (interval.leading_field, interval.leading_precision) = (None, None);
    (interval.last_field, interval.fractional_seconds_precision) = (None, None);
    Ok(())
}

/// Returns true for a whole number of one unit, which the planner reads alike.
fn is_plain(text: &str) -> bool {
    const UNITS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let Some((number, unit)) = text.split_once(' ') else { return false };
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number && UNITS.contains(&unit.strip_suffix('s').unwrap_or(unit))
}

/// Returns the fields of a literal; `None` if it names one that Postgres does not know.
fn fields(leading: Option<&DateTimeField>, last: Option<&DateTimeField>) -> Result<Option<IntervalFields>, SqlError> {
    let Some(leading) = leading else { return Ok(Some(None)) };
    let (Some(greatest), Some(smallest)) = (unit(leading), unit(last.unwrap_or(leading))) else { return Ok(None) };
    let is_of_months = |unit: IntervalUnit| unit <= IntervalUnit::Month;
    if last.is_some() && (greatest >= smallest || is_of_months(greatest) != is_of_months(smallest)) {
        return Err(SqlError::error("42601", format!("syntax error: an interval of {leading} to a greater unit")));
    }
    Ok(Some(Some((greatest, smallest))))
}

fn unit(field: &DateTimeField) -> Option<IntervalUnit> {
    Some(match field {
        DateTimeField::Year => IntervalUnit::Year,
        DateTimeField::Month => IntervalUnit::Month,
        DateTimeField::Day => IntervalUnit::Day,
        DateTimeField::Hour => IntervalUnit::Hour,
        DateTimeField::Minute => IntervalUnit::Minute,
        DateTimeField::Second => IntervalUnit::Second,
        _ => return None,
    })
}

fn written(IntervalParts { months, days, micros }: IntervalParts) -> String {
    let parts = [(i64::from(months), "months"), (days.into(), "days"), (micros, "microseconds")];
    let parts = parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count} {unit}"));
    let text = parts.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "0 days".into() } else { text }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(text: &str) -> Result<String, SqlError> {
        let mut expr = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap();
        rewrite(&mut expr).map(|()| expr.to_string())
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn literals_are_of_months_days_and_microseconds() {
        for (text, expected) in [
            ("INTERVAL '1 day 2:00'", "INTERVAL '1 days 7200000000 microseconds'"),
            ("interval '1-2' year to month", "INTERVAL '14 months'"),
            ("interval '1.5' day", "INTERVAL '1 days'"),
            ("interval '1 2' day to hour", "INTERVAL '1 days 7200000000 microseconds'"),
            ("interval '1:30' hour to minute", "INTERVAL '5400000000 microseconds'"),
            ("interval '1:30' minute to second", "INTERVAL '90000000 microseconds'"),
            ("interval '1.23456' second(2)", "INTERVAL '1230000 microseconds'"),
            ("interval '3 days' hour", "INTERVAL '3 days'"),
            ("interval '14 months 3 days' year", "INTERVAL '12 months'"),
            ("interval '1.5 weeks'", "INTERVAL '10 days 43200000000 microseconds'"),
            ("interval ''''", "22007"),
            ("interval '0'", "INTERVAL '0 days'"),
            ("- interval '1 mon 2 days'", "-(INTERVAL '1 months 2 days')"),
            ("interval '1 day' + interval '1-1'", "INTERVAL '1 day' + INTERVAL '13 months'"),
            ("interval '-3 hours'", "INTERVAL '-3 hours'"),
            ("interval '3 fortnights'", "22007"),
            ("interval '999999999999 years'", "22015"),
            ("interval '1 nanosecond'", "22007"),
        ] {
            let found = rewritten(text).unwrap_or_else(|error| error.sqlstate.to_string());
            assert_eq!(found, expected, "{text}");
        }
        // What it has written it reads again.
        let twice = rewritten("INTERVAL '-14 months 3 days -7200000000 microseconds'").unwrap();
        assert_eq!(twice, "INTERVAL '-14 months 3 days -7200000000 microseconds'");
    }
}
