//! The rows of a `COPY … FROM STDIN` on their way into a table.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::CastOptions;
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql::DateOrder;

use crate::decode::copy::{CopyReader, Row};
use crate::decode::{self, Form, date_order};
use crate::encode::column;
use crate::encode::copy::CopyFormat;
use crate::session::{PreparedStatement, Session};
use crate::wire::encodings::Encoding;
use crate::wire::error_response::SqlError;

/// Number of rows of a batch.
const ROWS: usize = 8192;

/// A copy that is being read.
pub(crate) struct CopyIn {
    /// Plan that inserts the rows of the table into itself.
    plan: LogicalPlan,
    table: String,
    fields: Vec<(FieldRef, Type)>,
    schema: SchemaRef,
    reader: CopyReader,
    form: Form,
    zone: String,
    order: DateOrder,
    encoding: Encoding,
    /// Values that are in no batch yet, by column.
    values: Vec<Vec<ScalarValue>>,
    batches: Vec<RecordBatch>,
    reservation: MemoryReservation,
}

impl CopyIn {
    pub(crate) fn new(session: &Session, prepared: &PreparedStatement, format: &CopyFormat) -> Result<Self, SqlError> {
        let unexpected = || SqlError::error("XX000", "internal error: COPY has another plan");
        let plan = prepared.plan.clone().ok_or_else(unexpected)?;
        let (table, names) = target(&plan).ok_or_else(unexpected)?;
        let LogicalPlan::Dml(insert) = &plan else { return Err(unexpected()) };
        let zone = session.zone();
        let all = insert.target.schema();
        let fields = names.iter().map(|name| {
            let field = all.field_with_name(name).map_err(|_| unexpected())?;
            let kind = column::wire_kind(field).unwrap_or(Type::RECORD);
            if decode::arrow_type(&kind, &zone).is_none() {
                let kind = decode::name(&kind);
                return Err(SqlError::not_supported(format!("COPY FROM of columns of type {kind} is not supported")));
            }
            Ok((Arc::new(Field::clone(field).with_nullable(true)), kind))
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(Schema::new(fields.iter().map(|(field, _)| Arc::clone(field)).collect::<Vec<_>>()));
        let pool = &session.context.runtime_env().memory_pool;
        Ok(Self {
            values: vec![Vec::new(); fields.len()],
            reader: CopyReader::new(format.clone(), names),
            form: if format.is_binary() { Form::Binary } else { Form::Text },
            reservation: MemoryConsumer::new("COPY FROM STDIN").register(pool),
            batches: Vec::new(),
            plan,
            table,
            fields,
            schema,
            zone,
            order: session.settings().date_style().order,
            encoding: format.encoding(session.encoding.get()),
        })
    }

    pub(crate) fn columns(&self) -> usize {
        self.fields.len()
    }

    /// Reads a piece of the copy.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), SqlError> {
        if self.form == Form::Binary {
            let read = self.reader.push(piece);
            return self.take(read);
        }
        let context = || format!("COPY {}, line {}", self.table, self.reader.line() + 1);
        let piece = self.encoding.to_utf8(piece).map_err(|error| error.with_context(context()))?;
        let read = self.reader.push(&piece);
        self.take(read)
    }

    /// Returns the plan that inserts all rows.
    pub(crate) fn finish(mut self) -> Result<(LogicalPlan, MemoryReservation), SqlError> {
        let read = self.reader.finish();
        self.take(read)?;
        self.flush()?;
        let rows = Arc::new(MemTable::try_new(self.schema, vec![self.batches])?);
        let plan = self.plan.transform_up(|node| match node {
            LogicalPlan::TableScan(scan) => {
                let source = provider_as_source(Arc::clone(&rows) as _);
                Ok(Transformed::yes(LogicalPlanBuilder::scan(scan.table_name, source, None)?.build()?))
            }
            node => Ok(Transformed::no(node.recompute_schema()?)),
        })?;
        Ok((plan.data, self.reservation))
    }

    fn take(&mut self, read: Result<Vec<Row>, SqlError>) -> Result<(), SqlError> {
        let line = self.reader.line();
        let rows = read.map_err(|error| error.with_context(format!("COPY {}, line {line}", self.table)))?;
        let first = line + 1 - rows.len().min(line + 1);
        for (index, row) in rows.into_iter().enumerate() {
            for (column, value) in row.into_iter().enumerate() {
                let value = self.value(column, value.as_deref()).map_err(|error| {
                    let (name, line) = (self.fields[column].0.name(), first + index);
                    error.with_context(format!("COPY {}, line {line}, column {name}", self.table))
                })?;
                self.reservation.try_grow(value.size())?;
                self.values[column].push(value);
            }
            if self.values.first().is_some_and(|values| values.len() >= ROWS) {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn value(&self, column: usize, given: Option<&[u8]>) -> Result<ScalarValue, SqlError> {
        let (field, kind) = &self.fields[column];
        let converted = match given.filter(|_| self.form == Form::Binary) {
            Some(given) => Some(self.encoding.binary(kind, given, |bytes| self.encoding.to_utf8(bytes))?),
            None => None,
        };
        let given = converted.as_deref().or(given);
        let text = given.filter(|_| self.form == Form::Text).and_then(|given| std::str::from_utf8(given).ok());
        let text = text.map(|text| date_order::ordered(kind, text, self.order)).transpose()?;
        let given = text.as_deref().map(str::as_bytes).or(given);
        let value = decode::decode(kind, self.form, given, &self.zone)?;
        if value.data_type() == *field.data_type() {
            return Ok(value);
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        Ok(value.cast_to_with_options(field.data_type(), &strict)?)
    }

    fn flush(&mut self) -> Result<(), SqlError> {
        if self.values.first().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let columns = self.values.iter_mut().map(|values| ScalarValue::iter_to_array(std::mem::take(values)));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        self.batches.push(batch.map_err(datafusion::error::DataFusionError::from)?);
        Ok(())
    }
}

/// Returns the table that an INSERT reads, and the columns of it.
fn target(plan: &LogicalPlan) -> Option<(String, Vec<String>)> {
    let mut found = None;
    let walked = plan.apply(|node| {
        if let LogicalPlan::Projection(projection) = node
            && let LogicalPlan::TableScan(scan) = projection.input.as_ref()
        {
            let name = |expr: &Expr| match expr {
                Expr::Column(column) => Some(column.name.clone()),
                _ => None,
            };
            let names = projection.expr.iter().map(name).collect::<Option<Vec<_>>>();
            found = names.map(|names| (scan.table_name.table().to_owned(), names));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.ok().and(found)
}
