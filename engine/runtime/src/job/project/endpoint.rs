//! `endpoints:`: what several keys of an entry mean together.
//!
//! In: validated entries. Out: [`EndpointSpec`]s whose parameters, paths and statements go
//! together, or what does not. Whether a statement can be planned is seen when the jobs' relations
//! are known.

use std::time::Duration;

use serde_json::Value;

use super::model::{EndpointSpec, ForwardSpec, Method, ParamFrom, ParamSpec, Shape, SourceRef};
use super::param::{self, declared, placeholders};
use super::read::Reader;
use super::route::{self, Routes};
use super::spec::{EndpointEntry, ForwardEntry, ParamEntry, ParamsEntry};
use crate::job::named::Named;
use crate::job::read::segment;
use crate::job::sql::SqlText;
use crate::job::suggest;

/// How long a model may take when nobody says: long answers come in one piece.
const FORWARD: Duration = Duration::from_secs(60);

/// A parameter as written in either form, with its place.
struct Written {
    name: String,
    data_type: String,
    default: Option<Value>,
    from: Option<ParamFrom>,
    /// Place of the entry, of its type, of its default.
    pointer: String,
    type_at: String,
    default_at: String,
}

impl Reader<'_, '_> {
    pub(super) fn endpoints(&mut self, entries: Named<EndpointEntry>) -> Vec<EndpointSpec> {
        let mut routes = Routes::default();
        let mut endpoints = Vec::new();
        for (name, entry) in entries {
            endpoints.extend(self.endpoint(name, entry, &mut routes));
        }
        endpoints
    }

    fn endpoint(
        &mut self,
        name: String,
        entry: EndpointEntry,
        routes: &mut Routes,
    ) -> Option<EndpointSpec> {
        let pointer = format!("/endpoints{}", segment(&name));
        let forwards = entry.forward.is_some();
        let default = if forwards { Method::Post } else { Method::Get };
        let method = entry.method.unwrap_or(default);
        let place = format!("{pointer}/path");
        let in_path = match route::parameters(&entry.path) {
            Ok(names) => {
                if let Err((message, hint)) = routes.take(method, &entry.path, &name) {
                    self.builder.report.at(&place, message, hint);
                }
                names
            }
            Err((message, hint)) => {
                if !self.builder.is_damaged(&place) {
                    self.builder.report.at(&place, message, hint);
                }
                return None;
            }
        };
        let cache = self.time(&format!("{pointer}/cache"), entry.cache);
        let count = entry.params.count();
        let written = self.written(&pointer, entry.params);
        let params = self.params(written, method, &in_path);
        let at = format!("{pointer}/params");
        let damaged = self.builder.is_damaged(&at) || self.builder.is_damaged_below(&at);
        // With a declaration that is wrong it is not known which there are.
        let all_known = params.len() == count && !damaged;
        if all_known {
            self.check_path(&pointer, &params, &in_path);
        }
        let mut endpoint = EndpointSpec {
            name,
            path: entry.path,
            method,
            sql: None,
            statement: None,
            params,
            shape: entry.shape,
            role: entry.role.needed(),
            cache,
            forward: None,
            doc: entry.doc,
            pointer,
        };
        match entry.forward {
            Some(forward) => {
                let has_sql = entry.sql.is_some() || entry.sql_file.is_some();
                endpoint.forward = Some(self.forward(&endpoint, has_sql, forward));
            }
            None => {
                let sql = self.builder.statement(&endpoint.pointer, entry.sql, entry.sql_file)?;
                if all_known {
                    self.check_used(&endpoint, &sql);
                }
                endpoint.sql = Some(sql.text.clone());
                endpoint.statement = Some(sql);
            }
        }
        Some(endpoint)
    }

    /// The parameters in one form.
    fn written(&mut self, pointer: &str, entry: ParamsEntry) -> Vec<Written> {
        let mut written: Vec<Written> = Vec::new();
        match entry {
            ParamsEntry::Short(texts) => {
                for (i, text) in texts.iter().enumerate() {
                    let place = format!("{pointer}/params/{i}");
                    match declared(text) {
                        Ok(declared) => written.push(Written {
                            name: declared.name,
                            data_type: declared.data_type,
                            default: declared.default,
                            from: None,
                            type_at: place.clone(),
                            default_at: place.clone(),
                            pointer: place,
                        }),
                        Err(error) => {
                            let hint = error.hint_text().unwrap_or_default().to_string();
                            self.builder.report.at(&place, error.message(), hint);
                        }
                    }
                }
            }
            ParamsEntry::Long(entries) => {
                for (name, entry) in entries {
                    let place = format!("{pointer}/params{}", segment(&name));
                    written.push(self.long(name, place, entry));
                }
            }
        }
        written
    }

    fn long(&mut self, name: String, pointer: String, entry: ParamEntry) -> Written {
        let default_at = format!("{pointer}/default");
        if entry.optional && entry.default.is_some() {
            let hint = "take `optional` away: without a value it is the default";
            let place = format!("{pointer}/optional");
            self.builder.report.at_key(&place, "a parameter has a default or may be NULL", hint);
        }
        let null = entry.optional.then_some(Value::Null);
        Written {
            name,
            data_type: entry.data_type,
            default: entry.default.map(|plain| plain.0).or(null),
            from: entry.from,
            type_at: format!("{pointer}/type"),
            default_at,
            pointer,
        }
    }

    fn params(
        &mut self,
        written: Vec<Written>,
        method: Method,
        in_path: &[String],
    ) -> Vec<ParamSpec> {
        let mut params: Vec<ParamSpec> = Vec::new();
        for entry in written {
            if !route::is_name(&entry.name) {
                let message = format!("not a name of a parameter name={}", entry.name);
                let hint = "names are snake_case and begin with a letter";
                self.builder.report.at_key(&entry.pointer, message, hint);
                continue;
            }
            if params.iter().any(|other| other.name == entry.name) {
                let message = format!("the parameter is declared twice name={}", entry.name);
                self.builder.report.at(&entry.pointer, message, "declare it once");
                continue;
            }
            params.extend(self.param(entry, method, in_path));
        }
        params
    }

    /// What the path names has to be declared.
    fn check_path(&mut self, endpoint: &str, params: &[ParamSpec], in_path: &[String]) {
        for name in in_path.iter().filter(|name| !params.iter().any(|p| p.name == **name)) {
            let message = format!("the path names a parameter that is not declared name={name}");
            let hint = format!("add `params: {{{name}: {{type: TEXT}}}}`");
            self.builder.report.at(&format!("{endpoint}/path"), message, hint);
        }
    }

    fn param(&mut self, entry: Written, method: Method, in_path: &[String]) -> Option<ParamSpec> {
        let is_in_path = in_path.contains(&entry.name);
        let by_method = match method {
            _ if is_in_path => ParamFrom::Path,
            Method::Get => ParamFrom::Query,
            Method::Post => ParamFrom::Body,
        };
        let from = entry.from.unwrap_or(by_method);
        let wrong = match from {
            ParamFrom::Path if !is_in_path => Some("add it to the path, as {name}"),
            ParamFrom::Query | ParamFrom::Body if is_in_path => {
                Some("take `from` away: the path names it")
            }
            ParamFrom::Body if method == Method::Get => {
                Some("a GET has no body: say `from: query`, or `method: POST`")
            }
            _ => None,
        };
        if let Some(hint) = wrong {
            let message = format!("the parameter does not stand there name={}", entry.name);
            self.builder.report.at(&format!("{}/from", entry.pointer), message, hint);
        }
        if from == ParamFrom::Path && entry.default.is_some() {
            let message = format!("a segment of a path has no default name={}", entry.name);
            let hint = "take the default away: the path is not served without the segment";
            self.builder.report.at(&entry.default_at, message, hint);
        }
        let data_type = match param::data_type(&entry.data_type) {
            Ok(data_type) => data_type,
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default().to_string();
                self.builder.report.at(&entry.type_at, error.message(), hint);
                return None;
            }
        };
        if let Some(default) = entry.default.as_ref().filter(|d| !param::fits(d, &data_type)) {
            let message = format!("the default is no {} value={default}", entry.data_type);
            let hint = "dates and timestamps are ISO 8601 in quotes, numbers have none";
            self.builder.report.at(&entry.default_at, message, hint);
        }
        Some(ParamSpec { name: entry.name, data_type, default: entry.default, from })
    }

    /// Parameters and placeholders are the same.
    fn check_used(&mut self, endpoint: &EndpointSpec, sql: &SqlText) {
        let used = placeholders(sql);
        let params = format!("{}/params", endpoint.pointer);
        let known: Vec<&str> = endpoint.params.iter().map(|p| p.name.as_str()).collect();
        let mut unknown: Vec<&str> = Vec::new();
        for (name, line, column) in &used {
            let is_told = unknown.contains(&name.as_str());
            if !known.contains(&name.as_str()) && !is_told {
                unknown.push(name);
                let (file, span) = sql.locate(*line, *column);
                let declare = format!("declare it: `params: {{{name}: {{type: INT}}}}`");
                let hint = suggest::names(name, known.iter().copied(), &declare);
                let message = format!("no such parameter name={name}");
                self.builder.report.problems().push(&file, Some(span), message, Some(hint));
            }
        }
        for param in &endpoint.params {
            // What was misspelt in the statement has been told there.
            let is_meant = |name: &&str| {
                suggest::near(name, known.iter().copied()) == Some(param.name.as_str())
            };
            let is_used = used.iter().any(|(name, _, _)| *name == param.name);
            if !is_used && !unknown.iter().any(is_meant) {
                let message =
                    format!("the statement does not use the parameter name={}", param.name);
                let hint = format!("use ${} in it, or take the parameter away", param.name);
                self.builder.report.at(&params, message, hint);
            }
        }
    }

    fn forward(
        &mut self,
        endpoint: &EndpointSpec,
        has_sql: bool,
        entry: ForwardEntry,
    ) -> ForwardSpec {
        let pointer = format!("{}/forward", endpoint.pointer);
        let report = &mut *self.builder.report;
        if has_sql {
            report.at_key(&pointer, "one question has two answers", "keep `sql` or `forward`");
        }
        if !endpoint.params.is_empty() {
            let place = format!("{}/params", endpoint.pointer);
            let hint = "take them away: the body holds a `message` or `messages`";
            report.at_key(&place, "a forwarded question has no parameters", hint);
        }
        if endpoint.method == Method::Get || endpoint.shape != Shape::default() {
            let key = if endpoint.method == Method::Get { "method" } else { "shape" };
            let place = format!("{}/{key}", endpoint.pointer);
            let message = format!("a forwarded question is a POST and has no shape key={key}");
            report.at_key(&place, message, "take the key away");
        }
        let is_url = |scheme: &&str| entry.url.starts_with(*scheme);
        if !entry.url.is_empty() && !["https://", "http://"].iter().any(is_url) {
            let message = format!("not the address of a server url={}", entry.url);
            let hint = "write it like https://api.example.com/v1";
            report.at(&format!("{pointer}/url"), message, hint);
        }
        let key = entry.key.filter(|key| !key.is_empty());
        ForwardSpec {
            key: key.and_then(|key| self.secret(&format!("{pointer}/key"), &key)),
            timeout: self.time(&format!("{pointer}/timeout"), entry.timeout).unwrap_or(FORWARD),
            conversations: self.source(&format!("{pointer}/conversations"), entry.conversations),
            messages: self.source(&format!("{pointer}/messages"), entry.messages),
            url: entry.url.trim_end_matches('/').to_string(),
            model: entry.model,
            system: entry.system,
        }
    }

    fn source(&mut self, pointer: &str, text: Option<String>) -> Option<SourceRef> {
        let text = text?;
        match text.split_once('.') {
            Some((job, source)) if !job.is_empty() && !source.is_empty() => {
                Some(SourceRef { job: job.to_string(), source: source.to_string() })
            }
            _ => {
                let message = format!("not a source of a job text={text}");
                self.builder.report.at(pointer, message, "write it as job.source");
                None
            }
        }
    }
}
