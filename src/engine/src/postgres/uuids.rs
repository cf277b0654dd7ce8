//! `uuid`: 16 bytes, which no other type of SQL has. Their order is that of the values.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, InList, InSubquery, ScalarFunction, WindowFunction};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    Between, ColumnarValue, Expr, ExprSchemable, Join, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, SortExpr, cast,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::common_types;
use super::refusal::{refusal, type_name};

/// Number of bytes of a value.
const SIZE: i32 = 16;

/// The type of the values in Arrow.
pub const UUID: DataType = DataType::FixedSizeBinary(SIZE);

/// Returns true for the type.
pub fn is_uuid(data_type: &DataType) -> bool {
    *data_type == UUID
}

/// Reads a value as `uuid_in` does: 32 digits, a hyphen after any four of them, braces around all.
///
/// # Errors
/// 22P02 for another text.
pub fn read_uuid(text: &str) -> Result<[u8; 16]> {
    bytes(text).ok_or_else(|| refusal("22P02", format!("invalid input syntax for type uuid: \"{text}\"")))
}

fn bytes(text: &str) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut letters = inner.bytes().peekable();
    let mut value = [0; 16];
    for (place, byte) in value.iter_mut().enumerate() {
        for _ in 0..2 {
            let digit = char::from(letters.next()?).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(digit).ok()?;
        }
        if place % 2 == 1 && place < 15 {
            letters.next_if_eq(&b'-');
        }
    }
    letters.next().is_none().then_some(value)
}

/// Writes a value as `uuid_out` does.
pub fn uuid_text(value: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (place, byte) in value.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    text
}

/// Writes the values of a column, or of arrays; `None` if they are of another type.
pub fn uuid_texts(column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(lists) = column.as_list_opt::<i32>() {
        let texts = uuid_texts(lists.values())?;
        let field = Arc::new(Field::new_list_field(texts.data_type().clone(), true));
        return Some(Arc::new(ListArray::new(field, lists.offsets().clone(), texts, lists.nulls().cloned())));
    }
    is_uuid(column.data_type()).then(|| Arc::new(written(column)) as ArrayRef)
}

/// Writes each value of a column.
pub(super) fn written(column: &ArrayRef) -> StringArray {
    column.as_fixed_size_binary().iter().map(|value| value.map(uuid_text)).collect()
}

/// Reads each text of a column.
pub(super) fn parsed(texts: &StringArray) -> Result<ArrayRef> {
    let values = texts.iter().map(|text| text.map(read_uuid).transpose()).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), SIZE)?))
}

fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|found| is_uuid(&found))
}

/// Returns the text of a constant that has no type yet.
fn unknown_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, None) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Makes a value of a text without a type; returns true if it is one.
fn read(expr: &mut Expr) -> Result<bool> {
    let Some(text) = unknown_text(expr) else { return Ok(false) };
    *expr = Expr::Literal(ScalarValue::FixedSizeBinary(SIZE, Some(read_uuid(text)?.to_vec())), None);
    Ok(true)
}

/// Makes values of the texts without a type beside a value; returns true if there are such.
///
/// # Errors
/// 42883 if another is of a type that is not compared with `uuid`.
fn read_beside(operator: &str, schema: &DFSchema, mut sides: Vec<&mut Expr>) -> Result<bool> {
    if !sides.iter().any(|side| is_of(side, schema)) {
        return Ok(false);
    }
    let mut changed = false;
    for side in &mut sides {
        changed |= read(side)?;
    }
    let types: Vec<DataType> = sides.iter().map(|side| side.get_type(schema).unwrap_or(DataType::Null)).collect();
    match types.iter().find(|found| !is_uuid(found) && !found.is_null()) {
        Some(other) if is_uuid(&types[0]) => Err(no_operator(operator, &types[0], other)),
        Some(other) => Err(no_operator(operator, other, &UUID)),
        None => Ok(changed),
    }
}

fn no_operator(operator: &str, left: &DataType, right: &DataType) -> datafusion::error::DataFusionError {
    let name = |side: &DataType| if side.is_null() { "unknown".to_owned() } else { type_name(side) };
    refusal("42883", format!("operator does not exist: {} {operator} {}", name(left), name(right)))
}

/// Gives the operands of an operator the types that they have beside a `uuid`: a text without a type is read as one, and `||`
/// joins the text of one.
///
/// # Errors
/// 42883 for operators that there are not, 22P02 for a text that is no value.
pub(super) fn operands(
    operator: &BinaryOperator,
    mut left: Expr,
    mut right: Expr,
    schema: &DFSchema,
) -> Result<(Expr, Expr)> {
    use BinaryOperator as Op;
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok((left, right));
    };
    if !is_uuid(&left_type) && !is_uuid(&right_type) {
        return Ok((left, right));
    }
    match operator {
        Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => {
            read_beside(&operator.to_string(), schema, vec![&mut left, &mut right])?;
            Ok((left, right))
        }
        // An element beside an array.
        Op::StringConcat if left_type.is_nested() || right_type.is_nested() => Ok((left, right)),
        Op::StringConcat => {
            let is_text = |side: &DataType| side.is_string() || side.is_null();
            match (is_text(&left_type), is_text(&right_type)) {
                (false, true) => Ok((cast(left, DataType::Utf8), right)),
                (true, false) => Ok((left, cast(right, DataType::Utf8))),
                _ => Err(no_operator("||", &left_type, &right_type)),
            }
        }
        other => Err(no_operator(&other.to_string(), &left_type, &right_type)),
    }
}

/// Reads a text without a type beside a value in a comparison; returns true if there is one.
///
/// # Errors
/// 42883 if only one of the two is a `uuid`, 22P02 for a text that is no value.
pub(super) fn compared(operator: Operator, left: &mut Expr, right: &mut Expr, schema: &DFSchema) -> Result<bool> {
    read_beside(&operator.to_string(), schema, vec![left, right])
}

/// Reads the texts without a type among the items of `IN (…)`; returns true if there are such.
///
/// # Errors
/// 42883 if an item is of another type, 22P02 for a text that is no value.
pub(super) fn in_list(within: &mut InList, schema: &DFSchema) -> Result<bool> {
    let sides = std::iter::once(within.expr.as_mut()).chain(&mut within.list).collect();
    read_beside("=", schema, sides)
}

/// Reads the texts without a type of `BETWEEN`; returns true if there are such.
///
/// # Errors
/// 42883 if a bound is of another type, 22P02 for a text that is no value.
pub(super) fn between(between: &mut Between, schema: &DFSchema) -> Result<bool> {
    let Between { expr, low, high, .. } = between;
    read_beside(">=", schema, vec![expr.as_mut(), low.as_mut(), high.as_mut()])
}

/// Reads the texts without a type that are tested by a CASE; returns true if there are such.
///
/// # Errors
/// 42883 if one of the values is of another type, 22P02 for a text that is no value.
pub(super) fn tested<'a>(
    base: &'a mut Expr,
    whens: impl Iterator<Item = &'a mut Expr>,
    schema: &DFSchema,
) -> Result<bool> {
    read_beside("=", schema, std::iter::once(base).chain(whens).collect())
}

/// Reads a text without a type as a value of the column of `IN (SELECT …)`; returns true if it is one.
///
/// # Errors
/// 42883 if only one of the two is a `uuid`, 22P02 for a text that is no value.
pub(super) fn in_subquery(within: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let column = within.subquery.subquery.schema().field(0).data_type().clone();
    let value = within.expr.get_type(schema).unwrap_or(DataType::Null);
    match (is_uuid(&value), is_uuid(&column)) {
        (false, true) if unknown_text(&within.expr).is_some() => read(&mut within.expr),
        (true, false) | (false, true) if !value.is_null() && !column.is_null() => {
            Err(no_operator("=", &value, &column))
        }
        _ => Ok(false),
    }
}

/// Reads a text without a type that stands for rows which `lag` and `lead` do not find; returns true if it is one.
///
/// # Errors
/// 22P02 for a text that is no value.
pub(super) fn in_place_of_rows(call: &mut WindowFunction, schema: &DFSchema) -> Result<bool> {
    match (call.fun.name(), call.params.args.as_mut_slice()) {
        ("lag" | "lead", [value, _, other]) if is_of(value, schema) => read(other),
        _ => Ok(false),
    }
}

/// Returns true if one of the keys of an order is of the type, of which DataFusion makes no ranges.
pub(super) fn is_key(keys: &[SortExpr], schema: &DFSchema) -> bool {
    keys.iter().any(|key| is_of(&key.expr, schema))
}

/// Casts arguments beside `uuid`, for which the planner has no casts: texts without a type to arrays and elements, and values to
/// texts; returns true if there are such.
///
/// # Errors
/// 42883 for a text that has a type, 22P02 for one that is no value.
pub(super) fn arguments(call: &mut ScalarFunction, schema: &DFSchema) -> Result<bool> {
    if matches!(call.name(), "concat" | "concat_ws") {
        let mut changed = false;
        for value in call.args.iter_mut().filter(|value| is_of(value, schema)) {
            *value = cast(std::mem::take(value), DataType::Utf8);
            changed = true;
        }
        return Ok(changed);
    }
    let [array, item, ..] = call.args.as_mut_slice() else { return Ok(false) };
    let (Ok(array_type), Ok(item_type)) = (array.get_type(schema), item.get_type(schema)) else { return Ok(false) };
    let is_array = matches!(&array_type, DataType::List(element) if is_uuid(element.data_type()));
    match () {
        () if is_array && matches!(item, Expr::Literal(ScalarValue::Null, _)) => {
            *item = Expr::Literal(ScalarValue::FixedSizeBinary(SIZE, None), None);
            Ok(true)
        }
        () if is_array && unknown_text(item).is_some() => read(item),
        () if is_uuid(&item_type) && unknown_text(array).is_some() => {
            *array = cast(std::mem::take(array), DataType::new_list(UUID, true));
            Ok(true)
        }
        () if is_array && item_type.is_string() || is_uuid(&item_type) && array_type.is_string() => {
            Err(no_operator("=", &item_type, &array_type))
        }
        () => Ok(false),
    }
}

/// Returns the types of an array and of what is looked for in it, if one of them is of `uuid` and the other has no type yet.
/// A text stays one, of which the planner has no cast.
pub(super) fn array_and_item(types: &[DataType]) -> Option<Vec<DataType>> {
    let [array, item] = types else { return None };
    let is_array = matches!(array, DataType::List(element) if is_uuid(element.data_type()));
    let is_empty = matches!(array, DataType::List(element) if element.data_type().is_null());
    if is_array && (item.is_string() || item.is_null()) {
        let item = if item.is_null() { UUID } else { item.clone() };
        return Some(vec![array.clone(), item]);
    }
    if is_uuid(item) && (array.is_string() || array.is_null() || is_empty) {
        let array = if array.is_string() { array.clone() } else { DataType::new_list(UUID, true) };
        return Some(vec![array, UUID]);
    }
    None
}

/// Checks an operand of LIKE and its like.
///
/// # Errors
/// 42883 for a `uuid`.
pub(super) fn check_pattern(operand: &Expr, schema: &DFSchema) -> Result<()> {
    match is_of(operand, schema) {
        true => Err(refusal("42883", "operator does not exist: a uuid is matched with no pattern; cast it to text")),
        false => Ok(()),
    }
}

/// Checks that `USING` and its like compare values of one type.
///
/// # Errors
/// 42804.
pub(super) fn check_keys(join: &Join) -> Result<()> {
    for (left, right) in &join.on {
        let (Ok(left), Ok(right)) = (left.get_type(join.left.schema()), right.get_type(join.right.schema())) else {
            continue;
        };
        if is_uuid(&left) != is_uuid(&right) && !left.is_null() && !right.is_null() {
            let (left, right) = (type_name(&left), type_name(&right));
            return Err(refusal("42804", format!("JOIN/USING types {left} and {right} cannot be matched")));
        }
    }
    Ok(())
}

/// Returns the types that arguments which are to be of one type have if one of them is a `uuid`. Texts stay such, of which the
/// planner has no cast: rules read those without a type, and refuse others.
pub(super) fn of_one_type(types: &[DataType]) -> Option<Vec<DataType>> {
    let is_other = |found: &DataType| found.is_string() || found.is_null();
    let is_mixed = types.iter().any(is_uuid) && types.iter().any(is_other);
    if !is_mixed || !types.iter().all(|found| is_uuid(found) || is_other(found)) {
        return None;
    }
    Some(types.iter().map(|found| if found.is_null() { UUID } else { found.clone() }).collect())
}

/// Returns the field of the value of a function whose arguments are to be of one type, if a text is beside a `uuid`.
pub(super) fn field_of_one_type(name: &str, args: &ReturnFieldArgs) -> Option<FieldRef> {
    let types = || args.arg_fields.iter().map(|field| field.data_type());
    let is_mixed = types().any(is_uuid) && types().any(DataType::is_string);
    is_mixed.then(|| Arc::new(Field::new(name, UUID, true)))
}

/// Returns the types that a function needs of arguments of these types.
pub(super) fn coerced(function: &ScalarUDF, types: &[DataType]) -> Result<Vec<DataType>> {
    let fields: Vec<_> = types.iter().map(|found| Arc::new(Field::new("", found.clone(), true))).collect();
    let fields = fields_with_udf(&fields, function)?;
    Ok(fields.iter().map(|field| field.data_type().clone()).collect())
}

/// `greatest` or `least`, among whose arguments a text beside another value is of its type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extreme {
    function: Arc<ScalarUDF>,
}

impl Extreme {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for Extreme {
    delegate!(name, aliases, signature, return_type, documentation, is_strict, simplify);

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match field_of_one_type(self.name(), &args) {
            Some(field) => Ok(field),
            None => self.function.return_field_from_args(args),
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        common_types::of_one_type(types, |types| self.function.coerce_types(types))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.function.invoke_with_args(args)
    }
}

/// `concat` or `concat_ws`, which also write `uuid`; rules make texts of those.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Concatenation {
    function: Arc<ScalarUDF>,
}

impl Concatenation {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

fn as_text(data_type: &DataType) -> DataType {
    if is_uuid(data_type) { DataType::Utf8 } else { data_type.clone() }
}

impl ScalarUDFImpl for Concatenation {
    delegate!(name, aliases, signature, documentation, is_strict, simplify);

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(&types.iter().map(as_text).collect::<Vec<_>>())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = |field: &FieldRef| Arc::new(Field::clone(field).with_data_type(as_text(field.data_type())));
        let fields: Vec<FieldRef> = args.arg_fields.iter().map(field).collect();
        self.function.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, ..args })
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let mut coerced = self.function.coerce_types(&types.iter().map(as_text).collect::<Vec<_>>())?;
        for (found, coerced) in types.iter().zip(&mut coerced) {
            if is_uuid(found) {
                *coerced = UUID;
            }
        }
        Ok(coerced)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.function.invoke_with_args(args)
    }
}

/// Checks the arguments of an aggregate of texts.
///
/// # Errors
/// 42883 for a `uuid`.
pub(super) fn check_aggregate(call: &AggregateFunction, schema: &DFSchema) -> Result<()> {
    match call.params.args.first() {
        Some(first) if call.func.name() == "string_agg" && is_of(first, schema) => {
            Err(refusal("42883", "function string_agg(uuid, unknown) does not exist"))
        }
        _ => Ok(()),
    }
}

/// Checks that a type has an order for `min` and `max`, which PostgreSQL 15 has not for `uuid`.
///
/// # Errors
/// 42883.
pub(super) fn check_extremes(function: &str, types: &[DataType]) -> Result<()> {
    match types {
        [found] if is_uuid(found) => Err(refusal("42883", format!("function {function}(uuid) does not exist"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    /// Reads texts as PostgreSQL 15 does.
    #[test]
    fn texts_are_read() {
        for text in [
            VALUE,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ] {
            assert_eq!(uuid_text(&read_uuid(text).unwrap()), VALUE, "{text}");
        }
        for text in [
            "",
            "x",
            "{",
            "{}",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 ",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
            "-a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0e-ebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1é",
            "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert!(read_uuid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn columns_are_read_and_written() {
        let texts = StringArray::from(vec![Some(VALUE), None, Some("00000000000000000000000000000000")]);
        let values = parsed(&texts).unwrap();
        assert!(is_uuid(values.data_type()));
        let expected = StringArray::from(vec![Some(VALUE), None, Some("00000000-0000-0000-0000-000000000000")]);
        assert_eq!(written(&values), expected);
        assert_eq!(uuid_texts(&values).unwrap().as_string::<i32>(), &expected);
        assert!(uuid_texts(&(Arc::new(texts) as ArrayRef)).is_none());
        assert_eq!(parsed(&StringArray::from(Vec::<Option<&str>>::new())).unwrap().len(), 0);
    }

    #[test]
    fn texts_beside_values_are_values() {
        assert_eq!(of_one_type(&[UUID, DataType::Utf8, DataType::Null]), Some(vec![UUID, DataType::Utf8, UUID]));
        for types in [[UUID, UUID], [UUID, DataType::Binary], [DataType::Utf8, DataType::Null]] {
            assert_eq!(of_one_type(&types), None, "{types:?}");
        }
        let array = DataType::new_list(UUID, true);
        assert_eq!(array_and_item(&[DataType::Null, UUID]), Some(vec![array.clone(), UUID]));
        assert_eq!(array_and_item(&[array.clone(), DataType::Null]), Some(vec![array.clone(), UUID]));
        assert_eq!(array_and_item(&[array, UUID]), None);
    }
}
