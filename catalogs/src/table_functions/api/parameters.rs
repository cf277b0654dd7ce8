//! Parameters of table functions, and their values in a call.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use neuroql_model::Model;
use neuroql_schema::{Rights, sql_error};

use super::Ranges;
use crate::Error;
use crate::imports::Import;
use crate::state::EngineState;

/// A parameter of a table function.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub name: &'static str,
    /// Name of its column; another than its own if an output has that name.
    pub column: &'static str,
    pub data_type: DataType,
    /// Value if the query gives none.
    pub default: Option<ScalarValue>,
}

impl Parameter {
    /// Creates a parameter that every query must give.
    pub fn required(name: &'static str, data_type: DataType) -> Self {
        Self { name, column: name, data_type, default: None }
    }

    /// Creates a parameter with a default.
    pub fn with_default(name: &'static str, default: impl Into<ScalarValue>) -> Self {
        let default = default.into();
        Self { name, column: name, data_type: default.data_type(), default: Some(default) }
    }

    /// Creates a parameter that is a text, by default NULL.
    pub fn optional_text(name: &'static str) -> Self {
        Self::with_default(name, ScalarValue::Utf8(None))
    }

    /// Gives the parameter a column of another name.
    pub fn in_column(self, column: &'static str) -> Self {
        Self { column, ..self }
    }

    /// Creates a parameter that is a whole number, by default NULL.
    pub fn optional_number(name: &'static str) -> Self {
        Self::with_default(name, ScalarValue::Int64(None))
    }
}

/// A value for each parameter of a call, read by name.
#[derive(Debug, Clone)]
pub(crate) struct ParameterValues {
    function: &'static str,
    values: Vec<(Parameter, ScalarValue)>,
    /// Rights of the caller.
    rights: Rights,
}

impl ParameterValues {
    /// Reads the values of a table function's parameters from filters, or takes their defaults.
    ///
    /// # Errors
    /// Returns an error if a parameter has no value, two values, or one of another type.
    pub fn of(function: &'static str, parameters: Vec<Parameter>, filters: &[Expr]) -> Result<Self> {
        let value = |parameter: Parameter| {
            let mut given = filters.iter().filter_map(|filter| given(filter, parameter.column));
            let value = match (given.next(), given.next(), parameter.default.clone()) {
                (Some(a), Some(b), _) if a != b => {
                    let reason = format!("is asked to be both {a} and {b}");
                    Err(Error::InvalidParameter { function, parameter: parameter.name.into(), reason })
                }
                (Some(value), ..) => converted(&value, &parameter.data_type)
                    .map_err(|reason| Error::InvalidParameter { function, parameter: parameter.name.into(), reason }),
                (None, _, Some(default)) => Ok(default),
                (None, _, None) => Err(Error::MissingParameter { function, parameter: parameter.name }),
            };
            Ok((parameter, value?))
        };
        let values = parameters.into_iter().map(value).collect::<Result<_>>()?;
        Ok(Self { function, values, rights: Rights::default() })
    }

    /// Gives the call the rights of its caller; without them it may read every model.
    pub fn with_rights(self, rights: Rights) -> Self {
        Self { rights, ..self }
    }

    /// The value of a parameter as it is.
    pub fn get(&self, parameter: &str) -> Option<&ScalarValue> {
        self.values.iter().find(|(of, _)| of.name == parameter).map(|(_, value)| value)
    }

    /// The value in a parameter's column.
    pub fn in_column(&self, column: &str) -> Option<&ScalarValue> {
        self.values.iter().find(|(of, _)| of.column == column).map(|(_, value)| value)
    }

    /// The error that a parameter's value is wrong; the reason goes on a sentence that begins with its name.
    pub fn invalid(&self, parameter: &str, reason: impl Display) -> Error {
        let (parameter, reason) = (parameter.to_owned(), reason.to_string());
        Error::InvalidParameter { function: self.function, parameter, reason }
    }

    /// Returns a text; `None` is NULL.
    pub fn optional_text(&self, parameter: &str) -> Option<&str> {
        self.get(parameter)?.try_as_str().flatten()
    }

    /// Returns a text.
    pub fn text(&self, parameter: &str) -> Result<&str, Error> {
        self.optional_text(parameter).ok_or_else(|| self.invalid(parameter, "is NULL"))
    }

    /// Parses a text that stands for something else, such as a method.
    pub fn parsed<T: FromStr<Err: Display>>(&self, parameter: &str) -> Result<T, Error> {
        self.text(parameter)?.parse().map_err(|error: T::Err| self.invalid(parameter, error))
    }

    /// Returns a whole number of a range; `None` is NULL.
    pub fn optional_number(&self, parameter: &str, range: RangeInclusive<i64>) -> Result<Option<u64>, Error> {
        match self.get(parameter) {
            Some(ScalarValue::Int64(None)) => Ok(None),
            _ => self.number(parameter, range).map(Some),
        }
    }

    /// Returns a whole number of a range that begins at or above 0.
    pub fn number(&self, parameter: &str, range: RangeInclusive<i64>) -> Result<u64, Error> {
        match self.get(parameter) {
            Some(ScalarValue::Int64(Some(n))) if range.contains(n) => Ok(n.unsigned_abs()),
            other => Err(self.out_of(parameter, other, range)),
        }
    }

    /// Returns a number of a range.
    pub fn real(&self, parameter: &str, range: RangeInclusive<f64>) -> Result<f64, Error> {
        match self.get(parameter) {
            Some(ScalarValue::Float64(Some(x))) if range.contains(x) => Ok(*x),
            other => Err(self.out_of(parameter, other, range)),
        }
    }

    fn out_of<T: Display + RangeBound>(&self, name: &str, is: Option<&ScalarValue>, range: RangeInclusive<T>) -> Error {
        let is = is.map_or_else(|| "NULL".to_owned(), ToString::to_string);
        match range.end().is_greatest() {
            true => self.invalid(name, format!("is {is}, expected a number from {}", range.start())),
            false => self.invalid(name, format!("is {is}, expected {} to {}", range.start(), range.end())),
        }
    }

    /// Returns a truth value; NULL is false.
    pub fn flag(&self, parameter: &str) -> bool {
        self.get(parameter) == Some(&ScalarValue::Boolean(Some(true)))
    }

    /// The model that the parameter `model` names.
    pub fn model(&self, engine: &EngineState) -> Result<Arc<Model>> {
        self.model_named(engine, self.text("model")?)
    }

    /// The model of a name, if the caller may use it.
    pub fn model_named(&self, engine: &EngineState, name: &str) -> Result<Arc<Model>> {
        self.rights.check_schema(name)?;
        engine.registry.get_among(name, |known| self.rights.may_use(known)).map_err(sql_error)
    }

    /// The model that a parameter names, if it does.
    pub fn optional_model(&self, engine: &EngineState, parameter: &str) -> Result<Option<Arc<Model>>> {
        self.optional_text(parameter).map(|name| self.model_named(engine, name)).transpose()
    }

    /// The models that the caller may use, in the order of their names.
    pub fn models(&self, engine: &EngineState) -> Vec<Arc<Model>> {
        engine.registry.list().into_iter().filter(|model| self.rights.may_use(model.name())).collect()
    }

    /// The published data of a name, if there is any and the caller may use it.
    pub fn import_named(&self, engine: &EngineState, name: &str) -> Result<Option<Arc<Import>>> {
        self.rights.check_schema(name)?;
        Ok(engine.imports.get(name))
    }

    /// The layer of a model that the parameter `layer` names, and the neuron that `neuron` does; `None` is NULL.
    pub fn place(&self, model: &Model) -> Result<(Option<u32>, Option<u32>), Error> {
        let number = |parameter: &str, count: usize| {
            let number = self.optional_number(parameter, 0..=u32::MAX.into())?.map(|number| number as u32);
            match number.filter(|number| *number as usize >= count) {
                Some(number) => Err(self.no_such(parameter, parameter, number, count)),
                None => Ok(number),
            }
        };
        let layer = number("layer", model.config().layers)?;
        if let Some(layer) = layer {
            self.read(model, "layer", &[layer])?;
        }
        Ok((layer, number("neuron", model.neurons_per_layer())?))
    }

    /// Returns an error if a model is not read at one of these layers.
    fn read(&self, model: &Model, parameter: &str, layers: &[u32]) -> Result<(), Error> {
        let unread = layers.iter().find_map(|layer| model.check_layer((*layer).into()).err());
        unread.map_or(Ok(()), |error| Err(self.invalid(parameter, format!("cannot be used: {error}"))))
    }

    fn no_such(&self, parameter: &str, what: &str, number: u32, count: usize) -> Error {
        self.invalid(parameter, format!("names {what} {number}; the model has {what}s 0 to {}", count - 1))
    }

    /// The layers of a model that a parameter names, ascending; all of them if it is NULL.
    pub fn layers(&self, parameter: &str, model: &Model) -> Result<Vec<u32>, Error> {
        let layers = self.ranges(parameter, "layer", model.config().layers)?;
        if self.optional_text(parameter).is_none() {
            return Ok(model.layers_read().map(|layer| layer as u32).collect());
        }
        self.read(model, parameter, &layers)?;
        Ok(layers)
    }

    /// The neurons of a layer that the parameter `neurons` names, ascending; all of them if it is NULL.
    pub fn neurons(&self, model: &Model) -> Result<Vec<u32>, Error> {
        self.ranges("neurons", "neuron", model.neurons_per_layer())
    }

    fn ranges(&self, parameter: &str, what: &str, count: usize) -> Result<Vec<u32>, Error> {
        let Some(text) = self.optional_text(parameter) else { return Ok((0..count as u32).collect()) };
        let ranges: Ranges = text.parse().map_err(|reason: String| self.invalid(parameter, reason))?;
        ranges.below(count as u32).map_err(|number| self.no_such(parameter, what, number, count))
    }
}

/// Numbers that ranges end with.
trait RangeBound {
    /// Returns true if a range up to it has no end.
    fn is_greatest(&self) -> bool;
}

impl RangeBound for i64 {
    fn is_greatest(&self) -> bool {
        *self == Self::MAX
    }
}

impl RangeBound for f64 {
    fn is_greatest(&self) -> bool {
        *self == Self::INFINITY
    }
}

/// Converts a value to a parameter's type, or returns the reason why it cannot; the reason goes on a sentence that
/// begins with the parameter's name.
fn converted(value: &ScalarValue, to: &DataType) -> Result<ScalarValue, String> {
    let cast = value.cast_to(to).ok().filter(|cast| {
        // A cast drops fractions.
        let is_fraction = to.is_integer() && (value.data_type().is_floating() || value.data_type().is_decimal());
        !is_fraction || cast.cast_to(&value.data_type()).is_ok_and(|back| back == *value)
    });
    cast.ok_or_else(|| match to {
        to if to.is_integer() => format!("is {value}, expected a whole number"),
        to if to.is_numeric() => format!("is {value}, expected a number"),
        _ => format!("is {value}, which is of the wrong type"),
    })
}

/// The value that a filter gives to a parameter. The optimizer makes `p = true` of a boolean to `p`, and
/// `p IS NOT DISTINCT FROM NULL` to `p IS NULL`; a value of another type compares with a cast of `p`.
pub(super) fn given(filter: &Expr, parameter: &str) -> Option<ScalarValue> {
    let is_parameter = |expr: &Expr| {
        let expr = match expr {
            Expr::Cast(cast) => &*cast.expr,
            // The engine's own cast.
            Expr::ScalarFunction(cast) if cast.name() == "pg_cast" && cast.args.len() == 1 => &cast.args[0],
            expr => expr,
        };
        matches!(expr, Expr::Column(column) if column.name == parameter)
    };
    match filter {
        Expr::Not(inner) if is_parameter(inner) => Some(false.into()),
        filter if is_parameter(filter) => Some(true.into()),
        Expr::IsNull(inner) if is_parameter(inner) => Some(ScalarValue::Null),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::IsNotDistinctFrom, right }) => {
            match (&**left, &**right) {
                (column, Expr::Literal(value, _)) | (Expr::Literal(value, _), column) if is_parameter(column) => {
                    Some(value.clone())
                }
                _ => None,
            }
        }
        _ => None,
    }
}
