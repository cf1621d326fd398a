//! A federation of real processes on loopback, linked through proxies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_cluster::shutdown::state::INSISTS_AFTER;
use alys_node::actors::consensus::byzantine::Misbehaviour;
use alys_node::ops::view::{FaultKind, HeadView};
use rand::RngCore as _;
use rand::rngs::StdRng;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::attack;
use crate::client::Client;
use crate::clock;
use crate::fault::FaultInjection;
use crate::federation::{ActionError, Depth, Effect, Federation, MemberObservation, Observation, PollResult};
use crate::guard::Guardian;
use crate::link::Link;
use crate::proc;
use crate::process::Member;
use crate::proxy::Proxies;
use crate::scenario::Scenario;
use crate::seed;
use crate::setup::{self, SetupError};
use crate::step::{Action, FaultEnd};
use crate::topology::Topology;
use crate::twin;

/// Attempts at setting up: another program may take a chosen port before the member binds it.
const SETUP_TRIES: usize = 3;
/// Time limit for a member to answer after its start.
const START: Duration = Duration::from_secs(30);
/// Interval between two polls of a starting member.
const START_LOOK: Duration = Duration::from_millis(20);
/// Maximum time to send SIGKILL to several members, in milliseconds; beyond it the kill is not one event.
const KILL_SPREAD_MS_MAX: u64 = 50;
/// Interval between two polls of the effect of a fault.
const STRIKE_LOOK: Duration = Duration::from_millis(20);
/// Interval between two polls of a member that was told to stop.
const STOP_LOOK: Duration = Duration::from_millis(50);
/// An attack that takes longer than this fails unless a block is made meanwhile.
const ATTACK_BLOCKLESS: Duration = Duration::from_secs(20);
/// Size of a submitted transaction, in bytes.
const PAYLOAD_BYTES: usize = 32;

/// Options for starting a federation of processes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Empty directory for all files of the members.
    pub directory: PathBuf,
    /// Path of the `alys-node` executable.
    pub binary: PathBuf,
    /// Executable with the hidden subcommand `guard`: the simulator's own. Without one, members that are paused when
    /// the simulator is killed keep existing.
    pub guard: Option<PathBuf>,
    /// Log level of the members.
    pub log_level: String,
    /// Environment variables added to those the members inherit from this process.
    pub environment: Vec<(String, String)>,
}

/// A federation of processes. Dropping it kills them.
#[derive(Debug)]
pub struct Loopback {
    members: Vec<Member>,
    proxies: Proxies,
    binary: PathBuf,
    payloads: StdRng,
    /// Declared last, so that it is dropped after every member.
    guardian: Option<Guardian>,
}

impl Loopback {
    /// Sets up and starts every member. Returns once all of them answer.
    pub async fn start(options: &Options, scenario: &Scenario, seed: u64) -> Result<Self, SetupError> {
        setup::claim(&options.directory)?;
        setup::write_identities(&options.directory, scenario, seed)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(options, scenario, seed).await {
                Err(SetupError::NotUp { how, .. }) if is_port_clash(&how) && tries < SETUP_TRIES => {}
                result => return result,
            }
        }
    }

    async fn try_start(options: &Options, scenario: &Scenario, seed: u64) -> Result<Self, SetupError> {
        let start_error = |what: &str| {
            let what = what.to_owned();
            move |source| SetupError::Start { what, source }
        };
        let places = setup::choose_places(&options.directory, scenario)?;
        let proxies = setup::start_proxies(&places).await?;
        setup::write_configs(&places, scenario, &proxies, &options.log_level)?;
        let guardian = options.guard.as_deref().map(Guardian::start).transpose();
        let member = |place: &setup::MemberPaths| {
            let member = Member::new(&place.name, place.config(), place.log(), place.ops, place.link)
                .with_environment(&options.environment);
            if scenario.unread_logs.contains(&place.name) { member.unread() } else { member }
        };
        let mut federation = Self {
            members: places.iter().map(member).collect(),
            proxies,
            binary: options.binary.clone(),
            payloads: seed::stream(seed, "payloads"),
            guardian: guardian.map_err(start_error("the guardian"))?,
        };
        for member in &mut federation.members {
            member
                .start(&federation.binary, federation.guardian.as_mut())
                .map_err(start_error(&member.name))?;
        }
        for member in &mut federation.members {
            let name = member.name.clone();
            up(member).await.map_err(|how| SetupError::NotUp { name, how })?;
        }
        Ok(federation)
    }

    /// Name, ops URL and log file of every member.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, String, &Path)> {
        let line = |member: &Member| format!("http://{}", member.ops);
        self.members.iter().map(move |member| (member.name.as_str(), line(member), member.log.as_path()))
    }

    /// Stops every running member: gracefully within `within`, then by SIGKILL.
    pub async fn stop(&mut self, within: Duration) {
        for member in &mut self.members {
            // Errors are ignored: members that cannot be stopped are killed when `self` is dropped.
            let _ = member.send_term();
        }
        for member in &mut self.members {
            let _ = left(member, within).await;
            let _ = member.send_kill();
        }
    }

    fn select(&mut self, names: &[String]) -> Vec<&mut Member> {
        self.members.iter_mut().filter(|member| names.contains(&member.name)).collect()
    }

    async fn kill(&mut self, names: &[String]) -> Result<(), ActionError> {
        let begun_ms = clock::now_ms();
        for member in self.select(names) {
            member.send_kill().map_err(|error| failed(member, "to be killed", &error))?;
        }
        let spread_ms = clock::now_ms().saturating_sub(begun_ms);
        for member in self.select(names) {
            member.gone().await.map_err(|error| failed(member, "to be gone", &error))?;
        }
        if spread_ms > KILL_SPREAD_MS_MAX {
            return Err(ActionError {
                expected: format!("{} to be killed within {KILL_SPREAD_MS_MAX} ms", names.join(", ")),
                seen: format!("it took {spread_ms} ms"),
            });
        }
        Ok(())
    }

    async fn terminate(&mut self, names: &[String], within: Duration) -> Result<(), ActionError> {
        for member in self.select(names) {
            member.send_term().map_err(|error| failed(member, "to be stopped", &error))?;
        }
        // If all running members are told to stop, none refuses, so none needs a second signal.
        let is_all = self.members.iter().all(|member| names.contains(&member.name) || member.pid().is_err());
        for member in self.select(names) {
            let expected = format!("to stop within {}", humantime::format_duration(within));
            let outcome = if is_all { member.stopped(within).await } else { left(member, within).await };
            let unclean = outcome.map_err(|error| failed(member, &expected, &error))?;
            if let Some(how) = unclean {
                return Err(ActionError {
                    expected: format!("{} to stop with exit code 0", member.name),
                    seen: how,
                });
            }
        }
        Ok(())
    }

    async fn set_clocks(&mut self, names: &[String], ahead_ms: i64) -> Result<(), ActionError> {
        for member in self.select(names) {
            let client = member.client.clone();
            let set = spawn_blocking(move || client.set_clock(ahead_ms)).await;
            let set = set.unwrap_or_else(|error| Err(error.to_string()));
            set.map_err(|seen| ActionError { expected: format!("{} to set its clock", member.name), seen })?;
        }
        Ok(())
    }

    /// Tells members to stop and checks that each refuses.
    async fn refuse(&mut self, names: &[String], within: Duration) -> Result<(), ActionError> {
        for member in self.select(names) {
            member.send_term().map_err(|error| failed(member, "to be told to stop", &error))?;
            let begun = clock::instant();
            let expected = format!("{} to refuse to stop", member.name);
            let error = |seen| ActionError { expected: expected.clone(), seen };
            loop {
                if let Some(how) = member.ended() {
                    return Err(error(how));
                }
                match refusal(member).await {
                    Ok(Some(_)) => break,
                    Ok(None) if begun.elapsed() >= within => return Err(error("no refusal".to_owned())),
                    Err(seen) if begun.elapsed() >= within => return Err(error(seen)),
                    Ok(None) | Err(_) => sleep(STOP_LOOK).await,
                }
            }
        }
        Ok(())
    }

    async fn restart(&mut self, names: &[String]) -> Result<(), ActionError> {
        for member in self.members.iter_mut().filter(|member| names.contains(&member.name)) {
            let started = member.start(&self.binary, self.guardian.as_mut());
            started.map_err(|error| failed(member, "to start", &error))?;
        }
        for member in self.select(names) {
            let expected = format!("{} to answer after its restart", member.name);
            up(member).await.map_err(|seen| ActionError { expected, seen })?;
        }
        Ok(())
    }

    async fn audit(&self, names: &[String]) -> Result<(), ActionError> {
        for member in self.members.iter().filter(|member| names.contains(&member.name)) {
            let expected = format!("the chain, log, signatures and decisions of {} to agree", member.name);
            let outcome = member.audit(&self.binary).await.map_err(|error| error.to_string());
            outcome.and_then(|found| found).map_err(|seen| ActionError { expected, seen })?;
        }
        Ok(())
    }

    async fn submit(&mut self, name: &str, count: usize) -> Result<Vec<String>, ActionError> {
        let payloads: Vec<_> = (0..count)
            .map(|_| {
                let mut payload = [0; PAYLOAD_BYTES];
                self.payloads.fill_bytes(&mut payload);
                hex::encode(payload)
            })
            .collect();
        let error = |seen| ActionError { expected: format!("{name} to accept {count} transactions"), seen };
        let member = self.members.iter().find(|member| member.name == name);
        let client = member.ok_or_else(|| error("no such member".to_owned()))?.client.clone();
        let posted = spawn_blocking(move || {
            payloads.iter().try_for_each(|payload| client.submit(payload).map(drop)).map(|()| payloads)
        });
        posted.await.map_err(|panic| error(panic.to_string()))?.map_err(error)
    }

    async fn misbehave(&self, name: &str, how: Option<Misbehaviour>) -> Result<(), ActionError> {
        let error = |seen| ActionError { expected: format!("{name} to take an order to misbehave"), seen };
        let member = self.members.iter().find(|member| member.name == name);
        let client = member.ok_or_else(|| error("no such member".to_owned()))?.client.clone();
        let ordered = spawn_blocking(move || client.misbehave(how)).await;
        ordered.map_err(|panic| error(panic.to_string()))?.map(drop).map_err(error)
    }

    /// Injects a fault into an actor and waits until its supervision has reacted as `until` requires.
    async fn fault(
        &self,
        name: &str,
        actor: &str,
        fault: FaultKind,
        until: FaultEnd,
        within: Duration,
    ) -> Result<(), ActionError> {
        let error = |seen| ActionError {
            expected: format!("{actor} of {name} to be hurt by a {fault} {until}"),
            seen,
        };
        let member = self.members.iter().find(|member| member.name == name);
        let client = member.ok_or_else(|| error("no such member".to_owned()))?.client.clone();
        let mut strike = FaultInjection::new(actor, fault, until);
        let begun = clock::instant();
        loop {
            let client = client.clone();
            let look = spawn_blocking(move || {
                let seen = strike.look(&client);
                (strike, seen)
            });
            let (back, seen) = look.await.map_err(|panic| error(panic.to_string()))?;
            strike = back;
            match seen {
                Ok(()) => return Ok(()),
                Err(seen) if begun.elapsed() >= within => return Err(error(seen)),
                Err(_) => sleep(STRIKE_LOOK).await,
            }
        }
    }

    /// Adds `sync_delay` to every sync on the disks of the given members.
    async fn slow_disks(&self, names: &[String], sync_delay: Duration) -> Result<(), ActionError> {
        let delay_ms = u32::try_from(sync_delay.as_millis()).unwrap_or(u32::MAX);
        for member in self.members.iter().filter(|member| names.contains(&member.name)) {
            let client = member.client.clone();
            let asked = spawn_blocking(move || client.slow_disk(delay_ms)).await;
            let expected = format!("syncs of {} to take {sync_delay:?} longer", member.name);
            asked
                .map_err(|panic| panic.to_string())
                .flatten()
                .map_err(|seen| ActionError { expected, seen })?;
        }
        Ok(())
    }

    /// Makes members use the newest link version from their next start on.
    fn upgrade(&self, names: &[String]) -> Result<(), ActionError> {
        for member in self.members.iter().filter(|member| names.contains(&member.name)) {
            setup::forget_link_version(&member.config)
                .map_err(|error| failed(member, "to be configured", &error))?;
        }
        Ok(())
    }

    async fn attack(&self, name: &str, connections: usize) -> Result<String, ActionError> {
        let expected = format!("{name} to stand {connections} connections of strangers");
        let error = |seen| ActionError { expected: expected.clone(), seen };
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| error("no such member".to_owned()))?;
        let pid = member.pid().map_err(|failure| error(failure.to_string()))?;
        let height = |client: Client| async move {
            let view = spawn_blocking(move || client.get::<HeadView>("/chain/head"));
            view.await.map_err(|panic| panic.to_string())?.map(|view| view.height)
        };
        let first = height(member.client.clone()).await.map_err(error)?;
        let told = attack::strike(member.link, connections, pid).await.map_err(error)?;
        let last = height(member.client.clone()).await.map_err(error)?;
        if told.took > ATTACK_BLOCKLESS && last == first {
            return Err(error(format!("no block was made in {:?}", told.took)));
        }
        Ok(format!("{told}; {} blocks meanwhile", last - first))
    }

    async fn twin(&mut self, name: &str, within: Duration) -> Result<String, ActionError> {
        let error = |seen| ActionError { expected: format!("a copy of {name} to halt beside it"), seen };
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| error("no such member".to_owned()))?;
        twin::beside(member, &self.binary, self.guardian.as_mut(), within).await.map_err(error)
    }

    /// Waits until every pair of the given members has exactly one connection, and no other connection exists.
    async fn pairs(&self, names: &[String], within: Duration) -> Result<(), ActionError> {
        let running = self.members.iter().filter(|member| names.contains(&member.name));
        let mut sorted: Vec<_> = running.map(|member| (member.name.as_str(), member.link.port())).collect();
        sorted.sort_unstable();
        let ports: Vec<_> = sorted.iter().map(|(_, port)| *port).collect();
        // Each member is dialled by all members with greater names.
        let expected: Vec<_> = (0..sorted.len()).rev().collect();
        let begun = clock::instant();
        loop {
            let found = proc::established(&ports);
            let error = |seen| ActionError {
                expected: format!("{expected:?} connections to {}", names.join(", ")),
                seen,
            };
            let found = found.map_err(|failure| error(failure.to_string()))?;
            let counts: Vec<_> =
                ports.iter().map(|port| found.iter().filter(|found| *found == port).count()).collect();
            if counts == expected {
                return Ok(());
            }
            if begun.elapsed() >= within {
                return Err(error(format!("{counts:?}")));
            }
            sleep(STOP_LOOK).await;
        }
    }

    fn switch(&self, links: &[Link], turn: impl Fn(&Proxies, &Link) -> bool) -> Result<(), ActionError> {
        match links.iter().find(|link| !turn(&self.proxies, link)) {
            None => Ok(()),
            Some(link) => Err(ActionError {
                expected: format!("a proxy that carries {link}"),
                seen: "there is none".to_owned(),
            }),
        }
    }
}

impl Federation for Loopback {
    async fn apply(&mut self, action: &Action, topology: &Topology) -> Result<Effect, ActionError> {
        let names = topology.members_of(action);
        let links = topology.links_of(action);
        let mut effect = Effect::default();
        match action {
            Action::Kill { .. } => self.kill(&names).await?,
            Action::Stop { within, .. } => self.terminate(&names, *within).await?,
            Action::Refuse { within, .. } => self.refuse(&names, *within).await?,
            Action::Pause { .. } => {
                for member in self.select(&names) {
                    member.pause().await.map_err(|error| failed(member, "to be paused", &error))?;
                }
            }
            Action::Resume { .. } => {
                for member in self.select(&names) {
                    member.resume().await.map_err(|error| failed(member, "to be resumed", &error))?;
                }
            }
            Action::Restart { .. } => self.restart(&names).await?,
            Action::Audit { .. } => self.audit(&names).await?,
            Action::Cut { .. } => self.switch(&links, Proxies::cut)?,
            Action::Heal { .. } => self.switch(&links, Proxies::heal)?,
            Action::Delay { by, .. } => self.switch(&links, |proxies, link| proxies.delay(link, *by))?,
            Action::Fault { member, actor, fault, until, within, .. } => {
                self.fault(member, actor, *fault, *until, *within).await?;
            }
            Action::Misbehave { member, how } => self.misbehave(member, *how).await?,
            Action::Disk { sync_delay, .. } => self.slow_disks(&names, *sync_delay).await?,
            Action::Upgrade { .. } => self.upgrade(&names)?,
            Action::Attack { member, connections } => effect.told = self.attack(member, *connections).await?,
            Action::Twin { member, within } => effect.told = self.twin(member, *within).await?,
            Action::Pairs { within } => self.pairs(&names, *within).await?,
            Action::Clock { ahead, behind, .. } => {
                let ahead_ms = ahead.as_millis() as i64 - behind.as_millis() as i64;
                self.set_clocks(&names, ahead_ms).await?;
            }
            Action::Submit { member, count } => effect.submitted = self.submit(member, *count).await?,
        }
        Ok(effect)
    }

    async fn observe(&mut self, depth: Depth) -> Observation {
        let at_ms = clock::now_ms();
        let mut asked = Vec::new();
        for member in &mut self.members {
            let question = if let Some(how) = member.ended() {
                Err(PollResult::Ended(how))
            } else if member.is_active() {
                let (client, cursor) = (member.client.clone(), member.cursor);
                Ok(spawn_blocking(move || client.read(cursor, depth)))
            } else {
                Err(PollResult::Absent)
            };
            asked.push(question);
        }
        let mut members = Vec::new();
        for (member, question) in self.members.iter_mut().zip(asked) {
            let finding = match question {
                Err(finding) => finding,
                Ok(question) => match question.await {
                    Ok(Ok((answer, cursor))) => {
                        member.cursor = cursor;
                        PollResult::Answer(Box::new(answer))
                    }
                    Ok(Err(how)) => PollResult::Silent(how),
                    Err(panic) => PollResult::Silent(panic.to_string()),
                },
            };
            members.push(MemberObservation { name: member.name.clone(), finding });
        }
        Observation { at_ms, members }
    }

    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

fn failed(member: &Member, expected: &str, error: &std::io::Error) -> ActionError {
    ActionError { expected: format!("{} {expected}", member.name), seen: error.to_string() }
}

async fn refusal(member: &Member) -> Result<Option<String>, String> {
    let client = member.client.clone();
    spawn_blocking(move || client.refusal()).await.map_err(|panic| panic.to_string())?
}

/// Waits until a member that was told to stop has ended. Returns how it ended unless that was exit code 0. A member
/// that refuses because the federation needs it gets a second SIGTERM, which it obeys.
async fn left(member: &mut Member, within: Duration) -> std::io::Result<Option<String>> {
    let begun = clock::instant();
    let (mut refused_at, mut insisted) = (None, false);
    loop {
        match member.stopped(STOP_LOOK).await {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut && begun.elapsed() < within => {
                // A member that is about to exit no longer answers.
                if !insisted && matches!(refusal(member).await, Ok(Some(_))) {
                    // A second signal sooner than this would count as the same request.
                    let since = *refused_at.get_or_insert_with(clock::instant);
                    if since.elapsed() >= INSISTS_AFTER {
                        member.send_term()?;
                        insisted = true;
                    }
                }
            }
            outcome => return outcome,
        }
    }
}

/// Waits until a started member answers.
async fn up(member: &mut Member) -> Result<(), String> {
    let begun = clock::instant();
    while begun.elapsed() < START {
        if let Some(how) = member.ended() {
            return Err(how);
        }
        let client = member.client.clone();
        if spawn_blocking(move || client.is_live()).await.is_ok_and(|live| live) {
            return Ok(());
        }
        sleep(START_LOOK).await;
    }
    Err(format!("it does not answer after {}", humantime::format_duration(START)))
}

fn is_port_clash(how: &str) -> bool {
    how.to_lowercase().contains("address already in use")
}
