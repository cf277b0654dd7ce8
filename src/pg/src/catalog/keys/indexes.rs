//! The rows of an index of CREATE INDEX in the tables of the catalog.

use std::sync::Arc;

use datafusion::catalog::TableProvider;

use crate::catalog::keys::Relation;
use crate::catalog::keys::declared::{Declared, KeyColumn};
use crate::catalog::keys::numbered::{BTREE, HASH, Key, Operators};
use crate::catalog::keys::rows::{Cell, Row, collation, defined, listed};
use crate::catalog::objects::quoted;
use crate::catalog::table_notes::{self, Index, IndexKey};
use crate::encode::column;

/// Number of the collation `C`.
const C_COLLATION: i32 = 950;

/// Returns the indexes of a table that are no constraints.
pub(super) fn declared(table: &dyn TableProvider) -> Vec<Declared> {
    let Some(notes) = table_notes::of(table) else { return Vec::new() };
    let schema = table.schema();
    let column = |name: &str| {
        let (place, field) = schema.column_with_name(name)?;
        let kind = i32::try_from(column::wire_oid(field)).unwrap_or_default();
        Some(KeyColumn { number: i32::try_from(place).ok()? + 1, name: name.to_owned(), kind })
    };
    let listed = notes.indexes.iter().filter_map(|index| {
        let keys = index.keys.iter().map(|key| match &key.expression {
            Some(expression) => Some(KeyColumn { number: 0, name: key.name.clone(), kind: expression.kind }),
            None => column(&key.name),
        });
        let mut columns: Vec<KeyColumn> =
            keys.chain(index.include.iter().map(|name| column(name))).collect::<Option<_>>()?;
        name_apart(&mut columns);
        Some(Declared { name: index.name.clone(), is_primary: false, columns, index: Some(Arc::clone(index)) })
    });
    listed.collect()
}

/// Gives the columns of an index names of their own.
fn name_apart(columns: &mut [KeyColumn]) {
    for place in 0..columns.len() {
        let (before, rest) = columns.split_at_mut(place);
        let Some(column) = rest.first_mut() else { return };
        let name = column.name.clone();
        let mut number = 0;
        while before.iter().any(|other| other.name == column.name) {
            number += 1;
            column.name = format!("{name}{number}");
        }
    }
}

/// Returns the rows of an index in a table.
pub(super) fn rows(relation: Relation, key: &Key, index: &Index, operators: &Operators) -> Vec<Row> {
    let columns = &key.declared.columns;
    let method = if index.is_hash { HASH } else { BTREE };
    let width = |columns: usize| Cell::Number(i32::try_from(columns).unwrap_or(i32::MAX));
    match relation {
        Relation::Classes => vec![vec![
            ("oid", Cell::Number(key.index_oid)),
            ("relname", index.name.as_str().into()),
            ("relnamespace", Cell::Number(key.namespace)),
            ("relam", Cell::Number(method)),
            ("relfilenode", Cell::Number(key.index_oid)),
            ("relpages", Cell::Number(1)),
            ("relpersistence", "p".into()),
            ("relkind", "i".into()),
            ("relnatts", width(columns.len())),
            ("relispopulated", Cell::Flag(true)),
            ("relreplident", "n".into()),
        ]],
        Relation::Indexes => {
            let each = |number: &dyn Fn(&KeyColumn, &IndexKey) -> i32| {
                Cell::Numbers(columns.iter().zip(&index.keys).map(|(column, key)| number(column, key)).collect())
            };
            let collation = |column: &KeyColumn, key: &IndexKey| match &key.collation {
                Some(_) => C_COLLATION,
                None => collation(column),
            };
            let class = |column: &KeyColumn, key: &IndexKey| match &key.operators {
                Some(name) => operators.named(method, name),
                None => operators.of_type(method, column.kind),
            };
            // Two bits: descending, and NULL first.
            let option = |_: &KeyColumn, key: &IndexKey| i32::from(key.is_descending) + 2 * i32::from(key.nulls_first);
            let mut row: Row = vec![
                ("indexrelid", Cell::Number(key.index_oid)),
                ("indrelid", Cell::Number(key.table_oid)),
                ("indnatts", width(columns.len())),
                ("indnkeyatts", width(index.keys.len())),
                ("indisunique", Cell::Flag(index.is_unique)),
                ("indimmediate", Cell::Flag(true)),
                ("indisvalid", Cell::Flag(true)),
                ("indisready", Cell::Flag(true)),
                ("indislive", Cell::Flag(true)),
                ("indkey", Cell::Numbers(columns.iter().map(|column| column.number).collect())),
                ("indcollation", each(&collation)),
                ("indclass", each(&class)),
                ("indoption", each(&option)),
            ];
            let expressions: Vec<_> = index.keys.iter().filter(|key| key.expression.is_some()).map(text).collect();
            if !expressions.is_empty() {
                row.push(("indexprs", Cell::Text(expressions.join(", "))));
            }
            if let Some(predicate) = &index.predicate {
                row.push(("indpred", Cell::Text(format!("({predicate})"))));
            }
            vec![row]
        }
        Relation::Definitions => {
            let whole = definition(key, index);
            let texts = index.keys.iter().map(text).chain(index.include.iter().map(|name| quoted(name)));
            (1..).zip(texts).chain([(0, whole)]).map(|(place, text)| defined(key.index_oid, place, text)).collect()
        }
        Relation::IndexList => vec![listed(key, definition(key, index))],
        // The others are of constraints and tables, or made of the columns of tables.
        _ => Vec::new(),
    }
}

/// Returns the column of a key, or its expression.
fn text(key: &IndexKey) -> String {
    match &key.expression {
        None => quoted(&key.name),
        Some(expression) if expression.is_call => expression.text.clone(),
        Some(expression) => format!("({})", expression.text),
    }
}

/// Returns the statement that creates an index.
fn definition(key: &Key, index: &Index) -> String {
    let keys = index.keys.iter().map(|key| {
        let mut written = match &key.expression {
            Some(expression) if !expression.is_call => format!("({})", text(key)),
            _ => text(key),
        };
        if let Some(collation) = &key.collation {
            written.push_str(&format!(" COLLATE {collation}"));
        }
        if let Some(operators) = &key.operators {
            written.push_str(&format!(" {operators}"));
        }
        written.push_str(match (key.is_descending, key.nulls_first) {
            (true, true) => " DESC",
            (true, false) => " DESC NULLS LAST",
            (false, true) => " NULLS FIRST",
            (false, false) => "",
        });
        written
    });
    let unique = if index.is_unique { "UNIQUE " } else { "" };
    let method = if index.is_hash { "hash" } else { "btree" };
    let (name, schema, table) = (quoted(&index.name), quoted(&key.schema), quoted(&key.table));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let mut definition = format!("CREATE {unique}INDEX {name} ON {schema}.{table} USING {method} ({keys})");
    if !index.include.is_empty() {
        let include: Vec<_> = index.include.iter().map(|name| quoted(name)).collect();
        definition.push_str(&format!(" INCLUDE ({})", include.join(", ")));
    }
    if let Some(predicate) = &index.predicate {
        definition.push_str(&format!(" WHERE ({predicate})"));
    }
    definition
}
