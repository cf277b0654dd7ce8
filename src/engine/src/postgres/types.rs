//! SQL types that Arrow has no own type for.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{CharacterLength, DataType as SqlType};

use super::refusal::refusal;
use super::uuids::UUID;

/// The key of a field's metadata that holds the `n` of `varchar(n)` or `character(n)`.
pub(super) const LENGTH: &str = "neuroql.length";

/// Precision and scale of `numeric` without them.
pub(super) const UNCONSTRAINED: (u8, i8) = (38, 10);

/// Returns the `n` of a field of type `varchar(n)` or `character(n)`.
pub(super) fn length_of(field: &Field) -> Option<usize> {
    field.metadata().get(LENGTH)?.parse().ok()
}

/// Plans `varchar(n)`, and refuses types that would have other values here than in Postgres.
#[derive(Debug)]
pub struct PostgresTypes {
    next: Option<Arc<dyn TypePlanner>>,
}

impl PostgresTypes {
    /// Creates a planner that leaves other types to the next one.
    pub fn before(next: Option<Arc<dyn TypePlanner>>) -> Self {
        Self { next }
    }
}

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let text = |length: Option<u64>| {
            let field = Field::new("", DataType::Utf8, true);
            Ok(Some(Arc::new(match length {
                Some(length) => field.with_metadata([(LENGTH.to_owned(), length.to_string())].into()),
                None => field,
            })))
        };
        match sql_type {
            SqlType::Varchar(length)
            | SqlType::CharacterVarying(length)
            | SqlType::CharVarying(length)
            | SqlType::Nvarchar(length) => match length {
                None => text(None),
                Some(CharacterLength::IntegerLength { length: 0, .. }) => {
                    Err(refusal("22023", "length for type varchar must be at least 1"))
                }
                Some(CharacterLength::IntegerLength { length, unit: None }) => text(Some(*length)),
                Some(_) => Err(refusal("0A000", format!("type {sql_type} is not supported; use varchar(n)"))),
            },
            SqlType::Char(_) | SqlType::Character(_) => {
                // The server's planner of types comes first.
                let message =
                    format!("type {sql_type} pads its values with blanks and is not supported here; use varchar(n)");
                Err(refusal("0A000", message))
            }
            SqlType::Uuid => Ok(Some(Arc::new(Field::new("", UUID, true)))),
            SqlType::Float(precision) => {
                let bits = match precision {
                    datafusion::sql::sqlparser::ast::ExactNumberInfo::None => 53,
                    datafusion::sql::sqlparser::ast::ExactNumberInfo::Precision(bits) => *bits,
                    datafusion::sql::sqlparser::ast::ExactNumberInfo::PrecisionAndScale(..) => 0,
                };
                match bits {
                    1..=24 => Ok(Some(Arc::new(Field::new("", DataType::Float32, true)))),
                    25..=53 => Ok(Some(Arc::new(Field::new("", DataType::Float64, true)))),
                    _ => Err(refusal("22023", "precision for type float must be from 1 to 53 bits")),
                }
            }
            other => self.next.as_ref().map_or(Ok(None), |next| next.plan_type_field(other)),
        }
    }
}
