//! Prepared statements, portals, and what running one gives.

use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::api::portal::Format;
use neuroql::DateOrder;

use crate::encode::column::Columns;
use crate::session::plan_cache::PlanCache;
use crate::session::result_stream::ResultRows;
use crate::session::scroll::ScrollRows;
use crate::sql::parameters::Parameter;
use crate::sql::parse::ParsedStatement;
use crate::wire::error_response::SqlError;

/// Numbers of changes, of the catalog, of a session's settings and of privileges: a plan is of those before it.
pub(super) type PlanVersion = (u64, u64, u64);

/// A statement that can be run, any number of times.
pub(crate) struct PreparedStatement {
    pub(crate) parsed: ParsedStatement,
    /// Plan; `None` for a statement about the session itself.
    pub(crate) plan: Option<LogicalPlan>,
    pub(crate) parameters: Vec<Parameter>,
    /// Columns of the result; `None` for a statement without a result.
    pub(crate) columns: Option<Arc<Columns>>,
    pub(super) version: PlanVersion,
    /// Time zone of the plan, and the one in which its constants are read.
    pub(super) zone: String,
    pub(super) zone_of_constants: String,
    /// Order in which its dates are read.
    pub(super) order: DateOrder,
    /// True if it reads the lists of the session's statements and cursors.
    pub(super) reads_lists: bool,
    /// Time when it was prepared, in microseconds since 1970; true if that was by PREPARE.
    pub(super) made: i64,
    pub(super) from_sql: bool,
    pub(super) plans: PlanCache,
    /// Memory that the statement holds.
    pub(super) _memory: MemoryReservation,
}

impl PreparedStatement {
    /// Returns the columns that a client is told of: those of a COPY come with its data.
    pub(crate) fn described(&self) -> Option<&Arc<Columns>> {
        self.columns.as_ref().filter(|_| self.parsed.copy.is_none())
    }

    /// Returns the statement of SQL, unless it is one of DataFusion's own.
    pub(crate) fn sql(&self) -> Option<&ast::Statement> {
        self.parsed.statement_in_sql()
    }
}

/// A prepared statement with its parameters, perhaps half-way through its rows.
pub(crate) struct Portal {
    pub(crate) prepared: Arc<PreparedStatement>,
    pub(crate) values: Vec<ScalarValue>,
    pub(crate) format: Format,
    pub(crate) running: Option<(ResultRows, CommandTag)>,
    /// The rows of a scroll cursor.
    pub(crate) scroll: Option<ScrollRows>,
    /// True for `DECLARE … WITH HOLD`: the portal survives its transaction.
    pub(crate) held: bool,
    /// Time when it was made, in microseconds since 1970.
    pub(crate) made: i64,
    /// True if its statement failed: the portal is there until the transaction ends, and cannot be run.
    pub(crate) failed: bool,
    /// The time zone in which its rows are computed.
    pub(crate) zone: String,
    /// Memory that the portal holds, if it is counted.
    pub(crate) _memory: Option<MemoryReservation>,
}

impl Portal {
    /// Returns what is left of the portal when its statement fails.
    pub(crate) fn failed(&self) -> Self {
        Self {
            prepared: Arc::clone(&self.prepared),
            values: Vec::new(),
            format: self.format.clone(),
            running: None,
            scroll: None,
            held: self.held,
            made: self.made,
            failed: true,
            zone: self.zone.clone(),
            _memory: None,
        }
    }

    /// Refuses a portal that cannot be run.
    ///
    /// # Errors
    /// 55000 if its statement failed.
    pub(crate) fn check(&self, name: &str) -> Result<(), SqlError> {
        match self.failed {
            true => Err(SqlError::error("55000", format!("portal \"{name}\" cannot be run"))),
            false => Ok(()),
        }
    }
}

/// The command tag of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandTag {
    pub(super) verb: &'static str,
    /// True if the number of rows follows.
    counted: bool,
    /// The number that follows, if it is not that of the rows that were sent last.
    total: Option<usize>,
}

impl CommandTag {
    pub(super) const SELECT: Self = Self { verb: "SELECT", counted: true, total: None };
    pub(super) const FETCH: Self = Self { verb: "FETCH", counted: true, total: None };
    pub(super) const SHOW: Self = Self { verb: "SHOW", counted: false, total: None };
    pub(super) const EXPLAIN: Self = Self { verb: "EXPLAIN", counted: false, total: None };

    /// Returns the tag of a change of this many rows, all of which are returned.
    pub(super) fn changed(verb: &'static str, rows: usize) -> Self {
        Self { verb, counted: true, total: Some(rows) }
    }

    pub(crate) fn spell(self, rows: usize) -> String {
        let rows = self.total.unwrap_or(rows);
        if self.counted { format!("{} {rows}", self.verb) } else { self.verb.into() }
    }
}

/// The outcome of a statement.
pub(crate) enum Outcome {
    Rows(ResultRows, CommandTag),
    Done(String),
}

impl Outcome {
    pub(super) fn done(tag: &str) -> Self {
        Self::Done(tag.into())
    }
}
