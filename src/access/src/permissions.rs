//! Permissions of users.
//!
//! Decided on the logical plan, because statements hide in statements: `EXPLAIN ANALYZE INSERT …`,
//! `PREPARE p AS DELETE …`, `COPY (…) TO 'file'`. Everyone may read every table; only a superuser may change
//! anything, read or write the server's files, or set what concerns the whole server.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, Statement};
use neuroql::superuser_table_function;

use crate::settings::{check_setting, is_of_session};
use crate::{Error, Role};

/// Refuses a plan that its user may not run, or not in a transaction that only reads.
///
/// # Errors
/// [`Error::Denied`] or [`Error::ReadOnly`], with the statement's name, and [`Error::Setting`] for a value that a
/// setting may not have, whoever sets it.
pub fn check(plan: &LogicalPlan, role: &Role, read_only: bool) -> Result<(), Error> {
    if let LogicalPlan::Statement(Statement::SetVariable(set)) = plan {
        check_setting(&set.variable, &set.value)?;
    }
    if role.superuser && !read_only {
        return Ok(());
    }
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        let what = match node {
            LogicalPlan::Ddl(statement) => Some(command(statement.name())),
            LogicalPlan::Dml(statement) => Some(command(&statement.op.to_string())),
            LogicalPlan::Copy(_) => Some("COPY".into()),
            LogicalPlan::TableScan(_) => superuser_table_function(node).map(|relation| format!("{relation}()")),
            LogicalPlan::Statement(statement) => setting_of_server(statement).map(|name| format!("SET {name}")),
            _ => None,
        };
        refused = what;
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked?;
    match refused {
        None => Ok(()),
        Some(what) if role.superuser => Err(Error::ReadOnly(what)),
        Some(what) => Err(Error::Denied(what)),
    }
}

/// Returns the name of the setting that a statement changes, if not everybody may change it.
fn setting_of_server(statement: &Statement) -> Option<&str> {
    let name = match statement {
        Statement::SetVariable(set) => &set.variable,
        Statement::ResetVariable(reset) => &reset.variable,
        _ => return None,
    };
    (!is_of_session(name)).then_some(name.as_str())
}

/// Returns the name of a statement for messages: `CREATE EXTERNAL TABLE` for `CreateExternalTable`, `INSERT INTO` for
/// `Insert Into`.
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
