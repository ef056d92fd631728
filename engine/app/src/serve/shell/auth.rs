//! Who asks, and whether they may.
//!
//! In: the users of a project with the hashes of their tokens; the `Authorization` of a request. Out: a
//! [`Caller`], or a refusal. Tokens are never kept, only their SHA-256, and all of them are compared,
//! each in constant time. Without users the process is open to its own machine only, see `listen`.
//! Which routes need somebody is decided in `rules`, how often somebody may try in `limit`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures::future::{Either, Ready, ready};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use sluice_core::{Error, Result, Secrets};
use sluice_runtime::job::{Role, TokenRef, UserSpec};
use subtle::ConstantTimeEq;
use tower::{Layer, Service};

use super::error::ApiError;

/// The name of everybody where there are no users.
const NOBODY: &str = "local";

/// Tokens shorter than this are guessed too easily to be let in from other machines.
const TOKEN_LEAST: usize = 16;

/// Base64 of senders who pad and of those who do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Somebody who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
}

/// Who was let in and by which token, for those who stay: whether they still may is asked again.
#[derive(Clone)]
pub(crate) struct Pass {
    caller: Caller,
    /// Of the token; none where nobody needs one.
    digest: Option<[u8; 32]>,
}

/// Who may do what, replaced as a whole when the project changes.
#[derive(Debug)]
pub(crate) struct Access {
    known: RwLock<Arc<Vec<Known>>>,
}

struct Known {
    caller: Caller,
    digest: [u8; 32],
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.caller.fmt(f)
    }
}

impl Access {
    /// The users, whose tokens may stand among the secrets. Errors: `Config` for a token that is not
    /// there, is no hash, or is somebody else's too.
    pub(crate) fn new(users: &[UserSpec], secrets: &Secrets) -> Result<Self> {
        Ok(Self { known: RwLock::new(Arc::new(known(users, secrets)?)) })
    }

    /// Takes other users from now on. An error leaves those that are.
    pub(crate) fn replace(&self, users: &[UserSpec], secrets: &Secrets) -> Result<()> {
        let known = Arc::new(known(users, secrets)?);
        *self.known.write() = known;
        Ok(())
    }

    /// Whether there are no users: then everybody on this machine may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.known.read().is_empty()
    }

    /// Whose token it is; without users, everybody's.
    pub(crate) fn check(&self, token: &str) -> Option<Caller> {
        let known = self.known.read().clone();
        if known.is_empty() {
            return Some(everybody());
        }
        let digest = digest(token);
        // All are looked at, so that the time tells nothing about who it was.
        let mut found = None;
        for one in known.iter() {
            if bool::from(one.digest.ct_eq(&digest)) {
                found = Some(&one.caller);
            }
        }
        found.cloned()
    }

    /// The pass of `caller`, who was let in with these headers.
    pub(crate) fn pass(&self, caller: Caller, headers: &HeaderMap) -> Pass {
        let token = token(headers).ok().flatten();
        Pass { caller, digest: token.map(|token| digest(&token)) }
    }

    /// Whether the same token is still the same caller's, who may do the same.
    pub(crate) fn is_valid(&self, pass: &Pass) -> bool {
        let known = self.known.read().clone();
        if known.is_empty() {
            return pass.caller == everybody();
        }
        let Some(digest) = &pass.digest else { return false };
        known.iter().any(|one| one.caller == pass.caller && bool::from(one.digest.ct_eq(digest)))
    }

    /// Who sends these headers: none if they do not say. Errors: what they say is not true.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
        if self.is_open() {
            return Ok(Some(everybody()));
        }
        let Some(token) = token(headers)? else { return Ok(None) };
        match self.check(&token) {
            Some(caller) => Ok(Some(caller)),
            None => Err(ApiError::unauthenticated("nobody has this token")),
        }
    }
}

fn everybody() -> Caller {
    Caller { name: NOBODY.to_string(), role: Role::Admin }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// SHA-256 of a token as a project names it.
pub(crate) fn digest_text(token: &str) -> String {
    digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn known(users: &[UserSpec], secrets: &Secrets) -> Result<Vec<Known>> {
    let mut all: Vec<Known> = Vec::with_capacity(users.len());
    let mut empty: Vec<String> = Vec::new();
    for user in users {
        let digest = match &user.token {
            TokenRef::Sha256(text) => digest_of(text).ok_or_else(|| {
                Error::config(format!("the hash of a token is no SHA-256 user={}", user.name))
                    .hint("it has 64 hexadecimal digits; `sluice token` makes a token and its hash")
            })?,
            TokenRef::Secret(name) => match secret_token(user, name, secrets) {
                Some(token) => digest(token),
                None => {
                    empty.push(format!("user={} secret={name}", user.name));
                    continue;
                }
            },
        };
        if let Some(other) = all.iter().find(|other| bool::from(other.digest.ct_eq(&digest))) {
            let names = format!("user={} other={}", user.name, other.caller.name);
            return Err(Error::config(format!("two users have one token {names}"))
                .hint("make one for each with `sluice token`"));
        }
        all.push(Known { caller: Caller { name: user.name.clone(), role: user.role }, digest });
    }
    if empty.is_empty() {
        return Ok(all);
    }
    let names = empty.join(", ");
    let what = if empty.len() == 1 { "the token of a user has" } else { "tokens of users have" };
    Err(Error::config(format!("{what} no value {names}"))
        .hint("give each secret a value; `sluice token` makes one"))
}

/// The token that is a secret's value; none where it has none.
fn secret_token<'a>(user: &UserSpec, name: &str, secrets: &'a Secrets) -> Option<&'a str> {
    let token = secrets.get(name).map(str::trim).filter(|token| !token.is_empty())?;
    if token.len() < TOKEN_LEAST {
        tracing::warn!(user = %user.name, "the token of a user is short: `sluice token` makes one");
    }
    Some(token)
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The token in these headers. Errors: there is something else.
fn token(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let odd = || ApiError::unauthenticated("the Authorization header cannot be read");
    if all.next().is_some() {
        return Err(odd());
    }
    let (scheme, rest) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(odd)?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.trim().to_string(),
        // Whatever name a browser sends, the token says who it is.
        "basic" => {
            let pair =
                BASE64.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = pair.ok_or_else(odd)?;
            pair.split_once(':').ok_or_else(odd)?.1.to_string()
        }
        _ => return Err(odd()),
    };
    if token.is_empty() { Err(odd()) } else { Ok(Some(token)) }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unknown)
    }
}

fn unknown() -> ApiError {
    ApiError::unauthenticated("this needs a token")
}

/// Refuses callers with less than `role`. Errors: nobody asks, or somebody who may not.
pub(super) fn permitted(caller: Option<&Caller>, role: Role) -> Result<(), ApiError> {
    match caller {
        None => Err(unknown()),
        Some(caller) if caller.role >= role => Ok(()),
        Some(caller) => {
            let (has, needs) = (caller.role.name(), role.name());
            let message = format!("the token's role may not do this role={has} needs={needs}");
            Err(ApiError::forbidden(message))
        }
    }
}

/// A layer whose routes only callers with `role`, or more, reach.
pub(crate) fn require(role: Role) -> Require {
    Require(role)
}

/// See [`require`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Require(Role);

impl<S> Layer<S> for Require {
    type Service = Required<S>;

    fn layer(&self, inner: S) -> Required<S> {
        Required { inner, role: self.0 }
    }
}

/// A service that only callers with a role reach.
#[derive(Debug, Clone)]
pub(crate) struct Required<S> {
    inner: S,
    role: Role,
}

impl<S> Service<Request> for Required<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match permitted(request.extensions().get::<Caller>(), self.role) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refused) => Either::Right(ready(Ok(refused.into_response()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::http::HeaderValue;

    use super::*;

    fn user(name: &str, role: Role, token: TokenRef) -> UserSpec {
        UserSpec { name: name.to_string(), role, token }
    }

    fn access() -> Access {
        let secrets = BTreeMap::from([("ops".to_string(), "ops-token-0123456789\n".to_string())]);
        let users = [
            user("ana", Role::Read, TokenRef::Sha256(digest_text("reader-token-0123"))),
            user("ops", Role::Operate, TokenRef::Secret("ops".to_string())),
        ];
        Access::new(&users, &Secrets::new(secrets)).unwrap()
    }

    fn asked(value: &[u8]) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        let caller = access().caller(&headers);
        caller.map(|c| c.map(|c| c.name)).map_err(|e| e.status().as_u16())
    }

    type Who = Result<Option<&'static str>, u16>;

    #[test]
    fn tokens_say_who_it_is() {
        let cases: [(&[u8], Who); 11] = [
            (b"Bearer reader-token-0123", Ok(Some("ana"))),
            (b"bearer  ops-token-0123456789 ", Ok(Some("ops"))),
            // whoever:reader-token-0123
            (b"Basic d2hvZXZlcjpyZWFkZXItdG9rZW4tMDEyMw==", Ok(Some("ana"))),
            (b"Bearer reader-token-0124", Err(401)),
            (b"Bearer ", Err(401)),
            (b"Bearer", Err(401)),
            (b"Basic !!!!", Err(401)),
            (b"Basic bm9jb2xvbg==", Err(401)),
            (b"Digest a=b", Err(401)),
            (b"Bearer \xff\xfe", Err(401)),
            (b"reader-token-0123", Err(401)),
        ];
        for (value, expected) in cases {
            let expected = expected.map(|name| name.map(str::to_string));
            assert_eq!(asked(value), expected, "{}", String::from_utf8_lossy(value));
        }
        assert_eq!(access().caller(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static("Bearer reader-token-0123");
        headers.append(header::AUTHORIZATION, value.clone());
        headers.append(header::AUTHORIZATION, value);
        assert_eq!(access().caller(&headers).unwrap_err().status().as_u16(), 401);
    }

    #[test]
    fn users_that_cannot_be_right_are_refused() {
        let none = Secrets::default();
        let hash = || TokenRef::Sha256(digest_text("a token of somebody"));
        let cases = [
            vec![user("a", Role::Read, TokenRef::Sha256("abc".into()))],
            vec![user("a", Role::Read, TokenRef::Sha256("é".repeat(32)))],
            vec![user("a", Role::Read, TokenRef::Secret("not-there".into()))],
            vec![user("a", Role::Read, hash()), user("b", Role::Admin, hash())],
        ];
        for users in cases {
            let error = Access::new(&users, &none).unwrap_err();
            assert!(error.hint_text().is_some(), "{error:?}");
        }
        let missing =
            |name: &str| user(name, Role::Read, TokenRef::Secret(format!("{name}-token")));
        let error = Access::new(&[missing("a"), missing("b")], &none).unwrap_err();
        let told = "tokens of users have no value user=a secret=a-token, user=b secret=b-token";
        assert_eq!(error.message(), told);
        let access = access();
        assert!(access.replace(&[user("a", Role::Read, hash())], &none).is_ok());
        assert!(access.check("reader-token-0123").is_none());
        assert!(!format!("{access:?}").contains(&digest_text("a token of somebody")[..8]));
    }

    #[test]
    fn a_pass_ends_with_its_token_or_role() {
        let hash = |token| TokenRef::Sha256(digest_text(token));
        let ana = |role, token| [user("ana", role, hash(token))];
        let (old, new) = ("reader-token-0123", "reader-token-4567");
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {old}")).unwrap();
        headers.insert(header::AUTHORIZATION, value);
        let access = access();
        let pass = access.pass(access.check(old).unwrap(), &headers);
        assert!(access.is_valid(&pass));
        let (none, nobody): (_, [UserSpec; 0]) = (Secrets::default(), []);
        for (users, valid) in [
            (&ana(Role::Read, old)[..], true),
            (&ana(Role::Read, new)[..], false),
            (&ana(Role::Operate, old)[..], false),
            (&[user("bob", Role::Read, hash(old))][..], false),
            (&nobody[..], false),
        ] {
            access.replace(users, &none).unwrap();
            assert_eq!(access.is_valid(&pass), valid, "{users:?}");
        }
        let open = access.pass(everybody(), &HeaderMap::new());
        assert!(access.is_valid(&open));
        access.replace(&ana(Role::Admin, old), &none).unwrap();
        assert!(!access.is_valid(&open));
    }

    #[test]
    fn without_users_everybody_may_do_everything() {
        let open = Access::new(&[], &Secrets::default()).unwrap();
        assert!(open.is_open() && !access().is_open());
        let caller = open.caller(&HeaderMap::new()).unwrap().unwrap();
        assert_eq!((caller.name.as_str(), caller.role), (NOBODY, Role::Admin));
    }

    #[test]
    fn roles_include_those_below() {
        let caller = |role| Caller { name: "a".into(), role };
        let status = |role, needs| permitted(Some(&caller(role)), needs).map_err(|e| e.status());
        assert!(status(Role::Admin, Role::Read).is_ok());
        assert!(status(Role::Operate, Role::Operate).is_ok());
        assert_eq!(status(Role::Read, Role::Operate).unwrap_err().as_u16(), 403);
        assert_eq!(permitted(None, Role::Read).unwrap_err().status().as_u16(), 401);
    }
}
