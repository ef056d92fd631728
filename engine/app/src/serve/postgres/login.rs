//! Who connects, and whether they may.
//!
//! In: the first messages of a connection, the users of the project. Out: a session with a name, or
//! a refusal. The password is the user's token, in clear text: of tokens only hashes are kept, and
//! SCRAM would need the token or a verifier of its own. So it is asked for only under TLS or from
//! this machine, and not at all where there are no users and nobody else can connect.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion_postgres::pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
};
use datafusion_postgres::pgwire::api::{ClientInfo, METADATA_USER, PgWireConnectionState};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::{Authentication, Startup};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt as _};
use sluice_core::metric::{POSTGRES_REFUSED, Recorder};
use sluice_core::{Clock, Ids};

use super::failure::{self, code};
use super::session::{Admitted, Session, Sessions};
use super::settings::{self, Settings};
use crate::serve::catalog::POSTGRES_VERSION;
use crate::serve::shell::{Access, Caller, Pass};

/// How long a wrong password waits for its answer: guessing takes for ever, typing again does not.
const WRONG: Duration = Duration::from_millis(500);

/// Characters of a name that are told or logged.
const NAME_MAX: usize = 64;

/// Lets clients in.
pub(super) struct Login {
    pub(super) access: Arc<Access>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) metrics: Arc<dyn Recorder>,
}

/// A connection that is refused as soon as it can be told so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    /// The code.
    pub code: &'static str,
    /// Why.
    pub why: &'static str,
}

#[async_trait]
impl StartupHandler for Login {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => self.start(client, &startup).await,
            PgWireFrontendMessage::PasswordMessageFamily(password) => {
                let password = password.into_password()?.password;
                self.password(client, password).await
            }
            _ => Err(failure::fatal(code::PROTOCOL, "this is no way to log in", None)),
        }
    }
}

impl Login {
    async fn start<C>(&self, client: &mut C, startup: &Startup) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        protocol_negotiation(client, startup).await?;
        if let Some(refused) = client.session_extensions().get::<Refused>() {
            return Err(failure::fatal(refused.code, refused.why, None));
        }
        let parameters: Settings =
            startup.parameters.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let user = parameters.get(METADATA_USER).cloned().unwrap_or_default();
        let session = Session::of(client)?;
        session.begin(&user, None, settings::begin(&parameters));
        let near = client.socket_addr().ip().to_canonical().is_loopback();
        match way_in(self.access.is_open(), near, client.is_secure())? {
            Way::Open => self.finish(client, &session).await,
            Way::Password => {
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                let ask = PgWireBackendMessage::Authentication(Authentication::CleartextPassword);
                client.send(ask).await?;
                Ok(())
            }
        }
    }

    async fn password<C>(&self, client: &mut C, token: String) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = Session::of(client)?;
        let user = session.user();
        // Users may have been taken away since the password was asked for.
        let known = match self.access.is_open() {
            true => None,
            false => self.access.check(&token).filter(|caller| caller.name == user),
        };
        let Some(caller) = known else {
            let name: String = user.chars().take(NAME_MAX).collect();
            let from = client.socket_addr();
            tracing::warn!(user = ?name, %from, "a PostgreSQL login is refused");
            self.metrics.count(&POSTGRES_REFUSED, &["unauthenticated"], 1);
            self.clock.sleep(WRONG).await;
            return Err(PgWireError::InvalidPassword(name));
        };
        let pass = pass(&self.access, caller, &token);
        let settings = session.settings();
        session.begin(&user, Some(pass), settings);
        self.finish(client, &session).await
    }

    async fn finish<C>(&self, client: &mut C, session: &Arc<Session>) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let version = client.protocol_version();
        let (secret, admitted) = self.sessions.admit(session, version, self.ids.as_ref());
        client.set_pid_and_secret_key(session.number, secret);
        client.session_extensions().insert::<Admitted>(admitted);
        finish_authentication(client, &Parameters(session.settings())).await
    }

    /// Whether a session that was let in still may ask. Errors: its token was taken away.
    pub(super) fn still(&self, session: &Session) -> PgWireResult<()> {
        let may = match session.pass() {
            Some(pass) => self.access.is_valid(&pass),
            None => self.access.is_open(),
        };
        let hint = Some("connect again with a token of the project");
        if may {
            Ok(())
        } else {
            Err(failure::fatal(code::LOGIN, "the token is no longer known", hint))
        }
    }
}

/// The pass of `caller`, who showed this token. It is said as a browser says a password: so it may
/// be any text, and only its hash is kept.
fn pass(access: &Access, caller: Caller, token: &str) -> Pass {
    let said = format!("Basic {}", STANDARD.encode(format!(":{token}")));
    let said = HeaderValue::from_str(&said).ok();
    let headers: HeaderMap = said.map(|said| (header::AUTHORIZATION, said)).into_iter().collect();
    access.pass(caller, &headers)
}

/// How a client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Password,
}

/// Decides how a client is let in: `open` says that there are no users, `near` that it is on this
/// machine, `secure` that nobody listens. Errors: not at all.
fn way_in(open: bool, near: bool, secure: bool) -> PgWireResult<Way> {
    match (open, near, secure) {
        (true, true, _) => Ok(Way::Open),
        (true, false, _) => {
            let hint = Some("add users to the project, or connect from its own machine");
            Err(failure::fatal(code::LOGIN, "nobody is known here", hint))
        }
        (false, true, _) | (false, _, true) => Ok(Way::Password),
        (false, false, false) => {
            let hint = Some("connect with sslmode=require; serve.tls names a certificate");
            Err(failure::fatal(code::LOGIN, "a password is only taken under TLS", hint))
        }
    }
}

/// What a client is told when it is in.
struct Parameters(Settings);

impl ServerParameterProvider for Parameters {
    fn server_parameters<C>(&self, client: &C) -> Option<std::collections::HashMap<String, String>>
    where
        C: ClientInfo,
    {
        let version = format!("{POSTGRES_VERSION} (Sluice {})", env!("CARGO_PKG_VERSION"));
        let mut told: Settings = settings::told(&self.0, &version)
            .into_iter()
            .map(|report| (report.name, report.value))
            .collect();
        let user = Session::of(client).map(|session| session.user()).unwrap_or_default();
        told.insert("session_authorization".to_string(), user);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::Secrets;
    use sluice_runtime::job::{Role, TokenRef, UserSpec};

    use super::*;
    use crate::serve::shell::digest_text;

    #[test]
    fn a_session_lasts_as_long_as_the_token_it_began_with() {
        let known = |token: &str| UserSpec {
            name: "ana".to_string(),
            role: Role::Read,
            token: TokenRef::Sha256(digest_text(token)),
        };
        let none = Secrets::default();
        for token in ["reader-token-0123", "clé: très \u{1F511} longue", ":::"] {
            let access = Access::new(&[known(token)], &none).unwrap();
            let pass = pass(&access, access.check(token).unwrap(), token);
            assert!(access.is_valid(&pass), "{token}");
            access.replace(&[known("another-token-0123")], &none).unwrap();
            assert!(!access.is_valid(&pass), "{token}");
        }
    }

    #[test]
    fn passwords_are_asked_for_only_where_nobody_listens() {
        let cases = [
            ((true, true, false), Some(Way::Open)),
            ((true, true, true), Some(Way::Open)),
            ((true, false, true), None),
            ((false, true, false), Some(Way::Password)),
            ((false, false, true), Some(Way::Password)),
            ((false, false, false), None),
        ];
        for ((open, near, secure), expected) in cases {
            let way = way_in(open, near, secure).ok();
            assert_eq!(way, expected, "open={open} near={near} secure={secure}");
        }
    }
}
