//! What reading holds is reserved, and gets along with little.

use futures::TryStreamExt;
use sluice_core::Scan;
use sluice_core::testing::Pool;

use super::*;

const MIB: usize = 1024 * 1024;

/// Everything of the files at `path`, all splits of it read side by side.
async fn read(pool: &Pool, path: &str) -> Result<Vec<RecordBatch>> {
    let value = json!({"path": path, "split_bytes": 3 * MIB});
    let mut source = started_in(Arc::new(pool.clone()), value).await;
    let intake = source.poll(EVERYTHING).await?;
    let reader = source.reader();
    let splits = intake.splits.into_iter().map(|split| {
        let chunks = reader.open(split, &Scan::default());
        chunks.map_ok(|chunk| chunk.rows).try_collect::<Vec<_>>()
    });
    let all = futures::future::try_join_all(splits.collect::<Vec<_>>()).await?;
    Ok(all.concat())
}

fn ids(rows: &[RecordBatch]) -> Vec<i64> {
    rows.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Some 12 MiB of rows, in each of the formats that are read piece by piece.
fn files(folder: &Path) -> [String; 4] {
    let rows = numbers(0..500_000);
    let json = encoded(Box::new(json_format::Encoder::new(&rows.schema(), None).unwrap()), &rows);
    let files = [
        ("a.csv", csv_file(&rows, false)),
        ("a.csv.gz", csv_file(&rows, true)),
        ("a.jsonl.zst", zstd::bulk::compress(&json, 1).unwrap()),
        ("a.jsonl", json),
    ];
    files.map(|(name, bytes)| {
        write(folder, name, bytes);
        folder.join(name).display().to_string()
    })
}

#[tokio::test]
async fn little_memory_takes_smaller_pieces_and_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    for path in files(folder.path()) {
        let roomy = Pool::of(1 << 40);
        let rows = ids(&read(&roomy, &path).await.unwrap());
        assert!(rows.iter().copied().eq(0..500_000), "{path}");
        let (left, most) = roomy.told();
        assert!(left == 0 && most > 3 * MIB, "{path}: {most}");
        // An eighth of it is not enough for one large piece.
        let tight = Pool::of(8 * MIB);
        assert_eq!(ids(&read(&tight, &path).await.unwrap()), rows, "{path}");
        let (left, less) = tight.told();
        // What fits into an eighth as it is stored is read at once in both.
        let fits = std::fs::metadata(&path).unwrap().len() < MIB as u64;
        assert!(left == 0 && 0 < less && (less < most || fits), "{path}: {less} of {most}");
    }
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_refused_in_the_name_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.csv", format!("id,Text\n1,{}\n", "x".repeat(6 * MIB)));
    let path = folder.path().join("a.csv").display().to_string();
    let refused = read(&Pool::of(4 * MIB), &path).await.unwrap_err();
    assert!(refused.message().contains("owner=\"decoding of source sales\""), "{refused}");
    assert_eq!(ids(&read(&Pool::of(64 * MIB), &path).await.unwrap()), [1]);
}

#[tokio::test]
async fn the_columns_that_are_read_of_a_row_group_are_reserved() {
    let folder = tempfile::tempdir().unwrap();
    let rows = numbers(0..100_000);
    let bytes = encoded(Box::new(parquet::Encoder::new(rows.schema()).unwrap()), &rows);
    let stored = bytes.len();
    write(folder.path(), "a.parquet", bytes);
    let path = folder.path().join("a.parquet").display().to_string();
    let pool = Pool::of(stored);
    assert_eq!(ids(&read(&pool, &path).await.unwrap()).len(), 100_000);
    let (left, most) = pool.told();
    assert!(left == 0 && stored / 2 < most && most < stored, "{most} of {stored}");
    let refused = read(&Pool::of(stored / 2), &path).await.unwrap_err();
    assert!(refused.message().contains("decoding of source sales"), "{refused}");
}

#[tokio::test]
async fn a_file_that_changes_between_two_pieces_is_named() {
    let text = String::from_utf8(csv_file(&numbers(0..500_000), false)).unwrap();
    let half = &text[..text.len() / 2];
    let changes = [format!("{text}500000,more\n"), half.to_string(), text.replace("1,", "2,")];
    for then in changes {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.csv", &text);
        let path = folder.path().join("a.csv").display().to_string();
        let value = json!({"path": path});
        let mut source = started_in(Arc::new(Pool::of(8 * MIB)), value).await;
        let mut intake = source.poll(EVERYTHING).await.unwrap();
        let mut chunks = source.reader().open(intake.splits.remove(0), &Scan::default());
        let first = chunks.try_next().await.unwrap().unwrap();
        assert!(first.rows.num_rows() < 500_000, "there is more to be read");
        write(folder.path(), "a.csv", then);
        let error = chunks.try_collect::<Vec<_>>().await.unwrap_err();
        let said = error.message();
        assert!(
            said.contains("changed while it was being read") && said.contains("a.csv"),
            "{said}"
        );
    }
}
