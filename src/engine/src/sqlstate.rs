//! Errors in the words and codes that a Postgres client knows.
//!
//! DataFusion's errors carry prefixes for developers ("Error during planning: …"), backtraces and advice to
//! report bugs to another project. [`diagnose`] walks the chain down to the first error that knows better and
//! gives its SQLSTATE, a plain message and, where there is one, a hint.

use std::error::Error as StdError;
use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;

use crate::postgres::Refusal;

/// An error as a user should see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Five characters from appendix A of the PostgreSQL manual.
    pub sqlstate: &'static str,
    /// One sentence without a prefix or backtrace.
    pub message: String,
    /// A hint, where there is one.
    pub hint: Option<String>,
}

impl Diagnosis {
    fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Returns the SQLSTATE of any error that comes out of a session.
pub fn sqlstate(error: &DataFusionError) -> &'static str {
    diagnose(error).sqlstate
}

/// Names a subquery that DataFusion plans in conditions only.
fn unsupported_subquery(text: &str) -> Option<String> {
    let expression = text.strip_prefix("Physical plan does not support logical expression ")?;
    let kinds = [
        ("InSubquery", "IN (SELECT …)"),
        ("Exists", "EXISTS (SELECT …)"),
        ("ScalarSubquery", "a correlated subquery"),
        ("OuterReferenceColumn", "a column of another table of the statement"),
    ];
    let (_, kind) = kinds.into_iter().find(|(name, _)| expression.starts_with(name))?;
    Some(format!("{kind} is not supported at this place of a statement; put it into WHERE, or join"))
}

/// Finds the SQLSTATE, message and hint of any error that comes out of a session.
pub fn diagnose(error: &DataFusionError) -> Diagnosis {
    match error {
        DataFusionError::Context(text, inner) if text == "Invalid regex" => {
            Diagnosis::new("2201B", format!("invalid regular expression: {}", plain(&inner.strip_backtrace())))
        }
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => diagnose(inner),
        DataFusionError::Shared(inner) => diagnose(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => diagnose(first),
            None => Diagnosis::new("XX000", error.strip_backtrace()),
        },
        DataFusionError::External(inner) => foreign(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::ParquetError(inner) => parquet(inner),
        DataFusionError::ObjectStore(inner) => {
            let code = if inner.to_string().contains("not found") { "58P01" } else { "58030" };
            Diagnosis::new(code, inner.to_string())
        }
        DataFusionError::IoError(inner) => io_error(inner),
        DataFusionError::SQL(inner, _) => syntax(inner),
        DataFusionError::NotImplemented(text) => {
            Diagnosis::new("0A000", unsupported_subquery(text).unwrap_or_else(|| plain(text)))
        }
        DataFusionError::ResourcesExhausted(text) => {
            let code = if text.contains("max_temp_directory_size") { "53100" } else { "53200" };
            Diagnosis::new(code, plain(text))
        }
        DataFusionError::Configuration(text) if text.contains("Function factory has not been configured") => {
            Diagnosis::new("0A000", "CREATE FUNCTION is not supported")
        }
        DataFusionError::Configuration(text) => {
            let unknown = ["not found", "Could not find config namespace", "unrecognized configuration parameter"];
            let unknown = unknown.iter().any(|words| text.contains(words));
            Diagnosis::new(if unknown { "42704" } else { "22023" }, plain(text))
        }
        DataFusionError::SchemaError(inner, _) => schema(inner),
        DataFusionError::Plan(text) => planning(&plain(text)).unwrap_or_else(|| Diagnosis::new("42000", plain(text))),
        DataFusionError::Execution(text) => {
            planning(&plain(text)).unwrap_or_else(|| Diagnosis::new("22000", plain(text)))
        }
        DataFusionError::ExecutionJoin(inner) => Diagnosis::new("XX000", format!("internal error: {inner}")),
        DataFusionError::Internal(text) => {
            let internal = || Diagnosis::new("XX000", format!("internal error: {}", plain(text)));
            mistake(&plain(text)).unwrap_or_else(internal)
        }
        DataFusionError::Substrait(text) | DataFusionError::Ffi(text) => Diagnosis::new("XX000", plain(text)),
    }
}

/// Errors of other crates, which arrive boxed: the first one in the chain with an opinion decides.
fn foreign(error: &(dyn StdError + 'static)) -> Diagnosis {
    let mut link = Some(error);
    while let Some(current) = link {
        if let Some(found) = current.downcast_ref::<DataFusionError>() {
            return diagnose(found);
        }
        if let Some(found) = current.downcast_ref::<ArrowError>() {
            return arrow(found);
        }
        if let Some(found) = current.downcast_ref::<Refusal>() {
            return Diagnosis::new(found.sqlstate(), found.to_string());
        }
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return io_error(found);
        }
        if let Some(code) = own_code(current) {
            return Diagnosis::new(code, current.to_string());
        }
        link = current.source();
    }
    Diagnosis::new("XX000", error.to_string())
}

/// Returns the code that an error of one of neuroql's own rooms carries.
fn own_code(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let model = error.downcast_ref::<neuroql_model::Error>().map(neuroql_model::Error::sqlstate);
    let functions = || error.downcast_ref::<neuroql_udfs::Error>().map(neuroql_udfs::Error::sqlstate);
    let tables = || error.downcast_ref::<neuroql_catalogs::Error>().map(neuroql_catalogs::Error::sqlstate);
    let schema = || error.downcast_ref::<neuroql_schema::Error>().map(neuroql_schema::Error::sqlstate);
    let pipeline = || error.downcast_ref::<neuroql_pipeline::Error>().map(neuroql_pipeline::Error::sqlstate);
    let store = || error.downcast_ref::<neuroql_store::Error>().map(neuroql_store::Error::sqlstate);
    let graph = || error.downcast_ref::<neuroql_graph::Error>().map(neuroql_graph::Error::sqlstate);
    let n2g = || error.downcast_ref::<neuroql_n2g::Error>().map(neuroql_n2g::Error::sqlstate);
    let analysis = || error.downcast_ref::<neuroql_analysis::Error>().map(neuroql_analysis::Error::sqlstate);
    model
        .or_else(graph)
        .or_else(n2g)
        .or_else(analysis)
        .or_else(functions)
        .or_else(tables)
        .or_else(schema)
        .or_else(pipeline)
        .or_else(store)
}

fn arrow(error: &ArrowError) -> Diagnosis {
    let (code, text) = match error {
        ArrowError::ExternalError(inner) => return foreign(inner.as_ref()),
        ArrowError::IoError(_, inner) => return io_error(inner),
        ArrowError::CastError(text) => cast(text),
        ArrowError::ParseError(text) => {
            let moment = text.strip_prefix("Error parsing timestamp from '");
            let is_number = |text: &str| text.trim_start().starts_with(|first: char| first.is_ascii_digit());
            (moment.map_or("22P02", |moment| if is_number(moment) { "22008" } else { "22007" }), text.clone())
        }
        ArrowError::DivideByZero => ("22012", "division by zero".into()),
        ArrowError::ArithmeticOverflow(text) => ("22003", text.clone()),
        ArrowError::InvalidArgumentError(text) if text.contains("to store in a Decimal") => {
            ("22003", format!("numeric field overflow: {text}"))
        }
        ArrowError::InvalidArgumentError(text) => ("22023", text.clone()),
        ArrowError::ComputeError(text) if text.contains("overflow on abs") => {
            let wide = if text.contains("Int64") { "bigint" } else { "integer" };
            let name = if text.contains("Int16") { "smallint" } else { wide };
            ("22003", format!("{name} out of range"))
        }
        ArrowError::ComputeError(text) if text.contains("Regular expression did not compile") => {
            ("2201B", format!("invalid regular expression: {text}"))
        }
        ArrowError::ComputeError(text)
            if text.contains("zero raised to a negative power") || text.contains("yields a complex result") =>
        {
            ("2201F", text.clone())
        }
        ArrowError::ComputeError(text) if text.contains("square root of a negative") => {
            ("2201F", "cannot take square root of a negative number".into())
        }
        ArrowError::NotYetImplemented(text) => ("0A000", text.clone()),
        ArrowError::MemoryError(text) => ("53200", text.clone()),
        ArrowError::DictionaryKeyOverflowError
        | ArrowError::RunEndIndexOverflowError
        | ArrowError::OffsetOverflowError(_) => ("54000", error.to_string()),
        ArrowError::CsvError(text) | ArrowError::JsonError(text) => ("22P04", text.clone()),
        ArrowError::ParquetError(text) | ArrowError::IpcError(text) | ArrowError::AvroError(text) => {
            ("XX001", text.clone())
        }
        ArrowError::ComputeError(text) | ArrowError::SchemaError(text) => ("22000", text.clone()),
        ArrowError::CDataInterface(text) => ("XX000", text.clone()),
    };
    Diagnosis::new(code, plain(&text))
}

/// Translates `Cannot cast string '2.7' to value of Int32 type` to `invalid input syntax for type integer: "2.7"`.
fn cast(text: &str) -> (&'static str, String) {
    let name = |arrow: &str| {
        Some(match arrow.split(['(', ' ']).next().unwrap_or(arrow) {
            "Int16" => "smallint",
            "Int32" => "integer",
            "Int64" => "bigint",
            "Float32" => "real",
            "Float64" => "double precision",
            "Boolean" => "boolean",
            "Date32" | "Date64" => "date",
            "Time32" | "Time64" => "time",
            "Timestamp" => "timestamp",
            "Decimal128" | "Decimal256" | "Decimal32" | "Decimal64" => "numeric",
            _ => return None,
        })
    };
    if let Some((_, to)) = text.strip_prefix("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type "))
        && let Some(to) = name(to)
    {
        return ("22003", format!("{to} out of range"));
    }
    if let Some((value, rest)) =
        text.strip_prefix("Cannot cast string '").and_then(|rest| rest.rsplit_once("' to value of "))
        && let Some(to) = name(rest)
    {
        let digits = value.trim().trim_start_matches(['+', '-']);
        let is_integer = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        return match to {
            "smallint" | "integer" | "bigint" if is_integer => {
                ("22003", format!("value \"{value}\" is out of range for type {to}"))
            }
            "date" | "time" | "timestamp" if value.trim().starts_with(|first: char| first.is_ascii_digit()) => {
                ("22008", format!("date/time field value out of range: \"{value}\""))
            }
            "date" | "time" | "timestamp" => ("22007", format!("invalid input syntax for type {to}: \"{value}\"")),
            _ => ("22P02", format!("invalid input syntax for type {to}: \"{value}\"")),
        };
    }
    if text.starts_with("Cannot cast to Decimal") && text.contains("Overflowing") {
        return ("22003", format!("numeric field overflow: {text}"));
    }
    let overflow = text.contains("out of range") || text.contains("too large");
    (if overflow { "22003" } else { "22P02" }, text.to_owned())
}

fn parquet(error: &ParquetError) -> Diagnosis {
    match error {
        ParquetError::External(inner) => foreign(inner.as_ref()),
        ParquetError::NYI(text) => Diagnosis::new("0A000", plain(text)),
        other => Diagnosis::new("XX001", plain(&other.to_string())),
    }
}

fn io_error(error: &io::Error) -> Diagnosis {
    let code = match error.kind() {
        io::ErrorKind::NotFound => "58P01",
        io::ErrorKind::PermissionDenied => "42501",
        io::ErrorKind::StorageFull => "53100",
        _ => "58030",
    };
    Diagnosis::new(code, error.to_string())
}

/// Translates `Expected: an expression, found: FROM at Line: 1, Column: 8` to `syntax error at or near "FROM"`.
fn syntax(error: &ParserError) -> Diagnosis {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            return Diagnosis::new("54001", "statement is nested too deeply");
        }
    };
    let text = text.split(" at Line: ").next().unwrap_or(text);
    match text.rsplit_once("found: ") {
        Some((_, "EOF")) => Diagnosis::new("42601", "syntax error at end of input").hint(text),
        Some((_, token)) => Diagnosis::new("42601", format!("syntax error at or near \"{token}\"")).hint(text),
        None => Diagnosis::new("42601", format!("syntax error: {text}")),
    }
}

fn schema(error: &SchemaError) -> Diagnosis {
    match error {
        SchemaError::AmbiguousReference { field } => {
            Diagnosis::new("42702", format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { qualifier, name } => {
            Diagnosis::new("42701", format!("column \"{qualifier}.{name}\" specified more than once"))
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            Diagnosis::new("42701", format!("column \"{name}\" specified more than once"))
        }
        SchemaError::FieldNotFound { field, valid_fields } => {
            let name = match &field.relation {
                Some(table) => format!("{}.{}", table.table(), field.name),
                None => format!("\"{}\"", field.name),
            };
            let is_table = |valid: &Column| valid.relation.as_ref().is_some_and(|table| table.table() == field.name);
            if field.relation.is_none() && valid_fields.iter().any(is_table) {
                let message = format!("a row of {name} as a value is not supported; name its columns");
                return Diagnosis::new("0A000", message);
            }
            let found = Diagnosis::new("42703", format!("column {name} does not exist"));
            // Unquoted names are folded to lower case, so a column in other letters is the likeliest mistake.
            if let Some(near) = valid_fields.iter().find(|valid| valid.name.eq_ignore_ascii_case(&field.name)) {
                return found.hint(format!("Perhaps you meant \"{}\".", near.name));
            }
            match valid_fields.len() {
                0 => found,
                1..=24 => {
                    // Names in the private area of Unicode are those that the server makes.
                    let names: Vec<_> = valid_fields
                        .iter()
                        .map(|valid| valid.name.as_str())
                        .filter(|name| !name.starts_with('\u{f8ff}'))
                        .collect();
                    found.hint(format!("Columns are {}.", names.join(", ")))
                }
                _ => found,
            }
        }
    }
}

/// Returns true if a name may be a misspelling of another: DataFusion names the nearest one, however far.
fn is_near(name: &str, other: &str) -> bool {
    3 * levenshtein(&name.to_ascii_lowercase(), &other.to_ascii_lowercase()) <= name.chars().count().max(3)
}

/// Finds planning errors that a client acts upon; in DataFusion they are plain text.
fn planning(text: &str) -> Option<Diagnosis> {
    let lower = text.to_ascii_lowercase();
    let has = |needle: &str| lower.contains(needle);
    if has("unable to find factory for") {
        let format = text.rsplit(' ').next()?;
        return Some(Diagnosis::new("0A000", format!("tables cannot be STORED AS {format}")));
    }
    if has("table function") && has("not found") {
        return Some(Diagnosis::new("42883", format!("function {} does not exist", quoted(text)?)));
    }
    if (lower.starts_with("table") || lower.starts_with("view")) && (has("not found") || has("doesn't exist")) {
        let name = quoted(text).or_else(|| text.split(": ").nth(1))?;
        let name = name.strip_prefix("neuroql.").unwrap_or(name);
        let name = name.strip_prefix("public.").unwrap_or(name);
        return Some(Diagnosis::new("42P01", format!("relation \"{name}\" does not exist")));
    }
    if has("invalid function") {
        let name = quoted(text)?;
        let found = Diagnosis::new("42883", format!("function {name} does not exist"));
        let near = text.split("Did you mean '").nth(1).and_then(|rest| rest.split('\'').next());
        return Some(match near.filter(|near| is_near(name, near)) {
            Some(near) => found.hint(format!("Perhaps you meant \"{near}\".")),
            None => found,
        });
    }
    if has("correlated scalar subquery can only be used") {
        let message = "a correlated subquery is not supported at this place of a statement; put it into WHERE, or join";
        return Some(Diagnosis::new("0A000", message));
    }
    if has("correlated scalar subquery must be aggregated") {
        let message =
            "a correlated subquery that may have several rows is not supported; make one of them, as by max(…)";
        return Some(Diagnosis::new("0A000", message));
    }
    if has("order by column out of bounds") {
        let position = text.split(|letter: char| !letter.is_ascii_digit()).find(|digits| !digits.is_empty())?;
        return Some(Diagnosis::new("42P10", format!("ORDER BY position {position} is not in select list")));
    }
    let code = if has("no files found") {
        "58P01"
    } else if has("limit must be >=") {
        "2201W"
    } else if has("offset must be >=") {
        "2201X"
    } else if has("step cannot be zero") {
        "22023"
    } else if has("failed to match any signature") {
        return Some(Diagnosis::new("42883", format!("no function {} takes these arguments", quoted(text)?)));
    } else if has("no function matches") || has("function '") && has("expect") {
        "42883"
    } else if has("already exists") {
        if lower.starts_with("schema") { "42P06" } else { "42P07" }
    } else if has("no field named") {
        "42703"
    } else if has("ambiguous") {
        "42702"
    } else if has("must be part of group by")
        || has("must appear in the group by")
        || has("could not be resolved from available columns")
    {
        "42803"
    } else if has("unique expression names") || has("duplicate") {
        "42701"
    } else if has("failed to resolve schema")
        || has("schema") && has("not found")
        || has("schema") && has("doesn't exist")
    {
        "3F000"
    } else if has("placeholder") {
        "42P02"
    } else if has("unsupported")
        || has("not supported")
        || has("not implemented")
        || has("not allowed")
        || has("does not satisfy order requirements")
    {
        "0A000"
    } else if has("for select distinct, order by expressions") {
        "42P10"
    } else if has("cannot coerce arithmetic expression") {
        "42883"
    } else if has("cannot coerce")
        || has("cannot infer common")
        || has("incompatible")
        || has("type mismatch")
        || has("type_coercion")
    {
        "42804"
    } else if has("zero raised to a negative power") || has("yields a complex result") {
        "2201F"
    } else if has("scalar subquery returned more than one row") {
        "21000"
    } else if has("negative count not allowed") || has("negative substring length") {
        "22011"
    } else if has("field position must not be zero") {
        "22023"
    } else if has("divide by zero") || has("division by zero") {
        "22012"
    } else if has("overflow") || has("out of range") {
        "22003"
    } else {
        return None;
    };
    Some(Diagnosis::new(code, text))
}

/// Finds mistakes of statements that DataFusion takes for its own.
fn mistake(text: &str) -> Option<Diagnosis> {
    if text.contains("failed to match any signature") {
        return Some(Diagnosis::new("42883", format!("no function {} takes these arguments", quoted(text)?)));
    }
    let code = if text.starts_with("Failed to coerce types") {
        "42883"
    } else if text.starts_with("Cannot run range queries on datatype") {
        "0A000"
    } else {
        return None;
    };
    Some(Diagnosis::new(code, text))
}

/// Returns the first text between single quotes.
fn quoted(text: &str) -> Option<&str> {
    let mut parts = text.split('\'');
    parts.next()?;
    parts.next()
}

/// Returns a message without backtrace, advice to report a DataFusion bug, or a nested error's own prefix.
fn plain(text: &str) -> String {
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(text);
    let text = text.split("\nThis issue was likely caused by a bug in DataFusion").next().unwrap_or(text);
    let mut text = text.trim();
    const PREFIXES: [&str; 8] = [
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Arrow error: ",
        "Schema error: ",
        "Internal error: ",
        "Invalid or Unsupported Configuration: ",
        "This feature is not implemented: ",
    ];
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::error::ArrowError;
    use datafusion::common::{Column, plan_datafusion_err};

    use super::*;

    #[test]
    fn planning_errors_read_like_postgres() {
        let error = plan_datafusion_err!("table 'neuroql.public.nothing' not found");
        assert_eq!(diagnose(&error), Diagnosis::new("42P01", "relation \"nothing\" does not exist"));

        let error = plan_datafusion_err!("Invalid function 'tokenise'.\nDid you mean 'tokenize'?");
        let found = diagnose(&error.context("type_coercion"));
        assert_eq!((found.sqlstate, found.message.as_str()), ("42883", "function tokenise does not exist"));
        assert_eq!(found.hint.as_deref(), Some("Perhaps you meant \"tokenize\"."));
        let error = plan_datafusion_err!("Invalid function 'no_such'.\nDid you mean 'nanvl'?");
        assert_eq!(diagnose(&error).hint, None);
    }

    #[test]
    fn a_missing_column_names_the_ones_there_are() {
        let field = Box::new(Column::from_name("Layer"));
        let missing = SchemaError::FieldNotFound { field, valid_fields: vec![Column::from_name("layer")] };
        let found = diagnose(&DataFusionError::SchemaError(Box::new(missing), Box::new(None)));
        assert_eq!(found.sqlstate, "42703");
        assert_eq!(found.message, "column \"Layer\" does not exist");
        assert_eq!(found.hint.as_deref(), Some("Perhaps you meant \"layer\"."));
    }

    #[test]
    fn errors_are_found_inside_boxes() {
        let inner = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        let boxed = DataFusionError::External(Box::new(ArrowError::ExternalError(Box::new(inner))));
        assert_eq!(diagnose(&boxed), Diagnosis::new("22012", "division by zero"));
    }

    #[test]
    fn syntax_errors_name_the_token() {
        let error = ParserError::ParserError("Expected: an expression, found: FROM at Line: 1, Column: 8".into());
        let found = diagnose(&DataFusionError::SQL(Box::new(error), None));
        assert_eq!((found.sqlstate, found.message.as_str()), ("42601", "syntax error at or near \"FROM\""));
    }

    #[test]
    fn prefixes_do_not_reach_the_user() {
        let error = DataFusionError::Execution("External error: Execution error: no such thing".into());
        assert_eq!(diagnose(&error).message, "no such thing");
    }
}
