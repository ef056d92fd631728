//! `serve:`: addresses, folders, limits and times, with what they are when nobody says.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::model::{ServeLimits, ServeSpec, TlsSpec};
use super::read::Reader;
use super::spec::{LimitsEntry, ServeEntry};
use crate::job::named::Size;
use crate::job::suggest;

/// Where HTTP is served when nobody says: on this machine only.
const HTTP: &str = "127.0.0.1:8080";

/// The folder of a project's state, beside its file.
const STATE: &str = ".sluice";

/// How long the end of the process may take when nobody says: what Kubernetes gives as well.
const DRAIN: Duration = Duration::from_secs(30);

/// At least so many queries run at once on small machines: one that waits for a store keeps no
/// core.
const QUERIES_MIN: usize = 4;

impl Default for ServeLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            requests: 100,
            per: Duration::from_secs(60),
            query_memory: 256 << 20,
            query_time: Duration::from_secs(30),
            query_rows: 1_000_000,
            queries: (2 * cores).max(QUERIES_MIN),
            queue: 64,
            cache: 64 << 20,
            connections: 1024,
            body: 1 << 20,
        }
    }
}

impl ServeSpec {
    /// What holds for a project in `root` that says nothing.
    pub(super) fn of(root: &Path) -> Self {
        Self {
            http: HTTP.to_string(),
            postgres: None,
            tls: None,
            state: root.join(STATE),
            site: None,
            cors: Vec::new(),
            proxies: Vec::new(),
            limits: ServeLimits::default(),
            drain: DRAIN,
            timezone: Tz::UTC,
            take_over: false,
            history: None,
        }
    }
}

/// Whether `address`, as `host:port`, can be reached from this machine only.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Reader<'_, '_> {
    pub(super) fn serve(&mut self, root: &Path, entry: ServeEntry) -> ServeSpec {
        let default = ServeSpec::of(root);
        for (key, address) in [("http", &entry.http), ("postgres", &entry.postgres)] {
            if let Some(address) = address {
                self.check_address(&format!("/serve/{key}"), address);
            }
        }
        self.check_origins(&entry.cors);
        self.check_proxies(&entry.proxies);
        let drain = self.time("/serve/drain", entry.drain);
        if let Some(state) = entry.state.as_ref().filter(|state| state.contains("://")) {
            let message = format!("the state is kept on the local disk text={state}");
            let hint = "name a folder there, such as `.sluice`; tables lie in `lake:`, which may be a \
                        bucket";
            self.builder.report.at("/serve/state", message, hint);
        }
        let file = |name: &String| root.join(name);
        let site = entry.site.as_ref().map(file);
        if let Some(site) = &site {
            self.check_site(site);
        }
        ServeSpec {
            http: entry.http.unwrap_or(default.http),
            postgres: entry.postgres,
            tls: entry.tls.map(|tls| TlsSpec { cert: file(&tls.cert), key: file(&tls.key) }),
            state: entry.state.as_ref().map_or(default.state, file),
            site,
            cors: entry.cors,
            proxies: entry.proxies,
            limits: self.limits(entry.limits),
            drain: drain.unwrap_or(default.drain),
            timezone: self.timezone(entry.timezone).unwrap_or(default.timezone),
            take_over: false,
            history: entry.history,
        }
    }

    fn limits(&mut self, entry: LimitsEntry) -> ServeLimits {
        let default = ServeLimits::default();
        let narrow = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        ServeLimits {
            requests: entry.requests.unwrap_or(default.requests),
            per: self.time("/serve/limits/per", entry.per).unwrap_or(default.per),
            query_memory: self.bytes("query_memory", entry.query_memory, default.query_memory),
            query_time: self
                .time("/serve/limits/query_time", entry.query_time)
                .unwrap_or(default.query_time),
            query_rows: entry.query_rows.unwrap_or(default.query_rows),
            queries: entry.queries.map_or(default.queries, narrow),
            queue: entry.queue.map_or(default.queue, narrow),
            cache: self.bytes("cache", entry.cache, default.cache),
            connections: entry.connections.map_or(default.connections, narrow),
            body: self.bytes("body", entry.body, default.body),
        }
    }

    fn bytes(&mut self, key: &str, size: Option<Size>, default: u64) -> u64 {
        let place = format!("/serve/limits/{key}");
        size.and_then(|size| self.builder.size(&place, &size)).unwrap_or(default)
    }

    pub(super) fn time(&mut self, pointer: &str, text: Option<String>) -> Option<Duration> {
        text.and_then(|text| self.builder.positive(pointer, &text)).filter(|time| !time.is_zero())
    }

    fn timezone(&mut self, name: Option<String>) -> Option<Tz> {
        let name = name?;
        match name.parse() {
            Ok(zone) => Some(zone),
            Err(_) => {
                let known = TZ_VARIANTS.iter().map(|zone| zone.name());
                let otherwise = "write a name of the tz database, such as Europe/Paris or UTC";
                let hint = suggest::names(&name, known, otherwise);
                let message = format!("no such time zone name={name}");
                self.builder.report.at("/serve/timezone", message, hint);
                None
            }
        }
    }

    fn check_site(&mut self, site: &Path) {
        if !site.is_dir() && !self.builder.is_damaged("/serve/site") {
            let message = format!("no such folder site={}", site.display());
            let hint = "name the folder of the front end's files, relative to this file, or make it; \
                        without `site:` the status page is at /";
            self.builder.report.at("/serve/site", message, hint);
        }
    }

    fn check_address(&mut self, pointer: &str, address: &str) {
        let parts = address.rsplit_once(':');
        let is_address =
            parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            let message = format!("not an address text={address}");
            let hint = "write host:port, such as 127.0.0.1:8080 or 0.0.0.0:8080";
            self.builder.report.at(pointer, message, hint);
        } else if !is_loopback(address) && !self.builder.has_entries("users") {
            let message =
                format!("others can reach this address and nobody is known address={address}");
            let hint = "add `users:` with tokens, or serve at 127.0.0.1 only";
            self.builder.report.at(pointer, message, hint);
        }
    }

    fn check_proxies(&mut self, proxies: &[String]) {
        for (i, text) in proxies.iter().enumerate() {
            let (address, bits) =
                text.split_once('/').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
            let most = address.parse().map(|a: IpAddr| if a.is_ipv4() { 32 } else { 128 });
            let fits = |most: u8| bits.is_none_or(|b| b.parse::<u8>().is_ok_and(|b| b <= most));
            if !most.is_ok_and(fits) {
                let message = format!("neither an address nor a network text={text}");
                let hint = "write it as 10.0.0.7 or 10.0.0.0/8";
                self.builder.report.at(&format!("/serve/proxies/{i}"), message, hint);
            }
        }
    }

    fn check_origins(&mut self, origins: &[String]) {
        for (i, origin) in origins.iter().enumerate() {
            let rest =
                ["https://", "http://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
            let is_origin = rest.is_some_and(|host| !host.is_empty() && !host.contains('/'));
            let pointer = format!("/serve/cors/{i}");
            if origin == "*" {
                if !self.builder.has_entries("users") {
                    let message = "pages of everybody may call and nobody is known".to_string();
                    let hint = "add `users:` with tokens, or name the origins that may call";
                    self.builder.report.at(&pointer, message, hint);
                }
            } else if !is_origin {
                let message = format!("not an origin text={origin}");
                let hint = "write scheme and host, such as https://app.example.com, without a path";
                self.builder.report.at(&pointer, message, hint);
            }
        }
    }
}
