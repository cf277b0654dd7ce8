//! `pg_stat_activity`: a row for each connection.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;
use neuroql_access::User;

use crate::catalog::batches::stream_of;
use crate::wire::activity::Activity;
use crate::wire::interrupt::ConnectionRegistry;

/// The connections of a server as rows, with PostgreSQL 15's columns. Numbers of objects, wait events and transactions are NULL.
#[derive(Debug)]
pub(crate) struct StatActivity {
    schema: SchemaRef,
    registry: Arc<ConnectionRegistry>,
    database: String,
}

impl StatActivity {
    pub(crate) fn new(registry: Arc<ConnectionRegistry>, database: String) -> Self {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let columns = [
            ("datid", DataType::Int32),
            ("datname", DataType::Utf8),
            ("pid", DataType::Int32),
            ("leader_pid", DataType::Int32),
            ("usesysid", DataType::Int32),
            ("usename", DataType::Utf8),
            ("application_name", DataType::Utf8),
            ("client_addr", DataType::Utf8),
            ("client_hostname", DataType::Utf8),
            ("client_port", DataType::Int32),
            ("backend_start", time()),
            ("xact_start", time()),
            ("query_start", time()),
            ("state_change", time()),
            ("wait_event_type", DataType::Utf8),
            ("wait_event", DataType::Utf8),
            ("state", DataType::Utf8),
            ("backend_xid", DataType::Int32),
            ("backend_xmin", DataType::Int32),
            ("query_id", DataType::Int64),
            ("query", DataType::Utf8),
            ("backend_type", DataType::Utf8),
        ];
        let fields = columns.map(|(name, data_type)| Field::new(name, data_type, true));
        Self { schema: Arc::new(Schema::new(fields.to_vec())), registry, database }
    }

    /// Returns the rows that a user sees: of other users' connections no more than that they are there, as in PostgreSQL.
    fn rows(&self, reader: Option<&User>) -> Result<RecordBatch> {
        let connections = self.registry.activities();
        let seen: Vec<Option<&Activity>> = connections
            .iter()
            .map(|(_, user, activity)| {
                let may = reader.is_some_and(|reader| reader.is_superuser() || reader.name == user.name);
                may.then_some(activity)
            })
            .collect();
        let texts = |value: fn(&Activity) -> String| -> ArrayRef {
            Arc::new(seen.iter().map(|activity| activity.map(value)).collect::<StringArray>())
        };
        let times = |value: fn(&Activity) -> Option<i64>| -> ArrayRef {
            let times: TimestampMicrosecondArray = seen.iter().map(|activity| activity.and_then(value)).collect();
            Arc::new(times.with_timezone("UTC"))
        };
        let constant =
            |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(connections.iter().map(|_| text))) };
        let columns = self.schema.fields().iter().map(|field| match field.name().as_str() {
            "datname" => constant(&self.database),
            "pid" => Arc::new(connections.iter().map(|(pid, ..)| Some(*pid)).collect::<Int32Array>()),
            "usename" => Arc::new(StringArray::from_iter_values(connections.iter().map(|(_, user, _)| &user.name))),
            "application_name" => texts(|activity| activity.application.clone()),
            "client_addr" => texts(|activity| activity.client.ip().to_canonical().to_string()),
            "client_port" => {
                let ports = seen.iter().map(|activity| activity.map(|activity| i32::from(activity.client.port())));
                Arc::new(ports.collect::<Int32Array>())
            }
            "backend_start" => times(|activity| Some(activity.backend_start)),
            "xact_start" => times(|activity| activity.transaction_start),
            "query_start" => times(|activity| activity.query_start),
            "state_change" => times(|activity| Some(activity.state_change)),
            "state" => texts(|activity| activity.state.into()),
            "query" => {
                let texts = seen.iter().map(|activity| match activity {
                    Some(activity) => activity.query.clone(),
                    None => "<insufficient privilege>".into(),
                });
                Arc::new(StringArray::from_iter_values(texts))
            }
            "query_id" => Arc::new(Int64Array::new_null(connections.len())),
            "backend_type" => constant("client backend"),
            _ => new_null_array(field.data_type(), connections.len()),
        });
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?)
    }
}

impl PartitionStream for StatActivity {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let reader = context.session_config().get_extension::<User>();
        stream_of(&self.schema, self.rows(reader.as_deref()))
    }
}
