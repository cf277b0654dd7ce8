//! The conversation with one client after it has been let in: the simple and the extended query protocol.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::FieldInfo;
use datafusion_postgres::pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};
use datafusion_postgres::pgwire::messages::data::{NoData, ParameterDescription, RowDescription};
use datafusion_postgres::pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_STATEMENT,
};
use datafusion_postgres::pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus,
};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage as Message, PgWireFrontendMessage};

use neuroql_access::Event;

use crate::catalog::own_types;
use crate::decode::date_order;
use crate::encode::column::{self, Columns};
use crate::encode::copy::CopyFormat;
use crate::session::commands::{self, PORTAL};
use crate::session::copy_in::CopyIn;
use crate::session::progress;
use crate::session::result_stream::ResultRows;
use crate::session::{
    CommandTag, Outcome, Portal, PreparedStatement, Session, in_failed_transaction, without_locations,
};
use crate::sql::{error_positions, parameters};
use crate::wire::activity::now;
use crate::wire::connection_slots::ConnectionSlot;
use crate::wire::error_response::{Failure, SqlError, notice};
use crate::wire::framing::{Inbox, Outbox};
use crate::wire::interrupt::{InterruptHandler, shutting_down, within};

/// Time after which rows are late: those before them are sent without them.
const LATE: Duration = Duration::from_millis(10);

/// Bytes that the portal without a name may hold uncounted.
const UNCOUNTED: usize = 64 << 10;

/// A client that has been let in.
pub(crate) struct Connection {
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) session: Session,
    pub(crate) interrupts: InterruptHandler,
    pub(crate) _slot: ConnectionSlot,
}

impl Connection {
    /// Serves the client until it leaves or is sent away.
    pub(crate) async fn serve(mut self) {
        let end = self.converse().await;
        if let Err(Failure::SqlError(error)) = end {
            let client = self.session.client;
            tracing::info!(%client, sqlstate = %error.sqlstate, "connection ended: {}", error.message);
            // The last words; the client may not be there to hear them.
            let _ = self.outbox.put(error.into_message());
            let _ = self.outbox.flush().await;
        }
        self.outbox.close().await;
    }

    async fn converse(&mut self) -> Result<(), Failure> {
        self.ready().await?;
        // After an error in the extended protocol everything up to the next Sync is skipped.
        let mut skipping = false;
        loop {
            let buffered = if self.interrupts.is_draining() { None } else { self.inbox.buffered()? };
            let message = match buffered {
                Some(message) => {
                    // Others are served meanwhile, however many messages a client sends at once.
                    tokio::task::coop::consume_budget().await;
                    message
                }
                None => {
                    let (left, error) = self.session.idle_limit();
                    let listens = self.session.status == TransactionStatus::Idle;
                    let message = tokio::select! {
                        biased;
                        () = self.interrupts.draining() => return Err(shutting_down().into()),
                        message = self.inbox.message() => message?,
                        () = self.session.transaction.notifications.arrived(), if listens => {
                            self.put_notifications()?;
                            self.outbox.flush().await?;
                            continue;
                        }
                        () = within(left) => return Err(error().into()),
                    };
                    let Some(message) = message else { return Ok(()) };
                    message
                }
            };
            let extended = message.is_extended_query();
            let unreadable = self.inbox.unreadable.take().filter(|_| !(skipping && extended));
            let done = match message {
                _ if let Some(error) = unreadable => Err(error.into()),
                PgWireFrontendMessage::Terminate(_) => return Ok(()),
                PgWireFrontendMessage::Sync(_) => {
                    skipping = false;
                    self.sync().await
                }
                _ if skipping && extended => Ok(()),
                PgWireFrontendMessage::Query(query) => Box::pin(self.query(query.query)).await,
                PgWireFrontendMessage::Parse(parse) => Box::pin(self.parse(parse)).await,
                PgWireFrontendMessage::Bind(bind) => self.bind(bind),
                PgWireFrontendMessage::Describe(describe) => self.describe(&describe),
                PgWireFrontendMessage::Execute(execute) => self.execute(&execute).await,
                PgWireFrontendMessage::Close(close) => self.close(&close),
                PgWireFrontendMessage::Flush(_) => Ok(self.outbox.flush().await?),
                // Leftovers of a COPY that was refused.
                PgWireFrontendMessage::CopyData(_)
                | PgWireFrontendMessage::CopyDone(_)
                | PgWireFrontendMessage::CopyFail(_) => Ok(()),
                _ => Err(SqlError::protocol_violation("unexpected message").into()),
            };
            match done {
                Ok(()) => {}
                Err(Failure::SqlError(error)) if !error.is_fatal() => {
                    self.session.failed();
                    if error.sqlstate == "42501" {
                        let Session { base, user, client, .. } = &self.session;
                        base.permissions.audit.record(&user.name, *client, Event::Refused { message: &error.message });
                    }
                    let error = match self.session.user.is_superuser() {
                        true => error,
                        false => without_locations(&self.session.context, error).await,
                    };
                    self.outbox.put(error.into_message())?;
                    if extended {
                        skipping = true;
                        // A client that waits for an answer before it sends Sync must see this one.
                        self.outbox.flush().await?;
                    } else {
                        self.ready().await?;
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let status = self.session.status;
        self.interrupts.registration.activity.end(status, self.session.settings().application_name());
        if status == TransactionStatus::Idle {
            self.put_notifications()?;
        }
        self.outbox.put(Message::ReadyForQuery(ReadyForQuery::new(self.session.status)))?;
        Ok(self.outbox.flush().await?)
    }

    fn put_notifications(&mut self) -> Result<(), Failure> {
        for notification in self.session.transaction.notifications.take() {
            self.outbox.put(notification)?;
        }
        Ok(())
    }

    /// The simple protocol: statements are answered one by one, up to the first that fails.
    async fn query(&mut self, text: String) -> Result<(), Failure> {
        let Self { inbox, outbox, session, interrupts, .. } = self;
        interrupts.registration.activity.begin(&text);
        session.portals.remove("");
        let source = source_of(&text);
        let limit = session.time_limit();
        let parse = async { Ok(session.parse(text).await?) };
        let statements = interrupts.during(inbox, limit, parse).await?;
        if statements.is_empty() {
            outbox.put(Message::EmptyQueryResponse(EmptyQueryResponse::new()))?;
        }
        // A single statement is counted when it is planned.
        let held = statements.iter().map(|parsed| parsed.memory).sum();
        let _memory = (statements.len() > 1).then(|| session.reserve("a query", held)).transpose()?;
        for (index, parsed) in statements.into_iter().enumerate() {
            let limit = session.time_limit();
            let work = async {
                refuse_in_failed_transaction(session, parsed.statement_in_sql())?;
                let prepared = Arc::new(session.prepare(parsed, &[]).await?);
                if !prepared.parameters.is_empty() {
                    return Err(SqlError::error("42P02", "there is no parameter $1").into());
                }
                if prepared.parsed.copy_from.is_some() {
                    return Ok(Some(prepared));
                }
                let _place = session.take_place(&prepared).await;
                match session.run(&prepared, &[]).await? {
                    Outcome::Done(tag) => complete(session, outbox, tag).await?,
                    Outcome::Rows(mut rows, _) if let Some(copy) = &prepared.parsed.copy => {
                        let tag = send_copy(session, prepared.columns.as_deref(), &mut rows, copy, outbox).await?;
                        complete(session, outbox, tag).await?;
                    }
                    Outcome::Rows(mut rows, tag) => {
                        let fields = describe_columns(session, prepared.columns.as_deref(), &Format::UnifiedText)?;
                        outbox.put(row_description(&fields))?;
                        let (sent, _) = send_rows(&mut rows, &fields, session, outbox, usize::MAX).await?;
                        complete(session, outbox, tag.spell(sent)).await?;
                    }
                }
                Ok(None)
            };
            let done = interrupts.during(inbox, limit, work).await;
            if let Some(copy) = done.map_err(|failure| placed(failure, source.as_deref(), index))? {
                receive_copy(inbox, outbox, session, interrupts, &copy).await?;
            }
        }
        self.end_implicit_transaction();
        self.ready().await
    }

    async fn parse(&mut self, message: Parse) -> Result<(), Failure> {
        let Self { inbox, outbox, session, interrupts, .. } = self;
        let name = message.name.unwrap_or_default();
        if !name.is_empty() && session.prepared.contains_key(&name) {
            return Err(SqlError::error("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        interrupts.registration.activity.begin(&message.query);
        let declared = |oid: &u32| match (*oid, own_types::type_of(*oid)) {
            (0, _) => Ok(None),
            (_, Some(known)) => Ok(Some(known)),
            (oid, None) => Err(SqlError::error("42704", format!("type with OID {oid} does not exist"))),
        };
        let declared = message.type_oids.iter().map(declared).collect::<Result<Vec<_>, _>>()?;
        let source = source_of(&message.query);
        let limit = session.time_limit();
        // A statement with a name is listed with its whole text.
        let text: Option<Arc<str>> = (!name.is_empty()).then(|| message.query.as_str().into());
        let work = async {
            let mut statements = session.parse(message.query).await?;
            if statements.len() > 1 {
                return Err(
                    SqlError::error("42601", "cannot insert multiple commands into a prepared statement").into()
                );
            }
            let Some(mut parsed) = statements.pop() else { return Ok(None) };
            if let Some(text) = text {
                parsed.memory += text.len();
                parsed.text = text;
            }
            refuse_in_failed_transaction(session, parsed.statement_in_sql())?;
            Ok(Some(Arc::new(session.prepare(parsed, &declared).await?)))
        };
        let done = interrupts.during(inbox, limit, work).await;
        match done.map_err(|failure| placed(failure, source.as_deref(), 0))? {
            Some(prepared) => {
                session.empty.remove(&name);
                session.prepared.insert(name, prepared);
            }
            None => {
                session.prepared.remove(&name);
                session.empty.insert(name);
            }
        }
        Ok(outbox.put(Message::ParseComplete(ParseComplete::new()))?)
    }

    fn bind(&mut self, mut message: Bind) -> Result<(), Failure> {
        let session = &mut self.session;
        let statement = message.statement_name.clone().unwrap_or_default();
        let name = message.portal_name.clone().unwrap_or_default();
        if session.empty.contains(&statement) {
            session.portals.remove(&name);
            session.empty_portals.insert(name);
            return Ok(self.outbox.put(Message::BindComplete(BindComplete::new()))?);
        }
        let Some(prepared) = session.prepared.get(&statement).cloned() else {
            return Err(commands::no_such_statement(&statement).into());
        };
        refuse_in_failed_transaction(session, prepared.sql())?;
        if !name.is_empty() && session.portals.contains_key(&name) {
            return Err(SqlError::error("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        session.encoding.get().read_parameters(&mut message, &prepared.parameters)?;
        date_order::order_texts(&mut message, &prepared.parameters, session.settings().date_style().order)?;
        let values = parameters::decode(&message, &prepared.parameters, &session.zone())?;
        let codes = message.result_column_format_codes;
        let columns = prepared.columns.as_ref().map_or(0, |columns| columns.len());
        if codes.len() > 1 && codes.len() != columns {
            return Err(SqlError::error(
                "08P01",
                format!("bind message has {} result formats but query has {columns} columns", codes.len()),
            )
            .into());
        }
        let format = match codes.as_slice() {
            [] => Format::UnifiedText,
            [one] => Format::from(*one),
            _ => Format::Individual(codes),
        };
        let bytes = PORTAL + values.iter().map(ScalarValue::size).sum::<usize>();
        // There is one portal without a name, and most of the time it holds little.
        let is_counted = !name.is_empty() || bytes > UNCOUNTED;
        let _memory = is_counted.then(|| session.reserve("a portal", bytes)).transpose()?;
        session.empty_portals.remove(&name);
        let (zone, held, failed) = (session.zone(), false, false);
        let (running, scroll, made) = (None, None, now());
        let portal = Portal { prepared, values, format, running, scroll, held, made, failed, zone, _memory };
        session.portals.insert(name, portal);
        Ok(self.outbox.put(Message::BindComplete(BindComplete::new()))?)
    }

    fn describe(&mut self, message: &Describe) -> Result<(), Failure> {
        let session = &self.session;
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let (types, columns) = match session.prepared.get(name) {
                Some(prepared) => {
                    let types = prepared.parameters.iter().map(|parameter| parameter.wire.oid()).collect();
                    (types, prepared.described().cloned())
                }
                None if session.empty.contains(name) => (Vec::new(), None),
                None => return Err(commands::no_such_statement(name).into()),
            };
            self.outbox.put(Message::ParameterDescription(ParameterDescription::new(types)))?;
            return self.put_columns(columns.as_deref(), &Format::UnifiedText);
        }
        let (columns, format) = match session.portals.get(name) {
            Some(portal) => (portal_columns(portal), portal.format.clone()),
            None if session.empty_portals.contains(name) => (None, Format::UnifiedText),
            None => return Err(no_such_portal(name).into()),
        };
        self.put_columns(columns.as_deref(), &format)
    }

    fn put_columns(&mut self, columns: Option<&Columns>, format: &Format) -> Result<(), Failure> {
        let message = match columns {
            Some(columns) => row_description(&describe_columns(&self.session, Some(columns), format)?),
            None => Message::NoData(NoData::new()),
        };
        Ok(self.outbox.put(message)?)
    }

    async fn execute(&mut self, message: &Execute) -> Result<(), Failure> {
        let Self { inbox, outbox, session, interrupts, .. } = self;
        let name = message.name.clone().unwrap_or_default();
        if session.empty_portals.contains(&name) {
            return Ok(outbox.put(Message::EmptyQueryResponse(EmptyQueryResponse::new()))?);
        }
        let Some(portal) = session.portals.get(&name) else { return Err(no_such_portal(&name).into()) };
        refuse_in_failed_transaction(session, portal.prepared.sql())?;
        portal.check(&name)?;
        let failed = portal.failed();
        let Some(mut portal) = session.portals.insert(name.clone(), failed) else {
            return Err(no_such_portal(&name).into());
        };
        if portal.prepared.parsed.copy_from.is_some() {
            Box::pin(receive_copy(inbox, outbox, session, interrupts, &portal.prepared)).await?;
            session.portals.remove(&name);
            return Ok(());
        }
        interrupts.registration.activity.begin(&portal.prepared.parsed.text);
        let most = usize::try_from(message.max_rows).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let limit = session.time_limit();
        let done = {
            // Pinned where it is made, as it is large.
            let work = std::pin::pin!(async {
                let _place = session.take_place(&portal.prepared).await;
                if portal.running.is_some() {
                    session.check_zone(&portal.prepared, &portal.zone).await?;
                } else {
                    portal.zone = session.zone();
                    match session.run(&portal.prepared, &portal.values).await? {
                        Outcome::Done(tag) => {
                            complete(session, outbox, tag).await?;
                            return Ok(None);
                        }
                        Outcome::Rows(mut rows, _) if let Some(copy) = &portal.prepared.parsed.copy => {
                            let columns = portal.prepared.columns.as_deref();
                            let tag = Box::pin(send_copy(session, columns, &mut rows, copy, outbox)).await?;
                            complete(session, outbox, tag).await?;
                            return Ok(None);
                        }
                        Outcome::Rows(rows, tag) => portal.running = Some((rows, tag)),
                    }
                }
                let columns = portal_columns(&portal);
                let fields = describe_columns(session, columns.as_deref(), &portal.format)?;
                if let Some((rows, tag)) = &mut portal.running {
                    let tag: CommandTag = *tag;
                    let (sent, finished) = send_rows(rows, &fields, session, outbox, most).await?;
                    if finished {
                        complete(session, outbox, tag.spell(sent)).await?;
                    } else {
                        outbox.put(Message::PortalSuspended(PortalSuspended::new()))?;
                    }
                }
                Ok(Some(portal))
            });
            interrupts.during(inbox, limit, work).await?
        };
        match done {
            Some(portal) => session.portals.insert(name, portal),
            None => session.portals.remove(&name),
        };
        Ok(())
    }

    fn close(&mut self, message: &Close) -> Result<(), Failure> {
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            self.session.prepared.remove(name);
            self.session.empty.remove(name);
        } else {
            self.session.portals.remove(name);
            self.session.empty_portals.remove(name);
        }
        Ok(self.outbox.put(Message::CloseComplete(CloseComplete::new()))?)
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        self.end_implicit_transaction();
        self.ready().await
    }

    /// Ends a transaction without BEGIN, at the end of its query or at Sync.
    fn end_implicit_transaction(&mut self) {
        if self.session.status == TransactionStatus::Idle {
            self.session.commit();
            self.session.close_portals();
            self.session.empty_portals.clear();
        }
    }
}

fn refuse_in_failed_transaction(
    session: &Session,
    statement: Option<&datafusion::sql::sqlparser::ast::Statement>,
) -> Result<(), SqlError> {
    if session.status == TransactionStatus::Error && !statement.is_some_and(commands::ends_transaction) {
        return Err(in_failed_transaction());
    }
    Ok(())
}

/// Returns a query in which the places of errors are looked for, unless it is long.
fn source_of(query: &str) -> Option<String> {
    (query.len() <= error_positions::LONGEST).then(|| query.to_owned())
}

/// Returns a failure with the place of the name that it is about, if it is about one in a statement of the query.
fn placed(failure: Failure, query: Option<&str>, statement: usize) -> Failure {
    match failure {
        Failure::SqlError(error) if error.position.is_none() => {
            let position = query.and_then(|query| error_positions::of(query, statement, &error));
            Failure::SqlError(error.with_position(position))
        }
        other => other,
    }
}

fn no_such_portal(name: &str) -> SqlError {
    SqlError::error("34000", format!("portal \"{name}\" does not exist"))
}

/// Ends a statement: applies its settings, then sends notices and the tag.
async fn complete(session: &mut Session, outbox: &mut Outbox, tag: String) -> Result<(), Failure> {
    session.synchronize().await?;
    for notice in session.notices.drain(..) {
        outbox.put(notice)?;
    }
    Ok(outbox.put(Message::CommandComplete(CommandComplete::new(tag)))?)
}

/// Returns the columns of a portal. A cursor has rows although its DECLARE has none.
fn portal_columns(portal: &Portal) -> Option<Arc<Columns>> {
    let prepared: &PreparedStatement = &portal.prepared;
    match (&prepared.columns, &prepared.plan) {
        (None, Some(plan)) if portal.running.is_some() => Some(commands::columns_of(plan, prepared)),
        _ => prepared.described().cloned(),
    }
}

fn describe_columns(
    session: &Session,
    columns: Option<&Columns>,
    format: &Format,
) -> Result<Arc<Vec<FieldInfo>>, SqlError> {
    match columns {
        Some(columns) => columns.describe(format, session.settings().format_options()),
        None => Ok(Arc::default()),
    }
}

fn row_description(fields: &[FieldInfo]) -> Message {
    Message::RowDescription(RowDescription::new(fields.iter().map(Into::into).collect()))
}

/// Sends all rows as a copy; returns its tag.
async fn send_copy(
    session: &Session,
    columns: Option<&Columns>,
    rows: &mut ResultRows,
    copy: &CopyFormat,
    outbox: &mut Outbox,
) -> Result<String, Failure> {
    let format = if copy.is_binary() { Format::UnifiedBinary } else { Format::UnifiedText };
    let fields = describe_columns(session, columns, &format)?;
    let names: Vec<_> = fields.iter().map(|field| field.name().to_owned()).collect();
    let code = i16::from(copy.is_binary());
    let encoding = copy.encoding(session.encoding.get());
    // A result has 1,664 columns at most.
    let response = CopyOutResponse::new(code as i8, names.len() as i16, vec![code; names.len()]);
    outbox.put(Message::CopyOutResponse(response))?;
    // The header of a binary copy comes in one message with the data after it; some clients count on it.
    let mut header = copy.begin(&names).filter(|_| copy.is_binary());
    if header.is_none()
        && let Some(bytes) = copy.begin(&names)
    {
        outbox.put(Message::CopyData(CopyData::new(encoding.of_utf8(&bytes)?.into_owned().into())))?;
    }
    let mut after_header = |bytes: Bytes| match header.take() {
        Some(header) => Bytes::from([header, bytes].concat()),
        None => bytes,
    };
    let mut sent = 0;
    let reports_progress = session.settings().reports_progress();
    loop {
        let batch = match rows.next_now(usize::MAX) {
            Some(batch) => batch?,
            None => next_batch(rows, usize::MAX, reports_progress, outbox).await?,
        };
        let Some(batch) = batch else { break };
        sent += batch.num_rows();
        for row in column::encode(&fields, &batch, &session.objects)? {
            let row = copy.row(if copy.is_binary() { encoding.write_row(row?, &fields)? } else { row? }, &names)?;
            let row = if copy.is_binary() || !encoding.converts() {
                row
            } else {
                encoding.of_utf8(&row)?.into_owned().into()
            };
            outbox.put(Message::CopyData(CopyData::new(after_header(row))))?;
            if outbox.is_full() {
                outbox.flush().await?;
            }
        }
    }
    if let Some(bytes) = copy.end() {
        outbox.put(Message::CopyData(CopyData::new(after_header(bytes))))?;
    }
    outbox.put(Message::CopyDone(CopyDone::new()))?;
    Ok(format!("COPY {sent}"))
}

/// Reads the rows of a COPY from the client and inserts them.
async fn receive_copy(
    inbox: &mut Inbox,
    outbox: &mut Outbox,
    session: &mut Session,
    interrupts: &mut InterruptHandler,
    prepared: &Arc<PreparedStatement>,
) -> Result<(), Failure> {
    let (limit, begun) = (session.time_limit(), Instant::now());
    let current = async { Ok(session.up_to_date(prepared).await?) };
    let prepared = interrupts.during(inbox, limit, current).await?;
    let Some(format) = &prepared.parsed.copy_from else { return Ok(()) };
    let mut copy = CopyIn::new(session, &prepared, format)?;
    let code = i16::from(format.is_binary());
    // A table has 1,664 columns at most.
    let columns = copy.columns() as i16;
    let response = CopyInResponse::new(code as i8, columns, vec![code; copy.columns()]);
    outbox.put(Message::CopyInResponse(response))?;
    outbox.flush().await?;
    loop {
        let message = interrupts.between(limit.since(begun), inbox.message()).await?;
        match message {
            Some(PgWireFrontendMessage::CopyData(data)) => copy.push(&data.data)?,
            Some(PgWireFrontendMessage::CopyDone(_)) => break,
            Some(PgWireFrontendMessage::CopyFail(fail)) => {
                return Err(SqlError::error("57014", format!("COPY from stdin failed: {}", fail.message)).into());
            }
            Some(PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_)) => {}
            Some(PgWireFrontendMessage::Terminate(_)) | None => return Err(Failure::Disconnected),
            Some(_) => return Err(SqlError::protocol_violation("unexpected message during COPY from stdin").into()),
        }
    }
    let work = async {
        let (plan, _reservation) = copy.finish()?;
        let _place = session.take_place(&prepared).await;
        match session.run_plan(plan, &prepared.parsed).await? {
            Outcome::Done(tag) => complete(session, outbox, tag.replace("INSERT 0", "COPY")).await,
            Outcome::Rows(..) => Err(SqlError::error("XX000", "internal error: COPY has rows").into()),
        }
    };
    interrupts.during(inbox, limit.since(begun), work).await
}

/// Waits for the next rows of a query that is slower than its client, which gets those before them, and reports of its
/// progress if it asks for them.
async fn next_batch(
    rows: &mut ResultRows,
    most: usize,
    reports_progress: bool,
    outbox: &mut Outbox,
) -> Result<Option<RecordBatch>, Failure> {
    let progress = reports_progress.then(|| rows.progress().clone());
    let next = rows.next(most);
    tokio::pin!(next);
    tokio::select! {
        biased;
        batch = &mut next => return Ok(batch?),
        () = tokio::time::sleep(LATE) => outbox.flush().await?,
    }
    let Some(progress) = progress else { return Ok(next.await?) };
    loop {
        tokio::select! {
            biased;
            batch = &mut next => return Ok(batch?),
            () = tokio::time::sleep(progress::INTERVAL) => {
                outbox.put(notice(progress.text()))?;
                outbox.flush().await?;
            }
        }
    }
}

/// Sends at most `most` rows; returns their number, and true if they were the last.
async fn send_rows(
    rows: &mut ResultRows,
    fields: &Arc<Vec<FieldInfo>>,
    session: &Session,
    outbox: &mut Outbox,
    most: usize,
) -> Result<(usize, bool), Failure> {
    let mut sent = 0;
    let encoding = session.encoding.get();
    let reports_progress = session.settings().reports_progress();
    while sent < most {
        let batch = match rows.next_now(most - sent) {
            Some(batch) => batch?,
            None => Box::pin(next_batch(rows, most - sent, reports_progress, outbox)).await?,
        };
        let Some(batch) = batch else { return Ok((sent, true)) };
        sent += batch.num_rows();
        for row in column::encode(fields, &batch, &session.objects)? {
            outbox.put(Message::DataRow(encoding.write_row(row?, fields)?))?;
            if outbox.is_full() {
                outbox.flush().await?;
            }
        }
    }
    Ok((sent, false))
}
