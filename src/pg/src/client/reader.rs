//! Sessions of other front ends in the process, which read rows as Arrow has them.
//!
//! Statements are parsed, planned, permitted and run as those of any Postgres client who is not a superuser and has set
//! `default_transaction_read_only`; only the protocol is missing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql::{Engine, Role};
use neuroql_access::{Event, Permissions, User, Users};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::Error;
use crate::client::Report;
use crate::decode;
use crate::encode::column;
use crate::session::result_stream::{LargeStackFuture, ResultRows};
use crate::session::settings::Timeouts;
use crate::session::{Outcome, PreparedStatement, ServerState, Session, without_locations};
use crate::sql::execute_values;
use crate::wire::error_response::{Failure, SqlError};
use crate::wire::interrupt::{Registration, shutting_down};

/// The user of readers over an engine alone.
const READER: &str = "reader";

/// Greatest number of rows of a batch.
const BATCH: usize = 8192;

/// Greatest number of sessions that wait to be used again, and of statements that each of them keeps.
const MOST_PARKED: usize = 8;
const MOST_STATEMENTS: usize = 32;

/// Sessions that only read, over the tables of an engine; clones share them.
#[derive(Clone)]
pub struct Readers {
    base: Arc<ServerState>,
    parked: Arc<Mutex<Vec<Reader>>>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Sets up the Postgres catalog over the engine. A process with a [`Server`](crate::Server) takes
    /// [`Server::readers`](crate::Server::readers), which see what its transactions have committed.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn new(engine: &Engine) -> Result<Self, Error> {
        Self::with_users(engine, Users::without_passwords(User::new(READER, Role::Reader)))
    }

    /// Does the same for users with privileges.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn with_users(engine: &Engine, users: Users) -> Result<Self, Error> {
        Ok(Self::over(Arc::new(ServerState::new(engine, Arc::new(Permissions::of(users)))?)))
    }

    /// Returns the permissions on the server: those who log in there may read here.
    pub fn permissions(&self) -> &Arc<Permissions> {
        &self.base.permissions
    }

    pub(crate) fn over(base: Arc<ServerState>) -> Self {
        Self { base, parked: Arc::default() }
    }

    /// Starts a session of a user, who reads as a reader does, whoever they are, and what they may. `pg_stat_activity`
    /// lists it under `application` until it and its rows are dropped. `time` limits each statement, rows included.
    ///
    /// # Errors
    /// 28000 if the server asks for passwords and has no such user any more, or the error of the session's settings.
    pub async fn session(
        &self,
        user: &str,
        client: SocketAddr,
        application: &str,
        time: Duration,
    ) -> Result<Reader, Box<Report>> {
        let user = self.user(user).await?;
        self.begin(user, client, application, time).await
    }

    /// Does the same with a session that was [parked](Readers::park), if there is one of this user.
    ///
    /// # Errors
    /// As [`Readers::session`].
    pub async fn session_again(
        &self,
        user: &str,
        client: SocketAddr,
        application: &str,
        time: Duration,
    ) -> Result<Reader, Box<Report>> {
        let user = self.user(user).await?;
        let Some(mut reader) = self.take(&user, application) else {
            return self.begin(user, client, application, time).await;
        };
        reader.registration.activity.resume(client);
        reader.session.client = client;
        reader.time = time;
        Ok(reader)
    }

    /// Keeps a session for later requests of its user, with the plans of its statements. Only for one whose statements
    /// the caller wrote: what a statement has set stays.
    pub fn park(&self, reader: Reader) {
        // Rows that are still to come hold the registration.
        let is_idle = Arc::strong_count(&reader.registration) == 1;
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        if is_idle && reader.session.status == TransactionStatus::Idle && parked.len() < MOST_PARKED {
            reader.registration.activity.park();
            parked.push(reader);
        }
    }

    /// Takes a session of this user; those from before a change of privileges are dropped.
    fn take(&self, user: &User, application: &str) -> Option<Reader> {
        let generation = self.base.permissions.users.generation();
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.retain(|reader| reader.generation == generation && !reader.registration.is_terminated());
        let of_user =
            parked.iter().position(|reader| reader.session.user == *user && reader.application == application);
        of_user.map(|place| parked.swap_remove(place))
    }

    /// Returns what is known of a user now, as one who reads.
    async fn user(&self, name: &str) -> Result<User, Box<Report>> {
        let users = &self.base.permissions.users;
        // A user may have been removed since the log-in.
        let changed = Arc::clone(users);
        tokio::task::spawn_blocking(move || changed.refresh()).await.map_err(|_| shutting_down())?;
        match users.get(name) {
            Some(known) => Ok(known.as_reader()),
            // Where no password is asked the name says nothing.
            None if !users.have_passwords() => Ok(User { uses_all: true, ..User::new(name, Role::Reader) }),
            None => Err(SqlError::error("28000", format!("role \"{name}\" does not exist")).into()),
        }
    }

    async fn begin(
        &self,
        user: User,
        client: SocketAddr,
        application: &str,
        time: Duration,
    ) -> Result<Reader, Box<Report>> {
        let generation = self.base.permissions.users.generation();
        let registration = self.base.registry().register(&user, client);
        registration.activity.end(TransactionStatus::Idle, application);
        let session = Session::new(Arc::clone(&self.base), user, client, registration.pid, &Timeouts::default());
        let mut session = session.map_err(SqlError::from)?;
        session.settings().initialize("default_transaction_read_only", "on")?;
        session.settings().initialize("application_name", application)?;
        session.synchronize().await?;
        let (application, statements) = (application.to_owned(), HashMap::new());
        Ok(Reader { session, registration: Arc::new(registration), time, application, generation, statements })
    }
}

/// A session that only reads.
pub struct Reader {
    session: Session,
    registration: Arc<Registration>,
    time: Duration,
    application: String,
    /// Number of the changes of privileges before it.
    generation: u64,
    /// Statements that it prepared, by their texts.
    statements: HashMap<String, Arc<PreparedStatement>>,
}

impl Reader {
    /// Runs one statement that returns rows. Parameters are in Postgres' text format, `None` for NULL.
    ///
    /// # Errors
    /// The statement's error; 42601 for more or less than one statement, 25006 for one that returns no rows, 57014 if its
    /// time is over.
    pub async fn query(&mut self, sql: &str, values: &[Option<String>]) -> Result<Rows, Box<Report>> {
        self.run(sql, values, false).await
    }

    /// Does the same with a statement that is kept for its next execution, as a prepared one is.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub async fn query_prepared(&mut self, sql: &str, values: &[Option<String>]) -> Result<Rows, Box<Report>> {
        self.run(sql, values, true).await
    }

    async fn run(&mut self, sql: &str, values: &[Option<String>], is_kept: bool) -> Result<Rows, Box<Report>> {
        let until = Instant::now() + self.time;
        let registration = Arc::clone(&self.registration);
        registration.activity.begin(sql);
        let context = self.session.context.clone();
        let started = LargeStackFuture(Box::pin(self.start(sql, values, is_kept)));
        let started = guarded(&context, &registration, until, started).await;
        let (rows, schema, place) = started.inspect_err(|report| self.note(report))?;
        let notes = Notes {
            permissions: Arc::clone(&self.session.base.permissions),
            user: self.session.user.name.clone(),
            context,
        };
        Ok(Rows { rows, schema: shown(&schema), registration, until, notes, _place: place })
    }

    fn note(&self, report: &Report) {
        note_refusal(&self.session.base.permissions, &self.session.user.name, &self.registration, report);
    }

    /// Returns a statement that was kept, planned again if tables have changed.
    async fn kept(&mut self, sql: &str) -> Option<Arc<PreparedStatement>> {
        let known = self.statements.remove(sql)?;
        // Its columns may have changed: then it is prepared anew.
        self.session.up_to_date(&known).await.ok()
    }

    async fn prepare(&mut self, sql: &str) -> Result<Arc<PreparedStatement>, SqlError> {
        if sql.contains('\0') {
            return Err(SqlError::error("22021", "SQL may not hold a byte 0"));
        }
        let mut parsed = self.session.parse(sql.to_owned()).await?.into_iter();
        let (Some(statement), None) = (parsed.next(), parsed.next()) else {
            return Err(SqlError::error("42601", "exactly one statement is expected here"));
        };
        if statement.copy.is_some() || statement.copy_from.is_some() {
            return Err(SqlError::error("25006", "COPY is not for sessions that only read; use its query"));
        }
        Ok(Arc::new(self.session.prepare(statement, &[]).await?))
    }

    async fn start(&mut self, sql: &str, values: &[Option<String>], is_kept: bool) -> Result<StartedQuery, SqlError> {
        let known = if is_kept { self.kept(sql).await } else { None };
        let prepared = match known {
            Some(known) => known,
            None => self.prepare(sql).await?,
        };
        if is_kept && self.statements.len() < MOST_STATEMENTS {
            self.statements.insert(sql.to_owned(), Arc::clone(&prepared));
        }
        let Some(columns) = prepared.described() else {
            return Err(SqlError::error("25006", "this session only reads: the statement returns no rows"));
        };
        let (given, wanted) = (values.len(), prepared.parameters.len());
        if given != wanted {
            let message = format!("{given} parameters are given, but the statement requires {wanted}");
            return Err(SqlError::error("08P01", message));
        }
        let zone = self.session.zone();
        let bound = values.iter().zip(&prepared.parameters);
        let bound = bound.map(|(text, parameter)| execute_values::of_literal(text.as_deref(), parameter, &zone));
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let names: Vec<Field> = columns.fields().cloned().collect();
        let place = self.session.take_place(&prepared).await;
        match self.session.run(&prepared, &bound).await {
            Ok(Outcome::Rows(rows, _)) => Ok((rows, Arc::new(Schema::new(names)), place)),
            Ok(Outcome::Done(_)) => Err(SqlError::error("25006", "this session only reads: there are no rows")),
            Err(Failure::SqlError(error)) => Err(error),
            Err(Failure::Disconnected) => Err(SqlError::error("57014", "canceling statement due to user request")),
        }
    }
}

/// Rows of a statement, computed as they are taken. Dropped, they end it.
pub struct Rows {
    rows: ResultRows,
    schema: SchemaRef,
    registration: Arc<Registration>,
    until: Instant,
    notes: Notes,
    /// The place among the statements of the user.
    _place: Option<OwnedSemaphorePermit>,
}

/// The context of errors of rows: where a refusal is noted, and whose locations are left out.
struct Notes {
    permissions: Arc<Permissions>,
    user: String,
    context: SessionContext,
}

/// Rows that have begun, their columns, and their place among the statements of the user.
type StartedQuery = (ResultRows, SchemaRef, Option<OwnedSemaphorePermit>);

/// Notes a refusal in the audit log.
fn note_refusal(permissions: &Permissions, user: &str, registration: &Registration, report: &Report) {
    if report.sqlstate == "42501" {
        let client = registration.activity.read().client;
        permissions.audit.record(user, client, Event::Refused { message: &report.message });
    }
}

/// Returns the columns of rows whose values of `uuid` are texts.
fn shown(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match column::uuid_type(field.data_type()) {
        Some(kind) => {
            let texts = text_type(field.data_type());
            Arc::new(Field::clone(field).with_data_type(texts).with_metadata(column::text_mark(&kind)))
        }
        None => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn text_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) => DataType::new_list(text_type(item.data_type()), true),
        _ => DataType::Utf8,
    }
}

impl Rows {
    /// Returns the columns, under the names that Postgres gives them. Their types are those of the first batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the names of the columns' types in PostgreSQL, such as `double precision`.
    pub fn type_names(&self) -> Vec<String> {
        let name =
            |field: &Arc<Field>| column::wire_kind(field).map_or_else(|| "text".into(), |known| decode::name(&known));
        self.schema.fields().iter().map(name).collect()
    }

    /// Returns more rows; `None` at the end.
    ///
    /// # Errors
    /// The statement's error; 57014 if its time is over.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Box<Report>> {
        let next = LargeStackFuture(Box::pin(self.rows.next(BATCH)));
        let batch = guarded(&self.notes.context, &self.registration, self.until, next).await;
        let batch = batch.inspect_err(|report| {
            note_refusal(&self.notes.permissions, &self.notes.user, &self.registration, report);
        })?;
        Ok(match batch {
            Some(batch) => Some(self.renamed(&batch)?),
            None => None,
        })
    }

    /// Returns a batch under the names of the schema. Plans know some types only when they run.
    /// Values of `uuid` are texts under fields that name the type.
    fn renamed(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Box<Report>> {
        let texts = |column: &ArrayRef| neuroql::uuid_texts(column).unwrap_or_else(|| Arc::clone(column));
        let columns: Vec<ArrayRef> = batch.columns().iter().map(texts).collect();
        let fits = |(field, column): (&Arc<Field>, &ArrayRef)| {
            field.data_type() == column.data_type() && (field.is_nullable() || column.null_count() == 0)
        };
        if !self.schema.fields().iter().zip(&columns).all(fits) {
            let fields = self.schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
                Field::clone(field).with_data_type(column.data_type().clone()).with_nullable(true)
            });
            self.schema = shown(&Arc::new(Schema::new(fields.collect::<Vec<_>>())));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let renamed = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        renamed.map_err(|error| SqlError::from(datafusion::error::DataFusionError::from(error)).into())
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.registration.activity.end_statement();
    }
}

/// Runs `work` to its end, its time, or until somebody cancels it.
async fn guarded<T>(
    context: &SessionContext,
    registration: &Registration,
    until: Instant,
    work: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, Box<Report>> {
    let result = tokio::select! {
        biased;
        error = registration.interrupted() => Err(error),
        () = tokio::time::sleep_until(until) => {
            Err(SqlError::error("57014", "canceling statement due to statement timeout"))
        }
        result = work => result,
    };
    match result {
        Ok(done) => Ok(done),
        Err(error) => {
            registration.activity.end_statement();
            Err(without_locations(context, error).await.into())
        }
    }
}

impl From<SqlError> for Box<Report> {
    fn from(error: SqlError) -> Self {
        Self::new(Report {
            severity: if error.is_fatal() { "FATAL" } else { "ERROR" }.into(),
            sqlstate: error.sqlstate.into_owned(),
            message: error.message,
            detail: None,
            hint: error.hint,
            context: error.context,
            position: error.position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reader() -> Reader {
        let readers = Readers::new(&Engine::builder().build().unwrap()).unwrap();
        readers.session("ada", ([127, 0, 0, 1], 9).into(), "test", Duration::from_secs(60)).await.unwrap()
    }

    async fn fails(reader: &mut Reader, sql: &str) -> String {
        match reader.query(sql, &[]).await {
            Ok(mut rows) => loop {
                match rows.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{sql} succeeds"),
                    Err(report) => return report.sqlstate,
                }
            },
            Err(report) => report.sqlstate,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_have_postgres_names_and_types() {
        let mut reader = reader().await;
        let sql = "SELECT max(activation), $2 || 'y', 1.5, NULL FROM toy.activations WHERE text = $1";
        let mut rows = reader.query(sql, &[Some("import".into()), Some("x".into())]).await.unwrap();
        let batch = rows.next().await.unwrap().unwrap();
        assert!(rows.next().await.unwrap().is_none());
        let schema = batch.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["max", "?column?", "?column?", "?column?"]);
        assert_eq!(rows.type_names()[..3], ["real", "text", "double precision"]);
        assert_eq!(batch.num_rows(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_only_reads() {
        let mut reader = reader().await;
        for (sql, sqlstate) in [
            ("CREATE TABLE t (a int)", "42501"),
            ("DROP TABLE toy", "42501"),
            ("COPY (SELECT 1) TO '/tmp/x.csv'", "42501"),
            ("COPY (SELECT 1) TO STDOUT", "25006"),
            ("EXPLAIN ANALYZE INSERT INTO toy.graphs SELECT * FROM toy.graphs", "42501"),
            ("SET neuroql.device = 'cpu'", "25006"),
            ("BEGIN", "25006"),
            ("SELECT * FROM analyze(model => 'toy', dataset => 'corpus')", "42501"),
            ("SELECT 1; SELECT 2", "42601"),
            ("", "42601"),
            ("SELECT '\0'", "22021"),
            ("SELECT $1", "08P01"),
        ] {
            assert_eq!(fails(&mut reader, sql).await, sqlstate, "{sql}");
        }
        assert!(reader.query("SELECT 1", &[]).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn time_and_dropping_end_a_statement() {
        let readers = Readers::new(&Engine::builder().build().unwrap()).unwrap();
        let client = ([127, 0, 0, 1], 9).into();
        let mut short = readers.session("ada", client, "web", Duration::from_millis(200)).await.unwrap();
        let endless = "SELECT count(*) FROM generate_series(1, 100000000000)";
        assert_eq!(fails(&mut short, endless).await, "57014");

        let mut rows = short.query("SELECT * FROM generate_series(1, 10000000)", &[]).await.unwrap();
        assert!(rows.next().await.unwrap().is_some());
        let mut other = readers.session("ada", client, "web", Duration::from_secs(60)).await.unwrap();
        let listed = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = 'web'";
        let count = |batch: RecordBatch| format!("{:?}", batch.column(0));
        let before = count(other.query(listed, &[]).await.unwrap().next().await.unwrap().unwrap());
        drop((rows, short));
        let after = count(other.query(listed, &[]).await.unwrap().next().await.unwrap().unwrap());
        assert!(before.contains('2') && after.contains('1'), "{before} {after}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parked_sessions_are_used_again() {
        let engine = Engine::builder().build().unwrap();
        let readers = Readers::new(&engine).unwrap();
        let (client, time) = (([127, 0, 0, 1], 9).into(), Duration::from_secs(60));
        let about = "SELECT max_activation, density FROM toy.neurons WHERE layer = $1 AND neuron = $2";
        let (mut pid, mut found) = (None, Vec::new());
        for neuron in [17, 480, 17, 17, 3, 480] {
            let mut reader = readers.session_again("ada", client, "web", time).await.unwrap();
            assert_eq!(*pid.get_or_insert(reader.registration.pid), reader.registration.pid);
            let values = [Some("1".to_owned()), Some(neuron.to_string())];
            let mut rows = reader.query_prepared(about, &values).await.unwrap();
            let kept = rows.next().await.unwrap().unwrap();
            assert!(rows.next().await.unwrap().is_none());
            drop(rows);
            let sql = about.replace("$1", "1").replace("$2", &neuron.to_string());
            assert_eq!(reader.query(&sql, &[]).await.unwrap().next().await.unwrap().unwrap(), kept, "{neuron}");
            found.push(kept);
            readers.park(reader);
        }
        assert!(found[0] == found[2] && found[0] != found[1]);
        // Nobody has it now.
        let mut other = readers.session("ada", client, "other", time).await.unwrap();
        let listed = "SELECT application_name FROM pg_stat_activity";
        let batch = other.query(listed, &[]).await.unwrap().next().await.unwrap().unwrap();
        assert_eq!(batch.num_rows(), 1);

        // A table that changes its columns.
        let session = engine.session();
        let create = async |columns: &str| {
            let sql = format!("CREATE OR REPLACE TABLE changing AS SELECT {columns}");
            session.sql(&sql).await.unwrap().collect().await.unwrap();
            readers.base.catalog_changed();
        };
        let mut reader = readers.session_again("ada", client, "web", time).await.unwrap();
        for (columns, width) in [("1 AS a", 1), ("2 AS a", 1), ("'x' AS a, 3 AS b", 2)] {
            create(columns).await;
            let mut rows = reader.query_prepared("SELECT * FROM changing", &[]).await.unwrap();
            assert_eq!(rows.next().await.unwrap().unwrap().num_columns(), width, "{columns}");
        }
        // Rows that are still to come keep their session.
        let rows = reader.query_prepared("SELECT * FROM generate_series(1, 100000)", &[]).await.unwrap();
        readers.park(reader);
        let other = readers.session_again("ada", client, "web", time).await.unwrap();
        assert_ne!(Some(other.registration.pid), pid);
        drop(rows);
    }
}
