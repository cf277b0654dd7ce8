//! Columns of CREATE TABLE that take numbers of a sequence: `serial` is an `integer` with a mark that the planner passes over, which
//! says that the table gets a sequence when it is made.

use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, ColumnOptionDef, CreateTable, DataType, Expr, GeneratedAs, OnConflict, OnConflictAction,
    OnInsert, SequenceOptions, SetExpr, Statement, UnaryOperator, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::catalog::sequences::generated::Identity;
use crate::catalog::sequences::sequence;
use crate::sql::column_names::fold;
use crate::sql::rewrite::call;
use crate::sql::sequence_syntax::Overriding;
use crate::wire::error_response::SqlError;

/// The mark of a `serial` column.
const SERIAL: &str = "neuroql_serial";

/// Name of the function that stands for DEFAULT in the place of a value.
pub(crate) const DEFAULT: &str = "neuroql_default";

/// A column that a sequence is made for.
#[derive(Debug)]
pub(crate) struct SequenceColumn<'a> {
    pub(crate) name: String,
    pub(crate) data_type: &'a DataType,
    /// The kind of an identity column; `None` for `serial`.
    pub(crate) identity: Option<Identity>,
    pub(crate) options: &'a [SequenceOptions],
}

/// Returns the columns of a table that sequences are made for.
pub(crate) fn sequence_columns(table: &CreateTable) -> Vec<SequenceColumn<'_>> {
    let of = |column: &'_ ColumnDef| -> Option<(Option<Identity>, Option<usize>)> {
        column.options.iter().enumerate().find_map(|(place, option)| match &option.option {
            ColumnOption::Generated { generated_as: GeneratedAs::Always, generation_expr: None, .. } => {
                Some((Some(Identity::Always), Some(place)))
            }
            ColumnOption::Generated { generated_as: GeneratedAs::ByDefault, .. } => {
                Some((Some(Identity::ByDefault), Some(place)))
            }
            option if is_serial(option) => Some((None, None)),
            _ => None,
        })
    };
    let columns = table.columns.iter().filter_map(|column| {
        let (identity, place) = of(column)?;
        let options = place.and_then(|place| match &column.options.get(place)?.option {
            ColumnOption::Generated { sequence_options: Some(options), .. } => Some(options.as_slice()),
            _ => None,
        });
        let options = options.unwrap_or_default();
        Some(SequenceColumn { name: fold(&column.name), data_type: &column.data_type, identity, options })
    });
    columns.collect()
}

fn is_serial(option: &ColumnOption) -> bool {
    matches!(option, ColumnOption::DialectSpecific(tokens) if matches!(tokens.as_slice(), [Token::Word(word)] if word.value == SERIAL))
}

/// Gives `serial` columns their type, and those that take numbers of a sequence NOT NULL.
///
/// # Errors
/// 42601 for clauses that contradict each other, 22023 for an identity column of another type than of integers.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), SqlError> {
    let Statement::CreateTable(table) = statement else { return Ok(()) };
    let table_name = table.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
    for column in &mut table.columns {
        let name = fold(&column.name);
        let options = column.options.iter().map(|option| &option.option);
        let identities = options.clone().filter(|option| is_identity(option)).count();
        let defaults = options.clone().filter(|option| matches!(option, ColumnOption::Default(_))).count();
        let serial = serial(&column.data_type);
        if serial.is_none() && identities == 0 {
            continue;
        }
        let of = format!("for column \"{name}\" of table \"{table_name}\"");
        let contradiction = match (&serial, identities, defaults) {
            (_, 2.., _) => Some(format!("multiple identity specifications {of}")),
            (Some(_), 0, 1..) => Some(format!("multiple default values specified {of}")),
            (Some(_), 1, _) | (None, 1, 1..) => Some(format!("both default and identity specified {of}")),
            _ if options.clone().any(|option| matches!(option, ColumnOption::Null)) => {
                Some(format!("conflicting NULL/NOT NULL declarations {of}"))
            }
            _ => None,
        };
        if let Some(message) = contradiction {
            return Err(SqlError::error("42601", message));
        }
        let is_required = options.clone().any(|option| matches!(option, ColumnOption::NotNull));
        if let Some(data_type) = serial {
            column.data_type = data_type;
            column.options.push(unnamed(ColumnOption::DialectSpecific(vec![Token::make_word(SERIAL, None)])));
        } else if sequence::kind(&column.data_type).is_none() {
            return Err(SqlError::error("22023", "identity column type must be smallint, integer, or bigint"));
        }
        if !is_required {
            column.options.push(unnamed(ColumnOption::NotNull));
        }
    }
    Ok(())
}

fn unnamed(option: ColumnOption) -> ColumnOptionDef {
    ColumnOptionDef { name: None, option }
}

/// Returns true for an option that makes an identity column.
pub(crate) fn is_identity(option: &ColumnOption) -> bool {
    matches!(option, ColumnOption::Generated { generation_expr: None, .. })
}

/// Returns the type of the numbers of a `serial`.
fn serial(data_type: &DataType) -> Option<DataType> {
    let DataType::Custom(name, modifiers) = data_type else { return None };
    let [name] = name.0.as_slice() else { return None };
    match fold(name.as_ident().filter(|_| modifiers.is_empty())?).as_str() {
        "smallserial" | "serial2" => Some(DataType::SmallInt(None)),
        "serial" | "serial4" => Some(DataType::Integer(None)),
        "bigserial" | "serial8" => Some(DataType::BigInt(None)),
        _ => None,
    }
}

/// Puts calls of a function in the place of each DEFAULT that is a value of INSERT or UPDATE; it gets the default of its column once the
/// statement is planned.
pub(crate) fn mark_defaults(statement: &mut Statement) {
    let mark = |value: &mut Expr| {
        if matches!(value, Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
        {
            *value = call(DEFAULT, Vec::new());
        }
    };
    match statement {
        Statement::Prepare { statement, .. } => mark_defaults(statement),
        Statement::Insert(insert) => {
            if let Some(SetExpr::Values(values)) = insert.source.as_mut().map(|source| source.body.as_mut()) {
                values.rows.iter_mut().flat_map(|row| row.content.iter_mut()).for_each(mark);
            }
            if let Some(OnInsert::OnConflict(OnConflict { action: OnConflictAction::DoUpdate(update), .. })) =
                &mut insert.on
            {
                update.assignments.iter_mut().map(|assignment| &mut assignment.value).for_each(mark);
            }
        }
        Statement::Update(update) => {
            update.assignments.iter_mut().map(|assignment| &mut assignment.value).for_each(mark);
        }
        _ => {}
    }
}

/// Returns the error of a value for an identity column that takes none.
pub(crate) fn not_the_default(column: &str, updates: bool) -> SqlError {
    let message = match updates {
        true => format!("column \"{column}\" can only be updated to DEFAULT"),
        false => format!("cannot insert a non-DEFAULT value into column \"{column}\""),
    };
    let error = SqlError::error("428C9", message);
    if updates { error } else { error.with_hint("Use OVERRIDING SYSTEM VALUE to override.") }
}

/// Returns true if an identity column keeps its own number, and not that of the statement.
///
/// # Errors
/// 428C9 if the statement may not give it one.
pub(crate) fn keeps_own(identity: Identity, overriding: Overriding, column: &str) -> Result<bool, SqlError> {
    match (identity, overriding) {
        (_, Overriding::UserValue) => Ok(true),
        (Identity::Always, Overriding::Nothing) => Err(not_the_default(column, false)),
        (Identity::Always, Overriding::SystemValue) | (Identity::ByDefault, _) => Ok(false),
    }
}

/// Writes a default as PostgreSQL does, with the name of its column's type behind a text; `None` if it is NULL.
pub(crate) fn default_text(default: &Expr, type_name: &str) -> Option<String> {
    let literal = |text: &str| format!("'{}'::{type_name}", text.replace('\'', "''"));
    match default {
        Expr::Nested(inner) => default_text(inner, type_name),
        Expr::Value(ValueWithSpan { value, .. }) => match value {
            Value::Null => None,
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(literal(text)),
            Value::Number(number, _) => Some(number.clone()),
            Value::Boolean(flag) => Some(flag.to_string()),
            other => Some(other.to_string()),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => Some(literal(&format!("-{number}"))),
            _ => Some(default.to_string()),
        },
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn parsed(text: &str) -> Statement {
        Parser::parse_sql(&PostgresDialect, text).unwrap().remove(0)
    }

    fn rewritten(columns: &str) -> Result<Vec<(String, Option<Identity>, DataType)>, String> {
        let mut statement = parsed(&format!("CREATE TABLE t ({columns})"));
        rewrite(&mut statement).map_err(|error| error.sqlstate.into_owned())?;
        let Statement::CreateTable(table) = &statement else { panic!("{statement}") };
        for column in sequence_columns(table) {
            let column = table.columns.iter().find(|known| fold(&known.name) == column.name).unwrap();
            assert!(column.options.iter().any(|option| option.option == ColumnOption::NotNull), "{column}");
        }
        let columns = sequence_columns(table).into_iter();
        Ok(columns.map(|column| (column.name, column.identity, column.data_type.clone())).collect())
    }

    #[test]
    fn columns_with_sequences_are_found() {
        let found = rewritten("a serial, b bigserial, c SERIAL2, d int, e int generated always as identity").unwrap();
        let expected = [
            ("a", None, DataType::Integer(None)),
            ("b", None, DataType::BigInt(None)),
            ("c", None, DataType::SmallInt(None)),
            ("e", Some(Identity::Always), DataType::Int(None)),
        ];
        assert_eq!(found, expected.map(|(name, identity, data_type)| (name.to_owned(), identity, data_type)));
        let found = rewritten("a bigint generated by default as identity (start with 3) primary key").unwrap();
        assert_eq!(found, [("a".to_owned(), Some(Identity::ByDefault), DataType::BigInt(None))]);
        assert_eq!(rewritten("a int default 1").unwrap(), []);
    }

    #[test]
    fn contradictions_are_refused() {
        for (columns, sqlstate) in [
            ("a serial default 5", "42601"),
            ("a serial null", "42601"),
            ("a serial generated always as identity", "42601"),
            ("a int default 5 generated always as identity", "42601"),
            ("a int null generated always as identity", "42601"),
            ("a int generated always as identity generated by default as identity", "42601"),
            ("a text generated always as identity", "22023"),
        ] {
            assert_eq!(rewritten(columns).unwrap_err(), sqlstate, "{columns}");
        }
    }

    #[test]
    fn defaults_are_marked() {
        let marked = |text: &str| {
            let mut statement = parsed(text);
            mark_defaults(&mut statement);
            statement.to_string()
        };
        let found = marked("INSERT INTO t (a, b) VALUES (DEFAULT, 1), (2, default)");
        assert_eq!(found, "INSERT INTO t (a, b) VALUES (neuroql_default(), 1), (2, neuroql_default())");
        assert_eq!(marked("UPDATE t SET a = DEFAULT, b = 1"), "UPDATE t SET a = neuroql_default(), b = 1");
        let own = "INSERT INTO t (a, b) VALUES (\"default\", 'DEFAULT')";
        assert_eq!(marked(own), own);
    }

    #[test]
    fn defaults_are_written() {
        for (default, kind, written) in [
            ("5", "integer", Some("5")),
            ("-1", "integer", Some("'-1'::integer")),
            ("'it''s'", "text", Some("'it''s'::text")),
            ("true", "boolean", Some("true")),
            ("NULL", "text", None),
            ("now()", "timestamp without time zone", Some("now()")),
            ("CURRENT_TIMESTAMP", "timestamp without time zone", Some("CURRENT_TIMESTAMP")),
        ] {
            let Statement::CreateTable(table) = parsed(&format!("CREATE TABLE t (a int DEFAULT {default})")) else {
                panic!("{default}");
            };
            let ColumnOption::Default(expr) = &table.columns[0].options[0].option else { panic!("{default}") };
            assert_eq!(default_text(expr, kind).as_deref(), written);
        }
    }
}
