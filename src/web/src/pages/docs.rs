//! `/docs`: tables and functions as the catalog describes them.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::html::{self, panel, table, text_cell, text_head};
use super::{Result, Site};
use crate::query::{Answer, Visitor};
use crate::sql_text::escaped;

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs {
    panels: String,
    site: String,
}

const TABLES: &str = "SELECT c.relname AS table_name, a.attname AS column_name, format_type(a.atttypid, a.atttypmod) AS kind,\n\
\x20 obj_description(c.oid, 'pg_class') AS table_comment, col_description(c.oid, a.attnum) AS column_comment\n\
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid\n\
WHERE n.nspname = 'public' AND a.attnum > 0 AND obj_description(c.oid, 'pg_class') IS NOT NULL ORDER BY c.relname, a.attnum";

const FUNCTIONS: &str = "SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,\n\
\x20 p.proretset AS is_table, obj_description(p.oid, 'pg_proc') AS description\n\
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public' ORDER BY 1";

pub(crate) async fn page(State(site): Site, visitor: Visitor, headers: axum::http::HeaderMap) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let answer = asker.ask(TABLES).await?;
    let mut comments: BTreeMap<String, (String, Vec<usize>)> = BTreeMap::new();
    for row in answer.rows() {
        let name = answer.text(row, "table_name").unwrap_or_default();
        let comment = answer.text(row, "table_comment").unwrap_or_default();
        comments.entry(name.to_owned()).or_insert_with(|| (comment.to_owned(), Vec::new())).1.push(row);
    }
    let functions = asker.ask(FUNCTIONS).await?;
    let is_function = |name: &str| functions.rows().any(|row| functions.text(row, "name") == Some(name));
    let heads = [text_head("column"), text_head("type"), text_head("")];
    let mut tables =
        html::note("In the schema of each model (toy.neurons), and here over all models with a leading column model.");
    for (name, (comment, rows)) in comments.iter().filter(|(name, _)| !is_function(name)) {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                vec![
                    text_cell(&answer, *row, "column_name"),
                    text_cell(&answer, *row, "kind"),
                    answer.text(*row, "column_comment").map_or(String::new(), escaped),
                ]
            })
            .collect();
        tables += &format!(
            "<details><summary><code>{}</code> {}</summary>{}</details>",
            escaped(name),
            escaped(comment),
            table(name, &heads, &rows)?
        );
    }
    let mut panels = panel("tables", "Tables", &tables, &[&answer.sql])?;
    panels += &panel("table-functions", "Table functions", &function_rows(&functions, true), &[&functions.sql])?;
    panels += &panel("functions", "Functions", &function_rows(&functions, false), &[])?;
    let host = headers.get(axum::http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8433");
    let body = Docs { panels, site: format!("http://{host}/") }.render()?;
    let crumbs = vec![("models".into(), "/".into()), ("docs".into(), String::new())];
    Ok(html::page(&visitor, "Documentation", &crumbs, &body)?)
}

fn function_rows(answer: &Answer, of_tables: bool) -> String {
    let mut body = String::new();
    for row in answer.rows().filter(|row| answer.flag(*row, "is_table") == Some(of_tables)) {
        let result = match of_tables {
            true => String::new(),
            false => format!(" → {}", answer.text(row, "result").unwrap_or_default()),
        };
        let text = |column: &str| answer.text(row, column).unwrap_or_default();
        let signature = format!("{}({}){result}", text("name"), text("arguments"));
        body += &format!(
            "<details><summary><code>{}</code> {}</summary><pre tabindex=\"0\"><code>{}</code></pre>{}</details>",
            escaped(text("name")),
            escaped(text("description")),
            escaped(&signature),
            if of_tables { format!("<p>Rows: <code>{}</code></p>", escaped(text("result"))) } else { String::new() }
        );
    }
    body
}
