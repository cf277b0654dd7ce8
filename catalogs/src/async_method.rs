//! Asynchronous methods of DataFusion's traits without `#[async_trait]`.

/// Implements an asynchronous trait method by an inherent one that returns a boxed future of one lifetime.
///
/// `#[async_trait]` writes the same signature around the body. Its `where` clauses are then in scope while the body is
/// type checked, rustc's cache of trait results is not used, and `Send` is proved anew through all of LogicalPlan and
/// Delta's types: 2 to 3 seconds for each method. In an inherent method with one lifetime it takes 0.04.
macro_rules! async_method {
    (scan => $inherent:ident) => {
        $crate::async_method::async_method!(scan => $inherent<'session, 'projection, 'filters>(
            session: &'session dyn datafusion::catalog::Session,
            projection: Option<&'projection Vec<usize>>,
            filters: &'filters [datafusion::logical_expr::Expr],
            limit: Option<usize>,
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
