//! One connection: messages in, answers out, until either side has enough.
//!
//! In: a socket, what all connections share. Out: nothing, when the connection is over. It ends
//! when its client leaves, also in the middle of a statement; when nobody logs in or asks for long;
//! and, when the process is to end, after the statement at work.

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use datafusion_postgres::pgwire::api::store::PortalStore as _;
use datafusion_postgres::pgwire::api::{
    ClientInfo as _, ClientPortalStore as _, DEFAULT_NAME, NoopHandler, PgWireConnectionState,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::extendedquery::Bind;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::pgwire::tokio::TlsAcceptor;
use datafusion_postgres::pgwire::tokio::server::{
    MaybeTls, PgWireMessageServerCodec, negotiate_tls, process_error, process_message,
};
use futures::future::poll_fn;
use futures::{SinkExt as _, StreamExt as _};
use sluice_core::Clock;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::answer::{Extended, Prepared, Service};
use super::failure::{self, code};
use super::login::{Login, Refused};
use super::session::{Session, Sessions};

/// How long a client may take to log in, as PostgreSQL has it.
const LOGIN_MAX: Duration = Duration::from_secs(60);

/// How long a client may ask nothing. Pools of drivers keep connections for half an hour.
const IDLE_MAX: Duration = Duration::from_secs(3_600);

/// How long rows may wait to be taken, when the statement's own limit does not end it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long somebody who has just come in may take to ask, when the process is to end.
const LINGER: Duration = Duration::from_secs(3);

/// How often it is looked whether the client is still there while a statement is at work.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Bytes of one message. Statements are far shorter; values may be long texts.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Bytes of a message before anybody has logged in.
const LOGIN_BYTES_MAX: usize = 32 << 10;

/// What all connections share.
pub(super) struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) extended: Arc<Extended>,
    pub(super) login: Arc<Login>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when the process is to end.
    pub(super) stop: CancellationToken,
}

type Line = Framed<MaybeTls, PgWireMessageServerCodec<Prepared>>;

/// What comes next on a connection.
enum Next {
    Message(PgWireFrontendMessage),
    /// The client is gone, or the connection is.
    Gone,
    /// What came is no message.
    Odd(PgWireError),
    /// The time is over.
    Late,
    /// Rows were not taken.
    Waiting,
    /// The process is to end.
    Stopped,
}

/// Serves one connection to its end. `refused` tells it to go away as soon as it can be told.
pub(super) async fn serve(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    refused: Option<Refused>,
) {
    if let Err(error) = converse(socket, tls, shared, refused).await {
        tracing::debug!(%error, "a PostgreSQL connection broke off");
    }
}

async fn converse(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    refused: Option<Refused>,
) -> io::Result<()> {
    let begun = shared.clock.monotonic();
    let (socket, twin) = twins(socket)?;
    let negotiated = tokio::select! {
        line = negotiate_tls::<Prepared>(socket, tls) => line?,
        () = shared.clock.sleep(LOGIN_MAX) => None,
    };
    let Some(mut line) = negotiated else { return Ok(()) };
    let session = shared.sessions.create(shared.clock.clone());
    line.session_extensions().insert::<Arc<Session>>(session.clone());
    if let Some(refused) = refused {
        line.session_extensions().insert::<Refused>(refused);
    }
    let mut asked = Asking { begun, between: true, asked: false };
    loop {
        match next(&mut line, &shared, &session, &asked).await {
            Next::Message(PgWireFrontendMessage::Terminate(_)) | Next::Gone => return Ok(()),
            Next::Message(message) => {
                let extended = message.is_extended_query();
                asked.heard(&message);
                let work = answer(message, &mut line, &shared, &session);
                let done = tokio::select! {
                    biased;
                    done = work => done,
                    () = gone(&twin, shared.clock.as_ref()) => return Ok(()),
                };
                if let Err(error) = done {
                    let ends = is_fatal(&error);
                    process_error(&mut line, error, extended).await?;
                    if ends {
                        return Ok(());
                    }
                }
                if asked.between {
                    end_portals(&line, &session);
                }
            }
            Next::Odd(error) => return process_error(&mut line, error, false).await,
            Next::Waiting => {
                session.give_up();
                line.portal_store().clear_portals();
            }
            Next::Late if is_in(&line) => {
                let why = "terminating connection due to idle-session timeout";
                return farewell(&mut line, failure::fatal(code::IDLE, why, None)).await;
            }
            Next::Late => return Ok(()),
            Next::Stopped => {
                let why = "terminating connection due to administrator command";
                let hint = Some("connect again: another process answers");
                return farewell(&mut line, failure::fatal(code::SHUTDOWN, why, hint)).await;
            }
        }
    }
}

/// Answers one message. Errors: there is no room for the portal it makes, or what the answer is.
async fn answer(
    message: PgWireFrontendMessage,
    line: &mut Line,
    shared: &Shared,
    session: &Session,
) -> PgWireResult<()> {
    // After a mistake nothing is answered until `Sync`.
    if let PgWireFrontendMessage::Bind(bind) = &message
        && matches!(line.state(), PgWireConnectionState::ReadyForQuery)
    {
        make_room(bind, line, session)?;
    }
    let (login, service) = (shared.login.clone(), shared.service.clone());
    let (extended, sessions) = (shared.extended.clone(), shared.sessions.clone());
    process_message(message, line, login, service, extended, Arc::new(NoopHandler), sessions).await
}

/// Makes room for a portal. What had its name is gone, with the rows that waited. Errors: there are
/// too many with names.
fn make_room(bind: &Bind, line: &Line, session: &Session) -> PgWireResult<()> {
    let name = bind.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
    line.portal_store().rm_portal(name);
    session.unbind(name);
    match &bind.portal_name {
        Some(name) => session.bind(name, bind.parameters.iter().flatten().map(Bytes::len).sum()),
        None => Ok(()),
    }
}

/// Ends the portals with names and those whose rows wait: they last as long as their transaction.
fn end_portals(line: &Line, session: &Session) {
    if line.transaction_status() == TransactionStatus::Idle {
        session.unbind_all().iter().for_each(|name| line.portal_store().rm_portal(name));
    }
}

/// What was asked on a connection.
struct Asking {
    begun: Duration,
    /// Whether everything that was asked is answered.
    between: bool,
    /// Whether anything was asked.
    asked: bool,
}

impl Asking {
    fn heard(&mut self, message: &PgWireFrontendMessage) {
        match message {
            PgWireFrontendMessage::Query(_) | PgWireFrontendMessage::Sync(_) => {
                (self.between, self.asked) = (true, true);
            }
            other if other.is_extended_query() => self.between = false,
            _ => {}
        }
    }
}

/// Waits for what comes next.
async fn next(line: &mut Line, shared: &Shared, session: &Session, asked: &Asking) -> Next {
    let inside = is_in(line);
    let most = if inside { MESSAGE_BYTES_MAX } else { LOGIN_BYTES_MAX };
    let message = poll_fn(|context| {
        let next = line.poll_next_unpin(context);
        if next.is_pending() && line.read_buffer().len() > most {
            let why = "a message is longer than it may be";
            return Poll::Ready(Some(Err(failure::fatal(code::LIMIT, why, None))));
        }
        next
    });
    let clock = &shared.clock;
    let spent = clock.monotonic().saturating_sub(asked.begun);
    let limit = if inside { IDLE_MAX } else { LOGIN_MAX.saturating_sub(spent) };
    let patience = session.patience(WAIT_MAX);
    let late = clock.sleep(patience.map_or(limit, |patience| patience.min(limit)));
    let stopped = async {
        shared.stop.cancelled().await;
        if !asked.asked {
            clock.sleep(LINGER).await;
        }
    };
    tokio::select! {
        biased;
        message = message => match message {
            Some(Ok(message)) => Next::Message(message),
            Some(Err(PgWireError::IoError(_))) | None => Next::Gone,
            Some(Err(error)) => Next::Odd(error),
        },
        () = stopped, if asked.between => Next::Stopped,
        () = late => if patience.is_some_and(|p| p <= limit) { Next::Waiting } else { Next::Late },
    }
}

/// Whether a client is logged in.
fn is_in(line: &Line) -> bool {
    !matches!(
        line.state(),
        PgWireConnectionState::AwaitingSslRequest
            | PgWireConnectionState::AwaitingStartup
            | PgWireConnectionState::AuthenticationInProgress
    )
}

fn is_fatal(error: &PgWireError) -> bool {
    match error {
        PgWireError::UserError(info) => info.is_fatal(),
        PgWireError::InvalidPassword(_) | PgWireError::IoError(_) => true,
        _ => false,
    }
}

/// The last word.
async fn farewell(line: &mut Line, error: PgWireError) -> io::Result<()> {
    line.send(PgWireBackendMessage::ErrorResponse(ErrorInfo::from(error).into())).await?;
    line.close().await
}

/// The socket, and the same once more to look at while the first is at work.
fn twins(socket: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let twin = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, TcpStream::from_std(twin)?))
}

/// Ends when the other side has closed the connection.
async fn gone(twin: &TcpStream, clock: &dyn Clock) {
    loop {
        match twin.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            Err(_) => return,
            // What waits to be read is the next message.
            Ok(_) => clock.sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::pgwire::api::DefaultClient;
    use datafusion_postgres::pgwire::messages::extendedquery::{Execute, Parse, Sync};
    use datafusion_postgres::pgwire::messages::simplequery::Query;
    use sluice_core::{ManualClock, Secrets};
    use tokio::net::TcpListener;

    use super::super::reading::Reader;
    use super::*;
    use crate::environment::{Resources, environment};
    use crate::serve::catalog::{Catalog, Rewriter};
    use crate::serve::query::{Queries, QueryLimits};
    use crate::serve::shell::Access;

    /// A client that is let in, and who answers.
    struct Bench {
        line: Line,
        session: Arc<Session>,
        shared: Shared,
        _client: TcpStream,
    }

    impl Bench {
        async fn new() -> Self {
            let resources = Resources { memory_bytes: Some(256 << 20), threads: Some(2) };
            let environment = environment(&resources);
            let limits = QueryLimits {
                memory: 16 << 20,
                time: Duration::from_secs(60),
                rows: 100_000,
                queries: 4,
                queue: 4,
                cache: 1 << 20,
            };
            let queries = Queries::new(&environment, limits).unwrap();
            let sessions = Arc::new(Sessions::default());
            let login = Arc::new(Login {
                access: Arc::new(Access::new(&[], &Secrets::default()).unwrap()),
                clock: environment.clock.clone(),
                ids: environment.ids.clone(),
                sessions: sessions.clone(),
                metrics: environment.metrics.clone(),
            });
            let catalog = Arc::new(Catalog::new(queries.clone(), "shop").unwrap());
            let service = Arc::new(Service {
                reader: Reader { queries, catalog },
                rewriter: Rewriter::new().unwrap(),
                login: login.clone(),
            });
            let extended = Arc::new(Extended(service.clone()));
            let (clock, stop) = (environment.clock.clone(), CancellationToken::new());
            let session = sessions.create(clock.clone());
            let shared = Shared { service, extended, login, sessions, clock, stop };

            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (socket, address) = listener.accept().await.unwrap();
            let codec = PgWireMessageServerCodec::new(DefaultClient::new(address, false));
            let mut line: Line = Framed::new(MaybeTls::Plain(socket), codec);
            line.session_extensions().insert::<Arc<Session>>(session.clone());
            line.set_state(PgWireConnectionState::ReadyForQuery);
            Self { line, session, shared, _client: client }
        }

        /// Whether a message is answered without an error; after one it is as if `Sync` had come.
        async fn asks(&mut self, message: PgWireFrontendMessage) -> bool {
            let answered = answer(message, &mut self.line, &self.shared, &self.session).await;
            self.line.set_state(PgWireConnectionState::ReadyForQuery);
            answered.is_ok()
        }

        async fn parses(&mut self, name: Option<&str>, sql: &str) -> bool {
            let parse = Parse::new(name.map(str::to_string), sql.to_string(), vec![]);
            self.asks(PgWireFrontendMessage::Parse(parse)).await
        }

        async fn binds(&mut self, portal: Option<&str>) -> bool {
            self.asks(bind(portal)).await
        }

        async fn takes(&mut self, portal: Option<&str>, rows: i32) -> bool {
            let execute = Execute::new(portal.map(str::to_string), rows);
            self.asks(PgWireFrontendMessage::Execute(execute)).await
        }
    }

    /// Binds no values to the statement without a name.
    fn bind(portal: Option<&str>) -> PgWireFrontendMessage {
        let portal = portal.map(str::to_string);
        PgWireFrontendMessage::Bind(Bind::new(portal, None, vec![], vec![], vec![]))
    }

    #[tokio::test]
    async fn a_session_keeps_the_rows_of_few_portals_waiting() {
        let mut bench = Bench::new().await;
        assert!(bench.parses(None, "SELECT * FROM generate_series(1, 100)").await);
        for portal in [Some("a"), None] {
            assert!(bench.binds(portal).await && bench.takes(portal, 1).await, "{portal:?}");
        }
        assert!(bench.binds(Some("c")).await);
        assert!(!bench.takes(Some("c"), 1).await, "two have rows left");
        assert!(bench.takes(Some("c"), 0).await, "it leaves none");
        assert!(bench.takes(Some("a"), 7).await && bench.takes(Some("a"), 0).await);
        assert!(bench.binds(Some("c")).await && bench.takes(Some("c"), 1).await);
        assert!(bench.binds(Some("d")).await);
        assert!(!bench.takes(Some("d"), 1).await);
        // The rows of what had the name before are gone.
        assert!(bench.binds(None).await && bench.takes(Some("d"), 1).await);
        end_portals(&bench.line, &bench.session);
        assert!(!bench.takes(Some("d"), 1).await, "it ended with its transaction");
        assert_eq!(bench.session.patience(WAIT_MAX), None);
    }

    #[tokio::test]
    async fn what_comes_after_a_mistake_is_not_listened_to() {
        let mut bench = Bench::new().await;
        assert!(bench.parses(None, "SELECT 1").await && bench.binds(Some("large")).await);
        bench.session.bind("large", usize::MAX).unwrap_err();
        bench.session.bind("large", 32 << 20).unwrap();
        let one = Some(Bytes::from_static(b"1"));
        let more = || {
            let more = Some("more".to_string());
            PgWireFrontendMessage::Bind(Bind::new(more, None, vec![], vec![one.clone()], vec![]))
        };
        assert!(!bench.asks(more()).await, "there is no room");
        bench.line.set_state(PgWireConnectionState::AwaitingSync);
        assert!(bench.asks(more()).await, "nothing is said of it");
        bench.session.give_up();
        assert!(bench.asks(more()).await);
    }

    #[tokio::test]
    async fn statements_that_are_none_are_not_kept() {
        let mut bench = Bench::new().await;
        for n in 0..1_001 {
            assert!(!bench.parses(Some(&format!("s{n}")), "SELEC 1").await);
        }
        assert!(bench.parses(Some("s"), "SELECT 1").await);
        assert_eq!(bench.session.forget(None), ["s"]);
    }

    #[test]
    fn a_connection_ends_between_two_questions_only() {
        let mut asking = Asking { begun: Duration::ZERO, between: true, asked: false };
        let query = Query::new("SELECT 1".to_string());
        asking.heard(&PgWireFrontendMessage::Query(query));
        assert!(asking.between && asking.asked);
        let parse = Parse::new(None, "SELECT 1".to_string(), vec![]);
        asking.heard(&PgWireFrontendMessage::Parse(parse));
        assert!(!asking.between);
        asking.heard(&PgWireFrontendMessage::Sync(Sync::new()));
        assert!(asking.between);
    }

    #[tokio::test]
    async fn clients_that_leave_are_noticed_even_if_something_waits() {
        use tokio::io::AsyncWriteExt as _;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (_socket, twin) = twins(socket).unwrap();
        client.write_all(b"not read").await.unwrap();
        drop(client);
        gone(&twin, &ManualClock::at(0)).await;
    }

    #[test]
    fn wrong_passwords_end_the_connection() {
        assert!(is_fatal(&PgWireError::InvalidPassword("ana".into())));
        assert!(is_fatal(&failure::fatal(code::IDLE, "enough", None)));
        assert!(!is_fatal(&failure::error(code::SYNTAX, "odd")));
    }
}
