//! `pg_notify` and `pg_listening_channels`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::api::Type;

use crate::encode::column;
use crate::session::notifications::{ListeningChannels, Notifications, PendingActions};
use crate::wire::error_response::external;

/// Registers the functions for a session.
pub(crate) fn register(context: &SessionContext, notifications: &Notifications) {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Volatile);
    context.register_udf(ScalarUDF::from(PgNotify { pending: notifications.pending.clone(), signature }));
    let signature = Signature::new(TypeSignature::Nullary, Volatility::Volatile);
    context.register_udf(ScalarUDF::from(PgListeningChannels { channels: notifications.channels(), signature }));
}

/// `pg_notify(channel, payload)`.
#[derive(Debug)]
struct PgNotify {
    pending: PendingActions,
    signature: Signature,
}

// The functions of one session are compared with each other.
impl PartialEq for PgNotify {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for PgNotify {}

impl Hash for PgNotify {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for PgNotify {
    fn name(&self) -> &str {
        "pg_notify"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true).with_metadata(column::mark(&Type::VOID))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = |place: usize| -> Result<ArrayRef> {
            Ok(cast(&args.args[place].to_array(args.number_rows)?, &DataType::Utf8)?)
        };
        let (channels, payloads) = (texts(0)?, texts(1)?);
        for (channel, payload) in channels.as_string::<i32>().iter().zip(payloads.as_string::<i32>()) {
            let done = self.pending.notify(channel.unwrap_or_default(), payload.unwrap_or_default());
            done.map_err(external)?;
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(vec![""; args.number_rows]))))
    }
}

/// `pg_listening_channels()`: an array, of which statements make rows.
#[derive(Debug)]
struct PgListeningChannels {
    channels: ListeningChannels,
    signature: Signature,
}

impl PartialEq for PgListeningChannels {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for PgListeningChannels {}

impl Hash for PgListeningChannels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for PgListeningChannels {
    fn name(&self) -> &str {
        "pg_listening_channels"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Utf8, true))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let names = self.channels.names();
        let mut lists = ListBuilder::new(StringBuilder::new());
        for _ in 0..args.number_rows {
            lists.append_value(names.iter().map(Some));
        }
        Ok(ColumnarValue::Array(Arc::new(lists.finish())))
    }
}
