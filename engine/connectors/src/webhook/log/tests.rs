//! Logs on a disk: numbers, restarts, what a crash leaves, groups, and who has them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bytes::Bytes;
use sluice_core::Kind;

use super::record::About;
use super::store::told;
use super::writer::{Unwritten, Writer};
use super::*;

impl Log {
    /// Makes the store fail: its files are taken away while it wants to write some.
    pub(in crate::webhook) fn spoil(&self) {
        fs::remove_dir_all(self.heads.path()).unwrap();
        assert!(self.heads.rotate_memtable().unwrap(), "nothing is to be written");
        for _ in 0..30_000 {
            if self.database.persist(PersistMode::Buffer).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the store did not fail");
    }
}

/// Identifiers that are all different.
#[derive(Debug, Default)]
struct Counted(AtomicU32);

impl Ids for Counted {
    fn fresh(&self) -> String {
        format!("{:08x}{:08x}", self.0.fetch_add(1, Ordering::Relaxed) + 1, 0)
    }
}

fn place(state: &Path) -> Place {
    Place::new(state, "job", "source")
}

fn open(state: &Path, slot: u32) -> Arc<Log> {
    Log::open(&place(state), slot, &Counted::default()).unwrap().unwrap()
}

fn entry(rows: &[&str]) -> Entry {
    let about = Arc::new(About { received_ms: 5, ..About::default() });
    let rows = rows.iter().map(|row| Bytes::copy_from_slice(row.as_bytes())).collect();
    Entry { id: None, about, rows }
}

fn append(log: &Log, entries: &[Entry]) -> Vec<u64> {
    log.append(entries.iter()).unwrap()
}

fn rows(log: &Log, from: u64, to: u64) -> Vec<String> {
    let mut rows = Vec::new();
    log.read(from, to, |_, record| {
        let texts = (0..record.len()).map(|i| String::from_utf8_lossy(record.row(i)).into_owned());
        rows.extend(texts);
        true
    })
    .unwrap();
    rows
}

/// What a killed process leaves: the files as they are.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

#[test]
fn rows_have_numbers_and_are_read_by_them() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), 0);
    assert_eq!((log.first(), log.next(), log.backlog()), (0, 0, (0, 0)));
    let ends = append(&log, &[entry(&["a", "bb"]), entry(&["c"])]);
    assert_eq!(ends, [2, 3]);
    append(&log, &[entry(&["d"])]);
    assert_eq!((log.next(), log.backlog()), (4, (4, 5)));
    assert_eq!(rows(&log, 0, 4), ["a", "bb", "c", "d"]);
    assert_eq!(rows(&log, 2, 3), ["c"]);
    assert_eq!(rows(&log, 4, 4), [""; 0]);
    let heads = log.heads(0, 4, 2).unwrap();
    let shown: Vec<_> = heads.iter().map(|h| (h.first, h.rows, h.bytes, h.before)).collect();
    assert_eq!(shown, [(0, 2, 3, 0), (2, 1, 1, 3)]);
    assert!(log.heads(1, 4, 9).is_err(), "a border within a delivery");
    assert!(log.read(3, 9, |_, _| true).is_err(), "rows that are not there");
}

#[test]
fn numbers_go_on_after_a_restart_even_if_everything_is_gone() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), 0);
    let partition = log.partition();
    append(&log, &[entry(&["a", "b"]), entry(&["c"])]);
    log.forget(2).unwrap();
    assert_eq!((log.first(), log.backlog()), (2, (1, 1)));
    drop(log);
    let log = open(state.path(), 0);
    assert_eq!(log.partition(), partition);
    assert_eq!((log.first(), log.next(), log.backlog()), (2, 3, (1, 1)));
    assert_eq!(rows(&log, 2, 3), ["c"]);
    log.forget(3).unwrap();
    log.forget(1).unwrap();
    drop(log);
    let log = open(state.path(), 0);
    assert_eq!((log.first(), log.next(), log.backlog()), (3, 3, (0, 0)));
    assert_eq!(append(&log, &[entry(&["d"])]), [4]);
    // Another folder is another log, whatever its numbers.
    let other = tempfile::tempdir().unwrap();
    let ids = Counted(AtomicU32::new(77));
    let other = Log::open(&place(other.path()), 0, &ids).unwrap().unwrap();
    assert_ne!((other.partition(), other.number()), (log.partition(), log.number()));
}

#[test]
fn many_rows_are_forgotten_bit_by_bit() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), 0);
    let entries: Vec<Entry> = (0..1000).map(|i| entry(&[&i.to_string()])).collect();
    append(&log, &entries);
    let published = log.published();
    log.forget(999).unwrap();
    assert_eq!((log.first(), *published.borrow()), (999, 999));
    assert_eq!(rows(&log, 999, 1000), ["999"]);
    assert!(log.read(0, 10, |_, _| true).is_err());
}

#[test]
fn a_killed_process_loses_nothing_that_was_appended() {
    let (state, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(state.path(), 0);
    for i in 0..50 {
        append(&log, &[entry(&[&format!("{i}"), &"x".repeat(5000)])]);
    }
    log.forget(20).unwrap();
    copy(state.path(), left.path());
    let again = open(left.path(), 0);
    assert_eq!((again.first(), again.next()), (20, 100));
    assert_eq!(rows(&again, 20, 100), rows(&log, 20, 100));
    assert_eq!(append(&again, &[entry(&["y"])]), [101]);
    drop(again);
    // What was half written when it was killed is not there, and nothing else is missing.
    let journal = left.path().join("webhooks/job/source/0");
    let journal = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let journal = journal.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max();
    let journal = fs::OpenOptions::new().write(true).open(journal.unwrap()).unwrap();
    journal.set_len(journal.metadata().unwrap().len() - 3).unwrap();
    let again = open(left.path(), 0);
    assert_eq!(rows(&again, 20, 100), rows(&log, 20, 100));
    assert_eq!(again.next(), 100);
}

/// Changes a byte of what was written, as a page that never came to the disk would.
fn tear(state: &Path, text: &str) {
    let journal = place(state).folder().join("0/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] = 0;
    fs::write(&journal, bytes).unwrap();
}

#[test]
fn a_write_that_a_power_cut_tore_is_taken_off_and_nothing_else_is() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), 0);
    append(&log, &[entry(&["first"])]);
    append(&log, &[entry(&["second"]), entry(&["third"])]);
    log.forget(1).unwrap();
    drop(log);
    tear(state.path(), "third");
    let log = open(state.path(), 0);
    // What was forgotten since is there again, before what was taken of it.
    assert_eq!((log.first(), log.next()), (0, 1));
    assert_eq!(rows(&log, 0, 1), ["first"]);
    assert!(place(state.path()).folder().join("0/0.torn").exists());
    append(&log, &[entry(&["fourth"])]);
    append(&log, &[entry(&["fifth"])]);
    drop(log);
    // Two writes cannot be torn by one cut: this is damage.
    tear(state.path(), "fourth");
    let error = Log::open(&place(state.path()), 0, &Counted::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
}

/// Takes the form of the batch that holds `text`.
fn deform(state: &Path, text: &str) {
    let journal = place(state).folder().join("0/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at - 80..at].fill(0);
    fs::write(&journal, bytes).unwrap();
}

#[test]
fn batches_behind_one_without_a_form_are_not_cut_off() {
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(state.path(), 0);
    for text in ["first", "second", "third"] {
        append(&log, &[entry(&[text])]);
    }
    drop(log);
    copy(state.path(), other.path());
    let journal = place(state.path()).folder().join("0/0.jnl");
    deform(state.path(), "second");
    let before = fs::read(&journal).unwrap();
    assert!(!super::mend::mend(&place(state.path()).slot(0)).unwrap());
    assert!(fs::read(&journal).unwrap() == before, "it is left as it was");
    deform(other.path(), "third");
    assert!(super::mend::mend(&place(other.path()).slot(0)).unwrap());
    assert_eq!(rows(&open(other.path(), 0), 0, 2), ["first", "second"]);
}

#[test]
fn a_journal_is_written_anew_before_it_is_gone_on_with() {
    let state = tempfile::tempdir().unwrap();
    let zeros = "\0".repeat(3 * 1024 * 1024);
    let texts = ["first", zeros.as_str(), "second"];
    append(&open(state.path(), 0), &[entry(&texts)]);
    let folder = place(state.path()).folder().join("0");
    let number = || fs::metadata(folder.join("0.jnl")).unwrap().ino();
    let before = number();
    let log = open(state.path(), 0);
    assert_ne!(number(), before);
    assert!(!folder.join("0.new").exists());
    assert!(rows(&log, 0, 3) == texts);
    append(&log, &[entry(&["third"])]);
    drop(log);
    assert_eq!(rows(&open(state.path(), 0), 3, 4), ["third"]);
}

#[test]
fn a_log_that_was_half_made_is_made_again() {
    let state = tempfile::tempdir().unwrap();
    let half = place(state.path()).folder().join("0.new");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("0.jnl"), b"half").unwrap();
    let log = open(state.path(), 0);
    assert_eq!(append(&log, &[entry(&["a"])]), [1]);
    assert!(!half.exists());
}

#[test]
fn each_process_has_a_slot_of_its_own() {
    let state = tempfile::tempdir().unwrap();
    let (place, ids) = (place(state.path()), Counted::default());
    let lowest = || Log::open_lowest(&place, &ids).unwrap();
    let (first, second) = (lowest(), lowest());
    assert_eq!((first.slot(), second.slot()), (0, 1));
    assert!(Log::open(&place, 0, &ids).unwrap().is_none());
    append(&first, &[entry(&["a"])]);
    drop(first);
    let third = lowest();
    assert_eq!((third.slot(), third.next()), (0, 1));
    assert_eq!(place.slots().unwrap(), [0, 1]);
}

#[test]
fn a_damaged_log_is_told_and_deliveries_go_to_the_next() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path(), 0));
    fs::write(place(state.path()).folder().join("0/version"), b"?").unwrap();
    let (place, ids) = (place(state.path()), Counted::default());
    let error = Log::open(&place, 0, &ids).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.hint_text().unwrap().contains("move it away"));
    assert_eq!(Log::open_lowest(&place, &ids).unwrap().slot(), 1);
}

#[test]
fn a_slot_that_the_disk_does_not_give_back_is_passed_over() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path(), 0));
    let version = place(state.path()).folder().join("0/version");
    fs::remove_file(&version).unwrap();
    fs::create_dir(&version).unwrap();
    let (place, ids) = (place(state.path()), Counted::default());
    assert_eq!(Log::open(&place, 0, &ids).unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(Log::open_lowest(&place, &ids).unwrap().slot(), 1);
}

#[test]
fn a_full_disk_is_no_damage_and_goes_for_every_slot() {
    let of = |kind: ErrorKind| {
        let error = fjall::Error::Storage(fjall::LsmError::Io(kind.into()));
        let error = told(Path::new("x"), error);
        (error.kind(), goes_for_all(&error))
    };
    assert_eq!(of(ErrorKind::StorageFull), (Kind::Unavailable, true));
    assert_eq!(of(ErrorKind::Other), (Kind::Unavailable, false));
    assert_eq!(of(ErrorKind::UnexpectedEof), (Kind::Data, false));
}

#[test]
fn a_log_that_cannot_be_emptied_takes_nothing_more() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), 0);
    append(&log, &[entry(&["a"]), entry(&["b"])]);
    log.spoil();
    assert!(!log.is_broken());
    assert!(log.forget(1).is_err());
    assert!(log.is_broken());
    assert_eq!((log.first(), log.is_done(), log.backlog()), (0, false, (1, 2)));
}

#[test]
fn rows_whose_removal_alone_came_to_the_disk_are_passed_over() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), 0);
    append(&log, &[entry(&["a"]), entry(&["b", "b"]), entry(&["c"])]);
    for first in [0_u64, 1] {
        log.heads.remove(first.to_be_bytes()).unwrap();
    }
    assert!(log.heads(0, 3, 9).is_err(), "whoever reads is told");
    log.forget(3).unwrap();
    assert_eq!((log.first(), log.backlog()), (3, (1, 1)));
    assert_eq!(rows(&log, 3, 4), ["c"]);
    log.heads.remove(3_u64.to_be_bytes()).unwrap();
    log.forget(4).unwrap();
    assert_eq!((log.first(), log.backlog()), (4, (0, 0)));
    assert_eq!(append(&log, &[entry(&["d"])]), [5]);
}

#[test]
fn an_older_copy_tells_what_can_have_been_read_however_much_is_added() {
    let (state, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(state.path(), 0);
    append(&log, &[entry(&["a"]), entry(&["b"])]);
    assert_eq!((log.seen(), log.next()), (0, 2));
    log.begin_reading().unwrap();
    log.hand_out(1);
    assert_eq!(log.seen(), 1);
    append(&log, &[entry(&["c"])]);
    copy(state.path(), left.path());
    for next in [3, 5] {
        let log = open(left.path(), 0);
        assert_eq!((log.seen(), log.next()), (3, next));
        append(&log, &[entry(&["d"]), entry(&["e"])]);
    }
    let log = open(left.path(), 0);
    let (partition, number) = (log.partition(), log.number());
    log.renew(&Counted(AtomicU32::new(6))).unwrap();
    assert_ne!((log.partition(), log.number()), (partition, number));
    drop(log);
    let log = open(left.path(), 0);
    assert_eq!(log.partition(), "0-00000007");
    assert_eq!(rows(&log, log.first(), log.next()), ["d", "e", "d", "e"]);
    log.begin_reading().unwrap();
    drop(log);
    assert_eq!(open(left.path(), 0).seen(), 7, "from then on all can have been read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_written_and_each_request_is_told_its_own_number() {
    let state = tempfile::tempdir().unwrap();
    let writer = Writer::start(open(state.path(), 0), |_| {}).unwrap();
    let requests = (0..200).map(|i| {
        let handle = writer.handle();
        tokio::spawn(async move {
            let rows: Vec<String> = (0..=i % 3).map(|k| format!("{i}/{k}")).collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            (i, handle.append(vec![entry(&rows)]).await.unwrap())
        })
    });
    let requests: Vec<_> = requests.collect();
    let log = writer.log().clone();
    for request in requests {
        let (i, end) = request.await.unwrap();
        let last = format!("{i}/{}", i % 3);
        let first = end - (i % 3) - 1;
        assert_eq!(rows(&log, first, end).last(), Some(&last));
    }
    assert_eq!(log.next(), (0..200).map(|i| i % 3 + 1).sum::<u64>());
    let handle = writer.handle();
    assert_eq!(handle.append(Vec::new()).await, Err(Unwritten::Broken), "nothing is nowhere");
    drop(handle);
    tokio::task::spawn_blocking(move || writer.close()).await.unwrap();
}
