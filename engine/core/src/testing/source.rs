//! The promises of [`Source`], checked.
//!
//! A failed promise is an `Err` that says which; the test that calls the suite unwraps it.

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use crate::{Error, Intake, Limit, Offsets, POSITION_COLUMN, Rejected, Result, Source, Start};

/// Everything the splits of `intake` hold, in split order.
pub async fn read_all(
    source: &dyn Source,
    intake: &Intake,
) -> Result<(Vec<RecordBatch>, Vec<Rejected>)> {
    let reader = source.reader();
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    for split in &intake.splits {
        let mut stream = reader.open(split.clone());
        while let Some(decoded) = stream.try_next().await? {
            let last = decoded.rows.schema().fields().last().map(|f| f.name().clone());
            ensure(last.as_deref() == Some(POSITION_COLUMN), "the last column is the position")?;
            rows.push(decoded.rows);
            rejected.extend(decoded.rejected);
        }
    }
    Ok((rows, rejected))
}

/// Runs the suite. `build` makes the same source afresh, as a restart would; its data must be
/// finite and stay as it is, and must not fit into one poll of `limit`.
pub async fn source_conformance<F>(mut build: F, limit: Limit) -> Result<()>
where
    F: AsyncFnMut() -> Result<Box<dyn Source>>,
{
    let whole = drain(build().await?, Start::default(), limit).await?;
    ensure(whole.len() > 2, "the suite needs a source of at least three polls")?;
    for stop in 1..whole.len() {
        let mut start = Start::default();
        for step in &whole[..stop] {
            start.offsets.extend(step.offsets.clone());
            start.state.extend(step.intake.state.clone());
        }
        let rest = drain(build().await?, start, limit).await?;
        let rows = |steps: &[Step]| steps.iter().map(|s| s.rows).sum::<usize>();
        ensure(rows(&rest) == rows(&whole[stop..]), "a restart reads exactly the rest")?;
    }
    Ok(())
}

struct Step {
    intake: Intake,
    offsets: Offsets,
    rows: usize,
}

async fn drain(mut source: Box<dyn Source>, start: Start, limit: Limit) -> Result<Vec<Step>> {
    let mut at = start.offsets.clone();
    source.seek(start).await?;
    let mut steps = Vec::new();
    loop {
        let intake = source.poll(limit).await?;
        if intake.advances.is_empty() {
            ensure(!intake.more, "an empty poll says that nothing more is there")?;
            return Ok(steps);
        }
        for advance in &intake.advances {
            if let Some(before) = at.get(&advance.partition) {
                ensure(*before == advance.from, "offsets join without gap or overlap")?;
            }
            at.insert(advance.partition.clone(), advance.to.clone());
        }
        let (once, _) = read_all(source.as_ref(), &intake).await?;
        let (twice, _) = read_all(source.as_ref(), &intake).await?;
        ensure(once == twice, "the same split gives the same rows")?;
        source.acknowledge(&at).await?;
        source.acknowledge(&at).await?;
        let rows = once.iter().map(RecordBatch::num_rows).sum();
        steps.push(Step { intake, offsets: at.clone(), rows });
    }
}

fn ensure(holds: bool, promise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::bug(format!("broken promise: {promise}"))) }
}
