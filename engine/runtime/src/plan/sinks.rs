//! Whether sinks can be fed from what they name: from what only grows, with columns that go with
//! them.
//!
//! In: a job whose statements are planned. Out: problems. Rows that were given away cannot be taken
//! back, neither as files nor as messages.

use sluice_core::{BuiltSink, Problems, Registry};

use super::SinkNode;
use super::graph::Builder;
use super::view::Growth;
use crate::job::SinkSpec;

impl Builder<'_> {
    pub(super) fn sinks(&mut self, registry: &Registry, problems: &mut Problems) {
        let job = self.graph.job.clone();
        for sink in &job.sinks {
            let name = &sink.from;
            let factory = registry.sink(&sink.connector);
            let built = factory.and_then(|f| f.build(&sink.config).ok());
            let outlet = built.and_then(BuiltSink::outlet);
            let target = outlet.as_ref().map(|outlet| outlet.target());
            self.graph.sinks.push(SinkNode { spec: sink.clone(), target });
            let kind = if outlet.is_some() { "a sink" } else { "a file sink" };
            if self.graph.sources.iter().any(|s| s.spec.name == *name && s.retracts) {
                let span = job.span(&format!("{}/from", sink.pointer));
                let message = format!("{kind} takes rows that stay, those of {name} are replaced");
                let hint = "take `on_changed_file: replace` from the source, or read a Delta table \
                    of its rows instead";
                problems.push(&job.file, span, message, Some(hint.to_string()));
                continue;
            }
            if self.growth.get(name) == Some(&Growth::Changing) {
                let span = job.span(&format!("{}/from", sink.pointer));
                let message = format!("{kind} takes rows that stay, those of {name} may change");
                let hint = "feed it from a source, a table without key or a view kept by append; \
                    others can be read where they are, as Delta tables";
                problems.push(&job.file, span, message, Some(hint.to_string()));
                continue;
            }
            if let Some(outlet) = outlet {
                self.fits(sink, &*outlet, problems);
            }
        }
    }

    /// Whether the columns go with the sink, where they are known.
    fn fits(&self, sink: &SinkSpec, outlet: &dyn sluice_core::Outlet, problems: &mut Problems) {
        let job = &self.graph.job;
        let Some(schema) = self.graph.columns_of(&sink.from) else { return };
        if let Err(error) = outlet.fits(&schema) {
            let span = job.span(&sink.pointer);
            let hint = error.hint_text().map(str::to_string);
            problems.push(&job.file, span, error.to_string(), hint);
        }
    }
}
