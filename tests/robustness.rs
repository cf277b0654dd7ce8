//! Statements of every clause in random sizes, depths and widths: a server answers each with rows or an SQLSTATE, ends none
//! of its connections, calls nothing an internal error, and answers others meanwhile.
//!
//! `NEUROQL_STATEMENTS` (20000) and `NEUROQL_STATEMENTS_SEED` (1) choose how many and which, `NEUROQL_STATEMENTS_SECONDS` (60)
//! when to end. `NEUROQL_STATEMENTS_SERVER` is the port of a server on this machine to ask instead of one of this program's
//! own, such as one of a release build. A statement that fails is printed with its seed.

#![expect(clippy::print_stdout, reason = "the report of a run is its output")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use neuroql::Engine;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, NoTls};

use crate::server;
use crate::timing;

/// Connections that ask at a time.
const CONNECTIONS: usize = 8;
/// Time that a statement may run.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Time after which an answer, or a ping beside it, counts as missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// The trial.
pub fn trials() -> Vec<Trial> {
    vec![timing::test("robustness::statements", statements)]
}

/// Answers by SQLSTATE, `00000` for rows, and what went wrong.
#[derive(Default)]
struct Report {
    answers: BTreeMap<String, u64>,
    faults: Vec<String>,
}

fn statements() -> Result<(), Failed> {
    let count = number("NEUROQL_STATEMENTS", 20_000)?;
    let seed = number("NEUROQL_STATEMENTS_SEED", 1)?;
    let seconds = number("NEUROQL_STATEMENTS_SECONDS", 60)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(32 << 20).build()?;
    let report = match std::env::var("NEUROQL_STATEMENTS_SERVER") {
        Ok(port) => runtime.block_on(run(port.parse()?, count, seed, Duration::from_secs(seconds)))?,
        Err(_) => runtime.block_on(async {
            let running = server::start(Engine::builder().build()?).await?;
            let report = run(running.port, count, seed, Duration::from_secs(seconds)).await?;
            running.stop().await?;
            Ok::<_, Failed>(report)
        })?,
    };
    let asked: u64 = report.answers.values().sum();
    println!("{asked} statements of seed {seed}: {:?}", report.answers);
    for fault in report.faults.iter().take(30) {
        println!("{fault}");
    }
    if !report.faults.is_empty() {
        return Err(format!("{} statements went wrong", report.faults.len()).into());
    }
    // Otherwise a server that refuses everything would pass.
    if report.answers.get("00000").copied().unwrap_or(0) * 10 < asked {
        return Err("less than a tenth of the statements had rows".into());
    }
    Ok(())
}

fn number(name: &str, default: u64) -> Result<u64, Failed> {
    Ok(std::env::var(name).ok().map(|text| text.parse()).transpose()?.unwrap_or(default))
}

async fn run(port: u16, count: u64, seed: u64, time: Duration) -> Result<Report, Failed> {
    let report = Arc::new(Mutex::new(Report::default()));
    let (next, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let end = Instant::now() + time;
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let (report, next) = (Arc::clone(&report), Arc::clone(&next));
        let mut client = connect(port).await?;
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count || Instant::now() > end {
                    return;
                }
                let sql = Statement::of(seed.wrapping_mul(1_000_003).wrapping_add(number)).0;
                let answer = match tokio::time::timeout(PATIENCE, client.simple_query(&sql)).await {
                    Err(_) => Err("no answer".to_owned()),
                    Ok(Ok(_)) => Ok("00000".to_owned()),
                    Ok(Err(error)) => match error.code() {
                        Some(code) if !code.code().starts_with("XX") => Ok(code.code().to_owned()),
                        Some(_) => {
                            Err(error.as_db_error().map_or_else(String::new, |error| error.message().to_owned()))
                        }
                        None => Err(format!("the connection ended: {error}")),
                    },
                };
                let is_lost = answer.is_err() && client.is_closed();
                {
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok(code) => *report.answers.entry(code).or_default() += 1,
                        Err(reason) => {
                            let shown: String = sql.chars().take(2000).collect();
                            report.faults.push(format!("{number}: {reason}\n  {shown}"));
                        }
                    }
                }
                // What a statement leaves behind is not for the next one.
                let reset = "ROLLBACK; DISCARD ALL; SET statement_timeout = '500ms'";
                if is_lost || client.batch_execute(reset).await.is_err() {
                    match connect(port).await {
                        Ok(fresh) => client = fresh,
                        Err(error) => {
                            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                            return report.faults.push(format!("{number}: no new connection: {error:?}"));
                        }
                    }
                }
            }
        }));
    }
    let pinging = {
        let (report, ended, client) = (Arc::clone(&report), Arc::clone(&ended), connect(port).await?);
        tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let ping = tokio::time::timeout(PATIENCE, client.query_one("SELECT 1", &[])).await;
                if !matches!(ping, Ok(Ok(_))) {
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    return report.faults.push("another client had no answer".into());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    for task in tasks {
        task.await?;
    }
    ended.store(true, Ordering::Relaxed);
    pinging.await?;
    let report = std::mem::take(&mut *report.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(report)
}

async fn connect(port: u16) -> Result<Client, Failed> {
    let config = format!("host=127.0.0.1 port={port} user=ada");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("SET statement_timeout = '{}ms'", TIMEOUT.as_millis())).await?;
    Ok(client)
}

/// A statement of a seed.
struct Statement(String);

/// Parts of statements, as deep as they may still be.
struct Grammar {
    random: StdRng,
    /// Parts that may still be written, so that most statements are short.
    budget: usize,
}

impl Statement {
    fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // Few are large: most faults need no more than a handful of parts.
        let budget = match random.random_range(0..1000) {
            0 => 20_000,
            1..10 => 2_000,
            10..100 => 200,
            _ => 25,
        };
        let mut grammar = Grammar { random, budget };
        Self(grammar.statement())
    }
}

impl Grammar {
    fn below(&mut self, most: usize) -> usize {
        self.random.random_range(0..most.max(1))
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all.choose(&mut self.random).copied().unwrap_or_default()
    }

    /// Number of parts of a list: one or two, or as many as there may be.
    fn width(&mut self) -> usize {
        let most = if self.one_in(12) { self.budget.max(1) } else { 2 };
        1 + self.below(most)
    }

    fn list(&mut self, separator: &str, mut part: impl FnMut(&mut Self) -> String) -> String {
        let width = self.width();
        let mut all = String::new();
        for index in 0..width {
            if index > 0 {
                if self.budget == 0 {
                    break;
                }
                all.push_str(separator);
            }
            all.push_str(&part(self));
        }
        all
    }

    /// Takes one part from the budget; false if there is none left.
    fn spend(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.budget > 0
    }

    fn statement(&mut self) -> String {
        let query = |grammar: &mut Self| grammar.query();
        match self.below(24) {
            0 => format!("EXPLAIN {}", query(self)),
            1 => format!("EXPLAIN ANALYZE {}", query(self)),
            2 => format!("PREPARE p AS {}; EXECUTE p; EXECUTE p", query(self)),
            3 => format!(
                "BEGIN; DECLARE c SCROLL CURSOR FOR {}; FETCH 2 FROM c; FETCH ALL FROM c; FETCH -3 FROM c",
                query(self)
            ),
            4 => format!("EXPLAIN (FORMAT JSON) {}", query(self)),
            5 => {
                let columns = self.list(", ", |grammar| format!("c{} {}", grammar.below(1 << 30), grammar.type_name()));
                format!("CREATE TEMP TABLE t ({columns}); INSERT INTO t SELECT * FROM t; DROP TABLE t")
            }
            6 => {
                let rows = self.list(", ", |grammar| format!("({}, {})", grammar.constant(), grammar.constant()));
                format!(
                    "CREATE TEMP TABLE t AS SELECT * FROM (VALUES {rows}) v(a, b); SELECT count(*) FROM t; {}",
                    self.change()
                )
            }
            7 => format!("CREATE TEMP VIEW v AS {}; SELECT count(*) FROM v", query(self)),
            8 => format!(
                "SET {} = {}",
                self.pick(&["search_path", "work_mem", "datafusion.execution.batch_size", "timezone"]),
                self.constant()
            ),
            9 => self.list("; ", |grammar| grammar.query()),
            _ => query(self),
        }
    }

    fn change(&mut self) -> String {
        match self.below(3) {
            0 => format!("UPDATE t SET a = a WHERE {}", self.condition()),
            1 => format!("DELETE FROM t WHERE {}", self.condition()),
            _ => "INSERT INTO t SELECT * FROM t".into(),
        }
    }

    fn query(&mut self) -> String {
        if !self.spend() {
            return "SELECT 1 AS a".into();
        }
        let mut sql = String::new();
        if self.one_in(10) {
            let name = self.pick(&["w", "x"]);
            let recursive = self.one_in(3);
            let body = match recursive {
                true => format!("SELECT 1 AS a UNION ALL SELECT a + 1 FROM {name} WHERE a < {}", self.below(50)),
                false => self.query(),
            };
            let _ = write!(sql, "WITH {}{name} AS ({body}) ", if recursive { "RECURSIVE " } else { "" });
        }
        let operation = [" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT "];
        let separator = if self.one_in(8) { self.pick(&operation) } else { "" };
        match separator {
            "" => sql.push_str(&self.select()),
            separator => sql.push_str(&self.list(separator, |grammar| format!("({})", grammar.select()))),
        }
        if self.one_in(4) {
            let _ = write!(
                sql,
                " ORDER BY {}",
                self.list(", ", |grammar| format!("{}{}", 1, grammar.pick(&["", " DESC", " NULLS FIRST"])))
            );
        }
        if self.one_in(5) {
            let _ = write!(sql, " LIMIT {}", self.pick(&["0", "1", "10", "NULL", "ALL", "9223372036854775807", "-1"]));
        }
        if self.one_in(8) {
            let _ = write!(sql, " OFFSET {}", self.pick(&["0", "1", "9223372036854775807"]));
        }
        sql
    }

    fn select(&mut self) -> String {
        if !self.spend() {
            return "SELECT 1 AS a".into();
        }
        let distinct = self.pick(&["", "", "", "", "DISTINCT ", "DISTINCT ON (1) "]);
        let outputs = match self.below(6) {
            0 => "*".to_owned(),
            1 => format!("{}, count(*)", self.value()),
            _ => self.list(", ", |grammar| grammar.value()),
        };
        let mut sql = format!("SELECT {distinct}{outputs}");
        if self.one_in(2) {
            let _ = write!(sql, " FROM {}", self.from());
        }
        if self.one_in(3) {
            let _ = write!(sql, " WHERE {}", self.condition());
        }
        if self.one_in(6) {
            let keys = match self.below(4) {
                0 => format!("ROLLUP ({})", self.list(", ", |grammar| grammar.column())),
                1 => format!("CUBE ({}, {})", self.column(), self.column()),
                2 => "GROUPING SETS ((1), ())".into(),
                _ => self.list(", ", |grammar| grammar.column()),
            };
            let _ = write!(sql, " GROUP BY {keys}");
            if self.one_in(3) {
                let _ = write!(sql, " HAVING {}", self.condition());
            }
        }
        sql
    }

    fn from(&mut self) -> String {
        let first = self.table();
        let mut sql = first;
        let joins = if self.one_in(3) { self.width().min(400) } else { 0 };
        for _ in 0..joins {
            if !self.spend() {
                break;
            }
            let table = self.table();
            let _ = match self.below(5) {
                0 => write!(sql, ", {table}"),
                1 => write!(sql, " CROSS JOIN {table}"),
                2 => write!(sql, " LEFT JOIN {table} ON {}", self.condition()),
                3 => write!(sql, " FULL JOIN {table} ON true"),
                _ => write!(sql, " JOIN {table} ON {}", self.condition()),
            };
        }
        sql
    }

    fn table(&mut self) -> String {
        let alias = self.below(1 << 20);
        match self.below(9) {
            0 => format!("toy.neurons n{alias}"),
            1 => format!("models m{alias}"),
            2 => format!(
                "generate_series(1, {}) AS g{alias}(a)",
                self.pick(&["0", "1", "10", "1000", "-1", "100000000"])
            ),
            3 => format!(
                "(VALUES {}) AS v{alias}(a, b)",
                self.list(", ", |grammar| format!("({}, {})", grammar.number(), grammar.number()))
            ),
            4 => format!("({}) AS q{alias}", self.query()),
            5 => "information_schema.tables".into(),
            6 => format!("pg_catalog.{}", self.pick(&["pg_class", "pg_type", "pg_namespace"])),
            7 => format!("search('toy', {}) AS s{alias}", self.text()),
            _ => format!("(SELECT unnest(ARRAY[{}]) AS a) AS u{alias}", self.list(", ", |grammar| grammar.number())),
        }
    }

    fn column(&mut self) -> String {
        self.pick(&["a", "b", "1", "2", "layer", "neuron", "density", "name", "table_name", "oid"]).into()
    }

    fn condition(&mut self) -> String {
        if !self.spend() {
            return "true".into();
        }
        match self.below(12) {
            0 => self.list(" AND ", |grammar| grammar.condition()),
            1 => self.list(" OR ", |grammar| grammar.condition()),
            2 => format!("NOT ({})", self.condition()),
            3 => format!("{} IN ({})", self.value(), self.list(", ", |grammar| grammar.constant())),
            4 => format!("{} BETWEEN {} AND {}", self.value(), self.value(), self.value()),
            5 => format!("EXISTS ({})", self.query()),
            6 => format!("{} IN ({})", self.value(), self.query()),
            7 => format!(
                "({}){}",
                self.condition(),
                self.suffixes(&[" IS TRUE", " IS NOT FALSE", " IS NULL", " IS UNKNOWN"])
            ),
            8 => format!("{} {} {}", self.text(), self.pick(&["LIKE", "ILIKE", "~", "SIMILAR TO", "!~*"]), self.text()),
            9 => format!("{} IS NOT DISTINCT FROM {}", self.value(), self.value()),
            _ => format!("{} {} {}", self.value(), self.pick(&["=", "<>", "<", ">=", "<="]), self.value()),
        }
    }

    fn suffixes(&mut self, all: &[&str]) -> String {
        self.list("", |grammar| grammar.pick(all).to_owned())
    }

    fn value(&mut self) -> String {
        if !self.spend() {
            return "1".into();
        }
        match self.below(18) {
            0 => self.column(),
            1 => format!(
                "({} {} {})",
                self.value(),
                self.pick(&["+", "-", "*", "/", "%", "||", "&", "|", "<<", "^"]),
                self.value()
            ),
            2 => format!(
                "CASE {} ELSE {} END",
                self.list(" ", |grammar| format!("WHEN {} THEN {}", grammar.condition(), grammar.value())),
                self.value()
            ),
            3 => format!("({})", self.query()),
            4 => format!("ARRAY[{}]", self.list(", ", |grammar| grammar.value())),
            5 => format!("({})::{}", self.value(), self.type_name()),
            6 => self.call(),
            7 => {
                let depth = self.width().min(5000);
                format!("{}{}{}", "(".repeat(depth), self.value(), ")".repeat(depth))
            }
            8 => format!("(ARRAY[{}])[{}]", self.list(", ", |grammar| grammar.number()), self.number()),
            9 => self.aggregate(),
            10 => format!(
                "{} OVER (PARTITION BY {} ORDER BY {})",
                self.pick(&["row_number()", "rank()", "sum(1)", "lag(1)", "ntile(3)", "first_value(2)"]),
                self.value(),
                self.value()
            ),
            11 => self.suffixed(),
            _ => self.constant(),
        }
    }

    fn suffixed(&mut self) -> String {
        let value = self.constant();
        let suffixes = self.suffixes(&["::text", "::text::text", " COLLATE \"C\"", "::text || 'x'"]);
        format!("({value}{suffixes})")
    }

    fn aggregate(&mut self) -> String {
        let name = self.pick(&[
            "count",
            "sum",
            "avg",
            "min",
            "max",
            "array_agg",
            "string_agg",
            "bool_and",
            "stddev",
            "median",
        ]);
        let value = self.value();
        let filter = if self.one_in(4) { format!(" FILTER (WHERE {})", self.condition()) } else { String::new() };
        match name {
            "string_agg" => format!("string_agg(({value})::text, ','){filter}"),
            "bool_and" => format!("bool_and({}){filter}", self.condition()),
            name => format!("{name}({}{value}){filter}", self.pick(&["", "DISTINCT "])),
        }
    }

    fn call(&mut self) -> String {
        let name = self.pick(&[
            "abs",
            "sqrt",
            "round",
            "length",
            "upper",
            "lower",
            "repeat",
            "lpad",
            "substr",
            "replace",
            "md5",
            "concat",
            "coalesce",
            "nullif",
            "greatest",
            "date_trunc",
            "now",
            "array_length",
            "array_to_string",
            "string_to_array",
            "range",
            "unnest",
            "regexp_replace",
            "to_char",
            "extract",
            "tokenize",
            "activation",
            "simulate",
            "graph_text",
            "graph_from_json",
            "levenshtein",
            "split_part",
            "generate_series",
            "pg_typeof",
            "current_setting",
            "format",
        ]);
        let arguments = self.list(", ", |grammar| match grammar.below(3) {
            0 => grammar.text(),
            1 => grammar.number(),
            _ => grammar.value(),
        });
        format!("{name}({arguments})")
    }

    fn constant(&mut self) -> String {
        match self.below(6) {
            0 => self.text(),
            1 => "NULL".into(),
            2 => self.pick(&["true", "false"]).into(),
            3 => format!(
                "{} '{}'",
                self.pick(&["date", "timestamp", "timestamptz", "interval", "time"]),
                self.pick(&["2024-02-29", "infinity", "0001-01-01", "1 day", "25:00", "4714-01-01 BC", "now"])
            ),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> String {
        self.pick(&[
            "0",
            "1",
            "-1",
            "2",
            "3.5",
            "1e308",
            "1e-308",
            "2147483647",
            "-2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551616",
            "0.1",
            "99999999999999999999999999999999999999",
            "1e40",
            "'NaN'::float8",
            "NULL::int",
        ])
        .into()
    }

    fn text(&mut self) -> String {
        match self.below(8) {
            0 => format!("'{}'", "x".repeat(self.below(self.budget * 4 + 2))),
            1 => format!(
                "'{}'",
                self.pick(&["(", "[", "\\", "%", "_", "a{1,100}", "(a|b)*c", "é", "\u{301}", "''", "{}", "[[", "$1"])
            ),
            2 => format!("E'{}'", self.pick(&["\\n", "\\x41", "\\u00e9", "\\\\", "\\'"])),
            3 => format!("$tag${}$tag$", self.pick(&["", "'", "$", "x"])),
            _ => format!("'{}'", self.pick(&["a", "toy", "import numpy", "2024-01-01", "1", "activating:import", ""])),
        }
    }

    fn type_name(&mut self) -> String {
        let name = self.pick(&[
            "int",
            "bigint",
            "smallint",
            "real",
            "float8",
            "numeric",
            "numeric(10, 2)",
            "text",
            "varchar(3)",
            "char(2)",
            "boolean",
            "date",
            "timestamp",
            "timestamptz",
            "interval",
            "time",
            "bytea",
            "uuid",
            "json",
            "regclass",
            "oid",
            "nothing",
        ]);
        let dimensions = if self.one_in(10) { "[]".repeat(self.width().min(60)) } else { String::new() };
        format!("{name}{dimensions}")
    }
}
