//! The registry's client and what is known through it, against a server in a thread.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use serde_json::{Value, json};
use sluice_core::{Kind, ManualClock};

use super::tests::{read, schema};
use super::*;

/// Answers by path, each time the next one; the last for ever.
type Answers = BTreeMap<String, Vec<(u16, String)>>;

/// A server that tells what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: &[(&str, &[(u16, Value)])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let text = |answers: &[(u16, Value)]| {
            answers.iter().map(|(status, body)| (*status, body.to_string())).collect()
        };
        let answers = answers.iter().map(|(path, list)| (path.to_string(), text(list)));
        let (mut answers, log): (Answers, _) = (answers.collect(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &mut answers, &log);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, answers: &mut Answers, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length, mut user) = (String::new(), 0, String::new());
    reader.read_line(&mut line).unwrap();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => user = format!(" {value}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = line.split(' ').nth(1).unwrap().to_string();
    log.lock().unwrap().push(format!("{path}{user}"));
    let missing = (404, json!({"error_code": 40403, "message": "Schema not found"}).to_string());
    let (status, body) = match answers.get_mut(&path) {
        None => missing,
        Some(list) if list.len() > 1 => list.remove(0),
        Some(list) => list[0].clone(),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

fn client(url: &str, more: Value) -> Registry {
    let mut config = more;
    config["url"] = url.into();
    let config: RegistryConfig = serde_json::from_value(config).unwrap();
    Registry::new(&config, Arc::new(ManualClock::at(0))).unwrap()
}

fn plain() -> String {
    json!({"type": "record", "name": "A", "fields": [{"name": "id", "type": "long"}]}).to_string()
}

fn avro(url: &str, clock: Arc<ManualClock>) -> Arc<dyn MessageFormat> {
    let settings = json!({"format": "avro", "registry": {"url": url}});
    let settings: Settings = serde_json::from_value(settings).unwrap();
    settings.build(Some(&schema(json!([{"name": "id", "type": "int64"}]))), clock).unwrap()
}

#[tokio::test]
async fn each_id_is_asked_for_once_and_wrong_ones_cost_only_their_messages() {
    let refers = json!({"schema": r#"{"type":"record","name":"B","fields":[{"name":"id","type":"n.C"}]}"#,
        "references": [{"name": "n.C", "subject": "n/c", "version": 2}]});
    let referred = json!({"subject": "n/c", "id": 9, "version": 2, "schema": r#"{"type":"enum","name":"C","namespace":"n","symbols":["X"]}"#});
    let server = Server::start(&[
        ("/schemas/ids/1", &[(200, json!({"schema": plain()}))]),
        ("/schemas/ids/2", &[(200, json!({"schema": "{", "schemaType": "AVRO"}))]),
        ("/schemas/ids/3", &[(200, json!({"schema": "{}", "schemaType": "JSON"}))]),
        ("/schemas/ids/4", &[(200, refers)]),
        ("/subjects/n%2Fc/versions/2", &[(200, referred)]),
    ]);
    let clock = Arc::new(ManualClock::at(0));
    let format = avro(&server.url, clock.clone());
    let messages: Vec<Vec<u8>> =
        [1, 2, 3, 4, 42, 1].iter().map(|id| framed(*id, &[14])).chain([b"junk".to_vec()]).collect();
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    format.prepare(&slices).await.unwrap();
    assert_eq!(server.asked().len(), 6);
    format.prepare(&slices).await.unwrap();
    assert_eq!(server.asked(), [""; 0]);
    let given: Vec<Option<&[u8]>> = slices.iter().copied().map(Some).collect();
    let (lines, reasons) = read(format.as_ref(), &given);
    assert_eq!(lines, [r#"{"id":7}"#, r#"{"id":7}"#]);
    let why =
        ["schema 2: not JSON", "schema 3: it is of type JSON", "no symbol", "unknown schema id 42"];
    for (reason, why) in reasons[1..5].iter().zip(why) {
        assert!(reason.as_deref().unwrap().contains(why), "{reason:?}");
    }
    assert!(reasons[6].as_deref().unwrap().contains("first byte is not 0"));
    // Somebody may register it yet.
    clock.advance_ms(60_000);
    format.prepare(&slices).await.unwrap();
    assert_eq!(server.asked(), ["/schemas/ids/42"]);
}

#[tokio::test]
async fn junk_that_looks_like_ids_does_not_hammer_the_registry() {
    let server = Server::start(&[]);
    let format = avro(&server.url, Arc::new(ManualClock::at(0)));
    let messages: Vec<Vec<u8>> = (0..1000).map(|id| framed(id, &[])).collect();
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    format.prepare(&slices).await.unwrap();
    assert_eq!(server.asked().len(), 64);
    let mut decoder = format.decoder();
    assert!(decoder.take(&messages[3]).unwrap_err().contains("unknown schema id 3"));
    assert!(decoder.take(&messages[999]).unwrap_err().contains("too many"));
}

#[tokio::test]
async fn failures_that_pass_are_waited_for_and_others_are_told() {
    let failing = (500, json!({"error_code": 50001, "message": "store"}));
    let server = Server::start(&[
        (
            "/schemas/ids/1",
            &[
                failing.clone(),
                failing.clone(),
                (429, json!({})),
                (200, json!({"schema": plain()})),
            ],
        ),
        ("/schemas/ids/2", &[failing]),
        ("/schemas/ids/3", &[(401, json!({"error_code": 40101, "message": "who"}))]),
        ("/schemas/ids/4", &[(404, json!("a page"))]),
        ("/schemas/ids/5", &[(200, json!([]))]),
    ]);
    let registry = client(&server.url, json!({"user": "ada", "password": "p"}));
    assert_eq!(registry.schema(1).await.unwrap().unwrap().text, plain());
    assert_eq!(server.asked(), ["/schemas/ids/1 Basic YWRhOnA="; 4]);
    let kind = |found: Result<Option<Schema>>| found.unwrap_err().kind();
    assert_eq!(kind(registry.schema(2).await), Kind::Unavailable);
    assert_eq!(server.asked().len(), 5);
    for id in 3..=5 {
        assert_eq!(kind(registry.schema(id).await), Kind::Config);
    }
    assert_eq!(registry.schema(6).await.unwrap(), None);
    let nobody = client("http://127.0.0.1:1", json!({}));
    assert_eq!(kind(nobody.schema(1).await), Kind::Unavailable);
}

#[tokio::test]
async fn schemas_are_registered() {
    let server = Server::start(&[
        ("/base/subjects/a%20b/versions", &[(200, json!({"id": 7}))]),
        (
            "/base/subjects/c/versions",
            &[(409, json!({"error_code": 409, "message": "incompatible"}))],
        ),
    ]);
    let registry = client(&format!("{}/base/", server.url), json!({"token": "t"}));
    let arrow = ArrowSchema::new(vec![Field::new("id", DataType::Int64, false)]);
    let encoder = AvroEncoder::new(&arrow, "orders").unwrap();
    let id = registry.register("a b", encoder.schema(), SchemaType::Avro).await.unwrap();
    assert_eq!(id, 7);
    assert_eq!(server.asked(), ["/base/subjects/a%20b/versions Bearer t"]);
    let refused = registry.register("c", encoder.schema(), SchemaType::Avro).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Config);
    assert!(refused.message().contains("incompatible"), "{refused}");
}

#[tokio::test]
async fn changes_come_in_avro_too() {
    let row =
        json!({"type": "record", "name": "Value", "fields": [{"name": "id", "type": "long"}]});
    let envelope = json!({"type": "record", "name": "Envelope", "fields": [
        {"name": "before", "type": ["null", row], "default": null},
        {"name": "after", "type": ["null", "Value"], "default": null},
        {"name": "source", "type": {"type": "record", "name": "S", "fields": [{"name": "ts_ms", "type": "long"}]}},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"], "default": null},
    ]});
    let server =
        Server::start(&[("/schemas/ids/1", &[(200, json!({"schema": envelope.to_string()}))])]);
    let settings =
        json!({"format": "debezium", "envelope": "avro", "registry": {"url": server.url}});
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let fields = schema(json!([{"name": "id", "type": "int64"}]));
    let format = settings.build(Some(&fields), Arc::new(ManualClock::at(0))).unwrap();
    let create = framed(1, &[0, 2, 14, 0xD0, 0x0F, 2, b'c', 0]);
    let delete = framed(1, &[2, 16, 0, 0, 2, b'd', 0]);
    let empty = framed(1, &[0, 0, 0, 2, b'c', 0]);
    let truncate = framed(1, &[0, 0, 0, 2, b't', 0]);
    let cut = &create[..create.len() - 1];
    format.prepare(&[&create]).await.unwrap();
    let messages = [&create[..], &delete, &empty, &truncate, cut].map(Some);
    let (lines, reasons) = read(format.as_ref(), &messages);
    let first = r#"{"id":7,"_op":"c","_source_ts":"1970-01-01T00:00:01Z"}"#;
    let second = r#"{"id":8,"_op":"d","_source_ts":"1970-01-01T00:00:00Z"}"#;
    assert_eq!(lines, [first, second]);
    for (reason, why) in
        reasons[2..].iter().zip(["without `after`", "a truncate", "not of its schema"])
    {
        assert!(reason.as_deref().unwrap().contains(why), "{reason:?}");
    }
}
