//! What goes wrong around a job that follows a topic, drawn by a seed: kills and freezes at random and
//! at every step of the protocol, brokers that die, a bad network, stores that fail.
//!
//! Each fault meets a run that has opened an epoch since it was started; the runner is started again
//! where it has ended. What must hold afterwards is said in `faults`.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_core::Step;

use crate::kafka::stream::Stream;
use crate::support::cli::{Output, Running, Sluice};
use crate::support::kafka::Cluster;
use crate::support::proxy::Proxy;
use crate::support::store::{ObjectStore, Trouble};
use crate::support::wait::{pause, until};

/// How long a run may take until it opens an epoch again after a fault: what must come by itself.
const SECONDS_MAX: u64 = 240;
/// How many more waits of 20 ms a run is given to reach the step where it is to stop.
const STEP_SECONDS_MAX: u64 = 20;
/// The latest moment of a kill after an epoch was opened.
const MOMENT_MS_MAX: u64 = 600;
/// How long a broker is frozen: longer than its session with the controller lasts.
const BROKER_SLEEPS_MS: u64 = 4_000;
/// What a run logs when it begins to work.
const OPENED: &str = "epoch opened";
const LOG: &str = "warn,sluice_runtime=info";
/// Of 1,000 requests to a store, how many go wrong.
const PER_MILLE: u32 = 100;

/// Steps that epochs of the job pass; the last two only sometimes.
const STEPS: [Step; 14] = [
    Step::LeaseTaken,
    Step::Polled,
    Step::FilesWritten,
    Step::StateWritten,
    Step::SideFilesWritten,
    Step::Sealed,
    Step::PublishStarted,
    Step::TablePublished,
    Step::FileCopied,
    Step::TablesPublished,
    Step::RecordWritten,
    Step::Acknowledged,
    Step::CompactionWritten,
    Step::CheckpointWritten,
];

/// Kinds of faults and how often each is drawn, of 20.
const KINDS: [(Fault, u32); 7] = [
    (Fault::Kill, 4),
    (Fault::KillAtStep, 5),
    (Fault::Freeze, 3),
    (Fault::FreezeAtStep, 3),
    (Fault::Cut, 2),
    (Fault::Stall, 2),
    (Fault::Broker, 1),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL at a moment nobody chose.
    Kill,
    /// Killed by itself at a step of the protocol.
    KillAtStep,
    /// SIGSTOP, and SIGCONT a while later.
    Freeze,
    /// Stopped at a step; a second runner takes over; then it goes on.
    FreezeAtStep,
    /// Connections to the broker or the store are reset.
    Cut,
    /// Nothing gets through to the broker or the store for a while, or slowly.
    Stall,
    /// The broker is killed and started again, or frozen for a while.
    Broker,
}

/// A job under faults.
pub struct Storm<'a> {
    pub stream: &'a Stream<'a>,
    pub cluster: &'a mut Cluster,
    /// The network to the broker, and to the store if there is one.
    pub networks: Vec<&'a Proxy>,
    pub store: Option<&'a mut ObjectStore>,
    random: StdRng,
    /// Which step is next: each has its turn.
    step: usize,
    /// How many of each were done, and met the job at work.
    pub done: BTreeMap<Fault, u32>,
    running: Option<Running>,
    /// The newest epoch that a run said it had opened: asking the store takes long while it fails.
    newest: u64,
}

impl<'a> Storm<'a> {
    pub fn new(
        stream: &'a Stream<'a>,
        cluster: &'a mut Cluster,
        networks: Vec<&'a Proxy>,
        store: Option<&'a mut ObjectStore>,
        seed: u64,
    ) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let done = BTreeMap::new();
        Self { stream, cluster, networks, store, random, step: 0, done, running: None, newest: 0 }
    }

    /// So many faults, and a run to the end in peace.
    pub fn blow(&mut self, faults: u32) {
        while self.done.values().sum::<u32>() < faults {
            let round = self.done.values().sum::<u32>();
            if let Some(store) = self.store.as_mut().filter(|_| round.is_multiple_of(5)) {
                let all = [
                    Trouble::Mixed,
                    Trouble::Errors,
                    Trouble::Lands,
                    Trouble::Slow,
                    Trouble::TimeOuts,
                ];
                let kind = all[(round / 5) as usize % all.len()];
                store.trouble(kind, PER_MILLE, self.random.random());
            }
            let fault = self.draw();
            println!("{round}: {fault:?}");
            if let Some(met) = self.happens(fault) {
                *self.done.entry(met).or_default() += 1;
            }
        }
        self.networks.iter().for_each(|network| network.heal());
        if let Some(store) = &mut self.store {
            store.trouble(Trouble::None, 0, 0);
        }
        let running = self.at_work();
        running.signal("TERM");
        let output = running.wait();
        assert_eq!(output.code, Some(0), "{}", output.text());
    }

    fn draw(&mut self) -> Fault {
        let mut drawn = self.random.random_range(0..KINDS.iter().map(|(_, share)| share).sum());
        for (fault, share) in KINDS {
            if drawn < share {
                return fault;
            }
            drawn -= share;
        }
        unreachable!("shares add up")
    }

    /// What met the job at work: the fault, or the one that it came to.
    fn happens(&mut self, fault: Fault) -> Option<Fault> {
        let met = match fault {
            Fault::Kill => {
                let running = self.at_work();
                pause(self.random.random_range(0..MOMENT_MS_MAX));
                running.signal("KILL");
                dies(running)
            }
            Fault::KillAtStep => return self.kill_at_step(),
            Fault::FreezeAtStep => self.freeze_at_step(),
            Fault::Freeze => {
                let running = self.at_work();
                running.signal("STOP");
                pause(self.random.random_range(100..2_500));
                running.signal("CONT");
                self.running = Some(running);
                true
            }
            Fault::Cut => {
                let running = self.at_work();
                let network = self.network();
                network.refuse();
                pause(self.random.random_range(0..1_000));
                network.heal();
                self.running = Some(running);
                true
            }
            Fault::Stall => {
                let running = self.at_work();
                let network = self.network();
                match self.random.random_range(0..2) {
                    0 => network.stall(),
                    _ => network.delay(40),
                }
                pause(self.random.random_range(200..2_500));
                network.heal();
                self.running = Some(running);
                true
            }
            Fault::Broker => {
                let running = self.at_work();
                // Every other one only sleeps, longer than it may.
                if self.done.get(&fault).is_some_and(|times| times % 2 == 1) {
                    self.cluster.signal(0, "STOP");
                    pause(BROKER_SLEEPS_MS);
                    self.cluster.signal(0, "CONT");
                } else {
                    self.cluster.kill(0);
                    pause(self.random.random_range(0..2_000));
                    self.cluster.restart(0);
                }
                self.running = Some(running);
                true
            }
        };
        met.then_some(fault)
    }

    fn network(&mut self) -> &'a Proxy {
        self.networks[self.random.random_range(0..self.networks.len())]
    }

    fn follow(&self) -> Sluice {
        self.stream.run().arg("--follow").arg("--log").arg(LOG)
    }

    /// A run that has opened an epoch since it was started, or since it was last looked at; a new one
    /// where there is none. Stores and brokers that failed for long may have ended the last one,
    /// saying so; a run that was overtaken may be told that it is not alone.
    fn at_work(&mut self) -> Running {
        let Some(mut running) = self.running.take() else { return self.opens(&self.follow()) };
        let opened = running.said().matches(OPENED).count();
        let goes_on = until("an epoch to open", SECONDS_MAX, || {
            let more = running.said().matches(OPENED).count() > opened;
            (more || running.ended().is_some()).then_some(more)
        });
        self.note(&running);
        if goes_on { running } else { self.opens(&self.follow()) }
    }

    /// Takes note of the newest epoch that a run opened.
    fn note(&mut self, running: &Running) {
        let said = running.said();
        let opened = said.lines().filter(|line| line.contains(OPENED));
        let epochs = opened.filter_map(|line| line.rsplit_once("epoch=")?.1.trim().parse().ok());
        self.newest = epochs.fold(self.newest, u64::max);
    }

    /// A new run that has opened an epoch, started again where it ended before that.
    fn opens(&mut self, run: &Sluice) -> Running {
        let mut running = run.start();
        until("an epoch to open", SECONDS_MAX, || {
            if running.ended().is_some() {
                running = run.start();
            }
            running.said().contains(OPENED).then_some(())
        });
        self.note(&running);
        running
    }

    /// Ends the run in peace; its epochs go on where it ended.
    fn rest(&mut self) {
        if let Some(running) = self.running.take() {
            self.note(&running);
            running.signal("KILL");
            dies(running);
        }
    }

    fn step(&mut self, how: &str) -> Sluice {
        self.rest();
        let step = STEPS[self.step % STEPS.len()];
        self.step += 1;
        let epoch = match step {
            // Passed once by a run, with the epoch it begins at.
            Step::LeaseTaken => self.stream.place.next_epoch(crate::kafka::stream::JOB),
            _ => self.newest + self.random.random_range(1..4),
        };
        self.follow().env("SLUICE_STOP", format!("{}@{epoch}={how}", step.name()))
    }

    /// A run that kills itself at a step. One that does not come to it, since not every epoch passes
    /// every step, is killed where it is, and counts as that.
    fn kill_at_step(&mut self) -> Option<Fault> {
        let mut running = self.step("kill").start();
        let mut waits = STEP_SECONDS_MAX * 50;
        until("a kill at a step", SECONDS_MAX, || {
            waits = waits.saturating_sub(1);
            (running.ended().is_some() || waits == 0).then_some(())
        });
        let met = match running.ended() {
            Some(_) => Fault::KillAtStep,
            None => {
                running.signal("KILL");
                Fault::Kill
            }
        };
        dies(running).then_some(met)
    }

    /// A runner freezes at a step; another works on; the first must find out by itself.
    fn freeze_at_step(&mut self) -> bool {
        let mut zombie = self.step("freeze").start();
        let tasks = format!("/proc/{}/stat", zombie.id());
        let mut waits = STEP_SECONDS_MAX * 50;
        let frozen = until("a freeze at a step", SECONDS_MAX, || {
            waits = waits.saturating_sub(1);
            let stat = std::fs::read_to_string(&tasks).unwrap_or_default();
            let stopped = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
            (stopped || zombie.ended().is_some() || waits == 0).then_some(stopped)
        });
        if !frozen {
            self.running = zombie.ended().is_none().then_some(zombie);
            return false;
        }
        // What the first had sent before it froze may land later and fence the second: then whoever
        // looks after it starts it again.
        let second = self.opens(&self.follow().arg("--take-over"));
        pause(self.random.random_range(0..MOMENT_MS_MAX));
        self.running = Some(survivor(zombie, second));
        true
    }
}

/// Thaws a runner that was overtaken, until one of both has ended: the first, unless it slept through
/// the time that a request may take and went through recovery, which puts it ahead again. It freezes
/// again each time it reaches its step again.
fn survivor(mut zombie: Running, mut second: Running) -> Running {
    let first_ended = until("the end of one of two runners", SECONDS_MAX, || {
        zombie.signal("CONT");
        zombie.ended().map(|_| true).or_else(|| second.ended().map(|_| false))
    });
    let (ended, left) = if first_ended { (zombie, second) } else { (second, zombie) };
    fenced(&ended.wait());
    left
}

/// Waits for a killed run; whether the kill met it.
fn dies(running: Running) -> bool {
    let output = running.wait();
    output.says(&[]);
    output.code.is_none()
}

/// The run has stopped by itself, as the one that was overtaken.
fn fenced(output: &Output) {
    assert_eq!(output.code, Some(1), "{}", output.text());
    output.says(&["another runner"]);
}
