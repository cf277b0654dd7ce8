//! Windows that are based on others.
//!
//! In `sum(a) OVER (w ORDER BY b) … WINDOW w AS (PARTITION BY c)` the partitions are those of `w`. DataFusion 55 passes over
//! the name, so it is replaced by what it stands for.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, VisitMut, VisitorMut, WindowSpec, WindowType,
};

use crate::sql::column_names::fold;
use crate::wire::error_response::SqlError;

/// Replaces the names of windows in others by what these are.
///
/// # Errors
/// 42704 if there is no window of a name, 42P20 if one changes what it is based on.
pub(crate) fn merge(select: &mut Select) -> Result<(), SqlError> {
    let mut windows: HashMap<String, WindowSpec> = HashMap::new();
    for NamedWindowDefinition(name, definition) in &mut select.named_window {
        let found = match definition {
            NamedWindowExpr::NamedWindow(base) => named(&windows, base)?.clone(),
            NamedWindowExpr::WindowSpec(spec) => {
                base_on(spec, &windows)?;
                spec.clone()
            }
        };
        windows.insert(fold(name), found);
    }
    let mut calls = BaseCalls { windows: &windows, depth: 0 };
    match select.projection.visit(&mut calls) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn named<'a>(windows: &'a HashMap<String, WindowSpec>, name: &Ident) -> Result<&'a WindowSpec, SqlError> {
    let missing = || SqlError::error("42704", format!("window \"{}\" does not exist", fold(name)));
    windows.get(&fold(name)).ok_or_else(missing)
}

fn base_on(spec: &mut WindowSpec, windows: &HashMap<String, WindowSpec>) -> Result<(), SqlError> {
    let Some(name) = spec.window_name.take() else { return Ok(()) };
    let base = named(windows, &name)?;
    let refused = |message: String| Err(SqlError::error("42P20", message));
    if !spec.partition_by.is_empty() {
        return refused(format!("cannot override PARTITION BY clause of window \"{}\"", fold(&name)));
    }
    if !spec.order_by.is_empty() && !base.order_by.is_empty() {
        return refused(format!("cannot override ORDER BY clause of window \"{}\"", fold(&name)));
    }
    if base.window_frame.is_some() {
        return refused(format!("cannot copy window \"{}\" because it has a frame clause", fold(&name)));
    }
    spec.partition_by.clone_from(&base.partition_by);
    if spec.order_by.is_empty() {
        spec.order_by.clone_from(&base.order_by);
    }
    Ok(())
}

/// Replaces the names in the windows of calls, but not in subqueries, which have windows of their own.
struct BaseCalls<'a> {
    windows: &'a HashMap<String, WindowSpec>,
    depth: usize,
}

impl VisitorMut for BaseCalls<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if let (0, Expr::Function(function)) = (self.depth, expr)
            && let Some(WindowType::WindowSpec(spec)) = &mut function.over
            && let Err(error) = base_on(spec, self.windows)
        {
            return ControlFlow::Break(error);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;

    #[test]
    fn windows_are_based_on_others() {
        let read = |query: &str| {
            Parser::default()
                .parse(query)
                .map(|mut found| crate::sql::rewrite::without_names(&found.remove(0).statement.to_string()))
        };
        let query = "SELECT sum(a) OVER (w ORDER BY b), sum(a) OVER (v) FROM t WINDOW w AS (PARTITION BY c), v AS (w)";
        let read_as = "SELECT sum(a) OVER (PARTITION BY c ORDER BY b), sum(a) OVER (PARTITION BY c) FROM t \
                       WINDOW w AS (PARTITION BY c), v AS (PARTITION BY c)";
        assert_eq!(read(query).unwrap(), read_as);
        for (query, sqlstate) in [
            ("SELECT sum(a) OVER (w) FROM t", "42704"),
            ("SELECT sum(a) OVER (w PARTITION BY a) FROM t WINDOW w AS (ORDER BY a)", "42P20"),
            ("SELECT sum(a) OVER (w ORDER BY b) FROM t WINDOW w AS (ORDER BY a)", "42P20"),
            ("SELECT sum(a) OVER (w) FROM t WINDOW w AS (ORDER BY a ROWS CURRENT ROW)", "42P20"),
        ] {
            assert_eq!(read(query).unwrap_err().sqlstate, sqlstate, "{query}");
        }
    }
}
