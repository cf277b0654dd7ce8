//! Asynchronous methods of DataFusion's traits without `#[async_trait]`.

/// Implements an asynchronous trait method by an inherent one that returns a boxed future of one lifetime.
///
/// `#[async_trait]` writes the same signature around the body. Its `where` clauses are then in scope while the body is
/// type checked, rustc's cache of trait results is not used, and `Send` is proved anew through all of LogicalPlan and
/// Delta's types: 2 to 3 seconds for each method. In an inherent method with one lifetime it takes 0.04.
///
/// The signatures of methods that several types implement are here.
macro_rules! async_method {
    (scan => $inherent:ident) => {
        $crate::async_method::async_method!(scan => $inherent<'session, 'projection, 'filters>(
            session: &'session dyn datafusion::catalog::Session,
            projection: Option<&'projection Vec<usize>>,
            filters: &'filters [datafusion::logical_expr::Expr],
            limit: Option<usize>,
        ) -> std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>);
    };
    (create => $inherent:ident) => {
        $crate::async_method::async_method!(create => $inherent<'session, 'command>(
            session: &'session dyn datafusion::catalog::Session,
            cmd: &'command datafusion::logical_expr::CreateExternalTable,
        ) -> std::sync::Arc<dyn datafusion::catalog::TableProvider>);
    };
    (infer_schema => $inherent:ident) => {
        $crate::async_method::async_method!(infer_schema => $inherent<'session, 'store, 'files>(
            state: &'session dyn datafusion::catalog::Session,
            store: &'store std::sync::Arc<dyn datafusion::object_store::ObjectStore>,
            files: &'files [datafusion::object_store::ObjectMeta],
        ) -> datafusion::arrow::datatypes::SchemaRef);
    };
    (infer_stats => $inherent:ident) => {
        $crate::async_method::async_method!(infer_stats => $inherent<'session, 'store, 'file>(
            state: &'session dyn datafusion::catalog::Session,
            store: &'store std::sync::Arc<dyn datafusion::object_store::ObjectStore>,
            schema: datafusion::arrow::datatypes::SchemaRef,
            file: &'file datafusion::object_store::ObjectMeta,
        ) -> datafusion::common::Statistics);
    };
    (create_physical_plan => $inherent:ident) => {
        $crate::async_method::async_method!(create_physical_plan => $inherent<'session>(
            state: &'session dyn datafusion::catalog::Session,
            config: datafusion::datasource::physical_plan::FileScanConfig,
        ) -> std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>);
    };
    (create_writer_physical_plan => $inherent:ident) => {
        $crate::async_method::async_method!(create_writer_physical_plan => $inherent<'session>(
            input: std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>,
            state: &'session dyn datafusion::catalog::Session,
            config: datafusion::datasource::physical_plan::FileSinkConfig,
            order: Option<datafusion::physical_expr::LexRequirement>,
        ) -> std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>);
    };
    ($name:ident => $inherent:ident<$($life:lifetime),+>($($argument:ident: $type:ty),* $(,)?) -> $output:ty) => {
        fn $name<'this, $($life,)* 'async_trait>(
            &'this self,
            $($argument: $type),*
        ) -> futures::future::BoxFuture<'async_trait, datafusion::error::Result<$output>>
        where
            'this: 'async_trait,
            $($life: 'async_trait,)*
            Self: 'async_trait,
        {
            self.$inherent($($argument),*)
        }
    };
}

pub(crate) use async_method;
