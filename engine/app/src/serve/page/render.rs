//! The page as HTML.
//!
//! In: a [`Look`]. Out: markup, complete without a script. Every text of a project is escaped by
//! `maud`, in elements and in attributes alike. What may change while somebody looks has a name
//! (`data-live`) and a value (`data-value`), by which the script finds and compares it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use maud::{DOCTYPE, Markup, html};

use super::look::{Job, Look};
use super::plot::{Plot, SIZE};
use super::sight::{Shown, Sight};
use super::words::{Moment, number_text};
use crate::output::{age, count, counted};
use crate::serve::query::RelationInfo;
use crate::serve::schedule::State;

/// The whole page.
pub(super) fn page(look: &Look) -> Markup {
    let title = match look.troubles.len() {
        0 => format!("{} · Sluice", look.project),
        bad => format!("({bad}) {} · Sluice", look.project),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="/status/style.css";
                script src="/status/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the jobs" }
                (head(look))
                main #main data-now=(look.now_ms) {
                    @if let Some((done, words)) = &look.notice {
                        p.notice.bad[!done] role="status" { (words) }
                    }
                    (troubles(look))
                    (jobs(look))
                    (views(look))
                    (tables(&look.tables))
                    (aside(&look.aside))
                }
                (foot(look))
                p #news.unseen aria-live="polite" {}
            }
        }
    }
}

fn head(look: &Look) -> Markup {
    let bad = look.troubles.len();
    let words = match bad {
        0 => "all is well".to_string(),
        bad => format!("{} need{} attention", bad, if bad == 1 { "s" } else { "" }),
    };
    let kind = if bad == 0 { "good" } else { "bad" };
    html! {
        header {
            h1 {
                (look.project)
                @if let Some(target) = &look.target { " " span.target { (target) } }
            }
            p.sum data-live="sum" data-value=(words) {
                span class={ "state " (kind) } { (words) }
            }
        }
    }
}

fn troubles(look: &Look) -> Markup {
    html! {
        div data-live="troubles" data-value=(digest(&look.troubles)) {
            @if !look.troubles.is_empty() {
                section aria-labelledby="troubles" {
                    h2 #troubles { "Needs attention" }
                    dl.troubles {
                        @for (about, why) in &look.troubles {
                            dt { (about) }
                            dd { (why) }
                        }
                    }
                }
            }
        }
    }
}

fn jobs(look: &Look) -> Markup {
    html! {
        section aria-labelledby="jobs" {
            h2 #jobs { "Jobs" }
            @if look.jobs.is_empty() {
                p.empty { "The project has no jobs yet." }
            } @else {
                div.wide tabindex="0" role="region" aria-labelledby="jobs" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Job" }
                                th scope="col" { "State" }
                                th scope="col" { "Fresh" }
                                th.number scope="col" { "Behind" }
                                th scope="col" { "Last run" }
                                th scope="col" { "Next run" }
                                @if look.may_operate { th scope="col" { "Do" } }
                            }
                        }
                        tbody { @for one in &look.jobs { (job(one, look.may_operate)) } }
                    }
                }
            }
        }
    }
}

fn job(job: &Job, may_operate: bool) -> Markup {
    let key = |what: &str| format!("job/{}/{what}", job.name);
    let word = word(job.state);
    let note = job.note.as_deref().unwrap_or_default();
    let state = format!("{word}{}{note}", job.since.as_ref().map_or(0, |since| since.ms));
    let behind = job.behind.map_or("unknown".to_string(), |(rows, _)| rows.to_string());
    let fresh = value_of(job.fresh.as_ref());
    let last = job.last.as_ref().map_or(String::new(), |(outcome, at)| {
        format!("{outcome}{}{}{}", value_of(at.as_ref()), job.last_rows, job.failures)
    });
    html! {
        tr {
            th scope="row" {
                (job.name)
                small { (job.schedule) }
            }
            td data-live=(key("state")) data-value=(state) data-say={ (job.name) " is " (word) } {
                span class={ "state " (word) } { (word) }
                @if let Some(since) = &job.since { small { "since " (moment(since)) } }
                @if let Some(note) = &job.note { small { (note) } }
            }
            td data-live=(key("fresh")) data-value=(fresh) {
                @match &job.fresh {
                    Some(fresh) => (moment(fresh)),
                    None => span.none { "never" },
                }
                @if let Some(epoch) = job.epoch { small { "epoch " (count(epoch)) } }
            }
            td.number data-live=(key("behind")) data-value=(behind) {
                @match job.behind {
                    Some((rows, seconds)) => {
                        (rows_text(rows))
                        @if seconds >= 1.0 { small { "for " (age(millis(seconds))) } }
                    }
                    None => span.none title="its sources were not asked by this process" { "–" },
                }
            }
            td data-live=(key("last")) data-value=(last) {
                @match &job.last {
                    Some((outcome, at)) => {
                        span class={ "outcome " (outcome) } { (outcome.replace('_', " ")) }
                        @if let Some(at) = at { " " (moment(at)) }
                        small { (counted(job.last_rows, "row")) }
                    }
                    None => span.none { "none yet" },
                }
                @if job.failures > 0 { small.bad { (counted(u64::from(job.failures), "failure")) } }
                @if let Some(error) = &job.error { small.bad.error { (error) } }
            }
            td data-live=(key("next")) data-value=(value_of(job.next.as_ref())) {
                @match &job.next { Some(next) => (moment(next)), None => span.none { "–" } }
            }
            @if may_operate {
                td.do data-live=(key("do")) data-value={ (word) (job.cancelled) } { (acts(job)) }
            }
        }
    }
}

fn acts(job: &Job) -> Markup {
    let place = format!("/status/jobs/{}/", path(&job.name));
    html! {
        @for (action, label) in buttons(job) {
            form method="post" action={ (place) (action) } {
                button aria-label={ (label) " " (job.name) } { (label) }
            }
        }
    }
}

fn views(look: &Look) -> Markup {
    html! {
        @if !look.views.is_empty() {
            section aria-labelledby="views" {
                h2 #views { "Views" }
                div.cards { @for view in &look.views { (card(view)) } }
                @if look.views_beyond > 0 {
                    p.empty {
                        "and " (counted(look.views_beyond as u64, "more view")) ", see "
                        a href="/docs/" { "the API" } "."
                    }
                }
            }
        }
    }
}

fn card(view: &Shown) -> Markup {
    let key = format!("view/{}", view.info.name);
    let value = view.sight.as_ref().map_or(String::new(), digest);
    let epoch = view.info.epoch.map_or(String::new(), |epoch| format!("epoch {}", count(epoch)));
    html! {
        article.card {
            h3 title=(view.info.doc) { (view.info.name) small { (view.info.job) } }
            div data-live=(key) data-value=(value) {
                @match &view.sight {
                    None => p.empty { "Its rows are being read." },
                    Some(sight) => (rows(sight)),
                }
            }
            p.foot
                data-live={ (key) "/epoch" }
                data-value={ (epoch) (view.stale) }
                data-stale[view.stale]
            {
                (epoch)
                @if let Some(rows) = view.info.rows { " · " (counted(rows, "row")) }
                @if view.stale && view.sight.is_some() { " · newer rows are being read" }
            }
        }
    }
}

fn rows(sight: &Sight) -> Markup {
    html! {
        @if let Some(trouble) = &sight.trouble { p.bad { (trouble) } }
        @if let Some((name, plot)) = &sight.line { (line(name, plot)) }
        @if sight.trouble.is_none() && sight.rows.is_empty() { p.empty { "No rows yet." } }
        @if !sight.rows.is_empty() {
            div.wide tabindex="0" role="region" aria-label="rows" {
                table {
                    thead {
                        tr {
                            @for (name, number) in &sight.heads {
                                th.number[*number] scope="col" { (name) }
                            }
                        }
                    }
                    tbody {
                        @for row in &sight.rows {
                            tr { @for (text, number) in row { td.number[*number] { (text) } } }
                        }
                    }
                }
            }
            @if sight.more_columns > 0 {
                p.foot { "and " (counted(sight.more_columns as u64, "more column")) }
            }
        }
    }
}

/// A coordinate.
fn tenths(at: f64) -> String {
    format!("{at:.1}")
}

/// A picture of a number over time, and what it shows in words.
fn line(name: &str, plot: &Plot) -> Markup {
    let (least, most, last) = plot.range;
    let number = |value: f64| number_text(&value.to_string());
    let words = format!(
        "{name}: {} values from {} to {}, now {}",
        plot.count,
        number(least),
        number(most),
        number(last)
    );
    let (width, height) = SIZE;
    html! {
        figure {
            svg
                viewBox={ "0 0 " (width) " " (height) }
                width=(width)
                height=(height)
                role="img"
                aria-label=(words)
            {
                title { (words) }
                @for piece in &plot.pieces { polyline points=(piece) {} }
                circle cx=(tenths(plot.last.0)) cy=(tenths(plot.last.1)) r="3" {}
            }
            figcaption { (name) " " strong { (number(last)) } }
        }
    }
}

fn tables(all: &[RelationInfo]) -> Markup {
    html! {
        @if !all.is_empty() {
            section aria-labelledby="tables" {
                h2 #tables { "Tables and views" }
                (relations(all, "table"))
            }
        }
    }
}

fn aside(all: &[RelationInfo]) -> Markup {
    html! {
        @if !all.is_empty() {
            section aria-labelledby="aside" {
                h2 #aside { "Set aside" }
                p.empty {
                    "Rows that could not be decoded, broke an expectation, or were refused by a "
                    "sink."
                }
                (relations(all, "aside"))
            }
        }
    }
}

fn relations(all: &[RelationInfo], group: &str) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="relations" {
            table {
                thead {
                    tr {
                        th scope="col" { "Name" }
                        th scope="col" { "Kind" }
                        th scope="col" { "Job" }
                        th.number scope="col" { "Rows" }
                        th.number scope="col" { "Files" }
                    }
                }
                tbody {
                    @for one in all {
                        tr {
                            th scope="row" { (one.name) }
                            td { (one.kind) }
                            td { (one.job) }
                            (figure(group, one, "rows", one.rows))
                            (figure(group, one, "files", one.files))
                        }
                    }
                }
            }
        }
    }
}

fn figure(group: &str, of: &RelationInfo, what: &str, value: Option<u64>) -> Markup {
    let key = format!("{group}/{}/{what}", of.name);
    let text = value.map_or("–".to_string(), count);
    let odd = group == "aside" && what == "rows" && value.is_some_and(|value| value > 0);
    html! { td.number.bad[odd] data-live=(key) data-value=(text) { (text) } }
}

fn foot(look: &Look) -> Markup {
    html! {
        footer {
            p {
                "Sluice " (look.version) " · up " (age(look.uptime_ms)) " · " (look.who)
                " · " span #live { "as of now" }
            }
            nav aria-label="more" {
                a href="/docs/" { "API" }
                a href="/metrics" { "Metrics" }
                a href="/health" { "Health" }
            }
        }
    }
}

/// The same as long as what is shown is.
fn digest(shown: &impl std::fmt::Debug) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{shown:?}").hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A moment in words, which the script keeps true.
fn moment(moment: &Moment) -> Markup {
    html! {
        time datetime=(moment.utc) data-ms=(moment.ms) title=(moment.full) { (moment.words) }
    }
}

fn value_of(moment: Option<&Moment>) -> String {
    moment.map_or(String::new(), |moment| moment.ms.to_string())
}

fn word(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Running => "running",
        State::Waiting => "waiting",
        State::Paused => "paused",
        State::Failed => "failed",
    }
}

/// What can be done about a job, and how it is called.
fn buttons(job: &Job) -> &'static [(&'static str, &'static str)] {
    match job.state {
        State::Running if job.cancelled => &[("resume", "Resume")],
        State::Running => &[("cancel", "Cancel"), ("pause", "Pause")],
        State::Paused => &[("run", "Run"), ("resume", "Resume")],
        State::Idle | State::Waiting | State::Failed => &[("run", "Run"), ("pause", "Pause")],
    }
}

fn rows_text(rows: f64) -> String {
    number_text(&format!("{rows:.0}"))
}

fn millis(seconds: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(seconds)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A name as a segment of a path.
fn path(name: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    name.bytes().map(letter).collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
