//! What the headers of a signed delivery say.
//!
//! In: headers, and where the scheme puts what. Out: signatures as bytes, the time and the id as
//! text. Nothing is believed here: whoever reads it compares.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Refused;

/// Signatures of one delivery that are looked at: senders that replace a secret send two.
const SIGNATURES_MAX: usize = 16;

/// How bytes are written in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::webhook) enum Encoding {
    Hex,
    Base64,
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        let bytes = match self {
            Encoding::Hex => hex::decode(text).ok()?,
            Encoding::Base64 => STANDARD.decode(text).ok()?,
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// Where a signed time is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::webhook) struct TimeHeader {
    pub header: String,
    /// Milliseconds of its unit.
    pub unit_ms: i64,
}

/// Where a scheme puts what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::webhook) enum Form {
    /// One signature behind a prefix, in a header of its own.
    Plain { header: String, prefix: String, encoding: Encoding, time: Option<TimeHeader> },
    /// `t=1492774577,v1=<hex>,v1=<hex>`.
    Pairs { header: String },
    /// Id, time and `v1,<base64> v1,<base64>`, in headers that begin with one of these.
    Standard { prefixes: &'static [&'static str] },
}

/// What a delivery says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claims<'h> {
    pub signatures: Vec<Vec<u8>>,
    pub timestamp: Option<&'h str>,
    /// The same in milliseconds since 1970.
    pub at_ms: Option<i64>,
    pub id: Option<&'h str>,
}

impl Form {
    /// What `headers` say. Errors: `Missing` where a header is not there, `Forged` where it is none
    /// of the scheme.
    pub(super) fn read<'h>(&self, headers: &'h HeaderMap) -> Result<Claims<'h>, Refused> {
        match self {
            Form::Plain { header, prefix, encoding, time } => {
                let text = text_of(headers, header)?;
                let encoded = text.strip_prefix(prefix.as_str()).ok_or(Refused::Forged)?;
                let signature = encoding.decode(encoded.trim()).ok_or(Refused::Forged)?;
                let mut claims = Claims { signatures: vec![signature], ..Claims::default() };
                if let Some(TimeHeader { header, unit_ms }) = time {
                    claims.at(text_of(headers, header)?.trim(), *unit_ms)?;
                }
                Ok(claims)
            }
            Form::Pairs { header } => pairs(text_of(headers, header)?),
            Form::Standard { prefixes } => {
                // Doubles are known by the first id that is there: it has to be the one that is
                // signed, or who overheard a delivery could send it again under another id.
                let has_id = |prefix: &&&str| headers.contains_key(format!("{prefix}id").as_str());
                let prefix = prefixes.iter().find(has_id).ok_or(Refused::Missing)?;
                standard(headers, prefix)
            }
        }
    }
}

impl<'h> Claims<'h> {
    fn at(&mut self, text: &'h str, unit_ms: i64) -> Result<(), Refused> {
        // A sign or a blank is no part of a time that anybody signs.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let count: i64 = text.parse().map_err(|_| Refused::Forged)?;
        let at = count.checked_mul(unit_ms).filter(|_| digits);
        self.at_ms = Some(at.ok_or(Refused::Forged)?);
        self.timestamp = Some(text);
        Ok(())
    }
}

fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refused> {
    let value = headers.get(name).ok_or(Refused::Missing)?;
    value.to_str().map_err(|_| Refused::Forged)
}

fn pairs(text: &str) -> Result<Claims<'_>, Refused> {
    let mut claims = Claims::default();
    for pair in text.split(',') {
        let Some((key, value)) = pair.trim().split_once('=') else { continue };
        match key {
            "t" if claims.timestamp.is_none() => claims.at(value, 1000)?,
            "v1" if claims.signatures.len() < SIGNATURES_MAX => {
                claims.signatures.extend(Encoding::Hex.decode(value));
            }
            _ => {}
        }
    }
    match claims.timestamp.is_some() && !claims.signatures.is_empty() {
        true => Ok(claims),
        false => Err(Refused::Forged),
    }
}

fn standard<'h>(headers: &'h HeaderMap, prefix: &str) -> Result<Claims<'h>, Refused> {
    let header = |name: &str| text_of(headers, &format!("{prefix}{name}"));
    let (id, time, signatures) = (header("id")?, header("timestamp")?, header("signature")?);
    let mut claims = Claims { id: Some(id), ..Claims::default() };
    claims.at(time, 1000)?;
    let versioned = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    let decoded = versioned.take(SIGNATURES_MAX).filter_map(|one| Encoding::Base64.decode(one));
    claims.signatures = decoded.collect();
    match claims.signatures.is_empty() {
        true => Err(Refused::Forged),
        false => Ok(claims),
    }
}
