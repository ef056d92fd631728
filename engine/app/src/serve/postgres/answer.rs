//! Messages of clients that are let in, and their answers.
//!
//! In: texts of statements, one by one or prepared, with values. Out: rows and tags, or an error.
//! Each statement is answered before the next one of its message begins: rows that wait to be sent
//! keep a place among the queries that run. What a client prepared is planned when it is asked.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::Schema;
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response,
    send_query_response, send_ready_for_query,
};
use datafusion_postgres::pgwire::api::results::{
    DescribePortalResponse, DescribeStatementResponse, FieldInfo, Response, Tag,
};
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::{
    Close, CloseComplete, Execute, Parse, ParseComplete, TARGET_TYPE_BYTE_STATEMENT,
};
use datafusion_postgres::pgwire::messages::response::EmptyQueryResponse;
use datafusion_postgres::pgwire::messages::simplequery::Query;
use futures::{Sink, SinkExt as _};

use super::command::{self, Teller};
use super::cursor::written;
use super::failure::{self, code};
use super::login::Login;
use super::reading::{Given, NOTHING, Reader, unless, until};
use super::rows::Writing;
use super::session::Session;
use super::settings;
use super::statement::{self, Asked, What};
use crate::serve::catalog::Rewriter;

/// Answers clients.
pub(super) struct Service {
    pub(super) reader: Reader,
    pub(super) rewriter: Rewriter,
    pub(super) login: Arc<Login>,
}

/// A statement as it is kept.
pub(super) type Prepared = Arc<Asked>;

impl Service {
    /// Answers one statement.
    async fn respond<C>(
        &self,
        client: &mut C,
        asked: &Asked,
        given: Given<'_>,
        format: &Format,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = Session::of(client)?;
        self.login.still(&session)?;
        command::may(client.transaction_status(), asked)?;
        let halt = session.halt();
        match &asked.what {
            What::Read(statement) => {
                let promised = asked.promised.get();
                let found = self.reader.run(statement, &session, given, promised);
                let found = unless(halt.clone(), found).await?;
                let writing = self.writing(&session, &found.schema, format)?;
                let fields = writing.fields();
                let rows = written(until(found.rows, halt), writing);
                Ok(Response::Query(command::rows(fields, rows)))
            }
            What::Declare(name, statement) => {
                session.may_open(name)?;
                let found = self.reader.run(statement, &session, given, None);
                let found = unless(halt, found).await?;
                command::declare(client.portal_store(), &session, name, found)
            }
            What::Fetch(name, count) => {
                let columns = session.columns(name)?;
                let writing = self.writing(&session, &columns, format)?;
                let fetched = super::cursor::fetch(session, name, *count, writing, halt)?;
                Ok(Response::Query(fetched))
            }
            What::Show(words) => {
                let (schema, batch) = command::show(&session.settings(), words)?;
                let writing = self.writing(&session, &schema, format)?;
                let rows: Vec<PgWireResult<_>> =
                    writing.rows(&batch)?.into_iter().map(Ok).collect();
                let rows = Box::pin(futures::stream::iter(rows));
                let mut response = command::rows(writing.fields(), rows);
                response.set_command_tag("SHOW");
                Ok(Response::Query(response))
            }
            other => {
                let status = client.transaction_status();
                let (response, reports) =
                    command::run(client.portal_store(), &session, status, other)?;
                Teller(client).tell(reports).await?;
                Ok(response)
            }
        }
    }

    fn writing(
        &self,
        session: &Session,
        schema: &Schema,
        format: &Format,
    ) -> PgWireResult<Writing> {
        let settings = session.settings();
        let zone = settings::zone(&settings);
        Writing::new(schema, format, &settings, zone)
    }

    /// The columns of what a statement gives, as clients are told them.
    async fn fields(
        &self,
        session: &Session,
        asked: &Asked,
        given: Option<Given<'_>>,
        format: &Format,
    ) -> PgWireResult<(Vec<Type>, Vec<FieldInfo>)> {
        let (types, schema) = match (&asked.what, given) {
            (What::Read(statement), Some(given)) => {
                let columns = match asked.promised.get() {
                    Some(promised) => promised.clone(),
                    None => self.reader.columns(statement, session, given).await?,
                };
                (Vec::new(), Some(columns))
            }
            (What::Read(statement), None) => {
                let (types, columns) = self.reader.describe(statement, session).await?;
                let columns = asked.promised.get_or_init(|| columns).clone();
                (types, Some(columns))
            }
            (What::Declare(_, statement), None) => {
                (self.reader.describe(statement, session).await?.0, None)
            }
            (What::Fetch(name, _), _) => (Vec::new(), Some(session.columns(name)?)),
            (What::Show(words), _) => {
                (Vec::new(), Some(command::show(&session.settings(), words)?.0))
            }
            _ => (Vec::new(), None),
        };
        let fields = match schema {
            Some(schema) => self.writing(session, &schema, format)?.fields().as_ref().clone(),
            None => Vec::new(),
        };
        Ok((types, fields))
    }
}

/// Sends what is not rows, and says how the transaction stands after it.
async fn send<C>(client: &mut C, response: Response) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let status = client.transaction_status();
    match response {
        Response::Query(rows) => send_query_response(client, rows, true).await,
        Response::Execution(tag) => send_execution_response(client, tag).await,
        Response::TransactionStart(tag) => {
            client.set_transaction_status(status.to_in_transaction_state());
            send_execution_response(client, tag).await
        }
        Response::TransactionEnd(tag) => {
            client.set_transaction_status(status.to_idle_state());
            send_execution_response(client, tag).await
        }
        _ => Ok(client
            .feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))
            .await?),
    }
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let asked = statement::read(&query.query, &self.rewriter)?;
        if asked.is_empty() {
            send(client, Response::EmptyQuery).await?;
        }
        for one in &asked {
            let response = self.respond(client, one, NOTHING, &Format::UnifiedText).await?;
            send(client, response).await?;
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let status = client.transaction_status();
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut responses = Vec::new();
        for one in statement::read(query, &self.rewriter)? {
            responses.push(self.respond(client, &one, NOTHING, &Format::UnifiedText).await?);
        }
        Ok(responses)
    }
}

#[async_trait]
impl QueryParser for Service {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        _types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut asked = statement::read(sql, &self.rewriter)?;
        if asked.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(failure::error(code::SYNTAX, message));
        }
        Ok(asked.pop())
    }

    /// Types are told where there is time to plan, see `do_describe_statement`.
    fn get_parameter_types(&self, _stmt: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    /// See `do_describe_portal`.
    fn get_result_schema(
        &self,
        _stmt: &Prepared,
        _column_format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        Ok(Vec::new())
    }
}

/// The extended protocol: prepared statements, portals, rows a few at a time.
pub(super) struct Extended(pub(super) Arc<Service>);

#[async_trait]
impl ExtendedQueryHandler for Extended {
    type Statement = Prepared;
    type QueryParser = Service;

    fn query_parser(&self) -> Arc<Service> {
        self.0.clone()
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let parsed = StoredStatement::parse(client, &message, self.query_parser()).await?;
        if let Some(name) = &message.name {
            Session::of(client)?.prepare(name, message.query.len())?;
        }
        match parsed {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => {
                let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
                client.portal_store().put_empty_statement(name);
            }
        }
        let done = PgWireBackendMessage::ParseComplete(ParseComplete::new());
        Ok(client.feed(done).await?)
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            Session::of(client)?.forget(Some(name));
            client.portal_store().rm_statement(name);
        } else {
            Session::of(client)?.unbind(name);
            client.portal_store().rm_portal(name);
        }
        Ok(client.feed(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?)
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => return send(client, Response::EmptyQuery).await,
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        client.set_state(PgWireConnectionState::QueryInProgress);
        let session = Session::of(client)?;
        let most = usize::try_from(message.max_rows).unwrap_or(0);
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            if most > 0 && matches!(portal.statement.statement.what, What::Read(_)) {
                session.may_wait(name)?;
            }
            match self.do_query(client, portal.as_ref(), most).await? {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(rows),
                other => {
                    send(client, other).await?;
                    client.set_state(PgWireConnectionState::ReadyForQuery);
                    return Ok(());
                }
            }
        }
        match &mut *state {
            PortalExecutionState::Suspended(rows) => {
                // Rows go out as they come, however many there are.
                let sent = send_partial_query_response(client, rows, most).await;
                if matches!(sent, Ok(true)) {
                    session.waits(name);
                } else {
                    *state = PortalExecutionState::Finished;
                    session.done(name);
                }
                sent?;
            }
            _ => send_execution_response(client, Tag::new("SELECT").with_rows(0)).await?,
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn do_describe_statement<C>(
        &self,
        client: &mut C,
        target: &StoredStatement<Prepared>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = Session::of(client)?;
        self.0.login.still(&session)?;
        let told = self.0.fields(&session, &target.statement, None, &Format::UnifiedText);
        let (mut types, fields) = unless(session.halt(), told).await?;
        for (kind, named) in types.iter_mut().zip(&target.parameter_types) {
            if let Some(named) = named.as_ref().filter(|named| **named != Type::UNKNOWN) {
                *kind = named.clone();
            }
        }
        Ok(DescribeStatementResponse::new(types, fields))
    }

    async fn do_describe_portal<C>(
        &self,
        client: &mut C,
        target: &Portal<Prepared>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = Session::of(client)?;
        self.0.login.still(&session)?;
        let asked = &target.statement.statement;
        let given = Some(given(target));
        let told = self.0.fields(&session, asked, given, &target.result_column_format);
        let (_, fields) = unless(session.halt(), told).await?;
        Ok(DescribePortalResponse::new(fields))
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let asked = &portal.statement.statement;
        self.0.respond(client, asked, given(portal), &portal.result_column_format).await
    }
}

fn given(portal: &Portal<Prepared>) -> Given<'_> {
    Given {
        values: &portal.parameters,
        forms: &portal.parameter_format,
        named: &portal.statement.parameter_types,
    }
}
