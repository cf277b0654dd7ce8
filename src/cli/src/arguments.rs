//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::shell::Mode;

/// Ask SQL questions about the neurons of language models.
///
/// Without a command it serves the bundled model to Postgres clients on 127.0.0.1:5433, and pages on
/// http://127.0.0.1:8433/.
#[derive(Debug, Parser)]
#[command(name = "neuroql", version, about, long_about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  neuroql                                       serve the bundled model, then: psql -h 127.0.0.1 -p 5433 -U neuroql
  neuroql serve --http                          serve Postgres clients, and pages on http://127.0.0.1:8433/
  neuroql serve --model smol=SmolLM2.gguf       serve a model of your own as well
  neuroql serve --model pythia=hf://EleutherAI/pythia-70m --memory-limit 4GB
  neuroql shell --store results                 type SQL at a prompt
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
    /// Type SQL at a prompt, or run a script
    #[command(after_help = SHELL_EXAMPLES)]
    Shell(Shell),
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
    /// Add, remove and list the users of a password file
    #[command(after_help = USER_EXAMPLES)]
    User(Users),
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(Serve {
            listen: DEFAULT_LISTEN.into(),
            http: Http::IfFree,
            http_hosts: Vec::new(),
            http_cors: None,
            password_file: None,
            allowed_locations: Vec::new(),
            host_rules: None,
            audit_log: None,
            tls_cert: None,
            tls_key: None,
            tls_client_authorities: None,
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

const DEFAULT_HTTP: &str = "127.0.0.1:8433";

/// Address at which pages are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Http {
    /// Nowhere.
    Off,
    /// At the usual address, if nobody else is there.
    IfFree,
    /// At an address.
    At(String),
}

fn http(text: &str) -> Result<Http, std::convert::Infallible> {
    Ok(if text == "off" { Http::Off } else { Http::At(text.to_owned()) })
}

const SERVE_EXAMPLES: &str = "\
Examples:
  neuroql serve --listen 127.0.0.1:6000
  neuroql serve --http 127.0.0.1:9000
  neuroql serve --listen 0.0.0.0:5433 --password-file users --tls-cert server.pem --tls-key server.key

neuroql user add FILE NAME makes the password file. Readers run models and change nothing; analysts also register models and
datasets from --allow-location, analyse, build graphs and own tables; superusers do everything. Without a password file
every client of this machine is the superuser neuroql, and other machines cannot connect.";

const QUERY_EXAMPLES: &str = "\
Examples:
  neuroql query \"SELECT model, layers, neurons_per_layer FROM models\"
  neuroql query \"SELECT token, activation FROM toy.activations WHERE text = 'hello' AND layer = 1 AND neuron = 17\" --format csv
  neuroql query -f questions.sql --format json | jq .activation
  neuroql query \"SELECT * FROM toy.neurons\" --format parquet -o neurons.parquet

Several statements may be given, separated by semicolons; they stop at the first that fails. JSON is written as one
object a line. Parquet takes the rows of exactly one statement, and needs -o or a pipe.";

const SHELL_EXAMPLES: &str = "\
Examples:
  neuroql shell
  neuroql shell --model smol=SmolLM2.gguf --store results
  neuroql shell -c \"SELECT * FROM models\" -c \"\\d toy.neurons\"
  neuroql shell --mode csv -q < questions.sql > answers.csv

The shell runs in one process with the engine; its user is a superuser. Rows, errors and tags are those of psql
connected to neuroql serve. At the prompt \\? lists the commands; what was typed is kept in neuroql/history in the
user's data folder, or in the file that NEUROQL_HISTORY names (none if it is empty).

From -f, -c, a file or a pipe statements run one by one, each a transaction of its own unless it says BEGIN, up to the
first error: then the exit status is 1.";

const ANALYZE_EXAMPLES: &str = "\
Examples:
  neuroql analyze toy --dataset corpus --store results
  neuroql analyze smol --model smol=SmolLM2.gguf --layers 0-3 --documents 20 --store results
  neuroql analyze smol --dataset news --table news=news.parquet --store s3://bucket/results

An analysis that is interrupted goes on where it stopped when the command is given again; one that is complete takes in
the documents that were appended to the dataset since.";

const USER_EXAMPLES: &str = "\
Examples:
  neuroql user add users ada --role superuser
  neuroql user add users ann --role analyst --max-connections 4 --statement-timeout 5min
  neuroql user password users ann < new-password
  neuroql user list users

Passwords are asked for, or are the first line of standard input; the file keeps SCRAM-SHA-256 verifiers of them. A running
server knows new users and passwords from their next log-in on.";

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
    /// Print its patterns, in lines (this is the default)
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

/// Options of `neuroql user`.
#[derive(Debug, Args)]
pub(crate) struct Users {
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

/// Commands on the users of a password file.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; the file is made if there is none
    Add {
        /// The password file
        file: PathBuf,
        /// Name of the user
        name: String,
        /// reader, analyst or superuser
        #[arg(long, value_name = "ROLE", default_value = "reader")]
        role: neuroql::Role,
        #[command(flatten)]
        limits: Limits,
    },
    /// Remove a user, with the privileges that were granted to the user
    Remove {
        /// The password file
        file: PathBuf,
        /// Name of the user
        name: String,
    },
    /// List the users, with their roles and limits
    List {
        /// The password file
        file: PathBuf,
    },
    /// Change the password of a user
    Password {
        /// The password file
        file: PathBuf,
        /// Name of the user
        name: String,
    },
}

/// Limits of a user.
#[derive(Debug, Default, Args)]
pub(crate) struct Limits {
    /// Connections at a time
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_connections: Option<usize>,
    /// Statements at a time; others wait
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_statements: Option<usize>,
    /// Memory that the user's statements may hold together, such as 4GB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) memory: Option<usize>,
    /// Time that a statement may run in sessions that do not set statement_timeout
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) statement_timeout: Option<Duration>,
    /// The longest statement_timeout that the user may set
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) max_statement_timeout: Option<Duration>,
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
    /// Serve pages for browsers as well, at this address and port [default if no address follows: 127.0.0.1:8433]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_value = "off", default_missing_value = DEFAULT_HTTP,
        hide_default_value = true, value_parser = http, env = "NEUROQL_HTTP")]
    pub(crate) http: Http,
    /// A further name under which browsers ask for the pages, with a port or for any (may be repeated)
    #[arg(long = "http-host", value_name = "NAME")]
    pub(crate) http_hosts: Vec<String>,
    /// Origin, scheme and host, of pages elsewhere that may read the JSON
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) http_cors: Option<String>,
    /// Users and passwords; required to listen on an address other machines can reach
    #[arg(long, value_name = "FILE", env = "NEUROQL_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Who may connect from where, in lines such as those of pg_hba.conf: host all ann 10.0.0.0/8 scram-sha-256
    #[arg(long, value_name = "FILE")]
    pub(crate) host_rules: Option<PathBuf>,
    /// Append log-ins, refusals and changes of tables and privileges to a file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// A folder or URL below which analysts may register models and datasets (may be repeated) [default: nowhere]
    #[arg(long = "allow-location", value_name = "LOCATION")]
    pub(crate) allowed_locations: Vec<String>,
    /// Certificate chain in PEM; with it remote clients must encrypt
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key in PEM: PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Authorities, in PEM, that sign the certificates of clients; --host-rules says who needs one
    #[arg(long = "tls-client-ca", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_authorities: Option<PathBuf>,
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
    #[arg(required_unless_present = "file", allow_hyphen_values = true)]
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

/// Options of `neuroql shell`.
#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// Run the statements and commands of a file, - for standard input, and leave (may be repeated)
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Run statements or a command after all files, and leave (may be repeated)
    #[arg(short, long = "command", value_name = "SQL")]
    pub(crate) commands: Vec<String>,
    /// Form of the rows
    #[arg(long, value_enum, default_value_t = Mode::Table)]
    pub(crate) mode: Mode,
    /// Print rows only: no greeting, no tags such as INSERT 0 1
    #[arg(short, long)]
    pub(crate) quiet: bool,
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
            Command::Shell(shell) => &shell.engine,
            Command::Analyze(analyze) => &analyze.engine,
            Command::Graph(graph) => &graph.engine,
            Command::Build(build) => &build.engine,
            Command::Vacuum(_) | Command::User(_) => return None,
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

fn bytes(text: &str) -> Result<usize, String> {
    neuroql_access::parse_size(text).ok_or_else(|| "expected a size such as 500MB or 4GB".into())
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a number from 1".into())
}

fn time(text: &str) -> Result<Duration, String> {
    neuroql_access::parse_time(text).ok_or_else(|| format!("\"{text}\" is not a time such as 500ms, 30s or 5min"))
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
        // `neuroql` alone is `neuroql serve` with the explorer, if its port is free.
        let serve = Serve { http: Http::IfFree, ..serve };
        assert_eq!(
            format!("{serve:?}"),
            match Command::default() {
                Command::Serve(default) => format!("{default:?}"),
                _ => String::new(),
            }
        );
    }

    #[test]
    fn sql_may_begin_with_a_comment() {
        let sql = "-- a comment\nSELECT 1";
        for arguments in [["neuroql", "query", sql, "--format", "csv"], ["neuroql", "query", "--format", "csv", sql]] {
            let Some(Command::Query(query)) = Arguments::try_parse_from(arguments).unwrap().command else { panic!() };
            assert_eq!((query.sql.as_deref(), format!("{:?}", query.format)), (Some(sql), "Csv".to_owned()));
        }
        assert!(Arguments::try_parse_from(["neuroql", "query", "SELECT 1", "--no-such-option"]).is_err());
    }

    #[test]
    fn models_need_a_name_and_a_location() {
        assert_eq!(model("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(model("a").is_err());
        assert!(model("=b").is_err());
    }
}
