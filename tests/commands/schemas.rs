//! The schemas that lie in `schemas/` for editors are the ones that the binary has.

use crate::support::cli::Sluice;
use crate::support::place::Place;
use crate::support::root;

#[test]
fn schemas_for_editors_are_current() {
    for kind in ["job", "project"] {
        let file = root().join("schemas").join(format!("{kind}.schema.json"));
        Sluice::new(&["schema", kind, "--check"]).arg(file.to_string_lossy()).ok();
    }
    let place = Place::local();
    place.write("old.json", "{}");
    let old = Sluice::new(&["schema", "project", "--check"])
        .arg(place.path("old.json").to_string_lossy());
    let output = old.expect(1);
    output.says(&["hint: make it again with: sluice schema project"]);
    assert!(output.stdout.contains("stale: "), "{}", output.text());
}
