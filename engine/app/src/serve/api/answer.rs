//! Which form an answer has, and whether the client has it already.
//!
//! In: `Accept` and `If-None-Match`. Out: a format, an entity tag, the headers of an answer. Nothing
//! is encoded here.
//!
//! The tags are weak: the same snapshot gives the same rows, but rows without an order may come in
//! another one, the epoch told may be a later one that changed none of them, and a body may be
//! compressed on its way.

use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::page::hexadecimal;

/// Digits of a tag: as many as tell the versions of one table apart.
const TAG_DIGITS: usize = 24;

/// Ranges of one `Accept` that are looked at: browsers send fewer than ten.
const RANGES_MAX: usize = 50;

/// The forms rows have, the preferred one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
    Arrow,
    Parquet,
}

impl Format {
    const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Arrow, Self::Parquet];

    /// The media type without parameters.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }

    /// The form the client likes best; none when it likes none of them.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let lists: Vec<_> =
            headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        match lists.is_empty() {
            true => Some(Self::Json),
            false => Self::best(&lists.join(",")),
        }
    }

    fn best(accept: &str) -> Option<Self> {
        let ranges: Vec<_> = accept.split(',').take(RANGES_MAX).filter_map(Range::parse).collect();
        let mut best: Option<(f32, Self)> = None;
        for format in Self::ALL {
            let quality = quality(&ranges, format.media_type());
            if quality > best.map_or(0.0, |(before, _)| before) {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format)
    }
}

/// One range of an `Accept` header: `text/*;q=0.8`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let named = |part: &'a str| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
        let quality = match parts.find_map(named) {
            Some(text) => text.parse().ok().filter(|q: &f32| (0.0..=1.0).contains(q))?,
            None => 1.0,
        };
        Some(Self { kind, subtype, quality })
    }

    /// How exactly the range names a media type; none when it does not.
    fn precision(&self, media_type: &str) -> Option<u8> {
        let (kind, subtype) = media_type.split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (k, "*") if k.eq_ignore_ascii_case(kind) => Some(1),
            (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// The quality that the most exact range gives a media type; 0 where none names it.
fn quality(ranges: &[Range<'_>], media_type: &str) -> f32 {
    let mut found: Option<(u8, f32)> = None;
    for range in ranges {
        let Some(precision) = range.precision(media_type) else { continue };
        if found.is_none_or(|(before, _)| precision > before) {
            found = Some((precision, range.quality));
        }
    }
    found.map_or(0.0, |(_, quality)| quality)
}

/// What tells two states of an answer apart: the version of what was read, and the form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    pub(super) fn new(version: &str, format: Format) -> Self {
        let mut hash = Sha256::new();
        hash.update(version);
        hash.update([0]);
        hash.update(format.media_type());
        Self(format!("W/\"{}\"", hexadecimal(&hash.finalize(), TAG_DIGITS)))
    }

    /// Whether the client has this state.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
        // Weak comparison: what is in the quotes counts.
        let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_string();
        let own = bare(&self.0);
        tags.any(|tag| tag == "*" || bare(tag) == own)
    }
}

/// The headers of live data: ask again each time, and do not mix up forms or callers.
fn live(tag: Option<&Tag>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (VARY, HeaderValue::from_static("accept, authorization")),
    ];
    let tag = tag.and_then(|tag| HeaderValue::from_str(&tag.0).ok());
    headers.extend(tag.map(|tag| (ETAG, tag)));
    headers
}

/// The client has it already.
pub(super) fn not_modified(tag: &Tag) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    response.headers_mut().extend(live(Some(tag)));
    response
}

/// Rows in a form, with the link to the next ones.
pub(super) fn rows(format: Format, tag: Option<&Tag>, next: Option<&str>, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.extend(live(tag));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let link = next.map(|next| format!("<{next}>; rel=\"next\""));
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        headers.insert(LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_form_is_the_one_the_client_likes_best() {
        let cases: [(&[&'static str], Option<Format>); 15] = [
            (&[], Some(Format::Json)),
            (&["*/*"], Some(Format::Json)),
            (&["text/csv"], Some(Format::Csv)),
            (&["TEXT/CSV"], Some(Format::Csv)),
            (&["text/*"], Some(Format::Csv)),
            (&["application/*"], Some(Format::Json)),
            (&["application/vnd.apache.arrow.stream"], Some(Format::Arrow)),
            (&["application/vnd.apache.parquet, text/csv;q=0.9"], Some(Format::Parquet)),
            (&["text/csv;q=0.1", "application/json;q=0.2"], Some(Format::Json)),
            (&["application/json;q=0, */*;q=0.1"], Some(Format::Csv)),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(Format::Json)),
            (&["text/html"], None),
            (&["*/*;q=0"], None),
            (&["nonsense"], None),
            (&["text/csv;q=lots, application/json"], Some(Format::Json)),
        ];
        for (values, wanted) in cases {
            assert_eq!(Format::wanted(&headers(ACCEPT, values)), wanted, "{values:?}");
        }
    }

    #[test]
    fn a_tag_is_known_when_the_client_sends_it() {
        let tag = Tag::new("job@7", Format::Json);
        assert_ne!(tag, Tag::new("job@8", Format::Json));
        assert_ne!(tag, Tag::new("job@7", Format::Csv));
        let strong = tag.0.trim_start_matches("W/").to_string();
        let cases = [
            (tag.0.clone(), true),
            (strong, true),
            (format!("\"a\", {}", tag.0), true),
            ("*".to_string(), true),
            ("\"a\"".to_string(), false),
            (String::new(), false),
        ];
        for (value, known) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(&value).expect("a header"));
            assert_eq!(tag.is_known(&headers), known, "{value}");
        }
        assert!(!tag.is_known(&HeaderMap::new()));
    }
}
