//! Types that users make: enums and composite types.
//!
//! A type is a relation of its schema, beside the tables: its name is taken, as a table has a type of its name in PostgreSQL,
//! it is found by the search path, and a transaction brings it back as it does a table. Its values are texts under a field whose
//! metadata name the type by its number. Numbers are those of the process, so that no two types share one.

pub(super) mod rows;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProviderList, Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_postgres::pgwire::api::Type;
use postgres_types::{Field, Kind};

use crate::wire::error_response::{SqlError, external};

/// The least number of an object that users make, as in PostgreSQL.
const FIRST: u32 = 16_384;

/// The least number of a relation of a composite type: those of tables are less, those of defaults and indexes are greater.
const FIRST_CLASS: u32 = 1 << 28;

/// Greatest number of bytes of a label.
pub(crate) const LONGEST_LABEL: usize = 63;

/// Beginning of the name of a type in the metadata of a field; its number follows.
const MARK: &str = "type ";
/// Suffix of a mark that stands for arrays of the type.
const ARRAY: &str = "[]";

/// Name of a type that was dropped, as `format_type` of PostgreSQL has it.
const DROPPED: &str = "???";

static NEXT: AtomicU32 = AtomicU32::new(FIRST);

/// The types of all servers of the process.
static ALL: RwLock<Option<HashMap<u32, Weak<OwnType>>>> = RwLock::new(None);

/// Returns the first of some numbers that no other type or label has.
fn numbers(count: u32) -> u32 {
    NEXT.fetch_add(count, Ordering::Relaxed)
}

/// A label of an enum.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Label {
    pub(crate) name: String,
    pub(crate) oid: u32,
    /// Its place: labels are in the order of these numbers.
    pub(crate) order: f32,
}

/// Where a label is added.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Before(&'a str),
    After(&'a str),
    End,
}

/// A type that a user has made.
#[derive(Debug)]
pub(crate) struct OwnType {
    schema: String,
    name: String,
    oid: u32,
    array_oid: u32,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    labels: Vec<Label>,
    kind: Type,
    array: Type,
}

impl OwnType {
    /// Makes an enum.
    ///
    /// # Errors
    /// 42602 for a label that is too long, 23505 for two that are equal.
    pub(crate) fn new_enum(schema: &str, name: &str, labels: &[String]) -> Result<Arc<Self>, SqlError> {
        let oid = numbers(2);
        let mut seen = std::collections::HashSet::new();
        let mut made: Vec<Label> = Vec::with_capacity(labels.len());
        let mut order = 0.0;
        for label in labels {
            check_label(label)?;
            if !seen.insert(label.as_str()) {
                let message = "duplicate key value violates unique constraint \"pg_enum_typid_label_index\"";
                let detail = format!("Key (enumtypid, enumlabel)=({oid}, {label}) already exists.");
                return Err(SqlError::error("23505", message).with_hint(detail));
            }
            order += 1.0;
            made.push(Label { name: label.clone(), oid: numbers(1), order });
        }
        let names = made.iter().map(|label| label.name.clone()).collect();
        Ok(Self::register(schema, name, oid, made, Kind::Enum(names)))
    }

    /// Makes a composite type.
    ///
    /// # Errors
    /// 42701 for two fields of one name.
    pub(crate) fn new_composite(schema: &str, name: &str, fields: Vec<Field>) -> Result<Arc<Self>, SqlError> {
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = fields.iter().find(|field| !seen.insert(field.name())) {
            let message = format!("column \"{}\" specified more than once", twice.name());
            return Err(SqlError::error("42701", message));
        }
        Ok(Self::register(schema, name, numbers(2), Vec::new(), Kind::Composite(fields)))
    }

    fn register(schema: &str, name: &str, oid: u32, labels: Vec<Label>, kind: Kind) -> Arc<Self> {
        let (schema, name, array_oid) = (schema.to_owned(), name.to_owned(), oid + 1);
        let state = RwLock::new(State::new(&schema, &name, (oid, array_oid), labels, kind));
        let own = Arc::new(Self { schema, name, oid, array_oid, state });
        let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(oid, Arc::downgrade(&own));
        own
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn oid(&self) -> u32 {
        self.oid
    }

    /// Returns the number of the relation that a composite type has in `pg_class`.
    pub(crate) fn class_oid(&self) -> u32 {
        FIRST_CLASS + self.oid
    }

    /// Returns the type as it is now.
    pub(crate) fn kind(&self) -> Type {
        self.state.read().unwrap_or_else(PoisonError::into_inner).kind.clone()
    }

    /// Returns the type of arrays of it.
    pub(crate) fn array(&self) -> Type {
        self.state.read().unwrap_or_else(PoisonError::into_inner).array.clone()
    }

    /// Returns the labels, in their order.
    pub(crate) fn labels(&self) -> Vec<Label> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).labels.clone()
    }

    /// Adds a label; false if it is there already.
    ///
    /// # Errors
    /// 42602 for a label that is too long, 22023 if there is no label in this place.
    pub(crate) fn add(&self, name: &str, place: Place<'_>) -> Result<bool, SqlError> {
        check_label(name)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut labels = state.labels.clone();
        if labels.iter().any(|label| label.name == name) {
            return Ok(false);
        }
        let neighbour = |wanted: &str| {
            let missing = || SqlError::error("22023", format!("\"{wanted}\" is not an existing enum label"));
            labels.iter().position(|label| label.name == wanted).ok_or_else(missing)
        };
        let at = match place {
            Place::Before(label) => neighbour(label)?,
            Place::After(label) => neighbour(label)? + 1,
            Place::End => labels.len(),
        };
        let before = at.checked_sub(1).and_then(|before| labels.get(before)).map(|label| label.order);
        let after = labels.get(at).map(|label| label.order);
        let order = match (before, after) {
            (Some(before), Some(after)) => f32::midpoint(before, after),
            (Some(before), None) => before + 1.0,
            (None, Some(after)) => after - 1.0,
            (None, None) => 1.0,
        };
        let is_between = before.is_none_or(|before| before < order) && after.is_none_or(|after| order < after);
        labels.insert(at, Label { name: name.to_owned(), oid: numbers(1), order });
        if !is_between {
            let mut next = 0.0;
            for label in &mut labels {
                next += 1.0;
                label.order = next;
            }
        }
        let names = labels.iter().map(|label| label.name.clone()).collect();
        let numbers = (self.oid, self.array_oid);
        *state = State::new(&self.schema, &self.name, numbers, labels, Kind::Enum(names));
        Ok(true)
    }
}

impl State {
    fn new(schema: &str, name: &str, (oid, array_oid): (u32, u32), labels: Vec<Label>, kind: Kind) -> Self {
        let kind = Type::new(name.to_owned(), oid, kind, schema.to_owned());
        let array = array_type(&kind, array_oid);
        Self { labels, kind, array }
    }
}

fn array_type(item: &Type, oid: u32) -> Type {
    Type::new(format!("_{}", item.name()), oid, Kind::Array(item.clone()), item.schema().to_owned())
}

fn check_label(label: &str) -> Result<(), SqlError> {
    match label.len() <= LONGEST_LABEL {
        true => Ok(()),
        false => {
            let hint = format!("Labels must be {LONGEST_LABEL} bytes or less.");
            Err(SqlError::error("42602", format!("invalid enum label \"{label}\"")).with_hint(hint))
        }
    }
}

/// Returns true for an enum.
pub(crate) fn is_enum(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Enum(_))
}

pub(crate) fn is_composite(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Composite(_))
}

/// Returns true for a type that a user has made.
fn is_made(kind: &Type) -> bool {
    is_enum(kind) || is_composite(kind)
}

/// Returns true for a type that a user has made, and for arrays of one.
pub(crate) fn is_own(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Array(item) => is_made(item),
        _ => is_made(kind),
    }
}

/// Returns true for an enum, and for arrays of one.
pub(crate) fn is_of_labels(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Array(item) => is_enum(item),
        _ => is_enum(kind),
    }
}

fn found(oid: u32) -> Option<Arc<OwnType>> {
    ALL.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&oid)?.upgrade()
}

/// Returns the type of a number, which may be that of arrays.
pub(crate) fn by_oid(oid: u32) -> Option<Type> {
    if oid < FIRST {
        return None;
    }
    match found(oid) {
        Some(own) => Some(own.kind()),
        // The number of arrays is the next one.
        None => found(oid.checked_sub(1)?).map(|own| own.array()),
    }
}

/// Returns a type as it is now: what was made of it, such as a view or a prepared statement, may be older than a label.
pub(crate) fn current(kind: &Type) -> Type {
    by_oid(kind.oid()).unwrap_or_else(|| kind.clone())
}

/// Returns the type of a number, one of PostgreSQL's own or one that a user has made.
pub(crate) fn type_of(oid: u32) -> Option<Type> {
    Type::from_oid(oid).or_else(|| by_oid(oid))
}

/// Returns the type of arrays of a type that a user has made.
pub(crate) fn array_of(item: &Type) -> Option<Type> {
    is_made(item).then(|| found(item.oid()).map_or_else(|| array_type(item, item.oid() + 1), |own| own.array()))
}

/// Returns the name of a type in the metadata of fields.
pub(crate) fn mark(kind: &Type) -> Option<String> {
    match kind.kind() {
        Kind::Enum(_) | Kind::Composite(_) => Some(format!("{MARK}{}", kind.oid())),
        Kind::Array(item) if is_made(item) => Some(format!("{MARK}{}{ARRAY}", item.oid())),
        _ => None,
    }
}

/// Returns the type that metadata of a field name.
pub(crate) fn marked(name: &str) -> Option<Type> {
    let number = name.strip_prefix(MARK)?;
    let (number, is_array) = number.strip_suffix(ARRAY).map_or((number, false), |number| (number, true));
    let oid = number.parse().ok()?;
    let dropped = || Type::new(DROPPED.into(), oid, Kind::Simple, "pg_catalog".into());
    Some(match (found(oid), is_array) {
        (Some(own), false) => own.kind(),
        (Some(own), true) => own.array(),
        (None, false) => dropped(),
        (None, true) => array_type(&dropped(), oid + 1),
    })
}

/// A type as a relation of the catalog.
#[derive(Debug)]
pub(crate) struct TypeTable {
    own: Arc<OwnType>,
    schema: SchemaRef,
}

impl TypeTable {
    pub(crate) fn new(own: Arc<OwnType>) -> Self {
        Self { own, schema: Arc::new(Schema::empty()) }
    }
}

/// Returns the type that a relation is.
pub(crate) fn of(table: &dyn TableProvider) -> Option<&Arc<OwnType>> {
    table.downcast_ref::<TypeTable>().map(|table| &table.own)
}

#[async_trait]
impl TableProvider for TypeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// DROP TABLE and DROP VIEW look for other types.
    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(external(no_relation(self.own.name())))
    }
}

/// Returns the error of a statement that takes a type for a relation.
pub(crate) fn no_relation(name: &str) -> SqlError {
    SqlError::error("42P01", format!("relation \"{name}\" does not exist"))
}

/// Returns false if no server of the process has a type that a user has made.
pub(crate) fn exist() -> bool {
    !ALL.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(HashMap::is_empty)
}

/// Returns the types of some catalogs.
///
/// # Errors
/// Those of the catalogs.
pub(crate) async fn all(catalogs: &dyn CatalogProviderList) -> Result<Vec<Arc<OwnType>>> {
    let mut types = Vec::new();
    if !exist() {
        return Ok(types);
    }
    for catalog in catalogs.catalog_names().iter().filter_map(|name| catalogs.catalog(name)) {
        for schema in catalog.schema_names() {
            if matches!(schema.as_str(), "information_schema" | "pg_catalog") {
                continue;
            }
            let Some(tables) = catalog.schema(&schema) else { continue };
            for name in tables.table_names() {
                // Only tables of this type may be one.
                if tables.table_type(&name).await? != Some(TableType::Temporary) {
                    continue;
                }
                if let Some(table) = tables.table(&name).await?
                    && let Some(own) = of(table.as_ref())
                    && own.schema() == schema
                {
                    types.push(Arc::clone(own));
                }
            }
        }
    }
    types.sort_by_key(|own| own.oid());
    Ok(types)
}

/// Returns true if a relation is a type.
///
/// # Errors
/// Those of the schema.
pub(crate) async fn is_type(schema: &dyn datafusion::catalog::SchemaProvider, name: &str) -> Result<bool> {
    if schema.table_type(name).await? != Some(TableType::Temporary) {
        return Ok(false);
    }
    Ok(schema.table(name).await?.is_some_and(|table| of(table.as_ref()).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(own: &OwnType) -> Vec<(String, f32)> {
        own.labels().into_iter().map(|label| (label.name, label.order)).collect()
    }

    fn mood() -> Arc<OwnType> {
        OwnType::new_enum("public", "mood", &["sad", "ok"].map(str::to_owned)).unwrap()
    }

    #[test]
    fn fields_name_their_types() {
        let own = mood();
        let (kind, array) = (own.kind(), own.array());
        assert_eq!(marked(&mark(&kind).unwrap()), Some(kind.clone()));
        assert_eq!(marked(&mark(&array).unwrap()), Some(array.clone()));
        assert_eq!((by_oid(kind.oid()), by_oid(array.oid())), (Some(kind.clone()), Some(array.clone())));
        assert_eq!(array_of(&kind), Some(array));
        assert_eq!((mark(&Type::TEXT), marked("json")), (None, None));
        let fields = ["a", "b"].map(|name| Field::new(name.into(), kind.clone()));
        let composite = OwnType::new_composite("public", "pair", fields.to_vec()).unwrap();
        assert_eq!(marked(&mark(&composite.array()).unwrap()), Some(composite.array()));
        assert!(OwnType::new_composite("public", "pair", vec![fields[0].clone(), fields[0].clone()]).is_err());
        let name = mark(&kind).unwrap();
        drop(own);
        assert_eq!(marked(&name).unwrap().name(), DROPPED);
        assert_eq!(by_oid(kind.oid()), None);
    }

    #[test]
    fn labels_are_added_in_their_places() {
        let own = mood();
        assert!(own.add("happy", Place::End).unwrap());
        assert!(own.add("meh", Place::Before("ok")).unwrap());
        assert!(own.add("worst", Place::Before("sad")).unwrap());
        assert!(own.add("fine", Place::After("ok")).unwrap());
        let expected = [("worst", 0.0), ("sad", 1.0), ("meh", 1.5), ("ok", 2.0), ("fine", 2.5), ("happy", 3.0)];
        assert_eq!(labels(&own), expected.map(|(name, order)| (name.to_owned(), order)));
        assert!(!own.add("ok", Place::End).unwrap());
        assert_eq!(own.add("x", Place::After("y")).unwrap_err().sqlstate, "22023");
        for number in 0..40 {
            assert!(own.add(&format!("n{number}"), Place::After("sad")).unwrap());
        }
        let orders: Vec<f32> = labels(&own).into_iter().map(|(_, order)| order).collect();
        assert!(orders.is_sorted_by(|one, next| one < next), "{orders:?}");
        let Kind::Enum(names) = own.kind().kind().clone() else { panic!("no enum") };
        assert_eq!(names.len(), 46);
    }

    #[test]
    fn labels_are_checked() {
        let made = |labels: &[&str]| {
            let labels: Vec<_> = labels.iter().map(|label| (*label).to_owned()).collect();
            OwnType::new_enum("public", "m", &labels).map(drop).map_err(|error| error.sqlstate.into_owned())
        };
        assert_eq!(made(&[]), Ok(()));
        assert_eq!(made(&["", "é"]), Ok(()));
        assert_eq!(made(&["a", "a"]), Err("23505".into()));
        assert_eq!(made(&[&"é".repeat(32)]), Err("42602".into()));
    }
}
