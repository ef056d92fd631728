//! What a request says, taken apart: query parameters, names in paths, bodies, the wanted form.
//!
//! In: the parts of a request. Out: values, or a refusal that says which part is wrong. Parameters
//! that nobody knows are refused too: a slip of the pen must not look like an answer.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sluice_core::{Error, Result};
use utoipa::IntoParams;

use super::answer::Format;
use crate::serve::shell::ApiError;

/// Entries of a list when nothing is said.
const ENTRIES_DEFAULT: usize = 100;

/// Entries of a list at most.
const ENTRIES_MAX: usize = 1_000;

/// Query parameters.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, _state: &S) -> Result<Self, ApiError> {
        let read = Query::<T>::try_from_uri(&head.uri);
        let Query(asked) = read.map_err(|e| ApiError::bad_request(lower(&e.body_text())))?;
        Ok(Self(asked))
    }
}

/// The name in a path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(head, state).await;
        let Path(name) = path.map_err(|e| ApiError::bad_request(lower(&e.body_text())))?;
        Ok(Self(name))
    }
}

/// A whole body. How large it may be is the shell's to say.
pub(super) struct Whole(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|e| match e.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                ApiError::new(status, "too_large", "the body is larger than it may be")
            }
            _ => ApiError::bad_request("the body broke off"),
        })?;
        Ok(Self(body))
    }
}

/// The parameters of a request that takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// How many entries of a list are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Entries {
    /// Entries at most, the newest first; default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Entries {
    pub(super) fn limit(&self) -> Result<usize> {
        limit(self.limit)
    }
}

/// A wanted number of entries within its bounds.
pub(super) fn limit(wanted: Option<usize>) -> Result<usize> {
    match wanted.unwrap_or(ENTRIES_DEFAULT) {
        n @ 1..=ENTRIES_MAX => Ok(n),
        _ => {
            let message = format!("not a whole number from 1 to {ENTRIES_MAX} parameter=limit");
            Err(Error::config(message))
        }
    }
}

/// What a request for rows says besides the relation: its parameters, and how it wants the answer.
pub(super) struct Reading {
    /// The path, for links to other pages.
    pub(super) path: String,
    /// Parameters in their order.
    pub(super) pairs: Vec<(String, String)>,
    /// The form of the answer.
    pub(super) format: Format,
    /// All headers.
    pub(super) headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Reading {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, ApiError> {
        let Asked(pairs) = Asked::from_request_parts(head, state).await?;
        let format = wanted(&head.headers)?;
        let (path, headers) = (head.uri.path().to_string(), head.headers.clone());
        Ok(Self { path, pairs, format, headers })
    }
}

/// The form the client wants. Errors: it wants none of those there are.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Format, ApiError> {
    Format::wanted(headers).ok_or_else(|| {
        let message = "rows are not written in any form that is accepted";
        ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message).hint(
            "accept application/json, text/csv, application/vnd.apache.arrow.stream or \
             application/vnd.apache.parquet",
        )
    })
}

/// A sentence of a library in the form of ours.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_bounds() {
        let cases = [(None, Some(100)), (Some(1), Some(1)), (Some(1_000), Some(1_000))];
        let wrong = [(Some(0), None), (Some(1_001), None), (Some(usize::MAX), None)];
        for (wanted, limited) in cases.into_iter().chain(wrong) {
            assert_eq!(limit(wanted).ok(), limited, "{wanted:?}");
        }
    }

    #[test]
    fn parameters_are_typed_and_unknown_ones_refused() {
        let cases = [
            ("/x", true),
            ("/x?limit=5", true),
            ("/x?limit=", false),
            ("/x?limit=-5", false),
            ("/x?limit=5&limit=6", false),
            ("/x?limt=5", false),
        ];
        for (uri, fine) in cases {
            let uri = uri.parse().expect(uri);
            assert_eq!(Query::<Entries>::try_from_uri(&uri).is_ok(), fine, "{uri}");
        }
    }
}
