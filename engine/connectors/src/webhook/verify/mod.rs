//! Whether a delivery is from who it says it is from.
//!
//! In: the headers and the raw body of a request, and the time. Out: yes, or why not. Pure: it
//! parses no body and asks nobody. Secrets are compared in constant time, and with every secret
//! that is given, so that one can be replaced by another without a gap. `config` is what job files
//! say, `signature` what headers say.

pub(super) mod config;
mod signature;
#[cfg(test)]
mod tests;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use signature::{Claims, Form};

/// Why a delivery is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// What it should prove itself by is not there.
    Missing,
    /// It was made by somebody else, or changed on its way.
    Forged,
    /// It is genuine, and its time is too far from ours: it may be sent by whoever overheard it.
    Stale,
}

/// How deliveries of one route prove themselves.
#[derive(Clone)]
pub(super) enum Verifier {
    /// Not at all.
    Open,
    /// By a signature over the body.
    Signed(Scheme),
    /// By `user:password`, of which these are the hashes.
    Basic(Vec<[u8; 32]>),
    /// By a token, of which these are the hashes, in this header; none is `Authorization`.
    Token(Option<String>, Vec<[u8; 32]>),
}

/// The hash of a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

/// What is signed, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The time, as its header says it.
    Timestamp,
    /// The delivery's id, as its header says it.
    Id,
    Body,
}

/// A way to sign.
#[derive(Clone)]
pub(super) struct Scheme {
    keys: Vec<Vec<u8>>,
    algorithm: Algorithm,
    form: Form,
    pieces: Vec<Piece>,
    /// How far the signed time may be from ours, where one is signed.
    tolerance_ms: i64,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Verifier {
    /// What it is, for people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Verifier::Open => "open",
            Verifier::Signed(_) => "signed",
            Verifier::Basic(_) => "basic",
            Verifier::Token(..) => "token",
        }
    }

    /// Whether a delivery proves itself. `body` is as it came, before anything was read of it.
    pub(super) fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: i64,
    ) -> Result<(), Refused> {
        match self {
            Verifier::Open => Ok(()),
            Verifier::Signed(scheme) => scheme.verify(headers, body, now_ms),
            Verifier::Basic(known) => {
                let value = headers.get(AUTHORIZATION).ok_or(Refused::Missing)?;
                let encoded = after_scheme(value.as_bytes(), "basic").ok_or(Refused::Forged)?;
                let given = STANDARD.decode(encoded).map_err(|_| Refused::Forged)?;
                is_known(&given, known)
            }
            Verifier::Token(None, known) => {
                let value = headers.get(AUTHORIZATION).ok_or(Refused::Missing)?;
                let given = after_scheme(value.as_bytes(), "bearer").ok_or(Refused::Forged)?;
                is_known(given, known)
            }
            Verifier::Token(Some(header), known) => {
                let value = headers.get(header).ok_or(Refused::Missing)?;
                is_known(value.as_bytes(), known)
            }
        }
    }
}

impl Scheme {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now_ms: i64) -> Result<(), Refused> {
        let claims = self.form.read(headers)?;
        let pieces = self.signed(&claims, body);
        let mut genuine = Choice::from(0);
        for key in &self.keys {
            let Some(tag) = self.algorithm.tag(key, &pieces) else { continue };
            for signature in &claims.signatures {
                genuine |= tag.as_slice().ct_eq(signature.as_slice());
            }
        }
        if !bool::from(genuine) {
            return Err(Refused::Forged);
        }
        // Only who can sign is told that it is late.
        match claims.at_ms {
            Some(at) if at.abs_diff(now_ms) > self.tolerance_ms.unsigned_abs() => {
                Err(Refused::Stale)
            }
            _ => Ok(()),
        }
    }

    fn signed<'a>(&'a self, claims: &Claims<'a>, body: &'a [u8]) -> Vec<&'a [u8]> {
        let piece = |piece: &'a Piece| match piece {
            Piece::Text(text) => text.as_bytes(),
            Piece::Timestamp => claims.timestamp.unwrap_or_default().as_bytes(),
            Piece::Id => claims.id.unwrap_or_default().as_bytes(),
            Piece::Body => body,
        };
        self.pieces.iter().map(piece).collect()
    }
}

impl Algorithm {
    fn tag(self, key: &[u8], pieces: &[&[u8]]) -> Option<Vec<u8>> {
        match self {
            Algorithm::Sha1 => tag::<Hmac<Sha1>>(key, pieces),
            Algorithm::Sha256 => tag::<Hmac<Sha256>>(key, pieces),
            Algorithm::Sha512 => tag::<Hmac<Sha512>>(key, pieces),
        }
    }
}

fn tag<M: Mac + KeyInit>(key: &[u8], pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut mac = <M as Mac>::new_from_slice(key).ok()?;
    for piece in pieces {
        mac.update(piece);
    }
    Some(mac.finalize().into_bytes().to_vec())
}

/// What follows the name of a scheme in `Authorization`, which is written in any case.
fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let named = name.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first() == Some(&b' ');
    named.then(|| rest.trim_ascii())
}

/// Hashes have one length, so that comparing them tells nothing of that of secrets.
fn is_known(given: &[u8], known: &[[u8; 32]]) -> Result<(), Refused> {
    let given: [u8; 32] = Sha256::digest(given).into();
    let mut found = Choice::from(0);
    for one in known {
        found |= one.ct_eq(&given);
    }
    if bool::from(found) { Ok(()) } else { Err(Refused::Forged) }
}
