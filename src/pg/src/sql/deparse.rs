//! Conditions as PostgreSQL writes them: `pg_get_constraintdef` and `information_schema` show them so.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
    Value, ValueWithSpan,
};

use crate::catalog::objects::quoted;
use crate::sql::column_names::fold;

/// Writes conditions. What it does not know is written as it was read.
pub(crate) struct Deparser<'a> {
    /// Returns the name of the type of a column.
    pub(crate) kind: &'a dyn Fn(&str) -> Option<String>,
    /// True if only the parentheses are written that are needed.
    pub(crate) is_plain: bool,
}

/// Place that an expression stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Whole,
    Argument,
    And,
    Or,
    Not,
    /// The operand of a test such as IS NULL.
    Test,
    /// An operand of an operator of this binding, true if it is the right one.
    Operand(u8, bool),
}

impl Deparser<'_> {
    /// Writes a condition.
    pub(crate) fn condition(&self, expr: &Expr) -> String {
        self.write(expr, Place::Whole, None)
    }

    /// Writes an expression; `kind` is the type that a constant in its place has.
    fn write(&self, expr: &Expr, place: Place, kind: Option<&str>) -> String {
        match expr {
            Expr::Nested(inner) => self.write(inner, place, kind),
            Expr::Identifier(name) => self.column(&fold(name), place),
            Expr::CompoundIdentifier(parts) => match parts.last() {
                Some(name) => self.column(&fold(name), place),
                None => expr.to_string(),
            },
            Expr::Value(ValueWithSpan { value, .. }) => self.constant(value, kind),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => self.list(left, right, true, place),
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => self.list(left, right, false, place),
            Expr::BinaryOp { left, op, right } => self.operation(left, &operator(op), right, binding(op), place),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let inner = self.write(expr, Place::Not, None);
                self.enclosed(format!("NOT {inner}"), place, 0)
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
                Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
                    let is_integer = number.parse::<i32>().is_ok();
                    let own = if is_integer { "integer" } else { "numeric" };
                    let kind = kind.filter(|_| !is_integer || matches!(kind, Some("double precision" | "numeric")));
                    format!("'-{number}'::{}", kind.unwrap_or(own))
                }
                inner => {
                    let inner = self.write(inner, Place::Operand(5, false), None);
                    self.enclosed(format!("- {inner}"), place, 0)
                }
            },
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, place),
            Expr::IsNotDistinctFrom(left, right) => {
                let distinct = self.distinct(left, right, Place::Not);
                self.enclosed(format!("NOT {distinct}"), place, 0)
            }
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => {
                let name = type_name(data_type);
                match expr.as_ref() {
                    Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
                        format!("'{}'::{name}", text.replace('\'', "''"))
                    }
                    inner => self.cast(&self.write(inner, Place::Test, None), &name),
                }
            }
            Expr::IsNull(inner) => self.test(inner, "IS NULL", place),
            Expr::IsNotNull(inner) => self.test(inner, "IS NOT NULL", place),
            Expr::IsTrue(inner) => self.test(inner, "IS TRUE", place),
            Expr::IsNotTrue(inner) => self.test(inner, "IS NOT TRUE", place),
            Expr::IsFalse(inner) => self.test(inner, "IS FALSE", place),
            Expr::IsNotFalse(inner) => self.test(inner, "IS NOT FALSE", place),
            Expr::InList { expr, list, negated } => {
                let kind = self.kind_of(expr);
                let items: Vec<_> = list.iter().map(|item| self.write(item, Place::Whole, kind.as_deref())).collect();
                let test = if *negated { "<> ALL" } else { "= ANY" };
                let value = self.write(expr, Place::Test, None);
                let text = format!("{value} {test} (ARRAY[{}])", items.join(", "));
                // PostgreSQL keeps these parentheses inside of others.
                let is_free = matches!(place, Place::Whole | Place::Argument);
                if self.is_plain && is_free { text } else { format!("({text})") }
            }
            Expr::Between { expr, negated: false, low, high } => {
                let compare =
                    |op, bound: &Expr| Expr::BinaryOp { left: expr.clone(), op, right: Box::new(bound.clone()) };
                let (low, high) = (compare(BinaryOperator::GtEq, low), compare(BinaryOperator::LtEq, high));
                self.list(&low, &high, true, place)
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.pattern(expr, if *negated { "!~~" } else { "~~" }, pattern, place)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.pattern(expr, if *negated { "!~~*" } else { "~~*" }, pattern, place)
            }
            Expr::Function(function) => self.call(function).unwrap_or_else(|| expr.to_string()),
            other => other.to_string(),
        }
    }

    /// Returns the type of a column, as which constants beside it are read.
    fn kind_of(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Nested(inner) => self.kind_of(inner),
            Expr::Identifier(name) => (self.kind)(&fold(name)),
            Expr::CompoundIdentifier(parts) => (self.kind)(&fold(parts.last()?)),
            _ => None,
        }
    }

    /// Writes a column. Operators and functions of `varchar` are those of `text`.
    fn column(&self, name: &str, place: Place) -> String {
        let is_cast = matches!(place, Place::Operand(..) | Place::Argument)
            && (self.kind)(name).as_deref() == Some("character varying");
        if is_cast { self.cast(&quoted(name), "text") } else { quoted(name) }
    }

    fn cast(&self, text: &str, kind: &str) -> String {
        if self.is_plain { format!("{text}::{kind}") } else { format!("({text})::{kind}") }
    }

    /// Writes an operator between operands; a constant is of the type of the other.
    fn operation(&self, left: &Expr, operator: &str, right: &Expr, binding: u8, place: Place) -> String {
        let (of_left, of_right) = (self.kind_of(left), self.kind_of(right));
        let left = self.write(left, Place::Operand(binding, false), of_right.as_deref());
        let right = self.write(right, Place::Operand(binding, true), of_left.as_deref());
        self.enclosed(format!("{left} {operator} {right}"), place, binding)
    }

    fn distinct(&self, left: &Expr, right: &Expr, place: Place) -> String {
        self.operation(left, "IS DISTINCT FROM", right, 2, place)
    }

    fn constant(&self, value: &Value, kind: Option<&str>) -> String {
        match value {
            Value::SingleQuotedString(text) => {
                let kind = match kind {
                    None | Some("character varying") => "text",
                    Some(kind) => kind,
                };
                format!("'{}'::{kind}", text.replace('\'', "''"))
            }
            Value::Number(number, _) => match kind {
                Some("double precision" | "real") => self.cast(number, "double precision"),
                Some("numeric") if number.parse::<i64>().is_ok() => self.cast(number, "numeric"),
                _ => number.clone(),
            },
            Value::Boolean(value) => value.to_string(),
            other => other.to_string(),
        }
    }

    /// Writes a list of conditions that AND or OR joins, which is one for PostgreSQL.
    fn list(&self, left: &Expr, right: &Expr, is_and: bool, place: Place) -> String {
        let mut items = Vec::new();
        collect(left, is_and, &mut items);
        collect(right, is_and, &mut items);
        let inside = if is_and { Place::And } else { Place::Or };
        let items: Vec<_> = items.into_iter().map(|item| self.write(item, inside, None)).collect();
        let text = items.join(if is_and { " AND " } else { " OR " });
        let is_free = matches!(place, Place::Whole | Place::Argument) || place == Place::Or && is_and;
        if self.is_plain && is_free { text } else { format!("({text})") }
    }

    fn test(&self, inner: &Expr, test: &str, place: Place) -> String {
        let inner = self.write(inner, Place::Test, None);
        self.enclosed(format!("{inner} {test}"), place, 2)
    }

    fn pattern(&self, expr: &Expr, operator: &str, pattern: &Expr, place: Place) -> String {
        let (expr, pattern) = (
            self.write(expr, Place::Operand(2, false), None),
            self.write(pattern, Place::Operand(2, true), Some("text")),
        );
        self.enclosed(format!("{expr} {operator} {pattern}"), place, 2)
    }

    /// Puts an operation into parentheses, unless they are not needed and not asked for.
    fn enclosed(&self, text: String, place: Place, binding: u8) -> String {
        let is_free = match place {
            Place::Test => false,
            Place::Whole | Place::Argument | Place::And | Place::Or | Place::Not => true,
            // Arithmetic in arithmetic.
            Place::Operand(outer, is_right) => {
                outer > 2 && binding > 2 && (binding > outer || binding == outer && !is_right)
            }
        };
        if self.is_plain && is_free { text } else { format!("({text})") }
    }

    fn call(&self, function: &Function) -> Option<String> {
        let FunctionArguments::List(list) = &function.args else { return None };
        let is_plain = list.clauses.is_empty() && list.duplicate_treatment.is_none();
        if !is_plain || function.filter.is_some() || !function.within_group.is_empty() {
            return None;
        }
        let args = list.args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(self.write(expr, Place::Argument, None)),
            _ => None,
        });
        let args = args.collect::<Option<Vec<_>>>()?;
        let name = function.name.0.last().and_then(|part| part.as_ident())?;
        let name = fold(name);
        let name = match name.as_str() {
            "coalesce" | "greatest" | "least" | "nullif" => name.to_ascii_uppercase(),
            _ => quoted(&name),
        };
        Some(format!("{name}({})", args.join(", ")))
    }
}

/// Collects the conditions that are joined by AND, or by OR.
fn collect<'a>(expr: &'a Expr, is_and: bool, items: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } if is_and => {
            collect(left, is_and, items);
            collect(right, is_and, items);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } if !is_and => {
            collect(left, is_and, items);
            collect(right, is_and, items);
        }
        other => items.push(other),
    }
}

/// Returns how tightly an operator binds.
fn binding(op: &BinaryOperator) -> u8 {
    match op {
        BinaryOperator::Plus | BinaryOperator::Minus => 3,
        BinaryOperator::Multiply | BinaryOperator::Divide | BinaryOperator::Modulo => 4,
        _ => 2,
    }
}

/// Returns the name of a type.
fn type_name(data_type: &DataType) -> String {
    let name = data_type.to_string().to_ascii_lowercase();
    match name.as_str() {
        "int" | "int4" => "integer".into(),
        "int2" => "smallint".into(),
        "int8" => "bigint".into(),
        "bool" => "boolean".into(),
        "float" | "float8" | "double" => "double precision".into(),
        "float4" => "real".into(),
        "varchar" => "character varying".into(),
        "decimal" => "numeric".into(),
        "timestamp" => "timestamp without time zone".into(),
        "timestamptz" => "timestamp with time zone".into(),
        _ => name,
    }
}

fn operator(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::NotEq => "<>".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    /// The texts are those of `pg_get_constraintdef` of PostgreSQL 15.
    #[test]
    fn conditions_are_written_as_postgres_does() {
        let kind = |name: &str| match name {
            "a" | "l" => Some("integer".to_owned()),
            "i" => Some("double precision".to_owned()),
            "j" => Some("numeric".to_owned()),
            "k" => Some("date".to_owned()),
            "v" => Some("character varying".to_owned()),
            _ => Some("text".to_owned()),
        };
        for (condition, full, plain) in [
            ("a > 0", "(a > 0)", "a > 0"),
            ("b is not null and a < 10", "((b IS NOT NULL) AND (a < 10))", "b IS NOT NULL AND a < 10"),
            ("a < 100 or a in (1, 2)", "((a < 100) OR (a = ANY (ARRAY[1, 2])))", "a < 100 OR (a = ANY (ARRAY[1, 2]))"),
            ("a not in (1, 2)", "(a <> ALL (ARRAY[1, 2]))", "a <> ALL (ARRAY[1, 2])"),
            ("true", "true", "true"),
            ("f", "f", "f"),
            ("not g", "(NOT g)", "NOT g"),
            ("b LIKE 'x%'", "(b ~~ 'x%'::text)", "b ~~ 'x%'::text"),
            ("m ~ '^a'", "(m ~ '^a'::text)", "m ~ '^a'::text"),
            (
                "length(e) between 2 and 5",
                "((length(e) >= 2) AND (length(e) <= 5))",
                "length(e) >= 2 AND length(e) <= 5",
            ),
            ("n is null or lower(n) = n", "((n IS NULL) OR (lower(n) = n))", "n IS NULL OR lower(n) = n"),
            ("i > 1.5", "(i > (1.5)::double precision)", "i > 1.5::double precision"),
            ("k > '2020-01-01'", "(k > '2020-01-01'::date)", "k > '2020-01-01'::date"),
            ("l + 1 > 2 * 3", "((l + 1) > (2 * 3))", "(l + 1) > (2 * 3)"),
            ("a != 3 and (a > 1 or a < 0)", "((a <> 3) AND ((a > 1) OR (a < 0)))", "a <> 3 AND (a > 1 OR a < 0)"),
            ("i > 1", "(i > (1)::double precision)", "i > 1::double precision"),
            ("j > 1", "(j > (1)::numeric)", "j > 1::numeric"),
            (
                "v <> '' and v like 'x%'",
                "(((v)::text <> ''::text) AND ((v)::text ~~ 'x%'::text))",
                "v::text <> ''::text AND v::text ~~ 'x%'::text",
            ),
            ("a % 2 = 0 and -a < 5", "(((a % 2) = 0) AND ((- a) < 5))", "(a % 2) = 0 AND (- a) < 5"),
            ("a + 1 + 2 * 3 > 4 - (3 - 1)", "(((a + 1) + (2 * 3)) > (4 - (3 - 1)))", "(a + 1 + 2 * 3) > (4 - (3 - 1))"),
            (
                "coalesce(t, '') <> 'a' || 'b'",
                "(COALESCE(t, ''::text) <> ('a'::text || 'b'::text))",
                "COALESCE(t, ''::text) <> ('a'::text || 'b'::text)",
            ),
            ("u in ('a','b')", "(u = ANY (ARRAY['a'::text, 'b'::text]))", "u = ANY (ARRAY['a'::text, 'b'::text])"),
            ("b = true or not b", "((b = true) OR (NOT b))", "b = true OR NOT b"),
            ("f is not distinct from 'a'", "(NOT (f IS DISTINCT FROM 'a'::text))", "NOT f IS DISTINCT FROM 'a'::text"),
            ("a between 1 and 3 or a > 9", "(((a >= 1) AND (a <= 3)) OR (a > 9))", "a >= 1 AND a <= 3 OR a > 9"),
            ("not (a > 1 and a < 3)", "(NOT ((a > 1) AND (a < 3)))", "NOT (a > 1 AND a < 3)"),
            ("(a > 1) is true", "((a > 1) IS TRUE)", "(a > 1) IS TRUE"),
            (
                "v is null or length(v) > 2",
                "((v IS NULL) OR (length((v)::text) > 2))",
                "v IS NULL OR length(v::text) > 2",
            ),
            ("cast(a as text) <> '1'", "((a)::text <> '1'::text)", "a::text <> '1'::text"),
            (
                "o !~ '^a' and o ilike 'b'",
                "((o !~ '^a'::text) AND (o ~~* 'b'::text))",
                "o !~ '^a'::text AND o ~~* 'b'::text",
            ),
            ("\"Ab\" = 'it''s'", "(\"Ab\" = 'it''s'::text)", "\"Ab\" = 'it''s'::text"),
        ] {
            let expr = Parser::new(&PostgresDialect).try_with_sql(condition).unwrap().parse_expr().unwrap();
            assert_eq!(Deparser { kind: &kind, is_plain: false }.condition(&expr), full);
            assert_eq!(Deparser { kind: &kind, is_plain: true }.condition(&expr), plain);
        }
    }
}
