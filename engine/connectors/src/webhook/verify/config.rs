//! How deliveries prove themselves, as a job file says it.
//!
//! In: `verify:`. Out: a [`Verifier`], with the secrets' values in it. Without them, when a file is
//! only checked, a secret is known to be one and not looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sluice_core::parse_duration;

use super::signature::{Encoding, Form, TimeHeader};
use super::{Algorithm, Piece, Scheme, Verifier};
use crate::settings::{Faults, OneOrMany};

/// How far a signed time may be from ours, unless said: what Stripe, Slack and Standard Webhooks
/// say.
const TOLERANCE_MS: i64 = 5 * 60 * 1000;

/// How a secret of Standard Webhooks begins.
const STANDARD_PREFIX: &str = "whsec_";

/// How a delivery proves whose it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyConfig {
    /// `X-Hub-Signature-256`, as GitHub signs.
    Github(Signed),
    /// `Stripe-Signature`, with a signed time.
    Stripe(Timed),
    /// `X-Shopify-Hmac-SHA256`, as Shopify signs.
    Shopify(Signed),
    /// `X-Slack-Signature`, with a signed time.
    Slack(Timed),
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature` (or `svix-…`), with a signed time.
    StandardWebhooks(Timed),
    /// `X-Signature`, as Segment signs.
    Segment(Signed),
    /// A keyed hash of any other kind.
    Hmac(HmacConfig),
    /// `Authorization: Basic …`.
    Basic(BasicConfig),
    /// `Authorization: Bearer …`, or a token in a header of its own.
    Bearer(BearerConfig),
}

/// One secret, or several that count alike while one is replaced.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct SecretTexts(pub(in crate::webhook) OneOrMany);

impl std::fmt::Debug for SecretTexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// A signature over the body.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The secret, `${secrets.name}`, or a list of them.
    pub secret: SecretTexts,
}

/// A signature over the body and a time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// The secret, `${secrets.name}`, or a list of them.
    pub secret: SecretTexts,
    /// How far the signed time may be from ours. Default: `5min`.
    #[serde(default)]
    pub tolerance: Option<String>,
}

/// A keyed hash that no preset knows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacConfig {
    /// The secret, `${secrets.name}`, or a list of them.
    pub secret: SecretTexts,
    /// The header with the signature.
    pub header: String,
    /// The hash. Default: `sha256`.
    #[serde(default)]
    pub algorithm: HashName,
    /// How the signature is written. Default: `hex`.
    #[serde(default)]
    pub encoding: EncodingName,
    /// What stands before the signature: `sha256=`. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// The header with the signed time. Default: no time is signed.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// What the time counts. Default: `s`.
    #[serde(default)]
    pub unit: UnitName,
    /// What is signed, with `{timestamp}` and `{body}`. Default: `{body}`, with a time
    /// `{timestamp}.{body}`.
    #[serde(default)]
    pub signed: Option<String>,
    /// How far the signed time may be from ours. Default: `5min`.
    #[serde(default)]
    pub tolerance: Option<String>,
}

/// A user and a password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicConfig {
    /// The user.
    pub user: String,
    /// The password, `${secrets.name}`, or a list of them.
    pub secret: SecretTexts,
}

/// A token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BearerConfig {
    /// The token, `${secrets.name}`, or a list of them.
    pub secret: SecretTexts,
    /// The header that holds the token and nothing else, such as `X-Gitlab-Token`. Default:
    /// `Authorization: Bearer …`.
    #[serde(default)]
    pub header: Option<String>,
}

/// A hash.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashName {
    /// SHA-1, for senders that know no better.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingName {
    /// Two digits per byte.
    #[default]
    Hex,
    /// Base64 with its padding.
    Base64,
}

/// What a time counts.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnitName {
    /// Seconds since 1970.
    #[default]
    S,
    /// Milliseconds since 1970.
    Ms,
}

impl VerifyConfig {
    /// How it is called in a job file.
    pub(in crate::webhook) fn name(&self) -> &'static str {
        match self {
            VerifyConfig::Github(_) => "github",
            VerifyConfig::Stripe(_) => "stripe",
            VerifyConfig::Shopify(_) => "shopify",
            VerifyConfig::Slack(_) => "slack",
            VerifyConfig::StandardWebhooks(_) => "standard_webhooks",
            VerifyConfig::Segment(_) => "segment",
            VerifyConfig::Hmac(_) => "hmac",
            VerifyConfig::Basic(_) => "basic",
            VerifyConfig::Bearer(_) => "bearer",
        }
    }

    /// Who verifies; what is wrong goes to `faults`, by pointers below `/verify`.
    pub(in crate::webhook) fn verifier(&self, faults: &mut Faults) -> Verifier {
        let at = format!("/verify/{}", self.name());
        match self {
            VerifyConfig::Github(Signed { secret }) => signed(
                plain("x-hub-signature-256", "sha256=", Encoding::Hex),
                keys(secret, &at, faults),
            ),
            VerifyConfig::Shopify(Signed { secret }) => signed(
                plain("x-shopify-hmac-sha256", "", Encoding::Base64),
                keys(secret, &at, faults),
            ),
            VerifyConfig::Segment(Signed { secret }) => {
                let keys = keys(secret, &at, faults);
                let form = plain("x-signature", "", Encoding::Hex);
                scheme(form, keys, Algorithm::Sha1, vec![Piece::Body], TOLERANCE_MS)
            }
            VerifyConfig::Stripe(timed) => {
                let form = Form::Pairs { header: "stripe-signature".into() };
                let pieces = vec![Piece::Timestamp, text("."), Piece::Body];
                timed.verifier(form, pieces, &at, faults)
            }
            VerifyConfig::Slack(timed) => {
                let header = "x-slack-request-timestamp".to_string();
                let form = Form::Plain {
                    header: "x-slack-signature".into(),
                    prefix: "v0=".into(),
                    encoding: Encoding::Hex,
                    time: Some(TimeHeader { header, unit_ms: 1000 }),
                };
                let pieces = vec![text("v0:"), Piece::Timestamp, text(":"), Piece::Body];
                timed.verifier(form, pieces, &at, faults)
            }
            VerifyConfig::StandardWebhooks(timed) => {
                let tolerance = tolerance(timed.tolerance.as_deref(), &at, faults);
                let keys = standard_keys(&timed.secret, &at, faults);
                let form = Form::Standard { prefixes: &["webhook-", "svix-"] };
                let pieces = vec![Piece::Id, text("."), Piece::Timestamp, text("."), Piece::Body];
                scheme(form, keys, Algorithm::Sha256, pieces, tolerance)
            }
            VerifyConfig::Hmac(hmac) => hmac.verifier(&at, faults),
            VerifyConfig::Basic(BasicConfig { user, secret }) => {
                if user.contains(':') {
                    faults.add(&format!("{at}/user"), "a user with a colon", "remove it");
                }
                let pair = |key: Vec<u8>| [user.as_bytes(), b":", &key].concat();
                let keys = keys(secret, &at, faults).into_iter().map(pair);
                Verifier::Basic(keys.map(|pair| Sha256::digest(pair).into()).collect())
            }
            VerifyConfig::Bearer(BearerConfig { secret, header }) => {
                if let Some(header) = header {
                    check_header(header, &format!("{at}/header"), faults);
                }
                let keys = keys(secret, &at, faults).into_iter();
                let hashes = keys.map(|key| Sha256::digest(key).into()).collect();
                Verifier::Token(header.as_ref().map(|h| h.to_ascii_lowercase()), hashes)
            }
        }
    }

    /// The headers that hold what a delivery proves itself by, in lower case.
    pub(in crate::webhook) fn headers(&self) -> Vec<String> {
        match self {
            VerifyConfig::Hmac(hmac) => vec![hmac.header.to_ascii_lowercase()],
            VerifyConfig::Bearer(BearerConfig { header: Some(header), .. }) => {
                vec![header.to_ascii_lowercase()]
            }
            _ => Vec::new(),
        }
    }
}

impl Timed {
    fn verifier(&self, form: Form, pieces: Vec<Piece>, at: &str, faults: &mut Faults) -> Verifier {
        let tolerance = tolerance(self.tolerance.as_deref(), at, faults);
        let keys = keys(&self.secret, at, faults);
        scheme(form, keys, Algorithm::Sha256, pieces, tolerance)
    }
}

impl HmacConfig {
    fn verifier(&self, at: &str, faults: &mut Faults) -> Verifier {
        check_header(&self.header, &format!("{at}/header"), faults);
        if let Some(header) = &self.timestamp {
            check_header(header, &format!("{at}/timestamp"), faults);
        }
        let unit_ms = match self.unit {
            UnitName::S => 1000,
            UnitName::Ms => 1,
        };
        let default = if self.timestamp.is_some() { "{timestamp}.{body}" } else { "{body}" };
        let pieces = pieces(self.signed.as_deref().unwrap_or(default));
        let place = format!("{at}/signed");
        if !pieces.contains(&Piece::Body) {
            faults.add(&place, "the body is not signed", "write `{body}` where it stands");
        }
        if pieces.contains(&Piece::Timestamp) != self.timestamp.is_some() {
            let hint = "give both `timestamp`, its header, and `{timestamp}` in `signed`";
            faults.add(&place, "a time is in a header or is signed, not both", hint);
        }
        let encoding = match self.encoding {
            EncodingName::Hex => Encoding::Hex,
            EncodingName::Base64 => Encoding::Base64,
        };
        let algorithm = match self.algorithm {
            HashName::Sha1 => Algorithm::Sha1,
            HashName::Sha256 => Algorithm::Sha256,
            HashName::Sha512 => Algorithm::Sha512,
        };
        let time = |header: &String| TimeHeader { header: header.to_ascii_lowercase(), unit_ms };
        let form = Form::Plain {
            header: self.header.to_ascii_lowercase(),
            prefix: self.prefix.clone(),
            encoding,
            time: self.timestamp.as_ref().map(time),
        };
        let tolerance = tolerance(self.tolerance.as_deref(), at, faults);
        scheme(form, keys(&self.secret, at, faults), algorithm, pieces, tolerance)
    }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_string())
}

fn plain(header: &str, prefix: &str, encoding: Encoding) -> Form {
    Form::Plain { header: header.into(), prefix: prefix.into(), encoding, time: None }
}

fn signed(form: Form, keys: Vec<Vec<u8>>) -> Verifier {
    scheme(form, keys, Algorithm::Sha256, vec![Piece::Body], TOLERANCE_MS)
}

fn scheme(
    form: Form,
    keys: Vec<Vec<u8>>,
    algorithm: Algorithm,
    pieces: Vec<Piece>,
    tolerance_ms: i64,
) -> Verifier {
    Verifier::Signed(Scheme { keys, algorithm, form, pieces, tolerance_ms })
}

/// `{timestamp}.{body}` piece by piece.
fn pieces(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let named = [("{timestamp}", Piece::Timestamp), ("{body}", Piece::Body)];
        let next = named.into_iter().filter_map(|(name, piece)| {
            let at = rest.find(name)?;
            Some((at, name.len(), piece))
        });
        let Some((at, length, piece)) = next.min_by_key(|(at, ..)| *at) else {
            pieces.push(text(rest));
            break;
        };
        if at > 0 {
            pieces.push(text(&rest[..at]));
        }
        pieces.push(piece);
        rest = &rest[at + length..];
    }
    pieces
}

/// A reference to a secret that nobody filled in.
pub(in crate::webhook) fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}')
}

/// The secrets as bytes.
fn keys(secret: &SecretTexts, at: &str, faults: &mut Faults) -> Vec<Vec<u8>> {
    let place = format!("{at}/secret");
    let texts = secret.0.texts(&place);
    if texts.is_empty() {
        faults.add(&place, "no secret is given", "name one as `${secrets.name}`");
    }
    for (pointer, _) in texts.iter().filter(|(_, text)| text.is_empty()) {
        faults.add(pointer, "a secret is empty", "anybody could sign with it: give it a value");
    }
    texts.into_iter().map(|(_, text)| text.clone().into_bytes()).collect()
}

/// Those of Standard Webhooks are written in Base64.
fn standard_keys(secret: &SecretTexts, at: &str, faults: &mut Faults) -> Vec<Vec<u8>> {
    // What is wrong with secrets of any kind.
    keys(secret, at, faults);
    let mut decoded = Vec::new();
    for (pointer, text) in secret.0.texts(&format!("{at}/secret")) {
        if is_reference(text) || text.is_empty() {
            continue;
        }
        match STANDARD.decode(text.strip_prefix(STANDARD_PREFIX).unwrap_or(text)) {
            Ok(key) if !key.is_empty() => decoded.push(key),
            _ => {
                let hint = "it is written as whsec_ and Base64";
                faults.add(&pointer, "not a secret of Standard Webhooks", hint);
            }
        }
    }
    decoded
}

fn tolerance(text: Option<&str>, at: &str, faults: &mut Faults) -> i64 {
    let Some(text) = text else { return TOLERANCE_MS };
    let duration = faults.keep(&format!("{at}/tolerance"), parse_duration(text));
    duration.map_or(TOLERANCE_MS, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

pub(in crate::webhook) fn check_header(name: &str, pointer: &str, faults: &mut Faults) {
    if axum::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        let hint = "names have letters, digits and - only";
        faults.add(pointer, &format!("not the name of a header header={name}"), hint);
    }
}
