//! Where a pack writes: no folder may lie inside another, since the one would take the other's
//! files for its own, or delete them; and no job may read what it writes, which would never end.
//!
//! In: the graphs of a pack. Out: a problem per folder that is not its own, and per source that
//! reads one. It looks at names only, never at a store.

use std::path::{Component, Path, PathBuf};

use sluice_core::{BuiltSink, Problems, Registry};

use super::{Graph, SharedJob, quarantine_name};

/// How files may be called below the folder of a table, and directly in that of a sink.
const OF_TABLES: [&str; 3] = ["1.parquet", "part=1/1.parquet", "part=1/day=2/1.parquet"];
const OF_SINKS: [&str; 3] = ["1.parquet", "1.csv", "1.jsonl"];

/// A folder that something is written to.
struct Place {
    job: SharedJob,
    /// What it is, for messages: `table=sales`.
    what: String,
    pointer: String,
    path: PathBuf,
    sink: bool,
}

/// Finds folders that are the same, or inside each other.
pub(super) fn check_places(graphs: &[Graph], registry: &Registry, problems: &mut Problems) {
    let places: Vec<Place> = graphs.iter().flat_map(|graph| of_job(graph, registry)).collect();
    for (i, place) in places.iter().enumerate() {
        // Rows in quarantine lie beside their table's: one problem for both.
        let told = i > 0 && places[i - 1].pointer == place.pointer;
        let other = places[..i].iter().find(|other| clash(place, other));
        let Some(other) = other.filter(|_| !told) else { continue };
        let span = place.job.span(&place.pointer);
        let path = place.path.display();
        let message =
            format!("{} and {} cannot lie in one folder path={path}", place.what, other.what);
        let hint = "give each a folder that is not inside another's".to_string();
        problems.push(&place.job.file, span, message, Some(hint));
    }
}

/// Finds sources that read what their own job writes.
pub(super) fn check_circles(graphs: &[Graph], registry: &Registry, problems: &mut Problems) {
    for graph in graphs {
        let places = of_job(graph, registry);
        for source in &graph.job.sources {
            let Some(factory) = registry.source(&source.connector) else { continue };
            let takes = |place: &&Place| {
                let files = if place.sink { OF_SINKS } else { OF_TABLES };
                files.iter().any(|file| {
                    let path = place.path.join(file).display().to_string();
                    factory.takes(&source.config, &path.replacen(":/", "://", 1))
                })
            };
            let Some(place) = places.iter().find(takes) else { continue };
            let span = graph.job.span(&format!("{}/path", source.pointer));
            let message =
                format!("a source reads what its job writes source={} {}", source.name, place.what);
            let hint = "what a job writes is read by its statements, by name; or read it in a job of \
                        its own with a lake of its own";
            problems.push(&graph.job.file, span, message, Some(hint.to_string()));
        }
    }
}

fn of_job(graph: &Graph, registry: &Registry) -> Vec<Place> {
    let job = &graph.job;
    let lake = normal(&job.lake);
    let mut places = Vec::new();
    let mut add = |what: String, pointer: String, path: PathBuf, sink: bool| {
        places.push(Place { job: job.clone(), what, pointer, path, sink });
    };
    for spec in graph.tables.iter().map(|t| &t.spec) {
        let pointer = format!("/tables/{}/folder", spec.name);
        let folder = lake.join(&spec.folder);
        add(format!("table={}", spec.name), pointer.clone(), folder.join(&spec.name), false);
        let name = quarantine_name(&spec.name);
        add(format!("table={name}"), pointer, folder.join(name), false);
    }
    for spec in graph.views.iter().map(|v| &v.spec) {
        let pointer = format!("/views/{}/folder", spec.name);
        let path = lake.join(&spec.folder).join(&spec.name);
        add(format!("view={}", spec.name), pointer, path, false);
    }
    for spec in graph.sinks.iter().map(|s| &s.spec) {
        let built = registry.sink(&spec.connector).and_then(|f| f.build(&spec.config).ok());
        let Some(sink) = built.and_then(BuiltSink::files) else { continue };
        let pointer = format!("/sinks/{}/path", spec.name);
        add(format!("sink={}", spec.name), pointer, normal(sink.path()), true);
    }
    places
}

fn clash(a: &Place, b: &Place) -> bool {
    if a.sink && b.sink {
        return a.path == b.path;
    }
    if !a.sink && !b.sink && a.path == b.path {
        // Then their names are the same too, which is a problem of its own.
        return false;
    }
    a.path.starts_with(&b.path) || b.path.starts_with(&a.path)
}

/// A path or URL without `.` and doubled slashes, to be compared.
fn normal(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}
