//! neuroql's own functions as rows of `pg_proc`, with their arguments, results and descriptions.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::api::Type;
use neuroql::{FUNCTION_SECTION, TableFunctionDocumentation, table_function_documentation};

use crate::decode;
use crate::encode::column;

/// Number of the first function: behind those of PostgreSQL's own, before those of users.
const FIRST: i32 = 15_000;

/// A function as `\df` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OwnFunction {
    pub(crate) oid: i32,
    pub(crate) name: String,
    /// Its arguments with their names: `graph, tokens [, semantics]`, `model text, k bigint DEFAULT 10`.
    arguments: String,
    names: Vec<String>,
    /// Numbers of the arguments' types.
    types: Vec<u32>,
    result: String,
    result_type: u32,
    kind: FunctionKind,
    description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum FunctionKind {
    Scalar,
    Aggregate,
    Table,
}

/// Returns neuroql's functions, by name.
pub(crate) fn own_functions(context: &SessionContext) -> Vec<OwnFunction> {
    let state = context.state();
    let mut functions = Vec::new();
    let is_own = |documentation: &&Documentation| documentation.doc_section.label == FUNCTION_SECTION.label;
    for function in state.scalar_functions().values() {
        if let Some(documentation) = function.documentation().filter(is_own) {
            let result = function.inner().return_type(&[]).ok();
            functions.push(documented(function.name(), documentation, result, FunctionKind::Scalar));
        }
    }
    for function in state.aggregate_functions().values() {
        if let Some(documentation) = function.documentation().filter(is_own) {
            let result = function.return_type(&[]).ok();
            functions.push(documented(function.name(), documentation, result, FunctionKind::Aggregate));
        }
    }
    functions.extend(table_function_documentation().into_iter().map(of_table));
    functions.sort_by(|one, other| one.name.cmp(&other.name));
    // A function is registered under each of its names.
    functions.dedup_by(|one, other| one.name == other.name);
    for (oid, function) in (FIRST..).zip(&mut functions) {
        function.oid = oid;
    }
    functions
}

fn documented(name: &str, documentation: &Documentation, result: Option<DataType>, kind: FunctionKind) -> OwnFunction {
    let syntax = documentation.syntax_example.as_str();
    let inside = syntax.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(inside, _)| inside);
    let names: Vec<String> = documentation.arguments.iter().flatten().map(|(name, _)| name.clone()).collect();
    let result_type = result.map_or(Type::ANY.oid(), |result| column::wire_oid(&Field::new("result", result, true)));
    OwnFunction {
        oid: 0,
        name: name.into(),
        arguments: inside.into(),
        types: vec![Type::ANY.oid(); names.len()],
        names,
        result: type_name(result_type),
        result_type,
        kind,
        description: one_line(&documentation.description),
    }
}

fn of_table(function: TableFunctionDocumentation) -> OwnFunction {
    let named = |name: &str, oid: u32| format!("{name} {}", type_name(oid));
    let types: Vec<u32> = function
        .parameters
        .iter()
        .map(|parameter| column::wire_oid(&Field::new(parameter.name, parameter.data_type.clone(), true)))
        .collect();
    let arguments = function.parameters.iter().zip(&types).map(|(parameter, oid)| {
        let named = named(parameter.name, *oid);
        match &parameter.default {
            None => named,
            Some(default) if default.is_null() => format!("{named} DEFAULT NULL"),
            Some(default) => match default.try_as_str().flatten() {
                Some(text) => format!("{named} DEFAULT '{text}'"),
                None => format!("{named} DEFAULT {default}"),
            },
        }
    });
    let columns = function.columns.iter().map(|field| named(field.name(), column::wire_oid(field)));
    OwnFunction {
        oid: 0,
        name: function.name.into(),
        arguments: arguments.collect::<Vec<_>>().join(", "),
        names: function.parameters.iter().map(|parameter| parameter.name.into()).collect(),
        types,
        result: format!("TABLE({})", columns.collect::<Vec<_>>().join(", ")),
        result_type: Type::RECORD.oid(),
        kind: FunctionKind::Table,
        description: function.description.into(),
    }
}

fn type_name(oid: u32) -> String {
    match Type::from_oid(oid) {
        Some(Type::RECORD_ARRAY) => "record[]".into(),
        Some(wire) => decode::name(&wire),
        None => oid.to_string(),
    }
}

/// Returns a text without the ends of lines of its source.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns a batch of `pg_proc` with the functions, in no schema yet.
pub(crate) fn rows(functions: &[OwnFunction], schema: &SchemaRef) -> Result<RecordBatch> {
    let value = |function: &OwnFunction, column: &str| -> Option<String> {
        let is_table = function.kind == FunctionKind::Table;
        Some(match column {
            "oid" => function.oid.to_string(),
            "proname" | "prosrc" => function.name.clone(),
            "pronamespace" => "0".into(),
            "proowner" => "10".into(),
            // The language C, of functions that are no SQL.
            "prolang" => "13".into(),
            "procost" => "1".into(),
            "prorows" => if is_table { "1000" } else { "0" }.into(),
            "provariadic" | "pronargdefaults" => "0".into(),
            "prosupport" => "-".into(),
            "prokind" => if function.kind == FunctionKind::Aggregate { "a" } else { "f" }.into(),
            "prosecdef" | "proleakproof" => "false".into(),
            "proisstrict" => (function.kind == FunctionKind::Scalar).to_string(),
            "proretset" => is_table.to_string(),
            "provolatile" => if is_table { "v" } else { "i" }.into(),
            "proparallel" => "s".into(),
            "pronargs" => function.types.len().to_string(),
            "prorettype" => function.result_type.to_string(),
            "proargtypes" => function.types.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
            "proargnames" => format!("{{{}}}", function.names.join(",")),
            _ => return None,
        })
    };
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
        let texts: ArrayRef =
            Arc::new(functions.iter().map(|function| value(function, field.name())).collect::<StringArray>());
        Ok(cast(&texts, field.data_type())?)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
}

/// Puts the functions in a batch of `pg_proc` into the schema of this number.
pub(crate) fn place(batch: &RecordBatch, functions: &[OwnFunction], namespace: i32) -> Result<RecordBatch> {
    let (oid, place) = (batch.schema().index_of("oid")?, batch.schema().index_of("pronamespace")?);
    let own = FIRST..FIRST + functions.len() as i32;
    let oids = batch.column(oid).as_primitive::<Int32Type>();
    let placed = oids.iter().zip(batch.column(place).as_primitive::<Int32Type>());
    let placed =
        placed.map(|(oid, known)| if oid.is_some_and(|oid| own.contains(&oid)) { Some(namespace) } else { known });
    let mut columns = batch.columns().to_vec();
    columns[place] = Arc::new(placed.collect::<Int32Array>());
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Registers `pg_get_function_arguments(oid)`, `pg_get_function_identity_arguments(oid)` and `pg_get_function_result(oid)`.
pub(crate) fn register(context: &SessionContext, functions: &[OwnFunction]) {
    type Text = fn(&OwnFunction) -> &str;
    let arguments: Text = |function| &function.arguments;
    let result: Text = |function| &function.result;
    for (name, text) in [
        ("pg_get_function_arguments", arguments),
        ("pg_get_function_identity_arguments", arguments),
        ("pg_get_function_result", result),
    ] {
        let texts = functions.iter().map(|function| (function.oid, text(function).to_owned())).collect();
        let signature = Signature::exact(vec![DataType::Int32], Volatility::Stable);
        context.register_udf(ScalarUDF::new_from_impl(FunctionTextFunction { name, texts, signature }));
    }
}

/// Returns the descriptions of functions, by their numbers.
pub(crate) fn descriptions(functions: &[OwnFunction]) -> HashMap<i32, String> {
    functions.iter().map(|function| (function.oid, function.description.clone())).collect()
}

/// A function of the number of a function.
#[derive(Debug)]
struct FunctionTextFunction {
    name: &'static str,
    texts: HashMap<i32, String>,
    signature: Signature,
}

// No two functions have one name.
impl PartialEq for FunctionTextFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for FunctionTextFunction {}

impl Hash for FunctionTextFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for FunctionTextFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let oids = args.args[0].to_array(args.number_rows)?;
        let text = |oid: Option<i32>| self.texts.get(&oid?).map(String::as_str);
        let texts: StringArray = oids.as_primitive::<Int32Type>().iter().map(text).collect();
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}
