//! What the project says about requests: which need whom, from where, how much of them.
//!
//! In: the definitions in force. Out: decisions from facts of a request. Nothing is answered here.
//! **Public by nature** are the probes and `/metrics` ([`PROBES`]), webhook routes, which verify
//! signatures of their own, and the files of the project's front end, without which nobody could sign
//! in. Public by declaration are endpoints with `role: public`. Everything else needs somebody.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, Method, Uri, header};
use sluice_runtime::job::{EndpointSpec, Project, Role};

/// Paths for who watches the process: names and figures, no rows but those that a job file puts into
/// `metrics:`. Never limited, or an overload would look like an outage.
pub(super) const PROBES: [&str; 5] =
    ["/health", "/health/startup", "/health/live", "/health/ready", "/metrics"];

/// Where our own routes are, which no endpoint makes public.
const OWN: [&str; 3] = ["/v1", "/docs", "/status"];

/// What an answer may take beyond the time that a query or a model may take: waiting for its turn,
/// writing. What is late is to say so itself before it is cut off.
const TIME_BEYOND: Duration = Duration::from_secs(30);

/// Who may ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Everybody, as often as they like.
    Probe,
    /// Everybody.
    Public,
    /// Callers with this role.
    Guarded(Role),
}

/// What the project says about requests.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Origins whose pages may call.
    pub(super) origins: Vec<String>,
    /// Who is believed about the address of a client.
    pub(super) proxies: Vec<Network>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether there is a front end.
    pub(super) site: bool,
    /// The largest body in bytes.
    pub(super) body: u64,
    /// How long until an answer begins.
    pub(super) time: Duration,
    /// Requests of one client within `per`.
    pub(super) requests: u32,
    /// See `requests`.
    pub(super) per: Duration,
}

/// A declared endpoint.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    method: Method,
    path: String,
    role: Option<Role>,
}

impl Rules {
    /// The rules of a project.
    pub(super) fn of(project: &Project) -> Self {
        let serve = &project.serve;
        let proxies = serve.proxies.iter().filter_map(|text| Network::parse(text));
        Self {
            origins: serve.cors.clone(),
            proxies: proxies.collect(),
            endpoints: project.endpoints.iter().filter_map(Endpoint::of).collect(),
            site: serve.site.is_some(),
            body: serve.limits.body,
            time: time_until(serve.limits.query_time, &project.endpoints),
            requests: serve.limits.requests,
            per: serve.limits.per,
        }
    }

    /// Who may ask for `path`; `routed` is whether it is a route, and not what lies behind all routes.
    pub(super) fn class(&self, method: &Method, path: &str, routed: bool) -> Class {
        let looks = matches!(*method, Method::GET | Method::HEAD);
        if PROBES.contains(&path) {
            return if looks { Class::Probe } else { Class::Public };
        }
        if !is_own(path) {
            if let Some(endpoint) = self.endpoint(method, path) {
                return endpoint.role.map_or(Class::Public, Class::Guarded);
            }
            // It is answered with the methods that everybody may ask by.
            if self.all_at(path).any(|endpoint| endpoint.role.is_none()) {
                return Class::Public;
            }
            if self.site && looks && !routed {
                return Class::Public;
            }
        }
        Class::Guarded(Role::Read)
    }

    /// Whether an endpoint has the path, asked by whatever method.
    pub(super) fn is_declared(&self, path: &str) -> bool {
        self.all_at(path).next().is_some()
    }

    /// The path of the endpoint that answers, as it was declared.
    pub(super) fn template(&self, method: &Method, path: &str) -> Option<&str> {
        self.endpoint(method, path).map(|endpoint| endpoint.path.as_str())
    }

    /// Of several that fit the one that leaves least open answers, and so it decides.
    fn endpoint(&self, method: &Method, path: &str) -> Option<&Endpoint> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let found = self.all_at(path).filter(|endpoint| endpoint.method == *method);
        found.min_by_key(|endpoint| placeholders(&endpoint.path))
    }

    /// Those that have the path.
    fn all_at<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Endpoint> {
        let fits = move |endpoint: &&Endpoint| matches_path(&endpoint.path, path);
        self.endpoints.iter().filter(move |_| !is_own(path)).filter(fits)
    }

    /// Whether pages of `origin` may call.
    pub(super) fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }

    /// Whether pages of `origin` may change something. `*` vouches for nobody: it is for pages that
    /// bring a token themselves, which no browser sends along.
    fn trusts(&self, origin: &str, headers: &HeaderMap) -> bool {
        let named = |known: &String| known != "*" && known.eq_ignore_ascii_case(origin);
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().get(..7));
        let brings = token.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        self.origins.iter().any(named) || (brings && self.allows(origin))
    }

    /// Whether a page of somebody else makes a browser send this: it would send what the browser knows
    /// of its user along, such as the password of Basic.
    pub(super) fn is_foreign(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return false;
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match text("origin") {
            Some(origin) => {
                let host = origin.split_once("://").map_or("", |(_, host)| host);
                let own = authority(uri, headers).is_some_and(|own| own.eq_ignore_ascii_case(host));
                !own && !self.trusts(origin, headers)
            }
            None => text("sec-fetch-site") == Some("cross-site"),
        }
    }

    /// The address of the client: that of the connection, or what trusted proxies say of it.
    pub(super) fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let trusted = |a: &IpAddr| self.proxies.iter().any(|network| network.contains(*a));
        let peer = peer?.to_canonical();
        if !trusted(&peer) {
            return Some(peer);
        }
        // Each proxy adds whom it talks to at the end; the first that is none of ours is the client.
        let told = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let told: Vec<&str> = told.flat_map(|value| value.split(',')).collect();
        let mut client = peer;
        for text in told.into_iter().rev() {
            let Ok(address) = text.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !trusted(&client) {
                break;
            }
        }
        Some(client)
    }
}

impl Endpoint {
    fn of(spec: &EndpointSpec) -> Option<Self> {
        let method = Method::from_bytes(spec.method.name().as_bytes()).ok()?;
        Some(Self { method, path: spec.path.clone(), role: spec.role })
    }
}

/// How long until an answer begins, at most.
fn time_until(query_time: Duration, endpoints: &[EndpointSpec]) -> Duration {
    let models = endpoints.iter().filter_map(|endpoint| endpoint.forward.as_ref());
    models.map(|model| model.timeout).fold(query_time, Duration::max) + TIME_BEYOND
}

/// Whether `address` is one of the project's proxies.
pub(super) fn is_proxy(project: &Project, address: IpAddr) -> bool {
    let mut networks = project.serve.proxies.iter().filter_map(|text| Network::parse(text));
    networks.any(|network| network.contains(address.to_canonical()))
}

/// Whether the host that is asked for is this machine, as far as it is said. A page of somebody else
/// whose name was turned to point here says another name.
pub(super) fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(authority) = authority(uri, headers) else { return true };
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let told = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    told.or_else(|| uri.authority().map(|authority| authority.as_str()))
}

/// Whether a path is one of ours, whatever the project says.
pub(crate) fn is_own(path: &str) -> bool {
    PROBES.contains(&path) || OWN.iter().any(|own| is_below(path, own))
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `{name}` in a template stands for what `path` has there.
fn matches_path(template: &str, path: &str) -> bool {
    let mut parts = template.split('/');
    let mut given = path.split('/');
    loop {
        match (parts.next(), given.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) => {
                let fits = if is_placeholder(part) { !given.is_empty() } else { part == given };
                if !fits {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn is_placeholder(part: &str) -> bool {
    part.starts_with('{') && part.ends_with('}')
}

/// How many segments are open.
fn placeholders(template: &str) -> usize {
    template.split('/').filter(|part| is_placeholder(part)).count()
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                (u32::from(own) ^ u32::from(other)) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                (u128::from(own) ^ u128::from(other)) & mask == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
impl Rules {
    /// Rules for tests: `requests` a minute, bodies of 1 KiB, nothing declared.
    pub(super) fn plain(requests: u32) -> Self {
        Self {
            origins: Vec::new(),
            proxies: Vec::new(),
            endpoints: Vec::new(),
            site: false,
            body: 1024,
            time: Duration::from_secs(60),
            requests,
            per: Duration::from_secs(60),
        }
    }

    /// With an endpoint that needs `role`, or nobody.
    pub(super) fn with_endpoint(mut self, method: Method, path: &str, role: Option<Role>) -> Self {
        self.endpoints.push(Endpoint { method, path: path.to_string(), role });
        self
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use sluice_runtime::job::{ForwardSpec, Method as Asked, Shape};

    use super::*;

    #[test]
    fn what_is_not_declared_needs_somebody() {
        let mut rules = Rules::plain(100)
            .with_endpoint(Method::GET, "/api/{what}", None)
            .with_endpoint(Method::GET, "/api/admin", Some(Role::Admin))
            .with_endpoint(Method::POST, "/api/chat", Some(Role::Read))
            .with_endpoint(Method::GET, "/v1/jobs", None);
        let (read, admin) = (Class::Guarded(Role::Read), Class::Guarded(Role::Admin));
        let cases = [
            (Method::GET, "/health/ready", Class::Probe),
            (Method::POST, "/metrics", Class::Public),
            (Method::GET, "/health/other", read),
            (Method::GET, "/api/trips", Class::Public),
            (Method::HEAD, "/api/trips", Class::Public),
            (Method::POST, "/api/trips", Class::Public),
            (Method::POST, "/api/trips/1", read),
            (Method::GET, "/api/admin", admin),
            (Method::GET, "/api/trips/1", read),
            (Method::GET, "/api/", read),
            (Method::POST, "/api/chat", read),
            (Method::GET, "/v1/jobs", read),
            (Method::GET, "/nothing", read),
        ];
        for (method, path, class) in &cases {
            assert_eq!(rules.class(method, path, false), *class, "{method} {path}");
        }
        rules.site = true;
        assert_eq!(rules.class(&Method::GET, "/index.html", false), Class::Public);
        assert_eq!(rules.class(&Method::GET, "/", true), read);
        assert_eq!(rules.class(&Method::GET, "/v1/nothing", false), read);
        assert_eq!(rules.class(&Method::POST, "/index.html", false), read);
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn pages_of_others_cannot_send_for_their_visitors() {
        let rules = Rules { origins: vec!["https://app.example".into()], ..Rules::plain(1) };
        let uri = Uri::from_static("/v1/reload");
        let cases: [(&[(&str, &str)], bool); 7] = [
            (&[], false),
            (&[("host", "a:80"), ("origin", "http://a:80")], false),
            (&[("host", "a:80"), ("origin", "http://b")], true),
            (&[("host", "a:80"), ("origin", "null")], true),
            (&[("host", "a:80"), ("origin", "https://app.example")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-origin")], false),
        ];
        for (pairs, foreign) in cases {
            let headers = headers(pairs);
            assert_eq!(rules.is_foreign(&Method::POST, &uri, &headers), foreign, "{pairs:?}");
            assert!(!rules.is_foreign(&Method::GET, &uri, &headers));
        }
    }

    #[test]
    fn an_api_for_all_pages_lets_none_send_for_their_visitors() {
        let rules = Rules { origins: vec!["*".into()], ..Rules::plain(1) };
        let uri = Uri::from_static("/v1/reload");
        assert!(rules.allows("http://b"));
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[("origin", "http://b")], true),
            (&[("origin", "http://b"), ("authorization", "Basic YTpi")], true),
            (&[("origin", "http://b"), ("authorization", "Bearer token")], false),
            (&[("origin", "*")], true),
            (&[("origin", "http://a:80")], false),
        ];
        for (pairs, foreign) in cases {
            let mut sent = headers(pairs);
            sent.insert(header::HOST, HeaderValue::from_static("a:80"));
            assert_eq!(rules.is_foreign(&Method::POST, &uri, &sent), foreign, "{pairs:?}");
            assert!(!rules.is_foreign(&Method::GET, &uri, &sent));
        }
    }

    #[test]
    fn who_waits_for_a_model_waits_longer_than_the_model_may_take() {
        let seconds = Duration::from_secs;
        let endpoint = |timeout| EndpointSpec {
            name: "chat".to_string(),
            path: "/api/chat".to_string(),
            method: Asked::Post,
            sql: None,
            statement: None,
            params: Vec::new(),
            shape: Shape::Object,
            role: None,
            cache: None,
            forward: Some(ForwardSpec {
                url: String::new(),
                model: String::new(),
                key: None,
                timeout: seconds(timeout),
                system: String::new(),
                conversations: None,
                messages: None,
            }),
            doc: String::new(),
            pointer: String::new(),
        };
        assert_eq!(time_until(seconds(30), &[]), seconds(60));
        assert_eq!(time_until(seconds(30), &[endpoint(5)]), seconds(60));
        assert_eq!(time_until(seconds(30), &[endpoint(300), endpoint(60)]), seconds(330));
    }

    #[test]
    fn names_that_point_here_are_not_this_machine() {
        let uri = Uri::from_static("/");
        let cases = [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("[::1]:8080", true),
            ("app.localhost", true),
            ("evil.example:8080", false),
            ("10.0.0.1", false),
            ("localhost.evil.example", false),
        ];
        for (host, local) in cases {
            assert_eq!(is_local(&uri, &headers(&[("host", host)])), local, "{host}");
        }
        assert!(is_local(&uri, &HeaderMap::new()));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = ["10.0.0.0/8", "::1"].map(|text| Network::parse(text).unwrap());
        let rules = Rules { proxies: proxies.to_vec(), ..Rules::plain(1) };
        let told =
            headers(&[("x-forwarded-for", "6.6.6.6, 1.2.3.4"), ("x-forwarded-for", "10.1.1.1")]);
        let cases = [
            ("10.0.0.9", "1.2.3.4"),
            ("::ffff:10.0.0.9", "1.2.3.4"),
            ("::1", "1.2.3.4"),
            ("11.0.0.9", "11.0.0.9"),
        ];
        for (peer, client) in cases {
            let found = rules.client(Some(peer.parse().unwrap()), &told);
            assert_eq!(found, Some(client.parse().unwrap()), "{peer}");
        }
        assert_eq!(rules.client(None, &told), None);
        let odd = headers(&[("x-forwarded-for", "nonsense")]);
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        assert_eq!(rules.client(Some(peer), &odd), Some(peer));
    }

    #[test]
    fn networks_are_read() {
        let cases = [
            ("10.0.0.0/8", Some("10.255.0.1"), "11.0.0.1"),
            ("0.0.0.0/0", Some("8.8.8.8"), "::1"),
            ("192.168.1.7", Some("192.168.1.7"), "192.168.1.8"),
            ("fd00::/8", Some("fd12::1"), "fe80::1"),
            ("10.0.0.0/33", None, ""),
            ("x/8", None, ""),
        ];
        for (text, inside, outside) in cases {
            let network = Network::parse(text);
            assert_eq!(network.is_some(), inside.is_some(), "{text}");
            if let (Some(network), Some(inside)) = (network, inside) {
                assert!(network.contains(inside.parse().unwrap()), "{text}");
                assert!(!network.contains(outside.parse().unwrap()), "{text}");
            }
        }
    }
}
