//! The catalog: `\d` and the commands like it.

use std::io::ErrorKind;

use neuroql_pg::{Column, Event, Row};

use crate::shell::report::report_text;
use crate::shell::screen::Screen;
use crate::shell::{Done, Shell, Stop};

/// The relations that a command of this kind shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A list.
    List {
        title: &'static str,
        sql: String,
        /// Message if it is empty.
        nothing: String,
    },
    /// The columns of each relation that fits a pattern; `relations` finds them.
    Columns { relations: String, nothing: String },
}

/// Returns what a command shows; `None` if it is no command of this kind.
pub(crate) fn query(name: &str, pattern: &str) -> Option<Result<Wanted, String>> {
    let (name, more) = match name.strip_suffix('+') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let wanted = match name {
        "d" if !pattern.is_empty() => Pattern::read(pattern).map(|parts| Wanted::Columns {
            relations: format!(
                "SELECT c.oid, n.nspname, c.relname, CASE c.relkind WHEN 'v' THEN 'View' ELSE 'Table' END FROM \
                 pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind \
                 IN ('r','p','v','m','f'){} ORDER BY 2, 3",
                parts.condition("n.nspname", "c.relname", "pg_catalog.pg_table_is_visible(c.oid)")
            ),
            nothing: format!("Did not find any relation named \"{pattern}\"."),
        }),
        "d" => relations("'r','p','v','m','f'", pattern, "relation"),
        "dt" => relations("'r','p','f'", pattern, "relation"),
        "dv" => relations("'v','m'", pattern, "relation"),
        "dn" => Pattern::read(pattern).map(|parts| Wanted::List {
            title: "List of schemas",
            sql: format!(
                "SELECT n.nspname AS \"Name\", pg_catalog.pg_get_userbyid(n.nspowner) AS \"Owner\" FROM \
                 pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'{} ORDER BY 1",
                parts.condition("NULL", "n.nspname", "true")
            ),
            nothing: format!("Did not find any schema named \"{pattern}\"."),
        }),
        "df" => functions(pattern, more),
        _ => return None,
    };
    Some(wanted)
}

/// Lists relations of some kinds.
fn relations(kinds: &str, pattern: &str, what: &str) -> Result<Wanted, String> {
    let parts = Pattern::read(pattern)?;
    let of_users = match pattern.is_empty() {
        true => " AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'",
        false => "",
    };
    Ok(Wanted::List {
        title: "List of relations",
        sql: format!(
            "SELECT n.nspname AS \"Schema\", c.relname AS \"Name\", CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN \
             'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS \"Type\", \
             pg_catalog.pg_get_userbyid(c.relowner) AS \"Owner\" FROM pg_catalog.pg_class c LEFT JOIN \
             pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ({kinds}){of_users}{} ORDER BY 1, 2",
            parts.condition("n.nspname", "c.relname", "pg_catalog.pg_table_is_visible(c.oid)")
        ),
        nothing: match pattern {
            "" => format!("Did not find any {what}s."),
            _ => format!("Did not find any {what} named \"{pattern}\"."),
        },
    })
}

fn functions(pattern: &str, more: bool) -> Result<Wanted, String> {
    let parts = Pattern::read(pattern)?;
    let of_users = match pattern.is_empty() {
        true => " AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'",
        false => "",
    };
    let description = if more { ", pg_catalog.obj_description(p.oid, 'pg_proc') AS \"Description\"" } else { "" };
    Ok(Wanted::List {
        title: "List of functions",
        sql: format!(
            "SELECT n.nspname AS \"Schema\", p.proname AS \"Name\", pg_catalog.pg_get_function_result(p.oid) AS \
             \"Result data type\", pg_catalog.pg_get_function_arguments(p.oid) AS \"Argument data types\", CASE \
             p.prokind WHEN 'a' THEN 'agg' WHEN 'w' THEN 'window' WHEN 'p' THEN 'proc' ELSE 'func' END AS \
             \"Type\"{description} FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_namespace n ON n.oid = \
             p.pronamespace WHERE true{of_users}{} ORDER BY 1, 2, 4",
            parts.condition("n.nspname", "p.proname", "pg_catalog.pg_function_is_visible(p.oid)")
        ),
        nothing: format!("Did not find any function named \"{pattern}\"."),
    })
}

/// A pattern of names: `*` and `?` stand for letters, a dot ends the schema, and quotes keep letters as they are.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    /// Regular expression of the schema.
    schema: Option<String>,
    /// Regular expression of the name; `None` fits all.
    name: Option<String>,
}

impl Pattern {
    fn read(text: &str) -> Result<Self, String> {
        let mut parts = vec![String::new()];
        let mut is_quoted = false;
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let part = parts.len() - 1;
            let part = &mut parts[part];
            match letter {
                '"' if is_quoted && letters.next_if_eq(&'"').is_some() => part.push('"'),
                '"' => is_quoted = !is_quoted,
                letter if is_quoted && "|*+?()[]{}.^$\\".contains(letter) => part.extend(['\\', letter]),
                letter if is_quoted => part.push(letter),
                '*' => part.push_str(".*"),
                '?' => part.push('.'),
                '.' => parts.push(String::new()),
                '$' => part.push_str("\\$"),
                letter => part.extend(letter.to_lowercase()),
            }
        }
        let mut parts = parts.into_iter().rev().map(|part| (!part.is_empty()).then_some(part));
        let (name, schema, rest) = (parts.next().flatten(), parts.next().flatten(), parts.next());
        match rest {
            None => Ok(Self { schema, name }),
            Some(_) => Err(format!("improper qualified name (too many dotted names): {text}")),
        }
    }

    /// Returns conditions, with AND before each, on the columns with the schema and the name. Without a schema only what
    /// is `visible` counts.
    fn condition(&self, schema: &str, name: &str, visible: &str) -> String {
        let mut text = String::new();
        for (column, part) in [(name, &self.name), (schema, &self.schema)] {
            if let Some(part) = part.as_ref().filter(|part| *part != ".*") {
                text.push_str(&format!(" AND {column} ~ '^({})$'", part.replace('\'', "''")));
            }
        }
        if self.schema.is_none() {
            text.push_str(&format!(" AND {visible}"));
        }
        text
    }
}

impl Shell {
    /// Shows a part of the catalog.
    pub(crate) async fn describe(&mut self, wanted: Wanted) -> Result<Done, Stop> {
        match wanted {
            Wanted::List { title, sql, nothing } => match self.collect(&sql).await? {
                None => Ok(Done::Failed),
                // psql shows an empty list of functions.
                Some((_, rows)) if rows.is_empty() && !title.ends_with("functions") => {
                    self.say(&format!("{nothing}\n"))?;
                    Ok(Done::Good)
                }
                Some(result) => self.show(result, title),
            },
            Wanted::Columns { relations, nothing } => {
                let Some((_, found)) = self.collect(&relations).await? else { return Ok(Done::Failed) };
                if found.is_empty() {
                    self.say(&format!("{nothing}\n"))?;
                    return Ok(Done::Failed);
                }
                for relation in found {
                    let values: Vec<_> = relation.values().map(Option::unwrap_or_default).collect();
                    let [oid, schema, name, kind] = values[..] else { continue };
                    let sql = format!(
                        "SELECT a.attname AS \"Column\", pg_catalog.format_type(a.atttypid, a.atttypmod) AS \"Type\", \
                         CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS \"Nullable\", \
                         pg_catalog.col_description(a.attrelid, a.attnum) AS \"Description\" FROM \
                         pg_catalog.pg_attribute a WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped \
                         ORDER BY a.attnum"
                    );
                    let Some(columns) = self.collect(&sql).await? else { return Ok(Done::Failed) };
                    self.show(columns, &format!("{kind} \"{schema}.{name}\""))?;
                }
                Ok(Done::Good)
            }
        }
    }

    /// Shows rows of the catalog.
    fn show(&mut self, (columns, rows): (Vec<Column>, Vec<Row>), title: &str) -> Result<Done, Stop> {
        let size = self.size;
        let mut screen = Screen::new(&mut self.output, size.filter(|_| self.pager));
        let mut layout = self.style.layout(columns, Some(title), &mut screen)?;
        let written = rows.into_iter().try_for_each(|row| layout.row(row, &mut screen));
        match written.and_then(|()| layout.end(&mut screen)).and_then(|()| screen.finish()) {
            // The reader of the pager has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.is_interactive => Ok(Done::Good),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Done::Good),
        }
    }

    /// Returns the result of a query of the catalog. `None` if it fails; the user is told why.
    pub(crate) async fn collect(&mut self, sql: &str) -> Result<Option<(Vec<Column>, Vec<Row>)>, Stop> {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        let mut failed = None;
        self.client.query(sql).await?;
        while let Some(event) = self.client.next().await? {
            match event {
                Event::Columns(found) => columns = found,
                Event::Row(row) => rows.push(row),
                Event::Error(report) => failed = Some(report),
                _ => {}
            }
        }
        if let Some(report) = failed {
            self.say(&report_text(&report, sql))?;
            return Ok(None);
        }
        Ok(Some((columns, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let read = |text: &str| {
            let pattern = Pattern::read(text).unwrap();
            (pattern.schema.unwrap_or_default(), pattern.name.unwrap_or_default())
        };
        let pair = |schema: &str, name: &str| (schema.to_string(), name.to_string());
        assert_eq!(read("Toy.N*"), pair("toy", "n.*"));
        assert_eq!(read("neuron?"), pair("", "neuron."));
        assert_eq!(read("\"A.b*\""), pair("", "A\\.b\\*"));
        assert_eq!(read("toy."), pair("toy", ""));
        assert!(Pattern::read("a.b.c").is_err());
    }

    #[test]
    fn conditions() {
        let condition = |text: &str| Pattern::read(text).unwrap().condition("s", "n", "v");
        assert_eq!(condition("toy.*"), " AND s ~ '^(toy)$'");
        assert_eq!(condition("it's"), " AND n ~ '^(it''s)$' AND v");
        assert_eq!(condition(""), " AND v");
    }
}
