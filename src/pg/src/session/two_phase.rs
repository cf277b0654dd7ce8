//! Transactions that are prepared: none, as in PostgreSQL with `max_prepared_transactions` at 0.

use datafusion_postgres::pgwire::messages::response::TransactionStatus;

use crate::session::commands::end_transaction;
use crate::session::{Outcome, Session, in_failed_transaction};
use crate::sql::two_phase::TwoPhase;
use crate::wire::error_response::SqlError;

/// Runs a statement about a prepared transaction.
///
/// # Errors
/// 55000 for PREPARE TRANSACTION, which undoes the transaction, 42704 for the others.
pub(super) fn run(session: &mut Session, statement: &TwoPhase) -> Result<Outcome, SqlError> {
    let status = session.status;
    let (verb, name) = match statement {
        TwoPhase::Prepare => {
            let outcome = end_transaction(session, false, false);
            return match status {
                TransactionStatus::Transaction => Err(SqlError::error("55000", "prepared transactions are disabled")
                    .with_hint("Set max_prepared_transactions to a nonzero value.")),
                _ => Ok(outcome),
            };
        }
        TwoPhase::Commit(name) => ("COMMIT", name),
        TwoPhase::Rollback(name) => ("ROLLBACK", name),
    };
    match status {
        TransactionStatus::Error => Err(in_failed_transaction()),
        TransactionStatus::Transaction => {
            Err(SqlError::error("25001", format!("{verb} PREPARED cannot run inside a transaction block")))
        }
        TransactionStatus::Idle => {
            Err(SqlError::error("42704", format!("prepared transaction with identifier \"{name}\" does not exist")))
        }
    }
}
