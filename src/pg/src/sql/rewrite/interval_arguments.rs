//! `make_interval(days => 10)`: the planner's functions have no arguments that may be left out.

use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value};

/// Names of the arguments, in their order.
const NAMES: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Gives a call all its arguments, in their order; one that does not fit stays as it is.
pub(crate) fn complete(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let zero = || FunctionArgExpr::Expr(Expr::value(Value::Number("0".into(), false)));
    let mut given: [Option<FunctionArgExpr>; 7] = Default::default();
    let mut has_names = false;
    for (index, argument) in list.args.iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Unnamed(value) if !has_names => (Some(index), value),
            FunctionArg::Named { name, arg, .. } => {
                has_names = true;
                (NAMES.iter().position(|known| name.value.eq_ignore_ascii_case(known)), arg)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                has_names = true;
                (NAMES.iter().position(|known| name.value.eq_ignore_ascii_case(known)), arg)
            }
            _ => return,
        };
        let Some(place) = place.and_then(|place| given.get_mut(place)).filter(|place| place.is_none()) else { return };
        *place = Some(value.clone());
    }
    list.args = given.into_iter().map(|value| FunctionArg::Unnamed(value.unwrap_or_else(zero))).collect();
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Statement};
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn completed(text: &str) -> String {
        let Statement::Query(query) = Parser::parse_sql(&PostgresDialect, &format!("SELECT {text}")).unwrap().remove(0)
        else {
            panic!("{text}");
        };
        let SetExpr::Select(mut select) = *query.body else { panic!("{text}") };
        let Some(SelectItem::UnnamedExpr(Expr::Function(function))) = select.projection.first_mut() else {
            panic!("{text}");
        };
        complete(function);
        function.to_string()
    }

    #[test]
    fn arguments_stand_in_their_order() {
        for (written, read) in [
            ("make_interval()", "make_interval(0, 0, 0, 0, 0, 0, 0)"),
            ("make_interval(days => 10)", "make_interval(0, 0, 0, 10, 0, 0, 0)"),
            ("make_interval(1, 2, secs => $1)", "make_interval(1, 2, 0, 0, 0, 0, $1)"),
            ("make_interval(1, years => 2)", "make_interval(1, years => 2)"),
            ("make_interval(eons => 2)", "make_interval(eons => 2)"),
        ] {
            assert_eq!(completed(written), read);
        }
    }
}
