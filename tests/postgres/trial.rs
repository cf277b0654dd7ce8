//! Runs statements against both servers, and reports differences.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::allowed;
use super::compare::{Rows, Verdict, judge};
use super::statements::{Generator, Statement, Table};
use super::tree::{Spelling, Tree};
use super::values::{Datum, Value, pick};
use super::wire::{Answer, Client, Described, Format};
use super::wrappers::{WRAPPERS, Wrapper};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub statements: u64,
    /// The index of a single statement.
    pub only: Option<u64>,
    /// Number of failures after which the rest is not run.
    pub failures: usize,
    /// Time after which no statement begins.
    pub seconds: u64,
    pub threads: usize,
}

impl Options {
    /// Reads the options from the environment.
    ///
    /// # Errors
    ///
    /// Returns an error if a variable is not a number.
    pub fn from_environment() -> Result<Self, Error> {
        let number = |name: &str| match std::env::var(format!("NEUROQL_DIFFERENTIAL_{name}")) {
            Ok(text) => text.parse().map(Some).map_err(|_| format!("NEUROQL_DIFFERENTIAL_{name} is no number: {text}")),
            Err(_) => Ok(None),
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4);
        Ok(Self {
            seed: number("SEED")?.unwrap_or(1),
            statements: number("STATEMENTS")?.unwrap_or(3000),
            only: number("ONLY")?,
            failures: number("FAILURES")?.map_or(10, |count| usize::try_from(count).unwrap_or(usize::MAX)),
            seconds: number("SECONDS")?.unwrap_or(u64::MAX),
            threads,
        })
    }
}

/// Ways to run a statement.
#[derive(Debug, Clone, Copy)]
enum Way {
    Simple,
    Extended {
        format: Format,
        spelling: Spelling,
        page: i32,
    },
    /// PREPARE and EXECUTE by the simple protocol.
    Prepare,
    Wrapped(&'static Wrapper),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Simple => f.write_str("simple protocol"),
            Way::Extended { format, spelling, page } => {
                write!(f, "extended protocol in {format:?}, parameters {spelling:?}, pages of {page}")
            }
            Way::Prepare => f.write_str("PREPARE"),
            Way::Wrapped(wrapper) => write!(f, "{}", wrapper.name),
        }
    }
}

/// A statement that neuroql answers in another way.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub index: u64,
    pub way: String,
    pub reason: &'static str,
    /// The statement that was sent, as small as it could be made.
    pub statement: String,
    pub postgres: String,
    pub neuroql: String,
    /// Key that is the same for failures that look alike.
    pub kind: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, index, way, reason, statement, postgres, neuroql, .. } = self;
        writeln!(f, "seed {seed}, statement {index}, {way}: {reason}")?;
        writeln!(f, "    {statement}\n    PostgreSQL: {postgres}\n    neuroql:    {neuroql}")
    }
}

/// Results of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// One failure of each kind.
    pub failures: Vec<Failure>,
    pub different: u64,
    pub statements: u64,
    pub equal: u64,
    pub allowed: u64,
    pub skipped: u64,
    pub both_refused: u64,
    /// Refusals by SQLSTATE and message: their number, and one of them.
    pub refused: BTreeMap<(String, String), (u64, String)>,
    /// Values of tables that neuroql does not give back.
    pub unstored: Vec<String>,
    /// Statements that PostgreSQL itself refuses, by its message: their number, and one of them.
    pub invalid: BTreeMap<String, (u64, String)>,
}

impl Report {
    /// Returns the number of answers that neuroql alone refuses.
    pub fn refused(&self) -> u64 {
        self.refused.values().map(|(count, _)| count).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.refused();
        writeln!(
            f,
            "{} statements: {} answers equal, {} but for what is allowed, {} refused by both, {refused} by neuroql, {} skipped, {} different in {} kinds",
            self.statements,
            self.equal,
            self.allowed,
            self.both_refused,
            self.skipped,
            self.different,
            self.failures.len()
        )?;
        if !self.unstored.is_empty() {
            writeln!(f, "not in tables: {}", self.unstored.join(", "))?;
        }
        let mut refused: Vec<_> = self.refused.iter().collect();
        refused.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for ((code, message), (count, example)) in refused {
            writeln!(f, "refused {count} {code} {message}\n    {example}")?;
        }
        if std::env::var_os("NEUROQL_DIFFERENTIAL_INVALID").is_some() {
            let mut invalid: Vec<_> = self.invalid.iter().collect();
            invalid.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
            for (message, (count, example)) in invalid {
                writeln!(f, "invalid {count} {message}\n    {example}")?;
            }
        }
        for failure in &self.failures {
            write!(f, "{failure}")?;
        }
        Ok(())
    }
}

/// Runs the statements on servers at these ports.
///
/// # Errors
///
/// Returns an error if a server cannot be reached or the tables cannot be made.
pub fn run(postgres: u16, neuroql: u16, options: &Options) -> Result<Report, Error> {
    let mut servers = Servers::connect(postgres, neuroql)?;
    let mut totals = Report::default();
    for table in Generator::new(options.seed).tables() {
        servers.fill(table, &mut totals)?;
    }
    let indices = match options.only {
        Some(index) => index..index + 1,
        None => 0..options.statements,
    };
    let next = AtomicU64::new(indices.start);
    let report = Mutex::new(totals);
    let start = Instant::now();
    let stopped = || {
        start.elapsed().as_secs() >= options.seconds
            || report.lock().is_ok_and(|report| report.failures.len() >= options.failures)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|worker| {
                let (next, report, indices, stopped) = (&next, &report, &indices, &stopped);
                scope.spawn(move || -> Result<(), Error> {
                    let mut servers = Servers::connect(postgres, neuroql)?;
                    servers.worker = worker;
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= indices.end || stopped() {
                            return Ok(());
                        }
                        servers.statement(options.seed, index, report)?;
                        lock(report)?.statements += 1;
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    let mut report = report.into_inner().map_err(|_| "a worker panicked")?;
    report.failures.sort_by_key(|failure| failure.index);
    Ok(report)
}

/// Connections of one worker.
struct Servers {
    postgres: Client,
    neuroql: Client,
    ports: (u16, u16),
    worker: usize,
}

/// Both answers and the verdict on them.
struct Outcome {
    verdict: Verdict,
    sent: String,
    postgres: Answer,
    neuroql: Answer,
}

impl Servers {
    fn connect(postgres: u16, neuroql: u16) -> Result<Self, Error> {
        let client = |port, user| Client::connect(port, user).map_err(|error| format!("port {port}: {error}"));
        Ok(Self {
            postgres: client(postgres, "postgres")?,
            neuroql: client(neuroql, if postgres == neuroql { "postgres" } else { "neuroql" })?,
            ports: (postgres, neuroql),
            worker: 0,
        })
    }

    /// Makes a table on both servers. Values that only PostgreSQL has are NULL in it, so that later differences have
    /// another cause; a type that only PostgreSQL has, or has in tables, is no column in neuroql.
    fn fill(&mut self, mut table: Table, totals: &mut Report) -> Result<(), Error> {
        let rows = Rows { format: Format::Text, ordered: true, tags: true, values: true, grouped: false };
        for value in table.rows.iter_mut().flatten() {
            let outcome = self.steps([format!("SELECT {}", value.literal(4))], rows);
            if !matches!(outcome.verdict, Verdict::Equal | Verdict::Allowed(_)) {
                totals.unstored.push(value.literal(4));
                value.datum = Datum::Null;
            }
        }
        let mut less = table.clone();
        less.columns.retain(|(_, ty)| {
            let spec = format!("SELECT {} AS c", Value { ty: *ty, datum: Datum::Null }.literal(4));
            self.neuroql.simple("DROP TABLE IF EXISTS storable");
            let stored = self.neuroql.simple(&format!("CREATE TABLE storable AS {spec}"));
            !matches!(stored, Answer::Error { .. } | Answer::Broken(_))
                && matches!(self.steps([spec], rows).verdict, Verdict::Equal | Verdict::Allowed(_))
        });
        self.neuroql.simple("DROP TABLE IF EXISTS storable");
        let kept: Vec<bool> = table.columns.iter().map(|column| less.columns.contains(column)).collect();
        for row in &mut less.rows {
            let mut kept = kept.iter();
            row.retain(|_| kept.next().is_some_and(|kept| *kept));
        }
        for (client, table) in [(&mut self.postgres, &table), (&mut self.neuroql, &less)] {
            let (name, query) = (table.name, table.query());
            client.simple(&format!("DROP TABLE IF EXISTS {name}"));
            let answer = client.simple(&format!("CREATE TABLE {name} AS {query}"));
            if matches!(answer, Answer::Error { .. } | Answer::Broken(_)) {
                return Err(format!("table {name}: {} of {query}", shown(&answer, Format::Text)).into());
            }
        }
        Ok(())
    }

    fn statement(&mut self, seed: u64, index: u64, totals: &Mutex<Report>) -> Result<(), Error> {
        let own = seed.wrapping_mul(1_000_000_007).wrapping_add(index);
        let statement = Generator::new(own).statement();
        let mut rng = StdRng::seed_from_u64(own ^ 0x5eed);
        let spelling =
            |rng: &mut StdRng| *pick(rng, &[Spelling::Declared, Spelling::Cast, Spelling::Cast, Spelling::Inferred]);
        let page = |rng: &mut StdRng| *pick(rng, &[0, 0, 0, 1, 3]);
        let mut ways = vec![
            Way::Simple,
            Way::Extended { format: Format::Text, spelling: spelling(&mut rng), page: page(&mut rng) },
            Way::Extended { format: Format::Binary, spelling: spelling(&mut rng), page: page(&mut rng) },
        ];
        match rng.random_range(0..6) {
            0 => ways.push(Way::Prepare),
            1..4 => {
                let wrapper = pick(&mut rng, WRAPPERS);
                // The query's order decides which row comes first.
                if statement.ordered || wrapper.name != "cursor" {
                    ways.push(Way::Wrapped(wrapper));
                }
            }
            _ => {}
        }
        // Plans with parameters must give the same as those with values.
        let mode = if rng.random() { "force_generic_plan" } else { "auto" };
        self.neuroql.simple(&format!("SET plan_cache_mode = {mode}"));
        for way in ways {
            let name = format!("n{}_{index}", self.worker);
            let outcome = self.ask(&statement, way, &name)?;
            let mut report = lock(totals)?;
            if let Answer::Error { code, message } = &outcome.postgres {
                let entry = report.invalid.entry(format!("{code} {}", general(message)));
                entry.or_insert((0, outcome.sent.clone())).0 += 1;
            }
            match outcome.verdict {
                Verdict::Equal => report.equal += 1,
                Verdict::Skipped => report.skipped += 1,
                Verdict::Allowed(_) => report.allowed += 1,
                Verdict::BothRefused => report.both_refused += 1,
                Verdict::Refused(code, message) => {
                    let entry = report.refused.entry((code, general(&message)));
                    entry.or_insert((0, format!("{index} {way}: {}", outcome.sent))).0 += 1;
                }
                Verdict::Wrong(reason) => {
                    drop(report);
                    let failure = self.shrink(seed, index, &statement, way, reason, outcome)?;
                    let mut report = lock(totals)?;
                    report.different += 1;
                    let kind = format!("{reason}: {}", general(&failure.statement));
                    if !report.failures.iter().any(|other| other.kind == kind) {
                        report.failures.push(Failure { kind, ..failure });
                    }
                    // The other ways differ for the same reason.
                    break;
                }
            }
        }
        Ok(())
    }

    /// Runs a statement on both servers.
    fn ask(&mut self, statement: &Statement, way: Way, name: &str) -> Result<Outcome, Error> {
        let ordered = statement.ordered;
        let grouped = is_grouped(&statement.tree.render(Spelling::Literals).0);
        let mut outcome = match way {
            Way::Simple => {
                let (sql, _) = statement.tree.render(Spelling::Literals);
                let rows = Rows { format: Format::Text, ordered, tags: true, values: true, grouped };
                self.steps([sql], rows)
            }
            Way::Extended { format, spelling, page } => self.extended(&statement.tree, format, spelling, page, ordered),
            Way::Prepare => {
                let (sql, values) = statement.tree.render(Spelling::Declared);
                let list = |each: fn(&Value) -> String| match values.is_empty() {
                    true => String::new(),
                    false => format!("({})", values.iter().map(each).collect::<Vec<_>>().join(", ")),
                };
                let types = list(|value| value.ty.name());
                let values = list(|value| value.literal(4));
                let rows = Rows { format: Format::Text, ordered, tags: true, values: true, grouped };
                let steps = [format!("PREPARE {name}{types} AS {sql}"), format!("EXECUTE {name}{values}")];
                let outcome = self.steps(steps, rows);
                for client in [&mut self.postgres, &mut self.neuroql] {
                    client.simple(&format!("DEALLOCATE {name}"));
                }
                outcome
            }
            Way::Wrapped(wrapper) => {
                let (sql, _) = statement.tree.render(Spelling::Literals);
                let fill = |step: &&str| step.replace("{q}", &sql).replace("{n}", name);
                // A query around another has no order of its own.
                let ordered = ordered && wrapper.keeps_order;
                let rows = Rows { format: Format::Text, ordered, tags: true, values: wrapper.values, grouped };
                let outcome = self.steps(wrapper.steps.iter().map(fill), rows);
                for step in wrapper.cleanup {
                    for client in [&mut self.postgres, &mut self.neuroql] {
                        client.simple(&fill(step));
                    }
                }
                outcome
            }
        };
        // A query inside another needs no order: an error in computing it may not come.
        if let (Way::Wrapped(wrapper), Answer::Error { code, .. }, Answer::Rows { .. } | Answer::Done { .. }) =
            (way, &outcome.postgres, &outcome.neuroql)
            && !wrapper.keeps_order
            && allowed::is_of_value(code)
        {
            let (sql, _) = statement.tree.render(Spelling::Literals);
            let plain = self.neuroql.simple(&sql);
            if matches!(plain, Answer::Error { .. }) || self.is_answered_later(statement, &plain, name) {
                outcome.verdict = Verdict::Allowed(allowed::UNNEEDED);
            }
        }
        let is_wrong = |verdict: &Verdict| matches!(verdict, Verdict::Wrong(_));
        if let (Answer::Error { code, .. }, Answer::Rows { .. }) = (&outcome.postgres, &outcome.neuroql)
            && is_wrong(&outcome.verdict)
            // To PostgreSQL, casting NaN to an integer is a feature that is not supported.
            && (allowed::is_of_value(code) || code == "0A000")
        {
            // Rows are compared as texts.
            let texts = match way {
                Way::Extended { format: Format::Binary, spelling, .. } => {
                    self.extended(&statement.tree, Format::Text, spelling, 0, ordered).neuroql
                }
                _ => outcome.neuroql.clone(),
            };
            if self.is_answered_later(statement, &texts, name) {
                outcome.verdict = Verdict::Allowed(allowed::UNNEEDED);
            } else if code == "22003" && allowed::has_long_number(&statement.tree.render(Spelling::Literals).0) {
                outcome.verdict = Verdict::Allowed(allowed::LONG);
            }
        }
        if matches!(outcome.neuroql, Answer::Broken(_)) {
            *self = Self { worker: self.worker, ..Self::connect(self.ports.0, self.ports.1)? };
        }
        Ok(outcome)
    }

    /// Returns true if PostgreSQL has the same rows when it cannot compute constants ahead, or when an order that does
    /// not change them is left out.
    fn is_answered_later(&mut self, statement: &Statement, neuroql: &Answer, name: &str) -> bool {
        let Answer::Rows { rows: found, .. } = neuroql else { return false };
        let trees: Vec<Tree> = std::iter::once(statement.tree.clone())
            .chain(statement.tree.without_options().into_iter().take(12))
            .collect();
        self.postgres.simple("SET plan_cache_mode = force_generic_plan");
        let is_same = trees.iter().any(|tree| {
            let (sql, values) = tree.render(Spelling::All);
            let list = |each: fn(&Value) -> String| match values.is_empty() {
                true => String::new(),
                false => format!("({})", values.iter().map(each).collect::<Vec<_>>().join(", ")),
            };
            self.postgres.simple(&format!("PREPARE {name}{} AS {sql}", list(|value| value.ty.name())));
            let answer = self.postgres.simple(&format!("EXECUTE {name}{}", list(|value| value.literal(4))));
            self.postgres.simple(&format!("DEALLOCATE {name}"));
            let Answer::Rows { mut rows, types, .. } = answer else { return false };
            // Not all pages of rows with an order may have been read.
            if statement.ordered {
                rows.truncate(found.len());
            }
            allowed::equal(&types, &rows, found, Format::Text, false, false)
        });
        self.postgres.simple("RESET plan_cache_mode");
        is_same
    }

    /// Runs statements in turn up to one that has no equal answers.
    fn steps(&mut self, steps: impl IntoIterator<Item = String>, rows: Rows) -> Outcome {
        let mut done = Vec::new();
        let mut last = None;
        let mut steps = steps.into_iter();
        while let Some(step) = steps.next() {
            let (postgres, neuroql) = (self.postgres.simple(&step), self.neuroql.simple(&step));
            let mut verdict = judge(&postgres, &neuroql, rows);
            done.push(step);
            if let (Answer::Error { .. }, Answer::Done { tag }) = (&postgres, &neuroql)
                && allowed::is_of_preparation(tag)
                && steps.any(|step| matches!(self.neuroql.simple(&step), Answer::Error { .. }))
            {
                verdict = Verdict::Allowed(allowed::LATER);
            }
            let ended =
                !matches!(verdict, Verdict::Equal | Verdict::Allowed(_)) || matches!(postgres, Answer::Error { .. });
            last = Some(Outcome { verdict, sent: done.join("; "), postgres, neuroql });
            if ended {
                break;
            }
        }
        last.unwrap_or_else(|| unreachable!("there is at least one step"))
    }

    fn extended(&mut self, tree: &Tree, format: Format, spelling: Spelling, page: i32, ordered: bool) -> Outcome {
        let (sql, values) = tree.render(spelling);
        // If rows have no order, any of them may come on a page.
        let page = if ordered { page } else { 0 };
        let declared: Vec<u32> = match spelling {
            Spelling::Declared => values.iter().map(|value| value.ty.oid()).collect(),
            _ => Vec::new(),
        };
        let own: Vec<u32> = values.iter().map(|value| value.ty.oid()).collect();
        // A client encodes its values as the types that it is told.
        let ask = |client: &mut Client| match client.prepare(&sql, &declared) {
            Described::Failed(answer) => answer,
            Described::Parameters(types) if types == own => client.execute(&values, format, page),
            Described::Parameters(types) => {
                Answer::Rows { names: Vec::new(), types, rows: Vec::new(), tag: PARAMETERS.into() }
            }
        };
        let (postgres, neuroql) = (ask(&mut self.postgres), ask(&mut self.neuroql));
        let parameters = |answer: &Answer| matches!(answer, Answer::Rows { tag, .. } if tag == PARAMETERS);
        let verdict = match &postgres {
            // A statement that is ambiguous to PostgreSQL proves nothing.
            Answer::Error { .. } if spelling == Spelling::Inferred => Verdict::Skipped,
            _ if parameters(&postgres) => Verdict::Skipped,
            _ if parameters(&neuroql) => Verdict::Wrong(PARAMETERS),
            _ => judge(
                &postgres,
                &neuroql,
                Rows { format, ordered, tags: page == 0, values: true, grouped: is_grouped(&sql) },
            ),
        };
        let values: Vec<String> = values.iter().map(|value| value.literal(4)).collect();
        let sent = if values.is_empty() { sql } else { format!("{sql} -- {}", values.join(", ")) };
        Outcome { verdict, sent, postgres, neuroql }
    }

    /// Removes from a statement what does not matter to its failure.
    fn shrink(
        &mut self,
        seed: u64,
        index: u64,
        statement: &Statement,
        way: Way,
        reason: &'static str,
        mut outcome: Outcome,
    ) -> Result<Failure, Error> {
        let mut smallest = statement.clone();
        let mut budget = SHRINKING;
        let code = |answer: &Answer| match answer {
            Answer::Error { code, .. } => code.clone(),
            _ => String::new(),
        };
        'again: loop {
            for tree in smallest.tree.smaller() {
                if budget == 0 {
                    break 'again;
                }
                budget -= 1;
                let candidate = Statement { tree, ..smallest };
                let name = format!("s{}_{index}_{budget}", self.worker);
                let tried = self.ask(&candidate, way, &name)?;
                if tried.verdict == Verdict::Wrong(reason) && code(&tried.postgres) == code(&outcome.postgres) {
                    (smallest, outcome) = (candidate, tried);
                    continue 'again;
                }
            }
            break;
        }
        let format = match way {
            Way::Extended { format, .. } => format,
            _ => Format::Text,
        };
        Ok(Failure {
            seed,
            index,
            way: way.to_string(),
            reason,
            statement: outcome.sent,
            postgres: shown(&outcome.postgres, format),
            neuroql: shown(&outcome.neuroql, format),
            kind: String::new(),
        })
    }
}

/// The reason if a parameter is reported with another type.
const PARAMETERS: &str = "other types of parameters";

/// Returns true if a statement makes groups of equal values.
fn is_grouped(sql: &str) -> bool {
    ["DISTINCT", "GROUP BY", "UNION", "INTERSECT", "EXCEPT", "min(", "max("].iter().any(|word| sql.contains(word))
}

/// Greatest number of smaller statements that are tried for a failure.
const SHRINKING: u32 = 400;

fn lock(report: &Mutex<Report>) -> Result<std::sync::MutexGuard<'_, Report>, Error> {
    report.lock().map_err(|_| "a worker panicked".into())
}

/// Returns a message or statement without its numbers and quoted parts.
fn general(message: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for letter in message.chars() {
        match letter {
            '\'' => {
                if !quoted {
                    out.push_str("'…");
                } else {
                    out.push('\'');
                }
                quoted = !quoted;
            }
            _ if quoted => {}
            '0'..='9' => {
                if !out.ends_with('#') {
                    out.push('#');
                }
            }
            other => out.push(other),
        }
    }
    out
}

fn shown(answer: &Answer, format: Format) -> String {
    let cell = |cell: &Option<Vec<u8>>| match (cell, format) {
        (None, _) => "NULL".into(),
        (Some(bytes), Format::Text) => format!("{:?}", String::from_utf8_lossy(bytes)),
        (Some(bytes), Format::Binary) => {
            let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            format!("{hex} {:?}", String::from_utf8_lossy(bytes))
        }
    };
    let row = |row: &Vec<Option<Vec<u8>>>| format!("({})", row.iter().map(cell).collect::<Vec<_>>().join(", "));
    match answer {
        Answer::Rows { names, types, rows, tag } => {
            let shown = rows.iter().take(12).map(row).collect::<Vec<_>>().join(" ");
            format!("{tag}, columns {names:?}, types {types:?}: {shown}")
        }
        Answer::Done { tag } => tag.clone(),
        Answer::Error { code, message } => format!("{code} {message}"),
        Answer::Broken(reason) => format!("broken: {reason}"),
    }
}
