//! `var_samp`, `stddev`, `corr`, `regr_slope` and their like, added up as PostgreSQL does, by the method of Youngs and Cramer: so
//! that their last digits are the same where rows come in the same order.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::refusal;

/// Statistic that is computed of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Statistic {
    VarianceSample,
    VariancePopulation,
    DeviationSample,
    DeviationPopulation,
    CovarianceSample,
    CovariancePopulation,
    Correlation,
    Slope,
    Intercept,
    Determination,
    AverageX,
    AverageY,
    SquaresX,
    SquaresY,
    Products,
}

/// Names of the aggregates, as DataFusion has them, and what they compute.
const STATISTICS: [(&str, Statistic); 15] = [
    ("var", Statistic::VarianceSample),
    ("var_pop", Statistic::VariancePopulation),
    ("stddev", Statistic::DeviationSample),
    ("stddev_pop", Statistic::DeviationPopulation),
    ("covar_samp", Statistic::CovarianceSample),
    ("covar_pop", Statistic::CovariancePopulation),
    ("corr", Statistic::Correlation),
    ("regr_slope", Statistic::Slope),
    ("regr_intercept", Statistic::Intercept),
    ("regr_r2", Statistic::Determination),
    ("regr_avgx", Statistic::AverageX),
    ("regr_avgy", Statistic::AverageY),
    ("regr_sxx", Statistic::SquaresX),
    ("regr_syy", Statistic::SquaresY),
    ("regr_sxy", Statistic::Products),
];

impl Statistic {
    /// Returns true if it is of one column.
    fn is_of_one(self) -> bool {
        use Statistic::{DeviationPopulation, DeviationSample, VariancePopulation, VarianceSample};
        matches!(self, VarianceSample | VariancePopulation | DeviationSample | DeviationPopulation)
    }
}

/// DataFusion's aggregate with other sums.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Regression {
    function: Arc<AggregateUDF>,
    statistic: Statistic,
    aliases: Vec<String>,
}

impl Regression {
    /// Returns the aggregates in the place of those of DataFusion that `found` gives by name.
    pub(super) fn all(found: impl Fn(&str) -> Result<Arc<AggregateUDF>>) -> Result<Vec<AggregateUDF>> {
        let each = |(name, statistic): (&str, Statistic)| {
            let function = found(name)?;
            let mut aliases = function.aliases().to_vec();
            if name == "var" {
                aliases.push("variance".into());
            }
            Ok(AggregateUDF::from(Self { function, statistic, aliases }))
        };
        STATISTICS.into_iter().map(each).collect()
    }
}

impl AggregateUDFImpl for Regression {
    delegate!(name, signature, return_type, documentation, is_nullable);

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        // Those of one column have the states of DataFusion's, as which scans of activations give them.
        if self.statistic.is_of_one() {
            return self.function.state_fields(args);
        }
        let field = |part| Arc::new(Field::new(format_state_name(args.name, part), DataType::Float64, true));
        Ok(["count", "x", "xx", "y", "yy", "xy"].into_iter().map(field).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            if self.statistic.is_of_one() && self.name().starts_with("var") {
                return self.function.accumulator(args);
            }
            let message = format!("{}(DISTINCT …) is not supported; use SELECT DISTINCT in a subquery", self.name());
            return Err(refusal("0A000", message));
        }
        Ok(Box::new(Total { statistic: self.statistic, sums: Sums::default() }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups { statistic: self.statistic, sums: Vec::new() }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

fn overflow() -> DataFusionError {
    refusal("22003", "value out of range: overflow")
}

/// Number of rows, sums, and sums of squares and products around the means. Y is the first argument, X the second or the only one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    n: f64,
    x: f64,
    xx: f64,
    y: f64,
    yy: f64,
    xy: f64,
}

impl Sums {
    fn add(&mut self, x: f64) -> Result<()> {
        let before = *self;
        self.n += 1.0;
        self.x += x;
        if before.n > 0.0 {
            let distance = x * self.n - self.x;
            self.xx += distance * distance / (self.n * before.n);
            if self.x.is_infinite() || self.xx.is_infinite() {
                if !before.x.is_infinite() && !x.is_infinite() {
                    return Err(overflow());
                }
                self.xx = f64::NAN;
            }
        } else if !x.is_finite() {
            self.xx = f64::NAN;
        }
        Ok(())
    }

    fn add_pair(&mut self, y: f64, x: f64) -> Result<()> {
        let before = *self;
        self.n += 1.0;
        self.x += x;
        self.y += y;
        if before.n > 0.0 {
            let (across, along) = (x * self.n - self.x, y * self.n - self.y);
            let scale = 1.0 / (self.n * before.n);
            self.xx += across * across * scale;
            self.yy += along * along * scale;
            self.xy += across * along * scale;
            if [self.x, self.xx, self.y, self.yy, self.xy].iter().any(|sum| sum.is_infinite()) {
                let (is_old_x, is_old_y) = (before.x.is_infinite(), before.y.is_infinite());
                let is_new_x = !is_old_x && !x.is_infinite();
                let is_new_y = !is_old_y && !y.is_infinite();
                let is_wrong = (self.x.is_infinite() || self.xx.is_infinite()) && is_new_x
                    || (self.y.is_infinite() || self.yy.is_infinite()) && is_new_y
                    || self.xy.is_infinite() && is_new_x && is_new_y;
                if is_wrong {
                    return Err(overflow());
                }
                for sum in [&mut self.xx, &mut self.yy, &mut self.xy] {
                    if sum.is_infinite() {
                        *sum = f64::NAN;
                    }
                }
            }
        } else {
            if !x.is_finite() {
                (self.xx, self.xy) = (f64::NAN, f64::NAN);
            }
            if !y.is_finite() {
                (self.yy, self.xy) = (f64::NAN, f64::NAN);
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        if self.n == 0.0 {
            *self = other;
            return Ok(());
        }
        if other.n == 0.0 {
            return Ok(());
        }
        let (one, two) = (*self, other);
        let n = one.n + two.n;
        let (across, along) = (one.x / one.n - two.x / two.n, one.y / one.n - two.y / two.n);
        *self = Self {
            n,
            x: one.x + two.x,
            xx: one.xx + two.xx + one.n * two.n * across * across / n,
            y: one.y + two.y,
            yy: one.yy + two.yy + one.n * two.n * along * along / n,
            xy: one.xy + two.xy + one.n * two.n * across * along / n,
        };
        let is_new =
            |sum: fn(&Self) -> f64| sum(self).is_infinite() && !sum(&one).is_infinite() && !sum(&two).is_infinite();
        if is_new(|it| it.x) || is_new(|it| it.xx) || is_new(|it| it.y) || is_new(|it| it.yy) || is_new(|it| it.xy) {
            return Err(overflow());
        }
        Ok(())
    }

    fn value(&self, statistic: Statistic) -> Option<f64> {
        let Self { n, x, xx, y, yy, xy } = *self;
        let least = match statistic {
            Statistic::VarianceSample | Statistic::DeviationSample | Statistic::CovarianceSample => 2.0,
            _ => 1.0,
        };
        if n < least {
            return None;
        }
        Some(match statistic {
            Statistic::VarianceSample => xx / (n - 1.0),
            Statistic::VariancePopulation => xx / n,
            Statistic::DeviationSample => (xx / (n - 1.0)).sqrt(),
            Statistic::DeviationPopulation => (xx / n).sqrt(),
            Statistic::CovarianceSample => xy / (n - 1.0),
            Statistic::CovariancePopulation => xy / n,
            Statistic::Correlation if xx == 0.0 || yy == 0.0 => return None,
            Statistic::Correlation => xy / (xx * yy).sqrt(),
            Statistic::Slope | Statistic::Intercept | Statistic::Determination if xx == 0.0 => return None,
            Statistic::Slope => xy / xx,
            Statistic::Intercept => (y - x * xy / xx) / n,
            Statistic::Determination if yy == 0.0 => 1.0,
            Statistic::Determination => (xy * xy) / (xx * yy),
            Statistic::AverageX => x / n,
            Statistic::AverageY => y / n,
            Statistic::SquaresX => xx,
            Statistic::SquaresY => yy,
            Statistic::Products => xy,
        })
    }
}

/// Returns the columns of a batch as floating-point numbers.
fn doubles(columns: &[ArrayRef]) -> Result<Vec<Float64Array>> {
    let each = |column: &ArrayRef| Ok(arrow_cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone());
    columns.iter().map(each).collect()
}

/// Adds a batch; `group` returns the place of the sums of a row, or `None` if it is left out.
fn add_batch(
    statistic: Statistic,
    values: &[ArrayRef],
    sums: &mut [Sums],
    group: impl Fn(usize) -> Option<usize>,
) -> Result<()> {
    let columns = doubles(values)?;
    match (&columns[..], statistic.is_of_one()) {
        ([xs], true) => {
            for row in (0..xs.len()).filter(|row| xs.is_valid(*row)) {
                if let Some(group) = group(row) {
                    sums[group].add(xs.value(row))?;
                }
            }
        }
        ([ys, xs], false) => {
            for row in (0..xs.len()).filter(|row| xs.is_valid(*row) && ys.is_valid(*row)) {
                if let Some(group) = group(row) {
                    sums[group].add_pair(ys.value(row), xs.value(row))?;
                }
            }
        }
        _ => return exec_err!("{statistic:?} of {} columns", values.len()),
    }
    Ok(())
}

/// Returns the states of sums as columns.
fn states(statistic: Statistic, sums: &[Sums]) -> Vec<ArrayRef> {
    let column = |part: fn(&Sums) -> f64| Arc::new(Float64Array::from_iter_values(sums.iter().map(part))) as ArrayRef;
    if statistic.is_of_one() {
        let counts = UInt64Array::from_iter_values(sums.iter().map(|sums| sums.n as u64));
        let mean = column(|it| if it.n > 0.0 { it.x / it.n } else { 0.0 });
        return vec![Arc::new(counts), mean, column(|it| it.xx)];
    }
    vec![
        column(|it| it.n),
        column(|it| it.x),
        column(|it| it.xx),
        column(|it| it.y),
        column(|it| it.yy),
        column(|it| it.xy),
    ]
}

/// Returns the sums of each row of states.
fn sums_of(statistic: Statistic, states: &[ArrayRef]) -> Result<Vec<Sums>> {
    match (states, statistic.is_of_one()) {
        ([counts, means, squares], true) => {
            let counts = counts.as_primitive::<UInt64Type>();
            let (means, squares) = (means.as_primitive::<Float64Type>(), squares.as_primitive::<Float64Type>());
            let each = |row: usize| match counts.is_valid(row) {
                true => {
                    let n = counts.value(row) as f64;
                    Sums { n, x: means.value(row) * n, xx: squares.value(row), ..Sums::default() }
                }
                false => Sums::default(),
            };
            Ok((0..counts.len()).map(each).collect())
        }
        ([_, _, _, _, _, _], false) => {
            let columns: Vec<_> = states.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
            let each = |row: usize| match columns[0].is_valid(row) {
                true => {
                    let at = |place: usize| columns[place].value(row);
                    Sums { n: at(0), x: at(1), xx: at(2), y: at(3), yy: at(4), xy: at(5) }
                }
                false => Sums::default(),
            };
            Ok((0..columns[0].len()).map(each).collect())
        }
        _ => exec_err!("{statistic:?} got states of {} columns", states.len()),
    }
}

/// The sums of all rows.
#[derive(Debug)]
struct Total {
    statistic: Statistic,
    sums: Sums,
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        add_batch(self.statistic, values, std::slice::from_mut(&mut self.sums), |_| Some(0))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.sums.value(self.statistic)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = states(self.statistic, &[self.sums]);
        states.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        sums_of(self.statistic, states)?.into_iter().try_for_each(|sums| self.sums.merge(sums))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// The sums of groups.
#[derive(Debug)]
struct Groups {
    statistic: Statistic,
    sums: Vec<Sums>,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.sums.resize(count, Sums::default());
        let is_kept = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        add_batch(self.statistic, values, &mut self.sums, |row| is_kept(row).then(|| groups[row]))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        Ok(Arc::new(sums.iter().map(|sums| sums.value(self.statistic)).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(states(self.statistic, &emit_to.take_needed(&mut self.sums)))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.sums.resize(count, Sums::default());
        let mut merged = sums_of(self.statistic, values)?.into_iter().zip(groups);
        merged.try_for_each(|(sums, group)| self.sums[*group].merge(sums))
    }

    /// Converts rows to states, each row a group of its own.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut sums = vec![Sums::default(); rows];
        let is_kept = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        add_batch(self.statistic, values, &mut sums, |row| is_kept(row).then_some(row))?;
        Ok(states(self.statistic, &sums))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Sums>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn digits_are_those_of_postgres() {
        let mut pairs = Sums::default();
        for x in 1..=100 {
            pairs.add_pair(f64::from(x), f64::from(x).sin()).unwrap();
        }
        assert_eq!(pairs.value(Statistic::Correlation), Some(-0.04806497493247874));
        assert_eq!(pairs.value(Statistic::Slope), Some(-1.956904368465739));
        assert_eq!(pairs.value(Statistic::Intercept), Some(50.49751138487825));
        assert_eq!(pairs.value(Statistic::Determination), Some(0.0023102418152598095));
        assert_eq!(pairs.value(Statistic::Products), Some(-98.37011064953013));
        let mut values = Sums::default();
        (1..=100).for_each(|x| values.add(f64::from(x)).unwrap());
        assert_eq!(values.value(Statistic::DeviationSample), Some(29.011491975882016));
        assert_eq!(values.value(Statistic::VariancePopulation), Some(833.25));
    }

    #[test]
    fn few_rows_and_infinities() {
        let mut one = Sums::default();
        assert_eq!(one.value(Statistic::VariancePopulation), None);
        one.add(f64::INFINITY).unwrap();
        assert!(one.value(Statistic::VariancePopulation).unwrap().is_nan());
        assert_eq!(one.value(Statistic::VarianceSample), None);
        let mut large = Sums::default();
        large.add(1e200).unwrap();
        assert!(large.add(-1e200).is_err());
        let mut flat = Sums::default();
        flat.add_pair(1.0, 1.0).unwrap();
        flat.add_pair(1.0, 2.0).unwrap();
        assert_eq!(flat.value(Statistic::Determination), Some(1.0));
        assert_eq!(flat.value(Statistic::Correlation), None);
    }

    #[test]
    fn parts_are_merged() {
        for statistic in [Statistic::VarianceSample, Statistic::Correlation] {
            let (mut whole, mut left, mut right) = (Sums::default(), Sums::default(), Sums::default());
            for x in 0..10 {
                let half = if x < 5 { &mut left } else { &mut right };
                for sums in [&mut whole, half] {
                    match statistic.is_of_one() {
                        true => sums.add(f64::from(x)).unwrap(),
                        false => sums.add_pair(f64::from(x), f64::from(x * x)).unwrap(),
                    }
                }
            }
            let mut merged = Sums::default();
            for sums in sums_of(statistic, &states(statistic, &[left, Sums::default(), right])).unwrap() {
                merged.merge(sums).unwrap();
            }
            let (merged, whole) = (merged.value(statistic).unwrap(), whole.value(statistic).unwrap());
            assert!((merged - whole).abs() < 1e-12 * whole.abs(), "{merged} {whole}");
        }
    }
}
