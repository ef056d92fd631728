//! Vectors of the senders' own documents, or made apart from this code; what is changed is refused;
//! headers by chance.

use std::panic::AssertUnwindSafe;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::config::VerifyConfig;
use super::*;
use crate::settings::Faults;

const GITHUB: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const STANDARD_BODY: &str = r#"{"test": 2432232314}"#;
const SLACK_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
    &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
    &command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F\
    T1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
    &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

fn verifier(config: Value) -> Verifier {
    let mut faults = Faults::default();
    let config: VerifyConfig = serde_json::from_value(config).unwrap();
    let verifier = config.verifier(&mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    verifier
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// A way to sign, a delivery that is genuine, and when it was signed.
struct Case {
    config: Value,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    at_ms: Option<i64>,
}

fn case(
    config: Value,
    headers: &[(&'static str, &'static str)],
    body: &'static str,
    at_ms: Option<i64>,
) -> Case {
    Case { config, headers: headers.to_vec(), body, at_ms }
}

fn cases() -> Vec<Case> {
    let mut cases = of_the_time();
    cases.extend(of_the_body());
    cases
}

/// Those that sign a body and nothing else.
fn of_the_body() -> Vec<Case> {
    vec![
        case(
            json!({"github": {"secret": "It's a Secret to Everybody"}}),
            &[("X-Hub-Signature-256", GITHUB)],
            "Hello, World!",
            None,
        ),
        case(
            json!({"shopify": {"secret": "hush"}}),
            &[("X-Shopify-Hmac-Sha256", "D0UMXmhjwBRi4y66TmhJrDlhQABD7zI2fm3p6/QLMo8=")],
            r#"{"id":820982911946154508,"email":"jon@example.com"}"#,
            None,
        ),
        case(
            json!({"segment": {"secret": "segment shared secret"}}),
            &[("X-Signature", "bcf52df73b9aee46b4eebe86e11e88c27d877205")],
            r#"{"messageId":"m-1","type":"track","event":"Order Completed"}"#,
            None,
        ),
    ]
}

/// Those that sign a time too.
fn of_the_time() -> Vec<Case> {
    vec![
        case(
            json!({"standard_webhooks": {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}),
            &[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ],
            STANDARD_BODY,
            Some(1_614_265_330_000),
        ),
        case(
            json!({"standard_webhooks": {"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}),
            &[
                ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("svix-timestamp", "1614265330"),
                ("svix-signature", "v1,AAAA v2,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ],
            STANDARD_BODY,
            Some(1_614_265_330_000),
        ),
        case(
            json!({"stripe": {"secret": "whsec_test_secret"}}),
            &[(
                "Stripe-Signature",
                "t=1492774577,v1=00ff,v0=aa,\
                 v1=654b43d3508ecadb3f8cefc4bc7d3d2bdc5ba9e03bf2c89b2d0657a8e24e4543",
            )],
            r#"{"id":"evt_1","object":"event"}"#,
            Some(1_492_774_577_000),
        ),
        case(
            json!({"slack": {"secret": "8f742231b10e8888abcd99yyyzzz85a5"}}),
            &[
                ("X-Slack-Request-Timestamp", "1531420618"),
                (
                    "X-Slack-Signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                ),
            ],
            SLACK_BODY,
            Some(1_531_420_618_000),
        ),
        case(
            json!({"hmac": {
                "secret": "key", "header": "X-Sig", "algorithm": "sha512", "encoding": "base64",
                "prefix": "s=", "timestamp": "X-At", "unit": "ms", "signed": "{timestamp}/{body}",
            }}),
            &[
                ("x-at", "1700000000123"),
                (
                    "x-sig",
                    "s=f3lAGxnm1EOI25xRZJ64rlYrziNts08JjzyRDjWqDHOVFJzYl9c5gDwvpnuy/zMlzPYvng/\
                     djbA5Zjc99swtkA==",
                ),
            ],
            "hello",
            Some(1_700_000_000_123),
        ),
    ]
}

#[test]
fn what_senders_sign_is_let_in_and_nothing_else_is() {
    for case in cases() {
        let Case { config, headers: pairs, body, at_ms } = case;
        let (verifier, map) = (verifier(config.clone()), headers(&pairs));
        let now = at_ms.unwrap_or(0);
        let verify = |map: &HeaderMap, body: &[u8], now| verifier.verify(map, body, now);
        assert_eq!(verify(&map, body.as_bytes(), now), Ok(()), "{config}");
        let mut other = body.as_bytes().to_vec();
        other[0] ^= 1;
        assert_eq!(verify(&map, &other, now), Err(Refused::Forged), "{config}");
        assert_eq!(verify(&map, &body.as_bytes()[1..], now), Err(Refused::Forged), "{config}");
        for (name, value) in &pairs {
            let without: Vec<_> = pairs.iter().filter(|(n, _)| n != name).copied().collect();
            assert_eq!(verify(&headers(&without), body.as_bytes(), now), Err(Refused::Missing));
            let mut wrong = headers(&without);
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let changed = value.replace(['3', '5', 'E'], "4");
            wrong.insert(name, HeaderValue::from_str(&changed).unwrap());
            assert_eq!(verify(&wrong, body.as_bytes(), now), Err(Refused::Forged), "{changed}");
        }
        if at_ms.is_some() {
            let five = 5 * 60 * 1000;
            for (now, expected) in [
                (now + five, Ok(())),
                (now - five, Ok(())),
                (now + five + 1, Err(Refused::Stale)),
                (now - five - 1, Err(Refused::Stale)),
            ] {
                assert_eq!(verify(&map, body.as_bytes(), now), expected, "{config}");
            }
            assert_eq!(verify(&map, &other, 0), Err(Refused::Forged), "late and forged");
        }
    }
}

#[test]
fn an_id_that_is_not_signed_is_no_way_around_one_that_is() {
    let verifier =
        verifier(json!({"standard_webhooks": {"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}));
    let genuine = [
        ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("svix-timestamp", "1614265330"),
        ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let verify = |more: &[(&str, &str)]| {
        let map = headers(&[&genuine[..], more].concat());
        verifier.verify(&map, STANDARD_BODY.as_bytes(), 1_614_265_330_000)
    };
    let id = ("webhook-id", "another");
    assert_eq!(verify(&[]), Ok(()));
    assert_eq!(verify(&[id]), Err(Refused::Missing));
    let rest = [id, ("webhook-timestamp", "1614265330"), ("webhook-signature", "v1,AAAA")];
    assert_eq!(verify(&rest), Err(Refused::Forged));
}

#[test]
fn secrets_are_replaced_without_a_gap() {
    let verifier = verifier(json!({"github": {"secret": ["new", "It's a Secret to Everybody"]}}));
    let map = headers(&[("x-hub-signature-256", GITHUB)]);
    assert_eq!(verifier.verify(&map, b"Hello, World!", 0), Ok(()));
}

#[test]
fn users_and_tokens_are_known_or_not() {
    let basic = verifier(json!({"basic": {"user": "me", "secret": ["old", "new"]}}));
    let bearer = verifier(json!({"bearer": {"secret": "t0ken"}}));
    let own = verifier(json!({"bearer": {"secret": "t0ken", "header": "X-Gitlab-Token"}}));
    let cases: [(&Verifier, &str, &str, Result<(), Refused>); 11] = [
        (&basic, "authorization", "Basic bWU6bmV3", Ok(())),
        (&basic, "authorization", "basic  bWU6b2xk", Ok(())),
        (&basic, "authorization", "Basic bWU6bmV4", Err(Refused::Forged)),
        (&basic, "authorization", "Basic", Err(Refused::Forged)),
        (&basic, "authorization", "Bearer bWU6bmV3", Err(Refused::Forged)),
        (&basic, "x-other", "Basic bWU6bmV3", Err(Refused::Missing)),
        (&bearer, "authorization", "BEARER t0ken", Ok(())),
        (&bearer, "authorization", "Bearer t0ke", Err(Refused::Forged)),
        (&bearer, "authorization", "Bearert0ken", Err(Refused::Forged)),
        (&own, "x-gitlab-token", "t0ken", Ok(())),
        (&own, "authorization", "Bearer t0ken", Err(Refused::Missing)),
    ];
    for (verifier, name, value, expected) in cases {
        assert_eq!(verifier.verify(&headers(&[(name, value)]), b"", 0), expected, "{value}");
    }
}

#[test]
fn settings_that_let_anybody_in_are_refused() {
    let faults = |config: Value| {
        let mut faults = Faults::default();
        let config: VerifyConfig = serde_json::from_value(config).unwrap();
        config.verifier(&mut faults);
        format!("{faults:?}")
    };
    let bad = [
        (json!({"github": {"secret": ""}}), "/verify/github/secret"),
        (json!({"github": {"secret": []}}), "/verify/github/secret"),
        (json!({"stripe": {"secret": "x", "tolerance": "soon"}}), "/verify/stripe/tolerance"),
        (json!({"standard_webhooks": {"secret": "whsec_?"}}), "/verify/standard_webhooks/secret"),
        (json!({"hmac": {"secret": "x", "header": "a b"}}), "/verify/hmac/header"),
        (json!({"hmac": {"secret": "x", "header": "a", "signed": "x"}}), "/verify/hmac/signed"),
        (
            json!({"hmac": {"secret": "x", "header": "a", "timestamp": "t", "signed": "{body}"}}),
            "/verify/hmac/signed",
        ),
        (json!({"basic": {"user": "a:b", "secret": "x"}}), "/verify/basic/user"),
    ];
    for (config, pointer) in bad {
        assert!(faults(config.clone()).contains(pointer), "{config}");
    }
    let config: VerifyConfig =
        serde_json::from_value(json!({"github": {"secret": "hidden"}})).unwrap();
    assert!(!format!("{config:?}").contains("hidden"));
}

#[test]
fn no_header_makes_a_parser_panic_or_lets_a_stranger_in() {
    let verifiers = cases().into_iter().map(|case| (verifier(case.config), case.headers));
    let verifiers: AssertUnwindSafe<Vec<_>> = AssertUnwindSafe(verifiers.collect());
    bolero::check!().with_iterations(5_000).with_max_len(80).for_each(|bytes: &[u8]| {
        let parts = bytes.split(|b| *b == b'|').collect::<Vec<_>>();
        for (verifier, names) in verifiers.iter() {
            let mut map = HeaderMap::new();
            for (i, (name, genuine)) in names.iter().enumerate() {
                let part = parts.get(i).copied().unwrap_or_default();
                // Half of the time only the end is made up, so that what stands before is got
                // through.
                let kept = &genuine.as_bytes()[..genuine.len().min(part.len() % 16)];
                let value = HeaderValue::from_bytes(&[kept, part].concat());
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.extend(value.ok().map(|value| (name, value)));
            }
            assert!(verifier.verify(&map, bytes, 0).is_err());
        }
    });
}
