//! Delivers the files of one outbox to a URL, request by request.
//!
//! In: rows of a file. Out: requests that were answered, in order as far as one goes at a time. It
//! keeps one thing between attempts: how far in the file rows are settled, so that an outage in the
//! middle of a file does not give its beginning again.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use sluice_core::{
    Delivery, Error, OutboxPosition, OutboxRows, OutletContext, Refused, Reservation, Result,
};

use super::config::Settings;
use super::request::{Bodies, Packer, Request};
use super::sender::Sender;

/// Bodies are held as they were made and once more in their requests.
const COPIES: usize = 2;

/// Delivers one outbox.
pub(super) struct HttpDelivery {
    sender: Arc<Sender>,
    bodies: Bodies,
    context: OutletContext,
    rows_max: usize,
    bytes_max: usize,
    concurrency: usize,
    progress: Progress,
    /// Whether the file that was handed over last is whole.
    handed_over: bool,
}

/// How far a file is.
#[derive(Debug, Default)]
struct Progress {
    at: Option<OutboxPosition>,
    /// Rows before this one are settled.
    next: u64,
    refused: Vec<Refused>,
}

impl HttpDelivery {
    /// Nobody is asked yet. Errors: `Config` when the rows do not go with the settings.
    pub(super) fn new(settings: Settings, context: OutletContext) -> Result<Self> {
        let bodies = Bodies::new(&settings, &context.schema)?;
        let (rows_max, bytes_max) = (settings.batch, settings.body_bytes_max);
        let concurrency = settings.concurrency;
        let (clock, secrets) = (context.context.clock.clone(), context.context.secrets.clone());
        let sender = Arc::new(Sender::new(settings, clock, secrets)?);
        let progress = Progress::default();
        Ok(Self {
            sender,
            bodies,
            context,
            rows_max,
            bytes_max,
            concurrency,
            progress,
            handed_over: false,
        })
    }

    /// The requests of a file, but for those before row `from`.
    fn requests(&self, rows: OutboxRows, from: u64) -> BoxStream<'static, Result<Request>> {
        let owner = format!("bodies of sink {}", self.context.sink);
        let packing = Packing {
            rows,
            bodies: self.bodies.clone(),
            packer: Packer::new(self.rows_max, self.bytes_max),
            from,
            over: false,
            held: self.context.context.memory.reserve(&owner),
        };
        let next = |mut packing: Packing| async move {
            Ok::<_, Error>(packing.next().await?.map(|request| (request, packing)))
        };
        stream::try_unfold(packing, next).boxed()
    }

    /// What the keys of a file's requests begin with: the same for the same rows, of no other chain,
    /// sink, epoch or file.
    fn place(&self, at: OutboxPosition) -> Arc<str> {
        let (chain, sink) = (&self.context.chain, &self.context.sink);
        format!("{chain}/{sink}/{}/{}", at.epoch, at.file).into()
    }
}

#[async_trait]
impl Delivery for HttpDelivery {
    async fn attach(&mut self) -> Result<Option<OutboxPosition>> {
        self.handed_over = false;
        Ok(None)
    }

    async fn deliver(&mut self, at: OutboxPosition, rows: OutboxRows) -> Result<Vec<Refused>> {
        self.handed_over = false;
        if self.progress.at != Some(at) {
            self.progress = Progress { at: Some(at), ..Progress::default() };
        }
        let (sender, place) = (self.sender.clone(), self.place(at));
        let send = move |request: Result<Request>| {
            let (sender, place) = (sender.clone(), place.clone());
            async move {
                let request = request?;
                let next = request.next;
                Ok::<_, Error>((next, sender.settle(request, &place).await?))
            }
        };
        let requests = self.requests(rows, self.progress.next);
        let mut settled = pin!(requests.map(send).buffered(self.concurrency));
        while let Some(one) = settled.next().await {
            let (next, refused) = one?;
            self.progress.next = next;
            self.progress.refused.extend(refused);
        }
        self.handed_over = true;
        Ok(self.progress.refused.clone())
    }

    async fn commit(&mut self) -> Result<()> {
        match std::mem::take(&mut self.handed_over) {
            true => Ok(()),
            false => Err(Error::bug("a sink commits what it was not given")),
        }
    }
}

/// The rows of a file on their way into requests.
struct Packing {
    rows: OutboxRows,
    bodies: Bodies,
    packer: Packer,
    /// Requests that end before this row were settled.
    from: u64,
    over: bool,
    held: Box<dyn Reservation>,
}

impl Packing {
    async fn next(&mut self) -> Result<Option<Request>> {
        loop {
            match self.packer.take() {
                Some(request) if request.next > self.from => return Ok(Some(request)),
                Some(_) => continue,
                None if self.over => return Ok(None),
                None => {}
            }
            let Some(batch) = self.rows.next().await else {
                self.over = true;
                self.packer.finish();
                continue;
            };
            let bodies = self.bodies.of(&batch?)?;
            let bytes: usize = bodies.iter().flatten().map(|body| body.len()).sum();
            self.held.insist(bytes.saturating_mul(COPIES))?;
            bodies.into_iter().for_each(|body| self.packer.push(body));
        }
    }
}
