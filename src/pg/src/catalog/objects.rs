//! Names and numbers of the catalog's objects, which `regclass`, `regtype`, `regproc`, `regnamespace` and `regrole`
//! read and write.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::common::cast::as_string_array;
use datafusion::error::Result;
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::own_functions::{self, OwnFunction};
use crate::catalog::own_types;
use crate::decode;
use crate::sql::rewrite::parameter_casts;
use crate::wire::error_response::SqlError;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ObjectKind {
    Class,
    Type,
    Function,
    Schema,
    Role,
}

impl ObjectKind {
    /// Returns the kind of objects that a type of this name names.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "regclass" => Self::Class,
            "regtype" => Self::Type,
            "regproc" | "regprocedure" => Self::Function,
            "regnamespace" => Self::Schema,
            "regrole" => Self::Role,
            _ => return None,
        })
    }

    /// Returns the kind of objects that values of a type name.
    pub(crate) fn of_type(kind: &Type) -> Option<Self> {
        Self::of(kind.name())
    }

    /// Returns the type whose values name objects of this kind.
    pub(crate) fn wire(self) -> Type {
        match self {
            Self::Class => Type::REGCLASS,
            Self::Type => Type::REGTYPE,
            Self::Function => Type::REGPROC,
            Self::Schema => Type::REGNAMESPACE,
            Self::Role => Type::REGROLE,
        }
    }

    fn missing(self, name: &str) -> SqlError {
        let (sqlstate, what) = match self {
            Self::Class => ("42P01", "relation"),
            Self::Type => ("42704", "type"),
            Self::Function => ("42883", "function"),
            Self::Schema => ("3F000", "schema"),
            Self::Role => ("42704", "role"),
        };
        SqlError::error(sqlstate, format!("{what} \"{name}\" does not exist"))
    }
}

/// Functions of the catalog, by name and by number. A name has the numbers of all functions that share it.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    by_name: HashMap<String, Vec<i32>>,
    names: HashMap<i32, String>,
    /// Functions that PostgreSQL does not have.
    own: Vec<OwnFunction>,
    descriptions: HashMap<i32, String>,
}

impl Functions {
    /// Reads `pg_proc`.
    pub(crate) fn read(batches: &[RecordBatch]) -> Result<Self> {
        let mut functions = Self::default();
        for batch in batches {
            let place = |name: &str| batch.schema().index_of(name);
            let oids = batch.column(place("oid")?).as_primitive::<Int32Type>();
            let names = as_string_array(batch.column(place("proname")?))?;
            for (oid, name) in oids.values().iter().zip(names.iter().flatten()) {
                functions.by_name.entry(name.to_owned()).or_default().push(*oid);
                functions.names.insert(*oid, name.to_owned());
            }
        }
        Ok(functions)
    }

    /// Adds neuroql's own functions.
    pub(crate) fn with_own(mut self, own: Vec<OwnFunction>) -> Self {
        for function in &own {
            self.by_name.insert(function.name.clone(), vec![function.oid]);
            self.names.insert(function.oid, function.name.clone());
        }
        self.descriptions = own_functions::descriptions(&own);
        self.own = own;
        self
    }

    /// Returns neuroql's own functions.
    pub(crate) fn own(&self) -> &[OwnFunction] {
        &self.own
    }

    /// Returns the number of the function of a name, if there is only one.
    pub(crate) fn only(&self, name: &str) -> Option<i32> {
        match self.by_name.get(name).map(Vec::as_slice) {
            Some([oid]) => Some(*oid),
            _ => None,
        }
    }
}

/// The objects of a moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Schema, name and number of relations.
    pub(crate) classes: Vec<(String, String, i32)>,
    /// Name and number of schemas, roles and types.
    pub(crate) schemas: Vec<(String, i32)>,
    pub(crate) roles: Vec<(String, i32)>,
    pub(crate) types: Vec<(String, i32)>,
    /// Types that users have made, with their schemas.
    pub(crate) own_types: Vec<(String, Type)>,
    /// Schemas in which names without a schema are looked up.
    pub(crate) path: Vec<String>,
    /// Comments on relations and their columns, by the number of the relation and that of the column, 0 for the relation.
    pub(crate) comments: HashMap<(i32, i32), Arc<str>>,
    pub(crate) constraint_comments: HashMap<i32, Arc<str>>,
    /// Definitions of constraints, indexes and views, by their number and that of an index's column, 0 for the whole.
    pub(crate) definitions: HashMap<(i32, i32), String>,
    /// Options of identity columns in JSON, by the numbers of table and column.
    pub(crate) identities: HashMap<(i32, i32), String>,
}

/// The objects one connection sees.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    functions: Arc<Functions>,
    snapshot: RwLock<Snapshot>,
}

impl Objects {
    pub(crate) fn new(functions: Arc<Functions>) -> Self {
        Self { functions, snapshot: RwLock::default() }
    }

    /// Returns the comment on a relation (column 0), or on a column of it.
    pub(crate) fn comment(&self, class: i32, column: i32) -> Option<Arc<str>> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).comments.get(&(class, column)).cloned()
    }

    /// Returns the comment on a constraint.
    pub(crate) fn constraint_comment(&self, constraint: i32) -> Option<Arc<str>> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).constraint_comments.get(&constraint).cloned()
    }

    /// Returns what defines a constraint or an index (column 0), or a column of an index.
    pub(crate) fn definition(&self, object: i32, column: i32) -> Option<String> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).definitions.get(&(object, column)).cloned()
    }

    /// Returns the options of an identity column.
    pub(crate) fn identity(&self, class: i32, column: i32) -> Option<String> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).identities.get(&(class, column)).cloned()
    }

    /// Returns the description of a function.
    pub(crate) fn description(&self, function: i32) -> Option<&str> {
        self.functions.descriptions.get(&function).map(String::as_str)
    }

    pub(crate) fn replace(&self, snapshot: Snapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// Returns the number of an object. Digits are a number themselves, and `-` is none.
    pub(crate) fn number(&self, kind: ObjectKind, text: &str) -> Result<i32, SqlError> {
        let text = text.trim();
        if text == "-" {
            return Ok(0);
        }
        if let Ok(number) = text.parse::<u32>() {
            return i32::try_from(number).map_err(|_| kind.missing(text));
        }
        self.find(kind, text)?.ok_or_else(|| kind.missing(text))
    }

    /// Returns the number of an object, if there is one of this name.
    pub(crate) fn find(&self, kind: ObjectKind, text: &str) -> Result<Option<i32>, SqlError> {
        let text = text.trim();
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        if kind == ObjectKind::Type {
            return Ok(type_number(text, &snapshot));
        }
        let parts = parts(text).ok_or_else(|| SqlError::error("42602", format!("invalid name syntax: \"{text}\"")))?;
        let named =
            |all: &[(String, i32)], name: &str| all.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
        Ok(match (kind, parts.as_slice()) {
            (ObjectKind::Class, [.., schema, name]) => class(&snapshot, schema, name),
            (ObjectKind::Class, [name]) => {
                let path = std::iter::once("pg_catalog").chain(snapshot.path.iter().map(String::as_str));
                path.filter_map(|schema| class(&snapshot, schema, name)).next()
            }
            (ObjectKind::Function, [.., name]) => {
                // Arguments do not distinguish a `regprocedure` here.
                let name = name.split('(').next().unwrap_or(name);
                match self.functions.by_name.get(name).map(Vec::as_slice) {
                    None | Some([]) => None,
                    Some([only]) => Some(*only),
                    Some(_) => {
                        return Err(SqlError::error("42725", format!("more than one function named \"{name}\"")));
                    }
                }
            }
            (ObjectKind::Schema, [name]) => named(&snapshot.schemas, name),
            (ObjectKind::Role, [name]) => named(&snapshot.roles, name),
            _ => None,
        })
    }

    /// Returns true if a relation is found by its name without a schema; `None` if there is no such relation.
    pub(crate) fn is_visible(&self, number: i32) -> Option<bool> {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let (schema, name, _) = snapshot.classes.iter().find(|(_, _, known)| *known == number)?;
        let mut path = std::iter::once("pg_catalog").chain(snapshot.path.iter().map(String::as_str));
        Some(path.find(|part| class(&snapshot, part, name).is_some()) == Some(schema.as_str()))
    }

    /// Returns the name of an object; its number if it has none.
    pub(crate) fn name(&self, kind: ObjectKind, number: i32) -> String {
        if number == 0 {
            return "-".into();
        }
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let named =
            |all: &[(String, i32)]| all.iter().find(|(_, known)| *known == number).map(|(name, _)| quoted(name));
        let found = match kind {
            ObjectKind::Class => {
                snapshot.classes.iter().find(|(_, _, known)| *known == number).map(|(schema, name, _)| {
                    let visible = schema == "pg_catalog" || snapshot.path.iter().any(|part| part == schema);
                    if visible { quoted(name) } else { format!("{}.{}", quoted(schema), quoted(name)) }
                })
            }
            ObjectKind::Type => {
                u32::try_from(number).ok().and_then(own_types::type_of).map(|known| decode::name(&known))
            }
            ObjectKind::Function => self.functions.names.get(&number).cloned(),
            ObjectKind::Schema => named(&snapshot.schemas),
            ObjectKind::Role => named(&snapshot.roles),
        };
        found.unwrap_or_else(|| u32::from_ne_bytes(number.to_ne_bytes()).to_string())
    }
}

fn class(snapshot: &Snapshot, schema: &str, name: &str) -> Option<i32> {
    let found = snapshot.classes.iter().find(|(in_schema, known, _)| in_schema == schema && known == name);
    found.map(|(_, _, number)| *number)
}

fn type_number(text: &str, snapshot: &Snapshot) -> Option<i32> {
    let lower = text.to_lowercase();
    let plain = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    if let Some(known) = parameter_casts::named(plain) {
        return i32::try_from(known.oid()).ok();
    }
    let (name, array) = plain.strip_suffix("[]").map_or((plain, false), |item| (item, true));
    let name = if array { format!("_{name}") } else { name.to_owned() };
    let name = name.trim_matches('"');
    let known = snapshot.types.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
    known.or_else(|| own_type_number(text, snapshot))
}

/// Returns the number of a type that a user has made.
fn own_type_number(text: &str, snapshot: &Snapshot) -> Option<i32> {
    let (name, is_array) = text.trim().strip_suffix("[]").map_or((text.trim(), false), |item| (item.trim(), true));
    let parts = parts(name)?;
    let in_schema = |schema: &str, name: &str| {
        let of_schema = snapshot.own_types.iter().filter(|(known, _)| known == schema);
        let mut kinds = of_schema.flat_map(|(_, kind)| [Some(kind.clone()), own_types::array_of(kind)]).flatten();
        kinds.find(|kind| kind.name() == name)
    };
    let found = match parts.as_slice() {
        [name] => snapshot.path.iter().find_map(|schema| in_schema(schema, name)),
        [.., schema, name] => in_schema(schema, name),
        [] => None,
    }?;
    let found = if is_array { own_types::array_of(&found)? } else { found };
    i32::try_from(found.oid()).ok()
}

/// Splits a name into its parts, in lower case unless quoted.
pub(crate) fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut name = String::new();
                let mut letters = quoted.char_indices().peekable();
                let end = loop {
                    match letters.next()? {
                        (_, '"') if letters.next_if(|(_, next)| *next == '"').is_some() => name.push('"'),
                        (at, '"') => break at,
                        (_, letter) => name.push(letter),
                    }
                };
                (name, &quoted[end + 1..])
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim().to_ascii_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// Quotes a name if it has to be.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Objects {
        let objects = Objects::default();
        objects.replace(Snapshot {
            classes: vec![
                ("toy".into(), "activations".into(), 16400),
                ("public".into(), "My Table".into(), 16401),
                ("public".into(), "Äb".into(), 16402),
                ("pg_catalog".into(), "pg_class".into(), 1259),
            ],
            schemas: vec![("toy".into(), 5)],
            roles: vec![("ada".into(), 10)],
            types: vec![("regclass".into(), 2205)],
            path: vec!["public".into()],
            ..Snapshot::default()
        });
        objects
    }

    #[test]
    fn names_are_found_and_written() {
        let objects = objects();
        let number = |kind, text| objects.number(kind, text).map_err(|error| error.sqlstate.into_owned());
        assert_eq!(number(ObjectKind::Class, "toy.activations"), Ok(16400));
        assert_eq!(number(ObjectKind::Class, "Toy.\"activations\""), Ok(16400));
        assert_eq!(number(ObjectKind::Class, "neuroql.toy.activations"), Ok(16400));
        assert_eq!(number(ObjectKind::Class, "\"My Table\""), Ok(16401));
        assert_eq!(number(ObjectKind::Class, "ÄB"), Ok(16402));
        assert_eq!(number(ObjectKind::Class, "pg_class"), Ok(1259));
        assert_eq!(number(ObjectKind::Class, "16400"), Ok(16400));
        assert_eq!(number(ObjectKind::Class, "My Table").unwrap_err(), "42P01");
        assert_eq!(number(ObjectKind::Class, "activations").unwrap_err(), "42P01");
        assert_eq!(number(ObjectKind::Class, "\"x").unwrap_err(), "42602");
        assert_eq!(number(ObjectKind::Type, "int4"), Ok(23));
        assert_eq!(number(ObjectKind::Type, "double precision[]"), Ok(1022));
        assert_eq!(number(ObjectKind::Type, "regclass"), Ok(2205));
        assert_eq!(number(ObjectKind::Type, "nothing").unwrap_err(), "42704");
        assert_eq!(number(ObjectKind::Schema, "toy"), Ok(5));
        assert_eq!(number(ObjectKind::Schema, "nothing").unwrap_err(), "3F000");
        assert_eq!(number(ObjectKind::Function, "nothing").unwrap_err(), "42883");
        assert_eq!(objects.name(ObjectKind::Class, 16400), "toy.activations");
        assert_eq!(objects.name(ObjectKind::Class, 16401), "\"My Table\"");
        assert_eq!(objects.name(ObjectKind::Class, 0), "-");
        assert_eq!(objects.name(ObjectKind::Class, 7), "7");
        assert_eq!(objects.name(ObjectKind::Type, 1022), "double precision[]");
        let visible = [16400, 16401, 1259, 7].map(|number| objects.is_visible(number));
        assert_eq!(visible, [Some(false), Some(true), Some(true), None]);
    }
}
