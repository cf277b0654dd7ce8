//! `pg_prepared_statements`, `pg_cursors`, `pg_user`, `pg_shadow` and `pg_prepared_xacts`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Builder, Int64Array, ListBuilder, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion_postgres::pgwire::api::Type;
use futures::StreamExt;
use neuroql_access::User;

use crate::catalog::batches::stream_of;
use crate::encode::column;
use crate::wire::error_response::{SqlError, external};

/// Names of the tables of a session.
const STATEMENTS: &str = "pg_prepared_statements";
const CURSORS: &str = "pg_cursors";

/// Names of the tables of this module.
pub(crate) const NAMES: [&str; 5] = [STATEMENTS, CURSORS, "pg_user", "pg_shadow", "pg_prepared_xacts"];

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct ListedStatement {
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
    /// Microseconds since 1970.
    pub(crate) made: i64,
    pub(crate) parameters: Vec<u32>,
    pub(crate) from_sql: bool,
    /// Numbers of executions with a kept plan, and with one of their own.
    pub(crate) plans: (i64, i64),
}

/// A cursor or portal.
#[derive(Debug)]
pub(crate) struct ListedCursor {
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
    pub(crate) is_held: bool,
    pub(crate) scrolls: bool,
    /// Microseconds since 1970.
    pub(crate) made: i64,
}

/// Statements and cursors of a session, as its statement found them. The session brings it in the extensions of its
/// configuration; without one there are no rows.
#[derive(Debug, Default)]
pub(crate) struct SessionLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    statements: Vec<ListedStatement>,
    cursors: Vec<ListedCursor>,
}

impl SessionLists {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn replace(&self, statements: Vec<ListedStatement>, cursors: Vec<ListedCursor>) {
        *self.lock() = Lists { statements, cursors };
    }
}

/// Returns true if a plan reads the lists of its session.
pub(crate) fn reads_lists(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // The closure returns no error.
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= matches!(scan.table_name.table(), STATEMENTS | CURSORS);
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// A table of this module, with PostgreSQL 15's columns.
#[derive(Debug)]
pub(super) struct SessionTable {
    name: &'static str,
    schema: SchemaRef,
    /// `pg_roles`
    roles: Arc<dyn PartitionStream>,
}

impl SessionTable {
    /// Returns a table by its name.
    pub(super) fn of(name: &str, roles: Arc<dyn PartitionStream>) -> Option<Self> {
        let name = NAMES.into_iter().find(|known| *known == name)?;
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let marked = |name: &str, data_type: DataType, kind: &Type| {
            Field::new(name, data_type, true).with_metadata(column::mark(kind))
        };
        let fields = match name {
            STATEMENTS => vec![
                field("name", DataType::Utf8),
                field("statement", DataType::Utf8),
                field("prepare_time", time()),
                marked("parameter_types", DataType::new_list(DataType::Int32, true), &Type::REGTYPE_ARRAY),
                field("from_sql", DataType::Boolean),
                field("generic_plans", DataType::Int64),
                field("custom_plans", DataType::Int64),
            ],
            CURSORS => vec![
                field("name", DataType::Utf8),
                field("statement", DataType::Utf8),
                field("is_holdable", DataType::Boolean),
                field("is_binary", DataType::Boolean),
                field("is_scrollable", DataType::Boolean),
                field("creation_time", time()),
            ],
            "pg_prepared_xacts" => vec![
                marked("transaction", DataType::Int32, &Type::XID),
                field("gid", DataType::Utf8),
                field("prepared", time()),
                marked("owner", DataType::Utf8, &Type::NAME),
                marked("database", DataType::Utf8, &Type::NAME),
            ],
            _ => vec![
                marked("usename", DataType::Utf8, &Type::NAME),
                marked("usesysid", DataType::Int32, &Type::OID),
                field("usecreatedb", DataType::Boolean),
                field("usesuper", DataType::Boolean),
                field("userepl", DataType::Boolean),
                field("usebypassrls", DataType::Boolean),
                field("passwd", DataType::Utf8),
                field("valuntil", time()),
                field("useconfig", DataType::new_list(DataType::Utf8, true)),
            ],
        };
        Some(Self { name, schema: Arc::new(Schema::new(fields)), roles })
    }

    pub(super) fn table_schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self, lists: &Lists) -> Result<RecordBatch> {
        let texts = |values: &mut dyn Iterator<Item = &str>| -> ArrayRef {
            Arc::new(values.map(Some).collect::<StringArray>())
        };
        let times = |values: &mut dyn Iterator<Item = i64>| -> ArrayRef {
            Arc::new(values.map(Some).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let flags = |values: &mut dyn Iterator<Item = bool>| -> ArrayRef {
            Arc::new(values.map(Some).collect::<BooleanArray>())
        };
        let columns = match self.name {
            STATEMENTS => {
                let all = &lists.statements;
                let mut types = ListBuilder::new(Int32Builder::new());
                for statement in all {
                    for oid in &statement.parameters {
                        types.values().append_option(i32::try_from(*oid).ok());
                    }
                    types.append(true);
                }
                let plans = |count: fn(&ListedStatement) -> i64| -> ArrayRef {
                    Arc::new(all.iter().map(count).map(Some).collect::<Int64Array>())
                };
                vec![
                    texts(&mut all.iter().map(|it| it.name.as_str())),
                    texts(&mut all.iter().map(|it| &*it.text)),
                    times(&mut all.iter().map(|it| it.made)),
                    Arc::new(types.finish()),
                    flags(&mut all.iter().map(|it| it.from_sql)),
                    plans(|it| it.plans.0),
                    plans(|it| it.plans.1),
                ]
            }
            _ => {
                let all = &lists.cursors;
                vec![
                    texts(&mut all.iter().map(|it| it.name.as_str())),
                    texts(&mut all.iter().map(|it| &*it.text)),
                    flags(&mut all.iter().map(|it| it.is_held)),
                    flags(&mut all.iter().map(|_| false)),
                    flags(&mut all.iter().map(|it| it.scrolls)),
                    times(&mut all.iter().map(|it| it.made)),
                ]
            }
        };
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Returns the users among roles. Passwords are nobody's to read.
fn users(roles: &RecordBatch, schema: &SchemaRef, is_shadow: bool) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let name = match field.name().as_str() {
            "usename" => "rolname",
            "usesysid" => "oid",
            "usecreatedb" => "rolcreatedb",
            "usesuper" => "rolsuper",
            "userepl" => "rolreplication",
            "usebypassrls" => "rolbypassrls",
            "passwd" if !is_shadow => return Arc::new(StringArray::from(vec!["********"; roles.num_rows()])),
            _ => "",
        };
        let found = roles.column_by_name(name).filter(|found| found.data_type() == field.data_type());
        found.cloned().unwrap_or_else(|| new_null_array(field.data_type(), roles.num_rows()))
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}

impl PartitionStream for SessionTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let rows = match self.name {
            "pg_user" | "pg_shadow" => {
                let is_shadow = self.name == "pg_shadow";
                let reader = context.session_config().get_extension::<User>();
                if is_shadow && !reader.is_some_and(|reader| reader.is_superuser()) {
                    let denied = SqlError::error("42501", "permission denied for view pg_shadow");
                    Err(external(denied))
                } else {
                    let shown = Arc::clone(&schema);
                    let batches = self.roles.execute(context).map(move |batch| users(&batch?, &shown, is_shadow));
                    return Box::pin(RecordBatchStreamAdapter::new(schema, batches));
                }
            }
            STATEMENTS | CURSORS => match context.session_config().get_extension::<SessionLists>() {
                Some(lists) => self.rows(&lists.lock()),
                None => Ok(RecordBatch::new_empty(Arc::clone(&schema))),
            },
            _ => Ok(RecordBatch::new_empty(Arc::clone(&schema))),
        };
        stream_of(&schema, rows)
    }
}
