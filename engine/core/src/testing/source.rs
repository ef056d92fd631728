//! The promises of [`Source`], checked.
//!
//! A failed promise is an `Err` that says which; the test that calls the suite unwraps it.

use arrow::array::{BooleanArray, RecordBatch, Scalar};
use arrow::compute::and;
use arrow::compute::kernels::cmp;
use futures::TryStreamExt;

use crate::{
    Bound, Comparison, Decoded, Error, Intake, Limit, Offsets, POSITION_COLUMN, Rejected, Result,
    Scan, Source, Start,
};

/// Everything the splits of `intake` hold, in split order.
pub async fn read_all(
    source: &dyn Source,
    intake: &Intake,
) -> Result<(Vec<RecordBatch>, Vec<Rejected>)> {
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    for decoded in read_chunks(source, intake, &Scan::default()).await?.into_iter().flatten() {
        let last = decoded.rows.schema().fields().last().map(|f| f.name().clone());
        ensure(last.as_deref() == Some(POSITION_COLUMN), "the last column is the position")?;
        ensure(decoded.pruned == 0, "nothing is pruned without bounds")?;
        rows.push(decoded.rows);
        rejected.extend(decoded.rejected);
    }
    Ok((rows, rejected))
}

/// The chunks of each split of `intake`.
pub async fn read_chunks(
    source: &dyn Source,
    intake: &Intake,
    scan: &Scan,
) -> Result<Vec<Vec<Decoded>>> {
    let reader = source.reader();
    let mut splits = Vec::with_capacity(intake.splits.len());
    for split in &intake.splits {
        splits.push(reader.open(split.clone(), scan).try_collect().await?);
    }
    Ok(splits)
}

/// Holds what `scan` makes of `intake` against all that is in it. Gives the rows that were pruned.
pub async fn scan_conformance(source: &dyn Source, intake: &Intake, scan: &Scan) -> Result<u64> {
    let whole = read_chunks(source, intake, &Scan::default()).await?;
    let scanned = read_chunks(source, intake, scan).await?;
    let mut pruned = 0;
    for (whole, scanned) in whole.iter().zip(&scanned) {
        ensure(whole.len() == scanned.len(), "a split has the same chunks whatever the scan")?;
        for (whole, scanned) in whole.iter().zip(scanned) {
            match scanned.pruned {
                0 => same_chunk(whole, scanned, scan)?,
                rows => ruled_out(whole, scanned, scan, rows)?,
            }
            pruned += scanned.pruned;
        }
    }
    Ok(pruned)
}

fn same_chunk(whole: &Decoded, scanned: &Decoded, scan: &Scan) -> Result<()> {
    ensure(whole.rejected == scanned.rejected, "the same rows are rejected whatever the scan")?;
    let schema = whole.rows.schema();
    for field in schema.fields() {
        if field.name() == POSITION_COLUMN || scan.wants(field.name()) {
            let [whole, scanned] = [whole, scanned].map(|c| c.rows.column_by_name(field.name()));
            ensure(whole == scanned, "columns that are wanted have their values")?;
        }
    }
    Ok(())
}

fn ruled_out(whole: &Decoded, scanned: &Decoded, scan: &Scan, pruned: u64) -> Result<()> {
    let rows = whole.rows.num_rows() + whole.rejected.len();
    ensure(rows as u64 == pruned, "a chunk is pruned as a whole")?;
    let empty = scanned.rows.num_rows() == 0 && scanned.rejected.is_empty();
    ensure(empty, "a pruned chunk has no rows")?;
    let mut fit = BooleanArray::from(vec![true; whole.rows.num_rows()]);
    for bound in &scan.bounds {
        fit = and(&fit, &holds(bound, &whole.rows)?)?;
    }
    ensure(fit.true_count() == 0, "no row that is pruned fulfils all bounds")
}

/// For each row whether `bound` is true of it.
fn holds(bound: &Bound, rows: &RecordBatch) -> Result<BooleanArray> {
    let column = rows.column_by_name(&bound.column);
    let column = column.ok_or_else(|| Error::bug("a bound on a column that is not there"))?;
    let value = Scalar::new(bound.value.clone());
    Ok(match bound.comparison {
        Comparison::Less => cmp::lt(column, &value),
        Comparison::AtMost => cmp::lt_eq(column, &value),
        Comparison::Equal => cmp::eq(column, &value),
        Comparison::AtLeast => cmp::gt_eq(column, &value),
        Comparison::Greater => cmp::gt(column, &value),
    }?)
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
        let nothing = Scan { columns: Some(Vec::new()), ..Scan::default() };
        scan_conformance(source.as_ref(), &intake, &nothing).await?;
        source.acknowledge(&at).await?;
        source.acknowledge(&at).await?;
        let rows = once.iter().map(RecordBatch::num_rows).sum();
        steps.push(Step { intake, offsets: at.clone(), rows });
    }
}

fn ensure(holds: bool, promise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::bug(format!("broken promise: {promise}"))) }
}
