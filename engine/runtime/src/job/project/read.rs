//! From the text of `sluice.yaml` to a [`Project`], and the tree that its jobs borrow from.
//!
//! In: the file, `--target`, `--set`. Out: [`Found`], with all that is wrong. The project is read
//! with its own values; what its jobs change shows in them alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_core::{Problems, Registry};

use super::find::{default_packs, folder_of};
use super::model::{Project, ServeSpec, TokenRef, UserSpec};
use super::spec::{ProjectSpec, TokenEntry, UserEntry};
use crate::job::build::Builder;
use crate::job::check::check;
use crate::job::load::text_of;
use crate::job::model::Job;
use crate::job::named::Named;
use crate::job::read::{Document, Interpolated, Scope, layered, segment};
use crate::job::report::Report;
use crate::job::schema::project_spec_schema;
use crate::job::{LoadOptions, Pack};

/// A project's file as far as it could be read.
pub(in crate::job) struct Found {
    /// Its tree as written, for its jobs; none when it is no tree.
    pub document: Option<Arc<Document>>,
    /// The project; none when not even its outline can be read.
    pub project: Option<Project>,
    /// What is wrong with it.
    pub problems: Problems,
}

/// Reads the project's file at `file`.
pub(in crate::job) fn read(file: &Path, options: &LoadOptions, registry: &Registry) -> Found {
    let mut problems = Problems::new();
    let text = text_of(file, &mut problems);
    let document = text.and_then(|text| Document::parse(file, &text, &mut problems));
    let Some(document) = document else {
        return Found { document: None, project: None, problems };
    };
    let shared = Arc::new(document.clone());
    let document = layered(document, None, options);
    let mut report = Report::new(&document, &mut problems);
    let scope = Scope::new(&document, options, &mut report);
    let tree = Interpolated::new(&document, &scope, &mut report);
    // Of an endpoint that says wrongly who may ask, the rest is checked too.
    let placeholders = [("/project", "unnamed"), ("/endpoints/*/role", "admin")];
    let schema = project_spec_schema();
    let checked = check(&schema, &tree.value, "", &tree.failed, &placeholders, &mut report);
    let project = match serde_json::from_value::<ProjectSpec>(checked.value) {
        Ok(spec) => {
            let builder = Builder::new(&tree, registry, checked.damaged, &mut report);
            Some(Reader { builder }.project(file, spec, scope))
        }
        Err(error) => {
            let message = format!("the project cannot be read error={error}");
            report.at("", message, "`sluice schema project` prints what the file may hold");
            None
        }
    };
    Found { document: Some(shared), project, problems }
}

/// A project with defaults around a pack or job file that has none.
pub(in crate::job) fn around(pack: &Pack) -> Project {
    let path = pack.path.as_path();
    let root = if path.is_dir() { path } else { folder_of(path) };
    let name = fs::canonicalize(root).ok();
    let name = name.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let of_jobs = |of: fn(&Job) -> Option<String>| {
        let mut all = pack.jobs.iter().map(|job| of(job));
        let first = all.next().flatten();
        first.filter(|first| all.all(|other| other.as_ref() == Some(first)))
    };
    Project {
        root: root.to_path_buf(),
        file: None,
        name: name.unwrap_or("pack").to_string(),
        packs: vec![path.to_path_buf()],
        target: of_jobs(|job| job.target.clone()),
        serve: ServeSpec::of(root),
        users: Vec::new(),
        endpoints: Vec::new(),
        lake: of_jobs(|job| Some(job.lake.clone())),
        secrets: pack.jobs.first().map(|job| job.secrets.clone()).unwrap_or_default(),
        stores: pack.jobs.first().map(|job| job.stores.clone()).unwrap_or_default(),
        vars: pack.jobs.first().map(|job| job.vars.clone()).unwrap_or_default(),
    }
}

/// Reads the sections of a project, some of them the way a job's are.
pub(super) struct Reader<'a, 'b> {
    pub(super) builder: Builder<'a, 'b>,
}

impl Reader<'_, '_> {
    fn project(&mut self, file: &Path, spec: ProjectSpec, scope: Scope) -> Project {
        let root = folder_of(file).to_path_buf();
        let mut secrets = self.builder.secrets(spec.secrets, "/secrets");
        for (name, target) in spec.targets {
            let pointer = format!("/targets{}/secrets", segment(&name));
            let own = self.builder.secrets(target.secrets, &pointer);
            if scope.target.as_ref() == Some(&name) {
                secrets.extend(own);
            }
        }
        // What jobs do not say about their epochs is checked here too: it may have no job yet.
        self.builder.epoch(spec.epoch);
        let users = self.users(spec.users);
        let serve = self.serve(&root, spec.serve);
        Project {
            name: spec.project,
            packs: self.packs(&root, spec.packs),
            target: scope.target,
            serve,
            users,
            endpoints: self.endpoints(spec.endpoints),
            lake: spec.lake,
            secrets: secrets.into_iter().collect(),
            stores: self.builder.storage(spec.storage),
            vars: scope.vars,
            file: Some(file.to_path_buf()),
            root,
        }
    }

    /// The folders of the packs, each of which has to be there.
    fn packs(&mut self, root: &Path, names: Option<Vec<String>>) -> Vec<PathBuf> {
        let Some(names) = names else { return default_packs(root) };
        let mut packs: Vec<PathBuf> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let place = format!("/packs/{i}");
            let pack = if name == "." { root.to_path_buf() } else { root.join(name) };
            if !pack.is_dir() {
                let hint = format!("packs are relative to this file: {}", pack.display());
                self.builder.report.at(&place, format!("no such folder pack={name}"), hint);
            } else if packs.contains(&pack) {
                let message = format!("the pack is named twice pack={name}");
                self.builder.report.at(&place, message, "name it once");
            } else {
                packs.push(pack);
            }
        }
        packs
    }

    fn users(&mut self, entries: Named<UserEntry>) -> Vec<UserSpec> {
        let mut users: Vec<UserSpec> = Vec::new();
        for (name, entry) in entries {
            let pointer = format!("/users{}/token", segment(&name));
            let token = match entry.token {
                TokenEntry::Hashed(hashed) => TokenRef::Sha256(hashed.sha256.to_lowercase()),
                TokenEntry::Secret(text) => match self.secret(&pointer, &text) {
                    Some(secret) => TokenRef::Secret(secret),
                    None => continue,
                },
            };
            if let Some(other) = users.iter().find(|user| user.token == token) {
                let message = format!("two users have the same token users={}, {name}", other.name);
                self.builder.report.at(&pointer, message, "give each a token of its own");
            }
            users.push(UserSpec { name, role: entry.role, token });
        }
        users
    }

    /// The name of the secret that `text` refers to; anything else is told.
    pub(super) fn secret(&mut self, pointer: &str, text: &str) -> Option<String> {
        if self.builder.is_damaged(pointer) {
            return None;
        }
        let name = text.strip_prefix("${secrets.").and_then(|rest| rest.strip_suffix('}'));
        if name.is_none() {
            let hint = "write `secrets: {name: {env: NAME}}` and \"${secrets.name}\" here";
            self.builder.report.at(pointer, "a secret does not stand in a file", hint);
        }
        name.map(str::to_string)
    }
}
