//! A scalar function: a kernel with a name and a documentation.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::interrupt::{self, Interrupt};

/// The computation of a function, the same from the same arguments.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// Returns the types that arguments are cast to; `None` if the function does not take arguments of these types.
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>>;

    /// Returns the type of the results.
    fn return_type(&self) -> DataType;

    /// Computes the results for rows of arguments of coerced types. Long computations check the interrupt now and then.
    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue>;
}

/// Makes the function of a kernel; parameters have the names of the documented arguments.
pub(crate) fn function(name: &'static str, documentation: Documentation, kernel: impl Kernel) -> ScalarUDF {
    let arguments = documentation.arguments.iter().flatten();
    let names = arguments.map(|(name, _)| name.clone()).collect();
    let signature = Signature { parameter_names: Some(names), ..Signature::user_defined(Volatility::Immutable) };
    ScalarUDF::from(KernelFunction { name, signature, documentation, kernel })
}

struct KernelFunction<K> {
    name: &'static str,
    signature: Signature,
    documentation: Documentation,
    kernel: K,
}

impl<K> fmt::Debug for KernelFunction<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

// Each function has a name of its own.
impl<K> PartialEq for KernelFunction<K> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<K> Eq for KernelFunction<K> {}

impl<K> Hash for KernelFunction<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl<K: Kernel> ScalarUDFImpl for KernelFunction<K> {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match self.kernel.coerce(types) {
            Some(coerced) => Ok(coerced),
            None => plan_err!("function {} does not take {types:?}", self.documentation.syntax_example),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kernel.return_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = Arc::clone(&args.config_options);
        interrupt::run(&options, |interrupt| self.kernel.invoke(args, interrupt))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// Returns true if an argument of this type is cast to text: strings as any program has them, and NULL.
pub(crate) fn is_text(given: &DataType) -> bool {
    match given {
        DataType::Dictionary(_, value) => value.is_string(),
        given => given.is_string() || given.is_null(),
    }
}
