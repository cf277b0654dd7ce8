//! Tests of datasets in files as people have them: CSV with every separator, newlines in values, folders, compressed
//! ones; JSON; columns with a dictionary. Texts must be read as they were written, byte by byte; the writer here is not
//! the reader's.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    UInt64Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use libtest_mimic::Trial;
use neuroql::Engine;

use crate::answers::rows;
use crate::server::Error;
use crate::timing;

/// One trial per kind of file.
pub fn trials() -> Vec<Trial> {
    vec![
        timing::test("files::csv", || Ok(csv()?)),
        timing::test("files::large_csv", || Ok(large_csv()?)),
        timing::test("files::csv_folder", || Ok(csv_folder()?)),
        timing::test("files::csv_refused", || Ok(csv_refused()?)),
        timing::test("files::json", || Ok(json()?)),
        timing::test("files::dictionaries", || Ok(dictionaries()?)),
        timing::test("files::document_numbers", || Ok(document_numbers()?)),
    ]
}

/// Texts with every character that has a meaning in CSV.
const TEXTS: [&str; 12] = [
    "plain",
    "comma, semicolon; tab\t pipe |",
    "two\nlines",
    "two\r\nlines of Windows",
    "a \"quoted\" word",
    "\"all quoted\"",
    "backslash \\ and \\\" both",
    "ends in a newline\n",
    "\nbegins with one",
    "\n\n,\"\n,\",\n",
    "naïve 日本語 🙂",
    "# no comment",
];

/// Writes a value as RFC 4180 has it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// Writes records of a number and a text.
fn records<'a>(texts: impl IntoIterator<Item = &'a str>, first: usize, separator: char, end: &str) -> String {
    let mut file = String::new();
    for (i, text) in texts.into_iter().enumerate() {
        let _ = write!(file, "{}{separator}{}{end}", first + i, quoted(text));
    }
    file
}

/// Returns number and text of each row, by number.
async fn read(context: &SessionContext, table: &str) -> Result<Vec<(i64, String)>, Error> {
    let mut all = Vec::new();
    for batch in rows(context, &format!("SELECT id, text FROM {table} ORDER BY id")).await? {
        let (ids, texts) = (cast(batch.column(0), &DataType::Int64)?, cast(batch.column(1), &DataType::Utf8)?);
        let (ids, texts) = (ids.as_primitive::<Int64Type>(), texts.as_string::<i32>());
        all.extend(ids.iter().zip(texts).map(|(id, text)| (id.unwrap_or(-1), text.unwrap_or("NULL").to_owned())));
    }
    Ok(all)
}

fn numbered<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<(i64, String)> {
    texts.into_iter().zip(0..).map(|(text, i)| (i, text.to_owned())).collect()
}

async fn create(context: &SessionContext, table: &str, kind: &str, file: &Path, options: &str) -> Result<(), Error> {
    let options = if options.is_empty() { String::new() } else { format!("OPTIONS ({options})") };
    let location = file.display();
    rows(context, &format!("CREATE EXTERNAL TABLE {table} STORED AS {kind} LOCATION '{location}' {options}")).await?;
    Ok(())
}

/// Returns the message of a statement that must fail.
async fn refusal(context: &SessionContext, sql: &str) -> Result<String, Error> {
    let outcome = match context.sql(sql).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(rows) => Err(format!("{sql} gives {rows:?}").into()),
        Err(error) => Ok(format!("{} {}", neuroql::sqlstate(&error), neuroql::diagnose(&error).message)),
    }
}

#[tokio::main]
async fn csv() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let folder = tempfile::tempdir()?;
    let mut table = 0;
    for (separator, option) in [
        (',', ""),
        (';', "'format.delimiter' ';'"),
        ('|', "'format.delimiter' '|'"),
        ('\t', "'format.delimiter' E'\\t'"),
    ] {
        for (end, bom) in [("\n", ""), ("\r\n", ""), ("\n", "\u{feff}")] {
            let newlines = if table % 2 == 0 { "'format.newlines_in_values' 'true'" } else { "" };
            let options = [option, newlines].into_iter().filter(|o| !o.is_empty()).collect::<Vec<_>>().join(", ");
            let name = format!("t{table}");
            let file = folder.path().join(format!("{name}.{}", if separator == '\t' { "tsv" } else { "csv" }));
            fs::write(&file, format!("{bom}id{separator}text{end}{}", records(TEXTS, 0, separator, end)))?;
            create(&context, &name, "CSV", &file, &options).await?;
            assert_eq!(read(&context, &name).await?, numbered(TEXTS), "separator {separator:?}, end {end:?}, {bom:?}");
            table += 1;
        }
    }
    // A dataset: one document a record, with all of its text.
    let sql = "SELECT DISTINCT document, text FROM toy.activations WHERE dataset = 't1' AND layer = 0 AND neuron = 0 ORDER BY 1";
    let mut found = Vec::new();
    for batch in rows(&context, sql).await? {
        found.extend(cast(batch.column(1), &DataType::Utf8)?.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    assert_eq!(found, TEXTS);
    // Other quotes and escapes, declared by the table.
    let file = folder.path().join("single.csv");
    fs::write(&file, "id,text\n0,'it''s, \"so\"\nand so'\n1,'x'\n")?;
    create(&context, "single", "CSV", &file, "'format.quote' ''''").await?;
    assert_eq!(read(&context, "single").await?, numbered(["it's, \"so\"\nand so", "x"]));
    let file = folder.path().join("escaped.csv");
    fs::write(&file, "id,text\n0,\"say \\\"so, and\nso\\\"\"\n1,x\n")?;
    create(&context, "escaped", "CSV", &file, "'format.escape' '\\'").await?;
    assert_eq!(read(&context, "escaped").await?, numbered(["say \"so, and\nso\"", "x"]));
    // Without a header.
    let file = folder.path().join("bare.csv");
    fs::write(&file, records(TEXTS, 0, ',', "\n"))?;
    create(&context, "bare", "CSV", &file, "'format.has_header' 'false'").await?;
    rows(&context, "CREATE VIEW named AS SELECT column_1 AS id, column_2 AS text FROM bare").await?;
    assert_eq!(read(&context, "named").await?, numbered(TEXTS));
    // Compressed, with and without an option.
    for (ending, compression) in [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zst", "zstd")] {
        let file = folder.path().join(format!("packed.csv.{ending}"));
        let sql = format!(
            "COPY (SELECT id, text FROM t0 ORDER BY id) TO '{}' STORED AS CSV OPTIONS ('format.compression' '{compression}', 'format.has_header' 'true')",
            file.display()
        );
        rows(&context, &sql).await?;
        assert_ne!(fs::read(&file)?[..2], *b"id", "{ending} is compressed");
        for option in ["", &format!("'format.compression' '{compression}'")] {
            let name = format!("{compression}{}", option.len());
            create(&context, &name, "CSV", &file, option).await?;
            assert_eq!(read(&context, &name).await?, numbered(TEXTS), "{ending} {option}");
        }
    }
    Ok(())
}

/// Checks files large enough to be read in pieces side by side.
#[tokio::main]
async fn large_csv() -> Result<(), Error> {
    let context = Engine::builder().with_threads(4).build()?.session();
    let folder = tempfile::tempdir()?;
    // Most of a text looks like records of its own.
    let texts: Vec<String> = (0..6_000)
        .map(|i| (0..60).map(|line| format!("{i},line {line} of \"{i}\"\n{line},\"begins like a record")).collect())
        .collect();
    let expected = numbered(texts.iter().map(String::as_str));
    for (name, end) in [("unix", "\n"), ("windows", "\r\n")] {
        let file = folder.path().join(format!("{name}.csv"));
        fs::write(&file, format!("id,text{end}{}", records(texts.iter().map(String::as_str), 0, ',', end)))?;
        assert!(fs::metadata(&file)?.len() > 12 << 20);
        create(&context, name, "CSV", &file, "").await?;
        assert!(read(&context, name).await? == expected, "{name}");
        // Columns that are declared.
        let sql = format!(
            "CREATE EXTERNAL TABLE {name}2 (id BIGINT, text VARCHAR) STORED AS CSV LOCATION '{}'",
            file.display()
        );
        rows(&context, &sql).await?;
        assert!(read(&context, &format!("{name}2")).await? == expected, "{name}, declared");
    }
    Ok(())
}

#[tokio::main]
async fn csv_folder() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let folder = tempfile::tempdir()?;
    let parts = folder.path().join("parts");
    fs::create_dir(&parts)?;
    for (part, texts) in TEXTS.chunks(5).enumerate() {
        let file = format!("id,text\n{}", records(texts.iter().copied(), 5 * part, ',', "\n"));
        fs::write(parts.join(format!("{part}.csv")), file)?;
    }
    fs::write(parts.join("README.txt"), "not one of them, \"")?;
    let location = format!("{}/", parts.display());
    create(&context, "parts", "CSV", Path::new(&location), "").await?;
    assert_eq!(read(&context, "parts").await?, numbered(TEXTS));
    // Columns of a file are identified by their places: a file with others in them is refused.
    fs::write(parts.join("9.csv"), "text,id\nx,9\n")?;
    let sql = format!("CREATE EXTERNAL TABLE mixed STORED AS CSV LOCATION '{location}'");
    let message = refusal(&context, &sql).await?;
    assert!(message.starts_with("22P04 ") && message.contains("9.csv") && message.contains("text, id"), "{message}");
    // It is refused too if enough records were read before that file.
    let sql = format!("{sql} OPTIONS ('format.schema_infer_max_rec' '3')");
    assert!(refusal(&context, &sql).await?.starts_with("22P04 "));
    // A number in one file, a text in another.
    fs::write(parts.join("9.csv"), "id,text\n12,7\n")?;
    create(&context, "wider", "CSV", Path::new(&location), "").await?;
    assert_eq!(read(&context, "wider").await?.last(), Some(&(12, "7".into())));
    Ok(())
}

#[tokio::main]
async fn csv_refused() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ragged.csv");
    let sql = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", file.display());
    for content in ["a,b\n1,2\n1,2,3\n", "a,b\n1,\"x\ny\"\n1\n"] {
        fs::write(&file, content)?;
        let message = refusal(&context, &sql).await?;
        assert!(message.starts_with("22P04 ") && message.contains("ragged.csv"), "{message}");
        assert!(message.contains("declare them"), "{message}");
    }
    fs::write(&file, b"text\n\xff\xfe\n")?;
    let message = refusal(&context, &sql).await?;
    assert!(message.contains("ragged.csv") && message.contains("UTF-8"), "{message}");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty)?;
    fs::write(empty.join("a.tsv"), "text\nx\n")?;
    for kind in ["CSV", "PARQUET", "JSON"] {
        let message =
            refusal(&context, &format!("CREATE EXTERNAL TABLE t STORED AS {kind} LOCATION '{}/'", empty.display()))
                .await?;
        assert!(message.starts_with("58P01 ") && message.contains("/empty/"), "{message}");
    }
    Ok(())
}

/// Writes a text as JSON has it.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[tokio::main]
async fn json() -> Result<(), Error> {
    let context = Engine::builder().with_threads(4).build()?.session();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lines.json");
    let texts: Vec<String> =
        (0..100_000).map(|i| format!("{{\"id\": {i}, \"text\": \"{}\"}}\n{i}", TEXTS[i % 12].repeat(4))).collect();
    let expected = numbered(texts.iter().map(String::as_str));
    let lines: String = texts
        .iter()
        .enumerate()
        .map(|(i, text)| format!("{{\"id\": {i}, \"text\": {}}}\n", json_string(text)))
        .collect();
    assert!(lines.len() > 12 << 20);
    fs::write(&file, lines)?;
    create(&context, "lines", "JSON", &file, "").await?;
    assert!(read(&context, "lines").await? == expected);
    // Records of several lines each are read, or refused; never misread.
    let file = folder.path().join("pretty.json");
    let pretty: String = texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            format!(
                "{{\n\"id\":\n{i},\n\"text\":\n{},\n\"more\": [\n{{\"id\": -1, \"text\": \"no record\"}}\n]}}\n",
                json_string(text)
            )
        })
        .collect();
    fs::write(&file, pretty)?;
    let found = match create(&context, "pretty", "JSON", &file, "").await {
        Ok(()) => read(&context, "pretty").await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => assert!(found == expected),
        Err(error) => assert!(error.to_string().to_lowercase().contains("json"), "{error}"),
    }
    Ok(())
}

/// Checks columns of text in every form that Arrow and Parquet have.
#[tokio::main]
async fn dictionaries() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let folder = tempfile::tempdir()?;
    let texts = ["import numpy as np", "x", "import numpy as np", "Call me Ishmael."];
    let keys = Int32Array::from(vec![Some(0), Some(1), Some(0), None, Some(2)]);
    let distinct: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![texts[0], texts[1], texts[3]])),
        Arc::new(LargeStringArray::from(vec![texts[0], texts[1], texts[3]])),
        Arc::new(StringViewArray::from(vec![texts[0], texts[1], texts[3]])),
    ];
    let plain = vec![Some(texts[0]), Some(texts[1]), Some(texts[2]), None, Some(texts[3])];
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(plain.clone())),
        Arc::new(LargeStringArray::from(plain.clone())),
        Arc::new(StringViewArray::from(plain)),
    ];
    for values in distinct {
        columns.push(Arc::new(DictionaryArray::<Int32Type>::try_new(keys.clone(), values)?));
    }
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![70, 71, 72, 73, 74]));
    for (i, column) in columns.into_iter().enumerate() {
        let kind = column.data_type().clone();
        let batch = RecordBatch::try_from_iter([("document", Arc::clone(&ids)), ("text", column)])?;
        let (memory, stored, view) = (format!("memory{i}"), format!("stored{i}"), format!("view{i}"));
        context.register_batch(&memory, batch.clone())?;
        let mut tables = vec![memory];
        // The writer of Parquet knows no dictionaries of views.
        let file = folder.path().join(format!("{i}.parquet"));
        if !matches!(&kind, DataType::Dictionary(_, values) if **values == DataType::Utf8View) {
            let mut writer = ArrowWriter::try_new(fs::File::create(&file)?, batch.schema(), None)?;
            writer.write(&batch)?;
            writer.close()?;
            create(&context, &stored, "PARQUET", &file, "").await?;
            tables.push(stored);
        }
        rows(
            &context,
            &format!(
                "CREATE VIEW {view} AS SELECT document, text FROM {} WHERE text <> 'x' OR text IS NULL",
                tables[0]
            ),
        )
        .await?;
        tables.push(view);
        for table in tables {
            let what = format!("{table}: {kind}");
            let sql = format!(
                "SELECT document, text, count(*) AS n FROM toy.activations WHERE dataset = '{table}' AND layer = 0 AND neuron = 1 \
                 GROUP BY 1, 2 ORDER BY 1"
            );
            let found = rows(&context, &sql).await?;
            let found = datafusion::arrow::compute::concat_batches(&found[0].schema(), &found)?;
            let numbers = found.column(0).as_primitive::<Int64Type>().values().to_vec();
            let expected: &[i64] = if table.starts_with("view") { &[70, 72, 74] } else { &[70, 71, 72, 74] };
            assert_eq!(numbers, expected, "{what}");
            let found = cast(found.column(1), &DataType::Utf8)?;
            let found: Vec<&str> = found.as_string::<i32>().iter().flatten().collect();
            let expected: Vec<&str> =
                expected.iter().map(|n| texts[if *n > 72 { 3 } else { *n as usize - 70 }]).collect();
            assert_eq!(found, expected, "{what}");
            // Conditions on the column, by a literal and by the column itself.
            let joined = format!(
                "SELECT count(DISTINCT a.document) FROM toy.activations a JOIN {table} t ON a.text = t.text AND a.document = t.document \
                 WHERE a.dataset = '{table}' AND a.layer = 0 AND a.neuron = 1"
            );
            assert_eq!(number(&context, &joined).await?, expected.len() as i64, "{what}");
            let sql = format!(
                "SELECT count(*) FROM toy.activations WHERE dataset = '{table}' AND text = 'Call me Ishmael.' AND layer = 0 AND neuron = 1"
            );
            assert!(number(&context, &sql).await? > 2, "{what}");
            // Functions take the column, too.
            let sql = format!(
                "SELECT count(*) FROM {table} WHERE array_length(activation('toy', 1, 5, text)) = array_length(tokens('toy', text))"
            );
            assert_eq!(number(&context, &sql).await?, expected.len() as i64, "{what}");
            // The table is listed in `datasets`.
            let sql = format!("SELECT count(*) FROM datasets WHERE dataset = '{table}' AND text_column = 'text'");
            assert_eq!(number(&context, &sql).await?, i64::from(!table.starts_with("view")), "{what}");
        }
    }
    // A partition of a folder is no second text.
    let folder = folder.path().join("hive");
    for language in ["en", "fr"] {
        let part = folder.join(format!("language={language}"));
        fs::create_dir_all(&part)?;
        fs::write(part.join("a.csv"), "body\nhello\n")?;
    }
    let sql =
        format!("CREATE EXTERNAL TABLE hive STORED AS CSV PARTITIONED BY (language) LOCATION '{}/'", folder.display());
    rows(&context, &sql).await?;
    assert_eq!(
        number(&context, "SELECT count(*) FROM toy.activations WHERE dataset = 'hive' AND layer = 0 AND neuron = 0")
            .await?,
        4
    );
    Ok(())
}

async fn number(context: &SessionContext, sql: &str) -> Result<i64, Error> {
    let rows = rows(context, sql).await?;
    let value = rows.first().ok_or("no rows")?.column(0);
    Ok(cast(value, &DataType::Int64)?.as_primitive::<Int64Type>().value(0))
}

/// Checks the column `document`: every text has its number, or the error names one that has none.
#[tokio::main]
async fn document_numbers() -> Result<(), Error> {
    let context = Engine::builder().build()?.session();
    let documents = |table: &str| {
        format!(
            "SELECT document, count(*) AS n FROM toy.activations WHERE dataset = '{table}' AND layer = 0 AND neuron = 0 \
             GROUP BY document ORDER BY document"
        )
    };
    rows(
        &context,
        "CREATE TABLE gap AS SELECT * FROM (VALUES (5, 'hello'), (NULL, 'bonjour'), (7, 'x')) v(document, text)",
    )
    .await?;
    for sql in [
        documents("gap"),
        "SELECT * FROM analyze('toy', 'gap')".into(),
        "SELECT * FROM build_graphs('toy', layers => '0', neurons => '1', dataset => 'gap')".into(),
    ] {
        let message = refusal(&context, &sql).await?;
        assert!(message.starts_with("22004 ") && message.contains("row 2") && message.contains("\"gap\""), "{message}");
    }
    // A number beyond bigint is not taken for another.
    let huge: [(&str, ArrayRef); 2] =
        [("document", Arc::new(UInt64Array::from(vec![u64::MAX]))), ("text", Arc::new(StringArray::from(vec!["x"])))];
    context.register_batch("huge", RecordBatch::try_from_iter(huge)?)?;
    let message = refusal(&context, &documents("huge")).await?;
    assert!(message.starts_with("22004 ") && message.contains("18446744073709551615"), "{message}");
    // NULL texts need none; others may be in any order, below zero, as large as there are, and the same.
    rows(
        &context,
        "CREATE TABLE odd AS SELECT * FROM (VALUES (9223372036854775807, 'hello'), (-3, 'x'), (NULL, NULL), (-3, 'bonjour'), \
         (0, 'hello')) v(document, text)",
    )
    .await?;
    for analysed in [false, true] {
        if analysed {
            rows(&context, "SELECT * FROM analyze('toy', 'odd')").await?;
        }
        let found = rows(&context, &documents("odd")).await?;
        let found = datafusion::arrow::compute::concat_batches(&found[0].schema(), &found)?;
        let numbers = found.column(0).as_primitive::<Int64Type>().values();
        let counts = found.column(1).as_primitive::<Int64Type>().values();
        assert_eq!((&numbers[..], &counts[..]), (&[-3, 0, i64::MAX][..], &[5, 2, 2][..]));
        let sql = "SELECT count(*) FROM toy.activations WHERE dataset = 'odd' AND document = -3 AND text = 'bonjour' AND layer = 0 \
                   AND neuron = 0 AND activation > -100";
        assert_eq!(number(&context, sql).await?, 4);
    }
    Ok(())
}
