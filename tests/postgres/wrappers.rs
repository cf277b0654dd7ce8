//! Ways to wrap a query in other statements.

/// A way to run a query inside other statements; `{q}` is the query, `{n}` a name of its own.
#[derive(Debug, Clone, Copy)]
pub struct Wrapper {
    pub name: &'static str,
    pub steps: &'static [&'static str],
    /// True if rows come in the order of the query.
    pub keeps_order: bool,
    /// True if the wrapper needs the values of the query, and not only its rows.
    pub values: bool,
    /// Statements to run afterwards in any case.
    pub cleanup: &'static [&'static str],
}

/// All wrappers.
pub const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        name: "view",
        steps: &["CREATE VIEW {n} AS {q}", "SELECT * FROM {n}", "SELECT count(*) FROM {n}"],
        keeps_order: false,
        values: true,
        cleanup: &["DROP VIEW IF EXISTS {n}"],
    },
    Wrapper {
        name: "table",
        steps: &["CREATE TABLE {n} AS {q}", "SELECT * FROM {n}"],
        keeps_order: false,
        values: true,
        cleanup: &["DROP TABLE IF EXISTS {n}"],
    },
    Wrapper {
        name: "insert",
        steps: &["CREATE TABLE {n} AS {q}", "INSERT INTO {n} {q}", "SELECT * FROM {n}"],
        keeps_order: false,
        values: true,
        cleanup: &["DROP TABLE IF EXISTS {n}"],
    },
    Wrapper {
        name: "cursor",
        steps: &[
            "BEGIN",
            "DECLARE {n} CURSOR FOR {q}",
            "FETCH 1 FROM {n}",
            "FETCH FORWARD 2 FROM {n}",
            "FETCH ALL FROM {n}",
            "CLOSE {n}",
            "COMMIT",
        ],
        keeps_order: true,
        values: true,
        cleanup: &["ROLLBACK"],
    },
    Wrapper {
        name: "with",
        steps: &["WITH w AS ({q}) SELECT * FROM w"],
        keeps_order: false,
        values: true,
        cleanup: &[],
    },
    Wrapper { name: "derived", steps: &["SELECT w.* FROM ({q}) AS w"], keeps_order: false, values: true, cleanup: &[] },
    Wrapper { name: "exists", steps: &["SELECT EXISTS ({q}) AS c1"], keeps_order: false, values: false, cleanup: &[] },
    Wrapper { name: "union", steps: &["({q}) UNION ALL ({q})"], keeps_order: false, values: true, cleanup: &[] },
    Wrapper {
        name: "count",
        steps: &["SELECT count(*) AS c1 FROM ({q}) w"],
        keeps_order: false,
        values: false,
        cleanup: &[],
    },
    Wrapper {
        name: "comment",
        steps: &["/* pg_class */ {q} -- information_schema"],
        keeps_order: true,
        values: true,
        cleanup: &[],
    },
];
