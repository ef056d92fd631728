
//! scratch
use std::sync::Arc;
use serde_json::json;
use sluice_core::*;
use super::*;
use futures::StreamExt;
async fn run(value: serde_json::Value, fields: serde_json::Value, threads: usize) -> (usize, usize, Vec<Rejected>) {
    let schema: DataSchema = serde_json::from_value(json!({"fields": fields})).unwrap();
    let config = Config { name: "x".into(), file: "x".into(), value, spans: Default::default(), schema: Some(schema) };
    let ctx = Context { clock: Arc::new(ManualClock::at(1_900_000_000_000)), memory: Unbounded::shared(), secrets: Secrets::default() };
    let mut s = SourceFactory::build(&Factory, &config, &ctx).await.unwrap();
    s.seek(Start::default()).await.unwrap();
    let t = std::time::Instant::now();
    let i = s.poll(Limit{rows:u64::MAX,bytes:u64::MAX,files:u64::MAX}).await.unwrap();
    eprintln!("poll {:?} splits {} est rows {}", t.elapsed(), i.splits.len(), i.splits.iter().map(|s| s.rows).sum::<u64>());
    let t = std::time::Instant::now();
    let r = s.reader();
    let out: Vec<(usize, Vec<Rejected>)> = futures::stream::iter(i.splits.clone()).map(|sp| { let r = r.clone(); async move { tokio::spawn(async move {
        let mut st = r.open(sp); let mut n = 0; let mut rej = vec![];
        while let Some(d) = st.next().await { let d = d.unwrap(); n += d.rows.num_rows(); rej.extend(d.rejected); }
        (n, rej) }).await.unwrap() } }).buffered(threads).collect().await;
    eprintln!("read {:?}", t.elapsed());
    (out.iter().map(|o| o.0).sum(), i.splits.len(), out.into_iter().flat_map(|o| o.1).collect())
}
#[tokio::test(flavor = "multi_thread")]
async fn scratch() {
    let f = json!([
      {"name":"invoice","from":"InvoiceNo","type":"string"},{"name":"stock","from":"StockCode","type":"string"},
      {"name":"description","from":"Description","type":"string"},{"name":"quantity","from":"Quantity","type":"int64"},
      {"name":"at","from":"InvoiceDate","type":"timestamp","format":"%Y-%m-%d %H:%M:%S"},{"name":"price","from":"UnitPrice","type":"decimal(18, 3)"},
      {"name":"customer","from":"CustomerID","type":"decimal(10, 0)"},{"name":"country","from":"Country","type":"string"}]);
    let (n, s, rej) = run(json!({"path": "/work/shared/data/retail/by-day/*.csv"}), f, 2).await;
    eprintln!("retail rows {n} splits {s} rejected {} {:?}", rej.len(), rej.first());
    let f = json!([
      {"name":"id","type":"string"},{"name":"date_op","type":"date"},{"name":"agence","type":"string"},{"name":"type_op","type":"string"},
      {"name":"montant","type":"decimal(18, 2)"},{"name":"pays","type":"string"},{"name":"produit","type":"string"}]);
    for threads in [1,2] {
    let (n, s, rej) = run(json!({"path": "/tmp/files-bench/big.csv"}), f.clone(), threads).await;
    eprintln!("big rows {n} splits {s} rejected {} {:?}", rej.len(), rej.first());
    }
}
#[tokio::test]
async fn scratch_write() {
    use arrow::array::*;
    let n = 8192i64;
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("M{i:07}")))) as ArrayRef),
        ("day", Arc::new(Date32Array::from_iter_values((0..n).map(|i| 19000 + (i % 700) as i32)))),
        ("amount", Arc::new(Decimal128Array::from_iter_values((0..n).map(|i| i as i128 * 7919)).with_precision_and_scale(18,2).unwrap())),
        ("pays", Arc::new(StringArray::from_iter_values((0..n).map(|_| "FR")))),
        ("kind", Arc::new(StringArray::from_iter_values((0..n).map(|_| "cotisation")))),
        ("agence", Arc::new(StringArray::from_iter_values((0..n).map(|_| "AG_001")))),
        ("produit", Arc::new(StringArray::from_iter_values((0..n).map(|_| "habitation"))))]).unwrap();
    let mut e = crate::format::csv::Encoder::new(rows.schema(), Default::default(), true, false).unwrap();
    let t = std::time::Instant::now(); let mut b = 0;
    for _ in 0..122 { sluice_core::FileEncoder::write(&mut e, &rows).unwrap(); b += sluice_core::FileEncoder::take(&mut e).len(); }
    eprintln!("encode 1M rows {:?} {} MB", t.elapsed(), b / 1_000_000);
}
