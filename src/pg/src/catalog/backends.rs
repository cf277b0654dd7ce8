//! `pg_cancel_backend` and `pg_terminate_backend`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use neuroql_access::Role;

use crate::wire::error_response::Failed;
use crate::wire::interrupt::{Registry, Signal};

/// Registers the functions for a connection of a user.
pub(crate) fn register(context: &SessionContext, registry: &Arc<Registry>, role: &Role) {
    for (name, signal) in [("pg_cancel_backend", Signal::Cancel), ("pg_terminate_backend", Signal::Terminate)] {
        // A number in a statement is a bigint.
        let types = vec![TypeSignature::Any(1), TypeSignature::Any(2)];
        context.register_udf(ScalarUDF::from(OnBackend {
            name,
            signal,
            registry: Shared(Arc::clone(registry)),
            role: role.clone(),
            signature: Signature::one_of(types, Volatility::Volatile),
        }));
    }
}

/// The connections inside a function, which DataFusion wants to compare and hash.
#[derive(Debug)]
struct Shared(Arc<Registry>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Function of a connection's number, and of milliseconds to wait for its end, which it ignores.
#[derive(Debug)]
struct OnBackend {
    name: &'static str,
    signal: Signal,
    registry: Shared,
    role: Role,
    signature: Signature,
}

impl PartialEq for OnBackend {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.registry == other.registry && self.role.name == other.role.name
    }
}

impl Eq for OnBackend {}

impl Hash for OnBackend {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, &self.role.name).hash(state);
    }
}

impl ScalarUDFImpl for OnBackend {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pids: ArrayRef = args.args[0].to_array(args.number_rows)?;
        let pids = cast(&pids, &DataType::Int32)?;
        let done = pids.as_primitive::<Int32Type>().iter().map(|pid| {
            let signal = |pid| self.registry.0.signal(pid, self.signal, &self.role);
            pid.map(signal).transpose().map_err(|error| DataFusionError::External(Box::new(Failed(error))))
        });
        Ok(ColumnarValue::Array(Arc::new(done.collect::<Result<BooleanArray>>()?)))
    }
}
