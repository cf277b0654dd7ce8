//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Ask SQL questions about the neurons of language models.
///
/// Without a command it serves the bundled model on 127.0.0.1:5433.
#[derive(Debug, Parser)]
#[command(name = "neuroql", version, about, long_about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  neuroql                                       serve the bundled model, then: psql -h 127.0.0.1 -p 5433 -U neuroql
  neuroql serve --model smol=SmolLM2.gguf       serve a model of your own as well
  neuroql serve --model pythia=hf://EleutherAI/pythia-70m --memory-limit 4GB
  neuroql query \"SELECT * FROM models\"          ask one question
  neuroql query -f questions.sql --format csv -o answers.csv
  neuroql serve --store results                 remember registrations and analyses
  neuroql analyze toy --store results           run the toy over its corpus once
  neuroql graph toy 1 17 --svg out.svg          draw the graph of a neuron

Logs go to standard error; RUST_LOG=debug shows more of them.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models to Postgres clients
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Run SQL and print the result
    #[command(after_help = QUERY_EXAMPLES)]
    Query(Query),
    /// Run a model over a dataset once and keep what it learns
    #[command(after_help = ANALYZE_EXAMPLES)]
    Analyze(Analyze),
    /// Print or draw the graph of a neuron
    #[command(after_help = GRAPH_EXAMPLES)]
    Graph(Graph),
    /// Build the graphs of a model's neurons and keep them
    #[command(after_help = BUILD_EXAMPLES)]
    Build(Build),
    /// Delete files of a store that only old snapshots need
    Vacuum(Vacuum),
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(Serve {
            listen: DEFAULT_LISTEN.into(),
            password_file: None,
            tls_cert: None,
            tls_key: None,
            allow_unencrypted: false,
            max_connections: 100,
            max_connections_per_user: None,
            statement_timeout: None,
            max_statement_timeout: None,
            engine: Engine::default(),
        })
    }
}

const BUILD_EXAMPLES: &str = "\
Examples:
  neuroql build toy --layer 0-1 --store results
  neuroql build smol --model smol=SmolLM2-135M.gguf --layer 7 --neuron 0-49 --method n2g --store results

What was built before is not built again, so that an interrupted build goes on.";

const DEFAULT_LISTEN: &str = "127.0.0.1:5433";

const SERVE_EXAMPLES: &str = "\
Examples:
  neuroql serve --listen 127.0.0.1:6000
  neuroql serve --listen 0.0.0.0:5433 --password-file users --tls-cert server.pem --tls-key server.key

The password file has one user a line, name:password or name:password:superuser, in which the password may also be
a verifier as Postgres stores it (SCRAM-SHA-256$...). Users are read-only unless they are superusers. Without a
password file every client of this machine is the superuser neuroql, and other machines cannot connect.";

const QUERY_EXAMPLES: &str = "\
Examples:
  neuroql query \"SELECT model, layers, neurons_per_layer FROM models\"
  neuroql query \"SELECT token, activation FROM toy.activations WHERE text = 'hello' AND layer = 1 AND neuron = 17\" --format csv
  neuroql query -f questions.sql --format json | jq .activation
  neuroql query \"SELECT * FROM toy.neurons\" --format parquet -o neurons.parquet

Several statements may be given, separated by semicolons; they stop at the first that fails. JSON is written as one
object a line. Parquet takes the rows of exactly one statement, and needs -o or a pipe.";

const ANALYZE_EXAMPLES: &str = "\
Examples:
  neuroql analyze toy --dataset corpus --store results
  neuroql analyze smol --model smol=SmolLM2.gguf --layers 0-3 --documents 20 --store results
  neuroql analyze smol --dataset news --table news=news.parquet --store s3://bucket/results

An analysis that is interrupted goes on where it stopped when the command is given again; one that is complete takes in
the documents that were appended to the dataset since.";

const GRAPH_EXAMPLES: &str = "\
Examples:
  neuroql graph toy 1 17
  neuroql graph toy 1 17 --svg out.svg
  neuroql graph toy 1 17 --method n2g --mermaid --store results";

/// Options of `neuroql graph`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("form").args(["text", "svg", "dot", "mermaid", "json"]))]
pub(crate) struct Graph {
    /// Name of the model: toy, one of --model, or one the store remembers
    pub(crate) model: String,
    /// The layer, from 0
    pub(crate) layer: u32,
    /// The neuron, from 0
    pub(crate) neuron: u32,
    /// Draw it as SVG; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Print its patterns, one a line (this is the default)
    #[arg(long)]
    pub(crate) text: bool,
    /// Print it for Graphviz
    #[arg(long)]
    pub(crate) dot: bool,
    /// Print it for Mermaid
    #[arg(long)]
    pub(crate) mermaid: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Method that made the graph [default: neuroql, else the one built last]
    #[arg(long, value_name = "NAME")]
    pub(crate) method: Option<String>,
    #[command(flatten)]
    pub(crate) engine: Engine,
}

/// Options of `neuroql build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Name of the model: toy, one of --model, or one the store remembers
    pub(crate) model: String,
    /// Layers, such as 0-3,7 [default: all]
    #[arg(long, value_name = "RANGES")]
    pub(crate) layer: Option<String>,
    /// Neurons of each layer, such as 0-9 [default: all]
    #[arg(long, value_name = "RANGES")]
    pub(crate) neuron: Option<String>,
    /// neuroql, n2g, openai, token or ngram
    #[arg(long, value_name = "NAME", default_value = "neuroql")]
    pub(crate) method: String,
    /// Name of the dataset
    #[arg(long, value_name = "NAME", default_value = "corpus")]
    pub(crate) dataset: String,
    /// Numbers of the method, such as {"most_firings": 64}
    #[arg(long, value_name = "JSON")]
    pub(crate) options: Option<String>,
    /// Build again what is there already
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// A Parquet, CSV or JSON file or folder that is the dataset (may be repeated)
    #[arg(long = "table", value_name = "NAME=LOCATION", value_parser = model)]
    pub(crate) tables: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) engine: Engine,
}

/// Options of `neuroql analyze`.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// Name of the model: toy, one of --model, or one the store remembers
    pub(crate) model: String,
    /// Name of the dataset
    #[arg(long, value_name = "NAME", default_value = "corpus")]
    pub(crate) dataset: String,
    /// Layers, such as 0-3,7 [default: all]
    #[arg(long, value_name = "RANGES")]
    pub(crate) layers: Option<String>,
    /// Documents at most [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) documents: Option<u64>,
    /// Strongest examples to keep of each neuron
    #[arg(short, value_name = "K", default_value_t = 20)]
    pub(crate) k: u32,
    /// A Parquet, CSV or JSON file or folder that is the dataset (may be repeated)
    #[arg(long = "table", value_name = "NAME=LOCATION", value_parser = model)]
    pub(crate) tables: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) engine: Engine,
}

/// Options of `neuroql vacuum`.
#[derive(Debug, Args)]
pub(crate) struct Vacuum {
    /// Folder or object store URL of the store
    #[arg(long, value_name = "DIR|URL", env = "NEUROQL_STORE")]
    pub(crate) store: String,
    /// Seconds for which files stay that a reader of an older snapshot may still need
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) retention: u64,
}

/// Options of `neuroql serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN, env = "NEUROQL_LISTEN")]
    pub(crate) listen: String,
    /// Users and passwords; required to listen on an address other machines can reach
    #[arg(long, value_name = "FILE", env = "NEUROQL_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Certificate chain in PEM; with it remote clients must encrypt
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key in PEM: PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve other machines without encryption
    #[arg(long)]
    pub(crate) allow_unencrypted: bool,
    /// Clients at a time; three of these places are kept for superusers
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) max_connections: usize,
    /// Clients at a time of each user who is not a superuser
    #[arg(long, value_name = "N")]
    pub(crate) max_connections_per_user: Option<usize>,
    /// Time that a statement may run (500ms, 30s, 5min) in sessions that do not set statement_timeout
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) statement_timeout: Option<Duration>,
    /// The longest statement_timeout of users who are not superusers
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) max_statement_timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) engine: Engine,
}

/// Options of `neuroql query`.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// SQL to run; - reads it from standard input
    #[arg(required_unless_present = "file")]
    pub(crate) sql: Option<String>,
    /// File with SQL to run, before the SQL given as an argument
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Format of the rows
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write the rows to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) engine: Engine,
}

/// Forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table to look at
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Json,
    /// An Apache Parquet file
    Parquet,
}

/// Options of the engine, whatever it is used for.
#[derive(Debug, Default, Args)]
pub(crate) struct Engine {
    /// Register a model: a file, folder, hf://org/name or object store URL (may be repeated)
    #[arg(long = "model", value_name = "NAME=LOCATION", value_parser = model)]
    pub(crate) models: Vec<(String, String)>,
    /// Store of registrations and results: a folder or an object store URL [default: in memory]
    #[arg(long, value_name = "DIR|URL", env = "NEUROQL_STORE")]
    pub(crate) store: Option<String>,
    /// Memory queries may use, such as 500MB or 4GB
    #[arg(long, value_name = "SIZE", value_parser = bytes, env = "NEUROQL_MEMORY_LIMIT")]
    pub(crate) memory_limit: Option<usize>,
    /// Threads that run queries [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
}

impl Arguments {
    pub(crate) fn threads(&self) -> Option<usize> {
        let engine = match self.command.as_ref()? {
            Command::Serve(serve) => &serve.engine,
            Command::Query(query) => &query.engine,
            Command::Analyze(analyze) => &analyze.engine,
            Command::Graph(graph) => &graph.engine,
            Command::Build(build) => &build.engine,
            Command::Vacuum(_) => return None,
        };
        engine.threads.map(usize::from)
    }
}

fn model(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, location)) if !name.is_empty() && !location.is_empty() => Ok((name.into(), location.into())),
        _ => Err("expected NAME=LOCATION, as in smol=/models/smol.gguf".into()),
    }
}

/// `512`, `500MB`, `4GB`, `1.5GiB`: decimal units, and binary ones with an i.
fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || "expected a size such as 500MB or 4GB".to_string();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit: f64 = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let size = number * unit;
    if size < 1.0 || size >= usize::MAX as f64 { Err(wrong()) } else { Ok(size as usize) }
}

fn time(text: &str) -> Result<Duration, String> {
    neuroql_pg::parse_time(text).ok_or_else(|| format!("\"{text}\" is not a time such as 500ms, 30s or 5min"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let parsed = Arguments::try_parse_from(["neuroql", "serve"]).unwrap();
        let Some(Command::Serve(serve)) = parsed.command else { panic!("serve") };
        // `neuroql` alone is the same as `neuroql serve`.
        assert_eq!(
            format!("{serve:?}"),
            match Command::default() {
                Command::Serve(default) => format!("{default:?}"),
                _ => String::new(),
            }
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("4GB"), Ok(4_000_000_000));
        assert_eq!(bytes("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(bytes("1000"), Ok(1000));
        for bad in ["", "GB", "4 apples", "-1", "0", "1e99GB", "99999999999999TB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn models_need_a_name_and_a_location() {
        assert_eq!(model("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(model("a").is_err());
        assert!(model("=b").is_err());
    }
}
