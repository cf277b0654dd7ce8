//! Statements that create tables again.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{Result, TableReference, not_impl_err};
use datafusion::logical_expr::{CreateExternalTable, cast, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::PostgreSqlDialect;
use futures::future::BoxFuture;

use crate::Error;
use crate::async_method::async_method;

/// A factory whose tables know the statement that creates them, wherever it is run. DataFusion's own idea of it leaves
/// out columns and options.
#[derive(Debug)]
pub struct DdlRecordingFactory(pub Arc<dyn TableProviderFactory>);

impl TableProviderFactory for DdlRecordingFactory {
    async_method!(create => create_table);
}

impl DdlRecordingFactory {
    fn create_table<'a>(
        &'a self,
        session: &'a dyn Session,
        cmd: &'a CreateExternalTable,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>>> {
        Box::pin(async move {
            let mut cmd = cmd.clone();
            cmd.locations.iter_mut().for_each(|location| *location = absolute(location));
            // There are types that SQL has no name for: such a table can be created, but not remembered.
            let definition = statement(&cmd);
            let definition =
                definition.inspect_err(|error| tracing::warn!(table = %cmd.name, %error, "is not remembered"));
            cmd.definition = definition.ok();
            decompress(&mut cmd);
            let table = self.0.create(session, &cmd).await?;
            if table.schema().fields().is_empty() {
                let (location, table) = (cmd.locations.join(", "), cmd.name.to_string());
                let ending = format!(".{}", cmd.file_type.to_lowercase());
                return Err(Error::NoFiles { location, ending, table }.into());
            }
            Ok(table)
        })
    }
}

/// Reads files whose names end as those of compressed ones do as such, unless the statement says how they are.
fn decompress(cmd: &mut CreateExternalTable) {
    const ENDINGS: [(&str, &str); 4] = [(".gz", "gzip"), (".bz2", "bzip2"), (".xz", "xz"), (".zst", "zstd")];
    let is_text = ["CSV", "JSON", "NDJSON"].iter().any(|kind| cmd.file_type.eq_ignore_ascii_case(kind));
    let given = cmd.options.keys().any(|key| key.trim_start_matches("format.").eq_ignore_ascii_case("compression"));
    if !is_text || given {
        return;
    }
    let ends = |ending: &str| cmd.locations.iter().all(|location| location.ends_with(ending));
    if let Some((_, compression)) = ENDINGS.iter().find(|(ending, _)| ends(ending)) {
        cmd.options.insert("format.compression".into(), (*compression).into());
    }
}

/// Returns a path as an absolute one, the same in every working directory; URLs stay as they are.
pub(crate) fn absolute(location: &str) -> String {
    if location.contains("://") {
        return location.into();
    }
    let absolute = std::path::absolute(Path::new(location)).ok();
    let absolute = absolute.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| location.into());
    // A folder is recognised by its slash.
    if location.ends_with('/') && !absolute.ends_with('/') { absolute + "/" } else { absolute }
}

/// Returns the statement in full. Constraints are left out: nothing enforces them on files.
fn statement(cmd: &CreateExternalTable) -> Result<String> {
    let dialect = PostgreSqlDialect {};
    let unparser = Unparser::new(&dialect);
    let name = |name: &str| ast::Ident::with_quote('"', name.replace('"', "\"\"")).to_string();
    let text = |text: &str| ast::Value::SingleQuotedString(text.replace('\'', "''")).to_string();
    let mut sql =
        format!("CREATE OR REPLACE EXTERNAL TABLE {}", TableReference::bare(cmd.name.table()).to_quoted_string());
    let mut columns = Vec::new();
    for field in cmd.schema.fields() {
        let null = cast(lit(ScalarValue::Null), field.data_type().clone());
        let ast::Expr::Cast { data_type, .. } = unparser.expr_to_sql(&null)? else {
            return not_impl_err!("the type of column {}", field.name());
        };
        let mut column = format!("{} {data_type}", name(field.name()));
        if !field.is_nullable() {
            column += " NOT NULL";
        }
        if let Some(default) = cmd.column_defaults.get(field.name()) {
            column += &format!(" DEFAULT {}", unparser.expr_to_sql(default)?);
        }
        columns.push(column);
    }
    if !columns.is_empty() {
        sql += &format!(" ({})", columns.join(", "));
    }
    sql += &format!(" STORED AS {}", cmd.file_type);
    if !cmd.table_partition_cols.is_empty() {
        // DataFusion takes these names as they are written, quotes included.
        sql += &format!(" PARTITIONED BY ({})", cmd.table_partition_cols.join(", "));
    }
    for order in &cmd.order_exprs {
        let order = order.iter().map(|sort| Ok(unparser.sort_to_sql(sort)?.to_string())).collect::<Result<Vec<_>>>()?;
        sql += &format!(" WITH ORDER ({})", order.join(", "));
    }
    let locations: Vec<String> = cmd.locations.iter().map(|location| text(location)).collect();
    match &locations[..] {
        [location] => sql += &format!(" LOCATION {location}"),
        locations => sql += &format!(" LOCATION ({})", locations.join(", ")),
    }
    let mut options: Vec<String> =
        cmd.options.iter().map(|(key, value)| format!("{} {}", text(key), text(value))).collect();
    options.sort();
    if !options.is_empty() {
        sql += &format!(" OPTIONS ({})", options.join(", "));
    }
    Ok(sql)
}
