//! Arguments that are lists of token ids.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};

/// A column of lists of token ids.
pub(crate) struct TokenLists {
    lists: ListArray,
    ids: Int32Array,
}

impl TokenLists {
    /// Returns the type that an argument is cast to; `None` if it cannot be a list of token ids.
    pub fn coerce(given: &DataType) -> Option<DataType> {
        let fits = match given {
            DataType::Null => true,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                item.data_type().is_integer() || item.data_type().is_null()
            }
            _ => false,
        };
        fits.then(|| DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))))
    }

    /// Reads a column of the coerced type.
    pub fn new(column: &ArrayRef) -> Self {
        let lists = column.as_list::<i32>().clone();
        Self { ids: lists.values().as_primitive::<Int32Type>().clone(), lists }
    }

    /// Replaces `tokens` by those of a row; returns false if the row is NULL. No token has the id that stands for NULL
    /// and negative ones.
    pub fn read(&self, row: usize, tokens: &mut Vec<u32>) -> bool {
        tokens.clear();
        if self.lists.is_null(row) {
            return false;
        }
        let offsets = self.lists.value_offsets();
        let range: Range<usize> = offsets[row] as usize..offsets[row + 1] as usize;
        let id = |i: usize| match self.ids.is_valid(i) {
            true => u32::try_from(self.ids.value(i)).unwrap_or(u32::MAX),
            false => u32::MAX,
        };
        tokens.extend(range.map(id));
        true
    }
}
