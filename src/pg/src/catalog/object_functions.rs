//! `regclass(x)` and its kin, into which casts to these types are rewritten; `to_regclass` and `pg_typeof`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::error::Result;
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::keys::{self, PLAIN};
use crate::catalog::objects::{ObjectKind, Objects};
use crate::encode::column;
use crate::wire::error_response::external;

/// The prefix of the name of the function that writes values of a type.
pub(crate) const WRITES: &str = "neuroql_name_of_";

/// Name of the function of the options of an identity column: `neuroql_identity(table, column)`.
pub(crate) const IDENTITY: &str = "neuroql_identity";

/// Registers the functions for a connection.
pub(crate) fn register(context: &SessionContext, objects: &Arc<Objects>) {
    let kinds = [
        ("regclass", "to_regclass", ObjectKind::Class),
        ("regtype", "to_regtype", ObjectKind::Type),
        ("regproc", "to_regproc", ObjectKind::Function),
        ("regprocedure", "to_regprocedure", ObjectKind::Function),
        ("regnamespace", "to_regnamespace", ObjectKind::Schema),
        ("regrole", "to_regrole", ObjectKind::Role),
    ];
    for (name, lenient, kind) in kinds {
        for (name, conversion) in [
            (name.to_owned(), Conversion::ToOid),
            (lenient.to_owned(), Conversion::TryToOid),
            (format!("{WRITES}{name}"), Conversion::ToName),
        ] {
            let objects = PtrEq::from(Arc::clone(objects));
            let signature = Signature::any(1, Volatility::Stable);
            context.register_udf(ScalarUDF::new_from_impl(ObjectFunction {
                name,
                conversion,
                kind,
                objects,
                signature,
            }));
        }
    }
    for (name, text, most) in [
        ("obj_description", ObjectText::Comment, 2),
        ("col_description", ObjectText::ColumnComment, 2),
        ("pg_get_indexdef", ObjectText::Definition, 3),
        ("pg_get_constraintdef", ObjectText::Definition, 3),
        ("pg_get_viewdef", ObjectText::View, 2),
        (IDENTITY, ObjectText::Identity, 2),
    ] {
        let forms = (1..=most).map(TypeSignature::Any).collect();
        let signature = Signature::one_of(forms, Volatility::Stable);
        let objects = PtrEq::from(Arc::clone(objects));
        context.register_udf(ScalarUDF::new_from_impl(TextFunction { name, text, objects, signature }));
    }
    let forms = [DataType::Int32, DataType::Int64].map(|oid| TypeSignature::Exact(vec![oid]));
    context.register_udf(ScalarUDF::new_from_impl(TableIsVisible {
        objects: PtrEq::from(Arc::clone(objects)),
        signature: Signature::one_of(forms.to_vec(), Volatility::Stable),
    }));
    context.register_udf(ScalarUDF::new_from_impl(PgTypeof { signature: Signature::any(1, Volatility::Stable) }));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Conversion {
    /// Converts a name, which must exist, or a number to a number.
    ToOid,
    /// Converts a name to a number, NULL if it does not exist.
    TryToOid,
    /// Converts a number to a name.
    ToName,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ObjectFunction {
    name: String,
    conversion: Conversion,
    kind: ObjectKind,
    objects: PtrEq<Arc<Objects>>,
    signature: Signature,
}

impl ObjectFunction {
    fn apply(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let objects = &self.objects;
        let numbers = column.data_type().is_integer() || column.data_type().is_null();
        Ok(match self.conversion {
            Conversion::ToName => {
                let column = cast(column, &DataType::Int32)?;
                let name = |number| Some(objects.name(self.kind, number?));
                Arc::new(column.as_primitive::<Int32Type>().iter().map(name).collect::<StringArray>())
            }
            Conversion::ToOid if numbers => cast(column, &DataType::Int32)?,
            Conversion::ToOid | Conversion::TryToOid => {
                let column = cast(column, &DataType::Utf8)?;
                let number = |text: Option<&str>| -> Result<Option<i32>> {
                    let Some(text) = text else { return Ok(None) };
                    match self.conversion {
                        Conversion::TryToOid => objects.find(self.kind, text).map_err(external),
                        _ => objects.number(self.kind, text).map(Some).map_err(external),
                    }
                };
                Arc::new(column.as_string::<i32>().iter().map(number).collect::<Result<Int32Array>>()?)
            }
        })
    }
}

impl ScalarUDFImpl for ObjectFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.conversion == Conversion::ToName { DataType::Utf8 } else { DataType::Int32 })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let field = Field::new(&self.name, self.return_type(&[])?, true);
        let read = self.conversion != Conversion::ToName;
        Ok(Arc::new(if read { field.with_metadata(column::mark(&self.kind.wire())) } else { field }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(value) => {
                let found = self.apply(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
            }
            ColumnarValue::Array(column) => Ok(ColumnarValue::Array(self.apply(column)?)),
        }
    }
}

/// A text about objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ObjectText {
    /// Comments on tables and functions: `obj_description(oid [, catalog])`.
    Comment,
    /// Comments on columns: `col_description(oid, column)`.
    ColumnComment,
    /// Statements that define keys: `pg_get_indexdef(oid [, column, pretty])`, `pg_get_constraintdef(oid [, pretty])`.
    Definition,
    /// Queries of views: `pg_get_viewdef(oid or name [, pretty])`.
    View,
    /// The options of an identity column, which SQLAlchemy asks for.
    Identity,
}

impl ObjectText {
    fn read(self, objects: &Objects, args: &ScalarFunctionArgs) -> Result<StringArray> {
        let column = |index: usize, data_type: &DataType| -> Result<ArrayRef> {
            Ok(cast(&args.args[index].to_array(args.number_rows)?, data_type)?)
        };
        let oids = match self {
            Self::View => objects_named(objects, &column(0, &args.args[0].data_type())?)?,
            _ => column(0, &DataType::Int32)?,
        };
        let oids = oids.as_primitive::<Int32Type>();
        Ok(match (self, args.args.len()) {
            (Self::Identity, 2) => {
                let columns = column(1, &DataType::Int32)?;
                let columns = columns.as_primitive::<Int32Type>();
                oids.iter().zip(columns).map(|(oid, column)| objects.identity(oid?, column?)).collect()
            }
            (Self::ColumnComment, 2) => {
                let columns = column(1, &DataType::Int32)?;
                let columns = columns.as_primitive::<Int32Type>();
                oids.iter().zip(columns).map(|(oid, column)| objects.comment(oid?, column?)).collect()
            }
            (Self::Comment | Self::ColumnComment | Self::Identity, given) => {
                let catalogs = match given {
                    2 => column(1, &DataType::Utf8)?,
                    _ => new_null_array(&DataType::Utf8, args.number_rows),
                };
                let describe = |(oid, catalog): (Option<i32>, Option<&str>)| -> Option<Arc<str>> {
                    let (class, constraint) = (|| objects.comment(oid?, 0), || objects.constraint_comment(oid?));
                    let function = || objects.description(oid?).map(Arc::from);
                    match catalog {
                        Some("pg_class") => class(),
                        Some("pg_constraint") => constraint(),
                        Some("pg_proc") => function(),
                        None => class().or_else(constraint).or_else(function),
                        Some(_) => None,
                    }
                };
                oids.iter().zip(catalogs.as_string::<i32>()).map(describe).collect()
            }
            (Self::View, _) => oids.iter().map(|oid| objects.definition(oid?, keys::VIEW)).collect(),
            (Self::Definition, 2) => {
                let plain = column(1, &DataType::Boolean)?;
                let definition = |(oid, plain): (Option<i32>, Option<bool>)| {
                    let plainly = plain?.then(|| objects.definition(oid?, PLAIN)).flatten();
                    plainly.or_else(|| objects.definition(oid?, 0))
                };
                oids.iter().zip(plain.as_boolean()).map(definition).collect()
            }
            (Self::Definition, given) => {
                let columns = match given {
                    3 => column(1, &DataType::Int32)?,
                    _ => Arc::new(Int32Array::from(vec![0; args.number_rows])),
                };
                let columns = columns.as_primitive::<Int32Type>();
                let definition = |(oid, column): (Option<i32>, Option<i32>)| {
                    let (oid, column) = (oid?, column?);
                    // An index has no text for columns that it does not have.
                    let missing = || objects.definition(oid, 0).map(|_| String::new());
                    objects.definition(oid, column).or_else(missing)
                };
                oids.iter().zip(columns).map(definition).collect()
            }
        })
    }
}

/// Returns the numbers of relations, which may be given by their names.
fn objects_named(objects: &Objects, given: &ArrayRef) -> Result<ArrayRef> {
    if !matches!(given.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Ok(cast(given, &DataType::Int32)?);
    }
    let names = cast(given, &DataType::Utf8)?;
    let number = |name: Option<&str>| name.map(|name| objects.number(ObjectKind::Class, name).map_err(external));
    let numbers = names.as_string::<i32>().iter().map(|name| number(name).transpose());
    Ok(Arc::new(numbers.collect::<Result<Int32Array>>()?))
}

/// A function of the numbers of objects, which returns a text about each.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextFunction {
    name: &'static str,
    text: ObjectText,
    objects: PtrEq<Arc<Objects>>,
    signature: Signature,
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let field = Field::new(self.name, DataType::Utf8, true);
        let is_json = self.text == ObjectText::Identity;
        Ok(Arc::new(if is_json { field.with_metadata(column::mark(&Type::JSON)) } else { field }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.text.read(&self.objects, &args)?)))
    }
}

/// `pg_table_is_visible(oid)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TableIsVisible {
    objects: PtrEq<Arc<Objects>>,
    signature: Signature,
}

impl ScalarUDFImpl for TableIsVisible {
    fn name(&self) -> &str {
        "pg_table_is_visible"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let oids = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Int32)?;
        let visible = oids.as_primitive::<Int32Type>().iter().map(|oid| self.objects.is_visible(oid?));
        Ok(ColumnarValue::Array(Arc::new(visible.collect::<BooleanArray>())))
    }
}

/// `pg_typeof(any)`: the type as which a value is sent.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PgTypeof {
    signature: Signature,
}

impl ScalarUDFImpl for PgTypeof {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Int32, true).with_metadata(column::mark(&Type::REGTYPE))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let oid = column::wire_oid(&args.arg_fields[0]);
        Ok(ColumnarValue::Scalar(ScalarValue::Int32(i32::try_from(oid).ok())))
    }
}
