//! CREATE TYPE, ALTER TYPE and DROP TYPE: enums and composite types.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, ResolvedTableReference, TableReference};
use datafusion::datasource::{TableType, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{DdlStatement, DropTable, LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::{
    AlterType, AlterTypeAddValue, AlterTypeAddValuePosition, AlterTypeOperation, DataType, Ident, ObjectName,
    ObjectType, Statement, UserDefinedTypeCompositeAttributeDef, UserDefinedTypeRepresentation,
};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql_access::{TEMPORARY, resolved_table};
use postgres_types::{Field, Kind};

use crate::catalog::own_types::{self, OwnType, Place, TypeTable};
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::decode::composite;
use crate::encode::column;
use crate::session::{Outcome, Session};
use crate::sql::column_names::fold;
use crate::sql::own_types::{is_builtin, of_sql, parts_of, reference, resolve_types};
use crate::sql::own_values;
use crate::sql::rewrite::parameter_casts;
use crate::sql::unsupported;
use crate::wire::error_response::{Failure, SqlError, notice};

/// Names that the encoder of values knows as those of other types, with a binary form of their own.
const OTHERS: [&str; 3] = ["ltree", "lquery", "ltxtquery"];

/// Types of PostgreSQL of the fields of composite types: their texts are the same whatever the settings are.
const PLAIN: [Type; 8] =
    [Type::BOOL, Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::TEXT, Type::VARCHAR];

/// Runs a statement about types.
pub(super) async fn run(session: &mut Session, statement: &Statement) -> Result<Outcome, Failure> {
    match statement {
        Statement::CreateType { name, representation } => create(session, name, representation.as_ref()).await,
        Statement::AlterType(alter) => self::alter(session, alter).await,
        Statement::Drop { object_type: ObjectType::Type, if_exists, names, cascade, .. } => {
            drop_types(session, names, *if_exists, *cascade).await
        }
        _ => Err(SqlError::error("XX000", "internal error: no statement about types").into()),
    }
}

async fn create(
    session: &mut Session,
    name: &ObjectName,
    representation: Option<&UserDefinedTypeRepresentation>,
) -> Result<Outcome, Failure> {
    let body = match representation {
        Some(UserDefinedTypeRepresentation::Enum { labels }) => {
            Body::Labels(labels.iter().map(label).collect::<Result<Vec<_>, _>>()?)
        }
        Some(UserDefinedTypeRepresentation::Composite { attributes }) => {
            Body::Fields(fields(session, attributes).await?)
        }
        Some(UserDefinedTypeRepresentation::Range { .. }) => {
            return Err(SqlError::not_supported("range types of users are not supported").into());
        }
        _ => return Err(SqlError::not_supported("CREATE TYPE makes enums and composite types only").into()),
    };
    let name = session.name_of_new(name, false)?;
    session.may_create(&name, "CREATE TYPE")?;
    if OTHERS.contains(&&*name.table) {
        return Err(SqlError::not_supported(format!("a type with the name {} is not supported", name.table)).into());
    }
    let _held = session.base.hold_name(&name).await;
    if session.context.table_exist(name.clone()).map_err(SqlError::from)? {
        return Err(exists(&name.table).into());
    }
    let own = match body {
        Body::Labels(labels) => OwnType::new_enum(&name.schema, &name.table, &labels)?,
        Body::Fields(fields) => OwnType::new_composite(&name.schema, &name.table, fields)?,
    };
    session.transaction.change_table(name.clone()).await.map_err(SqlError::from)?;
    session.context.register_table(name.clone(), Arc::new(TypeTable::new(own))).map_err(SqlError::from)?;
    session.own(&[name], "CREATE TYPE");
    session.base.catalog_changed();
    Ok(Outcome::done("CREATE TYPE"))
}

/// Definition of a type.
enum Body {
    Labels(Vec<String>),
    Fields(Vec<Field>),
}

/// Returns the fields of a composite type.
async fn fields(
    session: &Session,
    attributes: &[UserDefinedTypeCompositeAttributeDef],
) -> Result<Vec<Field>, SqlError> {
    let types: Vec<_> = attributes.iter().map(|attribute| attribute.data_type.clone()).collect();
    let types = resolve_types(&types, &session.context).await?;
    let field = |(attribute, data_type): (&UserDefinedTypeCompositeAttributeDef, &DataType)| {
        if let Some(name) = &attribute.collation {
            unsupported::collation(name)?;
        }
        let has_modifier = data_type.to_string().contains('(') && of_sql(data_type).is_none();
        let kind = parameter_casts::declared(data_type).filter(|_| !has_modifier);
        let kind = kind.filter(|kind| PLAIN.contains(kind) || own_types::is_own(kind) && !is_array(kind));
        match kind {
            Some(kind) => Ok(Field::new(fold(&attribute.name), kind)),
            None => {
                let message = format!("a field of type {} in a composite type is not supported", attribute.data_type);
                Err(SqlError::not_supported(message))
            }
        }
    };
    attributes.iter().zip(&types).map(field).collect()
}

fn is_array(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Array(_))
}

/// Returns a label, which is written as a text.
fn label(label: &Ident) -> Result<String, SqlError> {
    match label.quote_style {
        Some('\'') => Ok(label.value.clone()),
        _ => Err(SqlError::error("42601", format!("syntax error at or near \"{}\"", label.value))),
    }
}

fn exists(name: &str) -> SqlError {
    SqlError::error("42710", format!("type \"{name}\" already exists"))
}

fn missing(name: &ObjectName) -> SqlError {
    let shown = parts_of(name).map_or_else(|| name.to_string(), |parts| parts.join("."));
    SqlError::error("42704", format!("type \"{shown}\" does not exist"))
}

async fn alter(session: &mut Session, alter: &AlterType) -> Result<Outcome, Failure> {
    let AlterTypeOperation::AddValue(AlterTypeAddValue { if_not_exists, value, position }) = &alter.operation else {
        let what = match alter.operation {
            AlterTypeOperation::RenameValue(_) => "RENAME VALUE",
            _ => "RENAME",
        };
        return Err(SqlError::not_supported(format!("ALTER TYPE … {what} is not supported")).into());
    };
    let Some((name, own)) = session.find_type(&alter.name).await? else { return Err(missing(&alter.name).into()) };
    session.may_change_type(&name, "ALTER TYPE")?;
    if !own_types::is_enum(&own.kind()) {
        return Err(SqlError::error("42809", format!("{} is not an enum", own.name())).into());
    }
    if session.status != TransactionStatus::Idle {
        let message = "ALTER TYPE … ADD VALUE cannot run inside a transaction block";
        return Err(SqlError::error("25001", message).with_hint("It cannot be taken back.").into());
    }
    let value = label(value)?;
    let neighbour = match position {
        Some(AlterTypeAddValuePosition::Before(other) | AlterTypeAddValuePosition::After(other)) => label(other)?,
        None => String::new(),
    };
    let place = match position {
        Some(AlterTypeAddValuePosition::Before(_)) => Place::Before(&neighbour),
        Some(AlterTypeAddValuePosition::After(_)) => Place::After(&neighbour),
        None => Place::End,
    };
    if !own.add(&value, place)? {
        let message = format!("enum label \"{value}\" already exists");
        if !if_not_exists {
            return Err(SqlError::error("42710", message).into());
        }
        session.notices.push(notice(format!("{message}, skipping")));
        return Ok(Outcome::done("ALTER TYPE"));
    }
    session.audit("ALTER TYPE", &name);
    session.base.catalog_changed();
    Ok(Outcome::done("ALTER TYPE"))
}

async fn drop_types(
    session: &mut Session,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<Outcome, Failure> {
    let mut found: Vec<(ResolvedTableReference, Arc<OwnType>)> = Vec::new();
    for name in names {
        match session.find_type(name).await {
            Ok(Some((name, own))) => {
                session.may_change_type(&name, "DROP TYPE")?;
                if found.iter().all(|(known, _)| *known != name) {
                    found.push((name, own));
                }
            }
            Ok(None) if if_exists => session.notices.push(notice(format!("{}, skipping", missing(name).message))),
            Ok(None) => return Err(missing(name).into()),
            Err(error) if if_exists && error.sqlstate == "3F000" => {
                session.notices.push(notice(format!("{}, skipping", error.message)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let dropped: Vec<u32> = found.iter().map(|(_, own)| own.oid()).collect();
    for (_, own) in &found {
        if let Some(user) = session.user_of(own, &dropped).await? {
            let name = own.name();
            if cascade {
                let message = format!("DROP TYPE {name} CASCADE with {user} is not supported");
                return Err(SqlError::not_supported(message).with_hint("Drop it first.").into());
            }
            let message = format!("cannot drop type {name} because other objects depend on it");
            let hint = format!("{user} depends on type {name}.");
            return Err(SqlError::error("2BP01", message).with_hint(hint).into());
        }
    }
    for (name, _) in found {
        session.transaction.change_table(name.clone()).await.map_err(SqlError::from)?;
        session.context.deregister_table(name.clone()).map_err(SqlError::from)?;
        session.audit("DROP TYPE", &name);
    }
    session.base.catalog_changed();
    Ok(Outcome::done("DROP TYPE"))
}

impl Session {
    /// Returns the type of a name, `None` if there is none.
    ///
    /// # Errors
    /// 3F000 if there is no such schema, 2BP01 for a type of PostgreSQL or of a table.
    async fn find_type(&self, name: &ObjectName) -> Result<Option<(ResolvedTableReference, Arc<OwnType>)>, SqlError> {
        self.temporary.check_name(name)?;
        let Some((parts, found)) = parts_of(name).and_then(|parts| reference(&parts).map(|found| (parts, found)))
        else {
            let message = format!("improper qualified name (too many dotted names): {name}");
            return Err(SqlError::error("42601", message));
        };
        let of_postgres = match parts.as_slice() {
            [name] => is_builtin(name) || parameter_casts::named(name).is_some(),
            [.., schema, name] => schema == PG_CATALOG && is_builtin(name),
            [] => false,
        };
        if of_postgres {
            let message = format!("cannot drop type {} because it is required by the database system", parts.join("."));
            return Err(SqlError::error("2BP01", message));
        }
        let name = resolved_table(&found, &self.context);
        let catalog = self.context.catalog(&name.catalog);
        let Some(schema) = catalog.and_then(|catalog| catalog.schema(&name.schema)) else {
            return Err(SqlError::error("3F000", format!("schema \"{}\" does not exist", name.schema)));
        };
        let Some(table) = schema.table(&name.table).await? else { return Ok(None) };
        if let Some(own) = own_types::of(table.as_ref()) {
            return Ok(Some((name, Arc::clone(own))));
        }
        let kind = match table.table_type() {
            TableType::Base => "table",
            TableType::View => "view",
            TableType::Temporary => return Ok(None),
        };
        let name = &name.table;
        let message = format!("cannot drop type {name} because {kind} {name} requires it");
        Err(SqlError::error("2BP01", message).with_hint(format!("You can drop {kind} {name} instead.")))
    }

    /// Returns what uses a type: `column m of table t`, `view v`. Types with the numbers in `dropped` go, too.
    async fn user_of(&self, own: &OwnType, dropped: &[u32]) -> Result<Option<String>, SqlError> {
        let all = own_types::all(self.context.state().catalog_list().as_ref()).await?;
        for other in all.iter().filter(|other| !dropped.contains(&other.oid())) {
            let kind = other.kind();
            if let Some(field) = composite::fields(&kind).iter().find(|field| field.type_().oid() == own.oid()) {
                return Ok(Some(format!("column {} of composite type {}", field.name(), other.name())));
            }
        }
        let catalog = self.context.state_ref().read().config_options().catalog.default_catalog.clone();
        let Some(catalog) = self.context.catalog(&catalog) else { return Ok(None) };
        for schema_name in catalog.schema_names() {
            // Tables are made in these schemas.
            let is_other = schema_name != TEMPORARY && self.base.engine.is_model_schema(&schema_name);
            if is_other || matches!(schema_name.as_str(), PG_CATALOG | "information_schema") {
                continue;
            }
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for name in schema.table_names() {
                let Some(table) = schema.table(&name).await? else { continue };
                if table.table_type() == TableType::View {
                    if let Some(plan) = table.get_logical_plan()
                        && own_values::uses(&plan, own.oid())?
                    {
                        return Ok(Some(format!("view {name}")));
                    }
                    continue;
                }
                let schema = table.schema();
                let column = schema.fields().iter().find(|field| {
                    column::marked(field).is_some_and(|kind| match kind.kind() {
                        Kind::Array(item) => item.oid() == own.oid(),
                        _ => kind.oid() == own.oid(),
                    })
                });
                if let Some(column) = column {
                    return Ok(Some(format!("column {} of table {name}", column.name())));
                }
            }
        }
        Ok(None)
    }

    fn may_change_type(&self, name: &ResolvedTableReference, command: &str) -> Result<(), SqlError> {
        let (name, schema) = (TableReference::from(name.clone()), Arc::new(DFSchema::empty()));
        self.may(DdlStatement::DropTable(DropTable { name, if_exists: false, schema }), command)
    }
}

/// Refuses a statement that creates a relation with the name of a type.
///
/// # Errors
/// 42710.
pub(super) fn check_name(table: &dyn TableProvider) -> Result<(), SqlError> {
    let Some(own) = own_types::of(table) else { return Ok(()) };
    let hint = "A relation has an associated type of the same name, so you must use a name that doesn't conflict with \
                any existing type.";
    Err(exists(own.name()).with_hint(hint))
}

/// Refuses a plan that takes a type for a relation, and one that makes a lasting relation of a temporary type.
///
/// # Errors
/// 42P01 and 0A000.
pub(super) fn check_relations(plan: &LogicalPlan) -> Result<(), SqlError> {
    if !own_types::exist() {
        return Ok(());
    }
    let is_type = |source: &Arc<dyn TableSource>| {
        source_as_provider(source).is_ok_and(|table| own_types::of(table.as_ref()).is_some())
    };
    let mut wrong = None;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) if is_type(&scan.source) => {
                wrong = Some(own_types::no_relation(scan.table_name.table()));
            }
            LogicalPlan::Dml(dml) if is_type(&dml.target) => {
                wrong = Some(own_types::no_relation(dml.table_name.table()));
            }
            LogicalPlan::Ddl(ddl) => {
                let (name, plan) = match ddl {
                    DdlStatement::CreateMemoryTable(table) => (&table.name, &table.input),
                    DdlStatement::CreateView(view) => (&view.name, &view.input),
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                let is_temporary = |kind: &Type| own_types::is_own(kind) && kind.schema() == TEMPORARY;
                let mut kinds = plan.schema().fields().iter().filter_map(|field| column::marked(field));
                if name.schema() != Some(TEMPORARY)
                    && let Some(kind) = kinds.find(is_temporary)
                {
                    let message = format!("a relation with the temporary type {} is not supported", kind.name());
                    wrong = Some(SqlError::not_supported(message));
                }
            }
            _ => {}
        }
        Ok::<_, DataFusionError>(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    wrong.map_or(Ok(()), Err)
}
