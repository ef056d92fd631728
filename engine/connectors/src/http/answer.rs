//! What an answer means for the rows of a request.
//!
//! In: a status, the head and the first bytes of an answer. Out: whether the rows were taken, never
//! will be, or may be later. It sends nothing and waits for nobody.

use std::time::Duration;

use chrono::DateTime;
use sluice_core::Secrets;

/// Longer than this nobody is waited for at once: the outbox asks again after a while anyway.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The wait where a receiver wants one and does not say how long; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait of that kind.
const DOUBLED_MAX: Duration = Duration::from_secs(30);

/// Characters of an answer's body that are kept with a refused row: a sentence or two.
const EXCERPT_CHARS: usize = 300;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver has the rows.
    Taken,
    /// It will never take them.
    Refused,
    /// It takes them after a wait: of its own choice, or of ours.
    Later(Option<Duration>),
    /// It is in trouble.
    Away,
    /// It takes nothing from us, whatever it is: the address or the login is wrong.
    Closed,
}

/// Judges a status; `wait` is what the answer says with `Retry-After`.
pub(super) fn judge(status: u16, wait: Option<Duration>) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        429 => Verdict::Later(wait),
        503 if wait.is_some() => Verdict::Later(wait),
        408 | 425 | 500..=599 => Verdict::Away,
        401 | 402 | 403 | 404 | 405 | 406 | 407 | 410 | 415 => Verdict::Closed,
        400..=499 => Verdict::Refused,
        _ => Verdict::Closed,
    }
}

/// The wait that `Retry-After` asks for, in seconds or until a time, `now_ms` milliseconds since
/// 1970; none where it says neither.
pub(super) fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
    Some(Duration::from_millis(u64::try_from(until.saturating_sub(now_ms)).unwrap_or(0)))
}

/// How long to wait for the `attempt`-th time, from 0, when the receiver asks for `wait`.
pub(super) fn wait_of(wait: Option<Duration>, attempt: u32) -> Duration {
    let own = FIRST_WAIT.saturating_mul(1 << attempt.min(16)).min(DOUBLED_MAX);
    wait.unwrap_or(own).min(WAIT_MAX)
}

/// Why rows are refused, in a line: the status and the beginning of the answer, without secrets that
/// it may repeat.
pub(super) fn reason(status: u16, body: &[u8], secrets: &Secrets) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for value in secrets.names().filter_map(|name| secrets.get(name)) {
        if !value.is_empty() {
            text = text.replace(value, "***");
        }
    }
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(EXCERPT_CHARS).collect();
    let dots = if cut.len() < line.len() { "…" } else { "" };
    match cut.is_empty() {
        true => format!("the receiver refuses it status={status}"),
        false => format!("the receiver refuses it: {cut}{dots} status={status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_status_says_what_becomes_of_rows() {
        let second = Some(Duration::from_secs(1));
        let cases = [
            (200, None, Verdict::Taken),
            (204, None, Verdict::Taken),
            (301, None, Verdict::Closed),
            (400, None, Verdict::Refused),
            (401, None, Verdict::Closed),
            (404, None, Verdict::Closed),
            (408, None, Verdict::Away),
            (409, None, Verdict::Refused),
            (413, second, Verdict::Refused),
            (422, None, Verdict::Refused),
            (425, None, Verdict::Away),
            (429, None, Verdict::Later(None)),
            (429, second, Verdict::Later(second)),
            (500, second, Verdict::Away),
            (503, None, Verdict::Away),
            (503, second, Verdict::Later(second)),
            (100, None, Verdict::Closed),
            (999, None, Verdict::Closed),
        ];
        for (status, wait, expected) in cases {
            assert_eq!(judge(status, wait), expected, "{status}");
        }
    }

    #[test]
    fn waits_are_seconds_or_times_and_have_an_end() {
        // Wed, 21 Oct 2015 07:28:00 GMT.
        let now_ms = 1_445_412_480_000;
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (text, seconds) in cases {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(text, now_ms), expected, "{text}");
        }
        let seconds =
            |wait: Option<u64>, attempt| wait_of(wait.map(Duration::from_secs), attempt).as_secs();
        assert_eq!([seconds(Some(7), 3), seconds(Some(9_999), 0)], [7, 300]);
        assert_eq!([seconds(None, 0), seconds(None, 2), seconds(None, 99)], [1, 4, 30]);
    }

    #[test]
    fn reasons_are_one_line_without_secrets() {
        let secrets = BTreeMap::from([("token".to_string(), "s3cret".to_string())]);
        let secrets = Secrets::new(secrets);
        let found = reason(422, b"{\n  \"bad\": \"s3cret\"\n}", &secrets);
        assert_eq!(found, "the receiver refuses it: { \"bad\": \"***\" } status=422");
        assert_eq!(reason(400, b" \n", &secrets), "the receiver refuses it status=400");
        let long = reason(400, "é".repeat(1000).as_bytes(), &secrets);
        assert!(long.contains("é… status=400") && long.chars().count() < 350, "{long}");
        assert!(reason(400, &[0xff, 0xfe], &secrets).contains("status=400"));
    }
}
