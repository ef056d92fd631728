//! Which source a path belongs to.
//!
//! In: paths of job files, `/hooks/{tenant}/orders`, and the path of a request. Out: the route.
//! Where several fit, the one that says more of the path's beginning. It knows no requests.

use std::sync::Arc;

use sluice_core::{Error, Result};
use tokio::sync::Semaphore;

use super::channel::Channel;
use super::config::Settings;
use super::limit::Bucket;

/// Where a server has pages of its own.
const RESERVED: [&str; 5] = ["v1", "docs", "health", "metrics", "status"];

/// A path with places that stand for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Arc<str>,
    /// None stands for anything.
    segments: Vec<Option<String>>,
}

impl Pattern {
    /// Reads a path. Errors: of kind `Config`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::config(format!("not a path of a webhook path={text:?}: {what}"))
                .hint("write it like /hooks/orders or /hooks/{tenant}/orders")
        };
        let inside = text.strip_prefix('/').ok_or_else(|| wrong("it begins with no /"))?;
        let inside = inside.strip_suffix('/').unwrap_or(inside);
        let mut segments = Vec::new();
        for segment in inside.split('/') {
            if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(legal) {
                    return Err(wrong("names have letters, digits and _ only"));
                }
                segments.push(None);
                continue;
            }
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
            if segment.is_empty() || !segment.chars().all(legal) {
                return Err(wrong("segments have letters, digits and - _ . ~ only"));
            }
            segments.push(Some(segment.to_string()));
        }
        match segments.first() {
            Some(None) => Err(wrong("it begins with anything")),
            Some(Some(first)) if RESERVED.contains(&first.as_str()) => {
                Err(wrong("a server has pages of its own there"))
            }
            _ => Ok(Self { text: text.into(), segments }),
        }
    }

    /// As it was written.
    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it is the pattern's.
    pub(super) fn fits(&self, path: &str) -> bool {
        let Some(inside) = path.strip_prefix('/') else { return false };
        let mut given = inside.strip_suffix('/').unwrap_or(inside).split('/');
        let all = self.segments.iter().all(|wanted| {
            given.next().is_some_and(|segment| match wanted {
                Some(text) => text == segment,
                None => !segment.is_empty(),
            })
        });
        all && given.next().is_none()
    }

    /// Whether it begins with `word`.
    fn begins(&self, word: &str) -> bool {
        self.segments.first().is_some_and(|first| first.as_deref() == Some(word))
    }

    /// Whether the same paths fit.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.segments == other.segments
    }

    /// Where it says something; more at the beginning is more.
    fn rank(&self) -> Vec<bool> {
        self.segments.iter().map(Option::is_some).collect()
    }
}

/// A source that is sent to.
pub(super) struct Route {
    pub job: String,
    pub source: String,
    pub settings: Settings,
    pub channel: Arc<Channel>,
    pub bucket: Option<Bucket>,
    /// One per request that may be worked on.
    pub permits: Arc<Semaphore>,
}

/// All routes.
#[derive(Clone, Default)]
pub(super) struct Table(Vec<Arc<Route>>);

impl Table {
    /// The route of a path.
    pub(super) fn find(&self, path: &str) -> Option<Arc<Route>> {
        let fitting = self.0.iter().filter(|route| route.settings.pattern.fits(path));
        fitting.max_by_key(|route| route.settings.pattern.rank()).cloned()
    }

    /// Whether a path begins with the same word as that of a route.
    pub(super) fn is_near(&self, path: &str) -> bool {
        let word = path.strip_prefix('/').and_then(|inside| inside.split('/').next());
        word.is_some_and(|word| self.0.iter().any(|r| r.settings.pattern.begins(word)))
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Arc<Route>] {
        &self.0
    }

    /// With `route` in place of what its source had. Errors: `Config` when another source has the
    /// path.
    pub(super) fn with(&self, route: Route) -> Result<Self> {
        let is_it = |r: &Arc<Route>| r.job == route.job && r.source == route.source;
        let mut routes: Vec<_> = self.0.iter().filter(|r| !is_it(r)).cloned().collect();
        let pattern = &route.settings.pattern;
        if let Some(other) = routes.iter().find(|r| r.settings.pattern.is_same(pattern)) {
            return Err(clash(pattern, &other.job, &other.source));
        }
        routes.push(Arc::new(route));
        Ok(Self(routes))
    }

    /// Without the sources that are not to stay.
    pub(super) fn retain(&self, stays: impl Fn(&str, &str) -> bool) -> Self {
        Self(self.0.iter().filter(|r| stays(&r.job, &r.source)).cloned().collect())
    }
}

/// Two sources have one path.
pub(super) fn clash(pattern: &Pattern, job: &str, source: &str) -> Error {
    let text = pattern.text();
    Error::config(format!("another source has the path path={text} job={job} source={source}"))
        .hint("give one of them another path")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn paths_fit_or_do_not() {
        let cases = [
            ("/hooks/orders", "/hooks/orders", true),
            ("/hooks/orders", "/hooks/orders/", true),
            ("/hooks/orders/", "/hooks/orders", true),
            ("/hooks/orders", "/hooks", false),
            ("/hooks/orders", "/hooks/orders/1", false),
            ("/hooks/{tenant}/x", "/hooks/a-b/x", true),
            ("/hooks/{tenant}/x", "/hooks//x", false),
            ("/hooks/{tenant}", "/hooks/..", true),
            ("/hooks/orders", "hooks/orders", false),
        ];
        for (text, path, fits) in cases {
            assert_eq!(pattern(text).fits(path), fits, "{text} {path}");
        }
        for text in ["", "x", "/", "//", "/a//b", "/{a}", "/a/{}", "/a/{b-c}", "/a?b", "/v1/x"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        assert!(pattern("/a/{b}").is_same(&pattern("/a/{c}")));
        assert!(!pattern("/a/{b}").is_same(&pattern("/a/b")));
        assert!(pattern("/a/b/{c}").rank() > pattern("/a/{b}/c").rank());
        assert!(pattern("/a/{b}").begins("a") && !pattern("/a/{b}").begins("b"));
    }
}
