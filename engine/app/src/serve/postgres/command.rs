//! What clients ask for beside questions: transactions, settings, cursors, what they prepared.
//!
//! In: a command, a session. Out: its tag, and what is to be reported. Nothing here changes
//! anything but the session: there are no transactions, each statement sees the newest snapshot.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::portal::Portal;
use datafusion_postgres::pgwire::api::results::{
    FieldInfo, QueryResponse, Response, SendableRowStream, Tag,
};
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::api::store::{MemPortalStore, PortalStore};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use futures::{Sink, SinkExt as _};

use super::answer::Prepared;
use super::cursor::Cursor;
use super::failure::{self, code};
use super::reading::Found;
use super::session::Session;
use super::settings::{self, Report, Settings};
use super::statement::{Asked, What};

/// Whether a client may ask now. Errors: a statement before it failed inside of a transaction.
pub(super) fn may(status: TransactionStatus, asked: &Asked) -> PgWireResult<()> {
    if status != TransactionStatus::Error || asked.ends_transaction() {
        return Ok(());
    }
    let message = "current transaction is aborted, commands ignored until end of transaction block";
    Err(failure::error(code::ABORTED, message))
}

/// Does what is no question. Out: the answer, and what is to be reported before it.
pub(super) fn run(
    store: &impl PortalStore,
    session: &Session,
    status: TransactionStatus,
    what: &What,
) -> PgWireResult<(Response, Vec<Report>)> {
    let done = |word: &str| Response::Execution(Tag::new(word));
    let mut reports = Vec::new();
    let response = match what {
        What::Set(change) => {
            reports.extend(session.change(|settings| change.apply(settings))?);
            done("SET")
        }
        What::Reset(name) => {
            reports = session.change(|all| Ok(settings::reset(all, name.as_deref())))?;
            done("RESET")
        }
        What::Begin if status == TransactionStatus::Idle => {
            Response::TransactionStart(Tag::new("BEGIN"))
        }
        What::Begin => done("BEGIN"),
        What::Commit | What::Rollback => {
            let failed = status == TransactionStatus::Error || matches!(what, What::Rollback);
            close(store, session, None)?;
            Response::TransactionEnd(Tag::new(if failed { "ROLLBACK" } else { "COMMIT" }))
        }
        What::Close(name) => {
            close(store, session, name.as_deref())?;
            done("CLOSE CURSOR")
        }
        What::Deallocate(name) => {
            forget(store, session, name.as_deref());
            done(if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" })
        }
        What::Discard => {
            close(store, session, None)?;
            forget(store, session, None);
            reports = session.change(|all| Ok(settings::reset(all, None)))?;
            done("DISCARD ALL")
        }
        What::Nothing("") => Response::EmptyQuery,
        What::Nothing(word) => done(word),
        What::Read(_) | What::Show(_) | What::Declare(..) | What::Fetch(..) => {
            return Err(failure::error("XX000", "this is no command"));
        }
    };
    Ok((response, reports))
}

fn close(store: &impl PortalStore, session: &Session, name: Option<&str>) -> PgWireResult<()> {
    let names = session.cursors();
    session.close(name)?;
    for known in names.iter().filter(|known| name.is_none_or(|name| name == known.as_str())) {
        store.rm_portal(known);
    }
    Ok(())
}

fn forget(store: &impl PortalStore, session: &Session, name: Option<&str>) {
    session.forget(name).iter().for_each(|known| store.rm_statement(known));
}

/// Opens a cursor over rows that were found. Drivers ask for its columns as those of a portal.
pub(super) fn declare(
    store: &impl PortalStore,
    session: &Session,
    name: &str,
    found: Found,
) -> PgWireResult<Response> {
    if let Some(store) = store.as_any().downcast_ref::<MemPortalStore<Prepared>>() {
        let asked = Arc::new(Asked::new(What::Fetch(name.to_string(), None)));
        let statement = StoredStatement::new(name.to_string(), asked, Vec::new());
        store.put_portal(Arc::new(Portal::new_cursor(name.to_string(), Arc::new(statement))));
    }
    session.open(name, Cursor { schema: found.schema, rest: None, rows: found.rows });
    Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
}

/// What `SHOW` answers. Errors: there is no such setting.
pub(super) fn show(settings: &Settings, words: &str) -> PgWireResult<(SchemaRef, RecordBatch)> {
    let (names, rows) = settings::show(settings, words)?;
    let field = |name: &String| Field::new(name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()));
    let column = |at: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row.get(at)).collect::<StringArray>())
    };
    let columns = (0..names.len()).map(column).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns);
    let broken = |_| failure::error("XX000", "settings cannot be shown");
    Ok((schema, batch.map_err(broken)?))
}

/// Rows of a result.
pub(super) fn rows(fields: Arc<Vec<FieldInfo>>, rows: SendableRowStream) -> QueryResponse {
    QueryResponse::new(fields, rows)
}

/// Tells a client what has changed about its session.
pub(super) struct Teller<'a, C>(pub(super) &'a mut C);

impl<C> Teller<'_, C>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    /// Tells `reports`.
    pub(super) async fn tell(self, reports: Vec<Report>) -> PgWireResult<()> {
        for Report { name, value } in reports {
            let status = ParameterStatus::new(name, value);
            self.0.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::pgwire::messages::response::CommandComplete;
    use sluice_core::ManualClock;

    use super::super::session::Sessions;
    use super::super::statement;
    use super::*;
    use crate::serve::catalog::Rewriter;

    fn done(session: &Session, status: TransactionStatus, text: &str) -> (String, usize) {
        let store: MemPortalStore<Prepared> = MemPortalStore::new();
        let asked = statement::read(text, &Rewriter::new().unwrap()).unwrap().remove(0);
        may(status, &asked).unwrap();
        let (response, reports) = run(&store, session, status, &asked.what).unwrap();
        let tag = match response {
            Response::Execution(tag)
            | Response::TransactionStart(tag)
            | Response::TransactionEnd(tag) => CommandComplete::from(tag).tag,
            _ => String::new(),
        };
        (tag, reports.len())
    }

    #[test]
    fn commands_are_answered_with_their_tags() {
        let session = Sessions::default().create(Arc::new(ManualClock::at(0)));
        let (idle, inside) = (TransactionStatus::Idle, TransactionStatus::Transaction);
        let cases = [
            (idle, "BEGIN", "BEGIN", 0),
            (inside, "BEGIN", "BEGIN", 0),
            (inside, "COMMIT", "COMMIT", 0),
            (TransactionStatus::Error, "COMMIT", "ROLLBACK", 0),
            (TransactionStatus::Error, "ROLLBACK", "ROLLBACK", 0),
            (idle, "SET application_name = 'x'", "SET", 1),
            (idle, "SET unknown.setting = 1", "SET", 0),
            (idle, "RESET ALL", "RESET", 5),
            (idle, "DISCARD ALL", "DISCARD ALL", 5),
            (idle, "DEALLOCATE ALL", "DEALLOCATE ALL", 0),
            (idle, "CLOSE ALL", "CLOSE CURSOR", 0),
            (idle, "UNLISTEN *", "UNLISTEN", 0),
        ];
        for (status, text, tag, reports) in cases {
            assert_eq!(done(&session, status, text), (tag.to_string(), reports), "{text}");
        }
    }

    #[test]
    fn after_a_failure_only_the_end_is_answered() {
        let asked = statement::read("SELECT 1", &Rewriter::new().unwrap()).unwrap().remove(0);
        assert!(may(TransactionStatus::Error, &asked).is_err());
        assert!(may(TransactionStatus::Transaction, &asked).is_ok());
    }

    #[test]
    fn settings_are_shown_as_rows() {
        let settings = settings::begin(&Settings::new());
        let (schema, batch) = show(&settings, "search_path").unwrap();
        assert_eq!((schema.field(0).name().as_str(), batch.num_rows()), ("search_path", 1));
        assert_eq!(show(&settings, "all").unwrap().1.num_columns(), 3);
        assert!(show(&settings, "nonsense").is_err());
    }
}
