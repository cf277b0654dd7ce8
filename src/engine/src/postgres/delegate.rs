//! Methods that wrap a function of DataFusion and leave it as it is.

/// Defines the named methods of a user-defined function's trait (`ScalarUDFImpl`, `AggregateUDFImpl`, `WindowUDFImpl`) as those of
/// `self.function`. `scalar` and `aggregate` stand for all of a function that differs only in the values it computes.
macro_rules! delegate {
    ($($method:ident),+) => { $(delegate!(@ $method);)+ };
    (@ scalar) => {
        delegate!(
            name,
            aliases,
            signature,
            return_type,
            return_field_from_args,
            coerce_types,
            documentation,
            is_strict,
            simplify
        );
    };
    (@ aggregate) => {
        delegate!(
            name,
            aliases,
            signature,
            return_type,
            documentation,
            is_nullable,
            state_fields,
            groups_accumulator_supported,
            order_sensitivity,
            set_monotonicity,
            value_from_stats
        );
    };
    (@ name) => {
        fn name(&self) -> &str {
            self.function.name()
        }
    };
    (@ aliases) => {
        fn aliases(&self) -> &[String] {
            self.function.aliases()
        }
    };
    (@ signature) => {
        fn signature(&self) -> &datafusion::logical_expr::Signature {
            self.function.signature()
        }
    };
    (@ return_type) => {
        fn return_type(
            &self,
            arguments: &[datafusion::arrow::datatypes::DataType],
        ) -> datafusion::error::Result<datafusion::arrow::datatypes::DataType> {
            self.function.return_type(arguments)
        }
    };
    (@ return_field_from_args) => {
        fn return_field_from_args(
            &self,
            args: datafusion::logical_expr::ReturnFieldArgs,
        ) -> datafusion::error::Result<datafusion::arrow::datatypes::FieldRef> {
            self.function.return_field_from_args(args)
        }
    };
    (@ coerce_types) => {
        fn coerce_types(
            &self,
            arguments: &[datafusion::arrow::datatypes::DataType],
        ) -> datafusion::error::Result<Vec<datafusion::arrow::datatypes::DataType>> {
            self.function.coerce_types(arguments)
        }
    };
    (@ documentation) => {
        fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
            self.function.documentation()
        }
    };
    (@ is_strict) => {
        fn is_strict(&self) -> bool {
            self.function.is_strict()
        }
    };
    (@ simplify) => {
        fn simplify(
            &self,
            args: Vec<datafusion::logical_expr::Expr>,
            info: &datafusion::logical_expr::simplify::SimplifyContext,
        ) -> datafusion::error::Result<datafusion::logical_expr::simplify::ExprSimplifyResult> {
            self.function.simplify(args, info)
        }
    };
    (@ is_nullable) => {
        fn is_nullable(&self) -> bool {
            self.function.is_nullable()
        }
    };
    (@ order_sensitivity) => {
        fn order_sensitivity(&self) -> datafusion::logical_expr::utils::AggregateOrderSensitivity {
            self.function.inner().order_sensitivity()
        }
    };
    (@ set_monotonicity) => {
        fn set_monotonicity(
            &self,
            data_type: &datafusion::arrow::datatypes::DataType,
        ) -> datafusion::logical_expr::SetMonotonicity {
            self.function.inner().set_monotonicity(data_type)
        }
    };
    (@ value_from_stats) => {
        fn value_from_stats(
            &self,
            statistics: &datafusion::logical_expr::StatisticsArgs,
        ) -> Option<datafusion::scalar::ScalarValue> {
            self.function.value_from_stats(statistics)
        }
    };
    (@ groups_accumulator_supported) => {
        fn groups_accumulator_supported(&self, args: datafusion::logical_expr::function::AccumulatorArgs) -> bool {
            self.function.groups_accumulator_supported(args)
        }
    };
    (@ state_fields) => {
        fn state_fields(
            &self,
            args: datafusion::logical_expr::function::StateFieldsArgs,
        ) -> datafusion::error::Result<Vec<datafusion::arrow::datatypes::FieldRef>> {
            self.function.state_fields(args)
        }
    };
}
