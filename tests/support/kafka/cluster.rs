//! Brokers that a test has for itself, to be killed, stopped and started again: one node or three,
//! some behind a proxy, some with a listener that speaks TLS.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::Broker;
use super::node::{self, Detour, Node, Ports, Secure};
use crate::support::proxy::{Proxy, free_port};
use crate::support::wait;

/// How long a cluster may take to answer; far more than it does on a busy machine.
const SECONDS_MAX: u64 = 180;

/// Nodes that know each other.
pub struct Cluster {
    nodes: Vec<Node>,
    broker: Broker,
    /// Goes last: the nodes write there.
    _folder: TempDir,
}

impl Cluster {
    /// So many nodes, ready.
    pub fn start(count: usize) -> Self {
        let ports: Vec<Ports> = (0..count).map(|_| Ports::free()).collect();
        Self::with(&ports)
    }

    /// One node whose clients come through a proxy, and the proxy. [`Cluster::broker`] goes past it.
    pub fn behind_a_proxy() -> (Self, Proxy) {
        let mut ports = Ports::free();
        let listens = free_port();
        let proxy = Proxy::to(listens);
        ports.detours.push(Detour { listens, advertised: proxy.port() });
        (Self::with(&[ports]), proxy)
    }

    /// One node that beside its plain listener has one for clients that speak TLS and say who they
    /// are, and that one's address. `store` holds the node's key and certificate.
    pub fn secured(store: &Path, user: &str, password: &str) -> (Self, String) {
        let mut ports = Ports::free();
        let (port, store) = (free_port(), store.to_path_buf());
        let (user, password) = (user.to_string(), password.to_string());
        ports.secure = Some(Secure { port, store, user, password });
        (Self::with(&[ports]), format!("127.0.0.1:{port}"))
    }

    fn with(ports: &[Ports]) -> Self {
        assert!(
            node::can_run(),
            "this test has brokers of its own, whatever KAFKA_BOOTSTRAP says: it needs a JDK and \
             the jars that tests/setup fetches"
        );
        let folder = tempfile::tempdir().unwrap();
        let place = |n: usize| folder.path().join(n.to_string());
        let node = |n: usize| Node::new(n, ports, &place(n), false);
        let mut nodes: Vec<Node> = (0..ports.len()).map(node).collect();
        start(&mut nodes);
        let addresses = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.client));
        let broker = Broker::at(addresses.collect::<Vec<_>>().join(","));
        let cluster = Self { nodes, broker, _folder: folder };
        cluster.ready();
        cluster
    }

    /// What asks it and writes into it, without a proxy.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Waits until all nodes that run know of each other.
    pub fn ready(&self) {
        let count = self.nodes.iter().filter(|node| node.lives()).count();
        ready(&self.broker, count, &self.nodes);
    }

    /// Ends a node at once.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node again and waits until the others know.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].kill();
        self.nodes[node].start();
        self.ready();
    }

    /// Sends a node a signal: `STOP`, `CONT`.
    pub fn signal(&self, node: usize, name: &str) {
        self.nodes[node].signal(name);
    }
}

/// Formats what nodes start on, all at once, and starts them.
pub(super) fn start(nodes: &mut [Node]) {
    let formats: Vec<_> = nodes.iter().map(Node::format).collect();
    for mut format in formats {
        assert!(format.wait().unwrap().success(), "a node's log cannot be made");
    }
    nodes.iter_mut().for_each(Node::start);
}

/// Waits until a client sees so many brokers, which answer.
pub(super) fn ready(broker: &Broker, count: usize, nodes: &[Node]) {
    wait::until("a Kafka cluster", SECONDS_MAX, || {
        for node in nodes {
            let said = || node.said();
            assert!(node.lives() || count < nodes.len(), "a Kafka node ended\n{}", said());
        }
        (broker.brokers(Duration::from_secs(2)) >= count).then_some(())
    });
}
