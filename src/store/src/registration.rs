//! Registrations as rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;

use crate::analysis::{MalformedColumn, column, list};
use neuroql_schema::tables::MODELS;

/// A model that was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub model: String,
    /// Its location.
    pub location: String,
    /// Options by name.
    pub options: BTreeMap<String, String>,
    /// SHA-256 of its weights when it was registered.
    pub sha256: String,
}

impl Registration {
    pub(crate) fn row(&self) -> Result<RecordBatch, ArrowError> {
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values([value])) };
        let strings = |values: Vec<&String>| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
        let names = strings(self.options.keys().collect());
        let values = strings(self.options.values().collect());
        let schema = Arc::clone(&MODELS);
        let DataType::List(element) = schema.field(2).data_type() else { unreachable!("options are a list") };
        let DataType::Struct(fields) = element.data_type() else { unreachable!("of structs") };
        let options = StructArray::try_new(fields.clone(), vec![names, values], None)?;
        let options = list(std::iter::once(self.options.len()), Arc::new(options));
        let columns = vec![text(&self.model), text(&self.location), Arc::new(options), text(&self.sha256)];
        RecordBatch::try_new(Arc::clone(&MODELS), columns)
    }

    pub(crate) fn from_rows(rows: &RecordBatch) -> Result<Vec<Self>, MalformedColumn> {
        let text = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_string::<i32>());
        let (model, location, sha256) = (text("model")?, text("location")?, text("sha256")?);
        let options = column(rows, "options")?.as_list::<i32>();
        let of_row = |i: usize| {
            let options = options.value(i);
            let options = options.as_struct();
            let (names, values) = (options.column(0).as_string::<i32>(), options.column(1).as_string::<i32>());
            Self {
                model: model.value(i).into(),
                location: location.value(i).into(),
                options: (0..names.len()).map(|j| (names.value(j).into(), values.value(j).into())).collect(),
                sha256: sha256.value(i).into(),
            }
        };
        Ok((0..rows.num_rows()).map(of_row).collect())
    }
}
