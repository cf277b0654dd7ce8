//! CHECK constraints and foreign keys in the tables of the catalog.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, Int32Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::error::Result;
use neuroql_access::TEMPORARY;

use crate::catalog::batches::numbers;
use crate::catalog::keys::held::{Action, Check, ForeignKey};
use crate::catalog::keys::numbered::{KEYS, Key, NumberedTable, index_number};
use crate::catalog::keys::rows::{Cell, Row, defined};
use crate::catalog::keys::{CONSTRAINT_COLUMNS, Relation, TABLE_COLUMNS};
use crate::catalog::memory_rows::address;
use crate::catalog::objects::quoted;

/// The column of definitions in which those are that have no parentheses but the necessary ones.
pub(crate) const PLAIN: i32 = -1;

/// A CHECK constraint or a foreign key, with the numbers it has in the catalog.
#[derive(Debug)]
pub(super) struct NumberedConstraint {
    table: Arc<NumberedTable>,
    /// Number of the constraint.
    oid: i32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Check(Arc<Check>),
    ForeignKey { key: Arc<ForeignKey>, parent: Arc<NumberedTable>, unique: UniqueKey },
}

/// The key of the referenced columns.
#[derive(Debug)]
struct UniqueKey {
    name: String,
    index_oid: i32,
    /// The place of each referenced column among its columns, counted from 1.
    positions: Vec<i32>,
}

/// Returns the CHECK constraints and foreign keys of tables.
pub(super) fn constraints(tables: &[Arc<NumberedTable>]) -> Vec<NumberedConstraint> {
    let of_rows = |table: &Arc<NumberedTable>| Some((address(table.provider.as_ref())?, Arc::clone(table)));
    let by_rows: HashMap<usize, Arc<NumberedTable>> = tables.iter().filter_map(of_rows).collect();
    let mut found = Vec::new();
    for table in tables {
        let Some(held) = &table.held else { continue };
        let checks = held.checks.iter().map(|check| Some(Kind::Check(Arc::clone(check))));
        let foreign_keys = held.foreign_keys.iter().map(|key| {
            let parent = by_rows.get(&key.rows.as_ptr().addr()).filter(|_| key.is_held())?;
            let unique = unique_key(key, parent)?;
            Some(Kind::ForeignKey { key: Arc::clone(key), parent: Arc::clone(parent), unique })
        });
        // Their numbers are those that constraints of further keys would have.
        let places = table.key_count.max(KEYS / 2)..KEYS;
        found.extend(places.zip(checks.chain(foreign_keys).flatten()).map(|(place, kind)| NumberedConstraint {
            table: Arc::clone(table),
            oid: index_number(table.oid, place) + 1,
            kind,
        }));
    }
    found
}

/// Returns the key of the table that a foreign key references.
fn unique_key(key: &ForeignKey, parent: &NumberedTable) -> Option<UniqueKey> {
    let referenced: Vec<i32> = key.referenced.iter().filter_map(|place| i32::try_from(place + 1).ok()).collect();
    let wanted: HashSet<_> = referenced.iter().copied().collect();
    let numbers = |found: &Key| found.declared.columns.iter().map(|column| column.number).collect::<HashSet<_>>();
    let found = parent.keys.iter().find(|found| numbers(found) == wanted)?;
    let position = |number: &i32| {
        let place = found.declared.columns.iter().position(|column| column.number == *number)?;
        i32::try_from(place + 1).ok()
    };
    let positions = referenced.iter().map(position).collect::<Option<_>>()?;
    Some(UniqueKey { name: found.declared.name.clone(), index_oid: found.index_oid, positions })
}

impl NumberedConstraint {
    pub(super) fn table(&self) -> &NumberedTable {
        &self.table
    }

    pub(super) fn oid(&self) -> i32 {
        self.oid
    }

    pub(super) fn name(&self) -> &str {
        match &self.kind {
            Kind::Check(check) => &check.name,
            Kind::ForeignKey { key, .. } => &key.name,
        }
    }

    /// Returns the names of columns of a table.
    fn names<'a>(table: &'a NumberedTable, columns: &'a [usize]) -> impl Iterator<Item = &'a str> {
        columns.iter().filter_map(|place| Some(table.columns.get(*place)?.as_str()))
    }

    /// Returns the columns that name the constraint, and those that name a table.
    fn named(&self, table: &NumberedTable) -> Row {
        let own = &self.table;
        let names = [&own.catalog, &own.schema].map(String::as_str);
        let names = names.into_iter().chain([self.name(), &table.catalog, &table.schema, &table.name]);
        let columns = CONSTRAINT_COLUMNS.into_iter().chain(TABLE_COLUMNS);
        columns.zip(names).map(|(column, name)| (column, name.into())).collect()
    }

    /// Returns the rows of the constraint in a table. `schema` is the one whose tables are named without it.
    pub(super) fn rows(&self, relation: Relation, schema: &str) -> Vec<Row> {
        match (relation, &self.kind) {
            (Relation::Constraints, _) => vec![self.constraint()],
            (Relation::TableConstraints, kind) => {
                let kind = if matches!(kind, Kind::Check(_)) { "CHECK" } else { "FOREIGN KEY" };
                let mut row = self.named(&self.table);
                row.extend::<Row>(vec![
                    ("constraint_type", kind.into()),
                    ("is_deferrable", "NO".into()),
                    ("initially_deferred", "NO".into()),
                    ("enforced", "YES".into()),
                ]);
                vec![row]
            }
            (Relation::KeyColumns, Kind::ForeignKey { key, unique, .. }) => {
                let columns = Self::names(&self.table, &key.columns).zip(&unique.positions);
                let row = |(ordinal, (name, position)): (i32, (&str, &i32))| {
                    let mut row = self.named(&self.table);
                    row.push(("column_name", name.into()));
                    row.push(("ordinal_position", Cell::Number(ordinal)));
                    row.push(("position_in_unique_constraint", Cell::Number(*position)));
                    row
                };
                (1..).zip(columns).map(row).collect()
            }
            (Relation::ConstraintColumns, kind) => {
                let (table, columns) = match kind {
                    Kind::Check(check) => (&self.table, &check.columns),
                    Kind::ForeignKey { key, parent, .. } => (parent, &key.referenced),
                };
                let row = |name: &str| {
                    let mut row = self.named(table);
                    row.push(("column_name", name.into()));
                    row
                };
                Self::names(table, columns).map(row).collect()
            }
            (Relation::ReferentialConstraints, Kind::ForeignKey { key, parent, unique }) => {
                let mut row = self.named(&self.table);
                row.extend::<Row>(vec![
                    ("unique_constraint_catalog", parent.catalog.as_str().into()),
                    ("unique_constraint_schema", parent.schema.as_str().into()),
                    ("unique_constraint_name", unique.name.as_str().into()),
                    ("match_option", "NONE".into()),
                    ("update_rule", rule(key.on_update).into()),
                    ("delete_rule", rule(key.on_delete).into()),
                ]);
                vec![row]
            }
            (Relation::CheckConstraints, Kind::Check(check)) => {
                let mut row = self.named(&self.table);
                row.push(("check_clause", Cell::Text(format!("({})", check.text))));
                vec![row]
            }
            (Relation::Definitions, Kind::Check(check)) => vec![
                defined(self.oid, 0, format!("CHECK ({})", check.text)),
                defined(self.oid, PLAIN, format!("CHECK ({})", check.plain_text)),
            ],
            (Relation::Definitions, Kind::ForeignKey { key, parent, .. }) => {
                vec![defined(self.oid, 0, self.foreign_key(key, parent, schema))]
            }
            _ => Vec::new(),
        }
    }

    /// Returns the row of `pg_constraint`.
    fn constraint(&self) -> Row {
        let places = |columns: &[usize]| {
            Cell::Numbers(columns.iter().filter_map(|place| i32::try_from(place + 1).ok()).collect())
        };
        let mut row: Row = vec![
            ("oid", Cell::Number(self.oid)),
            ("conname", self.name().into()),
            ("connamespace", Cell::Number(self.table.namespace)),
            ("convalidated", Cell::Flag(true)),
            ("conrelid", Cell::Number(self.table.oid)),
            ("conislocal", Cell::Flag(true)),
        ];
        match &self.kind {
            Kind::Check(check) => {
                row.extend::<Row>(vec![
                    ("contype", "c".into()),
                    ("confupdtype", " ".into()),
                    ("confdeltype", " ".into()),
                    ("confmatchtype", " ".into()),
                    ("connoinherit", Cell::Flag(false)),
                    ("conbin", check.text.as_str().into()),
                ]);
                if !check.columns.is_empty() {
                    row.push(("conkey", places(&check.columns)));
                }
            }
            Kind::ForeignKey { key, parent, unique } => row.extend::<Row>(vec![
                ("contype", "f".into()),
                ("conindid", Cell::Number(unique.index_oid)),
                ("confrelid", Cell::Number(parent.oid)),
                ("confupdtype", code(key.on_update).into()),
                ("confdeltype", code(key.on_delete).into()),
                ("confmatchtype", "s".into()),
                ("connoinherit", Cell::Flag(true)),
                ("conkey", places(&key.columns)),
                ("confkey", places(&key.referenced)),
            ]),
        }
        row
    }

    /// Returns the definition of a foreign key.
    fn foreign_key(&self, key: &ForeignKey, parent: &NumberedTable, schema: &str) -> String {
        let list = |table, columns| Self::names(table, columns).map(quoted).collect::<Vec<_>>().join(", ");
        let is_seen = parent.schema == schema || parent.schema == TEMPORARY;
        let schema = if is_seen { String::new() } else { format!("{}.", quoted(&parent.schema)) };
        let (own, referenced) = (list(&self.table, &key.columns), list(parent, &key.referenced));
        let name = quoted(&parent.name);
        let mut text = format!("FOREIGN KEY ({own}) REFERENCES {schema}{name}({referenced})");
        for (event, action) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
            if action != Action::NoAction {
                text.push_str(&format!(" ON {event} {}", rule(action)));
            }
        }
        text
    }
}

fn rule(action: Action) -> &'static str {
    match action {
        Action::NoAction => "NO ACTION",
        Action::Restrict => "RESTRICT",
        Action::Cascade => "CASCADE",
        Action::SetNull => "SET NULL",
    }
}

fn code(action: Action) -> &'static str {
    match action {
        Action::NoAction => "a",
        Action::Restrict => "r",
        Action::Cascade => "c",
        Action::SetNull => "n",
    }
}

/// Counts the CHECK constraints of tables in `pg_class`, and marks the tables on either side of a foreign key: PostgreSQL
/// has triggers for them, by which psql knows that there are some.
pub(super) fn with_constraints(batch: &RecordBatch, constraints: &[NumberedConstraint]) -> Result<RecordBatch> {
    let (mut checks, mut keyed) = (HashMap::<i32, i32>::new(), HashSet::new());
    for constraint in constraints {
        match &constraint.kind {
            Kind::Check(_) => *checks.entry(constraint.table.oid).or_default() += 1,
            Kind::ForeignKey { parent, .. } => keyed.extend([constraint.table.oid, parent.oid]),
        }
    }
    let schema = batch.schema();
    let (counts, triggers) = (schema.index_of("relchecks")?, schema.index_of("relhastriggers")?);
    let oids = numbers(batch, "oid")?.values();
    let mut columns = batch.columns().to_vec();
    let counted: Int32Array = oids.iter().map(|oid| Some(checks.get(oid).copied().unwrap_or(0))).collect();
    columns[counts] = cast(&counted, columns[counts].data_type())?;
    let marked: BooleanArray = oids.iter().map(|oid| Some(keyed.contains(oid))).collect();
    columns[triggers] = Arc::new(marked);
    Ok(RecordBatch::try_new(schema, columns)?)
}
