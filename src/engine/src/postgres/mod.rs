//! Semantics of PostgreSQL for expressions, where DataFusion's differ: its answers, or errors with its codes.
//!
//! Types are decided when a statement is planned ([`types`], [`operators`], [`signed`]), values by rules of the analyzer
//! ([`rules`], [`subqueries`]) that put functions in the place of operators and casts. So programs that embed neuroql and
//! clients of the server get the same rows.

#[macro_use]
mod delegate;

mod aggregate_subqueries;
mod arithmetic;
mod array_keys;
mod array_of_rows;
mod array_rows;
mod array_values;
mod arrays;
mod assignments;
mod average;
mod averages;
pub mod bpchar;
mod bytea;
mod bytes;
mod cast_expressions;
mod cast_styles;
mod casts;
mod characters;
mod clock_texts;
mod coalesce;
mod common_types;
mod constants;
mod contains;
mod correlated_aggregates;
mod correlated_windows;
mod counts;
mod date_styles;
mod decimal;
mod doubles;
mod emptied;
mod encodings;
mod exists;
mod extremes;
mod filters;
pub mod floats;
mod folding;
mod formats;
mod functions;
mod guards;
mod instants;
mod integers;
mod interval_products;
mod interval_texts;
mod irreversible;
pub mod json;
mod lateral_limits;
mod laterals;
mod letters;
mod matches;
mod microseconds;
mod mixed_moments;
mod mixed_types;
mod moments;
mod names;
mod nodes;
mod nulls;
mod numeric_arithmetic;
mod numeric_texts;
mod operators;
mod order_keys;
mod ordered_sets;
mod overlap;
mod overloads;
mod parts;
mod patterns;
mod quotients;
pub mod ranges;
mod refusal;
mod regexps;
mod regressions;
mod removals;
mod rounding;
mod rules;
mod set_operations;
mod signed;
mod single_rows;
pub(crate) mod sizes;
mod spans;
mod statistics;
mod subqueries;
mod sum;
mod templates;
mod text_forms;
mod text_functions;
mod text_values;
mod texts;
mod time_fields;
mod times;
mod truncation;
mod types;
mod unicode;
mod uuids;
mod values;
mod zeros;
mod zoned_times;
mod zones;

use std::sync::Arc;

use crate::nullable_inputs::NullableInputs;
pub use array_of_rows::NAME as ARRAY_OF_ROWS;
pub use bytea::read_bytea;
pub use common_types::cast_case_results;
pub use constants::{local_constants, ordered_constant};
use datafusion::arrow::array::ArrayRef;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;
pub use date_styles::{DateForm, DateOrder, DateStyle, is_ambiguous};
pub use instants::in_zone;
pub use interval_texts::{IntervalFields, IntervalParts, IntervalUnit};
pub use microseconds::MomentTypes;
pub use moments::{read_date, read_instant, read_timestamp};
pub use refusal::Refusal;
pub use text_values::{read_interval, read_time};
pub use types::PostgresTypes;
pub use uuids::{UUID, is_uuid, read_uuid, uuid_text, uuid_texts};
pub use zoned_times::ZonedTime;

use characters::CharacterFunction;
use contains::ArrayContains;
use counts::TextCount;
use doubles::DoubleFunction;
use encodings::Encode;
use functions::{ArrayHas, FiniteFunction, Levenshtein, RenamedFunction};
use integers::IntegerFunction;
use letters::CaseFunction;
use microseconds::{CutFunction, CutRows};
use parts::DatePart;
use removals::ArrayRemove;
use signed::{SignedAggregate, SignedScalar, SignedWindow};
use truncation::DateTrunc;

/// Functions that count in unsigned integers.
const COUNTING: [&str; 5] = ["array_length", "array_ndims", "array_position", "array_positions", "cardinality"];

/// Window functions that do.
const RANKING: [&str; 4] = ["row_number", "rank", "dense_rank", "ntile"];

/// Aggregates that do.
const ESTIMATING: [&str; 2] = ["approx_distinct", "regr_count"];

/// Functions that are not defined for all numbers.
const PARTIAL: [&str; 14] =
    ["ln", "log", "log2", "log10", "sqrt", "exp", "power", "acos", "asin", "acosh", "atanh", "sinh", "cosh", "cot"];

/// Arrays as Postgres writes them.
///
/// # Errors
/// If an element cannot be written.
pub fn array_texts(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(Arc::new(texts::written(column)?))
}

/// Makes a session answer as Postgres does.
///
/// # Errors
/// If the session does not take functions.
pub(crate) fn register(context: &SessionContext) -> Result<()> {
    let state = context.state_ref();
    // Without a time zone, DataFusion's `timestamptz` is a timestamp without one.
    if state.read().config_options().execution.time_zone.is_none() {
        state.write().config_mut().options_mut().set("datafusion.execution.time_zone", "UTC")?;
    }
    for name in microseconds::FUNCTIONS {
        let function = state.read().udf(name)?;
        context.register_udf(CutFunction::of(function));
    }
    for name in microseconds::TABLE_FUNCTIONS {
        let found = state.read().table_functions().get(name).cloned();
        if let Some(found) = found {
            context.register_udtf(name, Arc::new(CutRows(Arc::clone(found.function()))));
        }
    }
    let found = state.read().clone();
    for name in COUNTING {
        context.register_udf(SignedScalar::of(found.udf(name)?));
    }
    for name in PARTIAL {
        if let Ok(function) = found.udf(name) {
            context.register_udf(FiniteFunction::of(function));
        }
    }
    context.register_udf(ArrayHas::of(found.udf("array_has")?));
    context.register_udf(coalesce::Coalesce::of(found.udf("coalesce")?));
    context.register_udf(emptied::Emptied::of(found.udf("nullif")?));
    for name in ["greatest", "least"] {
        context.register_udf(uuids::Extreme::of(found.udf(name)?));
    }
    for name in ["concat", "concat_ws"] {
        context.register_udf(uuids::Concatenation::of(found.udf(name)?));
    }
    context.register_udf(Levenshtein::of(found.udf("levenshtein")?));
    context.register_udf(DatePart::numeric(found.udf("date_part")?));
    context.register_udf(DatePart::double(found.udf("date_part")?));
    context.register_udf(DateTrunc::of(found.udf("date_trunc")?));
    context.register_udf(zones::time_zone());
    let any = found.udf("array_has_any")?;
    let substr = Arc::new(bytes::ByteaFunction::of(found.udf("substr")?));
    for function in overlap::functions() {
        context.register_udf(function);
    }
    for name in ["upper", "lower", "initcap"] {
        context.register_udf(CaseFunction::of(found.udf(name)?));
    }
    context.register_udf(bytes::ByteaFunction::of(found.udf("substr")?));
    for name in ["octet_length", "character_length"] {
        let of_bytes = Arc::new(bytes::ByteaFunction::of(found.udf(name)?));
        context.register_udf(TextCount::of(of_bytes));
    }
    for name in ["bit_length", "strpos"] {
        context.register_udf(TextCount::of(found.udf(name)?));
    }
    for name in ["regexp_match", "regexp_replace"] {
        context.register_udf(matches::RegexpFunction::of(found.udf(name)?));
    }
    for name in ["chr", "lpad", "rpad"] {
        context.register_udf(CharacterFunction::of(found.udf(name)?));
    }
    for name in ["round", "floor", "ceil", "trunc"] {
        context.register_udf(DoubleFunction::of(found.udf(name)?));
    }
    let ceil = ScalarUDF::clone(&*context.state().udf("ceil")?).with_aliases(["ceiling"]);
    context.register_udf(ceil);
    let mut more = statistics::functions();
    more.extend(text_forms::functions());
    more.extend(regexps::functions());
    more.extend(array_values::functions());
    more.push(array_of_rows::function());
    more.extend(times::functions(found.udf("date_bin")?));
    more.extend(templates::functions(found.udf("to_char")?));
    for function in more {
        context.register_udf(function);
    }
    for aggregate in regressions::Regression::all(|name| found.udaf(name))? {
        context.register_udaf(aggregate);
    }
    for aggregate in ordered_sets::aggregates() {
        context.register_udaf(aggregate);
    }
    for name in ["gcd", "lcm"] {
        context.register_udf(IntegerFunction::of(found.udf(name)?));
    }
    context.register_udf(ArrayContains::of(found.udf("array_has_all")?));
    context.register_udf(Encode::of(found.udf("encode")?));
    // Those of Postgres change all elements, DataFusion's of this name only the first.
    context.register_udf(ArrayRemove::of(found.udf("array_remove_all")?, &*found.udf("array_remove")?));
    context.register_udf(RenamedFunction::of(
        found.udf("array_replace_all")?,
        "array_replace",
        &*found.udf("array_replace")?,
    ));
    context.register_relation_planner(Arc::new(values::ValuesPlanner))?;
    context.register_relation_planner(Arc::new(laterals::LateralUnnest))?;
    for name in RANKING {
        context.register_udwf(SignedWindow::of(found.udwf(name)?));
    }
    for name in ESTIMATING {
        context.register_udaf(SignedAggregate::of(found.udaf(name)?));
    }
    for name in ["array_agg", "string_agg"] {
        context.register_udaf(irreversible::Irreversible::of(found.udaf(name)?));
    }
    context.register_udaf(sum::Sum::of(found.udaf("sum")?));
    context.register_udaf(average::Average::of(found.udaf("avg")?));
    json::register(context)?;
    ranges::register(context)?;
    for name in ["min", "max"] {
        context.register_udaf(extremes::MinMax::of(found.udaf(name)?));
    }
    let mut before: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(values::SubqueryValues),
        Arc::new(correlated_windows::CorrelatedWindows),
        Arc::new(lateral_limits::LateralLimits),
        Arc::new(laterals::LateralRows),
        Arc::new(aggregate_subqueries::AggregateSubqueries),
        Arc::new(mixed_types::MixedTypes),
        Arc::new(set_operations::CountedRows),
        Arc::new(exists::ExistsAsScalar),
        Arc::new(single_rows::SingleRows),
        Arc::new(correlated_aggregates::CorrelatedAggregates),
        Arc::new(rules::RewriteOperators),
    ];
    before.extend(found.analyzer().rules.iter().cloned());
    before.extend([
        Arc::new(subqueries::NullAwareSubqueries) as _,
        Arc::new(rules::RewriteArithmetic) as _,
        Arc::new(folding::FoldConstants) as _,
        Arc::new(zeros::NormalizeZeroKeys) as _,
    ]);
    let (part, position) = (state.read().udf("extract").ok(), state.read().udf("strpos").ok());
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![
        ranges::planner(),
        json::planner(found.udaf("array_agg")?),
        Arc::new(operators::OperatorTypePlanner { part, position, any, substr }),
    ];
    planners.extend(found.expr_planners().iter().cloned());
    let types = MomentTypes::before(Some(Arc::new(PostgresTypes::before(None))));
    types.follow(context);
    let planner = NullableInputs::before(Arc::clone(state.read().query_planner()));
    let changed = SessionStateBuilder::new_from_existing(state.read().clone())
        .with_query_planner(Arc::new(planner))
        .with_analyzer_rules(before)
        .with_optimizer_rules(order_keys::after(filters::FiltersAboveAggregates::among(&found.optimizer().rules)))
        .with_expr_planners(planners)
        .with_type_planner(Arc::new(types))
        .build();
    *state.write() = changed;
    Ok(())
}
