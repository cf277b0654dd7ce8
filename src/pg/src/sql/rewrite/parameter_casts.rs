//! Casts of parameters: in `$1::jsonb` the parameter has that type, and its values are read as such.
//!
//! The planner has no such types, or narrower ones: its `numeric` has ten digits after the point. So the cast is taken out
//! of the statement, and the type is kept beside it.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType, ExactNumberInfo, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, TimezoneInfo,
    Value, ValueWithSpan, VisitMut, VisitorMut, visit_expressions_mut,
};
use datafusion_postgres::pgwire::api::Type;
use postgres_types::Kind;

use crate::catalog;
use crate::sql::own_types;
use crate::sql::range_values;
use crate::sql::rewrite::array_of as array;

/// Takes out the casts of parameters to types that the planner does not have. `declared` are the types that the client
/// gave.
pub(crate) fn take(tree: &mut impl VisitMut, declared: &[Option<Type>]) -> ParameterCasts {
    let mut casts = ParameterCasts::default();
    let _ = visit_expressions_mut(tree, |expr| {
        if let Expr::Cast { expr: inner, data_type, format: None, array: false, .. } = expr {
            if let Some(index) = placeholder(inner)
                && let Some(kind) = taken(data_type)
                && is_read_as(declared.get(index - 1).and_then(Option::as_ref), &kind)
                && casts.taken.get(&index).is_none_or(|known| *known == kind)
            {
                *expr = std::mem::replace(inner.as_mut(), Expr::value(Value::Null));
                casts.taken.insert(index, kind);
            } else if let Some(index) = placeholder(inner)
                && let known @ None = casts.seen.entry(index).or_default()
            {
                *known = self::declared(data_type);
            }
        } else if let Some(index) = placeholder(expr) {
            casts.seen.entry(index).or_default();
        } else if let Expr::Substring { substring_from: Some(from), substring_for: None, special: false, .. } = expr
            && let Some(index) = placeholder(from)
            && declared.get(index - 1).and_then(Option::as_ref).is_none_or(|kind| *kind == Type::UNKNOWN)
        {
            // `substring(text FROM pattern)`, as Postgres reads it if it does not know the type.
            let inner = std::mem::replace(from.as_mut(), Expr::value(Value::Null));
            **from = crate::sql::rewrite::cast(inner, DataType::Text);
        }
        ControlFlow::<()>::Continue(())
    });
    let _: ControlFlow<()> = tree.visit(&mut ContextDependentParameters { casts: &mut casts });
    casts
}

/// Parameters of a statement, and their casts.
#[derive(Debug, Default)]
pub(crate) struct ParameterCasts {
    /// Types of the casts that were taken out.
    pub(crate) taken: HashMap<usize, Type>,
    /// All parameters, and the types of their first casts.
    pub(crate) seen: HashMap<usize, Option<Type>>,
    /// Parameters that are outputs of a branch of a set operation.
    pub(crate) outputs: HashSet<usize>,
    /// True if the statement has a WITH, whose queries the plan may leave out.
    pub(crate) in_with: bool,
}

/// Finds parameters whose types depend on more than the expression that they stand in.
struct ContextDependentParameters<'a> {
    casts: &'a mut ParameterCasts,
}

impl VisitorMut for ContextDependentParameters<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.casts.in_with |= query.with.is_some();
        if let SetExpr::SetOperation { .. } = query.body.as_ref() {
            self.branches(&query.body);
        }
        ControlFlow::Continue(())
    }
}

impl ContextDependentParameters<'_> {
    /// Notes the parameters that are outputs of branches, which have the types of the other branches.
    fn branches(&mut self, body: &SetExpr) {
        match body {
            SetExpr::SetOperation { left, right, .. } => {
                self.branches(left);
                self.branches(right);
            }
            SetExpr::Query(query) => self.branches(&query.body),
            SetExpr::Select(select) => {
                for output in &select.projection {
                    if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = output {
                        self.casts.outputs.extend(placeholder(expr));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Returns the number of a parameter.
fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) => placeholder(inner),
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => {
            name.strip_prefix('$')?.parse().ok().filter(|index| *index > 0)
        }
        _ => None,
    }
}

fn taken(data_type: &DataType) -> Option<Type> {
    use ExactNumberInfo::None as AnyNumber;
    if let Some(own) = own_types::of_sql(data_type) {
        return Some(own);
    }
    Some(match data_type {
        DataType::JSON => Type::JSON,
        DataType::JSONB => Type::JSONB,
        DataType::Numeric(AnyNumber) | DataType::Decimal(AnyNumber) | DataType::Dec(AnyNumber) => Type::NUMERIC,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => Type::VARCHAR,
        DataType::Custom(name, modifiers) if modifiers.is_empty() => match name.to_string().to_lowercase().as_str() {
            "bpchar" | "pg_catalog.bpchar" => Type::BPCHAR,
            "name" | "pg_catalog.name" => Type::NAME,
            "\"char\"" | "pg_catalog.\"char\"" => Type::CHAR,
            "oid" | "pg_catalog.oid" => Type::OID,
            "inet" | "pg_catalog.inet" => Type::INET,
            "cidr" | "pg_catalog.cidr" => Type::CIDR,
            "macaddr" | "pg_catalog.macaddr" => Type::MACADDR,
            name => range_values::named(name.strip_prefix("pg_catalog.").unwrap_or(name))?,
        },
        DataType::Time(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Type::TIMETZ,
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Type::TIMESTAMPTZ,
        DataType::Timestamp(None, _) => Type::TIMESTAMP,
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, None)) => array_of(&taken(item)?)?,
        _ => return None,
    })
}

/// Returns true if values of the declared type are read as `kind`: those of this type, and text.
fn is_read_as(declared: Option<&Type>, kind: &Type) -> bool {
    let Some(declared) = declared else { return true };
    if let (Kind::Array(declared), Kind::Array(kind)) = (declared.kind(), kind.kind())
        && catalog::own_types::is_enum(kind)
    {
        return is_read_as(Some(declared), kind);
    }
    declared == kind || matches!(*declared, Type::UNKNOWN | Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME)
}

/// Returns a type in the planner's form.
pub(crate) fn planned(kind: &Type) -> Option<DataType> {
    if let Kind::Array(item) = kind.kind() {
        return Some(array(planned(item)?));
    }
    Some(match *kind {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::SmallInt(None),
        Type::INT4 | Type::OID => DataType::Integer(None),
        Type::INT8 => DataType::BigInt(None),
        Type::FLOAT4 => DataType::Real,
        Type::FLOAT8 => DataType::DoublePrecision,
        Type::NUMERIC => DataType::Numeric(ExactNumberInfo::None),
        Type::BYTEA => DataType::Bytea,
        Type::DATE => DataType::Date,
        Type::TIME => DataType::Time(None, TimezoneInfo::None),
        Type::TIMESTAMP => DataType::Timestamp(None, TimezoneInfo::None),
        Type::TIMESTAMPTZ => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        Type::INTERVAL => DataType::Interval { fields: None, precision: None },
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::CHAR | Type::NAME | Type::JSON | Type::JSONB => {
            DataType::Text
        }
        ref kind if range_values::is_range(kind) => {
            DataType::Custom(ObjectName::from(vec![Ident::new(kind.name())]), Vec::new())
        }
        Type::TIMETZ | Type::INET | Type::CIDR | Type::MACADDR => DataType::Text,
        Type::UUID => DataType::Uuid,
        _ if catalog::own_types::is_own(kind) => DataType::Text,
        _ => return None,
    })
}

/// Returns the type of a name in `PREPARE p(…)`.
pub(crate) fn declared(data_type: &DataType) -> Option<Type> {
    own_types::of_sql(data_type).or_else(|| named(&data_type.to_string().to_lowercase()))
}

/// Returns the type of a name in lower case.
pub(crate) fn named(text: &str) -> Option<Type> {
    let text = text.strip_prefix("pg_catalog.").unwrap_or(text);
    if let Some(item) = text.strip_suffix("[]") {
        return array_of(&scalar(item)?);
    }
    scalar(text)
}

fn scalar(name: &str) -> Option<Type> {
    let plain = name.split('(').next().unwrap_or(name).trim();
    Some(match plain {
        "bool" | "boolean" => Type::BOOL,
        "int2" | "smallint" => Type::INT2,
        "int4" | "int" | "integer" => Type::INT4,
        "int8" | "bigint" => Type::INT8,
        "float4" | "real" => Type::FLOAT4,
        "float8" | "double precision" | "double" | "float" => Type::FLOAT8,
        "numeric" | "decimal" | "dec" => Type::NUMERIC,
        "text" => Type::TEXT,
        "varchar" | "character varying" | "char varying" => Type::VARCHAR,
        "char" | "character" | "bpchar" => Type::BPCHAR,
        "name" => Type::NAME,
        "bytea" => Type::BYTEA,
        "uuid" => Type::UUID,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        "date" => Type::DATE,
        "time" | "time without time zone" => Type::TIME,
        "timestamp" | "timestamp without time zone" => Type::TIMESTAMP,
        "timestamptz" | "timestamp with time zone" => Type::TIMESTAMPTZ,
        "timetz" | "time with time zone" => Type::TIMETZ,
        "inet" => Type::INET,
        "cidr" => Type::CIDR,
        "macaddr" => Type::MACADDR,
        "interval" => Type::INTERVAL,
        "oid" => Type::OID,
        "regclass" => Type::REGCLASS,
        "regtype" => Type::REGTYPE,
        "regproc" => Type::REGPROC,
        "unknown" => Type::UNKNOWN,
        name => range_values::named(name)?,
    })
}

/// Returns the type of arrays of a type.
pub(crate) fn array_of(item: &Type) -> Option<Type> {
    Some(match *item {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::VARCHAR => Type::VARCHAR_ARRAY,
        Type::BPCHAR => Type::BPCHAR_ARRAY,
        Type::NAME => Type::NAME_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::UUID => Type::UUID_ARRAY,
        Type::JSON => Type::JSON_ARRAY,
        Type::JSONB => Type::JSONB_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        Type::TIMETZ => Type::TIMETZ_ARRAY,
        Type::INET => Type::INET_ARRAY,
        Type::CIDR => Type::CIDR_ARRAY,
        Type::MACADDR => Type::MACADDR_ARRAY,
        Type::OID => Type::OID_ARRAY,
        ref item => return range_values::array_of(item).or_else(|| catalog::own_types::array_of(item)),
    })
}
