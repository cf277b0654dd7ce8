//! Permissions of users.
//!
//! Decided on the logical plan, because statements hide in statements: `EXPLAIN ANALYZE INSERT …`,
//! `PREPARE p AS DELETE …`, `COPY (…) TO 'file'`. Everyone may read every table; only a superuser may change
//! anything, read or write the server's files, or set what concerns the whole server.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, Statement};
use neuroql::superuser_relation;

use crate::passwords::Role;
use crate::report::Report;

/// Settings of the server rather than of a session.
pub(crate) const SERVER_SETTINGS: &str = "datafusion.runtime.";

/// Refuses a plan its user may not run.
pub(crate) fn check(plan: &LogicalPlan, role: &Role, read_only: bool) -> Result<(), Report> {
    if role.superuser && !read_only {
        return Ok(());
    }
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        let what = match node {
            LogicalPlan::Ddl(statement) => Some(command(statement.name())),
            LogicalPlan::Dml(statement) => Some(command(&statement.op.to_string())),
            LogicalPlan::Copy(_) => Some("COPY".into()),
            LogicalPlan::TableScan(_) => superuser_relation(node).map(|relation| format!("{relation}()")),
            LogicalPlan::Statement(statement) => server_setting(statement).map(|name| format!("SET {name}")),
            _ => None,
        };
        refused = what;
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked?;
    match refused {
        None => Ok(()),
        Some(what) if role.superuser => {
            Err(Report::error("25006", format!("cannot execute {what} in a read-only transaction")))
        }
        Some(what) => Err(denied(&what)),
    }
}

/// A refusal as Postgres words it.
pub(crate) fn denied(what: &str) -> Report {
    Report::error("42501", format!("permission denied for {what}")).with_hint("Only a superuser may do this.")
}

fn server_setting(statement: &Statement) -> Option<&str> {
    let name = match statement {
        Statement::SetVariable(set) => &set.variable,
        Statement::ResetVariable(reset) => &reset.variable,
        _ => return None,
    };
    name.to_ascii_lowercase().starts_with(SERVER_SETTINGS).then_some(name.as_str())
}

/// `CreateExternalTable` is `CREATE EXTERNAL TABLE`, `Insert Into` is `INSERT INTO`.
fn command(name: &str) -> String {
    let mut words = String::new();
    let mut previous = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && previous.is_lowercase() {
            words.push(' ');
        }
        words.extend(letter.to_uppercase());
        previous = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn commands_are_spelt_in_sql() {
        assert_eq!(command("CreateExternalTable"), "CREATE EXTERNAL TABLE");
        assert_eq!(command("Insert Into"), "INSERT INTO");
    }
}
