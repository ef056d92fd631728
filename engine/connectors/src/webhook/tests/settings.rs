//! What job files may say, and what is wrong with it.

use super::*;

fn faults(value: Value) -> String {
    let mut problems = Problems::new();
    Factory::default().check(&config("orders", value), &mut problems);
    problems.to_string()
}

#[test]
fn everything_that_is_wrong_is_told() {
    let good = [
        json!({"path": "/hooks/{tenant}/orders"}),
        json!({"path": "/a", "verify": {"stripe": {"secret": ["a", "b"], "tolerance": "1min"}}}),
        json!({"path": "/a", "verify": {"github": {"secret": "s"}}, "idempotency": "none"}),
        json!({
            "path": "/a", "verify": {"slack": {"secret": "s"}}, "idempotency": {"window": "1d"},
        }),
        json!({"path": "/a", "limits": {"rate": "1.5/s", "concurrent": 1, "body": 10}}),
        json!({"path": "/a", "metadata": ["headers", "event_id"], "ack": "sealed"}),
        json!({"path": "/a", "format": "json_lines", "listen": "127.0.0.1:0"}),
        json!({"path": "/a", "verify": {"bearer": {"secret": "s"}}, "listen": "0.0.0.0:8088"}),
    ];
    for value in good {
        assert_eq!(faults(value.clone()), "", "{value}");
    }
    let bad = [
        (json!({"path": "hooks"}), "not a path"),
        (json!({"path": "/v1/hooks"}), "pages of its own"),
        (json!({"path": "/a", "idempotency": {}}), "where the id is"),
        (json!({"path": "/a", "idempotency": {"header": "a", "json": "$.a"}}), "or in the rows"),
        (json!({"path": "/a", "idempotency": {"header": "a b"}}), "name of a header"),
        (json!({"path": "/a", "idempotency": {"json": "$"}}), "place in JSON"),
        (json!({"path": "/a", "idempotency": {"header": "a", "window": "?"}}), "not a duration"),
        (json!({"path": "/a", "limits": {"rate": "many"}}), "not a rate"),
        (json!({"path": "/a", "limits": {"rate": "0/s"}}), "not a rate"),
        (json!({"path": "/a", "limits": {"concurrent": 0}}), "no request"),
        (json!({"path": "/a", "limits": {"body": "1GiB"}}), "held in memory"),
        (json!({"path": "/a", "metadata": ["path", "path"]}), "twice"),
        (json!({"path": "/a", "verify": {"github": {"secret": ""}}}), "empty"),
        (json!({"path": "/a", "challenge": {}}), "challenge"),
        (json!({"path": "/a", "listen": "8088"}), "not an address"),
        (json!({"path": "/a", "listen": "0.0.0.0:8088"}), "others can reach"),
        (json!({"path": "/a", "other": 1}), "cannot read the settings"),
    ];
    for (value, text) in bad {
        let found = faults(value.clone());
        assert!(found.contains(text), "{value} {found}");
    }
    let all = faults(json!({"path": "a", "limits": {"rate": "x"}, "metadata": ["path", "path"]}));
    assert_eq!(all.matches("hint:").count(), 3, "{all}");
    let mut unplanned = config("orders", json!({"path": "/a"}));
    unplanned.schema = None;
    let mut problems = Problems::new();
    Factory::default().check(&unplanned, &mut problems);
    assert!(problems.to_string().contains("a schema is needed"));
}

#[test]
fn columns_are_those_of_the_schema_and_what_is_asked_for() {
    let value = json!({"path": "/a", "on_new_column": "rescue", "metadata": ["event_id", "path"]});
    let schema = Factory::default().schema(&config("orders", value)).unwrap();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "text", "_rescued", "_event_id", "_path"]);
    for name in &names[2..] {
        assert!(sluice_core::PASSED_COLUMNS.contains(name), "{name}");
    }
    let settings = Factory::default().config_schema();
    assert_eq!(settings["additionalProperties"], json!(false));
}

#[test]
fn two_sources_have_two_paths() {
    let configs = ["/a/{x}", "/a/b", "/a/{y}", "?"].map(|path| config("s", json!({"path": path})));
    let mut problems = Problems::new();
    check_paths(configs.iter().map(|config| ("shop", config)), &mut problems);
    assert_eq!(problems.to_string().matches("another source has the path").count(), 1);
}

#[test]
fn an_endpoint_that_a_webhook_would_answer_for_is_refused() {
    let all = |path: &str| {
        let endpoints =
            [("trips", "/in/trips"), ("one", "/in/{id}"), ("deep", "/in/{id}/x"), ("api", "/api")];
        let source = config("orders", json!({"path": path}));
        let mut problems = Problems::new();
        check_endpoints([("shop", &source)], &endpoints, &mut problems);
        let problems = problems.to_string();
        assert!(problems.is_empty() || problems.contains("job=shop source=orders"), "{problems}");
        let told = |name: &&str| problems.contains(&format!("endpoint={name} "));
        endpoints.iter().map(|(name, _)| *name).filter(told).collect::<Vec<_>>()
    };
    assert_eq!(all("/in/{who}"), ["trips", "one"]);
    assert_eq!(all("/in/trips"), ["trips"]);
    assert_eq!(all("/in/{who}/x"), ["deep"]);
    assert!(all("/in/orders").is_empty() && all("?").is_empty());
}

#[tokio::test]
async fn a_secret_without_a_value_lets_nobody_in() {
    let state = tempfile::tempdir().unwrap();
    let settings =
        json!({"path": "/hooks/orders", "verify": {"github": {"secret": "${secrets.gone}"}}});
    let process = Process::idle(state.path(), settings);
    let error = process.listen().await.unwrap_err();
    assert!(error.message().contains("${secrets.gone}"), "{error:?}");
    assert!(process.hub.routes().is_empty());
    let nowhere = Factory::default().build(&process.config, &process.context()).await;
    assert_eq!(nowhere.err().unwrap().kind(), Kind::Config);
}

#[tokio::test]
async fn a_secret_that_can_be_none_is_named() {
    let state = tempfile::tempdir().unwrap();
    let verify = json!({"standard_webhooks": {"secret": ["whsec_AAAA", "${secrets.hook}"]}});
    let process = Process::idle(state.path(), json!({"path": "/hooks/orders", "verify": verify}));
    let error = process.listen().await.unwrap_err();
    assert_eq!(error.message(), "not a secret of Standard Webhooks secret=hook source=orders");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("whsec_")), "{error:?}");
}
