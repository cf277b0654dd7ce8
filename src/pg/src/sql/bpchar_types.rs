//! The names of `character(n)` and `bpchar`.

use datafusion::arrow::datatypes::FieldRef;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType as SqlType};
use neuroql::{Refusal, bpchar};

/// Plans `character(n)` and `bpchar`, and leaves other types to the next planner.
#[derive(Debug)]
pub(crate) struct BpcharTypes<P> {
    next: P,
}

impl<P> BpcharTypes<P> {
    pub(crate) fn before(next: P) -> Self {
        Self { next }
    }
}

impl<P: TypePlanner> TypePlanner for BpcharTypes<P> {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        if let SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) =
            sql_type
            && length_of(item)?.is_some()
        {
            return Err(Refusal::error("0A000", format!("type {sql_type} is not supported for columns and casts")));
        }
        match length_of(sql_type)? {
            Some(length) => Ok(Some(bpchar::field("", length))),
            None => self.next.plan_type_field(sql_type),
        }
    }
}

/// Returns true for the type, with a length or without one.
pub(crate) fn is_named(sql_type: &SqlType) -> bool {
    !matches!(length_of(sql_type), Ok(None))
}

/// Returns the length of `character(n)`, and `Some(None)` for `bpchar`, which has none; `None` for other types.
fn length_of(sql_type: &SqlType) -> Result<Option<Option<usize>>> {
    let checked = |length: u64| match length {
        0 => Err(Refusal::error("22023", "length for type char must be at least 1")),
        1..=bpchar::LONGEST => Ok(Some(usize::try_from(length).ok())),
        _ => Err(Refusal::error("22023", format!("length for type char cannot exceed {}", bpchar::LONGEST))),
    };
    match sql_type {
        SqlType::Char(None) | SqlType::Character(None) => checked(1),
        SqlType::Char(Some(CharacterLength::IntegerLength { length, unit: None }))
        | SqlType::Character(Some(CharacterLength::IntegerLength { length, unit: None })) => checked(*length),
        SqlType::Char(_) | SqlType::Character(_) => {
            Err(Refusal::error("0A000", format!("type {sql_type} is not supported; use character(n)")))
        }
        SqlType::Custom(name, given) => {
            let name = name.to_string().to_lowercase();
            let alone = match name.strip_prefix("pg_catalog.").unwrap_or(&name) {
                "bpchar" => None,
                "nchar" => Some(1),
                _ => return Ok(None),
            };
            match given.as_slice() {
                [] => Ok(Some(alone)),
                [length] => match length.trim().parse() {
                    Ok(length) => checked(length),
                    Err(_) => Err(Refusal::error("22023", "length for type char must be at least 1")),
                },
                _ => Err(Refusal::error("22023", "invalid type modifier")),
            }
        }
        _ => Ok(None),
    }
}
