//! Limits on the width, depth and size of a statement: the cost of planning grows faster than the statement.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Query, SetExpr, Visit, Visitor};

use crate::wire::error_response::SqlError;

/// Greatest number of columns of a result, as in Postgres.
const MOST_COLUMNS: usize = 1664;

/// Greatest number of tables that a statement reads, each as often as it is read: a CTE is planned wherever it is
/// named.
const MOST_TABLES: usize = 300;

/// Greatest number of CTEs that name each other in a row: each is planned inside the next.
const MOST_LEVELS: usize = 200;

/// Bytes that the parser holds for each token and for each space, about, while it reads a query.
const TOKEN: usize = 500;
const SPACE: usize = 100;

/// Bytes that the parser holds for each statement.
const STATEMENT: usize = 4 << 10;

/// Bytes of a token in a statement and its plan, about: expressions are there as they were written, and as they are planned.
const PLANNED_TOKEN: usize = 400;

/// Texts that EXPLAIN holds of a plan, about: one for each rule of the planner.
const EXPLAINED: usize = 140;

/// Returns the bytes that a statement of `length` bytes and `tokens` tokens takes with its plan, about.
pub(crate) fn memory_of_plan(length: usize, tokens: usize, is_explained: bool) -> usize {
    let texts = if is_explained { EXPLAINED } else { 2 };
    STATEMENT.saturating_add(length.saturating_mul(texts)).saturating_add(tokens.saturating_mul(PLANNED_TOKEN))
}

/// Returns the bytes that the parser will hold while it reads a query, about.
pub(crate) fn memory_to_parse(query: &str) -> usize {
    let bytes = query.as_bytes();
    let (mut tokens, mut spaces, mut statements) = (0_usize, 0_usize, 1_usize);
    let mut at = 0;
    let until = |from: usize, end: &str| {
        query.get(from..).and_then(|rest| rest.find(end)).map_or(bytes.len(), |found| from + found + end.len())
    };
    while let Some(byte) = bytes.get(at) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
        at = match byte {
            byte if byte.is_ascii_whitespace() => {
                spaces += 1;
                at + 1
            }
            b'\'' | b'"' => {
                tokens += 1;
                until(at + 1, if *byte == b'"' { "\"" } else { "'" })
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => until(at, "\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => until(at, "*/"),
            byte if is_word(byte) => {
                tokens += 1;
                at + bytes[at..].iter().take_while(|byte| is_word(byte)).count()
            }
            other => {
                tokens += 1;
                statements += usize::from(*other == b';');
                at + 1
            }
        };
    }
    let parts = [(tokens, TOKEN), (spaces, SPACE), (statements, STATEMENT), (query.len(), 2)];
    parts.into_iter().fold(0, |sum, (count, bytes)| sum.saturating_add(count.saturating_mul(bytes)))
}

/// Refuses a statement with more columns, tables or levels of CTEs than can be planned in reasonable time.
pub(crate) fn check(statement: &impl Visit) -> Result<(), SqlError> {
    let mut counter = TableCounter::default();
    match statement.visit(&mut counter) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

#[derive(Default)]
struct TableCounter {
    queries: Vec<QueryScope>,
}

/// A query that is being visited.
struct QueryScope {
    /// Names of its CTEs by the address of their queries, which are visited before its own body.
    ctes: HashMap<*const Query, String>,
    /// Number of tables that each of its CTEs reads, as far as they have been visited.
    tables_of_ctes: HashMap<String, usize>,
    /// Number of tables that have been counted.
    tables: usize,
    /// Number of CTEs that are planned inside each of its CTEs, one inside the other.
    levels_of_ctes: HashMap<String, usize>,
    /// The same for the query itself.
    levels: usize,
}

impl Visitor for TableCounter {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let ctes = ctes.map(|cte| (std::ptr::from_ref(cte.query.as_ref()), cte.alias.name.value.clone())).collect();
        let (tables_of_ctes, levels_of_ctes) = (HashMap::new(), HashMap::new());
        self.queries.push(QueryScope { ctes, tables_of_ctes, tables: 0, levels_of_ctes, levels: 0 });
        match widest(&query.body) {
            columns if columns > MOST_COLUMNS => ControlFlow::Break(SqlError::error(
                "54011",
                format!("target lists can have at most {MOST_COLUMNS} entries"),
            )),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let Some(done) = self.queries.pop() else { return ControlFlow::Continue(()) };
        let Some(around) = self.queries.last_mut() else { return ControlFlow::Continue(()) };
        match around.ctes.get(&std::ptr::from_ref(query)) {
            Some(name) => {
                around.tables_of_ctes.insert(name.clone(), done.tables.max(1));
                around.levels_of_ctes.insert(name.clone(), done.levels + 1);
                ControlFlow::Continue(())
            }
            None => {
                around.levels = around.levels.max(done.levels);
                self.count(done.tables)
            }
        }
    }

    fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<SqlError> {
        let tables = match relation.0.as_slice() {
            [ast::ObjectNamePart::Identifier(name)] => {
                let levels = self.queries.iter().rev().find_map(|scope| scope.levels_of_ctes.get(&name.value)).copied();
                if let (Some(levels), Some(scope)) = (levels, self.queries.last_mut()) {
                    scope.levels = scope.levels.max(levels);
                    if levels > MOST_LEVELS {
                        let message =
                            format!("statement is too complex: more than {MOST_LEVELS} CTEs name each other in a row");
                        return ControlFlow::Break(SqlError::error("54001", message));
                    }
                }
                let found = self.queries.iter().rev().find_map(|scope| scope.tables_of_ctes.get(&name.value));
                found.copied().unwrap_or(1)
            }
            _ => 1,
        };
        self.count(tables)
    }
}

impl TableCounter {
    fn count(&mut self, tables: usize) -> ControlFlow<SqlError> {
        let Some(scope) = self.queries.last_mut() else { return ControlFlow::Continue(()) };
        scope.tables = scope.tables.saturating_add(tables);
        if scope.tables > MOST_TABLES {
            let message = format!("statement is too complex: it reads more than {MOST_TABLES} tables");
            let hint = "A CTE counts as often as it is named, each time with all tables that it reads.";
            return ControlFlow::Break(SqlError::error("54001", message).with_hint(hint));
        }
        ControlFlow::Continue(())
    }
}

/// Returns the length of the longest list of columns of a query, without those of queries inside it.
fn widest(body: &SetExpr) -> usize {
    let mut bodies = vec![body];
    let mut widest = 0;
    while let Some(body) = bodies.pop() {
        match body {
            SetExpr::Select(select) => widest = widest.max(select.projection.len()),
            SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
            SetExpr::Values(values) => widest = widest.max(values.rows.first().map_or(0, |row| row.len())),
            _ => {}
        }
    }
    widest
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn checked(sql: &str) -> Option<String> {
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        check(&statements).err().map(|error| error.sqlstate.into_owned())
    }

    #[test]
    fn columns() {
        let select = |count| format!("SELECT {}", vec!["1"; count].join(","));
        assert_eq!(checked(&select(1664)), None);
        assert_eq!(checked(&select(1665)).as_deref(), Some("54011"));
        assert_eq!(checked(&format!("SELECT 1 WHERE EXISTS ({})", select(1665))).as_deref(), Some("54011"));
        assert_eq!(checked(&format!("SELECT 1 UNION {}", select(1665))).as_deref(), Some("54011"));
        assert_eq!(checked(&format!("SELECT 1 IN ({})", vec!["1"; 10_000].join(","))), None);
        assert_eq!(checked(&format!("VALUES {}", vec!["(1)"; 10_000].join(","))), None);
    }

    #[test]
    fn levels() {
        let chain = |length: usize| {
            let ctes = (1..=length).map(|i| format!(", c{i} AS (SELECT x FROM (SELECT * FROM c{}) q)", i - 1));
            format!("WITH c0 AS (SELECT 1 AS x){} SELECT * FROM c{length}", ctes.collect::<String>())
        };
        assert_eq!(checked(&chain(199)), None);
        assert_eq!(checked(&chain(200)).as_deref(), Some("54001"));
        let beside: Vec<_> = (0..250).map(|i| format!("c{i} AS (SELECT 1)")).collect();
        assert_eq!(checked(&format!("WITH {} SELECT * FROM c0, c249", beside.join(", "))), None);
    }

    #[test]
    fn memory() {
        let of = |count: usize| STATEMENT + count * TOKEN;
        let about = |sql: &str, tokens: usize| {
            let (found, expected) = (memory_to_parse(sql), of(tokens));
            assert!((expected..expected + (SPACE + 2) * (sql.len() + 1)).contains(&found), "{sql}: {found} {expected}");
        };
        about("", 0);
        about("SELECT 1", 2);
        about("SELECT 'a b c d', \"x y\" -- one two three\n, /* four five */ $1", 7);
        about("SELECT 'unended text of words", 2);
        about("é ü 'ß", 3);
        assert!(memory_to_parse(&"1,".repeat(1 << 20)) > 1_000_000_000);
        assert!(memory_to_parse(&"select 1;".repeat(100_000)) > 400_000_000);
        assert!(memory_to_parse(&format!("select '{}'", "a b ".repeat(1 << 20))) < 10_000_000);
    }

    #[test]
    fn tables() {
        let from = |count: usize| {
            format!("SELECT 1 FROM {}", (0..count).map(|i| format!("t a{i}")).collect::<Vec<_>>().join(","))
        };
        assert_eq!(checked(&from(300)), None);
        assert_eq!(checked(&from(301)).as_deref(), Some("54001"));
        // Each CTE reads the one before it twice.
        let doubled = |times: usize| {
            let mut ctes = vec!["c0 AS (SELECT * FROM t)".to_owned()];
            ctes.extend(
                (1..=times).map(|i| format!("c{i} AS (SELECT * FROM c{0} UNION ALL SELECT * FROM c{0})", i - 1)),
            );
            format!("WITH {} SELECT * FROM c{times}", ctes.join(", "))
        };
        assert_eq!(checked(&doubled(8)), None);
        assert_eq!(checked(&doubled(9)).as_deref(), Some("54001"));
        assert_eq!(checked(&doubled(60)).as_deref(), Some("54001"));
        let recursive = "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 9) SELECT * FROM r";
        assert_eq!(checked(recursive), None);
        assert_eq!(checked(&format!("SELECT ({})", from(301))).as_deref(), Some("54001"));
    }
}
