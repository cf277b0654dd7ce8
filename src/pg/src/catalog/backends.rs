//! `pg_cancel_backend` and `pg_terminate_backend`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result;
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use neuroql_access::User;

use crate::wire::error_response::external;
use crate::wire::interrupt::{ConnectionRegistry, Signal};

/// Registers the functions for a connection of a user.
pub(crate) fn register(context: &SessionContext, registry: &Arc<ConnectionRegistry>, user: &User) {
    for (name, signal) in [("pg_cancel_backend", Signal::Cancel), ("pg_terminate_backend", Signal::Terminate)] {
        // A number in a statement is a bigint.
        let (pid, number) = (DataType::Int32, DataType::Int64);
        let types = [vec![pid.clone()], vec![number.clone()], vec![pid, number.clone()], vec![number.clone(), number]];
        let types = types.map(TypeSignature::Exact).to_vec();
        context.register_udf(ScalarUDF::from(BackendFunction {
            name,
            signal,
            registry: PtrEq::from(Arc::clone(registry)),
            user: user.clone(),
            signature: Signature::one_of(types, Volatility::Volatile),
        }));
    }
}

/// Function of a connection's number, and of milliseconds to wait for its end, which it ignores.
#[derive(Debug)]
struct BackendFunction {
    name: &'static str,
    signal: Signal,
    registry: PtrEq<Arc<ConnectionRegistry>>,
    user: User,
    signature: Signature,
}

impl PartialEq for BackendFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.registry == other.registry && self.user.name == other.user.name
    }
}

impl Eq for BackendFunction {}

impl Hash for BackendFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, &self.user.name).hash(state);
    }
}

impl ScalarUDFImpl for BackendFunction {
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
            let signal = |pid| self.registry.signal(pid, self.signal, &self.user);
            pid.map(signal).transpose().map_err(external)
        });
        Ok(ColumnarValue::Array(Arc::new(done.collect::<Result<BooleanArray>>()?)))
    }
}
