//! Beside a run: renews its lease, however long an epoch takes or nothing comes, listens for what
//! `maintain` asks, and writes down what the run says of itself.
//!
//! It decides nothing: a request is worked by the run, between two epochs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::{Clock, Error, Result};
use sluice_lake::manifest::{LEASE_TTL, Lease, Renewed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::request::{Request, Requests};
use super::tell::Bulletin;

/// How often it looks for a request; every second time it renews the lease.
const LOOK: Duration = Duration::from_secs(LEASE_TTL.as_secs() / 6);

/// A lease in good hands.
#[derive(Debug)]
pub(super) struct Tender {
    task: JoinHandle<Lease>,
    over: CancellationToken,
    asked: Arc<Mutex<Option<Request>>>,
}

impl Tender {
    /// Takes care of `lease` from now on.
    pub fn start(
        clock: Arc<dyn Clock>,
        lease: Lease,
        requests: Requests,
        bulletin: Bulletin,
    ) -> Self {
        let (over, asked) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
        let ears = Ears { requests, bulletin, asked: asked.clone() };
        let task = tokio::spawn(tend(clock, lease, ears, over.clone()));
        Self { task, over, asked }
    }

    /// Whether something is asked.
    pub fn is_asked(&self) -> bool {
        self.asked.lock().is_some()
    }

    /// What is asked, once.
    pub fn take(&self) -> Option<Request> {
        self.asked.lock().take()
    }

    /// Gives the lease back.
    pub async fn end(mut self) -> Result<Lease> {
        self.over.cancel();
        (&mut self.task).await.map_err(|e| Error::bug("the lease was lost track of").because(e))
    }
}

impl Drop for Tender {
    /// A run that is dropped in the middle holds the job no longer: nobody else could end that.
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Where it listens and speaks.
struct Ears {
    requests: Requests,
    bulletin: Bulletin,
    asked: Arc<Mutex<Option<Request>>>,
}

async fn tend(
    clock: Arc<dyn Clock>,
    mut lease: Lease,
    ears: Ears,
    over: CancellationToken,
) -> Lease {
    let (mut lost, mut heard) = (false, None);
    for round in 1_u64.. {
        tokio::select! {
            () = over.cancelled() => break,
            () = clock.sleep(LOOK) => {}
        }
        if round % 2 == 0 {
            lost = renew(&mut lease, lost).await;
        }
        match ears.requests.pending().await {
            // It stays there until it is answered.
            Ok(Some(request)) if heard.as_ref() != Some(&request.id) => {
                heard = Some(request.id.clone());
                *ears.asked.lock() = Some(request);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(error = error.chain(), "requests were not read"),
        }
        ears.bulletin.try_post().await;
    }
    lease
}

/// Renews, and says whether somebody else has the lease now.
async fn renew(lease: &mut Lease, lost_before: bool) -> bool {
    match lease.renew().await {
        Ok(Renewed::Held) => false,
        Ok(Renewed::Lost(holder)) => {
            if !lost_before {
                tracing::warn!(run = holder.run, host = holder.host, "another runner took over");
            }
            true
        }
        Err(error) => {
            tracing::warn!(error = error.chain(), "the lease was not renewed");
            lost_before
        }
    }
}
