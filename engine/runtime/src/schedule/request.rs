//! What `maintain` asks of the runner of a job, and what the runner answers: two small objects
//! beside the manifests.
//!
//! Neither has any weight in the protocol: one that is lost is asked again.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sluice_core::{Error, Result};
use sluice_lake::manifest::job_folder;
use sluice_lake::store::Location;

use super::upkeep::Upkeep;

/// Somebody wants a job's tables looked after by its runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Tells it from others.
    pub id: String,
    /// What to do.
    pub upkeep: Upkeep,
}

/// What the runner did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    id: String,
    done: Vec<String>,
}

/// Where a job's requests are.
#[derive(Debug, Clone)]
pub struct Requests {
    asked: Location,
    answered: Location,
}

impl Requests {
    /// The requests to the runner of `job`.
    pub fn new(lake: &Location, job: &str) -> Self {
        let folder = job_folder(lake, job);
        Self { asked: folder.child("maintain.json"), answered: folder.child("maintained.json") }
    }

    /// Asks; an older request makes room.
    pub async fn ask(&self, request: &Request) -> Result<()> {
        write(&self.asked, request).await
    }

    /// What is asked; an unreadable request is none.
    pub async fn pending(&self) -> Result<Option<Request>> {
        read(&self.asked).await
    }

    /// Takes a request back, done or not.
    pub async fn withdraw(&self) -> Result<()> {
        self.asked.store.delete(&self.asked.path).await
    }

    /// Says what was done for a request.
    pub async fn answer(&self, request: &Request, done: Vec<String>) -> Result<()> {
        write(&self.answered, &Answer { id: request.id.clone(), done }).await?;
        // A newer one waits for its own answer.
        match self.pending().await? {
            Some(other) if other.id != request.id => Ok(()),
            _ => self.withdraw().await,
        }
    }

    /// What was done for the request `id`; nothing yet when it was not answered.
    pub async fn answer_to(&self, id: &str) -> Result<Option<Vec<String>>> {
        let answer: Option<Answer> = read(&self.answered).await?;
        Ok(answer.filter(|a| a.id == id).map(|a| a.done))
    }
}

async fn write<T: Serialize + Sync>(place: &Location, what: &T) -> Result<()> {
    let json = serde_json::to_vec(what);
    let json = json.map_err(|e| Error::bug("cannot write a request as json").because(e))?;
    place.store.put_hint(&place.path, Bytes::from(json)).await
}

async fn read<T: DeserializeOwned>(place: &Location) -> Result<Option<T>> {
    let bytes = place.store.get(&place.path).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
