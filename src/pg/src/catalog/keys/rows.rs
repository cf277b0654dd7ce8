//! The rows of a key in the tables of the catalog.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int32Array, ListArray, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use datafusion::error::Result;
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::keys::declared::KeyColumn;
use crate::catalog::keys::numbered::{BTREE, Key, Operators};
use crate::catalog::keys::{CONSTRAINT_COLUMNS, Relation, TABLE_COLUMNS, indexes};
use crate::catalog::objects::quoted;

/// Number of the collation `default`.
const DEFAULT_COLLATION: i32 = 100;

/// A value of a row.
#[derive(Debug)]
pub(crate) enum Cell {
    Flag(bool),
    Number(i32),
    Text(String),
    Numbers(Vec<i32>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Columns of a row and their values. Others are NULL, or 0, false and the empty text if they may not be.
pub(crate) type Row = Vec<(&'static str, Cell)>;

/// Returns the rows of a key in a table.
pub(super) fn rows(relation: Relation, key: &Key, operators: &Operators) -> Vec<Row> {
    let declared = &key.declared;
    if let Some(index) = &declared.index {
        return indexes::rows(relation, key, index, operators);
    }
    let numbers = || Cell::Numbers(declared.columns.iter().map(|column| column.number).collect());
    let width = || Cell::Number(i32::try_from(declared.columns.len()).unwrap_or(i32::MAX));
    let of_constraint = || -> Row {
        let names = [&key.catalog, &key.schema, &declared.name, &key.catalog, &key.schema, &key.table];
        let columns = CONSTRAINT_COLUMNS.into_iter().chain(TABLE_COLUMNS);
        columns.zip(names).map(|(column, name)| (column, Cell::from(name.as_str()))).collect()
    };
    match relation {
        // Made of the columns of tables, and of other constraints.
        Relation::Attributes | Relation::ReferentialConstraints | Relation::CheckConstraints => Vec::new(),
        Relation::Classes => vec![vec![
            ("oid", Cell::Number(key.index_oid)),
            ("relname", declared.name.as_str().into()),
            ("relnamespace", Cell::Number(key.namespace)),
            ("relam", Cell::Number(BTREE)),
            ("relfilenode", Cell::Number(key.index_oid)),
            ("relpages", Cell::Number(1)),
            ("relpersistence", "p".into()),
            ("relkind", "i".into()),
            ("relnatts", width()),
            ("relispopulated", Cell::Flag(true)),
            ("relreplident", "n".into()),
        ]],
        Relation::Constraints => vec![vec![
            ("oid", Cell::Number(key.constraint_oid())),
            ("conname", declared.name.as_str().into()),
            ("connamespace", Cell::Number(key.namespace)),
            ("contype", if declared.is_primary { "p" } else { "u" }.into()),
            ("convalidated", Cell::Flag(true)),
            ("conrelid", Cell::Number(key.table_oid)),
            ("conindid", Cell::Number(key.index_oid)),
            ("confupdtype", " ".into()),
            ("confdeltype", " ".into()),
            ("confmatchtype", " ".into()),
            ("conislocal", Cell::Flag(true)),
            ("connoinherit", Cell::Flag(true)),
            ("conkey", numbers()),
        ]],
        Relation::Indexes => {
            let each = |number: fn(&KeyColumn, &Operators) -> i32| {
                Cell::Numbers(declared.columns.iter().map(|column| number(column, operators)).collect())
            };
            vec![vec![
                ("indexrelid", Cell::Number(key.index_oid)),
                ("indrelid", Cell::Number(key.table_oid)),
                ("indnatts", width()),
                ("indnkeyatts", width()),
                ("indisunique", Cell::Flag(true)),
                ("indisprimary", Cell::Flag(declared.is_primary)),
                ("indimmediate", Cell::Flag(true)),
                ("indisvalid", Cell::Flag(true)),
                ("indisready", Cell::Flag(true)),
                ("indislive", Cell::Flag(true)),
                ("indkey", numbers()),
                ("indcollation", each(|column, _| collation(column))),
                ("indclass", each(|column, operators| operators.of_type(BTREE, column.kind))),
                ("indoption", each(|_, _| 0)),
            ]]
        }
        Relation::TableConstraints => {
            let mut row = of_constraint();
            let more: Row = vec![
                ("constraint_type", if declared.is_primary { "PRIMARY KEY" } else { "UNIQUE" }.into()),
                ("is_deferrable", "NO".into()),
                ("initially_deferred", "NO".into()),
                ("enforced", "YES".into()),
            ];
            row.extend(more);
            if !declared.is_primary {
                row.push(("nulls_distinct", "YES".into()));
            }
            vec![row]
        }
        Relation::KeyColumns | Relation::ConstraintColumns => (1..)
            .zip(&declared.columns)
            .map(|(position, column)| {
                let mut row = of_constraint();
                row.push(("column_name", column.name.as_str().into()));
                row.push(("ordinal_position", Cell::Number(position)));
                row
            })
            .collect(),
        Relation::Definitions => {
            let index = definition(key);
            let constraint = format!("{} {}", if declared.is_primary { "PRIMARY KEY" } else { "UNIQUE" }, key.list());
            let mut rows = vec![defined(key.index_oid, 0, index), defined(key.constraint_oid(), 0, constraint)];
            let columns = (1..).zip(&declared.columns);
            rows.extend(columns.map(|(place, column)| defined(key.index_oid, place, quoted(&column.name))));
            rows
        }
        Relation::IndexList => vec![listed(key, definition(key))],
        // Rows of tables, not of keys.
        Relation::Comments | Relation::Views | Relation::MaterializedViews => Vec::new(),
    }
}

/// Returns the statement that creates the index of a key.
fn definition(key: &Key) -> String {
    let (name, schema, table) = (quoted(&key.declared.name), quoted(&key.schema), quoted(&key.table));
    format!("CREATE UNIQUE INDEX {name} ON {schema}.{table} USING btree {}", key.list())
}

/// Returns the row of a definition, of an object or of a part of it.
pub(super) fn defined(oid: i32, place: i32, definition: String) -> Row {
    vec![("oid", Cell::Number(oid)), ("place", Cell::Number(place)), ("definition", Cell::Text(definition))]
}

/// Returns the row of an index in `pg_indexes`.
pub(super) fn listed(key: &Key, definition: String) -> Row {
    vec![
        ("schemaname", key.schema.as_str().into()),
        ("tablename", key.table.as_str().into()),
        ("indexname", key.declared.name.as_str().into()),
        ("indexdef", Cell::Text(definition)),
    ]
}

/// Returns the number of the collation of a column, 0 if its type has none.
pub(super) fn collation(column: &KeyColumn) -> i32 {
    let kind = u32::try_from(column.kind).unwrap_or_default();
    let is_text = [Type::TEXT, Type::VARCHAR, Type::BPCHAR].iter().any(|text| text.oid() == kind);
    if is_text { DEFAULT_COLLATION } else { 0 }
}

/// Returns rows as a batch.
pub(crate) fn batch(rows: &[Row], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let cell = |row: &'_ Row| row.iter().position(|(name, _)| *name == field.name().as_str());
        let cells: Vec<Option<&Cell>> = rows.iter().map(|row| cell(row).map(|place| &row[place].1)).collect();
        values(field, &cells)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

/// Returns the values of a column.
fn values(field: &Field, cells: &[Option<&Cell>]) -> Result<ArrayRef> {
    let required = !field.is_nullable();
    let cells = cells.iter().copied();
    Ok(match field.data_type() {
        DataType::Boolean => {
            let flags = cells.map(|cell| match cell {
                Some(Cell::Flag(flag)) => Some(*flag),
                _ => required.then_some(false),
            });
            Arc::new(flags.collect::<BooleanArray>())
        }
        DataType::Utf8 => {
            let texts = cells.map(|cell| match cell {
                Some(Cell::Text(text)) => Some(text.as_str()),
                _ => required.then_some(""),
            });
            Arc::new(texts.collect::<StringArray>())
        }
        data_type @ (DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64) => {
            let numbers = cells.map(|cell| match cell {
                Some(Cell::Number(number)) => Some(*number),
                _ => required.then_some(0),
            });
            cast(&numbers.collect::<Int32Array>(), data_type)?
        }
        data_type @ DataType::List(item) if item.data_type().is_integer() => {
            let lists = cells.map(|cell| match cell {
                Some(Cell::Numbers(numbers)) => Some(numbers.iter().copied().map(Some).collect::<Vec<_>>()),
                _ => required.then(Vec::new),
            });
            cast(&ListArray::from_iter_primitive::<Int32Type, _, _>(lists), data_type)?
        }
        data_type => new_null_array(data_type, cells.len()),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{Int16Type, Schema};

    use super::*;

    #[test]
    fn columns_without_a_value_are_null_or_empty() {
        let fields = [
            Field::new("a", DataType::Int16, false),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Boolean, false),
            Field::new("d", DataType::new_list(DataType::Int16, true), true),
        ];
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let batch = batch(&[vec![("d", Cell::Numbers(vec![3, 4]))], vec![("a", Cell::Number(7))]], &schema).unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int16Type>().values().to_vec(), [0, 7]);
        assert_eq!(batch.column(1).null_count(), 2);
        assert!(!batch.column(2).as_boolean().value(0));
        let lists = batch.column(3).as_list::<i32>();
        assert_eq!(lists.value(0).as_primitive::<Int16Type>().values().to_vec(), [3, 4]);
        assert!(datafusion::arrow::array::Array::is_null(lists, 1));
    }
}
