//! One connection's state, and the list of all, by which a statement is cancelled from another one.
//!
//! In: a login, settings, statements that begin. Out: whose session it is, when its statement is to
//! stop, which cursors are open. A cursor, or a portal of which not all rows were taken, keeps a
//! place among the queries that run; so there are few, and not for long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::ProtocolVersion;
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use parking_lot::Mutex;
use sluice_core::{Clock, Ids};
use tokio_util::sync::CancellationToken;

use super::cursor::{Cursor, Waiting};
use super::failure::{self, code};
use super::settings::{self, Settings};
use crate::serve::catalog::Client;
use crate::serve::shell::Pass;

/// Prepared statements that one session may have: drivers keep a hundred.
const PREPARED_MAX: usize = 1_000;

/// Bytes of their text: drivers keep five million, and what is read from them takes many times as
/// much.
const PREPARED_BYTES_MAX: usize = 8 << 20;

/// Portals with names that one session may have: drivers take rows from a few at a time.
const PORTALS_MAX: usize = 100;

/// Bytes of the values that are bound to them: twice the largest message.
const PORTALS_BYTES_MAX: usize = 32 << 20;

/// The number of the first session; PostgreSQL's are process ids.
const FIRST: i32 = 1_000;

/// Why a statement stops before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halted {
    /// Somebody asked for it.
    Canceled,
    /// It took longer than the session allows.
    Late,
}

impl From<Halted> for PgWireError {
    fn from(halted: Halted) -> Self {
        let why = match halted {
            Halted::Canceled => "canceling statement due to user request",
            Halted::Late => "canceling statement due to statement timeout",
        };
        failure::error(code::CANCELED, why)
    }
}

/// Ends when a statement is to stop.
pub(super) type Halt = Shared<BoxFuture<'static, Halted>>;

/// One connection.
pub(super) struct Session {
    /// Its number.
    pub number: i32,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    user: String,
    pass: Option<Pass>,
    settings: Settings,
    work: CancellationToken,
    waiting: Waiting,
    /// Prepared statements, and the bytes of each.
    prepared: BTreeMap<String, usize>,
    /// Portals with names, and the bytes that are bound to each.
    portals: BTreeMap<String, usize>,
}

impl Session {
    fn new(number: i32, clock: Arc<dyn Clock>) -> Self {
        Self { number, clock, state: Mutex::default() }
    }

    /// The session of a connection.
    pub(super) fn of(client: &(impl ClientInfo + ?Sized)) -> PgWireResult<Arc<Self>> {
        let known = client.session_extensions().get::<Arc<Self>>();
        known
            .map(|session| session.as_ref().clone())
            .ok_or_else(|| failure::error("XX000", "the connection has no session"))
    }

    /// Who it is, with the pass of the token they showed, and what they want set.
    pub(super) fn begin(&self, user: &str, pass: Option<Pass>, settings: Settings) {
        let mut state = self.state.lock();
        state.user = user.to_string();
        state.pass = pass;
        state.settings = settings;
    }

    /// The pass of the token they showed.
    pub(super) fn pass(&self) -> Option<Pass> {
        self.state.lock().pass.clone()
    }

    /// The name they logged in with.
    pub(super) fn user(&self) -> String {
        self.state.lock().user.clone()
    }

    /// The settings in force.
    pub(super) fn settings(&self) -> Settings {
        self.state.lock().settings.clone()
    }

    /// Changes settings; an error leaves them as they were.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Settings) -> PgWireResult<T>,
    ) -> PgWireResult<T> {
        let mut settings = self.settings();
        let done = change(&mut settings)?;
        self.state.lock().settings = settings;
        Ok(done)
    }

    /// What the catalogue is to know of it.
    pub(super) fn client(&self) -> Client {
        let state = self.state.lock();
        Client {
            user: state.user.clone(),
            number: self.number,
            settings: settings::all(&state.settings),
            zone: settings::zone(&state.settings),
        }
    }

    /// A statement begins: what ends it before it is done.
    pub(super) fn halt(&self) -> Halt {
        let work = CancellationToken::new();
        let limit = {
            let mut state = self.state.lock();
            state.work = work.clone();
            settings::timeout(&state.settings)
        };
        let late = limit.map(|limit| self.clock.sleep(limit));
        async move {
            let late = async {
                match late {
                    Some(late) => late.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = work.cancelled() => Halted::Canceled,
                () = late => Halted::Late,
            }
        }
        .boxed()
        .shared()
    }

    fn cancel(&self) {
        self.state.lock().work.cancel();
    }

    /// Keeps a prepared statement's name, whose text has so many bytes. Errors: there are too many.
    pub(super) fn prepare(&self, name: &str, bytes: usize) -> PgWireResult<()> {
        let mut state = self.state.lock();
        let (count, held) = beside(&state.prepared, name);
        if count >= PREPARED_MAX || held.saturating_add(bytes) > PREPARED_BYTES_MAX {
            let message = format!(
                "too many prepared statements statements_max={PREPARED_MAX} \
                 bytes_max={PREPARED_BYTES_MAX}"
            );
            return Err(failure::hinted(code::LIMIT, message, "DEALLOCATE some first"));
        }
        state.prepared.insert(name.to_string(), bytes);
        Ok(())
    }

    /// Keeps the name of a portal that so many bytes are bound to. Errors: there are too many.
    pub(super) fn bind(&self, name: &str, bytes: usize) -> PgWireResult<()> {
        let mut state = self.state.lock();
        let (count, held) = beside(&state.portals, name);
        if count >= PORTALS_MAX || held.saturating_add(bytes) > PORTALS_BYTES_MAX {
            let message = format!(
                "too many portals are open portals_max={PORTALS_MAX} bytes_max={PORTALS_BYTES_MAX}"
            );
            return Err(failure::hinted(code::LIMIT, message, "close some first"));
        }
        state.portals.insert(name.to_string(), bytes);
        Ok(())
    }

    /// Forgets a portal.
    pub(super) fn unbind(&self, name: &str) {
        let mut state = self.state.lock();
        state.portals.remove(name);
        state.waiting.done(name);
    }

    /// Forgets all portals with names, and those whose rows wait. Out: the names.
    pub(super) fn unbind_all(&self) -> BTreeSet<String> {
        let mut state = self.state.lock();
        let mut names = state.waiting.all_done();
        names.extend(std::mem::take(&mut state.portals).into_keys());
        names
    }

    /// Forgets a prepared statement, or all. Out: their names.
    pub(super) fn forget(&self, name: Option<&str>) -> Vec<String> {
        let mut state = self.state.lock();
        match name {
            Some(name) => state.prepared.remove_entry(name).into_iter().map(|(n, _)| n).collect(),
            None => std::mem::take(&mut state.prepared).into_keys().collect(),
        }
    }

    /// Whether there may be one more cursor called `name`. Errors: there is one, or are too many.
    pub(super) fn may_open(&self, name: &str) -> PgWireResult<()> {
        self.state.lock().waiting.may_open(name)
    }

    /// Opens a cursor, or puts it back with the rows that are left.
    pub(super) fn open(&self, name: &str, cursor: Cursor) {
        let now = self.clock.monotonic();
        self.state.lock().waiting.open(name, cursor, now);
    }

    /// The columns of a cursor. Errors: there is none.
    pub(super) fn columns(&self, name: &str) -> PgWireResult<SchemaRef> {
        self.state.lock().waiting.columns(name)
    }

    /// Takes a cursor out, to read from it. Errors: there is none.
    pub(super) fn take(&self, name: &str) -> PgWireResult<Cursor> {
        self.state.lock().waiting.take(name)
    }

    /// The names of the cursors that are open.
    pub(super) fn cursors(&self) -> Vec<String> {
        self.state.lock().waiting.cursors()
    }

    /// Closes one cursor, or all. Errors: there is none of that name.
    pub(super) fn close(&self, name: Option<&str>) -> PgWireResult<()> {
        self.state.lock().waiting.close(name)
    }

    /// Whether rows of the portal `name` may wait to be taken. Errors: those of too many do.
    pub(super) fn may_wait(&self, name: &str) -> PgWireResult<()> {
        self.state.lock().waiting.may_wait(name)
    }

    /// Rows of the portal `name` wait to be taken.
    pub(super) fn waits(&self, name: &str) {
        let now = self.clock.monotonic();
        self.state.lock().waiting.waits(name, now);
    }

    /// No rows of the portal `name` wait any more.
    pub(super) fn done(&self, name: &str) {
        self.state.lock().waiting.done(name);
    }

    /// How long rows may still wait; none when nothing waits.
    pub(super) fn patience(&self, most: Duration) -> Option<Duration> {
        let since = self.state.lock().waiting.since()?;
        Some(most.saturating_sub(self.clock.monotonic().saturating_sub(since)))
    }

    /// Nobody takes the rows that wait: their places are given up, and all portals are gone.
    pub(super) fn give_up(&self) {
        let mut state = self.state.lock();
        state.waiting = Waiting::default();
        state.portals.clear();
    }
}

/// How many there are beside `name`, and the bytes of those.
fn beside(all: &BTreeMap<String, usize>, name: &str) -> (usize, usize) {
    let others = all.iter().filter(|(known, _)| known.as_str() != name);
    others.fold((0, 0), |(count, held), (_, bytes)| (count + 1, held + bytes))
}

/// All connections of a process.
#[derive(Default)]
pub(super) struct Sessions {
    next: AtomicI32,
    known: Mutex<BTreeMap<(i32, Bytes), Arc<Session>>>,
}

impl Sessions {
    /// A new one, which nobody can cancel yet.
    pub(super) fn create(&self, clock: Arc<dyn Clock>) -> Arc<Session> {
        let number = FIRST + self.next.fetch_add(1, Ordering::Relaxed).rem_euclid(i32::MAX - FIRST);
        Arc::new(Session::new(number, clock))
    }

    /// Makes it known by a key that only its client is told.
    pub(super) fn admit(
        self: &Arc<Self>,
        session: &Arc<Session>,
        version: ProtocolVersion,
        ids: &dyn Ids,
    ) -> (SecretKey, Admitted) {
        let secret = secret(version, ids);
        let key = (session.number, secret.to_bytes());
        self.known.lock().insert(key.clone(), session.clone());
        (secret, Admitted { key, all: self.clone() })
    }
}

/// A key nobody guesses: four bytes for old clients, 32 for others.
fn secret(version: ProtocolVersion, ids: &dyn Ids) -> SecretKey {
    let fresh = ids.fresh();
    match version {
        ProtocolVersion::PROTOCOL3_0 => {
            let digits = fresh.get(fresh.len().saturating_sub(8)..).unwrap_or_default();
            let bits = u32::from_str_radix(digits, 16).unwrap_or_default();
            SecretKey::I32(i32::from_be_bytes(bits.to_be_bytes()))
        }
        _ => {
            let mut bytes = fresh.into_bytes();
            bytes.truncate(32);
            SecretKey::Bytes(bytes.into())
        }
    }
}

/// Keeps a session known for as long as its connection lives.
pub(super) struct Admitted {
    key: (i32, Bytes),
    all: Arc<Sessions>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.all.known.lock().remove(&self.key);
    }
}

#[async_trait]
impl CancelHandler for Sessions {
    async fn on_cancel_request(&self, cancel_request: CancelRequest) {
        let key = (cancel_request.pid, cancel_request.secret_key.to_bytes());
        let session = self.known.lock().get(&key).cloned();
        if let Some(session) = session {
            session.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use sluice_core::ManualClock;

    use super::*;

    #[derive(Debug)]
    struct Counted;

    impl Ids for Counted {
        fn fresh(&self) -> String {
            "0123456789abcdef0123456789abcdef".to_string()
        }
    }

    fn session() -> (Arc<ManualClock>, Arc<Session>) {
        let clock = Arc::new(ManualClock::at(1_000));
        (clock.clone(), Sessions::default().create(clock))
    }

    fn cursor() -> Cursor {
        let rows = Box::pin(futures::stream::empty());
        Cursor { schema: Arc::new(Schema::empty()), rest: None, rows }
    }

    #[tokio::test]
    async fn only_who_knows_the_key_cancels() {
        let all = Arc::new(Sessions::default());
        let session = all.create(Arc::new(ManualClock::at(0)));
        let (key, admitted) = all.admit(&session, ProtocolVersion::PROTOCOL3_0, &Counted);
        let halt = session.halt();
        all.on_cancel_request(CancelRequest::new(session.number, SecretKey::I32(7))).await;
        assert_eq!(halt.clone().now_or_never(), None);
        all.on_cancel_request(CancelRequest::new(session.number, key)).await;
        assert_eq!(halt.await, Halted::Canceled);
        drop(admitted);
        assert!(all.known.lock().is_empty());
    }

    #[tokio::test]
    async fn statements_end_at_the_limit_of_their_session() {
        let (_, session) = session();
        assert_eq!(session.halt().now_or_never(), None);
        let set = ("statement_timeout".to_string(), "5".to_string());
        session.begin("ana", None, Settings::from([set]));
        assert_eq!(session.halt().await, Halted::Late);
    }

    #[test]
    fn cursors_are_few_and_do_not_wait_for_ever() {
        let (clock, session) = session();
        assert_eq!(session.patience(Duration::from_secs(1)), None);
        for name in ["a", "b"] {
            session.may_open(name).unwrap();
            session.open(name, cursor());
        }
        assert!(session.may_open("a").is_err() && session.may_open("c").is_err());
        clock.advance_ms(400);
        assert_eq!(session.patience(Duration::from_secs(1)), Some(Duration::from_millis(600)));
        session.close(Some("a")).unwrap();
        assert!(session.close(Some("a")).is_err() && session.take("a").is_err());
        assert!(session.columns("b").is_ok());
        session.give_up();
        assert_eq!(session.patience(Duration::from_secs(1)), None);
        assert!(session.columns("b").is_err());
    }

    #[test]
    fn keys_fit_the_protocol() {
        assert_eq!(secret(ProtocolVersion::PROTOCOL3_0, &Counted).to_bytes().len(), 4);
        assert_eq!(secret(ProtocolVersion::PROTOCOL3_2, &Counted).to_bytes().len(), 32);
    }

    #[test]
    fn prepared_statements_are_counted() {
        let (_, session) = session();
        for at in 0..PREPARED_MAX {
            session.prepare(&at.to_string(), 10).unwrap();
        }
        session.prepare("0", 10).unwrap();
        assert!(session.prepare("one more", 10).is_err());
        assert_eq!(session.forget(Some("0")), ["0"]);
        session.prepare("one more", 10).unwrap();
        assert_eq!(session.forget(None).len(), PREPARED_MAX);
        session.prepare("a", PREPARED_BYTES_MAX).unwrap();
        session.prepare("a", PREPARED_BYTES_MAX).unwrap();
        assert!(session.prepare("b", 1).is_err());
    }

    #[test]
    fn portals_are_counted_with_what_is_bound_to_them() {
        let (_, session) = session();
        for at in 0..PORTALS_MAX {
            session.bind(&at.to_string(), 0).unwrap();
        }
        session.bind("0", 1).unwrap();
        assert!(session.bind("one more", 0).is_err());
        session.unbind("0");
        session.bind("one more", PORTALS_BYTES_MAX).unwrap();
        assert_eq!(session.unbind_all().len(), PORTALS_MAX);
        session.bind("large", PORTALS_BYTES_MAX).unwrap();
        assert!(session.bind("larger", 1).is_err());
        session.give_up();
        session.bind("larger", 1).unwrap();
    }

    #[test]
    fn portals_whose_rows_wait_are_as_few_as_cursors() {
        let (clock, session) = session();
        session.may_open("a").unwrap();
        session.open("a", cursor());
        session.may_wait("p").unwrap();
        session.waits("p");
        // It goes on, and waits again.
        session.may_wait("p").unwrap();
        assert!(session.may_wait("q").is_err() && session.may_open("b").is_err());
        clock.advance_ms(400);
        session.close(None).unwrap();
        assert_eq!(session.patience(Duration::from_secs(1)), Some(Duration::from_millis(600)));
        session.may_wait("q").unwrap();
        session.waits("q");
        assert!(session.may_wait("r").is_err());
        session.done("p");
        session.waits("unnamed");
        assert_eq!(session.unbind_all(), BTreeSet::from(["q".into(), "unnamed".into()]));
        session.may_wait("r").unwrap();
        assert_eq!(session.patience(Duration::from_secs(1)), None);
    }
}
