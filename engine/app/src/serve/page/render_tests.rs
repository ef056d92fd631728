//! What the status page shows: states by word, hostile names and values as text.

use std::sync::Arc;

use arrow::datatypes::Schema;
use chrono::Utc;

use super::*;

/// A name and a value that would be markup anywhere.
const EVIL: &str = "<script>alert(\"x\")</script>' onload='x&";

fn empty() -> Look {
    Look {
        project: "shop".into(),
        target: None,
        version: "1.2.3",
        uptime_ms: 65_000,
        now_ms: 10_000,
        who: "ana".into(),
        may_operate: false,
        notice: None,
        jobs: Vec::new(),
        views: Vec::new(),
        views_beyond: 0,
        tables: Vec::new(),
        aside: Vec::new(),
        troubles: Vec::new(),
    }
}

fn a_job(name: &str, state: State) -> Job {
    let moment = |ms| Moment::of(ms, 10_000, &Utc);
    Job {
        name: name.into(),
        state,
        note: None,
        schedule: "every 10s".into(),
        since: None,
        fresh: moment(4_000),
        epoch: Some(1_234),
        behind: Some((12_345.0, 61.0)),
        next: moment(20_000),
        last: Some(("timed_out".into(), moment(5_000))),
        last_rows: 1_000,
        failures: 0,
        error: None,
        cancelled: false,
    }
}

fn relation(name: &str, kind: &'static str, rows: u64) -> RelationInfo {
    RelationInfo {
        job: name.into(),
        name: name.into(),
        sql: name.into(),
        kind,
        schema: Arc::new(Schema::empty()),
        rows: Some(rows),
        files: None,
        epoch: Some(7),
        doc: name.into(),
    }
}

#[test]
fn a_project_without_anything_has_a_page() {
    let html = page(&empty()).into_string();
    assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"));
    assert!(html.contains("The project has no jobs yet.") && html.contains("all is well"));
    assert!(html.contains("Sluice 1.2.3 · up 1 min · ana"));
    for part in ["<header>", "<main", "<footer>", "aria-live=\"polite\""] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("<style") && !html.contains("style="));
}

#[test]
fn jobs_tell_their_state_by_word() {
    let states = [State::Idle, State::Running, State::Waiting, State::Paused, State::Failed];
    let jobs = states.map(|state| a_job(word(state), state)).to_vec();
    let troubles = vec![("job failed".to_string(), "it failed 3 times in a row".to_string())];
    let html = page(&Look { jobs, troubles, may_operate: true, ..empty() }).into_string();
    for state in states {
        let span = format!("<span class=\"state {0}\">{0}</span>", word(state));
        assert!(html.contains(&span), "{span}");
    }
    for text in ["12,345", "for 1 min", "epoch 1,234", "6 s ago", "in 10 s", "timed out"] {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.contains("1 needs attention") && html.contains("<title>(1) shop"));
    assert!(html.contains("action=\"/status/jobs/paused/resume\""));
    let html = page(&Look { jobs: vec![a_job("a", State::Idle)], ..empty() }).into_string();
    assert!(!html.contains("<form"), "readers have no buttons");
}

#[test]
fn what_the_health_misses_is_named_and_what_was_cancelled_can_be_resumed() {
    let mut job = a_job("gh", State::Running);
    job.cancelled = true;
    let troubles = vec![("endpoint:chat".to_string(), "the model cannot be reached".to_string())];
    let jobs = vec![job, a_job("b", State::Running)];
    let html = page(&Look { jobs, troubles, may_operate: true, ..empty() }).into_string();
    assert!(html.contains("1 needs attention") && !html.contains("all is well"));
    assert!(html.contains("<dt>endpoint:chat</dt><dd>the model cannot be reached</dd>"));
    assert!(html.contains("action=\"/status/jobs/gh/resume\""));
    assert!(!html.contains("action=\"/status/jobs/b/resume\""));
}

#[test]
fn hostile_names_and_values_stay_text() {
    let mut job = a_job(EVIL, State::Failed);
    (job.note, job.error) = (Some(EVIL.into()), Some(EVIL.into()));
    job.schedule = EVIL.into();
    job.last = Some((EVIL.into(), None));
    let sight = Sight {
        heads: vec![(EVIL.into(), false)],
        rows: vec![vec![(EVIL.into(), false)]],
        line: Plot::of(&[0, 1], &[Some(1.0), Some(2.0)]).map(|plot| (EVIL.to_string(), plot)),
        trouble: None,
        more_columns: 1,
    };
    let broken = Sight { trouble: Some(EVIL.into()), ..Sight::default() };
    let shown = |sight| Shown {
        info: relation(EVIL, "view", 1),
        sight: Some(Arc::new(sight)),
        stale: true,
    };
    let look = Look {
        project: EVIL.into(),
        target: Some(EVIL.into()),
        who: EVIL.into(),
        may_operate: true,
        notice: Some((false, EVIL.into())),
        jobs: vec![job],
        views: vec![shown(sight), shown(broken)],
        tables: vec![relation(EVIL, "table", 1)],
        aside: vec![relation(EVIL, "rejected", 1)],
        troubles: vec![(EVIL.into(), EVIL.into())],
        ..empty()
    };
    let html = page(&look).into_string();
    assert!(!html.contains("<script>alert"), "{html}");
    assert_eq!(html.matches("<script").count(), 1, "the page's own");
    // Attributes are in double quotes: none of theirs ends one.
    assert!(!html.contains("alert(\""), "{html}");
    assert!(html.contains("%3Cscript%3E"), "paths are encoded");
}

#[test]
fn many_jobs_fit_on_a_page() {
    let jobs: Vec<Job> = (0..500).map(|at| a_job(&format!("job-{at}"), State::Running)).collect();
    let html = page(&Look { jobs, ..empty() }).into_string();
    assert_eq!(html.matches("<tr>").count(), 501);
    assert!(html.len() < 2 << 20, "{} bytes", html.len());
}

#[test]
fn views_have_a_picture_with_words() {
    let plot = Plot::of(&[0, 1, 2], &[Some(1.0), Some(4.5), Some(2.0)]).unwrap();
    let sight = Sight { line: Some(("revenue".into(), plot)), ..Sight::default() };
    let info = relation("daily", "view", 3);
    let view = Shown { info: info.clone(), sight: Some(Arc::new(sight)), stale: false };
    let unread = Shown { info, sight: None, stale: true };
    let html = page(&Look { views: vec![view, unread], ..empty() }).into_string();
    assert!(html.contains("revenue: 3 values from 1 to 4.5, now 2"));
    assert!(html.contains("<polyline points=\"4.0,40.0 120.0,4.0"));
    assert!(html.contains("Its rows are being read."));
}

#[test]
fn rows_that_were_set_aside_stand_out() {
    let aside = vec![relation("a__rejected", "rejected", 3), relation("b", "quarantine", 0)];
    let html = page(&Look { aside, ..empty() }).into_string();
    assert!(html.contains("<td class=\"number bad\" data-live=\"aside/a__rejected/rows\""));
    assert!(html.contains("<td class=\"number\" data-live=\"aside/b/rows\""));
}
