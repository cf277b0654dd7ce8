//! Keys as tables declare them.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Constraint;

use crate::catalog::keys::{indexes, names};
use crate::catalog::table_notes::Index;
use crate::encode::column;

/// Returns the name of a key of these columns: the one that it was given, else the one that PostgreSQL gives it.
pub(crate) fn name(table: &dyn TableProvider, table_name: &str, columns: &[usize], is_primary: bool) -> String {
    if let Some(given) = names::given(table, is_primary, columns) {
        return given;
    }
    if is_primary {
        return format!("{table_name}_pkey");
    }
    let schema = table.schema();
    let columns = columns.iter().filter_map(|column| Some(schema.fields().get(*column)?.name().as_str()));
    format!("{table_name}_{}_key", columns.collect::<Vec<_>>().join("_"))
}

/// Returns the columns of the keys of a table, true with those of the primary key, which comes first.
pub(crate) fn columns_of(table: &dyn TableProvider) -> Vec<(bool, Vec<usize>)> {
    let constraints = table.constraints().into_iter().flat_map(|constraints| constraints.iter());
    let mut columns: Vec<_> = constraints
        .map(|constraint| match constraint {
            Constraint::PrimaryKey(columns) => (true, columns.clone()),
            Constraint::Unique(columns) => (false, columns.clone()),
        })
        .collect();
    columns.sort_by_key(|(is_primary, _)| !is_primary);
    columns
}

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// Its number in the table, counted from 1.
    pub(super) number: i32,
    pub(super) name: String,
    /// Number of its type.
    pub(super) kind: i32,
}

/// A key as a table declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) is_primary: bool,
    pub(super) columns: Vec<KeyColumn>,
    /// The index that it is, if it is no constraint.
    pub(super) index: Option<Arc<Index>>,
}

/// Returns the keys of a table, the primary key first, then by their columns, and its indexes. As in PostgreSQL, a key of
/// the same columns as another is none of its own.
pub(super) fn declared(table: &dyn TableProvider, table_name: &str) -> Vec<Declared> {
    let Some(constraints) = table.constraints() else { return Vec::new() };
    let mut sorted: Vec<(bool, &[usize])> = constraints
        .iter()
        .map(|constraint| match constraint {
            Constraint::PrimaryKey(columns) => (false, columns.as_slice()),
            Constraint::Unique(columns) => (true, columns.as_slice()),
        })
        .collect();
    sorted.sort_unstable();
    let schema = table.schema();
    let mut seen = HashSet::new();
    let mut keys = Vec::new();
    for (is_unique, indexes) in sorted {
        if !seen.insert(indexes) {
            continue;
        }
        let columns = indexes.iter().map(|index| {
            let field = schema.fields().get(*index)?;
            let number = i32::try_from(*index).ok()? + 1;
            let kind = i32::try_from(column::wire_oid(field)).unwrap_or_default();
            Some(KeyColumn { number, name: field.name().clone(), kind })
        });
        let Some(columns) = columns.collect::<Option<Vec<_>>>() else { continue };
        let name = name(table, table_name, indexes, !is_unique);
        keys.push(Declared { name, is_primary: !is_unique, columns, index: None });
    }
    keys.extend(indexes::declared(table));
    keys
}

/// Returns the names of the constraints of a table.
pub(crate) fn names_of(table: &dyn TableProvider, table_name: &str) -> Vec<String> {
    declared(table, table_name).into_iter().filter(|key| key.index.is_none()).map(|key| key.name).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::Constraints;
    use datafusion::datasource::MemTable;

    use super::*;

    #[test]
    fn keys_are_named_and_those_of_the_same_columns_are_one() {
        let fields = [("a", DataType::Int32), ("b", DataType::Utf8), ("c", DataType::Int64)];
        let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
        let table = MemTable::try_new(schema, vec![Vec::new()]).unwrap();
        assert_eq!(declared(&table, "t"), []);
        let unique = |columns: &[usize]| Constraint::Unique(columns.to_vec());
        let constraints =
            vec![unique(&[1, 2]), unique(&[1]), unique(&[1, 2]), unique(&[0]), Constraint::PrimaryKey(vec![0])];
        let table = table.with_constraints(Constraints::new_unverified(constraints));
        let keys = declared(&table, "t");
        let names: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.is_primary)).collect();
        assert_eq!(names, [("t_pkey", true), ("t_b_key", false), ("t_b_c_key", false)]);
        let columns: Vec<_> = keys[2].columns.iter().map(|column| (column.number, column.kind)).collect();
        assert_eq!(columns, [(2, 25), (3, 20)]);
    }
}
