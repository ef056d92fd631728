//! Who means harm is refused, or what they say is shown as what it is; one test each, and others are
//! served all the while.

use std::os::unix::fs::symlink;

use super::{Hub, PROJECT, stopped};

/// What a server makes of one kind of hostility.
fn meets(hub: &Hub, what: &str) {
    let server = hub.start();
    hub.client("hostile.py", &[what]);
    stopped(server);
}

#[test]
fn who_says_nothing_of_themselves_is_told_nothing() {
    meets(&Hub::new(), "unauthenticated");
}

#[test]
fn a_role_does_not_do_what_another_may() {
    meets(&Hub::new(), "role");
}

#[test]
fn a_forged_token_is_nobodys() {
    meets(&Hub::new(), "forged");
}

#[test]
fn what_is_too_large_is_not_read() {
    meets(&Hub::new(), "oversized");
}

#[test]
fn who_is_slow_holds_nobody_up() {
    meets(&Hub::new(), "slow");
}

#[test]
fn values_never_become_sql() {
    meets(&Hub::new(), "injected");
}

#[test]
fn paths_lead_nowhere_else() {
    let hub = Hub::new();
    let state = "  state: ./state\n";
    hub.place.write("sluice.yaml", &PROJECT.replace(state, &format!("{state}  site: ./site\n")));
    hub.place.write("site/index.html", "<p>home");
    hub.place.write("site/sub/index.html", "<p>below");
    for secret in ["secret.txt", "site/.secret"] {
        hub.place.write(secret, "a secret of this machine");
    }
    symlink(hub.place.path("secret.txt"), hub.place.path("site/out.txt")).unwrap();
    meets(&hub, "path");
}

#[test]
fn headers_are_not_split() {
    meets(&Hub::new(), "header");
}

#[test]
fn data_never_becomes_a_page() {
    meets(&Hub::new(), "html");
}
