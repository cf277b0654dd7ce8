//! The schema `pg_catalog`: pg-catalog's tables, corrected where they are not true of neuroql.

pub(crate) mod backends;
mod batches;
pub(crate) mod changed_catalogs;
pub(crate) mod columns;
mod expressions;
pub(crate) mod functions;
pub(crate) mod keys;
mod listed_tables;
pub(crate) mod memory_rows;
pub(crate) mod notify_functions;
pub(crate) mod object_functions;
pub(crate) mod objects;
mod own_functions;
pub(crate) mod own_types;
pub(crate) mod quote_functions;
mod random_uuid;
pub(crate) mod sequences;
pub(crate) mod server_catalogs;
pub(crate) mod session_tables;
mod settings_table;
mod stat_activity;
pub(crate) mod table_notes;
pub(crate) mod value_functions;

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    new_null_array,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProviderList, EmptyCatalogProviderList, MemTable, SchemaProvider, TableProvider};
use datafusion::common::cast::as_string_array;
use datafusion::common::exec_datafusion_err;
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use datafusion_postgres::arrow_pg::datatypes::PG_OID_ALIAS_KEY;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role as CatalogRole};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{
    ArrowTable, PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable, setup_pg_catalog,
};
use datafusion_postgres::pgwire::api::Type;
use futures::StreamExt;

use crate::catalog::batches::stream;
use crate::catalog::columns::COLUMNS;
use crate::catalog::keys::{INDEX_LIST, Relation};
use crate::catalog::objects::{Functions, Snapshot};
use crate::catalog::own_types::rows::Relation as OfTypes;
use crate::catalog::sequences::{PG_SEQUENCES, Relation as OfSequences};
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::catalog::session_tables::SessionTable;
use crate::catalog::settings_table::SettingsTable;
use crate::catalog::stat_activity::StatActivity;
use crate::decode;
use crate::encode::column;
use crate::encode::modifiers;
use crate::wire::interrupt::ConnectionRegistry;
use neuroql_access::Users;

/// Name of the table of connections, which pg-catalog does not have.
pub(crate) const STAT_ACTIVITY: &str = "pg_stat_activity";

/// Registers the schema, for sessions of this context and of copies of its state only, and its functions.
pub(crate) fn register(
    context: &SessionContext,
    users: &Arc<Users>,
    registry: &Arc<ConnectionRegistry>,
) -> Result<Arc<Functions>> {
    let name = context.state().config_options().catalog.default_catalog.clone();
    let own = server_catalogs::with_own_schema(Arc::clone(context.state().catalog_list()), &name);
    context.register_catalog_list(Arc::new(own));
    setup_pg_catalog(context, &name, Roles(Arc::clone(users))).map_err(|error| *error)?;
    let catalogs = Arc::downgrade(context.state().catalog_list());
    let tables = Arc::new(PgCatalogStaticTables::try_new()?);
    let own = own_functions::own_functions(context);
    own_functions::register(context, &own);
    let functions = Arc::new(Functions::read(tables.pg_proc.data())?.with_own(own));
    let offered = Arc::new(offered(context, &tables));
    let roles = Roles(Arc::clone(users));
    let catalogs = TypedCatalogList(catalogs);
    let inner = PgCatalogSchemaProvider::try_new(catalogs.clone(), Arc::clone(&tables), roles.clone())?;
    let catalog = context.catalog(&name).ok_or_else(|| exec_datafusion_err!("catalog {name} does not exist"))?;
    let activity = Arc::new(StatActivity::new(Arc::clone(registry), name));
    let schema = PgCatalog { inner, catalogs, tables, roles, functions: Arc::clone(&functions), offered, activity };
    catalog.register_schema(PG_CATALOG, Arc::new(schema))?;
    Ok(functions)
}

/// Returns a server's `pg_catalog` over other catalogs, such as those of a session with tables of its own. Objects have
/// other numbers in it. `None` if it is not the schema that [`register`] makes.
pub(crate) fn over(
    schema: &Arc<dyn SchemaProvider>,
    catalogs: Weak<dyn CatalogProviderList>,
) -> Option<Arc<dyn SchemaProvider>> {
    let server = schema.downcast_ref::<PgCatalog>()?;
    let (tables, roles) = (Arc::clone(&server.tables), server.roles.clone());
    let catalogs = TypedCatalogList(catalogs);
    let inner = PgCatalogSchemaProvider::try_new(catalogs.clone(), Arc::clone(&tables), roles.clone());
    let inner = inner.inspect_err(|error| tracing::error!(%error, "the catalog of a session cannot be made")).ok()?;
    let (functions, activity) = (Arc::clone(&server.functions), Arc::clone(&server.activity));
    let offered = Arc::clone(&server.offered);
    Some(Arc::new(PgCatalog { inner, catalogs, tables, roles, functions, offered, activity }))
}

const COMMENTS_OF_RELATIONS: &str = "SELECT objoid, classoid, objsubid, description FROM pg_catalog.relation_comments";

/// Returns the objects that exist now, without the search path.
pub(crate) async fn snapshot(context: &SessionContext) -> Result<Snapshot> {
    let rows = |query: &'static str| async move { context.sql(query).await?.collect().await };
    let mut snapshot = Snapshot::default();
    let classes = "SELECT n.nspname, c.relname, c.oid FROM pg_catalog.pg_class c \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";
    for batch in rows(classes).await? {
        let (schemas, names) = (as_string_array(batch.column(0))?, as_string_array(batch.column(1))?);
        let numbers = batch.column(2).as_primitive::<Int32Type>();
        let row = |row| (schemas.value(row).to_owned(), names.value(row).to_owned(), numbers.value(row));
        snapshot.classes.extend((0..batch.num_rows()).map(row));
    }
    let named = |batches: Vec<RecordBatch>| -> Result<Vec<(String, i32)>> {
        let mut all = Vec::new();
        for batch in batches {
            let (names, numbers) = (as_string_array(batch.column(0))?, batch.column(1).as_primitive::<Int32Type>());
            all.extend((0..batch.num_rows()).map(|row| (names.value(row).to_owned(), numbers.value(row))));
        }
        Ok(all)
    };
    let constraints = snapshot.classes.iter().find(|(schema, name, _)| schema == PG_CATALOG && name == "pg_constraint");
    let constraints = constraints.map(|(_, _, number)| *number);
    for batch in rows(COMMENTS_OF_RELATIONS).await? {
        let number = |place: usize, row: usize| batch.column(place).as_primitive::<Int32Type>().value(row);
        let texts = as_string_array(batch.column(3))?;
        for row in 0..batch.num_rows() {
            let (object, text): (i32, Arc<str>) = (number(0, row), texts.value(row).into());
            match Some(number(1, row)) == constraints {
                true => snapshot.constraint_comments.insert(object, text),
                false => snapshot.comments.insert((object, number(2, row)), text),
            };
        }
    }
    snapshot.definitions = keys::definitions(context).await?;
    snapshot.identities = sequences::identities(context).await?;
    snapshot.schemas = named(rows("SELECT nspname, oid FROM pg_catalog.pg_namespace").await?)?;
    snapshot.roles = named(rows("SELECT rolname, oid FROM pg_catalog.pg_roles").await?)?;
    snapshot.types = named(rows("SELECT typname, oid FROM pg_catalog.pg_type WHERE oid < 16384").await?)?;
    let own = own_types::all(context.state().catalog_list().as_ref()).await?;
    snapshot.own_types.extend(own.iter().map(|own| (own.schema().to_owned(), own.kind())));
    Ok(snapshot)
}

#[derive(Debug, Clone)]
struct Roles(Arc<Users>);

// Not behind an Arc: pg-catalog's implementation for Arc<T> calls itself without end.
#[async_trait]
impl PgCatalogContextProvider for Roles {
    async fn roles(&self) -> Vec<String> {
        self.0.list().into_iter().map(|user| user.name).collect()
    }

    async fn role(&self, name: &str) -> Option<CatalogRole> {
        self.0.get(name).map(|user| CatalogRole {
            is_superuser: user.is_superuser(),
            can_login: true,
            can_create_db: user.is_superuser(),
            name: user.name,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct PgCatalog {
    inner: PgCatalogSchemaProvider<TypedCatalogList, Roles>,
    catalogs: TypedCatalogList,
    tables: Arc<PgCatalogStaticTables>,
    roles: Roles,
    functions: Arc<Functions>,
    /// Names of PostgreSQL's functions that exist here.
    offered: Arc<HashSet<String>>,
    activity: Arc<StatActivity>,
}

/// Returns the names of functions that statements may call, and of those that the catalog's other tables name.
fn offered(context: &SessionContext, tables: &PgCatalogStaticTables) -> HashSet<String> {
    let state = context.state();
    let mut names: HashSet<String> = state.scalar_functions().keys().cloned().collect();
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    for batch in tables.pg_type.data() {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if field.metadata().get(PG_OID_ALIAS_KEY).is_some_and(|kind| kind == "regproc")
                && let Some(column) = column.as_string_opt::<i32>()
            {
                names.extend(column.iter().flatten().map(str::to_owned));
            }
        }
    }
    names
}

/// `pg_proc`: the functions of PostgreSQL that exist here, and neuroql's own.
#[derive(Debug)]
struct Procedures {
    schema: SchemaRef,
    /// The functions of PostgreSQL.
    batches: Vec<RecordBatch>,
    functions: Arc<Functions>,
    namespaces: Arc<dyn PartitionStream>,
}

impl Procedures {
    fn try_new(
        table: &ArrowTable,
        offered: &HashSet<String>,
        functions: &Arc<Functions>,
        namespaces: Arc<dyn PartitionStream>,
    ) -> Result<Self> {
        let name = table.schema().index_of("proname")?;
        let is_offered = |name: Option<&str>| name.map(|name| offered.contains(name));
        let known = table.data().iter().map(|batch| {
            let mask: BooleanArray = batch.column(name).as_string::<i32>().iter().map(is_offered).collect();
            Ok(filter_record_batch(batch, &mask)?)
        });
        let mut batches = known.collect::<Result<Vec<_>>>()?;
        batches.push(own_functions::rows(functions.own(), &table.schema())?);
        let (schema, batches) =
            numbered(&table.schema(), &batches, functions)?.unwrap_or_else(|| (table.schema(), batches));
        let schema = SchemaRef::new(with_lists(&schema));
        let batches = batches.iter().map(|batch| lists(batch, &schema)).collect::<Result<Vec<_>>>()?;
        Ok(Self { schema, batches, functions: Arc::clone(functions), namespaces })
    }
}

impl PartitionStream for Procedures {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads the number of the schema of neuroql's functions when it runs: while `pg_class` reads which tables there are,
    /// `pg_namespace` cannot be read.
    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (namespaces, functions) = (Arc::clone(&self.namespaces), Arc::clone(&self.functions));
        let batches = self.batches.clone();
        stream(&self.schema, async move {
            let public = schema_number(namespaces.execute(context), "public").await?;
            batches.iter().map(|batch| own_functions::place(batch, functions.own(), public)).collect()
        })
    }
}

/// Returns the number of a schema, 0 if there is none of this name.
async fn schema_number(mut namespaces: SendableRecordBatchStream, name: &str) -> Result<i32> {
    while let Some(batch) = namespaces.next().await {
        let batch = batch?;
        let (Some(oids), Some(names)) = (batch.column_by_name("oid"), batch.column_by_name("nspname")) else { break };
        let (oids, names) = (oids.as_primitive::<Int32Type>(), as_string_array(names)?);
        if let Some(row) = names.iter().position(|known| known == Some(name)) {
            return Ok(oids.value(row));
        }
    }
    Ok(0)
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.inner.table_names();
        names.extend([STAT_ACTIVITY, INDEX_LIST, PG_SEQUENCES].map(str::to_owned));
        names.extend(session_tables::NAMES.map(String::from));
        names
    }

    fn table_exist(&self, name: &str) -> bool {
        matches!(name, STAT_ACTIVITY | INDEX_LIST | PG_SEQUENCES)
            || session_tables::NAMES.contains(&name)
            || self.inner.table_exist(name)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some((relation, schema)) = keys::unlisted(name) {
            return self.with_keys(relation, schema, None);
        }
        if let Some(table) = self.of_sequences(name).await? {
            return Ok(Some(table));
        }
        if let Some(table) = self.of_own_types(name)? {
            return Ok(Some(table));
        }
        match name {
            name if session_tables::NAMES.contains(&name) => match self.inner.build_table_by_name("pg_roles")? {
                Some(PgCatalogTable::Dynamic(roles)) => Ok(SessionTable::of(name, roles).map(streaming).transpose()?),
                _ => Ok(None),
            },
            COLUMNS => columns::table(self.catalogs.catalogs()).await,
            STAT_ACTIVITY => {
                let rows = Arc::clone(&self.activity);
                Ok(Some(Arc::new(StreamingTable::try_new(Arc::clone(rows.schema()), vec![rows])?)))
            }
            "pg_attribute" => match self.inner.build_table_by_name(name)? {
                Some(PgCatalogTable::Dynamic(inner)) => {
                    let inner = self.with_sequences(OfSequences::Attributes, Arc::new(Attributes(inner)))?;
                    let inner = self.with_composites(OfTypes::Attributes, inner)?;
                    let listed = Privileges::new(inner);
                    self.with_keys(Relation::Attributes, Arc::clone(&listed.schema), Some(Arc::new(listed)))
                }
                _ => self.inner.table(name).await,
            },
            "pg_class" => match self.inner.build_table_by_name(name)? {
                Some(PgCatalogTable::Dynamic(inner)) => {
                    let inner = self.with_sequences(OfSequences::Classes, inner)?;
                    let classes = Classes::new(self.with_composites(OfTypes::Classes, inner)?);
                    self.with_keys(Relation::Classes, Arc::clone(&classes.schema), Some(Arc::new(classes)))
                }
                _ => self.inner.table(name).await,
            },
            // pg-catalog's rows are those of another Postgres, in which arrays are text. Here are the keys of tables.
            "pg_constraint" | "pg_index" => match self.inner.table(name).await? {
                Some(inner) => {
                    let relation = if name == "pg_index" { Relation::Indexes } else { Relation::Constraints };
                    self.with_keys(relation, SchemaRef::new(with_arrays(&inner.schema())), None)
                }
                None => Ok(None),
            },
            "pg_proc" => match (self.inner.build_table_by_name(name)?, self.inner.build_table_by_name("pg_namespace")?)
            {
                (Some(PgCatalogTable::Static(table)), Some(PgCatalogTable::Dynamic(namespaces))) => {
                    let procedures = Procedures::try_new(&table, &self.offered, &self.functions, namespaces)?;
                    Ok(Some(Arc::new(StreamingTable::try_new(
                        Arc::clone(&procedures.schema),
                        vec![Arc::new(procedures)],
                    )?)))
                }
                _ => self.inner.table(name).await,
            },
            "pg_description" => match self.inner.build_table_by_name(name)? {
                Some(PgCatalogTable::Static(table)) => {
                    let fields: Vec<_> = table.schema().fields().iter().map(with_oid).collect();
                    let schema = SchemaRef::new(Schema::new(fields));
                    let inner = StaticRows { schema: Arc::clone(&schema), batches: table.data().to_vec() };
                    self.with_keys(Relation::Comments, schema, Some(Arc::new(inner)))
                }
                _ => self.inner.table(name).await,
            },
            "pg_views" | "pg_matviews" => match self.inner.table(name).await? {
                Some(inner) => {
                    let relation = if name == "pg_views" { Relation::Views } else { Relation::MaterializedViews };
                    self.with_keys(relation, inner.schema(), None)
                }
                None => Ok(None),
            },
            "pg_settings" => {
                let rows = Arc::new(SettingsTable::new());
                Ok(Some(Arc::new(StreamingTable::try_new(Arc::clone(rows.schema()), vec![rows])?)))
            }
            _ => match self.inner.build_table_by_name(name)? {
                Some(PgCatalogTable::Static(table)) => {
                    let (schema, batches) = numbered(&table.schema(), table.data(), &self.functions)?
                        .unwrap_or_else(|| (table.schema(), table.data().to_vec()));
                    let listed = SchemaRef::new(with_lists(&schema));
                    let batches = batches.iter().map(|batch| lists(batch, &listed)).collect::<Result<Vec<_>>>()?;
                    Ok(Some(Arc::new(MemTable::try_new(listed, vec![batches])?)))
                }
                Some(PgCatalogTable::Dynamic(inner)) => {
                    let inner = match name {
                        "pg_tables" => self.with_sequences(OfSequences::Tables, inner)?,
                        _ => inner,
                    };
                    let listed = Privileges::new(inner);
                    Ok(Some(Arc::new(StreamingTable::try_new(Arc::clone(&listed.schema), vec![Arc::new(listed)])?)))
                }
                _ => self.inner.table(name).await,
            },
        }
    }
}

fn streaming(table: SessionTable) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(table.table_schema()), vec![Arc::new(table)])?))
}

/// The rows of a table that does not change.
#[derive(Debug)]
struct StaticRows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl PartitionStream for StaticRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = self.batches.clone().into_iter().map(move |batch| Ok(batch.with_schema(Arc::clone(&schema))?));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches)))
    }
}

/// Gives a column of numbers of relations, types and schemas the type `oid`, as in Postgres; pg-catalog has them of
/// types that are written as names.
fn with_oid(field: &FieldRef) -> FieldRef {
    match field.metadata().get(PG_OID_ALIAS_KEY).map(String::as_str) {
        Some("regclass" | "regtype" | "regnamespace") => {
            let mut metadata = field.metadata().clone();
            metadata.insert(PG_OID_ALIAS_KEY.into(), "oid".into());
            Arc::new(Field::clone(field).with_metadata(metadata))
        }
        _ => Arc::clone(field),
    }
}

/// Gives columns of privileges their type, which is an array.
fn with_lists(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(with_oid).map(|field| {
        if field.name().ends_with("acl") && *field.data_type() == DataType::Utf8 {
            Arc::new(Field::clone(&field).with_data_type(DataType::new_list(DataType::Utf8, true)).with_nullable(true))
        } else {
            field
        }
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Reads texts of privileges in a batch as arrays.
fn lists(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| -> ArrayRef {
        if column.data_type() == field.data_type() {
            return Arc::clone(column);
        }
        let mut items = ListBuilder::new(StringBuilder::new());
        for text in column.as_string::<i32>() {
            match text.and_then(decode::items) {
                Some(read) => items.append_value(read),
                None => items.append_null(),
            }
        }
        Arc::new(items.finish())
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}

/// A table with columns of privileges.
#[derive(Debug)]
struct Privileges {
    inner: Arc<dyn PartitionStream>,
    schema: SchemaRef,
}

impl Privileges {
    fn new(inner: Arc<dyn PartitionStream>) -> Self {
        Self { schema: SchemaRef::new(with_lists(inner.schema())), inner }
    }
}

impl PartitionStream for Privileges {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = self.inner.execute(context).map(move |batch| lists(&batch?, &schema));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Returns a table in which columns of functions are their numbers, as `regproc`, instead of names; `None` if it has no
/// such columns. A column with a name that several functions have stays.
fn numbered(
    schema: &Schema,
    batches: &[RecordBatch],
    functions: &Functions,
) -> Result<Option<(SchemaRef, Vec<RecordBatch>)>> {
    let number = |name: &str| if name == "-" { Some(0) } else { functions.only(name) };
    let known = |index: usize| {
        batches.iter().all(|batch| {
            let names = batch.column(index).as_string_opt::<i32>();
            names.is_some_and(|names| names.iter().flatten().all(|name| number(name).is_some()))
        })
    };
    let of_functions = |index: &usize| {
        let field = schema.field(*index);
        let kind = field.metadata().get(PG_OID_ALIAS_KEY);
        *field.data_type() == DataType::Utf8 && kind.is_some_and(|kind| kind == "regproc") && known(*index)
    };
    let columns: Vec<usize> = (0..schema.fields().len()).filter(of_functions).collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let fields = schema.fields().iter().enumerate().map(|(index, field)| {
        if columns.contains(&index) {
            let field = Field::clone(field).with_data_type(DataType::Int32);
            Arc::new(field.with_metadata(column::mark(&Type::REGPROC)))
        } else {
            Arc::clone(field)
        }
    });
    let schema = SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()));
    let batches = batches.iter().map(|batch| {
        let column = |(index, column): (usize, &ArrayRef)| -> ArrayRef {
            if !columns.contains(&index) {
                return Arc::clone(column);
            }
            let names = column.as_string::<i32>();
            Arc::new(names.iter().map(|name| number(name?)).collect::<Int32Array>())
        };
        Ok(RecordBatch::try_new(Arc::clone(&schema), batch.columns().iter().enumerate().map(column).collect())?)
    });
    Ok(Some((Arc::clone(&schema), batches.collect::<Result<Vec<_>>>()?)))
}

/// Gives columns that are arrays in Postgres their type.
fn with_arrays(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        let item = match field.name().as_str() {
            "conkey" | "confkey" | "confdelsetcols" | "indkey" | "indoption" => DataType::Int16,
            "conpfeqop" | "conppeqop" | "conffeqop" | "conexclop" | "indcollation" | "indclass" => DataType::Int32,
            _ => return with_oid(field),
        };
        let listed = Field::clone(field).with_data_type(DataType::new_list(item, true));
        Arc::new(match field.name().as_str() {
            "indkey" | "indoption" => listed.with_metadata(column::mark(&Type::INT2_VECTOR)),
            _ => listed,
        })
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Separates a column's type from its name, see [`TypedCatalogList`].
const SEPARATOR: char = '\u{1f}';

/// The catalogs, with the wire type of each column and its modifier written in front of its name: pg-catalog takes arrays
/// other than `int4[]` and `text[]` for text, and [`Attributes`] corrects that. They own the schema whose tables read them.
#[derive(Debug, Clone)]
struct TypedCatalogList(Weak<dyn CatalogProviderList>);

impl TypedCatalogList {
    /// Returns the catalogs; none if the server has ended.
    fn catalogs(&self) -> Arc<dyn CatalogProviderList> {
        self.0.upgrade().unwrap_or_else(|| Arc::new(EmptyCatalogProviderList))
    }
}

#[async_trait]
impl CatalogInfo for TypedCatalogList {
    async fn catalog_names(&self) -> Result<Vec<String>, DataFusionError> {
        CatalogInfo::catalog_names(&self.catalogs()).await
    }

    async fn schema_names(&self, catalog: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        self.catalogs().schema_names(catalog).await
    }

    async fn table_names(&self, catalog: &str, schema: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let catalogs = self.catalogs();
        let Some(names) = catalogs.table_names(catalog, schema).await? else { return Ok(None) };
        let has_types = own_types::exist() && !matches!(schema, PG_CATALOG | "information_schema");
        let tables = catalogs.catalog(catalog).filter(|_| has_types).and_then(|catalog| catalog.schema(schema));
        let Some(tables) = tables else { return Ok(Some(names)) };
        let mut relations = Vec::with_capacity(names.len());
        for name in names {
            if !own_types::is_type(tables.as_ref(), &name).await? {
                relations.push(name);
            }
        }
        Ok(Some(relations))
    }

    async fn table_schema(
        &self,
        catalog: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<SchemaRef>, DataFusionError> {
        let found = self.catalogs().table_schema(catalog, schema, table).await?;
        Ok(found.map(|found| {
            let tagged = found.fields().iter().map(|field| {
                let (oid, modifier) = (column::wire_oid(field), modifiers::of_field(field).unwrap_or(modifiers::NONE));
                Field::clone(field).with_name(format!("{oid}{SEPARATOR}{modifier}{SEPARATOR}{}", field.name()))
            });
            SchemaRef::new(Schema::new(tagged.collect::<Vec<_>>()))
        }))
    }

    async fn table_type(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<TableType>, DataFusionError> {
        self.catalogs().table_type(catalog, schema, table).await
    }
}

/// `pg_attribute` with the types of all columns.
#[derive(Debug)]
struct Attributes(Arc<dyn PartitionStream>);

impl PartitionStream for Attributes {
    fn schema(&self) -> &SchemaRef {
        self.0.schema()
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.0.execute(context).map(|batch| untag(&batch?));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.schema()), batches))
    }
}

fn untag(batch: &RecordBatch) -> Result<RecordBatch> {
    let place = |name: &str| batch.schema().index_of(name);
    let (name, kind, modifier) = (place("attname")?, place("atttypid")?, place("atttypmod")?);
    let names = batch.column(name).as_string::<i32>();
    let number = |place: usize, row: usize| batch.column(place).as_primitive::<Int32Type>().value(row);
    let split = |row: usize| {
        let mut parts = names.value(row).splitn(3, SEPARATOR);
        Some((parts.next()?.parse::<i32>().ok()?, parts.next()?.parse::<i32>().ok()?, parts.next()?))
    };
    let rows: Vec<(i32, i32, &str)> = (0..names.len())
        .map(|row| split(row).unwrap_or_else(|| (number(kind, row), number(modifier, row), names.value(row))))
        .collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns[kind] = Arc::new(rows.iter().map(|(kind, ..)| Some(*kind)).collect::<Int32Array>());
    columns[modifier] = Arc::new(rows.iter().map(|(_, modifier, _)| Some(*modifier)).collect::<Int32Array>());
    columns[name] = Arc::new(rows.iter().map(|(.., name)| Some(*name)).collect::<StringArray>());
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// `pg_class` with two columns it lacks.
#[derive(Debug)]
struct Classes {
    inner: Arc<dyn PartitionStream>,
    schema: SchemaRef,
}

impl Classes {
    fn new(inner: Arc<dyn PartitionStream>) -> Self {
        let texts = DataType::new_list(DataType::Utf8, true);
        let more = ["relacl", "reloptions"].map(|name| Arc::new(Field::new(name, texts.clone(), true)));
        let fields: Vec<_> = inner.schema().fields().iter().map(with_oid).chain(more).collect();
        Self { schema: SchemaRef::new(Schema::new(fields)), inner }
    }
}

impl PartitionStream for Classes {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = self.inner.execute(context).map(move |batch| {
            let batch = batch?;
            let missing = schema.fields().iter().skip(batch.num_columns());
            let missing = missing.map(|field| new_null_array(field.data_type(), batch.num_rows()));
            let columns = batch.columns().iter().cloned().chain(missing).collect();
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
