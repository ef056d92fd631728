//! The whole shell around small routers: who is let in, what is refused and how, and a restart under
//! load on real sockets.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{Method, header};
use axum::response::Response;
use axum::routing::{get, post};
use futures::{StreamExt as _, stream};
use sluice_core::metric::Unrecorded;
use sluice_core::{ManualClock, Secrets};
use sluice_runtime::job::{Role, TokenRef, UserSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use super::listen::Conduct;
use super::socket::Bound;
use super::*;
use crate::clock::{RandomIds, SystemClock};
use crate::metrics::OPEN_METRICS;

pub(super) const READER: &str = "reader-0123456789";
const ADMIN: &str = "admin-0123456789";

fn access(open: bool) -> Arc<Access> {
    let user = |name: &str, role, token| UserSpec {
        name: name.to_string(),
        role,
        token: TokenRef::Sha256(digest_text(token)),
    };
    let users = [user("ana", Role::Read, READER), user("ops", Role::Admin, ADMIN)];
    let users = if open { &users[..0] } else { &users[..] };
    Arc::new(Access::new(users, &Secrets::default()).unwrap())
}

pub(super) fn shell(rules: Rules, open: bool) -> Shell {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000));
    let board = Board::new(crate::memory::pool(64 << 20));
    let health = Health::new(clock.clone(), board.clone());
    health.started();
    let hooks = Router::new().route("/in/{who}", post(|body: Bytes| async move { length(&body) }));
    Shell {
        ids: Arc::new(RandomIds),
        metrics: board.clone(),
        board,
        access: access(open),
        health,
        limiter: RwLock::new(Arc::new(limiter(&rules, &clock))),
        attempts: Limiter::new(ATTEMPTS_MAX, Duration::from_secs(60), clock.clone()),
        rules: RwLock::new(Arc::new(rules)),
        hooks: Some(Hooks {
            template: Box::new(|path: &str| path.starts_with("/in/").then(|| "/in/{who}".into())),
            near: Box::new(|path: &str| path.starts_with("/in-vain/")),
            router: hooks,
        }),
        told: Box::new(|| (Vec::new(), Value::Null)),
        figures: Mutex::default(),
        stop: CancellationToken::new(),
        at_work: AtomicUsize::new(0),
        clock,
    }
}

fn length(body: &Bytes) -> String {
    body.len().to_string()
}

async fn broken() -> &'static str {
    std::panic::panic_any("the inside of a handler")
}

fn routes() -> Router {
    let admin = Router::new().route("/v1/reload", post(|| async { "reloaded" }));
    Router::new()
        .route("/v1/jobs/{job}", get(|caller: Caller| async move { caller.name }))
        .route("/v1/body", post(|body: Bytes| async move { length(&body) }))
        .route("/v1/broken", get(broken))
        .route("/api/open", get(|| async { "open" }))
        .merge(admin.route_layer(require(Role::Admin)))
}

fn app_of(rules: Rules) -> Router {
    let rules = rules.with_endpoint(Method::GET, "/api/open", None);
    Arc::new(shell(rules, false)).wrap(routes())
}

/// A request with a token, if it is not empty.
pub(super) fn request(method: &str, path: &str, token: &str) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

/// The request with one more header.
pub(super) fn with(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(super) async fn ask(app: &Router, request: Request) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

async fn status(app: &Router, request: Request) -> u16 {
    ask(app, request).await.status().as_u16()
}

pub(super) async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn told<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn only_those_who_may_are_let_in() {
    let cases = [
        ("GET", "/health/live", "", 200),
        ("GET", "/health/live", "forged", 200),
        ("GET", "/api/open", "", 200),
        ("GET", "/api/open", "forged", 200),
        ("POST", "/in/them", "", 200),
        ("GET", "/v1/jobs/a", "", 401),
        ("GET", "/v1/jobs/a", "forged", 401),
        ("GET", "/v1/jobs/a", READER, 200),
        ("POST", "/v1/reload", "", 401),
        ("POST", "/v1/reload", READER, 403),
        ("POST", "/v1/reload", ADMIN, 200),
        ("GET", "/v1/nothing", "", 401),
        ("GET", "/v1/nothing", READER, 404),
        ("DELETE", "/v1/jobs/a", READER, 405),
        ("POST", "/health", "", 405),
        ("POST", "/api/open", "", 405),
        ("POST", "/in-vain/them", "", 404),
    ];
    for (method, path, token, expected) in cases {
        let app = app_of(Rules::plain(1_000));
        assert_eq!(status(&app, request(method, path, token)).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn paths_that_wind_lead_nowhere() {
    let app = app_of(Rules::plain(1_000));
    for path in [
        "/health/../v1/jobs/a",
        "//health/live",
        "/health/live/",
        "/api/open/../../v1/jobs/a",
        "/api/%6fpen",
        "/v1/jobs/..%2f..%2fetc%2fpasswd/x",
        "/health/live%00",
    ] {
        assert_eq!(status(&app, request("GET", path, "")).await, 401, "{path}");
    }
}

#[tokio::test]
async fn refusals_are_problems_with_the_requests_id() {
    let app = app_of(Rules::plain(1_000));
    let cases = [
        ("/v1/jobs/a", "", "unauthenticated"),
        ("/v1/nothing", READER, "not_found"),
        ("/v1/reload", ADMIN, "method_not_allowed"),
        ("/v1/broken", READER, "internal"),
    ];
    for (path, token, code) in cases {
        let response = ask(&app, with(request("GET", path, token), "x-request-id", "mine-1")).await;
        assert_eq!(told(&response, "content-type"), "application/problem+json", "{path}");
        assert_eq!(told(&response, "x-request-id"), "mine-1");
        let status = response.status().as_u16();
        let body = text(response).await;
        assert!(!body.contains("inside"), "{body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["code"], code, "{body}");
        assert_eq!(problem["status"], status, "{body}");
        assert_eq!(problem["request_id"], "mine-1", "{path}: {body}");
    }
}

#[tokio::test]
async fn ids_that_carry_something_are_replaced() {
    let app = app_of(Rules::plain(1_000));
    for id in ["", "a b", "x;y=1", "\"><script>"] {
        let request = request("GET", "/v1/jobs/%0d%0aset-cookie:%20a=b", "");
        let response = ask(&app, with(request, "x-request-id", id)).await;
        let own = told(&response, "x-request-id").to_string();
        assert!(own.len() >= 16 && own != id, "{own}");
        assert!(!response.headers().contains_key("set-cookie"));
        let body = text(response).await;
        assert!(body.contains(&own) && !body.contains("script"), "{body}");
    }
}

#[tokio::test]
async fn browsers_are_asked_for_a_password_and_kept_in() {
    let app = app_of(Rules::plain(1_000));
    let page = with(request("GET", "/v1/jobs/a", ""), "accept", "text/html,*/*");
    let response = ask(&app, page).await;
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    let challenges: Vec<_> = challenges.map(|value| value.to_str().unwrap()).collect();
    assert!(challenges.len() == 2 && challenges[1].starts_with("Basic "), "{challenges:?}");
    let response = ask(&app, request("GET", "/v1/jobs/a", READER)).await;
    assert_eq!(told(&response, "x-content-type-options"), "nosniff");
    assert_eq!(told(&response, "x-frame-options"), "DENY");
    assert_eq!(told(&response, "referrer-policy"), "no-referrer");
    assert_eq!(told(&response, "cache-control"), "private, no-cache");
}

#[tokio::test]
async fn each_client_has_a_bucket() {
    let app = app_of(Rules::plain(3));
    for left in ["2", "1", "0"] {
        let response = ask(&app, request("GET", "/v1/jobs/a", READER)).await;
        assert_eq!(
            (response.status().as_u16(), told(&response, "ratelimit-remaining")),
            (200, left)
        );
    }
    let response = ask(&app, request("GET", "/v1/jobs/a", READER)).await;
    assert_eq!(response.status().as_u16(), 429);
    assert_eq!(told(&response, "retry-after"), "20");
    assert_eq!(told(&response, "ratelimit-limit"), "3");
    assert_eq!(status(&app, request("GET", "/v1/jobs/a", ADMIN)).await, 200);
    for (method, path) in [("GET", "/health/ready"), ("GET", "/metrics"), ("POST", "/in/them")] {
        for _ in 0..10 {
            assert_eq!(status(&app, request(method, path, "")).await, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn guessing_ends_soon() {
    let app = app_of(Rules::plain(1_000));
    for n in 0..ATTEMPTS_MAX {
        let guess = format!("guess-{n}");
        assert_eq!(status(&app, request("GET", "/v1/jobs/a", &guess)).await, 401);
    }
    let response = ask(&app, request("GET", "/v1/jobs/a", "guess")).await;
    assert_eq!(response.status().as_u16(), 429);
    assert!(!told(&response, "retry-after").is_empty());
    assert_eq!(status(&app, request("GET", "/v1/jobs/a", READER)).await, 200);
}

fn with_body(path: &str, body: Body) -> Request {
    let mut request = request("POST", path, READER);
    *request.body_mut() = body;
    request
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let app = app_of(Rules::plain(1_000));
    let chunks = |count: usize| {
        let chunk = |_| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 256]));
        Body::from_stream(stream::iter((0..count).map(chunk)))
    };
    assert_eq!(status(&app, with_body("/v1/body", chunks(4))).await, 200);
    assert_eq!(status(&app, with_body("/v1/body", chunks(5))).await, 413);
    let said = with(with_body("/v1/body", Body::from("x")), "content-length", "1025");
    assert_eq!(status(&app, said).await, 413);
    // Webhooks have limits of their own.
    let response = ask(&app, with_body("/in/them", chunks(100))).await;
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "25600"));
}

#[tokio::test]
async fn bodies_that_do_not_come_are_not_waited_for() {
    let app = app_of(Rules { time: Duration::from_secs(86_400), ..Rules::plain(1_000) });
    for path in ["/v1/body", "/in/them"] {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let body = Body::from_stream(first.chain(stream::pending()));
        // The clock moves as it is waited for.
        assert_eq!(status(&app, with_body(path, body)).await, 408, "{path}");
    }
}

#[tokio::test]
async fn only_pages_of_known_origins_may_call() {
    let rules = Rules { origins: vec!["https://app.example".into()], ..Rules::plain(1_000) };
    let app = app_of(rules);
    let preflight = |origin: &'static str| {
        let asked = with(request("OPTIONS", "/v1/jobs/a", ""), "origin", origin);
        with(asked, "access-control-request-method", "GET")
    };
    let response = ask(&app, preflight("https://app.example")).await;
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(told(&response, "access-control-allow-origin"), "https://app.example");
    assert!(told(&response, "access-control-allow-headers").contains("authorization"));
    let response = ask(&app, preflight("https://evil.example")).await;
    assert_eq!(told(&response, "access-control-allow-origin"), "");

    for (origin, expected) in [("https://evil.example", 403), ("https://app.example", 200)] {
        let sent = with(request("POST", "/v1/reload", ADMIN), "origin", origin);
        assert_eq!(status(&app, sent).await, expected, "{origin}");
    }
}

#[tokio::test]
async fn without_users_only_this_machine_is_answered() {
    let app = Arc::new(shell(Rules::plain(1_000), true)).wrap(routes());
    for (host, expected) in [("localhost:8080", 200), ("evil.example", 403)] {
        let asked = with(request("POST", "/v1/reload", ""), "host", host);
        assert_eq!(status(&app, asked).await, expected, "{host}");
    }
}

#[tokio::test]
async fn new_rules_count_at_once() {
    let shell = Arc::new(shell(Rules::plain(1), false));
    let app = shell.clone().wrap(routes());
    assert_eq!(status(&app, request("GET", "/v1/jobs/a", READER)).await, 200);
    shell.take_on(Rules { body: 1, ..Rules::plain(1) });
    assert_eq!(status(&app, request("GET", "/v1/jobs/a", READER)).await, 429);
    shell.take_on(Rules { body: 1, ..Rules::plain(5) });
    assert_eq!(status(&app, with_body("/v1/body", Body::from("xx"))).await, 413);
}

#[tokio::test]
async fn figures_have_templates_and_no_paths() {
    let app = app_of(Rules::plain(1_000));
    for path in ["/v1/jobs/a?token=secret", "/v1/jobs/b", "/v1/nothing/1", "/v1/nothing/2"] {
        text(ask(&app, request("GET", path, READER)).await).await;
    }
    text(ask(&app, request("POST", "/in/them", "")).await).await;
    text(ask(&app, request("GET", "/v1/jobs/a", "")).await).await;
    let response = ask(&app, request("GET", "/metrics", "")).await;
    assert_eq!(told(&response, "content-type"), OPEN_METRICS);
    let page = text(response).await;
    let series = [
        r#"sluice_http_requests_total{method="GET",route="/v1/jobs/{job}",status="2xx"} 2"#,
        r#"sluice_http_requests_total{method="GET",route="/v1/jobs/{job}",status="4xx"} 1"#,
        r#"sluice_http_requests_total{method="GET",route="other",status="4xx"} 2"#,
        r#"sluice_http_requests_total{method="POST",route="/in/{who}",status="2xx"} 1"#,
        r#"sluice_http_refused_total{reason="unauthenticated"} 1"#,
        "sluice_ready 1",
    ];
    for line in series {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("secret") && !page.contains("nothing"), "{page}");
}

#[tokio::test]
async fn while_it_drains_answers_end_their_connections() {
    let shell = Arc::new(shell(Rules::plain(1_000), false));
    let app = shell.clone().wrap(routes().route(
        "/v1/events",
        get(|| async {
            let kind = [(header::CONTENT_TYPE, "text/event-stream")];
            (kind, Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()))
        }),
    ));
    let response = ask(&app, request("GET", "/v1/jobs/a", READER)).await;
    assert_eq!(told(&response, "connection"), "");
    assert_eq!(told(&response, "content-length"), "3");
    let events = ask(&app, request("GET", "/v1/events", READER)).await;
    assert_eq!(shell.at_work.load(Ordering::SeqCst), 2);
    drop(response);
    shell.health.drain();
    shell.stop.cancel();
    assert_eq!(text(events).await, "");
    assert_eq!(shell.at_work.load(Ordering::SeqCst), 0);
    let response = ask(&app, request("GET", "/v1/jobs/a", READER)).await;
    assert_eq!(told(&response, "connection"), "close");
    assert_eq!(status(&app, request("GET", "/health/ready", "")).await, 503);
    assert_eq!(status(&app, request("GET", "/health/live", "")).await, 200);
}

fn conduct(stop: &CancellationToken) -> Conduct {
    Conduct {
        clock: Arc::new(SystemClock::start()),
        metrics: Arc::new(Unrecorded),
        stop: stop.clone(),
        drain: Duration::from_secs(2),
        connections: 64,
        spared: Arc::new(|_| false),
    }
}

/// One request on a connection of its own.
async fn once(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_refuses_nobody() {
    let state = tempfile::tempdir().unwrap();
    let take = |address: &str| {
        let bound = Bound::take("none", 99, address, state.path(), true).unwrap();
        Port::plain(bound)
    };
    let app = |name: &'static str| Router::new().route("/", get(move || async move { name }));
    let first = take("127.0.0.1:0");
    let address = first.address();
    let (old, new, done) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let first = tokio::spawn(first.run(app("old"), conduct(&old)));
    while once(address).await.is_err() {}
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = done.clone();
            tokio::spawn(async move {
                let mut names = [0_u32; 2];
                while !done.is_cancelled() {
                    let answer = once(address).await.unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
                    names[usize::from(answer.ends_with("new"))] += 1;
                }
                names
            })
        })
        .collect();
    let second = tokio::spawn(take(&address.to_string()).run(app("new"), conduct(&new)));
    while !once(address).await.unwrap().ends_with("new") {}
    old.cancel();
    first.await.unwrap().unwrap();
    for _ in 0..10 {
        assert!(once(address).await.unwrap().ends_with("new"));
    }
    done.cancel();
    let mut names = [0, 0];
    for client in clients {
        let [old, new] = client.await.unwrap();
        names = [names[0] + old, names[1] + new];
    }
    assert!(names[0] > 0 && names[1] > 0, "{names:?}");
    new.cancel();
    second.await.unwrap().unwrap();
    assert!(once(address).await.is_err());
}
