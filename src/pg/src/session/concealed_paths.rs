//! Paths of the server's files, which only superusers see: in EXPLAIN and in errors.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;
use neuroql::locations_of;

use crate::wire::error_response::SqlError;

/// Text in place of a path.
const CONCEALED: &str = "…";

/// Leaves out the files of scans in the rows of an EXPLAIN.
pub(crate) fn without_files(batch: RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>().iter();
            Arc::new(texts.map(|text| text.map(plan_without_files)).collect::<StringArray>()) as ArrayRef
        }
        _ => Arc::clone(column),
    });
    // The columns have the types and lengths that they had.
    RecordBatch::try_new(batch.schema(), columns.collect()).unwrap_or(batch)
}

/// Leaves out the files in the text of a plan: what is between `file_groups={1 group: ` and the last `]}` of the line.
fn plan_without_files(plan: &str) -> String {
    const GROUPS: &str = "file_groups={";
    let concealed = plan.split_inclusive('\n').map(|line| {
        let Some(start) = line.find(GROUPS).map(|start| start + GROUPS.len()) else { return line.to_owned() };
        let count = line[start..].find(':').map_or(start, |colon| start + colon);
        let end = line.rfind("]}").map_or(line.trim_end().len(), |end| end + 1).max(count);
        format!("{}: {CONCEALED}{}", &line[..count], &line[end..])
    });
    concealed.collect()
}

/// Leaves out the locations of tables and models in an error.
pub(crate) async fn without_locations(context: &SessionContext, mut error: SqlError) -> SqlError {
    let has_path = |text: &str| text.contains('/') || text.contains('\\');
    let texts = [Some(&error.message), error.hint.as_ref(), error.context.as_ref()];
    if !texts.into_iter().flatten().any(|text| has_path(text)) {
        return error;
    }
    let known = locations(context).await;
    for text in [Some(&mut error.message), error.hint.as_mut(), error.context.as_mut()].into_iter().flatten() {
        *text = text_without(text, &known);
    }
    error
}

/// Returns the locations of all tables and models, the longest first.
async fn locations(context: &SessionContext) -> Vec<String> {
    let catalog = context.state_ref().read().config_options().catalog.default_catalog.clone();
    let Some(schema) = context.catalog(&catalog).and_then(|catalog| catalog.schema("public")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in schema.table_names() {
        if let Ok(Some(table)) = schema.table(&name).await {
            found.extend(locations_of(table.as_ref()));
        }
    }
    // Object stores have paths without the slash at their beginning.
    let paths = found.iter().map(|location| location.strip_prefix("file://").unwrap_or(location).trim_matches('/'));
    let mut paths: Vec<_> = paths.filter(|path| path.len() > 1).map(str::to_owned).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    paths.dedup();
    paths
}

/// Replaces each path that begins with a known one, up to the end of the path.
fn text_without(text: &str, known: &[String]) -> String {
    let mut left = String::new();
    let mut rest = text;
    let next = |rest: &str| known.iter().filter_map(|path| Some((rest.find(path.as_str())?, path.len()))).min();
    while let Some((at, length)) = next(rest) {
        let before = rest[..at].trim_end_matches('/');
        left += before.strip_suffix("file:").unwrap_or(before);
        left += CONCEALED;
        let after = &rest[at + length..];
        let is_end = |letter: char| letter.is_whitespace() || "'\",;()[]{}<>`".contains(letter);
        let end = after.find(is_end).unwrap_or(after.len());
        rest = &after[end..];
    }
    left + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_name_no_files() {
        let plan = "FilterExec: a@0 = 1\n  DataSourceExec: file_groups={2 groups: [[a/b.csv:0..1], [tmp/x ]} y.csv]]}, projection=[a], file_type=csv\n";
        assert_eq!(
            plan_without_files(plan),
            "FilterExec: a@0 = 1\n  DataSourceExec: file_groups={2 groups: …}, projection=[a], file_type=csv\n"
        );
        assert_eq!(plan_without_files("file_groups={1 group: [[cut"), "file_groups={1 group: …");
        assert_eq!(plan_without_files("nothing"), "nothing");
    }

    #[test]
    fn errors_name_no_locations() {
        let known = ["srv/data/texts.csv".to_owned(), "srv/data".to_owned()];
        for (text, expected) in [
            ("Object at location /srv/data/texts.csv not found", "Object at location … not found"),
            ("cannot read 'file:///srv/data/more/x.csv': gone", "cannot read '…': gone"),
            ("srv/data/texts.csv and srv/data/y", "… and …"),
            ("1/2 is no path", "1/2 is no path"),
        ] {
            assert_eq!(text_without(text, &known), expected);
        }
    }
}
