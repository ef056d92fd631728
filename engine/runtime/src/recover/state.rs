//! Restoring what operators keep. A view whose state is not there is built afresh.

use sluice_core::{Error, Result};

use crate::epoch::{Router, Worker, read_windows, remembered_owner, upsert_spec, windows_owner};
use crate::operator::upsert::Remembered;
use crate::plan::{Strategy, TableNode};
use crate::view::IncrementalView;

/// Puts sealed state back into operators.
pub(super) async fn restore(worker: &mut Worker) -> Result<()> {
    let graph = worker.graph.clone();
    for node in &graph.views {
        let Strategy::Incremental(pieces) = &node.strategy else { continue };
        let name = &node.spec.name;
        let files = worker.state.files.get(name).cloned();
        let Some(relation) = worker.state.relations.get_mut(name) else { continue };
        let Some(files) = files.filter(|_| relation.exists) else {
            relation.exists = false;
            continue;
        };
        let input = node.inputs.first().and_then(|i| worker.state.relations.get(i));
        let schema = input.map(|r| r.schema.clone());
        let schema =
            schema.ok_or_else(|| Error::bug(format!("a view has no input view={name}")))?;
        let memory = worker.env.memory.as_ref();
        let mut view =
            IncrementalView::open(&worker.context, node, pieces, &schema, memory).await?;
        view.operator().kept().restore(worker.folder.read(&files).await?)?;
        worker.state.views.insert(name.clone(), view);
    }
    for node in &graph.tables {
        let name = &node.spec.name;
        let windows = match worker.state.files.get(&windows_owner(name)) {
            Some(files) => read_windows(&worker.folder.read(files).await?),
            None => Default::default(),
        };
        worker.state.routers.insert(name.clone(), Router::new(node, windows, &worker.env.memory));
        restore_remembered(worker, node).await?;
    }
    Ok(())
}

async fn restore_remembered(worker: &mut Worker, node: &TableNode) -> Result<()> {
    if node.spec.key.is_empty() {
        return Ok(());
    }
    let name = &node.spec.name;
    let Some(mut remembered) = Remembered::new(&upsert_spec(node)?, &node.schema)? else {
        return Ok(());
    };
    remembered.hold_in(worker.env.memory.reserve(&format!("deleted keys of table {name}")))?;
    if let Some(files) = worker.state.files.get(&remembered_owner(name)) {
        remembered.restore(worker.folder.read(files).await?)?;
    }
    worker.state.remembered.insert(name.clone(), remembered);
    Ok(())
}
