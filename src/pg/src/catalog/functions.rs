//! Functions that clients call and pg-catalog lacks, and functions whose answer depends on the connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::DATAFUSION_VERSION;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StringArray, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion::common::cast::as_string_array;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::sequences::column_facts::PgGetExpr;
use crate::catalog::{expressions, own_types, quote_functions, random_uuid, sequences, value_functions};
use crate::decode;
use crate::encode::column;
use crate::session::settings::{SERVER_VERSION, Settings};
use crate::sql::range_values;
use crate::wire::startup::SUPERUSER;
use neuroql_access::User;

/// Returns the answer of `version()`. Clients look for "PostgreSQL" and a number at its start.
pub(crate) fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (neuroql {}, DataFusion {DATAFUSION_VERSION})", env!("CARGO_PKG_VERSION"))
}

/// Registers functions that answer every connection alike.
pub(crate) fn register_constant(context: &SessionContext) {
    let yes = ScalarValue::Boolean(Some(true));
    let no = ScalarValue::Boolean(Some(false));
    let nothing = ScalarValue::Utf8(None);
    let constants = [
        ("version", ScalarValue::from(version())),
        ("pg_is_in_recovery", no.clone()),
        ("pg_is_other_temp_schema", no.clone()),
        ("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        ("pg_function_is_visible", yes.clone()),
        ("pg_type_is_visible", yes.clone()),
        ("pg_operator_is_visible", yes.clone()),
        ("pg_opclass_is_visible", yes.clone()),
        ("pg_collation_is_visible", yes.clone()),
        ("pg_conversion_is_visible", yes.clone()),
        ("pg_statistics_obj_is_visible", yes.clone()),
        ("pg_ts_config_is_visible", yes.clone()),
        ("pg_ts_dict_is_visible", yes.clone()),
        ("has_column_privilege", yes.clone()),
        ("has_function_privilege", yes.clone()),
        ("has_sequence_privilege", yes.clone()),
        ("pg_has_role", yes.clone()),
        ("pg_try_advisory_lock", yes.clone()),
        ("pg_advisory_unlock", yes),
        ("pg_advisory_lock", nothing.clone()),
        ("pg_advisory_unlock_all", nothing.clone()),
        ("pg_get_userbyid", ScalarValue::from(SUPERUSER)),
        ("to_regtype", ScalarValue::Int32(None)),
        ("pg_get_functiondef", nothing.clone()),
        ("pg_get_viewdef", nothing.clone()),
        ("pg_get_indexdef", nothing.clone()),
        ("pg_get_ruledef", nothing.clone()),
        ("pg_get_triggerdef", nothing.clone()),
        ("pg_tablespace_location", nothing.clone()),
        ("pg_get_function_sqlbody", nothing.clone()),
        ("pg_describe_object", nothing.clone()),
        ("getdatabaseencoding", ScalarValue::from("UTF8")),
        ("pg_char_to_encoding", ScalarValue::Int32(Some(6))),
        // NULL, as for connections by Unix sockets.
        ("inet_server_addr", nothing.clone()),
        ("inet_server_port", ScalarValue::Int32(None)),
        ("inet_client_addr", nothing.clone()),
        ("inet_client_port", ScalarValue::Int32(None)),
        ("pg_database_size", ScalarValue::Int64(None)),
        ("pg_table_size", ScalarValue::Int64(None)),
        ("pg_indexes_size", ScalarValue::Int64(None)),
        ("pg_tablespace_size", ScalarValue::Int64(None)),
        ("shobj_description", nothing),
    ];
    for (name, value) in constants {
        context.register_udf(ScalarUDF::new_from_impl(ConstantFunction::new(name, value, Volatility::Stable)));
    }
    if let Ok(known) = context.udf("format_type") {
        context.register_udf(ScalarUDF::new_from_impl(FormatType { known }));
    }
    quote_functions::register(context);
    value_functions::register(context);
    crate::sql::network::register(context);
    random_uuid::register(context);
    expressions::register(context);
    context.register_udf(ScalarUDF::new_from_impl(PgSizePretty::new()));
    context.register_udf(ScalarUDF::new_from_impl(PgExpandArray::new()));
    context.register_udf(AsyncScalarUDF::new(Arc::new(PgSleep::new())).into_scalar_udf());
    context.register_udf(ScalarUDF::new_from_impl(PgGetExpr::new()));
    sequences::functions::register(context);
}

/// Registers functions that answer for one connection.
pub(crate) fn register_session(context: &SessionContext, settings: &Arc<Mutex<Settings>>, user: &User, pid: i32) {
    let user = ScalarValue::from(user.name.as_str());
    let constants = [
        ("session_user", user.clone()),
        ("current_user", user.clone()),
        ("current_role", user.clone()),
        ("user", user),
        ("pg_backend_pid", ScalarValue::Int32(Some(pid))),
    ];
    for (name, value) in constants {
        context.register_udf(ScalarUDF::new_from_impl(ConstantFunction::new(name, value, Volatility::Stable)));
    }
    context.register_udf(ScalarUDF::new_from_impl(CurrentSetting::new(Arc::clone(settings))));
    context.register_udf(ScalarUDF::new_from_impl(SetConfig::new(Arc::clone(settings))));
}

/// Registers `current_schema`, the schema in which unqualified names are looked up.
pub(crate) fn register_current_schema(context: &SessionContext, schema: &str) {
    let value = ScalarValue::from(schema);
    context.register_udf(ScalarUDF::new_from_impl(ConstantFunction::new("current_schema", value, Volatility::Stable)));
}

/// A function of any arguments with one answer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ConstantFunction {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl ConstantFunction {
    fn new(name: &'static str, value: ScalarValue, volatility: Volatility) -> Self {
        let signature = Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], volatility);
        Self { name, value, signature }
    }
}

impl ScalarUDFImpl for ConstantFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name [, missing_ok])`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    settings: PtrEq<Arc<Mutex<Settings>>>,
    signature: Signature,
}

impl CurrentSetting {
    fn new(settings: Arc<Mutex<Settings>>) -> Self {
        let forms = vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
        ];
        // Volatile, because a value may change between planning and execution.
        Self { settings: PtrEq::from(settings), signature: Signature::one_of(forms, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let names = as_string_array(&columns[0])?;
        let lenient = columns.get(1).map(|column| column.as_boolean().clone());
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |row: usize| -> Result<Option<String>> {
            if names.is_null(row) {
                return Ok(None);
            }
            match settings.get(names.value(row)) {
                Some((_, value)) => Ok(Some(value)),
                None if lenient.as_ref().is_some_and(|lenient| lenient.is_valid(row) && lenient.value(row)) => Ok(None),
                None => Err(DataFusionError::Configuration(format!(
                    "unrecognized configuration parameter \"{}\"",
                    names.value(row)
                ))),
            }
        };
        let values = (0..names.len()).map(value).collect::<Result<StringArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// `set_config(name, value, is_local)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig {
    settings: PtrEq<Arc<Mutex<Settings>>>,
    signature: Signature,
}

impl SetConfig {
    fn new(settings: Arc<Mutex<Settings>>) -> Self {
        let types = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
        Self { settings: PtrEq::from(settings), signature: Signature::exact(types, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let (names, values, local) =
            (as_string_array(&columns[0])?, as_string_array(&columns[1])?, columns[2].as_boolean());
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set = |row: usize| -> Result<Option<String>> {
            if names.is_null(row) {
                return Ok(None);
            }
            let value = values.is_valid(row).then(|| values.value(row));
            let local = local.is_valid(row) && local.value(row);
            settings
                .set(names.value(row), value, local)
                .map_err(|error| DataFusionError::Configuration(error.message))?;
            Ok(settings.get(names.value(row)).map(|(_, value)| value))
        };
        let set = (0..names.len()).map(&mut set).collect::<Result<StringArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(set)))
    }
}

/// `format_type(oid, modifier)`, also of composite values, which pg-catalog's does not know, and with the scale of each
/// `numeric` and without a length of `bpchar`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FormatType {
    known: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for FormatType {
    fn name(&self) -> &str {
        self.known.name()
    }

    fn signature(&self) -> &Signature {
        self.known.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.known.return_type(arguments)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let number = |place: usize| -> Result<ArrayRef> {
            Ok(cast(&args.args[place].to_array(args.number_rows)?, &DataType::Int64)?)
        };
        let (oids, modifiers) = (number(0)?, number(1)?);
        let names = self.known.invoke_with_args(args)?.into_array(oids.len())?;
        let numeric = |modifier: i64, items: &str| {
            // The scale has eleven bits and a sign.
            let (precision, scale) = (((modifier - 4) >> 16) & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024);
            format!("numeric({precision},{scale}){items}")
        };
        let range = |oid: i64| Type::from_oid(u32::try_from(oid).ok()?).filter(range_values::is_range);
        let name = |((oid, modifier), name): ((Option<i64>, Option<i64>), Option<&str>)| match (oid, modifier) {
            (Some(16_384..), _) => {
                let own = oid.and_then(|oid| own_types::by_oid(u32::try_from(oid).ok()?));
                own.map(|own| decode::name(&own)).or_else(|| name.map(str::to_owned))
            }
            (Some(2249), _) => Some("record".to_owned()),
            (Some(2287), _) => Some("record[]".to_owned()),
            (Some(1700), Some(modifier @ 4..)) => Some(numeric(modifier, "")),
            (Some(1231), Some(modifier @ 4..)) => Some(numeric(modifier, "[]")),
            (Some(1042), Some(-1)) => Some("bpchar".to_owned()),
            (Some(1014), Some(-1)) => Some("bpchar[]".to_owned()),
            (Some(1014), Some(modifier @ 5..)) => Some(format!("character({})[]", modifier - 4)),
            (Some(oid), _) if let Some(kind) = range(oid) => Some(decode::name(&kind)),
            _ => name.map(str::to_owned),
        };
        let (oids, modifiers) = (oids.as_primitive::<Int64Type>(), modifiers.as_primitive::<Int64Type>());
        let names = oids.iter().zip(modifiers).zip(as_string_array(&names)?).map(name);
        Ok(ColumnarValue::Array(Arc::new(names.collect::<StringArray>())))
    }
}

/// `pg_size_pretty(bytes)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PgSizePretty {
    signature: Signature,
}

impl PgSizePretty {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Int64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for PgSizePretty {
    fn name(&self) -> &str {
        "pg_size_pretty"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let sizes = columns[0].as_primitive::<Int64Type>().iter();
        Ok(ColumnarValue::Array(Arc::new(sizes.map(|size| size.map(pretty)).collect::<StringArray>())))
    }
}

/// Writes a size in the largest unit of which it has ten, rounded to a whole number of it.
fn pretty(size: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    // The count is in halves of the unit, from the second unit on.
    let mut count = i128::from(size);
    for (index, unit) in UNITS.iter().enumerate() {
        let limit = if index == 0 { 10 * 1024 } else { 2 * 10 * 1024 - 1 };
        if count.abs() < limit || index == UNITS.len() - 1 {
            let whole = if index == 0 { count } else { (count + count.signum()) / 2 };
            return format!("{whole} {unit}");
        }
        count >>= if index == 0 { 9 } else { 10 };
    }
    unreachable!("the last unit takes everything")
}

/// `_pg_expandarray(array)`: its items `x`, and their positions `n`, counted from 1. The caller unnests them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PgExpandArray {
    signature: Signature,
}

impl PgExpandArray {
    fn new() -> Self {
        Self { signature: Signature::array(Volatility::Immutable) }
    }

    fn fields(item: &DataType) -> Fields {
        vec![Field::new("x", item.clone(), true), Field::new("n", DataType::Int32, true)].into()
    }
}

impl ScalarUDFImpl for PgExpandArray {
    fn name(&self) -> &str {
        "_pg_expandarray"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::List(item)] => Ok(DataType::new_list(DataType::Struct(Self::fields(item.data_type())), true)),
            _ => exec_err!("_pg_expandarray needs an array"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let lists = columns[0].as_list::<i32>();
        let offsets = lists.offsets();
        let first = offsets.first().copied().unwrap_or_default() as usize;
        let last = offsets.last().copied().unwrap_or_default() as usize;
        let items = lists.values().slice(first, last - first);
        let positions: Int32Array = offsets.windows(2).flat_map(|ends| 1..=ends[1] - ends[0]).map(Some).collect();
        let fields = Self::fields(items.data_type());
        let lengths = offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
        let rows = StructArray::try_new(fields.clone(), vec![items, Arc::new(positions)], None)?;
        let field = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(field, offsets, Arc::new(rows), lists.nulls().cloned())?)))
    }
}

/// `pg_sleep(seconds)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PgSleep {
    signature: Signature,
}

impl PgSleep {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for PgSleep {
    fn name(&self) -> &str {
        "pg_sleep"
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

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("pg_sleep cannot be used here")
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for PgSleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let seconds: f64 = columns[0].as_primitive::<Float64Type>().iter().flatten().filter(|one| *one > 0.0).sum();
        // Longer than any connection lives is as good as for ever.
        tokio::time::sleep(Duration::from_secs_f64(seconds.min(1e9))).await;
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(vec![""; args.number_rows]))))
    }
}

fn columns(args: &ScalarFunctionArgs) -> Result<Vec<ArrayRef>> {
    args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_written_as_postgres_does() {
        for (size, text) in [
            (0, "0 bytes"),
            (10239, "10239 bytes"),
            (10240, "10 kB"),
            (-10240, "-10 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (20_971_519, "20 MB"),
            (1_099_511_627_776, "1024 GB"),
            (i64::MAX, "8192 PB"),
        ] {
            assert_eq!(super::pretty(size), text);
        }
    }

    #[test]
    fn version_starts_as_clients_expect() {
        assert!(super::version().starts_with("PostgreSQL 16.6 (neuroql "));
    }
}
