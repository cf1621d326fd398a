//! Blocking client for one member's public HTTP endpoints. Every request has a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use alys_node::actors::consensus::byzantine::Misbehaviour;
use alys_node::ops::view::{
    AttemptView, BlockView, ClockRequest, DiskFaultRequest, EquivocationView, EvidenceView, FaultRequest,
    FederationView, GateDecision, GateView, GenesisView, MisbehaviourRequest, Problem, ReadyView,
    ReceivedStatementView, ReceivedView, ShutdownView, SignatureView, SignaturesView, SupervisionMemoryView,
    TransactionReceipt, TransactionRequest,
};
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::federation::{Depth, MemberReport};

/// Timeout of one request: long, because a member on a busy machine answers late.
const REQUEST: Duration = Duration::from_secs(2);
/// Maximum number of blocks read per poll, so that a long chain does not delay the poll's end.
const BLOCKS_A_LOOK: u64 = 256;
/// Number of signatures in one full page, the member's maximum.
const SIGNATURES_A_PAGE: usize = 4_096;

/// HTTP client of one member.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: String,
    agent: Agent,
}

/// Position up to which a member's data has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    incarnation: u64,
    height: u64,
}

impl Client {
    /// Creates a client of the member at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false)
            // Members are on loopback; proxy settings in the environment must not apply.
            .proxy(None)
            .build();
        Self { base: format!("http://{address}"), agent: config.into() }
    }

    /// Whether the member's process answers `/livez`.
    pub(crate) fn is_live(&self) -> bool {
        self.request("/livez").is_ok_and(|response| response.status().is_success())
    }

    /// Why the member refused to stop; `None` if it did not refuse or no longer runs.
    pub(crate) fn refusal(&self) -> Result<Option<String>, String> {
        let view: ShutdownView = self.get("/shutdown")?;
        let refuses = view.state == "running" && !view.refusal.is_empty();
        Ok(refuses.then_some(view.refusal))
    }

    /// Posts a transaction.
    pub(crate) fn submit(&self, payload: &str) -> Result<TransactionReceipt, String> {
        let path = "/transactions";
        let request = TransactionRequest { payload: payload.to_owned() };
        let response = self.agent.post(self.url(path)).send_json(&request);
        read(path, StatusCode::ACCEPTED, response.map_err(|error| format!("POST {path}: {error}"))?)
    }

    /// Orders the member to inject a fault into an actor.
    pub(crate) fn fault(&self, order: &FaultRequest) -> Result<FaultRequest, String> {
        let path = "/faults";
        let response = self.agent.post(self.url(path)).send_json(order);
        read(path, StatusCode::ACCEPTED, response.map_err(|error| format!("POST {path}: {error}"))?)
    }

    /// Orders the member to break the protocol in the given way, or with `None` to follow it again.
    pub(crate) fn misbehave(&self, how: Option<Misbehaviour>) -> Result<MisbehaviourRequest, String> {
        let path = "/faults/consensus";
        let order = MisbehaviourRequest { misbehaviour: how };
        let response = self.agent.post(self.url(path)).send_json(&order);
        read(path, StatusCode::ACCEPTED, response.map_err(|error| format!("POST {path}: {error}"))?)
    }

    /// Adds `sync_delay_ms` to every sync of the member's disk.
    pub(crate) fn slow_disk(&self, sync_delay_ms: u32) -> Result<(), String> {
        let path = "/faults/disk";
        let response = self.agent.post(self.url(path)).send_json(DiskFaultRequest { sync_delay_ms });
        let answer = response.map_err(|error| format!("POST {path}: {error}"))?;
        read::<DiskFaultRequest>(path, StatusCode::ACCEPTED, answer).map(drop)
    }

    /// Sets the offset of the member's wall clock from the machine's, in milliseconds.
    pub(crate) fn set_clock(&self, ahead_ms: i64) -> Result<ClockRequest, String> {
        let path = "/faults/clock";
        let response = self.agent.post(self.url(path)).send_json(&ClockRequest { ahead_ms });
        read(path, StatusCode::ACCEPTED, response.map_err(|error| format!("POST {path}: {error}"))?)
    }

    /// Reads the data after `cursor`, or all of it, depending on `depth`. Returns it with the new cursor.
    pub(crate) fn read(&self, cursor: Cursor, depth: Depth) -> Result<(MemberReport, Cursor), String> {
        let status: FederationView = self.get("/federation/status")?;
        let reborn = status.incarnation != cursor.incarnation;
        let known = if reborn { 0 } else { cursor.height };
        let first = if depth == Depth::Everything { 1 } else { known + 1 };
        let last = match depth {
            Depth::Everything => status.height,
            Depth::News => status.height.min(known.saturating_add(BLOCKS_A_LOOK)),
        };
        let mut blocks: Vec<BlockView> = Vec::new();
        for height in first..=last {
            match self.get(&format!("/chain/blocks/{height}")) {
                Ok(block) => blocks.push(block),
                // A member whose chain actor is down can still report the rest; its blocks are read once it is back.
                Err(_) if depth == Depth::News && status.gate == GateDecision::Closed => break,
                Err(error) => return Err(error),
            }
        }
        let last = first.saturating_sub(1) + blocks.len() as u64;
        // Signatures since the height that was in progress at the last read.
        let from = if depth == Depth::Everything || reborn {
            Some(0)
        } else {
            (!blocks.is_empty()).then_some(known)
        };
        let (signatures, received, evidence) = match from {
            Some(from) => (self.signatures(from)?, self.received(from)?, self.evidence()?),
            None => Default::default(),
        };
        // Read with every new block and while the gate is closed: often enough, without loading a member that is making
        // a block.
        let halted = status.gate == GateDecision::Closed;
        let attempts = if depth == Depth::Everything || reborn || halted || !blocks.is_empty() {
            self.attempts()?
        } else {
            Vec::new()
        };
        let genesis: Option<GenesisView> = reborn.then(|| self.get("/genesis")).transpose()?;
        let (_, ready): (_, ReadyView) = self.get_any("/readyz")?;
        // Read last, so that it includes every decision that the signatures above refer to.
        let gate: GateView = self.get("/federation/gate")?;
        if gate.incarnation != status.incarnation {
            let (before, after) = (status.incarnation, gate.incarnation);
            return Err(format!("it restarted meanwhile (incarnation {before}, then {after})"));
        }
        let cursor = Cursor { incarnation: status.incarnation, height: last.max(known) };
        let answer =
            MemberReport { status, gate, ready, genesis, blocks, signatures, received, evidence, attempts };
        Ok((answer, cursor))
    }

    /// Statements it received for `from_height` or higher.
    fn received(&self, from_height: u64) -> Result<Vec<ReceivedStatementView>, String> {
        let view: ReceivedView = self.get(&format!("/consensus/received?from_height={from_height}"))?;
        Ok(view.statements)
    }

    /// Equivocation evidence it stores.
    fn evidence(&self) -> Result<Vec<EquivocationView>, String> {
        let view: EvidenceView = self.get("/consensus/evidence")?;
        Ok(view.evidence)
    }

    /// Failures of its actors that it still remembers.
    fn attempts(&self) -> Result<Vec<AttemptView>, String> {
        let memory: SupervisionMemoryView = self.get("/supervision/memory")?;
        Ok(memory.history.into_iter().flat_map(|actor| actor.attempts).collect())
    }

    /// All signatures for `from_height` or higher, read page by page.
    fn signatures(&self, from_height: u64) -> Result<Vec<SignatureView>, String> {
        let mut all = Vec::new();
        let mut from = from_height;
        loop {
            let page: SignaturesView = self.get(&format!("/consensus/signatures?from_height={from}"))?;
            let full = page.signatures.len() >= SIGNATURES_A_PAGE;
            let highest = page.signatures.iter().map(|signature| signature.height).max();
            all.extend(page.signatures);
            match highest {
                // The last height of a full page may continue on the next page; a height that fills a page alone is
                // skipped.
                Some(highest) if full => from = highest.max(from + 1),
                _ => return Ok(all),
            }
        }
    }

    /// Gets a body; any status other than 200 is an error.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        read(path, StatusCode::OK, self.request(path)?)
    }

    /// Gets a body with any status.
    fn get_any<T: DeserializeOwned>(&self, path: &str) -> Result<(StatusCode, T), String> {
        let response = self.request(path)?;
        let status = response.status();
        read(path, status, response).map(|body| (status, body))
    }

    fn request(&self, path: &str) -> Result<Response<ureq::Body>, String> {
        self.agent.get(self.url(path)).call().map_err(|error| format!("GET {path}: {error}"))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn read<T: DeserializeOwned>(
    path: &str,
    expected: StatusCode,
    mut response: Response<ureq::Body>,
) -> Result<T, String> {
    let status = response.status();
    if status != expected {
        let problem: Option<Problem> = response.body_mut().read_json().ok();
        let detail = problem.map(|problem| format!(": {}", problem.detail)).unwrap_or_default();
        return Err(format!("{path} answered {status}{detail}; expected {expected}"));
    }
    response.body_mut().read_json().map_err(|error| format!("{path} answered what can not be read: {error}"))
}
